"""
What somebody has to do where nobody subscribes: to number what is pending, and to forget the old.

Processes with subscribers do it as they go. Others that write do it every ten minutes, in a
thread that no writer waits for; `manage.py prune_changes` does it at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from django.db import connections

from rest_channels.live import log, relay
from rest_channels.live.sequencer import sequence

logger = logging.getLogger("rest_channels")

#: Between two rounds of one process and database (seconds); the first comes so long after the
#: first write, so that commands that write a little and end have nothing to do with it.
SECONDS_BETWEEN_ROUNDS: Final = 600


class Done(NamedTuple):
    """How many changes came into the log, and how many were forgotten."""

    sequenced: int
    pruned: int


def tidy(alias: str) -> Done:
    """Number what is pending, forget what is older than the retention. In a worker thread."""
    return Done(sequence(alias), log.prune(alias))


class Housekeeper(relay.Listener):
    """Tidies databases that this process writes to; one for a process."""

    outlives_fork = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}

    def on_ring(self, alias: str) -> None:
        # Two writers at once may both find it due: one round more, which finds nothing to do.
        now = self._clock()
        due = self._due.setdefault(alias, now + SECONDS_BETWEEN_ROUNDS)
        if now < due or _is_of_a_test(connections[alias]):
            return
        self._due[alias] = now + SECONDS_BETWEEN_ROUNDS
        threading.Thread(
            target=_tidy_quietly, args=(alias,), name="rest_channels.housekeeping", daemon=True
        ).start()


def _is_of_a_test(connection: Any) -> bool:
    """A database that ends with the process, or a transaction that never commits."""
    if connection.vendor == "sqlite" and connection.is_in_memory_db():
        return True
    return bool(connection.in_atomic_block)


def _tidy_quietly(alias: str) -> None:
    try:
        tidy(alias)
    except Exception:
        # The next round does what this one did not.
        logger.warning("Changes of database %r could not be tidied.", alias, exc_info=True)
    finally:
        connections.close_all()


housekeeper = Housekeeper()
