"""The pieces of a page say what the result says, for every kind of run, and no text becomes markup."""

import dataclasses
import functools
import inspect
import math
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import plain
import pytest

from backgrid import grid_page, page
from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import ParameterError
from backgrid.grid import run_grid
from backgrid.lookahead import check_lookahead
from backgrid.metrics import METRICS, format_metric
from backgrid.result import BacktestResult

HOSTILE = "</td><script>window.PWN = 1</script><img src=x onerror='window.PWN = 1'>\"&amp;"


def sample(symbol, **options):
    return fetch_ohlcv(symbol, source="sample", **options)


def course(close, index=None):
    """Bars that open where the bar before closed."""
    close = np.asarray(close, dtype=float)
    open_ = np.concatenate([close[:1], close[:-1]])
    columns = {"Open": open_, "High": np.maximum(open_, close), "Low": np.minimum(open_, close), "Close": close}
    return pd.DataFrame(columns, index=pd.bdate_range("2023-01-02", periods=close.size) if index is None else index)


def minutes(n_bars):
    index = pd.date_range("2015-01-01", periods=n_bars, freq="min", tz="America/New_York")
    return plain.random_bars(3, n_bars, volatility=0.001).set_axis(index)


RUNS = {
    "daily": lambda: (sample("AAPL"), "ma_crossover", {"fees": 0.001}),
    "hourly": lambda: (sample("EURUSD=X", interval="1h"), "ma_crossover", {"slippage": 0.0001}),
    "minutes": lambda: (sample("AAPL", interval="1m"), "ma_crossover", {"fixed_fee": 1.0}),
    "half_hour": lambda: (minutes(30), "buy_and_hold", {}),
    "two_bars": lambda: (course([100.0, 101.0]), "buy_and_hold", {}),
    "two_bars_flat": lambda: (course([100.0, 101.0]), [0.0, 0.0], {}),
    "constant": lambda: (course([100.1] * 120), "ma_crossover", {}),
    "one_open_trade": lambda: (course(np.linspace(100.0, 150.0, 60)), "buy_and_hold", {"fill": "close"}),
    "one_losing_trade": lambda: (course([100.0, 90.0, 80.0, 80.0]), [1.0, 1.0, 0.0, 0.0], {}),
    "equal_trades": lambda: (course([100.0] * 12), [1.0, 0.0] * 6, {"fees": 0.001}),
    "long_and_short": lambda: (plain.random_bars(1, 300), plain.random_targets(1, 300), {"fees": 0.002}),
    "short_only": lambda: (plain.random_bars(2), np.tile([-1.0] * 5 + [0.0] * 5, 12), {"whole_units": True}),
    "ruined": lambda: (course([100.0, 100.0, 150.0, 250.0, 300.0, 200.0]), [-1.0] * 6, {"fill": "close"}),
    "long_series": lambda: (minutes(200_000), "ma_crossover", {"fees": 0.0001}),
}
every_run = pytest.mark.parametrize("name", RUNS)

PIECES = {
    "summary": lambda prices, result: page.summary(result),
    "parameters": lambda prices, result: page.parameters(result),
    "data": lambda prices, result: page.data(prices),
    "monthly_returns": lambda prices, result: page.monthly_returns(result),
    "trades": lambda prices, result: page.trades(result),
    "stress": lambda prices, result: page.stress(result),
    "metrics": lambda prices, result: page.metrics(result),
    "provenance": lambda prices, result: page.provenance(result),
}
every_piece = pytest.mark.parametrize("piece", PIECES)


@functools.cache
def run(name):
    """Prices and result of one of RUNS."""
    prices, strategy, options = RUNS[name]()
    return prices, run_backtest(prices, strategy, **options)


def parsed(markup):
    """The markup as a tree; raises for tags that are not closed and texts that are not escaped."""
    return ElementTree.fromstring(f"<body>{markup}</body>")


def words(markup):
    """What a reader sees, with single blanks and plain minus signs."""
    text = " ".join(part.strip() for part in parsed(markup).itertext() if part.strip())
    return text.replace("\u202f", " ").replace("\u2212", "-").replace("\u00a0", " ")


def rows(markup):
    """The cells of each row of a table, as text."""
    return [[words("".join(cell.itertext()).replace("<", "&lt;")) for cell in row] for row in parsed(markup).iter("tr")]


def chips(result):
    """Verdicts as {words: kind}."""
    found = verdicts_of(result)
    return {text.replace("\u202f", " ").replace("\u2212", "-"): kind for kind, text in found}


def percent(value):
    return f"{value:.1%}".replace("%", " %")


# ---- any run ---------------------------------------------------------------------------------------------------------


