"""Sweeps beside those of peers, results held equal: rows for the table of `make bench`.

Every pair of windows from 2 to 101 on 2,520 daily bars of the S&P 500, filled at the close, 0.1 % a side.
Peers are given the signals, made in NumPy as their users would; Backgrid makes its own.
"""

import gc
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from backgrid import fetch_ohlcv, run_grid
from backgrid._kernels import compiled, sma
from backgrid.indicators import sma as mean

WINDOWS = list(range(2, 102))
CORE_FOUR = ["total_return", "sharpe", "max_drawdown", "n_trades"]
FEES = 0.001
PAIRS = {"fast_window": WINDOWS, "slow_window": WINDOWS}


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def collected(work: Callable[[], list[float]]) -> list[float]:
    """The work, with what others have left behind out of the way."""
    gc.collect()
    return work()


def daily() -> pd.DataFrame:
    return fetch_ohlcv("^GSPC", source="sample").iloc[-2520:]


def minutes(n_bars: int) -> pd.Series:
    """Closes of a random walk in one-minute bars, seeded."""
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(0).normal(0.0, 0.0005, n_bars)))
    return pd.Series(close, index=pd.date_range("2020-01-01", periods=n_bars, freq="min", name="Date"))


def signals(close: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries and exits of every pair, bool[n_pairs, n_bars]."""
    lines = sma(close, np.array(WINDOWS))
    fast, slow = np.triu_indices(len(WINDOWS), 1)
    held = lines[fast] > lines[slow]
    before = np.concatenate([np.zeros((len(held), 1), dtype=bool), held[:, :-1]], axis=1)
    return held & ~before, ~held & before


def ours(prices: pd.DataFrame, **settings: object) -> pd.DataFrame:
    return run_grid(prices, "ma_crossover", PAIRS, fees=FEES, fill="close", **settings).metrics


def with_raptorbt(prices: pd.DataFrame) -> list:
    """`batch_single_backtest`, its item class being private to the extension."""
    from raptorbt import BacktestConfig, _raptorbt

    columns = [prices[name].to_numpy(dtype=float) for name in ("Open", "High", "Low", "Close")]
    stamps, volume = prices.index.as_unit("ns").asi8, np.ones(len(prices))
    pairs = enumerate(zip(*signals(columns[3]), strict=True))
    items = [_raptorbt.BatchSingleItem(str(place), entries, exits) for place, (entries, exits) in pairs]
    found = _raptorbt.batch_single_backtest(stamps, *columns, volume, items, BacktestConfig(fees=FEES))
    return [result.metrics.total_return_pct / 100.0 for _, result in found]


def with_vectorbt(prices: pd.DataFrame, *, default: bool = False) -> np.ndarray:
    """`from_signals` by its Rust engine, and the core four; or those of Backgrid's default metrics that it has."""
    import vectorbt

    entries, exits = (pd.DataFrame(side.T, index=prices.index) for side in signals(prices["Close"].to_numpy()))
    account = vectorbt.Portfolio.from_signals(prices["Close"], entries, exits, fees=FEES, init_cash=1e5, freq="1D")
    account.sharpe_ratio(), account.max_drawdown(), account.trades.count()
    if default:
        account.annualized_return(), account.annualized_volatility(), account.sortino_ratio(), account.calmar_ratio()
        account.position_coverage(), account.trades.win_rate(), account.trades.profit_factor()
        account.orders.fees.sum()
    return account.total_return().to_numpy()


def in_numpy(prices: pd.DataFrame, *, fast_window: int = 20, slow_window: int = 50) -> np.ndarray:
    """A strategy that knows nothing of axes; it is called with them all the same."""
    close = prices["Close"].to_numpy()
    return np.where(mean(close, fast_window) > mean(close, slow_window), 1.0, 0.0)


def called(prices: pd.DataFrame, *, fast_window: int = 20, slow_window: int = 50) -> np.ndarray:
    """One that is called for each combination, since nobody knows what the sign of many lines is."""
    close = prices["Close"].to_numpy()
    return np.maximum(np.sign(mean(close, fast_window) - mean(close, slow_window)), 0.0)


def beside_peers(rounds: int = 5) -> list[tuple[str, str]]:
    """All 4,950 pairs, in turns."""
    warnings.simplefilter("ignore")
    prices = daily()
    found, where = ours(prices)["total_return"].to_numpy(), "fast_window < slow_window"
    for theirs in (with_raptorbt(prices), with_vectorbt(prices)):
        np.testing.assert_allclose(theirs, found, rtol=1e-9, atol=1e-12)

    def plain(strategy: Callable) -> pd.DataFrame:
        return run_grid(prices, strategy, PAIRS, where=where, fees=FEES, fill="close").metrics

    for strategy in (in_numpy, called):
        np.testing.assert_allclose(plain(strategy)["total_return"], found, rtol=1e-12, atol=1e-12)
    works = {
        "ours": lambda: [seconds(lambda: ours(prices)) for _ in range(20)],
        "four": lambda: [seconds(lambda: ours(prices, metrics=CORE_FOUR)) for _ in range(20)],
        "numpy": lambda: [seconds(lambda: plain(in_numpy)) for _ in range(3)],
        "called": lambda: [seconds(lambda: plain(called)) for _ in range(3)],
        "raptorbt": lambda: [seconds(lambda: with_raptorbt(prices))],
        "vectorbt": lambda: [seconds(lambda: with_vectorbt(prices))],
        "vectorbt, default": lambda: [seconds(lambda: with_vectorbt(prices, default=True))],
    }
    turns = [{name: statistics.median(collected(work)) for name, work in works.items()} for _ in range(rounds)]
    of = lambda name: statistics.median(turn[name] for turn in turns)  # noqa: E731
    ratio = lambda a, b: statistics.median(turn[a] / turn[b] for turn in turns)  # noqa: E731
    rows = []
    for mine, peer, label in (
        ("ours", "raptorbt", "15 metrics / raptorbt"),
        ("ours", "vectorbt, default", "15 metrics / vectorbt, the 12 of them that it has"),
        ("four", "raptorbt", "4 metrics / raptorbt"),
        ("four", "vectorbt", "4 metrics / vectorbt"),
        ("numpy", "vectorbt, default", "a function of indicators and `np.where`, 15 metrics / vectorbt, 12"),
        ("called", "vectorbt, default", "a function called for each pair, 15 metrics / vectorbt, 12"),
    ):
        times = f"1/{ratio(peer, mine):,.0f} ({of(mine) * 1e3:.1f} ms / {of(peer):.2f} s)"
        rows.append((f"`run_grid`, 4,950 pairs × 2,520 bars, {label}", times))
    return rows


# ---- memory ----------------------------------------------------------------------------------------------------------


def memory(rounds: int = 3) -> list[tuple[str, str]]:
    """Peak memory of the sweep above what the imports and the signals' prices take, each in a process of its own."""
    added = {name: statistics.median(_added(name) for _ in range(rounds)) for name in ("ours", "raptorbt", "vectorbt")}
    text = f"{added['ours']:.0f} MB / {added['raptorbt']:.0f} MB / {added['vectorbt']:.0f} MB"
    return [("memory that it adds / raptorbt / vectorbt", text)]


def _added(name: str) -> float:
    command = [sys.executable, __file__, name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def peak() -> float:
    """The most memory that this process has had. What getrusage says is that of its parent too. [MB]"""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024.0


def measure_memory(name: str) -> None:
    """Print what one sweep adds to the peak, imports and a small sweep (which compiles) before it."""
    warnings.simplefilter("ignore")
    work = {"ours": ours, "raptorbt": with_raptorbt, "vectorbt": with_vectorbt}[name]
    prices = daily()
    every = WINDOWS[:]
    WINDOWS[:] = [20, 50]
    work(prices)
    WINDOWS[:] = every
    before = peak()
    work(prices)
    print(peak() - before)


# ---- long series -----------------------------------------------------------------------------------------------------


@compiled
def one_loop(lines, fast, slow, close, fees, a_year, found):
    """The twin: one fused loop over all bars for each pair. total_return, sharpe, max_drawdown, n_trades."""
    n_bars = close.size
    for k in range(fast.size):
        money, units, total, square, peak, deepest, n_trades, before = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0, 1.0
        for t in range(n_bars):
            want = lines[fast[k], t] > lines[slow[k], t]
            if want and units == 0.0:
                units = money / (close[t] * (1.0 + fees))
                money = 0.0
                n_trades += 1
            elif not want and units > 0.0:
                money, units = units * close[t] * (1.0 - fees), 0.0
            value = money + units * close[t]
            r = value / before - 1.0
            total += r
            square += r * r
            before = value
            if value > peak:
                peak = value
            elif value < peak * (1.0 + deepest):
                deepest = value / peak - 1.0
        n = n_bars - 1
        mean = total / n
        found[k, 0], found[k, 2], found[k, 3] = before - 1.0, deepest, n_trades
        found[k, 1] = mean / np.sqrt((square - n * mean * mean) / (n - 1)) * np.sqrt(a_year)


def long_series() -> list[tuple[str, str]]:
    """1,770 pairs, of windows of 10 minutes to 10 hours and of 1 to 60 hours."""
    label = "`run_grid`, 1,770 pairs × 100,000 bars of a minute, windows of {} / one fused loop a pair, as many threads"
    return [
        (label.format("1 to 60 hours"), beside_twin(list(range(60, 3660, 60)))),
        (label.format("10 to 600 minutes"), beside_twin(list(range(10, 610, 10)))),
    ]


def beside_twin(windows: list[int], rounds: int = 7) -> str:
    """All pairs of these windows, beside one fused loop a pair on as many threads, in turns."""
    from concurrent.futures import ThreadPoolExecutor

    from backgrid.grid import n_threads

    prices = minutes(100_000)
    pairs, close = {"fast_window": windows, "slow_window": windows}, prices.to_numpy(copy=True)
    fast, slow = np.triu_indices(len(windows), 1)
    settings = {"fees": 0.0001, "fill": "close", "periods_per_year": 252.0, "metrics": CORE_FOUR}
    mine = lambda: run_grid(prices, "ma_crossover", pairs, **settings).metrics  # noqa: E731
    twin = np.empty((fast.size, 4))

    def other() -> None:
        lines, n_parts = sma(close, np.array(windows)), 4 * n_threads()
        edges = np.linspace(0, fast.size, n_parts + 1).astype(int)

        def part(k: int) -> None:
            span = slice(edges[k], edges[k + 1])
            one_loop(lines, fast[span], slow[span], close, 0.0001, 252.0, twin[span])

        with ThreadPoolExecutor(n_threads()) as pool:
            list(pool.map(part, range(n_parts)))

    other()
    np.testing.assert_allclose(mine().to_numpy(), twin, rtol=1e-8, atol=1e-10)
    turns = [(seconds(mine), seconds(other)) for _ in range(rounds)]
    own, theirs, ratio = (statistics.median(line) for line in zip(*((a, b, b / a) for a, b in turns), strict=True))
    return f"1/{ratio:.1f} ({own * 1e3:.0f} ms / {theirs * 1e3:.0f} ms)"


def limit(rounds: int = 5) -> list[tuple[str, str]]:
    """How far the sweep is from reading two lines a pair and doing nothing else."""
    prices = daily()
    lines, (fast, slow) = sma(prices["Close"].to_numpy(copy=True), np.array(WINDOWS)), np.triu_indices(100, 1)
    read_two(lines, fast, slow)
    turns = [
        (seconds(lambda: ours(prices, metrics=CORE_FOUR)), seconds(lambda: read_two(lines, fast, slow)))
        for _ in range(5 * rounds)
    ]
    own, least = (statistics.median(line) for line in zip(*turns, strict=True))
    times = f"{own / least:.1f} ({own * 1e3:.1f} / {least * 1e3:.1f} ms)"
    return [("`run_grid`, 4 metrics / reading two lines a pair on one thread", times)]


@compiled
def read_two(lines, fast, slow):
    """Compare two lines and count: the least that a sweep of comparisons has to read."""
    total = 0
    for k in range(fast.size):
        a, b = fast[k], slow[k]
        count = 0
        for t in range(lines.shape[1]):
            count += lines[a, t] > lines[b, t]
        total += count
    return total


def growth(rounds: int = 5) -> list[tuple[str, str]]:
    """What ten times the bars, the combinations or the windows cost."""
    settings = {"fees": 0.0001, "fill": "close", "periods_per_year": 252.0}
    usual = (minutes(10_000), list(range(2, 62)), list(range(62, 122)))
    cases = {
        "3,600 pairs × 10,000 bars": usual,
        "bars × 10": (minutes(100_000), *usual[1:]),
        "combinations × 10 (as many windows again × 3.2)": (usual[0], list(range(2, 192)), list(range(192, 382))),
        "windows × 10 (as long)": (usual[0], [10 * w for w in usual[1]], [10 * w for w in usual[2]]),
    }
    times = {}
    for label, (prices, fast, slow) in cases.items():
        pairs = {"fast_window": fast, "slow_window": slow}
        run = lambda prices=prices, pairs=pairs: run_grid(prices, "ma_crossover", pairs, **settings)  # noqa: E731
        run()
        times[label] = statistics.median(seconds(run) for _ in range(rounds))
    (first, least), *rest = times.items()
    shown = [f"{least * 1e3:.0f} ms", *(f"{label}: {value / least:.1f} times" for label, value in rest)]
    return [(f"cost growth of `run_grid`, {first}", "; ".join(shown))]


def rows() -> list[tuple[str, str]]:
    return [*beside_peers(), *memory(), *limit(), *long_series(), *growth()]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    if len(sys.argv) > 1:
        measure_memory(sys.argv[1])
    else:
        print("\n".join(f"{what}: {value}" for what, value in rows()))
