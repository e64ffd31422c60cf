"""Charts: series in, a matplotlib figure out. Nothing here simulates, fetches or knows a strategy.

In a notebook a chart shows itself as SVG whose colours are CSS variables with the light palette as fallback, so that a
page decides on light or dark and a viewer without a page still draws it. The same data give the same bytes.
"""

import functools
import hashlib
import html
import io
import itertools
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import matplotlib
import matplotlib.dates
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import blended_transform_factory

from backgrid.bars import bar_text, drawn_bars
from backgrid.metrics import METRICS, cash_return, drawdown_of, format_metric, format_value

INK, MUTED, GRID = "#1c2128", "#59636e", "#d5dbe2"
ACCENT, NEUTRAL, LOSS, PAGE = "#1f6feb", "#6b747e", "#c2410c", "#ffffff"
# Told apart by colour-blind eyes, and at a contrast of 3 or more on a light and on a dark page: one set serves both.
SERIES = ("#2270e6", "#b28737", "#9341a6", "#4e6f24", "#cc4a7c", "#968bd6")
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--rule",
    ACCENT: "--accent",
    NEUTRAL: "--neutral",
    LOSS: "--loss",
    PAGE: "--page",
    **{color: f"--series-{number}" for number, color in enumerate(SERIES, start=1)},
}
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 96,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "lines.solid_joinstyle": "round",
    "path.simplify": False,  # it moves extremes by a tenth of a pixel; `drawn_bars` has left out what can be
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "backgrid",
    "text.parse_math": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelsize": 10,
    "ytick.color": MUTED,
    "ytick.labelsize": 10,
    "ytick.left": False,
}
WIDTH = 9.6  # inches: 920 pixels, the width of a report's figures
MOST_NAMED = 12  # symbols of one chart; of more, the smaller ones are added up
MOST_DRAWN = 800  # bars of each line where there are many lines
MOST_READ = 2000  # bars that are read out one by one; of more, the lowest and highest of each stretch
MOST_FOLDS = 400  # folds that are a bar each; more are a line
MOST_NUMBERED = 12  # rows and columns of a map whose cells show their numbers
RING: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 12, "mfc": "none", "mec": INK, "mew": 2.0}
MOST_DOTS = 1500  # of a sample that are drawn
MOST_CELLS = 100  # rows and columns of a map that are drawn; of more, several are one cell
SHADES, FAINTEST = 20, 0.14  # of a map, and the opacity of the faintest
LETTERS = 11  # of a line of text beside the axes
LETTER = 5.6  # points, the width of one in small text
MOST_RULED = 60  # folds that are told apart by rules
LINE = 12.5  # points from one line of text to the next


class Series(NamedTuple):
    """One of several lines or areas of a chart."""

    name: str
    values: np.ndarray
    color: str
    dashed: bool = False


class Chart(Figure):
    """A figure with words for those who cannot see it (`alt`) and its finding for all (`caption`).

    Where it has `readings`, the script of a page reads it out bar by bar.
    """

    alt = caption = ""
    readings: Mapping[str, str] = MappingProxyType({})

    def svg(self) -> str:
        """The figure as SVG text for a page: colours as CSS variables, fonts inherited, the same bytes each time."""
        with _style(), warnings.catch_warnings(), io.StringIO() as text:
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's font draws them
            FigureCanvasSVG(self)
            self.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
            return _themed(text.getvalue(), {**self.readings, **_places(self)} if self.readings else {})

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        words = {"alt": self.alt, "caption": self.caption, "needs_background": "light"}
        return {"image/svg+xml": self.svg(), "text/plain": repr(self)}, {"image/svg+xml": words}

    def __repr__(self) -> str:
        return f"<Chart: {self.alt}>"


def _style() -> Any:
    """Our style over matplotlib's own defaults, whatever the user's configuration says."""
    return matplotlib.style.context(["default", STYLE])


