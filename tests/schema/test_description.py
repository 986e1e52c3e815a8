"""The description of an application's sockets, made from its routers."""

from __future__ import annotations

import sys

import pytest
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import AllowAny, IsAdminUser, IsAuthenticated
from rest_framework.response import Response

from rest_channels.consumers import RoomConsumers, WebsocketConsumers, consumer
from rest_channels.routers import DefaultRouter
from rest_channels.schema import mapping
from rest_channels.schema.description import describe
from rest_channels.schema.json_schema import reference
from tests.models import Message, Room

pytestmark = pytest.mark.once


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name", "is_staff_only"]


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "room", "text"]


class AudienceSerializer(serializers.Serializer):
    name = serializers.CharField()


class Pages(PageNumberPagination):
    page_size = 10
    page_size_query_param = None


class RoomViewSet(viewsets.ModelViewSet):
    """Rooms to talk in."""

    queryset = Room.objects.all()
    serializer_class = RoomSerializer
    permission_classes = [IsAuthenticated]
    filter_backends = [SearchFilter, OrderingFilter]
    pagination_class = Pages

    @action(
        detail=True,
        methods=["post", "delete"],
        permission_classes=[IsAdminUser],
        serializer_class=AudienceSerializer,
    )
    def close(self, request, pk):
        """Close a room for an audience."""
        raise NotImplementedError

    @action(detail=False)
    def items(self, request):
        yield Response()


class MessageViewSet(viewsets.ReadOnlyModelViewSet):
    queryset = Message.objects.all()
    serializer_class = MessageSerializer
    permission_classes = [AllowAny]
    lookup_url_kwarg = "number"


class Chat(RoomConsumers):
    """A chat."""


class Greetings(WebsocketConsumers):
    @consumer(kind="hello", name=r"(?P<name>\w+)", age=7)
    def greet(self, message, name):
        """Return the greeting."""


router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("messages", MessageViewSet)
router.register("chat", Chat)
router.register("greetings", Greetings)


