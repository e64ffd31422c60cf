"""A request holds only what can be run: every field bounded, unknown ones refused, wrong ones named."""

import datetime as dt
import inspect
import json
import math

import pydantic
import pytest

from backgrid.engine import run_backtest
from backgrid.errors import ParameterError
from backgrid.models import BacktestRequest, BacktestResponse, JobStatus, StrategyType, build_request
from backgrid.strategies import STRATEGIES

# ---- requests --------------------------------------------------------------------------------------------------------


def test_request_needs_a_symbol_only():
    request = BacktestRequest(symbol="aapl")
    assert (request.symbol, request.strategy, request.params) == ("AAPL", StrategyType.MA_CROSSOVER, {})
    assert (request.start, request.end, request.interval, request.source) == (None, None, "1d", None)
    assert request.adjusted


def test_terms_of_a_request_are_those_of_run_backtest_with_its_defaults():
    parameters = inspect.signature(run_backtest).parameters
    others = {"prices", "strategy", "params", "benchmark"}
    usual = {name: parameter.default for name, parameter in parameters.items() if name not in others}
    assert BacktestRequest(symbol="AAPL").terms() == usual


def test_request_of_the_specification_is_read():
    request = BacktestRequest.model_validate_json('{"symbol":"AAPL","strategy":"ma_crossover","start":"2020-01-01"}')
    assert request.start == dt.date(2020, 1, 1)


@pytest.mark.parametrize("rebalance", [None, "week", 0.05])
def test_request_comes_back_from_its_json(rebalance):
    request = BacktestRequest(
        symbol="BRK-B",
        strategy="buy_and_hold",
        params={"a": 1, "b": 0.5, "c": True, "d": "x"},
        start=dt.date(2023, 1, 1),
        end="2023-12-31",
        fees=0.001,
        periods_per_year=365,
        stop_loss=0.1,
        rebalance=rebalance,
    )
    back = BacktestRequest.model_validate_json(request.model_dump_json())
    assert back == request
    assert {name: type(value) for name, value in back.params.items()} == {"a": int, "b": float, "c": bool, "d": str}


@pytest.mark.parametrize("symbol", ["^GSPC", "BRK-B", "EURUSD=X", "ES=F", "005930.KS", "BTC-USD"])
def test_legal_symbol_passes(symbol):
    assert BacktestRequest(symbol=symbol.lower()).symbol == symbol


@pytest.mark.parametrize(
    "symbol",
    ["../../etc/passwd", "A/B", "", " ", "..", "A" * 10_240, "A\0B", "AAPL\n", "<script>", "%2e%2e", None, 5, ["AAPL"]],
    ids=lambda symbol: ascii(symbol)[:20],
)
def test_illegal_symbol_is_refused(symbol):
    with pytest.raises(pydantic.ValidationError, match="is not a ticker"):
        BacktestRequest(symbol=symbol)


AT_THE_BOUNDS = {
    "fees": [0.0, 0, 0.999],
    "slippage": [0.0, 0.999],
    "fixed_fee": [0.0, 1e9],
    "cash": [1e-9, 1, 1e15],
    "stop_loss": [None, 1e-9, 0.999],
    "take_profit": [None, 1e-9, 1, 1e6],
    "trailing_stop": [None, 1e-9, 0.999],
    "sizing": ["fraction"],
    "size": [None, 1e-9, 1, 1e15],
    "lookback": [2, 1_000_000],
    "leverage": [1e-9, 1, 1000.0],
    "rebalance": [None, "bar", "week", "month", 1e-9, 0.999],
    "cash_rate": [-0.999, 0, 10.0],
    "borrow_rate": [0.0, 100.0],
    "risk_free": [-0.999, 10.0],
    "periods_per_year": [None, 1e-9, 252, 1e7],
    "whole_units": [True, False],
    "fill": ["next_open", "close", "next_close"],
}


