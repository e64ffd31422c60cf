"""Which combinations are tried: a grid, a list or a sample; and an expression is read, never run."""

import ast
import itertools
import math
import operator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backgrid.errors import ParameterError
from backgrid.space import OPERATORS, read_space, read_where, sample_grid

PAIRS = {"fast": [2, 3, 5], "slow": [3, 5]}


def points_of(space):
    """All combinations by name, in order."""
    return [space.params(code) for code in space.codes(np.arange(space.size))]


# ---- grids -----------------------------------------------------------------------------------------------------------


def test_a_dict_of_lists_is_every_combination_the_last_name_fastest():
    space = read_space(PAIRS)
    assert space.size == 6
    assert points_of(space) == [{"fast": f, "slow": s} for f in (2, 3, 5) for s in (3, 5)]


def test_a_list_of_dicts_is_these_combinations_in_their_order():
    grid = [{"fast": 5, "slow": 9}, {"slow": 7, "fast": 2}, {"fast": 5, "slow": 7}]
    assert points_of(read_space(grid)) == [{"fast": 5, "slow": 9}, {"fast": 2, "slow": 7}, {"fast": 5, "slow": 7}]


def test_the_same_combination_twice_is_tried_once():
    assert points_of(read_space([{"a": 2}, {"a": 1}, {"a": 2}, {"a": np.int64(2)}])) == [{"a": 2}, {"a": 1}]


@given(st.lists(st.fixed_dictionaries({"a": st.integers(0, 3), "b": st.sampled_from("xyz")}), min_size=1, max_size=30))
def test_a_list_keeps_the_first_of_each(grid):
    assert points_of(read_space(grid)) == list({(point["a"], point["b"]): point for point in grid}.values())


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(), min_size=1, max_size=5, unique=True)))
def test_a_dict_is_the_product_of_its_lists(grid):
    expected = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    assert points_of(read_space(grid)) == expected


@pytest.mark.parametrize("grid", [{}, [{}], [{}, {}]], ids=str)
def test_no_parameters_are_one_combination(grid):
    space = read_space(grid)
    assert (space.size, points_of(space)) == (1, [{}])


@pytest.mark.parametrize(
    "values",
    [[2, 3], (2, 3), range(2, 4), np.array([2, 3]), pd.Series([2, 3]), pd.Index([2, 3]), iter([2, 3])],
    ids=type,
)
def test_any_line_of_values_will_do_and_they_become_plain(values):
    space = read_space({"a": values})
    assert points_of(space) == [{"a": 2}, {"a": 3}]
    assert {type(value) for value in space.values[0]} == {int}


@pytest.mark.parametrize("value", [3, 2.5, "sma", True, None, np.int64(3), np.float64(2.5), np.str_("sma")])
def test_one_value_need_not_stand_in_a_list(value):
    (point,) = points_of(read_space({"a": value}))
    assert point == {"a": value} and type(point["a"]) in (int, float, str, bool, type(None))


def test_numpy_values_of_dicts_become_plain():
    (point, *_) = points_of(read_space([{"a": np.int64(2), "b": np.bool_(True), "c": np.float64(0.5)}]))
    assert [type(value) for value in point.values()] == [int, bool, float]


def test_1_and_1_0_are_one_number_and_true_is_another_value():
    """Of a list of dicts the first is kept."""
    assert [type(point["a"]) for point in points_of(read_space({"a": [1, True, 2.5]}))] == [int, bool, float]
    assert [type(point["a"]) for point in points_of(read_space([{"a": 1}, {"a": 1.0}, {"a": True}]))] == [int, bool]
    assert points_of(read_space([{"a": 3}, {"a": 2}, {"a": 3.0}])) == [{"a": 3}, {"a": 2}]


@pytest.mark.parametrize(
    "values",
    [
        np.array(["2023-01-02", "2023-01-03"], dtype="datetime64[ns]"),
        np.array(["2023-01-02", "2023-01-03"], dtype="datetime64[D]"),
        pd.DatetimeIndex(["2023-01-02", "2023-01-03"]),
        [pd.Timestamp("2023-01-02"), pd.Timestamp("2023-01-03")],
    ],
    ids=["nanoseconds", "days", "index", "list"],
)
def test_dates_stay_dates(values):
    """A datetime64 in nanoseconds is a whole number to NumPy's `item`."""
    space = read_space({"since": values})
    assert space.values == ([pd.Timestamp("2023-01-02"), pd.Timestamp("2023-01-03")],)
    assert {type(value) for value in space.values[0]} == {pd.Timestamp}
    assert read_space([{"since": value} for value in values]).values == space.values


