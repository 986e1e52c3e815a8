"""Descriptions without drf-spectacular, compared with those it makes."""

from __future__ import annotations

import logging
import sys

import pytest
from rest_framework import serializers, viewsets
from rest_framework.permissions import AllowAny

from rest_channels.routers import DefaultRouter
from rest_channels.schema.description import describe
from tests.models import Message, Room
from tests.support.apps import odd_api_app

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def over_http(settings):
    settings.ROOT_URLCONF = "tests.support.apps.odd_api_app"


@pytest.fixture
def without_spectacular(monkeypatch):
    monkeypatch.setitem(sys.modules, "drf_spectacular", None)


def test_components_have_the_properties_that_drf_spectacular_finds(monkeypatch):
    theirs = describe(odd_api_app.application).components
    monkeypatch.setitem(sys.modules, "drf_spectacular", None)
    ours = describe(odd_api_app.application).components
    of_decorators = {"Box", "Shelf", "Thing", "PaginatedTagList"}
    enums = {"BookMoodEnum", "NodeMoodEnum", "BlankEnum", "NullEnum"}
    assert set(ours) == set(theirs) - of_decorators - enums
    for name, schema in ours.items():
        known = theirs[name]
        assert schema.get("required") == known.get("required"), name
        for key, item in schema["properties"].items():
            found = known["properties"][key]
            # Enums have components there, and methods types.
            if "oneOf" in found or "$ref" in found or not item.keys() - {"readOnly"}:
                continue
            unknown = {"pattern"} if found.get("format") != "int64" else {"pattern", "format"}
            assert item == {k: v for k, v in found.items() if k not in unknown}, (name, key)


def test_choices_contain_blank_and_null(without_spectacular):
    components = describe(odd_api_app.application).components
    mood = components["Book"]["properties"]["mood"]
    assert mood["enum"] == ["good", "bad", "", None]
    assert mood["type"] == ["string", "null"]


def test_a_recursive_serializer_refers_to_itself(without_spectacular):
    node = describe(odd_api_app.application).components["Node"]
    children = {"type": "array", "items": {"$ref": "#/components/schemas/Node"}}
    assert node["properties"]["children"] == children


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id"]


class MessageSerializer(serializers.ModelSerializer):
    class RoomSerializer(serializers.ModelSerializer):
        class Meta:
            model = Room
            fields = ["name"]

    class MessageSerializer(serializers.ModelSerializer):
        class Meta:
            model = Message
            fields = ["text"]

    answered = MessageSerializer(read_only=True)
    room = RoomSerializer(read_only=True, help_text="The room.")
    rooms = serializers.PrimaryKeyRelatedField(many=True, queryset=Room.objects.all())

    class Meta:
        model = Message
        fields = ["answered", "room", "rooms"]


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.all()
    serializer_class = RoomSerializer
    permission_classes = [AllowAny]


class MessageViewSet(viewsets.ModelViewSet):
    queryset = Message.objects.all()
    permission_classes = [AllowAny]

    def get_serializer_class(self):
        if not self.request.user.is_authenticated:
            raise AttributeError("a user is needed")
        return MessageSerializer


class NestedViewSet(MessageViewSet):
    serializer_class = MessageSerializer

    def get_serializer_class(self):
        return self.serializer_class


def test_two_serializers_of_one_name_have_two_components(without_spectacular):
    router = DefaultRouter()
    router.register("rooms", RoomViewSet)
    router.register("messages", NestedViewSet)
    components = describe(router.as_asgi()).components
    assert set(components["Room"]["properties"]) == {"id"}
    assert set(components["Room2"]["properties"]) == {"name"}
    properties = components["Message"]["properties"]
    # The name of a serializer is taken while its fields are mapped.
    assert set(components["Message2"]["properties"]) == {"text"}
    assert properties["room"] == {
        "allOf": [{"$ref": "#/components/schemas/Room2"}],
        "readOnly": True,
        "description": "The room.",
    }
    assert properties["rooms"] == {"type": "array", "items": {"type": "integer"}}


def test_a_serializer_that_needs_a_request_is_logged_and_admits_anything(
    without_spectacular, caplog
):
    router = DefaultRouter()
    router.register("messages", MessageViewSet)
    with caplog.at_level(logging.WARNING, "rest_channels"):
        [root, *_] = describe(router.as_asgi()).sockets
    create = next(item for item in root.streams[0].actions if item.name == "create")
    assert (create.request, create.response) == ({}, {})
    assert "The serializer of MessageViewSet.create is unknown without a request" in caplog.text
