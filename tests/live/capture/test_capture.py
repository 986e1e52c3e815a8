"""Every write of a row is noted, in its transaction; what goes wrong there harms no write."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import uuid

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.models import F, ProtectedError
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from rest_channels.live.capture import model_signals, writes
from rest_channels.live.capture.writes import Write, record
from rest_channels.live.keys import key_of
from rest_channels.live.log import store
from rest_channels.live.log.sequencer import sequence
from rest_channels.models import PendingChange
from rest_channels.observing.paced_warnings import Pace
from tests.models import Book, Classic, Document, Item, Message, Novel, Room, Seat, Shelf, Tag
from tests.support.distribution import ROOT
from tests.support.recorded_changes import (
    InThread,
    another_database,
    forget_log,
    logged,
    noted,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_triggers")]


@pytest.fixture(autouse=True)
def nothing_noted():
    forget_log()


def made(*instances):
    """Rows that are there already."""
    for instance in instances:
        instance.save()
    noted()
    return instances if len(instances) > 1 else instances[0]


# One row


def test_created_updated_deleted():
    shelf = Shelf.objects.create(name="left")
    key = str(shelf.pk)
    shelf.name = "right"
    shelf.save()
    shelf.delete()
    assert noted() == [("Shelf", key, "create"), ("Shelf", key, "update"), ("Shelf", key, "delete")]


def test_update_or_create_and_get_or_create():
    shelf, _ = Shelf.objects.get_or_create(name="left")
    Shelf.objects.get_or_create(name="left")
    Shelf.objects.update_or_create(pk=shelf.pk, defaults={"name": "right"})
    assert noted() == [("Shelf", str(shelf.pk), "create"), ("Shelf", str(shelf.pk), "update")]


def test_a_row_saved_under_a_key_of_ones_own():
    Shelf(pk=70_000_000, name="left").save()
    Shelf(pk=70_000_000, name="right").save()
    Shelf(pk="70000000", name="as a form has it").save()
    kinds = [kind for _, _, kind in noted()]
    assert kinds == ["create", "update", "update"]


def test_keys_are_those_of_the_column():
    tag = Tag(pk=uuid.uuid4().hex, name="red")
    tag.save()
    Shelf(pk="70000000").save()
    assert noted() == [
        ("Tag", str(uuid.UUID(tag.pk)), "create"),
        ("Shelf", "70000000", "create"),
    ]


def test_an_expression():
    book = made(Book(title="Emma"))
    book.version = F("version") + 1
    book.save()
    assert noted() == [("Book", str(book.pk), "update")]
    book.refresh_from_db()
    assert book.version == 1


def test_the_fields_that_were_saved():
    book = Book.objects.create(title="Emma")
    book.save(update_fields=["version", "title"])
    assert list(PendingChange.objects.values_list("kind", "fields")) == [
        ("create", None),
        ("update", "title,version"),
    ]


def test_no_fields_no_write():
    book = made(Book(title="Emma"))
    book.save(update_fields=[])
    assert noted() == []


def test_a_write_that_fails():
    room = made(Room(name="lobby"))
    with pytest.raises(IntegrityError):
        Room.objects.create(name="lobby")
    with pytest.raises(DatabaseError):
        Room(pk=room.pk + 1, name="attic").save(force_update=True)
    assert noted() == []


def test_a_fixture(tmp_path):
    fixture = tmp_path / "books.json"
    rows = [{"model": "tests.novel", "pk": 7, "fields": {"plot": "Two sisters."}},
            {"model": "tests.book", "pk": 7, "fields": {"title": "Sense", "tags": []}}]  # fmt: skip
    fixture.write_text(json.dumps(rows))
    call_command("loaddata", str(fixture), verbosity=0)
    assert noted() == [("Novel", "7", "create"), ("Book", "7", "create")]


# Other shapes of models


def test_two_tables_are_two_rows():
    novel = Novel.objects.create(title="Emma", plot="A match.")
    key = str(novel.pk)
    assert noted() == [("Book", key, "create"), ("Novel", key, "create")]
    novel.save()
    assert noted() == [("Book", key, "update"), ("Novel", key, "update")]
    novel.delete()
    assert sorted(noted()) == [("Book", key, "delete"), ("Novel", key, "delete")]


def test_a_proxy_writes_to_the_table_of_its_model(settings):
    for names in ("__all__", ["tests.Book"]):
        settings.REST_CHANNELS = {"CAPTURE_MODELS": names}
        book = Classic.objects.create(title="Emma")
        key = str(book.pk)
        book.save()
        book.delete()
        assert [change for change in noted() if change[1]] == [
            ("Book", key, "create"),
            ("Book", key, "update"),
            ("Book", key, "delete"),
        ]


# Deletions


def test_a_cascade():
    room = made(Room(name="lobby"))
    messages = [Message.objects.create(room=room, text="hi") for _ in range(2)]
    noted()
    key, keys = str(room.pk), [str(message.pk) for message in messages]
    room.delete()
    assert sorted(noted()) == sorted(
        [("Room", key, "delete"), *(("Message", message, "delete") for message in keys)]
    )


def test_a_queryset_deleted():
    made(Room(name="lobby"), Room(name="attic"))
    keys = [str(pk) for pk in Room.objects.values_list("pk", flat=True)]
    Room.objects.all().delete()
    assert sorted(noted()) == sorted(("Room", key, "delete") for key in keys)


def test_a_protected_row_stays_and_nothing_is_noted():
    room = made(Room(name="lobby"))
    Document.objects.create(room=room, price=1)
    noted()
    with pytest.raises(ProtectedError):
        room.delete()
    assert noted() == []


def test_rows_that_lose_their_reference():
    shelf, other = made(Shelf(name="left"), Shelf(name="right"))
    one, two, _ = made(
        Book(title="Emma", shelf=shelf), Book(title="Sense", former_shelf=shelf), Book(shelf=other)
    )
    shelf.delete()
    assert [change for change in noted() if change[0] == "Book"] == [
        ("Book", str(one.pk), "update"),
        ("Book", str(two.pk), "update"),
    ]
    assert Book.objects.get(pk=one.pk).shelf is None


def test_rows_that_lose_a_reference_to_what_is_not_captured(settings):
    settings.REST_CHANNELS = {"CAPTURE_MODELS": ["tests.Book"]}
    shelf = made(Shelf(name="left"))
    book = made(Book(title="Emma", shelf=shelf))
    shelf.delete()
    assert noted() == [("Book", str(book.pk), "update")]


@pytest.mark.only_on("postgresql", "mariadb")
def test_who_loses_a_reference_is_written_after_who_wrote_the_row_before(monkeypatch):
    """A row's pending change comes once it is locked, not when Django only begins to delete."""
    shelf = made(Shelf(name="left"))
    book = made(Book(title="Emma", shelf=shelf))
    is_written, is_found = threading.Event(), threading.Event()
    losing = model_signals._losing_reference

    def found(*args):
        yield from losing(*args)
        is_found.set()
        assert is_written.wait(20)

    monkeypatch.setattr(model_signals, "_losing_reference", found)
    for module in (writes, model_signals):
        monkeypatch.setattr(module, "is_captured", lambda model: model is Book)
    deleting = InThread(shelf.delete)
    assert is_found.wait(20)
    Book.objects.get(pk=book.pk).save(update_fields=["title"])
    is_written.set()
    deleting.result()
    sequence("default")
    fields = list(store.entries("default").order_by("position").values_list("fields", flat=True))
    assert fields == ["title", "shelf"]


