// The table of runs: filtered, sorted, and chosen from.

import { $, make } from "./dom.js";
import { count, duration, loss, size, whole } from "./units.js";

const STATES = {
  running: "▶", complete: "✓", stopped: "■", crashed: "✕", unfinished: "…", imported: "⇥", damaged: "!",
};
const progress = (row) => row.step !== null && row.max_iters ? Math.min(1, row.step / row.max_iters) : null;

const COLUMNS = [
  { name: "name", value: (r) => r.name },
  { name: "state", value: (r) => Object.keys(STATES).indexOf(r.state) },
  { name: "step", value: (r) => r.step, shown: (r) => whole(r.step), down: true },
  { name: "progress", value: progress, down: true },
  { name: "ETA", value: (r) => r.eta_s, shown: (r) => duration(r.eta_s) },
  { name: "val", value: (r) => r.val, shown: (r) => loss(r.val) },
  { name: "best val", value: (r) => r.best_val, shown: (r) => loss(r.best_val) },
  { name: "bpb", value: (r) => r.bpb, shown: (r) => loss(r.bpb) },
  { name: "tokens/s", value: (r) => r.tokens_per_sec, shown: (r) => count(r.tokens_per_sec), down: true },
  { name: "size", value: (r) => r.bytes, shown: (r) => size(r.bytes), down: true },
  { name: "last word", value: (r) => r.last_word, shown: (r) => r.last_word ? r.last_word.slice(5, 16).replace("T", " ") : "–", down: true },
];

export class RunsTable {
  constructor(chosen, onChoice) {
    Object.assign(this, { rows: new Map(), lines: new Map(), chosen, onChoice, sort: COLUMNS.at(-1), down: true });
    $("#table thead tr").append(make("th", { scope: "col" }, make("span", { class: "unseen" }, "chosen")),
      ...COLUMNS.map((column) => this.head(column)));
    for (const column of COLUMNS) $("#sorting").append(make("option", {}, column.name));
    $("#sorting").addEventListener("change", (e) => this.sortBy(COLUMNS[e.target.selectedIndex]));
    $("#filter").addEventListener("input", () => this.arrange());
    $("#none").addEventListener("click", () => { this.chosen.clear(); this.choose(); });
    this.arrange();
  }

  head(column) {
    column.head = make("th", { scope: "col", class: `c-${column.name.replace(/\W/g, "")}` },
      make("button", { type: "button", onclick: () => this.sortBy(column) }, column.name));
    return column.head;
  }

  sortBy(column) {
    this.down = this.sort === column ? !this.down : Boolean(column.down);
    this.sort = column;
    this.arrange();
  }

  update(rows, gone) {
    for (const row of rows) {
      this.rows.set(row.id, row);
      const line = this.line(row);
      const held = this.lines.get(row.id);
      // The box and the name stay where they are: what is taken out and put back loses the focus.
      if (held) { while (held.children[2]) held.children[2].remove(); held.append(...[...line.children].slice(2)); held.className = line.className; }
      else this.lines.set(row.id, line);
    }
    for (const id of gone) { this.rows.delete(id); this.lines.get(id)?.remove(); this.lines.delete(id); }
    this.arrange();
  }

  line(row) {
    const box = make("input", {
      type: "checkbox", checked: this.chosen.has(row.id), "aria-label": `Draw ${row.name}`,
      onchange: (e) => { this.chosen[e.target.checked ? "add" : "delete"](row.id); this.choose(); },
    });
    const share = progress(row);
    const cells = COLUMNS.slice(2).map((column) => make("td", { "data-label": column.name, class: `right c-${column.name.replace(/\W/g, "")}` },
      column.name !== "progress" ? column.shown(row)
        : share === null ? "–" : make("span", { class: "progress" },
          make("progress", { value: share, max: 1, "aria-label": `progress of ${row.name}` }), `${Math.floor(share * 100)}%`)));
    return make("tr", { "data-run": row.id, class: row.state },
      make("td", { class: "box" }, box),
      make("th", { scope: "row", class: "c-name" }, make("a", { href: `#run/${row.id}` }, row.name),
        ...row.tags.map((tag) => make("span", { class: "tag" }, tag))),
      make("td", { "data-label": "state", class: "c-state", title: row.why ?? "" },
        make("span", { class: "glyph", "aria-hidden": "true" }, STATES[row.state] ?? "?"), row.state,
        row.why && row.state !== "running" ? make("small", {}, row.why.length < 20 ? row.why : "") : null),
      ...cells);
  }

  choose() {
    for (const [id, line] of this.lines) line.querySelector("input").checked = this.chosen.has(id);
    this.onChoice();
  }

  arrange() {
    const words = $("#filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (row) => words.every((word) => [row.name, row.state, ...row.tags].some((text) => text.toLowerCase().includes(word)));
    const value = this.sort.value;
    const order = [...this.rows.values()].filter(fits).sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      const first = typeof x === "string" ? x.localeCompare(y) : x - y;
      return (this.down ? -first : first) || a.name.localeCompare(b.name);
    });
    const body = $("#table tbody");
    const lines = order.map((row) => this.lines.get(row.id));
    if (lines.length !== body.children.length || lines.some((line, i) => line !== body.children[i])) {
      const focused = document.activeElement;
      body.replaceChildren(...lines);
      if (body.contains(focused)) focused.focus({ preventScroll: true });
    }
    for (const column of COLUMNS) {
      if (column === this.sort) column.head.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else column.head.removeAttribute("aria-sort");
    }
    $("#sorting").selectedIndex = COLUMNS.indexOf(this.sort);
    const all = this.rows.size;
    $("#counted").textContent = order.length === all ? `${all} run${all === 1 ? "" : "s"}` : `${order.length} of ${all} runs`;
    $("#empty").hidden = all > 0;
    $("#table").hidden = all === 0;
  }
}
