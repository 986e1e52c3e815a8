"""One socket, from the handshake to its end, and the bounds on what a client may send."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from rest_channels.sockets.connection import StreamConnection
from rest_channels.test import SocketClient, SocketClosed
from tests.support.gates import Gate
from tests.support.talk import OpenViewSet, happened, ids, serving, talking_to


class EchoViewSet(OpenViewSet):
    @action(detail=False, methods=["post"])
    def echo(self, request):
        return Response(request.data)

    @action(detail=False)
    def path(self, request):
        return Response(request.path)


echo = serving(EchoViewSet)


# The handshake


def test_a_socket_without_subprotocols():
    with SocketClient(echo) as client:
        client.connect()
        assert client.subprotocol is None


@pytest.mark.parametrize("offered", [["rest-channels"], ["other", "rest-channels"]])
def test_our_subprotocol_is_echoed_where_it_is_offered(offered):
    with SocketClient(echo, subprotocols=offered) as client:
        client.connect()
        assert client.subprotocol == "rest-channels"


def test_another_subprotocol_is_not():
    with SocketClient(echo, subprotocols=["graphql-ws"]) as client:
        client.connect()
        assert client.subprotocol is None


def test_a_socket_begins_with_a_handshake():
    async def story():
        async def receive():
            return {"type": "websocket.receive", "text": "{}"}

        scope = {"type": "websocket", "path": "/", "headers": []}
        with pytest.raises(ValueError, match=r"must begin with websocket.connect"):
            await echo(scope, receive, None)

    asyncio.run(story())


# Whatever is sent, there is an answer, on the same socket


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        '"list"',
        "{}",
        '{"action": 7}',
        '{"action": "echo", "request_id": true}',
        '{"action": "echo", "request_id": [1]}',
        '{"action": "echo", "action": "echo"}',
        '{"action": "echo", "data": NaN}',
        '{"action": "echo", "data": 1e999}',
        '{"action": "echo", "data": "\\ud800"}',
        '{"action": "echo", "query": []}',
        '{"action": "echo", "headers": {"accept": "\\u0000"}}',
        '{"action": "echo", "method": 7}',
        "[" * 10_000,
        "9" * 5_000,
    ],
)
def test_what_is_no_frame_is_answered_400(text):
    with SocketClient(echo) as client:
        client.send_text(text)
        reply = client.receive()
        assert (reply["response_status"], reply["data"]) == (400, None)
        assert len(reply["errors"]) == 1
        assert client.request("echo", data=1).data == 1


def test_a_binary_message_is_answered_400():
    with SocketClient(echo) as client:
        client.send_bytes(b'{"action": "echo"}')
        reply = client.receive()
        assert reply["response_status"] == 400
        assert reply["errors"] == ["A frame must be text, not binary."]
        assert client.request("echo", data=1).data == 1


def test_what_could_be_read_of_a_wrong_frame_is_echoed():
    with SocketClient(echo) as client:
        client.send_text('{"action": "echo", "request_id": 7, "query": 1}')
        reply = client.receive()
        assert (reply["action"], reply["request_id"]) == ("echo", 7)


NAMES = [
    "self",
    "scope",
    "queryset",
    "__class__",
    "request",
    "args",
    "kwargs",
    "view",
    "action_map",
]


def test_keys_of_any_name_are_ignored():
    keys = {name: {"x": 1} for name in NAMES} | {"format": "api", "detail": 1, "basename": "x"}
    with SocketClient(echo) as client:
        client.send_text(json.dumps({"action": "echo", "data": {"a": 1}, **keys}))
        assert client.receive()["data"] == {"a": 1}


@pytest.mark.parametrize(
    "word",
    [
        "_private",
        "__init__",
        "dispatch",
        "initial",
        "get_queryset",
        "as_view",
        "as_routes",
        "http_method_not_allowed",
        "authenticate_socket",
        "permission_classes",
        "ECHO",
        "echo ",
        "ec\u200bho",
        "\x00",
        "action",
        "list",
        "🤷",
    ],
)
def test_what_is_no_action_is_answered_405(word):
    class PrivateViewSet(EchoViewSet):
        def _private(self, request):
            raise AssertionError("reached")

    with SocketClient(serving(PrivateViewSet)) as client:
        reply = client.request(word)
        assert (reply.status_code, reply.codes) == (405, ["method_not_allowed"])
        assert reply.action == word


def test_no_exception_on_the_way_to_an_action_closes_the_socket(caplog):
    class OddViewSet(EchoViewSet):
        def initialize_request(self, request, *args, **kwargs):
            if request.frame.data == "odd":
                raise RuntimeError("odd")
            return super().initialize_request(request, *args, **kwargs)

    with SocketClient(serving(OddViewSet)) as client:
        assert client.request("echo", data="odd").status_code == 500
        assert client.request("echo", data="even").data == "even"


# Bounds


# For one row: a message may be as long as a list of the keys of all rows of a subscription.
ALL_ARE_SHORT = {"MAX_FRAME_BYTES": 100, "MAX_SUBSCRIPTION_ROWS": 1}


def test_a_frame_too_long_is_answered_413(settings):
    settings.REST_CHANNELS = {"MAX_FRAME_BYTES": 100}
    with SocketClient(echo) as client:
        reply = client.request("echo", data="x" * 100)
        assert (reply.status_code, reply.codes) == (413, ["frame_too_long"])
        assert client.request("echo", data="x").data == "x"


def test_a_frame_longer_than_any_closes_the_socket(settings):
    settings.REST_CHANNELS = ALL_ARE_SHORT
    with SocketClient(echo) as client:
        client.send_text(json.dumps({"action": "echo", "data": "x" * 100}))
        with pytest.raises(SocketClosed) as caught:
            client.receive()
    assert caught.value.code == 1009


def test_a_frame_is_measured_in_bytes(settings):
    frame = json.dumps({"action": "echo", "data": "é" * 20}, ensure_ascii=False)
    settings.REST_CHANNELS = {"MAX_FRAME_BYTES": len(frame.encode())}
    with SocketClient(echo) as client:
        client.send_text(frame)
        assert client.receive()["data"] == "é" * 20
        client.send_text(frame + " ")
        assert client.receive()["response_status"] == 413


def test_depth(settings):
    settings.REST_CHANNELS = {"MAX_FRAME_DEPTH": 3}
    with SocketClient(echo) as client:
        assert client.request("echo", data=[[1]]).data == [[1]]
        client.send_text('{"action": "echo", "data": [[[1]]]}')
        assert client.receive()["response_status"] == 400


def test_the_length_of_a_request_id(settings):
    settings.REST_CHANNELS = {"MAX_REQUEST_ID_CHARS": 3}
    with SocketClient(echo) as client:
        assert client.request("echo", request_id="abc").request_id == "abc"
        client.send_text('{"action": "echo", "request_id": "abcd"}')
        reply = client.receive()
        assert (reply["response_status"], reply["request_id"]) == (400, None)


class Gated(Gate):
    """The gate of a viewset's action that waits, in a worker thread, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        gate = self

        class GatedViewSet(EchoViewSet):
            @action(detail=False)
            def gated(self, request):
                gate.pass_through()
                return Response("through")

        self.viewset = GatedViewSet


