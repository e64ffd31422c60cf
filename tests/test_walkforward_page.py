"""The page of a walk-forward says what its folds say: what was promised in sample, and given out of sample."""

import dataclasses
import functools
import math
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import plain
import pytest
from test_page import HOSTILE, course, minutes, parsed, rows, sample, words
from test_plot import said, texts, tick_labels

from backgrid import page, plot, walkforward_page
from backgrid._windows import FORMULAS
from backgrid.errors import ParameterError
from backgrid.metrics import HIGHER, METRICS
from backgrid.space import read_space
from backgrid.walkforward import _stability, combinatorial_cross_validation, walk_forward
from backgrid.walkforward_page import check_folds

PAIRS = {"fast_window": [5, 10, 20], "slow_window": [8, 30, 60, 100]}


def one_side(prices, *, side=1.0):
    """The same position on every bar."""
    return np.full(len(prices), side)


def by_rule(prices, *, rule="rising", days=1):
    """Long after a rise, or after a fall."""
    change = prices["Close"].diff(days)
    return (change > 0.0 if rule == "rising" else change < 0.0).astype(float)


RISING, FLAT = 100.0 * 1.01 ** np.arange(60) * np.tile([1.0, 1.002], 30), np.full(40, 100.0)

WALKS = {
    "daily": lambda: (sample("AAPL"), "ma_crossover", PAIRS, {"train": 500, "test": 125, "fees": 0.001}),
    "anchored": lambda: (
        sample("AAPL"),
        "ma_crossover",
        PAIRS,
        {"train": 500, "test": 250, "gap": 10, "anchored": True, "where": "fast_window < 20", "shorter_last": True},
    ),
    "three": lambda: (
        plain.random_bars(1, 400),
        "macd",
        {"fast_window": [5, 8, 12], "slow_window": [20, 26], "signal_window": [3, 5, 9, 12]},
        {"train": 100, "test": 60, "metric": "max_drawdown", "fill": "close"},
    ),
    "words": lambda: (
        plain.random_bars(5, 300),
        by_rule,
        {"rule": ["rising", "falling"], "days": [1, 2, 3]},
        {"train": 60, "test": 30, "metric": "omega"},
    ),
    "many": lambda: (plain.random_bars(2, 900), "momentum", {"window": range(5, 60, 5)}, {"train": 90, "test": 10}),
    "one_fold": lambda: (plain.random_bars(3, 300), "momentum", {"window": [20]}, {"train": 200, "test": 100}),
    "some_flat": lambda: (
        course([*RISING, *[RISING[-1]] * 40, *(RISING[::-1])]),
        "momentum",
        {"window": [2, 5]},
        {"train": 30, "test": 10},
    ),
    "all_flat": lambda: (course(np.full(80, 100.0)), "momentum", {"window": [2, 5]}, {"train": 30, "test": 10}),
    "losing": lambda: (
        course(100.0 * 0.99 ** np.arange(200) * np.tile([1.0, 1.03], 100)),
        by_rule,
        {"days": [1, 2]},
        {"train": 50, "test": 50, "metric": "calmar"},
    ),
    "ruined": lambda: (
        course([*(100.0 * 0.97 ** np.arange(40) * np.tile([1.0, 1.01], 20)), *np.linspace(40.0, 200.0, 40)]),
        one_side,
        {"side": [-1.0]},
        {"train": 40, "test": 10},
    ),
    "hourly": lambda: (
        sample("EURUSD=X", interval="1h"),
        "rsi_reversion",
        {"window": [7, 14], "lower": [25.0, 30.5]},
        {"train": 1000, "test": 700, "slippage": 0.0001},
    ),
    "volatility": lambda: (
        sample("AAPL"),
        "ma_crossover",
        PAIRS,
        {"train": 500, "test": 250, "sizing": "volatility", "size": 0.1, "lookback": 40},
    ),
    "minutes": lambda: (minutes(3000), "momentum", {"window": [10, 40]}, {"train": 900, "test": 500}),
}
every_walk = pytest.mark.parametrize("name", WALKS)

