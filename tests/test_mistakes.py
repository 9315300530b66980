"""Messages for common mistakes, which come before any computation."""

import shutil

import numpy as np
import pytest

from mlr.core.alignment import EYES
from mlr.core.registration.eyes import are_aligned
from mlr.core.registration.features import features_of
from mlr.core.registration.groupwise import steps, templates_of
from mlr.errors import DataError
from mlr.io.images import resized, write_image
from mlr.io.pairs import find_pairs
from mlr.photo.eyes import EyeTable
from mlr.samples import draw_face
from mlr.synthesis.files import synthesize
from mlr.training.train import statistics, train
from mlr.utils.progress import ConsoleReport, Report
from tests.conftest import draw, draw_pairs, names

SIDE = 300  # px, of photographs


@pytest.fixture(scope="module")
def face_pairs():
    """Drawn faces of twelve subjects, neutral and happy, 128 px."""
    return [[draw_face(0, n, name, 128) for name in ("neutral", "happy")] for n in range(12)]


def photograph(face, number, scattered):
    """Return a photograph with a small face: anywhere, or where it is in all others."""
    x, y = np.random.default_rng(number).integers(0, SIDE - 90, 2) if scattered else (105, 80)
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    image[y : y + 90, x : x + 90] = resized(face, 90, 90)
    return image


def write_pairs(folder, pairs, change=lambda face, number: face):
    for number, pair in enumerate(pairs):
        for name, face in zip(("neutral", "happy"), pair, strict=True):
            write_image(folder / name / f"{number:02}.png", change(face, number), png_level=1)
    return folder


@pytest.mark.parametrize("scattered", [True, False])
@pytest.mark.parametrize("recipe", ["best", "paper"])
def test_photographs_are_refused_after_a_few_are_read(run, face_pairs, tmp_path, scattered, recipe):
    folder = tmp_path / "in"
    write_pairs(folder, face_pairs, lambda face, number: photograph(face, number, scattered))
    for number in range(1, 12, 2):  # those that are not among the few
        path = folder / "neutral" / f"{number:02}.png"
        path.write_bytes(path.read_bytes()[:-30])
    result = run("train", folder, "-o", tmp_path / "m.npz", "--recipe", recipe)
    assert result.code == 1
    assert result.lines == [
        f"mlr: error: {folder}: the faces of 6 images are not aligned; "
        f"run first: mlr align {folder} -o FOLDER"
    ]
    assert names(tmp_path) == ["in"]


def test_aligned_faces_of_any_size_are_trained_on(run, face_pairs, tmp_path):
    folder = write_pairs(tmp_path / "in", face_pairs[:5], lambda face, _: resized(face, 260, 260))
    result = run("train", folder, "-o", tmp_path / "m.npz", "--recipe", "paper")
    assert (result.code, len(result.lines)) == (0, 1)


def test_large_images_are_noted(run, face_pairs, tmp_path):
    folder = write_pairs(tmp_path / "in", face_pairs[:1], lambda face, _: resized(face, 512, 512))
    result = run("train", folder, "-o", tmp_path / "m.npz", "--recipe", "paper")
    assert result.lines[0] == (
        "note: images of 512x512 px; 128 to 256 px are enough, and much faster: "
        f"mlr align {folder} --size 256 -o FOLDER"
    )
    assert result.code == 0


def test_faces_are_aligned_if_they_are_alike_and_large(face_pairs):
    def planes(change):
        images = [change(pair[0], number) for number, pair in enumerate(face_pairs)]
        return [features_of(image.astype(np.float32) / 255).whole[..., 0] for image in images]

    assert are_aligned(planes(lambda face, _: face))
    assert not are_aligned(planes(lambda face, number: np.roll(face, 12 * number, axis=1)))
    # Their mean is still like a large face.
    assert not are_aligned(planes(lambda face, number: draw(number, 128) if number % 3 else face))
    assert not are_aligned(planes(lambda face, number: photograph(face, number, False)))
    assert not are_aligned(planes(lambda face, number: photograph(face, number, True)))


