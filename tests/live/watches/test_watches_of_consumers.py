"""Consumers of a model's rows: their lists and rows can be watched, as those of a viewset."""

from __future__ import annotations

import pytest
from channels.routing import URLRouter

from rest_channels.consumers import CRUDConsumers, ModelSubscribeConsumers, consumer
from tests.models import Room
from tests.support.subscription_stories import run, written
from tests.support.talk import talking_to
from tests.support.watch_stories import change, groups, watched

pytestmark = pytest.mark.django_db(transaction=True)


def application(consumers, **keywords):
    return URLRouter(consumers.as_routes(path="/rooms", **keywords))


@pytest.mark.parametrize("consumers", [CRUDConsumers, ModelSubscribeConsumers])
def test_a_page_of_a_model(consumers):
    served = application(consumers, queryset=Room.objects.order_by("id"), paginate_by=2)

    async def story():
        async with talking_to(served, "/rooms") as socket:
            reply = await watched(socket, "list", page=1)
            assert reply["data"]["results"] == []
            await written(Room.objects.create, name="hall")
            while (event := await socket.receive())["action"] != "change":
                # The socket itself is subscribed.
                assert event["action"] == "created"
            assert [room["name"] for room in event["data"]["results"]] == ["hall"]
            assert len(groups()) == 1

    run(story)


def test_a_row_of_a_model():
    served = application(CRUDConsumers, model=Room)

    async def story():
        room = await written(Room.objects.create, name="hall")
        async with talking_to(served, "/rooms") as socket:
            await watched(socket, "retrieve", pk=room.pk)
            await written(Room.objects.update, name="attic")
            assert (await change(socket))["name"] == "attic"

    run(story)


def test_an_end():
    served = application(CRUDConsumers, model=Room)

    async def story():
        async with talking_to(served, "/rooms") as socket:
            await watched(socket, "list")
            for _ in range(2):
                reply = await socket.ask("unwatch", request_id="w")
                assert (reply["action"], reply["response_status"]) == ("unwatch", 204)
            assert groups() == []
            refused = await socket.ask("watch", of="create", request_id="w")
            assert refused["codes"] == [{"of": ["invalid"]}]

    run(story)


class Handled(CRUDConsumers):
    @consumer(action="watch")
    def watch(self, message):
        self.reply("my own")


def test_a_handler_of_that_name_wins():
    async def story():
        async with talking_to(application(Handled, model=Room), "/rooms") as socket:
            await socket.send("watch", of="list", request_id="w")
            assert await socket.receive_message() == "my own"

    run(story)
