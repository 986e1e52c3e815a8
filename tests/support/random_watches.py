"""
Random programs of watches: users watch pages and counts, write, lose permissions, come back.

Some answers are of one user, others all users share. There are two processes, which are killed now
and then; a client resumes on either. Each step is a value of `random`, so a seed names a program.
Afterwards every client holds what a fresh request of its user gives; on the way nobody received a
row that was never theirs to see.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import Client as Browser
from rest_framework import authentication, pagination, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.response import Response

from rest_channels.decorators import live_shared
from rest_channels.routers import DefaultRouter
from tests.models import Message, Room
from tests.support.loop_processes import LoopProcess
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

    authentication_classes = [authentication.SessionAuthentication, ByHeader]
    permission_classes = [IsAuthenticated]
    serializer_class = MessageSerializer
    pagination_class = Pages

    def get_queryset(self):
        return Message.objects.filter(author=self.request.user).order_by("text", "id")

    @action(detail=False, permission_classes=[MayCount])
    def count(self, request):
        return Response({"author": request.user.username, "count": self.get_queryset().count()})


class Board(viewsets.ReadOnlyModelViewSet):
    """Everybody who may count sees all messages: one run serves them."""

    authentication_classes = [authentication.SessionAuthentication, ByHeader]
    permission_classes = [IsAuthenticated, MayCount]
    queryset = Message.objects.order_by("text", "id")
    serializer_class = MessageSerializer
    pagination_class = Pages
    filter_backends = []

    @action(detail=False)
    @live_shared
    def texts(self, request):
        return Response(sorted(Message.objects.values_list("text", flat=True)))


router = DefaultRouter()
router.register("messages", Messages, "messages")
router.register("board", Board, "board")
application = router.as_asgi()


#: The actions that clients watch, with how often: stream, action, and whether it has pages.
WATCHED = [
    *[("messages", "list", True)] * 2,
    *[("messages", "count", False)],
    *[("board", "list", True)] * 3,
    *[("board", "texts", False)] * 2,
]


@dataclass
class World:
    """
    The messages, as texts, and the users who may see all of them, after each transaction.

    Between two rests a client may receive what was to be seen at any moment in between: a request
    reads its permissions and its rows one after the other.
    """

    versions: list[tuple[set[str], set[str]]] = field(default_factory=list)
    rest: int = 0

    def note(self) -> None:
        texts = set(Message.objects.values_list("text", flat=True))
        of_permission = User.objects.filter(user_permissions__codename="view_message")
        self.versions.append((texts, set(of_permission.values_list("username", flat=True))))

    def may_have_seen(self, name: str, text: str) -> bool:
        """Whether that user may have received a message by a permission of this time."""
        is_permitted = False
        for texts, names in self.versions[self.rest :]:
            is_permitted = is_permitted or name in names
            if is_permitted and text in texts:
                return True
        return False


@dataclass
class Watched:
    """A watch of a client, and the answer that the client holds; None once it was revoked."""

    stream: str
    of: str
    keys: dict[str, Any]
    data: Any
    position: str


@dataclass
class Client:
    user: Any
    world: World
    tally: Counter[str]
    #: Whether it comes with a session.
    has_session: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    process: LoopProcess | None = None
    socket: Talk | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    watches: dict[str, Watched] = field(default_factory=dict)

    def sign_in(self) -> None:
        if not self.has_session:
            self.headers = as_user(self.user)
            return
        browser = Browser()
        browser.force_login(self.user)
        cookies = "; ".join(f"{name}={m.value}" for name, m in browser.cookies.items())
        self.headers = {"cookie": cookies}

    async def connect(self, process: LoopProcess) -> None:
        self.process = process
        await process.do(self._connect())

    async def _connect(self) -> None:
        self.stack = AsyncExitStack()
        talk = talking_to(application, headers=self.headers)
        self.socket = await self.stack.enter_async_context(talk)

    async def cut(self) -> None:
        if self.process is not None and self.socket is not None:
            await self.process.do(self.stack.aclose())
        self.lose()

    def lose(self) -> None:
        """Lose the connection, because its process has been killed."""
        self.process = self.socket = None

    async def sign_out(self) -> None:
        """End the session elsewhere, and wait until the socket is closed."""
        await written(Session.objects.all().delete)
        assert self.process is not None and self.socket is not None
        assert await self.process.do(self.socket.closed_with()) == 4401
        await self.cut()
        await written(self.sign_in)

    async def watch(self, name: str, wanted: Watched) -> None:
        assert self.process is not None
        await self.process.do(self._watch(name, wanted))

    async def _watch(self, name: str, wanted: Watched) -> None:
        """Watch, in place of an earlier watch of that name; if it is refused, that goes on."""
        assert self.socket is not None
        keys = {"of": wanted.of, "since": wanted.position, **wanted.keys}
        await self.socket.send("watch", wanted.stream, request_id=name, **keys)
        reply = await self.take(until=name)
        if reply["response_status"] != 201:
            self.tally["refused"] += 1
            return
        if reply["resumed"]:
            self.tally["resumed"] += 1
            assert wanted.position == reply["position"]
        data = wanted.data if reply["resumed"] else reply["data"]
        self.watches[name] = replace(wanted, data=data, position=reply["position"])

    async def come_back(self, process: LoopProcess) -> None:
        await self.connect(process)
        for name, watch in list(self.watches.items()):
            await self.watch(name, watch)
            if self.watches[name] is watch:  # Refused, on a socket that has no other yet.
                del self.watches[name]

    async def take(self, until: str) -> Any:
        """Take events until the reply to that request."""
        assert self.socket is not None
        while (payload := await self.socket.receive())["action"] in ("change", "revoke"):
            name = payload["request_id"]
            watch = self.watches[name]
            assert payload["previous"] == watch.position, "a gap in the positions"
            self.tally[payload["action"]] += 1
            if payload["action"] == "revoke":
                del self.watches[name]
                continue
            watch.data, watch.position = payload["data"], payload["position"]
            self.examine(watch.stream, watch.data)
        assert payload["request_id"] == until, payload
        if payload["action"] == "watch" and payload["data"] is not None:
            self.examine(until.partition(" ")[0], payload["data"])
        return payload

    def examine(self, stream: str, data: Any) -> None:
        """Nobody receives a row of another user, nor one that they were never permitted to see."""
        if stream == "messages":
            shown = data.get("results", [data])
            assert {row["author"] for row in shown} <= {self.user.username}, data
        else:
            texts = data if isinstance(data, list) else [row["text"] for row in data["results"]]
            for text in texts:
                assert self.world.may_have_seen(self.user.username, text), (self.user, data)

    async def check(self) -> None:
        """Compare the answers that the client holds with fresh ones."""
        if self.process is not None:
            await self.process.do(self._check())

    async def _check(self) -> None:
        assert self.socket is not None
        await self.socket.send("ping", "messages", request_id="events")
        await self.take(until="events")
        for name, watch in list(self.watches.items()):
            await self.socket.send(watch.of, watch.stream, request_id=f"fresh {name}", **watch.keys)
            fresh = await self.take(until=f"fresh {name}")
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

    def __init__(self, rng: random.Random, users: list[Any], world: World) -> None:
        self._rng = rng
        self._users = users
        self._world = world
        self._made = 0

    def write(self) -> None:
        write = self._rng.choice(
            [
                *[self.create, self.create, self.change, self.delete],
                *[self.rename, self.give, self.permit, self.forbid_and_create],
            ]
        )
        with transaction.atomic():
            write()
            if self._rng.random() < 0.1:
                transaction.set_rollback(True)
        self._world.note()

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

    def forbid_and_create(self) -> None:
        self._rng.choice(self._users).user_permissions.clear()
        self.create()

    def permit(self) -> None:
        user, permission = self._rng.choice(self._users), "view_message"
        found = Permission.objects.get(codename=permission)
        if self._rng.random() < 0.5:
            user.user_permissions.remove(found)
        else:
            user.user_permissions.add(found)


class Program:
    """One program, on two processes."""

    def __init__(self, seed: int, stack: ExitStack, tally: Counter[str]) -> None:
        self._rng = random.Random(seed)
        self._stack = stack
        self._tally = tally
        self._world = World()
        self._processes = [self._begun(), self._begun()]
        self._clients: list[Client] = []

    def _begun(self) -> LoopProcess:
        return self._stack.enter_context(LoopProcess())

    async def run(self) -> None:
        users = await written(make_users)
        await written(self._world.note)
        self._writer = Writer(self._rng, users, self._world)
        self._clients = [
            *(Client(user, self._world, self._tally) for user in users),
            Client(users[0], self._world, self._tally, has_session=True),
        ]
        try:
            await self._run()
        finally:
            for client in self._clients:
                await client.cut()

    async def _run(self) -> None:
        for client in self._clients:
            await written(client.sign_in)
            await client.connect(self._rng.choice(self._processes))
            for _ in range(2):
                await self._watch(client)
        for _ in range(10):
            await self._step(self._rng.choice(self._clients))
            if self._rng.random() < 0.2:
                await self._rest()
        for client in self._clients:
            if client.socket is None:
                await client.come_back(self._rng.choice(self._processes))
        await self._rest()

    async def _step(self, client: Client) -> None:
        chance = self._rng.random()
        if chance < 0.04:
            self._kill()
        elif client.socket is None and chance < 0.5:
            await client.come_back(self._rng.choice(self._processes))
        elif client.socket is not None and chance < 0.15:
            await client.cut()
        elif client.socket is not None and client.has_session and chance < 0.25:
            self._tally["signed out"] += 1
            await client.sign_out()
        elif client.socket is not None and chance < 0.5:
            await self._watch(client)
        else:
            for _ in range(self._rng.choice([1, 1, 5])):
                await written(self._writer.write)

    def _kill(self) -> None:
        self._tally["killed"] += 1
        number = self._rng.randrange(2)
        for client in self._clients:
            if client.process is self._processes[number]:
                client.lose()
        self._processes[number].kill()
        self._processes[number] = self._begun()

    async def _watch(self, client: Client) -> None:
        stream, of, has_pages = self._rng.choice(WATCHED)
        keys = {"query": {"page": self._rng.choice([1, 1, 1, 2])}} if has_pages else {}
        name = f"{stream} {self._rng.randrange(3)}"
        await client.watch(name, Watched(stream, of, keys, None, ""))

    async def _rest(self) -> None:
        for process in self._processes:
            await process.do(runs_settle())
        for client in self._clients:
            await client.check()
        self._world.rest = len(self._world.versions) - 1


def run_program(seed: int, tally: Counter[str] | None = None) -> None:
    """Run one program. Raises AssertionError or KeyError if a promise is broken."""
    with ExitStack() as stack:
        program = Program(seed, stack, Counter() if tally is None else tally)
        asyncio.run(program.run())
