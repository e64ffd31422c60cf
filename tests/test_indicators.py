"""An indicator knows this bar and earlier ones, keeps the index it was given, and refuses windows that are none."""

import copy
import itertools
import math
import pickle
import statistics

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backgrid.engine import run_backtest
from backgrid.errors import ParameterError, PricesError
from backgrid.indicators import (
    Bands,
    Macd,
    Signal,
    above,
    atr,
    below,
    bollinger,
    check_fast_below_slow,
    check_number,
    check_window,
    crossed_above,
    crossed_below,
    donchian,
    ema,
    latch,
    macd,
    rolling_rank,
    rsi,
    sma,
    zscore,
)

NAN = float("nan")
CONSTANTS = [100.0, 100.1, 0.1, 1 / 3, 1e-8, 1e8 / 3]

# Every line of every indicator, and how many bars each needs before its first value with a window of w >= 2.
OF_VALUES = {
    "sma": (sma, lambda w: w - 1),
    "ema": (ema, lambda w: w - 1),
    "rsi": (rsi, lambda w: w),
    "macd.line": (lambda x, w: macd(x, w, 2 * w, 3).line, lambda w: 2 * w - 1),
    "macd.signal": (lambda x, w: macd(x, w, 2 * w, 3).signal, lambda w: 2 * w + 1),
    "macd.histogram": (lambda x, w: macd(x, w, 2 * w, 3).histogram, lambda w: 2 * w + 1),
    "bollinger.lower": (lambda x, w: bollinger(x, w).lower, lambda w: w - 1),
    "bollinger.middle": (lambda x, w: bollinger(x, w).middle, lambda w: w - 1),
    "bollinger.upper": (lambda x, w: bollinger(x, w).upper, lambda w: w - 1),
    "zscore": (zscore, lambda w: w - 1),
    "rolling_rank": (rolling_rank, lambda w: w - 1),
}
OF_PRICES = {
    "atr": (atr, lambda w: w),
    "donchian.lower": (lambda p, w: donchian(p, w).lower, lambda w: w - 1),
    "donchian.middle": (lambda p, w: donchian(p, w).middle, lambda w: w - 1),
    "donchian.upper": (lambda p, w: donchian(p, w).upper, lambda w: w - 1),
}
LINES = OF_VALUES | OF_PRICES
SIGNALS = {
    "above": lambda x, w: above(x, sma(x, w)),
    "below": lambda x, w: below(x, sma(x, w)),
    "crossed_above": lambda x, w: crossed_above(x, sma(x, w)),
    "crossed_below": lambda x, w: crossed_below(x, sma(x, w)),
    "latch": lambda x, w: latch(crossed_above(x, sma(x, w)), below(x, ema(x, w))),
}
every_line = pytest.mark.parametrize("name", LINES)
any_number = st.one_of(st.floats(1e-3, 1e6), st.sampled_from([1.0, 2.0, 100.1, NAN, math.inf]))


def line_of(name, prices, window):
    """One of LINES, of the closes or of the frame."""
    return LINES[name][0](prices["Close"] if name in OF_VALUES else prices, window)


def frame(close, spread=0.5):
    """Prices whose bars reach `spread` to either side of the close."""
    close = np.asarray(close, dtype=float)
    columns = {"High": close + spread, "Low": close - spread, "Close": close}
    return pd.DataFrame(columns)


def same_bits(left, right):
    """Equal to the last bit, the sign of 0 included; any NaN equals any other."""
    left, right = (np.where(np.isnan(line), 0.0, line).view(np.int64) for line in (np.array(left), np.array(right)))
    return left.tolist() == right.tolist()


def known(line):
    """What is not NaN."""
    return [value for value in line if not math.isnan(value)]


# ---- plain twins: the words of the docstrings, one bar after the other -----------------------------------------------


def plain_smoothed(values, window, weight):
    """Exponential mean from the mean of the first `window` values on."""
    line = [NAN] * len(values)
    for t in range(window - 1, len(values)):
        before = line[t - 1]
        line[t] = statistics.fmean(values[:window]) if t == window - 1 else before + weight * (values[t] - before)
    return line


def plain_ema(values, window):
    return plain_smoothed(values, window, 2 / (window + 1))


def plain_rsi(values, window):
    moves = [after - before for before, after in itertools.pairwise(values)]
    gains = plain_smoothed([max(move, 0.0) for move in moves], window, 1 / window)
    losses = plain_smoothed([max(-move, 0.0) for move in moves], window, 1 / window)
    lines = zip(gains, losses, strict=True)
    return [NAN] + [100.0 * gain / (gain + loss) if gain + loss else NAN for gain, loss in lines]


def plain_macd(values, fast, slow, signal):
    """Both means start on bar slow - 1."""
    line = [NAN] * (slow - 1)
    means = zip(plain_ema(values[slow - fast :], fast)[fast - 1 :], plain_ema(values, slow)[slow - 1 :], strict=True)
    line += [quick - slack for quick, slack in means]
    signals = [NAN] * (slow - 1) + plain_ema(line[slow - 1 :], signal)
    return line, signals, [a - b for a, b in zip(line, signals, strict=True)]


