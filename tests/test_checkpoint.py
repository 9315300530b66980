"""Checkpoints: the same bytes with and without; nothing is done twice or used unchecked."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mlr.io.statistics_file import load_statistics
from mlr.training import checkpoint, sources
from tests.conftest import draw_pairs, names, run_process

SUBJECTS = 11
BOTH = ("best", "paper")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Expression folders in which one image has no partner; read-only."""
    folder = draw_pairs(tmp_path_factory.mktemp("data"), range(SUBJECTS), ("happy", "sad"))
    (folder / "sad" / "3.png").unlink()
    shutil.copy(folder / "happy" / "0.png", folder / "happy" / "alone.png")
    return folder


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """The bytes of each recipe's model without a checkpoint."""
    folder = tmp_path_factory.mktemp("plain")
    for recipe in BOTH:
        train(data, folder / recipe, "--recipe", recipe)
    return {recipe: (folder / recipe).read_bytes() for recipe in BOTH}


@pytest.fixture
def accumulated(monkeypatch):
    """The sizes of the shards that are accumulated from now on."""
    sizes = []
    original = sources.accumulate

    def counted(stream, subjects, *options):
        sizes.append(len(subjects))
        return original(stream, subjects, *options)

    monkeypatch.setattr(sources, "accumulate", counted)
    return sizes


def train(data, model, *options):
    """Train in this process, by default with the recipe paper; return the exit code."""
    from mlr.cli import main

    recipe = () if "--recipe" in options else ("--recipe", "paper")
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in ("train", data, "-o", model, "--force", *options, *recipe)])
    return ended.value.code


@pytest.mark.parametrize("recipe", BOTH)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_any_shard_size_gives_the_same_bytes(data, plain, tmp_path, recipe, size, accumulated):
    model, options = tmp_path / "m", ["--recipe", recipe, "--shard", size]
    for _ in range(2):
        assert train(data, model, *options, "--checkpoint", tmp_path / "kept") == 1
        assert model.read_bytes() == plain[recipe]
    assert max(accumulated) <= size
    assert sum(accumulated) == SUBJECTS  # once


def test_sixteen_bits_give_the_same_bytes(tmp_path):
    data = draw_pairs(tmp_path / "data", range(5), channels=1, dtype=np.uint16)
    models = [tmp_path / name for name in "abc"]
    train(data, models[0])
    for model in models[1:]:
        train(data, model, "--shard", 1, "--checkpoint", tmp_path / "kept")
    assert len({model.read_bytes() for model in models}) == 1


def test_statistics_are_the_same_file(run, data, tmp_path):
    for name, more in {"a": [], "b": ["--checkpoint", tmp_path / "kept", "--shard", 2]}.items():
        run("statistics", data, "-o", tmp_path / name, *more)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_shards_with_changed_files_are_computed_again(data, tmp_path, accumulated):
    changing, kept = tmp_path / "data", tmp_path / "kept"
    shutil.copytree(data, changing)
    options = ["--checkpoint", kept, "--shard", 1]
    train(changing, tmp_path / "m", *options)
    before = names(kept)
    image = changing / "happy" / "5.png"
    times = image.stat()
    content = bytearray(image.read_bytes())
    content[-20] ^= 1  # of the same size and time, and damaged
    image.write_bytes(content)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    (changing / "neutral" / "7.png").unlink()
    draw_pairs(changing, [99], ("happy", "sad"))
    accumulated.clear()
    train(changing, tmp_path / "m", *options)
    assert accumulated == [1, 1]  # 5 and 99; the shard of 7 is deleted
    assert len(names(kept)) == len(before)
    train(changing, tmp_path / "expected")
    assert (tmp_path / "m").read_bytes() == (tmp_path / "expected").read_bytes()


