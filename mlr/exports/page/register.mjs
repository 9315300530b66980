/** Registration of one image to a template: windowed Gauss-Newton steps on a pyramid. */

import { Planes, blur, blurPlane, gaussian, halved, lookUp, resizeField } from "./planes.mjs";

const DAMPING = 0.05;
const FLAT = 0.02; // added to covariances and deviations around a pixel

/**
 * At a quarter and half of the features' size: standard deviations of the blurs of the normal
 * equations, of the prior and of the field, in pixels; and the number of steps.
 */
const LEVELS = [
  [[4, 1.875, 2], 6],
  [[3, 2.5, 2], 6],
];

/** Return two features with their derivatives down and across (Sobel over 8), six planes. */
export function withDerivatives(features) {
  const { height, width, size } = features;
  const values = new Planes(6, height, width);
  for (let n = 0; n < 2; n++) {
    const plane = features.plane(n);
    const [own, downward, sideways] = [0, 1, 2].map((k) => values.plane(3 * n + k));
    for (let y = 0; y < height; y++) {
      const [above, here] = [Math.max(y - 1, 0) * width, y * width];
      const below = Math.min(y + 1, height - 1) * width;
      for (let x = 0; x < width; x++) {
        const [left, right] = [Math.max(x - 1, 0), Math.min(x + 1, width - 1)];
        const [a, c] = [plane[above + left], plane[above + right]];
        const [g, i] = [plane[below + left], plane[below + right]];
        own[here + x] = plane[here + x];
        downward[here + x] = (g + 2 * plane[below + x] + i - a - 2 * plane[above + x] - c) * 0.125;
        sideways[here + x] =
          (c + 2 * plane[here + right] + i - a - 2 * plane[here + left] - g) * 0.125;
      }
    }
  }
  return values;
}

/**
 * Fill in q g g' and q g r of each pixel: five planes (yy, yx, xx, and right sides y, x).
 *
 * With r = fixed - moved, g = (the moved image's derivatives + the fixed one's) / 2 and
 * q = weight / (1 + r^2), summed over the features; moved is moving(p + field(p)), bilinear.
 */
export function normalEquations(moving, fixed, weight, second, field, products) {
  const { height, width, size } = moving;
  const [m, f, out, shift] = [moving.data, fixed.data, products.data, field.data];
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0; x < width; x++, p++) {
      const py = Math.min(Math.max(y + shift[p], 0), height - 1);
      const px = Math.min(Math.max(x + shift[size + p], 0), width - 1);
      const y0 = Math.min(Math.trunc(py), height - 2);
      const x0 = Math.min(Math.trunc(px), width - 2);
      const down = py - y0;
      const across = px - x0;
      const s00 = (1 - down) * (1 - across);
      const s01 = (1 - down) * across;
      const s10 = down * (1 - across);
      const s11 = down * across;
      let yy = 0,
        yx = 0,
        xx = 0,
        rightY = 0,
        rightX = 0;
      for (let n = 0; n < (second ? 2 : 1); n++) {
        let i = 3 * n * size + y0 * width + x0;
        const value = s00 * m[i] + s01 * m[i + 1] + s10 * m[i + width] + s11 * m[i + width + 1];
        i += size;
        const dy = s00 * m[i] + s01 * m[i + 1] + s10 * m[i + width] + s11 * m[i + width + 1];
        i += size;
        const dx = s00 * m[i] + s01 * m[i + 1] + s10 * m[i + width] + s11 * m[i + width + 1];
        const j = 3 * n * size + p;
        const r = f[j] - value;
        const gy = 0.5 * (dy + f[j + size]);
        const gx = 0.5 * (dx + f[j + 2 * size]);
        const q = weight[p] / (1 + r * r);
        yy += q * gy * gy;
        yx += q * gy * gx;
        xx += q * gx * gx;
        rightY += q * gy * r;
        rightX += q * gx * r;
      }
      out[p] = yy;
      out[size + p] = yx;
      out[2 * size + p] = xx;
      out[3 * size + p] = rightY;
      out[4 * size + p] = rightX;
    }
  }
}

/** A template at one size. */
class Level {
  constructor(number, features, weight) {
    const [sigmas, steps] = LEVELS[number];
    this.kernels = sigmas.map(gaussian);
    Object.assign(this, { steps, weight, fixed: withDerivatives(features) });
  }

