"""What compiled code does with 64 bars at once is what the plain functions do."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import njit

from backgrid import _words

FLOATS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -0.0, 1.0, 2.0])
compiled_above = njit(lambda left, right, bar: _words.word_above(left, right, bar))
compiled_equal = njit(lambda left, right, bar: _words.word_equal(left, right, bar))
compiled_any_equal = njit(lambda left, right, bar: _words.any_equal(left, right, bar))
compiled_lowest = njit(lambda line, bar: _words.word_lowest(line, bar))
compiled_highest = njit(lambda line, bar: _words.word_highest(line, bar))
compiled_leading = njit(lambda number: _words.leading_zeros(number))
compiled_trailing = njit(lambda word: _words.trailing_zeros(word))
compiled_ones = njit(lambda word: _words.count_ones(word))


@given(arrays(np.float64, (2, 200), elements=FLOATS), st.integers(0, 136))
def test_words_of_comparisons(lines, bar):
    with np.errstate(over="ignore"):
        short = lines.astype(np.float32)
    for left, right in (lines, short):
        assert compiled_above(left, right, bar) == _words.word_above(left, right, bar)
        assert compiled_equal(left, right, bar) == _words.word_equal(left, right, bar)
        assert compiled_any_equal(left, right, bar) == _words.any_equal(left, right, bar)


@given(st.integers(0, 63), st.integers(0, 136))
def test_a_single_bar_on_which_lines_are_equal(place, bar):
    left, right = np.zeros(200, np.float32), np.ones(200, np.float32)
    assert not compiled_any_equal(left, right, bar)
    right[bar + place] = 0.0
    assert compiled_any_equal(left, right, bar) and _words.any_equal(left, right, bar)


@given(arrays(np.float64, 200, elements=st.floats(allow_nan=False)), st.integers(0, 136))
def test_extremes_of_a_word(line, bar):
    assert compiled_lowest(line, bar) == _words.word_lowest(line, bar) == min(line[bar : bar + 64])
    assert compiled_highest(line, bar) == _words.word_highest(line, bar) == max(line[bar : bar + 64])


@given(st.integers(0, 2**63 - 1))
def test_zeros_before_the_first_bit(number):
    assert compiled_leading(number) == _words.leading_zeros(number) == 64 - len(f"{number:b}") + (number == 0)


@given(st.integers(1, 2**64 - 1))
def test_zeros_after_the_last_bit(number):
    word = np.uint64(number)
    assert compiled_trailing(word) == _words.trailing_zeros(word) == len(f"{number:b}") - len(f"{number:b}".rstrip("0"))


@given(st.integers(0, 2**64 - 1))
def test_bits_that_are_set(number):
    word = np.uint64(number)
    assert compiled_ones(word) == _words.count_ones(word) == f"{number:b}".count("1")


def test_a_word_without_bits_is_all_zeros():
    nothing = np.uint64(0)
    assert compiled_trailing(nothing) == _words.trailing_zeros(nothing) == 64
