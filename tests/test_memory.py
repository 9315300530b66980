"""Training with a low memory limit, from pixels on disk and in bands, gives the same bytes."""

import json
import os
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import mlr
from mlr.errors import DataError, MlrError, OptionError
from mlr.io.files import temporary_folder
from mlr.io.images import write_image
from mlr.io.statistics_file import load_statistics
from mlr.training import budget
from mlr.training import decode as stream
from mlr.utils.memory import available, format_bytes, mapped_zeros, memory_limit
from tests.conftest import draw, draw_pairs, names

SIZE = 24
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Subjects with two expressions, or only one or the other."""
    root = tmp_path_factory.mktemp("faces")
    draw_pairs(root, range(9), ("happy", "sad"), size=SIZE)
    for subject, name in ((3, "happy"), (4, "sad")):
        (root / name / f"{subject}.png").unlink()
    return root


@pytest.fixture(scope="module")
def mixed_bits(tmp_path_factory):
    """Grey subjects, one with 16 bits."""
    root = tmp_path_factory.mktemp("mixed")
    draw_pairs(root, range(6), size=SIZE, channels=1)
    for name in ("neutral", "happy"):
        face = draw(7, SIZE, 1).astype(np.uint16) * 257 + 3
        write_image(root / name / "16-bit.png", face)
    return root


@pytest.fixture
def cuts(monkeypatch):
    """Record how many bands there were."""
    found = []

    def bands(height, rows, halo=0):
        found.append(-(-height // rows))
        return made(height, rows, halo)

    made = budget.bands
    monkeypatch.setattr(budget, "bands", bands)
    return found


def least(work, *data, **options):
    """Return the bytes of memory that a call says it needs at least.

    What is known before the images are decoded may not be all.
    """
    memory = 1000
    for _ in range(3):
        try:
            work(*data, memory=memory, **options)
        except OptionError as error:
            memory = memory_limit(str(error).rpartition(" are too little ")[2].rpartition(" ")[2])
    return memory


@pytest.mark.parametrize("kind", ["faces", "mixed_bits"])
@pytest.mark.parametrize("recipe", ["paper", "best"])
def test_little_memory_changes_no_byte(kind, recipe, tmp_path, cuts, request, monkeypatch):
    data, folder = request.getfixturevalue(kind), tmp_path / "out"
    for work in (mlr.train, mlr.statistics):
        enough = least(work, data, recipe=recipe)
        cuts.clear()
        work(data, folder / "whole.npz", recipe=recipe, force=True)
        assert set(cuts) <= {1}
        cuts.clear()
        with monkeypatch.context() as patch:
            patch.setattr("mlr.training.sources.WORK", 1 << 40)  # they might just fit otherwise
            work(data, folder / "banded.npz", recipe=recipe, memory=enough, force=True)
        assert max(cuts) > 1 or work is mlr.statistics  # whose bands need as many rows around
        assert (folder / "banded.npz").read_bytes() == (folder / "whole.npz").read_bytes()
        assert len(names(folder)) == 2  # nothing temporary is left


@pytest.mark.parametrize(("recipe", "samples"), [("paper", 17), ("best", 51)])
def test_digests_of_more_samples_than_a_narrow_plane_holds(
    recipe, samples, paper, tmp_path, monkeypatch
):
    monkeypatch.setattr("mlr.core.accumulate.NARROW_SAMPLES", samples)
    mlr.statistics(paper / "faces", tmp_path / "whole.npz", recipe=recipe)
    monkeypatch.setattr("mlr.training.sources.WORK", 1 << 40)  # they do not fit
    mlr.statistics(paper / "faces", tmp_path / "banded.npz", recipe=recipe, memory="9MB")
    assert (tmp_path / "banded.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_each_image_is_decoded_once(paper, cuts, monkeypatch):
    options = {"recipe": "best", "like": paper / "best.npz"}
    memory = least(mlr.train, paper / "faces", **options)
    cuts.clear()
    decoded = []

    def read(path):
        decoded.append(path)
        return made(path)

    made = stream.read_image
    monkeypatch.setattr(stream, "read_image", read)
    mlr.train(paper / "faces", memory=memory, **options)
    assert max(cuts) > 1
    files = [path for folder in (paper / "faces").iterdir() for path in folder.iterdir()]
    assert sorted(decoded) == sorted(files)


def test_memory_does_not_grow_with_pairs(paper, tmp_path, monkeypatch):
    """A field of a pair is 32 kB."""
    monkeypatch.setattr("mlr.training.sources.WORK", 1 << 40)  # the statistics do not fit
    options = {"like": paper / "best.npz", "memory": "9MB", "threads": 1}
    peaks = []
    for count in (5, 10, 60):  # the first time it also compiles
        data = draw_pairs(tmp_path / str(count), range(count), size=SIZE)
        tracemalloc.start()
        mlr.train(data, **options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 50 * 4000


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_temporary_files_have_no_name(paper, tmp_path, monkeypatch):
    """So nothing is left of them, however the program ends."""
    seen = []

    def bands(*arguments):
        seen.append((names(tmp_path), len(names(Path("/proc/self/fd")))))
        return made(*arguments)

    made = budget.bands
    monkeypatch.setattr(budget, "bands", bands)
    files = len(names(Path("/proc/self/fd")))
    mlr.train(paper / "faces", tmp_path / "m.npz", recipe="paper", memory="800kB")
    assert seen
    assert all(found == [] and opened > files for found, opened in seen)
    assert names(tmp_path) == ["m.npz"]


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """Pairs, and the model of a wide window that all memory gives."""
    root = tmp_path_factory.mktemp("paper")
    draw_pairs(root / "faces", range(20), size=SIZE)
    mlr.train(root / "faces", root / "m.npz", recipe="paper", receptive_field=5)
    mlr.statistics(root / "faces", root / "best.npz")
    return root


@settings(deadline=None, max_examples=12, phases=QUICK)
@given(st.integers(600, 3000), st.integers(1, 2))
def test_any_amount_of_memory_gives_the_same_model(paper, kilobytes, threads):
    with temporary_folder() as folder:
        options = {"recipe": "paper", "receptive_field": 5, "threads": threads}
        mlr.train(paper / "faces", folder / "m.npz", memory=1000 * kilobytes, **options)
        assert (folder / "m.npz").read_bytes() == (paper / "m.npz").read_bytes()


@pytest.mark.parametrize("recipe", ["paper", "best"])
def test_statistics_are_read_band_by_band(recipe, tmp_path, cuts):
    draw_pairs(tmp_path / "all", range(12), ("happy", "sad"), size=SIZE)
    draw_pairs(tmp_path / "some", range(4), ("happy", "sad"), size=SIZE)
    draw_pairs(tmp_path / "more", range(20, 25), ("happy",), size=SIZE)
    mlr.statistics(tmp_path / "all", tmp_path / "all.npz", recipe=recipe)
    like = tmp_path / "all.npz" if recipe == "best" else None
    mlr.statistics(tmp_path / "some", tmp_path / "some.npz", recipe=recipe, like=like)
    data = [tmp_path / "all.npz", tmp_path / "more"]
    for remove in (tmp_path / "some.npz", tmp_path / "some"):
        mlr.train(data, tmp_path / "a.npz", remove=remove, force=True)
        enough = least(mlr.train, data, remove=remove)
        cuts.clear()
        mlr.train(data, tmp_path / "b.npz", remove=remove, memory=enough, force=True)
        assert max(cuts) > 1
        assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(DataError, match=r"more: cannot remove pairs that were never added"):
        mlr.train(tmp_path / "some.npz", remove=tmp_path / "more", memory=enough)


def test_a_model_in_a_file_is_a_model(paper):
    model = mlr.train(paper / "faces", recipe="paper", receptive_field=5, memory="700kB")
    face = draw(77, size=SIZE)
    assert np.array_equal(model.synthesize(face), mlr.load(paper / "m.npz").synthesize(face))


def test_too_little_memory_says_how_much_is_enough(paper, run, tmp_path):
    for recipe in ("paper", "best"):
        arguments = ("train", paper / "faces", "-o", tmp_path / f"{recipe}.npz")
        result = run(*arguments, "--recipe", recipe, "--memory", "20kB")
        assert result.code == 2
        assert not (tmp_path / f"{recipe}.npz").exists()
        assert "of memory are too little" in result.lines[-1]
        enough = result.lines[-1].rpartition(" ")[2]
        assert run(*arguments, "--recipe", recipe, "--memory", enough).code == 0, enough


def test_too_little_memory_is_noticed_before_images_are_decoded(paper, monkeypatch):
    monkeypatch.setattr(stream, "read_image", None)
    with pytest.raises(OptionError, match="of memory are too little"):
        mlr.train(paper / "faces", recipe="paper", memory="20kB")


def test_damaged_statistics_are_refused_band_by_band_too(tmp_path):
    draw_pairs(tmp_path / "all", range(4), size=SIZE)
    mlr.statistics(tmp_path / "all", tmp_path / "s.npz")
    data = bytearray((tmp_path / "s.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "s.npz").write_bytes(data)
    with pytest.raises(MlrError, match=r"s\.npz: not a statistics file, or a damaged one"):
        mlr.train(tmp_path / "s.npz", memory="9MB")


def test_mapped_planes_are_those_of_the_file(paper, tmp_path):
    mlr.statistics(paper / "faces", tmp_path / "s.npz", receptive_field=3)
    there, mapped = (
        load_statistics(tmp_path / "s.npz"),
        load_statistics(tmp_path / "s.npz", mapped=True),
    )
    assert there.pairs == mapped.pairs
    for one, other in zip(there.planes(), mapped.planes(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2 * 10**9),
        ("512MB", 512 * 10**6),
        ("1.5 GiB", 3 << 29),
        ("64k", 64000),
        ("123", 123),
        (4096, 4096),
    ],
)
def test_amounts_of_memory(text, expected):
    assert memory_limit(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1GB", "2 GBs", "0", 0, -5, float("nan"), "1e9"])
def test_invalid_amounts_are_refused(text):
    with pytest.raises(OptionError):
        memory_limit(text)


def test_amounts_are_rounded_up():
    assert [format_bytes(n) for n in (1, 10**6, 1.5e7, 15000001)] == [
        "1kB",
        "1000kB",
        "15MB",
        "16MB",
    ]


def test_limit_on_addresses_counts():
    code = "from mlr.utils.memory import available; print(available())"
    limit = 3 << 30

    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limited, capture_output=True)
    assert 0 < int(done.stdout) < limit
    assert available() > 0


def test_full_disk_is_an_error(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MlrError, match=r"no room for a temporary file of 8 MiB: No space left"):
        mapped_zeros((1 << 20,), np.float64, tmp_path)
    assert not names(tmp_path)


MEASURED = """
import json, sys
from pathlib import Path
import mlr

