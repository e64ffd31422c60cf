"""Choose on some bars, trade on others: walk-forward, and combinatorial cross-validation.

Every trial is one run over all bars, of which a window of training bars decides: signals know no later bars, so that
the first bar of a window finds its indicators warmed up. Trials are handed over in chunks, and memory does not grow
with their number.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import html
import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid._sweep import DONE, Account
from backgrid._windows import (
    N_SUMS,
    Layout,
    Runs,
    Split,
    check_blocks,
    check_metric,
    cut_folds,
    lay_out,
    purge,
    sum_windows,
    window_values,
)
from backgrid.bars import bar_text
from backgrid.engine import run_backtest
from backgrid.errors import ParameterError
from backgrid.indicators import check_window
from backgrid.ledger import is_kept
from backgrid.metrics import format_metric, format_value
from backgrid.result import BacktestResult
from backgrid.search import Question, identify, n_threads, note, read_search, symbol_of, try_all, why_none
from backgrid.space import Space
from backgrid.strategies import function_name
from backgrid.terms import BY_BAR, STOPS
from backgrid.trials import Job, Trials

CHUNK = 512  # trials whose returns are looked at together


def walk_forward(
    prices: pd.DataFrame | pd.Series,
    strategy: str | Callable,
    grid: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    train: int,
    test: int,
    gap: int = 0,
    anchored: bool = False,
    shorter_last: bool = False,
    metric: str = "sharpe",
    where: str | Callable | None = None,
    memory: str | int | None = None,
    executor: concurrent.futures.Executor | None = None,
    **settings: Any,
) -> "WalkForwardResult":
    """Choose the best trial on a window of bars, trade it on the next ones, and so on: what tuning would have earned.

    Fold k trains on `train` bars from bar k * test on (from the first bar, and k * test more of them, if anchored),
    leaves out `gap` bars, and tests on `test` bars; test windows follow one another without a gap. The training window
    sees one continuous run of each trial over all bars, and judges it by the returns of its own bars. On the bars of
    its test window the target positions of the chosen trial are decided at their closes. All test windows together are
    one run of `run_backtest` with one account, so that what a change of trial costs is paid; a position that both
    trials want is kept. As fills come after decisions, the first bar of a test window still earns for the trial before.

    A trial whose metric is undefined in the window, or whose returns do not vary there (no trade), cannot be chosen;
    of equals the first is. A fold without any is flat. No test window has a say in the choice for itself or before,
    provided that the strategy does not look ahead: see `check_lookahead`.

    Parameters
    ----------
    prices : DataFrame or Series
        As in `run_backtest`; of one symbol.
    strategy, grid, where
        As in `run_grid`.
    train, test : int
        Length of the windows, 2 and 1 at least. [bars]
    gap : int, default 0
        Left out between a training window and its test window. [bars]
    anchored : bool, default False
        Whether every training window begins with the first bar.
    shorter_last : bool, default False
        Whether bars that are left at the end make one more, shorter test window; otherwise they are not tested.
    metric : {"sharpe", "sortino", "calmar", "omega", "total_return", "cagr", "annual_return", "max_drawdown"}
        The highest is the best. As in `backgrid.metrics`, of an account that is opened at the close before the window.
    memory : str or int, default "1GB"
        What the search may use, such as "500MB". [bytes]
    executor : concurrent.futures.Executor, optional
        Where batches of trials are judged; threads of this process if not given. Results do not depend on it.
    **settings
        The other arguments of `run_backtest`: fill, fees, slippage ...

    Returns
    -------
    WalkForwardResult

    Raises
    ------
    ParameterError
        For any wrong argument, naming it; where the bars do not reach for one fold; where `where` leaves out, or the
        strategy refuses, every combination.
    PricesError
        As `run_backtest`.
    """
    train, test = check_window("train", train, least=2), check_window("test", test)
    gap = check_window("gap", gap, least=0)
    search = _search(prices, strategy, grid, where, memory, executor, metric, settings)
    splits = cut_folds(len(search.job.bars), train, test, gap, anchored, shorter_last)
    told = {"train": train, "test": test, "gap": gap, "anchored": bool(anchored), "metric": metric}
    choice = _choose(search, splits, {**told, "shorter_last": bool(shorter_last)})
    own = _look_up(search, choice, splits)
    first, last = splits[0].test[0][0], splits[-1].test[0][1]
    target = np.zeros(last)
    for split, pieces in zip(splits, own.targets, strict=True):
        _stitch(target, split.test, pieces)
    result = _run(search, target, first, "walk-forward", told)
    opened = last - len(result.index)
    layout = lay_out([split.test for split in splits] + [[(first, last)]], opened)
    outside = sum_windows(result.returns.to_numpy()[None, :], search.account, layout)[0]
    index, labels = search.job.bars.index, {}
    for name, windows in (("train", [s.train[0] for s in splits]), ("test", [s.test[0] for s in splits])):
        labels[f"{name}_start"] = index[[start for start, _ in windows]]
        labels[f"{name}_end"] = index[[stop - 1 for _, stop in windows]]
    return _result(
        search,
        choice,
        own,
        splits="anchored" if anchored else "rolling",
        labels=pd.DataFrame(labels, index=pd.RangeIndex(len(splits), name="fold")),
        out_of_sample=window_values(metric, outside[:-1], search.account),
        n_untested=len(search.job.bars) - last,
        paths=(result,),
        first=first - opened,
        sharpes=window_values("sharpe", outside[-1:], search.account),
    )


def combinatorial_cross_validation(
    prices: pd.DataFrame | pd.Series,
    strategy: str | Callable,
    grid: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    n_blocks: int = 6,
    n_test: int = 2,
    gap: int = 0,
    metric: str = "sharpe",
    where: str | Callable | None = None,
    memory: str | int | None = None,
    executor: concurrent.futures.Executor | None = None,
    **settings: Any,
) -> "WalkForwardResult":
    """Choose the best trial on some blocks of bars and test it on the others, for every choice of blocks.

    The bars are cut into `n_blocks` blocks as equal as can be, numbered from 0. Every choice of `n_test` of them is the
    test set of one split; the rest is for training, less `gap` bars on either side of each test block. As in
    `walk_forward` a trial is one run over all bars. Its metric is that of the training bars' returns one after the
    other; out of sample that of its returns on the test bars.

    Each block is tested by several splits. Path j takes of every block the j-th of them: a run of `run_backtest` over
    all bars with the target positions of the trials so chosen, which pays for every change.

    Unlike in a walk-forward, training bars come after test bars too: choose a gap that is not shorter than what the
    strategy looks back and how long it holds, or what happened in a test block still shows in the bars after it.

    Parameters
    ----------
    n_blocks : int, default 6
        2 at least, of two bars at least. [blocks]
    n_test : int, default 2
        Of them, fewer than `n_blocks`; at most 1,000 splits. [blocks]
    gap : int, default 0
        Left out on either side of a test block. [bars]
    prices, strategy, grid, metric, where, memory, executor, **settings
        As in `walk_forward`.

    Returns
    -------
    WalkForwardResult
        With comb(n_blocks, n_test) splits and comb(n_blocks - 1, n_test - 1) paths.

    Raises
    ------
    ParameterError, PricesError
        As `walk_forward`; where the gap leaves fewer than two bars for training.

    References
    ----------
    M. Lopez de Prado, Advances in Financial Machine Learning, Wiley 2018, chapter 12.
    """
    gap = check_window("gap", gap, least=0)
    search = _search(prices, strategy, grid, where, memory, executor, metric, settings)
    n_bars = len(search.job.bars)
    n_blocks, n_test = check_blocks(n_bars, n_blocks, n_test)
    edges = [(n_bars * block // n_blocks, n_bars * (block + 1) // n_blocks) for block in range(n_blocks)]
    tested = list(itertools.combinations(range(n_blocks), n_test))
    splits = [purge([edges[block] for block in blocks], n_bars, gap) for blocks in tested]
    told = {"n_blocks": n_blocks, "n_test": n_test, "gap": gap, "metric": metric}
    choice = _choose(search, splits, told)
    own = _look_up(search, choice, splits)
    by_block = [[k for k, blocks in enumerate(tested) if block in blocks] for block in range(n_blocks)]
    paths = []
    for path, chosen in enumerate(zip(*by_block, strict=True)):
        target = np.zeros(n_bars)
        for block, k in enumerate(chosen):
            _stitch(target, [edges[block]], [own.targets[k][tested[k].index(block)]])
        paths.append(_run(search, target, 0, "cross-validation", {**told, "path": path}))
    everything = lay_out([[(0, n_bars)]])
    returns = np.array([path.returns.to_numpy() for path in paths])
    labels = {
        "test_blocks": [", ".join(map(str, blocks)) for blocks in tested],
        "train_bars": [sum(stop - start for start, stop in split.train) for split in splits],
        "test_bars": [sum(stop - start for start, stop in split.test) for split in splits],
    }
    return _result(
        search,
        choice,
        own,
        splits="combinatorial",
        labels=pd.DataFrame(labels, index=pd.RangeIndex(len(splits), name="split")),
        out_of_sample=own.out_of_sample,
        n_untested=0,
        paths=tuple(paths),
        first=0,
        sharpes=window_values("sharpe", sum_windows(returns, search.account, everything)[:, 0], search.account),
    )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class WalkForwardResult:
    """What choosing by the past would have earned.

    Attributes
    ----------
    strategy, symbol : str
        Name of the strategy, and what was traded; empty where the prices did not say.
    splits : str
        "rolling", "anchored" or "combinatorial".
    metric : str
        By which trials were chosen.
    folds : DataFrame, n_folds rows
        train_start train_end test_start test_end: labels of the first and last bar of each window (combinatorial:
        test_blocks train_bars test_bars); the chosen parameters, NaN where no trial could be chosen; in_sample and
        out_of_sample: the metric of the chosen trial on the training bars, and on the test bars of the stitched account
        (combinatorial: of its own run).
    chosen : tuple of dict or None, length n_folds
        The chosen parameters; None for a fold that is flat.
    stability : DataFrame, one row a parameter
        Over the folds that are not flat: distinct, how many values were chosen; most_frequent, the first of equals;
        share, in how many of the folds [fraction]; spread, standard deviation (ddof 0) of the chosen values / (highest
        - lowest value of the grid), 0 for always the same and 0.29 for all alike, NaN for what is no number or does not
        vary.
    n_trials, n_refused, n_excluded : int
        Combinations that each fold chose from, that the strategy refused, and that `where` left out.
    n_untested : int
        Bars at the end that are in no test window. [bars]
    in_sample_sharpe : float
        Mean over the folds of the Sharpe ratio of the chosen trial on the training bars.
    sharpes : ndarray, shape (n_paths,)
        Sharpe ratio of each path out of sample, over all its test bars; a walk-forward has one path.
    paths : tuple of BacktestResult, length n_paths
        The out-of-sample runs. That of a walk-forward has the bars from the first to the last test bar and begins with
        the cash; with sizing by volatility also the bars that it looks back on, on which it is flat.
    first : int
        First test bar in the paths: 0 but for sizing by volatility. [bar]
    """

    strategy: str
    symbol: str
    splits: str
    metric: str
    folds: pd.DataFrame
    chosen: tuple[dict[str, Any] | None, ...]
    stability: pd.DataFrame
    n_trials: int
    n_refused: int
    n_excluded: int
    n_untested: int
    in_sample_sharpe: float
    sharpes: np.ndarray
    paths: tuple[BacktestResult, ...]
    first: int

    @property
    def n_folds(self) -> int:
        """Folds, or splits, that chose a trial each."""
        return len(self.chosen)

    @property
    def n_flat(self) -> int:
        """Folds in which no trial could be chosen."""
        return self.chosen.count(None)

    @property
    def result(self) -> BacktestResult | None:
        """The out-of-sample run of a walk-forward; None for combinatorial splits, which have several: `paths`."""
        return None if self.splits == "combinatorial" else self.paths[0]

    @property
    def equity(self) -> pd.Series | pd.DataFrame:
        """Account on the test bars, from the cash on; one column a path for combinatorial splits. [currency]"""
        if self.splits != "combinatorial":
            return self.paths[0].equity.iloc[self.first :]
        return pd.DataFrame({path: run.equity for path, run in enumerate(self.paths)}).rename_axis(columns="path")

    @property
    def out_of_sample_sharpe(self) -> float:
        """Sharpe ratio over all test bars; of several paths the mean, NaN where one is undefined."""
        return float(self.sharpes.mean())

    @property
    def efficiency(self) -> float:
        """Out-of-sample Sharpe ratio / mean in-sample Sharpe ratio of the chosen; NaN unless the latter is above 0."""
        return self.out_of_sample_sharpe / self.in_sample_sharpe if self.in_sample_sharpe > 0.0 else math.nan

    def __repr__(self) -> str:
        return f"<WalkForwardResult {self._headline()}>"

    def _headline(self) -> str:
        named = "splits" if self.splits == "combinatorial" else "folds" if self.n_folds > 1 else "fold"
        text = f"{self.strategy} {self.symbol}".strip() + f", {self.n_folds:,} {self.splits} {named}, "
        text += f"each the best of {self.n_trials:,} trials by {self.metric}"
        ratio = [format_metric("sharpe", value) for value in (self.out_of_sample_sharpe, self.in_sample_sharpe)]
        text += f"; Sharpe {ratio[0]} out of sample, {ratio[1]} in sample, efficiency {_ratio_text(self.efficiency)}"
        if len(self.paths) > 1:
            spread = [_ratio_text(find(self.sharpes)) for find in (np.min, np.median, np.max)]
            text += f"; {len(self.paths):,} paths: Sharpe from {spread[0]} to {spread[2]}, median {spread[1]}"
        if self.n_flat:
            text += f"; flat in {self.n_flat:,} of the {self.n_folds:,}, where no trial could be chosen"
        return text + (f"; the last {self.n_untested:,} bars are not tested" if self.n_untested else "")

    def _repr_html_(self) -> str:
        folds, stability = self.folds.copy(), self.stability.copy()
        for name in folds.columns.intersection(["train_start", "train_end", "test_start", "test_end"]):
            folds[name] = [bar_text(pd.Index(folds[name]), at) for at in range(len(folds))]
        for name in ("in_sample", "out_of_sample"):
            folds[name] = [format_metric(self.metric, value) for value in folds[name]]
        stability["share"] = [format_value(value, "fraction") for value in stability["share"]]
        stability["spread"] = [_ratio_text(value) for value in stability["spread"]]
        tables = "".join(table.to_html(na_rep="n/a", notebook=True) for table in (folds, stability) if len(table))
        return f"<p>{html.escape(self._headline())}</p>{tables}"


def _ratio_text(value: float) -> str:
    return format_value(float(value), "ratio")


# ---- the search ------------------------------------------------------------------------------------------------------


class Search(NamedTuple):
    """What is searched, and by what."""

    asked: Question
    trials: Trials
    metric: str
    prices: Any  # as they were given

    @property
    def job(self) -> Job:
        return self.trials.job

    @property
    def account(self) -> Account:
        return self.trials.account


class Best(NamedTuple):
    """The best of some combinations, by window."""

    values: np.ndarray  # float64[n_windows]  -inf where there is none
    numbers: np.ndarray  # int64[n_windows]  -1 where there is none
    tried: np.ndarray  # bool[n_combinations]  False for those that are refused


class Choice(NamedTuple):
    """The combination that each split has chosen, and from how many."""

    numbers: np.ndarray  # int64[n_splits]  -1 for none
    n_trials: int
    n_refused: int
    n_excluded: int


class Own(NamedTuple):
    """What the chosen trials did in runs of their own, by split; NaN and flat where there is none."""

    targets: list[list[np.ndarray]]  # target positions on each run of test bars
    in_sample: np.ndarray
    in_sample_sharpe: np.ndarray
    out_of_sample: np.ndarray


def _search(
    prices: Any,
    strategy: Any,
    grid: Any,
    where: Any,
    memory: Any,
    executor: Any,
    metric: Any,
    settings: Mapping[str, Any],
) -> Search:
    """The arguments checked, as `run_grid` does."""
    check_metric(metric)
    asked = read_search(strategy, grid, where, settings, ("sharpe",), memory, executor, n_results=0)
    return Search(asked, Trials(asked.on(prices), n_threads()), metric, prices)


def _choose(search: Search, splits: list[Split], told: dict[str, Any]) -> Choice:
    """The best combination on the training bars of each split; notes in the ledger what was tried."""
    job, asked, space = search.job, search.asked, search.job.space
    identity = identify(job, asked.where, told) if is_kept() else None
    work = functools.partial(find_best, metric=search.metric, layout=lay_out([split.train for split in splits]))
    values, numbers = np.full(len(splits), -np.inf), np.full(len(splits), -1)
    n_tried, n_wanted, refused = 0, 0, space.size

    def left(block: np.ndarray) -> np.ndarray:
        return block[asked.chosen(block)]

    for batch, best in try_all(search.trials, left, work, asked.executor):
        higher = (best.values > values) | ((best.values == values) & (best.numbers < numbers))
        values[higher], numbers[higher] = best.values[higher], best.numbers[higher]
        n_wanted, n_tried = n_wanted + batch.size, n_tried + int(best.tried.sum())
        refused = min(refused, *batch[~best.tried][:1].tolist(), space.size)
    if not n_tried:
        raise ParameterError(why_none(job, refused if n_wanted else None))
    winners = space.codes(np.unique(numbers[numbers >= 0]))
    if search.trials.in_doubt and not search.trials.confirm(winners):
        return _choose(search, splits, told)
    if identity:
        note(identity, job, asked.where, search.trials.settings, n_tried, "walk_forward", splits=told)
    return Choice(numbers, n_tried, n_wanted - n_tried, space.size - n_wanted)


def find_best(trials: Trials, numbers: np.ndarray, metric: str, layout: Layout) -> Best:
    """The best of some combinations in each window."""
    n_windows = layout.offsets.size - 1
    best = Best(np.full(n_windows, -np.inf), np.full(n_windows, -1), np.empty(numbers.size, dtype=bool))
    for places in _chunks(trials.job, np.arange(numbers.size), layout):
        state, returns = trials.returns(trials.job.space.codes(numbers[places]))
        best.tried[places] = state == DONE
        if not len(returns):
            continue
        values = window_values(metric, sum_windows(returns, trials.account, layout), trials.account, to_choose=True)
        values = np.where(np.isnan(values), -np.inf, values)
        row = values.argmax(axis=0)
        highest = values[row, np.arange(n_windows)]
        higher = highest > best.values
        best.values[higher] = highest[higher]
        best.numbers[higher] = numbers[places[best.tried[places]]][row[higher]]
    return best


def _chunks(job: Job, items: np.ndarray, layout: Layout) -> Iterator[np.ndarray]:
    """As many trials at a time as there is room for."""
    size = 8 * (4 * len(job.bars) + 2 * N_SUMS * layout.offsets.size)
    most = max(min(CHUNK, job.room // (2 * size)), 1)
    return (items[start : start + most] for start in range(0, len(items), most))


def _look_up(search: Search, choice: Choice, splits: list[Split]) -> Own:
    """The chosen trials once more: their target positions on the test bars, and their metrics on either side."""
    n = len(splits)
    layout = lay_out([split.train for split in splits] + [split.test for split in splits])
    sums = np.zeros((2 * n, N_SUMS))  # of no returns
    targets = [[np.zeros(stop - start) for start, stop in split.test] for split in splits]
    for numbers in _chunks(search.job, np.unique(choice.numbers[choice.numbers >= 0]), layout):
        codes = search.job.space.codes(numbers)
        _, lines = search.trials.targets(codes)
        found = sum_windows(search.trials.returns_of(lines), search.account, layout)
        for k in np.flatnonzero(np.isin(choice.numbers, numbers)):
            row = int(np.searchsorted(numbers, choice.numbers[k]))
            targets[k] = [lines[row, start:stop].copy() for start, stop in splits[k].test]
            sums[[k, n + k]] = found[row, [k, n + k]]
    wanted = (("sharpe", sums[:n]), (search.metric, sums[n:]))
    in_sample = window_values(search.metric, sums[:n], search.account)
    return Own(targets, in_sample, *(window_values(name, part, search.account) for name, part in wanted))


# ---- what comes out --------------------------------------------------------------------------------------------------


def _stitch(target: np.ndarray, runs: Runs, pieces: list[np.ndarray]) -> None:
    for (start, stop), piece in zip(runs, pieces, strict=True):
        target[start:stop] = piece


def _run(search: Search, target: np.ndarray, first: int, what: str, told: dict[str, Any]) -> BacktestResult:
    """One account for the target positions from a bar on; sizing by volatility is shown what it looks back on."""
    settings = search.trials.settings
    looks_back = settings["lookback"] if settings["sizing"] == "volatility" else 0
    part = slice(max(first - looks_back, 0), target.size)
    given = {**search.job.given, "periods_per_year": settings["periods_per_year"]}
    for name in STOPS:
        if settings[name] == BY_BAR:
            given[name] = given[name].iloc[part] if isinstance(given[name], pd.Series) else given[name][part]
    result = run_backtest(search.prices.iloc[part], target[part], **given)
    return dataclasses.replace(result, strategy=f"{function_name(search.job.strategy)}, {what}", params=told)


def _result(
    search: Search,
    choice: Choice,
    own: Own,
    *,
    labels: pd.DataFrame,
    out_of_sample: np.ndarray,
    **known: Any,
) -> WalkForwardResult:
    """What both ways of splitting have in common."""
    space = search.job.space
    codes = space.codes(np.maximum(choice.numbers, 0))
    chosen = tuple(
        space.params(code) if number >= 0 else None for number, code in zip(choice.numbers, codes.tolist(), strict=True)
    )
    columns = {}
    for name in space.names:
        values = pd.Series([params[name] if params else np.nan for params in chosen], dtype=object, index=labels.index)
        columns[name] = values if None in chosen else values.infer_objects()
    metrics = pd.DataFrame({"in_sample": own.in_sample, "out_of_sample": out_of_sample}, index=labels.index)
    sharpes = own.in_sample_sharpe[choice.numbers >= 0]
    return WalkForwardResult(
        strategy=function_name(search.job.strategy),
        symbol=symbol_of(search.job),
        metric=search.metric,
        folds=pd.concat([labels, pd.DataFrame(columns, index=labels.index), metrics], axis=1),
        chosen=chosen,
        stability=_stability(space, [params for params in chosen if params is not None]),
        n_trials=choice.n_trials,
        n_refused=choice.n_refused,
        n_excluded=choice.n_excluded,
        in_sample_sharpe=float(sharpes.mean()) if sharpes.size else math.nan,
        **known,
    )


def _stability(space: Space, chosen: list[dict[str, Any]]) -> pd.DataFrame:
    """How the chosen values of each parameter differ from fold to fold."""
    rows = {}
    for name, grid in zip(space.names, space.values, strict=True):
        values = [params[name] for params in chosen]
        (most_frequent, times), *_ = collections.Counter(values).most_common(1) or [(math.nan, 0)]
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in grid)
        reach = float(max(grid) - min(grid)) if numbers else 0.0
        spread = statistics.pstdev(values) / reach if values and reach > 0.0 else math.nan
        rows[name] = (len(set(values)), most_frequent, times / len(values) if values else math.nan, spread)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["distinct", "most_frequent", "share", "spread"])
    return table.rename_axis("parameter")
