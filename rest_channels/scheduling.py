"""
Which job of a pool begins next, and how many run side by side: decided here, done in
`rest_channels.pool`.

No thread and no clock is touched here; a pool calls it all under its lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final

#: A job that waits for so long, or computes for so long, is slow.
SLOW_SECONDS: Final = 0.025

#: Of the time that passed, the part this process computed. The interpreter lock lets one thread
#: compute at a time: above `BUSY`, more threads only take turns more often.
IDLE: Final = 0.85
BUSY: Final = 0.95


class Job:
    """
    One call for a thread to make: subclasses say in `run` which, and never raise.

    `owner` is whose share of the threads it takes, `kind` what is known to take equally long;
    None: nobody's, and nothing.
    """

    __slots__ = ("is_slow", "kind", "number", "owner")

    def __init__(self, owner: Hashable = None, kind: Hashable = None) -> None:
        self.owner = owner
        self.kind = kind
        self.is_slow = False
        self.number = 0

    def run(self) -> None:
        """Make the call, unless nobody waits for it any more; in a worker thread."""
        raise NotImplementedError

    def fail(self, exc: BaseException) -> None:
        """Tell whoever waits that `exc` came between."""
        raise NotImplementedError


class Line:
    """
    Jobs in their order, of which at most `limit` are begun and not ended.

    Of these, at most `width` are quick, and slow ones leave a quarter free, so that a quick job
    never waits for the last slow one. Within each of the two kinds the first comes first.
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
        """Whether nothing is begun or waits."""
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
        """Take the job whose turn it is; None where none may begin."""
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
        """Let another begin in the place of `job`."""
        self.begun -= 1
        self._slow_begun -= job.is_slow

    def found_slow(self) -> None:
        """Count one of the quick jobs that are begun as slow from now on."""
        self._slow_begun += 1


class Paces:
    """Which kinds of jobs are slow, learned from what they took. Quick ones are not remembered."""

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float] = {}

    def is_slow(self, kind: Hashable) -> bool:
        return self._seconds.get(kind, 0.0) >= SLOW_SECONDS

    def learn(self, kind: Hashable, *, took: float, computed: float, side_by_side: int) -> None:
        """
        A job of `kind` took so many seconds, and computed so many of them.

        Threads take turns at computing, so among `side_by_side` of them a job takes that many
        times what it computes without being slow: only what is beyond was spent waiting.
        """
        seconds = max(computed, took - computed * side_by_side)
        known = self._seconds.get(kind)
        if known is None:
            if kind is None or seconds < SLOW_SECONDS:
                return
            known = 0.0
        # One that took long by chance does not put the next behind the slow ones.
        average = known + (seconds - known) / 4
        if average < SLOW_SECONDS / 4:
            del self._seconds[kind]
        else:
            self._seconds[kind] = average


def next_width(width: int, utilisation: float, most: int) -> int:
    """
    How many quick jobs to run side by side while some wait.

    `utilisation` is how much of the time that passed this process computed. Where it was idle,
    the threads wait, for a database mostly: more of them. Where it was busy, they wait for each
    other: fewer.
    """
    step = max(1, width // 8)
    if utilisation < IDLE / 2:
        return min(most, 2 * width)
    if utilisation < IDLE:
        return min(most, width + step)
    if utilisation > BUSY:
        return max(1, width - step)
    return width
