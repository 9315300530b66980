"""Templates in models, statistics and checkpoints are checked before they are used."""

import json
import math
import shutil
import warnings

import numpy as np
import pytest

from mlr.training import train as training
from tests.conftest import draw_pairs, names

MODEL, STATISTICS, CHECKPOINT = KINDS = ("model", "statistics", "checkpoint")
#: Names of the arrays and of the metadata of templates in each file.
SOURCE = {MODEL: "source_template", STATISTICS: "templates_source", CHECKPOINT: "source"}
PREFIX = {MODEL: "", STATISTICS: "templates_", CHECKPOINT: ""}
NOTED = {MODEL: "registered", STATISTICS: "templates", CHECKPOINT: "templates"}
FRAMES = {MODEL: "looks", STATISTICS: "frames", CHECKPOINT: "frames"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with faces, and a model, statistics and a checkpoint of them; read-only."""
    folder = tmp_path_factory.mktemp("made")
    faces = draw_pairs(folder / "faces", range(9), ("happy", "sad"))
    training.train(faces, folder / "model.npz", checkpoint=folder / "kept", shard=5)
    training.statistics(faces, folder / "statistics.npz")
    return folder


@pytest.fixture(params=KINDS)
def stored(request, made, tmp_path):
    """The kind of a file, a copy of it, and the commands that read it."""
    kind, model = request.param, tmp_path / "out.npz"
    kept, faces = tmp_path / "kept", made / "faces"
    if kind == CHECKPOINT:
        shutil.copytree(made / "kept", kept)
        train = ["train", faces, "-o", model, "--checkpoint", kept, "--shard", "5"]
        return kind, kept / "templates.npz", [train]
    path = tmp_path / f"{kind}.npz"
    shutil.copy(made / f"{kind}.npz", path)
    commands = {
        MODEL: [
            ["synthesize", path, faces / "neutral" / "0.png", "-o", model, "--target", "happy"],
            ["evaluate", path, faces],
            ["export", path, "-o", model.with_suffix(".html")],
            ["inspect", path, "-o", tmp_path],
        ],
        STATISTICS: [
            ["train", path, "-o", model],
            ["train", path, faces, "-o", model],
            ["statistics", faces, "--like", path, "-o", model],
        ],
    }
    return kind, path, [["info", path], *commands[kind]]


def rewrite(path, change):
    """Change the arrays and the metadata of a file; its checksums stay right."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(str(arrays.pop("meta")))
    change(arrays, meta)
    with path.open("wb") as file:
        np.savez(file, **arrays, meta=np.array(json.dumps(meta)))


def refusal(run, path, command):
    """Run a command that must refuse a file in one line; return the cause."""
    before = names(path.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run(*command)
    assert (result.code, result.out) == (1, "")
    (line,) = result.lines
    assert line.startswith(f"mlr: error: {path}: ")
    assert len(line) < 400 + len(str(path))
    assert names(path.parent) == before
    return line


def value(number):
    return lambda array: np.where(np.arange(array.size).reshape(array.shape) == 7, number, array)


ARRAYS = {
    "NaN": value(np.float32(np.nan)),
    "infinity": value(np.float32(-np.inf)),
    "a huge value": value(np.float32(1e20)),
    "float64": lambda array: array.astype(np.float64),
    "integers": lambda array: array.astype(np.int32),
    "another shape": lambda array: np.ascontiguousarray(array[..., :-1]),
    "another number of axes": lambda array: array[None],
    "no values": lambda array: array[:0],
    "one number": lambda array: array.ravel()[0],
}


@pytest.mark.parametrize("what", ARRAYS)
@pytest.mark.parametrize("name", ["source", "template1", "variation0", "motion1"])
def test_damaged_array_is_refused(run, stored, name, what):
    kind, path, commands = stored
    name = SOURCE[kind] if name == "source" else PREFIX[kind] + name

    def change(arrays, meta):
        arrays[name] = ARRAYS[what](arrays[name])

    rewrite(path, change)
    for command in commands:
        assert name.removeprefix("templates_") in refusal(run, path, command)


def test_missing_array_is_refused(run, stored):
    kind, path, commands = stored
    name = PREFIX[kind] + "variation1"
    rewrite(path, lambda arrays, meta: arrays.pop(name))
    for command in commands:
        assert "variation1" in refusal(run, path, command)


#: Values of metadata: where, for the model and for templates, and the value.
NUMBERS = [
    (("{frames}", "sad", "light"), (None, 0, -1, 1e300, math.nan, math.inf, 10**400, "bright", [])),
    (("{frames}", "happy", "explained"), (None, -1, math.nan, 10**400, {})),
    (("white",), (None, 0, math.nan, math.inf, 10**400, "white")),
    (
        ("eyes",),
        (
            None,
            [],
            [[0.3, 0.4], [0.3, 0.6]],
            [[-1e9, 0.4], [1e9, 0.4]],
            [[math.nan, 0], [1, 0]],
            [[10**400, 0], [1, 0]],
            [[0.3, 0.4]] * 10_000,
        ),
    ),
    (("{frames}",), (None, [], 3, "happy", {"happy": None}, {str(n): {} for n in range(10_000)})),
]


@pytest.mark.parametrize(("where", "odd"), [(w, odd) for w, values in NUMBERS for odd in values])
def test_damaged_number_is_refused(run, stored, where, odd):
    kind, path, commands = stored

    def change(arrays, meta):
        inside = meta[NOTED[kind]]
        *above, last = (key.format(frames=FRAMES[kind]) for key in where)
        for key in above:
            inside = inside[key]
        inside[last] = odd

    rewrite(path, change)
    for command in commands:
        refusal(run, path, command)


@pytest.mark.parametrize("size", [[0, 0], [-1, 3], [16, math.inf], [10**400, 16], [1, 10**9], [16]])
@pytest.mark.parametrize("stored", [STATISTICS, CHECKPOINT], indirect=True)
def test_templates_of_an_impossible_size_are_refused(run, stored, size):
    _, path, commands = stored
    rewrite(path, lambda arrays, meta: meta["templates"].update(size=size))
    for command in commands:
        refusal(run, path, command)


@pytest.mark.parametrize("groups", [3, [1], [1, 2, 3], [math.nan, 0], [1e9, 0], ["x", "y"]])
@pytest.mark.parametrize("stored", [STATISTICS, CHECKPOINT], indirect=True)
def test_damaged_groups_are_refused(run, stored, groups):
    _, path, commands = stored
    rewrite(path, lambda arrays, meta: meta["templates"]["frames"]["sad"].update(groups=groups))
    for command in commands:
        refusal(run, path, command)


@pytest.mark.parametrize("format_", [4, "3", None])
def test_templates_of_another_version_are_refused(run, stored, format_):
    _, path, commands = stored
    rewrite(path, lambda arrays, meta: meta.update(format=format_))
    for command in commands:
        assert "version" in refusal(run, path, command)


@pytest.mark.parametrize("stored", [STATISTICS], indirect=True)
def test_statistics_with_templates_of_another_size_are_refused(run, stored):
    _, path, commands = stored
    rewrite(path, lambda arrays, meta: meta["templates"].update(size=[32, 32]))
    for command in commands:
        assert "its templates are for (32, 32), its images (16, 16)" in refusal(run, path, command)


@pytest.mark.parametrize(
    "numbers",
    [
        [0, 0, 0, 0, 0],
        [2304, 0, -1, 0, 0],
        [2304, 0, 1, 2, 1],
        [10**400, 0, 1, 0, 1],
        [2304, math.nan, 1, 0, 1],
        [],
    ],
)
@pytest.mark.parametrize("stored", [STATISTICS], indirect=True)
def test_impossible_sums_of_styles_are_refused(run, stored, numbers):
    _, path, commands = stored

    def change(arrays, meta):
        meta["folds"][0]["styles"][0] = numbers

    rewrite(path, change)
    for command in commands:
        refusal(run, path, command)


@pytest.mark.parametrize(
    ("key", "odd"), [("count", 10**30), ("count", -3), ("deep", [-1, 0]), ("deep", [10, 0])]
)
@pytest.mark.parametrize("stored", [STATISTICS], indirect=True)
def test_impossible_numbers_of_pairs_are_refused(run, stored, key, odd):
    _, path, commands = stored

    def change(arrays, meta):
        (fold,) = meta["folds"]
        (fold["groups"][0] if key == "count" else fold)[key] = odd

    rewrite(path, change)
    for command in commands:
        refusal(run, path, command)


@pytest.mark.parametrize("name", ["source0_lags", "target1_cross", "target0_sums"])
@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_statistics_that_are_not_finite_are_refused(run, tmp_path, name, odd):
    faces = draw_pairs(tmp_path / "faces", range(2), ("happy", "sad"), dtype=np.uint16, channels=1)
    path = tmp_path / "s.npz"
    training.statistics(faces, path)
    rewrite(path, lambda arrays, meta: arrays["fold0_" + name].ravel().__setitem__(-1, odd))
    for command in (["info", path], ["train", path, "-o", tmp_path / "m.npz"]):
        assert f"fold0_{name} has values that are not finite" in refusal(run, path, command)


@pytest.mark.parametrize("weight", [np.nan, np.inf, 1e20])
@pytest.mark.parametrize("stored", [MODEL], indirect=True)
def test_weights_out_of_range_are_refused(run, stored, weight):
    _, path, commands = stored
    rewrite(path, lambda arrays, meta: arrays["weights"].ravel().__setitem__(-1, weight))
    for command in commands:
        assert "some weights are too large or not finite" in refusal(run, path, command)


@pytest.mark.parametrize("stored", [CHECKPOINT], indirect=True)
def test_other_templates_in_a_checkpoint_are_refused(run, stored):
    _, path, (command,) = stored
    rewrite(path, lambda arrays, meta: arrays["source"].ravel().__setitem__(7, 0.5))
    assert "not the templates of the shards; delete the folder" in refusal(run, path, command)


@pytest.mark.parametrize("more", [[], ["--checkpoint", "kept"], ["--memory", "7MB"]])
def test_image_that_changes_after_the_templates_is_refused(run, tmp_path, monkeypatch, more):
    faces = draw_pairs(tmp_path / "faces", range(6), size=64)
    victim, make = faces / "happy" / "5.png", training.make_templates

    def replaced(*args):
        found = make(*args)
        shutil.copy(faces / "happy" / "0.png", victim)
        return found

    monkeypatch.setattr(training, "make_templates", replaced)
    monkeypatch.chdir(tmp_path)
    result = run("train", faces, "-o", "m.npz", *more)
    assert result.code == 1
    assert result.lines[-1] == (
        f"mlr: error: {victim}: has changed since the templates were computed; start the training "
        "again; with --checkpoint, in an empty folder"
    )
    assert names(tmp_path) == sorted(["faces", *more[1:2]] if "kept" in more else ["faces"])
