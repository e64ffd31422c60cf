"""Every error that Backgrid raises on purpose. Each message says what was given, what is needed and what to do."""

import difflib
import reprlib
import sys
import traceback
from collections.abc import Iterable

MOST_STEPS = 4  # of a notebook's own calls that an error names


class BackgridError(Exception):
    """Root of all errors raised on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: type and message, and the lines of the notebook that led here; for `%tb` everything."""
        if sys.exc_info()[1] is not self:  # it was shown when it was raised, and is asked for again
            formatter = sys.modules["IPython"].get_ipython().InteractiveTB
            return formatter.structured_traceback(type(self), self, self.__traceback__, tb_offset=1)
        frames = traceback.walk_tb(self.__traceback__)
        own = [(f.f_code.co_name, line) for f, line in frames if f.f_globals.get("__name__") == "__main__"]
        steps = [f"line {line}" + (f" of {name}" if name != "<module>" else "") for name, line in own]
        steps = steps if len(steps) <= MOST_STEPS else [steps[0], "...", *steps[2 - MOST_STEPS :]]
        return [f"{type(self).__name__}: {self}", f"({'; '.join([*steps, '%tb shows the traceback'])})"]


class ParameterError(BackgridError, ValueError):
    """A request that cannot be run as given: an unknown name, a wrong type, a value out of bounds."""


class PricesError(BackgridError, ValueError):
    """Prices that cannot be backtested; names the first offending bar."""


class TooFewBarsError(PricesError):
    """Fewer bars than the strategy needs (two at least)."""


class DataFetchError(BackgridError):
    """Prices that could not be had.

    Parameters
    ----------
    symbol, span : str
        What was asked for; `span` as "2023-01-01..2023-12-31".
    cause : str
        What went wrong, in the source's own words where it gave any.
    remedy : str
        What the reader can do about it.
    """

    def __init__(self, symbol: str, span: str, cause: str, remedy: str):
        super().__init__(symbol, span, cause, remedy)
        self.symbol, self.span, self.cause, self.remedy = symbol, span, cause, remedy

    def __str__(self) -> str:
        return f"{self.symbol} {self.span}: {self.cause.rstrip('.')}. {self.remedy}"


class UnknownSymbolError(DataFetchError):
    """The source does not know the symbol."""


class NoDataError(DataFetchError):
    """The source knows the symbol and has no bars in the range."""


class RateLimitedError(DataFetchError):
    """The source refused because of too many requests."""


class OfflineError(DataFetchError):
    """The source could not be reached."""


class UpstreamError(DataFetchError):
    """The source was reached and answered with an error, or with something that is not prices."""


class BadDataError(DataFetchError, PricesError):
    """The source answered with prices that fail validation."""


class ReportError(BackgridError):
    """A report notebook that did not run to its end."""


class LookaheadError(BackgridError):
    """A strategy whose signals depend on later bars, or are others when it is called again."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the nearest known name, and all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{hint} known: {', '.join(known) or 'none'}"


def counted(number: int, noun: str) -> str:
    """A number of things in words."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shown(value: object) -> str:
    """A value as an error message shows it: short, whatever was given."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 40
    try:
        return " ".join(short.repr(value).split())
    except Exception:  # a hostile __repr__ must not hide the error that is being reported
        return f"<{type(value).__name__}>"