@every_piece
@every_run
def test_piece_is_well_formed_and_shows_no_odd_number(name, piece):
    shown = words(PIECES[piece](*run(name)))
    assert shown
    assert not re.search(r"\b(nan|NaN|inf|Infinity|None|NaT|null)\b", shown)
    assert not re.search(r"-0(\.0+)?( %|$)", shown)


@every_piece
def test_piece_is_the_same_twice(piece):
    prices, result = run("daily")
    again = run_backtest(sample("AAPL"), fees=0.001)
    assert PIECES[piece](prices, result) == PIECES[piece](prices, again)


@every_piece
def test_no_text_becomes_markup(piece):
    prices, result = run("one_losing_trade")
    facts = {"source": HOSTILE, "interval": HOSTILE, "adjusted": True, "snapshot": HOSTILE, "notes": [HOSTILE]}
    hostile = dataclasses.replace(
        result, symbol=HOSTILE, strategy=HOSTILE, params={HOSTILE: HOSTILE}, data=facts, hashed=lambda: HOSTILE
    )
    prices = prices.copy()
    prices.attrs = {"symbol": HOSTILE, **facts}
    shown = PIECES[piece](prices, hostile)
    assert not {"script", "img"} & {element.tag for element in parsed(shown).iter()}
    if piece in ("summary", "parameters", "data", "provenance"):
        assert "<script>window.PWN = 1</script>" in words(shown)


def test_notebook_shows_a_piece_as_html():
    piece = page.Html("<p>words</p>")
    assert piece._repr_html_() == "<p>words</p>"
    assert repr(piece) == "<Html of 12 characters>"


# ---- the summary -----------------------------------------------------------------------------------------------------


def test_title_and_range_name_what_was_run():
    shown = words(page.summary(run("daily")[1]))
    assert shown.startswith(
        "Moving-average crossover 20/50 on AAPL 2019-01-02 to 2024-12-30, 1,509 bars Long AAPL while"
    )


def test_sentence_gives_growth_a_year_and_worst_loss_of_both():
    prices, result = run("daily")
    holding, years = prices["Close"].copy(), (len(prices) - 1) / 252
    holding.iloc[0] = prices["Open"].iloc[1]  # bought there
    held = percent((holding.iloc[-1] / holding.iloc[0]) ** (1 / years) - 1)
    ours = percent((result.equity.iloc[-1] / 100_000) ** (1 / years) - 1)
    losses = [percent((1 - line / line.cummax()).max()) for line in (result.equity, holding)]
    assert (
        "Long AAPL while its 20-bar mean is above its 50-bar mean, filled at the next open, 0.1 % a side: "
        f"{ours} a year against {held} for holding, at a worst loss of {losses[0]} against {losses[1]}."
    ) in words(page.summary(result))


def test_sentence_does_not_stretch_a_short_run_to_a_year():
    """Six sessions that earn 2 % are no 130 % a year."""
    result = run_backtest(plain.random_bars(1, n_bars=60))
    held = page.benchmark_metrics(result)
    said = words(page.summary(result))
    assert f" in all against {words(format_metric('total_return', held['total_return']))} for holding" in said
    assert "a year" not in said


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        ("next_open", "at the next open"),
        ("close", "at the close that decided them"),
        ("next_close", "at the next close"),
    ],
)
def test_sentence_says_where_signals_are_filled(fill, said):
    result = run_backtest(plain.random_bars(1), fill=fill)
    assert f"filled {said}, without costs: " in words(page.summary(result))


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ({"fees": 0.00002}, "0.002 % a side:"),
        ({"fees": 0.001, "slippage": 0.0005}, "0.15 % a side:"),
        ({"fees": 0.001, "fixed_fee": 2.5}, "0.1 % a side and 2.5 a fill:"),
        ({"fixed_fee": 2.5}, "2.5 a fill:"),
        ({}, "without costs:"),
    ],
)
def test_sentence_names_every_cost(costs, said):
    assert said in words(page.summary(run_backtest(plain.random_bars(1), **costs)))


