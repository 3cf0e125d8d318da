// The button that turns dark and light; theme.js has chosen before anything was painted.

import { $ } from "./dom.js";

export function themes(turned) {
  const turn = (theme) => {
    document.documentElement.dataset.theme = theme;
    $("#theme").textContent = theme === "dark" ? "Light" : "Dark";
    $("#theme").setAttribute("aria-label", `Switch to ${theme === "dark" ? "light" : "dark"} colours`);
    turned();
  };
  $("#theme").addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("mypt-theme", theme); } catch { /* for this page alone, then */ }
    turn(theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ({ matches }) => turn(matches ? "dark" : "light"));
  turn(document.documentElement.dataset.theme);
}
