// Buttons that copy: data-copy is the text itself, data-copy-from an address of JSON, of which data-copy-key takes a part.
async function textOf(button) {
  if (!button.dataset.copyFrom) return button.dataset.copy;
  const answer = await fetch(button.dataset.copyFrom, { headers: { Accept: "application/json" } });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail ?? `The server answered ${answer.status}.`);
  return JSON.stringify(button.dataset.copyKey ? found[button.dataset.copyKey] : found);
}

export function say(text) {
  const heard = document.querySelector("#heard");
  if (heard) heard.textContent = text;
}

export async function onCopy(event) {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (!button) return;
  event.preventDefault(); // a link that copies still opens where there is no JavaScript
  delete button.dataset.failed;
  try {
    await navigator.clipboard.writeText(await textOf(button));
    button.dataset.copied = "";
    say("Copied.");
    setTimeout(() => delete button.dataset.copied, 1200);
  } catch (error) {
    button.dataset.failed = error.message; // shown beside it
    say(error.message);
  }
}
