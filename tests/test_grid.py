"""A sweep: every cell is `run_backtest`, however it is cut up, and no winner stands without the number of trials."""

import concurrent.futures
import contextlib
import copy
import dataclasses
import enum
import multiprocessing
import pickle
import re
import sys
import tracemalloc
from collections import Counter

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backgrid import _kernels, search
from backgrid import grid as grid_module
from backgrid._sweep import CORE
from backgrid.engine import run_backtest
from backgrid.errors import ParameterError, PricesError
from backgrid.grid import DEFAULT_METRICS, GridResult, Winner, run_grid
from backgrid.indicators import above, below, ema, sma
from backgrid.metrics import METRICS
from backgrid.strategies import register_strategy
from backgrid.trials import Trials

PAIRS = {"fast_window": [3, 5, 8, 13], "slow_window": [8, 20, 40]}


# ---- strategies of a user's ------------------------------------------------------------------------------------------


def long_short(prices, *, fast=2, slow=5):
    close = prices["Close"]
    return above(sma(close, fast), ema(close, slow)) - below(sma(close, fast), ema(close, slow))


def numpy_momentum(prices, *, window=5):
    close = prices["Close"].to_numpy()
    target = np.zeros(close.size)
    target[window:] = np.sign(close[window:] - close[:-window])
    return target


def by_word(prices, *, mean="sma", window=3, turned=False):
    line = {"sma": sma, "ema": ema}[mean](prices["Close"], window)
    return below(prices["Close"], line) if turned else above(prices["Close"], line)


def parts(prices, *, last=3, size=1.0):
    """A share of 5 % for each unit of size, until a bar."""
    return (np.arange(len(prices)) < last) * size * 0.05


def held(prices, *, first=0, last=3):
    """Bought at the close of one bar, sold at that of another."""
    place = np.arange(len(prices))
    return ((place >= first) & (place < last)) * 1.0


SWEEPS = {
    "pairs": ("ma_crossover", PAIRS),
    "no parameter": ("buy_and_hold", {}),
    "points": ("ma_crossover", [{"fast_window": f, "slow_window": s} for f, s in ((5, 9), (9, 5), (2, 4), (3, 9))]),
    "three": ("macd", {"fast_window": [2, 5], "slow_window": [8, 12], "signal_window": [3, 5]}),
    "short": (long_short, {"fast": [1, 2, 3], "slow": [5, 9]}),
    "called": (numpy_momentum, {"window": [1, 2, 3, 5, 8, 13, 21]}),
    "words": (by_word, {"mean": ["sma", "ema"], "window": [2, 5], "turned": [True, False]}),
}
every_sweep = pytest.mark.parametrize("sweep", SWEEPS)


def cells(result):
    return result.metrics.to_numpy(dtype=float)


def hold_to_single_runs(result, prices, strategy, **terms):
    """Every cell of the sweep against `run_backtest` with its parameters."""
    for place, row in enumerate(cells(result)):
        single = run_backtest(prices, strategy, params=result.params(place), **terms).metrics
        expected = [single[name] for name in result.metrics.columns]
        np.testing.assert_allclose(row, expected, rtol=1e-12, atol=1e-12)


def same(left, right):
    """Two sweeps of the same, to the bit."""
    pd.testing.assert_frame_equal(left.metrics, right.metrics, check_exact=True)
    counts = [(r.n_trials, r.n_refused, r.n_excluded, r.partial, r.symbol, r.strategy) for r in (left, right)]
    assert counts[0] == counts[1]


# ---- every cell is a single run --------------------------------------------------------------------------------------


@every_sweep
@pytest.mark.parametrize("fill", ["next_open", "close", "next_close"])
def test_every_cell_is_a_single_run(aapl, sweep, fill):
    strategy, grid = SWEEPS[sweep]
    for terms in ({"fees": 0.001, "slippage": 0.0005}, {"stop_loss": 0.05, "metrics": ["n_trades", "sharpe", "alpha"]}):
        result = run_grid(aapl, strategy, grid, fill=fill, **terms)
        terms.pop("metrics", None)
        hold_to_single_runs(result, aapl, strategy, fill=fill, **terms)


@given(
    st.integers(0, 2**32),
    st.integers(12, 80),
    st.sampled_from(list(SWEEPS)),
    st.sampled_from(["30KB", "60KB", "1MB", 10**8]),
    st.integers(60, 4000),
)
@settings(max_examples=60)
def test_memory_and_batches_change_nothing(seed, n_bars, sweep, memory, work):
    prices, (strategy, grid) = plain.odd_bars("walk", seed, n_bars), SWEEPS[sweep]
    try:
        expected = run_grid(prices, strategy, grid, fees=0.001)
    except ParameterError as error:
        assert "every combination is refused" in str(error)  # noqa: PT017
        return
    hold_to_single_runs(expected, prices, strategy, fees=0.001)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "WORK", work)
        patch.setattr(search, "N_CALLED", 1 + work % 7)
        same(run_grid(prices, strategy, grid, fees=0.001, memory=memory), expected)


@every_sweep
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_change_nothing(aapl, sweep, n_threads, monkeypatch):
    expected = run_grid(aapl, *SWEEPS[sweep], fees=0.001)
    monkeypatch.setattr(grid_module, "n_threads", lambda: n_threads)
    same(run_grid(aapl, *SWEEPS[sweep], fees=0.001), expected)


def test_a_registered_function_and_a_dictionary_of_settings_will_do(aapl, monkeypatch):
    monkeypatch.setattr("backgrid.strategies.STRATEGIES", {})
    register_strategy(long_short)
    by_name = run_grid(aapl, "long_short", {"fast": [1, 2], "slow": [5]}, **{"fees": 0.001})
    same(by_name, run_grid(aapl, long_short, {"fast": [1, 2], "slow": [5]}, fees=0.001))


# ---- executors -------------------------------------------------------------------------------------------------------


class InPlace(concurrent.futures.Executor):
    """The least that an executor can be; before batch number `stop` someone presses Ctrl-C."""

    def __init__(self, stop=None):
        self.submitted, self.stop = [], stop

    def submit(self, function, /, *args):
        future = concurrent.futures.Future()
        if len(self.submitted) == self.stop:
            future.set_exception(KeyboardInterrupt())
        else:
            future.set_result(function(*args))
        self.submitted.append(future)
        return future


@pytest.fixture(scope="module", params=["one thread", "three threads", "one process", "two processes", "in place"])
def executor(request):
    spawn = multiprocessing.get_context("spawn")
    with {
        "one thread": lambda: concurrent.futures.ThreadPoolExecutor(1),
        "three threads": lambda: concurrent.futures.ThreadPoolExecutor(3),
        "one process": lambda: concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn),
        "two processes": lambda: concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn),
        "in place": InPlace,
    }[request.param]() as pool:
        yield pool


