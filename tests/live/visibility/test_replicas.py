"""Reads that a router sends to a replica, which lags: passes show the log's database."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connections, router, transaction
from django.db.models import Count, Prefetch
from rest_framework.serializers import ModelSerializer

from rest_channels.live.log_database import reading_from
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Book, Item, Sensor, Shelf, Tag
from tests.settings import SQLITE_OPTIONS
from tests.support.subscription_stories import (
    ByHeader,
    as_user,
    event,
    routes,
    run,
    subscribed,
    written,
)
from tests.support.talk import talking_to

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


class Spread:
    """Reads from the replica, writes where Django writes without a word."""

    def db_for_read(self, model, **hints):
        return "replica"


class SpreadAndWritten(Spread):
    def db_for_write(self, model, **hints):
        return "default"


class Apart:
    """Sensors live in a database of their own."""

    def db_for_read(self, model, **hints):
        return "replica" if model is Sensor else None

    db_for_write = db_for_read


ROUTERS = [Spread, SpreadAndWritten]


@pytest.fixture(scope="module", autouse=True)
def other_database(request, tmp_path_factory):
    """Before a test case asks which databases there are, and after the test's own are made."""
    request.getfixturevalue("django_db_setup")
    own = connections.settings["default"]
    connections.settings["replica"] = {
        **own,
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path_factory.mktemp("replica") / "replica.sqlite3"),
        "OPTIONS": SQLITE_OPTIONS,
        "TEST": {**own["TEST"], "MIRROR": None},
    }
    yield
    connections["replica"].close()
    del connections["replica"]
    del connections.settings["replica"]


@pytest.fixture
def replica():
    """The other database, whose tables are empty until a test says what they know."""
    call_command("migrate", database="replica", run_syncdb=True, verbosity=0)
    return connections["replica"]


@pytest.fixture(params=ROUTERS)
def spread(request, replica, monkeypatch):
    """Reads go to the replica."""
    monkeypatch.setattr(router, "routers", [request.param()])
    return replica


class BookSerializer(ModelSerializer):
    class Meta:
        model = Book
        fields = ["id"]

    def to_representation(self, book):
        return {
            "title": book.title,
            # Each is another way to the database.
            "shelf": book.shelf.name,
            "tags": [tag.name for tag in book.tags.all()],
            "more_tags": [tag.name for tag in book.tags.order_by("name")],
            "items": [item.name for item in book.shelf.items.all()],
            "books": Book.objects.count(),
            "fresh": Shelf.objects.aggregate(count=Count("pk"))["count"],
        }


class BookViewSet(ModelConsumerViewSet):
    authentication_classes = []
    permission_classes = []
    queryset = Book.objects.order_by("id").prefetch_related(
        "tags", Prefetch("shelf", queryset=Shelf.objects.prefetch_related("items"))
    )
    serializer_class = BookSerializer


@transaction.atomic
def a_book(title="new"):
    shelf = Shelf.objects.create(name=title)
    Item.objects.create(name=title, shelf=shelf)
    book = Book.objects.create(title=title, shelf=shelf)
    book.tags.add(Tag.objects.create(name=title))
    return book


def shown(name, count=1):
    return {
        **dict.fromkeys(["title", "shelf"], name),
        **{key: [name] for key in ["tags", "more_tags", "items"]},
        **dict.fromkeys(["books", "fresh"], count),
    }


def test_all_that_a_subscriber_is_shown_is_of_the_logs_database(spread):
    async def story():
        await written(a_book, "first")
        async with talking_to(routes(BookViewSet)) as socket:
            assert await subscribed(socket) == [shown("first")]
            await written(a_book, "second")
            assert await event(socket) == ("create", shown("second", 2))

    run(story)


def test_outside_passes_the_router_is_asked_as_ever(spread):
    async def story():
        await written(a_book, "first")
        async with talking_to(routes(BookViewSet)) as socket:
            await subscribed(socket)
        return await written(lambda: (Book.objects.all().db, Book.objects.count()))

    assert run_and_get(story) == ("replica", 0)


