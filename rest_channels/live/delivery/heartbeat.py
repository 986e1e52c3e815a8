"""
Send a heartbeat to silent sockets with subscriptions.

A client that receives nothing for twice `SYNC_SECONDS` knows that its connection is dead. One timer
for each loop checks all sockets, ten times in `SYNC_SECONDS`, so that sending a message costs
nothing more.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final, Protocol

from rest_channels.bus.loops import PerLoop
from rest_channels.settings import socket_settings

# Checks in `SYNC_SECONDS`, and the number of silent ones in a row after which a socket gets a
# heartbeat: at most nine checks after its last message, so that a busy loop has a tenth to spare.
_LOOKS: Final = 10
SILENT_LOOKS: Final = 8

# Sockets checked at a time; then other tasks of the loop may run.
_SOCKETS_AT_A_TIME: Final = 200


class Listener(Protocol):
    """The subscriptions of one socket."""

    @property
    def is_listening(self) -> bool:
        """Whether it has any subscription that needs a heartbeat."""

    @property
    def sent_count(self) -> int:
        """The number of messages sent to the socket."""

    def beat(self) -> None:
        """Send a heartbeat."""


class Heartbeat:
    """
    The sockets of one loop, with the messages sent to each and its silent checks. On the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._silent: dict[Listener, tuple[int, int]] = {}
        self._is_scheduled = False

    def watch(self, listener: Listener) -> None:
        """Send `listener` something at least every `SYNC_SECONDS`, while it is listening."""
        self._silent.setdefault(listener, (listener.sent_count, 0))
        if not self._is_scheduled:
            self._schedule()

    def forget(self, listener: Listener) -> None:
        """Stop watching `listener`, because its socket is closed."""
        self._silent.pop(listener, None)

    def look(self) -> None:
        """Send a heartbeat to sockets that have been silent for long enough, a few at a time."""
        self._look_at(list(self._silent))

    def _look_at(self, listeners: list[Listener]) -> None:
        rest = iter(listeners)
        for listener in islice(rest, _SOCKETS_AT_A_TIME):
            if listener in self._silent:
                self._look_at_one(listener)
        if remaining := list(rest):
            self._loop.call_soon(self._look_at, remaining)

    def _look_at_one(self, listener: Listener) -> None:
        if not listener.is_listening:
            self.forget(listener)
            return
        count, looks = self._silent[listener]
        looks = looks + 1 if listener.sent_count == count else 0
        if looks >= SILENT_LOOKS:
            looks = 0
            listener.beat()
        self._silent[listener] = (listener.sent_count, looks)

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._loop.call_later(socket_settings.SYNC_SECONDS / _LOOKS, self._on_time)

    def _on_time(self) -> None:
        self._is_scheduled = False
        self.look()
        if self._silent:
            self._schedule()


_heartbeats: PerLoop[Heartbeat] = PerLoop(Heartbeat)


def current_heartbeat() -> Heartbeat:
    """Return the heartbeat of the running loop."""
    return _heartbeats.current()
