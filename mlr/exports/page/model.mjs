/** The model of the page: read from its text, and applied to aligned faces. */

import { Planes } from "./planes.mjs";
import { Geometry, clip } from "./geometry.mjs";
import { Registered } from "./synthesis.mjs";

export const LUMA = [0.299, 0.587, 0.114];

/** Something that the user can understand and do something about. */
export class Problem extends Error {}

/** Return the bytes of a base64 text. */
function bytesOf(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

let table = null; // of halfToFloat, for all bit patterns

/** Return numbers of half precision as float32. */
export function halfToFloat(halves) {
  table ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => {
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const sign = bits >> 15 ? -1 : 1;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
  });
  return Float32Array.from(halves, (bits) => table[bits]);
}

/** Return the planes of each array of a model, by name; see mlr.exports.page for the format. */
function arraysOf({ arrays }, text) {
  const { buffer } = bytesOf(text);
  const found = {};
  let begin = 0;
  for (const { name, type, shape } of arrays) {
    const [height, width] = shape.slice(-2);
    const count = shape.slice(0, -2).reduce((product, side) => product * side, 1);
    const length = count * height * width;
    const kind = { half: Uint16Array, float: Float32Array, byte: Uint8Array }[type];
    const end = begin + length * kind.BYTES_PER_ELEMENT;
    if (end > buffer.byteLength)
      throw new Problem("The model in this page is cut short. Export it again.");
    const stored = new kind(buffer.slice(begin, end));
    const data =
      type === "half"
        ? halfToFloat(stored)
        : type === "byte"
          ? Float32Array.from(stored, (value) => value / 255)
          : stored;
    if (!data.every(Number.isFinite)) {
      throw new Problem(
        `The model in this page is damaged: ${name} has values that are not numbers. ` +
          "Export it again.",
      );
    }
    found[name] = new Planes(count, height, width, data);
    begin = end;
  }
  return found;
}

/** A model, as mlr.core.model.Model. */
export class Model {
  /** @param {object} header and @param {string} text base64 of the arrays, from the page */
  constructor(header, text) {
    const arrays = arraysOf(header, text);
    Object.assign(this, header);
    this.weights = header.expressions.map((_, index) => arrays[`weights${index}`]);
    const geometry = new Geometry(header.size, header.eyes);
    const names = ["template", "variation", "motion", "shape", "mean", "spread", "share", "face"];
    const appearances = Object.fromEntries(
      header.expressions.map((expression, index) => [
        expression,
        {
          ...header.looks[index],
          ...Object.fromEntries(names.map((name) => [name, arrays[`${name}${index}`]])),
        },
      ]),
    );
    this.registered = new Registered(geometry, arrays.source, header.eyeWhite, appearances);
  }

  /** Return f(x) of an expression for an image: sums over the taps, plus the bias. */
  output(expression, image) {
    const weights = this.weights[this.expressions.indexOf(expression)];
    const { taps, edge } = this;
    const { height, width, size } = image;
    const planes = taps.length + 1;
    const result = new Planes(image.count, height, width);
    for (let n = 0; n < image.count; n++) {
      const first = weights.count === planes ? 0 : n * planes;
      const [from, to] = [image.plane(n), result.plane(n)];
      to.set(weights.plane(first + taps.length));
      taps.forEach(([dy, dx], k) => {
        const own = weights.plane(first + k);
        for (let y = 0; y < height; y++) {
          if (!edge && (y + dy < 0 || y + dy >= height)) continue;
          const row = clip(y + dy, 0, height - 1) * width;
          const [begin, end] = edge ? [0, width] : [Math.max(-dx, 0), Math.min(width - dx, width)];
          for (let x = begin, p = y * width + begin; x < end; x++, p++) {
            to[p] += own[p] * from[row + Math.min(Math.max(x + dx, 0), width - 1)];
          }
        }
      });
    }
    return result;
  }

  /** Return a registered face, to be given to `change`. */
  register(image, options) {
    const { channels } = this;
    return this.registered.register(
      image.count === channels ? image : withChannels(image, channels),
      options,
    );
  }

  /**
   * Return motion and what is added of a face, in the model's channels.
   *
   * @param {object} face from `register`
   * @param {{shares: Object<string, number>, strength: number, style: ?number, regions: string[]}}
   *   wanted style null for the default
   */
  change(face, { shares, strength, style, regions }) {
    const key = JSON.stringify([shares, style, regions]);
    if (face.key !== key) {
      face.parts = Object.entries(shares)
        .filter(([, share]) => share)
        .map(([name, share]) =>
          this.registered.part(
            face,
            name,
            (framed) => this.output(name, framed),
            share,
            style,
            regions,
          ),
        );
      face.key = key;
    }
    return this.registered.change(face, face.parts, strength);
  }
}

/** Return an image with 1 channel (the luma) or 3. */
function withChannels(image, channels) {
  const result = new Planes(channels, image.height, image.width);
  return result.map((_, i, p) =>
    channels === 3
      ? image.data[p]
      : LUMA.reduce((sum, weight, c) => sum + weight * image.data[c * image.size + p], 0),
  );
}
