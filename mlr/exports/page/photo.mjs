/**
 * Faces in photographs: aligned by their eyes, and composited into the photograph when changed.
 *
 * As in mlr.photo.similarity and mlr.photo.composite. A photograph is {height, width, data}, with
 * four bytes for each pixel: red, green, blue and alpha.
 */

import { Planes, coefficients, splineWeights, warp } from "./planes.mjs";
import { clip, rint, smooth } from "./geometry.mjs";
import { Problem } from "./model.mjs";

const REACH = 3; // pixels beyond its outline, of the input and the output, that the filters read
const BORDER = 2; // pixels of a crop that stay
const FADE = 0.08; // share of the sides over which a change fades out towards the border of a crop
const [LITTLE, MUCH] = [0.05, 0.15]; // additions that keep all detail, and none
const [LOST, MOTION] = [3, 4]; // planes of a change, after those that are added
const TILE = 512; // side of the parts of a photograph that are changed at once, in pixels
const SPLINE_REACH = 8; // pixels; more distant ones weigh less than 1/40,000 in an interpolation
const EYE = 2; // pixels of the field around an eye whose mean says where it is
const ROUGH = 0.02; // of the crop's side: eyes this far from where registration finds them

/** The map z -> factor z + shift of points z = [x, y] as complex numbers, in pixels. */
export class Similarity {
  constructor(factor, shift) {
    Object.assign(this, { factor, shift, scale: Math.hypot(...factor) });
  }

  /** Return the similarity that maps two different points to two others. */
  static ofTwoPoints([from, other], [to, its]) {
    const factor = divided(
      [its[0] - to[0], its[1] - to[1]],
      [other[0] - from[0], other[1] - from[1]],
    );
    const [x, y] = product(factor, from);
    return new Similarity(factor, [to[0] - x, to[1] - y]);
  }

  /** Return the image of a point. */
  of(point) {
    const [x, y] = product(this.factor, point);
    return [x + this.shift[0], y + this.shift[1]];
  }

  /** Return the map that applies another one and then this. */
  after(first) {
    return new Similarity(product(this.factor, first.factor), this.of(first.shift));
  }

  get inverse() {
    const factor = divided([1, 0], this.factor);
    const [x, y] = product(factor, this.shift);
    return new Similarity(factor, [-x, -y]);
  }

  /** Return the smallest box that contains the mapped image of this size. */
  bounds(height, width) {
    const corners = [
      [0, 0],
      [0, height],
      [width, 0],
      [width, height],
    ].map((each) => this.of(each));
    const [x, y] = [0, 1].map((axis) => corners.map((corner) => corner[axis]));
    return {
      top: Math.floor(Math.min(...y)),
      bottom: Math.ceil(Math.max(...y)),
      left: Math.floor(Math.min(...x)),
      right: Math.ceil(Math.max(...x)),
    };
  }
}

/** Return the map of points to coordinates of an image that is larger by a factor. */
export const scaling = (factor, shift = [0, 0]) => new Similarity([factor, 0], shift);

const product = ([a, b], [c, d]) => [a * c - b * d, a * d + b * c];
const divided = ([a, b], [c, d]) => [
  (a * c + b * d) / (c * c + d * d),
  (b * c - a * d) / (c * c + d * d),
];

/** Return colours of a box of a photograph as planes of 0 to 255; beyond its edges they repeat. */
export function partOf(photo, { top, bottom, left, right }) {
  const part = new Planes(3, bottom - top, right - left);
  const columns = Int32Array.from(
    { length: part.width },
    (_, x) => 4 * clip(left + x, 0, photo.width - 1),
  );
  for (let y = 0, p = 0; y < part.height; y++) {
    const row = 4 * photo.width * clip(top + y, 0, photo.height - 1);
    for (let x = 0; x < part.width; x++, p++) {
      for (let n = 0; n < 3; n++) part.data[n * part.size + p] = photo.data[row + columns[x] + n];
    }
  }
  return part;
}

