"""The pieces of a page that only a walk-forward has: its folds, what they promised and gave, and what they chose.

All else, months to provenance, `backgrid.page` makes of the out-of-sample run.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from backgrid import page
from backgrid._windows import check_metric, cut_folds
from backgrid.bars import bar_text
from backgrid.errors import ParameterError
from backgrid.grid_page import _listed, _plain
from backgrid.indicators import check_window
from backgrid.lookahead import LookaheadReport, check_lookahead
from backgrid.metrics import METRICS, format_metric, format_value
from backgrid.page import Chip, Html, asked_for, benchmark_metrics, chance, head, html_table, verdicts
from backgrid.result import BacktestResult
from backgrid.strategies import STRATEGIES, describe_strategy, strategy_defaults
from backgrid.walkforward import WalkForwardResult

if TYPE_CHECKING:
    from backgrid.plot import Chart

KEEPS = 0.5  # efficiency from which on a walk-forward is said to keep what it promised (R. Pardo, 2008)
ANY_ALIKE = 1.0 / math.sqrt(12.0)  # spread of choices that are all alike likely
WANDERS, MOSTLY = ANY_ALIKE / 2.0, 0.5  # choices are wide above this spread, or where no word has more than half
LASTS = 0.25  # and last, however wide, where no more than this share of the folds changes them
MOST_SHOWN = 30  # folds; of more, the table is folded


def check_folds(
    n_bars: int,
    *,
    train: int,
    test: int,
    gap: int = 0,
    anchored: bool = False,
    shorter_last: bool = False,
    metric: str = "sharpe",
) -> None:
    """ParameterError unless `walk_forward` takes these windows of so many bars, and this metric."""
    train, test = check_window("train", train, least=2), check_window("test", test)
    cut_folds(n_bars, train, test, check_window("gap", gap, least=0), anchored, shorter_last)
    check_metric(metric)


# ---- the answer ------------------------------------------------------------------------------------------------------


def check(forward: WalkForwardResult, strategy: Any, prices: pd.DataFrame) -> LookaheadReport | None:
    """Whether the strategy looks ahead with what was chosen last; None where nothing was ever chosen."""
    chosen = [params for params in forward.chosen if params is not None]
    return check_lookahead(strategy, prices, params=chosen[-1]) if chosen else None


def summary(forward: WalkForwardResult, checked: LookaheadReport | None = None) -> Html:
    """Title, what could be said aloud, verdicts, and six numbers out of sample beside holding."""
    result = _run(forward)
    held, index = benchmark_metrics(result), result.equity.index
    n_bars, first, last = len(index) - forward.first, bar_text(index, forward.first), bar_text(index, len(index) - 1)
    return head(
        result,
        held,
        title=f"{_name(forward.strategy)} on {forward.symbol or 'these prices'}, walked forward",
        span=f"out of sample from {first} to {last}, {n_bars:,} bars in {_plural(forward.n_folds, 'fold')}",
        lead=_lead(forward, held),
        # no trials are counted: what was chosen was chosen by other bars
        chips=verdicts(result, held, checked, luck=chance(result, None), own=_verdicts(forward)),
    )


def _verdicts(forward: WalkForwardResult) -> list[Chip]:
    """What a reader should know of the folds before believing."""
    own = [_efficiency(forward), _gains(forward), _stable(forward)]
    if forward.n_flat:
        own.append(("bad", f"flat in {forward.n_flat:,} of {forward.n_folds:,} folds: no trial could be chosen"))
    else:
        own.append(("plain", "no fold is flat"))
    own.append(("plain", f"each fold chose from {_plural(forward.n_trials, 'trial')}"))
    if forward.n_untested:
        last = f"{forward.n_untested:,} bars are" if forward.n_untested > 1 else "bar is"
        own.append(("plain", f"the last {last} not tested"))
    if forward.first:
        own.append(("plain", f"flat on {_plural(forward.first, 'bar')} before, which sizing looks back on"))
    return own


def _efficiency(forward: WalkForwardResult) -> Chip:
    kept = forward.efficiency
    outside, inside = (format_value(s, "ratio") for s in (forward.out_of_sample_sharpe, forward.in_sample_sharpe))
    if math.isnan(kept):
        return "plain", f"no efficiency: Sharpe {outside} out of sample, {inside} in sample"
    kind = "good" if kept >= KEEPS else "bad"
    return kind, f"efficiency {format_value(kept, 'ratio')}: Sharpe {outside} out of sample, {inside} in sample"


def _gains(forward: WalkForwardResult) -> Chip:
    ours, theirs = _returns(forward)
    gained, ahead, n = int((ours > 0.0).sum()), int((ours > theirs).sum()), forward.n_folds
    against = _run(forward).settings["benchmark"]
    if n == 1:
        return "plain", f"one fold: it {'gained' if gained else 'did not gain'}"
    kind = "plain" if 2 * gained == n else "good" if 2 * gained > n else "bad"
    return kind, f"gains in {gained:,} of {n:,} folds, more than {against} in {ahead:,}"


def _stable(forward: WalkForwardResult) -> Chip:
    """Whether the folds agree on the parameters. Choices wander that differ widely and do not last."""
    made = [params for params in forward.chosen if params is not None]
    if len(made) < 2:
        return "plain", "parameters of fewer than two folds: nothing to compare"
    wander, spreads, told, steps = False, False, [], len(made) - 1
    for name, row in forward.stability.to_dict("index").items():
        changes = sum(before[name] != after[name] for before, after in itertools.pairwise(made))
        numeric = math.isfinite(row["spread"])
        wide = row["spread"] > WANDERS if numeric else row["share"] <= MOSTLY
        wander |= wide and changes > LASTS * steps
        if changes:
            spreads |= numeric
            spread = f" (spread {format_value(row['spread'], 'ratio')})" if numeric else ""
            told.append(f"{name} changed {changes:,} of {steps:,} times{spread}")
    if not told:
        return "good", f"parameters are stable: {len(made):,} folds chose the same"
    scale = f"; spread at random {ANY_ALIKE:.2f}" if spreads else ""
    said = "parameters wander" if wander else "parameters are stable"
    return "bad" if wander else "good", f"{said}: {', '.join(told)}{scale}"


# ---- the evidence ----------------------------------------------------------------------------------------------------


def equity(forward: WalkForwardResult) -> "Chart":
    """The account over all test windows, with a rule where each fold begins."""
    from backgrid.plot import folds_chart

    result = _run(forward)
    curves = result.equity, result.benchmark, result.positions
    return folds_chart(*curves, _starts(forward), _chosen(forward), forward.strategy, result.settings["benchmark"])


def promises(forward: WalkForwardResult) -> "Chart":
    """The metric of each fold in sample and out of sample."""
    from backgrid.plot import samples_chart

    inside, outside = (forward.folds[name].to_numpy(dtype=float) for name in ("in_sample", "out_of_sample"))
    return samples_chart(inside, outside, _starts(forward), _run(forward).index, forward.metric)


def choices(forward: WalkForwardResult, grid: Mapping[str, Sequence[Any]] | None = None) -> "Chart":
    """Chosen parameters, fold by fold; the axes reach over `grid`, the values of each parameter."""
    from backgrid.plot import choices_chart

    return choices_chart(_chosen(forward), _starts(forward), _run(forward).index, grid)


def folds(forward: WalkForwardResult) -> Html:
    """Every fold: its windows, what it chose, what that promised and gave, and what holding gave."""
    table, label = forward.folds, METRICS[forward.metric].label
    since, start = (pd.Index(table[name]) for name in ("train_start", "test_start"))
    against = _run(forward).settings["benchmark"]
    rows = []
    for fold, (ours, theirs, params) in enumerate(zip(*_returns(forward), forward.chosen, strict=True)):
        picked = ["flat"] * len(forward.stability) if params is None else [_plain(value) for value in params.values()]
        numbers = [format_metric(forward.metric, table[name].iloc[fold]) for name in ("in_sample", "out_of_sample")]
        gains = [format_value(value, "fraction") for value in (ours, theirs)]
        rows.append((bar_text(start, fold), bar_text(since, fold), *picked, *numbers, *gains))
    heads = ("Traded from", "Chosen from", *forward.stability.index, "in sample", "out of sample", "Return", against)
    most = f"the highest {label}" if forward.metric != "max_drawdown" else "the least drawdown"
    gap = _run(forward).params["gap"]
    before = f" less {_plural(gap, 'bar')}" if gap else ""
    caption = (
        f"Each fold chose {most} of {_plural(forward.n_trials, 'trial')} on the bars before those it traded on"
        f"{before}. In sample and out of sample: its {label}. Returns are after costs"
    )
    made = html_table(heads, rows, "numbers", caption)
    if len(rows) > MOST_SHOWN:
        return Html(f"<details><summary>All {len(rows):,} folds</summary>{made}</details>")
    return made


def stability(forward: WalkForwardResult, grid: Mapping[str, Sequence[Any]] | None = None) -> Html:
    """How the choices of each parameter differ from fold to fold, beside the values there were to choose from."""
    rows = []
    for name, row in forward.stability.to_dict("index").items():
        often = _plain(row["most_frequent"]) if row["distinct"] else "n/a"
        share, spread = format_value(row["share"], "fraction"), format_value(row["spread"], "ratio")
        values = [_listed(list(grid[name]))] if grid else []
        rows.append((name, *values, f"{row['distinct']:,}", often, share, spread))
    caption = (
        "Spread: standard deviation of the choices as a share of the range of values, 0 for always the same and "
        f"{ANY_ALIKE:.2f} for any alike; n/a where values are no numbers or there is one"
    )
    values = ["Values"] if grid else []
    return html_table(
        ("Parameter", *values, "Different ones chosen", "Most frequent", "in folds", "Spread"), rows, "bars", caption
    )


def parameters(
    forward: WalkForwardResult, grid: str = "", where: str | None = None, *, shorter_last: bool = False
) -> Html:
    """What was asked for: the search and its windows, then fills and costs."""
    asked = _run(forward).params
    bars = "bars"
    rows = [
        *([("grid", grid, "values of each parameter, all of them combined")] if grid else []),
        *([("where", where, "which combinations were tried")] if where else []),
        ("train", f"{asked['train']:,}", f"{bars} that a fold chooses by{', at least' if asked['anchored'] else ''}"),
        ("test", f"{asked['test']:,}", f"{bars} after them that it trades on"),
        ("gap", f"{asked['gap']:,}", f"{bars} left out between the two"),
        ("anchored", asked["anchored"], "whether every fold chooses by all bars from the first on"),
        ("shorter_last", shorter_last, "whether bars that are left at the end make a shorter fold"),
        ("metric", asked["metric"], "the highest is chosen"),
        ("trials", f"{forward.n_trials:,}", "combinations that each fold chose from"),
        ("refused", f"{forward.n_refused:,}", "by the strategy, or for want of bars"),
        *([("left out", f"{forward.n_excluded:,}", "by where")] if where else []),
        ("not tested", f"{forward.n_untested:,}", f"{bars} at the end, in no test window"),
    ]
    return Html(html_table(("search", "value", "meaning"), rows) + page.parameters(_unchosen(forward)))


# ---- words -----------------------------------------------------------------------------------------------------------


def _lead(forward: WalkForwardResult, held: Mapping[str, float]) -> str:
    """What could be said aloud: how it was chosen and traded, what it gave, and what is left of the promise."""
    result = _run(forward)
    asked, settings = result.params, result.settings
    long_enough = len(result.equity) > settings["periods_per_year"] / 2
    name, span = ("cagr", "a year") if long_enough else ("total_return", "in all")
    told = [
        (format_metric(name, each[name]), format_value(-each["max_drawdown"], "fraction"))
        for each in (result.metrics, held)
    ]
    (gained, lost), (theirs, deepest) = told
    by = METRICS[forward.metric].label
    before = f"all bars before, {asked['train']:,} at least," if asked["anchored"] else f"{asked['train']:,} bars"
    after = f" after a gap of {asked['gap']:,}" if asked["gap"] else ""
    again = f", {forward.n_folds:,} times" if forward.n_folds > 1 else ", once"
    outside, inside, kept = (
        format_value(value, "ratio")
        for value in (forward.out_of_sample_sharpe, forward.in_sample_sharpe, forward.efficiency)
    )
    left = "" if math.isnan(forward.efficiency) else f", an efficiency of {kept}"
    return (
        f"{asked_for(_unchosen(forward))}. Its parameters were chosen by {by} on {before} and traded on the next "
        f"{asked['test']:,}{after}{again}: {gained} {span} out of sample against {theirs} for {settings['benchmark']}, "
        f"at a worst loss of {lost} against {deepest}. Sharpe {outside} out of sample against {inside} in sample{left}."
    )


def _unchosen(forward: WalkForwardResult) -> BacktestResult:
    """The run under the name of its strategy, which has a rule in words; its parameters are no single ones."""
    return dataclasses.replace(_run(forward), strategy=forward.strategy, params={})


def _name(strategy: str) -> str:
    """A strategy in words without the numbers of its parameters."""
    if strategy not in STRATEGIES:
        return strategy
    title, _ = describe_strategy(strategy, strategy_defaults(STRATEGIES[strategy]), "")
    return re.sub(r" \([^()]*\)$|[ \d.,/]+$", "", title)


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"


# ---- numbers of folds ------------------------------------------------------------------------------------------------


def _run(forward: WalkForwardResult) -> BacktestResult:
    """The out-of-sample run, which only a walk-forward has."""
    if forward.result is None:
        raise ParameterError("this page is of a walk-forward, and combinatorial splits have several paths")
    return forward.result


def _starts(forward: WalkForwardResult) -> np.ndarray:
    """First bar of each test window in the run."""
    return _run(forward).index.get_indexer(pd.Index(forward.folds["test_start"]))


def _chosen(forward: WalkForwardResult) -> pd.DataFrame:
    return forward.folds[list(forward.stability.index)]


def _returns(forward: WalkForwardResult) -> tuple[np.ndarray, np.ndarray]:
    """Return of the account and of holding on the bars of each test window, NaN after ruin."""
    result = _run(forward)
    ends = result.index.get_indexer(pd.Index(forward.folds["test_end"]))
    before = np.maximum(_starts(forward) - 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ours, theirs = (
            curve.to_numpy()[ends] / np.where(curve.to_numpy()[before] > 0.0, curve.to_numpy()[before], np.nan) - 1.0
            for curve in (result.equity, result.benchmark)
        )
    return ours, theirs
