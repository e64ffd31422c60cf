"""The index of a batch says what its runs say, in any browser or none, and no text becomes markup."""

import base64
import hashlib
import html
import json
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import program

from backgrid import batch_luck, batch_page, page
from backgrid.batch_luck import track_of
from backgrid.batch_page import index_page
from backgrid.batch_runs import Run, index_rows, index_table
from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.lookahead import check_lookahead
from backgrid.metrics import calculate_metrics
from backgrid.overfit import deflated_sharpe_ratio

PAYLOADS = [
    "<script>window.PWN = 1</script>",
    '"><script>window.PWN = 1</script><img src=x onerror="window.PWN = 1">',
    "'><svg onload='window.PWN = 1'>",
    "</title></style></textarea></pre><script>window.PWN = 1</script>",
    '<img src="http://example.invalid/x.png">',
    "javascript:window.PWN=1//",
    '<base href="http://example.invalid/">$body $script ${title} $',
    "{0} {} %s \\1 \x00\x1b]0;x\x07 \ud800 \u202e",
]
BROKEN = {"class": "ParameterError", "message": "fast 60 is not below slow 50", "traceback": "Traceback\n  line 1"}


def account(returns, start="2020-01-01"):
    """Equity that begins with 100 and earns these returns, one a working day."""
    equity = 100.0 * np.cumprod([1.0, *(1.0 + np.asarray(returns, dtype=float))])
    return pd.Series(equity, index=pd.bdate_range(start, periods=equity.size))


def noise(seed, n_bars=300):
    return np.random.default_rng(seed).normal(0.0005, 0.01, n_bars)


def completed(row=1, equity=None, **changes):
    """A run with the numbers of its equity, 252 bars a year."""
    equity = account(noise(row - 1)) if equity is None else equity
    values = equity.to_numpy()
    nothing = np.zeros(0)
    metrics = calculate_metrics(
        equity=values,
        benchmark=np.zeros(values.size - 1),
        positions=np.ones(values.size),
        traded=nothing,
        pnl=nothing,
        trade_returns=nothing,
        bars_held=nothing,
        fees=nothing,
        n_trades=3,
        risk_free=0.0,
        periods_per_year=252,
    )
    facts = {"template": "report_backtest", "parameters": {"symbol": "AAPL", "fast": 9 + row, "fees": 0.001}}
    facts |= {"folder": f"AAPL_{row}", "error": None, "symbol": "AAPL", "strategy": f"Crossover {9 + row}/50"}
    return Run(**{"row": row, "metrics": metrics, "verdicts": [], "track": track_of(equity, 252), **facts, **changes})


def failed(row=1, error=BROKEN, **changes):
    parameters = {"symbol": "AAPL", "fast": 60, "fees": 0.001}
    facts = {"template": "report_backtest", "parameters": parameters, "folder": f"AAPL_{row}.failed", "error": error}
    nothing = {"symbol": "", "strategy": "", "metrics": {}, "verdicts": [], "track": None}
    return Run(**{"row": row, **facts, **nothing, **changes})


class Element:
    """One element of a page: its name, attributes, and the texts inside it."""

    def __init__(self, name, attributes):
        self.name, self.attributes, self.texts = name, attributes, []

    @property
    def text(self):
        """As a reader sees it, with plain blanks and minus signs."""
        return " ".join("".join(self.texts).replace("−", "-").split())