@pytest.mark.parametrize(("field", "good"), AT_THE_BOUNDS.items(), ids=AT_THE_BOUNDS.keys())
def test_term_at_its_bound_passes_and_can_be_run(aapl, field, good):
    for value in good:
        request = BacktestRequest(symbol="AAPL", **{field: value})
        assert request.terms()[field] == value
        run_backtest(aapl, [1.0] * len(aapl), **request.terms())


def test_every_term_is_tried_at_its_bounds():
    assert AT_THE_BOUNDS.keys() == BacktestRequest(symbol="AAPL").terms().keys()


@pytest.mark.parametrize(
    ("sizing", "with_"),
    [("units", {}), ("cash", {"rebalance": "week"}), ("volatility", {"rebalance": 0.1}), ("risk", {"stop_loss": 0.1})],
)
def test_rule_of_size_passes_with_what_it_needs_and_can_be_run(aapl, sizing, with_):
    request = BacktestRequest(symbol="AAPL", sizing=sizing, size=0.5, **with_)
    assert run_backtest(aapl, "buy_and_hold", **request.terms()).settings["sizing"] == sizing


@pytest.mark.parametrize(
    ("field", "good"),
    [
        ("interval", ["1m", "1h", "1d", "1wk", "3mo"]),
        ("strategy", ["ma_crossover", StrategyType.BUY_AND_HOLD]),
        ("source", [None, "yahoo", "x" * 1000]),
        ("start", [None, "", "2023-01-01", dt.date(2023, 1, 1), dt.datetime(2023, 1, 1)]),
        ("params", [{}, {"_a1": 1}, {"a" * 40: "x" * 200}, {f"p{n}": n for n in range(40)}]),
    ],
)
def test_value_at_its_bound_passes(field, good):
    for value in good:
        BacktestRequest(symbol="AAPL", **{field: value})


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("fees", [-1e-9, 1.0, "0.1", True, None, float("nan"), float("inf")]),
        ("slippage", [-1e-9, 1.0, "0.1", float("nan")]),
        ("fixed_fee", [-1e-9, 1.1e9, "5", float("inf")]),
        ("cash", [0.0, -1.0, 1.1e15, "100", float("inf")]),
        ("risk_free", [-1.0, 10.1, float("nan")]),
        ("periods_per_year", [0.0, -1.0, 1.1e7, float("inf")]),
        ("stop_loss", [0.0, -0.1, 1.0, 5, "5%", True, float("nan")]),
        ("take_profit", [0.0, -0.1, 1.1e6, "0.1", float("inf")]),
        ("trailing_stop", [0.0, -0.1, 1.0, [0.1], float("nan")]),
        ("sizing", ["units ", "Fraction", "", None, 1]),
        ("size", [0.0, -1.0, 1.1e15, "1", float("inf")]),
        ("lookback", [1, 0, -5, 20.0, 1_000_001, "60", None, True]),
        ("leverage", [0.0, -1.0, 1001.0, None, "2", float("inf")]),
        ("rebalance", ["weekly", "", "0.1", 0.0, 0, 1, -0.1, True, [], float("nan")]),
        ("cash_rate", [-1.0, 10.1, None, float("nan")]),
        ("borrow_rate", [-0.1, 100.1, None, float("nan")]),
        ("whole_units", [1, 0, "true", None]),
        ("adjusted", [1, "yes"]),
        ("fill", ["open", "", None, 0]),
        ("interval", ["2d", "", None]),
        ("strategy", ["ma_crosover", "", None, 5]),
        ("source", ["x" * 1001, 5]),
        ("start", ["2023-02-30", "yesterday", 20230101, 0.5, True]),
        ("end", ["31.12.2023", []]),
        ("params", [None, [], {"a": None}, {"a": [1]}, {"a": float("nan")}, {"a": "x" * 201}, {"a" * 41: 1}, {1: 1}]),
        ("params", [{f"p{n}": n for n in range(41)}, {"a b": 1}, {"A": 1}, {"a = 1\nopen('pwned')\nb": 1}, {"": 1}]),
    ],
)
def test_value_out_of_bounds_is_refused_and_its_field_named(field, bad):
    for value in bad:
        with pytest.raises(pydantic.ValidationError) as caught:
            BacktestRequest(symbol="AAPL", **{field: value})
        assert {error["loc"][0] for error in caught.value.errors()} == {field}