PIECES = {
    "summary": lambda name: walkforward_page.summary(walked(name)),
    "folds": lambda name: walkforward_page.folds(walked(name)),
    "stability": lambda name: walkforward_page.stability(walked(name), WALKS[name]()[2]),
    "parameters": lambda name: walkforward_page.parameters(walked(name), "days 1:5", "days < 3"),
}
every_piece = pytest.mark.parametrize("piece", PIECES)

CHARTS = {
    "equity": lambda name: walkforward_page.equity(walked(name)),
    "promises": lambda name: walkforward_page.promises(walked(name)),
    "choices": lambda name: walkforward_page.choices(walked(name), WALKS[name]()[2]),
}
every_chart = pytest.mark.parametrize("kind", CHARTS)


@functools.cache
def walked(name):
    prices, strategy, grid, settings = WALKS[name]()
    return walk_forward(prices, strategy, grid, **settings)


@functools.cache
def piece_of(name, piece):
    return PIECES[piece](name)


@functools.cache
def drawn(name, kind):
    """A chart and its SVG."""
    chart = CHARTS[kind](name)
    return chart, chart.svg()


def told(name, **changed):
    """Title, range and sentence of a summary."""
    markup = walkforward_page.summary(dataclasses.replace(walked(name), **changed))
    found = re.search(r"<h1>(.*?)</h1><p class='span'>(.*?)</p><p class='lead'>(.*?)</p>", markup)
    return [words(f"<p>{part}</p>") for part in found.groups()]


def chips(name, **changed):
    """Verdicts as {words: kind}."""
    markup = walkforward_page.summary(dataclasses.replace(walked(name), **changed))
    return {words(f"<p>{text}</p>"): kind for kind, text in re.findall(r"<li class='(\w+)'>(.*?)</li>", markup)}


# ---- any walk-forward ------------------------------------------------------------------------------------------------


@every_piece
@every_walk
def test_piece_is_well_formed_and_shows_no_odd_number(name, piece):
    shown = words(piece_of(name, piece))
    assert shown
    assert not re.search(r"\b(nan|NaN|inf|Infinity|None|NaT|null)\b", shown)
    assert not re.search(r"-0(\.0+)?( %|$)", shown)


@every_piece
def test_piece_is_the_same_twice(piece):
    first = piece_of("daily", piece)
    walked.cache_clear()
    assert PIECES[piece]("daily") == first


@every_piece
def test_no_text_becomes_markup(piece):
    forward = walked("words")
    result = dataclasses.replace(forward.result, symbol=HOSTILE, data={"snapshot": HOSTILE})
    renamed = {"rule": HOSTILE}
    hostile = dataclasses.replace(
        forward,
        strategy=HOSTILE,
        symbol=HOSTILE,
        paths=(result,),
        folds=forward.folds.rename(columns=renamed),
        stability=forward.stability.rename(index=renamed),
        chosen=tuple({HOSTILE: HOSTILE, "days": 1} for _ in forward.chosen),
    )
    made = {
        "summary": lambda: walkforward_page.summary(hostile),
        "folds": lambda: walkforward_page.folds(hostile),
        "stability": lambda: walkforward_page.stability(hostile, {HOSTILE: [HOSTILE], "days": [1]}),
        "parameters": lambda: walkforward_page.parameters(hostile, HOSTILE, HOSTILE),
    }[piece]()
    assert not {"script", "img"} & {element.tag for element in parsed(made).iter()}
    assert "<script>window.PWN = 1</script>" in words(made)


@every_chart
@every_walk
def test_chart_draws_without_odd_numbers_and_has_words(name, kind):
    chart, svg = drawn(name, kind)
    for text in (*texts(svg), chart.alt, chart.caption):
        assert not re.search(r"\b(nan|NaN|inf|None|NaT)\b|-0(\.0+)?( %|$)", text), text
    for numbers in re.findall(r' (?:d|points|x|y|transform)="([^"]*)"', svg):
        assert not re.search(r"nan|inf", numbers)
    assert len(chart.alt) > 20 and len(chart.caption) > 10
    assert len(svg) < 400_000


