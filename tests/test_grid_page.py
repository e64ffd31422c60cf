"""The page of a sweep says what its trials say, never a winner without their number; grids read as they are written."""

import dataclasses
import functools
import math
import re

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_page import HOSTILE, course, parsed, rows, sample, words

from backgrid import grid_page
from backgrid.engine import run_backtest
from backgrid.errors import ParameterError
from backgrid.grid import run_grid
from backgrid.grid_page import check_grid, plain_grid, read_grid
from backgrid.metrics import format_metric, format_value
from backgrid.space import sample_grid

PAIRS = {"fast_window": [5, 10, 20], "slow_window": [8, 30, 60, 100]}


def by_rule(prices, *, rule="rising", days=1):
    """Long after a rise, or after a fall."""
    change = prices["Close"].diff(days)
    return (change > 0.0 if rule == "rising" else change < 0.0).astype(float)


SWEEPS = {
    "two": lambda: (sample("AAPL"), "ma_crossover", PAIRS, {"fees": 0.001}),
    "where": lambda: (sample("AAPL"), "ma_crossover", PAIRS, {"where": "fast_window < 20"}),
    "three": lambda: (
        plain.random_bars(1, 400),
        "macd",
        {"fast_window": [5, 8, 12], "slow_window": [20, 26], "signal_window": [3, 5, 9, 12]},
        {"cash_rate": 0.01},
    ),
    "line": lambda: (plain.random_bars(2, 300), "momentum", {"window": list(range(10, 60, 5))}, {"stop_loss": 0.05}),
    "one_trial": lambda: (plain.random_bars(3, 300), "momentum", {"window": [20]}, {}),
    "apart": lambda: (
        sample("AAPL"),
        "ma_crossover",
        PAIRS,
        {"where": "fast_window == 5 and slow_window == 30 or fast_window == 20 and slow_window == 100"},
    ),
    "sample": lambda: (
        plain.random_bars(6, 400),
        "macd",
        sample_grid({"fast_window": (2, 15), "slow_window": (20, 60), "signal_window": (2, 12)}, 60),
        {"fees": 0.001},
    ),
    "few_bars": lambda: (plain.random_bars(4, 30), "momentum", {"window": [2, 3, 5]}, {"fill": "close"}),
    "losing": lambda: (
        course(100.0 * 0.99 ** np.arange(200) * np.tile([1.0, 1.03], 100)),
        by_rule,
        {"days": [1, 2]},
        {},
    ),
    "words": lambda: (plain.random_bars(5, 300), by_rule, {"rule": ["rising", "falling"], "days": [1, 2, 3]}, {}),
    "hourly": lambda: (
        sample("EURUSD=X", interval="1h"),
        "rsi_reversion",
        {"window": [7, 14], "lower": [25.0, 30.5]},
        {},
    ),
}
every_sweep = pytest.mark.parametrize("name", SWEEPS)

PIECES = {
    "summary": lambda name: grid_page.summary(swept(name), luck(name), won(name)),
    "luck_table": lambda name: grid_page.luck_table(luck(name)),
    "neighbours": lambda name: grid_page.neighbours(swept(name)),
    "best_trials": lambda name: grid_page.best_trials(swept(name), won(name)),
    "tried": lambda name: grid_page.tried(swept(name), SWEEPS[name]()[3].get("where")),
}
every_piece = pytest.mark.parametrize("piece", PIECES)


@functools.cache
def swept(name):
    prices, strategy, grid, settings = SWEEPS[name]()
    return run_grid(prices, strategy, grid, **settings)


@functools.cache
def luck(name):
    return swept(name).overfit(n_boot=200)


@functools.cache
def won(name):
    return swept(name).run()


@functools.cache
def piece_of(name, piece):
    return PIECES[piece](name)


def chips(name, **changed):
    """Verdicts on luck as {words: kind}."""
    found = grid_page.luck_verdicts(swept(name), luck(name)._replace(**changed))
    return {text.replace("\u2212", "-"): kind for kind, text in found}


def shown(monkeypatch, name):
    """What `maps` displays."""
    found = []
    monkeypatch.setattr("IPython.display.display", found.append)
    grid_page.maps(swept(name))
    return found


