"""The demo as its users meet it: a server of its own, and two people in two browsers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.distribution import ROOT

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
    for command in (
        ["test", "chat", "kanban"],
        ["makemigrations", "--check", "--dry-run"],
        ["check"],
    ):
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


@dataclass
class Demo:
    """The demo, served."""

    url: str
    directory: Path
    process: subprocess.Popen[str]

    @property
    def port(self) -> str:
        return self.url.strip("/").rpartition(":")[2]

    @property
    def elsewhere(self) -> str:
        """Its address for a browser that is signed in at another: by host, not by port."""
        return f"http://localhost:{self.port}/"

    def kill(self) -> None:
        """End it as a crash would, without a word to its clients."""
        self.process.kill()
        self.process.wait(timeout=20)


# `serving`, or another server of the same application.
Serving = Callable[..., AbstractContextManager[Demo]]

# Serves the demo by other servers, and on other databases.
SERVE = ROOT / "js" / "tests" / "support" / "serve.py"


@contextmanager
def terminating(server: subprocess.Popen[str], directory: Path) -> Iterator[Demo]:
    """Wait for the URL that `server` prints, and terminate it at the end."""
    try:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        url = next((line.strip() for line in lines if line.startswith("http://")), "")
        yield Demo(url, directory, server)
    finally:
        server.terminate()
        server.wait(timeout=20)


@contextmanager
def serving(directory: Path, port: str = "0") -> Iterator[Demo]:
    with (
        TemporaryFile("w+") as log,
        manage(directory, "demo", "--port", port, stdout=subprocess.PIPE, stderr=log) as server,
    ):
        try:
            with terminating(server, directory) as demo:
                yield demo
        finally:
            log.seek(0)
            assert log.read() == ""


def shell(directory: Path, code: str) -> None:
    """Let a process of its own write to the demo's database."""
    imports = "from chat.models import *; from django.contrib.auth.models import User; "
    run = manage(directory, "shell", "-c", imports + "\n" + code, stderr=subprocess.PIPE)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with serving(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture(scope="module")
def url(demo: Demo) -> str:
    return demo.url


# The browsers

Browser = webdriver.Chrome


@contextmanager
def browsing() -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
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


@pytest.fixture
def away(anns: Browser, bobs: Browser) -> tuple[Browser, Browser]:
    """Both browsers, for a server of the test's own: see `Demo.elsewhere`."""
    return anns, bobs


def sign_in(browser: Browser, url: str, name: str) -> None:
    browser.get(url)
    press(browser, f"Sign in as {name}")
    until(browser, lambda: shown(browser))


def enter(browser: Browser, url: str, room: str) -> Browser:
    """Load the page again, and go to a room."""
    browser.get(url)
    go_to(browser, room)
    return browser


def go_to(browser: Browser, room: str) -> None:
    until(browser, lambda: any(name.startswith(room) for name in rooms(browser)))
    browser.find_element(By.PARTIAL_LINK_TEXT, room).click()
    until(browser, lambda: browser.title.startswith(room) and shown(browser))


def until(browser: Browser, is_so: Callable[[], Any]) -> None:
    # A browser may get little of a machine that runs other tests beside these.
    waiting = WebDriverWait(browser, 60, poll_frequency=0.05)
    try:
        waiting.until(lambda _: is_so())
    except TimeoutException as exc:
        shown_text = browser.find_element(By.TAG_NAME, "body").text
        said = [entry["message"] for entry in browser.get_log("browser")]
        raise AssertionError(f"{browser.current_url} shows {shown_text!r} and says {said}") from exc


def press(browser: Browser, name: str) -> None:
    button = browser.find_element(By.XPATH, f"//button[{named(name)}]")
    # A form takes no second message while the first is being sent.
    until(browser, button.is_enabled)
    button.click()


def named(name: str) -> str:
    """XPath of what a screen reader would call `name`."""
    return f'starts-with(normalize-space(), "{name}") or @aria-label="{name}"'


def shown(browser: Browser) -> list[str]:
    return texts(browser, "#messages .text")


def rooms(browser: Browser) -> list[str]:
    return texts(browser, "#rooms a")


def company(browser: Browser) -> list[str]:
    return texts(browser, "#company .name")


def typing(browser: Browser) -> str:
    return "".join(texts(browser, "#typing"))


def asides(browser: Browser) -> list[str]:
    return texts(browser, "#asides .text")


def texts(browser: Browser, selector: str) -> list[str]:
    """Return the visible text of those elements, all at one moment."""
    script = """
        return [...document.querySelectorAll(arguments[0])]
            .filter((element) => element.checkVisibility())
            .map((element) => element.textContent.trim());
    """
    return browser.execute_script(script, selector)


def received(browser: Browser) -> list[dict[str, Any]]:
    """The payloads that have come over the browser's sockets since it was asked the last time."""
    logged = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        json.loads(entry["params"]["response"]["payloadData"])["payload"]
        for entry in logged
        if entry["method"] == "Network.webSocketFrameReceived"
    ]


