"""A collection and a row, subscribed to: the whole way once, from `save()` to the socket."""

from __future__ import annotations

import asyncio

import pytest
from channels.db import database_sync_to_async
from channels.routing import URLRouter

from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room
from tests.support.room_viewsets import FullRoomSerializer
from tests.support.talk import talking_to

pytestmark = pytest.mark.django_db(transaction=True)


class RoomViewSet(ModelConsumerViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = FullRoomSerializer
    permission_classes = []
    filterset_fields = ["is_staff_only"]


application = URLRouter(RoomViewSet.as_routes("rooms"))


@database_sync_to_async
def save(room):
    room.save()
    return room


@database_sync_to_async
def delete(room):
    room.delete()


def test_a_collection():
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            await save(Room(name="lobby"))
            await socket.send("subscribe", request_id="s", snapshot=True)
            reply = await socket.receive()
            assert (reply["response_status"], reply["action"]) == (201, "subscribe"), reply
            assert [room["name"] for room in reply["data"]] == ["lobby"]
            assert reply["resumed"] is False

            attic = await save(Room(name="attic"))
            created = await socket.receive()
            assert (created["action"], created["response_status"]) == ("create", 200)
            assert created["data"] == {"id": attic.pk, "name": "attic", "is_staff_only": False}
            assert created["request_id"] == "s"
            assert created["previous"] == reply["position"]

            attic.name = "cellar"
            await save(attic)
            updated = await socket.receive()
            assert (updated["action"], updated["data"]["name"]) == ("update", "cellar")
            assert updated["previous"] == created["position"]

            pk = attic.pk
            await delete(attic)
            deleted = await socket.receive()
            assert (deleted["action"], deleted["response_status"]) == ("delete", 204)
            assert deleted["data"] == {"pk": pk}

            await socket.send("unsubscribe", request_id="s")
            assert (await socket.receive())["response_status"] == 204

    asyncio.run(story())


def test_what_the_filter_hides_is_told_to_nobody_and_ends_nothing():
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            await socket.send("subscribe", request_id="all")
            await socket.receive()
            await socket.send("subscribe", request_id="public", query={"is_staff_only": False})
            reply = await socket.receive()
            vault = await save(Room(name="vault", is_staff_only=True))
            event = await socket.receive()
            assert (event["request_id"], event["data"]["id"]) == ("all", vault.pk)
            lobby = await save(Room(name="lobby"))
            events = [await socket.receive(), await socket.receive()]
            (event,) = [event for event in events if event["request_id"] == "public"]
            assert (event["action"], event["data"]["id"]) == ("create", lobby.pk)
            assert event["previous"] == reply["position"]

    asyncio.run(story())


def test_a_refused_subscription_leaves_the_earlier_one_in_place(settings):
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            await socket.ask("subscribe", request_id="s", query={"is_staff_only": "false"})
            refused = await socket.ask("subscribe_instance", request_id="s", pk=9)
            assert refused["response_status"] == 404
            await save(Room(name="lobby"))
            assert (await socket.receive())["data"]["name"] == "lobby"

            await socket.ask("subscribe", request_id="second")
            settings.REST_CHANNELS = {"MAX_SUBSCRIPTIONS": 1}
            refused = await socket.ask("subscribe", request_id="s")
            assert refused["codes"] == ["too_many_subscriptions"]
            await socket.ask("unsubscribe", request_id="second")
            await save(Room(name="attic"))
            assert (await socket.receive())["request_id"] == "s"

    asyncio.run(story())
