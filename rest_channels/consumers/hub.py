"""
The sockets of this process and their groups: one layer channel for all of them.

What is sent to a group is encoded once. Members in this process get it without the layer; other
processes get it once each, however many members they have, and pass it on in the same way.

A hub belongs to an event loop, and all that it does it does there.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from rest_channels.consumers import layers, others
from rest_channels.consumers.feeds import Feeds
from rest_channels.consumers.layers import (
    GROUP_MEMBERSHIP,
    SOCKET_TEXT,
    parse_address,
    send_to_layer,
    socket_address,
)
from rest_channels.consumers.others import Others
from rest_channels.consumers.presence import Presence
from rest_channels.exceptions import ConsumerError

logger = logging.getLogger("rest_channels")

# Between two tries to receive from a layer that fails.
_SECONDS_TO_RETRY: Final = 1


class Member(Protocol):
    """A socket of class-based consumers, as its hub knows it."""

    id: str
    groups: set[str]

    def post(self, text: str) -> None:
        """Send JSON text to the client at once; on the loop."""

    def hear(self, group: str, text: str, *, may_be_lost: bool = False) -> None:
        """Send JSON text said in a group, if the client may still have it; on the loop."""

    def require_room(self) -> None:
        """Raises `ConsumerError` where its socket may be in no more groups."""


class Hub:
    """The sockets of one event loop. On the loop, but for `address` and `post`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.channel: str | None = None
        #: This hub among all hubs of all processes.
        self.id = uuid.uuid4().hex
        #: Who is in which group; here for all classes of consumers.
        self.presence = Presence(self)
        #: What is said in rooms that have a history.
        self.feeds = Feeds()
        self._loop = loop
        self._members: dict[str, Member] = {}
        self._groups: dict[str, dict[Member, None]] = {}
        self._others = Others(loop, self._groups)
        self._receiving: asyncio.Task[None] | None = None
        # The loop keeps only weak references to its tasks.
        self._told: set[asyncio.Task[None]] = set()

    async def join(self, member: Member) -> None:
        """Let `member` be reached by its address."""
        self._members[member.id] = member
        if self.channel is None and (layer := get_channel_layer()) is not None:
            # The layer's own prefix, as everybody has it: channels_redis hears one prefix a process
            # at a time, and others only when something has come for that one.
            channel = await layer.new_channel()
            self.channel = self.channel or channel

    def leave(self, member: Member) -> None:
        """The socket is closed. With the last one the layer's channel is given up."""
        for group in list(member.groups):
            self.leave_group(group, member)
        self._members.pop(member.id, None)
        if not self._members:
            self.channel = None
            self._others.rest()
            if self._receiving is not None:
                self._receiving.cancel()
                self._receiving = None

    def address(self, member: Member) -> str | None:
        """What reaches `member` from any process; None without a layer. From any thread."""
        if self.channel is None:
            return None
        self._loop.call_soon_threadsafe(self.listen)
        return socket_address(self.channel, member.id)

    def listen(self) -> None:
        """Receive what other processes send, from now on: nobody does before there is need."""
        if self._receiving is None and self._members and self.channel is not None:
            self._receiving = self._loop.create_task(self._receive(self.channel))

    def post(self, socket_id: str, text: str) -> None:
        """Send text to a socket of this loop, if it is still there; from any thread."""
        self._loop.call_soon_threadsafe(self._post, socket_id, text)

    def _post(self, socket_id: str, text: str) -> None:
        member = self._members.get(socket_id)
        if member is not None:
            member.post(text)

    def join_group(self, group: str, member: Member) -> None:
        """
        Let `member` have what is sent to `group` from now on; from other processes once the layer
        knows. Raises `ConsumerError` where it is in too many.
        """
        if group in member.groups or member.id not in self._members:
            return
        member.require_room()
        member.groups.add(group)
        members = self._groups.setdefault(group, {})
        members[member] = None
        if len(members) == 1:
            self._tell(group)

    def leave_group(self, group: str, member: Member) -> None:
        """Let `member` have it no more."""
        if group not in member.groups:
            return
        member.groups.discard(group)
        members = self._groups[group]
        del members[member]
        if not members:
            del self._groups[group]
            self._tell(group)

    def _tell(self, group: str) -> None:
        """Whether this hub has members of `group` has changed."""
        if self.channel is not None and others.has_other_processes():
            self.listen()
            self._others.tell(group, self.channel)

    async def settle(self, groups: Iterable[str]) -> None:
        """Wait until the layer knows who is in `groups`, or has failed to."""
        await self._others.settle(groups)

    def send_to_group(self, group: str, text: str) -> None:
        """Send text to the members of this loop."""
        for member in list(self._groups.get(group, ())):
            member.hear(group, text)

    def offer_to_group(self, group: str, text: str) -> None:
        """Send text to the members of this loop that keep up."""
        for member in list(self._groups.get(group, ())):
            member.hear(group, text, may_be_lost=True)

    def tell_others(self, kind: str, group: str, **content: Any) -> None:
        """Send a message of that kind to other hubs that have members of `group`, soon."""
        message = {"type": kind, "process": others.PROCESS, "group": group, **content}
        for hub in local_hubs():
            if hub is not self:
                hub.call_soon(hub.take, message)
        if others.has_other_processes():
            self.start(others.publish_to_layer(message))

    def announce_news(self, group: str) -> None:
        """Something was said in `group`, a room with a history: say so to all hubs."""
        self.feeds.ring(group)
        self.tell_others(layers.GROUP_NEWS, group)

    async def look_for_news(self, group: str) -> None:
        """Look once the layer knows of the members here: what is announced from then on arrives."""
        await self.settle([group])
        self.feeds.ring(group)

    def publish(self, group: str, text: str) -> None:
        """Send text to the members of other processes, soon; a layer that fails loses it."""
        self._others.publish(group, text)

    async def _receive(self, channel: str) -> None:
        while True:
            try:
                layer = get_channel_layer()
                self.on_message(await layer.receive(channel))
            except Exception:
                logger.warning("The channel layer failed to give messages.", exc_info=True)
                await asyncio.sleep(_SECONDS_TO_RETRY)

    def on_message(self, message: Mapping[str, Any]) -> None:
        """Take a message of the layer's."""
        if message.get("process") != others.PROCESS:
            self.take(message)

    def take(self, message: Mapping[str, Any]) -> None:
        """Take what another process, or another hub of this one, has to say."""
        match message["type"]:
            case layers.SOCKET_TEXT:
                self._post(message["socket"], message["text"])
            case layers.GROUP_TEXTS:
                for text in message["texts"]:
                    self.send_to_group(message["group"], text)
            case layers.GROUP_OFFER:
                self.offer_to_group(message["group"], message["text"])
            case layers.GROUP_PRESENCE:
                self.presence.take(message)
            case layers.GROUP_NEWS:
                self.feeds.ring(message["group"])
            case layers.GROUP_MEMBERSHIP:
                self.change_membership(message["group"], message["socket"], message["joins"])

    def change_membership(self, group: str, socket_id: str, joins: bool) -> None:
        """Let a socket join or leave a group, if it is still there and has room."""
        member = self._members.get(socket_id)
        if member is None:
            return
        try:
            (self.join_group if joins else self.leave_group)(group, member)
        except ConsumerError as exc:
            logger.warning("A socket did not join a group: %s", exc)

    def call_later(self, seconds: float, function: Any, *args: Any) -> asyncio.TimerHandle:
        """Call `function` on the loop after a while; on the loop."""
        return self._loop.call_later(seconds, function, *args)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run `coroutine` on its own; on the loop."""
        task = self._loop.create_task(coroutine)
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    def call(self, function: Any, *args: Any) -> Any:
        """Call `function` on the loop and wait for what it returns or raises; from any thread."""
        try:
            if asyncio.get_running_loop() is self._loop:
                return function(*args)
        except RuntimeError:
            # No loop runs here: a worker thread.
            pass
        outcome: Future[Any] = Future()

        def run() -> None:
            try:
                outcome.set_result(function(*args))
            except Exception as exc:
                outcome.set_exception(exc)

        self._loop.call_soon_threadsafe(run)
        return outcome.result()

    def call_soon(self, function: Any, *args: Any) -> None:
        """Call `function` on the loop, without waiting; from any thread."""
        self._loop.call_soon_threadsafe(function, *args)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def running_hub() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = Hub(loop)
    return hub


def local_hubs() -> list[Hub]:
    """The hubs of this process whose loops run: one, but in tests."""
    return [hub for loop, hub in list(_hubs.items()) if loop.is_running()]


async def send_to_socket(address: str, text: str) -> None:
    """
    Send JSON text to the socket of that address, in whichever process it is. Nobody is told where
    there is none any more. Raises `ConsumerError` where the layer does not take it.
    """
    channel, socket_id = parse_address(address)
    for hub in local_hubs():
        if hub.channel == channel:
            hub.post(socket_id, text)
            return
    await send_to_layer(channel, {"type": SOCKET_TEXT, "socket": socket_id, "text": text})


def send_to_group(group: str, text: str) -> None:
    """
    Send JSON text to the members of `group`, here and in other processes; from any thread.

    Members of this process get it whatever becomes of the layer. Nothing is raised where the layer
    fails, and at most 2 seconds are waited for it where no event loop runs in this process.
    """
    hubs = local_hubs()
    for hub in hubs:
        hub.call_soon(hub.send_to_group, group, text)
    try:
        publisher = running_hub()
    except RuntimeError:
        if not hubs:
            if others.has_other_processes():
                message = others.message_of_texts(group, [text])
                async_to_sync(others.publish_to_layer)(message)
            return
        publisher = hubs[0]
    publisher.call_soon(publisher.publish, group, text)


async def change_membership(group: str, address: str, joins: bool) -> None:
    """
    Let the socket of that address, in whichever process it is, join or leave `group`. Raises
    `ConsumerError` where the layer does not take it.
    """
    channel, socket_id = parse_address(address)
    for hub in local_hubs():
        if hub.channel == channel:
            hub.call_soon(hub.change_membership, group, socket_id, joins)
            return
    message = {"type": GROUP_MEMBERSHIP, "group": group, "socket": socket_id, "joins": joins}
    await send_to_layer(channel, message)