def plain_atr(prices, window):
    rows = prices[["High", "Low", "Close"]].to_numpy().tolist()
    ranges = [
        max(high - low, abs(high - before), abs(low - before))
        for (_, _, before), (high, low, _) in itertools.pairwise(rows)
    ]
    return [NAN, *plain_smoothed(ranges, window, 1 / window)]


def of_last(function, values, window):
    """`function` of the last `window` values."""
    return [function(values[t - window + 1 : t + 1]) if t + 1 >= window else NAN for t in range(len(values))]


# ---- sma -------------------------------------------------------------------------------------------------------------


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


# ---- the lines by hand -----------------------------------------------------------------------------------------------


def test_ema_starts_as_a_mean_and_moves_by_its_share_of_the_distance():
    """Window 3 moves by a half: mean of 1, 2, 6 is 3; 3 + (5 - 3) / 2 = 4; 4 + (0 - 4) / 2 = 2."""
    assert ema([1.0, 2.0, 6.0, 5.0, 0.0], 3).tolist() == pytest.approx([NAN, NAN, 3.0, 4.0, 2.0], nan_ok=True)


def test_ema_of_one_bar_is_the_price():
    assert ema([1.5, 2.5, 0.1], 1).tolist() == [1.5, 2.5, 0.1]


def test_rsi_is_the_share_of_gains_in_all_moves():
    """Moves +3 -1 then +2: gains average 1.5, then (1.5 + 2) / 2; losses .5, then .25: 75, and 1.75 of 2 is 87.5."""
    assert rsi([10.0, 13.0, 12.0, 14.0], 2).tolist() == pytest.approx([NAN, NAN, 75.0, 87.5], nan_ok=True)


def test_rsi_is_exactly_100_where_the_price_only_rises_and_0_where_it_only_falls():
    rising = np.cumsum(np.random.default_rng(1).random(300))
    assert set(known(rsi(rising, 14))) == {100.0}
    assert set(known(rsi(-rising, 14))) == {0.0}


def test_rsi_is_unknown_until_the_price_moves():
    assert rsi([5.0, 5.0, 5.0, 5.0, 6.0, 6.0], 2).tolist() == pytest.approx([NAN] * 4 + [100.0, 100.0], nan_ok=True)


def test_macd_starts_both_means_on_one_bar():
    """Fast mean of 2 and 6 is 4, slow mean of 1, 2, 6 is 3; then 4 + 2/3 * 5 and 3 + 1/2 * 6; its mean starts there."""
    lines = macd([1.0, 2.0, 6.0, 9.0], 2, 3, 2)
    assert isinstance(lines, Macd)
    second = 4.0 + 10.0 / 3.0 - 6.0
    assert lines.line.tolist() == pytest.approx([NAN, NAN, 1.0, second], nan_ok=True)
    assert lines.signal.tolist() == pytest.approx([NAN, NAN, NAN, (1.0 + second) / 2.0], nan_ok=True)
    assert lines.histogram.tolist() == pytest.approx([NAN, NAN, NAN, (second - 1.0) / 2.0], nan_ok=True)


def test_bands_lie_so_many_standard_deviations_around_the_mean():
    """1 and 3: mean 2, deviation 1 (ddof 0); 3 and 9: mean 6, deviation 3."""
    bands = bollinger([1.0, 3.0, 9.0], 2, 1.5)
    assert isinstance(bands, Bands)
    assert bands.lower.tolist() == pytest.approx([NAN, 0.5, 1.5], nan_ok=True)
    assert bands.middle.tolist() == pytest.approx([NAN, 2.0, 6.0], nan_ok=True)
    assert bands.upper.tolist() == pytest.approx([NAN, 3.5, 10.5], nan_ok=True)


def test_atr_counts_the_gap_from_the_close_before():
    """Ranges: 12 - 9 = 3; a gap up from 11 to 16: 5; a gap down from 15 to 10: 5. Means 4, then (4 + 5) / 2."""
    columns = {"High": [11.0, 12.0, 16.0, 12.0], "Low": [9.0, 9.0, 14.0, 10.0], "Close": [10.0, 11.0, 15.0, 11.0]}
    assert atr(pd.DataFrame(columns), 2).tolist() == pytest.approx([NAN, NAN, 4.0, 4.5], nan_ok=True)


def test_channel_holds_the_last_bars_and_this_one():
    prices = pd.DataFrame({"High": [3.0, 5.0, 4.0, 2.0, 9.0], "Low": [1.0, 4.0, 0.0, 1.0, 8.0]})
    bands = donchian(prices, 3)
    assert bands.lower.tolist() == pytest.approx([NAN, NAN, 0.0, 0.0, 0.0], nan_ok=True)
    assert bands.upper.tolist() == pytest.approx([NAN, NAN, 5.0, 5.0, 9.0], nan_ok=True)
    assert bands.middle.tolist() == pytest.approx([NAN, NAN, 2.5, 2.5, 4.5], nan_ok=True)


def test_zscore_is_the_distance_from_the_mean_in_standard_deviations():
    """1, 3, 5: mean 3, deviation 2 (ddof 1)."""
    assert zscore([1.0, 3.0, 5.0], 3).tolist() == pytest.approx([NAN, NAN, 1.0], nan_ok=True)


def test_zscore_needs_two_bars():
    with pytest.raises(ParameterError, match=r"^window must be at least 2 bars, got 1$"):
        zscore([1.0, 2.0], 1)


