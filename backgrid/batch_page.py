"""The one index of a batch: every run on one page with what became of it, what the best is worth, what is alike.

Pages and tables depend on the runs alone: no clock, no id, no order of a set.
"""

import base64
import hashlib
import html
import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd

from backgrid.bars import bar_text, drawn_bars, infer_periods_per_year
from backgrid.luck import _estimate
from backgrid.metrics import LARGEST_RATIO, METRICS, NAN, ROUNDING, format_metric, format_value, returns_of
from backgrid.overfit import deflated_sharpe_ratio, effective_trials, expected_maximum_sharpe
from backgrid.page import HEADLINE, HOLDS, Chip, html_table

PACKAGE = Path(__file__).parent
MOST_COLUMNS = 12  # parameters that vary and have a column of their own
MOST_DRAWN = 60  # points of a spark line
SPARK = (120, 28)  # its width and height
LEAST_COMMON = 20  # bars of a correlation
MOST_MAPPED = 40  # runs of a heat map
MOST_NUMBERED = 16  # runs of a heat map with numbers in its cells
MOST_COMPARED = 2000  # runs whose returns are compared: the pairs grow with the square
MOST_CELLS = 20_000_000  # returns that are compared by bar; more are by day
PAIRS = 5  # highest and lowest that are listed
ALIKE = 0.95  # correlation above which two runs are nearly one
LONGEST_WORD, LONGEST_MESSAGE, LONGEST_TRACEBACK = 120, 600, 8000  # characters on the page; index.json has all
TRACEBACKS = 600_000  # characters of all of them together
MARKS = tuple(  # how a verdict of a report begins, and what is said of it in a line
    (re.compile(pattern), short)
    for pattern, short in (
        (r"beats (.{1,40}?) by return: ", "beats {}"),
        (r"does not beat (.{1,40}?) by return: ", "does not beat {}"),
        (r"equals (.{1,40}?) by return: ", "equals {}"),
        (r"beats .+? by return per unit of risk", "better per risk"),
        (r"does not beat .+? by return per unit of risk", "worse per risk"),
        (r"no look-ahead found", "no look-ahead"),
        (r".+ looks ahead\.", "looks ahead"),
        (r"look-ahead not checked|not tested here: look-ahead", "look-ahead not tested"),
        (r"survives ", "survives stress"),
        (r"does not survive ", "does not survive stress"),
        (r"deflated Sharpe ([\d.]+):", "deflated {}"),
        (r"95 % interval of the Sharpe: \S+ to −", "Sharpe below 0"),
        (r"95 % interval of the Sharpe: .*0 is inside", "Sharpe may be 0"),
        (r"95 % interval of the Sharpe: ", "Sharpe above 0"),
        (r"no costs are charged", "no costs"),
        (r"ruined on ", "ruined"),
        (r"trades at the very close", "fills at the deciding close"),
        (r"timing only, .*deflated ([\d.]+)", "timing alone {}"),
        (r"probability of overfitting ([\d.]+)", "overfitting {}"),
        (r"a peak of its own", "a peak of its own"),
        (r"efficiency (\S+):", "efficiency {}"),
    )
)
BY_RETURN = ("beats ", "does not beat ", "equals ")
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # of a terminal
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Run(NamedTuple):
    """One row of a batch and what became of it."""

    row: int  # place in the table, from 0
    template: str
    parameters: dict[str, Any]  # what the row gave
    folder: str  # of its report, relative to the index; of the failed one where it failed ("" if none)
    error: dict[str, str] | None  # {"class", "message", "traceback"} of a failed run
    symbol: str  # "" where it failed or is not about one
    strategy: str  # its name; "" where it failed
    metrics: dict[str, float]  # empty where it failed; NaN where undefined
    verdicts: list[list[str]]  # [kind good|bad|plain, words]: those of the report's summary
    equity: pd.Series | None  # account value by bar (date index); None where there is none


# ---- what other programs read ----------------------------------------------------------------------------------------


