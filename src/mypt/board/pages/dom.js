// Makes elements. Texts of runs become text nodes alone, and never markup.

export const $ = (selector) => document.querySelector(selector);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export async function ask(path, parameters = []) {
  const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`);
  const content = await answer.json();
  if (!answer.ok) throw new Error(`${content.error} ${content.todo}`);
  return content;
}

export function table({ title, heads, right, rows }) {
  const cells = (row, tag) => row.map((cell, i) =>
    make(i ? tag : "th", { class: right[i] ? "right" : "", ...(i ? {} : { scope: tag === "th" ? "col" : "row" }) }, cell));
  return make("div", { class: "scroll" }, make("table", { class: "plain" },
    title ? make("caption", {}, title) : null,
    heads.length ? make("thead", {}, make("tr", {}, ...cells(heads, "th"))) : null,
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row, "td"))))));
}

export const list = (lines) => make("ul", { class: "lines" }, ...lines.map((line) => make("li", {}, line)));
