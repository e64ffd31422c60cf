"""The command `backgrid`: words to a request, a response to text, an error to an exit code."""

import contextlib
import difflib
import logging
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backgrid import standby
from backgrid.errors import BackgridError, ParameterError

if TYPE_CHECKING:
    from backgrid.models import BacktestRequest
    from backgrid.result import BacktestResult

NAME_VALUE: dict[str, Any] = {"type": (str, str), "multiple": True, "metavar": "NAME VALUE"}
RUN_PARAMETERS = """
\b
Names for -p are the parameters of the strategy, and:
  fills and costs  fill fees slippage fixed_fee cash whole_units
  stops            stop_loss take_profit trailing_stop
  sizes            sizing size lookback leverage rebalance
  rates            cash_rate borrow_rate risk_free
  bars             adjusted periods_per_year

`backgrid templates` says what they mean, and which strategies there are.
"""


@contextlib.contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """A wrong request exits 2, a failed run 1; one line each, no traceback."""
    try:
        yield
    except BackgridError as error:
        click.echo(f"backgrid: {' '.join(str(error).split())}", err=True)
        sys.exit(2 if isinstance(error, ParameterError) else 1)
    except KeyboardInterrupt:
        click.echo("backgrid: stopped", err=True)
        sys.exit(130)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="backgrid")
