"""A sweep: every cell is `run_backtest`, and no winner stands without the number of trials."""

import numpy as np
import pytest

from backgrid.engine import run_backtest
from backgrid.grid import run_grid

PAIRS = {"fast_window": [3, 5, 8, 13], "slow_window": [8, 20, 40]}


def hold_to_single_runs(result, prices, strategy, **settings):
    """Every cell of the sweep against `run_backtest` with its parameters."""
    for place, (_, row) in enumerate(result.metrics.iterrows()):
        single = run_backtest(prices, strategy, params=result.params(place), **settings).metrics
        expected = [single[name] for name in result.metrics.columns]
        np.testing.assert_allclose(row.to_numpy(dtype=float), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fill", ["next_open", "close", "next_close"])
def test_every_cell_is_a_single_run(aapl, fill):
    settings = {"fees": 0.001, "slippage": 0.0005, "fill": fill}
    result = run_grid(aapl, "ma_crossover", PAIRS, **settings)
    assert (result.n_trials, result.n_refused) == (10, 2)
    hold_to_single_runs(result, aapl, "ma_crossover", **settings)
