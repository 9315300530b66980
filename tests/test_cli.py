"""The command line: exit codes, streams, and names of outputs."""

import json
import os
import shutil
import subprocess
import sys
import termios

import click
import numpy as np
import PIL.Image
import pytest

import mlr
from mlr import load
from mlr.cli import COMMANDS, cli
from mlr.core.model import LUMA
from mlr.io.images import read_image, write_image
from mlr.io.pairs import find_pairs
from mlr.photo.detect import installed
from mlr.samples import sample
from tests.conftest import PEOPLE, draw, draw_pairs, names, run_process


@pytest.fixture
def folder(faces, tmp_path):
    """A folder of faces to be written to."""
    return shutil.copytree(faces / "neutral", tmp_path / "in")


@pytest.fixture
def face(tmp_path):
    """One face."""
    write_image(tmp_path / "face.png", draw(0))
    return tmp_path / "face.png"


def pixels(path):
    return read_image(path).pixels


def expected(model, path, target="happy"):
    return load(model).synthesize(pixels(path), target)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["train", "--help"]])
def test_help_and_version_load_nothing_heavy(arguments):
    script = (
        "import sys\nfrom mlr.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'numpy', 'numba', 'imageio', 'PIL', 'tqdm', 'csv', 'json'} & sys.modules.keys()\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_version(run):
    assert run("--version") == (0, f"mlr {mlr.__version__}\n", "")


def test_help_names_every_command(run):
    result = run("--help")
    assert (result.code, result.err) == (0, "")
    assert all(f"  {command} " in result.out for command in COMMANDS)
    assert "\n  mlr sample faces/      " in result.out


def test_every_command_can_be_loaded():
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command.name == name
        assert command.help


@pytest.mark.parametrize(
    ("command", "start"), [((), "mlr train faces/ "), (("train",), "trainA/1.png, ")]
)
def test_help_keeps_its_lines(run, command, start):
    lines = run(*command, "--help").out.splitlines()
    assert any(line.strip().startswith(start) for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["--loud"],
        ["train"],
        ["train", "FACES"],
        ["train", "FACES", "-o", "m.npz", "--threads", "0"],
        ["train", "FACES", "-o", "m.npz", "--penalty", "much"],
        ["train", "FACES", "-o", "m.npz", "--recipe", "cake"],
        ["synthesize", "MODEL"],
        ["synthesize", "MODEL", "FACES", "--strength", "2.1"],
        ["synthesize", "MODEL", "FACES", "--strength", "-1"],
        ["synthesize", "MODEL", "FACES", "--target", "happy=much"],
        ["synthesize", "FACES", "FACES"],
        ["synthesize", "MODEL", "FACES", "missing.png"],
        ["evaluate", "MODEL"],
        ["info"],
        ["info", "FACES"],
    ],
)
def test_wrong_usage_is_2_and_explained_on_stderr(run, faces, model, tmp_path, arguments):
    paths = {"FACES": faces, "MODEL": model, "m.npz": tmp_path / "m.npz"}
    result = run(*(paths.get(word, word) for word in arguments))
    assert result.code == 2
    assert result.out == ""
    assert "Usage: mlr" in result.err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "code", "cause"),
    [
        (["--receptive-field", "4"], 2, "must be odd"),
        (["--receptive-field", "star"], 2, "unknown receptive field 'star'"),
        (["--penalty", "-1"], 2, "penalty"),
        (["--penalty", "nan"], 2, "penalty"),
        (["--source", "angry"], 1, "expected a folder 'angry'"),
        (["--target", "angry"], 1, "no expression 'angry'"),
    ],
)
def test_training_option_that_makes_no_sense_is_one_line(
    run, faces, tmp_path, options, code, cause
):
    result = run("train", faces, "-o", tmp_path / "m.npz", *options)
    assert result.code == code
    assert result.out == ""
    assert cause in result.lines[-1]
    assert names(tmp_path) == []


