"""
The log in the database: its head, the changes after a position, pending changes, pruning.

All functions run in a worker thread, on the database `alias` that the changes were written to. The
queries of each pass are written as SQL, because the ORM needs longer to build such a statement than
a database to answer it.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.apps import apps
from django.db import connections
from django.utils import timezone

from rest_channels.live.log.positions import Position
from rest_channels.live.log.statements import batches, read, write
from rest_channels.settings import socket_settings

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from rest_channels import models as tables

#: Changes read at a time.
PAGE_SIZE: Final = 2_000

# How long to wait for the process that numbers changes (ms). A process that is suspended, or whose
# host is lost, may hold the lock forever.
_LOCK_PATIENCE_MS: Final = 2_000

#: The primary key of the only row of `LogHead`.
HEAD_ID: Final = 1

# How long a missing table counts as missing before the catalogue is read again.
_SECONDS_UNTIL_ANOTHER_LOOK: Final = 60


class Kind(enum.StrEnum):
    """The kind of a change of a row."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Change(NamedTuple):
    """A change in the log, as `rest_channels.models.Change` describes it."""

    position: int
    mark: int
    model: str
    key: str | None
    kind: str
    fields: str | None


class PendingChange(NamedTuple):
    """
    A change without a position yet, as `rest_channels.models.PendingChange` describes it.

    `created_at` has the form in which the driver reads and writes it.
    """

    id: int
    model: str
    key: str | None
    kind: str
    fields: str | None
    created_at: Any
    transaction: int | None


# The models are looked up on use: this module is imported before they exist.


def entries(alias: str) -> QuerySet[tables.Change]:
    """Return the changes in the log."""
    return apps.get_model("rest_channels", "Change")._default_manager.using(alias)


def pending(alias: str) -> QuerySet[tables.PendingChange]:
    """Return the changes that have no position in the log yet."""
    return apps.get_model("rest_channels", "PendingChange")._default_manager.using(alias)


def heads(alias: str) -> QuerySet[tables.LogHead]:
    """Return the table with the end of the log: one row."""
    return apps.get_model("rest_channels", "LogHead")._default_manager.using(alias)


# By database and schema: whether the tables exist, and when that was read (monotonic seconds).
# Replaced as a whole, so that a concurrent reader cannot keep an old answer.
_looked: dict[tuple[str, Any], tuple[bool, float]] = {}


def is_installed(alias: str) -> bool:
    """
    Return whether the tables of the log exist.

    A database may lack them or be migrated later. So may a schema, if the connection has a
    `schema_name`, as those of django-tenants do.
    """
    looked = _looked
    place = alias, getattr(connections[alias], "schema_name", None)
    is_there, looked_at = looked.get(place, (False, -_SECONDS_UNTIL_ANOTHER_LOOK))
    if is_there or time.monotonic() - looked_at < _SECONDS_UNTIL_ANOTHER_LOOK:
        return is_there
    is_there = _finds_tables(alias)
    looked[place] = is_there, time.monotonic()
    return is_there


def _finds_tables(alias: str) -> bool:
    connection = connections[alias]
    tables = {rows(alias).model._meta.db_table for rows in (entries, pending, heads)}
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            return tables <= set(connection.introspection.table_names(cursor))
        # Statements find them in any schema of the search path.
        quoted = [connection.ops.quote_name(table) for table in tables]
        statement = "SELECT bool_and(to_regclass(t) IS NOT NULL) FROM unnest(%s::text[]) t"
        cursor.execute(statement, [quoted])
        return bool(cursor.fetchone()[0])


def forget_tables(**kwargs: Any) -> None:
    """Forget which databases have the tables, because migrations ran or a test changed settings."""
    global _looked
    _looked = {}


def head(alias: str) -> Position:
    """Return the end of the log; the start if it is empty."""
    return _head(alias) or Position(0, 0)


def locked_head(alias: str) -> Position | None:
    """
    Lock and return the end of the log until the commit; None if its row is missing.

    Raises `OperationalError` if another process holds it for longer than two seconds; the caller
    tries again in its next pass.
    """
    if connections[alias].vendor == "postgresql":
        # In the same trip, and before the row is locked: the other side of the join is read first.
        patience = f"(SELECT set_config('lock_timeout', '{_LOCK_PATIENCE_MS}', true)) AS patience"
        return _head(alias, " FOR UPDATE OF [heads]", f", {patience}")
    if connections[alias].features.has_select_for_update:
        return _head(alias, " FOR UPDATE")
    # SQLite has one writer, and a transaction that begins with a read may fail to become it.
    write(alias, f"UPDATE [heads] SET [position] = [position] WHERE [id] = {HEAD_ID}")
    return _head(alias)