@pytest.mark.parametrize(
    ("orders", "said"),
    [
        ({"stop_loss": 0.05}, "stop 5 %"),
        ({"stop_loss": [0.05] * 120, "take_profit": 0.125}, "stop by bar, take profit 12.5 %"),
        ({"trailing_stop": 0.1, "leverage": 2.0}, "trailing stop 10 %, leverage 2"),
        ({"size": 0.5}, "sized to 50 % of the account"),
        (
            {"sizing": "volatility", "size": 0.2, "rebalance": "week"},
            "sized to 20 % volatility a year, rebalanced weekly",
        ),
        ({"sizing": "risk", "size": 0.02, "stop_loss": 0.05}, "stop 5 %, sized to 2 % of the account at risk"),
        ({"sizing": "cash", "size": 5000.0}, "sized to 5,000 in currency"),
        ({"sizing": "units", "size": 10.0, "whole_units": True}, "sized to 10 units, in whole units"),
        ({"rebalance": 0.05}, "rebalanced where the weight drifts by more than 5 points"),
        (
            {"cash_rate": 0.03, "borrow_rate": 0.015},
            "interest of 3 % a year, 1.5 % a year for units sold short",
        ),
    ],
    ids=str,
)
def test_sentence_names_every_order_away_from_its_default(orders, said):
    shown = words(page.summary(run_backtest(plain.random_bars(1), **orders)))
    assert f"{said}, filled at the next open, without costs: " in shown


def test_six_numbers_stand_beside_those_of_holding():
    _, result = run("daily")
    held = page.benchmark_metrics(result)
    cards = [words(ElementTree.tostring(card, encoding="unicode")) for card in parsed(page.summary(result)).iter("div")]
    assert len(cards) == 6
    for name, card in zip(page.HEADLINE, cards, strict=True):
        ours, theirs = (format_metric(name, numbers.get(name, np.nan)) for numbers in (result.metrics, held))
        assert card == words(f"{METRICS[name].label} {ours}{f' holding {theirs}' if name in held else ''}")


def test_holding_has_the_metrics_of_buying_where_the_run_could_first_trade():
    prices = sample("AAPL")
    bought = run_backtest(prices, "buy_and_hold", risk_free=0.03)
    held = page.benchmark_metrics(run_backtest(prices, risk_free=0.03))
    assert {**bought.metrics, **held, "exposure": 1.0} == pytest.approx(
        {**bought.metrics, "exposure": 1.0}, nan_ok=True
    )


def test_strategy_of_ones_own_is_named_with_its_parameters():
    def breakout(close, *, days=5):
        return close > close.shift(days)

    shown = words(page.summary(run_backtest(course(range(100, 160)), breakout)))
    assert shown.startswith("breakout (days 5) on these prices")


def test_strategy_may_share_its_name_with_a_registered_one():
    """What a notebook defines need not have the parameters of the registered strategy."""

    def ma_crossover(close, *, days=5):
        return close > close.shift(days)

    result = run_backtest(course(range(100, 160)), ma_crossover)
    assert "days" in words(page.summary(result)) and "days" in words(page.parameters(result))


# ---- the verdicts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("close", "chip", "kind"),
    [
        ([100.0, 110.0, 121.0], "does not beat holding by return: 0.0 % against 21.0 %", "bad"),
        ([100.0, 90.0, 81.0], "beats holding by return: 0.0 % against -19.0 %", "good"),
        ([100.0, 90.0, 100.0], "equals holding by return: 0.0 % against 0.0 %", "plain"),
        ([100.0, 110.0, 100.0], "return per unit of risk (Sharpe): n/a against 0.53", "plain"),
    ],
)
def test_staying_flat_is_compared_with_holding(close, chip, kind):
    flat = chips(run_backtest(course(close), [0.0] * len(close)))
    assert (flat[chip], flat["never traded"]) == (kind, "bad")


def test_sharpe_is_compared_with_that_of_holding():
    _, result = run("daily")
    held = page.benchmark_metrics(result)
    chip = (
        "does not beat holding by return per unit of risk (Sharpe): "
        f"{result.metrics['sharpe']:.2f} against {held['sharpe']:.2f}"
    )
    assert chips(result)[chip] == "bad"


def test_nothing_beats_what_shows_the_same_number():
    for name in ("half_hour", "one_open_trade", "two_bars"):
        for chip in chips(run(name)[1]):
            ours, against, theirs = chip.rpartition(": ")[2].partition(" against ")
            assert not against or ours != theirs or "beat" not in chip, chip


def test_gain_that_survives_costs_and_delay_is_said():
    """Bought at the close for 100, or a bar later for 104, and sold for 130 and 130: at 2 % a side and at 1 %."""
    prices = course([100.0, 100.0, 104.0, 130.0, 130.0])
    shown = chips(run_backtest(prices, [0.0, 1.0, 1.0, 0.0, 0.0], fill="close", fees=0.01))
    twice, later = 1.3 * 0.98 / 1.02 - 1.0, 1.25 * 0.99 / 1.01 - 1.0
    said = f"total return still {percent(twice)} and {percent(later)}"
    assert shown[f"survives twice the costs and one bar more delay: {said}"] == "good"


