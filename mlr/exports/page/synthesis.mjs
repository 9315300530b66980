/**
 * Motion and change of a face, from its registration and what was learnt in the frames.
 *
 * As in mlr.core.registration.synthesis, which has the formulas; letters in comments are its own.
 */

import {
  INVERSIONS,
  Planes,
  blur,
  compose,
  enlarged,
  invert,
  lookUp,
  resizeField,
  warp,
} from "./planes.mjs";
import { EYES, clip } from "./geometry.mjs";
import { featuresOf } from "./features.mjs";
import { Template } from "./register.mjs";
import { Search, steadied } from "./search.mjs";

const HUES = [0.4, 1.5]; // bounds of the colour of the light
const DARK = 0.4; // of the light that a face lacks: its skin's colour is taken out of its teeth
const TEETH = [0.15, 0.35]; // share of the face that is replaced: no teeth, nothing else
const DROP = 0.1; // loss of fit from one video frame to the next: the face is searched again
const OPENING = 0.4; // strength above which the style follows the strength
const STYLES = [-0.8, 1.2]; // of the templates of an expression
const LIGHTS = [0.2, 1.3]; // bounds of a face's brightness over that of the training set
const DARKEST = 1 / 255; // lower bound of measured brightness
const [SIDE_BLUR, SIDE_FLOOR, SIDE_LIGHTS] = [0.07, 0.02, [0.25, 2]]; // light from one side
const EYE_BOX = [0.06, 0.02]; // half width and height of the boxes of the whites of the eyes
const BRIGHTEST = 0.95; // share of the pixels in them below the brightness that counts

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Return the style for a strength: the one given, or the default that follows it. */
export function styleAt(appearance, strength, style) {
  const share = clip((strength - OPENING) / (1 - OPENING), 0, 1);
  return style ?? appearance.other + (appearance.style - appearance.other) * share;
}

/**
 * Return the change, for each unit of style, that takes the skin's colour out of teeth.
 *
 * @param {object} appearance
 * @param {Planes} framed the face in the frame
 * @param {Planes} start what is added at the style without teeth
 * @param {Planes} perUnit what is added for each unit of style
 * @param {number[]} hue colour of the light
 */
function tintOf(appearance, framed, start, perUnit, hue) {
  const units = appearance.style - appearance.plain;
  if (units <= 0) return framed.map(() => 0);
  const [face, means, spreads, shares] = ["face", "mean", "spread", "share"].map(
    (name) => appearance[name].data,
  );
  const mixed = framed.map(
    (_, i, p) => (1 - units * shares[p]) * face[i] + means[i] + units * spreads[i],
  );
  const middle = grey(mixed).data;
  const usual = mixed.map((value, i, p, n) => hue[n] * (value + middle[i]));
  const found = framed.map((value, i) => value + start.data[i] + units * perUnit.data[i]);
  const [shine, usualShine] = [grey(found).data, grey(usual).data];
  return found.map((value, i, p) => {
    const teeth = clip((units * shares[p] - TEETH[0]) / (TEETH[1] - TEETH[0]), 0, 1);
    const wanted = usual.data[i] * (shine[i] / Math.max(usualShine[i], 0.1));
    return (teeth * (wanted - value)) / units;
  });
}

/** What a model knows of registered faces. */
export class Registered {
  /**
   * @param {Geometry} geometry of the images
   * @param {Planes} source template of the sources, at half size
   * @param {number} eyeWhite mean brightness of the whites of the sources' eyes
   * @param {Object<string, object>} appearances of each expression: template, variation, motion,
   *   shape, mean, spread, share, face (planes); light, style, other, plain, explained (numbers)
   */
  constructor(geometry, source, eyeWhite, appearances) {
    Object.assign(this, { geometry, eyeWhite, appearances, eyeBoxes: new Map() });
    const candidates = [{ template: new Template(geometry, source) }];
    for (const [expression, each] of Object.entries(appearances)) {
      const back = invert(each.motion);
      for (const style of each.explained > 0 ? STYLES : [0]) {
        const half = each.template.map((value, i) => value + style * each.variation.data[i]);
        candidates.push({ template: new Template(geometry, half), expression, back });
      }
    }
    this.search = new Search(candidates);
    const [first] = Object.values(appearances);
    this.usualWhites = this.whites(first.face, invert(first.motion));
  }