def test_a_frame_too_many_is_answered_503_at_once(settings):
    settings.REST_CHANNELS = {"MAX_IN_FLIGHT": 3}
    gate = Gated()

    async def story():
        async with talking_to(serving(gate.viewset)) as socket:
            await socket.send("gated", request_id=1)
            await happened(gate.reached)
            await socket.send("echo", request_id=2)
            await socket.send_text("no JSON")
            reply = await socket.ask("echo", request_id=4)
            assert (reply["request_id"], reply["action"]) == (4, "echo")
            assert (reply["response_status"], reply["codes"]) == (503, ["too_many_in_flight"])
            await socket.send_text("no JSON")
            assert (await socket.receive())["response_status"] == 503
            gate.opened.set()
            replies = [await socket.receive() for _ in range(3)]
            assert ids(replies) == [1, 2, None]
            assert [reply["response_status"] for reply in replies] == [200, 200, 400]
            assert (await socket.ask("echo", request_id=5))["response_status"] == 200

    asyncio.run(story())


def test_frames_in_flight_are_counted_over_all_streams_of_a_socket(settings):
    settings.REST_CHANNELS = {"MAX_IN_FLIGHT": 2}
    gate = Gated()
    router = DefaultRouter()
    router.register("one", gate.viewset, "one")
    router.register("other", EchoViewSet, "other")

    async def story():
        async with talking_to(router.as_asgi()) as socket, talking_to(router.as_asgi()) as another:
            await socket.send("gated", "one")
            await socket.send("gated", "one")
            await happened(gate.reached)
            await socket.send("echo", "other", request_id=3)
            message = await socket.receive_message()
            assert message["stream"] == "other"
            assert message["payload"]["response_status"] == 503
            assert (await another.ask("echo", "other"))["response_status"] == 200
            gate.opened.set()
            for _ in range(2):
                assert (await socket.receive())["response_status"] == 200

    asyncio.run(story())


