"""
Log entries about a running process: waits that last too long, and periodic statistics.

One timer for each loop examines the frames and passes in flight, so a frame that does not wait
costs nothing. `rest_channels.stats()` is logged every `STATS_SECONDS` while sockets are open.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakSet

from rest_channels.metrics.figures import stats
from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels")
stats_logger = logging.getLogger("rest_channels.stats")

# Longer than a lock or a busy machine takes; shorter than a user waits before reloading the page.
PATIENCE_SECONDS: Final = 4

# Seconds between two looks: a wait is logged at most this much later.
LOOK_SECONDS: Final = 2


class Wait(NamedTuple):
    """
    Something unfinished.

    `subject` is compared by identity; `what` names it in the log, and `where` names what it waits
    for. `thread` is the identifier of the thread that works on it, whose stack is logged. `level`
    is INFO for waits that may be long by nature.
    """

    subject: Any
    what: str
    where: str
    thread: int | None = None
    level: int = logging.WARNING


class Source(Protocol):
    """An object with work in flight."""

    def waits(self) -> Iterable[Wait]:
        """Return what is unfinished now; on the loop."""


class _Same:
    """A key that keeps its subject alive: the identity of a finished one could be used again."""

    __slots__ = ("subject",)

    def __init__(self, subject: Any) -> None:
        self.subject = subject

    def __hash__(self) -> int:
        return id(self.subject)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.subject is self.subject


class Stalls:
    """The sources of one loop, and the times since when their work is unfinished."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._sources: dict[Source, None] = {}
        self._is_scheduled = False
        # By subject: when it was first seen, None once it was logged.
        self._seen: dict[_Same, float | None] = {}

    def watch(self, source: Source) -> None:
        """Look at `source` until `forget`."""
        self._sources[source] = None
        if not self._is_scheduled:
            self._schedule()

    def forget(self, source: Source) -> None:
        """Stop looking at `source`."""
        self._sources.pop(source, None)

    def look(self) -> None:
        """Log what has been unfinished for too long, once."""
        now = self._clock()
        seen: dict[_Same, float | None] = {}
        for source in list(self._sources):
            for wait in source.waits():
                key = _Same(wait.subject)
                since = self._seen.get(key, now)
                if since is not None and now - since >= PATIENCE_SECONDS:
                    _log(wait, now - since)
                    since = None
                seen[key] = since
        self._seen = seen

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._loop.call_later(LOOK_SECONDS, self._on_time)

    def _on_time(self) -> None:
        self._is_scheduled = False
        self.look()
        if self._sources:
            self._schedule()


def _log(wait: Wait, seconds: float) -> None:
    message = "%s has waited for %d seconds: %s.%s"
    logger.log(wait.level, message, wait.what, seconds, wait.where, _stack(wait.thread))


def _stack(thread: int | None) -> str:
    frame = None if thread is None else sys._current_frames().get(thread)
    if frame is None:
        return ""
    return f" The thread is at:\n{''.join(traceback.format_stack(frame, limit=12)).rstrip()}"


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Stalls] = WeakKeyDictionary()


def current_stalls() -> Stalls:
    """Return the stalls of the running loop."""
    loop = asyncio.get_running_loop()
    if loop not in _of_loop:
        _of_loop[loop] = Stalls(loop)
    return _of_loop[loop]


_reporting: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


def begin_reports() -> None:
    """Report from now on, if the setting asks for it; on the loop, with a socket open."""
    loop = asyncio.get_running_loop()
    if socket_settings.STATS_SECONDS and loop not in _reporting:
        _reporting.add(loop)
        loop.call_later(socket_settings.STATS_SECONDS, _report, loop)


def _report(loop: asyncio.AbstractEventLoop) -> None:
    _reporting.discard(loop)
    found = stats()
    stats_logger.info("%s", json.dumps(found), extra={"stats": found})
    if found["connections"]:
        begin_reports()
