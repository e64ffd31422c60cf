"""The look-ahead check finds every planted leak, names its first bar, and has no false alarm."""

import functools
import importlib
import itertools
import subprocess
import tempfile

import numpy as np
import pandas as pd
import pytest

from backgrid import lookahead
from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import BackgridError, LookaheadError, ParameterError, PricesError, TooFewBarsError
from backgrid.lookahead import (
    AGAIN,
    FAILED,
    FIRST,
    FRESH,
    LEAK,
    NOT_POSSIBLE,
    NOT_RUN,
    OTHER,
    SAME,
    SHAKEN,
    SHORTER,
    TIMES,
    check_lookahead,
    load_strategy,
    start_check,
)
from backgrid.strategies import BUILT_IN, ma_crossover, register_strategy

NAN = float("nan")


def here_only(function):
    """The same strategy, which no other process can import: checked in this one alone, and fast."""

    @functools.wraps(function)
    def called(*arguments, **params):
        return function(*arguments, **params)

    return called


def sign(line):
    """1.0 where a line is above 0, NaN where there is none."""
    return (line > 0.0).astype(float).where(line.notna())


def above_mean(close, window):
    return sign(close - close.rolling(window).mean())


# ---- strategies that look ahead --------------------------------------------------------------------------------------


def next_move(close):
    return sign(close.shift(-1) - close)


def next_move_filled(close):
    return sign(close.shift(-1) - close).fillna(0.0)


def next_signal(close):
    return sign(close.rolling(20).mean() - close.rolling(50).mean()).shift(-1)


def centred_window(close):
    return sign(close - close.rolling(11, center=True).mean())


def z_score(close):
    return sign((close - close.mean()) / close.std())


def min_max(close):
    return sign((close - close.min()) / (close.max() - close.min()) - 0.5)


def whole_rank(close):
    return sign(close.rank(pct=True) - 0.5)


def filled_backwards(close):
    return above_mean(close, 50).bfill()


def filled_with_the_mean(close):
    change = close.pct_change(20)
    return sign(change.fillna(change.mean()) - change.mean() / 2.0)


def week_labelled_on_the_left(close):
    week = close.resample("W", label="left").last().reindex(close.index, method="ffill")
    return sign(week - close)


def regression_on_all(close):
    bar = np.arange(len(close)) - (len(close) - 1) / 2.0
    slope = (bar * (close - close.mean())).sum() / max((bar * bar).sum(), 1.0)
    return sign(close - close.mean() - slope * bar)


def best_window(close, *, windows=(10, 20, 50, 100)):
    """The moving average that gained most, on all the data."""
    lines = [above_mean(close, window).fillna(0.0) for window in windows]
    return max(lines, key=lambda line: (line.shift(1) * close.pct_change()).sum())


def first_half(close):
    return pd.Series((np.arange(len(close)) < len(close) / 2).astype(float), index=close.index)


def before_a_gap(close):
    """Long on bars after which the next date is not the next one of the calendar."""
    date = close.index.to_series()
    return ((date.shift(-1) - date) > pd.Timedelta(hours=25)).astype(float)


def single_bars(close):
    """Honest but on every hundredth bar, where it does the opposite if there is a next one."""
    honest = above_mean(close, 50)
    peeks = (np.arange(len(close)) % 100 == 97) & close.shift(-1).notna()
    return honest.where(~peeks, 1.0 - honest)


def against_the_last(close):
    return sign(close - close.iloc[-1])


def against_one_row(close):
    return sign(close - close.iloc[150])


def drawn_between(close):
    """Interpolated between every tenth mean."""
    mean = close.rolling(10).mean()
    mean[np.arange(len(mean)) % 10 != 0] = NAN
    return sign(close - mean.interpolate())


def smoothed_by_convolution(close):
    return sign(close - pd.Series(np.convolve(close, np.ones(9) / 9.0, "same"), index=close.index))


NONE = object()  # which bar is the first to leak depends on the prices
LEAKS = [
    (next_move, 0),
    (next_move_filled, NONE),
    (next_signal, 48),
    (centred_window, 5),
    (z_score, 0),
    (min_max, 0),
    (whole_rank, NONE),
    (filled_backwards, 0),
    (filled_with_the_mean, 0),
    (week_labelled_on_the_left, NONE),
    (regression_on_all, NONE),
    (best_window, NONE),
    (first_half, 1),
    (before_a_gap, NONE),
    (single_bars, NONE),
    (against_the_last, NONE),
    (drawn_between, NONE),
    (smoothed_by_convolution, NONE),
]


