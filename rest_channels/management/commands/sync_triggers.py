"""`manage.py sync_triggers`: install the triggers that the settings ask for."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from rest_channels.live.capture import triggers
from rest_channels.live.log import store


class Command(BaseCommand):
    help = (
        "Install the triggers that CAPTURE asks for, and remove all others of "
        "rest_channels. `migrate` does so, too; run it after tables were made in another way."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database",
            default=DEFAULT_DB_ALIAS,
            choices=tuple(connections),
            help="The database to install them in; 'default' unless given.",
        )
        parser.add_argument(
            "--remove",
            action="store_true",
            help="Remove all triggers, whatever the settings say: run it before rest_channels is "
            "uninstalled.",
        )

    def handle(self, *args: Any, database: str, remove: bool, **options: Any) -> None:
        if not triggers.is_supported(database):
            raise CommandError(
                f"The database {database!r} ({connections[database].display_name}) does not "
                "support triggers: leave CAPTURE at 'auto'."
            )
        if remove:
            self.stdout.write(f"Removed from {triggers.remove(database)} tables.")
            return
        store.forget_tables()
        done = triggers.sync(database)
        failed = triggers.differences(database)
        if failed.labels:
            raise CommandError(
                f"The database {database!r} refused triggers for {', '.join(failed.labels)}."
            )
        self.stdout.write(
            f"Installed triggers for {len(done.missing)} tables, removed {len(done.left)} others."
        )
