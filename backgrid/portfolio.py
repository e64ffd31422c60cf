"""Several symbols, one cash account: weights decided at a close become trades at a later price."""

import copy
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from backgrid import _kernels
from backgrid._kernels import FILL_BAR, FILL_FEE, FILL_PRICE, FILL_SYMBOL, FILL_UNITS
from backgrid.bars import DAY, bar_text, check_index, check_prices, hash_bars
from backgrid.engine import (
    DATA_FACTS,
    ROUNDING,
    Asked,
    benchmark_name,
    check_changes,
    check_range_of_floats,
    equity_before,
    held_benchmark,
    holding,
    later,
    measure,
)
from backgrid.errors import ParameterError, PricesError, TooFewBarsError, did_you_mean, shown
from backgrid.indicators import check_number
from backgrid.result import PortfolioResult
from backgrid.strategies import complete_params, first_parameter, function_name
from backgrid.terms import (
    COSTS,
    FILLS,
    check_costs,
    check_fill,
    check_one_of,
    check_periods,
    check_rebalance,
    due_bars,
    kernel_terms,
)
from backgrid.weightings import get_weighting

Weights: TypeAlias = str | Callable | Mapping[str, float] | pd.Series | pd.DataFrame


class Panel(NamedTuple):
    """Prices of several symbols on the same bars.

    frames     the bars of each symbol by name
    index      their dates                                                                     (n_bars,)
    tradable   bars on which every symbol has a price of its own, none carried forward         (n_bars,)
    facts      what the prices said of themselves, by symbol
    notes      what was left out or carried forward, in words
    """

    frames: dict[str, pd.DataFrame]
    index: pd.DatetimeIndex
    tradable: np.ndarray
    facts: dict[str, dict[str, Any]]
    notes: list[str]

    def column(self, name: str) -> np.ndarray:
        """One column of every symbol, shape (n_bars, n_symbols)."""
        return np.column_stack([frame[name].to_numpy() for frame in self.frames.values()])


def run_portfolio(
    prices_by_symbol: Mapping[str, pd.DataFrame | pd.Series],
    weights: Weights = "equal_weight",
    *,
    params: Mapping[str, Any] | None = None,
    rebalance: str | float | None = None,
    align: str = "inner",
    fill: str = "next_open",
    fees: float = 0.0,
    slippage: float = 0.0,
    fixed_fee: float = 0.0,
    cash: float = 100_000.0,
    whole_units: bool = False,
    leverage: float = 1.0,
    cash_rate: float = 0.0,
    borrow_rate: float = 0.0,
    risk_free: float = 0.0,
    periods_per_year: float | None = None,
    benchmark: pd.DataFrame | pd.Series | None = None,
) -> PortfolioResult:
    """Backtest weights of several symbols that share one cash account.

    A weight w becomes units = w * equity / price, both at the fill. Sales come before purchases, and purchases that the
    account cannot pay, costs included, are scaled pro rata: without leverage and shorts the account never falls below
    zero. A change that is not worth its fixed fee is left, unless it closes a position.

    Parameters
    ----------
    prices_by_symbol : dict of DataFrame or Series
        Prices of each symbol, as in `run_backtest`. [currency]
    weights : str, function, dict, Series or DataFrame, default "equal_weight"
        A registered name ("equal_weight", "inverse_volatility", "top_momentum"); a function of the closes (see
        `backgrid.weightings`); one weight a symbol; or a frame of weights, one column a symbol, each row decided at the
        close of its date (of the next bar, where that is none) and valid until the next row. Their absolute sum may
        not exceed the leverage; what is left is cash, and a symbol not named has none. [fraction of equity]
    params : dict, optional
        Parameters of a weighting function; its defaults for the rest.
    rebalance : {None, "bar", "week", "month"} or float, default None
        When the account is brought to its weights, as decided at a close: None where the weights differ from the row
        before, and units are kept in between; every one; the first of each week or month; or where a weight has
        drifted by more than this, or a symbol has to be opened or closed. Always on the first bar with weights.
    align : {"inner", "ffill"}, default "inner"
        For symbols with different bars: those that all have; or all bars while every symbol has prices, the last one
        carried forward where one is missing. Nothing trades on a bar with a carried price: a rebalance waits. What was
        left out or carried stands in `result.data["notes"]`.
    fill, fees, slippage, fixed_fee, cash, whole_units, cash_rate, borrow_rate, risk_free, periods_per_year
        As in `run_backtest`; the fixed fee is charged for each symbol traded.
    leverage : float, default 1.0
        Largest sum of absolute weights; what is above 1 is borrowed. [fraction of equity]
    benchmark : DataFrame or Series of prices, optional
        What the run is compared with, as in `run_backtest`; the same cash in each symbol, if not given.

    Returns
    -------
    PortfolioResult

    Raises
    ------
    PricesError
        For prices that cannot be backtested, naming the symbol; TooFewBarsError for fewer than two bars in common.
    ParameterError
        For any other argument, naming it.
    """
    panel = align_prices(prices_by_symbol, align)
    given = {
        "fill": fill,
        "fees": fees,
        "slippage": slippage,
        "fixed_fee": fixed_fee,
        "cash": cash,
        "whole_units": whole_units,
        "leverage": leverage,
        "cash_rate": cash_rate,
        "borrow_rate": borrow_rate,
        "risk_free": risk_free,
        "rebalance": rebalance,
        "align": align,
        "periods_per_year": periods_per_year,
        "benchmark": copy.deepcopy(benchmark),
    }
    return _run(panel, _asked(weights, panel, params), given)


