// Coarse maps at full size: one matrix per axis, at half-pixel positions or at given centres, as in Python.

const SHARPNESS = -0.75; // of the cubic, as usual in bicubic resizing

function halfPixels(cells, size) {
  return Array.from({ length: cells }, (_, i) => ((i + 0.5) * size) / cells - 0.5);
}

function positions(centers, size) {
  const last = centers.length - 1;
  let i = 0;
  return Float64Array.from({ length: size }, (_, pixel) => {
    if (last === 0) return 0;
    while (i < last - 1 && centers[i + 1] <= pixel) i += 1;
    return i + (pixel - centers[i]) / (centers[i + 1] - centers[i]);
  });
}

// The cells that each pixel is made of, `width` of them, and their weights.
function tapsOf(centers, size, cubic) {
  const last = centers.length - 1, width = cubic ? 4 : 2, a = SHARPNESS;
  const cells = new Int32Array(size * width), weights = new Float32Array(size * width);
  const near = (d) => ((a + 2) * d - (a + 3)) * d * d + 1;
  const far = (d) => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  positions(centers, size).forEach((at, pixel) => {
    const place = cubic ? at : clamped(at, 0, last), base = Math.floor(place), t = place - base;
    const shares = cubic ? [far(t + 1), near(t), near(1 - t), far(2 - t)] : [1 - t, t];
    shares.forEach((weight, k) => {
      cells[pixel * width + k] = clamped(base + k - (cubic ? 1 : 0), 0, last);
      weights[pixel * width + k] = weight;
    });
  });
  return { cells, weights, width };
}

const lowest = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
const highest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);

// One target's map, of its own maximum: a slice for each frame, or the only one.
class Field {
  constructor(map, target, bytes) {
    [this.rows, this.columns] = map.cells;
    this.signed = map.signed[target];
    this.gain = map.gains[target];
    this.values = Float32Array.from(bytes, this.signed ? (byte) => (byte - 128) / 127 : (byte) => byte / 255);
    this.frames = this.values.length / (this.rows * this.columns);
    // On the scale that maps share, what is too strong for it has the last colour already on the coarse grid.
    this.shared = this.values.map((value) => clamped(value * this.gain, -1, 1));
    this.cubic = map.cubic;
    this.centers = map.centers;
    this.windows = map.windows;
    this.input = map.input;
    this.taps = {};
  }

  tapsFor(axis, size) {
    const key = `${axis} ${size}`;
    if (!this.taps[key]) {
      const cells = axis === 0 ? this.rows : this.columns, scale = size / this.input[axis];
      const at = this.centers ? this.centers[axis].map((c) => (c + 0.5) * scale - 0.5) : halfPixels(cells, size);
      this.taps[key] = tapsOf(at, size, this.cubic);
    }
    return this.taps[key];
  }

  // The cell of an axis that a pixel of so many belongs to, and the pixels where it begins and ends.
  cellAt(axis, pixel, size) {
    const cells = axis === 0 ? this.rows : this.columns, scale = size / this.input[axis];
    const at = this.centers ? this.centers[axis].map((c) => (c + 0.5) * scale - 0.5) : halfPixels(cells, size);
    const cell = at.reduce((best, center, i) => (Math.abs(center - pixel) < Math.abs(at[best] - pixel) ? i : best), 0);
    const end = (i) => (i < 0 ? 0 : i >= cells - 1 ? size : (at[i] + at[i + 1] + 1) / 2);
    return [cell, end(cell - 1), end(cell)];
  }

  // What a cell sees of an axis of so many pixels: where that begins and ends, and how many of the input's own it is.
  seenBy(axis, cell, size) {
    const [stride, low, high] = this.windows[axis], scale = size / this.input[axis];
    const at = (place) => clamped(place, 0, this.input[axis]) * scale;
    return [at(stride * cell + low), at(stride * cell + high + 1), high - low + 1];
  }

  // A frame of `values`, the field's own or the shared ones, at every pixel, each within the range of all.
  upsampled(values, frame, height, width) {
    const low = lowest(values), high = highest(values);
    const down = this.tapsFor(0, height), across = this.tapsFor(1, width), columns = this.columns;
    const start = (this.frames === 1 ? 0 : frame) * this.rows * columns;
    const out = new Float32Array(height * width), line = new Float32Array(columns);
    for (let y = 0; y < height; y += 1) {
      line.fill(0);
      for (let k = 0; k < down.width; k += 1) {
        const weight = down.weights[y * down.width + k], from = start + down.cells[y * down.width + k] * columns;
        for (let x = 0; x < columns; x += 1) line[x] += weight * values[from + x];
      }
      for (let x = 0, tap = 0; x < width; x += 1) {
        let sum = 0;
        for (let k = 0; k < across.width; k += 1, tap += 1) sum += across.weights[tap] * line[across.cells[tap]];
        out[y * width + x] = sum < low ? low : sum > high ? high : sum;
      }
    }
    return out;
  }
}

const fields = new Map(); // of each map, one per target: maps in proportion have the same bytes

async function fieldOf(map, target) {
  if (!fields.has(map)) fields.set(map, []);
  const known = fields.get(map);
  known[target] ??= inflated(map.bytes[target]).then((bytes) => new Field(map, target, bytes));
  return known[target];
}

const colourTables = Object.fromEntries(Object.entries(data.colours || {}).map(([name, text]) => [name, bytesOf(text)]));

// Colour by value, opacity by its magnitude.
function painted(values, signed, name, image) {
  const table = colourTables[name], pixels = image.data;
  for (let i = 0, at = 0; i < values.length; i += 1, at += 4) {
    const value = values[i];
    const colour = 3 * clamped(Math.floor((signed ? (value + 1) / 2 : value) * 256), 0, 255);
    pixels[at] = table[colour];
    pixels[at + 1] = table[colour + 1];
    pixels[at + 2] = table[colour + 2];
    pixels[at + 3] = Math.round(255 * Math.abs(value));
  }
  return image;
}

// The box around the largest region of values of at least `least`; neighbours share a side.
function largestBox(values, height, width, least) {
  const seen = new Uint8Array(values.length), stack = [];
  let best = null, most = 0;
  for (let start = 0; start < values.length; start += 1) {
    if (seen[start] || values[start] < least) continue;
    let count = 0, [x0, y0, x1, y1] = [width, height, 0, 0];
    stack.push(start);
    seen[start] = 1;
    while (stack.length) {
      const at = stack.pop(), x = at % width, y = (at - x) / width;
      count += 1;
      x0 = Math.min(x0, x); y0 = Math.min(y0, y); x1 = Math.max(x1, x + 1); y1 = Math.max(y1, y + 1);
      const near = [x > 0 && at - 1, x < width - 1 && at + 1, y > 0 && at - width, y < height - 1 && at + width];
      for (const next of near) {
        if (next === false || seen[next] || values[next] < least) continue;
        seen[next] = 1;
        stack.push(next);
      }
    }
    if (count > most) [best, most] = [[x0, y0, x1, y1], count];
  }
  return best;
}
