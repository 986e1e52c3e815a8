"""
The channel of this process on the channel layer, which receives other processes' messages.

    channel = current_channel()
    channel.handle(Look, self.on_look)
    channel.hold(self)                  # until `release`
    channel.join("rest_channels.doorbell")

There is one for each event loop, so one for each process that serves sockets, for all of its
subscriptions, groups and rooms: layers copy a message for each member of a group, and bound the
number of messages that wait for a channel.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from channels.layers import get_channel_layer

from rest_channels.bus import channel_layer
from rest_channels.bus.follower import Follower
from rest_channels.bus.loops import PerLoop
from rest_channels.bus.messages import Echo, Look, Message, from_layer, to_layer
from rest_channels.bus.tasks import BackgroundTasks

logger = logging.getLogger("rest_channels")

# Layers drop members, by default after a day, or when they lose their data.
_MOST_SECONDS_BETWEEN_JOINS: Final = 30

# How long to wait before a layer that failed is called again.
_SECONDS_BETWEEN_TRIES: Final = 1

# The most messages of groups that wait to be handled; doorbells overtake them.
_MOST_WAITING: Final = 1_000

# A layer silently drops messages above its capacity, doorbells too. By default that is 100
# messages: if as many arrive, a doorbell may have been dropped.
_MESSAGES_BETWEEN_LOOKS: Final = 100

# The least time between two such looks.
_SECONDS_BETWEEN_LOOKS: Final = 0.1

#: Identifies this process's own messages.
process_id = uuid.uuid4().hex


def _rename_after_fork() -> None:
    global process_id
    process_id = uuid.uuid4().hex


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_rename_after_fork)


class ProcessChannel:
    """The channel of one event loop, `loop`. Called on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        #: Its name on the layer; None until it has one.
        self.name: str | None = None
        self._opening = asyncio.Lock()
        self.loop = loop
        # The tests of `hears_itself` that wait, by nonce.
        self._echoes: dict[str, asyncio.Future[None]] = {}
        self._handlers: dict[type[Any], Callable[[Any], None]] = {Echo: self._on_echo}
        self._holders: set[object] = set()
        #: The layer's groups that it is in, or will be in.
        self.groups: set[str] = set()
        self._tasks = BackgroundTasks()
        self._receiving: asyncio.Task[None] | None = None
        self._memberships = _Memberships(self, self._tasks)
        # Messages of groups that wait for earlier ones.
        self._waiting: deque[Message] = deque()
        self._room = asyncio.Semaphore(_MOST_WAITING)
        self._received = 0
        self._next_look: asyncio.TimerHandle | None = None

    def handle(self, kind: type[Any], handler: Callable[[Any], None]) -> None:
        """Call `handler` with each message of `kind` that arrives."""
        self._handlers[kind] = handler

    def hold(self, holder: object) -> None:
        """Keep the channel until `holder`, and all others, `release` it."""
        self._holders.add(holder)

    def release(self, holder: object) -> None:
        """Close the channel if it has no other holders. `holder` has left its groups."""
        self._holders.discard(holder)
        if self._holders:
            return
        self._memberships.stop()
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None
            # Otherwise the name is kept: only a cancelled `receive` ends a pub/sub channel.
            self.name = None
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    async def open(self) -> None:
        """Give the channel a name, if there is a layer. Raises the errors of the layer."""
        async with self._opening:
            if self.name is None and (layer := get_channel_layer()) is not None:
                # With the layer's default prefix: channels_redis receives for one prefix of a
                # process at a time, and for others only once a message has come for that one.
                self.name = await channel_layer.bounded(layer.new_channel())

    def listen(self) -> None:
        """Start to receive messages. Nothing is received before another process may send."""
        if self._receiving is None and self._holders:
            self._receiving = self._tasks.start(self._receive_always())

    def join(self, group: str) -> None:
        """Receive the messages of a group of the layer, as soon as the layer knows."""
        self.groups.add(group)
        self._memberships.update(group)
        self.listen()

    def leave(self, group: str) -> None:
        """Stop receiving the messages of a group of the layer."""
        if group in self.groups:
            self.groups.discard(group)
            self._memberships.update(group)

    async def settle(self, groups: Iterable[str]) -> None:
        """
        Wait until the layer has recorded whether this channel is in `groups`, or a call has failed.
        """
        await self._memberships.settle(groups)

    async def hears_itself(self, seconds: float) -> bool:
        """
        Send a message to this channel over the layer; return whether it arrives within `seconds`.

        True without a message if nothing is to be received, because the channel has no holders.
        """
        if self._receiving is None:
            return True
        nonce = uuid.uuid4().hex
        echo = self._echoes[nonce] = self.loop.create_future()
        try:
            async with asyncio.timeout(seconds):
                if self.name is None:
                    return False
                layer: Any = get_channel_layer()
                await layer.send(self.name, to_layer(Echo(nonce)))
                await echo
        except (Exception, asyncio.CancelledError):
            # A CancelledError may be the layer's own.
            if channel_layer.is_cancelled():
                raise
            return False
        finally:
            del self._echoes[nonce]
        return True

    def _on_echo(self, message: Echo) -> None:
        echo = self._echoes.get(message.nonce)
        if echo is not None and not echo.done():
            echo.set_result(None)

    async def _receive_always(self) -> None:
        while True:
            try:
                if self.name is None:
                    await self.open()
                    self._memberships.ring()
                await self._receive()
            except (Exception, asyncio.CancelledError):
                if channel_layer.is_cancelled():
                    raise
                channel_layer.complain(
                    "Cannot receive from the channel layer: changes of other processes arrive "
                    "within POLL_SECONDS, and their messages to groups are lost."
                )
            await asyncio.sleep(_SECONDS_BETWEEN_TRIES)
            # The layer may have lost its data.
            self._memberships.ring()

    async def _receive(self) -> None:
        layer = get_channel_layer()
        capacity = getattr(layer, "capacity", None) or _MESSAGES_BETWEEN_LOOKS
        while layer is not None and self.name is not None:
            # Without a timeout: a cancelled `receive` ends a channel of the pub/sub layer.
            message = from_layer(await layer.receive(self.name))
            if message is not None and getattr(message, "process", None) != process_id:
                await self._take(message)
            self._received += 1
            if self._received >= min(capacity, _MESSAGES_BETWEEN_LOOKS):
                self._received = 0
                self._look_soon()
                # Otherwise a layer that always has a message would block the loop.
                await asyncio.sleep(0)

    async def _take(self, message: Message) -> None:
        if isinstance(message, (Look, Echo)):
            self._handle(message)
            return
        await self._room.acquire()
        self._waiting.append(message)
        if len(self._waiting) == 1:
            self.loop.call_soon(self._handle_next)

    def _handle_next(self) -> None:
        message = self._waiting[0]
        try:
            self._handle(message)
        finally:
            self._waiting.popleft()
            self._room.release()
            if self._waiting:
                self.loop.call_soon(self._handle_next)

    def _handle(self, message: Message) -> None:
        handler = self._handlers.get(type(message))
        try:
            if handler is not None:
                handler(message)
        except Exception:
            logger.error("A message of another process failed.", exc_info=True)

    def _look_soon(self) -> None:
        if self._next_look is None:
            self._next_look = self.loop.call_later(_SECONDS_BETWEEN_LOOKS, self._look)

    def _look(self) -> None:
        self._next_look = None
        self._handle(Look(None))


