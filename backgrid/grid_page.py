"""The pieces of a page that only a sweep has: its grid as text, what its winner is worth, and who else was tried.

All else, equity to provenance, `backgrid.page` makes of the winner's result.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from backgrid.bars import bar_text
from backgrid.errors import ParameterError, shown
from backgrid.grid import GridResult, name_neighbours
from backgrid.luck import Luck
from backgrid.metrics import METRICS, format_metric, format_value
from backgrid.page import (
    HOLDS,
    Chip,
    Html,
    asked_for,
    benchmark_metrics,
    deflated_chip,
    head,
    html_table,
    interval_chip,
    verdicts,
)
from backgrid.result import BacktestResult
from backgrid.space import Space, read_space, read_where
from backgrid.strategies import check_axis, describe_strategy, get_strategy

if TYPE_CHECKING:
    from backgrid.plot import Chart

NUMBER = r"[+-]?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(?:[eE][+-]?\d{1,2})?"
PART = re.compile(r"([A-Za-z_]\w{0,39})(?:\s*=\s*|\s+)(\S.*)", re.DOTALL)
EXAMPLE = "'fast_window 5:60:5, slow_window 20|50|200'"
MOST_COMBINATIONS = 1_000_000  # of a report; beyond it the cross-validation takes many minutes
MOST_MAPS = 6
MOST_NEIGHBOURS = 26  # of a combination of three parameters
BEATS, COIN = 0.05, 0.5  # p-value that beats, PBO of no skill
SHOWN = ("sharpe", "cagr", "max_drawdown", "n_trades")


# ---- the grid as text ------------------------------------------------------------------------------------------------


def read_grid(text: str) -> dict[str, list[Any]]:
    """The values of each parameter, from a text such as "fast_window 5:60:5, slow_window 20|50|200".

    Parameters
    ----------
    text : str
        Parts separated by commas: a name, then first:last or first:last:step with the last included, or values
        separated by bars. Numbers without a point are whole; true and false are truth values.

    Returns
    -------
    dict of str to list

    Raises
    ------
    ParameterError
        For what cannot be read, naming the part; for more than a million combinations.
    """
    values = {name: _values(name, given) for name, given in _parts(text).items()}
    size = math.prod(map(len, values.values()))
    if size > MOST_COMBINATIONS:
        raise ParameterError(
            f"grid has {size:,} combinations, and a report takes {MOST_COMBINATIONS:,}: give larger steps, or fewer "
            "parameters"
        )
    return values


def plain_grid(text: str) -> str:
    """The same grid in one way of writing it."""
    return ", ".join(f"{name} {given}" for name, given in _parts(text).items())


def check_grid(text: str, where: str | None, strategy: str) -> tuple[Space, np.ndarray]:
    """The combinations of a grid, and the numbers of those that `where` leaves.

    Raises
    ------
    ParameterError
        As `read_grid`; for a parameter that the strategy does not have, a value of the wrong type, or an expression
        that cannot be read or leaves nothing.
    """
    space = read_space(read_grid(text))
    for name, values in zip(space.names, space.values, strict=True):
        check_axis(get_strategy(strategy), name, values)
    numbers = np.flatnonzero(read_where(where, space)(np.arange(space.size)))
    if not numbers.size:
        raise ParameterError(f"where leaves out all {space.size:,} combinations: {shown(where)}")
    return space, numbers


def _parts(text: Any) -> dict[str, str]:
    """Each name with its values as they are written, without blanks."""
    if not isinstance(text, str) or not text.strip():
        raise ParameterError(f"grid must name parameters and their values, such as {EXAMPLE}, got {shown(text)}")
    parts: dict[str, str] = {}
    for part in text.strip().rstrip(",").split(","):
        found = PART.fullmatch(part.strip())
        if not found:
            raise ParameterError(f"grid, part {shown(part.strip())}: give a name and its values, such as {EXAMPLE}")
        if found[1] in parts:
            raise ParameterError(f"grid names {found[1]} twice")
        parts[found[1]] = "".join(found[2].split())
    return parts


def _values(name: str, given: str) -> list[Any]:
    part = f"grid, part {shown(f'{name} {given}')}"
    if ":" not in given:
        return [_value(part, word) for word in given.split("|")]
    ends = given.split(":")
    if len(ends) > 3 or not all(re.fullmatch(NUMBER, end) for end in ends):
        raise ParameterError(f"{part}: a range is first:last or first:last:step, of numbers")
    first, last, step = (Decimal(end) for end in (*ends, "1")[:3])
    if step <= 0:
        raise ParameterError(f"{part}: the step must be above 0")
    if last < first:
        raise ParameterError(f"{part}: the last, {ends[1]}, is below the first")
    count = int((last - first) / step) + 1
    if count > MOST_COMBINATIONS:
        raise ParameterError(f"{part}: more than {MOST_COMBINATIONS:,} values")
    kind = int if all(re.fullmatch(r"[+-]?\d+", end) for end in ends) else float
    return [kind(first + place * step) for place in range(count)]  # decimal: 0.1 and 0.2 are 0.3


def _value(part: str, word: str) -> Any:
    if re.fullmatch(NUMBER, word):
        return int(word) if re.fullmatch(r"[+-]?\d+", word) else float(word)
    if re.fullmatch(r"[A-Za-z_]\w{0,39}", word):
        return {"true": True, "false": False}.get(word.lower(), word)
    raise ParameterError(f"{part}: {shown(word)} is neither a number nor a word")


# ---- the answer ------------------------------------------------------------------------------------------------------


def summary(sweep: GridResult, luck: Luck, result: BacktestResult, checked: Any = None) -> Html:
    """Title, what could be said aloud, verdicts, and six numbers of the winner beside holding.

    `checked` is the LookaheadReport of the winner, None where there is none.
    """
    held, index = benchmark_metrics(result), result.equity.index
    title, _ = describe_strategy(result.strategy, result.params, result.symbol or "the asset")
    return head(
        result,
        held,
        title=f"{title} on {result.symbol or 'these prices'}, {_best_of(sweep)}",
        span=f"{bar_text(index, 0)} to {bar_text(index, len(index) - 1)}, {len(index):,} bars",
        lead=_lead(sweep, luck, result, held),
        chips=verdicts(result, held, checked, own=luck_verdicts(sweep, luck)),
    )


def luck_verdicts(sweep: GridResult, luck: Luck) -> list[Chip]:
    """What speaks for skill and what for luck."""
    chips = [deflated_chip(luck.dsr_sampling, luck.n_trials)]
    if math.isfinite(luck.interval.low):
        chips.append(interval_chip(*luck.interval, luck.n_trials))
    if luck.n_trials > 1 and math.isfinite(luck.timing):
        timing, beta = format_value(luck.timing, "ratio"), format_value(luck.beta, "ratio")
        said = f"timing only, without {beta} of holding: Sharpe {timing}, deflated {luck.dsr_timing:.2f}"
        chips.append(("good" if luck.dsr_timing > HOLDS else "bad", said))
    if luck.overfitting:
        kind = "bad" if luck.pbo >= COIN else "plain"
        chips.append((kind, f"probability of overfitting {luck.pbo:.2f}, without skill near {COIN:.2f}"))
    tests = {"cash": luck.against_cash.pvalue, "holding": luck.against_holding.pvalue}
    told = [f"{'beats' if p <= BEATS else 'is not shown to beat'} {name} (p {p:.3f})" for name, p in tests.items()]
    kind = "good" if max(tests.values()) <= BEATS else "bad"
    chips.append((kind, f"reality check of all trials: the best {' and '.join(told)}"))
    winner = sweep.best()
    known = winner.neighbours[np.isfinite(winner.neighbours)]
    if known.size:
        alone = 2.0 * float(np.median(known)) < luck.sharpe and luck.sharpe > 0.0
        said = "a peak of its own, " if alone else ""
        chips.append(("bad" if alone else "plain", f"{said}Sharpe of {winner.around}"))
    edges = _edges(sweep, luck.winner)
    return [*chips, ("bad", f"at the edge of the grid: {', '.join(edges)}")] if edges else chips


# ---- the evidence ----------------------------------------------------------------------------------------------------


def luck_table(luck: Luck) -> Html:
    """Every statistic of luck with its meaning."""
    rows = [(name, row["value"], row["meaning"]) for name, row in luck.table().to_dict("index").items()]
    caption = f"Sharpe ratios are a year; p-values are from {luck.against_cash.n_boot:,} resamples of the bars"
    return html_table(("", "value", "meaning"), rows, caption=caption)


def cross_validation(luck: Luck) -> "Chart | Html":
    """Where the best of one half of the bars ends up on the other half; in words where there is nothing to halve."""
    from backgrid.plot import logits_chart

    if luck.overfitting is None:
        return Html("<p>One trial, or too few bars: there is nothing to choose from on one half of them.</p>")
    return logits_chart(luck.overfitting.logits)


def maps(sweep: GridResult) -> None:
    """The Sharpe ratio over each pair of parameters, the others held at the winner's values; over one as a line."""
    from IPython.display import display

    space = _space(sweep)
    vary = [name for name, n in zip(space.names, space.shape, strict=True) if n > 1] or list(space.names)
    pairs = list(itertools.combinations(vary, 2))
    for x, y in pairs[:MOST_MAPS]:
        display(sweep.heatmap(x=x, y=y))
    if not pairs:
        display(sweep.heatmap(x=vary[0]))
    if len(pairs) > MOST_MAPS:
        display(Html(f"<p>These are the first {MOST_MAPS} of {len(pairs)} pairs of parameters.</p>"))


