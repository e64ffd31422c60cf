"""What a backtest gives back: frozen data that can be looked at, drawn, written as JSON, pickled and compared."""

import dataclasses
import functools
import html
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from backgrid.bars import bar_text
from backgrid.comparison import Comparison, compare
from backgrid.conventions import conventions
from backgrid.errors import ParameterError, shown
from backgrid.metrics import METRICS, format_metric, returns_of
from backgrid.stress import stress

if TYPE_CHECKING:
    from backgrid.plot import Chart

BOOKED = ("entry_bar", "exit_bar", "units", "entry_price", "exit_price", "fees", "pnl", "exit_reason")
EXIT_REASONS = ("signal", "stop_loss", "take_profit", "trailing_stop", "ruin", "open")  # by the codes of _kernels.py
RESULT_TYPE = "application/vnd.backgrid.result"  # of a result recorded in a notebook
VERDICTS_TYPE = "application/vnd.backgrid.verdicts+json"  # of the verdicts beside a page's summary
CURVES = ("equity", "positions", "benchmark")
HEADLINE = ("total_return", "cagr", "annual_volatility", "sharpe", "max_drawdown", "n_trades", "exposure", "fees_paid")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BacktestResult:
    """One backtest: its request, its course and its numbers.

    Attributes
    ----------
    symbol : str
        What was traded; empty where the prices did not say.
    data : dict
        What the prices said of themselves: source, interval, adjusted, snapshot, notes.
    strategy : str
        Registered name or function name, "signals" for an array.
    params : dict
        All parameters of the strategy, defaults included.
    settings : dict
        The arguments of `run_backtest`, "by bar" for a stop given as an array; benchmark is "holding", or the symbol
        of the prices that were given for it ("given" where they have none).
    equity : Series, shape (n_bars,)
        Account value at each close; the first is the starting cash. [currency]
    positions : Series, shape (n_bars,)
        Share of the equity in the market at each close, negative for short. [fraction of equity]
    benchmark : Series, shape (n_bars,)
        The starting cash in the benchmark, from where the run could first trade on, without costs. [currency]
    index, curves : DatetimeIndex, ndarray of shape (3, n_bars)
        What equity, positions and benchmark are made of when they are asked for.
    booked : ndarray, shape (n_trades, 8)
        What `trades` is made of: its columns BOOKED, exit_reason as a place in EXIT_REASONS.
    metrics : dict
        See `backgrid.metrics`; NaN where undefined.
    prices_hash : str
        SHA-256 of the bars that were traded, made by `hashed` when first asked for.
    again : function or None
        `run_backtest` on the same bars and signals, with the settings that are given changed, and signals `delay` bars
        later; None for a result read from JSON.
    trades : DataFrame
        One row a trade: entry_time exit_time entry_bar exit_bar units (signed) entry_price exit_price fees pnl
        trade_return bars_held exit_reason ("signal", "stop_loss", "take_profit", "trailing_stop", "ruin", or "open" for
        one valued at the last close). A ruined trade shows its whole loss, also what exceeds the account.
    """

    symbol: str
    data: dict[str, Any]
    strategy: str
    params: dict[str, Any]
    settings: dict[str, Any]
    index: pd.DatetimeIndex
    curves: np.ndarray
    booked: np.ndarray
    metrics: dict[str, float | int]
    hashed: Callable[[], str]
    again: Callable[..., "BacktestResult"] | None = None

    def __post_init__(self) -> None:
        self.booked.flags.writeable = self.curves.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({name: value for name, value in state.items() if name not in CURVES})
        self.__post_init__()  # what was pickled can be written again

    @functools.cached_property
    def equity(self) -> pd.Series:
        """Account value at each close. [currency]"""
        return self._curve("equity")

    @functools.cached_property
    def positions(self) -> pd.Series:
        """Share of the equity in the market at each close. [fraction of equity]"""
        return self._curve("positions")

    @functools.cached_property
    def benchmark(self) -> pd.Series:
        """The starting cash in the benchmark. [currency]"""
        return self._curve("benchmark")

    def _curve(self, name: str) -> pd.Series:
        return pd.Series(self.curves[CURVES.index(name)], index=self.index, name=name, copy=False)

    @property
    def trades(self) -> pd.DataFrame:
        """One row a trade; a copy, made only when asked for, since a frame costs more than the backtest."""
        return self._trades.copy()

    @functools.cached_property
    def _trades(self) -> pd.DataFrame:
        return _trade_table(self.booked, self.equity.index)

    @functools.cached_property
    def prices_hash(self) -> str:
        """SHA-256 of the bars that were traded."""
        return self.hashed()

    @property
    def returns(self) -> pd.Series:
        """Simple return of each bar from the second on, net of costs, shape (n_bars - 1,). [fraction]"""
        returns = returns_of(self.equity.to_numpy())
        return pd.Series(returns, index=self.equity.index[1:], name="returns")

    @property
    def title(self) -> str:
        """The strategy and its parameters as a call, and the symbol."""
        arguments = ", ".join(f"{name}={value}" for name, value in self.params.items())
        return f"{self.strategy}({arguments}){f' on {self.symbol}' if self.symbol else ''}"

    def conventions(self) -> pd.DataFrame:
        """The same metrics as Backgrid, backtesting.py, vectorbt, quantstats and empyrical compute them by default.

        Returns
        -------
        DataFrame
            Rows by (metric, tool), columns value and formula; see `backgrid.conventions`.
        """
        closed = self._trades[self._trades["exit_reason"] != "open"]
        return conventions(
            self.returns,
            self.equity,
            closed["pnl"],
            closed["trade_return"],
            periods_per_year=self.settings["periods_per_year"],
            risk_free=self.settings["risk_free"],
        )

    def stress(self) -> pd.DataFrame:
        """The same signals a bar later, filled elsewhere, at twice the costs, without any, and at the break-even cost.

        Returns
        -------
        DataFrame
            One row a case, see `backgrid.stress`.

        Raises
        ------
        ParameterError
            For a result read from JSON, which has no signals to run again.
        """
        return stress(self)

    def compare(self, other: "BacktestResult") -> Comparison:
        """What differs between this run (ours) and another (theirs), and where it begins; see `backgrid.comparison`.

        Raises
        ------
        ParameterError
            If `other` is not a result.
        """
        if not isinstance(other, BacktestResult):
            raise ParameterError(f"a result is compared with another result, got {shown(other)}")
        return compare(self, other)

    def plot(self) -> "Chart":
        """Equity against the benchmark, positions and drawdown, as a matplotlib figure."""
        from backgrid import plot

        return plot.equity_chart(
            self.equity,
            self.benchmark,
            self.positions,
            self.strategy,
            self.settings["benchmark"],
            invested=isinstance(self, PortfolioResult),
        )

    def to_json(self) -> str:
        """The whole result as strict JSON: NaN is null, floats and times read back exactly.

        Raises
        ------
        ParameterError
            If a parameter of the strategy is not a number, text, list or dict.
        """
        return self._json(_refuse)

    def _json(self, unknown: Callable[[Any], Any]) -> str:
        return json.dumps(_nan_as_none(self._body()), allow_nan=False, default=unknown)

    def _body(self) -> dict[str, Any]:
        """What JSON holds of this result."""
        index = self.equity.index
        return {
            "symbol": self.symbol,
            "data": self.data,
            "strategy": self.strategy,
            "params": self.params,
            "settings": self.settings,
            "prices_hash": self.prices_hash,
            "metrics": self.metrics,
            "trades": {
                name: _iso(column) if name.endswith("_time") else column.tolist()
                for name, column in self._trades.items()
            },
            "time_zone": str(index.tz) if index.tz is not None else None,
            "time": _iso(index),
            "equity": self.equity.tolist(),
            "positions": self.positions.tolist(),
            "benchmark": self.benchmark.tolist(),
        }

    @staticmethod
    def from_json(text: str) -> "BacktestResult":
        """The result whose `text` was written by `to_json`, of a portfolio too."""
        body = json.loads(text)
        cls = PortfolioResult if "weights" in body else BacktestResult
        return cls(**cls._fields(body))

    @classmethod
    def _fields(cls, body: dict[str, Any]) -> dict[str, Any]:
        """The attributes that JSON holds."""
        index = _times(body["time"], body["time_zone"]).rename("Date")
        booked = dict(body["trades"], exit_reason=[EXIT_REASONS.index(r) for r in body["trades"]["exit_reason"]])
        return dict(
            **{name: body[name] for name in ("symbol", "data", "strategy", "params", "settings")},
            hashed=functools.partial(str, body["prices_hash"]),
            index=index,
            curves=np.array([body[name] for name in CURVES], dtype=float),
            booked=np.array([booked[name] for name in BOOKED], dtype=float).T.reshape(-1, len(BOOKED)),
            metrics={name: math.nan if value is None else value for name, value in body["metrics"].items()},
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BacktestResult):
            return NotImplemented
        return self._json(repr) == other._json(repr)

    def __hash__(self) -> int:
        return hash((self.prices_hash, self.strategy, float(self.equity.iloc[-1])))

    def __repr__(self) -> str:
        shown_metrics = ("total_return", "sharpe", "max_drawdown", "n_trades")
        numbers = ", ".join(f"{METRICS[m].label.lower()} {format_metric(m, self.metrics[m])}" for m in shown_metrics)
        return f"<{type(self).__name__} {self.title}: {len(self.equity)} bars, {numbers}>"

    def _repr_html_(self) -> str:
        index = self.equity.index
        caption = f"{self.title}, {bar_text(index, 0)} to {bar_text(index, len(index) - 1)}, {len(index):,} bars"
        costs = f"fees {self.settings['fees']:.3%}, slippage {self.settings['slippage']:.3%} a side"
        heads = "".join(f"<th scope='col'>{METRICS[name].label}</th>" for name in HEADLINE)
        cells = "".join(f"<td>{format_metric(name, self.metrics[name])}</td>" for name in HEADLINE)
        return (
            f"<div class='backgrid-result'><p><strong>{html.escape(caption)}</strong><br>"
            f"<small>filled at {html.escape(self.settings['fill'].replace('_', ' '))}, {costs}</small></p>"
            f"{_sparkline(self.equity.to_numpy(), self.benchmark.to_numpy())}"
            f"<table><thead><tr>{heads}</tr></thead><tbody><tr>{cells}</tr></tbody></table></div>"
        )


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PortfolioResult(BacktestResult):
    """One backtest of several symbols that share an account.

    What differs from `BacktestResult`:

    Attributes
    ----------
    symbol : str
        The symbols, or their number where there are many.
    data : dict
        What the prices said of themselves, by symbol, and notes on bars left out or carried forward.
    strategy, params
        Name of the weighting and its parameters; "weights" and one a symbol for given weights.
    positions : Series, shape (n_bars,)
        Sum of the absolute weights at each close. [fraction of equity]
    weights : DataFrame, shape (n_bars, n_symbols)
        Share of the equity in each symbol at each close, negative for short. [fraction of equity]
    contributions : DataFrame, shape (n_bars, n_symbols)
        Profit of each bar from each symbol, after its costs. With the interest of the account they add up to the
        change of the equity. [currency]
    by_symbol : DataFrame, one row a symbol
        mean_weight, largest_weight [fraction of equity], contribution [currency], contribution_share [fraction of the
        starting cash], turnover [multiple a year], fees [currency], n_trades.
    booked : ndarray, shape (n_trades, 9)
        As there, and the place of the symbol.
    trades : DataFrame
        As there, with the column symbol in front.
    """

    weights: pd.DataFrame
    contributions: pd.DataFrame
    by_symbol: pd.DataFrame

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("weights", "contributions", "by_symbol"):
            object.__setattr__(self, name, _read_only(getattr(self, name)))

    @functools.cached_property
    def _trades(self) -> pd.DataFrame:
        table = _trade_table(self.booked[:, : len(BOOKED)], self.equity.index)
        table.insert(0, "symbol", self.weights.columns[self.booked[:, len(BOOKED)].astype(int)].astype("str"))
        return table

    def _body(self) -> dict[str, Any]:
        frames = {name: getattr(self, name).to_dict("list") for name in ("weights", "contributions", "by_symbol")}
        return {**super()._body(), **frames}

    @classmethod
    def _fields(cls, body: dict[str, Any]) -> dict[str, Any]:
        fields = super()._fields(body)
        index, symbols = fields["index"], list(body["weights"])
        places = [symbols.index(symbol) for symbol in body["trades"]["symbol"]]
        by_bar = {name: pd.DataFrame(body[name], index=index, dtype=float) for name in ("weights", "contributions")}
        by_symbol = pd.DataFrame(body["by_symbol"], index=pd.Index(symbols, name="symbol"))
        booked = np.column_stack([fields["booked"], np.array(places, dtype=float)])
        return {**fields, **by_bar, "booked": booked, "by_symbol": by_symbol}