@every_sweep
def test_an_executor_changes_nothing(aapl, sweep, executor):
    expected = run_grid(aapl, *SWEEPS[sweep], fees=0.001)
    same(run_grid(aapl, *SWEEPS[sweep], fees=0.001, executor=executor), expected)


def test_an_executor_takes_part_in_all_the_rest(aapl, executor, tmp_path):
    terms = {"where": "fast_window < 13", "stop_loss": 0.05, "metrics": ["beta", "n_trades"]}
    expected = run_grid(aapl, *SWEEPS["pairs"], **terms)
    same(run_grid(aapl, *SWEEPS["pairs"], executor=executor, checkpoint=tmp_path / "sweep", **terms), expected)
    same(run_grid(aapl, *SWEEPS["pairs"], checkpoint=tmp_path / "sweep", **terms), expected)


def test_a_large_sweep_is_shared_among_workers(aapl):
    pool = InPlace()
    result = run_grid(aapl, "ma_crossover", {"fast_window": range(1, 20), "slow_window": range(20, 40)}, executor=pool)
    assert result.n_trials == 380 and len(pool.submitted) >= search.WORKERS


def test_an_error_in_a_worker_is_the_error_of_the_sweep(aapl, executor):
    with pytest.raises(ParameterError, match="every combination is refused; the first says: window must be at least 1"):
        run_grid(aapl, "momentum", {"window": [0, -1]}, executor=executor)
    with pytest.raises(PricesError, match="lack High, Low"):
        run_grid(aapl["Close"], "donchian_breakout", {"entry_window": [3]}, fill="close", executor=executor)


# ---- what comes back -------------------------------------------------------------------------------------------------


def test_combinations_stand_in_the_order_of_the_grid(aapl):
    grid = {"slow_window": [40, 8, 20], "fast_window": [5, 3]}
    result = run_grid(aapl, "ma_crossover", grid)
    assert result.metrics.index.tolist() == [(s, f) for s in (40, 8, 20) for f in (5, 3)]
    assert result.metrics.index.names == ["slow_window", "fast_window"]
    assert [result.params(place) for place in (0, 1)] == [
        {"slow_window": 40, "fast_window": 5},
        {"slow_window": 40, "fast_window": 3},
    ]


def test_points_stand_in_their_order(aapl):
    result = run_grid(aapl, "ma_crossover", [{"fast_window": f, "slow_window": 20} for f in (9, 3, 12, 5)])
    assert result.metrics.index.tolist() == [(9, 20), (3, 20), (12, 20), (5, 20)]


def test_one_parameter_is_a_plain_index_and_none_a_row(aapl):
    one, none = run_grid(aapl, "momentum", {"window": [9, 3]}), run_grid(aapl, "buy_and_hold", {})
    assert one.metrics.index.tolist() == [9, 3] and one.metrics.index.name == "window"
    assert none.metrics.index.tolist() == [0] and none.params(0) == {}
    assert run_grid(aapl, "ma_crossover", {}).params(0) == {}  # its defaults


def test_text_and_truth_values_stand_in_the_index(aapl):
    result = run_grid(aapl, by_word, {"mean": np.array(["sma", "ema"]), "turned": [True, False]})
    assert result.metrics.index.tolist() == [("sma", True), ("sma", False), ("ema", True), ("ema", False)]
    assert result.metrics.loc[("ema", True), "sharpe"] == cells(result)[2, result.metrics.columns.get_loc("sharpe")]
    assert result.params(3) == {"mean": "ema", "turned": False} and type(result.params(3)["turned"]) is bool


def test_values_of_numpy_are_plain_in_the_result(aapl):
    result = run_grid(aapl, "bollinger_reversion", {"window": np.arange(5, 8), "width": np.linspace(1, 2, 2)})
    assert {type(value) for value in result.params(0).values()} == {int, float}
    hold_to_single_runs(result, aapl, "bollinger_reversion")


def test_counts_are_whole_numbers(aapl):
    result = run_grid(aapl, "ma_crossover", PAIRS, metrics=["n_trades", "sharpe", "win_streak"])
    assert result.metrics.dtypes.tolist() == [np.int64, np.float64, np.int64]


def test_metrics_are_those_that_were_asked_for_in_that_order(aapl):
    assert run_grid(aapl, "momentum", {"window": [3]}).metrics.columns.tolist() == list(DEFAULT_METRICS)
    assert set(DEFAULT_METRICS) == set(CORE)
    for names in (["sharpe"], ["n_trades", "sharpe", "cagr"], ("alpha", "sharpe", "alpha"), list(METRICS)):
        found = run_grid(aapl, "momentum", {"window": [3, 5]}, metrics=names)
        assert found.metrics.columns.tolist() == list(dict.fromkeys(names))
        hold_to_single_runs(found, aapl, "momentum")


def test_names_of_metrics_are_texts_that_no_earlier_result_can_change(aapl):
    class Name(enum.StrEnum):
        S = "sharpe"

    first = run_grid(aapl, "momentum", {"window": [3]}, metrics=[Name.S]).metrics
    assert type(first.columns.tolist()[0]) is str
    first.columns.name = "mine"
    with pytest.raises(ValueError, match="read-only"):
        first.columns.values[0] = "mine"
    again = run_grid(aapl, "momentum", {"window": [3]}, metrics=["sharpe"]).metrics
    assert again.columns.tolist() == ["sharpe"] and again.columns.name is None


def test_refused_and_excluded_combinations_are_counted_and_left_out(aapl):
    """Of 4 x 4 pairs two have the window 0 or 999 each way round; of the others 3 are the wrong way round."""
    grid = {"fast_window": [0, 3, 5, 999], "slow_window": [4, 9, 999, 20]}
    result = run_grid(aapl, "ma_crossover", grid, where="slow_window != 20 or fast_window < 5")
    assert result.metrics.index.tolist() == [(3, 4), (3, 9), (3, 20), (5, 9)]
    assert (result.n_trials, result.n_refused, result.n_excluded) == (4, 10, 2)


@given(
    st.lists(st.integers(-2, 300), min_size=1, max_size=5, unique=True),
    st.lists(st.integers(-2, 300), min_size=1, max_size=5, unique=True),
    st.integers(-5, 300),
)
@settings(max_examples=60)
def test_all_combinations_are_accounted_for(fast, slow, most):
    prices, grid = plain.random_bars(1, 60), {"fast_window": fast, "slow_window": slow}
    tried = [(f, s) for f in fast for s in slow if 1 <= f < s <= 60 and s <= most]
    excluded = sum(s > most for s in slow) * len(fast)
    try:
        result = run_grid(prices, "ma_crossover", grid, where=lambda slow_window: slow_window <= most)
    except ParameterError:
        assert not tried
        return
    assert result.metrics.index.tolist() == tried
    assert (result.n_trials, result.n_excluded) == (len(tried), excluded)
    assert result.n_trials + result.n_refused + result.n_excluded == len(fast) * len(slow)


