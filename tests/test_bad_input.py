"""A bad file is skipped, named with its cause, and never stops the others."""

import json
import os
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from mlr import load
from mlr.io.images import read_image, write_image
from mlr.io.tiff import has_extra
from tests.conftest import draw, draw_pairs, names, run_process
from tests.test_images import BAD, CMYK, KINDS, PALETTE


@pytest.fixture
def permissions(tmp_path):
    """Skip where nothing is forbidden, as for root."""
    path = tmp_path / "locked"
    path.touch(mode=0)
    if os.access(path, os.R_OK):
        pytest.skip("may read and write everything")
    path.unlink()


@pytest.fixture
def pairs(tmp_path):
    return draw_pairs(tmp_path / "pairs", subjects=range(6))


def check_named(result, path, cause):
    """Check that a run skipped one file, and said so in one line."""
    assert result.code == 1
    named = [line for line in result.lines if line.startswith("mlr: ")]
    assert len(named) == 1
    assert named[0].startswith(f"mlr: {path}: ")
    assert cause in named[0]
    assert "Traceback" not in result.err


@pytest.mark.parametrize("command", ["train", "evaluate", "synthesize"])
@pytest.mark.parametrize("what", [*BAD, "broken link"])
def test_bad_image_is_named_and_the_rest_is_done(run, model, pairs, tmp_path, what, command):
    path = pairs / "neutral" / "3.png"
    path.unlink()
    if what == "broken link":
        path.symlink_to("nowhere.png")
        cause = "No such file or directory"
    else:
        data, cause = BAD[what]
        path.write_bytes(data)
    output = tmp_path / "output"
    if command == "train":
        result = run("train", pairs, "-o", output, "--json")
        assert json.loads(result.out)["pairs"] == {"happy": 5}
        assert load(output).info.pairs == {"happy": 5}
    elif command == "evaluate":
        result = run("evaluate", model, pairs, "--json")
        assert json.loads(result.out)["pairs"] == 5
    else:
        result = run("synthesize", model, pairs / "neutral", "-o", output)
        assert names(output) == [f"{n}.png" for n in (0, 1, 2, 4, 5)]
    check_named(result, path, cause.split(".*")[0])


@pytest.mark.parametrize("side", ["neutral", "happy"])
def test_training_on_what_is_left_is_training_without_the_subject(run, pairs, tmp_path, side):
    (pairs / side / "3.png").write_bytes(b"no image")
    assert run("train", pairs, "-o", tmp_path / "a.npz").code == 1
    for expression in ("neutral", "happy"):
        (pairs / expression / "3.png").unlink()
    assert run("train", pairs, "-o", tmp_path / "b.npz").code == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_truncated_pixels_are_found_while_decoding(run, pairs, tmp_path):
    path = pairs / "happy" / "2.png"
    path.write_bytes(path.read_bytes()[:-60])
    result = run("train", pairs, "-o", tmp_path / "m.npz")
    check_named(result, path, "is damaged or truncated")


def test_halves_of_different_size_are_named(run, pairs, model, tmp_path):
    path = pairs / "happy" / "2.png"
    write_image(path, draw(2, size=20), force=True)
    result = run("train", pairs, "-o", tmp_path / "m.npz")
    check_named(result, path, "is 20x20 px, but its partner in the source expression is 16x16 px")
    result = run("evaluate", model, pairs)
    check_named(result, path, "is 20x20 px, but the model works on 16x16 px")


def test_missing_partners_are_named(run, pairs, tmp_path):
    (pairs / "happy" / "2.png").unlink()
    result = run("train", pairs, "-o", tmp_path / "m.npz")
    check_named(result, pairs / "neutral" / "2.png", "has no partner in happy")


