"""A cluster: the same bytes as in one process, even if workers are killed."""

import importlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import mlr
from benchmarks.faults.clusters import children, still_there, workers_of
from benchmarks.scale import most_memory
from mlr.errors import DataError, MlrError
from mlr.utils.progress import Silent
from tests.conftest import draw_pairs, names, run_process

pytest.importorskip("distributed", reason="needs the extra cluster")

connecting = importlib.import_module("mlr.cluster")

BOTH = ("best", "paper")


class Tracked(Silent):
    """Records the progress: descriptions, totals and numbers of items."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def progress(self, items, total, what):
        self.shown.append((what, total, 0))
        for number, item in enumerate(items, 1):
            yield item
            self.shown[-1] = (what, total, number)

    def total(self, what):
        """Return the total of the last progress with a description."""
        return [total for name, total, _ in self.shown if name == what][-1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Expression folders in which a file is damaged and one has no partner."""
    folder = draw_pairs(tmp_path_factory.mktemp("data"), range(9), ("happy", "sad"))
    (folder / "sad" / "3.png").unlink()
    shutil.copy(folder / "happy" / "0.png", folder / "happy" / "alone.png")
    image = folder / "happy" / "5.png"
    image.write_bytes(image.read_bytes()[:-60])
    return folder


@pytest.fixture(scope="module")
def two():
    """An executor with two workers, for all tests that leave them alone."""
    with connecting.connect("local:2") as executor:
        yield executor


def accumulated(data, path, **options):
    """Return the bytes of a statistics file, and the report."""
    report = Tracked()
    mlr.statistics(data, path, report=report, force=True, **options)
    return path.read_bytes(), report


def trained(data, path, **options):
    """Return the bytes of a model, and the report."""
    report = Tracked()
    mlr.train(data, path, report=report, force=True, **options)
    return path.read_bytes(), report


@pytest.mark.parametrize("recipe", BOTH)
def test_any_shards_in_any_processes_give_the_same_bytes(data, two, tmp_path, recipe):
    plain, expected = accumulated(data, tmp_path / "s", recipe=recipe)
    for shard in (1, 4, None):
        options = {"recipe": recipe, "executor": two, "shard": shard}
        found, report = accumulated(data, tmp_path / "s", **options)
        assert found == plain
        assert report.failures == expected.failures
        assert len(report.failures) == 2
        assert report.done == expected.done


def test_progress_counts_shards(data, two, tmp_path):
    _, report = accumulated(data, tmp_path / "s", recipe="paper", executor=two, shard=2)
    assert report.shown == [("checking", 26, 26), ("accumulating shards", 5, 5)]


def test_sixteen_bits_give_the_same_bytes(two, tmp_path):
    data = draw_pairs(tmp_path / "data", range(5), channels=1, dtype=np.uint16)
    plain, _ = accumulated(data, tmp_path / "s")
    assert accumulated(data, tmp_path / "s", executor=two, shard=1)[0] == plain


@pytest.mark.parametrize("kept", [None, "kept"])
@pytest.mark.parametrize("recipe", BOTH)
def test_little_memory_gives_the_same_bytes(two, tmp_path, recipe, kept):
    """Shards are decoded again for each band, or kept as files and read band by band."""
    data = draw_pairs(tmp_path / "data", range(6), ("happy", "sad"), size=96)
    (data / "sad" / "3.png").unlink()
    plain, expected = trained(data, tmp_path / "m", recipe=recipe)
    options = {
        "executor": two,
        "shard": 2,
        "memory": 6_000_000 if recipe == "paper" else 8_000_000,
        "checkpoint": kept and tmp_path / kept,
    }
    for _ in range(2):
        found, report = trained(data, tmp_path / "m", recipe=recipe, **options)
        assert found == plain
        assert report.failures == expected.failures
        assert report.total("solving") > 2
    assert len(list(tmp_path.glob("kept/shard-*"))) == (3 if kept else 0)


@pytest.mark.parametrize("kept", [None, "kept"])
def test_little_memory_and_no_image_that_can_be_decoded(two, tmp_path, kept):
    data = draw_pairs(tmp_path / "data", range(3), size=96)
    for path in data.glob("*/*.png"):
        path.write_bytes(path.read_bytes()[:-60])
    options = {"recipe": "paper", "executor": two, "memory": 6_000_000}
    with pytest.raises(DataError, match="no pair of images could be decoded"):
        accumulated(data, tmp_path / "s", checkpoint=kept and tmp_path / kept, **options)


def test_images_that_change_between_bands_are_noticed(two, tmp_path):
    data = draw_pairs(tmp_path / "data", range(4), size=96)

    class Changing(Tracked):
        def progress(self, items, total, what):
            yield from super().progress(items, total, what)
            if what == "decoding":
                shutil.copy(data / "happy" / "1.png", data / "happy" / "2.png")

    options = {"recipe": "paper", "executor": two, "shard": 2, "memory": 6_000_000}
    with pytest.raises(DataError, match="images have changed during the training"):
        mlr.train(data, tmp_path / "m", report=Changing(), **options)


