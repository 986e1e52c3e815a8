"""
A save and its note in one statement, where PostgreSQL commits each statement by itself.

    WITH written AS (UPDATE ... RETURNING 1), noted AS (INSERT INTO ... SELECT ... FROM written)
    SELECT 1 FROM written

Otherwise a save in autocommit mode would take four trips to the server in place of one: to begin,
to save, to note, to commit. The two are there together or not at all, and the row is locked before
the note draws its number, as in a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import django
from django.db import DatabaseError, DataError, IntegrityError, connections, models, transaction
from django.db.models.fields import NOT_PROVIDED, AutoFieldMixin

from rest_channels.live import capture, log
from rest_channels.live.capture import Write
from rest_channels.live.log import Kind

# From Django 6.0 on an UPDATE may have a RETURNING of its own.
_KNOWS_STATEMENTS: Final = django.VERSION < (6, 0)

_WRITTEN: Final = "rest_channels_written"


def can_join(alias: str, model: type[models.Model]) -> bool:
    """Whether a save of `model` would be met by one statement, committed by itself."""
    connection: Any = connections[alias]
    key: Any = model._meta.pk
    return bool(
        _KNOWS_STATEMENTS
        and connection.vendor == "postgresql"
        and not connection.in_atomic_block
        and connection.get_autocommit()
        and not connection.settings_dict.get("OPTIONS", {}).get("server_side_binding")
        and key.db_default is NOT_PROVIDED
        and log.is_installed(alias)
    )


class Joined:
    """
    Notes what a save of `instance` writes to the table of `model`; a context manager, within which
    the save is made.

    What goes wrong with the note is logged, and the save is made without. The save's own errors
    are raised as ever.
    """

    def __init__(
        self,
        alias: str,
        instance: models.Model,
        model: type[models.Model],
        fields: Iterable[str] | None,
    ) -> None:
        self.alias = alias
        self._connection: Any = connections[alias]
        self._instance = instance
        self._model = model
        self._fields = fields
        table = self._connection.ops.quote_name(model._meta.db_table)
        self._beginnings = {
            f"UPDATE {table} SET ": Kind.UPDATE,
            f"INSERT INTO {table} (": Kind.CREATE,
        }
        self._has_noted = False

    def __enter__(self) -> None:
        # Of saves within one another each statement is that of the innermost.
        self._outer = getattr(self._connection, "rest_channels_joined", None)
        self._connection.rest_channels_joined = self
        self._connection.execute_wrappers.append(self._execute)

    def __exit__(self, *exc_info: object) -> None:
        self._connection.execute_wrappers.remove(self._execute)
        self._connection.rest_channels_joined = self._outer
        if self._has_noted:
            # Committed, whatever came after it.
            capture.ring_after_commit(self.alias)

    def _execute(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        kind = self._kind_of(sql)
        if kind is None or many:
            return execute(sql, params, many, context)
        try:
            joined, more = self._join(sql, kind)
            result = execute(joined, (*(params or ()), *more), many, context)
        except (IntegrityError, DataError):
            # Of the row: a note has nothing that could be refused so.
            raise
        except DatabaseError:
            if not self._connection.is_usable():
                # What became of it is not known.
                raise
            return self._execute_apart(kind, lambda: execute(sql, params, many, context))
        self._has_noted = True
        return result

    def _execute_apart(self, kind: Kind, write: Callable[[], Any]) -> Any:
        """
        Nothing was written: do as in a transaction, whose note may fail by itself. The writer's
        own error comes again, or not, if it was a deadlock, or a lock waited for too long.
        """
        with transaction.atomic(using=self.alias, savepoint=False):
            result = write()
            # A key that the database gave has not been read yet.
            key = capture.key_of(self._model, getattr(self._instance, self._model._meta.pk.attname))
            capture.record(self.alias, Write(self._model, [key], kind, self._fields))
        return result

    def _kind_of(self, sql: str) -> Kind | None:
        connection = self._connection
        if connection.in_atomic_block or connection.rest_channels_joined is not self:
            return None
        for beginning, kind in self._beginnings.items():
            if sql.startswith(beginning):
                return kind
        return None

    def _join(self, sql: str, kind: Kind) -> tuple[str, list[Any]]:
        meta: Any = self._model._meta
        returns = kind is Kind.CREATE and bool(meta.db_returning_fields)
        key: str | None = None
        expression = "%s"
        pk = getattr(self._instance, meta.pk.attname)
        if pk is None and isinstance(meta.pk, AutoFieldMixin):
            # An integer, which is the same text here and there.
            expression = f"{_WRITTEN}.{self._connection.ops.quote_name(meta.pk.column)}::text"
        else:
            key = capture.key_of(self._model, pk)
        insert, (label, _, *rest) = capture.noting(self.alias, self._model, key, kind, self._fields)
        values = ", ".join(["%s", expression, *["%s"] * len(rest), capture.token(self.alias)])
        joined = (
            f"WITH {_WRITTEN} AS ({sql}{'' if returns else ' RETURNING 1'}), "
            f"rest_channels_noted AS ({insert} SELECT {values} FROM {_WRITTEN}) "
            f"SELECT {'*' if returns else '1'} FROM {_WRITTEN}"
        )
        return joined, [label, *([key] if expression == "%s" else []), *rest]
