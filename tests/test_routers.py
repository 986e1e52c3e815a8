"""Routers: viewsets in, sockets out."""

from __future__ import annotations

import asyncio

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings
from django.urls import include, path
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from rest_framework import routers as drf
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import AllowAny
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter, SimpleRouter, find_sockets
from rest_channels.test import SocketClient, SocketClosed
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Message, Room
from tests.support.room_viewsets import RoomSerializer

pytestmark = pytest.mark.django_db


class RoomViewSet(viewsets.ModelViewSet):
    """DRF's own, unchanged."""

    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    permission_classes = [AllowAny]

    @action(detail=False)
    def me(self, request):
        return Response(request.user.get_username())

    @action(detail=False)
    def bound(self, request, **kwargs):
        return Response(kwargs)


def rooms(router=None) -> DefaultRouter:
    router = DefaultRouter() if router is None else router
    router.register("rooms", RoomViewSet)
    return router


def patterns(router) -> list[str]:
    return [str(route.pattern) for route in router.urls]


# Registering


def test_the_root_comes_first_then_each_collection_and_its_rows():
    assert patterns(rooms()) == ["^$", "^rooms/$", "^rooms/(?P<pk>[^/.]+)/$"]
    assert patterns(rooms(SimpleRouter())) == ["^rooms/$", "^rooms/(?P<pk>[^/.]+)/$"]


def test_the_style_of_urls_is_that_of_drfs_router():
    assert patterns(rooms(SimpleRouter(trailing_slash=False))) == [
        "^rooms$",
        "^rooms/(?P<pk>[^/.]+)$",
    ]
    assert patterns(rooms(SimpleRouter(use_regex_path=False))) == ["rooms/", "rooms/<str:pk>/"]


@pytest.mark.parametrize("style", [{"trailing_slash": False}, {"use_regex_path": False}])
@pytest.mark.parametrize("router_class", [SimpleRouter, DefaultRouter])
def test_sockets_open_in_any_style(style, router_class):
    room = Room.objects.create(name="lobby")
    slash = "/" if style.get("trailing_slash", True) else ""
    application = rooms(router_class(**style)).as_asgi()
    with SocketClient(application, f"/rooms{slash}") as socket:
        assert socket.retrieve(pk=room.pk).data["name"] == "lobby"
    with SocketClient(application, f"/rooms/{room.pk}{slash}") as socket:
        assert socket.retrieve().data["name"] == "lobby"


@pytest.mark.parametrize("wrong", [Room, RoomViewSet(), RoomViewSet.as_view({"get": "list"}), None])
def test_what_is_no_viewset_class_is_refused_with_what_to_write(wrong):
    with pytest.raises(ImproperlyConfigured, match=r"takes a viewset class.*ConsumerViewSet"):
        DefaultRouter().register("rooms", wrong)


def test_a_prefix_is_registered_once():
    with pytest.raises(ImproperlyConfigured, match="prefix 'rooms' is already registered"):
        rooms().register("rooms", RoomViewSet, basename="other")


def test_a_basename_is_registered_once():
    with pytest.raises(ImproperlyConfigured, match="basename"):
        rooms().register("halls", RoomViewSet)


def test_a_hosted_consumer_and_a_viewset_do_not_share_a_basename():
    router = rooms()
    with pytest.raises(ImproperlyConfigured, match="basename"):
        router.register("legacy", GenericAsyncAPIConsumer, basename="room")


def test_a_viewset_without_a_model_needs_a_basename():
    class Health(viewsets.ViewSet):
        def list(self, request):
            raise NotImplementedError

    with pytest.raises(AssertionError, match="`basename` argument not specified"):
        DefaultRouter().register("health", Health)


def test_without_the_app_it_says_what_to_add():
    installed = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "channels"]
    with (
        override_settings(INSTALLED_APPS=installed),
        pytest.raises(ImproperlyConfigured, match="Add 'rest_channels' to INSTALLED_APPS"),
    ):
        rooms().as_asgi()


def test_registering_leaves_an_unmodified_viewset_as_it_was():
    class Plain(viewsets.ModelViewSet):
        queryset = Room.objects.all()

    before = dict(vars(Plain))
    router = DefaultRouter()
    router.register("rooms", Plain)
    assert router.urls and dict(vars(Plain)) == before


http = drf.DefaultRouter()
http.register("rooms", RoomViewSet)


class URLconf:
    urlpatterns = [path("api/", include(http.urls))]


