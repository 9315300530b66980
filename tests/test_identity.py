"""Whether outputs keep the identity, by dlib's embeddings; needs the extra."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mlr import load
from mlr.errors import MlrError
from mlr.evaluation.evaluate import evaluate
from mlr.evaluation.scores import embedding
from mlr.io.images import read_image
from mlr.photo.detect import installed, load_dlib_model
from tests.conftest import draw, draw_pairs

LONDON = Path(os.environ.get("MLR_DATA", "../shared/data")) / "london" / "128"

pytestmark = pytest.mark.skipif(not installed(), reason="needs the extra align")


def naive_embedding(pixels):
    """Return the embedding as dlib's examples make it."""
    import dlib

    found = importlib.util.find_spec("face_recognition_models")
    folder = Path(found.origin).parent / "models"
    predictor = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
    network = dlib.face_recognition_model_v1(
        str(folder / "dlib_face_recognition_resnet_model_v1.dat")
    )
    large = np.asarray(PIL.Image.fromarray(pixels).resize((512, 512), PIL.Image.BICUBIC))
    at = np.clip(np.arange(-100, 612), 0, 511)
    padded = np.ascontiguousarray(large[at][:, at])
    box = dlib.rectangle(left=150, top=180, right=562, bottom=580)
    return np.array(network.compute_face_descriptor(padded, predictor(padded, box)))


def test_same_person_is_the_mean_distance_of_output_and_input(model, tmp_path):
    data = draw_pairs(tmp_path, subjects=range(3))
    model = load(model)
    distances = []
    for path in sorted((data / "neutral").iterdir()):
        x = read_image(path).pixels
        y = model.synthesize(x, "happy")
        distances.append(np.linalg.norm(naive_embedding(y) - naive_embedding(x)))
    scores = evaluate(model, data)["targets"]["happy"]
    assert min(distances) > 0
    assert scores["same_person"] == pytest.approx(np.mean(distances), rel=1e-6)
    assert scores["copy_input"]["same_person"] == 0
    json.dumps(scores, allow_nan=False)
    assert evaluate(model, data, threads=3)["targets"]["happy"] == scores


def test_grey_faces_have_an_embedding_too(grey_model, tmp_path):
    data = draw_pairs(tmp_path, subjects=range(1), channels=1)
    scores = evaluate(load(grey_model), data)["targets"]["happy"]
    x = read_image(data / "neutral" / "0.png").pixels
    y = load(grey_model).synthesize(x, "happy")
    expected = [naive_embedding(pixels.repeat(3, axis=2)) for pixels in (x, y)]
    distance = np.linalg.norm(expected[1] - expected[0])
    assert scores["same_person"] == pytest.approx(distance, rel=1e-6)


def test_an_embedding_is_of_128_numbers_and_of_any_size():
    of_wide = embedding(draw(1, 40)[:30])
    assert of_wide.shape == (128,)
    assert np.linalg.norm(of_wide) > 0


@pytest.mark.skipif(not LONDON.is_dir(), reason=f"needs {LONDON} (set MLR_DATA)")
def test_a_smile_changes_an_embedding_less_than_another_subject_does():
    faces = sorted((LONDON / "neutral").glob("*.png"))[:4]
    neutral, happy = (
        [embedding(read_image(LONDON / expression / path.name).pixels) for path in faces]
        for expression in ("neutral", "happy")
    )
    between = [
        np.linalg.norm(a - b) for m, a in enumerate(neutral) for n, b in enumerate(happy) if m != n
    ]
    within = [np.linalg.norm(a - b) for a, b in zip(neutral, happy, strict=True)]
    assert max(within) < 0.45 < min(between)


def test_a_model_file_that_cannot_be_read_is_named():
    import dlib

    with pytest.raises(MlrError, match=r"missing\.dat: cannot be read; install face-"):
        load_dlib_model(dlib.shape_predictor, "missing.dat")
