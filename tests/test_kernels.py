"""Kernels do what their plain twins do, to the bit the same without the compiler, and are compiled once a machine."""

import hashlib
import itertools
import math
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from backgrid import _kernels, portfolio
from backgrid.result import EXIT_REASONS
from backgrid.terms import FILLS, SIZINGS, STOPS, columns_of

ROOT = Path(__file__).parents[1]
REASONS = dict(enumerate(EXIT_REASONS))
NAN = float("nan")
CONSTANTS = [100.0, 100.1, 0.1, 1 / 3, 1e-8, 1e8 / 3]
FREE = {"fees": 0.0, "slippage": 0.0, "fixed_fee": 0.0, "cash": 1000.0, "whole_units": False}
COSTS = {
    "free": FREE,
    "fees": {**FREE, "fees": 0.002},
    "slippage": {**FREE, "slippage": 0.003},
    "fixed_fee": {**FREE, "fixed_fee": 5.0},
    "whole_units": {**FREE, "whole_units": True},
    "all": {"fees": 0.002, "slippage": 0.003, "fixed_fee": 5.0, "cash": 5000.0, "whole_units": True},
}


compiled_fused = njit(lambda a, b, c: _kernels.fused(a, b, c))


def sma(values, window):
    """The mean of one window."""
    return _kernels.sma(values, np.array([window]))[0]


ORDERS = {
    "stop loss": {"stop_loss": 0.04},
    "take profit": {"take_profit": 0.05},
    "trailing stop": {"trailing_stop": 0.05},
    "all stops": {"stop_loss": 0.06, "take_profit": 0.08, "trailing_stop": 0.05},
    "units": {"sizing": "units", "size": 3.0},
    "cash": {"sizing": "cash", "size": 700.0},
    "leverage": {"size": 2.0, "leverage": 1.5},
    "every bar": {"due": range(120)},
    "now and then": {"due": range(0, 120, 7), "size": 0.5},
    "band": {"band": 0.03, "size": 0.6},
    "interest": {"cash_rate": 0.0002, "borrow_rate": 0.0005, "size": 1.5, "leverage": 1.5},
    "most": {"stop_loss": 0.05, "trailing_stop": 0.07, "size": 0.8, "band": 0.05, "cash_rate": 1e-4},
}


def simulate(prices, target, fill, costs, orders=None):
    """The kernel on a frame."""
    asked = {**costs, **(orders or {})}
    stops = [asked.pop(name, None) for name in STOPS]
    n_bars, due = len(prices), np.zeros(len(prices), dtype=bool)
    due[[bar for bar in asked.pop("due", ()) if bar < n_bars]] = True
    by_bar = np.tile([np.nan if stop is None else stop for stop in stops], (n_bars, 1))
    sizing, size = SIZINGS[asked.pop("sizing", "fraction")], asked.pop("size", 1.0)
    rest = {"leverage": 1.0, "cash_rate": 0.0, "borrow_rate": 0.0, "band": np.inf}
    terms = _kernels.Terms(**{**rest, **asked})
    return _kernels.simulate(
        *columns_of(prices), target, np.full(n_bars, size), due, by_bar, FILLS[fill], sizing, terms
    )


def ruined(equity):
    """Bar on which the account was used up, -1 for never."""
    return int(np.argmin(equity)) if (equity == 0.0).any() else -1


def rows(fills):
    """Fills of the kernel as the twin writes them."""
    return [
        plain.Fill(int(bar), units, price, fee, held, REASONS[code]) for bar, units, price, fee, held, code in fills
    ]


