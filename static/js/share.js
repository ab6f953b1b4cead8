// The link that "Freeze and share" makes is copied as it arrives: the click on the button is the person's word for it.
import { say } from "./copy.js";

document.addEventListener("htmx:afterSwap", async () => {
  const field = document.querySelector("[data-copy-now]");
  if (!field) return;
  delete field.dataset.copyNow;
  field.focus();
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    const button = field.parentElement.querySelector("[data-copy]");
    if (button) button.dataset.copied = "";
    say("The link is copied.");
  } catch {
    say("The link is there; copy it by hand."); // the browser does not let a page write: it is selected already
  }
});
