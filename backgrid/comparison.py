"""What differs between two runs, and where it begins."""

import collections
import dataclasses
import html
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid.bars import bar_text
from backgrid.errors import shown
from backgrid.metrics import METRICS, format_value

ABSENT = "absent"  # in place of what only one of the runs has
NEAR = 1e-9  # by which units, prices and fees of the same trade may differ
SIDES = ("ours", "theirs")
MOST_ROWS = 10  # of trades where a comparison is shown
LEFT_OUT = ["entry_bar", "exit_bar", "trade_return", "bars_held"]  # there


class Divergence(NamedTuple):
    """The first bar on which two runs differ.

    bar            its place, counted from the start of each run
    time           its date, that of ours where both have one
    what           "date", "equity" or "positions": the first of these that differs there
    ours, theirs   its value in each run, None for a bar that a run does not have
    """

    bar: int
    time: pd.Timestamp
    what: str
    ours: Any
    theirs: Any


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What differs between two runs: ours, and theirs that it is compared with.

    Values are compared exactly, to the last bit; numbers by value (252 is 252.0), times by the moment they mean, NaN as
    equal to NaN, and trades as said below. What a result does not keep is not compared: two arrays of signals, or of
    stops, show in what came of them.

    Attributes
    ----------
    ours, theirs : str
        Title of each run.
    parameters : DataFrame
        Symbol, strategy, its parameters and the settings that differ. Index `parameter`, columns ours and theirs,
        "absent" where only one run has it. A parameter that is named like a setting is listed as "name (strategy)".
    data : DataFrame
        Index `fact`, the same columns: what the prices said of themselves, prices_hash, bars, first bar, last bar and
        time zone where they differ; and the benchmark where it first differs, for accounts of the same cash.
    first_divergence : Divergence or None
        The first bar on which dates, equity or positions differ.
    trades_added, trades_removed : DataFrame
        Trades of theirs that ours has not, trades of ours that theirs has not; columns of `trades`. Two trades are one
        where entry, exit and side are the same, for portfolios also the symbol.
    trades_changed : DataFrame
        Trades of both that differ in units, entry_price or exit_price (by more than 1e-9 of the larger), fees (by more
        than 1e-9 of the traded value) or exit_reason. Columns entry_time, exit_time, symbol of portfolios, differs,
        and of each run the units and the pnl.
    metrics : DataFrame
        Index `metric`, columns ours, theirs and difference (theirs - ours); NaN where undefined or absent.
    """

    ours: str
    theirs: str
    parameters: pd.DataFrame
    data: pd.DataFrame
    first_divergence: Divergence | None
    trades_added: pd.DataFrame
    trades_removed: pd.DataFrame
    trades_changed: pd.DataFrame
    metrics: pd.DataFrame

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return self.first_divergence is None and all(v.empty for v in values if isinstance(v, pd.DataFrame))

    def __repr__(self) -> str:
        if self.identical:
            return f"<Comparison of {self.ours}: identical>"
        return f"<Comparison of {self.ours} with {self.theirs}: {'; '.join(self._findings())}>"

    def _repr_html_(self) -> str:
        if self.identical:
            return f"<div class='backgrid-comparison'><p><strong>{_e(self.ours)}</strong>: identical</p></div>"
        findings = "".join(f"<li>{_e(finding)}</li>" for finding in self._findings())
        tables = (
            _table("Parameters", ("Parameter", *SIDES), self.parameters.itertuples()),
            _table("Data", ("Fact", *SIDES), self.data.itertuples()),
            _trade_table("Trades added", self.trades_added),
            _trade_table("Trades removed", self.trades_removed),
            _trade_table("Trades changed", self.trades_changed),
            _table("Metrics", ("Metric", *SIDES, "difference"), map(metric_row, self.metrics.itertuples())),
        )
        return (
            f"<div class='backgrid-comparison'><p>ours: <strong>{_e(self.ours)}</strong><br>"
            f"theirs: <strong>{_e(self.theirs)}</strong></p><ul>{findings}</ul>{''.join(tables)}</div>"
        )

    def _findings(self) -> list[str]:
        """What differs, in words."""
        found = [
            f"{what} differ: {_listed(table.index)}"
            for what, table in (("parameters", self.parameters), ("data", self.data))
            if len(table)
        ]
        begins = self.first_divergence and f"first difference on {beginning(self.first_divergence)}"
        found.append(begins or "equity and positions are the same on every bar")
        counts = (len(self.trades_added), len(self.trades_removed), len(self.trades_changed))
        if any(counts):
            found.append("trades: {:,} added, {:,} removed, {:,} changed".format(*counts))
        if len(self.metrics):
            largest = ", ".join(_metric_text(row) for row in _largest(self.metrics, 3).itertuples())
            found.append(f"{len(self.metrics)} metrics differ, most of all {largest}")
        return found


def compare(ours: Any, theirs: Any) -> Comparison:
    """What differs between two results, and where it begins.

    Parameters
    ----------
    ours, theirs : BacktestResult
        Of the same or other prices, lengths and time zones; also as read from JSON.

    Returns
    -------
    Comparison
    """
    added, removed, changed = _compare_trades(ours.trades, theirs.trades)
    held = _benchmark_differs(ours, theirs)
    return Comparison(
        ours=ours.title,
        theirs=theirs.title,
        parameters=_differing(_parameters_of(ours), _parameters_of(theirs), "parameter"),
        data=_differing(_facts_of(ours, held), _facts_of(theirs, held), "fact"),
        first_divergence=_first_divergence(ours, theirs),
        trades_added=added,
        trades_removed=removed,
        trades_changed=changed,
        metrics=_compare_metrics(ours.metrics, theirs.metrics),
    )


# ---- what was asked, and of which data -------------------------------------------------------------------------------


def _parameters_of(result: Any) -> dict[str, Any]:
    asked = {"symbol": result.symbol, "strategy": result.strategy}
    taken = asked.keys() | result.settings.keys()
    params = {f"{name} (strategy)" if name in taken else name: value for name, value in result.params.items()}
    return {**asked, **params, **result.settings}


def _facts_of(result: Any, benchmark_differs: int | None) -> dict[str, Any]:
    """What a result says of its data, and its benchmark where that first differs."""
    index = result.equity.index
    facts = {
        **dict(_flat(result.data)),
        "prices_hash": result.prices_hash,
        "bars": len(index),
        "first bar": bar_text(index, 0),
        "last bar": bar_text(index, len(index) - 1),
        "time zone": "none" if index.tz is None else str(index.tz),
    }
    if benchmark_differs:  # not from the first bar on, as the same benchmark does for another cash
        held = result.benchmark.iloc[benchmark_differs]
        facts["benchmark"] = f"{held:.17g} on {bar_text(index, benchmark_differs)}"
    return facts


def _benchmark_differs(ours: Any, theirs: Any) -> int | None:
    """The first bar at which the benchmarks are worth something else."""
    n_bars = min(len(ours.benchmark), len(theirs.benchmark))
    other = ours.benchmark.to_numpy()[:n_bars] != theirs.benchmark.to_numpy()[:n_bars]
    return int(other.argmax()) if other.any() else None


def _flat(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Facts by name; those of each symbol of a portfolio stand in a dict of their own."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name} ")
        else:
            yield f"{above}{name}", value


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any], name: str) -> pd.DataFrame:
    """The values that are not the same, and those that only one side has."""
    known = list(dict.fromkeys([*ours, *theirs]))
    other = [key for key in known if key not in ours or key not in theirs or _plain(ours[key]) != _plain(theirs[key])]
    columns = {
        side: pd.Series([values.get(key, ABSENT) for key in other], dtype=object)
        for side, values in zip(SIDES, (ours, theirs), strict=True)
    }
    return pd.DataFrame(columns).set_axis(pd.Index(other, name=name, dtype=object), axis=0)


def _plain(value: Any) -> Any:
    """A value as it would come back from JSON: NaN as None, a tuple as a list, anything unknown as its words."""
    try:
        return json.loads(json.dumps(value, default=_words), parse_constant=lambda _: None)
    except (TypeError, ValueError):  # keys that JSON does not know, or a value that holds itself
        return repr(value)


def _words(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else repr(value)  # repr leaves out the middle


# ---- what came of it -------------------------------------------------------------------------------------------------


def _first_divergence(ours: Any, theirs: Any) -> Divergence | None:
    lines = {
        "date": (_moments(ours.equity.index), _moments(theirs.equity.index)),
        "equity": (ours.equity.to_numpy(), theirs.equity.to_numpy()),
        "positions": (ours.positions.to_numpy(), theirs.positions.to_numpy()),
    }
    lengths = len(ours.equity), len(theirs.equity)
    n_bars = min(lengths)
    differs = {what: a[:n_bars] != b[:n_bars] for what, (a, b) in lines.items()}
    if (ours.equity.index.tz is None) != (theirs.equity.index.tz is None):
        differs["date"][:] = True  # a session date is no moment
    anywhere = np.logical_or.reduce(list(differs.values()))
    if not anywhere.any() and lengths[0] == lengths[1]:
        return None
    bar = int(anywhere.argmax()) if anywhere.any() else n_bars
    what = next((what for what, other in differs.items() if bar < n_bars and other[bar]), "date")
    times = [run.equity.index[bar] if bar < len(run.equity) else None for run in (ours, theirs)]
    values = times if what == "date" else [float(line[bar]) for line in lines[what]]
    return Divergence(bar, times[0] if times[0] is not None else times[1], what, *values)


def _moments(times: Any) -> np.ndarray:
    """Nanoseconds since 1970, in UTC where there is a time zone."""
    return pd.DatetimeIndex(times).as_unit("ns").asi8


def _compare_trades(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Trades added, removed and changed."""
    known = ["symbol"] if "symbol" in ours and "symbol" in theirs else []
    at_ours, at_theirs = _places(ours, known), _places(theirs, known)
    added = [place for key, place in at_theirs.items() if key not in at_ours]
    removed = [place for key, place in at_ours.items() if key not in at_theirs]
    both = [(place, at_theirs[key]) for key, place in at_ours.items() if key in at_theirs]
    matched = ours.iloc[[a for a, _ in both]], theirs.iloc[[b for _, b in both]]
    return theirs.iloc[added], ours.iloc[removed], _changed(*matched, known)


