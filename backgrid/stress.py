"""How a result holds up on other terms: the same signals a bar later, filled elsewhere, at other costs."""

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pandas as pd

from backgrid.errors import ParameterError

FILLED = {
    "next_close": "filled at the next close",
    "close": "filled at the close",
    "next_open": "filled at the next open",
}
COSTS = {"fees": True, "slippage": True, "fixed_fee": False, "borrow_rate": False}  # whether it must stay below 1
TERMS = ("fees", "slippage", "fixed_fee")
SHOWN = ("total_return", "cagr", "sharpe", "max_drawdown", "n_trades")
BREAK_EVEN = "break-even cost"
LARGEST = math.nextafter(1.0, 0.0)  # fees and slippage are below 1
FIRST_TRIED = 1e-4  # where the search for a cost that eats the gain begins
NEAR, SHARE = 1e-9, 1e-6  # how near the break-even cost is found: this, and this share of it
ROUNDING = 1e-12  # a total return no larger is none


class Run(Protocol):
    """What is needed of a result."""

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def metrics(self) -> Mapping[str, float]: ...

    @property
    def again(self) -> Callable[..., Any] | None: ...


def stress(result: Run) -> pd.DataFrame:
    """A result beside the same signals on other terms, each simulated anew, all else as it was run.

    Parameters
    ----------
    result : BacktestResult, or anything with its `settings`, `metrics` and `again`

    Returns
    -------
    DataFrame
        Index `case`:

        - "as run"
        - "one bar later": every signal is acted upon one bar later
        - "filled at the next close", "filled at the close", "filled at the next open": the two that were not used; the
          open only where the prices have one
        - "twice the costs": fees, slippage, fixed_fee and borrow_rate doubled, the first two kept below 1
        - "without costs": the same four at 0; interest on the account stays
        - "break-even cost": the `fees` at which it no longer gains, with no slippage and no fixed_fee, borrow_rate as
          it was run

        Columns fill; delay [bars, beyond the run's own]; fees, slippage [fraction, one-way]; fixed_fee [currency];
        total_return, cagr, sharpe, max_drawdown, n_trades as in `backgrid.metrics`.

    Raises
    ------
    ParameterError
        For a result read from JSON, which has no signals to run again.

    Notes
    -----
    The break-even cost is searched between a cost at which the run gains and one at which it does not: 0.01 % doubled
    until the gain is gone, then halving, down to 1e-9 and a millionth of the cost. The row shows the first cost found
    that leaves no gain (above 1e-12). Where units are fractional and kept, a higher cost always earns less and this is
    the only such cost; with whole units, stops, leverage or rebalancing there can be others.

    It is NaN, and the metrics of its row with it, where the run loses or gains nothing without trading costs (a run
    that never trades, for one), and where no cost below 1 takes the gain away (an open position that tripled).
    """
    again, settings = again_of(result), result.settings
    rows = {"as run": _row(result), "one bar later": _row(again(delay=1), delay=1)}
    for fill, case in FILLED.items():
        if fill != settings["fill"]:
            no_open = contextlib.suppress(ParameterError) if fill == "next_open" else contextlib.nullcontext()
            with no_open:  # closes alone have no open to be filled at
                rows[case] = _row(again(fill=fill))
    rows["twice the costs"] = _row(again(**twice_the_costs(settings)))
    rows["without costs"] = _row(again(**{name: 0.0 for name in COSTS if name in settings}))
    even = _break_even(again)
    none = dict.fromkeys(("fees", *SHOWN), math.nan)
    rows[BREAK_EVEN] = {**rows["without costs"], "fill": settings["fill"], **none} if even is None else _row(even)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("case")
    return table.astype({"delay": "int64", "n_trades": "Int64"})


def twice_the_costs(settings: Mapping[str, Any]) -> dict[str, float]:
    """Every cost of a run doubled, those that are shares of a price kept below 1."""
    return {
        name: min(2.0 * settings[name], LARGEST) if below_1 else 2.0 * settings[name]
        for name, below_1 in COSTS.items()
        if name in settings
    }


def again_of(result: Run) -> Callable[..., Any]:
    """The function that runs the signals of a result again, or ParameterError where it has none."""
    if result.again is None:
        raise ParameterError(
            "a result read from JSON has no signals to run on other terms: run the backtest, then stress"
        )
    return result.again


def _row(run: Run, delay: int = 0) -> dict[str, Any]:
    terms = {"fill": run.settings["fill"], "delay": delay, **{name: run.settings[name] for name in TERMS}}
    return {**terms, **{name: run.metrics[name] for name in SHOWN}}


def _break_even(again: Callable[..., Any]) -> Any:
    """The run at the lowest cost found that leaves no gain; None where there is none to take, or none that takes it."""

    def run_at(cost: float) -> Any:
        return again(fees=cost, slippage=0.0, fixed_fee=0.0)

    if not _gains(run_at(0.0)):
        return None
    low, high = 0.0, FIRST_TRIED
    while _gains(found := run_at(high)):
        if high == LARGEST:
            return None
        low, high = high, min(2.0 * high, LARGEST)
    while high - low > NEAR + SHARE * high:
        middle = (low + high) / 2.0
        tried = run_at(middle)
        if _gains(tried):
            low = middle
        else:
            high, found = middle, tried
    return found


def _gains(run: Run) -> bool:
    return run.metrics["total_return"] > ROUNDING
