"""A fingerprint is the same for what does the same, in any process, and another for what may do something else."""

import contextlib
import functools
import os
import subprocess
import sys
import threading
import types
import weakref

import numpy as np
import pandas as pd
import plain
import pytest

from backgrid import fingerprint as module
from backgrid.engine import complete_given
from backgrid.errors import ParameterError
from backgrid.fingerprint import UntoldError, fingerprint
from backgrid.space import read_space
from backgrid.strategies import ma_crossover, momentum
from backgrid.trials import Job

BARS = plain.random_bars(1, 40)
GRID = {"window": [2, 3]}


def job_of(strategy=ma_crossover, grid=GRID, bars=BARS, **given):
    return Job(bars, BARS.shape[1], strategy, read_space(grid), complete_given(given), ("sharpe",), 10**9)


def told(strategy=ma_crossover, where=None, more=(), **given):
    return fingerprint(job_of(strategy, **given), "the prices", where, *more)


def read(source, name="strategy"):
    """What a source defines; its last function, as another process would read it."""
    names = {"__name__": "notebook"}
    exec(source, names)
    return names[name]


# ---- code ------------------------------------------------------------------------------------------------------------

SOURCE = """
import functools
import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

SCALE, TABLE, NAMES = 2.0, {"a": [1, 2], "b": np.arange(3)}, frozenset({"one", "two", "three"})

def helper(line, *, power=2):
    return line ** power

def apart(numbers):
    return [number / SCALE for number in numbers]

class Base:
    width = 3

    def rule(self, line):
        return line + 1

class Rule(Base):
    __slots__ = ("level", "other")
    kind = "up"

    def __init__(self, level):
        self.level = level

    @property
    def twice(self):
        return 2 * self.level

    @staticmethod
    def fixed():
        return 7

    @functools.cached_property
    def once(self):
        return 8

@dataclass(frozen=True)
class Terms:
    size: float = 0.5

class Side(Enum):
    LONG = 1

class Pair(NamedTuple):
    one: int = 1

@functools.lru_cache
def cached(window):
    return window + 11

RULE, TERMS = Rule(0.25), Terms()
PART = functools.partial(helper, power=3)
BOUND = RULE.rule

def recursive(n):
    return 1 if n < 1 else n * other(n - 1)

def other(n):
    return recursive(n) + 5

def strategy(prices, *, window=3):
    close = prices["Close"]
    first = [helper(w) * SCALE for w in (window, 2)]
    second = (lambda line: apart(line))(first)
    def inner():
        return TABLE, NAMES, math.sqrt(second[0])
    try:
        third = inner()
    except ValueError:
        third = RULE, TERMS, Side.LONG, Pair(), cached(window), PART, BOUND
    return close > close.shift(window), third, recursive(3), np.where
"""

EDITS = {
    "a number in the function": ("(window, 2)", "(window, 4)"),
    "its default": ("window=3):\n    close", "window=4):\n    close"),
    "what it catches": ("except ValueError", "except KeyError"),
    "a name that it looks up": ('prices["Close"]', 'prices["Open"]'),
    "an attribute": ("close.shift(window)", "close.diff(window)"),
    "a constant in a comprehension": ("SCALE, TABLE, NAMES = 2.0", "SCALE, TABLE, NAMES = 2.5"),
    "a function in a comprehension": ("return line ** power", "return line ** power + 1"),
    "the default of a function": ("power=2", "power=4"),
    "a function in a lambda": ("number / SCALE", "number * SCALE"),
    "a member of a list in a dict": ('"a": [1, 2]', '"a": [1, 3]'),
    "an array in a dict": ("np.arange(3)", "np.arange(3.0)"),
    "a member of a set": ('"three"})', '"four"})'),
    "the state of an object of slots": ("Rule(0.25)", "Rule(0.75)"),
    "a method": ("self.level = level", "self.level = level + 1"),
    "a method of a base": ("line + 1", "line + 2"),
    "an attribute of a class": ('kind = "up"', 'kind = "down"'),
    "an attribute of a base": ("width = 3", "width = 4"),
    "a property": ("2 * self.level", "3 * self.level"),
    "a static method": ("return 7", "return 9"),
    "a cached property": ("return 8", "return 9"),
    "the default of a dataclass": ("size: float = 0.5", "size: float = 0.6"),
    "a member of an enumeration": ("LONG = 1", "LONG = 2"),
    "the default of a named tuple": ("one: int = 1", "one: int = 2"),
    "a cached function": ("window + 11", "window + 12"),
    "a partial function": ("helper, power=3", "helper, power=5"),
    "a function that calls itself through another": ("recursive(n) + 5", "recursive(n) + 6"),
    "a function of NumPy": ("recursive(3), np.where", "recursive(3), np.argmax"),
    "a function of the library": ("math.sqrt", "math.cbrt"),
}