# ---- strategies that do not ------------------------------------------------------------------------------------------


def exponential_mean(close):
    return sign(close - close.ewm(span=20).mean())


def expanding_z_score(close):
    return ((close - close.expanding(2).mean()) / close.expanding(2).std()).clip(-1.0, 1.0)


def rolling_z_score(close):
    return ((close - close.rolling(20).mean()) / close.rolling(20).std()).clip(-1.0, 1.0)


def mean_by_fft(close):
    """A mean of ten bars as a product of transforms, which rounds otherwise for each length."""
    n_bars = len(close)
    weights = np.where(np.arange(2 * n_bars) < 10, 0.1, 0.0)
    mean = np.fft.irfft(np.fft.rfft(close, 2 * n_bars) * np.fft.rfft(weights), 2 * n_bars)[:n_bars]
    return ((close / mean - 1.0) * 10.0).clip(-1.0, 1.0).where(np.arange(n_bars) >= 9)


def delayed_entry(close):
    return pd.Series((np.arange(len(close)) >= 300).astype(float), index=close.index)


def five_bars_late(close):
    return exponential_mean(close).shift(5)


def seeded(close):
    return np.random.default_rng(7).choice([0.0, 1.0], len(close))


def week_of_before(close):
    return sign(close - close.resample("W").last().shift(1).reindex(close.index, method="ffill"))


def on_mondays(close):
    return (close.index.day_of_week == 0).tolist()


def rises_as_objects(close):
    return (close > close.shift(1)).shift(1)  # True, False and None


def one_bar_after_the_other(close):
    mean, means = close.iloc[0], []
    for price in close:
        mean += 0.1 * (price - mean)
        means.append(mean)
    return np.tanh((close.to_numpy() / np.array(means) - 1.0) * 20.0)


def flat_on_few_bars(close):
    return pd.Series(0.0, index=close.index) if len(close) < 50 else above_mean(close, 50)


def nan_on_few_bars(close):
    return np.full(len(close), NAN) if len(close) < 50 else above_mean(close, 50)


def nothing_on_few_bars(close):
    return [] if len(close) < 50 else above_mean(close, 50)


def refuses_few_bars(close):
    if len(close) < 50:
        raise TooFewBarsError("need 50 bars")
    return above_mean(close, 50)


def fails_on_few_bars(close):
    means = np.lib.stride_tricks.sliding_window_view(close.to_numpy(), 50).mean(axis=1)
    return np.concatenate([np.zeros(49), close.to_numpy()[49:] > means])


def refuses_jumps(close):
    if (close.pct_change().abs() > 0.4).any():
        raise ValueError("these prices are not adjusted")
    return above_mean(close, 50)


CLEAN = [
    exponential_mean,
    expanding_z_score,
    rolling_z_score,
    mean_by_fft,
    delayed_entry,
    five_bars_late,
    seeded,
    week_of_before,
    on_mondays,
    rises_as_objects,
    one_bar_after_the_other,
    flat_on_few_bars,
    nan_on_few_bars,
    nothing_on_few_bars,
    refuses_few_bars,
    fails_on_few_bars,
    refuses_jumps,
    *BUILT_IN,
]


# ---- prices ----------------------------------------------------------------------------------------------------------


def random_walk(seed, n_bars=600):
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0003, 0.01, n_bars)))
    opens = np.concatenate([close[:1], close[:-1]])
    columns = {"Open": opens, "High": np.maximum(opens, close), "Low": np.minimum(opens, close), "Close": close}
    return pd.DataFrame(columns, index=pd.bdate_range("2015-01-01", periods=n_bars))


@functools.cache
def data_set(name):
    if name.startswith("walk"):
        return random_walk(int(name[-1]))
    symbol, interval = name.split()
    return fetch_ohlcv(symbol, interval=interval, source="sample").iloc[:1000]


every_data_set = pytest.mark.parametrize("data", ["AAPL 1d", "^GSPC 1d", "EURUSD=X 1h", "walk 1"])


# ---- what it finds ---------------------------------------------------------------------------------------------------


