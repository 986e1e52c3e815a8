"""
Ask one database whether it answers, and which change waits for its position in the log.

It is one statement for each look, `SELECT id FROM rest_channels_pendingchange ORDER BY id LIMIT 1`,
in a thread and on a connection of its own: worker threads may all be waiting for this database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from django.db import connections

from rest_channels.live.log import store
from rest_channels.live.log.statements import read
from rest_channels.settings import socket_settings
from rest_channels.workers.contexts import bare_context
from rest_channels.workers.threads import Workers

logger = logging.getLogger("rest_channels")

#: How long a look may take (seconds): shorter than the timeouts of probes that wait for it.
PATIENCE_SECONDS: Final = 2.0

# How long the same change may be the oldest one without a position (seconds): a sequencer gives up
# a lock after 2, and the next one is not later than the next poll.
_SECONDS_TO_MOVE: Final = 10.0


@dataclass(frozen=True)
class Look:
    """The result of one look; `oldest` is the id of the oldest pending change, if any."""

    fault: str | None = None
    oldest: int | None = None


class DatabaseProbe:
    """Looks at one database, one at a time, for one event loop."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._looking: asyncio.Task[Look] | None = None
        self._oldest: int | None = None
        self._oldest_since = 0.0

    async def look(self) -> str | None:
        """Look at the database; return why it is not usable, None if it is."""
        if self._looking is None or self._looking.done():
            self._looking = bare_context().run(asyncio.ensure_future, self._ask())
        # An earlier look may still wait: it is not cancelled, and no second one is begun.
        await asyncio.wait({self._looking}, timeout=PATIENCE_SECONDS)
        if not self._looking.done():
            return f"no answer within {PATIENCE_SECONDS:g} seconds"
        found = self._looking.result()
        if found.oldest != self._oldest:
            self._oldest, self._oldest_since = found.oldest, time.monotonic()
        return found.fault

    def is_stuck(self) -> bool:
        """
        Return whether one change has been the oldest without a position for too long.

        The time is counted from the look that saw it first. Clocks of writers differ, and a change
        of a long transaction is old when it is committed.
        """
        if self._oldest is None:
            return False
        patience = max(_SECONDS_TO_MOVE, 5 * socket_settings.POLL_SECONDS)
        return time.monotonic() - self._oldest_since > patience

    async def _ask(self) -> Look:
        return await _threads.of(self._alias).run(_ask, self._alias)


class _Threads:
    """A thread for each database, shared by all event loops."""

    def __init__(self) -> None:
        self._of: dict[str, Workers] = {}

    def of(self, alias: str) -> Workers:
        return self._of.setdefault(alias, Workers(threads=1))


_threads = _Threads()


def _ask(alias: str) -> Look:
    """Ask on a connection that may have been lost since the last look: then on a new one."""
    try:
        return _ask_once(alias)
    except Exception:
        connections[alias].close()
    try:
        return _ask_once(alias)
    except Exception:
        # Its text may name the host or the user.
        logger.debug("Database %r cannot be reached.", alias, exc_info=True)
        return Look("it cannot be reached")


def _ask_once(alias: str) -> Look:
    if socket_settings.CAPTURE is None:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
        return Look()
    if not store.is_installed(alias):
        return Look("it lacks the tables of rest_channels: run manage.py migrate")
    rows = read(alias, "SELECT [id] FROM [pending] ORDER BY [id] LIMIT 1")
    return Look(oldest=rows[0][0] if rows else None)
