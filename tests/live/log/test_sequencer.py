"""Pending changes get their places: none lost, none torn apart, each row's as committed."""

from __future__ import annotations

import itertools
import random
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import DatabaseError, OperationalError, connection, models, transaction
from django.db.models import signals

from rest_channels.live.capture import writes as capture
from rest_channels.live.log import sequencer, store
from rest_channels.live.log.positions import Position
from rest_channels.live.log.sequencer import in_commit_order, sequence
from rest_channels.live.log.transactions import snapshot
from rest_channels.models import Change, LogHead, PendingChange
from tests.models import Book
from tests.support.recorded_changes import (
    InThread,
    captured_by_signals,
    captured_by_triggers,
    forget_log,
    logged,
    wait_for_a_waiting_lock,
)

pytestmark = pytest.mark.django_db(transaction=True)

ROWS, SEQUENCERS, WRITERS, TRANSACTIONS = 4, 3, 6, 30


class Clock:
    """Stands in for the time of writing: no two alike, so that entries differ."""

    def __init__(self) -> None:
        self._ticks = itertools.count()
        self._mine = threading.local()

    def now(self) -> datetime:
        self._mine.last = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(
            microseconds=next(self._ticks)
        )
        return self._mine.last

    @property
    def last(self) -> datetime:
        """The time of this thread's last write."""
        return self._mine.last


class Undone(Exception):
    """A transaction, or part of it, is rolled back."""


class History:
    """The committed writes, as the writers know them: row, version and transaction of each."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.committed: dict[datetime, tuple[int, int, int]] = {}
        self.deadlocks = self.rollbacks = 0
        self._transactions = itertools.count()

    def write(self, *steps) -> None:
        """A transaction of `steps`, each a row or a call; an exception of theirs rolls it back."""
        number, writes = next(self._transactions), []
        try:
            with transaction.atomic():
                self._look_for_deadlocks_at_once()
                for step in steps:
                    if callable(step):
                        step()
                    else:
                        writes.append(self._write_row(step, number))
        except OperationalError:
            self.deadlocks += 1
        except Undone:
            self.rollbacks += 1
        else:
            self.committed.update(writes)

    def _look_for_deadlocks_at_once(self) -> None:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL deadlock_timeout = '10ms'")

    def _write_row(self, pk, number):
        book = Book.objects.select_for_update().get(pk=pk)
        book.version += 1
        book.save(update_fields=["version"])
        return self.clock.last, (pk, book.version, number)

    def write_and_undo(self, pk) -> None:
        """A savepoint within the transaction, rolled back."""
        try:
            with transaction.atomic():
                self._write_row(pk, None)
                raise Undone
        except Undone:
            pass

    def check(self) -> None:
        """That the log tells it right."""
        entries = list(Change.objects.order_by("position"))
        assert not PendingChange.objects.exists()
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1)), "a hole"
        told = [entry.created_at for entry in entries]
        assert sorted(told) == sorted(self.committed), "lost, doubled or never committed"
        versions = defaultdict(list)
        for pk, version, _ in map(self.committed.get, told):
            versions[pk].append(version)
        for pk, of_row in versions.items():
            assert of_row == list(range(1, len(of_row) + 1)), f"row {pk} in another order"
        runs = [number for number, _ in itertools.groupby(self.committed[at][2] for at in told)]
        assert len(runs) == len(set(runs)), "a transaction in parts"
        head = LogHead.objects.get()
        assert (head.position, head.mark) == (entries[-1].position, entries[-1].mark)


class HistoryOfTriggers(History):
    """Writers whose changes the database notes, at times of its own: they get the clock's."""

    def _write_row(self, pk, number):
        self.clock.now()
        written = super()._write_row(pk, number)
        # The row is locked: nobody else's can be newer.
        last = PendingChange.objects.filter(key=pk).order_by("-id").values("pk")[:1]
        assert PendingChange.objects.filter(pk=last.get()["pk"]).update(created_at=written[0]) == 1
        return written


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(capture, "timezone", clock)
    return clock


@pytest.fixture
def history(clock):
    with captured_by_signals():
        yield from a_history(clock)


def a_history(clock):
    Book.objects.bulk_create([Book(pk=pk) for pk in range(1, ROWS + 1)])
    forget_log()
    LogHead.objects.create(pk=store.HEAD_ID, position=0, mark=0)
    yield History(clock)


@pytest.fixture
def history_of_triggers(history):
    with captured_by_triggers("tests.Book"):
        LogHead.objects.create(pk=store.HEAD_ID, position=0, mark=0)
        yield HistoryOfTriggers(history.clock)


def refuse():
    raise Undone


def write_at_random(history, seed):
    """Transactions of some rows in any order, so that some wait for each other in a circle."""
    chance = random.Random(seed)
    for _ in range(TRANSACTIONS):
        steps = chance.sample(range(1, ROWS + 1), chance.choice([1, 2, 2, 3]))
        if chance.random() < 0.3:
            steps.insert(1, partial(history.write_and_undo, chance.choice(steps)))
        if chance.random() < 0.2:
            steps.append(refuse)
        history.write(*steps)


