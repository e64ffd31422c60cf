"""Sweeps: one strategy with every combination of parameters, never a winner without the number of trials."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import html
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid._sweep import CORE, DONE, REFUSED
from backgrid.bars import hash_bars, labels
from backgrid.checkpoint import Batch, Checkpoint
from backgrid.engine import holding, run_backtest
from backgrid.errors import BackgridError, ParameterError, did_you_mean, shown
from backgrid.ledger import count_trials, is_kept
from backgrid.luck import Luck, measure_luck
from backgrid.metrics import HIGHER, METRICS, NEITHER, format_metric, line, returns_of
from backgrid.overfit import check_draws, check_n_blocks
from backgrid.search import Question, identify, n_threads, note, read_search, symbol_of, try_all, why_none
from backgrid.space import Space
from backgrid.strategies import function_name
from backgrid.trials import Job, Trials

if TYPE_CHECKING:
    from backgrid.plot import Chart
    from backgrid.result import BacktestResult

DEFAULT_METRICS = tuple(name for name in METRICS if name in CORE)
UNTRIED = 255  # state of a combination that was not reached
MOST_SHOWN = 10
CHUNK = 512  # trials whose returns are looked at together
SORTED = 2**14  # of many numbers, of which the lowest are sought


def run_grid(
    prices: pd.DataFrame | pd.Series | Mapping[str, pd.DataFrame],
    strategy: str | Callable,
    grid: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    where: str | Callable | None = None,
    metrics: Sequence[str] | None = None,
    memory: str | int | None = None,
    executor: concurrent.futures.Executor | None = None,
    checkpoint: str | os.PathLike | None = None,
    **settings: Any,
) -> "GridResult":
    """Backtest one strategy with every combination of parameters.

    Each cell equals `run_backtest` with the same parameters. A strategy that compares indicator lines is called once
    for all of them; any other function once a combination.

    Parameters
    ----------
    prices : DataFrame, Series, or dict of symbol to DataFrame
        As in `run_backtest`; with a dict the sweep is made for each symbol.
    strategy : str or function
        A registered name, or a function of the prices with keyword parameters.
    grid : dict of lists, or list of dicts
        Values of each parameter, all of whose combinations are tried; or the combinations. The strategy's defaults for
        the rest.
    where : str or function, optional
        Which combinations to try: an expression such as "fast_window < slow_window" (never run as Python), or a
        function of the parameters that it names. The others are counted as excluded.
    metrics : list of str, optional
        Names in `backgrid.metrics.METRICS`. By default those that need no equity curve: total_return cagr
        annual_volatility sharpe sortino calmar max_drawdown skew kurtosis exposure turnover n_trades win_rate
        profit_factor fees_paid.
    memory : str or int, default "1GB"
        What the sweep may use, results included, such as "500MB". [bytes]
    executor : concurrent.futures.Executor, optional
        Where batches are evaluated, such as a process pool or a Dask client's; threads of this process if not given.
    checkpoint : path, optional
        A file to which finished batches are added; the same sweep goes on from there, one of an edited strategy does
        not. Not with several symbols, nor for a strategy that holds what has no content to compare, such as a lock.
    **settings
        The other arguments of `run_backtest`: fill, fees, slippage ...

    Returns
    -------
    GridResult
        With `partial` set where it was interrupted (Ctrl-C).

    Raises
    ------
    ParameterError
        For any wrong argument, naming it; for a grid whose results have no room in the memory; where every combination
        is refused, with the reason for the first.
    PricesError
        As `run_backtest`.
    """
    several = prices if isinstance(prices, Mapping) else None
    if several is not None and (not several or checkpoint is not None):
        raise ParameterError("prices: the dict is empty" if not several else "a checkpoint is of one symbol only")
    n_results = 1 if several is None else len(several)
    asked = read_search(strategy, grid, where, settings, _check_metrics(metrics), memory, executor, n_results=n_results)
    if several is not None and "symbol" in asked.space.names:
        raise ParameterError("a sweep of several symbols has a column symbol: give the parameter another name")
    parts: dict[str, GridResult] = {}
    for symbol, own in (several or {"": prices}).items():
        try:
            parts[symbol] = _sweep(asked.on(own, {"symbol": symbol} if symbol else {}), asked, checkpoint)
        except BackgridError as error:
            if not symbol:
                raise
            raise type(error)(f"{symbol}: {error}") from error
        except KeyboardInterrupt:
            if not parts:
                raise
            return _joined(parts, partial=True)
        if parts[symbol].partial:
            break
    return parts[""] if several is None else _joined(parts)


class Winner(NamedTuple):
    """The best combination of a sweep, beside how many were tried and how its neighbours do."""

    params: dict[str, Any]
    metric: str
    value: float
    n_trials: int
    neighbours: np.ndarray  # the metric of the combinations one step away in the grid, or nearest in a sample
    metrics: dict[str, float]
    sampled: bool = False  # whether these are the nearest in a sample

    def __repr__(self) -> str:
        plain = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in self.params.items()}
        named = ", ".join(f"{name}={value}" for name, value in plain.items()) or "the defaults"
        found = f"{named}: {self.metric} {format_metric(self.metric, self.value)}"
        if self.n_trials == 1:
            return f"{found}, the only trial"
        best = "highest" if METRICS[self.metric].better == HIGHER else "lowest"
        return f"{found}, the {best} of {self.n_trials:,} trials; {self.around}"

    @property
    def around(self) -> str:
        """How the neighbours do, in words: those that have the metric."""
        known = self.neighbours[~np.isnan(self.neighbours)]
        shown = functools.partial(format_metric, self.metric)
        if not known.size:
            return "it has no neighbours"
        if known.size == 1:
            return f"its {name_neighbours(1, self.sampled)}: {shown(known[0])}"
        least, worst = (np.min, "lowest") if METRICS[self.metric].better == HIGHER else (np.max, "highest")
        numbers = f"median {shown(np.median(known))}, {worst} {shown(least(known))}"
        return f"its {name_neighbours(known.size, self.sampled)}: {numbers}"

    def __eq__(self, other: object) -> bool:
        """Whether all of it is equal; NaN equals NaN."""
        if not isinstance(other, Winner):
            return False
        names, others = ((w.params, w.metric, w.n_trials, w.sampled, *w.metrics) for w in (self, other))
        ours, theirs = ([w.value, *w.metrics.values(), *w.neighbours] for w in (self, other))
        return names == others and np.array_equal(ours, theirs, equal_nan=True)

    def __ne__(self, other: object) -> bool:
        return not self == other


def name_neighbours(number: int, sampled: bool) -> str:
    """So many neighbours in words: those in a grid, or the nearest in a sample."""
    if number == 1:
        return "nearest" if sampled else "only neighbour"
    return f"{number:,} {'nearest' if sampled else 'neighbours'}"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class GridResult:
    """What a sweep gives back.

    It can be pickled where its strategy can. No two are equal: compare their `metrics`.

    Attributes
    ----------
    strategy : str
        Name of the strategy.
    symbol : str
        What was traded; empty for several symbols, or where the prices did not say.
    metrics : DataFrame, n_trials rows
        One row a combination; the index is the parameters, after the symbol where there are several.
    n_trials, n_refused, n_excluded : int
        Combinations that were tried, that the strategy refused (or that gave no signal), and that `where` left out.
    partial : bool
        Whether it was interrupted before all were tried.
    settings : dict
        The arguments of `run_backtest`, as in `BacktestResult.settings`.
    by_symbol : dict of str to GridResult
        The sweep of each symbol, where there are several.
    trials : Trials or None
        Bars, strategy and values of the grid, from which `run` and `returns` are made; None for several symbols.
    codes : ndarray of int64, shape (n_trials, n_parameters)
        Places of each row's parameters among the values of the grid.
    """

    strategy: str
    symbol: str
    metrics: pd.DataFrame
    n_trials: int
    n_refused: int
    n_excluded: int
    partial: bool
    settings: dict[str, Any]
    by_symbol: dict[str, "GridResult"]
    trials: Trials | None
    codes: np.ndarray

    def best(self, metric: str = "sharpe") -> Winner:
        """The combination with the best value of a metric, the first of equals.

        That is the highest, or the lowest of a cost or risk such as fees_paid, annual_volatility or ulcer_index.
        Drawdowns, value at risk and losses are negative: their highest is the mildest.

        Parameters
        ----------
        metric : str, default "sharpe"
            One that the sweep has computed.

        Returns
        -------
        Winner
            With the metric of its neighbours: the combinations at most one step away on every parameter. Points of a
            sample have none such; then these are the nearest, two for each parameter.

        Raises
        ------
        ParameterError
            For a metric that the sweep has not computed, that is undefined for every combination, or of which neither
            end is better, such as n_trades.
        """
        values = self._values(metric)
        if METRICS[metric].better == NEITHER:
            known = [name for name in self.metrics if METRICS[name].better != NEITHER]
            raise ParameterError(
                f"{metric} has no best: neither more nor less of it is better. Sort .metrics by it, or choose by one "
                f"of: {', '.join(known) or 'none that this sweep has'}"
            )
        if np.isnan(values).all():
            raise ParameterError(f"{metric} is undefined for all {self.n_trials:,} combinations")
        place = self._best_row(metric)
        return Winner(
            params=self.params(place),
            metric=metric,
            value=float(values[place]),
            n_trials=self.n_trials,
            neighbours=values[self.neighbours(place)],
            metrics={name: float(value) for name, value in self.metrics.iloc[place].items()},
            sampled=self.sampled,
        )

    def heatmap(
        self, metric: str = "sharpe", *, x: str | None = None, y: str | None = None, at: Mapping[str, Any] | None = None
    ) -> "Chart":
        """A metric over two parameters as a map, over one as a line; the others are held. Of a sample, its points.

        Parameters
        ----------
        metric : str, default "sharpe"
            One that the sweep has computed.
        x, y : str, optional
            The parameters, by default the first that vary; a line is drawn where no second one does.
        at : dict, optional
            Where other parameters are held; at the values of the winner if not given. Those of a sample are not held,
            since hardly two of its points share a value.

        Returns
        -------
        Chart
            The winner is marked: the highest Sharpe ratio, or the best of `metric` where the sweep has none. What was
            refused or left out is blank. Sharpe ratios are told apart by that of holding.

        Raises
        ------
        ParameterError
            For a metric, parameter or value that the sweep does not have; where nothing varies; for several symbols.
        """
        from backgrid.plot import heatmap_chart, points_chart, profile_chart

        values, space, held = self._values(metric), self._trials.job.space, dict(at or {})
        drawn = self._to_draw(x, y, held)
        ranked = self._ranked_by(metric)
        best = self._best_row(ranked) if ranked else 0
        scattered = self.sampled and len(drawn) == 2
        fixed = held if scattered else {**self.params(best), **held}
        fixed = {name: value for name, value in fixed.items() if name not in drawn}
        chosen = self._are_at(fixed)
        marked = ranked is not None and bool(chosen[best])
        told: dict[str, Any] = {"benchmark": self._holding(metric), "fixed": fixed}
        if scattered:
            points = pd.DataFrame([self.params(row) for row in np.flatnonzero(chosen).tolist()], columns=drawn[::-1])
            winner = int(chosen[:best].sum()) if marked else None
            return points_chart(points, values[chosen], metric, winner=winner, **told)
        columns = [space.names.index(name) for name in drawn]
        table = np.full([space.shape[k] for k in columns], np.nan)
        table[tuple(self._ranks[k][self.codes[chosen, k]] for k in columns)] = values[chosen]
        axes = [(name, space.values[k]) for name, k in zip(drawn, columns, strict=True)]
        labels = [pd.Index([given[k] for k in _by_size(given)], name=name, tupleize_cols=False) for name, given in axes]
        place = tuple(int(self._ranks[k][self.codes[best, k]]) for k in columns) if marked else None
        if len(drawn) == 1:
            return profile_chart(pd.Series(table, labels[0]), metric, winner=place and place[0], **told)
        return heatmap_chart(pd.DataFrame(table, *labels), metric, winner=place, **told)

    def _to_draw(self, x: str | None, y: str | None, held: Mapping[str, Any]) -> list[str]:
        """The parameters of a map, that of the vertical axis first, or the one of a line."""
        space = self._trials.job.space
        for name in (name for name in (x, y, *held) if name is not None and name not in space.names):
            raise ParameterError(f"the grid has no parameter {shown(name)}{did_you_mean(str(name), space.names)}")
        vary = [name for name, n in zip(space.names, space.shape, strict=True) if n > 1 and name not in {x, y, *held}]
        x, y = (x or (vary.pop(0) if vary else y), y or (vary[0] if vary else None))
        drawn = [name for name in dict.fromkeys((y, x)) if name is not None]
        if not drawn or held.keys() & set(drawn):
            raise ParameterError(f"nothing to draw: x and y must be parameters that at does not hold, {shown(held)}")
        return drawn

    def _are_at(self, fixed: Mapping[str, Any]) -> np.ndarray:
        """Which trials have these values: bool[n_trials]."""
        space, chosen = self._trials.job.space, np.ones(self.n_trials, dtype=bool)
        for name, value in fixed.items():
            k = space.names.index(name)
            if value not in space.values[k]:
                raise ParameterError(f"the grid has no {name} {shown(value)}, it has {shown(space.values[k])}")
            chosen &= self.codes[:, k] == space.values[k].index(value)
        return chosen

    def _ranked_by(self, *first: str) -> str | None:
        """What a winner is the best of: the Sharpe ratio where the sweep has it, else the first that has a best."""
        names = ("sharpe",) if "sharpe" in self.metrics else (*first, *self.metrics.columns)
        ranked = (name for name in names if METRICS[name].better != NEITHER and self.metrics[name].notna().any())
        return next(ranked, None)

    def _best_row(self, metric: str) -> int:
        """The row of the best value, the first of equals; some value is defined."""
        return int(np.nanargmax(METRICS[metric].better * self._values(metric)))

    def _holding(self, metric: str) -> float:
        """The Sharpe ratio of holding; NaN for another metric."""
        if metric != "sharpe":
            return np.nan
        excess = self._holding_returns() - self._trials.account.cash_return
        return METRICS["sharpe"].function(line(excess), self.settings["periods_per_year"])

    def _holding_returns(self) -> np.ndarray:
        """Returns of holding, from where the runs could first trade: float64[n_bars - 1]."""
        market = self._trials.market
        return returns_of(holding(market.open, market.close, self.settings["fill"]))

    def params(self, place: int) -> dict[str, Any]:
        """The parameters of one row, the `place` in `metrics`, with its symbol where there are several."""
        if not self.by_symbol:
            return self._trials.job.space.params(self.codes[place])
        symbol, start = self._part_of(place)
        return {"symbol": symbol, **self.by_symbol[symbol].params(place - start)}

    def neighbours(self, place: int) -> np.ndarray:
        """Rows of the combinations at most one step away from that of row `place` on every axis: int64[n].

        Points of a sample have none such: then of the nearest, two for each axis, as if all ranges were equally long.
        """
        if self.by_symbol:
            symbol, start = self._part_of(place)
            return start + self.by_symbol[symbol].neighbours(place - start)
        if self.sampled:
            return self._nearest(place)
        near = np.ones(len(self.codes), dtype=bool)
        for ranks, codes in zip(self._ranks, self.codes.T, strict=True):
            near &= (np.abs(ranks - ranks[codes[place]]) <= 1)[codes]
        near[place] = False
        return np.flatnonzero(near)

    @property
    def why_called(self) -> str:
        """Why the strategy was called for each combination; empty where it was called once, with axes."""
        return self._trials.why_called

    @property
    def sampled(self) -> bool:
        """Whether the combinations are points of a sample, hardly two of which share a value."""
        part = next(iter(self.by_symbol.values()), self)
        return not part._trials.job.space.is_dense

    def _nearest(self, place: int) -> np.ndarray:
        """Rows of the nearest points, rising: two for each axis. Words are either the same or a whole range apart."""
        apart = np.zeros(len(self.codes))
        for values, codes in zip(self._trials.job.space.values, self.codes.T, strict=True):
            apart += _distances(values, codes, codes[place]) ** 2
        apart[place] = np.nan
        return np.sort(_lowest(apart, min(2 * self.codes.shape[1], apart.size - 1)))

    def _part_of(self, place: int) -> tuple[str, int]:
        """Symbol of a row, and the first row of that symbol."""
        start = 0
        for symbol, part in self.by_symbol.items():
            if place < start + part.n_trials:
                return symbol, start
            start += part.n_trials
        raise IndexError(place)

    def run(self, params: Mapping[str, Any] | None = None) -> "BacktestResult":
        """The backtest of one combination.

        Parameters
        ----------
        params : dict, optional
            Of the combination; the rest from that of the highest Sharpe ratio.
        """
        job = self._trials.job
        missing = set(job.space.names) - set(params or {})
        complete = {**(self.best().params if missing else {}), **(params or {})}
        bars = job.bars.copy(deep=False)
        bars.attrs = dict(job.facts)
        return run_backtest(bars, job.strategy, params=complete, **job.given)

    def returns(self, rows: Sequence[int] | None = None) -> pd.DataFrame:
        """Returns of combinations, net of costs: one row a bar from the second on, one column a combination.

        Parameters
        ----------
        rows : sequence of int, optional
            Which rows of `metrics`; all of them if not given, which takes 8 bytes a bar and combination.
        """
        chosen = np.arange(self.n_trials)[slice(None) if rows is None else list(rows)]
        _, values = self._trials.returns(self.codes[chosen])
        return pd.DataFrame(values.T, index=self._trials.job.bars.index[1:], columns=self.metrics.index[chosen])

    def overfit(
        self, *, n_trials: int | str | None = None, n_blocks: int = 16, n_boot: int = 1000, seed: int = 0
    ) -> Luck:
        """What the combination with the highest Sharpe ratio is worth, given how many were tried.

        Parameters
        ----------
        n_trials : int or "ledger", optional
            What the Sharpe ratio is deflated by: those of this sweep if not given; "ledger" for all that the trial
            ledger knows of this strategy and data, which are at least these. [trials]
        n_blocks : int, default 16
            Of the cross-validation.
        n_boot, seed : int
            Of the bootstrap.

        Returns
        -------
        Luck

        Raises
        ------
        ParameterError
            For an argument out of its bounds; for several symbols; where no Sharpe ratio is defined.
        """
        check_n_blocks(n_blocks)
        check_draws(n_boot, seed)
        counted = self.deflate_by(n_trials)
        trials, settings = self._trials, self.settings
        place = int(np.nanargmax(self._sharpes()))
        size, taken = len(trials.job.bars) * 8, trials.traced.nbytes if trials.traced else 0
        room = trials.job.room - taken
        most = max(min(CHUNK, room // (16 * size)), 1)  # there are four copies of them
        cut = [self.codes[start : start + most] for start in range(0, self.n_trials, most)]
        kept = [trials.returns(codes)[1] for codes in cut] if self.n_trials * size <= room / 4 else None
        return measure_luck(
            lambda: kept or (trials.returns(codes)[1] for codes in cut),
            n_bars=trials.market.close.size - 1,
            winner=self.params(place),
            place=place,
            benchmark=self._holding_returns(),
            cash=trials.account.cash_return,
            periods_per_year=settings["periods_per_year"],
            n_trials=counted,
            n_blocks=n_blocks,
            n_boot=n_boot,
            seed=seed,
            memory=room / 2,
        )

    def _sharpes(self) -> np.ndarray:
        if "sharpe" in self.metrics:
            values = self._values("sharpe")
        else:
            job = self._trials.job._replace(metrics=("sharpe",))
            values = Trials(job, n_threads()).metrics(self.codes)[1][:, 0]
        if np.isnan(values).all():
            raise ParameterError(f"sharpe is undefined for all {self.n_trials:,} combinations")
        return values

    def deflate_by(self, n_trials: int | str | None = None) -> int:
        """The number of trials to deflate by, as `overfit` reads `n_trials`: never fewer than were tried here."""
        if n_trials is None:
            return self.n_trials
        if n_trials == "ledger":
            return max(count_trials(data=hash_bars(self._trials.job.prices), strategy=self.strategy), self.n_trials)
        if isinstance(n_trials, bool) or not isinstance(n_trials, (int, np.integer)) or n_trials < self.n_trials:
            raise ParameterError(
                f"n_trials must be 'ledger' or a whole number of at least {self.n_trials:,}, which this sweep has "
                f"tried; got {shown(n_trials)}"
            )
        return int(n_trials)

    def _values(self, metric: str) -> np.ndarray:
        if metric not in self.metrics:
            raise ParameterError(f"the sweep has no {shown(metric)}{did_you_mean(str(metric), self.metrics.columns)}")
        return self.metrics[metric].to_numpy(dtype=float)

    @property
    def _trials(self) -> Trials:
        if self.trials is None:
            raise ParameterError(f"choose one symbol: result.by_symbol[{min(self.by_symbol)!r}]")
        return self.trials

    @functools.cached_property
    def _ranks(self) -> list[np.ndarray]:
        """Of each parameter, the place of each of its values by size: int64[n_values]."""
        return [np.argsort(_by_size(values)) for values in self._trials.job.space.values]

    def __repr__(self) -> str:
        return f"<GridResult {self._headline()}>"

    def _headline(self) -> str:
        left = [f"{self.n_refused:,} refused"] * bool(self.n_refused)
        left += [f"{self.n_excluded:,} excluded"] * bool(self.n_excluded) + ["interrupted"] * self.partial
        text = f"{self.strategy} {self.symbol}".strip() + f", {self.n_trials:,} trial{'s' * (self.n_trials != 1)}"
        text += f" ({', '.join(left)})" if left else ""
        metric = self._ranked_by()
        return f"{text}; {self.best(metric)}" if metric else text

    def _repr_html_(self) -> str:
        metric = self._ranked_by()
        best = _lowest(-METRICS[metric].better * self._values(metric), MOST_SHOWN) if metric else slice(MOST_SHOWN)
        table = self.metrics.iloc[best]
        rows = table.to_html(float_format=lambda value: f"{value:.4g}", na_rep="n/a", sparsify=False, notebook=True)
        which = (
            f"best {len(table)} of {self.n_trials:,} by {metric}"
            if metric
            else f"first {len(table)} of {self.n_trials:,}"
        )
        more = f"<p>The {which}.</p>" if len(table) < self.n_trials else ""
        return f"<p>{html.escape(self._headline())}</p>{rows}{more}"


def _by_size(values: list[Any]) -> list[int]:
    """Places of values in rising order; as they are given where they do not compare."""
    try:
        return sorted(range(len(values)), key=values.__getitem__)
    except TypeError:
        return list(range(len(values)))


def _lowest(values: np.ndarray, n: int) -> np.ndarray:
    """Places of the lowest values, rising, the first of equals first and NaN last; few are sorted at a time."""
    found = np.arange(0)
    for start in range(0, values.size, SORTED):
        places = np.concatenate([found, np.arange(start, min(start + SORTED, values.size))])
        found = places[np.argsort(values[places], kind="stable")[:n]]
    return found


def _distances(values: list[Any], codes: np.ndarray, code: int) -> np.ndarray:
    """How far values are from one of them, as a share of the range of numbers; 0 or 1 for all else."""
    if all(isinstance(value, (int, float)) for value in values):
        numbers = np.array(values, dtype=float)
        with np.errstate(invalid="ignore"):
            width = np.ptp(numbers)
        if 0.0 < width < np.inf:
            return (np.abs(numbers - numbers[code]) / width)[codes]
    return (codes != code).astype(float)


# ---- how it is done --------------------------------------------------------------------------------------------------


def evaluate(trials: Trials, numbers: np.ndarray) -> Batch:
    """The metrics of some combinations."""
    return Batch(numbers, *trials.metrics(trials.job.space.codes(numbers)))


def _sweep(job: Job, asked: Question, checkpoint: str | os.PathLike | None) -> GridResult:
    """The sweep of one symbol, noted in the ledger."""
    kept = identity = None
    if checkpoint is not None or is_kept():
        identity = identify(job, asked.where, must=checkpoint is not None)
        if checkpoint is not None:
            kept = Checkpoint(checkpoint, f"{identity.request} {' '.join(job.metrics)}")
    trials = Trials(job, n_threads())
    result = _result(trials, *_tried(trials, asked, kept))
    if trials.in_doubt and not trials.confirm(_winner(result)):
        if kept:
            kept.clear()
        result = _result(trials, *_tried(trials, asked, kept))
    if identity:
        kind = "sweep" if job.space.points is None else "search"
        note(identity, job, asked.where, result.settings, result.n_trials, kind)
    return result


def _winner(result: GridResult) -> np.ndarray:
    """Places of the best combination's values: int64[1, n_axes], or none where none is the best."""
    ranked = result._ranked_by()
    return result.codes[[] if ranked is None else [result._best_row(ranked)]]