def test_an_expression_and_a_function_exclude_alike(aapl):
    by_text = run_grid(aapl, "ma_crossover", PAIRS, where="2 * fast_window <= slow_window")
    by_function = run_grid(
        aapl, "ma_crossover", PAIRS, where=lambda **point: point["fast_window"] * 2 <= point["slow_window"]
    )
    same(by_text, by_function)
    assert (by_text.n_trials, by_text.n_refused, by_text.n_excluded) == (8, 0, 4)


def test_what_is_excluded_is_never_called(aapl):
    seen = []

    def noted(prices, *, window=3):
        seen.append(np.zeros(len(prices))[window])  # an axis is no place
        return (prices["Close"].diff(window) > 0.0) * 1.0

    result = run_grid(aapl, noted, {"window": [1, 2, 3, 4]}, where="window % 2 == 0")
    assert (result.n_trials, result.n_excluded, len(seen)) == (2, 2, 2)


def test_settings_are_shown_as_by_a_run(aapl):
    terms = {"fees": 0.001, "fill": "close", "stop_loss": np.full(250, 0.05)}
    assert (
        run_grid(aapl, "momentum", {"window": [3]}, **terms).settings
        == run_backtest(aapl, "momentum", **terms).settings
    )


def test_the_prices_are_not_changed(aapl):
    before = aapl.copy()
    run_grid(aapl, by_word, {"window": [2, 3]})
    pd.testing.assert_frame_equal(aapl, before)


@pytest.fixture
def odd(aapl):
    """A rule and its windows; with the winner, none of those that are checked at the start, it does something else."""

    def plain_rule(prices, *, window=3):
        return above(prices["Close"], sma(prices["Close"], window))

    windows = {"window": list(range(2, 202))}
    won = run_grid(aapl, plain_rule, windows).best().params["window"]

    def odd(prices, *, window=3):
        changed = type(window) is int and window == won
        return above(prices["Close"], sma(prices["Close"], window + changed))

    return odd, windows, won


@pytest.fixture(params=["here", "elsewhere"])
def somewhere(request):
    """No executor, and two threads."""
    if request.param == "here":
        yield None
        return
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield pool


def test_a_winner_that_is_another_when_it_is_called_has_all_of_them_called(aapl, odd, somewhere, tmp_path):
    strategy, windows, won = odd
    for why in ("it gives its winner other target positions when it is called", ""):  # the second from the checkpoint
        result = run_grid(aapl, strategy, windows, executor=somewhere, checkpoint=tmp_path / "kept")
        assert result.why_called == why
        at = result.metrics.loc[won, "sharpe"]
        assert at == pytest.approx(run_backtest(aapl, strategy, params={"window": won}).metrics["sharpe"], abs=1e-12)
        assert at != result.best().value


def test_a_function_that_shows_only_late_what_it_is_may_be_tried_anywhere(aapl, somewhere, tmp_path):
    """Points of which three have a warm-up: the signal of these is not known on every bar."""

    def late(prices, *, a=1, b=1.0):
        return np.where(above(ema(prices["Close"], a) * b, prices["Close"]), 1, 0)

    points = [{"a": 1, "b": 1.5 - k / 1e3} for k in range(1000)]
    for k in (7, 500, 701):
        points[k] = {"a": 5, "b": 1.0 + k * 1e-9}
    expected = run_grid(aapl, late, points).metrics
    for _ in range(2):
        found = run_grid(aapl, late, points, executor=somewhere, checkpoint=tmp_path / "kept")
        pd.testing.assert_frame_equal(found.metrics, expected)


def test_an_indicator_of_a_called_function_is_computed_once_for_all_batches(aapl, monkeypatch):
    counts, kernel = Counter(), _kernels.sma

    def counted(values, windows):
        counts.update(windows.tolist())
        return kernel(values, windows)

    def called(prices, *, fast=5, slow=50):
        close, position = prices["Close"].to_numpy(), np.zeros(len(prices))
        position[sma(close, fast) > sma(close, slow)] = 1.0
        return position

    monkeypatch.setattr(_kernels, "sma", counted)
    assert run_grid(aapl, called, {"fast": range(5, 25), "slow": range(50, 80)}).why_called
    assert max(counts.values()) <= 3 and len(counts) == 50  # once more by those who find out that it is to be called


def test_why_a_function_was_called_for_each_combination_is_told(aapl):
    assert run_grid(aapl, "momentum", {"window": [2, 3]}).why_called == ""
    assert "no single value" in run_grid(aapl, numpy_momentum, {"window": [2, 3]}).why_called


def test_a_run_of_one_combination_is_a_backtest(aapl):
    result = run_grid(aapl, "ma_crossover", PAIRS, fees=0.001)
    best = run_backtest(aapl, "ma_crossover", params=result.best().params, fees=0.001)
    assert result.run().metrics == best.metrics and result.run().params == best.params
    other = {"fast_window": 3, "slow_window": 8}
    assert result.run(other).metrics == run_backtest(aapl, "ma_crossover", params=other, fees=0.001).metrics
    assert result.run().symbol == "AAPL" and result.run().prices_hash == best.prices_hash


def test_returns_are_those_of_the_runs(aapl):
    result = run_grid(aapl, "ma_crossover", PAIRS, fees=0.001)
    returns = result.returns()
    assert returns.shape == (249, result.n_trials) and returns.columns.equals(result.metrics.index)
    for place in range(result.n_trials):
        single = run_backtest(aapl, "ma_crossover", params=result.params(place), fees=0.001)
        pd.testing.assert_series_equal(returns.iloc[:, place], single.returns, check_names=False, check_freq=False)
    for rows in ([4, 2], range(3), returns.columns.get_level_values(0) == 3, []):
        assert result.returns(rows).equals(returns.iloc[:, list(rows)])


# ---- several symbols -------------------------------------------------------------------------------------------------


@pytest.fixture
def several():
    return {"AAA": plain.random_bars(1, 80), "BBB": plain.random_bars(2, 50), "CCC": plain.random_bars(3, 120)}


@every_sweep
def test_several_symbols_are_several_sweeps(several, sweep):
    result = run_grid(several, *SWEEPS[sweep], fees=0.001)
    assert list(result.by_symbol) == list(several) and result.symbol == ""
    parts = []
    for symbol, prices in several.items():
        alone = run_grid(prices, *SWEEPS[sweep], fees=0.001)
        pd.testing.assert_frame_equal(result.by_symbol[symbol].metrics, alone.metrics, check_exact=True)
        assert result.by_symbol[symbol].symbol == symbol
        parts.append(alone)
    assert np.array_equal(cells(result), np.concatenate([cells(part) for part in parts]), equal_nan=True)
    assert result.metrics.index.names[0] == "symbol"
    assert result.metrics.index.get_level_values(0).unique().tolist() == list(several)
    assert result.n_trials == sum(part.n_trials for part in parts) == len(result.metrics)
    assert result.n_refused == sum(part.n_refused for part in parts)