@every_chart
@every_walk
def test_chart_is_the_same_bytes_twice_in_the_colours_of_the_page(name, kind):
    with matplotlib.rc_context({"font.size": 30.0, "axes.grid": True, "patch.linewidth": 9.0, "lines.linewidth": 9.0}):
        assert CHARTS[kind](name).svg() == drawn(name, kind)[1]
    assert re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\([^)]*\)", "", drawn(name, kind)[1])) == []


@every_chart
@every_walk
def test_every_text_lies_within_its_drawing(name, kind):
    chart, _ = drawn(name, kind)
    notes = [text for axes in chart.axes for text in axes.texts]
    for text in (*notes, *(text for axes in chart.axes for text in (*axes.get_yticklabels(), axes.yaxis.label))):
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert box.x0 >= -1.0 and box.x1 <= chart.bbox.width + 1.0, text.get_text()
            assert text not in notes or (box.y0 >= -1.0 and box.y1 <= chart.bbox.height + 1.0), text.get_text()


@pytest.mark.parametrize("name", [HOSTILE, "$\\frac$", "日本", "&amp;"])
def test_names_and_values_of_parameters_are_text_and_nothing_else(name):
    index, starts = pd.bdate_range("2023-01-02", periods=20), np.array([0, 10])
    line = pd.Series(np.linspace(100.0, 120.0, 20), index)
    chosen = pd.DataFrame({name: [name, "b"]})
    for chart in (
        plot.choices_chart(chosen, starts, index, {name: [name, "b"]}),
        plot.folds_chart(line, line, line * 0.0, starts, chosen, name, name),
    ):
        tags = {element.tag.rsplit("}")[-1] for element in ElementTree.fromstring(chart.svg()).iter()}
        assert not {"script", "img"} & tags


# ---- the answer ------------------------------------------------------------------------------------------------------


def test_title_and_sentence_say_how_it_was_chosen_and_what_it_gave():
    forward = walked("daily")
    result, held = forward.result, page.benchmark_metrics(forward.result)
    years = (len(result.equity) - 1) / 252
    grown = [f"{(line.iloc[-1] / 100_000) ** (1 / years) - 1:.1%}" for line in (result.equity, result.benchmark)]
    lost = [f"{-value:.1%}" for value in (result.metrics["max_drawdown"], held["max_drawdown"])]
    ours, theirs, deep, deepest = (text.replace("%", " %") for text in (*grown, *lost))
    assert told("daily") == [
        "Moving-average crossover on AAPL, walked forward",
        "out of sample from 2020-12-24 to 2024-12-16, 1,000 bars in 8 folds",
        "Long while the fast mean is above the slow mean, else flat, filled at the next open, 0.1 % a side. Its "
        f"parameters were chosen by Sharpe on 500 bars and traded on the next 125, 8 times: {ours} a year out of "
        f"sample against {theirs} for holding, at a worst loss of {deep} against {deepest}. Sharpe "
        f"{forward.out_of_sample_sharpe:.2f} out of sample against {forward.in_sample_sharpe:.2f} in sample, an "
        f"efficiency of {forward.efficiency:.2f}.",
    ]


def test_anchored_windows_a_gap_and_one_fold_are_told():
    assert (
        "on all bars before, 500 at least, and traded on the next 250 after a gap of 10, 4 times" in told("anchored")[2]
    )
    assert "chosen by Sharpe on 200 bars and traded on the next 100, once:" in told("one_fold")[2]
    assert "in 1 fold" in told("one_fold")[1]


def test_without_a_sharpe_in_sample_there_is_no_efficiency():
    lead = told("all_flat")[2]
    assert lead.endswith("Sharpe n/a out of sample against n/a in sample.")
    assert chips("all_flat")["no efficiency: Sharpe n/a out of sample, n/a in sample"] == "plain"


