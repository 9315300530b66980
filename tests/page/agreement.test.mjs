/** The page's modules against pictures that the program wrote; run by tests/test_export.py. */

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import vm from "node:vm";
import zlib from "node:zlib";

import { featuresOf } from "../../mlr/exports/page/features.mjs";
import { rint } from "../../mlr/exports/page/geometry.mjs";
import { Model } from "../../mlr/exports/page/model.mjs";
import { PhotoFace, Similarity, cropOf, toCropOf } from "../../mlr/exports/page/photo.mjs";
import { Planes, blur, compose, invert, warp } from "../../mlr/exports/page/planes.mjs";
import { encodePng } from "../../mlr/exports/page/png.mjs";
import { guessFaces } from "../../mlr/exports/page/detect.mjs";
import { halfToFloat } from "../../mlr/exports/page/model.mjs";

const folder = process.env.VECTORS;
const read = (name) => fs.readFileSync(path.join(folder, name));
const floats = (name) => new Float32Array(Uint8Array.from(read(name)).buffer);
const cases = JSON.parse(read("cases.json"));
const models = new Map();

/** Return the script of a page with an id. */
const script = (page, id) =>
  read(page)
    .toString()
    .match(new RegExp(`id="${id}">([^]*?)</script>`))[1];

function modelOf(page) {
  if (!models.has(page)) {
    models.set(page, new Model(JSON.parse(script(page, "header")), script(page, "arrays").trim()));
  }
  return models.get(page);
}

const photoOf = ({ name, height, width }) => ({
  height,
  width,
  data: new Uint8ClampedArray(read(`${name}.in`)),
});

/** Return an aligned image as planes in [0, 1]. */
function planesOf({ height, width, data }) {
  return new Planes(3, height, width).map((_, i, p, n) => data[4 * p + n] / 255);
}

/** Return the changed pixels of an aligned image, and how it fits. */
function changedCrop(model, photo, wanted) {
  const image = planesOf(photo);
  const face = model.register(image);
  const { motion, added } = model.change(face, wanted);
  const moved = warp(image, motion);
  const result = photo.data.slice();
  moved.data.forEach((value, i) => {
    result[4 * (i % moved.size) + Math.trunc(i / moved.size)] = 255 * (value + added.data[i]);
  });
  return { result, fits: [face.fit] };
}

/** Return the changed pixels of a photograph, and how its faces fit. */
function changedPhoto(model, photo, wanted) {
  const result = photo.data.slice();
  const faces = wanted.eyes.map((eyes) => new PhotoFace(model, photo, eyes));
  for (const face of faces) face.composite(photo, result, wanted);
  return { result, fits: faces.map((face) => face.fit) };
}

for (const each of cases) {
  test(`${each.name} agrees with the program within 2 levels at 99.9 % of the pixels`, () => {
    const photo = photoOf(each);
    const changed = each.eyes ? changedPhoto : changedCrop;
    const { result: found, fits } = changed(modelOf(each.page), photo, each);
    fits.forEach(({ value }, n) => assert.ok(Math.abs(value - each.fits[n]) < 0.005));
    const wanted = read(`${each.name}.out`);
    let [far, moved] = [0, 0];
    wanted.forEach((value, i) => {
      const at = 4 * Math.trunc(i / 3) + (i % 3);
      far += Math.abs(found[at] - value) > 2;
      moved += Math.abs(photo.data[at] - value) > 2;
    });
    assert.ok(far <= 0.001 * wanted.length, `${far} of ${wanted.length} values differ`);
    assert.equal(moved > 0.01 * wanted.length, each.changes, `${moved} values were changed`);
  });
}

for (const { name, page, eyes, height, width } of cases.filter(({ eyes }) => eyes)) {
  test(`the crop of ${name} agrees with the program`, () => {
    const { size, eyes: positions } = modelOf(page);
    const crop = cropOf(photoOf({ name, height, width }), toCropOf(eyes[0], size, positions), size);
    const wanted = floats(`${name}.crop`);
    const off = wanted.map((value, i) => Math.abs(value - 255 * crop.data[i]));
    assert.ok(Math.max(...off) < 0.02, `${Math.max(...off)} levels`);
  });
}