def test_the_winner_of_several_symbols_names_its_symbol_and_has_neighbours_of_its_own(several):
    result = run_grid(several, "ma_crossover", PAIRS)
    winner = result.best()
    alone = max((part.best() for part in result.by_symbol.values()), key=lambda part: part.value)
    assert winner.params["symbol"] in several and winner.n_trials == result.n_trials
    assert winner.value == alone.value and np.array_equal(winner.neighbours, alone.neighbours)


def test_one_of_several_symbols_has_to_be_chosen(several):
    result = run_grid(several, "ma_crossover", PAIRS)
    for ask in (result.run, result.returns):
        with pytest.raises(ParameterError, match="choose one symbol: result.by_symbol\\['AAA'\\]"):
            ask()
    assert result.by_symbol["BBB"].run().symbol == "BBB"


def test_no_symbols_are_an_error():
    with pytest.raises(ParameterError, match="prices: the dict is empty"):
        run_grid({}, "ma_crossover", PAIRS)


# ---- the winner ------------------------------------------------------------------------------------------------------

CLOSES = [100.0, 110.0, 121.0, 121.0, 60.5, 60.5]  # bought on bar 0, 1 or 2; sold on bar 3, 4 or 5


@pytest.fixture
def nine(bars):
    return run_grid(bars(close=CLOSES), held, {"first": [2, 0, 1], "last": [3, 4, 5]}, fill="close")


def test_the_winner_and_its_neighbours_by_hand(nine):
    """Held from 100 to 121: 21 %. One step away: to 60.5, -39.5 %; from 110, 10 %; from 110 to 60.5, -45 %."""
    winner = nine.best("total_return")
    assert winner.params == {"first": 0, "last": 3} and winner.n_trials == 9 and winner.metric == "total_return"
    assert winner.value == pytest.approx(0.21)
    assert sorted(winner.neighbours) == pytest.approx([-0.45, -0.395, 0.1])
    assert winner.metrics["total_return"] == winner.value and list(winner.metrics) == list(DEFAULT_METRICS)
    assert repr(winner).replace("\u202f", " ") == (
        "first=0, last=3: total_return 21.0 %, the highest of 9 trials; "
        "its 3 neighbours: median −39.5 %, lowest −45.0 %"
    )


def test_neighbours_lie_one_step_away_on_any_axis(nine):
    """From bar 1 to bar 4, in the middle: all the others; values count by size, not by their place in the grid."""
    labels = nine.metrics.index.tolist()
    middle, corner = labels.index((1, 4)), labels.index((2, 5))
    assert sorted(nine.neighbours(middle)) == [place for place in range(9) if place != middle]
    assert sorted(labels[place] for place in nine.neighbours(corner)) == [(1, 4), (1, 5), (2, 4)]


def test_neighbours_that_were_refused_or_excluded_are_none(aapl):
    """5/8 has 3/8, 3/20, 5/20, 8/20; 8/8 is refused."""
    result = run_grid(aapl, "ma_crossover", PAIRS)
    labels = result.metrics.index.tolist()
    assert sorted(labels[place] for place in result.neighbours(labels.index((5, 8)))) == [
        *((3, 8), (3, 20), (5, 20), (8, 20))
    ]
    fewer = run_grid(aapl, "ma_crossover", PAIRS, where="slow_window != 20")
    labels = fewer.metrics.index.tolist()
    assert [labels[place] for place in fewer.neighbours(labels.index((5, 8)))] == [(3, 8)]


def test_neighbours_of_a_sample_are_the_nearest_points_by_share_of_the_range(bars):
    """Ranges of 100 and of 2: (10, 0.0) is a tenth of a range away from (0, 0.0), and (0, 0.1) a twentieth."""
    places = [(0, 0.0), (0, 0.1), (10, 0.0), (20, 0.2), (15, 0.4), (60, 1.0), (80, 1.5), (100, 2.0), (90, 0.9)]
    grid = [{"last": last, "size": size} for last, size in places]
    result = run_grid(bars(close=np.linspace(100.0, 200.0, 120)), parts, grid, fill="close")
    assert result.sampled and not run_grid(bars(close=CLOSES), held, {"first": [0, 1], "last": [3, 4]}).sampled
    assert result.neighbours(0).tolist() == [1, 2, 3, 4]
    assert result.neighbours(7).tolist() == [4, 5, 6, 8]
    winner = result.best("total_return")
    assert winner.params == {"last": 100, "size": 2.0} and winner.sampled
    assert sorted(winner.neighbours) == sorted(result.metrics["total_return"].iloc[[4, 5, 6, 8]])
    assert "the highest of 9 trials; its 4 nearest: median " in repr(winner)


def test_words_of_a_sample_are_the_same_or_a_whole_range_apart(bars):
    """Up to 8, 6 / 11 of both ranges from 2, the same mean is nearer than the other, of which 3 and 5 are next."""

    def strategy(prices, *, mean="sma", window=2, slow=4):
        return by_word(prices, mean=mean, window=window)

    grid = [{"mean": ["sma", "ema"][window % 2], "window": window, "slow": 2 * window} for window in range(2, 14)]
    result = run_grid(bars(close=CLOSES * 5), strategy, grid)
    assert result.sampled
    assert [result.params(row)["window"] for row in result.neighbours(0)] == [3, 4, 5, 6, 8, 10]


def test_neighbours_of_points_that_fill_a_grid_are_those_of_the_grid(nine, bars):
    points = [{"first": first, "last": last} for first, last in nine.metrics.index]
    listed = run_grid(bars(close=CLOSES), held, points, fill="close")
    assert not listed.sampled
    assert [listed.neighbours(place).tolist() for place in range(9)] == [
        nine.neighbours(place).tolist() for place in range(9)
    ]


def test_dates_and_words_are_neighbours_by_their_order_and_what_has_none_as_it_is_listed(bars):
    prices = bars(close=np.linspace(100.0, 120.0, 12))

    def since(prices, *, first=None):
        return (prices.index >= first) * 1.0

    def any_word(prices, *, word=None):
        return np.ones(len(prices))

    days = run_grid(prices, since, {"first": prices.index[[6, 2, 4, 8]]}, fill="close")
    assert [days.neighbours(place).tolist() for place in range(4)] == [[2, 3], [2], [0, 1], [0]]
    assert days.best("total_return").params == {"first": prices.index[2]}
    assert days.heatmap("total_return").axes[0].lines[-1].get_xdata().tolist() == [0]  # the winner's ring
    words = run_grid(prices, any_word, {"word": ["b", "a", "c"]})
    assert [words.neighbours(place).tolist() for place in range(3)] == [[1, 2], [0], [0]]
    mixed = run_grid(prices, any_word, {"word": ["b", None, 3]})
    assert [mixed.neighbours(place).tolist() for place in range(3)] == [[1], [0, 2], [1]]


