"""A request run: its prices fetched, backtested, answered. Every door (notebook, command, HTTP) comes through here."""

import datetime as dt
import math
import time

from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.models import BacktestRequest, BacktestResponse, JobStatus
from backgrid.result import BacktestResult
from backgrid.strategies import complete_params, get_strategy


def backtest_request(request: BacktestRequest) -> BacktestResult:
    """Fetch the prices of a request and backtest it.

    Raises
    ------
    BackgridError
        As `fetch_ohlcv` and `run_backtest`; a wrong parameter before anything is fetched.
    """
    complete_params(get_strategy(request.strategy.value), request.params)
    prices = fetch_ohlcv(
        request.symbol,
        request.start,
        request.end,
        interval=request.interval,
        source=request.source,
        adjusted=request.adjusted,
    )
    return run_backtest(prices, request.strategy.value, params=request.params, **request.terms())


def run_request(request: BacktestRequest, *, job_id: str | None = None) -> BacktestResponse:
    """Fetch the prices of a request, backtest it, and answer. Every door (notebook, command, HTTP) calls this.

    Parameters
    ----------
    request : BacktestRequest
    job_id : str, optional
        Name of the answer; made from the clock if not given.

    Raises
    ------
    BackgridError
        As `fetch_ohlcv` and `run_backtest`.
    """
    started = time.perf_counter()
    result = backtest_request(request)
    metrics = {name: value if math.isfinite(value) else None for name, value in result.metrics.items()}
    return BacktestResponse(
        job_id=job_id or f"manual-{dt.datetime.now(dt.UTC):%Y-%m-%d-%H%M%S%f}",
        status=JobStatus.COMPLETED,
        symbol=result.symbol,
        strategy=request.strategy,
        sharpe=metrics["sharpe"],
        max_drawdown=metrics["max_drawdown"],
        total_return=metrics["total_return"],
        metrics=metrics,
        equity_curve=result.equity.tolist(),
        runtime_seconds=time.perf_counter() - started,
    )