def test_whole_way_from_pairs_to_pictures(tmp_path):
    """In separate processes, as users run them."""
    data, model = tmp_path / "data", tmp_path / "m.npz"
    sample(data, pairs=PEOPLE, size=32, target=["happy"])
    trained = run_process("train", data, "-o", model, "--json")
    assert trained.code == 0
    assert json.loads(trained.out)["pairs"] == {"happy": PEOPLE}
    compiling = "compiling kernels"  # in the first process that needs them
    table = [line.split(":")[0] for line in trained.lines if not line.startswith(compiling)]
    assert (table[0], table[-1]) == ("happy", str(model))
    synthesized = run_process("synthesize", model, data / "neutral", "--json")
    assert synthesized.code == 0
    assert names(data / "neutral-happy") == names(data / "neutral")
    shutil.rmtree(data / "neutral-happy")
    evaluated = run_process("evaluate", model, data, "--json")
    assert evaluated.code == 0
    report = json.loads(evaluated.out)
    assert report["pairs"] == PEOPLE
    scores = report["targets"]["happy"]
    assert scores["mse"] < scores["copy_input"]["mse"]
    info = run_process("info", model, "--json")
    assert json.loads(info.out)["size"] == "32x32"
    for result in (trained, synthesized, evaluated, info):
        assert result.out.count("\n") == 1
        assert "\r" not in result.err
        assert "%|" not in result.err


def test_results_are_on_stdout_and_the_rest_on_stderr(
    run, faces, model, best_model, face, tmp_path
):
    trained = run("train", faces, "-o", tmp_path / "m.npz")
    assert trained.out == ""
    assert trained.lines[-1].startswith(f"{tmp_path}/m.npz: happy, sad from 10 pairs in ")
    synthesized = run("synthesize", model, face)
    assert synthesized.out == ""
    assert synthesized.lines[-1].startswith(f"{face.with_stem('face-happy')} written in ")
    evaluated = run("evaluate", model, faces, "--target", "happy")
    assert "copy of the input" in evaluated.out
    hints = [] if installed() else ["note: measuring the identity of outputs needs"]
    assert [line.partition(" dlib")[0] for line in evaluated.lines] == [
        "note: the model was trained on these pairs; others have larger errors",
        *hints,
        "5 pairs evaluated",
    ]
    info = run("info", model)
    assert "3x3" in info.out
    assert info.err == ""
    styles = "styles            happy: none, trained from fewer than 8 pairs"
    assert styles in run("info", best_model).out


def test_info_says_what_the_style_is_and_evaluate_takes_one(run, tmp_path):
    data, model = draw_pairs(tmp_path / "data", subjects=range(8)), tmp_path / "m.npz"
    assert run("train", data, "-o", model).code == 0
    said = json.loads(run("info", model, "--json").out)["styles"]["happy"]
    (line,) = (line for line in run("info", model).out.splitlines() if line.startswith("styles"))
    assert line.split(maxsplit=1)[1].startswith(f"happy: {said['explained']:.0%} of what varies, ")
    assert line.endswith(f"default {round(said['default'], 2):g}  (--style)")
    result = run("evaluate", model, data, "--style", "happy=1", "--json")
    assert json.loads(result.out)["style"] == {"happy": 1}
    assert run("evaluate", model, data, "--style", "sad=1").code == 1
    assert run("evaluate", model, data, "--style", "x").code == 2


def test_table_of_scores_fits_a_terminal(run, faces, model):
    table, whole = run("evaluate", model, faces), run("evaluate", model, faces, "--json")
    lines = table.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["whole", "image", "face", "mouth"]
    measures = ["MSE", "PSNR", "SSIM", "sharp", *2 * ["MSE", "SSIM", "sharp"], "identity"]
    assert lines[1].split() == measures
    means = json.loads(whole.out)["targets"]["happy"]
    interval = means["interval"]
    rows = []
    for name, of, ends in (
        ("happy", means, interval),
        ("  copy of the input", means["copy_input"], interval["copy_input"]),
    ):
        low, high = ([end and end[side] for end in in_columns(ends)] for side in (0, 1))
        rows += [(name, in_columns(of)), ("  95 %: from", low), ("        to", high)]
    for line, (name, numbers) in zip(lines[2:], rows, strict=True):
        assert line[:21].rstrip() == name
        assert [float(cell) if cell != "-" else None for cell in line[21:].split()] == [
            None if number is None else pytest.approx(number, abs=0.0051) for number in numbers
        ]


def in_columns(scores):
    """The scores in the order of the table's columns."""
    whole = [scores[measure] for measure in ("mse", "psnr", "ssim", "sharpness")]
    return [*whole, *scores["face"].values(), *scores["mouth"].values(), scores["same_person"]]