def test_whole_numbers_beyond_64_bits_have_neighbours(bars):
    grid = [{"first": place, "last": 10**30 + place * 10**28} for place in range(7)]
    result = run_grid(bars(close=np.linspace(100.0, 200.0, 20)), held, grid, fill="close")
    assert result.sampled and result.neighbours(3).tolist() == [1, 2, 4, 5]


def test_one_neighbour_is_told_as_one(nine):
    winner = nine.best("total_return")
    text = repr(winner._replace(neighbours=np.array([0.1, np.nan]))).replace("\u202f", " ")
    assert text == "first=0, last=3: total_return 21.0 %, the highest of 9 trials; its only neighbour: 10.0 %"
    assert repr(winner._replace(neighbours=np.array([0.1]), sampled=True)).endswith("its nearest: 10.0\u202f%")


def test_the_best_of_a_cost_or_risk_is_the_lowest(aapl):
    result = run_grid(aapl, "ma_crossover", PAIRS, fees=0.001)
    for metric in ("annual_volatility", "turnover", "fees_paid"):
        winner, values = result.best(metric), result.metrics[metric]
        assert winner.value == values.min() and tuple(winner.params.values()) == values.idxmin()
        assert f", the lowest of {result.n_trials} trials; its " in repr(winner) and ", highest " in repr(winner)
    assert result.best("max_drawdown").value == result.metrics["max_drawdown"].max()


@pytest.mark.parametrize("metric", ["n_trades", "exposure", "skew", "kurtosis"])
def test_what_only_describes_has_no_best(nine, metric):
    with pytest.raises(ParameterError, match=f"{metric} has no best: .* choose by one of: total_return, cagr, annual_"):
        nine.best(metric)


def test_sweep_of_what_only_describes_shows_no_winner(aapl):
    result = run_grid(aapl, "momentum", {"window": range(2, 40)}, metrics=["n_trades"])
    assert repr(result) == "<GridResult momentum AAPL, 38 trials>"
    assert "<p>The first 10 of 38.</p>" in result._repr_html_()
    assert "winner" not in result.heatmap("n_trades").caption
    with pytest.raises(ParameterError, match="choose by one of: none that this sweep has"):
        result.best("n_trades")


def test_winner_of_a_sweep_without_sharpe_ratios_is_the_best_of_the_first_metric_that_has_one(aapl):
    result = run_grid(aapl, "momentum", {"window": range(2, 40)}, metrics=["n_trades", "fees_paid"], fees=0.001)
    lowest = result.metrics["fees_paid"].idxmin()
    assert repr(result).startswith(f"<GridResult momentum AAPL, 38 trials; window={lowest}: fees_paid ")
    page = result._repr_html_()
    assert "<p>The best 10 of 38 by fees_paid.</p>" in page
    rows = [int(row.split("</th>")[0]) for row in page.split("<th>")[1:] if row[0].isdigit()]
    assert rows == result.metrics["fees_paid"].sort_values(kind="stable").index[:10].tolist()


def test_the_highest_is_the_winner_and_the_first_of_equals(bars):
    """Bought on the last bar but one, or on the last: nothing is earned either way."""
    prices, grid = bars(close=CLOSES), {"last": [5], "first": [4, 0, 5, 2]}
    assert run_grid(prices, held, grid, fill="close").best("total_return").params == {"last": 5, "first": 4}
    grid["first"] = [0, 5, 4, 2]
    assert run_grid(prices, held, grid, fill="close").best("total_return").params == {"last": 5, "first": 5}


def test_what_is_undefined_does_not_win(aapl):
    result = run_grid(aapl, "momentum", {"window": [249, 20]})  # the first is never in the market
    assert np.isnan(result.metrics["sharpe"].iloc[0]) and result.best().params == {"window": 20}
    assert result.best().neighbours.size == 1 and repr(result.best()).endswith("; it has no neighbours")


@pytest.mark.parametrize("few", [1, 7, 10**6])
def test_the_best_are_shown_in_their_order_however_many_are_sorted_at_a_time(aapl, monkeypatch, few):
    """Twelve combinations that never trade have no Sharpe ratio, and come last; of equals the first is first."""
    windows = [*range(245, 251), *range(60, 40, -1), *range(251, 257)]
    twice = run_grid(aapl, by_word, {"window": [5, 3, 8], "mean": ["sma", "ema"], "turned": [False, True]})
    for result in (run_grid(aapl, "momentum", {"window": windows}), twice):
        monkeypatch.setattr(grid_module, "SORTED", few)
        order = np.argsort(-result.metrics["sharpe"].to_numpy(), kind="stable")
        assert grid_module._lowest(-result.metrics["sharpe"].to_numpy(), 40).tolist() == order.tolist()
        assert grid_module._lowest(np.zeros(30), 4).tolist() == [0, 1, 2, 3]


def test_a_sweep_of_many_axes_is_shown_in_little_memory():
    """32 bytes a combination, however many axes."""
    axes = {"a": range(1, 5), "b": range(3, 7)} | {name: range(4) for name in "cdefgh"}

    def of_many(prices, *, a=2, b=9, c=0, d=0, e=0, f=0, g=0, h=0):
        return above(sma(prices["Close"], a), sma(prices["Close"], b))

    result = run_grid(plain.random_bars(1, 60), of_many, axes, metrics=["sharpe"])
    assert result.n_trials == 4**8
    shown_everywhere(run_grid(plain.random_bars(1, 60), of_many, {"a": [1, 2]}, metrics=["sharpe"]))
    tracemalloc.start()
    try:
        for show in (repr, GridResult._repr_html_, GridResult.best):
            tracemalloc.reset_peak()
            show(result)
            assert tracemalloc.get_traced_memory()[1] < 32 * 4**8
    finally:
        tracemalloc.stop()


def test_a_metric_that_is_undefined_for_all_has_no_winner(bars):
    flat = run_grid(bars(close=[100.0] * 30), "momentum", {"window": [3, 5]})
    with pytest.raises(ParameterError, match="sharpe is undefined for all 2 combinations"):
        flat.best()
    assert repr(flat) == "<GridResult momentum, 2 trials>" and "2 trials" in flat._repr_html_()