@pytest.mark.parametrize(("old", "new"), EDITS.values(), ids=EDITS)
def test_an_edit_of_what_a_function_uses_is_another_search(old, new):
    assert SOURCE.count(old) == 1
    assert told(read(SOURCE)) != told(read(SOURCE.replace(old, new)))


def test_the_same_source_read_again_is_the_same_search():
    assert told(read(SOURCE)) == told(read(SOURCE))


def test_what_a_function_does_not_use_does_not_matter():
    assert told(read(SOURCE)) == told(read("\n\nOTHER = 5\n" + SOURCE + "\nSCALES = 3.0\n"))
    assert told(read(SOURCE)) == told(read(SOURCE.replace("(window, 2)]", "(window, 2)]  # as in the paper")))


def test_a_global_that_is_called_as_an_attribute_does_not_matter():
    """A notebook in which `shift` is something, or is something else when it is run again."""
    assert told(read(SOURCE)) == told(read(SOURCE + "\nshift = 1\n")) == told(read(SOURCE + "\nshift = 2\n"))


def test_a_function_is_known_by_what_it_does_and_not_by_its_name():
    assert told(lambda prices, *, window=3: prices * 2) != told(lambda prices, *, window=3: prices * 3)
    one, same = (read(f"def {name}(prices, *, window=3): return prices") for name in ("strategy", "strategy"))
    other = read("def strategy(prices, *, window=3): return -prices")
    assert told(one) == told(same) != told(other)


def test_attributes_of_a_function_count():
    one, other = (read("def strategy(prices, *, window=3): return strategy.level") for _ in range(2))
    one.level, other.level = 1, 2
    assert told(one) != told(other)


class Slotted:
    __slots__ = ("level",)

    def __init__(self, level):
        self.level = level

    def __call__(self, prices, *, window=3):
        return prices["Close"] * self.level


class Open:
    def __init__(self, level):
        self.level = level

    def trade(self, prices, *, window=3):
        return prices["Close"] * self.level


def of_two(prices, level=1.0, *, window=3):
    return prices["Close"] * level


def closing_over(level):
    return lambda prices, *, window=3: prices["Close"] * level


@functools.cache
def compiled(level):
    numba = pytest.importorskip("numba")

    @numba.njit
    def kernel(line):
        return line * level

    return kernel


