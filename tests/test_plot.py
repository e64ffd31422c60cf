"""Charts draw every kind of run, say in words what they show, and are the same bytes each time."""

import functools
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_page import HOSTILE, PIECES, course, every_run, minutes, percent, run
from test_portfolio_page import PORTFOLIOS, portfolio, two

from backgrid import plot
from backgrid.bars import bar_text, drawn_bars
from backgrid.engine import run_backtest
from backgrid.portfolio import run_portfolio
from backgrid.portfolio_page import traded

CHARTS = {
    "equity": lambda prices, result: result.plot(),
    "signals": lambda prices, result: plot.signals_chart(prices["Close"], result.trades),
    "rolling": lambda prices, result: plot.rolling_chart(result.returns, result.settings["periods_per_year"]),
    "trades": lambda prices, result: plot.trades_chart(result.trades),
}
every_chart = pytest.mark.parametrize("kind", CHARTS)

SHARED = {
    "weights": lambda result: plot.weights_chart(result.weights),
    "contributions": lambda result: plot.contributions_chart(result.contributions, result.settings["cash"]),
    "cumulative": lambda result: plot.cumulative_chart(result.contributions),
    "turnover": lambda result: plot.turnover_chart(traded(result)),
    "equity": lambda result: result.plot(),
}
every_shared_chart = pytest.mark.parametrize("kind", SHARED)
every_portfolio = pytest.mark.parametrize("name", PORTFOLIOS)


def draw(kind, name):
    return CHARTS[kind](*run(name))


@functools.cache
def shared(kind, name):
    """A chart of a portfolio and its SVG."""
    chart = SHARED[kind](portfolio(name)[1])
    return chart, chart.svg()


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
    assert name in chart.alt
    drawn = next(note.get_text() for note in chart.axes[0].texts if "holding" not in note.get_text())
    assert set(drawn.split("\n")) <= set(texts(svg))
    assert name.replace(" ", "").startswith(re.sub(r"[\n…]", "", drawn).replace(" ", ""))


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


def drawn_line(chart, axes, color):
    """Values of a line as they can be read from the drawing itself, NaN where it is broken.

    Of the paths in this colour the one with most points; places are back in the units of the axes.
    """
    svg = ElementTree.fromstring(chart.svg())
    height = float(svg.get("viewBox").split()[3])
    found = [
        path.get("d") for path in svg.iter() if path.tag[-5:] == "}path" and f"stroke: {color}" in path.get("style", "")
    ]
    points, box = [], axes.get_position()
    for commands in sorted(found, key=len, reverse=True):
        points = [(kind, float(x), float(y)) for kind, x, y in re.findall(r"([ML]) (\S+) (\S+)", commands)]
        top, bottom = (1.0 - box.y1) * height, (1.0 - box.y0) * height
        if all(top - 0.1 <= y <= bottom + 0.1 for _, _, y in points):
            break
    scale = chart.dpi / 72.0
    values = axes.transData.inverted().transform([(x * scale, (height - y) * scale) for _, x, y in points])[:, 1]
    breaks = [place for place, (kind, _, _) in enumerate(points) if kind == "M" and place]
    return np.insert(values, breaks, np.nan)


def spread(values):
    return [float(np.nanmin(values)), float(np.nanmax(values))]


@pytest.mark.parametrize("name", ["daily", "hourly", "long_series"])
def test_lowest_and_highest_of_a_drawing_are_those_of_the_data(name):
    """Read from the paths of the SVG, whose two decimals are half a hundredth of a point at most."""
    prices, result = run(name)
    chart = result.plot()
    for axes, color, values in (
        (chart.axes[0], "var(--accent, #1f6feb)", result.equity),
        (chart.axes[0], "var(--neutral, #6b747e)", result.benchmark),
        (chart.axes[2], "var(--loss, #c2410c)", result.equity / result.equity.cummax() - 1.0),
    ):
        drawn = drawn_line(chart, axes, color)
        assert spread(drawn) == pytest.approx(spread(values), rel=1e-4, abs=1e-4)
        assert [drawn[0], drawn[-1]] == pytest.approx([values.iloc[0], values.iloc[-1]], rel=1e-4, abs=1e-4)
    chart = plot.signals_chart(prices["Close"], result.trades)
    assert spread(drawn_line(chart, chart.axes[0], "var(--neutral, #6b747e)")) == pytest.approx(
        spread(prices["Close"]), rel=1e-4
    )


def test_line_of_a_long_series_stays_broken_where_it_has_no_values():
    """100,000 bars of which the ninth tenth does not vary: the ratio has two parts, and each ends where it did."""
    index = pd.date_range("2020-01-01", periods=100_000, freq="min")
    returns = pd.Series(np.random.default_rng(1).normal(0.0, 1e-4, index.size), index)
    returns.iloc[80_000:90_000] = 0.0
    line = plot.rolling_chart(returns, 252 * 390, window=100).axes[0].lines[-1]
    known = np.isfinite(line.get_ydata())
    places = line.get_xdata()[known]
    (gap,) = np.flatnonzero(np.diff(places) > 1000)
    assert 79_900 <= places[gap] <= 80_100 and 89_900 <= places[gap + 1] <= 90_100
    assert not known[(line.get_xdata() > places[gap]) & (line.get_xdata() < places[gap + 1])].any()


def test_line_of_a_short_series_has_every_bar():
    _, result = run("daily")
    assert result.plot().axes[0].lines[1].get_ydata().tolist() == result.equity.tolist()


def test_dots_of_many_trades_are_counted_and_include_the_longest():
    _, result = run("long_series")
    closed = result.trades[result.trades["exit_reason"] != "open"]
    chart = draw("trades", "long_series")
    dots = np.asarray(chart.axes[1].collections[0].get_offsets())
    assert len(dots) <= 1504 < len(closed)
    assert spread(dots[:, 0]) == spread(closed["bars_held"]) and spread(dots[:, 1]) == spread(closed["trade_return"])
    assert said(chart).endswith(f"{len(dots):,} of them have a dot, the extremes included.")