def _tried(
    trials: Trials, asked: Question, kept: Checkpoint | None
) -> tuple[list[Batch], np.ndarray, np.ndarray, bool]:
    """Batches of what was tried; of all combinations the state, and whether `where` leaves them out; if it was cut."""
    space, found = trials.job.space, list(kept.batches()) if kept else []
    state, excluded = np.full(space.size, UNTRIED, dtype=np.uint8), np.zeros(space.size, dtype=bool)
    for batch in found:
        state[batch.numbers] = batch.state

    def left(numbers: np.ndarray) -> np.ndarray:
        if asked.where is None and not kept:
            return numbers
        wanted = asked.chosen(numbers)
        excluded[numbers] = ~wanted
        return numbers[wanted & (state[numbers] == UNTRIED)]

    try:
        with contextlib.nullcontext() if trials.traceable else trials.remembering():
            for _, batch in try_all(trials, left, evaluate, asked.executor):
                found.append(batch)
                state[batch.numbers] = batch.state
                if kept:
                    kept.add(batch)
    except KeyboardInterrupt:
        if not (state == DONE).any():
            raise
        return found, state, excluded, True
    return found, state, excluded, False


def _result(trials: Trials, found: list[Batch], state: np.ndarray, excluded: np.ndarray, partial: bool) -> GridResult:
    """What was tried as a table."""
    job = trials.job
    if not (state == DONE).any():
        raise ParameterError(why_none(job, None if excluded.all() else int((state == REFUSED).argmax())))
    done, values = _in_order(found)
    codes = job.space.codes(done)
    columns = dict(enumerate(map(_column, job.metrics, values.T)))
    metrics = pd.DataFrame(columns, index=_index(job.space, codes), copy=False)
    metrics.columns = labels(job.metrics)
    return GridResult(
        strategy=function_name(job.strategy),
        symbol=symbol_of(job),
        metrics=metrics,
        n_trials=int(done.size),
        n_refused=int((state == REFUSED).sum()),
        n_excluded=int(excluded.sum()),
        partial=partial,
        settings=trials.settings,
        by_symbol={},
        trials=trials,
        codes=codes,
    )


