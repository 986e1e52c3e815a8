"""Changes that nobody reads do not pile up."""

from __future__ import annotations

import io
import threading
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from rest_channels.bus import doorbell
from rest_channels.live.log import maintenance
from rest_channels.live.log.maintenance import SECONDS_BETWEEN_ROUNDS, Housekeeper, tidy
from rest_channels.management.commands import live_stats
from rest_channels.models import Change, PendingChange
from tests.models import Shelf
from tests.support.recorded_changes import another_database, forget_log

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
    """Wait for the housekeeper's threads and return what they did."""

    def __init__(self, monkeypatch):
        self.clock, self.is_done, self.count = Clock(), threading.Event(), 0
        self.housekeeper = Housekeeper(self.clock)
        tidy_quietly = maintenance._tidy_quietly

        def tidy_and_tell(alias):
            tidy_quietly(alias)
            self.count += 1
            self.is_done.set()

        monkeypatch.setattr(maintenance, "_tidy_quietly", tidy_and_tell)

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
    monkeypatch.setattr(maintenance, "tidy", lambda alias: may_go_on.wait(20))
    rounds.ring_after(0)
    rounds.ring_after(SECONDS_BETWEEN_ROUNDS)
    Shelf.objects.create(name="right")
    assert not rounds.is_done.is_set()
    may_go_on.set()
    rounds.wait()


def test_a_round_that_fails_is_logged_and_not_the_last(rounds, monkeypatch, caplog):
    def fail(alias):
        raise RuntimeError

    monkeypatch.setattr(maintenance, "tidy", fail)
    rounds.ring_after(0)
    rounds.ring_after(SECONDS_BETWEEN_ROUNDS)
    rounds.wait()
    assert "could not be maintained" in caplog.text
    monkeypatch.setattr(maintenance, "tidy", tidy)
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
    assert maintenance.housekeeper in doorbell._listeners
    monkeypatch.setattr(doorbell, "_listeners", (rounds.housekeeper,))
    Shelf.objects.create(name="right")
    rounds.clock.seconds += SECONDS_BETWEEN_ROUNDS
    with transaction.atomic():
        Shelf.objects.create(name="right")
    rounds.wait()
    assert left() == (0, 3)


# At night, when nobody subscribes


@pytest.fixture
def outside_of_tests(monkeypatch):
    monkeypatch.setattr(maintenance, "_is_test_run", lambda: False)
    # The process's own housekeeper would start a thread, too.
    monkeypatch.setattr(doorbell, "_listeners", ())


def wait_for_numbering():
    for thread in threading.enumerate():
        if thread.name == "rest_channels.numbering":
            thread.join(10)


def test_a_single_write_is_numbered_a_little_later(outside_of_tests):
    housekeeper = Housekeeper(seconds_until_numbered=0.01)
    housekeeper.on_ring("default")
    wait_for_numbering()
    assert left() == (0, 2)
    Shelf.objects.create(name="right")
    housekeeper.on_ring("default")
    wait_for_numbering()
    assert left() == (0, 3)


def test_one_wait_serves_all_writes_until_its_end(outside_of_tests):
    housekeeper = Housekeeper(seconds_until_numbered=0.5)
    for _ in range(3):
        housekeeper.on_ring("default")
    assert [t.name for t in threading.enumerate()].count("rest_channels.numbering") == 1
    wait_for_numbering()


def test_a_forked_child_waits_by_itself(outside_of_tests, monkeypatch):
    housekeeper = Housekeeper(seconds_until_numbered=0.01)
    housekeeper._timed.add((1, "default"))
    housekeeper.on_ring("default")
    wait_for_numbering()
    assert left() == (0, 2)


def test_no_thread_holds_a_database_that_a_test_runner_will_drop():
    Housekeeper(seconds_until_numbered=0.01).on_ring("default")
    assert "rest_channels.numbering" not in {thread.name for thread in threading.enumerate()}


def stats():
    output, errors = io.StringIO(), io.StringIO()
    call_command("live_stats", stdout=output, stderr=errors)
    numbers = dict(line.split() for line in output.getvalue().splitlines())
    return numbers, errors.getvalue()


def test_the_lag_of_the_command_does_not_grow_while_nobody_follows():
    """The process that wrote has ended, so nobody numbers: the command does."""
    PendingChange.objects.update(created_at=timezone.now() - timedelta(hours=8))
    numbers, errors = stats()
    assert (numbers["sequencer_lag_entries"], numbers["sequencer_lag_seconds"]) == ("0", "0.0")
    assert errors == ""


@pytest.mark.only_on("postgresql")
def test_the_lag_of_the_command_is_told_when_the_log_cannot_move(monkeypatch):
    """Another process holds the head of the log: an alarm is for that."""
    PendingChange.objects.update(created_at=timezone.now() - timedelta(hours=8))
    monkeypatch.setattr(live_stats, "_SECONDS_TO_LOCK", 0.1)
    holder = connection.copy()
    try:
        holder.set_autocommit(False)
        with holder.cursor() as cursor:
            cursor.execute("SELECT 1 FROM rest_channels_loghead FOR UPDATE")
        numbers, errors = stats()
    finally:
        holder.rollback()
        holder.close()
    assert numbers["sequencer_lag_entries"] == "1"
    assert float(numbers["sequencer_lag_seconds"]) >= 8 * 3600
    assert "Could not number pending changes" in errors
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)


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
