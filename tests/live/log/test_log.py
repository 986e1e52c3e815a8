"""The log, read: its end, what came after a place, how far back it goes, in one view of it all."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from rest_channels.live.log import store
from rest_channels.live.log.positions import Position
from rest_channels.live.log.sequencer import sequence
from rest_channels.live.log.transactions import snapshot
from rest_channels.models import Change, LogHead
from tests.models import Shelf
from tests.support.recorded_changes import InThread, another_database, forget_log

pytestmark = pytest.mark.django_db(transaction=True)

START = Position(0, 0)


@pytest.fixture(autouse=True)
def empty():
    forget_log()


def write(rows: int = 1, *, age: timedelta = timedelta()) -> list[Position]:
    """Return the places of that number of new entries."""
    before = store.head("default").number
    for _ in range(rows):
        Shelf.objects.create(name="left")
    sequence("default")
    entries = Change.objects.filter(position__gt=before).order_by("position")
    entries.update(created_at=timezone.now() - age)
    return [Position(entry.position, entry.mark) for entry in entries]


def holds(place: Position, end: Position) -> bool:
    """Return whether a client that was at `place` receives the rest, up to `end`."""
    if place.number >= end.number:
        return place == end
    return store.since("default", place) is not None


# Its end


def test_the_head_of_an_empty_log():
    assert store.head("default") == START


def test_the_head_is_the_last_entry():
    places = write(3)
    assert store.head("default") == places[-1]
    assert [place.number for place in places] == [1, 2, 3]


# What came after a place


def test_since():
    places = write(3)
    assert [entry.position for entry in store.since("default", places[0])] == [2, 3]
    assert [entry.position for entry in store.since("default", START)] == [1, 2, 3]
    assert [entry.position for entry in store.since("default", START, limit=2)] == [1, 2]
    assert store.since("default", places[-1]) == []


def test_places_that_it_holds():
    places = write(3)
    for place in (START, *places):
        assert holds(place, places[-1])


@pytest.mark.parametrize(
    "foreign",
    [
        lambda place: Position(place.number, place.mark + 1),
        lambda place: Position(place.number + 1, place.mark),
        lambda place: Position(place.number + 100, place.mark),
        lambda place: Position(place.number - 1, place.mark),
        lambda place: Position(0, place.mark),
        lambda place: Position(-1, place.mark),
        lambda place: Position(2**64 - 1, place.mark),
    ],
)
def test_places_of_another_history(foreign):
    *_, last = write(3)
    assert not holds(foreign(last), last)


def test_after_a_restore_the_numbers_come_again_and_the_marks_do_not():
    *_, kept, lost = write(3)
    Change.objects.filter(position=lost.number)._raw_delete("default")
    LogHead.objects.update(position=kept.number, mark=kept.mark)
    end = store.head("default")
    assert not holds(lost, end)
    [again] = write()
    assert again.number == lost.number
    assert not holds(lost, again)
    assert holds(kept, again)


# How far back it goes


DAY = timedelta(days=1)


def test_prune_forgets_what_is_older_than_the_retention():
    old = write(3, age=2 * DAY)
    new = write(2)
    assert store.prune("default") == 3
    assert list(Change.objects.order_by("pk").values_list("pk", flat=True)) == [4, 5]
    end = store.head("default")
    assert not holds(START, end)
    assert not any(holds(place, end) for place in old)
    assert all(holds(place, end) for place in new)


def test_prune_leaves_the_last_one_for_who_has_seen_all():
    *_, last = write(3, age=2 * DAY)
    assert store.prune("default") == 2
    assert store.prune("default") == 0
    assert holds(last, store.head("default"))
    [next_one] = write()
    assert next_one.number == last.number + 1
    assert holds(last, next_one)


def test_prune_with_the_setting(settings):
    write(3, age=timedelta(seconds=50))
    settings.REST_CHANNELS = {"RETENTION_SECONDS": 60}
    assert store.prune("default") == 0
    settings.REST_CHANNELS = {"RETENTION_SECONDS": 40}
    assert store.prune("default") == 2


def test_prune_leaves_no_hole_whatever_the_clocks_of_the_writers_say():
    write(1, age=2 * DAY)
    write(1, age=-2 * DAY)
    write(1, age=2 * DAY)
    write(2)
    store.prune("default")
    assert list(Change.objects.order_by("pk").values_list("pk", flat=True)) == [4, 5]


def test_prune_a_few_at_a_time(monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(store, "PAGE_SIZE", 2)
    write(6, age=2 * DAY)
    write(1)
    # One for the end; then three times one to read and one to delete, and none are left.
    with django_assert_num_queries(2 + 3 * 2 + 1):
        assert store.prune("default") == 6


def test_prune_an_empty_log():
    assert store.prune("default") == 0


# One view of it all


@pytest.mark.only_on("sqlite")
def test_within_a_snapshot_time_stands_still_on_sqlite(tmp_path):
    """In WAL mode; in another, the writer would wait for the reader."""
    with another_database(tmp_path) as other:
        Shelf(name="left").save(using=other)
        file = connections[other].settings_dict["NAME"]
        with closing(sqlite3.connect(file)) as writer:
            writer.execute("PRAGMA journal_mode = WAL")
            with snapshot(other):
                assert Shelf.objects.using(other).count() == 1
                with writer:
                    writer.execute("INSERT INTO tests_shelf (name) VALUES ('right')")
                assert Shelf.objects.using(other).count() == 1
            assert Shelf.objects.using(other).count() == 2


@pytest.mark.only_on("postgresql", "mariadb")
def test_within_a_snapshot_time_stands_still():
    write()
    with snapshot("default"):
        before = store.head("default"), Shelf.objects.count()
        InThread(write).result()
        assert (store.head("default"), Shelf.objects.count()) == before
    assert store.head("default").number == before[0].number + 1


@pytest.mark.only_on("postgresql")
def test_a_snapshot_is_repeatable_read_and_the_next_transaction_is_not():
    def isolation():
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            return cursor.fetchone()[0]

    with snapshot("default"):
        assert isolation() == "repeatable read"
    with transaction.atomic():
        assert isolation() == "read committed"


@pytest.mark.only_on("sqlite")
def test_a_snapshot_takes_no_write_lock():
    """With `transaction_mode` IMMEDIATE, as these tests have it, a transaction else would."""
    assert connection.transaction_mode == "IMMEDIATE"
    is_reading, has_written = threading.Event(), threading.Event()

    def read():
        with snapshot("default"):
            store.head("default")
            is_reading.set()
            assert has_written.wait(20)

    with transaction.atomic():
        Shelf.objects.create(name="left")
        # The write lock is held here.
        reading = InThread(read)
        assert is_reading.wait(20)
        has_written.set()
        reading.result()
    assert connection.transaction_mode == "IMMEDIATE"


@pytest.mark.only_on("sqlite")
def test_a_snapshot_that_fails_leaves_the_projects_mode():
    with pytest.raises(RuntimeError), snapshot("default"):
        raise RuntimeError
    assert connection.transaction_mode == "IMMEDIATE"


def test_a_snapshot_within_a_transaction_is_that_one():
    with transaction.atomic():
        Shelf.objects.create(name="left")
        with snapshot("default"):
            assert Shelf.objects.filter(name="left").exists()
        assert connection.in_atomic_block


# Where there is one


def test_databases_without_it_are_looked_at_once_a_minute(tmp_path, django_assert_num_queries):
    with (
        another_database(tmp_path, is_migrated=False) as other,
        django_assert_num_queries(1, connection=connections[other]),
    ):
        assert [store.is_installed(other) for _ in range(3)] == [False] * 3


def test_a_database_with_it_is_looked_at_once(django_assert_num_queries):
    store.forget_tables()
    with django_assert_num_queries(1):
        assert [store.is_installed("default") for _ in range(3)] == [True] * 3


def test_what_was_seen_before_the_tables_were_forgotten_is_not_kept_after_it(monkeypatch):
    """A thread looks at the catalogue; migrations make the tables before it comes to note that."""
    store.forget_tables()

    def found_before(alias):
        store.forget_tables()
        return False

    with monkeypatch.context() as patch:
        patch.setattr(store, "_finds_tables", found_before)
        assert store.is_installed("default") is False
    assert store.is_installed("default") is True
