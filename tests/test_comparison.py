"""Two runs compared: equal runs differ in nothing, and where runs differ, what and from which bar on."""

import dataclasses
import html.parser
import itertools
import math
import pickle

import numpy as np
import pandas as pd
import plain
import pytest

from backgrid.comparison import ABSENT
from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import ParameterError
from backgrid.result import BacktestResult

TARGET = [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
CLOSE = [100.0, 100.0, 110.0, 121.0, 121.0, 100.0, 90.0, 90.0]  # bought at 100, sold at 121; bought at 100, sold at 90
FRAMES = ("parameters", "data", "trades_added", "trades_removed", "trades_changed", "metrics")


@pytest.fixture(scope="module")
def run(bars):
    """`run(close, target, **terms)`: filled at the close, 100 units for a cash of 10,000 at a price of 100."""

    def make(close=CLOSE, target=TARGET, *, index=None, **terms):
        return run_backtest(bars(close=close, index=index), target, **{"fill": "close", "cash": 10_000.0, **terms})

    return make


@pytest.fixture(scope="module")
def crossover(aapl):
    def make(prices=aapl, fast_window=5, **terms):
        return run_backtest(prices, params={"fast_window": fast_window, "slow_window": 20}, **terms)

    return make


def read(result):
    return BacktestResult.from_json(result.to_json())


def sizes(comparison):
    return [len(getattr(comparison, name)) for name in FRAMES]


# ---- equal runs ------------------------------------------------------------------------------------------------------


def same_runs():
    minutes = fetch_ohlcv("AAPL", interval="1m", source="sample")
    bars = plain.random_bars(1)
    stops = np.full(len(bars), 0.05)
    return {
        "daily": lambda: run_backtest(fetch_ohlcv("AAPL", source="sample"), fees=0.001),
        "minutes in a time zone": lambda: run_backtest(minutes, fees=0.001),
        "no trades, undefined metrics": lambda: run_backtest(bars, np.zeros(len(bars))),
        "stops by bar": lambda: run_backtest(bars, plain.random_targets(1), stop_loss=stops),
        "closes only": lambda: run_backtest(bars["Close"], plain.random_targets(1), fill="close"),
        "ruined": lambda: run_backtest(bars, -np.ones(len(bars)), leverage=20.0, sizing="cash", size=2e6),
        "two bars": lambda: run_backtest(bars[:2], [1.0, 1.0]),
    }


@pytest.mark.parametrize("name", same_runs())
def test_equal_runs_are_identical_made_again_or_read_from_json(name):
    make = same_runs()[name]
    versions = [make(), make(), read(make()), pickle.loads(pickle.dumps(make()))]
    for ours, theirs in itertools.product(versions, repeat=2):
        compared = ours.compare(theirs)
        assert compared.identical and compared.first_divergence is None and sizes(compared) == [0] * 6
        assert repr(compared) == f"<Comparison of {ours.title}: identical>"
        assert "identical" in compared._repr_html_() and "<table" not in compared._repr_html_()


def test_tables_without_rows_have_their_columns(crossover):
    compared = crossover().compare(crossover())
    assert compared.parameters.columns.tolist() == compared.data.columns.tolist() == ["ours", "theirs"]
    assert compared.metrics.columns.tolist() == ["ours", "theirs", "difference"]
    assert compared.trades_added.columns.tolist() == crossover().trades.columns.tolist()
    assert compared.trades_changed.columns.tolist() == [
        *["entry_time", "exit_time", "differs", "ours_units", "theirs_units", "ours_pnl", "theirs_pnl"]
    ]
    assert [getattr(compared, name).index.name for name in ("parameters", "data", "metrics")] == [
        *["parameter", "fact", "metric"]
    ]


def test_nothing_is_identical_that_the_results_call_different(crossover, aapl):
    ours = crossover(fees=0.001)
    others = [
        crossover(fees=math.nextafter(0.001, 1.0)),
        crossover(fast_window=6, fees=0.001),
        crossover(aapl[1:], fees=0.001),
        crossover(fees=0.001, risk_free=0.01),
        crossover(fees=0.001, benchmark=aapl["Close"] * 2.0),
        crossover(fees=0.001, benchmark=aapl["Close"] ** 2.0),
        dataclasses.replace(ours, symbol="MSFT"),
        dataclasses.replace(ours, data={**ours.data, "notes": ["another note"]}),
        dataclasses.replace(ours, hashed=lambda: "0"),
        dataclasses.replace(ours, curves=ours.curves * (1.0 + 2e-16)),
        dataclasses.replace(ours, metrics={**ours.metrics, "sharpe": math.nan}),
    ]
    for other in others:
        assert ours != other and not ours.compare(other).identical and not other.compare(ours).identical


@pytest.mark.parametrize("other", [None, "text", {}, 1.0, pd.DataFrame(), BacktestResult], ids=str)
def test_only_results_can_be_compared(crossover, other):
    with pytest.raises(ParameterError, match="a result is compared with another result, got"):
        crossover().compare(other)


# ---- what was asked --------------------------------------------------------------------------------------------------


def test_settings_and_parameters_that_differ_are_listed_with_both_values(crossover):
    compared = crossover(fees=0.001).compare(crossover(fast_window=8, fees=0.002, stop_loss=0.1))
    assert compared.parameters.to_dict("index") == {
        "fast_window": {"ours": 5, "theirs": 8},
        "fees": {"ours": 0.001, "theirs": 0.002},
        "stop_loss": {"ours": None, "theirs": 0.1},
    }
    assert compared.data.empty


def test_what_only_one_run_has_is_absent_from_the_other(aapl):
    ours, theirs = run_backtest(aapl), run_backtest(aapl, "buy_and_hold")
    assert ours.compare(theirs).parameters.loc[["strategy", "slow_window"]].to_numpy().tolist() == [
        ["ma_crossover", "buy_and_hold"],
        [50, ABSENT],
    ]
    assert theirs.compare(ours).parameters.loc["slow_window"].tolist() == [ABSENT, 50]


def test_parameter_named_like_a_setting_is_told_from_it(run):
    result = run()
    ours = dataclasses.replace(result, params={"lookback": 10, "symbol": "A"})
    theirs = dataclasses.replace(result, params={"lookback": 20, "symbol": "B"})
    assert ours.compare(theirs).parameters.index.tolist() == ["lookback (strategy)", "symbol (strategy)"]


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        (252, 252.0, True),
        ((1, 2), [1, 2], True),
        (math.nan, math.nan, True),
        ({"a": (math.nan,)}, {"a": [math.nan]}, True),
        (pd.Timestamp("2023-01-02"), pd.Timestamp("2023-01-02"), True),
        ({(1, 2): 3}, {(1, 2): 3}, True),
        (0.1 + 0.2, 0.3, False),
        (None, 0, False),
        ("1", 1, False),
        (pd.Timestamp("2023-01-02"), pd.Timestamp("2023-01-03"), False),
        ({(1, 2): 3}, {(1, 2): 4}, False),
        (np.zeros(3000), np.where(np.arange(3000) == 1500, 1.0, 0.0), False),
    ],
    ids=repr,
)
def test_parameters_of_any_kind_are_compared_by_value(run, ours, theirs, same):
    result = run()
    ours, theirs = (dataclasses.replace(result, params={"it": value}) for value in (ours, theirs))
    compared = ours.compare(theirs)
    assert compared.identical == same
    assert compared.parameters.index.tolist() == ([] if same else ["it"])
    assert repr(compared) and compared._repr_html_()


