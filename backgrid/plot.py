"""Charts: series in, a matplotlib figure out. Nothing here simulates, fetches or knows a strategy.

In a notebook a chart shows itself as SVG whose colours are CSS variables with the light palette as fallback, so that a
page decides on light or dark and a viewer without a page still draws it. The same data give the same bytes.
"""

import functools
import hashlib
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
import matplotlib.dates
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from backgrid.bars import bar_text, drawn_bars
from backgrid.metrics import cash_return, drawdown_of, format_value

INK, MUTED, GRID = "#1c2128", "#59636e", "#d5dbe2"
ACCENT, NEUTRAL, LOSS = "#1f6feb", "#7d8590", "#c2410c"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--rule",
    ACCENT: "--accent",
    NEUTRAL: "--neutral",
    LOSS: "--loss",
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


class Chart(Figure):
    """A figure with words for those who cannot see it (`alt`) and its finding for all (`caption`)."""

    alt = caption = ""

    def svg(self) -> str:
        """The figure as SVG text for a page: colours as CSS variables, fonts inherited, the same bytes each time."""
        with _style(), warnings.catch_warnings(), io.StringIO() as text:
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's font draws them
            FigureCanvasSVG(self)
            self.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
            return _themed(text.getvalue())

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
    equity: pd.Series, benchmark: pd.Series, positions: pd.Series, name: str = "strategy", against: str = "holding"
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
    """
    chart, (top, band, below) = _chart(5.2, [12, 0.7, 4.5])
    drawdown, held = _drawdowns(equity), _drawdowns(benchmark)
    alive = equity.where(equity > 0.0)
    _line(top, benchmark, color=NEUTRAL, width=1.2)
    _line(top, alive, color=ACCENT, width=1.8)
    _end_labels(
        top, [(alive, name if equity.iloc[-1] > 0.0 else f"{name}, ruined", ACCENT), (benchmark, against, NEUTRAL)]
    )
    _log_currency(top, pd.concat([alive.dropna(), benchmark]))
    top.set_ylabel("account, log scale")
    _position_band(band, positions)
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
        at = drawn_bars(returns, 1000)
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
        if returns.size
        else "No trade was closed."
    )
    return chart


# ---- parts of charts -------------------------------------------------------------------------------------------------


def _chart(height: float, ratios: list[float]) -> tuple[Chart, np.ndarray]:
    """A figure of axes one above the other on a common horizontal axis, which counts bars: no gaps for nights."""
    chart = Chart(figsize=(WIDTH, height))
    axes = chart.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    _margins(chart, bottom=0.3)
    for upper in axes[:-1]:
        upper.tick_params(axis="x", bottom=False)
    return chart, axes


def _margins(chart: Chart, *, bottom: float) -> None:
    """The same left and right edge for every chart of a page; inches for the height of labels."""
    height = chart.get_figheight()
    chart.subplots_adjust(
        left=0.09, right=0.885, top=1.0 - 0.12 / height, bottom=bottom / height, hspace=0.12, wspace=0.2
    )


def _line(axes: Axes, series: pd.Series, *, color: str, width: float) -> None:
    values = series.to_numpy(dtype=float)
    at = drawn_bars(values)
    axes.plot(at, values[at], color=color, linewidth=width)


def _area(axes: Axes, drawdown: pd.Series) -> None:
    values = drawdown.to_numpy()
    at = drawn_bars(values)
    axes.fill_between(at, values[at], 0.0, color=LOSS, alpha=0.22, linewidth=0)
    axes.plot(at, values[at], color=LOSS, linewidth=1.0)


def _position_band(axes: Axes, positions: pd.Series) -> None:
    """A thin band, blue where long and orange where short, the deeper the larger the position."""
    _shade(axes, positions.to_numpy(), faintest=0.25, deepest=0.85)
    axes.set_yticks([0.5], ["position"])
    axes.set_ylim(0.0, 1.0)
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)


def _shade(axes: Axes, positions: np.ndarray, *, faintest: float, deepest: float) -> None:
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
            axes.axvspan(float(start), float(end), color=ACCENT if value > 0.0 else LOSS, alpha=alpha, linewidth=0)


def _end_labels(axes: Axes, lines: list[tuple[pd.Series, str, str]]) -> None:
    """Names at the right ends of the lines, moved apart where they would touch."""
    ends = sorted(((series.dropna().iloc[-1], text, color) for series, text, color in lines), reverse=True)
    apart = abs(np.log(ends[0][0] / ends[1][0])) > 0.12
    for (value, text, color), shift in zip(ends, (0, 0) if apart else (6, -6), strict=True):
        axes.annotate(
            text,
            (1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(5, shift),
            textcoords="offset points",
            color=color,
            va="center",
            annotation_clip=False,
        )


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
    axes.set_yticks(ticks, [f"{tick:,.6g}" for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(_short_percent))


def _short_percent(value: float, _: Any = None) -> str:
    return f"{value * 100:.6g}".replace("-", "\u2212") + "\u202f%" if abs(value) > 1e-9 else "0"


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


def _drawdowns(series: pd.Series) -> pd.Series:
    return pd.Series(drawdown_of(series.to_numpy()), index=series.index)


def _worst_stretch(drawdown: pd.Series) -> tuple[int, int]:
    """Last bar at the high before the deepest drawdown, and first bar back at it (or the number of bars)."""
    values = drawdown.to_numpy()
    worst = int(values.argmin())
    start = int(np.flatnonzero(values[: worst + 1] == 0.0)[-1])
    back = np.flatnonzero(values[worst:] == 0.0)
    return start, worst + int(back[0]) if back.size else values.size


def _themed(svg: str) -> str:
    """Colours as CSS variables, text in the page's font, no XML head, size left to the page."""
    view = svg[svg.index("viewBox=") : svg.index('"', svg.index("viewBox=") + 9) + 1]
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<defs>") :], flags=re.DOTALL)
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", tag[0]), body)
    mark = hashlib.sha256(body.encode()).hexdigest()[:8]  # two charts on one page must not share the ids of clip paths
    body = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{mark}-", body)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {view} width="100%">\n{body.replace("xlink:href", "href")}'
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, f"var({variable}, {color})")
    return svg.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