# ---- any sweep -------------------------------------------------------------------------------------------------------


@every_piece
@every_sweep
def test_piece_is_well_formed_and_shows_no_odd_number(name, piece):
    said = words(piece_of(name, piece))
    assert said
    assert not re.search(r"\b(nan|NaN|inf|Infinity|None|NaT|null)\b", said)
    assert not re.search(r"-0(\.0+)?( %|$)", said)


@every_piece
def test_piece_is_the_same_twice(piece):
    swept.cache_clear(), luck.cache_clear(), won.cache_clear()
    assert PIECES[piece]("two") == piece_of("two", piece)


@every_piece
def test_no_text_becomes_markup(piece):
    sweep = dataclasses.replace(swept("two"), symbol=HOSTILE, strategy=HOSTILE)
    result = dataclasses.replace(won("two"), symbol=HOSTILE, strategy=HOSTILE, data={"snapshot": HOSTILE})
    made = {
        "summary": lambda: grid_page.summary(sweep, luck("two"), result),
        "luck_table": lambda: grid_page.luck_table(luck("two")._replace(winner={HOSTILE: HOSTILE})),
        "neighbours": lambda: grid_page.neighbours(sweep),
        "best_trials": lambda: grid_page.best_trials(sweep, result),
        "tried": lambda: grid_page.tried(sweep, HOSTILE),
    }[piece]()
    assert not {"script", "img"} & {element.tag for element in parsed(made).iter()}
    if piece in ("summary", "luck_table", "tried"):
        assert "<script>window.PWN = 1</script>" in words(made)


@every_sweep
def test_winner_is_the_backtest_of_the_highest_sharpe_with_the_facts_of_its_prices(name):
    prices, _, _, _ = SWEEPS[name]()
    assert won(name).metrics["sharpe"] == pytest.approx(swept(name).metrics["sharpe"].max(), rel=1e-12)
    assert won(name).data.get("snapshot") == prices.attrs.get("snapshot")
    assert won(name) == run_backtest(
        prices,
        SWEEPS[name]()[1],
        params=swept(name).best().params,
        **{key: value for key, value in SWEEPS[name]()[3].items() if key != "where"},
    )


def told(name, **changed):
    """Title and sentence of a summary."""
    markup = grid_page.summary(swept(name), luck(name)._replace(**changed), won(name))
    found = re.search(r"<h1>(.*?)</h1>.*class='lead'>(.*?)</p>", markup)
    return [words(f"<p>{part}</p>") for part in found.groups()]


@every_sweep
def test_number_of_trials_stands_in_title_and_sentence(name):
    title, lead = told(name)
    many = f"the best of {swept(name).n_trials} trials" if swept(name).n_trials > 1 else "the only trial"
    assert title.endswith(f", {many}")
    assert (f"It is {many}, among" if swept(name).n_trials > 1 else "Nothing else was tried.") in lead


# ---- the answer ------------------------------------------------------------------------------------------------------


def test_title_names_the_winner_in_words():
    assert told("two")[0] == "Moving-average crossover 5/30 on AAPL, the best of 10 trials"


def test_sentence_says_what_the_winner_did_and_what_it_is_worth():
    assert told("two", luckiest=1.13, sharpe=1.26, dsr_sampling=0.76)[1] == (
        "Long AAPL while its 5-bar mean is above its 30-bar mean, filled at the next open, 0.1 % a side: 27.2 % a year "
        "against 39.5 % for holding, at a worst loss of 26.0 % against 31.4 %. It is the best of 10 trials, among "
        "which luck alone is expected to find a Sharpe ratio of 1.13: its 1.26 does not hold up (deflated Sharpe 0.76, "
        "not above 0.95)."
    )


@pytest.mark.parametrize(
    ("deflated", "said"),
    [
        (0.9501, "holds up (deflated Sharpe 0.95, above 0.95)."),
        (0.95, "does not hold up (deflated Sharpe 0.95, not above 0.95)."),
    ],
)
def test_winner_holds_above_95_percent(deflated, said):
    assert told("two", dsr_sampling=deflated)[1].endswith(said)