@pytest.mark.parametrize("memory", [None, 6_000_000])
def test_several_data_are_added_up_and_taken_out(two, tmp_path, memory):
    """Folders and a statistics file, with expressions that not all of them have."""
    one = draw_pairs(tmp_path / "one", range(4), ("happy", "sad"), size=48)
    other = draw_pairs(tmp_path / "other", range(4, 9), ("happy",), size=48)
    out = draw_pairs(tmp_path / "out", range(2), ("sad",), size=48)
    file = tmp_path / "other.npz"
    mlr.statistics(other, file, recipe="paper")
    options = {"remove": [out], "recipe": "paper"}
    plain, _ = trained([one, other], tmp_path / "m", **options)
    for data in ([one, other], [one, file]):
        found, _ = trained(data, tmp_path / "m", executor=two, memory=memory, **options)
        assert found == plain
    with pytest.raises(DataError, match=r"out.*cannot remove pairs that were never added"):
        mlr.train(other, executor=two, memory=memory, **options)


def test_too_little_memory_is_an_error(two, tmp_path):
    data = draw_pairs(tmp_path / "data", range(2), size=96)
    for kept in (None, tmp_path / "kept"):
        with pytest.raises(MlrError, match="are too little for images and models of this size"):
            mlr.train(data, recipe="paper", executor=two, memory=100_000, checkpoint=kept)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_command_line_writes_the_same_model(data, tmp_path, workers):
    train = ["train", data, "--recipe", "paper", "-o"]
    plain = run_process(*train, tmp_path / "a")
    options = ["--cluster", f"local:{workers}", "--shard", 2]
    found = run_process(*train, tmp_path / "b", *options, timeout=300)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert plain.code == found.code == 1
    assert plain.lines[:-1] == [line for line in found.lines[:-1] if "dashboard" not in line]


def test_synthesis_and_evaluation_are_the_same(data, two, model, tmp_path):
    outcomes = []
    for executor in (None, two):
        options = {"executor": executor, "report": (report := Silent())}
        out = tmp_path / str(bool(executor))
        written = mlr.synthesize(mlr.load(model), [data / "neutral"], out, **options)
        scores = mlr.evaluate(mlr.load(model), data, **options)
        images = {path.name: path.read_bytes() for path in written}
        assert len(images) == 9
        outcomes.append((images, scores, report.failures, report.done))
    assert outcomes[0] == outcomes[1]


