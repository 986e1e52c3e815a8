"""
A pool with as few threads as keep up with its jobs, up to a limit.

    pool = Pool(8, share=4, name="rest_channels")
    pool.put(job)                       # a `rest_channels.workers.scheduling.Job`
    pool.submit(function, 1).result()   # as with any executor

It begins with one thread. While quick jobs wait, a supervisor checks every few milliseconds whether
the process computes or waits, and whether its threads compete. If they wait, more threads
work; if it computes, fewer, because more would only take the lock from one another. Slow jobs wait
for something else by nature: they get a thread at once, up to three quarters of all.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Executor, Future
from typing import Any, Final, TypeVar

from rest_channels.workers import lock_probe
from rest_channels.workers.delays import seconds_delayed
from rest_channels.workers.scheduling import BUSY, IDLE, SLOW_SECONDS, Job, Line, Paces, next_width

T = TypeVar("T")

logger = logging.getLogger("rest_channels")

# How often the supervisor looks while jobs wait: at first, and if one thread keeps the processor
# busy anyway. A look costs some 30 microseconds and a turn of the interpreter lock.
_LOOK_SECONDS: Final = 0.004
_CALM_LOOK_SECONDS: Final = 0.016

# A look finds the lock taken or free: the share of the last 8 looks counts, of fewer at first.
_LOOKS_REMEMBERED: Final = 8


class Pool(Executor):
    """
    At most `limit` threads, of which each owner of jobs gets at most `share` at a time.

    `computed` returns the seconds that this process has computed so far; `sleep` sleeps that many
    seconds and returns whether the interpreter lock was taken then, `count_runnable` how many of
    the threads with these native ids compute or lack a processor; see `lock_probe`. `on_rest` is
    called in an idle thread and returns the seconds after which to call it again, None for not
    before the next job; `on_end` is called in a thread that ends.
    """

    def __init__(
        self,
        limit: int,
        *,
        share: int | None = None,
        name: str = "pool",
        computed: Callable[[], float] = time.process_time,
        sleep: Callable[[float], bool] = lock_probe.sleep,
        count_runnable: Callable[[Iterable[int]], int] = lock_probe.count_runnable,
        on_rest: Callable[[], float | None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.limit = limit
        self.on_rest = on_rest
        self.on_end = on_end
        self.share = limit if share is None else share
        self.name = name
        self._lock = threading.Lock()
        self._line = Line(limit, width=1)
        self._shares: dict[Hashable, Line] = {}
        self.paces = Paces()
        self._threads: set[_Worker] = set()
        # The last busy thread is the first to be woken, so that the others, and the connections
        # they hold, stay idle.
        self._idle: list[_Worker] = []
        self._numbers = itertools.count()
        self._names = itertools.count()
        self._is_shut = False
        self._count_runnable = count_runnable
        self._supervisor = _Supervisor(self, computed, sleep)

    @property
    def width(self) -> int:
        """The number of quick jobs that may run side by side at the moment."""
        return self._line.width

    def put(self, job: Job) -> None:
        """Let a thread run `job` in its turn. Raises `RuntimeError` after `shutdown`."""
        with self._lock:
            if self._is_shut:
                raise RuntimeError("The pool is shut down.")
            job.number = next(self._numbers)
            job.is_slow = self.paces.is_slow(job.kind)
            if job.owner is None:
                self._line.append(job)
            else:
                share = self._shares.get(job.owner)
                if share is None:
                    share = self._shares[job.owner] = Line(
                        self.share, computing=1, computes=self._computes
                    )
                share.append(job)
                if (admitted := share.begin()) is not None:
                    self._line.append(admitted)
            self._begin()

    def _computes(self, job: Job) -> bool:
        return self.paces.computes(job.kind)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Put a plain function, without an owner or a kind, and return its future."""
        job = _Submitted(function, args, kwargs)
        self.put(job)
        return job.future

    def shutdown(
        self,
        wait: bool = True,
        *,
        cancel_futures: bool = False,
        timeout: float | None = None,
    ) -> None:
        """
        Let the threads end after the current jobs; cancel none of them.

        `timeout` bounds the seconds to wait for each thread.
        """
        with self._lock:
            self._is_shut = True
            threads = list(self._threads)
            self._dismiss_idle()
            self._supervisor.wake_to_end()
        if wait:
            for worker in threads:
                worker.thread.join(timeout)

    @property
    def is_ended(self) -> bool:
        """Whether it is shut down and its threads have finished."""
        return self._is_shut and not self._threads

    def adapt(self, utilisation: float) -> bool:
        """
        Set the number of jobs side by side that finishes soonest; for the supervisor.

        `utilisation` is the share of the elapsed time that was computed, or in which the
        interpreter lock was taken. Returns whether the supervisor is still needed.
        """
        with self._lock:
            line = self._line
            line.width = next_width(line.width, utilisation, self.limit)
            # If many threads compute, each waits for its turn.
            patience = SLOW_SECONDS * (self.side_by_side if utilisation > BUSY else 1)
            self._find_slow(time.monotonic() - patience)
            self._begin()
            is_needed = line.holds_quick or (self._is_shut and bool(self._threads))
            if not is_needed:
                self._supervisor.sleep()
            return is_needed

    def is_computing(self) -> bool:
        """Return whether at least half of the threads with a job compute, or lack a processor."""
        with self._lock:
            found = [worker.thread.native_id for worker in self._threads if worker.job is not None]
        ids = [thread_id for thread_id in found if thread_id is not None]
        return bool(ids) and 2 * self._count_runnable(ids) >= len(ids)

    def _find_slow(self, began_by: float) -> None:
        for worker in self._threads:
            job = worker.job
            if job is not None and not job.is_slow and worker.began < began_by:
                job.is_slow = True
                for line in self._lines(job):
                    line.found_slow()

    @property
    def side_by_side(self) -> int:
        """How many threads may be computing now: those with a job, and the event loop's."""
        return self._line.begun + 1

    def next_job(
        self, worker: _Worker, ended: Job, computed: float, delayed: float | None
    ) -> Job | None:
        """
        Return the next job of `worker`, which has run `ended`; None if it must wait to be woken.

        The job `computed` and was `delayed` for that many seconds, None if unknown.
        """
        now = time.monotonic()
        with self._lock:
            took = now - worker.began
            self.paces.learn(
                ended.kind,
                took=took,
                computed=computed,
                delayed=delayed,
                side_by_side=self.side_by_side,
            )
            self._end(ended)
            job = self._line.begin()
            worker.began, worker.job = now, job
            if job is None:
                self._idle.append(worker)
                if self._is_shut and not self._line.has_waiting:
                    self._dismiss_idle()
            else:
                self._begin()
            return job

    def _lines(self, job: Job) -> list[Line]:
        return [self._line] if job.owner is None else [self._line, self._shares[job.owner]]

    def _end(self, job: Job) -> None:
        self._line.end(job)
        if job.owner is None:
            return
        share = self._shares[job.owner]
        share.end(job)
        if (admitted := share.begin()) is not None:
            self._line.append(admitted)
        elif share.is_empty:
            del self._shares[job.owner]

    def _begin(self) -> None:
        while (job := self._line.begin()) is not None:
            if self._idle:
                self._idle.pop().wake(job)
            elif not self._start(job):
                break
        if self._line.holds_quick and self.limit > 1:
            self._supervisor.wake()

    def _start(self, job: Job) -> bool:
        worker = _Worker(self, f"{self.name}_{next(self._names)}", job)
        try:
            worker.thread.start()
        except RuntimeError:
            # The system has no more threads: the existing ones do the work.
            if not self._threads:
                self._end(job)
                raise
            self._line.take_back(job)
            return False
        if not self._threads:
            # Daemon threads do not keep the interpreter alive: it waits for the jobs they have
            # begun.
            atexit.register(self.shutdown)
        self._threads.add(worker)
        return True

    def _dismiss_idle(self) -> None:
        while self._idle:
            worker = self._idle.pop()
            worker.wake(None)
            self._threads.discard(worker)
        if not self._threads:
            atexit.unregister(self.shutdown)


