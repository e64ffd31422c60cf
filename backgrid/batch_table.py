"""The table of a batch: one row a report, from a DataFrame, dicts, or a CSV, YAML or JSON file."""

import csv
import io
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from backgrid.errors import ParameterError, did_you_mean, shown
from backgrid.templates import Parameter, check_parameters, find_template, parse_words, read_parameters

TEMPLATE = "report_backtest"
MOST_ROWS = 100_000  # at a report a second, a day and a night


class Job(NamedTuple):
    """One row: a report to be made."""

    template: str
    parameters: dict[str, Any]


def read_jobs(table: Any) -> list[Job]:
    """The rows of a table, their names and types held to the parameters of their templates.

    Parameters
    ----------
    table : DataFrame, list of dicts, dict, or path
        One row a report: values by parameter, and `template` where it is not report_backtest. A dict of lists is a
        grid: all combinations. A path ends in .csv, .yml, .yaml or .json and holds one of these. What is empty in a
        DataFrame or a CSV file is left at its default.

    Returns
    -------
    list of Job
        In the order of the table.

    Raises
    ------
    ParameterError
        If it cannot be read, is empty or longer than 100,000 rows, or a row names a template or a parameter that there
        is not, or gives a value of another type. The message counts rows from 1, as the index does; the names and empty
        lines of a CSV file are no rows.
    """
    rows, words = _rows(table)
    if not rows:
        raise ParameterError("the table has no rows: give at least one")
    _check_length(len(rows))
    declared: dict[str, Mapping[str, Parameter]] = {}
    jobs = []
    for number, row in enumerate(rows, 1):
        try:
            jobs.append(_job(row, declared, words))
        except ParameterError as error:
            raise ParameterError(f"row {number} of the table: {error}") from error
    return jobs


def _job(row: Mapping[str, Any], declared: dict[str, Mapping[str, Parameter]], words: bool) -> Job:
    template = row.get("template") or TEMPLATE
    if not isinstance(template, (str, Path)):
        raise ParameterError(f"template must be a name or a path, got {shown(template)}")
    template = str(template)
    if template not in declared:
        declared[template] = read_parameters(find_template(template))
    known = declared[template]
    given = {name: value for name, value in row.items() if name != "template"}
    for name in given:
        if name not in known:
            raise ParameterError(f"{template} has no parameter {shown(name)}{did_you_mean(str(name)[:80], known)}")
    return Job(template, check_parameters(known, parse_words(known, given) if words else given))


def _check_length(n_rows: int) -> None:
    if n_rows > MOST_ROWS:
        raise ParameterError(f"the table has {n_rows:,} rows, and a batch at most {MOST_ROWS:,}: give it in parts")


def _rows(table: Any) -> tuple[list[Mapping[str, Any]], bool]:
    """Rows as dicts, and whether their values are words that are still to be read."""
    if isinstance(table, (str, os.PathLike)):
        path = Path(table)
        if path.suffix.lower() == ".csv":
            return _read_csv(path), True
        return _plain_rows(_read_tree(path)), False
    if isinstance(table, pd.DataFrame):
        _check_columns([str(name) for name in table], "the table")
        given = table.astype(object).where(table.notna(), None).to_dict("records")
        return [{str(name): _whole(value) for name, value in row.items() if value is not None} for row in given], False
    return _plain_rows(table), False


def _plain_rows(table: Any) -> list[Mapping[str, Any]]:
    """The rows of a list of dicts, or of a grid."""
    if isinstance(table, Mapping):
        lists = [_listed(value) for value in table.values()] or [[]]
        _check_length(math.prod(map(len, lists)))
        return [dict(zip(table, values, strict=True)) for values in itertools.product(*lists)]
    if isinstance(table, Sequence) and not isinstance(table, str) and all(isinstance(row, Mapping) for row in table):
        return list(table)
    raise ParameterError(f"a table is a DataFrame, a list of dicts, a dict of lists, or a file; got {shown(table)}")


def _listed(value: Any) -> Sequence[Any]:
    """The values of one axis of a grid."""
    value = value.tolist() if hasattr(value, "tolist") else value  # of numpy and pandas
    return value if isinstance(value, (list, tuple, range)) else [value]


def _check_columns(names: Sequence[str], where: str) -> None:
    twice = [name for place, name in enumerate(names) if name and name in names[:place]]
    if twice:
        raise ParameterError(f"{where} has two columns {shown(twice[0])}: give each name once")


def _whole(value: Any) -> Any:
    """A float of a column with gaps as the whole number that it stands for."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read_csv(path: Path) -> list[Mapping[str, Any]]:
    """Rows of words; what is empty is left out."""
    try:
        rows = list(csv.reader(io.StringIO(_text(path), newline=""), strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise ParameterError(f"{path} cannot be read: {error}") from error
    rows = [row for row in rows if any(word.strip() for word in row)]
    names = [name.strip() for name in rows[0]] if rows else []
    _check_columns(names, str(path))
    found: list[Mapping[str, Any]] = []
    for number, line in enumerate(rows[1:], 1):
        if any(word.strip() for word in line[len(names) :]):
            raise ParameterError(f"row {number} of {path} has {len(line)} values, and there are {len(names)} columns")
        found.append({name: word.strip() for name, word in zip(names, line, strict=False) if word.strip()})
    return found


def _read_tree(path: Path) -> Any:
    """What a YAML or JSON file holds."""
    suffix = path.suffix.lower()
    if suffix not in (".yml", ".yaml", ".json"):
        raise ParameterError(f"a table is a .csv, .yml, .yaml or .json file, got {shown(str(path))}")
    import yaml

    text = _text(path)
    try:
        return json.loads(text) if suffix == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ParameterError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ParameterError(f"{path} cannot be read: {error}") from error
