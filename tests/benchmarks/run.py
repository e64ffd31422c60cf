"""Measure the speeds that the README names, and write them there: `make bench`, or `make bench ARGS=jobs` for some.

Each figure is the median of repeated runs, and where two things are compared they take turns, so that a slow moment of
the machine meets both.
"""

import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import batches
import calibration
import jobs
import numpy as np
import pandas as pd
import sweeps
from sweeps import seconds

from backgrid import fetch_ohlcv, run_backtest, run_portfolio
from backgrid.ledger import record_trials
from backgrid.strategies import calculate_ma_crossover_signals

ROOT = Path(__file__).parents[2]
START, END = "<!-- speeds: written by make bench -->", "<!-- end of speeds -->"


def python(code: str) -> Callable[[], object]:
    """A fresh process that runs this code."""
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def import_ratio(rounds: int = 15) -> tuple[str, str]:
    """`import backgrid` against `import pandas`, less what Python itself takes to start, in turns."""
    bare, ours, theirs = python("pass"), python("import backgrid"), python("import pandas")
    turns = [(seconds(bare), seconds(ours), seconds(theirs)) for _ in range(rounds)]
    ratio = statistics.median((b - a) / (c - a) for a, b, c in turns)
    whole = statistics.median(b / c for _, b, c in turns)
    return "`import backgrid` / `import pandas`", f"{ratio:.2f} (whole processes: {whole:.2f})"


def one_backtest(rounds: int = 2000) -> tuple[str, str]:
    """One call with all metrics, prices at hand, code compiled."""
    prices = fetch_ohlcv("AAPL", "2023-01-01", "2023-12-31", source="sample")
    run_backtest(prices, fees=0.001)
    median = statistics.median(seconds(lambda: run_backtest(prices, fees=0.001)) for _ in range(rounds))
    return f"`run_backtest`, {len(prices)} bars, all metrics", f"{median * 1e3:.2f} ms"


def beside_peers(rounds: int = 25) -> list[tuple[str, str]]:
    """One crossover on the 2,148 bars that backtesting.py brings, in turns, ours with all metrics.

    vectorbt is given the signals, as we are, and computes three metrics; backtesting.py computes its means, as we do.
    """
    warnings.simplefilter("ignore")
    import vectorbt
    from backtesting import Backtest, Strategy, backtesting
    from backtesting.test import GOOG

    backtesting._tqdm = lambda sequence, **_: sequence  # no bar
    held = calculate_ma_crossover_signals(GOOG["Close"]) > 0.0
    before = held.shift(1, fill_value=False)
    entries, exits = ((side).shift(1, fill_value=False) for side in (held & ~before, before & ~held))

    class Crossover(Strategy):
        def init(self):
            mean = lambda values, window: pd.Series(values).rolling(window).mean()  # noqa: E731
            self.fast, self.slow = self.I(mean, self.data.Close, 20), self.I(mean, self.data.Close, 50)

        def next(self):
            if self.fast[-1] > self.slow[-1] and not self.position:
                self.buy()
            elif self.fast[-1] <= self.slow[-1] and self.position:
                self.position.close()

    def vectorbt_run():
        account = vectorbt.Portfolio.from_signals(
            GOOG["Close"], entries, exits, price=GOOG["Open"], fees=0.001, init_cash=100_000.0, freq="1D"
        )
        return account.total_return(), account.sharpe_ratio(), account.max_drawdown()

    other = Backtest(GOOG, Crossover, cash=100_000, commission=0.001)
    ours = lambda: run_backtest(GOOG, fees=0.001)  # noqa: E731
    assert np.isclose(vectorbt_run()[0], ours().metrics["total_return"], rtol=1e-9)
    late = held.where(np.arange(held.size) >= 50, False).to_numpy(dtype=float)  # backtesting.py begins one bar later
    theirs = other.run()["Equity Final [$]"]
    assert np.isclose(theirs, run_backtest(GOOG, late, fees=0.001, whole_units=True).equity.iloc[-1], rtol=1e-9)
    signals = held.to_numpy(dtype=float)
    given = lambda: run_backtest(GOOG, signals, fees=0.001)  # noqa: E731
    rows = []
    for what, mine, peer, run in (
        ("of given signals", given, "vectorbt `from_signals`, three metrics", vectorbt_run),
        ("of a crossover", ours, "backtesting.py `run`", other.run),
    ):
        turns = [(statistics.median(seconds(mine) for _ in range(20)), seconds(run)) for _ in range(rounds)]
        ratio = statistics.median(theirs / own for own, theirs in turns)
        own, theirs = (statistics.median(turn) for turn in zip(*turns, strict=True))
        times = f"1/{ratio:.0f} ({own * 1e3:.2f} ms / {theirs * 1e3:.1f} ms)"
        rows.append((f"`run_backtest` {what}, 2,148 bars / {peer}", times))
    return rows


