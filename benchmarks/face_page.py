"""How long the page of `mlr export` takes for a face, in Chromium and on one core.

    python -m benchmarks.face_page MODEL

Registers and changes drawn faces of held-out subjects in a worker of the page, from one start and
with the full search, and prints medians. Needs the extra browser and Chromium.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from mlr import load
from mlr.exports.export import render
from mlr.samples import draw_face

SEED, SUBJECTS, REPEATS = 11, 8, 5
MEASURE = """
onmessage = ({ data: { header, arrays, images } }) => {
  const timed = (act) => {
    const start = performance.now();
    act();
    return performance.now() - start;
  };
  let model;
  const found = { "reading the model": [timed(() => { model = new Model(header, arrays); })] };
  const shares = { [header.expressions[0]]: 1 };
  const wanted = (strength) => ({ shares, strength, style: null, regions: [] });
  for (const pixels of Array(%d).fill(images).flat()) {
    const image = new Planes(3, ...header.size).map((_, i, p, n) => pixels[3 * p + n] / 255);
    let face;
    const whole = (all) => () => {
      face = model.register(image, { all });
      model.change(face, wanted(1));
    };
    for (const [name, act] of Object.entries({
      "one start": whole(false), "full search": whole(true),
      "another strength": () => model.change(face, wanted(0.5)),
    })) (found[name] ??= []).push(timed(act));
  }
  postMessage(found);
};
"""
RUN = """([script, data]) => new Promise((resolve) => {
  const worker = new Worker(URL.createObjectURL(new Blob([script])));
  worker.onmessage = (event) => resolve(event.data);
  worker.postMessage(data);
})"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    model = load(parser.parse_args().model)
    text = render(model)
    parts = {
        name: re.search(rf'id="{name}">(.*?)</script>', text, re.S)[1]
        for name in ("header", "arrays", "engine")
    }
    side = model.shape[1]
    images = [draw_face(SEED, n, "neutral", side).ravel().tolist() for n in range(SUBJECTS)]
    script = parts["engine"].replace("serve(self);", MEASURE % REPEATS)
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        data = {"header": json.loads(parts["header"]), "arrays": parts["arrays"], "images": images}
        found = page.evaluate(RUN, [script, data])
        print(f"Chromium {browser.version}, {side} px, {len(model.expressions)} expressions")
        browser.close()
    for name, times in found.items():
        print(f"{name:20}{np.median(times):8.1f} ms")


if __name__ == "__main__":
    main()
