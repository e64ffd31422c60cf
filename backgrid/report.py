"""Reports: a template executed by papermill becomes a folder with a notebook, one HTML file, and the result as JSON.

The same request gives the same folder and the same bytes of report.ipynb, report.html and result.json: whatever the
tools write about clocks, paths and ids is taken out, and only run_log.json tells when and how long.
"""

import base64
import datetime as dt
import hashlib
import importlib.metadata
import inspect
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.preprocessors.sanitize import SanitizeHTML
from papermill.exceptions import PapermillExecutionError
from traitlets import default
from traitlets.config import Config

from backgrid.engine import backtest_request
from backgrid.errors import ParameterError, ReportError, did_you_mean
from backgrid.models import BacktestRequest, build_request
from backgrid.page import RESULT_TYPE, versions
from backgrid.result import BacktestResult
from backgrid.settings import setting
from backgrid.strategies import STRATEGIES, get_strategy, strategy_defaults
from backgrid.templates import check_parameters, find_template, read_parameters

PAGE = Path(__file__).parent / "html"
SVG = "http://www.w3.org/2000/svg"


class Report(NamedTuple):
    """A finished report.

    Attributes
    ----------
    path : Path
        Its folder.
    html : Path
        report.html in it.
    result : BacktestResult or None
        What its notebook recorded; None for a template that records none.
    """

    path: Path
    html: Path
    result: BacktestResult | None


def run_report(
    template: str | Path = "report_backtest",
    parameters: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
) -> Report:
    """Execute a template and write its report.

    Parameters
    ----------
    template : str or path
        Name of a template in the working folder's notebooks/ or in the package, or the path of a notebook.
    parameters : dict, optional
        Values for the names that its parameters cell declares; its defaults for the rest.
    out : path, optional
        Folder to write to, BACKGRID_REPORTS if not given. The report becomes <symbol>_<strategy>_<hash>/ in it, with
        report.ipynb, report.html, result.json, provenance.json and run_log.json.

    Returns
    -------
    Report

    Raises
    ------
    ParameterError, DataFetchError, PricesError
        For a request that cannot be run: before a kernel starts, and with nothing written.
    ReportError
        If the notebook fails or its kernel dies; the partial notebook is then in <folder>.failed/.
    """
    path = find_template(template)
    declared = read_parameters(path)
    given = check_parameters(declared, parameters or {})
    complete = {name: given.get(name, parameter.default) for name, parameter in declared.items()}
    if {"symbol", "strategy"} <= set(declared):
        request = _preflight(complete, given)
        given.update({"symbol": request.symbol} if "symbol" in given else {})
        complete["symbol"] = request.symbol
    folder = Path(out if out is not None else setting("BACKGRID_REPORTS")) / _folder_name(path, complete, given)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".run-", dir=folder.parent) as work:
            return _run(path, complete, given, folder, Path(work))
    except OSError as error:
        raise ReportError(f"cannot write {folder}: {error}. Free space, or give another folder.") from error


def render_html(notebook: nbformat.NotebookNode) -> str:
    """An executed notebook as one HTML page that needs nothing else."""
    body, _ = ReportExporter().from_notebook_node(notebook)
    return body


# ---- from request to folder ------------------------------------------------------------------------------------------


def _preflight(complete: Mapping[str, Any], given: Mapping[str, Any]) -> BacktestRequest:
    """Run the request without a notebook: whatever is wrong with it shows here, in milliseconds."""
    fields = {name: value for name, value in complete.items() if name in BacktestRequest.model_fields}
    request = build_request(**fields)
    wanted = strategy_defaults(get_strategy(request.strategy.value))
    for name in given:
        if name not in fields and name not in wanted and any(name in strategy_defaults(f) for f in STRATEGIES.values()):
            raise ParameterError(f"{request.strategy.value} has no parameter {name}{did_you_mean(name, wanted)}")
    params = {name: complete[name] for name in wanted if name in complete}
    backtest_request(request.model_copy(update={"params": {**params, **request.params}}))
    return request


