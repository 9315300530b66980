"""Training from statistics files: splitting and removing pairs give the same model files."""

import json
import shutil

import numpy as np
import pytest

import mlr
from mlr import load
from mlr.errors import DataError
from mlr.io.images import write_image
from mlr.io.statistics_file import load_statistics
from tests.conftest import draw, draw_pairs, names, run_process

BOTH = ("happy", "sad")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder of all pairs, one without ann, and a split in three; read-only."""
    root = tmp_path_factory.mktemp("shards")
    for name, subjects in {
        "all": range(9),
        "stays": [0, 1, 2, 3, 5, 6, 7, 8],
        "ann": [4],
        "monday": range(3),
        "tuesday": range(3, 7),
        "wednesday": range(7, 9),
    }.items():
        draw_pairs(root / name, subjects, targets=BOTH)
    return root


@pytest.fixture(scope="module")
def sums(shards, tmp_path_factory):
    """Statistics files of these folders with the templates of all, and of the paper's recipe."""
    root = tmp_path_factory.mktemp("sums")
    mlr.statistics(shards / "all", root / "all.npz")
    for folder in shards.iterdir():
        mlr.statistics(folder, root / f"{folder.name}.npz", like=root / "all.npz", force=True)
        for side in (3, 5):
            path = root / f"{folder.name}-{side}.npz"
            mlr.statistics(folder, path, recipe="paper", receptive_field=side)
    return root


def trained(run, tmp_path, *arguments, like=None):
    """Return the bytes of the model that the program makes of this."""
    path = tmp_path / f"{len(names(tmp_path))}.npz"
    options = [] if like is None else ["--like", like]
    result = run("train", *arguments, *options, "-o", path)
    assert result.code == 0, result.err
    return path.read_bytes()


def test_removed_subject_leaves_no_trace(shards, tmp_path):
    """In separate processes, as a user runs them."""
    data, model, never = (tmp_path / f"{name}.npz" for name in ("data", "model", "never"))
    for command in (
        ["statistics", shards / "all", "-o", data],
        ["train", data, "--remove", shards / "ann", "-o", model],
        ["train", shards / "stays", "-o", never, "--like", data],
    ):
        assert run_process(*command).code == 0
    assert model.read_bytes() == never.read_bytes()


@pytest.mark.parametrize("data", ["all", "all.npz"])
@pytest.mark.parametrize("out", ["ann", "ann.npz"])
def test_folders_and_files_are_taken_out_of_each_other(run, shards, sums, tmp_path, data, out):
    data, out = ((sums if name.endswith(".npz") else shards) / name for name in (data, out))
    like = sums / "all.npz"
    never = trained(run, tmp_path, shards / "stays", like=like)
    assert trained(run, tmp_path, data, "--remove", out, like=like) == never


def test_statistics_file_forgets_too(run, shards, sums, tmp_path):
    output = tmp_path / "s.npz"
    command = ["statistics", sums / "all.npz", "--remove", shards / "ann", "-o", output]
    assert run(*command).code == 0
    assert output.read_bytes() == (sums / "stays.npz").read_bytes()


@pytest.mark.parametrize(
    "data",
    [
        ["all.npz"],
        ["monday", "tuesday", "wednesday"],
        ["monday", "tuesday.npz", "wednesday"],
        ["wednesday.npz", "monday.npz", "tuesday.npz"],
        ["stays", "ann.npz"],
        ["all", "ann", "--remove", "ann.npz"],
        ["all", "monday", "ann", "--remove", "ann", "--remove", "monday.npz"],
    ],
)
def test_any_split_gives_the_same_model_file(run, shards, sums, tmp_path, data):
    data = [
        word if word[0] == "-" else (sums if word.endswith(".npz") else shards) / word
        for word in data
    ]
    like = sums / "all.npz"
    assert trained(run, tmp_path, *data, like=like) == trained(run, tmp_path, shards / "all")


