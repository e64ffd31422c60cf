"""Axes, lines and rules stand for the numbers, series and signals of every combination; a memory changes no number."""

import contextlib
import operator
from collections import Counter

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backgrid import _kernels, indicators
from backgrid.errors import ParameterError
from backgrid.indicators import (
    above,
    atr,
    below,
    bollinger,
    check_above_zero,
    check_fast_below_slow,
    check_window,
    crossed_above,
    donchian,
    ema,
    latch,
    macd,
    rolling_rank,
    rsi,
    sma,
    zscore,
)
from backgrid.lines import (
    GONE,
    Axis,
    Lines,
    NotTraceable,
    Rule,
    TooManyLines,
    as_rule,
    each,
    remembered,
    remembering,
    room_for_lines,
)

NAN = float("nan")
SEEDS = st.integers(0, 2**32)
N_BARS = 40


def axes(*values):
    """An axis for each list of values, and what they have refused."""
    refused = []
    return [Axis(given, place, len(values), refused) for place, given in enumerate(values)], refused


def holed(seed, n_bars=N_BARS):
    """A Series of a few numbers that meet, with a warm-up and gaps."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(1, 9, n_bars) / rng.choice([1.0, 3.0])
    numbers[rng.random(n_bars) < rng.choice([0.0, 0.1])] = NAN
    numbers[: rng.integers(0, 10)] = NAN
    return pd.Series(numbers, index=pd.bdate_range("2023-01-02", periods=n_bars))


def holed_bars(seed):
    """Bars, some of which lack a High."""
    bars = plain.random_bars(seed, N_BARS)
    bars.iloc[np.random.default_rng(seed).integers(0, N_BARS, 2), 1] = NAN
    return bars


# ---- axes ------------------------------------------------------------------------------------------------------------

USES = {
    "if": bool,
    "int()": int,
    "float()": float,
    "range()": range,
    "len()": len,
    "a loop": list,
    "a dict": hash,
    "==": lambda x: x == 3,
    "<": lambda x: x < 3,
    "max()": lambda x: max(x, 3),
    "NumPy": np.sqrt,
    "np.where": lambda x: np.where(x, 1.0, 0.0),
    "np.asarray": lambda x: np.asarray(x, dtype=float),
    "Series + rolling": lambda x: pd.Series([1.0, 2.0]).rolling(x).mean(),
    "Series.shift": lambda x: pd.Series([1.0, 2.0]).shift(x),
    "Series >": lambda x: pd.Series([1.0, 2.0]) > x,
    "a slice": lambda x: [1, 2, 3][:x],
    "//": lambda x: x // 2,  # of these three NumPy rounds a line and many lines otherwise
    "%": lambda x: 7 % x,
    "**": lambda x: x**2,
    "np.where with a size": lambda x: np.where(x, 0.5, 0.0),
}
SYMBOLS = {
    "axis": Axis([1, 2], 0, 1, []),
    "lines": Lines(np.ones((2, 2))),
    "rule": above(Lines(np.ones((2, 2))), 1.0),
}
MEANT = {("lines", "<"), ("lines", "Series >"), ("rule", "np.where")}


@pytest.mark.parametrize(("symbol", "use"), [(s, use) for s in SYMBOLS for use in USES if (s, use) not in MEANT])
def test_what_needs_one_number_refuses_an_axis(symbol, use):
    with pytest.raises((TypeError, ValueError)):
        USES[use](SYMBOLS[symbol])


def test_what_numpy_does_otherwise_to_a_short_position_is_refused():
    """There -1 & 1 is 1, -1 | 1 is -1, and -1 is true."""
    lines = Lines(np.ones((2, 2)))
    long, short = lines > 0.5, np.where(lines > 0.5, -1, 0)
    for use in (
        lambda: short & long,
        lambda: long | short,
        lambda: ~short,
        lambda: short.astype(bool),
        lambda: -1 | short,
    ):
        with pytest.raises(TypeError):
            use()
    assert short.astype(float) is short and short.astype("int8") is short and long.astype(bool) is long


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv"])
def test_lines_are_not_changed_in_place(name):
    with pytest.raises(TypeError):
        getattr(operator, name)(Lines(np.ones((2, 2))), 1.0)


@pytest.mark.parametrize("name", ["iand", "ior", "isub"])
def test_rules_are_not_changed_in_place(name):
    """Who else holds a Series sees that: `both = rule; both &= other` changes rule, too."""
    with pytest.raises(TypeError):
        getattr(operator, name)(Lines(np.ones((2, 2))) > 0.5, True)


def test_a_signal_that_is_not_known_everywhere_is_no_truth_value():
    """In NumPy NaN counts as true."""
    unknown = above(Lines(np.array([[NAN, 2.0]])), 1.0)
    for use in (lambda: np.where(unknown, 1.0, 0.0), lambda: unknown.astype(int)):
        with pytest.raises(TypeError):
            use()


OPERATORS = ["add", "sub", "mul", "truediv"]
every_operator = pytest.mark.parametrize("name", OPERATORS)


@every_operator
def test_an_axis_and_a_number_make_an_axis_of_plain_numbers(name):
    function, (axis,) = getattr(operator, name), axes([1, 2, 7])[0]
    assert function(axis, 3).values == [function(value, 3) for value in (1, 2, 7)]
    assert function(3, axis).values == [function(3, value) for value in (1, 2, 7)]
    assert {type(value) for value in (axis * 2).values} == {int}  # still windows


def arranged(function, fast, slow, close, other):
    """Two lines, a line and a number, a Series or an array, either way round; the windows may be axes."""
    a, b = sma(close, fast), sma(other, slow)
    return [
        *(function(a, b), function(a, slow), function(fast, b), function(a, 2.0), function(2.0, a)),
        *(function(a, other), function(other, a), function(other.to_numpy(), b)),
    ]


@every_operator
@given(seed=SEEDS)
@settings(max_examples=60)
def test_lines_are_the_series_of_each_combination(name, seed):
    function, close, other = getattr(operator, name), holed(seed), holed(seed + 1)
    (fast, slow), _ = axes([1, 3], [2, 5])
    made = arranged(function, fast, slow, close, other)
    for i, j in np.ndindex(2, 2):
        singles = arranged(function, [1, 3][i], [2, 5][j], close, other)
        for lines, single in zip(made, singles, strict=True):
            row = np.broadcast_to(lines.rows, (2, 2, N_BARS))[i, j]
            np.testing.assert_array_equal(row, np.asarray(single, dtype=float))


@pytest.mark.parametrize("periods", [0, 1, 3, 39, 40, 99, -1, -40, -99])
def test_shifted_lines_are_shifted_series(periods):
    close, ((window,), _) = holed(1), axes([1, 4])
    shifted = sma(close, window).shift(periods)
    for row, single in zip(shifted.rows, (sma(close, w).shift(periods) for w in (1, 4)), strict=True):
        np.testing.assert_array_equal(row, single)


def test_minus_lines_are_minus_series():
    close, ((window,), _) = holed(1), axes([1, 4])
    np.testing.assert_array_equal((-sma(close, window)).rows[1], -sma(close, 4))


# ---- indicators of axes ----------------------------------------------------------------------------------------------

WINDOWS = [1, 2, 5, 39, 40, 41, 10**6, 10**400]
INDICATORS = {
    "sma": lambda bars, close, w: sma(close, w),
    "ema": lambda bars, close, w: ema(close, w),
    "rsi": lambda bars, close, w: rsi(close, w),
    "rolling_rank": lambda bars, close, w: rolling_rank(close, w),
    "atr": lambda bars, close, w: atr(bars, w),
    "donchian lower": lambda bars, close, w: donchian(bars, w).lower,
    "donchian middle": lambda bars, close, w: donchian(bars, w).middle,
    "donchian upper, shifted": lambda bars, close, w: donchian(bars, w).upper.shift(1),
    "bollinger lower": lambda bars, close, w: bollinger(close, w, 1.5).lower,
    "bollinger upper": lambda bars, close, w: bollinger(close, w, 1.5).upper,
    "chained": lambda bars, close, w: sma(rsi(close, w), 3),
    "twice": lambda bars, close, w: ema(sma(close, w), w),
}


@pytest.mark.parametrize("indicator", INDICATORS.values(), ids=INDICATORS)
@given(seed=SEEDS)
def test_an_indicator_of_an_axis_is_that_of_each_value(indicator, seed):
    bars, close, ((window,), refused) = holed_bars(seed), holed(seed), axes(WINDOWS)
    lines = indicator(bars, close, window)
    for row, value in zip(lines.rows, WINDOWS, strict=True):
        np.testing.assert_array_equal(row, indicator(bars, close, value).to_numpy())
    assert not refused


@given(SEEDS)
def test_an_indicator_of_two_axes_is_that_of_each_pair(seed):
    close, windows, widths = holed(seed), [2, 5, 60], [0.5, 2.0]
    (window, width), _ = axes(windows, widths)
    lines = bollinger(close, window, width).upper.rows
    for i, j in np.ndindex(3, 2):
        np.testing.assert_array_equal(lines[i, j], bollinger(close, windows[i], widths[j]).upper)


@given(SEEDS)
def test_an_indicator_of_three_axes_is_that_of_each_triple(seed):
    close, fasts, slows, signals = holed(seed), [1, 3], [4, 9], [1, 5, 50]
    (fast, slow, signal), refused = axes(fasts, slows, signals)
    lines = macd(close, fast, slow, signal)
    for i, j, k in np.ndindex(2, 2, 3):
        single = macd(close, fasts[i], slows[j], signals[k])
        np.testing.assert_array_equal(np.broadcast_to(lines.line.rows, (2, 2, 3, N_BARS))[i, j, k], single.line)
        np.testing.assert_array_equal(lines.signal.rows[i, j, k], single.signal)
        np.testing.assert_array_equal(lines.histogram.rows[i, j, k], single.histogram)
    assert not refused


def test_zscore_leaves_out_the_window_that_it_refuses():
    close, ((window,), refused) = holed(1), axes([1, 2, 5])
    rows = zscore(close, window).rows
    np.testing.assert_array_equal(rows[2], zscore(close, 5))
    assert np.isnan(rows[0]).all() and [array.tolist() for array in refused] == [[True, False, False]]


@pytest.mark.parametrize("seed", range(5))
def test_a_huge_spike_and_a_constant_leave_no_trace_in_lines_either(seed):
    close = pd.Series(np.where(np.arange(N_BARS) == 5 * seed, 1e12, 0.1))
    (window,), _ = axes([1, 2, 3])
    rows = sma(close, window).rows
    after = np.arange(N_BARS) >= 5 * seed + 3
    assert (rows[:, after] == 0.1).all()


# ---- what is refused -------------------------------------------------------------------------------------------------


def refusals(refused, shape):
    """All that was refused, in one array."""
    found = np.zeros(shape, dtype=bool)
    for array in refused:
        found |= array
    return found


def test_a_window_that_is_none_refuses_its_combinations():
    (window, _), refused = axes([0, 2, -3], [1, 2])
    kept = check_window("window", window)
    assert kept.values == [GONE, 2, GONE]
    assert refusals(refused, (3, 2)).tolist() == [[True, True], [False, False], [True, True]]


def test_a_pair_the_wrong_way_round_is_refused_and_no_other():
    (fast, slow), refused = axes([0, 2, 5], [2, 5, 9])
    check_fast_below_slow(fast, slow)
    expected = [[True, True, True], [True, False, False], [True, True, False]]
    assert refusals(refused, (3, 3)).tolist() == expected


def test_one_window_against_an_axis_is_refused_alike():
    (slow,), refused = axes([2, 5, 9])
    check_fast_below_slow(5, slow)
    assert refusals(refused, (3,)).tolist() == [True, True, False]


def test_a_level_that_is_none_is_refused():
    (width,), refused = axes([0.0, 1.5, -1.0, NAN])
    assert check_above_zero("width", width).values[1] == 1.5
    assert refusals(refused, (4,)).tolist() == [True, False, True, True]


def test_each_computes_a_line_for_each_combination_and_skips_what_is_refused():
    asked = []

    def line(window, width):
        asked.append((window, width))
        if window * width > 8:
            raise ParameterError("too wide")
        return np.full(3, window * width)

    (window, width), refused = axes([2, GONE, 4], [1, 3])
    rows = each(line, window, width).rows
    np.testing.assert_array_equal(rows[..., 0], [[2, 6], [NAN, NAN], [4, NAN]])
    assert asked == [(2, 1), (2, 3), (4, 1), (4, 3)]
    assert refusals(refused, (3, 2)).tolist() == [[False, False], [False, False], [False, True]]


def test_each_without_axes_just_calls():
    assert each(lambda a, b: a + b, 2, 3) == 5


def test_lines_that_have_no_room_are_not_computed():
    (window,), _ = axes(list(range(1, 101)))
    close = pd.Series(np.arange(1.0, 1001.0))
    calls = []

    def line(window):
        calls.append(window)
        return close.to_numpy()

    for work in (lambda: sma(close, window), lambda: each(line, window)):
        with pytest.raises(TooManyLines), room_for_lines(100 * 1000 * 8 - 1):
            work()
    assert len(calls) == 1
    with room_for_lines(100 * 1000 * 8):
        assert sma(close, window).rows.shape == (100, 1000)


def test_the_product_of_two_axes_is_counted_before_it_is_made():
    (fast, slow), _ = axes(list(range(1, 1001)), list(range(1, 1001)))
    close = pd.Series(np.arange(1.0, 101.0))
    with pytest.raises(TooManyLines), room_for_lines(10**7):
        sma(close, fast) - sma(close, slow)


@pytest.mark.parametrize(
    ("error", "use"), [(NotTraceable, bool), (TooManyLines, lambda axis: sma(np.arange(1.0, 101.0), axis))]
)
def test_what_a_function_catches_is_raised_in_the_end(error, use):
    (axis,), _ = axes(list(range(1, 101)))
    with pytest.raises(error), room_for_lines(10**4), contextlib.suppress(error):
        use(axis)


# ---- rules -----------------------------------------------------------------------------------------------------------


def a_rule():
    return above(Lines(np.ones((1, 5))), 0.5)


@pytest.mark.parametrize("other", [0.5, 2, "x", np.array([0.0, 0.3, 1.0, 1.0, 1.0]), np.ones((5, 5))], ids=str)
@pytest.mark.parametrize("name", ["and_", "or_", "sub"])
def test_a_rule_combines_with_nothing_but_signals(name, other):
    for left, right in ((a_rule(), other), (other, a_rule())):
        with pytest.raises((TypeError, ValueError)):
            getattr(operator, name)(left, right)


@pytest.mark.parametrize(
    "make",
    [
        lambda short: ~short,
        lambda short: short - a_rule(),
        lambda short: a_rule() - short,
        lambda short: ~(short & a_rule()),
        lambda short: ~a_rule().fillna(short),
        lambda short: 2.0 * short,
        lambda short: -short,
        lambda short: short.shift(1),
        lambda short: above(short, 0.0),
        lambda short: sma(short, 3),
    ],
)
def test_what_a_short_signal_would_make_of_a_position_is_no_rule(make):
    with pytest.raises((TypeError, AttributeError)):
        make(a_rule() - a_rule())


def test_truth_values_on_either_side_make_a_rule():
    truth = pd.Series([True, False, True, False, True])
    for rule in (
        a_rule() & truth,
        truth & a_rule(),
        a_rule() | truth,
        truth | a_rule(),
        a_rule() - truth,
        1 - a_rule(),
    ):
        assert isinstance(rule, Rule)


@pytest.mark.parametrize("line", [[0.0, 1.0, NAN], [True, False, True], [0, 1, 1], [NAN, NAN, NAN]], ids=str)
def test_a_line_of_zeros_and_ones_is_a_rule(line):
    assert isinstance(as_rule(line, 1), Rule)


@pytest.mark.parametrize("line", [[0.0, -1.0], [0.0, 0.5], [np.inf, 1.0], [[0.0, 1.0]], ["a", "b"]], ids=str)
def test_any_other_line_is_none(line):
    with pytest.raises((NotTraceable, ValueError, TypeError)):
        as_rule(line, 1)


def test_comparisons_of_axes_are_rules_and_of_series_are_series():
    close, ((window,), _) = holed(1), axes([2, 3])
    line = sma(close, window)
    for rule in (above(close, line), below(line, 3.0), crossed_above(line, close), above(close, window)):
        assert isinstance(rule, Rule)
    assert isinstance(latch(above(close, line), close > 3.0), Rule)
    assert isinstance(latch(close > 3.0, above(close, line)), Rule)
    assert isinstance(above(close, 3.0), pd.Series)


# ---- the memory ------------------------------------------------------------------------------------------------------

REMEMBERED = {
    "sma": lambda bars: sma(bars["Close"], 3),
    "by name": lambda bars: sma(bars["Close"], window=3),
    "ema": lambda bars: ema(bars["Close"], 3),
    "rsi": lambda bars: rsi(bars["Close"], 3),
    "zscore": lambda bars: zscore(bars["Close"], 3),
    "rank": lambda bars: rolling_rank(bars["Close"], 3),
    "atr": lambda bars: atr(bars, 3),
    "macd": lambda bars: macd(bars["Close"], 2, 5, 3),
    "bollinger": lambda bars: bollinger(bars["Close"], 3, width=1.5),
    "donchian": lambda bars: donchian(bars, 3),
    "of the High": lambda bars: sma(bars["High"], 3),
    "of an array": lambda bars: sma(bars["Close"].to_numpy(), 3),
    "of fewer bars": lambda bars: sma(bars["Close"].iloc[5:], 3),
    "of every other bar": lambda bars: sma(bars["Close"].iloc[::2], 3),
    "backwards": lambda bars: sma(bars["Close"].iloc[::-1], 3),
    "of what was computed": lambda bars: sma(bars["Close"] * 2.0, 3),
    "of an indicator": lambda bars: sma(sma(bars["Close"], 3), 4),
    "of a list": lambda bars: sma(bars["Close"].tolist(), 3),
}


def same(left, right):
    """Equal to the bit, in numbers, index and kind."""
    lefts, rights = (value if isinstance(value, tuple) else (value,) for value in (left, right))
    for a, b in zip(lefts, rights, strict=True):
        assert type(a) is type(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
        assert not isinstance(a, pd.Series) or a.index.equals(b.index)


@pytest.mark.parametrize("ask", REMEMBERED.values(), ids=REMEMBERED)
def test_the_memory_gives_what_is_computed(ask):
    bars = plain.random_bars(3, N_BARS)
    expected = ask(bars)
    with remembering(bars, 100):
        same(ask(bars.copy(deep=False)), expected)
        same(ask(bars.copy(deep=False)), expected)


@pytest.fixture
def computed(monkeypatch):
    """How often means were computed."""
    counts = Counter()

    def counted(values, windows):
        counts["sma"] += 1
        return kernel(values, windows)

    kernel = _kernels.sma
    monkeypatch.setattr(indicators._kernels, "sma", counted)
    return counts


@pytest.mark.parametrize("column", ["Open", "Close", "Volume"])
def test_the_same_line_is_computed_once(computed, column):
    bars = plain.random_bars(3, N_BARS).assign(Volume=1.0)
    with remembering(bars, 100):
        for _ in range(5):
            sma(bars.copy(deep=False)[column], 3)
    assert computed["sma"] == 1
    sma(bars["Close"], 3)
    sma(bars["Close"], 3)
    assert computed["sma"] == 3  # elsewhere it is just called


@pytest.mark.parametrize("windows", [(3, 4), (1, True), (3, 3.0)], ids=str)
def test_what_is_not_the_same_number_is_not_the_same_line(windows):
    """1 is a window; True and 3.0 are none, whatever was asked for before."""
    bars = plain.random_bars(3, N_BARS)
    with remembering(bars, 100):
        first = sma(bars["Close"], windows[0])
        if type(windows[1]) is int:
            assert not first.equals(sma(bars["Close"], windows[1]))
        else:
            with pytest.raises(ParameterError):
                sma(bars["Close"], windows[1])


def test_columns_and_bars_are_told_apart():
    bars = plain.random_bars(3, N_BARS)
    with remembering(bars, 100):
        for ask in REMEMBERED.values():
            same(ask(bars), ask(bars))
        lines = [sma(bars[name], 3) for name in ("Open", "High", "Low", "Close")]
    for name, line in zip(("Open", "High", "Low", "Close"), lines, strict=True):
        same(line, sma(bars[name], 3))


def test_nobody_changes_what_is_remembered():
    bars = plain.random_bars(3, N_BARS)
    expected, bands = sma(bars["Close"], 3), bollinger(bars["Close"], 3)
    with remembering(bars, 100):
        for _ in range(3):
            line = sma(bars["Close"], 3)
            line.iloc[:] = -1.0
            line.index = pd.RangeIndex(N_BARS)
            lower = bollinger(bars["Close"], 3).lower
            lower.iloc[:] = 0.0
        same(sma(bars["Close"], 3), expected)
        same(bollinger(bars["Close"], 3), bands)


def test_an_array_that_is_given_is_the_askers_own():
    bars = plain.random_bars(3, N_BARS)
    with remembering(bars, 100):
        expected = sma(bars["Close"].to_numpy(), 3).copy()
        sma(bars["Close"].to_numpy(), 3)[:] = -1.0
        same(sma(bars["Close"].to_numpy(), 3), expected)


def test_prices_with_other_dates_are_other_prices():
    """Same numbers at the same address, on another index: the line lies on that one."""
    bars = plain.random_bars(3, N_BARS)
    with remembering(bars, 100):
        sma(bars["Close"], 3)
        moved = bars["Close"].copy(deep=False)
        moved.index = pd.RangeIndex(N_BARS)
        assert sma(moved, 3).index.equals(pd.RangeIndex(N_BARS))
        assert sma(bars["Close"].reset_index(drop=True), 3).index.equals(pd.RangeIndex(N_BARS))


def test_columns_under_other_names_are_other_prices():
    bars = plain.random_bars(3, N_BARS)
    turned = bars.rename(columns={"High": "Low", "Low": "High"})
    expected = donchian(turned, 3)
    with remembering(bars, 100):
        donchian(bars, 3)
        same(donchian(turned, 3), expected)


def test_prices_that_were_changed_are_other_prices():
    bars = plain.random_bars(3, N_BARS)
    with remembering(bars, 100):
        before = sma(bars["Close"], 3)
        changed = bars.copy(deep=False)
        changed.loc[changed.index[5], "Close"] = 1e6
        assert sma(changed["Close"], 3).iloc[5] > 3e5
        same(sma(bars["Close"], 3), before)


def test_an_error_is_not_remembered():
    bars = plain.random_bars(3, N_BARS)
    with remembering(bars, 100):
        for _ in range(2):
            with pytest.raises(ParameterError, match="window must be at least 1 bar, got 0"):
                sma(bars["Close"], 0)


def test_arguments_by_name_are_not_taken_for_others():
    seen = []

    @remembered
    def line(values, first=0, second=0):
        seen.append((first, second))
        return values * 1.0

    bars = plain.random_bars(3, N_BARS)
    with remembering(bars, 100):
        for arguments in ({"first": 1}, {"second": 1}, {"first": 1, "second": 2}, {"second": 1, "first": 2}):
            line(bars["Close"], **arguments)
            line(bars["Close"], **arguments)
    assert seen == [(1, 0), (0, 1), (1, 2), (2, 1)]


def test_the_memory_ends_where_it_ends_even_in_an_error(computed):
    bars = plain.random_bars(3, N_BARS)
    with pytest.raises(ParameterError), remembering(bars, 100):
        sma(sma(bars["Close"], 3), 0)
    sma(bars["Close"], 3)
    assert computed["sma"] == 2