def run_and_get(story):
    found = []

    async def kept():
        found.append(await story())

    run(kept)
    return found[0]


class SensorCounts(ModelSerializer):
    class Meta:
        model = Book
        fields = ["id"]

    def to_representation(self, book):
        return {"sensors": [sensor.name for sensor in Sensor.objects.all()]}


def test_rows_that_are_written_elsewhere_are_read_from_there(replica, monkeypatch):
    monkeypatch.setattr(router, "routers", [Apart()])

    async def story():
        await written(Sensor.objects.create, name="there")
        await written(a_book)
        async with talking_to(routes(BookViewSet, serializer_class=SensorCounts)) as socket:
            assert await subscribed(socket) == [{"sensors": ["there"]}]

    run(story)


class SensorsOfTheReplica(SensorCounts):
    def to_representation(self, book):
        return {"sensors": [sensor.name for sensor in Sensor.objects.using("replica")]}


class Lagging(BookViewSet):
    serializer_class = SensorsOfTheReplica


def test_a_serializer_that_names_the_replica_is_warned_of(replica, monkeypatch, caplog):
    monkeypatch.setattr(router, "routers", [])

    async def story():
        await written(a_book)
        application = routes(Lagging)
        async with talking_to(application) as socket:
            assert await subscribed(socket) == [{"sensors": []}]

    run(story)
    assert "'tests_sensor': it is read from another database, 'replica'" in caplog.text


class OfMyGroups(BookViewSet):
    """The groups decide; the user comes from the database that the router reads."""

    authentication_classes = [ByHeader]

    class serializer_class(ModelSerializer):
        class Meta:
            model = Book
            fields = ["title"]

    def get_queryset(self):
        return Book.objects.filter(title__in=[g.name for g in self.request.user.groups.all()])


def test_what_decides_is_of_the_logs_database(spread):
    async def story():
        ann = await written(User.objects.create, username="ann")
        await written(User(pk=ann.pk, username="ann").save, using="replica")
        group = await written(Group.objects.create, name="new")
        await written(ann.groups.add, group)
        await written(a_book)
        async with talking_to(routes(OfMyGroups), headers=as_user(ann)) as socket:
            # The replica does not know that she is a member.
            assert await subscribed(socket) == [{"title": "new"}]

    run(story)


class Named(BookViewSet):
    queryset = Book.objects.using("replica").order_by("id")

    class serializer_class(ModelSerializer):
        class Meta:
            model = Book
            fields = ["title"]


def test_a_replica_that_is_declared_is_followed_where_it_mirrors(replica, monkeypatch):
    monkeypatch.setitem(replica.settings_dict, "TEST", {"MIRROR": "default"})
    monkeypatch.setitem(connections.settings["replica"], "TEST", {"MIRROR": "default"})

    async def story():
        await written(a_book, "first")
        async with talking_to(routes(Named)) as socket:
            assert await subscribed(socket) == [{"title": "first"}]
            await written(a_book, "second")
            assert await event(socket) == ("create", {"title": "second"})

    run(story)


def read_from_the_replica(model, **values):
    model.objects.using("replica").create(pk=1, **values)
    return model.objects.using("replica").get()


def test_what_belongs_to_a_row_of_the_replica_is_of_the_logs_database(spread):
    ann = read_from_the_replica(User, username="ann")
    with reading_from("default"):
        assert {ann.groups.all().db, Group.objects.all().db} == {"default"}
        # A project that names its replica has chosen it.
        assert Group.objects.using("replica").db == "replica"
    assert ann.groups.all().db == "replica"


def test_what_belongs_to_a_row_of_another_database_is_read_there(replica, monkeypatch):
    monkeypatch.setattr(router, "routers", [])
    ann = read_from_the_replica(User, username="ann")
    with reading_from("default"):
        assert ann.groups.all().db == "replica"
        assert Group.objects.all().db == "default"
