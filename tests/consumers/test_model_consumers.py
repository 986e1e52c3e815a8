"""Sockets of a model's rows, from keywords alone: a viewset underneath."""

from __future__ import annotations

import io
import json

import pytest
from channels.routing import URLRouter
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.urls import path
from rest_framework.permissions import DjangoModelPermissions, IsAuthenticated
from rest_framework.serializers import ModelSerializer

from rest_channels.consumers import (
    CreateConsumers,
    CRUDConsumers,
    DeleteConsumers,
    ListConsumers,
    PermissionMixin,
    ReadOnlyConsumers,
    UpdateConsumers,
    consumer,
)
from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient, SocketClosed
from tests.models import Message, Room

pytestmark = pytest.mark.django_db

ALL_BY_URL = ["list", "create", "retrieve", "update", "partial_update", "destroy"]
ALL = ["list", "retrieve", "create", "update", "partial_update", "destroy"]


@pytest.fixture
def rooms():
    return [Room.objects.create(name=name) for name in ("attic", "cellar", "hall", "den", "loft")]


@pytest.fixture
def open_socket():
    clients = []

    def connect(routes, path="/", user=None):
        application = URLRouter(routes) if isinstance(routes, list) else routes
        client = SocketClient(application, path)
        if user is not None:
            client.force_login(user)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def test_crud_from_a_model_alone(open_socket):
    socket = open_socket(CRUDConsumers.as_routes(path="/rooms", model=Room), "/rooms")
    made = socket.create(data={"name": "attic"})
    assert made.status_code == 201
    pk = made.data["id"]
    assert made.data == {"id": pk, "name": "attic", "is_staff_only": False}
    assert socket.retrieve(pk=pk).data["name"] == "attic"
    assert socket.list().data == [made.data]
    assert socket.partial_update(pk=pk, data={"name": "loft"}).data["name"] == "loft"
    assert socket.update(pk=pk, data={"name": "den"}).data["name"] == "den"
    assert socket.destroy(pk=pk).status_code == 204
    assert socket.retrieve(pk=pk).status_code == 404


@pytest.mark.parametrize(
    ("consumers", "actions"),
    [
        (CRUDConsumers, set(ALL)),
        (ListConsumers, {"list"}),
        (CreateConsumers, {"create"}),
        (ReadOnlyConsumers, {"list", "retrieve"}),
        (UpdateConsumers, {"update", "partial_update"}),
        (DeleteConsumers, {"destroy"}),
    ],
)
def test_each_class_has_its_actions_and_no_other(consumers, actions, open_socket, rooms):
    socket = open_socket(consumers.as_routes(model=Room))
    replies = {
        action: socket.request(action, pk=rooms[0].pk, data={"name": action}).status_code
        for action in ALL
    }
    assert {action for action, status in replies.items() if status != 405} == actions
    assert all(replies[action] < 300 for action in actions)


def test_dcrfs_words_are_understood(open_socket, rooms):
    socket = open_socket(CRUDConsumers.as_routes(model=Room))
    patched = socket.request("patch", pk=rooms[0].pk, data={"name": "new"})
    assert patched.data["name"] == "new"
    assert socket.request("delete", pk=rooms[0].pk).status_code == 204


def test_a_queryset_says_which_rows_there_are(open_socket, rooms):
    rooms[0].is_staff_only = True
    rooms[0].save()
    routes = CRUDConsumers.as_routes(queryset=Room.objects.filter(is_staff_only=False))
    socket = open_socket(routes)
    assert len(socket.list().data) == 4
    assert socket.retrieve(pk=rooms[0].pk).status_code == 404
    Room.objects.create(name="new")
    assert len(socket.list().data) == 5


def test_subscriptions_end_as_on_viewsets(open_socket, rooms):
    socket = open_socket(CRUDConsumers.as_routes(model=Room))
    assert socket.request("subscribe").status_code == 201
    assert socket.request("unsubscribe").status_code == 204


# Pages


