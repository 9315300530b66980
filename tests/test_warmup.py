"""Compiling kernels: announced once, and cached if there is a folder."""

import inspect
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numba
import numpy as np
import pytest

from mlr.io.images import write_image
from mlr.kernels import jit
from mlr.kernels.blur import blur
from mlr.training.warmup import warm_up
from tests.conftest import draw, draw_pairs, run_process

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")

LINE = "compiling kernels for their first use: up to twenty seconds"


def double(array):
    array[0] *= 2


def compiles(kernel=None):
    """Run a kernel, by default a new one of an old function; tell how often it was announced."""
    calls, array = [], np.ones(1)
    kernel = kernel or jit.serial(double)
    with jit.announced(lambda: calls.append(1)):
        kernel(array)
    assert array[0] == 2
    return len(calls)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty cache for kernels made in a test."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(jit, "_caches", [])
    return tmp_path


def test_compiling_is_announced_once_and_loading_is_not(folder):
    kernel = jit.serial(double)
    assert [compiles(kernel), compiles(kernel), compiles()] == [1, 0, 0]
    assert jit.cache_folder().is_relative_to(folder)


@pytest.mark.parametrize("damage", [b"", b"\x80\x04nonsense"])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_cache_is_ignored(folder, suffix, damage):
    compiles()
    for path in folder.rglob(f"*.{suffix}"):
        path.write_bytes(damage)
    assert compiles() == 1


def test_code_of_other_kernels_or_of_plain_ones_is_not_loaded(folder, monkeypatch):
    compiles()
    assert compiles() == 0
    with monkeypatch.context() as patch:
        patch.setattr(jit, "_SOURCES", "other")
        assert [compiles(), compiles()] == [1, 0]
    monkeypatch.setattr(jit, "PLAIN_KERNELS", not jit.PLAIN_KERNELS)
    assert [compiles(), compiles()] == [1, 0]


def test_code_of_an_older_version_is_not_run_after_a_kill(folder, monkeypatch):
    def kernel(value):
        space = {"__name__": __name__}
        path = folder / "module.py"
        path.write_text(f"def kernel(array):\n    array[0] = {value}\n")
        exec(compile(path.read_text(), path, "exec"), space)
        monkeypatch.setattr(jit, "_SOURCES", f"version{value}")
        return jit.serial(space["kernel"])

    def killed(*args):
        raise KeyboardInterrupt

    array = np.zeros(1)
    kernel(1)(array)
    with monkeypatch.context() as patch:
        patch.setattr("numba.core.caching.IndexDataCacheFile._save_data", killed)
        with pytest.raises(KeyboardInterrupt):
            kernel(2)(array)
    for value in (2, 1):
        kernel(value)(array)
        assert array[0] == value


def test_a_full_disk_is_no_error(folder, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_data", full)
    assert [compiles(), compiles()] == [1, 1]
    assert jit.cache_folder() is None


@pytest.mark.skipif(
    not hasattr(numba.config, "CACHE_LOCATOR_CLASSES"), reason="needs Numba 0.62 or later"
)
def test_kernels_work_without_a_folder(folder, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", os.devnull + "/nowhere")
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    assert [compiles(), compiles()] == [1, 1]
    assert jit.cache_folder() is None


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ("del caching.IndexDataCacheFile", False),
        ("caching.FunctionCache.__init__ = lambda self: None", False),
        ("caching.Cache.load_overload = caching.Cache.__dict__['_load_overload']\n"
         "del caching.Cache._load_overload", True),
    ],
)  # fmt: skip
def test_kernels_work_without_the_private_parts_of_numba(change, kept):
    blur(np.ones((1, 9, 9)), 1.0)  # now its code is on disk
    program = f"""
import numpy as np
from numba.core import caching
{change}
from mlr.kernels import jit
from mlr.kernels.blur import blur
calls = []
with jit.announced(lambda: calls.append(1)):
    total = blur(np.ones((1, 9, 9)), 1.0).sum()
print(round(total), jit.cache_folder() is not None, len(calls))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"81 {kept} {int(not kept)}\n", "")


def test_cached_kernels_are_loaded_without_what_compiling_needs(best_model, faces):
    program = """