@pytest.mark.parametrize("metric", ["sharp", "", None, "alpha", 3])
def test_a_metric_that_was_not_computed_has_no_winner(nine, metric):
    with pytest.raises(ParameterError, match="the sweep has no .* known: annual_volatility"):
        nine.best(metric)


# ---- how it reads ----------------------------------------------------------------------------------------------------


def shown_everywhere(result):
    return [repr(result), str(result), result._repr_html_()]


@pytest.mark.parametrize(
    ("sweep", "metrics"),
    [("pairs", None), ("pairs", ["cagr"]), ("no parameter", None), ("points", None), ("words", None)],
)
def test_no_winner_is_shown_without_the_number_of_trials(aapl, sweep, metrics):
    result = run_grid(aapl, *SWEEPS[sweep], metrics=metrics)
    for text in shown_everywhere(result):
        assert (f"{result.n_trials} trials" if result.n_trials > 1 else "1 trial") in text
    winner = result.best(result.metrics.columns[0])
    for text in (repr(winner), str(winner), f"{winner}"):
        assert (f"the highest of {result.n_trials} trials" if result.n_trials > 1 else ", the only trial") in text


def test_several_symbols_show_the_trials_of_all(several):
    result = run_grid(several, "ma_crossover", PAIRS)
    for text in [*shown_everywhere(result), repr(result.best())]:
        assert f"{result.n_trials} trials" in text


def test_what_was_left_out_is_shown(aapl):
    result = run_grid(aapl, "ma_crossover", PAIRS, where="slow_window < 40")
    for text in shown_everywhere(result):
        assert "ma_crossover AAPL, 6 trials (2 refused, 4 excluded)" in text


def test_thousands_are_told_apart(aapl):
    result = run_grid(aapl, "ma_crossover", {"fast_window": range(1, 41), "slow_window": range(41, 81)})
    assert "1,600 trials;" in repr(result) and "the highest of 1,600 trials" in repr(result.best())


def test_the_table_shows_the_best_few_and_says_of_how_many(aapl):
    result = run_grid(aapl, "momentum", {"window": range(2, 40)})
    page = result._repr_html_()
    assert page.count("<tr") == 10 + 2 and "<p>The best 10 of 38 by sharpe.</p>" in page
    assert page.index(f"<th>{result.best().params['window']}</th>") < page.index("The best 10")


def test_every_row_of_the_table_names_all_its_parameters(aapl):
    result = run_grid(aapl, "ma_crossover", PAIRS)
    page = "".join(result._repr_html_().split())
    assert all(f"<th>{fast}</th><th>{slow}</th>" in page for fast, slow in result.metrics["sharpe"].nlargest(10).index)


def test_hostile_names_do_not_reach_the_page(bars):
    def strategy(prices, *, word="<img src=x onerror=alert(1)>"):
        return pd.Series(1.0, prices.index)

    strategy.__name__ = "<script>alert(1)</script>"
    prices = bars(close=CLOSES)
    prices.attrs["symbol"] = "<b>X</b>"
    result = run_grid(prices, strategy, {"word": ["<img src=x onerror=alert(1)>", "<svg onload=alert(2)>"]})
    page = result._repr_html_()
    assert not any(tag in page for tag in ("<script", "<img", "<svg", "<b>X"))


def test_a_single_trial_is_no_plural(aapl):
    result = run_grid(aapl, "buy_and_hold", {})
    assert repr(result).startswith("<GridResult buy_and_hold AAPL, 1 trial; the defaults: sharpe ")
    assert repr(result).endswith(", the only trial>")


@pytest.mark.parametrize("sweep", ["pairs", "points", "called"])
def test_a_sweep_can_be_pickled_and_copied_with_all_it_can_do(aapl, sweep):
    result = run_grid(aapl, *SWEEPS[sweep], fees=0.001)
    for twin in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result), copy.copy(result)):
        same(twin, result)
        assert repr(twin) == repr(result) and twin.run() == result.run()
        pd.testing.assert_frame_equal(twin.returns(), result.returns(), check_exact=True)
        assert twin != result and hash(result) == hash(result)


def test_a_strategy_that_cannot_be_pickled_is_named(aapl):
    def inner(prices, *, window=5):
        return above(prices["Close"], sma(prices["Close"], window))

    with pytest.raises((AttributeError, pickle.PicklingError), match="inner"):
        pickle.dumps(run_grid(aapl, inner, {"window": [2, 5]}))


def test_every_public_attribute_of_a_sweep_is_documented():
    for name in (field.name for field in dataclasses.fields(GridResult)):
        assert re.search(rf"^ +(\w+, )*{name}(, \w+)* : ", GridResult.__doc__, re.MULTILINE), name


def test_winners_are_plain_tuples(nine):
    winner = nine.best("total_return")
    assert isinstance(winner, Winner) and winner == winner._replace()
    assert len(winner) == 7 and winner.params == winner[0]


def test_winners_are_equal_where_all_of_them_is(aapl, nine):
    """Without a trade a profit factor is NaN, and so is a Sharpe ratio among the neighbours."""
    flat = {"window": [248, 249, 247]}  # of 250 bars
    one, same = (run_grid(aapl, "momentum", flat).best("total_return") for _ in range(2))
    assert np.isnan(one.metrics["sharpe"]) and one == same and (one != same) is False
    ours, theirs = nine.best("total_return"), nine.best("calmar")
    assert ours != theirs and ours != "first=0, last=3" and ours != tuple(ours)
    others = {"params": {"first": 0, "last": 4}, "metric": "cagr", "value": 0.2, "n_trials": 8, "sampled": True}
    for name, value in {**others, "neighbours": ours.neighbours[:2], "metrics": {"cagr": 1.0}}.items():
        assert ours != ours._replace(**{name: value}), name
    with pytest.raises(TypeError, match="unhashable"):
        hash(ours)


# ---- the bar ---------------------------------------------------------------------------------------------------------


class Bars(list):
    """A bar that remembers what it was asked."""

    def __call__(self, **asked):
        self.append(asked)
        self.n = 0
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, n):
        self.n += n


@pytest.fixture
def bar(monkeypatch):
    seen = Bars()
    monkeypatch.setattr("tqdm.auto.tqdm", seen)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    return seen


def test_there_is_no_bar_where_nobody_looks_on(aapl, bar, capfd):
    run_grid(aapl, "ma_crossover", PAIRS)
    assert not bar
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pool", [None, InPlace()], ids=["here", "executor"])
def test_the_bar_counts_combinations_in_a_terminal_and_in_a_notebook(aapl, bar, monkeypatch, pool):
    monkeypatch.setattr(search, "WORK", 4 * 250)
    monkeypatch.setenv("JPY_SESSION_NAME", "/notebook")
    run_grid(aapl, "ma_crossover", PAIRS, executor=pool)
    assert bar[0]["total"] == bar.n == 12
    monkeypatch.delenv("JPY_SESSION_NAME")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run_grid(aapl, "ma_crossover", PAIRS, executor=pool)
    assert bar[1]["total"] == bar.n == 12


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------