# ---- the data --------------------------------------------------------------------------------------------------------


def test_data_says_which_bars_each_run_had(aapl, crossover):
    table = crossover(aapl[:200]).compare(crossover(aapl[20:])).data
    assert table.loc["bars"].tolist() == [200, 230]
    assert table.loc["first bar"].tolist() == ["2023-01-03", "2023-02-01"]
    assert table.loc["last bar"].tolist() == ["2023-10-18", "2023-12-29"]
    assert table.loc["prices_hash", "ours"] == crossover(aapl[:200]).prices_hash
    assert "source" not in table.index and "snapshot" not in table.index


def test_another_benchmark_is_dated(run, bars):
    other = [*CLOSE[:3], 122.0, *CLOSE[4:]]
    compared = run(benchmark=bars(close=CLOSE)).compare(run(benchmark=bars(close=other)))
    assert compared.data.to_dict("index") == {
        "benchmark": {"ours": "12100 on 2023-01-05", "theirs": "12200 on 2023-01-05"}
    }
    assert compared.parameters.empty and compared.first_divergence is None
    assert {"beta", "information_ratio"} <= set(compared.metrics.index)


def test_another_cash_is_no_other_benchmark(run):
    compared = run().compare(run(cash=20_000.0))
    assert compared.parameters.index.tolist() == ["cash"] and compared.data.empty


