"""
Record writes of rows as pending changes, in the transaction that makes them.

The settings say which models are captured. Either this process records the writes of its own ORM
(`rest_channels.live.capture.model_signals`, `.managers`), or triggers record every write
(`rest_channels.live.capture.triggers`) and this process only rings the doorbell.

Capturing never makes a write fail: errors are logged, once a minute, and the write goes on.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from rest_channels.bus import doorbell
from rest_channels.live.capture import commits, coverage
from rest_channels.live.log import store
from rest_channels.live.log.statements import batches
from rest_channels.live.model_tables import label_of, models_over
from rest_channels.observing.paced_warnings import Pace
from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels")

#: The most rows of one statement that are recorded one by one; more become one change of the table.
MAX_ROWS: Final = 1_000

# Models that every request writes or that no API shows. CAPTURE_MODELS can name them.
_NEVER_BY_DEFAULT: Final = frozenset(
    {"sessions.Session", "admin.LogEntry", "contenttypes.ContentType", "migrations.Migration"}
)

# A deadlock; and a lock wait timeout, if `innodb_rollback_on_timeout` is set.
_MYSQL_ROLLBACKS: Final = ((1213,), (1205,))


def is_captured(model: type[models.Model]) -> bool:
    """Return whether writes of `model` are captured."""
    if socket_settings.CAPTURE is None:
        return False
    # A write by one model of a table concerns all models of that table.
    return any(map(_is_named, models_over(model._meta.db_table) or (model,)))


def _is_named(model: type[models.Model]) -> bool:
    meta = model._meta
    if meta.app_label == "rest_channels":
        return False
    named = socket_settings.CAPTURE_MODELS
    if not isinstance(named, (list, tuple, set, frozenset)):
        # "__all__". The system checks report any other value.
        return meta.label not in _NEVER_BY_DEFAULT
    return meta.label in named or meta.app_label in named


def is_by_triggers(alias: str, *written: type[models.Model]) -> bool:
    """
    Return whether triggers of the database `alias` capture writes to all these tables.

    If not, this process records them.
    """
    if socket_settings.CAPTURE == "auto":
        return all(coverage.has_triggers(alias, model) for model in written)
    return bool(socket_settings.CAPTURE == "triggers")


def expects_triggers(alias: str) -> bool:
    """Return whether `alias` should have triggers, by its settings; reads no catalogue."""
    is_able = connections[alias].vendor in ("postgresql", "sqlite")
    return is_able if socket_settings.CAPTURE == "auto" else socket_settings.CAPTURE == "triggers"


def may_be_by_triggers() -> bool:
    """Return whether the settings ask for triggers where the database supports them."""
    return socket_settings.CAPTURE in ("auto", "triggers")


class Write(NamedTuple):
    """
    The effect of one statement on rows of `model`.

    A key of None stands for unknown rows. `fields` are the names of the written fields, None for
    all. `table` is the model whose table was written to, if it is another.
    """

    model: type[models.Model]
    keys: Iterable[str | None]
    kind: str
    fields: Iterable[str] | None = None
    table: type[models.Model] | None = None


def record(alias: str, *writes: Write) -> None:
    """
    Record writes with one INSERT, within the transaction if there is one.

    Rings the doorbell after the commit, also for writes that triggers captured. Raises only if the
    database has already rolled back the transaction.
    """
    try:
        captured = [write for write in writes if is_captured(write.model)]
        if captured and store.is_installed(alias):
            mine = [w for w in captured if not is_by_triggers(alias, w.table or w.model)]
            rows = [row for write in mine for row in _rows(write)]
            if rows:
                _insert(alias, rows)
            if rows or len(mine) < len(captured):
                ring_after_commit(alias)
    except Exception as exc:
        warn(alias)
        if _has_ended_transaction(alias, exc):
            raise


def _rows(write: Write) -> list[tuple[str, str | None, str, str | None]]:
    named = ",".join(sorted(write.fields)) if write.fields is not None else None
    keys = list(dict.fromkeys(write.keys))
    if len(keys) > MAX_ROWS or None in keys:
        keys = [None]
    return [(label_of(write.model), key, write.kind, named) for key in keys]


def ring_for(alias: str, *written: type[models.Model]) -> None:
    """Ring the doorbell once writes that triggers captured are committed; raises nothing."""
    try:
        if any(is_captured(model) and is_by_triggers(alias, model) for model in written):
            ring_after_commit(alias)
    except Exception:
        warn(alias)


def _inserting(alias: str) -> str:
    quote = connections[alias].ops.quote_name
    names = ("model", "key", "kind", "fields", "created_at", "transaction")
    columns = ", ".join(map(quote, names))
    return f"INSERT INTO {quote(store.pending(alias).model._meta.db_table)} ({columns})"


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


def execute_guarded(alias: str, sql: str, params: list[Any]) -> None:
    """Run `sql` and raise its error, but keep the transaction usable."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        _guarded(connection, cursor, sql, params)


def _guarded(connection: Any, cursor: Any, sql: str, params: list[Any]) -> None:
    """
    Run `sql` so that a failure leaves the transaction usable.

    Only PostgreSQL needs a savepoint for that: three statements in one trip to the server.
    """
    if connection.vendor != "postgresql" or not connection.in_atomic_block:
        cursor.execute(sql, params)
        return
    name = "rest_channels_capture"
    if connection.settings_dict.get("OPTIONS", {}).get("server_side_binding"):
        # The extended protocol takes one statement at a time.
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
    Return whether the database answered with `exc` by rolling back the whole transaction.

    To go on would commit only the later half of it.
    """
    return connections[alias].vendor == "mysql" and exc.args[:1] in _MYSQL_ROLLBACKS


def token(alias: str) -> str:
    """
    Return SQL for a value that the changes of one transaction share, and no other transaction's.
    """
    match connections[alias].vendor:
        case "postgresql":
            return "pg_current_xact_id()::text::bigint"
        case "mysql":
            return str(_own_token(alias))
    # SQLite has one writer: ids are in the order of commits.
    return "NULL"


# The token of the transaction that a connection is in.
_own_tokens: WeakKeyDictionary[BaseDatabaseWrapper, int] = WeakKeyDictionary()


def _own_token(alias: str) -> int:
    # Renewed after a commit, but not after a rollback, which leaves no changes with the old token.
    # Random, because other processes and machines make tokens, too.
    return _own_tokens.setdefault(connections[alias], secrets.randbits(63))


class _Ring:
    """A callback that renews the token and rings the doorbell after a commit."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def __call__(self) -> None:
        _own_tokens.pop(connections[self.alias], None)
        _ring(self.alias)


def _ring(alias: str) -> None:
    commits.note(alias)
    doorbell.ring(alias)


def ring_after_commit(alias: str) -> None:
    """Ring the doorbell once the transaction is committed; never if it is rolled back."""
    connection: Any = connections[alias]
    if any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        # A test's transaction never commits; subscriptions of the same test read inside it.
        _ring(alias)
        return
    # Once for each transaction. A rolled back savepoint has removed its own callback.
    if not any(isinstance(entry[1], _Ring) for entry in connection.run_on_commit):
        transaction.on_commit(_Ring(alias), using=alias, robust=True)


_pace: Final = Pace()


def warn(alias: str) -> None:
    """Log the current exception, at most once a minute for each database."""
    if _pace.is_due(alias):
        logger.error(
            "Changes of database %r are not captured: subscriptions miss them.",
            alias,
            exc_info=True,
        )
