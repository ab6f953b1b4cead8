// Sends the files of an SAE in pieces, and goes on where an upload stopped: the server says how much it has.
const box = document.querySelector("[data-upload]");
const find = (name) => box.querySelector(`[data-${name}]`);
const token = box.querySelector("[name=csrfmiddlewaretoken]").value;
const WAITS = [500, 1000, 2000, 4000, 8000]; // milliseconds before a piece that failed is tried again

let chosen = []; // {name, file}
let progress = null; // as the server tells it: url, state, piece, files
let address = box.dataset.continue ?? "";
let sending = null; // the AbortController of what is on its way

class Refused extends Error {}

function choose(list) {
  const all = [...list].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
  const isPart = ({ name }) => box.dataset.suffixes.split(",").some((end) => name.toLowerCase().endsWith(end)) && !/(^|\/)\./.test(name);
  chosen = all.filter(isPart);
  const left = all.length - chosen.length;
  say(left ? `${left} other file${left > 1 ? "s are" : " is"} left out: only ${box.dataset.suffixes.replaceAll(",", ", ")} belong to an SAE.` : "");
  fail("");
}

function size(bytes) {
  const units = ["bytes", "KB", "MB", "GB"];
  const step = Math.min(3, bytes ? Math.floor(Math.log(bytes) / Math.log(1024)) : 0);
  return `${(bytes / 1024 ** step).toLocaleString("en-GB", { maximumFractionDigits: step ? 1 : 0 })} ${units[step]}`;
}

function say(text) {
  find("said").textContent = text;
}

function fail(text) {
  find("fault").textContent = text;
  find("fault").hidden = !text;
}

function show(files) {
  const list = find("files");
  while (list.children.length > files.length) list.lastChild.remove();
  files.forEach((file, number) => {
    const row = list.querySelectorAll("li")[number] ?? list.appendChild(newRow(file));
    row.className = file.stored ? "whole" : "";
    row.querySelector(".upload-size").textContent = file.stored || !progress ? size(file.bytes) : `${size(file.received)} of ${size(file.bytes)}`;
    row.querySelector("progress").value = file.received;
  });
}

function newRow(file) {
  const row = document.createElement("li");
  const [name, amount] = ["upload-name", "upload-size quiet"].map((kind) => Object.assign(document.createElement("span"), { className: kind }));
  name.append(Object.assign(document.createElement("bdi"), { textContent: file.name }));
  const bar = Object.assign(document.createElement("progress"), { max: file.bytes, value: 0 });
  bar.setAttribute("aria-label", file.name);
  row.append(name, " ", amount, bar);
  return row;
}

async function ask(url, options = {}) {
  const headers = { "X-CSRFToken": token, Accept: "application/json", ...options.headers };
  const answer = await fetch(url, { ...options, headers, signal: sending.signal, redirect: "manual" });
  if (answer.type === "opaqueredirect") throw new Refused("You have been signed out: sign in again in another tab, then go on here.");
  const text = await answer.text();
  let told = {};
  try {
    told = JSON.parse(text);
  } catch {
    // A page of the server's, or of a proxy's.
  }
  if (answer.ok || answer.status === 409) return told;
  if (answer.status >= 500 && answer.status !== 507) throw new Error(`the server answered ${answer.status}`);
  throw new Refused(told.error ?? `The server refused this (${answer.status}): reload the page, sign in if it asks for it, and go on.`);
}

async function create() {
  const said = new FormData(box.querySelector("form"));
  const asked = Object.fromEntries(["layer", "hook", "k", "centred"].map((name) => [name, said.get(name) ?? ""]));
  const files = chosen.map(({ name, file }) => ({ name, bytes: file.size, modified: file.lastModified }));
  const told = await ask(box.dataset.create, { method: "POST", body: JSON.stringify({ ...asked, files }), headers: { "Content-Type": "application/json" } });
  history.replaceState(null, "", told.url); // a reload leads to the page on which the upload goes on
  address = `${told.url}files/`;
  return told;
}

// The file on this computer that is the server's, or a Refused.
function fileOf(wanted) {
  const found = chosen.find(({ name }) => name === wanted.name)?.file;
  if (!found) throw new Refused(`${wanted.name} is not among the chosen files.`);
  const changed = found.size !== wanted.bytes || (wanted.modified && found.lastModified !== wanted.modified);
  if (changed) throw new Refused(`${wanted.name} has changed since its upload began: delete this upload and begin another.`);
  return found;
}

async function sendAll() {
  for (const [number, wanted] of progress.files.entries()) {
    if (!wanted.stored) fileOf(wanted); // all are looked for before any is sent
    show(progress.files);
  }
  for (let number = 0; number < progress.files.length; number += 1) await sendFile(number);
}

async function sendFile(number) {
  for (let tries = 0; progress.state === "receiving" && !progress.files[number].stored; ) {
    const { received, bytes } = progress.files[number];
    const piece = fileOf(progress.files[number]).slice(received, Math.min(bytes, received + progress.piece));
    try {
      progress = await ask(`${address}${number}/?offset=${received}`, { method: "PUT", body: piece, headers: { "Content-Type": "application/octet-stream" } });
      tries = progress.files[number].received > received || progress.files[number].stored ? 0 : tries + 1;
      if (tries > WAITS.length) throw new Refused("Somebody else sends this file, too: wait until that ends, or close the other page.");
    } catch (error) {
      if (error instanceof Refused || sending.signal.aborted || tries >= WAITS.length) throw error;
      tries += 1;
    }
    show(progress.files);
    if (tries) await rest(WAITS[tries - 1]);
  }
}

function rest(milliseconds) {
  const { signal } = sending;
  return new Promise((done, stop) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      stop(new Error("paused"));
    });
  });
}

async function start() {
  if (!chosen.length) return fail("Choose a folder, or at least one file.");
  sending = new AbortController();
  const mine = sending;
  fail("");
  buttons("sending");
  say("Sending…");
  try {
    progress = address ? await ask(address) : await create();
    await sendAll();
    say("All of it is here.");
    window.removeEventListener("beforeunload", warn);
    location.assign(progress.url);
  } catch (error) {
    if (mine.signal.aborted) return say("Paused. What was sent stays for a week.");
    say("");
    fail(error instanceof Refused ? error.message : "The connection broke. What was sent stays: go on when the network is back.");
    buttons(address ? "stopped" : "");
  }
}

function buttons(now) {
  find("while-sending").hidden = !now;
  find("pause").hidden = now !== "sending";
  find("resume").hidden = now !== "stopped";
  if (find("send")) find("send").hidden = Boolean(now);
  for (const pick of box.querySelectorAll("[data-pick]")) pick.disabled = now === "sending";
  window[now === "sending" ? "addEventListener" : "removeEventListener"]("beforeunload", warn);
}

function warn(event) {
  event.preventDefault();
}

for (const pick of box.querySelectorAll("[data-pick]")) {
  pick.addEventListener("change", () => {
    for (const other of box.querySelectorAll("[data-pick]")) if (other !== pick) other.value = "";
    choose(pick.files);
    if (address) start();
    else show(chosen.map(({ name, file }) => ({ name, bytes: file.size, received: 0 })));
  });
}
for (const part of box.querySelectorAll("[data-folder], [data-or]")) part.hidden = false;
for (const pick of box.querySelectorAll("[required]")) pick.required = false; // either of the two will do
find("pause").addEventListener("click", () => {
  sending.abort();
  buttons("stopped");
});
find("resume").addEventListener("click", start);
box.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
