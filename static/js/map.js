// The map of an SAE's features: what is under the pointer, what is chosen, and the list of it below.
import { addKeys } from "./keys.js";
import { WAYS, writeKey } from "./map/colours.js";
import { Drag } from "./map/drag.js";
import { Plot } from "./map/plot.js";
import { bytesOf, decoded, densest, densityAt, inside, oneIn } from "./map/points.js";

const place = document.querySelector("#map");
const tip = document.querySelector("#map-tip");
const said = document.querySelector("#map-said");
const json = (id) => JSON.parse(document.getElementById(id).textContent);
const clusters = json("map-clusters");
const nameOf = new Map(clusters.map((cluster) => [cluster.number, cluster.name]));
const labels = new Map(); // of features that the pointer has been on
const count = (n) => `${n.toLocaleString("en")} feature${n === 1 ? "" : "s"}`;

function say(text) {
  said.textContent = text;
}

async function paint(plot) {
  const by = document.querySelector("#map-colour").value;
  const kinds = by === "kind" ? new Uint8Array(await bytesOf(place.dataset.kinds)) : null;
  const way = WAYS[by](plot.points, kinds, json("map-kinds"));
  writeKey(document.querySelector("#map-key"), way, plot.group(way));
  plot.draw();
}

// Without a title the list below is left as it is: it has been asked for already.
async function choose(plot, indexes, title, more = {}) {
  plot.light(indexes);
  plot.draw();
  if (!title) return;
  const features = densest(plot.points, indexes, Number(place.dataset.most));
  await htmx.ajax("POST", place.dataset.chosen, {
    target: "#chosen",
    swap: "innerHTML",
    values: { features: features.join(","), total: indexes.length, title, ...more },
  });
}

function clear(plot) {
  choose(plot, []);
  document.querySelector("#chosen").replaceChildren();
  say("Nothing is chosen.");
}

function chooseCluster(plot, number) {
  const members = [...plot.points.cluster.keys()].filter((i) => plot.points.cluster[i] === number);
  choose(plot, members);
  say(`Cluster ${number}, ${nameOf.get(number)}: ${count(members.length)}.`);
}

// The label comes from the server, once the pointer rests.
let resting = null;
let shown = -1;
function hover(plot, i, left, top) {
  if (i !== shown) {
    const facts = [oneIn(densityAt(plot.points, i)), nameOf.get(plot.points.cluster[i])].filter(Boolean);
    const [head, label, foot] = ["b", "span", "small"].map((tag) => document.createElement(tag));
    head.textContent = i;
    foot.textContent = facts.join(" · ");
    tip.replaceChildren(head, " ", label, foot);
    clearTimeout(resting);
    if (labels.has(i)) label.innerHTML = labels.get(i);
    else resting = setTimeout(() => fetchLabel(i, label), 60);
  }
  shown = i;
  tip.hidden = false;
  place.classList.add("on-point");
  tip.style.left = `${Math.max(4, Math.min(left + 14, place.clientWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${top + 14 + tip.offsetHeight > place.clientHeight ? top - tip.offsetHeight - 10 : top + 14}px`;
}

function leave() {
  clearTimeout(resting);
  shown = -1;
  tip.hidden = true;
  place.classList.remove("on-point");
}

async function fetchLabel(i, element) {
  const answer = await fetch(`${place.dataset.label}?index=${i}`);
  if (!answer.ok) return;
  labels.set(i, await answer.text()); // a fragment of our own, escaped by the server
  element.innerHTML = labels.get(i);
}

async function search(plot, form) {
  const q = form.elements.q.value.trim();
  if (!q) return clear(plot);
  say(`Looking for “${q}” …`);
  const address = new URL(form.dataset.matches, location.href);
  address.searchParams.set("q", q);
  const answer = await fetch(address);
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) return say(found.fault ?? `The search failed: the server answered ${answer.status}.`);
  const n = found.indexes.length;
  say(n ? `Matches of “${q}”: ${count(n)}${found.capped ? ", and there may be more" : ""}.` : `Nothing matches “${q}”.`);
  return choose(plot, found.indexes, `Matches of “${q}”`, { q });
}

function open(i, event) {
  const address = `${place.dataset.open}${i}/${place.dataset.query}`;
  if (event.ctrlKey || event.metaKey) window.open(address, "_blank", "noopener");
  else location.assign(address);
}

function onPointer(plot) {
  const enclose = (corners) => {
    const found = inside(plot.points, corners);
    say(`Inside: ${count(found.length)}.`);
    choose(plot, found, drag.mode === "lasso" ? "Inside the lasso" : "Inside the box");
  };
  const drag = new Drag(plot, { hover: (i, left, top) => hover(plot, i, left, top), leave, open, enclose });
  for (const radio of document.querySelectorAll("[name=drag]")) {
    radio.addEventListener("change", () => (drag.mode = place.dataset.drag = radio.value));
    if (radio.checked) drag.mode = place.dataset.drag = radio.value;
  }
}

function onControls(plot) {
  document.querySelector("#map-colour").addEventListener("change", () => paint(plot));
  document.querySelector("#map-reset").addEventListener("click", () => show(plot, (view) => view.reset()));
  document.querySelector(".map-search").addEventListener("submit", (event) => {
    event.preventDefault();
    search(plot, event.target).catch((error) => say(`The search failed. ${error.message}`));
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-cluster]");
    if (link && !event.ctrlKey && !event.metaKey) chooseCluster(plot, Number(link.dataset.cluster));
    if (event.target.closest("#chosen [data-clear]")) clear(plot);
  });
  document.addEventListener("themechange", () => paint(plot));
}

function show(plot, change) {
  change(plot.view);
  plot.draw();
}

function onKeys(plot) {
  const step = 80;
  const moves = {
    ArrowLeft: (view) => view.moveBy(step, 0),
    ArrowRight: (view) => view.moveBy(-step, 0),
    ArrowUp: (view) => view.moveBy(0, step),
    ArrowDown: (view) => view.moveBy(0, -step),
    "+": (view) => view.zoomBy(1.4),
    "=": (view) => view.zoomBy(1.4),
    "-": (view) => view.zoomBy(1 / 1.4),
    0: (view) => view.reset(),
  };
  place.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !moves[event.key]) return;
    event.preventDefault();
    show(plot, moves[event.key]);
  });
  addKeys({ key: "arrows, + − 0", help: "move and zoom the map, while it has the focus; 0 shows all of it", when: () => true });
}

async function start() {
  const plot = new Plot(place, decoded(await bytesOf(place.dataset.points)), clusters);
  await paint(plot);
  onPointer(plot);
  onControls(plot);
  onKeys(plot);
  place.dataset.ready = "";
}

start().catch((error) => say(`The map could not be drawn. ${error.message}`));