@pytest.mark.parametrize("row", ["neutral/9.png,happy/0.png", "neutral/0.png,happy", "x\0y,z"])
def test_missing_file_of_a_manifest_is_named(run, pairs, tmp_path, row):
    text = f"source,target\nneutral/0.png,happy/0.png\n{row}\nneutral/1.png,happy/1.png\n"
    (pairs / "pairs.csv").write_text(text)
    result = run("train", pairs, "-o", tmp_path / "m.npz", "--json")
    assert result.code == 1
    assert json.loads(result.out)["pairs"] == {"target": 2}
    assert len(json.loads(result.out)["failures"]) in (1, 2)
    *failures, choice, _ = result.lines
    assert choice.startswith("target: ")
    assert all(line.startswith(f"mlr: {pairs}/") for line in failures)


def test_single_pair_trains(run, tmp_path):
    draw_pairs(tmp_path / "one", subjects=[0])
    result = run("train", tmp_path / "one", "-o", tmp_path / "m.npz", "--json")
    assert result.code == 0
    assert json.loads(result.out)["pairs"] == {"happy": 1}


@pytest.mark.parametrize("command", ["train", "evaluate", "synthesize"])
def test_folder_without_anything_is_one_line(run, model, tmp_path, command):
    (tmp_path / "empty").mkdir()
    folder = tmp_path / "empty"
    options = {
        "train": ["train", folder, "-o", tmp_path / "m.npz"],
        "evaluate": ["evaluate", model, folder],
        "synthesize": ["synthesize", model, folder, "-q"],
    }
    result = run(*options[command])
    assert result.code == 1
    assert len(result.lines) == 1
    assert str(folder) in result.err
    assert names(tmp_path) == ["empty"]


@pytest.mark.parametrize("command", ["train", "evaluate", "synthesize", "info"])
def test_missing_path_is_wrong_usage(run, model, tmp_path, command):
    missing = tmp_path / "none"
    options = {
        "train": ["train", missing, "-o", tmp_path / "m.npz"],
        "evaluate": ["evaluate", model, missing],
        "synthesize": ["synthesize", model, missing],
        "info": ["info", missing],
    }
    result = run(*options[command])
    assert result.code == 2
    assert "does not exist" in result.lines[-1]


def test_all_images_bad(run, pairs, tmp_path):
    for path in (pairs / "happy").iterdir():
        path.write_bytes(b"")
    result = run("train", pairs, "-o", tmp_path / "m.npz")
    assert result.code == 1
    assert result.lines[3] == "mlr: and 3 more: is empty"
    assert len(result.lines) == 3 + 1 + 1
    assert result.lines[-1] == "mlr: error: no pair of images of the same size is left"
    assert not (tmp_path / "m.npz").exists()


def test_every_kind_of_image_trains_and_is_synthesized(run, tmp_path):
    """Mixed bit depths; one 16-bit file makes all statistics 16-bit."""
    kinds = {name: data for name, (data, _) in KINDS.items()}
    for folder in ("neutral", "happy"):
        (tmp_path / folder).mkdir()
        for number, (name, data) in enumerate(kinds.items()):
            (tmp_path / folder / f"{number}-{name}").write_bytes(data)
        CMYK.save(tmp_path / folder / "cmyk.jpg")
        PALETTE.save(tmp_path / folder / "transparent.png", transparency=0)
    count = len(kinds) + 2
    result = run("train", tmp_path, "-o", tmp_path / "m.npz", "--recipe", "paper", "--json")
    assert result.code == 0
    assert json.loads(result.out)["pairs"] == {"happy": count}
    told = not has_extra()
    assert ("2 images hold 16-bit colour, which is reduced to 8 bits" in result.err) == told
    faces = tmp_path / "neutral"
    result = run("synthesize", tmp_path / "m.npz", faces, "-o", tmp_path / "out", "--json")
    assert result.code == 0
    assert len(json.loads(result.out)["written"]) == count
    assert ("1 image holds 16-bit colour" in result.err) == told
    result = run("evaluate", tmp_path / "m.npz", tmp_path, "--json")
    assert json.loads(result.out)["pairs"] == count
    assert result.code == 0


