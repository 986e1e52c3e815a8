"""Database connections outlive a frame, are noticed when they break, and go when nobody works."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.workers import connections as persistence
from rest_channels.workers.connections import close_old_connections
from rest_channels.workers.threads import drawers, shutdown_all, workers
from tests.models import Room
from tests.support.talk import OpenViewSet, serving, talking_to

pytestmark = pytest.mark.django_db(transaction=True)


class QueryViewSet(OpenViewSet):
    @action(detail=False)
    def connect(self, request):
        Room.objects.exists()
        return Response(id(connection.connection))

    @action(detail=False)
    def look(self, request):
        return Response(connection.connection and id(connection.connection))


@pytest.fixture
def keep(settings):
    """Sets how long connections last, and ends those there are."""

    def set_seconds(max_age=0, health_checks=False, **given):
        settings.REST_CHANNELS = {"WORKER_THREADS": 1, **given}
        changed["CONN_MAX_AGE"] = max_age
        changed["CONN_HEALTH_CHECKS"] = health_checks

    changed = connection.settings_dict
    before = dict(changed)
    yield set_seconds
    changed.update(before)
    shutdown_all(timeout=10)


def asking(*words, between=lambda: None):
    """The data of the replies to actions asked one after the other on one socket."""

    async def story():
        async with talking_to(serving(QueryViewSet)) as socket:
            data = []
            for word in words:
                data.append((await socket.ask(word))["data"])
                between()
            return data

    return asyncio.run(story())


def between_frames(function):
    """Call `function` in the worker thread as no frame's work: nothing is done around it."""
    return workers.executor.submit(function).result(10)


# How long


def test_by_default_a_thread_keeps_its_connection(keep):
    keep(max_age=0)
    made, kept, again = asking("connect", "look", "connect")
    assert made == kept == again


@pytest.mark.parametrize("max_age,expected", [(0, 60), (10, 60), (600, 600), (None, None)])
def test_the_longer_of_the_two_settings_wins(keep, max_age, expected):
    keep(max_age=max_age)
    asking("connect")
    close_at = between_frames(lambda: connection.close_at)
    seconds = None if close_at is None else close_at - time.monotonic()
    assert seconds == expected or expected - 30 < seconds <= expected


def test_with_zero_a_connection_ends_with_its_frame(keep):
    keep(max_age=0, CONNECTION_SECONDS=0)
    asking("connect")
    assert between_frames(lambda: connection.connection) is None


def test_what_goes_back_to_a_pool_of_the_drivers_is_not_kept(keep, monkeypatch):
    keep(max_age=0)
    monkeypatch.setattr(persistence, "is_pooled", lambda database: True)
    asking("connect")
    assert between_frames(lambda: connection.connection) is None


def test_a_connection_that_grows_too_old_between_frames_is_closed_before_the_next(keep):
    keep(max_age=0)

    async def story():
        async with talking_to(serving(QueryViewSet)) as socket:
            await socket.ask("connect")
            between_frames(lambda: setattr(connection, "close_at", time.monotonic() - 1))
            assert (await socket.ask("look"))["data"] is None

    asyncio.run(story())


def test_a_thread_without_work_closes_what_is_too_old(keep):
    keep(max_age=0, CONNECTION_SECONDS=0.01)
    closed = threading.Event()
    close = BaseDatabaseWrapper.close

    def closing(wrapper):
        close(wrapper)
        closed.set()

    with mock.patch.object(BaseDatabaseWrapper, "close", closing):
        asking("connect")
        # Nothing is asked of it any more.
        assert closed.wait(10)


def test_a_thread_that_ends_closes_its_own(keep):
    keep(max_age=None)
    mine = between_frames(lambda: (Room.objects.exists(), connections["default"])[1])
    assert mine.connection is not None
    shutdown_all(timeout=10)
    assert mine.connection is None


