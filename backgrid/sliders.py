"""Sliders over the parameters of a strategy, in a notebook: equity, drawdown and metrics follow the hand.

Each combination that the hand passes is a trial, so the panel counts them and says what a Sharpe ratio is worth after
so many. It counts its own only: the trial ledger holds what a request can ask for again, and a hand on a slider leaves
none. Its figure is a small SVG drawn here, since matplotlib takes longer than a hand waits.
"""

import copy
import functools
import html
import math
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from backgrid.bars import bar_text, drawn_bars, float_of
from backgrid.engine import complete_given, run_backtest
from backgrid.errors import BackgridError, ParameterError, did_you_mean, shown
from backgrid.metrics import METRICS, NAN, drawdown_of, format_metric, format_value
from backgrid.overfit import deflated_sharpe_ratio, expected_maximum_sharpe
from backgrid.result import BacktestResult
from backgrid.strategies import STRATEGIES, complete_params, function_name, get_strategy, strategy_defaults

HOW = "A static figure. For sliders: pip install ipywidgets, and run this cell in JupyterLab."
SHOWN = ("cagr", "annual_volatility", "max_drawdown", "n_trades", "exposure")  # beside the Sharpe ratio
LEVEL = (0.0, 100.0, 1.0)
RANGES = {"rsi_reversion": {"lower": LEVEL, "upper": LEVEL}}  # low, high, step where the default does not tell
NEAREST, FARTHEST = 1e-300, 1e9  # what is not 0 and not between them in size has no slider
MOST_DECIMALS = 6  # beside a slider, before it counts significant digits instead
MOST_DRAWN = 800  # bars of a line
MOST_LETTERS = 14  # of a name at the end of its line
WIDTH, HEIGHT, LEFT, RIGHT = 960, 420, 72, 850  # of the figure, and where its lines begin and end; the rest likewise
TOP, FLOOR = 10, 262  # of the account
ROOF, BOTTOM = 288, 392  # of the drawdown
APART = 15.0  # the least between names at the ends of lines
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)  # ticks of the log axis, times powers of ten
FINE = tuple(step / 10.0 for step in range(10, 100))  # where the axis does not go far
STYLE = """<style>
.backgrid-explore{--accent:#1f6feb;--neutral:#6b747e;--loss:#c2410c;max-width:960px;line-height:1.4;
 color:var(--jp-ui-font-color1,inherit);font-family:var(--jp-ui-font-family,system-ui,sans-serif);
 font-variant-numeric:tabular-nums}
[data-jp-theme-light="false"] .backgrid-explore,.vscode-dark .backgrid-explore{--accent:#6cb0ff;--neutral:#9aa4af;
 --loss:#ff9a62}
.backgrid-explore p{margin:4px 0}
.backgrid-explore .numbers{display:flex;flex-wrap:wrap;gap:4px 28px;margin:8px 0}
.backgrid-explore .numbers small{display:block;font-size:12px;opacity:.8}
.backgrid-explore .numbers span{font-size:18px}
.backgrid-explore svg{display:block;width:100%;height:auto}
.backgrid-explore text{fill:currentColor;font-size:12px}
.backgrid-explore .refused{border-left:3px solid var(--loss);margin:16px 0;padding:8px 12px}
</style>"""


