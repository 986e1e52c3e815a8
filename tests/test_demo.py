"""The demo as its users meet it: a server of its own, and two people in two browsers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parent.parent

CHROMIUM_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--window-size=1280,800",
]


def test_what_the_demo_tests_itself(tmp_path: Path) -> None:
    for command in (["test", "chat"], ["makemigrations", "--check", "--dry-run"], ["check"]):
        run = manage(tmp_path, *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = run.communicate()
        assert run.returncode == 0, output


# The server


def manage(directory: Path, *command: str, **options: Any) -> subprocess.Popen[str]:
    """`manage.py` of the demo, with a database in `directory`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DEMO_DATABASE": str(directory / "demo.sqlite3")}
    env.pop("DJANGO_SETTINGS_MODULE", None)
    manage_py = str(ROOT / "demo" / "manage.py")
    return subprocess.Popen([sys.executable, manage_py, *command], env=env, text=True, **options)


@contextmanager
def serving(directory: Path, port: str = "0") -> Iterator[str]:
    """The demo's address, from when it is printed."""
    with (
        open(directory / "log", "w+") as log,
        manage(directory, "demo", "--port", port, stdout=subprocess.PIPE, stderr=log) as server,
    ):
        try:
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            yield next((line.strip() for line in lines if line.startswith("http://")), "")
        finally:
            server.terminate()
            server.wait(timeout=20)
            log.seek(0)
            assert log.read() == ""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("demo")) as url:
        yield url


# The browsers

Browser = webdriver.Chrome


@contextmanager
def browsing() -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Named, so that selenium does not look for one to download.
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in [*CHROMIUM_FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=service)
        try:
            yield browser
        finally:
            browser.quit()


