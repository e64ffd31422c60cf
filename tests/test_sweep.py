"""The table of stretches tells what its plain twin tells."""

import itertools

import numpy as np
import plain
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backgrid import _sweep

SEEDS = st.integers(0, 2**32)


def looked_up(table, low, high):
    """The record of the blocks low..high, from at most two entries of the table."""
    level = (low ^ high).bit_length()
    a, b = table[level, low], table[level, high if high > low else -1]
    fall = min(a[_sweep.FALL], b[_sweep.FALL], b[_sweep.LOW] / a[_sweep.HIGH] - 1.0)
    sums = a[_sweep.R :] + b[_sweep.R :]
    return [max(a[_sweep.HIGH], b[_sweep.HIGH]), min(a[_sweep.LOW], b[_sweep.LOW]), fall, *sums]


@given(SEEDS, st.integers(1, 70), st.integers(0, 3), st.sampled_from([0.0, 0.001]))
def test_two_entries_of_the_table_tell_any_stretch_of_blocks(seed, n_bars, shift, cash_return):
    close = np.random.default_rng(seed).integers(1, 20, n_bars).astype(float)
    table, block = _sweep.stretches(close, cash_return, shift, False), 1 << shift
    short = _sweep.stretches(close, cash_return, shift, True)
    assert np.array_equal(short, table[:, :, : _sweep.R2 + 1])
    for low, high in itertools.combinations_with_replacement(range(n_bars // block), 2):
        expected = plain.stretch(close.tolist(), low * block, (high + 1) * block - 1, cash_return)
        np.testing.assert_allclose(looked_up(table, low, high), list(expected.values()), rtol=1e-12, atol=1e-14)


def test_a_stretch_by_hand():
    """100 -> 120 -> 90 -> 99: returns 0.2, -0.25, 0.1; the deepest fall is 90 / 120 - 1."""
    record = looked_up(_sweep.stretches(np.array([100.0, 120.0, 90.0, 99.0]), 0.0, 0, False), 0, 3)
    assert record == pytest.approx([120.0, 90.0, -0.25, 0.05, 0.1125, -0.006625, 0.00560625, 0.0625])


def test_a_spike_costs_the_stretches_beside_it_nothing():
    """Sums are of a stretch's own bars: nothing that was added is taken off again."""
    close = np.array([100.0, 101.0, 100.0, 1e12, 100.0, 101.0, 100.0, 101.0])
    record = looked_up(_sweep.stretches(close, 0.0, 0, False), 5, 7)
    assert record == pytest.approx(list(plain.stretch(close.tolist(), 5, 7, 0.0).values()), rel=1e-14)


def test_deals_by_hand():
    """Fees of a tenth: a unit at 100 costs 110, and brings 90. What is held to the end is valued at the last close."""
    account = _sweep.Account(1, 1e5, 0.1, 0.0, 0.0, 252.0)
    deals = _sweep.deals_of(np.array([100.0, 100.0, 60.0]), np.array([110.0, 121.0, 66.0]), account)
    assert deals[:, _sweep.PAID] == pytest.approx([110.0, 110.0, 66.0, 0.0])
    assert deals[:, _sweep.BOUGHT] == pytest.approx([0.0, 0.1, 0.0, 0.0])
    assert deals[:, _sweep.GOT] == pytest.approx([90.0, 90.0, 54.0, 66.0])
    assert deals[:, _sweep.SOLD] == pytest.approx([90 / 110 - 1, 90 / 110 - 1, 54 / 121 - 1, 0.0])
