"""From a rule to the bars on which its position changes, compiled: comparisons of lines as masks, 64 bars a word."""

from typing import NamedTuple

import numpy as np

from backgrid._kernels import compiled, inlined
from backgrid._words import (
    WORD,
    any_equal,
    count_ones,
    trailing_zeros,
    word_above,
    word_equal,
    word_highest,
    word_lowest,
)
from backgrid.lines import ABOVE, AND, CROSSED, LATCH, MINUS, NOT, OR

LAST = np.uint64(63)  # bit of a word
NO, YES, ONE = np.uint64(0), np.uint64(2**64 - 1), np.uint64(1)
BITS = ONE << np.arange(64, dtype=np.uint64)
STEP = 4  # changes that are written at once
ALIGNED = 64  # bytes that are read at once, twice if they do not begin at a multiple of so many


class Table(NamedTuple):
    """Lines below each other, and what spares reading all of them."""

    values: np.ndarray  # float64[n_lines, n_bars]
    rounded: np.ndarray  # float32[n_lines, 64 n_words]  NaN after the last bar; where two differ, so do their lines
    known: np.ndarray  # uint64[n_lines, n_words]  bars on which a line is not NaN
    ranges: np.ndarray  # float32[n_lines, n_words, 2]  lowest and highest in a word of bars, NaN where one is NaN


def table_of(lines):
    """Lines, float64[n_lines, n_bars], ready to be compared."""
    n_lines, n_words = len(lines), lines.shape[1] // WORD + 1
    rounded = _aligned_float32(n_lines * n_words * WORD).reshape(n_lines, -1)
    known, ranges = np.empty((n_lines, n_words), np.uint64), np.empty((n_lines, n_words, 2), np.float32)
    _look_at(lines, rounded, known, ranges)
    return Table(lines, rounded, known, ranges)


def _aligned_float32(n):
    """Room for so many numbers, from a multiple of ALIGNED bytes on."""
    room = np.empty(4 * n + ALIGNED, np.uint8)
    first = -room.ctypes.data % ALIGNED
    return room[first : first + 4 * n].view(np.float32)


@compiled
def _look_at(lines, rounded, known, ranges):
    """Fill what a Table has beside its lines."""
    n_bars = lines.shape[1]
    for k in range(lines.shape[0]):
        for t in range(n_bars):
            rounded[k, t] = lines[k, t]
        rounded[k, n_bars:] = np.nan
        for word in range(known.shape[1]):
            known[k, word] = word_equal(rounded[k], rounded[k], word * WORD)
            low = high = np.float32(np.nan)
            if known[k, word] == YES:
                low, high = word_lowest(rounded[k], word * WORD), word_highest(rounded[k], word * WORD)
            ranges[k, word, 0], ranges[k, word, 1] = low, high


@inlined
def compare(lines, left, right, above):
    """Fill `above`, uint64[n_words], with the mask of the bars on which one line of a Table is higher than another.

    Words of bars in which their ranges do not overlap are not read; and they themselves, only where they may be equal.
    """
    low, high, a, b = lines.ranges[left], lines.ranges[right], lines.rounded[left], lines.rounded[right]
    for word in range(above.size):
        if low[word, 0] > high[word, 1]:
            above[word] = YES
        elif low[word, 1] < high[word, 0]:
            above[word] = NO
        else:
            found = word_above(a, b, word * WORD)
            if any_equal(a, b, word * WORD):
                found = _above(lines.values[left], lines.values[right], word)
            above[word] = found


@inlined
def _above(left, right, word):
    """A word of the mask of the bars on which left > right, read bar by bar."""
    found = NO
    for t in range(word * WORD, min((word + 1) * WORD, left.size)):
        found |= BITS[t % WORD] if left[t] > right[t] else NO
    return found


@inlined
def evaluate(program, rows, lines, stack):
    """Masks of the bars on which the position of one combination is 1, is -1 and is known, at the bottom of `stack`.

    program  int64[n_steps, 2]  what to do with the masks on top of the stack (lines.ABOVE ...); for ABOVE the column
                                of `rows` that says which line is on the left, the one on the right being the next
    rows     int64[n_columns]   lines of this combination
    lines    Table
    stack    uint64[depth, 3, n_words]
    """
    top = -1
    for step in range(program.shape[0]):
        does, column = program[step]
        if does == ABOVE:
            top += 1
            a, b = rows[column], rows[column + 1]
            compare(lines, a, b, stack[top, 0])
            for w in range(stack.shape[2]):
                stack[top, 1, w], stack[top, 2, w] = NO, lines.known[a, w] & lines.known[b, w]
        elif does == CROSSED:
            _cross(stack[top])
        elif does == NOT:
            for w in range(stack.shape[2]):
                stack[top, 0, w] = ~stack[top, 0, w] & stack[top, 2, w]
        else:
            top -= 1
            if does == LATCH:
                _latch(stack[top], stack[top + 1])
            else:
                _combine(does, stack[top], stack[top + 1])