def main() -> None:
    """Backtests you can believe: prices in, one reproducible HTML report out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end what was started


@main.command()
@click.argument("template", default="report_backtest")
@click.option("-p", "--param", "words", **NAME_VALUE, help="A parameter of the template, repeatable.")
@click.option("-f", "--file", "file", type=click.Path(dir_okay=False), help="YAML file of parameters; -p wins over it.")
@click.option("--out", help="Folder to write to.  [default: BACKGRID_REPORTS]")
def report(template: str, words: tuple, file: str | None, out: str | None) -> None:
    """Run TEMPLATE and print the path of its report.html."""
    with errors_as_exit_codes():
        from backgrid.templates import check_parameters, find_template, parse_words, read_parameters

        declared = read_parameters(find_template(template))
        given = check_parameters(declared, {**_read_yaml(file), **parse_words(declared, _once(words))})
        with standby.ahead():  # it imports what this process imports next
            from backgrid.report import run_report  # loads pandas and numba, which a misspelt name need not wait for

            click.echo(run_report(template, given, out=out).html)


@main.command()
@click.argument("report")
def rerun(report: str) -> None:
    """Run REPORT again from its snapshots, downloading nothing, and compare: a folder, or its report.html.

    Exits 0 if the same bytes come out; 1 if not, naming the first thing that differs; 2 if there is no such report.
    It runs the code of the report, so give only one that you trust.
    """
    with errors_as_exit_codes():
        from backgrid.reproduce import rerun_report

        found = rerun_report(report)
        click.echo(found)
        sys.exit(0 if found.identical else 1)


@main.command()
@click.argument("a")
@click.argument("b")
def diff(a: str, b: str) -> None:
    """Say in what the reports A and B differ, and why: folders, or their report.html.

    Exits 0 if nothing differs, 1 if something does, 2 if one of them is no report.
    """
    with errors_as_exit_codes():
        from backgrid.reproduce import diff_reports

        found = diff_reports(a, b)
        click.echo(found)
        sys.exit(0 if found.same else 1)


@main.command()
@click.argument("table")
@click.option("--workers", type=int, help="Processes that make reports.  [default: one a core]")
@click.option("--out", help="Folder to write to.  [default: BACKGRID_REPORTS]")
@click.option("--resume/--no-resume", default=True, show_default=True, help="Leave finished reports as they are.")
@click.option("--cell-timeout", type=float, help="Longest that a cell may run, in seconds.  [default: 3600]")
def batch(table: str, **terms: Any) -> None:
    """Make a report of each row of TABLE, a CSV, YAML or JSON file, and print the path of their index.html.

    Columns are parameters of report_backtest, or of the template that a column `template` names; YAML and JSON hold a
    list of rows, or a grid of lists. Run again, it goes on where it was stopped. Exits 1 if a report failed.
    """
    with errors_as_exit_codes():
        from backgrid.batch import run_batch

        logging.basicConfig(format="%(message)s")
        logging.getLogger("backgrid").setLevel(logging.INFO)  # a line a report
        given = {name: value for name, value in terms.items() if value is not None}
        result = run_batch(table, **given)
        click.echo(result.index)
        sys.exit(1 if result.failed else 0)


@main.command(epilog=RUN_PARAMETERS)
@click.argument("symbol")
@click.option("--strategy", default="ma_crossover", show_default=True, help="A registered name.")
@click.option("-p", "--param", "words", **NAME_VALUE, help="A parameter, repeatable; see below.")
@click.option("--start", help="First session, as 2019-01-02.")
@click.option("--end", help="Last session, inclusive.")
@click.option("--interval", help="Length of a bar.  [default: 1d]")
@click.option("--source", help="yahoo, sample, or a path.  [default: BACKGRID_SOURCE]")
@click.option("--json", "as_json", is_flag=True, help="Print the response as JSON.")
def run(symbol: str, strategy: str, words: tuple, as_json: bool, **fields: Any) -> None:
    """Backtest SYMBOL and print its metrics."""
    with errors_as_exit_codes():
        from backgrid.models import BacktestRequest, build_request
        from backgrid.run import backtest_request, run_request

        values = {name: _literal(text) for name, text in _once(words).items()}
        fields = {name: value for name, value in fields.items() if value is not None}
        own = {name: values.pop(name) for name in list(values) if name in BacktestRequest.model_fields}
        if placed := {"symbol", "strategy", "params"} & own.keys():
            raise ParameterError(f"{min(placed)} cannot be given by -p: backgrid run SYMBOL --strategy NAME")
        if twice := own.keys() & fields.keys():
            raise ParameterError(f"{min(twice)} is given twice, by --{min(twice)} and by -p")
        request = build_request(**{**fields, **own}, symbol=symbol, strategy=strategy, params=values)
        _check_names(request)
        click.echo(run_request(request).model_dump_json(indent=2) if as_json else _as_text(backtest_request(request)))


@main.command()
@click.argument("strategy")
@click.option("--symbol", default="AAPL", show_default=True, help="Whose prices to check it on.")
@click.option("-p", "--param", "words", **NAME_VALUE, help="A parameter of the strategy, repeatable.")
@click.option("--start", help="First session, as 2019-01-02.")
@click.option("--end", help="Last session, inclusive.")
@click.option("--interval", default="1d", show_default=True, help="Length of a bar.")
@click.option("--source", default="sample", show_default=True, help="sample, which needs no network; yahoo, or a path.")
def check(strategy: str, symbol: str, words: tuple, **fields: Any) -> None:
    """Check whether STRATEGY looks ahead: a registered name, or path/to/file.py:function.

    Exits 0 if it is clean; 1 if it looks ahead, or gives other signals when it is called again; 2 if it cannot be run,
    or if nothing could be compared, as where it refuses fewer bars.
    """
    with errors_as_exit_codes():
        from backgrid.data import fetch_ohlcv
        from backgrid.lookahead import check_lookahead, describe_error, load_strategy

        function = load_strategy(strategy)
        params = {name: _literal(text) for name, text in _once(words).items()}
        prices = fetch_ohlcv(symbol, **fields)
        try:
            found = check_lookahead(function, prices, params=params)
        except Exception as error:
            said = str(error) if isinstance(error, BackgridError) else f"{strategy} failed with {describe_error(error)}"
            raise ParameterError(said) from error
        click.echo(found)
        sys.exit(0 if found.clean else 1 if found.conclusive else 2)


@main.command()
@click.argument("symbols", nargs=-1, required=True)
@click.option("--start", help="First session, as 2019-01-02.")
@click.option("--end", help="Last session, inclusive.")
@click.option("--interval", default="1d", show_default=True, help="Length of a bar.")
@click.option("--source", help="yahoo, sample, or a path.  [default: BACKGRID_SOURCE]")
def fetch(symbols: tuple[str, ...], **fields: Any) -> None:
    """Fetch SYMBOLS into the cache and say what came."""
    with errors_as_exit_codes():
        from tqdm import tqdm

        from backgrid.bars import bar_text, check_symbol
        from backgrid.data import fetch_ohlcv

        checked = [check_symbol(symbol) for symbol in symbols]
        failed: list[BackgridError] = []
        for symbol in tqdm(checked, unit="symbol", disable=len(checked) < 2 or not sys.stderr.isatty()):
            try:
                prices = fetch_ohlcv(symbol, **fields)
            except ParameterError:
                raise
            except BackgridError as error:
                failed.append(error)
                tqdm.write(f"backgrid: {' '.join(str(error).split())}", file=sys.stderr)
                continue
            first, last = bar_text(prices.index, 0), bar_text(prices.index, len(prices) - 1)
            notes = "".join(f"\n  {note}" for note in prices.attrs["notes"])
            tqdm.write(f"{symbol}: {len(prices):,} bars, {first} to {last}{notes}")
        sys.exit(1 if failed else 0)


@main.command()
def templates() -> None:
    """List the templates with their parameters: name, type, default, meaning."""
    with errors_as_exit_codes():
        from backgrid.templates import list_templates, read_parameters

        for name, path in list_templates().items():
            declared = read_parameters(path)
            click.echo(name)
            rows = [(parameter, p.type, repr(p.default), p.meaning) for parameter, p in declared.items()]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:3]
            for *columns, meaning in rows:
                padded = (f"{column:{width}}" for column, width in zip(columns, widths, strict=True))
                click.echo(f"  {'  '.join(padded)}  {meaning}".rstrip())


@main.command()
def settings() -> None:
    """List the settings: environment variable, value in force, meaning."""
    from backgrid.settings import SETTINGS, setting

    for name, (default, meaning) in SETTINGS.items():
        value = setting(name)
        told = "***" if value and name.endswith("SECRET") else _without_password(value)
        otherwise = "" if value == default else f"  (default {default or 'none'})"
        click.echo(f"{name}={told}{otherwise}\n  {meaning}")


def _without_password(url: str) -> str:
    """A database's or broker's address as it may be shown, however it was written."""
    return re.sub(r"(?<=password=)[^&]*", "***", re.sub(r"^(\w[\w+.-]*:/*[^:@]*:).*@", r"\1***@", url))


@main.command()
@click.argument("name")
@click.option("--template", help="A template to copy; else a short notebook with a strategy of its own.")
def new(name: str, template: str | None) -> None:
    """Write a notebook NAME of one's own that `backgrid report NAME` runs, and print its path."""
    with errors_as_exit_codes():
        from backgrid.scaffold import new_notebook

        click.echo(new_notebook(name, template))


