"""The pieces of a report page: a result and its prices in, HTML out. Every text is escaped here, once."""

import html
import importlib.metadata
import math
import platform
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from backgrid import metrics as formulas
from backgrid.bars import bar_text, longest_gap
from backgrid.metrics import METRICS, format_metric, format_value, group_metrics
from backgrid.result import RESULT_TYPE, BacktestResult
from backgrid.strategies import describe_strategy

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FILLED = {
    "next_open": "filled at the next open",
    "close": "filled at the close that decided them",
    "next_close": "filled at the next close",
}
HEADLINE = ("cagr", "annual_volatility", "sharpe", "max_drawdown", "n_trades", "exposure")
ORDERS = {  # default, meaning; listed where they are not left at the default
    "stop_loss": (None, "distance from the entry price, fraction"),
    "take_profit": (None, "distance from the entry price, fraction"),
    "trailing_stop": (None, "distance from the best price since entry, fraction"),
    "sizing": ("fraction", "what size means"),
    "size": (1.0, "of a target of 1, by sizing"),
    "lookback": (60, "bars of the volatility that sizing looks at"),
    "leverage": (1.0, "largest position at a fill, fraction of equity"),
    "rebalance": (None, "when an open position is sized anew"),
    "cash_rate": (0.0, "interest on the account, fraction a year"),
    "borrow_rate": (0.0, "cost of units sold short, fraction a year"),
}
DETERMINING = ("backgrid", "numpy", "pandas", "numba", "matplotlib")


class Html(str):
    """HTML that a notebook shows as such."""

    def _repr_html_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"<Html of {len(self)} characters>"


def summary(result: BacktestResult) -> Html:
    """Title, one sentence that answers the question, verdicts, and six numbers beside holding."""
    held = benchmark_metrics(result)
    index = result.equity.index
    name, _ = _in_words(result)
    title = f"{name} on {result.symbol or 'these prices'}"
    span = f"{bar_text(index, 0)} to {bar_text(index, len(index) - 1)}, {len(index):,} bars"
    rows = [
        (
            METRICS[name].label,
            format_metric(name, result.metrics[name]),
            _held(name, held, result.settings["benchmark"]),
        )
        for name in HEADLINE
    ]
    cards = "".join(
        f"<div class='card'><dt>{_e(label)}</dt><dd>{value}<small>{_e(other)}</small></dd></div>"
        for label, value, other in rows
    )
    chips = "".join(f"<li class='{kind}'>{_e(text)}</li>" for kind, text in verdicts(result, held))
    return Html(
        f"<header class='summary'><h1>{_e(title)}</h1><p class='span'>{_e(span)}</p>"
        f"<p class='lead'>{_e(_lead(result, held))}</p><ul class='chips' aria-label='Verdicts'>{chips}</ul>"
        f"<dl class='cards'>{cards}</dl></header>"
    )


def verdicts(result: BacktestResult, held: Mapping[str, float]) -> list[tuple[str, str]]:
    """What a reader should know before believing: (good, bad or plain, words)."""
    ours, notes, against = result.metrics, result.data.get("notes", []), result.settings["benchmark"]
    chips = [
        _compared(against, "return", ours["total_return"], held["total_return"], "fraction"),
        _compared(against, "return per unit of risk (Sharpe)", ours["sharpe"], held["sharpe"], "ratio"),
    ]
    if ours["n_trades"] == 0:
        chips.append(("bad", "never traded"))
    if result.settings["fees"] == result.settings["slippage"] == result.settings["fixed_fee"] == 0.0:
        chips.append(("bad", "no costs are charged"))
    else:
        share = ours["fees_paid"] / result.settings["cash"]
        further = ", slippage apart" if result.settings["slippage"] else ""
        chips.append(("plain", f"fees paid: {format_value(share, 'fraction')} of the starting cash{further}"))
    if result.settings["fill"] == "close":
        chips.append(("bad", "trades at the very close that decides: hardly possible in practice"))
    if len(result.booked) and result.trades["exit_reason"].iloc[-1] == "ruin":
        chips.append(("bad", f"ruined on {result.trades['exit_time'].iloc[-1]:%Y-%m-%d}"))
    adjusted = "adjusted for dividends" if result.data.get("adjusted") else "not adjusted for dividends"
    snapshot = result.data.get("snapshot", "none")
    chips.append(("plain", f"data: {adjusted}, {len(notes)} note{'s' * (len(notes) != 1)}, snapshot {snapshot[:12]}"))
    chips.append(("plain", "not tested here: look-ahead, luck"))
    return chips


