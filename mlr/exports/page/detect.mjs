/**
 * A first guess of where faces are: the template of the sources is correlated with the features of
 * a photograph at several sizes, and the best places are registered.
 */

import { areaAveraged, halved } from "./planes.mjs";
import { featuresOf } from "./features.mjs";
import { PhotoFace, boxOf, partOf } from "./photo.mjs";

const [SMALLEST, LARGEST, STEP] = [0.14, 1.5, 1.22]; // sides of crops, in longer sides
const LEAST = 48; // pixels of the side of a crop
const MARGIN = 0.25; // of a crop: how much of it may lie outside
const STRIDE = 2; // pixels of the quarter size, in which a crop is 32 wide
const LIKELY = 0.22; // correlation of a face worth registering
const CLEAR = 0.3; // correlation of the place that is shown where no face fits
const UNLIKELY = 0.1; // correlation of the first feature that is enough to look no further
const DISTINCT = 0.5; // of the larger crop: least distance of two faces
const [MOST, MOST_WRONG] = [12, 4]; // faces, and places in turn that turn out to be none
const HALF_SIGMA = 4; // of the features: those of registration, at half their size

/**
 * Return the eyes of the faces that are found, the clearest first. If none is, those of a face at
 * the likeliest place, or in the middle.
 *
 * @param {Model} model
 * @param {object} photo of at most a megapixel or so
 * @returns {number[][][]} for each face the left and the right eye, [x, y] in pixels
 */
export function guessFaces(model, photo) {
  const [height, width] = model.size;
  const side = Math.min(photo.height, photo.width);
  const corner = [(photo.width - side) / 2, (photo.height - side) / 2];
  const middle = placed(model.eyes, corner, [side, side]);
  const places = likelyPlaces(model, photo);
  const found = [];
  let wrong = 0;
  for (const eyes of [middle, ...places.map((place) => place.eyes)]) {
    if (wrong > MOST_WRONG || found.length === MOST) break;
    const { fit, toCrop } = new PhotoFace(model, photo, eyes, { all: false });
    wrong = fit.unlike ? wrong + 1 : 0;
    const crop = { value: fit.value, side: width / toCrop.scale };
    if (!fit.unlike) {
      crop.eyes = model.eyes.map(([x, y]) => toCrop.inverse.of([x * width, y * height]));
      found.push(crop);
    }
  }
  if (found.length) return distinct(found).map(({ eyes }) => eyes);
  return [places.length && places[0].value > CLEAR ? places[0].eyes : middle];
}

/** Return places that are not too close to another one of a larger value, by their values. */
function distinct(places) {
  const kept = [];
  for (const place of places.sort((a, b) => b.value - a.value)) {
    const near = ({ eyes: [[x, y]], side }) =>
      DISTINCT * Math.max(place.side, side) >
      Math.hypot(place.eyes[0][0] - x, place.eyes[0][1] - y);
    if (kept.length < 2 * MOST && !kept.some(near)) kept.push(place);
  }
  return kept;
}

/** Return places where a face may be, the likeliest first: eyes, the side of the crop, a value. */
function likelyPlaces(model, photo) {
  const { geometry, search } = model.registered;
  const template = halved(search.candidates[0].template.half);
  const kernel = kernelOf(template, geometry.weights[0]);
  const whole = partOf(photo, { top: 0, left: 0, bottom: photo.height, right: photo.width }).map(
    (value) => value / 255,
  );
  const longer = Math.max(photo.height, photo.width);
  const found = [];
  for (let share = Math.max(SMALLEST, LEAST / longer); share <= LARGEST; share *= STEP) {
    const scale = (2 * template.width) / (share * longer); // of the half size, from the photograph
    const [height, width] = [photo.height, photo.width].map((side) => Math.round(side * scale));
    if (Math.min(height, width) < template.width || scale > 4) continue;
    const margin = Math.round(2 * MARGIN * template.width);
    const padded = boxOf(areaAveraged(whole, height, width), {
      top: -margin,
      left: -margin,
      bottom: 2 * Math.ceil(height / 2) + margin,
      right: 2 * Math.ceil(width / 2) + margin,
    });
    const { half } = featuresOf(padded, [padded.height, padded.width], HALF_SIGMA);
    for (let y = 0; y + template.height <= half.height; y += STRIDE) {
      for (let x = 0; x + template.width <= half.width; x += STRIDE) {
        const value = correlationAt(half, y, x, kernel);
        if (value > LIKELY) {
          const corner = [2 * x - margin, 2 * y - margin].map((each) => each / scale);
          const sides = [(2 * template.width) / scale, (2 * template.height) / scale];
          found.push({ value, side: sides[0], eyes: placed(model.eyes, corner, sides) });
        }
      }
    }
  }
  return distinct(found);
}

const placed = (eyes, corner, sides) =>
  eyes.map((eye) => eye.map((value, axis) => corner[axis] + value * sides[axis]));

/** Return weights whose sum with features is their covariance with a template, and its weight. */
function kernelOf(template, weight) {
  const total = weight.reduce((sum, each) => sum + each, 0);
  const products = template.map((value, i, p) => weight[p] * value);
  const means = [0, 1].map((n) => products.plane(n).reduce((sum, each) => sum + each, 0) / total);
  const kernel = template.map((value, i, p, n) => weight[p] * (value - means[n]));
  const energies = [0, 1].map((n) =>
    kernel.plane(n).reduce((sum, value, p) => sum + value * template.plane(n)[p], 0),
  );
  return { kernel, weight, total, energies };
}

/** Return the weighted correlation of a template with features whose corner is there. */
function correlationAt(features, top, left, { kernel, weight, total, energies }) {
  let [product, own, energy] = [0, 0, 0];
  const { data } = features;
  for (let n = 0; n < 2; n++) {
    const plane = kernel.plane(n);
    let sum = 0;
    let squares = 0;
    for (let y = 0, p = 0; y < kernel.height; y++) {
      let i = n * features.size + (top + y) * features.width + left;
      for (let x = 0; x < kernel.width; x++, p++, i++) {
        const value = data[i];
        product += plane[p] * value;
        sum += weight[p] * value;
        squares += weight[p] * value * value;
      }
    }
    own += squares - (sum * sum) / total;
    energy += energies[n];
    if (n === 0 && product < UNLIKELY * Math.sqrt(own * energy)) return 0;
  }
  return own > 0 ? product / Math.sqrt(own * energy) : 0;
}