class Explorer:
    """What `explore` gives back: it shows the sliders, and knows what they show.

    Made from a function that can `run` a combination, and the strategies that are the `choices`, by name.

    Attributes
    ----------
    result : BacktestResult
        The run that is shown; while a message stands in its place, the last one that could be run.
    message : str
        Why the sliders cannot be run as they stand; empty if they can.
    n_trials : int
        Combinations tried in this panel so far, each counted once, those of all strategies together. The trial ledger
        does not know of them. [trials]
    controls : dict
        The ipywidgets of the parameters, by name; empty without ipywidgets, and where a notebook runs by itself.
    chooser : ipywidgets.Dropdown or None
        That of the strategy.
    """

    result: BacktestResult

    def __init__(self, run: Callable[..., BacktestResult], choices: Mapping[str, Callable]) -> None:
        self._run, self._choices, self._panel = run, choices, None
        self._tried: set[tuple[str, str]] = set()
        self.controls: dict[str, Any] = {}
        self.chooser: Any = None
        self.message = ""

    @property
    def params(self) -> dict[str, Any]:
        """All parameters of the run that is shown."""
        return dict(self.result.params)

    @property
    def n_trials(self) -> int:
        """Combinations tried in this panel so far. [trials]"""
        return len(self._tried)

    @property
    def deflated_sharpe(self) -> float:
        """Probability that the true Sharpe ratio is above what luck gives the best of `n_trials`; see `overfit`."""
        return _luck(self.result, self.n_trials)[1]

    def plot(self) -> Any:
        """The run that is shown as a matplotlib figure, as `BacktestResult.plot` draws it."""
        return self.result.plot()

    def _try(self, name: str, params: Mapping[str, Any]) -> None:
        """Run one combination. One that is refused is no trial, as in a sweep."""
        self.result = self._run(self._choices[name], params=params)
        self._tried.add((name, repr(sorted(params.items()))))

    def _frame(self, name: str, params: Mapping[str, Any]) -> str:
        """What the panel shows of one combination."""
        try:
            self._try(name, params)
            self.message = ""
        except Exception as error:  # a strategy of the user's own may raise anything
            kind = "" if isinstance(error, BackgridError) else f"{type(error).__name__}: "
            self.message = " ".join(f"{kind}{error}".split())
            arguments = ", ".join(f"{key}={shown(value)}" for key, value in params.items())
            return _page(f"{name}({arguments})", f"<p class='refused' role='status'>{html.escape(self.message)}</p>")
        return _page(self.result.title, _numbers(self.result, self.n_trials) + _figure(self.result))

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if self._panel is None or _kernel() is None:
            print(HOW)  # noqa: T201  the one line beside the figure
            display(self.plot())
        else:
            display({**self._panel._repr_mimebundle_(), "text/plain": repr(self)}, raw=True)

    def __repr__(self) -> str:
        sharpe = format_metric("sharpe", self.result.metrics["sharpe"])
        return f"<Explorer {self.result.title}: sharpe {sharpe}, {_tried(self.n_trials)}>"


def explore(
    prices: pd.DataFrame | pd.Series,
    strategy: str | Callable = "ma_crossover",
    *,
    params: Mapping[str, Any] | None = None,
    ranges: Mapping[str, tuple] | None = None,
    **settings: Any,
) -> Explorer:
    """Sliders over a strategy's parameters; equity, drawdown and metrics change while they are dragged.

    What is chosen on sliders is the winner of a search, as that of a sweep is. So each combination that is passed is a
    trial: the panel counts them, and shows what the Sharpe ratio is worth after so many. It counts what was tried in
    this panel only, and the trial ledger (`count_trials`) does not count it: to have a search on record, run its
    combinations by `run_grid`. Without ipywidgets, and where nobody is there to drag, it shows a static figure.

    Parameters
    ----------
    prices : DataFrame or Series, n_bars rows
        As in `run_backtest`. [currency]
    strategy : str or function
        A registered name, or a function of the prices. The other registered strategies can be chosen beside it.
    params : dict, optional
        Where the sliders begin; the strategy's defaults for the rest. A default that is no number, text or truth value
        has no control and stays as it is.
    ranges : dict, optional
        (low, high) or (low, high, step) of sliders by parameter; from the defaults for the rest. A default outside of
        its range begins at its nearer end; a value of `params` must lie within.
    **settings
        Any other argument of `run_backtest`: fees, fill, stop_loss ...

    Returns
    -------
    Explorer
        `.result`, `.params` and `.n_trials` say what is shown now.

    Raises
    ------
    ParameterError, PricesError
        As `run_backtest`, of what the sliders begin with; for a range that is none, and a start outside of it.

    Examples
    --------
    >>> explore(prices, "ma_crossover", fees=0.001)  # doctest: +SKIP
    """
    if not isinstance(strategy, str) and not callable(strategy):
        raise ParameterError(f"explore needs a strategy by name, or a function; got {shown(strategy)}")
    function = get_strategy(strategy) if isinstance(strategy, str) else strategy
    name = function_name(function)
    known = RANGES.get(name, {}) if STRATEGIES.get(name) is function else {}
    spans = {**RANGES, name: {**known, **_check_ranges(function, ranges)}}
    start = _start(function, params, spans[name])
    run = functools.partial(run_backtest, copy.copy(prices), **complete_given(settings))
    explorer = Explorer(run, {name: function, **{other: f for other, f in STRATEGIES.items() if other != name}})
    explorer._try(name, start)  # here, so that what cannot be run is an error and not a message in a panel
    widgets = _widgets()
    if widgets:
        _build(explorer, widgets, name, start, spans)
    return explorer