def _styled(draw: Callable[..., Chart]) -> Callable[..., Chart]:
    """The chart drawn in our style."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Chart:
        with _style():
            return draw(*args, **kwargs)

    return drawn


# ---- the charts ------------------------------------------------------------------------------------------------------


@_styled
def equity_chart(
    equity: pd.Series,
    benchmark: pd.Series,
    positions: pd.Series,
    name: str = "strategy",
    against: str = "holding",
    *,
    invested: bool = False,
) -> Chart:
    """Equity and benchmark on one log axis, positions as a band below, drawdowns under it on the same time axis.

    Parameters
    ----------
    equity, benchmark : Series, shape (n_bars,)
        Account values on the same bars. [currency]
    positions : Series, shape (n_bars,)
        Share of the equity in the market. [fraction of equity]
    name, against : str
        What the lines are called.
    invested : bool, default False
        Whether positions are of several symbols, long and short added up: their band then has no side.
    """
    chart, (top, band, below) = _chart(5.2, [12, 0.7, 4.5])
    drawdown, held = _drawdowns(equity), _drawdowns(benchmark)
    alive = equity.where(equity > 0.0)
    _line(top, benchmark, color=NEUTRAL, width=1.2)
    _line(top, alive, color=ACCENT, width=1.8)
    _log_currency(top, pd.concat([alive.dropna(), benchmark]))
    called = name if equity.iloc[-1] > 0.0 else f"{name}, ruined"
    ends = [(alive.dropna().iloc[-1], called, ACCENT), (benchmark.iloc[-1], against, NEUTRAL)]
    _end_labels(top, ends, leaders=False)
    top.set_ylabel("account, log scale")
    _position_band(band, positions, invested)
    worst = int(drawdown.to_numpy().argmin())
    _line(below, held, color=NEUTRAL, width=0.9)
    _area(below, drawdown)
    start, end = _worst_stretch(drawdown)
    if drawdown.iloc[worst] < 0.0:
        below.annotate(
            format_value(drawdown.iloc[worst], "fraction"),
            (worst, drawdown.iloc[worst]),
            xytext=(6, 2),
            textcoords="offset points",
            color=LOSS,
            fontweight="bold",
            bbox={"facecolor": PAGE, "alpha": 0.75, "linewidth": 0, "pad": 1},
        )
    below.set_ylabel("drawdown")
    _percent(below)
    _time_axis(below, equity.index)
    chart.alt = f"Account value of {name} and of {against}, with positions and drawdowns"
    times = f"{format_value(equity.iloc[-1] / equity.iloc[0], 'ratio')} times its start"
    chart.caption = (
        f"{name} ends at {times}, {against} at {format_value(benchmark.iloc[-1] / benchmark.iloc[0], 'ratio')} times. "
        f"The worst drawdown, {format_value(drawdown.iloc[worst], 'fraction')} on {bar_text(equity.index, worst)}, "
        f"began after {bar_text(equity.index, start)} and "
        + (f"ended on {bar_text(equity.index, end)}." if end < len(equity) else "had not ended.")
        if drawdown.iloc[worst] < 0.0
        else f"{name} ends at {times} and never was below an earlier high."
    )
    chart.readings = _readings(equity, benchmark, drawdown, name, against)
    return chart


@_styled
def signals_chart(close: pd.Series, trades: pd.DataFrame) -> Chart:
    """The price, and where it was bought and sold.

    Parameters
    ----------
    close : Series, shape (n_bars,)
        [currency]
    trades : DataFrame
        As `BacktestResult.trades`.
    """
    chart, (axes,) = _chart(3.6, [1])
    _line(axes, close, color=NEUTRAL, width=1.1)
    entries, exits = trades["entry_bar"].to_numpy(), trades["exit_bar"].to_numpy()
    closed = (trades["exit_reason"] != "open").to_numpy()
    changes = np.zeros(close.size + 1)
    side = np.sign(trades["units"].to_numpy(float))
    np.add.at(changes, entries, side)
    np.add.at(changes, exits, -side)
    _shade(axes, np.cumsum(changes)[:-1], faintest=0.0, deepest=0.1)
    marked = len(trades) <= 500
    if marked:
        size = 36 if len(trades) <= 60 else 14
        axes.scatter(entries, trades["entry_price"], marker="^", s=size, color=ACCENT, zorder=3, linewidths=0)
        axes.scatter(
            exits[closed], trades["exit_price"][closed], marker="v", s=size, color=LOSS, zorder=3, linewidths=0
        )
    axes.set_ylabel("close [currency]")
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.6g}"))
    _time_axis(axes, close.index)
    chart.alt = f"Closing price with {len(trades)} entries and {int(closed.sum())} exits"
    shaded = "Shaded: time in the market."
    chart.caption = (
        "Blue triangles: entries. Orange triangles, pointing down: exits. "
        f"{shaded} Each trade stands at its mean entry and exit price."
        if marked
        else f"{shaded} The {len(trades):,} trades are too many to mark each."
    )
    return chart


@_styled
def rolling_chart(
    returns: pd.Series, periods_per_year: float, window: int | None = None, *, risk_free: float = 0.0
) -> Chart:
    """Rolling Sharpe ratio and volatility.

    Parameters
    ----------
    returns : Series, shape (n_returns,)
        Simple return of each bar. [fraction]
    periods_per_year : float
        [bars per year]
    window : int, optional
        Bars that each value looks back on; half a year, or a quarter of the bars if that is less. [bars]
    risk_free : float, default 0.0
        Return of cash. [fraction per year]
    """
    window = window or max(2, min(round(periods_per_year / 2), returns.size // 4))
    chart, (above, below) = _chart(4.2, [1, 1])
    excess = returns - cash_return(risk_free, periods_per_year)
    mean, spread = excess.rolling(window).mean(), returns.rolling(window).std()
    sharpe = (mean / spread.where(spread > 1e-12)) * np.sqrt(periods_per_year)
    volatility = spread * np.sqrt(periods_per_year)
    above.axhline(0.0, color=MUTED, linewidth=0.8)
    _line(above, sharpe, color=ACCENT, width=1.5)
    above.set_ylabel("Sharpe")
    above.yaxis.set_major_locator(MaxNLocator(4))
    _line(below, volatility, color=ACCENT, width=1.5)
    below.set_ylabel("volatility a year")
    below.set_ylim(bottom=0.0)
    _percent(below)
    _time_axis(below, returns.index)
    chart.alt = f"Sharpe ratio and volatility over the last {window} bars"
    known = sharpe.dropna()
    broken = " The line is broken where returns did not vary." if len(known) < len(sharpe) - window + 1 else ""
    chart.caption = (
        f"Over any {window} bars the Sharpe ratio was between {format_value(known.min(), 'ratio')} and "
        f"{format_value(known.max(), 'ratio')}; it was negative {format_value((known < 0.0).mean(), 'fraction')} "
        f"of the time.{broken}"
        if len(known)
        else f"Fewer than {window} bars with a varying return: there is nothing to roll over."
    )
    return chart


@_styled
def trades_chart(trades: pd.DataFrame) -> Chart:
    """How the returns of closed trades are distributed, and against how long they were held.

    Parameters
    ----------
    trades : DataFrame
        As `BacktestResult.trades`; open ones are left out.
    """
    closed = trades[trades["exit_reason"] != "open"]
    returns, held = closed["trade_return"].to_numpy(float), closed["bars_held"].to_numpy(float)
    chart = Chart(figsize=(WIDTH, 3.2))
    left, right = chart.subplots(1, 2, width_ratios=[1, 1.2])
    _margins(chart, bottom=0.5)
    if returns.size:
        width = float(np.ptp(returns)) / min(20, max(5, returns.size // 2)) or abs(float(returns[0])) or 0.01
        edges = np.arange(np.floor(returns.min() / width), np.floor(returns.max() / width) + 2) * width
        counts, _ = np.histogram(returns, edges)
        colors = [ACCENT if edge >= 0.0 else LOSS for edge in edges[:-1]]
        left.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colors, alpha=0.85, linewidth=0)
        at = np.union1d(drawn_bars(returns, 1000), drawn_bars(held, 500))
        some = [ACCENT if gain > 0.0 else LOSS for gain in returns[at]]
        right.scatter(held[at], returns[at], s=18, color=some, alpha=0.85, linewidths=0)
    left.set(xlabel="return of a trade", ylabel="trades")
    left.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    right.axhline(0.0, color=MUTED, linewidth=0.8)
    right.set(xlabel="bars held", ylabel="return of a trade")
    right.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.xaxis.set_major_formatter(FuncFormatter(_short_percent))
    _percent(right)
    chart.alt = f"Histogram of the returns of {returns.size} closed trades, and those returns by bars held"
    chart.caption = (
        f"{int((returns > 0).sum())} of {returns.size} closed trades gained; the mean return was "
        f"{format_value(returns.mean(), 'fraction')}, the median {format_value(float(np.median(returns)), 'fraction')}."
        + (f" {at.size:,} of them have a dot, the extremes included." if at.size < returns.size else "")
        if returns.size
        else "No trade was closed."
    )
    return chart


@_styled
def weights_chart(weights: pd.DataFrame) -> Chart:
    """How the account was divided: areas on top of each other, or lines where a weight is negative.

    Parameters
    ----------
    weights : DataFrame, shape (n_bars, n_symbols)
        Share of the equity in each symbol at each close, negative for short. [fraction of equity]
    """
    values = weights.to_numpy(dtype=float)
    long, short = np.maximum(values, 0.0).sum(axis=1), np.maximum(-values, 0.0).sum(axis=1)
    series = _gathered(weights, np.abs(values).mean(axis=0))
    chart, (axes,) = _chart(4.2, [1])
    if short.any():
        _lines(axes, series)
    else:
        _areas(axes, series, 1.0 - long)
    axes.set_ylabel("share of the account")
    _percent(axes, most=5)
    _time_axis(axes, weights.index)
    at, place = np.unravel_index(np.abs(values).argmax(), values.shape)
    largest = f"{format_value(values[at, place], 'fraction')} in {weights.columns[place]}"
    sold = f", {format_value(short.mean(), 'fraction')} short" if short.any() else ""
    chart.alt = f"Share of the account in each of {_listed(series)} over time"
    chart.caption = (
        f"On average {format_value(long.mean(), 'fraction')} of the account was long{sold}. The largest weight at a "
        f"close was {largest} on {bar_text(weights.index, int(at))}."
        if values.any()
        else "Nothing was ever held."
    )
    return chart


@_styled
def contributions_chart(contributions: pd.DataFrame, cash: float) -> Chart:
    """What each symbol brought in the whole run.

    Parameters
    ----------
    contributions : DataFrame, shape (n_bars, n_symbols)
        Profit of each bar from each symbol, after its costs. [currency]
    cash : float
        Account at the first bar. [currency]
    """
    totals = contributions.sum().to_numpy()
    series = sorted(_gathered(contributions, np.abs(totals)), key=lambda each: -each.values.sum())
    names, profits = [each.name for each in series], np.array([each.values.sum() for each in series])
    chart = Chart(figsize=(WIDTH, 0.75 + 0.31 * len(names)))
    axes = chart.subplots()
    _margins(chart, bottom=0.55)
    axes.grid(False)
    axes.grid(True, axis="x")
    axes.spines["bottom"].set_visible(False)
    axes.axvline(0.0, color=MUTED, linewidth=0.8)
    places = np.arange(len(names))[::-1]
    colors = [ACCENT if profit >= 0.0 else LOSS for profit in profits]
    axes.barh(places, profits, height=0.62, color=colors, linewidth=0)
    axes.set_yticks(places, [_wrapped(name, letters=9, most=1) for name in names])
    axes.tick_params(axis="y", labelcolor=INK)
    for place, profit in zip(places, profits, strict=True):
        axes.annotate(
            f"{_currency(profit)}  ({format_value(profit / cash, 'fraction')})",
            (max(profit, 0.0), place),  # right of zero also for a loss: there is room
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
        )
    low, high = min(0.0, float(profits.min())), max(0.0, float(profits.max()))
    axes.set_xlim(low, high + (0.2 * (high - low) or 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(_money))
    axes.set_xlabel("profit after costs [currency], in brackets the share of the starting cash")
    total = float(totals.sum())
    chart.alt = f"Profit from each of {_listed(series)} as bars"
    first, last = (f"{names[end]} {{}}, {_currency(abs(profits[end]))}" for end in (0, -1))
    if profits[0] <= 0.0:  # nothing brought anything
        said = last.format("lost most") + (f", {first.format('least')}" if len(names) > 1 else "")
    else:
        least = f", {names[-1]} least, {_currency(profits[-1])}" if len(names) > 1 else ""
        said = first.format("brought most") + least
    did = "brought" if total >= 0.0 else "lost"
    chart.caption = (
        f"{said}. Together they {did} {_currency(abs(total))}, "
        f"{format_value(abs(total) / cash, 'fraction')} of the starting cash."
        if totals.any()
        else "No symbol brought or lost anything."
    )
    return chart


@_styled
def cumulative_chart(contributions: pd.DataFrame) -> Chart:
    """What each symbol had brought up to each bar.

    Parameters
    ----------
    contributions : DataFrame, shape (n_bars, n_symbols)
        Profit of each bar from each symbol, after its costs. [currency]
    """
    brought = contributions.cumsum()
    last = brought.iloc[-1].to_numpy()
    series = _gathered(brought, np.abs(last))
    chart, (axes,) = _chart(4.2, [1])
    _lines(axes, series)
    axes.set_ylabel("profit so far [currency]")
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(_money))
    _time_axis(axes, contributions.index)
    most = int(last.argmax())
    behind = np.flatnonzero(brought.to_numpy().argmax(axis=1) != most)
    since = bar_text(contributions.index, int(behind[-1]) + 1) if behind.size else "the first bar"
    deepest = brought.to_numpy().min()
    chart.alt = f"What each of {_listed(series)} had brought up to each bar"
    chart.caption = (
        f"{brought.columns[most]} has been ahead since {since}. "
        + (
            f"The lowest that any had brought was {_currency(deepest)}."
            if deepest < 0.0
            else "No symbol ever stood at a loss."
        )
        if last.any()
        else "No symbol brought or lost anything."
    )
    return chart


@_styled
def turnover_chart(traded: pd.Series) -> Chart:
    """What was traded in each month, or quarter or year of a long run, or day of a short one.

    Parameters
    ----------
    traded : Series, shape (n_bars,)
        Traded value of each bar, bought and sold together. [fraction of equity]
    """
    span, starts, labels = _spans(traded.index)
    sums = np.add.reduceat(traded.to_numpy(dtype=float), starts)
    chart, (axes,) = _chart(2.8, [1])
    widths = np.diff(starts, append=max(len(traded) - 1, starts[-1] + 1))
    axes.bar(starts + 0.1 * widths, sums, 0.8 * widths, align="edge", color=ACCENT, linewidth=0)
    usual = _usual_top(sums)
    axes.set_ylim(0.0, 1.15 * usual or 1.0)
    for start, width, total in zip(starts, widths, sums, strict=True):
        if total > 1.15 * usual:  # drawn to the top, as the first purchase beside what follows
            axes.annotate(
                format_value(total, "fraction"),
                (start + 0.9 * width, 1.15 * usual),
                xytext=(4, -2),
                textcoords="offset points",
                va="top",
            )
    axes.set_ylabel(f"traded a {span}")
    _percent(axes)
    _time_axis(axes, traded.index)
    chart.alt = f"What was traded in each {span}, as a share of the account"
    chart.caption = (
        f"In the median {span} {format_value(float(np.median(sums)), 'fraction')} of the account was traded, bought "
        f"and sold together; most, {format_value(sums.max(), 'fraction')}, in {labels[sums.argmax()]}."
        + (" A bar that would dwarf the others is cut, with its number beside it." if sums.max() > 1.15 * usual else "")
        if sums.any()
        else "Nothing was ever traded."
    )
    return chart


@_styled
def heatmap_chart(
    table: pd.DataFrame,
    metric: str = "sharpe",
    *,
    winner: tuple[int, int] | None = None,
    benchmark: float = math.nan,
    fixed: Mapping[str, Any] | None = None,
) -> Chart:
    """A metric of a sweep over two of its parameters: the stronger the blue the higher, orange below zero.

    Parameters
    ----------
    table : DataFrame, shape (n_y, n_x)
        The metric; index and columns are the values of the two parameters, in their order, and bear their names. NaN
        where nothing was tried. [unit of the metric]
    metric : str
        Its name in `backgrid.metrics.METRICS`.
    winner : tuple of int, optional
        Row and column of the sweep's winner.
    benchmark : float, optional
        The same metric of holding: a line runs between the cells above it and the rest. [unit of the metric]
    fixed : dict, optional
        At which values of its other parameters the sweep was cut.
    """
    values, steps = _coarse(table.to_numpy(dtype=float))
    most = max(values.shape)
    numbered = most <= MOST_NUMBERED
    chart = Chart(figsize=(WIDTH, 0.7 + (max(0.36 * len(values), 1.2) if numbered else 4.3)))
    axes = chart.subplots()
    _margins(chart, bottom=0.55)
    _map_axes(axes, table, steps, values.shape)
    shades = _Shades.over(values, deepest=0.5 if numbered else 0.95)
    _cells(axes, values, shades, apart=most <= 40)
    if numbered:
        for y, x in np.argwhere(np.isfinite(values)):
            text = format_metric(metric, values[y, x]).removesuffix("\u202f%")
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=9)
    _border(axes, values, values > benchmark)
    if winner is not None:
        _outline(axes, winner[0] // steps[0], winner[1] // steps[1], ring=most > 25)
    _scale(chart, axes, shades, metric, benchmark)
    chart.alt = f"{METRICS[metric].label} by {table.columns.name} and {table.index.name}, as a map"
    best = {table.columns.name: table.columns[winner[1]], table.index.name: table.index[winner[0]]} if winner else {}
    cells = math.prod(steps)
    chart.caption = " ".join(
        [
            _ranging(table.to_numpy(dtype=float), metric, shades),
            *([f"Outlined: the winner, {_pairs(best)}: {format_metric(metric, table.iat[winner])}."] if winner else []),
            *_against(table.to_numpy(dtype=float), metric, benchmark, ": a line parts them from the rest"),
            *([f"A cell is the median of up to {cells} combinations."] if cells > 1 else []),
            *_missing(table.to_numpy(dtype=float)),
            *([f"Held at {_pairs(fixed)}."] if fixed else []),
        ]
    )
    return chart


@_styled
def profile_chart(
    values: pd.Series,
    metric: str = "sharpe",
    *,
    winner: int | None = None,
    benchmark: float = math.nan,
    fixed: Mapping[str, Any] | None = None,
) -> Chart:
    """A metric of a sweep over one of its parameters.

    Parameters
    ----------
    values : Series, shape (n_values,)
        The metric; the index has the values of the parameter, in their order, and its name. NaN where nothing was
        tried. [unit of the metric]
    metric, winner, benchmark, fixed
        As in `heatmap_chart`; `winner` is one place.
    """
    numbers = values.to_numpy(dtype=float)
    chart = Chart(figsize=(WIDTH, 3.2))
    axes = chart.subplots()
    _margins(chart, bottom=0.55)
    numeric = pd.api.types.is_numeric_dtype(values.index) and not pd.api.types.is_bool_dtype(values.index)
    places = values.index.to_numpy(dtype=float) if numeric else np.arange(values.size, dtype=float)
    at = drawn_bars(numbers)
    marked = 4 if values.size <= 60 else 0
    axes.plot(places[at], numbers[at], color=ACCENT, linewidth=1.6, marker="o", markersize=marked)
    if numeric:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _plain(x)))
    else:
        _place_labels(axes.xaxis, values.index, offset=0.0)
    axes.set(xlabel=str(values.index.name), ylabel=METRICS[metric].label)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _tick(metric, y)))
    if math.isfinite(benchmark):
        axes.axhline(benchmark, color=NEUTRAL, linewidth=1.1)
        _end_labels(axes, [(benchmark, "holding", NEUTRAL)], leaders=False)
    if winner is not None:
        axes.plot(places[winner], numbers[winner], "o", markersize=11, markerfacecolor="none", markeredgecolor=INK)
    chart.alt = f"{METRICS[metric].label} by {values.index.name}, as a line"
    best = {} if winner is None else {values.index.name: values.index[winner]}
    chart.caption = " ".join(
        [
            _ranging(numbers, metric, None),
            *([f"In a ring: the winner, {_pairs(best)}: {format_metric(metric, numbers[winner])}."] if best else []),
            *_against(numbers, metric, benchmark, ": the grey line"),
            *_missing(numbers),
            *([f"Held at {_pairs(fixed)}."] if fixed else []),
        ]
    )
    return chart


@_styled
def points_chart(
    points: pd.DataFrame,
    values: np.ndarray,
    metric: str = "sharpe",
    *,
    winner: int | None = None,
    benchmark: float = math.nan,
    fixed: Mapping[str, Any] | None = None,
) -> Chart:
    """A metric of a sample over two of its parameters, a dot a point, in the colours of `heatmap_chart`.

    Parameters
    ----------
    points : DataFrame, shape (n_points, 2)
        Values of the parameters across and up, under their names.
    values : ndarray, shape (n_points,)
        The metric, NaN where it is undefined: no dot. [unit of the metric]
    metric, benchmark, fixed
        As in `heatmap_chart`.
    winner : int, optional
        Row of the sample's winner.
    """
    names = [str(name) for name in points]
    chart = Chart(figsize=(WIDTH, 5.0))
    axes = chart.subplots()
    _margins(chart, bottom=0.55)
    axes.grid(True, axis="both")
    across, up = _scatter_axis(axes.xaxis, points.iloc[:, 0]), _scatter_axis(axes.yaxis, points.iloc[:, 1])
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.yaxis.set_label_coords(0.145, 0.5, blended_transform_factory(chart.dpi_scale_trans, axes.transAxes))
    step = -(-values.size // MOST_DOTS)
    shades = _Shades.over(values, deepest=0.95)
    _dots(axes, across, up, np.where(np.arange(values.size) % step, np.nan, values), shades)
    if winner is not None:
        axes.plot(across[winner], up[winner], **RING)
    _scale(chart, axes, shades, metric, benchmark)
    chart.alt = f"{METRICS[metric].label} by {names[0]} and {names[1]}, as dots"
    best = {} if winner is None else {name: points[name].iloc[winner] for name in points}
    undefined = int(np.isnan(values).sum())
    chart.caption = " ".join(
        [
            _ranging(values, metric, shades),
            *(
                [f"In a ring: the winner, {_pairs(best)}: {format_metric(metric, float(values[winner]))}."]
                if best
                else []
            ),
            *_against(values, metric, benchmark),
            *([f"One dot in {step:,} is drawn."] if step > 1 else []),
            *([f"{undefined:,} of {values.size:,} gave no number."] if undefined else []),
            *([f"Held at {_pairs(fixed)}."] if fixed else []),
        ]
    )
    return chart


@_styled
def trials_chart(sharpes: pd.Series, luckiest: float, benchmark: float = math.nan) -> Chart:
    """How the Sharpe ratios of all trials are distributed, and where the winner, holding and luck stand among them.

    Parameters
    ----------
    sharpes : Series, shape (n_trials,)
        One a trial, NaN where undefined. [ratio, a year]
    luckiest : float
        What the best of as many as are counted is expected to show without any skill. [ratio, a year]
    benchmark : float, optional
        That of holding. [ratio, a year]
    """
    known = sharpes.to_numpy(dtype=float)
    known = known[np.isfinite(known)]
    best = float(known.max())
    chart = Chart(figsize=(WIDTH, 3.6))
    axes = chart.subplots()
    _margins(chart, bottom=0.55)
    bins = int(np.clip(2.0 * np.sqrt(known.size), 8, 60))
    counts, edges = np.histogram(known, bins, (known.min(), best) if np.ptp(known) > 1e-9 else None)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=ACCENT, alpha=0.45, edgecolor=PAGE, linewidth=0.5)
    if known.min() < 0.0 < best:
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
    marks = [(luckiest, "expected of luck", LOSS), (benchmark, "holding", NEUTRAL), (best, "winner", ACCENT)]
    _marks(axes, [mark for mark in marks if math.isfinite(mark[0])], top=float(counts.max()))
    axes.set(xlabel="Sharpe, a year", ylabel="trials")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _plain(round(x, 6))))
    trials = f"{known.size:,} trial{'s' * (known.size > 1)}"
    chart.alt = f"Histogram of the Sharpe ratios of {trials}, with the winner, holding and luck"
    undefined = sharpes.size - known.size
    chart.caption = " ".join(
        [
            f"The median of {trials} is {format_value(float(np.median(known)), 'ratio')}, the highest "
            f"{format_value(best, 'ratio')}.",
            *_against(known, "sharpe", benchmark),
            f"Luck alone is expected to find {format_value(luckiest, 'ratio')} among as many as are counted.",
            *(["1 more has none, since its returns do not vary."] if undefined == 1 else []),
            *([f"{undefined:,} more have none, since their returns do not vary."] if undefined > 1 else []),
        ]
    )
    return chart


@_styled
def logits_chart(logits: np.ndarray) -> Chart:
    """Where the winner of one half of the bars ends up on the other half, over all ways to halve them.

    Parameters
    ----------
    logits : ndarray, shape (n_splits,)
        As in `backgrid.overfit.Overfitting`: ln(w / (1 - w)), w the rank among all trials, 0 for the median.
    """
    chart = Chart(figsize=(WIDTH, 3.2))
    axes = chart.subplots()
    _margins(chart, bottom=0.55)
    width = (float(np.abs(logits).max()) or 1.0) / 15.0
    edges = width * np.arange(-16, 17)
    shares = np.histogram(logits + width * 1e-6, edges)[0] / logits.size  # rounding must not put a 0 on the left
    colors = [LOSS if edge < -width / 2.0 else ACCENT for edge in edges[:-1]]
    axes.bar(edges[:-1], shares, width, align="edge", color=colors, alpha=0.75, edgecolor=PAGE, linewidth=0.5)
    axes.axvline(0.0, color=INK, linewidth=1.0)
    pbo = float((logits < 0.0).mean())
    top = float(shares.max())
    axes.set_ylim(0.0, 1.18 * top)
    for share, side, color, aligned in ((pbo, "worse", LOSS, "right"), (1.0 - pbo, "better", ACCENT, "left")):
        text = f"{format_value(share, 'fraction')} in the {side} half"
        shift = (-8 if aligned == "right" else 8, 0)
        axes.annotate(
            text, (0.0, 1.1 * top), shift, textcoords="offset points", color=color, ha=aligned, fontweight="bold"
        )
    axes.set(xlabel="rank on the other half, as a logit: 0 is the median", ylabel="share of the splits")
    _percent(axes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _plain(round(x, 6))))
    chart.alt = f"Histogram of the rank that the winner of one half has on the other, over {logits.size:,} splits"
    chart.caption = (
        f"Of {logits.size:,} ways to halve the bars, the trial that is best on one half ranks below the median on the "
        f"other in {format_value(pbo, 'fraction')}: the probability of backtest overfitting. Without any skill it is "
        "near 50\u202f%, and noisy: 20 points more or less are no surprise."
    )
    return chart


# ---- walk-forward ----------------------------------------------------------------------------------------------------


@_styled
def folds_chart(
    equity: pd.Series,
    benchmark: pd.Series,
    positions: pd.Series,
    starts: np.ndarray,
    chosen: pd.DataFrame,
    name: str = "strategy",
    against: str = "holding",
) -> Chart:
    """The account of a walk-forward as `equity_chart` draws it, with a rule where each fold begins.

    Parameters
    ----------
    equity, benchmark, positions, name, against
        As in `equity_chart`.
    starts : ndarray of int, shape (n_folds,)
        First bar of each test window. [bar]
    chosen : DataFrame, shape (n_folds, n_params)
        What each fold chose, NaN where it is flat; written above the folds where there is room.
    """
    chart = equity_chart(equity, benchmark, positions, name, against)
    top, *others = chart.axes
    stops = np.append(starts[1:], len(equity))
    words = ["/".join(map(_plain, row)) if pd.notna(row[0]) else "flat" for row in chosen.itertuples(index=False)]
    named = max(map(len, words)) * LETTER <= np.diff(starts, append=len(equity)).min() * _points_a_bar(top)
    if named:
        height = chart.get_figheight() + 0.32  # more height above, and the axes below it as they were drawn
        chart.set_figheight(height)
        chart.subplots_adjust(top=1.0 - 0.44 / height, bottom=0.3 / height)
        for start, stop, text in zip(starts, stops, words, strict=True):
            top.annotate(
                text,
                ((start + stop - 1) / 2.0, 1.0),
                xycoords=top.get_xaxis_transform(),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=MUTED,
                annotation_clip=False,
            )
    ruled = starts.size <= MOST_RULED
    for axes in (top, *others) if ruled else ():
        for start in starts[1:]:
            axes.axvline(start, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0.5)
    chart.alt += ", and where each fold begins" if ruled else ""
    rules = "A dotted rule begins the next fold" if starts.size > 1 else "There is one fold"
    above = f"above {'each' if starts.size > 1 else 'it'} stands its {' / '.join(map(str, chosen.columns))}"
    many = f"The {starts.size:,} folds are too many to mark each."
    chart.caption += f" {rules}{f'; {above}' if named else ''}." if ruled else f" {many}"
    return chart


@_styled
def samples_chart(
    inside: np.ndarray, outside: np.ndarray, starts: np.ndarray, index: pd.DatetimeIndex, metric: str = "sharpe"
) -> Chart:
    """What each fold's choice promised on its training bars, as a mark, and gave on its test bars, as a bar.

    Parameters
    ----------
    inside, outside : ndarray, shape (n_folds,)
        The metric in sample and out of sample, NaN where undefined. [unit of the metric]
    starts : ndarray of int, shape (n_folds,)
        First bar of each test window. [bar]
    index : DatetimeIndex, shape (n_bars,)
        Labels of the bars, up to the last test bar.
    metric : str
        Its name in `backgrid.metrics.METRICS`.
    """
    chart, (axes,) = _chart(3.4, [1])
    widths = np.diff(starts, append=len(index))
    left = starts + 0.14 * widths
    gave, promised = np.isfinite(outside), np.isfinite(inside)
    colors = [ACCENT if value >= 0.0 else LOSS for value in outside[gave]]
    many = starts.size > MOST_FOLDS
    if many:
        _steps(axes, starts, inside, color=INK, width=1.0)
        _steps(axes, starts, outside, color=ACCENT, width=1.0)
    else:
        axes.bar(left[gave], outside[gave], 0.72 * widths[gave], align="edge", color=colors, alpha=0.75, linewidth=0)
    ends = starts + widths - 0.04 * widths
    if promised.any() and not many:
        axes.hlines(inside[promised], (starts + 0.04 * widths)[promised], ends[promised], color=INK, linewidth=2.2)
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    axes.margins(y=0.08)
    names = [(inside[promised], "in sample", INK), (outside[gave], "out of sample", ACCENT)]
    if named := [(float(of[-1]), name, color) for of, name, color in names if of.size]:
        _end_labels(axes, named, leaders=False)
    axes.set_ylabel(METRICS[metric].label)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _tick(metric, y)))
    _time_axis(axes, index)
    how = "as a dark and out of sample as a blue line" if many else "as a mark and out of sample as a bar"
    chart.alt = f"{METRICS[metric].label} of each fold, in sample {how}"
    chart.caption = _promises(inside, outside, metric, many)
    return chart


@_styled
def choices_chart(
    chosen: pd.DataFrame, starts: np.ndarray, index: pd.DatetimeIndex, grid: Mapping[str, Any] | None = None
) -> Chart:
    """Which value of each parameter a walk-forward chose, fold by fold.

    Parameters
    ----------
    chosen : DataFrame, shape (n_folds, n_params)
        What each fold chose, NaN where it is flat.
    starts : ndarray of int, shape (n_folds,)
        First bar of each test window. [bar]
    index : DatetimeIndex, shape (n_bars,)
        Labels of the bars, up to the last test bar.
    grid : dict of str to list, optional
        What could be chosen: the axes reach that far.
    """
    n = chosen.shape[1]
    chart, panels = _chart(0.42 + 1.25 * n, [1] * n)
    stops = np.append(starts[1:], len(index) - 1)
    for axes, name in zip(panels, chosen.columns, strict=True):
        places, ticks = _choices(chosen[name], list((grid or {}).get(name, ())))
        if ticks is None:
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _plain(y)))
        else:
            axes.set_yticks(range(len(ticks)), [_wrapped(tick, letters=8, most=1) for tick in ticks])
        known = np.isfinite(places)
        changed = known[1:] & known[:-1]
        if many := starts.size > MOST_FOLDS:
            _steps(axes, starts, places, color=ACCENT, width=1.0)
        if changed.any() and not many:
            axes.vlines(starts[1:][changed], places[:-1][changed], places[1:][changed], color=ACCENT, linewidth=1.0)
        if known.any() and not many:
            axes.hlines(places[known], starts[known], stops[known], color=ACCENT, linewidth=2.6)
        reach = _reach(places, (grid or {}).get(name, ()), ticks)
        axes.set_ylim(*reach)
        axes.set_ylabel(_wrapped(str(name), letters=13, most=2))
    _time_axis(panels[-1], index)
    chart.alt = f"Chosen values of {', '.join(map(str, chosen.columns))}, fold by fold"
    changes = [f"{name} {_changes(chosen[name])}" for name in chosen.columns]
    gaps = " The line is broken where no trial could be chosen." if chosen.isna().any(axis=None) else ""
    reaches = " The axes reach over all values that could be chosen." if grid else ""
    chart.caption = f"From fold to fold {', '.join(changes)}.{reaches}{gaps}"
    return chart


def _points_a_bar(axes: Axes) -> float:
    low, high = axes.get_xlim()
    return axes.bbox.width * 72.0 / axes.figure.dpi / (high - low)


def _promises(inside: np.ndarray, outside: np.ndarray, metric: str, many: bool) -> str:
    """How many folds gave what their training bars promised."""
    both = np.isfinite(inside) & np.isfinite(outside)
    if not both.any():
        return "No fold has both numbers."
    n, label = int(both.sum()), METRICS[metric].label
    less = int((outside[both] < inside[both]).sum())
    means = [format_metric(metric, float(of[both].mean())) for of in (outside, inside)]
    folds = f"{less:,} of {n:,} folds" if n > 1 else "the only fold" if less else "no fold"
    mark, bar = ("The dark line", "the blue line") if many else ("Each mark", "the bar")
    return (
        f"{mark} is the {label} of what was chosen, on the bars it was chosen by; {bar} is what the account gave "
        f"on the next ones. It gave less in {folds}; the mean is {means[0]} against {means[1]}."
    )


def _choices(values: pd.Series, grid: list[Any]) -> tuple[np.ndarray, list[str] | None]:
    """Where each choice is drawn, NaN where there is none; names of the places where they are no numbers."""
    known = [value for value in values if not _is_none(value)]
    if all(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in (*known, *grid)):
        return np.array([math.nan if _is_none(value) else float(value) for value in values]), None
    names = list(dict.fromkeys(map(str, grid or known)))
    return np.array([math.nan if _is_none(value) else float(names.index(str(value))) for value in values]), names


def _is_none(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def _reach(places: np.ndarray, grid: Any, ticks: list[str] | None) -> tuple[float, float]:
    """Ends of an axis that has room for all that could be chosen."""
    could = range(len(ticks)) if ticks is not None else grid
    known = np.array([*places[np.isfinite(places)], *could], dtype=float)
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    room = 0.12 * (high - low) or max(0.12 * abs(low), 0.5)
    return low - room, high + room


def _changes(values: pd.Series) -> str:
    """How often the choice changed from one fold to the next that made one."""
    known = [value for value in values if not _is_none(value)]
    changes = sum(before != after for before, after in itertools.pairwise(known))
    if len(known) < 2:
        return "has nothing to be compared with"
    times = f"changed {changes:,} of {len(known) - 1:,} times"
    return "never changed" if not changes else times


# ---- parts of charts -------------------------------------------------------------------------------------------------


def _chart(height: float, ratios: list[float]) -> tuple[Chart, np.ndarray]:
    """A figure of axes one above the other on a common horizontal axis, which counts bars: no gaps for nights."""
    chart = Chart(figsize=(WIDTH, height))
    axes = chart.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    _margins(chart, bottom=0.3)
    for upper in axes[:-1]:
        upper.tick_params(axis="x", bottom=False)
    for each in axes:  # names of the axes at the edge, clear of whatever numbers come
        each.yaxis.set_label_coords(0.145, 0.5, blended_transform_factory(chart.dpi_scale_trans, each.transAxes))
    return chart, axes


def _margins(chart: Chart, *, bottom: float) -> None:
    """The same left and right edge for every chart of a page; inches for the height of labels."""
    height = chart.get_figheight()
    chart.subplots_adjust(
        left=0.09, right=0.876, top=1.0 - 0.12 / height, bottom=bottom / height, hspace=0.12, wspace=0.2
    )


def _line(axes: Axes, series: pd.Series, *, color: str, width: float) -> None:
    values = series.to_numpy(dtype=float)
    at = drawn_bars(values)
    axes.plot(at, values[at], color=color, linewidth=width)


def _steps(axes: Axes, starts: np.ndarray, values: np.ndarray, *, color: str, width: float) -> None:
    """A line that keeps each value until the next begins; of very many, the extremes of each stretch."""
    at = drawn_bars(values)
    axes.plot(starts[at], values[at], color=color, linewidth=width, drawstyle="steps-post")


def _area(axes: Axes, drawdown: pd.Series) -> None:
    values = drawdown.to_numpy()
    at = drawn_bars(values)
    axes.fill_between(at, values[at], 0.0, color=LOSS, alpha=0.22, linewidth=0)
    axes.plot(at, values[at], color=LOSS, linewidth=1.0)


def _position_band(axes: Axes, positions: pd.Series, invested: bool) -> None:
    """A thin band, the deeper the larger the position: blue where long, orange where short, grey where both add up."""
    _shade(axes, positions.to_numpy(), faintest=0.25, deepest=0.85, color=NEUTRAL if invested else ACCENT)
    axes.set_yticks([0.5], ["invested" if invested else "position"])
    axes.set_ylim(0.0, 1.0)
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)


def _shade(axes: Axes, positions: np.ndarray, *, faintest: float, deepest: float, color: str = ACCENT) -> None:
    """Shade bars by their position; of a long series the mean of each stretch, at most 600 of them."""
    stretch = -(-positions.size // 600)
    starts = np.arange(0, positions.size, stretch)
    counts = np.diff(starts, append=positions.size)
    level = np.clip(np.round(np.add.reduceat(positions, starts) / counts * 4.0) / 4.0, -1.0, 1.0)
    firsts = np.flatnonzero(np.diff(level, prepend=np.nan) != 0.0)
    ends = [*starts[firsts[1:]], positions.size - 1]
    for value, start, end in zip(level[firsts], starts[firsts], ends, strict=True):
        if value != 0.0 and end > start:
            alpha = faintest + (deepest - faintest) * abs(value)
            axes.axvspan(float(start), float(end), color=color if value > 0.0 else LOSS, alpha=alpha, linewidth=0)


def _gathered(frame: pd.DataFrame, sizes: np.ndarray) -> list[Series]:
    """The columns as series of their own colours; of more than can be named, the smaller ones added up."""
    values, named = frame.to_numpy(dtype=float), np.arange(sizes.size)
    if sizes.size > MOST_NAMED:
        named = np.sort(np.argsort(-sizes, kind="stable")[: MOST_NAMED - 1])
    series = [  # by its place, so that a symbol has one colour in every chart
        Series(str(frame.columns[place]), values[:, place], SERIES[place % len(SERIES)], place // len(SERIES) % 2 == 1)
        for place in named
    ]
    if sizes.size > MOST_NAMED:
        rest = np.delete(values, named, axis=1)
        series.append(Series(f"{rest.shape[1]} others", rest.sum(axis=1), NEUTRAL))
    return series


def _listed(series: list[Series]) -> str:
    return ", ".join(each.name for each in series)


def _lines(axes: Axes, series: list[Series]) -> None:
    """Lines about zero, each named at its end."""
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    for each in series:
        at = drawn_bars(each.values, MOST_DRAWN)
        axes.plot(at, each.values[at], color=each.color, linewidth=1.5, linestyle="--" if each.dashed else "-")
    _end_labels(axes, [(each.values[-1], each.name, each.color) for each in series], leaders=True)


def _areas(axes: Axes, series: list[Series], cash: np.ndarray) -> None:
    """Areas on top of each other up to the whole account, each named at its end; what is left is cash."""
    tops = np.cumsum([each.values for each in series], axis=0)
    whole = np.array([0, cash.size - 1])
    axes.fill([*whole, *whole[::-1]], [0.0, 0.0, 1.0, 1.0], color=GRID, alpha=0.55, linewidth=0)
    for each, top in reversed(list(zip(series, tops, strict=True))):  # each covers the lower part of the one before
        at = drawn_bars(top, MOST_DRAWN)
        corners = [at[0], *at, at[-1]], [0.0, *top[at], 0.0]
        axes.fill(*corners, facecolor=each.color, edgecolor=PAGE, linewidth=0.7)
    axes.set_ylim(0.0, max(1.0, float(tops[-1].max())))
    middles = tops[:, -1] - np.array([each.values[-1] for each in series]) / 2.0
    ends = [(middle, each.name, each.color) for middle, each in zip(middles, series, strict=True)]
    if max(cash.mean(), cash[-1]) > 0.01:
        ends.append((1.0 - max(cash[-1], 0.0) / 2.0, "cash", GRID))
    _end_labels(axes, ends, leaders=True)


def _spans(index: pd.DatetimeIndex) -> tuple[str, np.ndarray, list[str]]:
    """Months, or what is fit for a long or short run: its name, first bar of each, and their labels."""
    local = index.tz_localize(None) if index.tz is not None else index
    periods = {
        name: local.to_period(code) for name, code in (("day", "D"), ("month", "M"), ("quarter", "Q"), ("year", "Y"))
    }
    firsts = {name: np.flatnonzero(np.diff(period.asi8, prepend=-1)) for name, period in periods.items()}
    fits = [name for name in ("month", "quarter") if firsts[name].size <= 240]
    span = "day" if firsts["month"].size < 3 else [*fits, "year"][0]
    return span, firsts[span], [str(period) for period in periods[span][firsts[span]]]


def _usual_top(sums: np.ndarray) -> float:
    """The largest of some bars, or the second largest where the largest is over three times as high."""
    *_, second, most = np.sort(np.append(sums, 0.0))
    return float(second if 0.0 < 3.0 * second < most else most)


def _end_labels(axes: Axes, ends: list[tuple[float, str, str]], *, leaders: bool) -> None:
    """Names at the right ends, moved apart where they would touch; the ends are (value, name, colour).

    With leaders a stroke of the colour leads to each name, which has the ink of all text and so can always be read.
    """
    axes.get_ylim()  # settles the scale
    texts = [_wrapped(text, letters=LETTERS - 3 * leaders) for _, text, _ in ends]
    points = 72.0 / axes.figure.dpi
    drawn = axes.transData.transform([(0.0, value) for value, _, _ in ends])[:, 1]
    wanted = (drawn - axes.bbox.y0) * points
    heights = np.array([LINE * (text.count("\n") + 1) for text in texts])
    places = _spread(wanted, heights, axes.bbox.height * points)
    for (value, _, color), text, shift in zip(ends, texts, places - wanted, strict=True):
        axes.annotate(
            text,
            (1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(20 if leaders else 5, shift),
            textcoords="offset points",
            color=INK if leaders else color,
            va="center",
            linespacing=1.15,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 2.5,
                "shrinkA": 0,
                "shrinkB": 2,
                "relpos": (0, 0.5),
            }
            if leaders
            else None,
        )


def _spread(wanted: np.ndarray, heights: np.ndarray, room: float) -> np.ndarray:
    """Places as near as can be to those wanted where things of these heights do not overlap, within 0 and `room`.

    Less the room that those below take, places must not fall; where wanted ones do, they share their mean.
    """
    order = np.argsort(wanted, kind="stable")
    tall = heights[order]
    below = np.concatenate([[0.0], np.cumsum((tall[:-1] + tall[1:]) / 2.0)])
    below *= min(1.0, room / below[-1]) if below[-1] > 0.0 else 1.0
    blocks: list[tuple[float, int]] = []  # mean and number of those that share a place
    for free in wanted[order] - below:
        mean, number = float(free), 1
        while blocks and blocks[-1][0] > mean:
            other, more = blocks.pop()
            mean, number = (mean * number + other * more) / (number + more), number + more
        blocks.append((mean, number))
    shared = np.concatenate([np.full(number, mean) for mean, number in blocks])
    places = np.empty_like(wanted)
    places[order] = np.clip(shared, 0.0, max(room - below[-1], 0.0)) + below
    return places


def _wrapped(text: str, *, letters: int, most: int = 3) -> str:
    """A name in a few short lines, broken at blanks and underscores where it has them; what does not fit is cut."""
    if len(text) <= letters + 1:  # one letter more still fits
        return text
    lines = textwrap.wrap(text.replace("_", "_ "), letters, max_lines=most, placeholder="\u2026")
    return "\n".join(lines).replace("_ ", "_")


def _money(value: float, _: Any = None) -> str:
    """An amount for an axis: thousands separated, millions as M."""
    text = f"{value / 1e6:,.6g} M" if abs(value) >= 1e6 else f"{value:,.6g}"
    return text.replace("-", "\u2212")


def _currency(value: float) -> str:
    """An amount for a sentence, with decimals where it is small."""
    return format_value(value, "currency" if value == 0.0 or abs(value) >= 1000.0 else "price")


def _log_currency(axes: Axes, values: pd.Series) -> None:
    """A log axis with a handful of round ticks."""
    axes.set_yscale("log")
    low, high = float(values.min()), float(values.max())
    steps = np.array([1, 1.5, 2, 3, 4, 5, 6, 8]) if high / low > 1.6 else np.arange(10, 100) / 10.0
    ticks = np.unique(np.concatenate([steps * 10.0**power for power in range(-3, 16)]))
    ticks = ticks[(ticks >= low * 0.98) & (ticks <= high * 1.02)]
    ticks = ticks[:: max(1, -(-ticks.size // 6))]
    if ticks.size < 2:  # a narrow range between two steps
        ticks = np.asarray(MaxNLocator(4).tick_values(low, high))
        ticks = ticks[(ticks >= low) & (ticks <= high)] if (ticks >= low).any() and low < high else np.array([low])
    axes.set_yticks(ticks, [_money(tick) for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def _percent(axes: Axes, most: int = 4) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(most))
    axes.yaxis.set_major_formatter(FuncFormatter(_short_percent))


def _short_percent(value: float, _: Any = None) -> str:
    return f"{value * 100:.6g}".replace("-", "\u2212") + "\u202f%" if abs(value) > 1e-9 else "0"


class _Shades(NamedTuple):
    """How numbers become shades: from the lowest to the highest, or both ways from zero where both signs occur."""

    low: float
    high: float
    deepest: float  # opacity

    @classmethod
    def over(cls, values: np.ndarray, *, deepest: float) -> "_Shades":
        known = values[np.isfinite(values)]
        return cls(float(known.min()), float(known.max()), deepest) if known.size else cls(math.nan, math.nan, deepest)

    @property
    def both(self) -> bool:
        return self.low < 0.0 < self.high

    def of(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether each is orange, and how deep, in a few steps."""
        if self.both:
            depth = np.abs(values) / max(self.high, -self.low)
        else:
            depth = (values - self.low) / (self.high - self.low) if self.high > self.low else np.full(values.shape, 0.5)
        steps = np.round(depth * (SHADES - 1)) / (SHADES - 1)
        return (values < 0.0) & self.both, np.round(FAINTEST + (self.deepest - FAINTEST) * steps, 3)