def test_before_a_test_database_is_dropped_all_threads_end(keep):
    keep(max_age=None)
    ours = {
        pool.executor.submit(threading.current_thread).result(10) for pool in (workers, drawers)
    }
    creation, name = connection.creation, connection.settings_dict["NAME"]
    with mock.patch.object(creation, "_destroy_test_db"):
        creation.destroy_test_db(name, verbosity=0)
    assert not any(thread.is_alive() for thread in ours)


def a_thread_of_asgiref(look):
    # asgiref's own thread for thread-sensitive code outlives the loop.
    return asyncio.run(sync_to_async(look)())


def a_thread_of_the_projects(look):
    return executor.submit(look).result(10)


executor = ThreadPoolExecutor(1)


@pytest.mark.parametrize("run_in_a_thread", [a_thread_of_asgiref, a_thread_of_the_projects])
def test_before_a_test_database_is_dropped_others_connections_are_closed(run_in_a_thread):
    def query():
        assert Room.objects.exists() in (True, False)
        return connections["default"]

    theirs = run_in_a_thread(query)
    assert theirs.connection is not None
    with mock.patch.object(connection.creation, "_destroy_test_db"):
        connection.creation.destroy_test_db(connection.settings_dict["NAME"], verbosity=0)
    assert theirs.connection is None
    # The next to use it connects again.
    assert run_in_a_thread(query).connection is not None
    run_in_a_thread(theirs.close)


def test_a_connection_that_must_not_be_asked_is_closed_and_the_frame_is_answered(
    keep, django_db_blocker
):
    """A later test without a database: pytest-django refuses even the look at a connection."""
    keep(CONNECTION_SECONDS=60)
    with contextlib.ExitStack() as stack:
        found = asking(
            *["connect", "look"], between=lambda: stack.enter_context(django_db_blocker.block())
        )
    assert found[0] is not None and found[1] is None


@pytest.fixture
def left_over(keep, tmp_path):
    """A connection of the worker thread to a database that is no longer in the settings."""
    keep()
    connections.settings["gone"] = {
        **connections.settings["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": tmp_path / "gone.sqlite3",
        "OPTIONS": {},
        "CONN_MAX_AGE": 60,
    }

    def connect():
        theirs = connections["gone"]
        # Now: Django's test cases let a test connect only to databases of the settings it named.
        del connections.settings["gone"]
        theirs.ensure_connection()
        return theirs

    theirs = between_frames(connect)
    assert theirs.connection is not None
    return theirs


def test_a_thread_that_ends_leaves_no_connection_to_a_forgotten_database(left_over):
    shutdown_all(timeout=10)
    assert left_over.connection is None


def test_a_thread_without_work_closes_what_is_too_old_to_a_forgotten_database(left_over):
    left_over.close_at = time.monotonic() - 1
    between_frames(persistence.close_idle_connections)
    assert left_over.connection is None


def test_there_are_no_more_connections_than_threads(keep):
    keep(max_age=0, WORKER_THREADS=3)
    made, together = [], threading.Barrier(3)
    connect = BaseDatabaseWrapper.connect

    def query():
        Room.objects.exists()
        together.wait(10)

    def remember(wrapper):
        made.append(threading.get_ident())
        connect(wrapper)

    async def story():
        await asyncio.gather(*(workers.run(query) for _ in range(12)))

    with mock.patch.object(BaseDatabaseWrapper, "connect", remember):
        asyncio.run(story())
    assert len(made) == len(set(made)) == 3


def test_the_connection_of_a_test_in_a_transaction_stays_open():
    with transaction.atomic():
        Room.objects.create(name="lobby")
        open_one = connection.connection
        close_old_connections()
        assert connection.connection is open_one
        assert Room.objects.exists()


def test_a_job_lists_the_connections_of_its_thread_twice(keep, monkeypatch):
    keep()
    asking("connect")
    count = mock.Mock(side_effect=connections.all)
    monkeypatch.setattr(connections, "all", count)
    asyncio.run(workers.run(int))
    # Before it and after it: a list costs more than all that is done with a connection.
    assert count.call_count == 2
