"""Changes of other tables that a queryset reads: `rest_channels.live.visibility.dependencies`."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, models
from django.db.models import Count, Exists, OuterRef, Prefetch
from rest_framework import serializers

from rest_channels.live.visibility.dependencies import dependencies
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Book, Classic, Message, Novel, Room, Sensor, Shelf, Tag
from tests.support.subscription_stories import (
    event,
    nothing_more,
    routes,
    run,
    subscribed,
    told,
    viewset,
    written,
)

pytestmark = pytest.mark.django_db(transaction=True)


class Messages(ModelConsumerViewSet):
    queryset = Message.objects.select_related("room").order_by("id")
    authentication_classes = []
    permission_classes = []

    class serializer_class(serializers.ModelSerializer):
        room = serializers.CharField(source="room.name")

        class Meta:
            model = Message
            fields = ["id", "room", "text"]


class Groups(ModelConsumerViewSet):
    queryset = Group.objects.order_by("id")
    authentication_classes = []
    permission_classes = []

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Group
            fields = ["name"]


TAGGED = {"tests.Book_tags": None, "tests.Book": None}


@pytest.mark.parametrize(
    ("queryset", "expected"),
    [
        (lambda: Message.objects.all(), {}),
        (lambda: Message.objects.select_related("room"), {"tests.Room": {"room"}}),
        (lambda: Novel.objects.all(), {"tests.Book": {"book_ptr"}}),
        (lambda: Novel.objects.filter(title="x"), {"tests.Book": {"book_ptr"}}),
        (lambda: Book.objects.all(), {}),
        (lambda: Classic.objects.all(), {}),
        (lambda: Tag.objects.prefetch_related("books__novel"), {**TAGGED, "tests.Novel": None}),
        (lambda: Message.objects.filter(room__name="x"), {"tests.Room": {"room"}}),
        (
            lambda: Message.objects.select_related("room", "author"),
            {"tests.Room": {"room"}, "auth.User": {"author"}},
        ),
        (
            lambda: Message.objects.filter(author__groups__name="x"),
            {"auth.User": {"author"}, "auth.User_groups": None, "auth.Group": None},
        ),
        (lambda: Room.objects.filter(messages__text="x"), {"tests.Message": None}),
        (lambda: Room.objects.prefetch_related("messages"), {"tests.Message": None}),
        (
            lambda: Room.objects.prefetch_related("messages__author"),
            {"tests.Message": None, "auth.User": None},
        ),
        (
            lambda: Room.objects.prefetch_related(
                Prefetch("messages", Message.objects.filter(author__is_staff=True))
            ),
            {"tests.Message": None, "auth.User": None},
        ),
        (
            lambda: User.objects.prefetch_related("groups"),
            {"auth.User_groups": None, "auth.Group": None},
        ),
        (lambda: Room.objects.annotate(n=Count("messages")), {"tests.Message": None}),
        (
            lambda: Room.objects.filter(Exists(Message.objects.filter(room=OuterRef("pk")))),
            {"tests.Message": None},
        ),
        (
            lambda: Room.objects.annotate(
                has=Exists(Message.objects.filter(room=OuterRef("pk"), author__is_staff=True))
            ),
            {"tests.Message": None, "auth.User": None},
        ),
        (
            lambda: Room.objects.filter(id__in=Message.objects.values("room")),
            {"tests.Message": None},
        ),
        (
            lambda: Room.objects.exclude(messages__text="x"),
            {"tests.Message": None},
        ),
    ],
)
def test_the_tables_that_a_queryset_reads(queryset, expected):
    assert dependencies(queryset()) == expected


def test_a_row_that_others_refer_to():
    async def story():
        lobby = await written(Room.objects.create, name="lobby")
        attic = await written(Room.objects.create, name="attic")
        message = await written(Message.objects.create, room=lobby, text="hello")
        await written(Message.objects.create, room=attic, text="elsewhere")
        async with told(routes(Messages)) as socket:
            await subscribed(socket)
            lobby.name = "hall"
            await written(lobby.save)
            shown = {"id": message.pk, "room": "hall", "text": "hello"}
            assert await event(socket) == ("update", shown)
            # Written, but the same to look at.
            await written(lobby.save)
            await nothing_more(socket, lambda: Message.objects.create(room=attic, text="fence"))

    run(story)


def test_a_filter_on_a_related_row():
    class OpenMessages(Messages):
        queryset = Message.objects.select_related("room").filter(room__is_staff_only=False)

    async def story():
        lobby = await written(Room.objects.create, name="lobby")
        message = await written(Message.objects.create, room=lobby, text="hello")
        async with told(routes(OpenMessages)) as socket:
            await subscribed(socket)
            lobby.is_staff_only = True
            await written(lobby.save)
            assert await event(socket) == ("delete", {"pk": message.pk})
            lobby.is_staff_only = False
            await written(lobby.save)
            assert (await event(socket))[0] == "create"

    run(story)


def test_a_relation_of_many_to_many():
    class StaffGroups(Groups):
        queryset = Group.objects.filter(user__is_staff=True).order_by("id").distinct()

    async def story():
        ann = await written(User.objects.create_user, "ann", is_staff=True)
        group = await written(Group.objects.create, name="editors")
        async with told(routes(StaffGroups)) as socket:
            assert await subscribed(socket) == []
            await written(ann.groups.add, group)
            assert await event(socket) == ("create", {"name": "editors"})
            await written(group.user_set.remove, ann)
            assert await event(socket) == ("delete", {"pk": group.pk})
            await written(group.user_set.add, ann)
            assert await event(socket) == ("create", {"name": "editors"})
            ann.is_staff = False
            await written(ann.save)
            assert await event(socket) == ("delete", {"pk": group.pk})

    run(story)


def test_an_annotation():
    class CountedRooms(ModelConsumerViewSet):
        queryset = Room.objects.annotate(count=Count("messages")).order_by("id")
        authentication_classes = []
        permission_classes = []

        class serializer_class(serializers.ModelSerializer):
            count = serializers.IntegerField()

            class Meta:
                model = Room
                fields = ["name", "count"]

    async def story():
        lobby = await written(Room.objects.create, name="lobby")
        await written(Room.objects.create, name="attic")
        async with told(routes(CountedRooms)) as socket:
            await subscribed(socket)
            await written(Message.objects.create, room=lobby, text="hello")
            # The one of the two rooms that looks different.
            assert await event(socket) == ("update", {"name": "lobby", "count": 1})
            await nothing_more(socket, lambda: Room.objects.create(name="fence"))

    run(story)


# References that lead elsewhere than Django and the database make sure of


class Kept(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(is_gone=False)


class Crate(models.Model):
    """Deleted softly; its base manager hides what is."""

    sensor = models.ForeignKey(Sensor, models.CASCADE, related_name="+")
    is_gone = models.BooleanField(default=False)

    every = models.Manager()
    objects = Kept()

    class Meta:
        app_label = "tests"
        base_manager_name = "objects"


class Spare(models.Model):
    code = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=20)

    class Meta:
        app_label = "tests"


class Demand(models.Model):
    """Refers to parts that may come later, by key and by code: no constraint says otherwise."""

    part = models.ForeignKey(Spare, models.DO_NOTHING, "+", null=True, db_constraint=False)
    coded = models.ForeignKey(
        Spare, models.DO_NOTHING, "+", to_field="code", null=True, db_constraint=False
    )

    class Meta:
        app_label = "tests"


def test_rows_that_the_base_manager_hides():
    async def story():
        sensor = await written(Sensor.objects.create, name="a")
        await written(Crate.every.create, sensor=sensor, is_gone=True)
        rows = viewset(Crate.every.select_related("sensor"), lambda crate: crate.sensor.name)
        async with told(routes(rows)) as socket:
            await subscribed(socket)
            sensor.name = "b"
            await written(sensor.save)
            assert (await event(socket))[1]["shown"] == "b"

    run(story)


def test_a_row_that_was_referred_to_before_it_was_there():
    async def story():
        demand = await written(Demand.objects.create, part_id=4242)
        rows = viewset(Demand.objects.filter(part__name="new"), lambda demand: demand.part.name)
        async with told(routes(rows)) as socket:
            assert await subscribed(socket) == []
            await written(Spare.objects.create, pk=4242, code="x", name="new")
            assert await event(socket) == ("create", {"pk": demand.pk, "shown": "new"})

    run(story)


def test_a_row_that_leaves_those_who_refer_to_it():
    async def story():
        part = await written(Spare.objects.create, code="x", name="a")
        demand = await written(Demand.objects.create, coded_id="x")
        rows = viewset(Demand.objects.filter(coded__name="a"), lambda demand: demand.coded_id)
        async with told(routes(rows)) as socket:
            assert await subscribed(socket) == [{"pk": demand.pk, "shown": "x"}]
            part.code = "y"
            await written(part.save)
            assert await event(socket) == ("delete", {"pk": demand.pk})

    run(story)


@pytest.mark.only_on("sqlite")
def test_a_row_that_is_replaced():
    """Triggers see a new row."""

    def replace(shelf):
        with connection.cursor() as cursor:
            values = [shelf.pk, "b"]
            cursor.execute("INSERT OR REPLACE INTO tests_shelf (id, name) VALUES (%s, %s)", values)

    async def story():
        shelf = await written(Shelf.objects.create, name="a")
        await written(Book.objects.create, title="x", shelf=shelf)
        rows = viewset(Book.objects.select_related("shelf"), lambda book: book.shelf.name)
        async with told(routes(rows)) as socket:
            await subscribed(socket)
            await written(replace, shelf)
            assert (await event(socket))[1]["shown"] == "b"

    run(story)