def mark(browser: Browser) -> None:
    """Leave a mark on the page, which is gone when it is loaded again."""
    browser.execute_script("window.isMarked = true")


def is_marked(browser: Browser) -> bool:
    return browser.execute_script("return window.isMarked === true")


def write(browser: Browser, selector: str, text: str) -> None:
    field = browser.find_element(By.CSS_SELECTOR, selector)
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.BACKSPACE, text)


def post(browser: Browser, text: str) -> None:
    write(browser, "#text", text)
    press(browser, "Send")
    until(browser, lambda: shown(browser)[-1:] == [text])


def say_aside(browser: Browser, text: str) -> None:
    write(browser, "#text", text)
    press(browser, "Aside")
    until(browser, lambda: asides(browser)[-1:] == [text])


def ask(browser: Browser, stream: str, **payload: Any) -> dict[str, Any]:
    """The reply to a frame made by hand, as in the page's console."""
    script = """
        const [stream, payload, done] = arguments;
        const socket = new WebSocket(location.origin.replace("http", "ws"));
        socket.onopen = () => socket.send(JSON.stringify({ stream, payload }));
        socket.onmessage = ({ data }) => { socket.close(); done(JSON.parse(data).payload); };
    """
    return browser.execute_async_script(script, stream, payload)


def stay_by_hand(browser: Browser, room: str) -> None:
    """Join a room on a socket that the page knows nothing of, and that leaves no room by itself."""
    script = """
        const [room, done] = arguments;
        const socket = new WebSocket(location.origin.replace("http", "ws"));
        const payload = { action: "join", room };
        socket.onopen = () => socket.send(JSON.stringify({ stream: "here", payload }));
        socket.onmessage = ({ data }) => done(JSON.parse(data).payload.response_status);
        addEventListener("pagehide", () => socket.close());
    """
    assert browser.execute_async_script(script, room) == 200


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
    for action in ("list", "subscribe"):
        asked = ask(bob, "messages", action=action, query={"room": staff_room})
        assert (asked["response_status"], asked["data"]) == (400, None)
    for pk, stream in ((staff_room, "rooms"), (said[0]["id"], "messages")):
        asked = ask(bob, stream, action="subscribe_instance", pk=pk)
        assert (asked["response_status"], asked["data"]) == (404, None)
    for action in ("join", "presence", "send", "typing"):
        in_there = {"action": action, "data": {"text": "Let me in"}}
        asked = ask(bob, "here", room=str(staff_room), **in_there)
        assert (asked["response_status"], asked["data"]) == (404, None)
        assert asked["errors"] == ask(bob, "here", room="0", **in_there)["errors"]


def test_nor_does_anything_that_passes_there(ann: Browser, bob: Browser) -> None:
    received(bob)
    go_to(ann, "Staff room")
    until(ann, lambda: company(ann) == ["ann"])
    say_aside(ann, "He cannot hear us")
    write(ann, "#text", "Not a word of th")
    go_to(ann, "Lobby")
    # Said later and seen: what came before is here, or does not come.
    say_aside(ann, "Here I am")
    until(bob, lambda: asides(bob)[-1:] == ["Here I am"])
    payloads = [payload for payload in received(bob) if isinstance(payload["data"], dict)]
    lobby = ask(bob, "rooms", action="list")["data"][0]["id"]
    assert {payload["data"]["room"] for payload in payloads if "room" in payload["data"]} <= {
        str(lobby), lobby,
    }  # fmt: skip
    assert "He cannot hear us" not in str(payloads)
    assert "Here I am" in str(payloads)


