"""Servers that stop: requests are answered, then every socket is closed with a code."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
from django.test import override_settings

from rest_channels.sockets.shutdown import Departures
from tests.support.server_processes import KINDS, RemoteGate, Server, answer, ask, close_code, reply


@pytest.mark.parametrize("kind", KINDS)
def test_frames_in_flight_are_answered_and_then_sockets_close_with_1012(kind):
    with RemoteGate() as gate, Server(kind, SHUTDOWN_SECONDS=60) as server:
        with server.connect("/probes/") as busy, server.connect("/probes/") as idle:
            ask(busy, "wait", 1, data={"port": gate.port})
            gate.entered()
            ask(busy, "echo", 2, data="waits for its turn")
            answer(idle, "echo", data=1)
            server.terminate()
            assert close_code(idle) == 1012
            accepted = frames_until_one_is_refused(busy)
            gate.open()
            replies = [reply(busy) for _ in range(2 + accepted)]
            assert [r["request_id"] for r in replies] == [1, 2, *["late"] * accepted]
            assert {r["response_status"] for r in replies} == {200}
            assert close_code(busy) == 1012
        assert server.has_ended()


def frames_until_one_is_refused(socket):
    """Return how many frames are taken until the socket, too, learns that the server goes away."""
    accepted = 0
    while True:
        ask(socket, "echo", "late", data=1)
        try:
            refused = json.loads(socket.recv(0.5))
        except TimeoutError:
            # It waits behind the slow one.
            accepted += 1
        else:
            assert (refused["response_status"], refused["codes"]) == (503, ["unavailable"])
            assert int(refused["headers"]["Retry-After"]) > 0
            return accepted


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_not_answered_in_time_is_closed_all_the_same(kind):
    with RemoteGate() as gate, Server(kind, SHUTDOWN_SECONDS=0.5) as server:
        with server.connect("/probes/") as socket:
            ask(socket, "wait", 1, data={"port": gate.port})
            gate.entered()
            server.terminate()
            assert close_code(socket) == 1012
        gate.open()
        assert server.has_ended()


# This ends a server at once that has begun to stop.
AT_ONCE = {"gunicorn": signal.SIGQUIT}


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_signal_is_the_servers_own(kind):
    with (
        RemoteGate() as gate,
        Server(kind, SHUTDOWN_SECONDS=600) as server,
        server.connect("/probes/") as busy,
        server.connect("/probes/") as idle,
    ):
        ask(busy, "wait", 1, data={"port": gate.port})
        gate.entered()
        server.terminate()
        assert close_code(idle) == 1012
        while not server.has_ended(within_s=0.2):
            server.tell(AT_ONCE.get(kind, signal.SIGTERM))
            # A thread that is still answering keeps its process.
            gate.open()
        # Not all of them say a code.
        assert close_code(busy) in (None, 1012)


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_to_all_processes_of_a_server_is_one(kind):
    with RemoteGate() as gate, Server(kind, SHUTDOWN_SECONDS=60) as server:
        with server.connect("/probes/") as socket:
            ask(socket, "wait", 1, data={"port": gate.port})
            gate.entered()
            server.tell(signal.SIGTERM)
            server.terminate()
            accepted = frames_until_one_is_refused(socket)
            gate.open()
            assert {reply(socket)["response_status"] for _ in range(1 + accepted)} == {200}
            assert close_code(socket) == 1012
        assert server.has_ended()


class Socket:
    """A socket whose frames are answered when the test says so."""

    def __init__(self, departures, *, is_busy=False) -> None:
        self.departures = departures
        self.is_busy = is_busy
        self.asked_at = self.closed_at = None
        departures.enter(self)

    def leave(self):
        self.asked_at = self.asked_at or self.departures.loop.time()
        if not self.is_busy:
            self.go()
        return not self.is_busy

    def go(self):
        self.closed_at = self.departures.loop.time()
        self.departures.exit(self)


def leaving(count, *, busy=0, seconds=2):
    """Return the sockets after their close, and how long all of it took."""

    async def story():
        departures = Departures(asyncio.get_running_loop())
        sockets = [Socket(departures, is_busy=n < busy) for n in range(count)]
        began = departures.loop.time()
        with override_settings(REST_CHANNELS={"SHUTDOWN_SECONDS": seconds}):
            await departures.leave()
        assert not departures.sockets
        for socket in sockets:
            socket.closed_at -= began
        return sockets, departures.loop.time() - began

    return asyncio.run(story())


def test_many_are_closed_over_half_of_the_time():
    sockets, _ = leaving(1_000)
    times = sorted(socket.closed_at for socket in sockets)
    assert times[499] > 0.4 and 0.9 < times[999] < 2


def test_few_are_closed_soon():
    _, seconds = leaving(5, seconds=600)
    assert seconds < 10


def test_those_who_are_not_answered_delay_nobody_else():
    sockets, _ = leaving(300, busy=290)
    assert all(socket.closed_at < 2 for socket in sockets[290:])
    assert all(socket.closed_at >= 2 for socket in sockets[:290])