def test_deflated_sharpe_ratio_is_that_of_chance_and_told_in_the_same_words_everywhere():
    luckiest = "what luck alone would give the best of"
    meaning = f"deflated Sharpe 0.76: the probability that the true Sharpe is above {luckiest} 1,200 trials"
    assert chips("two", dsr=0.999, dsr_sampling=0.76, n_trials=1200.0)[meaning] == "bad"
    assert chips("two", dsr=0.001, dsr_sampling=0.96)[meaning.replace("0.76", "0.96").replace("1,200", "10")] == "good"
    (told,) = [row for row in rows(piece_of("two", "luck_table")) if row[0] == "Deflated Sharpe"]
    above = format_value(luck("two").luckiest, "ratio")
    assert told[1:] == [
        f"{luck('two').dsr_sampling:.3f}",
        f"that the true Sharpe is above {above}, {luckiest} 10 trials",
    ]


@pytest.mark.parametrize(("deflated", "kind"), [(0.951, "good"), (0.95, "bad"), (0.2, "bad")])
def test_what_is_left_without_being_in_the_market_is_told(deflated, kind):
    found = chips("two", timing=0.4, beta=0.5, dsr_timing=deflated)
    assert found[f"timing only, without 0.50 of holding: Sharpe 0.40, deflated {deflated:.2f}"] == kind
    assert not [text for text in chips("two", timing=math.nan) if "timing" in text]
    assert not [text for text in chips("one_trial") if "timing" in text]


def test_interval_of_a_winner_speaks_for_nothing_since_it_knows_of_one_trial():
    low, high = luck("two").interval
    said = f"95 % interval of the Sharpe: {low:.2f} to {high:.2f}"
    assert low > 0.0 and chips("two")[f"{said}, as if only this one had been tried"] == "plain"
    assert chips("two", n_trials=1.0)[said] == "good"


def test_one_trial_is_not_deflated():
    assert chips("one_trial")["counted as one trial: if it was chosen among more, n_trials deflates it"] == "plain"
    assert "deflated Sharpe" not in words(piece_of("one_trial", "summary"))


def test_trials_that_were_counted_elsewhere_are_told():
    assert "the best of 10 trials, and of 1,200 that were counted, among" in told("two", n_trials=1200.0)[1]
    assert "the only trial, and of 1,200 that were counted, among" in told("one_trial", n_trials=1200.0)[1]


def test_short_run_is_not_stretched_to_a_year():
    assert " in all against " in told("few_bars")[1] and " a year " not in told("few_bars")[1]


def test_six_numbers_stand_beside_those_of_holding():
    cards = [
        words(card.replace("<dl class='cards'>", ""))
        for card in re.findall(r"<div class='card'>.*?</div>", piece_of("two", "summary"))
    ]
    assert cards == [
        "CAGR 27.2 % holding 39.5 %",
        "Annual volatility 20.8 % holding 30.6 %",
        "Sharpe 1.26 holding 1.24",
        "Max drawdown -26.0 % holding -31.4 %",
        "Trades 29",
        "Exposure 64.5 % holding 100.0 %",
    ]


def test_verdicts_of_the_winner_stand_beside_those_on_luck():
    said = words(piece_of("two", "summary"))
    for verdict in ("does not beat holding by return", "deflated Sharpe", "the best of 10 trials", "reality check"):
        assert verdict in said
    assert said.index("does not beat holding by return") < said.index("reality check") < said.index("data: adjusted")


def test_look_ahead_is_told_as_it_was_checked():
    assert "not tested here: look-ahead" in words(piece_of("two", "summary"))


def p_values(cash, holding):
    against = luck("two").against_cash
    return {"against_cash": against._replace(pvalue=cash), "against_holding": against._replace(pvalue=holding)}


@pytest.mark.parametrize(
    ("cash", "holding", "said", "kind"),
    [
        (0.05, 0.001, "beats cash (p 0.050) and beats holding (p 0.001)", "good"),
        (0.002, 0.0501, "beats cash (p 0.002) and is not shown to beat holding (p 0.050)", "bad"),
        (0.2, 1.0, "is not shown to beat cash (p 0.200) and is not shown to beat holding (p 1.000)", "bad"),
    ],
)
def test_reality_check_is_told_in_words(cash, holding, said, kind):
    assert chips("two", **p_values(cash, holding))[f"reality check of all trials: the best {said}"] == kind


