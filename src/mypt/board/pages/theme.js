// Dark or light before anything is painted: what was chosen here, else what the system prefers.
"use strict";
{
  let chosen = null;
  try { chosen = localStorage.getItem("mypt-theme"); } catch { /* kept nowhere, then */ }
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}
