"""
Triggers for PostgreSQL: one INSERT a statement, from the rows that it wrote.

For each table a function, and a trigger for each of INSERT, UPDATE, DELETE and TRUNCATE. It runs
with the rights of who migrates (SECURITY DEFINER), so that whoever may write to a table needs none
on the log's; with a search path of its own, so that nobody can give it other operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.conf import settings

from rest_channels.live import capture, log
from rest_channels.live.triggers.tables import (
    PREFIX,
    Definition,
    Key,
    Table,
    kind_of,
    named,
    quoted,
)

_TRIGGERS: Final = {
    "insert": "REFERENCING NEW TABLE AS new_rows",
    "update": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "delete": "REFERENCING OLD TABLE AS old_rows",
    "truncate": "",
}

# The block with an EXCEPTION is a savepoint: what fails in it leaves the writer's transaction
# usable. Numbers of rows are looked at first, for of many rows the keys need not be read.
_FUNCTION: Final = """
CREATE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $rest_channels$
#variable_conflict use_column
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM FROM new_rows OFFSET {max_rows} LIMIT 1;
    IF FOUND THEN
      {table_changed};
    ELSE
      {inserted};
    END IF;
  ELSIF TG_OP = 'UPDATE' THEN
    PERFORM FROM new_rows OFFSET {max_rows} LIMIT 1;
    IF FOUND THEN
      {table_changed};
    ELSE
      {updated};
    END IF;
  ELSIF TG_OP = 'DELETE' THEN
    PERFORM FROM old_rows OFFSET {max_rows} LIMIT 1;
    IF FOUND THEN
      {table_changed};
    ELSE
      {deleted};
    END IF;
  ELSE
    {table_changed};
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  BEGIN
    {table_changed};
  EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'rest_channels: changes of % are not captured: %', TG_RELID::regclass, SQLERRM;
  END;
  RETURN NULL;
END
$rest_channels$
"""

# What partitions, views and tables elsewhere are written to is told by no transition table.
_TABLES: Final = """
SELECT wanted.name, format('%%I.%%I', nspname, relname),
       array(SELECT attname::text FROM pg_attribute
             WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped)
FROM unnest(%s::text[]) AS wanted(name)
JOIN pg_class ON pg_class.oid = to_regclass(wanted.name)
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p')
"""

_UNKNOWN: Final = "NULL::text"

# The schema of the log's tables, of several that may have the same.
_SCHEMA: Final = """
SELECT nspname FROM pg_namespace
WHERE oid = coalesce((SELECT relnamespace FROM pg_class WHERE oid = to_regclass(%s)),
                     to_regnamespace(quote_ident(current_schema())))