def test_who_is_in_a_room_knows_who_else_is(ann: Browser, bob: Browser) -> None:
    for browser in (ann, bob):
        until(browser, lambda browser=browser: company(browser) == ["ann", "bob"])
    go_to(bob, "Chess")
    until(bob, lambda: company(bob) == ["bob"])
    until(ann, lambda: company(ann) == ["ann"])
    assert texts(ann, "#said") == ["bob has left"]
    go_to(ann, "Chess")
    until(bob, lambda: company(bob) == ["ann", "bob"])
    assert texts(bob, "#said") == ["ann is here"]
    bob.get("about:blank")
    until(ann, lambda: company(ann) == ["ann"])


def test_who_is_typing_is_seen_by_others(ann: Browser, bob: Browser) -> None:
    write(bob, "#text", "Let me thi")
    until(ann, lambda: typing(ann) == "bob is typing")
    write(bob, "#text", "")
    until(ann, lambda: typing(ann) == "")
    write(bob, "#text", "I kno")
    until(ann, lambda: typing(ann) == "bob is typing")
    assert typing(bob) == ""
    post(bob, "I know")
    until(ann, lambda: typing(ann) == "")


def test_what_is_said_by_the_way(ann: Browser, bob: Browser) -> None:
    say_aside(ann, "Back in <b>five</b>")
    until(bob, lambda: asides(bob)[-1:] == ["Back in <b>five</b>"])
    assert bob.find_elements(By.CSS_SELECTOR, "#asides .text b") == []
    assert "Back in <b>five</b>" not in shown(bob)
    before = asides(bob)
    go_to(bob, "Chess")
    until(bob, lambda: company(bob) == ["bob"])
    assert "Back in <b>five</b>" not in asides(bob)
    say_aside(ann, "Six")
    go_to(bob, "Lobby")
    until(bob, lambda: asides(bob) == [*before, "Six"][-20:])
    write(bob, "#text", "a" * 81)
    press(bob, "Aside")
    too_long = "Ensure this field has no more than 80 characters."
    until(bob, lambda: texts(bob, "#text-error") == [too_long])
    assert bob.find_element(By.ID, "text").get_property("value") == "a" * 81


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


def test_what_one_writes_edits_and_deletes_the_other_sees(ann: Browser, bob: Browser) -> None:
    mark(ann)
    post(bob, "Is anybody there?")
    assert bob.find_element(By.ID, "text").get_property("value") == ""
    until(ann, lambda: shown(ann)[-1:] == ["Is anybody there?"])
    assert texts(ann, "#messages .author")[-1] == "bob"
    press(bob, "Edit: Is anybody there?")
    write(bob, ".editor textarea", "Is anyone there?" + Keys.ENTER)
    until(ann, lambda: shown(ann)[-1:] == ["Is anyone there?"])
    press(bob, "Delete: Is anyone there?")
    press(bob, "Really delete?")
    until(ann, lambda: "Is anyone there?" not in shown(ann))
    assert shown(ann) == shown(bob)
    assert is_marked(ann)


def test_a_message_is_shown_at_once_and_drawn_once(bob: Browser) -> None:
    bob.execute_script(COUNT_DRAWN)
    write(bob, "#text", "Only once" + Keys.ENTER)
    assert shown(bob)[-1:] == ["Only once"]
    until(bob, lambda: texts(bob, "#said") == ["Posted"])
    assert texts(bob, "#messages .pending") == []
    post(bob, "And another")
    assert bob.execute_script("return window.drawn") == [["Only once", "And another"], []]


# The texts of the messages that are added to the page, and of those that are removed.
COUNT_DRAWN = """
window.drawn = [[], []];
const text = (item) => item.querySelector(".text").textContent;
const note = (nodes, texts) => texts.push(...Array.from(nodes, text));
new MutationObserver((records) => {
  for (const { addedNodes, removedNodes } of records) {
    note(addedNodes, window.drawn[0]);
    note(removedNodes, window.drawn[1]);
  }
}).observe(document.getElementById("messages"), { childList: true });
"""


def test_what_another_process_writes_is_seen_as_well(demo: Demo, ann: Browser) -> None:
    mark(ann)
    lobby = "room=Room.objects.get(name='lobby')"
    bob = "author=User.objects.get(username='bob')"
    shell(demo.directory, f"Message.objects.create({lobby}, {bob}, text='By shell')")
    until(ann, lambda: shown(ann)[-1:] == ["By shell"])
    shell(demo.directory, "Message.objects.filter(text='By shell').delete()")
    until(ann, lambda: "By shell" not in shown(ann))
    assert is_marked(ann)


