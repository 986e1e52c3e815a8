"""The console in Chromium: one browser, one server, the stories of a user who tries a socket."""

from __future__ import annotations

import ast
import base64
import html
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.support.distribution import ROOT
from tests.whole.test_demo import Browser, Demo, browsing, serving, shell, sign_in, texts, until

WIDE = (1400, 900)

#: The pictures in the documentation.
PICTURES = {"console-frame", "console-live", "console-process", "console-phone"}


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


# Elements that reach beyond the window, unless they can be scrolled.
WIDER = """
    return [...document.querySelectorAll("body *")]
        .filter((element) => element.checkVisibility())
        .filter((element) => !element.closest(".table-box, #token-form"))
        .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
        .map((element) => element.outerHTML.slice(0, 80))
"""

# Fields and buttons without a name that a screen reader could speak.
NAMELESS = """
    return [...document.querySelectorAll("input, select, textarea, button, [role=tab]")]
        .filter((element) => element.checkVisibility())
        .filter((element) => !element.labels?.length && !element.getAttribute("aria-label")
            && !element.textContent.trim())
        .map((element) => element.outerHTML)
"""


@contextmanager
def looking(browser: Browser, width: int, scheme: str) -> Iterator[None]:
    """A window of that width, with a preference for light or dark."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def picture(browser: Browser, name: str) -> None:
    """Take a picture for the documentation; with `TEST_PICTURES=1` it replaces the one there."""
    path = ROOT / "docs" / "assets" / f"{name}.png"
    browser.execute_script("scrollTo(0, 0); document.activeElement.blur()")
    taken = base64.b64decode(browser.get_screenshot_as_base64())
    if os.environ.get("TEST_PICTURES"):
        path.write_bytes(taken)
    assert path.exists(), f"TEST_PICTURES=1 makes {path.name}"


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


# The page's own WebSocket, which loses one event if `window.losesOne` is set.
LOSSY = """
    window.WebSocket = class extends WebSocket {
        set onmessage(call) {
            super.onmessage = call && ((message) => {
                const isEvent = JSON.parse(message.data).payload.previous !== undefined;
                if (!(window.losesOne && isEvent)) return call(message);
                window.losesOne = false;
            });
        }
    };