@pytest.mark.parametrize(("pbo", "kind"), [(0.1, "plain"), (0.4999, "plain"), (0.5, "bad"), (0.9, "bad")])
def test_overfitting_is_bad_from_a_coin_on_and_never_good(pbo, kind):
    found = chips("two", overfitting=luck("two").overfitting._replace(pbo=pbo))
    assert found[f"probability of overfitting {pbo:.2f}, without skill near 0.50"] == kind


def test_without_cross_validation_there_is_no_verdict_of_it():
    assert not [text for text in chips("few_bars") if "overfitting" in text]
    assert words(grid_page.cross_validation(luck("few_bars"))).startswith("One trial, or too few bars")
    assert "ways to halve the bars" in grid_page.cross_validation(luck("two")).caption


@pytest.mark.parametrize(
    ("sharpe", "said", "kind"),
    [
        (0.5, "Sharpe of its 2 neighbours: median 0.94, lowest 0.91", "plain"),
        (1.9, "a peak of its own, Sharpe of its 2 neighbours: median 0.94, lowest 0.91", "bad"),
        (-0.5, "Sharpe of its 2 neighbours: median 0.94, lowest 0.91", "plain"),
    ],
)
def test_winner_at_twice_the_median_of_its_neighbours_stands_alone(monkeypatch, sharpe, said, kind):
    best = swept("two").best()._replace(neighbours=np.array([0.97, 0.91, np.nan]))
    monkeypatch.setattr("backgrid.grid.GridResult.best", lambda *_: best)
    assert chips("two", sharpe=sharpe)[said] == kind


def test_single_neighbour_and_none_are_told(monkeypatch):
    best = swept("two").best()._replace(neighbours=np.array([0.9]))
    monkeypatch.setattr("backgrid.grid.GridResult.best", lambda *_: best)
    assert "Sharpe of its only neighbour: 0.90" in chips("two")
    monkeypatch.undo()
    assert not [text for text in chips("apart") if "neighbour" in text]
    assert "has no neighbours" in words(piece_of("apart", "neighbours"))


def test_neighbours_of_a_sample_are_called_the_nearest():
    assert [text for text in chips("sample") if text.startswith("Sharpe of its 6 nearest: median ")]
    assert "The winner and its 6 nearest, with their ranks among 60 trials" in words(piece_of("sample", "neighbours"))
    assert len(rows(piece_of("sample", "neighbours"))) == 1 + 1 + 6
    assert ["combinations", "60", "that were given"] in rows(piece_of("sample", "tried"))


def test_edge_of_the_grid_is_pointed_out():
    found = {
        text: kind
        for text, kind in chips("two", winner={"fast_window": 5, "slow_window": 100}).items()
        if "edge" in text
    }
    assert found == {"at the edge of the grid: fast_window 5 is the lowest, slow_window 100 is the highest": "bad"}
    assert not [text for text in chips("two", winner={"fast_window": 10, "slow_window": 60}) if "edge" in text]


def test_two_values_and_words_have_no_edge():
    assert not [text for text in chips("losing") if "edge" in text]
    assert not [text for text in chips("words", winner={"rule": "rising", "days": 2}) if "edge" in text]


# ---- the evidence ----------------------------------------------------------------------------------------------------


def test_every_statistic_of_luck_is_listed_with_its_meaning():
    table = luck("two").table()
    listed = rows(piece_of("two", "luck_table"))[1:]
    assert [row[0] for row in listed] == list(table.index)
    assert [row[2] for row in listed] == list(table["meaning"])
    assert "200 resamples" in words(piece_of("two", "luck_table"))


def test_best_trials_are_sorted_and_holding_comes_last():
    table = rows(piece_of("two", "best_trials"))
    metrics = swept("two").metrics.sort_values("sharpe", ascending=False)
    assert table[0] == ["Rank", "Sharpe", "fast_window", "slow_window", "CAGR", "Max drawdown", "Trades"]
    assert [row[:4] for row in table[1:-1]] == [
        [str(rank), f"{sharpe:.2f}", str(fast), str(slow)]
        for rank, ((fast, slow), sharpe) in enumerate(metrics["sharpe"].items(), start=1)
    ]
    assert table[-1] == ["holding", "1.24", "", "", "39.5 %", "-31.4 %", ""]


