"""Training from files: the same bits for any layout, order and split of the pairs."""

import numpy as np
import pytest

import mlr
from mlr import load
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import DataError, MlrError, MlrWarning, OutputExistsError
from mlr.io.images import write_image
from mlr.io.statistics_file import save_statistics
from mlr.recipes.fit import fit
from mlr.recipes.paper import Paper
from tests.naive import naive_masked_regression


def write_set(folder, subjects, expressions=("happy", "sad"), size=8, channels=3, dtype=np.uint8):
    """Write random images of these subjects; return them by expression and subject."""
    images = {}
    for e, expression in enumerate(("neutral", *expressions)):
        for subject in subjects:
            rng = np.random.default_rng((subject, e))
            white = np.iinfo(dtype).max
            pixels = rng.integers(0, white + 1, (size, size, channels), dtype=dtype)
            images.setdefault(expression, {})[subject] = pixels
            write_image(folder / expression / f"{subject:03d}.png", pixels, force=True)
    return images


def test_a_model_from_files_equals_the_naive_one(tmp_path):
    images = write_set(tmp_path / "data", range(20))
    model = mlr.train(tmp_path / "data", tmp_path / "m.npz", recipe="paper")
    assert model.expressions == ("happy", "sad")
    assert load(tmp_path / "m.npz").weights.tobytes() == model.weights.tobytes()
    X = np.stack(list(images["neutral"].values())) / 255
    for e, name in enumerate(model.expressions):
        T = np.stack(list(images[name].values())) / 255
        for c in range(3):
            expected = naive_masked_regression(
                X[..., c], T[..., c], ReceptiveField.square(3).offsets, 0.4
            )
            assert np.abs(model.weights[e, c] - expected).max() < 1e-6


def test_threads_batches_and_names_change_no_bit_of_the_model_file(tmp_path, monkeypatch):
    write_set(tmp_path / "data", range(50))
    mlr.train(tmp_path / "data", tmp_path / "a.npz", threads=1, recipe="paper")
    monkeypatch.setattr("mlr.core.accumulate.BATCH", 16)
    mlr.train(tmp_path / "data", tmp_path / "b.npz", threads=2, recipe="paper")
    for path in sorted((tmp_path / "data").rglob("*.png")):  # other names: another order
        path.rename(path.with_stem(str((int(path.stem) * 7) % 50 + 100)))
    mlr.train(tmp_path / "data", tmp_path / "c.npz", recipe="paper")
    first = (tmp_path / "a.npz").read_bytes()
    assert (tmp_path / "b.npz").read_bytes() == first
    assert (tmp_path / "c.npz").read_bytes() == first


