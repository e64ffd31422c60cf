"""In a real browser a page is whole in light, dark, print and on a phone, and runs nothing but its own script."""

import base64
import dataclasses
import hashlib
import html
import itertools
import json
import re
import subprocess

import matplotlib.image
import numpy as np
import pytest
from conftest import QUIET, program
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_page import HOSTILE, PIECES, run
from test_report import CHANNELS, PAYLOADS, SVG, finished, page_of, shown

from backgrid import plot
from backgrid.bars import bar_text

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
    assert '<button id="theme-toggle" type="button">Light page</button>' in dom


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


# ---- what a reader does ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chrome(tmp_path_factory):
    """A Chromium that does what it is told; selenium is given both programs, so that it looks for none elsewhere."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    for option in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('driven')}", "--window-size=1280,900"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(program("chromedriver")))
    driver.get("about:blank")  # its own first page asks for much
    yield driver
    driver.quit()


@pytest.fixture
def visit(chrome):
    """`visit(path)` opens a page and gives the browser; afterwards nothing was complained of, nor asked for."""
    opened = []

    def to(path):
        for kind in ("browser", "performance"):
            chrome.get_log(kind)  # what was before
        opened.append(path.resolve().as_uri())
        chrome.get(opened[-1])
        return chrome

    yield to
    assert chrome.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    asked = {each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"}
    assert asked <= set(opened)


@pytest.fixture
def report(visit):
    return visit(finished().html)


def find(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def every(browser, selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def ground(browser):
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def read_out(browser):
    """What the read-out of the main figure shows, with plain blanks and minus signs."""
    return " ".join(find(browser, ".readout").text.replace("\u2212", "-").split())


def reading(bar):
    """What it is to show at a bar."""
    result = finished().result
    below = (result.equity / result.equity.cummax() - 1.0).iloc[bar]
    account, held = result.equity.iloc[bar], result.benchmark.iloc[bar]
    said = f"ma_crossover {account:,.0f} holding {held:,.0f} drawdown {below * 100.0:.1f} %".replace("-0.0", "0.0")
    return f"{bar_text(result.equity.index, bar)} {said}"


def spot(browser, bar):
    """Where a bar is drawn in the window: horizontal place, and half the height of the figure."""
    svg = find(browser, "svg[data-bars]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", svg)
    box = browser.execute_script("return arguments[0].getBoundingClientRect().toJSON()", svg)
    left, right, *_, end = map(float, svg.get_dom_attribute("data-frame").split())
    width = float(svg.get_dom_attribute("viewBox").split()[2])
    return box["x"] + box["width"] / width * (left + (right - left) * bar / end), box["y"] + box["height"] / 2.0


def bar_shown(browser):
    """The bar whose reading is shown, which must be right in every part."""
    at = finished().result.equity.index.get_loc(read_out(browser)[:10])
    assert read_out(browser) == reading(at)
    return at


def test_code_is_shown_and_hidden_again(report):
    button, cell = find(report, "#code-toggle"), find(report, ".code")
    assert (button.text, cell.is_displayed()) == ("Show code", False)
    button.click()
    assert (button.text, cell.is_displayed()) == ("Hide code", True)
    button.click()
    assert (button.text, cell.is_displayed()) == ("Show code", False)


def test_page_turns_dark_and_light_again(report):
    button = find(report, "#theme-toggle")
    assert (button.text, ground(report)) == ("Dark page", "rgb(255, 255, 255)")
    button.click()
    assert (button.text, ground(report)) == ("Light page", "rgb(15, 19, 24)")
    button.click()
    assert (button.text, ground(report)) == ("Dark page", "rgb(255, 255, 255)")


def test_contents_lead_to_every_section(report):
    links, headings = every(report, "nav ol a"), every(report, "main h2")
    assert len(links) == len(headings) > 8
    for link, heading in zip(links, headings, strict=True):
        link.click()
        assert heading.text.startswith(link.text) and link.text
        top = report.execute_script("return arguments[0].getBoundingClientRect().top", heading)
        end = report.execute_script("return innerHeight + scrollY >= document.documentElement.scrollHeight - 1")
        assert 0 <= top < 60 or (end and 0 <= top < 900)


def test_headings_are_in_order(report):
    levels = [int(heading.tag_name[1]) for heading in every(report, "h1, h2, h3, h4, h5, h6")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_page_has_landmarks_and_names_for_all_that_is_no_text(report):
    assert find(report, "html").get_attribute("lang") == "en" and report.title
    assert [(mark.aria_role, mark.accessible_name) for mark in every(report, "nav")] == [("navigation", "Contents")]
    assert [mark.aria_role for mark in every(report, "main")] == ["main"]
    pictures = every(report, "svg, img")
    assert len(pictures) >= 4
    for picture in pictures:
        named = picture if picture.tag_name == "img" else picture.find_element(By.XPATH, "ancestor::*[@role='img']")
        assert len(named.accessible_name) > 20
    assert all(control.accessible_name for control in every(report, "button, input, summary"))
    assert all(cell.get_attribute("scope") for cell in every(report, "th"))


def test_first_stop_of_the_keyboard_skips_the_contents(report):
    ActionChains(report).send_keys(Keys.TAB).perform()
    skip = report.switch_to.active_element
    assert skip.text == "Skip to the report" and skip.location["x"] >= 0
    assert find(report, skip.get_dom_attribute("href")).tag_name == "main"


def test_figure_shows_its_last_bar_until_it_is_asked(report):
    assert read_out(report) == reading(-1)
    assert find(report, ".cursor").get_dom_attribute("visibility") == "hidden"


def test_mouse_reads_the_bar_below_it(report):
    """Bars are half a pixel apart: the one that is read is at most one beside it."""
    for bar in (0, 400, 1048, 1508):
        x, y = spot(report, bar)
        mouse = ActionBuilder(report)
        mouse.pointer_action.move_to_location(round(x), round(y))
        mouse.perform()
        assert abs(bar_shown(report) - bar) <= 1
        rule, dot = find(report, ".cursor line"), find(report, ".cursor .ours")
        assert rule.get_dom_attribute("x1") == rule.get_dom_attribute("x2") == dot.get_dom_attribute("cx")
        assert find(report, ".cursor").get_dom_attribute("visibility") == "visible"


def test_finger_reads_the_bar_below_it(report):
    x, y = spot(report, 700)
    finger = ActionBuilder(report, mouse=PointerInput("touch", "finger"))
    finger.pointer_action.move_to_location(round(x), round(y)).pointer_down().pointer_up()
    finger.perform()
    assert abs(bar_shown(report) - 700) <= 1


def test_keyboard_reads_bar_by_bar(report):
    slider = find(report, ".reader")
    assert (slider.aria_role, slider.accessible_name) == ("slider", "Bar to read")
    last = len(finished().result.equity) - 1
    for key, bar in [(Keys.HOME, 0), (Keys.RIGHT, 1), (Keys.RIGHT, 2), (Keys.LEFT, 1), (Keys.END, last)]:
        slider.send_keys(key)
        assert bar_shown(report) == bar
        words = " ".join(slider.get_dom_attribute("aria-valuetext").replace("\u2212", "-").replace(",", "").split())
        assert words == reading(bar).replace(",", "")  # what a screen reader says is what is shown


def test_worst_drawdown_is_read_as_the_caption_gives_it(report):
    result = finished().result
    worst = int((result.equity / result.equity.cummax()).argmin())
    slider = find(report, ".reader")
    report.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, worst
    )
    said = f"{read_out(report).rpartition('drawdown ')[2]} on {read_out(report)[:10]}"
    caption = find(report, "figcaption").text.replace("\u2212", "-")
    assert f"The worst drawdown, {said}, began" in " ".join(caption.split())


def test_page_is_whole_without_javascript(visit, chrome):
    """Contents, figures, tables and even the code; only what would do nothing is not there."""
    chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = visit(finished().html)
        assert not every(page, ".reader, .readout")
        assert not find(page, ".toolbar").is_displayed()
        for selector in ("nav ol a", "main h2", "svg", "figcaption", ".chips li", ".heat td", ".metrics td", ".code"):
            assert all(element.is_displayed() for element in every(page, selector)), selector
    finally:
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_hostile_name_is_read_out_as_text(visit, tmp_path):
    _, result = run("one_losing_trade")
    chart = plot.equity_chart(result.equity, result.benchmark, result.positions, HOSTILE, HOSTILE)
    page = page_of(shown(*chart._repr_mimebundle_()), title=HOSTILE)
    (tmp_path / "hostile.html").write_text(page, encoding="utf-8")
    browser = visit(tmp_path / "hostile.html")
    find(browser, ".reader").send_keys(Keys.HOME)
    assert find(browser, ".readout .ours").get_property("textContent").startswith(HOSTILE)
    assert browser.execute_script("return typeof window.PWN") == "undefined"


@pytest.mark.parametrize("bars", ["", "x", "0 1", "1e999"])
def test_drawing_with_odd_readings_is_left_alone(visit, tmp_path, bars):
    """And the script goes on: the figure after it is read out."""
    drawn = run("daily")[1].plot()._repr_mimebundle_()
    odd = f'<svg {SVG} viewBox="0 0 9 9" data-bars="{bars}" data-times="9e99" data-unit="1"><path d="M 0 0"/></svg>'
    (tmp_path / "odd.html").write_text(page_of(shown({"image/svg+xml": odd}), shown(*drawn)), encoding="utf-8")
    assert len(every(visit(tmp_path / "odd.html"), ".reader")) == 1


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
