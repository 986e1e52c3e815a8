"""Open the transactions that read the log and append to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction


@contextmanager
def snapshot(alias: str) -> Iterator[None]:
    """
    Read everything within from one snapshot of the database.

    The transaction is REPEATABLE READ, or the one that a test has already begun.
    """
    connection: Any = connections[alias]
    if connection.in_atomic_block:
        # This savepoint undoes session state too, if the pass is abandoned.
        with transaction.atomic(using=alias):
            yield
        return
    # Connecting reads the settings, which would undo the following changes.
    connection.ensure_connection()
    # On SQLite, reads must not wait for writers or make them wait, whatever the project's
    # `transaction_mode`.
    mode = getattr(connection, "transaction_mode", None)
    if connection.vendor == "sqlite":
        connection.transaction_mode = "DEFERRED"
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            # For the next transaction alone.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    try:
        with _isolated(connection, "REPEATABLE_READ"), transaction.atomic(using=alias):
            yield
    finally:
        if connection.vendor == "sqlite":
            connection.transaction_mode = mode


@contextmanager
def turn(alias: str) -> Iterator[None]:
    """
    Open the transaction that numbers pending changes.

    After waiting for the head, it must see what the process before it did: so it is READ COMMITTED,
    whatever the project's isolation.
    """
    connection: Any = connections[alias]
    connection.ensure_connection()
    # `durable` would be right, but tests run in a transaction.
    with _isolated(connection, "READ_COMMITTED"), transaction.atomic(using=alias):
        yield


@contextmanager
def _isolated(connection: Any, level: str) -> Iterator[None]:
    """
    Set the isolation level of the next transaction on PostgreSQL, if none has begun.

    The driver sends it with the BEGIN; SET TRANSACTION would take another trip to the server.
    """
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield
        return
    from django.db.backends.postgresql.psycopg_any import IsolationLevel  # needs the driver

    driver = connection.connection
    # psycopg raises an error of its own if the connection is lost.
    with connection.wrap_database_errors:
        before, driver.isolation_level = driver.isolation_level, IsolationLevel[level]
    try:
        yield
    finally:
        if not driver.closed:
            driver.isolation_level = before
