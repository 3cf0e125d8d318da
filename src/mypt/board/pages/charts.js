// The charts: what is drawn of the chosen runs, in one range of x for all.

import { $, ask, make } from "./dom.js";
import { count, loss } from "./units.js";

const COLOURS = {
  light: ["#0072B2", "#C04F00", "#00805E", "#A8508A", "#946200", "#2B7FB0", "#333333", "#8A3FFC"],
  dark: ["#5FB3F0", "#FF9A52", "#3CCB9C", "#E79BC8", "#F0C040", "#A6DCFF", "#DDDDDD", "#C4A3FF"],
};
const SYMBOLS = [["circle", "●"], ["square", "■"], ["diamond", "◆"], ["triangle-up", "▲"], ["triangle-down", "▼"], ["pentagon", "⬟"], ["hexagram", "✶"], ["cross", "✚"]];
const DASHES = [["val", "solid", "───"], ["train", "dot", "·····"], ["steps", "solid", "thin ──"]];
const SET_DASHES = [["dash", "─ ─ ─"], ["dashdot", "─ · ─"], ["longdash", "── ──"], ["longdashdot", "── · ──"]];
const PANELS = [
  { id: "loss", title: "loss, nats per token", height: 420, takes: (name) => lineOf(name) !== null, logs: true },
  { id: "lr", title: "learning rate", height: 200, takes: (name) => name === "lr" },
  { id: "speed", title: "tokens/s", height: 200, takes: (name) => name === "tokens_per_sec" },
  { id: "norm", title: "gradient norm", height: 200, takes: (name) => name === "grad_norm", logs: true },
];
const AXES = { tokens: "training tokens", steps: "step", time: "time of all sessions" };
const MARKS = {
  gold: ["star", "★ gold"], blocked: ["x-thin", "× gold blocked"], phase: ["line-ns", "┆ phase"],
  stopped: ["circle-x", "⊗ stopped"], resume: ["triangle-right", "▷ resumed"], rewind: ["triangle-left", "◁ rewound"], "measured otherwise": ["asterisk", "✳ measured otherwise"],
};
const UNITS = [[86400 * 2, 86400, "days"], [3600 * 2, 3600, "hours"], [120, 60, "minutes"], [0, 1, "seconds"]];

// Plotly's script takes a second or two to be read, and the page stands still meanwhile: a sketch is drawn before.
let loading = null;
const drawing = () => loading ??= window.Plotly ? Promise.resolve() : new Promise((ready, failed) => document.head.append(
  make("script", { src: "plotly.js", onload: ready, onerror: () => failed(new Error("Plotly's script could not be loaded.")) })));
const SEEN_MS = 30;
const SVG = "http://www.w3.org/2000/svg";

export const lineOf = (name) => ({ val_loss: "val", train_loss: "train", loss: "steps" })[name] ?? (name.startsWith("eval_") ? name.slice(5) : null);
// In its labels plotly knows a little markup; to text it gets there, that is text too.
const plain = (text) => text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]).replaceAll("$", "&#36;");

export class Charts {
  most = 20;

