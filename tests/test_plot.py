"""Charts draw every kind of run, say in words what they show, and are the same bytes each time."""

import functools
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import plain
import pytest
from test_page import HOSTILE, course, every_run, minutes, percent, run

from backgrid import plot
from backgrid.bars import drawn_bars
from backgrid.engine import run_backtest

CHARTS = {
    "equity": lambda prices, result: result.plot(),
    "signals": lambda prices, result: plot.signals_chart(prices["Close"], result.trades),
    "rolling": lambda prices, result: plot.rolling_chart(result.returns, result.settings["periods_per_year"]),
    "trades": lambda prices, result: plot.trades_chart(result.trades),
}
every_chart = pytest.mark.parametrize("kind", CHARTS)


def draw(kind, name):
    return CHARTS[kind](*run(name))


@functools.cache
def drawing(kind, name):
    """A chart and its SVG; one for all tests that only look at it."""
    chart = draw(kind, name)
    return chart, chart.svg()


def texts(svg):
    """Every text of a drawing, with plain minus signs."""
    found = [
        "".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if element.tag[-5:] == "}text"
    ]
    return [text.strip().replace("\u2212", "-").replace("\u202f", " ") for text in found]


def said(chart):
    return chart.caption.replace("\u2212", "-").replace("\u202f", " ")


