"""
Signals about sockets on their way from an event loop to their receivers, in a thread of their own.

A receiver may use the database and may wait, because no loop and no frame waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Final

from django.dispatch import Signal

from rest_channels.bus.loops import PerLoop
from rest_channels.observing.observers import Observer, observers
from rest_channels.observing.paced_warnings import Pace
from rest_channels.workers.contexts import bare_context
from rest_channels.workers.threads import Workers

logger = logging.getLogger("rest_channels")

# Reports that wait for slow receivers: a few megabytes. Further ones are dropped.
_MOST_WAITING: Final = 10_000

# Sent in one hop.
_AT_A_TIME: Final = 100

#: The thread that calls receivers, one after another.
receivers = Workers(threads=1)


class ReportSignal(Signal):
    """
    A signal with a `report`, sent for the `hook` of `Observer`.

    Reports are made only while the signal has receivers. `sender` is the report's class.
    """

    def __init__(self, hook: str) -> None:
        super().__init__()
        self._observer = _observer_of(hook, self._put)

    def connect(self, *args: Any, **kwargs: Any) -> None:
        super().connect(*args, **kwargs)
        observers.add(self._observer)

    def disconnect(self, *args: Any, **kwargs: Any) -> bool:
        is_disconnected: bool = super().disconnect(*args, **kwargs)
        if not self.receivers:
            observers.remove(self._observer)
        return is_disconnected

    def _put(self, report: Any) -> None:
        # Receivers that were collected as garbage are still connected.
        if self.has_listeners(type(report)):
            _queues.current().put(self, report)


def _observer_of(hook: str, call: Any) -> Observer:
    """Return an observer that has this hook alone."""

    def on_report(self: Observer, report: Any) -> None:
        call(report)

    kind = type("SignalObserver", (Observer,), {hook: on_report})
    observer: Observer = kind()
    return observer


class Queue:
    """The reports of one loop that wait for receivers, in order. On the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting: deque[tuple[Signal, Any]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._pace = Pace()

    def put(self, signal: Signal, report: Any) -> None:
        """Send `signal` after those before it; drop it if receivers are too slow."""
        if len(self._waiting) >= _MOST_WAITING:
            self._warn()
            return
        self._waiting.append((signal, report))
        if self._task is None:
            # Receivers do not inherit the language or the variables of the socket.
            self._task = bare_context().run(asyncio.ensure_future, self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), _AT_A_TIME)
                await receivers.run(_send, [self._waiting.popleft() for _ in range(count)])
        finally:
            self._task = None

    def _warn(self) -> None:
        if self._pace.is_due():
            logger.warning(
                "Receivers of rest_channels.signals are too slow: signals are dropped. Let them "
                "hand long work to a task queue."
            )


def _send(batch: list[tuple[Signal, Any]]) -> None:
    """Call the receivers; in their thread. Django logs what they raise."""
    for signal, report in batch:
        signal.send_robust(type(report), report=report)


_queues: PerLoop[Queue] = PerLoop(Queue)