def _read_only(frame: pd.DataFrame) -> pd.DataFrame:
    """The same frame on arrays that cannot be written."""
    if frame.dtypes.nunique() > 1:  # one block a kind
        return pd.concat([_read_only(frame[[name]]) for name in frame], axis=1)
    values = frame.to_numpy(copy=True)
    values.flags.writeable = False
    return pd.DataFrame(values, index=frame.index, columns=frame.columns, copy=False)


def _trade_table(booked: np.ndarray, index: pd.Index) -> pd.DataFrame:
    """What is booked, with times and reasons."""
    entry_bar, exit_bar = booked[:, 0].astype(np.int64), booked[:, 1].astype(np.int64)
    units, entry_price, exit_price, fees, pnl, reasons = booked.T[2:]
    return pd.DataFrame(
        {
            "entry_time": index[entry_bar],
            "exit_time": index[exit_bar],
            "entry_bar": entry_bar,
            "exit_bar": exit_bar,
            "units": units,
            "entry_price": entry_price,
            "exit_price": exit_price,
            "fees": fees,
            "pnl": pnl,
            "trade_return": pnl / np.abs(units * entry_price),
            "bars_held": exit_bar - entry_bar,
            "exit_reason": pd.array([EXIT_REASONS[int(reason)] for reason in reasons], dtype="str"),
        }
    )