def test_pages_by_number_and_last(open_socket, rooms):
    socket = open_socket(
        ListConsumers.as_routes(queryset=Room.objects.order_by("pk"), paginate_by=2)
    )
    first = socket.list().data
    assert (first["count"], [room["name"] for room in first["results"]]) == (5, ["attic", "cellar"])
    assert first["previous"] is None
    assert "page=2" in first["next"]
    second = socket.list(query={"page": 2}).data
    assert [room["name"] for room in second["results"]] == ["hall", "den"]
    assert [room["name"] for room in socket.list(page=3).data["results"]] == ["loft"]
    assert [room["name"] for room in socket.list(page="last").data["results"]] == ["loft"]
    assert socket.list(page=4).status_code == 404
    assert socket.list(page="x").status_code == 404


def test_orphans_make_no_page_of_their_own(open_socket, rooms):
    routes = ListConsumers.as_routes(
        queryset=Room.objects.order_by("pk"), paginate_by=2, paginate_orphans=1
    )
    last = open_socket(routes).list(page="last").data
    assert [room["name"] for room in last["results"]] == ["hall", "den", "loft"]


# Serializers


def test_serializer_kwargs_name_the_fields(open_socket, rooms, django_user_model):
    django_user_model.objects.create_user("john", password="tea")
    routes = ReadOnlyConsumers.as_routes(
        model=django_user_model, serializer_kwargs={"fields": ["username", "is_active"]}
    )
    assert open_socket(routes).list().data == [{"username": "john", "is_active": True}]
    routes = CRUDConsumers.as_routes(
        model=Room, serializer_kwargs={"exclude": ["id"], "read_only_fields": ["is_staff_only"]}
    )
    made = open_socket(routes).create(data={"name": "den2", "is_staff_only": True}).data
    assert made == {"name": "den2", "is_staff_only": False}


def test_a_users_password_is_shown_to_nobody_by_mistake(django_user_model):
    with pytest.raises(ImproperlyConfigured, match="serializer_kwargs"):
        CRUDConsumers.as_routes(model=django_user_model)


def test_a_serializer_of_ones_own(open_socket):
    class Loud(ModelSerializer):
        class Meta:
            model = Room
            fields = ["name"]

        def to_representation(self, instance):
            return {"name": instance.name.upper()}

    socket = open_socket(CRUDConsumers.as_routes(model=Room, serializer_class=Loud))
    assert socket.create(data={"name": "attic"}).data == {"name": "ATTIC"}


# Rows


def test_a_row_by_a_field_of_its_own(open_socket, rooms):
    routes = CRUDConsumers.as_routes(model=Room, slug_field="name")
    assert open_socket(routes).retrieve(name="attic").data["id"] == rooms[0].pk
    routes = CRUDConsumers.as_routes(model=Room, slug_field="name", slug_path_kwarg="room")
    socket = open_socket(routes)
    assert socket.retrieve(room="attic").data["id"] == rooms[0].pk
    assert socket.retrieve(room="unknown").status_code == 404
    missing = socket.retrieve(name="attic")
    assert (missing.status_code, missing.errors) == (400, [{"room": ["This field is required."]}])


def test_the_path_binds_the_row_and_no_frame_gets_round_it(open_socket, rooms):
    routes = CRUDConsumers.as_routes(
        path=r"/rooms/(?P<room>[\w.]+)", model=Room, slug_field="name", slug_path_kwarg="room"
    )
    socket = open_socket(routes, "/rooms/attic")
    assert socket.retrieve().data["name"] == "attic"
    assert socket.retrieve(room="cellar").data["name"] == "attic"
    assert socket.destroy(room="cellar").status_code == 204
    assert set(Room.objects.values_list("name", flat=True)) == {"cellar", "hall", "den", "loft"}


def test_a_slug_may_hold_a_period(open_socket, django_user_model):
    django_user_model.objects.create_user("j.doe", password="tea")
    routes = ReadOnlyConsumers.as_routes(
        model=django_user_model, serializer_kwargs={"fields": ["username"]}, slug_field="username"
    )
    assert open_socket(routes).retrieve(username="j.doe").data == {"username": "j.doe"}


