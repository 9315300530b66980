"""Existing files survive errors, signals and full disks."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mlr import load
from mlr.errors import ImageError, MlrError, ModelError, OutputExistsError
from mlr.io.clips import describe_clip
from mlr.io.files import open_regular, replacing
from mlr.io.images import read_header, read_image, write_image
from mlr.io.pairs import find_pairs
from mlr.io.provenance import describe_image
from mlr.kernels import parallel
from mlr.utils.threads import limited, ordered_map
from tests.conftest import draw, draw_pairs, names, run_process

MLR = [sys.executable, "-m", "mlr"]
KILLS = [5, pytest.param(40, marks=pytest.mark.slow)]  # make faults sends more

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
    """Return the bytes of every file in a folder, except temporary files."""
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
    draw_pairs(tmp_path / "data", subjects=range(3), targets=("happy", "sad"), size=96)
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
    "looking for pairs": ("train", "mlr.training.train.find_pairs", 1),
    "decoding": ("train", "mlr.training.decode.read_image", 2),
    "computing templates": ("train", "mlr.core.registration.groupwise.invert", 4),
    "framing pairs": ("train", "mlr.training.decode.framed", 2),
    "solving": ("train", "mlr.recipes.best.solved", 1),
    "writing the model": ("train", "os.fsync", 1),
    "reading the model": ("synthesize", "mlr.io.model_file.read_npz", 1),
    "synthesizing": ("synthesize", "mlr.synthesis.files.read_image", 2),
    "writing an image": ("synthesize", "mlr.io.files.check_free", 4),
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
    table = [text for text in said[:-1] if not text.startswith("  ")]
    assert all("no style" in text for text in table)  # of so few pairs
    assert names(output) == sorted(old)
    if command == "train":
        assert (output / "m.npz").read_bytes() == b"old"
    else:  # what was written before the signal is whole
        for path in output.iterdir():
            assert path.read_bytes() == b"old" or path.read_bytes().endswith(b"IEND\xaeB`\x82")


TEMPLATES = {
    "reading faces": ("mlr.training.decode._reduced", 3),
    "computing": ("mlr.core.registration.groupwise.invert", 4),
    "storing": ("mlr.training.checkpoint.save_npz", 1),
    "writing": ("os.fsync", 3),
    "first shard": ("mlr.training.sources.accumulate", 1),
}


@pytest.mark.parametrize(
    ("moment", "number"),
    [*((moment, signal.SIGKILL) for moment in TEMPLATES), ("writing", signal.SIGTERM)],
)
def test_run_that_ends_while_templates_are_made_goes_on(
    faces, best_model, tmp_path, moment, number
):
    place, call = TEMPLATES[moment]
    kept, model = tmp_path / "kept", tmp_path / "m.npz"
    command = ["train", faces, "-o", model, "--target", "happy", "--checkpoint", kept]
    script = [sys.executable, "-c", AT_A_CALL, str(int(number)), place, str(call)]
    done = subprocess.run([*script, *map(str, command)], stderr=subprocess.DEVNULL, timeout=60)
    assert done.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert not model.exists()
    if number != signal.SIGKILL and kept.exists():
        assert not any(map(is_temporary, kept.iterdir()))
    assert run_process(*command).code == 0
    assert model.read_bytes() == best_model.read_bytes()
    assert not any(map(is_temporary, kept.iterdir()))


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


# Gets a signal where Python drops exceptions: in a finaliser.
IN_A_FINALISER = """
import os, signal, sys
import mlr.training.train
class Unlucky:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        sum(range(1000))
original = mlr.training.train.find_pairs
def patched(*args, **options):
    Unlucky()
    return original(*args, **options)
mlr.training.train.find_pairs = patched
from mlr.cli import main
main(sys.argv[2:])
"""

# Gets a signal while a thread waits for a file that never comes.
WHILE_A_THREAD_HANGS = """
import os, sys, threading, time
import mlr.training.decode
def hang(path):
    threading.Timer(0.5, os.kill, (os.getpid(), int(sys.argv[1]))).start()
    time.sleep(50)