def test_spans_of_time_stay_spans():
    assert read_space({"for": np.array([90], dtype="timedelta64[s]")}).values == ([pd.Timedelta(minutes=1.5)],)


NO_GRIDS = {
    "text": ("fast", "a grid is a dict of lists, or a list of dicts; got 'fast'"),
    "None": (None, "a grid is a dict of lists, or a list of dicts; got None"),
    "a number": (3, "a grid is a dict of lists, or a list of dicts; got 3"),
    "numbers": ([1, 2], "a grid is a dict of lists, or a list of dicts"),
    "a frame": (pd.DataFrame({"a": [1]}), "a grid is a dict of lists, or a list of dicts"),
    "nothing": ([], "the grid is empty: give at least one combination"),
    "no value": ({"a": [1], "b": []}, "the grid has no value of b"),
    "no value of NumPy": ({"b": np.array([])}, "the grid has no value of b"),
    "twice": ({"a": [1, 2, 1]}, "the grid has a value of a twice"),
    "twice in NumPy": ({"a": [1, np.int64(1)]}, "the grid has a value of a twice"),
    "an equal number": ({"a": [95, 95.0]}, "the grid has a value of a twice: [95, 95.0]"),
    "a date twice": (
        {"a": [pd.Timestamp("2023-01-02"), np.datetime64("2023-01-02")]},
        "the grid has a value of a twice",
    ),
    "lists": ({"a": [[1], [2]]}, "the values of a must be numbers, text or truth values"),
    "an array of no dimensions": ({"a": np.array(3)}, "the values of a must be numbers, text or truth values"),
    "a table": ({"a": np.ones((2, 2))}, "the values of a must be numbers, text or truth values"),
    "months": ({"a": np.array([1, 2], "m8[M]")}, "the values of a must be numbers, text or truth values"),
    "a dict": ({"a": [{}]}, "the values of a must be numbers, text or truth values"),
    "a name that is none": ({3: [1]}, "a grid names parameters by text, got 3"),
    "names that are none": ([{None: 1}], "a grid names parameters by text, got None"),
    "other names": ([{"a": 1}, {"b": 1}], "number 0 has a, number 1 has b"),
    "one more name": ([{"a": 1}, {"a": 1}, {"a": 1, "b": 1}], "number 0 has a, number 2 has a, b"),
}


@pytest.mark.parametrize(("grid", "message"), NO_GRIDS.values(), ids=NO_GRIDS)
def test_what_is_no_grid_says_why(grid, message):
    with pytest.raises(ParameterError) as error:
        read_space(grid)
    assert message in str(error.value)


# ---- where -----------------------------------------------------------------------------------------------------------


def chosen(where, grid=PAIRS):
    """Combinations that are kept."""
    space = read_space(grid)
    kept = read_where(where, space)(np.arange(space.size))
    assert kept.dtype == bool and kept.shape == (space.size,)
    return [tuple(point.values()) for point, keep in zip(points_of(space), kept, strict=True) if keep]


KEPT = {
    "fast < slow": [(2, 3), (2, 5), (3, 5)],
    "fast<slow": [(2, 3), (2, 5), (3, 5)],
    "  fast < slow  ": [(2, 3), (2, 5), (3, 5)],
    "fast == slow": [(3, 3), (5, 5)],
    "not fast < slow": [(3, 3), (5, 3), (5, 5)],
    "fast != slow and fast > 2": [(3, 5), (5, 3)],
    "fast == 2 or slow == 5 and fast == 3": [(2, 3), (2, 5), (3, 5)],
    "(fast == 2 or slow == 5) and fast == 3": [(3, 5)],
    "2 < fast < slow": [(3, 5)],
    "2 <= fast <= slow <= 3": [(2, 3), (3, 3)],
    "slow - fast == 2": [(3, 5)],
    "slow / fast >= 1.5": [(2, 3), (2, 5), (3, 5)],
    "slow // fast == 1 and slow % fast == 0": [(3, 3), (5, 5)],
    "-fast + 1 > -slow": [(2, 3), (2, 5), (3, 3), (3, 5), (5, 5)],
    "+fast * 2 == 2 * (slow + 1) - 4": [(2, 3)],
    "slow > fast + 0.5 * fast": [(2, 5), (3, 5)],
    "fast < 1e400": [(2, 3), (2, 5), (3, 3), (3, 5), (5, 3), (5, 5)],
    "fast < 1" + "0" * 400: [(2, 3), (2, 5), (3, 3), (3, 5), (5, 3), (5, 5)],
    "fast < 0x3  # a remark": [(2, 3), (2, 5)],
    "fast * 10000000000000000000000 > 1": [(2, 3), (2, 5), (3, 3), (3, 5), (5, 3), (5, 5)],
    "fast * 4611686018427387904 > 0": [(2, 3), (2, 5), (3, 3), (3, 5), (5, 3), (5, 5)],
    "1 < 2 < fast": [(3, 3), (3, 5), (5, 3), (5, 5)],
    "True and fast < slow": [(2, 3), (2, 5), (3, 5)],
    "2 > 1 and fast < slow": [(2, 3), (2, 5), (3, 5)],
    "2 < 1 or fast < slow": [(2, 3), (2, 5), (3, 5)],
    "True": [(2, 3), (2, 5), (3, 3), (3, 5), (5, 3), (5, 5)],
    "1 > 2": [],
}


