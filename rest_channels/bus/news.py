"""
Announce writes through the database itself, for projects without a shared layer.

    listen("default", follower)    # the follower looks when another process has written
    tell("default")                # announces a write of this process; returns immediately

PostgreSQL carries them with LISTEN and NOTIFY; on SQLite, a thread reads `PRAGMA data_version`.
Both may fail: followers also look at intervals (`POLL_SECONDS`).
"""

from __future__ import annotations

import multiprocessing.util
import os
import threading
from typing import Any

from django.db import connections

from rest_channels.bus.bells import Bell, Ear, SQLiteBell
from rest_channels.bus.notifications import PostgreSQLBell
from rest_channels.settings import socket_settings
from rest_channels.workers.threads import before_dropping

_BELLS: dict[str, type[Bell]] = {"postgresql": PostgreSQLBell, "sqlite": SQLiteBell}

_lock = threading.Lock()
# By database.
_bells: dict[str, Bell] = {}
# Kept in a forked child, because their connections are the parent's and must not be closed.
_left_behind: list[dict[str, Bell]] = []


def listen(alias: str, ear: Ear) -> None:
    """Make `ear` look when another process may have written to `alias`. Called from a thread."""
    with _lock:
        bell = _bell(alias)
        while bell is not None and not bell.add(ear):
            bell = _another(alias)


def stop_listening(alias: str, ear: Ear) -> None:
    """Stop ringing `ear`. The last one closes the connection."""
    with _lock:
        if (bell := _bells.get(alias)) is not None:
            bell.remove(ear)


def tell(alias: str) -> None:
    """Announce a write to `alias` to other processes; from any thread, returns immediately."""
    connection: Any = connections[alias]
    # On SQLite they see it themselves. Only a test's transaction is open after its commit.
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        with _lock:
            bell = _bell(alias)
            while bell is not None and not bell.tell():
                bell = _another(alias)


def is_listening(alias: str) -> bool:
    """
    Return whether this process follows `alias`, and so announces changes that it has numbered.
    """
    bell = _bells.get(alias)
    return bell is not None and bell.has_ears


def hears_others(alias: str) -> bool:
    """
    Return whether this process is woken by other processes' writes to `alias`.

    If not, followers find them at intervals (`POLL_SECONDS`).
    """
    bell = _bells.get(alias)
    return bell is not None and bell.hears_others


def stop(timeout: float) -> None:
    """End all threads and their connections; wait at most `timeout` seconds for each."""
    global _bells
    with _lock:
        bells, _bells = _bells, {}
    for bell in bells.values():
        bell.stop(timeout)


def flush() -> None:
    """Wait, within a bound, until writes are announced, for a process that writes and then ends."""
    for bell in list(_bells.values()):
        bell.flush(float(socket_settings.PUBLISH_SECONDS))


def _bell(alias: str) -> Bell | None:
    """Return the bell of `alias`, if its kind of database has one; under the lock."""
    return _bells.get(alias) or _another(alias)


def _another(alias: str) -> Bell | None:
    connection: Any = connections[alias]
    kind = _BELLS.get(connection.vendor)
    if kind is None or (connection.vendor == "sqlite" and connection.is_in_memory_db()):
        return None
    if not _bells:
        # `atexit` does not run in children of `multiprocessing`; this runs in all processes.
        multiprocessing.util.Finalize(None, flush, exitpriority=0)
    _bells[alias] = kind(alias)
    return _bells[alias]


def _on_fork() -> None:
    """Drop the parent's threads, which a forked child does not have."""
    global _bells, _lock
    _left_behind.append(_bells)
    _bells, _lock = {}, threading.Lock()


before_dropping.append(stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_on_fork)
