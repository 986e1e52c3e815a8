"""What waits for the sequencer, and how long the log is: what all processes share."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone

from rest_channels.live import log


class Command(BaseCommand):
    """`manage.py live_stats`"""

    help = "The log of changes of a database, in numbers. Processes count in rest_channels.stats()."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=list(connections))

    def handle(self, *args: Any, database: str, **options: Any) -> None:
        if not log.is_installed(database):
            raise CommandError(
                f"There is no log: run `manage.py migrate rest_channels --database={database}`."
            )
        pending, entries = log.pending(database), log.entries(database)
        numbers = {
            "sequencer_lag_entries": pending.count(),
            "sequencer_lag_seconds": _age(pending.order_by("id")),
            "log_entries": entries.count(),
            "log_seconds": _age(entries.order_by("position")),
            "log_position": log.head(database).number,
        }
        for name, value in numbers.items():
            self.stdout.write(f"{name} {value}")


def _age(changes: Any) -> float:
    """How long ago the first of `changes` was written, in seconds; 0 where there is none."""
    written_at = changes.values_list("created_at", flat=True).first()
    if written_at is None:
        return 0.0
    return round(max(0.0, (timezone.now() - written_at).total_seconds()), 3)
