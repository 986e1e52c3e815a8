"""
Querysets of every shape: `subscribe`, a window and a watch either serve one, or the error names
those that do.
"""

from __future__ import annotations

import re

import pytest
from django.db.models import Count, Exists, F, OuterRef, Q, Sum, Window
from django.db.models.expressions import RawSQL
from django.db.models.functions import Rank
from rest_framework import serializers

from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Item, Shelf
from tests.support.ordered_lists import OrderedList
from tests.support.stepped_processes import running
from tests.support.subscription_stories import routes

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.only_on("sqlite", "postgresql"),
    pytest.mark.timeout(120),
]

RANK = Window(Rank(), order_by=F("version").desc())
NEWER = Item.objects.filter(version__gt=OuterRef("version"))
ONE, NINE = (Item.objects.filter(version=version) for version in (1, 9))

ALL = {"subscribe", "window", "watch"}
UNORDERED = {"subscribe", "watch"}
NO_ROWS = {"watch"}

# By name: a queryset, and what serves it.
SHAPES = {
    "filter": (lambda: Item.objects.filter(Q(version__gt=0)).order_by("-version"), ALL),
    "slice": (lambda: Item.objects.order_by("-version")[:2], ALL),
    "offset": (lambda: Item.objects.order_by("-version")[1:], ALL),
    "distinct": (lambda: Item.objects.order_by("-version").distinct(), ALL),
    "distinct on": (lambda: Item.objects.order_by("shelf", "-version").distinct("shelf"), ALL),
    "window function": (lambda: Item.objects.annotate(rank=RANK).order_by("rank"), ALL),
    "filtered window function": (
        lambda: Item.objects.annotate(rank=RANK).filter(rank__lte=2).order_by("-rank"),
        ALL,
    ),
    "running sum": (
        lambda: Item.objects.annotate(n=Window(Sum("version"), order_by=F("id").asc())),
        ALL,
    ),
    "aggregate": (lambda: Item.objects.annotate(n=Count("shelf__items")).order_by("-n"), ALL),
    "subquery": (lambda: Item.objects.filter(Exists(NEWER)).order_by("-version"), ALL),
    "sql": (lambda: Item.objects.annotate(n=RawSQL("version + 1", ())).order_by("-n"), ALL),
    "extra": (
        lambda: Item.objects.extra(select={"n": "version + 1"}, order_by=["-n"]),
        ALL,
    ),
    "union": (lambda: ONE.union(NINE), UNORDERED),
    "ordered union": (lambda: ONE.union(NINE).order_by("-version"), UNORDERED),
    "intersection": (lambda: ONE.intersection(Item.objects.filter(name="p")), UNORDERED),
    "difference": (lambda: Item.objects.difference(NINE), UNORDERED),
    "chance": (lambda: Item.objects.order_by("?"), UNORDERED),
    "values": (lambda: Item.objects.order_by("pk").values("id", "name", "version"), NO_ROWS),
    "groups": (lambda: Item.objects.values("shelf").annotate(id=Count("pk")), NO_ROWS),
    "values_list": (lambda: Item.objects.order_by("pk").values_list("pk", flat=True), NO_ROWS),
    "raw": (lambda: Item.objects.raw("SELECT * FROM tests_item ORDER BY id"), NO_ROWS),
    "list": (lambda: list(Item.objects.order_by("-version")), NO_ROWS),
}


class AnythingSerializer(serializers.BaseSerializer):
    """Rows, dicts of `values()`, or plain values."""

    def to_representation(self, row):
        if isinstance(row, Item):
            return {"id": row.pk, "name": row.name, "version": row.version}
        return row


def routes_of(queryset):
    class Rows(ModelConsumerViewSet):
        serializer_class = AnythingSerializer
        authentication_classes = permission_classes = filter_backends = []

        def get_queryset(self):
            return queryset()

    return routes(Rows)


def make():
    shelves = [Shelf.objects.create(name=name) for name in "ab"]
    for number, name in enumerate("opqr"):
        Item.objects.create(name=name, version=number, shelf=shelves[number % 2])


def write():
    Item.objects.filter(name="p").get().delete()
    item = Item.objects.get(name="q")
    item.version = 9
    item.save()
    Item.objects.create(name="s", version=1, shelf=Shelf.objects.get(name="b"))


