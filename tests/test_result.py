"""A result is frozen data: it can be shown, drawn, written, read, pickled and compared, and is the same each time."""

import contextlib
import copy
import dataclasses
import html.parser
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import plain
import pytest

from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import ParameterError
from backgrid.result import BacktestResult

ROOT = Path(__file__).parents[1]
TRADES = [  # section 5 of the design
    *["entry_time", "exit_time", "entry_bar", "exit_bar", "units", "entry_price", "exit_price", "fees", "pnl"],
    *["trade_return", "bars_held", "exit_reason"],
]


@pytest.fixture(scope="module")
def result(aapl):
    return run_backtest(aapl, params={"fast_window": 5, "slow_window": 20}, fees=0.001)


def run_named(name, prices=None, **params):
    """A run of a strategy function of that name, its parameters' defaults being `params`."""

    def strategy(prices):
        return np.ones(len(prices))

    strategy.__name__ = name
    return dataclasses.replace(
        run_backtest(plain.random_bars(1, 30) if prices is None else prices, strategy), params=params
    )


def there_and_back(result):
    return BacktestResult.from_json(result.to_json())


# ---- what it holds ---------------------------------------------------------------------------------------------------


def test_trades_have_the_columns_of_the_design(result, aapl):
    trades = result.trades
    assert trades.columns.tolist() == TRADES and len(trades) == result.metrics["n_trades"]
    assert (trades["entry_time"] == aapl.index[trades["entry_bar"]]).all()
    assert (trades["exit_time"] == aapl.index[trades["exit_bar"]]).all()
    assert (trades["bars_held"] == trades["exit_bar"] - trades["entry_bar"]).all()
    assert trades["trade_return"].tolist() == (trades["pnl"] / (trades["units"] * trades["entry_price"])).tolist()


def test_table_without_trades_has_the_same_columns_and_types(result, aapl):
    empty = run_backtest(aapl, np.zeros(250)).trades
    assert empty.empty and empty.dtypes.equals(result.trades.dtypes)


def test_series_stand_on_the_dates_of_the_prices(result, aapl):
    for name in ("equity", "positions", "benchmark"):
        series = getattr(result, name)
        assert series.name == name and series.index.equals(aapl.index)
    assert result.returns.name == "returns" and result.returns.index.equals(aapl.index[1:])


@pytest.mark.parametrize("name", ["equity", "metrics", "trades", "symbol", "anything"])
def test_fields_cannot_be_set(result, name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, name, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda result: result.equity.iloc.__setitem__(0, -1.0),
        lambda result: result.positions.iloc.__setitem__(0, 9.0),
        lambda result: result.benchmark.iloc.__setitem__(0, 9.0),
        lambda result: result.trades.__setitem__("pnl", 0.0),
    ],
    ids=["equity", "positions", "benchmark", "trades"],
)
def test_curves_and_trades_cannot_be_changed(aapl, change):
    """A result that is passed on must still say what was run."""
    result = run_backtest(aapl, fees=0.001)
    before = result.to_json()
    with contextlib.suppress(ValueError):  # read-only
        change(result)
    assert result.to_json() == before


# ---- written and read ------------------------------------------------------------------------------------------------


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_json_is_strict_and_holds_every_field(result):
    body = json.loads(result.to_json(), parse_constant=refuse)
    names = {field.name for field in dataclasses.fields(BacktestResult)} - {
        "booked",
        "again",
        "hashed",
        "index",
        "curves",
    }
    assert names | {"trades", "time", "prices_hash", "equity", "positions", "benchmark"} <= set(body)
    assert body["equity"] == result.equity.tolist() and list(body["metrics"]) == list(result.metrics)
    assert list(body["trades"]) == TRADES and body["time"][0] == "2023-01-03T00:00:00"


def test_undefined_is_null_in_json_and_nan_again_when_read(aapl):
    flat = run_backtest(aapl, np.zeros(250))
    assert json.loads(flat.to_json(), parse_constant=refuse)["metrics"]["sharpe"] is None
    assert math.isnan(there_and_back(flat).metrics["sharpe"])


def test_what_is_read_is_what_was_written_to_the_last_bit(result):
    back = there_and_back(result)
    assert back == result and back.to_json() == result.to_json()
    for name in ("equity", "positions", "benchmark", "returns"):
        pd.testing.assert_series_equal(getattr(back, name), getattr(result, name), check_freq=False, check_exact=True)
    pd.testing.assert_frame_equal(back.trades, result.trades, check_exact=True)
    assert repr(back.metrics) == repr(result.metrics)
    assert back._repr_html_() == result._repr_html_()


