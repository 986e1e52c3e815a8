"""
The site that `make docs` builds, as its readers meet it: in a browser, on a desk and on a phone.

`make docs-test` runs it. The tests of the package do without mkdocs, so they do not include it.
"""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from tests.support.distribution import ROOT
from tests.whole.test_demo import Browser, browsing, until

DESK, PHONE = (1280, 800), (390, 844)
SIZES = pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
PAGES = [
    str(page.relative_to(ROOT / "docs").with_suffix(".html"))
    for page in sorted((ROOT / "docs").rglob("*.md"))
]

# Elements that stick out of the column of text, or have to be scrolled sideways within it.
OVERFLOWING = """
    const column = document.querySelector("article").getBoundingClientRect();
    const isWide = (element) => {
        const { left, right, width } = element.getBoundingClientRect();
        if (width === 0 || element.closest("select, svg svg, .md-clipboard, .md-code__nav"))
            return false;
        const isScrolled = element.scrollWidth > element.clientWidth + 1 &&
            ["auto", "scroll", "hidden"].includes(getComputedStyle(element).overflowX);
        return right > column.right + 1 || left < column.left - 1 || isScrolled;
    };
    const name = (element) => `${element.tagName} ${element.textContent.trim().slice(0, 60)}`;
    const found = [...document.querySelectorAll("article *")].filter(isWide).map(name);
    if (document.documentElement.scrollWidth > innerWidth) found.push("the page itself");
    return found;
"""

# Lines of code that are broken by the column. Those to be typed stay one line, so they may be.
BROKEN_LINES = """
    const found = [];
    for (const code of document.querySelectorAll("article pre > code")) {
        const ruler = code.appendChild(document.createElement("span"));
        ruler.textContent = "x".repeat(20);
        const { paddingLeft, paddingRight } = getComputedStyle(code);
        const room = code.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
        const columns = Math.floor((room / ruler.getBoundingClientRect().width) * 20);
        ruler.remove();
        const isBroken = (line) => line.length > columns && !/^[$>] |^ *"[^"]*"$/.test(line);
        found.push(...code.textContent.split("\\n").filter(isBroken));
    }
    return found;
"""


