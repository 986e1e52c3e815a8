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
from typing import Any, Final

from channels.layers import InMemoryChannelLayer, get_channel_layer

from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels")

#: The group in which each process with subscribers has one channel.
GROUP: Final = "rest_channels.doorbell"

# Layers forget members, after a day unless told otherwise, or when they lose their data.
_SECONDS_BETWEEN_JOINS: Final = 30

_SECONDS_BETWEEN_WARNINGS: Final = 60


class Listener:
    """Who wants to know when `alias` was written to. Called in any thread."""

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
        listener.on_ring(alias)
    if shared_layer() is not None:
        _publisher.publish(alias)


def shared_layer() -> Any:
    """The project's channel layer, where it reaches further than this process; else None."""
    layer = get_channel_layer()
    return None if isinstance(layer, InMemoryChannelLayer) else layer


class _Publisher:
    """A thread with an event loop of its own: what is rung meanwhile is one message."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rung: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid: int | None = None
        self._is_publishing = False
        self._is_idle = threading.Event()
        self._warned_at = -float(_SECONDS_BETWEEN_WARNINGS)

    def publish(self, alias: str) -> None:
        with self._lock:
            self._rung.add(alias)
            if self._is_publishing and self._pid == os.getpid():
                return
            self._is_publishing = True
            self._is_idle.clear()
            loop = self._running_loop()
        asyncio.run_coroutine_threadsafe(self._publish_all(), loop)

    def flush(self) -> None:
        """Let a process that writes and ends at once be heard; bounded in time."""
        if self._is_publishing and self._pid == os.getpid():
            self._is_idle.wait(socket_settings.PUBLISH_SECONDS)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        # A fork takes no threads along.
        if self._loop is None or self._pid != os.getpid():
            self._pid = os.getpid()
            self._loop = asyncio.new_event_loop()
            threading.Thread(
                target=self._loop.run_forever, name="rest_channels.doorbell", daemon=True
            ).start()
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
                sending = layer.group_send(GROUP, message)
                await asyncio.wait_for(sending, socket_settings.PUBLISH_SECONDS)
        except Exception:
            now = time.monotonic()
            if now - self._warned_at >= _SECONDS_BETWEEN_WARNINGS:
                self._warned_at = now
                logger.warning(
                    "The channel layer took no doorbell: other processes look by themselves.",
                    exc_info=True,
                )


_publisher = _Publisher()
atexit.register(_publisher.flush)


async def listen(on_ring: Callable[[str], None]) -> None:
    """
    Hear other processes ring, until cancelled; on the loop of a hub. What the layer does wrong
    is logged, and the layer is tried again.
    """
    has_warned = False
    while (layer := shared_layer()) is not None:
        try:
            channel = await _within(layer.new_channel("rest_channels.hub"))
            await _within(layer.group_add(GROUP, channel))
            has_warned = False
            await _receive(layer, channel, on_ring)
        except Exception:
            if not has_warned:
                logger.warning(
                    "The channel layer cannot be heard: changes of other processes are seen "
                    "within POLL_SECONDS.",
                    exc_info=True,
                )
                has_warned = True
            await asyncio.sleep(socket_settings.POLL_SECONDS)


async def _receive(layer: Any, channel: str, on_ring: Callable[[str], None]) -> None:
    joined_at = time.monotonic()
    while True:
        try:
            message = await asyncio.wait_for(layer.receive(channel), _SECONDS_BETWEEN_JOINS)
            on_ring(str(message.get("database")))
        except TimeoutError:
            pass
        if time.monotonic() - joined_at >= _SECONDS_BETWEEN_JOINS:
            await _within(layer.group_add(GROUP, channel))
            joined_at = time.monotonic()


async def _within(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, socket_settings.PUBLISH_SECONDS)