@pytest.mark.parametrize(
    ("close", "fees", "said"),
    [
        ([100.0, 100.0, 110.0, 110.0, 110.0], 0.001, "one bar more delay: total return -0.2 %"),
        ([100.0, 100.0, 103.0, 106.09, 106.09], 0.01, "twice the costs: total return -1.0 %"),
        ([100.0, 100.0, 104.0, 104.0, 104.0], 0.015, "twice the costs and one bar more delay: total return -2.1 % and"),
    ],
)
def test_gain_that_is_lost_to_costs_or_delay_is_said(close, fees, said):
    shown = chips(run_backtest(course(close), [0.0, 1.0, 0.0, 0.0, 0.0], fill="close", fees=fees))
    (chip,) = (text for text in shown if "survive" in text)
    assert chip.startswith(f"does not survive {said}") and shown[chip] == "bad"


def test_without_costs_only_the_delay_is_survived():
    shown = chips(run_backtest(course([100.0, 100.0, 110.0, 121.0]), "buy_and_hold"))
    assert [text for text in shown if "surviv" in text] == [
        "survives one bar more delay: total return still 21.0 %",
    ]


def test_loss_or_interest_or_result_read_from_json_has_nothing_to_survive():
    read = BacktestResult.from_json(run("daily")[1].to_json())
    interest = run_backtest(course([100.0] * 5), [0.0] * 5, cash_rate=0.05)
    for result in (run("one_losing_trade")[1], read, interest):
        assert not [text for text in chips(result) if "surviv" in text]


def test_costs_are_shown_or_missed():
    prices = course([100.0, 100.0, 100.0])
    free = run_backtest(prices, [1.0, 0.0, 0.0], fill="close")
    assert chips(free)["no costs are charged"] == "bad"
    paid = run_backtest(prices, [1.0, 0.0, 0.0], fill="close", fees=0.01)
    assert chips(paid)["fees paid: 2.0 % of the starting cash"] == "plain"
    assert "no costs are charged" not in chips(paid)


@pytest.mark.parametrize("cost", [{"slippage": 0.01}, {"fixed_fee": 1.0}, {"fees": 0.01}])
def test_any_cost_counts_as_a_cost(cost):
    assert "no costs are charged" not in chips(run_backtest(course([100.0, 101.0]), [1.0, 1.0], fill="close", **cost))


def test_filling_at_the_close_that_decides_is_pointed_out():
    chip = "trades at the very close that decides: hardly possible in practice"
    assert chips(run("one_open_trade")[1])[chip] == "bad"
    assert chip not in chips(run("daily")[1])


def test_ruin_is_dated():
    """A short of 1,000 units at 100 is ruined once the price has doubled."""
    assert chips(run("ruined")[1])["ruined on 2023-01-05"] == "bad"


def test_data_chip_counts_notes_and_names_the_snapshot():
    assert "data: adjusted for dividends, 1 note, snapshot 205151b643bf" in chips(run("daily")[1])
    assert "data: not adjusted for dividends, 0 notes, snapshot none" in chips(run("two_bars")[1])


def test_what_was_not_tested_is_said():
    found = chips(run("daily")[1])
    assert found["not tested here: look-ahead"] == "plain"
    assert found["counted as one trial: if it was chosen among more, n_trials deflates it"] == "plain"


def test_look_ahead_is_a_verdict():
    """A strategy that takes tomorrow's close is bad; one that does not is good, and says how often it was asked."""

    def tomorrow(prices):
        return (prices["Close"].shift(-1) > prices["Close"]).astype(float)

    prices, result = run("daily")
    clean = verdicts_of(result, check_lookahead("ma_crossover", prices))
    assert any(text.startswith("no look-ahead found at ") and kind == "good" for kind, text in clean)
    leaky = verdicts_of(result, check_lookahead(tomorrow, prices))
    assert any("looks ahead" in text and kind == "bad" for kind, text in leaky)


def test_look_ahead_check_that_compared_nothing_is_neither_good_nor_bad():
    prices, result = run("daily")
    last = prices["Close"].iloc[-1]

    def picky(prices):
        if prices["Close"].iloc[-1] != last or len(prices) < 100:
            raise ValueError("not these bars")
        return (prices["Close"].shift(-1) > prices["Close"]).astype(float)

    found = {text: kind for kind, text in verdicts_of(result, check_lookahead(picky, prices))}
    said = "look-ahead not checked: the strategy gives no signals with fewer or changed bars"
    assert found[said] == "plain" and not [text for text in found if "looks ahead" in text or "no look-ahead" in text]