def _run(panel: Panel, asked: Asked, given: Mapping[str, Any], delay: int = 0) -> PortfolioResult:
    """One simulation; with a delay, whatever was decided at a close is acted upon so many bars later."""
    settings, close = _settings(panel, given), panel.column("Close")
    open_ = panel.column("Open") if settings["fill"] == "next_open" else close
    terms = kernel_terms(settings)
    n_bars, n_symbols = close.shape
    _check_sums(asked, panel.index, settings["leverage"])
    equity, units, fills, financing = _kernels.simulate_portfolio(
        open_,
        close,
        later(asked.target, delay, 0.0),
        later(_due(asked.target, settings["rebalance"], panel.index), delay, False),
        panel.tradable,
        FILLS[settings["fill"]],
        terms,
    )
    check_range_of_floats(equity)
    weights = np.divide(units * close, equity[:, None], out=np.zeros_like(close), where=equity[:, None] > 0.0)
    gross = np.abs(weights).sum(axis=1)
    trades = _trades(fills, n_bars - 1, close[-1])
    benchmark = given["benchmark"]
    if benchmark is None:
        held = holding(open_, close, settings["fill"]).mean(axis=1)
    else:
        held = held_benchmark(benchmark, panel.index, settings["fill"])
    symbols = list(panel.frames)
    contributions = _contributions(units, close, fills, terms.borrow_rate)

    def by_bar(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, index=panel.index, columns=symbols, copy=False)

    return PortfolioResult(
        symbol=", ".join(symbols) if n_symbols <= 6 else f"{n_symbols} symbols",
        data={"symbols": panel.facts, "notes": panel.notes},
        strategy=asked.name,
        params=asked.params,
        settings=settings,
        index=panel.index,
        curves=np.array([equity, gross, settings["cash"] * held]),
        booked=trades,
        metrics=measure(equity, gross, fills, trades, held, financing, settings),
        hashed=functools.partial(_hash, panel),
        again=functools.partial(_again, panel, asked, given, delay),
        weights=by_bar(weights),
        contributions=by_bar(contributions),
        by_symbol=_by_symbol(symbols, weights, contributions, equity, fills, trades, settings),
    )


def _again(
    panel: Panel, asked: Asked, given: Mapping[str, Any], already: int, *, delay: int = 0, **changed: Any
) -> PortfolioResult:
    """The same weights, acted upon `delay` bars later than they were, or on other terms."""
    check_changes({name: value for name, value in given.items() if name != "align"}, changed, delay)
    return _run(panel, asked, {**given, **changed}, already + delay)


