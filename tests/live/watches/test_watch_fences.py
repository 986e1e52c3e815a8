"""A reply with a fence comes after the answers of the watches that its action concerns."""

from __future__ import annotations

import pytest
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.live.delivery import registry
from rest_channels.routers import DefaultRouter
from tests.models import Room
from tests.support.gates import Gate
from tests.support.room_viewsets import RoomSerializer
from tests.support.subscription_stories import run, written
from tests.support.talk import happened, talking_to
from tests.support.watch_stories import Runs, watched

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nobody_waits_for_the_clock(settings):
    """Only a fence makes the second run begin before a minute."""
    settings.REST_CHANNELS = {"FENCE_SECONDS": 60, "POLL_SECONDS": 60, "WATCH_SECONDS": 60}


class Rooms(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("name")
    serializer_class = RoomSerializer
    authentication_classes = []
    permission_classes = []
    gate: Gate

    @action(detail=False)
    def count(self, request):
        return Response(Room.objects.count())

    @action(detail=False)
    def slow(self, request):
        count = Room.objects.count()
        if count:
            self.gate.pass_through()
        return Response(count)


router = DefaultRouter()
router.register("rooms", Rooms, "rooms")
application = router.as_asgi()


def talking():
    return talking_to(application, "/rooms/")


async def create(socket, name):
    await socket.send("create", data={"name": name}, request_id=name, fence=True)


def test_each_write_is_answered_before_its_reply():
    async def story():
        async with talking() as socket:
            await watched(socket, "count", request_id="w")
            for number in range(1, 4):
                await create(socket, str(number))
                event, reply = await socket.receive(), await socket.receive()
                assert (event["action"], event["data"]) == ("change", number)
                assert (reply["action"], reply["fenced"]) == ("create", True)

    run(story)


def test_with_a_subscription_beside_it():
    async def story():
        async with talking() as socket:
            await watched(socket, "count", request_id="w")
            await socket.ask("subscribe", request_id="s")
            await create(socket, "hall")
            messages = [await socket.receive() for _ in range(3)]
            assert {m["request_id"] for m in messages[:2]} == {"w", "s"}
            assert messages[2]["fenced"] is True

    run(story)


def test_a_write_that_concerns_no_watch():
    async def story():
        async with talking() as socket:
            await watched(socket, "count", request_id="w")
            runs = Runs()
            reply = await socket.ask("list", request_id="l", fence=True)
            assert (reply["action"], reply["fenced"]) == ("list", True)
            assert runs.count == 0

    run(story)


def test_a_slow_watch_does_not_spoil_it():
    gate = Rooms.gate = Gate()

    async def story():
        async with talking() as socket:
            await watched(socket, "slow", request_id="w")
            await create(socket, "hall")
            reply = await socket.receive()
            assert (reply["action"], reply["fenced"]) == ("create", True)
            gate.opened.set()
            event = await socket.receive()
            assert (event["action"], event["data"]) == ("change", 1)

    run(story)


def test_cancel_ends_the_wait_for_a_watch(monkeypatch):
    monkeypatch.setattr(registry, "_SECONDS_FOR_WATCHES", 60)
    gate = Rooms.gate = Gate()

    async def story():
        async with talking() as socket:
            await watched(socket, "slow", request_id="w")
            await create(socket, "hall")
            await happened(gate.reached)
            await socket.send("cancel", data={"request_id": "hall"})
            replies = {m["action"]: m for m in [await socket.receive(), await socket.receive()]}
            assert replies["cancel"]["response_status"] == 204
            assert (replies["create"]["response_status"], replies["create"]["fenced"]) == (
                201,
                False,
            )
            gate.opened.set()
            assert (await socket.receive())["action"] == "change"

    run(story)


def test_a_fence_whose_time_ends_while_it_waits_for_a_watch(settings):
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "FENCE_SECONDS": 0.5}
    gate = Rooms.gate = Gate()

    async def story():
        async with talking() as socket:
            await watched(socket, "slow", request_id="w")
            await socket.ask("subscribe", request_id="s")
            await create(socket, "hall")
            event, reply = await socket.receive(), await socket.receive()
            assert (event["request_id"], reply["fenced"]) == ("s", True)
            gate.opened.set()
            assert (await socket.receive())["action"] == "change"

    run(story)


def test_a_socket_that_closes_waits_for_no_watch(monkeypatch):
    monkeypatch.setattr(registry, "_SECONDS_FOR_WATCHES", 60)
    gate = Rooms.gate = Gate()

    async def story():
        async with talking() as socket:
            await watched(socket, "slow", request_id="w")
            await create(socket, "hall")
            await happened(gate.reached)
            try:
                # While the watch still runs.
                await socket.disconnect()
            finally:
                gate.opened.set()
        assert await written(Room.objects.count) == 1

    run(story)


def test_a_frame_that_watches_may_have_a_fence():
    async def story():
        async with talking() as socket:
            reply = await socket.ask("watch", of="count", request_id="w", fence=True)
            assert (reply["response_status"], reply["data"], reply["fenced"]) == (201, 0, True)
            reply = await socket.ask("unwatch", request_id="w", fence=True)
            assert (reply["response_status"], reply["fenced"]) == (204, True)

    run(story)
