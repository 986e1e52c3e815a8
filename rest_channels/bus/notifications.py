"""Announce writes with PostgreSQL's LISTEN and NOTIFY, without a shared channel layer."""

from __future__ import annotations

import contextlib
import logging
import secrets
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, OperationalError

from rest_channels.bus.bells import Bell, own_connection
from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels")

#: The channel that the processes of one database share.
CHANNEL: Final = "rest_channels"

# The least time between two NOTIFYs of one process (seconds): each is a transaction, and wakes all
# processes.
_SECONDS_BETWEEN_NOTIFIES: Final = 0.005

# How long to wait for the test notification. A pooler in transaction mode never delivers it.
_SECONDS_TO_BE_HEARD: Final = 2

# How often a silent connection is checked, and a database that does not deliver is tried again
# (seconds).
_SECONDS_BETWEEN_CHECKS: Final = 60

# Databases whose missing notifications were logged.
_silent: set[str] = set()


class PostgreSQLBell(Bell):
    """
    A bell that listens while it has followers, and notifies at most every few milliseconds.

    It notifies in a transaction of its own, not the writer's: at commit, NOTIFY takes a lock of the
    whole server.
    """

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._is_listening = False
        self._checked_at: float | None = None
        self._notified_at = 0.0
        self._nonce = secrets.token_hex(8)
        # Notifications that psycopg 3 has read with the answer to a statement: process and text.
        self._read: list[tuple[int, str]] = []

    @property
    def hears_others(self) -> bool:
        return super().hears_others and self._is_listening

    def _work(self) -> None:
        self._is_listening, self._checked_at = False, None
        while not self._has_ended():
            if self._is_told and self._seconds_to_notify() <= 0:
                self._notify()
            if self._ears and self._seconds_to_check() <= 0:
                self._check()
            elif self._is_listening and not self._ears:
                self._execute(f"UNLISTEN {CHANNEL}")
                self._is_listening, self._checked_at = False, None
            if self._is_listening:
                self._receive()
                self._pause(self._seconds(), self._connection.connection.fileno())
            else:
                self._pause(self._seconds())

    def _notify(self) -> None:
        # First, so that the next NOTIFY announces later writes.
        self._is_told = False
        try:
            self._execute(f"NOTIFY {CHANNEL}")
        except (InterfaceError, OperationalError):
            self._is_told = True
            raise
        self._notified_at = time.monotonic()
        with self._lock:
            if not self._is_told:
                self._is_quiet.set()
            if not self._ears:
                seconds = float(socket_settings.CONNECTION_SECONDS)
                self._lingers_until = self._notified_at + seconds

    def _check(self) -> None:
        """Start to listen, or check that the server still answers."""
        if self._is_listening:
            self._execute("SELECT 1")
        else:
            self._listen()
        self._checked_at = time.monotonic()

    def _listen(self) -> None:
        try:
            self._execute(f"LISTEN {CHANNEL}")
        except (InterfaceError, OperationalError):
            raise
        except DatabaseError:
            # A standby, or a server without LISTEN: trying again soon would not help.
            self._be_silent("cannot be received")
            return
        if self._is_heard():
            _silent.discard(self.alias)
            self._is_listening = True
            # No notification has announced earlier writes.
            self._ring()
            return
        if self._is_over:
            return
        # A pooler may hand the server's session to another client.
        self._execute(f"UNLISTEN {CHANNEL}")
        self._be_silent("do not arrive, perhaps because of a pooler in transaction mode")

    def _be_silent(self, reason: str) -> None:
        """Leave it to polling, and log that once."""
        self._connection.close()
        if self.alias not in _silent:
            _silent.add(self.alias)
            logger.warning(
                "Notifications of database %r %s: changes of other processes arrive within "
                "POLL_SECONDS.",
                self.alias,
                reason,
                exc_info=sys.exc_info()[0] is not None,
            )

    def _is_heard(self) -> bool:
        """Return whether a notification of another connection arrives."""
        with contextlib.closing(own_connection(self._connection)) as other:
            other.ensure_connection()
            with other.wrap_database_errors, other.connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, self._nonce])
        until = time.monotonic() + _SECONDS_TO_BE_HEARD
        while not self._is_over and self._nonce not in self._receive():
            if (left := until - time.monotonic()) <= 0:
                return False
            self._pause(left, self._connection.connection.fileno())
        return not self._is_over

    def _receive(self) -> list[str]:
        """Ring if another process has notified; return the texts that have arrived."""
        driver = self._connection.connection
        with self._connection.wrap_database_errors:
            heard = [*self._read, *_arrived(driver)]
            own = driver.info.backend_pid
        self._read.clear()
        # A notification with a text is a connection's test.
        if any(pid != own and not text for pid, text in heard):
            self._ring()
        return [text for _, text in heard]

    def _execute(self, sql: str) -> None:
        # With the driver, because Django would keep each statement's text under DEBUG.
        if self._connection.connection is None:
            self._connect()
        driver = self._connection.connection
        with self._connection.wrap_database_errors, driver.cursor() as cursor:
            cursor.execute(sql)

    def _connect(self) -> None:
        self._connection.connect()
        self._read.clear()
        driver = self._connection.connection
        if hasattr(driver, "add_notify_handler"):
            driver.add_notify_handler(lambda found: self._read.append((found.pid, found.payload)))

    def _seconds(self) -> float:
        """Return how long there is nothing to do unless a notification arrives."""
        if self._is_told:
            return self._seconds_to_notify()
        if self._ears:
            return self._seconds_to_check()
        return self._lingers_until - time.monotonic()

    def _seconds_to_notify(self) -> float:
        return self._notified_at + _SECONDS_BETWEEN_NOTIFIES - time.monotonic()

    def _seconds_to_check(self) -> float:
        if self._checked_at is None:
            return 0.0
        return self._checked_at + _SECONDS_BETWEEN_CHECKS - time.monotonic()


def _arrived(driver: Any) -> Iterator[tuple[int, str]]:
    """Yield the notifications that have arrived, from psycopg 3 or 2: process and text."""
    if isinstance(driver.notifies, list):
        driver.poll()
        while driver.notifies:
            found = driver.notifies.pop(0)
            yield found.pid, found.payload
        return
    driver.pgconn.consume_input()
    while (found := driver.pgconn.notifies()) is not None:
        yield found.be_pid, found.extra.decode()
