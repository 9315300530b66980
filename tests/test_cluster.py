"""On a cluster: the same bits as in one process, whoever dies meanwhile."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faults.clusters import children, still_there, workers_of
from benchmarks.shards import most_memory
from tests.conftest import draw_pairs, names, run_process

pytest.importorskip("distributed", reason="needs mlr[cluster]")

from mlr.core.folds import joined
from mlr.training.engine import engine
from mlr.training.registering import make_templates

from mlr.cluster import connecting
from mlr.errors import DataError
from mlr.training.decode import common_format
from mlr.training.shards import Silent
from mlr.training.train import gather as gathering
from mlr.utils.progress import Report

BOTH = ("best", "paper")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Expression folders in which a file is damaged and one has no partner."""
    folder = draw_pairs(tmp_path_factory.mktemp("data"), range(9), ("happy", "sad"))
    (folder / "sad" / "3.png").unlink()
    image = folder / "happy" / "5.png"
    image.write_bytes(image.read_bytes()[:-20])
    return folder


@pytest.fixture(scope="module")
def two():
    """Two processes that work; started once for all tests that leave them alone."""
    with engine("local:2", Report()) as found:
        yield found


def gathered(data, engine, recipe, shard, memory=None, kept=None):
    """Return the statistics that an engine makes."""
    from mlr.io.pairs import find_pairs
    from mlr.recipes.fit import recipe as named

    made, pairs = named(recipe, {}), find_pairs(data)
    report = Report()
    report.show_failure = lambda line: None
    templates = None
    if made.registers:
        subjects, image_format = common_format(pairs, Silent())
        templates = make_templates(subjects, image_format, 1, report)
    sums = gathering.gather_pairs(
        pairs,
        made.layout,
        folds=made.folds,
        templates=templates,
        threads=1,
        report=report,
        sharding=gathering.Sharding.of(kept, shard, engine),
        memory=memory,
    )
    return joined(sums) if memory is None else sums, report


@pytest.mark.parametrize("recipe", BOTH)
def test_any_shards_on_any_processes_give_the_same_bits(data, two, tmp_path, recipe):
    plain, report = gathered(data, None, recipe, None)
    plain.save(tmp_path / "plain")
    for shard in (1, 4, None):
        sums, ours = gathered(data, two, recipe, shard)
        sums.save(tmp_path / "sums", force=True)
        assert (tmp_path / "sums").read_bytes() == (tmp_path / "plain").read_bytes()
        assert ours.failures == report.failures
        assert ours.done == report.done


def test_sixteen_bits_give_the_same_bits(two, tmp_path):
    data = draw_pairs(tmp_path / "data", range(5), channels=1, dtype=np.uint16)
    for name, where in {"a": None, "b": two}.items():
        gathered(data, where, "best", 1)[0].save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [("paper", None), ("paper", "kept"), pytest.param("best", None, marks=pytest.mark.slow)],
)
def test_little_memory_gives_the_same_bits(two, tmp_path, recipe, kept):
    """Pixels or shards are kept on the disk; sums are made, sent and solved in bands of rows."""
    from mlr.recipes.fit import recipe as named

    data = draw_pairs(tmp_path / "data", range(6), ("happy",), size=64)
    made = named(recipe, {})
    plain, _ = gathered(data, None, recipe, None)
    memory = 3_600_000 if recipe == "paper" else 40_000_000
    sums, _ = gathered(data, two, recipe, 2, memory, kept and tmp_path / kept)
    assert len(sums._terms[0]._pieces) > 2
    if recipe == "best":
        sums.memory = 1e9  # for the halo, which is all of an image as small as this
    expected = made.fit(plain, Report())
    found = made.fit(sums, Report())
    assert (found.weights == expected.weights).all()
    assert found.info == expected.info