def test_same_from_python(shards, sums, tmp_path):
    mlr.train(shards / "all", tmp_path / "a.npz")
    mlr.train(
        [shards / "monday", str(sums / "tuesday.npz"), shards / "wednesday", shards / "ann"],
        tmp_path / "b.npz",
        remove=sums / "ann.npz",
    )
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(DataError, match="no training data"):
        mlr.train([])


def test_same_pair_twice_counts_twice(shards, sums):
    model = mlr.train([shards / "ann", sums / "ann.npz"])
    assert model.info.pairs == {"happy": 2, "sad": 2}
    assert not np.array_equal(model.weights, mlr.train(shards / "ann").weights)


def test_taps_are_those_of_the_files_unless_given(run, shards, sums, tmp_path):
    small, large = (
        trained(run, tmp_path, shards / "all", "--recipe", "paper", "--receptive-field", side)
        for side in (3, 5)
    )
    assert trained(run, tmp_path, sums / "all-5.npz") == large
    assert trained(run, tmp_path, sums / "stays-5.npz", shards / "ann") == large
    options = ["--receptive-field", 3]
    assert trained(run, tmp_path, sums / "all-5.npz", *options) == small
    assert trained(run, tmp_path, sums / "stays-3.npz", sums / "ann-5.npz", *options) == small
    command = [shards / "all", "--recipe", "paper", "--receptive-field", "plus"]
    plus = trained(run, tmp_path, *command)
    assert trained(run, tmp_path, sums / "all-5.npz", "--receptive-field", "plus") == plus


def test_more_taps_than_needed_are_taken_out_as_well(run, shards, sums, tmp_path):
    never = trained(run, tmp_path, shards / "stays", "--recipe", "paper")
    for data in (shards / "all", sums / "all-3.npz"):
        assert trained(run, tmp_path, data, "--remove", sums / "ann-5.npz") == never


def test_wanted_expressions_alone_are_used(run, shards, sums, tmp_path):
    options = ["--target", "sad"]
    wanted = trained(run, tmp_path, shards / "stays", *options, like=sums / "all.npz")
    assert trained(run, tmp_path, sums / "stays.npz", *options) == wanted
    removed = ["--remove", sums / "ann.npz"]
    assert trained(run, tmp_path, sums / "all.npz", *removed, *options) == wanted


def test_expression_that_only_some_have(run, shards, sums, tmp_path):
    draw_pairs(tmp_path / "angry", [20], targets=("angry", "happy"))
    data, like = [shards / "all", tmp_path / "angry"], tmp_path / "s.npz"
    assert run("train", *data, "-o", tmp_path / "m.npz").code == 0
    assert load(tmp_path / "m.npz").info.pairs == {"angry": 1, "happy": 10, "sad": 9}
    assert run("statistics", *data, "-o", like).code == 0
    without = trained(run, tmp_path, like, "--remove", tmp_path / "angry")
    assert trained(run, tmp_path, shards / "all", like=like) == without
    result = run("train", sums / "all.npz", tmp_path / "angry", "-o", tmp_path / "n.npz")
    assert "templates have no expression 'angry'; they have: happy, sad" in result.err


def test_two_sides_stay_two_sides(run, shards, tmp_path):
    for side, expression in (("trainA", "neutral"), ("trainB", "happy")):
        shutil.copytree(shards / "all" / expression, tmp_path / "data" / side)
    assert run("statistics", tmp_path / "data", "-o", tmp_path / "s.npz").code == 0
    assert load_statistics(tmp_path / "s.npz").source == "A"
    (tmp_path / "m").mkdir()
    wanted = trained(run, tmp_path / "m", tmp_path / "data")
    assert trained(run, tmp_path / "m", tmp_path / "s.npz") == wanted


def other(tmp_path, **kind):
    """Return statistics of other images, folder and file."""
    draw_pairs(tmp_path / "other", targets=("happy",), **kind)
    mlr.statistics(tmp_path / "other", tmp_path / "other.npz")