# ---- where it begins -------------------------------------------------------------------------------------------------


def test_changed_price_diverges_on_its_own_bar(run):
    """100 units are worth 1 more."""
    other = [*CLOSE[:2], 111.0, *CLOSE[3:]]
    first = run().compare(run(other)).first_divergence
    assert first == (2, pd.Timestamp("2023-01-04"), "equity", 11_000.0, 11_100.0)
    assert first.time == first[1] and first.what == "equity"


def test_price_changed_while_flat_changes_only_the_data(run):
    compared = run().compare(run([*CLOSE[:4], 122.0, *CLOSE[5:]]))
    assert compared.first_divergence is None and not compared.identical
    assert compared.data.index.tolist() == ["prices_hash", "benchmark"] and compared.parameters.empty
    assert "equity and positions are the same on every bar" in repr(compared)


def test_changed_fee_diverges_at_the_first_fill(run, crossover):
    """1 % of 9,900.99 traded."""
    first = run().compare(run(fees=0.01)).first_divergence
    assert first[:3] == (1, pd.Timestamp("2023-01-03"), "equity")
    assert (first.ours, first.theirs) == (10_000.0, pytest.approx(10_000.0 / 1.01))
    ours = crossover()
    assert ours.compare(crossover(fees=0.001)).first_divergence.bar == ours.trades["entry_bar"].iloc[0]


def test_another_position_at_an_unchanged_price_diverges_in_the_position(run):
    """Half as much is bought at 100; the equity notices it at 110 only."""
    first = run().compare(run(target=[w / 2.0 for w in TARGET])).first_divergence
    assert first == (1, pd.Timestamp("2023-01-03"), "positions", 1.0, 0.5)


def test_longer_run_diverges_where_the_shorter_one_ends(run):
    ours, theirs = run(), run([*CLOSE, 90.0], [*TARGET, 0.0])
    assert ours.compare(theirs).first_divergence == (
        8,
        pd.Timestamp("2023-01-12"),
        "date",
        None,
        theirs.equity.index[8],
    )
    assert theirs.compare(ours).first_divergence == (
        8,
        pd.Timestamp("2023-01-12"),
        "date",
        theirs.equity.index[8],
        None,
    )
    assert "first difference on 2023-01-12 (bar 8), date: no bar against 2023-01-12" in repr(ours.compare(theirs))


def test_other_dates_diverge_where_they_begin(run):
    index = pd.bdate_range("2023-01-02", periods=8)
    later = index[:5].append(index[5:] + pd.Timedelta(days=7))
    first = run().compare(run(index=later)).first_divergence
    assert first == (5, pd.Timestamp("2023-01-09"), "date", pd.Timestamp("2023-01-09"), pd.Timestamp("2023-01-16"))


def test_the_same_moments_in_another_time_zone_are_the_same(run):
    index = pd.date_range("2023-03-26", periods=8, freq="h", tz="UTC")
    compared = run(index=index).compare(run(index=index.tz_convert("Europe/Berlin")))
    assert compared.first_divergence is None
    assert [len(getattr(compared, name)) for name in FRAMES[2:5]] == [0, 0, 0]
    assert compared.data.loc["time zone"].tolist() == ["UTC", "Europe/Berlin"]
    assert compared.data.loc["first bar"].tolist() == ["2023-03-26 00:00", "2023-03-26 01:00"]


