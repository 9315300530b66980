"""The benchmarks that are programs of their own: they run, and what they check holds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlr.io.images import read_image
from mlr.io.pairs import find_pairs
from mlr.training.train import train
from tests.conftest import draw_pairs

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("name", "options", "lines"),
    [
        ("reference", ["--sizes", "16", "--pairs", "5"], 4),
        ("files", ["--size", "16", "--pairs", "3", "--repeat", "1", "--threads", "1"], 3),
    ],
)
def test_benchmark_runs(name, options, lines):
    command = [sys.executable, FOLDER / f"{name}.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == lines


def test_pictures_of_drawn_faces_are_changed_where_these_are(tmp_path):
    train(draw_pairs(tmp_path, targets=("happy", "surprised")), tmp_path / "m.npz", recipe="paper")
    options = [str(tmp_path / "m.npz"), "-o", str(tmp_path / "sheet.png")]
    command = [sys.executable, FOLDER / "photographs.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    sheet = read_image(tmp_path / "sheet.png").pixels[30:360].astype(int)
    before, happy, surprised = (sheet[:, 8 + 508 * n : 508 + 508 * n] for n in range(3))
    for after in (happy, surprised):
        changed = (after != before).any(axis=2)
        assert changed[100:200, 180:320].mean() > 0.5
        assert not changed[:, :60].any()


def test_fitting_the_light_is_measured_for_both_recipes(tmp_path):
    draw_pairs(tmp_path / "data", subjects=range(8))
    options = [str(tmp_path / "data"), "-o", str(tmp_path / "out.md"), "--folds", "2"]
    command = [sys.executable, FOLDER / "exposure.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in (tmp_path / "out.md").read_text().splitlines()[2:]]
    assert [cell.strip() for cell in rows[0]][1:3] == ["copy", "best"]
    errors = {row[0].strip(): [float(cell) for cell in row[1:]] for row in rows[2:]}
    assert len(errors) == 8
    assert all(copy > 0 for copy, *_ in errors.values())
    dark = dict(zip((cell.strip() for cell in rows[0][1:]), errors["0.3 x"], strict=True))
    assert dark["paper, fitted"] < dark["paper"]


def test_growth_is_measured_and_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="needs mlr[plot]")
    trial = ["--axis", "pairs", "--first", "2", "--smaller", "8"]
    options = [*trial, "--repeat", "1", "--threads", "1", "--output", str(tmp_path)]
    command = [sys.executable, FOLDER / "growth.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ") and "px" not in line]
    assert (tmp_path / "growth.md").read_text() == done.stdout
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert {int(row.split("|")[1]) for row in rows if row[2].isdigit()} == {200, 400}


def test_quality_is_told_by_region_and_skin(tmp_path):
    draw_pairs(tmp_path / "data", subjects=range(8))
    options = [str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--folds", "2"]
    command = [sys.executable, FOLDER / "quality.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "quality.md").read_text()
    assert done.stdout.strip() == text.strip()
    tables = [
        {row[1].strip(): [cell.strip() for cell in row[2:-1]] for row in rows}
        for rows in ([line.split("|") for line in part.splitlines()] for part in text.split("\n\n"))
        if len(rows[0]) > 1
    ]
    whole, parts, thirds = tables
    assert whole[""][:5] == ["MSE", "PSNR", "SSIM", "sharpness", "same person"]
    assert parts[""][:4] == ["face MSE", "face SSIM", "face sharpness", "mouth MSE"]
    assert thirds[""] == ["face MSE", "face sharpness", "mouth MSE", "mouth sharpness"]
    rows = ["paper", "registered, style 0", "registered, default style"]
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


def test_quality_trains_on_the_files_of_others_alone(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import quality

    pairs = find_pairs(draw_pairs(tmp_path / "all", subjects=range(10)))
    some = draw_pairs(tmp_path / "some", subjects=range(9))
    for recipe in ("paper", "best"):
        found = quality.trained([p for p in pairs.subjects if p.name != "9"], recipe)
        expected = train(some, recipe=recipe)
        assert np.array_equal(found.weights, expected.weights)
        assert found.info.templates == expected.info.templates


def test_registration_is_compared_with_optical_flow():
    options = ["--pairs", "2", "--folds", "2", "--repeat", "1"]
    command = [sys.executable, FOLDER / "registration.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    tables = [
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines()]
        for part in done.stdout.split("\n\n")
        if part.startswith("|")
    ]
    head, _, *lines = tables[0]
    rows = {title: dict(zip(head[1:], cells, strict=True)) for title, *cells in lines}
    alone, ours = rows["eyes alone"], rows["mlr"]
    assert float(ours["to itself"]) < 0.6 * float(alone["to itself"])
    assert float(ours["to the mean"]) < 0.8 * float(alone["to the mean"])
    assert float(ours["least Jacobian"]) > 0.2
    for flow in ("ILK", "TV-L1"):
        assert float(rows[f"scikit-image, {flow}"]["times ours"]) > 2
    assert all(float(ms) > 0 for _, ms in tables[1][2:])


def test_section_of_a_registration_is_renewed_and_others_stay(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from registration import with_section

    text = "# Registration\n\n## Choices\n\nlast\n"
    once = with_section(text, "Faces", "some\n")
    assert once == "# Registration\n\n## Faces\n\nsome\n\n## Choices\n\nlast\n"
    assert with_section(once, "Faces", "new\n") == once.replace("some", "new")
