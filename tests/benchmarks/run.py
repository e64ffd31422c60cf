"""Measure the speeds that the README names, and write them there: `make bench`.

Each figure is the median of repeated runs, and where two things are compared they take turns, so that a slow moment of
the machine meets both.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from backgrid import fetch_ohlcv, run_backtest

ROOT = Path(__file__).parents[2]
START, END = "<!-- speeds: written by make bench -->", "<!-- end of speeds -->"


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


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


def one_report(rounds: int = 5) -> tuple[str, str]:
    """The command in a fresh process, files of the package warm."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "backgrid", "report", "--out", out]
        run = lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT)  # noqa: E731
        run()
        turns = [(seconds(run), seconds(python("import pandas"))) for _ in range(rounds)]
        median, ratio = statistics.median(a for a, _ in turns), statistics.median(a / b for a, b in turns)
    return "`backgrid report`, 1,509 bars, a fresh process", f"{median:.1f} s ({ratio:.0f} times `import pandas`)"


def main() -> None:
    rows = [import_ratio(), one_backtest(), one_report()]
    where = f"Python {platform.python_version()}, {os.cpu_count()} cores, medians of one `make bench`."
    table = "\n".join(["| what | measured |", "| --- | --- |", *(f"| {what} | {value} |" for what, value in rows)])
    print(f"{table}\n\n{where}")
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(START)
    readme.write_text(f"{before}{START}\n{table}\n\n{where}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
