"""Subscriptions of ten thousand rows resume by one frame, with default settings."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import ExitStack, closing
from uuid import UUID

import pytest

from tests.support.server_processes import Server, answer, ask, reply

MiB = 2**20

ROOMS = list(range(1, 9509))
UUIDS = [str(UUID(int=n * 2**64 + n)) for n in range(10_000)]
NAMES = [f"{n:058}" for n in range(10_000)]


@pytest.fixture(scope="module", params=["uvicorn", "daphne"])
def server(request):
    """With 9,508 rooms and 10,000 tags, whose keys are UUIDs; clients may use their names."""
    with Server(request.param) as server:
        with closing(sqlite3.connect(server.database, timeout=20)) as database, database:
            database.executemany(
                "INSERT INTO tests_room (id, name, is_staff_only) VALUES (?, ?, 0)",
                [(pk, f"room-{pk}") for pk in ROOMS],
            )
            database.executemany(
                "INSERT INTO tests_tag (id, name) VALUES (?, ?)",
                [(UUID(pk).hex, name) for pk, name in zip(UUIDS, NAMES, strict=True)],
            )
        yield server
        assert server.is_running
        assert "Traceback" not in server.output, server.output


@pytest.mark.parametrize(
    ("path", "names", "pks"),
    [("/rooms/", ROOMS, ROOMS), ("/tags/", UUIDS, UUIDS), ("/tags/", NAMES, UUIDS)],
    ids=["integers", "UUIDs", "text of 60 bytes"],
)
def test_all_rows_of_the_largest_subscription_are_held(server, path, names, pks):
    with server.connect(path) as socket:
        since = answer(socket, "subscribe", request_id="s")["position"]
    with server.connect(path) as socket:
        # All but one.
        held = [name for name in names if name != names[77]]
        resumed = answer(socket, "subscribe", request_id="s", since=since, held=held)
        assert (resumed["response_status"], resumed["resumed"]) == (201, True)
        event = reply(socket)
        assert (event["action"], event["data"]["id"]) == ("create", pks[77])
        assert answer(socket, "ping")["response_status"] == 200


def test_the_same_in_the_envelope_of_the_root(server):
    payload = {"action": "subscribe", "request_id": "s"}
    with server.connect("/") as socket:
        socket.send(json.dumps({"stream": "tags", "payload": payload}))
        since = reply(socket)["payload"]["position"]
        payload |= {"since": since, "held": [*UUIDS[1:], str(UUID(int=7))]}
        socket.send(json.dumps({"stream": "tags", "payload": payload}))
        assert reply(socket)["payload"]["resumed"] is True
        events = [reply(socket)["payload"] for _ in range(2)]
        assert [(e["action"], e["data"].get("id", e["data"].get("pk"))) for e in events] == [
            ("delete", str(UUID(int=7))),
            ("create", UUIDS[0]),
        ]


def test_ranges_name_all_rows_in_a_few_bytes(server):
    with server.connect("/rooms/") as socket:
        since = answer(socket, "subscribe", request_id="s")["position"]
        keys = {"since": since, "held": [9508], "held_ranges": [[1, 9506]]}
        assert answer(socket, "subscribe", request_id="s", **keys)["resumed"] is True
        event = reply(socket)
        assert (event["action"], event["data"]["id"]) == ("create", 9507)


def test_of_two_long_frames_at_once_the_second_is_refused(server):
    with server.connect("/tags/") as socket:
        since = answer(socket, "subscribe", request_id="s")["position"]
        for request_id in (1, 2):
            ask(socket, "subscribe", request_id, since=since, held=UUIDS)
        told = {r["request_id"]: r for r in (reply(socket), reply(socket))}
        assert told[1]["response_status"] == 201
        refused = told[2]
        assert (refused["response_status"], refused["codes"]) == (503, ["too_many_in_flight"])
        assert refused["errors"] == [
            "Too many long frames: wait for the reply to one before sending the next."
        ]
        # The first is answered.
        again = answer(socket, "subscribe", request_id=2, since=since, held=UUIDS)
        assert again["response_status"] == 201


@pytest.mark.once
def test_a_hundred_sockets_keep_a_long_frame_each(server):
    """Each sends four at once: of all, 64 MB of text, 120 MB as lists."""
    before = server.rss_bytes
    server.forget_peak()
    with ExitStack() as stack:
        sockets = [stack.enter_context(server.connect("/tags/")) for _ in range(100)]
        frame = {"action": "subscribe", "since": "x", "held": UUIDS}
        texts = [json.dumps({**frame, "request_id": n}) for n in range(4)]
        for socket in sockets:
            for text in texts:
                socket.send(text)
        for socket in sockets:
            # The position is useless, so each begins again.
            told = []
            while len(told) < 4:
                payload = reply(socket)
                told += [payload["response_status"]] if payload["action"] == "subscribe" else []
            assert 201 in told
            assert set(told) <= {201, 503}
    assert server.peak_rss_bytes - before < 420 * MiB


@pytest.mark.parametrize("path", ["/", "/tags/"])
def test_long_frames_of_any_kind_are_answered(server, path):
    seed = random.randrange(2**32)
    print(f"Seed of the frames: {seed}")
    rng = random.Random(seed)
    with server.connect(path) as socket:
        for number in range(60):
            payload = {"action": "subscribe", "request_id": number}
            for key in ("held", "held_ranges", "data", "query", "since"):
                if rng.random() < 0.5:
                    payload[key] = _long(rng)
            payload["held"] = payload.get("held", UUIDS)
            value = {"stream": "tags", "payload": payload} if path == "/" else payload
            text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
            text = text.encode()[:640_000].decode(errors="ignore")
            if rng.random() < 0.2:
                place = rng.randrange(len(text))
                text = text[:place] + rng.choice('[]{}",:\\1') + text[place + 1 :]
            socket.send(text)
            while True:
                told = reply(socket)
                told = told.get("payload", told)
                if told["action"] not in ("reset", "sync", "create", "update", "delete"):
                    break
            # Some take more memory than all subscriptions of a socket may.
            is_too_much = told.get("codes") == ["too_much_subscribed"]
            assert is_too_much or told["response_status"] in (201, 400, 413), told
            assert told["request_id"] in (number, None)
        socket.send(json.dumps({"payload": {"action": "ping"}, "action": "ping"}))
        while told["action"] != "ping":
            told = reply(socket)
            told = told.get("payload", told)
        assert told["response_status"] == 200


def _long(rng):
    scalars = [1, -1, 10**30, 1.5, None, True, "x", '"]', "[", "\\", "\u2603", "9" * 100, ""]
    values = [rng.choice(scalars) for _ in range(20)]
    deep = rng.choice([values, [values], [[1, 2]], [{"held": values}], {"held": values}, "x"])
    return rng.choice([UUIDS, [deep] * 5000, values * 600, deep, {"a": [deep] * 5000}, [[1, 9]]])
