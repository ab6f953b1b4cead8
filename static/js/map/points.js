// The points of a map as features/layouts.py packs them: x, y, cluster and density, one array after the other.
const LOG_LOW = -7;

export async function bytesOf(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
  return answer.arrayBuffer();
}

export function decoded(buffer) {
  const n = buffer.byteLength / 8;
  const [rawX, rawY] = [new Uint16Array(buffer, 0, n), new Uint16Array(buffer, 2 * n, n)];
  const [x, y] = [rawX, rawY].map((raw) => Float32Array.from(raw, (step) => step / 32767.5 - 1));
  return { n, rawX, rawY, x, y, cluster: new Int16Array(buffer, 4 * n, n), steps: new Uint16Array(buffer, 6 * n, n) };
}

// 0 for a feature that never fired.
export function densityAt(points, i) {
  return points.steps[i] && 10 ** (LOG_LOW * (1 - points.steps[i] / 65535));
}

export function logDensityAt(points, i) {
  return LOG_LOW * (1 - points.steps[i] / 65535);
}

export function oneIn(density) {
  if (!density) return "never fired";
  const every = 1 / density;
  return `1 in ${every >= 10 ? Math.round(every).toLocaleString("en") : every.toPrecision(2)} tokens`;
}

// The features inside an outline, by the even-odd rule: how often a ray to the right crosses it.
export function inside(points, corners) {
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const found = [];
  for (let i = 0; i < points.n; i++) {
    const [x, y] = [points.x[i], points.y[i]];
    if (x < left || x > right || y < low || y > high) continue;
    let odd = false;
    for (let a = 0, b = xs.length - 1; a < xs.length; b = a++) {
      if (ys[a] > y !== ys[b] > y && x < ((xs[b] - xs[a]) * (y - ys[a])) / (ys[b] - ys[a]) + xs[a]) odd = !odd;
    }
    if (odd) found.push(i);
  }
  return found;
}

// At most `most`, those that fire most often first.
export function densest(points, indexes, most) {
  const sorted = Uint32Array.from(indexes).sort((a, b) => points.steps[b] - points.steps[a] || a - b);
  return [...sorted.subarray(0, most)];
}
