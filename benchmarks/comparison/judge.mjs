// Probabilities that an independent network gives to expressions of faces.
//
//     node judge.mjs MODULES FACES SIDE
//
// MODULES is a folder in which `npm install @vladmandic/face-api@1.7.15 @tensorflow/tfjs@4
// @tensorflow/tfjs-backend-wasm@4` has been run; FACES is a file of RGB faces of SIDE x SIDE bytes
// each. Prints a JSON array with an object of seven probabilities for each face.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, file, text] = process.argv.slice(2);
const side = Number(text);
delete globalThis.fetch; // the weights are read from the package
const require = createRequire(join(modules, "package.json"));
const faceapi = require("@vladmandic/face-api/dist/face-api.node-wasm.js");
const { setWasmPaths } = require("@tensorflow/tfjs-backend-wasm");
setWasmPaths(join(modules, "node_modules/@tensorflow/tfjs-backend-wasm/dist/"));
await faceapi.tf.setBackend("wasm");
await faceapi.tf.ready();

const folder = join(modules, "node_modules/@vladmandic/face-api/model");
const name = "face_expression_model";
const [{ weights }] = JSON.parse(readFileSync(join(folder, `${name}-weights_manifest.json`)));
const bytes = new Uint8Array(readFileSync(join(folder, `${name}.bin`)));
const net = faceapi.nets.faceExpressionNet;
net.loadFromWeightMap(faceapi.tf.io.decodeWeights(bytes.buffer, weights));

const pixels = readFileSync(file);
const size = 3 * side * side;
const found = [];
for (let start = 0; start < pixels.length; start += size) {
  const face = Float32Array.from(pixels.subarray(start, start + size));
  const tensor = faceapi.tf.tensor3d(face, [side, side, 3]);
  const { ...each } = await net.predictExpressions(tensor);
  found.push(Object.fromEntries(Object.entries(each).filter(([, p]) => typeof p === "number")));
  tensor.dispose();
}
console.log(JSON.stringify(found));
