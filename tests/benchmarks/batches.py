"""A batch of reports beside what a shell loop of papermill and nbconvert takes: rows for the table of `make bench`."""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sweeps import seconds

from backgrid.batch import run_batch
from backgrid.templates import find_template

TOOLS = Path(sys.executable).parent
PAIRS = [(fast, slow) for fast in range(5, 15) for slow in range(30, 80, 5)]
LOOPED = 4  # of the pairs, by the loop: each takes a quarter of a minute
WORKERS = 2


def looped(folder: Path, fast: int, slow: int) -> None:
    """One turn of the loop."""
    run, page = folder / f"{fast}_{slow}.ipynb", folder / f"{fast}_{slow}.html"
    given = ["-p", "fast_window", str(fast), "-p", "slow_window", str(slow)]
    template = str(find_template("report_backtest"))
    papermill = [str(TOOLS / "papermill"), "--no-progress-bar", *given, template, str(run)]
    nbconvert = [str(TOOLS / "jupyter"), "nbconvert", "--to", "html", "--output", str(page), str(run)]
    for command in (papermill, nbconvert):
        subprocess.run(command, check=True, capture_output=True)


def batched(folder: Path) -> None:
    rows = [{"source": "sample", "fast_window": fast, "slow_window": slow} for fast, slow in PAIRS]
    assert not run_batch(rows, out=folder, workers=WORKERS).failed


def batch_beside_a_loop() -> tuple[str, str]:
    """100 reports of AAPL, in one run: half of the loop before the batch, half after it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        turn = lambda k: seconds(lambda: looped(folder, *PAIRS[k * len(PAIRS) // LOOPED]))  # noqa: E731
        turns = [turn(k) for k in range(LOOPED // 2)]
        batch = seconds(lambda: batched(folder / "batch")) / len(PAIRS)
        turns += [turn(k) for k in range(LOOPED // 2, LOOPED)]
    loop = statistics.median(turns)
    return (
        f"`backgrid batch`, {len(PAIRS)} reports, {WORKERS} workers / a loop of `papermill` and `jupyter nbconvert`, "
        f"a report ({LOOPED} of them)",
        f"1/{loop / batch:.0f} ({batch:.2f} s / {loop:.1f} s)",
    )


if __name__ == "__main__":
    print(*batch_beside_a_loop())