def test_several_data_are_added_up_and_taken_out_there(two, tmp_path, monkeypatch):
    """Folders and a statistics file, with expressions that not all of them have."""
    from mlr.training.train import train as training

    @contextmanager
    def there(cluster, report, memory):
        yield two if cluster else None

    monkeypatch.setattr(training, "engine", there)
    one = draw_pairs(tmp_path / "one", range(4), ("happy", "sad"))
    other = draw_pairs(tmp_path / "other", range(4, 9), ("happy",))
    training.gather(other, tmp_path / "other.npz", recipe="paper")
    out = draw_pairs(tmp_path / "out", range(2), ("sad",))
    for number, data in enumerate(([one, other], [one, tmp_path / "other.npz"])):
        for where in (None, "there"):
            training.train(
                data,
                tmp_path / f"{number}-{where}",
                remove=[out],
                recipe="paper",
                cluster=where,
            )
        assert (tmp_path / f"{number}-there").read_bytes() == (tmp_path / "0-None").read_bytes()
    with pytest.raises(DataError, match=r"out.*cannot take out pairs that were never put in"):
        training.train(other, remove=[out], recipe="paper", cluster="there")


def test_progress_counts_people(data, two):
    counted = []

    class Counting(Report):
        def show_failure(self, line):
            pass

        def progress(self, items, total, what):
            counted.append((total, what))
            for item in items:
                counted.append(item)
                yield item

    from mlr.io.pairs import find_pairs
    from mlr.recipes.paper import Paper

    sharding = gathering.Sharding.of(None, 2, two)
    pairs, options = find_pairs(data), {"folds": 1, "threads": 1, "report": Counting()}
    gathering.gather_pairs(pairs, Paper().layout, **options, sharding=sharding)
    assert counted == [(9, "summing up"), *range(9)]


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_the_command_line_makes_the_same_model(data, tmp_path, workers):
    train = ["train", data, "--recipe", "paper", "-o"]
    plain = run_process(*train, tmp_path / "a")
    where = ["--cluster", f"local:{workers}", "--shard", 2]
    elsewhere = run_process(*train, tmp_path / "b", *where, timeout=300)  # on a busy machine
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert plain.code == elsewhere.code == 1
    said = [result.lines[:-1] for result in (plain, elsewhere)]
    assert said[0] == said[1]


def test_faces_are_changed_and_scored_as_here(data, two, model, tmp_path, monkeypatch):
    from mlr import load
    from mlr.evaluation import evaluate as evaluation
    from mlr.synthesis import files as synthesis

    @contextmanager
    def there(cluster, report):
        yield two if cluster else None

    monkeypatch.setattr(synthesis, "engine", there)
    monkeypatch.setattr(evaluation, "engine", there)
    outcomes = []
    for where in (None, "there"):
        report = Report()
        report.show_failure = lambda line: None
        out = tmp_path / str(where)
        options = {"cluster": where, "report": report}
        written = synthesis.synthesize(load(model), [data / "neutral"], out, **options)
        scores = evaluation.evaluate(load(model), data, **options)
        images = {path.name: path.read_bytes() for path in written}
        assert len(images) == 9
        outcomes.append((images, scores, report.failures, report.done))
    assert outcomes[0] == outcomes[1]


@contextmanager
def started(*arguments, workers=2):
    """Run the program on a cluster of two; yield it and its workers once so many are there."""
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
    """Enough people to be busy for a moment, with the bytes of their model."""
    folder = tmp_path_factory.mktemp("many")
    draw_pairs(folder / "data", range(60), ("happy",), size=32)
    run_process("train", folder / "data", "-o", folder / "m", "--recipe", "paper")
    return folder / "data", (folder / "m").read_bytes()