def test_16_bit_training_keeps_the_bits(run, tmp_path):
    """The same faces with 8 and with 16 bits give one model; a finer target another one."""
    eight, sixteen = tmp_path / "8", tmp_path / "16"
    draw_pairs(eight, channels=1)
    for path in sorted(eight.rglob("*.png")):
        place = sixteen / path.relative_to(eight)
        write_image(place, read_image(path).pixels.astype(np.uint16) * 257)
    for folder in (eight, sixteen):
        assert run("train", folder, "-o", folder / "m.npz", "--recipe", "paper").code == 0
    np.testing.assert_array_equal(
        load(eight / "m.npz").weights, load(sixteen / "m.npz").weights, strict=True
    )
    place = sixteen / "happy" / "0.png"
    write_image(place, read_image(place).pixels ^ 1, force=True)
    again = ("train", sixteen, "-o", sixteen / "m.npz", "--recipe", "paper", "--force")
    assert run(*again).code == 0
    assert (load(eight / "m.npz").weights != load(sixteen / "m.npz").weights).any()


def test_alpha_does_not_matter_in_training(run, pairs, tmp_path):
    assert run("train", pairs, "-o", tmp_path / "a.npz").code == 0
    for path in sorted(pairs.rglob("*.png")):
        image = read_image(path)
        write_image(path, image.pixels, draw(7, channels=1)[..., 0], force=True)
    assert run("train", pairs, "-o", tmp_path / "b.npz").code == 0
    plain, transparent = (load(tmp_path / f"{name}.npz").weights for name in "ab")
    np.testing.assert_array_equal(plain, transparent)


def test_rotated_photographs_train_as_upright_ones(run, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for side, options in (("upright", {}), ("rotated", {"exif": exif})):
        for seed in range(4):
            for expression in ("neutral", "happy"):
                pixels = draw(seed)[:12]
                stored = pixels if side == "upright" else np.rot90(pixels)
                path = tmp_path / side / expression / f"{seed}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                PIL.Image.fromarray(np.ascontiguousarray(stored)).save(path, **options)
        assert run("train", tmp_path / side, "-o", tmp_path / f"{side}.npz").code == 0
    upright, rotated = (load(tmp_path / f"{side}.npz") for side in ("upright", "rotated"))
    assert upright.shape == (3, 12, 16)
    np.testing.assert_array_equal(upright.weights, rotated.weights)


def test_huge_header_is_refused_before_memory_is_taken(model, tmp_path):
    (tmp_path / "huge.png").write_bytes(BAD["30,000 px"][0])
    script = (
        "import resource, sys; from mlr.cli import main; import mlr.synthesis.files\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = used()\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code, used() - before)\n"
    )
    command = [sys.executable, "-c", script, "synthesize", model, tmp_path / "huge.png", "--resize"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    code, kilobytes = map(int, done.stdout.split())
    assert code == 1
    assert "is larger than" in done.stderr
    assert kilobytes < 50_000  # decoded it would be 2.7 GB


@pytest.mark.parametrize("command", ["train", "synthesize"])
def test_output_under_a_file_is_one_line(run, model, faces, tmp_path, command):
    (tmp_path / "file").write_text("kept")
    output = tmp_path / "file" / f"below.{'npz' if command == 'train' else 'png'}"
    options = {
        "train": ["train", faces, "-o", output, "-q"],
        "synthesize": ["synthesize", model, faces / "neutral" / "0.png", "-o", output, "-q"],
    }
    result = run(*options[command])
    assert result.code == 1
    assert len(result.lines) == 1
    assert f"{output}" in result.err
    assert "cannot be written" in result.err
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("/proc/mlr/model.npz", "cannot be written"),
        ("/dev/full", "is not a regular file"),
        (f"/tmp/{'x' * 300}", "File name too long"),
        ("/", "is a folder"),
    ],
)
def test_model_that_cannot_be_written_is_one_line(run, faces, output, cause):
    result = run("train", faces, "-o", output, "--force", "--target", "happy", "-q")
    assert result.code == 1
    assert len(result.lines) == 1
    assert result.err.startswith(f"mlr: error: {output}: ")
    assert cause in result.err


def test_device_is_never_replaced(run, faces, model):
    assert run("train", faces, "-o", "/dev/null", "--force").code == 1
    assert not os.path.isfile("/dev/null")  # noqa: PTH113


