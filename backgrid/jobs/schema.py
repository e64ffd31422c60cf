"""What goes in and out by the HTTP door, as its OpenAPI document tells it."""

import datetime as dt
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from backgrid.bars import SYMBOL, SYMBOL_LENGTH
from backgrid.models import BacktestRequest, BacktestResponse, JobStatus, StrategyType

SOURCE = re.compile("yahoo|sample|snapshot:[0-9a-f]{64}")  # a path would let a client read files of the service
EXAMPLE = {"symbol": "AAPL", "strategy": "ma_crossover", "start": "2020-01-01", "source": "sample"}
EXAMPLES: dict[str, Any] = {
    "crossover": {"summary": "Moving averages, with their usual windows", "value": EXAMPLE},
    "report": {
        "summary": "Windows and costs of one's own, and the HTML report",
        "value": {
            **EXAMPLE,
            "end": "2024-12-30",
            "params": {"fast_window": 10, "slow_window": 40},
            "fees": 0.001,
            "report": True,
        },
    },
}
ANSWER: dict[str, Any] = {
    "job_id": "manual-2026-11-30-000001",
    "status": "completed",
    "symbol": "AAPL",
    "strategy": "ma_crossover",
    "sharpe": 0.75,
    "max_drawdown": -0.25,
    "total_return": 0.5,
    "metrics": {"total_return": 0.5, "sharpe": 0.75, "n_trades": 2},
    "equity_curve": [100000.0, 125000.0, 150000.0],
    "runtime_seconds": 0.012,
    "created_at": "2026-11-30T09:00:00Z",
    "started_at": "2026-11-30T09:00:00.010000Z",
    "finished_at": "2026-11-30T09:00:00.030000Z",
    "request": EXAMPLE,
    "report_url": "/api/v1/jobs/manual-2026-11-30-000001/report",
}


TICKER: dict[str, Any] = {"maxLength": SYMBOL_LENGTH, "pattern": f"^{SYMBOL.pattern.replace('A-Z', 'A-Za-z')}$"}


def _describe_text(schema: dict[str, Any]) -> None:
    """Say in the OpenAPI document what functions check, not types: of symbols, sources and dates."""
    schema["properties"]["symbol"].update(TICKER)
    source = {"type": "string", "pattern": f"^({SOURCE.pattern})$"}
    schema["properties"]["source"].update(anyOf=[source, {"type": "null"}], description="yahoo, sample, snapshot:HASH.")
    for name in ("start", "end"):
        schema["properties"][name]["anyOf"].append({"type": "string", "maxLength": 0})  # a day not chosen in a form


class JobRequest(BacktestRequest):
    """One backtest to run, and whether its report is wanted."""

    model_config = ConfigDict(json_schema_extra=_describe_text)

    report: bool = Field(False, description="Also make the HTML report.")


class JobAnswer(BacktestResponse):
    """A job with what came of it so far."""

    model_config = ConfigDict(json_schema_extra={"examples": [ANSWER]})

    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    request: dict[str, Any] = Field(description="What was asked, with every default written out.")
    report_url: str | None = Field(description="Path of the HTML report, if there is one.")


class JobLine(BaseModel):
    """A job without its numbers."""

    job_id: str
    status: JobStatus
    symbol: str
    strategy: StrategyType
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    error: str | None


class JobList(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[JobLine]
    next: str | None = Field(description="Give it as `before` for the next page; null on the last.")


class JobState(BaseModel):
    """Where a job stands."""

    job_id: str
    status: JobStatus
    error: str | None


class Health(BaseModel):
    """Whether the service works."""

    status: Literal["ok"]
    version: str