def stopped(*args, **kwargs):
    """A sweep that Ctrl-C may end; one that gets out of it would end the tests."""
    try:
        return run_grid(*args, **kwargs)
    except KeyboardInterrupt:
        pytest.fail("nothing came back")


@pytest.fixture
def interrupted(monkeypatch):
    """Batches of 4 combinations; Ctrl-C comes in the third."""
    done = []

    def metrics(self, codes):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(len(codes))
        return original(self, codes)

    original = Trials.metrics
    monkeypatch.setattr(Trials, "metrics", metrics)
    monkeypatch.setattr(search, "WORK", 4 * 250)
    return done


def test_ctrl_c_gives_what_is_done(aapl, interrupted):
    result = stopped(aapl, "ma_crossover", PAIRS)
    assert result.partial and "interrupted" in repr(result) and f"{result.n_trials} trials" in repr(result)
    assert result.metrics.index.tolist() == [(3, 8), (3, 20), (3, 40), (5, 8), (5, 20), (5, 40), (8, 20)]
    assert (result.n_trials, result.n_refused) == (7, 1)
    hold_to_single_runs(result, aapl, "ma_crossover")
    assert result.best().n_trials == 7 and result.run().params == result.best().params


def test_ctrl_c_before_anything_is_done_is_ctrl_c(aapl, interrupted):
    interrupted.extend([0, 0])
    with pytest.raises(KeyboardInterrupt):
        run_grid(aapl, "ma_crossover", PAIRS)


def test_ctrl_c_beside_an_executor_gives_what_is_done(aapl):
    result = stopped(aapl, "ma_crossover", PAIRS, executor=InPlace(stop=5))
    assert result.partial and (result.n_trials, result.n_refused) == (5, 0)


def test_ctrl_c_ends_the_symbols_too(aapl, interrupted):
    result = stopped({"A": aapl, "B": aapl}, "ma_crossover", PAIRS)
    assert result.partial and list(result.by_symbol) == ["A"] and result.n_trials == 7


def test_ctrl_c_while_a_function_is_called_gives_what_is_done(aapl):
    def slow(prices, *, window=5):
        if window == 900:
            raise KeyboardInterrupt
        return np.zeros(len(prices) * window)[: len(prices)]

    result = stopped(aapl, slow, {"window": range(1, 1001)})
    assert result.partial and result.n_trials > 500


def test_ctrl_c_in_the_second_symbol_gives_the_first(aapl, interrupted):
    result = stopped(
        {"A": aapl.iloc[:200], "B": aapl}, "ma_crossover", {"fast_window": [3], "slow_window": range(9, 17)}
    )
    assert result.partial and list(result.by_symbol) == ["A"]


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [None, "1GB", "500MB", "2.5GB"])
def test_ten_million_cells_are_refused_with_their_number(aapl, memory):
    grid = {"fast_window": range(1, 2001), "slow_window": range(2001, 7001)}
    tracemalloc.start()
    with pytest.raises(ParameterError, match="10,000,000 combinations with 15 metrics need 3,080 MB .* memory is"):
        run_grid(aapl, "ma_crossover", grid, memory=memory)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_values_of_an_iterator_are_counted_too(aapl):
    with pytest.raises(ParameterError, match="20,000 combinations"):
        run_grid(aapl, "momentum", {"window": iter(range(1, 20_001))}, memory="1MB")


def test_several_symbols_count_as_often(aapl):
    grid = {"fast_window": range(1, 1001), "slow_window": range(1001, 2001)}
    with pytest.raises(ParameterError, match="3,000,000 combinations"):
        run_grid(dict.fromkeys("ABC", aapl), "ma_crossover", grid)


@pytest.mark.parametrize(
    "memory", ["500MB", "500 MB", "500mb", "0.5GB", "500M", "500MiB", 5 * 10**8, np.int64(5 * 10**8)]
)
def test_memory_is_a_size(aapl, memory):
    assert run_grid(aapl, "momentum", {"window": [3]}, memory=memory).n_trials == 1


@pytest.mark.parametrize(
    "memory", ["lots", "", "-5MB", -5, 1e9, True, [1], "5 0MB", "1e9", "1TB", "MB", b"5MB", "٥MB¹"], ids=str
)
def test_what_is_no_size_is_refused(aapl, memory):
    with pytest.raises(ParameterError, match="memory must be a size such as '500MB', got"):
        run_grid(aapl, "momentum", {"window": [3]}, memory=memory)


@pytest.mark.parametrize("memory", [0, "0GB", "300B", 1])
def test_memory_without_room_for_the_results_is_refused(aapl, memory):
    with pytest.raises(ParameterError, match="1 combinations with 15 metrics need 0 MB for their results alone"):
        run_grid(aapl, "momentum", {"window": [3]}, memory=memory)


def test_memory_without_room_for_a_line_is_refused(aapl):
    with pytest.raises(ParameterError, match="memory is too small for the lines of a single combination"):
        run_grid(aapl, "momentum", {"window": [3, 5]}, memory="2KB")


# ---- what is refused -------------------------------------------------------------------------------------------------