def _folder_name(path: Path, complete: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    key = json.dumps([path.stem, complete, sorted(given)], sort_keys=True)
    about = [str(complete[name]) for name in ("symbol", "strategy") if name in complete] or [path.stem]
    return f"{'_'.join(about)}_{hashlib.sha256(key.encode()).hexdigest()[:10]}"


def _run(path: Path, complete: Mapping[str, Any], given: Mapping[str, Any], folder: Path, work: Path) -> Report:
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    partial = work / "report.ipynb"
    try:
        notebook = _execute(path, partial, given)
    except ReportError as error:
        failed = folder.with_name(f"{folder.name}.failed")
        _keep_failed(failed, partial, str(error))
        raise ReportError(f"{error}. What ran is in {failed / 'report.ipynb'}") from error.__cause__
    recorded = _recorded(notebook)
    notebook.metadata["title"] = (
        " ".join(str(complete[n]) for n in ("symbol", "strategy") if n in complete) or path.stem
    )
    files = {
        "result.json": (recorded or "null") + "\n",
        "provenance.json": json.dumps(_provenance(path, complete, recorded), indent=2) + "\n",
        "run_log.json": json.dumps({"started": started.isoformat(), "seconds": time.perf_counter() - clock}) + "\n",
        "report.ipynb": nbformat.writes(notebook) + "\n",
        "report.html": render_html(notebook),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (work / name).write_text(text, encoding="utf-8")
    for name in files:
        os.replace(work / name, folder / name)
    shutil.rmtree(folder.with_name(f"{folder.name}.failed"), ignore_errors=True)
    return Report(folder, folder / "report.html", BacktestResult.from_json(recorded) if recorded else None)


def _execute(path: Path, partial: Path, given: Mapping[str, Any]) -> nbformat.NotebookNode:
    """The executed notebook without what differs from run to run; ReportError if it did not run to its end."""
    with tempfile.TemporaryDirectory(prefix="bg-") as sockets:  # its own, since jupyter names sockets alike in all runs
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        try:
            notebook = papermill.execute_notebook(
                path, partial, dict(given), kernel_name="python3", progress_bar=False, config=config
            )
        except PapermillExecutionError as error:
            raise ReportError(
                f"{path.stem}: cell {error.exec_count} failed with {error.ename}: {error.evalue}"
            ) from error
        except DeadKernelError as error:
            raise ReportError(f"{path.stem}: the kernel died; it may have run out of memory") from error
    return _settled(notebook)


def _settled(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without clocks, paths, ids and versions of tools."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if "injected-parameters" in (tags or []):
            cell["id"] = f"injected-{number:02d}"
    return notebook


def _recorded(notebook: nbformat.NotebookNode) -> str | None:
    """The result that the notebook recorded last."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [output["data"][RESULT_TYPE] for output in outputs if RESULT_TYPE in output.get("data", {})]
    return "".join(found[-1]) if found else None


def _provenance(path: Path, complete: Mapping[str, Any], recorded: str | None) -> dict[str, Any]:
    """Everything that determines the report."""
    result = json.loads(recorded) if recorded else {}
    strategy = STRATEGIES.get(result.get("strategy", ""))
    source = inspect.getsource(strategy) if strategy else ""
    requirements = importlib.metadata.requires("backgrid") or []
    names = sorted({re.split(r"[^A-Za-z0-9_-]", line)[0] for line in requirements if "extra ==" not in line})
    return {
        "template": path.stem,
        "template_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parameters": complete,
        "snapshot": result.get("data", {}).get("snapshot"),
        "prices_hash": result.get("prices_hash"),
        "strategy_sha256": hashlib.sha256(source.encode()).hexdigest() if source else None,
        "versions": {**versions(), **{name: importlib.metadata.version(name) for name in names}},
    }


def _keep_failed(failed: Path, partial: Path, message: str) -> None:
    failed.mkdir(parents=True, exist_ok=True)
    if partial.is_file():
        os.replace(partial, failed / "report.ipynb")
    (failed / "error.txt").write_text(message + "\n", encoding="utf-8")


# ---- from notebook to page -------------------------------------------------------------------------------------------


class ReportExporter(HTMLExporter):
    """nbconvert exporter `backgrid`: one offline page, strict Content-Security-Policy, everything sanitised."""

    export_from_notebook = "Backgrid report"

    @default("template_name")
    def _template_name_default(self) -> str:
        return PAGE.name

    @default("extra_template_basedirs")
    def _extra_template_basedirs_default(self) -> list[str]:
        return [str(PAGE.parent)]

    @default("anchor_link_text")
    def _anchor_link_text_default(self) -> str:
        return "#"

    @property
    def default_config(self) -> Config:
        own = Config({"TagRemovePreprocessor": {"enabled": True, "remove_cell_tags": {"notebook-only"}}})
        own.merge(super().default_config)
        return own

    def default_filters(self) -> Any:
        yield from super().default_filters()
        yield "safe_html", _sanitizer().sanitize_html_tags
        yield "safe_svg", safe_svg

    def from_notebook_node(self, nb: Any, resources: Any = None, **kwargs: Any) -> Any:
        script = (PAGE / "script.js").read_text(encoding="utf-8")
        page = {
            "style": (PAGE / "style.css").read_text(encoding="utf-8"),
            "script": script,
            "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "title": nb.metadata.get("title") or (resources or {}).get("metadata", {}).get("name", "Report"),
            "contents": _contents(nb),
        }
        return super().from_notebook_node(nb, {**(resources or {}), "page": page}, **kwargs)


def safe_svg(svg: str) -> str:
    """An SVG drawing without anything that can run or load: known elements and harmless attributes only."""
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError:
        return ""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    _strip(root)
    return ElementTree.tostring(root, encoding="unicode")


SHAPES = ["path", "rect", "circle", "line", "polyline", "text", "tspan", "use"]
DRAWN = {f"{{{SVG}}}{name}" for name in ["svg", "g", "defs", "clipPath", "title", *SHAPES]}


def _strip(element: ElementTree.Element) -> None:
    for name, value in list(element.attrib.items()):
        plain = name.rsplit("}", 1)[-1].lower()
        foreign = plain == "href" and not value.startswith("#")
        if plain.startswith("on") or foreign or re.search(r"url\(\s*['\"]?[^#'\"\s]|expression|javascript:", value):
            del element.attrib[name]
    for child in list(element):
        if child.tag not in DRAWN:
            if child.tag != f"{{{SVG}}}style":
                element.remove(child)
                continue
            child.text = "" if re.search(r"@import|url\(", child.text or "") else child.text
        _strip(child)


def _contents(notebook: Any) -> list[tuple[str, str]]:
    """Anchor and text of each second-level heading; anchors as nbconvert makes them."""
    markdown = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = re.findall(r"^##\s+(.+?)\s*$", markdown, flags=re.MULTILINE)
    return [(heading.replace(" ", "-"), heading) for heading in headings]


def _sanitizer() -> SanitizeHTML:
    drawing = ["svg", "polyline", "path", "g", "line"]
    tables = ["table", "caption", "thead", "tbody", "tr", "th", "td"]
    blocks = [
        "p",
        "div",
        "header",
        "h1",
        "h2",
        "h3",
        "h4",
        "ul",
        "ol",
        "li",
        "dl",
        "dt",
        "dd",
        "pre",
        "hr",
        "blockquote",
    ]
    inline = ["a", "b", "br", "code", "em", "i", "small", "span", "strong"]
    folds = ["details", "summary", "figure", "figcaption"]
    common = ["class", "id", "style", "title", "role", "aria-label", "aria-hidden", "tabindex"]
    drawn = ["viewBox", "width", "height", "points", "d", "fill", "stroke", "stroke-width"]
    return SanitizeHTML(
        tags=[*drawing, *tables, *blocks, *inline, *folds],
        attributes={
            "*": common,
            "a": ["href"],
            "th": ["scope", "colspan", "rowspan"],
            "td": ["colspan", "rowspan"],
            **dict.fromkeys(drawing, drawn),
        },
    )
