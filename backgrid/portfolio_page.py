"""The pieces of a page that only a portfolio has: what each symbol was and brought, what was traded, whose bars.

All else, summary to provenance, `backgrid.page` makes of any result.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from backgrid.bars import bar_text
from backgrid.metrics import cash_return, format_metric, format_value
from backgrid.page import Html, html_table
from backgrid.result import PortfolioResult

ROUNDING = 1e-9  # of the equity: what is less has not been traded
SHOWN = 12  # characters of a hash


def symbols(result: PortfolioResult) -> Html:
    """What each symbol was, brought and cost, and the same of the account."""
    start, end = result.settings["cash"], float(result.equity.iloc[-1])
    rows = [
        (
            symbol,
            format_value(each["mean_weight"], "fraction"),
            format_value(each["largest_weight"], "fraction"),
            format_value(each["contribution"], "price"),
            format_value(each["contribution_share"], "fraction"),
            _times(each["turnover"]),
            format_value(each["fees"], "price"),
            f"{each['n_trades']:,.0f}",
        )
        for symbol, each in result.by_symbol.to_dict("index").items()
    ]
    apart = end - start - float(result.by_symbol["contribution"].sum())
    if abs(apart) > ROUNDING * start:
        what = "Interest" if end > 0.0 else "Not covered"
        rows.append((what, "", "", format_value(apart, "price"), format_value(apart / start, "fraction"), "", "", ""))
    metrics = result.metrics
    rows.append(
        (
            "Account",
            format_value(float(result.weights.sum(axis=1).mean()), "fraction"),
            "",
            format_value(end - start, "price"),
            format_metric("total_return", metrics["total_return"]),
            _times(metrics["turnover"]),
            format_value(metrics["fees_paid"], "price"),
            f"{metrics['n_trades']:,}",
        )
    )
    heads = ("Symbol", "Mean weight", "Largest", "Profit", "Of starting cash", "Turnover a year", "Fees", "Trades")
    return html_table(heads, rows, "numbers", "What each symbol was, brought after its costs, and cost")


def traded(result: PortfolioResult) -> pd.Series:
    """What was traded in each bar: paid for purchases and received for sales, fees included.

    Returns
    -------
    Series, shape (n_bars,)
        Both added up, as a share of the equity at the close before. [fraction of equity]

    Notes
    -----
    What is held in a symbol changes by its profit and by what is paid into it; the rest of the change was traded.
    """
    settings, equity = result.settings, result.equity.to_numpy()
    held = result.weights.to_numpy() * equity[:, None]
    before = np.vstack([np.zeros(held.shape[1]), held[:-1]])
    borrowing = np.maximum(-before, 0.0) * cash_return(settings["borrow_rate"], settings["periods_per_year"])
    moved = np.abs(held - before - result.contributions.to_numpy() - borrowing).sum(axis=1)
    account = np.concatenate([[settings["cash"]], equity[:-1]])
    share = np.divide(moved, account, out=np.zeros_like(moved), where=account > 0.0)
    return pd.Series(np.where(share > ROUNDING, share, 0.0), index=result.equity.index, name="traded")


def data(prices: Mapping[str, pd.DataFrame | pd.Series], result: PortfolioResult) -> Html:
    """What was traded: the bars of each symbol, and what was left out, carried forward or adjusted."""
    rows, index = [], result.equity.index
    for symbol, frame in prices.items():
        facts, close = result.data["symbols"][symbol], frame["Close"] if isinstance(frame, pd.DataFrame) else frame
        rows.append(
            (
                symbol,
                facts.get("source", "not given"),
                f"{len(close):,}",
                bar_text(close.index, 0),
                bar_text(close.index, len(close) - 1),
                f"{format_value(close.min(), 'price')} to {format_value(close.max(), 'price')}",
                "yes" if facts.get("adjusted") else "no",
                facts.get("snapshot", "none")[:SHOWN],
            )
        )
    heads = ("Symbol", "Source", "Bars", "First", "Last", "Close", "Adjusted", "Snapshot")
    intervals = {facts.get("interval", "unknown length") for facts in result.data["symbols"].values()}
    span = f"{bar_text(index, 0)} to {bar_text(index, len(index) - 1)}"
    notes = [f"{symbol}: {note}" for symbol, facts in result.data["symbols"].items() for note in facts.get("notes", [])]
    common = [
        ("bars of the run", f"{len(index):,} of {' and '.join(sorted(intervals))}, {span}"),
        ("time zone", "session dates" if index.tz is None else str(index.tz)),
        *(("aligned", note) for note in result.data["notes"]),
        *(("note", note) for note in notes),
    ]
    table = html_table(heads, rows, "bars", "The bars of each symbol before they were aligned")
    return Html(f"{table}{html_table(('', 'data'), common, 'facts')}")


def _times(turnover: float) -> str:
    """Turnover with two decimals, since that of one symbol can be small."""
    return f"{format_value(turnover, 'ratio')}\u202f×"