def test_what_one_is_typing_stays_while_others_write(ann: Browser, bob: Browser) -> None:
    post(ann, "To be mended")
    until(bob, lambda: shown(bob)[-1:] == ["To be mended"])
    press(ann, "Edit: To be mended")
    write(ann, ".editor textarea", "Half a sent")
    post(bob, "Meanwhile")
    until(ann, lambda: shown(ann)[-1:] == ["Meanwhile"])
    write(ann, "#text", "And the other half")
    editor = ann.find_element(By.CSS_SELECTOR, ".editor textarea")
    assert editor.get_property("value") == "Half a sent"
    editor.send_keys("ence" + Keys.ENTER)
    until(bob, lambda: shown(bob)[-2:] == ["Half a sentence", "Meanwhile"])
    assert ann.find_element(By.ID, "text").get_property("value") == "And the other half"


def test_a_search_goes_on(ann: Browser, bob: Browser) -> None:
    write(bob, "#search", "ladder")
    until(bob, lambda: shown(bob) == ["No comment. Has anybody seen the ladder?"])
    post(ann, "Nobody has")
    post(ann, "I took the LADDER")
    until(bob, lambda: shown(bob)[1:] == ["I took the LADDER"])
    press(ann, "Edit: I took the LADDER")
    write(ann, ".editor textarea", "I took nothing" + Keys.ENTER)
    until(bob, lambda: len(shown(bob)) == 1)


def test_who_reads_further_up_stays_there(ann: Browser, bob: Browser, url: str) -> None:
    enter(bob, url, "Chess")
    bob.execute_script("document.getElementById('scroller').scrollTop = 0")
    enter(ann, url, "Chess")
    post(ann, "Are you still reading?")
    until(bob, lambda: shown(bob)[-1:] == ["Are you still reading?"])
    assert bob.execute_script("return document.getElementById('scroller').scrollTop") == 0
    press(bob, "New messages")
    until(bob, lambda: texts(bob, "#newer") == [])
    press(ann, "Delete: Are you still reading?")
    press(ann, "Really delete?")
    until(bob, lambda: shown(bob)[-1].startswith("Well played."))


def test_a_room_for_all_becomes_one_for_staff_and_back(
    demo: Demo, ann: Browser, bob: Browser
) -> None:
    mark(bob)
    shell(demo.directory, "Room.objects.create(name='vault', title='Vault')")
    for browser in (ann, bob):
        until(browser, lambda browser=browser: "Vault" in rooms(browser))
        browser.find_element(By.LINK_TEXT, "Vault").click()
        until(browser, lambda browser=browser: texts(browser, "#empty") != [])
    post(ann, "It is getting late")
    until(bob, lambda: shown(bob) == ["It is getting late"])

    shell(demo.directory, "Room.objects.filter(name='vault').first().delete()")
    until(bob, lambda: texts(bob, "h1") == ["No such room"])
    shell(demo.directory, "Room.objects.create(name='vault', title='Vault')")
    until(bob, lambda: texts(bob, "h1") == ["Vault"] and texts(bob, "#empty") != [])
    until(ann, lambda: texts(ann, "h1") == ["Vault"] and texts(ann, "#empty") != [])
    post(ann, "It is getting later")
    until(bob, lambda: shown(bob) == ["It is getting later"])
    vault = str(ask(ann, "rooms", action="list")["data"][-1]["id"])
    stay_by_hand(bob, vault)
    received(bob)

    change = "room = Room.objects.get(name='vault'); room.{} = {!r}; room.save()"
    shell(demo.directory, change.format("staff_only", True))
    until(bob, lambda: texts(bob, "h1") == ["No such room"])
    assert (rooms(bob), shown(bob)) == (["Lobby", "Chess"], [])
    until(ann, lambda: "Vault staff only" in rooms(ann))
    go_to(bob, "Lobby")
    payloads = []

    def is_put_out() -> bool:
        # A user who may no longer hear messages hears them for a lease at most.
        say_aside(ann, "Is anybody else here?")
        payloads.extend(received(bob))
        return ("revoke", {"room": vault}) in [(p["action"], p["data"]) for p in payloads]

    until(bob, is_put_out)
    until(ann, lambda: company(ann) == ["ann"])
    say_aside(ann, "I will tell you a secret")
    post(ann, "The secret is 42")
    press(ann, "Edit: The secret is 42")
    write(ann, ".editor textarea", "The secret is 43" + Keys.ENTER)
    until(ann, lambda: shown(ann)[-1:] == ["The secret is 43"])
    shell(demo.directory, change.format("title", "Treasure"))
    until(ann, lambda: texts(ann, "h1") == ["Treasure"])
    # Said later and seen: what came before is here, or does not come.
    go_to(ann, "Lobby")
    post(ann, "Nothing happened")
    until(bob, lambda: shown(bob)[-1:] == ["Nothing happened"])
    payloads += received(bob)
    assert "Nothing happened" in str(payloads)
    assert "secret" not in str(payloads)
    assert "Treasure" not in str(payloads)
    # In the room that is shown, beside the one that the other socket was in.
    assert any(p["action"] == "revoke" and p["request_id"] is not None for p in payloads)

    shell(demo.directory, change.format("staff_only", False))
    go_to(bob, "Treasure")
    assert shown(bob) == ["It is getting later", "The secret is 43"]
    assert is_marked(bob)
    shell(demo.directory, "Room.objects.filter(name='vault').delete()")
    until(bob, lambda: rooms(bob) == ["Lobby", "Chess"])


