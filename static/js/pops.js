// The small forms that open under their buttons: one at a time, and the focus goes back to what opened them.
const POP = ".people-tools > details, details.share";
const OPEN = `:is(${POP})[open]`;

function closeOthers(but) {
  for (const other of document.querySelectorAll(OPEN)) if (other !== but) other.open = false;
}

document.addEventListener("toggle", (event) => event.target.matches?.(OPEN) && closeOthers(event.target), true);
document.addEventListener("click", (event) => {
  if (!event.target.closest(POP)) closeOthers(null);
});

// A form that was swapped away while it had the focus leaves it to what had opened it.
let opener = null;
document.addEventListener("htmx:beforeRequest", (event) => {
  opener = event.target.closest("details")?.querySelector("summary")?.id ?? null;
});
document.addEventListener("htmx:afterSettle", () => {
  if (opener && document.activeElement === document.body) document.getElementById(opener)?.focus();
});
