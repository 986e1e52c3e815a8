"""
The decisions of a pool: which job begins next, and how many run side by side.

`rest_channels.workers.pool` carries them out. Nothing here uses a thread or a clock; the pool calls
all of it under its lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final

#: A job that waits or computes for this long is slow.
SLOW_SECONDS: Final = 0.025

#: The share of elapsed time that this process computed. The interpreter lock lets one thread
#: compute at a time: above `BUSY`, more threads only take turns more often.
IDLE: Final = 0.85
BUSY: Final = 0.95


class Job:
    """
    One call for a thread to make. Subclasses define it in `run`, which never raises.

    `owner` is the user or address whose share of the threads it takes; jobs of one `kind` take
    equally long. None: no owner, and nothing known.
    """

    __slots__ = ("is_slow", "kind", "number", "owner")

    def __init__(self, owner: Hashable = None, kind: Hashable = None) -> None:
        self.owner = owner
        self.kind = kind
        self.is_slow = False
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
    quick job never waits for the last slow one. Each of the two kinds is first in, first out.
    """

    def __init__(self, limit: int, width: int | None = None) -> None:
        self.limit = limit
        self.width = limit if width is None else width
        self.slow_limit = limit - limit // 4
        self.begun = 0
        self._slow_begun = 0
        self._quick: deque[Job] = deque()
        self._slow: deque[Job] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether no job runs or waits."""
        return not (self.begun or self._quick or self._slow)

    @property
    def has_waiting(self) -> bool:
        """Whether a job waits."""
        return bool(self._quick or self._slow)

    @property
    def holds_quick(self) -> bool:
        """Whether a quick job waits."""
        return bool(self._quick)

    def append(self, job: Job) -> None:
        """Let `job` wait for its turn."""
        (self._slow if job.is_slow else self._quick).append(job)

    def begin(self) -> Job | None:
        """Take the job whose turn it is; return None if none may begin."""
        if self.begun >= self.limit:
            return None
        quick, slow = self._quick, self._slow
        may_quick = bool(quick) and self.begun - self._slow_begun < self.width
        may_slow = bool(slow) and self._slow_begun < self.slow_limit
        if may_quick and may_slow:
            may_quick = quick[0].number < slow[0].number
        if not (may_quick or may_slow):
            return None
        job = (quick if may_quick else slow).popleft()
        self.begun += 1
        self._slow_begun += job.is_slow
        return job

    def take_back(self, job: Job) -> None:
        """Undo `begin`."""
        self.end(job)
        (self._slow if job.is_slow else self._quick).appendleft(job)

    def end(self, job: Job) -> None:
        """Let another job begin in place of `job`."""
        self.begun -= 1
        self._slow_begun -= job.is_slow

    def found_slow(self) -> None:
        """Count one of the running quick jobs as slow from now on."""
        self._slow_begun += 1


class Paces:
    """
    The kinds of jobs that are slow, learned from their durations. Quick ones are not remembered.
    """

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float] = {}

    def is_slow(self, kind: Hashable) -> bool:
        return self._seconds.get(kind, 0.0) >= SLOW_SECONDS

    def learn(self, kind: Hashable, *, took: float, computed: float, side_by_side: int) -> None:
        """
        Learn from a job of `kind`, which took and computed that many seconds.

        Threads take turns at computing, so among `side_by_side` of them a job takes that many times
        what it computes without being slow: only the rest was spent waiting.
        """
        seconds = max(computed, took - computed * side_by_side)
        known = self._seconds.get(kind)
        if known is None:
            if kind is None or seconds < SLOW_SECONDS:
                return
            known = 0.0
        # A single long run does not make a kind slow.
        average = known + (seconds - known) / 4
        if average < SLOW_SECONDS / 4:
            del self._seconds[kind]
        else:
            self._seconds[kind] = average


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