def _head(alias: str, lock: str = "", also_from: str = "") -> Position | None:
    statement = f"SELECT [position], [mark] FROM [heads]{also_from} WHERE [id] = {HEAD_ID}{lock}"
    rows = read(alias, statement)
    return Position(*rows[0]) if rows else None


def since(alias: str, place: Position, *, limit: int = PAGE_SIZE) -> list[Change] | None:
    """
    Return the first `limit` changes after `place`, oldest first.

    Returns None if the position is not of this log, or if changes after it were pruned; the caller
    then takes a fresh snapshot.
    """
    # Includes the change at the position itself, unless it is the start.
    rows = read(
        alias,
        "SELECT [position], [mark], [model], [key], [kind], [fields] FROM [entries] "
        "WHERE [position] >= %s ORDER BY [position] LIMIT %s",
        [place.number, limit + 1],
    )
    entries = [Change(*row) for row in rows]
    if not entries:
        return None
    first = entries[0]
    if place.number:
        return entries[1:] if place == (first.position, first.mark) else None
    return entries[:limit] if place.mark == 0 and first.position == 1 else None


def has_notes(alias: str) -> bool:
    """Return whether any change waits for its position in the log."""
    return bool(read(alias, "SELECT 1 FROM [pending] LIMIT 1"))


def notes(alias: str, *, limit: int | None = None) -> list[PendingChange]:
    """Return pending changes in the order of their ids, at most `limit`."""
    statement = (
        "SELECT [id], [model], [key], [kind], [fields], [created_at], [transaction] "
        "FROM [pending] ORDER BY [id]"
    )
    if limit is None:
        rows = read(alias, statement)
    else:
        rows = read(alias, f"{statement} LIMIT %s", [limit])
    return [PendingChange(*row) for row in rows]


def append(
    alias: str, taken: Sequence[tuple[Position, PendingChange]], *, done: Sequence[PendingChange]
) -> None:
    """
    Append changes at their positions and move the end of the log.

    Deletes the pending changes `done`. Runs within the `turn` that locked the head.
    """
    last, _ = taken[-1]
    rows = [
        (*place, note.model, note.key, note.kind, note.fields, note.created_at)
        for place, note in taken
    ]
    if connections[alias].vendor == "postgresql" and len(done) <= _TOGETHER:
        inserting, deleting = _inserting(len(rows)), _deleting(len(done))
        statement = f"WITH inserted AS ({inserting}), deleted AS ({deleting}) {_REACHING}"
        write(alias, statement, [*chain(*rows), *(note.id for note in done), *last])
        return
    for batch in batches(alias, rows, parameters=7):
        write(alias, _inserting(len(batch)), [*chain(*batch)])
    for notes_done in batches(alias, done, parameters=1):
        write(alias, _deleting(len(notes_done)), [note.id for note in notes_done])
    write(alias, _REACHING, last)


# The most pending changes that one statement of PostgreSQL moves: one trip instead of three.
_TOGETHER: Final = 100

_REACHING: Final = f"UPDATE [heads] SET [position] = %s, [mark] = %s WHERE [id] = {HEAD_ID}"


def _inserting(count: int) -> str:
    values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * count)
    names = "[position], [mark], [model], [key], [kind], [fields], [created_at]"
    return f"INSERT INTO [entries] ({names}) VALUES {values}"


def _deleting(count: int) -> str:
    return f"DELETE FROM [pending] WHERE [id] IN ({', '.join(['%s'] * count)})"


def prune(alias: str) -> int:
    """
    Delete changes older than `RETENTION_SECONDS`; return how many.

    The last one stays, because a client that has received the whole log resumes from it.
    """
    oldest = timezone.now() - timedelta(seconds=socket_settings.RETENTION_SECONDS)
    # By position, so that only the beginning of the log is deleted, even if writers' clocks differ.
    old = entries(alias).filter(created_at__lt=oldest).order_by("-position")
    newest = old.values_list("position", flat=True).first()
    if newest is None:
        return 0
    before = min(newest + 1, head(alias).number)
    pruned = 0
    # In batches, because writers on SQLite wait meanwhile.
    while places := _oldest(alias, before):
        # Up to the newest of these, because other processes may prune as well.
        pruned += entries(alias).filter(position__lte=places[-1])._raw_delete(alias)
    return pruned


def _oldest(alias: str, before: int) -> list[int]:
    found = entries(alias).filter(position__lt=before).order_by("position")
    return list(found.values_list("position", flat=True)[:PAGE_SIZE])