for (const name of ["noise", "far"]) {
  test(`a field far from the template, ${name}, agrees with the program`, () => {
    const { geometry, search } = modelOf("drawn.html").registered;
    const image = new Planes(3, ...geometry.size, floats(`${name}.image`));
    const features = featuresOf(image, geometry.features);
    const field = search.candidates[0].template.register(features, null);
    const wanted = floats(`${name}.field`);
    const off = wanted.map((value, i) => Math.abs(value - field.data[i])).sort();
    assert.ok(off[Math.floor(0.99 * off.length)] < 0.01, `${off.at(-1)} pixels`);
    assert.ok(wanted.some((value) => Math.abs(value) > 1));
  });
}

test("a face is followed through a clip as in the program", () => {
  const { registered } = modelOf("drawn.html");
  const { size, fields } = registered.geometry;
  const numbers = floats("moving.clip");
  let [at, last] = [0, undefined];
  const next = (count, [height, width]) =>
    new Planes(count, height, width, numbers.subarray(at, (at += count * height * width)));
  for (const [value, expression, shown] of JSON.parse(read("clip.json"))) {
    last = registered.register(next(3, size), { last });
    const { fit } = last;
    assert.ok(Math.abs(fit.value - value) < 0.005, `${fit.value}, not ${value}`);
    assert.ok(Math.abs(fit.shown - shown) < 0.02, `${fit.shown}, not ${shown}`);
    assert.equal(fit.expression, expression);
    for (const [planes, limit] of [
      [fit.field, 0.05],
      [fit.trust, 0.01],
      [new Planes(4, 1, 1, Float32Array.from(last.whites)), 0.005],
    ]) {
      const wanted = next(planes.count, planes.count === 4 ? [1, 1] : fields).data;
      const off = wanted.map((each, i) => Math.abs(each - planes.data[i])).sort();
      assert.ok(off[Math.floor(0.99 * off.length)] < limit, `${off.at(-1)} of ${limit}`);
    }
  }
  assert.equal(at, numbers.length);
});

test("half precision is read to the bit", () => {
  const bits = [0, 1, 0x3ff, 0x400, 0x3c00, 0x3555, 0x7bff, 0x8001, 0xc000, 0x7c00, 0xfc00];
  const values = [
    0,
    2 ** -24,
    1023 * 2 ** -24,
    2 ** -14,
    1,
    0.333251953125,
    65504,
    -(2 ** -24),
    -2,
    Infinity,
    -Infinity,
  ];
  assert.deepEqual([...halfToFloat(Uint16Array.from(bits))], values);
  assert.ok(Number.isNaN(halfToFloat(Uint16Array.of(0x7e00))[0]));
});

test("a model with NaN, and one that is cut short, are named", () => {
  const header = JSON.parse(script(cases[0].page, "header"));
  const bytes = Buffer.from(script(cases[0].page, "arrays"), "base64");
  assert.throws(() => new Model(header, bytes.subarray(0, -9).toString("base64")), /cut short/);
  bytes.fill(255, 0, 4);
  assert.throws(
    () => new Model(header, bytes.toString("base64")),
    /source has values that are not numbers/,
  );
});

test("the joined script defines no name twice, and ends no script of the page", () => {
  const text = script(cases[0].page, "engine");
  new vm.Script(text);
  assert.ok(text.trimEnd().endsWith("serve(self);"), "it is cut off");
});