def test_short_run_is_not_stretched_to_a_year():
    assert " in all out of sample against " in told("all_flat")[2] and " a year " not in told("all_flat")[2]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ma_crossover", "Moving-average crossover"),
        ("ema_crossover", "Exponential moving-average crossover"),
        ("macd", "MACD"),
        ("rsi_reversion", "RSI reversion"),
        ("bollinger_reversion", "Bollinger reversion"),
        ("donchian_breakout", "Donchian breakout"),
        ("momentum", "Momentum"),
        ("my_own_3", "my_own_3"),
    ],
)
def test_strategy_is_named_without_the_numbers_of_its_parameters(name, said):
    assert walkforward_page._name(name) == said


def test_six_numbers_stand_beside_those_of_holding():
    metrics, held = walked("daily").result.metrics, page.benchmark_metrics(walked("daily").result)
    cards = [words(card) for card in re.findall(r"<div class='card'>.*?</div>", piece_of("daily", "summary"))]
    assert cards == [
        f"CAGR {metrics['cagr']:.1%} holding {held['cagr']:.1%}".replace("%", " %"),
        f"Annual volatility {metrics['annual_volatility']:.1%} holding {held['annual_volatility']:.1%}".replace(
            "%", " %"
        ),
        f"Sharpe {metrics['sharpe']:.2f} holding {held['sharpe']:.2f}",
        f"Max drawdown {metrics['max_drawdown']:.1%} holding {held['max_drawdown']:.1%}".replace("%", " %"),
        f"Trades {metrics['n_trades']}",
        f"Exposure {metrics['exposure']:.1%} holding 100.0 %".replace("%", " %").replace("  ", " "),
    ]


@pytest.mark.parametrize(
    ("inside", "outside", "said", "kind"),
    [
        (2.0, 1.0, "efficiency 0.50: Sharpe 1.00 out of sample, 2.00 in sample", "good"),
        (2.0, 0.99, "efficiency 0.49: Sharpe 0.99 out of sample, 2.00 in sample", "bad"),
        (2.0, -1.0, "efficiency -0.50: Sharpe -1.00 out of sample, 2.00 in sample", "bad"),
        (-1.0, 2.0, "no efficiency: Sharpe 2.00 out of sample, -1.00 in sample", "plain"),
    ],
)
def test_half_of_the_sharpe_in_sample_is_to_be_kept(inside, outside, said, kind):
    assert chips("daily", in_sample_sharpe=inside, sharpes=np.array([outside]))[said] == kind


def test_gaining_folds_and_those_ahead_of_holding_are_counted():
    forward = walked("daily")
    prices = sample("AAPL")["Close"]
    gained = ahead = 0
    for fold in range(8):
        stop = 500 + 125 * (fold + 1)
        bars = prices.index[[max(stop - 126, 500), stop - 1]]
        ours, theirs = (curve[bars[1]] / curve[bars[0]] - 1 for curve in (forward.equity, forward.result.benchmark))
        gained, ahead = gained + (ours > 0), ahead + (ours > theirs)
    assert f"gains in {gained} of 8 folds, more than holding in {ahead}" in chips("daily")
    assert "one fold: it gained" in chips("one_fold") or "one fold: it did not gain" in chips("one_fold")


NAMES = {"a": [0, 10], "b": ["up", "down", "flat"]}