def neighbours(sweep: GridResult) -> Html:
    """The winner, and the combinations at most one step away from it on every parameter; of a sample, the nearest."""
    order, ranks = _ranked(sweep)
    around = sweep.neighbours(int(order[0]))
    if not around.size:
        return Html("<p>The winner has no neighbours: nothing tells whether it is a peak of its own.</p>")
    shown = around[np.argsort(ranks[around])][-MOST_NEIGHBOURS:]
    fewer = f", the lowest {len(shown)} of them" if len(shown) < len(around) else ""
    near = name_neighbours(len(around), sweep.sampled)
    caption = f"The winner and its {near}{fewer}, with their ranks among {sweep.n_trials:,} trials"
    return _trials_table(sweep, [order[0], *shown], ranks, caption)


def best_trials(sweep: GridResult, result: BacktestResult, most: int = 10) -> Html:
    """The trials of the highest Sharpe ratios, and holding."""
    order, ranks = _ranked(sweep)
    shown = order[:most]
    held = benchmark_metrics(result)
    first, *others = (format_metric(name, held[name]) if name in held else "" for name in SHOWN)
    last = (result.settings["benchmark"], first, *[""] * len(_space(sweep).names), *others)
    many = f"The best {len(shown)} of {sweep.n_trials:,} trials" if sweep.n_trials > 1 else "The only trial"
    return _trials_table(sweep, shown, ranks, f"{many}, by Sharpe ratio, beside {last[0]}", [last])


