"""The one index of a batch: every run on one page with what became of it, what the best is worth, what is alike.

Pages depend on the runs alone: no clock, no id, no order of a set.
"""

import base64
import hashlib
import html
import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from backgrid.bars import float_of
from backgrid.batch_luck import LEAST_COMMON, Compared, Track, Worth, compare, measure_worth
from backgrid.batch_runs import (
    Run,
    different,
    in_words,
    metric_of,
    names_of,
    printable,
    sharpe_of,
    symbol_of,
    trials,
)
from backgrid.errors import counted
from backgrid.metrics import METRICS, NAN, format_metric, format_value
from backgrid.page import HEADLINE, HOLDS, Chip, html_table

PACKAGE = Path(__file__).parent
MOST_COLUMNS = 12  # parameters that vary and have a column of their own
SPARK = (120, 28)  # width and height of a line of equity
MOST_TOLD = 4  # of them that the line on the best run names
MOST_MAPPED = 40  # runs of a heat map
MOST_NUMBERED = 16  # runs of a heat map with numbers in its cells
PAIRS = 5  # highest and lowest that are listed
ALIKE = 0.95  # correlation above which two runs are nearly one
LONGEST_WORD, LONGEST_MESSAGE, LONGEST_TRACEBACK = 120, 600, 8000  # characters on the page; index.json has all
LONGEST_UNBROKEN = 16  # characters of a word in a column
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
        (r"95 % interval of the Sharpe: .*all of it below 0", "Sharpe below 0"),
        (r"95 % interval of the Sharpe: .*0 is inside", "Sharpe may be 0"),
        (r"95 % interval of the Sharpe: [\d.,]+ to [\d.,]+$", "Sharpe above 0"),
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
    tried = trials(runs)
    compared = compare([run.track for run in tried])
    worth = measure_worth([sharpe_of(run) for run in tried], [run.track for run in tried], compared)
    failed = [run for run in runs if run.error is not None]
    sections = {
        "runs": ("Runs", _runs_section(runs)),
        "best": ("What the best run is worth", _worth_section(worth, tried, compared)),
        "failures": ("Failures", _failures_section(failed)),
        "correlation": ("Correlation of returns", _correlation_section(tried, compared)),
    }
    there = {key: section for key, section in sections.items() if section[1]}
    body = _summary(runs, tried, worth, title)
    body += "".join(f"<section><h2 id='{key}'>{heading}</h2>{text}</section>" for key, (heading, text) in there.items())
    script = _read("html/theme.js", "html_batch/script.js")
    page = string.Template(_read("html_batch/index.html"))
    return page.substitute(
        title=_e(title),
        style=_read("html/style.css", "html_batch/style.css"),
        contents="".join(f"<li><a href='#{key}'>{heading}</a></li>" for key, (heading, _) in there.items()),
        body=body,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _read(*names: str) -> str:
    """Files of the package, one after the other."""
    return "".join((PACKAGE / name).read_text(encoding="utf-8") for name in names)


def _summary(runs: Sequence[Run], tried: Sequence[Run], worth: Worth | None, title: str) -> str:
    """Title, what was run, the line on multiple testing, verdicts on the whole, and six numbers."""
    n_failed = sum(run.error is not None for run in runs)
    sharpes = [sharpe for run in tried if not math.isnan(sharpe := sharpe_of(run))]
    best, deflated = ("n/a", ""), ("n/a", "")
    if worth:
        winner = tried[worth.best]
        best = _link(winner, _ratio(worth.sharpe)), f"row {winner.row:,}"
        deflated = _share(worth.deflated), f"by {counted(worth.n_trials, 'trial')}"
    numbers = (
        ("Runs", f"{len(runs):,}", ""),
        ("Completed", f"{len(runs) - n_failed:,}", ""),
        ("Failed", f"<a href='#failures'>{n_failed:,}</a>" if n_failed else "0", ""),
        ("Best Sharpe", *best),
        ("Median Sharpe", _ratio(float(np.median(sharpes)) if sharpes else NAN), f"of {len(sharpes):,} that have one"),
        ("Deflated Sharpe", *deflated),
    )
    cards = "".join(
        f"<div class='card'><dt>{label}</dt><dd>{number}<small>{beside}</small></dd></div>"
        for label, number, beside in numbers
    )
    said = [*_fate(runs, n_failed), *_luck(worth), *_reports(different(runs))]
    chips = "".join(f"<li class='{kind}'>{_e(text)}</li>" for kind, text in said)
    return (
        f"<header class='summary'><h1>{_e(title)}</h1><p class='span'>{_span(runs)}</p>"
        f"<p class='lead'>{_lead(runs, tried, worth)}</p>"
        + (f"<ul class='chips' aria-label='Verdicts'>{chips}</ul>" if chips else "")
        + f"<dl class='cards'>{cards}</dl></header>"
    )


def _span(runs: Sequence[Run]) -> str:
    """How many runs, of which symbols, over which dates."""
    symbols = list(dict.fromkeys(symbol for run in runs if (symbol := symbol_of(run))))
    said = [counted(len(runs), "run")]
    if symbols:
        said.append(", ".join(_e(symbol) for symbol in symbols) if len(symbols) <= 6 else f"{len(symbols):,} symbols")
    tracks = [run.track for run in runs if run.track]
    if tracks:
        first, last = min(track.first for track in tracks), max(track.last for track in tracks)
        said.append(f"<span class='date'>{first}</span> to <span class='date'>{last}</span>")
    return "; ".join(said)


def _lead(runs: Sequence[Run], tried: Sequence[Run], worth: Worth | None) -> str:
    """The line on multiple testing."""
    many = counted(len(runs), "run")
    if worth is None:
        return f"{many}: none has a Sharpe ratio."
    winner = tried[worth.best]
    given = winner.parameters
    varying = [f"{name} {in_words(given[name])}" for name in _split(_asked(runs))[1] if name in given]
    with_these = f" with {_e(', '.join(varying[:MOST_TOLD]))}" if varying else ""
    best = f"{many}: the best Sharpe is {_link(winner, _ratio(worth.sharpe))}, {_e(_named(winner))}{with_these}"
    if worth.n_trials == 1:
        return f"{best}; it is the only trial."
    tried_in_all = f"{worth.n_trials:,} trials"
    if math.isnan(worth.deflated):
        return f"{best}. Without an equity that moves it cannot be deflated by the {tried_in_all}."
    return (
        f"{best}. Deflated by {tried_in_all} it is {_share(worth.deflated)}: the probability that the true Sharpe is "
        f"above what luck alone would give the best of {tried_in_all}."
    )


def _fate(runs: Sequence[Run], n_failed: int) -> list[Chip]:
    """How many failed, and how many rows asked for what another did."""
    chips: list[Chip] = []
    if n_failed:
        chips.append(("bad", f"{n_failed:,} of {counted(len(runs), 'run')} failed"))
    elif runs:
        chips.append(("good", "every run completed"))
    if again := len(runs) - n_failed - len(different(runs)):
        chips.append(("plain", f"{counted(again, 'row')} with the report of another, not counted again"))
    return chips


def _luck(worth: Worth | None) -> list[Chip]:
    """Whether the best run is more than luck; whether it beats holding is another question."""
    if worth is None or worth.n_trials == 1 or math.isnan(worth.deflated):
        return []
    among = f"the best of {worth.n_trials:,} trials"
    chips: list[Chip] = [("bad", f"the best Sharpe may be luck: {among}")]
    if worth.deflated > HOLDS:
        chips = [("good", f"the best Sharpe is above luck, for {among}")]
    if worth.n_effective < worth.n_trials - 0.5:
        alike = counted(round(worth.n_effective), "trial")
        chips.append(("plain", f"alike runs counted once, as {alike}: deflated {_share(worth.deflated_effective)}"))
    return chips


def _reports(completed: Sequence[Run]) -> list[Chip]:
    """How many of the reports beat holding, and how many look ahead."""
    told = [{short for _, short in _marks(run)} for run in completed]
    chips: list[Chip] = []
    if judged := [short for marks in told for short in marks if short.startswith(BY_RETURN)]:
        against = "holding" if all(short.endswith(" holding") for short in judged) else "their benchmark"
        ahead = sum(short.startswith("beats ") for short in judged)
        better = sum("better per risk" in marks for marks in told)
        chips.append(("plain", f"{ahead:,} of {len(judged):,} beat {against} by return, {better:,} per unit of risk"))
    clean = sum("no look-ahead" in marks for marks in told)
    if leaks := sum("looks ahead" in marks for marks in told):
        chips.append(("bad", f"{leaks:,} of {len(told):,} look ahead"))
    elif clean and clean == len(told):
        chips.append(("good", "no look-ahead found in any"))
    elif clean:
        chips.append(("plain", f"no look-ahead found in {clean:,} of {len(told):,}"))
    return chips


# ---- one line a run --------------------------------------------------------------------------------------------------


def _runs_section(runs: Sequence[Run]) -> str:
    if not runs:
        return "<p class='note'>The table has no rows.</p>"
    asked = _asked(runs)
    constant, varying = _split(asked)
    shown, left = varying[:MOST_COLUMNS], len(varying) - MOST_COLUMNS
    columns = [_column([row.get(name, "") for row in asked]) for name in shown]
    heads = [_head("Row", "number"), _head("Symbol"), _head("Strategy")]
    heads += [_head(name, "number" if number else "text") for name, (number, _) in zip(shown, columns, strict=True)]
    heads += [_head(METRICS[name].label, "number", down=True) for name in HEADLINE]
    heads += [_head("Equity", "number", down=True), _head("Verdicts", "number", down=True)]
    lines = []
    for at, run in enumerate(runs):
        cells = [f"<td>{_e(symbol_of(run))}</td><td class='what'>{_report(run)}</td>"]
        cells += [given[at] for _, given in columns]
        cells += [_metric_cell(name, metric_of(run, name), run.error is not None) for name in HEADLINE]
        cells += [_spark(run.track), _mark_cell(run)]
        lines.append(
            f"<tr data-status='{run.status}'><th scope='row' data-v='{run.row}'>{run.row}</th>{''.join(cells)}</tr>\n"
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


def _spark(track: Track | None) -> str:
    """Equity as a small line, the lowest and the highest value in it."""
    if track is None:
        return "<td></td>"
    values, (width, height) = track.equity, SPARK
    low, high = float(values.min()), float(values.max())
    across = np.rint(track.drawn / track.n_returns * width).astype(int)
    up = np.full(values.size, height / 2.0) if high == low else height * (high - values) / (high - low)
    points = " ".join(f"{x},{y:.3g}" for x, y in zip(across, up, strict=True))
    first, last = float(values[0]), float(values[-1])
    change = last / first if first > 0.0 else NAN
    said = f"from {first:,.0f} to {last:,.0f}, lowest {low:,.0f}, highest {high:,.0f}"
    key = "" if math.isnan(change) else f" data-v='{change:.9g}'"
    down = " class='down'" if last < first else ""
    return (
        f"<td{key}><svg{down} viewBox='0 0 {width} {height}' preserveAspectRatio='none' role='img' aria-label='{said}'>"
        f"<line x1='0' x2='{width}' y1='{up[0]:.3g}' y2='{up[0]:.3g}'/><polyline points='{points}'/></svg></td>"
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


def _asked(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What each row gave."""
    return [{"template": run.template, **run.parameters} for run in runs]


def _split(asked: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """What every row gave alike, with its value, and the names of the rest.

    Symbol and strategy are columns anyway.
    """
    constant, varying = {}, []
    for name in names_of(asked):
        values = {in_words(row[name]) if name in row else None for row in asked}
        if len(values) == 1:
            constant[name] = str(values.pop())
        elif name not in ("symbol", "strategy"):
            varying.append(name)
    return constant, varying


def _column(values: Sequence[Any]) -> tuple[bool, list[str]]:
    """Whether all values that were given are numbers, and their cells: numbers with as many decimals each."""
    numbers = [value for value in values if _is_number(value)]
    if not numbers or any(value not in ("", None) for value in values if not _is_number(value)):
        return False, [_word_cell(in_words(value)) for value in values]
    digits = max(len(_decimals(in_words(value))) for value in numbers)

    def cell(value: Any) -> str:
        text = in_words(value)
        if not _is_number(value):
            return f"<td class='n'>{text}</td>"
        aligned = text
        if digits and "e" not in text and math.isfinite(float_of(value)):
            aligned = f"{text.partition('.')[0]}.{_decimals(text):0<{digits}}"  # as text: a float has not every digit
        return f"<td class='n' data-v='{_e(text)}'>{_e(aligned.replace('-', '−'), 40)}</td>"

    return True, [cell(value) for value in values]


def _word_cell(text: str) -> str:
    """Short ones, dates above all, are not broken into lines."""
    kind = "given" if len(text) > LONGEST_UNBROKEN else "given short"
    return f"<td class='{kind}'>{_e(text, LONGEST_WORD)}</td>"


def _decimals(text: str) -> str:
    """What a number in words has behind its point."""
    return "" if "e" in text else text.partition(".")[2]


# ---- failures --------------------------------------------------------------------------------------------------------


def _failures_section(failed: Sequence[Run]) -> str:
    if not failed:
        return ""
    classes = Counter((run.error or {}).get("class") or "Error" for run in failed)
    listed = ", ".join(f"{n:,} {_e(name, LONGEST_WORD)}" for name, n in classes.most_common(8))
    partial = " What ran before is beside the error." if any(run.folder for run in failed) else ""
    room = min(LONGEST_TRACEBACK, TRACEBACKS // len(failed))
    return (
        f"<p class='note'>{counted(len(failed), 'run')} failed: {listed}.{partial}</p>"
        f"<ul class='failures'>{''.join(_failure(run, room) for run in failed)}</ul>"
    )


def _failure(run: Run, room: int) -> str:
    error = run.error or {}
    given = ", ".join([run.template, *(f"{name} {in_words(value)}" for name, value in run.parameters.items())])
    trace = printable(str(error.get("traceback") or ""))
    if len(trace) > room:
        trace = f"… {len(trace) - room:,} characters before this are in index.json\n{trace[-room:]}"
    folded = (
        f"<details><summary>Traceback</summary><pre>{_e(trace, len(trace))}</pre></details>" if trace.strip() else ""
    )
    partial = f" · {_link(run, 'partial notebook', 'report.ipynb')}" if run.folder else ""
    message = printable(str(error.get("message") or "")).strip()
    return (
        f"<li id='failure-{run.row}'><p class='why'><strong>{_e(error.get('class') or 'Error', LONGEST_WORD)}</strong>"
        f"{': ' if message else ''}{_e(message, LONGEST_MESSAGE)}</p>"
        f"<p class='of'>row {run.row}: {_e(given, LONGEST_MESSAGE)}{partial}</p>"
        f"{folded}</li>"
    )


# ---- what the best is worth ------------------------------------------------------------------------------------------


def _worth_section(worth: Worth | None, tried: Sequence[Run], compared: Compared) -> str:
    if worth is None or worth.n_trials == 1 or math.isnan(worth.deflated):
        return ""
    luck = f"above {_ratio(worth.luckiest)}, what luck alone would give the best of {worth.n_trials:,} trials"
    n_differ = round(worth.n_effective)
    differ = f"{n_differ:,} trials that differ" if n_differ > 1 else "a single trial, as if all were one strategy"
    alike = [
        ("Trials that differ", f"{n_differ:,}", _likeness(worth, compared)),
        (
            "Deflated, trials that differ",
            _share(worth.deflated_effective),
            f"that it is above {_ratio(worth.luckiest_effective)}, the same for {differ}",
        ),
    ]
    rows = [
        ("Sharpe of the best", _ratio(worth.sharpe), _named(tried[worth.best])),
        ("Trials", f"{worth.n_trials:,}", "different reports; one that never traded counts as a Sharpe of 0"),
        ("Deflated Sharpe", _share(worth.deflated), f"that the true Sharpe is {luck}"),
        *([] if math.isnan(worth.correlation) else alike),
        (
            "Deflated, variance of the runs",
            _share(worth.deflated_observed),
            f"that it is above {_ratio(worth.luckiest_observed)}, by how the Sharpe ratios vary: {_scatter(worth)}",
        ),
    ]
    swept = any(re.search(r"best of (?!1 )[\d,]+ trials", words) for run in tried for _, words in run.verdicts)
    more = " Reports that were themselves chosen among many count as one trial each, which flatters." if swept else ""
    note = (
        "Whoever looks at many runs finds a good one by luck. A deflated Sharpe is a probability; above "
        f"{HOLDS} the best run is taken to be more than luck, whether it beats holding or not. What was tried and is "
        f"not in this batch is not counted.{more}"
    )
    return f"<p class='note'>{note}</p>{html_table(('', 'value', 'meaning'), rows, 'worth')}"


def _likeness(worth: Worth, compared: Compared) -> str:
    """The mean correlation, and by what part of the trials it is known."""
    said = f"their mean correlation is {_ratio(worth.correlation)}"
    if compared.n_moving < worth.n_trials:
        said += f", by the {compared.n_moving:,} of {worth.n_trials:,} that move and are compared"
    if compared.n_unknown:
        counts = "counts" if compared.n_unknown == 1 else "count"
        said += f"; {counted(compared.n_unknown, 'unknown pair')} {counts} as 0"
    return said


def _scatter(worth: Worth) -> str:
    """Which way the variance of the runs moves the threshold."""
    if abs(worth.luckiest_observed - worth.luckiest) < 0.1 * worth.luckiest:
        return "much as by chance"
    if worth.luckiest_observed > worth.luckiest:
        return "more than by chance, which is stricter"
    return "less than by chance, which flatters what is alike"


# ---- what is alike ---------------------------------------------------------------------------------------------------


def _correlation_section(tried: Sequence[Run], compared: Compared) -> str:
    n = compared.at.size
    if n < 2:
        return ""
    of = [tried[at] for at in compared.at]
    i, j = np.triu_indices(n, 1)
    found, common = compared.correlations[i, j], compared.common[i, j]
    known = np.flatnonzero(np.isfinite(found))
    fewer = f" These are {n:,} of {compared.n_tracks:,} runs, at equal distances." if n < compared.n_tracks else ""
    missing = found.size - known.size
    none = (
        f" {counted(missing, 'pair')} {'has' if missing == 1 else 'have'} none: fewer than {LEAST_COMMON} bars (or "
        "days) in common, bars of different length, or an account that does not move."
        if missing
        else ""
    )
    if not known.size:
        return f"<p class='note'>No two runs have a correlation.{none}{fewer}</p>"
    rounded = found[known].round(6)  # an order that no last digit decides
    order = known[np.lexsort((known, -rounded))]
    alike = int((rounded > ALIKE).sum())
    nearly = f" {counted(alike, 'pair')} above {ALIKE}: nearly one strategy." if alike else ""
    said = (
        f"The median of {counted(known.size, 'pair')} is {_ratio(float(np.median(rounded)))}, "
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
        f"<p class='note'>Returns net of costs, on the bars that both runs have; shorter bars than a day are "
        f"compared by day. {said}</p>{drawn}"
        f"<div class='scroll'><table class='pairs'><caption>{which}</caption><thead><tr>"
        "<th scope='col'>Correlation</th><th scope='col'>In common</th><th scope='col'>Run</th><th scope='col'>Run</th>"
        f"</tr></thead><tbody>{listed}</tbody></table></div>"
    )


def _map(of: Sequence[Run], compared: Compared) -> str:
    """Each run with those before it: a square the fuller, the stronger they move together or against each other."""
    n = len(of)
    numbered = n <= MOST_NUMBERED
    size, names = 38 if numbered else 20, [_middle(_named(run), 46) for run in of]
    left = 20 + 6 * max(map(len, names))
    width, height = left + n * size + 4, n * size + 22
    parts = []
    for row, (run, name) in enumerate(zip(of, names, strict=True)):
        y = row * size
        parts.append(f"<text x='{left - 8}' y='{y + size / 2 + 4:g}' text-anchor='end'>{_e(name)}</text>")
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
        f"<figure><div class='map'><svg viewBox='0 0 {width} {height}' role='img' "
        f"style='max-width: {width}px; --drawn: {width}px' "
        f"aria-label='Correlation of the returns of each two of {n} runs; the table below lists the ends.'>"
        f"{''.join(parts)}</svg></div><figcaption>{caption}</figcaption></figure>"
    )


# ---- words and values ------------------------------------------------------------------------------------------------


def _named(run: Run) -> str:
    """A run in words: row, symbol, strategy."""
    said = ", ".join(part for part in (symbol_of(run), run.strategy or run.template) if part)
    return printable(f"row {run.row}: {said}")


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


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _e(text: Any, most: int = 300) -> str:
    said = printable(str(text))
    return html.escape(said if len(said) <= most else f"{said[: most - 1]}…")


def _ratio(value: float) -> str:
    return format_value(float(value), "ratio")


def _share(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}"
