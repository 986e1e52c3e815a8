"""
Shutdown of the server: sockets close one after the other, each after its last reply.

A stopping server closes all sockets at once (uvicorn), cancels running requests (daphne), or drops
the connections (granian). So this module delays the servers' handlers of SIGTERM and SIGINT until
the sockets are closed, or `SHUTDOWN_SECONDS` are over.
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

from rest_channels.metrics.gauges import watch
from rest_channels.settings import socket_settings
from rest_channels.sockets.outbox import Outbox

# The least number of sockets closed in a second: that few reconnecting clients are not a storm.
_CLOSES_PER_SECOND: Final = 100

# A second signal within this many seconds is the same request to stop: a supervisor may signal all
# processes of a service, and the parent among them signals its workers once more.
_SAME_STOP_SECONDS: Final = 1

# Seconds between checks for answered sockets.
_TICK: Final = 0.02

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Leaver(Protocol):
    """A socket that can leave."""

    outbox: Outbox

    def leave(self) -> bool:
        """Take no more frames. If all are answered, close and return True."""

    def go(self) -> None:
        """Close now."""


class Departures:
    """The open sockets of one loop, and their end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.sockets: set[Leaver] = set()
        self._leaving: asyncio.Task[None] | None = None
        self._began_at = 0.0
        watch(self)

    def gauges(self) -> dict[str, int]:
        """Return the number of sockets, and of the bytes that wait for their clients."""
        outboxes = [socket.outbox for socket in list(self.sockets)]
        return {
            "connections": len(outboxes),
            "queue_bytes": sum(outbox.waiting_bytes for outbox in outboxes),
            "backlog_bytes": sum(outbox.backlog_bytes for outbox in outboxes),
        }

    def enter(self, socket: Leaver) -> None:
        """Add an open socket."""
        if not self.sockets and threading.current_thread() is threading.main_thread():
            _handle_signals(self)
        self.sockets.add(socket)

    def exit(self, socket: Leaver) -> None:
        """Remove a closed socket."""
        self.sockets.discard(socket)

    @property
    def is_leaving(self) -> bool:
        """Whether `leave` has begun."""
        return self._leaving is not None

    @property
    def has_just_begun(self) -> bool:
        """Whether a signal now is the one that began `leave`, repeated."""
        return self.is_leaving and self.loop.time() - self._began_at < _SAME_STOP_SECONDS

    def begin(self, then: Callable[[], None]) -> None:
        """Let all sockets `leave`, then call `then`; on the loop. Begins only once."""
        if self._leaving is None:
            self._began_at = self.loop.time()
            self._leaving = self.loop.create_task(self.leave())
            self._leaving.add_done_callback(lambda _: then())

    async def leave(self) -> None:
        """
        Close all sockets within `SHUTDOWN_SECONDS`.

        They leave over the first half of it; those that are owed replies close once they have them.
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
        # Let the last texts be written.
        await asyncio.sleep(_TICK)


_departures: WeakKeyDictionary[asyncio.AbstractEventLoop, Departures] = WeakKeyDictionary()


def current_departures() -> Departures:
    """Return the departures of the running loop."""
    loop = asyncio.get_running_loop()
    if loop not in _departures:
        _departures[loop] = Departures(loop)
    return _departures[loop]


def running_departures() -> list[Departures]:
    """Return the departures of all running loops. From any thread."""
    return [found for loop, found in list(_departures.items()) if loop.is_running()]


class _Handler:
    """A handler in front of the server's own handler of a signal, which it calls afterwards."""

    def __init__(self, departures: Departures, servers_own: Callable[..., Any]) -> None:
        self.departures = departures
        self.servers_own = servers_own

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        departures = self.departures
        if departures.sockets and departures.has_just_begun:
            return
        if not departures.sockets or departures.is_leaving or departures.loop.is_closed():
            # There are no sockets to wait for, or this is a second request.
            self.servers_own(signum, frame)
            return
        then = partial(self.servers_own, signum, None)
        departures.loop.call_soon_threadsafe(departures.begin, then)


def _handle_signals(departures: Departures) -> None:
    """Put handlers before the server's, if it has any; on the main thread."""
    if not socket_settings.SHUTDOWN_SECONDS or not callable(signal.getsignal(signal.SIGTERM)):
        return
    loop = departures.loop
    for signum in _SIGNALS:
        handler = signal.getsignal(signum)
        if (of_the_loop := _handler_of_the_loop(loop, signum)) is not None:
            if not isinstance(of_the_loop._callback, _Handler):
                # asyncio does not call a replaced handler; this one does.
                servers_own = partial(_run, of_the_loop)
                loop.add_signal_handler(signum, _Handler(departures, servers_own), signum, None)
        elif isinstance(handler, _Handler):
            handler.departures = departures
        elif callable(handler):
            signal.signal(signum, _Handler(departures, handler))


def _handler_of_the_loop(loop: asyncio.AbstractEventLoop, signum: int) -> Any:
    """
    Return what the server passed to `loop.add_signal_handler`, as gunicorn and granian do.

    That is asyncio's handle. None on loops that do not reveal it (uvloop): there server and sockets
    stop side by side.
    """
    return getattr(loop, "_signal_handlers", {}).get(signum)


def _run(handle: Any, signum: int, frame: FrameType | None) -> None:
    handle._run()
