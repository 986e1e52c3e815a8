"""
The decisions of a pool: which job begins next, and how many run side by side.

`rest_channels.workers.pool` carries them out. Nothing here uses a thread or a clock; the pool calls
all of it under its lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

#: A job that waits or computes for this long is slow.
SLOW_SECONDS: Final = 0.025

# A job that waits for a smaller share of its time computes. A second one of them side by side would
# end little sooner than one after the other.
_WAITING_SHARE: Final = 0.25

#: The share of elapsed time that this process computed. The interpreter lock lets one thread
#: compute at a time: above `BUSY`, more threads only take turns more often.
IDLE: Final = 0.85
BUSY: Final = 0.95


class Job:
    """
    One call for a thread to make. Subclasses define it in `run`, which never raises.

    `owner` is the user or address whose share of the threads it takes; jobs of one `kind` take
    equally long. None: no owner, and nothing known. A slow one may be one that `computes`.
    """

    __slots__ = ("computes", "is_slow", "kind", "number", "owner")

    def __init__(self, owner: Hashable = None, kind: Hashable = None) -> None:
        self.owner = owner
        self.kind = kind
        self.is_slow = False
        self.computes = False
        self.number = 0

    def run(self) -> None:
        """Make the call, unless its waiter has given up; in a worker thread."""
        raise NotImplementedError

    def fail(self, exc: BaseException) -> None:
        """Tell the waiter that `exc` prevented the call."""
        raise NotImplementedError


class Line:
    """
    Jobs in their order, at most `limit` of them running.

    At most `width` of the running jobs are quick, and slow ones leave a quarter free, so that a
    quick job never waits for the last slow one. At most `computing` of the slow ones compute, as
    `computes` says of each when its turn comes. Each of the three kinds is first in, first out.
    """

    def __init__(
        self,
        limit: int,
        width: int | None = None,
        *,
        computing: int | None = None,
        computes: Callable[[Job], bool] = lambda job: False,
    ) -> None:
        self.limit = limit
        self.width = limit if width is None else width
        self.slow_limit = limit - limit // 4
        self.computing_limit = limit if computing is None else computing
        self._computes = computes
        self.begun = 0
        self._slow_begun = 0
        self._computing_begun = 0
        self._quick: deque[Job] = deque()
        self._slow: deque[Job] = deque()
        self._computing: deque[Job] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether no job runs or waits."""
        return not (self.begun or self.has_waiting)

    @property
    def has_waiting(self) -> bool:
        """Whether a job waits."""
        return bool(self._quick or self._slow or self._computing)

    @property
    def holds_quick(self) -> bool:
        """Whether a quick job waits."""
        return bool(self._quick)

    def append(self, job: Job) -> None:
        """Let `job` wait for its turn."""
        self._jobs_like(job).append(job)

    def _jobs_like(self, job: Job) -> deque[Job]:
        if not job.is_slow:
            return self._quick
        return self._computing if job.computes else self._slow

    def begin(self) -> Job | None:
        """Take the job whose turn it is; return None if none may begin."""
        if self.begun >= self.limit:
            return None
        while self._slow and self._computes(self._slow[0]):
            self._slow[0].computes = True
            self._computing.append(self._slow.popleft())
        waiting = [jobs for jobs in (self._quick, self._slow, self._computing) if self._may(jobs)]
        if not waiting:
            return None
        job = min(waiting, key=lambda jobs: jobs[0].number).popleft()
        self.begun += 1
        self._slow_begun += job.is_slow
        self._computing_begun += job.is_slow and job.computes
        return job

    def _may(self, jobs: deque[Job]) -> bool:
        """Return whether the first of `jobs` may begin, if there is one."""
        if not jobs:
            return False
        if jobs is self._quick:
            return self.begun - self._slow_begun < self.width
        if jobs is self._computing and self._computing_begun >= self.computing_limit:
            return False
        return self._slow_begun < self.slow_limit

    def take_back(self, job: Job) -> None:
        """Undo `begin`."""
        self.end(job)
        self._jobs_like(job).appendleft(job)

    def end(self, job: Job) -> None:
        """Let another job begin in place of `job`."""
        self.begun -= 1
        self._slow_begun -= job.is_slow
        self._computing_begun -= job.is_slow and job.computes

    def found_slow(self) -> None:
        """Count one of the running quick jobs as slow from now on."""
        self._slow_begun += 1


@dataclass(frozen=True, slots=True)
class _Pace:
    """
    The averages of a kind of jobs.

    `seconds` is how long one waits or computes, whichever is longer, and `computed` how long it
    computes. `waiting` is the share of its time that it waits, None if unknown.
    """

    seconds: float = 0.0
    computed: float = 0.0
    waiting: float | None = None


class Paces:
    """
    The kinds of jobs that are slow, learned from their durations. Quick ones are not remembered.
    """

    def __init__(self) -> None:
        self._of: dict[Hashable, _Pace] = {}

    def is_slow(self, kind: Hashable) -> bool:
        return self._of.get(kind, _Pace()).seconds >= SLOW_SECONDS

    def computes(self, kind: Hashable) -> bool:
        """
        Return whether jobs of a slow kind compute nearly all of their time.

        On a busy machine a job that waits may seem to lack a processor, but it computes little.
        """
        pace = self._of.get(kind, _Pace())
        is_long = pace.computed >= SLOW_SECONDS
        return is_long and pace.waiting is not None and pace.waiting < _WAITING_SHARE

    def learn(
        self,
        kind: Hashable,
        *,
        took: float,
        computed: float,
        delayed: float | None = None,
        side_by_side: int,
    ) -> None:
        """
        Learn from a job of `kind`, which took and computed that many seconds.

        Threads take turns at computing, so among `side_by_side` of them a job takes that many times
        what it computes without being slow: only the rest was spent waiting. For `delayed` seconds
        it could have computed, but no processor was free; None if unknown.
        """
        waited = max(0.0, took - (computed + (delayed or 0.0)) * side_by_side)
        known = self._of.get(kind)
        if known is None:
            if kind is None or max(computed, waited) < SLOW_SECONDS:
                return
            known = _Pace()
        # A single long run does not make a kind slow.
        seconds = _average(known.seconds, max(computed, waited))
        waiting = known.waiting
        if delayed is not None:
            share = waited / max(waited + computed, 1e-9)
            waiting = share if waiting is None else _average(waiting, share)
        if seconds < SLOW_SECONDS / 4:
            del self._of[kind]
        else:
            self._of[kind] = _Pace(seconds, _average(known.computed, computed), waiting)


def _average(known: float, new: float) -> float:
    return known + (new - known) / 4


def next_width(width: int, utilisation: float, most: int) -> int:
    """
    Return how many quick jobs to run side by side while some wait.

    `utilisation` is the share of the elapsed time that this process computed. If the process was
    idle, the threads wait, mostly for a database: run more. If it was busy, they wait for each
    other: run fewer.
    """
    step = max(1, width // 8)
    if utilisation < IDLE / 2:
        return min(most, 2 * width)
    if utilisation < IDLE:
        return min(most, width + step)
    if utilisation > BUSY:
        return max(1, width - step)
    return width