def tried(sweep: GridResult, where: str | None = None) -> Html:
    """Which values were tried, and what became of all combinations."""
    space, best = _space(sweep), sweep.best().params
    given = [sorted(values) if sweep.sampled and _numeric(values) else values for values in space.values]
    rows = [(name, _listed(values), _plain(best[name])) for name, values in zip(space.names, given, strict=True)]
    axes = html_table(("Parameter", "Values", "Winner"), rows)
    untried = space.size - sweep.n_trials - sweep.n_refused - sweep.n_excluded
    counts = [
        ("combinations", f"{space.size:,}", "of all values" if space.points is None else "that were given"),
        ("tried", f"{sweep.n_trials:,}", "trials, which the Sharpe ratio is deflated by at least"),
        ("refused", f"{sweep.n_refused:,}", "by the strategy, or for want of bars"),
        *([("left out", f"{sweep.n_excluded:,}", f"by where: {where}")] if where else []),
        *([("not reached", f"{untried:,}", "when the sweep was interrupted")] if untried else []),
    ]
    return Html(axes + html_table(("", "number", "meaning"), counts))


# ---- words -----------------------------------------------------------------------------------------------------------


def _lead(sweep: GridResult, luck: Luck, result: BacktestResult, held: Mapping[str, float]) -> str:
    """What could be said aloud: what the winner did, and what that is worth."""
    settings, ours = result.settings, result.metrics
    name, span = (
        ("cagr", "a year") if len(result.equity) > settings["periods_per_year"] / 2 else ("total_return", "in all")
    )
    told = [(format_metric(name, each[name]), format_value(-each["max_drawdown"], "fraction")) for each in (ours, held)]
    (gained, lost), (theirs, deepest) = told
    against = f"against {theirs} for {settings['benchmark']}, at a worst loss of {lost} against {deepest}"
    did = f"{asked_for(result)}: {gained} {span} {against}."
    if luck.n_trials <= 1:
        return f"{did} Nothing else was tried."
    sharpe, luckiest = format_value(luck.sharpe, "ratio"), format_value(luck.luckiest, "ratio")
    counted = f", and of {luck.n_trials:,.0f} that were counted" if luck.n_trials > sweep.n_trials else ""
    holds, beyond = ("holds up", "above") if luck.dsr_sampling > HOLDS else ("does not hold up", "not above")
    return (
        f"{did} It is {_best_of(sweep)}{counted}, among which luck alone is expected to find a Sharpe ratio of "
        f"{luckiest}: its {sharpe} {holds} (deflated Sharpe {luck.dsr_sampling:.2f}, {beyond} {HOLDS})."
    )