test("faces are found near their eyes, and none in noise", () => {
  for (const each of cases.filter(({ guess }) => guess)) {
    const found = guessFaces(modelOf(each.page), photoOf(each));
    assert.equal(found.length, each.eyes.length);
    for (const eyes of each.eyes) {
      const apart = Math.hypot(eyes[1][0] - eyes[0][0], eyes[1][1] - eyes[0][1]);
      const off = found.map((other) =>
        Math.max(
          ...[0, 1].map((n) => Math.hypot(other[n][0] - eyes[n][0], other[n][1] - eyes[n][1])),
        ),
      );
      assert.ok(Math.min(...off) < 0.12 * apart, `${Math.min(...off)} px of ${apart}`);
    }
  }
});

test("eyes outside of the photograph, or too close, are refused", () => {
  const photo = { height: 9, width: 9, data: new Uint8ClampedArray(4 * 81) };
  for (const eyes of [
    [
      [20, 20],
      [30, 20],
    ],
    [
      [4, 4],
      [5, 4],
    ],
  ]) {
    assert.throws(() => new PhotoFace(modelOf(cases[0].page), photo, eyes), /one on each eye/);
  }
});

test("a blur keeps a constant, and is symmetric", () => {
  const planes = new Planes(1, 7, 6).map(() => 0.25);
  blur(planes, 1.5).data.forEach((value) => assert.ok(Math.abs(value - 0.25) < 1e-6));
  const spot = new Planes(1, 21, 21);
  spot.data[10 * 21 + 10] = 1;
  const { data } = blur(spot, 2);
  const transposed = data.map((_, p) => data[(p % 21) * 21 + Math.trunc(p / 21)]);
  data.forEach((value, p) => assert.ok(Math.abs(value - transposed[p]) < 1e-7));
  assert.ok(Math.abs(data.reduce((sum, value) => sum + value) - 1) < 1e-5);
});

test("halves are rounded to the even number", () => {
  assert.deepEqual([-1.5, 0.5, 1.4, 1.5, 2.5].map(rint), [-2, 0, 1, 2, 2]);
});

test("a field and its inverse cancel", () => {
  const field = new Planes(2, 16, 16).map(
    (_, i, p) => Math.sin((i % 16) / 3) * (p > 64 && p < 192 ? 1 : 0.5),
  );
  compose(field, invert(field)).data.forEach((value, i) => {
    const [y, x] = [Math.trunc((i % 256) / 16), i % 16];
    if (Math.min(y, x, 15 - y, 15 - x) > 3)
      assert.ok(Math.abs(value) < 0.2, `${value} at ${y}, ${x}`);
  });
});

test("a similarity and its inverse cancel", () => {
  const map = Similarity.ofTwoPoints(
    [
      [1, 2],
      [5, 3],
    ],
    [
      [-2, 0],
      [4, 9],
    ],
  );
  const [x, y] = map.inverse.of(map.of([7, -3]));
  assert.ok(Math.hypot(x - 7, y + 3) < 1e-12);
  const [u, v] = map.of([5, 3]);
  assert.ok(Math.hypot(u - 4, v - 9) < 1e-12);
});

for (const alpha of [255, 100]) {
  test(`a PNG file keeps all pixels and the record, alpha ${alpha}`, async () => {
    const data = Uint8ClampedArray.from({ length: 4 * 5 * 7 }, (_, i) =>
      i % 4 === 3 ? alpha : ((i * i) % 11) * 20,
    );
    const record = JSON.stringify({ expression: "fröhlich" });
    const bytes = Buffer.from(
      await (await encodePng({ height: 5, width: 7, data }, { Comment: record })).arrayBuffer(),
    );
    fs.writeFileSync(path.join(folder, `alpha-${alpha}.png`), bytes); // read by test_export.py
    fs.writeFileSync(path.join(folder, `alpha-${alpha}.raw`), data);
    for (let at = 8; at < bytes.length;) {
      const length = bytes.readUInt32BE(at);
      const sum = zlib.crc32?.(bytes.subarray(at + 4, at + 8 + length));
      if (sum !== undefined) assert.equal(bytes.readUInt32BE(at + 8 + length), sum);
      at += length + 12;
    }
  });
}
