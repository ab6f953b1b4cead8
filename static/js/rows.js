// The cursor of a table whose rows are features: aria-current marks the row, and its link has the focus.
const ROWS = "tr[data-feature]";

export const rows = () => [...document.querySelectorAll(ROWS)];

export function rowOfCursor() {
  return document.querySelector(`${ROWS}[aria-current]`);
}

export function putCursor(row) {
  for (const other of rows()) if (other !== row) other.removeAttribute("aria-current");
  if (!row) return;
  row.setAttribute("aria-current", "true");
  row.querySelector("a")?.focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

export function moveCursor(step) {
  const all = rows();
  const now = all.indexOf(rowOfCursor());
  const next = all[now < 0 ? (step > 0 ? 0 : all.length - 1) : now + step];
  if (next) return putCursor(next);
  document.querySelector(step > 0 ? "#page-next" : "#page-previous")?.focus();
}

// A table that is swapped keeps its cursor, if the row is still there, and the focus, if it was in the row.
let kept = null;
document.addEventListener("htmx:beforeSwap", () => {
  const row = rowOfCursor();
  kept = row && { feature: row.dataset.feature, focus: row.contains(document.activeElement) };
});
document.addEventListener("htmx:afterSettle", () => {
  if (!kept || rowOfCursor()) return;
  const row = rows().find((other) => other.dataset.feature === kept.feature);
  row?.setAttribute("aria-current", "true");
  if (row && kept.focus && document.activeElement === document.body) row.querySelector("a").focus();
});

// Whoever goes to a row with the mouse or the tab key has the cursor there.
document.addEventListener("focusin", (event) => {
  const row = event.target.closest?.(ROWS);
  if (!row || row.hasAttribute("aria-current")) return;
  for (const other of rows()) other.removeAttribute("aria-current");
  row.setAttribute("aria-current", "true");
});