@every_data_set
@pytest.mark.parametrize(("strategy", "first"), LEAKS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_planted_leak_is_found(strategy, first, data):
    prices = data_set(data)
    report = check_lookahead(here_only(strategy), prices)
    leak = report.first_leak
    assert not report.clean and leak is not None
    assert first is NONE or leak.bar == first
    assert (leak.time, leak.until) == (prices.index[leak.bar], prices.index[leak.cut - 1])
    assert LEAK in [check.verdict for check in report.checks]


@every_data_set
@pytest.mark.parametrize("strategy", CLEAN, ids=lambda strategy: strategy.__name__)
def test_clean_strategy_gives_no_alarm(strategy, data):
    report = check_lookahead(here_only(strategy), data_set(data))
    assert report.clean and report.first_leak is None, str(report)
    assert report.n_cuts >= 15


@pytest.mark.parametrize("windows", [(10, 20, 50, 100), (10, 50), (5, 10), (20, 21, 22)], ids=str)
def test_parameter_chosen_on_all_the_data_is_found_in_every_world(windows):
    """Leaving bars out finds four of five, one factor a few more, and random factors the rest."""
    for seed in range(5):
        assert not check_lookahead(here_only(best_window), random_walk(seed), params={"windows": windows}).clean


def test_evidence_can_be_had_again_by_hand():
    """What the report tells of a leak is what the strategy gives for the bars it names."""
    prices = random_walk(1)
    leak = check_lookahead(here_only(next_signal), prices).first_leak
    assert (leak.bar, leak.cut, leak.test) == (48, 49, SHORTER)
    assert next_signal(prices["Close"]).iloc[48] == leak.full
    assert np.isnan(leak.without) and np.isnan(next_signal(prices["Close"].iloc[:49]).iloc[48])
    leak = check_lookahead(here_only(against_one_row), prices).first_leak
    changed = prices["Close"].where(np.arange(len(prices)) < leak.cut, prices["Close"] * 1.5)
    assert leak.test == TIMES
    assert against_one_row(prices["Close"]).iloc[leak.bar] == leak.full
    assert against_one_row(changed).iloc[leak.bar] == leak.without != leak.full


@pytest.mark.parametrize("place", [5, 150, 151, 400, 598])
@pytest.mark.parametrize("ahead", [1, 3])
def test_leak_on_a_single_bar_is_found_and_named(place, ahead):
    """Flat but on one bar of 600, which is long if a later bar exists and is above 0."""

    def one_bar(close):
        known = close.shift(-ahead)
        return pd.Series(((np.arange(len(close)) == place) & (known > 0.0)).astype(float), index=close.index)

    if place + ahead < 600:
        assert check_lookahead(one_bar, random_walk(3)).first_leak.bar == place


@pytest.mark.parametrize("first", range(20, 200, 45))
def test_first_of_many_leaking_bars_is_named(first):
    """An honest start, and from some bar on the next signal."""

    def from_there(close):
        honest = exponential_mean(close)
        return honest.where(np.arange(len(close)) < first, honest.shift(-1))

    assert check_lookahead(from_there, random_walk(4)).first_leak.bar == first


def test_bars_that_it_was_not_given_are_a_leak():
    """A strategy that kept the signals of all the bars, and gives them for fewer."""
    kept = {}

    def from_memory(close):
        return kept.setdefault("signals", np.ones(len(close))) if len(close) > 550 else np.ones(len(close))

    def remembers(close):
        signals = from_memory(close)
        return kept.get("signals", signals)

    leak = check_lookahead(remembers, random_walk(1)).first_leak
    assert (leak.bar, leak.cut, leak.full, leak.without) == (1, 1, 1.0, 1.0)
    said = check_lookahead(remembers, random_walk(1)).summary
    assert "It gives a signal for 2015-01-02, 1, when it is given only the first bar, 2015-01-01." in said


@pytest.mark.parametrize(("column", "times"), [("float", 1.0), ("int", 100.0)])
def test_leak_through_another_column_is_found(column, times):
    prices = random_walk(1)
    prices["Name"] = "x"
    prices["Other"] = (prices["Close"] * times).astype(column)

    def other(prices, *, ahead=0):
        assert prices["Name"].eq("x").all() and prices["Other"].dtype == column
        return sign(prices["Other"].rolling(5).mean() - prices["Other"].shift(-ahead))

    assert check_lookahead(other, prices).clean
    assert check_lookahead(other, prices, params={"ahead": 1}).first_leak.bar == 4


def test_closes_alone_can_be_checked():
    closes = random_walk(1)["Close"]
    assert check_lookahead(here_only(exponential_mean), closes).clean
    assert not check_lookahead(here_only(next_move), closes).clean


def test_own_mutable_default_is_fresh_in_every_call():
    """Parameters are copied for each run, so nothing is kept there; what is left is an honest mean."""

    def counted(close, *, seen=[]):  # noqa: B006
        seen.append(1)
        return exponential_mean(close) * len(seen)

    assert check_lookahead(counted, random_walk(1)).clean


@pytest.mark.parametrize("n_bars", [2, 3, 5, 12])
def test_few_bars_can_be_checked(n_bars, bars):
    prices = bars([100.0, 101.0, 99.0, 102.0, 98.0, 103.0, 97.0, 104.0, 96.0, 105.0, 95.0, 106.0][:n_bars])
    assert check_lookahead(here_only(exponential_mean), prices).clean
    assert not check_lookahead(here_only(next_move), prices).clean


# ---- signals that change from call to call ---------------------------------------------------------------------------


def test_random_signals_are_called_so_and_the_rest_is_void():
    rng = np.random.default_rng(1)
    report = check_lookahead(lambda prices: rng.normal(size=len(prices)), random_walk(1))
    assert not report.clean and report.first_leak is None and report.n_cuts == 0
    assert report.conclusive and repr(report).endswith(": not clean>")
    assert "gives other signals when called again with the same bars: " in report.summary
    assert [check.verdict for check in report.checks] == [OTHER, NOT_RUN, NOT_RUN, NOT_RUN, NOT_RUN]


def test_signals_that_change_now_and_then_are_not_taken_for_look_ahead():
    """The first three calls agree."""
    calls = itertools.count()

    def moody(close):
        return exponential_mean(close) if next(calls) < 3 else 1.0 - exponential_mean(close)

    report = check_lookahead(moody, random_walk(1))
    assert not report.clean and report.first_leak is None
    assert report.checks[0].verdict == OTHER


def test_what_is_kept_of_longer_data_is_found_without_another_process():
    """Fewer bars come before all of them, for a strategy that only this process has."""
    kept = {"mean": NAN, "n": 0}

    def longest(close):
        if len(close) > kept["n"]:
            kept.update(mean=close.mean(), n=len(close))
        return sign(close - kept["mean"])

    report = check_lookahead(longest, random_walk(1))
    assert not report.clean and report.first_leak.test == FIRST
    assert "before it has seen the others" in report.summary


# ---- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "signals", [np.ones(600), pd.Series(np.ones(600)), [1.0] * 600], ids=lambda s: type(s).__name__
)
def test_array_cannot_be_checked(signals):
    with pytest.raises(ParameterError, match="array of target positions cannot be checked"):
        check_lookahead(signals, random_walk(1))


