/**
 * Where the face lies in aligned images: weights and masks, placed by the eyes.
 *
 * As in mlr.core.registration.geometry, shapes are given for the canonical crop, with the eyes at
 * (.32, .36) and (.68, .36) of its sides; for other crops they are moved and scaled.
 */

import { Planes, halved } from "./planes.mjs";

export const EYES = [
  [0.32, 0.36],
  [0.68, 0.36],
];
const SIDE = 128; // pixels of the shorter side of the images that features are taken from
const EDGE = 0.4; // over which ellipses of regions fade, in their half-axes
const [LEVEL, MIDDLE] = [0.53, 0.12]; // where the upper face ends, and over which height
const ASIDE = 0.01; // of the width: a face farther from the middle is not symmetric
const [FACE_Y, FACE_X, FACE_TALL, FACE_WIDE] = [0.54, 0.5, 0.42, 0.33]; // the ellipse of the face
const [MOUTH_ROWS, MOUTH_COLUMNS] = [
  [0.62, 0.85],
  [0.28, 0.72],
];

/** Return the number between two bounds that is closest to a value. */
export const clip = (value, low, high) => Math.min(Math.max(value, low), high);

/** Return 0 below 0, 1 above 1, and a smooth slope between them. */
export function smooth(share) {
  const t = clip(share, 0, 1);
  return t * t * (3 - 2 * t);
}

/** Return 0 up to one bound, 1 from another on, and a straight line between them. */
export const ramp = (value, [low, high]) => clip((value - low) / (high - low), 0, 1);

function inside(y, x, centre, [tall, wide]) {
  return smooth((1 - Math.hypot((y - centre) / tall, (x - 0.5) / wide)) / EDGE + 0.5);
}

/** Parts of the face in the canonical crop, by name: functions of y and x. */
export const REGIONS = {
  mouth: (y, x) => inside(y, x, 0.76, [0.19, 0.31]),
  eyes: (y, x) => inside(y, x, 0.385, [0.1, 0.42]),
  brows: (y, x) => inside(y, x, 0.24, [0.11, 0.42]),
  lower: (y) => smooth((y - LEVEL) / MIDDLE + 0.5),
  upper: (y) => smooth((LEVEL - y) / MIDDLE + 0.5),
};

/** Where the face lies in images of one size. */
export class Geometry {
  /**
   * @param {number[]} size height and width of the images, in pixels
   * @param {number[][]} eyes left and right as seen, (x, y) as fractions of the sides
   */
  constructor(size, eyes) {
    Object.assign(this, { size, eyes });
    const shorter = Math.min(...size);
    this.features = size.map((side) => 4 * Math.max(1, rint((SIDE * side) / shorter / 4)));
    this.fields = this.features.map((side) => side / 2);
    this.symmetric = Math.abs(eyes[0][0] + eyes[1][0] - 1) < ASIDE;
    const whole = this.plane(this.features, 0, (y, x) =>
      clip(1.5 - ((y - 0.55) / 0.46) ** 2 - ((x - 0.5) / 0.36) ** 2, 0.03, 1),
    );
    const half = halved(whole);
    this.weights = [halved(half), half, whole].map((each) => each.data); // quarter, half, all
    this.oval = this.pixels(
      this.fields,
      (y, x) => ((y - FACE_Y) / FACE_TALL) ** 2 + ((x - FACE_X) / FACE_WIDE) ** 2 < 1,
    );
    this.mouth = this.pixels(
      this.fields,
      (y, x) =>
        y >= MOUTH_ROWS[0] && y < MOUTH_ROWS[1] && x >= MOUTH_COLUMNS[0] && x < MOUTH_COLUMNS[1],
    );
    this.masks = new Map();
  }

  /** Return the side of the canonical crop, in pixels of a grid with this many columns. */
  side(width) {
    const [[x0], [x1]] = this.eyes;
    return (Math.abs(x1 - x0) * width) / (EYES[1][0] - EYES[0][0]);
  }

  /** Return f(y, x) for the pixels of a grid; ``middle`` is where in a pixel, 0 or 0.5. */
  plane([height, width], middle, f) {
    const [[x0, y0], [x1, y1]] = this.eyes;
    const [tall, wide] = this.size;
    const side = this.side(wide);
    const result = new Planes(1, height, width);
    for (let row = 0, i = 0; row < height; row++) {
      const y = EYES[0][1] + ((row + middle) / height - (y0 + y1) / 2) * (tall / side);
      for (let column = 0; column < width; column++, i++) {
        const x = 0.5 + ((column + middle) / width - (x0 + x1) / 2) * (wide / side);
        result.data[i] = f(Math.fround(y), Math.fround(x));
      }
    }
    return result;
  }

  /** Return the indices of the pixels of a grid for which f(y, x) holds. */
  pixels(size, f) {
    const found = [];
    this.plane(size, 0, f).data.forEach((value, index) => value && found.push(index));
    return Int32Array.from(found);
  }

  /** Return the share of a change that each pixel of a frame gets, 0 to 1; no region means all. */
  mask(size, regions) {
    const key = [...size, ...regions].join();
    if (!this.masks.has(key)) {
      this.masks.set(
        key,
        this.plane(size, 0.5, (y, x) => {
          const radius = Math.hypot((y - 0.55) / 0.46, (x - 0.5) / 0.37);
          const part = regions.length ? Math.max(...regions.map((name) => REGIONS[name](y, x))) : 1;
          return smooth((1 - radius) / 0.16 + 0.5) * part;
        }),
      );
    }
    return this.masks.get(key);
  }
}

/** Round to the nearest integer, halves to the even one, as NumPy does. */
export function rint(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