IMAGES = """
    return [...document.querySelectorAll("article img")].map((image) =>
        [image.src, image.alt, image.naturalWidth, getComputedStyle(image).filter]);
"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site, built and served."""
    directory = tmp_path_factory.mktemp("site")
    mkdocs = str(Path(sys.executable).with_name("mkdocs"))
    build = subprocess.run(
        [mkdocs, "build", "--strict", "--site-dir", str(directory)],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert build.returncode == 0, build.stdout
    handler = functools.partial(QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def reader(require_chromium: None) -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        patch.setenv("no_proxy", "localhost,127.0.0.1")
        with browsing() as browser:
            yield browser


def resize(browser: Browser, size: tuple[int, int]) -> None:
    """Give the browser a screen of that size; a window would not become as narrow as a phone."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def open_tabs(browser: Browser) -> None:
    """Show what all tabs of the page hold at once, so that it can be measured."""
    browser.execute_script("""
        for (const style of [...document.querySelectorAll(".tabbed-block")].map((b) => b.style))
            style.display = "block";
    """)


def press(browser: Browser, selector: str) -> None:
    """Press the first element of `selector` that can be seen."""
    elements = browser.find_elements(By.CSS_SELECTOR, selector)
    next(element for element in elements if element.is_displayed()).click()


@SIZES
@pytest.mark.parametrize("page", PAGES)
def test_no_block_overflows_its_column(site: str, reader: Browser, page: str, size: Any) -> None:
    resize(reader, size)
    reader.get(site + page)
    open_tabs(reader)
    assert reader.execute_script(OVERFLOWING) == []
    if size == DESK:
        assert reader.execute_script(BROKEN_LINES) == []


@SIZES
def test_search_finds_how_to_reconnect(site: str, reader: Browser, size: Any) -> None:
    resize(reader, size)
    reader.get(site + "index.html")
    if size == PHONE:
        press(reader, "label[for=__search]")
    field = reader.find_element(By.CSS_SELECTOR, ".md-search__input")
    until(reader, field.is_displayed)
    field.click()
    field.send_keys("reconnect")
    result = ".md-search-result__link[href*='protocol.html'][href*='#reconnecting']"
    until(reader, lambda: reader.find_elements(By.CSS_SELECTOR, result))
    press(reader, result)
    until(reader, lambda: reader.current_url.endswith("#reconnecting"))
    assert reader.current_url.startswith(site + "protocol.html")
    until(reader, lambda: marked(reader))
    assert {text.lower() for text in marked(reader)} >= {"reconnect"}


def marked(browser: Browser) -> list[str]:
    """Return the words that the page highlights after a search."""
    script = "return [...document.querySelectorAll('article mark')].map((mark) => mark.textContent)"
    return browser.execute_script(script)


@SIZES
def test_dark_mode_is_switched_on_and_kept(site: str, reader: Browser, size: Any) -> None:
    resize(reader, size)
    reader.get(site + "index.html")
    reader.execute_script("localStorage.clear()")
    reader.refresh()
    light = luminance(reader)
    press(reader, "form[data-md-component=palette] label")
    until(reader, lambda: luminance(reader) < 0.2)
    reader.get(site + "tutorial.html")
    assert luminance(reader) < 0.2 < 0.8 < light
    press(reader, "form[data-md-component=palette] label")
    until(reader, lambda: luminance(reader) > 0.8)


def luminance(browser: Browser) -> float:
    """How light the page is, from 0 to 1, beside its letters, which are the opposite."""
    script = "const {{ {0} }} = getComputedStyle(document.body); return {0}"
    paper, ink = (
        sum(map(int, browser.execute_script(script.format(kind)).strip("rgba()").split(",")[:3]))
        / 765
        for kind in ("backgroundColor", "color")
    )
    assert abs(paper - ink) > 0.5
    return paper


def test_diagrams_are_shown_described_and_turned_over_in_dark_mode(
    site: str, reader: Browser
) -> None:
    """Their ink is made for white paper, so a dark page inverts them; pictures stay as they are."""
    resize(reader, DESK)
    drawn = {f"{path.stem}.svg" for path in (ROOT / "docs" / "diagrams").glob("*.svg")}
    drawn.add("imports-after.svg")  # made by the build
    drawn |= {path.name for path in (ROOT / "docs" / "assets").glob("*.png")}
    shown = set()
    for page in PAGES:
        reader.get(site + page)
        for scheme, is_inverted in (("default", False), ("slate", True)):
            reader.execute_script("document.body.dataset.mdColorScheme = arguments[0]", scheme)
            for source, alt, width, filters in reader.execute_script(IMAGES):
                assert width > 0 and len(alt) > 20, f"{page}: {source}"
                is_drawn = source.endswith(".svg")
                assert filters.startswith("invert") == (is_inverted and is_drawn), source
                shown.add(source.rpartition("/")[2])
    assert shown == drawn and len(drawn) >= 4


@SIZES
def test_a_tab_chosen_on_one_page_is_chosen_on_others(
    site: str, reader: Browser, size: Any
) -> None:
    resize(reader, size)
    reader.get(site + "triggers.html")
    reader.execute_script("localStorage.clear()")
    reader.refresh()
    assert shown_tabs(reader) == {"PostgreSQL"}
    press_tab(reader, "SQLite")
    until(reader, lambda: shown_tabs(reader) == {"SQLite"})
    reader.get(site + "live.html")
    until(reader, lambda: shown_tabs(reader) == {"SQLite"})


def shown_tabs(browser: Browser) -> set[str]:
    script = """
        return [...document.querySelectorAll(".tabbed-set")].map((set) =>
            [...set.querySelectorAll(":scope > input")].findIndex((input) => input.checked)
        ).map((index, set) => document.querySelectorAll(".tabbed-set")[set]
            .querySelectorAll(".tabbed-labels > label")[index].textContent.trim());
    """
    return set(browser.execute_script(script))


def press_tab(browser: Browser, name: str) -> None:
    labels = browser.find_elements(By.CSS_SELECTOR, ".tabbed-labels > label")
    label = next(label for label in labels if label.text == name)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", label)
    label.click()


def test_a_phone_has_the_navigation_in_a_drawer(site: str, reader: Browser) -> None:
    resize(reader, PHONE)
    reader.get(site + "index.html")
    press(reader, "label[for=__drawer]")
    link = reader.find_element(By.CSS_SELECTOR, ".md-nav--primary a[href='protocol.html']")
    until(reader, link.is_displayed)


def test_code_has_a_button_to_copy_it_and_colours(site: str, reader: Browser) -> None:
    resize(reader, DESK)
    reader.get(site + "tutorial.html")
    count = "return document.querySelectorAll(arguments[0]).length"
    blocks = reader.execute_script(count, "article pre")
    buttons = "article [data-clipboard-target], article .md-code__button[data-md-type=copy]"
    until(reader, lambda: reader.execute_script(count, buttons) == blocks)
    assert reader.execute_script(count, "article .highlight .k") > 10


def test_no_other_host_is_asked_for_anything(site: str, reader: Browser) -> None:
    resize(reader, DESK)
    reader.get_log("performance")
    reader.get_log("browser")
    for page in PAGES:
        reader.get(site + page)
    logged = [json.loads(entry["message"])["message"] for entry in reader.get_log("performance")]
    asked = {
        entry["params"]["request"]["url"]
        for entry in logged
        if entry["method"] == "Network.requestWillBeSent"
    }
    assert len(asked) > len(PAGES)
    assert {url for url in asked if not url.startswith((site, "data:", "blob:"))} == set()
    assert reader.get_log("browser") == []
