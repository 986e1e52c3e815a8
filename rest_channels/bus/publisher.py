"""
Send messages to other processes, over the channel layer.

    ring("default")                 # a doorbell: returns immediately
    publish(group, message)         # a message for a group of the layer

A thread of its own sends, so that writers do not wait for the layer and a failing layer does not
affect them. Doorbells go first: they never wait for messages of groups, and those that ring while
one is being sent are merged.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from rest_channels.bus import channel_layer
from rest_channels.bus.messages import GroupMessage, GroupOffer, GroupTexts, Look, Message, to_layer
from rest_channels.bus.tasks import BackgroundTasks
from rest_channels.protocol import byte_length
from rest_channels.settings import socket_settings

#: The layer's group of all processes with subscribers.
DOORBELL_GROUP: Final = "rest_channels.doorbell"

# The approximate size of a message of merged texts of one group.
_BATCH_BYTES: Final = 256 * 1024

# The most messages of groups sent at a time: each takes a connection of the layer's pool.
_MOST_AT_A_TIME: Final = 16

# The approximate size of a message beside its texts.
_MESSAGE_BYTES: Final = 200


class _InLine(ThreadPoolExecutor):
    """
    An executor that runs a function immediately, in the caller's thread.

    asyncio looks up host names in an executor. A real one refuses as soon as the process begins to
    end, when `flush` still needs it.
    """

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as exc:
            future.set_exception(exc)
        return future


class Publisher:
    """A thread with an event loop, started by the first message. Called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._running = 0
        self._beginning: list[tuple[Any, tuple[Any, ...]]] = []
        self._tasks = BackgroundTasks()
        self._rung: set[str] = set()
        self._is_ringing = False
        self._queues: dict[str, deque[GroupMessage]] = {}
        self._waiting_bytes = 0
        self._room = asyncio.Semaphore(_MOST_AT_A_TIME)

    def ring(self, alias: str) -> None:
        """Send a doorbell for the database `alias`."""
        with self._lock:
            self._rung.add(alias)
            if not self._is_ringing:
                self._start(self._ring_all)
                self._is_ringing = True

    def publish(self, group: str, *messages: GroupMessage) -> None:
        """
        Send `messages` to `group`, a valid name on the layer, after earlier messages to it.

        If more than `MAX_QUEUE_BYTES` wait for the layer, the rest is lost. Texts given together
        leave together.
        """
        is_lost = False
        with self._lock:
            for message in messages:
                is_lost = self._waiting_bytes > socket_settings.MAX_QUEUE_BYTES
                if is_lost:
                    break
                self._put(group, message)
        if is_lost:
            channel_layer.complain(
                "The channel layer is too slow: other processes miss messages of groups."
            )

    def flush(self) -> None:
        """Wait until everything is sent, at most `PUBLISH_SECONDS`."""
        self._is_idle.wait(socket_settings.PUBLISH_SECONDS)

    def _put(self, group: str, message: GroupMessage) -> None:
        queue = self._queues.get(group)
        if queue is None:
            self._start(self._publish_all, group)
            queue = self._queues[group] = deque()
        queue.append(message)
        self._waiting_bytes += _byte_count(message)

    def _start(self, function: Any, *args: Any) -> None:
        # Under the lock. If it cannot start, because the process ends, it changes nothing.
        loop = self._running_loop()
        self._is_idle.clear()
        self._running += 1
        self._beginning.append((function, args))
        if len(self._beginning) == 1:
            # One wake-up for all that begin until the thread takes its turn.
            loop.call_soon_threadsafe(self._begin_all)

    def _begin_all(self) -> None:
        with self._lock:
            beginning, self._beginning = self._beginning, []
        for function, args in beginning:
            self._tasks.start(self._run(function(*args)))

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = asyncio.new_event_loop()
            loop.set_default_executor(_InLine())
            threading.Thread(
                target=loop.run_forever, name="rest_channels.publisher", daemon=True
            ).start()
            self._loop = loop
        return self._loop

    async def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._is_idle.set()

    async def _ring_all(self) -> None:
        while True:
            with self._lock:
                if not self._rung:
                    self._is_ringing = False
                    return
                rung, self._rung = self._rung, set()
            for alias in rung:
                await _send(
                    DOORBELL_GROUP,
                    Look(alias),
                    "The channel layer lost a doorbell: other processes look within POLL_SECONDS.",
                )

    async def _publish_all(self, group: str) -> None:
        while True:
            async with self._room:
                if (message := self._next(group)) is None:
                    return
                await _send(
                    group, message, "The channel layer failed: other processes miss messages."
                )

    def _next(self, group: str) -> GroupMessage | None:
        with self._lock:
            queue = self._queues[group]
            if not queue:
                del self._queues[group]
                return None
            message = _merged(queue)
            self._waiting_bytes -= _byte_count(message)
            return message


def _merged(queue: deque[GroupMessage]) -> GroupMessage:
    """Take the first message of `queue`, merged with texts that follow it."""
    message = queue.popleft()
    if not isinstance(message, GroupTexts):
        return message
    texts = list(message.texts)
    size = _byte_count(message)
    while queue and isinstance(following := queue[0], GroupTexts):
        size += _byte_count(following)
        if size > _BATCH_BYTES:
            break
        texts += following.texts
        queue.popleft()
    return GroupTexts(message.process, message.group, texts)


def _byte_count(message: GroupMessage) -> int:
    if isinstance(message, GroupTexts):
        return sum(map(byte_length, message.texts))
    return byte_length(message.text) if isinstance(message, GroupOffer) else _MESSAGE_BYTES


async def _send(group: str, message: Message, complaint: str) -> None:
    try:
        # The current layer, because tests replace it.
        layer = channel_layer.shared_layer()
        if layer is not None:
            await channel_layer.bounded(layer.group_send(group, to_layer(message)))
    except (Exception, asyncio.CancelledError):
        # This task is never cancelled: a CancelledError is the layer's own.
        channel_layer.complain(complaint)


_publisher = Publisher()

# Kept, because collecting an event loop closes files that it shares with the parent's.
_left_behind: list[Publisher] = []


def ring(alias: str) -> None:
    """Send a doorbell for the database `alias`; from any thread, returns at once."""
    _publisher.ring(alias)


def publish(group: str, *messages: GroupMessage) -> None:
    """Send `messages` to `group` of the layer; from any thread, returns at once."""
    _publisher.publish(group, *messages)


def flush() -> None:
    """Wait until everything is sent, at most `PUBLISH_SECONDS`; not on an event loop."""
    _publisher.flush()


# Send everything, also if a process ends right after a write.
atexit.register(lambda: _publisher.flush())


def _replace_after_fork() -> None:
    """Replace the parent's publisher, whose thread and loop a forked child does not have."""
    global _publisher
    _left_behind.append(_publisher)
    _publisher = Publisher()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_after_fork)