def parameters(result: BacktestResult) -> Html:
    """What was asked for: the strategy in its own words, its parameters, fills and costs."""
    settings = result.settings
    rows: list[tuple[Any, ...]] = [("strategy", result.strategy, _in_words(result)[1])]
    rows += [(name, value, "parameter of the strategy") for name, value in result.params.items()]
    rows += [
        ("fill", settings["fill"], f"signals are {FILLED[settings['fill']]}"),
        ("fees", settings["fees"], "one-way, fraction of traded value"),
        ("slippage", settings["slippage"], "one-way, fraction of price, against the trade"),
        ("fixed_fee", settings["fixed_fee"], "for each fill, in currency"),
        ("cash", settings["cash"], "account at the first bar, in currency"),
        ("whole_units", settings["whole_units"], "units rounded towards zero"),
        ("risk_free", settings["risk_free"], "return of cash, fraction a year"),
        ("benchmark", settings["benchmark"], "bought at the first close, without costs"),
        ("periods_per_year", settings["periods_per_year"], "bars a year, from the bars unless given"),
    ]
    rows += [(name, settings[name], says) for name, (usual, says) in ORDERS.items() if settings[name] != usual]
    return _table(("parameter", "value", "meaning"), [(n, f"{v:,.12g}" if _is_number(v) else v, m) for n, v, m in rows])


def data(prices: pd.DataFrame) -> Html:
    """What was traded: source, range, gaps, and whatever was dropped or adjusted."""
    index, attrs = pd.DatetimeIndex(prices.index), prices.attrs
    after, wide = longest_gap(index)
    rows = [
        ("symbol", attrs.get("symbol", "not given")),
        ("source", attrs.get("source", "not given")),
        ("bars", f"{len(index):,} of {attrs.get('interval', 'unknown length')}"),
        ("range", f"{bar_text(index, 0)} to {bar_text(index, len(index) - 1)}"),
        ("time zone", "session dates" if index.tz is None else str(index.tz)),
        ("longest gap", f"{_duration(index[after] - index[after - 1])}, before {bar_text(index, after)}"),
        ("gaps above four usual bars", f"{wide:,}"),
        ("close", f"{format_value(prices['Close'].min(), 'price')} to {format_value(prices['Close'].max(), 'price')}"),
        ("adjusted", "yes" if attrs.get("adjusted") else "no"),
        *(("note", note) for note in attrs.get("notes", [])),
        ("snapshot", attrs.get("snapshot", "none")),
    ]
    return _table(("", "data"), rows, classes="facts")


