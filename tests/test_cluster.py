"""A sweep on a Dask cluster of two worker processes is the sweep of this process."""

import pandas as pd
import pytest
from distributed import Client, LocalCluster

from backgrid.grid import run_grid

GRID = {"fast_window": [3, 5, 8, 13], "slow_window": [8, 20, 40]}


def momentum_of_two(prices, *, fast_window=5, slow_window=20):
    """Plain pandas: called once a combination, and sent to the workers as it is."""
    close = prices["Close"]
    return ((close > close.shift(fast_window)) & (close > close.shift(slow_window))).astype(float)


@pytest.fixture(scope="module")
def executor():
    """Two workers of one thread each, without a page to look at."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()


@pytest.mark.filterwarnings("ignore")  # of the cluster's own start and end
@pytest.mark.parametrize("strategy", ["ma_crossover", momentum_of_two])
def test_cluster_gives_what_this_process_gives(aapl, executor, strategy):
    here = run_grid(aapl, strategy, GRID, fees=0.001)
    there = run_grid(aapl, strategy, GRID, fees=0.001, executor=executor)
    pd.testing.assert_frame_equal(there.metrics, here.metrics, check_exact=True)
    assert (there.n_trials, there.n_refused) == (here.n_trials, here.n_refused)
