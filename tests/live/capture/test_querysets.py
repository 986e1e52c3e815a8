"""Bulk writes, seen; and what they write is what Django's own would."""

from __future__ import annotations

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.db import IntegrityError, NotSupportedError, connection, connections, transaction
from django.db.models import Count, F, Q, QuerySet
from django.test.utils import CaptureQueriesContext

from rest_channels.live.capture import writes
from rest_channels.live.capture.managers import LiveQuerySetMixin
from rest_channels.models import PendingChange
from tests.models import Item, Shelf, Toy
from tests.support.recorded_changes import (
    InThread,
    another_database,
    forget_log,
    noted,
    wait_for_a_waiting_lock,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_triggers")]


@pytest.fixture(autouse=True)
def nothing_noted(db):
    forget_log()


@pytest.fixture
def items():
    """Three on the left shelf, and one that is nowhere."""
    shelf = Shelf.objects.create(name="left")
    items = [Item.objects.create(name=name, shelf=shelf) for name in ("a", "b", "c")]
    items.append(Item.objects.create(name="d"))
    forget_log()
    return items


def updates(*items):
    return sorted(("Item", str(item.pk), "update") for item in items)


# update


def test_update(items):
    assert Item.objects.filter(name__in="ab").update(version=1) == 2
    assert sorted(noted()) == updates(*items[:2])
    assert list(Item.objects.order_by("name").values_list("version", flat=True)) == [1, 1, 0, 0]


def test_update_of_nothing(items):
    assert Item.objects.filter(name="z").update(version=1) == 0
    assert Item.objects.none().update(version=1) == 0
    assert noted() == []


def test_update_that_makes_rows_match_no_more(items):
    assert Item.objects.filter(version=0, name="a").update(version=F("version") + 1, name="e") == 1
    assert noted() == updates(items[0])


@pytest.mark.parametrize(
    "narrow",
    [
        lambda items: items.filter(shelf__name="left"),
        lambda items: items.filter(Q(shelf__name="left") | Q(name="z")),
        lambda items: items.filter(shelf__name="left").distinct(),
        lambda items: items.exclude(shelf=None).select_related("shelf"),
        lambda items: items.annotate(n=Count("shelf__items")).filter(n=3),
        lambda items: items.filter(shelf__items__name="a").values("name"),
        lambda items: items.filter(pk__in=Item.objects.filter(shelf__name="left")),
        lambda items: items.exclude(name="d").order_by("-name"),
        lambda items: items.exclude(name="d").defer("name"),
        lambda items: items.filter(name="a") | items.filter(name__in="bc"),
    ],
)  # fmt: skip
def test_querysets_of_every_kind(narrow, items):
    assert narrow(Item.objects.all()).update(version=1) == 3
    assert sorted(noted()) == updates(*items[:3])
    assert Item.objects.filter(version=1).count() == 3


@pytest.mark.parametrize(
    ("narrow", "error"),
    [
        (lambda items: items.all()[:2], TypeError),
        (lambda items: items.all().union(items.all()), NotSupportedError),
    ],
)
def test_what_django_refuses_it_refuses_in_its_own_words(narrow, error, items):
    with pytest.raises(error) as ours:
        narrow(Item.objects).update(version=1)
    with pytest.raises(error) as djangos:
        narrow(QuerySet(Item)).update(version=1)
    assert str(ours.value) == str(djangos.value)
    assert noted() == []


def test_the_order_of_an_update_is_kept(items):
    """MySQL writes row by row, in that order: numbers move up without meeting each other."""
    with CaptureQueriesContext(connection) as queries:
        Item.objects.order_by("-version").update(version=F("version") + 1)
    is_ordered = ["ORDER BY" in q["sql"] for q in queries if q["sql"].startswith("UPDATE")]
    assert is_ordered == [connection.vendor == "mysql"]


def test_update_of_the_key(items):
    Item.objects.filter(name="a").update(id=700_000_000)
    assert noted() == [("Item", None, "update")]


def test_update_of_more_rows_than_are_noted_one_by_one(items, monkeypatch):
    monkeypatch.setattr(writes, "MAX_ROWS", 3)
    assert Item.objects.update(version=1) == 4
    assert noted() == [("Item", None, "update")]
    assert Item.objects.exclude(name="d").update(version=2) == 3
    assert len(noted()) == 3


def test_update_says_which_fields(items):
    Item.objects.filter(name="a").update(version=1, shelf=None)
    assert PendingChange.objects.get().fields == "shelf,version"


def test_update_of_two_tables():
    toy = Toy.objects.create(name="bear")
    forget_log()
    Toy.objects.update(version=4, age=5)
    assert noted() == [("Toy", str(toy.pk), "update"), ("Item", str(toy.pk), "update")]
    toy.refresh_from_db()
    assert (toy.version, toy.age) == (4, 5)


def test_update_that_fails(items):
    with pytest.raises(IntegrityError):
        Item.objects.filter(name__in="ab").update(name="c")
    assert noted() == []
    assert Item.objects.filter(name="a").exists()


def test_update_rolled_back(items):
    with pytest.raises(RuntimeError), transaction.atomic():
        Item.objects.update(version=1)
        raise RuntimeError
    assert noted() == []


def test_update_of_what_is_not_captured(items, settings, django_assert_num_queries):
    settings.REST_CHANNELS = {"CAPTURE_MODELS": ["tests.Shelf"]}
    with transaction.atomic(), django_assert_num_queries(1):
        Item.objects.update(version=1)


def test_update_costs_two_queries_more(items, django_assert_num_queries):
    with transaction.atomic(), django_assert_num_queries(3):
        Item.objects.update(version=1)


def test_update_in_another_database(tmp_path):
    with another_database(tmp_path) as other:
        Item(name="a").save(using=other)
        noted(other)
        assert Item.objects.using(other).update(version=1) == 1
        Item.objects.using(other).bulk_create([Item(name="b")])
        assert [kind for _, _, kind in noted(other)] == ["update", "create"]
    assert noted() == []


# Through relations


def test_update_through_a_related_manager(items):
    shelf = items[0].shelf
    assert shelf.items.update(version=1) == 3
    assert sorted(noted()) == updates(*items[:3])


def test_rows_leave_a_related_manager(items):
    shelf = items[0].shelf
    shelf.items.remove(items[0])
    assert noted() == updates(items[0])
    shelf.items.clear()
    assert sorted(noted()) == updates(*items[1:3])


def test_rows_join_a_related_manager(items):
    shelf = items[0].shelf
    shelf.items.add(items[3], bulk=False)
    assert noted() == updates(items[3])


# bulk_create


def test_bulk_create():
    items = Item.objects.bulk_create([Item(name=name) for name in "ab"])
    if connection.features.can_return_rows_from_bulk_insert:
        assert noted() == [("Item", str(item.pk), "create") for item in items]
    else:
        assert noted() == [("Item", None, "create")]


def test_bulk_create_under_keys_of_ones_own():
    Item.objects.bulk_create(
        [Item(pk=70_000_000, name="a"), Item(pk=71_000_000, name="b")], batch_size=1
    )
    assert noted() == [("Item", "70000000", "create"), ("Item", "71000000", "create")]


def test_bulk_create_of_nothing():
    assert Item.objects.bulk_create([]) == []
    assert noted() == []


def test_bulk_create_of_a_generator():
    assert len(Item.objects.bulk_create(Item(pk=pk, name=pk) for pk in (1, 2))) == 2
    assert noted() == [("Item", "1", "create"), ("Item", "2", "create")]


def test_bulk_create_that_ignores_conflicts(items):
    Item.objects.bulk_create([Item(name="a"), Item(name="e")], ignore_conflicts=True)
    assert noted() == [("Item", None, "update")]
    Item.objects.bulk_create([Item(name="a"), Item(name="e")], None, True)
    assert noted() == [("Item", None, "update")]


def test_bulk_create_that_updates(items):
    unique = ["name"] if connection.features.supports_update_conflicts_with_target else None
    Item.objects.bulk_create(
        [Item(name="a", version=5), Item(name="e")],
        update_conflicts=True,
        update_fields=["version"],
        unique_fields=unique,
    )
    # The row that was there keeps its key, which the database does not always tell.
    assert noted() == [("Item", None, "update")]
    assert Item.objects.get(name="a").version == 5


def test_bulk_create_that_fails(items):
    with pytest.raises(IntegrityError):
        Item.objects.bulk_create([Item(name="e"), Item(name="a")])
    assert noted() == []
    assert not Item.objects.filter(name="e").exists()


# bulk_update


def test_bulk_update(items):
    for item in items[:2]:
        item.version = 8
    assert Item.objects.bulk_update(items[:2], ["version"]) == 2
    assert sorted(noted()) == updates(*items[:2])
    assert Item.objects.filter(version=8).count() == 2


# async


def test_async_variants(items):
    async def story():
        assert await Item.objects.filter(name="a").aupdate(version=1) == 1
        await Item.objects.abulk_create([Item(pk=70_000_000, name="e")])
        await Item.objects.abulk_update([items[1]], ["version"])
        await sync_to_async(connections.close_all)()

    asyncio.run(story())
    assert noted() == [*updates(items[0]), ("Item", "70000000", "create"), *updates(items[1])]


# Others write at the same time


@pytest.mark.only_on("postgresql", "mariadb")
def test_what_another_writer_changes_meanwhile(items):
    """After the lock, rows are judged again: one that matches no more is not written, nor lost."""
    is_locked, may_commit = threading.Event(), threading.Event()

    def rename():
        with transaction.atomic():
            Item.objects.filter(name="a").update(name="e")
            is_locked.set()
            assert may_commit.wait(20)

    renaming = InThread(rename)
    assert is_locked.wait(20)
    updating = InThread(lambda: Item.objects.filter(name__in="ab").update(version=1))
    wait_for_a_waiting_lock()
    may_commit.set()
    renaming.result()
    assert updating.result() == 1
    assert Item.objects.get(name="e").version == 0
    assert set(updates(items[1])) <= set(noted())


@pytest.mark.only_on("postgresql")
def test_what_begins_to_match_meanwhile_is_not_written_unseen(items, monkeypatch):
    is_found, may_update = threading.Event(), threading.Event()
    find = LiveQuerySetMixin._locked_pks

    def found(self, alias):
        pks = find(self, alias)
        is_found.set()
        assert may_update.wait(20)
        return pks

    monkeypatch.setattr(LiveQuerySetMixin, "_locked_pks", found)
    updating = InThread(lambda: Item.objects.filter(name__in="xa").update(version=1))
    assert is_found.wait(20)
    item = items[1]
    item.name = "x"
    item.save()
    may_update.set()
    assert updating.result() == 1
    of_update = PendingChange.objects.filter(fields="version").values_list("key", flat=True)
    assert list(of_update) == [str(items[0].pk)]
    item.refresh_from_db()
    assert item.version == 0


@pytest.mark.only_on("postgresql")
def test_a_lock_on_the_rows_and_on_none_they_refer_to(items):
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        Item.objects.filter(shelf__name="left").update(version=1)
        rename = "UPDATE tests_shelf SET name = 'right'"
        InThread(lambda: execute(rename)).result()
    assert sum("FOR NO KEY UPDATE" in query["sql"] for query in queries) == 1


@pytest.mark.only_on("postgresql")
def test_who_refers_to_the_rows_does_not_wait_as_with_any_update(items):
    refer = f"INSERT INTO tests_toy (item_ptr_id, age) VALUES ({items[0].pk}, 1)"
    with transaction.atomic():
        Item.objects.update(version=1)
        InThread(lambda: execute(refer)).result()
    assert Toy.objects.get().version == 1


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
        cursor.execute(sql)
