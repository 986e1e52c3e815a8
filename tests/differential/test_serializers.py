"""Rows in the words of serializers: links, files, and values that JSON has no word for."""

from __future__ import annotations

import datetime
import decimal
import uuid

import pytest
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from tests.models import Document, Message, Room
from tests.support.http_comparison import Site


class RoomSerializer(serializers.HyperlinkedModelSerializer):
    class Meta:
        model = Room
        fields = ["url", "name", "messages"]
        read_only_fields = ["messages"]


class MessageSerializer(serializers.HyperlinkedModelSerializer):
    room = serializers.SlugRelatedField(slug_field="name", queryset=Room.objects.all())
    room_url = serializers.HyperlinkedRelatedField(
        "room-detail", source="room", read_only=True, lookup_field="name"
    )
    shout_url = serializers.HyperlinkedIdentityField("message-shout")

    class Meta:
        model = Message
        fields = ["url", "room", "room_url", "shout_url", "text", "created"]


class MessageViewSet(viewsets.ModelViewSet):
    queryset = Message.objects.select_related("room").order_by("id")
    serializer_class = MessageSerializer

    @action(detail=True, methods=["post"])
    def shout(self, request, pk=None):
        return Response(self.get_object().text.upper())


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.prefetch_related("messages").order_by("id")
    serializer_class = RoomSerializer
    lookup_field = "name"

    class RoomSerializer(RoomSerializer):
        class Meta(RoomSerializer.Meta):
            extra_kwargs = {"url": {"lookup_field": "name"}}

    serializer_class = RoomSerializer


@pytest.fixture
def hello(db):
    return Message.objects.create(room=Room.objects.create(name="lobby"), text="hello")


@pytest.fixture
def linked(site, hello):
    site.register("messages", MessageViewSet)
    site.register("rooms", RoomViewSet)
    return site


def test_links(linked, hello):
    row = f"http://testserver/api/messages/{hello.pk}/"
    message = linked.same(f"GET /api/messages/{hello.pk}/", "retrieve", pk=hello.pk).data
    assert (message["url"], message["shout_url"]) == (row, f"{row}shout/")
    assert message["room_url"] == "http://testserver/api/rooms/lobby/"
    rooms = linked.same("GET /api/rooms/", "list", stream="rooms")
    assert rooms.data[0]["messages"] == [row]
    assert len(rooms.queries) == 2


def test_where_what_was_created_is(linked):
    answer = linked.same("POST /api/rooms/", "create", stream="rooms", data={"name": "attic"})
    assert answer.headers == {"Location": "http://testserver/api/rooms/attic/"}


def test_links_follow_the_handshakes_host(linked, hello, settings):
    settings.ALLOWED_HOSTS = ["shop.example"]
    linked.headers["host"] = "shop.example"
    answer = linked.same("GET /api/messages/", "list")
    assert answer.data[0]["url"] == f"http://shop.example/api/messages/{hello.pk}/"


def test_links_below_a_namespace(hello):
    class Serializer(serializers.HyperlinkedModelSerializer):
        class Meta:
            model = Message
            fields = ["url", "text"]
            extra_kwargs = {"url": {"view_name": "v1:message-detail"}}

    class NamespacedViewSet(MessageViewSet):
        serializer_class = Serializer

    with Site(http="v1/api/", namespace="v1") as site:
        site.register("messages", NamespacedViewSet)
        answer = site.same("GET /v1/api/messages/", "list")
        assert answer.data[0]["url"] == f"http://testserver/v1/api/messages/{hello.pk}/"


def test_related_by_slug(linked):
    data = {"room": "lobby", "text": "bye"}
    assert linked.same("POST /api/messages/", "create", data=data).data["room"] == "lobby"
    answer = linked.same("POST /api/messages/", "create", data={"room": "cellar", "text": "bye"})
    assert answer.codes == [{"room": ["does_not_exist"]}]


@pytest.mark.parametrize(
    "link, code",
    [
        ("/api/rooms/lobby/", None),
        ("http://testserver/api/rooms/lobby/", None),
        ("/api/rooms/cellar/", "does_not_exist"),
        ("/api/messages/1/", "incorrect_match"),
        ("/nowhere/", "no_match"),
        (1, "incorrect_type"),
    ],
)
def test_related_by_link(site, hello, link, code):
    class Serializer(serializers.ModelSerializer):
        room = serializers.HyperlinkedRelatedField(
            "room-detail", queryset=Room.objects.all(), lookup_field="name"
        )

        class Meta:
            model = Message
            fields = ["room", "text"]

    class ByLinkViewSet(MessageViewSet):
        serializer_class = Serializer

    site.register("messages", ByLinkViewSet)
    site.register("rooms", RoomViewSet)
    answer = site.same("POST /api/messages/", "create", data={"room": link, "text": "x"})
    assert answer.codes == (code and [{"room": [code]}])


class NestedSerializer(serializers.ModelSerializer):
    class InnerSerializer(serializers.ModelSerializer):
        class Meta:
            model = Message
            fields = ["text"]

    messages = InnerSerializer(many=True)

    class Meta:
        model = Room
        fields = ["name", "messages"]

    def create(self, validated_data):
        messages = validated_data.pop("messages")
        room = Room.objects.create(**validated_data)
        Message.objects.bulk_create([Message(room=room, **message) for message in messages])
        return room