def test_rank_is_a_share_of_the_window_and_equal_values_share_theirs():
    ranks = rolling_rank([2.0, 1.0, 3.0, 3.0, 0.0], 3)
    assert ranks.tolist() == pytest.approx([NAN, NAN, 1.0, 2.5 / 3.0, 1.0 / 3.0], nan_ok=True)


# ---- the lines against their twins -----------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 14, 100])
def test_lines_equal_their_plain_twins(aapl, window):
    for prices in (aapl, plain.random_bars(3), plain.random_bars(4, volatility=0.2)):
        close = prices["Close"].tolist()
        twins = {
            ema: plain_ema(close, window),
            rsi: plain_rsi(close, window),
            rolling_rank: of_last(
                lambda w: (sum((x < w[-1]) + (x == w[-1]) / 2 for x in w) + 0.5) / len(w), close, window
            ),
        }
        for function, twin in twins.items():
            assert function(close, window).tolist() == pytest.approx(twin, rel=1e-12, nan_ok=True)
        assert atr(prices, window).tolist() == pytest.approx(plain_atr(prices, window), rel=1e-12, nan_ok=True)
        bands = donchian(prices, window)
        assert bands.lower.tolist() == pytest.approx(of_last(min, prices["Low"].tolist(), window), abs=0, nan_ok=True)
        assert bands.upper.tolist() == pytest.approx(of_last(max, prices["High"].tolist(), window), abs=0, nan_ok=True)


@pytest.mark.parametrize("windows", [(1, 2, 1), (12, 26, 9), (3, 40, 60)], ids=str)
def test_macd_equals_its_plain_twin(aapl, windows):
    close = aapl["Close"].tolist()
    for line, twin in zip(macd(close, *windows), plain_macd(close, *windows), strict=True):
        assert line.tolist() == pytest.approx(twin, rel=1e-9, abs=1e-10, nan_ok=True)


@pytest.mark.parametrize("window", [2, 20, 100])
def test_deviations_equal_their_plain_twins(aapl, window):
    close = aapl["Close"].tolist()
    bands, means = bollinger(close, window, 1.0), plain.sma(close, window)
    reach = of_last(statistics.pstdev, close, window)
    lower = [mean - far for mean, far in zip(means, reach, strict=True)]
    upper = [mean + far for mean, far in zip(means, reach, strict=True)]
    assert bands.lower.tolist() == pytest.approx(lower, rel=1e-13, nan_ok=True)
    assert bands.upper.tolist() == pytest.approx(upper, rel=1e-13, nan_ok=True)
    spread = of_last(statistics.stdev, close, window)
    distance = [(x - mean) / far if far else NAN for x, mean, far in zip(close, means, spread, strict=True)]
    assert zscore(close, window).tolist() == pytest.approx(distance, rel=1e-9, abs=1e-12, nan_ok=True)


def test_deviation_forgets_what_has_left_the_window():
    """A price that loses thirteen digits, as one adjusted for many reverse splits; and one spike."""
    rng = np.random.default_rng(7)
    falling = 1e9 * np.exp(np.cumsum(rng.normal(-0.01, 0.04, 2500)))
    spiked = 100.0 + rng.random(200)
    spiked[50] = 1e12
    for close in (falling, spiked):
        reach = (bollinger(close, 20, 1.0).upper - bollinger(close, 20, 1.0).middle)[-100:]
        assert reach.tolist() == pytest.approx(of_last(statistics.pstdev, close.tolist(), 20)[-100:], rel=1e-10)


# ---- what holds for every line ---------------------------------------------------------------------------------------


@every_line
@pytest.mark.parametrize("window", [2, 5])
def test_line_starts_where_it_says(name, window):
    line, first = line_of(name, plain.random_bars(0), window), LINES[name][1](window)
    assert line.isna().tolist() == [True] * first + [False] * (120 - first)


@every_line
@given(
    close=st.lists(any_number, max_size=40),
    after=st.lists(any_number, max_size=10),
    window=st.integers(2, 9),
)
def test_value_never_changes_when_later_bars_come(name, close, after, window):
    """To the last bit, whatever comes: gaps and infinities too."""
    longer, shorter = line_of(name, frame(close + after), window), line_of(name, frame(close), window)
    assert same_bits(longer[: len(close)], shorter)


@every_line
@given(close=st.lists(any_number, max_size=40), gap=st.integers(1, 9), window=st.integers(2, 9))
def test_missing_bars_at_the_start_delay_a_line_and_spoil_nothing(name, close, gap, window):
    delayed = line_of(name, frame([NAN] * gap + close), window)
    assert delayed[:gap].isna().all() and same_bits(delayed[gap:], line_of(name, frame(close), window))


@pytest.mark.parametrize("name", ["ema", "rsi", "macd.line", "macd.signal", "atr"])
@pytest.mark.parametrize("missing", [NAN, math.inf, -math.inf])
def test_line_that_remembers_leaves_missing_bars_out(name, missing):
    prices = plain.random_bars(2)
    holed = prices.copy()
    holed.iloc[[0, 3, 50, 119]] = missing
    line, whole = line_of(name, holed, 5), line_of(name, prices.drop(prices.index[[0, 3, 50, 119]]), 5)
    assert line.iloc[[0, 3, 50, 119]].isna().all()
    assert same_bits(line.drop(line.index[[0, 3, 50, 119]]), whole)


