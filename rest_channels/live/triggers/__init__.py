"""
Triggers that note what is written, whoever writes it: `REST_CHANNELS = {"CAPTURE": "triggers"}`.

`sync` makes a database have those that belong there, and no others; it runs after every
`migrate`, for a table that is made anew on the way loses its triggers without a word. The SQL is in
`postgresql` and `sqlite`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import nullcontext
from types import ModuleType
from typing import Any, Final, NamedTuple

from django.db import DatabaseError, connections, router, transaction
from django.db.models import signals

from rest_channels.live import capture, log
from rest_channels.live.triggers import postgresql, sqlite
from rest_channels.live.triggers.tables import Definition, captured_tables

logger = logging.getLogger("rest_channels")

_BACKENDS: Final[dict[str, ModuleType]] = {"postgresql": postgresql, "sqlite": sqlite}


class Differences(NamedTuple):
    """
    What of a database's triggers is not as it should be: the definitions that are `missing`, or
    there in part, and the names of those that are `left` of other settings, models or versions.
    """

    missing: list[Definition]
    left: list[str]

    @property
    def labels(self) -> list[str]:
        """Whose writes are not noted."""
        return sorted({definition.label for definition in self.missing})


def is_supported(alias: str) -> bool:
    """Whether there are triggers for this kind of database."""
    return connections[alias].vendor in _BACKENDS


def differences(alias: str) -> Differences:
    """What `sync` would do; two queries for the whole database."""
    if not is_supported(alias):
        return Differences([], [])
    wanted = {}
    if capture.is_by_triggers() and log.is_installed(alias):
        wanted = {definition.name: definition for definition in definitions(alias)}
    there = _installed(alias)
    return Differences(
        [d for d in wanted.values() if there.get(d.name) != d.count],
        [name for name in there if name not in wanted],
    )


def sync(alias: str) -> Differences:
    """
    Install what is missing, remove what is left, as the settings have it; returns what there was to
    do. A table of which the database refuses it is logged, and the others go on.
    """
    found = differences(alias)
    if not (found.missing or found.left):
        return found
    # One table at a time, so that who writes to others does not wait; but SQLite has one lock.
    is_one = connections[alias].vendor == "sqlite"
    with transaction.atomic(using=alias) if is_one else nullcontext():
        for name in found.left:
            _change(alias, name, dropping(alias, name))
        for definition in found.missing:
            drop = dropping(alias, definition.name)
            # What was written while they were not there nobody has noted.
            statements = (*drop, *definition.statements, *definition.markers)
            _change(alias, definition.label, statements)
    return found


def remove(alias: str) -> int:
    """Remove all of them, whatever the settings say; returns of how many tables."""
    if not is_supported(alias):
        return 0
    names = list(_installed(alias))
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        for name in names:
            _execute(cursor, dropping(alias, name))
    return len(names)


def definitions(alias: str) -> list[Definition]:
    """What belongs to the tables of this database, by the settings for models."""
    tables = [t for t in captured_tables() if router.allow_migrate_model(alias, t.model)]
    connection: Any = connections[alias]
    return list(_BACKENDS[connection.vendor].definitions(connection, tables))


def dropping(alias: str, name: str) -> list[str]:
    """Statements that remove what has the `name` of a definition."""
    connection: Any = connections[alias]
    return list(_BACKENDS[connection.vendor].dropping(connection, name))


def _installed(alias: str) -> dict[str, int]:
    connection: Any = connections[alias]
    return dict(_BACKENDS[connection.vendor].installed(connection))


def _change(alias: str, what: str, statements: Iterable[str]) -> None:
    try:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            _execute(cursor, statements)
    except DatabaseError:
        logger.warning(
            "The database %r refuses triggers of rest_channels: %s.", alias, what, exc_info=True
        )


def _execute(cursor: Any, statements: Iterable[str]) -> None:
    for statement in statements:
        # None: a percent sign is one.
        cursor.execute(statement, None)


# With migrations


def on_pre_migrate(sender: Any, using: str, plan: Any = (), **kwargs: Any) -> None:
    """
    Remove them before the tables change that they write to: on SQLite no row could be written any
    more. `on_post_migrate` installs them again, if the tables are still there.
    """
    if sender.label == "rest_channels" and any(
        migration.app_label == "rest_channels" for migration, _ in plan
    ):
        remove(using)


def on_post_migrate(sender: Any, using: str, **kwargs: Any) -> None:
    """Once a `migrate`, or `flush`, which send this signal for each app."""
    if sender.label == "rest_channels":
        log.forget_tables()
        sync(using)


def connect() -> None:
    """Follow migrations. Called once, when the apps are ready."""
    uid = "rest_channels.triggers"
    signals.pre_migrate.connect(on_pre_migrate, dispatch_uid=uid)
    signals.post_migrate.connect(on_post_migrate, dispatch_uid=uid)