@override_settings(ROOT_URLCONF=URLconf)
def test_one_class_serves_http_and_sockets_side_by_side():
    room = Room.objects.create(name="lobby")
    with SocketClient(rooms().as_asgi()) as socket:
        over_socket = socket.list("rooms").data
    response = Client().get("/api/rooms/")
    assert response.json() == over_socket == [{"id": room.pk, "name": "lobby"}]
    assert Client().delete(f"/api/rooms/{room.pk}/").status_code == 204


def test_as_routes_of_a_viewset_decides_what_the_router_serves():
    class Renamed(ModelConsumerViewSet):
        queryset = Room.objects.all()
        serializer_class = RoomSerializer
        permission_classes = [AllowAny]

        @classmethod
        def as_routes(cls, path="", basename=None, **kwargs):
            return super().as_routes(f"v2/{path}", basename, **kwargs)[:1]

    router = DefaultRouter()
    router.register("rooms", Renamed)
    assert patterns(router) == ["^$", "^v2/rooms/$"]
    with SocketClient(router.as_asgi(), "/v2/rooms/") as socket:
        assert socket.list().data == []


def test_what_is_registered_later_is_served_too():
    router = rooms()
    assert list(router.streams) == ["rooms"]
    router.register("halls", RoomViewSet, basename="hall")
    assert list(router.streams) == ["rooms", "halls"]


# Within Channels' own routers


def nested(prefix: str, router=None) -> URLRouter:
    return URLRouter([path(prefix, URLRouter(rooms(router).urls))])


def test_urls_work_below_an_outer_router():
    room = Room.objects.create(name="lobby")
    application = nested("ws/v1/")
    with SocketClient(application, "/ws/v1/") as socket:
        assert socket.retrieve("rooms", pk=room.pk).data["name"] == "lobby"
    with SocketClient(application, f"/ws/v1/rooms/{room.pk}/") as socket:
        assert socket.retrieve().data["name"] == "lobby"


def test_what_an_outer_router_binds_wins_over_the_payload():
    with SocketClient(nested("teams/<int:team>/"), "/teams/7/rooms/") as socket:
        assert socket.request("bound", team=8).data == {"team": 7}
    router = DefaultRouter()
    router.register(r"(?P<team>\d+)/rooms", RoomViewSet)
    application = URLRouter([path("teams/<int:team>/", URLRouter(router.urls))])
    with SocketClient(application, "/teams/7/") as socket:
        reply = socket.request("bound", r"(?P<team>\d+)/rooms", team=8)
    assert reply.data == {"team": "7"}


def test_a_lookup_in_the_prefix_comes_from_the_frame_on_the_root_and_from_the_url_below():
    class Messages(viewsets.ViewSet):
        permission_classes = [AllowAny]

        def list(self, request, room):
            return Response(room)

    router, prefix = DefaultRouter(), r"rooms/(?P<room>\d+)/messages"
    router.register(prefix, Messages, basename="message")
    with SocketClient(router.as_asgi()) as root:
        assert root.list(prefix, room=3).data == "3"
        assert root.list(prefix, room="x").status_code == 404
        assert root.list(prefix).errors == [{"room": ["This field is required."]}]
    with SocketClient(router.as_asgi(), "/rooms/3/messages/") as socket:
        assert socket.list(room=4).data == "3"