def test_table_tells_the_share_of_faces_that_fit(run, faces, best_model, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(faces, data)
    noise = np.random.default_rng(0).integers(0, 256, draw(0).shape, np.uint8)
    for expression in ("neutral", "happy", "sad"):
        write_image(data / expression / "noise.png", noise)
    lines = run("evaluate", best_model, data).out.splitlines()
    assert max(map(len, lines)) <= 100
    whole = json.loads(run("evaluate", best_model, data, "--json").out)["targets"]
    for name, means in whole.items():
        assert means["fitted"] < 1
        (line,) = (line for line in lines if line.startswith(name))
        assert line[:21].rstrip() == f"{name} ({100 * means['fitted']:.0f} % fit)"


def test_quiet_prints_failures_alone(run, faces, model, folder, tmp_path):
    (folder / "9.png").write_bytes(b"")
    for command in (
        ["train", faces, "-o", tmp_path / "m.npz"],
        ["synthesize", model, faces / "neutral", "-o", tmp_path / "a"],
    ):
        assert run(*command, "-q") == (0, "", "")
    result = run("synthesize", model, folder, "-o", tmp_path / "b", "-q")
    assert result.code == 1
    assert result.lines == [
        f"mlr: {folder}/9.png: is empty; expected PNG, JPEG, BMP, TIFF, WebP, GIF or AVIF"
    ]


def test_verbose_names_every_output(run, model, folder, tmp_path):
    result = run("synthesize", model, folder, "-o", tmp_path / "out", "-v")
    assert [line for line in result.lines if line.startswith("wrote ")] == [
        f"wrote {tmp_path}/out/{n}.png" for n in range(PEOPLE)
    ]


@pytest.mark.parametrize("options", [[], ["-q"]])
def test_progress_is_shown_on_a_terminal_alone(model, folder, options):
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [sys.executable, "-m", "mlr", "synthesize", model, folder, *options]
    subprocess.run(command, stderr=theirs, check=True, timeout=60)
    os.write(theirs, b"end")
    shown = os.read(ours, 100_000)
    for end in (ours, theirs):
        os.close(end)
    assert (b"synthesizing" in shown) == (not options)


def test_existing_model_is_kept_unless_forced(run, faces, tmp_path):
    path = tmp_path / "m.npz"
    path.write_text("mine")
    result = run("train", faces, "-o", path)
    assert result.code == 1
    assert result.lines == [f"mlr: error: {path}: exists already; give --force to overwrite it"]
    assert path.read_text() == "mine"
    assert run("train", faces, "-o", path, "--force").code == 0
    assert load(path).expressions == ("happy", "sad")
    assert names(tmp_path) == ["m.npz"]


def test_existing_outputs_are_kept_unless_forced(run, model, folder, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "1.png").write_text("mine")
    result = run("synthesize", model, folder, "-o", output)
    assert result.code == 1
    assert result.lines[0] == (
        f"mlr: {folder}/1.png: {output}/1.png: exists already; give --force to overwrite it"
    )
    assert (output / "1.png").read_text() == "mine"
    assert names(output) == names(folder)
    assert run("synthesize", model, folder, "-o", output, "--force").code == 0
    np.testing.assert_array_equal(pixels(output / "1.png"), expected(model, folder / "1.png"))


def test_output_full_is_one_line(model):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "mlr", "info", str(model)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "mlr: error: [Errno 28] No space left on device\n"


def test_reader_that_goes_away_is_no_traceback(model):
    command = f"'{sys.executable}' -m mlr info '{model}' | true"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
    assert done.stderr == ""


# --- which file becomes which ---


def test_folder_goes_beside_itself(run, model, folder, tmp_path):
    (folder / "sub").mkdir()
    (folder / "0.png").rename(folder / "sub" / "0.PNG")
    assert run("synthesize", model, folder).code == 0
    assert names(tmp_path) == ["in", "in-happy"]
    assert names(tmp_path / "in-happy") == ["1.png", "2.png", "3.png", "4.png", "sub"]
    np.testing.assert_array_equal(
        pixels(tmp_path / "in-happy" / "sub" / "0.PNG"), expected(model, folder / "sub" / "0.PNG")
    )


def test_folder_of_here_goes_beside_itself(model, folder, tmp_path):
    assert run_process("synthesize", model, ".", cwd=folder).code == 0
    assert names(tmp_path / "in-happy") == names(folder)


def test_file_goes_beside_itself(run, model_of_two, face, tmp_path):
    assert run("synthesize", model_of_two, face).code == 0
    assert names(tmp_path) == ["face-happy.png", "face-sad.png", "face.png"]
    for target in ("happy", "sad"):
        np.testing.assert_array_equal(
            pixels(tmp_path / f"face-{target}.png"), expected(model_of_two, face, target)
        )


@pytest.mark.parametrize("name", ["out.png", "new/out.tif", "out.BMP"])
def test_output_may_be_a_file(run, model, face, tmp_path, name):
    assert run("synthesize", model, face, "-o", tmp_path / name).code == 0
    np.testing.assert_array_equal(pixels(tmp_path / name), expected(model, face))


def test_output_may_be_a_folder_even_if_called_like_an_image(run, model, face, tmp_path):
    (tmp_path / "out.png").mkdir()
    for folder in ("out", "out.png"):
        assert run("synthesize", model, face, "-o", tmp_path / folder).code == 0
        assert names(tmp_path / folder) == ["face.png"]


def test_output_in_a_format_that_is_only_read_is_refused(run, model, face, tmp_path):
    result = run("synthesize", model, face, "-o", tmp_path / "out.gif")
    assert result.code == 2
    assert "out.gif: cannot be written as .gif; use .png" in result.err
    assert names(tmp_path) == ["face.png"]


@pytest.mark.parametrize("inputs", [["face.png", "in"], ["in"], ["face.png", "face.png"]])
def test_file_cannot_hold_several_outputs(run, model, face, folder, tmp_path, inputs):
    result = run("synthesize", model, *(tmp_path / name for name in inputs), "-o", "out.png")
    assert result.code == 1
    assert "out.png: a file cannot hold several outputs; give a folder" in result.err


def test_several_expressions_get_a_folder_each(run, model_of_two, folder, tmp_path):
    assert run("synthesize", model_of_two, folder, "-o", tmp_path / "out").code == 0
    assert names(tmp_path / "out") == ["happy", "sad"]
    for target in ("happy", "sad"):
        assert names(tmp_path / "out" / target) == names(folder)


def test_wanted_expressions_alone_are_made(run, model_of_two, face, tmp_path):
    options = ["--target", "sad", "--target", "sad"]
    assert run("synthesize", model_of_two, face, "-o", tmp_path / "x.png", *options).code == 0
    np.testing.assert_array_equal(pixels(tmp_path / "x.png"), expected(model_of_two, face, "sad"))
    result = run("synthesize", model_of_two, face, "--target", "angry")
    assert result.code == 1
    assert result.lines == ["mlr: error: the model has no expression 'angry'; it has: happy, sad"]


def test_mixes_are_made_and_named(run, model_of_two, face, folder, tmp_path):
    options = ["--target", "sad=0.4, happy=0.60", "--target", "happy", "--target", "sad=2"]
    assert run("synthesize", model_of_two, folder, *options, "--strength", "0.5").code == 0
    mixes = {"happy-0.6-sad-0.4": {"happy": 0.6, "sad": 0.4}, "happy": "happy", "sad-2": {"sad": 2}}
    assert names(tmp_path) == ["face.png", "in", *sorted(f"in-{name}" for name in mixes)]
    for name, target in mixes.items():
        wanted = load(model_of_two).synthesize(pixels(folder / "1.png"), target, 0.5)
        np.testing.assert_array_equal(pixels(tmp_path / f"in-{name}" / "1.png"), wanted)
    for output, name in (("a.png", "a.png"), ("out", "out/face.png")):
        command = ["synthesize", model_of_two, face, "-o", tmp_path / output]
        assert run(*command, "--target", "happy=0.6,sad=0.4").code == 0
        np.testing.assert_array_equal(
            pixels(tmp_path / name), expected(model_of_two, face, {"happy": 0.6, "sad": 0.4})
        )
    assert run("synthesize", model_of_two, face, "--target", "happy=0.5").code == 0
    assert (tmp_path / "face-happy-0.5.png").exists()


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("happy,sad", "expected NAME, or NAME=NUMBER,NAME=NUMBER..."),
        ("happy=0.5,", "expected NAME, or"),
        ("=0.5", "expected NAME, or"),
        ("happy=", "'' is not a number"),
        ("happy=0.5;sad=1", "'0.5;sad=1'"),
        ("happy=-1", "must be a number from 0 to 1000, not -1.0"),
        ("happy=nan", "not nan"),
        ("happy=1,happy=2", "happy is in it twice"),
    ],
)
def test_mix_of_wrong_syntax_is_wrong_usage(run, model_of_two, face, tmp_path, target, reason):
    result = run("synthesize", model_of_two, face, "--target", target)
    assert result.code == 2
    assert reason in result.lines[-1]
    assert names(tmp_path) == ["face.png"]