def test_images_of_many_sizes_are_refused(run, tmp_path):
    for size in (16, 20, 24):
        draw_pairs(tmp_path / "in", [size], size=size)
    result = run("train", tmp_path / "in", "-o", tmp_path / "m.npz")
    assert result.code == 1
    assert result.lines == [
        f"mlr: error: {tmp_path}/in: 6 images of 3 sizes, so their faces are not aligned; "
        f"run first: mlr align {tmp_path}/in -o FOLDER"
    ]


@pytest.mark.parametrize("command", ["train", "statistics", "synthesize", "animate", "clip"])
def test_unknown_suffix_of_the_output_is_named_before_anything_is_read(
    run, model, tmp_path, command
):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "face.png").write_bytes(b"no image")
    (tmp_path / "in" / "face.mp4").write_bytes(b"no clip")
    face, end = tmp_path / "in" / "face.png", ["-o", tmp_path / "out.jpgg"]
    said = "cannot be written as .jpgg; use "
    commands = {
        "train": (["train", tmp_path / "in"], "expected a name that ends in .npz"),
        "statistics": (["statistics", tmp_path / "in"], "expected a name that ends in .npz"),
        "synthesize": (["synthesize", model, face], f"{said}.png, .jpg"),
        "animate": (["synthesize", model, face, "--animate"], f"{said}.gif, .webp"),
        "clip": (["synthesize", model, face.with_suffix(".mp4")], f"{said}.m4v, .mkv, .mov, .mp4"),
    }
    arguments, reason = commands[command]
    result = run(*arguments, *end)
    assert result.code == 2
    (line,) = result.lines
    assert line.startswith(f"mlr: error: {tmp_path}/out.jpgg: {reason}")


