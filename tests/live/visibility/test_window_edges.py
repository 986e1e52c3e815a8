"""Rows that sort behind a window's last row, if the database itself would compare them so."""

from __future__ import annotations

import datetime
import itertools

import pytest
from django.db import connection
from django.db.models import Count, F
from django.db.models.functions import Lower

from rest_channels.live.visibility.total_order import totally_ordered
from rest_channels.live.visibility.window_edges import columns_of, is_behind
from tests.models import Book, Message, Room, Shelf, Tag

pytestmark = pytest.mark.django_db


@pytest.fixture
def books():
    """Books of equal and of different versions, on shelves and on none."""
    shelves = [Shelf.objects.create(name=name) for name in "ba"]
    return [
        Book.objects.create(title=str(number), version=version, shelf=shelf)
        for number, (version, shelf) in enumerate(
            itertools.product([3, -1, 3, 0], [None, *shelves])
        )
    ]


COMPARED = {
    "none": Book.objects.all(),
    "the key": Book.objects.order_by("-pk"),
    "one": Book.objects.order_by("version"),
    "two": Book.objects.order_by("-version", "shelf_id"),
    "reversed": Book.objects.order_by("version", "-id").reverse(),
    "expressions": Book.objects.order_by(F("version").desc()),
    "by the model": Book.objects.order_by("-version").filter(version__lt=3),
}

LEFT_TO_THE_DATABASE = {
    "text": Book.objects.order_by("title"),
    "a joined row": Book.objects.order_by("shelf__name"),
    "a relation": Book.objects.order_by("shelf"),
    "nulls": Book.objects.order_by(F("shelf_id").asc(nulls_first=True)),
    "a function": Book.objects.order_by(Lower("title")),
    "an annotation": Book.objects.annotate(count=Count("tags")).order_by("count"),
    "an annotation's name": Book.objects.annotate(rank=F("title")).order_by("rank"),
    "extra": Book.objects.extra(order_by=["version"]),
    "text keys": Tag.objects.order_by("name"),
}


@pytest.mark.parametrize("order", COMPARED.values(), ids=COMPARED)
def test_no_row_in_front_counts_as_behind(books, order):
    columns = columns_of(order)
    rows = list(totally_ordered(order).values_list(*[column.name for column in columns]))
    count = 0
    for at, edge in enumerate(rows):
        for number, row in enumerate(rows):
            if is_behind(row, edge, columns):
                assert number > at
                count += 1
    without_nulls = [row for row in rows if None not in row]
    assert count >= len(without_nulls) * (len(without_nulls) - 1) // 2


@pytest.mark.parametrize("order", LEFT_TO_THE_DATABASE.values(), ids=LEFT_TO_THE_DATABASE)
def test_other_orders_are_left_to_the_database(order):
    assert columns_of(order) is None


def test_times_are_compared_where_the_database_has_a_type_for_them():
    columns = columns_of(Message.objects.order_by("-created"))
    if connection.vendor != "postgresql":
        assert columns is None
        return
    room = Room.objects.create(name="lobby")
    old, new = (Message.objects.create(room=room, text="") for _ in range(2))
    assert is_behind((old.created, old.pk), (new.created, new.pk), columns)
    later = new.created + datetime.timedelta(microseconds=1)
    assert not is_behind((later, old.pk), (new.created, new.pk), columns)
