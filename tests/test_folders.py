"""Synthesis of folders: skipping, overwriting, collisions and encoding of outputs."""

import csv
import json
import os
import shutil
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlr import load as load_model
from mlr.errors import DataError
from mlr.io.folders import as_text
from mlr.io.images import read_image, write_image
from mlr.io.outputs import plan_outputs
from mlr.photo.align import align
from mlr.synthesis.files import synthesize
from mlr.utils.progress import Silent
from tests.conftest import PEOPLE, draw, names


@pytest.fixture
def folder(faces, tmp_path):
    """A folder of faces."""
    return shutil.copytree(faces / "neutral", tmp_path / "in")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_interrupted_run_continues(run, model, folder, tmp_path):
    output = tmp_path / "out"
    assert run("synthesize", model, folder, "-o", output).code == 0
    whole = contents(output)
    (output / "1.png").unlink()
    (output / "3.png").write_bytes(b"mine")
    result = run("synthesize", model, folder, "-o", output, "--skip-existing", "--json")
    assert result.code == 0
    assert json.loads(result.out)["written"] == [str(output / "1.png")]
    assert json.loads(result.out)["skipped"] == PEOPLE - 1
    assert result.lines[-1].endswith(f"; {PEOPLE - 1} skipped, as they exist")
    assert contents(output) == whole | {"3.png": b"mine"}


def test_skipped_faces_are_not_read(run, model, folder, tmp_path):
    (folder / "broken.png").write_bytes(b"no image")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "broken.png").write_bytes(b"old")
    assert run("synthesize", model, folder, "-o", tmp_path / "out", "--skip-existing").code == 0
    assert names(tmp_path / "out") == names(folder)


def test_only_missing_expressions_are_written(run, model_of_two, folder, tmp_path):
    (tmp_path / "out" / "sad").mkdir(parents=True)
    (tmp_path / "out" / "sad" / "1.png").write_bytes(b"old")
    options = ["-o", tmp_path / "out", "--skip-existing"]
    assert run("synthesize", model_of_two, folder, *options).code == 0
    assert names(tmp_path / "out" / "happy") == names(tmp_path / "out" / "sad") == names(folder)
    assert (tmp_path / "out" / "sad" / "1.png").read_bytes() == b"old"


def test_skipping_and_overwriting_exclude_each_other(run, model, folder):
    result = run("synthesize", model, folder, "--skip-existing", "--force")
    assert result.code == 2
    assert "give one of the two" in result.lines[-1]


@pytest.mark.parametrize("options", [[], ["--skip-existing"]])
def test_inputs_are_overwritten_by_their_outputs_only_with_force(run, model, folder, options):
    before = contents(folder)
    for arguments in ([folder, "-o", folder], [folder / "0.png", "-o", folder / "." / "0.png"]):
        result = run("synthesize", model, *arguments, *options)
        assert result.code == 1
        assert "0.png: would be overwritten by its own output; give another" in result.lines[0]
        assert contents(folder) == before
    assert run("synthesize", model, folder / "0.png", "-o", folder / "0.png", "--force").code == 0
    assert contents(folder) != before


def test_empty_folder_fails_and_no_inputs_are_an_error(tmp_path):
    report = Silent()
    assert plan_outputs([tmp_path], None, ["happy"], report) == []
    assert report.failures == [(tmp_path, "no images found")]
    with pytest.raises(DataError, match="no inputs"):
        plan_outputs([], None, ["happy"], Silent())


def test_summary_counts_failures_by_cause(run, model, folder, tmp_path):
    for n in range(7, 10):
        (folder / f"{n}.png").write_bytes(b"")
    write_image(folder / "large.png", draw(1, size=20))
    result = run("synthesize", model, folder, "-o", tmp_path / "out")
    assert result.code == 1
    assert result.lines[-1].startswith(f"{PEOPLE} images written to {tmp_path}/out in ")
    assert result.lines[-1].endswith("; 4 failed, see above, 3 times: is empty")
    result = run("synthesize", model, folder, "-o", tmp_path / "out")
    assert f", {PEOPLE} times: exists already, 3 times: is empty" in result.lines[-1]


