"""djangochannelsrestframework's permission classes on viewsets, among DRF's."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from djangochannelsrestframework import permissions as dcrf
from rest_framework import permissions as drf
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate

from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient, SocketClosed
from rest_channels.viewsets import ConsumerViewSetMixin
from tests.models import Room
from tests.support.room_viewsets import RoomSerializer

pytestmark = pytest.mark.django_db


class RoomViewSet(ConsumerViewSetMixin, viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer

    @action(detail=True, methods=["post"])
    def close(self, request, pk):
        return Response()


def client(*permission_classes, path="/rooms/", **others) -> SocketClient:
    """A client of rooms with these permissions; on the root also of `others`, viewsets."""
    viewset = type("Rooms", (RoomViewSet,), {"permission_classes": permission_classes})
    router = DefaultRouter()
    router.register("rooms", viewset)
    for prefix, other in others.items():
        router.register(prefix, other, basename=prefix)
    return SocketClient(router.as_asgi(), path)


def noting(calls):
    """A permission of DCRF's that notes what it is asked and says yes."""

    class Noting(dcrf.BasePermission):
        async def has_permission(self, scope, consumer, action, **kwargs):
            calls.append((scope["user"].username, action, kwargs))
            return True

    return Noting


class Never(dcrf.BasePermission):
    async def has_permission(self, scope, consumer, action, **kwargs):
        return False


class NeverSync(dcrf.BasePermission):
    def has_permission(self, scope, consumer, action, **kwargs):
        return False


class AlwaysSync(dcrf.BasePermission):
    def has_permission(self, scope, consumer, action, **kwargs):
        return True


class OnlyAnn(dcrf.BasePermission):
    """Asks the database, as sync methods may."""

    def has_permission(self, scope, consumer, action, **kwargs):
        return User.objects.filter(username="ann", pk=scope["user"].pk).exists()


class OnlyAnnAsync(dcrf.BasePermission):
    async def has_permission(self, scope, consumer, action, **kwargs):
        return await User.objects.filter(username="ann", pk=scope["user"].pk).aexists()


class NoDeletes(dcrf.BasePermission):
    """Written in DCRF's words."""

    async def has_permission(self, scope, consumer, action, **kwargs):
        return action not in ("delete", "patch")


@pytest.mark.parametrize("permission", [dcrf.IsAuthenticated, OnlyAnn, OnlyAnnAsync])
def test_one_of_dcrf_decides(permission):
    with client(permission, path="/", free=RoomViewSet) as socket:
        assert socket.list("rooms").status_code == 403
        socket.force_authenticate(User.objects.create_user("ann"))
        assert socket.list("rooms").status_code == 200


def test_what_it_is_asked():
    room, calls = Room.objects.create(name="lobby"), []
    with client(noting(calls)) as socket:
        socket.force_authenticate(User.objects.create_user("ann"))
        socket.connect()
        calls.clear()
        socket.update(pk=room.pk, data={"name": "attic"})
    assert calls == [("ann", "update", {"pk": str(room.pk), "data": {"name": "attic"}})]


def test_it_is_given_the_view_as_the_consumer_and_the_sockets_scope():
    seen = []

    class Looking(dcrf.BasePermission):
        async def has_permission(self, scope, consumer, action, **kwargs):
            seen.append((scope["path"], scope["session"] is not None, consumer.queryset.model))
            return True

    with client(Looking) as socket:
        socket.list()
    assert seen[-1] == ("/rooms/", True, Room)


@pytest.mark.parametrize(
    ("word", "dcrfs"),
    [
        ("list", "list"),
        ("patch", "patch"),
        ("partial_update", "patch"),
        ("delete", "delete"),
        ("destroy", "delete"),
        ("close", "close"),
        ("metadata", "metadata"),
        ("nonsense", "nonsense"),
    ],
)
def test_the_action_has_dcrfs_name(word, dcrfs):
    room, calls = Room.objects.create(name="lobby"), []
    with client(noting(calls)) as socket:
        socket.request(word, pk=room.pk, data={"name": "attic"})
    assert calls[-1][1] == dcrfs


@pytest.mark.parametrize("word", ["delete", "destroy", "patch", "partial_update"])
def test_a_permission_in_dcrfs_words_cannot_be_walked_round(word):
    room = Room.objects.create(name="lobby")
    with client(NoDeletes) as socket:
        assert socket.request(word, pk=room.pk, data={"name": "attic"}).status_code == 403
    room.refresh_from_db()
    assert room.name == "lobby"


