"""The compiled passes over a run give what plain NumPy gives, on any input, compiled or not."""

import math

import numpy as np
import plain
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backgrid import _sums

RNG = np.random.default_rng(0)

returns = st.lists(st.integers(-9000, 9000).map(lambda n: n / 10_000), max_size=40).map(np.array)
LINES = {
    "random": RNG.normal(0.0, 0.02, (2, 500)),
    "equal": np.full((2, 60), 0.001),
    "flat": np.zeros((2, 10)),
    "none": np.empty((2, 0)),
    "one": np.array([[0.1], [-0.2]]),
    "ruin": np.array([[0.1, -1.0, 0.0], [0.1, 0.2, -1.0]]),
    "many": np.full((2, 100_000), 0.02),  # their product has 860 digits
}


def hold(name, *arguments):
    """The compiled pass, the same uncompiled, and the twin agree."""
    compiled = getattr(_sums, name)(*arguments)
    plainly = getattr(_sums, name).py_func(*arguments)
    assert plainly == pytest.approx(compiled, rel=1e-15, nan_ok=True)  # logarithms may differ in the last bit
    expected = getattr(plain, name)(*arguments)
    for field, value in compiled._asdict().items():
        assert value == pytest.approx(expected[field], rel=1e-9, abs=1e-12, nan_ok=True), field


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:overflow:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("cash", [0.0, 0.0001])
@pytest.mark.parametrize("name", LINES)
def test_sums_over_bars(name, cash):
    hold("bar_sums", *LINES[name], cash)


@given(returns, st.integers(0, 2**32 - 1))
def test_sums_over_any_bars(ours, seed):
    if ours.size:
        hold("bar_sums", ours, np.random.default_rng(seed).permutation(ours), 0.0)


@given(returns)
def test_falls_of_any_account(changes):
    hold("drawdowns", np.cumprod(np.append(1.0, 1.0 + changes)))


@given(returns)
def test_sums_over_any_trades(pnl):
    hold("trade_sums", pnl, np.roll(pnl, 1), np.arange(pnl.size, dtype=float))


def test_a_hundred_thousand_bars_are_summed_to_the_thirteenth_digit():
    """A run and a sweep, which sums otherwise, are to be equal to the twelfth. Here all bars are rounded one way."""
    returns = np.tile([1e-3, -0.7e-3], 50_000)
    returns[0] = 0.5
    found, mean = _sums.bar_sums(returns, returns, 0.0), math.fsum(returns) / returns.size
    exact = [math.fsum((returns - mean) ** power) for power in (2, 3, 4)]
    assert [found.square, found.cube, found.fourth] == pytest.approx(exact, rel=1e-13, abs=0.0)
