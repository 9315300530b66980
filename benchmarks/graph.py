"""How long the graph of `mlr export` takes for a face, beside the program, in one thread.

    python -m benchmarks.graph [MODEL] [--web FOLDER]

Changes drawn faces and writes medians to benchmarks/results/graph.md. Needs the extra onnx; the
folder, where `npm install onnxruntime-web` was run, adds its times in Node.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import onnxruntime

from benchmarks.tables import machine, table
from mlr import export, load
from mlr.samples import draw_face

SEED, SUBJECTS, REPEATS = 11, 8, 5
RESULTS = Path(__file__).parent / "results" / "graph.md"
SCRIPT = """
const ort = require("onnxruntime-web");
const { readFileSync } = require("node:fs");
const [path, raw, side, repeats] = process.argv.slice(1);
ort.env.wasm.numThreads = 1;
(async () => {
  const session = await ort.InferenceSession.create(readFileSync(path));
  const all = new Float32Array(readFileSync(raw).buffer.slice(0));
  const number = new ort.Tensor("float32", [1], [1]);
  const size = 3 * side * side;
  for (let n = 0; n < repeats * (all.length / size); n++) {
    const first = (n * size) % all.length;
    const image = new ort.Tensor(
      "float32", all.slice(first, first + size), [1, 3, Number(side), Number(side)]);
    const start = performance.now();
    await session.run({ image, strength: number, style: number });
    console.log(performance.now() - start);
  }
})();
"""


def timed(act, faces):
    """Return the median of the milliseconds for a face, after a first call."""
    times = []
    for face in [faces[0], *faces * REPEATS]:
        start = perf_counter()
        act(face)
        times.append(1000 * (perf_counter() - start))
    return median(times[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smile", help="of one expression with styles")
    parser.add_argument("--web", type=Path)
    options = parser.parse_args()
    model = load(options.model)
    side = model.shape[1]
    faces = [draw_face(SEED, n, "neutral", side) / np.float32(255) for n in range(SUBJECTS)]
    one = np.float32([1])
    with tempfile.TemporaryDirectory() as folder:
        path = export(model, Path(folder) / "face.onnx")
        how = onnxruntime.SessionOptions()
        how.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, how, providers=["CPUExecutionProvider"])

        def run(face):
            image = face.transpose(2, 0, 1)[None]
            return session.run(None, {"image": image, "strength": one, "style": one})[0]

        rows = {
            "the program": timed(lambda face: model.synthesize(face, style=1.0), faces),
            f"ONNX Runtime {onnxruntime.__version__}": timed(run, faces),
        }
        if options.web:
            raw = Path(folder) / "faces.raw"
            raw.write_bytes(np.stack(faces).transpose(0, 3, 1, 2).tobytes())
            command = ["node", "-e", SCRIPT, path, raw, str(side), str(REPEATS)]
            text = subprocess.check_output(command, cwd=options.web, text=True)
            rows["onnxruntime-web, Node"] = median(map(float, text.split()))
    found = table([f"{side} px", "ms a face"], [(name, f"{rows[name]:.0f}") for name in rows])
    RESULTS.write_text(
        "# Graph\n\nTime of the graph of `mlr export` for a face: `python -m benchmarks.graph`.\n"
        f"{machine(1)}; medians.\n\n{found}\n"
    )
    print(found)


if __name__ == "__main__":
    main()