/** Return a box of planes; beyond their edges they repeat. */
export function boxOf(planes, { top, bottom, left, right }) {
  const box = new Planes(planes.count, bottom - top, right - left);
  return box.map(
    (_, i, p, n) =>
      planes.data[
        n * planes.size +
          planes.width * clip(top + Math.trunc(p / box.width), 0, planes.height - 1) +
          clip(left + (p % box.width), 0, planes.width - 1)
      ],
  );
}

/**
 * Resample an image by a similarity, without aliasing: bicubic, and by a Lanczos filter where it
 * shrinks. The result is that of mlr.photo.similarity.warp.
 *
 * @param {function(object): Planes} part returns a box of the image, whose edges repeat
 * @param {Similarity} transform from the image to the result
 * @returns {Planes}
 */
function resampled(part, transform, height, width) {
  let back = transform.inverse;
  const border = back.scale > 1 ? REACH : 0;
  if (border) back = scaling(1, [border, border]).after(transform).inverse;
  const [tall, wide] = [height + 2 * border, width + 2 * border];
  const box = Math.max(1, Math.floor(back.scale / 2)); // averaged first: leaves a factor of 2 to 3
  const fine = Math.max(1, Math.ceil(back.scale / box - 1e-9)); // samples per pixel and axis
  const outline = back.bounds(tall, wide);
  const margin = REACH * box;
  const [top, left] = [outline.top - margin, outline.left - margin];
  const source = reduced(
    part({ top, left, bottom: outline.bottom + margin, right: outline.right + margin }),
    box,
  );
  const toSource = scaling(1 / box, [-left / box, -top / box])
    .after(back)
    .after(scaling(1 / fine));
  const sampled = bicubic(source, toSource, tall * fine, wide * fine);
  const result = fine > 1 ? lanczos(sampled, tall, wide) : sampled;
  return border
    ? boxOf(result, { top: border, bottom: border + height, left: border, right: border + width })
    : result;
}

/** Return the means of boxes of pixels; those at the end may be smaller. */
function reduced(planes, box) {
  if (box === 1) return planes;
  const result = new Planes(
    planes.count,
    Math.ceil(planes.height / box),
    Math.ceil(planes.width / box),
  );
  return result.map((_, i, p, n) => {
    const [top, left] = [box * Math.trunc(p / result.width), box * (p % result.width)];
    const [bottom, right] = [
      Math.min(top + box, planes.height),
      Math.min(left + box, planes.width),
    ];
    let total = 0;
    for (let y = top; y < bottom; y++) {
      for (let x = left, at = n * planes.size + y * planes.width + left; x < right; x++, at++) {
        total += planes.data[at];
      }
    }
    return total / ((bottom - top) * (right - left));
  });
}

/** Return planes seen through a similarity, by bicubic interpolation as Pillow's: a = -1. */
function bicubic(planes, transform, height, width) {
  const result = new Planes(planes.count, height, width);
  const { data } = planes;
  const [cosine, sine] = transform.factor;
  const [across, down] = [new Float64Array(4), new Float64Array(4)];
  const [columns, rows] = [new Int32Array(4), new Int32Array(4)];
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0; x < width; x++, p++) {
      const px = cosine * (x + 0.5) - sine * (y + 0.5) + transform.shift[0];
      const py = sine * (x + 0.5) + cosine * (y + 0.5) + transform.shift[1];
      if (px < 0 || px >= planes.width || py < 0 || py >= planes.height) continue;
      const [left, top] = [Math.floor(px - 0.5), Math.floor(py - 0.5)];
      cubicWeights(px - 0.5 - left, across);
      cubicWeights(py - 0.5 - top, down);
      for (let k = 0; k < 4; k++) {
        columns[k] = Math.min(Math.max(left - 1 + k, 0), planes.width - 1);
        rows[k] = Math.min(Math.max(top - 1 + k, 0), planes.height - 1) * planes.width;
      }
      const a = across[0],
        b = across[1],
        c = across[2],
        d = across[3];
      for (let n = 0; n < planes.count; n++) {
        let total = 0;
        for (let k = 0; k < 4; k++) {
          const r = n * planes.size + rows[k];
          total +=
            down[k] *
            (a * data[r + columns[0]] +
              b * data[r + columns[1]] +
              c * data[r + columns[2]] +
              d * data[r + columns[3]]);
        }
        result.data[n * result.size + p] = total;
      }
    }
  }
  return result;
}

