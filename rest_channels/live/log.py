"""
The log: its end, what came after a place, how far back it goes, and what waits to be in it.

All of it in a worker thread, of the database `alias` that the changes were written to. What a pass
asks each time is written as SQL: the ORM takes longer to build such a statement than a database
to answer it.
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

from rest_channels.live.positions import Place
from rest_channels.live.statements import batches, read, write
from rest_channels.settings import socket_settings

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from rest_channels.models import Change, LogHead, PendingChange

#: Entries read at a time.
PAGE_SIZE: Final = 2_000

#: The only row of `LogHead`.
HEAD_ID: Final = 1

# Until the tables are there, the catalogue is read again after so long.
_SECONDS_UNTIL_ANOTHER_LOOK: Final = 60


class Kind(enum.StrEnum):
    """What happened to a row."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Entry(NamedTuple):
    """A change in the log, as `rest_channels.models.Change` describes it."""

    position: int
    mark: int
    model: str
    key: str | None
    kind: str
    fields: str | None


class Note(NamedTuple):
    """
    A change that waits for its place, as `rest_channels.models.PendingChange` describes it.
    `created_at` is as the driver reads it, and takes it again.
    """

    id: int
    model: str
    key: str | None
    kind: str
    fields: str | None
    created_at: Any
    transaction: int | None


# The models, found when asked for: this module is imported before there are any.


def entries(alias: str) -> QuerySet[Change]:
    """The log itself."""
    return apps.get_model("rest_channels", "Change")._default_manager.using(alias)


def pending(alias: str) -> QuerySet[PendingChange]:
    """Changes that have no place in the log yet."""
    return apps.get_model("rest_channels", "PendingChange")._default_manager.using(alias)


def heads(alias: str) -> QuerySet[LogHead]:
    """The end of the log: one row."""
    return apps.get_model("rest_channels", "LogHead")._default_manager.using(alias)


# By database: whether the tables are there, and when that was found out (monotonic seconds).
# Exchanged whole: who looks while it is forgotten keeps nothing.
_looked: dict[str, tuple[bool, float]] = {}


def is_installed(alias: str) -> bool:
    """Whether the tables of the log are there: a database may do without, or be migrated later."""
    looked = _looked
    is_there, looked_at = looked.get(alias, (False, -_SECONDS_UNTIL_ANOTHER_LOOK))
    if is_there or time.monotonic() - looked_at < _SECONDS_UNTIL_ANOTHER_LOOK:
        return is_there
    connection = connections[alias]
    with connection.cursor() as cursor:
        names = connection.introspection.table_names(cursor)
    tables = {rows(alias).model._meta.db_table for rows in (entries, pending, heads)}
    is_there = tables <= set(names)
    looked[alias] = is_there, time.monotonic()
    return is_there


def forget_tables(**kwargs: Any) -> None:
    """Look again which databases have the tables: migrations ran, or a test changed them."""
    global _looked
    _looked = {}


def head(alias: str) -> Place:
    """The end of the log; the start of an empty one."""
    return _head(alias) or Place(0, 0)


def locked_head(alias: str) -> Place | None:
    """The end of the log, others' until the commit; None where nobody has written it down."""
    if connections[alias].features.has_select_for_update:
        return _head(alias, " FOR UPDATE")
    # SQLite has one writer; a transaction that begins by reading may not become it.
    write(alias, f"UPDATE [heads] SET [position] = [position] WHERE [id] = {HEAD_ID}")
    return _head(alias)


def _head(alias: str, lock: str = "") -> Place | None:
    rows = read(alias, f"SELECT [position], [mark] FROM [heads] WHERE [id] = {HEAD_ID}{lock}")
    return Place(*rows[0]) if rows else None


def since(alias: str, place: Place, *, limit: int = PAGE_SIZE) -> list[Entry] | None:
    """
    The first `limit` entries after `place`, in order; None where it is none of this log's, or
    not everything since is still there.
    """
    # With the place's own, or before the first entry with that.
    rows = read(
        alias,
        "SELECT [position], [mark], [model], [key], [kind], [fields] FROM [entries] "
        "WHERE [position] >= %s ORDER BY [position] LIMIT %s",
        [place.number, limit + 1],
    )
    entries = [Entry(*row) for row in rows]
    if not entries:
        return None
    first = entries[0]
    if place.number:
        return entries[1:] if place == (first.position, first.mark) else None
    return entries[:limit] if place.mark == 0 and first.position == 1 else None


def has_notes(alias: str) -> bool:
    """Whether anything waits for its place in the log."""
    return bool(read(alias, "SELECT 1 FROM [pending] LIMIT 1"))


def notes(alias: str, *, limit: int | None = None) -> list[Note]:
    """What waits, or the first `limit` of it, in the order of its numbers."""
    statement = (
        "SELECT [id], [model], [key], [kind], [fields], [created_at], [transaction] "
        "FROM [pending] ORDER BY [id]"
    )
    if limit is None:
        rows = read(alias, statement)
    else:
        rows = read(alias, f"{statement} LIMIT %s", [limit])
    return [Note(*row) for row in rows]


def append(alias: str, taken: Sequence[tuple[Place, Note]], *, done: Sequence[Note]) -> None:
    """
    Give notes their places, the last of which is the end of the log, and forget all that are
    `done`. Within the `turn` that locked the head.
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


# So many notes PostgreSQL moves in one statement: a trip in place of three.
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
    Forget entries older than `RETENTION_SECONDS`; returns how many. The last one stays, for a
    client that has seen all of the log shows it.
    """
    oldest = timezone.now() - timedelta(seconds=socket_settings.RETENTION_SECONDS)
    # By position: what is gone is always the beginning, whatever the clocks of the writers say.
    old = entries(alias).filter(created_at__lt=oldest).order_by("-position")
    newest = old.values_list("position", flat=True).first()
    if newest is None:
        return 0
    before = min(newest + 1, head(alias).number)
    pruned = 0
    # A few at a time: on SQLite writers wait meanwhile.
    while places := _oldest(alias, before):
        # Up to the newest of these, for others may prune as well.
        pruned += entries(alias).filter(position__lte=places[-1])._raw_delete(alias)
    return pruned


def _oldest(alias: str, before: int) -> list[int]:
    found = entries(alias).filter(position__lt=before).order_by("position")
    return list(found.values_list("position", flat=True)[:PAGE_SIZE])
