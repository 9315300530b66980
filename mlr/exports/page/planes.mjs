/**
 * Planes of numbers: blurred, looked up, resized, and moved by fields of displacements.
 *
 * A field is two planes, (dy, dx) in its own pixels. It moves planes to
 * warp(I, u)(p) = I(p + u(p)); edges repeat. The functions are those of
 * mlr.core.registration.fields and mlr.kernels.blur.
 */

const TRUNCATE = 3; // standard deviations of a blur
const POLE = Math.sqrt(3) - 2; // of the filter that makes the coefficients of a cubic B-spline
export const INVERSIONS = 12; // steps of a fixed-point iteration

/** Planes of float32, in rows: data[(n * height + y) * width + x]. */
export class Planes {
  /**
   * @param {number} count
   * @param {number} height
   * @param {number} width
   * @param {Float32Array} [data] by default 0
   */
  constructor(count, height, width, data = new Float32Array(count * height * width)) {
    Object.assign(this, { count, height, width, data, size: height * width });
  }

  /** Return one plane, which shares its numbers with this. */
  plane(n) {
    return this.data.subarray(n * this.size, (n + 1) * this.size);
  }

  /** Return some planes, from one to before another; they share their numbers with this. */
  some(begin, end) {
    const part = this.data.subarray(begin * this.size, end * this.size);
    return new Planes(end - begin, this.height, this.width, part);
  }

  /** Return planes of function(number, index in the data, index of the pixel, of the plane). */
  map(transform) {
    const result = new Planes(this.count, this.height, this.width);
    const [from, to, size] = [this.data, result.data, this.size];
    for (let n = 0, i = 0; n < this.count; n++) {
      for (let p = 0; p < size; p++, i++) to[i] = transform(from[i], i, p, n);
    }
    return result;
  }
}

/** Return half of a Gaussian kernel cut at 3 sigma, centre first; the whole has the sum 1. */
export function gaussian(sigma) {
  const radius = Math.trunc(TRUNCATE * sigma + 0.5);
  const half = Array.from({ length: radius + 1 }, (_, k) =>
    Math.exp(-0.5 * (k / Math.max(sigma, 1e-9)) ** 2),
  );
  const total = half.reduce((sum, each) => sum + 2 * each, -half[0]);
  return Float32Array.from(half, (each) => each / total);
}

/** Return planes convolved with a Gaussian of a standard deviation in pixels. */
export function blur(planes, sigma) {
  const result = new Planes(planes.count, planes.height, planes.width);
  const half = gaussian(sigma);
  for (let n = 0; n < planes.count; n++) {
    blurPlane(planes.plane(n), half, planes.height, planes.width, result.plane(n));
  }
  return result;
}

let row = new Float64Array(0); // of blurPlane, with margins
const rows = new Int32Array(1024); // where those above and below begin

/**
 * Blur a plane row by row: down into a row with margins, then along it.
 *
 * Four pixels at once, whose sums stay in registers: one by one, it takes twice as long.
 */
export function blurPlane(plane, half, height, width, result) {
  const radius = half.length - 1;
  if (row.length < width + 2 * radius + 3) row = new Float64Array(width + 2 * radius + 3);
  const right = radius + width;
  for (let y = 0; y < height; y++) {
    const here = y * width;
    for (let k = 1; k <= radius; k++) {
      rows[2 * k] = Math.max(y - k, 0) * width;
      rows[2 * k + 1] = Math.min(y + k, height - 1) * width;
    }
    for (let left = 0; left < width; left += 4) {
      const x = Math.max(Math.min(left, width - 4), 0);
      let a = half[0] * plane[here + x];
      let b = half[0] * plane[here + x + 1];
      let c = half[0] * plane[here + x + 2];
      let d = half[0] * plane[here + x + 3];
      for (let k = 1; k <= radius; k++) {
        const weight = half[k];
        const above = rows[2 * k] + x;
        const below = rows[2 * k + 1] + x;
        a += weight * (plane[above] + plane[below]);
        b += weight * (plane[above + 1] + plane[below + 1]);
        c += weight * (plane[above + 2] + plane[below + 2]);
        d += weight * (plane[above + 3] + plane[below + 3]);
      }
      row[radius + x] = a;
      row[radius + x + 1] = b;
      row[radius + x + 2] = c;
      row[radius + x + 3] = d;
    }
    for (let k = 0; k < radius; k++) {
      row[k] = row[radius];
      row[right + k] = row[right - 1];
    }
    for (let left = 0; left < width; left += 4) {
      const x = Math.max(Math.min(left, width - 4), 0);
      const middle = radius + x;
      let a = half[0] * row[middle];
      let b = half[0] * row[middle + 1];
      let c = half[0] * row[middle + 2];
      let d = half[0] * row[middle + 3];
      for (let k = 1; k <= radius; k++) {
        const weight = half[k];
        const before = middle - k;
        const after = middle + k;
        a += weight * (row[before] + row[after]);
        b += weight * (row[before + 1] + row[after + 1]);
        c += weight * (row[before + 2] + row[after + 2]);
        d += weight * (row[before + 3] + row[after + 3]);
      }
      result[here + x] = a;
      result[here + x + 1] = b;
      result[here + x + 2] = c;
      result[here + x + 3] = d;
    }
  }
}

