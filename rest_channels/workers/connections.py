"""
Database connections that outlive a frame, in this package's threads.

If `CONN_MAX_AGE` is 0, the default, Django closes a connection after each request, because a server
may have many threads and leave each idle for hours. A pool's threads are few and busy, so they keep
their connections for `CONNECTION_SECONDS`. Django's own code still closes them; it finds a later
`close_at`.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakSet

from django.db import connections
from django.db.backends.signals import connection_created

from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels")

# Seconds after which the next query first checks that the connection still works. A server that
# ends one reports it at once; this check finds those that a firewall has dropped silently.
_SECONDS_BETWEEN_CHECKS: Final = 5


# libpq's PQTRANS_ACTIVE: a query is running.
_ACTIVE: Final = 1

#: All connections of this process, as long as their threads have them.
_opened: WeakSet[Any] = WeakSet()
_opened_lock: Final = threading.Lock()


class _Kept(threading.local):
    """The state that one thread keeps of its connections."""

    def __init__(self) -> None:
        #: Whether this thread runs a job of a pool.
        self.is_at_work = False
        #: When each database was last known to answer.
        self.checked_at: dict[str, float] = {}
        #: All connections the thread has opened, also to databases removed from the settings.
        self.opened: WeakSet[Any] = WeakSet()


_kept = _Kept()


@contextmanager
def kept_connections(begun: Iterable[Any]) -> Iterator[None]:
    """
    Let connections made within outlive it; close those that are too old or broken.

    `begun` are the thread's connections; the caller lists them, because a list takes longer than
    what is done with it here.
    """
    _kept.is_at_work = True
    for connection in begun:
        _close_if_old(connection)
        if _is_ours(connection):
            _expect_health(connection)
    try:
        yield
    finally:
        # Not `begun`: meanwhile, code may have replaced one.
        for connection in connections.all(initialized_only=True):
            if _is_ours(connection) and connection.health_check_done:
                _kept.checked_at.setdefault(connection.alias, time.monotonic())
            _close_if_old(connection)
        _kept.is_at_work = False


def close_old_connections() -> None:
    """
    Call Django's function of that name, for connections outside a transaction.

    Django calls it at the beginning and end of a request (CONN_MAX_AGE, broken connections). Only a
    test runs within a transaction.
    """
    for connection in connections.all(initialized_only=True):
        _close_if_old(connection)


def close_idle_connections() -> float | None:
    """
    Close connections that this thread has kept long enough; for an idle thread.

    Returns the seconds after which to call it again, None for never.
    """
    now = time.monotonic()
    due = []
    for connection in _opened_here():
        if connection.in_atomic_block:
            continue
        if connection.close_at is not None and now >= connection.close_at:
            connection.close()
        elif connection.close_at is not None:
            due.append(connection.close_at - now)
    return min(due, default=None)


def close_all_connections() -> None:
    """Close all connections of this thread, before it ends."""
    for connection in _opened_here():
        connection.close()


def close_connections_to(alias: str) -> None:
    """
    Close other threads' connections to a database that is about to be dropped.

    They are asgiref's threads, or a project's own. A connection that is executing a query is left
    to its thread.
    """
    with _opened_lock:
        opened = list(_opened)
    for connection in opened:
        if connection.alias != alias or connection.connection is None or _is_answering(connection):
            continue
        connection.inc_thread_sharing()
        try:
            connection.close()
        finally:
            connection.dec_thread_sharing()


def _is_answering(connection: Any) -> bool:
    info = getattr(connection.connection, "info", None)
    status = getattr(info, "transaction_status", None)
    return status is not None and int(status) == _ACTIVE


def _close_if_old(connection: Any) -> None:
    if not connection.in_atomic_block:
        try:
            connection.close_if_unusable_or_obsolete()
        except Exception:
            # A test runner may forbid the check. The next query makes another connection.
            connection.close()


def _opened_here() -> list[Any]:
    """
    Return the connections that this thread has opened and alone uses.

    Django's `connections.all()` omits those to databases that were removed from the settings.
    """
    return [
        connection
        for connection in _kept.opened
        if connection.connection is not None and not connection.allow_thread_sharing
    ]


def _is_ours(connection: Any) -> bool:
    """Return whether `connection`, one of this thread's, is open and outside a transaction."""
    return connection.connection is not None and not connection.in_atomic_block


def _on_created(sender: Any, connection: Any, **kwargs: Any) -> None:
    """Prolong a new connection of a pool's thread."""
    with _opened_lock:
        _opened.add(connection)
    _kept.opened.add(connection)
    seconds = float(socket_settings.CONNECTION_SECONDS)
    if not (_kept.is_at_work and seconds) or is_pooled(connection.settings_dict):
        return
    if connection.close_at is not None:
        connection.close_at = max(connection.close_at, time.monotonic() + seconds)
    # A file of SQLite's does not go away.
    connection.health_check_enabled |= connection.vendor != "sqlite"
    _kept.checked_at[connection.alias] = time.monotonic()


def _expect_health(connection: Any) -> None:
    """
    Have Django check the connection before the next query, if it may be broken.

    With CONN_HEALTH_CHECKS, Django checks it in any case.
    """
    if connection.settings_dict["CONN_HEALTH_CHECKS"] or not connection.health_check_enabled:
        return
    checked_at = _kept.checked_at.get(connection.alias, 0.0)
    is_doubtful = time.monotonic() - checked_at >= _SECONDS_BETWEEN_CHECKS
    if is_doubtful or _has_news(connection.connection):
        # Set again once Django has checked.
        _kept.checked_at.pop(connection.alias, None)
    else:
        connection.health_check_done = True


def _has_news(driver: Any) -> bool:
    """
    Return whether the server has sent an unrequested message, most likely its shutdown notice.

    Reading the socket takes a microsecond, a query to the server a hundred.
    """
    fileno = getattr(driver, "fileno", None)
    if fileno is None or not hasattr(select, "poll"):
        return False
    try:
        waiting = select.poll()
        waiting.register(fileno(), select.POLLIN)
        return bool(waiting.poll(0))
    except Exception:
        # The driver of a closed connection reports no socket.
        return True


def is_pooled(database: Any) -> bool:
    """Return whether connections go back to a pool of the driver's, which others wait for."""
    return bool(database["OPTIONS"].get("pool"))


def connect() -> None:
    """Connect the signal, once the apps are ready."""
    connection_created.connect(_on_created, dispatch_uid="rest_channels.workers.connections")
