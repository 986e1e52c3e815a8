"""
Maintain the log while nobody subscribes: number pending changes and delete old ones.

Processes with subscribers do both as they go. Any other process that writes numbers pending changes
half a minute after a write, and deletes old changes every ten minutes, in threads that no writer
waits for. `manage.py prune_changes` does both immediately.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from django.core import mail
from django.db import connections

from rest_channels.bus import doorbell
from rest_channels.live.capture import coverage
from rest_channels.live.log import store
from rest_channels.live.log.sequencer import sequence
from rest_channels.sockets import reply_store

logger = logging.getLogger("rest_channels")

#: The time between two rounds of one process and database (seconds). The first round comes this
#: long after the first write, so that short commands do not start one.
SECONDS_BETWEEN_ROUNDS: Final = 600

#: The time from a write until this process numbers changes that no process with subscribers has
#: numbered (seconds). Short enough that the age of pending changes shows whether the log works,
#: also at night.
SECONDS_UNTIL_NUMBERED: Final = 30


class Done(NamedTuple):
    """The numbers of changes that were added to the log and deleted from it."""

    sequenced: int
    pruned: int


def tidy(alias: str) -> Done:
    """
    Move pending changes to the log, and delete changes and replies older than the retention.

    Runs in a worker thread.
    """
    done = Done(sequence(alias), store.prune(alias))
    reply_store.prune(alias)
    return done


class Housekeeper(doorbell.Listener):
    """A listener that maintains the databases this process writes to; one for each process."""

    outlives_fork = True

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        seconds_until_numbered: float = SECONDS_UNTIL_NUMBERED,
    ) -> None:
        self._clock = clock
        self._seconds_until_numbered = seconds_until_numbered
        self._due: dict[str, float] = {}
        # By process, because a forked child does not have its parent's timers.
        self._timed: set[tuple[int, str]] = set()

    def on_ring(self, alias: str) -> None:
        if _is_of_a_test(connections[alias]):
            return
        self._number_later(alias)
        self._tidy_if_due(alias)

    def tidy_in_time(self, alias: str) -> None:
        """Maintain `alias` every ten minutes, for code that writes there without ringing."""
        if not _is_of_a_test(connections[alias]):
            self._tidy_if_due(alias)

    def _tidy_if_due(self, alias: str) -> None:
        # Two writers may both find it due: the second round finds nothing to do.
        now = self._clock()
        due = self._due.setdefault(alias, now + SECONDS_BETWEEN_ROUNDS)
        if now >= due:
            self._due[alias] = now + SECONDS_BETWEEN_ROUNDS
            threading.Thread(
                target=_tidy_quietly, args=(alias,), name="rest_channels.housekeeping", daemon=True
            ).start()

    def _number_later(self, alias: str) -> None:
        timed = os.getpid(), alias
        # The test runner destroys its databases: a thread must not hold a connection then.
        if timed in self._timed or _is_test_run():
            return
        self._timed.add(timed)
        timer = threading.Timer(self._seconds_until_numbered, self._number, args=timed)
        timer.name, timer.daemon = "rest_channels.numbering", True
        timer.start()

    def _number(self, pid: int, alias: str) -> None:
        # First, so that a later write starts another timer.
        self._timed.discard((pid, alias))
        _quietly(sequence, alias)


def _is_test_run() -> bool:
    """Return whether Django's test environment is set up, in which mail goes to an outbox."""
    return hasattr(mail, "outbox")


def _is_of_a_test(connection: Any) -> bool:
    """Return whether the database ends with the process or the transaction never commits."""
    if connection.vendor == "sqlite" and connection.is_in_memory_db():
        return True
    return bool(connection.in_atomic_block)


def _tidy_quietly(alias: str) -> None:
    _quietly(tidy, alias)
    _quietly(coverage.look, alias)


def _quietly(function: Callable[[str], Any], alias: str) -> None:
    try:
        function(alias)
    except Exception:
        # The next round catches up.
        logger.warning("The log of database %r could not be maintained.", alias, exc_info=True)
    finally:
        connections.close_all()


housekeeper = Housekeeper()