  constructor(chosen, names) {
    Object.assign(this, { chosen, names, range: null, runs: [], hidden: new Set(["train"]), asking: false, again: false, places: new Map() });
    for (const id of ["axis", "scale", "marks"]) $(`#${id}`).addEventListener("change", () => { if (id === "axis") this.range = null; this.refresh(); });
    $("#smooth").addEventListener("input", (e) => { $("#smoothed").textContent = e.target.value; this.refresh(); });
    $("#controls").addEventListener("submit", (e) => e.preventDefault());
    for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => this.move(button.dataset.zoom));
    this.panels = PANELS.map((panel) => ({ ...panel, node: this.place(panel) }));
    new ResizeObserver(() => this.resized()).observe($("#plots"));
  }

  place(panel) {
    const node = make("div", { class: "plot", id: `plot-${panel.id}`, tabindex: "0", role: "img" });
    node.addEventListener("keydown", (e) => {
      const how = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "all", Escape: "all" }[e.key];
      if (how && !e.ctrlKey && !e.metaKey && !e.altKey) { e.preventDefault(); this.move(how); }
    });
    $("#plots").append(make("figure", { id: `figure-${panel.id}` }, make("figcaption", {}, panel.title), node));
    return node;
  }

  // One question at a time; what changes meanwhile is asked for afterwards.
  async refresh() {
    if (this.asking) { this.again = true; return; }
    this.asking = true;
    try {
      do {
        this.again = false;
        await this.ask();
      } while (this.again);
    } catch (error) {
      $("#reading").textContent = error.message;
    } finally { this.asking = false; }
  }

  async ask() {
    const ids = [...this.chosen].slice(0, this.most);
    $("#reading").textContent = this.chosen.size > this.most ? `The first ${this.most} of the chosen runs are drawn.` : "";
    if (!ids.length) { await drawing(); this.runs = []; this.draw(); return; }
    const [low, high] = this.range ?? ["", ""];
    const width = Math.max(300, $("#plots").clientWidth);
    const { runs } = await this.answer([...ids.map((id) => ["run", id]), ["x", $("#axis").value], ["from", low], ["to", high],
      ["smooth", $("#smooth").value], ["points", Math.min(4000, 2 * width)]]);
    this.runs = runs;
    if (!window.Plotly) {
      this.draw();
      await new Promise((ready) => setTimeout(ready, SEEN_MS));
      await drawing();
    }
    this.draw();
    const partly = runs.filter((run) => run.share < 1);
    const faults = runs.filter((run) => run.fault);
    if (partly.length) {
      $("#reading").textContent = `A sample is drawn until the whole log is read: ${partly.map((run) => `${run.name} ${Math.floor(run.share * 100)}%`).join(", ")}`;
      this.again = true;
      await new Promise((ready) => setTimeout(ready, 100)); // for what is drawn to be seen
    } else if (faults.length) $("#reading").textContent = faults.map((run) => run.fault).join(" ");
  }

  answer(parameters) { return ask("api/series", parameters); }

  style(run) {
    if (!this.places.has(run)) {
      const used = new Set([...this.places].filter(([id]) => this.chosen.has(id)).map(([, place]) => place));
      let place = 0;
      while (used.has(place)) place += 1;
      this.places.set(run, place);
    }
    const place = this.places.get(run);
    const colours = COLOURS[document.documentElement.dataset.theme];
    return { colour: colours[place % colours.length], symbol: SYMBOLS[(place + Math.floor(place / 8)) % SYMBOLS.length] };
  }

  draw() {
    for (const id of [...this.places.keys()]) if (!this.chosen.has(id)) this.places.delete(id);
    const sets = [...new Set(this.runs.flatMap((run) => run.series.map((s) => s.name).filter((name) => name.startsWith("eval_"))))];
    this.dashes = new Map([...DASHES.map(([name, dash, shown]) => [name, [dash, shown]]), ...sets.map((name, i) => [name.slice(5), SET_DASHES[i % 4]])]);
    this.lines();
    this.legend();
    this.time = this.timeUnit();
    if (!window.Plotly) { this.sketch(); return; }
    for (const panel of this.panels) { // before any is drawn, as they share the width
      const empty = !this.runs.some((run) => run.series.some((s) => panel.takes(s.name)));
      $(`#figure-${panel.id}`).hidden = empty && (panel.id !== "loss" || this.chosen.size === 0);
    }
    // The losses are seen first; the other charts follow as soon as those are painted.
    const [first, ...rest] = this.panels;
    this.panel(first);
    document.body.dataset.runs = this.runs.length;
    clearTimeout(this.later);
    this.later = setTimeout(() => rest.forEach((panel) => this.panel(panel)));
  }

  // The curves of the losses alone, as lines.
  sketch() {
    const lines = this.runs.flatMap((run) => run.series.filter((s) => lineOf(s.name) !== null && !this.hidden.has(lineOf(s.name)))
      .map((s) => ({ colour: this.style(run.id).colour, points: s.x.map((x, i) => [x, s.y[i]]).filter(([, y]) => y !== null) })));
    const [xs, ys] = [0, 1].map((axis) => lines.flatMap((line) => line.points.map((point) => point[axis])));
    const [left, right, low, high] = [xs, ys].flatMap((values) => [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)]);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "sketch");
    svg.setAttribute("viewBox", "0 0 1000 400");
    svg.setAttribute("preserveAspectRatio", "none");
    for (const { colour, points } of lines) {
      const line = document.createElementNS(SVG, "polyline");
      const placed = points.map(([x, y]) => `${50 + 940 * (x - left) / (right - left || 1)},${380 - 370 * (y - low) / (high - low || 1)}`);
      for (const [name, value] of [["points", placed.join(" ")], ["fill", "none"], ["stroke", colour], ["vector-effect", "non-scaling-stroke"]]) line.setAttribute(name, value);
      svg.append(line);
    }
    this.panels[0].node.replaceChildren(svg);
  }

  timeUnit() {
    const ends = this.runs.flatMap((run) => run.series.map((s) => s.x.at(-1) ?? 0));
    const [low, high] = this.range ?? [0, Math.max(1, ...ends)];
    return $("#axis").value === "time" ? UNITS.find(([least]) => high - low >= least) : [0, 1, ""];
  }

  panel(panel) {
    if ($(`#figure-${panel.id}`).hidden) return;
    const own = this.runs.map((run) => ({ run, series: run.series.filter((s) => panel.takes(s.name)) }));
    const traces = own.flatMap(({ run, series }) => series.flatMap((s) => this.traces(panel, run, s)));
    if (panel.id === "loss" && $("#marks").checked) traces.push(...this.marks());
    panel.node.querySelector(".sketch")?.remove();
    Plotly.react(panel.node, traces, this.layout(panel), { displaylogo: false, responsive: false, displayModeBar: false });
    if (!panel.heard) {
      panel.heard = true;
      panel.node.on("plotly_relayout", (how) => this.zoomed(how));
    }
    const told = own.map(({ run, series }) => `${run.name}: ${series.map((s) => `${lineOf(s.name) ?? panel.title} ${short(s.last)}`).join(", ")}`);
    panel.node.setAttribute("aria-label", `${panel.title} over ${$("#axis").value}. Last values: ${told.join("; ")}. Plus and minus zoom, arrows move, 0 shows all.`);
  }

  traces(panel, run, series) {
    const line = lineOf(series.name);
    if (line !== null && this.hidden.has(line)) return [];
    const { colour, symbol } = this.style(run.id);
    const [, unit] = this.time;
    const dash = (this.dashes.get(line) ?? ["solid"])[0];
    const thin = line === "steps";
    const few = series.x.length < 3;
    const base = {
      type: "scatter", name: plain(run.name), meta: [plain(`${run.name} ${line ?? ""}`)],
      line: { color: colour, dash, width: thin ? 1 : 2, shape: panel.id === "lr" ? "linear" : undefined }, showlegend: false,
    };
    const hover = "%{meta[0]}<br>step %{customdata:,}: <b>%{y:.5~g}</b><extra></extra>";
    const main = {
      ...base, x: series.x.map((x) => x / unit), y: series.y, customdata: series.step, mode: thin && !few ? "lines" : "lines+markers",
      marker: { symbol: symbol[0], size: 8, color: colour, maxdisplayed: few ? 0 : 10 }, hovertemplate: hover,
      opacity: series.smooth ? 0.3 : thin ? 0.55 : 1,
    };
    if (!series.smooth) return [main];
    const mean = { ...base, x: series.smooth.x.map((x) => x / unit), y: series.smooth.y, mode: "lines+markers", marker: main.marker, hovertemplate: "%{meta[0]} smoothed<br><b>%{y:.5~g}</b><extra></extra>" };
    return [{ ...main, mode: "lines", line: { ...main.line, width: 1 } }, { ...mean, line: { ...mean.line, width: 2.5 } }];
  }

  marks() {
    const [, unit] = this.time;
    return this.runs.flatMap((run) => Object.entries(MARKS).flatMap(([kind, [symbol]]) => {
      const found = run.marks.filter((mark) => mark.kind === kind);
      const kept = kind === "gold" ? found.slice(-1) : found;
      const at = kept.filter((mark) => this.range === null || (mark.x >= this.range[0] && mark.x <= this.range[1]));
      if (!at.length) return [];
      const { colour } = this.style(run.id);
      const big = kind === "gold" ? 16 : 12;
      return [{
        type: "scatter", mode: "markers", showlegend: false, x: at.map((mark) => mark.x / unit), y: at.map((mark) => mark.y),
        meta: [plain(run.name)], text: at.map((mark) => plain(mark.text)), hovertemplate: "%{meta[0]}<br>%{text}<extra></extra>",
        marker: { symbol, size: big, color: colour, line: { width: symbol.includes("-thin") || symbol.startsWith("line") || symbol === "asterisk" ? 3 : 1.5, color: kind === "gold" || kind === "stopped" ? this.ink() : colour } },
      }];
    }));
  }

  ink() { return getComputedStyle(document.documentElement).getPropertyValue("--ink").trim(); }

  layout(panel) {
    const css = getComputedStyle(document.documentElement);
    const [ink, rule, ground] = ["--ink", "--rule", "--ground"].map((name) => css.getPropertyValue(name).trim());
    const [, unit, named] = this.time;
    const axis = $("#axis").value;
    const narrow = $("#plots").clientWidth < 560;
    const logs = panel.logs && $("#scale").value === "log";
    return {
      height: narrow ? Math.min(panel.height, 300) : panel.height, width: panel.node.clientWidth || undefined, margin: { l: 52, r: 12, t: 8, b: 42 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "system-ui, sans-serif", size: 12 },
      hovermode: "closest", hoverdistance: 30, dragmode: "zoom", uirevision: `${axis} ${this.range}`,
      hoverlabel: { bgcolor: ground, bordercolor: ink, font: { color: ink }, namelength: -1, align: "left" },
      xaxis: { title: { text: axis === "time" ? `${AXES.time}, ${named}` : AXES[axis], standoff: 6 }, gridcolor: rule, zerolinecolor: rule, linecolor: rule,
        exponentformat: "B", nticks: narrow ? 5 : 0, ...(this.range ? { range: this.range.map((x) => x / unit), autorange: false } : { autorange: true }) },
      yaxis: { type: logs ? "log" : "linear", gridcolor: rule, zerolinecolor: rule, exponentformat: panel.id === "speed" ? "SI" : "power", fixedrange: true, autorange: true,
        ...(logs ? { dtick: "D1" } : {}) },
    };
  }

  zoomed(how) {
    const [, unit] = this.time;
    const low = how["xaxis.range[0]"] ?? how["xaxis.range"]?.[0];
    const high = how["xaxis.range[1]"] ?? how["xaxis.range"]?.[1];
    if (how["xaxis.autorange"]) this.range = null;
    else if (low !== undefined) this.range = [low * unit, high * unit];
    else return;
    this.refresh();
  }

  move(how) {
    const ends = this.runs.flatMap((run) => run.series.flatMap((s) => [s.x[0] ?? 0, s.x.at(-1) ?? 1]));
    const [low, high] = this.range ?? [Math.min(...ends), Math.max(...ends)];
    const part = (high - low) / 4;
    this.range = { in: [low + part, high - part], out: [low - 2 * part, high + 2 * part], left: [low - part, high - part], right: [low + part, high + part], all: null }[how];
    this.refresh();
  }

  lines() {
    const there = [...this.dashes.keys()].filter((line) => this.runs.some((run) => run.series.some((s) => lineOf(s.name) === line)));
    if (there.join("\n") === this.there) return;
    this.there = there.join("\n");
    $("#lines").replaceChildren(make("legend", { class: "unseen" }, "Lines"), ...there.map((line) => make("label", {},
      make("input", { type: "checkbox", checked: !this.hidden.has(line), "data-line": line, onchange: (e) => { this.hidden[e.target.checked ? "delete" : "add"](line); this.draw(); } }),
      make("span", { class: "dash", "aria-hidden": "true" }, this.dashes.get(line)[1]), line)));
    $("#key").textContent = `Marks: ${Object.values(MARKS).map(([, shown]) => shown).join("  ")}. Each run has its colour and its symbol, each loss its dashes. Drag over a chart to zoom in, double-click to see all.`;
  }

  legend() {
    $("#legend").replaceChildren(...this.runs.map((run) => {
      const { colour, symbol } = this.style(run.id);
      const sign = make("span", { class: "sign", "aria-hidden": "true" }, symbol[1]);
      sign.style.color = colour;
      return make("li", {}, sign, make("a", { href: `#run/${run.id}` }, run.name), make("span", { class: "last" }, this.told(run)),
        make("button", { type: "button", class: "away", "aria-label": `Do not draw ${run.name}`, onclick: () => this.onAway(run.id) }, "×"));
    }));
    if (!this.runs.length) $("#legend").append(make("li", { class: "hint" }, this.names().size ? "Choose runs in the table to draw them." : ""));
  }

  // The last values of the lines that are drawn.
  told(run) {
    const last = run.series.filter((s) => lineOf(s.name) !== null && !this.hidden.has(lineOf(s.name))).map((s) => `${lineOf(s.name)} ${short(s.last)}`);
    return last.join(" · ") || "nothing evaluated yet";
  }

  resized() {
    const width = $("#plots").clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    if (this.runs.length) this.draw();
  }
}

const short = (value) => value === null || value === undefined ? "–" : Math.abs(value) >= 1000 ? count(value) : loss(value);
