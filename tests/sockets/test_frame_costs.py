"""The cost of a frame, counted: queries, and serializers whose fields are built."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework import serializers
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import IsAuthenticated

from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Message, Room

pytestmark = pytest.mark.django_db


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "room", "text"]


class ByRequest(MessageSerializer):
    """Its fields may be others each time: no copies."""

    def get_fields(self):
        return super().get_fields()


class Pages(PageNumberPagination):
    page_size = 10


class MessageViewSet(ModelConsumerViewSet):
    queryset = Message.objects.order_by("id")
    serializer_class = MessageSerializer
    pagination_class = Pages


@pytest.fixture
def message():
    room = Room.objects.create(name="lobby")
    Message.objects.bulk_create(Message(room=room, text=str(n)) for n in range(5))
    return Message.objects.first()


def frames(message):
    """One of each action, and the SQL that Django needs for it: triggers note what is written."""
    data = {"room": message.room_id, "text": "hi"}
    return [
        ("retrieve", {"pk": message.pk}, ["SELECT"]),
        ("list", {}, ["SELECT", "SELECT"]),
        ("create", {"data": data}, ["SELECT", "INSERT"]),
        ("update", {"pk": message.pk, "data": data}, ["SELECT", "SELECT", "UPDATE"]),
        (
            "partial_update",
            {"pk": message.pk, "data": {"text": "x"}},
            ["SELECT", "UPDATE"],
        ),
        ("metadata", {}, []),
        ("retrieve", {"pk": 0}, ["SELECT"]),
        ("destroy", {"pk": message.pk}, ["SELECT", "DELETE"]),
    ]


def client_of(viewset) -> SocketClient:
    router = DefaultRouter()
    router.register("messages", viewset)
    return SocketClient(router.as_asgi())


def verbs(queries: CaptureQueriesContext) -> list[str]:
    """Return the statements, without the transaction around them."""
    words = [query["sql"].split()[0] for query in queries.captured_queries]
    return [word for word in words if word not in {"SAVEPOINT", "RELEASE", "BEGIN", "COMMIT"}]


@contextmanager
def counted_builds():
    """How often each serializer class builds its fields."""
    builds: Counter[str] = Counter()
    get_fields = serializers.ModelSerializer.get_fields

    def counting(self):
        builds[type(self).__name__] += 1
        return get_fields(self)

    with mock.patch.object(serializers.ModelSerializer, "get_fields", counting):
        yield builds


def test_a_frame_costs_the_queries_of_its_action_and_no_more(message):
    with client_of(MessageViewSet) as client:
        for action, keys, expected in frames(message):
            with CaptureQueriesContext(connection) as queries:
                client.request(action, "messages", **keys)
            assert verbs(queries) == expected, action


def test_a_user_costs_two_queries_once(message):
    class ForUsers(MessageViewSet):
        permission_classes = [IsAuthenticated]

    client = client_of(ForUsers)
    client.force_login(User.objects.create_user("ann"))
    with client:
        with CaptureQueriesContext(connection) as queries:
            assert client.retrieve("messages", message.pk).status_code == 200
        assert sum("django_session" in q["sql"] for q in queries.captured_queries) == 1
        assert sum("auth_user" in q["sql"] for q in queries.captured_queries) == 1
        for _ in range(3):
            with CaptureQueriesContext(connection) as queries:
                assert client.retrieve("messages", message.pk).status_code == 200
            assert verbs(queries) == ["SELECT"]


def test_a_frame_builds_no_serializer_whose_fields_can_be_copied(message):
    with client_of(MessageViewSet) as client:
        client.retrieve("messages", message.pk)
        with counted_builds() as builds:
            for action, keys, _ in frames(message):
                client.request(action, "messages", **keys)
        assert builds == {}


def test_a_frame_builds_one_serializer_where_they_can_not(message):
    class Customised(MessageViewSet):
        serializer_class = ByRequest

    with client_of(Customised) as client:
        for action in ("retrieve", "list", "create", "update", "partial_update"):
            keys = next(keys for name, keys, _ in frames(message) if name == action)
            with counted_builds() as builds:
                assert client.request(action, "messages", **keys).status_code < 300
            assert builds == {"ByRequest": 1}, action


def test_without_short_cuts_a_frame_builds_its_serializer(message, settings):
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "SHORT_CUTS": False}
    with client_of(MessageViewSet) as client:
        client.retrieve("messages", message.pk)
        with counted_builds() as builds:
            assert client.retrieve("messages", message.pk).status_code == 200
        assert builds == {"MessageSerializer": 1}