def test_million_bars_make_a_small_page():
    """All charts and tables but the summary, whose size does not depend on the bars."""
    prices = minutes(1_000_000)
    result = run_backtest(prices, fees=0.00001)
    drawings = [make(prices, result).svg() for make in CHARTS.values()]
    tables = [make(prices, result) for name, make in PIECES.items() if name not in ("summary", "stress")]
    assert len(result.trades) > 10_000
    assert sum(len(part.encode()) for part in (*drawings, *tables)) < 1_500_000


def test_very_many_folds_are_lines_with_their_extremes():
    """20,000 folds of five bars: lines in place of bars, a drawing that stays small, and words that say so."""
    rng, starts = np.random.default_rng(2), np.arange(0, 100_000, 5)
    index = pd.date_range("2020-01-01", periods=100_000, freq="min")
    inside, outside = rng.normal(1.0, 1.0, starts.size), rng.normal(0.0, 1.0, starts.size)
    chart = plot.samples_chart(inside, outside, starts, index)
    dark, blue = chart.axes[0].lines[:2]
    assert spread(dark.get_ydata()) == spread(inside) and spread(blue.get_ydata()) == spread(outside)
    assert chart.caption.startswith("The dark line is the Sharpe of what was chosen") and "blue line" in chart.alt
    chosen = pd.DataFrame(
        {"window": rng.integers(5, 200, starts.size), "rule": rng.choice(["up", "down"], starts.size)}
    )
    steps = plot.choices_chart(chosen, starts, index)
    assert spread(steps.axes[0].lines[0].get_ydata()) == spread(chosen["window"])
    assert len(chart.svg()) < 250_000 and len(steps.svg()) < 250_000


def test_profile_of_very_many_values_keeps_the_extremes():
    values = pd.Series(np.random.default_rng(4).normal(size=50_000), pd.RangeIndex(50_000, name="window"))
    chart = plot.profile_chart(values, winner=int(values.argmax()))
    assert spread(chart.axes[0].lines[0].get_ydata()) == spread(values)
    assert len(chart.svg()) < 100_000


# ---- what is read out ------------------------------------------------------------------------------------------------


def readings(chart):
    """What the script of a page reads from a drawing: a table of times, bars and numbers."""
    svg = ElementTree.fromstring(chart.svg())
    lists = {key: svg.get(f"data-{key}").split() for key in ("bars", "times", "account", "benchmark", "drawdown")}
    table = pd.DataFrame({key: np.array(values, dtype=float) for key, values in lists.items()})
    table["bars"] = table["bars"].cumsum()
    seconds = table["times"].where(table.index == 0, table["times"] * int(svg.get("data-unit"))).cumsum()
    table["times"] = pd.to_datetime(seconds, unit="s")
    return table, svg


@pytest.mark.parametrize("name", ["daily", "hourly", "minutes", "two_bars", "ruined"])
def test_every_bar_of_a_short_run_is_read_out_as_it_was(name):
    prices, result = run(name)
    if len(prices) > plot.MOST_READ:
        result = run_backtest(prices.iloc[: plot.MOST_READ])
    table, svg = readings(result.plot())
    index = result.equity.index
    digits = int(svg.get("data-digits"))
    assert table["bars"].tolist() == list(range(len(index)))
    assert [str(time)[:digits] for time in table["times"]] == [bar_text(index, bar) for bar in range(len(index))]
    assert table["account"].to_numpy() == pytest.approx(result.equity.to_numpy(), abs=0.5, rel=1e-5)
    assert table["benchmark"].to_numpy() == pytest.approx(result.benchmark.to_numpy(), abs=0.5, rel=1e-5)
    drawdown = result.equity / result.equity.cummax() - 1.0
    assert (table["drawdown"] / 1000.0).to_numpy() == pytest.approx(drawdown.to_numpy(), abs=0.00051)


def test_clock_that_is_put_back_is_read_out_as_it_was():
    """New York, 2023-11-05: 01:00 stands twice."""
    index = pd.date_range("2023-11-05 00:00", periods=4, freq="h", tz="America/New_York")
    line = pd.Series([100.0, 101.0, 102.0, 103.0], index)
    table, _ = readings(plot.equity_chart(line, line, line * 0.0))
    assert [f"{time:%H:%M}" for time in table["times"]] == ["00:00", "01:00", "01:00", "02:00"]


def test_of_a_long_run_the_extremes_are_read_out():
    _, result = run("long_series")
    table, svg = readings(result.plot())
    bars = table["bars"].to_numpy(dtype=int)
    drawdown = result.equity / result.equity.cummax() - 1.0
    for line in (result.equity, result.benchmark, drawdown):
        assert {int(line.to_numpy().argmin()), int(line.to_numpy().argmax())} <= set(bars)
    assert len(bars) <= plot.MOST_READ + 6 and (bars[0], bars[-1]) == (0, len(result.equity) - 1)
    assert [f"{time:%Y-%m-%d %H:%M}" for time in table["times"][:9]] == [
        bar_text(result.equity.index, bar) for bar in bars[:9]
    ]
    assert sum(map(len, svg.attrib.values())) < 60_000


def test_readings_know_where_the_account_is_drawn():
    """The frame and the scale lead from a bar and its account to the point that the line has there."""
    _, result = run("daily")
    _, svg = readings(result.plot())
    left, right, *_, end = map(float, svg.get("data-frame").split())
    low, high, floor, ceiling = map(float, svg.get("data-scale").split())
    x = left + (right - left) * np.arange(len(result.equity)) / end
    y = floor + (ceiling - floor) * np.log(result.equity / low) / np.log(high / low)
    commands = [path.get("d") for path in svg.iter() if "stroke: var(--accent" in path.get("style", "")]
    points = re.findall(r"[ML] (\S+) (\S+)", max(commands, key=len))
    assert np.array(points, dtype=float) == pytest.approx(np.column_stack([x, y]), abs=0.01)