def read_notes(pending):
    """Some of what is pending, as the sequencer reads all of it."""
    return [
        store.PendingChange(*row)
        for row in pending.order_by("id").values_list(*store.PendingChange._fields)
    ]


def sequence_until(done):
    while not done.is_set():
        sequence("default")


def read_until(done):
    """A process that follows the log: what it has read when all is said."""
    read, place = [], Position(0, 0)
    while True:
        is_last = done.is_set()
        with snapshot("default"):
            entries = [] if store.head("default") == place else store.since("default", place)
        read += [Position(entry.position, entry.mark) for entry in entries]
        if entries:
            place = read[-1]
        elif is_last:
            return read


def run_storm(history):
    written, done = threading.Event(), threading.Event()
    sequencers = [InThread(sequence_until, written) for _ in range(SEQUENCERS)]
    reader = InThread(read_until, done)
    writers = [InThread(write_at_random, history, seed) for seed in range(WRITERS)]
    try:
        for writer in writers:
            writer.result()
    finally:
        written.set()
    for thread in sequencers:
        thread.result()
    sequence("default")
    done.set()
    return reader.result()


@pytest.mark.only_on("postgresql", "mariadb")
def test_writers_that_meet_and_three_sequencers(history):
    overlap(history)
    wait_in_a_circle(history)
    read = run_storm(history)
    history.check()
    assert history.rollbacks > 10
    assert history.deadlocks >= 1
    assert read == list(Change.objects.order_by("position").values_list("position", "mark"))


@pytest.mark.only_on("sqlite")
def test_writers_one_after_the_other_and_three_sequencers(history, monkeypatch):
    monkeypatch.setattr(f"{__name__}.TRANSACTIONS", 10)
    read = run_storm(history)
    history.check()
    assert history.rollbacks > 5
    assert history.deadlocks == 0
    assert read == list(Change.objects.order_by("position").values_list("position", "mark"))


@pytest.mark.only_on("sqlite", "postgresql")
def test_writers_by_triggers_and_three_sequencers(history_of_triggers, monkeypatch):
    monkeypatch.setattr(f"{__name__}.TRANSACTIONS", 10)
    if connection.vendor != "sqlite":
        overlap(history_of_triggers)
        wait_in_a_circle(history_of_triggers)
    read = run_storm(history_of_triggers)
    history_of_triggers.check()
    assert history_of_triggers.rollbacks > 0
    assert read == list(Change.objects.order_by("position").values_list("position", "mark"))


# Two transactions that overlap, which is what naive rules take for two that do not


def overlap(history, *, between=lambda: None):
    """One that begins first and commits last, and wrote the other's row after it."""
    is_begun, may_go_on = threading.Event(), threading.Event()

    def wait():
        is_begun.set()
        assert may_go_on.wait(20)

    slow = InThread(history.write, 1, wait, 2)
    assert is_begun.wait(20)
    history.write(2)
    between()
    may_go_on.set()
    slow.result()


def wait_in_a_circle(history):
    """Each has written one row, and wants the other's: one of them is rolled back."""
    barrier = threading.Barrier(2, timeout=20)
    before = history.deadlocks
    one = InThread(history.write, 3, barrier.wait, 4)
    other = InThread(history.write, 4, barrier.wait, 3)
    one.result(), other.result()
    assert history.deadlocks == before + 1


def tell(history, *, between=lambda: None):
    overlap(history, between=between)
    sequence("default")
    history.check()


@pytest.mark.only_on("postgresql", "mariadb")
def test_transactions_that_overlap(history):
    tell(history)
    assert in_versions(history) == [(2, 1), (1, 1), (2, 2)]


@pytest.mark.only_on("postgresql")
def test_transactions_that_overlap_by_triggers(history_of_triggers):
    tell(history_of_triggers)
    assert in_versions(history_of_triggers) == [(2, 1), (1, 1), (2, 2)]


@pytest.mark.only_on("postgresql", "mariadb")
def test_transactions_that_overlap_one_of_them_sequenced(history):
    tell(history, between=partial(sequence, "default"))
    assert in_versions(history) == [(2, 1), (1, 1), (2, 2)]


def in_versions(history):
    entries = Change.objects.order_by("position")
    return [history.committed[entry.created_at][:2] for entry in entries]


# The rule broken: the same checks must say so


@pytest.mark.only_on("postgresql", "mariadb")
def test_numbered_by_id_a_transaction_is_torn_apart(history, monkeypatch):
    monkeypatch.setattr(sequencer, "in_commit_order", list)
    with pytest.raises(AssertionError, match="a transaction in parts"):
        tell(history)