ASKED = {
    "subscribe": ("subscribe", {"snapshot": True}),
    "window": ("subscribe", {"snapshot": True, "window": 2}),
    "watch": ("watch", {"of": "list"}),
}


def named(served=None):
    """The names of shapes that are `served` so, of all by default."""
    return [
        pytest.param(name, marks=pytest.mark.only_on("postgresql"))
        if name == "distinct on"
        else name
        for name, (_, ways) in SHAPES.items()
        if served in (None, ways)
    ]


@pytest.mark.parametrize("name", named())
def test_what_does_not_serve_a_queryset_names_what_does(name):
    queryset, served = SHAPES[name]
    with running() as shared:
        shared.write(make)
        socket = shared.start().connect(routes_of(queryset), "/", {})
        for way, (action, keys) in ASKED.items():
            _, reply = socket.ask(action, request_id=way, **keys)
            if way in served:
                assert reply["response_status"] == 201, (way, reply)
                continue
            assert (reply["response_status"], reply["codes"]) == (400, ["cannot_subscribe"])
            ways = set(re.findall(r"'(subscribe|window|watch)'", reply["errors"][0]))
            # A window is asked for with 'subscribe', which the error offers without one.
            assert ways & ALL - {"window"} == served, reply["errors"]


@pytest.mark.parametrize("name", named(ALL))
def test_a_window_that_is_served_is_the_beginning_of_the_list(name):
    queryset, _ = SHAPES[name]
    with running() as shared:
        shared.write(make)
        process = shared.start()
        socket = process.connect(routes_of(queryset), "/", {})
        held = OrderedList(2)
        _, reply = socket.ask("subscribe", request_id="s", window=2, snapshot=True)
        held.take(reply)
        shared.write(write)
        process.catch_up()
        for frame in socket.drain():
            held.take(frame)
        _, listed = socket.ask("list")
        assert held.rows == listed["data"][:2]
        assert held.rows != reply["data"] or name == "subquery"


def test_a_row_of_a_slice_can_be_followed_by_its_collection_or_be_watched():
    with running() as shared:
        shared.write(make)
        item = shared.write(lambda: Item.objects.get(name="r"))
        socket = shared.start().connect(routes_of(SHAPES["slice"][0]), "/", {})
        _, reply = socket.ask("subscribe_instance", pk=item.pk)
        assert (reply["response_status"], reply["codes"]) == (400, ["cannot_subscribe"])
        assert "'subscribe'" in reply["errors"][0]
        assert "'watch'" in reply["errors"][0]


class ShelfSerializer(serializers.ModelSerializer):
    class Meta:
        model = Shelf
        fields = ["id", "name"]


class JoinedShelves(ModelConsumerViewSet):
    """A shelf comes once for each of its items."""

    queryset = Shelf.objects.filter(items__version__gte=0).order_by("id")
    serializer_class = ShelfSerializer
    authentication_classes = permission_classes = filter_backends = []


def fill(shelf, count):
    Item.objects.bulk_create(
        Item(name=f"{shelf.name}{number}", version=1, shelf=shelf) for number in range(count)
    )


def test_rows_that_come_too_often_for_a_window():
    with running() as shared:
        shelf, other = shared.write(lambda: [Shelf.objects.create(name=name) for name in "ab"])
        shared.write(lambda: (fill(shelf, 3), fill(other, 1)))
        process = shared.start()
        socket = process.connect(routes(JoinedShelves), "/", {})
        _, reply = socket.ask("subscribe", request_id="s", window=2, snapshot=True)
        assert [row["name"] for row in reply["data"]] == ["a", "b"]
        shared.write(lambda: Item.objects.all().delete())
        shared.write(lambda: (fill(shelf, 100), fill(other, 1)))
        process.catch_up()
        revoked = socket.drain()[-1]
        assert (revoked["action"], revoked["response_status"]) == ("revoke", 400)
        for way, (action, keys) in ASKED.items():
            _, reply = socket.ask(action, request_id=way, **keys)
            if way == "window":
                assert (reply["response_status"], reply["codes"]) == (400, ["cannot_subscribe"])
                assert "'subscribe'" in reply["errors"][0]
                assert "'watch'" in reply["errors"][0]
            else:
                assert reply["response_status"] == 201, (way, reply)