def test_folds_are_read_out_where_they_were_drawn_anew():
    """folds_chart makes the figure higher after equity_chart has drawn it."""
    line = pd.Series(np.linspace(100.0, 200.0, 60), pd.bdate_range("2023-01-02", periods=60))
    chosen = pd.DataFrame({"window": [1, 2]})
    plain_frame, high_frame = (
        readings(chart)[1].get("data-frame").split()
        for chart in (
            plot.equity_chart(line, line, line * 0.0),
            plot.folds_chart(line, line, line * 0.0, np.array([0, 30]), chosen),
        )
    )
    assert plain_frame[:2] == high_frame[:2] and float(high_frame[2]) == pytest.approx(0.44 * 72.0, abs=0.01)


def test_other_charts_are_not_read_out():
    assert "data-" not in drawing("rolling", "daily")[1]


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
        for close, target in [([100.0, 100.0], [0.0, 0.0]), ([100.0, 200.0], [0.0, 0.0])]
    ]
    assert shifts == [pytest.approx([-plot.LINE / 2, plot.LINE / 2]), [0, 0]]


def test_positions_are_drawn_where_they_are_held():
    """Long for ten bars, flat for ten, short for ten: two stretches in two colours."""
    positions = pd.Series(np.repeat([1.0, 0.0, -1.0], 10), index=pd.bdate_range("2023-01-02", periods=30))
    equity = pd.Series(100.0 + np.arange(30.0), index=positions.index)
    band = plot.equity_chart(equity, equity, positions).axes[1]
    drawn = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in band.patches]
    colors = [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in band.patches]
    assert drawn == [(0.0, 10.0), (20.0, 29.0)]
    assert colors == [plot.ACCENT, plot.LOSS]


def test_what_is_invested_in_several_symbols_has_no_side():
    positions = pd.Series(np.repeat([1.0, 0.0], 10), index=pd.bdate_range("2023-01-02", periods=20))
    equity = pd.Series(100.0 + np.arange(20.0), index=positions.index)
    band = plot.equity_chart(equity, equity, positions, invested=True).axes[1]
    assert [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in band.patches] == [plot.NEUTRAL]
    assert [tick.get_text() for tick in band.get_yticklabels()] == ["invested"]


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


# ---- portfolios ------------------------------------------------------------------------------------------------------


@every_shared_chart
@every_portfolio
def test_chart_of_a_portfolio_draws_every_run_without_odd_numbers(name, kind):
    chart, svg = shared(kind, name)
    for text in (*texts(svg), chart.alt, chart.caption):
        assert not re.search(r"\b(nan|NaN|inf|None|NaT)\b|-0(\.0+)?( %|$)", text), text
    for numbers in re.findall(r' (?:d|points|x|y|transform)="([^"]*)"', svg):
        assert not re.search(r"nan|inf", numbers)
    assert len(chart.alt) > 20 and len(chart.caption) > 10


@every_shared_chart
def test_chart_of_a_portfolio_is_the_same_bytes_twice(kind):
    assert SHARED[kind](portfolio("six")[1]).svg() == shared(kind, "six")[1]


@every_shared_chart
@pytest.mark.parametrize("name", ["six", "long_short", "many"])
def test_colours_of_a_portfolio_are_those_of_the_page(name, kind):
    _, svg = shared(kind, name)
    for variable, color in re.findall(r"var\((--[\w-]+), (#\w{6})\)", svg):
        assert plot.VARIABLES[color] == variable
    assert re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\([^)]*\)", "", svg)) == []


@every_shared_chart
@pytest.mark.parametrize("name", ["six", "many", "long_series"])
def test_drawing_of_a_portfolio_stays_small(name, kind):
    assert len(shared(kind, name)[1]) < 250_000


@every_shared_chart
@every_portfolio
def test_every_text_of_a_portfolio_lies_within_its_drawing(name, kind):
    """Measured in the font of the tests, which is wider than most."""
    chart, _ = shared(kind, name)
    found = [note for axes in chart.axes for note in axes.texts]
    found += [label for axes in chart.axes for label in (*axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label)]
    for text in found:
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert box.x0 >= -1.0 and box.x1 <= chart.bbox.width + 1.0, text.get_text()


def contrast(color, ground):
    """As WCAG 2.1 computes it, 1 to 21."""

    def luminance(color):
        parts = np.array(matplotlib.colors.to_rgb(color))
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(color), luminance(ground)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", ["#ffffff", "#0f1318"])
def test_colours_of_series_stand_out_on_a_light_and_on_a_dark_page(ground):
    """A contrast of 3 is what WCAG 2.1 asks of graphics."""
    assert min(contrast(color, ground) for color in plot.SERIES) >= 3.0


def test_colours_of_text_can_be_read_on_a_light_and_on_a_dark_page():
    """A contrast of 4.5 is what it asks of text."""
    style = (Path(plot.__file__).parent / "html" / "style.css").read_text(encoding="utf-8")
    palettes = [
        dict(re.findall(r"--(\w+): (#\w{6})", rules)) for rules in re.findall(r"\{([^{}]*--page:[^}]*)\}", style)
    ]
    assert len(palettes) == 3
    for palette in palettes:
        for name in ("ink", "muted", "accent", "neutral", "loss"):
            assert contrast(palette[name], palette["page"]) >= 4.5, name
    assert {plot.VARIABLES[color]: color for color in (plot.INK, plot.NEUTRAL)} == {
        "--ink": palettes[0]["ink"],
        "--neutral": palettes[0]["neutral"],
    }


DEUTAN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTAN = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
TRITAN = [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]


@pytest.mark.parametrize("seen", [np.eye(3), DEUTAN, PROTAN, TRITAN], ids=["all", "deutan", "protan", "tritan"])
def test_colours_of_series_differ_for_every_eye(seen):
    """Simulated by Machado, Oliveira and Fernandes (2009), severity 1; 10 in Oklab is a plain difference."""
    to_cone = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    to_lab = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    parts = np.array([matplotlib.colors.to_rgb(color) for color in plot.SERIES])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    lab = np.cbrt(np.clip(linear @ np.transpose(seen), 0.0, 1.0) @ np.transpose(to_cone)) @ np.transpose(to_lab)
    apart = np.linalg.norm(lab[:, None] - lab, axis=-1) * 100.0
    assert apart[np.triu_indices(len(lab), 1)].min() > 10.0