@pytest.mark.parametrize("value", ["1 OR 1=1", {"pk": 1}, [1], True, None, "x"])
def test_a_lookup_of_another_form_finds_nothing(value, open_socket, rooms):
    socket = open_socket(CRUDConsumers.as_routes(model=Room))
    assert socket.retrieve(pk=value).status_code in (400, 404)
    assert socket.retrieve(pk__gt=0).status_code == 400


# Errors and permissions are DRF's


def test_errors_are_drfs(open_socket, rooms):
    socket = open_socket(CRUDConsumers.as_routes(model=Room))
    taken = socket.create(data={"name": "attic"})
    assert taken.status_code == 400
    assert taken.codes == [{"name": ["unique"]}]
    assert socket.create(data=[]).codes == [{"non_field_errors": ["invalid"]}]
    assert socket.request("fly").status_code == 405
    socket.send_text('{"n": 1}')
    assert socket.receive()["response_status"] == 400


def test_permissions_are_drfs(open_socket, django_user_model):
    ann = django_user_model.objects.create_user("ann", password="tea")
    routes = CRUDConsumers.as_routes(model=Room, permission_classes=[IsAuthenticated])
    with pytest.raises(SocketClosed):
        open_socket(routes).receive()
    assert open_socket(routes, user=ann).create(data={"name": "attic"}).status_code == 201
    routes = CRUDConsumers.as_routes(model=Room, permission_classes=[DjangoModelPermissions])
    socket = open_socket(routes, user=ann)
    assert socket.list().status_code == 200
    assert socket.create(data={"name": "cellar"}).status_code == 403


def test_permissions_of_the_mixin_hold_for_the_rows(open_socket):
    allowed = [True]

    class Guarded(PermissionMixin, CRUDConsumers):
        permissions = [lambda request, view: allowed[0]]

    socket = open_socket(Guarded.as_routes(model=Room))
    assert socket.list().status_code == 200
    allowed[0] = False
    assert socket.list().status_code == 403


# Handlers beside


class Counted(CRUDConsumers):
    model = Room

    @consumer(command="count")
    def count(self, message):
        self.reply({"count": len(self.get_queryset())})

    @consumer(action="list", only="names")
    def names(self, message):
        self.reply([room.name for room in self.get_queryset().order_by("pk")])


def test_handlers_of_the_class_come_before_the_viewset(open_socket, rooms):
    socket = open_socket(Counted.as_routes(queryset=Room.objects.all()))
    for expected in (5, 6):
        socket.send_text(json.dumps({"command": "count"}))
        assert socket.receive() == {"count": expected}
        Room.objects.create(name=f"new{expected}")
    Room.objects.filter(name__startswith="new").delete()
    socket.send_text(json.dumps({"action": "list", "only": "names"}))
    assert socket.receive() == ["attic", "cellar", "hall", "den", "loft"]
    assert len(socket.list().data) == 5
    # Data of a frame that resembles a handler's message stays data.
    refused = socket.request("create", data={"command": "count"})
    assert refused.codes == [{"name": ["required"]}]


def test_a_cancel_is_the_connections_own(open_socket):
    socket = open_socket(Counted.as_routes())
    assert socket.request("cancel", data={"request_id": 99}).status_code == 404


def test_on_a_router_they_are_a_stream(open_socket, rooms):
    router = DefaultRouter()
    router.register("rooms", Counted)
    socket = open_socket(router.as_asgi())
    assert len(socket.list("rooms").data) == 5
    assert len(open_socket(router.as_asgi(), "/rooms/").list().data) == 5


def test_socket_routes_lists_handlers_and_actions():
    global application
    application = URLRouter(Counted.as_routes(path="/rooms"))
    out = io.StringIO()
    call_command("socket_routes", f"{__name__}.application", stdout=out)
    lines = [line.split()[0].rstrip(",") for line in out.getvalue().splitlines()]
    assert lines[:3] == ["/rooms", "count", "names"]
    assert {*ALL_BY_URL} <= {*lines[3:]}


# Configuration


def test_without_rows_or_as_internal_they_are_refused():
    with pytest.raises(ImproperlyConfigured, match="model="):
        CRUDConsumers.as_routes()
    with pytest.raises(ImproperlyConfigured, match="internal"):
        CRUDConsumers.as_routes(model=Room, channel_name="rooms", internal=True)


