"""A socket that could not be used is closed at once, with a code that pages can read."""

from __future__ import annotations

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from rest_framework import permissions
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient, SocketClosed
from rest_channels.viewsets import ConsumerViewSet, ModelConsumerViewSet
from tests.models import Room

pytestmark = pytest.mark.django_db


class Rooms(ModelConsumerViewSet):
    queryset = Room.objects.all()


class ByAction(permissions.BasePermission):
    """Says yes to the actions named."""

    actions: set[str] = set()

    def has_permission(self, request, view):
        return view.action in self.actions


def only(*actions) -> type[ByAction]:
    return type("Only", (ByAction,), {"actions": set(actions)})


class Raises(permissions.BasePermission):
    error: Exception

    def has_permission(self, request, view):
        raise self.error


def raising(error) -> type[Raises]:
    return type("Raising", (Raises,), {"error": error})


def opens(viewset, *permission_classes, path="/", user=None, headers=None, **initkwargs) -> bool:
    routes = viewset.as_routes("", "x", permission_classes=permission_classes, **initkwargs)
    client = SocketClient(URLRouter(routes), path, headers=headers)
    if user is not None:
        client.force_login(user)
    return refused_with(client) is None


def refused_with(client) -> int | None:
    """The code that a socket is closed with at once; None where it stays open."""
    with client:
        client.send_text("no JSON")
        try:
            assert client.receive()["response_status"] == 400
        except SocketClosed as closed:
            return closed.code
    return None


def test_everybody_is_let_in_where_everybody_may():
    assert opens(Rooms, permissions.AllowAny)


def test_a_stranger_is_refused_where_only_members_may():
    assert not opens(Rooms, permissions.IsAuthenticated)
    assert opens(Rooms, permissions.IsAuthenticated, user=User.objects.create_user("ann"))


def test_one_action_that_a_stranger_may_use_is_enough():
    assert opens(Rooms, permissions.IsAuthenticatedOrReadOnly)
    assert opens(Rooms, only("destroy"))
    assert not opens(Rooms, only("no_such_action"))


def test_the_actions_own_permissions_count():
    class Members(ConsumerViewSet):
        @action(detail=False, permission_classes=[permissions.AllowAny])
        def about(self, request):
            return Response("us")

    assert opens(Members, permissions.IsAdminUser)


def test_on_a_row_only_what_a_row_has_counts():
    assert opens(Rooms, only("list"), path="/")
    assert not opens(Rooms, only("list"), path="/1/")
    assert opens(Rooms, only("retrieve"), path="/1/")


def test_any_verb_of_an_action_counts():
    class Both(ConsumerViewSet):
        @action(detail=False, methods=["post", "get"])
        def both(self, request):
            raise NotImplementedError

    assert opens(Both, permissions.IsAuthenticatedOrReadOnly)


def test_wrong_credentials_are_refused():
    headers = {"authorization": "Token wrong"}
    classes = [TokenAuthentication]
    assert not opens(Rooms, permissions.AllowAny, headers=headers, authentication_classes=classes)


def test_a_token_of_the_handshake_is_taken():
    headers = {"authorization": f"Token {Token.objects.create(user=User.objects.create()).key}"}
    classes = [TokenAuthentication]
    assert opens(
        Rooms, permissions.IsAuthenticated, headers=headers, authentication_classes=classes
    )


def test_djangos_permission_denied_is_a_refusal():
    assert not opens(Rooms, raising(PermissionDenied()))


@pytest.mark.parametrize("error", [KeyError("pk"), AttributeError("queryset"), ZeroDivisionError()])
def test_what_cannot_be_judged_without_a_frame_is_left_to_the_frames(error):
    assert opens(Rooms, raising(error))


def test_a_permission_sees_the_lookups_of_the_url():
    class Team(permissions.BasePermission):
        def has_permission(self, request, view):
            return view.kwargs["pk"] == "7"

    assert opens(Rooms, Team, path="/7/")
    assert not opens(Rooms, Team, path="/8/")


def test_the_root_opens_where_one_stream_would_answer():
    def root(**streams) -> SocketClient:
        router = DefaultRouter()
        for prefix, permission in streams.items():
            viewset = type(prefix, (Rooms,), {"permission_classes": [permission]})
            router.register(prefix, viewset, basename=prefix)
        return SocketClient(router.as_asgi())

    with root(a=permissions.IsAdminUser, b=permissions.AllowAny) as socket:
        assert socket.list("a").status_code == 403
        assert socket.request("nothing", "b").status_code == 405
    socket = root(a=permissions.IsAdminUser, b=permissions.IsAuthenticated)
    with socket, pytest.raises(SocketClosed):
        socket.receive()


def test_throttles_are_not_spent_by_the_handshake():
    spent = []

    class Throttle:
        def allow_request(self, request, view):
            spent.append(request)
            return True

    assert opens(Rooms, throttle_classes=[Throttle])
    assert spent == []


# What is told to those who are turned away


def members(path="/", **options) -> SocketClient:
    routes = Rooms.as_routes("", "x", permission_classes=[permissions.IsAdminUser])
    return SocketClient(URLRouter(routes), path, **options)


@pytest.mark.parametrize("path", ["/", "/1/"])
def test_a_stranger_is_closed_with_4401_and_a_user_with_4403(path):
    assert refused_with(members(path)) == 4401
    ann, ben = members(path), members(path)
    ann.force_login(User.objects.create_user("ann"))
    assert refused_with(ann) == 4403
    ben.force_authenticate(User.objects.create_user("ben"))
    assert refused_with(ben) == 4403


def test_wrong_credentials_are_nobodys():
    routes = Rooms.as_routes("", "x", authentication_classes=[TokenAuthentication])
    client = SocketClient(URLRouter(routes), headers={"authorization": "Token wrong"})
    assert refused_with(client) == 4401


def test_who_is_known_to_one_stream_of_the_root_is_signed_in():
    router = DefaultRouter()
    for prefix, classes in (("tokens", [TokenAuthentication]), ("usual", [SessionAuthentication])):
        attributes = {
            "authentication_classes": classes,
            "permission_classes": [permissions.IsAdminUser],
        }
        router.register(prefix, type(prefix, (Rooms,), attributes), basename=prefix)
    client = SocketClient(router.as_asgi())
    client.force_login(User.objects.create_user("ann"))
    assert refused_with(client) == 4403
    assert refused_with(SocketClient(router.as_asgi())) == 4401


def test_the_subprotocol_is_chosen_before_the_socket_is_closed():
    client = members(subprotocols=["other", "rest-channels"])
    assert refused_with(client) == 4401
    assert client.subprotocol == "rest-channels"


@pytest.mark.parametrize("path", ["/", "/1/"])
def test_a_setting_refuses_the_handshake_instead(settings, path):
    settings.REST_CHANNELS = {"REFUSE_HANDSHAKES": True}
    with pytest.raises(SocketClosed) as closed:
        members(path).connect()
    assert closed.value.code is None


def test_a_socket_that_is_turned_away_answers_nothing():
    client = members()
    with client:
        client.send("list")
        with pytest.raises(SocketClosed) as closed:
            client.receive()
    assert closed.value.code == 4401