def test_weights_lie_on_top_of_each_other_and_the_rest_is_cash():
    weights = pd.DataFrame(
        {"A": [0.0, 0.25, 0.25], "B": [0.0, 0.5, 0.25]}, index=pd.bdate_range("2023-01-02", periods=3)
    )
    chart = plot.weights_chart(weights)
    cash, b, a = (patch.get_xy() for patch in chart.axes[0].patches)
    assert a[1:4].tolist() == [[0.0, 0.0], [1.0, 0.25], [2.0, 0.25]]
    assert b[1:4].tolist() == [[0.0, 0.0], [1.0, 0.75], [2.0, 0.5]]
    assert cash[:, 1].max() == 1.0
    assert [note.get_text() for note in chart.axes[0].texts] == ["A", "B", "cash"]
    assert [note.xy[1] for note in chart.axes[0].texts] == [0.125, 0.375, 0.75]
    assert said(chart) == (
        "On average 41.7 % of the account was long. The largest weight at a close was 50.0 % in B on 2023-01-03."
    )


def test_weights_of_which_one_is_negative_are_lines():
    weights = pd.DataFrame({"A": [0.5, 0.5], "B": [-0.5, 0.0]}, index=pd.bdate_range("2023-01-02", periods=2))
    chart = plot.weights_chart(weights)
    assert not chart.axes[0].patches
    assert [line.get_ydata().tolist() for line in chart.axes[0].lines[1:]] == [[0.5, 0.5], [-0.5, 0.0]]
    assert said(chart).startswith("On average 50.0 % of the account was long, 25.0 % short.")


def test_borrowed_weights_reach_above_the_account():
    weights = pd.DataFrame({"A": [0.9, 0.9], "B": [0.6, 0.9]}, index=pd.bdate_range("2023-01-02", periods=2))
    chart = plot.weights_chart(weights)
    assert chart.axes[0].get_ylim() == (0.0, 1.8)
    assert "cash" not in [note.get_text() for note in chart.axes[0].texts]


def test_of_many_symbols_the_largest_are_named_and_the_rest_added_up():
    values = np.tile(np.arange(1.0, 16.0) / 200.0, (2, 1))
    index, names = pd.bdate_range("2023-01-02", periods=2), [f"S{k}" for k in range(15)]
    chart = plot.weights_chart(pd.DataFrame(values, index=index, columns=names))
    shown = [note.get_text() for note in chart.axes[0].texts]
    assert shown == [*names[4:], "4 others", "cash"]
    tops = [patch.get_xy()[1, 1] for patch in chart.axes[0].patches][1:]
    assert tops[0] == pytest.approx(values[0].sum())
    assert tops[0] - tops[1] == pytest.approx(values[0, :4].sum())


def test_symbol_has_one_colour_in_every_chart_of_a_page():
    result = portfolio("many")[1]

    def colours(chart):
        return {note.get_text(): note.arrow_patch.get_edgecolor() for note in chart.axes[0].texts}

    weights, brought = colours(SHARED["weights"](result)), colours(SHARED["cumulative"](result))
    both = weights.keys() & brought.keys()
    assert len(both) > 6
    assert {name: weights[name] for name in both} == {name: brought[name] for name in both}


def test_bars_show_what_each_symbol_brought_the_best_first():
    contributions = pd.DataFrame({"A": [0.0, -300.0], "B": [1000.0, 500.0], "C": [0.0, 0.0]})
    contributions.index = pd.bdate_range("2023-01-02", periods=2)
    chart = plot.contributions_chart(contributions, 10_000.0)
    bars_drawn = chart.axes[0].patches
    assert [bar.get_width() for bar in bars_drawn] == [1500.0, 0.0, -300.0]
    assert [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in bars_drawn] == [
        plot.ACCENT,
        plot.ACCENT,
        plot.LOSS,
    ]
    drawn = texts(chart.svg())
    assert {"B", "C", "A", "1,500  (15.0 %)", "0  (0.0 %)", "-300.00  (-3.0 %)"} <= set(drawn)
    assert said(chart) == (
        "B brought most, 1,500, A least, -300.00. Together they brought 1,200, 12.0 % of the starting cash."
    )


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ({"A": -30.0, "B": -10.0}, "A lost most, 30.00, B least, 10.00. Together they lost 40.00, 4.0 %"),
        ({"A": -30.0, "B": 0.0}, "A lost most, 30.00, B least, 0. Together they lost 30.00, 3.0 %"),
        ({"A": -30.0, "B": 10.0}, "B brought most, 10.00, A least, -30.00. Together they lost 20.00, 2.0 %"),
        ({"A": -30.0}, "A lost most, 30.00. Together they lost 30.00, 3.0 %"),
    ],
    ids=str,
)
def test_losses_are_said_to_be_losses(lost, words):
    contributions = pd.DataFrame([lost, dict.fromkeys(lost, 0.0)], index=pd.bdate_range("2023-01-02", periods=2))
    assert said(plot.contributions_chart(contributions, 1000.0)) == f"{words} of the starting cash."


def test_lines_show_what_each_symbol_had_brought():
    contributions = pd.DataFrame({"A": [0.0, 5.0, -9.0], "B": [0.0, 1.0, 2.0]})
    contributions.index = pd.bdate_range("2023-01-02", periods=3)
    chart = plot.cumulative_chart(contributions)
    assert [line.get_ydata().tolist() for line in chart.axes[0].lines[1:]] == [[0.0, 5.0, -4.0], [0.0, 1.0, 3.0]]
    assert said(chart) == "B has been ahead since 2023-01-04. The lowest that any had brought was -4.00."
    assert (
        said(plot.cumulative_chart(contributions[["B"]]))
        == "B has been ahead since the first bar. No symbol ever stood at a loss."
    )


