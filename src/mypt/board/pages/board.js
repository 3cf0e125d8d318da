// The page: what is chosen, which view is seen, and news from the board as they come.

import { Charts } from "./charts.js";
import { $, ask } from "./dom.js";
import { compare, show } from "./pages.js";
import { RunsTable } from "./table.js";
import { themes } from "./themes.js";

const FIRST = 3;
const VIEWS = ["charts", "compare", "run"];
const chosen = new Set();
const charts = new Charts(chosen, () => runs.rows);
const runs = new RunsTable(chosen, () => { charts.refresh(); if (view() === "compare") compare([...chosen]); });
charts.onAway = (id) => { chosen.delete(id); runs.choose(); };

const view = () => { const name = location.hash.slice(1).split("/")[0]; return VIEWS.includes(name) ? name : "charts"; };
const runOf = () => location.hash.startsWith("#run/") ? location.hash.slice(5) : null;

function turned() {
  for (const name of VIEWS) $(`#${name}`).hidden = view() !== name;
  for (const link of document.querySelectorAll(".views a")) {
    if (link.getAttribute("href").slice(1).split("/")[0] === view()) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (view() === "compare") compare([...chosen]);
  if (runOf()) { $("#run-link").hidden = false; $("#run-link").href = location.hash; show(runOf()); }
  if (view() === "charts") charts.resized();
}

function listen(since) {
  const news = new EventSource(`api/events?since=${since}`);
  news.onopen = () => { $("#live").textContent = "live"; $("#live").dataset.state = "live"; };
  news.onerror = () => { $("#live").textContent = "not connected; trying again"; $("#live").dataset.state = "lost"; };
  news.onmessage = ({ data }) => {
    const { runs: rows, gone } = JSON.parse(data);
    gone.forEach((id) => chosen.delete(id));
    runs.update(rows, gone);
    if (gone.length || rows.some((row) => chosen.has(row.id))) charts.refresh();
    if (view() === "run" && rows.some((row) => row.id === runOf())) show(runOf());
  };
}

$("#again").addEventListener("click", () => compare([...chosen]));
addEventListener("hashchange", turned);

const { version, folder, runs: rows } = await ask("api/runs");
$("#folder").textContent = folder;
const drawable = rows.filter((row) => row.has_log).sort((a, b) => (b.last_word ?? "").localeCompare(a.last_word ?? ""));
const first = drawable.filter((row) => row.state === "running");
for (const row of (first.length ? first : drawable).slice(0, FIRST)) chosen.add(row.id);
runs.update(rows, []);
themes(() => charts.draw());
turned();
charts.refresh();
listen(version);