def _places(trades: pd.DataFrame, known: list[str]) -> dict[tuple, int]:
    """Row of each trade, by what it is known by; the second of two that share all of that is known as such."""
    entry, exit_ = (pd.DatetimeIndex(trades[name]) for name in ("entry_time", "exit_time"))
    times = (_moments(entry).tolist(), _moments(exit_).tolist())
    keys = zip(*times, np.sign(trades["units"]), *(trades[name] for name in known), strict=True)
    places: dict[tuple, int] = {}
    seen: collections.Counter = collections.Counter()
    for place, key in enumerate(keys):
        seen[key] += 1
        places[(entry.tz is None, *key, seen[key])] = place
    return places


def _changed(ours: pd.DataFrame, theirs: pd.DataFrame, known: list[str]) -> pd.DataFrame:
    """Of the same trades, row by row, those that differ in anything else."""
    theirs = theirs.set_axis(ours.index)
    value = np.abs(ours["units"] * ours["entry_price"])
    other = pd.DataFrame({name: _apart(ours[name], theirs[name]) for name in ("units", "entry_price", "exit_price")})
    other["fees"] = np.abs(ours["fees"] - theirs["fees"]) > NEAR * value
    other["exit_reason"] = ours["exit_reason"] != theirs["exit_reason"]
    table = ours[["entry_time", "exit_time", *known]].assign(
        differs=[", ".join(other.columns[row]) for row in other.to_numpy()],
        ours_units=ours["units"],
        theirs_units=theirs["units"],
        ours_pnl=ours["pnl"],
        theirs_pnl=theirs["pnl"],
    )
    return table[other.any(axis=1)]


