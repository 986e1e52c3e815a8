"""Messages longer than MAX_FRAME_BYTES: lists of keys are read, all else is answered 413."""

from __future__ import annotations

import json
import time
from uuid import UUID

import pytest
from rest_framework import viewsets
from rest_framework.decorators import action

from rest_channels.exceptions import FrameError, FrameTooLong
from rest_channels.routers import DefaultRouter
from rest_channels.sockets.frame_limits import LongFrame
from rest_channels.test import SocketClient, SocketClosed
from tests.live.log.test_resuming import Rooms

HELD = ("held", "held_ranges")


def read(text, *, depth=1, max_bytes=1000, max_items=10_000, keys=HELD):
    """The message, and its lists of keys."""
    long = LongFrame(text, depth=depth, max_bytes=max_bytes)
    payload = long.outline if depth == 1 else long.outline["payload"]
    return long.without(payload, keys, max_bytes=max_bytes, max_depth=32, max_items=max_items)


# The text


@pytest.mark.parametrize(
    "keys",
    [
        {"held": list(range(1000))},
        {"held": [str(UUID(int=i)) for i in range(1000)]},
        {"held": ['"]}, "held": [\\', "[", "{", "\\", "\u2603", "\N{GRINNING FACE}"] * 100},
        {"held": [1.5, -2e-7, True, None] * 1000},
        {"held_ranges": [[i, i + 1] for i in range(1000)]},
        {"held": ["x" * 300_000, "y"], "held_ranges": [[1, "x"]] * 50},
    ],
)
@pytest.mark.parametrize("style", [{}, {"indent": 4}, {"ensure_ascii": False}])
def test_lists_of_keys_are_read_apart_from_the_rest(keys, style):
    rest = {"action": "subscribe", "query": {"a": ["]", '"'], "b": [{}]}, "data": {"held": [1]}}
    for payload in ({**rest, **keys}, {**keys, **rest}):
        expected = {**rest, **dict.fromkeys(keys)}, keys
        assert read(json.dumps(payload, **style)) == expected
        envelope = {"stream": "rooms", "payload": payload}
        (value, held) = read(json.dumps(envelope, **style), depth=2)
        assert (value["payload"], held) == expected


@pytest.mark.parametrize(
    "payload",
    [
        {"data": list(range(1000))},
        {"data": {"held": list(range(1000))}},
        {"data": "x" * 1000, "held": list(range(1000))},
        {"held": {"a": list(range(1000))}},
        {"held": "x" * 1000},
        {"held": [{"a": 1}] * 1000},
        {"held": [[[1]]] * 1000},
        {"held": list(range(10_001))},
        {"x" * 10_000: 1},
        list(range(2000)),
        "x" * 1000,
    ],
)
def test_anything_else_counts(payload):
    with pytest.raises(FrameTooLong):
        long = LongFrame(json.dumps(payload), depth=1, max_bytes=900)
        outline = long.outline if isinstance(long.outline, dict) else {}
        long.without(outline, HELD, max_bytes=900, max_depth=32, max_items=10_000)


@pytest.mark.parametrize("spaces", [0, 1])
def test_the_rest_may_be_as_long_as_any_frame(spaces):
    data = "x" * (1000 - len('{"held": , "data": ""}') + spaces)
    text = f'{{"held": [{"1," * 5000}1], "data": "{data}"}}'
    if spaces:
        with pytest.raises(FrameTooLong):
            read(text)
    else:
        assert len(read(text)[1]["held"]) == 5001


@pytest.mark.parametrize(
    "held", ["[1,,2]", "[1 2]", "[01]", "[NaN]", "[1e999]", "[nul]", "[[1,]]", '["\\x"]']
)
def test_lists_are_strict_json(held):
    with pytest.raises(FrameError):
        read(f'{{"held": {held}, "held_ranges": [{"[1,2]," * 500}[1,2]]}}')


@pytest.mark.parametrize("text", ["[" * 600_000, "{" * 600_000, '"' * 600_001, "]" * 600_000])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(FrameError):
        read(text)