@pytest.mark.parametrize(
    ("a", "b", "said", "kind"),
    [
        ([5] * 8, ["up"] * 8, "parameters are stable: 8 folds chose the same", "good"),
        (
            [4, 6] * 4,  # often, but not far
            ["up"] * 8,
            "parameters are stable: a changed 7 of 7 times (spread 0.10); spread at random 0.29",
            "good",
        ),
        (
            [0, 10] * 4,
            ["up"] * 8,
            "parameters wander: a changed 7 of 7 times (spread 0.50); spread at random 0.29",
            "bad",
        ),
        (
            [0] * 4 + [10] * 5,  # far, but once
            ["up"] * 9,
            "parameters are stable: a changed 1 of 8 times (spread 0.50); spread at random 0.29",
            "good",
        ),
        ([0, 10, 0, 0, 0, 0, 0, 0, 0], ["up"] * 9, "spread 0.31", "good"),  # a quarter of the times
        ([0, 10, 0, 0, 0, 0, 0, 0], ["up"] * 8, "spread 0.33", "bad"),
        ([5] * 8, ["up", "up", "down", "up"] * 2, "parameters are stable: b changed 4 of 7 times", "good"),
        ([5] * 8, ["up", "down"] * 4, "parameters wander: b changed 7 of 7 times", "bad"),
    ],
)
def test_choices_wander_that_differ_widely_and_do_not_last(a, b, said, kind):
    chosen = [{"a": first, "b": second} for first, second in zip(a, b, strict=True)]
    table = _stability(read_space(NAMES), chosen)
    forward = dataclasses.replace(walked("daily"), stability=table, chosen=(None, *chosen, None))
    found = walkforward_page._stable(forward)
    assert (said in found[1], found[0]) == (True, kind)


def test_fewer_than_two_choices_cannot_be_compared():
    for name in ("one_fold", "all_flat"):
        assert chips(name)["parameters of fewer than two folds: nothing to compare"] == "plain"


def test_flat_folds_trials_and_bars_that_are_not_tested_are_told():
    flat, n = walked("some_flat").n_flat, walked("some_flat").n_folds
    assert 0 < flat < n
    assert chips("some_flat")[f"flat in {flat} of {n} folds: no trial could be chosen"] == "bad"
    assert chips("all_flat")["flat in 5 of 5 folds: no trial could be chosen"] == "bad"
    assert {"no fold is flat", "each fold chose from 10 trials", "the last 9 bars are not tested"} <= chips(
        "daily"
    ).keys()
    assert "each fold chose from 1 trial" in chips("one_fold")
    assert "the last bar is not tested" in chips("daily", n_untested=1)
    assert not [text for text in chips("anchored") if "not tested" in text and "bar" in text]


def test_bars_that_sizing_looks_back_on_are_told():
    assert walked("volatility").first == 40
    assert "flat on 40 bars before, which sizing looks back on" in chips("volatility")
    assert told("volatility")[1].startswith("out of sample from 2020-12-24 to ")


def test_interval_is_told_and_nothing_is_deflated():
    """What was chosen by earlier bars is not the best of many on these."""
    found = chips("daily")
    assert [text for text in found if text.startswith("95 % interval of the Sharpe: ")]
    assert not [text for text in found if "deflate" in text or "n_trials" in text or "one trial" in text]


def test_look_ahead_is_checked_with_what_was_chosen_last(monkeypatch):
    asked = []
    monkeypatch.setattr(walkforward_page, "check_lookahead", lambda *given, params: asked.append((given[0], params)))
    for name in ("daily", "all_flat", "some_flat"):
        prices, strategy, _, _ = WALKS[name]()
        walkforward_page.check(walked(name), strategy, prices)
    last = [params for params in walked("some_flat").chosen if params is not None][-1]
    assert asked == [("ma_crossover", walked("daily").chosen[-1]), ("momentum", last)]
    assert "not tested here: look-ahead" in chips("daily")


# ---- the evidence ----------------------------------------------------------------------------------------------------


def test_folds_are_listed_with_what_they_chose_promised_and_gave():
    table, forward = rows(piece_of("daily", "folds")), walked("daily")
    assert table[0] == [
        *("Traded from", "Chosen from", "fast_window", "slow_window", "in sample", "out of sample", "Return", "holding")
    ]
    for row, fold in zip(table[1:], forward.folds.itertuples(), strict=True):
        assert row[:2] == [f"{fold.test_start:%Y-%m-%d}", f"{fold.train_start:%Y-%m-%d}"]
        assert row[2:6] == [
            *(str(fold.fast_window), str(fold.slow_window), f"{fold.in_sample:.2f}", f"{fold.out_of_sample:.2f}")
        ]