@pytest.mark.parametrize(("where", "expected"), KEPT.items(), ids=[text[:30] for text in KEPT])
def test_an_expression_keeps_what_it_says(where, expected):
    assert chosen(where) == expected


NAMES = st.sampled_from(["fast", "slow"])
TERMS = st.recursive(
    NAMES | st.integers(0, 6).map(str),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda parts: f"({' '.join(parts)})"),
    max_leaves=4,
)
TESTS = st.recursive(
    st.tuples(NAMES, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), TERMS).map(" ".join),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})")
        | inner.map(lambda part: f"(not {part})")
    ),
    max_leaves=4,
)


@given(TESTS)
def test_an_expression_is_what_python_makes_of_it(where):
    expected = [
        (fast, slow) for fast in PAIRS["fast"] for slow in PAIRS["slow"] if eval(where, {"fast": fast, "slow": slow})
    ]
    assert chosen(where) == expected


def test_text_and_truth_values_are_compared_as_such():
    grid = {"how": ["sma", "ema"], "flip": [True, False], "window": [3, 5]}
    assert chosen("how == 'sma' and flip == True and window < 5", grid) == [("sma", True, 3)]
    assert chosen("not flip and how != 'sma'", grid) == [("ema", False, 3), ("ema", False, 5)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("a * b * c * d > 0", True),
        ("a * b * c * d > 1000000000000000000000000000000", False),
        ("a * b * c * d == a * a * a * a", True),
        ("a * b * c * d // (a * b * c) == d", True),
        ("(a * b * c * d) % 7 == 1", True),
        ("(a + b) * (c + d) * (a - b - c) * 2 < 0", True),
        ("-a * b * c * d < 0", True),
        ("a * b * c + 9223372036854775807 > 0", True),
        ("9223372036854775807 + d > d", True),
        ("-9223372036854775807 - d - d < 0", True),
        ("2 * 4611686018427387904 > 0", True),
        ("9223372036854775808 > d", True),
        ("18446744073709551615 - 18446744073709551614 == 1", True),
    ],
)
def test_whole_numbers_do_not_run_over(where, expected):
    """1,000,000 ** 4 is 10 ** 24, above the 9.2e18 of 64 bits."""
    assert eval(where, dict.fromkeys("abcd", 1_000_000)) is expected
    assert bool(chosen(where, {name: [1_000_000] for name in "abcd"})) is expected


FACTORS = st.recursive(
    st.sampled_from(["fast", "slow"]) | st.integers(0, 2**66).map(str),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda parts: f"({' '.join(parts)})"),
    max_leaves=8,
)


@given(FACTORS, st.sampled_from(["<", "<=", "==", "!="]), FACTORS, st.lists(st.integers(-(2**65), 2**65), min_size=1))
def test_large_numbers_are_what_python_makes_of_them(left, compare, right, values):
    grid, where = {"fast": sorted(set(values)), "slow": [3, 2**31, 2**62]}, f"{left} {compare} {right}"
    expected = [
        (fast, slow) for fast in grid["fast"] for slow in grid["slow"] if eval(where, {"fast": fast, "slow": slow})
    ]
    assert chosen(where, grid) == expected