def test_a_session_date_is_no_moment(run):
    index = pd.date_range("2023-03-26", periods=8, freq="D")
    compared = run(index=index).compare(run(index=index.tz_localize("UTC")))
    assert compared.first_divergence == (0, index[0], "date", index[0], index[0].tz_localize("UTC"))
    assert (len(compared.trades_added), len(compared.trades_removed)) == (2, 2)
    assert "(bar 0), date: 2023-03-26 against 2023-03-26 00:00;" in repr(compared)


def test_the_same_clock_in_another_time_zone_is_another_moment(run):
    index = pd.date_range("2023-01-02 09:30", periods=8, freq="h")
    compared = run(index=index.tz_localize("UTC")).compare(run(index=index.tz_localize("Asia/Tokyo")))
    assert compared.first_divergence.bar == 0 and len(compared.trades_added) == 2
    assert "date: 2023-01-02 09:30:00+00:00 against 2023-01-02 09:30:00+09:00;" in repr(compared)


# ---- trades ----------------------------------------------------------------------------------------------------------


def test_trades_of_one_run_alone_are_added_or_removed(run):
    ours = run()
    theirs = run(target=[*TARGET[:5], 0.0, 1.0, 0.0])
    compared = ours.compare(theirs)
    pd.testing.assert_frame_equal(compared.trades_added, theirs.trades[1:])
    pd.testing.assert_frame_equal(compared.trades_removed, ours.trades[1:])
    assert compared.trades_changed.empty
    back = theirs.compare(ours)
    pd.testing.assert_frame_equal(back.trades_added, compared.trades_removed)
    pd.testing.assert_frame_equal(back.trades_removed, compared.trades_added)


def test_a_short_is_no_long_of_the_same_days(run):
    compared = run().compare(run(target=[-w for w in TARGET]))
    assert [len(getattr(compared, name)) for name in FRAMES[2:5]] == [2, 2, 0]


def test_same_trades_of_other_units_are_changed(run):
    """100 units earn 2,100 and 121 units lose 1,210; half of 10,000 buys 50, half of 11,050 buys 55.25."""
    compared = run().compare(run(target=[w / 2.0 for w in TARGET]))
    changed = compared.trades_changed
    assert changed["differs"].tolist() == ["units"] * 2
    assert changed["ours_units"].tolist() == pytest.approx([100.0, 121.0])
    assert changed["theirs_units"].tolist() == pytest.approx([50.0, 55.25])
    assert changed["ours_pnl"].tolist() == pytest.approx([2_100.0, -1_210.0])
    assert changed["theirs_pnl"].tolist() == pytest.approx([1_050.0, -552.5])
    assert compared.trades_added.empty and compared.trades_removed.empty


@pytest.mark.parametrize(
    ("terms", "differs"),
    [
        ({"fees": 0.01}, "fees"),
        ({"slippage": 0.01}, "entry_price, exit_price"),
        ({"fixed_fee": 1e-3}, "fees"),
        ({"stop_loss": 0.1}, "exit_reason"),
    ],
    ids=repr,
)
def test_what_changed_in_a_trade_is_named(bars, terms, differs):
    """Ten units, sold at 90 by the signal or by a stop at 10 % that the open of the same bar gaps through."""
    prices = bars(close=[100.0, 100.0, 95.0, 90.0, 90.0], open=[100.0, 100.0, 100.0, 90.0, 90.0])
    ours, theirs = (
        run_backtest(prices, [1.0, 1.0, 0.0, 0.0, 0.0], sizing="units", size=10.0, **more) for more in ({}, terms)
    )
    assert ours.compare(theirs).trades_changed["differs"].tolist() == [differs]