def test_only_the_ten_best_trials_are_shown():
    assert [row[0] for row in rows(piece_of("three", "best_trials"))[1:-1]] == [str(rank) for rank in range(1, 11)]
    assert "The best 10 of 24 trials" in words(piece_of("three", "best_trials"))
    assert "The only trial" in words(piece_of("one_trial", "best_trials"))


def test_undefined_trial_comes_last():
    index = pd.MultiIndex.from_product([[1, 2, 3]], names=["days"])
    sweep = dataclasses.replace(swept("few_bars"), metrics=pd.DataFrame({"sharpe": [0.5, np.nan, 0.7]}, index=index))
    order, ranks = grid_page._ranked(sweep)
    assert (order.tolist(), ranks.tolist()) == ([2, 0, 1], [2, 3, 1])


def test_neighbours_are_one_step_away_and_keep_their_ranks():
    table = rows(piece_of("two", "neighbours"))[1:]
    winner, *others = [(int(row[2]), int(row[3])) for row in table]
    assert winner == (5, 30)
    assert sorted(others) == [(5, 8), (5, 60), (10, 30), (10, 60)]
    sharpes = swept("two").metrics["sharpe"]
    for rank, sharpe, fast, slow, *_ in table:
        assert int(rank) == 1 + (sharpes > sharpes[int(fast), int(slow)]).sum()
        assert sharpe == format_metric("sharpe", sharpes[int(fast), int(slow)])


def test_of_very_many_neighbours_the_lowest_are_shown(monkeypatch):
    monkeypatch.setattr(grid_page, "MOST_NEIGHBOURS", 2)
    ranks = [int(row[0]) for row in rows(grid_page.neighbours(swept("two")))[1:]]
    assert len(ranks) == 3 and ranks[0] == 1
    assert ranks[1:] == sorted(int(row[0]) for row in rows(piece_of("two", "neighbours"))[2:])[-2:]


def test_what_was_tried_adds_up():
    assert rows(piece_of("two", "tried")) == [
        ["Parameter", "Values", "Winner"],
        ["fast_window", "5, 10, 20", "5"],
        ["slow_window", "8, 30, 60, 100", "30"],
        ["", "number", "meaning"],
        ["combinations", "12", "of all values"],
        ["tried", "10", "trials, which the Sharpe ratio is deflated by at least"],
        ["refused", "2", "by the strategy, or for want of bars"],
    ]
    assert rows(piece_of("where", "tried"))[-3:] == [
        ["tried", "7", "trials, which the Sharpe ratio is deflated by at least"],
        ["refused", "1", "by the strategy, or for want of bars"],
        ["left out", "4", "by where: fast_window < 20"],
    ]


def test_what_was_not_reached_is_told():
    cut = dataclasses.replace(swept("two"), n_trials=8)
    assert rows(grid_page.tried(cut))[-1] == ["not reached", "2", "when the sweep was interrupted"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([5, 10, 15, 20], "5 to 20 in steps of 5 (4 values)"),
        ([0.1, 0.2, 0.3, 0.4], "0.1 to 0.4 in steps of 0.1 (4 values)"),
        ([2, 1], "2, 1"),
        ([1, 2, 4, 8], "1, 2, 4, 8"),
        (["a", "b", "c", "d"], "a, b, c, d"),
        ([True, False], "True, False"),
        ([k * k for k in range(100)], "0, 1 … 9801 (100 values)"),
        ([-1.5, 2.0], "\u22121.5, 2"),
    ],
)
def test_values_are_listed_as_a_range_or_one_by_one(values, said):
    assert grid_page._listed(values) == said


# ---- maps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number"), [("two", 1), ("three", 3), ("line", 1), ("one_trial", 1), ("words", 1), ("sample", 3)]
)
def test_every_pair_of_parameters_has_its_map(monkeypatch, name, number):
    charts = shown(monkeypatch, name)
    assert len(charts) == number
    kinds = "as dots" if name == "sample" else ("as a map", "as a line")
    assert all(chart.alt.endswith(kinds) for chart in charts)