HOSTILE = {
    "lists": "[" + ",".join(["[]"] * 200_000) + "]",
    "objects": "[" + ",".join(["{}"] * 200_000) + "]",
    "objects of objects": "[" + ",".join(['{"a":{}}'] * 70_000) + "]",
    "numbers": "[" + ",".join(["1.5"] * 150_000) + "]",
    "nested": "[" + ",".join(["[" * 30 + "]" * 30] * 10_000) + "]",
    "deep": "[" * 600_000,
    "strings": "[" + ",".join(['""'] * 200_000) + "]",
    "escapes": '"' + "\\" * 600_000 + '"',
    "quotes": '"' * 600_001,
    "long numbers": "[" + ",".join(["9" * 4000] * 150) + "]",
    "names": '"held": [' * 60_000,
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("key", ["held", "data"])
def test_no_text_is_much_work(key, value):
    """Decoding them takes up to a tenth of a second."""

    def seconds():
        begun = time.thread_time()
        with pytest.raises(FrameError):
            read(f'{{"action": "subscribe", "{key}": {value}}}', max_bytes=2**16)
        return time.thread_time() - begun

    # The time of a thread, not of the clock: others may use the processor meanwhile.
    assert min(seconds() for _ in range(5)) < 0.05


# Sockets


class Feeds(Rooms):
    @action(detail=False)
    def follow(self, request):
        """Subscribe as `subscribe` does."""
        return self.subscribe(request)


class Plain(viewsets.ModelViewSet):
    """Unmodified."""

    queryset = Rooms.queryset
    serializer_class = Rooms.serializer_class
    authentication_classes = []
    permission_classes = []


router = DefaultRouter()
router.register("rooms", Feeds, "room")
router.register("plain", Plain, "plain")

pytestmark = pytest.mark.django_db(transaction=True)

LONG = list(range(1, 9509)) + [10**15 + i for i in range(2000)]


@pytest.fixture(params=["/", "/rooms/"])
def ask(request):
    """Send a payload, on the root or a stream's own socket, and return the reply's."""
    with SocketClient(router.as_asgi(), request.param) as client:

        def ask(payload, stream="rooms"):
            is_root = request.param == "/"
            value = {"stream": stream, "payload": payload} if is_root else payload
            client.send_text(json.dumps(value))
            reply = client.receive()
            if is_root:
                assert reply["stream"] == stream
            return reply["payload"] if is_root else reply

        ask.client = client
        yield ask


@pytest.mark.parametrize(
    "payload",
    [
        {"action": "list", "request_id": 7, "held": LONG},
        {"action": "create", "request_id": "x", "data": {"name": "x" * 70_000}},
        {"data": [{"name": "x"}] * 7000, "action": "create", "request_id": 7},
        {"data": ["\N{SNOWMAN}" * 30_000], "action": "subscribe", "request_id": 7, "held": LONG},
        {"action": "subscribe", "request_id": 7, "query": {"held": LONG}},
        {"action": "nothing", "request_id": 7, "held": LONG},
    ],
)
def test_a_frame_too_long_is_answered_413_with_its_id(ask, payload):
    reply = ask(payload)
    assert (reply["response_status"], reply["codes"]) == (413, ["frame_too_long"])
    assert (reply["action"], reply["request_id"]) == (payload["action"], payload["request_id"])
    assert ask({"action": "list", "request_id": 8})["response_status"] == 200


@pytest.mark.parametrize("path", ["/", "/rooms/"])
@pytest.mark.parametrize("text", [" " * 70_000, "[" * 70_000, '{"a": "' + "x" * 70_000])
def test_what_cannot_be_read_is_answered_413_without_an_id(path, text):
    with SocketClient(router.as_asgi(), path) as client:
        client.send_text(text)
        reply = client.receive()
        reply = reply.get("payload", reply)
        assert (reply["response_status"], reply["request_id"]) == (413, None)


def test_an_unknown_stream_is_answered_413():
    with SocketClient(router.as_asgi()) as client:
        payload = {"action": "subscribe", "request_id": 7, "held": LONG}
        client.send_text(json.dumps({"stream": "nowhere", "payload": payload}))
        reply = client.receive()["payload"]
        assert (reply["response_status"], reply["request_id"]) == (413, 7)


@pytest.mark.parametrize("action", ["subscribe", "follow"])
def test_a_long_list_resumes(ask, action):
    since = ask({"action": action, "request_id": 7})["position"]
    reply = ask({"action": action, "request_id": 7, "since": since, "held": LONG[:9508]})
    assert (reply["response_status"], reply["resumed"]) == (201, True)


def test_a_viewset_of_drfs_own_resumes():
    with SocketClient(router.as_asgi(), "/plain/") as client:
        since = client.request("subscribe", request_id=7).payload["position"]
        reply = client.request("subscribe", request_id=7, since=since, held=LONG[:10_000])
        assert reply.payload["resumed"] is True


def test_a_row_has_no_list_to_subscribe_to():
    room = Rooms.queryset.create(name="lobby")
    with SocketClient(router.as_asgi(), f"/rooms/{room.pk}/") as client:
        assert client.request("subscribe", held=LONG[:10_000]).status_code == 405
        since = client.request("subscribe_instance").payload["position"]
        reply = client.request("subscribe_instance", since=since, held=LONG[:10_000])
        assert reply.payload["resumed"] is True


def test_1009_is_left_for_what_no_list_of_so_many_keys_takes(settings):
    settings.REST_CHANNELS = {"MAX_SUBSCRIPTION_ROWS": 2000}
    with SocketClient(router.as_asgi(), "/rooms/") as client:
        client.send_text(" " * 128_000)
        assert client.receive()["response_status"] == 413
        client.send_text(" " * 128_001)
        with pytest.raises(SocketClosed) as closed:
            client.receive()
    assert closed.value.code == 1009