@contextmanager
def started(*arguments, workers=2):
    """Run the program with two workers; yield the processes once the workers have started."""
    command = [sys.executable, "-m", "mlr", *map(str, arguments), "--cluster", "local:2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        found = []
        while process.poll() is None and len(found) < workers:
            time.sleep(0.02)
            found = workers_of(process.pid)
        yield process, found
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Subjects that take a moment, and the bytes of their model."""
    folder = tmp_path_factory.mktemp("many")
    draw_pairs(folder / "data", range(60), ("happy",), size=32)
    run_process("train", folder / "data", "-o", folder / "m", "--recipe", "paper")
    return folder / "data", (folder / "m").read_bytes()


def wait_for_shards(process, folder, count):
    """Wait until this many shards are finished, or the process has ended."""
    while process.poll() is None and len(list(folder.glob("shard-*"))) < count:
        time.sleep(0.001)


def test_killed_workers_do_not_matter(many, tmp_path):
    """Others are started, and what they print is discarded, too."""
    data, expected = many
    options = ["--recipe", "paper", "--shard", 1, "--checkpoint", tmp_path / "kept"]
    with started("train", data, "-o", tmp_path / "m", *options) as (process, workers):
        wait_for_shards(process, tmp_path / "kept", 4)
        assert process.poll() is None
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len([line for line in err.splitlines() if "dashboard" not in line]) == 1, err
    assert (tmp_path / "m").read_bytes() == expected


def test_errors_leave_no_process(tmp_path):
    (tmp_path / "empty").mkdir()
    with started("train", tmp_path / "empty", "-o", tmp_path / "m") as (process, workers):
        found = workers + children(process.pid)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith(f"mlr: error: {tmp_path / 'empty'}")
    assert found
    assert not still_there(found, seconds=10)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_workers_end_with_the_program(many, tmp_path, number):
    data, expected = many
    kept = tmp_path / "kept"
    options = ["-o", tmp_path / "m", "--recipe", "paper", "--shard", 1, "--checkpoint", kept]
    with started("train", data, *options) as (process, workers):
        wait_for_shards(process, kept, 4)
        workers += children(process.pid)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    killed = number == signal.SIGKILL
    assert process.returncode == (-number if killed else 128 + number)
    assert killed or err.splitlines()[-1].startswith("mlr: ")
    assert not still_there(workers, seconds=20)
    assert names(tmp_path) == ["kept"]
    assert killed or not list(kept.glob(".*"))
    assert len(list(kept.glob("shard-*"))) >= 4
    assert run_process("train", data, *options).code == 0
    assert (tmp_path / "m").read_bytes() == expected


PRINTING = """
import os, signal, time
from mlr.cluster import connect
from tests.there import kill_once, write

if __name__ == "__main__":
    with connect("local:1") as executor:
        assert list(executor.map(write, [1, 2], None)) == [1, 2]
        (worker,) = executor.map(kill_once, [os.environ["MARK"]], None)
        assert list(executor.map(write, [3, 4], None)) == [3, 4]
    print("done")
"""


def test_what_workers_print_is_discarded(tmp_path):
    """That of workers that replace others, too."""
    script = tmp_path / "script.py"
    script.write_text(PRINTING)
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": path, "MARK": str(tmp_path / "mark")},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_missing_scheduler_is_one_line(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(connecting, "PATIENCE", 0.3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    result = run("train", data, "-o", tmp_path / "m", "--cluster", address)
    assert result.lines == [f"mlr: error: {address}: no Dask scheduler with a worker answers there"]
    assert result.code == 1


@pytest.mark.parametrize("program", ["sleep 3600", "exit 1"])
def test_processes_that_never_start_are_not_waited_for(run, data, tmp_path, monkeypatch, program):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {program}\n")
    python.chmod(0o755)
    monkeypatch.setattr(connecting, "PATIENCE", 1)
    before = set(multiprocessing.active_children())
    multiprocessing.set_executable(str(python))
    try:
        result = run("train", data, "-o", tmp_path / "m", "--cluster", "local:2")
    finally:
        multiprocessing.set_executable(sys.executable)
    assert result.lines[-1].startswith("mlr: error: local:2: the processes do not start")
    assert result.code == 1
    assert not (tmp_path / "m").exists()
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize("address", ["local", "local:0", "local:x", "local:999999", "here", ""])
def test_odd_addresses_are_wrong_usage(run, data, tmp_path, address):
    result = run("train", data, "-o", tmp_path / "m", "--cluster", address)
    assert result.code == 2
    assert "expected tcp://HOST:PORT of a Dask scheduler, or local:N" in result.lines[-1]


def test_without_dask_there_is_a_hint(run, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    for name in [name for name in sys.modules if name.startswith("mlr.cluster")]:
        monkeypatch.delitem(sys.modules, name)
    result = run("train", data, "-o", tmp_path / "m", "--cluster", "local:2")
    assert result.lines == [
        "mlr: error: --cluster needs Dask: pip install 'masked-linear-regression[cluster]'"
    ]


@pytest.mark.slow  # images large enough to be told apart from the program's own memory
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("more", [[], ["--checkpoint"]])
@pytest.mark.parametrize("memory", [40, 1400])
def test_client_and_workers_keep_to_the_memory_limit(tmp_path, memory, more):
    """In addition to what small images take; statistics have 177 MB, the model 71."""
    most = []
    for side in (32, 768):
        data = tmp_path / str(side)
        mlr.sample(data, pairs=8, size=side, target="happy")  # large images must be faces
        options = ["--recipe", "paper", "--cluster", "local:2", "--shard", 1, "--force"]
        options += [*more, tmp_path / f"kept-{side}"] if more else []
        train = ["train", data, "-o", tmp_path / "m", *options, "--memory", f"{memory}MB"]
        most.append(most_memory(*train))
    assert all(large - small < memory * 1e6 for small, large in zip(*most, strict=True)), most


def test_a_signal_while_processes_start_has_its_line(faces, tmp_path):
    program = (
        "import os, signal, sys, mlr.cluster\n"
        "mlr.cluster.LocalCluster = lambda **options: os.kill(os.getpid(), signal.SIGTERM)\n"
        "from mlr.cli import main\n"
        "main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "train", str(faces), "-o", str(tmp_path / "m.npz")]
    done = subprocess.run([*command, "--cluster", "local:2"], capture_output=True, text=True)
    assert done.returncode == 143
    assert done.stderr.splitlines()[-1] == "mlr: terminated"
    assert not list(tmp_path.iterdir())


def test_a_lost_scheduler_is_a_line():
    from distributed.client import FutureCancelledError

    from mlr.cluster import _as_mlr_errors

    with pytest.raises(MlrError, match="the cluster is lost: some-task"), _as_mlr_errors():
        raise FutureCancelledError("some-task", "lost connection", "no scheduler")


def test_an_error_that_dask_cannot_send_is_a_line():
    from mlr.cluster import _as_mlr_errors

    with pytest.raises(MlrError, match="a worker failed: OSError"), _as_mlr_errors():
        raise Exception("OSError('no memory')\nmore")
    with pytest.raises(KeyError), _as_mlr_errors():
        raise KeyError("a mistake of the program")