/** Fill in the weights of four pixels, for a position t beyond the second one (a = -1). */
function cubicWeights(t, weights) {
  weights[0] = -t * (1 - t) * (1 - t);
  weights[1] = 1 + t * t * (t - 2);
  weights[3] = -t * t * (1 - t);
  weights[2] = 1 - weights[0] - weights[1] - weights[3];
}

/** Return planes reduced with a Lanczos filter, along rows and then along columns. */
function lanczos(planes, height, width) {
  const across = lanczosWeights(planes.width, width);
  const lines = new Planes(planes.count, planes.height, width);
  for (let line = 0, i = 0; line < planes.count * planes.height; line++) {
    for (let x = 0; x < width; x++, i++) {
      const { first, weights } = across[x];
      let total = 0;
      for (let k = 0, at = line * planes.width + first; k < weights.length; k++, at++) {
        total += weights[k] * planes.data[at];
      }
      lines.data[i] = total;
    }
  }
  const down = lanczosWeights(planes.height, height);
  return new Planes(planes.count, height, width).map((_, i, p, n) => {
    const { first, weights } = down[Math.trunc(p / width)];
    let total = 0;
    for (
      let k = 0, at = n * lines.size + first * width + (p % width);
      k < weights.length;
      k++, at += width
    ) {
      total += weights[k] * lines.data[at];
    }
    return total;
  });
}

/** Return the weights of the pixels that each pixel of a shorter line is a sum of. */
function lanczosWeights(from, to) {
  const scale = from / to;
  const support = 3 * scale;
  const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
  return Array.from({ length: to }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), from);
    const weights = Array.from({ length: end - first }, (_unused, k) => {
      const x = (first + k - centre + 0.5) / scale;
      return Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0;
    });
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: weights.map((weight) => weight / total) };
  });
}

/** Return the map from a photograph to a crop of a size, given its eyes and where they shall be. */
export const toCropOf = (eyes, [height, width], positions) =>
  Similarity.ofTwoPoints(
    eyes,
    positions.map(([x, y]) => [x * width, y * height]),
  );

/** Return an aligned crop of a photograph in [0, 1], not clipped. */
export function cropOf(photo, toCrop, [height, width]) {
  return resampled((box) => partOf(photo, box), toCrop, height, width).map((value) => value / 255);
}

/** A face of a photograph, ready to be changed. */
export class PhotoFace {
  /**
   * Eyes that are placed roughly are corrected by the registration.
   *
   * @param {Model} model
   * @param {{height: number, width: number, data: Uint8ClampedArray}} photo
   * @param {number[][]} eyes left and right as seen, [x, y] in pixels from the corner
   * @param {object} [options] of Search.find; or last: this face in the video frame before
   */
  constructor(model, photo, eyes, options = {}) {
    const [x, y] = [0, 1].map((axis) => (eyes[0][axis] + eyes[1][axis]) / 2);
    const distance = Math.hypot(eyes[1][0] - eyes[0][0], eyes[1][1] - eyes[0][1]);
    if (!(x >= 0 && x <= photo.width && y >= 0 && y <= photo.height && distance >= 2)) {
      throw new Problem("These dots cannot be the eyes of a face: put one on each eye.");
    }
    Object.assign(this, { model, photo });
    const toCrop = toCropOf(eyes, model.size, model.eyes);
    this.prepare(toCrop, model.eyes, options);
    if (options.last) return;
    const found = this.eyesFound();
    const off = (each, n) =>
      Math.max(...each.map((value, axis) => Math.abs(value - model.eyes[n][axis])));
    if (!this.fit.unlike && Math.max(...found.map(off)) > ROUGH)
      this.prepare(toCrop, found, options);
  }

