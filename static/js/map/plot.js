// The map as it is seen: points, the names of the largest clusters, and the outline that is being drawn.
import { rgb } from "./colours.js";
import { layerOn } from "./layer.js";
import { View } from "./view.js";

const NAMED = 40; // of which those are seen that have room
const LETTERS = 28;
const NEAR = 12; // pixels

export class Plot {
  constructor(place, points, clusters) {
    Object.assign(this, { place, points, view: new View(reach(points.x), reach(points.y)) });
    this.canvas = add(place, "canvas");
    this.outline = add(place, "svg", "http://www.w3.org/2000/svg");
    this.path = add(this.outline, "path", "http://www.w3.org/2000/svg");
    this.layer = layerOn(this.canvas, points);
    this.names = clusters.slice(0, NAMED).map((cluster) => this.nameOf(cluster));
    this.size = points.n <= 2000 ? 9 : points.n <= 20000 ? 6 : points.n <= 150000 ? 4 : 3;
    this.light([]);
    new ResizeObserver(() => this.resize()).observe(place);
  }

  nameOf(cluster) {
    const [span, name] = [add(this.place, "span"), cluster.name.replace(/^around /, "")];
    span.className = "map-name";
    span.textContent = name.length > LETTERS ? `${name.slice(0, LETTERS - 1)}…` : name;
    return { cluster, span, width: span.offsetWidth, height: span.offsetHeight };
  }

  // How points are coloured; returns how many there are of each group.
  group(way) {
    const [group, counts] = [new Uint8Array(this.points.n), new Uint32Array(way.groups.length)];
    for (let i = 0; i < group.length; i++) counts[(group[i] = way.of(i))]++;
    this.layer.set("group", group);
    this.colours = way.groups.map(({ colour }) => rgb(colour));
    return counts;
  }

  light(indexes) {
    const lit = new Uint8Array(this.points.n);
    for (const i of indexes) lit[i] = 1;
    this.some = indexes.length > 0;
    this.layer.set("lit", lit);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.place;
    Object.assign(this.view, { width, height });
    [this.canvas.width, this.canvas.height] = [Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio)];
    this.draw();
  }

  draw() {
    if (this.due || !this.colours) return;
    this.due = requestAnimationFrame(() => {
      this.due = null;
      this.drawNow();
    });
  }

  drawNow() {
    const grown = this.size * Math.min(2.2, this.view.zoom ** 0.35);
    const accent = this.colours.map(() => rgb("accent"));
    const passes = [{ only: 0, size: grown, alpha: this.some ? 0.22 : 0.85, colours: this.colours }];
    if (this.some) passes.push({ only: 1, size: grown + 1.5, alpha: 1, colours: accent });
    this.layer.draw(this.view, passes);
    this.placeNames();
  }

  // A name that would lie on that of a larger cluster is left out; one at the edge is moved inside.
  placeNames() {
    const placed = [];
    for (const { cluster, span, width, height } of this.names) {
      const [x, top] = this.view.toScreen(cluster.x, cluster.y);
      const inside = Math.max(width / 2, Math.min(this.view.width - width / 2, x));
      const left = Math.abs(inside - x) < width / 2 ? inside : x;
      const free = placed.every(([l, y, w, h]) => Math.abs(l - left) > (w + width) / 2 || Math.abs(y - top) > (h + height) / 2);
      span.style.visibility = free ? "visible" : "hidden";
      if (!free) continue;
      placed.push([left, top, width, height]);
      span.style.translate = `${left - width / 2}px ${top - height / 2}px`;
    }
  }

  // The feature whose point is nearest to these pixels, if it is near enough; else -1.
  at(left, top) {
    const { x, y, n } = this.points;
    const [atX, atY] = this.view.toMap(left, top);
    let [found, best] = [-1, (NEAR / this.view.unit) ** 2];
    for (let i = 0; i < n; i++) {
      const far = (x[i] - atX) ** 2 + (y[i] - atY) ** 2;
      if (far < best) [found, best] = [i, far];
    }
    return found;
  }

  // `corners`: pixels.
  showOutline(corners) {
    this.path.setAttribute("d", corners.length ? `M${corners.map((corner) => corner.join(" ")).join("L")}Z` : "");
  }
}

function reach(values) {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
}

function add(place, tag, namespace = "http://www.w3.org/1999/xhtml") {
  const element = document.createElementNS(namespace, tag);
  element.setAttribute("aria-hidden", "true");
  return place.appendChild(element);
}
