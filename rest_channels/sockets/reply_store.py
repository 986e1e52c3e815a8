"""
Stored replies in the database: one row for each write with an idempotency key.

    with transaction.atomic(using=alias):
        if reserve(alias, entry):     # the key was not used before
            ...                       # the write
            fill(alias, entry.key, outcome)

The row is inserted before the write and committed with it, so a second frame with the same key
finds the row, or the lock on it. All functions run in a worker thread.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.apps import apps
from django.db import OperationalError, connections
from django.utils import timezone

from rest_channels.settings import socket_settings

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from rest_channels.models import StoredReply

# How long a thread waits for the lock of another frame with the same key (ms). The frame then waits
# on the loop, where it takes no thread.
_LOCK_PATIENCE_MS: Final = 20

# Rows deleted at a time, because writers on SQLite wait meanwhile.
_BATCH: Final = 500

# A process counts again after this share of a user's room, and remembers this many users.
_SHARES: Final = 16
_MAX_ALLOWANCES: Final = 1_024

# Codes of drivers for a lock that another transaction holds, or a transaction that must begin again
# because of one: SQLITE_BUSY and SQLITE_LOCKED; lock_not_available, deadlock_detected and
# serialization_failure; lock wait timeout and deadlock of MySQL.
_LOCKED_ON_SQLITE: Final = frozenset({5, 6})
_LOCKED_ON_POSTGRESQL: Final = frozenset({"55P03", "40P01", "40001"})
_LOCKED_ON_MYSQL: Final = frozenset({1205, 1213})


_WITH_ON_CONFLICT: Final = frozenset({"postgresql", "sqlite"})


class Entry(NamedTuple):
    """
    The identity of a keyed frame, as hashes in hexadecimal.

    `key` is of the user, the stream and the client's key, `owner` of the user, `request` of what
    the frame asks for.
    """

    key: str
    owner: str
    request: str


class Outcome(NamedTuple):
    """A reply without what differs when the frame is repeated. `data` is JSON text."""

    status: int
    data: str
    headers: Mapping[str, str] | None


def reserve(alias: str, entry: Entry) -> bool:
    """
    Insert the row of `entry`, in the transaction of the write; return False if there is one.

    Raises an `OperationalError` that `is_contended` if another transaction is inserting one, and
    `IntegrityError` in place of False on databases without ON CONFLICT.
    """
    values = {**entry._asdict(), "status": 0, "data": "", "headers": "{}"}
    with _impatient(alias):
        if connections[alias].vendor in _WITH_ON_CONFLICT:
            return _inserted(alias, {**values, "created_at": timezone.now()})
        _rows(alias).create(**values, created_at=timezone.now())
    return True


def _inserted(alias: str, values: dict[str, Any]) -> bool:
    # The ORM does not tell whether it has ignored a conflict, and PostgreSQL logs each error.
    connection, table = connections[alias], _rows(alias).model._meta.db_table
    quote = connection.ops.quote_name
    columns = ", ".join(map(quote, values))
    places = ", ".join(["%s"] * len(values))
    values["created_at"] = connection.ops.adapt_datetimefield_value(values["created_at"])
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {quote(table)} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING",
            list(values.values()),
        )
        return bool(cursor.rowcount == 1)


def find(alias: str, key: str) -> StoredReply | None:
    """Return the row of `key`; None if there is none, or if it is older than the retention."""
    row: StoredReply | None = _rows(alias).filter(key=key, created_at__gte=_oldest()).first()
    return row


def fill(alias: str, key: str, outcome: Outcome) -> None:
    """
    Store `outcome` in the row that this transaction has reserved.

    Raises RuntimeError if the row is not there: the write must not be committed without it.
    """
    headers = json.dumps(dict(outcome.headers or {}))
    filled = _rows(alias).filter(key=key, status=0)
    if filled.update(status=outcome.status, data=outcome.data, headers=headers) != 1:
        raise RuntimeError(
            "The action must leave the row of its idempotency key alone: the row is gone, or the "
            "action has switched to another schema."
        )


def outcome_of(row: StoredReply) -> Outcome:
    """Return what `fill` has stored."""
    return Outcome(row.status, row.data, json.loads(row.headers) or None)


def size_of(outcome: Outcome) -> int:
    """Return the bytes that `outcome` takes."""
    return len(outcome.data.encode()) + len(json.dumps(dict(outcome.headers or {})))


def forget_expired(alias: str, key: str) -> None:
    """Delete the row of `key` if it is older than the retention."""
    _rows(alias).filter(key=key, created_at__lt=_oldest())._raw_delete(alias)


class Allowances:
    """
    The number of replies that this process may store for each user before it counts again.

    Counting thousands of rows takes longer than a write. In any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[Hashable, int] = {}

    def takes(self, owner: Hashable) -> bool:
        """Return whether a reply of `owner` needs no count, and deduct it."""
        with self._lock:
            left = self._left.pop(owner, 0)
            if left > 1:
                self._left[owner] = left - 1
            return left > 0

    def grant(self, owner: Hashable, room: int) -> None:
        """Allow a share of `room`, small enough that many processes do not exceed it together."""
        with self._lock:
            if len(self._left) >= _MAX_ALLOWANCES:
                self._left.clear()
            self._left[owner] = room // _SHARES


