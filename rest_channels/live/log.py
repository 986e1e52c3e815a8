"""
The log, read: its end, what came after a place, and how far back it goes.

All of it in a worker thread, of the database `alias` that the changes were written to.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.db import connections, transaction
from django.utils import timezone

from rest_channels.live.positions import Place
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


@contextmanager
def snapshot(alias: str) -> Iterator[None]:
    """
    One view of the database for all that is read within: REPEATABLE READ, or the transaction
    that a test is in already.
    """
    connection: Any = connections[alias]
    if connection.in_atomic_block:
        yield
        return
    # It reads the settings, and so would undo what follows.
    connection.ensure_connection()
    # SQLite: reading must not wait for writers, nor make them wait, whatever the project's
    # `transaction_mode`.
    mode = getattr(connection, "transaction_mode", None)
    if connection.vendor == "sqlite":
        connection.transaction_mode = "DEFERRED"
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            # For the next transaction alone.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    try:
        with transaction.atomic(using=alias):
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield
    finally:
        if connection.vendor == "sqlite":
            connection.transaction_mode = mode


def head(alias: str) -> Place:
    """The end of the log; the start of an empty one."""
    found = heads(alias).filter(pk=HEAD_ID).values_list("position", "mark").first()
    return Place(*found) if found is not None else Place(0, 0)


def holds(alias: str, place: Place, end: Place) -> bool:
    """Whether `place` is one of this log's, and everything since is still there."""
    if place.number >= end.number:
        return place == end
    if place.number == 0:
        # Before the first entry, which must be there yet.
        return place.mark == 0 and entries(alias).filter(pk=1).exists()
    return entries(alias).filter(pk=place.number, mark=place.mark).exists()


def since(alias: str, place: Place, *, limit: int = PAGE_SIZE) -> list[Change]:
    """The first `limit` entries after `place`, in order."""
    return list(entries(alias).filter(position__gt=place.number).order_by("position")[:limit])


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
