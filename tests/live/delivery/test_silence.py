"""A socket with subscriptions hears something, however quiet the database and slow the client."""

from __future__ import annotations

import asyncio

import pytest

from rest_channels.consumers import ModelSubscribeConsumers
from rest_channels.live.delivery.heartbeat import SILENT_LOOKS, current_heartbeat
from rest_channels.routers import DefaultRouter
from tests.models import Room
from tests.support.consumer_talk import open_socket
from tests.support.room_viewsets import RoomNames
from tests.support.subscription_stories import routes, run, subscribed, told, written

pytestmark = pytest.mark.django_db(transaction=True)


ALIVE = {
    "errors": [], "data": None, "action": "alive", "response_status": 200, "request_id": None,
}  # fmt: skip


def root():
    router = DefaultRouter()
    router.register("rooms", RoomNames)
    return router.as_asgi()


async def silence(looks=SILENT_LOOKS):
    """As long as a socket may be silent."""
    for _ in range(looks):
        current_heartbeat().look()


async def nothing_was_sent(socket, stream=None):
    assert (await socket.ask("ping", stream))["action"] == "ping"


def test_by_the_clock(settings):
    settings.REST_CHANNELS = {"SYNC_SECONDS": 0.2}

    async def story():
        async with told(routes(RoomNames)) as socket:
            await subscribed(socket)
            for _ in range(3):
                assert (await socket.receive())["action"] == "sync"

    run(story)


def test_a_sync_goes_on_where_the_client_is():
    async def story():
        async with told(routes(RoomNames)) as socket:
            reply = await socket.ask("subscribe", request_id="s")
            await silence()
            sync = await socket.receive()
            assert (sync["action"], sync["request_id"]) == ("sync", "s")
            assert (sync["response_status"], sync["data"]) == (200, None)
            assert sync["previous"] == reply["position"]
            await written(Room.objects.create, name="lobby")
            created = await socket.receive()
            assert (created["action"], created["previous"]) == ("create", sync["position"])
            again = await socket.ask("subscribe", request_id="t", since=sync["position"], held=[])
            assert again["resumed"] is True
            assert (await socket.receive())["data"] == {"name": "lobby"}

    run(story)


def test_one_message_is_enough_whatever_it_says():
    async def story():
        async with told(routes(RoomNames)) as socket:
            await subscribed(socket, request_id="s")
            await subscribed(socket, request_id="t")
            await silence()
            assert (await socket.receive())["action"] == "sync"
            await nothing_was_sent(socket)
            await silence(SILENT_LOOKS - 1)
            await nothing_was_sent(socket)
            await silence(SILENT_LOOKS - 1)
            await nothing_was_sent(socket)

    run(story)


def test_without_subscriptions_a_socket_may_be_silent():
    async def story():
        async with told(routes(RoomNames)) as socket:
            await silence(3 * SILENT_LOOKS)
            await nothing_was_sent(socket)
            await subscribed(socket, request_id="s")
            await socket.ask("unsubscribe", request_id="s")
            await silence(3 * SILENT_LOOKS)
            await nothing_was_sent(socket)

    run(story)


@pytest.mark.parametrize("stream", [None, "rooms"])
def test_alive_while_credit_is_spent(stream):
    async def story():
        async with told(routes(RoomNames) if stream is None else root()) as socket:
            await socket.ask("subscribe", stream, request_id="s", credit=1)
            await silence()
            sync = await socket.receive()
            assert sync["action"] == "sync"
            await silence()
            message = await socket.receive_message()
            assert message == (ALIVE if stream is None else {"stream": None, "payload": ALIVE})
            await socket.send("ack", stream, request_id="s", data={"position": sync["position"]})
            await nothing_was_sent(socket, stream)
            await silence()
            assert (await socket.receive())["action"] == "sync"

    run(story)


def test_one_that_may_be_told_speaks_for_all():
    async def story():
        async with told(root()) as socket:
            await socket.ask("subscribe", "rooms", request_id="spent", credit=1)
            await written(Room.objects.create, name="lobby")
            assert (await socket.receive())["action"] == "create"
            await socket.ask("subscribe", "rooms", request_id="free")
            await silence()
            sync = await socket.receive_message()
            assert sync["stream"] == "rooms"
            assert (sync["payload"]["action"], sync["payload"]["request_id"]) == ("sync", "free")

    run(story)


def test_sockets_are_looked_at_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr("rest_channels.live.delivery.heartbeat._SOCKETS_AT_A_TIME", 1)

    async def story():
        application = routes(RoomNames)
        async with told(application) as one, told(application) as two:
            for socket in (one, two):
                await subscribed(socket)
            for _ in range(SILENT_LOOKS):
                current_heartbeat().look()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            for socket in (one, two):
                assert (await socket.receive())["action"] == "sync"

    run(story)


def test_consumers_of_a_models_rows_hear_what_they_understand():
    served = ModelSubscribeConsumers.as_routes(path="/rooms/", model=Room)

    async def story():
        async with open_socket(served, "/rooms/") as socket:
            await silence(3 * SILENT_LOOKS)
            await socket.send_text('{"action": "subscribe", "request_id": "s"}')
            assert (await socket.receive_message())["response_status"] == 201
            await silence()
            assert (await socket.receive_message())["action"] == "sync"

    run(story)
