"""Requests: run by one function behind every door."""

import functools
import time

import pytest

from backgrid.engine import run_backtest
from backgrid.errors import BackgridError, DataFetchError, ParameterError
from backgrid.models import BacktestRequest, JobStatus
from backgrid.run import backtest_request, run_request

REQUEST = {"symbol": "aapl", "source": "sample", "start": "2023-01-01", "end": "2023-12-31"}


def test_request_gives_what_the_calls_by_hand_give(aapl):
    request = BacktestRequest(**REQUEST, params={"fast_window": 5}, fees=0.001, fill="close", cash=5000.0)
    result = run_backtest(aapl, params={"fast_window": 5}, fees=0.001, fill="close", cash=5000.0)
    assert backtest_request(request) == result
    started = time.perf_counter()
    response = run_request(request)
    assert 0.0 < response.runtime_seconds < time.perf_counter() - started
    assert response.equity_curve == result.equity.tolist()
    assert (response.symbol, response.strategy, response.status) == ("AAPL", "ma_crossover", JobStatus.COMPLETED)
    for name in ("sharpe", "max_drawdown", "total_return"):
        assert getattr(response, name) == response.metrics[name] == result.metrics[name]


def test_response_writes_undefined_numbers_as_null():
    response = run_request(BacktestRequest(**REQUEST, params={"fast_window": 249, "slow_window": 250}))
    assert response.sharpe is None and response.metrics["win_rate"] is None and response.total_return == 0.0


def test_response_is_named_by_the_caller_or_by_the_clock():
    request = BacktestRequest(**REQUEST)
    assert run_request(request, job_id="job-1").job_id == "job-1"
    named, again = run_request(request).job_id, run_request(request).job_id
    assert named.startswith("manual-20") and named != again


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fast": 5}, "ma_crossover has no parameter 'fast'"),
        ({"fast_window": 2.5}, "fast_window must be a whole number"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_fetched(monkeypatch, params, message):
    monkeypatch.setattr("backgrid.run.fetch_ohlcv", functools.partial(pytest.fail, "fetched"))
    with pytest.raises(ParameterError, match=message):
        run_request(BacktestRequest(**REQUEST, params=params))


def test_symbol_that_the_sample_lacks_is_a_typed_error():
    with pytest.raises(DataFetchError, match="ZZZZ") as caught:
        run_request(BacktestRequest(**{**REQUEST, "symbol": "ZZZZ"}))
    assert isinstance(caught.value, BackgridError)