def test_more_rows_lose_their_reference_than_are_noted_one_by_one(monkeypatch):
    monkeypatch.setattr(writes, "MAX_ROWS", 2)
    shelf = made(Shelf(name="left"))
    made(*[Book(shelf=shelf) for _ in range(3)])
    shelf.delete()
    assert ("Book", None, "update") in noted()


# Nothing of what is not captured is done in another way


def test_what_is_not_captured_is_deleted_as_fast_as_ever(settings, django_assert_num_queries):
    settings.REST_CHANNELS = {"CAPTURE_MODELS": ["tests.Room"]}
    made(Tag(name="red"))
    made(Message(room=made(Room(name="lobby"))))
    with transaction.atomic(), django_assert_num_queries(1) as queries:
        Message.objects.all().delete()
    assert queries[0]["sql"].startswith("DELETE")
    settings.REST_CHANNELS = {"CAPTURE": None}
    made(Room(name="attic"))
    with CaptureQueriesContext(connection) as queries:
        Room.objects.filter(name="attic").delete()
    assert not any("pending" in query["sql"] for query in queries)


def test_rows_of_link_tables_are_deleted_as_fast_as_ever():
    book = made(Book(title="Emma"))
    book.tags.add(made(Tag(name="red")))
    with CaptureQueriesContext(connection) as queries:
        book.tags.clear()
    of_links = [query["sql"] for query in queries if "tests_book_tags" in query["sql"]]
    assert len(of_links) == 1


# Many to many


