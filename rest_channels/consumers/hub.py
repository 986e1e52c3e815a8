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
from channels.layers import InMemoryChannelLayer, get_channel_layer

from rest_channels.consumers import layers
from rest_channels.consumers.feeds import Feeds
from rest_channels.consumers.layers import (
    GROUP_MEMBERSHIP,
    GROUP_TEXTS,
    SOCKET_TEXT,
    group_on_layer,
    parse_address,
    send_to_layer,
    socket_address,
)
from rest_channels.consumers.presence import Presence
from rest_channels.exceptions import ConsumerError
from rest_channels.protocol import byte_length
from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels")

# Between two tries to receive from a layer that fails.
_SECONDS_TO_RETRY: Final = 1

# How often membership is told to the layer again: what a layer has forgotten, by its group_expiry
# or with its memory, is back as soon.
_SECONDS_TO_REFRESH: Final = 30

# Texts for one group that wait while the layer takes others go in one message of about this size.
_BATCH_BYTES: Final = 256 * 1024

#: Which messages of the layer's are this process's own.
_PROCESS: Final = uuid.uuid4().hex


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
        self._receiving: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        # Texts for other processes that wait for the layer to take those before them.
        self._waiting: dict[str, list[str]] = {}
        self._waiting_bytes = 0
        # What is being told to the layer. The loop keeps only weak references to its tasks.
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._publishing: dict[str, asyncio.Task[None]] = {}
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
            for task in (self._receiving, self._refreshing):
                if task is not None:
                    task.cancel()
            self._receiving = self._refreshing = None

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

    async def settle(self, groups: Iterable[str]) -> None:
        """Wait until the layer knows who is in `groups`, or has failed to."""
        telling = [self._telling[group] for group in groups if group in self._telling]
        if telling:
            await asyncio.wait(telling)

    def _tell(self, group: str) -> None:
        """Tell the layer whether this process has members of `group`: what is true by then."""
        if self.channel is None or not has_other_processes():
            return
        self.listen()
        if self._refreshing is None:
            self._refreshing = self._loop.create_task(self._refresh())
        before = self._telling.get(group)
        task = self._telling[group] = self._loop.create_task(
            self._tell_after(before, group, self.channel)
        )

        def on_done(done: asyncio.Task[None]) -> None:
            if self._telling.get(group) is done:
                del self._telling[group]

        task.add_done_callback(on_done)

    async def _tell_after(
        self, before: asyncio.Task[None] | None, group: str, channel: str
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        layer = get_channel_layer()
        tell = layer.group_add if group in self._groups else layer.group_discard
        try:
            async with asyncio.timeout(layers.SECONDS_TO_PUBLISH):
                await tell(group_on_layer(group), channel)
        except Exception:
            logger.warning("The channel layer was not told of a group: again soon.", exc_info=True)

    async def _refresh(self) -> None:
        expiry = getattr(get_channel_layer(), "group_expiry", None) or _SECONDS_TO_REFRESH
        while True:
            await asyncio.sleep(min(_SECONDS_TO_REFRESH, expiry / 3))
            for group in list(self._groups):
                self._tell(group)
                await self.settle([group])

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
        message = {"type": kind, "process": _PROCESS, "group": group, **content}
        for hub in local_hubs():
            if hub is not self:
                hub.call_soon(hub.take, message)
        if has_other_processes():
            self.start(publish_to_layer(message))

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
        if not has_other_processes():
            return
        if self._waiting_bytes > socket_settings.MAX_QUEUE_BYTES:
            logger.warning("The channel layer is too slow: other processes miss a message.")
            return
        self._waiting_bytes += byte_length(text)
        self._waiting.setdefault(group, []).append(text)
        if group not in self._publishing:
            self._publishing[group] = self._loop.create_task(self._publish(group))

    async def _publish(self, group: str) -> None:
        try:
            while waiting := self._waiting.pop(group, None):
                self._waiting_bytes -= sum(map(byte_length, waiting))
                for batch in _batches(waiting):
                    await publish_to_layer(_texts(group, batch))
        finally:
            del self._publishing[group]

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
        if message.get("process") != _PROCESS:
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
            if has_other_processes():
                async_to_sync(publish_to_layer)(_texts(group, [text]))
            return
        publisher = hubs[0]
    publisher.call_soon(publisher.publish, group, text)


def _texts(group: str, texts: list[str]) -> dict[str, Any]:
    return {"type": GROUP_TEXTS, "process": _PROCESS, "group": group, "texts": texts}


async def publish_to_layer(message: dict[str, Any]) -> None:
    """Send a message to the other processes that have members of its group."""
    try:
        async with asyncio.timeout(layers.SECONDS_TO_PUBLISH):
            await get_channel_layer().group_send(group_on_layer(message["group"]), message)
    except Exception:
        logger.warning(
            "The channel layer failed: other processes miss %s message(s).",
            len(message.get("texts", [message])),
            exc_info=True,
        )


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


def has_other_processes() -> bool:
    """Whether the channel layer reaches any: one in memory does not, and would only lose."""
    layer = get_channel_layer()
    return layer is not None and not isinstance(layer, InMemoryChannelLayer)


def _batches(texts: list[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    yield batch