  /** Return the same face in the next video frame, expected to move on as it did. */
  next(photo) {
    const { eyes, before = eyes } = this;
    const expected = eyes.map((eye, n) => eye.map((at, axis) => 2 * at - before[n][axis]));
    const face = new PhotoFace(this.model, photo, expected, { last: this });
    return Object.assign(face, { before: eyes });
  }

  /** Where the eyes are, [x, y] in pixels of the photograph. */
  get eyes() {
    const [height, width] = this.model.size;
    const { inverse } = this.toCrop;
    return this.eyesFound().map(([x, y]) => inverse.of([x * width, y * height]));
  }

  prepare(toCrop, positions, { all, last }) {
    const { model } = this;
    const [height, width] = model.size;
    const corrected = toCropOf(
      positions.map(([x, y]) => [x * width, y * height]),
      model.size,
      model.eyes,
    );
    this.toCrop = corrected.after(toCrop);
    this.crop = cropOf(this.photo, this.toCrop, model.size).map((value) => clip(value, 0, 1));
    this.face = model.register(this.crop, last ? this.following(last) : { all });
    this.fit = this.face.fit;
  }

  /** Return what registration needs to follow a face, whose fit is moved to the expected place. */
  following({ face }) {
    const { height, width } = face.fit.field;
    const moved = (fit, eyes) => {
      const [from, to] = [this.eyesFound(fit.field), eyes].map((each) =>
        each.map(([x, y]) => [x * width, y * height]),
      );
      return movedFit(fit, Similarity.ofTwoPoints(from, to));
    };
    return {
      last: { ...face, fit: moved(face.fit, this.model.eyes) },
      aligned: (fit, { field }) => moved(fit, this.eyesFound(field)),
    };
  }

  /** Return where registration finds the eyes of the crop, (x, y) in units of its sides. */
  eyesFound(field = this.fit.field) {
    const { height, width } = field;
    return this.model.eyes.map(([x, y]) => {
      const [row, column] = [rint(y * height), rint(x * width)];
      const sums = [0, 0];
      let count = 0;
      for (let i = Math.max(row - EYE, 0); i < Math.min(row + EYE, height); i++) {
        for (let j = Math.max(column - EYE, 0); j < Math.min(column + EYE, width); j++, count++) {
          for (let k = 0; k < 2; k++) sums[k] += field.plane(k)[i * width + j];
        }
      }
      return [x + sums[1] / count / width, y + sums[0] / count / height];
    });
  }

  /**
   * Change the face in a photograph, in place.
   *
   * @param {object} photo the one that the face is in, or a smaller copy
   * @param {Uint8ClampedArray} result its pixels, changed already by other faces
   * @param {object} wanted see Model.change
   * @returns {object} the box of pixels that may have changed
   */
  composite(photo, result, wanted) {
    const toCrop = this.toCrop.after(scaling(this.photo.width / photo.width));
    const planes = this.planes(wanted, toCrop.scale);
    const outline = toCrop.inverse.bounds(planes.height, planes.width);
    const box = grown(outline, 0, photo);
    for (let top = box.top; top < box.bottom; top += TILE) {
      for (let left = box.left; left < box.right; left += TILE) {
        const bottom = Math.min(top + TILE, box.bottom);
        const tile = { top, left, bottom, right: Math.min(left + TILE, box.right) };
        const change = changedPart(photo, planes, toCrop, tile);
        for (let y = top, p = 0; y < bottom; y++) {
          for (let x = left, i = 4 * (y * photo.width + left); x < tile.right; x++, p++, i += 4) {
            for (let n = 0; n < 3; n++)
              result[i + n] += rint(255 * change.data[n * change.size + p]);
          }
        }
      }
    }
    return box;
  }