@inlined
def any_known(program, rows, lines, stack):
    """`evaluate`, and whether the position is known on any bar."""
    evaluate(program, rows, lines, stack)
    found = NO
    for w in range(stack.shape[2]):
        found |= stack[0, 2, w]
    return found != NO


@inlined
def _cross(signal):
    """From the bars above to those on which that began, both this bar and the one before being known."""
    carry = carry_known = NO
    for w in range(signal.shape[1]):
        above, known = signal[0, w], signal[2, w]
        signal[2, w] = known & ((known << ONE) | carry_known)
        signal[0, w] = above & ~((above << ONE) | carry) & signal[2, w]
        carry, carry_known = above >> LAST, known >> LAST


@inlined
def _combine(does, left, right):
    """What AND, OR, MINUS and FILL make of two signals, in place of the left one."""
    for w in range(left.shape[1]):
        up, down, known = left[0, w], left[1, w], left[2, w]
        both = known & right[2, w]
        if does == AND:
            up, down = up & right[0, w], (down | right[1, w]) & both
        elif does == OR:
            up, down = (up | right[0, w]) & both, down & right[1, w]
        elif does == MINUS:
            up, down = up & ~right[0, w] & both, right[0, w] & ~up & both
        else:
            up, down, both = up | (right[0, w] & ~known), down | (right[1, w] & ~known), known | right[2, w]
        left[0, w], left[1, w], left[2, w] = up, down, both


@inlined
def _latch(entries, exits):
    """1 from an entry until an exit, known since both have been known, in place of the entries; the exit wins a bar."""
    held = entries_seen = exits_seen = False
    for w in range(entries.shape[1]):
        entered, left = entries[0, w] & ~exits[0, w], exits[0, w]
        since = YES if entries_seen else _from_first(entries[2, w])
        since &= YES if exits_seen else _from_first(exits[2, w])
        entries_seen |= entries[2, w] != NO
        exits_seen |= exits[2, w] != NO
        inside, events = YES if held else NO, entered | left
        while events != NO:
            bit = events & (~events + ONE)
            inside = inside | ~(bit - ONE) if bit & entered else inside & (bit - ONE)
            events ^= bit
        held = inside >> LAST != NO
        entries[0, w], entries[1, w], entries[2, w] = inside & since, NO, since


@inlined
def _from_first(mask):
    """All bars of a word from its first one in the mask on."""
    return ~((mask & (~mask + ONE)) - ONE) if mask != NO else NO


@inlined
def changes_of(signal, n_bars, bars):
    """Bars on which the position changes.

    signal  uint64[3, n_words]  bars on which the position is 1, is -1, is known
    bars    int64[n_bars + 1 + STEP], filled from the start; what is behind them is overwritten

    Returns how many there are, and whether the position is -1 on any bar.
    """
    n = 0
    carry_up = carry_down = short = NO
    for w in range(signal.shape[1]):
        up, down = signal[0, w], signal[1, w]
        turned = (up ^ ((up << ONE) | carry_up)) | (down ^ ((down << ONE) | carry_down))
        carry_up, carry_down, short = up >> LAST, down >> LAST, short | down
        k, n = n, n + count_ones(turned)
        while True:  # STEP at a time, since how many there are cannot be foretold
            for i in range(STEP):
                bars[k + i] = w * WORD + np.int64(trailing_zeros(turned))
                turned &= turned - ONE
            k += STEP
            if turned == NO:
                break
    while n > 0 and bars[n - 1] >= n_bars:  # beyond the last bar of the last word
        n -= 1
    return n, short != NO


@inlined
def positions_on(signal, bars, n, positions):
    """Fill the positions, int64[n_bars + 1], on the first n of these bars."""
    for k in range(n):
        word, bit = bars[k] // WORD, BITS[bars[k] % WORD]
        positions[k] = np.int64(signal[0, word] & bit != NO) - np.int64(signal[1, word] & bit != NO)