def test_unknown_field_is_refused():
    with pytest.raises(pydantic.ValidationError, match="fee\n"):
        BacktestRequest(symbol="AAPL", fee=0.1)


def test_end_before_start_is_refused_with_both_dates():
    with pytest.raises(pydantic.ValidationError, match="end 2022-12-31 is before start 2023-01-01"):
        BacktestRequest(symbol="AAPL", start="2023-01-01", end="2022-12-31")
    assert BacktestRequest(symbol="AAPL", start="2023-01-01", end="2023-01-01").start == dt.date(2023, 1, 1)


TOGETHER = [
    ({"sizing": "units"}, "sizing='units' needs a size"),
    ({"sizing": "risk", "size": 1.0, "stop_loss": 0.1}, "size must be a number above 0 and below 1, got 1.0"),
    ({"sizing": "risk", "size": 0.01}, "sizing='risk' needs a stop_loss or a trailing_stop"),
    ({"sizing": "risk", "size": 0.01, "take_profit": 0.1}, "sizing='risk' needs a stop_loss or a trailing_stop"),
    (
        {"sizing": "units", "size": 9.0, "rebalance": "week"},
        "rebalance='week' holds a weight, which sizing='units' has",
    ),
    ({"sizing": "cash", "size": 9.0, "rebalance": 0.1}, "rebalance=0.1 holds a weight, which sizing='cash' has not"),
]


@pytest.mark.parametrize(("fields", "said"), TOGETHER)
def test_terms_that_do_not_go_together_are_refused_in_the_words_of_the_engine(aapl, fields, said):
    with pytest.raises(pydantic.ValidationError, match=said):
        BacktestRequest(symbol="AAPL", **fields)
    with pytest.raises(ParameterError) as refused:
        build_request(symbol="AAPL", **fields)
    with pytest.raises(ParameterError, match=said) as by_the_engine:
        run_backtest(aapl, **fields)
    assert str(refused.value) == str(by_the_engine.value)


def test_request_is_frozen():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        BacktestRequest(symbol="AAPL").fees = 0.5


def test_every_field_is_described_in_the_schema():
    fields = BacktestRequest.model_json_schema()["properties"]
    assert all(field.get("description") for field in fields.values())
    assert BacktestRequest.model_json_schema()["additionalProperties"] is False


def test_schema_has_both_ways_to_rebalance():
    words, drift, never = BacktestRequest.model_json_schema()["properties"]["rebalance"]["anyOf"]
    assert words["enum"] == ["bar", "week", "month"] and never == {"type": "null"}
    assert drift == {"type": "number", "exclusiveMinimum": 0.0, "exclusiveMaximum": 1.0}


# ---- requests built by a door ----------------------------------------------------------------------------------------