@pytest.mark.parametrize("option", [[], ["--remove"]])
@pytest.mark.parametrize("form", ["other", "other.npz"])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ({"size": 18}, "different images: 16x16 px colour and 18x18 px colour"),
        ({"channels": 1}, "different images: 16x16 px colour and 16x16 px grey"),
    ],
)
def test_other_images_are_refused(run, sums, tmp_path, option, form, kind, reason):
    other(tmp_path, **kind)
    first, second = sums / "all.npz", tmp_path / form
    result = run("train", first, *option, second, "-o", tmp_path / "m.npz")
    assert result.code == 1
    if form == "other" and "size" in kind:
        assert "18x18 px, but the templates are for 16x16 px; resize them" in result.lines[0]
    else:
        assert result.lines == [f"mlr: error: {first} and {second}: statistics of {reason}"]
    assert names(tmp_path) == ["other", "other.npz"]


def test_other_taps_are_refused(run, sums, tmp_path):
    first, second, path = sums / "all-5.npz", sums / "ann-3.npz", tmp_path / "m.npz"
    for files in ((first, second), (second, first)):
        result = run("train", *files, "-o", path)
        assert result.code == 1
        assert f"{files[0]} and {files[1]}: statistics of different receptive" in result.lines[0]
    lacking = f"{second}: statistics for the receptive field 3x3 lack planes that 5x5 needs"
    for arguments in (
        [second, "--receptive-field", "5"],
        [first, second, "--receptive-field", "5"],
        [first, "--remove", second],
    ):
        result = run("train", *arguments, "-o", path)
        assert result.code == 1
        assert result.lines == [f"mlr: error: {lacking}"]
    assert names(tmp_path) == []


def test_other_source_expression_is_refused(run, shards, sums, tmp_path):
    path = tmp_path / "s.npz"
    assert run("statistics", shards / "ann", "--source", "sad", "-o", path).code == 0
    result = run("train", sums / "stays.npz", path, "-o", tmp_path / "m.npz")
    assert result.lines == [
        f"mlr: error: {sums}/stays.npz and {path}: "
        "statistics of different source expressions: neutral and sad"
    ]
    result = run("train", path, "--source", "happy", "-o", tmp_path / "m.npz")
    assert result.lines == [
        f"mlr: error: {path}: statistics of the source expression sad, not happy"
    ]
    assert run("train", path, "-o", tmp_path / "m.npz").code == 0
    assert load(tmp_path / "m.npz").info.source == "sad"


def test_pairs_that_were_never_in_are_refused(run, shards, tmp_path):
    for out in ("all", "tuesday"):
        command = ["train", shards / "monday", "--remove", shards / out, "-o", tmp_path / "m.npz"]
        result = run(*command)
        assert result.code == 1
        assert result.lines == [
            f"mlr: error: {shards}/{out}: cannot remove pairs that were never added"
        ]
    result = run("train", shards / "all", "--remove", shards / "all", "-o", tmp_path / "m.npz")
    assert result.lines == ["mlr: error: all pairs are removed, none is left to train on"]
    assert names(tmp_path) == []


def test_image_that_cannot_be_taken_out_stops_it_all(run, sums, tmp_path):
    draw_pairs(tmp_path / "out", [4, 5], targets=BOTH)
    (tmp_path / "out" / "sad" / "5.png").write_bytes(b"\x89PNG")
    result = run("train", sums / "all.npz", "--remove", tmp_path / "out", "-o", tmp_path / "m.npz")
    assert result.code == 1
    assert f"{tmp_path}/out/sad/5.png" in result.lines[0]
    assert "cannot be removed; repair or delete" in result.lines[-1]
    assert names(tmp_path) == ["out"]
    (tmp_path / "out" / "sad" / "5.png").unlink()  # a pair that there is not: the others go out
    result = run("train", sums / "all.npz", "--remove", tmp_path / "out", "-o", tmp_path / "m.npz")
    assert "of 2 subjects, 1 lack sad" in result.lines[0]
    assert load(tmp_path / "m.npz").info.pairs == {"happy": 7, "sad": 8}