def test_one_class_serves_several_models(open_socket, rooms):
    of_rooms = CRUDConsumers.as_routes(path="/rooms", model=Room)
    of_messages = CRUDConsumers.as_routes(path="/messages", model=Message)
    application = URLRouter([*of_rooms, *of_messages])
    assert len(open_socket(application, "/rooms").list().data) == 5
    assert open_socket(application, "/messages").list().data == []


# Paths


class Linked(ModelSerializer):
    """Says where it was made, and links to what is beside it."""

    class Meta:
        model = Room
        fields = ["name"]

    def to_representation(self, instance):
        request = self.context["request"]
        return {"at": request.path, "link": request.build_absolute_uri("help")}


def linked(**kwargs):
    queryset = Room.objects.order_by("pk")
    return {"queryset": queryset, "serializer_class": Linked, "paginate_by": 2, **kwargs}


class LinkedRooms(CRUDConsumers):
    locals().update(linked())


def routed(router_class=DefaultRouter, **kwargs):
    router = router_class(**kwargs)
    router.register("dens", LinkedRooms)
    return router


HOST = "http://testserver"


@pytest.mark.parametrize("slash", ["/", ""])
def test_links_name_the_path_of_the_socket(slash, open_socket, rooms):
    router = routed(trailing_slash=bool(slash))
    socket = open_socket(router.as_asgi(), f"/dens{slash}")
    page = socket.list(page=2).data
    assert page["next"] == f"{HOST}/dens{slash}?page=3"
    assert page["previous"] == f"{HOST}/dens{slash}"
    row = socket.retrieve(pk=rooms[0].pk).data
    assert row == {"at": f"/dens/{rooms[0].pk}/", "link": f"{HOST}/dens/{rooms[0].pk}/help"}


def test_on_the_root_links_name_the_path_of_the_stream(open_socket, rooms):
    socket = open_socket(routed().as_asgi(), "/")
    page = socket.request("list", "dens", page=2).data
    assert (page["next"], page["previous"]) == (f"{HOST}/dens/?page=3", f"{HOST}/dens/")
    assert page["results"][0] == {"at": "/dens/", "link": f"{HOST}/dens/help"}


def test_links_know_where_the_router_is_mounted(open_socket, rooms):
    mounted = URLRouter([path("ws/<str:tenant>/", URLRouter(routed().urls))])
    for at, words in [("/ws/acme/dens/", ["list"]), ("/ws/acme/", ["list", "dens"])]:
        page = open_socket(mounted, at).request(*words, page=2).data
        assert page["next"] == f"{HOST}/ws/acme/dens/?page=3"


@pytest.mark.parametrize("at", ["/rooms", "/rooms/", "/"])
def test_links_of_routes_name_their_path(at, open_socket, rooms):
    socket = open_socket(CRUDConsumers.as_routes(path=at, **linked()), at)
    assert socket.list(page=2).data["next"] == f"{HOST}{at}?page=3"
    row = f"{at.rstrip('/')}/{rooms[0].pk}/"
    assert socket.retrieve(pk=rooms[0].pk).data["at"] == row
    made = socket.create(data={"name": "new"})
    assert made.data["at"] == at


def test_a_row_that_the_path_names_is_at_that_path(open_socket, rooms):
    routes = CRUDConsumers.as_routes(path=r"/rooms/(?P<pk>\d+)", **linked())
    socket = open_socket(routes, f"/rooms/{rooms[1].pk}")
    assert socket.retrieve().data["at"] == f"/rooms/{rooms[1].pk}"
    assert socket.list(page=2).data["next"] == f"{HOST}/rooms/{rooms[1].pk}?page=3"


def test_events_link_as_lists_do(open_socket, rooms):
    socket = open_socket(routed().as_asgi(), "/dens/")
    shown = socket.request("subscribe", snapshot=True).data
    Room.objects.create(name="new")
    assert socket.event().data == shown[0] == {"at": "/dens/", "link": f"{HOST}/dens/help"}
