// What a point's colour says. Every way of colouring sorts the points into a few groups, each of one colour.
import { logDensityAt } from "./points.js";

export const HUES = 10;
const STEPS = 7;

// A colour of the style sheet in this theme: red, green and blue from 0 to 255.
export function rgb(name) {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(--${name})`;
  const pixel = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  pixel.fillStyle = getComputedStyle(probe).color;
  pixel.fillRect(0, 0, 1, 1);
  probe.remove();
  return [...pixel.getImageData(0, 0, 1, 1).data.subarray(0, 3)];
}

// Sevenths of the range of log density in which the features of this map lie.
function byDensity(points) {
  let [low, high] = [0, -Infinity];
  for (let i = 0; i < points.n; i++) {
    if (!points.steps[i]) continue;
    const log = logDensityAt(points, i);
    [low, high] = [Math.min(low, log), Math.max(high, log)];
  }
  const width = (high - low) / STEPS || 1;
  const percent = (log) => `${(100 * 10 ** log).toPrecision(2).replace(/\.?0+(?=e|$)/, "")} %`;
  const groups = [{ name: "never fired", colour: "map-none" }];
  for (let step = 0; step < STEPS; step++) groups.push({ name: percent(low + step * width), colour: `ramp-${step}` });
  const of = (i) => (points.steps[i] ? 1 + Math.min(STEPS - 1, Math.floor((logDensityAt(points, i) - low) / width)) : 0);
  return { groups, of, title: "density, from", ramp: true };
}

function byCluster(points) {
  const groups = [{ name: "in no cluster", colour: "map-none" }];
  for (let hue = 0; hue < HUES; hue++) groups.push({ name: "", colour: `hue-${hue}` });
  return { groups, of: (i) => (points.cluster[i] < 0 ? 0 : 1 + (points.cluster[i] % HUES)), title: "clusters, as in the list; ten colours come again" };
}

function byKind(points, kinds, names) {
  const colours = ["map-none", "hue-1", "hue-5", "hue-2"];
  const groups = names.map((name, i) => ({ name: name === "none" ? "no label" : `a ${name}`, colour: colours[i] ?? "map-none" }));
  return { groups, of: (i) => kinds[i], title: "label by" };
}

export const WAYS = { density: byDensity, cluster: byCluster, kind: byKind };

// The key under the map: a swatch and a word for each group that has points.
export function writeKey(place, way, counts) {
  place.replaceChildren();
  const title = place.appendChild(document.createElement("span"));
  title.textContent = way.title;
  title.className = "quiet";
  way.groups.forEach((group, number) => {
    if (!counts[number] || !group.name) return;
    const entry = place.appendChild(document.createElement("span"));
    const swatch = entry.appendChild(document.createElement("i"));
    swatch.className = "swatch";
    swatch.style.background = `var(--${group.colour})`;
    entry.append(` ${group.name}`);
    if (!way.ramp) entry.append(` (${counts[number].toLocaleString("en")})`);
  });
}
