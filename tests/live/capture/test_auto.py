"""By default triggers note writes, this process notes those to other tables, and nobody twice."""

from __future__ import annotations

import logging
import uuid
from unittest import mock

import pytest
from django.db import connection, models, transaction

from rest_channels.live.capture import coverage, triggers
from rest_channels.models import PendingChange
from tests.models import Book, Item, Room, Shelf, Tag
from tests.support.recorded_changes import forget_log, noted, restore_triggers, tables_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def empty_log():
    forget_log()


def execute(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


@pytest.fixture
def shelves_without_triggers():
    for definition in triggers.definitions("default"):
        if definition.label == "tests.Shelf":
            for statement in triggers.dropping("default", definition.name):
                execute(statement)
    coverage.forget()
    yield
    restore_triggers()


def write_in_every_way(model):
    row = model.objects.create(name="a")
    key = str(row.pk)
    row.name = "b"
    row.save()
    models.QuerySet(model).update(name="c")
    execute(f"UPDATE {model._meta.db_table} SET name = 'd'")
    model.objects.bulk_create([model(pk=7_000, name="e")])
    row.delete()
    return key


def test_triggers_note_every_write_once():
    key = write_in_every_way(Shelf)
    kinds = ["create", "update", "update", "update", "create", "delete"]
    keys = [key, key, key, key, "7000", key]
    assert noted() == [("Shelf", *each) for each in zip(keys, kinds, strict=True)]


def test_a_table_without_triggers_is_noted_by_this_process_once(shelves_without_triggers):
    key = write_in_every_way(Shelf)
    assert noted() == [("Shelf", key, kind) for kind in ("create", "update", "delete")]
    room = Room.objects.create(name="lobby")
    assert noted() == [("Room", str(room.pk), "create")]


def test_a_deletion_of_rows_of_both_kinds_of_tables(shelves_without_triggers):
    shelf = Shelf.objects.create(name="left")
    item = Item.objects.create(name="box", shelf=shelf)
    noted()
    Shelf.objects.filter(pk=shelf.pk).delete()
    assert sorted(noted()) == [
        ("Item", str(item.pk), "delete"),
        ("Shelf", str(shelf.pk), "delete"),
    ]


def test_links_are_noted_once_by_the_trigger_of_the_table_between():
    book, tag = Book.objects.create(title="Emma"), Tag.objects.create(name="red")
    noted()
    book.tags.add(tag)
    assert sorted(noted(), key=str) == [
        ("Book", str(book.pk), "update"),
        ("Book_tags", None, "update"),
        ("Tag", str(tag.pk), "update"),
    ]


def test_a_table_that_comes_later_is_noted_by_this_process_until_it_has_triggers():
    class Lamp(models.Model):
        name = models.CharField(max_length=50)

        class Meta:
            app_label = "tests"

    with tables_of(Lamp):
        coverage.look("default")
        lamp = Lamp.objects.create(name="a")
        assert noted() == [("Lamp", str(lamp.pk), "create")]
        triggers.sync("default")
        forget_log()
        lamp.save()
        models.QuerySet(Lamp).update(name="b")
        assert noted() == [("Lamp", str(lamp.pk), "update")] * 2
    restore_triggers()


def fields():
    found = [change.fields for change in PendingChange.objects.order_by("id")]
    forget_log()
    return found


def test_the_fields_that_a_save_names():
    item = Item.objects.create(name="box")
    fields()
    item.save(update_fields=["version", "name"])
    assert fields() == ["name,version"]
    item.save()
    item.save(update_fields=["name"])
    assert fields() == [None, "name"]


def test_the_fields_of_a_save_within_a_transaction_are_its_own():
    item, other = Item.objects.create(name="box"), Item.objects.create(name="bag")
    fields()
    with transaction.atomic():
        item.save()
        other.save(update_fields=["name"])
        item.save(update_fields=["version"])
    assert fields() == [None, "name", "version"]


def test_the_fields_that_an_update_names():
    Item.objects.bulk_create([Item(name="box"), Item(name="bag")])
    fields()
    with transaction.atomic():
        Item.objects.get(name="box").save()
        Item.objects.update(version=2)
    assert fields() == [None, "version", "version"]


def test_writes_of_any_queryset_ring_once_they_are_committed(rings):
    shelf = Shelf.objects.create(name="left")
    before = len(rings.seen)
    with transaction.atomic():
        models.QuerySet(Shelf).update(name="right")
        models.QuerySet(Shelf).bulk_create([Shelf(name="middle")])
        assert len(rings.seen) == before
    assert len(rings.seen) == before + 1
    models.QuerySet(Shelf).filter(pk=shelf.pk).delete()
    assert len(rings.seen) == before + 2
    models.QuerySet(Shelf).filter(pk=0).update(name="nobody")
    assert len(rings.seen) == before + 2


def test_the_catalogue_is_read_once():
    coverage.forget()
    with mock.patch.object(coverage, "_read", side_effect=triggers.covered) as read:
        for _ in range(3):
            Shelf.objects.create(name="left")
    assert read.call_count == 1


def test_where_the_catalogue_cannot_be_read_this_process_notes(shelves_without_triggers):
    with mock.patch.object(coverage, "_read", side_effect=RuntimeError):
        shelf = Shelf.objects.create(name="left")
    assert noted() == [("Shelf", str(shelf.pk), "create")]


@pytest.fixture
def other_schema():
    execute("CREATE SCHEMA other_floor")
    execute("CREATE TABLE other_floor.tests_shelf (LIKE public.tests_shelf INCLUDING ALL)")
    coverage.look("default")
    yield
    execute("DROP SCHEMA other_floor CASCADE")
    coverage.forget()


@pytest.mark.only_on("postgresql")
def test_a_table_that_several_schemas_have_is_noted_by_this_process(other_schema):
    """A search path may lead to the one without triggers."""
    execute("SET search_path = other_floor, public")
    try:
        shelf = Shelf.objects.create(name="left")
        room = Room.objects.create(name="lobby")
    finally:
        execute("RESET search_path")
    assert noted() == [("Shelf", str(shelf.pk), "create"), ("Room", str(room.pk), "create")]


@pytest.mark.only_on("postgresql")
def test_a_role_that_may_not_make_triggers(caplog, shelves_without_triggers):
    """Its writes are seen, and the warning names the command to run."""
    role = f"rest_channels_{uuid.uuid4().hex[:8]}"
    execute(f"CREATE ROLE {role}")
    try:
        execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
        with caplog.at_level(logging.WARNING, "rest_channels"):
            execute(f"SET ROLE {role}")
            triggers.sync("default")
            shelf = Shelf.objects.create(name="left")
            room = Room.objects.create(name="lobby")
            execute("RESET ROLE")
        [record] = caplog.records
        assert f'GRANT CREATE ON SCHEMA "public" TO {role}' in record.getMessage()
        assert f'GRANT TRIGGER ON TABLE "tests_shelf" TO {role}' in record.getMessage()
        assert "sync_triggers --database default" in record.getMessage()
        assert noted() == [
            ("Shelf", str(shelf.pk), "create"),
            ("Room", str(room.pk), "create"),
        ]
        # As the message says.
        execute(f'GRANT CREATE ON SCHEMA "public" TO {role}')
        execute(f'GRANT TRIGGER ON TABLE "tests_shelf" TO {role}')
        execute(f"SET ROLE {role}")
        triggers.sync("default")
        assert triggers.differences("default") == ([], [])
    finally:
        execute("RESET ROLE")
        execute(f"DROP OWNED BY {role} CASCADE")
        execute(f"DROP ROLE {role}")
