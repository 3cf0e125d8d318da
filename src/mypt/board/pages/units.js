// Figures as people read them, in the words that mypt has in a terminal.

export const count = (n) => n === null ? "–"
  : n >= 1e9 ? `${(n / 1e9).toPrecision(3)}B` : n >= 1e6 ? `${(n / 1e6).toPrecision(3)}M`
    : n >= 1e4 ? `${Math.round(n / 1e3)}K` : Math.round(n).toLocaleString("en");
export const whole = (n) => n === null ? "–" : n.toLocaleString("en");
export const loss = (n) => n === null ? "–" : n.toFixed(4);

export function size(n) {
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (n < 1000) return `${unit === "B" || n >= 100 ? Math.round(n) : n.toFixed(1)} ${unit}`;
    n /= 1000;
  }
  return `${n.toFixed(1)} TB`;
}

export function duration(s) {
  if (s === null) return "–";
  if (s < 60) return `${s < 10 && s % 1 ? s.toFixed(1) : Math.round(s)}s`;
  const [m, h] = [Math.round(s / 60), Math.round(s / 3600)];
  if (m < 60) return `${Math.floor(s / 60)}m ${String(Math.floor(s % 60)).padStart(2, "0")}s`;
  return h < 48 ? `${Math.floor(s / 3600)}h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}m` : `${(s / 86400).toFixed(1)}d`;
}