@pytest.fixture
def book_and_tag():
    book, tag = made(Book(title="Emma"), Tag(name="red"))
    return book, tag, [("Book", str(book.pk), "update"), ("Tag", str(tag.pk), "update")]


LINKS = ("Book_tags", None, "update")


def test_links_added_and_removed(book_and_tag):
    book, tag, both = book_and_tag
    book.tags.add(tag)
    assert noted() == [*both, LINKS]
    book.tags.add(tag)
    assert noted() == []
    book.tags.remove(tag)
    assert noted() == [*both, LINKS]
    book.tags.set([tag])
    assert noted() == [*both, LINKS]


def test_links_from_the_other_side(book_and_tag):
    book, tag, (of_book, of_tag) = book_and_tag
    tag.books.add(book)
    assert noted() == [of_tag, of_book, LINKS]
    tag.books.remove(book)
    assert noted() == [of_tag, of_book, LINKS]


def test_links_cleared(book_and_tag):
    book, tag, (of_book, of_tag) = book_and_tag
    book.tags.add(tag)
    noted()
    book.tags.clear()
    assert noted() == [of_book, ("Tag", None, "update"), LINKS]
    tag.books.add(book)
    noted()
    tag.books.clear()
    assert noted() == [of_tag, ("Book", None, "update"), LINKS]


def test_links_that_go_with_their_row(book_and_tag):
    book, tag, _ = book_and_tag
    book.tags.add(tag)
    noted()
    key = str(tag.pk)
    tag.delete()
    assert noted() == [("Tag", key, "delete"), ("Book_tags", None, "delete")]


# Transactions


def test_a_rollback():
    with pytest.raises(RuntimeError), transaction.atomic():
        Shelf.objects.create(name="left")
        assert PendingChange.objects.count() == 1
        raise RuntimeError
    assert noted() == []


def test_a_savepoint_rolled_back():
    with transaction.atomic():
        Shelf.objects.create(name="left")
        with pytest.raises(RuntimeError), transaction.atomic():
            Shelf.objects.create(name="right")
            raise RuntimeError
    assert [(label, kind) for label, _, kind in noted()] == [("Shelf", "create")]


def test_the_commit_rings_once(rings):
    with transaction.atomic():
        for _ in range(3):
            Shelf.objects.create(name="left")
        assert rings.seen == []
    assert rings.seen == [3]


def test_what_is_rolled_back_rings_nobody(rings):
    with transaction.atomic(), pytest.raises(RuntimeError), transaction.atomic():
        Shelf.objects.create(name="left")
        raise RuntimeError
    assert rings.seen == []


def test_a_write_after_a_savepoint_rolled_back_rings(rings):
    with transaction.atomic():
        with pytest.raises(RuntimeError), transaction.atomic():
            Shelf.objects.create(name="left")
            raise RuntimeError
        Shelf.objects.create(name="right")
    assert rings.seen == [1]


@pytest.mark.only_on("sqlite", "mariadb")
def test_without_a_transaction_the_row_and_its_change_appear_together(rings, monkeypatch):
    """
    A process that is killed between the two leaves neither. On PostgreSQL they are one statement:
    see test_joined.py.
    """

    def counts():
        return Shelf.objects.count(), PendingChange.objects.count()

    seen = []
    insert = writes._insert

    def look_before_and_after(alias, rows):
        if connection.vendor == "sqlite":
            # The writer holds the only write lock; readers go on.
            assert connection.in_atomic_block
        seen.append(InThread(counts).result())
        insert(alias, rows)
        seen.append(InThread(counts).result())

    monkeypatch.setattr(writes, "_insert", look_before_and_after)
    assert connection.get_autocommit()
    Shelf.objects.create(name="left")
    assert seen == [(0, 0), (0, 0)]
    assert counts() == (1, 1)
    assert rings.seen == [1]


def test_a_receiver_that_raises_after_the_row_is_there():
    """Outside a transaction `post_save` comes too late to undo it."""

    def refuse(**kwargs):
        raise RuntimeError

    post_save.connect(refuse, sender=Shelf)
    try:
        with pytest.raises(RuntimeError):
            Shelf.objects.create(name="left")
    finally:
        post_save.disconnect(refuse, sender=Shelf)
    assert Shelf.objects.count() == 1
    assert len(noted()) == 1


def test_post_save_comes_after_the_commit_as_ever():
    seen = []

    def look(**kwargs):
        seen.append((connection.in_atomic_block, InThread(Shelf.objects.count).result()))

    post_save.connect(look, sender=Shelf)
    try:
        Shelf.objects.create(name="left")
    finally:
        post_save.disconnect(look, sender=Shelf)
    assert seen == [(False, 1)]


