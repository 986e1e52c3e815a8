"""
Empty the tables after a transactional test.

Django's own way, `flush`, truncates every table and then makes content types and permissions once
more: 60 ms on SQLite and 230 ms on PostgreSQL for each of some two thousand tests. Here only the
tables that have rows are emptied, what `migrate` wrote stays, and the triggers are compared with
what they should be only if the test has changed a table or a trigger.
"""

from __future__ import annotations

from django.apps import apps
from django.core.management import call_command
from django.db import connections, transaction
from django.test import TransactionTestCase

from rest_channels.live import catalogue
from rest_channels.live.capture import coverage, triggers
from rest_channels.live.log import store

# Tables that `migrate` writes to. After a test that leaves other rows there, they are flushed.
_MADE_BY_MIGRATE = {"django_content_type", "auth_permission"}

# By database: how many rows those tables have, and their highest keys.
_made: dict[str, list[tuple[int, int]]] = {}

# The tables and triggers of each database, as `migrate` left them.
_schemas: dict[str, list[tuple[str, ...]]] = {}
_covered: dict[str, frozenset[str]] = {}

_SCHEMA_QUERIES = {
    "sqlite": "SELECT name, coalesce(sql, '') FROM sqlite_master ORDER BY name",
    "postgresql": """
        SELECT nspname, relname, coalesce(tgname, ''), coalesce(tgenabled::text, '')
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
             LEFT JOIN pg_trigger ON tgrelid = pg_class.oid AND NOT tgisinternal
        WHERE relkind IN ('r', 'p') AND NOT starts_with(nspname, 'pg_') ORDER BY 1, 2, 3
    """,
}


def remember(alias: str) -> None:
    """Note what `migrate` wrote and made, before the first test."""
    _made[alias] = _rows_made_by_migrate(alias)
    if connections[alias].vendor in _SCHEMA_QUERIES:
        _schemas[alias] = _schema(alias)
        _covered[alias] = coverage.look(alias)


def empty_tables(alias: str) -> None:
    """Leave `alias` as a `flush` would: no rows but those of `migrate`, the log begun again."""
    if _made.get(alias) != _rows_made_by_migrate(alias):
        call_command("flush", verbosity=0, interactive=False, database=alias, reset_sequences=False)
        _made[alias] = _rows_made_by_migrate(alias)
        return
    connection = connections[alias]
    quote = connection.ops.quote_name
    with transaction.atomic(alias), connection.cursor() as cursor:
        # Foreign keys wait for the commit. The second round removes what triggers wrote.
        for _ in range(2):
            for table in tables_with_rows(alias):
                cursor.execute(f"DELETE FROM {quote(table)}")
    catalogue.forget()
    if alias in _schemas and _schema(alias) == _schemas[alias]:
        store.forget_tables()
        coverage._covered = {alias: _covered[alias]}
    else:
        triggers.on_post_migrate(apps.get_app_config("rest_channels"), alias)


def _schema(alias: str) -> list[tuple[str, ...]]:
    """Return the names of tables and triggers; those of triggers are hashes of what they do."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(_SCHEMA_QUERIES[connection.vendor])
        return cursor.fetchall()


def _empty_databases(test_case: TransactionTestCase) -> None:
    """Stand in for the teardown of `TransactionTestCase`."""
    for alias in test_case._databases_names(include_mirrors=False):
        empty_tables(alias)


TransactionTestCase._fixture_teardown = _empty_databases


def tables_with_rows(alias: str) -> list[str]:
    """Return the names of the tables that have rows, but for those that `migrate` fills."""
    connection = connections[alias]
    quote = connection.ops.quote_name
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    with connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(
                f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {quote(name)})"
                for name in names
                if name not in _MADE_BY_MIGRATE
            )
        )
        return [name for (name,) in cursor.fetchall()]


def _rows_made_by_migrate(alias: str) -> list[tuple[int, int]]:
    connection = connections[alias]
    found = []
    with connection.cursor() as cursor:
        for table in sorted(_MADE_BY_MIGRATE & set(connection.introspection.table_names(cursor))):
            cursor.execute(f"SELECT count(*), coalesce(max(id), 0) FROM {table}")
            found.append(cursor.fetchone())
    return found
