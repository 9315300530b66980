"""Nothing that existed is lost or half written, whatever ends the program."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mlr.data.files import replacing
from mlr.data.images import write_image
from mlr.errors import MlrError, OutputExistsError
from tests.conftest import draw, draw_pairs, names, run_process

MLR = [sys.executable, "-m", "mlr"]
KILLS = [8, pytest.param(80, marks=pytest.mark.slow)]

# Runs the program and sends it a signal from within, at a call of the function that is named.
AT_A_CALL = """
import importlib, os, sys
number, place, call, *arguments = sys.argv[1:]
module, name = place.rsplit(".", 1)
module = importlib.import_module(module)
original, calls = getattr(module, name), []
def patched(*args, **options):
    calls.append(name)
    if len(calls) == int(call):
        os.kill(os.getpid(), int(number))
    return original(*args, **options)
setattr(module, name, patched)
from mlr.cli import main
main(arguments)
"""


def contents(folder):
    """Return the bytes of every file in a folder but those of temporary ones."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not is_temporary(path)
    }


def is_temporary(path):
    return path.name.startswith(".") and path.suffix == ".tmp"


def kill_at_random(command, folder, kills, seconds):
    """Run a command again and again, killing it; yield after each time.

    Every second time the moment is drawn from the whole run, otherwise from the few milliseconds
    after a temporary file has appeared.
    """
    moments = random.Random(1)
    for kill in range(kills):
        before = set(folder.rglob(".*.tmp"))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kill % 2:
            time.sleep(moments.uniform(0, seconds))
        else:
            while process.poll() is None and before >= set(folder.rglob(".*.tmp")):
                time.sleep(0.0003)
            time.sleep(moments.uniform(0, 0.01))
        process.kill()
        process.wait()
        yield


@pytest.mark.parametrize("kills", KILLS)
def test_killed_training_leaves_the_old_model_or_the_new_one(tmp_path, kills):
    draw_pairs(tmp_path / "data", people=range(3), targets=("happy", "sad"), size=96)
    folder = tmp_path / "out"
    path = folder / "m.npz"
    train = ["train", tmp_path / "data", "-o", path, "--force", "--recipe", "paper"]
    states = []
    for penalty in (1, 0.4):
        start = time.perf_counter()
        assert run_process(*train, "--penalty", penalty).code == 0
        seconds = time.perf_counter() - start
        states.append(contents(folder))
    old, new = states
    assert old != new
    path.write_bytes(old["m.npz"])
    for _ in kill_at_random([*MLR, *map(str, train)], folder, kills, seconds):
        assert contents(folder) in (old, new)
        path.write_bytes(old["m.npz"])
    assert run_process(*train).code == 0
    assert contents(folder) == new


@pytest.mark.parametrize("kills", KILLS)
def test_killed_synthesis_leaves_old_outputs_or_new_ones(model, tmp_path, kills):
    for seed in range(40):
        write_image(tmp_path / "in" / f"{seed}.png", draw(seed))
    folder = tmp_path / "out"
    command = ["synthesize", model, tmp_path / "in", "-o", folder, "--force"]
    states = []
    for strength in (0.5, 1):
        start = time.perf_counter()
        assert run_process(*command, "--strength", strength).code == 0
        seconds = time.perf_counter() - start
        states.append(contents(folder))
    old, new = states
    assert old.keys() == new.keys()
    for name, data in old.items():
        (folder / name).write_bytes(data)
    for _ in kill_at_random([*MLR, *map(str, command)], folder, kills, seconds):
        now = contents(folder)
        assert now.keys() == new.keys()
        assert all(data in (old[name], new[name]) for name, data in now.items())
        for name, data in old.items():
            (folder / name).write_bytes(data)
    (folder / ".0.png.01234567.tmp").write_bytes(b"half an image")
    result = run_process("synthesize", model, folder, "-o", tmp_path / "again")
    assert result.code == 0
    assert names(tmp_path / "again") == sorted(old)


SIGNALS = [(signal.SIGINT, 130, "mlr: interrupted"), (signal.SIGTERM, 143, "mlr: terminated")]
MOMENTS = {
    "looking for pairs": ("train", "mlr.training.find_pairs", 1),
    "decoding": ("train", "mlr.data.stream.read_image", 2),
    "solving": ("train", "mlr.recipes.best.estimate", 1),
    "writing the model": ("train", "os.fsync", 1),
    "reading the model": ("synthesize", "mlr.model.read_npz", 1),
    "synthesizing": ("synthesize", "mlr.synthesis.read_image", 2),
    "writing an image": ("synthesize", "secrets.token_hex", 3),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("number", "code", "line"), SIGNALS)