def test_a_page_adds_its_own_verdicts_after_the_comparisons_with_holding():
    result = run("daily")[1]
    held, own = page.benchmark_metrics(result), [("bad", "by mine"), ("good", "and <this>")]
    usual = page.verdicts(result, held)
    assert page.verdicts(result, held, own=own) == [*usual[:2], *own, *usual[2:]]


def test_sharpe_stands_with_its_interval_and_is_deflated_by_the_trials():
    """20 years of a Sharpe of 2 survive a hundred trials; one year of a Sharpe of 1 does not, and 0 is inside."""
    noise = np.random.default_rng(3).normal(0.0, 0.01, 5040)
    noise -= noise.mean()
    long = run_backtest(course(100.0 * np.cumprod(1.0 + noise + 2.0 * noise.std() / 252**0.5)), "buy_and_hold")
    short = run_backtest(course(100.0 * np.cumprod(1.0 + noise[:252] + noise.std() / 252**0.5)), "buy_and_hold")
    held, shaken = verdicts_of(long, None, 100), verdicts_of(short, None, 100)
    assert [kind for kind, text in verdicts_of(long) if text.startswith("95 % interval of the Sharpe")] == ["good"]
    assert [kind for kind, text in held if text.endswith(", as if only this one had been tried")] == ["plain"]
    luck = "the probability that the true Sharpe is above what luck alone would give the best of 100 trials"
    assert ("good", f"deflated Sharpe 1.00: {luck}") in held
    assert [kind for kind, text in verdicts_of(short) if text.endswith("0 is inside")] == ["plain"]
    assert [kind for kind, text in shaken if re.fullmatch(rf"deflated Sharpe 0\.\d\d: {luck}", text)] == ["bad"]
    assert not [text for _, text in verdicts_of(short, None, None) if "deflate" in text]


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (0.1, 1.0, ("good", "0.10 to 1.00")),
        (0.0, 1.0, ("plain", "0.00 to 1.00, 0 is inside")),
        (-1.0, 0.0, ("plain", "\u22121.00 to 0.00, 0 is inside")),
        (-1.0, -0.1, ("plain", "\u22121.00 to \u22120.10, all of it below 0")),
    ],
)
def test_interval_is_said_to_hold_zero_only_where_it_does(low, high, told):
    kind, said = told
    assert page.interval_chip(low, high, 1) == (kind, f"95 % interval of the Sharpe: {said}")
    assert page.interval_chip(low, high, 2) == (
        "plain",
        f"95 % interval of the Sharpe: {said}, as if only this one had been tried",
    )


def test_an_interval_that_is_unknown_is_not_told_of():
    """Neither of a run that never traded nor of the winner of a sweep."""
    flat = run_backtest(course([100.0] * 60), "buy_and_hold")
    sweep = run_grid(sample("AAPL").iloc[:400], "ma_crossover", {"fast_window": [5, 10], "slow_window": [30]})
    luck = sweep.overfit(n_boot=50)
    unknown = luck._replace(interval=luck.interval._replace(low=math.nan, high=math.nan))
    assert [text for _, text in grid_page.luck_verdicts(sweep, luck) if text.startswith("95 % interval")]
    for chips in (page.chance(flat), grid_page.luck_verdicts(sweep, unknown)):
        assert not [text for _, text in chips if "interval" in text or "n/a" in text]


def verdicts_of(result, checked=None, n_trials=1):
    return page.verdicts(result, page.benchmark_metrics(result), checked, luck=page.chance(result, n_trials))


# ---- the tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["daily", "hourly", "ruined"])
def test_months_and_years_compound_the_returns_of_their_bars(name):
    _, result = run(name)
    grown = {}
    for time, value in result.returns.items():
        for period in ((time.year, time.month), (time.year, 13)):
            grown[period] = grown.get(period, 1.0) * (1.0 + value)
    head, *body = rows(page.monthly_returns(result))
    assert head == ["Year", *page.MONTHS, "Total"]
    assert [row[0] for row in body] == sorted({str(year) for year, _ in grown})
    for year, *cells in body:
        for month, cell in enumerate(cells, start=1):
            growth = grown.get((int(year), month))
            assert cell == ("" if growth is None else f"{(growth - 1) * 100:.1f}".replace("-0.0", "0.0"))


def test_years_long_past_are_folded_and_all_there():
    """1950 to 2023 by month: the last 40 years stand open."""
    prices = course(100.0 + np.arange(12.0 * 74), pd.date_range("1950-01-31", periods=12 * 74, freq="ME"))
    body = parsed(page.monthly_returns(run_backtest(prices, "buy_and_hold")))
    recent, earlier = body.iter("table")
    assert [row[0].text for row in recent.find("tbody")] == [str(year) for year in range(1984, 2024)]
    assert [row[0].text for row in earlier.find("tbody")] == [str(year) for year in range(1950, 1984)]
    assert body.find("details/summary").text == "Earlier: 1950 to 1983"
    assert earlier in list(body.find("details").iter())


