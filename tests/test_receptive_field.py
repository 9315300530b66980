import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlr.core.receptive_field import ReceptiveField
from mlr.errors import MlrError, OptionError

offsets = st.lists(
    st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=12, unique=True
)


@pytest.mark.parametrize(("side", "lags"), [(1, 1), (3, 13), (5, 41), (7, 85)])
def test_square_window_has_one_lag_for_each_difference_up_to_sign(side, lags):
    field = ReceptiveField.square(side)
    assert len(field) == side * side
    assert len(field.lag_table.lags) == lags


@given(offsets)
def test_lag_table_leads_from_one_tap_to_the_other(taps):
    field = ReceptiveField.of(taps)
    table = field.lag_table
    for a in range(len(taps)):
        for b in range(len(taps)):
            base = table.base_of[a, b]
            other = b if base == a else a
            lag = table.lags[table.lag_of[a, b]]
            assert base in (a, b)
            assert tuple(field.taps[base] + lag) == taps[other]
    assert np.array_equal(table.lag_of, table.lag_of.T)
    backward = (table.lags[:, 0] < 0) | ((table.lags[:, 0] == 0) & (table.lags[:, 1] < 0))
    assert not backward.any()


@pytest.mark.parametrize("spec", [3, "3", ReceptiveField.square(3)])
def test_a_square_is_described_by_its_side(spec):
    assert ReceptiveField.of(spec) == ReceptiveField.square(3)
    assert str(ReceptiveField.of(spec)) == "3x3"


def test_a_preset_is_described_by_its_name():
    assert len(ReceptiveField.of("plus")) == 5
    assert len(ReceptiveField.of("disc")) == 29
    assert str(ReceptiveField.of("plus")) == "plus"


@pytest.mark.parametrize(
    "spec", [0, 2, -3, "4", "round", "3.0", "", "\u0663", [], [(0, 1), (0, 1)]]
)
def test_what_is_no_receptive_field_is_refused(spec):
    with pytest.raises(MlrError):
        ReceptiveField.of(spec)


@pytest.mark.parametrize("spec", [47, 10**30 + 1, "9" * 5000, [(0, x) for x in range(2049)]])
def test_a_receptive_field_of_too_many_taps_is_refused(spec):
    with pytest.raises(OptionError, match="up to 2048 taps"):
        ReceptiveField.of(spec)
