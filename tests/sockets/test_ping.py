"""`ping` is answered at once, whatever waits."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.consumers import CRUDConsumers, WebsocketConsumers, consumer
from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient
from tests.models import Room
from tests.support.gates import Gate
from tests.support.talk import OpenViewSet, happened, talking_to


class Rooms(OpenViewSet):
    queryset = Room.objects.order_by("id")
    gate: Gate

    @action(detail=False)
    def wait(self, request):
        self.gate.pass_through()
        return Response("waited")

    @action(detail=True)
    def one(self, request, pk):
        return Response(pk)


class OwnPing(OpenViewSet):
    @action(detail=False)
    def ping(self, request):
        return Response("my own")


class Table(WebsocketConsumers):
    @consumer(command="hit")
    def hit(self, message):
        self.reply({"hit": True})


class Tennis(WebsocketConsumers):
    @consumer(action="ping")
    def pong(self, message):
        self.reply({"action": "pong"})


router = DefaultRouter()
router.register("rooms", Rooms, "rooms")
router.register("own", OwnPing, "own")
router.register("table", Table, "table")
router.register("tennis", Tennis, "tennis")
router.register("rows", CRUDConsumers.configured({"model": Room}), "rows")
application = router.as_asgi()


def assert_is_pong(payload, request_id):
    assert payload.keys() == {"errors", "data", "action", "response_status", "request_id"}
    assert (payload["action"], payload["response_status"]) == ("ping", 200)
    assert (payload["errors"], payload["request_id"]) == ([], request_id)
    sent_at = datetime.fromisoformat(payload["data"]["time"])
    assert abs(datetime.now(UTC) - sent_at) < timedelta(seconds=20)


@pytest.mark.parametrize("path", ["/rooms/", "/rooms/1/", "/table/", "/rows/"])
def test_on_its_own_socket(db, path):
    with SocketClient(application, path) as socket:
        socket.send("ping", request_id="p")
        assert_is_pong(socket.receive(), "p")


@pytest.mark.parametrize("stream", ["rooms", "table", "rows"])
def test_to_a_stream_of_the_root(db, stream):
    async def story():
        async with talking_to(application) as socket:
            await socket.send("ping", stream, request_id="p")
            message = await socket.receive_message()
            assert message["stream"] == stream
            assert_is_pong(message["payload"], "p")

    asyncio.run(story())


@pytest.mark.parametrize("stream", [{}, {"stream": None}])
def test_to_the_root_itself(db, stream):
    async def story():
        async with talking_to(application) as socket:
            await socket.send_text(
                json.dumps({**stream, "payload": {"action": "ping", "request_id": 7}})
            )
            message = await socket.receive_message()
            assert message["stream"] is None
            assert_is_pong(message["payload"], 7)

    asyncio.run(story())


def test_what_is_no_frame_is_no_ping(db):
    async def story():
        async with talking_to(application) as socket:
            for message in (
                {"payload": {"action": "ping", "request_id": 1.5}},
                {"action": "ping"},
                {"payload": "ping"},
                {"stream": 1, "payload": {"action": "ping"}},
            ):
                await socket.send_text(json.dumps(message))
                answer = await socket.receive_message()
                assert answer["stream"] is None
                assert answer["payload"]["response_status"] == 400

    asyncio.run(story())


def test_an_action_or_handler_of_that_name_wins(db):
    with SocketClient(application, "/own/") as socket:
        assert socket.request("ping").data == "my own"
    with SocketClient(application, "/tennis/") as socket:
        socket.send("ping")
        assert socket.receive() == {"action": "pong"}


def test_whatever_waits(settings, db):
    settings.REST_CHANNELS = {"MAX_IN_FLIGHT": 2}
    Rooms.gate = Gate()

    async def story():
        async with talking_to(application) as socket:
            for number in (1, 2):
                await socket.send("wait", "rooms", request_id=number)
            await happened(Rooms.gate.reached)
            assert_is_pong(await socket.ask("ping", "rooms", request_id=3), 3)
            await socket.send_text('{"payload": {"action": "ping", "request_id": 4}}')
            assert_is_pong(await socket.receive(), 4)
            refused = await socket.ask("wait", "rooms", request_id=5)
            assert refused["codes"] == ["too_many_in_flight"]
            Rooms.gate.opened.set()
            assert [(await socket.receive())["request_id"] for _ in range(2)] == [1, 2]

    asyncio.run(story())


@pytest.mark.parametrize("text", ['{"stream": "rooms", "payload": {"action": "ping"}}',
                                  '{"payload": {"action": "ping"}}'])  # fmt: skip
def test_too_many_a_second_are_too_many(settings, db, text):
    settings.REST_CHANNELS = {"FRAME_RATE": 0.001, "FRAME_BURST": 2}

    async def story():
        async with talking_to(application) as socket:
            statuses = []
            for _ in range(3):
                await socket.send_text(text)
                statuses.append((await socket.receive())["response_status"])
            assert statuses == [200, 200, 429]

    asyncio.run(story())