@pytest.mark.parametrize(
    ("strategy", "params", "error", "said"),
    [
        ("ma_crosover", {}, ParameterError, "did you mean 'ma_crossover'"),
        ("ma_crossover", {"fast": 5}, ParameterError, "has no parameter 'fast'"),
        ("ma_crossover", {"fast_window": 50}, ParameterError, "must be below slow_window"),
        ("ma_crossover", {"slow_window": 601}, TooFewBarsError, "gave no signal in 600 bars"),
        (lambda prices: prices["Clse"], {}, KeyError, "Clse"),
        (lambda prices: [1.0], {}, ParameterError, "need one target position a bar, 600, got 1"),
        (lambda prices: prices, {}, ParameterError, "must be numbers, one a bar"),
        (lambda prices: ["x"] * 600, {}, ParameterError, "must be numbers, one a bar"),
        (lambda prices: 1.0, {}, ParameterError, "got"),
        (lambda prices: prices["Close"].shift(freq="D"), {}, ParameterError, "is not that of the prices"),
        (lambda prices: prices["Close"] * NAN, {}, TooFewBarsError, "gave no signal in 600 bars"),
    ],
)
def test_what_cannot_be_run_is_an_error_as_in_a_backtest(strategy, params, error, said):
    with pytest.raises(error, match=said):
        check_lookahead(strategy, random_walk(1), params=params)
    with pytest.raises(error):
        run_backtest(random_walk(1), strategy, params=params)


def test_prices_that_cannot_be_backtested_are_refused(bars):
    with pytest.raises(PricesError, match="Open is nan on 2023-01-04"):
        check_lookahead("buy_and_hold", bars([1.0, NAN, 2.0]))


def test_prices_of_the_caller_stay_as_they_are():
    prices = random_walk(1)
    before = prices.copy(deep=True)

    def greedy(prices):
        prices["Close"] = 1.0
        return np.ones(len(prices))

    assert check_lookahead(greedy, prices).clean
    pd.testing.assert_frame_equal(prices, before)


