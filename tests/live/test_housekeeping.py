"""Changes that nobody reads do not pile up."""

from __future__ import annotations

import io
import threading
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from rest_channels.live import housekeeping, relay
from rest_channels.live.housekeeping import SECONDS_BETWEEN_ROUNDS, Housekeeper, tidy
from rest_channels.models import Change, PendingChange
from tests.live.changes import another_database, forget_log
from tests.models import Shelf

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def old_and_new():
    """Two changes of the day before yesterday, in the log, and one that is pending."""
    forget_log()
    for _ in range(2):
        Shelf.objects.create(name="left")
    PendingChange.objects.update(created_at=timezone.now() - timedelta(days=2))
    assert tidy("default") == (2, 1)
    Shelf.objects.create(name="left")


class Clock:
    seconds = 1_000.0

    def __call__(self):
        return self.seconds


class Rounds:
    """What the housekeeper's threads did, each waited for."""

    def __init__(self, monkeypatch):
        self.clock, self.is_done, self.count = Clock(), threading.Event(), 0
        self.housekeeper = Housekeeper(self.clock)
        tidy_quietly = housekeeping._tidy_quietly

        def tidy_and_tell(alias):
            tidy_quietly(alias)
            self.count += 1
            self.is_done.set()

        monkeypatch.setattr(housekeeping, "_tidy_quietly", tidy_and_tell)

    def ring_after(self, seconds):
        self.clock.seconds += seconds
        self.housekeeper.on_ring("default")

    def wait(self):
        assert self.is_done.wait(10)
        self.is_done.clear()


@pytest.fixture
def rounds(monkeypatch):
    return Rounds(monkeypatch)


def left():
    return PendingChange.objects.count(), Change.objects.count()


def test_a_process_that_writes_for_long_tidies(rounds):
    rounds.ring_after(0)
    rounds.ring_after(SECONDS_BETWEEN_ROUNDS - 1)
    assert rounds.count == 0
    assert left() == (1, 1)
    rounds.ring_after(1)
    rounds.wait()
    # The last one of the old was kept for who has seen it; now another is the last.
    assert left() == (0, 1)


def test_not_more_often_than_that(rounds):
    rounds.ring_after(0)
    for _ in range(3):
        rounds.ring_after(SECONDS_BETWEEN_ROUNDS)
        rounds.wait()
        rounds.ring_after(SECONDS_BETWEEN_ROUNDS / 2)
        rounds.clock.seconds -= SECONDS_BETWEEN_ROUNDS / 2
    assert rounds.count == 3


def test_the_writer_does_not_wait(rounds, monkeypatch):
    may_go_on = threading.Event()
    monkeypatch.setattr(housekeeping, "tidy", lambda alias: may_go_on.wait(20))
    rounds.ring_after(0)
    rounds.ring_after(SECONDS_BETWEEN_ROUNDS)
    Shelf.objects.create(name="right")
    assert not rounds.is_done.is_set()
    may_go_on.set()
    rounds.wait()


def test_a_round_that_fails_is_logged_and_not_the_last(rounds, monkeypatch, caplog):
    def fail(alias):
        raise RuntimeError

    monkeypatch.setattr(housekeeping, "tidy", fail)
    rounds.ring_after(0)
    rounds.ring_after(SECONDS_BETWEEN_ROUNDS)
    rounds.wait()
    assert "could not be tidied" in caplog.text
    monkeypatch.setattr(housekeeping, "tidy", tidy)
    rounds.ring_after(SECONDS_BETWEEN_ROUNDS)
    rounds.wait()
    assert left() == (0, 1)


def test_a_tests_transaction_is_left_alone(rounds):
    rounds.ring_after(0)
    with transaction.atomic():
        rounds.ring_after(SECONDS_BETWEEN_ROUNDS)
    assert "rest_channels.housekeeping" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.only_on("sqlite")
def test_a_database_in_memory_is_left_alone(rounds, monkeypatch):
    """Its connections share it, and one would find its tables locked by the other."""
    rounds.ring_after(0)
    monkeypatch.setattr(connection, "is_in_memory_db", lambda: True)
    rounds.ring_after(SECONDS_BETWEEN_ROUNDS)
    assert "rest_channels.housekeeping" not in {thread.name for thread in threading.enumerate()}


def test_it_hears_of_every_commit(rounds, monkeypatch):
    assert housekeeping.housekeeper in relay._listeners
    monkeypatch.setattr(relay, "_listeners", (rounds.housekeeper,))
    Shelf.objects.create(name="right")
    rounds.clock.seconds += SECONDS_BETWEEN_ROUNDS
    with transaction.atomic():
        Shelf.objects.create(name="right")
    rounds.wait()
    assert left() == (0, 3)


# By hand


def run(**options):
    output = io.StringIO()
    call_command("prune_changes", stdout=output, **options)
    return output.getvalue()


def test_the_command():
    assert run() == "1 sequenced, 1 pruned.\n"
    assert left() == (0, 1)
    assert run() == "0 sequenced, 0 pruned.\n"


def test_the_command_for_another_database(tmp_path):
    with another_database(tmp_path) as other:
        Shelf(name="left").save(using=other)
        assert run(database=other) == "1 sequenced, 0 pruned.\n"
    assert left() == (1, 1)


def test_the_command_where_nothing_is_migrated(tmp_path):
    with (
        another_database(tmp_path, is_migrated=False) as other,
        pytest.raises(CommandError, match="migrate --database other"),
    ):
        run(database=other)