def test_what_is_traded_is_added_up_by_month():
    index = pd.bdate_range("2023-01-02", "2023-04-28")
    values = pd.Series(0.0, index=index)
    values["2023-01-02"], values["2023-02-01"], values["2023-02-28"], values["2023-04-03"] = 0.3, 0.1, 0.1, 0.25
    chart = plot.turnover_chart(values)
    assert [bar.get_height() for bar in chart.axes[0].patches] == pytest.approx([0.3, 0.2, 0.0, 0.25])
    assert not chart.axes[0].texts
    assert said(chart) == (
        "In the median month 22.5 % of the account was traded, bought and sold together; most, 30.0 %, in 2023-01."
    )


def test_bar_that_would_dwarf_the_others_is_cut_and_labelled():
    chart, svg = shared("turnover", "six")
    assert "100.0 %" in texts(svg)
    assert chart.axes[0].get_ylim()[1] < 0.25
    assert said(chart).endswith(
        "most, 100.0 %, in 2019-01. A bar that would dwarf the others is cut, with its number beside it."
    )


@pytest.mark.parametrize(
    ("index", "span", "first", "number"),
    [
        (pd.bdate_range("2023-01-02", "2023-03-31"), "month", "2023-01", 3),
        (pd.bdate_range("2023-01-02", "2023-02-28"), "day", "2023-01-02", 42),
        (pd.bdate_range("1990-01-02", "2023-03-31"), "quarter", "1990Q1", 133),
        (pd.date_range("1900-01-02", "2023-03-31", freq="7D"), "year", "1900", 124),
        (pd.date_range("2023-01-02 09:30", periods=2000, freq="min", tz="America/New_York"), "day", "2023-01-02", 2),
    ],
)
def test_span_of_what_is_traded_fits_the_run(index, span, first, number):
    chart = plot.turnover_chart(pd.Series(np.arange(index.size, 0, -1.0), index=index))
    assert len(chart.axes[0].patches) == number
    assert chart.axes[0].get_ylabel() == f"traded a {span}"
    assert f"in the median {span} " in said(chart).lower()


def test_nothing_traded_or_held_is_said():
    captions = [said(shared(kind, "never_traded")[0]) for kind in list(SHARED)[:4]]
    assert captions == [
        "Nothing was ever held.",
        *["No symbol brought or lost anything."] * 2,
        "Nothing was ever traded.",
    ]


def test_account_of_a_portfolio_is_drawn_against_equal_parts():
    drawn = texts(shared("equity", "six")[1])
    assert {"equal_weight", "holding", "equal parts"} <= set(drawn)


@pytest.mark.parametrize("name", [HOSTILE, "$\\frac$", "a_$b_{", "日本", "&amp;"])
@every_shared_chart
def test_symbol_is_text_and_nothing_else(kind, name):
    prices = {name: course([10.0, 11.0, 9.0]), **two([5.0, 5.0, 6.0], [1.0, 1.0, 1.0])}
    svg = SHARED[kind](run_portfolio(prices, "equal_weight")).svg()
    assert not [element for element in ElementTree.fromstring(svg).iter() if element.tag.endswith(("script", "img"))]


heights_and_places = st.lists(
    st.tuples(st.floats(-50.0, 350.0), st.sampled_from([12.0, 24.0, 36.0])), min_size=1, max_size=14
)


@given(heights_and_places)
def test_labels_never_overlap_and_stay_in_order_within_their_room(labels):
    wanted, heights = np.array(labels).T
    places = plot._spread(wanted, heights, 300.0)
    order = np.argsort(wanted, kind="stable")
    apart = (heights[order][1:] + heights[order][:-1]) / 2.0
    squeezed = min(1.0, 300.0 / apart.sum()) if apart.size else 1.0
    assert (np.diff(places[order]) >= apart * squeezed - 1e-9).all()
    assert places.min() >= -1e-9 and places.max() <= 300.0 + 1e-9


def test_labels_that_do_not_touch_stay_where_they_are():
    wanted = np.array([200.0, 10.0, 100.0])
    assert plot._spread(wanted, np.full(3, 12.0), 300.0).tolist() == wanted.tolist()


def test_labels_that_touch_share_the_way():
    assert plot._spread(np.array([100.0, 104.0]), np.full(2, 12.0), 300.0).tolist() == [96.0, 108.0]
    assert plot._spread(np.array([0.0, 0.0]), np.full(2, 12.0), 300.0).tolist() == [0.0, 12.0]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("AAPL", "AAPL"),
        ("holding equal parts", "holding\nequal parts"),
        ("inverse_volatility", "inverse_\nvolatility"),
        ("a_name_that_goes_on_and_on_without_any_end", "a_name_\nthat_goes_\non_and_…"),
        ("", ""),
    ],
)
def test_names_are_broken_where_they_can_be(text, lines):
    assert plot._wrapped(text, letters=11) == lines


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (-20_000.0, "-20,000"), (999_999.0, "999,999"), (1.5e6, "1.5 M"), (2e9, "2,000 M")]
)
def test_amounts_on_an_axis_are_short(value, text):
    assert plot._money(value).replace("\u2212", "-") == text


# ---- sweeps ----------------------------------------------------------------------------------------------------------


def a_table(rows, columns=(5, 10, 20), index=(30, 60), names=("slow_window", "fast_window")):
    return pd.DataFrame(rows, pd.Index(index, name=names[0]), pd.Index(columns, name=names[1]))


def wide_table(n_y, n_x, seed=0):
    values = np.random.default_rng(seed).normal(0.5, 0.4, (n_y, n_x))
    values[np.triu_indices(n_y, 1, n_x)] = np.nan
    return a_table(values, range(n_x), range(n_y))


def some_points(n):
    return pd.DataFrame(np.random.default_rng(n).random((n, 2)), columns=["width", "margin"])


