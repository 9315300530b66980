"""The benchmark: what it returns and prints, and that wrong results make it fail. No times."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest

from mlr.bench import bench, machine, peers, plain, stages, table, timing
from mlr.bench.work import Data, Work, generated
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import MlrError

SMALL = {"sizes": (16,), "pairs": 6, "threads": 1, "repeat": 1}
FIRST = {"train": "plain NumPy", "apply": "plain NumPy", "batch": "SciPy's sparse matrix"}
OPTIONS = ("--size", 16, "--pairs", 6, "--threads", 1, "--repeat", 1)
UNITS = {
    "decode": "MB/s",
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
def small_limits():
    """Measure the machine's limits on something small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "MATRIX", 64)
        patch.setattr(machine, "COPIED", 1 << 16)
        patch.setattr(timing, "PAUSE", 0)
        patch.setattr(timing, "SHORTEST", 0)
        yield


@pytest.fixture(scope="module")
def result():
    return bench(**SMALL)


def assert_seconds(seconds, runs=1):
    assert seconds["runs"] == runs
    assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"]


def test_every_stage_has_a_time_a_rate_and_a_limit(result):
    assert {entry["stage"]: entry["unit"] for entry in result["stages"]} == UNITS
    for entry in result["stages"]:
        assert_seconds(entry["seconds"])
        assert entry["size"] == 16
        assert entry["rate"] > 0
        if entry["unit"] == "Mpx/s":
            assert entry["limit"] is entry["limit_name"] is entry["fraction"] is None
        else:
            assert entry["limit"] > 0
            assert entry["fraction"] == pytest.approx(entry["rate"] / entry["limit"])
        if entry["items"] is not None:
            speed = entry["items"] / entry["seconds"]["median"]
            assert entry["items_per_second"] == pytest.approx(speed)


def test_limits_and_first_calls_are_measured(result):
    assert {name: limit["unit"] for name, limit in result["limits"].items()} == {
        "float32": "Gop/s",
        "float64": "Gop/s",
        "copy": "GB/s",
    }
    for limit in result["limits"].values():
        assert limit["rate"] > 0
        assert_seconds(limit["seconds"])
    names = [call["name"] for call in result["first_calls"]]
    assert names[-9:] == [
        *(f"{kernel}, {bits} bits" for bits in (8, 16) for kernel in ("pack", "products", "sums")),
        "solve",
        "apply",
        "registration",
    ]
    assert all(call["seconds"] > 0 for call in result["first_calls"])
    assert all(isinstance(call["compiled"], bool) for call in result["first_calls"])


def test_other_ways_give_the_same_results(result):
    assert [entry["task"] for entry in result["comparisons"]] == ["train", "apply", "batch"]
    for entry in result["comparisons"]:
        assert_seconds(entry["seconds"])
        assert entry["peers"][0]["name"] == FIRST[entry["task"]]
        for peer in entry["peers"]:
            assert_seconds(peer["seconds"])
            assert peer["difference"] <= stages.TOLERANCE
            ratio = peer["seconds"]["median"] / entry["seconds"]["median"]
            assert peer["ratio"] == pytest.approx(ratio)
            assert peer["ratio_of_fastest"] > 0


def test_the_machine_is_named(result):
    described = result["machine"]
    assert described["processor"]
    assert described["threads"] == 1
    assert described["python"] == ".".join(map(str, sys.version_info[:3]))
    assert described["numpy"] == np.__version__
    assert result["settings"]["receptive_fields"] == ["3x3"]
    assert result["peak_memory"] is None or result["peak_memory"] > 0


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
    for text in (*UNITS, "mlr ", "Python ", "times as long as mlr", "matrix product, float32"):
        assert text in done.out


def test_the_table_is_narrow_and_complete(result):
    lines = table.table(result).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("  accumulate ") for line in lines) == 1
    assert result["machine"]["processor"] in lines[0]


def test_the_table_does_without_what_is_unknown(result):
    unknown = result | {
        "peak_memory": None,
        "machine": result["machine"] | {"blas": {"name": "blas", "threads": None, "kernel": None}},
    }
    text = table.table(unknown)
    assert "Peak memory" not in text
    assert "blas (threads unknown)" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.34, "12.3 s"), (0.9999, "1.00 s"), (0.0123, "12.3 ms"), (2e-5, "20.0 us"), (0, "0.00 us")],
)
def test_times_have_three_digits(value, text):
    assert table.seconds(value) == text


