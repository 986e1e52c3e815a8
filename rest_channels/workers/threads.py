"""
The worker pool: the only place where frames leave the event loop.

    reply = await workers.run(function, argument)

Channels runs all sync work of a process on a single thread. Here a
`rest_channels.workers.pool.Pool` of at most `REST_CHANNELS["WORKER_THREADS"]` threads runs it, and
uses more than one only while that finishes waiting work sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from contextvars import ContextVar
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from asgiref.sync import SyncToAsync, _restore_context, sync_to_async
from django.core.signals import setting_changed
from django.db import connections
from django.db.backends.base.creation import BaseDatabaseCreation

from rest_channels.settings import socket_settings
from rest_channels.workers.connection_state import Handover
from rest_channels.workers.connections import (
    close_all_connections,
    close_connections_to,
    close_idle_connections,
    close_old_connections,
    kept_connections,
)
from rest_channels.workers.pool import Pool
from rest_channels.workers.scheduling import Job

T = TypeVar("T")

# How long a test's leftover work in a thread may take before the test's database is dropped.
_SECONDS_TO_END: Final = 5

#: Overrides the setting THREAD_SENSITIVE in this context: the test client uses it to run a socket's
#: work in the test's own thread.
thread_sensitive: ContextVar[bool | None] = ContextVar(
    "rest_channels_thread_sensitive", default=None
)


_all: WeakSet[Workers] = WeakSet()


class Workers:
    """A bounded pool of threads, made when first used, of which each owner gets a share."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._executor: Pool | None = None
        _all.add(self)

    async def run(
        self,
        function: Callable[..., T],
        *args: Any,
        owner: Hashable = None,
        kind: Hashable = None,
    ) -> T:
        """
        Call `function` in a worker thread and wait for it: one hop there, one back.

        It runs in the caller's context: a language, time zone or URLconf that it activates holds
        for the rest of the task, which is one frame, and ends with it. Cancelling the caller does
        not stop a function that has begun: it continues without notice. Tasks that it
        awaits by `async_to_sync` are cancelled.

        Work of one `owner` takes at most `MAX_THREADS_PER_USER` threads at a time; the rest waits
        in its order. Quick work may overtake work of a `kind` known to be slow, which also leaves a
        quarter of the threads free for it.
        """
        if is_thread_sensitive():
            job = functools.partial(_with_old_connections_closed, function, *args)
            result: T = await sync_to_async(job, thread_sensitive=True)()
            return result
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
            self._executor = Pool(
                threads,
                share=threads_per_user(),
                name="rest_channels",
                on_rest=close_idle_connections,
                on_end=close_all_connections,
            )
        return self._executor

    def shutdown(self, *, timeout: float | None = None) -> None:
        """
        Let the threads end after their current work; the next `run` makes new ones.

        With a `timeout`, wait at most that many seconds for each.
        """
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=timeout is not None, timeout=timeout)


class _Call(Job, Generic[T]):
    """
    A call that a coroutine waits for: asgiref's `sync_to_async` at a third of its cost.

    It keeps two promises of asgiref's: `Local` storage, which holds Django's languages and time
    zones, is available, and `async_to_sync` finds the way back to this loop.
    """

    __slots__ = ("_function", "_returns", "_tasks", "context", "future")

    def __init__(self, function: Callable[[], T], owner: Hashable, kind: Hashable) -> None:
        super().__init__(owner, kind)
        loop = asyncio.get_running_loop()
        self.context = contextvars.copy_context()
        self.future: asyncio.Future[T] = loop.create_future()
        self._returns = _Returns.to(loop)
        self._function = function
        # asgiref puts the tasks of `async_to_sync` here.
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
            # A future does not accept it, because it ends a coroutine.
            cause, exc = exc, RuntimeError("A worker thread raised StopIteration.")
            exc.__cause__ = cause
        self._returns.put(self.future, None, exc)

    def cancel_inner(self) -> None:
        """Cancel what the function awaits; on the loop."""
        for task in self._tasks:
            task.cancel()

    def _run_in_context(self) -> Any:
        _restore_context(self.context)
        begun = connections.all()
        with kept_connections(begun):
            return _guarded(begun, self._function)