def _sparkline(equity: np.ndarray, benchmark: np.ndarray, width: int = 600, height: int = 90) -> str:
    """Equity (blue) over the benchmark (grey) as a small inline picture."""
    low = min(equity.min(), benchmark.min())
    span = max(equity.max(), benchmark.max()) - low or 1.0

    def line(values: np.ndarray, style: str) -> str:
        at = np.unique(np.linspace(0, values.size - 1, min(values.size, 300)).astype(int))
        x, y = at / max(values.size - 1, 1) * width, height - (values[at] - low) / span * (height - 4) - 2
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        return f"<polyline points='{points}' fill='none' {style}/>"

    return (
        f"<svg viewBox='0 0 {width} {height}' width='{width}' height='{height}' style='max-width:100%' role='img' "
        "aria-label='equity in blue, benchmark in grey'>"
        + line(benchmark, "stroke='#8a8f98'")
        + line(equity, "stroke='#1f6feb' stroke-width='1.8'")
        + "</svg>"
    )


def _iso(times: Any) -> list[str]:
    return [time.isoformat() for time in pd.DatetimeIndex(times)]


def _times(texts: list[str], zone: str | None) -> pd.DatetimeIndex:
    index = pd.DatetimeIndex(pd.to_datetime(texts, format="ISO8601", utc=zone is not None)).as_unit("ns")
    return index.tz_convert(zone) if zone else index


def _nan_as_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_as_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_nan_as_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse(value: Any) -> Any:
    raise ParameterError(f"{shown(value)} ({type(value).__name__}) cannot be written as JSON")
