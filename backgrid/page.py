"""The pieces of a report page: a result and its prices in, HTML out. Every text is escaped here, once."""

import html
import importlib.metadata
import math
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from backgrid import metrics as formulas
from backgrid.bars import bar_text, longest_gap
from backgrid.bootstrap import bootstrap_ci
from backgrid.errors import counted
from backgrid.metrics import (
    METRICS,
    cash_return,
    deepest_drawdowns,
    format_metric,
    format_value,
    group_metrics,
    returns_of,
)
from backgrid.overfit import deflated_sharpe_ratio
from backgrid.result import RESULT_TYPE, VERDICTS_TYPE, BacktestResult, PortfolioResult
from backgrid.strategies import describe_strategy
from backgrid.stress import BREAK_EVEN, COSTS, ROUNDING, again_of, twice_the_costs
from backgrid.weightings import describe_weighting

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FILLED = {
    "next_open": "filled at the next open",
    "close": "filled at the close that decided them",
    "next_close": "filled at the next close",
}
REBALANCED = {
    None: "traded where the weights change",
    "bar": "rebalanced at every bar",
    "week": "rebalanced every week",
    "month": "rebalanced every month",
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
SIZED = {  # a size that is not a fraction, in words
    "units": "{:,.6g} units",
    "cash": "{:,.6g} in currency",
    "volatility": "{} volatility a year",
    "risk": "{} of the account at risk",
}
OFTEN = {"bar": "at every bar", "week": "weekly", "month": "monthly"}
HOLDS = 0.95  # deflated Sharpe ratio above which a result is said to hold
JUMPS = -1e-4  # where so much is lost at the break-even cost, no cost earns just nothing
MOST_ROWS = 1000  # of a table; of more, the first and the last half of as many
MOST_YEARS = 40  # of months and years that stand open; earlier ones are folded
DATE = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d)?,?")
DETERMINING = ("backgrid", "numpy", "pandas", "numba", "matplotlib")


Chip = tuple[str, str]  # good, bad or plain; words