def test_map_of_a_sample_has_a_dot_for_every_point():
    """Hardly two points share a value, so that none of them is left out for a parameter that is not drawn."""
    sweep = swept("sample")
    chart, sharpes = sweep.heatmap(), sweep.metrics["sharpe"]
    dots = [line for line in chart.axes[0].lines if line.get_markerfacecolor() != "none"]
    drawn = np.concatenate([line.get_xydata() for line in dots])
    assert sorted(map(tuple, drawn)) == sorted((float(f), float(s)) for f, s, _ in sweep.metrics.index)
    (ring,) = [line for line in chart.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert ring.get_xydata().tolist() == [list(map(float, sharpes.idxmax()[:2]))]
    assert f"Sharpe from {sharpes.min():.2f} to {sharpes.max():.2f}" in chart.caption.replace("\u2212", "-")
    assert "blank" not in chart.caption and "Held" not in chart.caption


def test_map_of_a_sample_can_be_held_at_a_value():
    sweep = swept("sample")
    held = sweep.metrics.index.get_level_values("signal_window")[0]
    chart = sweep.heatmap("cagr", at={"signal_window": held})
    dots = sum(len(line.get_xdata()) for line in chart.axes[0].lines if line.get_markerfacecolor() != "none")
    assert dots == (sweep.metrics.index.get_level_values("signal_window") == held).sum()
    assert f"Held at signal_window {held}." in chart.caption
    assert ("winner" in chart.caption) == (sweep.best().params["signal_window"] == held)


def test_of_many_pairs_the_first_are_drawn_and_the_rest_is_told(monkeypatch):
    monkeypatch.setattr(grid_page, "MOST_MAPS", 2)
    *charts, note = shown(monkeypatch, "three")
    assert len(charts) == 2
    assert words(note) == "These are the first 2 of 3 pairs of parameters."


def cells(chart):
    """The numbers of a map by (row, column)."""
    return {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in chart.axes[0].texts}


def test_map_shows_the_metric_of_each_combination_and_leaves_the_refused_blank():
    metrics = swept("two").metrics
    drawn = cells(swept("two").heatmap("cagr"))
    fast, slow = PAIRS["fast_window"], PAIRS["slow_window"]
    assert drawn == {
        (slow.index(s), fast.index(f)): f"{100.0 * value:.1f}".replace("-", "\u2212")
        for (f, s), value in metrics["cagr"].items()
    }
    assert "2 cells are blank" in swept("two").heatmap().caption


def test_map_may_be_turned_round():
    upright, turned = swept("two").heatmap(), swept("two").heatmap(x="slow_window")
    assert (turned.axes[0].get_xlabel(), turned.axes[0].get_ylabel()) == ("slow_window", "fast_window")
    assert {(x, y): text for (y, x), text in cells(turned).items()} == cells(upright)
    assert cells(swept("two").heatmap(x="slow_window", y="fast_window")) == cells(turned)
    assert cells(swept("two").heatmap(y="fast_window")) == cells(turned)


def test_map_is_cut_where_the_winner_is_or_where_it_is_asked_for():
    sweep = swept("three")
    best = sweep.best().params
    sharpes = sweep.metrics["sharpe"]
    for chart, signal in ((sweep.heatmap(), best["signal_window"]), (sweep.heatmap(at={"signal_window": 5}), 5)):
        assert f"Held at signal_window {signal}." in chart.caption
        assert cells(chart)[0, 1] == format_metric("sharpe", sharpes[8, 20, signal])
    assert "Outlined: the winner" in sweep.heatmap().caption
    other = next(value for value in (3, 5) if value != best["signal_window"])
    assert "winner" not in sweep.heatmap(at={"signal_window": other}).caption


def test_parameter_that_is_held_is_not_drawn():
    chart = swept("three").heatmap(at={"fast_window": 8})
    assert (chart.axes[0].get_xlabel(), chart.axes[0].get_ylabel()) == ("slow_window", "signal_window")


def test_values_are_drawn_in_their_order_however_they_were_listed():
    prices = plain.random_bars(2, 300)
    mixed = run_grid(prices, "momentum", {"window": [30, 10, 20]}).heatmap()
    sorted_ = run_grid(prices, "momentum", {"window": [10, 20, 30]}).heatmap()
    assert mixed.svg() == sorted_.svg()


def test_one_parameter_is_drawn_as_a_line_with_the_winner_in_a_ring():
    sweep = swept("line")
    line, ring = sweep.heatmap().axes[0].lines[0], sweep.heatmap().axes[0].lines[-1]
    assert line.get_xdata().tolist() == list(range(10, 60, 5))
    assert line.get_ydata().tolist() == sweep.metrics["sharpe"].tolist()
    assert ring.get_xdata().tolist() == [sweep.best().params["window"]]


def test_holding_is_drawn_into_maps_of_the_sharpe_ratio_only():
    assert "above holding, 1.24" in swept("two").heatmap().caption
    assert "holding" not in swept("two").heatmap("cagr").caption


def test_winner_of_a_sweep_without_sharpe_ratios_is_that_of_the_metric():
    prices = plain.random_bars(2, 300)
    sweep = run_grid(prices, "momentum", {"window": [10, 20, 30]}, metrics=["total_return"])
    assert (
        f"the winner, window {sweep.best('total_return').params['window']}: " in sweep.heatmap("total_return").caption
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"metric": "shrpe"}, "the sweep has no 'shrpe'; did you mean 'sharpe'"),
        ({"x": "fast_windo"}, "the grid has no parameter 'fast_windo'; did you mean 'fast_window'"),
        ({"at": {"windows": 3}}, "the grid has no parameter 'windows'"),
        ({"at": {"signal_window": 4}}, "the grid has no signal_window 4, it has [3, 5, 9, 12]"),
        ({"x": "fast_window", "at": {"fast_window": 5}}, "x and y must be parameters that at does not hold"),
        ({"at": {"fast_window": 5, "slow_window": 20, "signal_window": 3}}, "nothing to draw"),
    ],
    ids=str,
)
def test_map_that_cannot_be_drawn_is_refused(asked, said):
    with pytest.raises(ParameterError, match=re.escape(said)):
        swept("three").heatmap(**asked)


