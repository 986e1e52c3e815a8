"""
Triggers for PostgreSQL: one INSERT for each statement, from the rows that it wrote.

Each table has a function, and a trigger for each of INSERT, UPDATE, DELETE and TRUNCATE. The
function runs with the rights of the role that migrates (SECURITY DEFINER), so that writers of a
table need no rights on the log's tables. It sets a search path of its own, so that other roles
cannot substitute operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.apps import apps
from django.conf import settings

from rest_channels.live.capture import writes
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

_TRIGGERS: Final = {
    "insert": "REFERENCING NEW TABLE AS new_rows",
    "update": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "delete": "REFERENCING OLD TABLE AS old_rows",
    "truncate": "",
}

# The block with an EXCEPTION is a savepoint: an error in it leaves the writer's transaction usable.
# The number of rows is tested first, because the keys of too many rows need not be read.
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

# Transition tables do not cover writes to partitions, views and foreign tables.
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

# The schema of the log's tables, because several schemas may have tables of these names.
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


# If several schemas have a table, some may lack triggers, or a log.
_OF_SEVERAL_SCHEMAS: Final = """
SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relname = ANY(%s) AND relkind IN ('r', 'p')
      AND NOT starts_with(nspname, 'pg_') AND nspname <> 'information_schema'
GROUP BY relname HAVING count(*) > 1
"""


def definitions(connection: Any, tables: Sequence[Table]) -> Iterator[Definition]:
    """Yield the triggers of those `tables` that exist."""
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


_RIGHTS: Final = """
SELECT quote_ident(current_user::text), has_schema_privilege(%s, 'CREATE'),
       has_table_privilege(%s, 'TRIGGER')
"""


def granting(connection: Any, definition: Definition) -> list[str]:
    """Return the statements that would let this role install the triggers of `definition`."""
    schema = _schema(connection)
    table = connection.ops.quote_name(apps.get_model(definition.label)._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(_RIGHTS, [schema, table])
        role, may_create, may_trigger = cursor.fetchone()
    statements = []
    if not may_create:
        statements.append(f"GRANT CREATE ON SCHEMA {connection.ops.quote_name(schema)} TO {role}")
    if not may_trigger:
        statements.append(f"GRANT TRIGGER ON TABLE {table} TO {role}")
    return statements


def _definition(
    writing: _Writing, table: Table, full: str, columns: set[str], schema: str
) -> Definition:
    parts = {
        "max_rows": str(writes.MAX_ROWS),
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
            # Otherwise other roles could use it in triggers of their tables and ring this project's
            # doorbell.
            f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
            *triggers,
        ),
        markers=(writing.table_changed(table),),
    )


class _Writing:
    """Statements that record changes."""

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
        """
        Return SQL that records the rows of the transition table `source`, and those of both sides.
        """
        selects = [
            f"SELECT {'' if key is table.own and key.column else 'DISTINCT '}{quoted(key.label)}, "
            f"{self._key(key, columns)}, '{table.kind(key, kind)}' FROM {source}"
            for key in table.keys
        ]
        return self._insert.format(" UNION ALL ".join(selects))

    def updated_rows(self, table: Table, columns: set[str]) -> str:
        """
        Return SQL that records updated rows; a row whose key changed is a deletion and a creation.
        """
        selects = [
            f"SELECT DISTINCT {quoted(key.label)}, {_UNKNOWN}, 'update' FROM new_rows"
            # Rows of a project's own `through` model have changes of their own.
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
        """Return SQL that writes a key as `keys.key_of` does."""
        kind = kind_of(key.field)
        if key.column is None or key.column not in columns:
            return _UNKNOWN
        value = self._quote(key.column)
        match kind:
            case "integer" | "uuid" | "text":
                return f"{value}::text"
            case "date":
                # Python has no infinite dates and no years of more than four digits.
                return f"CASE WHEN {_within(value)} THEN to_char({value}, 'YYYY-MM-DD') END"
            case "decimal":
                # Kinds are those of fields: there is one.
                digits: int = key.field.decimal_places  # type: ignore[union-attr]
                return f"round({value}, {digits})::text"
            case "binary":
                return f"encode({value}, 'hex')"
            case "datetime":
                zone = "UTC" if settings.USE_TZ else self._zone
                local = f"({value} AT TIME ZONE {quoted(zone)})"
                offset = "+00:00" if settings.USE_TZ else ""
                return (
                    f"CASE WHEN {_within(local)} THEN to_char({local}, 'YYYY-MM-DD HH24:MI:SS') "
                    f"|| CASE to_char({local}, 'US') WHEN '000000' THEN '' "
                    f"ELSE to_char({local}, '.US') END || '{offset}' END"
                )
        return _UNKNOWN


def _paired(column: str) -> tuple[str, str]:
    """Return SQL for the kind of change, and for rows before and after paired by their key."""
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
    """Return the installed names, each with its number of enabled triggers."""
    with connection.cursor() as cursor:
        cursor.execute(_INSTALLED, [PREFIX, _schema(connection)])
        return dict(cursor.fetchall())


def ambiguous(connection: Any, tables: Sequence[str]) -> set[str]:
    """Return those `tables` that a session's search path may find in several schemas."""
    names = {_unqualified(table): table for table in tables}
    with connection.cursor() as cursor:
        cursor.execute(_OF_SEVERAL_SCHEMAS, [list(names)])
        return {names[name] for (name,) in cursor.fetchall()}


def dropping(connection: Any, name: str) -> list[str]:
    """Return statements that remove the function `name` and its triggers."""
    schema = connection.ops.quote_name(_schema(connection))
    return [f'DROP FUNCTION IF EXISTS {schema}."{name}"() CASCADE']


def _unqualified(table: str) -> str:
    """Return the name of `table` without the schema that `db_table` may hold: `a"."b`."""
    return table.strip('"').rpartition('"."')[2]


def _pending(connection: Any) -> str:
    pending = store.pending(connection.alias).model
    return str(connection.ops.quote_name(pending._meta.db_table))


def _schema(connection: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute(_SCHEMA, [_pending(connection)])
        return str(cursor.fetchone()[0])
