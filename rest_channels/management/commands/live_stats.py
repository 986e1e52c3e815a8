"""
`manage.py live_stats`: the changes that wait for the sequencer, and the length of the log.

All processes share both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.utils import timezone

from rest_channels.live.log import store
from rest_channels.live.log.maintenance import SECONDS_UNTIL_NUMBERED
from rest_channels.live.log.sequencer import sequence

# Within that time a writing process has numbered its changes, if it is still running.
_SECONDS_UNTIL_A_TURN: Final = 2 * SECONDS_UNTIL_NUMBERED

_SECONDS_TO_LOCK: Final = 5.0


class Command(BaseCommand):
    """The command `manage.py live_stats`."""

    help = "Show a database's log in numbers. Processes count in rest_channels.stats()."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=list(connections))

    def handle(self, *args: Any, database: str, **options: Any) -> None:
        if not store.is_installed(database):
            raise CommandError(
                f"The log is missing: run `manage.py migrate rest_channels --database={database}`."
            )
        pending, entries = store.pending(database), store.entries(database)
        if _age(pending.order_by("id")) > _SECONDS_UNTIL_A_TURN:
            self._take_turn(database)
        numbers = {
            "sequencer_lag_entries": pending.count(),
            "sequencer_lag_seconds": _age(pending.order_by("id")),
            "log_entries": entries.count(),
            "log_seconds": _age(entries.order_by("position")),
            "log_position": store.head(database).number,
        }
        for name, value in numbers.items():
            self.stdout.write(f"{name} {value}")

    def _take_turn(self, database: str) -> None:
        """
        Give pending changes their positions if no other process does.

        Changes wait legitimately while no writing or following process runs. A change that still
        waits afterwards waits for the database.
        """
        try:
            with _impatient(connections[database]):
                sequence(database)
        except DatabaseError as exc:
            self.stderr.write(f"Could not number pending changes: {exc}")


@contextmanager
def _impatient(connection: Any) -> Iterator[None]:
    """Wait a few seconds for a lock; by default, PostgreSQL waits without end."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        (before,) = cursor.fetchone()
        ours = f"{round(_SECONDS_TO_LOCK * 1_000)}ms"
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [ours])
        try:
            yield
        finally:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [before])


def _age(changes: Any) -> float:
    """Return the age of the first of `changes` in seconds; 0 if there are none."""
    written_at: datetime | None = changes.values_list("created_at", flat=True).first()
    if written_at is None:
        return 0.0
    now: datetime = timezone.now()
    return round(max(0.0, (now - written_at).total_seconds()), 3)
