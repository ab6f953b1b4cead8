// Which part of the map is seen: (x, y) is in the middle, and `unit` pixels are one unit of the map. Its points reach from
// -wide to wide and from -high to high.
const MARGIN = 1.04;
const MOST = 400; // times as large as the whole map

export class View {
  constructor(wide, high) {
    Object.assign(this, { wide, high, x: 0, y: 0, zoom: 1, width: 1, height: 1 });
  }

  get unit() {
    return (this.zoom * Math.min(this.width / this.wide, this.height / this.high)) / 2 / MARGIN;
  }

  toScreen(x, y) {
    return [this.width / 2 + (x - this.x) * this.unit, this.height / 2 - (y - this.y) * this.unit];
  }

  toMap(left, top) {
    return [this.x + (left - this.width / 2) / this.unit, this.y - (top - this.height / 2) / this.unit];
  }

  moveBy(left, top) {
    this.x -= left / this.unit;
    this.y += top / this.unit;
    this.keepInside();
  }

  // What is at (left, top) stays there.
  zoomBy(factor, left = this.width / 2, top = this.height / 2) {
    const [x, y] = this.toMap(left, top);
    this.zoom = Math.min(MOST, Math.max(0.8, this.zoom * factor));
    const [nowX, nowY] = this.toMap(left, top);
    this.x += x - nowX;
    this.y += y - nowY;
    this.keepInside();
  }

  keepInside() {
    [this.x, this.y] = [this.x, this.y].map((value) => Math.min(1, Math.max(-1, value)));
  }

  reset() {
    Object.assign(this, { x: 0, y: 0, zoom: 1 });
  }
}
