"""
Threads that learn of other processes' writes from a database, and announce this process's writes.

There is one thread and one connection for each database.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from typing import Any, Final, Protocol

from django.db import connections

from rest_channels.live.log import store
from rest_channels.live.log.positions import Position
from rest_channels.live.log.statements import quoted
from rest_channels.observing.paced_warnings import Pace

logger = logging.getLogger("rest_channels")

# How long to wait before connecting to a lost database again.
_SECONDS_BETWEEN_TRIES: Final = 1

# SQLite cannot wake another process. One look takes a few microseconds.
_SECONDS_BETWEEN_LOOKS: Final = 0.05


# By database, for all threads.
_pace: Final = Pace()


class Ear(Protocol):
    """A follower of a database, as the thread of a bell sees it."""

    @property
    def is_over(self) -> bool:
        """Whether its event loop is closed."""

    @property
    def is_idle(self) -> bool:
        """Whether no pass runs or is due."""

    @property
    def place(self) -> Position | None:
        """The end of the log as its last pass found it."""

    def on_news(self) -> None:
        """Start a look at the log; returns immediately."""


class Bell:
    """
    A thread, its connection, and the followers that it rings.

    It ends when no follower is left and nothing remains to be announced.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._ears: tuple[Ear, ...] = ()
        self._lock = threading.Lock()
        self._is_told = False
        self._is_over = False
        self._is_quiet = threading.Event()
        self._is_quiet.set()
        self._lingers_until = 0.0
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self._there.setblocking(False)
        # Not `select`, which does not take file numbers above 1023.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._here, selectors.EVENT_READ)
        self._thread: threading.Thread | None = None
        # Copied here, because the original connection belongs to this thread.
        self._connection = own_connection(connections[alias])

    @property
    def has_ears(self) -> bool:
        """Whether this process follows the database."""
        return bool(self._ears)

    @property
    def hears_others(self) -> bool:
        """Whether it learns of other processes' writes at once."""
        return not self._is_over and self.has_ears

    def add(self, ear: Ear) -> bool:
        """Ring `ear` from now on; return False if the thread has ended."""
        with self._lock:
            if self._is_over:
                return False
            self._ears = (*self._ears, ear)
            self._begin()
            return True

    def remove(self, ear: Ear) -> None:
        """Stop ringing `ear`."""
        with self._lock:
            self._ears = tuple(each for each in self._ears if each is not ear)
            self._lingers_until = 0.0
            self._wake()

    def tell(self) -> bool:
        """Announce a write to other processes; return False if the thread has ended."""
        with self._lock:
            if self._is_over:
                return False
            if not self._is_told:
                self._is_told = True
                self._is_quiet.clear()
                self._begin()
            return True

    def flush(self, seconds: float) -> None:
        """Wait until writes are announced, at most `seconds`."""
        self._is_quiet.wait(seconds)

    def stop(self, timeout: float) -> None:
        """End the thread, which closes its connection."""
        with self._lock:
            self._is_over = True
            self._wake()
        if self._thread is not None:
            self._thread.join(timeout)

    def _begin(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="rest_channels.news", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is shutting down and starts no more threads.
                self._is_over = True
                self._is_quiet.set()
                raise
            self._thread = thread
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # Full: it wakes anyway. Closed: it has ended.
            self._there.send(b"!")

    def _run(self) -> None:
        try:
            while not self._is_over:
                try:
                    with contextlib.closing(self._connection):
                        self._work()
                except Exception:
                    self._complain()
                    # Do not wait for a lost database.
                    self._is_quiet.set()
                    self._pause(_SECONDS_BETWEEN_TRIES)
        finally:
            with self._lock:
                self._is_over = True
            self._is_quiet.set()
            self._selector.close()
            self._here.close()
            self._there.close()

    def _work(self) -> None:
        """Work until `_has_ended`. Raises the errors of the database."""
        raise NotImplementedError

    def _has_ended(self) -> bool:
        """Return whether nothing is left to do; from then on nothing can be added."""
        with self._lock:
            self._ears = tuple(ear for ear in self._ears if not ear.is_over)
            has_work = self._ears or self._is_told or time.monotonic() < self._lingers_until
            self._is_over = self._is_over or not has_work
            return self._is_over

    def _ring(self) -> None:
        for ear in self._ears:
            ear.on_news()

    def _pause(self, seconds: float, *files: int) -> None:
        """Wait to be woken or for one of `files` to be readable, at most `seconds`."""
        for file in files:
            self._selector.register(file, selectors.EVENT_READ)
        try:
            readable = [key.fileobj for key, _ in self._selector.select(max(0.0, seconds))]
        finally:
            for file in files:
                self._selector.unregister(file)
        if self._here in readable:
            self._here.recv(4096)

    def _complain(self) -> None:
        if _pace.is_due(self.alias):
            logger.warning(
                "Cannot listen to database %r: changes of other processes arrive within "
                "POLL_SECONDS.",
                self.alias,
                exc_info=True,
            )


class SQLiteBell(Bell):
    """
    A bell that detects commits of other connections.

    Such a commit may be this process's own, which its passes have already handled: the bell rings
    only if the log has grown, or a change is pending.
    """

    def _work(self) -> None:
        seen, is_settled = None, False
        while not self._has_ended():
            (version,) = self._ask("PRAGMA data_version")
            if version != seen:
                seen, is_settled = version, False
            is_settled = is_settled or self._settle()
            self._pause(_SECONDS_BETWEEN_LOOKS)

    def _settle(self) -> bool:
        """
        Ring followers that are behind; return False if one is busy, and may catch up by itself.
        """
        end = self._end()
        ears = [(ear, ear.is_idle) for ear in self._ears]
        for ear, is_idle in ears:
            if is_idle and (end is None or ear.place != end):
                ear.on_news()
        return all(is_idle for _, is_idle in ears)

    def _end(self) -> Position | None:
        """Return the end of the log; None while a change is pending."""
        found = self._ask(
            "SELECT [position], [mark] FROM [heads] "
            f"WHERE [id] = {store.HEAD_ID} AND NOT EXISTS (SELECT 1 FROM [pending])"
        )
        return Position(*found) if found else None

    def _ask(self, sql: str) -> Any:
        # With the driver, because Django would keep each statement's text under DEBUG.
        self._connection.ensure_connection()
        with self._connection.wrap_database_errors:
            return self._connection.connection.execute(quoted(self.alias, sql)).fetchone()


def own_connection(connection: Any) -> Any:
    """Return a connection for the thread of a bell; not from a pool, because it stays open."""
    own = connection.copy()
    own.settings_dict["OPTIONS"].pop("pool", None)
    own.settings_dict["AUTOCOMMIT"] = True
    own.inc_thread_sharing()
    return own