@pytest.mark.parametrize("name", [name for name in LINES if name.split(".")[0] not in ("ema", "rsi", "macd", "atr")])
@pytest.mark.parametrize("missing", [NAN, math.inf, -math.inf])
def test_line_of_the_last_values_is_unknown_only_while_one_is_missing(name, missing):
    prices = plain.random_bars(2)
    whole = line_of(name, prices, 5)
    holed = prices.copy()
    holed.iloc[50] = missing
    line = line_of(name, holed, 5)
    assert line[50:55].isna().all()
    assert line.drop(line.index[50:55]).tolist() == pytest.approx(
        whole.drop(whole.index[50:55]).tolist(), rel=1e-12, nan_ok=True
    )


def test_indicators_can_be_chained(aapl):
    """The second is unknown as long as the first, and then as long as it would be by itself."""
    close = aapl["Close"]
    first = rsi(close, 14)
    for name, (function, warm_up) in OF_VALUES.items():
        chained = function(first, 5)
        assert chained.isna().sum() == 14 + warm_up(5), name
        assert same_bits(chained[14:], function(first[14:], 5)), name
    assert same_bits(ema(sma(close, 3), 5)[2:], ema(sma(close, 3)[2:], 5))


@every_line
@settings(max_examples=50)
@given(close=st.lists(st.floats(1.0, 1e4), min_size=30, max_size=60), power=st.integers(-20, 20))
def test_prices_times_a_power_of_two_give_the_same_line_to_the_last_bit(name, close, power):
    scale = 1.0 if name in ("rsi", "zscore", "rolling_rank") else 2.0**power
    prices = frame(close)
    assert same_bits(line_of(name, prices * 2.0**power, 5), line_of(name, prices, 5) * scale)


@given(close=st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=60), window=st.integers(2, 9))
def test_lines_keep_within_their_bounds(close, window):
    assert all(0.0 <= value <= 100.0 for value in known(rsi(close, window)))
    assert all(1.0 / window <= value <= 1.0 for value in known(rolling_rank(close, window)))
    assert all(abs(value) <= (window - 1) / math.sqrt(window) * (1.0 + 1e-6) for value in known(zscore(close, window)))
    assert all(value >= 1.0 - 1e-9 for value in known(atr(frame(close), window)))  # each bar reaches 0.5 to each side
    for mean in (sma, ema):
        least, most = min(close) * (1.0 - 1e-12), max(close) * (1.0 + 1e-12)
        assert all(least <= value <= most for value in known(mean(close, window)))
    for bands in (bollinger(pd.Series(close), window), donchian(frame(close), window)):
        assert not ((bands.lower > bands.middle) | (bands.middle > bands.upper)).any()


@pytest.mark.parametrize("constant", CONSTANTS)
@pytest.mark.parametrize("window", [2, 7, 14, 20, 49, 150])
def test_lines_of_a_constant_price_are_that_price_exactly(constant, window):
    prices = frame(np.full(400, constant), spread=0.0)
    close = prices["Close"]
    bands, channel, lines = bollinger(close, window), donchian(prices, window), macd(close, window, window + 13)
    for line in (sma(close, window), ema(close, window), *bands, *channel):
        assert set(known(line)) == {constant}
    for line in (atr(prices, window), *lines):
        assert set(known(line)) == {0.0}
    assert rsi(close, window).isna().all() and zscore(close, window).isna().all()
    assert set(known(rolling_rank(close, window))) == {(window + 1) / 2 / window}


@pytest.mark.parametrize("constant", CONSTANTS)
def test_bands_collapse_once_the_window_holds_one_price_only(constant):
    """Also where other prices came before."""
    close = np.concatenate([plain.random_bars(1)["Close"] * constant, np.full(60, constant)])
    bands = bollinger(close, 20)
    for line in bands:
        assert set(line[139:]) == {constant}
    assert np.isnan(zscore(close, 20)[139:]).all() and not np.isnan(zscore(close, 20)[19:139]).any()


@pytest.mark.parametrize("name", OF_VALUES)
def test_every_line_keeps_the_index_of_a_series_and_an_array_stays_an_array(aapl, name):
    close, function = aapl["Close"], OF_VALUES[name][0]
    line = function(close, 5)
    assert type(line) is pd.Series and line.index.equals(aapl.index) and line.dtype == np.float64
    array = function(close.to_numpy(), 5)
    assert type(array) is np.ndarray and same_bits(array, line) and array.flags.writeable
    assert type(function(close.tolist(), 5)) is np.ndarray
    assert type(function(above(close, 100.0), 5)) is pd.Series


@pytest.mark.parametrize("name", OF_PRICES)
def test_every_line_of_prices_keeps_their_index(aapl, name):
    line = line_of(name, aapl, 5)
    assert type(line) is pd.Series and line.index.equals(aapl.index) and line.dtype == np.float64


@every_line
def test_every_line_leaves_its_input_as_it_was_and_can_be_written_to(aapl, name):
    prices = aapl.copy()
    line = line_of(name, prices, 5)
    line.iloc[:] = 0.0
    pd.testing.assert_frame_equal(prices, aapl)