def test_rounding_of_units_and_prices_changes_no_trade(run):
    ours = run(fees=0.001)
    noise = np.ones(8)
    noise[2:6] = [1.0 + 1e-12, 1.0 - 1e-12, 1.0 + 1e-12, 1.0 - 1e-12]  # units, both prices, fees
    theirs = dataclasses.replace(ours, booked=ours.booked * noise)
    assert ours.compare(theirs).trades_changed.empty
    noise[2] = 1.0 + 1e-8
    theirs = dataclasses.replace(ours, booked=ours.booked * noise)
    assert ours.compare(theirs).trades_changed["differs"].tolist() == ["units", "units"]


def test_trades_that_share_both_days_are_told_apart_by_their_order(run):
    """As where a stop and a new entry fall on one day: the first is known, the second is new."""
    ours = run()
    theirs = dataclasses.replace(ours, booked=ours.booked[[0, 0, 1]])
    assert ours.compare(theirs).trades_added.index.tolist() == [1]
    assert theirs.compare(ours).trades_removed.index.tolist() == [1]


def test_trades_of_a_portfolio_are_known_by_their_symbol_too(run):
    class Portfolio(BacktestResult):
        @property
        def trades(self):
            return super().trades.assign(symbol=self.params["symbols"])

    fields = {field.name: getattr(run(), field.name) for field in dataclasses.fields(BacktestResult)}
    ours, theirs = (Portfolio(**{**fields, "params": {"symbols": names}}) for names in (["A", "B"], ["A", "C"]))
    compared = ours.compare(theirs)
    assert compared.trades_added["symbol"].tolist() == ["C"]
    assert compared.trades_removed["symbol"].tolist() == ["B"]
    single = run().compare(ours)  # which names no symbol: days and side decide
    assert single.trades_added.empty and single.trades_removed.empty


def test_runs_without_trades_are_compared(run):
    flat = run(target=np.zeros(8))
    assert [len(getattr(flat.compare(run()), name)) for name in FRAMES[2:5]] == [2, 0, 0]
    assert [len(getattr(run().compare(flat), name)) for name in FRAMES[2:5]] == [0, 2, 0]


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_that_differ_are_listed_with_their_difference(run):
    """0.5 * 21 % and then 0.5 * -10 % instead of all of it."""
    table = run().compare(run(target=[w / 2.0 for w in TARGET])).metrics
    assert table.loc["total_return"].tolist() == pytest.approx([0.089, 0.04975, -0.03925])
    assert "n_trades" not in table.index and "win_rate" not in table.index
    assert table.index.tolist() == [name for name in run().metrics if name in table.index]


def test_undefined_differs_from_a_number_and_not_from_undefined(run):
    table = run(target=np.zeros(8)).compare(run()).metrics
    assert math.isnan(table.loc["sharpe", "ours"]) and math.isnan(table.loc["sharpe", "difference"])
    assert table.loc["sharpe", "theirs"] == run().metrics["sharpe"]
    short, shorter = run(CLOSE[:2], [0.0, 0.0]), run(CLOSE[:3], [0.0, 0.0, 0.0])
    assert "sharpe" not in short.compare(shorter).metrics.index


def test_metric_that_one_run_lacks_is_listed(run):
    """As of a result that was written before there was such a metric, or after."""
    ours, metrics = run(), run().metrics
    theirs = dataclasses.replace(ours, metrics={**{n: v for n, v in metrics.items() if n != "sharpe"}, "luck": 0.5})
    table = ours.compare(theirs).metrics
    assert table.index.tolist() == ["sharpe", "luck"]
    assert "luck n/a against 0.50" in repr(ours.compare(theirs))


# ---- read from JSON --------------------------------------------------------------------------------------------------


def test_results_read_from_json_compare_as_those_that_were_written(crossover):
    ours, theirs = crossover(), crossover(fast_window=8, fees=0.001)
    for one, other in ((read(ours), read(theirs)), (ours, read(theirs)), (read(ours), theirs)):
        compared, fresh = one.compare(other), ours.compare(theirs)
        for name in FRAMES:
            pd.testing.assert_frame_equal(getattr(compared, name), getattr(fresh, name), check_exact=True)
        assert compared.first_divergence == fresh.first_divergence
        assert repr(compared) == repr(fresh) and compared._repr_html_() == fresh._repr_html_()