def test_folders_in_capitals_are_those_in_small_letters(tmp_path):
    draw_pairs(tmp_path / "small")
    train(tmp_path / "small", tmp_path / "small.npz", recipe="paper")
    (tmp_path / "small" / "neutral").rename(tmp_path / "small" / "Neutral")
    (tmp_path / "small" / "happy").rename(tmp_path / "small" / "HAPPY")
    train(tmp_path / "small", tmp_path / "capital.npz", recipe="paper", target=["Happy"])
    assert (tmp_path / "capital.npz").read_bytes() == (tmp_path / "small.npz").read_bytes()
    draw_pairs(tmp_path / "both", targets=("Happy",))
    assert find_pairs(tmp_path / "both", target="happy").expressions == ("Happy",)
    draw_pairs(tmp_path / "two", targets=("happy", "Happy"))
    (tmp_path / "two" / "neutral").rename(tmp_path / "two" / "Neutral")
    with pytest.raises(DataError, match="contains Happy, Neutral, happy; expected a folder"):
        find_pairs(tmp_path / "two")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["trian", "faces"], "No such command 'trian'; did you mean 'train'?"),
        (["synthesize", "colur.npz", "faces"], "'colur.npz' does not exist; did you mean 'colour"),
        (["train", "face", "-o", "m.npz"], "'face' does not exist; did you mean 'faces'?"),
        (["synthesize", "colour.npz", "faces", "--target", "hapy"], "did you mean 'happy'?"),
        (["train", "faces", "-o", "m.npz", "--target", "hapy"], "did you mean 'happy'?"),
        (["evaluate", "colour.npz", "faces", "--target", "hapy"], "did you mean 'happy'?"),
        (["sample", "out", "--target", "hapy"], "did you mean 'happy'?"),
        (["synthesize", "colour.npz", "faces", "--target", "angry"], "it has: happy"),
        (["quit"], "Error: No such command 'quit'"),
    ],
)
def test_similar_names_are_proposed(run, faces, model, tmp_path, monkeypatch, arguments, hint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").symlink_to(faces)
    (tmp_path / "colour.npz").symlink_to(model)
    result = run(*arguments)
    assert result.code in (1, 2)
    assert hint in result.lines[-1]
    assert ("did you mean" in hint) == ("did you mean" in result.lines[-1])


@pytest.mark.parametrize("option", ["--target", "--start"])
def test_shares_in_per_cent_are_refused(run, model_of_two, faces, option):
    options = ["--target", "happy", "--animate"] if option == "--start" else []
    result = run("synthesize", model_of_two, faces, *options, option, "sad=0.5,happy=50")
    assert result.code == 2
    assert "happy=50: shares are not in per cent" in result.lines[-1]
    assert result.lines[-1].endswith("did you mean happy=0.5?")


def test_folder_given_twice_is_said(run, model, faces, tmp_path):
    result = run("train", faces, f"{faces}/", "-o", tmp_path / "m.npz", "--recipe", "paper")
    assert result.code == 0
    assert result.lines[0] == (
        f"note: {faces} is given more than once, and its pairs count as often"
    )
    detour = faces / ".." / faces.name / "neutral"
    result = run("synthesize", model, faces / "neutral", detour, "-o", tmp_path / "out")
    assert result.code == 1
    assert result.lines[0] == f"mlr: {detour}: is given twice"
    assert names(tmp_path / "out") == [f"{n}.png" for n in range(5)]


def test_evaluation_on_training_pairs_is_said(run, model, faces, tmp_path):
    said = "note: the model was trained on these pairs; others have larger errors"
    assert said in run("evaluate", model, faces, "--target", "happy").lines
    copy = shutil.copytree(faces, tmp_path / "copy")
    assert said in run("evaluate", model, copy).lines
    write_image(copy / "happy" / "0.png", draw(99), force=True)
    assert said not in run("evaluate", model, copy).lines


def test_outputs_are_neither_expressions_nor_pairs(run, tmp_path, model_of_two):
    folder = draw_pairs(tmp_path / "in", targets=("happy", "sad"))
    before = find_pairs(folder)
    model = model_of_two
    for name, options in (("neutral", ()), ("happy", ("--no-metadata",))):
        assert run("synthesize", model, folder / name, *options).code == 0
    assert run("synthesize", model, folder / "sad", "-o", folder / "out").code == 0
    assert run("synthesize", model, folder / "neutral" / "0.png").code == 0
    assert run("synthesize", model, folder / "happy" / "0.png", "--target", "sad").code == 0
    assert len(names(folder)) == 3 + 4 + 1
    after = find_pairs(folder)
    assert after.subjects == before.subjects
    assert after.problems == ()
    assert after.notes == (
        "note: skipped happy-happy, happy-sad, neutral-happy, neutral-sad, out: "
        "outputs of mlr synthesize; else give --target",
        "note: skipped 3 outputs of mlr synthesize among the inputs",
    )
    assert find_pairs(folder, target="neutral-sad").expressions == ("neutral-sad",)


def test_outputs_among_photographs_are_not_aligned(run, tmp_path, model):
    write_image(tmp_path / "in" / "neutral" / "ann.png", draw(0))
    assert run("synthesize", model, tmp_path / "in" / "neutral").code == 0
    (x0, y0), (x1, y1) = EYES
    (tmp_path / "eyes.csv").write_text(
        f"file,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"
        f"ann.png,{16 * x0},{16 * y0},{16 * x1},{16 * y1}"
    )
    options = ["-o", tmp_path / "out", "--eyes", tmp_path / "eyes.csv"]
    result = run("align", tmp_path / "in", *options)
    assert "note: skipped 1 output of mlr synthesize" in result.lines
    assert names(tmp_path / "out") == ["alignment.csv", "neutral"]
    assert result.lines[-1].startswith(f"{tmp_path}/out/neutral/ann.png written in ")
    result = run("align", tmp_path / "in" / "neutral-happy", *options, "--force")
    assert (result.code, len(result.lines)) == (0, 2)  # and enlarged


ROWS = ("a.jpg,10,20,50,21", "b.jpg,52,20,10,21", "c.jpg,60,20,10,21")


@pytest.mark.parametrize(
    ("rows", "degrees", "refused"),
    [(ROWS, False, True), (ROWS[:2], False, False), (ROWS[1:2], False, True), (ROWS, True, False)],
)
def test_exchanged_eyes_are_refused_unless_faces_are_upside_down(tmp_path, rows, degrees, refused):
    header = "file,left_eye_x,left_eye_y,right_eye_x,right_eye_y" + ",degrees" * degrees
    text = "\n".join([header, *(row + ",180" * degrees for row in rows)])
    (tmp_path / "eyes.csv").write_text(text)
    if not refused:
        EyeTable(tmp_path / "eyes.csv")
        return
    with pytest.raises(DataError, match=r"eyes\.csv: the left eye is right of the right one in "):
        EyeTable(tmp_path / "eyes.csv")


def test_equal_causes_are_counted(run, model, faces, tmp_path):
    folder = shutil.copytree(faces / "neutral", tmp_path / "in")
    for n in range(100, 130):
        (folder / f"{n}.png").write_bytes(b"")
    write_image(folder / "1.png", draw(1), force=True)
    result = run("synthesize", model, folder, "-o", tmp_path / "out", "-q")
    assert result.code == 1
    assert [line.partition(":")[2].split(";")[0] for line in result.lines] == [
        *(f" {folder}/{n}.png: is empty" for n in range(100, 103)),
        " and 27 more: is empty",
    ]
    assert len(run("synthesize", model, folder, "-o", tmp_path / "v", "-v").lines) > 30


class Progress(Report):
    """Records progress: steps that are done, and expected steps."""

    def __init__(self):
        super().__init__()
        self.shown = {}

    def progress(self, items, total, what):
        self.shown[what] = [0, total]
        for item in items:
            self.shown[what][0] += 1
            yield item


def test_all_steps_of_training_show_progress_to_their_end(faces, tmp_path):
    report = Progress()
    train(faces, report=report)
    assert list(report.shown) == [
        "checking",
        "reading faces for templates",
        "making templates",
        "registering and accumulating",
        "solving",
    ]
    assert all(done == total > 0 for done, total in report.shown.values())
    many = draw_pairs(tmp_path, range(302))
    report = Progress()
    statistics(many, report=report)
    assert report.shown["choosing faces for templates"] == [302, 302]
    assert report.shown["reading faces for templates"] == [300, 300]


@pytest.mark.parametrize("pairs", [3, 8])
def test_templates_take_as_many_steps_as_expected(pairs):
    images, calls = [draw(n, 128) for n in range(2 * pairs)], []
    targets = {name: (range(pairs), images[pairs:]) for name in ("happy", "sad")}
    templates_of((128, 128), images[:pairs], targets, lambda: calls.append(1))
    assert len(calls) == steps(2)


def test_report_of_the_program_prints_three_files_of_a_cause(capsys, tmp_path):
    report = ConsoleReport()
    for n in range(5):
        report.fail(tmp_path / f"{n}.png", f"is bad; it is {n}")
    report.fail(tmp_path / "x.png", "is worse")
    report.show_more()
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("/")[2] for line in lines] == [
        "0.png: is bad; it is 0",
        "1.png: is bad; it is 1",
        "2.png: is bad; it is 2",
        "x.png: is worse",
        "mlr: and 2 more: is bad",
    ]
    assert len(report.failures) == 6


def test_synthesis_of_a_folder_twice_from_python_fails_once(model, faces):
    from mlr.io.model_file import load_model

    with pytest.warns(UserWarning, match="is given twice"):
        written = synthesize(load_model(model), [faces / "sad"] * 2, faces.parent / "twice")
    assert len(written) == 5