@pytest.mark.parametrize(
    ("symbol", "interval", "zone"),
    [("AAPL", "1m", "America/New_York"), ("EURUSD=X", "1h", "UTC"), ("AAPL", "1d", "None")],
)
def test_intraday_times_come_back_in_their_time_zone(symbol, interval, zone):
    prices = fetch_ohlcv(symbol, interval=interval, source="sample")[-600:]
    result = run_backtest(prices, params={"fast_window": 5, "slow_window": 20})
    back = there_and_back(result)
    assert str(back.equity.index.tz) == zone and back.equity.index.equals(prices.index)
    assert back.equity.index.dtype == prices.index.dtype
    assert len(result.trades) > 5
    pd.testing.assert_frame_equal(back.trades, result.trades, check_exact=True)


@pytest.mark.parametrize(
    "index",
    [
        pd.date_range("2023-01-02", periods=30, freq="D"),
        pd.date_range("2023-10-28 21:00", periods=30, freq="15min", tz="Europe/Berlin"),  # the hour that comes twice
        pd.date_range("2023-01-02", periods=30, freq="h", tz="-05:00"),
        pd.date_range("2023-01-02", periods=30, freq="500ms"),
        pd.date_range("2023-01-02 09:30", periods=30, freq="123456789ns"),
    ],
    ids=["days", "clock put back", "offset", "half seconds", "nanoseconds"],
)
def test_times_of_every_kind_come_back(index):
    result = run_named("hold", plain.random_bars(1, 30).set_axis(index, axis=0))
    back = there_and_back(result)
    assert back.equity.index.equals(result.equity.index)
    assert back == result


@pytest.mark.parametrize(
    "params",
    [{"a": 1, "b": 2.5, "c": True, "d": "text", "e": None}, {"list": [1, (2, 3)]}, {"nested": {"x": [0.1]}}],
    ids=repr,
)
def test_parameters_of_plain_values_come_back(params):
    assert there_and_back(run_named("hold", **params)) == run_named("hold", **params)


def test_parameter_that_json_does_not_know_is_refused_by_name():
    result = run_named("hold", day=pd.Timestamp("2023-01-02"))
    with pytest.raises(ParameterError, match=r"Timestamp.* cannot be written as JSON"):
        result.to_json()


def test_ruined_run_comes_back(bars):
    ruined = run_backtest(bars(close=[100.0, 100.0, 500.0, 100.0]), [-1.0] * 4)
    assert there_and_back(ruined).trades["exit_reason"].tolist() == ["ruin"]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_copies_and_pickles_are_equal(result, duplicate):
    assert duplicate(result) == result
    assert hash(duplicate(result)) == hash(result)
    assert duplicate(result).trades.equals(result.trades)


# ---- compared --------------------------------------------------------------------------------------------------------


def test_equal_runs_are_equal_and_stand_for_each_other_in_a_set(aapl, result):
    again = run_backtest(aapl, params={"fast_window": 5, "slow_window": 20}, fees=0.001)
    assert again == result and len({again, result}) == 1


def test_anything_else_is_different(aapl, result):
    others = [
        run_backtest(aapl, params={"fast_window": 6, "slow_window": 20}, fees=0.001),
        run_backtest(aapl, params={"fast_window": 5, "slow_window": 20}, fees=0.0011),
        run_backtest(aapl[1:], params={"fast_window": 5, "slow_window": 20}, fees=0.001),
        dataclasses.replace(result, symbol="MSFT"),
        dataclasses.replace(result, curves=result.curves * (1.0 + 2e-16)),
        result.to_json(),
        None,
    ]
    assert all(other != result for other in others)


def test_runs_whose_parameters_json_does_not_know_can_still_be_compared():
    day, other = (run_named("hold", day=pd.Timestamp(date)) for date in ("2023-01-02", "2023-01-03"))
    assert day == run_named("hold", day=pd.Timestamp("2023-01-02"))
    assert day != other


# ---- shown -----------------------------------------------------------------------------------------------------------


def test_text_says_what_was_run_and_how_it_went(result):
    text = repr(result)
    assert text.startswith(
        "<BacktestResult ma_crossover(fast_window=5, slow_window=20) on AAPL: 250 bars, total return "
    )
    assert f"trades {result.metrics['n_trades']}" in text
    assert "nan" not in text and "n/a" in repr(run_backtest(plain.random_bars(1, 30), np.zeros(30)))


def test_title_leaves_out_a_symbol_that_is_not_known():
    assert run_named("hold").title == "hold()"


def test_plot_draws_the_strategy_by_name(result):
    assert "ma_crossover" in result.plot().svg()