@pytest.mark.parametrize("victim", ["worker", pytest.param("server", marks=pytest.mark.slow)])
def test_who_is_killed_does_not_matter(many, tmp_path, victim):
    """A worker, or the one that they are forked from: then others are started in a while."""
    data, expected = many
    options = ["--recipe", "paper", "--shard", 2, "--checkpoint", tmp_path / "kept"]
    with started("train", data, "-o", tmp_path / "m", *options) as (process, workers):
        while process.poll() is None and len(list((tmp_path / "kept").glob("*.npz"))) < 4:
            time.sleep(0.001)
        assert process.poll() is None
        (server,) = children(process.pid)
        os.kill(workers[0] if victim == "worker" else server, signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(err.splitlines()) == 1  # not a word of it
    assert (tmp_path / "m").read_bytes() == expected


def test_what_fails_before_the_work_leaves_no_process(tmp_path):
    """Processes begin to load what they need as soon as the option is read."""
    (tmp_path / "empty").mkdir()
    with started("train", tmp_path / "empty", "-o", tmp_path / "m", workers=0) as (process, _):
        while process.poll() is None and not (found := children(process.pid)):
            time.sleep(0.001)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert len(err.splitlines()) == 1, err
    assert found
    assert not still_there(found, seconds=5)  # Python's tracker of resources ends after us


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
        while process.poll() is None and len(list(kept.glob("*.npz"))) < 4:
            time.sleep(0.001)
        workers += children(process.pid)  # who forked them
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    killed = number == signal.SIGKILL
    assert process.returncode == (-number if killed else 128 + number)
    assert killed or err.splitlines()[-1].startswith("mlr: ")
    assert not still_there(workers, seconds=10)
    assert names(tmp_path) == ["kept"]
    assert killed or not list(kept.glob(".*"))
    assert len(list(kept.glob("shard-*"))) >= 4
    assert run_process("train", data, *options).code == 0
    assert (tmp_path / "m").read_bytes() == expected


CRYING = """
from mlr.training.engine import engine
from mlr.utils.progress import Report
from tests.there import cry

with engine("local:1", Report()) as one:
    assert list(one.map(cry, [1, 2], None)) == [1, 2]
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked")
def test_what_workers_print_does_not_reach_the_user():
    done = subprocess.run([sys.executable, "-c", CRYING], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_nobody_answers(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(connecting, "PATIENCE", 0.3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    result = run("train", data, "-o", tmp_path / "m", "--cluster", where)
    assert result.lines == [f"mlr: error: {where}: no Dask scheduler with a worker answers there"]
    assert result.code == 1


@pytest.mark.parametrize("what", ["distributed.Nanny.start", "distributed.SpecCluster._start"])
def test_processes_that_never_start_are_not_waited_for(run, data, tmp_path, monkeypatch, what):
    async def never(self):
        await asyncio.sleep(3600)

    monkeypatch.setattr(connecting, "PATIENCE", 0.3)
    monkeypatch.setattr(what, never)
    result = run("train", data, "-o", tmp_path / "m", "--cluster", "local:2")
    assert result.lines[-1].startswith("mlr: error: local:2: the processes do not start")
    assert result.code == 1
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("where", ["local", "local:0", "local:x", "local:999999", "here", ""])
def test_odd_addresses_are_wrong_usage(run, data, tmp_path, where):
    result = run("train", data, "-o", tmp_path / "m", "--cluster", where)
    assert result.code == 2
    assert "expected tcp://HOST:PORT of a Dask scheduler, or local:N" in result.lines[-1]


def test_without_dask_there_is_a_hint(run, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlr.cluster.connecting", None)
    result = run("train", data, "-o", tmp_path / "m", "--cluster", "local:2")
    assert result.lines == ["mlr: error: --cluster needs Dask: pip install 'mlr[cluster]'"]


@pytest.mark.slow  # images large enough to be told apart from the program's own memory
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_neither_the_client_nor_a_worker_takes_more_memory_than_given(tmp_path):
    """Beyond what they take for small images; all sums have 177 MB, and the model 71."""
    most = []
    for side in (32, 768):
        data = draw_pairs(tmp_path / str(side), range(8), ("happy",), size=side)
        options = ["--recipe", "paper", "--cluster", "local:2", "--shard", 1, "--force"]
        train = ["train", data, "-o", tmp_path / "m", *options, "--memory", "40MB"]
        most.append(most_memory(*train))
    assert all(large - small < 40_000_000 for small, large in zip(*most, strict=True)), most
