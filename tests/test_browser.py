"""In a real browser a page is whole in light, dark, print and on a phone, and runs nothing but its own script."""

import base64
import dataclasses
import hashlib
import html
import os
import re
import shutil
import subprocess

import matplotlib.image
import numpy as np
import pytest
from test_page import HOSTILE, PIECES, run
from test_report import CHANNELS, PAYLOADS, finished, page_of, shown

from backgrid import plot

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
WIDTHS = (360, 768, 1280)  # a phone, a tablet, a laptop
DARK = "--blink-settings=preferredColorScheme=0"
POLICY = re.compile(r'<meta [^>]*http-equiv="Content-Security-Policy"[^>]*>')
PROBE = """
addEventListener("load", () => setTimeout(() => {
  const root = document.documentElement;
  for (const element of document.querySelectorAll("main *"))
    for (const event of ["click", "mouseover", "toggle", "load", "error"]) element.dispatchEvent(new Event(event));
  root.dataset.pwn = typeof window.PWN;
  root.dataset.loaded = performance.getEntriesByType("resource").map(entry => entry.name).join(" ");
}, 500));
"""


def program(name):
    """Path of a program; without it the test is skipped, or fails where all programs are asked for."""
    path = shutil.which(name)
    if path is None and os.environ.get("BACKGRID_REQUIRE_PROGRAMS"):
        pytest.fail(f"{name} is not installed")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """`browse(page, *options)` opens a page in Chromium and gives what it prints."""
    chromium, profile = program("chromium"), tmp_path_factory.mktemp("profile")

    def visit(page, *options):
        command = [chromium, *QUIET, f"--user-data-dir={profile}", *options, page.resolve().as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    return visit


@pytest.fixture
def probe(browse, tmp_path):
    """`probe(page)` runs PROBE on a page, with its policy or without, and gives what it found and the page."""

    def look(page, *options, policy=True):
        digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
        allowed = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1) if policy else POLICY.sub("", page)
        assert allowed != page
        path = tmp_path / "probed.html"
        path.write_text(allowed.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
        dom = browse(path, "--virtual-time-budget=5000", "--dump-dom", *options)
        return dict(re.findall(r'data-(\w+)="([^"]*)"', dom.partition("<head")[0])), dom

    return look


def hostile_page():
    """Every payload in every kind of cell, and the pieces of a result with hostile texts."""
    prices, result = run("one_losing_trade")
    facts = {"source": HOSTILE, "snapshot": HOSTILE, "notes": [HOSTILE]}
    hostile = dataclasses.replace(
        result, symbol=HOSTILE, strategy=HOSTILE, params={HOSTILE: HOSTILE}, data=facts, hashed=lambda: HOSTILE
    )
    pieces = [shown({"text/html": make(prices, hostile)}) for make in PIECES.values()]
    chart = plot.equity_chart(result.equity, result.benchmark, result.positions, HOSTILE)
    cells = [make(payload) for make in CHANNELS.values() for payload in PAYLOADS]
    return page_of(*pieces, shown(*chart._repr_mimebundle_()), *cells, title=HOSTILE)


# ---- what runs -------------------------------------------------------------------------------------------------------


def test_page_shows_its_content_and_runs_its_script(browse):
    dom = browse(finished().html, "--dump-dom", DARK)
    assert "Moving-average crossover 20/50 on AAPL" in dom
    assert dom.count("<figcaption>") == 4 and dom.count('role="img"') == 4
    assert '<button aria-pressed="true" id="theme-toggle" type="button">Light page</button>' in dom


def test_page_asks_for_nothing(probe):
    found, _ = probe(finished().html.read_text(encoding="utf-8"))
    assert found["loaded"] == ""


def test_probe_sees_what_runs_where_nothing_prevents_it(probe):
    """Else the next test could not fail."""
    page = page_of().replace(
        "</main>", "<p onclick='window.PWN = 1'>x</p><img src='http://example.invalid/x.png'></main>"
    )
    found, _ = probe(page, policy=False)
    assert found["pwn"] == "number" and found["loaded"].endswith("/x.png")
    found, _ = probe(page)
    assert found["pwn"] == "undefined"


@pytest.mark.parametrize("policy", [True, False], ids=["with policy", "without"])
def test_nothing_hostile_runs_or_loads(probe, policy):
    """The policy alone would do, and so must the cleaning alone."""
    found, dom = probe(hostile_page(), policy=policy)
    assert (found["pwn"], found["loaded"]) == ("undefined", "")
    assert "window.PWN = 1" in dom  # the payloads are there, as text


# ---- how it looks ----------------------------------------------------------------------------------------------------


def share(picture, color):
    """Share of the pixels that have this colour."""
    wanted = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255.0
    return float((np.abs(picture[:, :, :3] - wanted) < 0.02).all(axis=2).mean())


@pytest.mark.parametrize(
    ("options", "page", "ink", "line", "other"),
    [((), "#ffffff", "#1c2128", "#1f6feb", "#0f1318"), ((DARK,), "#0f1318", "#e6eaef", "#6cb0ff", "#ffffff")],
    ids=["light", "dark"],
)
def test_page_and_figures_follow_the_colours_of_the_reader(browse, tmp_path, options, page, ink, line, other):
    browse(finished().html, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1280,1600", *options)
    picture = matplotlib.image.imread(tmp_path / "page.png")
    assert picture.shape[:2] == (1600, 1280)
    assert share(picture, page) > 0.7 and share(picture, other) < 0.01
    assert share(picture, ink) > 0.002 and share(picture, line) > 0.0005


def test_page_never_scrolls_sideways(browse, tmp_path):
    """In frames, since a window of Chromium is never as narrow as a phone."""
    page = html.escape(finished().html.read_text(encoding="utf-8"))
    frames = "".join(f'<iframe style="width: {width}px; border: 0" srcdoc="{page}"></iframe>' for width in WIDTHS)
    measure = """addEventListener("load", () => {
      const roots = Array.from(frames, frame => frame.document.documentElement);
      document.title = roots.map(root => `${root.clientWidth}:${root.scrollWidth}`).join(" ");
    })"""
    (tmp_path / "frames.html").write_text(f"<title></title>{frames}<script>{measure}</script>", encoding="utf-8")
    measured = re.search("<title>(.*?)</title>", browse(tmp_path / "frames.html", "--dump-dom"))[1]
    assert measured == " ".join(f"{width}:{width}" for width in WIDTHS)


def test_page_prints_whole(browse, tmp_path):
    pdf = tmp_path / "page.pdf"
    browse(finished().html, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    printed = subprocess.run([program("pdftotext"), pdf, "-"], capture_output=True, text=True, check=True).stdout
    text = " ".join(printed.split())
    assert text.startswith("Moving-average crossover 20/50 on AAPL")
    for words in (
        "Equity and drawdown",
        "The worst drawdown, ",
        "The 5 worst closed trades",
        "All metrics",
        "Provenance",
    ):
        assert words in text
    assert finished().result.prices_hash in text.replace(" ", "")
    for words in ("Show code", "Dark page", "Skip to the report"):
        assert words not in text
    subprocess.run([program("pdftoppm"), "-gray", "-r", "30", pdf, tmp_path / "sheet"], check=True)
    sheets = [sheet.read_bytes() for sheet in tmp_path.glob("sheet*.pgm")]
    assert 3 <= len(sheets) <= 10
    assert all(min(sheet[20:]) < 160 for sheet in sheets), "an empty sheet"
