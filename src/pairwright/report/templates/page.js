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
  // Settings of a sweep from small to large; in between the colours are mixed.
  const ramps = {
    light: ["#23318f", "#7a2e9d", "#bb2d6b", "#c9481f", "#946000"],
    dark: ["#8fa4ff", "#c593ff", "#ff8dbd", "#ff9f73", "#ffd566"],
  };
  const MANY = 6; // more lines than these, or those of a sweep, have their key above the chart, and no error bars
  const patterns = ["", "/", "\\", "x", "-", "."];
  const hidden = new RegExp(JSON.parse(root.dataset.hidden), "gu"); // the pattern by which the page itself was written
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

  function ramp(stops, share) {
    const place = share * (stops.length - 1), first = Math.min(Math.floor(place), stops.length - 2);
    const part = (hex, i) => parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
    const mixed = [0, 1, 2].map((i) => Math.round(part(stops[first], i) + (place - first) * (part(stops[first + 1], i) - part(stops[first], i))));
    return "#" + mixed.map((value) => value.toString(16).padStart(2, "0")).join("");
  }

  // How each line looks: those of one setting alike, others by their place. The key has an entry for each look.
  function looks(chart) {
    const mode = dark.matches && !onPaper() ? "dark" : "light";
    const settings = [...new Set(chart.series.map((series) => series.setting).filter(Boolean))];
    const turn = (list, i) => list[(i + Math.floor(i / list.length)) % list.length];
    const alone = settings.length ? [css("--ink"), css("--soft")] : colours[mode];
    const straight = ["dot", "dash", "dashdot"];
    let other = 0, reference = 0;
    return chart.series.map((series) => {
      if (series.reference) return { label: series.name, colour: css("--soft"), dash: straight[reference++ % straight.length], reference: true };
      if (!series.setting) {
        const i = other++;
        const n = i + settings.length;
        return { label: series.name, colour: alone[i % alone.length], dash: turn(dashes, settings.length ? i + 1 : i), symbol: turn(symbols, n), width: 2 };
      }
      const i = settings.indexOf(series.setting);
      const share = settings.length > 1 ? i / (settings.length - 1) : 0;
      return { label: series.setting, colour: ramp(ramps[mode], share), dash: "solid", symbol: symbols[i % symbols.length], width: 1.5, thin: true };
    });
  }

  // A key in the page itself: it takes the room that it needs, and never that of the drawing.
  const shapes = {
    circle: "M13 3a4 4 0 1 0 .01 0z", square: "M9.5 3.5h7v7h-7z", diamond: "M13 2l5 5-5 5-5-5z", "triangle-up": "M13 2.5l4.6 8h-9.2z",
    x: "M9 4.5l1.5-1.5 2.5 2.5 2.5-2.5 1.5 1.5-2.5 2.5 2.5 2.5-1.5 1.5-2.5-2.5-2.5 2.5-1.5-1.5 2.5-2.5z",
    star: "M13 1.5l1.6 3.8 4 .3-3.1 2.6 1 4-3.5-2.2-3.5 2.2 1-4-3.1-2.6 4-.3z",
  };
  const strokes = { solid: "", dash: "7 3", dot: "2 3", dashdot: "7 3 2 3", longdash: "10 3", longdashdot: "10 3 2 3" };
  const off = new Map();

  function key(id, chart, all) {
    const place = document.getElementById(id);
    let list = place.parentElement.querySelector("ul.key");
    if (!list) {
      list = document.createElement("ul");
      list.className = "key";
      place.before(list);
      off.set(id, new Set());
    }
    const hiddenNow = off.get(id), had = list.contains(document.activeElement) ? document.activeElement.dataset.label : null;
    const entries = new Map(all.map((look) => [look.label, look]));
    list.replaceChildren(...[...entries.values()].map((look) => {
      const item = document.createElement("li"), button = document.createElement("button");
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", "0 0 26 14");
      svg.setAttribute("aria-hidden", "true");
      const put = (tag, attributes) => {
        const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
        for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
        svg.append(shape);
      };
      if (chart.kind !== "points" || look.reference) {
        put("line", { x1: 0, x2: 26, y1: 7, y2: 7, stroke: look.colour, "stroke-width": look.reference ? 1.2 : 2, "stroke-dasharray": strokes[look.dash] });
      }
      if (look.symbol) put("path", { d: shapes[look.symbol], fill: look.colour });
      button.type = "button";
      button.dataset.label = look.label;
      button.setAttribute("aria-pressed", String(!hiddenNow.has(look.label)));
      button.append(svg, " " + seen(look.label));
      button.addEventListener("click", () => {
        if (!hiddenNow.delete(look.label)) hiddenNow.add(look.label);
        draw(id);
      });
      item.append(button);
      return item;
    }));
    if (had !== null) [...list.querySelectorAll("button")].find((button) => button.dataset.label === had)?.focus();
  }

  function trace(chart, series, index, look, many) {
    const colour = look.colour;
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
      return { name, x, y: series.y, mode: "lines", line: { color: colour, width: 1.2, dash: look.dash }, hoverinfo: "skip" };
    }
    const points = chart.kind === "points";
    const labels = series.labels ? series.labels.map(plain) : undefined;
    return {
      name, x, y: series.y, text: labels,
      mode: points ? "markers" : series.x.length > 60 ? "lines" : "lines+markers",
      error_y: many && !points ? undefined : interval(series.y, series.low, series.high, colour),
      error_x: interval(series.x, series.x_low, series.x_high, colour),
      line: { color: colour, width: look.width, dash: look.dash },
      marker: { color: colour, size: points ? 9 : look.thin ? 6 : 7, symbol: look.symbol },
      hovertemplate: (labels ? "%{text}<br>" : "") + "%{x}, %{y:.4~g}<extra>" + name + "</extra>",
    };
  }

  function draw(id) {
    const chart = charts.get(id), place = document.getElementById(id);
    if (!chart || !place) return;
    const all = looks(chart), many = chart.kind !== "bar" && (all.length > MANY || all.some((look) => look.thin));
    if (many) key(id, chart, all);
    const axis = (title, longest) => ({
      title: { text: inLines(title, longest), font: { size: 12 }, standoff: 8 }, gridcolor: css("--grid"), linecolor: css("--line"),
      tickcolor: css("--line"), zeroline: false, automargin: true, fixedrange: true,
    });
    let bars = 0;
    const lines = chart.series.map((series, i) => ({
      ...trace(chart, series, series.reference ? 0 : bars++, all[i], many), visible: !(off.get(id) || new Set()).has(all[i].label),
    }));
    const text = chart.kind === "bar" || chart.series.some((series) => !series.reference && series.x.some((x) => !isNumber(x) && x !== null));
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { t: 8, r: 10, b: 44, l: 52 },
      font: { color: css("--ink"), family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif", size: 12 },
      xaxis: { ...axis(chart.x, Math.min(60, Math.max(24, Math.floor(place.clientWidth / 7.5) - 6))), type: text ? "category" : "linear", nticks: 12 }, yaxis: axis(chart.y, 32),
      showlegend: chart.series.length > 1 && !many, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
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
    figures.filter((figure) => !figure.closest("details:not([open])")).forEach((figure) => draw(figure.dataset.chart));
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