# What it costs


def test_one_query_a_write(django_assert_num_queries):
    book, tag = made(Book(title="Emma"), Tag(name="red"))
    with transaction.atomic():
        with django_assert_num_queries(2):
            book.save()
        with django_assert_num_queries(2):
            Shelf.objects.create(name="left")
        with CaptureQueriesContext(connection) as queries:
            book.tags.add(tag)
            book.tags.remove(tag)
            tag.delete()
    assert sum("rest_channels_pendingchange" in query["sql"] for query in queries) == 3


# Other databases


def test_a_change_is_noted_where_the_row_is(tmp_path):
    with another_database(tmp_path) as other:
        shelf = Shelf(name="left")
        shelf.save(using=other)
        shelf.save(using=other)
        with pytest.raises(RuntimeError), transaction.atomic(using=other):
            Shelf(name="right").save(using=other)
            raise RuntimeError
        with pytest.raises(RuntimeError), transaction.atomic():
            Shelf.objects.using(other).create(pk=9)
            raise RuntimeError
        Shelf.objects.using(other).filter(pk=shelf.pk).delete()
        assert [kind for _, _, kind in noted(other)] == ["create", "update", "create", "delete"]
        assert noted() == []


def test_a_database_without_the_tables(tmp_path, caplog):
    with another_database(tmp_path, is_migrated=False) as other:
        for model in (Shelf, Tag, Item, Book):
            with connections[other].schema_editor() as editor:
                editor.create_model(model)
        shelf = Shelf(name="left")
        shelf.save(using=other)
        book = Book.objects.using(other).create(shelf=shelf)
        book.tags.add(Tag.objects.using(other).create(name="red"))
        with CaptureQueriesContext(connections[other]) as queries:
            shelf.delete(using=other)
        assert not any("rest_channels" in query["sql"] for query in queries)
        assert caplog.records == []


def test_tables_that_come_later_are_found(tmp_path):
    with another_database(tmp_path, is_migrated=False) as other:
        assert not store.is_installed(other)
        call_command("migrate", database=other, run_syncdb=True, verbosity=0)
        Shelf(pk=7).save(using=other, force_insert=True)
        assert ("Shelf", "7", "create") in noted(other)


# Settings


def test_capture_none(settings, django_assert_num_queries):
    settings.REST_CHANNELS = {"CAPTURE": None}
    with django_assert_num_queries(1):
        Shelf.objects.create(name="left")
    assert noted() == []


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ("__all__", {"auth.User", "Shelf", "Room"}),
        (["tests"], {"Shelf", "Room"}),
        (["tests.Room", "auth"], {"auth.User", "Room"}),
        (["sessions.Session"], {"sessions.Session"}),
        ([], set()),
    ],
)
def test_models_by_name(names, labels, settings):
    settings.REST_CHANNELS = {"CAPTURE_MODELS": names}
    user = User.objects.create(username="ann")
    shelf, room = Shelf.objects.create(), Room.objects.create(name="lobby")
    session = Session.objects.create(session_key="s", expire_date=timezone.now())
    ContentType.objects.create(app_label="a", model="b").delete()
    assert {label for label, _, _ in noted()} == labels
    for instance in (user, shelf, room, session):
        instance.delete()
    assert {label for label, key, _ in noted() if key} == labels


# What goes wrong here is not the writer's affair


@pytest.fixture
def no_table():
    """The table is gone, and nobody has noticed."""
    assert store.is_installed("default")
    with connection.schema_editor() as editor:
        editor.delete_model(PendingChange)
    yield
    with connection.schema_editor() as editor:
        editor.create_model(PendingChange)


@pytest.fixture
def errors(caplog, monkeypatch):
    monkeypatch.setattr(writes, "_pace", Pace())
    return lambda: [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


def write_in_every_way():
    shelf = Shelf.objects.create(name="left")
    book = Book.objects.create(title="Emma", shelf=shelf)
    tag = Tag.objects.create(name="red")
    book.tags.add(tag)
    Item.objects.create(name="one")
    assert Item.objects.update(version=7) == 1
    Item.objects.bulk_create([Item(name="two")])
    shelf.delete()
    return book


def test_a_failing_note_in_autocommit(no_table, errors):
    book = write_in_every_way()
    book.refresh_from_db()
    assert book.shelf is None
    assert Item.objects.get(version=7).name == "one"
    assert book.tags.count() == 1
    assert len(errors()) == 1
    assert "not captured" in errors()[0]


def test_a_failing_note_in_a_transaction(no_table, errors):
    with transaction.atomic():
        book = write_in_every_way()
    assert Book.objects.get(pk=book.pk).tags.count() == 1
    assert len(errors()) == 1


@pytest.mark.only_on("postgresql")
def test_a_connection_that_takes_one_statement_at_a_time(monkeypatch, errors):
    connection.close()
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "server_side_binding", True)
    try:
        with transaction.atomic():
            book = write_in_every_way()
        assert ("Book", str(book.pk), "create") in noted()
        assert errors() == []
        assert store.is_installed("default")
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE rest_channels_pendingchange RENAME TO gone")
            Shelf.objects.create(name="right")
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE gone RENAME TO rest_channels_pendingchange")
        assert Shelf.objects.filter(name="right").exists()
        assert len(errors()) == 1
    finally:
        connection.close()


