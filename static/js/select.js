// Rows that are chosen, with the mouse or with x, and the bar that acts on them. Without a choice, it acts on the row of
// the cursor.
import { addKeys, isTyping } from "./keys.js";
import { moveCursor, putCursor, rowOfCursor, rows } from "./rows.js";

const form = () => document.querySelector("#selection:not(.still)");
const tick = (row) => row.querySelector("input[type=checkbox][name=feature]");
const chosen = () => rows().filter((row) => tick(row)?.checked);
let anchor = null; // where a range begins
let alone = null; // the row that was chosen for one action only

function say(text) {
  document.querySelector("#heard").textContent = text;
}

function update() {
  const bar = form();
  if (!bar) return;
  const n = chosen().length;
  bar.toggleAttribute("data-some", n > 0);
  const name = alone && n === 1 ? `Feature ${alone.dataset.feature.split("/").at(-1)}` : `${n} selected`;
  bar.querySelector("[data-count]").textContent = name;
}

function choose(row, on) {
  tick(row).checked = on;
  alone = null;
  update();
}

function toggle() {
  const row = rowOfCursor();
  choose(row, !tick(row).checked);
  anchor = row;
  say(`${tick(row).checked ? "Selected" : "Not selected"}: ${row.dataset.feature}. ${chosen().length} selected.`);
}

function range() {
  const all = rows();
  const [from, to] = [all.indexOf(anchor ?? rowOfCursor()), all.indexOf(rowOfCursor())].sort((a, b) => a - b);
  for (const row of all.slice(Math.max(from, 0), to + 1)) choose(row, true);
  say(`${chosen().length} selected.`);
}

function clear() {
  for (const row of chosen()) tick(row).checked = false;
  alone = anchor = null;
  update();
}

const hasCursor = () => Boolean(rowOfCursor() && form());
addKeys(
  { key: "j", help: "next row", when: () => rows().length > 0, run: () => moveCursor(1) },
  { key: "k", help: "previous row", when: () => rows().length > 0, run: () => moveCursor(-1) },
  { key: "Enter", help: "open the row", when: () => rows().length > 0 },
  { key: "x", help: "select the row", when: hasCursor, run: toggle },
  { key: "X", help: "select from the last selected row to this one", when: hasCursor, run: range },
);

// Before keys.js looks for what a key presses: the bar is seen only while something is chosen.
document.addEventListener(
  "keydown",
  (event) => {
    const bar = form();
    if (!bar || !rowOfCursor() || chosen().length || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target)) return;
    if (!bar.querySelector(`[data-key="${CSS.escape(event.key)}"]`)) return;
    alone = rowOfCursor();
    tick(alone).checked = true;
    update();
  },
  true,
);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]") && (alone || !isTyping(event.target))) clear();
  if (event.key === "Enter" && event.target.matches("tr[data-feature] .pick input")) {
    event.preventDefault(); // it would send the form
    rowOfCursor()?.querySelector("a").click();
  }
  // Enter in a field means the button beside it.
  if (event.key === "Enter" && event.target.matches("#selection .group input")) {
    event.preventDefault();
    event.target.parentElement.querySelector("button").click();
  }
});

document.addEventListener("change", (event) => {
  if (!event.target.matches("input[name=feature][form=selection]")) return;
  anchor = event.target.closest("tr");
  alone = null;
  update();
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-clear]")) clear();
});

// What was sent, so that an answer takes back that and nothing that was ticked or typed since.
let sent = null;
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target !== form()) return;
  const fields = [...form().querySelectorAll(".group input")].map((field) => [field, field.value]);
  sent = { rows: chosen(), fields };
});

// Done: the cursor goes to the row behind the last one, if it was left where it was.
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.target !== form() || !sent || !(event.detail.xhr.status < 400)) return;
  const { rows: done, fields } = sent;
  const last = done.at(-1);
  const waited = form().contains(document.activeElement) && fields.every(([field, value]) => field.value === value);
  for (const [field, value] of fields) if (field.value === value) field.value = "";
  for (const row of done) if (row.isConnected) tick(row).checked = false;
  sent = alone = anchor = null;
  update();
  const all = rows();
  if (waited && last?.isConnected) putCursor(all[Math.min(all.indexOf(last) + 1, all.length - 1)]);
});
document.addEventListener("htmx:afterSettle", update);
window.addEventListener("pageshow", update);
update();