class _Worker:
    """One thread: runs its job and then the pool's next, or waits to be woken."""

    __slots__ = ("_awake", "began", "job", "pool", "thread")

    def __init__(self, pool: Pool, name: str, job: Job) -> None:
        self.pool = pool
        self.job: Job | None = job
        self.began = time.monotonic()
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._awake = threading.Lock()
        self._awake.acquire()

    def wake(self, job: Job | None) -> None:
        """Go on with `job`, or end; the worker waits, or is about to. Under the pool's lock."""
        self.began, self.job = time.monotonic(), job
        self._awake.release()

    def _work(self) -> None:
        while (job := self.job) is not None:
            computed = time.thread_time()
            while job is not None:
                # Too dear for quick jobs.
                delay = seconds_delayed() if job.is_slow else None
                self._run(job)
                before, computed = computed, time.thread_time()
                delayed = None if delay is None else seconds_delayed() - delay
                # If it is None, another thread may have woken this one from here on.
                job = self.pool.next_job(self, job, computed - before, delayed)
            self._rest()
        self._call(self.pool.on_end)

    def _rest(self) -> None:
        """Wait to be woken, and do what is due meanwhile."""
        pause = self._call(self.pool.on_rest)
        while not self._awake.acquire(timeout=-1 if pause is None else pause):
            pause = self._call(self.pool.on_rest)

    def _call(self, function: Callable[[], T]) -> T | None:
        try:
            return function()
        except Exception:
            logger.exception("A worker thread failed to tidy up; it continues.")
            return None

    def _run(self, job: Job) -> None:
        try:
            job.run()
        except BaseException as exc:
            # No job causes this by itself: its code was interrupted, or is out of memory.
            logger.critical("A worker thread was interrupted; it continues.", exc_info=True)
            job.fail(exc)