  /** Change the field of features in place, towards the template. */
  refine(features, grey, field) {
    const { height, width, size } = field;
    const [window, prior, smooth] = this.kernels;
    const moving = withDerivatives(features);
    const [products, normal] = [new Planes(5, height, width), new Planes(5, height, width)];
    const [pulled, stepped] = [new Planes(2, height, width), new Planes(2, height, width)];
    for (let step = 0; step < this.steps; step++) {
      normalEquations(moving, this.fixed, this.weight, !grey, field, products);
      for (let k = 0; k < 5; k++)
        blurPlane(products.plane(k), window, height, width, normal.plane(k));
      for (let k = 0; k < 2; k++) blurPlane(field.plane(k), prior, height, width, pulled.plane(k));
      const [a, u, v, out] = [normal.data, field.data, pulled.data, stepped.data];
      for (let p = 0; p < size; p++) {
        const [yy, yx, xx] = [a[p] + DAMPING, a[size + p], a[2 * size + p] + DAMPING];
        const rightY = a[3 * size + p] + DAMPING * (v[p] - u[p]);
        const rightX = a[4 * size + p] + DAMPING * (v[size + p] - u[size + p]);
        const inverse = 1 / (yy * xx - yx * yx);
        const down = (xx * rightY - yx * rightX) * inverse;
        const across = (yy * rightX - yx * rightY) * inverse;
        const scale = 1 / Math.sqrt(Math.max(down * down + across * across, 1));
        out[p] = u[p] + down * scale;
        out[size + p] = u[size + p] + across * scale;
      }
      for (let k = 0; k < 2; k++)
        blurPlane(stepped.plane(k), smooth, height, width, field.plane(k));
    }
  }
}

/** Features that images are registered to: two planes of the size of fields. */
export class Template {
  constructor(geometry, half) {
    Object.assign(this, { geometry, half });
    const { weights } = geometry;
    this.levels = [new Level(0, halved(half), weights[0]), new Level(1, half, weights[1])];
  }

  /**
   * Return the field u with features(p + u(p)) close to the template, in its own pixels.
   *
   * @param {object} features of an image, from featuresOf
   * @param {Planes} [start] a field of the quarter size, by default 0, or of the half size
   */
  register(features, start) {
    const { height, width } = this.half;
    const quarter = start
      ? resizeField(start, height / 2, width / 2)
      : new Planes(2, height / 2, width / 2);
    this.levels[0].refine(halved(features.half), features.grey, quarter);
    return this.polished(features, resizeField(quarter, height, width));
  }

  /** Return a field of the half size that was refined at this size alone. */
  polished(features, field) {
    const refined = field.map((value) => value);
    this.levels[1].refine(features.half, features.grey, refined);
    return refined;
  }

  /**
   * Return the correlation of moved features with the template over some pixels, by default the
   * oval: with redness or without, whichever is larger.
   */
  correlation(features, field, pixels = this.geometry.oval) {
    const count = features.grey ? 1 : 2;
    const moved = lookUp(features.half.some(0, count), field);
    let [product, energy, wanted] = [0, 0, 0];
    let best = -Infinity;
    for (let n = 0; n < count; n++) {
      const [a, b] = [moved.plane(n), this.half.plane(n)];
      const [meanA, meanB] = [a, b].map(
        (plane) => pixels.reduce((sum, p) => sum + plane[p], 0) / pixels.length,
      );
      for (const p of pixels) {
        product += (a[p] - meanA) * (b[p] - meanB);
        energy += (a[p] - meanA) ** 2;
        wanted += (b[p] - meanB) ** 2;
      }
      const scale = energy * wanted;
      best = Math.max(best, scale > 0 ? product / Math.sqrt(scale) : 0);
    }
    return best;
  }

  /** Return the correlation around each pixel in a Gaussian window; where both are flat it is 1. */
  localCorrelation(features, field, sigma) {
    const count = features.grey ? 1 : 2;
    const moved = lookUp(features.half.some(0, count), field);
    const fixed = this.half.some(0, count);
    const around = (planes, others) =>
      blur(others ? planes.map((value, i) => value * others.data[i]) : planes, sigma).data;
    const means = [moved, fixed].map((each) => around(each));
    const [own, wanted, both] = [
      [0, 0],
      [1, 1],
      [0, 1],
    ].map(([a, b]) => {
      const products = around([moved, fixed][a], [moved, fixed][b]);
      const sum = new Float32Array(moved.size);
      products.forEach((value, i) => {
        sum[i % moved.size] += value - means[a][i] * means[b][i];
      });
      return sum;
    });
    return new Planes(
      1,
      moved.height,
      moved.width,
      both.map((value, p) => (value + FLAT) / (Math.sqrt(Math.max(own[p] * wanted[p], 0)) + FLAT)),
    );
  }
}