@pytest.fixture(scope="module")
def new_browser(require_chromium: None) -> Iterator[Callable[[], Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        patch.setenv("no_proxy", "localhost,127.0.0.1")
        yield browsing


@pytest.fixture(scope="module")
def anns(new_browser: Callable[[], Any], url: str) -> Iterator[Browser]:
    with new_browser() as browser:
        sign_in(browser, url, "ann")
        yield browser


@pytest.fixture(scope="module")
def bobs(new_browser: Callable[[], Any], url: str) -> Iterator[Browser]:
    with new_browser() as browser:
        sign_in(browser, url, "bob")
        yield browser


@pytest.fixture
def ann(anns: Browser, url: str) -> Browser:
    return enter(anns, url, "Lobby")


@pytest.fixture
def bob(bobs: Browser, url: str) -> Browser:
    return enter(bobs, url, "Lobby")


def sign_in(browser: Browser, url: str, name: str) -> None:
    browser.get(url)
    press(browser, f"Sign in as {name}")
    until(browser, lambda: shown(browser))


def enter(browser: Browser, url: str, room: str) -> Browser:
    """Load the page anew, and go to a room."""
    browser.get(url)
    until(browser, lambda: room in rooms(browser))
    browser.find_element(By.PARTIAL_LINK_TEXT, room).click()
    until(browser, lambda: browser.title.startswith(room) and shown(browser))
    return browser


def until(browser: Browser, is_so: Callable[[], Any]) -> None:
    WebDriverWait(browser, 20, poll_frequency=0.05).until(lambda _: is_so())


def press(browser: Browser, name: str) -> None:
    browser.find_element(By.XPATH, f"//button[{named(name)}]").click()


def named(name: str) -> str:
    """XPath of what a screen reader would call `name`."""
    return f'starts-with(normalize-space(), "{name}") or @aria-label="{name}"'


def shown(browser: Browser) -> list[str]:
    return texts(browser, "#messages .text")


def rooms(browser: Browser) -> list[str]:
    return texts(browser, "#rooms a")


def texts(browser: Browser, selector: str) -> list[str]:
    """What those elements say that can be seen; at one moment, whatever is replaced meanwhile."""
    script = """
        return [...document.querySelectorAll(arguments[0])]
            .filter((element) => element.checkVisibility())
            .map((element) => element.textContent.trim());
    """
    return browser.execute_script(script, selector)


def write(browser: Browser, selector: str, text: str) -> None:
    field = browser.find_element(By.CSS_SELECTOR, selector)
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.BACKSPACE, text)


def post(browser: Browser, text: str) -> None:
    write(browser, "#text", text)
    press(browser, "Send")
    until(browser, lambda: shown(browser)[-1:] == [text])


def ask(browser: Browser, stream: str, **payload: Any) -> dict[str, Any]:
    """The reply to a frame made by hand, as in the page's console."""
    script = """
        const [stream, payload, done] = arguments;
        const socket = new WebSocket(location.origin.replace("http", "ws"));
        socket.onopen = () => socket.send(JSON.stringify({ stream, payload }));
        socket.onmessage = ({ data }) => { socket.close(); done(JSON.parse(data).payload); };
    """
    return browser.execute_async_script(script, stream, payload)


# The stories


def test_a_page_without_complaints(ann: Browser) -> None:
    ann.get_log("browser")
    ann.refresh()
    until(ann, lambda: shown(ann))
    assert ann.get_log("browser") == []
    assert texts(ann, "#me .name") == ["ann"]
    assert texts(ann, "#people .name") == ["ann", "bob"]


def test_rooms_are_seen_by_those_they_are_for(ann: Browser, bob: Browser, url: str) -> None:
    assert rooms(ann) == ["Lobby", "Chess", "Staff room staff only"]
    assert rooms(bob) == ["Lobby", "Chess"]
    bob.get(f"{url}#staff")
    until(bob, lambda: texts(bob, "h1") == ["No such room"])
    assert shown(bob) == []


def test_nor_does_a_frame_made_by_hand_show_them(ann: Browser, bob: Browser) -> None:
    staff_room = ask(ann, "rooms", action="list")["data"][-1]["id"]
    assert ask(ann, "rooms", action="retrieve", pk=staff_room)["response_status"] == 200
    assert ask(bob, "rooms", action="retrieve", pk=staff_room)["response_status"] == 404
    said = ask(ann, "messages", action="list", query={"room": staff_room})["data"]["results"]
    assert ask(bob, "messages", action="retrieve", pk=said[0]["id"])["response_status"] == 404
    asked = ask(bob, "messages", action="list", query={"room": staff_room})
    assert (asked["response_status"], asked["data"]) == (400, None)


def test_older_messages_come_a_page_at_a_time(bob: Browser, url: str) -> None:
    enter(bob, url, "Chess")
    assert len(shown(bob)) == 20
    assert shown(bob)[-1].startswith("Well played.")
    press(bob, "Older messages")
    until(bob, lambda: len(shown(bob)) == 40)
    press(bob, "Older messages")
    until(bob, lambda: len(shown(bob)) == 46)
    assert shown(bob)[:2] == ["1. e4", "1… e5"]
    assert texts(bob, "#older") == []


def test_searching_a_room(bob: Browser, url: str) -> None:
    enter(bob, url, "Chess")
    write(bob, "#search", "Nf6")
    until(bob, lambda: shown(bob) == ["5… Nf6", "10… Nf6"])
    write(bob, "#search", "castling")
    until(bob, lambda: texts(bob, "#empty") == ["Nothing here mentions “castling”."])
    write(bob, "#search", "")
    until(bob, lambda: len(shown(bob)) == 20)


def test_one_posts_and_the_other_reads(ann: Browser, bob: Browser) -> None:
    post(bob, "Is anybody there?")
    assert bob.find_element(By.ID, "text").get_property("value") == ""
    press(ann, "Refresh")
    until(ann, lambda: shown(ann)[-1:] == ["Is anybody there?"])
    assert texts(ann, "#messages .author")[-1] == "bob"


def test_what_one_posts_is_text(bob: Browser) -> None:
    post(bob, "<img src=x onerror=alert(1)> & <b>bold</b>")
    assert bob.find_elements(By.CSS_SELECTOR, "#messages img, #messages .text b") == []


def test_editing_in_place(ann: Browser, bob: Browser) -> None:
    post(bob, "I lik tea")
    press(bob, "Edit: I lik tea")
    write(bob, ".editor textarea", "I like tea" + Keys.ENTER)
    until(bob, lambda: shown(bob)[-1:] == ["I like tea"])
    press(ann, "Refresh")
    until(ann, lambda: shown(ann)[-1:] == ["I like tea"])


def test_changing_ones_mind(bob: Browser) -> None:
    post(bob, "I like it here")
    press(bob, "Edit: I like it here")
    write(bob, ".editor textarea", "I do not" + Keys.ESCAPE)
    until(bob, lambda: shown(bob)[-1:] == ["I like it here"])
    press(bob, "Delete: I like it here")
    bob.find_element(By.ID, "search").click()
    assert texts(bob, ".delete")[-1] == "Delete"


def test_deleting_takes_two_clicks(ann: Browser, bob: Browser) -> None:
    post(bob, "Sorry")
    press(ann, "Refresh")
    until(ann, lambda: shown(ann)[-1:] == ["Sorry"])
    press(ann, "Delete: Sorry")
    press(ann, "Really delete?")
    until(ann, lambda: "Sorry" not in shown(ann))
    press(bob, "Edit: Sorry")
    write(bob, ".editor textarea", "Not sorry" + Keys.ENTER)
    until(bob, lambda: "It is not there any more" in "".join(texts(bob, "#trouble")))


def test_the_words_of_others_are_theirs(ann: Browser, bob: Browser) -> None:
    post(ann, "I said this")
    press(bob, "Refresh")
    until(bob, lambda: shown(bob)[-1:] == ["I said this"])
    assert bob.find_elements(By.XPATH, '//button[@aria-label="Edit: I said this"]') == []
    message = ask(bob, "messages", action="list")["data"]["results"][0]
    assert message["text"] == "I said this"
    edit = {"action": "partial_update", "pk": message["id"], "data": {"text": "I lied"}}
    assert ask(bob, "messages", **edit)["response_status"] == 403
    assert ask(bob, "messages", action="destroy", pk=message["id"])["response_status"] == 403
    assert ask(ann, "messages", action="retrieve", pk=message["id"])["data"] == message


def test_what_is_wrong_with_a_message_is_said_beside_it(bob: Browser) -> None:
    write(bob, "#text", "a" * 501 + Keys.ENTER)
    too_long = "Ensure this field has no more than 500 characters."
    until(bob, lambda: texts(bob, "#text-error") == [too_long])
    assert bob.find_element(By.ID, "text").get_property("value") == "a" * 501
    write(bob, "#text", Keys.ENTER)
    until(bob, lambda: texts(bob, "#text-error") == ["This field may not be blank."])
    post(bob, "Short")
    assert texts(bob, "#text-error") == []


def test_the_frames_can_be_read(bob: Browser) -> None:
    until(bob, lambda: "200" in texts(bob, "#frames .status"))
    bob.find_element(By.CSS_SELECTOR, "#frames .in summary").click()
    until(bob, lambda: any('"response_status": 200' in text for text in texts(bob, "#frames pre")))


def test_it_fits_a_phone(new_browser: Callable[[], Any], url: str) -> None:
    with new_browser() as browser:
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        sign_in(browser, url, "ann")
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
        post(browser, "On the train")


def test_the_connection_comes_back(new_browser: Callable[[], Any], tmp_path: Path) -> None:
    with new_browser() as browser:
        with serving(tmp_path) as url:
            sign_in(browser, url, "bob")
        until(
            browser,
            lambda: texts(browser, "#connection span") == ["Connection lost. Trying again…"],
        )
        write(browser, "#text", "Still there?" + Keys.ENTER)
        until(browser, lambda: "nothing was sent" in "".join(texts(browser, "#trouble span")))
        with serving(tmp_path, port=url.strip("/").rpartition(":")[2]):
            until(browser, lambda: texts(browser, "#connection, #trouble") == [])
            press(browser, "Send")
            until(browser, lambda: shown(browser)[-1:] == ["Still there?"])


def test_signing_in_by_hand_and_out(new_browser: Callable[[], Any], url: str) -> None:
    with new_browser() as browser:
        browser.get(url)
        browser.find_element(By.TAG_NAME, "summary").click()
        write(browser, "details [name=username]", "ann")
        write(browser, "details [name=password]", "wrong" + Keys.ENTER)
        until(browser, lambda: "correct username and password" in "".join(texts(browser, ".error")))
        write(browser, "details [name=username]", "ann")
        write(browser, "details [name=password]", "demo" + Keys.ENTER)
        until(browser, lambda: shown(browser))
        first = browser.current_window_handle
        browser.switch_to.new_window("tab")
        enter(browser, url, "Lobby")
        press(browser, "Sign out")
        until(browser, lambda: browser.title.startswith("Sign in"))
        browser.switch_to.window(first)
        until(browser, lambda: texts(browser, "#connection span") == ["You are signed out."])
        browser.find_element(By.LINK_TEXT, "Sign in again").click()
        until(browser, lambda: browser.title.startswith("Sign in"))