def _best_of(sweep: GridResult) -> str:
    return f"the best of {sweep.n_trials:,} trials" if sweep.n_trials > 1 else "the only trial"


def _edges(sweep: GridResult, params: Mapping[str, Any]) -> list[str]:
    """Parameters whose winning value is the first or last of three or more that were to be tried."""
    space, found = _space(sweep), []
    for name, values in zip(space.names, space.values, strict=True):
        if _numeric(values) and len(values) > 2 and params[name] in (min(values), max(values)):
            which = "lowest" if params[name] == min(values) else "highest"
            found.append(f"{name} {_plain(params[name])} is the {which}")
    return found


def _listed(values: Sequence[Any]) -> str:
    """Values in words: a range where they are evenly spaced, else all, or the ends of many."""
    steps = np.diff(np.array(values, dtype=float)) if _numeric(values) else np.array([])
    if steps.size > 2 and np.allclose(steps, steps[0], rtol=1e-9, atol=0.0):
        step = _plain(float(f"{steps[0]:.6g}"))
        return f"{_plain(values[0])} to {_plain(values[-1])} in steps of {step} ({len(values):,} values)"
    if len(values) <= 12:
        return ", ".join(map(_plain, values))
    return f"{_plain(values[0])}, {_plain(values[1])} \u2026 {_plain(values[-1])} ({len(values):,} values)"


def _plain(value: Any) -> str:
    """A value of a parameter with no more digits than it has."""
    if _numeric([value]):
        return f"{value:.12g}".replace("-", "\u2212")
    return str(value)


def _numeric(values: Iterable[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


# ---- tables of trials ------------------------------------------------------------------------------------------------


def _ranked(sweep: GridResult) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the sweep from the highest Sharpe ratio down, undefined ones last; and the rank of each row."""
    values = sweep.metrics["sharpe"].to_numpy(dtype=float)
    order = np.argsort(np.where(np.isnan(values), np.inf, -values), kind="stable")
    ranks = np.empty(order.size, dtype=np.int64)
    ranks[order] = np.arange(1, order.size + 1)
    return order, ranks


def _trials_table(
    sweep: GridResult, places: Iterable[Any], ranks: np.ndarray, caption: str, more: Sequence[tuple] = ()
) -> Html:
    rows = []
    for place in map(int, places):
        params, numbers = sweep.params(place), sweep.metrics.iloc[place]
        first, *others = (format_metric(name, float(numbers[name])) for name in SHOWN)
        rows.append((f"{ranks[place]:,}", first, *map(_plain, params.values()), *others))
    first, *others = (METRICS[name].label for name in SHOWN)
    heads = ("Rank", first, *_space(sweep).names, *others)
    return html_table(heads, [*rows, *more], "numbers", caption)


def _space(sweep: GridResult) -> Space:
    """Values of each parameter."""
    return sweep.trials.job.space  # type: ignore[union-attr]  # a report is of one symbol
