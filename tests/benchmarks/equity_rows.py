"""Was a second language, or a database of time series, ever needed? Where the time of a job goes, and how long the
service's queries take over 25,000,000 points of equity.

`python tests/benchmarks/equity_rows.py` starts a PostgreSQL of its own, fills it in two layouts (a row a bar, as first
planned, and a row a job with its curve packed, as it is), asks both what the service asks, and removes it: 4 GB on
disk and some minutes, less with --jobs.
"""

import argparse
import cProfile
import datetime as dt
import hashlib
import pstats
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import sqlalchemy as sa
from jobs import ASKED, fill_cache, opened, postgres, spread
from sweeps import seconds

from backgrid import engine
from backgrid.data import fetch_ohlcv
from backgrid.jobs import store
from backgrid.models import build_request
from backgrid.run import run_request

N_BARS = 2500
ROUNDS = 200  # of each query
OWNERS, SYMBOLS = 20, ("AAPL", "MSFT", "NVDA", "GOOG", "AMZN", "META", "NFLX", "SPY", "QQQ", "IBM")
SEED = 1
CHUNK = 500  # jobs that are entered at once
OPEN = 20  # jobs that are not run yet
LONGEST = 0.5  # 99th percentile of any query [seconds]
PLANNED = """
CREATE TABLE equity_points (job BIGINT NOT NULL, bar INTEGER NOT NULL, equity DOUBLE PRECISION NOT NULL);
INSERT INTO equity_points SELECT job, bar, 100000 * exp(0.01 * sin(job + bar / 100.0))
    FROM generate_series(1, :jobs) AS job, generate_series(0, :bars - 1) AS bar;
ALTER TABLE equity_points ADD PRIMARY KEY (job, bar);
ANALYZE equity_points
"""

Row = tuple[str, str]


# ---- a job's time ----------------------------------------------------------------------------------------------------


def shares_of_a_job(folder: Path, rounds: int = 300) -> Iterator[Row]:
    """Where the time of a job goes that a worker runs: reading prices, strategy, engine, metrics, writing."""
    request = build_request(**ASKED)
    with opened(f"sqlite:///{folder / 'shares.db'}") as database:

        def run(turn: int) -> None:
            job, _ = store.submit(database, request, owner="", key=str(turn))
            claimed = store.claim(database, job.number)
            assert claimed is not None
            store.finish(database, claimed, run_request(request, job_id=job.id))

        run(-1)
        with cProfile.Profile() as profile:
            for turn in range(rounds):
                run(turn)
    took = {
        f"{Path(file).stem}.{name}": spent
        for (file, _, name), (_, _, _, spent, _) in pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
    }
    whole = took["run.run_request"] + took["store.claim"] + took["store.finish"]
    parts = {
        "prices": took["data.fetch_ohlcv"],
        "strategy, engine, result": took["engine.run_backtest"] - took["metrics.calculate_metrics"],
        "metrics": took["metrics.calculate_metrics"],
        "database": took["store.claim"] + took["store.finish"],
    }
    told = ", ".join(f"{what} {spent / whole:.0%}" for what, spent in parts.items())
    yield f"a job of {len(run_request(request).equity_curve):,} bars, prices read from disk, under cProfile", told


def metrics_in_pandas(equity: pd.Series, periods: float = 252.0) -> dict[str, float]:
    """Ten of the metrics as one would write them in a notebook."""
    returns, peak = equity.pct_change().dropna(), equity.cummax()
    drawdown = equity / peak - 1.0
    below = returns.clip(upper=0.0)
    total = equity.iloc[-1] / equity.iloc[0] - 1.0
    cagr = (1.0 + total) ** (periods / len(returns)) - 1.0
    return {
        "total_return": total,
        "cagr": cagr,
        "annual_volatility": returns.std() * np.sqrt(periods),
        "sharpe": returns.mean() / returns.std() * np.sqrt(periods),
        "sortino": returns.mean() / np.sqrt((below**2).mean()) * np.sqrt(periods),
        "calmar": cagr / -drawdown.min(),
        "max_drawdown": drawdown.min(),
        "ulcer_index": np.sqrt((drawdown**2).sum() / (len(returns) - 1)),
        "best_day": returns.max(),
        "worst_day": returns.min(),
    }


def compiled_beside_pandas(rounds: int = 500) -> Iterator[Row]:
    """All metrics by the package beside ten of them by pandas, on the same equity, in turns."""
    prices, given, calculate = fetch_ohlcv("^GSPC", source="sample").iloc[-N_BARS:], {}, engine.calculate_metrics

    def noted(**series: Any) -> dict[str, float | int]:
        given.update(series)
        return calculate(**series)

    with mock.patch.object(engine, "calculate_metrics", noted):
        result = engine.run_backtest(prices)
    for name, value in metrics_in_pandas(result.equity).items():
        assert np.isclose(result.metrics[name], value, rtol=1e-9), (name, result.metrics[name], value)
    ours, theirs = lambda: calculate(**given), lambda: metrics_in_pandas(result.equity)
    turns = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    own, other = (statistics.median(turn) * 1e3 for turn in zip(*turns, strict=True))
    what = f"all {len(result.metrics)} metrics compiled / {len(theirs())} of them in pandas, {len(prices):,} bars"
    yield what, f"1/{statistics.median(b / a for a, b in turns):.0f} ({own:.2f} ms / {other:.2f} ms)"


# ---- 25,000,000 points -----------------------------------------------------------------------------------------------


def fill_planned(database: sa.Engine, n_jobs: int) -> None:
    """A row a bar, loaded as fast as PostgreSQL can: made by itself, indexed afterwards."""
    with database.begin() as connection:
        for line in PLANNED.split(";"):
            connection.execute(sa.text(line), {"jobs": n_jobs, "bars": N_BARS} if ":jobs" in line else {})