@every_line
@pytest.mark.parametrize("n_bars", [0, 1, 2, 5])
def test_window_longer_than_the_series_gives_nan_everywhere(name, n_bars):
    for window in (6, 10**9, 10**400):
        line = line_of(name, frame(np.arange(1.0, n_bars + 1.0)), window)
        assert len(line) == n_bars and line.isna().all()


# ---- what is refused -------------------------------------------------------------------------------------------------


@every_line
@pytest.mark.parametrize("window", [0, -5, 2.5, "10", True, NAN, 1e9, None], ids=repr)
def test_no_line_takes_what_is_no_window(aapl, name, window):
    functions = {"bollinger": bollinger, "donchian": donchian, "macd": lambda x, w: macd(x, w)}
    function = functions.get(name.split(".")[0], LINES[name][0])
    with pytest.raises(ParameterError, match=r"^(fast_)?window must be "):
        function(aapl["Close"] if name in OF_VALUES else aapl, window)


@pytest.mark.parametrize("name", ["fast_window", "slow_window", "signal_window"])
def test_each_window_of_macd_is_named(aapl, name):
    with pytest.raises(ParameterError, match=f"^{name} must be at least 1 bar, got 0$"):
        macd(aapl["Close"], **{name: 0})


@pytest.mark.parametrize("windows", [(26, 26), (27, 26)])
def test_fast_window_of_macd_is_below_the_slow_one(aapl, windows):
    with pytest.raises(ParameterError, match=f"^fast_window {windows[0]} must be below slow_window 26$"):
        macd(aapl["Close"], *windows)


@pytest.mark.parametrize("width", [0, 0.0, -2.0, -(10**400), NAN, math.inf, True, "2", None], ids=repr)
def test_width_of_the_bands_is_a_number_above_0(aapl, width):
    with pytest.raises(ParameterError, match=r"^width must be "):
        bollinger(aapl["Close"], 20, width)


@pytest.mark.parametrize(
    "values",
    [[[1.0, 2.0], [3.0, 4.0]], ["1", "2"], "12", 5.0, None, [1.0, "2"], [[1.0], [2.0, 3.0]], pd.Series(["1", "2"]),
     pd.Series(pd.to_datetime(["2023-01-02"])), [1j], pd.DataFrame({"Close": [1.0, 2.0]})],
    ids=lambda values: repr(values)[:20],
)  # fmt: skip
@pytest.mark.parametrize("name", OF_VALUES)
def test_what_is_not_one_line_of_numbers_is_refused(name, values):
    with pytest.raises(ParameterError, match=r"^need one line of numbers, got ") as caught:
        OF_VALUES[name][0](values, 2)
    assert len(str(caught.value)) < 150 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [pd.Series([1, 2, 4]), pd.Series([1.0, 2.0, 4.0], dtype="Float64"), pd.Series([1.0, 2.0, 4.0], dtype=object),
     pd.Series([1, 2, 4], dtype="int8"), [1, 2, 4], (1, 2, 4), np.array([1.0, 2.0, 4.0], dtype=np.float32)],
    ids=lambda values: f"{type(values).__name__} {getattr(values, 'dtype', '')}",
)  # fmt: skip
def test_numbers_of_any_kind_are_taken(values):
    assert known(sma(values, 2)) == [1.5, 3.0]


def test_missing_values_of_any_kind_are_nan():
    for values in (pd.Series([None, 1.0, 3.0], dtype="Float64"), [None, 1.0, 3.0], pd.Series([np.nan, 1.0, 3.0])):
        assert list(sma(values, 2)) == pytest.approx([NAN, NAN, 2.0], nan_ok=True)


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        (pd.DataFrame({"Close": [1.0, 2.0]}), "need prices with High, Low(, Close)?; these lack High, Low$"),
        (pd.DataFrame({"High": [1.0], "Close": [1.0]}), "these lack Low$"),
        (pd.Series([1.0, 2.0]), "need a DataFrame of prices with High, Low(, Close)?, got Series"),
        ([1.0, 2.0], "need a DataFrame of prices with High, Low(, Close)?, got list"),
    ],
    ids=["closes", "no lows", "series", "list"],
)
@pytest.mark.parametrize("function", [atr, donchian])
def test_prices_without_the_columns_are_refused_by_name(function, prices, message):
    with pytest.raises(PricesError, match=message):
        function(prices)


# ---- signals ---------------------------------------------------------------------------------------------------------


def test_above_is_strict_and_nan_where_a_side_is():
    assert above([1.0, 2.0, 3.0, np.nan, 5.0], [2.0, 2.0, 2.0, 2.0, np.nan]).tolist() == pytest.approx(
        [0.0, 0.0, 1.0, np.nan, np.nan], nan_ok=True
    )


def test_below_is_strict_and_nan_where_a_side_is():
    assert below([1.0, 2.0, 3.0, np.nan, 5.0], [2.0, 2.0, 2.0, 2.0, np.nan]).tolist() == pytest.approx(
        [1.0, 0.0, 0.0, np.nan, np.nan], nan_ok=True
    )


