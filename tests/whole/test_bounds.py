"""Each bound crossed on real servers: the client's answer, and the cost for the server."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import ConnectionClosed

from rest_channels.settings import DEFAULTS
from tests.support.server_processes import (
    KINDS,
    WEBSOCKETS_OF_UVICORN,
    RemoteGate,
    Server,
    account,
    answer,
    ask,
    close_code,
    reply,
)

MiB = 2**20


@pytest.fixture(scope="module", params=KINDS)
def server(request):
    """With few threads, and with a rate that only the tests about it meet."""
    bounds = {"WORKER_THREADS": 4, "MAX_THREADS_PER_USER": 2}
    with Server(request.param, FRAME_RATE=10**6, FRAME_BURST=10**6, **bounds) as server:
        yield server
        assert server.is_running
        assert "Traceback" not in server.output, server.output


def frame_of(length):
    frame = json.dumps({"action": "list", "request_id": 1, "padding": ""})
    return frame.replace('""', '"' + "x" * (length - len(frame)) + '"')


# MAX_FRAME_BYTES, and what a list of MAX_SUBSCRIPTION_ROWS keys takes

LONGEST = 64 * DEFAULTS["MAX_SUBSCRIPTION_ROWS"]


def test_the_longest_frame_is_answered(server):
    with server.connect("/rooms/") as socket:
        socket.send(frame_of(DEFAULTS["MAX_FRAME_BYTES"]))
        assert reply(socket)["response_status"] == 200


@pytest.mark.parametrize("length", [DEFAULTS["MAX_FRAME_BYTES"] + 1, LONGEST])
def test_a_frame_too_long_is_answered_413(server, length):
    with server.connect("/rooms/") as socket:
        socket.send(frame_of(length))
        told = reply(socket)
        assert (told["response_status"], told["request_id"]) == (413, 1)
        assert answer(socket, "list")["response_status"] == 200


def test_a_frame_longer_than_any_closes_its_socket_alone_with_1009(server):
    with server.connect("/rooms/") as other, server.connect("/rooms/") as socket:
        socket.send(frame_of(LONGEST + 1))
        assert close_code(socket) == 1009
        assert answer(other, "list")["response_status"] == 200


def test_what_came_before_a_frame_too_long_is_answered(server):
    with server.connect("/rooms/") as socket:
        assert answer(socket, "list", request_id=1)["request_id"] == 1
        socket.send(frame_of(LONGEST + 1))
        assert close_code(socket) == 1009


def test_bytes_count_not_characters(server):
    with server.connect("/rooms/") as socket:
        socket.send(frame_of(DEFAULTS["MAX_FRAME_BYTES"] // 2).replace("x", "\N{SNOWMAN}"))
        assert reply(socket)["response_status"] == 413
        socket.send(frame_of(LONGEST // 2).replace("x", "\N{SNOWMAN}"))
        assert close_code(socket) == 1009


def test_a_fragmented_message_too_long_closes_with_1009(server):
    frame = frame_of(LONGEST + 1)
    with server.connect("/rooms/") as socket:
        socket.send([frame[:300_000], frame[300_000:600_000], frame[600_000:]])
        assert close_code(socket) == 1009


def test_a_fragmented_message_of_the_longest_length_is_answered(server):
    frame = frame_of(DEFAULTS["MAX_FRAME_BYTES"])
    with server.connect("/rooms/") as socket:
        socket.send([frame[i : i + 1000] for i in range(0, len(frame), 1000)])
        assert reply(socket)["response_status"] == 200


@pytest.mark.parametrize("length", [20 * MiB, 200 * MiB])
def test_a_message_much_too_long_costs_no_memory_of_its_size(server, length):
    server.forget_peak()
    before = server.rss_bytes
    with server.connect("/rooms/") as socket:
        piece = "x" * MiB
        with pytest.raises(ConnectionClosed) as closed:
            # One message; the server may hang up in the middle of it.
            socket.send(piece for _ in range(length // MiB))
            socket.recv(20)
        # granian may leave out the code.
        codes = {1009, 1005} if server.kind == "granian" else {1009}
        assert closed.value.rcvd is None or closed.value.rcvd.code in codes
    # uvicorn keeps up to 16 MiB, its --ws-max-size, in pieces and joined; granian up to 64 MiB, and
    # twice that while its buffer grows.
    assert server.peak_rss_bytes - before < (160 if server.kind == "granian" else 64) * MiB


# MAX_FRAME_DEPTH and MAX_REQUEST_ID_CHARS


def nested(depth):
    return json.loads("[" * depth + "]" * depth)


def test_the_deepest_frame_is_answered_and_a_deeper_one_refused(server):
    limit = DEFAULTS["MAX_FRAME_DEPTH"]
    with server.connect("/rooms/") as socket:
        deepest = answer(socket, "echo", request_id=1, data=nested(limit - 1))
        assert (deepest["response_status"], deepest["data"]) == (200, nested(limit - 1))
        deeper = answer(socket, "echo", request_id=2, data=nested(limit))
        assert deeper["response_status"] == 400
        assert deeper["errors"] == ["A frame must not nest more than 32 arrays and objects."]
        assert answer(socket, "list")["response_status"] == 200


def test_the_longest_request_id_is_echoed_and_a_longer_one_refused(server):
    limit = DEFAULTS["MAX_REQUEST_ID_CHARS"]
    with server.connect("/rooms/") as socket:
        assert answer(socket, "list", request_id="x" * limit)["request_id"] == "x" * limit
        refused = answer(socket, "list", request_id="x" * (limit + 1))
        assert (refused["response_status"], refused["request_id"]) == (400, None)


# MAX_IN_FLIGHT


def test_one_frame_too_many_in_flight_is_answered_503_at_once(server):
    limit = DEFAULTS["MAX_IN_FLIGHT"]
    with RemoteGate() as gate, server.connect("/probes/") as socket:
        for request_id in range(limit):
            ask(socket, "wait", request_id, data={"port": gate.port})
        gate.entered()
        refused = answer(socket, "me", request_id="too many")
        assert (refused["response_status"], refused["request_id"]) == (503, "too many")
        assert refused["codes"] == ["too_many_in_flight"]
        for request_id in range(limit):
            gate.open()
            assert reply(socket)["request_id"] == request_id
            if request_id + 1 < limit:
                gate.entered()
        assert answer(socket, "me")["response_status"] == 200


# FRAME_RATE and FRAME_BURST


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_is_answered_429_then_closed_with_4429(kind):
    with Server(kind, FRAME_RATE=0.1, FRAME_BURST=5) as server, server.connect("/") as socket:
        for _ in range(11):
            socket.send("no frame")
        payloads = [reply(socket)["payload"] for _ in range(10)]
        assert [p["response_status"] for p in payloads] == [400] * 5 + [429] * 5
        assert all(int(p["headers"]["Retry-After"]) >= 10 for p in payloads[5:])
        assert close_code(socket) == 4429
        with server.connect("/") as another:
            another.send("no frame")
            assert reply(another)["payload"]["response_status"] == 400


# MAX_QUEUE_BYTES


def test_a_client_that_asks_and_does_not_read_is_closed_with_4408(server):
    before = server.rss_bytes
    # Long, so that the kernel's buffers hold few of them: the server has read thousands by the
    # time that all are sent. Those it refuses with 503 are what it cannot keep.
    padding = "x" * 1500
    with server.connect_lazily("/probes/") as socket, server.connect("/probes/") as other:
        for number in range(12_000):
            request_id = f"{number:0128}"
            ask(socket, "big", request_id, data={"bytes": 500_000}, padding=padding)
        for _ in range(20):
            assert answer(other, "me")["response_status"] == 200
        assert server.rss_bytes - before < 32 * MiB
        code = close_code(socket)
        if server.kind in ("daphne", "granian") and code is None:
            # Autobahn waits one second for the client's answer to a close, then for nothing;
            # granian does not wait for it.
            return
        assert code == 4408


def assert_generator_waits(server):
    """20 MB of it are far more than the buffers of kernel and server hold."""
    before = server.rss_bytes
    with server.connect_lazily("/probes/") as socket, server.connect("/probes/") as other:
        ask(socket, "endless")
        for _ in range(500):
            assert answer(other, "drawn")["data"] < 1000
        assert server.rss_bytes - before < 16 * MiB
        numbers = [reply(socket)["data"]["number"] for _ in range(1000)]
        assert numbers == list(range(1000))


def test_a_generator_is_drawn_on_no_faster_than_the_client_reads(server):
    assert_generator_waits(server)


@pytest.mark.parametrize("kind", [*KINDS, *WEBSOCKETS_OF_UVICORN])
def test_sending_waits_in_a_stack_built_by_hand_too(kind):
    with Server(
        kind, "tests.support.apps.abuse_app:by_hand", FRAME_RATE=10**6, FRAME_BURST=10**6
    ) as server:
        assert_generator_waits(server)


def test_a_generator_that_waits_for_its_client_can_be_cancelled(server):
    with server.connect("/probes/") as socket:
        ask(socket, "endless", 1)
        assert reply(socket)["data"]["number"] == 0
        ask(socket, "cancel", 2, data={"request_id": 1})
        statuses = {}
        while len(statuses) < 2:
            message = reply(socket)
            if message["response_status"] != 206:
                statuses[message["request_id"]] = message["response_status"]
        assert statuses == {1: 499, 2: 204}


def test_a_client_that_reads_late_loses_nothing(server):
    with server.connect_lazily("/probes/") as socket:
        for number in range(DEFAULTS["MAX_IN_FLIGHT"]):
            ask(socket, "big", number, data={"bytes": 500_000})
        with server.connect("/probes/") as other:
            assert answer(other, "me")["response_status"] == 200
        replies = [reply(socket) for _ in range(DEFAULTS["MAX_IN_FLIGHT"])]
        assert [r["request_id"] for r in replies] == list(range(len(replies)))
        assert {len(r["data"]) for r in replies} == {500_000}


def test_a_reply_longer_than_any_bound_is_sent(server):
    with server.connect("/probes/") as socket:
        assert len(answer(socket, "big", data={"bytes": 4 * MiB})["data"]) == 4 * MiB
        assert answer(socket, "me")["response_status"] == 200


# WORKER_THREADS and MAX_THREADS_PER_USER


def test_one_user_cannot_occupy_all_worker_threads(server):
    ann, ben = account(server, "threads-ann"), account(server, "threads-ben")
    path = "/side-by-side/"
    with (
        RemoteGate() as gate,
        server.connect(path, **ann) as one,
        server.connect(path, **ann) as two,
        server.connect(path, **ann) as three,
        server.connect(path, **ben) as bens,
    ):
        anns = [one, two, three]
        for socket in anns:
            for number in range(4):
                ask(socket, "wait", number, data={"port": gate.port})
        gate.entered()
        gate.entered()
        # Both of ann's threads wait at the gate, and ten frames of hers behind them.
        for _ in range(10):
            assert answer(bens, "me")["data"] == {"username": "threads-ben"}
        for _ in range(10):
            gate.open_one()
            gate.entered()
        gate.open()
        for socket in anns:
            assert sorted(reply(socket)["request_id"] for _ in range(4)) == [0, 1, 2, 3]


def test_work_waits_where_all_worker_threads_are_taken(server):
    users = [account(server, f"pool-{name}") for name in ("ann", "ben", "cal")]
    before = server.threads
    path = "/side-by-side/"
    with (
        RemoteGate() as gate,
        server.connect(path, **users[0]) as one,
        server.connect(path, **users[1]) as two,
        server.connect(path, **users[2]) as three,
    ):
        for socket in (one, two, three):
            for number in range(2):
                ask(socket, "wait", number, data={"port": gate.port})
        for _ in range(4):
            gate.entered()
        assert server.threads - before <= 4
        gate.open()
        gate.entered()
        gate.entered()
        gate.open()
        for socket in (one, two, three):
            assert {reply(socket)["data"] for _ in range(2)} == {"waited"}


def test_slow_frames_of_strangers_keep_nobody_from_signing_in(server):
    """Behind a proxy all clients may have one address, and share its threads until known."""
    ann = account(server, "threads-newcomer")
    path = "/side-by-side/"
    with RemoteGate() as gate, server.connect(path) as strangers:
        for number in range(4):
            ask(strangers, "wait", number, data={"port": gate.port})
        gate.entered()
        gate.entered()
        with server.connect(path, **ann) as socket:
            assert answer(socket, "me")["data"] == {"username": "threads-newcomer"}
        gate.open()
        gate.entered()
        gate.entered()
        gate.open()
        assert sorted(reply(strangers)["request_id"] for _ in range(4)) == [0, 1, 2, 3]
