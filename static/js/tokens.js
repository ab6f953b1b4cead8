// An example is one stop of the tab key; the arrow keys go from one firing token to the next inside it.
export function onTokenKey(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const mark = event.target.closest?.("[data-tip]");
  if (!step || !mark) return;
  const marks = [...mark.closest(".passage").querySelectorAll("[data-tip]")];
  const next = marks[marks.indexOf(mark) + step];
  if (!next) return;
  event.preventDefault();
  mark.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// Screen readers hear what the line under the example shows.
export function onTokenFocus(event) {
  const tip = event.target.closest?.("[data-tip]")?.dataset.tip;
  const heard = document.querySelector("#heard");
  if (tip && heard) heard.textContent = tip;
}