def test_mix_with_an_expression_that_the_model_lacks(run, model_of_two, face, tmp_path):
    result = run("synthesize", model_of_two, face, "--target", "happy=0.5,angry=1")
    assert result.code == 1
    assert result.lines == ["mlr: error: the model has no expression 'angry'; it has: happy, sad"]
    assert names(tmp_path) == ["face.png"]


def test_two_outputs_of_one_name_are_refused(run, face, tmp_path):
    draw_pairs(tmp_path / "data", targets=("happy", "happy-0.5"))
    assert run("train", tmp_path / "data", "-o", tmp_path / "m.npz").code == 0
    options = ["--target", "happy-0.5", "--target", "happy=0.5"]
    result = run("synthesize", tmp_path / "m.npz", face, *options)
    assert result.code == 2
    assert "two different outputs would be named 'happy-0.5'" in result.lines[0]


def test_folders_are_kept_apart_by_their_names(run, model, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    assert run("synthesize", model, folder, tmp_path / "other", "-o", tmp_path / "out").code == 0
    assert names(tmp_path / "out") == ["in", "other"]
    assert names(tmp_path / "out" / "other") == names(folder)


def test_folders_of_equal_name_collide_and_are_named(run, model, folder, tmp_path):
    again = shutil.copytree(folder, tmp_path / "again" / "in")
    result = run("synthesize", model, folder, again, "-o", tmp_path / "out")
    assert result.code == 1
    assert result.lines[0] == (
        f"mlr: {again}/0.png: has the same output as {folder}/0.png: {tmp_path}/out/in/0.png"
    )
    assert len(result.lines) == PEOPLE + 1
    assert names(tmp_path / "out" / "in") == names(folder)


def test_same_stem_with_two_suffixes_gives_two_outputs_and_a_gif_collides(run, model, tmp_path):
    folder = tmp_path / "in"
    for name in ("a.png", "a.bmp"):
        write_image(folder / name, draw(0))
    PIL.Image.fromarray(draw(1)).save(folder / "a.gif")
    result = run("synthesize", model, folder, "--force")
    assert names(tmp_path / "in-happy") == ["a.bmp", "a.png"]
    assert result.code == 1
    assert f"mlr: {folder}/a.png: has the same output as " in result.lines[0]


def test_gif_is_written_as_png(run, model, tmp_path):
    PIL.Image.fromarray(draw(1)).save(tmp_path / "a.gif")
    assert run("synthesize", model, tmp_path / "a.gif").code == 0
    np.testing.assert_array_equal(
        pixels(tmp_path / "a-happy.png"), expected(model, tmp_path / "a.gif")
    )


def test_input_is_never_overwritten_by_the_output_of_another(run, model, tmp_path):
    for seed, name in enumerate(("x.png", "x-happy.png")):
        write_image(tmp_path / name, draw(seed))
    result = run("synthesize", model, tmp_path / "x.png", tmp_path / "x-happy.png", "--force")
    assert result.code == 1
    assert result.lines[0] == (
        f"mlr: {tmp_path}/x.png: its output {tmp_path}/x-happy.png is one of the inputs"
    )
    np.testing.assert_array_equal(pixels(tmp_path / "x-happy.png"), draw(1))
    assert names(tmp_path) == ["x-happy-happy.png", "x-happy.png", "x.png"]


def test_face_given_twice_is_named(run, model, face, tmp_path):
    detour = tmp_path / "." / ".." / tmp_path.name / "face.png"
    result = run("synthesize", model, face, detour, "--force")
    assert result.code == 1
    assert f"mlr: {detour}: has the same output as " in result.lines[0]
    np.testing.assert_array_equal(pixels(tmp_path / "face-happy.png"), expected(model, face))


@pytest.mark.parametrize("spelling", ["in/out", "./in/../in/out", "ABSOLUTE"])
def test_outputs_inside_the_input_folder_are_not_read(model, folder, tmp_path, spelling):
    output = str(folder / "out") if spelling == "ABSOLUTE" else spelling
    before = names(folder)
    for _ in range(2):
        result = run_process("synthesize", model, "in", "-o", output, "--force", cwd=tmp_path)
        assert result.code == 0
        assert names(folder / "out") == before


def test_faces_inside_the_output_folder_are_read(run, model, folder, tmp_path):
    assert run("synthesize", model, folder, "-o", tmp_path).code == 0
    assert names(tmp_path) == [*names(folder), "in"]


def test_faces_are_replaced_only_when_forced(run, model, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    wanted = {path.name: expected(model, path) for path in folder.iterdir()}
    result = run("synthesize", model, folder, "-o", folder)
    assert result.code == 1
    assert result.lines[3] == "mlr: and 2 more: would be overwritten by its own output"
    assert len(result.lines) == 3 + 1 + 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert run("synthesize", model, folder, "-o", folder, "--force").code == 0
    assert names(folder) == sorted(before)
    for name, image in wanted.items():
        np.testing.assert_array_equal(pixels(folder / name), image)


def test_second_run_of_several_expressions_in_place_reads_the_same_faces(run, model_of_two, folder):
    before = names(folder)
    for _ in range(2):
        assert run("synthesize", model_of_two, folder, "-o", folder, "--force").code == 0
        assert names(folder) == [*before, "happy", "sad"]
        assert names(folder / "happy") == before


# --- what is written ---


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (1, np.uint16)])
@pytest.mark.parametrize("kind", ["model", "grey_model"])
def test_strength_0_returns_the_pixels(run, request, tmp_path, kind, channels, dtype, suffix):
    """Grey through a colour model and colour through a grey one, 8 and 16 bits."""
    path = tmp_path / f"x{suffix}"
    noise = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (16, 16, channels), dtype)
    write_image(path, noise)
    model = request.getfixturevalue(kind)
    assert run("synthesize", model, path, "--strength", "0").code == 0
    output = pixels(tmp_path / f"x-happy{suffix}")
    np.testing.assert_array_equal(output, noise, strict=True)
    face = draw(1)[..., :channels].astype(dtype) * dtype(257 if dtype == np.uint16 else 1)
    write_image(path, face, force=True)
    options = ["-o", tmp_path / f"y{suffix}"]
    assert run("synthesize", model, path, *options).code == 0
    changed = pixels(tmp_path / f"y{suffix}")
    assert (changed.dtype, changed.shape) == (face.dtype, face.shape)
    assert (changed != face).any()


