// The comparison of the chosen runs, and the page of one run.

import { $, ask, list, make, table } from "./dom.js";

export const verdict = (found) => found.verdict ? [make("p", { class: "verdict" }, found.verdict), list(found.reasons)] : [];
export const findings = (found) => [...found.sections.map(table), list(found.lines)];

export async function compare(ids) {
  const place = $("#comparison");
  if (ids.length < 2) {
    place.replaceChildren(make("p", { class: "hint" }, "Choose two runs or more in the table to compare them."));
    $("#compared").textContent = "";
    return;
  }
  $("#compared").textContent = "Comparing…";
  try {
    const found = await ask("api/compare", ids.map((id) => ["run", id]));
    place.replaceChildren(...verdict(found), ...findings(found));
    $("#compared").textContent = `as of ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    place.replaceChildren(make("p", { class: "fault" }, error.message));
    $("#compared").textContent = "";
  }
}

export async function show(id) {
  const place = $("#page");
  try {
    const run = await ask("api/run", [["run", id]]);
    $("#run-title").textContent = run.name;
    $("#run-link").textContent = `Run: ${run.name}`;
    place.replaceChildren(...parts(run).filter(Boolean));
  } catch (error) {
    $("#run-title").textContent = "Run";
    place.replaceChildren(make("p", { class: "fault" }, error.message));
  }
}

function parts(run) {
  const config = { title: "Settings of the latest session, by the log", heads: [], right: [false, false], rows: run.config ?? [] };
  return [
    run.fault ? make("p", { class: "fault" }, run.fault) : null,
    run.lines.length ? list(run.lines) : null,
    part("Samples", run.samples?.length ? make("div", {}, ...run.samples.toReversed().map(sample)) : null),
    part("Gold", run.gold?.length ? make("ul", { class: "gold" }, ...run.gold.toReversed().map((mark) =>
      make("li", {}, make("span", { "aria-hidden": "true" }, mark.kind === "gold" ? "★ " : "× "), mark.text))) : null),
    part("Lineage", run.lineage.length ? make("ol", { class: "lineage" }, ...run.lineage.map((a) => make("li", {},
      make("strong", {}, a.name), ` step ${a.step.toLocaleString("en")}`, a.note ? ` (${a.note})` : "", ...a.commands.map((c) => make("pre", {}, c))))) : null),
    make("div", { class: "sections" }, ...run.sections.map(table), run.sections.length || !config.rows.length ? null : table(config)),
  ];
}

const part = (title, content) => content && make("section", {}, make("h3", {}, title), content);

function sample(event) {
  const rest = Object.entries(event).filter(([name]) => ["prompt", "text"].includes(name));
  return make("figure", { class: "sample" }, make("figcaption", {}, `step ${event.iter}`),
    make("pre", {}, ...rest.map(([name, value]) => make("span", { class: name }, value))));
}