def test_built_request_is_the_request():
    fields = {"strategy": "buy_and_hold", "fees": 0.1}
    assert build_request(symbol="aapl", **fields) == BacktestRequest(symbol="AAPL", **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"symbol": "A/B"}, "symbol 'A/B' is not a ticker"),
        ({}, "symbol: Field required"),
        ({"symbol": "AAPL", "fee": 0.1}, "a request has no field 'fee'; did you mean 'fees'?"),
        ({"symbol": "AAPL", "x" * 10_000: 1}, "a request has no field 'xxx"),
        ({"symbol": "AAPL", "strategy": "ma_crosover"}, "unknown strategy 'ma_crosover'; did you mean 'ma_crossover'?"),
        ({"symbol": "AAPL", "fees": 2.0}, "fees: Input should be less than 1, got 2.0"),
        ({"symbol": "AAPL", "fees": "0.1"}, "fees: Input should be a valid number, got '0.1'"),
        ({"symbol": "AAPL", "stop_loss": 5}, "stop_loss: Input should be less than 1, got 5"),
        ({"symbol": "AAPL", "rebalance": "weekly"}, "unknown rebalance 'weekly'; did you mean 'week'?"),
        ({"symbol": "AAPL", "rebalance": 2}, "rebalance must be a number above 0 and below 1, got 2"),
        ({"symbol": "AAPL", "params": {"a b": 1}}, "params.a b"),
        ({"symbol": "AAPL", "start": "2023", "end": "2022"}, "must be a date such as 2023-12-31, got '2023'"),
        ({"symbol": "AAPL", "start": "2023-01-02", "end": "2023-01-01"}, "end 2023-01-01 is before start 2023-01-02"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_wrong_field_is_one_error_that_names_it(fields, message):
    with pytest.raises(ParameterError) as caught:
        build_request(**fields)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["start", "end"])
def test_wrong_date_is_named_by_its_field(field):
    with pytest.raises(ParameterError, match=field):
        build_request(symbol="AAPL", **{field: "yesterday"})


# ---- responses -------------------------------------------------------------------------------------------------------

RESPONSE = {"job_id": "manual-1", "status": "completed", "symbol": "AAPL", "strategy": "ma_crossover"}


def test_response_comes_back_from_its_json_with_null_for_undefined():
    response = BacktestResponse(**RESPONSE, sharpe=None, max_drawdown=-0.18, metrics={"n_trades": 3, "sqn": None})
    text = response.model_dump_json()
    assert json.loads(text)["sharpe"] is None and json.loads(text)["metrics"] == {"n_trades": 3, "sqn": None}
    assert BacktestResponse.model_validate_json(text) == response


@pytest.mark.parametrize(
    "change",
    [
        {"sharpe": float("nan")},
        {"metrics": {"sharpe": float("inf")}},
        {"equity_curve": [float("nan")]},
        {"max_drawdown": 0.1},
        {"max_drawdown": -1.1},
        {"total_return": -1.1},
        {"runtime_seconds": -1.0},
        {"job_id": ""},
        {"job_id": "x" * 101},
        {"status": "done"},
        {"strategy": "unknown"},
        {"answer": 42},
    ],
    ids=repr,
)
def test_response_that_cannot_be_true_is_refused(change):
    with pytest.raises(pydantic.ValidationError):
        BacktestResponse(**{**RESPONSE, **change})


def test_response_may_tell_of_ruin():
    response = BacktestResponse(**{**RESPONSE, "job_id": "1"}, total_return=-1.0, max_drawdown=-1.0)
    assert (response.total_return, response.max_drawdown) == (-1.0, -1.0)


def test_failed_response_says_why():
    response = BacktestResponse(**{**RESPONSE, "status": "failed", "error": "AAPL: offline"})
    assert (response.status, response.error, response.equity_curve) == (JobStatus.FAILED, "AAPL: offline", [])


def test_response_is_frozen():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        BacktestResponse(**RESPONSE).sharpe = 3.0


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_request_can_name_every_strategy_that_comes_with_the_package():
    built_in = [name for name, function in STRATEGIES.items() if function.__module__ == "backgrid.strategies"]
    assert [strategy.value for strategy in StrategyType] == built_in
    assert all(BacktestRequest(symbol="AAPL", strategy=name).strategy == name for name in built_in)


def test_job_states_are_these():
    assert [status.value for status in JobStatus] == ["queued", "running", "completed", "failed", "cancelled"]


@pytest.mark.parametrize("value", [[1], None, math.nan, "y" * 201])
def test_parameter_of_a_wrong_type_is_told_all_that_it_may_be(value):
    with pytest.raises(ParameterError, match="^params.fast must be true, false, a finite number or a text of 200"):
        build_request(symbol="AAPL", params={"fast": value})