/** Return planes(p + field(p)), bilinear. */
export function lookUp(planes, field) {
  const { height, width } = field;
  const result = new Planes(planes.count, height, width);
  const { data, count, height: tall, width: wide, size } = planes;
  const [shift, found] = [field.data, result.data];
  const [below, right] = [tall > 1 ? wide : 0, wide > 1 ? 1 : 0];
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0; x < width; x++, p++) {
      const py = Math.min(Math.max(y + shift[p], 0), tall - 1);
      const px = Math.min(Math.max(x + shift[field.size + p], 0), wide - 1);
      const y0 = Math.max(Math.min(Math.trunc(py), tall - 2), 0);
      const x0 = Math.max(Math.min(Math.trunc(px), wide - 2), 0);
      const fy = py - y0;
      const fx = px - x0;
      for (let n = 0, i = y0 * wide + x0, to = p; n < count; n++, i += size, to += field.size) {
        const upper = (1 - fx) * data[i] + fx * data[i + right];
        const lower = (1 - fx) * data[i + below] + fx * data[i + below + right];
        found[to] = (1 - fy) * upper + fy * lower;
      }
    }
  }
  return result;
}

/** Return the field inner(p) + outer(p + inner(p)), which moves by both. */
export function compose(outer, inner) {
  const found = lookUp(outer, inner);
  for (let i = 0; i < found.data.length; i++) found.data[i] += inner.data[i];
  return found;
}

/** Return v with v(q) = -field(q + v(q)), by fixed-point iteration. */
export function invert(field) {
  const negative = field.map((value) => -value);
  let found = negative;
  for (let step = 0; step < INVERSIONS; step++) found = lookUp(negative, found);
  return found;
}

/** Return planes resized bilinearly about pixel centres; plane n is multiplied by factors[n]. */
export function enlarged(planes, height, width, factors = null) {
  const result = new Planes(planes.count, height, width);
  const { data } = planes;
  const left = new Int32Array(width);
  const across = new Float64Array(width);
  for (let x = 0; x < width; x++) {
    const at = Math.min(Math.max(((x + 0.5) * planes.width) / width - 0.5, 0), planes.width - 1);
    left[x] = Math.max(Math.min(Math.trunc(at), planes.width - 2), 0);
    across[x] = at - left[x];
  }
  const line = new Float32Array(planes.width + 1);
  for (let n = 0, i = 0; n < planes.count; n++) {
    const factor = factors ? factors[n] : 1;
    for (let y = 0; y < height; y++) {
      const at = Math.min(
        Math.max(((y + 0.5) * planes.height) / height - 0.5, 0),
        planes.height - 1,
      );
      const top = Math.max(Math.min(Math.trunc(at), planes.height - 2), 0);
      const down = at - top;
      const first = n * planes.size + top * planes.width;
      const second = n * planes.size + Math.min(top + 1, planes.height - 1) * planes.width;
      for (let x = 0; x < planes.width; x++) {
        line[x] = (data[first + x] + down * (data[second + x] - data[first + x])) * factor;
      }
      line[planes.width] = line[planes.width - 1];
      for (let x = 0; x < width; x++, i++) {
        result.data[i] = line[left[x]] + across[x] * (line[left[x] + 1] - line[left[x]]);
      }
    }
  }
  return result;
}

/** Return a field for images of another size, in their pixels. */
export function resizeField(field, height, width) {
  return enlarged(field, height, width, [height / field.height, width / field.width]);
}

/** Return planes resized to height x width, by the mean over each pixel. */
export function areaAveraged(planes, height, width) {
  if (planes.height === height && planes.width === width) return planes;
  const down = shares(planes.height, height);
  const across = shares(planes.width, width);
  const result = new Planes(planes.count, height, width);
  const line = new Float64Array(planes.width);
  for (let n = 0, i = 0; n < planes.count; n++) {
    const plane = planes.plane(n);
    for (let y = 0; y < height; y++) {
      line.fill(0);
      for (const [source, share] of down[y]) {
        for (let x = 0; x < planes.width; x++) line[x] += share * plane[source * planes.width + x];
      }
      for (let x = 0; x < width; x++, i++) {
        let mean = 0;
        for (const [source, share] of across[x]) mean += share * line[source];
        result.data[i] = mean * (height / planes.height) * (width / planes.width);
      }
    }
  }
  return result;
}