def test_above_takes_a_level_on_either_side():
    line = pd.Series([1.0, 2.0, 3.0], index=[7, 8, 9])
    assert above(line, 2.0).to_dict() == {7: 0.0, 8: 0.0, 9: 1.0}
    assert above(2.0, line).to_dict() == {7: 1.0, 8: 0.0, 9: 0.0}
    assert below(line, 2.0).to_dict() == {7: 1.0, 8: 0.0, 9: 0.0}


def test_crossing_is_the_bar_on_which_a_line_comes_to_lie_above():
    """From below; from a touch; staying above is none, nor is touching again."""
    line = [1.0, 3.0, 3.0, 2.0, 3.0, 1.0]
    assert crossed_above(line, 2.0).tolist() == pytest.approx([NAN, 1.0, 0.0, 0.0, 1.0, 0.0], nan_ok=True)
    assert crossed_below(line, 2.0).tolist() == pytest.approx([NAN, 0.0, 0.0, 0.0, 0.0, 1.0], nan_ok=True)
    assert crossed_above(2.0, line).tolist() == pytest.approx([NAN, 0.0, 0.0, 0.0, 0.0, 1.0], nan_ok=True)


def test_crossing_needs_both_bars():
    crossings = crossed_above([1.0, 3.0, NAN, 3.0, 1.0, 3.0], [2.0, 2.0, 2.0, 2.0, NAN, 2.0])
    assert crossings.tolist() == pytest.approx([NAN, 1.0, NAN, NAN, NAN, NAN], nan_ok=True)
    assert crossed_above([], []).size == 0 and np.isnan(crossed_above([3.0], 2.0)).all()


@given(lines=st.lists(st.tuples(any_number, any_number), min_size=2, max_size=40))
def test_crossings_are_the_changes_of_above(lines):
    left, right = np.array(lines).T
    over = above(left, right)
    rises = [NAN] + [float(now == 1.0 and before == 0.0) if now == now and before == before else NAN
                     for before, now in itertools.pairwise(over)]  # fmt: skip
    assert crossed_above(left, right).tolist() == pytest.approx(rises, nan_ok=True)
    assert same_bits(crossed_below(left, right), crossed_above(right, left))


def test_latch_holds_from_an_entry_until_an_exit_and_the_exit_wins():
    entries = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    exits_ = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    assert latch(entries, exits_).tolist() == [0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]


def test_latch_sees_no_event_in_nan_and_is_unknown_until_both_lines_are_known():
    """In on the second bar, which counts from the third on, where the exits are first known."""
    entries = [NAN, 1.0, NAN, 0.0, NAN, 0.0, 0.0]
    exits_ = [NAN, NAN, 0.0, NAN, NAN, 1.0, NAN]
    assert latch(entries, exits_).tolist() == pytest.approx([NAN, NAN, 1.0, 1.0, 1.0, 0.0, 0.0], nan_ok=True)
    assert np.isnan(latch([1.0, 1.0], [NAN, NAN])).all()
    assert latch([], []).size == 0


def test_latch_takes_truth_values():
    entries, exits_ = pd.Series([True, False, False]), pd.Series([False, False, True])
    assert latch(entries, exits_).tolist() == latch(entries.to_numpy(), exits_.to_numpy()).tolist() == [1.0, 1.0, 0.0]
    assert latch(entries, exits_.shift()).tolist() == pytest.approx([NAN, 1.0, 1.0], nan_ok=True)
    assert latch(entries, False).tolist() == [1.0, 1.0, 1.0]


@given(events=st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, NAN])] * 2), max_size=40))
def test_latch_equals_its_plain_twin(events):
    held, seen, expected = 0.0, [False, False], []
    for entry, exit_ in events:
        held = 0.0 if exit_ == 1.0 else 1.0 if entry == 1.0 else held
        seen = [seen[0] or entry == entry, seen[1] or exit_ == exit_]
        expected.append(held if all(seen) else NAN)
    given_ = latch([entry for entry, _ in events], [exit_ for _, exit_ in events])
    assert given_.tolist() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("name", SIGNALS)
@given(close=st.lists(any_number, max_size=40), after=st.lists(any_number, max_size=10), window=st.integers(1, 9))
def test_signal_never_changes_when_later_bars_come(name, close, after, window):
    longer, shorter = SIGNALS[name](np.array(close + after), window), SIGNALS[name](np.array(close), window)
    assert same_bits(longer[: len(close)], shorter)
    assert set(known(longer)) <= {0.0, 1.0}


@pytest.mark.parametrize("function", [above, below, crossed_above, crossed_below, latch])
def test_series_give_a_signal_on_their_index_and_arrays_an_array(aapl, function):
    close = aapl["Close"]
    line = close.to_numpy()
    for signal in (function(close, 150.0), function(150.0, close), function(close, line), function(line, close)):
        assert type(signal) is Signal and signal.index.equals(aapl.index) and signal.dtype == np.float64
    for array in (function(line, 150.0), function(line, line.tolist()), function(line.tolist(), line)):
        assert type(array) is np.ndarray and array.dtype == np.float64 and array.shape == line.shape