def assert_same(given, expected):
    """Rows of equal bars and reasons, and of numbers equal to 1e-11."""
    assert len(given) == len(expected)
    for ours, theirs in zip(given, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a == (b if isinstance(b, (int, str)) else pytest.approx(b, rel=1e-11, abs=1e-9))


# ---- the moving average ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [*CONSTANTS, 5e305])
def test_mean_of_a_constant_is_the_constant_for_every_window(constant):
    values = np.full(300, constant)
    for window in range(1, 301):
        means = sma(values, window)
        assert np.isnan(means[: window - 1]).all()
        assert (means[window - 1 :] == constant).all()


@pytest.mark.parametrize("window", [1, 2, 3, 7, 50, 120])
def test_mean_is_that_of_the_plain_twin(window):
    for seed in range(10):
        values = plain.random_bars(seed)["Close"].to_numpy().copy()
        means = sma(values, window)
        assert means.tolist() == pytest.approx(plain.sma(values, window), rel=1e-15, nan_ok=True)


@pytest.mark.parametrize("window", [3, 7, 49])
@pytest.mark.parametrize("spike", [100.0, 1e12], ids=["no spike", "spike"])
def test_mean_is_the_exact_mean_rounded_once_even_after_a_spike_has_left_the_window(window, spike):
    """statistics.mean computes with fractions."""
    values = plain.random_bars(1)["Close"].to_numpy().copy()
    values[50] = spike
    exact = [statistics.mean(values[t + 1 - window : t + 1].tolist()) for t in range(window - 1, 120)]
    assert sma(values, window)[window - 1 :].tolist() == exact


@given(
    st.floats(-1e200, 1e200) | st.sampled_from([np.inf, -np.inf, NAN]), st.floats(-1e200, 1e200), st.integers(1, 2**40)
)
def test_a_fused_step_is_rounded_once(a, c, divisor):
    """As it is called, with a whole number of NumPy's; also for what is left of a quotient."""
    for high in (c, -a * divisor):
        compiled, plainly = (fused(a, np.int64(divisor), high) for fused in (compiled_fused, _kernels.fused))
        assert compiled == plainly or (math.isnan(compiled) and math.isnan(plainly))


def test_mean_of_a_prefix_is_the_prefix_of_the_means_to_the_bit():
    values = plain.random_bars(2, 300)["Close"].to_numpy().copy()
    whole = sma(values, 20)
    for n_bars in (20, 21, 150, 299):
        assert sma(values[:n_bars].copy(), 20).tobytes() == whole[:n_bars].tobytes()


# ---- the account -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("costs", COSTS.values(), ids=COSTS.keys())
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("volatility", [0.02, 0.25])  # at 0.25 shorts are ruined now and then
def test_simulate_keeps_the_account_of_its_twin(fill, costs, volatility):
    for seed in range(20):
        prices, target = plain.random_bars(seed, 120, volatility), plain.random_targets(seed)
        assert_twins(prices, target, fill, costs)


@pytest.mark.parametrize("orders", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("costs", [FREE, COSTS["fees"], COSTS["all"]], ids=["free", "fees", "all"])
@pytest.mark.parametrize("fill", FILLS)
def test_simulate_keeps_orders_and_limits_as_its_twin_does(fill, costs, orders):
    for seed in range(20):
        for volatility in (0.02, 0.25):
            prices, target = plain.random_bars(seed, 120, volatility), plain.random_targets(seed)
            assert_twins(prices, target, fill, costs, orders)


def assert_twins(prices, target, fill, costs, orders=None):
    equity, units, fills, financing = simulate(prices, target, fill, costs, orders)
    expected = plain.simulate(prices, target, fill=fill, **costs, **(orders or {}))
    assert equity.tolist() == pytest.approx(expected[0], rel=1e-10, abs=1e-8)
    assert units.tolist() == pytest.approx(expected[1], rel=1e-10, abs=1e-11)
    assert_same(rows(fills), expected[2])
    assert financing == pytest.approx(expected[3], rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("costs", COSTS.values(), ids=COSTS.keys())
@pytest.mark.parametrize("fill", FILLS)
def test_trades_are_those_of_the_twin(fill, costs):
    for seed in range(20):
        prices, target = plain.random_bars(seed, 120, 0.1), plain.random_targets(seed)
        close = prices["Close"].to_numpy()
        _, _, fills, _ = simulate(prices, target, fill, costs)
        trades = _kernels.pair_trades(fills, 119, close[-1])
        given = [plain.Trade(int(row[0]), int(row[1]), *row[2:7], REASONS[row[7]]) for row in trades]
        assert_same(given, plain.pair_trades(rows(fills), 119, close[-1]))


def test_random_runs_hold_what_the_twins_are_to_be_compared_on():
    """Ruin, open trades, resized and reversed positions all occur, or the two tests above prove little."""
    ruins = opens = resized = reversed_ = 0
    for seed in range(20):
        prices, target = plain.random_bars(seed, 120, 0.25), plain.random_targets(seed)
        equity, _, fills, _ = simulate(prices, target, "next_open", FREE)
        held = np.concatenate([[0.0], fills[:, _kernels.FILL_HELD]])
        ruins += ruined(equity) >= 0
        opens += held[-1] != 0.0
        resized += np.count_nonzero(held[1:] * held[:-1] > 0.0)
        reversed_ += np.count_nonzero(np.diff(fills[:, _kernels.FILL_BAR]) == 0.0)
    assert min(ruins, opens, resized, reversed_) >= 3


@pytest.mark.parametrize("fill", FILLS)
def test_equity_is_the_money_left_by_the_fills_and_the_units_held(fill):
    for seed in range(20):
        prices, target = plain.random_bars(seed), plain.random_targets(seed)
        equity, units, fills, _ = simulate(prices, target, fill, COSTS["all"])
        spent = np.zeros(120)
        for bar, traded, price, fee, _, _ in fills:
            spent[int(bar) :] += traded * price + fee
        worth = 5000.0 - spent + units * prices["Close"].to_numpy()
        assert equity[1:].tolist() == pytest.approx(worth[1:].tolist(), rel=1e-9)
        assert equity[0] == 5000.0


def test_ledger_has_room_for_a_reversal_on_every_bar_and_the_ruin():
    """One fill to open, two for each of 8 reversals, and the ruin: 18, the most that 9 changes can give."""
    close = np.array([100.0] * 9 + [500.0])
    prices, target = (
        pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close"), close)),
        np.array([-1.0, 1.0] * 4 + [-1.0, -1.0]),
    )
    equity, _, fills, _ = simulate(prices, target, "close", FREE)
    assert_same(rows(fills), plain.simulate(prices, target, fill="close")[2])
    assert (len(fills), ruined(equity), rows(fills)[-1].reason) == (18, 9, "ruin")


def test_simulate_and_pair_trades_of_nothing_are_empty():
    prices = plain.random_bars(3, 5)
    equity, units, fills, financing = simulate(prices, np.zeros(5), "next_open", FREE)
    assert (equity.tolist(), units.tolist(), fills.shape, financing) == ([1000.0] * 5, [0.0] * 5, (0, 6), 0.0)
    assert _kernels.pair_trades(fills, 4, 100.0).shape == (0, 8)


# ---- several symbols, one account ------------------------------------------------------------------------------------

SHARED_COSTS = {
    "free": FREE,
    "fees": {**FREE, "fees": 0.002, "slippage": 0.003},
    "all": {**FREE, "fees": 0.002, "slippage": 0.003, "fixed_fee": 2.0, "cash_rate": 2e-4, "borrow_rate": 5e-4},
    "all, whole units": {**COSTS["all"], "cash_rate": 2e-4, "borrow_rate": 5e-4},
}
REBALANCES = (None, "bar", "week", "month", 0.05)
BOOKS = {  # sum of the absolute weights, whether there are shorts, leverage
    "half": (0.5, False, 0.5),
    "a reserve": (0.9, False, 1.0),
    "all in": (1.0, False, 1.0),
    "long and short": (1.0, True, 1.0),
    "borrowed": (2.0, False, 2.0),
    "borrowed, long and short": (2.0, True, 2.0),
}


class Shared(NamedTuple):
    """Random prices of several symbols, and what is wanted of them: weights by bar and symbol."""

    panel: dict
    weights: np.ndarray
    tradable: np.ndarray
    leverage: float

    def column(self, name):
        return np.column_stack([frame[name] for frame in self.panel.values()])

    @property
    def rows(self):
        return [dict(zip(self.panel, row, strict=True)) for row in self.weights.tolist()]


def shared(seed, book, n_bars=60):
    """2 to 6 symbols, the first six seeds wild; weights kept for 1 to 6 bars, a fifth of them 0; gaps for some."""
    total, short, leverage = BOOKS[book]
    rng, n_symbols, volatility = np.random.default_rng(seed), 2 + seed % 5, 0.2 if seed < 6 else 0.02
    panel = {"ABCDEF"[k]: plain.random_bars(100 * seed + k, n_bars, volatility) for k in range(n_symbols)}
    parts = rng.dirichlet(np.ones(n_symbols), n_bars) * rng.choice([0.0, 1.0], (n_bars, n_symbols), p=[0.2, 0.8])
    parts *= total / np.maximum(parts.sum(axis=1, keepdims=True), 1e-3)
    sides = rng.choice([-1.0, 1.0], parts.shape) if short else 1.0
    weights = np.repeat(parts * sides, rng.integers(1, 7, n_bars), axis=0)[:n_bars]
    weights[: seed % 4] = 0.0
    tradable = rng.random(n_bars) > 0.2 if seed % 4 == 1 else np.ones(n_bars, dtype=bool)
    return Shared(panel, weights, tradable, leverage)


def simulate_portfolio(run, fill, costs, rebalance):
    """The kernel on a random run."""
    index = next(iter(run.panel.values())).index
    due, band = portfolio._due(run.weights, rebalance, index), rebalance if isinstance(rebalance, float) else np.inf
    terms = _kernels.Terms(**{"cash_rate": 0.0, "borrow_rate": 0.0, **costs}, leverage=run.leverage, band=band)
    prices = run.column("Open"), run.column("Close")
    return _kernels.simulate_portfolio(*prices, run.weights, due, run.tradable, FILLS[fill], terms)


def twin_portfolio(run, fill, costs, rebalance):
    return plain.simulate_portfolio(
        run.panel,
        run.rows,
        fill=fill,
        rebalance=rebalance,
        tradable=run.tradable,
        leverage=run.leverage,
        **costs,
    )


def by_symbol(fills, symbols):
    """Fills of the kernel as the twin writes them."""
    return [(symbols[int(row[_kernels.FILL_SYMBOL])], *rows([row[:6]])[0]) for row in fills]


@pytest.mark.parametrize("rebalance", REBALANCES)
@pytest.mark.parametrize("costs", SHARED_COSTS.values(), ids=SHARED_COSTS.keys())
@pytest.mark.parametrize("fill", FILLS)
def test_simulate_portfolio_keeps_the_account_of_its_twin(fill, costs, rebalance):
    for seed, book in enumerate([*BOOKS, *BOOKS]):
        run = shared(seed, book)
        equity, units, fills, financing = simulate_portfolio(run, fill, costs, rebalance)
        expected = twin_portfolio(run, fill, costs, rebalance)
        np.testing.assert_allclose(equity, expected[0], rtol=1e-9, atol=1e-8)
        np.testing.assert_allclose(units, [list(row.values()) for row in expected[1]], rtol=1e-9, atol=1e-10)
        assert_same(by_symbol(fills, list(run.panel)), [(symbol, *fill) for symbol, fill in expected[2]])
        assert financing == pytest.approx(expected[3], rel=1e-9, abs=1e-9)


def test_random_portfolios_hold_what_the_twins_are_to_be_compared_on():
    """Ruin, both sides, changes of side, accounts used to the last, and waiting all occur."""
    ruins = shorts = reversed_ = used_up = waited = 0
    for (seed, book), fill in itertools.product(enumerate([*BOOKS, *BOOKS]), FILLS):
        run = shared(seed, book)
        equity, units, fills, _ = simulate_portfolio(run, fill, SHARED_COSTS["all"], None)
        bar, symbol = fills[:, _kernels.FILL_BAR].astype(int), fills[:, _kernels.FILL_SYMBOL].astype(int)
        ruins += ruined(equity) >= 0
        shorts += (units < 0.0).any()
        reversed_ += len(fills) - len(set(zip(bar, symbol, strict=True)))
        left = equity - (units * run.column("Close")).sum(axis=1)
        used_up += np.count_nonzero(np.abs(left[5:]) < 1e-9 * equity[5:])
        waited += np.count_nonzero(~run.tradable)
    assert min(ruins, shorts, reversed_, used_up, waited) >= 3


@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("fill", FILLS)
def test_equity_of_a_portfolio_is_the_money_left_by_its_fills_and_the_units_held(fill, book):
    """And the units held are those of the fills."""
    for seed in range(6, 12):
        run, costs = shared(seed, book), {**SHARED_COSTS["all"], "cash_rate": 0.0, "borrow_rate": 0.0}
        equity, units, fills, _ = simulate_portfolio(run, fill, costs, "week")
        spent, bought = np.zeros(60), np.zeros_like(units)
        for bar, traded, price, fee, held, _, symbol in fills:
            spent[int(bar) :] += traded * price + fee
            bought[int(bar) :, int(symbol)] += traded
            assert bought[int(bar), int(symbol)] == pytest.approx(held, abs=1e-9)
        worth = costs["cash"] - spent + (units * run.column("Close")).sum(axis=1)
        assert equity[1:].tolist() == pytest.approx(worth[1:].tolist(), rel=1e-9)
        np.testing.assert_allclose(units, bought, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("share", "fees"), [(1.0, 0.0), (0.7, 0.0), (0.3, 0.0), (1.0, 0.002)])
def test_no_symbol_of_a_portfolio_trades_to_mend_its_last_digit(share, fees):
    """Prices that do not move, due on every bar: what is held differs from what is wanted by rounding alone."""
    rng = np.random.default_rng(7)
    for n_symbols in range(1, 8):
        close = np.ones((50, 1)) * rng.lognormal(0.0, 5.0, n_symbols)
        weights = np.ones((50, 1)) * rng.dirichlet(np.ones(n_symbols)) * share
        terms = _kernels.Terms(**{**FREE, "fees": fees}, leverage=1.0, cash_rate=0.0, borrow_rate=0.0, band=np.inf)
        always = np.ones(50, dtype=bool)
        _, _, fills, _ = _kernels.simulate_portfolio(close, close, weights, always, always, _kernels.CLOSE, terms)
        assert len(fills) == n_symbols


def test_ledger_of_a_portfolio_has_room_for_a_change_of_every_side_on_every_bar_and_the_ruin():
    """Five symbols: 5 fills to open, 10 for each of 8 reversals, and 5 in ruin."""
    close = np.vstack([np.full((9, 5), 100.0), np.full((1, 5), 500.0)])
    weights = 0.2 * np.array([-1.0, 1.0] * 4 + [-1.0, -1.0])[:, None] * np.ones(5)
    terms = _kernels.Terms(**FREE, leverage=1.0, cash_rate=0.0, borrow_rate=0.0, band=np.inf)
    due, tradable = np.arange(10) < 9, np.ones(10, dtype=bool)
    equity, _, fills, _ = _kernels.simulate_portfolio(close, close, weights, due, tradable, _kernels.CLOSE, terms)
    assert (len(fills), ruined(equity)) == (5 + 10 * 8 + 5, 9)
    assert fills[-5:, _kernels.FILL_SYMBOL].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert fills[-5:, _kernels.FILL_REASON].tolist() == [_kernels.RUIN] * 5


# ---- compiled or not, and compiled once ------------------------------------------------------------------------------


def python(code, **environment):
    """What a fresh interpreter prints."""
    return finished(start_python(code, **environment))


def start_python(code, **environment):
    return subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out.strip()


def digest():
    """One hash over the outputs of all kernels on 5 random series, 3 fills and all costs."""
    seen = hashlib.sha256()
    for seed in range(5):
        prices, target = plain.random_bars(seed, 60, 0.1), plain.random_targets(seed, 60)
        close = prices["Close"].to_numpy().copy()
        seen.update(sma(close, 7).tobytes())
        for fill in FILLS:
            for costs in COSTS.values():
                for orders in ({}, ORDERS["most"]):
                    equity, units, fills, financing = simulate(prices, target, fill, costs, orders)
                    trades = _kernels.pair_trades(fills, 59, close[-1])
                    seen.update(b"".join(part.tobytes() for part in (equity, units, fills, trades)))
                    seen.update(str(financing).encode())
                run = shared(seed, list(BOOKS)[seed])
                for rebalance in (None, "bar", 0.05):
                    *parts, financing = simulate_portfolio(run, fill, SHARED_COSTS["all, whole units"], rebalance)
                    seen.update(b"".join(part.tobytes() for part in parts) + str(financing).encode())
    return seen.hexdigest()


def test_compiled_and_plain_kernels_agree_to_the_bit():
    assert python("import test_kernels; print(test_kernels.digest())", NUMBA_DISABLE_JIT="1") == digest()


# Prints where the kernels lie, where their machine code is kept, and how often it was found there or not.
USE_A_KERNEL = """
import numpy as np
from backgrid import _kernels
assert _kernels.sma(np.arange(1.0, 6.0), np.array([2]))[0, 1:].tolist() == [1.5, 2.5, 3.5, 4.5]
stats = _kernels.fill_means.stats
print(_kernels.__file__, stats.cache_path, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), sep="|")
"""
COMPILED, LOADED = ["0", "1"], ["1", "0"]


def use_a_kernel(**environment):
    """File of the kernels, folder of the machine code, hits and misses."""
    home, folder, *counts = python(USE_A_KERNEL, **environment).split("|")
    return Path(home), Path(folder), counts


def test_second_process_loads_what_the_first_compiled(tmp_path):
    assert use_a_kernel(NUMBA_CACHE_DIR=str(tmp_path))[2] == COMPILED
    assert use_a_kernel(NUMBA_CACHE_DIR=str(tmp_path))[2] == LOADED


def test_four_processes_may_start_at_once_on_an_empty_cache(tmp_path):
    started = [start_python(USE_A_KERNEL, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(4)]
    assert len({finished(process).split("|")[1] for process in started}) == 1
    assert use_a_kernel(NUMBA_CACHE_DIR=str(tmp_path))[2] == LOADED
    assert [path.name for path in tmp_path.rglob("*tmp*")] == []


@pytest.fixture
def read_only_package(tmp_path):
    """Environment of a copy of the package beside which numba cannot write, with a home of its own.

    `__pycache__` is a plain file, which stops root too.
    """
    package, home = tmp_path / "lib" / "backgrid", tmp_path / "home"
    shutil.copytree(ROOT / "backgrid", package, ignore=shutil.ignore_patterns("__pycache__", "*.parquet"))
    (package / "__pycache__").write_text("not a folder")
    home.mkdir()
    cache = str(home / ".cache")
    return {"PYTHONPATH": str(package.parent), "HOME": str(home), "XDG_CACHE_HOME": cache, "NUMBA_CACHE_DIR": ""}


def test_code_of_a_kernel_is_made_again_when_one_that_it_calls_has_changed(read_only_package):
    """Also where an installer gives all files one time."""
    words = Path(read_only_package["PYTHONPATH"]) / "backgrid" / "_words.py"
    count = """import numpy as np; from backgrid import _masks
print(_masks.table_of(np.ones((1, 1))).known[0, 0], end="")"""
    assert python(count, **read_only_package) == "1"
    then = words.stat()
    words.write_text(words.read_text().replace('_compare(word_equal, "==")', '_compare(word_equal, "!=")'))
    os.utime(words, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert python(count, **read_only_package) == "0"


def test_read_only_package_keeps_its_code_in_the_users_cache_folder(read_only_package):
    file, folder, counts = use_a_kernel(**read_only_package)
    assert counts == COMPILED
    assert file.is_relative_to(read_only_package["PYTHONPATH"])
    assert folder.is_relative_to(read_only_package["XDG_CACHE_HOME"])
    assert use_a_kernel(**read_only_package)[2] == LOADED


def test_read_only_package_keeps_its_code_where_numba_cache_dir_says(read_only_package, tmp_path):
    environment = {**read_only_package, "NUMBA_CACHE_DIR": str(tmp_path / "code")}
    _, folder, counts = use_a_kernel(**environment)
    assert counts == COMPILED and folder.is_relative_to(tmp_path / "code")
    assert use_a_kernel(**environment)[2] == LOADED


def test_without_any_writable_folder_kernels_work_and_say_what_to_set(read_only_package):
    Path(read_only_package["XDG_CACHE_HOME"]).write_text("not a folder")
    code = (
        "import pytest, numpy as np\n"
        "with pytest.warns(UserWarning, match='no writable folder for compiled code: set NUMBA_CACHE_DIR'):\n"
        "    from backgrid import _kernels\n"
        "print(_kernels.sma(np.ones(3), np.array([2]))[0, 1:].tolist())\n"
    )
    assert python(code, **read_only_package) == "[1.0, 1.0]"
