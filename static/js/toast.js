// What was done, with its Undo, in a corner of the page until it is dismissed or something else was done.
const PARTS = new Set([403, 404, 409, 422]); // of these, an answer for htmx may hold a part of the page

function place(text) {
  const [toast, p] = [document.createElement("div"), document.createElement("p")];
  const close = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: "×" });
  toast.className = "toast bad";
  toast.setAttribute("role", "alert");
  close.dataset.dismiss = "";
  close.setAttribute("aria-label", "Dismiss");
  p.textContent = text;
  toast.append(p, close);
  document.querySelector("#toast")?.replaceChildren(toast);
}

document.addEventListener("click", (event) => {
  event.target.closest("[data-dismiss]")?.closest(".toast").remove();
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (!PARTS.has(xhr.status) || !event.detail.requestConfig.elt.matches("form[method=post]")) return;
  if (!/^\s*<!doctype/i.test(xhr.responseText)) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

// A page of its own, or none at all: nothing was swapped, so what was typed is still there.
document.addEventListener("htmx:responseError", (event) => {
  const { status, responseText } = event.detail.xhr;
  const page = new DOMParser().parseFromString(responseText, "text/html");
  const said = page.querySelector("[data-sentence], main p")?.textContent.trim();
  place(said || `The site answered ${status}. Nothing was changed.`);
});
document.addEventListener("htmx:sendError", () => {
  place("The site did not answer, so nothing was changed here. Try again.");
});

// Labels that changed, moved into the rows that show them. The button that was pressed may be gone by now, so the event
// may come from anywhere.
document.addEventListener("htmx:afterRequest", () => {
  for (const part of document.querySelectorAll("#changed > [data-for]")) {
    const row = document.querySelector(`tr[data-feature="${CSS.escape(part.dataset.for)}"]`);
    (row?.querySelector("[data-label]") ?? row?.querySelector(".labelled"))?.replaceChildren(...part.childNodes);
    part.remove();
  }
});
