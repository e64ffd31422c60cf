"""Requests in, responses out: every door (notebook, command, HTTP) builds the one and answers with the other."""

import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from backgrid.bars import INTERVALS, check_date, check_range, check_symbol
from backgrid.errors import ParameterError, did_you_mean, shown
from backgrid.terms import CALENDAR, SIZINGS, check_rebalance, check_sizing

ParameterName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$", max_length=40)]
ParameterValue = bool | int | float | Annotated[str, Field(max_length=200)]
TRADED = {"symbol", "strategy", "params", "start", "end", "interval", "source", "adjusted"}  # the rest are terms
Date = Annotated[dt.date | None, BeforeValidator(lambda value, info: check_date(value, info.field_name))]
Rebalance = Annotated[
    Literal[CALENDAR] | Annotated[float, Field(gt=0.0, lt=1.0)] | None,  # type: ignore[valid-type]
    BeforeValidator(lambda value: check_rebalance(value, "fraction")),  # one error for the union; the schema has both
]


class StrategyType(enum.StrEnum):
    """Strategies that a request can name."""

    MA_CROSSOVER = "ma_crossover"
    EMA_CROSSOVER = "ema_crossover"
    MACD = "macd"
    RSI_REVERSION = "rsi_reversion"
    BOLLINGER_REVERSION = "bollinger_reversion"
    DONCHIAN_BREAKOUT = "donchian_breakout"
    MOMENTUM = "momentum"
    BUY_AND_HOLD = "buy_and_hold"


class JobStatus(enum.StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BacktestRequest(BaseModel):
    """One backtest to run: what `fetch_ohlcv` and `run_backtest` take, each field bounded, unknown ones refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True)

    symbol: Annotated[str, BeforeValidator(check_symbol)] = Field(description="Ticker, upper-cased.")
    strategy: StrategyType = Field(StrategyType.MA_CROSSOVER, strict=False, description="A registered name.")
    params: dict[ParameterName, ParameterValue] = Field(
        default_factory=dict, max_length=40, description="Parameters of the strategy; its defaults for the rest."
    )
    start: Date = Field(default=None, description="First session, inclusive; none for the first there is.")
    end: Date = Field(default=None, description="Last session, inclusive; none for the last there is.")
    interval: Literal[INTERVALS] = Field("1d", description="Length of a bar.")  # type: ignore[valid-type]
    source: str | None = Field(default=None, max_length=1000, description="yahoo, sample, snapshot:HASH, or a path.")
    adjusted: bool = Field(True, description="Scale prices for dividends.")
    fill: Literal["next_open", "close", "next_close"] = Field("next_open", description="Where a signal trades.")
    fees: float = Field(0.0, ge=0.0, lt=1.0, description="One-way. [fraction of traded value]")
    slippage: float = Field(0.0, ge=0.0, lt=1.0, description="One-way. [fraction of price]")
    fixed_fee: float = Field(0.0, ge=0.0, le=1e9, description="For each fill. [currency]")
    cash: float = Field(100_000.0, gt=0.0, le=1e15, description="Account at the first bar. [currency]")
    whole_units: bool = Field(False, description="Round units towards zero.")
    stop_loss: float | None = Field(
        default=None, gt=0.0, lt=1.0, description="Distance from the entry price. [fraction of price]"
    )
    take_profit: float | None = Field(
        default=None, gt=0.0, le=1e6, description="Distance from the entry price. [fraction of price]"
    )
    trailing_stop: float | None = Field(
        default=None, gt=0.0, lt=1.0, description="Distance from the best price since entry. [fraction of price]"
    )
    sizing: Literal[tuple(SIZINGS)] = Field("fraction", description="What size means.")  # type: ignore[valid-type]
    size: float | None = Field(
        default=None,
        gt=0.0,
        le=1e15,
        description="Of a target of 1. [by sizing: fraction of equity; units; currency; volatility a year; "
        "fraction of equity at risk, below 1]",
    )
    lookback: int = Field(60, ge=2, le=1_000_000, description="Returns that sizing='volatility' looks at. [bars]")
    leverage: float = Field(1.0, gt=0.0, le=1000.0, description="Largest position at a fill. [fraction of equity]")
    rebalance: Rebalance = Field(
        default=None, description="When an open position is sized anew: a rhythm, or a drift of its weight. [fraction]"
    )
    cash_rate: float = Field(0.0, gt=-1.0, le=10.0, description="Interest on the account. [fraction per year]")
    borrow_rate: float = Field(0.0, ge=0.0, le=100.0, description="Cost of units sold short. [fraction per year]")
    risk_free: float = Field(0.0, gt=-1.0, le=10.0, description="Return of cash. [fraction per year]")
    periods_per_year: float | None = Field(
        default=None, gt=0.0, le=1e7, description="From the bars if none. [bars per year]"
    )

    @model_validator(mode="after")
    def _start_before_end(self) -> Self:
        check_range(self.start, self.end)
        return self

    @model_validator(mode="after")
    def _sizes_are_known(self) -> Self:
        check_sizing(self.sizing, self.size, self.stop_loss, self.trailing_stop)
        check_rebalance(self.rebalance, self.sizing)
        return self

    def terms(self) -> dict[str, Any]:
        """On what terms it trades: the fields that `run_backtest` takes under the same name."""
        return self.model_dump(exclude=TRADED)


def build_request(**fields: Any) -> BacktestRequest:
    """A request, or one ParameterError that names the first field that is wrong."""
    try:
        return BacktestRequest(**fields)
    except ValidationError as error:
        raise describe_errors(error.errors()) from None


def describe_errors(errors: Sequence[Mapping[str, Any]], model: type[BaseModel] = BacktestRequest) -> ParameterError:
    """What pydantic found, as the error that names the first: a field that is unknown before one that is wrong."""
    first = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    if isinstance(cause := first.get("ctx", {}).get("error"), ParameterError):
        return cause
    where, given = ".".join(str(part) for part in first["loc"]) or "request", first.get("input")
    if first["type"] == "extra_forbidden":
        return ParameterError(f"a request has no field {shown(where)}{did_you_mean(where[:40], model.model_fields)}")
    if where == "strategy" and isinstance(given, str):
        hint = did_you_mean(given[:40], [known.value for known in StrategyType])
        return ParameterError(f"unknown strategy {shown(given)}{hint}")
    if first["loc"][:1] == ("params",) and first["loc"][2:] not in ((), ("[key]",)):  # one member of the union
        value = "true, false, a finite number or a text of 200 characters at most"
        return ParameterError(f"params.{first['loc'][1]} must be {value}, got {shown(given)}")
    return ParameterError(f"{where}: {first['msg']}, got {shown(given)}")


class BacktestResponse(BaseModel):
    """The answer to a request: job_id, status, symbol and strategy, and the numbers; undefined ones are null."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    job_id: str = Field(min_length=1, max_length=100)
    status: JobStatus
    symbol: str
    strategy: StrategyType
    sharpe: float | None = Field(default=None, description="Annualised. [ratio]")
    max_drawdown: float | None = Field(default=None, le=0.0, ge=-1.0, description="[fraction, <= 0]")
    total_return: float | None = Field(default=None, ge=-1.0, description="[fraction]")
    metrics: dict[str, float | int | None] = Field(
        default_factory=dict, description="Every metric by name.", repr=False
    )
    equity_curve: list[float] = Field(
        default_factory=list, description="Account value at each close. [currency]", repr=False
    )
    runtime_seconds: float = Field(0.0, ge=0.0, description="[s]", repr=False)
    error: str | None = Field(default=None, description="What went wrong, if it failed.")