def _coarse(values: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """At most MOST_CELLS cells a side: the median of what is put together, and how many rows and columns that is."""
    steps = (-(-values.shape[0] // MOST_CELLS), -(-values.shape[1] // MOST_CELLS))
    if steps == (1, 1):
        return values, steps
    room = [(0, -size % step) for size, step in zip(values.shape, steps, strict=True)]
    padded = np.pad(values, room, constant_values=np.nan)
    n_y, n_x = padded.shape[0] // steps[0], padded.shape[1] // steps[1]
    blocks = padded.reshape(n_y, steps[0], n_x, steps[1]).swapaxes(1, 2).reshape(n_y, n_x, -1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        return np.nanmedian(blocks, axis=2), steps


def _map_axes(axes: Axes, table: pd.DataFrame, steps: tuple[int, int], shape: tuple[int, int]) -> None:
    """Axes that count cells and name the values of the parameters."""
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="both", length=0)
    axes.set(xlim=(0, shape[1]), ylim=(0, shape[0]), xlabel=str(table.columns.name), ylabel=str(table.index.name))
    axes.yaxis.set_label_coords(0.145, 0.5, blended_transform_factory(axes.figure.dpi_scale_trans, axes.transAxes))
    _place_labels(axes.xaxis, table.columns[:: steps[1]])
    _place_labels(axes.yaxis, table.index[:: steps[0]])


def _place_labels(axis: Any, labels: pd.Index, offset: float = 0.5) -> None:
    """The labels in the middle of their places, twelve at most."""
    places = np.arange(0, len(labels), max(1, -(-len(labels) // 12)))
    axis.set_ticks(places + offset, [_wrapped(_plain(labels[place]), letters=8, most=1) for place in places])


def _cells(axes: Axes, values: np.ndarray, shades: "_Shades", *, apart: bool) -> None:
    """One path for each shade; neighbours of one shade in a row are one rectangle where cells are many."""
    orange, depths = shades.of(values)
    known = np.isfinite(values)
    for color, side in ((ACCENT, known & ~orange), (LOSS, known & orange)):
        for depth in np.unique(depths[side]):
            path = _rectangles(side & (depths == depth), apart)
            line = {"edgecolor": PAGE, "linewidth": 1.0} if apart else {"linewidth": 0}
            axes.add_patch(PathPatch(path, facecolor=color, alpha=float(depth), **line))


def _scatter_axis(axis: Any, column: pd.Series) -> np.ndarray:
    """Where the values of a parameter lie on an axis, which names them: numbers by size, all else in turn."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
        return column.to_numpy(dtype=float)
    places, labels = pd.factorize(column)
    _place_labels(axis, pd.Index(labels, tupleize_cols=False), offset=0.0)
    return places.astype(float)


def _dots(axes: Axes, across: np.ndarray, up: np.ndarray, values: np.ndarray, shades: "_Shades") -> None:
    """One line without strokes for each shade, the faintest first, so that what is strong lies above."""
    orange, depths = shades.of(values)
    known = np.isfinite(values)
    size = float(np.clip(200.0 / math.sqrt(max(known.sum(), 1)), 4.0, 11.0))
    for depth in np.unique(depths[known]):
        for color, side in ((ACCENT, ~orange), (LOSS, orange)):
            at = known & side & (depths == depth)
            if at.any():
                dots: dict[str, Any] = {"markersize": size, "markeredgecolor": PAGE, "markeredgewidth": 0.5}
                axes.plot(across[at], up[at], "o", color=color, alpha=float(depth), **dots)


def _rectangles(chosen: np.ndarray, apart: bool) -> Path:
    """A path round each chosen cell, or round each run of them in a row."""
    padded = np.pad(chosen, ((0, 0), (1, 1)))
    rows, starts = np.nonzero(padded[:, 1:-1] if apart else padded[:, 1:-1] & ~padded[:, :-2])
    ends = starts + 1 if apart else np.nonzero(padded[:, 1:-1] & ~padded[:, 2:])[1] + 1
    corners = [(starts, rows), (ends, rows), (ends, rows + 1), (starts, rows + 1), (starts, rows)]
    vertices = np.stack([np.column_stack(corner) for corner in corners], axis=1).reshape(-1, 2)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(vertices.astype(float), np.tile(codes, starts.size))


def _border(axes: Axes, values: np.ndarray, above: np.ndarray) -> None:
    """A line between cells that are above and neighbours that are not."""
    known = np.isfinite(values)
    beside = known[:, 1:] & known[:, :-1] & (above[:, 1:] != above[:, :-1])
    over = known[1:] & known[:-1] & (above[1:] != above[:-1])
    (y, x), (top, left) = np.nonzero(beside), np.nonzero(over)
    strokes = np.concatenate(
        [
            np.stack([np.column_stack([x + 1, y]), np.column_stack([x + 1, y + 1])], axis=1),
            np.stack([np.column_stack([left, top + 1]), np.column_stack([left + 1, top + 1])], axis=1),
        ]
    ).reshape(-1, 2)
    if strokes.size:
        path = Path(strokes.astype(float), np.tile([Path.MOVETO, Path.LINETO], len(strokes) // 2))
        axes.add_patch(PathPatch(path, fill=False, edgecolor=INK, linewidth=1.4))


def _outline(axes: Axes, row: int, column: int, *, ring: bool) -> None:
    """A frame round a cell, or a ring where cells are small."""
    if ring:
        axes.plot(column + 0.5, row + 0.5, **RING)
    else:
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=INK, linewidth=2.4, clip_on=False))


def _scale(chart: Chart, axes: Axes, shades: "_Shades", metric: str, benchmark: float) -> None:
    """What the shades mean: a strip beside the map with its ends, zero and holding named."""
    if not shades.high > shades.low:
        return
    place = axes.get_position()
    strip = chart.add_axes((0.888, place.y0, 0.012, place.height))
    strip.set_axis_off()
    edges = np.linspace(shades.low, shades.high, SHADES * 2 + 1)
    middles = (edges[1:] + edges[:-1]) / 2.0
    for low, high, orange, depth in zip(edges, edges[1:], *shades.of(middles), strict=False):
        strip.axhspan(low, high, color=LOSS if orange else ACCENT, alpha=float(depth), linewidth=0)
    strip.set(xlim=(0, 1), ylim=(shades.low, shades.high))
    ends = [(end, format_metric(metric, end), MUTED) for end in (shades.high, shades.low)]
    if shades.both:
        ends.append((0.0, "0", MUTED))
    if shades.low < benchmark < shades.high:
        strip.axhline(benchmark, color=INK, linewidth=1.4)
        ends.append((benchmark, f"holding {format_metric(metric, benchmark)}", INK))
    _end_labels(strip, ends, leaders=False)


def _ranging(values: np.ndarray, metric: str, shades: "_Shades | None") -> str:
    """From where to where a metric goes, and how it is drawn."""
    known = values[np.isfinite(values)]
    label = METRICS[metric].label
    if not known.size:
        return f"No combination here has a {label}."
    low, high = format_metric(metric, known.min()), format_metric(metric, known.max())
    if low == high:
        return f"{label} is {low} wherever it is defined."
    if shades is None:
        return f"{label} from {low} to {high}."
    both = (
        "blue above and orange below zero, the stronger the further from it"
        if shades.both
        else "the stronger the colour the higher"
    )
    return f"{label} from {low} to {high}, {both}."


def _against(values: np.ndarray, metric: str, benchmark: float, line: str = "") -> list[str]:
    """How many are above holding, and what is drawn of it."""
    known = values[np.isfinite(values)]
    if not math.isfinite(benchmark) or not known.size:
        return []
    above, held = int((known > benchmark).sum()), f"above holding, {format_metric(metric, benchmark)}"
    if above in (0, known.size):
        return [f"{'All' if above else 'Not one'} of the {known.size:,} {'are' if above else 'is'} {held}."]
    return [f"{above:,} of the {known.size:,} {'is' if above == 1 else 'are'} {held}{line}."]


def _missing(values: np.ndarray) -> list[str]:
    """How many cells are blank, and why."""
    blank = int(np.isnan(values).sum())
    if not blank:
        return []
    cells = "cell is blank: it was" if blank == 1 else "cells are blank: they were"
    return [f"{blank:,} {cells} refused, left out, or gave no number."]


def _marks(axes: Axes, marks: list[tuple[float, str, str]], top: float) -> None:
    """Vertical lines with their names, each on its own height; the marks are (value, name, colour)."""
    axes.set_ylim(0.0, top * (1.08 + 0.13 * len(marks)))
    low, high = axes.get_xlim()
    low, high = min(low, *(value for value, _, _ in marks)), max(high, *(value for value, _, _ in marks))
    axes.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    for place, (value, name, color) in enumerate(sorted(marks)):
        height = top * (1.06 + 0.13 * place)
        axes.plot([value, value], [0.0, height + 0.1 * top], color=color, linewidth=2.0)
        left = value < (low + high) / 2.0
        axes.annotate(
            f"{name} {format_value(value, 'ratio')}",
            (value, height),
            (6 if left else -6, 0),
            textcoords="offset points",
            ha="left" if left else "right",
            color=color,
            fontweight="bold",
        )


def _pairs(params: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in (params or {}).items())


def _plain(value: Any) -> str:
    """A value of a parameter with no more digits than it has."""
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}".replace("-", "\u2212")
    return str(value)


def _tick(metric: str, value: float) -> str:
    """A metric on an axis, with no more digits than it needs."""
    return _short_percent(value) if METRICS[metric].unit == "fraction" else _money(value)


def _time_axis(axes: Axes, index: pd.DatetimeIndex) -> None:
    """Ticks at the first bars of years, quarters, months, days or hours, whichever gives a few."""
    local = index.tz_localize(None) if index.tz is not None else index
    for span in ("Y", "Q", "M", "D", "h", "min"):
        firsts = np.flatnonzero(np.diff(local.to_period(span).asi8, prepend=-1) != 0)[1:]
        if firsts.size >= 3:
            break
    style = {"Y": "%Y", "Q": "%Y-%m", "M": "%Y-%m", "D": "%m-%d", "h": "%m-%d %H:%M", "min": "%H:%M"}[span]
    firsts = firsts[:: max(1, -(-firsts.size // 10))]
    axes.set_xticks(firsts, [f"{local[bar]:{style}}" for bar in firsts])
    axes.set_xlim(0, max(len(index) - 1, 1))


def _readings(
    equity: pd.Series, benchmark: pd.Series, drawdown: pd.Series, name: str, against: str
) -> Mapping[str, str]:
    """What the script of a page says at each bar that is read out, as attributes of the drawing; see script.js.

    Bars and times are the first and then the steps, which are short; times are wall clocks in units of their largest
    common divisor, drawdowns tenths of a percent.
    """
    lines = [equity.to_numpy(float), benchmark.to_numpy(float), drawdown.to_numpy(float)]
    most = MOST_READ if equity.size <= MOST_READ else MOST_READ // len(lines)
    at = functools.reduce(np.union1d, [drawn_bars(line, most) for line in lines])
    index = pd.DatetimeIndex(equity.index)
    clock = index.tz_localize(None).as_unit("s").asi8[at]
    steps = np.diff(clock)
    unit = int(np.gcd.reduce(steps)) or 1
    daily = bar_text(index, 0).count(":") == 0 and unit % 86_400 == 0
    lists = {
        "bars": [at[0], *np.diff(at)],
        "times": [clock[0], *steps // unit],
        "account": [_short(value) for value in lines[0][at]],
        "benchmark": [_short(value) for value in lines[1][at]],
        "drawdown": np.round(lines[2][at] * 1000.0).astype(int),
    }
    words = {"unit": str(unit), "digits": "10" if daily else "16", "name": name, "against": against}
    return {**words, **{key: " ".join(map(str, values)) for key, values in lists.items()}}


def _short(amount: float) -> str:
    """As many digits as are read out: whole ones, or more where it is small."""
    return f"{amount:.0f}" if abs(amount) >= 1000.0 else f"{amount:.6g}"


def _places(chart: Chart) -> dict[str, str]:
    """Where the bars and the account are drawn: left, right, top and bottom of all axes, low and high end of a log axis
    with their heights, in the units of the drawing, and the last bar."""
    width, height = chart.get_size_inches() * 72.0
    first, last = chart.axes[0].get_position(), chart.axes[-1].get_position()
    frame = [first.x0 * width, first.x1 * width, (1.0 - first.y1) * height, (1.0 - last.y0) * height]
    scale = [*chart.axes[0].get_ylim(), (1.0 - first.y0) * height, (1.0 - first.y1) * height]
    end = chart.axes[0].get_xlim()[1]
    return {key: " ".join(f"{value:.7g}" for value in of) for key, of in (("frame", [*frame, end]), ("scale", scale))}


def _drawdowns(series: pd.Series) -> pd.Series:
    return pd.Series(drawdown_of(series.to_numpy()), index=series.index)


def _worst_stretch(drawdown: pd.Series) -> tuple[int, int]:
    """Last bar at the high before the deepest drawdown, and first bar back at it (or the number of bars)."""
    values = drawdown.to_numpy()
    worst = int(values.argmin())
    start = int(np.flatnonzero(values[: worst + 1] == 0.0)[-1])
    back = np.flatnonzero(values[worst:] == 0.0)
    return start, worst + int(back[0]) if back.size else values.size


def _themed(svg: str, data: Mapping[str, str]) -> str:
    """Colours as CSS variables, text in the page's font, no XML head, size left to the page; data as attributes."""
    view = svg[svg.index("viewBox=") : svg.index('"', svg.index("viewBox=") + 9) + 1]
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<defs>") :], flags=re.DOTALL)
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", tag[0]), body)
    mark = hashlib.sha256(body.encode()).hexdigest()[:8]  # two charts on one page must not share the ids of clip paths
    body = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{mark}-", body)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {view} width="100%">\n{body.replace("xlink:href", "href")}'
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, f"var({variable}, {color})")
    svg = svg.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    carried = "".join(f' data-{key}="{html.escape(text)}"' for key, text in data.items())
    return svg.replace(' width="100%">', f' width="100%"{carried}>', 1)
