// Keys without a modifier. An element says data-key, and data-key-help says what it does: it is pressed, opened or
// focused. Inside a row, data-row-key is the key of the row that the cursor is on. ? shows what the page at hand has.
import { rowOfCursor } from "./rows.js";

const ALWAYS = [
  { key: "g", find: "#goto", help: "go to a feature, an SAE or a label" },
  { key: "/", find: "[data-key-search]", help: "search" },
  { key: "/", find: "#goto", help: "search" },
  { key: "j", find: "a[rel=next]", help: "next" },
  { key: "k", find: "a[rel=prev]", help: "previous" },
];
const more = []; // of other modules: { key, help, when(), run() }; without run, the browser does it by itself

export function addKeys(...keys) {
  more.push(...keys);
}

export function isTyping(target) {
  if (target.type === "checkbox" || target.type === "radio") return false;
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}

const isSeen = (element) => element.checkVisibility() && !element.disabled;

function inRow(key) {
  const row = rowOfCursor();
  return row && [...row.querySelectorAll("[data-row-key]")].find((e) => e.dataset.rowKey === key && isSeen(e));
}

// The last one wins: what was said last stands last in the page.
function onPage(key) {
  return [...document.querySelectorAll("[data-key]")].filter((e) => e.dataset.key === key && isSeen(e)).at(-1);
}

// The first of its entries that the page has.
function always(key) {
  const targets = ALWAYS.filter((entry) => entry.key === key).map((entry) => document.querySelector(entry.find));
  return targets.find((target) => target && isSeen(target));
}

function press(element) {
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName)) {
    element.focus();
    element.select?.();
    return;
  }
  element.click();
  const opened = element.tagName === "SUMMARY" && element.parentElement.open;
  if (opened) press(element.parentElement.querySelector("input:not([type=hidden]), textarea, select, button, a") ?? element);
}

export function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.key === "Escape") return leave(event);
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  if (event.key === "?") return showHelp(event);
  const own = more.find((entry) => entry.key === event.key && entry.run && entry.when());
  const element = own ? null : inRow(event.key) ?? onPage(event.key) ?? always(event.key);
  if (!own && !element) return;
  event.preventDefault();
  if (own) own.run();
  else press(element);
}

// Escape goes one step back: out of a field, and with it out of what had opened.
function leave(event) {
  const opened = event.target.closest?.("details[open]");
  if (opened) {
    opened.open = false;
    opened.querySelector("summary").focus();
  } else if (isTyping(event.target)) {
    event.preventDefault(); // a browser would empty a search box
    const row = rowOfCursor();
    event.target.blur();
    row?.querySelector("a")?.focus();
  }
}

function known() {
  const marked = [...document.querySelectorAll("[data-key]")].filter(isSeen);
  const row = rowOfCursor() ?? document.querySelector("tr[data-feature]");
  const entries = [
    ...ALWAYS.filter((entry) => always(entry.key)),
    ...more.filter((entry) => entry.when()),
    ...(row ? [...row.querySelectorAll("[data-row-key]")] : []).map((e) => ({ key: e.dataset.rowKey, help: e.dataset.keyHelp })),
    ...hinted(),
    ...marked.map((e) => ({ key: e.dataset.key, help: e.dataset.keyHelp })),
    { key: "?", help: "these keys" },
    { key: "Esc", help: "leave a field, close what is open" },
  ];
  return new Map(entries.filter((entry) => entry.help).map((entry) => [entry.key, entry.help]));
}

// The bar for a selection is hidden until a row is chosen; its keys choose the row of the cursor themselves.
function hinted() {
  return [...document.querySelectorAll("#selection [data-key]")].map((e) => ({ key: e.dataset.key, help: e.dataset.keyHelp }));
}

function showHelp(event) {
  event.preventDefault();
  const dialog = document.createElement("dialog");
  dialog.className = "key-help";
  dialog.setAttribute("aria-label", "Keys of this page");
  const list = document.createElement("dl");
  for (const [key, help] of known()) {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
    text.textContent = help;
    list.append(term, text);
  }
  const heading = Object.assign(document.createElement("h2"), { textContent: "Keys of this page" });
  const close = Object.assign(document.createElement("button"), { textContent: "Close", autofocus: true });
  close.addEventListener("click", () => dialog.close());
  dialog.append(heading, list, close);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (e) => e.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}
