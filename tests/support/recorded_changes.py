"""Pending changes and the log as short tuples, for tests of the writing side."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.core.management import call_command
from django.db import connection, connections
from django.db.models import Model
from django.db.utils import load_backend
from django.test import override_settings

from rest_channels.bus import doorbell
from rest_channels.live.capture import coverage, triggers
from rest_channels.live.log import store
from rest_channels.models import Change, LogHead, PendingChange
from tests.settings import SQLITE_OPTIONS


def noted(alias: str = "default") -> list[tuple[str, str | None, str]]:
    """Return the pending changes since the last look, oldest first."""
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


class Rings(doorbell.Listener):
    """How often it was rung, and what another connection then saw."""

    def __init__(self):
        self.seen = []

    def on_ring(self, alias):
        self.seen.append(InThread(PendingChange.objects.using(alias).count).result())


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
def captured_by_triggers(*models: str, **settings: Any) -> Iterator[None]:
    """The database notes what is written to `models`, all of them where none is named."""
    given = {"CAPTURE": "triggers", "CAPTURE_MODELS": list(models) or "__all__", **settings}
    with override_settings(REST_CHANNELS=given):
        triggers.sync("default")
        forget_log()
        yield
    restore_triggers()


@contextmanager
def captured_by_signals(**settings: Any) -> Iterator[None]:
    """The processes of the project note what they write, as where a database has no triggers."""
    with override_settings(REST_CHANNELS={"CAPTURE": "signals", **settings}):
        triggers.sync("default")
        forget_log()
        yield
    restore_triggers()


def restore_triggers() -> None:
    """Those of the settings; a test's transaction takes its own with it."""
    if not connection.in_atomic_block:
        triggers.sync("default")
        forget_log()
    coverage.forget()


@contextmanager
def another_program() -> Iterator[Callable[[str], Any]]:
    """A connection to the database that knows nothing of Django; gives what runs SQL on it."""
    given = connection.settings_dict
    program: Any
    if connection.vendor == "sqlite":
        program = sqlite3.connect(given["NAME"], timeout=20, check_same_thread=False)
    else:
        # Only where PostgreSQL is tested it is there.
        import psycopg

        program = psycopg.connect(dbname=given["NAME"], user=given["USER"], host=given["HOST"])
    try:
        yield program.execute
        program.commit()
    finally:
        program.close()


@contextmanager
def tables_of(*made: type[Model]) -> Iterator[None]:
    """Tables for models that one test has defined; afterwards no other test finds the models."""
    with connection.schema_editor() as editor:
        for model in made:
            editor.create_model(model)
    try:
        yield
    finally:
        with connection.schema_editor() as editor:
            for model in reversed(made):
                editor.delete_model(model)
        for model in made:
            del apps.all_models[model._meta.app_label][model._meta.model_name]
        apps.clear_cache()


@contextmanager
def another_database(directory: Any, *, is_migrated: bool = True) -> Iterator[str]:
    """A second database, `other`, on SQLite; for this thread."""
    given = {
        **connections.settings["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(directory / "other.sqlite3"),
        "OPTIONS": SQLITE_OPTIONS,
    }
    # Not one of the settings: of those, Django's test cases let a test use only what it named.
    connections["other"] = load_backend(given["ENGINE"]).DatabaseWrapper(given, "other")
    store.forget_tables()
    try:
        if is_migrated:
            call_command("migrate", database="other", run_syncdb=True, verbosity=0)
            PendingChange.objects.using("other").all()._raw_delete("other")
        yield "other"
    finally:
        connections["other"].close()
        del connections["other"]
        store.forget_tables()