REPORTS: dict[str, Any] = {"multiple": True, "metavar": "DIR"}


@main.group()
def data() -> None:
    """Look after the prices on disk: snapshots that reports were made from, and cached ranges."""


@data.command("ls")
@click.argument("symbol", required=False)
@click.option("--reports", **REPORTS, help="Folder of reports, repeatable.  [default: BACKGRID_REPORTS]")
def data_ls(symbol: str | None, reports: tuple[str, ...]) -> None:
    """List snapshots and cached ranges, all or of SYMBOL, and the reports that use them."""
    with errors_as_exit_codes():
        from backgrid.snapshots import list_files

        lines, unreadable = list_files(symbol, _users(reports))
        click.echo("\n".join(lines) or "nothing is kept; backgrid fetch SYMBOL fetches and keeps prices")
        if unreadable:
            click.echo(f"backgrid: {unreadable:,} more cannot be read; backgrid data verify names them", err=True)


@data.command("diff")
@click.argument("a")
@click.argument("b", required=False)
def data_diff(a: str, b: str | None) -> None:
    """Say how snapshot B differs from snapshot A, each given by the first digits of its hash.

    With one argument, a SYMBOL, its last snapshot is compared with the one before. Exits 0 if they hold the same bars,
    1 if not, 2 if they cannot be compared.
    """
    with errors_as_exit_codes():
        from backgrid.revisions import HASH_SHOWN, describe_revision
        from backgrid.snapshots import diff_snapshots, find_snapshot, last_two

        old, new = last_two(a) if b is None else (find_snapshot(a), find_snapshot(b))
        found = diff_snapshots(old, new)
        shown = [hashed[:HASH_SHOWN] for hashed in (old, new)]
        for line in (" -> ".join(shown), *(describe_revision(found, *shown) or ["the same bars"])):
            click.echo(line)
        sys.exit(0 if found.same else 1)


@data.command("verify")
@click.option("--reports", **REPORTS, help="Folder of reports, repeatable.  [default: BACKGRID_REPORTS]")
def data_verify(reports: tuple[str, ...]) -> None:
    """Read every snapshot and cached range, and move aside what is damaged.

    Exits 1 if anything is.
    """
    with errors_as_exit_codes():
        from backgrid.snapshots import verify_files

        found = verify_files(_users(reports))
        for path, what in found.damaged:
            click.echo(f"{path} {what}")
        click.echo(f"{found.intact:,} intact, {len(found.damaged):,} not")
        sys.exit(1 if found.damaged else 0)