"""


def test_an_event_that_is_lost_leaves_a_gap_in_the_chain(console: Browser, demo: Demo):
    added = console.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LOSSY})
    try:
        enter(console, demo)
        choose(console, "messages subscribe")
        write(console, "room", "1")
        press(console, "Follow live")
        until(console, lambda: statuses(console) == ["live"])
        console.execute_script("window.losesOne = true")
        for text in ("Lost", "Found"):
            create = f"Message.objects.create(room_id=1, author_id=1, text={text!r})"
            shell(demo.directory, create)
            until(console, lambda: not console.execute_script("return window.losesOne"))
        until(console, lambda: texts(console, "#gaps") == ["1 gap"])
        assert len(texts(console, ".entry.gap")) == 1
        # The client has noticed too, and has asked for the missing event.
        for text in ("Lost", "Found"):
            until(console, lambda text=text: any(text in row for row in rows(console)))
    finally:
        console.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
        shell(demo.directory, "Message.objects.filter(text__in=['Lost', 'Found']).delete()")


def test_a_room_takes_messages_with_fields_of_their_own(console: Browser):
    choose(console, "here join")
    write(console, "room", "1")
    assert send(console) == "200"
    choose(console, "here send")
    assert send(console) == "400"
    write(console, "room", "1")
    write(console, "data", '{"text": "An aside"}')
    assert send(console) == "201"


def test_the_socket_of_one_viewset_has_frames_without_a_stream(console: Browser):
    story = """
        const done = arguments[0];
        const path = "/static/rest_channels/console/";
        const [{ createRecord }, { createSession }] = await Promise.all(
            ["record.js", "session.js"].map((name) => import(path + name)));
        const record = createRecord();
        const session = createSession(record, { changed() {}, replaced() {} });
        const socket = { isRoot: false, streams: [{ name: "rooms", key: "id" }] };
        session.choose(socket, location.origin.replace("http", "ws") + "/rooms/");
        const frame = { action: "retrieve", pk: 1 };
        const { reply } = await session.send("rooms", frame, new AbortController().signal);
        session.api.close();
        const [sent] = record.entries.filter(({ payload }) => payload?.action === "retrieve");
        done([reply.response_status, reply.data.name, sent.stream]);
    """
    assert console.execute_async_script(story) == [200, "lobby", "rooms"]


def test_the_timeline_is_downloaded_without_credentials(console: Browser):
    choose(console, "rooms list")
    press(console, "JSON")
    text = console.find_element(By.ID, "frame-json")
    text.send_keys(Keys.CONTROL, "a")
    text.send_keys('{"action": "list", "headers": {"authorization": "Bearer s3cret"}}')
    assert send(console) == "200"
    kept = """
        const done = arguments[0];
        const make = URL.createObjectURL;
        URL.createObjectURL = (blob) => (blob.text().then(done), make.call(URL, blob));
        document.querySelector("#timeline-download").click();
    """
    downloaded = console.execute_async_script(kept)
    frames = [entry for entry in json.loads(downloaded) if entry["kind"] == "out"]
    assert [frame["payload"]["headers"] for frame in frames] == [{"authorization": "(hidden)"}]
    copy = Select(console.find_element(By.ID, "copy"))
    for option in [option.text for option in copy.options][1:]:
        copy.select_by_visible_text(option)
        assert "s3cret" not in console.find_element(By.ID, "copied").text


def test_a_link_fills_a_frame_in_and_sends_nothing(console: Browser, demo: Demo):
    frame = quote(json.dumps({"action": "create", "data": {"room": 1, "text": "From a link"}}))
    enter(console, demo, f"#stream=messages&frame={frame}")
    until(console, lambda: texts(console, "#frame-title") == ["messages · create"])
    assert field(console, "text").get_attribute("value") == "From a link"
    assert texts(console, "#reply") == [] and timeline(console) == []


def test_a_hostile_link_does_nothing(console: Browser, demo: Demo):
    frame = json.dumps({"action": "destroy", "pk": 1})
    named = json.dumps({"action": "list", "headers": {"authorization": "Bearer stolen"}})
    for fragment, refusal in (
        (f"#stream=rooms&token=abc&frame={quote(frame)}", "carries a token"),
        (f"#stream=messages&frame={quote(named)}", "carries credentials"),
        ("#javascript:alert(1)", "names no stream"),
        ("#stream=nowhere&frame={}", "a stream that is not here"),
    ):
        enter(console, demo, fragment)
        until(console, lambda: texts(console, "#link-refusal"))
        assert refusal in texts(console, "#link-refusal")[0]
        assert texts(console, "#frame") == [] and timeline(console) == []
        assert "abc" not in console.current_url and "stolen" not in console.current_url
    # The socket of a link is one of the project's own, or the usual one.
    enter(console, demo, "#stream=messages&socket=javascript:alert(1)&frame={}")
    until(console, lambda: texts(console, "#frame-title") == ["messages · list"])
    assert state(console) == ["connected"]


def test_stored_html_is_text(console: Browser, demo: Demo):
    text = "<img src=x onerror=alert(1)><b>bold</b>"
    shell(demo.directory, f"Message.objects.create(room_id=1, author_id=1, text={text!r})")
    choose(console, "messages list")
    assert send(console) == "200"
    press(console, "Follow live")
    until(console, lambda: any(text in row for row in rows(console)))
    press(console, "Clear")
    shell(demo.directory, f"Message.objects.filter(text={text!r}).delete()")
    until(console, lambda: not any(text in row for row in rows(console)))
    made = "return [...document.querySelectorAll('img:not([alt=\"\"]), b, [onerror]')].length"
    assert console.execute_script(made) == 0
    assert text in console.find_element(By.ID, "reply-data").get_attribute("textContent")


def test_a_token_stays_in_memory(console: Browser):
    console.find_element(By.CSS_SELECTOR, "#token-box summary").click()
    console.find_element(By.ID, "token").send_keys("s3cret-t0ken", Keys.ENTER)
    until(console, lambda: texts(console, "#token-state") == ["in use"])
    until(console, lambda: state(console) == ["connected"])
    places = """
        return [location.href, document.cookie, document.documentElement.outerHTML,
            JSON.stringify({...localStorage}), JSON.stringify({...sessionStorage}),
            ...[...document.querySelectorAll("input")].map(({ value }) => value)].join()
    """
    assert "s3cret" not in console.execute_script(places)
    console.refresh()
    until(console, lambda: state(console) == ["connected"])
    assert texts(console, "#token-state") == [""] or texts(console, "#token-state") == []


def test_events_that_are_not_read_spend_the_credit(console: Browser, demo: Demo):
    choose(console, "messages subscribe")
    write(console, "room", "2")
    press(console, "Follow live")
    until(console, lambda: statuses(console) == ["live"])
    before = len(rows(console))
    press(console, "Pause reading")
    many = "[Message.objects.create(room_id=2, author_id=1, text=f'move {n}') for n in range(30)]"
    shell(demo.directory, many)
    until(console, lambda: texts(console, "#held")[0].startswith("20 of 20 held here: the server"))
    assert len(rows(console)) == before
    press(console, "Read on")
    until(console, lambda: len(rows(console)) == before + 30)
    assert texts(console, "#gaps") == []
    shell(demo.directory, "Message.objects.filter(text__startswith='move ').delete()")


def test_a_watch_is_a_table_too(console: Browser, demo: Demo):
    choose(console, "users me")
    press(console, "Watch")
    until(console, lambda: statuses(console) == ["live"])
    shell(demo.directory, "User.objects.filter(username='ann').update(username='anna')")
    until(console, lambda: texts(console, "#live-panels td.changed") == ["anna"])
    shell(demo.directory, "User.objects.filter(username='anna').update(username='ann')")
    until(console, lambda: texts(console, "#live-panels td.changed") == ["ann"])


def test_a_frame_as_json_with_completion_history_and_copies(console: Browser):
    choose(console, "messages list")
    press(console, "JSON")
    text = console.find_element(By.ID, "frame-json")
    text.send_keys(Keys.CONTROL, "a")
    text.send_keys(
        '{"action": "cre', Keys.ENTER, ', "da', Keys.ENTER, '{"te', Keys.ENTER, '"Typed"}}'
    )
    assert json.loads(text.get_attribute("value")) == {
        "action": "create",
        "data": {"text": "Typed"},
    }
    assert send(console) == "400"
    assert texts(console, "#reply-errors") == ["room: This field is required."]
    text.send_keys("}")
    press(console, "Send")
    until(console, lambda: texts(console, "#json-error"))
    text.send_keys(Keys.BACKSPACE)

    console.find_element(By.CSS_SELECTOR, "#history-box summary").click()
    assert texts(console, "#history .what") == ["messages · create"]
    press(console, "Send again")
    until(console, lambda: texts(console, "#history .status") == ["400", "400"])
    copy = Select(console.find_element(By.ID, "copy"))
    copied = {}
    for option in [option.text for option in copy.options][1:]:
        copy.select_by_visible_text(option)
        copied[option] = console.find_element(By.ID, "copied").text
    assert 'api.messages.create({"text":"Typed"});' in copied["JavaScript"]
    assert '{"stream": "messages", "payload": {"action": "create", ' in copied["Python"]
    assert '{"stream":"messages","payload":{"action":"create",' in copied["websockets"]
    assert copied["curl"].startswith("curl -X POST 'http://127.0.0.1:")
    assert "/api/messages/' \\" in copied["curl"]
    assert "/sockets/#stream=messages&frame=" in copied["Link, filled in"]
    ast.parse(copied["Python"])


def test_the_timeline_is_filtered(console: Browser):
    choose(console, "rooms list")
    send(console)
    choose(console, "rooms retrieve")
    write(console, "pk", "99")
    assert send(console) == "404"
    until(console, lambda: len(timeline(console)) == 4)
    console.find_element(By.ID, "timeline-errors").click()
    until(console, lambda: timeline(console) == ["rooms · retrieve"])
    assert texts(console, "#timeline .status") == ["404"]
    console.find_element(By.ID, "timeline-errors").click()
    console.find_element(By.ID, "timeline-words").send_keys("list")
    until(console, lambda: timeline(console) == ["rooms · list", "rooms · list"])


def test_staff_see_who_shares_what_and_why_not(console: Browser):
    choose(console, "messages subscribe")
    press(console, "Follow live")
    until(console, lambda: statuses(console) == ["live"])
    press(console, "Process")
    until(console, lambda: texts(console, ".process-section td details"))
    press(console, "Which code reads the user?")
    until(console, lambda: texts(console, ".why"))
    assert "MessageViewSet.get_queryset" in texts(console, ".why")[0]
    assert "SELECT" in texts(console, ".process-section summary")[0]


def test_an_expired_lease_is_read_again(console: Browser):
    press(console, "Expire lease")
    until(console, lambda: any("Lease expired" in note for note in texts(console, ".entry.note")))
    choose(console, "rooms list")
    assert send(console) == "200"


def test_no_page_can_frame_it(anns: Browser, demo: Demo):
    anns.get(demo.url)
    framed = """
        const done = arguments[0];
        const frame = document.createElement("iframe");
        frame.onload = () => done(frame.contentDocument === null);
        frame.src = "/sockets/";
        document.body.append(frame);
    """
    assert anns.execute_async_script(framed)
    anns.get_log("browser")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1400])
def test_it_fits_the_window_and_everything_has_a_name(console: Browser, width: int, scheme: str):
    choose(console, "messages subscribe")
    write(console, "room", "1")
    press(console, "Follow live")
    until(console, lambda: statuses(console) == ["live"])
    choose(console, "messages create")
    assert send(console) == "400"
    with looking(console, width, scheme):
        for tab in ("Process", "Live (1)", "Frame"):
            press(console, tab)
            assert console.execute_script(WIDER) == []
        assert console.execute_script(NAMELESS) == []
        if (width, scheme) == (320, "dark"):
            picture(console, "console-phone")


def test_pictures_for_the_documentation(console: Browser, demo: Demo):
    with looking(console, 1280, "light"):
        for word in ("messages", "rooms"):
            console.find_element(By.XPATH, f"//button[starts-with(., '{word}')]").click()
        choose(console, "messages create")
        write(console, "room", "7")
        assert send(console) == "400"
        forget_search(console)
        picture(console, "console-frame")
        choose(console, "messages subscribe")
        write(console, "room", "1")
        write(console, "window", "9")
        press(console, "Follow live")
        until(console, lambda: len(rows(console)) == 9)
        forget_search(console)
        tricks = "Message.objects.filter(text__startswith='A fine trick')"
        shell(demo.directory, f"{tricks}.update(text='A fine trick!')")
        until(console, lambda: texts(console, "#live-panels td.changed") == ["A fine trick!"])
        picture(console, "console-live")
        press(console, "Process")
        until(console, lambda: texts(console, ".process-section td details"))
        press(console, "Which code reads the user?")
        until(console, lambda: texts(console, ".why"))
        picture(console, "console-process")


def forget_search(browser: Browser) -> None:
    search = browser.find_element(By.ID, "search")
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.BACKSPACE)


def test_a_page_of_the_api_leads_to_the_same_rows_live(console: Browser, demo: Demo):
    # Fetched, because a browser asks for an icon of the API's own pages, which have none.
    fetched = """
        const [path, done] = arguments;
        fetch(path, { headers: { accept: "text/html" } })
            .then((answer) => answer.text())
            .then(done);
    """
    page = console.execute_async_script(fetched, "/api/messages/?room=1")
    found = re.search(r'<a class="btn btn-success[^"]*" href="([^"]*)"', page)
    assert found
    link = html.unescape(found[1])
    enter(console, demo, link.removeprefix("/sockets/"))
    until(console, lambda: texts(console, "#frame-title") == ["messages · subscribe"])
    assert field(console, "room").get_attribute("value") == "1"
    assert timeline(console) == []
    press(console, "Follow live")
    until(console, lambda: len(rows(console)) == 10)


def test_it_can_be_used_by_keyboard_alone(console: Browser):
    keys = console.switch_to
    console.find_element(By.TAG_NAME, "body").send_keys("/")
    keys.active_element.send_keys("rooms list", Keys.ARROW_DOWN)
    assert keys.active_element.text.split() == ["GET", "list"]
    keys.active_element.send_keys(Keys.ENTER)
    until(console, lambda: texts(console, "#frame-title") == ["rooms · list"])
    field(console, "search").send_keys("Lob", Keys.CONTROL, Keys.ENTER)
    until(console, lambda: texts(console, "#reply-title .status") == ["200"])
    spoken = console.find_element(By.ID, "announcer").get_attribute("textContent")
    assert spoken == "rooms list: 200"
    console.find_element(By.ID, "tab-frame").send_keys(Keys.ARROW_RIGHT)
    assert keys.active_element.get_attribute("id") == "tab-live"


def test_signing_out_ends_the_socket(console: Browser, demo: Demo):
    press(console, "Sign out")
    until(console, lambda: state(console) == ["signed out (4401)"])
    until(console, lambda: texts(console, "#sign-in") == ["Sign in"])
    sign_in(console, demo.url, "ann")
