"""The runs of a batch as data: what index.json and index.csv hold, and the words for what a run is."""

import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid.bars import float_of
from backgrid.batch_luck import Track
from backgrid.metrics import LARGEST_RATIO, NAN

FACTS = ("template", "folder", "symbol", "strategy", "parameters", "metrics", "verdicts", "error")
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # of a terminal
LONGEST_INT = 14_000  # bits; Python writes no whole number of more than 4,300 digits
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Run(NamedTuple):
    """One row of a batch and what became of it."""

    row: int  # place in the table, from 1; the line of names of a CSV file does not count
    template: str
    parameters: dict[str, Any]  # what the row gave
    folder: str  # of its report, relative to the index; of the failed one where it failed ("" if none)
    error: dict[str, str] | None  # {"class", "message", "traceback"} of a failed run
    symbol: str  # "" where it failed or is not about one
    strategy: str  # its name; "" where it failed
    metrics: dict[str, float]  # empty where it failed or has no result; NaN where undefined
    verdicts: list[list[str]]  # [kind good|bad|plain, words]: those of the report's summary
    track: Track | None  # of its equity; None where there is none

    @property
    def status(self) -> str:
        """completed or failed."""
        return "completed" if self.error is None else "failed"


def index_rows(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The runs as plain rows, for index.json.

    Parameters
    ----------
    runs : iterable of Run

    Returns
    -------
    list of dict
        row (from 1), status (completed or failed), template, folder, symbol, strategy, parameters, metrics, verdicts,
        error; in the order of the runs. A number that is not finite is None, and what JSON does not know is text.
    """
    return [
        _plain({"row": run.row, "status": run.status, **{name: getattr(run, name) for name in FACTS}}) for run in runs
    ]


def index_table(runs: Iterable[Run]) -> pd.DataFrame:
    """The runs as a table, for index.csv: one line a run.

    Parameters
    ----------
    runs : iterable of Run

    Returns
    -------
    DataFrame, shape (n_runs, 7 + n_parameters + n_metrics)
        row (from 1), status, error, template, folder, symbol and strategy, as the row gave them where the run does not
        say; each parameter that any row gave, under its own name, or with "given_" before it where another column has
        this name and says something else; each metric. Empty where a run has none.
    """
    runs = list(runs)
    columns: dict[str, list[Any]] = {
        "row": [run.row for run in runs],
        "status": [run.status for run in runs],
        "error": [error_of(run) for run in runs],
        "template": [run.template for run in runs],
        "folder": [run.folder for run in runs],
        "symbol": [symbol_of(run) for run in runs],
        "strategy": [run.strategy or _scalar(run.parameters.get("strategy")) or "" for run in runs],
    }
    metrics, parameters = names_of(run.metrics for run in runs), names_of(run.parameters for run in runs)
    for name in parameters:
        given = [_scalar(run.parameters.get(name)) for run in runs]
        if name in ("symbol", "strategy") and _says_the_same(given, columns[name]):
            continue
        columns[_free(name, {*columns, *metrics}, parameters)] = given
    table = {printable(name): _column(map(printable, column)) for name, column in columns.items()}
    return pd.DataFrame(table | {name: np.array([metric_of(run, name) for run in runs]) for name in metrics})


def trials(runs: Iterable[Run]) -> list[Run]:
    """The runs that were tried, as luck counts them: each report once, whether it traded or not.

    Rows that ask for the same share a report. What failed, and a notebook without a result, tried nothing.
    """
    return [run for run in different(runs) if run.metrics]


def different(runs: Iterable[Run]) -> list[Run]:
    """The runs that completed, each report once."""
    found: dict[str | int, Run] = {}
    for run in runs:
        if run.error is None:
            found.setdefault(run.folder or run.row, run)
    return list(found.values())


# ---- words and values ------------------------------------------------------------------------------------------------


def symbol_of(run: Run) -> str:
    """What it is about: as its result says, or as its row did."""
    return run.symbol or str(run.parameters.get("symbol") or "")


def metric_of(run: Run, name: str) -> float:
    """A metric as a number; NaN where it is undefined, or there is none."""
    value = float_of(run.metrics.get(name))
    return value if math.isfinite(value) else NAN


def sharpe_of(run: Run) -> float:
    """Its Sharpe ratio, annual; NaN where it is rounding noise."""
    sharpe = metric_of(run, "sharpe")
    return sharpe if abs(sharpe) <= LARGEST_RATIO else NAN


def error_of(run: Run) -> str | None:
    """Class and message of an error in one line."""
    if run.error is None:
        return None
    return " ".join(f"{run.error.get('class') or 'Error'}: {run.error.get('message') or ''}".split())


def names_of(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """All keys, as they first appear."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def in_words(value: Any) -> str:
    """A value that a row gave, as a reader sees it."""
    if value is None:
        return "none"
    if isinstance(value, (float, np.floating)):
        return f"{value:.12g}"
    if _is_too_long(value):
        return f"{value:#x}"
    return ", ".join(map(in_words, value)) if isinstance(value, (list, tuple)) else str(value)


def _is_too_long(value: Any) -> bool:
    """Whether it is a whole number that only base 16 can write."""
    return isinstance(value, int) and value.bit_length() > LONGEST_INT


def printable(text: Any) -> Any:
    """Text that any file can hold: no colours; halves of characters and control characters are question marks."""
    return UNPRINTABLE.sub("?", COLOURS.sub("", text)) if isinstance(text, str) else text


def _plain(value: Any) -> Any:
    """The same of what JSON knows; a number that is not finite is None."""
    if isinstance(value, Mapping):
        return {printable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    value = _scalar(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return printable(value)


def _scalar(value: Any) -> Any:
    """A value that fits a cell, as it was given; what does not fit is text."""
    value = value.item() if isinstance(value, np.generic) else value
    fits = value is None or (isinstance(value, (bool, int, float, str)) and not _is_too_long(value))
    return value if fits else in_words(value)


def _says_the_same(given: Sequence[Any], known: Sequence[Any]) -> bool:
    return all(value is None or value == other for value, other in zip(given, known, strict=True))


def _free(name: str, taken: Container[str], parameters: Sequence[str]) -> str:
    """A name for the column of a parameter that no other column has, nor another parameter needs."""
    called = name
    while called in taken or (called != name and called in parameters):
        called = f"given_{called}"
    return called


def _column(values: Iterable[Any]) -> pd.Series:
    """Values of one type as a column of it; else each as it is: 10 is not to become 10.0 where a row gave none."""
    column = pd.Series(list(values), dtype=object)
    return column.infer_objects() if column.map(type).nunique() == 1 else column
