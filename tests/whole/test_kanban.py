"""The boards of the demo, as built by Vite: two people who move cards in two browsers."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.support.distribution import ROOT
from tests.whole.test_demo import Browser, browsing, press, serving, texts, until

FRONT = ROOT / "demo" / "kanban" / "front"


def test_the_page_needs_few_lines_of_its_own() -> None:
    """Everything but components is in one file: no other one uses the client."""
    lines = (FRONT / "src" / "api.ts").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 20
    others = {path.name: path.read_text() for path in (FRONT / "src").glob("*.ts")}
    del others["socket-api.ts"]  # made by `manage.py socket_schema`
    users = [name for name, text in others.items() if "rest-channels" in text or "./api" in text]
    assert users == ["api.ts"]


@pytest.fixture(scope="module")
def built() -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    for command in (["npm", "install", "--loglevel=error"], ["npm", "run", "build"]):
        run = subprocess.run(command, cwd=FRONT, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


class Rows:
    """The columns and cards of the demo, in its database."""

    def __init__(self, database: Path) -> None:
        self._database = database
        with self._connected() as connection:
            self._first = {name: self._all(connection, name) for name in _TABLES}

    def put_back(self) -> None:
        """Write the first rows again, as another program would: the pages show them then."""
        with self._connected() as connection, connection:
            for name in _TABLES:
                for changed in self._all(connection, name) - self._first[name]:
                    connection.execute(f"DELETE FROM {name} WHERE id = ?", changed[:1])
            for name in reversed(_TABLES):
                for row in self._first[name] - self._all(connection, name):
                    values = ", ".join("?" * len(row))
                    connection.execute(f"INSERT INTO {name} VALUES ({values})", row)

    def _connected(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self._database, timeout=20))

    def _all(self, connection: sqlite3.Connection, name: str) -> set[tuple[Any, ...]]:
        return set(connection.execute(f"SELECT * FROM {name}"))


# Those that refer to others come first.
_TABLES = ["kanban_card", "kanban_column"]


@pytest.fixture
def users(pages: tuple[Browser, Browser, Rows]) -> tuple[Browser, Browser]:
    """Ann and Bob, at the board that both are members of, as it is at first."""
    ann, bob, rows = pages
    rows.put_back()
    both((ann, bob), lambda browser: titles(browser) == ["Ideas", "To do", "In progress", "Done"])
    both((ann, bob), lambda browser: [len(cards(browser, t)) for t in titles(browser)] == COUNTS)
    return ann, bob


COUNTS = [2, 3, 2, 2]


@pytest.fixture(scope="module")
def pages(
    built: None, require_chromium: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Browser, Browser, Rows]]:
    proxy = {"NO_PROXY": "localhost,127.0.0.1", "no_proxy": "localhost,127.0.0.1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in proxy.items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("kanban")
        with serving(folder) as demo, browsing() as ann, browsing() as bob:
            for browser, name in ((ann, "ann"), (bob, "bob")):
                browser.get(f"{demo.url}kanban/")
                press(browser, f"Sign in as {name}")
                until(browser, lambda browser=browser: cards(browser, "Done"))
            yield ann, bob, Rows(folder / "demo.sqlite3")


def column(browser: Browser, title: str) -> WebElement:
    return browser.find_element(By.XPATH, f"//section[h2[starts-with(., '{title}')]]")


def card(browser: Browser, title: str) -> WebElement:
    return browser.find_element(By.XPATH, f"//li[contains(@class, 'card')][contains(., '{title}')]")


def cards(browser: Browser, title: str) -> list[str]:
    """Return the titles that a column shows, at one moment."""
    script = """
        const columns = [...document.querySelectorAll("section")];
        const column = columns.find(({ textContent }) => textContent.startsWith(arguments[0]));
        const titles = column?.querySelectorAll(".card .title") ?? [];
        return [...titles].map(({ textContent }) => textContent);
    """
    return browser.execute_script(script, title)


def both(users: tuple[Browser, Browser], shows: Callable[[Browser], bool]) -> None:
    for browser in users:
        until(browser, lambda browser=browser: shows(browser))


def test_a_card_that_one_drags_moves_for_the_other(users: tuple[Browser, Browser]) -> None:
    ann, bob = users
    moved = "Check the landing page at 320 pixels"
    first, last = "Choose a name", "Choose another name"
    mouse = ActionChains(ann).click_and_hold(card(ann, moved)).move_by_offset(20, 10)
    below = mouse.move_to_element_with_offset(card(ann, last), 0, -20)
    below.perform()
    assert len(ann.find_elements(By.CSS_SELECTOR, ".gap")) == 1
    assert moved in cards(bob, "To do")
    ActionChains(ann).release().perform()
    both(users, lambda browser: cards(browser, "Done") == [first, moved, last])
    both(users, lambda browser: texts(browser, "h2 .count") == ["2", "2", "2", "3"])
    assert moved not in cards(ann, "To do")
    ann.refresh()
    until(ann, lambda: cards(ann, "Done") == [first, moved, last])


def test_cards_are_moved_added_and_changed_by_keys(users: tuple[Browser, Browser]) -> None:
    ann, bob = users
    moved = "Prices for teams"
    card(bob, moved).send_keys(Keys.SHIFT, Keys.ARROW_LEFT)
    both(users, lambda browser: moved in cards(browser, "To do"))
    until(bob, lambda: bob.switch_to.active_element.text.startswith(moved))
    bob.switch_to.active_element.send_keys(Keys.SHIFT, Keys.ARROW_UP, Keys.ARROW_UP)
    both(users, lambda browser: cards(browser, "To do")[0] == moved)
    assert bob.switch_to.active_element.text.startswith(moved)
    bob.switch_to.active_element.send_keys(Keys.ENTER)
    until(bob, lambda: bob.switch_to.active_element.tag_name == "textarea")
    bob.switch_to.active_element.send_keys("Prices", Keys.ENTER)
    both(users, lambda browser: cards(browser, "To do")[0] == "Prices")
    field = column(ann, "To do").find_element(By.CSS_SELECTOR, ".add input")
    field.send_keys("Tea for everybody", Keys.ENTER)
    both(users, lambda browser: cards(browser, "To do")[-1] == "Tea for everybody")


def test_a_column_is_dragged_and_moved_by_keys(users: tuple[Browser, Browser]) -> None:
    ann, bob = users
    assert titles(ann) == ["Ideas", "To do", "In progress", "Done"]
    mouse = ActionChains(ann).click_and_hold(column(ann, "To do").find_element(By.TAG_NAME, "h2"))
    mouse.move_by_offset(20, 5).move_to_element_with_offset(column(ann, "Done"), -20, 0).perform()
    assert titles(ann) == ["Ideas", "In progress", "To do", "Done"]
    [lifted] = texts(ann, ".lifted h2")
    assert lifted.startswith("To do")
    assert titles(bob) == ["Ideas", "To do", "In progress", "Done"]
    ActionChains(ann).release().perform()
    both(users, lambda browser: titles(browser) == ["Ideas", "In progress", "To do", "Done"])
    grip = column(bob, "To do").find_element(By.CSS_SELECTOR, "h2 .grip")
    grip.send_keys(Keys.SHIFT, Keys.ARROW_LEFT)
    both(users, lambda browser: titles(browser) == ["Ideas", "To do", "In progress", "Done"])
    focused = bob.switch_to.active_element
    assert focused.get_attribute("aria-label") == "Move To do"
    focused.send_keys(Keys.SHIFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    both(users, lambda browser: titles(browser) == ["To do", "Ideas", "In progress", "Done"])
    grip = column(ann, "To do").find_element(By.CSS_SELECTOR, "h2 .grip")
    grip.send_keys(Keys.SHIFT, Keys.ARROW_RIGHT)
    both(users, lambda browser: titles(browser) == ["Ideas", "To do", "In progress", "Done"])


def test_a_finger_drags_by_the_grip_and_scrolls_elsewhere(users: tuple[Browser, Browser]) -> None:
    ann, _ = users
    ann.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        moved = cards(ann, "In progress")[0]
        swipe(ann, card(ann, moved), column(ann, "Done"))
        assert moved in cards(ann, "In progress")
        swipe(ann, card(ann, moved).find_element(By.CLASS_NAME, "grip"), column(ann, "Done"))
        both(users, lambda browser: moved in cards(browser, "Done"))
        grip = column(ann, "In progress").find_element(By.CSS_SELECTOR, "h2 .grip")
        swipe(ann, grip, column(ann, "Ideas"))
        both(users, lambda browser: titles(browser) == ["Ideas", "In progress", "To do", "Done"])
    finally:
        ann.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def titles(browser: Browser) -> list[str]:
    """Return the titles of the columns, from left to right."""
    script = """
        const headings = [...document.querySelectorAll("section h2")];
        return headings.map(({ firstChild }) => firstChild.textContent);
    """
    return browser.execute_script(script)


def swipe(browser: Browser, start: WebElement, end: WebElement) -> None:
    """Drag a finger, as Chromium gets it from a touch screen."""
    script = """
        return [...arguments].map((element) => {
            const { left, top, width } = element.getBoundingClientRect();
            return [left + width / 2, top + 10];
        });
    """
    (x, y), (to_x, to_y) = browser.execute_script(script, start, end)
    points = [(x + (to_x - x) * part / 5, y + (to_y - y) * part / 5) for part in range(6)]
    for number, (left, top) in enumerate(points):
        kind = "touchMove" if number else "touchStart"
        touch = {"type": kind, "touchPoints": [{"x": left, "y": top}]}
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", touch)
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_refused_change_is_taken_back_with_the_reason(users: tuple[Browser, Browser]) -> None:
    _, bob = users
    anns = "Write the press release"
    before = cards(bob, "To do")
    card(bob, anns).send_keys(Keys.DELETE)
    reason = "Only its author and staff may delete a card."
    until(bob, lambda: [text.startswith(reason) for text in texts(bob, ".trouble")] == [True])
    until(bob, lambda: cards(bob, "To do") == before)
    press(bob, "Close")
    until(bob, lambda: texts(bob, ".trouble") == [])


def test_members_see_their_boards_and_each_other(users: tuple[Browser, Browser]) -> None:
    ann, bob = users
    assert texts(bob, "nav a") == [texts(ann, "nav a")[0]]
    assert [text.split()[0] for text in texts(ann, "nav a")] == ["Product", "Hiring"]
    both(users, lambda browser: len(texts(browser, ".people .face")) == 2)
    both(users, lambda browser: texts(browser, ".connection") == ["Live"])


def test_it_fits_a_small_telephone_and_says_nothing_in_the_console(
    users: tuple[Browser, Browser],
) -> None:
    ann, _ = users
    metrics = {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    ann.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    until(ann, lambda: ann.execute_script("return innerWidth") == 320)
    assert ann.execute_script("return document.documentElement.scrollWidth") <= 320
    ann.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert ann.get_log("browser") == []
