"""The console in Chromium: one browser, one server, the stories of a user who tries a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.whole.test_demo import Browser, Demo, browsing, serving, shell, sign_in, texts, until

WIDE, NARROW = (1400, 900), (320, 700)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with serving(tmp_path_factory.mktemp("console")) as demo:
        yield demo


@pytest.fixture(scope="module")
def anns(require_chromium: None, demo: Demo) -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        patch.setenv("no_proxy", "localhost,127.0.0.1")
        with browsing() as browser:
            browser.set_window_size(*WIDE)
            sign_in(browser, demo.url, "ann")
            yield browser


@pytest.fixture
def console(anns: Browser, demo: Demo) -> Iterator[Browser]:
    """The console, just opened; at the end nothing has complained, its policy least of all."""
    anns.get_log("browser")
    enter(anns, demo)
    yield anns
    assert [entry["message"] for entry in anns.get_log("browser")] == []


def enter(browser: Browser, demo: Demo, fragment: str = "") -> None:
    browser.get("about:blank")
    browser.get(f"{demo.url}sockets/{fragment}")
    until(browser, lambda: state(browser) == ["connected"])


def state(browser: Browser) -> list[str]:
    return texts(browser, "#state")


def choose(browser: Browser, words: str) -> None:
    search = browser.find_element(By.ID, "search")
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(words, Keys.ENTER)
    until(browser, lambda: texts(browser, "#frame-title"))


def press(browser: Browser, name: str) -> None:
    browser.find_element(By.XPATH, f"//button[normalize-space()='{name}'][not(@hidden)]").click()


def field(browser: Browser, name: str):
    label = browser.find_element(
        By.XPATH, f"//label[normalize-space()='{name}' or normalize-space()='{name} *']"
    )
    return browser.find_element(By.ID, label.get_attribute("for"))


def write(browser: Browser, name: str, text: str) -> None:
    found = field(browser, name)
    found.send_keys(Keys.CONTROL, "a")
    found.send_keys(Keys.BACKSPACE, text)


def error_of(browser: Browser, name: str) -> str:
    errors = field(browser, name).get_attribute("aria-describedby").split()[-1]
    return browser.find_element(By.ID, errors).text


def send(browser: Browser) -> str:
    """Press 'Send', and return the status of the reply."""
    browser.execute_script("document.querySelector('#reply').hidden = true")
    press(browser, "Send")
    until(browser, lambda: texts(browser, "#reply-title .status"))
    return texts(browser, "#reply-title .status")[0]


def rows(browser: Browser) -> list[str]:
    return texts(browser, "#live-panels tbody tr")


def statuses(browser: Browser) -> list[str]:
    return texts(browser, "#live-panels .live-status")


def timeline(browser: Browser) -> list[str]:
    return texts(browser, "#timeline .what")


def test_from_a_wrong_frame_to_a_live_list_that_survives_a_cut(console: Browser, demo: Demo):
    choose(console, "messages create")
    assert texts(console, "#frame-title") == ["messages · create"]
    assert "IsAuthorOrStaff" in texts(console, "#frame-chips .chip")
    write(console, "room", "99")
    assert send(console) == "400"
    assert error_of(console, "room") == 'Invalid pk "99" - object does not exist.'
    assert error_of(console, "text") == "This field is required."
    write(console, "room", "1")
    write(console, "text", "Tea is ready")
    assert error_of(console, "room") == ""
    assert send(console) == "201"

    choose(console, "messages subscribe")
    write(console, "room", "1")
    press(console, "Follow live")
    until(console, lambda: any("Tea is ready" in row for row in rows(console)))

    shell(demo.directory, "Message.objects.filter(text='Tea is ready').update(text='Tea is cold')")
    until(console, lambda: any("Tea is cold" in row for row in rows(console)))
    assert texts(console, "#live-panels td.changed") == ["Tea is cold"]
    assert "update" in texts(console, "#live-panels .event")

    press(console, "Cut")
    until(console, lambda: statuses(console) == ["stale"])
    shell(demo.directory, "Message.objects.filter(text='Tea is cold').delete()")
    press(console, "Reconnect")
    until(console, lambda: not any("Tea is cold" in row for row in rows(console)))
    until(console, lambda: statuses(console) == ["live"])
    assert console.execute_script("return document.querySelectorAll('.chain.resumed').length") == 1
    assert texts(console, "#gaps") == []


def test_a_link_fills_a_frame_in_and_sends_nothing(console: Browser, demo: Demo):
    frame = quote(json.dumps({"action": "create", "data": {"room": 1, "text": "From a link"}}))
    enter(console, demo, f"#stream=messages&frame={frame}")
    until(console, lambda: texts(console, "#frame-title") == ["messages · create"])
    assert field(console, "text").get_attribute("value") == "From a link"
    assert texts(console, "#reply") == [] and timeline(console) == []


def test_signing_out_ends_the_socket(console: Browser, demo: Demo):
    press(console, "Sign out")
    until(console, lambda: state(console) == ["signed out (4401)"])
    until(console, lambda: texts(console, "#sign-in") == ["Sign in"])
    sign_in(console, demo.url, "ann")