def test_winner_of_a_cost_is_its_lowest_on_a_map():
    prices = plain.random_bars(2, 300)
    sweep = run_grid(prices, "momentum", {"window": [10, 20, 30]}, metrics=["ulcer_index", "n_trades"])
    lowest = sweep.metrics["ulcer_index"].idxmin()
    assert f"the winner, window {lowest}: " in sweep.heatmap("ulcer_index").caption
    assert f"the winner, window {lowest}: " in sweep.heatmap("n_trades").caption


def test_map_of_several_symbols_asks_for_one():
    sweep = run_grid({"A": plain.random_bars(1, 100), "B": plain.random_bars(2, 100)}, "momentum", {"window": [5, 9]})
    with pytest.raises(ParameterError, match="choose one symbol"):
        sweep.heatmap()
    assert sweep.by_symbol["B"].heatmap().alt == "Sharpe by window, as a line"


# ---- the grid as text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("fast_window 5:20:5, slow_window 50|100", {"fast_window": [5, 10, 15, 20], "slow_window": [50, 100]}),
        ("window 5:21:5", {"window": [5, 10, 15, 20]}),
        ("window 3:6", {"window": [3, 4, 5, 6]}),
        ("window 7", {"window": [7]}),
        ("window 7:7:3", {"window": [7]}),
        ("width 0.1:0.5:0.1", {"width": [0.1, 0.2, 0.3, 0.4, 0.5]}),
        ("width 1:2:.5", {"width": [1.0, 1.5, 2.0]}),
        ("lower -2:2:2", {"lower": [-2, 0, 2]}),
        ("width 1|2.5|1e-3", {"width": [1, 2.5, 0.001]}),
        (" a  = 1 | 2 ,\n b\t3:4 , ", {"a": [1, 2], "b": [3, 4]}),
        ("rule rising|falling, invert true|False", {"rule": ["rising", "falling"], "invert": [True, False]}),
    ],
)
def test_grid_is_read_from_text(text, grid):
    found = read_grid(text)
    assert found == grid
    assert [list(map(type, values)) for values in found.values()] == [list(map(type, v)) for v in grid.values()]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "grid must name parameters and their values, such as 'fast_window 5:60:5, slow_window 20|50|200', got ''"),
        (None, "got None"),
        ({"window": [1]}, "got {'window': [1]}"),
        ("window", "part 'window': give a name and its values, such as"),
        ("window 5:9, , lower 3", "part '': give a name"),
        ("5:9:1", "part '5:9:1': give a name"),
        ("window 5:9:1:2", "part 'window 5:9:1:2': a range is first:last or first:last:step, of numbers"),
        ("window 5:x:1", "part 'window 5:x:1': a range is"),
        ("window 5:", "part 'window 5:': a range is"),
        ("window 5:nan", "a range is"),
        ("window 60:5:5", "part 'window 60:5:5': the last, 5, is below the first"),
        ("window 5:60:0", "part 'window 5:60:0': the step must be above 0"),
        ("window 5:60:-5", "the step must be above 0"),
        ("window 5||7", "part 'window 5||7': '' is neither a number nor a word"),
        ("window 5|inf-", "'inf-' is neither a number nor a word"),
        ("window 5, window 6", "grid names window twice"),
        ("window 1:1e99", "part 'window 1:1e99': more than 1,000,000 values"),
        ("a 1:1000, b 1:1001", "grid has 1,001,000 combinations, and a report takes 1,000,000"),
    ],
    ids=str,
)
def test_grid_that_cannot_be_read_names_its_part(text, said):
    with pytest.raises(ParameterError, match=re.escape(said)):
        read_grid(text)