@every_walk
def test_returns_of_folds_multiply_to_those_of_the_run(name):
    forward = walked(name)
    ours, theirs = walkforward_page._returns(forward)
    held = forward.result.benchmark
    assert np.prod(1.0 + theirs) == pytest.approx(held.iloc[-1] / held.iloc[max(forward.first - 1, 0)], rel=1e-12)
    if name != "ruined":
        assert np.prod(1.0 + ours) == pytest.approx(1.0 + forward.result.metrics["total_return"], rel=1e-12)


def test_fold_after_ruin_has_no_return():
    returns = [row[-2] for row in rows(piece_of("ruined", "folds"))[1:]]
    assert "n/a" in returns and returns.index("n/a") > 0
    assert returns[returns.index("n/a") :] == ["n/a"] * (len(returns) - returns.index("n/a"))


def test_flat_fold_says_so_and_many_are_folded():
    flat = [row for row in rows(piece_of("some_flat", "folds"))[1:] if row[2] == "flat"]
    assert len(flat) == walked("some_flat").n_flat
    assert {row[3] for row in flat} == {"n/a"}
    assert piece_of("many", "folds").startswith("<details><summary>All 81 folds</summary>")
    assert not piece_of("daily", "folds").startswith("<details>")


def test_more_is_better_of_every_metric_that_a_fold_chooses_by():
    """The page says that the highest is chosen."""
    assert {METRICS[name].better for name in FORMULAS} == {HIGHER}


def test_caption_of_folds_names_the_metric_and_the_gap():
    assert "the highest Sharpe of 10 trials on the bars before those it traded on." in words(piece_of("daily", "folds"))
    assert "the least drawdown" in words(piece_of("three", "folds"))
    assert "it traded on less 10 bars." in words(piece_of("anchored", "folds"))


def test_stability_stands_beside_the_values_there_were():
    table, forward = rows(piece_of("daily", "stability")), walked("daily")
    assert table[0] == ["Parameter", "Values", "Different ones chosen", "Most frequent", "in folds", "Spread"]
    for row, (name, known) in zip(table[1:], forward.stability.to_dict("index").items(), strict=True):
        shown = ", ".join(map(str, PAIRS[name]))
        assert row == [
            *(name, shown, str(known["distinct"]), str(known["most_frequent"])),
            *(f"{known['share']:.1%}".replace("%", " %"), f"{known['spread']:.2f}"),
        ]
    assert "Values" not in words(walkforward_page.stability(forward)).split("Parameter")[1]


def test_parameters_hold_the_search_and_the_terms_but_no_single_choice():
    listed = {row[0]: row[1] for row in rows(piece_of("anchored", "parameters"))}
    assert (listed["grid"], listed["where"]) == ("days 1:5", "days < 3")
    assert (listed["train"], listed["test"], listed["gap"], listed["anchored"]) == ("500", "250", "10", "True")
    assert (listed["trials"], listed["left out"], listed["strategy"]) == ("7", "4", "ma_crossover")
    assert "fast_window" not in listed
    assert "grid" not in words(walkforward_page.parameters(walked("daily")))


def test_combinatorial_splits_have_no_such_page():
    result = combinatorial_cross_validation(plain.random_bars(1, 120), "momentum", {"window": [2, 5]})
    with pytest.raises(ParameterError, match="this page is of a walk-forward"):
        walkforward_page.summary(result)


# ---- charts ----------------------------------------------------------------------------------------------------------


def test_a_rule_begins_each_fold_after_the_first_and_its_choice_stands_above():
    chart, _ = drawn("daily", "equity")
    top = chart.axes[0]
    rules = [
        line.get_xdata()[0] for line in top.lines if line.get_linestyle() == "--" and line.get_color() == plot.MUTED
    ]
    assert rules == [125 * fold for fold in range(1, 8)]
    above = {text.get_text(): text.xy[0] for text in top.texts if "/" in text.get_text()}
    last = "/".join(map(str, walked("daily").chosen[-1].values()))
    assert above[last] == 7 * 125 + 62.0
    assert said(chart).endswith("A dotted rule begins the next fold; above each stands its fast_window / slow_window.")


