"""A search gives the same wherever it is tried, holds what it may, loses little when it is cut, and is noted once."""

import concurrent.futures
import json
import math
import pickle
import sys
import threading
import tracemalloc
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import numpy as np
import pandas as pd
import plain
import pytest

from backgrid import grid, search, walkforward
from backgrid.errors import ParameterError
from backgrid.grid import run_grid
from backgrid.indicators import above, sma
from backgrid.ledger import count_trials, read_ledger
from backgrid.search import check_room
from backgrid.trials import N_CALLED, Trials
from backgrid.walkforward import combinatorial_cross_validation, walk_forward

PAIRS = {"fast_window": [2, 3, 5, 8], "slow_window": [5, 9, 20]}
BARS = plain.random_bars(1, 120)
FOLDS = {"train": 40, "test": 20}


def momentum(prices, *, window=5):
    """Plain pandas: called once a combination."""
    return (prices["Close"] > prices["Close"].shift(window)) * 1.0


def levels(prices, *, window=5, level=0):
    return momentum(prices, window=window) * (level % 2)


def same(left, right):
    """Two sweeps, to the bit."""
    pd.testing.assert_frame_equal(left.metrics, right.metrics, check_exact=True)
    for name in ("n_trials", "n_refused", "n_excluded", "partial", "settings"):
        assert getattr(left, name) == getattr(right, name)


class InPlace(concurrent.futures.Executor):
    """Runs what it is given at once, unless that is to fail."""

    def __init__(self, fails=None):
        self.fails, self.futures = fails, []

    def submit(self, function, /, *args):
        future = concurrent.futures.Future()
        self.futures.append(future)
        if self.fails:
            future.set_exception(self.fails)
        else:
            future.set_result(function(*args))
        return future


# ---- batches ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def sizes(monkeypatch):
    """How many combinations each batch has."""
    seen, metrics = [], Trials.metrics
    monkeypatch.setattr(Trials, "metrics", lambda self, codes: seen.append(len(codes)) or metrics(self, codes))
    return seen


