"""
The worker pool: the one place where frames leave the event loop.

    reply = await workers.run(function, argument)

Channels runs all sync work of a process on a single thread. Here it is a `rest_channels.pool.Pool`
of at most `REST_CHANNELS["WORKER_THREADS"]` threads, of which more than one are used only while
that serves what waits sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
from collections import deque
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync, _restore_context, sync_to_async
from django.core.signals import setting_changed
from django.db import connections

from rest_channels.pool import Pool
from rest_channels.scheduling import Job
from rest_channels.settings import socket_settings

T = TypeVar("T")

#: Overrides the setting THREAD_SENSITIVE for what starts in this context: the test client's way
#: of running a socket's work in the test's own thread.
thread_sensitive: ContextVar[bool | None] = ContextVar("thread_sensitive", default=None)


class Workers:
    """A bounded pool of threads, made when first used, of which each owner gets a share."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._executor: Pool | None = None

    async def run(
        self,
        function: Callable[..., T],
        *args: Any,
        owner: Hashable = None,
        kind: Hashable = None,
    ) -> T:
        """
        Call `function` in a worker thread and wait for it: one hop there, one back.

        It runs in the caller's context: a language, time zone or URLconf that it activates
        holds for the rest of the task, which is one frame, and is forgotten with it. Cancelling
        the caller does not stop a function that has begun: it goes on, and nobody is told. What
        it awaits by `async_to_sync` is cancelled.

        Work of one `owner` takes at most `MAX_THREADS_PER_USER` threads at a time; the rest of
        it waits in its order. Of a `kind` that is known to be slow, it may be overtaken by
        quick work, and leaves a quarter of the threads to that.
        """
        forced = thread_sensitive.get()
        if socket_settings.THREAD_SENSITIVE if forced is None else forced:
            job = functools.partial(_with_usable_connections, function, *args)
            return await sync_to_async(job, thread_sensitive=True)()
        call = _Call(functools.partial(function, *args), owner, kind)
        self.executor.put(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            call.cancel_inner()
            raise
        finally:
            _restore_context(call.context)

    @property
    def executor(self) -> Pool:
        if self._executor is None:
            threads = self._threads or socket_settings.WORKER_THREADS
            self._executor = Pool(threads, share=threads_per_user(), name="rest_channels")
        return self._executor

    def shutdown(self) -> None:
        """Let the threads end after the work they have; the next `run` makes new ones."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


class _Call(Job):
    """
    A call that a coroutine waits for: what asgiref's `sync_to_async` does, for a third of it.

    Of asgiref it keeps what others rely on: `Local` storage, which Django's languages and time
    zones are in, comes along, and `async_to_sync` finds the way back to this loop.
    """

    __slots__ = ("_function", "_returns", "_tasks", "context", "future")

    def __init__(self, function: Callable[[], Any], owner: Hashable, kind: Hashable) -> None:
        super().__init__(owner, kind)
        loop = asyncio.get_running_loop()
        self.context = contextvars.copy_context()
        self.future: asyncio.Future[Any] = loop.create_future()
        self._returns = _Returns.to(loop)
        self._function = function
        # Where asgiref puts the tasks of `async_to_sync`.
        self._tasks: list[asyncio.Task[Any]] = []

    def run(self) -> None:
        # The caller was cancelled before this began.
        if self.future.cancelled():
            return
        here = SyncToAsync.threadlocal
        here.main_event_loop, here.main_event_loop_pid = self.future.get_loop(), os.getpid()
        here.task_context = self._tasks
        try:
            result = self.context.run(self._run_in_context)
        except BaseException as exc:
            self.fail(exc)
        else:
            self._returns.put(self.future, result, None)

    def fail(self, exc: BaseException) -> None:
        if isinstance(exc, StopIteration):
            # No future takes it: a coroutine's end is what it means there.
            cause, exc = exc, RuntimeError("StopIteration was raised in a worker thread.")
            exc.__cause__ = cause
        self._returns.put(self.future, None, exc)

    def cancel_inner(self) -> None:
        """Cancel what the function awaits; on the loop."""
        for task in self._tasks:
            task.cancel()

    def _run_in_context(self) -> Any:
        _restore_context(self.context)
        return _with_usable_connections(self._function)


class _Returns:
    """
    What worker threads bring back to one loop.

    However many calls end before the loop looks, it is woken once: a wake-up writes to a pipe
    and waits for the interpreter lock, and costs more than all the rest.
    """

    def __init__(self) -> None:
        self._ended: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._is_called = False

    @classmethod
    def to(cls, loop: asyncio.AbstractEventLoop) -> _Returns:
        """The one for `loop`; on the loop."""
        returns = _returns.get(loop)
        if returns is None:
            returns = _returns[loop] = cls()
        return returns

    def put(self, future: asyncio.Future[Any], result: Any, exc: BaseException | None) -> None:
        """Settle `future`; from any thread."""
        self._ended.append((future, result, exc))
        # Threads that look at once may both call, which only makes one settle nothing.
        if not self._is_called:
            self._is_called = True
            with contextlib.suppress(RuntimeError):  # Closed: nobody is there to be told.
                future.get_loop().call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        # First, so that what is put from here on calls again.
        self._is_called = False
        while self._ended:
            future, result, exc = self._ended.popleft()
            if future.done():
                continue
            if exc is None:
                future.set_result(result)
            else:
                future.set_exception(exc)


_returns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Returns] = WeakKeyDictionary()


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