  /** Return what `changedPart` needs, in pixels of the crop: six planes. */
  planes(wanted, scale) {
    const { crop } = this;
    const [height, width] = this.model.size;
    const { motion, added } = this.model.change(this.face, wanted);
    const fade = borderFade(height, width);
    const planes = new Planes(6, height, width);
    const faded = (from, to) => {
      for (let p = 0; p < to.length; p++) to[p] = from[p] * fade[p];
    };
    for (let n = 0; n < 2; n++) faded(motion.plane(n), planes.plane(MOTION + n));
    for (let n = 0; n < 3; n++) faded(added.plane(added.count === 1 ? 0 : n), planes.plane(n));
    if (scale < 1) {
      // otherwise the crop has all detail
      const lost = planes.plane(LOST);
      const [red, green, blue] = [0, 1, 2].map((n) => planes.plane(n));
      for (let p = 0; p < lost.length; p++) {
        const amount = Math.max(Math.abs(red[p]), Math.abs(green[p]), Math.abs(blue[p]));
        lost[p] = smooth((amount - LITTLE) / (MUCH - LITTLE));
      }
      const moved = warp(crop, planes.some(MOTION, MOTION + 2));
      [red, green, blue].forEach((plane, n) => {
        const own = moved.plane(n);
        for (let p = 0; p < plane.length; p++) plane[p] += lost[p] * own[p];
      });
    }
    return planes;
  }
}

/** Return the fit of a face that is moved by a similarity of points, in pixels of its fields. */
function movedFit(fit, map) {
  const [cosine, sine] = map.factor;
  const moved = (field) => {
    const result = new Planes(2, field.height, field.width);
    const [[down, across], [toY, toX]] = [field, result].map((each) => [0, 1].map((n) => each.plane(n)));
    for (let i = 0, p = 0; i < field.height; i++) {
      for (let j = 0; j < field.width; j++, p++) {
        const x = j + 0.5 + across[p];
        const y = i + 0.5 + down[p];
        toX[p] = cosine * x - sine * y + map.shift[0] - j - 0.5;
        toY[p] = sine * x + cosine * y + map.shift[1] - i - 0.5;
      }
    }
    return result;
  };
  return { ...fit, field: moved(fit.field), start: moved(fit.start) };
}

/** Return a box with a margin on each side, clipped to an image. */
function grown({ top, bottom, left, right }, margin, { height, width }) {
  return {
    top: Math.max(0, top - margin),
    bottom: Math.min(height, bottom + margin),
    left: Math.max(0, left - margin),
    right: Math.min(width, right + margin),
  };
}

/** Return the share of the change at each pixel of a crop: 1, fading to 0 at its border. */
function borderFade(height, width) {
  const [rows, columns] = [height, width].map((side) =>
    Float64Array.from({ length: side }, (_, at) =>
      smooth((Math.min(at, side - 1 - at) - BORDER) / (FADE * side)),
    ),
  );
  const fade = new Float32Array(height * width);
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0; x < width; x++, p++) fade[p] = rows[y] * columns[x];
  }
  return fade;
}

/**
 * Return how a tile of a photograph changes, three planes in [-1, 1]:
 * (1 - lost) photo(q + motion) - photo(q) + added.
 */