@pytest.fixture
def clock(monkeypatch):
    """The time that a search measures; it stands still unless it is moved."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(search, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def test_batches_of_a_quick_function_grow(sizes, clock):
    run_grid(BARS, momentum, {"window": range(1, 101)})
    assert sizes == [1, 4, 16, 64, 15]


def test_a_slow_function_is_not_kept_waiting_for_others(sizes, clock):
    """A combination takes a second: each is a batch of its own, and Ctrl-C loses one."""

    def slow(prices, *, window=5):
        clock.seconds += 1.0
        return momentum(prices, window=window)

    run_grid(BARS, slow, {"window": range(1, 9)})
    assert sizes == [1] * 8


def test_batches_follow_the_time_that_they_take(sizes, clock):
    """A tenth of a second each: five a batch, after one and four."""

    def steady(prices, *, window=5):
        clock.seconds += 0.1
        return momentum(prices, window=window)

    run_grid(BARS, steady, {"window": range(1, 18)})
    assert sizes[:2] == [1, 4] and set(sizes[2:-1]) <= {4, 5}


def test_batches_of_called_functions_have_a_bound(sizes, clock):
    run_grid(BARS, levels, {"window": range(1, 100), "level": range(20)})
    assert max(sizes) == N_CALLED and sum(sizes) == 1980


@pytest.mark.parametrize("strategy", ["ma_crossover", momentum])
@pytest.mark.parametrize("block", [1, 5, 7])
def test_blocks_change_nothing(monkeypatch, strategy, block):
    sweep = (BARS, strategy, PAIRS if strategy == "ma_crossover" else {"window": range(1, 30)})
    terms = {"where": f"{next(iter(sweep[2]))} != 3", "fees": 0.001}
    expected, folds = run_grid(*sweep, **terms), walk_forward(*sweep, **FOLDS, **terms)
    monkeypatch.setattr(search, "BLOCK", block)
    same(run_grid(*sweep, **terms), expected)
    same(run_grid(*sweep, **terms, executor=InPlace()), expected)
    pd.testing.assert_frame_equal(walk_forward(*sweep, **FOLDS, **terms).folds, folds.folds)


class Bar:
    """A bar that remembers what it was asked."""

    def __init__(self, **asked):
        self.asked, self.n = asked, 0
        Bar.last = self

    __enter__ = lambda self: self  # noqa: E731
    __exit__ = lambda self, *_: None  # noqa: E731

    def update(self, n):
        self.n += n


@pytest.mark.parametrize("executor", [None, InPlace()], ids=["here", "executor"])
def test_the_bar_comes_to_its_end_whatever_is_left_out(monkeypatch, tmp_path, executor):
    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    terms = {"where": "fast_window < 8", "executor": executor}
    for _ in range(2):  # the second time all of it is in the checkpoint
        run_grid(BARS, "ma_crossover", PAIRS, checkpoint=tmp_path / "sweep", **terms)
        assert Bar.last.n == Bar.last.asked["total"] == 12
    walk_forward(BARS, "ma_crossover", PAIRS, **FOLDS, **terms)
    assert Bar.last.n == Bar.last.asked["total"] == 12


def test_a_search_over_windows_shows_its_bar_too(monkeypatch):
    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    combinatorial_cross_validation(BARS, "ma_crossover", PAIRS)
    assert Bar.last.n == 12


# ---- executors -------------------------------------------------------------------------------------------------------


class Watched(concurrent.futures.ThreadPoolExecutor):
    """How many tasks it has at most, and how many it was given."""

    def __init__(self, workers):
        super().__init__(workers)
        self.lock, self.now, self.most, self.given = threading.Lock(), 0, 0, 0

    def submit(self, function, /, *args):
        with self.lock:
            self.now, self.given = self.now + 1, self.given + 1
            self.most = max(self.most, self.now)
        future = super().submit(function, *args)
        future.add_done_callback(self.ended)
        return future

    def ended(self, _):
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize("workers", [1, 3])
def test_few_tasks_wait_at_a_time(workers):
    """Each has all bars with it."""
    points = {"window": range(1, 100), "level": range(20)}
    with Watched(workers) as pool:
        same(run_grid(BARS, levels, points, executor=pool), run_grid(BARS, levels, points))
    assert pool.given > 4 * workers >= pool.most


def test_of_an_unknown_executor_some_workers_are_assumed():
    pool = InPlace()
    run_grid(BARS, "momentum", {"window": range(1, 101)}, executor=pool)
    assert len(pool.futures) == math.ceil(100 / math.ceil(100 / (search.TASKS * search.WORKERS)))


@pytest.mark.parametrize("strategy", ["ma_crossover", momentum])
def test_a_worker_makes_its_trials_once_a_search_and_lets_them_go(monkeypatch, strategy):
    made = []
    monkeypatch.setattr(search, "Trials", lambda job: made.append(job) or Trials(job))
    sweep = (BARS, strategy, PAIRS if strategy == "ma_crossover" else {"window": range(1, 30)})
    run_grid(*sweep, executor=InPlace())
    assert len(made) == 1 and search._built is None
    walk_forward(*sweep, **FOLDS, executor=InPlace())
    run_grid({"A": BARS, "B": BARS}, *sweep[1:], executor=InPlace())
    assert len(made) == 4


def test_neither_the_order_of_batches_nor_ties_matter(monkeypatch):
    """As of executors that end the last task first; of equals the first is chosen, and the first refusal told."""

    def indifferent(prices, *, nothing=1):
        return momentum(prices)

    sweeps = [("ma_crossover", PAIRS), (indifferent, {"nothing": range(40)})]
    expected = [(run_grid(BARS, *sweep), walk_forward(BARS, *sweep, **FOLDS)) for sweep in sweeps]
    for module in (grid, walkforward):
        monkeypatch.setattr(module, "try_all", lambda *asked: reversed(list(search.try_all(*asked))))
    for sweep, (of_grid, of_folds) in zip(sweeps, expected, strict=True):
        same(run_grid(BARS, *sweep, executor=InPlace()), of_grid)
        result = walk_forward(BARS, *sweep, **FOLDS, executor=InPlace())
        assert result.chosen == of_folds.chosen and (result.n_trials, result.n_refused) == (
            *(of_folds.n_trials, of_folds.n_refused),
        )
    with pytest.raises(ParameterError, match="the first says: fast_window 9 must be below slow_window 5"):
        walk_forward(BARS, "ma_crossover", {"fast_window": [9], "slow_window": [5, 6, 7]}, **FOLDS, executor=InPlace())


class Pending(InPlace):
    """Ends its first task, by Ctrl-C; the others stay."""

    def submit(self, function, /, *args):
        future = concurrent.futures.Future()
        if not self.futures:
            future.set_exception(KeyboardInterrupt())
        self.futures.append(future)
        return future


def test_ctrl_c_takes_back_what_waits():
    pool = Pending()
    with pytest.raises(KeyboardInterrupt):
        run_grid(BARS, "ma_crossover", PAIRS, executor=pool)
    assert len(pool.futures) == 12 and all(future.cancelled() for future in pool.futures[1:])


class Pickling(InPlace):
    """As another process would be given it."""

    def submit(self, function, /, *args):
        return super().submit(*pickle.loads(pickle.dumps((function, *args))))


def test_notes_of_the_prices_need_not_reach_the_workers():
    noted = BARS.copy()
    noted.attrs["note"] = lambda: "what no pickle takes"
    same(
        run_grid(noted, momentum, {"window": [2, 3]}, executor=Pickling()),
        run_grid(noted, momentum, {"window": [2, 3]}),
    )


SEARCHES = {
    "grid": lambda *asked, **terms: run_grid(*asked, **terms),
    "walk-forward": lambda *asked, **terms: walk_forward(*asked, **FOLDS, **terms),
    "cross-validation": lambda *asked, **terms: combinatorial_cross_validation(*asked, **terms),
}


@pytest.fixture(params=SEARCHES.values(), ids=SEARCHES)
def any_search(request):
    return request.param


def test_a_lambda_is_refused_before_it_is_sent_to_a_process(any_search):
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        for strategy in (lambda prices, *, window=5: momentum(prices, window=window), read_strategy("1.0")):
            with pytest.raises(ParameterError, match="cannot be sent to another process .*at the top of a module"):
                any_search(BARS, strategy, {"window": [2, 3]}, executor=pool)


def test_a_lambda_may_go_to_threads(any_search):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        any_search(BARS, lambda prices, *, window=5: momentum(prices, window=window), {"window": [2]}, executor=pool)


def test_what_another_executor_cannot_send_is_told(any_search):
    pool = InPlace(pickle.PicklingError("not that"))
    with pytest.raises(ParameterError, match=r"strategy momentum cannot be sent to another process \(not that\)"):
        any_search(BARS, momentum, {"window": [2, 3]}, executor=pool)


def test_workers_that_do_not_know_a_function_of_the_notebook_are_told_of(monkeypatch):
    pool = InPlace(BrokenProcessPool("ended"))
    with pytest.raises(BrokenProcessPool):
        run_grid(BARS, momentum, {"window": [2, 3]}, executor=pool)
    monkeypatch.setattr(momentum, "__module__", "__main__")
    with pytest.raises(ParameterError, match="define it with `def` at the top of a module"):
        run_grid(BARS, momentum, {"window": [2, 3]}, executor=pool)


def test_an_error_of_a_strategy_is_its_own(any_search):
    def fails(prices, *, window=5):
        raise AttributeError("of the strategy")

    with pytest.raises(AttributeError, match="of the strategy"):
        any_search(BARS, fails, {"window": [2, 3]}, executor=InPlace())


def test_what_is_no_executor_is_said(any_search):
    with pytest.raises(ParameterError, match="executor must be a concurrent.futures.Executor, got 'threads'"):
        any_search(BARS, "momentum", {"window": [3, 5]}, executor="threads")


# ---- what is asked ---------------------------------------------------------------------------------------------------


def test_parameters_are_given_by_name(any_search):
    def by_place(prices, window=5, /):
        return momentum(prices, window=window)

    def prices_by_place(prices, /, *, window=5):
        return momentum(prices, window=window)

    with pytest.raises(ParameterError, match="strategy by_place: window stands before a `/`, .*move the `/` behind"):
        any_search(BARS, by_place, {"window": [2, 3]})
    with pytest.raises(ParameterError, match="strategy by_place: window stands before a `/`"):
        any_search(BARS, by_place, {})
    any_search(BARS, prices_by_place, {"window": [2, 3]})


def test_an_axis_may_have_dates(any_search):
    def since(prices, *, first=None):
        return (prices.index >= first) * 1.0

    dates = BARS.index[[5, 50]]
    result = any_search(BARS, since, {"first": dates.to_numpy()}, where=f"first > '{dates[0]}'")
    assert (result.n_trials, result.n_excluded) == (1, 1)


def test_an_axis_may_have_values_of_several_kinds(any_search):
    def either(prices, *, window=None):
        return momentum(prices, window=3 if window in (None, "short") else window)

    result = any_search(BARS, either, {"window": [None, "short", 5, 7]}, where="window == 5 or window == 'short'")
    assert (result.n_trials, result.n_excluded) == (2, 2)


@pytest.mark.parametrize(("n_axes", "needs"), [(0, 60), (2, 84), (10, 180)])
def test_room_is_kept_for_the_places_on_each_axis(n_axes, needs):
    """One metric, in bytes a combination: 16 for it, 12 an axis, 44 for numbers, state and what is sorted."""
    assert check_room("1MB", 1000, 1, n_axes) == 10**6 - 1000 * needs
    with pytest.raises(ParameterError, match=f"1,000,000 combinations with 1 metrics need {needs} MB"):
        check_room("1MB", 10**6, 1, n_axes)


def of_many(prices, *, a=2, b=9, c=0, d=0, e=0, f=0, g=0, h=0):
    return above(sma(prices["Close"], a), sma(prices["Close"], b))


@pytest.mark.parametrize("metrics", [["sharpe"], ["sharpe", "n_trades", "total_return", "max_drawdown"]], ids=len)
def test_a_sweep_of_many_axes_stays_in_its_memory(metrics):
    """65,536 combinations of eight parameters, in the least memory that is taken."""
    axes = {"a": range(1, 5), "b": range(3, 7)} | {name: range(4) for name in "cdefgh"}
    memory = math.ceil(4**8 * (16 * len(metrics) + 12 * 8 + 44) / 0.75)
    with pytest.raises(ParameterError, match="65,536 combinations"):
        run_grid(BARS, of_many, axes, metrics=metrics, memory=memory - 10)
    run_grid(BARS, of_many, {"a": [2]}, metrics=metrics)
    tracemalloc.start()
    try:
        assert run_grid(BARS, of_many, axes, metrics=metrics, memory=memory).n_trials == 4**8
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()


# ---- what is noted ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKGRID_LEDGER", str(tmp_path / "ledger.db"))


def read_strategy(factor):
    """`strategy` as a notebook has it after an edit."""
    names = {"__name__": "notebook", "momentum": momentum}
    exec(f"def strategy(prices, *, window=5):\n    return {factor} * momentum(prices, window=window)", names)
    return names["strategy"]


WINDOWS = {"window": [2, 3]}


def test_functions_of_one_name_are_counted_each(ledger, any_search):
    for factor in ("1.0", "0.5", "1.0"):
        any_search(BARS, read_strategy(factor), WINDOWS)
    assert count_trials(strategy="strategy") == 4
    for factor in (1.0, 0.5, 1.0):
        any_search(BARS, lambda prices, *, window=5, factor=factor: factor * momentum(prices, window=window), WINDOWS)
    assert count_trials(strategy="<lambda>") == 4


@pytest.mark.parametrize(
    "other",
    [
        {"stop_loss": np.where(np.arange(120) < 60, 0.05, 0.01)},
        {"stop_loss": 0.05},
        {"fees": 0.001},
        {"where": "window > 0"},
        {"grid": {"window": [2, 4]}},
    ],
    ids=str,
)
def test_another_request_counts_and_the_same_does_not(ledger, any_search, other):
    asked = {"grid": WINDOWS, "stop_loss": np.full(120, 0.05)}
    for terms in (asked, asked, {**asked, "stop_loss": [0.05] * 120}):
        any_search(BARS, momentum, **terms)
    assert count_trials() == 2
    any_search(BARS, momentum, **{**asked, **other})
    assert count_trials() == 4


def test_other_points_of_the_same_values_count(ledger):
    for shift in (0, 1, 1):
        points = [{"fast_window": 2 + k, "slow_window": 9 + (k + shift) % 3} for k in range(3)]
        run_grid(BARS, "ma_crossover", points)
    assert count_trials() == 6 and read_ledger()["kind"].tolist() == ["search"] * 2


def test_other_metrics_of_the_same_trials_do_not_count(ledger):
    for metrics in (None, ["sharpe"], ["beta"]):
        run_grid(BARS, "ma_crossover", PAIRS, metrics=metrics)
    assert count_trials() == 10  # (5, 5) and (8, 5) are refused


def test_a_sweep_that_was_cut_short_and_its_end_are_one(ledger, monkeypatch):
    metrics = Trials.metrics

    def interrupted(self, codes):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(codes))
        return metrics(self, codes)

    seen = []
    monkeypatch.setattr(Trials, "metrics", interrupted)
    assert run_grid(BARS, momentum, {"window": range(1, 20)}).partial
    assert count_trials() == sum(seen) < 19
    monkeypatch.setattr(Trials, "metrics", metrics)
    run_grid(BARS, momentum, {"window": range(1, 20)})
    assert count_trials() == 19 and len(read_ledger()) == 1


def test_other_windows_count(ledger):
    for terms in (FOLDS, FOLDS, {**FOLDS, "shorter_last": True}, {**FOLDS, "gap": 1}, {**FOLDS, "metric": "cagr"}):
        walk_forward(BARS, momentum, WINDOWS, **terms)
    assert count_trials() == 8
    for n_test in (2, 1, 2):
        combinatorial_cross_validation(BARS, momentum, WINDOWS, n_test=n_test)
    assert count_trials() == 12


def test_a_request_can_be_read(ledger, tmp_path):
    run_grid(BARS, "ma_crossover", PAIRS, where="fast_window < 8", fees=0.001, checkpoint=tmp_path / "sweep")
    request = json.loads(read_ledger()["request"][0])
    assert request["values"] == {"fast_window": ["2", "3", "5", "8"], "slow_window": ["5", "9", "20"]}
    assert request["where"] == "fast_window < 8" and request["settings"]["fees"] == 0.001
    assert request["identity"].encode() in (tmp_path / "sweep").read_bytes()[:200]
    walk_forward(BARS, momentum, WINDOWS, where=lambda window: True, **FOLDS)
    request = json.loads(read_ledger()["request"][1])
    assert request["splits"]["train"] == 40 and request["where"] == "<lambda>" and len(request["identity"]) == 64


def holding_a_lock():
    lock = threading.Lock()

    def strategy(prices, *, window=5):
        with lock:
            return momentum(prices, window=window)

    return strategy


def test_what_cannot_be_told_apart_runs_and_counts_each_time(ledger, any_search):
    for _ in range(3):
        any_search(BARS, holding_a_lock(), WINDOWS)
    assert count_trials() == 6


def test_what_cannot_be_told_apart_has_no_checkpoint(tmp_path):
    with pytest.raises(ParameterError, match="checkpoint: cannot tell sweeps of strategy apart, as a lock has no cont"):
        run_grid(BARS, holding_a_lock(), WINDOWS, checkpoint=tmp_path / "sweep")
    assert list(tmp_path.iterdir()) == []


def test_where_nobody_asks_no_identity_is_found(monkeypatch, any_search):
    monkeypatch.setattr(search, "fingerprint", lambda *_: pytest.fail("it was computed"))
    monkeypatch.setattr(search, "hash_bars", lambda *_: pytest.fail("it was computed"))
    any_search(BARS, "momentum", WINDOWS)
