"""Very many clients come back at once: few queries, and few snapshots in memory."""

from __future__ import annotations

import asyncio
import gc
import json
from weakref import WeakValueDictionary

import pytest
from django.db.backends.utils import CursorWrapper
from django.db.models.signals import post_init

from rest_channels.live.delivery import arrivals, hub
from rest_channels.live.delivery.refresh import Pass
from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.interface import Options
from rest_channels.protocol import Frame
from rest_channels.sockets.outbox import Outbox, StreamWriter
from tests.models import Room
from tests.support.room_viewsets import OpenRooms
from tests.support.subscription_stories import routes, run, told, written

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_track]

MANY = 2_000


class Rooms(OpenRooms):
    filterset_fields = {"id": ["gt"]}


application = routes(Rooms)


class Passes:
    """The cost of each pass: queries, and the subscribers that it lets in."""

    def __init__(self, monkeypatch):
        self.queries: list[int] = []
        self.joined: list[int] = []
        self._queries = 0
        execute, run_pass = CursorWrapper.execute, Pass.run

        def executing(cursor, *args):
            self._queries += 1
            return execute(cursor, *args)

        def running(looking, joining, asking=(), coming=()):
            before = self._queries
            outcome = run_pass(looking, joining, asking, coming)
            self.queries.append(self._queries - before)
            self.joined.append(len(joining) - len(outcome.postponed))
            return outcome

        monkeypatch.setattr(CursorWrapper, "execute", executing)
        monkeypatch.setattr(Pass, "run", running)


@pytest.fixture
def passes(monkeypatch):
    return Passes(monkeypatch)


class Returning:
    """A subscriber that comes back, to the topic of `like`, and the messages it receives."""

    def __init__(self, like, options):
        self.told, self._is_told = [], asyncio.Event()
        #: The text of the snapshot itself, not of the message.
        self.snapshot = None
        outbox = Outbox(self._take, 1_000_000)
        frame = Frame("subscribe", request_id="rooms")
        self.subscription = Subscription(like.topic, options, frame, StreamWriter(outbox))
        acknowledge = self.subscription.acknowledge

        def noting(place, *, is_resumed, data):
            self.snapshot = data
            acknowledge(place, is_resumed=is_resumed, data=data)

        self.subscription.acknowledge = noting

    async def _take(self, message):
        self.told.append(json.loads(message["text"]))
        self._is_told.set()

    async def hears(self, count):
        """Wait for that number of messages and return them."""
        while len(self.told) < count:
            self._is_told.clear()
            await self._is_told.wait()
        return self.told


def subscriptions():
    tracks = hub.current_hub()._followers["default"].all_tracks
    return [subscription for track in tracks for subscription in track.subscriptions()]


async def come_back(returning, messages=1):
    """Add all of them at once; wait until each has received that number of `messages`."""
    for one in returning:
        hub.current_hub().add(one.subscription)
    async with asyncio.timeout(60):
        for one in returning:
            await one.hears(messages)


def leave(returning):
    for one in returning:
        hub.current_hub().remove(one.subscription)


def make_rooms(count, name="room"):
    return [Room.objects.create(name=f"{name}-{number}") for number in range(count)]


def test_who_resumes_costs_no_query_of_their_own(passes):
    async def story():
        rooms = await written(make_rooms, 10)
        async with told(application) as socket:
            reply = await socket.ask("subscribe", request_id="rooms", snapshot=True)
            (there,) = subscriptions()
            await written(rooms[0].delete)
            await written(make_rooms, 3, "new")
            for _ in range(4):
                await socket.receive()
            passes.queries.clear(), passes.joined.clear()
            held = {str(room["id"]): room["id"] for room in reply["data"]}
            options = Options(snapshot=True, since=reply["position"], held=held)
            returning = [Returning(there, options) for _ in range(MANY)]
            await come_back(returning, 5)
            # One may have begun before most of them were there.
            joined = [count for count in passes.joined if count]
            first = joined.index(500)
            assert joined[first : first + 3] == [500] * 3
            assert max(passes.queries) < 12
            for one in returning:
                actions = [message["action"] for message in one.told]
                assert actions == ["subscribe", "delete", "create", "create", "create"]
            leave(returning)

    run(story)


def test_those_who_begin_with_the_same_rows_share_one_text(passes):
    async def story():
        await written(make_rooms, 10)
        async with told(application) as socket:
            await socket.ask("subscribe", request_id="rooms")
            (there,) = subscriptions()
            passes.joined.clear()
            returning = [Returning(there, Options(snapshot=True)) for _ in range(MANY)]
            await come_back(returning)
            texts = {id(one.snapshot) for one in returning}
            assert len(texts) == len([count for count in passes.joined if count])
            assert all(len(one.told[0]["data"]) == 10 for one in returning)
            leave(returning)

    run(story)


def test_few_of_those_who_each_see_other_rows_are_let_in_at_a_time(passes, monkeypatch):
    """The rows of one of them, and the texts of fifty, are in memory together."""
    # All are of one owner.
    monkeypatch.setattr(arrivals, "_TOPICS_AT_A_TIME", 100)
    monkeypatch.setattr(arrivals, "_CREDIT_SECONDS", float("inf"))
    # By identity: two instances of a row are equal.
    rows, most = WeakValueDictionary(), 0

    def on_made(instance, **kwargs):
        nonlocal most
        rows[id(instance)] = instance
        if len(rows) > 10:
            # Serializers are circles, and hold their rows until they are found.
            gc.collect()
        most = max(most, len(rows))

    async def story():
        made = await written(make_rooms, 5)
        async with told(application) as socket:
            for number in range(60):
                query = {"id__gt": made[0].pk - 1 - number}
                await socket.ask("subscribe", request_id=number, query=query)
            there = subscriptions()
            assert len(there) == 60
            returning = [Returning(one, Options(snapshot=True)) for one in there]
            del made
            passes.joined.clear()
            post_init.connect(on_made, Room)
            # While another thread collects, gc.collect() returns at once and finds nothing.
            gc.disable()
            # It need not look at what was there before.
            gc.freeze()
            try:
                await come_back(returning)
            finally:
                gc.unfreeze()
                gc.enable()
                post_init.disconnect(on_made, Room)
            assert max(passes.joined) == 50
            assert sum(passes.joined) == 60
            # The texts on their way, while the next are read.
            assert most == 10
            assert all(len(one.told[0]["data"]) == 5 for one in returning)
            leave(returning)

    run(story)


def test_what_clients_say_they_hold_is_forgotten_once_they_are_told():
    """Ten thousand who hold a thousand rows each would be in memory for good."""
    # Not a constant: Python 3.14 would keep it itself.
    held = "".join(["9"] * 40)

    def keepers():
        gc.collect()
        return [
            kept
            for kept in gc.get_objects()
            if type(kept) in (dict, list) and any(type(o) is str and o == held for o in kept)
        ]

    async def story():
        async with told(application) as socket:
            reply = await socket.ask("subscribe", request_id="first")
            since = reply["position"]
            keys = {"request_id": "again", "since": since, "held": [held]}
            reply = await socket.ask("subscribe", **keys)
            assert reply["resumed"] is True
            assert (await socket.receive())["data"] == {"pk": int(held)}
            del keys
            assert keepers() == []

    run(story)
