/**
 * Search for a face whose position, proportions and expression are not those of the sources.
 *
 * As in mlr.core.registration.search, a coarse fit moves each of several templates by nine numbers,
 * from several starts; the best are registered.
 */

import { Planes, blur, compose, halved, lookUp } from "./planes.mjs";
import { EYES, ramp } from "./geometry.mjs";
import { normalEquations, withDerivatives } from "./register.mjs";

/** Expected size of the nine numbers: of 1, X, Y, r down, and of 1, X, Y, X^2, X r across. */
const SIGMAS = [0.04, 0.12, 0.12, 0.06, 0.04, 0.12, 0.12, 0.3, 0.15];
const COUNT = SIGMAS.length;
const DOWNWARD = 4; // of the numbers move down, the others across
const LOWER_FACE = 3; // index of r down
const STARTS = [0, -0.06, 0.06, 0.12]; // of that number
const [FIRST_STEPS, MORE_STEPS] = [3, 5]; // before and after candidates are pruned
const [PRUNED, REFINED] = [8, 4]; // candidates after the first steps, and those that are refined
const APART = 0.75; // largest displacement between equal candidates, in pixels of the coarse size
const PRICE = 0.01; // of unusual numbers, in correlation
const STEADY = 0.5; // share of the last video frame in the fit of a clip
const [FIT, MOUTH_FIT, LOCAL_FIT, SHOWN] = [
  [0.42, 0.5],
  [1, 1.1],
  [0.15, 0.4],
  [0.15, 0.45],
];
const [LOCAL_SIGMA, TRUST_SIGMA] = [5, 2]; // blurs of the local correlation and of its ramp

/**
 * How a face fits the faces learnt from.
 *
 * @typedef {object} Fit
 * @property {Planes} field from the template of the sources to the face, at half size
 * @property {number} value correlation with the best template, less the price of its proportions
 * @property {?string} expression of that template; null for the sources'
 * @property {number} shown how much of that expression the face shows already, 0 to 1
 * @property {Planes} trust the share of a change that each pixel of the sources' frame gets
 * @property {boolean} unlike nothing is changed: this is not a face like those learnt from
 * @property {number} candidate index of the template
 * @property {Planes} start the field from that template to the face
 */

/** Return the mean of a fit and the one of the video frame before, against jitter. */
export function steadied(fit, last) {
  const mean = (one, other) => STEADY * other + (1 - STEADY) * one;
  const means = (name) => fit[name].map((value, i) => mean(value, last[name].data[i]));
  const trust = means("trust");
  return {
    ...fit,
    field: means("field"),
    value: mean(fit.value, last.value),
    shown: mean(fit.shown, last.expression === fit.expression ? last.shown : 0),
    trust,
    unlike: !trust.data.some(Boolean),
  };
}

/** Finds the face in aligned images of one size. */
export class Search {
  /** @param {{template, expression: ?string, back: ?Planes}[]} candidates the sources' first */
  constructor(candidates) {
    this.candidates = candidates;
    const { geometry } = candidates[0].template;
    this.geometry = geometry;
    this.weight = geometry.weights[0];
    const size = geometry.fields.map((side) => side / 2);
    this.bases = coarseFields(geometry, size);
    this.fixed = candidates.map(({ template }) => withDerivatives(halved(template.half)));
    this.toNumbers = projection(coarseFields(geometry, geometry.fields), geometry.weights[1]);
    this.products = new Planes(5, ...size);
  }

  /**
   * Return the Fit of a face: the best one from all starts, or that from the sources' template in
   * its own place alone, which takes a fraction of the time.
   */
  find(features, { all = true } = {}) {
    const starts = all ? this.coarse(features) : [[0, null]];
    let best = null;
    for (const [index, start] of starts) {
      const { template } = this.candidates[index];
      const field = template.register(features, start);
      const value = this.value(template, features, field);
      if (!best || value > best.value) best = { value, index, field };
    }
    return this.finished(features, best);
  }

