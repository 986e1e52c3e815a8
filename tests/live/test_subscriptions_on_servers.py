"""Subscriptions on real servers: one that goes away, and clients that do not read."""

from __future__ import annotations

import pytest

from tests.support.room_client import Client, listed
from tests.support.server_processes import KINDS, RemoteGate, Server, answer, ask, close_code, reply

APPLICATION = "tests.support.apps.live_rooms_app:application"

# The other server's doorbell does not reach it.
BOUNDS = {"POLL_SECONDS": 0.05, "FRAME_RATE": 10_000, "FRAME_BURST": 10_000}


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_goes_away_answers_and_clients_go_on_at_another(kind):
    with (
        RemoteGate() as gate,
        Server(kind, APPLICATION, SHUTDOWN_SECONDS=60, **BOUNDS) as server,
        Server(kind, APPLICATION, beside=server, **BOUNDS) as other,
        other.connect() as writer,
        server.connect() as asking,
    ):
        busy, idle = Client().subscribe(server), Client().subscribe(server)
        for socket in (busy.socket, asking):
            ask(socket, "wait", 1, data={"port": gate.port})
            gate.entered()
        ask(asking, "subscribe", "behind it", snapshot=True)
        # Answered at once: what came before it has been taken.
        assert answer(asking, "cancel", data={"request_id": "none"})["response_status"] == 404
        server.terminate()
        assert idle.take_rest() == 1012
        # A client that waits for a reply receives changes, too.
        assert answer(writer, "create", data={"name": "meanwhile"})["response_status"] == 201
        assert busy.take() == "create"
        gate.open()
        assert reply(busy.socket)["response_status"] == 200
        assert busy.take_rest() == 1012
        assert reply(asking)["response_status"] == 200
        begun = reply(asking)
        assert [room["name"] for room in begun["data"]] == ["meanwhile"]
        assert close_code(asking) == 1012
        assert server.has_ended()
        assert answer(writer, "create", data={"name": "afterwards"})["response_status"] == 201
        for client in (busy, idle):
            client.subscribe(other).take_until(listed(other))
            client.leave()
        resumed = answer(writer, "subscribe", since=begun["position"], held=[])
        assert resumed["resumed"] is True


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_too_slow_is_closed_and_goes_on_where_it_was(kind):
    serving = Server(kind, APPLICATION, MAX_QUEUE_BYTES=300_000, **BOUNDS)
    with serving as server, server.connect() as writer:
        slow, witness = Client(), Client().subscribe(server)
        slow.connect(server, is_lazy=True)
        slow.ask_to_subscribe()
        slow.take_acknowledgement()
        for name in ("first", "second", "third"):
            # The network takes some MB. One message of any length may wait; not more.
            filled = answer(writer, "fill", data={"name": name, "rooms": 40})
            assert filled["response_status"] == 200
            assert {witness.take() for _ in range(40)} == {"create"}
        # daphne gives a client one second to answer the close, and then cuts the line.
        assert slow.take_rest() in ({4408, None} if kind == "daphne" else {4408})
        assert len(slow.rows) < 120
        slow.subscribe(server).take_until(witness.held)
        slow.leave()
        witness.leave()
