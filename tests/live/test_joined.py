"""On PostgreSQL a save in autocommit mode is one statement, its note in it."""

from __future__ import annotations

import logging
from threading import Event

import pytest
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    ProgrammingError,
    connection,
    transaction,
)
from django.db.models import F
from django.db.models.signals import pre_save
from django.test.utils import CaptureQueriesContext

from rest_channels.live import capture, log
from rest_channels.live.joined import Joined
from rest_channels.models import PendingChange
from tests.live.changes import InThread, forget_log, noted, wait_for_a_waiting_lock
from tests.models import Book, Item, Novel, Shelf, Tag

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.only_on("postgresql")]


@pytest.fixture(autouse=True)
def nothing_noted():
    forget_log()
    # Looked for now, not in a story that counts or hides them.
    log.forget_tables()
    assert log.is_installed("default")


def statements(write):
    """What `write` sent to the database."""
    with CaptureQueriesContext(connection) as queries:
        write()
    return [query["sql"] for query in queries.captured_queries]


def test_it_is_one_statement():
    book = Book(title="Emma")
    [created] = statements(book.save)
    assert noted() == [("Book", str(book.pk), "create")]
    book.title = "Sense"
    [updated] = statements(book.save)
    assert noted() == [("Book", str(book.pk), "update")]
    assert "INSERT INTO" in created and "UPDATE" in updated
    book.refresh_from_db()
    assert book.title == "Sense"


def test_the_fields_that_are_saved_are_noted():
    book = Book.objects.create(title="Emma")
    book.save(update_fields=["title"])
    assert [c.fields for c in PendingChange.objects.order_by("id")] == [None, "title"]
    assert PendingChange.objects.values("transaction").distinct().count() == 2


def test_a_key_that_the_writer_gives():
    item = Item(name="lamp")
    statements(item.save)
    assert noted() == [("Item", str(item.pk), "create")]
    # Django tries to update first, which finds nothing and so notes nothing.
    assert len(statements(Book(pk=70_000, title="Emma").save)) == 2
    assert noted() == [("Book", "70000", "create")]


def test_an_expression_is_evaluated_as_ever():
    book = Book.objects.create(title="Emma", version=1)
    book.version = F("version") + 1
    book.save()
    book.refresh_from_db()
    assert book.version == 2
    assert [kind for *_, kind in noted()] == ["create", "update"]


def test_a_row_that_is_gone_is_not_updated():
    book = Book.objects.create(title="Emma")
    Book.objects.filter(pk=book.pk)._raw_delete("default")
    noted()
    with pytest.raises(DatabaseError, match="did not affect any rows"):
        book.save(force_update=True)
    assert noted() == []


def test_models_of_two_tables_are_saved_in_a_transaction():
    novel = Novel.objects.create(title="Emma")
    keys = {(model, kind) for model, key, kind in noted() if key == str(novel.pk)}
    assert {("Book", "create"), ("Novel", "create")} <= keys


def test_the_writers_own_errors_are_its_own():
    book = Book.objects.create(title="Emma")
    noted()
    with pytest.raises(IntegrityError), CaptureQueriesContext(connection) as queries:
        Book(pk=book.pk, title="Sense").save(force_insert=True)
    assert len(queries) == 1
    with pytest.raises(DataError):
        Book(title="x" * 51).save()
    assert noted() == []


def test_a_note_that_cannot_be_made_does_not_keep_the_row(caplog, monkeypatch):
    monkeypatch.setattr(capture, "_last_warning", {})
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE rest_channels_pendingchange RENAME TO elsewhere")
    try:
        with caplog.at_level(logging.ERROR, "rest_channels"):
            book = Book.objects.create(title="Emma")
            book.title = "Sense"
            book.save()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO rest_channels_pendingchange")
    assert Book.objects.get().title == "Sense"
    # Of two, for the same is said once a minute.
    assert [r.levelname for r in caplog.records] == ["ERROR"]


def test_a_save_that_waited_too_long_and_then_did_not_is_noted(monkeypatch):
    """Nobody knows whose lock it was: the row's, or one of the notes'."""
    book = Book.objects.create(title="Emma")
    noted()
    has_locked, may_go, execute_apart = Event(), Event(), Joined._execute_apart

    def hold():
        with transaction.atomic():
            Book.objects.select_for_update().get(pk=book.pk)
            has_locked.set()
            assert may_go.wait(20)

    def let_go(*args):
        may_go.set()
        holding.result()
        return execute_apart(*args)

    monkeypatch.setattr(Joined, "_execute_apart", let_go)
    holding = InThread(hold)
    assert has_locked.wait(20)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 20")
    book.title = "Sense"
    book.save()
    with connection.cursor() as cursor:
        cursor.execute("RESET lock_timeout")
    assert Book.objects.get().title == "Sense"
    assert noted() == [("Book", str(book.pk), "update")]


def test_a_row_whose_key_is_not_known_yet_is_noted_as_any(monkeypatch):
    """What the second attempt is given it gives to Django, which reads it later."""
    join, failures = Joined._join, []

    def join_badly(*args):
        joined, more = join(*args)
        failures.append(joined)
        return f"{joined} FROM", more

    monkeypatch.setattr(Joined, "_join", join_badly)
    book = Book.objects.create(title="Emma")
    assert failures and Book.objects.get() == book
    assert noted() == [("Book", None, "create")]


def test_what_became_of_a_statement_that_is_not_known_is_not_tried_again(monkeypatch):
    """The server may have committed it before it was lost."""
    monkeypatch.setattr(connection, "is_usable", lambda: False)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE rest_channels_pendingchange RENAME TO elsewhere")
    try:
        with pytest.raises(ProgrammingError):
            Book.objects.create(title="Emma")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO rest_channels_pendingchange")
    assert not Book.objects.exists()


def test_saves_within_a_save():
    """Each statement has the note of its own row."""
    inner = Tag.objects.create(name="inner")
    noted()

    class Outer(Tag):
        class Meta:
            proxy = True
            app_label = "tests"

        def _do_insert(self, *args):
            inner.name = "changed"
            inner.save()
            with transaction.atomic():
                inner.save()
            return super()._do_insert(*args)

    outer = Outer(name="outer")
    outer.save()
    changed = ("Tag", str(inner.pk), "update")
    assert noted() == [changed, changed, ("Tag", str(outer.pk), "create")]


def test_a_receiver_that_raises_before_leaves_nothing_behind():
    def refuse(**kwargs):
        raise RuntimeError

    wrappers = list(connection.execute_wrappers)
    pre_save.connect(refuse, sender=Shelf)
    try:
        with pytest.raises(RuntimeError):
            Shelf.objects.create(name="left")
    finally:
        pre_save.disconnect(refuse, sender=Shelf)
    with pytest.raises(DataError):
        Shelf.objects.create(name="x" * 51)
    assert connection.execute_wrappers == wrappers
    Shelf.objects.create(name="left")
    assert len(noted()) == 1


def test_the_note_gets_its_number_when_the_row_is_locked():
    """Else it would come before what the one who had the lock notes last."""
    book, other = Book.objects.create(title="Emma"), Tag.objects.create(name="red")
    noted()

    def save_as_well():
        mine = Book.objects.get(pk=book.pk)
        mine.title = "second"
        mine.save()

    with transaction.atomic():
        book.title = "first"
        book.save()
        waiting = InThread(save_as_well)
        wait_for_a_waiting_lock()
        other.save()
    waiting.result()
    key = str(book.pk)
    assert noted() == [
        ("Book", key, "update"),
        ("Tag", str(other.pk), "update"),
        ("Book", key, "update"),
    ]
