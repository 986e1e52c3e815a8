"""
The server goes away: sockets end one after the other, each after its last reply.

Servers close all sockets at once when they are told to stop (uvicorn), or cancel what is being
answered (daphne). So their handlers of SIGTERM and SIGINT are called later here: when the sockets
are closed, or `SHUTDOWN_SECONDS` are over.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from rest_channels.counters import watch
from rest_channels.outbox import Outbox
from rest_channels.settings import socket_settings

# Sockets that are closed in a second at least: so few clients that connect again are no storm.
_CLOSES_PER_SECOND: Final = 100

# Between looks at who has been answered (seconds).
_TICK: Final = 0.02

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Leaver(Protocol):
    """A socket."""

    outbox: Outbox

    def leave(self) -> bool:
        """Take no more frames; close, and say so, where all that were taken are answered."""

    def go(self) -> None:
        """Close now."""


class Departures:
    """The open sockets of one loop, and their end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.sockets: set[Leaver] = set()
        self._leaving: asyncio.Task[None] | None = None
        watch(self)

    def gauges(self) -> dict[str, int]:
        """The sockets, and what waits for their clients."""
        outboxes = [socket.outbox for socket in list(self.sockets)]
        return {
            "connections": len(outboxes),
            "queue_bytes": sum(outbox.waiting_bytes for outbox in outboxes),
            "backlog_bytes": sum(outbox.backlog_bytes for outbox in outboxes),
        }

    def enter(self, socket: Leaver) -> None:
        """`socket` is open."""
        if not self.sockets and threading.current_thread() is threading.main_thread():
            _handle_signals(self)
        self.sockets.add(socket)

    def exit(self, socket: Leaver) -> None:
        """`socket` is closed."""
        self.sockets.discard(socket)

    @property
    def is_leaving(self) -> bool:
        """Whether `leave` has begun."""
        return self._leaving is not None

    def begin(self, then: Callable[[], None]) -> None:
        """Have all sockets `leave`, `then` go on; on the loop. Begun once."""
        if self._leaving is None:
            self._leaving = self.loop.create_task(self.leave())
            self._leaving.add_done_callback(lambda _: then())

    async def leave(self) -> None:
        """
        Close all sockets within `SHUTDOWN_SECONDS`: over the first half of it, and those that are
        owed replies once they have them.
        """
        window = float(socket_settings.SHUTDOWN_SECONDS)
        began = self.loop.time()
        per_second = max(_CLOSES_PER_SECOND, 2 * len(self.sockets) / window)
        asked: set[Leaver] = set()
        closed: set[Leaver] = set()
        while self.sockets and (passed := self.loop.time() - began) < window:
            due = int(passed * per_second) + 1 - len(asked)
            # Newcomers, too.
            asked.update(list(self.sockets - asked)[: max(0, due)])
            closed.update(socket for socket in asked - closed if socket.leave())
            await asyncio.sleep(_TICK)
        for socket in self.sockets - closed:
            socket.go()
        # What was said last is to be written.
        await asyncio.sleep(_TICK)


_departures: WeakKeyDictionary[asyncio.AbstractEventLoop, Departures] = WeakKeyDictionary()


def current_departures() -> Departures:
    """Those of the running loop."""
    loop = asyncio.get_running_loop()
    if loop not in _departures:
        _departures[loop] = Departures(loop)
    return _departures[loop]


class _Handler:
    """In front of the server's own handler of a signal, which it calls when sockets are closed."""

    def __init__(self, departures: Departures, servers_own: Callable[..., Any]) -> None:
        self.departures = departures
        self.servers_own = servers_own

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        departures = self.departures
        if not departures.sockets or departures.is_leaving or departures.loop.is_closed():
            # Nobody to wait for; or asked a second time.
            self.servers_own(signum, frame)
            return
        then = partial(self.servers_own, signum, None)
        departures.loop.call_soon_threadsafe(departures.begin, then)


def _handle_signals(departures: Departures) -> None:
    """Put handlers before the server's, where it has some; on the main thread."""
    if not socket_settings.SHUTDOWN_SECONDS or not callable(signal.getsignal(signal.SIGTERM)):
        return
    for signum in _SIGNALS:
        handler = signal.getsignal(signum)
        if isinstance(handler, _Handler):
            handler.departures = departures
        elif callable(handler):
            signal.signal(signum, _Handler(departures, handler))
