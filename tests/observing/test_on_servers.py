"""Signals and the access log of a real server."""

from __future__ import annotations

import base64
import json

import pytest

from tests.support.server_processes import Server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.once

APPLICATION = "tests.support.apps.observed_app:application"

SECRETS = ["sesame-query", "sesame-header", "sesame-frame", "sesame-new", "sesame-data", "c2VzYW1l"]


@pytest.fixture(scope="module")
def server():
    with Server("uvicorn", APPLICATION, ACCESS_LOG=True) as running:
        yield running


def lines(server, kind):
    found = [line for line in server.output.splitlines() if line.startswith(f"{kind} ")]
    return [json.loads(line.removeprefix(f"{kind} ")) for line in found]


def ask(socket, action, **keys):
    socket.send(json.dumps({"stream": "rooms", "payload": {"action": action, **keys}}))
    return json.loads(socket.recv(timeout=30))["payload"]


def test_signals_are_received_in_a_thread_of_their_own(server):
    before = len(lines(server, "SIGNAL"))
    with server.connect("/") as socket:
        ask(socket, "subscribe", request_id=1)
        ask(socket, "create", request_id=2, data={"name": "lobby"})
        ask(socket, "unsubscribe", request_id=1)
    with server.connect("/nowhere/") as socket, pytest.raises(Exception, match="4404"):
        socket.recv(timeout=30)
    expected = {
        *("socket_connected", "socket_closed", "handshake_refused", "frame_answered"),
        *("subscription_begun", "subscription_ended", "changes_told", "async"),
    }
    wait_until(lambda: expected <= {s["name"] for s in lines(server, "SIGNAL")[before:]})
    found = lines(server, "SIGNAL")[before:]
    plain = [signal for signal in found if signal["name"] != "async"]
    assert not any(signal["on_loop"] for signal in plain)
    # Not the threads that answer frames either: there is one.
    assert len({signal["thread"] for signal in plain}) == 1
    assert all(signal["on_loop"] for signal in found if signal["name"] == "async")
    [refused] = [signal for signal in found if signal["name"] == "handshake_refused"]
    assert refused["reason"] == "no_such_route"
    answered = [s["operation"] for s in found if s["name"] == "frame_answered"]
    assert answered[-3:] == ["subscribe", "create", "unsubscribe"]
    # Logged by Django, and nothing more.
    assert "a receiver that fails" in server.output


def test_the_access_log_has_a_line_for_each_frame_and_no_credentials(server):
    offered = base64.urlsafe_b64encode(b"Token sesame-header").decode().rstrip("=")
    before = len(lines(server, "RECORD"))
    with server.connect(
        "/?token=sesame-query",
        subprotocols=["rest-channels", f"authorization.{offered}"],
        additional_headers={"x-request-id": "handshake-7", "cookie": "sessionid=sesame-query"},
    ) as socket:
        ask(socket, "list", request_id=1, query={"token": "sesame-query"})
        ask(socket, "list", request_id="a\nb", headers={"authorization": "Token sesame-frame"})
        ask(socket, "authenticate", data={"authorization": "Token sesame-new"})
        ask(socket, "create", data={"password": "sesame-data", "name": "x" * 999})
        ask(socket, "ping", headers={"X-Request-ID": "frame-8"})
    wait_until(lambda: len(lines(server, "RECORD")) >= before + 5)
    records = lines(server, "RECORD")[before:]
    assert [record["operation"] for record in records] == [
        *("list", "list", "authenticate", "create", "ping")
    ]
    assert [record["status"] for record in records] == [200, 200, 403, 201, 200]
    assert [record["correlation_id"] for record in records] == [*["handshake-7"] * 4, "frame-8"]
    text = json.dumps(records)
    assert [secret for secret in SECRETS if secret in text] == []
    # A line stays a line.
    assert records[1]["message"].count("\n") == 0
    assert records[1]["message"].startswith('rooms "list" 200 ')
    assert records[1]["message"].endswith('request_id "a\\nb", correlation_id "handshake-7"')
