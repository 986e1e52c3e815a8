"""Writes by another class of the same table, or to a part of a row: all models over it hear."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connection, models
from django.db.migrations.migration import Migration
from django.db.migrations.operations import RunPython
from django.db.migrations.state import ProjectState
from rest_framework.serializers import ModelSerializer

from rest_channels.live.log.sequencer import sequence
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Book, Novel, Shelf, Tag
from tests.support.recorded_changes import captured_by_triggers, forget_log, logged
from tests.support.subscription_stories import (
    event,
    nothing_more,
    routes,
    run,
    subscribed,
    told,
    written,
)
from tests.support.subscription_stories import viewset as shown_by

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_triggers")]


class Contact(models.Model):
    """The shelves again, for an API of its own."""

    name = models.CharField(max_length=50)

    class Meta:
        app_label = "tests"
        managed = False
        db_table = "tests_shelf"


class Nameplate(models.Model):
    """The shelves once more, by another key."""

    id = models.BigIntegerField()
    name = models.CharField(max_length=50, primary_key=True)

    class Meta:
        app_label = "tests"
        managed = False
        db_table = "tests_shelf"


def viewset(shown, *names, queryset=None):
    class Rows(ModelConsumerViewSet):
        authentication_classes = []
        permission_classes = []

        class serializer_class(ModelSerializer):
            class Meta:
                model = shown
                fields = names

    Rows.queryset = shown.objects.order_by("pk") if queryset is None else queryset
    return Rows


@pytest.fixture(params=["signals", "triggers"], autouse=True)
def capture(request):
    if request.param == "signals":
        yield
    else:
        with captured_by_triggers("tests"):
            yield


def migrated(forwards):
    """Run as a data migration does, with historical models."""
    migration = Migration("0002_data", "tests")
    migration.operations = [RunPython(forwards)]
    with connection.schema_editor(atomic=True) as editor:
        migration.apply(ProjectState.from_apps(apps), editor)


def test_a_data_migration_tells_subscribers_what_it_writes():
    def forwards(historical, schema_editor):
        shelves = historical.get_model("tests", "Shelf").objects
        shelves.create(pk=9, name="new")
        changed = shelves.get(pk=1)
        changed.name = "changed"
        changed.save()
        shelves.get(pk=2).delete()
        shelves.filter(pk=3).delete()

    async def story():
        for pk in (1, 2, 3):
            await written(Shelf.objects.create, pk=pk, name=str(pk))
        async with told(routes(viewset(Shelf, "id", "name"))) as socket:
            await subscribed(socket)
            await written(migrated, forwards)
            events = [await event(socket) for _ in range(4)]
            assert sorted(events, key=str) == [
                ("create", {"id": 9, "name": "new"}),
                ("delete", {"pk": 2}),
                ("delete", {"pk": 3}),
                ("update", {"id": 1, "name": "changed"}),
            ]

    run(story)


def test_what_a_historical_model_takes_with_it_is_noted():
    shelf = Shelf.objects.create(name="left")
    book = Book.objects.create(title="Emma", shelf=shelf)
    gone = Book.objects.create(title="Persuasion")
    gone.tags.add(Tag.objects.create(name="red"))
    sequence("default")
    forget_log()

    def forwards(historical, schema_editor):
        historical.get_model("tests", "Shelf").objects.all().delete()
        historical.get_model("tests", "Book").objects.filter(pk=gone.pk).delete()

    expected = {
        ("Shelf", str(shelf.pk), "delete"),
        ("Book", str(book.pk), "update"),
        ("Book", str(gone.pk), "delete"),
        ("Book_tags", None, "delete"),
    }
    migrated(forwards)
    sequence("default")
    noted = {(label, key, "delete" if key is None else kind) for label, key, kind in logged()}
    assert expected <= noted


def test_links_of_a_historical_model_are_noted():
    book, tag = Book.objects.create(title="Emma"), Tag.objects.create(name="red")
    sequence("default")
    forget_log()

    def forwards(historical, schema_editor):
        row = historical.get_model("tests", "Book").objects.get()
        row.tags.add(historical.get_model("tests", "Tag").objects.get())

    migrated(forwards)
    sequence("default")
    assert {
        ("Book", str(book.pk), "update"),
        ("Tag", str(tag.pk), "update"),
        ("Book_tags", None, "update"),
    } <= set(logged())


def test_a_class_made_after_start_up_is_heard():
    late = type(
        "LateShelf",
        (models.Model,),
        {
            "__module__": __name__,
            "name": models.CharField(max_length=50),
            "Meta": type("Meta", (), {"app_label": "late", "db_table": "tests_shelf"}),
        },
    )

    async def story():
        async with told(routes(viewset(Shelf, "id", "name"))) as socket:
            await subscribed(socket)
            row = await written(late.objects.create, pk=5, name="late")
            assert await event(socket) == ("create", {"id": 5, "name": "late"})
            await written(row.delete)
            assert await event(socket) == ("delete", {"pk": 5})

    try:
        run(story)
    finally:
        del apps.all_models["late"]
        apps.clear_cache()


@pytest.mark.parametrize(("shown", "writer"), [(Contact, Shelf), (Shelf, Contact)])
def test_two_models_over_one_table_hear_of_each_other(shown, writer):
    async def story():
        async with told(routes(viewset(shown, "id", "name"))) as socket:
            await subscribed(socket)
            row = await written(writer.objects.create, pk=1, name="left")
            assert await event(socket) == ("create", {"id": 1, "name": "left"})
            row.name = "right"
            await written(row.save)
            assert await event(socket) == ("update", {"id": 1, "name": "right"})
            await written(row.delete)
            assert await event(socket) == ("delete", {"pk": 1})

    run(story)


@pytest.mark.parametrize(("shown", "writer"), [(Nameplate, Shelf), (Shelf, Nameplate)])
def test_models_over_one_table_may_have_other_keys(shown, writer):
    async def story():
        async with told(routes(viewset(shown, "name"))) as socket:
            await subscribed(socket)
            await written(writer.objects.create, id=1, name="left")
            assert await event(socket) == ("create", {"name": "left"})
            await written(writer.objects.create, id=2, name="right")
            assert await event(socket) == ("create", {"name": "right"})
            await written(lambda: writer.objects.get(name="left").delete())
            assert await event(socket) == ("delete", {"pk": "left" if shown is Nameplate else 1})

    run(story)


def test_a_captured_model_is_enough_for_all_over_its_table(settings):
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "CAPTURE_MODELS": ["tests.Shelf"]}

    async def story():
        async with told(routes(viewset(Shelf, "id", "name"))) as socket:
            await subscribed(socket)
            await written(Contact.objects.create, pk=1, name="left")
            assert await event(socket) == ("create", {"id": 1, "name": "left"})

    run(story)


class BookSerializer(ModelSerializer):
    """Columns of a child are shown with its parent, as polymorphic serializers do."""

    class Meta:
        model = Book
        fields = ["id", "title"]

    def to_representation(self, instance):
        novel = Novel.objects.filter(pk=instance.pk).first()
        return {**super().to_representation(instance), "plot": novel and novel.plot}


def test_a_childs_own_column_concerns_its_parent():
    books = viewset(Book)
    books.serializer_class = BookSerializer

    async def story():
        novel = await written(Novel.objects.create, title="Emma", plot="none")
        async with told(routes(books)) as socket:
            await subscribed(socket)
            novel.plot = "love"
            await written(novel.save_base, raw=True, update_fields=["plot"])
            shown = {"id": novel.pk, "title": "Emma", "plot": "love"}
            assert await event(socket) == ("update", shown)

    run(story)


def test_a_parents_column_concerns_its_child():
    async def story():
        novel = await written(Novel.objects.create, title="Emma", plot="none")
        async with told(routes(viewset(Novel, "id", "title"))) as socket:
            await subscribed(socket)
            await written(Book(pk=novel.pk, title="Persuasion").save)
            assert await event(socket) == ("update", {"id": novel.pk, "title": "Persuasion"})
            # Its own row is the same.
            novel = await written(Novel.objects.get)
            await nothing_more(socket, novel.save)

    run(story)


def test_links_that_are_deleted_by_their_own_model(capture):
    async def story():
        book = await written(Book.objects.create, title="x")
        await written(book.tags.create, name="t")
        tagged = Book.objects.prefetch_related("tags")
        rows = shown_by(tagged, lambda book: [tag.name for tag in book.tags.all()])
        async with told(routes(rows)) as socket:
            await subscribed(socket)
            await written(Book.tags.through.objects.all().delete)
            assert (await event(socket))[1]["shown"] == []

    run(story)