def monthly_returns(result: BacktestResult) -> Html:
    """Return of each month and year, net of costs, the darker the further from zero."""
    growth = 1.0 + result.returns
    years, months = growth.index.year, growth.index.month
    monthly = growth.groupby([years, months]).prod() - 1.0
    yearly = growth.groupby(years).prod() - 1.0
    deepest = float(np.abs(monthly).max()) or 1.0
    body = []
    for year, total in yearly.items():
        cells = [_heat(monthly.get((year, month)), deepest) for month in range(1, 13)]
        body.append(f"<tr><th scope='row'>{year}</th>{''.join(cells)}<td class='total'>{_percent(total)}</td></tr>")
    heads = "".join(f"<th scope='col'>{month}</th>" for month in (*MONTHS, "Year"))
    return Html(
        "<div class='scroll'><table class='heat'><caption>Return by month and year, net of costs, in percent</caption>"
        f"<thead><tr><th scope='col'>Year</th>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def trades(result: BacktestResult, most: int = 10) -> Html:
    """The best and the worst trades, and all of them folded."""
    table = result.trades
    if table.empty:
        return Html("<p>No trade was made.</p>")
    closed = table[table["exit_reason"] != "open"].sort_values("trade_return", kind="stable")
    parts: list[str] = []
    if len(table) > most:
        half = most // 2
        parts.append(_trade_table(closed.iloc[::-1].head(half), f"The {half} best closed trades"))
        parts.append(_trade_table(closed.head(half), f"The {half} worst closed trades"))
        shown = table.head(1000)
        more = "" if len(shown) == len(table) else f", the first {len(shown):,} shown; result.json has all"
        whole = _trade_table(shown, f"All {len(table):,} trades{more}")
        parts.append(f"<details><summary>All {len(table):,} trades</summary>{whole}</details>")
    else:
        parts.append(_trade_table(table, "All trades"))
    return Html("".join(parts))


def metrics(result: BacktestResult) -> Html:
    """Every metric in its group, with its formula."""
    bodies = []
    for group, values in group_metrics(result.metrics).items():
        rows = "".join(
            f"<tr><th scope='row'>{_e(METRICS[name].label)} <code>{name}</code></th>"
            f"<td>{format_metric(name, value)}</td><td class='formula'>{_e(METRICS[name].formula)}</td></tr>"
            for name, value in values.items()
        )
        bodies.append(f"<tbody><tr class='group'><th colspan='3' scope='rowgroup'>{group}</th></tr>{rows}</tbody>")
    return Html(
        "<div class='scroll'><table class='metrics'><caption>All metrics. r: return of a bar, net of costs; e: r above "
        "cash; d: drawdown; b: return of the benchmark; A: bars a year. Undefined is n/a.</caption><thead><tr>"
        "<th scope='col'>Metric</th><th scope='col'>Value</th><th scope='col'>Formula, basis</th></tr></thead>"
        f"{''.join(bodies)}</table></div>"
    )


def provenance(result: BacktestResult) -> Html:
    """What determines every number above."""
    rows = [
        ("raw bars, SHA-256", result.data.get("snapshot", "none")),
        ("traded bars, SHA-256", result.prices_hash),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
    ]
    return _table(("", "provenance"), rows, classes="facts")


def record(result: BacktestResult) -> None:
    """Put the whole result into the notebook, for whoever reads it without running it; shown as one line."""
    from IPython.display import display

    display({RESULT_TYPE: result.to_json(), "text/plain": repr(result)}, raw=True)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that determine numbers and pictures."""
    return {"Python": platform.python_version(), **{name: importlib.metadata.version(name) for name in DETERMINING}}


def benchmark_metrics(result: BacktestResult) -> dict[str, float]:
    """The headline metrics of the benchmark, by the same formulas."""
    equity = result.benchmark.to_numpy()
    returns = formulas.returns_of(equity)
    a_year = result.settings["periods_per_year"]
    cash = formulas.cash_return(result.settings["risk_free"], a_year)
    return {
        "total_return": formulas.total_return(equity),
        "cagr": formulas.cagr(equity, a_year),
        "annual_volatility": formulas.annual_volatility(returns, a_year),
        "sharpe": formulas.sharpe(returns - cash, a_year),
        "max_drawdown": formulas.max_drawdown(formulas.drawdown_of(equity)),
        "exposure": 1.0,
    }


# ---- words -----------------------------------------------------------------------------------------------------------


def _in_words(result: BacktestResult) -> tuple[str, str]:
    return describe_strategy(result.strategy, result.params, result.symbol or "the asset")


def _lead(result: BacktestResult, held: Mapping[str, float]) -> str:
    settings = result.settings
    _, rule = _in_words(result)
    rate = settings["fees"] + settings["slippage"]
    fixed = f" and {settings['fixed_fee']:,.6g} a fill" if settings["fixed_fee"] else ""
    costs = f"{rate * 100:.4g}\u202f% a side{fixed}" if rate or fixed else "without costs"
    long_enough = len(result.equity) > settings["periods_per_year"] / 2  # to speak of a year
    name, span = ("cagr", "a year") if long_enough else ("total_return", "in all")
    ours, theirs = (
        [format_value(numbers[metric], "fraction") for metric in (name, "max_drawdown")]
        for numbers in (result.metrics, held)
    )
    return (
        f"{rule}, {FILLED[settings['fill']]}, {costs}: "
        f"{ours[0]} {span} against {theirs[0]} for {settings['benchmark']}, "
        f"at a worst loss of {ours[1]} against {theirs[1]}."
    )


def _compared(against: str, what: str, ours: float, theirs: float, unit: str) -> tuple[str, str]:
    numbers = f"{format_value(ours, unit)} against {format_value(theirs, unit)}"
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        return "plain", f"{what}: {numbers}"
    if format_value(ours, unit) == format_value(theirs, unit):
        return "plain", f"equals {against} by {what}: {numbers}"
    better = ours > theirs
    return "good" if better else "bad", f"{'beats' if better else 'does not beat'} {against} by {what}: {numbers}"


def _held(name: str, held: Mapping[str, float], against: str) -> str:
    return f"{against} {format_metric(name, held[name])}" if name in held else ""


def _duration(gap: pd.Timedelta) -> str:
    hours = gap.total_seconds() / 3600.0
    return f"{hours / 24.0:,.4g} days" if hours >= 24.0 else f"{hours:,.3g} hours"


# ---- tables ----------------------------------------------------------------------------------------------------------


def _e(text: Any) -> str:
    return html.escape(str(text))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]], classes: str = "plain") -> Html:
    head = "".join(f"<th scope='col'>{_e(text)}</th>" for text in heads)
    body = "".join(
        f"<tr><th scope='row'>{_e(first)}</th>{''.join(f'<td>{_e(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    table = f"<table class='{classes}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return Html(f"<div class='scroll'>{table}</div>")


def _trade_table(table: pd.DataFrame, caption: str) -> Html:
    heads = ("Entry", "Exit", "Units", "Entry price", "Exit price", "Fees", "Profit", "Return", "Bars", "Exit by")
    rows = []
    for trade in table.itertuples(index=False):
        times = (bar_text(pd.DatetimeIndex([trade.entry_time]), 0), bar_text(pd.DatetimeIndex([trade.exit_time]), 0))
        numbers = (
            _amount(trade.units),
            _price(trade.entry_price),
            _price(trade.exit_price),
            format_value(trade.fees, "price"),
            format_value(trade.pnl, "price"),
            format_value(trade.trade_return, "fraction"),
            f"{trade.bars_held:,}",
        )
        cells = "".join(f"<td>{_e(cell)}</td>" for cell in (*times, *numbers, trade.exit_reason.replace("_", " ")))
        rows.append(f"<tr>{cells}</tr>")
    head = "".join(f"<th scope='col'>{text}</th>" for text in heads)
    return Html(
        f"<div class='scroll'><table class='trades'><caption>{_e(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _amount(value: float) -> str:
    """Two decimals, or four significant digits for what would be rounded away."""
    return format_value(value, "price") if abs(value) >= 1.0 else f"{value:.4g}".replace("-", "\u2212")


def _price(value: float) -> str:
    """Two decimals for a stock, five for a currency, four significant digits for less."""
    return f"{value:,.2f}" if value >= 10.0 else f"{value:.5f}" if value >= 0.01 else f"{value:.4g}"


def _heat(value: float | None, deepest: float) -> str:
    if value is None:
        return "<td></td>"
    shade = "31, 111, 235" if value >= 0.0 else "234, 88, 12"
    return f"<td style='background-color: rgba({shade}, {0.5 * abs(value) / deepest:.2f})'>{_percent(value)}</td>"


def _percent(value: float) -> str:
    """Percent without its sign, as the cells of a heat map show it."""
    return format_value(value, "fraction").removesuffix("\u202f%")
