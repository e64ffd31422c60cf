"""Notebooks: executed by papermill, rendered by nbconvert as one HTML page in which nothing foreign can run.

Importing this costs half a second; `backgrid.report` does so only when a request has been found good.
"""

import base64
import contextlib
import functools
import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pandas as pd
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.provisioning import LocalProvisioner
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.preprocessors.sanitize import SanitizeHTML
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from traitlets import default
from traitlets.config import Config

from backgrid.errors import ReportError
from backgrid.result import RESULT_TYPE
from backgrid.templates import CELL_FILE

PAGE = Path(__file__).parent / "html"
SVG = "http://www.w3.org/2000/svg"
PAINT = ("fill", "stroke", "font", "text-anchor", "opacity", "clip-path")  # properties that place nothing
SHAPES = ["path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "tspan", "use"]
DRAWN = {f"{{{SVG}}}{name}" for name in ["svg", "g", "defs", "clipPath", "title", *SHAPES]}
LOADING = re.compile(r"\\|image-set|url\(\s*['\"]?(?!['\"]?#)|expression|javascript:", re.IGNORECASE)
MOST_SAID = 10_000_000  # by one cell, results that it records left out [bytes]
LONGEST_MESSAGE = 2_000  # of an error [characters]
LONGEST_SOCKET_FOLDER = 60  # the path of a Unix socket may have 107 bytes


class StandbySpec(KernelSpecManager):
    """The only kernel there is; looking for others would import IPython, 0.2 s."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(display_name=kernel_name, language="python")


class StandbyProvisioner(LocalProvisioner):
    """jupyter's way to a kernel: here one that is forked from a process on standby."""

    def __init__(self, standby: Any, fork: Callable[[str], None], manager: AsyncKernelManager) -> None:
        super().__init__(kernel_spec=manager.kernel_spec, parent=manager)
        self.standby, self.fork, self.manager = standby, fork, manager

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        self.process = self.standby  # a process in all that is asked of it here
        self.fork(self.manager.connection_file)
        render_html(nbformat.v4.new_notebook())  # loads the page's templates while the kernel gets ready
        return self.connection_info

    async def wait(self) -> int | None:
        """Without the polling every tenth of a second: it has been killed."""
        self.process = None
        return self.standby.wait()

    async def send_signal(self, signum: int) -> None:
        """Whatever the signal: a kernel of a report is ended, never interrupted."""
        self.standby.kill()


class EndedError(RuntimeError):
    """Why a kernel was ended within a cell."""


class ReportClient(PapermillNotebookClient):
    """papermill's client, which ends a kernel that says more than anyone reads."""

    number = 0  # of the code cell that runs
    said = 0  # bytes that it gave
    ended = ""  # what it did that its kernel was ended

    def process_message(self, msg: dict, cell: Any, cell_index: int) -> Any:
        """Count what a cell prints, or shows other than a result that is recorded whole."""
        if msg["msg_type"] == "execute_input":
            self.number, self.said = self.number + 1, 0
        elif msg["msg_type"] in ("stream", "display_data", "execute_result", "update_display_data", "error"):
            content = msg["content"].get("text") or msg["content"].get("data") or msg["content"].get("traceback", "")
            self.said += 0 if RESULT_TYPE in content else len(str(content))
            if self.said > MOST_SAID:
                self.ended = f"gave more than {MOST_SAID // 10**6} MB of output"
                self.km.provisioner.standby.kill()
                return None
        return super().process_message(msg, cell, cell_index)


class ReportEngine(Engine):
    """papermill's engine with a kernel that is ready, and without a write at every cell, save where a kernel dies."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        partial: Path,
        standby: Any,
        fork: Callable[[str], None],
        sockets: str,
        cell_timeout: float | None,
        **_: Any,
    ) -> None:
        manager = AsyncKernelManager(
            kernel_name=kernel_name,
            kernel_spec_manager=StandbySpec(),
            connection_file=f"{sockets}/kernel.json",
            transport="ipc",
            ip=f"{sockets}/kernel",
        )
        manager.provisioner = StandbyProvisioner(standby, fork, manager)
        client = ReportClient(nb_man, manager, timeout=cell_timeout, kernel_name=kernel_name, startup_timeout=60)
        client.owns_km = True  # ends the kernel
        client.shutdown_kernel = "immediate"  # a second less than asking it to
        try:
            client.execute()
        except (DeadKernelError, CellTimeoutError, RuntimeError) as error:
            nbformat.write(nb_man.nb, partial)
            if isinstance(error, CellTimeoutError):
                client.ended = f"ran longer than {cell_timeout:g} seconds"
            if client.ended:
                raise EndedError(f"cell {client.number} {client.ended}") from error
            raise


papermill_engines.register("backgrid", ReportEngine)


def execute_notebook(
    path: Path,
    partial: Path,
    parameters: Mapping[str, Any],
    standby: Any,
    frames: Mapping[Any, pd.DataFrame],
    only: bool,
    *,
    cell_timeout: float | None = None,
) -> tuple[nbformat.NotebookNode, list[dict[str, Any]]]:
    """The executed notebook without what differs from run to run, and the prices it read, as `log_prices` has them.

    Parameters
    ----------
    path : Path
        The notebook.
    partial : Path
        Where the notebook is written, also if it fails: then with what has run.
    parameters : dict
        Checked names and values to inject.
    standby : backgrid.standby.Standby
        From which the kernel is forked.
    frames, only
        Prices for `fetch_ohlcv` in the kernel, as `backgrid.data.hold` takes them.
    cell_timeout : float, optional
        Longest that a cell may run. [seconds]

    Raises
    ------
    ReportError
        If a cell fails, runs too long or says too much, or the kernel dies. (papermill marks the cells of a dead
        kernel as completed.)
    """
    place = tempfile.gettempdir()
    folder = "/tmp" if len(place) > LONGEST_SOCKET_FOLDER else place
    # a folder of its own for the sockets: jupyter names them alike in all runs
    with _no_false_alarm(), tempfile.TemporaryDirectory(prefix="bg-", dir=folder) as sockets:
        leftovers = [sockets, str(partial.parent)]
        read = Path(sockets) / "prices.jsonl"
        try:
            notebook = papermill.execute_notebook(
                path,
                partial,
                dict(parameters),
                engine_name="backgrid",
                partial=partial,
                standby=standby,
                fork=lambda file: standby.fork(file, frames, only, leftovers),
                sockets=sockets,
                cell_timeout=cell_timeout,
                request_save_on_cell_execute=False,
                kernel_name="python3",
                language="python",
                progress_bar=False,
            )
        except PapermillExecutionError as error:
            raise ReportError(
                f"{path.stem}: cell {error.exec_count} failed with {error.ename}: {error.evalue[:LONGEST_MESSAGE]}"
            ) from error
        except EndedError as error:
            raise ReportError(f"{path.stem}: {error}") from error
        except (DeadKernelError, RuntimeError) as error:  # the second while it starts
            raise ReportError(f"{path.stem}: the kernel died; it may have run out of memory") from error
        lines = read.read_text(encoding="utf-8").splitlines() if read.exists() else []
    return _settled(notebook), [json.loads(line) for line in sorted(set(lines))]


@contextlib.contextmanager
def _no_false_alarm() -> Iterator[None]:
    """papermill does not read `int | None`, and warns of such parameters as unknown; the names have been checked."""

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Passed unknown parameter")

    logger = logging.getLogger("papermill")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _settled(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without clocks, paths, ids and versions of tools."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream":  # a warning names a file after the process
                output["text"] = re.sub(CELL_FILE, "cell", output["text"])
        cell["id"] = f"cell-{number:02d}"
    return notebook


def render_html(notebook: nbformat.NotebookNode) -> str:
    """An executed notebook as the text of one HTML page."""
    body, _ = _exporter().from_notebook_node(notebook)
    return body


@functools.cache
def _exporter() -> "ReportExporter":
    """One for all pages: its templates are compiled once, 0.2 s."""
    return ReportExporter()


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
        script = "".join((PAGE / name).read_text(encoding="utf-8") for name in ("theme.js", "script.js"))
        page = {
            "style": (PAGE / "style.css").read_text(encoding="utf-8"),
            "script": script,
            "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "title": nb.metadata.get("title") or (resources or {}).get("metadata", {}).get("name", "Report"),
        }
        body, resources = super().from_notebook_node(nb, {**(resources or {}), "page": page}, **kwargs)
        return body.replace("<ol></ol>", f"<ol>{_contents(body)}</ol>", 1), resources


def safe_svg(svg: str) -> str:
    """An SVG drawing without anything that can run or load: known elements and harmless attributes; "" if broken."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    try:
        root = ElementTree.fromstring(svg)
        if root.tag != f"{{{SVG}}}svg":
            return ""
        for element in root.iter():
            _strip(element)
        return ElementTree.tostring(root, encoding="unicode")
    except (ElementTree.ParseError, RecursionError):
        return ""


def _strip(element: ElementTree.Element) -> None:
    for child in list(element):
        if child.tag not in DRAWN:
            element.remove(child)
    for name, value in list(element.attrib.items()):
        plain = name.rsplit("}", 1)[-1].lower()
        if plain.startswith("on") or LOADING.search(value) or (plain == "href" and not value.startswith("#")):
            del element.attrib[name]
    if "style" in element.attrib:
        declared = [line for line in element.attrib["style"].split(";") if line.strip().startswith(PAINT)]
        element.attrib["style"] = ";".join(declared)


def _contents(body: str) -> str:
    """A list of links to the second-level headings of a page."""
    headings = re.findall(r'<h2[^>]*>(.*?)<a class="anchor-link" (href="[^"]*")', body, flags=re.DOTALL)
    return "".join(f"<li><a {link}>{re.sub('<[^>]+>', '', heading)}</a></li>" for heading, link in headings)


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
    common = [
        "scope",
        "colspan",
        "rowspan",
        "class",
        "id",
        "style",
        "title",
        "role",
        "aria-label",
        "aria-hidden",
        "tabindex",
    ]
    drawn = ["viewBox", "width", "height", "points", "d", "fill", "stroke", "stroke-width"]

    def harmless(tag: str, name: str, value: str) -> bool:
        if name == "href":
            return tag == "a" and value.startswith(("#", "https://", "http://", "mailto:"))
        return name in (*common, *drawn) and not LOADING.search(value)

    return SanitizeHTML(
        tags=[*drawing, *tables, *blocks, *inline, *folds],
        styles=["background-color", "color", "font-weight", "max-width", "text-align"],
        attributes=harmless,
    )