def test_who_becomes_staff_sees_the_staff_room_for_as_long(
    demo: Demo, ann: Browser, bob: Browser
) -> None:
    mark(bob)
    change = "bob = User.objects.get(username='bob'); bob.is_staff = {}; bob.save()"
    shell(demo.directory, change.format(True))
    go_to(bob, "Staff room")
    go_to(ann, "Staff room")
    post(ann, "Welcome, Bob")
    until(bob, lambda: shown(bob)[-1:] == ["Welcome, Bob"])
    shell(demo.directory, change.format(False))
    until(bob, lambda: texts(bob, "h1") == ["No such room"])
    assert (rooms(bob), shown(bob)) == (["Lobby", "Chess"], [])
    received(bob)
    post(ann, "As I was saying")
    go_to(ann, "Lobby")
    go_to(bob, "Lobby")
    post(ann, "Hello again")
    until(bob, lambda: shown(bob)[-1:] == ["Hello again"])
    assert "As I was saying" not in str(received(bob))
    assert is_marked(bob)


def test_what_one_posts_is_text(bob: Browser) -> None:
    post(bob, "<img src=x onerror=alert(1)> & <b>bold</b>")
    assert bob.find_elements(By.CSS_SELECTOR, "#messages img, #messages .text b") == []


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
    until(ann, lambda: shown(ann)[-1:] == ["Sorry"])
    press(bob, "Edit: Sorry")
    write(bob, ".editor textarea", "Not sorry")
    press(ann, "Delete: Sorry")
    press(ann, "Really delete?")
    until(ann, lambda: "Sorry" not in shown(ann))
    # He keeps what he types; when he sends it, he learns that it is too late.
    bob.find_element(By.CSS_SELECTOR, ".editor textarea").send_keys(Keys.ENTER)
    until(bob, lambda: "It no longer exists" in "".join(texts(bob, "#trouble")))
    press(bob, "Cancel")
    assert "Sorry" not in "".join(texts(bob, "#messages li"))


def test_the_words_of_others_are_theirs(ann: Browser, bob: Browser) -> None:
    post(ann, "I said this")
    until(bob, lambda: shown(bob)[-1:] == ["I said this"])
    edit = bob.find_element(By.XPATH, '//button[@aria-label="Edit: I said this"]')
    assert not edit.is_displayed()
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
    until(bob, lambda: "201" in texts(bob, "#frames .status"))
    frame = '//*[@id="frames"]//li[@class="in"]//summary[contains(., "messages · subscribe")]'
    bob.find_element(By.XPATH, frame).click()
    until(bob, lambda: any('"resumed": false' in text for text in texts(bob, "#frames pre")))