def test_progress_has_a_rate_and_an_end(model, folder):
    for n in range(300):
        write_image(folder / f"{n}.png", draw(n % 5), force=True)
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "mlr", "synthesize", model, folder]
    with subprocess.Popen(command, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"images written" not in shown:
            shown += os.read(ours, 100_000)
    assert process.returncode == 0
    os.close(ours)
    assert b"/300, " in shown
    assert b"/s, " in shown
    assert b" left, ready at " in shown


def test_quality_and_png_level_change_the_file_size(run, model, folder):
    def size(*options):
        assert run("synthesize", model, folder, *options, "--force").code == 0
        return sum(map(len, contents(folder.with_name("in-happy")).values()))

    picture = read_image(folder / "1.png").pixels
    write_image(folder / "1.png", np.tile(picture, (1, 1, 1)), force=True)
    assert size("--png-level", "0") > size("--png-level", "9")
    best = read_image(folder.with_name("in-happy") / "1.png").pixels
    size("--png-level", "1")
    np.testing.assert_array_equal(read_image(folder.with_name("in-happy") / "1.png").pixels, best)
    shutil.rmtree(folder.with_name("in-happy"))
    for suffix in ("jpg", "webp"):
        small = size("--format", suffix, "--quality", "20")
        assert names(folder.with_name("in-happy")) == [f"{n}.{suffix}" for n in range(PEOPLE)]
        assert small < size("--format", suffix, "--quality", "100")
        shutil.rmtree(folder.with_name("in-happy"))


def test_outputs_that_collide_in_one_format_are_named(run, model, folder):
    shutil.copy(folder / "0.png", folder / "0.bmp")
    result = run("synthesize", model, folder, "--format", "JPG")
    assert result.code == 1
    assert "0.png: has the same output as " in result.lines[0]
    assert names(folder.with_name("in-happy")) == [f"{n}.jpg" for n in range(PEOPLE)]


@pytest.mark.parametrize(
    "options",
    [
        ["--format", "gif"],
        ["--format", "eps"],
        ["--format", "jpg", "--animate"],
        ["--quality", "0"],
        ["--png-level", "10"],
    ],
)
def test_unknown_encoding_is_wrong_usage(run, model, folder, options):
    assert run("synthesize", model, folder, *options).code == 2
    assert names(folder.parent) == ["in"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "eps"], "images cannot be written as eps; use png, jpg, "),
        (["--format", "mp4", "--animate"], "as mp4; use gif, webp, png, frames"),
    ],
)
def test_error_lists_the_known_formats(run, model, folder, options, message):
    assert message in run("synthesize", model, folder, *options).lines[0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_colour_profile_is_preserved(run, model, tmp_path, suffix):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"x{suffix}"
    PIL.Image.fromarray(draw(1)).save(path, icc_profile=profile)
    assert run("synthesize", model, path).code == 0
    with PIL.Image.open(tmp_path / f"x-happy{suffix}") as image:
        assert image.info["icc_profile"] == profile


def test_memory_does_not_grow_with_the_number_of_faces(model, tmp_path):
    script = (
        "import resource, sys\nfrom mlr import load\n"
        "from mlr.synthesis.files import synthesize\n"
        "model = load(sys.argv[1])\n"
        "for part in sys.argv[2:]:\n"
        "    synthesize(model, [part], resize=True)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    for part, count in (("few", 30), ("many", 300)):
        write_image(tmp_path / part / "0.bmp", draw(1, size=200))
        for n in range(1, count):
            os.link(tmp_path / part / "0.bmp", tmp_path / part / f"{n}.bmp")
    command = [sys.executable, "-c", script, model, tmp_path / "few", tmp_path / "many"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    few, many = map(int, done.stdout.split())
    assert many - few < 5000  # kilobytes; 270 more faces hold 32,400


def latin(name):
    """Return a name whose accents are bytes of Latin-1."""
    return os.fsdecode(name.encode("latin-1"))


NAMES = [
    latin("caf\xe9"),
    latin("\xff\xfe \xa0"),
    "cafe\u0301 é 笑 🙂",
    "a\nb",
    "a\rb",
    "a\\b",
    r"a\udce9",
    "'\"a,b;c'",
    "50%20&amp;<b>",
    "-o",
    " a ",
    "a..b.",
    "12:30",
    "concat:a",
    "#1",
    "{subject}*",
    "n" * 251,
    "é" * 125,
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Expression folders of subjects with odd names, and a table of their eyes."""
    folder = tmp_path_factory.mktemp("odd")
    for number, name in enumerate(NAMES):
        write_image(folder / "neutral" / f"{name}.png", draw(number, size=32))
        write_image(folder / "happy" / f"{name}.png", draw(number + 1, size=32))
    return folder


def test_any_name_is_in_every_table_and_page(run, odd, tmp_path):
    wanted = sorted(f"{name}.png" for name in NAMES)
    model, out = tmp_path / "m.npz", tmp_path / "out"
    assert run("train", odd, "-o", model, "--recipe", "paper").code == 0
    result = run("evaluate", model, odd, "--report", tmp_path / "report", "--json")
    assert (result.code, json.loads(result.out)["pairs"]) == (0, len(NAMES))
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count(r"caf\udce9") >= 1
    result = run("synthesize", model, odd / "neutral", "-o", out, "--json")
    assert (result.code, names(out)) == (0, wanted)
    assert sorted(json.loads(result.out)["written"]) == sorted(f"{out}/{name}" for name in wanted)
    for name in NAMES[:3]:
        result = run("synthesize", model, odd / "neutral" / f"{name}.png", "--animate")
        gif = odd / "neutral" / f"{name}-happy.gif"
        assert (result.code, gif.is_file()) == (0, True)
        assert '"kind": "synthesized"' in run("info", gif, "--json").out
        gif.unlink()
    long = odd / "neutral" / f"{NAMES[-1]}.png"
    result = run("synthesize", model, long)
    assert (result.code, result.lines[0][-18:]) == (1, "File name too long")
    assert names(odd / "neutral") == wanted


def eyes_table(path, files):
    rows = [["file", "left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"]]
    rows += [[file, 10, 12, 21, 12] for file in files]
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    return path


def test_tables_are_read_back_whatever_the_names(run, odd, tmp_path):
    eyes = eyes_table(tmp_path / "eyes.csv", [f"neutral/{name}.png" for name in NAMES])
    out = tmp_path / "out"
    result = run("align", odd / "neutral", "-o", out, "--eyes", eyes, "--size", "16")
    assert (result.code, names(out)) == (0, sorted(["alignment.csv", *names(odd / "neutral")]))
    table = (out / "alignment.csv").read_text(encoding="utf-8")
    options = ["--eyes", out / "alignment.csv", "--size", "16"]
    result = run("align", odd / "neutral", "-o", out, *options, "--skip-existing")
    assert (result.code, result.lines[-1].partition(";")[2][1:3]) == (0, str(len(NAMES)))
    assert run("align", odd / "neutral", "-o", tmp_path / "two", *options).code == 0
    assert (tmp_path / "two" / "alignment.csv").read_text(encoding="utf-8") == table


def test_earlier_crops_are_no_photographs(run, folder):
    eyes = eyes_table(folder.parent / "eyes.csv", names(folder))
    (folder / "more").mkdir()
    (folder / "more" / "1.png").write_bytes((folder / "1.png").read_bytes())
    wanted = names(folder)
    options = ["--eyes", eyes, "--size", "16", "--json"]
    for output in ("out", "out2"):
        result = run("align", folder, "-o", folder / output, *options)
        assert (result.code, names(folder / output)) == (0, sorted([*wanted, "alignment.csv"]))
    others = json.loads(result.out)["others"]
    assert len(others) == len(wanted)
    assert set(others.values()) == {"crop"}


def test_earlier_outputs_are_no_faces(run, model, folder):
    wanted = names(folder)
    for output in ("out", "out2"):
        result = run("synthesize", model, folder, "-o", folder / output, "--json")
        assert (result.code, names(folder / output)) == (0, wanted)
    others = json.loads(result.out)["others"]
    assert others == {str(folder / "out" / name): "output" for name in wanted}
    assert run("synthesize", model, folder / "1.png").code == 0
    assert run("synthesize", model, folder / "1.png", "--animate").code == 0
    result = run("synthesize", model, folder)
    assert (result.code, names(folder.with_name("in-happy"))) == (0, wanted)
    assert f"note: skipped {2 * len(wanted) + 2} outputs of mlr synthesize" in result.lines
    result = run("synthesize", model, folder / "out", "-o", folder.with_name("again"))
    assert (result.code, names(folder.with_name("again"))) == (0, wanted)  # nothing else is there


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("x.CR2", ".CR2 files are not read"),
        ("x.psd", ".psd files are not read"),
        ("x.HEIC", "not an image file"),
        ("x.avif", "not an image file"),
        ("x.jfif", "not an image file"),
        ("x.MTS", "clip"),
        ("x.wmv", "clip"),
        ("x.txt", "note: skipped 1 other file: 1 .txt"),
        ("x", "note: skipped 1 other file: 1 x"),
    ],
)
def test_what_is_not_written_is_named(run, model, folder, name, what):
    (folder / name).write_bytes(b"no image")
    result = run("synthesize", model, folder)
    assert what in result.lines[0]
    assert result.code == (not what.startswith("note"))
    assert (str(folder / name) in result.lines[0]) == bool(result.code)


def test_companions_of_images_are_skipped(run, model, folder):
    for name in ("Thumbs.db", "0.xmp", "0.AAE", ".DS_Store", "desktop.ini"):
        (folder / name).write_bytes(b"")
    assert len(run("synthesize", model, folder).lines) == 1
    (folder / "0.nef").write_bytes(b"")  # a camera raw file next to its image
    result = run("synthesize", model, folder, "--force")
    assert (result.code, result.lines[0]) == (0, "note: skipped 1 other file: 1 .nef")


def test_links_are_followed_once(run, model, folder, tmp_path):
    (tmp_path / "more" / "deep").mkdir(parents=True)
    shutil.copy(folder / "0.png", tmp_path / "more" / "deep" / "x.png")
    (tmp_path / "more" / "up").symlink_to("..")
    (folder / "more").symlink_to(tmp_path / "more")
    (folder / "twice").symlink_to(tmp_path / "more" / "deep")
    (folder / "self").symlink_to(".")
    (folder / "gone").symlink_to("nowhere")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "linked.png").symlink_to("1.png")
    locked = folder / "locked"
    locked.mkdir(mode=0)
    result = run("synthesize", model, folder, "--json")
    found = json.loads(result.out)
    out = folder.with_name("in-happy")
    assert names(out) == sorted([*(f"{n}.png" for n in range(PEOPLE)), "linked.png", "more"])
    assert names(out / "more" / "deep") == ["x.png"]
    failed = {Path(each["path"]).name for each in found["failures"]}
    assert failed == {"gone", "gone.png", "loop"} | (set() if os.geteuid() == 0 else {"locked"})
    assert {Path(path).name for path in found["others"]} == {"self", "twice", "up"}


KINDS = ("face", "grey", "damaged", "empty", "text", "folder", "link", "broken", "loop", "output")
SUFFIXES = (".png", ".JPG", ".tif", ".heic", ".psd", ".mts", ".txt", ".xmp", "")
NAME = st.sampled_from(["a", "b", "ann", "a b", NAMES[0], "\xe9", "e\u0301", "\n", ".x"])
TREE = st.lists(
    st.tuples(st.sampled_from(KINDS), NAME, st.sampled_from(SUFFIXES), st.integers(0, 99)),
    min_size=1,
    max_size=12,
)


def grow(root, entries, pictures):
    """Create a tree of folders, files and links; return its real files that are not hidden."""
    folders = [root]
    root.mkdir()
    for kind, name, suffix, number in entries:
        parent = folders[number % len(folders)]
        path = parent / f"{name}{suffix}"
        if os.path.lexists(path):
            continue
        if kind == "folder":
            path.mkdir()
            folders.append(path)
        elif kind == "link":
            path.symlink_to(folders[number // 2 % len(folders)])
        elif kind in ("broken", "loop"):
            path.symlink_to("nowhere" if kind == "broken" else path.name)
        else:
            path.write_bytes((pictures / kind).read_bytes() if (pictures / kind).exists() else b"")
    files = [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]
    return {
        path
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
        and not {".xmp"} & {path.suffix}
    }


@pytest.fixture(scope="module")
def pictures(model, tmp_path_factory):
    """A folder of a face, a grey one, an output, a damaged image and a text."""
    folder = tmp_path_factory.mktemp("pictures")
    write_image(folder / "face.png", draw(1))
    write_image(folder / "grey.png", draw(1, channels=1))
    synthesize(load_model(model), folder / "face.png", folder / "output.png")
    for path in folder.iterdir():
        path.rename(path.with_suffix(""))
    (folder / "damaged").write_bytes((folder / "face").read_bytes()[:100])
    (folder / "text").write_text("text")
    return folder


# imageio leaves pipes open if ffmpeg cannot read a clip.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("command", ["synthesize", "align"])
@given(entries=TREE)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_written_and_named_files_are_all(command, model, pictures, entries):
    with TemporaryDirectory() as folder:
        root, out, report = Path(folder, "in"), Path(folder, "out"), Silent()
        files = grow(root, entries, pictures)
        if command == "synthesize":
            written = synthesize(load_model(model), root, out, resize=True, report=report)
        else:
            names_only = {path.name: None for path in root.rglob("*")}
            eyes = eyes_table(Path(folder, "eyes.csv"), map(as_text, names_only))
            with suppress(DataError):
                written = align(root, out, eyes=eyes, size=16, report=report)
        stems = [path.relative_to(out).with_suffix("") for path in written]
        named = {path for path, _ in report.failures} | set(map(Path, report.others))
        for path in files - named:
            real = [
                each
                for each in (path, *root.rglob("*"))
                if not each.is_symlink() and path.resolve() == each.resolve()
            ]
            seen = {each.relative_to(root).with_suffix("") for each in (path, *real)}
            assert seen & set(stems), path