WRONG = {
    "an unknown strategy": (("ma_crossovr", PAIRS), {}, "unknown strategy 'ma_crossovr'; did you mean 'ma_crossover'?"),
    "positions": ((np.ones(250), PAIRS), {}, "a sweep needs a strategy with parameters: a registered name, or a fun"),
    "an unknown parameter": (("momentum", {"windw": [3]}), {}, "momentum has no parameter 'windw'; did you mean 'wind"),
    "an unknown parameter of points": (("momentum", [{"windw": 3}]), {}, "momentum has no parameter 'windw'; did you"),
    "the prices": (("momentum", {"prices": [3]}), {}, "momentum has no parameter 'prices'"),
    "text": (("momentum", {"window": [3, "5"]}), {}, "window must be a whole number, got '5' (str)"),
    "half a bar": (("momentum", {"window": [3, 2.5]}), {}, "window must be a whole number, got 2.5 (float)"),
    "a whole float": (("momentum", {"window": [3, 5.0]}), {}, "window must be a whole number, got 5.0 (float)"),
    "truth": (("momentum", {"window": [True]}), {}, "window must be a whole number, got True (bool)"),
    "None": (("momentum", {"window": [None]}), {}, "window must be a whole number, got None (NoneType)"),
    "NaN": (("momentum", {"window": [np.nan]}), {}, "window must be a whole number, got nan (float)"),
    "a number for text": ((by_word, {"mean": [3]}), {}, "mean must be text, got 3 (int)"),
    "1 for truth": ((by_word, {"turned": [0, 1]}), {}, "turned must be true or false, got 0 (int)"),
    "no value": (("momentum", {"window": []}), {}, "the grid has no value of window"),
    "no grid": (("momentum", "window"), {}, "a grid is a dict of lists, or a list of dicts; got 'window'"),
    "nothing": (("momentum", []), {}, "the grid is empty: give at least one combination"),
    "a value twice": (("momentum", {"window": [3, 5, 3]}), {}, "the grid has a value of window twice: [3, 5, 3]"),
    "an unknown setting": (
        ("momentum", {"window": [3]}),
        {"feess": 1},
        "a run has no setting 'feess'; did you mean 'f",
    ),
    "params": (("momentum", {"window": [3]}), {"params": {"window": 3}}, "a run has no setting 'params'"),
    "a wrong setting": (("momentum", {"window": [3]}), {"fees": -1}, "fees must be a number at least 0"),
    "an unknown fill": (("momentum", {"window": [3]}), {"fill": "open"}, "unknown fill 'open'"),
    "an unknown metric": (
        ("momentum", {"window": [3]}),
        {"metrics": ["sharp"]},
        "unknown metric 'sharp'; did you mean",
    ),
    "one metric": (
        ("momentum", {"window": [3]}),
        {"metrics": "sharpe"},
        "metrics must be a list of names, got 'sharpe'",
    ),
    "no metric": (("momentum", {"window": [3]}), {"metrics": []}, "metrics must be a list of names, got []"),
    "all excluded": (("momentum", {"window": [3, 5]}), {"where": "window > 9"}, "where leaves out all 2 combinations"),
    "all refused": (
        ("ma_crossover", {"fast_window": [9], "slow_window": [5, 9]}),
        {},
        "every combination is refused; the first says: fast_window 9 must be below slow_window 5",
    ),
    "all too long": (
        ("momentum", {"window": [250, 300]}),
        {},
        "every combination is refused; the first says: momentum gave no signal in 250 bars (window=250)",
    ),
    "refused or excluded": (
        ("ma_crossover", {"fast_window": [5, 9], "slow_window": [3, 30]}),
        {"where": "slow_window < 10"},
        "every combination is refused; the first says: fast_window 5 must be below slow_window 3",
    ),
    "a hostile where": (("momentum", {"window": [3]}), {"where": "__import__('os').system('x')"}, "where "),
    "an unknown name": (("momentum", {"window": [3]}), {"where": "windw > 2"}, "did you mean 'window'?"),
    "where of a default": (
        ("ma_crossover", {"fast_window": [3]}),
        {"where": "fast_window < slow_window"},
        "no parameter",
    ),
}


@pytest.mark.parametrize(("args", "terms", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(aapl, args, terms, message):
    with pytest.raises(ParameterError) as error:
        run_grid(aapl, *args, **terms)
    assert message in str(error.value) and len(str(error.value)) < 1200


@pytest.mark.parametrize("prices", ["AAPL", None, [1.0, 2.0], 3], ids=str)
def test_what_is_no_prices_is_said(prices):
    with pytest.raises(PricesError, match="prices must be a DataFrame of bars or a Series of closes, got"):
        run_grid(prices, "momentum", {"window": [3]})


def test_a_series_of_closes_will_do_for_the_close_fills(aapl):
    result = run_grid(aapl["Close"], "momentum", {"window": [3, 5]}, fill="close")
    hold_to_single_runs(result, aapl["Close"], "momentum", fill="close")
    with pytest.raises(ParameterError, match="a Series of closes has no opens"):
        run_grid(aapl["Close"], "momentum", {"window": [3, 5]})


# ---- what is not right yet -------------------------------------------------------------------------------------------


def test_a_named_combination_runs_without_a_winner(aapl):
    result = run_grid(aapl, "momentum", {"window": [3, 5]}, metrics=["total_return"])
    assert result.run({"window": 3}).params == {"window": 3}


def test_what_is_no_executor_is_said(aapl):
    with pytest.raises(ParameterError, match="executor"):
        run_grid(aapl, "momentum", {"window": [3, 5]}, executor="threads")


@pytest.mark.parametrize("second", [None, pd.DataFrame({"Close": [1.0]}), "short"], ids=["None", "a column", "short"])
def test_an_error_of_one_symbol_names_it(aapl, second):
    second = aapl.iloc[:20] if isinstance(second, str) else second
    with pytest.raises((PricesError, ParameterError), match="BBB"):
        run_grid({"AAA": aapl, "BBB": second}, "momentum", {"window": [30]})


def test_the_winner_of_several_symbols_has_plain_parameters(several):
    params = run_grid(several, "ma_crossover", PAIRS).best().params
    assert {type(value) for value in params.values()} == {str, int}
    assert list(run_grid(several, "buy_and_hold", {}).best().params) == ["symbol"]


def test_a_parameter_may_have_the_name_of_a_metric(aapl):
    def of_means(prices, *, sharpe=3):
        return above(prices["Close"], sma(prices["Close"], sharpe))

    assert "2 trials" in run_grid(aapl, of_means, {"sharpe": [2, 3]})._repr_html_()


def test_a_parameter_named_symbol_is_refused_where_there_are_several(aapl):
    def named(prices, *, symbol="x", window=3):
        return above(prices["Close"], sma(prices["Close"], window))

    grid = {"symbol": ["x", "y"], "window": [2, 3]}
    assert run_grid(aapl, named, grid).n_trials == 4
    with pytest.raises(ParameterError, match="give the parameter another name"):
        run_grid({"AAA": aapl, "BBB": aapl}, named, grid)


def test_values_that_are_tuples_are_tried_or_refused(aapl):
    def of_windows(prices, *, windows=None):
        return (prices["Close"] > prices["Close"].shift(windows[0])) * 1.0

    with contextlib.suppress(ParameterError):
        assert run_grid(aapl, of_windows, {"windows": [(1, 2), (2, 3)]}).n_trials == 2


def test_an_error_of_a_function_names_the_combination(aapl):
    def fails(prices, *, window=3):
        return np.zeros(len(prices))[[0] * (250 - (window == 4))]

    with pytest.raises(ParameterError, match="window=4"):
        run_grid(aapl, fails, {"window": [3, 4, 5]})


def test_a_long_range_is_counted_before_it_is_written_out(aapl):
    tracemalloc.start()
    try:
        with pytest.raises(ParameterError, match="300,000 combinations"):
            run_grid(aapl, "momentum", {"window": range(1, 300_001)}, memory="10MB")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_lines_of_a_split_sweep_are_let_go():
    import gc

    bars = plain.random_bars(1, 1000)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        grid = {"fast_window": range(1, 41), "slow_window": range(50, 90)}
        run_grid(bars, "ma_crossover", grid, memory="1.5MB")
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()
        gc.enable()