  /** Return the Fit of a face, starting from its fit in the video frame before. */
  follow(features, last) {
    const { template } = this.candidates[last.candidate];
    const field = template.polished(features, last.start);
    const value = this.value(template, features, field);
    return this.finished(features, { value, index: last.candidate, field });
  }

  /** Return a fit whose field is carried to the frame of the sources. */
  finished(features, { value, index, field }) {
    const { template: source } = this.candidates[0];
    const { template, expression = null, back } = this.candidates[index];
    const start = field;
    let shown = 0;
    if (back) {
      const before = template.correlation(features, field, this.geometry.mouth);
      field = source.polished(features, compose(field, back));
      const after = source.correlation(features, field, this.geometry.mouth);
      shown = ramp(before - after, SHOWN);
    }
    const trust = this.trust(features, value, field);
    const unlike = !trust.data.some(Boolean);
    return { field, value, expression, shown, trust, unlike, candidate: index, start };
  }

  value(template, features, field) {
    let price = 0;
    this.toNumbers.forEach((weights, k) => {
      const number = weights.reduce((sum, weight, i) => sum + weight * field.data[i], 0);
      price += PRICE * (number / SIGMAS[k]) ** 2;
    });
    return template.correlation(features, field) - price;
  }

  trust(features, value, field) {
    const { template } = this.candidates[0];
    const local = template.localCorrelation(features, field, LOCAL_SIGMA);
    const { mouth } = this.geometry;
    const atMouth = value + mouth.reduce((sum, p) => sum + local.data[p], 0) / mouth.length;
    const whole = ramp(value, FIT) * ramp(atMouth, MOUTH_FIT);
    return blur(
      local.map((each) => ramp(each, LOCAL_FIT)),
      TRUST_SIGMA,
    ).map((each) => whole * each);
  }

  /** Return indices of candidates and coarse fields to refine. */
  coarse(features) {
    const moving = withDerivatives(halved(features.half));
    let tried = this.candidates.flatMap((_, index) =>
      STARTS.map((start) => {
        const numbers = new Float64Array(COUNT);
        numbers[LOWER_FACE] = start;
        return { index, numbers };
      }),
    );
    for (const steps of [FIRST_STEPS, MORE_STEPS]) {
      for (const each of tried) {
        for (let step = 0; step < steps; step++) this.step(moving, features.grey, each);
        each.field = this.field(each.numbers);
        each.fit = this.coarseFit(moving, features.grey, each);
      }
      tried = tried.sort((a, b) => b.fit - a.fit).slice(0, PRUNED);
    }
    const chosen = [];
    for (const { index, field } of tried) {
      const known = chosen.some(
        ([other, its]) =>
          other === index && field.data.every((value, i) => Math.abs(value - its.data[i]) < APART),
      );
      if (!known) chosen.push([index, field]);
    }
    return chosen.slice(0, REFINED);
  }

  /** Return the coarse field of nine numbers. */
  field(numbers) {
    const field = new Planes(2, this.products.height, this.products.width);
    this.bases.forEach((base, k) => {
      const number = Math.fround(numbers[k]);
      for (let i = 0; i < base.data.length; i++) field.data[i] += number * base.data[i];
    });
    return field;
  }

  /** Take a Gauss-Newton step of the numbers of a candidate. */
  step(moving, grey, { index, numbers }) {
    const { products, bases } = this;
    normalEquations(moving, this.fixed[index], this.weight, !grey, this.field(numbers), products);
    const { data: a, size } = products;
    const matrix = Array.from({ length: COUNT }, () => new Float64Array(COUNT + 1));
    const [down, across] = [new Float64Array(size), new Float64Array(size)];
    for (let i = 0; i < COUNT; i++) {
      const axis = Number(i >= DOWNWARD); // the only one in which the field is not 0
      const base = bases[i].plane(axis);
      let right = 0;
      for (let p = 0; p < size; p++) {
        down[p] = base[p] * a[axis * size + p];
        across[p] = base[p] * a[(axis + 1) * size + p];
        right += base[p] * a[(axis + 3) * size + p];
      }
      for (let j = i; j < COUNT; j++) {
        const other = bases[j].plane(Number(j >= DOWNWARD));
        const half = j < DOWNWARD ? down : across;
        let sum = 0;
        for (let p = 0; p < size; p++) sum += half[p] * other[p];
        matrix[i][j] = matrix[j][i] = sum;
      }
      const pull = SIGMAS[i] ** -2; // to 0
      matrix[i][COUNT] = right - pull * numbers[i];
    }
    for (let i = 0; i < COUNT; i++) matrix[i][i] += SIGMAS[i] ** -2;
    solve(matrix).forEach(([step], k) => {
      numbers[k] += step;
    });
  }