@pytest.mark.parametrize(("n_rows", "shown"), [(1000, 1000), (1001, 1001), (5000, 1001)])
def test_table_of_very_many_rows_shows_the_first_and_last_and_counts_the_rest(n_rows, shown):
    body = parsed(page.html_table(("fold", "number"), [(row, -row) for row in range(n_rows)])).find(".//tbody")
    assert len(body) == shown
    assert (body[0][0].text, body[499][0].text, body[-1][0].text) == ("0", "499", str(n_rows - 1))
    said = [row[0].text for row in body if len(row) == 1]
    assert said == ([f"{n_rows - 1000:,} more rows, not shown"] if n_rows > 1000 else [])


def test_heat_is_deepest_at_the_largest_month_and_its_colour_is_the_sign():
    _, result = run("daily")
    cells = [cell for cell in parsed(page.monthly_returns(result)).iter("td") if cell.get("style")]
    shades = {words(cell.text): re.search(r"rgba\((\d+), .*, ([\d.]+)\)", cell.get("style")).groups() for cell in cells}
    assert shades[max(shades, key=lambda text: abs(float(text)))][1] == "0.50"
    for text, (red, _) in shades.items():
        assert float(text) == 0.0 or (red == "31") == (float(text) > 0.0)


def test_few_trades_are_one_table_with_the_open_one():
    table = rows(page.trades(run("one_open_trade")[1]))
    assert len(table) == 2
    assert table[1][0] == "2023-01-02" and table[1][-1] == "open"


def test_no_trades_are_said_in_words():
    assert words(page.trades(run("constant")[1])) == "No trade was made."


def test_many_trades_show_the_best_the_worst_and_all_folded():
    _, result = run("daily")
    closed = result.trades[result.trades["exit_reason"] != "open"].sort_values("trade_return")
    body = parsed(page.trades(result))
    best, worst, everything = body.iter("table")
    shown = [[words("".join(row[7].itertext())) for row in table.find("tbody")] for table in (best, worst)]
    assert shown[0] == [percent(value) for value in closed["trade_return"].iloc[::-1].head(5)]
    assert shown[1] == [percent(value) for value in closed["trade_return"].head(5)]
    assert len(everything.find("tbody")) == len(result.trades)
    assert everything in list(body.find("details").iter())
    assert body.find("details/summary").text == f"All {len(result.trades)} trades"


def test_best_and_worst_are_of_closed_trades_and_share_none():
    """Of eleven trades and most=10 five and five; where few are closed as many as there are two halves of."""
    result = run_backtest(course([100.0] * 24), [1.0, 0.0] * 11 + [0.0] * 2)
    shown = [words("".join(table.find("caption").itertext())) for table in parsed(page.trades(result)).iter("table")]
    assert shown == ["The 5 best closed trades", "The 5 worst closed trades", "All 11 trades"]
    few = [table.find("caption").text for table in parsed(page.trades(result, most=3)).iter("table")]
    assert few == ["The best closed trade", "The worst closed trade", "All 11 trades"]


def test_units_and_prices_of_many_fills_are_explained():
    prices, targets = plain.random_bars(1), [1.0] * 60 + [0.0] * 60
    said = "All trades; units are all that was bought or sold short in it, prices are means over its fills"
    rebalanced = run_backtest(prices, targets, rebalance="week")
    assert parsed(page.trades(rebalanced)).find(".//caption").text == said
    assert parsed(page.trades(run_backtest(prices, targets))).find(".//caption").text == "All trades"


def test_very_many_trades_are_cut_and_say_so():
    result = run("long_series")[1]
    folded = parsed(page.trades(result)).find("details")
    assert len(list(folded.iter("tr"))) == 1001
    assert f"All {len(result.trades):,} trades, the first 1,000 shown" in "".join(folded.itertext())


def test_trade_row_holds_the_numbers_of_the_trade():
    result = run_backtest(course([100.0, 100.0, 110.0, 110.0]), [1.0, 0.0, 0.0, 0.0], fill="close", fees=0.01)
    assert rows(page.trades(result))[1] == [
        *("2023-01-02", "2023-01-03", "990.10", "100.00", "100.00", "1,980.20"),
        *("-1,980.20", "-2.0 %", "1", "signal"),
    ]