def memory(key):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").open())
    return 1024 * int(lines[key].split()[0])

data, small, output, options = *sys.argv[1:4], json.loads(sys.argv[4])
mlr.train(small, **options)
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
mlr.train(data, output, **options)
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    ("recipe", "size", "megabytes", "chosen"),
    [
        ("paper", 256, 60, {"receptive_field": 5}),
        ("best", 256, 60, {}),
    ],
)
def test_memory_holds(recipe, size, megabytes, chosen, tmp_path):
    """Sums, pixels and weights alone are 90 and 84 MB."""
    draw_pairs(tmp_path / "data", range(40), size=size)
    draw_pairs(tmp_path / "small", range(6), size=16)
    (tmp_path / "script.py").write_text(MEASURED)
    options = {"recipe": recipe, **chosen}
    arguments = [tmp_path / "script.py", tmp_path / "data", tmp_path / "small", tmp_path / "m.npz"]
    done = subprocess.run(
        [sys.executable, *map(str, arguments), json.dumps({**options, "memory": f"{megabytes}MB"})],
        capture_output=True,
        check=True,
    )
    assert int(done.stdout) < 1.25e6 * megabytes, done.stdout  # the allocator keeps some
    mlr.train(tmp_path / "data", tmp_path / "all.npz", **options)
    assert (tmp_path / "m.npz").read_bytes() == (tmp_path / "all.npz").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_arrays_are_returned_to_the_system():
    script = """
import numpy as np
from pathlib import Path
from mlr.utils.memory import return_freed_memory

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmRSS"))

return_freed_memory()
np.ones(30 << 20, np.uint8)  # after it, glibc would keep what is smaller
before = held()
kept = [np.ones(25 << 20, np.uint8), np.ones(1000)]
del kept[0]
print(held() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert int(done.stdout) < 5