class _Returns:
    """
    The results that worker threads bring back to one loop.

    However many calls end before the loop looks, it is woken once: a wake-up writes to a pipe and
    waits for the interpreter lock, and costs more than all the rest.
    """

    def __init__(self) -> None:
        self._ended: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._is_called = False

    @classmethod
    def to(cls, loop: asyncio.AbstractEventLoop) -> _Returns:
        """Return the one for `loop`; on the loop."""
        returns = _returns.get(loop)
        if returns is None:
            returns = _returns[loop] = cls()
        return returns

    def put(self, future: asyncio.Future[Any], result: Any, exc: BaseException | None) -> None:
        """Settle `future`; from any thread."""
        self._ended.append((future, result, exc))
        # Two threads may both call at once; then one of the calls settles nothing.
        if not self._is_called:
            self._is_called = True
            with contextlib.suppress(RuntimeError):  # The loop is closed: its waiters are gone.
                future.get_loop().call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        # First, so that a later `put` calls again.
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


def _guarded(begun: Iterable[Any], function: Callable[..., T], *args: Any) -> T:
    handover = Handover(begun)
    try:
        return function(*args)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as exc:
        # SystemExit would end the event loop, and CancelledError be taken for the caller's own.
        raise RuntimeError(f"A worker thread raised {type(exc).__name__}.") from exc
    finally:
        handover.hand_on()


def _with_old_connections_closed(function: Callable[..., T], *args: Any) -> T:
    """Call `function` with old connections closed, in a thread that other code uses, too."""
    close_old_connections()
    try:
        return _guarded(connections.all(), function, *args)
    finally:
        close_old_connections()


def is_thread_sensitive() -> bool:
    """Return whether work of this context runs in asgiref's thread, as in a test's transaction."""
    forced = thread_sensitive.get()
    return bool(socket_settings.THREAD_SENSITIVE if forced is None else forced)


#: Called before a test database is dropped, with the seconds that each may take.
before_dropping: list[Callable[[float], None]] = []


def threads_per_user() -> int:
    """Return how many threads the work of one owner may take: half of them by default."""
    threads = socket_settings.WORKER_THREADS
    given = socket_settings.MAX_THREADS_PER_USER
    return (threads + 1) // 2 if given is None else min(given, threads)


#: These answer frames.
workers = Workers()
#: These draw the items of generator actions, each held while a client reads; the same number again.
drawers = Workers()


def shutdown_all(*, timeout: float) -> None:
    """End the threads of all `Workers`, and with them their connections to databases."""
    for each in list(_all):
        each.shutdown(timeout=timeout)


def _forget_threads(*, setting: str, **kwargs: Any) -> None:
    if setting == "REST_CHANNELS":
        workers.shutdown()
        drawers.shutdown()


setting_changed.connect(_forget_threads)


def _ending_threads(destroy: Callable[..., None]) -> Callable[..., None]:
    """
    Return a `destroy_test_db` that first ends threads and closes other threads' connections.

    PostgreSQL does not drop a database that has connections.
    """

    @functools.wraps(destroy)
    def destroy_test_db(self: BaseDatabaseCreation, *args: Any, **kwargs: Any) -> None:
        shutdown_all(timeout=_SECONDS_TO_END)
        for end in before_dropping:
            end(_SECONDS_TO_END)
        close_connections_to(self.connection.alias)
        destroy(self, *args, **kwargs)

    destroy_test_db.ends_threads = True  # type: ignore[attr-defined]  # marks the wrapper
    return destroy_test_db


def connect() -> None:
    """Replace `destroy_test_db`, once the apps are ready."""
    destroy: Any = BaseDatabaseCreation.destroy_test_db
    if not getattr(destroy, "ends_threads", False):
        BaseDatabaseCreation.destroy_test_db = _ending_threads(destroy)
