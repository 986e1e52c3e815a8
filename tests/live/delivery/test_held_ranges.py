"""`held_ranges`: keys of integers as closed ranges, beside `held` or in its place."""

from __future__ import annotations

import asyncio

import pytest

from rest_channels.consumers import ModelSubscribeConsumers
from rest_channels.live import change_path
from rest_channels.live.delivery.subscription import Subscription
from tests.models import Room
from tests.support.consumer_talk import open_socket
from tests.support.subscription_stories import event, routes, run, told, viewset, written

pytestmark = pytest.mark.django_db(transaction=True)

Rooms = viewset(Room.objects.all(), lambda room: room.name)


async def rooms(count):
    return [(await written(Room.objects.create, name=f"room-{n}")).pk for n in range(count)]


async def position():
    async with told(routes(Rooms)) as socket:
        return (await socket.ask("subscribe", request_id="s"))["position"]


async def events_after(since, count, **keys):
    """The first events of a client that resumes so."""
    async with told(routes(Rooms)) as socket:
        reply = await socket.ask("subscribe", request_id="s", since=since, **keys)
        assert (reply["response_status"], reply["resumed"]) == (201, True)
        assert "hints" not in reply
        events = [await event(socket) for _ in range(count)]
        return [(kind, data.get("pk")) for kind, data in events]


def test_both_ends_are_held():
    async def story():
        first, *_, last = await rooms(4)
        since = await position()
        away = {"held_ranges": [[first - 3, first - 2], [first, last - 1]]}
        assert await events_after(since, 3, **away) == [
            ("delete", first - 3),
            ("delete", first - 2),
            ("create", last),
        ]

    run(story)


def test_ranges_add_to_held_and_each_key_counts_once():
    async def story():
        first, second, third = await rooms(3)
        since = await position()
        keys = {"held": [10**9, str(first)], "held_ranges": [[second, third], [third, third]]}
        keys["held_ranges"].append([10**9, 10**9])
        added = await written(Room.objects.create, name="new")
        assert await events_after(since, 2, **keys) == [("delete", 10**9), ("create", added.pk)]

    run(story)


def test_no_ranges_hold_nothing():
    async def story():
        [pk] = await rooms(1)
        since = await position()
        assert await events_after(since, 1, held_ranges=[]) == [("create", pk)]

    run(story)


WRONG = [
    *[1, "1-3", {}, {"1": 3}, True, [1, 2], ["1-3"], [None], [{}]],
    *[[[]], [[1]], [[1, 2, 3]], [[2, 1]], [["1", "3"]], [[1.0, 2.0]], [[True, 2]], [[1, None]]],
    *[[[1, 10_001]], [[1, 5000], [1, 5001]], [[0, 10**18]], [[10**30, 10**30]], [[-(2**70), 1]]],
]


@pytest.mark.parametrize("ranges", WRONG)
@pytest.mark.parametrize("is_long", [False, True])
def test_wrong_ranges_are_answered_400_by_name(ranges, is_long):
    async def story():
        async with told(routes(Rooms)) as socket:
            keys = {"since": "x", "held_ranges": ranges}
            if is_long:
                keys["held"] = [10**15 + n for n in range(9000)]
            reply = await socket.ask("subscribe", **keys)
            assert (reply["response_status"], list(reply["errors"][0])) == (400, ["held_ranges"])

    run(story)


@pytest.mark.parametrize("ranges", [[[1, 10_000]], [[n, n] for n in range(10_000)], [[-5, 9994]]])
def test_as_many_keys_as_a_subscription_has_rows(ranges):
    async def story():
        async with told(routes(Rooms)) as socket:
            reply = await socket.ask("subscribe", held_ranges=ranges)
            assert reply["response_status"] == 201

    run(story)


def test_the_setting_bounds_ranges(settings):
    settings.REST_CHANNELS = {"MAX_SUBSCRIPTION_ROWS": 3}

    async def story():
        async with told(routes(Rooms)) as socket:
            for last, status in ((3, 201), (4, 400)):
                reply = await socket.ask("subscribe", held_ranges=[[1, last]])
                assert reply["response_status"] == status
            assert reply["errors"] == [
                {
                    "held_ranges": [
                        "Must not have more than 3 keys: a subscription has no more rows."
                    ]
                }
            ]

    run(story)


def test_a_misspelt_key_is_named():
    async def story():
        async with told(routes(Rooms)) as socket:
            reply = await socket.ask("subscribe", held_range=[[1, 3]])
            assert "'held_ranges'" in reply["hints"][0]

    run(story)


def test_class_based_consumers_resume_by_lists_and_ranges():
    urls = ModelSubscribeConsumers.as_routes(
        path="/rooms/?", model=Room, serializer_kwargs={"fields": ["id"]}
    )

    async def story():
        first, *_, last = await rooms(5)
        async with open_socket(urls, "/rooms/") as socket:
            since = (await socket.ask({"action": "subscribe"}))["position"]
        long = [10**15 + n for n in range(5000)]
        held = [{"held_ranges": [[first, last - 1]]}, {"held": [*range(first, last), *long]}]
        for keys in held:
            async with open_socket(urls, "/rooms/") as socket:
                reply = await socket.ask({"action": "subscribe", "since": since, **keys})
                assert reply["resumed"] is True
                told = await socket.receive_message()
                while told["action"] == "deleted":
                    told = await socket.receive_message()
                assert (told["action"], told["data"]) == ("created", {"id": last})

    run(story)


def test_other_tasks_run_while_a_client_is_told_of_many_keys(monkeypatch):
    """Each key that it made up is answered by a `delete`, a hundred at a time."""
    monkeypatch.setattr(change_path, "_SENDING_SECONDS", 0)
    sent, send = [0], Subscription._send

    def sending(subscription, *args):
        sent[-1] += 1
        send(subscription, *args)

    monkeypatch.setattr(Subscription, "_send", sending)

    async def ticking():
        while True:
            sent.append(0)
            await asyncio.sleep(0)

    async def story():
        async with told(routes(Rooms)) as socket:
            reply = await socket.ask("subscribe", request_id="a")
            held = list(range(10_000, 11_000))
            others = asyncio.ensure_future(ticking())
            await socket.send("subscribe", request_id="a", since=reply["position"], held=held)
            assert (await socket.receive())["resumed"] is True
            for key in held:
                assert await event(socket) == ("delete", {"pk": key})
            others.cancel()

    run(story)
    assert sum(sent) == 1_000
    assert max(sent) <= 100
