"use strict";
// The pair explorer: finds, sorts and shows pairs that lie packed in the page. Nothing is fetched, and every text of
// the data is put into the page as text (`textContent` or a text node), never as markup.
(function () {
  const PAGE = 20; // rows of a page
  const CUT = 4000; // characters of a text that are shown before "show all"
  const BINS = 24;
  const SIDES = ["chosen", "rejected"];
  const whole = new Intl.NumberFormat("en");

  function h(tag, settings, ...children) {
    const { dataset, ...others } = settings || {};
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(others)) {
      if (name in made && !name.startsWith("aria")) made[name] = value;
      else made.setAttribute(name, value);
    }
    Object.assign(made.dataset, dataset);
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function shape(tag, settings) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(settings)) made.setAttribute(name, value);
    return made;
  }

  function number(value) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (Number.isInteger(value)) return whole.format(value).replace("-", "−");
    return String(Math.abs(value) < 1000 ? Number(value.toPrecision(3)) : Math.round(value)).replace("-", "−");
  }

  const signed = (value) => (value > 0 ? "+" : "") + number(value);

  // --- Unpacking ------------------------------------------------------------------------------------------------

  function bytes(base64) {
    const text = atob(base64);
    const out = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
    return out;
  }

  const indices = (base64) => new Uint32Array(bytes(base64).buffer);

  function column(packed) {
    if (packed.floats !== undefined) return { ...packed, of: new Float64Array(bytes(packed.floats).buffer) };
    const raw = bytes(packed.codes);
    const codes = packed.wide ? new Uint16Array(raw.buffer) : raw;
    if (packed.kind === "category" || packed.values.some((value) => typeof value === "string")) {
      return { ...packed, kind: "category", codes };
    }
    return { ...packed, of: Float64Array.from(codes, (code) => packed.values[code] ?? NaN) };
  }

  async function inflate(base64) {
    const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  }

  // A list of texts in pieces; a piece is inflated when one of its texts is first asked for, and kept.
  function series(starts, elements) {
    const pieces = new Map();
    const piece = (k) => {
      if (!pieces.has(k)) pieces.set(k, inflate(JSON.parse(elements[k].textContent)));
      return pieces.get(k);
    };
    const at = (i) => {
      let low = 0, high = starts.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (starts[middle] <= i) low = middle; else high = middle - 1;
      }
      return low;
    };
    return {
      pieces: starts.length,
      get: async (i) => { const k = at(i); return (await piece(k))[i - starts[k]]; },
      piece: async (k) => ({ first: starts[k], values: await piece(k) }),
    };
  }

  function unpack(raw, elements) {
    const columns = raw.columns.map(column);
    const mine = (name) => elements.filter((element) => element.dataset.series === name);
    return {
      ...raw, columns, by: new Map(columns.map((one) => [one.name, one])),
      prompt: indices(raw.prompt), chosen: indices(raw.chosen), rejected: indices(raw.rejected),
      findings: raw.findings.map((one) => ({ ...one, of: new Set(indices(one.rows)) })),
      texts: Object.fromEntries(Object.entries(raw.starts).map(([name, starts]) => [name, series(starts, mine(name))])),
      matched: new Map(),
    };
  }

  // By names of strangers: without a prototype, in which `constructor` would be found.
  const mapping = () => Object.create(null);
  function without(given, name) {
    const made = Object.assign(mapping(), given);
    delete made[name];
    return made;
  }
  const having = (given, name, one) => Object.assign(without(given, name), { [name]: one });

  const value = (one, row) => (one.kind === "category" ? one.values[one.codes[row]] : one.of[row]);
  const shownValue = (one, row) => (one.kind === "category" ? one.values[one.codes[row]] ?? "–" : number(one.of[row]));
  const titleOf = (one) => (one.side ? `${one.base} of ${one.side}` : one.base);

  // --- One explorer ---------------------------------------------------------------------------------------------

  function start(root) {
    const head = JSON.parse(root.querySelector(".explorer-head").textContent);
    const hidden = new RegExp(head.hidden, "gu");
    const packed = [...root.querySelectorAll("script[data-series]")];
    const sets = head.sets.map(() => null);
    const find = (selector) => root.querySelector(selector);
    const form = find(".ex-bar"), list = find(".ex-list"), article = find(".ex-pair"), body = find(".ex-table tbody");
    const fresh = () => ({ set: 0, q: "", sort: "", page: 0, pair: null, choose: mapping(), range: mapping() });
    let state = fresh();
    let rows = [];
    let turn = 0; // a later rendering makes an earlier one, still waiting for texts, give up

    const current = () => {
      if (!sets[state.set]) sets[state.set] = unpack(head.sets[state.set], packed.filter((e) => Number(e.dataset.set) === state.set));
      return sets[state.set];
    };

    // --- Text, made visible

    function visible(into, text) {
      let last = 0;
      for (const match of text.matchAll(hidden)) {
        into.append(text.slice(last, match.index));
        const code = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
        into.append(h("span", { className: "hidden-char", textContent: `U+${code}` }));
        last = match.index + match[0].length;
      }
      into.append(text.slice(last));
      return into;
    }

    const pattern = (flags) => new RegExp(state.q.replace(/[\\^$.*+?()[\]{}|/-]/g, (c) => (c === "-" ? "\\x2d" : `\\${c}`)), flags);

    function marked(into, text) {
      let last = 0;
      for (const match of state.q ? text.matchAll(pattern("giu")) : []) {
        visible(into, text.slice(last, match.index));
        into.append(visible(h("mark"), match[0]));
        last = match.index + match[0].length;
      }
      return visible(into, text.slice(last));
    }

    function textBlock(text) {
      const block = h("div", { className: "text ex-text", dir: "auto" });
      marked(block, text.length > CUT ? text.slice(0, CUT) : text);
      if (text.length <= CUT) return block;
      const more = h("button", { type: "button", textContent: `Show all ${whole.format(text.length)} characters` });
      more.addEventListener("click", () => { block.replaceChildren(); marked(block, text); more.remove(); block.tabIndex = -1; block.focus(); });
      return h("div", {}, block, more);
    }

    function turns(conversation, usual) {
      if (!conversation.length) return h("p", { className: "soft", textContent: "no text" });
      const one = conversation.length === 1 && conversation[0][0] === usual;
      return h("div", {}, ...conversation.map(([role, content, missing]) => h("div", { className: "ex-turn" },
        one ? null : visible(h("p", { className: "ex-role soft" }), role),
        content ? textBlock(content) : h("p", { className: "soft", textContent: "empty" }),
        missing ? h("p", { className: "soft", textContent: `${whole.format(missing)} more characters are not on this page.` }) : null)));
    }

    // --- Finding

    async function matches(set) {
      if (!state.q) return null;
      const key = state.q.toLowerCase();
      if (!set.matched.has(key)) {
        const test = pattern("iu");
        const hit = { prompts: new Set(), answers: new Set() };
        const total = set.texts.prompts.pieces + set.texts.answers.pieces;
        let done = 0;
        for (const name of ["prompts", "answers"]) {
          for (let k = 0; k < set.texts[name].pieces; k++) {
            const { first, values } = await set.texts[name].piece(k);
            values.forEach(([, conversation], i) => { if (conversation.some(([, content]) => test.test(content))) hit[name].add(first + i); });
            if (++done % 16 === 0) find(".ex-count").textContent = `Searching: ${Math.round((100 * done) / total)} %`;
          }
        }
        set.matched.set(key, hit);
      }
      return set.matched.get(key);
    }

    async function filtered(set) {
      const hit = await matches(set);
      const tests = [];
      if (hit) tests.push((row) => hit.prompts.has(set.prompt[row]) || hit.answers.has(set.chosen[row]) || hit.answers.has(set.rejected[row]));
      for (const [name, wanted] of Object.entries(state.choose)) {
        const one = set.by.get(name);
        if (name === "finding") {
          const found = set.findings.find((finding) => finding.check === wanted);
          tests.push((row) => Boolean(found) && found.of.has(row));
        } else if (one) tests.push((row) => String(value(one, row) ?? "none").replace("NaN", "none") === wanted);
      }
      for (const [name, [low, high]] of Object.entries(state.range)) {
        const one = set.by.get(name);
        if (one) tests.push((row) => (low === null || one.of[row] >= low) && (high === null || one.of[row] <= high));
      }
      const found = [];
      for (let row = 0; row < set.pairs; row++) if (tests.every((test) => test(row))) found.push(row);
      const down = state.sort.startsWith("-");
      const by = set.by.get(state.sort.slice(down ? 1 : 0));
      if (by) {
        const sign = down ? -1 : 1; // unknown numbers come last either way
        found.sort((a, b) => {
          const [x, y] = [by.of[a], by.of[b]];
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
          return sign * (x - y) || a - b;
        });
      }
      return found;
    }

    // --- The list

    const inTable = (set) => ["score_chosen", "score_rejected", "gap", "goal", ...set.columns.filter((one) => one.base.startsWith("margin ")).slice(0, 1).map((one) => one.name), "split"]
      .map((name) => set.by.get(name)).filter(Boolean);

    function controls(set) {
      form.elements.set.value = String(state.set);
      if (document.activeElement !== form.elements.q) form.elements.q.value = state.q;
      const ranked = set.columns.filter((one) => one.kind === "number" && one.ranks);
      const options = [["", "order of the data"], ...ranked.flatMap((one) => [[`-${one.name}`, `${titleOf(one)}, highest first`], [one.name, `${titleOf(one)}, lowest first`]])];
      form.elements.sort.replaceChildren(...options.map(([key, title]) => h("option", { value: key, textContent: title, selected: key === state.sort })));
      const choices = set.columns.filter((one) => one.kind === "category" || one.name === "goal").map(choiceOf).filter(Boolean);
      if (set.findings.length) {
        choices.push({ name: "finding", title: "finding of the audit", values: set.findings.map((one) => [one.check, `${one.check} (${whole.format(one.of.size)})`]) });
      }
      find(".ex-categories").replaceChildren(...choices.map((one) => h("label", { className: "ex-field" }, h("span", { textContent: one.title }),
        h("select", { dataset: { choose: one.name } }, h("option", { value: "", textContent: "any" }),
          ...one.values.map(([key, title]) => h("option", { value: key, textContent: title, selected: state.choose[one.name] === key }))))));
      const spans = ranked.filter((one) => one.of.some((x) => !Number.isNaN(x) && x !== one.of[0]) && !choices.some((choice) => choice.name === one.name));
      find(".ex-more").hidden = !spans.length;
      find(".ex-ranges").replaceChildren(...spans.map(rangeOf));
      active();
    }

    function choiceOf(one) {
      const counted = new Map();
      const size = (one.codes || one.of).length;
      for (let row = 0; row < size; row++) {
        const key = String(value(one, row) ?? "none").replace("NaN", "none");
        counted.set(key, (counted.get(key) || 0) + 1);
      }
      if (counted.size < 2 || counted.size > 60) return null;
      const known = [...counted.keys()].sort((a, b) => (a === "none") - (b === "none") || Number(a) - Number(b) || (a < b ? -1 : 1));
      return { name: one.name, title: titleOf(one), values: known.map((key) => [key, `${key} (${whole.format(counted.get(key))})`]) };
    }

    function rangeOf(one) {
      const known = one.of.filter((x) => !Number.isNaN(x)).sort();
      const [least, most] = [known[0], known[known.length - 1]];
      const [low, high] = state.range[one.name] || [null, null];
      const counts = new Array(BINS).fill(0);
      for (const x of known) counts[Math.min(BINS - 1, Math.floor((BINS * (x - least)) / (most - least)))]++;
      const top = Math.max(...counts);
      const drawing = shape("svg", { viewBox: `0 0 ${BINS} 10`, preserveAspectRatio: "none", "aria-hidden": "true", class: "ex-bins" });
      counts.forEach((count, i) => {
        const [from, to] = [least + ((most - least) * i) / BINS, least + ((most - least) * (i + 1)) / BINS];
        const inside = (low === null || to >= low) && (high === null || from <= high);
        const tall = count ? Math.max(0.5, (10 * count) / top) : 0;
        drawing.append(shape("rect", { x: i + 0.08, width: 0.84, y: 10 - tall, height: tall, class: inside ? "in" : "out" }));
      });
      const end = (which, given, hint) => h("input", { type: "number", step: "any", inputMode: "decimal", value: given === null ? "" : String(given),
        placeholder: number(hint).replace("−", "-").replaceAll(",", ""), "aria-label": `${which} ${titleOf(one)}`, dataset: { range: one.name, end: which } });
      return h("fieldset", { className: "ex-range" }, h("legend", { textContent: titleOf(one) }), drawing,
        h("span", { className: "ex-ends" }, end("least", low, least), h("span", { textContent: "to" }), end("most", high, most)));
    }

    function active() {
      const count = Object.keys(state.range).length;
      find(".ex-active").textContent = count ? `(${count} set)` : "";
      if (count) find(".ex-more").open = true;
      find(".ex-clear").hidden = !(count || state.q || Object.keys(state.choose).length);
    }

    async function showList(set, mine) {
      const columns = inTable(set);
      const head = (one) => {
        if (one.kind !== "number") return h("th", { scope: "col", className: one.name === "goal" ? "n" : "", textContent: titleOf(one) });
        const order = state.sort === one.name ? "ascending" : state.sort === `-${one.name}` ? "descending" : "none";
        const arrow = { ascending: " ▲", descending: " ▼", none: "" }[order];
        const button = h("button", { type: "button", dataset: { sort: one.name } }, titleOf(one), h("span", { "aria-hidden": "true", textContent: arrow }));
        return h("th", { scope: "col", className: "n", "aria-sort": order }, button);
      };
      find(".ex-table thead").replaceChildren(h("tr", {}, h("th", { scope: "col", textContent: "prompt" }), ...columns.map(head)));
      const last = Math.max(0, Math.ceil(rows.length / PAGE) - 1);
      state.page = Math.min(state.page, last);
      const page = rows.slice(PAGE * state.page, PAGE * (state.page + 1));
      const opened = page.map((row) => h("button", { type: "button", className: "ex-open", dir: "auto", dataset: { row } }, "…"));
      body.replaceChildren(...page.map((row, i) => h("tr", { dataset: { row } }, h("td", { className: "ex-prompt" }, opened[i]),
        ...columns.map((one) => h("td", { className: one.kind === "number" ? "n" : "", dataset: { label: titleOf(one) } }, visible(h("span"), String(shownValue(one, row))))))));
      find(".ex-count").textContent = rows.length === set.pairs ? `${whole.format(set.pairs)} pairs` : `${whole.format(rows.length)} of ${whole.format(set.pairs)} pairs`;
      find(".ex-says").textContent = set.says + (set.of > set.pairs ? `: a sample (seed ${set.seed}) of ${whole.format(set.of)} pairs, as many as one page holds.` : ".");
      pages(last);
      const asked = await Promise.all(page.map((row) => set.texts.prompts.get(set.prompt[row])));
      if (mine !== turn) return;
      asked.forEach(([, conversation], i) => {
        const words = (conversation.length ? conversation[conversation.length - 1][1] : "").slice(0, 600).replace(/\s+/g, " ").trim();
        opened[i].replaceChildren();
        marked(opened[i], words.length > 160 ? `${words.slice(0, 160)}…` : words || "(empty prompt)");
      });
    }

    function pages(last) {
      const go = (label, to, says) => h("button", { type: "button", textContent: label, disabled: to < 0 || to > last || to === state.page, "aria-label": says, dataset: { page: to } });
      find(".ex-pages").replaceChildren(go("«", 0, "First page"), go("←", state.page - 1, "Page before"),
        h("span", { textContent: `page ${whole.format(state.page + 1)} of ${whole.format(last + 1)}` }),
        go("→", state.page + 1, "Next page"), go("»", last, "Last page"));
      find(".ex-pages").hidden = last === 0;
    }

    // --- One pair

    async function showPair(set, mine) {
      const row = state.pair;
      const place = rows.indexOf(row);
      const [prompt, ...answers] = await Promise.all([set.texts.prompts.get(set.prompt[row]), ...SIDES.map((side) => set.texts.answers.get(set[side][row]))]);
      const details = set.texts.details ? await set.texts.details.get(row) : null;
      if (mine !== turn) return;
      const step = (label, to, says) => h("button", { type: "button", textContent: label, disabled: !(to >= 0 && to < rows.length), "aria-label": says, dataset: { open: rows[to] ?? "" } });
      const title = h("h3", { tabIndex: -1, textContent: `Pair ${number(value(set.by.get("row"), row))}` });
      const goal = set.by.get("goal");
      const asked = goal ? value(goal, row) : null;
      const known = asked !== null && asked !== undefined && !Number.isNaN(asked);
      const sentence = known ? set.asks[Number.isInteger(asked) ? asked.toFixed(1) : String(asked)] : undefined;
      const facts = set.columns.filter((one) => !one.side && !["id"].includes(one.kind))
        .filter((one) => one.kind === "category" ? value(one, row) !== null : !Number.isNaN(value(one, row)))
        .map((one) => h("span", { className: "ex-fact" }, `${one.base} `, visible(h("b"), String(shownValue(one, row)))));
      const found = set.findings.filter((one) => one.of.has(row));
      const credit = details && details.credit ? creditOf(details.credit) : null;
      const cards = SIDES.map((side, i) => h("section", { className: `ex-answer ex-${side}`, "aria-label": `${side} answer` },
        h("h4", {}, h("span", { "aria-hidden": "true", textContent: side === "chosen" ? "✓ " : "✗ " }), side, ...headOf(set, side, row)),
        h("div", { className: "ex-plain" }, turns(answers[i][1], "assistant")), credit ? credit.sides[side] : null));
      article.replaceChildren(...[
        h("div", { className: "ex-top" }, h("button", { type: "button", className: "ex-back", textContent: "Back to the list" }),
          h("span", { className: "ex-steps" }, step("←", place - 1, "Pair before"), h("span", { textContent: `${whole.format(place + 1)} of ${whole.format(rows.length)}` }), step("→", place + 1, "Next pair"))),
        title, h("p", { className: "ex-facts" }, ...facts),
        ...found.map((one) => h("p", { className: "note ex-found" }, h("b", { textContent: one.check }), ` (${one.level}): `, visible(h("span"), one.says), one.remedy ? visible(h("span", { className: "soft" }), ` → ${one.remedy}`) : null)),
        h("section", { className: "ex-asked", "aria-label": "Prompt" }, h("h4", { textContent: "prompt" }), turns(prompt[1], "user"),
          sentence ? h("details", {}, h("summary", { textContent: `How the model is asked for ${number(asked)}` }), textBlock(sentence)) : null),
        credit ? credit.bar : null, h("div", { className: "ex-both" }, ...cards),
        details && details.course ? courseOf(details.course) : null, numbersOf(set, row, prompt[0])].filter(Boolean));
      if (credit) credit.show();
    }

    function headOf(set, side, row) {
      const shown = [["score", "score"], ["chars", "characters"]].map(([base, title]) => [set.by.get(`${base}_${side}`), title]).filter(([one]) => one);
      return shown.map(([one, title]) => h("span", { className: "ex-fact" }, `${title} `, h("b", { textContent: shownValue(one, row) })));
    }

    function numbersOf(set, row, promptId) {
      const sided = set.columns.filter((one) => one.side && one.kind === "number");
      const bases = [...new Set(sided.map((one) => one.base))];
      const cell = (base, side) => { const one = sided.find((other) => other.base === base && other.side === side); return h("td", { className: "n", textContent: one ? shownValue(one, row) : "–" }); };
      const ids = SIDES.map((side) => `${side} answer ${number(value(set.by.get(`${side}_id`), row))}`).join(", ");
      return h("details", {}, h("summary", { textContent: "All numbers of this pair" }),
        h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "All numbers of this pair" }, h("table", { className: "numbers" },
          h("thead", {}, h("tr", {}, h("th", { scope: "col", textContent: "number" }), ...SIDES.map((side) => h("th", { scope: "col", className: "n", textContent: side })))),
          h("tbody", {}, ...bases.map((base) => h("tr", {}, h("th", { scope: "row", textContent: base }), ...SIDES.map((side) => cell(base, side))))))),
        visible(h("p", { className: "soft" }), `prompt ${promptId}, ${ids}. logp: nats, summed over the answer. margin: log-ratio of chosen minus that of rejected, in nats, not multiplied with beta.`));
    }

    // What training did to the two log-probabilities: each less what it was at the first step.
    function courseOf(course) {
      const change = (side) => course[side].map((x) => (x === null || course[side][0] === null ? null : x - course[side][0]));
      const moved = Object.fromEntries(SIDES.map((side) => [side, change(side)]));
      const known = SIDES.flatMap((side) => moved[side]).filter((x) => x !== null);
      if (!known.length) return null;
      const [low, high] = [Math.min(...known), Math.max(...known)];
      const [first, last] = [course.steps[0], course.steps[course.steps.length - 1]];
      const x = (step) => 4 + (192 * (step - first)) / (last - first), y = (v) => 54 - (48 * (v - low)) / (high - low || 1);
      const said = SIDES.map((side) => `${side} ${signed(moved[side].at(-1))}`).join(", ");
      const drawing = shape("svg", { viewBox: "0 0 200 60", class: "ex-course", role: "img", "aria-label": `Change of log-probability from step ${first} to ${last}, in nats: ${said}` });
      drawing.append(shape("line", { x1: 0, x2: 200, y1: y(0), y2: y(0) }));
      for (const side of SIDES) {
        const points = course.steps.map((step, i) => (moved[side][i] === null ? null : `${x(step).toFixed(1)},${y(moved[side][i]).toFixed(1)}`)).filter(Boolean);
        drawing.append(shape("polyline", { points: points.join(" "), class: side }));
      }
      const [line, dashes] = SIDES.map((side) => `${signed(moved[side].at(-1))} (from ${number(course[side][0])})`);
      return h("figure", { className: "ex-courses" }, h("figcaption", {}, h("b", { textContent: "Change of log-probability" }),
        h("span", { className: "soft", textContent: ` from step ${number(first)} to ${number(last)}, without a goal in the prompt, in nats: chosen (line) ${line}, rejected (dashes) ${dashes}` })), drawing);
    }

    // Tokens shaded by log pi - log start: blue where training made them likelier, orange and underlined where less.
    function creditOf(credit) {
      const kinds = Object.keys(credit);
      const said = { none: "no goal in the prompt", top: "asked for the best score", own: "asked for its own score" };
      const most = (asked) => {
        const sizes = SIDES.flatMap((side) => (credit[asked][side] ? credit[asked][side][1] : [])).filter((x) => x !== null).map(Math.abs).sort((a, b) => a - b);
        return Math.max(0.01, sizes[Math.floor(0.98 * (sizes.length - 1))] || 0);
      };
      const readout = h("output", { className: "ex-readout", textContent: "Point at a token, or move through an answer with ← and →." });
      const shade = h("input", { type: "checkbox", checked: true });
      const choose = h("select", {}, ...kinds.map((kind) => h("option", { value: kind, textContent: said[kind] || kind })));
      const scale = h("span", { className: "ex-scale" });
      const bar = h("div", { className: "ex-credit" }, h("label", {}, shade, " Shade tokens by credit"), kinds.length > 1 ? h("label", {}, "Prompt: ", choose) : null, scale, readout);
      const sides = Object.fromEntries(SIDES.map((side) => [side, h("div", { className: "text ex-tokens", tabIndex: 0, role: "group", "aria-label": `Tokens of the ${side} answer with their credit; left and right move` })]));
      const tell = (token) => {
        for (const other of bar.parentElement.querySelectorAll(".ex-at")) other.classList.remove("ex-at");
        token.classList.add("ex-at");
        readout.replaceChildren(visible(h("b"), JSON.stringify(token.text)), ` ${token.credit === null ? "–" : signed(token.credit)} nats`);
      };
      const show = () => {
        const asked = choose.value || kinds[0], top = most(asked);
        article.classList.toggle("ex-shaded", shade.checked);
        scale.replaceChildren(h("span", { className: "ex-less", textContent: `−${number(top)} less likely` }), h("span", { className: "ex-ramp", "aria-hidden": "true" }), h("span", { className: "ex-likelier", textContent: `+${number(top)} nats, likelier` }));
        for (const side of SIDES) {
          const [tokens, values] = credit[asked][side] || [[], []];
          sides[side].replaceChildren(...tokens.map((text, i) => {
            const token = visible(h("span", { className: "ex-token" }), text.replaceAll("\n", "⏎\n"));
            const size = values[i] === null ? 0 : Math.min(1, Math.abs(values[i]) / top);
            token.classList.add(values[i] < 0 ? "less" : "more");
            if (size > 0.5) token.classList.add("much");
            token.style.setProperty("--much", `${Math.round(60 * size)}%`);
            token.title = values[i] === null ? "" : `${signed(values[i])} nats`;
            return Object.assign(token, { text, credit: values[i] });
          }));
        }
      };
      for (const side of SIDES) {
        sides[side].addEventListener("pointerover", (event) => { const token = event.target.closest(".ex-token"); if (token) tell(token); });
        sides[side].addEventListener("keydown", (event) => {
          const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
          const tokens = [...sides[side].children];
          if (!move || !tokens.length) return;
          event.preventDefault();
          event.stopPropagation();
          const at = tokens.findIndex((token) => token.classList.contains("ex-at"));
          const next = tokens[Math.min(tokens.length - 1, Math.max(0, at + move))];
          tell(next);
          next.scrollIntoView({ block: "nearest" });
        });
      }
      shade.addEventListener("change", show);
      choose.addEventListener("change", show);
      return { bar, sides, show };
    }

    // --- State, and its address

    function address() {
      const said = new URLSearchParams();
      if (state.set) said.set("set", head.sets[state.set].name);
      for (const key of ["q", "sort"]) if (state[key]) said.set(key, state[key]);
      if (state.page) said.set("page", state.page + 1);
      for (const [name, wanted] of Object.entries(state.choose)) said.set(`is.${name}`, wanted);
      for (const [name, [low, high]] of Object.entries(state.range)) said.set(`in.${name}`, `${low ?? ""}:${high ?? ""}`);
      if (state.pair !== null) said.set("pair", state.pair);
      const text = said.toString();
      return `#${root.dataset.name}${text ? `?${text}` : ""}`;
    }

    const isNumber = (one) => Boolean(one) && one.kind === "number";

    function read() {
      const [name, text] = decodeHash(location.hash);
      if (name !== root.dataset.name) return false;
      const said = new URLSearchParams(text);
      state = fresh();
      state.set = Math.max(0, head.sets.findIndex((one) => one.name === said.get("set")));
      const set = current();
      state.q = (said.get("q") || "").slice(0, 400);
      state.sort = isNumber(set.by.get((said.get("sort") || "").replace(/^-/, ""))) ? said.get("sort") : "";
      state.page = Math.max(0, (parseInt(said.get("page"), 10) || 1) - 1);
      const pair = parseInt(said.get("pair"), 10);
      if (pair >= 0 && pair < set.pairs) state.pair = pair;
      const end = (part) => (part === "" || part === undefined || Number.isNaN(Number(part)) ? null : Number(part));
      for (const [key, given] of said) {
        const name = key.slice(3), one = set.by.get(name);
        if (key.startsWith("is.") && (name === "finding" || one)) state.choose[name] = given;
        if (key.startsWith("in.") && isNumber(one)) { const [low, high] = given.split(":").map(end); state.range[name] = [low, high ?? null]; }
      }
      return true;
    }

    const decodeHash = (hash) => { const at = hash.indexOf("?"); return at < 0 ? [hash.slice(1), ""] : [hash.slice(1, at), hash.slice(at + 1)]; };

    // An address may ask for anything: what cannot be shown gives the whole list.
    async function render(options) {
      try {
        await draw(options);
      } catch (error) {
        state = fresh();
        await draw({ keep: true });
      }
    }

    async function draw({ keep = false, push = false, focus = null, anew = true } = {}) {
      const mine = ++turn;
      const set = current();
      if (!keep) history[push ? "pushState" : "replaceState"](null, "", address());
      if (anew) {
        controls(set);
        const found = await filtered(set);
        if (mine !== turn) return;
        rows = found;
        if (state.pair !== null && !rows.includes(state.pair)) rows = [state.pair, ...rows];
      }
      active();
      list.hidden = state.pair !== null;
      article.hidden = state.pair === null;
      await (state.pair === null ? showList(set, mine) : showPair(set, mine));
      if (mine === turn && focus) { const target = focus(); if (target) target.focus(); }
    }

    const change = (more, options) => { Object.assign(state, { page: 0 }, more); return render(options); };
    const open = (row) => { const push = state.pair === null; state.pair = row; return render({ push, anew: false, focus: () => article.querySelector("h3") }); };
    function back() {
      const row = state.pair;
      state.pair = null;
      const place = rows.indexOf(row);
      state.page = Math.max(0, Math.floor(place / PAGE));
      return render({ focus: () => body.querySelector(`button[data-row="${row}"]`) });
    }

    // --- What the reader does

    let waiting = 0;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      const target = event.target;
      if (target.name === "q") {
        clearTimeout(waiting);
        waiting = setTimeout(() => change({ q: target.value }), 200);
      } else if (target.name === "set") {
        state = { ...fresh(), set: Number(target.value), q: state.q };
        render({ focus: () => form.elements.set });
      } else if (target.name === "sort") {
        change({ sort: target.value }, { focus: () => form.elements.sort });
      } else if (target.dataset.choose) {
        const name = target.dataset.choose;
        change({ choose: target.value ? having(state.choose, name, target.value) : without(state.choose, name) }, { focus: () => form.querySelector(`[data-choose="${CSS.escape(name)}"]`) });
      }
    });
    form.addEventListener("change", (event) => {
      const { range, end } = event.target.dataset;
      if (!range) return;
      const of = (which) => { const given = form.querySelector(`[data-range="${CSS.escape(range)}"][data-end="${which}"]`).value; return given === "" ? null : Number(given); };
      const ends = [of("least"), of("most")];
      change({ range: ends.every((one) => one === null) ? without(state.range, range) : having(state.range, range, ends) });
    });
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      const line = event.target.closest(".ex-table tbody tr");
      if (button && button.dataset.sort) {
        const name = button.dataset.sort;
        change({ sort: state.sort === `-${name}` ? name : `-${name}` }, { focus: () => root.querySelector(`[data-sort="${CSS.escape(name)}"]`) });
      } else if (button && button.dataset.page) turnTo(Number(button.dataset.page), button.getAttribute("aria-label"));
      else if (button && button.dataset.open) open(Number(button.dataset.open));
      else if (button && button.classList.contains("ex-back")) back();
      else if (button && button.classList.contains("ex-clear")) { state = { ...fresh(), set: state.set, sort: state.sort }; render({ focus: () => form.elements.q }); form.elements.q.value = ""; }
      else if (line && !String(getSelection())) open(Number(line.dataset.row));
    });
    function turnTo(page, label) {
      state.page = page;
      return render({ anew: false, focus: () => (label ? [...find(".ex-pages").querySelectorAll("button")].find((b) => b.getAttribute("aria-label") === label && !b.disabled) : null) || body.querySelector("button") });
    }
    root.addEventListener("keydown", (event) => {
      const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
      if (event.ctrlKey || event.altKey || event.metaKey || (typing && event.key !== "Escape")) return;
      const done = act(event.key, event.target);
      if (done) event.preventDefault();
    });
    function act(key, target) {
      if (key === "/" && state.pair === null) { form.elements.q.focus(); return true; }
      if (state.pair !== null) {
        if (key === "Escape") { back(); return true; }
        const next = rows[rows.indexOf(state.pair) + ({ ArrowLeft: -1, ArrowRight: 1 }[key] || NaN)];
        if (next !== undefined) { open(next); return true; }
        return false;
      }
      const buttons = [...body.querySelectorAll("button")];
      const at = buttons.indexOf(target);
      const last = Math.ceil(rows.length / PAGE) - 1;
      const page = state.page + ({ ArrowLeft: -1, ArrowRight: 1 }[key] || 0);
      if (page !== state.page && page >= 0 && page <= last && (at >= 0 || target.closest(".ex-pages"))) { turnTo(page, null); return true; }
      const move = { ArrowDown: 1, ArrowUp: -1 }[key];
      if (!move || at < 0 || !buttons[at + move]) return false;
      buttons[at + move].focus();
      return true;
    }
    addEventListener("popstate", () => { if (read()) render({ keep: true }); });

    if (typeof DecompressionStream === "undefined") {
      find(".ex-alarm").hidden = false;
      find(".ex-alarm").textContent = "This browser cannot unpack the texts of this page (it has no DecompressionStream, which Chrome has since 80, Firefox since 113, Safari since 16.4). Open the page in a newer one.";
      list.hidden = true;
      return;
    }
    const linked = read();
    render({ keep: true }).then(() => {
      root.dataset.ready = "true";
      performance.mark("explorer-ready");
      if (linked) root.scrollIntoView();
    });
  }

  for (const root of document.querySelectorAll(".explorer")) start(root);
})();