function changedPart(photo, planes, toCrop, tile) {
  const [height, width] = [tile.bottom - tile.top, tile.right - tile.left];
  const turned = new Planes(planes.count, planes.height, planes.width, planes.data.slice());
  const [dys, dxs] = [planes.plane(MOTION), planes.plane(MOTION + 1)];
  const [toY, toX] = [turned.plane(MOTION), turned.plane(MOTION + 1)];
  const [cosine, sine] = divided([1, 0], toCrop.factor);
  for (let p = 0; p < planes.size; p++) {
    toX[p] = cosine * dxs[p] - sine * dys[p];
    toY[p] = cosine * dys[p] + sine * dxs[p];
  }
  const into = scaling(1, [-tile.left, -tile.top]).after(toCrop.inverse);
  const seen =
    toCrop.scale < 1
      ? enlargedSimilar(turned, into.inverse, height, width)
      : resampled((box) => boxOf(turned, box), into, height, width);
  const [motionY, motionX] = [seen.plane(MOTION), seen.plane(MOTION + 1)];
  let farthest = 0;
  for (let i = MOTION * seen.size; i < seen.data.length; i++) {
    farthest = Math.max(farthest, Math.abs(seen.data[i]));
  }
  const wide = grown(tile, Math.ceil(farthest) + SPLINE_REACH, photo);
  const around = partOf(photo, wide);
  const found = coefficients(around);
  const lost = seen.plane(LOST);
  const change = new Planes(3, height, width);
  const [down, across] = [new Float64Array(4), new Float64Array(4)];
  const [bottom, right] = [around.height - 1, around.width - 1];
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0; x < width; x++, p++) {
      for (let n = 0; n < 3; n++) change.data[n * change.size + p] = seen.data[n * seen.size + p];
      if (lost[p] === 0 && motionY[p] === 0 && motionX[p] === 0) continue;
      const top = tile.top - wide.top + y;
      const left = tile.left - wide.left + x;
      const py = clip(top + motionY[p], 0, bottom);
      const px = clip(left + motionX[p], 0, right);
      const i = Math.min(Math.trunc(py), bottom - 1);
      const j = Math.min(Math.trunc(px), right - 1);
      splineWeights(py - i, down);
      splineWeights(px - j, across);
      const a = across[0],
        b = across[1],
        c = across[2],
        d = across[3];
      for (let n = 0; n < 3; n++) {
        let moved = 0;
        let at = n * found.size + i * found.width + j;
        for (let k = 0; k < 4; k++, at += found.width) {
          moved +=
            down[k] *
            (a * found.data[at] +
              b * found.data[at + 1] +
              c * found.data[at + 2] +
              d * found.data[at + 3]);
        }
        const here = around.data[n * around.size + top * around.width + left];
        change.data[n * change.size + p] += ((1 - lost[p]) * moved - here) / 255;
      }
    }
  }
  return change;
}

/** Return planes seen through a similarity that enlarges, by Keys' bicubic; 0 outside. */
function enlargedSimilar(planes, toPlanes, height, width) {
  const result = new Planes(planes.count, height, width);
  const { data } = planes;
  const [cosine, sine] = toPlanes.factor;
  const [right, bottom] = toPlanes.of([0.5, 0.5]).map((value) => value - 0.5);
  const used = new Uint8Array(planes.size); // where one of the 16 pixels is not 0
  for (let p = 0; p < planes.size; p++) {
    let n = p;
    while (n < data.length && data[n] === 0) n += planes.size;
    if (n >= data.length) continue;
    for (let k = -2; k < 2; k++) used.fill(1, p + k * planes.width - 2, p + k * planes.width + 2);
  }
  const [down, across] = [new Float64Array(4), new Float64Array(4)];
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0; x < width; x++, p++) {
      const row = sine * x + cosine * y + bottom;
      const column = cosine * x - sine * y + right;
      const top = Math.floor(row);
      const left = Math.floor(column);
      if (top < 1 || top > planes.height - 3 || left < 1 || left > planes.width - 3) continue;
      if (!used[top * planes.width + left]) continue;
      keysWeights(row - top, down);
      keysWeights(column - left, across);
      const a = across[0],
        b = across[1],
        c = across[2],
        d = across[3];
      for (let n = 0; n < planes.count; n++) {
        let total = 0;
        let i = n * planes.size + (top - 1) * planes.width + left - 1;
        for (let k = 0; k < 4; k++, i += planes.width) {
          total += down[k] * (a * data[i] + b * data[i + 1] + c * data[i + 2] + d * data[i + 3]);
        }
        result.data[n * result.size + p] = total;
      }
    }
  }
  return result;
}

/** Fill in the weights of four pixels, for a position t beyond the second one (a = -1/2). */
function keysWeights(t, weights) {
  const u = 1 - t;
  weights[0] = -0.5 * t * u * u;
  weights[1] = 1 - t * t * (2.5 - 1.5 * t);
  weights[2] = 1 - u * u * (2.5 - 1.5 * u);
  weights[3] = -0.5 * u * t * t;
}
