"""A notebook of one's own, which every door runs as it runs a template: a short one to begin with, or a copy of one."""

import contextlib
import json
from pathlib import Path
from typing import Any

from backgrid.errors import BackgridError, ParameterError, shown
from backgrid.templates import NAME, find_template, read_parameters, template_folders

RUN = ("execution", "papermill", "widgets")  # metadata that a run leaves: times, paths, sliders
CELLS: list[tuple[str, list[str], str]] = [  # kind, tags, source; of the notebook {name}
    (
        "markdown",
        ["notebook-only"],
        """\
# {name}

Say here what you want to know. Set the parameters in the next cell, or give them to `backgrid report {name}`, and run
all cells.""",
    ),
    (
        "code",
        ["parameters"],
        """\
symbol: str = "AAPL"  # ticker
source: str = "sample"  # sample, yahoo, snapshot:HASH, or a path to CSV or Parquet
start: str = ""  # first session, such as 2019-01-02; empty for the first there is
end: str = ""  # last session, inclusive; empty for the last there is
window: int = 100  # bars of the mean
fill: str = "next_open"  # where a signal trades: next_open, close or next_close
fees: float = 0.001  # one-way, fraction of traded value
slippage: float = 0.0  # one-way, fraction of price
cash: float = 100000.0  # account at the first bar, currency""",
    ),
    (
        "markdown",
        [],
        """\
## The strategy

A plain function: prices first, then keyword parameters with defaults. It returns the target position decided at each
close, from -1 to 1, from that bar and earlier ones; the engine alone moves it in time.""",
    ),
    (
        "code",
        [],
        '''\
from backgrid import check_lookahead, fetch_ohlcv, page, run_backtest
from backgrid.indicators import above, sma


def own_strategy(prices, *, window=100):
    """Long while the close is above its mean, else flat."""
    return above(prices["Close"], sma(prices["Close"], window))''',
    ),
    (
        "code",
        [],
        """\
prices = fetch_ohlcv(symbol, start, end, source=source)
params = {{"window": window}}
result = run_backtest(prices, own_strategy, params=params, fill=fill, fees=fees, slippage=slippage, cash=cash)
page.summary(result, check_lookahead(own_strategy, prices, params=params))""",
    ),
    ("markdown", [], "## Equity and drawdown"),
    ("code", [], "result.plot()"),
    ("markdown", [], "## All metrics"),
    ("code", [], "page.metrics(result)"),
    ("markdown", [], "## Data and provenance"),
    ("code", [], "page.data(prices)"),
    ("code", [], "page.provenance(result)"),
    ("code", ["notebook-only"], "page.record(result)"),
]


def new_notebook(name: str, template: str | None = None) -> Path:
    """Write a notebook of one's own, and give its path.

    Parameters
    ----------
    name : str
        Letters, digits, - and _. It goes to notebooks/NAME.ipynb, or ./NAME.ipynb where there is no such folder.
    template : str, optional
        Name or path of a template to copy, without what it showed; else a short notebook with a strategy in it.

    Returns
    -------
    Path

    Raises
    ------
    ParameterError
        For a name that is none or is taken, or a template that there is not.
    BackgridError
        If the file cannot be written.
    """
    if not NAME.fullmatch(name) or name.startswith("-"):
        raise ParameterError(
            f"{shown(name)} is no name for a notebook: up to 80 letters, digits, - and _, such as my_idea"
        )
    _check_free(name, template)
    notebook = _short(name) if template is None else _copy(find_template(template))
    own = template_folders()[0]
    path = (own if own.is_dir() else Path()) / f"{name}.ipynb"
    # in the form in which JupyterLab saves it
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ParameterError(f"there is a {path} already: choose another name, or remove it") from None
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise BackgridError(f"cannot write {path}: {error}. Free space, or work in another folder.") from error
    return path


def _check_free(name: str, template: str | None) -> None:
    """A notebook by the name of a shipped template would take its place: only a copy of that one may."""
    shipped = template_folders()[1] / f"{name}.ipynb"
    if shipped.is_file() and template != name:
        raise ParameterError(
            f"{name} is a template of the package: choose another name, or copy it by --template {name}"
        )


def _short(name: str) -> dict[str, Any]:
    cells = [(kind, tags, source.format(name=name)) for kind, tags, source in CELLS]
    return {
        "cells": [_cell(at, *cell) for at, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(at: int, kind: str, tags: list[str], source: str) -> dict[str, Any]:
    """A cell; its id is its place, so that the same notebook is written twice alike."""
    metadata = {"tags": tags} if tags else {}
    cell = {"cell_type": kind, "id": f"cell-{at:02d}", "metadata": metadata, "source": source.splitlines(keepends=True)}
    return {**cell, "execution_count": None, "outputs": []} if kind == "code" else cell


def _copy(path: Path) -> dict[str, Any]:
    """A template without what its cells showed."""
    read_parameters(path)  # refuses what is no template
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(execution_count=None, outputs=[])
    for part in (notebook, *notebook["cells"]):
        for name in RUN:
            part.get("metadata", {}).pop(name, None)
    return notebook