mlr.training.decode.read_image = hang
from mlr.cli import main
main(sys.argv[2:])
"""

# Gets a signal while it writes a file and has a temporary folder.
WITH_FILES_OPEN = """
import os, sys
from mlr.cli import _ended_by_signals
from mlr.io.files import replacing, temporary_path, temporary_folder
from pathlib import Path
path = Path(sys.argv[2])
with _ended_by_signals(), replacing(path, force=True) as file:
    with temporary_folder() as folder, temporary_path(path, ".mp4") as clip:
        file.write(b"half")
        clip.write_bytes(b"half")
        (folder / "x").write_bytes(b"x")
        print(folder, flush=True)
        os.kill(os.getpid(), int(sys.argv[1]))
        print("still here")
"""


@pytest.mark.parametrize("script", [IN_A_FINALISER, WHILE_A_THREAD_HANGS])
@pytest.mark.parametrize(("number", "code", "line"), SIGNALS)
def test_signal_ends_the_program_whatever_it_is_about(faces, tmp_path, script, number, code, line):
    command = [sys.executable, "-c", script, str(int(number)), "train", str(faces)]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "m.npz")], capture_output=True, text=True, timeout=40
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"\n{line}\n")
    assert names(tmp_path) == []


def test_many_signals_at_once_end_the_program_once(tmp_path):
    script = (
        "import os, signal, threading, time\n"
        "from mlr.cli import _ended_by_signals\n"
        "def send():\n"
        "    while True:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "with _ended_by_signals():\n"
        "    for _ in range(4):\n"
        "        threading.Thread(target=send, daemon=True).start()\n"
        "    time.sleep(20)\n"
    )
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=40
        )
        assert (done.returncode, done.stderr) == (130, "\nmlr: interrupted\n")


def test_signal_deletes_temporary_files(tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", WITH_FILES_OPEN, str(int(signal.SIGHUP)), str(tmp_path / "x")],
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert (done.returncode, done.stderr) == (129, "\nmlr: hung up\n")
    assert not os.path.exists(done.stdout.strip())  # noqa: PTH110
    assert done.stdout.count("\n") == 1
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_signals_that_are_ignored_stay_so(faces, tmp_path):
    done = subprocess.run(
        [
            *[
                sys.executable,
                "-c",
                AT_A_CALL,
                str(int(signal.SIGINT)),
                "mlr.recipes.best.solved",
                "1",
            ],
            *["train", str(faces), "-o", str(tmp_path / "m.npz"), "-q"],
        ],
        capture_output=True,
        text=True,
        timeout=40,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert names(tmp_path) == ["m.npz"]


@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_closed_streams_harm_nothing(faces, best_model, tmp_path, closed):
    path = tmp_path / "m.npz"
    done = subprocess.run(
        [*MLR, "train", str(faces), "-o", str(path), "--target", "happy"],
        timeout=40,
        preexec_fn=lambda: [os.close(descriptor) for descriptor in closed],
    )
    assert done.returncode == 0
    assert path.read_bytes() == best_model.read_bytes()


def test_library_that_cannot_be_loaded_is_a_line():
    script = "import sys; sys.modules['numpy'] = None; from mlr.cli import main; main()"
    command = [sys.executable, "-c", script, "sample", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40)
    assert done.returncode == 1
    assert done.stderr.startswith("mlr: error: a library cannot be loaded: ")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def no_threads(monkeypatch):
    """A system that gives no thread, as where memory is short."""

    def refuse(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor.submit", refuse)
    monkeypatch.setattr("threading.Thread.start", refuse)
    monkeypatch.setattr(parallel, "_workers", [])


@pytest.mark.usefixtures("no_threads")
def test_without_threads_kernels_run_in_the_calling_one():
    done = []
    with limited(4):
        parallel.parallel_for(lambda begin, end: done.extend(range(begin, end)), 100)
    assert sorted(done) == list(range(100))


@pytest.mark.usefixtures("no_threads")
def test_without_threads_files_are_refused_in_a_line():
    with pytest.raises(MlrError, match="can't start new thread: give fewer --threads"):
        list(ordered_map(str, [1], 2))


def test_pipes_and_devices_do_not_block(faces, tmp_path):
    pipe, link = tmp_path / "pipe.png", tmp_path / "link.png"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    for path in (pipe, link):
        for read in (read_header, read_image, describe_image, describe_clip):
            with pytest.raises(ImageError, match="cannot be read: not a regular file"):
                read(path)
        with pytest.raises(ModelError, match="cannot be read: not a regular file"):
            load(path)
    data = shutil.copytree(faces, tmp_path / "data")
    (data / "pairs.csv").write_text(f"source,target\n{faces}/neutral/0.png,{pipe}\n")
    assert [subject.targets["target"] for subject in find_pairs(data).subjects] == [pipe]
    result = run_process("train", data, "-o", tmp_path / "m.npz")
    assert result.code == 1
    assert result.lines[0] == f"mlr: {pipe}: cannot be read: not a regular file"


def test_size_limit_is_exact(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    with open_regular(tmp_path / "x", 3) as file:
        assert file.read() == b"abc"
    with pytest.raises(OSError, match="larger than"), open_regular(tmp_path / "x", 2):
        pass


def test_image_file_over_the_size_limit_is_not_read(tmp_path):
    path = tmp_path / "x.png"
    write_image(path, draw(0))
    os.truncate(path, 2 << 30)  # nothing but its first bytes takes room on the disk
    with pytest.raises(ImageError, match="cannot be read: larger than 1024 MiB"):
        read_image(path)


def run_limited(size, *args):
    """Run the program with a limit on the size of files in bytes."""
    script = (
        "import resource, sys\nfrom mlr.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\nmain()"
    )
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_templates_too_large_for_the_limit_are_stored_by_the_next_run(faces, best_model, tmp_path):
    path, kept = tmp_path / "m.npz", tmp_path / "kept"
    command = ["train", faces, "-o", path, "-q", "--target", "happy", "--checkpoint", kept]
    done = run_limited(100_000, *command)
    assert done.returncode == 1
    assert done.stderr == (f"mlr: error: {kept}/templates.npz: cannot be written: File too large\n")
    assert (names(tmp_path), names(kept)) == (["kept"], ["manifest.json"])
    assert run_process(*command).code == 0
    assert path.read_bytes() == best_model.read_bytes()


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
def test_old_file_is_kept_if_writing_fails(tmp_path, wrong):
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


def test_file_created_meanwhile_is_kept(tmp_path):
    path = tmp_path / "x"

    def replace():
        with replacing(path, force=False) as file:
            file.write(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(OutputExistsError):
        replace()
    assert contents(tmp_path) == {"x": b"theirs"}
    assert names(tmp_path) == ["x"]


def test_only_one_of_two_programs_writes_a_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    monkeypatch.setattr("mlr.io.files.check_free", lambda path, force: None)  # both have looked
    with pytest.raises(OutputExistsError), replacing(path, force=False) as ours:  # noqa: PT012
        ours.write(b"ours")
        with replacing(path, force=False) as theirs:
            theirs.write(b"theirs")
    assert contents(tmp_path) == {"x": b"theirs"}
    assert names(tmp_path) == ["x"]


def test_file_system_without_links_is_supported(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError

    monkeypatch.setattr("os.link", refuse)
    with replacing(tmp_path / "x", force=False) as file:
        file.write(b"new")
    assert contents(tmp_path) == {"x": b"new"}
    assert names(tmp_path) == ["x"]


def test_parent_folders_are_created(tmp_path):
    with replacing(tmp_path / "a" / "b" / "x", force=False, durable=True) as file:
        file.write(b"new")
    assert contents(tmp_path) == {"a/b/x": b"new"}