@pytest.mark.only_on("postgresql", "mariadb")
def test_numbered_by_the_first_id_a_row_goes_back_in_time(history, monkeypatch):
    def by_first_id(pending):
        firsts = {}
        for change in pending:
            firsts.setdefault(change.transaction, change.id)
        return sorted(pending, key=lambda change: (firsts[change.transaction], change.id))

    monkeypatch.setattr(sequencer, "in_commit_order", by_first_id)
    with pytest.raises(AssertionError, match="row 2 in another order"):
        tell(history)


@pytest.mark.only_on("postgresql")
def test_numbered_by_transaction_id_a_row_goes_back_in_time(history, monkeypatch):
    """The rule that waits for the oldest transaction still running loses nothing; yet see."""

    def finished(alias):
        oldest = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
        return read_notes(store.pending(alias).extra(where=[f"transaction < {oldest}"]))

    def by_transaction(changes):
        return sorted(changes, key=lambda change: (change.transaction, change.id))

    monkeypatch.setattr(store, "notes", finished)
    monkeypatch.setattr(sequencer, "in_commit_order", by_transaction)
    with pytest.raises(AssertionError, match="row 2 in another order"):
        tell(history)
    assert not PendingChange.objects.exists()


@pytest.mark.only_on("postgresql", "mariadb")
def test_read_after_the_last_id_a_late_commit_is_lost(history, monkeypatch):
    last = 0

    def newer(alias):
        return read_notes(store.pending(alias).filter(pk__gt=last))

    def remember(changes):
        nonlocal last
        last = max((change.id for change in changes), default=last)
        return in_commit_order(changes)

    monkeypatch.setattr(store, "notes", newer)
    monkeypatch.setattr(sequencer, "in_commit_order", remember)
    with pytest.raises(AssertionError):
        tell(history, between=partial(sequence, "default"))
    assert PendingChange.objects.exists()


@pytest.mark.only_on("postgresql", "mariadb")
def test_two_sequencers_without_the_lock_give_a_number_twice(history, monkeypatch):
    barrier = threading.Barrier(2, timeout=20)

    def together(pending):
        barrier.wait()
        return in_commit_order(pending)

    history.write(1, 2)
    monkeypatch.setattr(sequencer, "_locked_head", store.head)
    monkeypatch.setattr(sequencer, "in_commit_order", together)
    threads = [InThread(sequence, "default") for _ in range(2)]
    with pytest.raises(DatabaseError):
        for thread in threads:
            thread.result()


@pytest.mark.only_on("postgresql", "mariadb")
def test_two_sequencers_with_the_lock_wait_for_each_other(history):
    history.write(1, 2)
    with transaction.atomic():
        sequencer._locked_head("default")
        thread = InThread(sequence, "default")
        wait_for_a_waiting_lock()
        assert not logged()
    assert thread.result() == 2
    history.check()


# The head


def test_the_head_is_made_anew_where_a_flush_has_taken_it(history):
    history.write(1)
    sequence("default")
    LogHead.objects.all()._raw_delete("default")
    history.write(2)
    assert sequence("default") == 1
    history.check()


def test_of_an_empty_log_the_first_position_is_one():
    Book.objects.create()
    forget_log()
    Book.objects.create()
    sequence("default")
    assert Change.objects.get().position == 1


def test_marks_tell_two_histories_apart(history):
    history.write(1)
    sequence("default")
    [one] = Change.objects.all()
    forget_log()
    history.committed.clear()
    history.write(1)
    sequence("default")
    [other] = Change.objects.all()
    assert one.position == other.position
    assert one.mark != other.mark


def test_more_than_a_batch(history):
    history.write(*[pk for _ in range(150) for pk in range(1, ROWS + 1)])
    history.write(1)
    assert sequence("default") == 150 * ROWS + 1
    history.check()


def test_nothing_pending_nothing_locked(history, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert sequence("default") == 0


def test_no_receiver_of_the_projects_hears_of_the_log(history):
    def refuse_all(sender, **kwargs):
        raise AssertionError(f"a signal of {sender}")

    history.write(1)
    LogHead.objects.all()._raw_delete("default")
    for signal in (signals.pre_save, signals.post_save, signals.pre_delete, signals.post_delete):
        signal.connect(refuse_all)
    try:
        assert sequence("default") == 1
    finally:
        for signal in (
            signals.pre_save,
            signals.post_save,
            signals.pre_delete,
            signals.post_delete,
        ):
            assert signal.disconnect(refuse_all)


@pytest.mark.only_on("postgresql")
def test_a_project_that_isolates_its_transactions(history):
    """After the lock, the changes of its last holder are visible; REPEATABLE READ would refuse."""
    history.write(1)
    set_isolation = "SET default_transaction_isolation = 'repeatable read'"

    def sequence_isolated():
        with connection.cursor() as cursor:
            cursor.execute(set_isolation)
        return sequence("default")

    with transaction.atomic():
        sequencer._locked_head("default")
        LogHead.objects.filter(pk=store.HEAD_ID).update(position=models.F("position"))
        thread = InThread(sequence_isolated)
        wait_for_a_waiting_lock()
    assert thread.result() == 1
    history.check()
