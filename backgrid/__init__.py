"""Backgrid: backtests you can believe, from prices to a reproducible HTML report."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backgrid.batch import BatchResult as BatchResult
    from backgrid.batch import run_batch as run_batch
    from backgrid.bootstrap import bootstrap_ci as bootstrap_ci
    from backgrid.bootstrap import optimal_block_length as optimal_block_length
    from backgrid.data import fetch_ohlcv as fetch_ohlcv
    from backgrid.engine import calculate_returns as calculate_returns
    from backgrid.engine import run_backtest as run_backtest
    from backgrid.errors import BackgridError as BackgridError
    from backgrid.errors import DataFetchError as DataFetchError
    from backgrid.errors import LookaheadError as LookaheadError
    from backgrid.errors import ParameterError as ParameterError
    from backgrid.errors import PricesError as PricesError
    from backgrid.errors import ReportError as ReportError
    from backgrid.grid import GridResult as GridResult
    from backgrid.grid import run_grid as run_grid
    from backgrid.ledger import count_trials as count_trials
    from backgrid.ledger import read_ledger as read_ledger
    from backgrid.lookahead import LookaheadReport as LookaheadReport
    from backgrid.lookahead import check_lookahead as check_lookahead
    from backgrid.metrics import calculate_max_drawdown as calculate_max_drawdown
    from backgrid.metrics import calculate_sharpe_ratio as calculate_sharpe_ratio
    from backgrid.metrics import calculate_total_return as calculate_total_return
    from backgrid.models import BacktestRequest as BacktestRequest
    from backgrid.models import BacktestResponse as BacktestResponse
    from backgrid.models import JobStatus as JobStatus
    from backgrid.models import StrategyType as StrategyType
    from backgrid.overfit import adjust_pvalues as adjust_pvalues
    from backgrid.overfit import deflated_sharpe_ratio as deflated_sharpe_ratio
    from backgrid.overfit import effective_trials as effective_trials
    from backgrid.overfit import expected_maximum_sharpe as expected_maximum_sharpe
    from backgrid.overfit import minimum_backtest_length as minimum_backtest_length
    from backgrid.overfit import minimum_track_record_length as minimum_track_record_length
    from backgrid.overfit import probabilistic_sharpe_ratio as probabilistic_sharpe_ratio
    from backgrid.overfit import probability_of_backtest_overfitting as probability_of_backtest_overfitting
    from backgrid.overfit import reality_check as reality_check
    from backgrid.portfolio import run_portfolio as run_portfolio
    from backgrid.report import Report as Report
    from backgrid.report import run_report as run_report
    from backgrid.reproduce import Differences as Differences
    from backgrid.reproduce import Rerun as Rerun
    from backgrid.reproduce import diff_reports as diff_reports
    from backgrid.reproduce import rerun_report as rerun_report
    from backgrid.result import BacktestResult as BacktestResult
    from backgrid.result import PortfolioResult as PortfolioResult
    from backgrid.run import run_request as run_request
    from backgrid.sliders import Explorer as Explorer
    from backgrid.sliders import explore as explore
    from backgrid.space import sample_grid as sample_grid
    from backgrid.strategies import calculate_ma_crossover_signals as calculate_ma_crossover_signals
    from backgrid.strategies import register_strategy as register_strategy
    from backgrid.strategies import select_params as select_params
    from backgrid.walkforward import WalkForwardResult as WalkForwardResult
    from backgrid.walkforward import combinatorial_cross_validation as combinatorial_cross_validation
    from backgrid.walkforward import walk_forward as walk_forward

__version__ = "0.1.0"

_HOMES = {
    "batch": ("BatchResult", "run_batch"),
    "bootstrap": ("bootstrap_ci", "optimal_block_length"),
    "data": ("fetch_ohlcv",),
    "engine": ("calculate_returns", "run_backtest"),
    "errors": ("BackgridError", "DataFetchError", "LookaheadError", "ParameterError", "PricesError", "ReportError"),
    "grid": ("GridResult", "run_grid"),
    "ledger": ("count_trials", "read_ledger"),
    "lookahead": ("LookaheadReport", "check_lookahead"),
    "metrics": ("calculate_max_drawdown", "calculate_sharpe_ratio", "calculate_total_return"),
    "models": ("BacktestRequest", "BacktestResponse", "JobStatus", "StrategyType"),
    "overfit": (
        *("adjust_pvalues", "deflated_sharpe_ratio", "effective_trials", "expected_maximum_sharpe"),
        *("minimum_backtest_length", "minimum_track_record_length", "probabilistic_sharpe_ratio"),
        *("probability_of_backtest_overfitting", "reality_check"),
    ),
    "portfolio": ("run_portfolio",),
    "report": ("Report", "run_report"),
    "reproduce": ("Differences", "Rerun", "diff_reports", "rerun_report"),
    "result": ("BacktestResult", "PortfolioResult"),
    "run": ("run_request",),
    "sliders": ("Explorer", "explore"),
    "space": ("sample_grid",),
    "strategies": ("calculate_ma_crossover_signals", "register_strategy", "select_params"),
    "walkforward": ("WalkForwardResult", "combinatorial_cross_validation", "walk_forward"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `import backgrid` itself costs nothing (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'backgrid' has no attribute {name!r}")
    module = importlib.import_module(f"backgrid.{_HOME[name]}")
    globals().update({public: getattr(module, public) for public in _HOMES[_HOME[name]]})
    return globals()[name]


def __dir__() -> list[str]:
    """The public names, and nothing that merely was imported: this is what the tab key offers."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