def test_small_units_and_prices_are_not_rounded_away():
    result = run_backtest(course([50_000.0, 51_000.0]), [1.0, 1.0], fill="close", cash=100.0)
    assert float(rows(page.trades(result))[1][2]) == pytest.approx(0.002, rel=0.01)
    for price in (0.012345, 1.05234):  # a currency pair is quoted to five digits
        result = run_backtest(course([price, price]), [1.0, 1.0], fill="close")
        assert float(rows(page.trades(result))[1][3]) == pytest.approx(price, rel=5e-4 if price < 1.0 else 5e-6)


def test_every_metric_is_listed_once_with_its_value_and_formula():
    _, result = run("daily")
    listed = [row for row in rows(page.metrics(result)) if len(row) == 3][1:]
    assert len(listed) == len(METRICS)
    for label, value, formula in listed:
        name = label.split()[-1]
        assert label == f"{METRICS[name].label} {name}"
        assert value == words(format_metric(name, result.metrics[name]))
        assert formula == METRICS[name].formula


def test_parameters_are_all_listed_as_they_were_given():
    result = run_backtest(
        plain.random_bars(1), cash=1_234_567.0, fees=0.00025, params={"fast_window": 3}, stop_loss=0.1, rebalance="week"
    )
    listed = {row[0]: row[1] for row in rows(page.parameters(result))[1:]}
    unused = page.ORDERS.keys() - {"stop_loss", "rebalance"}
    assert listed.keys() == {"strategy", "fast_window", "slow_window", "benchmark", *result.settings} - unused
    assert (listed["stop_loss"], listed["rebalance"]) == ("0.1", "week")
    assert (listed["strategy"], listed["fast_window"], listed["slow_window"]) == ("ma_crossover", "3", "50")
    assert float(listed["cash"].replace(",", "")) == 1_234_567.0
    assert float(listed["fees"]) == 0.00025


def test_lookback_is_listed_with_the_sizing_that_looks():
    sized = run_backtest(plain.random_bars(1), sizing="volatility", size=0.2)
    assert ["lookback", "60", page.ORDERS["lookback"][1]] in rows(page.parameters(sized))
    assert "lookback" not in [row[0] for row in rows(page.parameters(run_backtest(plain.random_bars(1))))]


def test_dates_in_tables_are_marked_so_that_they_do_not_break():
    marked = [mark.text for mark in parsed(page.data(run("daily")[0])).iter("span") if mark.get("class") == "date"]
    assert marked[:2] == ["2019-01-02", "2024-12-30"]


def test_data_names_range_gap_and_notes():
    prices, _ = run("daily")
    listed = [row for row in rows(page.data(prices)) if row[0]]
    facts = dict(listed)
    assert facts["bars"] == "1,509 of 1d"
    assert facts["range"] == "2019-01-02 to 2024-12-30"
    assert facts["close"] == f"{prices['Close'].min():.2f} to {prices['Close'].max():.2f}"
    assert (facts["adjusted"], facts["source"], facts["snapshot"]) == ("yes", "sample", prices.attrs["snapshot"])
    assert [note for label, note in listed if label == "note"] == prices.attrs["notes"]


def test_data_dates_its_longest_gap():
    index = pd.bdate_range("2023-01-02", periods=20).delete(slice(5, 12))
    facts = dict(row for row in rows(page.data(course(range(100, 113), index))) if row[0])
    assert facts["longest gap"] == "12 days, before 2023-01-18"
    assert facts["gaps above four usual bars"] == "1"
    hourly = dict(row for row in rows(page.data(run("half_hour")[0])) if row[0])
    assert hourly["longest gap"] == "0.0167 hours, before 2015-01-01 00:01"
    assert hourly["time zone"] == "America/New_York"


def test_provenance_names_what_determines_the_numbers():
    prices, result = run("daily")
    shown = words(page.provenance(result))
    assert prices.attrs["snapshot"] in shown and result.prices_hash in shown
    for name, version in page.versions().items():
        assert name in shown and version in shown
    assert {"Python", "backgrid", "numpy", "pandas", "numba"} <= page.versions().keys()


def test_recorded_result_reads_back_and_shows_one_line(monkeypatch):
    shown = {}
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.update(data))
    _, result = run("daily")
    page.record(result)
    assert BacktestResult.from_json(shown[page.RESULT_TYPE]) == result
    assert shown["text/plain"] == repr(result)


def test_orders_left_at_their_default_are_those_of_run_backtest():
    defaults = inspect.signature(run_backtest).parameters
    assert {name: usual for name, (usual, _) in page.ORDERS.items() if name != "size"} == {
        name: defaults[name].default for name in page.ORDERS if name != "size"
    }


# ---- other terms -----------------------------------------------------------------------------------------------------