SWEPT = {
    "few": lambda: plot.heatmap_chart(a_table([[0.5, 0.8, np.nan], [-0.2, 1.1, 0.9]]), winner=(1, 1), benchmark=0.85),
    "positive": lambda: plot.heatmap_chart(a_table([[0.5, 0.8, 0.7], [0.2, 1.1, 0.9]]), winner=(1, 1)),
    "negative": lambda: plot.heatmap_chart(a_table([[-0.5, -0.3, -0.1], [-0.2, -0.4, -0.9]]), "max_drawdown"),
    "equal": lambda: plot.heatmap_chart(a_table([[1.0, 1.0, 1.0]] * 2), "n_trades", winner=(0, 0), benchmark=1.0),
    "blank": lambda: plot.heatmap_chart(a_table(np.full((2, 3), np.nan)), fixed={"signal_window": 9}),
    "one_cell": lambda: plot.heatmap_chart(a_table([[0.5]], [5], [30]), winner=(0, 0), benchmark=0.4),
    "medium": lambda: plot.heatmap_chart(wide_table(30, 20), winner=(20, 3), benchmark=0.9),
    "large": lambda: plot.heatmap_chart(wide_table(350, 120), "cagr", winner=(200, 3), benchmark=0.9),
    "words": lambda: plot.heatmap_chart(a_table([[0.5, 0.8, 0.1]] * 2, ["a", "b" * 30, "c"], [0.125, 1e-9])),
    "line": lambda: plot.profile_chart(
        pd.Series([0.5, np.nan, 0.9], pd.Index([5, 10, 40], name="window")),
        winner=2,
        benchmark=0.7,
        fixed={"width": 2.5},
    ),
    "line_of_one": lambda: plot.profile_chart(pd.Series([0.5], pd.Index([5], name="window")), winner=0),
    "line_of_words": lambda: plot.profile_chart(pd.Series([0.5, 0.1], pd.Index(["up", "down"], name="rule")), "cagr"),
    "line_of_nothing": lambda: plot.profile_chart(pd.Series([np.nan] * 3, pd.Index([5, 10, 40], name="window"))),
    "dots": lambda: plot.points_chart(
        pd.DataFrame({"fast": [5, 9, 20, 14], "margin": [0.01, 0.02, 0.015, 0.0]}),
        np.array([0.5, -0.2, np.nan, 1.1]),
        winner=3,
        benchmark=0.7,
        fixed={"rule": "up"},
    ),
    "many_dots": lambda: plot.points_chart(some_points(9000), np.linspace(-0.5, 0.5, 9000), "cagr", winner=8998),
    "dots_of_words": lambda: plot.points_chart(
        pd.DataFrame({"rule": ["up", "b" * 30, "up"], "turned": [True, False, False]}), np.array([1.0, 2.0, 3.0])
    ),
    "dots_of_nothing": lambda: plot.points_chart(some_points(3), np.full(3, np.nan)),
    "one_dot": lambda: plot.points_chart(some_points(1), np.array([0.5]), winner=0),
    "trials": lambda: plot.trials_chart(pd.Series(np.random.default_rng(1).normal(0.5, 0.4, 400)), 1.1, 0.7),
    "trials_below": lambda: plot.trials_chart(pd.Series([-0.9, -0.5, np.nan, -0.7]), 0.4, -2.0),
    "one_trial": lambda: plot.trials_chart(pd.Series([0.7]), 0.0),
    "logits": lambda: plot.logits_chart(np.random.default_rng(2).normal(0.5, 1.5, 924)),
    "logits_of_zero": lambda: plot.logits_chart(np.zeros(70)),
    "logits_below": lambda: plot.logits_chart(np.full(70, -2.0)),
}
every_swept = pytest.mark.parametrize("kind", SWEPT)


@functools.cache
def swept(kind):
    """A chart of a sweep and its SVG."""
    chart = SWEPT[kind]()
    return chart, chart.svg()


@every_swept
def test_chart_of_a_sweep_draws_without_odd_numbers_and_has_words(kind):
    chart, svg = swept(kind)
    for text in (*texts(svg), chart.alt, chart.caption):
        assert not re.search(r"\b(nan|NaN|inf|None|NaT)\b|-0(\.0+)?( %|$)", text), text
    for numbers in re.findall(r' (?:d|points|x|y|transform)="([^"]*)"', svg):
        assert not re.search(r"nan|inf", numbers)
    assert len(chart.alt) > 20 and len(chart.caption) > 10


@every_swept
def test_chart_of_a_sweep_is_the_same_bytes_twice_whatever_is_configured(kind):
    with matplotlib.rc_context(
        {"font.size": 30.0, "axes.grid": True, "patch.linewidth": 9.0, "lines.markersize": 30.0}
    ):
        assert SWEPT[kind]().svg() == swept(kind)[1]


@every_swept
def test_colours_of_a_sweep_are_those_of_the_page(kind):
    _, svg = swept(kind)
    for variable, color in re.findall(r"var\((--[\w-]+), (#\w{6})\)", svg):
        assert plot.VARIABLES[color] == variable
    assert re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\([^)]*\)", "", svg)) == []


@every_swept
def test_every_text_of_a_sweep_lies_within_its_drawing(kind):
    chart, _ = swept(kind)
    found = [note for axes in chart.axes for note in axes.texts]
    found += [label for axes in chart.axes for label in (*axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label)]
    for text in found:
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert box.x0 >= -1.0 and box.x1 <= chart.bbox.width + 1.0, text.get_text()
            inside = box.y0 >= -1.0 and box.y1 <= chart.bbox.height + 1.0
            assert inside or text.axes is None or text not in text.axes.texts, text.get_text()


@every_swept
def test_drawing_of_a_sweep_stays_small(kind):
    assert len(swept(kind)[1]) < 400_000


def painted(chart):
    """Colour and opacity of the path that covers each cell of a map."""
    found = {}
    for patch in chart.axes[0].patches:
        if patch.get_fill():
            for corner in patch.get_path().vertices[::5]:
                found[tuple(map(int, corner))] = (matplotlib.colors.to_hex(patch.get_facecolor()), patch.get_alpha())
    return found