def test_shards_trained_apart_and_added_give_the_same_model_file(tmp_path):
    write_set(tmp_path / "all", range(30))
    for shard in range(3):
        write_set(tmp_path / f"shard{shard}", range(shard, 30, 3))
    mlr.train(tmp_path / "all", tmp_path / "whole.npz", recipe="paper")
    parts = [mlr.statistics(tmp_path / f"shard{shard}", recipe="paper") for shard in (2, 0, 1)]
    summed = fit(Paper(), parts[0] + parts[1] + parts[2])
    mlr.save(summed, tmp_path / "summed.npz")
    assert (tmp_path / "summed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_removed_subjects_leave_no_trace(tmp_path):
    write_set(tmp_path / "all", range(12))
    write_set(tmp_path / "leaves", [3, 7])
    write_set(tmp_path / "stays", [n for n in range(12) if n not in (3, 7)])

    def accumulated(folder):
        return mlr.statistics(tmp_path / folder, recipe="paper")

    left = accumulated("all") - accumulated("leaves")
    mlr.save(fit(Paper(), left), tmp_path / "a.npz")
    mlr.train(tmp_path / "stays", tmp_path / "b.npz", recipe="paper")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_subjects_without_an_expression_count_for_the_others(tmp_path):
    images = write_set(tmp_path / "data", range(10))
    for subject in (2, 5):
        (tmp_path / "data" / "sad" / f"{subject:03d}.png").unlink()
    model = mlr.train(tmp_path / "data", recipe="paper")
    assert model.info.pairs == {"happy": 10, "sad": 8}
    stay = [n for n in range(10) if n not in (2, 5)]
    X = np.stack([images["neutral"][n] for n in stay]) / 255
    T = np.stack([images["sad"][n] for n in stay]) / 255
    offsets = ReceptiveField.square(3).offsets
    expected = naive_masked_regression(X[..., 0], T[..., 0], offsets, 0.4)
    assert np.abs(model.weights[1, 0] - expected).max() < 1e-6


def test_an_image_that_cannot_be_decoded_costs_its_own_pair_alone(tmp_path):
    write_set(tmp_path / "data", range(10))
    broken = tmp_path / "data" / "sad" / "004.png"
    data = broken.read_bytes()
    broken.write_bytes(data[: len(data) // 2])
    with pytest.warns(MlrWarning, match=r"004\.png: is damaged or truncated"):
        model = mlr.train(tmp_path / "data")
    assert model.info.pairs == {"happy": 10, "sad": 9}
    broken.unlink()
    assert mlr.train(tmp_path / "data").weights.tobytes() == model.weights.tobytes()


def test_grey_images_make_a_model_of_one_channel_and_join_colour(tmp_path):
    write_set(tmp_path / "grey", range(6), channels=1)
    assert mlr.train(tmp_path / "grey").shape == (1, 8, 8)
    write_set(tmp_path / "both", range(6), channels=1)
    write_set(tmp_path / "both", range(6, 12), channels=3)
    assert mlr.train(tmp_path / "both").shape == (3, 8, 8)


def test_16_bit_images_give_the_naive_model_also_among_8_bit_ones(tmp_path):
    wide = write_set(tmp_path / "data", range(8), ("happy",), channels=1, dtype=np.uint16)
    flat = write_set(tmp_path / "data", range(8, 14), ("happy",), channels=1)

    def unit(expression):
        arrays = [image / 65535 for image in wide[expression].values()]
        return np.stack(arrays + [image / 255 for image in flat[expression].values()])[..., 0]

    model = mlr.train(tmp_path / "data", threads=2, recipe="paper")
    offsets = ReceptiveField.square(3).offsets
    expected = naive_masked_regression(unit("neutral"), unit("happy"), offsets, 0.4)
    assert np.abs(model.weights[0, 0] - expected).max() < 1e-6
    again = mlr.train(tmp_path / "data", threads=1, recipe="paper")
    assert again.weights.tobytes() == model.weights.tobytes()


def test_one_pair_is_enough(tmp_path):
    write_set(tmp_path / "data", [0], ("happy",))
    model = mlr.train(tmp_path / "data")
    assert np.isfinite(model.weights).all()
    assert model.info.pairs == {"happy": 1}


def test_the_metadata_say_how_the_model_was_made(tmp_path):
    write_set(tmp_path / "data", range(4))
    paper = mlr.train(tmp_path / "data", recipe="paper")
    assert paper.info.recipe == "paper"
    assert paper.info.penalty == 0.4
    assert paper.info.source == "neutral"
    assert paper.info.version == mlr.__version__
    assert len(paper.info.digest) == 64
    other = mlr.train(tmp_path / "data", receptive_field="plus", penalty=1.0, recipe="paper")
    assert other.info.recipe == "custom"
    assert len(other.receptive_field) == 5
    assert other.info.digest == paper.info.digest
    (tmp_path / "data" / "happy" / "000.png").unlink()
    assert mlr.train(tmp_path / "data").info.digest != paper.info.digest


def test_source_and_target_choose_the_folders(tmp_path):
    write_set(tmp_path / "data", range(4))
    model = mlr.train(tmp_path / "data", source="sad", target=["neutral"])
    assert model.expressions == ("neutral",)
    assert model.info.source == "sad"
    with pytest.raises(DataError, match="angry"):
        mlr.train(tmp_path / "data", target=["angry"])
    with pytest.raises(DataError, match="expected a folder 'calm'"):
        mlr.train(tmp_path / "data", source="calm")


def test_an_existing_model_is_not_overwritten_unless_forced(tmp_path):
    write_set(tmp_path / "data", range(4))
    path = tmp_path / "m.npz"
    path.write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="--force"):
        mlr.train(tmp_path / "data", path)
    assert path.read_bytes() == b"old"
    mlr.train(tmp_path / "data", path, force=True)
    assert load(path).expressions == ("happy", "sad")


@pytest.mark.parametrize(
    "options", [{"recipe": "best-ever"}, {"penalty": -1.0}, {"receptive_field": 4}, {"threads": 0}]
)
def test_options_that_make_no_sense_are_refused(options, tmp_path):
    write_set(tmp_path / "data", range(2))
    with pytest.raises(MlrError):
        mlr.train(tmp_path / "data", tmp_path / "m.npz", **options)
    assert not (tmp_path / "m.npz").exists()


def test_removing_the_only_16_bit_pair_leaves_8_bits(tmp_path):
    write_set(tmp_path / "all", range(4), ("happy", "sad"), channels=1)
    write_set(tmp_path / "out", [1], ("sad",), channels=1)
    wide = np.full((8, 8, 1), 40_001, np.uint16)
    for folder in ("all", "out"):
        write_image(tmp_path / folder / "sad" / "001.png", wide, force=True)
    whole = mlr.statistics(tmp_path / "all", recipe="paper")
    assert whole.data_range == 65535
    left = whole - mlr.statistics(tmp_path / "out", recipe="paper")
    (tmp_path / "all" / "sad" / "001.png").unlink()
    never = mlr.statistics(tmp_path / "all", recipe="paper")
    save_statistics(left, tmp_path / "a.npz")
    save_statistics(never, tmp_path / "b.npz")
    assert left.data_range == 255
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