def stressed(*run):
    """Rows of the table by case, and the sentence below it."""
    shown = page.stress(run_backtest(*run[:2], **run[2]))
    head, *body = rows(shown)
    assert head == ["Case", "Total return", "CAGR", "Sharpe", "Max drawdown", "Trades"]
    return {case: cells for case, *cells in body}, words(
        "".join(ElementTree.tostring(parsed(shown).find("p"), "unicode"))
    )


def test_cases_are_shown_with_their_terms_and_numbers():
    _, result = run("daily")
    table = result.stress()
    shown = {case: cells for case, *cells in rows(page.stress(result))[1:]}
    assert list(shown)[:4] == [
        *["as run: filled at the next open, 0.1 % a side", "one bar later"],
        *["filled at the next close", "filled at the close"],
    ]
    assert list(shown)[4:6] == ["twice the costs: 0.2 % a side", "without costs"]
    assert list(shown)[6].startswith("break-even cost: ")
    names = ("total_return", "cagr", "sharpe", "max_drawdown", "n_trades")
    for cells, (_, row) in zip(shown.values(), table.iterrows(), strict=True):
        assert cells == [words(format_metric(name, row[name])) for name in names]


@pytest.mark.parametrize(
    ("close", "target", "said"),
    [
        ([100.0, 100.0, 110.0, 110.0], [0.0, 1.0, 0.0, 0.0], "It earns nothing at 4.76 % a side."),
        ([100.0, 100.0, 100.001, 100.0], [0.0, 1.0, 0.0, 0.0], "It earns nothing at 0.0005 % a side."),
        ([100.0, 100.0, 90.0, 90.0], [0.0, 1.0, 0.0, 0.0], "It loses even without trading costs."),
        ([100.0, 100.0, 100.0, 110.0], [0.0, 1.0, 0.0, 0.0], "It earns nothing even without trading costs."),
        ([100.0, 110.0, 120.0, 130.0], [0.0, 0.0, 0.0, 0.0], "It never trades, whatever the costs."),
        ([100.0, 210.0, 210.0, 210.0], [1.0, 1.0, 1.0, 1.0], "It gains at any cost below 100 % a side."),
    ],
)
def test_sentence_says_at_what_cost_nothing_is_earned(close, target, said):
    """10 % is earned at 1 + 10 % = (1 + f) / (1 - f), so f = 1 / 21."""
    cases, sentence = stressed(course(close), target, {"fill": "close"})
    assert sentence == said
    assert any(case.startswith("break-even") for case in cases) == ("at 4.76" in said or "at 0.0005" in said)


@pytest.mark.parametrize(
    ("costs", "as_run", "twice"),
    [
        ({"fees": 0.00025, "slippage": 0.0005}, "0.075 % a side", "twice the costs: 0.15 % a side"),
        ({"fixed_fee": 2.5}, "2.5 a fill", "twice the costs: 5 a fill"),
    ],
    ids=repr,
)
def test_cases_name_what_is_charged(costs, as_run, twice):
    cases, _ = stressed(course([100.0, 100.0, 110.0, 110.0]), [0.0, 1.0, 0.0, 0.0], {"fill": "close", **costs})
    assert next(iter(cases)) == f"as run: filled at the close that decided them, {as_run}"
    assert twice in cases and "without costs" in cases


def test_without_costs_other_costs_are_no_case():
    cases, _ = stressed(course([100.0, 100.0, 110.0, 110.0]), [0.0, 1.0, 0.0, 0.0], {"fill": "close"})
    assert next(iter(cases)) == "as run: filled at the close that decided them, without costs"
    assert not {"twice the costs", "without costs"} & cases.keys()
    only_shorts = stressed(course([100.0, 100.0, 90.0, 90.0]), [0.0, -1.0, 0.0, 0.0], {"borrow_rate": 0.01})[0]
    assert {"twice the costs", "without costs"} <= only_shorts.keys()


def test_sentence_says_where_the_outcome_jumps():
    """A cost can decide over a whole unit, and so over a stop: then nothing lies between a gain and a loss."""
    result = run("daily")[1]
    terms = result.stress().loc["break-even cost"].copy()
    assert page._break_even(result, terms).startswith("It earns nothing at ")
    terms["total_return"] = -0.02
    assert words(page._break_even(result, terms)) == f"From {words(page._costs(terms, 3))} on it no longer gains."


def test_very_small_costs_are_written_out():
    shown = words(page.summary(run_backtest(plain.random_bars(1), fees=1e-9)))
    assert "0.0000001 % a side:" in shown


def test_stress_of_a_result_read_from_json_says_why_there_is_none():
    with pytest.raises(ParameterError, match="a result read from JSON"):
        page.stress(BacktestResult.from_json(run("daily")[1].to_json()))