"""

_INSTALLED: Final = """
SELECT proname, (SELECT count(*) FROM pg_trigger
                 WHERE tgfoid = pg_proc.oid AND tgenabled IN ('O', 'A'))
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE starts_with(proname, %s) AND nspname = %s
"""


def definitions(connection: Any, tables: Sequence[Table]) -> Iterator[Definition]:
    """The triggers of those of `tables` that are there."""
    quote = connection.ops.quote_name
    schema = quote(_schema(connection))
    writing = _Writing(connection, f"{schema}.{_pending(connection)}")
    names = [quote(table.name) for table in tables]
    with connection.cursor() as cursor:
        cursor.execute(_TABLES, [names])
        found = {name: (full, set(columns)) for name, full, columns in cursor.fetchall()}
    for table, name in zip(tables, names, strict=True):
        if name in found:
            full, columns = found[name]
            yield _definition(writing, table, full, columns, schema)


def _definition(
    writing: _Writing, table: Table, full: str, columns: set[str], schema: str
) -> Definition:
    parts = {
        "max_rows": str(capture.MAX_ROWS),
        "table_changed": writing.table_changed(table),
        "inserted": writing.rows(table, columns, "new_rows", "create"),
        "updated": writing.updated_rows(table, columns),
        "deleted": writing.rows(table, columns, "old_rows", "delete"),
    }
    name = named([_FUNCTION, _TRIGGERS, parts, full, schema])
    function = parts["function"] = f'{schema}."{name}"'
    triggers = [
        f'CREATE TRIGGER "{name}_{event}" AFTER {event.upper()} ON {full} {referencing} '
        f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        for event, referencing in _TRIGGERS.items()
    ]
    return Definition(
        label=table.model._meta.label,
        name=name,
        count=len(triggers),
        statements=(
            _FUNCTION.format_map(parts),
            # To write a trigger with it, for one's own table, would be to ring at others' doors.
            f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
            *triggers,
        ),
        markers=(writing.table_changed(table),),
    )


class _Writing:
    """Statements that note changes."""

    def __init__(self, connection: Any, pending: str) -> None:
        self._quote = connection.ops.quote_name
        self._zone = connection.timezone_name
        self._insert = (
            f"INSERT INTO {pending} (model, key, kind, fields, created_at, transaction) "
            "SELECT changed.model, changed.key, changed.kind, NULL, clock_timestamp(), "
            "pg_current_xact_id()::text::bigint FROM ({}) AS changed(model, key, kind)"
        )

    def table_changed(self, table: Table) -> str:
        values = ", ".join(
            f"({quoted(label)}, NULL::text, 'update')" for label in _labels(table.keys)
        )
        return self._insert.format(f"VALUES {values}")

    def rows(self, table: Table, columns: set[str], source: str, kind: str) -> str:
        """Those of the transition table `source`: its own, and those of both sides."""
        selects = [
            f"SELECT {'' if key is table.own and key.column else 'DISTINCT '}{quoted(key.label)}, "
            f"{self._key(key, columns)}, '{table.kind(key, kind)}' FROM {source}"
            for key in table.keys
        ]
        return self._insert.format(" UNION ALL ".join(selects))

    def updated_rows(self, table: Table, columns: set[str]) -> str:
        """A row that has another key now is one that is gone, and one that is new."""
        selects = [
            f"SELECT DISTINCT {quoted(key.label)}, {_UNKNOWN}, 'update' FROM new_rows"
            # Those of a model of the project's own say more than what they are between.
            for key in (table.sides if table.model._meta.auto_created else ())
        ]
        if (own := table.own) is not None:
            key = self._key(own, columns)
            if key == _UNKNOWN:
                what = f"SELECT DISTINCT {quoted(own.label)}, {key}, 'update' FROM new_rows"
            else:
                kind, rows = _paired(self._quote(own.column))
                what = f"SELECT {quoted(own.label)}, {key}, {kind} FROM {rows}"
            selects.append(what)
        return self._insert.format(" UNION ALL ".join(selects)) if selects else "NULL"

    def _key(self, key: Key, columns: set[str]) -> str:
        """As `capture.key_of` writes it."""
        kind = kind_of(key.field)
        if key.column is None or key.column not in columns:
            return _UNKNOWN
        value = self._quote(key.column)
        match kind:
            case "integer" | "uuid" | "text":
                return f"{value}::text"
            case "date":
                # Python has neither infinity nor years of more digits.
                return f"CASE WHEN {_within(value)} THEN to_char({value}, 'YYYY-MM-DD') END"
            case "datetime" if not settings.USE_TZ or self._zone == "UTC":
                local = f"({value} AT TIME ZONE {quoted(self._zone)})"
                offset = "+00:00" if settings.USE_TZ else ""
                return (
                    f"CASE WHEN {_within(local)} THEN to_char({local}, 'YYYY-MM-DD HH24:MI:SS') "
                    f"|| CASE to_char({local}, 'US') WHEN '000000' THEN '' "
                    f"ELSE to_char({local}, '.US') END || '{offset}' END"
                )
        return _UNKNOWN


def _paired(column: str) -> tuple[str, str]:
    """What happened to a row, and the rows before and after, as far as they have the same key."""
    kind = (
        "CASE WHEN old_key IS NULL THEN 'create' WHEN new_key IS NULL THEN 'delete' "
        "ELSE 'update' END"
    )
    rows = (
        f"(SELECT coalesce(new_rows.{column}, old_rows.{column}) AS {column}, "
        f"new_rows.{column} AS new_key, old_rows.{column} AS old_key "
        f"FROM new_rows FULL JOIN old_rows ON new_rows.{column} = old_rows.{column}) AS paired"
    )
    return kind, rows


def _within(value: str) -> str:
    return f"{value} >= '0001-01-01' AND {value} < '10000-01-01'"


def _labels(keys: Sequence[Key]) -> list[str]:
    return list(dict.fromkeys(key.label for key in keys))


def installed(connection: Any) -> dict[str, int]:
    """The names that are there, and how many triggers of each do their work."""
    with connection.cursor() as cursor:
        cursor.execute(_INSTALLED, [PREFIX, _schema(connection)])
        return dict(cursor.fetchall())


def dropping(connection: Any, name: str) -> list[str]:
    """Statements that remove the function `name` and its triggers."""
    schema = connection.ops.quote_name(_schema(connection))
    return [f'DROP FUNCTION IF EXISTS {schema}."{name}"() CASCADE']


def _pending(connection: Any) -> str:
    pending = log.pending(connection.alias).model
    return str(connection.ops.quote_name(pending._meta.db_table))


def _schema(connection: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute(_SCHEMA, [_pending(connection)])
        return str(cursor.fetchone()[0])