def index_rows(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The runs as plain rows, for index.json.

    Parameters
    ----------
    runs : iterable of Run

    Returns
    -------
    list of dict
        row, status (completed or failed), template, folder, symbol, strategy, parameters, metrics, verdicts, error; in
        the order of the runs. A number that is not finite is None, and what JSON does not know is text.
    """
    facts = ("template", "folder", "symbol", "strategy", "parameters", "metrics", "verdicts", "error")
    return [
        _plain({"row": run.row, "status": _status(run), **{name: getattr(run, name) for name in facts}}) for run in runs
    ]


def index_table(runs: Iterable[Run]) -> pd.DataFrame:
    """The runs as a table, for index.csv: one line a run.

    Parameters
    ----------
    runs : iterable of Run

    Returns
    -------
    DataFrame, shape (n_runs, 7 + n_parameters + n_metrics)
        row, status, error, template, folder, symbol and strategy; each parameter that any row gave, under its own
        name, or with "given_" before it where a column of this name is there already; each metric. Empty where a run
        has none.
    """
    runs = list(runs)
    metrics = _names(run.metrics for run in runs)
    columns: dict[str, list[Any]] = {
        "row": [run.row for run in runs],
        "status": [_status(run) for run in runs],
        "error": [_said(run) for run in runs],
    }
    for name in ("template", "folder", "symbol", "strategy"):
        columns[name] = [getattr(run, name) for run in runs]
    taken = {*columns, *metrics}
    for name in _names(run.parameters for run in runs):
        called = f"given_{name}" if name in taken else name
        columns[called] = [_scalar(run.parameters.get(name)) for run in runs]
    table = {_printable(name): pd.Series(map(_printable, column), dtype=object) for name, column in columns.items()}
    table |= {name: pd.Series([_metric(run, name) for run in runs], dtype=np.float64) for name in metrics}
    whole = {name: column if column.isna().any() else column.infer_objects() for name, column in table.items()}
    return pd.DataFrame(whole)  # columns with a gap stay objects: 10 is not to become 10.0


# ---- the page --------------------------------------------------------------------------------------------------------


def index_page(runs: Sequence[Run], *, title: str = "Reports") -> str:
    """The index of a batch as one HTML file that needs no network, and no script to be read.

    Parameters
    ----------
    runs : sequence of Run
        In the order of the table; their folders are relative to where the page will be.
    title : str, default "Reports"

    Returns
    -------
    str
        The same for the same runs.
    """
    curves = [_curve(run) for run in runs]
    compared = _compare(curves)
    worth = _worth(runs, curves, compared)
    failed = [run for run in runs if run.error is not None]
    sections = {
        "runs": ("Runs", _runs_section(runs, curves)),
        "best": ("What the best run is worth", _worth_section(worth, runs)),
        "failures": ("Failures", _failures_section(failed)),
        "correlation": ("Correlation of returns", _correlation_section(runs, compared)),
    }
    there = {key: section for key, section in sections.items() if section[1]}
    body = _summary(runs, curves, worth, title)
    body += "".join(f"<section><h2 id='{key}'>{heading}</h2>{text}</section>" for key, (heading, text) in there.items())
    script = (PACKAGE / "html_batch" / "script.js").read_text(encoding="utf-8")
    styles = [PACKAGE / folder / "style.css" for folder in ("html", "html_batch")]
    page = string.Template((PACKAGE / "html_batch" / "index.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=_e(title),
        style="".join(style.read_text(encoding="utf-8") for style in styles),
        contents="".join(f"<li><a href='#{key}'>{heading}</a></li>" for key, (heading, _) in there.items()),
        body=body,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _summary(runs: Sequence[Run], curves: Sequence[pd.Series | None], worth: "Worth | None", title: str) -> str:
    """Title, what was run, the line on multiple testing, verdicts on the whole, and six numbers."""
    n_failed = sum(run.error is not None for run in runs)
    sharpes = [sharpe for run in runs if not math.isnan(sharpe := _sharpe(run))]
    best, deflated = ("n/a", ""), ("n/a", "")
    if worth:
        best = _link(worth.winner, _ratio(worth.sharpe)), f"row {worth.winner.row}"
        deflated = _share(worth.deflated), f"by {_count(worth.n_trials, 'trial')}"
    numbers = (
        ("Runs", f"{len(runs):,}", ""),
        ("Completed", f"{len(runs) - n_failed:,}", ""),
        ("Failed", f"<a href='#failures'>{n_failed:,}</a>" if n_failed else "0", ""),
        ("Best Sharpe", *best),
        ("Median Sharpe", _ratio(float(np.median(sharpes)) if sharpes else NAN), f"of {_count(len(sharpes), 'run')}"),
        ("Deflated Sharpe", *deflated),
    )
    cards = "".join(
        f"<div class='card'><dt>{label}</dt><dd>{number}<small>{beside}</small></dd></div>"
        for label, number, beside in numbers
    )
    chips = "".join(f"<li class='{kind}'>{_e(text)}</li>" for kind, text in _verdicts(runs, worth))
    return (
        f"<header class='summary'><h1>{_e(title)}</h1><p class='span'>{_span(runs, curves)}</p>"
        f"<p class='lead'>{_lead(runs, worth)}</p>"
        + (f"<ul class='chips' aria-label='Verdicts'>{chips}</ul>" if chips else "")
        + f"<dl class='cards'>{cards}</dl></header>"
    )


def _span(runs: Sequence[Run], curves: Sequence[pd.Series | None]) -> str:
    """How many runs, of which symbols, over which dates."""
    symbols = list(dict.fromkeys(symbol for run in runs if (symbol := _symbol(run))))
    said = [_count(len(runs), "run")]
    if symbols:
        said.append(", ".join(_e(symbol) for symbol in symbols) if len(symbols) <= 6 else f"{len(symbols):,} symbols")
    dated = [curve.index for curve in curves if curve is not None]
    if dated:
        first, last = min(bar_text(index, 0) for index in dated), max(bar_text(index, -1) for index in dated)
        said.append(f"<span class='date'>{first[:10]}</span> to <span class='date'>{last[:10]}</span>")
    return "; ".join(said)


def _lead(runs: Sequence[Run], worth: "Worth | None") -> str:
    """The line on multiple testing."""
    many = _count(len(runs), "run")
    if worth is None:
        return f"{many}: none has a Sharpe ratio."
    best = f"{many}: the best Sharpe is {_link(worth.winner, _ratio(worth.sharpe))}, {_e(_named(worth.winner))}"
    if worth.n_trials == 1:
        return f"{best}; it is the only one that has a Sharpe."
    trials = f"{worth.n_trials:,} trials"
    if math.isnan(worth.deflated):
        return f"{best}. Without its equity it cannot be deflated by the {trials}."
    return (
        f"{best}. Deflated by {trials} it is {_share(worth.deflated)}: the probability that the true Sharpe is above "
        f"what luck alone would give the best of {trials}."
    )


def _verdicts(runs: Sequence[Run], worth: "Worth | None") -> list[Chip]:
    """What a reader should know of the whole batch."""
    n_failed = sum(run.error is not None for run in runs)
    completed = [{short for _, short in _marks(run)} for run in runs if run.error is None]
    chips: list[Chip] = []
    if n_failed:
        chips.append(("bad", f"{n_failed:,} of {_count(len(runs), 'run')} failed"))
    elif runs:
        chips.append(("good", "every run completed"))
    if worth and worth.n_trials > 1 and not math.isnan(worth.deflated):
        kind, holds = ("good", "holds") if worth.deflated > HOLDS else ("bad", "does not hold")
        chips.append((kind, f"the best {holds} after {worth.n_trials:,} trials"))
        if worth.n_effective < worth.n_trials - 0.5:
            differ = _count(round(worth.n_effective), "trial")
            chips.append(("plain", f"like {differ} that differ: deflated {_share(worth.deflated_effective)}"))
    if judged := [short for marks in completed for short in marks if short.startswith(BY_RETURN)]:
        against = "holding" if all(short.endswith(" holding") for short in judged) else "their benchmark"
        ahead = sum(short.startswith("beats ") for short in judged)
        better = sum("better per risk" in marks for marks in completed)
        chips.append(("plain", f"{ahead:,} of {len(judged):,} beat {against}, {better:,} per unit of risk"))
    if leaks := sum("looks ahead" in marks for marks in completed):
        chips.append(("bad", f"{leaks:,} of {len(completed):,} look ahead"))
    elif completed and all("no look-ahead" in marks for marks in completed):
        chips.append(("good", "no look-ahead found in any"))
    elif tested := sum("no look-ahead" in marks for marks in completed):
        chips.append(("plain", f"no look-ahead found in {tested:,} of {len(completed):,}"))
    return chips


# ---- one line a run --------------------------------------------------------------------------------------------------


def _runs_section(runs: Sequence[Run], curves: Sequence[pd.Series | None]) -> str:
    if not runs:
        return "<p class='note'>The table has no rows.</p>"
    asked = [{"template": run.template, **run.parameters} for run in runs]
    constant, varying = _split(asked)
    shown, left = varying[:MOST_COLUMNS], len(varying) - MOST_COLUMNS
    columns = [_column([row.get(name, "") for row in asked]) for name in shown]
    heads = [_head("Row", "number"), _head("Symbol"), _head("Strategy")]
    heads += [_head(name, "number" if number else "text") for name, (number, _) in zip(shown, columns, strict=True)]
    heads += [_head(METRICS[name].label, "number", down=True) for name in HEADLINE]
    heads += [_head("Equity", "number", down=True), _head("Verdicts", "number", down=True)]
    lines = []
    for at, (run, curve) in enumerate(zip(runs, curves, strict=True)):
        cells = [f"<td>{_e(_symbol(run))}</td><td class='what'>{_report(run)}</td>"]
        cells += [given[at] for _, given in columns]
        cells += [_metric_cell(name, _metric(run, name), run.error is not None) for name in HEADLINE]
        cells += [_spark(curve), _mark_cell(run)]
        lines.append(
            f"<tr data-status='{_status(run)}'><th scope='row' data-v='{run.row}'>{run.row}</th>{''.join(cells)}</tr>\n"
        )
    same = ", ".join(f"<b>{_e(name)} {_e(value)}</b>" for name, value in constant.items())
    more = f" {left} more parameters vary: index.csv has them." if left > 0 else ""
    return (
        (f"<p class='same'>{'The same in all: ' if len(runs) > 1 else ''}{same}.</p>" if same else "")
        + "<div class='tools' role='search' aria-label='Runs'><label>Filter <input type='search' id='filter' "
        "autocomplete='off' placeholder='words of a row'></label><label>Show <select id='status' autocomplete='off'>"
        "<option value='all'>all</option><option value='completed'>completed</option><option value='failed'>failed"
        "</option></select></label><output id='count' aria-live='polite'></output></div>"
        "<div class='scroll' tabindex='0' role='region' aria-label='Runs'><table class='runs' id='runs-table'>"
        f"<caption>One line a run, net of costs; the dashed line of an equity is its start.{more}</caption>"
        f"<thead><tr>{''.join(heads)}</tr></thead><tbody>\n{''.join(lines)}</tbody></table></div>"
    )


def _head(label: str, kind: str = "text", *, down: bool = False) -> str:
    first = " data-first='descending'" if down else ""
    words = _e(label, LONGEST_WORD).replace("_", "_<wbr>")
    return f"<th scope='col' data-kind='{kind}'{first}>{words}</th>"


def _report(run: Run) -> str:
    """Its strategy as a link to the report, or to what became of it."""
    if run.error is None:
        return _link(run, run.strategy or run.template)
    called = _e(run.strategy or run.parameters.get("strategy") or run.template)
    error = _e(run.error.get("class") or "Error", LONGEST_WORD)
    return f"{called}<br><span class='failed'>failed: <a href='#failure-{run.row}'>{error}</a></span>"


def _metric_cell(name: str, value: float, failed: bool) -> str:
    if math.isnan(value):
        return "<td></td>" if failed else "<td class='n'>n/a</td>"
    return f"<td class='n' data-v='{value:.9g}'>{format_metric(name, value)}</td>"


def _spark(curve: pd.Series | None) -> str:
    """Equity as a small line: about 60 points, the lowest and the highest among them."""
    if curve is None:
        return "<td></td>"
    values, (width, height) = curve.to_numpy(), SPARK
    at = drawn_bars(values, MOST_DRAWN)
    low, high = float(values.min()), float(values.max())
    across = np.rint(at / (values.size - 1) * width).astype(int)
    up = height / 2.0 if high == low else height * (high - values[at]) / (high - low)
    points = " ".join(f"{x},{y:.3g}" for x, y in zip(across, np.broadcast_to(up, at.shape), strict=True))
    first, last = float(values[0]), float(values[-1])
    start = height / 2.0 if high == low else height * (high - first) / (high - low)
    change = last / first if first > 0.0 else NAN
    said = f"from {first:,.0f} to {last:,.0f}, lowest {low:,.0f}, highest {high:,.0f}"
    key = "" if math.isnan(change) else f" data-v='{change:.9g}'"
    down = " class='down'" if last < first else ""
    return (
        f"<td{key}><svg{down} viewBox='0 0 {width} {height}' preserveAspectRatio='none' role='img' aria-label='{said}'>"
        f"<line x1='0' x2='{width}' y1='{start:.3g}' y2='{start:.3g}'/><polyline points='{points}'/></svg></td>"
    )


def _mark_cell(run: Run) -> str:
    """Verdicts in short; sorted by the good ones less the bad ones."""
    marks = _marks(run)
    balance = sum((kind == "good") - (kind == "bad") for kind, _ in marks)
    listed = "".join(f"<li class='{kind}'>{_e(short)}</li>" for kind, short in marks)
    return f"<td data-v='{balance}'><ul class='marks'>{listed}</ul></td>" if marks else "<td></td>"


def _marks(run: Run) -> list[Chip]:
    """The verdicts of a report in a few words each; of those that are neither good nor bad, only the known."""
    marks = []
    for kind, words in run.verdicts:
        kind = kind if kind in ("good", "bad") else "plain"
        found = ((pattern.match(words), short) for pattern, short in MARKS)
        short = next((short.format(*match.groups()) for match, short in found if match), None)
        if short is None and kind != "plain":
            head = re.split(r"[:.;] |, ", words, maxsplit=1)[0]
            short = head if len(head) <= 40 else f"{head[:39]}…"
        if short:
            marks.append((kind, short))
    return marks


def _split(asked: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """What every row gave alike, with its value, and the names of the rest.

    Symbol and strategy are columns anyway.
    """
    constant, varying = {}, []
    for name in _names(asked):
        values = {_shown(row[name]) if name in row else None for row in asked}
        if len(values) == 1:
            constant[name] = str(values.pop())
        elif name not in ("symbol", "strategy"):
            varying.append(name)
    return constant, varying


def _column(values: Sequence[Any]) -> tuple[bool, list[str]]:
    """Whether all values that were given are numbers, and their cells: numbers with as many decimals each."""
    numbers = [value for value in values if _is_number(value)]
    if not numbers or any(value not in ("", None) for value in values if not _is_number(value)):
        return False, [f"<td class='given'>{_e(_shown(value), LONGEST_WORD)}</td>" for value in values]
    texts = [_shown(value) for value in numbers]
    digits = max((len(text.partition(".")[2]) for text in texts if "e" not in text), default=0)

    def cell(value: Any) -> str:
        text = _shown(value)
        if not _is_number(value):
            return f"<td class='n'>{text}</td>"
        aligned = text if "e" in text or not math.isfinite(value) else f"{value:.{digits}f}"
        return f"<td class='n' data-v='{_e(text)}'>{_e(aligned.replace('-', '−'), 40)}</td>"

    return True, [cell(value) for value in values]


# ---- failures --------------------------------------------------------------------------------------------------------


def _failures_section(failed: Sequence[Run]) -> str:
    if not failed:
        return ""
    classes = Counter((run.error or {}).get("class") or "Error" for run in failed)
    listed = ", ".join(f"{n:,} {_e(name, LONGEST_WORD)}" for name, n in classes.most_common(8))
    room = min(LONGEST_TRACEBACK, TRACEBACKS // len(failed))
    return (
        f"<p class='note'>{_count(len(failed), 'run')} failed: {listed}. What ran of it is beside its error.</p>"
        f"<ul class='failures'>{''.join(_failure(run, room) for run in failed)}</ul>"
    )


def _failure(run: Run, room: int) -> str:
    error = run.error or {}
    given = ", ".join([run.template, *(f"{name} {_shown(value)}" for name, value in run.parameters.items())])
    trace = _printable(str(error.get("traceback") or ""))
    if len(trace) > room:
        trace = f"… {len(trace) - room:,} characters before this are in index.json\n{trace[-room:]}"
    folded = (
        f"<details><summary>Traceback</summary><pre>{_e(trace, len(trace))}</pre></details>" if trace.strip() else ""
    )
    partial = f" · {_link(run, 'partial notebook', 'report.ipynb')}" if run.folder else ""
    message = _printable(str(error.get("message") or "")).strip()
    return (
        f"<li id='failure-{run.row}'><p class='why'><strong>{_e(error.get('class') or 'Error', LONGEST_WORD)}</strong>"
        f"{': ' if message else ''}{_e(message, LONGEST_MESSAGE)}</p>"
        f"<p class='of'>row {run.row}: {_e(given, LONGEST_MESSAGE)}{partial}</p>"
        f"{folded}</li>"
    )


# ---- what the best is worth ------------------------------------------------------------------------------------------


class Worth(NamedTuple):
    """What the run of the highest Sharpe ratio is worth. Sharpe ratios are annual; NaN where it has no equity."""

    winner: Run
    sharpe: float
    n_trials: int  # runs with a Sharpe ratio
    correlation: float  # mean of any two of them; those without enough common bars count as unlike
    n_effective: float  # trials that differ
    luckiest: float  # what luck gives the best of n_trials by the variance of chance
    deflated: float  # probability that the true Sharpe ratio is above that
    luckiest_effective: float  # of n_effective by the same variance
    deflated_effective: float
    luckiest_observed: float  # of n_trials by the variance of the runs' Sharpe ratios
    deflated_observed: float


def _worth(runs: Sequence[Run], curves: Sequence[pd.Series | None], compared: "Compared") -> Worth | None:
    """The best run held against luck, as `backgrid.luck` does it for a sweep; None where no run has a Sharpe ratio.

    Runs may differ in length and in bars a year. Without skill the Sharpe ratio of one has the variance A / (n - 1) a
    year, n its returns and A its bars a year; the best of all is then mostly one of the short ones (`even_variance`).
    """
    tried = [at for at, run in enumerate(runs) if not math.isnan(_sharpe(run))]
    if not tried:
        return None
    sharpes = np.array([_sharpe(runs[at]) for at in tried])
    best = tried[int(sharpes.argmax())]
    n, correlation = len(tried), compared.mean(tried)
    effective = effective_trials(correlation, n)
    lengths = {at: known for at in tried if (known := _length(runs[at], curves[at]))}
    unknown = Worth(runs[best], float(sharpes.max()), n, correlation, effective, *[NAN] * 6)
    if best not in lengths:
        return unknown
    a_year, returns = lengths[best]
    _, moments = _estimate(returns)
    chance = even_variance([bars / (line.size - 1) for bars, line in lengths.values()])
    observed = float(sharpes.var(ddof=1)) if n > 1 else 0.0

    def against(n_trials: float, variance: float) -> tuple[float, float]:
        """Threshold, a year, and the probability of being above it."""
        known = {"n_trials": n_trials, "variance": variance / a_year, **moments}
        probability = deflated_sharpe_ratio(unknown.sharpe / math.sqrt(a_year), **known)
        return expected_maximum_sharpe(n_trials, variance=variance), probability

    return Worth(*unknown[:5], *against(n, chance), *against(effective, chance), *against(n, observed))


def even_variance(variances: Sequence[float]) -> float:
    """The variance of as many equal trials whose best is expected to be as high as the best of these.

    Trials are normal around 0 and independent. The expected maximum is what is left of the range above the integral of
    the product of their distribution functions.
    """
    scatter, counts = np.unique(np.sqrt(variances), return_counts=True)
    if scatter.size == 1:
        return float(variances[0])
    x, normal = np.linspace(-8.0, 8.0, 8001), NormalDist()
    below = np.array([normal.cdf(value) for value in x.tolist()])
    top = scatter[-1]
    step = x[1] - x[0]
    joint, alike = np.ones_like(x), below ** counts.sum()
    for each, n in zip(scatter, counts, strict=True):
        joint *= np.interp(x * (top / each), x, below) ** n
    highest, standard = (x[-1] - step * float(product.sum()) for product in (joint, alike))
    return float((top * highest / standard) ** 2)


def _length(run: Run, curve: pd.Series | None) -> tuple[float, np.ndarray] | None:
    """Bars a year by which a run's numbers are annual, and its returns; None where these do not vary."""
    returns = returns_of(curve.to_numpy()) if curve is not None else np.zeros(0)
    if curve is None or returns.size < 3 or not np.ptp(returns) > ROUNDING:
        return None
    volatility = _metric(run, "annual_volatility")
    if volatility > 0.0:  # std * sqrt(A)
        return (volatility / float(returns.std(ddof=1))) ** 2, returns
    return float(infer_periods_per_year(pd.DatetimeIndex(curve.index))), returns


def _worth_section(worth: Worth | None, runs: Sequence[Run]) -> str:
    if worth is None or worth.n_trials == 1 or math.isnan(worth.deflated):
        return ""
    luck = f"above {_ratio(worth.luckiest)}, what luck alone would give the best of {worth.n_trials:,} trials"
    differ = _count(round(worth.n_effective), "trial")
    same = f"above {_ratio(worth.luckiest_effective)}, the same for {differ} that differ"
    varies = "less than by chance, which flatters what is alike"
    if abs(worth.luckiest_observed - worth.luckiest) < 0.1 * worth.luckiest:
        varies = "much as by chance"
    elif worth.luckiest_observed > worth.luckiest:
        varies = "more than by chance, which is stricter"
    observed = f"above {_ratio(worth.luckiest_observed)}, by how the Sharpe ratios vary: {varies}"
    rows = [
        ("Sharpe of the best", _ratio(worth.sharpe), _named(worth.winner)),
        ("Trials", f"{worth.n_trials:,}", "runs with a Sharpe: what it is deflated by"),
        ("Trials that differ", f"{worth.n_effective:,.0f}", f"their mean correlation is {_ratio(worth.correlation)}"),
        ("Deflated Sharpe", _share(worth.deflated), f"that the true Sharpe is {luck}"),
        ("Deflated, trials that differ", _share(worth.deflated_effective), f"that it is {same}"),
        ("Deflated, variance of the runs", _share(worth.deflated_observed), f"that it is {observed}"),
    ]
    swept = any(re.search(r"best of (?!1 )[\d,]+ trials", words) for run in runs for _, words in run.verdicts)
    more = " Reports that were themselves chosen among many count as one trial each, which flatters." if swept else ""
    note = (
        "Whoever looks at many runs finds a good one by luck. A deflated Sharpe is a probability; above "
        f"{HOLDS} the best run holds. What was tried and is not in this batch is not counted.{more}"
    )
    return f"<p class='note'>{note}</p>{html_table(('', 'value', 'meaning'), rows, 'worth')}"


# ---- what is alike ---------------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """Correlations of the returns of some runs."""

    at: np.ndarray  # int64[n]  places of these runs among all
    n_curves: int  # runs that have an equity
    correlations: np.ndarray  # float64[n, n]  NaN without enough common bars, or where one does not vary
    common: np.ndarray  # int64[n, n]  bars that both have

    def mean(self, places: Sequence[int]) -> float:
        """Mean correlation of any two of these runs that were compared, unknown ones as 0; 0 for fewer than two."""
        chosen = np.isin(self.at, places)
        among = np.nan_to_num(self.correlations[np.ix_(chosen, chosen)])
        n = len(among)
        mean = float((among.sum() - np.trace(among)) / (n * (n - 1))) if n > 1 else 0.0
        return min(max(mean, -1.0), 1.0)


def _compare(curves: Sequence[pd.Series | None]) -> Compared:
    """The runs that have an equity with each other; of very many, some at equal distances."""
    having = np.array([at for at, curve in enumerate(curves) if curve is not None and len(curve) > 2], dtype=np.int64)
    some = having
    if having.size > MOST_COMPARED:
        some = having[np.linspace(0, having.size - 1, MOST_COMPARED).astype(np.int64)]
    return Compared(some, having.size, *correlate([curve for at in some if (curve := curves[at]) is not None]))


def correlate(curves: Sequence[pd.Series]) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of the returns of each two accounts over the bars that both have.

    Parameters
    ----------
    curves : sequence of Series of float, shapes (n_bars_i,)
        Account value by bar, finite; three bars at least. [currency]

    Returns
    -------
    correlations : ndarray of float, shape (n, n)
        NaN where fewer than 20 bars end at the same time, where bars are not of one length, and where one of the two
        does not vary on them.
    common : ndarray of int, shape (n, n)
        Bars that end at the same time. [bars]
    """
    n = len(curves)
    correlations, common = np.full((n, n), NAN), np.zeros((n, n), dtype=np.int64)
    indexes = [pd.DatetimeIndex(curve.index) for curve in curves]
    lengths = [_bar_length(index) for index in indexes]
    for length in sorted(set(lengths)):
        of = [at for at in range(n) if lengths[at] == length]
        values, known = _on_one_axis([curves[at] for at in of], [indexes[at] for at in of])
        block = np.ix_(of, of)
        correlations[block], common[block] = _pairwise(values, known)
    return correlations, common


def _bar_length(index: pd.DatetimeIndex) -> int:
    """Equal for bars of about one length: months of 30 and 31 days, not 15 and 20 minutes."""
    gap = float(np.median(np.diff(index.as_unit("ns").asi8)))
    return round(2.0 * math.log2(max(gap, 1.0)))


def _on_one_axis(curves: Sequence[pd.Series], indexes: Sequence[pd.DatetimeIndex]) -> tuple[np.ndarray, np.ndarray]:
    """Returns of all on the times of all, by day if these are many, and 1.0 where one has a bar; 0.0 where not."""
    lines = [(index.as_unit("ns").asi8, curve.to_numpy()) for curve, index in zip(curves, indexes, strict=True)]
    times = np.unique(np.concatenate([at for at, _ in lines]))
    if times.size * len(lines) > MOST_CELLS:
        lines = [_by_day(index, curve.to_numpy()) for curve, index in zip(curves, indexes, strict=True)]
        times = np.unique(np.concatenate([at for at, _ in lines]))
    values, known = np.zeros((len(lines), times.size)), np.zeros((len(lines), times.size))
    for row, (at, equity) in enumerate(lines):
        places = np.searchsorted(times, at[1:])
        values[row, places], known[row, places] = returns_of(equity), 1.0
    return values, known


def _by_day(index: pd.DatetimeIndex, equity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last bar of each day."""
    days = index.tz_localize(None).as_unit("ns").asi8 // 86_400_000_000_000
    last = np.flatnonzero(np.diff(days, append=days[-1] + 1))
    return days[last], equity[last]


def _pairwise(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of each two rows where both are known, from sums that are products of matrices."""
    n = known @ known.T
    bars = np.maximum(n, 1.0)
    totals, squares = values @ known.T, (values * values) @ known.T  # [i, j]: of i, over the bars of i and j
    spread = squares - totals * totals / bars
    varies = (n >= LEAST_COMMON) & (spread > 1e-10 * squares)  # the rest is rounding
    usable = varies & varies.T
    scale = np.sqrt(np.where(usable, spread * spread.T, 1.0))
    found = (values @ values.T - totals * totals.T / bars) / scale
    return np.where(usable, np.clip(found, -1.0, 1.0), NAN), n.astype(np.int64)


def _correlation_section(runs: Sequence[Run], compared: Compared) -> str:
    n = compared.at.size
    if n < 2:
        return ""
    of = [runs[at] for at in compared.at]
    i, j = np.triu_indices(n, 1)
    found, common = compared.correlations[i, j], compared.common[i, j]
    known = np.flatnonzero(np.isfinite(found))
    fewer = f" These are {n:,} of {compared.n_curves:,} runs, at equal distances." if n < compared.n_curves else ""
    missing = found.size - known.size
    none = (
        f" {_count(missing, 'pair')} {'has' if missing == 1 else 'have'} none: fewer than {LEAST_COMMON} bars in "
        "common, bars of different length, or an account that does not move."
        if missing
        else ""
    )
    if not known.size:
        return f"<p class='note'>No two runs have a correlation.{none}{fewer}</p>"
    rounded = found[known].round(6)  # an order that no last digit decides
    order = known[np.lexsort((known, -rounded))]
    alike = int((rounded > ALIKE).sum())
    nearly = f" {_count(alike, 'pair')} above {ALIKE}: nearly one strategy." if alike else ""
    said = (
        f"The median of {_count(known.size, 'pair')} is {_ratio(float(np.median(rounded)))}, "
        f"from {_ratio(rounded.min())} to {_ratio(rounded.max())}.{nearly}{none}{fewer}"
    )
    ends = order if order.size <= 2 * PAIRS else np.concatenate([order[:PAIRS], order[-PAIRS:]])
    which = "All pairs" if order.size <= 2 * PAIRS else f"The {PAIRS} highest and the {PAIRS} lowest"
    listed = "".join(
        f"<tr><td>{_ratio(found[at])}</td><td>{common[at]:,}</td><td>{_named_link(of[i[at]])}</td>"
        f"<td>{_named_link(of[j[at]])}</td></tr>"
        for at in ends
    )
    drawn = _map(of, compared) if n <= MOST_MAPPED else ""
    return (
        f"<p class='note'>Returns net of costs, on the bars that both runs have. {said}</p>{drawn}"
        f"<div class='scroll'><table class='pairs'><caption>{which}</caption><thead><tr>"
        "<th scope='col'>Correlation</th><th scope='col'>Bars</th><th scope='col'>Run</th><th scope='col'>Run</th></tr>"
        f"</thead><tbody>{listed}</tbody></table></div>"
    )


def _map(of: Sequence[Run], compared: Compared) -> str:
    """Each run with those before it: a square the fuller, the stronger they move together or against each other."""
    n = len(of)
    numbered = n <= MOST_NUMBERED
    size, left = 38 if numbered else 20, 286
    width, height = left + n * size + 4, n * size + 22
    parts = []
    for row, run in enumerate(of):
        y = row * size
        parts.append(
            f"<text x='{left - 8}' y='{y + size / 2 + 4:g}' text-anchor='end'>{_e(_middle(_named(run), 46))}</text>"
        )
        parts.append(
            f"<text class='muted' x='{left + y + size / 2:g}' y='{height - 6}' text-anchor='middle'>{run.row}</text>"
        )
        for column in range(row):
            value = compared.correlations[row, column]
            place = f"x='{left + column * size}' y='{y}' width='{size - 1}' height='{size - 1}'"
            if math.isnan(value):
                parts.append(f"<rect class='none' {place}/>")
                continue
            kind, shade = "with" if value >= 0.0 else "against", (0.5 if numbered else 0.9) * abs(value)
            parts.append(f"<rect class='{kind}' {place} fill-opacity='{shade:.2f}'/>")
            text = _ratio(value) if numbered else "−" if value < -0.05 else ""
            if text:
                at = f"x='{left + (column + 0.5) * size:g}' y='{y + size / 2 + 4:g}'"
                parts.append(f"<text {at} text-anchor='middle'>{text}</text>")
    caption = "Blue: they move together; orange: against each other; the fuller, the more. Numbers below are rows"
    caption += "." if numbered else ", and − stands for below zero."
    return (
        f"<figure><div class='map'><svg viewBox='0 0 {width} {height}' style='max-width: {width}px' role='img' "
        f"aria-label='Correlation of the returns of each two of {n} runs; the table below lists the ends.'>"
        f"{''.join(parts)}</svg></div><figcaption>{caption}</figcaption></figure>"
    )


# ---- words and values ------------------------------------------------------------------------------------------------


def _status(run: Run) -> str:
    return "completed" if run.error is None else "failed"


def _said(run: Run) -> str | None:
    """Class and message of an error in one line."""
    if run.error is None:
        return None
    return " ".join(f"{run.error.get('class') or 'Error'}: {run.error.get('message') or ''}".split())


def _symbol(run: Run) -> str:
    return run.symbol or str(run.parameters.get("symbol") or "")


def _named(run: Run) -> str:
    """A run in words: row, symbol, strategy."""
    said = ", ".join(part for part in (_symbol(run), run.strategy or run.template) if part)
    return _printable(f"row {run.row}: {said}")


def _middle(text: str, most: int) -> str:
    """Without what is in the middle of it, if it is longer: the ends tell runs apart."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def _named_link(run: Run) -> str:
    return _link(run, _named(run))


def _link(run: Run, text: str, name: str = "report.html") -> str:
    """A file of a run; ./ before it, so that no name of a folder is a scheme."""
    if not run.folder:
        return _e(text)
    return f"<a href='./{quote(run.folder, errors='replace')}/{name}'>{_e(text)}</a>"


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """All keys, as they first appear."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _metric(run: Run, name: str) -> float:
    value: Any = run.metrics.get(name)
    return float(value) if _is_number(value) and math.isfinite(value) else NAN


def _sharpe(run: Run) -> float:
    sharpe = _metric(run, "sharpe") if run.error is None else NAN
    return sharpe if abs(sharpe) <= LARGEST_RATIO else NAN


def _curve(run: Run) -> pd.Series | None:
    """Equity that can be drawn and compared."""
    curve = run.equity
    if curve is None or len(curve) < 2 or not isinstance(curve.index, pd.DatetimeIndex):
        return None
    curve = curve.astype(np.float64)
    return curve if np.isfinite(curve.to_numpy()).all() else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, (float, np.floating)):
        return f"{value:.12g}"
    return ", ".join(map(_shown, value)) if isinstance(value, (list, tuple)) else str(value)


def _plain(value: Any) -> Any:
    """The same of what JSON knows; a number that is not finite is None."""
    if isinstance(value, Mapping):
        return {_printable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else _printable(str(value))


def _scalar(value: Any) -> Any:
    """A value that fits a cell, as it was given; what does not fit is text."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if value is None or isinstance(value, (bool, int, float, str)) else _shown(value)


def _printable(text: Any) -> Any:
    """Text that any file can hold: no colours; halves of characters and control characters are question marks."""
    return UNPRINTABLE.sub("?", COLOURS.sub("", text)) if isinstance(text, str) else text


def _e(text: Any, most: int = 300) -> str:
    said = _printable(str(text))
    return html.escape(said if len(said) <= most else f"{said[: most - 1]}…")


def _ratio(value: float) -> str:
    return format_value(float(value), "ratio")


def _share(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
