"""Serializers that show only what was loaded with a row: rendering it runs no query."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.db import connection
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext
from rest_framework import serializers

from rest_channels.live.visibility.evaluation import EVERYBODY, ONE_USER
from rest_channels.live.visibility.loaded_columns import shows_loaded_columns
from tests.models import Book, Message, Note, Novel, Room
from tests.support.room_viewsets import RoomSerializer

pytestmark = pytest.mark.django_db


def of(model_class, shown, **declared):
    class Shown(serializers.ModelSerializer):
        class Meta:
            model = model_class
            fields = shown

    return type("Shown", (Shown,), declared)


def answer(queryset, serializer_class, **values):
    """An answer of DRF, as far as the proof reads it."""
    known = {"unproven": None, "text_reach": EVERYBODY, **values}
    return SimpleNamespace(queryset=queryset, serializer_class=serializer_class, **known)


named = {"room_name": serializers.CharField(source="room.name")}
slug = {"room": serializers.SlugRelatedField("name", read_only=True)}
shouted = {"shout": serializers.CharField()}

LOADED = {
    "columns": (Message.objects.all(), of(Message, ["id", "text", "created"])),
    "the key of a related row": (Message.objects.all(), of(Message, ["room", "author"])),
    "the column of a reference": (
        Message.objects.all(),
        of(Message, ["room_id"], room_id=serializers.IntegerField()),
    ),
    "a related row": (
        Message.objects.select_related("room"),
        of(Message, ["id", "room_name"], **named),
    ),
    "a slug": (Message.objects.select_related("room"), of(Message, ["room"], **slug)),
    "an annotation": (
        Message.objects.annotate(shout=Concat("text", Value("!"))),
        of(Message, ["shout"], **shouted),
    ),
    "a joined column": (
        Message.objects.annotate(shout=F("room__name")),
        of(Message, ["shout"], **shouted),
    ),
    "a parent's column": (Novel.objects.all(), of(Novel, ["id", "title", "plot"])),
    "what only writers send": (
        Book.objects.all(),
        of(Book, ["tags"], tags=serializers.CharField(write_only=True)),
    ),
}

NOT_LOADED = {
    "a related row that is not joined": (
        Message.objects.all(),
        of(Message, ["room_name"], **named),
    ),
    "another row than the joined one": (
        Message.objects.select_related("author"),
        of(Message, ["room_name"], **named),
    ),
    "a slug of a row that is not joined": (Message.objects.all(), of(Message, ["room"], **slug)),
    "many related rows": (Note.objects.all(), of(Note, ["id", "labels"])),
    "prefetched rows": (Note.objects.prefetch_related("labels"), of(Note, ["id"])),
    "a nested serializer": (
        Message.objects.select_related("room"),
        of(Message, ["room"], room=RoomSerializer()),
    ),
    "a related row's text": (
        Message.objects.all(),
        of(Message, ["room"], room=serializers.StringRelatedField()),
    ),
    "deferred columns": (Message.objects.defer("text"), of(Message, ["id"])),
    "some columns": (Message.objects.only("id"), of(Message, ["id", "text"])),
}


def is_loaded(queryset, serializer_class):
    return shows_loaded_columns(answer(queryset, serializer_class))


@pytest.fixture
def rows():
    room = Room.objects.create(name="lobby")
    Message.objects.create(room=room, text="hello")
    Novel.objects.create(title="one", plot="two")


@pytest.mark.parametrize("name", LOADED)
def test_what_is_loaded_takes_one_statement(name, rows):
    queryset, serializer_class = LOADED[name]
    assert is_loaded(queryset, serializer_class)
    with CaptureQueriesContext(connection) as queries:
        assert serializer_class(queryset.all(), many=True).data
    assert len(queries) == 1


@pytest.mark.parametrize("name", NOT_LOADED)
def test_what_may_be_read_later(name):
    assert not is_loaded(*NOT_LOADED[name])


@pytest.mark.parametrize("values", [{"unproven": "a method"}, {"text_reach": ONE_USER}])
def test_code_of_the_project_may_read_anything(values):
    queryset, serializer_class = LOADED["columns"]
    assert not shows_loaded_columns(answer(queryset, serializer_class, **values))
