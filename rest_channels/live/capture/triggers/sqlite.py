"""
Triggers for SQLite: one INSERT for each row.

Their statements must not fail, because SQLite cannot catch an error in a trigger: an invalid key is
recorded as NULL, and the triggers use only columns that the table has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.conf import settings

from rest_channels.live.capture.triggers.tables import (
    PREFIX,
    Definition,
    Key,
    Table,
    named,
    quoted,
)
from rest_channels.live.keys import kind_of
from rest_channels.live.log import store

_TABLES: Final = """
SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL %'
"""

_INSTALLED: Final = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name GLOB %s"

_DATE: Final = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_SECOND: Final = f"{_DATE} [0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
_FRACTION: Final = ".[0-9][0-9][0-9][0-9][0-9][0-9]"


def definitions(connection: Any, tables: Sequence[Table]) -> Iterator[Definition]:
    """Yield the triggers of those `tables` that exist."""
    writing = _Writing(connection)
    with connection.cursor() as cursor:
        cursor.execute(_TABLES)
        there = {name for (name,) in cursor.fetchall()}
        for table in tables:
            if table.name in there:
                cursor.execute("SELECT name FROM pragma_table_info(%s)", [table.name])
                yield _definition(writing, table, {name for (name,) in cursor.fetchall()})


def granting(connection: Any, definition: Definition) -> list[str]:
    """Return no statements: SQLite has no rights to grant."""
    return []


def _definition(writing: _Writing, table: Table, columns: set[str]) -> Definition:
    on = writing.quote(table.name)
    triggers = {
        "insert": f"INSERT ON {on} BEGIN {writing.rows(table, columns, 'NEW', 'create')}; END",
        "delete": f"DELETE ON {on} BEGIN {writing.rows(table, columns, 'OLD', 'delete')}; END",
        **{
            event: f"UPDATE ON {on} {when}BEGIN {statement}; END"
            for event, when, statement in _updates(writing, table, columns)
        },
    }
    name = named(["sqlite", triggers])
    return Definition(
        label=table.model._meta.label,
        name=name,
        count=len(triggers),
        statements=tuple(
            f'CREATE TRIGGER "{name}_{event}" AFTER {rest}' for event, rest in triggers.items()
        ),
        markers=(writing.table_changed(table),),
    )


def _updates(writing: _Writing, table: Table, columns: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the triggers for UPDATE: their names, conditions and statements."""
    own = table.own
    if table.model._meta.auto_created:
        yield "update", "", writing.table_changed(table)
    elif own is not None and own.column in columns:
        column = writing.quote(own.column)
        same = writing.row(own, columns, "NEW", "update")
        yield "update", f"WHEN NEW.{column} IS OLD.{column} ", writing.insert([same])
        # A row whose key changed is a deletion and a creation.
        gone = writing.row(own, columns, "OLD", "delete")
        new = writing.row(own, columns, "NEW", "create")
        yield "move", f"WHEN NEW.{column} IS NOT OLD.{column} ", writing.insert([gone, new])
    elif own is not None:
        yield "update", "", writing.insert([writing.row(own, columns, "NEW", "update")])


class _Writing:
    """Statements that record changes."""

    def __init__(self, connection: Any) -> None:
        self.quote = connection.ops.quote_name
        self._zone = connection.timezone_name
        self._pending = self.quote(store.pending(connection.alias).model._meta.db_table)

    def insert(self, rows: Sequence[str]) -> str:
        # In the form that Django reads; the same for all rows of one statement. In whole seconds,
        # because a fraction would cost as much as the rest of the trigger.
        now = "CURRENT_TIMESTAMP" if settings.USE_TZ else "datetime('now', 'localtime')"
        values = ", ".join(f"({row}, NULL, {now}, NULL)" for row in rows)
        columns = 'model, "key", kind, fields, created_at, "transaction"'
        return f"INSERT INTO {self._pending} ({columns}) VALUES {values}"

    def table_changed(self, table: Table) -> str:
        labels = dict.fromkeys(key.label for key in table.keys)
        return self.insert([f"{quoted(label)}, NULL, 'update'" for label in labels])

    def rows(self, table: Table, columns: set[str], source: str, kind: str) -> str:
        """Return SQL that records the row `source` (NEW or OLD), and the rows of both sides."""
        return self.insert(
            [self.row(key, columns, source, table.kind(key, kind)) for key in table.keys]
        )

    def row(self, key: Key, columns: set[str], source: str, kind: str) -> str:
        return f"{quoted(key.label)}, {self._key(key, columns, source)}, '{kind}'"

    def _key(self, key: Key, columns: set[str], source: str) -> str:
        """Return SQL that writes a key as `keys.key_of` does."""
        if key.column is None or key.column not in columns:
            return "NULL"
        value = f"{source}.{self.quote(key.column)}"
        match kind_of(key.field):
            case "integer":
                return f"CASE typeof({value}) WHEN 'integer' THEN CAST({value} AS TEXT) END"
            case "text":
                return f"CASE typeof({value}) WHEN 'text' THEN {value} END"
            case "decimal":
                # Kinds are those of fields: there is one.
                digits: int = key.field.decimal_places  # type: ignore[union-attr]
                # A float does not hold more digits.
                is_exact = (
                    f"typeof({value}) IN ('integer', 'real') AND abs({value}) < 1e{15 - digits}"
                )
                text = f"printf('%.{digits}f', round({value}, {digits}) + 0.0)"
                return f"CASE WHEN {is_exact} THEN {text} END"
            case "binary":
                return f"CASE typeof({value}) WHEN 'blob' THEN lower(hex({value})) END"
            case "uuid":
                places = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
                parts = " || '-' || ".join(f"substr({value}, {at}, {n})" for at, n in places)
                is_hex = f"length({value}) = 32 AND {value} NOT GLOB '*[^0-9a-fA-F]*'"
                return f"CASE WHEN {is_hex} THEN lower({parts}) END"
            case "date":
                return f"CASE WHEN {value} GLOB '{_DATE}' THEN {value} END"
            case "datetime" if not settings.USE_TZ or self._zone == "UTC":
                is_whole = f"{value} GLOB '{_SECOND}'"
                has_more = f"{value} GLOB '{_SECOND}{_FRACTION}' AND {value} NOT GLOB '*.000000'"
                offset = "+00:00" if settings.USE_TZ else ""
                return f"CASE WHEN {is_whole} OR ({has_more}) THEN {value} || '{offset}' END"
        return "NULL"


def installed(connection: Any) -> dict[str, int]:
    """Return the installed names, each with its number of triggers."""
    with connection.cursor() as cursor:
        cursor.execute(_INSTALLED, [f"{PREFIX}*"])
        return Counter(name.rpartition("_")[0] for (name,) in cursor.fetchall())


def ambiguous(connection: Any, tables: Sequence[str]) -> set[str]:
    """Return an empty set: SQLite has one table of each name."""
    return set()


def dropping(connection: Any, name: str) -> list[str]:
    """Return statements that remove the triggers of the definition `name`."""
    return [
        f'DROP TRIGGER IF EXISTS "{name}_{event}"'
        for event in ("insert", "update", "move", "delete")
    ]
