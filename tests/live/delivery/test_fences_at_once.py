"""
Many clients write at once, each its own rows, and with each reply hold what they wrote.

Nobody else writes a client's rows. So whatever happens beside it, the rows of its own that it holds
when a reply with a fence arrives are exactly those that it has written.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from rest_framework import serializers

from rest_channels.live.delivery.paces import Paces
from rest_channels.routers import DefaultRouter
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Message, Room
from tests.support.random_programs.stages import PROGRAMS
from tests.support.room_viewsets import OpenRooms
from tests.support.subscription_stories import run, written
from tests.support.talk import talking_to

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.programs]

CLIENTS, WRITES = 3, 12
SEEDS = range(max(2, PROGRAMS // 25))


class Rooms(OpenRooms):
    filterset_fields = ["is_staff_only"]
    max_in_flight = 4

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Room
            fields = ["id", "name", "is_staff_only"]


class Counts(OpenRooms):
    """Rooms with the texts of their messages, which are read again a moment later."""

    queryset = Room.objects.order_by("id").prefetch_related("messages")

    class serializer_class(serializers.ModelSerializer):
        texts = serializers.SerializerMethodField()

        class Meta:
            model = Room
            fields = ["id", "texts"]

        def get_texts(self, room):
            return sorted(message.text for message in room.messages.all())


class Messages(ModelConsumerViewSet):
    queryset = Message.objects.order_by("id")
    authentication_classes = []
    permission_classes = []

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Message
            fields = ["id", "room", "text"]


router = DefaultRouter()
router.register("rooms", Rooms)
router.register("counts", Counts, "counts")
router.register("messages", Messages)
application = router.as_asgi()

# By request_id: the stream, and the keys of the frame that subscribes.
SUBSCRIPTIONS = {
    "all": ("rooms", {}),
    "open": ("rooms", {"query": {"is_staff_only": False}}),
    "window": ("rooms", {"window": 5_000}),
    "counts": ("counts", {}),
    "messages": ("messages", {}),
}


class Writer:
    """A client that holds the rows of its subscriptions, and knows its own."""

    def __init__(self, socket, chance, name):
        self.socket, self.chance, self.name = socket, chance, name
        self.held = {subscription: {} for subscription in SUBSCRIPTIONS}
        self.own = {}
        self.texts = {}
        self.count = 0

    async def subscribe(self):
        for name, (stream, keys) in SUBSCRIPTIONS.items():
            await self.socket.send("subscribe", stream, request_id=name, snapshot=True, **keys)
            reply = await self._until(name, "subscribe")
            self.held[name] = {row["id"]: row for row in reply["data"]}

    async def write(self):
        self.count += 1
        kinds = [self._create, self._rename, self._move, self._destroy, self._post]
        await self.chance.choice(kinds if self.own else [self._create])()
        self._check()

    async def _create(self):
        is_staff_only = self.chance.random() < 0.5
        data = {"name": f"{self.name}-{self.count}", "is_staff_only": is_staff_only}
        row = (await self._ask("create", "rooms", data=data))["data"]
        self.own[row["id"]], self.texts[row["id"]] = row, []

    async def _rename(self):
        await self._change({"name": f"{self.name}-{self.count}-renamed"})

    async def _move(self):
        await self._change({"is_staff_only": self.chance.random() < 0.5})

    async def _change(self, data):
        pk = self.chance.choice(list(self.own))
        self.own[pk] = (await self._ask("partial_update", "rooms", pk=pk, data=data))["data"]

    async def _destroy(self):
        pk = self.chance.choice(list(self.own))
        await self._ask("destroy", "rooms", pk=pk)
        del self.own[pk], self.texts[pk]

    async def _post(self):
        pk = self.chance.choice(list(self.own))
        data = {"room": pk, "text": str(self.count)}
        await self._ask("create", "messages", data=data)
        self.texts[pk] = sorted([*self.texts[pk], data["text"]])

    async def _ask(self, action, stream, **keys):
        await self.socket.send(action, stream, request_id=self.count, fence=True, **keys)
        reply = await self._until(self.count, action)
        assert (reply["response_status"] < 300, reply["fenced"]) == (True, True), reply
        return reply

    async def _until(self, request_id, action):
        """The reply; what comes before it is applied."""
        while True:
            payload = await self.socket.receive()
            if (payload["request_id"], payload["action"]) == (request_id, action):
                return payload
            self._apply(payload["request_id"], payload["action"], payload["data"])

    def _apply(self, name, action, data):
        rows = self.held[name]
        if action in ("create", "update"):
            rows[data["id"]] = data
        elif action == "delete":
            del rows[data["pk"]]
        else:
            assert action == "sync", action

    def _check(self):
        open_rows = {pk: row for pk, row in self.own.items() if not row["is_staff_only"]}
        for name, own in [("all", self.own), ("window", self.own), ("open", open_rows)]:
            assert self._mine(name) == own, name
        counted = {pk: row["texts"] for pk, row in self._mine("counts").items()}
        assert counted == self.texts
        posted = sorted(m["text"] for m in self.held["messages"].values() if m["room"] in self.own)
        assert posted == sorted(text for texts in self.texts.values() for text in texts)

    def _mine(self, name):
        known = self.own.keys() | {
            pk for pk, row in self.held["all"].items() if row["name"].startswith(f"{self.name}-")
        }
        return {pk: row for pk, row in self.held[name].items() if pk in known}


@pytest.fixture
def moves(monkeypatch):
    """Audiences move from track to track, by chance."""

    def moving(chance):
        def some(self, seconds):
            return [audience for audience in seconds if chance.random() < 0.3]

        monkeypatch.setattr(Paces, "slow", some)
        monkeypatch.setattr(Paces, "quick", some)
        monkeypatch.setattr(Paces, "is_quick_arrival", lambda *given: chance.random() < 0.5)

    return moving


@pytest.mark.parametrize("is_moving", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_each_reply_finds_what_was_written(settings, moves, seed, is_moving):
    settings.REST_CHANNELS = {"FENCE_SECONDS": 60, "POLL_SECONDS": 60, "FRAME_RATE": 10_000}
    chance = random.Random(seed)
    if is_moving:
        moves(random.Random(seed))

    async def one(name):
        async with talking_to(application) as socket:
            writer = Writer(socket, random.Random(chance.random()), name)
            await writer.subscribe()
            for _ in range(WRITES):
                await writer.write()

    async def story():
        await written(Room.objects.create, name="before")
        await asyncio.gather(*(one(f"client-{number}") for number in range(CLIENTS)))

    run(story)
