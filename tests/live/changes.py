"""What tests of the writing side look at: pending changes and the log, as short tuples."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management import call_command
from django.db import connection, connections
from django.db.utils import load_backend

from rest_channels.live import log
from rest_channels.models import Change, LogHead, PendingChange


def noted(alias: str = "default") -> list[tuple[str, str | None, str]]:
    """What was noted since the last look, oldest first."""
    rows = PendingChange.objects.using(alias).order_by("id")
    found = [(row.model.removeprefix("tests."), row.key, row.kind) for row in rows]
    PendingChange.objects.using(alias).all()._raw_delete(alias)
    return found


def logged() -> list[tuple[str, str | None, str]]:
    """The log, oldest first."""
    rows = Change.objects.order_by("position")
    return [(row.model.removeprefix("tests."), row.key, row.kind) for row in rows]


def forget_log() -> None:
    """An empty log, as migrations leave it."""
    for model in (PendingChange, Change, LogHead):
        model.objects.all()._raw_delete("default")


class InThread(threading.Thread):
    """`function` in a thread with a connection of its own; `result` raises what it raised."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__(daemon=True)
        self._function, self._args = function, args
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._function(*self._args)
        except BaseException as exc:
            self._error = exc
        finally:
            connections.close_all()

    def result(self) -> Any:
        self.join(60)
        assert not self.is_alive(), "the thread hangs"
        if self._error is not None:
            raise self._error
        return self._result


def wait_for_a_waiting_lock() -> None:
    """Until another connection waits for what this one has locked."""
    sql = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'",
        "mysql": "SHOW STATUS LIKE 'Innodb_row_lock_current_waits'",
    }[connection.vendor]
    with connection.cursor() as cursor:
        while True:
            if connection.vendor == "postgresql":
                # Else a transaction sees the same activity over and over.
                cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(sql)
            if int(cursor.fetchone()[-1]):
                return


@contextmanager
def another_database(directory: Any, *, is_migrated: bool = True) -> Iterator[str]:
    """A second database, `other`, on SQLite; for this thread."""
    given = {
        **connections.settings["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(directory / "other.sqlite3"),
        "OPTIONS": {},
    }
    # Not one of the settings: of those, Django's test cases let a test use only what it named.
    connections["other"] = load_backend(given["ENGINE"]).DatabaseWrapper(given, "other")
    log.forget_tables()
    try:
        if is_migrated:
            call_command("migrate", database="other", run_syncdb=True, verbosity=0)
            PendingChange.objects.using("other").all()._raw_delete("other")
        yield "other"
    finally:
        connections["other"].close()
        del connections["other"]
        log.forget_tables()