def _apart(a: pd.Series, b: pd.Series) -> pd.Series:
    return np.abs(a - b) > NEAR * np.maximum(np.abs(a), np.abs(b))


def _compare_metrics(ours: Mapping[str, float], theirs: Mapping[str, float]) -> pd.DataFrame:
    names = pd.Index(dict.fromkeys([*ours, *theirs]), name="metric", dtype=object)
    table = pd.DataFrame(
        {side: [values.get(n, math.nan) for n in names] for side, values in zip(SIDES, (ours, theirs), strict=True)},
        index=names,
        dtype=float,
    )
    table["difference"] = table["theirs"] - table["ours"]
    return table[(table["ours"] != table["theirs"]) & table[list(SIDES)].notna().any(axis=1)]


# ---- how it is shown -------------------------------------------------------------------------------------------------


def _listed(names: Iterable[Any], most: int = 6) -> str:
    texts = [_text(name) for name in names]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def beginning(divergence: Divergence) -> str:
    """Date and bar on which two runs begin to differ, in what, and both values."""
    bar, time, what, *values = divergence
    ours, theirs = ("no bar" if value is None else _text(value) for value in values)
    if ours == theirs:
        ours, theirs = (str(value) for value in values)  # to the last digit, or with the time zone
    return f"{_text(time)} (bar {bar:,}), {what}: {ours} against {theirs}"