def one_portfolio(rounds: int = 25) -> tuple[str, str]:
    """30 symbols that share an account, brought to equal weights each month."""
    steps = np.random.default_rng(0).normal(0.0003, 0.02, (30, 5000))
    index = pd.bdate_range("2000-01-03", periods=5000, name="Date")
    prices = {}
    for place, close in enumerate(100.0 * np.exp(np.cumsum(steps, axis=1))):
        open_ = np.concatenate([[100.0], close[:-1]])
        columns = {"Open": open_, "High": np.maximum(open_, close), "Low": np.minimum(open_, close), "Close": close}
        prices[f"S{place}"] = pd.DataFrame(columns, index=index)
    run = lambda: run_portfolio(prices, "equal_weight", rebalance="month", fees=0.001)  # noqa: E731
    run()
    median = statistics.median(seconds(run) for _ in range(rounds))
    return "`run_portfolio`, 30 symbols, 5,000 bars, monthly", f"{median * 1e3:.0f} ms"


def one_report(rounds: int = 5) -> tuple[str, str]:
    """The command in a fresh process, files of the package warm."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "backgrid", "report", "--out", out]
        run = lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT)  # noqa: E731
        run()
        turns = [(seconds(run), seconds(python("import pandas"))) for _ in range(rounds)]
        median, ratio = statistics.median(a for a, _ in turns), statistics.median(a / b for a, b in turns)
    return "`backgrid report`, 1,509 bars, a fresh process", f"{median:.1f} s ({ratio:.0f} times `import pandas`)"


def one_ledger(rounds: int = 50) -> tuple[str, str]:
    """A record of new trials, with the disk waited for; off in the other figures."""
    requests = iter(range(rounds))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BACKGRID_LEDGER"] = str(Path(folder) / "ledger.db")
        record = lambda: record_trials(data="x", strategy="y", request={"of": next(requests)}, n_trials=1, kind="sweep")  # noqa: E731
        median = statistics.median(seconds(record) for _ in range(rounds))
        os.environ["BACKGRID_LEDGER"] = "off"
    return "a new request in the ledger of trials", f"{median * 1e3:.1f} ms"


def single() -> list[tuple[str, str]]:
    """What is called once at a time."""
    return [import_ratio(), one_backtest(), *beside_peers(), one_portfolio(), one_report(), one_ledger()]


GROUPS: dict[str, Callable[[], Iterable[tuple[str, str]]]] = {
    "single": single,
    "batches": lambda: [batches.batch_beside_a_loop()],
    "jobs": jobs.rows,
    "sweeps": sweeps.rows,
    "calibration": calibration.rows,
}


def main() -> None:
    """Measure the groups of rows that are named, or all, and write them into the table."""
    os.environ["BACKGRID_LEDGER"] = "off"
    readme, names = ROOT / "README.md", sys.argv[1:] or [*GROUPS]
    measured = dict(row for name in names for row in GROUPS[name]())
    before, rest = readme.read_text(encoding="utf-8").split(START)
    table, after = rest.split(END)
    kept = {} if {*names} == {*GROUPS} else dict(re.findall(r"^\| (?!what |---)(.*?) \| (.*) \|$", table, re.MULTILINE))
    head = ["| what | measured |", "| --- | --- |"]
    lines = "\n".join([*head, *(f"| {what} | {how} |" for what, how in (kept | measured).items())])
    where = f"Python {platform.python_version()}, {os.cpu_count()} cores; medians; what is compared took turns."
    print(f"{lines}\n\n{where}")
    readme.write_text(f"{before}{START}\n{lines}\n\n{where}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