def test_optional_packages_may_be_missing(monkeypatch):
    for name in ("threadpoolctl", "sklearn.linear_model", "scipy.sparse", "torch", "resource"):
        monkeypatch.setitem(sys.modules, name, None)
    found = bench(**SMALL)
    assert found["machine"]["blas"]["threads"] is None
    assert found["machine"]["blas"]["kernel"] is None
    assert found["peak_memory"] is None
    names = {peer["name"] for entry in found["comparisons"] for peer in entry["peers"]}
    assert names == {"plain NumPy", "NumPy, tuned, in 1 thread"}


@pytest.mark.parametrize("module", [stages, peers])
@pytest.mark.parametrize("wrong", [1e-3, math.nan])
def test_wrong_weights_make_it_fail(run, monkeypatch, module, wrong):
    right = module.solve

    def solve(*args):
        weights = right(*args)
        weights[..., 0, 0] += wrong
        return weights

    monkeypatch.setattr(module, "solve", solve)
    done = run("bench", *OPTIONS, "--json")
    assert done.code == 1
    assert done.out == ""
    assert "wrong result for 6 pairs of 16 px, 3x3: the weights differ" in done.err


def test_wrong_products_make_it_fail(monkeypatch):
    from mlr.core import accumulate

    def wrong(jobs):
        for *_, planes in jobs:
            planes += 1000

    monkeypatch.setattr(accumulate, "add_products", wrong)
    with pytest.raises(MlrError, match="wrong result"):
        bench(**SMALL)


def test_wrong_pixels_make_it_fail(monkeypatch):
    right = peers.apply
    monkeypatch.setattr(peers, "apply", lambda *args: right(*args) + np.float32(0.01))
    with pytest.raises(MlrError, match="the pixels differ"):
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
def test_options_that_make_no_sense(options, message):
    with pytest.raises(MlrError, match=message):
        bench(**(SMALL | options))


@pytest.mark.parametrize("args", [("--size", "8"), ("--repeat", "0"), ("--pairs", "x")])
def test_wrong_usage(run, args):
    assert run("bench", *args).code == 2


def test_operations_are_those_that_the_mathematics_needs():
    """Counted pixel by pixel, tap by tap."""
    work = Work(4, 7, ReceptiveField.square(3))
    pixels = [(y, x) for y in range(4) for x in range(4)]

    def inside(y, x):
        return 0 <= y < 4 and 0 <= x < 4

    offsets = [*map(tuple, work.field.lag_table.lags), *work.field.offsets]
    products = 7 * sum(inside(y + dy, x + dx) for y, x in pixels for dy, dx in offsets)
    assert work.accumulate_operations == 2 * products
    unknowns = [1 + sum(inside(y + dy, x + dx) for dy, dx in work.field.offsets) for y, x in pixels]
    assert work.solve_operations == int(sum(n**3 / 3 + 2 * n**2 for n in unknowns))


def test_generated_pairs_are_distinct_and_repeatable():
    data = generated(16, 20, threads=2)
    assert data.sources.shape == data.targets.shape == (20, 16, 16, 1)
    assert data.sources.dtype == np.uint8
    assert len({image.tobytes() for image in data.sources}) == 20
    again = generated(16, 20, threads=1)
    np.testing.assert_array_equal(data.sources, again.sources)
    np.testing.assert_array_equal(data.targets, again.targets)


@pytest.mark.parametrize("spec", [1, 3, "plus", [(0, 0), (-2, 1)]])
def test_plain_numpy_solves_least_squares(spec):
    """The reference itself, against one pixel's least-squares problem solved directly."""
    field, penalty = ReceptiveField.of(spec), 0.4
    data = Data(*np.random.default_rng(1).integers(0, 256, (2, 9, 6, 5, 1), np.uint8))
    y, x = 1, 4
    columns = [
        data.sources[:, y + dy, x + dx, 0] / 255
        if 0 <= y + dy < 6 and 0 <= x + dx < 5
        else np.zeros(9)
        for dy, dx in field.offsets
    ]
    z = np.stack([*columns, np.ones(9)], axis=1)
    ridge = np.sqrt(penalty) * np.eye(z.shape[1])
    t = np.concatenate([data.targets[:, y, x, 0] / 255, np.zeros(z.shape[1])])
    expected = np.linalg.lstsq(np.concatenate([z, ridge]), t)[0]
    whole = plain.weights(data.sources, data.targets, field, penalty)
    band = plain.weights(data.sources, data.targets, field, penalty, 1, 2)
    np.testing.assert_allclose(whole[:, y, x], expected, atol=1e-6)
    np.testing.assert_array_equal(whole[:, 1:3], band)
    image = data.sources[0, ..., 0] / np.float32(255)
    pixel = plain.applied(whole, field, image)[y, x]
    assert pixel == pytest.approx(z[0] @ expected, abs=1e-5)
