/**
 * A first guess of where faces are: the template of the sources is correlated with the features of a
 * photograph at several sizes, and the best places are registered.
 */

import { areaAveraged, halved } from "./planes.mjs";
import { featuresOf } from "./features.mjs";
import { PhotoFace, boxOf, partOf } from "./photo.mjs";

const [SMALLEST, LARGEST, STEP] = [0.14, 1.5, 1.22]; // sides of crops, in longer sides of the photograph
const LEAST = 48; // pixels of the side of a crop
const MARGIN = 0.25; // of a crop: how much of it may lie outside
const STRIDE = 2; // pixels of the quarter size, in which a crop is 32 wide
const LIKELY = 0.35; // correlation of a face worth registering
const DISTINCT = 0.5; // of the larger crop: least distance of two faces
const [MOST, MOST_WRONG] = [12, 5]; // faces, and places in turn that turn out to be none
const HALF_SIGMA = 4; // of the features: those of registration, at half their size

/**
 * Return the eyes of the faces that are found, the clearest first; of the likeliest place if none is.
 *
 * @param {Model} model
 * @param {object} photo of at most a megapixel or so
 * @returns {number[][][]} for each face the left and the right eye, [x, y] in pixels
 */
export function guessFaces(model, photo) {
  const places = likelyPlaces(model, photo);
  const found = [];
  for (let n = 0, wrong = 0; n < places.length && wrong < MOST_WRONG && found.length < MOST; n++) {
    const face = new PhotoFace(model, photo, places[n].eyes, { all: false });
    if (face.fit.unlike || face.toCrop.scale > 4) wrong++;
    else {
      wrong = 0;
      const [height, width] = model.size;
      found.push({
        value: face.fit.value,
        eyes: model.eyes.map(([x, y]) => face.toCrop.inverse.of([x * width, y * height])),
      });
    }
  }
  found.sort((a, b) => b.value - a.value);
  return (found.length ? found : places.slice(0, 1)).map(({ eyes }) => eyes);
}

/** Return places where a face may be, the likeliest first; the middle of the photograph if nowhere. */
function likelyPlaces(model, photo) {
  const { geometry, search } = model.registered;
  const template = halved(search.candidates[0].template.half);
  const kernel = kernelOf(template, geometry.weights[0]);
  const whole = partOf(photo, { top: 0, left: 0, bottom: photo.height, right: photo.width })
    .map((value) => value / 255);
  const longer = Math.max(photo.height, photo.width);
  const found = [];
  for (let share = Math.max(SMALLEST, LEAST / longer); share <= LARGEST; share *= STEP) {
    const scale = 2 * template.width / (share * longer); // pixels of the half size in one of the photograph
    const [height, width] = [photo.height, photo.width].map((side) => Math.round(side * scale));
    if (Math.min(height, width) < template.width || scale > 4) continue;
    const margin = Math.round(2 * MARGIN * template.width);
    const padded = boxOf(areaAveraged(whole, height, width), {
      top: -margin, left: -margin,
      bottom: 2 * Math.ceil(height / 2) + margin, right: 2 * Math.ceil(width / 2) + margin,
    });
    const { half } = featuresOf(padded, [padded.height, padded.width], HALF_SIGMA);
    for (let y = 0; y + template.height <= half.height; y += STRIDE) {
      for (let x = 0; x + template.width <= half.width; x += STRIDE) {
        const value = correlationAt(half, y, x, kernel);
        if (value > LIKELY) {
          const corner = [2 * x - margin, 2 * y - margin].map((each) => each / scale);
          const sides = [2 * template.width / scale, 2 * template.height / scale];
          found.push({ value, side: sides[0], eyes: placed(model.eyes, corner, sides) });
        }
      }
    }
  }
  found.sort((a, b) => b.value - a.value);
  const kept = [];
  for (const place of found) {
    const near = (other) => Math.hypot(place.eyes[0][0] - other.eyes[0][0],
      place.eyes[0][1] - other.eyes[0][1]) < DISTINCT * Math.max(place.side, other.side);
    if (kept.length < 2 * MOST && !kept.some(near)) kept.push(place);
  }
  const side = Math.min(photo.height, photo.width);
  const middle = placed(model.eyes, [(photo.width - side) / 2, (photo.height - side) / 2], [side, side]);
  return kept.length ? kept : [{ eyes: middle }];
}

const placed = (eyes, corner, sides) =>
  eyes.map((eye) => eye.map((value, axis) => corner[axis] + value * sides[axis]));

/** Return weights whose sum with features is their covariance with a template, and its weight. */
function kernelOf(template, weight) {
  const total = weight.reduce((sum, each) => sum + each, 0);
  const products = template.map((value, i, p) => weight[p] * value);
  const means = [0, 1].map((n) => products.plane(n).reduce((sum, each) => sum + each, 0) / total);
  const kernel = template.map((value, i, p, n) => weight[p] * (value - means[n]));
  const energy = kernel.data.reduce((sum, value, i) => sum + value * template.data[i], 0);
  return { kernel, weight, total, energy };
}

/** Return the weighted correlation of a template with features whose corner is there. */
function correlationAt(features, top, left, { kernel, weight, total, energy }) {
  let [product, own] = [0, 0];
  for (let n = 0; n < 2; n++) {
    let [sum, squares] = [0, 0];
    for (let y = 0, p = 0; y < kernel.height; y++) {
      let i = n * features.size + (top + y) * features.width + left;
      for (let x = 0; x < kernel.width; x++, p++, i++) {
        const value = features.data[i];
        product += kernel.data[n * kernel.size + p] * value;
        sum += weight[p] * value;
        squares += weight[p] * value * value;
      }
    }
    own += squares - sum * sum / total;
  }
  return own > 0 ? product / Math.sqrt(own * energy) : 0;
}
