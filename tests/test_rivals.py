"""The rivals of masked regression: each recovers planted weights, and agrees with scikit-learn."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Lasso, LinearRegression, Ridge, orthogonal_mp
from sklearn.pipeline import make_pipeline

import mlr
from benchmarks.comparison import __main__ as comparison
from benchmarks.comparison import claims, data, measures, protocol, recognition, report
from benchmarks.comparison.__main__ import main
from benchmarks.comparison.kept import Kept
from benchmarks.rivals import (
    kernel_ridge,
    lasso,
    lsrf,
    masked,
    omp,
    pcr,
    pursuit,
    registered,
    ridge,
    rrr,
)
from benchmarks.rivals.base import DATA_RANGE, SETTINGS
from benchmarks.rivals.registry import find, make
from mlr.errors import MlrError
from mlr.photo.detect import installed
from mlr.recipes.fit import RECIPES
from mlr.training.train import train
from tests.conftest import draw, draw_pairs

KEYS = [key for key, factory in find()[0].items() if factory().family != "gan"]
WHOLE_FACE = ["ridge", "pcr", "rrr", "rbf", "polynomial"]


def faces(subjects, size=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (subjects, size, size, 3), dtype=np.uint8)


def rows(subjects, size, seed=0):
    return np.random.default_rng(seed).random((subjects, size))


def error(outputs, targets):
    return float(np.square(outputs - targets / DATA_RANGE).mean())


# The interface.


@pytest.mark.parametrize("key", KEYS)
def test_rivals_have_the_same_interface(key, tmp_path):
    inputs, targets, held = faces(12), faces(12, seed=1), faces(3, seed=2)
    rival = make(key)
    grid = rival.grid()
    assert grid == [{}] or len(grid) == SETTINGS
    along_path = list(rival.path(inputs, targets, held))
    assert len(along_path) == len(grid)
    for setting, outputs in zip(grid[::5], along_path[::5], strict=True):
        rival = make(key)
        rival.fit(inputs, targets, **setting)
        predicted = rival.predict(held)
        assert predicted.dtype == np.float32
        np.testing.assert_allclose(predicted, outputs, atol=5e-3)
    rival.save(tmp_path / "model.npz")
    assert (tmp_path / "model.npz").stat().st_size > 0
    assert rival.parameters() >= 0


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("ridge", {"penalty": 1e-6}),
        ("ridge-change", {"penalty": 1e-6}),
        ("pcr", {"components": 50}),
        ("rrr", {"rank": 20, "penalty": 1e-6}),
        ("rbf", {"gamma": 0.5, "penalty": 1e-6}),
        ("polynomial", {"degree": 2, "penalty": 1e-6}),
        ("omp", {"nonzero": 3}),
        ("lasso", {"alpha": 1e-4}),
        ("mlr-chosen", {"side": 3, "penalty": 1e-6}),
    ],
)
def test_a_rival_memorises_four_pairs(key, setting):
    inputs, targets = faces(4), faces(4, seed=1)
    rival = make(key)
    rival.fit(inputs, targets, **setting)
    assert error(rival.predict(inputs), targets) < 1e-4


def test_a_rival_regresses_the_change_on_request():
    inputs = faces(10)
    targets = inputs // 2 + 20
    plain, change = make("ridge"), make("ridge-change")
    for rival in (plain, change):
        rival.fit(inputs, targets, penalty=1e9)
    mean = (targets / DATA_RANGE).mean(axis=0)
    np.testing.assert_allclose(plain.predict(inputs)[0], mean, atol=1e-5)
    moved = (targets / DATA_RANGE - inputs / DATA_RANGE).mean(axis=0)
    np.testing.assert_allclose(change.predict(inputs), inputs / DATA_RANGE + moved, atol=1e-5)


@pytest.mark.parametrize("key", ["ridge", "pcr", "rrr"])
def test_a_linear_rival_recovers_a_planted_map(key):
    X, W = rows(60, 12), rows(12, 12, seed=1) - 0.5
    rival = make(key)
    setting = {"ridge": {"penalty": 1e-9}, "pcr": {"components": 12},
               "rrr": {"rank": 12, "penalty": 1e-9}}[key]  # fmt: skip
    new = rows(5, 12, seed=2)
    found = rival.apply(rival.solve(X, X @ W + 0.2, **setting), new)
    np.testing.assert_allclose(found, new @ W + 0.2, atol=1e-5)


def test_one_pixel_to_one_pixel_recovers_planted_slopes():
    inputs = faces(12)
    slope, bias = np.random.default_rng(3).random((2, *inputs.shape[1:]))
    targets = np.rint(inputs * slope / 2 + 100 * bias).astype(np.uint8)
    rival = make("pixel")
    rival.fit(inputs, targets, side=1, penalty=1e-6)
    new = faces(3, seed=1)
    np.testing.assert_allclose(
        rival.predict(new) * DATA_RANGE, new * slope / 2 + 100 * bias, atol=3
    )


def test_the_baselines_add_the_mean_change_or_nothing():
    inputs = faces(6) // 2
    targets = inputs + np.arange(8, dtype=np.uint8)[:, None, None] * 10
    new = faces(2, seed=1)
    for key, change in (("copy", 0), ("mean-change", 10 * np.arange(8)[:, None, None])):
        rival = make(key)
        rival.fit(inputs, targets)
        np.testing.assert_allclose(rival.predict(new) * DATA_RANGE, new + change * 1.0, atol=1e-3)


def test_reduced_rank_regression_finds_a_planted_rank_and_keeps_to_its_own():
    X = rows(60, 12)
    W = rows(12, 2, seed=1) @ rows(2, 12, seed=2)
    rival = rrr.ReducedRank()
    solution = rival.solve(X, X @ W, rank=2, penalty=1e-9)
    np.testing.assert_allclose(rival.apply(solution, X), X @ W, atol=1e-6)
    lower = rival.solve(X, rows(60, 12, seed=3), rank=3, penalty=0.1)
    assert np.linalg.matrix_rank(lower["left"] @ lower["axes"]) == 3


# Sparse methods find a planted support.


def planted(subjects=40, size=30, nonzero=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.random((subjects, size)).astype(np.float32)
    W = np.zeros((size, size), np.float32)
    for column in W.T:
        column[rng.choice(size, nonzero, replace=False)] = rng.choice([-1, 1], nonzero) * 0.8
    return X, W


def test_omp_finds_a_planted_support():
    X, W = planted()
    rival = omp.MatchingPursuit()
    solution = rival.solve(X, X @ W + 0.1, nonzero=3)
    found = [set(support) for support in solution["supports"]]
    assert np.mean([s == set(np.flatnonzero(w)) for s, w in zip(found, W.T, strict=True)]) > 0.9


def test_lasso_finds_a_planted_support():
    X, W = planted()
    rival = lasso.Lasso()
    solution = rival.solve(X, X @ W + 0.1, alpha=0.002)
    for support, weights, column in zip(
        solution["supports"], solution["weights"], W.T, strict=True
    ):
        assert set(np.flatnonzero(column)) <= set(support[np.abs(weights) > 0.3])


def test_lsrf_at_the_authors_beta_looks_at_a_plus():
    size = 9
    inputs = faces(20, size)
    rival = lsrf.LocalPursuit()
    rival.fit(inputs, faces(20, size, seed=1), nonzero=5, beta=60.0)
    for y in range(2, size - 2):
        for x in range(2, size - 2):
            k = y * size + x
            plus = {k, k - 1, k + 1, k - size, k + size}
            assert rival.solution["supports"][k][0] == k
            assert set(rival.solution["supports"][k]) == plus


def test_the_bonus_decides_the_support():
    X, W = planted(size=25)
    supports = pursuit.pursue(X[None], (X @ W)[None], 3)
    far = np.zeros((25, 25), np.float32)
    far[:, 7] = 100
    assert (pursuit.pursue(X[None], (X @ W)[None], 1, bonus=far) == 7).all()
    assert len(np.unique(supports[0])) == 3


def test_closeness_is_one_over_the_sum_of_distances_to_the_neighbours_windows():
    size = 5
    found = lsrf.closeness(size, size)

    def window(m):
        return [(m[0] + i, m[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]

    def inside(points):
        return [p for p in points if 0 <= p[0] < size and 0 <= p[1] < size]

    for k, j in [((2, 2), (0, 0)), ((0, 0), (4, 3)), ((0, 2), (3, 3)), ((1, 4), (1, 0))]:
        total = sum(
            min(np.hypot(p[0] - j[0], p[1] - j[1]) for p in inside(window(m)))
            for m in inside(window(k))
        )
        assert found[k[0] * size + k[1], j[0] * size + j[1]] == pytest.approx(1 / total, rel=1e-5)


# Methods that scikit-learn has give the same results.


def test_ridge_is_scikit_learns():
    X, T, new = rows(15, 40), rows(15, 40, 1), rows(5, 40, 2)
    scale = np.square(X - X.mean(axis=0)).sum() / len(X)
    theirs = Ridge(alpha=0.3 * scale).fit(X, T).predict(new)
    rival = ridge.Ridge()
    np.testing.assert_allclose(rival.apply(rival.solve(X, T, penalty=0.3), new), theirs)


def test_principal_component_regression_is_scikit_learns():
    X, T, new = rows(15, 40), rows(15, 40, 1), rows(5, 40, 2)
    theirs = make_pipeline(PCA(4), LinearRegression()).fit(X, T).predict(new)
    rival = pcr.PrincipalComponents()
    np.testing.assert_allclose(rival.apply(rival.solve(X, T, components=4), new), theirs)


@pytest.mark.parametrize(
    ("rival", "setting"),
    [
        (kernel_ridge.Gaussian(), {"gamma": 0.5}),
        (kernel_ridge.Polynomial(), {"degree": 3}),
    ],
)
def test_kernel_ridge_is_scikit_learns(rival, setting):
    X, T, new = rows(15, 40), rows(15, 40, 1), rows(5, 40, 2)
    mean_x, mean_t = X.mean(axis=0), T.mean(axis=0)
    scale = np.square(X - mean_x).sum() / len(X)
    if rival.key == "rbf":
        kernel = {"kernel": "rbf", "gamma": setting["gamma"] / scale}
        diagonal = 1.0
    else:
        kernel = {"kernel": "poly", "degree": 3, "gamma": 1 / scale, "coef0": 1}
        diagonal = ((1 + np.square(X - mean_x).sum(axis=1) / scale) ** 3).mean()
    theirs = KernelRidge(alpha=0.1 * diagonal, **kernel).fit(X - mean_x, T - mean_t)
    ours = rival.apply(rival.solve(X, T, penalty=0.1, **setting), new)
    np.testing.assert_allclose(ours, theirs.predict(new - mean_x) + mean_t)


def test_omp_is_scikit_learns():
    X, T = planted(seed=3)[0], rows(40, 30, seed=4).astype(np.float32)
    deviation = X - X.mean(axis=0)
    norms = np.linalg.norm(deviation, axis=0)
    theirs = orthogonal_mp(deviation / norms, T - T.mean(axis=0), n_nonzero_coefs=5)
    solution = omp.MatchingPursuit().solve(X, T, nonzero=5)
    ours = np.zeros((30, 30))
    for k, (support, weights) in enumerate(
        zip(solution["supports"], solution["weights"], strict=True)
    ):
        ours[support, k] = weights
    np.testing.assert_allclose(ours, theirs / norms[:, None], atol=2e-4)


@pytest.mark.parametrize("alpha", [0.02, 0.005])
def test_lasso_reaches_the_objective_of_scikit_learns(alpha):
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(size=(21, 80)), axis=1) / 10  # neighbours alike, as in a face
    X = smooth.astype(np.float32)
    T = (X[:, ::2] * 0.5 + 0.1 * rng.normal(size=(21, 40))).astype(np.float32)
    rival = lasso.Lasso()
    solution = rival.solve(X, T, alpha=alpha)
    ours = rival.apply(solution, X)
    sizes = np.abs(solution["weights"]).sum(axis=1)
    for k in range(0, T.shape[1], 4):
        theirs = Lasso(alpha=alpha, tol=1e-6, max_iter=100_000)
        theirs.fit(X.astype(float), T[:, k].astype(float))

        def objective(fitted, size, wanted=T[:, k]):
            return np.square(fitted - wanted).sum() / (2 * len(wanted)) + alpha * size

        least = objective(theirs.predict(X), np.abs(theirs.coef_).sum())
        assert objective(ours[:, k], sizes[k]) < least * 1.005


def test_the_papers_recipe_on_arrays_is_that_of_the_program(tmp_path):
    folder = draw_pairs(tmp_path, subjects=range(6))
    inputs = np.stack([draw(n) for n in range(6)])
    rival = masked.Recipe("paper")
    rival.fit(inputs, np.roll(inputs, 1, axis=1))
    expected = train(folder, recipe="paper").weights
    assert (rival.model.weights == expected).all()


def test_every_recipe_of_the_program_takes_part():
    assert {f"mlr-{name}" for name in RECIPES} <= set(KEYS)


# On registered images.


@pytest.fixture(scope="module")
def drawn():
    return data.drawn_pairs(12, 64)


def test_a_rival_that_changes_nothing_moves_registered_faces_alone(drawn):
    inputs, targets = drawn.inputs[:9], drawn.targets[:9]
    rival = registered.OnRegistered(partial(make, "copy"))
    rival.fit(inputs, targets)
    outputs = rival.predict(drawn.inputs[9:])
    model = masked.Recipe("best", 0.0)
    model.fit(inputs, targets)
    found = model.model.registered.appearances["target"]
    bare = {name: np.zeros_like(getattr(found, name)) for name in ("mean", "spread", "share")}
    part = replace(model.model.registered, appearances={"target": replace(found, **bare)})
    for source, output in zip(drawn.inputs[9:], outputs, strict=True):
        face = part.register(np.ascontiguousarray(source.transpose(2, 0, 1) / DATA_RANGE))
        moved = part.part(face, "target", lambda _, image: image, style=0.0)
        expected = part.change(face, [moved], 1.0).applied(face.image)
        np.testing.assert_allclose(output, expected.transpose(1, 2, 0), atol=2e-3)
        assert np.abs(output - source / DATA_RANGE).max() > 0.1


def test_the_change_in_the_frame_is_moved_back_to_the_face(drawn):
    framed = registered.Framed(drawn.inputs[:9], drawn.targets[:9])
    faces, images = framed.faces(drawn.inputs[9:])
    unchanged = framed.outputs(faces, images, images / DATA_RANGE)
    brighter = framed.outputs(faces, images, images / DATA_RANGE + np.float32(0.1))
    change = brighter - unchanged
    assert change[:, 25:45, 20:44].mean() == pytest.approx(0.1, abs=0.03)  # cheeks, nose, mouth
    assert np.abs(change[:, :2]).max() < 0.01


def test_every_regression_takes_part_on_registered_images():
    plain = {key for key in KEYS if make(key).family in ("linear", "kernel")}
    assert {f"{key}-registered" for key in plain} | {"mlr-paper-registered"} <= set(KEYS)
    assert "mlr-best-registered" not in KEYS


def test_style_0_is_that_of_the_program(drawn):
    rival = make("mlr-best-style-0")
    rival.fit(drawn.inputs[:9], drawn.targets[:9])
    model = mlr.MaskedRegression(recipe="best").fit(drawn.inputs[:9], drawn.targets[:9]).model_
    new = drawn.inputs[9:] / DATA_RANGE
    np.testing.assert_array_equal(rival.predict(drawn.inputs[9:]), model.synthesize(new, style=0))
    rival.fit(drawn.inputs[:4], drawn.targets[:4])  # too few for a style
    assert rival.predict(drawn.inputs[9:]).shape == new.shape


# Recognition.


def test_the_classifier_recognises_smiles_of_others(drawn):
    classifier = recognition.Classifier(drawn.inputs[:8], drawn.targets[:8])
    assert classifier.recognised(drawn.targets[8:]).all()
    assert not classifier.recognised(drawn.inputs[8:]).any()


def test_a_judge_that_is_missing_is_named(drawn, tmp_path):
    with pytest.raises(MlrError, match="--judge"):
        recognition.judged(drawn.inputs[:1], "happy", tmp_path)


@pytest.mark.skipif(not installed(), reason="needs the extra align")
def test_the_same_picture_shows_the_same_person(drawn):
    found = measures.same_person(drawn.inputs[[0, 1]], drawn.inputs[[0, 0]])["same person"]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[1] > 0.1


# The protocol.


def test_folds_are_even_and_the_same_each_time():
    fold = protocol.fold_of(81, 4)
    assert sorted(np.bincount(fold)) == [20, 20, 20, 21]
    assert (fold == protocol.fold_of(81, 4)).all()


def test_the_setting_is_chosen_by_the_error_of_held_out_subjects():
    inputs = faces(18, 4)
    X = inputs.reshape(18, -1) / 255
    noise = np.random.default_rng(1).normal(size=inputs.shape) * 10
    targets = np.clip(np.roll(inputs, 1, axis=2) + noise, 0, 255).astype(np.uint8)
    chosen = protocol.choose(make("ridge"), inputs, targets)
    folds = protocol.fold_of(18, protocol.INNER, seed=1)
    errors = []
    for setting in make("ridge").grid():
        total = 0.0
        for fold in range(protocol.INNER):
            rival = make("ridge")
            rival.fit(inputs[folds != fold], targets[folds != fold], **setting)
            held = folds == fold
            clipped = np.clip(rival.predict(inputs[held]), 0, 1)
            total += error(clipped, targets[held]) * held.sum()
        errors.append(total)
    assert X.shape == (18, 48)
    assert chosen == make("ridge").grid()[int(np.argmin(errors))]


def test_change_is_measured_outside_the_eyes_and_the_mouth():
    inputs = faces(2, 32)
    where = measures.expressive(32, 32)
    assert 0.2 < where.mean() < 0.5
    changed = inputs.copy()
    changed[:, where] = 0
    assert measures.against_inputs(changed, inputs)["elsewhere"] == 0
    brighter = np.clip(inputs, 10, 245) + np.uint8(10)
    found = measures.against_inputs(brighter, np.clip(inputs, 10, 245))
    assert found == {"elsewhere": pytest.approx(10), "colour": pytest.approx(10)}


def rival_figures(mse, **more):
    each = {"mse": list(mse), "ssim": [1 - m for m in mse], "face mse": list(mse)}
    base = {
        "name": "it",
        "family": "linear",
        "size": 64,
        "each": each,
        "outside": {},
        "seconds": 1.0,
        "bytes": 1.0,
        "by_pairs": {},
    }
    return base | more


@pytest.mark.parametrize(("theirs", "verdict"), [(0.02, "yes"), (0.005, "no"), (0.01, "undecided")])
def test_claims_are_tested_on_the_same_subjects(theirs, verdict):
    noise = np.random.default_rng(0).normal(size=(2, 30)) * 1e-3
    noise -= noise.mean(axis=1, keepdims=True)
    figures = {
        "mlr-paper": rival_figures(0.01 + noise[0]),
        "ridge": rival_figures(theirs + noise[1], seconds=2.0, bytes=0.5),
    }
    found = {c["claim"]: c["verdict"] for c in claims.verdicts({"rivals": figures})}
    assert found["lower error than it"] == verdict
    assert found["higher SSIM than it"] == verdict
    assert found["trains in less processor time than it"] == "yes"
    assert found["needs less memory to train than it"] == "no"


def test_errors_in_the_face_are_compared_on_registered_images():
    figures = {
        "mlr-paper": rival_figures([0.2, 0.21], name="paper"),
        "mlr-best-style-0": rival_figures([0.1, 0.11], name="best"),
        "mlr-paper-registered": rival_figures([0.3, 0.31], name="paper, registered"),
        "ridge-registered": rival_figures([0.2, 0.21], name="ridge, registered"),
    }
    found = {c["claim"]: c["verdict"] for c in claims.verdicts({"rivals": figures})}
    assert found == {
        "(not claimed) best: lower error in the face than paper": "yes",
        "(not claimed) paper, registered: lower error in the face than ridge, registered": "no",
    }


def test_learning_curves_are_compared():
    ours = {"10": 0.4, "20": 0.3, "60": 0.1}
    figures = {
        "mlr-paper": rival_figures([0.1, 0.2], by_pairs=ours),
        "ridge": rival_figures([0.1, 0.2], by_pairs={"10": 0.5, "20": 0.4, "60": 0.3}),
        "omp": rival_figures([0.1, 0.2], name="l0", by_pairs={"10": 0.35, "20": 0.4, "60": 0.35}),
    }
    found = [c for c in claims.verdicts({"rivals": figures}) if "fewer" in c["claim"]]
    assert [c["verdict"] for c in found] == ["no", "no"]
    assert found[0]["figures"] == "not with 10 pairs: l0"
    assert "0.40000 with 10 pairs, against 0.30000 of it with 60" in found[1]["figures"]
    assert "from 20 pairs on" in found[1]["figures"]


def test_drawn_faces_outside_the_data_set_are_of_other_subjects():
    outside = data.drawn_outside(32)
    assert list(outside) == ["other light", "sketch", "painting", "cat"]
    for images in outside.values():
        assert data.at_size(images, 16).shape[1:] == (16, 16, 3)
    light, sketch = outside["other light"][0], outside["sketch"][0]
    assert light[..., 0].mean() > 1.2 * light[..., 2].mean()
    assert (sketch[..., 0] == sketch[..., 2]).all()


def test_everything_is_compared_with_one_command(tmp_path, capsys):
    folder = draw_pairs(tmp_path / "faces", subjects=range(9), size=16)
    command = [
        "--data", str(folder), "--only", "copy", "ridge", "mlr-paper", "--size", "16",
        "--sizes", "16", "--pairs", "4", "--output", str(tmp_path / "rivals"),
        "--keep", str(tmp_path / "kept"),
    ]  # fmt: skip
    main(command)
    result = json.loads((tmp_path / "rivals.json").read_text())
    copied = result["rivals"]["copy"]
    pairs = data.read_pairs(folder, None)
    assert copied["scores"]["mse"] == pytest.approx(
        np.square(pairs.inputs / 255 - pairs.targets / 255).mean()
    )
    assert copied["outside"]["held out"] == {"elsewhere": 0, "colour": 0}
    assert list(result["rivals"]["ridge"]["by_pairs"]) == ["4", "6"]
    text = (tmp_path / "rivals.md").read_text()
    assert text == report.markdown(result)
    shown = report.readme(result).splitlines()
    assert [line.split(" | ")[0] for line in shown[2:]] == [
        f"| {name}"
        for name in (
            report.TRUTH,
            "copy of the input",
            "`--recipe paper`: Khan et al. 2020",
            "l2 (ridge)",
        )
    ]
    assert f"{copied['scores']['face mse']:.5f}" in shown[3]
    assert str(tmp_path) not in text
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 1
    assert "--force" in capsys.readouterr().err
    main([*command, "--force", "--resume"])
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if not line.startswith("skipped")] == []  # nothing was run
    again = json.loads((tmp_path / "rivals.json").read_text())
    assert again["rivals"] == result["rivals"]


def test_without_pytorch_there_is_a_hint(monkeypatch, capsys):
    factories = {key: factory for key, factory in find()[0].items() if key in KEYS}
    hint = "skipped pix2pix: needs pip install 'masked-linear-regression[rivals]'"
    monkeypatch.setattr(comparison, "find", lambda: (factories, [hint]))
    with pytest.raises(SystemExit, match="1"):
        main(["--gan", "--force"])
    assert "there is no GAN: needs PyTorch" in capsys.readouterr().err


def test_finished_rivals_are_kept_for_the_same_data_and_size(tmp_path):
    outcome = {"scores": {"mse": 0.1}}, list(faces(2))
    first = Kept(tmp_path, [faces(3)], 8)
    assert list(first) == []
    first.write("ridge", outcome)
    again = Kept(tmp_path, [faces(3)], 8)
    assert list(again) == ["ridge"]
    found, pictures = again.read("ridge")
    assert found == outcome[0]
    np.testing.assert_array_equal(pictures, outcome[1])
    assert list(Kept(tmp_path, [faces(3)], 16)) == []
    assert list(Kept(tmp_path, [faces(3, seed=1)], 8)) == []


TRAINS = """
import time
from benchmarks.comparison.protocol import isolated

def training():
    print("training", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    isolated(training)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_ends_with_the_comparison(number, tmp_path):
    (tmp_path / "trains.py").write_text(TRAINS)
    command = [sys.executable, tmp_path / "trains.py"]
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | path) as process:
        assert process.stdout.readline() == b"training\n"
        process.send_signal(number)
        process.communicate(timeout=20)  # until the training, which has the same output, has ended
    assert process.returncode == -number


def test_an_unknown_rival_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--only", "magic"])
    assert ended.value.code == 2
    assert "no rival 'magic'" in capsys.readouterr().err
