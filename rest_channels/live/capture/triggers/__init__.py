"""
Triggers that capture every write, by any program; the default on databases that support them.

`sync` installs the missing triggers and removes those left over. It runs after every `migrate`,
because a table that a migration rebuilds loses its triggers silently. The SQL is in `postgresql`
and `sqlite`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import nullcontext
from types import ModuleType
from typing import Any, Final, NamedTuple

from django.db import DatabaseError, connections, router, transaction
from django.db.models import signals

from rest_channels.live.capture import coverage, writes
from rest_channels.live.capture.triggers import postgresql, sqlite
from rest_channels.live.capture.triggers.tables import Definition, captured_tables
from rest_channels.live.log import store
from rest_channels.live.model_tables import table_of
from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels")

_BACKENDS: Final[dict[str, ModuleType]] = {"postgresql": postgresql, "sqlite": sqlite}


class Differences(NamedTuple):
    """
    The differences between the triggers of a database and those it should have.

    `missing` are definitions that are absent or incomplete; `left` are the names of triggers that
    belong to other settings, models or versions.
    """

    missing: list[Definition]
    left: list[str]

    @property
    def labels(self) -> list[str]:
        """The labels of the models whose writes are not captured."""
        return sorted({definition.label for definition in self.missing})


def is_supported(alias: str) -> bool:
    """Return whether this kind of database can have triggers."""
    return connections[alias].vendor in _BACKENDS


def differences(alias: str) -> Differences:
    """Return what `sync` would do; two queries for the whole database."""
    if not is_supported(alias):
        return Differences([], [])
    wanted = {}
    if writes.may_be_by_triggers() and store.is_installed(alias):
        wanted = {definition.name: definition for definition in definitions(alias)}
    there = _installed(alias)
    return Differences(
        [d for d in wanted.values() if there.get(d.name) != d.count],
        [name for name in there if name not in wanted],
    )


def covered(alias: str) -> set[str]:
    """
    Return the labels of the models whose triggers are complete.

    Leaves out tables that a session's search path may find in another schema.
    """
    if not (is_supported(alias) and store.is_installed(alias)):
        return set()
    there = _installed(alias)
    found = {d.label for d in definitions(alias) if there.get(d.name) == d.count}
    tables = {table: label for label in found if (table := table_of(label)) is not None}
    connection: Any = connections[alias]
    others = _BACKENDS[connection.vendor].ambiguous(connection, list(tables))
    return found - {tables[table] for table in others}


def sync(alias: str) -> Differences:
    """
    Install missing triggers and remove those left over; return the differences found.

    If the database refuses the triggers of a table, a warning is logged and the other tables go on.
    """
    try:
        return _sync(alias)
    finally:
        coverage.forget()


def _sync(alias: str) -> Differences:
    found = differences(alias)
    if not (found.missing or found.left):
        return found
    # One table at a time, so that writers to other tables do not wait; but SQLite has one lock.
    is_one = connections[alias].vendor == "sqlite"
    with transaction.atomic(using=alias) if is_one else nullcontext():
        for name in found.left:
            _change(alias, name, dropping(alias, name))
        for definition in found.missing:
            drop = dropping(alias, definition.name)
            # The table may have changed while it had no triggers.
            statements = (*drop, *definition.statements, *definition.markers)
            _change(alias, definition.label, statements, definition)
    return found


def remove(alias: str) -> int:
    """Remove all triggers, regardless of the settings; return from how many tables."""
    if not is_supported(alias):
        return 0
    coverage.forget()
    names = list(_installed(alias))
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        for name in names:
            _execute(cursor, dropping(alias, name))
    return len(names)


def definitions(alias: str) -> list[Definition]:
    """Return the triggers that the tables of this database should have, by the settings."""
    tables = [t for t in captured_tables() if router.allow_migrate_model(alias, t.model)]
    connection: Any = connections[alias]
    return list(_BACKENDS[connection.vendor].definitions(connection, tables))


def dropping(alias: str, name: str) -> list[str]:
    """Return statements that remove the triggers of the definition `name`."""
    connection: Any = connections[alias]
    return list(_BACKENDS[connection.vendor].dropping(connection, name))


def _installed(alias: str) -> dict[str, int]:
    connection: Any = connections[alias]
    return dict(_BACKENDS[connection.vendor].installed(connection))


def _change(
    alias: str, what: str, statements: Iterable[str], definition: Definition | None = None
) -> None:
    try:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            _execute(cursor, statements)
    except DatabaseError:
        logger.warning(
            "The database %r refuses triggers of rest_channels: %s. %s",
            alias,
            what,
            "" if definition is None else _remedy(alias, definition),
            exc_info=True,
        )


def _remedy(alias: str, definition: Definition) -> str:
    """Return the consequence of missing triggers, and the commands that install them."""
    connection: Any = connections[alias]
    consequence = (
        "The processes of this project capture writes of the ORM's instances; bulk operations, "
        "raw SQL and writes of other programs are not captured."
        if socket_settings.CAPTURE == "auto"
        else "Writes to it are not captured."
    )
    statements = _BACKENDS[connection.vendor].granting(connection, definition)
    first = f"as the owner of the table: {'; '.join(statements)}; then " if statements else ""
    return f"{consequence} Run {first}manage.py sync_triggers --database {alias}."


def _execute(cursor: Any, statements: Iterable[str]) -> None:
    for statement in statements:
        # Without parameters, so that drivers leave percent signs alone.
        cursor.execute(statement, None)


# With migrations


def on_pre_migrate(sender: Any, using: str, plan: Any = (), **kwargs: Any) -> None:
    """
    Remove all triggers before the tables of the log change.

    On SQLite, a trigger that writes to a changed table makes every write fail. `on_post_migrate`
    installs the triggers again, if the tables still exist.
    """
    if sender.label == "rest_channels" and any(
        migration.app_label == "rest_channels" for migration, _ in plan
    ):
        remove(using)


def on_post_migrate(sender: Any, using: str, **kwargs: Any) -> None:
    """Install triggers after a `migrate` or `flush`; both send this signal for each app."""
    if sender.label == "rest_channels":
        store.forget_tables()
        if "plan" not in kwargs and store.is_installed(using):
            # A `flush`, which has emptied the log as well, so that followers start again. Pending
            # changes that triggers recorded during the flush do not belong to the new history.
            store.pending(using)._raw_delete(using)
        sync(using)
        # Read the catalogue now, so that no writer has to.
        coverage.look(using)


def connect() -> None:
    """Connect the signals of migrations. Called once, when the apps are ready."""
    coverage.connect(covered)
    uid = "rest_channels.triggers"
    signals.pre_migrate.connect(on_pre_migrate, dispatch_uid=uid)
    signals.post_migrate.connect(on_post_migrate, dispatch_uid=uid)
