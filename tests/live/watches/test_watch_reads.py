"""All reads of a run are seen: of paginators, raw SQL, prefetches, views, other databases."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection, router
from django.db.models import Prefetch
from rest_framework import pagination, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from tests.models import Book, Message, Room, Sensor, Shelf, Tag
from tests.support.other_database import other_database  # noqa: F401
from tests.support.room_viewsets import RoomNameSerializer
from tests.support.subscription_stories import run, written
from tests.support.talk import talking_to
from tests.support.watch_stories import Runs, change, runs_settle, watched

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


class Numbers(pagination.PageNumberPagination):
    page_size = 2


class Offsets(pagination.LimitOffsetPagination):
    default_limit = 2


class Cursors(pagination.CursorPagination):
    page_size = 2
    ordering = "name"


class Rooms(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("name")
    serializer_class = RoomNameSerializer
    authentication_classes = []
    permission_classes = []

    @action(detail=False)
    def raw(self, request):
        with connection.cursor() as cursor:
            cursor.execute("select r.NAME from tests_room r, tests_tag t where t.name = r.name")
            return Response(sorted(name for (name,) in cursor.fetchall()))

    @action(detail=False)
    def viewed(self, request):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count FROM watched_rooms")
            return Response(cursor.fetchone()[0])

    @action(detail=False)
    def both(self, request):
        return Response([Room.objects.count(), Sensor.objects.count()])

    @action(detail=False)
    def unseen(self, request):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM watched_apart")
            return Response(cursor.fetchone()[0])

    @action(detail=False)
    def sometimes(self, request):
        """Which tables it reads depends on the rows."""
        if Room.objects.filter(name="tags").exists():
            return Response(Tag.objects.count())
        return Response("none")


class ByNumbers(Rooms):
    pagination_class = Numbers


class ByOffsets(Rooms):
    pagination_class = Offsets


class ByCursors(Rooms):
    pagination_class = Cursors


class ShelfSerializer(serializers.ModelSerializer):
    books = serializers.SerializerMethodField()
    rooms = serializers.SerializerMethodField()

    class Meta:
        model = Shelf
        fields = ["name", "books", "rooms"]

    def get_books(self, shelf):
        return {book.title: [tag.name for tag in book.tags.all()] for book in shelf.books.all()}

    def get_rooms(self, shelf):
        """It queries by itself."""
        return Room.objects.count()


class Shelves(viewsets.ModelViewSet):
    serializer_class = ShelfSerializer
    authentication_classes = []
    permission_classes = []
    queryset = Shelf.objects.order_by("name").prefetch_related(
        Prefetch("books", Book.objects.order_by("title").prefetch_related("tags"))
    )


router_of_sockets = DefaultRouter()
for prefix, viewset in {
    "numbers": ByNumbers,
    "offsets": ByOffsets,
    "cursors": ByCursors,
    "shelves": Shelves,
}.items():
    router_of_sockets.register(prefix, viewset, prefix)
application = router_of_sockets.as_asgi()


class Apart:
    """Sensors are in a database of their own; reads of the others may lag."""

    def db_for_read(self, model, **hints):
        return "apart"

    def db_for_write(self, model, **hints):
        return "apart" if model is Sensor else "default"


@pytest.fixture
def apart(settings):
    call_command("migrate", database="apart", run_syncdb=True, verbosity=0)
    settings.DATABASE_ROUTERS = [f"{__name__}.Apart"]
    yield
    settings.DATABASE_ROUTERS = []
    assert router.db_for_read(Room) == "default"


@pytest.fixture
def relation():
    made = []

    def make(kind, name, definition):
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE {kind} {name} {definition}")
        made.append(f"DROP {kind} {name}")

    yield make
    with connection.cursor() as cursor:
        for statement in made:
            cursor.execute(statement)


@pytest.mark.parametrize("prefix", ["numbers", "offsets", "cursors"])
def test_a_page_of_each_paginator(prefix):
    async def story():
        async with talking_to(application, f"/{prefix}/") as socket:
            assert (await watched(socket))["data"]["results"] == []
            for name in "abc":
                await written(Room.objects.create, name=name)
                await runs_settle()
            pages = [await change(socket) for _ in "abc"]
            assert [len(page["results"]) for page in pages] == [1, 2, 2]
            # The page looks the same, but another one follows it.
            assert [bool(page["next"]) for page in pages] == [False, False, True]
            fresh = await socket.ask("list")
            assert fresh["data"] == pages[-1]

    run(story)


def test_nested_prefetches_and_a_serializer_that_queries():
    shelf = Shelf.objects.create(name="top")
    tag = Tag.objects.create(name="red")

    async def story():
        async with talking_to(application, "/shelves/") as socket:
            await watched(socket)
            book = await written(Book.objects.create, title="Emma", shelf=shelf)
            assert (await change(socket))[0]["books"] == {"Emma": []}
            await written(book.tags.add, tag)
            assert (await change(socket))[0]["books"] == {"Emma": ["red"]}
            await written(Tag.objects.update, name="blue")
            assert (await change(socket))[0]["books"] == {"Emma": ["blue"]}
            await written(Room.objects.create, name="hall")
            assert (await change(socket))[0]["rooms"] == 1
            runs = Runs()
            await written(Sensor.objects.create, name="none of it")
            await runs_settle()
            assert runs.count == 0

    run(story)


def test_raw_sql_with_names_that_are_not_quoted():
    async def story():
        async with talking_to(application, "/numbers/") as socket:
            assert (await watched(socket, "raw"))["data"] == []
            await written(Room.objects.create, name="red")
            await written(Tag.objects.create, name="red")
            assert await change(socket) == ["red"]

    run(story)


def test_a_view_of_the_database(relation):
    relation("VIEW", "watched_rooms", "AS SELECT count(*) AS count FROM tests_room")

    async def story():
        async with talking_to(application, "/numbers/") as socket:
            assert (await watched(socket, "viewed"))["data"] == 0
            await written(Room.objects.create, name="red")
            assert await change(socket) == 1

    run(story)


def test_a_table_that_nothing_captures_is_named_in_the_log(relation, caplog):
    relation("TABLE", "watched_apart", "(id integer)")

    async def story():
        async with talking_to(application, "/numbers/") as socket:
            await watched(socket, "unseen")
            await watched(socket, "unseen", request_id=2)

    run(story)
    (message,) = [r.getMessage() for r in caplog.records if "watched_apart" in r.getMessage()]
    assert message.startswith("Watches of ByNumbers.unseen do not run again when 'watched_apart'")
    assert "@live_every(seconds)" in message


def test_tables_that_are_read_only_now_and_then():
    async def story():
        async with talking_to(application, "/numbers/") as socket:
            assert (await watched(socket, "sometimes"))["data"] == "none"
            await written(Tag.objects.create, name="red")
            await runs_settle()
            await written(Room.objects.create, name="tags")
            assert await change(socket) == 1
            await written(Tag.objects.create, name="blue")
            assert await change(socket) == 2
            await written(Room.objects.all().delete)
            assert await change(socket) == "none"
            await runs_settle()
            runs = Runs()
            await written(Tag.objects.create, name="green")
            await runs_settle()
            assert runs.count == 0

    run(story)


def test_two_databases_and_no_replica(apart):
    async def story():
        async with talking_to(application, "/numbers/") as socket:
            assert (await watched(socket, "both"))["data"] == [0, 0]
            await written(Sensor.objects.create, name="heat")
            assert await change(socket) == [0, 1]
            await written(Room.objects.create, name="hall")
            # Read where it was written, not where the router sends reads.
            assert await change(socket) == [1, 1]

    run(story)


def test_declared_tables(monkeypatch):
    monkeypatch.setattr(Rooms, "live_tables", ["tests.Message"], raising=False)
    room = Room.objects.create(name="hall")

    async def story():
        async with talking_to(application, "/numbers/") as socket:
            await watched(socket)
            await runs_settle()
            runs = Runs()
            await written(Message.objects.create, room=room, text="Hello")
            await runs_settle()
            assert runs.count == 1

    run(story)


def test_raw_statements_that_write_are_not_read():
    class Counters(Rooms):
        @action(detail=False)
        def visit(self, request):
            Tag.objects.create(name="visit")
            return Response("thanks")

    sockets = DefaultRouter()
    sockets.register("counters", Counters, "counters")
    application = sockets.as_asgi()

    async def story():
        async with talking_to(application, "/counters/") as socket:
            await watched(socket, "visit")
            # Until a follower runs, its own write may hide another.
            await runs_settle()
            runs = Runs()
            await written(Tag.objects.create, name="red")
            await runs_settle()
            assert runs.count == 0

    run(story)