MIXED = {"x": [1, "a", None, 2.5, True]}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("x == 1", [1, True]),
        ("x != 1", ["a", None, 2.5]),
        ("x == 'a'", ["a"]),
        ("x == 2.5 or x == 'a'", ["a", 2.5]),
        ("not x == 'a'", [1, None, 2.5, True]),
    ],
)
def test_values_of_several_kinds_are_compared_one_by_one(where, expected):
    """As in Python, where True is 1."""
    assert chosen(where, MIXED) == [(value,) for value in expected]


@pytest.mark.parametrize("where", ["x < 2", "x + 1 == 2", "-x == 1", "x * 4000000000 == 'b'"])
def test_what_several_kinds_cannot_be_asked_is_told(where):
    with pytest.raises(ParameterError, match="where .*(not supported between|arithmetic is for numbers)"):
        chosen(where, MIXED)


def test_whole_and_real_values_are_compared_exactly():
    """2 ** 53 + 1 is no float."""
    assert chosen("x == 9007199254740993", {"x": [2**53, 2**53 + 1, 0.5]}) == [(2**53 + 1,)]


def test_truth_values_count_as_in_python():
    assert chosen("(fast < slow) + (fast == 2) == 2") == [(2, 3), (2, 5)]
    assert chosen("flip + flip == 2", {"flip": [True, False]}) == [(True,)]


DATES = [pd.Timestamp("2023-01-02"), pd.Timestamp("2023-06-01")]


@pytest.mark.parametrize("zone", [None, "America/New_York"])
def test_dates_are_compared_with_each_other_and_with_text(zone):
    dates = [date.tz_localize(zone) for date in DATES]
    grid = {"since": dates, "until": dates}
    assert chosen("since < until", grid) == [(dates[0], dates[1])]
    assert chosen("since == '2023-06-01' and '2023-01-02' <= until", grid) == [(dates[1], date) for date in dates]


@pytest.mark.parametrize("where", ["since < 'soon'", "since < 3", "since + 1 == 3"])
def test_what_dates_cannot_be_asked_is_told(where):
    with pytest.raises(ParameterError, match="where "):
        chosen(where, {"since": DATES})


def test_dates_of_several_zones_are_compared_as_they_are():
    dates = [DATES[0], DATES[1].tz_localize("UTC")]
    assert chosen("since == until", {"since": dates, "until": dates}) == [(date, date) for date in dates]


def test_a_function_gets_parameters_by_name_only():
    with pytest.raises(ParameterError, match="where: its function gets parameters by name, .*before a `/`"):
        chosen(lambda fast, /: True)


HOSTILE = {
    "a call": "__import__('os').system('touch pwned')",
    "exec": 'exec(\'open("pwned", "w")\')',
    "an attribute": "fast.__class__ == slow",
    "a deep attribute": "().__class__.__bases__[0].__subclasses__() == 1",
    "an index": "fast[0] == 1",
    "lambda": "(lambda: True)()",
    "a comprehension": "[x for x in (1,)] == 1",
    "a huge power": "fast < 9 ** 9 ** 9",
    "a shift": "fast < 1 << 10",
    "an f-string": "f'{fast}' == 'x'",
    "a choice": "fast if slow else fast",
    "a list": "[fast] == slow",
    "in": "fast in (2, 3)",
    "is": "fast is slow",
    "walrus": "(x := 3) == fast",
    "a star": "*fast, = slow",
    "await": "await fast",
    "yield": "(yield fast)",
    "None": "fast == None",
    "bytes": "fast == b'x'",
    "a complex number": "fast < 3j",
    "...": "fast == ...",
    "bits": "(fast < 3) & (slow > 3)",
    "matrices": "fast @ slow == 1",
    "~": "~(fast < 3)",
    "a statement": "import os",
    "two lines": "fast < 3\nslow < 3",
    "an assignment": "fast = 3",
    "nothing": "",
    "blanks": "   ",
    "half of one": "fast <",
    "NUL": "fast < 3\x00",
    "deep brackets": "(" * 5000 + "fast < 3" + ")" * 5000,
    "deep nots": "not " * 5000 + "fast < 3",
    "deep minus": "-" * 5000 + "fast < 3",
    "a long sum": "fast < " + "+".join(["1"] * 50_000),
    "a number": "1",
    "a parameter": "fast",
    "text": "'fast < slow'",
    "and of numbers": "fast and slow",
    "or of a number": "fast < 3 or 1",
    "text and numbers": "fast < 'a'",
    "text in a sum": "fast + 'a' == 3",
    "text as often": "'a' * 4000000000 == 'b'",
    "text of a width": "'%4000000000d' % 1 == 'b'",
    "a remainder of 0": "fast % 0 == 0",
    "a whole division by 0": "fast // 0 == 0",
    "a division by 0": "fast / 0 > 1",
    "a division by 0 alone": "1 / 0 > 1",
    "a division by a parameter": "1 / (fast - fast) > 1",
}


