// One-letter keys: g goes to the box in the header, / to the page's search, j and k to the next and previous feature.
const TARGETS = { g: "#goto", "/": "[data-key-search]", j: "a[rel=next]", k: "a[rel=prev]" };

function isTyping(target) {
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}

export function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  const target = document.querySelector(TARGETS[event.key] ?? "not-a-key") ?? (event.key === "/" && document.querySelector("#goto"));
  if (!target) return;
  event.preventDefault();
  if (target.tagName === "A") target.click();
  else target.select();
}
