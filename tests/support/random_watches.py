"""
Random programs of watches: users watch pages, counts and rows, write, lose permissions, come back.

Each step is a value of `random`, so a seed names a program. Afterwards every client holds what a
fresh request of its user gives; on the way nobody received a row of another user.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import Permission, User
from django.db import transaction
from rest_framework import pagination, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from tests.models import Message, Room
from tests.support.subscription_stories import ByHeader, as_user, written
from tests.support.talk import Talk, talking_to
from tests.support.watch_stories import runs_settle

USERS = ["ann", "ben", "cal"]


class MayCount(BasePermission):
    def has_permission(self, request, view):
        return request.user.has_perm("tests.view_message")


class MessageSerializer(serializers.ModelSerializer):
    room = serializers.CharField(source="room.name")
    author = serializers.CharField(source="author.username")

    class Meta:
        model = Message
        fields = ["id", "text", "room", "author"]


class Pages(pagination.PageNumberPagination):
    page_size = 3


class Messages(viewsets.ModelViewSet):
    """Everybody has their own messages."""

    authentication_classes = [ByHeader]
    permission_classes = [IsAuthenticated]
    serializer_class = MessageSerializer
    pagination_class = Pages

    def get_queryset(self):
        return Message.objects.filter(author=self.request.user).order_by("text", "id")

    @action(detail=False, permission_classes=[MayCount])
    def count(self, request):
        return Response({"author": request.user.username, "count": self.get_queryset().count()})


router = DefaultRouter()
router.register("messages", Messages, "messages")
application = router.as_asgi()


@dataclass
class Watched:
    """A watch of a client, and the answer that the client holds; None once it was revoked."""

    of: str
    keys: dict[str, Any]
    data: Any
    position: str


@dataclass
class Client:
    user: Any
    socket: Talk | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    watches: dict[int, Watched] = field(default_factory=dict)

    async def connect(self) -> None:
        self.stack = AsyncExitStack()
        talk = talking_to(application, "/messages/", as_user(self.user))
        self.socket = await self.stack.enter_async_context(talk)

    async def cut(self) -> None:
        await self.stack.aclose()
        self.socket = None

    async def watch(self, number: int, of: str, keys: dict[str, Any], since: Any = None) -> None:
        """Watch, in place of an earlier watch of that number; if it is refused, that goes on."""
        assert self.socket is not None
        await self.socket.send("watch", of=of, request_id=number, since=since, **keys)
        reply = await self.take(until=number)
        if reply["response_status"] != 201:
            return
        before = self.watches.pop(number, None)
        if reply["resumed"]:
            assert before is not None and since == reply["position"]
        data = before.data if reply["resumed"] else reply["data"]
        self.watches[number] = Watched(of, keys, data, reply["position"])

    async def come_back(self) -> None:
        await self.connect()
        for number, watch in list(self.watches.items()):
            await self.watch(number, watch.of, watch.keys, since=watch.position)
            if self.watches[number] is watch:  # Refused, on a socket that has no other yet.
                del self.watches[number]

    async def take(self, until: int | str) -> Any:
        """Take events until the reply to that request."""
        assert self.socket is not None
        while (payload := await self.socket.receive())["action"] in ("change", "revoke"):
            watch = self.watches[payload["request_id"]]
            assert payload["previous"] == watch.position, "a gap in the positions"
            if payload["action"] == "revoke":
                del self.watches[payload["request_id"]]
                continue
            watch.data, watch.position = payload["data"], payload["position"]
            self.examine(watch.data)
        assert payload["request_id"] == until, payload
        if payload["action"] == "watch" and payload["data"] is not None:
            self.examine(payload["data"])
        return payload

    def examine(self, data: Any) -> None:
        """Nobody receives a row of another user."""
        shown = data.get("results", [data])
        assert {row["author"] for row in shown} <= {self.user.username}, data

    async def check(self) -> None:
        """Compare the answers that the client holds with fresh ones."""
        if self.socket is None:
            return
        await self.socket.send("ping", request_id="events")
        await self.take(until="events")
        for number, watch in list(self.watches.items()):
            await self.socket.send(watch.of, request_id=f"fresh {number}", **watch.keys)
            fresh = await self.take(until=f"fresh {number}")
            assert fresh["response_status"] == 200, (watch, fresh)
            assert fresh["data"] == watch.data, (watch, fresh["data"])


def forget() -> None:
    for model in (Message, Room, User):
        model.objects.all().delete()


def make_users() -> list[Any]:
    forget()
    users = [User.objects.create_user(name) for name in USERS]
    for user in users:
        user.user_permissions.add(Permission.objects.get(codename="view_message"))
    return users


class Writer:
    """Random writes, each a transaction of its own."""

    def __init__(self, rng: random.Random, users: list[Any]) -> None:
        self._rng = rng
        self._users = users
        self._made = 0

    def write(self) -> None:
        write = self._rng.choice(
            [
                *[self.create, self.create, self.change, self.delete],
                *[self.rename, self.give, self.permit],
            ]
        )
        with transaction.atomic():
            write()
            if self._rng.random() < 0.1:
                transaction.set_rollback(True)

    def create(self) -> None:
        self._made += 1
        room, _ = Room.objects.get_or_create(name=self._rng.choice(["attic", "barn"]))
        author = self._rng.choice(self._users)
        Message.objects.create(room=room, author=author, text=f"{self._rng.random():.2f}")

    def some(self) -> Any:
        ids = sorted(Message.objects.values_list("id", flat=True))
        return Message.objects.filter(id__in=self._rng.sample(ids, min(2, len(ids))))

    def change(self) -> None:
        self.some().update(text=f"{self._rng.random():.2f}")

    def delete(self) -> None:
        self.some().delete()

    def give(self) -> None:
        self.some().update(author=self._rng.choice(self._users))

    def rename(self) -> None:
        self._made += 1
        room = Room.objects.order_by("id").first()
        if room is not None:
            Room.objects.filter(pk=room.pk).update(name=f"cellar{self._made}")

    def permit(self) -> None:
        user, permission = self._rng.choice(self._users), "view_message"
        found = Permission.objects.get(codename=permission)
        if self._rng.random() < 0.5:
            user.user_permissions.remove(found)
        else:
            user.user_permissions.add(found)


async def _step(rng: random.Random, clients: list[Client], writer: Writer) -> None:
    client = rng.choice(clients)
    if client.socket is None:
        if rng.random() < 0.5:
            await client.come_back()
            return
    elif rng.random() < 0.15:
        await client.cut()
        return
    elif rng.random() < 0.4:
        number, of = rng.randrange(4), rng.choice(["list", "list", "count"])
        keys = {"query": {"page": rng.choice([1, 1, 2])}} if of == "list" else {}
        await client.watch(number, of, keys)
        return
    for _ in range(rng.choice([1, 1, 5])):
        await written(writer.write)
    if rng.random() < 0.3:
        await asyncio.sleep(0)


async def _program(seed: int) -> None:
    rng = random.Random(seed)
    users = await written(make_users)
    clients = [Client(user) for user in [*users, users[0]]]
    writer = Writer(rng, users)
    try:
        for client in clients:
            await client.connect()
        for _ in range(12):
            await _step(rng, clients, writer)
            if rng.random() < 0.2:
                await _at_rest(clients)
        for client in clients:
            if client.socket is None:
                await client.come_back()
        await _at_rest(clients)
    finally:
        for client in clients:
            await client.cut()


async def _at_rest(clients: list[Client]) -> None:
    await runs_settle()
    for client in clients:
        await client.check()


def run_program(seed: int) -> None:
    """Run one program. Raises AssertionError or KeyError if a promise is broken."""
    asyncio.run(_program(seed))