def test_grey_model_changes_the_luma_of_colour_alone(run, grey_model, tmp_path):
    image = (64 + draw(2) // 2).astype(np.uint8)  # away from black and white
    write_image(tmp_path / "x.png", image)
    options = ["--strength", "0.1"]
    assert run("synthesize", grey_model, tmp_path / "x.png", *options).code == 0
    change = pixels(tmp_path / "x-happy.png").astype(int) - image
    assert np.ptp(change, axis=2).max() <= 1  # rounding
    luma = (image @ LUMA / 255).astype(np.float32)
    wanted = load(grey_model).synthesize(luma, "happy", 0.1) - luma
    np.testing.assert_allclose(change.mean(axis=2), 255 * wanted, atol=1)


def test_strength_scales_the_change(run, grey_model, face, tmp_path):
    outputs = {}
    for strength in (0.25, 0.5):
        path = tmp_path / f"{strength}.png"
        assert run("synthesize", grey_model, face, "-o", path, "--strength", strength).code == 0
        outputs[strength] = pixels(path).astype(int) - pixels(face)
    inside = (pixels(tmp_path / "0.5.png") % 255 != 0) & (pixels(tmp_path / "0.25.png") % 255 != 0)
    assert np.abs(outputs[0.5] - 2 * outputs[0.25])[inside].max() <= 2


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_returned(run, model, tmp_path, suffix):
    alpha = draw(5, channels=1)[..., 0]
    path = tmp_path / f"x{suffix}"
    write_image(path, draw(1), alpha)
    assert run("synthesize", model, path).code == 0
    output = read_image(tmp_path / f"x-happy{suffix}")
    np.testing.assert_array_equal(output.alpha, alpha)
    if suffix != ".webp":
        np.testing.assert_array_equal(output.pixels, expected(model, path))


@pytest.mark.parametrize(("size", "channels"), [(20, 3), (12, 4)])
def test_other_size_is_named_with_both_or_resized(run, model, tmp_path, size, channels):
    image = draw(1, size=size, channels=channels)
    path = tmp_path / "x.png"
    write_image(path, image[..., :3], image[..., 3] if channels == 4 else None)
    result = run("synthesize", model, path)
    assert result.code == 1
    assert result.lines[0].startswith(
        f"mlr: {path}: is {size}x{size} px, but the model works on 16x16 px; "
        "give --resize if it is an aligned face; as a photograph: "
    )
    assert names(tmp_path) == ["x.png"]
    assert run("synthesize", model, path, "--resize").code == 0
    output = read_image(tmp_path / "x-happy.png")
    assert output.pixels.shape == (16, 16, 3)
    assert (output.alpha is None) == (channels == 3)


def test_rotated_photograph_comes_out_upright(run, tmp_path):
    for seed in range(4):
        for expression in ("neutral", "happy"):
            write_image(tmp_path / expression / f"{seed}.png", draw(seed)[:12])
    assert run("train", tmp_path, "-o", tmp_path / "m.npz", "--recipe", "paper").code == 0
    exif = PIL.Image.Exif()
    exif[0x0112] = 8
    stored = PIL.Image.fromarray(np.ascontiguousarray(np.rot90(draw(9)[:12], -1)))
    stored.save(tmp_path / "x.png", exif=exif)
    assert run("synthesize", tmp_path / "m.npz", tmp_path / "x.png").code == 0
    np.testing.assert_array_equal(
        pixels(tmp_path / "x-happy.png"), load(tmp_path / "m.npz").synthesize(draw(9)[:12])
    )


@pytest.mark.parametrize("sides", [("trainA", "trainB"), ("A", "B")])
def test_two_sides_from_training_to_evaluation(run, faces, tmp_path, sides):
    data = tmp_path / "data"
    for side, expression in zip(sides, ("neutral", "happy"), strict=True):
        shutil.copytree(faces / expression, data / side)
    assert run("train", data, "-o", tmp_path / "m.npz").code == 0
    assert load(tmp_path / "m.npz").expressions == ("B",)
    for side, expression in (("testA", "neutral"), ("testB", "happy")):
        shutil.copytree(faces / expression, data / side)
        (data / side / "0.png").unlink()
    assert find_pairs(data, split="test").subjects[0].source.parent.name == "testA"
    result = run("evaluate", tmp_path / "m.npz", data, "--json")
    assert result.code == 0
    assert json.loads(result.out)["pairs"] == PEOPLE - 1


def test_manifest_from_training_to_evaluation(run, faces, tmp_path):
    for path in sorted(faces.rglob("*.png")):
        copied = tmp_path / "data" / f"{path.parent.name} {path.name}"
        copied.parent.mkdir(exist_ok=True)
        shutil.copy(path, copied)
    rows = [f"neutral {n}.png,{e} {n}.png,{e}" for n in range(PEOPLE) for e in ("happy", "sad")]
    text = "\r\n".join(["source,target,expression", *rows])
    (tmp_path / "data" / "pairs.csv").write_text(text, encoding="utf-8-sig", newline="")
    assert run("train", tmp_path / "data", "-o", tmp_path / "m.npz").code == 0
    assert run("train", faces, "-o", tmp_path / "folders.npz").code == 0
    ours, theirs = load(tmp_path / "m.npz"), load(tmp_path / "folders.npz")
    np.testing.assert_array_equal(ours.weights, theirs.weights)
    assert ours.info.digest == theirs.info.digest
    result = run("evaluate", tmp_path / "m.npz", tmp_path / "data", "--json")
    assert json.loads(result.out)["pairs"] == 2 * PEOPLE


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory"),
        (SystemError("error return"), "probably out of memory: error return"),
        (ImportError("numpy:\n\nno room\n"), "a library cannot be loaded: no room"),
    ],
)
def test_where_memory_ends_there_is_one_line(run, tmp_path, monkeypatch, error, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("mlr.samples.sample", fail)
    result = run("sample", tmp_path / "faces")
    assert result.code == 1
    (line,) = result.lines
    assert line.startswith("mlr: error: ")
    assert line.endswith(said)
