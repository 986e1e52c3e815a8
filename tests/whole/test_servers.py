"""Stories on real servers, over real sockets."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
from packaging.version import Version
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.server_processes import KINDS, Server


@pytest.fixture(scope="module", params=KINDS)
def server(request):
    with Server(request.param, "tests.support.apps.stories_app:application") as server:
        server.kind = request.param
        yield server


def send(socket, action, stream="one", **payload):
    socket.send(json.dumps({"stream": stream, "payload": {"action": action, **payload}}))


def receive(socket):
    return json.loads(socket.recv(timeout=10))["payload"]


def ask(socket, action, stream="one", **payload):
    send(socket, action, stream, **payload)
    return receive(socket)


def close_code(socket):
    with pytest.raises(ConnectionClosed) as caught:
        socket.recv(timeout=10)
    return caught.value.rcvd.code


def test_frames_are_answered_in_order(server):
    with server.connect() as socket:
        for number in range(10):
            send(socket, "echo", request_id=number, data={"é": number})
        replies = [receive(socket) for _ in range(10)]
    assert [(r["request_id"], r["data"]) for r in replies] == [(n, {"é": n}) for n in range(10)]


def test_a_slow_frame_delays_no_other_stream(server):
    with server.connect() as socket:
        send(socket, "gated", request_id="slow")
        assert ask(socket, "echo", "other", request_id="quick")["request_id"] == "quick"
        send(socket, "open", "other", request_id="open")
        assert {receive(socket)["request_id"] for _ in range(2)} == {"slow", "open"}


@pytest.mark.parametrize("message", ["", "{", "[]", "9" * 5_000, "[" * 10_000, b"\x00", b"{}"])
def test_what_is_no_frame_is_answered_400_on_the_same_socket(server, message):
    with server.connect() as socket:
        socket.send(message)
        assert receive(socket)["response_status"] == 400
        assert ask(socket, "echo", data=1)["data"] == 1


def test_a_frame_in_fragments(server):
    with server.connect() as socket:
        socket.send(['{"stream": "one", "pay', 'load": {"action": "echo",', ' "data": "é"}}'])
        assert receive(socket)["data"] == "é"


def test_a_frame_too_long_closes_the_socket(server):
    with server.connect() as socket:
        socket.send("x" * 700_000)
        assert close_code(socket) == 1009


def test_a_long_reply(server):
    with server.connect() as socket:
        assert len(ask(socket, "long", query={"length": 5_000_000})["data"]) == 5_000_000


def test_a_reply_that_a_server_behind_middleware_does_not_send(server):
    # Daphne holds replies to the length that messages may have, from 4.2.2 on.
    has_limit = server.kind == "daphne" and Version(version("daphne")) >= Version("4.2.2")
    with server.connect("/wrapped/") as socket:
        reply = ask(socket, "long", query={"length": 5_000_000})
        if has_limit:
            assert (reply["response_status"], reply["codes"]) == (500, ["error"])
        else:
            assert len(reply["data"]) == 5_000_000
        assert ask(socket, "echo", data=1)["data"] == 1


def test_a_close_code_that_a_server_behind_middleware_does_not_take(server):
    with server.connect("/wrapped/") as socket:
        socket.send("x" * 700_000)
        assert close_code(socket) == (4009 if server.kind == "daphne" else 1009)


def test_replies_wait_for_a_client_that_reads_late(server):
    with server.connect() as slow, server.connect() as quick:
        for number in range(16):
            send(slow, "long", request_id=number, query={"length": 1_000_000})
        assert ask(quick, "echo", data=1)["data"] == 1
        assert [receive(slow)["request_id"] for _ in range(16)] == list(range(16))


def test_a_client_that_vanishes_stops_what_it_asked_for(server):
    with server.connect() as witness:
        with server.connect() as socket:
            assert ask(socket, "waits")["data"] == "waiting"
        assert ask(witness, "has_stopped")["response_status"] == 200


def test_a_path_that_leads_nowhere(server):
    with server.connect("/nowhere/") as socket:
        assert close_code(socket) == 4404


def test_a_page_of_another_origin_is_refused_at_the_handshake(server):
    with pytest.raises(InvalidStatus) as caught:
        server.connect(origin="https://elsewhere.example")
    assert caught.value.response.status_code == 403


def test_our_subprotocol(server):
    with server.connect(subprotocols=["rest-channels"]) as socket:
        assert socket.subprotocol == "rest-channels"
    with server.connect() as socket:
        assert socket.subprotocol is None