def test_it_fits_a_phone(ann: Browser, bob: Browser) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    ann.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        for text in (
            "On the train",
            "with rather bad reception and a lot to say about it by the way",
        ):
            say_aside(bob, text)
            until(ann, lambda text=text: asides(ann)[-1:] == [text])
        assert ann.execute_script("return document.documentElement.scrollWidth") == 390
        assert company(ann) == ["ann", "bob"]
        post(ann, "On the train")
    finally:
        ann.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_fits_the_smallest_phone(ann: Browser, bob: Browser) -> None:
    phone = {"width": 320, "height": 568, "deviceScaleFactor": 1, "mobile": True}
    ann.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        post(bob, "On the train")
        until(ann, lambda: shown(ann)[-1:] == ["On the train"])
        # Shown already, for the window was wide when the page was loaded.
        assert texts(ann, "#frames summary")
        assert ann.execute_script("return document.documentElement.scrollWidth") == 320
        assert ann.execute_script(CUT) == []
        # Beside the open wire the last message can be seen, and a few before it.
        assert ann.execute_script("return document.getElementById('scroller').clientHeight") > 90
    finally:
        ann.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


CUT = """
const scrolls = (element) => element.closest("#rooms, #asides, #frames") !== null;
return [...document.querySelectorAll("body *")]
    .filter((element) => element.checkVisibility() && !scrolls(element))
    .filter((element) => element.getBoundingClientRect().right > innerWidth)
    .map((element) => element.outerHTML.slice(0, 80));
"""


def test_new_messages_of_others_are_announced(ann: Browser, bob: Browser) -> None:
    def news(browser: Browser) -> str:
        return browser.execute_script("return document.querySelector('[aria-live]').textContent")

    post(ann, "Can you hear me?")
    until(bob, lambda: "ann: Can you hear me?" in news(bob))
    assert "Can you hear me?" not in news(ann)


def test_the_keyboard_skips_to_the_messages(ann: Browser) -> None:
    ann.refresh()
    until(ann, lambda: shown(ann))
    ann.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    focused = ann.switch_to.active_element
    assert focused.text == "Skip to the messages"
    focused.send_keys(Keys.ENTER)
    until(ann, lambda: ann.switch_to.active_element.get_attribute("id") == "scroller")
    assert ann.title.startswith("Lobby")


def test_the_connection_comes_back(bobs: Browser, tmp_path: Path) -> None:
    browser = bobs
    with serving(tmp_path) as demo:
        sign_in(browser, demo.elsewhere, "bob")
    until(browser, lambda: is_lost(browser))
    write(browser, "#text", "Still there?" + Keys.ENTER)
    until(browser, lambda: texts(browser, "#messages .pending .text") == ["Still there?"])
    with serving(tmp_path, demo.port):
        until(browser, lambda: texts(browser, "#connection, #trouble, .pending .text") == [])
        assert shown(browser).count("Still there?") == 1
        newest, *_ = ask(browser, "messages", action="list")["data"]["results"]
        assert newest["text"] == "Still there?"


def test_a_frozen_server_is_not_live(bobs: Browser, tmp_path: Path) -> None:
    browser = bobs
    with serving(tmp_path) as demo:
        sign_in(browser, demo.elsewhere, "bob")
        until(browser, lambda: texts(browser, "#live") == ["live"])
        # By the browser's own clock: the machine's may be busy with other tests.
        browser.execute_script(WHEN_LOST)
        demo.process.send_signal(signal.SIGSTOP)
        try:
            until(browser, lambda: is_lost(browser))
            assert texts(browser, "#live") == []
            assert browser.execute_script("return (await lost) - frozen") < 10_000
        finally:
            demo.process.send_signal(signal.SIGCONT)
        until(browser, lambda: texts(browser, "#connection span") == [])
        post(browser, "Thawed")


WHEN_LOST = """
window.frozen = performance.now();
window.lost = new Promise((resolve) => {
  const look = () => document.getElementById("connection").hidden || resolve(performance.now());
  new MutationObserver(look).observe(document.getElementById("connection"), { attributes: true });
});
"""


def test_a_session_that_ended_while_the_server_was_down(bobs: Browser, tmp_path: Path) -> None:
    browser = bobs
    with serving(tmp_path) as demo:
        sign_in(browser, demo.elsewhere, "bob")
    until(browser, lambda: is_lost(browser))
    ended = "from django.contrib.sessions.models import Session; Session.objects.all().delete()"
    shell(tmp_path, ended)
    with serving(tmp_path, demo.port):
        until(browser, lambda: texts(browser, "#connection span") == ["You are signed out."])
        browser.find_element(By.LINK_TEXT, "Sign in again").click()
        until(browser, lambda: browser.title.startswith("Sign in"))