def test_strategy_is_not_called_more_often_than_a_report_can_bear():
    """A signal that changes at every bar; 200 calls of 0.2 ms are 40 ms."""
    calls = []

    def noisy(close):
        calls.append(1)
        return rolling_z_score(close)

    assert check_lookahead(noisy, random_walk(1, 3000)).clean
    assert len(calls) < 140


# ---- what it says ----------------------------------------------------------------------------------------------------


def test_clean_report_reads_well(aapl):
    report = check_lookahead(here_only(ma_crossover), aapl, params={"fast_window": 5, "slow_window": 20})
    n_cuts = report.n_cuts
    assert str(report).splitlines() == [
        f"ma_crossover(fast_window=5, slow_window=20) on AAPL: no look-ahead found at {n_cuts} cuts of 250 bars; "
        "it was not checked in a fresh process.",
        "  called again: same signals",
        f"  later bars left out: same signals at {n_cuts} cuts",
        "  later prices times 1.5: same signals at 17 cuts",
        "  later prices times random factors: same signals at 11 cuts",
        "  fewer bars before all of them: same signals at 1 cut",
        "  fresh process: not possible: for a function that module backgrid.strategies does not hold under its name; "
        "put a plain function into a module",
    ]
    assert repr(report) == (
        f"<LookaheadReport ma_crossover(fast_window=5, slow_window=20) on AAPL: clean at {n_cuts} cuts>"
    )
    report.raise_if_leaky()


def test_leaky_report_reads_well(aapl):
    report = check_lookahead(here_only(next_signal), aapl)
    said = (
        "next_signal() on AAPL looks ahead. Its signal on 2023-03-14 is 1 with all 250 bars, "
        "but NaN with only the first 49 bars, up to 2023-03-14."
    )
    assert report.summary == said
    assert str(report).splitlines()[0] == said
    assert "  later bars left out: look-ahead at " in str(report)
    assert repr(report) == "<LookaheadReport next_signal() on AAPL: not clean>"
    with pytest.raises(LookaheadError, match="looks ahead. Its signal on 2023-03-14") as raised:
        report.raise_if_leaky()
    assert isinstance(raised.value, BackgridError)


def test_refusals_are_counted_with_a_reason():
    report = check_lookahead(here_only(refuses_few_bars), random_walk(1))
    (shorter,) = (check for check in report.checks if check.name == SHORTER)
    assert (shorter.verdict, shorter.remark) == (SAME, "refused at 4 more, saying TooFewBarsError: need 50 bars")
    report = check_lookahead(here_only(refuses_jumps), random_walk(1))
    (times,) = (check for check in report.checks if check.name == TIMES)
    assert times.verdict == NOT_POSSIBLE and times.n_cuts == 0
    assert times.remark.startswith(
        "refused at all, saying ValueError: these prices are not adjusted (test_lookahead.py"
    )


def test_page_escapes_what_it_is_given():
    def payload(close, *, text="<script>"):
        return exponential_mean(close)

    shown = check_lookahead(payload, random_walk(1))._repr_html_()
    assert "<script>" not in shown and "payload(text=&lt;script&gt;)" in shown
    assert shown.count("<tr>") == 7


def test_warnings_of_fewer_bars_are_not_shown():
    """The mean of no bars warns; with all bars there is none such."""

    def warns(close):
        close.to_numpy()[50:].mean()
        return np.ones(len(close))

    assert check_lookahead(warns, random_walk(1)).clean


