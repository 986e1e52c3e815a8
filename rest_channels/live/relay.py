"""
The doorbell: "look", from whoever wrote to whoever has subscribers.

It carries no content and no promise. Layers lose messages silently; who hears nothing looks all
the same, a little later (`POLL_SECONDS`). To hubs of this process it is a call; to other
processes a message over the project's channel layer, one for each process, sent by a thread that
the writer does not wait for.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from channels.layers import InMemoryChannelLayer, get_channel_layer

from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels")

#: The group in which each process with subscribers has one channel.
GROUP: Final = "rest_channels.doorbell"

# Layers forget members, after a day unless told otherwise, or when they lose their data.
_MOST_SECONDS_BETWEEN_JOINS: Final = 30

# Before a layer that failed is listened to again.
_SECONDS_BETWEEN_TRIES: Final = 1

_SECONDS_BETWEEN_WARNINGS: Final = 60


class Listener:
    """
    Who wants to know when `alias` was written to. Called in any thread; in a forked child only
    where it `outlives_fork`, having nothing to do with the parent's threads and loops.
    """

    outlives_fork = False

    def on_ring(self, alias: str) -> None:
        raise NotImplementedError


# Exchanged whole: read by writers in any thread.
_listeners: tuple[Listener, ...] = ()
_lock = threading.Lock()


def add_listener(listener: Listener) -> None:
    global _listeners
    with _lock:
        _listeners = (*_listeners, listener)


def remove_listener(listener: Listener) -> None:
    global _listeners
    with _lock:
        _listeners = tuple(known for known in _listeners if known is not listener)


def ring(alias: str) -> None:
    """Say that `alias` was written to; in any thread, returns at once, raises nothing."""
    for listener in _listeners:
        try:
            listener.on_ring(alias)
        except Exception:
            _complain("A doorbell within this process failed.")
    try:
        if shared_layer() is not None:
            _publisher.publish(alias)
    except Exception:
        # A layer that cannot be imported, a process that is about to end.
        _complain("No doorbell can be sent: other processes look by themselves.")


def shared_layer() -> Any:
    """The project's channel layer, where it reaches further than this process; else None."""
    layer = get_channel_layer()
    return None if isinstance(layer, InMemoryChannelLayer) else layer


_complained_at: dict[str, float] = {}


def _complain(what: str) -> None:
    """Log the exception at hand; the same complaint once a minute."""
    now = time.monotonic()
    if now - _complained_at.get(what, -_SECONDS_BETWEEN_WARNINGS) >= _SECONDS_BETWEEN_WARNINGS:
        _complained_at[what] = now
        logger.warning(what, exc_info=True)


class _InLine(ThreadPoolExecutor):
    """
    Runs what it is given there and then. asyncio looks up host names in an executor, and a true
    one refuses as soon as the process begins to end, which is when `flush` needs it.
    """

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as exc:
            future.set_exception(exc)
        return future


class _Publisher:
    """A thread with an event loop of its own: what is rung meanwhile is one message."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rung: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_publishing = False
        self._is_idle = threading.Event()

    def publish(self, alias: str) -> None:
        with self._lock:
            self._rung.add(alias)
            if self._is_publishing:
                return
            loop = self._running_loop()
            self._is_publishing = True
            self._is_idle.clear()
        asyncio.run_coroutine_threadsafe(self._publish_all(), loop)

    def flush(self) -> None:
        """Let a process that writes and ends at once be heard; bounded in time."""
        if self._is_publishing:
            self._is_idle.wait(socket_settings.PUBLISH_SECONDS)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = asyncio.new_event_loop()
            loop.set_default_executor(_InLine())
            threading.Thread(
                target=loop.run_forever, name="rest_channels.doorbell", daemon=True
            ).start()
            self._loop = loop
        return self._loop

    async def _publish_all(self) -> None:
        while True:
            with self._lock:
                if not self._rung:
                    self._is_publishing = False
                    self._is_idle.set()
                    return
                rung, self._rung = self._rung, set()
            for alias in rung:
                await self._publish(alias)

    async def _publish(self, alias: str) -> None:
        message = {"type": "rest_channels.look", "database": alias}
        try:
            # The layer as it is now: tests exchange it.
            layer = shared_layer()
            if layer is not None:
                await _within(layer.group_send(GROUP, message))
        except (Exception, asyncio.CancelledError):
            # Nobody cancels this task: it is the layer's own.
            _complain("The channel layer took no doorbell: other processes look by themselves.")


_publisher = _Publisher()
atexit.register(lambda: _publisher.flush())

# Kept, for an event loop that is collected lets go of what it shares with the parent's.
_left_behind: list[_Publisher] = []


def _begin_anew() -> None:
    """A forked child has the parent's locks as they were, but none of its threads and loops."""
    global _publisher, _listeners, _lock
    _left_behind.append(_publisher)
    _publisher, _lock = _Publisher(), threading.Lock()
    _listeners = tuple(listener for listener in _listeners if listener.outlives_fork)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


async def listen(on_ring: Callable[[str], None]) -> None:
    """
    Hear other processes ring, until cancelled; on the loop of a hub. What the layer does wrong
    is logged, and the layer is tried again.
    """
    while (layer := shared_layer()) is not None:
        try:
            await _listen(layer, on_ring)
        except Exception:
            _complain(
                "The channel layer cannot be heard: changes of other processes are seen within "
                "POLL_SECONDS."
            )
        await asyncio.sleep(_SECONDS_BETWEEN_TRIES)


async def _listen(layer: Any, on_ring: Callable[[str], None]) -> None:
    # The layer's own prefix: channels_redis hears one prefix a process at a time.
    channel = await _within(layer.new_channel())
    try:
        await _within(layer.group_add(GROUP, channel))
        await _receive(layer, channel, on_ring)
    finally:
        try:
            # Layers keep members for a day.
            await _within(layer.group_discard(GROUP, channel))
        except Exception:
            logger.debug("The channel layer let nobody leave.", exc_info=True)


async def _receive(layer: Any, channel: str, on_ring: Callable[[str], None]) -> None:
    # Joins again beside one `receive`: to cancel that would end a channel of the pub/sub layer.
    seconds = _seconds_between_joins(layer)
    joined_at = time.monotonic()
    receiving = asyncio.ensure_future(layer.receive(channel))
    try:
        while True:
            due = joined_at + seconds - time.monotonic()
            if due <= 0:
                await _within(layer.group_add(GROUP, channel))
                joined_at = time.monotonic()
            elif (await asyncio.wait([receiving], timeout=due))[0]:
                on_ring(str(receiving.result().get("database")))
                receiving = asyncio.ensure_future(layer.receive(channel))
    finally:
        receiving.cancel()
        await asyncio.wait([receiving], timeout=socket_settings.PUBLISH_SECONDS)
        if receiving.done() and not receiving.cancelled():
            # Looked at: asyncio complains of failures that nobody has seen.
            receiving.exception()


def _seconds_between_joins(layer: Any) -> float:
    """Twice before the layer forgets its members, where it says when."""
    expiry = float(getattr(layer, "group_expiry", _MOST_SECONDS_BETWEEN_JOINS))
    return min(_MOST_SECONDS_BETWEEN_JOINS, expiry / 2)


async def _within(awaitable: Any) -> Any:
    # Not `wait_for`: before Python 3.12 it may swallow that its caller is cancelled.
    async with asyncio.timeout(socket_settings.PUBLISH_SECONDS):
        return await awaitable