@pytest.mark.parametrize("function", [above, below, crossed_above, crossed_below, latch])
@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0], index=[1, 2]), "different bars: their indexes differ"),
        (pd.Series([1.0, 2.0]), pd.Series([1.0]), "different bars: one of [12], one of [12]"),
        (np.ones(3), np.ones(1), "different bars: one of [13], one of [13]"),
        (1.0, 2.0, "both levels"),
        (np.ones(3), None, "need one line of numbers, got None"),
        (np.ones(3), "2", "need one line of numbers, got '2'"),
        (np.ones((3, 2)), 1.0, "need one line of numbers, got ndarray of shape"),
    ],
    ids=["index", "lengths", "arrays", "levels", "none", "text", "table"],
)
def test_lines_on_different_bars_are_not_compared(function, left, right, message):
    for sides in ((left, right), (right, left)):
        with pytest.raises(ParameterError, match=message):
            function(*sides)


# ---- signals combined ------------------------------------------------------------------------------------------------

DAYS = pd.bdate_range("2023-01-02", periods=5)
LEFT = above(pd.Series([3.0, 3.0, 1.0, 1.0, 3.0], DAYS), 2.0)  # 1 1 0 0 1
RIGHT = above(pd.Series([3.0, 1.0, 3.0, 1.0, NAN], DAYS), 2.0)  # 1 0 1 0 NaN


def check(signal, *values):
    """It must be a signal on DAYS with these values."""
    assert type(signal) is Signal and signal.index.equals(DAYS) and signal.dtype == np.float64
    assert signal.tolist() == pytest.approx(values, abs=0.0, nan_ok=True)


def test_and_is_the_smaller_or_the_larger_not_the_complement():
    check(LEFT & RIGHT, 1.0, 0.0, 0.0, 0.0, NAN)
    check(LEFT | RIGHT, 1.0, 1.0, 1.0, 0.0, NAN)
    check(~RIGHT, 0.0, 1.0, 0.0, 1.0, NAN)


def test_minus_is_that_of_any_series():
    check(LEFT - RIGHT, 0.0, 1.0, -1.0, 0.0, NAN)
    check(-RIGHT, -1.0, 0.0, -1.0, 0.0, NAN)
    check(-(LEFT - RIGHT), 0.0, -1.0, 1.0, 0.0, NAN)


def test_positions_between_and_short_combine_by_size():
    half = LEFT / 2.0 - RIGHT  # -0.5 0.5 -1 0 NaN
    check(half & LEFT, -0.5, 0.5, -1.0, 0.0, NAN)
    check(half | LEFT, 1.0, 1.0, 0.0, 0.0, NAN)


def test_truth_values_and_numbers_combine_with_a_signal_from_either_side():
    truth = pd.Series([True, False, True, False, True], DAYS)
    for other in (truth, truth.to_numpy(), truth.astype(float), truth.to_numpy(dtype=float), truth.astype("boolean")):
        for both, either in ((LEFT & other, LEFT | other), (other & LEFT, other | LEFT)):
            check(both, 1.0, 0.0, 0.0, 0.0, 1.0)
            check(either, 1.0, 1.0, 1.0, 0.0, 1.0)
    check(LEFT & 0.5, 0.5, 0.5, 0.0, 0.0, 0.5)
    check(0.5 & LEFT, 0.5, 0.5, 0.0, 0.0, 0.5)
    check(LEFT | 0.5, 1.0, 1.0, 0.5, 0.5, 1.0)
    check(0.5 | LEFT, 1.0, 1.0, 0.5, 0.5, 1.0)
    check(LEFT & True, 1.0, 1.0, 0.0, 0.0, 1.0)
    check(False | LEFT, 1.0, 1.0, 0.0, 0.0, 1.0)


def test_missing_truth_is_nan():
    holed = pd.Series([True, None, True, None, False], DAYS, dtype="boolean")
    check(LEFT & holed, 1.0, NAN, 0.0, NAN, 0.0)
    check(LEFT | holed, 1.0, NAN, 1.0, NAN, 1.0)


@given(rows=st.lists(st.tuples(*[st.one_of(st.floats(-1.0, 1.0), st.just(NAN))] * 2), min_size=1, max_size=20))
def test_combinations_are_those_of_a_lattice(rows):
    a, b = (Signal([row[side] for row in rows]) for side in (0, 1))
    pd.testing.assert_series_equal(a & b, b & a)
    pd.testing.assert_series_equal(a | b, b | a)
    pd.testing.assert_series_equal(~(a & b), ~a | ~b)
    pd.testing.assert_series_equal(a & a, a)
    for t, (x, y) in enumerate(rows):
        unknown = x != x or y != y
        assert (a & b)[t] == min(x, y) or (unknown and np.isnan((a & b)[t]))
        assert (a | b)[t] == max(x, y) or (unknown and np.isnan((a | b)[t]))


def test_combining_in_place_changes_that_signal_only():
    signal = LEFT.copy()
    signal &= RIGHT
    check(signal, 1.0, 0.0, 0.0, 0.0, NAN)
    signal |= 0.5
    check(signal, 1.0, 0.5, 0.5, 0.5, NAN)
    check(LEFT, 1.0, 1.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "other",
    [LEFT[1:], LEFT.reset_index(drop=True), LEFT.to_frame(), np.ones(4), [1.0], "1", None, np.ones((5, 1))],
    ids=lambda other: type(other).__name__,
)
def test_signal_combines_with_nothing_on_other_bars_and_nothing_but_numbers(other):
    for combine in (lambda: LEFT & other, lambda: LEFT | other):
        with pytest.raises(ParameterError, match=r"different bars|need one line of numbers"):
            combine()
    if isinstance(other, (pd.Series, str, list, type(None))):
        for combine in (lambda: other & LEFT, lambda: other | LEFT):
            with pytest.raises(ParameterError, match=r"different bars|need one line of numbers"):
                combine()


