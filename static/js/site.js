import { onCopy } from "./copy.js";
import "./drafts.js";
import { onKey } from "./keys.js";
import "./pops.js";
import "./select.js";
import "./share.js";
import { themeButton } from "./theme.js";
import "./toast.js";
import { onTokenFocus, onTokenKey } from "./tokens.js";

themeButton(document.querySelector("#theme"));
document.addEventListener("keydown", onKey);
document.addEventListener("keydown", onTokenKey);
document.addEventListener("focusin", onTokenFocus);

document.addEventListener("click", onCopy);

// A control whose change reloads the page by itself still has its button where there is no JavaScript.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});
// What was left empty stays out of the address.
document.addEventListener("formdata", (event) => {
  if (!event.target.matches("[data-lean]")) return;
  for (const [name, value] of [...event.formData]) if (value === "" || (name === "state" && value === "all")) event.formData.delete(name);
});