def _column(name: str, values: np.ndarray) -> np.ndarray:
    """Values of a metric, counts as whole numbers where none is missing."""
    whole = METRICS[name].unit == "count" and not np.isnan(values).any()
    return values.astype(np.int64) if whole else values


def _in_order(batches: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the combinations that are done, rising, and their metrics."""
    numbers = np.concatenate([batch.numbers[batch.state == DONE] for batch in batches])
    values = np.concatenate([batch.values for batch in batches]) if len(batches) > 1 else batches[0].values
    if (numbers[1:] > numbers[:-1]).all():
        return numbers, values
    order = np.argsort(numbers)
    return numbers[order], values[order]


def _index(space: Space, codes: np.ndarray) -> pd.Index:
    """The parameters of these combinations."""
    if not space.names:
        return pd.RangeIndex(len(codes))
    if len(space.names) == 1:
        return _level(space.values[0]).rename(space.names[0]).take(codes[:, 0])
    return pd.MultiIndex(
        levels=[_level(values) for values in space.values],
        codes=list(codes.T),
        names=space.names,
        verify_integrity=False,
    )


def _level(values: list[Any]) -> pd.Index:
    """Values of one parameter as pandas reads them; of whole numbers, or floats, it need not be asked what they are."""
    kinds = {type(value) for value in values}
    if kinds in ({int}, {float}):
        with contextlib.suppress(OverflowError):
            return pd.Index(np.array(values, dtype=np.int64 if kinds == {int} else np.float64))
    return pd.Index(values, tupleize_cols=False)


def _joined(parts: dict[str, GridResult], *, partial: bool = False) -> GridResult:
    """The sweeps of several symbols as one."""
    first = next(iter(parts.values()))
    total = {name: sum(getattr(part, name) for part in parts.values()) for name in ("n_refused", "n_excluded")}
    metrics = pd.concat({symbol: part.metrics for symbol, part in parts.items()}, names=["symbol"])
    return dataclasses.replace(
        first,
        symbol="",
        metrics=metrics,
        n_trials=len(metrics),
        **total,
        partial=partial or any(part.partial for part in parts.values()),
        by_symbol=parts,
        trials=None,
        codes=np.concatenate([part.codes for part in parts.values()]),
    )


# ---- checks ----------------------------------------------------------------------------------------------------------


def _check_metrics(metrics: Sequence[str] | None) -> tuple[str, ...]:
    if metrics is None:
        return DEFAULT_METRICS
    if isinstance(metrics, str) or not isinstance(metrics, Sequence) or not metrics:
        raise ParameterError(f"metrics must be a list of names, got {shown(metrics)}")
    for name in metrics:
        if name not in METRICS:
            raise ParameterError(f"unknown metric {shown(name)}{did_you_mean(str(name)[:40], METRICS)}")
    known = {name: name for name in METRICS}
    return tuple(dict.fromkeys(known[name] for name in metrics))