def is_lost(browser: Browser) -> bool:
    return texts(browser, "#connection span") == ["Connection lost. Trying again…"]


def test_both_catch_up_after_a_crash(away: tuple[Browser, Browser], tmp_path: Path) -> None:
    ann, bob = away
    with serving(tmp_path) as demo:
        sign_in(ann, demo.elsewhere, "ann")
        sign_in(bob, demo.elsewhere, "bob")
        until(ann, lambda: len(shown(ann)) == 10)
        until(bob, lambda: len(shown(bob)) == 10)
        say_aside(ann, "Did you hear that?")
        until(bob, lambda: asides(bob) == ["Did you hear that?"])
        mark(ann)
        mark(bob)
        others = shown(ann)[2:]
        demo.kill()
    until(ann, lambda: is_lost(ann))
    until(bob, lambda: is_lost(bob))
    received(ann)
    received(bob)
    shell(tmp_path, WRITTEN_MEANWHILE)
    with serving(tmp_path, demo.port):
        now = ["Edited while you were away", *others, "One", "Two"]
        until(ann, lambda: shown(ann) == now)
        until(bob, lambda: shown(bob) == now)
        until(ann, lambda: rooms(ann) == ["Lobby", "Chess staff only", "Staff room staff only"])
        until(bob, lambda: rooms(bob) == ["Lobby"])
        post(ann, "Three")
        until(bob, lambda: shown(bob) == [*now, "Three"])
        say_aside(bob, "Hear what?")
        for browser in (ann, bob):
            until(browser, lambda browser=browser: company(browser) == ["ann", "bob"])
            said = ["Did you hear that?", "Hear what?"]
            until(browser, lambda browser=browser, said=said: asides(browser) == said)
            assert is_marked(browser)
            payloads = received(browser)
            begun = [payload for payload in payloads if payload["action"] == "subscribe"]
            # They came back to where they were, and have not begun again.
            assert [payload["resumed"] for payload in begun] == [True, True, True]
            [joined] = [payload["data"] for payload in payloads if payload["action"] == "join"]
            assert (joined["resumed"], joined["messages"]) == (True, [])
            assert "reset" not in [payload["action"] for payload in payloads]


WRITTEN_MEANWHILE = """
lobby, ann = Room.objects.get(name="lobby"), User.objects.get(username="ann")
first, second = lobby.messages.all()[:2]
first.text = "Edited while you were away"
first.save()
second.delete()
Message.objects.create(room=lobby, author=ann, text="One")
Message.objects.create(room=lobby, author=ann, text="Never").delete()
Message.objects.create(room=lobby, author=ann, text="Two")
chess = Room.objects.get(name="chess")
chess.staff_only = True
chess.save()
"""


@contextmanager
def serving_with_daphne(directory: Path, port: str, database: str) -> Iterator[Demo]:
    """Serve the demo as it is not shipped: by daphne, from a database of PostgreSQL."""
    command = [sys.executable, str(SERVE), "daphne", port, database]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        terminating(server, directory) as demo,
    ):
        yield demo


@pytest.fixture
def serving_on_postgresql(require_postgresql: None) -> Iterator[Serving]:
    database = f"rest_channels_demo_{os.getpid()}"
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    yield lambda directory, _port="0": serving_with_daphne(directory, port, database)
    subprocess.run([sys.executable, str(SERVE), "drop", database], check=True)


def test_no_row_flickers_while_two_users_write_and_uvicorn_is_killed(
    away: tuple[Browser, Browser], tmp_path: Path
) -> None:
    write_while_it_is_killed(away, tmp_path, serving)


def test_no_row_flickers_while_daphne_on_postgresql_is_killed(
    away: tuple[Browser, Browser], tmp_path: Path, serving_on_postgresql: Serving
) -> None:
    write_while_it_is_killed(away, tmp_path, serving_on_postgresql)