def test_a_stack_built_by_hand_knows_the_user():
    application = ProtocolTypeRouter(
        {"websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(nested("ws/")))}
    )
    headers = {"origin": "http://testserver"}
    with SocketClient(application, "/ws/rooms/", headers=headers) as socket:
        socket.force_login(User.objects.create_user("ann"))
        assert socket.request("me").data == "ann"


def test_without_auth_middleware_the_cookie_still_says_who_it_is():
    with SocketClient(nested("ws/"), "/ws/rooms/") as socket:
        socket.force_login(User.objects.create_user("ann"))
        assert socket.request("me").data == "ann"


# as_asgi()


def test_pages_of_another_origin_are_refused():
    elsewhere = {"origin": "http://evil.example"}
    with pytest.raises(SocketClosed) as refused:
        SocketClient(rooms().as_asgi(), headers=elsewhere).connect()
    assert refused.value.code is None


def test_pages_of_the_site_are_served():
    with SocketClient(rooms().as_asgi(), headers={"origin": "http://testserver"}) as socket:
        assert socket.list("rooms").status_code == 200


@pytest.mark.parametrize("where", ["/no/such/", "/room", "/rooms", "/rooms//", "/rooms/1/2/"])
def test_a_path_that_leads_nowhere_is_closed_with_4404(where):
    socket = SocketClient(rooms().as_asgi(), where)
    with pytest.raises(SocketClosed) as closed:
        socket.receive()
    assert closed.value.code == 4404
    socket.close()


def test_sockets_stand_below_a_prefix_with_every_check_they_have_without_it():
    Room.objects.create(name="lobby")
    application = rooms().as_asgi(prefix="api/ws/")
    with SocketClient(application, "/api/ws/") as socket:
        assert socket.list("rooms").data[0]["name"] == "lobby"
    with SocketClient(application, "/api/ws/rooms/") as socket:
        assert socket.list().data[0]["name"] == "lobby"
    with pytest.raises(SocketClosed) as refused:
        SocketClient(application, "/api/ws/", headers={"origin": "http://evil.example"}).connect()
    assert refused.value.code is None
    sockets = list(find_sockets(application))
    assert [s.path for s in sockets][:2] == ["/api/ws/", "/api/ws/rooms/"]
    assert all(s.is_origin_checked for s in sockets)


@pytest.mark.parametrize("where", ["/", "/rooms/", "/ws", "/ws/no/", "/ws/ws/", "/awsome/"])
def test_above_and_beside_the_prefix_no_path_leads_anywhere(where):
    socket = SocketClient(rooms().as_asgi(prefix="ws/"), where)
    with pytest.raises(SocketClosed) as closed:
        socket.receive()
    assert closed.value.code == 4404
    socket.close()


def test_links_below_a_prefix_lead_below_it():
    class Pages(PageNumberPagination):
        page_size = 1

    class HallViewSet(RoomViewSet):
        pagination_class = Pages

    router = DefaultRouter()
    router.register("halls", HallViewSet, basename="hall")
    Room.objects.create(name="lobby")
    Room.objects.create(name="attic")
    with SocketClient(router.as_asgi(prefix="ws/"), "/ws/") as socket:
        assert socket.list("halls").data["next"] == "http://testserver/ws/halls/?page=2"


@pytest.mark.parametrize(
    ("wrong", "proper"),
    [("/ws/", "ws/"), ("ws", "ws/"), ("^ws/$", "ws/"), ("a//b", "a/b/"), ("/", "ws/")],
)
def test_a_prefix_that_no_path_has_is_refused_with_what_to_write(wrong, proper):
    with pytest.raises(ImproperlyConfigured, match=rf"Write as_asgi\(prefix='{proper}'\)"):
        rooms().as_asgi(prefix=wrong)


def test_only_websockets_are_served():
    with pytest.raises(ValueError, match=r"as_asgi.* serves websockets, not 'http'"):
        asyncio.run(rooms().as_asgi()({"type": "http"}, None, None))


# find_sockets


class MessageViewSet(viewsets.ReadOnlyModelViewSet):
    queryset = Message.objects.all()


def test_it_finds_every_socket_with_its_path_and_streams():
    router = rooms()
    router.register("messages", MessageViewSet)
    found = list(find_sockets(URLRouter([path("ws/", URLRouter(router.urls))])))
    assert [(s.path, [stream.prefix for stream in s.streams]) for s in found] == [
        ("/ws/", ["rooms", "messages"]),
        ("/ws/rooms/", ["rooms"]),
        ("/ws/rooms/(?P<pk>[^/.]+)/", ["rooms"]),
        ("/ws/messages/", ["messages"]),
        ("/ws/messages/(?P<pk>[^/.]+)/", ["messages"]),
    ]
    assert [(s.is_root, s.is_row) for s in found[:3]] == [
        (True, False),
        (False, False),
        (False, True),
    ]


@pytest.mark.parametrize(
    ("application", "is_checked"),
    [
        (ProtocolTypeRouter({"websocket": rooms().as_asgi()}), True),
        (AllowedHostsOriginValidator(AuthMiddlewareStack(nested("ws/"))), True),
        (AuthMiddlewareStack(AllowedHostsOriginValidator(nested("ws/"))), True),
        (AuthMiddlewareStack(nested("ws/")), False),
        (nested("ws/"), False),
    ],
)
def test_it_looks_through_middleware_and_says_whether_origins_are_checked(application, is_checked):
    found = list(find_sockets(application))
    assert len(found) == 3
    assert {socket.is_origin_checked for socket in found} == {is_checked}


def test_it_finds_nothing_where_there_is_nothing_of_ours():
    async def other(scope, receive, send):
        raise NotImplementedError

    assert list(find_sockets(ProtocolTypeRouter({"http": other}))) == []
    assert list(find_sockets(URLRouter([path("x/", other)]))) == []
    assert list(find_sockets(None)) == []