@pytest.mark.parametrize("where", HOSTILE.values(), ids=HOSTILE)
def test_whatever_else_stands_there_is_refused_and_never_run(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="where") as error:
        chosen(where)
    assert len(str(error.value)) < 700 and not list(tmp_path.iterdir())


def test_no_operator_can_grow_a_number_beyond_reason():
    assert not {ast.Pow, ast.LShift} & set(OPERATORS) and operator.pow not in OPERATORS.values()


def test_a_name_that_is_none_is_told_with_the_nearest():
    with pytest.raises(
        ParameterError, match="the grid has no parameter 'slwo'; did you mean 'slow'\\? known: fast, slow"
    ):
        chosen("fast < slwo")
    with pytest.raises(ParameterError, match="the grid has no parameter 'fsat'; did you mean 'fast'"):
        chosen(lambda fsat: True)


@pytest.mark.parametrize("where", [3, True, ["fast < slow"], b"fast < slow", {"fast": 3}], ids=str)
def test_where_is_text_or_a_function(where):
    with pytest.raises(ParameterError, match="where must be an expression or a function, got"):
        chosen(where)


def test_none_keeps_all():
    assert len(chosen(None)) == 6


def test_a_function_gets_the_parameters_that_it_names():
    assert chosen(lambda slow: slow > 3) == [(2, 5), (3, 5), (5, 5)]
    assert chosen(lambda fast, slow: fast < slow) == chosen("fast < slow")
    assert chosen(lambda *, slow, fast=0, other=7: other == 7 and fast < slow) == chosen("fast < slow")
    assert chosen(lambda **point: point == {"fast": 2, "slow": 5}) == [(2, 5)]
    assert chosen(lambda: False) == []


def test_a_function_gets_plain_values_and_may_answer_by_any_truth():
    seen = set()

    def where(fast):
        seen.add(type(fast))
        return np.int64(fast % 2)

    assert chosen(where, {"fast": np.array([2, 3])}) == [(3,)]
    assert seen == {int}


@pytest.mark.parametrize("where", [max, all, lambda *points: True], ids=["max", "all", "points"])
def test_a_function_that_names_no_parameter_of_the_grid_is_refused(where):
    with pytest.raises(ParameterError, match="where: "):
        chosen(where)


def test_of_a_list_of_dicts_an_expression_keeps_its_own():
    grid = [{"fast": 5, "slow": 3}, {"fast": 2, "slow": 3}, {"fast": 3, "slow": 9}]
    assert chosen("fast < slow", grid) == [(2, 3), (3, 9)]


def test_a_message_says_where_once():
    with pytest.raises(ParameterError) as error:
        chosen("fas < slow")
    assert str(error.value).count("where") == 1


@pytest.mark.parametrize("values", [iter([2, 3]), {2, 3}, {2: "a", 3: "b"}.keys(), (i for i in (2, 3))], ids=type)
def test_a_set_and_an_iterator_are_values_too(values):
    assert points_of(read_space({"a": values})) == [{"a": 2}, {"a": 3}]


# ---- samples ---------------------------------------------------------------------------------------------------------

RANGES = {"window": (5, 200), "level": (0.5, 2.5), "how": ["sma", "ema"]}
methods = pytest.mark.parametrize("method", ["quasi", "random"])


@methods
def test_the_same_seed_gives_the_same_sample_and_another_another(method):
    first, again, other = (sample_grid(RANGES, 50, method=method, seed=seed) for seed in (7, 7, 8))
    assert first == again and first != other


@methods
@given(
    st.integers(-50, 50),
    st.integers(0, 30),
    st.floats(-1e6, 1e6),
    st.floats(0.0, 1e6),
    st.integers(1, 60),
    st.integers(0, 99),
)
def test_samples_lie_within_their_ranges_and_have_their_types(method, low, more, least, width, n_points, seed):
    ranges = {"whole": (low, low + more), "real": (least, least + width), "one": [3, "x", None]}
    sample = sample_grid(ranges, n_points, method=method, seed=seed)
    assert 1 <= len(sample) <= n_points
    for point in sample:
        assert type(point["whole"]) is int and low <= point["whole"] <= low + more
        assert type(point["real"]) is float and least <= point["real"] <= least + width
        assert point["one"] in (3, "x", None)
    assert len({tuple(point.items()) for point in sample}) == len(sample)