def test_output_with_the_longest_name_is_written_and_a_longer_one_named(run, model, tmp_path):
    fits, too_long = "笑" * 80 + ".png", "笑" * 83 + ".png"
    for name in (fits, too_long):
        write_image(tmp_path / "x.png", draw(0), force=True)
        (tmp_path / "x.png").rename(tmp_path / name)
    result = run("synthesize", model, tmp_path / fits, tmp_path / too_long)
    assert result.code == 1
    written = (tmp_path / fits).with_name("笑" * 80 + "-happy.png")
    assert written.is_file()
    check_named(result, tmp_path / too_long, "File name too long")


@pytest.mark.usefixtures("permissions")
def test_unreadable_image_is_named(run, pairs, tmp_path):
    path = pairs / "happy" / "0.png"
    path.chmod(0)
    check_named(run("train", pairs, "-o", tmp_path / "m.npz"), path, "Permission denied")


@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("folder", ["happy/below", "happy"])
def test_unreadable_folder_is_not_passed_over(run, pairs, tmp_path, folder):
    (pairs / folder).mkdir(exist_ok=True)
    (pairs / folder).chmod(0)
    result = run("train", pairs, "-o", tmp_path / "m.npz")
    (pairs / folder).chmod(0o700)
    assert result.code == 1
    assert f"{pairs / folder}: cannot be read: Permission denied" in result.err


@pytest.mark.usefixtures("permissions")
def test_folder_that_may_not_be_written_is_one_line(run, faces, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    result = run("train", faces, "-o", tmp_path / "locked" / "m.npz", "-q")
    assert result.code == 1
    assert "cannot be written: Permission denied" in result.err


def test_folder_that_may_not_be_written_is_named_before_the_work(run, faces, tmp_path, monkeypatch):
    def access(path, mode):  # as for users who are not root
        return path != tmp_path or not mode & os.W_OK

    monkeypatch.setattr(os, "access", access)
    output = tmp_path / "new" / "m.npz"
    result = run("train", faces, "-o", output)
    assert (result.code, result.lines) == (
        1,
        [f"mlr: error: {output}: cannot be written: Permission denied"],
    )
    assert not output.parent.exists()


def test_odd_file_names_stay_on_one_line(run, model, tmp_path):
    name = os.fsdecode(b"a\nb\x1b[31m\xff\xe9.png")
    (tmp_path / name).write_bytes(b"no image")
    result = run("synthesize", model, tmp_path, "-o", tmp_path / "out", "-q", "--json")
    assert result.code == 1
    assert len(result.lines) == 1
    assert r"a\nb\x1b[31m\udcff\udce9.png: is not an image file" in result.err
    assert json.loads(result.out)["failures"][0]["path"] == str(tmp_path / name)


def test_odd_file_names_are_synthesized(model, tmp_path):
    name = os.fsdecode(b"a\nb \xff\xe9.png")
    write_image(tmp_path / name, draw(0))
    result = run_process("synthesize", model, tmp_path, "-o", tmp_path / "out", "-v", "--json")
    assert result.code == 0
    assert json.loads(result.out)["written"] == [str(tmp_path / "out" / name)]
    assert (tmp_path / "out" / name).is_file()


def test_counts_in_the_report_are_right(run, pairs, tmp_path):
    (pairs / "happy" / "0.png").write_bytes(b"")
    (pairs / "happy" / "1.png").unlink()
    result = run("train", pairs, "-o", tmp_path / "m.npz", "--json")
    report = json.loads(result.out)
    assert report["pairs"] == {"happy": 4}
    assert {(f["path"], f["cause"]) for f in report["failures"]} == {
        (
            str(pairs / "happy" / "0.png"),
            "is empty; expected PNG, JPEG, BMP, TIFF, WebP, GIF or AVIF",
        ),
        (str(pairs / "neutral" / "1.png"), "has no partner in happy"),
    }
    assert result.lines[-1].endswith("; 2 failed, see above")
