"use strict";
// Draws the charts of the page. Every number comes from the JSON element `charts`; nothing is fetched.
(function () {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  // After Okabe and Ito, darkened or lightened until each has a contrast of 3:1 to its ground; dash and marker differ too.
  const colours = {
    light: ["#0072b2", "#c44e00", "#00795a", "#a03a86", "#6b6300", "#444a55"],
    dark: ["#56b4e9", "#f0a030", "#3fc79a", "#e59ad0", "#e6dc55", "#b9bfca"],
  };
  const dashes = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const symbols = ["circle", "square", "diamond", "triangle-up", "x", "star"];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function trace(series, index, kind, palette) {
    const colour = series.reference ? css("--soft") : palette[index % palette.length];
    const base = { name: series.name, x: series.x, y: series.y };
    if (kind === "bar") {
      return { ...base, type: "bar", x: series.x.map(String), marker: { color: colour }, hovertemplate: "%{x}: %{y}<extra></extra>" };
    }
    if (series.reference) {
      return { ...base, mode: "lines", line: { color: colour, width: 1, dash: "dot" }, hoverinfo: "skip" };
    }
    const known = (ends) => ends && ends.some((end) => end !== null);
    const ends = known(series.low) && known(series.high) ? {
      type: "data", symmetric: false, thickness: 1.5, width: 4, color: colour,
      array: series.high.map((high, i) => (high === null ? 0 : high - series.y[i])),
      arrayminus: series.low.map((low, i) => (low === null ? 0 : series.y[i] - low)),
    } : undefined;
    return {
      ...base, mode: series.x.length > 60 ? "lines" : "lines+markers", error_y: ends,
      line: { color: colour, width: 2, dash: dashes[index % dashes.length] },
      marker: { color: colour, size: 7, symbol: symbols[index % symbols.length] },
    };
  }

  function draw() {
    const palette = dark.matches ? colours.dark : colours.light;
    const axis = (title) => ({ title: { text: title, font: { size: 12 } }, gridcolor: css("--line"), linecolor: css("--line"), zeroline: false, automargin: true });
    for (const chart of charts) {
      const lines = chart.series.map((series, i) => trace(series, i, chart.kind, palette));
      const layout = {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { t: 8, r: 10, b: 44, l: 52 },
        font: { color: css("--ink"), family: "system-ui, sans-serif", size: 12 },
        xaxis: { ...axis(chart.x), type: chart.kind === "bar" ? "category" : "linear" }, yaxis: axis(chart.y),
        showlegend: chart.series.length > 1, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
        hovermode: "closest", bargap: 0.15,
      };
      Plotly.react(chart.id, lines, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    }
  }
  draw();
  dark.addEventListener("change", draw);
})();