def test_keys_of_the_client_are_no_arguments():
    calls = []
    with client(noting(calls)) as socket:
        socket.list(scope={}, consumer="me", anything=1)
    assert calls[-1] == ("", "list", {"data": {}})


def test_it_is_asked_for_actions_that_do_not_exist():
    with client(NeverSync, path="/", free=RoomViewSet) as socket:
        assert socket.request("nonsense", "rooms").status_code == 403


@pytest.mark.parametrize(
    ("permission", "status"),
    [
        (dcrf.AllowAny, 200),
        (dcrf.AllowAny & dcrf.AllowAny, 200),
        (dcrf.AllowAny & Never, 403),
        (dcrf.AllowAny | Never, 200),
        (~Never, 200),
        (~dcrf.AllowAny, 403),
        (AlwaysSync & ~NeverSync, 200),
        (AlwaysSync & Never, 403),
        # With DRF's, both ways round
        (dcrf.AllowAny & drf.AllowAny, 200),
        (drf.AllowAny & dcrf.AllowAny, 200),
        (dcrf.AllowAny & drf.IsAdminUser, 403),
        (drf.IsAdminUser & dcrf.AllowAny, 403),
        (Never | drf.AllowAny, 200),
        (drf.AllowAny | Never, 200),
        (Never | drf.IsAdminUser, 403),
        (drf.IsAdminUser | Never, 403),
        (~drf.IsAdminUser & ~Never, 200),
        # Nested
        ((dcrf.AllowAny & dcrf.AllowAny) & Never, 403),
        ((dcrf.AllowAny & Never) | drf.AllowAny, 200),
        (~(dcrf.AllowAny & Never), 200),
        (~(drf.AllowAny | Never), 403),
        (drf.AllowAny & (dcrf.AllowAny & ~(Never | drf.IsAdminUser)), 200),
        (drf.AllowAny & (drf.AllowAny & (drf.AllowAny & ~Never)), 200),
    ],
)
def test_operators(permission, status):
    with client(permission, path="/", free=RoomViewSet) as socket:
        assert socket.list("rooms").status_code == status
        assert socket.create("rooms", {"name": "attic"}).status_code in (status, 201)
        assert Room.objects.exists() is (status == 200)


@pytest.mark.parametrize(
    ("permission", "status"),
    [
        (~Never, 200),
        (~dcrf.AllowAny, 403),
        (~(dcrf.AllowAny & Never), 200),
        (~(dcrf.AllowAny | Never), 403),
        (~~dcrf.AllowAny, 200),
        (drf.AllowAny & ~Never, 200),
    ],
)
def test_what_is_inverted_says_of_a_row_what_it_says_of_the_action(permission, status):
    room = Room.objects.create(name="lobby")
    with client(permission, path="/", free=RoomViewSet) as socket:
        assert socket.retrieve("rooms", room.pk).status_code == status


def test_both_libraries_in_one_list():
    with client(drf.AllowAny, Never, path="/", free=RoomViewSet) as socket:
        assert socket.list("rooms").status_code == 403
    with client(dcrf.AllowAny, drf.IsAdminUser, path="/", free=RoomViewSet) as socket:
        assert socket.list("rooms").status_code == 403
    with client(dcrf.AllowAny, drf.AllowAny, AlwaysSync) as socket:
        assert socket.list().status_code == 200


def test_permissions_of_one_action():
    class Rooms(RoomViewSet):
        @action(detail=False, permission_classes=[Never])
        def never(self, request):
            raise NotImplementedError

    with client(path="/", rows=Rooms) as socket:
        assert socket.list("rows").status_code == 200
        assert socket.request("never", "rows").status_code == 403


def test_permission_classes_that_are_a_property():
    class Rooms(RoomViewSet):
        @property
        def permission_classes(self):
            return [Never] if self.action == "create" else [dcrf.AllowAny]

    with client(path="/", rows=Rooms) as socket:
        assert socket.list("rows").status_code == 200
        assert socket.create("rows", {"name": "attic"}).status_code == 403


class NotTheAttic(drf.BasePermission):
    def has_object_permission(self, request, view, obj):
        return obj.name != "attic"


