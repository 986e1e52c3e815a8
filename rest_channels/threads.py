"""
The worker pool: the one place where frames leave the event loop.

    reply = await workers.run(function, argument)

Channels runs all sync work of a process on a single thread. Here it is a pool of at most
`REST_CHANNELS["WORKER_THREADS"]` threads, which start only while work waits.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from asgiref.sync import sync_to_async
from django.core.signals import setting_changed
from django.db import connections

from rest_channels.settings import socket_settings

T = TypeVar("T")

#: Overrides the setting THREAD_SENSITIVE for what starts in this context: the test client's way
#: of running a socket's work in the test's own thread.
thread_sensitive: ContextVar[bool | None] = ContextVar("thread_sensitive", default=None)


class Workers:
    """A bounded pool of threads, made when first used, of which each owner gets a share."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        self._shares: WeakValueDictionary[Any, asyncio.Semaphore] = WeakValueDictionary()

    async def run(self, function: Callable[..., T], *args: Any, owner: Hashable = None) -> T:
        """
        Call `function` in a worker thread and wait for it: one hop there, one back.

        It runs in the caller's context: a language, time zone or URLconf that it activates
        holds for the rest of the task, which is one frame, and is forgotten with it. Cancelling
        the caller does not stop a function that has begun: it goes on, and nobody is told.

        Work of one `owner` takes at most `MAX_THREADS_PER_USER` threads at a time; the rest of
        it waits in its order.
        """
        if owner is None:
            return await self._run(function, *args)
        async with self._share(owner):
            return await self._run(function, *args)

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        forced = thread_sensitive.get()
        is_sensitive = socket_settings.THREAD_SENSITIVE if forced is None else forced
        job = functools.partial(_with_usable_connections, function, *args)
        return await sync_to_async(
            job,
            thread_sensitive=is_sensitive,
            executor=None if is_sensitive else self.executor,
        )()

    def _share(self, owner: Hashable) -> asyncio.Semaphore:
        # Gone with the last task that holds or waits for it.
        key = (asyncio.get_running_loop(), owner)
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = asyncio.Semaphore(threads_per_user())
        return share

    @property
    def executor(self) -> ThreadPoolExecutor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(
                self._threads or socket_settings.WORKER_THREADS, thread_name_prefix="rest_channels"
            )
        return self._executor

    def shutdown(self) -> None:
        """Let the threads end after the work they have; the next `run` makes new ones."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


def close_old_connections() -> None:
    """
    Django's function of that name, which begins and ends a request (CONN_MAX_AGE, broken
    connections), for connections outside a transaction: within one is only a test.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def _with_usable_connections(function: Callable[..., T], *args: Any) -> T:
    close_old_connections()
    try:
        return function(*args)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as exc:
        # SystemExit would end the event loop, and CancelledError be taken for the caller's own.
        raise RuntimeError(f"{type(exc).__name__} was raised in a worker thread.") from exc
    finally:
        close_old_connections()


def threads_per_user() -> int:
    """How many threads the work of one owner may take: half of them unless the setting says."""
    threads = socket_settings.WORKER_THREADS
    given = socket_settings.MAX_THREADS_PER_USER
    return (threads + 1) // 2 if given is None else min(given, threads)


#: Where frames are answered.
workers = Workers()
#: Where generator actions draw their items; as many threads again, each held while a client reads.
drawers = Workers()


def _forget_threads(*, setting: str, **kwargs: Any) -> None:
    if setting == "REST_CHANNELS":
        workers.shutdown()
        drawers.shutdown()


setting_changed.connect(_forget_threads)