  /**
   * Find the face in an image.
   *
   * @param {Planes} image of the geometry's size, in [0, 1]
   * @param {object} [options] of Search.find; or last: the face in the video frame before, which is
   *   followed, and aligned: a function that moves its fit to the place of a new one
   */
  register(image, { all, last, aligned = (fit) => fit } = {}) {
    const features = featuresOf(image, this.geometry.features);
    let fit = last && this.search.follow(features, last.fit);
    const followed = fit && fit.value >= last.fit.value - DROP;
    if (!followed) fit = this.search.find(features, { all });
    const light = this.sideLight(features, fit.field);
    let whites = [features.luminance, image].flatMap((each) => this.whites(each, fit.field, light));
    if (followed) {
      whites = whites.map((white, n) => (white + last.whites[n]) / 2);
      fit = steadied(fit, aligned(last.fit, fit));
    }
    return { image, features, fit, light, whites };
  }

  /** Return the mean brightness in the oval of an image moved by a field, in [0, 1]. */
  lightOf(features, field) {
    const framed = lookUp(features.light, field).data;
    return Math.max(mean(Array.from(this.geometry.oval, (p) => framed[p])), DARKEST);
  }

  /** Return the pixels in which the whites of the eyes are looked for. */
  eyeBox(size) {
    const key = size.join();
    if (!this.eyeBoxes.has(key)) {
      const [[left, level], [right]] = EYES;
      const inside = (y, x) =>
        Math.abs(y - level) < EYE_BOX[1] &&
        Math.min(Math.abs(x - left), Math.abs(x - right)) < EYE_BOX[0];
      this.eyeBoxes.set(key, this.geometry.pixels(size, inside));
    }
    return this.eyeBoxes.get(key);
  }

  /** Return the brightness of the whites of the eyes in each plane, over the light if given. */
  whites(planes, field, light) {
    const size = [planes.height, planes.width];
    const box = this.eyeBox(size);
    if (!box.length) return Array(planes.count).fill(DARKEST);
    const first = Math.trunc(box[0] / size[1]); // only the rows of the box are looked up
    const [begin, end] = [first * size[1], size[1] * Math.ceil((box.at(-1) + 1) / size[1])];
    const whole = resizeField(field, ...size);
    const shift = new Planes(2, (end - begin) / size[1], size[1]);
    shift.plane(0).set(whole.plane(0).subarray(begin, end).map((dy) => dy + first));
    shift.plane(1).set(whole.plane(1).subarray(begin, end));
    const framed = lookUp(planes, shift);
    const sides = light && enlarged(light, ...size).data;
    return Array.from({ length: planes.count }, (_, n) => {
      const plane = framed.plane(n);
      const values = Float64Array.from(
        box,
        (p) => plane[p - begin] / Math.max(sides ? sides[p] : 1, 1),
      ).sort();
      const at = BRIGHTEST * (values.length - 1);
      const below = Math.trunc(at);
      const above = values[Math.min(below + 1, values.length - 1)];
      return Math.max(values[below] + (at - below) * (above - values[below]), DARKEST);
    });
  }

  /** Return how light from the sides falls on a face in the frame, at half size, of mean 1. */
  sideLight(features, field) {
    const framed = lookUp(features.light, field);
    if (!this.geometry.symmetric) return framed.map(() => 1);
    const { width } = framed;
    const mirrored = (p) => p - (p % width) + width - 1 - (p % width);
    const both = new Planes(2, framed.height, width);
    const oval = new Set(this.geometry.oval);
    const inside = this.geometry.oval.filter((p) => oval.has(mirrored(p)));
    for (const p of inside) {
      both.plane(0)[p] = Math.log(Math.max(framed.data[p], 0) + SIDE_FLOOR);
      both.plane(1)[p] = 1;
    }
    const blurred = blur(both, SIDE_BLUR * this.geometry.side(width));
    const level = (p) => blurred.plane(0)[p] / Math.max(blurred.plane(1)[p], 1e-6);
    const light = framed.map((_, p) => Math.exp((level(p) - level(mirrored(p))) / 2));
    const average = mean(Array.from(inside, (p) => light.data[p]));
    return light.map((value) => clip(value / average, ...SIDE_LIGHTS));
  }

  /** Return the colour of the light on a face over that of the training set, of mean 1. */
  hue(face) {
    const ratios = face.whites.slice(1).map((white, n) => white / this.usualWhites[n]);
    return ratios.map((ratio) => clip(ratio / mean(ratios), ...HUES));
  }

