"""Querysets whose rows depend on one another: `rest_channels.live.visibility.query_shapes`."""

from __future__ import annotations

import pytest
from django.db.models import (
    Case,
    CharField,
    Count,
    Exists,
    F,
    Func,
    Max,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Concat, Lower, Rank, RowNumber
from rest_framework import serializers

from rest_channels.live.visibility.query_shapes import has_dependent_rows, is_read_whole
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Book, Club, Item, Note, Shelf
from tests.support.subscription_stories import event, routes, run, subscribed, told, written

pytestmark = pytest.mark.django_db(transaction=True)


class Doubled(Func):
    template = "(%(expressions)s * (SELECT COUNT(*) FROM tests_item))"


class Absolute(Func):
    function = "ABS"


RANK = Window(Rank(), order_by=F("version").desc())
OTHERS = Item.objects.filter(version__gt=OuterRef("version"))

INDEPENDENT = {
    "all": lambda: Item.objects.all(),
    "filtered": lambda: Item.objects.filter(Q(version=1) | Q(shelf__name="a")),
    "excluded": lambda: Item.objects.exclude(shelf__name="a"),
    "counted": lambda: Shelf.objects.annotate(n=Count("items")).filter(n__gt=1),
    "distinct": lambda: Shelf.objects.filter(items__version=1).distinct(),
    "exists": lambda: Item.objects.filter(Exists(OTHERS)),
    "subquery": lambda: Item.objects.annotate(n=Subquery(OTHERS.values("version")[:1])),
    "expression": lambda: Item.objects.annotate(n=Lower(Concat("name", Value("x")))),
    "case": lambda: Item.objects.annotate(
        n=Case(When(version=1, then=Value("a")), output_field=CharField())
    ),
    "function": lambda: Item.objects.annotate(n=Absolute("version")),
    "prefetch": lambda: Shelf.objects.prefetch_related(Prefetch("items", Item.objects.all())),
    "sliced prefetch": lambda: Shelf.objects.prefetch_related(
        Prefetch("items", Item.objects.order_by("-version")[:2])
    ),
}

DEPENDENT = {
    "distinct on": lambda: Item.objects.order_by("shelf", "-id").distinct("shelf"),
    "slice": lambda: Item.objects.order_by("-id")[:3],
    "offset": lambda: Item.objects.order_by("-id")[3:],
    "union": lambda: Item.objects.filter(version=1).union(Item.objects.filter(version=2)),
    "difference": lambda: Item.objects.difference(Item.objects.filter(version=2)),
    "window": lambda: Item.objects.annotate(rank=RANK),
    "window in an expression": lambda: Item.objects.annotate(rank=RANK + 1),
    "running sum": lambda: Item.objects.annotate(n=Window(Sum("version"), order_by=F("id").asc())),
    "filtered window": lambda: Item.objects.annotate(rank=RANK).filter(rank__lte=2),
    "raw": lambda: Item.objects.annotate(n=RawSQL("SELECT MAX(version) FROM tests_item", ())),
    "raw within": lambda: Item.objects.filter(
        Exists(Shelf.objects.annotate(n=RawSQL("1", ())).filter(n=1))
    ),
    "extra": lambda: Item.objects.extra(where=["version = (SELECT MAX(version) FROM tests_item)"]),
    "extra select": lambda: Item.objects.extra(select={"n": "SELECT COUNT(*) FROM tests_item"}),
    "template": lambda: Item.objects.annotate(n=Func("version", template="x(%(expressions)s)")),
    "own template": lambda: Item.objects.annotate(n=Doubled("version")),
    "prefetch": lambda: Shelf.objects.prefetch_related(
        Prefetch("items", Item.objects.annotate(rank=RANK))
    ),
    "nested prefetch": lambda: Club.objects.prefetch_related(
        Prefetch(
            "notes",
            Note.objects.prefetch_related(
                Prefetch("club", Club.objects.annotate(n=Window(RowNumber())))
            ),
        )
    ),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_rows_that_can_be_read_by_key(name):
    assert not has_dependent_rows(INDEPENDENT[name]())


@pytest.mark.parametrize("name", DEPENDENT)
def test_rows_that_depend_on_others(name):
    assert has_dependent_rows(DEPENDENT[name]())


def test_a_serializer_that_sees_all_rows_together():
    class Numbered(serializers.ListSerializer):
        def to_representation(self, data):
            return [{**row, "at": n} for n, row in enumerate(super().to_representation(data))]

    class NumberedSerializer(ItemSerializer):
        class Meta(ItemSerializer.Meta):
            list_serializer_class = Numbered

    assert not is_read_whole(Item.objects.all(), ItemSerializer)
    assert is_read_whole(Item.objects.all(), NumberedSerializer)


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "name", "version"]


class RankedSerializer(ItemSerializer):
    rank = serializers.IntegerField()

    class Meta(ItemSerializer.Meta):
        fields = ["id", "rank"]


def items(queryset, serializer=ItemSerializer, **attributes):
    """The sockets of a viewset with that queryset."""
    given = {"queryset": queryset, "serializer_class": serializer, **attributes}
    given |= {"authentication_classes": [], "permission_classes": []}
    return routes(type("Items", (ModelConsumerViewSet,), given))


def make(*versions):
    return [Item.objects.create(name=f"{n}-{v}", version=v) for n, v in enumerate(versions)]


@pytest.mark.only_on("postgresql")
def test_the_newest_of_each():
    """`distinct("shelf")`: what is replaced goes, what `list` does not show never comes."""

    async def story():
        shelf = await written(Shelf.objects.create, name="a")
        old, new = [await written(Item.objects.create, name=n, shelf=shelf) for n in "on"]
        async with told(items(Item.objects.order_by("shelf", "-id").distinct("shelf"))) as socket:
            assert [row["id"] for row in await subscribed(socket)] == [new.pk]
            await written(old.save)
            newer = await written(Item.objects.create, name="newer", shelf=shelf)
            assert await event(socket) == ("delete", {"pk": new.pk})
            action, row = await event(socket)
            assert (action, row["id"]) == ("create", newer.pk)
            await written(Item.objects.filter(name="newer").delete)
            assert await event(socket) == ("delete", {"pk": newer.pk})
            action, row = await event(socket)
            assert (action, row["id"]) == ("create", new.pk)

    run(story)


def test_a_rank_among_all_rows():
    async def story():
        low, high = await written(make, 1, 5)
        async with told(items(Item.objects.annotate(rank=RANK), RankedSerializer)) as socket:
            rows = await subscribed(socket)
            assert {row["id"]: row["rank"] for row in rows} == {low.pk: 2, high.pk: 1}
            low.version = 9
            await written(low.save)
            told_of = [await event(socket) for _ in range(2)]
            assert sorted(told_of, key=lambda e: e[1]["rank"]) == [
                ("update", {"id": low.pk, "rank": 1}),
                ("update", {"id": high.pk, "rank": 2}),
            ]

    run(story)


def test_the_first_rows_of_an_order():
    async def story():
        low, middle, high = await written(make, 1, 2, 3)
        async with told(items(Item.objects.order_by("-version")[:2])) as socket:
            assert [row["id"] for row in await subscribed(socket)] == [high.pk, middle.pk]
            low.version = 9
            await written(low.save)
            assert await event(socket) == ("delete", {"pk": middle.pk})
            assert (await event(socket))[1]["version"] == 9

    run(story)


def test_a_union_of_two_querysets():
    async def story():
        first, second, third = await written(make, 1, 2, 3)
        union = Item.objects.filter(version=1).union(Item.objects.filter(version=2))
        async with told(items(union.order_by("id"))) as socket:
            assert [row["id"] for row in await subscribed(socket)] == [first.pk, second.pk]
            await written(third.save)
            second.version = 7
            await written(second.save)
            assert await event(socket) == ("delete", {"pk": second.pk})

    run(story)


def test_a_row_that_counts_more_than_another():
    """A subquery over the table itself: a write of one row changes whether others are there."""

    async def story():
        one, other = await written(make, 1, 1)
        async with told(items(Item.objects.filter(Exists(OTHERS)))) as socket:
            assert await subscribed(socket) == []
            other.version = 2
            await written(other.save)
            action, row = await event(socket)
            assert (action, row["id"]) == ("create", one.pk)

    run(story)


def test_resuming_after_the_rank_has_changed():
    async def story():
        low, high = await written(make, 1, 5)
        application = items(Item.objects.annotate(rank=RANK), RankedSerializer)
        async with told(application) as socket:
            reply = await socket.ask("subscribe", request_id="s", snapshot=True)
        low.version = 9
        await written(low.save)
        resume = {"since": reply["position"], "held": [low.pk, high.pk]}
        async with told(application) as socket:
            resumed = await socket.ask("subscribe", request_id="s", **resume)
            assert resumed["resumed"] is True
            told_of = dict([(await event(socket))[1].values() for _ in range(2)])
            assert told_of == {low.pk: 1, high.pk: 2}

    run(story)


@pytest.mark.parametrize(
    ("queryset", "way_out"),
    [
        (Item.objects.values("id", "name"), "annotate()"),
        (Item.objects.values("shelf").annotate(n=Max("version")), "annotate()"),
        (Item.objects.values_list("id"), "annotate()"),
        (Item.objects.raw("SELECT * FROM tests_item"), "RawSQL"),
        ([], "filter()"),
    ],
    ids=["values", "groups", "lists", "raw", "list"],
)
def test_what_is_no_rows_of_a_model_is_refused_with_the_way_out(queryset, way_out):
    class AsIs(ModelConsumerViewSet):
        serializer_class = ItemSerializer
        authentication_classes = permission_classes = filter_backends = []

        def get_queryset(self):
            return queryset

    async def story():
        async with told(routes(AsIs)) as socket:
            reply = await socket.ask("subscribe", request_id="s")
            assert (reply["response_status"], reply["codes"]) == (400, ["cannot_subscribe"])
            assert way_out in reply["errors"][0]

    run(story)


def test_a_row_of_a_slice_is_refused():
    async def story():
        (item,) = await written(make, 1)
        async with told(items(Item.objects.order_by("id")[:2])) as socket:
            reply = await socket.ask("subscribe_instance", pk=item.pk, request_id="s")
            assert (reply["response_status"], reply["codes"]) == (400, ["cannot_subscribe"])

    run(story)


def test_a_row_that_comes_twice_with_different_values():
    class TaggedSerializer(serializers.ModelSerializer):
        tag = serializers.CharField()

        class Meta:
            model = Book
            fields = ["id", "tag"]

    def tagged(*names):
        book = Book.objects.create(title="one")
        for name in names:
            book.tags.create(name=name)
        return book

    async def story():
        book = await written(tagged, "a")
        queryset = Book.objects.annotate(tag=F("tags__name"))
        async with told(items(queryset, TaggedSerializer)) as socket:
            assert await subscribed(socket) == [{"id": book.pk, "tag": "a"}]
            await written(book.tags.create, name="b")
            ended = await socket.receive()
            assert (ended["action"], ended["response_status"]) == ("revoke", 400)
            assert "distinct()" in ended["errors"][0]

    run(story)
