"""`manage.py prune_changes`: delete changes that are too old to resume from."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from rest_channels.live.log import store
from rest_channels.live.log.maintenance import tidy


class Command(BaseCommand):
    help = (
        "Number pending changes and delete those older than RETENTION_SECONDS. Processes that "
        "serve or write do so by themselves; run it if only short commands write."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database",
            default=DEFAULT_DB_ALIAS,
            choices=tuple(connections),
            help="The database to prune; 'default' unless given.",
        )

    def handle(self, *args: Any, database: str, **options: Any) -> None:
        if not store.is_installed(database):
            raise CommandError(
                f"Database {database!r} lacks the tables of rest_channels: run "
                f"manage.py migrate --database {database}"
            )
        done = tidy(database)
        self.stdout.write(f"{done.sequenced} sequenced, {done.pruned} pruned.")