def test_interrupted_program_says_so_and_clears_up(
    faces, model, tmp_path, moment, number, code, line
):
    command, place, call = MOMENTS[moment]
    output = tmp_path / "out"
    arguments = {
        "train": [command, faces, "-o", output / "m.npz", "--force"],
        "synthesize": [command, model, faces / "neutral", "-o", output, "--force"],
    }[command]
    output.mkdir()
    old = {"m.npz": b"old"} if command == "train" else {f"{n}.png": b"old" for n in range(5)}
    for name, data in old.items():
        (output / name).write_bytes(data)
    script = [sys.executable, "-c", AT_A_CALL, str(int(number)), place, str(call)]
    done = subprocess.run(
        [*script, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (code, "")
    said = [text for text in done.stderr.splitlines() if text]
    assert said[-1] == line
    assert all("penalty" in text for text in said[:-1])  # what was chosen before
    assert names(output) == sorted(old)
    if command == "train":
        assert (output / "m.npz").read_bytes() == b"old"
    else:  # what was written before the signal is whole
        for path in output.iterdir():
            assert path.read_bytes() == b"old" or path.read_bytes().endswith(b"IEND\xaeB`\x82")


def test_interrupt_from_outside_ends_a_long_training(faces, tmp_path):
    data = shutil.copytree(faces, tmp_path / "data")
    rows = ["neutral/0.png,happy/0.png"] * 300_000
    (data / "pairs.csv").write_text("\n".join(["source,target", *rows]))
    process = subprocess.Popen(
        [*MLR, "train", str(data), "-o", str(tmp_path / "m.npz")],
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.split("\n") == ["", "mlr: interrupted", ""]
    assert names(tmp_path) == ["data"]


def run_limited(size, *args):
    """Run the program where no file can grow larger than so many bytes."""
    script = (
        "import resource, sys\nfrom mlr.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\nmain()"
    )
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.usefixtures("model")  # its kernels are compiled and stored without the limit
@pytest.mark.parametrize("existing", [True, False])
def test_model_too_large_for_the_limit_leaves_the_old_one(faces, tmp_path, existing):
    path = tmp_path / "m.npz"
    if existing:
        path.write_bytes(b"old")
    command = ["train", faces, "-o", path, "--force", "-q"]
    done = run_limited(2000, *command)
    assert done.returncode == 1
    assert done.stderr == f"mlr: error: {path}: cannot be written: File too large\n"
    assert contents(tmp_path) == ({"m.npz": b"old"} if existing else {})
    assert not any(map(is_temporary, tmp_path.iterdir()))


def test_image_too_large_for_the_limit_is_named_and_the_rest_is_done(model, tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    write_image(tmp_path / "in" / "noise.bmp", noise.repeat(2, axis=0).repeat(2, axis=1))
    write_image(tmp_path / "in" / "flat.png", np.full((16, 16, 3), 128, np.uint8))
    options = ["-o", tmp_path / "out", "--resize", "--strength", "0"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "noise.bmp").write_bytes(b"old")
    done = run_limited(700, "synthesize", model, tmp_path / "in", *options, "--force", "-q")
    assert done.returncode == 1
    assert done.stderr == (
        f"mlr: {tmp_path}/in/noise.bmp: {tmp_path}/out/noise.bmp: "
        "cannot be written: File too large\n"
    )
    assert names(tmp_path / "out") == ["flat.png", "noise.bmp"]
    assert (tmp_path / "out" / "noise.bmp").read_bytes() == b"old"


IN_A_FULL_DISK = """
mount -t tmpfs -o size=32k none "$1" || exit 77
echo old >"$1/m.npz"
shift
"$@"
code=$?
cat "$DISK"/*
ls -A "$DISK"
exit $code
"""


def test_full_disk_leaves_the_old_model(faces, tmp_path):
    """On a small disk of its own, in a name space where it can be mounted."""
    if not shutil.which("unshare"):
        pytest.skip("needs unshare to make a small disk")
    command = [*MLR, "train", faces, "-o", tmp_path / "m.npz", "--force", "-q"]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", IN_A_FULL_DISK, "sh", tmp_path, *command],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"DISK": str(tmp_path)},
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"cannot make a small disk: {done.stderr}")
    assert done.returncode == 1
    assert done.stderr == (
        f"mlr: error: {tmp_path}/m.npz: cannot be written: No space left on device\n"
    )
    assert done.stdout == "old\nm.npz\n"


@pytest.mark.parametrize("wrong", [ValueError("no"), KeyboardInterrupt(), OSError(28, "full")])
def test_file_being_replaced_is_kept_if_anything_goes_wrong(tmp_path, wrong):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    expected = MlrError if isinstance(wrong, OSError) else type(wrong)

    def replace():
        with replacing(path, force=True) as file:
            file.write(b"new")
            assert names(tmp_path) != ["x"]
            raise wrong

    with pytest.raises(expected):
        replace()
    assert contents(tmp_path) == {"x": b"old"}
    assert names(tmp_path) == ["x"]


def test_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "x"

    def replace():
        with replacing(path, force=False) as file:
            file.write(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(OutputExistsError):
        replace()
    assert contents(tmp_path) == {"x": b"theirs"}
    assert names(tmp_path) == ["x"]


def test_folders_on_the_way_are_made(tmp_path):
    with replacing(tmp_path / "a" / "b" / "x", force=False, durable=True) as file:
        file.write(b"new")
    assert contents(tmp_path) == {"a/b/x": b"new"}