def _settings(panel: Panel, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, checked."""
    for symbol, frame in panel.frames.items():
        try:
            check_fill(given["fill"], frame)
        except ParameterError as error:
            raise ParameterError(f"{symbol}: {error}" if given["fill"] in FILLS else str(error)) from None
    return {
        "fill": given["fill"],
        **check_costs(**{name: given[name] for name in COSTS}),
        "rebalance": check_rebalance(given["rebalance"], "fraction"),
        "align": given["align"],
        "periods_per_year": check_periods(given["periods_per_year"], panel.index),
        "benchmark": benchmark_name(given["benchmark"], "holding equal parts"),
    }


def _due(target: np.ndarray, rebalance: str | float | None, index: pd.DatetimeIndex) -> np.ndarray:
    """The closes at which the account is to be brought to its weights; the kernel adds those where it has drifted."""
    due = due_bars(rebalance, index)
    if rebalance is None:
        due[1:] = (target[1:] != target[:-1]).any(axis=1)
    invested = target.any(axis=1)
    if invested.any():
        due[invested.argmax()] = True
    return due


# ---- prices ----------------------------------------------------------------------------------------------------------


def align_prices(prices_by_symbol: Mapping[str, pd.DataFrame | pd.Series], align: str = "inner") -> Panel:
    """Prices of several symbols on the same bars, and what was left out or carried forward for it.

    Raises
    ------
    PricesError
        For prices that cannot be backtested, naming the symbol, and for daily beside intraday bars; TooFewBarsError
        for fewer than two bars in common.
    ParameterError
        If `prices_by_symbol` is not a dict by symbol, or `align` is neither "inner" nor "ffill".
    """
    check_one_of("align", align, ("inner", "ffill"))
    if not isinstance(prices_by_symbol, Mapping) or not prices_by_symbol:
        raise ParameterError(f"prices_by_symbol must be a dict of prices by symbol, got {shown(prices_by_symbol)}")
    frames = {}
    for symbol, prices in prices_by_symbol.items():
        if not isinstance(symbol, str) or not symbol:
            raise ParameterError(f"prices_by_symbol needs symbols as text, got {shown(symbol)}")
        try:
            frames[symbol] = check_prices(prices)
        except PricesError as error:
            raise type(error)(f"{symbol}: {error}") from error
    facts = {
        symbol: copy.deepcopy({name: prices.attrs[name] for name in DATA_FACTS if name in prices.attrs})
        for symbol, prices in prices_by_symbol.items()
    }
    first, *others = (frame.index for frame in frames.values())
    for symbol, frame in frames.items():
        if str(frame.index.tz) != str(first.tz):
            zones = f"{next(iter(frames))} in {first.tz or 'none'}, {symbol} in {frame.index.tz or 'none'}"
            raise PricesError(f"prices lie in different time zones: {zones}; tz_localize or tz_convert one of them")
    gaps = {symbol: float(np.median(np.diff(frame.index.asi8))) for symbol, frame in frames.items()}
    longest, shortest = max(gaps, key=gaps.__getitem__), min(gaps, key=gaps.__getitem__)
    if gaps[longest] > 3.0 * gaps[shortest]:
        raise PricesError(
            f"bars of different lengths: {longest} has one every {_days(gaps[longest])}, {shortest} every "
            f"{_days(gaps[shortest])}; the close of a long bar would be known before its end"
        )
    if all(index.equals(first) for index in others):
        return Panel(frames, first, np.ones(len(first), dtype=bool), facts, [])
    return (_inner if align == "inner" else _carried)(frames, facts)


def _days(nanoseconds: float) -> str:
    return f"{nanoseconds / DAY:.3g} days"


def _inner(frames: dict[str, pd.DataFrame], facts: dict[str, dict]) -> Panel:
    index = functools.reduce(lambda left, right: left.intersection(right), (frame.index for frame in frames.values()))
    _check_enough(index, frames)
    notes = [
        f"{symbol}: {len(frame) - len(index):,} of its {len(frame):,} bars left out, which not every symbol has"
        for symbol, frame in frames.items()
        if len(frame) > len(index)
    ]
    common = {symbol: frame.loc[index] for symbol, frame in frames.items()}
    return Panel(common, index, np.ones(len(index), dtype=bool), facts, notes)


def _carried(frames: dict[str, pd.DataFrame], facts: dict[str, dict]) -> Panel:
    first = max(frame.index[0] for frame in frames.values())
    last = min(frame.index[-1] for frame in frames.values())
    index = functools.reduce(lambda left, right: left.union(right), (frame.index for frame in frames.values()))
    index = index[(index >= first) & (index <= last)]
    _check_enough(index, frames)
    tradable, carried, notes = np.ones(len(index), dtype=bool), {}, []
    for symbol, frame in frames.items():
        missing = ~index.isin(frame.index)
        whole = frame.reindex(index, method="ffill")
        whole.loc[missing, whole.columns.difference(["Volume"])] = whole.loc[missing, ["Close"]].to_numpy()
        whole.loc[missing, whole.columns.intersection(["Volume"])] = 0.0
        outside = len(frame) - (len(index) - missing.sum())
        if outside:
            notes.append(
                f"{symbol}: {outside:,} of its {len(frame):,} bars left out, where not every symbol has prices"
            )
        if missing.any():
            at = bar_text(index, int(missing.argmax()))
            notes.append(f"{symbol}: price carried forward over {missing.sum():,} bars without one, first on {at}")
        carried[symbol] = whole
        tradable &= ~missing
    if not tradable.any():
        notes.append("no bar has a price of its own for every symbol: nothing ever trades")
    return Panel(carried, index, tradable, facts, notes)


def _check_enough(index: pd.DatetimeIndex, frames: dict[str, pd.DataFrame]) -> None:
    if len(index) < 2:
        spans = ", ".join(
            f"{symbol} {bar_text(frame.index, 0)}..{bar_text(frame.index, -1)}" for symbol, frame in frames.items()
        )
        raise TooFewBarsError(f"a portfolio needs two bars that every symbol has, got {len(index)} ({spans})")


def _hash(panel: Panel) -> str:
    """SHA-256 of the symbols and of the bars of each, as they were traded."""
    lines = [f"{symbol} {hash_bars(frame)}" for symbol, frame in panel.frames.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# ---- weights ---------------------------------------------------------------------------------------------------------


def _asked(weights: Weights, panel: Panel, params: Mapping[str, Any] | None) -> Asked:
    """Name, complete parameters and target weights of whatever was given as weights."""
    if not isinstance(weights, str) and not callable(weights):
        if params:
            raise ParameterError("weights that are given take no params: only a function does")
        target = _target(weights, panel, "weights")
        named = dict(weights) if isinstance(weights, (Mapping, pd.Series)) else {}
        return Asked("weights", {symbol: float(weight) for symbol, weight in named.items()}, target)
    function = get_weighting(weights) if isinstance(weights, str) else weights
    name, complete = function_name(function), complete_params(function, params)
    if first_parameter(function) == "prices":
        prices: Any = {symbol: frame.copy() for symbol, frame in panel.frames.items()}
    else:
        prices = pd.DataFrame(panel.column("Close"), index=panel.index, columns=list(panel.frames))
    given = function(prices, **complete)
    if not isinstance(given, pd.DataFrame):  # one row for all bars would know of the last one
        raise ParameterError(f"{name} must return a frame of weights, a row a bar, got {shown(given)}")
    target = _target(given, panel, name)
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in complete.items()}
    return Asked(name, plain, target)


def _target(weights: Any, panel: Panel, name: str) -> np.ndarray:
    """Weights as a target a bar and symbol, NaN as none, or an error naming the first that is wrong."""
    if isinstance(weights, (Mapping, pd.Series)):
        row = {symbol: check_number(f"weight of {symbol}", weight) for symbol, weight in dict(weights).items()}
        weights = pd.DataFrame([row], index=panel.index[:1])
    if not isinstance(weights, pd.DataFrame) or not weights.shape[1]:
        raise ParameterError(f"{name} must be a dict or a frame of weights by symbol, got {shown(weights)}")
    for symbol in weights.columns:
        if symbol not in panel.frames:
            hint = did_you_mean(str(symbol)[:40], panel.frames)
            raise ParameterError(f"{name}: no prices were given for {shown(symbol)}{hint}")
    if not weights.columns.is_unique:
        raise ParameterError(f"{name}: {shown(weights.columns[weights.columns.duplicated()][0])} stands twice")
    numeric = [getattr(kind, "kind", "O") in "iuf" for kind in weights.dtypes]
    if not all(numeric):
        raise ParameterError(f"{name}: the weights of {weights.columns[numeric.index(False)]} are not numbers")
    rows = weights.reindex(columns=list(panel.frames)).to_numpy(dtype=float, na_value=np.nan)
    none_yet = np.full((1, rows.shape[1]), np.nan)
    target = np.concatenate([none_yet, rows])[_row_of_bar(weights.index, panel.index, name) + 1]
    if np.isnan(target).all():
        raise TooFewBarsError(f"{name} gave no weight in {len(target)} bars: give it more bars or shorter windows")
    bad = np.argwhere(np.isinf(target))
    if bad.size:
        at, place = bad[0]
        where = bar_text(panel.index, int(at))
        raise ParameterError(f"{name}: the weight of {list(panel.frames)[place]} on {where} is infinite")
    return np.nan_to_num(target)


def _row_of_bar(dates: Any, index: pd.DatetimeIndex, name: str) -> np.ndarray:
    """Which row of weights is the latest at each bar, -1 where there is none yet."""
    try:
        dates = check_index(dates, of="weights")
        if str(dates.tz) != str(index.tz):
            raise PricesError(f"they lie in the time zone {dates.tz or 'none'}, prices in {index.tz or 'none'}")
    except PricesError as error:
        raise ParameterError(f"{name}: {error}") from error
    if len(dates) and dates[0] > index[-1]:
        raise TooFewBarsError(f"{name}: the first row, of {bar_text(dates, 0)}, comes after the last bar")
    return dates.searchsorted(index, side="right") - 1


def _check_sums(asked: Asked, index: pd.DatetimeIndex, leverage: float) -> None:
    sums = np.abs(asked.target).sum(axis=1)
    over = np.flatnonzero(sums > leverage * (1.0 + ROUNDING))
    if over.size:
        at = int(over[0])
        raise ParameterError(
            f"{asked.name} on {bar_text(index, at)} add up to {sums[at]:.6g} of the equity, above the leverage "
            f"{leverage:g}: scale them, or raise the leverage"
        )


# ---- what comes out --------------------------------------------------------------------------------------------------


def _trades(fills: np.ndarray, last_bar: int, last_prices: np.ndarray) -> np.ndarray:
    """Fills gathered into trades symbol by symbol, in order of entry; a ninth column holds the symbol's place."""
    every = [np.empty((0, 9))]
    for place in np.unique(fills[:, FILL_SYMBOL]).astype(int):
        trades = _kernels.pair_trades(fills[fills[:, FILL_SYMBOL] == place], last_bar, last_prices[place])
        every.append(np.column_stack([trades, np.full(len(trades), float(place))]))
    together = np.concatenate(every)
    return together[np.argsort(together[:, 0], kind="stable")]


def _contributions(units: np.ndarray, close: np.ndarray, fills: np.ndarray, borrow_rate: float) -> np.ndarray:
    """Profit of each bar and symbol, after its costs; with the interest of the account it is the change of equity."""
    profit = np.zeros_like(close)
    profit[1:] = units[:-1] * np.diff(close, axis=0) - np.maximum(-units[:-1], 0.0) * close[:-1] * borrow_rate
    at = fills[:, FILL_BAR].astype(int), fills[:, FILL_SYMBOL].astype(int)
    np.add.at(profit, at, fills[:, FILL_UNITS] * (close[at] - fills[:, FILL_PRICE]) - fills[:, FILL_FEE])
    return profit


def _by_symbol(
    symbols: list[str],
    weights: np.ndarray,
    contributions: np.ndarray,
    equity: np.ndarray,
    fills: np.ndarray,
    trades: np.ndarray,
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """What each symbol was, cost and brought."""
    n_symbols, place = len(symbols), fills[:, FILL_SYMBOL].astype(int)
    traded = np.abs(fills[:, FILL_UNITS]) * fills[:, FILL_PRICE] / equity_before(equity, fills)
    a_year = settings["periods_per_year"] / (equity.size - 1)
    contribution = contributions.sum(axis=0)
    return pd.DataFrame(
        {
            "mean_weight": weights.mean(axis=0),
            "largest_weight": weights[np.abs(weights).argmax(axis=0), np.arange(n_symbols)],
            "contribution": contribution,
            "contribution_share": contribution / settings["cash"],
            "turnover": np.bincount(place, traded, n_symbols) * a_year,
            "fees": np.bincount(place, fills[:, FILL_FEE], n_symbols),
            "n_trades": np.bincount(trades[:, 8].astype(int), minlength=n_symbols),
        },
        index=pd.Index(symbols, name="symbol"),
    )
