"""Training data behind an address of fsspec is what it would be in a folder."""

import sys

import pytest

from tests.conftest import draw_pairs

fsspec = pytest.importorskip("fsspec", reason="needs mlr[cluster]")
pytest.importorskip("upath", reason="needs mlr[cluster]")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a damaged image, one without partner, a subfolder, a hidden file and a note."""
    folder = draw_pairs(tmp_path_factory.mktemp("data"), range(4), ("happy", "sad"))
    (folder / "sad" / "3.png").unlink()
    image = folder / "happy" / "2.png"
    image.write_bytes(image.read_bytes()[:-20])
    for name in ("neutral", "happy"):
        (folder / name / "more").mkdir()
        (folder / name / "1.png").rename(folder / name / "more" / "1.png")
    (folder / "happy" / ".hidden.png").write_bytes(b"no image")
    (folder / "happy" / "readme.txt").write_text("nor this")
    return folder


@pytest.fixture
def address(data):
    """The same files in memory, as others are in a bucket."""
    memory = fsspec.filesystem("memory")
    for path in data.rglob("*.*"):
        memory.pipe(f"/faces/{path.relative_to(data)}", path.read_bytes())
    yield "memory://faces"
    memory.rm("/faces", recursive=True)


@pytest.mark.parametrize("more", [(), ("--shard", 1), ("--checkpoint", "kept")])
def test_the_model_is_the_same_file(run, data, address, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    there, here, again = (
        run("train", place, "-o", tmp_path / name, "--recipe", "paper", "--force", *options)
        for place, name, options in ((address, "a", more), (data, "b", ()), (address, "a", more))
    )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert there.code == here.code == again.code == 1
    told = [line.replace(str(data), address) for line in here.lines[:-1]]
    assert there.lines[:-1] == again.lines[:-1] == told


def test_evaluation_is_the_same(run, data, address, model):
    there, here = (run("evaluate", model, place, "--json") for place in (address, data))
    assert there.out.replace(address, str(data)) == here.out


def test_statistics_and_manifests_too(run, data, address, tmp_path):
    memory = fsspec.filesystem("memory")
    run("statistics", data, "-o", tmp_path / "s", "--recipe", "paper")
    memory.pipe("/faces/s.npz", (tmp_path / "s").read_bytes())
    memory.pipe("/faces/list/pairs.csv", b"source,target\na.png,b/c.png\n")
    for name, path in {"a.png": "neutral/0.png", "b/c.png": "happy/0.png"}.items():
        memory.pipe(f"/faces/list/{name}", (data / path).read_bytes())
    models = [tmp_path / name for name in "abcd"]
    run("train", f"{address}/s.npz", "-o", models[0])
    run("train", tmp_path / "s", "-o", models[1])
    assert models[0].read_bytes() == models[1].read_bytes()
    result = run("train", f"{address}/list", "-o", models[2])
    assert (result.code, models[2].exists()) == (0, True)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nix://x", "nix://x: cannot be reached: "),
        ("memory://none", "memory://none: does not exist; expected a folder of training images"),
        ("memory://faces/sad", "memory://faces/sad: holds no folders; expected a folder 'neutral'"),
    ],
)
def test_what_is_not_there_is_said(run, address, tmp_path, place, said):
    result = run("train", place, "-o", tmp_path / "m")
    assert result.code == 1
    assert result.lines[-1].startswith(f"mlr: error: {said}")


def test_without_the_library_there_is_a_hint(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    result = run("train", "s3://x", "-o", tmp_path / "m")
    assert result.lines == ["mlr: error: s3://x: needs pip install 'mlr[cluster]'"]
