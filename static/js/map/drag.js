// Pointers on the map: moving and pinching it, or drawing an outline around features; and what is under a pointer.
const STILL = 4; // pixels that a press may slip and be a press all the same

export class Drag {
  // `on` has hover(index, left, top), leave(), open(index, event) and enclose(corners), in units of the map.
  constructor(plot, on) {
    Object.assign(this, { plot, on, mode: "pan", pointers: new Map() });
    const { place } = plot;
    place.addEventListener("pointerdown", (event) => this.down(event));
    place.addEventListener("pointermove", (event) => this.move(event));
    place.addEventListener("pointerup", (event) => this.up(event));
    place.addEventListener("pointercancel", (event) => this.end(event));
    place.addEventListener("pointerleave", () => on.leave());
    place.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  at(event) {
    const frame = this.plot.place.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  down(event) {
    if (event.button) return;
    this.plot.place.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.at(event));
    this.moved = this.pointers.size > 1;
    this.corners = [this.at(event)];
  }

  move(event) {
    const [left, top] = this.at(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) return this.hover(left, top);
    this.moved ||= Math.hypot(left - this.corners[0][0], top - this.corners[0][1]) > STILL;
    if (!this.moved) return;
    this.on.leave();
    if (this.pointers.size > 1) this.pinch(event, left, top);
    else if (this.mode === "pan") this.plot.view.moveBy(left - before[0], top - before[1]);
    else this.stretch(left, top);
    this.pointers.set(event.pointerId, [left, top]);
    this.plot.draw();
  }

  stretch(left, top) {
    const [[first, high]] = this.corners;
    if (this.mode === "lasso") this.corners.push([left, top]);
    else this.corners = [[first, high], [left, high], [left, top], [first, top]];
    this.plot.showOutline(this.corners);
  }

  pinch(event, left, top) {
    const [mine, other] = [this.pointers.get(event.pointerId), [...this.pointers].find(([id]) => id !== event.pointerId)[1]];
    const far = (from) => Math.hypot(from[0] - other[0], from[1] - other[1]) || 1;
    this.plot.view.zoomBy(far([left, top]) / far(mine), (left + other[0]) / 2, (top + other[1]) / 2);
  }

  up(event) {
    if (!this.pointers.has(event.pointerId)) return;
    const [left, top] = this.at(event);
    if (!this.moved) {
      const index = this.plot.at(left, top);
      if (index >= 0) this.on.open(index, event);
    } else if (this.mode !== "pan" && this.pointers.size === 1 && this.corners.length > 2) {
      this.on.enclose(this.corners.map((corner) => this.plot.view.toMap(...corner)));
    }
    this.end(event);
  }

  end(event) {
    this.pointers.delete(event.pointerId);
    this.corners = [];
    this.plot.showOutline([]);
  }

  hover(left, top) {
    cancelAnimationFrame(this.looking);
    this.looking = requestAnimationFrame(() => {
      const index = this.plot.at(left, top);
      if (index < 0) this.on.leave();
      else this.on.hover(index, left, top);
    });
  }

  wheel(event) {
    event.preventDefault();
    const pixels = event.deltaMode ? event.deltaY * 16 : event.deltaY;
    this.plot.view.zoomBy(Math.exp(-pixels / 400), ...this.at(event));
    this.plot.draw();
  }
}