# ---- shown -----------------------------------------------------------------------------------------------------------


def test_text_says_what_differs_and_where_it_begins(run):
    assert repr(run().compare(run(target=[*TARGET[:5], 0.0, 0.0, 0.0], fees=0.01))).startswith(
        "<Comparison of signals() with signals(): parameters differ: fees; "
        "first difference on 2023-01-03 (bar 1), equity: 10,000 against 9,900.99009901; "
        "trades: 0 added, 1 removed, 1 changed; "
    )


def test_text_names_the_largest_differences_of_metrics(run):
    ours = run()
    changed = {"sharpe": 2.0 * ours.metrics["sharpe"], "n_trades": 3, "beta": ours.metrics["beta"] * (1.0 + 1e-9)}
    text = repr(ours.compare(dataclasses.replace(ours, metrics={**ours.metrics, **changed})))
    sharpe, beta = ours.metrics["sharpe"], f"{ours.metrics['beta']:.2f}"
    assert f"3 metrics differ, most of all Sharpe {sharpe:.2f} against {2 * sharpe:.2f}, Trades 2 against 3, " in text
    assert f"Beta {beta} against {beta} (by {ours.metrics['beta'] * 1e-9:.2g})" in text


def test_difference_of_the_last_bit_is_shown_to_the_last_digit(run):
    ours = run()
    theirs = dataclasses.replace(ours, curves=ours.curves * (1.0 + 2.0**-52))
    assert "equity: 10000.0 against 10000.000000000002;" in f"{ours.compare(theirs)!r};".replace(">;", ";")


class Page(html.parser.HTMLParser):
    """Tags that open, all of them closed, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_html_has_a_table_for_each_kind_of_difference(aapl, crossover):
    page = Page(crossover().compare(crossover(aapl[:200], fast_window=8))._repr_html_())
    for caption in ("Parameters", "Data", "Metrics", "Trades added", "Trades removed"):
        assert any(words.startswith(caption) for words in page.words), caption
    assert {"fast_window", "prices_hash", "Sharpe", "ours", "theirs"} <= set(page.words)
    assert not {"nan", "NaT", "None"} & set(page.words)


def test_html_of_many_trades_shows_the_first_and_their_number():
    prices = plain.random_bars(1, 2000)
    ours, theirs = (run_backtest(prices, plain.random_targets(seed, 2000)) for seed in (1, 2))
    compared = ours.compare(theirs)
    page = Page(compared._repr_html_())
    assert f"Trades added, the first 10 of {len(compared.trades_added)}" in page.words
    assert len(compared._repr_html_()) < 40_000


HOSTILE = "</td><script>alert('x')</script><img src=x onerror=alert(1)>\"&"


def test_html_shows_hostile_words_as_words(run):
    def dressed(result, word):
        return dataclasses.replace(
            result,
            symbol=word,
            strategy=word,
            params={word: word, "list": [word]},
            data={word: word, "source": word},
            settings={**result.settings, "benchmark": word, word: word},
            metrics={**result.metrics, word: 1.0},
            hashed=lambda: word,
        )

    harmful = dressed(run(), HOSTILE).compare(dressed(run(fees=0.01), HOSTILE + "2"))
    harmless = dressed(run(), "word").compare(dressed(run(fees=0.01), "word2"))
    shown = Page(harmful._repr_html_())
    assert shown.tags == Page(harmless._repr_html_()).tags
    assert any("<script>alert('x')</script>" in words for words in shown.words)
    assert "<script" not in dressed(run(), HOSTILE).compare(dressed(run(), HOSTILE))._repr_html_()


def test_comparison_cannot_be_set_and_can_be_pickled(run):
    compared = run().compare(run(fees=0.01))
    with pytest.raises(dataclasses.FrozenInstanceError):
        compared.metrics = None
    assert repr(pickle.loads(pickle.dumps(compared))) == repr(compared)