allowances = Allowances()


def seconds_until_room(alias: str, owner: str) -> int | None:
    """
    Return the seconds until the user may store another reply.

    None if the user has at most `MAX_STORED_REPLIES`, the row just reserved included.
    """
    limit = socket_settings.MAX_STORED_REPLIES
    if allowances.takes((alias, owner, limit)):
        return None
    kept = _rows(alias).filter(owner=owner, created_at__gte=_oldest())
    if (room := limit - kept.count()) >= 0:
        allowances.grant((alias, owner, limit), room)
        return None
    times = kept.order_by("-created_at").values_list("created_at", flat=True)
    beyond: datetime | None = next(iter(times[limit : limit + 1]), None)
    if beyond is None:
        # Others were deleted meanwhile.
        return 1
    return max(1, int((beyond - _oldest()).total_seconds()) + 1)


def prune(alias: str) -> int:
    """
    Delete rows older than `RETENTION_SECONDS`; return how many.

    A database may lack the table, because it is migrated later.
    """
    pruned = 0
    if not is_installed(alias):
        return pruned
    old = _rows(alias).filter(created_at__lt=_oldest())
    while keys := list(old.values_list("key", flat=True)[:_BATCH]):
        pruned += old.filter(key__in=keys)._raw_delete(alias)
    return pruned


def schema_of(alias: str) -> list[str]:
    """Return texts that name the schemas in which statements find their tables at the moment."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('search_path')")
        return [cursor.fetchone()[0]]


def is_installed(alias: str) -> bool:
    """Return whether the table exists."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        names = connection.introspection.table_names(cursor)
    return _rows(alias).model._meta.db_table in names


def is_contended(exc: BaseException) -> bool:
    """Return whether `exc` means that another transaction holds a lock: retrying helps."""
    if not isinstance(exc, OperationalError):
        return False
    cause: Any = exc.__cause__
    if (result := getattr(cause, "sqlite_errorcode", None)) is not None:
        return (result & 0xFF) in _LOCKED_ON_SQLITE
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state is not None:
        return state in _LOCKED_ON_POSTGRESQL
    return bool(cause is not None and cause.args[:1] and cause.args[0] in _LOCKED_ON_MYSQL)


def _rows(alias: str) -> QuerySet[StoredReply]:
    # Looked up on use: this module is imported before the models exist.
    return apps.get_model("rest_channels", "StoredReply")._default_manager.using(alias)


def _oldest() -> datetime:
    now: datetime = timezone.now()
    return now - timedelta(seconds=socket_settings.RETENTION_SECONDS)


@contextmanager
def _impatient(alias: str) -> Iterator[None]:
    """
    Wait only briefly for locks of PostgreSQL within the block.

    After an error, the rollback restores the setting. On SQLite all writers wait for each other.
    """
    connection = connections[alias]
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)",
            [str(_LOCK_PATIENCE_MS)],
        )
        (before, _) = cursor.fetchone()
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])
