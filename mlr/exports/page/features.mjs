/**
 * Features that registration compares: local luminance and redness, free of light and skin.
 *
 * With L the mean of the channels and G8 a Gaussian of 8 px, for a shorter side of 128 px,
 *
 *     d = L - G8 L,              f1 = d / (sqrt(G8 d^2) + .03)
 *     rho = (R - G)/(L + .15),   d = rho - G8 rho,   f2 = d / (sqrt(G8 d^2) + .03)
 */

import { Planes, areaAveraged, blur, halved } from "./planes.mjs";

const SIGMA = 8; // pixels, for a side of 128
const FLOOR = 0.03; // added to the local deviation
const GREY = 2.5 / 255; // largest difference of the channels of a grey image stored as colour

/**
 * Return the features of an image: whole (at a shorter side of 128 px), half, luminance, light (the
 * luminance at half size), and whether the second feature is 0 everywhere (grey).
 *
 * @param {Planes} image 1 or 3 planes in [0, 1]
 * @param {number[]} size height and width of the features
 * @param {number} [sigma] of the blur, where the features are not for a side of 128 px
 */
export function featuresOf(image, size, sigma = SIGMA) {
  const reduced = areaAveraged(image, ...size);
  const [red, green, blue] = [0, 1, 2].map((n) => reduced.count > n && reduced.plane(n));
  const grey =
    reduced.count === 1 ||
    [red, blue].every((one) => one.every((value, p) => Math.abs(value - green[p]) < GREY));
  const luminance = new Planes(1, ...size);
  for (let p = 0; p < luminance.size; p++) {
    luminance.data[p] = reduced.count === 1 ? red[p] : (red[p] + green[p] + blue[p]) / 3;
  }
  const whole = new Planes(2, ...size);
  whole.plane(0).set(luminance.data);
  if (!grey) {
    const redness = whole.plane(1);
    for (let p = 0; p < whole.size; p++) {
      redness[p] = (red[p] - green[p]) / (luminance.data[p] + 0.15);
    }
  }
  const used = whole.some(0, grey ? 1 : 2);
  const mean = blur(used, sigma);
  for (let i = 0; i < used.data.length; i++) used.data[i] -= mean.data[i];
  const variance = blur(
    used.map((value) => value * value),
    sigma,
  );
  for (let i = 0; i < used.data.length; i++) used.data[i] /= Math.sqrt(variance.data[i]) + FLOOR;
  return { whole, half: halved(whole), luminance, light: halved(luminance), grey };
}