def test_axes_of_the_account_are_as_high_as_without_folds():
    chart, usual = drawn("daily", "equity")[0], walked("daily").result.plot()
    heights = [[axes.bbox.height / each.dpi for axes in each.axes] for each in (chart, usual)]
    assert heights[0] == pytest.approx(heights[1], rel=0.02)


def test_folds_that_are_too_many_are_not_marked():
    chart, _ = drawn("many", "equity")
    assert not [line for line in chart.axes[0].lines if line.get_color() == plot.MUTED]
    assert said(chart).endswith("The 81 folds are too many to mark each.")
    assert "There is one fold; above it stands its window." in said(drawn("one_fold", "equity")[0])


def test_bars_are_what_was_given_and_marks_what_was_promised():
    index, starts = pd.bdate_range("2023-01-02", periods=40), np.array([0, 10, 20, 30])
    inside, outside = np.array([2.0, 1.0, math.nan, 1.5]), np.array([1.0, -0.5, math.nan, 2.5])
    chart = plot.samples_chart(inside, outside, starts, index)
    (axes,) = chart.axes
    assert [patch.get_height() for patch in axes.patches] == [1.0, -0.5, 2.5]
    colors = [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in axes.patches]
    assert colors == [plot.ACCENT, plot.LOSS, plot.ACCENT]
    assert [segment[0][1] for segment in axes.collections[0].get_segments()] == [2.0, 1.0, 1.5]
    assert said(chart) == (
        "Each mark is the Sharpe of what was chosen, on the bars it was chosen by; the bar is what the account gave on "
        "the next ones. It gave less in 2 of 3 folds; the mean is 1.00 against 1.50."
    )


def test_choices_are_steps_over_all_values_there_were():
    index, starts = pd.bdate_range("2023-01-02", periods=40), np.array([0, 10, 20, 30])
    chosen = pd.DataFrame({"window": [5, 5, np.nan, 20], "rule": ["up", "down", np.nan, "up"]}, dtype=object)
    chart = plot.choices_chart(chosen, starts, index, {"window": [5, 100], "rule": ["up", "down", "flat"]})
    numbers, names = chart.axes
    changes, steps = (collection.get_segments() for collection in numbers.collections)
    assert [segment.tolist() for segment in steps] == [
        *([[0.0, 5.0], [10.0, 5.0]], [[10.0, 5.0], [20.0, 5.0]], [[30.0, 20.0], [39.0, 20.0]])
    ]
    assert [segment[0][0] for segment in changes] == [10.0]
    assert numbers.get_ylim() == pytest.approx((5 - 11.4, 100 + 11.4))
    assert tick_labels(names.yaxis) == ["up", "down", "flat"]
    assert said(chart) == (
        "From fold to fold window changed 1 of 2 times, rule changed 2 of 2 times. The axes reach over all values that "
        "could be chosen. The line is broken where no trial could be chosen."
    )


# ---- the check before a kernel starts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train": 1}, "train"),
        ({"test": 0}, "test"),
        ({"gap": -1}, "gap"),
        ({"train": 90}, "train 90 + gap 0 + test 20 = 110 bars for one fold, and prices have 100"),
        ({"train": 98, "test": 1, "gap": 1}, "the test window has one bar"),
        ({"metric": "sharp"}, "no choice by metric 'sharp'; did you mean 'sharpe'"),
        ({"metric": "n_trades"}, "no choice by metric 'n_trades'"),
    ],
    ids=str,
)
def test_windows_that_do_not_fit_are_refused_as_the_walk_forward_does(given, said):
    known = {"train": 50, "test": 20, **given}
    prices = plain.random_bars(1, 100)
    for refused in (
        lambda: check_folds(100, **known),
        lambda: walk_forward(prices, "momentum", {"window": [2]}, **known),
    ):
        with pytest.raises(ParameterError, match=re.escape(said)):
            refused()


@pytest.mark.parametrize("metric", FORMULAS)
def test_windows_that_fit_pass(metric):
    check_folds(100, train=50, test=20, gap=5, anchored=True, shorter_last=True, metric=metric)