  /** Return the weighted correlation of a candidate. */
  coarseFit(moving, grey, { index, field }) {
    const { weight } = this;
    const total = weight.reduce((sum, each) => sum + each, 0);
    let [product, own, wanted] = [0, 0, 0];
    for (const n of grey ? [0] : [0, 3]) {
      const a = lookUp(moving.some(n, n + 1), field).data;
      const b = this.fixed[index].plane(n);
      const [meanA, meanB] = [a, b].map(
        (plane) => weight.reduce((sum, each, p) => sum + each * plane[p], 0) / total,
      );
      for (let p = 0; p < weight.length; p++) {
        product += weight[p] * (a[p] - meanA) * (b[p] - meanB);
        own += weight[p] * (a[p] - meanA) ** 2;
        wanted += weight[p] * (b[p] - meanB) ** 2;
      }
    }
    const scale = Math.sqrt(own * wanted);
    return scale > 0 ? product / scale : 0;
  }
}

/** Return the nine coarse fields for a number of 1 each, in pixels of a grid. */
function coarseFields(geometry, [height, width]) {
  const rampDown = (y) => Math.min(Math.max((y - 0.4) / 0.35, 0), 1.15);
  const across = (x) => x - 0.5;
  const shapes = [
    () => 1,
    (y, x) => across(x),
    (y) => y - EYES[0][1],
    rampDown,
    () => 1,
    (y, x) => across(x),
    (y) => y - EYES[0][1],
    (y, x) => across(x) ** 2,
    (y, x) => across(x) * rampDown(y),
  ];
  return shapes.map((shape, k) => {
    const field = new Planes(2, height, width);
    const plane = geometry.plane([height, width], 0, shape);
    const side = Math.fround(geometry.side(width));
    field.plane(Number(k >= DOWNWARD)).set(plane.data.map((value) => value * side));
    return field;
  });
}

/** Return the weights that give the nine numbers of a field, by weighted least squares. */
function projection(bases, weight) {
  const [length, size] = [bases[0].data.length, weight.length];
  const weighted = bases.map(({ data }) =>
    Float64Array.from(data, (value, i) => value * weight[i % size]),
  );
  const matrix = weighted.map((one, k) =>
    Float64Array.from({ length: 2 * COUNT }, (_, j) =>
      j < COUNT
        ? one.reduce((sum, value, i) => sum + value * bases[j].data[i], 0)
        : Number(j - COUNT === k),
    ),
  );
  const inverse = solve(matrix);
  return inverse.map((row) => {
    const result = new Float64Array(length);
    row.forEach((share, j) => {
      for (let i = 0; i < length; i++) result[i] += share * weighted[j][i];
    });
    return result;
  });
}

/** Return X with A X = B, given the rows [A B], which are used up; with pivots. */
function solve(rows) {
  const count = rows.length;
  for (let k = 0; k < count; k++) {
    let pivot = k;
    for (let i = k + 1; i < count; i++) {
      if (Math.abs(rows[i][k]) > Math.abs(rows[pivot][k])) pivot = i;
    }
    [rows[k], rows[pivot]] = [rows[pivot], rows[k]];
    for (let i = 0; i < count; i++) {
      const share = i === k ? 0 : rows[i][k] / rows[k][k];
      for (let j = k; share && j < rows[k].length; j++) rows[i][j] -= share * rows[k][j];
    }
  }
  return rows.map((row, k) => Array.from(row.subarray(count), (value) => value / row[k]));
}