def test_removed_16_bit_images_leave_no_trace(run, shards, tmp_path):
    write = {"channels": 1, "targets": ("happy",)}
    draw_pairs(tmp_path / "flat", range(3), **write)
    draw_pairs(tmp_path / "wide", [3], dtype=np.uint16, **write)
    (tmp_path / "m").mkdir()
    data = [tmp_path / "flat", tmp_path / "wide", "--remove", tmp_path / "wide"]
    mlr.statistics(tmp_path / "flat", tmp_path / "flat.npz")
    like = tmp_path / "flat.npz"
    wanted = trained(run, tmp_path / "m", tmp_path / "flat")
    assert trained(run, tmp_path / "m", *data, like=like) == wanted


def test_like_is_for_registered_pairs(run, shards, sums, tmp_path):
    command = ["train", shards / "ann", "--recipe", "paper", "--like", sums / "all.npz"]
    result = run(*command, "-o", tmp_path / "m.npz")
    assert result.code == 2
    assert "the recipe paper has no templates; --like is for the recipe best" in result.err


@pytest.mark.parametrize("command", ["train", "statistics"])
def test_other_files_are_refused_by_name(run, model, sums, tmp_path, command):
    write_image(tmp_path / "face.png", draw(0))
    output = tmp_path / "out.npz"
    result = run(command, model, "-o", output)
    assert result.lines == [f"mlr: error: {model}: is a 'model' file, expected a 'statistics' file"]
    result = run(command, tmp_path / "face.png", "-o", output)
    assert f"{tmp_path}/face.png: not a statistics file" in result.lines[0]
    result = run(command, sums / "all.npz", "--target", "calm", "-o", output)
    assert result.lines == [
        f"mlr: error: {sums}/all.npz: no expression 'calm'; target expressions there: happy, sad"
    ]
    assert run(command, sums / "all.npz", "-o", output, "--remove", "missing").code == 2
    assert names(tmp_path) == ["face.png"]


def test_existing_statistics_are_kept_unless_forced(run, shards, tmp_path):
    path = tmp_path / "s.npz"
    path.write_text("mine")
    result = run("statistics", shards / "ann", "-o", path)
    assert result.lines == [f"mlr: error: {path}: exists already; give --force to overwrite it"]
    assert path.read_text() == "mine"
    assert run("statistics", shards / "ann", "-o", path, "--force", "-q") == (0, "", "")
    assert names(tmp_path) == ["s.npz"]


def test_threads_change_no_bit_of_the_file(run, shards, sums, tmp_path):
    for threads in (1, 2):
        path = tmp_path / f"{threads}.npz"
        assert run("statistics", shards / "all", "-o", path, "--threads", threads).code == 0
        assert path.read_bytes() == (sums / "all.npz").read_bytes()


def test_what_is_said(run, shards, tmp_path):
    path = tmp_path / "s.npz"
    result = run("statistics", shards / "all", "-o", path, "--json", "--recipe", "paper")
    assert result.lines[-1].startswith(f"{path}: happy, sad, 18 pairs accumulated in ")
    said = json.loads(result.out)
    assert said["statistics"] == str(path)
    assert said["pairs"] == {"happy": 9, "sad": 9}
    assert said["receptive_field"] == "3x3"
    assert said["failures"] == []


def test_info_says_what_a_statistics_file_holds(run, sums, model):
    path = sums / "all-5.npz"
    said = json.loads(run("info", path, "--json").out)
    assert said == {
        "kind": "statistics",
        "source": "neutral",
        "expressions": ["happy", "sad"],
        "size": "16x16",
        "channels": 3,
        "receptive_field": "5x5",
        "pairs": {"happy": 9, "sad": 9},
        "data_range": 255,
        "digest": load_statistics(path).hexdigest,
    }
    assert "pairs             happy 9, sad 9\n" in run("info", path).out
    assert run("info", model).out.startswith("kind              model\n")


def test_info_on_a_damaged_statistics_file_is_one_line(run, sums, tmp_path):
    data = (sums / "ann.npz").read_bytes()
    path = tmp_path / "s.npz"
    for end in (0, 100, len(data) // 2, len(data) - 10):
        path.write_bytes(data[:end])
        result = run("info", path)
        assert (result.code, result.out) == (1, "")
        assert result.lines[0].startswith(f"mlr: error: {path}: not a model or statistics file, ")
