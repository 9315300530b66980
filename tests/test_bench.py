"""`mlr bench`: its result and output, and that wrong results make it fail. No times."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest

from mlr.bench import bench, seconds, stages, table
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import MlrError
from mlr.utils.threads import limited

SMALL = {"sizes": (16,), "pairs": 6, "threads": 1, "repeat": 1}
OPTIONS = ("--size", 16, "--pairs", 6, "--threads", 1, "--repeat", 1)
UNITS = {
    "decode": "MB/s",
    "train": "MB/s",
    "features": "Mpx/s",
    "register": "Mpx/s",
    "warp": "Mpx/s",
    "change": "Mpx/s",
    "accumulate": "Gop/s",
    "solve": "Gop/s",
    "apply": "GB/s",
    "batch": "Gop/s",
    "synthesize": "GB/s",
}


@pytest.fixture(autouse=True, scope="module")
def short():
    """Neither pause nor repeat short runs, and apply few models in turn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "PAUSE", 0)
        patch.setattr(stages, "SHORTEST", 0)
        patch.setattr(stages, "CACHE", 0)
        yield


@pytest.fixture(scope="module")
def result():
    return bench(**SMALL)


def test_every_stage_has_a_time_and_a_rate(result):
    assert {entry["stage"]: entry["unit"] for entry in result["stages"]} == UNITS
    assert len(result["stages"]) == len(UNITS) + 1  # two recipes
    for entry in result["stages"]:
        seconds = entry["seconds"]
        assert seconds["runs"] == 1
        assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"]
        assert entry["size"] == 16
        assert entry["rate"] > 0
        if entry["items"] is not None:
            assert entry["items_per_second"] == pytest.approx(entry["items"] / seconds["median"])


def test_the_machine_is_named(result):
    described = result["machine"]
    assert described["processor"]
    assert described["threads"] == 1
    assert described["python"] == ".".join(map(str, sys.version_info[:3]))
    assert described["numpy"] == np.__version__
    assert result["settings"]["receptive_fields"] == ["3x3"]
    assert result["peak_memory"] is None or result["peak_memory"] > 0
    assert result["first_calls"][-1]["name"] == "kernels"
    assert result["first_calls"][-1]["seconds"] > 0


def test_json_stands_alone_on_stdout(run):
    done = run("bench", *OPTIONS, "--receptive-field", "plus", "--json")
    found = json.loads(done.out)
    assert done.code == 0
    assert found["settings"]["sizes"] == [16]
    assert found["settings"]["receptive_fields"] == ["plus"]
    assert found["failures"] == []
    assert "agree with plain NumPy" in done.err


def test_quiet_prints_the_table_alone(run):
    done = run("bench", *OPTIONS, "--quiet")
    assert done.code == 0
    assert done.err == ""
    for text in (*UNITS, "mlr ", "Python ", "kernels"):
        assert text in done.out


def test_the_table_is_narrow_and_does_without_what_is_unknown(result):
    text = table(result)
    assert max(map(len, text.splitlines())) <= 100
    assert result["machine"]["processor"] in text.splitlines()[0]
    assert "Peak memory" not in table(result | {"peak_memory": None})


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.34, "12.3 s"), (0.9999, "1.00 s"), (0.0123, "12.3 ms"), (2e-5, "20.0 us"), (0, "0.00 us")],
)
def test_times_have_three_digits(value, text):
    assert seconds(value) == text


@pytest.mark.parametrize("wrong", [1e-3, math.nan])
def test_wrong_weights_make_it_fail(run, monkeypatch, wrong):
    right = stages.Problem.model

    def model(problem):
        found = right(problem)
        found.weights[..., 0, 0] += wrong
        return found

    monkeypatch.setattr(stages.Problem, "model", model)
    done = run("bench", *OPTIONS, "--json")
    assert done.code == 1
    assert done.out == ""
    assert "wrong result for 6 pairs of 16 px, 3x3: the weights differ" in done.err


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_wrong_pixels_make_it_fail(monkeypatch, dtype):
    right = stages.Model.synthesize

    def synthesize(model, images):
        return right(model, images) + np.ones((), dtype) * (images.dtype == dtype)

    monkeypatch.setattr(stages.Model, "synthesize", synthesize)
    with pytest.raises(MlrError, match="wrong result"):
        bench(**SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": (8,)}, "at least 16"),
        ({"pairs": 0}, "number of pairs"),
        ({"repeat": 0}, "repetitions"),
        ({"receptive_field": 4}, "odd"),
        ({"threads": 0}, "threads"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(MlrError, match=message):
        bench(**(SMALL | options))


@pytest.mark.parametrize("args", [("--size", "8"), ("--repeat", "0"), ("--pairs", "x")])
def test_wrong_usage(run, args):
    assert run("bench", *args).code == 2


def test_operations_are_those_that_the_mathematics_needs():
    """Counted pixel by pixel, tap by tap."""
    images = np.zeros((7, 4, 4, 1), np.uint8)
    problem = stages.Problem(ReceptiveField.square(3), images, images)
    pixels = [(y, x) for y in range(4) for x in range(4)]

    def inside(y, x):
        return 0 <= y < 4 and 0 <= x < 4

    taps, lags = problem.field.offsets, [*map(tuple, problem.field.lag_table.lags)]
    products = sum(inside(y + dy, x + dx) for y, x in pixels for dy, dx in (*lags, *taps))
    counts = [sum(inside(y + dy, x + dx) for dy, dx in taps) for y, x in pixels]
    assert stages.operations(problem) == {
        "accumulate": 2 * 7 * products,
        "solve": int(sum((1 + n) ** 3 / 3 + 2 * (1 + n) ** 2 for n in counts)),
        "batch": 2 * 7 * sum(counts),
    }


def test_generated_pairs_are_distinct_and_repeatable():
    pair = stages.generate(16, 20)
    for images in pair:
        assert images.shape == (20, 16, 16, 1)
        assert images.dtype == np.uint8
        assert len({image.tobytes() for image in images}) == 20
    with limited(1):
        np.testing.assert_array_equal(pair, stages.generate(16, 20))