class Html(str):
    """HTML that a notebook shows as such, with the verdicts of a summary for whoever reads the notebook."""

    verdicts: tuple[Chip, ...] = ()

    def _repr_html_(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {VERDICTS_TYPE: [list(chip) for chip in self.verdicts]} if self.verdicts else {}

    def __repr__(self) -> str:
        return f"<Html of {len(self)} characters>"


def summary(result: BacktestResult, checked: Any = None, *, n_trials: int = 1) -> Html:
    """Title, one sentence that answers the question, verdicts, and six numbers beside holding.

    `checked` is the LookaheadReport of its strategy, None where there is none; `n_trials` how many combinations this
    one was chosen from.
    """
    held, index = benchmark_metrics(result), result.equity.index
    return head(
        result,
        held,
        title=f"{_in_words(result)[0]} on {result.symbol or 'these prices'}",
        span=f"{bar_text(index, 0)} to {bar_text(index, len(index) - 1)}, {len(index):,} bars",
        lead=_lead(result, held),
        chips=verdicts(result, held, checked, luck=chance(result, n_trials)),
    )


def head(
    result: BacktestResult,
    held: Mapping[str, float],
    *,
    title: str,
    span: str,
    lead: str,
    chips: Iterable[Chip],
) -> Html:
    """What every page begins with: title, range, sentence and verdicts, then six numbers beside those of holding."""
    against, cards, chips = result.settings["benchmark"], "", tuple(chips)
    for name in HEADLINE:
        beside = f"{against} {format_metric(name, held[name])}" if name in held else ""
        number = f"{format_metric(name, result.metrics[name])}<small>{_e(beside)}</small>"
        cards += f"<div class='card'><dt>{_e(METRICS[name].label)}</dt><dd>{number}</dd></div>"
    listed = "".join(f"<li class='{kind}'>{_e(text)}</li>" for kind, text in chips)
    found = Html(
        f"<header class='summary'><h1>{_e(title)}</h1><p class='span'>{_dated(span)}</p>"
        f"<p class='lead'>{_e(lead)}</p><ul class='chips' aria-label='Verdicts'>{listed}</ul>"
        f"<dl class='cards'>{cards}</dl></header>"
    )
    found.verdicts = chips
    return found


def verdicts(
    result: BacktestResult,
    held: Mapping[str, float],
    checked: Any = None,
    *,
    luck: Iterable[Chip] = (),
    own: Iterable[Chip] = (),
) -> list[Chip]:
    """What a reader should know before believing.

    `luck` is how sure the Sharpe ratio is; `own`, right after the comparisons with holding, what only this kind of page
    has to say.
    """
    ours, against = result.metrics, result.settings["benchmark"]
    chips = [
        _compared(against, "return", ours["total_return"], held["total_return"], "fraction"),
        _compared(against, "return per unit of risk (Sharpe)", ours["sharpe"], held["sharpe"], "ratio"),
        *own,
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
    ruined = result.trades.loc[result.trades["exit_reason"] == "ruin", "exit_time"]
    if len(ruined):
        chips.append(("bad", f"ruined on {ruined.iloc[0]:%Y-%m-%d}"))
    chips += [_lookahead(checked), *luck, *_survival(result)]
    told = _portfolio_chips(result) if isinstance(result, PortfolioResult) else [_data_chip(result.data)]
    return [*chips, *(("plain", text) for text in told)]


def _lookahead(checked: Any) -> Chip:
    """What the look-ahead check found."""
    if checked is None:
        return "plain", "not tested here: look-ahead"
    if not checked.conclusive:
        return "plain", "look-ahead not checked: the strategy gives no signals with fewer or changed bars"
    if not checked.clean:
        return "bad", checked.summary
    afresh = "" if checked.checks[-1].verdict == "same signals" else ", not checked in a fresh process"
    return "good", f"no look-ahead found at {checked.n_cuts} cuts{afresh}"


def chance(result: BacktestResult, n_trials: int | None = 1) -> Iterator[Chip]:
    """How sure the Sharpe ratio is, and what is left of it after so many trials; None where none need be counted."""
    settings, a_year = result.settings, result.settings["periods_per_year"]
    excess = returns_of(result.equity.to_numpy()) - cash_return(settings["risk_free"], a_year)
    low, high = bootstrap_ci(excess, periods_per_year=a_year)
    if math.isnan(low):
        return
    yield interval_chip(low, high, n_trials or 1)
    if n_trials is None:
        return
    known = {"n_obs": excess.size, "skew": result.metrics["skew"], "kurtosis": result.metrics["kurtosis"]}
    sharpe, variance = result.metrics["sharpe"] / math.sqrt(a_year), 1.0 / (excess.size - 1)
    yield deflated_chip(deflated_sharpe_ratio(sharpe, n_trials=n_trials, variance=variance, **known), n_trials)


def interval_chip(low: float, high: float, n_trials: float) -> Chip:
    """The 95 % interval of the Sharpe ratio, which knows of one trial only."""
    said = f"95 % interval of the Sharpe: {format_value(low, 'ratio')} to {format_value(high, 'ratio')}"
    if low <= 0.0:
        said += ", 0 is inside" if high >= 0.0 else ", all of it below 0"
    if n_trials > 1:
        return "plain", f"{said}, as if only this one had been tried"
    return "good" if low > 0.0 else "plain", said


def deflated_chip(deflated: float, n_trials: float) -> Chip:
    """What the deflated Sharpe ratio says, by the variance of chance; of one trial, that none was told of."""
    if n_trials <= 1:
        return "plain", "counted as one trial: if it was chosen among more, n_trials deflates it"
    kind = "good" if deflated > HOLDS else "bad"
    above = f"above what luck alone would give the best of {n_trials:,.0f} trials"
    return kind, f"deflated Sharpe {deflated:.2f}: the probability that the true Sharpe is {above}"


def _data_chip(facts: Mapping[str, Any]) -> str:
    adjusted = "adjusted for dividends" if facts.get("adjusted") else "not adjusted for dividends"
    notes = counted(len(facts.get("notes", [])), "note")
    return f"data: {adjusted}, {notes}, snapshot {facts.get('snapshot', 'none')[:12]}"


def _portfolio_chips(result: PortfolioResult) -> list[str]:
    """What is to be known of several symbols: where the profit comes from, how they were aligned, their data."""
    brought, facts, chips = result.by_symbol["contribution"], list(result.data["symbols"].values()), []
    if len(brought) > 1 and brought.max() > 0.5 * brought.sum() > 0.0:
        share = format_value(brought.max() / brought.sum(), "fraction")
        chips.append(f"{brought.idxmax()} alone brought {share} of the profit")
    if result.data["notes"]:
        chips.append(f"{_apart(result)}, see the data")
    adjusted = sum(bool(each.get("adjusted")) for each in facts)
    notes = counted(sum(len(each.get("notes", [])) for each in facts), "note")
    return [*chips, f"data: {adjusted} of {len(facts)} symbols adjusted for dividends, {notes}"]


def parameters(result: BacktestResult) -> Html:
    """What was asked for: the strategy in its own words, its parameters, fills and costs."""
    settings, several = result.settings, isinstance(result, PortfolioResult)
    kind = "weighting" if several else "strategy"
    rows: list[tuple[Any, ...]] = [(kind, result.strategy, _in_words(result)[1])]
    rows += [(name, value, f"parameter of the {kind}") for name, value in result.params.items()]
    if several:
        rebalance, align = settings["rebalance"], settings["align"]
        rows.append(("rebalance", "none" if rebalance is None else rebalance, _rebalanced(rebalance)))
        rows.append(("align", align, "bars that every symbol has (inner), or all, prices carried forward (ffill)"))
    rows += [
        ("fill", settings["fill"], f"{_decided(result)} are {FILLED[settings['fill']]}"),
        ("fees", settings["fees"], "one-way, fraction of traded value"),
        ("slippage", settings["slippage"], "one-way, fraction of price, against the trade"),
        ("fixed_fee", settings["fixed_fee"], "for each fill, in currency"),
        ("cash", settings["cash"], "account at the first bar, in currency"),
        ("whole_units", settings["whole_units"], "units rounded towards zero"),
        ("risk_free", settings["risk_free"], "return of cash, fraction a year"),
        ("benchmark", settings["benchmark"], "bought where the run could first trade, without costs"),
        ("periods_per_year", settings["periods_per_year"], "bars a year, from the bars unless given"),
    ]
    listed = {name for name, *_ in rows}
    orders = {name: entry for name, entry in ORDERS.items() if name in settings.keys() - listed}
    looked_at = {"lookback"} if settings.get("sizing") == "volatility" else set()
    rows += [
        (name, settings[name], says)
        for name, (usual, says) in orders.items()
        if settings[name] != usual or name in looked_at
    ]
    return html_table(
        ("parameter", "value", "meaning"), [(n, f"{v:,.12g}" if _is_number(v) else v, m) for n, v, m in rows]
    )


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
    return html_table(("", "data"), rows, classes="facts")


def monthly_returns(result: BacktestResult) -> Html:
    """Return of each month and year, net of costs, the darker the further from zero; long past years are folded."""
    growth = 1.0 + result.returns
    years, months = growth.index.year, growth.index.month
    monthly = growth.groupby([years, months]).prod() - 1.0
    yearly = growth.groupby(years).prod() - 1.0
    deepest = float(np.abs(monthly).max()) or 1.0
    body = []
    for year, total in yearly.items():
        cells = [_heat(monthly.get((year, month)), deepest) for month in range(1, 13)]
        body.append(f"<tr><th scope='row'>{year}</th>{''.join(cells)}<td class='total'>{_percent(total)}</td></tr>")
    earlier, recent = body[:-MOST_YEARS], body[-MOST_YEARS:]
    table = _heat_table(recent, "Return by month and year, net of costs, in percent")
    if earlier:
        called = f"{yearly.index[0]} to {yearly.index[len(earlier) - 1]}"
        before = _heat_table(earlier, f"Return by month and year, {called}")
        table += f"<details><summary>Earlier: {called}</summary>{before}</details>"
    return Html(table)


def trades(result: BacktestResult, most: int = 10) -> Html:
    """The best and the worst trades, and all of them folded."""
    table = result.trades
    if table.empty:
        return Html("<p>No trade was made.</p>")
    closed = table[table["exit_reason"] != "open"].sort_values("trade_return", kind="stable")
    parts: list[str] = []
    half, shown = min(most // 2, len(closed) // 2), table.head(1000)
    several = isinstance(result, PortfolioResult) or result.settings["rebalance"] is not None
    fills = "; units are all that was bought or sold short in it, prices are means over its fills" if several else ""
    if len(table) > most and half:
        parts.append(_trade_table(closed.iloc[::-1].head(half), f"{_best(half, 'best')}{fills}"))
        parts.append(_trade_table(closed.head(half), f"{_best(half, 'worst')}{fills}"))
    more = "" if len(shown) == len(table) else f", the first {len(shown):,} shown; result.json has all"
    number = f"{len(table):,} " if len(table) > most else ""
    whole = _trade_table(shown, f"All {number}trades{more}{fills}")
    parts.append(f"<details><summary>All {number}trades</summary>{whole}</details>" if parts else whole)
    return Html("".join(parts))


def drawdowns(result: BacktestResult, most: int = 5) -> Html:
    """The deepest drawdowns: from which high, to what depth, and until when; of a portfolio also from what."""
    equity, index = result.equity.to_numpy(), result.equity.index
    rows = []
    for fall in deepest_drawdowns(equity, most):
        recovered = "not yet" if fall.recovered is None else bar_text(index, fall.recovered)
        times = (bar_text(index, fall.high), bar_text(index, fall.lowest), recovered)
        row = [*times, format_value(fall.depth, "fraction"), f"{fall.bars:,}"]
        if isinstance(result, PortfolioResult):
            lost = result.contributions.iloc[fall.high + 1 : fall.lowest + 1].sum() / equity[fall.high]
            row.append(f"{lost.idxmin()} {format_value(lost.min(), 'fraction')}")
        rows.append(row)
    if not rows:
        return Html("<p>The account never was below an earlier high.</p>")
    heads = ["High", "Lowest", "Recovered", "Depth", "Bars below the high"]
    heads += ["Most of it from"] if isinstance(result, PortfolioResult) else []
    many = f"{len(rows)} deepest drawdowns" if len(rows) > 1 else "only drawdown"
    return html_table(heads, rows, "numbers", f"The {many}, by depth")


def stress(result: BacktestResult) -> Html:
    """The same signals on other terms, and the cost at which they earn nothing."""
    table = result.stress()
    cases = table[np.isfinite(table["fees"])]  # without a break-even cost there is no such case
    if not _is_charged(result.settings):
        cases = cases.drop(["twice the costs", "without costs"])  # the same run again
    names = ("total_return", "cagr", "sharpe", "max_drawdown", "n_trades")
    rows = [
        (_case(case, terms), *(format_metric(name, terms[name]) for name in names))
        for case, terms in cases.to_dict("index").items()
    ]
    caption = (
        f"The same {_decided(result)} on other terms, each simulated anew with all else as it was run; costs are fees, "
        "slippage, fixed fees and what is paid for units sold short"
    )
    numbers = html_table(("Case", *(METRICS[name].label for name in names)), rows, "stress", caption)
    return Html(f"{numbers}<p>{_e(_break_even(result, table.loc[BREAK_EVEN]))}</p>")


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
    raw = result.data.get("symbols", {"": result.data})
    rows = [
        *((f"raw bars{of and f' of {of}'}, SHA-256", facts.get("snapshot", "none")) for of, facts in raw.items()),
        ("traded bars, SHA-256", result.prices_hash),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
    ]
    return html_table(("", "provenance"), rows, classes="facts")


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
        "annual_volatility": formulas.annual_volatility(formulas.line(returns), a_year),
        "sharpe": formulas.sharpe(formulas.line(returns - cash), a_year),
        "max_drawdown": formulas.calculate_max_drawdown(equity),
        "exposure": 1.0,
    }


# ---- words -----------------------------------------------------------------------------------------------------------


def _in_words(result: BacktestResult) -> tuple[str, str]:
    if isinstance(result, PortfolioResult):
        title, rule = describe_weighting(result.strategy, result.params, result.symbol)
        return title, f"{rule}, {_rebalanced(result.settings['rebalance'])}"
    return describe_strategy(result.strategy, result.params, result.symbol or "the asset")


def _rebalanced(rebalance: str | float | None) -> str:
    if isinstance(rebalance, float):
        return f"rebalanced where a weight drifts by more than {rebalance * 100.0:.6g} points"
    return REBALANCED[rebalance]


def asked_for(result: BacktestResult, free: str = "without costs") -> str:
    """Rule, orders, fill and costs of a run in words; `free` where it has no costs."""
    settings = result.settings
    orders = _orders({**settings, "rebalance": None} if isinstance(result, PortfolioResult) else settings)
    return ", ".join([_in_words(result)[1], *orders, FILLED[settings["fill"]], _costs(settings) or free])


def _orders(settings: Mapping[str, Any]) -> list[str]:
    """The settings of a run that are away from their defaults, in words; where it is filled and its costs apart."""
    stops = (("stop_loss", "stop"), ("take_profit", "take profit"), ("trailing_stop", "trailing stop"))
    said = [f"{called} {_rate(settings[name])}" for name, called in stops if settings.get(name) is not None]
    sizing, size = settings.get("sizing", "fraction"), settings.get("size", 1.0)
    if sizing != "fraction":
        said.append(f"sized to {SIZED[sizing].format(_rate(size) if sizing in ('volatility', 'risk') else size)}")
    elif size != 1.0:
        said.append(f"sized to {_rate(size)} of the account")
    if settings["leverage"] != 1.0:
        said.append(f"leverage {settings['leverage']:.6g}")
    if isinstance(settings["rebalance"], str):
        said.append(f"rebalanced {OFTEN[settings['rebalance']]}")
    elif settings["rebalance"] is not None:
        said.append(_rebalanced(settings["rebalance"]).replace("a weight", "the weight"))
    if settings["whole_units"]:
        said.append("in whole units")
    if settings["cash_rate"]:
        said.append(f"interest of {_rate(settings['cash_rate'])} a year")
    if settings["borrow_rate"]:
        said.append(f"{_rate(settings['borrow_rate'])} a year for units sold short")
    return said


def _rate(value: float | str, digits: int = 4) -> str:
    """A fraction in percent with no more digits than it has; "by bar" as it stands."""
    if isinstance(value, str):
        return value
    percent = np.format_float_positional(value * 100.0, digits, fractional=False, trim="-")
    return f"{percent}\u202f%".replace("-", "\u2212")


def _decided(result: BacktestResult) -> str:
    return "weights" if isinstance(result, PortfolioResult) else "signals"


def _best(half: int, which: str) -> str:
    return f"The {half} {which} closed trades" if half > 1 else f"The {which} closed trade"


def _is_charged(settings: Mapping[str, Any]) -> bool:
    """Whether twice the costs are other costs."""
    return any(settings.get(name, 0.0) for name in COSTS)


def _survival(result: BacktestResult) -> list[Chip]:
    """Whether a gain is still one at twice the costs, and where every decision is acted upon a bar later."""
    gained = result.metrics["n_trades"] > 0 and result.metrics["total_return"] > ROUNDING
    if result.again is None or not gained:  # what lost as it was has nothing to keep
        return []
    runs = {"twice the costs": result.again(**twice_the_costs(result.settings))} if _is_charged(result.settings) else {}
    runs["one bar more delay"] = result.again(delay=1)
    gains = {case: run.metrics["total_return"] for case, run in runs.items()}
    lost = {case: gain for case, gain in gains.items() if gain <= ROUNDING}
    numbers = " and ".join(format_value(gain, "fraction") for gain in (lost or gains).values())
    if lost:
        return [("bad", f"does not survive {' and '.join(lost)}: total return {numbers}")]
    return [("good", f"survives {' and '.join(gains)}: total return still {numbers}")]


def _apart(result: PortfolioResult) -> str:
    """What differs between the bars of the symbols."""
    if any("carried forward" in note for note in result.data["notes"]):
        return "calendars differ: prices were carried forward"
    what = "ranges differ" if result.settings["align"] == "ffill" else "ranges or calendars differ"
    return f"{what}: bars were left out"


def _lead(result: BacktestResult, held: Mapping[str, float]) -> str:
    settings = result.settings
    long_enough = len(result.equity) > settings["periods_per_year"] / 2  # to speak of a year
    name, span = ("cagr", "a year") if long_enough else ("total_return", "in all")
    ours, theirs = (
        (format_value(numbers[name], "fraction"), format_value(abs(numbers["max_drawdown"]), "fraction"))
        for numbers in (result.metrics, held)
    )
    return (
        f"{asked_for(result)}: "
        f"{ours[0]} {span} against {theirs[0]} for {settings['benchmark']}, "
        f"at a worst loss of {ours[1]} against {theirs[1]}."
    )


def _costs(terms: Mapping[str, Any], digits: int = 4) -> str:
    """Costs in words, empty where there are none."""
    rate = terms["fees"] + terms["slippage"]
    charged = [f"{_rate(rate, digits)} a side"] if rate else []
    charged += [f"{terms['fixed_fee']:,.6g} a fill"] if terms["fixed_fee"] else []
    return " and ".join(charged)


def _case(case: str, terms: Mapping[str, Any]) -> str:
    """A case of `result.stress` in words, with the terms that a reader cannot tell from its name."""
    costs = _costs(terms, 3 if case == BREAK_EVEN else 4)
    if case == "as run":
        return f"{case}: {FILLED[terms['fill']]}, {costs or 'without costs'}"
    return f"{case}: {costs}" if costs and case in ("twice the costs", BREAK_EVEN) else case


def _break_even(result: BacktestResult, terms: Mapping[str, Any]) -> str:
    """The cost at which nothing is earned, or why there is none."""
    if math.isfinite(terms["fees"]):
        if terms["total_return"] < JUMPS:
            return f"From {_costs(terms, 3)} on it no longer gains."
        return f"It earns nothing at {_costs(terms, 3)}."
    free = again_of(result)(fees=0.0, slippage=0.0, fixed_fee=0.0).metrics
    if free["n_trades"] == 0:
        return "It never trades, whatever the costs."
    if free["total_return"] > ROUNDING:
        return "It gains at any cost below 100\u202f% a side."
    return f"It {'loses' if free['total_return'] < -ROUNDING else 'earns nothing'} even without trading costs."


def _compared(against: str, what: str, ours: float, theirs: float, unit: str) -> Chip:
    numbers = f"{format_value(ours, unit)} against {format_value(theirs, unit)}"
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        return "plain", f"{what}: {numbers}"
    if format_value(ours, unit) == format_value(theirs, unit):
        return "plain", f"equals {against} by {what}: {numbers}"
    better = ours > theirs
    return "good" if better else "bad", f"{'beats' if better else 'does not beat'} {against} by {what}: {numbers}"


def _duration(gap: pd.Timedelta) -> str:
    hours = gap.total_seconds() / 3600.0
    return f"{hours / 24.0:,.4g} days" if hours >= 24.0 else f"{hours:,.3g} hours"


# ---- tables ----------------------------------------------------------------------------------------------------------


def _e(text: Any) -> str:
    return html.escape(str(text))


def _dated(text: Any) -> str:
    """Escaped, and dates as they must not be broken."""
    return DATE.sub(r"<span class='date'>\g<0></span>", _e(text))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def html_table(heads: Iterable[str], rows: Iterable[Iterable[Any]], classes: str = "plain", caption: str = "") -> Html:
    """A table whose first column names the rows; of very many rows the first and the last, and how many lie between."""
    heads, body = tuple(heads), [_row(row) for row in rows]
    if between := body[MOST_ROWS // 2 : -MOST_ROWS // 2]:
        many = f"<tr><th scope='row' colspan='{len(heads)}'>{len(between):,} more rows, not shown</th></tr>"
        body[MOST_ROWS // 2 : -MOST_ROWS // 2] = [many]
    head = "".join(f"<th scope='col'>{_e(text)}</th>" for text in heads)
    said = f"<caption>{_e(caption)}</caption>" if caption else ""
    table = f"<table class='{classes}'>{said}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return Html(f"<div class='scroll'>{table}</div>")


def _row(cells: Iterable[Any]) -> str:
    first, *rest = cells
    return f"<tr><th scope='row'>{_e(first)}</th>{''.join(f'<td>{_dated(cell)}</td>' for cell in rest)}</tr>"


def _trade_table(table: pd.DataFrame, caption: str) -> Html:
    of = ["Symbol"] if "symbol" in table else []
    heads = (*of, "Entry", "Exit", "Units", "Entry price", "Exit price", "Fees", "Profit", "Return", "Bars", "Exit by")
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
        texts = (*([trade.symbol] if of else []), *times, *numbers, trade.exit_reason.replace("_", " "))
        cells = "".join(f"<td>{_e(cell)}</td>" for cell in texts)
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


def _heat_table(rows: list[str], caption: str) -> str:
    heads = "".join(f"<th scope='col'>{month}</th>" for month in (*MONTHS, "Total"))
    return (
        f"<div class='scroll'><table class='heat'><caption>{caption}</caption>"
        f"<thead><tr><th scope='col'>Year</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _percent(value: float) -> str:
    """Percent without its sign, as the cells of a heat map show it."""
    return format_value(value, "fraction").removesuffix("\u202f%")
