"""Requests: run by one function behind every door."""

import functools
import time

import pytest

from backgrid.engine import run_backtest
from backgrid.errors import BackgridError, DataFetchError, ParameterError
from backgrid.models import BacktestRequest, JobStatus, StrategyType
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


TERMS = {
    "fill": "close",
    "fees": 0.001,
    "slippage": 0.0005,
    "fixed_fee": 1.0,
    "cash": 50_000.0,
    "whole_units": True,
    "stop_loss": 0.1,
    "take_profit": 0.2,
    "trailing_stop": 0.08,
    "sizing": "volatility",
    "size": 0.2,
    "lookback": 20,
    "leverage": 1.5,
    "rebalance": "week",
    "cash_rate": 0.02,
    "borrow_rate": 0.03,
    "risk_free": 0.01,
    "periods_per_year": 250.0,
}


def test_request_with_every_term_gives_what_the_call_by_hand_gives(aapl):
    usual, request = BacktestRequest(**REQUEST), BacktestRequest(**REQUEST, **TERMS)
    assert [name for name, value in request.terms().items() if value == usual.terms()[name]] == []
    result = backtest_request(request)
    assert result == run_backtest(aapl, **TERMS)
    assert {name: result.settings[name] for name in TERMS} == TERMS


@pytest.mark.parametrize("rebalance", ["month", 0.05])
def test_request_rebalances_by_the_calendar_or_by_drift(aapl, rebalance):
    terms = {"strategy": "buy_and_hold", "size": 0.5, "rebalance": rebalance}
    assert backtest_request(BacktestRequest(**REQUEST, **terms)) == run_backtest(aapl, **terms)


@pytest.mark.parametrize("strategy", [strategy.value for strategy in StrategyType])
def test_every_strategy_answers_a_request(aapl, strategy):
    params = {"window": 20} if strategy == "momentum" else {}
    response = run_request(BacktestRequest(**REQUEST, strategy=strategy, params=params))
    assert response.status == JobStatus.COMPLETED and response.strategy == strategy
    assert response.equity_curve == run_backtest(aapl, strategy, params=params).equity.tolist()
    assert response.metrics["n_trades"] >= 1


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