def _start(function: Callable, params: Mapping[str, Any] | None, spans: Mapping[str, tuple]) -> dict[str, Any]:
    """All parameters as the controls begin: those given, which must lie in their ranges, and defaults, moved there."""
    start, defaults = complete_params(function, params), strategy_defaults(function)
    for name, (low, high, _) in spans.items():
        if name in (params or {}) and not low <= start[name] <= high:
            raise ParameterError(
                f"params: {name} {shown(start[name])} is outside of its slider, {low} to {high}; "
                "begin within, or give it a wider range in ranges"
            )
        start[name] = min(max(start[name], low), high)
    return {name: _as_control(value, defaults[name]) for name, value in start.items()}


# ---- the widgets -----------------------------------------------------------------------------------------------------


def _widgets() -> Any:
    """ipywidgets, or None: it is not installed, or a notebook runs by itself and is to give the same bytes again."""
    kernel = _kernel()
    if kernel and not kernel.get_parent("shell").get("content", {}).get("allow_stdin", True):
        return None
    try:
        import ipywidgets
    except ImportError:
        return None
    return ipywidgets


def _kernel() -> Any:
    """The kernel that this runs in, None outside a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None)


def _build(explorer: Explorer, widgets: Any, name: str, start: dict[str, Any], spans: Mapping[str, Mapping]) -> None:
    """A chooser of the strategy, a control a parameter, and the view that follows them."""
    view, box, fixed = widgets.HTML(), widgets.VBox(), dict(start)
    explorer.chooser = widgets.Dropdown(options=list(explorer._choices), value=name, description="strategy")

    def moved(_: Any = None) -> None:
        moving = {key: control.value for key, control in explorer.controls.items()}
        view.value = explorer._frame(explorer.chooser.value, {**fixed, **moving})

    def chosen(_: Any = None) -> None:
        for control in explorer.controls.values():
            control.close()
        named = explorer.chooser.value
        function = explorer._choices[named]
        defaults = strategy_defaults(function)
        fixed.clear()
        fixed.update(start if named == name else _start(function, None, spans.get(named, {})))
        made = {key: _control(widgets, key, fixed[key], defaults[key], spans.get(named, {})) for key in defaults}
        explorer.controls = {key: control for key, control in made.items() if control is not None}
        for control in explorer.controls.values():
            control.observe(moved, "value")
        box.children = tuple(explorer.controls.values())
        moved()

    explorer.chooser.observe(chosen, "value")
    explorer._panel = widgets.VBox([widgets.HTML(STYLE), explorer.chooser, box, view])
    chosen()


def _control(widgets: Any, name: str, value: Any, default: Any, spans: Mapping[str, tuple]) -> Any:
    """What changes one parameter; None where its default is no number, text or truth value."""
    words = {"description": name, "style": {"description_width": "120px"}, "layout": {"width": "min(520px, 100%)"}}
    kind = _kind(default)
    if kind is bool:
        return widgets.Checkbox(bool(value), **words)
    if kind is str:
        return widgets.Text(value, continuous_update=False, **words)
    if kind is None:
        return None
    if name not in spans and not (_slides(default) and _slides(value)):
        return None
    low, high, step = spans.get(name) or _span(kind(default), kind(value))
    within = {"value": kind(value), "min": low, "max": high, "step": step}
    if kind is int:
        return widgets.IntSlider(**within, **words)
    decimals = max(_decimals(low), _decimals(step))
    readout = f".{decimals}f" if decimals <= MOST_DECIMALS else ".4g"
    return widgets.FloatSlider(readout_format=readout, **within, **words)


def _kind(default: Any) -> Any:
    """bool, int, float or str; None for a default that no control can change."""
    kinds: dict[type, tuple] = {
        bool: (bool, np.bool_),
        int: (int, np.integer),
        float: (float, np.floating),
        str: (str,),
    }
    return next((kind for kind, alike in kinds.items() if isinstance(default, alike)), None)


def _slides(number: Any) -> bool:
    """Whether a slider can reach it."""
    size = abs(float_of(number))
    return size == 0.0 or NEAREST <= size <= FARTHEST


def _as_control(value: Any, default: Any) -> Any:
    """A value as its control has it: 1 is 1.0 where the default is a float, so that both are one trial."""
    kind = _kind(default)
    return kind(value) if kind is bool or (kind in (int, float) and _slides(value)) else value


def _span(default: float, value: float) -> tuple:
    """Low, high and step of a slider, wide enough for what it begins with."""
    size = abs(default)
    if isinstance(default, int):
        low, high = (1, max(5 * default, 10)) if default > 0 else (-5 * size, 5 * size or 100)
        return min(low, value), max(high, value), 1
    wide = float(f"{3.0 * size:.12g}") or 1.0
    return min(0.0 if default > 0.0 else -wide, value), max(wide, value), _step(size or 1.0)


def _step(size: float) -> float:
    """A power of ten that takes ten to a hundred steps to the size."""
    return 10.0 ** (math.floor(math.log10(size)) - 1)


def _decimals(number: float) -> int:
    """How many it is written with."""
    return max(0, -int(Decimal(f"{number:.12g}").normalize().as_tuple().exponent))


def _check_ranges(function: Callable, ranges: Any) -> dict[str, tuple]:
    """Low, high and step by parameter."""
    if ranges is not None and not isinstance(ranges, Mapping):
        raise ParameterError(f"ranges must be a dict of parameters, got {shown(ranges)}")
    defaults = strategy_defaults(function)
    for name in ranges or {}:
        if name not in defaults:
            hint = did_you_mean(str(name)[:40], defaults)
            raise ParameterError(f"ranges: {function_name(function)} has no parameter {shown(name)}{hint}")
    return {name: _check_range(name, span, defaults[name]) for name, span in (ranges or {}).items()}


def _check_range(name: str, span: Any, default: Any) -> tuple:
    kind = _kind(default)
    if kind not in (int, float) or (kind is float and not math.isfinite(default)):
        raise ParameterError(f"ranges: the default of {name} is {shown(default)}, no number, so it has no slider")
    ends = span if isinstance(span, tuple | list) and len(span) in (2, 3) else ()
    fits = ends and all(_kind(end) in (int, kind) and abs(float_of(end)) <= FARTHEST for end in ends)
    if not fits or not ends[0] < ends[1]:
        noun = "whole numbers" if kind is int else "numbers"
        same = bool(fits) and ends[0] == ends[1]
        remedy = f"; to begin at {ends[0]}, give that in params and leave {name} out of ranges" if same else ""
        raise ParameterError(
            f"ranges: {name} must be (low, high) or (low, high, step) of {noun} up to {FARTHEST:,.0f}, low below high; "
            f"got {shown(span)}{remedy}"
        )
    low, high, *given = (kind(end) for end in ends)
    step = given[0] if given else 1 if kind is int else _step(high - low)
    if not low < low + step:
        raise ParameterError(
            f"ranges: {name} needs a step above 0, and not too small to change its low end; got {shown(span)}"
            f"{'' if given else f', a step of {step:g}: give it farther ends'}"
        )
    return low, high, step


# ---- what it shows ---------------------------------------------------------------------------------------------------


def _luck(result: BacktestResult, n_trials: int) -> tuple[float, float]:
    """Sharpe ratio a year that the best of so many without skill would show, and the deflated one; NaN if undefined."""
    a_year, n_obs = math.sqrt(result.settings["periods_per_year"]), result.curves.shape[1] - 1
    sharpe, skew, kurtosis = (result.metrics[name] for name in ("sharpe", "skew", "kurtosis"))
    if n_obs < 2 or not math.isfinite(sharpe + skew + kurtosis):
        return NAN, NAN
    chance: dict[str, Any] = {"n_trials": n_trials, "variance": 1.0 / (n_obs - 1)}
    least = skew * skew + 1.0  # equal for two values, but for rounding
    deflated = deflated_sharpe_ratio(sharpe / a_year, n_obs=n_obs, skew=skew, kurtosis=max(kurtosis, least), **chance)
    return expected_maximum_sharpe(**chance) * a_year, deflated


def _tried(n_trials: int) -> str:
    return f"{n_trials:,} combination{'s' * (n_trials != 1)} tried in this panel"


def _page(title: str, body: str) -> str:
    return f"<div class='backgrid-explore'><p><strong>{html.escape(title)}</strong></p>{body}</div>"


def _numbers(result: BacktestResult, n_trials: int) -> str:
    """The metrics, and beside the Sharpe ratio what it took to find it."""
    luckiest, deflated = _luck(result, n_trials)
    values = {
        f"Sharpe, {_tried(n_trials)}": format_metric("sharpe", result.metrics["sharpe"]),
        "Deflated Sharpe": format_value(deflated, "ratio"),
        **{METRICS[name].label: format_metric(name, result.metrics[name]) for name in SHOWN},
    }
    items = "".join(
        f"<div><small>{html.escape(name)}</small> <span>{value}</span></div>" for name, value in values.items()
    )
    said = f": the best of {n_trials:,} without skill would show a Sharpe of about {format_value(luckiest, 'ratio')}"
    note = f"Each combination passed is a trial{said if n_trials > 1 else ''}. The trial ledger does not count them."
    return f"<div class='numbers'>{items}</div><p><small>{note}</small></p>"


def _figure(result: BacktestResult) -> str:
    """Equity and holding on a log axis, the drawdown below."""
    equity, _, held = result.curves
    account, holding = np.log(np.where(equity > 0.0, equity, np.nan)), np.log(held)
    low, high = np.nanmin([account, holding]), np.nanmax([account, holding])
    low, high = (low, high) if high - low > 1e-9 else (low - 0.01, high + 0.01)  # flat: a line in the middle
    fall = drawdown_of(equity)
    depth = min(float(fall.min()), -1e-9)
    names = (result.strategy, str(result.settings["benchmark"]))
    level = functools.partial(_level, low=low, high=high, top=TOP, floor=FLOOR)
    below = functools.partial(_level, low=depth, high=0.0, top=ROOF, floor=BOTTOM)
    area = f"M{LEFT},{ROOF} L{_points(fall, below)} L{RIGHT},{ROOF} Z"
    parts = [
        *[
            _rule(level(math.log(tick)), format_value(tick, "currency"))
            for tick in _ticks(math.exp(low), math.exp(high))
        ],
        *[_rule(below(tick), format_value(tick, "fraction")) for tick in (0.0, depth)],
        f"<polyline points='{_points(holding, level)}' fill='none' stroke='var(--neutral)' stroke-width='1.2'/>",
        f"<polyline points='{_points(account, level)}' fill='none' stroke='var(--accent)' stroke-width='1.8'/>",
        f"<path d='{area}' fill='var(--loss)' fill-opacity='.25' stroke='var(--loss)'/>",
        *_end_names(names, level(account[~np.isnan(account)][-1]), level(holding[-1])),
        *_dates(result.index),
    ]
    words = f"Account of {names[0]} against {names[1]} on a log axis, and its drawdown down to {depth:.1%}"
    head = f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{html.escape(words)}'>"
    return head + "".join(parts) + "</svg>"


def _level(values: Any, low: float, high: float, top: float, floor: float) -> Any:
    """Height on the page."""
    return floor - (values - low) / (high - low) * (floor - top)


def _points(values: np.ndarray, level: Callable) -> str:
    """A line through the bars that matter; those that are NaN are left out."""
    at = drawn_bars(values, MOST_DRAWN)
    at = at[~np.isnan(values[at])]
    across = LEFT + at / max(values.size - 1, 1) * (RIGHT - LEFT)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across.tolist(), level(values[at]).tolist(), strict=True))


def _ticks(low: float, high: float) -> list[float]:
    """A handful of round amounts; both ends where there are none."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = STEPS if high > 3.0 * low else FINE
    ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
    return ticks[:: -(-len(ticks) // 6)] if len(ticks) > 1 else [low, high]


def _rule(height: float, text: str) -> str:
    line = f"<line x1='{LEFT}' x2='{RIGHT}' y1='{height:.1f}' y2='{height:.1f}' stroke='currentColor' opacity='.18'/>"
    return f"{line}<text x='{LEFT - 8}' y='{height + 4:.1f}' text-anchor='end'>{text}</text>"


def _end_names(names: tuple[str, str], account: float, holding: float) -> list[str]:
    """Names at the ends of the two lines, kept apart."""
    push = max(0.0, APART - abs(account - holding)) / 2.0 * (1.0 if account > holding else -1.0)
    heights, colors = (account + push, holding - push), ("accent", "neutral")
    short = [name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…" for name in names]
    return [
        f"<text x='{RIGHT + 8}' y='{y + 4:.1f}' style='fill:var(--{color})'>{html.escape(name)}</text>"
        for name, y, color in zip(short, heights, colors, strict=True)
    ]


def _dates(index: pd.DatetimeIndex) -> list[str]:
    """The dates of the first bar, the last one, and some between."""
    bars = np.unique(np.linspace(0, len(index) - 1, 5).astype(int))
    anchors = {0: "start", len(index) - 1: "end"}
    return [
        f"<text x='{LEFT + bar / max(len(index) - 1, 1) * (RIGHT - LEFT):.1f}' y='{BOTTOM + 20}' "
        f"text-anchor='{anchors.get(int(bar), 'middle')}'>{bar_text(index, int(bar))}</text>"
        for bar in bars
    ]
