"use strict";
// Draws the charts of the page as they come into view. Every number comes from the JSON element `charts`; nothing is
// fetched. The drawing library stands in the page as text and is only read when the first chart is drawn.
(function () {
  const charts = new Map(JSON.parse(document.getElementById("charts").textContent).map((chart) => [chart.id, chart]));
  const nonce = document.currentScript.nonce;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  // After Okabe and Ito, darkened or lightened until each has a contrast of 3:1 to its ground; dash and marker differ too.
  const colours = {
    light: ["#0072b2", "#c44e00", "#00795a", "#a03a86", "#6b6300", "#444a55"],
    dark: ["#56b4e9", "#f0a030", "#3fc79a", "#e59ad0", "#e6dc55", "#b9bfca"],
  };
  const dashes = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const symbols = ["circle", "square", "diamond", "triangle-up", "x", "star"];
  const patterns = ["", "/", "\\", "x", "-", "."];
  const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const onPaper = () => root.classList.contains("on-paper");
  const drawn = new Set();

  function seen(text) {
    return String(text).replace(hidden, (one) => "U+" + one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0"));
  }

  // Plotly reads some HTML in what it writes: a stranger's text must be none.
  function plain(text) {
    return seen(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  // A long title of an axis in lines that fit beside a chart.
  function inLines(text, longest) {
    const lines = [""];
    for (const word of String(text).split(" ")) {
      const last = lines.length - 1;
      if (lines[last] && lines[last].length + word.length >= longest) lines.push(word);
      else lines[last] += (lines[last] ? " " : "") + word;
    }
    return lines.map(plain).join("<br>");
  }

  function plotly() {
    if (!window.Plotly) {
      const script = document.createElement("script");
      script.nonce = nonce;
      script.textContent = document.getElementById("plotly").textContent;
      document.head.append(script);
    }
    return window.Plotly;
  }

  const known = (ends) => ends && ends.some((end) => end !== null);
  const isNumber = (value) => typeof value === "number";

  function interval(values, low, high, colour) {
    if (!known(low) || !known(high)) return undefined;
    return {
      type: "data", symmetric: false, thickness: 1.4, width: 4, color: colour,
      array: high.map((end, i) => (end === null || !isNumber(values[i]) ? 0 : end - values[i])),
      arrayminus: low.map((end, i) => (end === null || !isNumber(values[i]) ? 0 : values[i] - end)),
    };
  }

  function trace(chart, series, index, palette) {
    const colour = series.reference ? css("--soft") : palette[index % palette.length];
    const name = plain(series.name);
    if (chart.kind === "bar" && !series.reference) {
      return {
        type: "bar", name, x: series.x.map(plain), y: series.y, error_y: interval(series.y, series.low, series.high, css("--ink")),
        marker: { color: colour, pattern: { shape: patterns[index % patterns.length], fillmode: "overlay", fgcolor: css("--card"), fgopacity: 0.6, size: 6 } },
        hovertemplate: "%{x}: %{y:,.4~g}<extra>" + (chart.series.length > 1 ? name : "") + "</extra>",
      };
    }
    const x = series.x.map((value) => (isNumber(value) ? value : plain(value)));
    if (series.reference) {
      return { name, x, y: series.y, mode: "lines", line: { color: colour, width: 1.2, dash: "dot" }, hoverinfo: "skip" };
    }
    const points = chart.kind === "points";
    const labels = series.labels ? series.labels.map(plain) : undefined;
    return {
      name, x, y: series.y, text: labels,
      mode: points ? "markers" : series.x.length > 60 ? "lines" : "lines+markers",
      error_y: interval(series.y, series.low, series.high, colour),
      error_x: interval(series.x, series.x_low, series.x_high, colour),
      line: { color: colour, width: 2, dash: dashes[index % dashes.length] },
      marker: { color: colour, size: points ? 9 : 7, symbol: symbols[index % symbols.length] },
      hovertemplate: (labels ? "%{text}<br>" : "") + "%{x}, %{y:.4~g}<extra>" + name + "</extra>",
    };
  }

  function draw(id) {
    const chart = charts.get(id), place = document.getElementById(id);
    if (!chart || !place) return;
    const palette = dark.matches && !onPaper() ? colours.dark : colours.light;
    const axis = (title, longest) => ({
      title: { text: inLines(title, longest), font: { size: 12 }, standoff: 8 }, gridcolor: css("--grid"), linecolor: css("--line"),
      tickcolor: css("--line"), zeroline: false, automargin: true, fixedrange: true,
    });
    let coloured = 0;
    const lines = chart.series.map((series) => trace(chart, series, series.reference ? 0 : coloured++, palette));
    const text = chart.kind === "bar" || chart.series.some((series) => !series.reference && series.x.some((x) => !isNumber(x) && x !== null));
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { t: 8, r: 10, b: 44, l: 52 },
      font: { color: css("--ink"), family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif", size: 12 },
      xaxis: { ...axis(chart.x, 60), type: text ? "category" : "linear", nticks: 12 }, yaxis: axis(chart.y, 32),
      showlegend: chart.series.length > 1, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      hovermode: "closest", bargap: 0.18, barmode: "group",
      hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--ink") } },
    };
    plotly().react(place, lines, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    drawn.add(id);
  }

  // The numbers of a chart, written when somebody opens them: a long training has thousands.
  function numbers(details, chart) {
    const wide = chart.series.some((series) => series.x_low);
    const titles = [chart.kind === "points" ? "points" : "line", chart.x].concat(wide ? ["from", "to"] : [], [chart.y, "low", "high"], chart.series.some((s) => s.labels) ? ["what it is"] : []);
    const table = document.createElement("table"), scroll = document.createElement("div");
    table.className = "numbers";
    const row = (cells, tag, parent) => {
      const line = document.createElement("tr");
      cells.forEach((text, i) => {
        const cell = document.createElement(tag);
        if (tag === "th") cell.scope = "col";
        if (i > 0) cell.className = "n";
        cell.textContent = text;
        line.append(cell);
      });
      parent.append(line);
    };
    const show = (value) => (value === null || value === undefined ? "–" : isNumber(value) ? String(Number(value.toPrecision(6))) : seen(value));
    row(titles.map(seen), "th", table.createTHead());
    const body = table.createTBody();
    for (const series of chart.series) {
      if (series.reference) continue;
      const at = (list, i) => (list ? list[i] : null);
      series.x.forEach((x, i) => {
        const ends = wide ? [show(at(series.x_low, i)), show(at(series.x_high, i))] : [];
        const label = titles.length > (wide ? 7 : 5) ? [show(at(series.labels, i))] : [];
        row([seen(series.name), show(x), ...ends, show(series.y[i]), show(at(series.low, i)), show(at(series.high, i)), ...label], "td", body);
      });
    }
    scroll.className = "scroll";
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "Numbers of: " + seen(chart.title));
    scroll.append(table);
    details.append(scroll);
  }

  const figures = [...document.querySelectorAll("figure[data-chart]")];
  const coming = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      coming.unobserve(entry.target);
      draw(entry.target.dataset.chart);
    }
  }, { rootMargin: "300px" });
  for (const figure of figures) {
    coming.observe(figure);
    const details = figure.querySelector("details.of-chart");
    details.addEventListener("toggle", () => {
      if (details.open && details.childElementCount === 1) numbers(details, charts.get(figure.dataset.chart));
    });
  }
  const again = () => drawn.forEach(draw);
  dark.addEventListener("change", again);

  // On paper everything is drawn, in the colours of daylight, and findings say all that they have to say.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    root.classList.add("on-paper");
    figures.forEach((figure) => draw(figure.dataset.chart));
    opened = [...document.querySelectorAll(".finding details:not([open])")];
    opened.forEach((details) => { details.open = true; });
  });
  window.addEventListener("afterprint", () => {
    root.classList.remove("on-paper");
    opened.forEach((details) => { details.open = false; });
    again();
  });

  // The contents say where one is.
  const links = new Map([...document.querySelectorAll("nav.contents a")].map((link) => [link.hash.slice(1), link]));
  const reading = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const link = links.get(entry.target.getAttribute("aria-labelledby"));
      if (!link) continue;
      if (entry.isIntersecting) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main section[aria-labelledby]").forEach((section) => reading.observe(section));
})();