def test_a_socket_that_is_full_can_still_cancel(settings):
    settings.REST_CHANNELS = {"MAX_IN_FLIGHT": 1}
    started = threading.Event()

    class WaitingViewSet(OpenViewSet):
        @action(detail=False)
        async def waits(self, request):
            started.set()
            await asyncio.Event().wait()

    async def story():
        async with talking_to(serving(WaitingViewSet)) as socket:
            await socket.send("waits", request_id=1)
            await happened(started)
            reply = await socket.ask("cancel", request_id=2, data={"request_id": 1})
            assert (reply["request_id"], reply["response_status"]) == (2, 204)
            assert (await socket.receive())["response_status"] == 499

    asyncio.run(story())


def test_nothing_is_answered_after_the_socket_was_closed_by_us(settings):
    settings.REST_CHANNELS = ALL_ARE_SHORT
    gate = Gated()

    async def story():
        async with talking_to(serving(gate.viewset)) as socket:
            await socket.send("gated")
            await happened(gate.reached)
            await socket.send_text(" " * 101)
            await socket.send("echo")
            assert (await socket.output()) == {"type": "websocket.close", "code": 1009}
            gate.opened.set()
            await socket.disconnect()
            assert socket.communicator.output_queue.empty()

    asyncio.run(story())


# The end


def test_debug_propagate_exceptions_ends_the_application_with_the_exception(settings):
    settings.DEBUG_PROPAGATE_EXCEPTIONS = True

    class BrokenViewSet(OpenViewSet):
        @action(detail=False)
        def broken(self, request):
            raise ZeroDivisionError

    with SocketClient(serving(BrokenViewSet)) as client, pytest.raises(ZeroDivisionError):
        client.request("broken")


def test_a_crash_stops_what_else_runs_on_the_socket(settings):
    settings.DEBUG_PROPAGATE_EXCEPTIONS = True
    stopped = []

    class CrashingViewSet(OpenViewSet):
        max_in_flight = 2

        @action(detail=False)
        async def waits(self, request):
            try:
                yield "waiting"
                await asyncio.Event().wait()
            finally:
                stopped.append(True)

        @action(detail=False)
        def crashes(self, request):
            raise ZeroDivisionError

    async def story():
        async with talking_to(serving(CrashingViewSet)) as socket:
            await socket.ask("waits")
            await socket.send("crashes")
            with pytest.raises(ZeroDivisionError):
                await socket.communicator.future
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)

    asyncio.run(story())
    assert stopped == [True]


def test_a_connection_class_of_the_projects_own(settings):
    settings.REST_CHANNELS = {"CONNECTION_CLASS": "tests.sockets.test_connection.PoliteConnection"}
    with SocketClient(serving(EchoViewSet)) as client:
        assert client.receive() == {"hello": "/"}
        assert client.request("echo", data=1).data == 1


class PoliteConnection(StreamConnection):
    async def accept(self):
        await super().accept()
        await self.outbox.put(json.dumps({"hello": self.scope["path"]}))