@data.command("gc")
@click.option("--reports", **REPORTS, help="Folder of reports, repeatable: name all.  [default: BACKGRID_REPORTS]")
@click.option("--dry-run", is_flag=True, help="Remove nothing, and say what would go.")
def data_gc(reports: tuple[str, ...], dry_run: bool) -> None:
    """Remove snapshots that no report uses, unless they were asked for within a day; stale and damaged files too."""
    with errors_as_exit_codes():
        from backgrid.snapshots import collect_garbage, report_folders

        freed = collect_garbage(report_folders(reports), dry_run=dry_run)
        verb = "would remove" if dry_run else "removed"
        for path in (*freed.snapshots, *freed.temporary, *freed.quarantined):
            click.echo(f"{verb} {path}")
        click.echo(
            f"{verb} {freed.size / 1000:,.1f} kB; kept {freed.used:,} snapshots in use, {freed.young:,} of the last day"
        )


def _users(reports: tuple[str, ...]) -> dict[str, list[str]]:
    """Reports of each hash; none, and a word of it, where they do not say."""
    from backgrid.snapshots import read_users, report_folders

    try:
        return read_users(report_folders(reports))
    except ParameterError as error:
        click.echo(f"backgrid: which reports use them is not known: {error}", err=True)
        return {}


def _once(words: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Names and words, or ParameterError for a name that is given twice."""
    given = dict(words)
    if len(given) < len(words):
        names = [name for name, _ in words]
        raise ParameterError(f"{next(name for name in names if names.count(name) > 1)} is given twice by -p")
    return given


def _check_names(request: "BacktestRequest") -> None:
    """Point from a misspelt field of the request to the right one; the strategy speaks of its own parameters only."""
    from backgrid.strategies import get_strategy, strategy_defaults

    own = strategy_defaults(get_strategy(request.strategy.value))
    for name in sorted(request.params.keys() - own.keys()):
        near = difflib.get_close_matches(name, {"adjusted", *request.terms(), *own}, n=1)
        if near and near[0] not in own:
            raise ParameterError(f"neither {request.strategy.value} nor a run has {name!r}; did you mean {near[0]!r}?")


def _read_yaml(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    import yaml

    try:
        values = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ParameterError(f"parameter file {file}: {str(error)[:200]}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ParameterError(f"parameter file {file} must hold 'name: value' lines")
    return values


def _literal(text: str) -> Any:
    """A word as the number or truth value that it spells, else as it is."""
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def _as_text(result: "BacktestResult") -> str:
    """What was run, and its metrics."""
    from backgrid.bars import bar_text
    from backgrid.metrics import METRICS, format_metric, group_metrics
    from backgrid.page import asked_for

    index = result.equity.index
    span = f"{bar_text(index, 0)} to {bar_text(index, len(index) - 1)}, {len(index):,} bars"
    lines = [f"{result.title}, {span}", asked_for(result, "no costs are charged")]
    for group, metrics in group_metrics(result.metrics).items():
        lines += [group, *(f"  {METRICS[n].label:26}{format_metric(n, v):>14}" for n, v in metrics.items())]
    return "\n".join(lines)


# ---- the jobs service ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def needing_jobs() -> Iterator[None]:
    """One line where the extra is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("sqlalchemy", "alembic", "fastapi", "uvicorn", "celery", "jwt"):
            raise
        raise ParameterError("the jobs service is not installed: pip install 'backgrid[jobs]'") from error


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
def serve(host: str, port: int) -> None:
    """Serve backtests over HTTP: POST /api/v1/jobs. Its settings are listed by `backgrid settings`."""
    with errors_as_exit_codes(), needing_jobs():
        from backgrid.jobs.service import start_service

        start_service(host, port)


@main.command()
@click.option("-c", "--concurrency", default=2, show_default=True, type=click.IntRange(1, 256), help="Processes.")
def worker(concurrency: int) -> None:
    """Run the jobs of a service, which needs BACKGRID_BROKER_URL and BACKGRID_DATABASE_URL."""
    with errors_as_exit_codes(), needing_jobs():
        from backgrid.jobs.service import start_workers

        start_workers(concurrency)


@main.command()
@click.argument("url", default="http://127.0.0.1:8000")
@click.option("--token", envvar="BACKGRID_TOKEN", help="Where the service asks for one.  [env: BACKGRID_TOKEN]")
def smoke(url: str, token: str | None) -> None:
    """Ask the service at URL five questions, and exit 1 at the first wrong answer."""
    with errors_as_exit_codes():
        from backgrid.jobs.smoke import smoke as ask

        for line in ask(url, token):
            click.echo(line)