import sys
from pathlib import Path
from mlr.io.images import read_image
from mlr.io.model_file import load_model
model, face = map(Path, sys.argv[1:])
load_model(model).synthesize(read_image(face).pixels[None])
print({"scipy.linalg", "cffi", "numba.np.linalg"} & set(sys.modules))
"""
    warm_up()
    command = [sys.executable, "-c", program, best_model, faces / "neutral" / "0.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def kernels_warmed_up() -> dict[str, int]:
    """Warm up, and return how many versions of each kernel there are."""
    warm_up()
    modules = [path.stem for path in Path(jit.__file__).parent.glob("*.py")]
    return {
        kernel.py_func.__qualname__: len(kernel.signatures)
        for name in modules
        for kernel in vars(import_module(f"mlr.kernels.{name}")).values()
        if isinstance(kernel, numba.core.dispatcher.Dispatcher)
        and "@jit.serial" in inspect.getsource(kernel.py_func)
    }


def test_every_kernel_is_warmed_up():
    program = "import tests.test_warmup as t, json; print(json.dumps(t.kernels_warmed_up()))"
    alone = [sys.executable, "-c", program]  # other tests compile kernels in this process
    found = json.loads(subprocess.run(alone, check=True, stdout=subprocess.PIPE).stdout)
    assert len(found) >= 20
    if jit.PLAIN_KERNELS:
        for name in ("_add_products_uint8", "_sums_uint8", "_pack_blocks"):
            assert found.pop(name) == 0  # the plain ones take their places
        assert found.pop("_sums_plain") == 2
    for name in ("_blur_planes", "_add_products_plain", "_pack_plain"):
        assert found.pop(name) == 2  # each for two dtypes
    assert set(found.values()) == {1}, found


def test_warmup_names_the_folder(run):
    run("warmup", "-q")
    result = run("warmup")
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith("kernels loaded from the cache in ")
    assert Path(result.err.split("kept in ")[1].strip()).is_dir()
    assert run("warmup", "-q") == (0, "", "")
    assert '"compiled": false' in run("warmup", "--json", "-q").out


def test_a_folder_that_cannot_be_made_is_no_error():
    variables = {**os.environ, "NUMBA_CACHE_DIR": os.devnull + "/nowhere"}
    result = run_process("warmup", "-q", env=variables)  # Numba takes another folder
    assert result == (0, "", "")


@pytest.mark.slow
def test_only_the_first_training_announces_compiling(faces, tmp_path):
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    train = ["train", faces, "-o", tmp_path / "m.npz", "--force"]
    lines = [run_process(*train, env=variables).lines for _ in range(2)]
    assert [LINE in found for found in lines] == [True, False]
    assert lines[0][1:-1] == lines[1][:-1]  # the last one tells the seconds
    assert run_process("warmup", env=variables).lines[0] == LINE  # the kernels for 16 bits
    draw_pairs(tmp_path / "16-bit", channels=1)
    write_image(tmp_path / "16-bit/neutral/0.png", draw(0, channels=1, dtype=np.uint16), force=True)
    train[1] = tmp_path / "16-bit"
    assert LINE not in run_process(*train, env=variables).lines


def test_only_the_first_synthesis_announces_compiling(model, faces, tmp_path):
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [
        "synthesize",
        model,
        faces / "neutral" / "0.png",
        "-o",
        tmp_path / "x.png",
        "--force",
    ]
    lines = [run_process(*command, env=variables).lines for _ in range(2)]
    assert [found[:-1] for found in lines] == [[LINE], []]


@pytest.mark.slow
def test_the_first_training_works_without_a_folder(faces, tmp_path):
    variables = {
        **os.environ,
        "NUMBA_CACHE_DIR": os.devnull + "/nowhere",
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
    }
    for quiet in ([], ["-q"]):
        train = ["train", faces, "-o", tmp_path / "m.npz", "--force", "--recipe", "paper", *quiet]
        result = run_process(*train, env=variables)
        assert result.code == 0
        assert result.err.startswith("" if quiet else "compiling kernels without a folder")
        assert not (quiet and result.err)


@pytest.mark.slow
def test_the_first_training_works_where_no_file_can_grow(faces, tmp_path):
    script = (
        "import resource, sys\nfrom mlr.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\nmain()"
    )
    train = ["train", str(faces), "-o", str(tmp_path / "m.npz"), "-q", "--recipe", "paper"]
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", script, *train, "--target", "happy"],
        capture_output=True,
        text=True,
        timeout=300,
        env=variables,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not list((tmp_path / "cache").rglob("*.tmp.*"))


def test_nothing_is_compiled_after_the_warm_up(best_model):
    program = f"""
import numpy as np
from mlr import load
from mlr.kernels import jit
from mlr.photo.composite import change_faces
from mlr.photo.eyes import Eyes
from mlr.training.warmup import warm_up
warm_up()
calls = []
with jit.announced(lambda: calls.append(1)):
    model = load({str(best_model)!r})
    photo = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    for eyes in (Eyes(30 + 40j, 60 + 40j), Eyes(40 + 40j, 46 + 40j)):
        for pixels in (photo, photo[..., :1], photo.astype(np.uint16)):
            change_faces(model, np.ascontiguousarray(pixels), [eyes], "happy")
print(len(calls))
"""
    alone = [sys.executable, "-c", program]
    assert subprocess.run(alone, check=True, capture_output=True, text=True).stdout == "0\n"