VALUES = {
    "an object of slots": Slotted,
    "a bound method": lambda level: Open(level).trade,
    "a partial function": lambda level: functools.partial(of_two, level=level),
    "a closure": closing_over,
    "an array": lambda level: closing_over(np.array([level, 1.0])),
    "an array of objects": lambda level: closing_over(np.array([level, "a"], dtype=object)),
    "an array of records": lambda level: closing_over(np.array([(1, level)], dtype=[("a", int), ("b", float)])),
    "a masked array": lambda level: closing_over(np.ma.array([1.0, 2.0], mask=[level > 1.2, False])),
    "a table": lambda level: closing_over(BARS * level),
    "labels of a table": lambda level: closing_over(BARS.set_axis(BARS.index + pd.Timedelta(days=10 * level))),
    "names of a table": lambda level: closing_over(BARS.rename(columns={"Close": str(level)})),
    "a table of texts": lambda level: closing_over(pd.DataFrame({"a": ["x", str(level)]})),
    "a column of objects": lambda level: closing_over(pd.Series([1, "a", level], dtype=object)),
    "categories": lambda level: closing_over(pd.Series(["x", str(level)], dtype="category")),
    "dates of a zone": lambda level: closing_over(pd.DatetimeIndex([pd.Timestamp(level, unit="h", tz="UTC")])),
    "levels": lambda level: closing_over(pd.MultiIndex.from_tuples([(1, level), (2, 2)])),
    "a date": lambda level: closing_over(pd.Timestamp("2023-01-02") + pd.Timedelta(days=level)),
    "a NumPy number": lambda level: closing_over(np.float32(level)),
    "a range": lambda level: closing_over(range(int(10 * level))),
    "random numbers": lambda level: closing_over(np.random.default_rng(int(10 * level))),
    "a compiled function": lambda level: closing_over(compiled(level)),
    "a read-only dict": lambda level: closing_over(types.MappingProxyType({"a": level})),
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_what_a_strategy_holds_tells_it_apart(make):
    assert told(make(1.1)) == told(make(1.1)) != told(make(1.3))


def test_a_name_that_has_no_value_yet_is_no_trouble():
    """Its cell is empty."""

    def waiting(level):
        def strategy(prices, *, window=3):
            return level * later

        if level is None:
            later = 1
        return strategy

    assert told(waiting(1.1)) == told(waiting(1.1)) != told(waiting(1.3))


def test_a_function_that_carries_another_is_more_than_that():
    one, other, inner = (read(f"def strategy(prices): return {factor} * prices") for factor in (1, 2, 3))
    one.py_func = other.py_func = inner  # as a function compiled by numba does
    assert told(one) != told(other)


def test_types_of_numbers_tell_apart():
    kinds = [1, 1.0, True, "1", b"1", (1,), [1], {1}, np.int64(1), np.float64(1.0), np.array(1), None]
    assert len({told(closing_over(kind)) for kind in kinds}) == len(kinds)


# ---- modules ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a package of the user's own, and gives a strategy that reads it anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "ownlib").mkdir()

    def make(strategy, constants="LEVEL = 1.0\n", rules="def rule(line):\n    return line\n"):
        (tmp_path / "ownlib" / "__init__.py").write_text(constants, encoding="utf-8")
        (tmp_path / "ownlib" / "rules.py").write_text(rules, encoding="utf-8")
        for name in ("ownlib", "ownlib.rules"):
            sys.modules.pop(name, None)
        module._version.cache_clear()
        return read(strategy)

    yield make
    for name in ("ownlib", "ownlib.rules"):
        sys.modules.pop(name, None)


USES = {
    "constant": "import ownlib\ndef strategy(prices, *, window=3): return ownlib.LEVEL * prices",
    "function": "import ownlib.rules\ndef strategy(prices, *, window=3): return ownlib.rules.rule(prices)",
    "function by name": "from ownlib.rules import rule\ndef strategy(prices, *, window=3): return rule(prices)",
    "imported inside": "def strategy(prices, *, window=3):\n    import ownlib.rules as r\n    return r.rule(prices)",
    "taken inside": "def strategy(prices, *, window=3):\n    from ownlib import LEVEL\n    return LEVEL * prices",
    "in a lambda": "import ownlib\ndef strategy(prices, *, window=3): return (lambda: ownlib.LEVEL)() * prices",
}


@pytest.mark.parametrize("strategy", USES.values(), ids=USES)
def test_an_edit_of_a_module_of_the_users_own_is_another_search(own, strategy):
    before = told(own(strategy))
    assert told(own(strategy)) == before
    changed = {"constants": "LEVEL = 2.0\n", "rules": "def rule(line):\n    return line + 1\n"}
    assert told(own(strategy, **changed)) != before


def test_a_constant_of_a_module_that_is_set_later_counts(own):
    strategy = own(USES["constant"])
    before = told(strategy)
    strategy.__globals__["ownlib"].LEVEL = 3.0
    assert told(strategy) != before


def test_a_module_of_the_users_own_with_the_name_of_one_of_pythons_is_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = []
    for level in ("1.0", "2.0"):
        (tmp_path / "this.py").write_text(f"LEVEL = {level}\n", encoding="utf-8")
        monkeypatch.delitem(sys.modules, "this", raising=False)
        module._version.cache_clear()
        found.append(told(read("import this\ndef strategy(prices, *, window=3): return this.LEVEL * prices")))
    monkeypatch.delitem(sys.modules, "this")
    module._version.cache_clear()
    assert found[0] != found[1]


def test_a_module_that_another_has_is_read_too(own):
    uses = "import ownlib\ndef strategy(prices, *, window=3): return ownlib.other.rule(prices)"
    found = {told(own(uses, "import ownlib.rules as other\n", f"def rule(line): return line + {k}\n")) for k in (1, 2)}
    assert len(found) == 2


def test_the_order_of_a_set_does_not_matter():
    class Own(set):
        pass

    first, second = Own(), Own()
    first.update(range(0, 90, 8)), second.update(range(88, -1, -8))
    assert told(more=(first,)) == told(more=(second,)) != told(more=({*first},))


def test_a_function_that_a_module_does_not_use_does_not_matter(own):
    before = told(own(USES["function by name"]))
    assert told(own(USES["function by name"], rules="def rule(line):\n    return line\n\nOTHER = 1\n")) == before


def test_a_module_that_is_not_there_is_no_trouble():
    source = (
        "def strategy(prices, *, window=3):\n    try:\n        import nowhere\n    except ImportError:\n        {}\n"
    )
    assert told(read(source.format("pass"))) != told(read(source.format("return prices")))
    with contextlib.suppress(KeyError):
        told(read("def strategy(prices, *, window=3):\n    from . import nothing\n    from .. import more\n"))


def test_another_version_of_an_installed_package_is_another_search(monkeypatch):
    of_numpy = read("import numpy as np\ndef strategy(prices, *, window=3): return np.sign(prices)")
    before = told(of_numpy), told(ma_crossover)
    monkeypatch.setattr(np, "__version__", "0.9")
    module._version.cache_clear()
    assert told(of_numpy) != before[0] and told(ma_crossover) == before[1]
    monkeypatch.setattr(sys.modules["backgrid"], "__version__", "0.9")
    module._version.cache_clear()
    assert told(ma_crossover) != before[1]
    monkeypatch.undo()
    module._version.cache_clear()
    assert (told(of_numpy), told(ma_crossover)) == before


# ---- what is asked ---------------------------------------------------------------------------------------------------

STOPS = np.full(40, 0.05)
ASKED = {
    "strategy": {"strategy": momentum},
    "values": {"grid": {"window": [2, 4]}},
    "order of values": {"grid": {"window": [3, 2]}},
    "points": {"grid": [{"window": 2}, {"window": 3}]},
    "where": {"where": "window < 3"},
    "a function as where": {"where": lambda window: window < 3},
    "another function as where": {"where": lambda window: window < 4},
    "fees": {"fees": 0.001},
    "fill": {"fill": "close"},
    "a stop": {"stop_loss": 0.05},
    "a stop by bar": {"stop_loss": STOPS},
    "another stop by bar": {"stop_loss": np.where(np.arange(40) == 20, 0.01, 0.05)},
    "benchmark": {"benchmark": BARS["Close"]},
    "another benchmark": {"benchmark": BARS["Close"] * np.linspace(1.0, 2.0, 40)},
    "another column": {"bars": BARS.assign(Note=1.0)},
    "the same column with other values": {"bars": BARS.assign(Note=2.0)},
    "how it splits": {"more": ({"train": 20},)},
    "how else it splits": {"more": ({"train": 21},)},
}


def test_whatever_is_asked_tells_searches_apart():
    found = {name: told(**asked) for name, asked in ASKED.items()} | {"plain": told()}
    assert len(set(found.values())) == len(ASKED) + 1
    assert fingerprint(job_of(), "other prices", None) not in found.values()


def test_the_same_settings_in_other_words_are_the_same():
    assert told() == told(fees=0, slippage=0.0) == told(fill="next_open", fees=0.0)
    assert told(fees=0.001, fill="close") == told(fill="close", fees=np.float64(0.001))
    by_bar = [STOPS, STOPS.tolist(), pd.Series(STOPS), pd.Series(STOPS, index=BARS.index)]
    assert len({told(stop_loss=stops) for stops in by_bar}) == 1
    assert told(grid={"window": range(2, 4)}) == told(grid={"window": np.array([2, 3])}) == told()


def test_neither_metrics_nor_memory_nor_notes_tell_apart():
    job = job_of()._replace(metrics=("cagr",), room=5, facts={"symbol": "AAPL"})
    assert fingerprint(job, "the prices", None) == told()


def test_settings_that_no_run_takes_are_told_as_such():
    with pytest.raises(ParameterError, match="fees must be a number"):
        told(fees=-1)


OTHER_PROCESS = """
import sys
from test_fingerprint import SOURCE, Slotted, VALUES, read, told

print(told(read(SOURCE)), told(Slotted(1.5)), told(where=read(SOURCE)))
print(*[told(make(1.1)) for make in VALUES.values()])
"""


def test_another_process_with_another_hash_seed_tells_the_same():
    def ask(seed):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.path.dirname(__file__)}
        command = [sys.executable, "-W", "error", "-c", OTHER_PROCESS]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()

    here = [told(read(SOURCE)), told(Slotted(1.5)), told(where=read(SOURCE))]
    assert ask("1") == ask("2") == here + [told(make(1.1)) for make in VALUES.values()]


