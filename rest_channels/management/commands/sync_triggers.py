"""`manage.py sync_triggers`: give a database the triggers that the settings ask for."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from rest_channels.live import log, triggers


class Command(BaseCommand):
    help = (
        "Installs the triggers that CAPTURE = 'triggers' asks for and removes all others of "
        "rest_channels. `migrate` does so, too; run it after tables were made in another way."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database",
            default=DEFAULT_DB_ALIAS,
            choices=tuple(connections),
            help="In which database; the default one unless given.",
        )
        parser.add_argument(
            "--remove",
            action="store_true",
            help="Remove all of them, whatever the settings say: before rest_channels is "
            "uninstalled.",
        )

    def handle(self, *args: Any, database: str, remove: bool, **options: Any) -> None:
        if not triggers.is_supported(database):
            raise CommandError(
                f"There are no triggers for {connections[database].display_name}, which database "
                f"{database!r} is: leave CAPTURE at 'signals'."
            )
        if remove:
            self.stdout.write(f"Removed from {triggers.remove(database)} tables.")
            return
        log.forget_tables()
        done = triggers.sync(database)
        failed = triggers.differences(database)
        if failed.labels:
            raise CommandError(
                f"The database {database!r} refused triggers for {', '.join(failed.labels)}."
            )
        self.stdout.write(
            f"Installed for {len(done.missing)} tables, removed {len(done.left)} others."
        )