@pytest.mark.parametrize(
    "permissions",
    [
        [dcrf.AllowAny, NotTheAttic],
        [dcrf.AllowAny & NotTheAttic],
        [NotTheAttic & dcrf.AllowAny],
        [NotTheAttic & ~Never],
        [Never | NotTheAttic],
    ],
)
def test_object_permissions_of_drf_are_asked(permissions):
    lobby, attic = Room.objects.create(name="lobby"), Room.objects.create(name="attic")
    with client(*permissions) as socket:
        assert socket.retrieve(pk=lobby.pk).status_code == 200
        assert socket.retrieve(pk=attic.pk).status_code == 403
        assert socket.destroy(pk=attic.pk).status_code == 403


@pytest.mark.parametrize("scheme", ["http", "wsgi"])
def test_the_same_viewset_over_http(scheme):
    factory = APIRequestFactory()
    request = factory.get("/rooms/")
    if scheme == "http":
        request.scope = {"type": "http", "path": "/rooms/", "headers": []}
    view = RoomViewSet.as_view({"get": "list"}, permission_classes=[OnlyAnn])
    assert view(request).status_code == 403
    request = factory.get("/rooms/")
    force_authenticate(request, User.objects.create_user("ann"))
    assert view(request).status_code == 200


# The handshake


class NotConnected(dcrf.BasePermission):
    async def can_connect(self, scope, consumer, message=None):
        return False

    async def has_permission(self, scope, consumer, action, **kwargs):
        return True


class WithKey(dcrf.BasePermission):
    """Decides by the handshake's query string, once."""

    calls: list[str] = []

    def can_connect(self, scope, consumer, message=None):
        assert message == {"type": "websocket.connect"}
        self.calls.append(consumer.action)
        return scope["query_string"] == b"key=right"

    async def has_permission(self, scope, consumer, action, **kwargs):
        return True


def test_can_connect_refuses_the_handshake_of_its_own_socket():
    with client(NotConnected) as socket, pytest.raises(SocketClosed) as caught:
        socket.receive()
    assert caught.value.code == 4401


@pytest.mark.parametrize(("query", "status"), [("?key=right", 200), ("?key=wrong", 403)])
def test_can_connect_closes_its_stream_on_the_root_and_no_other(query, status):
    with client(WithKey, path="/" + query, free=RoomViewSet) as socket:
        assert socket.list("rooms").status_code == status
        assert socket.create("rooms", {"name": "attic"}).status_code in (status, 201)
        assert socket.list("free").status_code == 200


def test_the_root_is_refused_where_every_stream_is():
    with client(NotConnected, path="/") as socket, pytest.raises(SocketClosed):
        socket.receive()


def test_can_connect_is_asked_once_for_each_action():
    WithKey.calls.clear()
    with client(WithKey, path="/rooms/?key=right") as socket:
        for _ in range(3):
            assert socket.list().status_code == 200
            assert socket.retrieve(pk=1).status_code == 404
    assert sorted(WithKey.calls) == ["list", "retrieve"]


@pytest.mark.parametrize(
    ("permission", "opens"),
    [
        (NotConnected & dcrf.AllowAny, False),
        (drf.AllowAny & NotConnected, False),
        (NotConnected | dcrf.AllowAny, True),
        (drf.AllowAny | NotConnected, True),
        (NotConnected | NotConnected, False),
        # DCRF would refuse everybody here, for everybody may connect with what is inverted.
        (~Never, True),
    ],
)
def test_can_connect_within_operators(permission, opens):
    with client(permission, path="/", free=RoomViewSet) as socket:
        assert socket.list("rooms").status_code == (200 if opens else 403)


def test_a_can_connect_that_raises(caplog):
    class Broken(NotConnected):
        async def can_connect(self, scope, consumer, message=None):
            raise KeyError("secret")

    with client(Broken) as socket:
        reply = socket.list()
    assert (reply.status_code, reply.codes) == (500, ["error"])
    assert "secret" not in str(reply)


def test_can_connect_is_asked_anew_for_another_user():
    class Connected(dcrf.BasePermission):
        def can_connect(self, scope, consumer, message=None):
            return scope["user"].is_authenticated

        async def has_permission(self, scope, consumer, action, **kwargs):
            return True

    with client(Connected, path="/", free=RoomViewSet) as socket:
        assert socket.list("rooms").status_code == 403
        socket.force_authenticate(User.objects.create_user("ann"))
        assert socket.list("rooms").status_code == 200