# ---- what goes round in circles, and what cannot be told -------------------------------------------------------------


def test_circles_come_to_an_end():
    def ring(level):
        line, names = [level], {}
        line.append(line)
        names["self"] = (names, line)
        return closing_over(names)

    assert told(ring(1)) == told(ring(1)) != told(ring(2))

    class Node:
        def __init__(self, level):
            self.level, self.next = level, self

        def __call__(self, prices, *, window=3):
            return Node

    assert told(Node(1)) == told(Node(1)) != told(Node(2))


def test_what_is_shared_many_times_is_told_once():
    """Seventy floors of two references each: 2 ** 70 ways down."""

    def tower(level):
        for _ in range(70):
            level = [level, level]
        return closing_over(level)

    assert told(tower(1)) == told(tower(1)) != told(tower(2))


class Secretive:
    def __reduce__(self):
        raise RuntimeError("no")


UNTOLD = {
    "a lock": threading.Lock,
    "a generator": lambda: (n for n in range(3)),
    "a weak reference": lambda: weakref.ref(Slotted),
    "a lock within an object": lambda: Open(threading.Lock()),
    "what refuses": Secretive,
    "what is too deep": lambda: functools.reduce(lambda inner, _: [inner], range(5000), 0),
}


@pytest.mark.parametrize("make", UNTOLD.values(), ids=UNTOLD)
def test_what_has_no_content_is_not_told(make):
    with pytest.raises(UntoldError, match="has no content to compare|its content cannot be read"):
        told(closing_over(make()))


def test_an_open_file_is_not_told(tmp_path):
    with open(tmp_path / "file", "w") as file, pytest.raises(UntoldError, match="TextIOWrapper has no content"):
        told(closing_over(file))