def test_failures_are_reported_until_files_are_mended(run, data, tmp_path, accumulated):
    changing = tmp_path / "data"
    shutil.copytree(data, changing)
    good = (changing / "sad" / "4.png").read_bytes()
    for name in ("happy", "neutral"):
        (changing / name / "4.png").write_bytes(good[:-30])
    command = ["train", changing, "-o", tmp_path / "m", "--force", "--json", "--recipe", "paper"]
    command += ["--checkpoint", tmp_path / "kept", "--shard", 4]
    first, again = run(*command), run(*command)
    assert sum(accumulated) == SUBJECTS
    assert json.loads(first.out)["failures"] == json.loads(again.out)["failures"]
    assert "neutral/4.png" in again.err
    for name in ("happy", "neutral"):
        (changing / name / "4.png").write_bytes(good)
    run(*command)
    assert sum(accumulated) > SUBJECTS
    assert train(changing, tmp_path / "expected") == 1
    assert (tmp_path / "m").read_bytes() == (tmp_path / "expected").read_bytes()


def test_shards_of_another_configuration_are_refused(run, data, tmp_path):
    kept, model = tmp_path / "kept", tmp_path / "m.npz"
    options = ["--checkpoint", kept, "-o", model, "--force"]
    assert run("train", data, *options, "--recipe", "paper", "--penalty", 3).code == 1
    assert run("train", data, *options, "--recipe", "paper", "--penalty", 4).code == 1  # fits
    before, shown = model.read_bytes(), sorted(kept.iterdir())
    for more, said in {
        ("--recipe", "best"): "receptive field",
        ("--recipe", "paper", "--receptive-field", "5"): "another receptive field: 3x3, this",
        ("--recipe", "paper", "--source", "sad"): "another source: neutral, this run has sad",
    }.items():
        result = run("train", data, *options, *more)
        assert result.code == 1
        assert said in result.lines[-1]
        assert result.lines[-1].startswith(f"mlr: error: {kept}: ")
    grey = draw_pairs(tmp_path / "grey", range(2), size=24)
    assert (
        "another images: 16x16 px, 3 channels, this"
        in run("train", grey, *options, "--recipe", "paper").err
    )
    manifest = json.loads((kept / "manifest.json").read_text())
    (kept / "manifest.json").write_text(json.dumps(manifest | {"program": "0.0.1"}))
    assert "another program: 0.0.1" in run("train", data, *options, "--recipe", "paper").err
    assert (model.read_bytes(), sorted(kept.iterdir())) == (before, shown)


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_damaged_manifest_is_refused(run, data, tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    result = run("train", data, "-o", tmp_path / "m", "--checkpoint", tmp_path)
    assert result.code == 1
    assert result.lines[-1].startswith(f"mlr: error: {tmp_path / 'manifest.json'}: not the manif")


def test_other_folders_are_refused(run, data, tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    result = run("train", data, "-o", tmp_path / "m", "--checkpoint", tmp_path)
    assert "is neither a checkpoint nor an empty folder" in result.lines[-1]
    assert names(tmp_path) == ["thesis.txt"]


def test_damaged_shards_are_computed_again(run, data, plain, tmp_path, accumulated):
    kept, model = tmp_path / "kept", tmp_path / "m"
    options = ["--recipe", "paper", "--checkpoint", kept, "--shard", 2]
    train(data, model, *options)
    files = sorted(kept.glob("shard-*.npz"))
    files[0].write_bytes(files[0].read_bytes()[:-100])
    files[1].write_bytes(b"")
    content = bytearray(files[2].read_bytes())
    content[2000] ^= 1  # in a plane
    files[2].write_bytes(content)
    shutil.copy(files[4], files[3])  # of other subjects
    accumulated.clear()
    train(data, model, *options)
    assert model.read_bytes() == plain["paper"]
    assert 4 <= len(accumulated) <= 5


def test_folder_in_place_of_a_shard_is_an_error(run, data, tmp_path):
    kept, model = tmp_path / "kept", tmp_path / "m"
    train(data, model, "--checkpoint", kept)
    shard = next(kept.glob("shard-*.npz"))
    shard.unlink()
    shard.mkdir()
    result = run("train", data, "-o", tmp_path / "n", "--recipe", "paper", "--checkpoint", kept)
    assert result.code == 1
    assert result.lines[-1].startswith(f"mlr: error: {shard}: cannot be deleted: ")
    assert shard.is_dir()


def test_several_data_share_a_checkpoint(data, tmp_path, accumulated):
    more = draw_pairs(tmp_path / "more", range(50, 53), ("happy", "sad"))
    options = [more, "--remove", more, "--checkpoint", tmp_path / "kept"]
    train(data, tmp_path / "m", *options)
    train(data, tmp_path / "again", *options)
    assert sum(accumulated) == SUBJECTS + 3
    train(data, tmp_path / "without")
    assert len({(tmp_path / name).read_bytes() for name in ("m", "again", "without")}) == 1


def test_checkpoint_in_use_is_refused(run, data, tmp_path):
    train(data, tmp_path / "m", "--checkpoint", tmp_path / "kept")
    with checkpoint.locked_manifest(tmp_path / "kept" / "manifest.json"):
        result = run("train", data, "-o", tmp_path / "n", "--checkpoint", tmp_path / "kept")
    assert result.lines[-1] == f"mlr: error: {tmp_path / 'kept'}: is in use by another run"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ended_run_goes_on(data, plain, tmp_path, number):
    kept, model = tmp_path / "kept", tmp_path / "m.npz"
    command = ["train", data, "-o", model, "--recipe", "paper", "--shard", 1, "--checkpoint", kept]
    process = subprocess.Popen([sys.executable, "-m", "mlr", *map(str, command)])
    while process.poll() is None and len(list(kept.glob("shard-*.npz"))) < 3:
        time.sleep(0.0005)
    process.send_signal(number)
    assert process.wait() == (-number if number == signal.SIGKILL else 128 + number)
    assert not model.exists()
    if number != signal.SIGKILL:
        assert not list(kept.glob(".*.tmp"))
    done = {path: path.stat().st_mtime_ns for path in kept.glob("shard-*.npz")}
    assert len(done) >= 3
    run_process(*command)
    assert model.read_bytes() == plain["paper"]
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in done.items())
    assert not list(kept.glob(".*.tmp"))


def test_temporary_files_of_killed_workers_are_deleted(data, tmp_path, monkeypatch):
    left, shards = tmp_path / "kept" / ".shard-1.npz.2.tmp", checkpoint.Checkpoint.shards

    def meanwhile(self, subjects, size):
        left.touch()
        return shards(self, subjects, size)

    monkeypatch.setattr(checkpoint.Checkpoint, "shards", meanwhile)
    train(data, tmp_path / "m", "--checkpoint", tmp_path / "kept")
    assert names(tmp_path / "kept")
    assert not left.exists()


def test_shards_are_statistics_files(run, data, tmp_path):
    train(data, tmp_path / "m", "--checkpoint", tmp_path / "kept", "--recipe", "paper")
    (shard,) = (tmp_path / "kept").glob("shard-*.npz")
    assert load_statistics(shard).pairs == {"happy": 11, "sad": 10}
    assert run("info", shard).code == 0


@pytest.mark.parametrize("more", [(), ("--checkpoint", "kept")])
def test_little_memory_gives_the_same_model(run, tmp_path, monkeypatch, more):
    """Statistics of shards, or all pixels, stay on the disk and are read band by band."""
    monkeypatch.chdir(tmp_path)
    draw_pairs(tmp_path / "data", range(5), ("happy", "sad"), size=64)
    train = ["train", "data", "--recipe", "paper", "--force"]
    run(*train, "-o", "plain")
    for _ in range(2):
        result = run(*train, "-o", "m", "--shard", 2, "--memory", "4MB", *more)
        assert result.code == 0, result.err
        assert Path("m").read_bytes() == Path("plain").read_bytes()
    assert len(list(Path().glob("kept/shard-*.npz"))) == (3 if more else 0)