def test_map_of_both_signs_is_blue_above_and_orange_below_zero():
    chart, _ = swept("few")
    colors = painted(chart)
    assert {place: color for place, (color, _) in colors.items()} == {
        (0, 0): plot.ACCENT,
        (1, 0): plot.ACCENT,
        (0, 1): plot.LOSS,
        (1, 1): plot.ACCENT,
        (2, 1): plot.ACCENT,
    }
    deepest = colors[1, 1][1]
    assert deepest == 0.5 == max(depth for _, depth in colors.values())
    assert colors[0, 1][1] == min(depth for _, depth in colors.values()) < colors[0, 0][1] < colors[1, 0][1]
    assert said(chart).startswith(
        "Sharpe from -0.20 to 1.10, blue above and orange below zero, the stronger the further"
    )


@pytest.mark.parametrize(("kind", "lowest", "highest"), [("positive", (0, 1), (1, 1)), ("negative", (2, 1), (2, 0))])
def test_map_of_one_sign_goes_from_the_lowest_to_the_highest_in_blue(kind, lowest, highest):
    colors = painted(swept(kind)[0])
    assert {color for color, _ in colors.values()} == {plot.ACCENT}
    assert (colors[lowest][1], colors[highest][1]) == (plot.FAINTEST, 0.5)


def test_few_cells_show_their_numbers_and_many_do_not():
    assert [text.get_text() for text in swept("few")[0].axes[0].texts] == ["0.50", "0.80", "−0.20", "1.10", "0.90"]
    assert [text.get_text() for text in swept("negative")[0].axes[0].texts][:2] == ["−50.0", "−30.0"]
    assert len(plot.heatmap_chart(wide_table(12, 12)).axes[0].texts) == 78
    assert not plot.heatmap_chart(wide_table(13, 12)).axes[0].texts


def test_caption_names_winner_holding_blank_cells_and_where_it_was_cut():
    assert said(swept("few")[0]) == (
        "Sharpe from -0.20 to 1.10, blue above and orange below zero, the stronger the further from it. Outlined: the "
        "winner, fast_window 10, slow_window 60: 1.10. 2 of the 5 are above holding, 0.85: a line parts them from the "
        "rest. 1 cell is blank: it was refused, left out, or gave no number."
    )
    assert said(swept("blank")[0]) == (
        "No combination here has a Sharpe. 6 cells are blank: they were refused, left out, or gave no number. Held at "
        "signal_window 9."
    )
    assert said(swept("equal")[0]).startswith("Trades is 1 wherever it is defined.")
    assert said(swept("one_cell")[0]).endswith("All of the 1 are above holding, 0.40.")
    assert "Not one of the 2 is above holding, 9.00." in said(
        plot.heatmap_chart(a_table([[1.0, 2.0]], [1, 2], [3]), benchmark=9.0)
    )


def test_winner_is_framed_and_where_cells_are_small_ringed():
    frame = swept("few")[0].axes[0].patches[-1]
    assert (frame.get_xy(), frame.get_width(), frame.get_height(), frame.get_fill()) == ((1, 1), 1, 1, False)
    ring = swept("medium")[0].axes[0].lines[-1]
    assert (ring.get_xdata().tolist(), ring.get_ydata().tolist()) == ([3.5], [20.5])


def test_line_runs_between_what_is_above_holding_and_what_is_not():
    """Of 0.5 0.8 - over it -0.2 1.1 0.9 with holding at 0.85: left of 1.1, below 1.1, and beside nothing blank."""
    border = swept("few")[0].axes[0].patches[-2].get_path().vertices.reshape(-1, 2, 2)
    assert border.tolist() == [[[1.0, 1.0], [1.0, 2.0]], [[1.0, 1.0], [2.0, 1.0]]]
    assert not [patch for patch in swept("positive")[0].axes[0].patches[:-1] if not patch.get_fill()]


def test_scale_names_its_ends_zero_and_holding():
    strip = swept("few")[0].axes[1]
    assert [text.get_text() for text in strip.texts] == ["1.10", "−0.20", "0", "holding 0.85"]
    assert [text.get_text() for text in swept("positive")[0].axes[1].texts] == ["1.10", "0.20"]
    assert len(swept("equal")[0].axes) == len(swept("blank")[0].axes) == 1


def test_many_cells_become_one_with_their_median():
    values = np.arange(4.0 * plot.MOST_CELLS).reshape(2 * plot.MOST_CELLS, 2)
    values[0, 0] = np.nan
    coarse, steps = plot._coarse(values)
    assert (coarse.shape, steps) == ((plot.MOST_CELLS, 2), (2, 1))
    assert coarse[:2].tolist() == [[2.0, 2.0], [5.0, 6.0]]
    odd, steps = plot._coarse(values[:-1])
    assert (odd.shape, steps, odd[-1].tolist()) == ((plot.MOST_CELLS, 2), (2, 1), values[-2].tolist())
    assert np.isnan(plot._coarse(np.full((2 * plot.MOST_CELLS, 2), np.nan))[0]).all()
    assert "A cell is the median of up to 8 combinations." in said(swept("large")[0])


def test_neighbours_of_one_shade_in_a_row_are_one_rectangle():
    chosen = np.array([[True, True, False, True], [False, False, False, False], [True, True, True, True]])
    joined = plot._rectangles(chosen, apart=False).vertices.reshape(-1, 5, 2)
    assert [(*each[0].tolist(), *each[2].tolist()) for each in joined] == [
        (0.0, 0.0, 2.0, 1.0),
        (3.0, 0.0, 4.0, 1.0),
        (0.0, 2.0, 4.0, 3.0),
    ]
    apart = plot._rectangles(chosen, apart=True).vertices.reshape(-1, 5, 2)
    assert [each[0].tolist() for each in apart] == np.argwhere(chosen)[:, ::-1].tolist()


def test_values_of_many_rows_and_columns_are_named_here_and_there():
    chart, _ = swept("large")
    assert len(tick_labels(chart.axes[0].xaxis)) <= 12
    assert tick_labels(chart.axes[0].yaxis)[:3] == ["0", "32", "64"] or len(tick_labels(chart.axes[0].yaxis)) <= 12
    assert tick_labels(swept("few")[0].axes[0].xaxis) == ["5", "10", "20"]
    assert tick_labels(swept("words")[0].axes[0].yaxis) == ["0.125", "1e-09"]