def test_plain_series_of_floats_refuses_and_a_signal_does_not():
    """Why there is a class at all."""
    with pytest.raises(TypeError):
        pd.Series(LEFT) & pd.Series(RIGHT)
    check(pd.Series(LEFT) & RIGHT, 1.0, 0.0, 0.0, 0.0, NAN)
    check(LEFT & pd.Series(RIGHT), 1.0, 0.0, 0.0, 0.0, NAN)


def test_truth_made_of_signals_has_the_operators_of_pandas():
    entered = (LEFT == 1.0) & (LEFT.shift() != 1.0)
    assert entered.dtype == bool and LEFT[entered].index.tolist() == [DAYS[0], DAYS[4]]
    assert (~entered).tolist() == [False, True, True, True, False]
    assert (entered | (LEFT == 0.0)).dtype == bool and (RIGHT.isna() & True).dtype == bool
    assert (pd.Series(True, DAYS) & entered).dtype == bool and (pd.Series(False, DAYS) | entered).dtype == bool
    assert (LEFT.astype(int) & 3).tolist() == [1, 1, 0, 0, 1]
    check(entered & LEFT, 1.0, 0.0, 0.0, 0.0, 1.0)


def test_signal_stays_one_through_what_pandas_does_with_a_series():
    made = [LEFT[1:], LEFT.iloc[::2], LEFT[LEFT > 0.0], LEFT.copy(), LEFT.shift(1), LEFT.fillna(0.0), LEFT * 0.5,
            1.0 - LEFT, LEFT.where(LEFT > 0.0), LEFT.reindex(DAYS[:2]), LEFT.rename("x"), LEFT.cumsum(),
            LEFT.rolling(2).max(), np.minimum(LEFT, 0.5), copy.deepcopy(LEFT)]  # fmt: skip
    assert {type(signal) for signal in made} == {Signal}
    assert type(LEFT.to_frame("x")) is pd.DataFrame and type(LEFT.sum()) is np.float64
    assert pd.DataFrame({"a": LEFT, "b": RIGHT}).to_numpy()[:4].tolist() == [[1, 1], [1, 0], [0, 1], [0, 0]]


def test_signal_comes_back_from_a_pickle():
    back = pickle.loads(pickle.dumps(RIGHT))
    assert type(back) is Signal and back.equals(RIGHT) and (back & RIGHT).equals(RIGHT)


def test_name_of_a_combination_is_the_common_one():
    assert (LEFT & RIGHT).name is None
    assert (LEFT.rename("x") & RIGHT.rename("x")).name == (LEFT.rename("x") & 1.0).name == "x"
    assert (LEFT.rename("x") | RIGHT.rename("y")).name is None


def test_run_takes_a_signal_and_gives_what_the_plain_series_gives(aapl):
    """Long above the 20-bar mean unless overbought, short below the 50-bar one, flat where both hold."""
    close = aapl["Close"]
    signal = (above(close, sma(close, 20)) & below(rsi(close), 70.0)) - below(close, sma(close, 50))
    long, short = (close > close.rolling(20).mean()) & (rsi(close) < 70.0), close < close.rolling(50).mean()
    plain_signal = (long.astype(float) - short.astype(float)).where(close.rolling(50).mean().notna())
    assert type(plain_signal) is pd.Series and plain_signal.equals(pd.Series(signal))
    assert set(known(signal)) == {-1.0, 0.0, 1.0}
    result = run_backtest(aapl, signal)
    assert result == run_backtest(aapl, plain_signal) and len(result.trades) > 3
    assert result.equity.equals(run_backtest(aapl, lambda prices: signal).equity)


# ---- windows and numbers ---------------------------------------------------------------------------------------------


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


def test_window_may_have_to_be_longer():
    assert check_window("window", 2, least=2) == 2
    with pytest.raises(ParameterError, match=r"^window must be at least 2 bars, got 1$"):
        check_window("window", 1, least=2)


def test_fast_and_slow_window_are_both_named_where_they_disagree():
    assert check_fast_below_slow(np.int64(1), 2) == (1, 2)
    with pytest.raises(ParameterError, match=r"^fast_window 2 must be below slow_window 2$"):
        check_fast_below_slow(2, 2)


@pytest.mark.parametrize("value", [0, -1.5, 2, np.float32(0.5), np.int8(-128), np.float64(1e308)], ids=repr)
def test_finite_numbers_are_numbers(value):
    assert check_number("width", value) == value and type(check_number("width", value)) is float


@pytest.mark.parametrize(
    "value", [NAN, math.inf, 10**400, True, np.bool_(True), "2", None, [2.0], 2j], ids=lambda v: repr(v)[:9]
)
def test_what_is_no_finite_number_is_refused_by_name_in_one_short_line(value):
    with pytest.raises(ParameterError, match=r"^width must be a finite number, got ") as caught:
        check_number("width", value)
    assert len(str(caught.value)) < 110