def fill_ours(database: sa.Engine, n_jobs: int) -> None:
    """Completed jobs of 20 owners over the last days, each with its result and its curve, at random in every number."""
    rng, now = np.random.default_rng(SEED), dt.datetime.now(dt.UTC)
    request, metrics = build_request(**ASKED), run_request(build_request(**ASKED)).metrics
    for low in range(0, n_jobs, CHUNK):
        numbers = range(low + 1, min(low + CHUNK, n_jobs) + 1)
        entered = [
            {
                "number": number,
                "owner": f"owner {number % OWNERS}",
                "key": hashlib.sha256(str(number).encode()).hexdigest(),
                "status": "queued" if number > n_jobs - OPEN else "failed" if number % 50 == 0 else "completed",
                "symbol": SYMBOLS[number % len(SYMBOLS)],
                "strategy": "ma_crossover",
                "request": request.model_dump(mode="json"),
                "report": False,
                "attempts": 1,
                "created_at": now - (n_jobs - number) * dt.timedelta(seconds=0.1),
            }
            for number in numbers
        ]
        found = [
            {
                "number": n,
                "sharpe": 1.0,
                "max_drawdown": -0.1,
                "total_return": 0.2,
                "metrics": metrics,
                "runtime_seconds": 0.01,
            }
            for n in numbers
        ]
        curves = 1e5 * np.exp(np.cumsum(rng.normal(0.0, 0.01, (len(numbers), N_BARS)), axis=1))
        packed = [{"number": n, "equity": curve.tobytes()} for n, curve in zip(numbers, curves, strict=True)]
        with database.begin() as connection:
            for table, lines in ((store.jobs, entered), (store.results, found), (store.equity_curves, packed)):
                connection.execute(sa.insert(table), lines)
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
        connection.execute(sa.text("SELECT setval('jobs_number_seq', (SELECT max(number) FROM jobs))"))


def questions(database: sa.Engine, n_jobs: int) -> dict[str, Callable[[int], Any]]:
    """What the service asks, each of a number that changes."""
    request = build_request(**ASKED)
    found = {number: store.find_job(database, name_of(database, number)) for number in range(1, ROUNDS + 1)}
    page = lambda owner=None, **filters: store.list_jobs(database, owner=owner, filters=filters, before=None, limit=51)  # noqa: E731
    points = sa.text("SELECT equity FROM equity_points WHERE job = :job ORDER BY bar")

    def curve_of_rows(number: int) -> int:
        with database.connect() as connection:
            return len(connection.execute(points, {"job": 1 + number * 7919 % n_jobs}).scalars().all())

    def enter_again(number: int) -> Any:
        return store.submit(database, request, owner="again", key=str(number % 10))

    return {
        "a job's curve, a row a bar": curve_of_rows,
        "a job with its curve, packed": lambda k: store.read_result(database, found[k % ROUNDS + 1]),
        "50 jobs of an owner": lambda k: page(f"owner {k % OWNERS}"),
        "50 jobs, failed": lambda _: page(status="failed"),
        "50 jobs, cancelled (none is)": lambda _: page(status="cancelled"),
        "50 jobs of a symbol": lambda k: page(symbol=SYMBOLS[k % len(SYMBOLS)]),
        "50 jobs of an owner and a symbol that has none": lambda k: page(f"owner {k % OWNERS}", symbol="NONE"),
        "when an owner entered the last job but 60": lambda k: store.entered_at(database, f"owner {k % OWNERS}", 60),
        "an equal request": enter_again,
        "open jobs": lambda _: store.count_open(database, dt.datetime.now(dt.UTC)),
    }


def name_of(database: sa.Engine, number: int) -> str:
    with database.connect() as connection:
        created = connection.execute(
            sa.select(store.jobs.c.created_at).where(store.jobs.c.number == number)
        ).scalar_one()
    return f"manual-{created.astimezone(dt.UTC):%Y-%m-%d}-{number:06d}"


def sizes(database: sa.Engine) -> Iterator[Row]:
    for what, table in (("a row a bar", "equity_points"), ("curves packed, a row a job", "equity_curves")):
        with database.connect() as connection:
            taken = connection.execute(sa.text(f"SELECT pg_total_relation_size('{table}')")).scalar_one()
        yield f"on disk, {what}", f"{taken / 1e6:,.0f} MB"


def queries(n_jobs: int) -> Iterator[Row]:
    """Both layouts in a database of their own, and the service's questions to it."""
    with postgres() as url, opened(url) as database:
        filled = [seconds(lambda fill=fill: fill(database, n_jobs)) for fill in (fill_planned, fill_ours)]
        yield (
            f"{n_jobs * N_BARS:,} points entered",
            f"a row a bar {filled[0]:.0f} s, packed with jobs {filled[1]:.0f} s",
        )
        yield from sizes(database)
        for what, ask in questions(database, n_jobs).items():
            took = [seconds(lambda k=k, ask=ask: ask(k)) for k in range(ROUNDS)]
            yield what, f"{spread(took, 1)}, longest {max(took) * 1e3:.0f} ms"
            assert np.percentile(took, 99) < LONGEST, (what, max(took))


def main() -> None:
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split("\n\n")[0].split()))
    parser.add_argument("--jobs", type=int, default=10_000, help=f"each of {N_BARS:,} points")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        fill_cache(Path(place))
        for rows in (shares_of_a_job(Path(place)), compiled_beside_pandas(), queries(given.jobs)):
            for what, value in rows:
                print(f"{what}: {value}", flush=True)


if __name__ == "__main__":
    main()