/** Return which pixels of a line each pixel of a shorter or longer one covers, and how much. */
function shares(from, to) {
  return Array.from({ length: to }, (_, index) => {
    const [begin, end] = [(index * from) / to, Math.min(((index + 1) * from) / to, from)];
    const covered = [];
    for (let i = Math.trunc(begin); i < Math.min(Math.ceil(end - 1e-9), from); i++) {
      covered.push([i, Math.min(i + 1, end) - Math.max(i, begin)]);
    }
    return covered;
  });
}

/** Return the means of 2 x 2 pixels; the sides are even. */
export function halved(planes) {
  const [height, width] = [planes.height / 2, planes.width / 2];
  const result = new Planes(planes.count, height, width);
  const { data } = planes;
  for (let n = 0, i = 0; n < planes.count; n++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const j = n * planes.size + 2 * y * planes.width + 2 * x;
        result.data[i] =
          0.25 * (data[j] + data[j + 1] + data[j + planes.width] + data[j + planes.width + 1]);
      }
    }
  }
  return result;
}

/** Return the coefficients of cubic B-splines through planes, with a margin of a pixel. */
export function coefficients(planes) {
  const [tall, wide] = [planes.height + 2, planes.width + 2];
  const result = new Planes(planes.count, tall, wide);
  for (let n = 0; n < planes.count; n++) {
    const [plane, found] = [planes.plane(n), result.plane(n)];
    for (let y = 0; y < planes.height; y++) {
      const source = plane.subarray(y * planes.width, (y + 1) * planes.width);
      found.set(source, (y + 1) * wide + 1);
      filterLine(found, (y + 1) * wide, 1, wide);
    }
    filterDown(found, tall, wide);
  }
  return result;
}

/** Filter a line in place, all but the first and last number of which are pixels. */
function filterLine(values, start, step, count) {
  const end = start + (count - 1) * step;
  const after = 1 / (1 - POLE);
  values[start] = after * values[start + step];
  values[end] = after * values[end - step];
  for (let i = start + step; i < end; i += step) values[i] += POLE * values[i - step];
  const last = values[end];
  values[end] = -POLE * (after * last + (POLE / (1 - POLE * POLE)) * (values[end - step] - last));
  for (let i = end - step; i >= start; i -= step) values[i] = POLE * (values[i + step] - values[i]);
  for (let i = start; i <= end; i += step) values[i] *= 6;
}

/** Filter all columns, row by row, which is as the memory lies. */
function filterDown(values, rows, columns) {
  const after = 1 / (1 - POLE);
  const end = (rows - 1) * columns;
  for (let x = 0; x < columns; x++) {
    values[x] = after * values[columns + x];
    values[end + x] = after * values[end - columns + x];
  }
  for (let i = columns; i < end; i++) values[i] += POLE * values[i - columns];
  for (let i = end; i < end + columns; i++) {
    const last = values[i];
    values[i] = -POLE * (after * last + (POLE / (1 - POLE * POLE)) * (values[i - columns] - last));
  }
  for (let i = end - 1; i >= 0; i--) values[i] = POLE * (values[i + columns] - values[i]);
  for (let i = 0; i < rows * columns; i++) values[i] *= 6;
}

/** Fill in the weights of four coefficients, for a position t beyond the second one. */
export function splineWeights(t, weights) {
  const first = ((1 - t) * (1 - t) * (1 - t)) / 6;
  const second = (4 + 3 * t * t * (t - 2)) / 6;
  const last = (t * t * t) / 6;
  weights[0] = first;
  weights[1] = second;
  weights[2] = 1 - first - second - last;
  weights[3] = last;
}

/** Return the image planes(p + field(p)), by cubic B-splines that pass through its pixels. */
export function warp(planes, field) {
  const { height, width } = field;
  const found = coefficients(planes);
  const { data } = found;
  const wide = found.width;
  const result = new Planes(planes.count, height, width);
  const [down, across] = [new Float64Array(4), new Float64Array(4)];
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0; x < width; x++, p++) {
      const py = Math.min(Math.max(y + field.data[p], 0), planes.height - 1);
      const px = Math.min(Math.max(x + field.data[field.size + p], 0), planes.width - 1);
      const y0 = Math.max(Math.min(Math.trunc(py), planes.height - 2), 0);
      const x0 = Math.max(Math.min(Math.trunc(px), planes.width - 2), 0);
      splineWeights(py - y0, down);
      splineWeights(px - x0, across);
      const a = across[0],
        b = across[1],
        c = across[2],
        d = across[3];
      for (let n = 0; n < planes.count; n++) {
        let total = 0;
        let i = n * found.size + y0 * wide + x0;
        for (let k = 0; k < 4; k++, i += wide) {
          total += down[k] * (a * data[i] + b * data[i + 1] + c * data[i + 2] + d * data[i + 3]);
        }
        result.data[n * result.size + p] = total;
      }
    }
  }
  return result;
}