def tick_labels(axis):
    """Labels of the ticks that lie within a drawn axis, as they were meant."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_visible()]
    return [tick.label1.get_text().replace("\u2212", "-").replace("\u202f", " ") for tick in ticks]


# ---- any run ---------------------------------------------------------------------------------------------------------


@every_chart
@every_run
def test_chart_draws_every_run_without_odd_numbers(name, kind):
    chart, svg = drawing(kind, name)
    for text in (*texts(svg), chart.alt, chart.caption):
        assert not re.search(r"\b(nan|NaN|inf|None|NaT)\b", text), text
    for numbers in re.findall(r' (?:d|points|x|y|transform)="([^"]*)"', svg):
        assert not re.search(r"nan|inf", numbers)


@every_chart
def test_chart_is_the_same_bytes_twice(kind):
    chart, svg = drawing(kind, "daily")
    assert chart.svg() == draw(kind, "daily").svg() == svg


@every_chart
def test_chart_is_the_same_whatever_the_user_has_configured(kind):
    with matplotlib.rc_context({"font.size": 30.0, "axes.grid": False, "svg.fonttype": "path", "lines.linewidth": 9.0}):
        svg = draw(kind, "daily").svg()
    assert svg == drawing(kind, "daily")[1]


@every_chart
@every_run
def test_chart_has_words_for_those_who_cannot_see_it(name, kind):
    chart, _ = drawing(kind, name)
    assert len(chart.alt) > 20 and len(chart.caption) > 10
    assert repr(chart) == f"<Chart: {chart.alt}>"


def test_notebook_gets_the_drawing_with_its_words():
    chart, svg = drawing("equity", "daily")
    data, words = chart._repr_mimebundle_()
    assert data == {"image/svg+xml": svg, "text/plain": repr(chart)}
    assert (words["image/svg+xml"]["alt"], words["image/svg+xml"]["caption"]) == (chart.alt, chart.caption)


@every_chart
def test_colours_are_those_of_the_page(kind):
    """Each colour is a variable with the light palette as fallback; none stands alone."""
    _, svg = drawing(kind, "daily")
    for variable, color in re.findall(r"var\((--\w+), (#\w{6})\)", svg):
        assert plot.VARIABLES[color] == variable
    assert re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\([^)]*\)", "", svg)) == []


def test_ids_of_two_charts_on_one_page_differ():
    ids = [set(re.findall(r' id="([^"]+)"', drawing(kind, "daily")[1])) for kind in CHARTS]
    assert sum(map(len, ids)) == len(set.union(*ids))


@every_chart
def test_references_of_a_drawing_lead_to_its_own_parts(kind):
    _, svg = drawing(kind, "daily")
    ids = set(re.findall(r' id="([^"]+)"', svg))
    assert {"".join(pair) for pair in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)} <= ids


@every_chart
@pytest.mark.parametrize("name", ["daily", "hourly", "minutes", "constant", "equal_trades"])
def test_labels_of_the_axes_are_drawn_as_they_were_meant(name, kind):
    """What makes a drawing smaller must not round its labels: 1.055 is not 1.05."""
    chart, svg = drawing(kind, name)
    drawn = texts(svg)
    for axes in chart.axes:
        for label in (*tick_labels(axes.yaxis), *tick_labels(axes.xaxis)):
            assert label in drawn


def test_neighbouring_ticks_have_different_labels():
    prices, _ = run("hourly")
    few = prices.iloc[1000:1060]
    labels = texts(plot.signals_chart(few["Close"], run_backtest(few, "buy_and_hold").trades).svg())
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("cash", [1.0, 100_000.0, 123_456.0, 1e12])
@pytest.mark.parametrize("growth", [1.0, 1.01, 1.3, 50.0])
def test_account_axis_has_a_few_labels_whatever_the_account(cash, growth):
    result = run_backtest(course(np.linspace(100.0, 100.0 * growth, 60)), "buy_and_hold", cash=cash)
    chart = result.plot()
    chart.svg()
    assert 1 <= len(tick_labels(chart.axes[0].yaxis)) <= 10


@pytest.mark.parametrize("name", ["daily", "hourly", "minutes", "half_hour", "long_series"])
def test_time_axis_has_a_few_labels_whatever_the_bars(name):
    chart, _ = drawing("rolling", name)
    assert 2 <= len(tick_labels(chart.axes[-1].xaxis)) <= 10


# ---- hostile texts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [HOSTILE, "$\\frac$", "a_$b_{", "<lambda>", "日本", "&amp;"])
def test_name_of_a_strategy_is_text_and_nothing_else(name):
    _, result = run("two_bars")
    chart = plot.equity_chart(result.equity, result.benchmark, result.positions, name)
    svg = chart.svg()
    assert not [element for element in ElementTree.fromstring(svg).iter() if element.tag.endswith(("script", "img"))]
    assert name in texts(svg)


# ---- long series -----------------------------------------------------------------------------------------------------


@every_chart
def test_drawing_of_a_long_series_stays_small(kind):
    assert len(drawing(kind, "long_series")[1]) < 400_000


@pytest.mark.parametrize("n_bars", [1, 2, 1999, 2000, 2001, 2500, 200_000])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_down_sampling_keeps_the_ends_and_the_extremes(n_bars, missing):
    rng = np.random.default_rng(n_bars)
    values = np.cumsum(rng.normal(size=n_bars))
    values[rng.random(n_bars) < missing] = np.nan
    at = drawn_bars(values)
    assert {0, n_bars - 1} <= set(at)
    if not np.isnan(values).all():
        assert {int(np.nanargmin(values)), int(np.nanargmax(values))} <= set(at)
    assert (np.diff(at) > 0).all()
    assert len(at) == n_bars if n_bars <= 2000 else len(at) <= 2002


def test_down_sampling_keeps_the_extremes_of_every_stretch():
    values = np.random.default_rng(0).normal(size=10_000)
    drawn = set(drawn_bars(values))
    for start in range(0, 10_000, 10):
        stretch = values[start : start + 10]
        assert {start + stretch.argmin(), start + stretch.argmax()} <= drawn


# ---- what captions and alternative texts say -------------------------------------------------------------------------


def test_equity_caption_gives_both_ends_and_the_worst_drawdown():
    _, result = run("daily")
    line, held = result.equity, result.benchmark
    drawdown = line / line.cummax() - 1
    worst = drawdown.idxmin()
    high = line[:worst].idxmax()
    back = drawdown[worst:][drawdown[worst:] == 0.0].index[0]
    assert said(result.plot()) == (
        f"ma_crossover ends at {line.iloc[-1] / 100_000:.2f} times its start, holding at {held.iloc[-1] / 100_000:.2f} "
        f"times. The worst drawdown, {percent(drawdown.min())} on {worst:%Y-%m-%d}, began after {high:%Y-%m-%d} and "
        f"ended on {back:%Y-%m-%d}."
    )


def test_equity_caption_says_that_a_drawdown_goes_on():
    result = run_backtest(course([100.0, 110.0, 99.0, 105.0]), "buy_and_hold", fill="close")
    assert "The worst drawdown, -10.0 % on 2023-01-04, began after 2023-01-03 and had not ended." in said(result.plot())


def test_equity_caption_of_a_run_that_never_fell():
    assert said(draw("equity", "one_open_trade")).endswith("times its start and never was below an earlier high.")


def test_equity_chart_marks_the_worst_drawdown():
    _, result = run("daily")
    assert percent(result.metrics["max_drawdown"]) in texts(drawing("equity", "daily")[1])
    assert not draw("equity", "constant").axes[2].texts


def test_names_at_the_ends_of_touching_lines_are_moved_apart():
    shifts = [
        sorted(note.xyann[1] for note in run_backtest(course(close), target).plot().axes[0].texts)
        for close, target in [([100.0, 101.0], [0.0, 0.0]), ([100.0, 200.0], [0.0, 0.0])]
    ]
    assert shifts == [[-6, 6], [0, 0]]


def test_positions_are_drawn_where_they_are_held():
    """Long for ten bars, flat for ten, short for ten: two stretches in two colours."""
    positions = pd.Series(np.repeat([1.0, 0.0, -1.0], 10), index=pd.bdate_range("2023-01-02", periods=30))
    equity = pd.Series(100.0 + np.arange(30.0), index=positions.index)
    band = plot.equity_chart(equity, equity, positions).axes[1]
    drawn = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in band.patches]
    colors = [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in band.patches]
    assert drawn == [(0.0, 10.0), (20.0, 29.0)]
    assert colors == [plot.ACCENT, plot.LOSS]


def test_signals_stand_at_the_bars_and_prices_of_their_fills():
    _, result = run("daily")
    chart = draw("signals", "daily")
    bought, sold = (np.asarray(marks.get_offsets()) for marks in chart.axes[0].collections)
    closed = result.trades[result.trades["exit_reason"] != "open"]
    assert bought.tolist() == result.trades[["entry_bar", "entry_price"]].to_numpy(float).tolist()
    assert sold.tolist() == closed[["exit_bar", "exit_price"]].to_numpy(float).tolist()
    assert chart.alt == f"Closing price with {len(result.trades)} entries and {len(closed)} exits"


def test_rolling_caption_gives_range_and_share_below_zero():
    _, result = run("daily")
    returns = result.returns
    sharpe = (returns.rolling(126).mean() / returns.rolling(126).std() * np.sqrt(252)).dropna()
    assert said(draw("rolling", "daily")) == (
        f"Over any 126 bars the Sharpe ratio was between {sharpe.min():.2f} and {sharpe.max():.2f}; "
        f"it was negative {percent((sharpe < 0).mean())} of the time."
    )


def test_rolling_line_is_broken_where_nothing_varied():
    returns = pd.Series(np.r_[np.zeros(40), 0.01, -0.01, 0.02, np.zeros(40)])
    returns.index = pd.bdate_range("2023-01-02", periods=returns.size)
    chart = plot.rolling_chart(returns, 252, window=5)
    assert chart.caption.endswith("The line is broken where returns did not vary.")
    line = chart.axes[0].lines[-1].get_ydata()
    assert np.isnan(line[:40]).all() and np.isfinite(line[41:46]).all() and np.isnan(line[-30:]).all()


@pytest.mark.parametrize("name", ["constant", "two_bars", "two_bars_flat"])
def test_rolling_caption_says_that_there_is_nothing_to_show(name):
    assert draw("rolling", name).caption.endswith("there is nothing to roll over.")


def test_trades_caption_counts_gains_and_gives_mean_and_median():
    _, result = run("daily")
    returns = result.trades["trade_return"][result.trades["exit_reason"] != "open"]
    assert said(draw("trades", "daily")) == (
        f"{(returns > 0).sum()} of {len(returns)} closed trades gained; the mean return was "
        f"{percent(returns.mean())}, the median {percent(returns.median()).replace('-0.0', '0.0')}."
    )


@pytest.mark.parametrize("name", ["constant", "one_open_trade"])
def test_trades_caption_says_that_none_was_closed(name):
    assert draw("trades", name).caption == "No trade was closed."


def test_histogram_counts_every_closed_trade_once_and_splits_at_zero():
    _, result = run("daily")
    bins = draw("trades", "daily").axes[0].patches
    closed = result.trades[result.trades["exit_reason"] != "open"]
    assert sum(patch.get_height() for patch in bins) == len(closed)
    lost = sum(patch.get_height() for patch in bins if matplotlib.colors.to_hex(patch.get_facecolor()) == plot.LOSS)
    assert lost == (closed["trade_return"] < 0).sum()


def test_drawdown_is_drawn_to_its_bottom_in_a_long_series():
    result = run_backtest(minutes(50_000), "buy_and_hold")
    lowest = result.plot().axes[2].lines[-1].get_ydata().min()
    assert lowest == result.metrics["max_drawdown"]


def test_short_trades_are_shaded_in_the_colour_of_loss():
    prices = plain.random_bars(2)
    result = run_backtest(prices, np.tile([-1.0] * 5 + [0.0] * 5, 12))
    shades = {matplotlib.colors.to_hex(p.get_facecolor()) for p in CHARTS["signals"](prices, result).axes[0].patches}
    assert shades == {plot.LOSS}
