"""The memory of a socket's subscriptions is bounded: rows that they hold, and frames they keep."""

from __future__ import annotations

import json

import pytest

from rest_channels.protocol import Frame
from rest_channels.sockets.kept_memory import kept_bytes
from tests.models import Room
from tests.support.room_viewsets import OpenRooms
from tests.support.subscription_stories import event, routes, run, subscribed, told, written

pytestmark = pytest.mark.django_db(transaction=True)

REFUSED = (503, ["too_much_subscribed"])


@pytest.fixture
def bounded(settings):
    """A socket may subscribe to some hundred rows."""
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "MAX_SUBSCRIBED_BYTES": 12_000}


async def answer(socket, action="subscribe", **keys):
    reply = await socket.ask(action, **keys)
    return reply["response_status"], reply.get("codes")


def make_rooms(count):
    Room.objects.bulk_create(Room(name=f"room {number}") for number in range(count))


def test_rows_of_all_subscriptions_count(bounded):
    async def story():
        await written(make_rooms, 120)
        async with told(routes(OpenRooms)) as socket, told(routes(OpenRooms)) as other:
            assert len(await subscribed(socket, request_id="a")) == 120
            assert await answer(socket, request_id="b") == REFUSED
            assert await answer(socket, action="watch", of="list", request_id="w") == REFUSED
            # Each socket for itself; and the first is as it was.
            assert len(await subscribed(other, request_id="b")) == 120
            await written(Room.objects.create, name="lobby")
            assert (await event(socket))[0] == "create"
            await socket.ask("unsubscribe", request_id="a")
            assert len(await subscribed(socket, request_id="b")) == 121

    run(story)


def test_rows_that_come_later_count(bounded):
    async def story():
        async with told(routes(OpenRooms)) as socket:
            await subscribed(socket, request_id="a")
            await subscribed(socket, request_id="b")
            await written(make_rooms, 120)
            for _ in range(240):
                assert (await event(socket))[0] == "create"
            assert await answer(socket, request_id="c") == REFUSED

    run(story)


def test_one_that_replaces_another_counts_instead_of_it(bounded):
    async def story():
        await written(make_rooms, 120)
        async with told(routes(OpenRooms)) as socket:
            for _ in range(3):
                assert len(await subscribed(socket, request_id="a")) == 120

    run(story)


@pytest.mark.parametrize(
    "keys",
    [
        {"query": {"ignored": "x" * 2_000}},
        {"headers": {"Accept-Language": "x" * 12_000}},
        {"ignored": "x" * 12_000},
        {"data": [[] for _ in range(300)]},
    ],
    ids=["query", "headers", "rest", "data"],
)
def test_what_a_subscription_keeps_of_its_frame_counts(keys, bounded):
    async def story():
        async with told(routes(OpenRooms)) as socket:
            assert await answer(socket, request_id="a", **keys) == REFUSED
            assert (await answer(socket, request_id="a"))[0] == 201

    run(story)


def test_the_keys_that_a_client_holds_are_not_kept(bounded):
    async def story():
        async with told(routes(OpenRooms)) as socket:
            since = (await socket.ask("subscribe", request_id="a"))["position"]
            held = list(range(2_000))
            assert (await answer(socket, request_id="b", since=since, held=held))[0] == 201

    run(story)


def test_values_count_with_the_memory_that_they_take():
    text = json.dumps([[] for _ in range(20_000)])
    assert kept_bytes(Frame("subscribe", data=json.loads(text)), "") > 15 * len(text)
    assert kept_bytes(Frame("subscribe", query={"a": ["x" * 1_000]}), "a=" + "x" * 1_000) > 7_000
