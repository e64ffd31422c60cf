"""What compiled code does with 64 bars at a time, in a few instructions; as Python the same functions are plain."""

import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.cpython.unsafe import numbers
from numba.extending import intrinsic, overload

WORD = 64  # bars in a word of a mask


def word_above(left, right, bar):
    """The word of the 64 bars from `bar` on in which one line is higher than another."""
    return _word(left[bar : bar + WORD] > right[bar : bar + WORD])


def word_equal(left, right, bar):
    """The word of the 64 bars from `bar` on in which two lines are equal."""
    return _word(left[bar : bar + WORD] == right[bar : bar + WORD])


def any_equal(left, right, bar):
    """Whether two lines are equal on any of the 64 bars from `bar` on."""
    return np.any(left[bar : bar + WORD] == right[bar : bar + WORD])


def word_lowest(line, bar):
    """The lowest value on the 64 bars from `bar` on, none of which is NaN."""
    return line[bar : bar + WORD].min()


def word_highest(line, bar):
    """The highest value on the 64 bars from `bar` on, none of which is NaN."""
    return line[bar : bar + WORD].max()


def leading_zeros(number):
    """Zeros before the first bit that is set, of 64."""
    return WORD - int(number).bit_length()


def trailing_zeros(word):
    """Zeros after the last bit that is set, of 64."""
    return np.uint64((int(word) & -int(word)).bit_length() - 1 if word else WORD)


def count_ones(word):
    """Bits that are set."""
    return int(word).bit_count()


def _word(flags):
    """So many truth values as bits."""
    return np.packbits(flags, bitorder="little").view("<u8")[0]


# ---- compiled --------------------------------------------------------------------------------------------------------


def _load(context, builder, kind, line, bar):
    """A vector of the values of a line on the 64 bars from `bar` on."""
    values = ir.VectorType(context.get_data_type(kind.dtype), WORD)
    first = builder.gep(context.make_array(kind)(context, builder, line).data, [bar])
    return builder.load(builder.bitcast(first, values.as_pointer()), align=kind.dtype.bitwidth // 8)


def _compare(plain, sign):
    """Have compiled code compare two lines for a function: of so many truth values LLVM makes a word."""

    @intrinsic
    def compared(_, left, right, bar):
        def generate(context, builder, _, given):
            sides = (_load(context, builder, left, line, given[2]) for line in given[:2])
            return builder.bitcast(builder.fcmp_ordered(sign, *sides), ir.IntType(WORD))

        return types.uint64(left, right, types.intp), generate

    overload(plain)(lambda left, right, bar: lambda left, right, bar: compared(left, right, bar))  # type: ignore[call-arg]


@intrinsic
def _any_equal(_, left, right, bar):
    """A quarter of the bars at a time: nobody needs the word."""

    def generate(context, builder, _, given):
        sides = (_load(context, builder, left, line, given[2]) for line in given[:2])
        flags, kind = builder.fcmp_ordered("==", *sides), ir.IntType(WORD // 4)
        quarters = [_part(builder, flags, range(start, start + WORD // 4)) for start in range(0, WORD, WORD // 4)]
        found = functools.reduce(builder.or_, quarters)
        return builder.icmp_unsigned("!=", builder.bitcast(found, kind), kind(0))

    return types.boolean(left, right, types.intp), generate


@intrinsic
def _count_ones(_, word):
    return types.int64(word), lambda context, builder, _, given: builder.ctpop(*given)


def _choose(plain, sign):
    """Have compiled code choose one of 64 values for a function: the one half or the other, six times."""

    @intrinsic
    def chosen(_, line, bar):
        def generate(context, builder, _, given):
            values = _load(context, builder, line, *given)
            for n in (32, 16, 8, 4, 2, 1):
                halves = [_part(builder, values, range(start, start + n)) for start in (0, n)]
                values = builder.select(builder.fcmp_ordered(sign, *halves), *halves)
            return builder.extract_element(values, ir.Constant(ir.IntType(32), 0))

        return line.dtype(line, types.intp), generate

    overload(plain)(lambda line, bar: lambda line, bar: chosen(line, bar))  # type: ignore[call-arg]


def _part(builder, values, places):
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places))
    return builder.shuffle_vector(values, values, mask)


_compare(word_above, ">")
_compare(word_equal, "==")
overload(any_equal)(lambda left, right, bar: lambda left, right, bar: _any_equal(left, right, bar))  # type: ignore[call-arg]
_choose(word_lowest, "<")
_choose(word_highest, ">")
overload(leading_zeros)(lambda number: lambda number: numbers.leading_zeros(number))  # type: ignore[call-arg]
overload(trailing_zeros)(lambda word: lambda word: numbers.trailing_zeros(word))  # type: ignore[call-arg]
overload(count_ones)(lambda word: lambda word: _count_ones(word))  # type: ignore[call-arg]
