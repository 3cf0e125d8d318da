// A report that stands alone: the same charts of runs that are all in the page, with the verdict and tables on them.

import { Charts, lineOf } from "./charts.js";
import { $, make } from "./dom.js";
import { findings, verdict } from "./pages.js";
import { themes } from "./themes.js";

const report = JSON.parse($("#data").textContent);

class ReportCharts extends Charts {
  most = Infinity;
  off = new Set();

  async answer(parameters) {
    const asked = new Map(parameters);
    const [low, high] = ["from", "to"].map((end) => asked.get(end)).map((end, i) => end === "" ? [-Infinity, Infinity][i] : end);
    const runs = report.runs.filter((run) => !this.off.has(run.id)).map((run) => ({
      ...run, share: 1,
      marks: run.marks.map((mark) => ({ ...mark, x: mark.x[asked.get("x")] })),
      series: run.series.map((s) => within({ ...s, x: s.x[asked.get("x")] }, low, high, Number(asked.get("smooth")))),
    }));
    return { runs };
  }

  // Made once, so that a box that was used keeps the focus.
  legend() {
    this.entries ??= report.runs.map((run) => {
      const [sign, last] = [make("span", { class: "sign", "aria-hidden": "true" }), make("span", { class: "last" })];
      const box = make("input", { type: "checkbox", checked: true, onchange: (e) => { this.off[e.target.checked ? "delete" : "add"](run.id); this.refresh(); } });
      $("#legend").append(make("li", {}, make("label", {}, box, sign, make("span", {}, run.name)), last));
      return { run, sign, last };
    });
    for (const { run, sign, last } of this.entries) {
      const { colour, symbol } = this.style(run.id);
      sign.textContent = symbol[1];
      sign.style.color = colour;
      last.textContent = this.told(run);
    }
  }
}

// What of a curve is seen, with a neighbour on either side that the line goes on to; means only of curves that are whole.
function within(series, low, high, weight) {
  const start = Math.max(0, series.x.findIndex((x) => x >= low) - 1);
  const end = series.x.findLastIndex((x) => x <= high) + 2;
  const cut = (values) => values.slice(start, end);
  const means = weight && series.exact && series.name !== "lr" && series.y.length > 2 ? { x: cut(series.x), y: cut(smoothed(series.y, weight)) } : undefined;
  return { ...series, x: cut(series.x), y: cut(series.y), step: cut(series.step), smooth: means };
}

// A moving average in which each value has `weight` times the weight of the next, without a bias at the start.
function smoothed(values, weight) {
  let [total, share] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    [total, share] = [weight * total + (1 - weight) * value, weight * share + 1 - weight];
    return total / share;
  });
}

if (report.page) {
  $("#verdict").append(...verdict(report.page));
  $("#findings").append(...findings(report.page));
}
const thinned = report.runs.flatMap((run) => run.series.filter((s) => !s.exact && s.name !== "lr").map((s) =>
  `${s.x.tokens.length.toLocaleString("en")} of the ${s.count.toLocaleString("en")} points of ${run.name} ${lineOf(s.name) ?? s.name}`));
if (thinned.length) {
  $("#thinned").hidden = false;
  $("#thinned").textContent = `Of long curves the first, last, lowest and highest points of each part are in this file, and no average is drawn: ${thinned.join(", ")}.`;
}
$("#axis").value = report.axis;
const charts = new ReportCharts(new Set(report.runs.map((run) => run.id)), () => new Map());
themes(() => charts.draw());
charts.refresh();