numbers = st.integers(-999, 999) | st.floats(-99.0, 99.0).map(lambda value: round(value, 3))
parts = st.lists(numbers, min_size=1, max_size=4).map(lambda values: "|".join(map(str, values)))
grids = st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True), parts, min_size=1, max_size=3)
blanks = st.sampled_from(["", " ", "  ", "\t"])


@given(grids, blanks, blanks)
def test_grid_has_one_way_of_being_written(parts, before, after):
    text = ",".join(f"{before}{name}{after} {after}{values}{before}" for name, values in parts.items())
    plainly = ", ".join(f"{name} {values}" for name, values in parts.items())
    assert plain_grid(text) == plainly == plain_grid(plainly)
    assert read_grid(text) == read_grid(plainly)


@given(st.integers(-50, 50), st.integers(0, 60), st.integers(1, 9), st.sampled_from([0, 1, 2]))
def test_range_is_that_of_whole_numbers_at_any_place_of_the_point(first, length, step, digits):
    """No rounding: what is written with one decimal is read as such."""
    written = [f"{number / 10**digits:.{digits}f}" for number in (first, first + length, step)]
    whole = range(first, first + length + 1, step)
    expected = [number if digits == 0 else float(f"{number / 10**digits:.{digits}f}") for number in whole]
    assert read_grid(f"window {':'.join(written)}")["window"] == expected


def test_check_counts_what_where_leaves():
    space, numbers = check_grid("fast_window 5|10|20, slow_window 10|30", "fast_window < slow_window", "ma_crossover")
    assert (space.size, numbers.tolist()) == (6, [0, 1, 3, 5])


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("windo 5:9", None, "ma_crossover has no parameter 'windo'"),
        ("fast_window 0.5:1.5:0.5", None, "fast_window must be a whole number, got 0.5"),
        ("fast_window few|many", None, "fast_window must be a whole number, got 'few'"),
        ("fast_window 5|5", None, "the grid has a value of fast_window twice"),
        ("fast_window 5:9", "fast_window > 9", "where leaves out all 5 combinations: 'fast_window > 9'"),
        ("fast_window 5:9", "slow_window > 9", "where: the grid has no parameter 'slow_window'"),
        ("fast_window 5:9", "__import__('os')", "where"),
        ("fast_window 5:9", "", "where cannot be read: ''"),
    ],
    ids=str,
)
def test_check_says_what_is_wrong(text, where, said):
    with pytest.raises(ParameterError, match=re.escape(said)):
        check_grid(text, where, "ma_crossover")


def test_a_million_combinations_are_checked_and_not_more():
    space, numbers = check_grid("fast_window 1:1000, slow_window 1001:2000", None, "ma_crossover")
    assert space.size == numbers.size == 1_000_000
    assert math.prod(space.shape) == grid_page.MOST_COMBINATIONS
