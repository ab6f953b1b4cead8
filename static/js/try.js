// Try it: a refusal is an answer, too, and is shown where the answer would be; Ctrl and Enter send the text.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr } = event.detail;
  if (!target.closest("#try") || xhr.status < 400 || !xhr.getResponseHeader("Content-Type")?.startsWith("text/html")) return;
  if (xhr.status === 404) {
    target.closest(".trial")?.remove(); // it was taken back elsewhere: nothing is left to ask for
    return;
  }
  event.detail.shouldSwap = true;
  event.detail.isError = false;
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.id === "try-text") event.target.form.requestSubmit();
});