def test_comparison_is_that_of_numpy():
    values = np.array([0.0, -0.0, 1.0, 1.0 + 5e-10, 1.0 + 2e-9, 1e-13, 2e-12, NAN, np.inf, -np.inf, 1e300])
    ours, theirs = (side.ravel() for side in np.meshgrid(values, values))
    expected = np.isclose(ours, theirs, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert lookahead._equal(ours, theirs).tolist() == expected.tolist()


# ---- the fresh process -----------------------------------------------------------------------------------------------

MODULE = """
import os, sys
import pandas as pd

KEPT = {}
SPAN = 20

def honest(close):
    return (close > close.ewm(span=SPAN).mean()).astype(float)

def global_cache(close):
    if "mean" not in KEPT:
        KEPT["mean"] = close.mean()
    return (close > KEPT["mean"]).astype(float)

def kept_signals(close):
    if "signals" not in KEPT:
        KEPT["signals"] = (close > close.mean()).astype(float)
    return KEPT["signals"].loc[close.index]

def attribute(close):
    if not hasattr(attribute, "mean"):
        attribute.mean = close.mean()
    return (close > attribute.mean).astype(float)

def _mean(close, kept=[]):
    if not kept:
        kept.append(close.mean())
    return kept[0]

def default_of_a_helper(close):
    return (close > _mean(close)).astype(float)

def chosen_once(close):
    lines = {window: (close > close.rolling(window).mean()).astype(float) for window in (10, 20, 50, 100)}
    if "best" not in KEPT:
        KEPT["best"] = max(lines, key=lambda window: (lines[window].shift(1) * close.pct_change()).sum())
    return lines[KEPT["best"]]

def kept_honestly(close):
    if "honest" not in KEPT:
        KEPT["honest"] = honest(close)
    return KEPT["honest"].reindex(close.index)

def keyed(close):
    key = (len(close), close.sum())
    if key not in KEPT:
        KEPT[key] = honest(close)
    return KEPT[key]

def needs_all_first(close):
    if len(close) > 249:
        KEPT["long"] = True
    return honest(close) if KEPT["long"] else None

def talks(close):
    print("some words", flush=True)
    os.write(1, b"more words")
    return honest(close)

def hangs_elsewhere(close):
    if "here" not in KEPT:
        import threading
        threading.Event().wait()
    return honest(close)

def ends_elsewhere(close):
    if "here" not in KEPT:
        os._exit(3)
    return honest(close)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module with strategies, imported from a folder of its own; more lines can be put below it."""
    made = []

    def make(more="", name=f"strategies_of_{tmp_path.name}"):
        (tmp_path / f"{name}.py").write_text(MODULE + more)
        monkeypatch.syspath_prepend(tmp_path)
        made.append(name)
        return importlib.import_module(name)

    yield make
    for name in made:
        lookahead.sys.modules.pop(name, None)


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The processes that a check starts; none is left afterwards, nor any file."""
    folder, processes = tmp_path / "temporary", []
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    yield processes
    assert all(process.returncode is not None for process in processes)
    assert list(folder.iterdir()) == []


def test_built_in_strategy_is_checked_in_a_fresh_process(aapl, started):
    report = check_lookahead("macd", aapl)
    assert report.clean and report.checks[-1] == (FRESH, SAME, 4, "")
    assert "fresh" not in report.summary
    assert len(started) == 1


@pytest.mark.parametrize("name", ["global_cache", "kept_signals", "attribute", "default_of_a_helper", "chosen_once"])
def test_what_a_strategy_keeps_of_later_bars_is_found_in_a_fresh_process(name, aapl, module, started):
    report = check_lookahead(getattr(module(), name), aapl)
    leak = report.first_leak
    assert not report.clean and leak.test in (f"{FRESH}, {SHORTER}", f"{FRESH}, {SHAKEN}")
    assert leak.full != leak.without
    assert [check.verdict for check in report.checks] == [SAME, SAME, SAME, SAME, LEAK]
    assert " in a fresh process, " in report.summary


@pytest.mark.parametrize("name", ["honest", "keyed", "talks"])
def test_module_without_leaks_is_clean_in_a_fresh_process(name, aapl, module, started, capfd):
    assert check_lookahead(getattr(module(), name), aapl).checks[-1].verdict == SAME
    assert "more words" in capfd.readouterr().out or name != "talks"


def test_honest_signals_that_are_kept_are_no_look_ahead_but_no_signals_of_other_bars_either(aapl, module):
    report = check_lookahead(module().kept_honestly, aapl)
    assert not report.clean and report.first_leak is None
    assert report.summary.endswith(
        "gives other signals once it was called with other bars: it keeps something between calls."
    )


def test_setting_that_only_this_process_has_is_told_from_look_ahead(aapl, module):
    changed = module()
    changed.SPAN = 5
    report = check_lookahead(changed.honest, aapl)
    assert not report.clean and report.first_leak is None
    assert "honest() on AAPL gives other signals in a fresh process than here (" in report.summary
    assert "fresh process: other signals" in str(report)
    with pytest.raises(LookaheadError, match="in a fresh process than here"):
        report.raise_if_leaky()


def test_strategy_that_must_see_all_bars_first_is_not_clean(aapl, module):
    report = check_lookahead(module().needs_all_first, aapl)
    assert not report.clean and "KeyError: 'long'" in report.summary


def test_failure_of_the_fresh_process_is_told_by_its_last_line(aapl, module, started):
    found = module("\nif 'strategies' not in KEPT: pass\n")
    (path,) = (lookahead.Path(found.__file__),)
    path.write_text("import a_module_that_is_not_there\n")
    report = check_lookahead(found.honest, aapl)
    assert report.checks[-1].verdict == FAILED
    assert report.checks[-1].remark == "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"
    assert report.clean and report.summary.endswith("; it was not checked in a fresh process.")


def test_exit_of_the_fresh_process_without_a_word_is_told(aapl, module, started):
    found = module()
    found.KEPT["here"] = True
    assert check_lookahead(found.ends_elsewhere, aapl).checks[-1] == (FRESH, FAILED, 0, "it ended without an answer")


def test_fresh_process_that_hangs_is_ended(aapl, module, started, monkeypatch):
    found = module()
    found.KEPT["here"] = True
    monkeypatch.setattr(lookahead, "LIMIT", 0.01)
    check = check_lookahead(found.hangs_elsewhere, aapl).checks[-1]
    assert check == (FRESH, FAILED, 0, "no answer within 0.01 seconds")


def test_interrupted_check_leaves_no_process_behind(aapl, module, started, monkeypatch):
    found = module()

    def interrupt(close):
        raise KeyboardInterrupt

    monkeypatch.setattr(found, "honest", interrupt)
    interrupt.__module__, interrupt.__qualname__ = found.__name__, "honest"
    with pytest.raises(KeyboardInterrupt):
        check_lookahead(interrupt, aapl)
    assert len(started) == 1


def test_leak_found_here_needs_no_fresh_process(aapl, module, started):
    found = module("\ndef leaky(close): return close.shift(-1) > close\n")
    report = check_lookahead(found.leaky, aapl)
    assert report.checks[-1] == (FRESH, NOT_RUN, 0, "")
    assert len(started) == 1


def test_module_that_checks_itself_when_imported_starts_no_chain_of_processes(aapl, module, started):
    checks = "\nfrom backgrid.lookahead import check_lookahead\nfrom backgrid.data import fetch_ohlcv\n"
    checks += "REPORT = check_lookahead(honest, fetch_ohlcv('AAPL', '2023-01-01', '2023-12-31', source='sample'))\n"
    assert module(checks).REPORT.checks[-1].verdict == SAME
    assert len(started) == 1


def test_module_that_registers_its_strategy_can_be_imported_afresh(aapl, module, monkeypatch):
    monkeypatch.setattr("backgrid.strategies.STRATEGIES", dict(lookahead.STRATEGIES))
    module("\nfrom backgrid.strategies import register_strategy\nregister_strategy(global_cache)\n")
    assert check_lookahead("global_cache", aapl).first_leak.test == f"{FRESH}, {SHORTER}"


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (lambda prices: np.ones(len(prices)), "for a lambda; put a plain function into a module"),
        (here_only(lambda prices: np.ones(len(prices))), "for a lambda; put a plain function into a module"),
        (functools.partial(exponential_mean), "for an object (partial); put a plain function into a module"),
    ],
)
def test_what_cannot_be_imported_is_said(strategy, said, aapl, started):
    report = check_lookahead(strategy, aapl)
    assert report.checks[-1] == (FRESH, NOT_POSSIBLE, 0, said)
    assert report.clean and report.summary.endswith("; it was not checked in a fresh process.")
    assert report.checks[-2].name == FIRST
    assert started == []


def test_function_of_a_notebook_is_said_to_be_one(aapl, monkeypatch):
    monkeypatch.setattr(exponential_mean, "__module__", "__main__")
    said = "for a function defined in a notebook or script (__main__); put it into a module"
    assert check_lookahead(exponential_mean, aapl).checks[-1] == (FRESH, NOT_POSSIBLE, 0, said)


def test_function_inside_another_is_said_to_be_one(aapl):
    def inner(close):
        return exponential_mean(close)

    said = check_lookahead(inner, aapl).checks[-1].remark
    assert said.startswith("for a function defined in another one (test_function_inside_another_is_said_to_be_one)")


def test_lambda_with_a_name_in_a_module_can_be_imported(aapl, module):
    assert check_lookahead(module("\nnamed = lambda close: honest(close)\n").named, aapl).checks[-1].verdict == SAME


def test_parameters_that_cannot_be_sent_are_said(aapl, module):
    found = module("\ndef by(close, *, line=None): return line(close)\n")
    report = check_lookahead(found.by, aapl, params={"line": lambda close: close > close.shift(1)})
    assert report.checks[-1].verdict == NOT_POSSIBLE
    assert report.checks[-1].remark.startswith("its prices or parameters cannot be sent there: ")


def test_python_that_cannot_be_started_is_said(aapl, module, started, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    check = check_lookahead(module().honest, aapl).checks[-1]
    assert check.verdict == NOT_POSSIBLE and check.remark.startswith("Python cannot be started: ")


def test_two_steps_find_what_one_finds(aapl, module, started):
    honest = module().honest
    with start_check(honest, aapl) as finish:
        assert len(started) == 1
        report = finish()
    assert report == check_lookahead(honest, aapl)
    with start_check(honest, aapl):
        pass  # never asked for: the fixture sees that its process has ended


# ---- strategies in files ---------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    """`file(text)` writes a file of strategies, of a name that no import takes."""

    def write(text=MODULE):
        path = tmp_path / "01 my-strategies.py"
        path.write_text(text)
        return path

    return write


def test_strategy_is_loaded_from_a_file_and_checked_afresh(file, aapl, tmp_path):
    assert check_lookahead(load_strategy(f"{file()}:honest"), aapl).checks[-1].verdict == SAME
    assert check_lookahead(load_strategy(f"{file()}:attribute"), aapl).first_leak.test == f"{FRESH}, {SHORTER}"
    assert [path.name for path in tmp_path.iterdir()] == ["01 my-strategies.py"]


def test_file_may_import_its_neighbours(file, aapl, tmp_path):
    (tmp_path / "my_helper_beside.py").write_text("def mean(close): return close.ewm(span=9).mean()\n")
    path = file("from my_helper_beside import mean\ndef fine(close): return (close > mean(close)).astype(float)\n")
    assert check_lookahead(load_strategy(f"{path}:fine"), aapl).checks[-1].verdict == SAME


def test_changed_file_is_read_again(file):
    first = load_strategy(f"{file('def f(close): return 1')}:f")
    assert (first(None), load_strategy(f"{file('def f(close): return 2')}:f")(None)) == (1, 2)


def test_registered_name_is_loaded_too():
    assert load_strategy("ma_crossover") is ma_crossover
    assert register_strategy(ma_crossover) is ma_crossover


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("def fine(close): pass", "fin", "has no function 'fin'; did you mean 'fine'"),
        ("X = 1", "X", "has no function 'X'; known: none"),
        (
            "import nowhere_at_all",
            "f",
            "cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all' (01 my",
        ),
        (
            "x = 1\ny = x / 0",
            "f",
            "cannot be imported: ZeroDivisionError: division by zero (01 my-strategies.py, line 2)",
        ),
        ("def f(:", "f", "cannot be imported: SyntaxError: "),
        ("raise SystemExit(4)", "f", "cannot be imported: SystemExit: 4"),
    ],
)
def test_file_that_has_no_such_strategy_is_refused(text, name, said, file):
    with pytest.raises(ParameterError) as raised:
        load_strategy(f"{file(text)}:{name}")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere.py:f", "there is no file nowhere.py"),
        ("nowhere.py", "name the function too, as in nowhere.py:FUNCTION"),
        ("ma_crosover", "did you mean 'ma_crossover'"),
        ("module:function", "unknown strategy 'module:function'"),
        ("", "unknown strategy ''"),
    ],
)
def test_word_that_names_no_strategy_is_refused(text, said):
    with pytest.raises(ParameterError) as raised:
        load_strategy(text)
    assert said in str(raised.value)


def test_called_again_comes_first_and_the_fresh_process_last(aapl):
    names = [check.name for check in check_lookahead(here_only(exponential_mean), aapl).checks]
    assert names == [AGAIN, SHORTER, TIMES, SHAKEN, FIRST, FRESH]


def test_a_strategy_that_could_not_be_asked_is_not_clean(aapl):
    """It looks ahead, and refuses whatever is not the whole truth."""
    last = aapl["Close"].iloc[-1]

    def guarded(prices):
        if len(prices) < 250 or prices["Close"].iloc[-1] != last:
            raise ValueError("not these bars")
        return (prices["Close"].shift(-1) > prices["Close"]).astype(float)

    report = check_lookahead(guarded, aapl)
    assert report.n_cuts == 0 and not report.clean and "could not be checked" in report.summary
    assert not report.conclusive and repr(report).endswith("guarded() on AAPL: nothing could be compared>")
    with pytest.raises(LookaheadError):
        report.raise_if_leaky()