@pytest.fixture
def nested(site):
    class NestedViewSet(viewsets.ModelViewSet):
        queryset = Room.objects.prefetch_related("messages")
        serializer_class = NestedSerializer

    site.register("rooms", NestedViewSet)
    return site


def test_nested(nested):
    data = {"name": "attic", "messages": [{"text": "a"}, {"text": "b"}]}
    answer = nested.same("POST /api/rooms/", "create", data=data)
    assert answer.data == data
    assert [message["text"] for message in answer.rows["Message"]] == ["a", "b"]


def test_nested_errors(nested):
    data = {"name": "attic", "messages": [{"text": "a"}, {}, {"text": ""}, 3]}
    answer = nested.same("POST /api/rooms/", "create", data=data)
    assert answer.status_code == 400
    assert answer.codes[0].keys() == {"messages"}


def test_files_are_links(site):
    class Serializer(serializers.ModelSerializer):
        class Meta:
            model = Document
            fields = ["file", "price"]

    class DocumentViewSet(viewsets.ReadOnlyModelViewSet):
        queryset = Document.objects.all()
        serializer_class = Serializer

    site.register("documents", DocumentViewSet)
    Document.objects.create(file="documents/a b.txt", price="12.50")
    answer = site.same("GET /api/documents/", "list")
    assert answer.data == [{"file": "http://testserver/documents/a%20b.txt", "price": "12.50"}]


VALUES = {
    "datetime": datetime.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=datetime.UTC),
    "naive": datetime.datetime(2024, 2, 29),
    "date": datetime.date(2024, 2, 29),
    "time": datetime.time(12, 30),
    "duration": datetime.timedelta(days=1, seconds=2.5),
    "uuid": uuid.UUID(int=7),
    "decimal": decimal.Decimal("1.10"),
    "float": 0.1 + 0.2,
    "big": 2**70,
    "lazy": gettext_lazy("Yes"),
    "bytes": b"text",
    "tuple": (1, 2),
    "set": {1},
    "generator": (n for n in ()),
    "empty": [{}, [], "", None, True, False],
    "unicode": 'é 日 😀 \u2028 </script> " \\ \x7f',
    1: "a key that is a number",
}


@pytest.mark.parametrize("name", VALUES)
def test_values_that_json_has_no_word_for(site, name):
    class ValueViewSet(viewsets.ViewSet):
        def list(self, request):
            return Response({name: VALUES[name]})

    site.register("values", ValueViewSet, "value")
    assert site.same("GET /api/values/", "list").data.keys() == {str(name)}


@pytest.mark.parametrize("value", ["text", 3, 2.5, None, True, [], {}, "", 0, [None]])
def test_data_that_is_no_object(site, value):
    class ValueViewSet(viewsets.ViewSet):
        def list(self, request):
            return Response(value)

    site.register("values", ValueViewSet, "value")
    assert site.same("GET /api/values/", "list").data == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_data_that_cannot_be_written(site, value):
    class ValueViewSet(viewsets.ViewSet):
        def list(self, request):
            return Response({"value": value})

    site.register("values", ValueViewSet, "value")
    assert site.http("GET /api/values/").status_code == 500
    assert site.socket("list").status_code == 500


def test_rows_and_querysets_in_a_response(site, hello):
    class ValueViewSet(viewsets.ViewSet):
        def list(self, request):
            return Response(Message.objects.values("text", "created"))

    site.register("values", ValueViewSet, "value")
    assert site.same("GET /api/values/", "list").data[0]["text"] == "hello"


def test_fields_that_ask_the_request(site, hello):
    class Serializer(serializers.ModelSerializer):
        author = serializers.HiddenField(default=serializers.CurrentUserDefault())
        by = serializers.SerializerMethodField()

        class Meta:
            model = Message
            fields = ["room", "text", "author", "by"]

        def get_by(self, message):
            context = self.context
            return [context["request"].user.username, context["view"].action, context["format"]]

    class OwnViewSet(MessageViewSet):
        serializer_class = Serializer

    site.register("messages", OwnViewSet)
    ann = User.objects.create_user("ann")
    site.force_authenticate(ann)
    data = {"room": hello.room_id, "text": "mine"}
    answer = site.same("POST /api/messages/", "create", data=data)
    assert answer.data["by"] == ["ann", "create", None]
    assert answer.rows["Message"][1]["author_id"] == ann.pk


def test_many_at_once(site):
    class ManyViewSet(viewsets.ModelViewSet):
        queryset = Room.objects.all()

        class NameSerializer(serializers.ModelSerializer):
            class Meta:
                model = Room
                fields = ["name"]

        serializer_class = NameSerializer

        def get_serializer(self, *args, **kwargs):
            return super().get_serializer(*args, many=isinstance(self.request.data, list), **kwargs)

    site.register("rooms", ManyViewSet)
    data = [{"name": "a"}, {"name": "b"}]
    assert site.same("POST /api/rooms/", "create", data=data).data == data
    answer = site.same("POST /api/rooms/", "create", data=[{"name": "a"}, {}, {"name": "no slug"}])
    assert answer.status_code == 400
    assert answer.codes
