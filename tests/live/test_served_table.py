"""The table of docs/live.md that says what is served, each row of it executed."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.db.models import Count, Exists, F, OuterRef, Prefetch, Q, Value, Window
from django.db.models.expressions import RawSQL
from django.db.models.functions import Concat, Rank
from django.utils import timezone
from rest_framework import serializers

from rest_channels.live.visibility import audiences
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Item, Message, Room, Shelf, Toy
from tests.support.stepped_processes import running
from tests.support.subscription_stories import routes

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = Path(__file__).parents[2] / "docs" / "live.md"

RANK = Window(Rank(), order_by=F("version").desc())
NEWER = Item.objects.filter(version__gt=OuterRef("version"))


def item_names(shelf):
    return sorted(item.name for item in shelf.items.all())


class Numbered(serializers.ListSerializer):
    def to_representation(self, data):
        shown = super().to_representation(data)
        return [{**row, "of": len(shown)} for row in shown]


def fresh():
    return Message.objects.filter(created__gt=timezone.now() - timedelta(hours=1))


# By the first cell of a row: the queryset, what is shown of it, and how it is served.
CASES = {
    "`filter()`, `exclude()`, `Q`, `distinct()` without fields": (
        lambda: Item.objects.filter(Q(version__gte=1) | Q(name="x")).exclude(name="y").distinct(),
        None,
    ),
    "`annotate()` with functions, `Case`, aggregates of joined rows": (
        lambda: Item.objects.annotate(n=Count("shelf__items"), m=Concat("name", Value("!"))),
        lambda item: [item.n, item.m],
    ),
    "`Exists`, `Subquery`": (lambda: Item.objects.filter(Exists(NEWER)), None),
    "`select_related()` through foreign keys": (
        lambda: Item.objects.select_related("shelf"),
        lambda item: item.shelf.name,
    ),
    "`prefetch_related()`, `Prefetch(queryset=...)`, `to_attr`, slices within": (
        lambda: Shelf.objects.prefetch_related(
            Prefetch("items", Item.objects.order_by("-version", "pk")[:1], to_attr="best")
        ),
        lambda shelf: [item.name for item in shelf.best],
    ),
    "rows that a serializer fetches itself": (lambda: Shelf.objects.all(), item_names),
    "a slice": (lambda: Item.objects.order_by("-version", "pk")[:2], None),
    '`distinct("field")`, on PostgreSQL': (
        lambda: Item.objects.order_by("shelf", "-version").distinct("shelf"),
        None,
    ),
    "`union()`, `intersection()`, `difference()`": (
        lambda: Item.objects.filter(version=1).union(Item.objects.filter(version=9)),
        None,
    ),
    "window functions, filters on them, running sums": (
        lambda: Item.objects.annotate(rank=RANK).filter(rank__lte=2),
        lambda item: item.rank,
    ),
    "`Prefetch` with a window function or SQL of its own": (
        lambda: Shelf.objects.prefetch_related(Prefetch("items", Item.objects.annotate(r=RANK))),
        lambda shelf: sorted(item.r for item in shelf.items.all()),
    ),
    "`RawSQL`, `extra()`, expressions and lookups with SQL of their own": (
        lambda: Item.objects.annotate(n=RawSQL("SELECT MAX(version) FROM tests_item", ())),
        lambda item: item.n,
    ),
    "a `ListSerializer` of your own": (lambda: Item.objects.all(), None),
    "a comparison with `timezone.now()` or `Now()`": (fresh, None),
    "a model over a view of the database": (None, None),
    "a materialized view or a foreign table": (None, None),
    "`values()`, `values_list()`": (lambda: Item.objects.values("pk"), None),
    "`raw()`, a list": (lambda: Item.objects.raw("SELECT * FROM tests_item"), None),
    "one row of a slice or a union, by `subscribe_instance`": (
        lambda: Item.objects.order_by("pk")[:2],
        None,
    ),
    "a join that gives one row twice, with different values": (
        lambda: Shelf.objects.annotate(item=F("items__name")),
        lambda shelf: shelf.item,
    ),
}


def rows_of_the_table():
    section = PAGE.read_text().partition("## What is served")[2].partition("###")[0]
    lines = re.findall(r"^\| (.+) \|$", section, re.MULTILINE)
    cells = [re.split(r" \| | \|$", line.replace(r"\|", "")) for line in lines]
    return {first: how for first, how, *_ in cells if first != "a queryset or serializer with"}


def test_each_row_of_the_table_is_a_case():
    assert [first for first in rows_of_the_table() if not first.startswith("---")] == list(CASES)


def rows(name):
    """A viewset for the case of that name."""
    queryset, show = CASES[name]

    class Shown(serializers.Serializer):
        id = serializers.ReadOnlyField(source="pk")
        shown = serializers.SerializerMethodField()

        class Meta:
            list_serializer_class = (
                Numbered if "`ListSerializer`" in name else serializers.ListSerializer
            )

        def get_shown(self, row):
            return show(row) if show else getattr(row, "version", None)

    class Rows(ModelConsumerViewSet):
        serializer_class = Shown
        authentication_classes = permission_classes = filter_backends = []

        def get_queryset(self):
            return queryset()

    return routes(Rows)


def make():
    shelf, other = [Shelf.objects.create(name=name) for name in "ab"]
    Item.objects.create(name="p", version=1, shelf=shelf)
    Item.objects.create(name="q", version=2, shelf=other)
    Toy.objects.create(name="r", version=3, shelf=shelf, age=1)
    room = Room.objects.create(name="lobby")
    Message.objects.create(room=room, text="x")


def write():
    item = Item.objects.get(name="p")
    item.version = 9
    item.name = "z"
    item.save()
    Item.objects.create(name="s", version=4, shelf=item.shelf)
    Shelf.objects.get(name="b").delete()
    Shelf.objects.filter(name="a").get().save()
    Message.objects.create(room=Room.objects.get(), text="y")


def served(name):
    how = rows_of_the_table()[name]
    is_elsewhere = name.startswith("`distinct(") and connection.vendor != "postgresql"
    return how.startswith(("by key", "whole", "again")) and CASES[name][0] and not is_elsewhere


@pytest.mark.parametrize("name", [name for name in CASES if served(name)])
def test_what_is_served(name, monkeypatch):
    made = []
    init = audiences.Audience.__init__

    def noting(self, *args, **kwargs):
        init(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(audiences.Audience, "__init__", noting)
    with running() as shared:
        shared.write(make)
        process = shared.start()
        socket = process.connect(rows(name), "/", {})
        _, reply = socket.ask("subscribe", request_id="s", snapshot=True)
        assert reply["response_status"] == 201, reply
        held = {row["id"]: row for row in reply["data"]}
        shared.write(write)
        process.look()
        for event in socket.drain():
            if event["action"] == "delete":
                del held[event["data"]["pk"]]
            else:
                held[event["data"]["id"]] = event["data"]
        _, listed = socket.ask("list")
        assert held == {row["id"]: row for row in listed["data"]}
        assert listed["data"] != reply["data"]
    how = rows_of_the_table()[name]
    assert {a.is_whole for a in made} == {how.startswith("whole")}
    assert {a.evaluation.seconds is not None for a in made} == {how.startswith("again")}


REFUSED = [n for n, how in rows_of_the_table().items() if how.startswith("refused") and CASES[n][0]]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    with running() as shared:
        shared.write(make)
        process = shared.start()
        socket = process.connect(rows(name), "/", {})
        action, keys = "subscribe", {}
        if "subscribe_instance" in name:
            action, keys = "subscribe_instance", {"pk": shared.write(Item.objects.first).pk}
        _, reply = socket.ask(action, request_id="s", snapshot=True, **keys)
        assert (reply["response_status"], reply["codes"]) == (400, ["cannot_subscribe"]), reply


def test_only_views_of_the_database_have_tests_elsewhere():
    """In `test_reads`."""
    elsewhere = [name for name, (queryset, _) in CASES.items() if queryset is None]
    assert all("view" in name for name in elsewhere)
