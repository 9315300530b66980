"""How long the page of `mlr export` takes for a face, in Chromium and on one core.

    python -m benchmarks.face_page MODEL

Registers and changes drawn faces of held-out subjects in a worker of the page, from one start and
with the full search, then follows and changes a face that moves through video frames of 480 x 360
pixels, as the page does with a camera. Prints medians. Needs the extra browser and Chromium; on
Linux, all of it runs on one core.
"""

import argparse
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from mlr import load
from mlr.exports.export import render
from mlr.samples import draw_face

SEED, SUBJECTS, REPEATS = 11, 8, 5
FRAMES, PORTRAIT = 60, 260  # of the video, and the side of the face in it, in pixels
MEASURE = """
const imageOf = (width, height) => {
  return { width, height, data: new Uint8ClampedArray(4 * width * height).fill(128) };
};
const video = (portrait, side, k) => {
  const frame = imageOf(480, 360);
  const left = 110 + Math.round(10 * Math.sin(k / 5));
  for (let p = 0; p < side * side; p++) {
    const [x, y] = [left + (p % side), 50 + Math.trunc(p / side)];
    for (let n = 0; n < 3; n++) frame.data[4 * (480 * y + x) + n] = portrait[3 * p + n];
  }
  return frame;
};
const halfOf = ({ width, height, data }) => {
  const small = imageOf(width / 2, height / 2);
  for (let i = 0; i < small.data.length; i++) {
    const [p, n] = [Math.trunc(i / 4), i % 4];
    const at = 4 * (2 * width * Math.trunc(p / small.width) + 2 * (p % small.width)) + n;
    small.data[i] = (data[at] + data[at + 4] + data[at + 4 * width] + data[at + 4 * width + 4]) / 4;
  }
  return small;
};
onmessage = ({ data: { header, arrays, images, portrait, side, frames, repeats } }) => {
  const timed = (act) => {
    const start = performance.now();
    act();
    return performance.now() - start;
  };
  let model;
  const found = { "reading the model": [timed(() => { model = new Model(header, arrays); })] };
  const shares = { [header.expressions[0]]: 1 };
  const wanted = (strength) => ({ shares, strength, style: null, regions: [] });
  for (const pixels of Array(repeats).fill(images).flat()) {
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
  const engine = new Engine();
  engine.load({ header, arrays });
  for (let k = 0; k < frames; k++) {
    const photo = video(portrait, side, k);
    const small = halfOf(photo);
    let seen;
    const act = () => {
      seen = engine.frame({ photo, small, wanted: wanted(1), first: !k }).faces;
    };
    (found["a video frame"] ??= []).push(timed(act));
    if (!seen.length) throw new Error(`the face is lost in frame ${k}`);
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
    script = parts["engine"].replace("serve(self);", MEASURE)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # of this process and the browser
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        data = {
            "header": json.loads(parts["header"]),
            "arrays": parts["arrays"],
            "images": images,
            "portrait": draw_face(SEED, 0, "neutral", PORTRAIT).ravel().tolist(),
            "side": PORTRAIT,
            "frames": FRAMES,
            "repeats": REPEATS,
        }
        found = page.evaluate(RUN, [script, data])
        print(f"Chromium {browser.version}, {side} px, {', '.join(model.expressions)}")
        browser.close()
    for name, times in found.items():
        print(f"{name:20}{np.median(times):8.1f} ms")
    print(f"{1000 / np.mean(found['a video frame'][1:]):.0f} video frames a second")


if __name__ == "__main__":
    main()