class Page(HTMLParser):
    """The elements of a page in their order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "br", "input", "wbr"):
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop().name == tag, "an element is not closed"

    def handle_data(self, data):
        for element in self.open:
            element.texts.append(data)

    def all(self, *names, **attributes):
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [e for e in self.elements if e.name in names and wanted.items() <= e.attributes.items()]

    def one(self, name, **attributes):
        (found,) = self.all(name, **attributes)
        return found


def table_of(markup):
    """Head and rows of the table of runs, as text."""
    start = markup.index("<table class='runs'")
    found = Page(markup[start : markup.index("</table>", start) + len("</table>")])
    heads = [head.text for head in found.all("th", scope="col")]
    cells = [cell.text for cell in found.all("th", "td")][len(heads) :]
    return heads, [dict(zip(heads, cells[at:], strict=False)) for at in range(0, len(cells), len(heads))]


def lead_of(markup):
    return Page(markup).one("p", class_="lead").text


def chips_of(markup):
    """The verdicts on the whole batch."""
    inside = markup.partition("<ul class='chips' aria-label='Verdicts'>")[2].partition("</ul>")[0]
    return [item.text for item in Page(inside).all("li")]


# ---- one line a run --------------------------------------------------------------------------------------------------


def test_page_has_one_line_a_run_in_their_order():
    heads, rows = table_of(index_page([completed(1), failed(2), completed(3)]))
    metrics = ["CAGR", "Annual volatility", "Sharpe", "Max drawdown", "Trades", "Exposure"]
    assert heads == ["Row", "Symbol", "Strategy", "fast", *metrics, "Equity", "Verdicts"]
    assert [(row["Row"], row["Symbol"], row["fast"]) for row in rows] == [
        ("1", "AAPL", "10"),
        ("2", "AAPL", "60"),
        ("3", "AAPL", "12"),
    ]


def test_a_line_shows_the_metrics_as_reports_do():
    metrics = {"cagr": 0.1234, "annual_volatility": 0.2, "sharpe": -0.5, "max_drawdown": -0.25, "n_trades": 1234}
    _, (row,) = table_of(index_page([completed(metrics=metrics | {"exposure": math.nan})]))
    shown = [row[name] for name in ("CAGR", "Annual volatility", "Sharpe", "Max drawdown", "Trades", "Exposure")]
    assert shown == ["12.3 %", "20.0 %", "-0.50", "-25.0 %", "1,234", "n/a"]


def test_constant_parameters_stand_once_and_varying_ones_in_columns():
    runs = [completed(1), completed(2), completed(3, parameters={"symbol": "AAPL", "fees": 0.001, "fill": "close"})]
    markup = index_page(runs)
    assert Page(markup).one("p", class_="same").text == (
        "The same in all: template report_backtest, symbol AAPL, fees 0.001."
    )
    heads, rows = table_of(markup)
    assert heads[3:5] == ["fast", "fill"]
    assert [(row["fast"], row["fill"]) for row in rows] == [("10", ""), ("11", ""), ("", "close")]


def test_numbers_of_a_column_have_as_many_decimals():
    stops = [0.05, 0.125, 1, None, "missing"]
    given = [{"stop": stop} if stop != "missing" else {} for stop in stops]
    _, rows = table_of(index_page([completed(at, parameters=each) for at, each in enumerate(given, 1)]))
    assert [row["stop"] for row in rows] == ["0.050", "0.125", "1.000", "none", ""]


def test_whole_numbers_of_any_size_have_a_column():
    """One of 401 digits is beyond any float, and one of 6,021 beyond what Python writes in base 10."""
    runs = [completed(row, parameters={"n": n}) for row, n in enumerate([10**400, 0.25, 2**20000], 1)]
    markup = index_page(runs)
    assert [row["n"][:3] for row in table_of(markup)[1]] == ["100", "0.2", "0x1"]
    assert "data-v='1" + "0" * 298 in markup


def test_a_date_is_not_broken_into_lines_and_a_long_text_may_be():
    given = [{"start": "2020-01-02", "weights": "AAPL 0.6, NVDA 0.4"}, {"start": "2021-01-04", "weights": "AAPL 1.0"}]
    markup = index_page([completed(row, parameters=each) for row, each in enumerate(given, 1)])
    assert "<td class='given short'>2020-01-02</td>" in markup and "<td class='given'>AAPL 0.6, NVDA 0.4</td>" in markup


def test_the_best_run_is_named_by_what_its_row_gave_otherwise_than_others():
    given = [{"fees": 0.001, "fast": fast, "slow": 50} for fast in (10, 20)] + [{"fees": 0.001, "slow": 60}]
    runs = [completed(row, parameters=each) for row, each in enumerate(given, 1)]
    runs[1] = runs[1]._replace(metrics={"sharpe": 99.0})
    assert "row 2: AAPL, Crossover 11/50 with fast 20, slow 50. Deflated" in lead_of(index_page(runs))


def test_whole_numbers_are_shown_to_their_last_digit():
    """A float has 53 bits, and 2**53 + 1 is none."""
    given = [2**53 + 1, -(10**18) - 1, 0.5]
    runs = [completed(row, parameters={"seed": seed}) for row, seed in enumerate(given, 1)]
    _, rows = table_of(index_page(runs))
    assert [row["seed"] for row in rows] == ["9007199254740993.0", "-1000000000000000001.0", "0.5"]
    _, rows = table_of(index_page(runs[:2]))
    assert [row["seed"] for row in rows] == ["9007199254740993", "-1000000000000000001"]


def test_of_very_many_parameters_only_the_first_have_columns():
    runs = [completed(row, parameters={f"p{at}": row for at in range(15)}) for row in (1, 2)]
    markup = index_page(runs)
    assert [head for head in table_of(markup)[0] if head.startswith("p")] == [f"p{at}" for at in range(12)]
    assert "3 more parameters vary: index.csv has them." in markup


def test_templates_that_differ_are_a_column():
    heads, rows = table_of(index_page([completed(1), completed(2, template="report_grid")]))
    assert heads[3] == "template" and rows[1]["template"] == "report_grid"


def test_a_line_links_to_its_report():
    found = Page(index_page([completed(folder="a b/^GSPC #1")]))
    links = found.all("a", href="./a%20b/%5EGSPC%20%231/report.html")
    assert [link.text for link in links][-1] == "Crossover 10/50" and len(links) == 3  # best Sharpe, twice


@pytest.mark.parametrize("values", [np.r_[np.ones(500), 9.0, np.ones(500), 0.5, np.ones(500)], np.arange(1.0, 4.0)])
def test_spark_line_keeps_both_extremes_and_few_points(values):
    found = Page(index_page([completed(equity=pd.Series(values, index=pd.bdate_range("2020", periods=values.size)))]))
    points = [point.split(",") for point in found.one("polyline").attributes["points"].split()]
    heights = [float(y) for _, y in points]
    assert (min(heights), max(heights)) == (0.0, 28.0)
    assert (points[0][0], points[-1][0]) == ("0", "120") and len(points) <= 62


def test_spark_line_of_an_account_that_does_not_move_lies_in_the_middle():
    run = completed(equity=account(np.zeros(100)))
    assert {point.split(",")[1] for point in Page(index_page([run])).one("polyline").attributes["points"].split()} == {
        "14"
    }


def test_spark_line_is_told_in_words():
    run = completed(equity=account([0.5, -0.5, 0.2]))
    assert Page(index_page([run])).one("svg").attributes["aria-label"] == "from 100 to 90, lowest 75, highest 150"


@pytest.mark.parametrize(
    ("verdict", "short"),
    [
        (["good", "beats holding by return: 31.0 % against 25.0 %"], "beats holding"),
        (["bad", "does not beat holding by return: 1.0 % against 2.0 %"], "does not beat holding"),
        (["good", "beats holding by return per unit of risk (Sharpe): 1.00 against 0.50"], "better per risk"),
        (["bad", "does not beat holding by return per unit of risk (Sharpe): 1 against 2"], "worse per risk"),
        (["good", "no look-ahead found at 95 cuts"], "no look-ahead"),
        (["bad", "Peek looks ahead. At bar 3 it changed."], "looks ahead"),
        (["plain", "not tested here: look-ahead"], "look-ahead not tested"),
        (
            ["good", "survives twice the costs and one bar more delay: total return still 1 % and 2 %"],
            "survives stress",
        ),
        (["plain", "95 % interval of the Sharpe: −0.10 to 1.00, 0 is inside"], "Sharpe may be 0"),
        (["good", "95 % interval of the Sharpe: 0.10 to 1.00"], "Sharpe above 0"),
        (["plain", "95 % interval of the Sharpe: −1.10 to −0.20, all of it below 0"], "Sharpe below 0"),
        (["plain", "95 % interval of the Sharpe: −1.20 to 0.00, all of it below 0"], "Sharpe below 0"),
        (["good", "95 % interval of the Sharpe: 0.00 to 1,200.50"], "Sharpe above 0"),
        (["bad", "deflated Sharpe 0.62: the probability that ..."], "deflated 0.62"),
        (["bad", "never traded"], "never traded"),
        (["bad", "something new: with details"], "something new"),
        (["plain", "data: adjusted for dividends, 0 notes, snapshot 0123"], ""),
    ],
)
def test_verdicts_are_told_in_short(verdict, short):
    found = Page(index_page([completed(verdicts=[verdict])]))
    marks = [(mark.attributes["class"], mark.text) for mark in found.all("li") if mark.text == short]
    assert marks == ([(verdict[0], short)] if short else [])


@pytest.mark.parametrize(
    ("low", "high", "n_trials", "shorts"),
    [
        (-1.2, -0.001, 1, ["Sharpe below 0"]),
        (-0.001, -0.001, 9, ["Sharpe below 0"]),
        (-1.2, 0.001, 9, ["Sharpe may be 0"]),
        (0.0, 0.001, 1, ["Sharpe may be 0"]),
        (0.001, 2.0, 1, ["Sharpe above 0"]),
        (0.001, 2.0, 9, []),  # as if only this one had been tried
        (math.nan, math.nan, 1, []),
    ],
)
def test_an_interval_is_told_by_its_numbers_and_not_by_how_they_are_rounded(low, high, n_trials, shorts):
    run = completed(verdicts=[list(page.interval_chip(low, high, n_trials))])
    assert [short for _, short in batch_page._marks(run)] == shorts


def test_the_verdicts_that_reports_give_are_known(aapl):
    """Their words are written elsewhere; here they are recognised by how they begin."""
    result = run_backtest(aapl, "ma_crossover", fill="close")
    said = page.summary(result, check_lookahead("ma_crossover", aapl), n_trials=20).verdicts
    shorts = [short for _, short in batch_page._marks(completed(verdicts=[list(chip) for chip in said]))]
    assert shorts[:2] == ["does not beat holding", "worse per risk"]
    assert {"no costs", "fills at the deciding close", "no look-ahead", "Sharpe may be 0"} <= set(shorts)
    assert any(re.fullmatch(r"deflated 0\.\d\d", short) for short in shorts)


def test_verdicts_sort_by_the_good_ones_less_the_bad_ones():
    told = [["good"] * 2 + ["bad"], ["bad"] * 2 + ["plain"], ["good"], ["plain"]]
    runs = [
        completed(row, verdicts=[[kind, "no look-ahead found"] for kind in kinds]) for row, kinds in enumerate(told, 1)
    ]
    cells = re.findall(r"<td data-v='([^']*)'><ul class='marks'>", index_page(runs))
    assert cells == ["1", "-2", "1", "0"]


def test_summary_counts_what_beats_holding_and_what_looks_ahead():
    ahead = [["good", "beats holding by return: 2 % against 1 %"], ["good", "no look-ahead found at 9 cuts"]]
    behind = [["bad", "does not beat holding by return: 1 % against 2 %"], ["bad", "Peek looks ahead. At bar 3."]]
    markup = index_page([completed(1, verdicts=ahead), completed(2, verdicts=behind), failed(3)])
    chips = chips_of(markup)
    assert {"1 of 2 beat holding by return, 0 per unit of risk", "1 of 2 look ahead", "1 of 3 runs failed"} <= set(
        chips
    )


@pytest.mark.parametrize("runs", [[], [failed()], [completed(equity=account(np.zeros(30)))], [completed(metrics={})]])
def test_a_page_is_made_of_any_runs(runs):
    markup = index_page(runs)
    assert lead_of(markup) == f"{len(runs)} run{'s' * (len(runs) != 1)}: none has a Sharpe ratio."
    Page(markup)  # whole


# ---- failures --------------------------------------------------------------------------------------------------------


def test_failures_are_listed_with_class_message_traceback_and_notebook():
    colourful = BROKEN | {"traceback": "Traceback\n\x1b[31mParameterError\x1b[0m: no"}
    found = Page(index_page([completed(1), failed(2, colourful), failed(3, folder="")]))
    first, second = (found.one("li", id=f"failure-{row}").text for row in (2, 3))
    assert first.startswith("ParameterError: fast 60 is not below slow 50") and "partial notebook" in first
    assert found.one("a", href="./AAPL_2.failed/report.ipynb").text == "partial notebook"
    assert "partial notebook" not in second and "Traceback line 1" in second
    assert found.all("pre")[0].text == "Traceback ParameterError: no"
    assert not any("open" in fold.attributes for fold in found.all("details"))
    assert [link.text for link in found.all("a", href="#failure-2")] == ["ParameterError"]


def test_a_failed_run_has_a_line_without_numbers():
    _, (row,) = table_of(index_page([failed(parameters={"symbol": "XYZ", "strategy": "rsi"})]))
    assert (row["Symbol"], row["Strategy"]) == ("XYZ", "rsifailed: ParameterError")
    assert {row[name] for name in ("CAGR", "Sharpe", "Equity", "Verdicts")} == {""}


def test_of_a_long_traceback_its_end_is_shown():
    markup = index_page([failed(error=BROKEN | {"traceback": "x" * 50_000 + "the end"})])
    assert "the end</pre>" in markup and "42,007 characters before this are in index.json" in markup
    assert len(markup) < 60_000


# ---- what the best is worth ------------------------------------------------------------------------------------------


def test_the_line_on_multiple_testing_deflates_the_best_by_all_runs():
    returns = [noise(seed) for seed in range(4)]
    runs = [completed(row, account(line)) for row, line in enumerate(returns, 1)]
    sharpes = [line.mean() / line.std(ddof=1) for line in returns]
    best = int(np.argmax(sharpes))
    apart = (returns[best] - returns[best].mean()) / returns[best].std()
    moments = {"n_obs": 300, "skew": (apart**3).mean(), "kurtosis": (apart**4).mean()}
    deflated = deflated_sharpe_ratio(sharpes[best], n_trials=4, variance=1.0 / 299.0, **moments)
    assert lead_of(index_page(runs)) == (
        f"4 runs: the best Sharpe is {sharpes[best] * math.sqrt(252):.2f}, row {best + 1}: AAPL, Crossover "
        f"{10 + best}/50 with fast {10 + best}. Deflated by 4 trials it is {deflated:.2f}: the probability that the "
        "true Sharpe is above what luck alone would give the best of 4 trials."
    )
    found = {row.texts[0]: row for row in Page(index_page(runs)).all("tr") if row.texts}
    observed = deflated_sharpe_ratio(sharpes[best], n_trials=4, variance=np.var(sharpes, ddof=1), **moments)
    assert found["Deflated, variance of the runs"].texts[1] == f"{observed:.2f}"


def test_rows_with_one_report_are_one_trial():
    runs = [completed(1), completed(2), completed(2)._replace(row=3), completed(2)._replace(row=4)]
    markup = index_page(runs)
    assert lead_of(markup).startswith("4 runs:") and "Deflated by 2 trials" in lead_of(markup)
    assert "2 rows with the report of another, not counted again" in chips_of(markup)
    assert "The median of 1 pair is" in markup  # and is compared once
    assert len(table_of(markup)[1]) == 4


def test_rows_with_one_report_are_counted_once_in_the_verdicts():
    ahead = completed(1, verdicts=[["good", "beats holding by return: 2 % against 1 %"]])
    behind = completed(2, verdicts=[["bad", "does not beat holding by return: 1 % against 2 %"]])
    markup = index_page([ahead, ahead._replace(row=3), behind])
    assert "1 of 2 beat holding by return, 0 per unit of risk" in chips_of(markup)


def test_a_run_that_never_traded_is_a_trial_and_a_failed_one_is_none():
    """As in a sweep: it was looked at, and would have been chosen had it been better."""
    runs = [completed(1), completed(2), completed(3, account(np.zeros(300))), failed(4)]
    markup = index_page(runs)
    assert "Deflated by 3 trials" in lead_of(markup)
    assert "different reports; one that never traded counts as a Sharpe of 0" in markup
    assert "of 2 that have one" in Page(markup).one("dl").text


def test_a_report_without_a_result_is_no_trial():
    nothing = {"metrics": {}, "track": None}
    assert "Deflated by 2 trials" in lead_of(index_page([completed(1), completed(2), completed(3, **nothing)]))
    assert lead_of(index_page([completed(1), completed(2, **nothing)])).endswith("it is the only trial.")


@pytest.mark.parametrize("track", [None, track_of(account(np.zeros(300)), 252)], ids=["none", "flat"])
def test_the_best_without_an_equity_that_moves_is_not_deflated(track):
    markup = index_page([completed(1, track=track, metrics={"sharpe": 9.0}), completed(2)])
    assert lead_of(markup).endswith("Without an equity that moves it cannot be deflated by the 2 trials.")
    assert "luck" not in " ".join(chips_of(markup))


@pytest.mark.parametrize(("sharpe", "best"), [(1e6, 1), (1.0001e6, 2), (-2e6, 2), (math.inf, 2)])
def test_a_sharpe_beyond_any_is_rounding_noise(sharpe, best):
    markup = index_page([completed(1, metrics={"sharpe": sharpe}), completed(2)])
    assert f"row {best}:" in lead_of(markup) and "2 trials" in lead_of(markup)
    alone = lead_of(index_page([completed(1, metrics={"sharpe": sharpe})]))
    assert (alone == "1 run: none has a Sharpe ratio.") == (best != 1)


@pytest.mark.parametrize(("lift", "luck"), [(0.004, "is above luck, for"), (0.0, "may be luck:")])
def test_luck_and_holding_are_told_apart(lift, luck):
    """A run may be more than luck and still earn less than holding: the one chip is not to deny the other."""
    behind = [["bad", "does not beat holding by return: 1 % against 2 %"]]
    runs = [completed(row, account(noise(row) + lift), verdicts=behind) for row in (1, 2)]
    chips = chips_of(index_page(runs))
    assert f"the best Sharpe {luck} the best of 2 trials" in chips
    assert "0 of 2 beat holding by return, 0 per unit of risk" in chips
    assert not any("hold" in chip for chip in chips if "luck" in chip)


def test_alike_runs_are_told_to_count_once():
    line = noise(0)
    alike = [completed(row, account(line)) for row in (1, 2, 3)]
    markup = index_page(alike)
    said = [chip for chip in chips_of(markup) if chip.startswith("alike runs")]
    by_one = next(row.texts[1] for row in Page(markup).all("tr") if row.texts[:1] == ["Deflated, trials that differ"])
    assert said == [f"alike runs counted once, as 1 trial: deflated {by_one}"]
    assert f"Deflated by 3 trials it is {by_one}" not in lead_of(markup)
    assert "the same for a single trial, as if all were one strategy" in markup
    some = account(line + 2.0 * noise(1))  # r = 1/sqrt(5) with each: mean (3 + 3r) / 6 = 0.72, 0.72 + 0.28 * 4 = 1.8
    markup = index_page([*alike, completed(4, some)])
    assert any(chip.startswith("alike runs counted once, as 2 trials: deflated ") for chip in chips_of(markup))
    assert "the same for 2 trials that differ" in markup
    apart = [completed(1, account(line)), completed(2, account(-line))]
    assert not [chip for chip in chips_of(index_page(apart)) if chip.startswith("alike runs")]


def likeness_of(runs):
    """What the page says of the trials that differ; None where it says nothing."""
    found = [row for row in Page(index_page(runs)).all("tr") if row.texts[:1] == ["Trials that differ"]]
    return found[0].texts[2] if found else None


@pytest.mark.parametrize(
    "others",
    [[account(np.zeros(300))] * 9, [account(noise(0), "2030-01-01")]],
    ids=["never traded", "no bar in common"],
)
def test_where_no_two_runs_can_be_compared_none_are_called_alike(others):
    runs = [completed(row, equity) for row, equity in enumerate([account(noise(0)), *others], 1)]
    markup = index_page(runs)
    assert "What the best run is worth" in markup and likeness_of(runs) is None
    assert "mean correlation" not in markup and "trials that differ" not in markup
    assert not [chip for chip in chips_of(markup) if chip.startswith("alike runs")]


def test_mean_correlation_says_of_which_runs_it_is(monkeypatch):
    """Of the pairs of three runs that move, 1.0 and two unknown ones: a third."""
    line = noise(0)
    alike = [completed(1, account(line)), completed(2, account(line))]
    assert likeness_of(alike) == "their mean correlation is 1.00"
    runs = [*alike, completed(3, account(np.zeros(300)))]
    assert likeness_of(runs) == "their mean correlation is 1.00, by the 2 of 3 that move and are compared"
    runs[2] = completed(3, account(line, "2030-01-01"))
    assert likeness_of(runs) == "their mean correlation is 0.33; 2 unknown pairs count as 0"
    monkeypatch.setattr(batch_luck, "MOST_COMPARED", 3)
    runs = [completed(row, account(line)) for row in range(1, 6)]
    assert likeness_of(runs) == "their mean correlation is 1.00, by the 3 of 5 that move and are compared"


def test_reports_that_were_chosen_among_many_are_told_of():
    swept = [["bad", "deflated Sharpe 0.62: the probability that the true Sharpe is above ... the best of 450 trials"]]
    said = "Reports that were themselves chosen among many count as one trial each"
    assert said in index_page([completed(1, verdicts=swept), completed(2)])
    assert said not in index_page([completed(1), completed(2)])


# ---- what is alike ---------------------------------------------------------------------------------------------------


def test_of_very_many_runs_some_are_compared(monkeypatch):
    monkeypatch.setattr(batch_luck, "MOST_COMPARED", 3)
    assert "These are 3 of 5 runs, at equal distances." in index_page([completed(row) for row in range(1, 6)])


@pytest.mark.parametrize(("n_runs", "squares"), [(2, 1), (40, 780), (41, 0)])
def test_heat_map_is_drawn_up_to_forty_runs(n_runs, squares):
    found = Page(index_page([completed(row) for row in range(1, n_runs + 1)]))
    assert len(found.all("rect")) == squares
    labels = [
        drawing.attributes["aria-label"]
        for drawing in found.all("svg")
        if "Correlation" in drawing.attributes["aria-label"]
    ]
    assert len(labels) == bool(squares)


def test_pairs_without_a_correlation_are_told_of():
    runs = [completed(1), completed(2), completed(3, account(noise(2), "2030-01-01"))]
    assert "2 pairs have none: fewer than 20 bars (or days) in common" in index_page(runs)


def test_highest_and_lowest_pairs_are_listed():
    line = noise(1)
    accounts = [line, line, -line, *(noise(seed) for seed in range(2, 6))]
    found = Page(index_page([completed(row, account(each)) for row, each in enumerate(accounts, 1)]))
    (table,) = found.all("table", class_="pairs")
    assert "The 5 highest and the 5 lowest" in table.text
    rows = [row.text for row in found.all("tr") if "row 1:" in row.text and "Crossover" in row.text]
    assert rows[0].startswith("1.00") and "row 2:" in rows[0] and rows[-1].startswith("-1.00") and "row 3:" in rows[-1]


# ---- safe, bounded, the same -----------------------------------------------------------------------------------------


def hostile(payload):
    """Runs whose every text is this."""
    error = {"class": payload, "message": payload, "traceback": payload}
    parameters = {"symbol": payload, "strategy": payload, payload: payload, "fees": payload}
    texts = {"template": payload, "parameters": parameters, "folder": payload}
    known = {"symbol": payload, "strategy": payload, "verdicts": [[payload, payload], ["bad", payload]]}
    given = {**parameters, payload: 1}
    return [completed(1, **texts, **known), completed(2, **known), failed(3, error, **texts | {"parameters": given})]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: ascii(payload)[:60])
def test_no_text_becomes_markup(payload):
    markup = index_page(hostile(payload), title=payload)
    found, harmless = Page(markup), Page(index_page(hostile("harmless"), title="harmless"))
    kept = [[(e.name, sorted(e.attributes)) for e in each.elements if e.name != "wbr"] for each in (found, harmless)]
    assert kept[0] == kept[1]
    for link in found.all("a"):
        assert re.match(r"#[a-z-]+\d*$|\./[^:]*/report\.(html|ipynb)$", link.attributes["href"]), link.attributes
    assert all(element.attributes.get("class", "").isascii() for element in found.elements)
    markup.encode("utf-8")
    json.dumps(index_rows(hostile(payload)), ensure_ascii=False).encode("utf-8")
    index_table(hostile(payload)).to_csv().encode("utf-8")


def test_page_has_a_strict_policy_and_asks_for_nothing():
    markup = index_page([completed(1), completed(2), failed(3)])
    found = Page(markup)
    policy = next(e.attributes["content"] for e in found.all("meta") if "http-equiv" in e.attributes)
    (script,) = found.all("script")
    digest = base64.b64encode(hashlib.sha256("".join(script.texts).encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ") and f"script-src 'sha256-{digest}';" in policy
    assert not re.search(r"https?://|url\(|@import", markup)
    assert len("".join(script.texts).splitlines()) < 100


def test_headings_are_in_order_and_each_is_in_the_contents():
    found = Page(index_page([completed(1), completed(2), failed(3)]))
    assert [heading.name for heading in found.all("h1", "h2", "h3")] == ["h1", "h2", "h2", "h2", "h2"]
    links = [link.attributes["href"] for link in found.all("a")][1:5]
    assert links == [f"#{heading.attributes['id']}" for heading in found.all("h2")]
    ids = [element.attributes["id"] for element in found.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))


def test_a_thousand_runs_stay_under_three_megabytes():
    sample = run_backtest(fetch_ohlcv("AAPL", source="sample"), "ma_crossover", fees=0.001)
    said = [list(chip) for chip in page.summary(sample, n_trials=1000).verdicts]
    index = pd.bdate_range("2015-01-01", periods=2520)
    lines = np.random.default_rng(0).normal(0.0005, 0.01, (1000, 2520))
    facts = {
        "metrics": sample.metrics,
        "verdicts": said,
        "error": None,
        "symbol": "AAPL",
        "template": "report_backtest",
    }
    runs = [
        Run(
            row,
            **facts,
            parameters={"symbol": "AAPL", "fast": row, "slow": 2 * row},
            folder=f"AAPL_{row:020d}",
            strategy=f"Moving-average crossover {row}/{2 * row}",
            track=track_of(pd.Series(np.cumprod(1.0 + line), index=index), 252),
        )
        for row, line in enumerate(lines, 1)
    ]
    markup = index_page(runs)
    assert len(markup.encode()) < 3_000_000 and markup.count("<polyline") == 1000
    assert "The median of 499,500 pairs is 0.00" in markup


def test_a_thousand_failures_stay_under_three_megabytes():
    trace = "".join(f'  File "backgrid/engine.py", line {line}, in run\n    return <value>\n' for line in range(300))
    markup = index_page([failed(row, BROKEN | {"traceback": trace}) for row in range(1, 1001)])
    assert len(markup.encode()) < 3_000_000 and markup.count("<details") == 1000


def test_same_runs_give_the_same_bytes_in_any_process():
    """Sets of text have another order in each process, unless told otherwise."""
    make = (
        "import hashlib, json, test_batch_page as t; r = [t.completed(1), t.completed(2), t.failed(3)]; "
        "all = t.index_page(r) + json.dumps(t.index_rows(r)) + t.index_table(r).to_csv(); "
        "print(hashlib.sha256(all.encode()).hexdigest())"
    )
    here = os.path.dirname(__file__)
    found = {
        subprocess.run(
            [sys.executable, "-c", make],
            cwd=here,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture
def ask(browse, tmp_path):
    """`ask(markup, script)` opens a page with its policy, runs the script after its own, and gives what it `told`."""

    def look(markup, script):
        script = f'addEventListener("load", () => setTimeout(() => {{ const told = {{}}; {script}\n' + (
            "document.documentElement.dataset.told = JSON.stringify(told); }, 100));"
        )
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        allowed = markup.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
        (tmp_path / "asked.html").write_text(
            allowed.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8"
        )
        dom = browse(tmp_path / "asked.html", "--virtual-time-budget=5000", "--dump-dom")
        return json.loads(html.unescape(re.search(r'data-told="([^"]*)"', dom)[1]))

    return look


STEPS = """
const table = document.getElementById("runs-table"), heads = Array.from(table.tHead.rows[0].cells);
const press = name => heads.find(head => head.textContent === name).querySelector("button").click();
const order = () => Array.from(table.tBodies[0].rows).filter(row => !row.hidden).map(row => row.cells[0].textContent);
const sorted = () => heads.filter(head => head.ariaSort).map(head => `${head.textContent} ${head.ariaSort}`).join();
const input = document.getElementById("filter"), choice = document.getElementById("status");
const filter = (words, status) => {
  input.value = words; input.dispatchEvent(new Event("input"));
  choice.value = status; choice.dispatchEvent(new Event("change"));
  return order();
};
"""


def several():
    """Sharpe ratios 9, 10, none, 9 and a failed one; windows 100, 20, 3, 20; symbols in no order."""
    sharpes, windows, symbols = [9.0, 10.0, math.nan, 9.0], [100, 20, 3, 20], ["b2", "B10", "a", "b2"]
    runs = [
        completed(row, metrics={"sharpe": sharpe}, symbol=symbol, parameters={"window": window})
        for row, (sharpe, window, symbol) in enumerate(zip(sharpes, windows, symbols, strict=True), 1)
    ]
    return [*runs, failed(5, parameters={"symbol": "zz"})]


def test_columns_sort_by_number_or_word_and_keep_the_order_of_equal_ones(ask):
    told = ask(
        index_page(several()),
        STEPS
        + """
        told.start = [order(), sorted()];
        press("Sharpe"); told.highest = [order(), sorted()];
        press("Sharpe"); told.lowest = [order(), sorted()];
        press("window"); told.windows = [order(), sorted()];
        press("Symbol"); told.symbols = [order(), sorted()];
        press("Row"); told.back = [order(), sorted()];
        """,
    )
    assert told == {
        "start": [["1", "2", "3", "4", "5"], ""],
        "highest": [["2", "1", "4", "3", "5"], "Sharpe descending"],
        "lowest": [["1", "4", "2", "3", "5"], "Sharpe ascending"],  # what has none is last again
        "windows": [["3", "4", "2", "1", "5"], "window ascending"],  # of 20 and 20, the one that stood first
        "symbols": [["3", "4", "1", "2", "5"], "Symbol ascending"],  # b2 before B10
        "back": [["1", "2", "3", "4", "5"], "Row ascending"],
    }


def test_rows_are_filtered_by_words_and_by_what_became_of_them(ask):
    told = ask(
        index_page(several()),
        STEPS
        + """
        told.all = [filter("", "all"), document.getElementById("count").textContent];
        told.words = [filter("  B2 crossover 13 ", "all"), document.getElementById("count").textContent];
        told.failed = filter("", "failed"); told.completed = filter("b", "completed");
        told.none = [filter("nowhere", "all"), document.getElementById("count").textContent];
        """,
    )
    assert told == {
        "all": [["1", "2", "3", "4", "5"], ""],
        "words": [["4"], "1 of 5 runs shown"],
        "failed": ["5"],
        "completed": ["1", "2", "4"],
        "none": [[], "0 of 5 runs shown"],
    }


def test_sorting_and_theme_are_reached_by_keyboard(ask):
    told = ask(
        index_page(several()),
        STEPS
        + """
        const reach = element => { element.focus(); return document.activeElement === element; };
        told.heads = heads.every(head => head.querySelector("button[type=button]") && reach(head.firstChild));
        told.fields = reach(input) && reach(choice) && reach(document.getElementById("theme-toggle"));
        document.activeElement.click(); told.theme = document.documentElement.dataset.theme;
        """,
    )
    assert told == {"heads": True, "fields": True, "theme": "dark"}


def test_nothing_hostile_runs_or_loads(ask):
    runs = [run._replace(row=at) for at, run in enumerate((run for payload in PAYLOADS for run in hostile(payload)), 1)]
    told = ask(
        index_page(runs, title=PAYLOADS[1]),
        """
        for (const element of document.querySelectorAll("main *:not(a)"))
          for (const event of ["click", "mouseover", "toggle", "load", "error"])
            element.dispatchEvent(new Event(event));
        told.pwn = typeof window.PWN;
        told.loaded = performance.getEntriesByType("resource").map(entry => entry.name);
        """,
    )
    assert told == {"pwn": "undefined", "loaded": []}


def test_page_never_scrolls_sideways(browse, tmp_path):
    """In frames, since a window of Chromium is never as narrow as a phone."""
    runs = [completed(row) for row in range(1, 13)] + [failed(13, BROKEN | {"message": "x" * 400})]
    markup = html.escape(index_page([*runs, *(run._replace(row=20 + at) for at, run in enumerate(hostile("y" * 300)))]))
    frames = "".join(
        f'<iframe style="width: {width}px; border: 0" srcdoc="{markup}"></iframe>' for width in (360, 1280)
    )
    measure = """addEventListener("load", () => {
      const roots = Array.from(frames, frame => frame.document.documentElement);
      document.title = roots.map(root => `${root.clientWidth}:${root.scrollWidth}`).join(" ");
    })"""
    (tmp_path / "frames.html").write_text(f"<title></title>{frames}<script>{measure}</script>", encoding="utf-8")
    measured = re.search("<title>(.*?)</title>", browse(tmp_path / "frames.html", "--dump-dom"))[1]
    assert measured == "360:360 1280:1280"


def test_page_prints_with_the_head_of_its_table_on_each_sheet(browse, tmp_path):
    (tmp_path / "page.html").write_text(index_page([completed(row) for row in range(1, 61)]), encoding="utf-8")
    browse(tmp_path / "page.html", f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    command = [program("pdftotext"), tmp_path / "page.pdf", "-"]
    sheets = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\f")
    with_rows = [sheet for sheet in sheets if "Crossover" in sheet and "The 5 highest" not in sheet]
    assert len(with_rows) > 1 and all("Strategy" in sheet for sheet in with_rows)
    for words in ("Filter", "Show", "Dark page", "Skip to the index"):
        assert words not in "".join(sheets)