def write_while_it_is_killed(
    away: tuple[Browser, Browser], directory: Path, serving: Serving
) -> None:
    ann, bob = away
    with serving(directory) as demo:
        for browser, name in ((ann, "ann"), (bob, "bob")):
            sign_in(browser, demo.elsewhere, name)
            browser.execute_script(OBSERVE)
        for browser in away:
            until(browser, lambda browser=browser: is_live(browser))
            browser.execute_script("void write('before', 3)")
        demo.kill()
        for browser in away:
            browser.execute_script("void write('meanwhile', 1)")  # it is shown before it is sent
    with serving(directory, demo.port):
        for browser in away:
            browser.execute_script("api.reconnect()")
            until(browser, lambda browser=browser: is_live(browser))
            browser.execute_script("void write('after', 3)")
        for browser in away:
            until(browser, lambda browser=browser: browser.execute_script("return !pending"))
        until(ann, lambda: texts(ann, "live-list p") == texts(bob, "live-list p"))
        labels = ("before ", "meanwhile ", "after ")
        own = [text for text in texts(ann, "live-list p") if text.startswith(labels)]
        assert len(own) == 2 * (3 + 1 + 3)
        for browser in away:
            assert browser.execute_script("return [flickers, drawings > 5]") == [[], True]


def is_live(browser: Browser) -> bool:
    script = "return document.querySelector('live-list').getAttribute('status') === 'live'"
    return bool(browser.execute_script(script))


# A row that was shown, then was not, and then is shown again has flickered.
OBSERVE = """
return (async () => {
  const { apiAt } = await import("/static/rest_channels/live-list.js");
  const api = apiAt("/");
  const rooms = await api.rooms.list();
  const room = (rooms.results ?? rooms).find(({ name }) => name === "lobby").id;
  Object.assign(window, { api, pending: 0, flickers: [], drawings: 0 });
  window.write = async (label, times) => {
    pending++;
    for (let i = 0; i < times; i++)
      await api.messages.create({ room, text: `${label} ${i} of ${crypto.randomUUID()}` });
    pending--;
  };
  document.body.innerHTML = `
    <live-list stream="messages" query='{"room": ${room}}' window="90">
      <template><p data-text="text"></p></template>
    </live-list>`;
  const list = document.querySelector("live-list");
  const gone = new Set();
  let shown = new Set();
  new MutationObserver(() => {
    const now = new Set([...list.querySelectorAll("p")].map((row) => row.textContent));
    for (const text of shown) if (!now.has(text)) gone.add(text);
    for (const text of now) if (gone.has(text)) flickers.push(text);
    shown = now;
    drawings++;
  }).observe(list, { childList: true, subtree: true, characterData: true });
})();
"""


@pytest.mark.usefixtures("redis_layer")
def test_two_processes_are_one_chat(
    away: tuple[Browser, Browser], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMO_REDIS", "redis://127.0.0.1:6379")
    ann, bob = away
    with serving(tmp_path) as bobs_server:
        with serving(tmp_path) as anns_server:
            sign_in(ann, anns_server.elsewhere, "ann")
            sign_in(bob, bobs_server.elsewhere, "bob")
            for browser in (ann, bob):
                mark(browser)
                until(browser, lambda browser=browser: company(browser) == ["ann", "bob"])
            post(bob, "Which port are you at?")
            until(ann, lambda: shown(ann)[-1:] == ["Which port are you at?"])
            say_aside(ann, "Let me look")
            until(bob, lambda: asides(bob) == ["Let me look"])
            write(ann, "#text", "At por")
            until(bob, lambda: typing(bob) == "ann is typing")
            anns_server.kill()
        until(ann, lambda: is_lost(ann))
        until(bob, lambda: typing(bob) == "" and company(bob) == ["bob"])
        assert texts(bob, "#said") == ["ann has left"]
        received(ann)
        post(bob, "Never mind")
        say_aside(bob, "Gone")
        with serving(tmp_path, anns_server.port):
            # A browser's event when there is a network again: the page waits no longer.
            ann.execute_script("dispatchEvent(new Event('online'))")
            until(ann, lambda: shown(ann)[-1:] == ["Never mind"])
            until(ann, lambda: asides(ann) == ["Let me look", "Gone"])
            for browser in (ann, bob):
                until(browser, lambda browser=browser: company(browser) == ["ann", "bob"])
            assert ann.find_element(By.ID, "text").get_property("value") == "At por"
            [joined] = [payload for payload in received(ann) if payload["action"] == "join"]
            assert [said["text"] for said in joined["data"]["messages"]] == ["Gone"]
            post(ann, "At another one now")
            until(bob, lambda: shown(bob)[-1:] == ["At another one now"])
            assert is_marked(ann) and is_marked(bob)


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
