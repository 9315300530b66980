"""The benchmark scripts: they run, and their checks hold."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation, peers
from benchmarks.peers import PENALTY, Problem, applied, band_weights, textbook_weights
from benchmarks.quality import train_on
from benchmarks.registration import with_section
from mlr.bench import stages
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import MlrError
from mlr.io.images import read_image
from mlr.io.pairs import find_pairs
from mlr.samples import sample
from mlr.training.train import train
from tests.conftest import draw_pairs

ROOT = Path(__file__).parent.parent


def run_benchmark(name, *options, timeout=120):
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cells_of(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_peers_are_compared():
    text = run_benchmark("peers", "--size", 16, "--pairs", 5, "--repeat", 1)
    for name in ("plain NumPy", "NumPy, tuned", "scikit-learn's Ridge", "SciPy's sparse matrix"):
        assert name in text
    assert "float32 matrix product, Gop/s" in text
    assert text.count("1.00 times") == 3


@pytest.fixture
def problem():
    images = np.random.default_rng(1).integers(0, 256, (2, 9, 8, 8, 1), np.uint8)
    return Problem(ReceptiveField.square(3), *images)


def test_results_of_peers_must_agree(problem, monkeypatch):
    monkeypatch.setattr(stages, "PAUSE", 0)
    monkeypatch.setattr(stages, "SHORTEST", 0)
    found = peers.compare_training(problem, 2, 1)
    assert list(found)[:3] == ["mlr", "plain NumPy", "NumPy, tuned, 2 threads"]
    right = peers.weights_of
    monkeypatch.setattr(peers, "weights_of", lambda problem: right(problem) + np.float32(1e-3))
    with pytest.raises(MlrError, match="the weights differ"):
        peers.compare_training(problem, 2, 1)


@pytest.mark.parametrize("spec", [1, 3, "plus", [(0, 0), (-2, 1)]])
def test_plain_numpy_solves_least_squares(problem, spec):
    """The weights of one pixel, against its least-squares problem solved directly."""
    problem = Problem(ReceptiveField.of(spec), problem.sources, problem.targets)
    y, x = 1, 4
    columns = [
        problem.sources[:, y + dy, x + dx, 0] / 255
        if 0 <= y + dy < 8 and 0 <= x + dx < 8
        else np.zeros(9)
        for dy, dx in problem.field.offsets
    ]
    z = np.stack([*columns, np.ones(9)], axis=1)
    ridge = np.sqrt(PENALTY) * np.eye(z.shape[1])
    t = np.concatenate([problem.targets[:, y, x, 0] / 255, np.zeros(z.shape[1])])
    expected = np.linalg.lstsq(np.concatenate([z, ridge]), t)[0]
    whole = textbook_weights(problem)
    np.testing.assert_allclose(whole[:, y, x], expected, atol=1e-6)
    np.testing.assert_allclose(band_weights(problem, 1, 3), whole[:, 1:3], atol=1e-6)
    image = problem.sources[0, ..., 0] / np.float32(255)
    pixel = applied(whole, problem.field, image)[y, x]
    assert pixel == pytest.approx(z[0] @ expected, abs=1e-5)


def test_faces_in_photographs_are_changed_and_nothing_else(tmp_path):
    train(draw_pairs(tmp_path, targets=("happy", "surprised")), tmp_path / "m.npz", recipe="paper")
    run_benchmark("photographs", tmp_path / "m.npz", "-o", tmp_path / "sheet.png")
    sheet = read_image(tmp_path / "sheet.png").pixels[30:360].astype(int)
    before, happy, surprised = (sheet[:, 8 + 508 * n : 508 + 508 * n] for n in range(3))
    for after in (happy, surprised):
        changed = (after != before).any(axis=2)
        assert changed[100:200, 180:320].mean() > 0.5
        assert not changed[:, :60].any()


def test_exposure_matching_is_measured_for_both_recipes(tmp_path):
    draw_pairs(tmp_path / "data", subjects=range(8))
    run_benchmark("exposure", tmp_path / "data", "-o", tmp_path / "out.md", "--folds", 2)
    head, _, *rows = cells_of((tmp_path / "out.md").read_text().split("\n\n")[1])
    assert head[1:3] == ["copy", "best"]
    errors = {row[0]: dict(zip(head[1:], map(float, row[1:]), strict=True)) for row in rows}
    assert len(errors) == 8
    assert all(row["copy"] > 0 for row in errors.values())
    assert errors["0.3 x"]["paper, matched"] < errors["0.3 x"]["paper"]


def test_growth_is_measured_and_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    small = ["--axis", "pairs", "--first", 2, "--smaller", 8, "--repeat", 1, "--threads", 1]
    text = run_benchmark("growth", *small, "--output", tmp_path, timeout=300)
    assert (tmp_path / "growth.md").read_text() == text
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert [row[0] for row in cells_of(text) if len(row) == 5][2:] == ["200", "400"]


def test_quality_is_shown_by_region_and_skin(tmp_path):
    draw_pairs(tmp_path / "data", subjects=range(8))
    options = [tmp_path / "data", "--output", tmp_path / "out", "--folds", 2, "--title", "Drawn"]
    (tmp_path / "out").mkdir()
    results = tmp_path / "out" / "quality.md"
    results.write_text("# Quality\n\n## Drawn\n\nold\n\n## Other\n\nkept\n")
    text = run_benchmark("quality", *options)
    assert results.read_text() == f"# Quality\n\n## Drawn\n\n{text.strip()}\n\n## Other\n\nkept\n"
    whole, parts, thirds = (
        {row[0]: row[1:] for row in cells_of(part)}
        for part in text.split("\n\n")
        if part.startswith("|")
    )
    assert whole[""][:5] == ["MSE", "PSNR", "SSIM", "sharpness", "identity"]
    assert parts[""][:4] == ["face MSE", "face SSIM", "face sharpness", "mouth MSE"]
    assert thirds[""] == ["face MSE", "face sharpness", "mouth MSE", "mouth sharpness"]
    rows = ["paper", "best, style 0", "best, default style"]
    labels = ["copy of the input", *rows, *(f"{row}, half the pairs" for row in rows)]
    assert [label for label in parts if label.strip("-")] == labels
    for label in labels:
        assert 0 < float(parts[label][0]) < 1
        assert 0 < float(parts[label][3]) < 1
        assert float(whole[label][0]) > 0
    for third in ("darkest", "middle", "lightest"):
        for label in labels[:4]:
            assert 0 < float(thirds[f"{third} third, {label}"][0]) < 1
    assert text.count("in the face, ") == 4
    assert (tmp_path / "out" / "quality-happy.webp").is_file()


def test_quality_trains_on_the_files_of_others_alone(tmp_path):
    pairs = find_pairs(draw_pairs(tmp_path / "all", subjects=range(10)))
    some = draw_pairs(tmp_path / "some", subjects=range(9))
    for recipe in ("paper", "best"):
        found = train_on([p for p in pairs.subjects if p.name != "9"], recipe)
        expected = train(some, recipe=recipe)
        assert np.array_equal(found.weights, expected.weights)
        assert found.info.templates == expected.info.templates


def test_parts_of_the_recipe_can_be_left_out(tmp_path):
    sample(tmp_path, pairs=9, size=64, target="happy")
    subjects = find_pairs(tmp_path).subjects
    made = ablation.variants(subjects)
    assert {*made, ablation.COPY, *ablation.SIDES} == set(ablation.LABELS)
    face = read_image(subjects[0].source).pixels.transpose(2, 0, 1) / np.float32(255)
    changes = {}
    for label, (model, style, _) in made.items():
        if label != ablation.PAPER:
            changes[label] = model.face_change(face, model.change_of("happy", style))(1.0)
    motion, mean, ours = (
        changes[label] for label in (ablation.MOTION, ablation.MEAN, ablation.DEFAULT)
    )
    assert np.abs(motion.added).max() < 1e-5 < np.abs(motion.motion).max()
    np.testing.assert_array_equal(motion.motion, ours.motion)
    assert 0.01 < np.abs(mean.added - ours.added).max() < np.abs(ours.added).max()
    model = made[ablation.ONE].model
    assert len(model.registered.search.candidates) == 1


@pytest.mark.slow
def test_the_ablation_is_tabulated_and_drawn(tmp_path):
    text = run_benchmark("ablation", "--pairs", 12, "--picture", tmp_path / "rows.png", timeout=300)
    rows = {cells[0]: cells[1:] for cells in cells_of(text) if cells}
    assert set(ablation.LABELS) <= set(rows)
    assert float(rows[ablation.DEFAULT][0]) < float(rows[ablation.COPY][0])
    assert rows[ablation.SMALL][0] != rows[ablation.DEFAULT][0]
    assert (tmp_path / "rows.png").stat().st_size > 10_000


def test_registration_is_compared_with_optical_flow():
    text = run_benchmark("registration", "--pairs", 2, "--folds", 2, "--repeat", 1)
    (lines,) = (cells_of(part) for part in text.split("\n\n") if part.startswith("|"))
    head, _, *rows = lines
    found = {title: dict(zip(head[1:], cells, strict=True)) for title, *cells in rows}
    alone, ours = found["eyes alone"], found["mlr"]
    assert float(ours["to itself"]) < 0.6 * float(alone["to itself"])
    assert float(ours["to the mean"]) < 0.8 * float(alone["to the mean"])
    assert float(ours["least Jacobian"]) > 0.2
    for flow in ("ILK", "TV-L1"):
        assert float(found[f"scikit-image, {flow}"]["times ours"]) > 2


def test_a_section_is_renewed_and_others_stay():
    text = "# Registration\n\n## Choices\n\nlast\n"
    once = with_section(text, "Faces", "some\n")
    assert once == "# Registration\n\n## Faces\n\nsome\n\n## Choices\n\nlast\n"
    assert with_section(once, "Faces", "new\n") == once.replace("some", "new")
