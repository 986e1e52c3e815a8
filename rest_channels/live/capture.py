"""
Writes of rows, noted as pending changes in the transaction that makes them.

Which models, under what names, and by whom: by this process, which hears what its ORM writes
(`rest_channels.live.listening`, `.querysets`), or by the database itself, for whoever writes
(`rest_channels.live.triggers`). Then this process only rings the doorbell.

Nothing here makes a write fail: what goes wrong is logged, once a minute, and the write goes on.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from django.db import connections, models, transaction
from django.utils import timezone

from rest_channels.live import log, relay
from rest_channels.live.statements import batches
from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels")

#: Rows of one statement that are noted one by one; more become one change of the whole table.
MAX_ROWS: Final = 1_000

# Written by every request or never shown; whoever wants to watch them names them in CAPTURE_MODELS.
_NEVER_BY_DEFAULT: Final = frozenset(
    {"sessions.Session", "admin.LogEntry", "contenttypes.ContentType", "migrations.Migration"}
)

_SECONDS_BETWEEN_WARNINGS: Final = 60

# A deadlock; and, where `innodb_rollback_on_timeout` is set, a lock waited for too long.
_MYSQL_ROLLBACKS: Final = ((1213,), (1205,))


def is_captured(model: type[models.Model]) -> bool:
    """Whether writes of `model` are noted."""
    # A proxy writes to the table of another model.
    meta = (model._meta.concrete_model or model)._meta
    if socket_settings.CAPTURE is None or meta.app_label == "rest_channels":
        return False
    named = socket_settings.CAPTURE_MODELS
    if not isinstance(named, (list, tuple, set, frozenset)):
        # "__all__"; of anything else the checks say what it should be.
        return meta.label not in _NEVER_BY_DEFAULT
    return meta.label in named or meta.app_label in named


def is_by_triggers() -> bool:
    """Whether the database notes what is written, and this process does not."""
    return bool(socket_settings.CAPTURE == "triggers")


def label_of(model: type[models.Model]) -> str:
    """How the log names the table of `model`: by the model that has it, not by a proxy."""
    return (model._meta.concrete_model or model)._meta.label


def key_of(model: type[models.Model], pk: Any) -> str | None:
    """A primary key as the log holds it; None for one that it cannot, composite or unset."""
    field = model._meta.pk
    if pk is None or field is None or isinstance(pk, tuple):
        return None
    try:
        # What a writer calls "7" is 7.
        return str(field.to_python(pk))
    except Exception:
        return None


class Write(NamedTuple):
    """
    What a statement did to rows of `model`; a key of None stands for rows that are not known.
    `fields` are the names of those that were written, None for all.
    """

    model: type[models.Model]
    keys: Iterable[str | None]
    kind: str
    fields: Iterable[str] | None = None


def record(alias: str, *writes: Write) -> None:
    """
    Note what was written, with one INSERT; within the transaction, if there is one. Where triggers
    have noted it, ring when it is committed. Raises only where the transaction is lost already.
    """
    try:
        captured = [write for write in writes if is_captured(write.model)]
        if captured and log.is_installed(alias):
            if is_by_triggers():
                ring_after_commit(alias)
                return
            rows = [row for write in captured for row in _rows(write)]
            _insert(alias, rows)
            if rows:
                ring_after_commit(alias)
    except Exception as exc:
        warn(alias)
        if _has_ended_transaction(alias, exc):
            raise


def _rows(write: Write) -> list[tuple[str, str | None, str, str | None]]:
    named = ",".join(sorted(write.fields)) if write.fields is not None else None
    keys = list(write.keys)
    if len(keys) > MAX_ROWS:
        keys = [None]
    return [(label_of(write.model), key, write.kind, named) for key in keys]


def noting(
    alias: str,
    model: type[models.Model],
    key: str | None,
    kind: str,
    fields: Iterable[str] | None = None,
) -> tuple[str, list[Any]]:
    """
    SQL that notes a change, up to its values, and these: all but the last column's, `token`.
    """
    [row] = _rows(Write(model, [key], kind, fields))
    return _inserting(alias), [*row, _now(alias)]


def _inserting(alias: str) -> str:
    quote = connections[alias].ops.quote_name
    names = ("model", "key", "kind", "fields", "created_at", "transaction")
    columns = ", ".join(map(quote, names))
    return f"INSERT INTO {quote(log.pending(alias).model._meta.db_table)} ({columns})"


def _now(alias: str) -> Any:
    return connections[alias].ops.adapt_datetimefield_value(timezone.now())


def _insert(alias: str, rows: list[tuple[Any, ...]]) -> None:
    connection = connections[alias]
    placeholders = f"(%s, %s, %s, %s, %s, {token(alias)})"
    now = _now(alias)
    with connection.cursor() as cursor:
        for batch in batches(alias, rows, parameters=5):
            values = ", ".join([placeholders] * len(batch))
            params = [value for row in batch for value in (*row, now)]
            sql = f"{_inserting(alias)} VALUES {values}"
            _guarded(connection, cursor, sql, params)


def _guarded(connection: Any, cursor: Any, sql: str, params: list[Any]) -> None:
    """
    Run `sql` so that its failure leaves the transaction usable. Only PostgreSQL needs a savepoint
    for it: three statements in one trip to the server.
    """
    if connection.vendor != "postgresql" or not connection.in_atomic_block:
        cursor.execute(sql, params)
        return
    name = "rest_channels_capture"
    if connection.settings_dict.get("OPTIONS", {}).get("server_side_binding"):
        # Its protocol takes one statement at a time.
        with transaction.atomic(using=connection.alias):
            cursor.execute(sql, params)
        return
    try:
        cursor.execute(f"SAVEPOINT {name}; {sql}; RELEASE SAVEPOINT {name}", params)
    except Exception:
        cursor.execute(f"ROLLBACK TO SAVEPOINT {name}")
        raise


def _has_ended_transaction(alias: str, exc: Exception) -> bool:
    """
    Whether the database answered with `exc` by rolling back all that was written before, too: to
    go on would mean to commit the rest of a transaction.
    """
    return connections[alias].vendor == "mysql" and exc.args[:1] in _MYSQL_ROLLBACKS


def token(alias: str) -> str:
    """SQL for what all changes of one transaction share, and no two transactions."""
    match connections[alias].vendor:
        case "postgresql":
            return "pg_current_xact_id()::text::bigint"
        case "mysql":
            return str(_own_token(alias))
    # SQLite has one writer: ids are in the order of commits.
    return "NULL"


def _own_token(alias: str) -> int:
    # Renewed by the commit, not by a rollback: of a transaction rolled back nothing is there
    # that could be taken for the next one's.
    connection = connections[alias]
    token = getattr(connection, "rest_channels_transaction", None)
    if token is None:
        # Of many processes and machines: by chance.
        token = secrets.randbits(63)
        connection.rest_channels_transaction = token
    return token


class _Ring:
    """What the commit does: renew the token, ring the doorbell."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def __call__(self) -> None:
        connections[self.alias].rest_channels_transaction = None
        relay.ring(self.alias)


def ring_after_commit(alias: str) -> None:
    """Ring the doorbell once what was written is committed, if it ever is."""
    connection: Any = connections[alias]
    if any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        # A test's transaction never commits; subscriptions of the same test see into it.
        relay.ring(alias)
        return
    # One a transaction. What was rolled back with a savepoint took its own with it.
    if not any(isinstance(entry[1], _Ring) for entry in connection.run_on_commit):
        transaction.on_commit(_Ring(alias), using=alias, robust=True)


_last_warning: dict[str, float] = {}


def warn(alias: str) -> None:
    """Log the exception at hand; once a minute."""
    now = time.monotonic()
    if now - _last_warning.get(alias, -_SECONDS_BETWEEN_WARNINGS) >= _SECONDS_BETWEEN_WARNINGS:
        _last_warning[alias] = now
        logger.error(
            "Changes of database %r are not captured: subscriptions miss them.",
            alias,
            exc_info=True,
        )