def test_a_key_that_the_log_cannot_hold():
    assert key_of(Shelf, None) is None
    assert key_of(Shelf, (1, 2)) is None
    assert key_of(Shelf, "no number") is None


def test_a_key_of_two_columns_is_a_change_of_the_table():
    seat = Seat.objects.create(row="A", number=1)
    seat.is_taken = True
    seat.save()
    seat.delete()
    assert noted() == [("Seat", None, kind) for kind in ("create", "update", "delete")]


@pytest.mark.only_on("postgresql")
def test_who_locks_the_table_of_changes_is_waited_for_no_longer_than_the_project_says(errors):
    """Nobody does but migrations, TRUNCATE and the like; a `lock_timeout` bounds that as well."""
    table = PendingChange._meta.db_table

    def write():
        execute("SET lock_timeout = '50ms'")
        with transaction.atomic():
            Shelf.objects.create(name="left")
            Shelf.objects.create(name="right")

    store.is_installed("default")
    with transaction.atomic():
        execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        InThread(write).result()
    assert Shelf.objects.count() == 2
    assert len(errors()) == 1


@pytest.mark.only_on("postgresql")
def test_who_isolates_transactions_fails_no_more_often(errors):
    """Two that overlap and have nothing in common but the table of changes, being read as well."""
    barrier = threading.Barrier(2, timeout=20)

    def write(name):
        with transaction.atomic():
            execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            barrier.wait()
            Shelf.objects.create(name=name)
            barrier.wait()

    writing = [InThread(write, name) for name in ("left", "right")]
    for thread in writing:
        while thread.is_alive():
            sequence("default")
        thread.result()
    sequence("default")
    assert Shelf.objects.count() == 2
    assert [kind for _, _, kind in logged()] == ["create"] * 2
    assert errors() == []


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.mark.parametrize("error", [(1213, "Deadlock found"), (1205, "Lock wait timeout exceeded")])
def test_a_transaction_that_the_database_has_ended_is_not_gone_on_with(error, monkeypatch, errors):
    """MySQL answers a deadlock by undoing all of it: what follows would be committed alone."""

    def insert(alias, rows):
        raise OperationalError(*error)

    monkeypatch.setattr(writes, "_insert", insert)
    monkeypatch.setattr(connection, "vendor", "mysql")
    with pytest.raises(OperationalError):
        record("default", Write(Shelf, ["1"], "update"))
    assert len(errors()) == 1


def test_a_token_is_of_one_transaction_of_one_connection(monkeypatch):
    """MySQL has no id of a transaction that a statement could name."""
    mine, another = connections["default"], connections.create_connection("default")

    def token_of(connection):
        monkeypatch.setattr(connection, "vendor", "mysql")
        monkeypatch.setattr(writes, "connections", {"default": connection})
        return writes.token("default")

    with transaction.atomic():
        first = token_of(mine)
        with transaction.atomic():
            assert token_of(mine) == first
        assert token_of(another) != first
        assert token_of(mine) == first
        writes.ring_after_commit("default")
    assert token_of(mine) != first


# Whoever writes


def test_a_process_that_imports_neither_routes_nor_viewsets(tmp_path):
    script = (
        "import sys, django; django.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('migrate', run_syncdb=True, verbosity=0)\n"
        "from tests.models import Shelf\n"
        "Shelf.objects.create(name='left')\n"
        "from rest_channels.models import PendingChange\n"
        "print([c.kind for c in PendingChange.objects.filter(model='tests.Shelf', key='1')])\n"
        "print({'tests.urls', 'tests.asgi'} & {*sys.modules})\n"
    )
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE": "sqlite",
        "TEST_DATABASE_FILE": str(tmp_path / "database.sqlite3"),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["['create']", "set()"], done.stderr
