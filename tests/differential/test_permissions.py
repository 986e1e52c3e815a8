"""DRF's permissions, object permissions, and combinations of them."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework import permissions, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from tests.models import Message, Room
from tests.support.room_viewsets import FullRoomSerializer


@pytest.fixture
def lobby(db):
    return Room.objects.create(name="lobby")


@pytest.fixture
def ann(db):
    return User.objects.create_user("ann")


def guarded(site, *classes):
    class RoomViewSet(viewsets.ModelViewSet):
        queryset = Room.objects.order_by("id")
        serializer_class = FullRoomSerializer
        permission_classes = classes

    site.register("rooms", RoomViewSet)


def test_is_authenticated(site, lobby, ann):
    guarded(site, permissions.IsAuthenticated)
    answer = site.same("GET /api/rooms/", "list")
    assert (answer.status_code, answer.codes) == (403, ["not_authenticated"])
    site.force_authenticate(ann)
    assert site.same("GET /api/rooms/", "list").status_code == 200


def test_is_authenticated_or_read_only(site, lobby, ann):
    guarded(site, permissions.IsAuthenticatedOrReadOnly)
    row = f"/api/rooms/{lobby.pk}/"
    data = {"name": "hall"}
    for user, written in [(None, 403), (ann, 201)]:
        site.force_authenticate(user)
        assert site.same("GET /api/rooms/", "list").status_code == 200
        assert site.same(f"GET {row}", "retrieve", pk=lobby.pk).status_code == 200
        assert site.same("OPTIONS /api/rooms/", "metadata").status_code == 200
        assert site.same("POST /api/rooms/", "create", data=data).status_code == written


def test_a_stranger_meets_403_before_405(site, lobby):
    class RoomViewSet(viewsets.ReadOnlyModelViewSet):
        queryset = Room.objects.all()
        serializer_class = FullRoomSerializer
        permission_classes = [permissions.IsAuthenticatedOrReadOnly]

    site.register("rooms", RoomViewSet)
    row = f"/api/rooms/{lobby.pk}/"
    assert site.same("POST /api/rooms/", "create", data={}).status_code == 403
    assert site.same(f"DELETE {row}", "destroy", pk=lobby.pk).status_code == 403
    site.force_authenticate(User())
    assert site.same("POST /api/rooms/", "create", data={}).status_code == 405


@pytest.mark.parametrize(
    "held, verb, action, allowed",
    [
        ("add_room", "POST", "create", 201),
        ("change_room", "POST", "create", 403),
        ("change_room", "PUT", "update", 200),
        ("change_room", "PATCH", "partial_update", 200),
        ("add_room", "PUT", "update", 403),
        ("delete_room", "DELETE", "destroy", 204),
        ("change_room", "DELETE", "destroy", 403),
    ],
)
def test_django_model_permissions(site, lobby, ann, held, verb, action, allowed):
    guarded(site, permissions.DjangoModelPermissions)
    ann.user_permissions.add(Permission.objects.get(codename=held))
    site.force_login(ann)
    keys = {} if action == "create" else {"pk": lobby.pk}
    path = "/api/rooms/" if action == "create" else f"/api/rooms/{lobby.pk}/"
    answer = site.same(f"{verb} {path}", action, data={"name": "hall"}, **keys)
    assert answer.status_code == allowed


def test_django_model_permissions_let_users_read_and_strangers_not(site, lobby, ann):
    guarded(site, permissions.DjangoModelPermissions)
    assert site.same("GET /api/rooms/", "list").status_code == 403
    site.force_login(ann)
    assert site.same("GET /api/rooms/", "list").status_code == 200


def test_django_object_permissions(site, lobby, ann):
    """A user who may not even read a row gets the answer that it is not there."""
    guarded(site, permissions.DjangoObjectPermissions)
    ann.user_permissions.add(Permission.objects.get(codename="delete_room"))
    site.force_login(ann)
    row = f"/api/rooms/{lobby.pk}/"
    assert site.same(f"GET {row}", "retrieve", pk=lobby.pk).status_code == 200
    assert site.same(f"DELETE {row}", "destroy", pk=lobby.pk).status_code == 403


class IsAuthor(permissions.BasePermission):
    message = "Only the author may do this."
    code = "not_author"

    def has_object_permission(self, request, view, message):
        return request.method in permissions.SAFE_METHODS or message.author == request.user


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "text"]


class MessageViewSet(viewsets.ModelViewSet):
    queryset = Message.objects.select_related("author")
    serializer_class = MessageSerializer
    permission_classes = [IsAuthor]

    @action(detail=True, methods=["post"])
    def shout(self, request, pk=None):
        return Response(self.get_object().text.upper())


def test_object_permissions(site, lobby, ann):
    site.register("messages", MessageViewSet)
    hello = Message.objects.create(room=lobby, author=ann, text="hello")
    row = f"/api/messages/{hello.pk}/"
    site.force_authenticate(User.objects.create_user("bob"))
    assert site.same(f"GET {row}", "retrieve", pk=hello.pk).data["text"] == "hello"
    answer = site.same(f"PATCH {row}", "patch", pk=hello.pk, data={"text": "mine"})
    assert (answer.errors, answer.codes) == (["Only the author may do this."], ["not_author"])
    assert site.same(f"POST {row}shout/", "shout", pk=hello.pk).status_code == 403
    site.force_authenticate(ann)
    assert site.same(f"POST {row}shout/", "shout", pk=hello.pk).data == "HELLO"
    assert site.same(f"DELETE {row}", "destroy", pk=hello.pk).rows["Message"] == []


@pytest.mark.parametrize(
    "rule, anonymous, user, staff",
    [
        (permissions.IsAuthenticated & permissions.IsAdminUser, 403, 403, 200),
        (permissions.IsAdminUser | permissions.IsAuthenticated, 403, 200, 200),
        (~permissions.IsAuthenticated, 200, 403, 403),
        (permissions.IsAuthenticated & ~permissions.IsAdminUser, 403, 200, 403),
    ],
)
def test_permissions_and_or_not(site, rule, anonymous, user, staff):
    guarded(site, rule)
    assert site.same("GET /api/rooms/", "list").status_code == anonymous
    site.force_authenticate(User(username="ann"))
    assert site.same("GET /api/rooms/", "list").status_code == user
    site.force_authenticate(User(username="sue", is_staff=True))
    assert site.same("GET /api/rooms/", "list").status_code == staff


def test_operators_reach_objects(site, lobby, ann):
    class EitherViewSet(MessageViewSet):
        permission_classes = [IsAuthor | permissions.IsAdminUser]

    site.register("messages", EitherViewSet)
    hello = Message.objects.create(room=lobby, author=ann, text="hello")
    row = f"/api/messages/{hello.pk}/"
    for user, status in [(User(pk=0), 403), (User(pk=0, is_staff=True), 204), (ann, 204)]:
        site.force_authenticate(user)
        assert site.same(f"DELETE {row}", "destroy", pk=hello.pk).status_code == status


def test_what_a_permission_finds_of_the_view(site, lobby):
    class Notes(permissions.BasePermission):
        def has_permission(self, request, view):
            self.message = {
                "action": view.action,
                "method": request.method,
                "kwargs": view.kwargs,
                "path": request.path,
                "detail": view.detail,
                "data": request.data,
            }
            return False

    guarded(site, Notes)
    site.force_authenticate(User())
    row = f"/api/rooms/{lobby.pk}/"
    told = site.same(f"PUT {row}", "update", pk=lobby.pk, data={"name": "hall"}).errors[0]
    assert told["kwargs"] == {"pk": str(lobby.pk)}
    assert site.same("GET /api/rooms/", "list").errors[0]["action"] == "list"
    refused = site.same("PUT /api/rooms/", "list", method="put", data={})
    assert (refused.errors[0]["action"], refused.errors[0]["method"]) == ("None", "PUT")
    assert site.same("OPTIONS /api/rooms/", "metadata").errors[0]["action"] == "metadata"


def test_permissions_of_one_action_hold_before_a_missing_lookup_is_told(site):
    class RoomViewSet(viewsets.ModelViewSet):
        queryset = Room.objects.all()
        serializer_class = FullRoomSerializer

        def get_permissions(self):
            return [permissions.IsAdminUser()] if self.action == "destroy" else []

    site.register("rooms", RoomViewSet)
    assert site.socket("destroy").status_code == 403
    assert site.socket("retrieve").status_code == 400