class _Memberships(Follower):
    """
    The follower that keeps the layer's record of the groups of `channel`.

    It updates the record on a change, again at intervals, and soon after a failure.
    """

    def __init__(self, channel: ProcessChannel, tasks: BackgroundTasks) -> None:
        super().__init__()
        self._channel = channel
        self._tasks = tasks
        self._following: asyncio.Task[None] | None = None
        self._updated_at = 0.0
        self._must_update_all = False
        self._updating: dict[str, asyncio.Task[None]] = {}

    def ring(self) -> None:
        """Send the layer all groups again."""
        self._must_update_all = True
        self._start()
        super().ring()

    def update(self, group: str) -> None:
        """Send the layer whether the channel is in `group` when the call runs."""
        name = self._channel.name
        if name is None:
            # All groups are sent once there is a name.
            return
        self._start()
        before = self._updating.get(group)
        task = self._updating[group] = self._tasks.start(self._update(group, name, before))

        def on_done(done: asyncio.Task[None]) -> None:
            if self._updating.get(group) is done:
                del self._updating[group]

        task.add_done_callback(on_done)

    def _start(self) -> None:
        if self._following is None:
            self._updated_at = time.monotonic()
            self._following = self._tasks.start(self.follow())

    def stop(self) -> None:
        """Stop following, because the channel is closed."""
        if self._following is not None:
            self._following.cancel()
            self._following = None

    async def settle(self, groups: Iterable[str]) -> None:
        updating = [self._updating[group] for group in groups if group in self._updating]
        if updating:
            await asyncio.wait(updating)

    def has_work(self) -> bool:
        return True

    async def look(self) -> float:
        seconds = _seconds_between_joins()
        if self._must_update_all or time.monotonic() - self._updated_at >= seconds:
            self._must_update_all = False
            for group in list(self._channel.groups):
                self.update(group)
                await self.settle([group])
            self._updated_at = time.monotonic()
        return max(0.0, self._updated_at + seconds - time.monotonic())

    async def _update(self, group: str, name: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        layer: Any = get_channel_layer()
        # A released name is not in any group.
        is_member = name == self._channel.name and group in self._channel.groups
        try:
            call = layer.group_add if is_member else layer.group_discard
            await channel_layer.bounded(call(group, name))
        except (Exception, asyncio.CancelledError):
            if channel_layer.is_cancelled():
                raise
            channel_layer.complain("The channel layer did not update a group: it is tried again.")
            if is_member:
                asyncio.get_running_loop().call_later(_SECONDS_BETWEEN_TRIES, self._retry, group)

    def _retry(self, group: str) -> None:
        if group in self._channel.groups and group not in self._updating:
            self.update(group)


def _seconds_between_joins() -> float:
    """Return half the time after which the layer drops members, if it says so."""
    expiry = None
    with suppress(Exception):
        expiry = getattr(get_channel_layer(), "group_expiry", None)
    return min(_MOST_SECONDS_BETWEEN_JOINS, (expiry or _MOST_SECONDS_BETWEEN_JOINS * 2) / 2)


_channels: PerLoop[ProcessChannel] = PerLoop(ProcessChannel)


def current_channel() -> ProcessChannel:
    """Return the channel of the running event loop."""
    return _channels.current()


def running_channels() -> list[ProcessChannel]:
    """Return the channels of all running loops. From any thread."""
    return _channels.running()
