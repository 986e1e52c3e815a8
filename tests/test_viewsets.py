"""Viewsets as sockets: `as_routes`, what is routed, and what a viewset keeps to itself."""

from __future__ import annotations

import json

import pytest
from channels.routing import URLRouter
from django.core.exceptions import ImproperlyConfigured
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIRequestFactory

from rest_channels.test import SocketClient, SocketClosed
from rest_channels.viewsets import (
    ConsumerViewSet,
    ConsumerViewSetMixin,
    ModelConsumerViewSet,
    ReadOnlyModelConsumerViewSet,
    as_consumer,
)
from tests.models import Room
from tests.support.room_viewsets import RoomSerializer

pytestmark = pytest.mark.django_db


class RoomViewSet(ModelConsumerViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    permission_classes = []


def client(routes, path="/") -> SocketClient:
    return SocketClient(URLRouter(routes), path)


def test_routes_are_a_flat_list_for_urlrouter():
    routes = RoomViewSet.as_routes("rooms")
    assert [str(route.pattern) for route in routes] == ["^rooms/$", "^rooms/(?P<pk>[^/.]+)/$"]
    with client(routes, "/rooms/") as socket:
        assert socket.list().data == []


def test_without_a_path_the_collection_is_where_the_router_is():
    room = Room.objects.create(name="lobby")
    routes = RoomViewSet.as_routes()
    with client(routes, "/") as rooms, client(routes, f"/{room.pk}/") as row:
        assert rooms.list().data == [{"id": room.pk, "name": "lobby"}]
        assert row.retrieve().data == {"id": room.pk, "name": "lobby"}


def test_keywords_hold_for_their_routes_alone():
    paged = RoomViewSet.as_routes("paged", pagination_class=LimitOffsetPagination)
    plain = RoomViewSet.as_routes("plain")
    with client(paged, "/paged/") as one, client(plain, "/plain/") as other:
        assert one.list(query={"limit": 1}).data["results"] == []
        assert other.list(query={"limit": 1}).data == []
    assert RoomViewSet.pagination_class is None


def test_one_class_routed_often_shares_nothing():
    staff = Room.objects.create(name="staff", is_staff_only=True)
    public = Room.objects.create(name="public")
    routes = RoomViewSet.as_routes("staff", queryset=Room.objects.filter(is_staff_only=True))
    routes += RoomViewSet.as_routes("public", queryset=Room.objects.filter(is_staff_only=False))
    with client(routes, "/staff/") as one, client(routes, "/public/") as other:
        assert [room["id"] for room in one.list().data] == [staff.pk]
        assert [room["id"] for room in other.list().data] == [public.pk]
        assert other.retrieve(pk=staff.pk).status_code == 404


@pytest.mark.parametrize(
    "name",
    ["no_such_thing", "list", "get_queryset", "dispatch", "as_view", "_private", "__init__", "get"],
)
def test_what_is_no_attribute_is_refused_with_the_list_of_what_is(name):
    with pytest.raises(TypeError, match=rf"unknown keywords: {name}\..*It takes .*queryset"):
        RoomViewSet.as_routes("rooms", **{name: None})


@pytest.mark.parametrize("name", ["allowed_methods", "default_response_headers"])
def test_properties_are_no_keywords(name):
    with pytest.raises(TypeError, match=name):
        RoomViewSet.as_routes("rooms", **{name: None})


@pytest.mark.parametrize("name", ["name", "description", "suffix", "detail"])
def test_what_drf_sets_for_each_view_is_no_keyword(name):
    class Rooms(RoomViewSet):
        pass

    Rooms.as_routes("rooms")  # DRF's as_view() leaves those names on the class.
    with pytest.raises(TypeError, match=f"unknown keywords: {name}\\."):
        Rooms.as_routes("rooms", **{name: "Rooms"})


def test_urls_are_named_after_the_model_or_the_basename():
    assert [r.name for r in RoomViewSet.as_routes("x")] == ["room-list", "room-detail"]
    assert [r.name for r in RoomViewSet.as_routes("x", "hall")] == ["hall-list", "hall-detail"]


def test_a_model_from_the_keywords_names_the_urls():
    class Bare(ReadOnlyModelConsumerViewSet):
        serializer_class = RoomSerializer

    routes = Bare.as_routes("rooms", queryset=Room.objects.all())
    assert [route.name for route in routes] == ["room-list", "room-detail"]


def test_without_a_queryset_a_basename_is_needed():
    class Health(ConsumerViewSetMixin, viewsets.ViewSet):
        def list(self, request):
            return Response("well")

    with pytest.raises(AssertionError, match="basename"):
        Health.as_routes("health")
    with client(Health.as_routes("health", "health", permission_classes=[]), "/health/") as socket:
        assert socket.list().data == "well"


def test_a_router_lends_its_style_of_urls():
    router = SimpleRouter(trailing_slash=False, use_regex_path=False)
    routes = RoomViewSet.as_routes("rooms", router=router)
    assert [str(route.pattern) for route in routes] == ["rooms", "rooms/<str:pk>"]


def test_a_viewset_without_actions_says_what_it_lacks():
    class Empty(ConsumerViewSet):
        queryset = Room.objects.all()

    with pytest.raises(ImproperlyConfigured, match=r"Empty has no actions.*@action"):
        Empty.as_routes("empty")


def test_without_actions_on_rows_there_is_no_socket_of_a_row():
    class Collection(ConsumerViewSet):
        queryset = Room.objects.all()

        def list(self, request):
            raise NotImplementedError

    assert [r.name for r in Collection.as_routes("rooms")] == ["room-list"]


def test_the_lookup_of_the_viewset_is_that_of_its_row():
    Room.objects.create(name="lobby")
    routes = RoomViewSet.as_routes("rooms", lookup_field="name")
    with client(routes, "/rooms/") as rooms, client(routes, "/rooms/lobby/") as row:
        assert rooms.retrieve(name="lobby").data["name"] == "lobby"
        assert row.retrieve().data["name"] == "lobby"


def test_on_a_row_the_url_wins_over_the_payload():
    lobby, attic = Room.objects.create(name="lobby"), Room.objects.create(name="attic")
    with client(RoomViewSet.as_routes("rooms"), f"/rooms/{lobby.pk}/") as socket:
        assert socket.retrieve(pk=attic.pk).data["name"] == "lobby"
        assert socket.destroy(pk=attic.pk).status_code == 204
    assert Room.objects.get() == attic


def test_on_a_row_the_url_wins_whatever_the_lookup_is_called():
    Room.objects.create(name="lobby"), Room.objects.create(name="attic")
    routes = RoomViewSet.as_routes("rooms", lookup_field="name", lookup_url_kwarg="slug")
    with client(routes, "/rooms/lobby/") as socket:
        reply = socket.request("retrieve", pk="attic", slug="attic", name="attic")
    assert reply.data["name"] == "lobby"


@pytest.mark.parametrize("action", ["list", "create"])
def test_a_row_has_no_actions_of_the_collection(action):
    room = Room.objects.create(name="lobby")
    with client(RoomViewSet.as_routes("rooms"), f"/rooms/{room.pk}/") as socket:
        assert socket.request(action, data={"name": "attic"}).status_code == 405
    assert Room.objects.count() == 1


STRANGE_KEYS = [
    "self", "cls", "scope", "queryset", "__class__", "request", "args", "kwargs", "view", "frame",
    "format", "action_map", "basename", "serializer_class", "permission_classes", "", "a b", "\x00",
]  # fmt: skip


@pytest.mark.parametrize("key", STRANGE_KEYS)
def test_unknown_keys_of_a_payload_are_ignored_whatever_their_name(key):
    room = Room.objects.create(name="lobby")
    with client(RoomViewSet.as_routes()) as socket:
        for value in ("x", 1, None, [], {"a": 1}):
            payload = {key: value, "action": "retrieve", "pk": room.pk}
            socket.send_text(json.dumps(payload))
            assert socket.receive()["data"] == {"id": room.pk, "name": "lobby"}


def test_an_action_is_called_with_the_lookups_of_its_url_and_nothing_else():
    class Echo(RoomViewSet):
        @action(detail=True)
        def echo(self, request, *args, **kwargs):
            return Response({"args": args, "kwargs": kwargs})

    with client(Echo.as_routes()) as socket:
        reply = socket.request("echo", pk=1, name="x", request="x", format="csv", args=[1])
    assert reply.data == {"args": [], "kwargs": {"pk": "1"}}


NO_ACTIONS = [
    "get_queryset", "get_object", "dispatch", "initial", "initialize_request", "__init__",
    "authenticate_socket", "http_method_not_allowed", "perform_create", "options", "as_routes",
    "as_view", "check_permissions", "_private", "get_serializer", "setup", "queryset", "post",
    "helper",
]  # fmt: skip


@pytest.mark.parametrize("name", NO_ACTIONS)
def test_methods_that_are_no_actions_are_405_and_do_not_run(name):
    ran = []

    class Rooms(RoomViewSet):
        def helper(self, request, pk=None):
            ran.append("helper")

        def perform_create(self, serializer):
            ran.append("perform_create")

        def _private(self, request, pk=None):
            ran.append("_private")

        def authenticate_socket(self, request):
            ran.append("authenticate_socket")
            return super().authenticate_socket(request)

    with client(Rooms.as_routes()) as socket:
        for keys in ({}, {"pk": 1}, {"data": {}}):
            reply = socket.request(name, **keys)
            assert (reply.status_code, reply.codes) == (405, ["method_not_allowed"])
    assert ran == []


def test_an_unmodified_viewset_gets_nothing_added():
    class Plain(viewsets.ModelViewSet):
        queryset = Room.objects.all()
        serializer_class = RoomSerializer

    before = dict(vars(Plain))
    routes = as_consumer(Plain).as_routes("rooms")
    assert dict(vars(Plain)) == before
    assert [route.name for route in routes] == ["room-list", "room-detail"]


def test_the_consumer_of_an_unmodified_viewset_goes_by_its_name():
    class Plain(viewsets.ModelViewSet):
        """Rooms."""

        queryset = Room.objects.all()

    consumer = as_consumer(Plain)
    assert issubclass(consumer, Plain) and consumer.__doc__ == "Rooms."
    assert (consumer.__name__, consumer.__qualname__) == (Plain.__name__, Plain.__qualname__)
    assert as_consumer(consumer) is consumer


def test_one_class_serves_http_and_sockets():
    room = Room.objects.create(name="lobby")
    view = RoomViewSet.as_view({"get": "list"})
    response = view(APIRequestFactory().get("/rooms/"))
    with client(RoomViewSet.as_routes()) as socket:
        assert socket.list().data == response.data == [{"id": room.pk, "name": "lobby"}]


def test_over_http_a_generator_is_as_wrong_as_with_drf():
    class Counting(ConsumerViewSet):
        permission_classes = []

        def list(self, request):
            yield 1

    with pytest.raises(AssertionError, match="to be returned from the view"):
        Counting.as_view({"get": "list"})(APIRequestFactory().get("/"))


def test_a_viewset_that_defines_cancel_and_authenticate_has_its_own():
    class Orders(ConsumerViewSet):
        permission_classes = []

        @action(detail=False, methods=["post"])
        def cancel(self, request):
            return Response(f"order {request.data['request_id']} cancelled")

        @action(detail=False, methods=["post"])
        def authenticate(self, request):
            return Response("genuine")

    with client(Orders.as_routes("", "orders")) as socket:
        data = {"request_id": 7}
        assert socket.request("cancel", data=data).data == "order 7 cancelled"
        assert socket.request("authenticate", data=data).data == "genuine"


def test_a_viewset_that_defines_metadata_has_its_own():
    class Songs(ConsumerViewSet):
        permission_classes = []

        @action(detail=False)
        def metadata(self, request):
            return Response("120 bpm")

    with client(Songs.as_routes("", "songs")) as socket:
        assert socket.metadata().data == "120 bpm"


def test_keywords_may_tighten_permissions():
    routes = RoomViewSet.as_routes("open")
    routes += RoomViewSet.as_routes("closed", permission_classes=[IsAuthenticated])
    with client(routes, "/open/") as socket:
        assert socket.list().status_code == 200
    with client(routes, "/closed/") as socket, pytest.raises(SocketClosed) as closed:
        socket.receive()
    assert closed.value.code == 4401
