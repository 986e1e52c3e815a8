"""Runs of watched actions in the worker pool, each with a limit of seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from rest_channels.protocol import Frame, Reply
from rest_channels.settings import socket_settings
from rest_channels.workers.threads import workers

T = TypeVar("T")


class TooSlow(Exception):
    """An error: a run takes longer than `MAX_WATCH_SECONDS`. It continues without a waiter."""

    def reply(self, to: Frame | None) -> Reply:
        """Return the answer for a client that asked for it."""
        seconds = socket_settings.MAX_WATCH_SECONDS
        detail = f"An action must answer within {seconds} seconds to be watched: ask for less."
        return Reply.error(400, detail, "too_slow", to=to)


class Run:
    """One call in a worker thread; `began` (monotonic seconds) is set as it begins."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._function = function
        self._args = args
        self.began: float | None = None

    def __call__(self) -> Any:
        self.began = time.monotonic()
        return self._function(*self._args)

    @property
    def seconds_left(self) -> float:
        """The seconds until it takes too long; the wait for a thread does not count."""
        seconds = float(socket_settings.MAX_WATCH_SECONDS)
        return seconds if self.began is None else self.began + seconds - time.monotonic()


async def within_limit(run: Run, *, owner: Hashable, kind: Hashable) -> Any:
    """
    Make the call in a worker thread and return its result. Raises `TooSlow`, or what it raises.

    `owner` and `kind` are as for `Workers.run`.
    """
    task = asyncio.ensure_future(workers.run(run, owner=owner, kind=kind))
    try:
        while not task.done():
            await asyncio.wait([task], timeout=max(0.0, run.seconds_left))
            if not task.done() and run.seconds_left <= 0:
                raise TooSlow
        return task.result()
    finally:
        if not task.done():
            # The thread continues to the end of its call.
            task.cancel()