@methods
def test_both_ends_of_whole_numbers_are_drawn_and_all_between_alike(method):
    """Of 6 values in 600 distinct points none is drawn less than 70 times."""
    sample = sample_grid({"a": (3, 8), "b": (0.0, 1.0)}, 600, method=method)
    counts = {value: sum(point["a"] == value for point in sample) for value in range(3, 9)}
    assert len(sample) == 600 and sum(counts.values()) == 600 and min(counts.values()) > 70


def test_quasi_random_points_leave_no_large_gap():
    """Of 100 points in [0, 1) no two neighbours are further apart than 3 / 100."""
    values = sorted(point["a"] for point in sample_grid({"a": (0.0, 1.0)}, 100))
    assert max(np.diff(values)) < 0.03
    assert max(np.diff(sorted(point["a"] for point in sample_grid({"a": (0.0, 1.0)}, 100, method="random")))) > 0.03


def test_quasi_random_points_fill_a_square():
    """Each of 10 x 10 fields has 2 to 8 of 500 points."""
    sample = sample_grid({"a": (0.0, 1.0), "b": (0.0, 1.0)}, 500)
    counts, *_ = np.histogram2d([p["a"] for p in sample], [p["b"] for p in sample], bins=10, range=[[0, 1], [0, 1]])
    assert counts.min() >= 2 and counts.max() <= 8


@methods
def test_what_is_drawn_twice_comes_once(method):
    sample = sample_grid({"a": (1, 2), "b": [True]}, 100, method=method)
    assert sorted(point["a"] for point in sample) == [1, 2]


@pytest.mark.parametrize("span", [(3, 3), [3], range(3, 4), np.array([3])], ids=str)
def test_a_range_of_one_value_is_that_value(span):
    (point,) = sample_grid({"a": span}, 5)
    assert point == {"a": 3} and type(point["a"]) is int


def test_a_whole_and_a_real_end_make_a_real_range():
    assert {type(point["a"]) for point in sample_grid({"a": (1, 2.0)}, 5)} == {float}


def test_a_sample_is_a_grid():
    space = read_space(sample_grid(RANGES, 20))
    assert space.size == 20 and space.names == ("window", "level", "how")


NO_RANGES = [
    (5,),
    (5, 2),
    (1, 2, 3),
    ("a", "b"),
    (math.nan, 1),
    (0, math.inf),
    (),
    [],
    5,
    "ab",
    None,
    {},
    {1: 2},
]


@pytest.mark.parametrize("span", NO_RANGES, ids=str)
def test_what_is_no_range_says_what_one_is(span):
    with pytest.raises(ParameterError, match="a: a range is \\(lowest, highest\\), or a list of values; got"):
        sample_grid({"a": span}, 5)


@pytest.mark.parametrize("ranges", [{}, None, [("a", (1, 2))], "a"], ids=str)
def test_ranges_are_a_dict(ranges):
    with pytest.raises(ParameterError, match="ranges must be a dict of parameter to range"):
        sample_grid(ranges, 5)


@pytest.mark.parametrize("n_points", [0, -1, 2.5, "5", True, None], ids=str)
def test_points_are_counted(n_points):
    with pytest.raises(ParameterError, match="n_points must be a whole number of at least 1"):
        sample_grid(RANGES, n_points)


@pytest.mark.parametrize("method", ["quasy", "", None, 3], ids=str)
def test_an_unknown_method_is_refused(method):
    with pytest.raises(ParameterError, match="unknown method .* known: quasi, random"):
        sample_grid(RANGES, 5, method=method)


@pytest.mark.parametrize("seed", [-1, "x", 2.5], ids=str)
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ParameterError, match="seed"):
        sample_grid(RANGES, 5, seed=seed)


@pytest.mark.parametrize("span", [(1, 10**400), (-1e308, 1e308)], ids=["400 digits", "beyond floats"])
def test_a_range_beyond_floats_is_refused(span):
    with pytest.raises(ParameterError, match="a: a range is"):
        sample_grid({"a": span}, 5)
