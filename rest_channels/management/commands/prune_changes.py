"""`manage.py prune_changes`: forget changes that nobody may resume from any more."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from rest_channels.live import log
from rest_channels.live.housekeeping import tidy


class Command(BaseCommand):
    help = (
        "Numbers pending changes and forgets those older than RETENTION_SECONDS. Processes that "
        "serve or write do so by themselves; run it where only short commands write."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database",
            default=DEFAULT_DB_ALIAS,
            choices=tuple(connections),
            help="Of which database; the default one unless given.",
        )

    def handle(self, *args: Any, database: str, **options: Any) -> None:
        if not log.is_installed(database):
            raise CommandError(
                f"Database {database!r} has no tables of rest_channels: "
                f"manage.py migrate --database {database}"
            )
        done = tidy(database)
        self.stdout.write(f"{done.sequenced} sequenced, {done.pruned} pruned.")