@pytest.fixture(scope="module", params=["by drf-spectacular", "plain"])
def api(request):
    """The description, also in a project without drf-spectacular."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param == "plain":
            monkeypatch.setitem(sys.modules, "drf_spectacular", None)
        yield describe(router.as_asgi("ws/"))


def stream_of(api, path, name=None):
    [socket] = [socket for socket in api.sockets if socket.path == path]
    [stream] = [stream for stream in socket.streams if stream.name == name]
    return stream


def action_of(api, stream, name):
    [found] = [item for item in stream_of(api, "/ws/", stream).actions if item.name == name]
    return found


def test_it_has_each_socket_with_its_lookups(api):
    assert [(s.path, s.is_root, s.is_row, [p.name for p in s.lookups]) for s in api.sockets] == [
        ("/ws/", True, False, []),
        ("/ws/rooms/", False, False, []),
        ("/ws/rooms/{pk}/", False, True, ["pk"]),
        ("/ws/messages/", False, False, []),
        ("/ws/messages/{number}/", False, True, ["number"]),
        ("/ws/chat/", False, False, []),
        ("/ws/greetings/", False, False, []),
    ]


def test_it_has_the_actions_of_a_viewset_with_verbs_permissions_and_aliases(api):
    stream = stream_of(api, "/ws/", "rooms")
    assert stream.kind == "viewset"
    assert stream.doc == "Rooms to talk in."
    assert [(a.name, a.verbs, a.aliases, a.is_detail, a.is_safe) for a in stream.actions] == [
        ("list", ("get",), (), False, True),
        ("create", ("post",), (), False, False),
        ("items", ("get",), (), False, True),
        ("retrieve", ("get",), (), True, True),
        ("update", ("put",), (), True, False),
        ("partial_update", ("patch",), ("patch",), True, False),
        ("destroy", ("delete",), ("delete",), True, False),
        ("close", ("post", "delete"), (), True, False),
        ("subscribe", ("get",), (), False, True),
        ("subscribe_instance", ("get",), (), True, True),
        ("metadata", ("options",), (), False, True),
    ]
    close = action_of(api, "rooms", "close")
    assert (close.doc, close.permissions) == ("Close a room for an audience.", ("IsAdminUser",))
    assert close.request == reference("Audience")
    assert close.errors == (400, 401, 403, 404)


def test_a_row_has_no_actions_of_the_collection_and_no_lookup_to_give(api):
    row = stream_of(api, "/ws/rooms/{pk}/")
    assert "create" not in {item.name for item in row.actions}
    assert {item.lookups for item in row.actions} == {()}


def test_requests_and_responses_name_components(api):
    create = action_of(api, "rooms", "create")
    assert (create.request, create.response) == (reference("Room"), reference("Room"))
    assert create.status == 201
    assert api.components["Room"]["properties"]["is_staff_only"] == {"type": "boolean"}
    assert action_of(api, "rooms", "partial_update").request == reference("PatchedRoom")


def test_a_list_has_its_query_and_its_pages(api):
    listed = action_of(api, "rooms", "list")
    assert [item.name for item in listed.query] == ["ordering", "page", "search"]
    assert (listed.is_many, listed.is_paginated) == (True, True)
    assert listed.response == reference("PaginatedRoomList")
    assert stream_of(api, "/ws/", "rooms").row == reference("Room")
    unpaged = action_of(api, "messages", "list")
    assert (unpaged.is_many, unpaged.is_paginated) == (True, False)
    assert unpaged.response == {"type": "array", "items": reference("Message")}


def test_a_subscription_has_the_rows_of_the_list_without_pages(api):
    subscribe = action_of(api, "rooms", "subscribe")
    assert subscribe.response == {"type": "array", "items": reference("Room")}
    assert [item.name for item in subscribe.query] == ["ordering", "search"]
    assert (subscribe.subscribes, subscribe.is_windowed, subscribe.status) == (True, True, 201)
    one = action_of(api, "rooms", "subscribe_instance")
    assert (one.subscribes, one.is_windowed) == (True, False)
    assert one.response == reference("Room")
    assert action_of(api, "rooms", "list").subscription == "subscribe"
    assert action_of(api, "rooms", "retrieve").subscription == "subscribe_instance"


def test_what_get_reaches_can_be_watched_unless_it_streams(api):
    watchable = [a.name for a in stream_of(api, "/ws/", "rooms").actions if a.is_watchable]
    assert watchable == ["list", "retrieve"]
    assert action_of(api, "rooms", "items").is_streaming


def test_a_lookup_has_its_own_name_and_the_type_of_the_key(api):
    lookup = stream_of(api, "/ws/", "messages").lookup
    assert (lookup.name, lookup.schema) == ("number", {"type": "integer"})


def test_handlers_are_described_by_their_filters(api):
    [greet] = stream_of(api, "/ws/", "greetings").actions
    assert (greet.name, greet.doc) == ("greet", "Return the greeting.")
    assert greet.message == {
        "type": "object",
        "properties": {
            "kind": {"const": "hello"},
            "name": {"type": ["string", "integer"], "pattern": r"^(?:(?<name>\w+))$"},
            "age": {"const": 7},
        },
        "required": ["kind", "name", "age"],
    }


def test_rooms_have_their_actions(api):
    stream = stream_of(api, "/ws/", "chat")
    assert (stream.kind, stream.doc) == ("rooms", "A chat.")
    names = [item.name for item in stream.actions]
    assert names == ["join", "leave", "send", "presence", "typing"]
    send = stream.actions[2]
    assert send.message["required"] == ["action", "room", "data"]
    assert send.message["properties"]["action"] == {"const": "send"}


@pytest.mark.parametrize("has_spectacular", [True, False])
@pytest.mark.skipif(not hasattr(serializers, "BigIntegerField"), reason="before DRF 3.17")
def test_big_integers_as_text_are_text(monkeypatch, has_spectacular):
    monkeypatch.setattr(mapping, "has_spectacular", lambda: has_spectacular)

    class BigSerializer(serializers.Serializer):
        text = serializers.BigIntegerField(coerce_to_string=True, max_value=2**60, allow_null=True)
        number = serializers.BigIntegerField(coerce_to_string=False)

    class BigRooms(RoomConsumers):
        user_serializer_class = BigSerializer

    class BigViewSet(viewsets.ViewSet):
        serializer_class = BigSerializer

        def create(self, request):
            raise NotImplementedError

    for served in (BigRooms, BigViewSet):
        big = DefaultRouter()
        big.register("big", served, "big")
        properties = describe(big.as_asgi()).components["Big"]["properties"]
        assert properties["text"] == {"type": ["string", "null"], "format": "int64"}
        assert properties["number"] == {"type": "integer"}


@pytest.mark.parametrize("has_spectacular", [True, False])
def test_rooms_with_serializers_name_their_components(monkeypatch, has_spectacular):
    monkeypatch.setattr(mapping, "has_spectacular", lambda: has_spectacular)

    class Serialized(RoomConsumers):
        user_serializer_class = AudienceSerializer
        message_serializer_class = MessageSerializer

    rooms = DefaultRouter()
    rooms.register("rooms", Serialized)
    described = describe(rooms.as_asgi())
    [stream] = described.sockets[0].streams
    assert (stream.room.user, stream.room.sent) == (reference("Audience"), reference("Message"))
    assert stream.room.told["properties"] == {"data": reference("Message")}
    join = stream.actions[0].response
    assert join["properties"]["users"]["items"] == reference("Audience")
    assert set(described.components) == {"Audience", "Message"}


def test_it_is_deterministic(api):
    assert describe(router.as_asgi("ws/")) == api
