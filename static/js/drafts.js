// An answer may replace forms besides the one that was sent: what is being typed in those is carried over.
const FIELDS = ":is(#people-head, #people, #items) :is(input:not([type=hidden], [type=checkbox]), textarea)[id]";
let drafts = [];

document.addEventListener("htmx:beforeSwap", (event) => {
  const sent = event.detail.requestConfig.elt;
  drafts = [...document.querySelectorAll(FIELDS)]
    .filter((field) => !(sent.matches("form") && sent.contains(field)))
    .map((field) => ({
      field,
      typed: field.value !== field.defaultValue,
      focus: field === document.activeElement,
      span: [field.selectionStart, field.selectionEnd],
      open: field.closest("details")?.open,
    }))
    .filter(({ typed, focus }) => typed || focus);
});

// At once: the next key is on its way.
function carryOver() {
  for (const { field: old, typed, focus, span, open } of drafts.filter(({ field }) => !field.isConnected)) {
    const field = document.getElementById(old.id);
    if (!field) continue;
    if (typed) field.value = old.value;
    if (open) field.closest("details").open = true;
    if (!focus) continue;
    field.focus();
    field.setSelectionRange(...span);
  }
  drafts = drafts.filter(({ field }) => field.isConnected);
}
document.addEventListener("htmx:oobAfterSwap", carryOver);
document.addEventListener("htmx:afterSwap", carryOver);
