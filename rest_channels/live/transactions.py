"""
The transactions in which the log is read, and appended to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction


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
        with _isolated(connection, "REPEATABLE_READ"), transaction.atomic(using=alias):
            yield
    finally:
        if connection.vendor == "sqlite":
            connection.transaction_mode = mode


@contextmanager
def turn(alias: str) -> Iterator[None]:
    """
    The transaction of who numbers what is pending. Who waits for the head must see what the one
    before did: READ COMMITTED, whatever the project's isolation.
    """
    connection: Any = connections[alias]
    connection.ensure_connection()
    # `durable` would be right, if it were not for tests in a transaction.
    with _isolated(connection, "READ_COMMITTED"), transaction.atomic(using=alias):
        yield


@contextmanager
def _isolated(connection: Any, level: str) -> Iterator[None]:
    """
    The next transaction on PostgreSQL, if none has begun, is of that isolation. Its driver says so
    as it begins one; SET TRANSACTION would take a trip to the server.
    """
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield
        return
    from django.db.backends.postgresql.psycopg_any import IsolationLevel  # needs the driver

    driver = connection.connection
    before, driver.isolation_level = driver.isolation_level, IsolationLevel[level]
    try:
        yield
    finally:
        if not driver.closed:
            driver.isolation_level = before
