import { onKey } from "./keys.js";
import { themeButton } from "./theme.js";
import { onTokenFocus, onTokenKey } from "./tokens.js";

themeButton(document.querySelector("#theme"));
document.addEventListener("keydown", onKey);
document.addEventListener("keydown", onTokenKey);
document.addEventListener("focusin", onTokenFocus);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.dataset.copied = "";
  setTimeout(() => delete button.dataset.copied, 1200);
});

// A control whose change reloads the page by itself still has its button where there is no JavaScript.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});
// What was left empty stays out of the address.
document.addEventListener("formdata", (event) => {
  if (!event.target.matches("[data-lean]")) return;
  for (const [name, value] of [...event.formData]) if (value === "" || (name === "state" && value === "all")) event.formData.delete(name);
});

document.documentElement.classList.add("js");