  /**
   * Return what an expression makes of a face in its frame, before the strength.
   *
   * @param {object} face from `register`
   * @param {string} expression
   * @param {function(Planes): Planes} ridge the regression of an image in the frame
   * @param {number} share of the expression in a mix
   * @param {?number} style null for the default
   * @param {string[]} regions parts of the face to change; none means all
   */
  part(face, expression, ridge, share, style, regions) {
    const { geometry } = this;
    const { size } = geometry;
    const appearance = this.appearances[expression];
    const { fit } = face;
    const left = fit.expression === expression ? 1 - fit.shown : 1;
    const trust = lookUp(fit.trust, appearance.motion).map((value) => value * left);
    const [wholeTrust, wholeMask] = [
      enlarged(trust, ...size).data,
      geometry.mask(size, regions).data,
    ];
    const mask = geometry.mask(geometry.fields, regions).map((value, p) => value * trust.data[p]);
    const toFace = compose(fit.field, appearance.motion); // W
    const framed = warp(face.image, resizeField(toFace, ...size));
    const sides = enlarged(lookUp(face.light, appearance.motion), ...size).data;
    const brightness = this.lightOf(face.features, toFace) / appearance.light;
    const light = clip(brightness, ...LIGHTS);
    const eyes = 2 * (face.whites[0] / this.eyeWhite) - brightness;
    const onTeeth = Math.max(Math.min(1, Math.max(brightness, eyes)), LIGHTS[0]);
    const hue = this.hue(face);
    const regressed = ridge(framed);
    const { plain } = appearance;
    const [means, spreads, shares] = ["mean", "spread", "share"].map(
      (name) => appearance[name].data,
    );
    const spread = new Planes(framed.count, ...size);
    const added = new Planes(framed.count, ...size);
    for (let n = 0, i = 0; n < framed.count; n++) {
      const [teeth, skin] = [onTeeth * hue[n], light * hue[n]];
      for (let p = 0; p < framed.size; p++, i++) {
        const value = framed.data[i];
        spread.data[i] = sides[p] * teeth * spreads[i] - shares[p] * value;
        added.data[i] = regressed.data[i] - value + sides[p] * skin * means[i];
      }
    }
    const dark = clip((onTeeth - brightness) / DARK, 0, 1);
    const tint = dark && tintOf(appearance, framed, added, spread, hue).data;
    for (let n = 0, i = 0; n < framed.count; n++) {
      for (let p = 0; p < framed.size; p++, i++) {
        const amount = wholeMask[p] * wholeTrust[p];
        spread.data[i] = amount * (tint ? spread.data[i] + dark * tint[i] : spread.data[i]);
        added.data[i] = amount * added.data[i] - plain * spread.data[i];
      }
    }
    const kept = face.features.grey ? [added, spread].map(grey) : [added, spread];
    return {
      appearance,
      share,
      style,
      back: invert(toFace),
      mask,
      added: kept[0],
      spread: kept[1],
    };
  }

  /** Return motion (two planes) and what is added of a face by its parts, for a strength. */
  change(face, parts, strength) {
    const { size, fields } = this.geometry;
    const total = new Planes(2, ...fields); // N
    const amounts = parts.map(({ share }) => strength * share);
    const styles = parts.map((part, i) => styleAt(part.appearance, amounts[i], part.style));
    parts.forEach(({ appearance, mask, back }, i) => {
      const motion = appearance.motion.map(
        (value, at, p) =>
          amounts[i] * mask.data[p] * (value - styles[i] * appearance.shape.data[at]),
      );
      add(lookUp(motion, back), total);
    });
    let field = new Planes(2, ...fields); // n
    for (let step = 0; step < INVERSIONS; step++) field = lookUp(total, field);
    const added = new Planes(face.image.count, ...size);
    parts.forEach((part, i) => {
      const change = new Planes(added.count, ...size);
      for (let at = 0; at < change.data.length; at++) {
        change.data[at] = amounts[i] * (part.added.data[at] + styles[i] * part.spread.data[at]);
      }
      add(lookUp(change, resizeField(compose(part.back, field), ...size)), added);
    });
    return { motion: resizeField(field, ...size), added };
  }
}

/** Add planes to others, in place. */
function add(planes, total) {
  for (let i = 0; i < total.data.length; i++) total.data[i] += planes.data[i];
}

/** Return the mean over the planes as each of them. */
function grey(planes) {
  return planes.map((_, i, p) => {
    let total = 0;
    for (let k = 0; k < planes.count; k++) total += planes.data[k * planes.size + p];
    return total / planes.count;
  });
}
