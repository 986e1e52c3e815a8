"""Admission to a socket: the policy of the streams behind it, and the origin of the page."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient, SocketClosed
from tests.support.server_processes import KINDS, Server, account, answer, close_code


@pytest.fixture(scope="module", params=KINDS)
def server(request):
    with Server(request.param, ALLOWED_ORIGINS=["https://friend.example"]) as server:
        yield server
        assert "Traceback" not in server.output, server.output


@contextmanager
def refused():
    with pytest.raises(InvalidStatus) as caught:
        yield
    assert caught.value.response.status_code == 403


def closed_with(server, path, **options):
    with server.connect(path, **options) as socket:
        return close_code(socket)


# The streams' policy


def test_a_stranger_is_refused_where_every_stream_would_refuse(server):
    assert closed_with(server, "/members/") == 4401


def test_a_stranger_is_refused_at_a_root_of_such_streams():
    with Server("uvicorn", "tests.support.apps.abuse_app:members_only") as server:
        assert closed_with(server, "/") == 4401
        with server.connect("/", **account(server, "ann")) as socket:
            socket.send('{"stream": "members", "payload": {"action": "list"}}')
            assert '"ann"' in socket.recv(20)


def test_a_stranger_is_admitted_where_one_stream_would_answer(server):
    with server.connect("/") as socket:
        socket.send('{"stream": "members", "payload": {"action": "list"}}')
        assert '"response_status": 401' in socket.recv(20)
        socket.send('{"stream": "rooms", "payload": {"action": "list"}}')
        assert '"response_status": 200' in socket.recv(20)


def test_a_stranger_is_admitted_where_one_action_would_answer(server):
    with server.connect("/probes/") as socket:
        assert answer(socket, "mine")["response_status"] == 401
        assert answer(socket, "me")["data"] == {"username": ""}


def test_a_member_is_admitted(server):
    with server.connect("/members/", **account(server, "ann-of-handshakes")) as socket:
        assert answer(socket, "list")["data"] == {"username": "ann-of-handshakes"}


@pytest.mark.parametrize("header", ["Token bad", "Token", "Bearer x", "", "\t"])
def test_credentials_that_nobody_takes_are_refused(server, header):
    headers = {"Authorization": header}
    assert closed_with(server, "/members/", additional_headers=headers) == 4401


def test_a_cookie_of_no_session_is_nobodys(server):
    headers = {"Cookie": "sessionid=x"}
    assert closed_with(server, "/members/", additional_headers=headers) == 4401


# The origin


def test_without_an_origin(server):
    with server.connect("/rooms/") as socket:
        assert answer(socket, "list")["response_status"] == 200


def test_the_sites_own_origin(server):
    with server.connect("/rooms/", origin=f"http://127.0.0.1:{server.port}") as socket:
        assert answer(socket, "list")["response_status"] == 200


def test_an_allowed_origin(server):
    with server.connect("/rooms/", origin="https://friend.example") as socket:
        assert answer(socket, "list")["response_status"] == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://127.0.0.1.evil.example:{port}",
        "http://127.0.0.1:{port}@evil.example",
        "http://evil.example/http://127.0.0.1:{port}",
        "http://friend.example",
        "https://www.friend.example",
        "https://friend.example.evil.example",
        "https://friend.example:444",
        "http://localhost:{port}",
        "null",
        "file://",
    ],
)
def test_another_origin_is_refused(server, origin):
    with refused(), server.connect("/rooms/", origin=origin.format(port=server.port)):
        pass


@pytest.mark.parametrize("origin", ["", " ", "http://[", "http://127.0.0.1:x", "//", "\u00e4"])
def test_an_origin_that_is_none_is_refused(origin):
    """Some servers refuse it themselves, with 400."""
    client = SocketClient(DefaultRouter().as_asgi(), headers={"origin": origin})
    with pytest.raises(SocketClosed) as closed:
        client.connect()
    assert closed.value.code is None


def test_an_origin_of_a_rebound_name_is_refused(server):
    """Its Host agrees with its Origin, but is none of ALLOWED_HOSTS."""
    evil = f"evil.example:{server.port}"
    with (
        refused(),
        connect(f"ws://{evil}/rooms/", sock=server.transport(), origin=f"http://{evil}"),
    ):
        pass


def test_the_origin_is_checked_before_the_path(server):
    with refused(), server.connect("/nowhere/", origin="http://evil.example"):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_cookies_from_another_origin_do_not_count_in_a_stack_without_the_check(kind):
    with Server(kind, "tests.support.apps.abuse_app:by_hand") as server:
        cookie = account(server, "ann", by="session")
        with server.connect("/probes/", origin=f"http://127.0.0.1:{server.port}", **cookie) as own:
            assert answer(own, "me")["data"] == {"username": "ann"}
        with server.connect("/probes/", origin="http://evil.example", **cookie) as evil:
            assert answer(evil, "me")["data"] == {"username": ""}