class _Supervisor:
    """
    A thread that checks, while quick jobs wait, whether more or fewer threads would be faster.
    """

    def __init__(
        self, pool: Pool, computed: Callable[[], float], sleep: Callable[[float], bool]
    ) -> None:
        self._pool = pool
        self._computed = computed
        self._sleep = sleep
        self._is_awake = False
        self._awake = threading.Lock()
        self._awake.acquire()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Look until `sleep`. Under the pool's lock, as all state here."""
        if self._thread is None:
            name = f"{self._pool.name}_supervisor"
            thread = threading.Thread(target=self._supervise, name=name, daemon=True)
            # Without another thread, the pool cannot grow anyway.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread
        if not self._is_awake:
            self._is_awake = True
            self._awake.release()

    def wake_to_end(self) -> None:
        """Let the thread end with those of the pool, if there is one."""
        if self._thread is not None:
            self.wake()

    def sleep(self) -> None:
        """Stop looking, because no job waits. Under the pool's lock."""
        self._is_awake = False

    def _supervise(self) -> None:
        while not self._pool.is_ended:
            self._awake.acquire()
            self._look_on()

    def _look_on(self) -> None:
        pause = _LOOK_SECONDS
        passed, computed = time.monotonic(), self._computed()
        waits, utilisation, taken, looks = True, None, 0.0, 0
        while waits:
            is_taken = self._sleep(pause)
            passed_before, passed = passed, time.monotonic()
            computed_before, computed = computed, self._computed()
            seen = (computed - computed_before) / (passed - passed_before)
            # A single look may see only a few jobs, or another process in the way.
            utilisation = seen if utilisation is None else utilisation + (seen - utilisation) / 3
            # SQLite computes without the lock; on a busy machine it may lack a processor meanwhile.
            is_taken = is_taken or (utilisation < IDLE and self._pool.is_computing())
            looks += 1
            taken += (is_taken - taken) / min(looks, _LOOKS_REMEMBERED)
            # While it is taken, a further thread would only wait for it.
            busy = max(utilisation, taken, IDLE if is_taken else 0.0)
            waits = self._pool.adapt(busy)
            is_calm = busy >= IDLE and self._pool.width == 1
            pause = _CALM_LOOK_SECONDS if is_calm else _LOOK_SECONDS


class _Submitted(Job):
    __slots__ = ("_function", "future")

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        super().__init__()
        self._function = functools.partial(function, *args, **kwargs)
        self.future: Future[Any] = Future()

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self._function()
        except BaseException as exc:
            self.future.set_exception(exc)
        else:
            self.future.set_result(result)

    def fail(self, exc: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(exc)