@pytest.mark.parametrize("name", [HOSTILE, "$\\frac$", "日本", "&amp;"])
def test_parameter_and_value_are_text_and_nothing_else(name):
    for chart in (
        plot.heatmap_chart(a_table([[0.5, 0.1]], [name, "b"], [1], names=(name, "x")), fixed={name: name}),
        plot.profile_chart(pd.Series([0.5, 0.1], pd.Index([name, "b"], name=name)), fixed={name: name}),
        plot.points_chart(pd.DataFrame({name: [name, "b"], "x": [1, 2]}), np.array([0.5, 0.1]), fixed={name: name}),
    ):
        tags = {element.tag.rsplit("}")[-1] for element in ElementTree.fromstring(chart.svg()).iter()}
        assert not {"script", "img"} & tags


def test_line_is_broken_where_nothing_was_tried_and_rings_the_winner():
    chart, _ = swept("line")
    line, holding, ring = chart.axes[0].lines
    assert line.get_xdata().tolist() == [5.0, 10.0, 40.0]
    assert np.isnan(line.get_ydata()[1])
    assert list(holding.get_ydata()) == [0.7, 0.7]
    assert (ring.get_xdata().tolist(), ring.get_ydata().tolist()) == ([40.0], [0.9])
    assert said(chart) == (
        "Sharpe from 0.50 to 0.90. In a ring: the winner, window 40: 0.90. 1 of the 2 is above holding, 0.70: the grey "
        "line. 1 cell is blank: it was refused, left out, or gave no number. Held at width 2.5."
    )
    assert tick_labels(swept("line_of_words")[0].axes[0].xaxis) == ["up", "down"]


def dots(chart):
    """Colour and opacity of each dot of a sample by its place; the ring apart."""
    found = {}
    for line in chart.axes[0].lines:
        if line.get_markerfacecolor() != "none":
            for place in zip(*line.get_data(), strict=True):
                found[tuple(map(float, place))] = (line.get_color(), line.get_alpha())
    return found


def test_points_of_a_sample_are_dots_in_the_colours_of_a_map_with_the_winner_in_a_ring():
    chart, _ = swept("dots")
    colors, as_map = dots(chart), plot.heatmap_chart(a_table([[0.5, -0.2, 1.1]], index=[30]))
    assert {place: color for place, (color, _) in colors.items()} == {
        (5.0, 0.01): plot.ACCENT,
        (9.0, 0.02): plot.LOSS,
        (14.0, 0.0): plot.ACCENT,
    }
    assert colors[14.0, 0.0][1] == 0.95 > colors[5.0, 0.01][1] > colors[9.0, 0.02][1]
    assert [color for color, _ in painted(as_map).values()].count(plot.LOSS) == 1
    (ring,) = [line for line in chart.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert ring.get_xydata().tolist() == [[14.0, 0.0]]
    assert chart.alt == "Sharpe by fast and margin, as dots"
    assert said(chart) == (
        "Sharpe from -0.20 to 1.10, blue above and orange below zero, the stronger the further from it. In a ring: the "
        "winner, fast 14, margin 0: 1.10. 1 of the 3 is above holding, 0.70. 1 of 4 gave no number. Held at rule up."
    )


def test_of_very_many_points_some_are_drawn_and_the_caption_says_so():
    chart, _ = swept("many_dots")
    assert len(dots(chart)) == plot.MOST_DOTS
    assert "One dot in 6 is drawn." in chart.caption


def test_words_on_an_axis_of_dots_stand_one_after_the_other():
    chart, _ = swept("dots_of_words")
    assert tick_labels(chart.axes[0].xaxis)[0] == "up" and tick_labels(chart.axes[0].yaxis) == ["True", "False"]
    assert set(dots(chart)) == {(0.0, 0.0), (1.0, 1.0), (0.0, 1.0)}


def test_trials_are_counted_and_marked():
    chart = plot.trials_chart(pd.Series([0.0, 0.1, 0.1, 0.4, np.nan]), 0.3, 0.2)
    heights = [patch.get_height() for patch in chart.axes[0].patches]
    assert (sum(heights), heights[0], heights[-1]) == (4, 1, 1)
    marks = {text.get_text(): text.xy[0] for text in chart.axes[0].texts}
    assert marks == {"holding 0.20": 0.2, "expected of luck 0.30": 0.3, "winner 0.40": 0.4}
    assert said(chart) == (
        "The median of 4 trials is 0.10, the highest 0.40. 1 of the 4 is above holding, 0.20. Luck alone is "
        "expected to find 0.30 among as many as are counted. 1 more has none, since its returns do not vary."
    )


def test_names_of_marks_stand_on_different_heights():
    for kind in ("trials", "trials_below"):
        heights = [text.xy[1] for text in swept(kind)[0].axes[0].texts]
        assert len(set(heights)) == len(heights) == 3


def test_splits_below_the_median_are_orange_and_counted():
    chart = plot.logits_chart(np.array([-1.5, -0.5, 0.0, 0.5, 1.5]))
    shares = {matplotlib.colors.to_hex(patch.get_facecolor()): 0.0 for patch in chart.axes[0].patches}
    for patch in chart.axes[0].patches:
        shares[matplotlib.colors.to_hex(patch.get_facecolor())] += patch.get_height()
    assert shares == {plot.LOSS: pytest.approx(0.4), plot.ACCENT: pytest.approx(0.6)}
    notes = [text.get_text().replace("\u202f", " ") for text in chart.axes[0].texts]
    assert notes == ["40.0 % in the worse half", "60.0 % in the better half"]
    assert said(chart).startswith(
        "Of 5 ways to halve the bars, the trial that is best on one half ranks below the median"
    )


def test_split_at_the_median_is_not_below_it():
    colors = {
        matplotlib.colors.to_hex(p.get_facecolor())
        for p in swept("logits_of_zero")[0].axes[0].patches
        if p.get_height()
    }
    assert colors == {plot.ACCENT}
    assert "in 0.0 %" in said(swept("logits_of_zero")[0])
