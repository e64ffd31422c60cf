"""Masks of bars are what their plain twins are: of comparisons, of rules, of changes of position."""

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backgrid import _masks
from backgrid.indicators import above, crossed_above, latch
from backgrid.lines import ABOVE, AND, CROSSED, FILL, LATCH, MINUS, NOT, OR

NAN = float("nan")
LENGTHS = st.integers(1, 200) | st.sampled_from([63, 64, 65, 127, 128, 129, 192])
SEEDS = st.integers(0, 2**32)


def masks(n_lines, n_bars):
    return np.zeros((n_lines, n_bars // 64 + 1), np.uint64)


def flags_of(words, n_bars):
    """Bits of a mask by bar."""
    return np.unpackbits(words.view(np.uint8), bitorder="little")[:n_bars].astype(bool)


def words_of(flags):
    """The mask of these bars."""
    words = masks(1, len(flags))[0]
    for bar in np.flatnonzero(flags):
        words[bar // 64] |= np.uint64(1) << np.uint64(bar % 64)
    return words


def holed_lines(seed, n_lines, n_bars):
    """Lines of a few whole numbers, so that they meet, each with a warm-up; some with gaps, some far from the rest."""
    rng = np.random.default_rng(seed)
    lines = rng.integers(0, rng.integers(2, 6), (n_lines, n_bars)).astype(float)
    lines += rng.choice([0.0, 0.0, 100.0, -100.0], (n_lines, 1))
    lines[rng.random((n_lines, n_bars)) < rng.choice([0.0, 0.0, 0.02, 0.3], (n_lines, 1))] = NAN
    for line in lines:
        line[: rng.integers(0, n_bars + 1) if rng.random() < 0.5 else 0] = NAN
    return lines


# ---- masks -----------------------------------------------------------------------------------------------------------


@given(SEEDS, LENGTHS)
def test_a_bar_is_known_where_its_line_is_a_number(seed, n_bars):
    lines = holed_lines(seed, 3, n_bars)
    for line, words in zip(lines, _masks.table_of(lines).known, strict=True):
        padded = flags_of(words, words.size * 64)
        assert np.array_equal(padded[:n_bars], ~np.isnan(line)) and not padded[n_bars:].any()


@given(SEEDS, LENGTHS)
def test_ranges_hold_each_whole_word_and_know_nothing_of_one_with_a_gap(seed, n_bars):
    lines = holed_lines(seed, 3, n_bars)
    for line, found in zip(lines, _masks.table_of(lines).ranges, strict=True):
        np.testing.assert_array_equal(found, plain.word_ranges(line.tolist()))


def compared(table):
    """Bars on which the first line is above the second, in whole words; what stood in the mask goes."""
    found = masks(1, table.values.shape[1])[0] - np.uint64(1)
    _masks.compare(table, 0, 1, found)
    return flags_of(found, found.size * 64)


def hold_to_each_bar(lines):
    found, n_bars = compared(_masks.table_of(lines)), lines.shape[1]
    assert found[:n_bars].tolist() == [a > b for a, b in lines.T]
    assert not found[n_bars:].any()


@given(SEEDS, LENGTHS)
def test_compare_is_above_where_the_left_is_larger_and_nowhere_else(seed, n_bars):
    hold_to_each_bar(holed_lines(seed, 2, n_bars))


APART = [0.0, 1e-300, 1e-45, 1e-30, 1e-9, 1.0, 16777217.0, 3.4028235e38, 1e39, 1e300, np.inf]  # last digits, tiny, huge


@given(SEEDS, LENGTHS)
def test_lines_that_only_64_bits_tell_apart_are_told_apart(seed, n_bars):
    rng = np.random.default_rng(seed)
    lines = np.tile(rng.choice(APART, n_bars) * rng.choice([1.0, -1.0], n_bars), (2, 1))
    beside = np.nextafter(lines, rng.choice([-np.inf, np.inf], lines.shape))
    hold_to_each_bar(np.where(rng.random(lines.shape) < 0.5, lines, beside))


@pytest.mark.parametrize(("apart", "expected"), [(10.0, True), (-10.0, False)])
def test_words_whose_ranges_do_not_overlap_are_not_read(apart, expected):
    table = _masks.table_of(np.array([np.arange(128.0) % 3 + apart, np.arange(128.0) % 3]))
    turned = table._replace(values=-table.values, rounded=-table.rounded)  # other values, old ranges
    assert (compared(turned)[:128] == expected).all()


def test_lines_that_touch_are_not_above_each_other():
    assert not compared(_masks.table_of(np.ones((2, 64)))).any()


def test_what_is_read_at_once_begins_where_a_line_of_the_cache_does():
    assert {_masks.table_of(np.ones((2, n))).rounded.ctypes.data % 64 for n in range(1, 400)} == {0}


# ---- rules -----------------------------------------------------------------------------------------------------------

N_LINES = 4
OF_SERIES = {
    AND: lambda a, b: a & b,
    OR: lambda a, b: a | b,
    MINUS: lambda a, b: a - b,
    LATCH: latch,
    FILL: lambda a, b: a.fillna(b),
}
places = st.integers(0, N_LINES - 1)
COMPARISONS = st.tuples(st.sampled_from([ABOVE, CROSSED]), places, places)


def combined(children):
    return st.tuples(st.just(NOT), children) | st.tuples(st.sampled_from(list(OF_SERIES)), children, children)


def is_signed(rule):
    """Whether it may be short."""
    if rule[0] == MINUS:
        return True
    return rule[0] in (AND, OR, FILL) and any(map(is_signed, rule[1:]))


def is_position(rule):
    """Whether it stays in -1, 0, 1: only what is not short is turned round or taken off."""
    if rule[0] in (ABOVE, CROSSED):
        return True
    return all(map(is_position, rule[1:])) and not (rule[0] in (NOT, MINUS) and any(map(is_signed, rule[1:])))


RULES = st.recursive(COMPARISONS, combined, max_leaves=7).filter(is_position)


def signal_of(rule, lines):
    """The rule on Series, by the functions that a strategy calls."""
    does, *parts = rule
    if does in (ABOVE, CROSSED):
        return {ABOVE: above, CROSSED: crossed_above}[does](*(lines[place] for place in parts))
    signals = [signal_of(part, lines) for part in parts]
    return ~signals[0] if does == NOT else OF_SERIES[does](*signals)


def program_of(rule):
    """Steps of the rule on a stack, and the line in each of its columns."""
    steps, columns = [], []

    def add(rule):
        does, *parts = rule
        if does in (ABOVE, CROSSED):
            steps.append((ABOVE, len(columns)))
            columns.extend(parts)
            steps.extend([(CROSSED, 0)] * (does == CROSSED))
        else:
            for part in parts:
                add(part)
            steps.append((does, 0))

    add(rule)
    return np.array(steps), np.array(columns)


def evaluated(rule, lines):
    """Masks of the bars on which the rule is 1, is -1, is known; what lay on the stack before does not matter."""
    program, rows = program_of(rule)
    depth = int((program[:, 0] == ABOVE).sum())
    stack = np.full((depth, 3, lines.shape[1] // 64 + 1), 0x5A5A5A5A5A5A5A5A, np.uint64)
    _masks.evaluate(program, rows, _masks.table_of(lines), stack)
    return stack[0]


@given(RULES, SEEDS, LENGTHS)
def test_a_rule_is_the_signal_that_the_same_functions_make_of_series(rule, seed, n_bars):
    lines = holed_lines(seed, N_LINES, n_bars)
    index = pd.bdate_range("2023-01-02", periods=n_bars)
    signal = signal_of(rule, [pd.Series(line, index=index) for line in lines]).to_numpy()
    up, down, known = (flags_of(words, n_bars) for words in evaluated(rule, lines))
    assert np.array_equal(known, ~np.isnan(signal))
    assert np.array_equal(up, signal == 1.0) and np.array_equal(down, signal == -1.0)


@given(RULES, SEEDS, LENGTHS)
def test_a_rule_turns_at_most_once_beyond_the_last_bar(rule, seed, n_bars):
    """The buffers of a sweep have room for no more."""
    signal = evaluated(rule, holed_lines(seed, N_LINES, n_bars))
    room = n_bars + 1 + _masks.STEP
    bars = np.full(room + 80, -7)
    n, _ = _masks.changes_of(signal, n_bars, bars)
    assert n <= n_bars and (bars[room:] == -7).all()


def test_a_latch_holds_from_an_entry_to_an_exit_across_words():
    """Entered on bar 10, left on bar 140, entered on bar 150 for good; exits are known from bar 5 on."""
    entries, exits = np.zeros(200), np.zeros(200)
    entries[[10, 20, 140, 150]], exits[[140, 141]], exits[:5] = 1.0, 1.0, NAN
    lines = np.array([entries, exits, np.full(200, 0.5)])
    up, _, known = (flags_of(words, 200) for words in evaluated((LATCH, (ABOVE, 0, 2), (ABOVE, 1, 2)), lines))
    assert np.flatnonzero(up).tolist() == [*range(10, 140), *range(150, 200)]
    assert np.flatnonzero(~known).tolist() == [0, 1, 2, 3, 4]


# ---- changes ---------------------------------------------------------------------------------------------------------


def changes_in(positions, n_bars=None):
    """What the kernel finds in the masks of these positions."""
    n_bars = len(positions) if n_bars is None else n_bars
    signal = np.array([words_of(positions == 1), words_of(positions == -1), words_of(positions == positions)])
    bars, turned = np.empty(len(positions) + 1 + _masks.STEP, np.int64), np.empty(len(positions) + 1, np.int64)
    n, short = _masks.changes_of(signal, n_bars, bars)
    _masks.positions_on(signal, bars, n, turned)
    assert short == (positions == -1).any()
    return list(zip(bars[:n].tolist(), turned[:n].tolist(), strict=True))


@given(SEEDS, LENGTHS)
def test_changes_are_found_where_the_position_is_another(seed, n_bars):
    rng = np.random.default_rng(seed)
    held = rng.integers(1, rng.choice([2, 9, 90]), n_bars, endpoint=True)
    positions = np.repeat(rng.integers(-1, 2, n_bars), held)[:n_bars]
    assert changes_in(positions) == plain.changes_of(positions.tolist())


@pytest.mark.parametrize("side", [1, -1])
def test_a_single_bar_is_found_wherever_it_lies(side):
    for bar in range(130):
        assert changes_in(np.where(np.arange(131) == bar, side, 0)) == [(bar, side), (bar + 1, 0)]


def test_what_lies_beyond_the_last_bar_is_no_change():
    positions = np.array([0, 1, 1, 0, 1, 0, -1])
    assert changes_in(positions, n_bars=3) == [(1, 1)]
    assert changes_in(positions, n_bars=4) == [(1, 1), (3, 0)]