def _largest(metrics: pd.DataFrame, most: int) -> pd.DataFrame:
    """The metrics with the largest share of difference; one that is undefined on one side differs by all of it."""
    share = metrics["difference"].abs() / metrics[list(SIDES)].abs().max(axis=1)
    return metrics.loc[share.fillna(1.0).sort_values(ascending=False, kind="stable").index[:most]]


def metric_row(row: Any) -> tuple[str, ...]:
    """Label, both values and their difference, in digits of its own where it would be rounded away."""
    name, ours, theirs, difference = row
    label = METRICS[name].label if name in METRICS else _text(name)
    unit = METRICS[name].unit if name in METRICS else "ratio"
    texts = [format_value(value, unit) for value in (ours, theirs, difference)]
    if not any(digit in texts[2] for digit in "123456789") and math.isfinite(difference):
        texts[2] = f"{difference:.2g}"
    return label, *texts


def _metric_text(row: Any) -> str:
    label, ours, theirs, difference = metric_row(row)
    return f"{label} {ours} against {theirs}" + (f" (by {difference})" if ours == theirs else "")


def _trade_table(caption: str, trades: pd.DataFrame) -> str:
    cut = "" if len(trades) <= MOST_ROWS else f", the first {MOST_ROWS} of {len(trades):,}"
    table = trades.drop(columns=LEFT_OUT, errors="ignore")
    rows = ([_amount(value) if isinstance(value, float) else value for value in row] for row in table.itertuples())
    return _table(caption + cut, ("Trade", *table.columns), itertools.islice(rows, MOST_ROWS))


def _table(caption: str, heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table with every text escaped; nothing where it has no rows."""
    body = "".join(
        f"<tr><th scope='row'>{_e(_text(first))}</th>{''.join(f'<td>{_e(_text(cell))}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    if not body:
        return ""
    head = "".join(f"<th scope='col'>{_e(text.replace('_', ' '))}</th>" for text in heads)
    return (
        f"<table style='white-space: nowrap'><caption>{_e(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _text(value: Any) -> str:
    """A value in few characters."""
    if isinstance(value, pd.Timestamp):
        return bar_text(pd.DatetimeIndex([value]), 0)
    if isinstance(value, float):
        return f"{value:,.12g}"
    if isinstance(value, str):
        return value if len(value) <= 48 else f"{value[:45]}..."
    return shown(value)


def _amount(value: float) -> str:
    """Two decimals, or six significant digits for what is small."""
    return f"{value:,.2f}" if abs(value) >= 100.0 else f"{value:.6g}"


def _e(text: str) -> str:
    return html.escape(text)