class Page(html.parser.HTMLParser):
    """Tags that open, and whether each of them is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_shows_caption_costs_picture_and_table(result):
    shown = result._repr_html_()
    page = Page(shown)
    assert page.open == [] and page.tags.count("polyline") == 2 and page.tags.count("td") == page.tags.count("th")
    for words in ("ma_crossover(fast_window=5, slow_window=20) on AAPL", "2023-01-03 to 2023-12-29, 250 bars"):
        assert words in shown
    assert "filled at next open" in shown and "fees 0.100%" in shown and "aria-label" in shown


def test_picture_runs_from_the_lowest_to_the_highest_value_over_its_width(bars):
    """Equity and benchmark 100, 200, 150 in a box of 600 by 90 with a margin of 2: 88, 2 and 45 from the top."""
    shown = run_backtest(bars(close=[100.0, 200.0, 150.0]), "buy_and_hold", fill="close", cash=100.0)._repr_html_()
    assert shown.count("<polyline points='0.0,88.0 300.0,2.0 600.0,45.0'") == 2


HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"&"


@pytest.mark.parametrize(
    "make",
    [
        lambda prices: run_named(HOSTILE, prices),
        lambda prices: run_named("hold", prices, text=HOSTILE),
        lambda prices: run_named("hold", prices, **{HOSTILE: 1}),
        lambda prices: dataclasses.replace(run_named("hold", prices), symbol=HOSTILE),
    ],
    ids=["strategy", "value", "parameter", "symbol"],
)
def test_html_shows_hostile_words_as_words(make):
    hostile, harmless = Page(make(plain.random_bars(1, 30))._repr_html_()), Page(run_named("hold")._repr_html_())
    assert hostile.tags == harmless.tags


def test_html_of_a_long_run_stays_small():
    assert len(run_backtest(plain.random_bars(1, 20_000), "buy_and_hold")._repr_html_()) < 20_000


def test_html_of_a_flat_or_ruined_run_is_drawn_too(bars):
    for result in (
        run_backtest(bars(close=[100.0] * 5), np.zeros(5)),
        run_backtest(bars(close=[100.0, 100.0, 500.0, 100.0, 100.0]), -np.ones(5)),
    ):
        shown = result._repr_html_()
        assert "nan" not in shown and "inf" not in shown and "polyline" in shown


def test_output_is_the_same_bytes_in_every_process_and_holds_no_address(result):
    code = (
        "import sys, json; from backgrid import fetch_ohlcv, run_backtest\n"
        "prices = fetch_ohlcv('AAPL', '2023-01-01', '2023-12-31', source='sample')\n"
        "result = run_backtest(prices, params={'fast_window': 5, 'slow_window': 20}, fees=0.001)\n"
        "sys.stdout.buffer.write(json.dumps([result.to_json(), result._repr_html_(), repr(result)]).encode())\n"
    )
    here = [result.to_json(), result._repr_html_(), repr(result)]
    elsewhere = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **elsewhere}, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == here
    assert " at 0x" not in "".join(here) and str(ROOT) not in "".join(here)


def test_conventions_are_of_the_closed_trades_and_of_this_run(aapl):
    target = np.zeros(250)
    target[[*range(20, 60), *range(100, 180), *range(200, 250)]] = 1.0
    result = run_backtest(aapl, target, fees=0.001, risk_free=0.02)
    assert result.trades["exit_reason"].tolist() == ["signal", "signal", "open"]
    table = result.conventions()
    for name in ("sharpe", "win_rate", "profit_factor", "sqn"):
        assert table.loc[(name, "backgrid"), "value"] == pytest.approx(result.metrics[name], nan_ok=True)
    assert table.loc[("sharpe", "quantstats"), "value"] > table.loc[("sharpe", "backgrid"), "value"]  # no cash return


# ---- run again and set beside another --------------------------------------------------------------------------------


def test_stress_runs_the_same_signals_on_other_terms(result):
    """The cases stand in test_stress.py."""
    table = result.stress()
    assert table.loc["as run", ["total_return", "n_trades"]].tolist() == [
        result.metrics[name] for name in ("total_return", "n_trades")
    ]
    assert table.loc["one bar later", "total_return"] == result.again(delay=1).metrics["total_return"]


def test_stress_of_a_result_read_from_json_is_refused(result):
    with pytest.raises(ParameterError, match="run the backtest, then stress"):
        there_and_back(result).stress()


def test_compare_says_whether_another_result_is_the_same(aapl, result):
    """What it says where they differ stands in test_comparison.py."""
    assert result.compare(there_and_back(result)).identical
    compared = result.compare(run_backtest(aapl, params={"fast_window": 6, "slow_window": 20}, fees=0.001))
    assert compared.parameters.to_dict("index") == {"fast_window": {"ours": 5, "theirs": 6}}


def test_compare_with_anything_else_is_refused(result):
    with pytest.raises(ParameterError, match="compared with another result, got None"):
        result.compare(None)
