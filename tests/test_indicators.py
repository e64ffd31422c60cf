"""An indicator knows this bar and earlier ones, keeps the index it was given, and refuses windows that are none."""

import numpy as np
import pandas as pd
import plain
import pytest

from backgrid.errors import ParameterError
from backgrid.indicators import above, check_window, sma


def test_sma_is_the_mean_of_the_last_values_and_nan_before():
    assert sma([1.0, 2.0, 6.0, 4.0], 3).tolist() == pytest.approx([np.nan, np.nan, 3.0, 4.0], nan_ok=True)


def test_sma_of_one_bar_is_the_price():
    assert sma([1.5, 2.5], 1).tolist() == [1.5, 2.5]


def test_sma_of_more_bars_than_there_are_is_nan_everywhere():
    assert np.isnan(sma([1.0, 2.0], 3)).tolist() == [True, True]
    assert np.isnan(sma([1.0, 2.0], 10**400)).all()
    assert sma([], 3).size == 0


@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_sma_that_would_hold_a_missing_value_is_nan_and_later_ones_are_not(missing):
    means = sma([1.0, 2.0, missing, 4.0, 6.0, 8.0], 2)
    assert means.tolist() == pytest.approx([np.nan, 1.5, np.nan, np.nan, 5.0, 7.0], nan_ok=True)
    assert sma([missing, 2.0, 4.0, 6.0], 2).tolist() == pytest.approx([np.nan, np.nan, 3.0, 5.0], nan_ok=True)


def test_sma_equals_the_plain_twin_on_real_closes(aapl):
    for window in (1, 20, 250):
        given, expected = sma(aapl["Close"], window), plain.sma(aapl["Close"].tolist(), window)
        assert given.tolist() == pytest.approx(expected, rel=1e-15, nan_ok=True)


def test_series_keeps_its_index_and_an_array_stays_an_array(aapl):
    line = sma(aapl["Close"], 20)
    assert isinstance(line, pd.Series) and line.index.equals(aapl.index)
    assert isinstance(above(line, sma(aapl["Close"], 50)), pd.Series)
    assert isinstance(sma(aapl["Close"].to_numpy(), 20), np.ndarray)
    assert isinstance(above(np.ones(3), 0.5), np.ndarray)


def test_sma_leaves_its_input_as_it_was():
    values = np.array([1.0, np.nan, 3.0])
    sma(values, 2)
    assert values.tolist() == pytest.approx([1.0, np.nan, 3.0], nan_ok=True)


def test_above_is_strict_and_nan_where_a_side_is():
    assert above([1.0, 2.0, 3.0, np.nan, 5.0], [2.0, 2.0, 2.0, 2.0, np.nan]).tolist() == pytest.approx(
        [0.0, 0.0, 1.0, np.nan, np.nan], nan_ok=True
    )


def test_above_takes_a_level_on_either_side():
    line = pd.Series([1.0, 2.0, 3.0], index=[7, 8, 9])
    assert above(line, 2.0).to_dict() == {7: 0.0, 8: 0.0, 9: 1.0}
    assert above(2.0, line).to_dict() == {7: 1.0, 8: 0.0, 9: 0.0}


@pytest.mark.parametrize("window", [1, 7, np.int64(5), 10**400], ids=["1", "7", "int64", "huge"])
def test_whole_numbers_from_1_on_are_windows(window):
    assert check_window("window", window) == window
    assert type(check_window("window", window)) is int


@pytest.mark.parametrize("window", [2.5, 2.0, "10", True, np.bool_(True), None, np.nan, 1e9, [5]], ids=repr)
def test_window_that_is_no_whole_number_is_refused_by_name(window):
    with pytest.raises(ParameterError, match=r"^fast_window must be a whole number of bars, got "):
        check_window("fast_window", window)


@pytest.mark.parametrize("window", [0, -5, -(10**400)], ids=["0", "-5", "huge"])
def test_window_below_1_is_refused_by_name_in_one_short_line(window):
    with pytest.raises(ParameterError, match=r"^window must be at least 1 bar, got -?[0-9]") as caught:
        sma([1.0, 2.0], window)
    assert len(str(caught.value)) < 100
