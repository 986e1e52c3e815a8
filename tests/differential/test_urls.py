"""Lookups, prefixes and styles of URLs."""

from __future__ import annotations

import uuid

import pytest
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.response import Response

from tests.models import Message, Room, Tag
from tests.support.http_comparison import Site
from tests.support.room_viewsets import RoomSerializer


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer

    @action(detail=True)
    def where(self, request, **kwargs):
        return Response(
            {"path": request.path, "kwargs": kwargs, "uri": request.build_absolute_uri()}
        )


@pytest.fixture
def lobby(db):
    return Room.objects.create(name="lobby")


def test_lookup_field(site, lobby):
    class ByNameViewSet(RoomViewSet):
        lookup_field = "name"

    site.register("rooms", ByNameViewSet)
    assert site.same("GET /api/rooms/lobby/", "retrieve", name="lobby").data["name"] == "lobby"
    assert site.same("GET /api/rooms/attic/", "retrieve", name="attic").status_code == 404
    assert site.same("DELETE /api/rooms/lobby/", "destroy", name="lobby").status_code == 204


def test_a_lookup_bound_by_the_url_wins(site, lobby):
    site.register("rooms", RoomViewSet)
    attic = Room.objects.create(name="attic")
    expected = site.http(f"GET /api/rooms/{lobby.pk}/")
    assert site.socket("retrieve", at=f"/ws/rooms/{lobby.pk}/", pk=attic.pk) == expected


def test_pk_is_another_word_for_the_lookup(site, lobby):
    class ByNameViewSet(RoomViewSet):
        lookup_field = "name"

    site.register("rooms", ByNameViewSet)
    answer = site.same("GET /api/rooms/lobby/where/", "where", pk="lobby")
    assert answer.data["kwargs"] == {"name": "lobby"}


def test_lookup_url_kwarg(site, lobby):
    class BySlugViewSet(RoomViewSet):
        lookup_field = "name"
        lookup_url_kwarg = "slug"

    site.register("rooms", BySlugViewSet)
    assert site.same("GET /api/rooms/lobby/where/", "where", slug="lobby").data["kwargs"] == {
        "slug": "lobby"
    }
    data = {"name": "hall"}
    assert site.same("PUT /api/rooms/lobby/", "update", slug="lobby", data=data).data == {
        "id": lobby.pk,
        "name": "hall",
    }


def test_lookup_value_regex(site, lobby):
    class DigitsViewSet(RoomViewSet):
        lookup_value_regex = "[0-9]{1,4}"

    site.register("rooms", DigitsViewSet)
    assert site.same(f"GET /api/rooms/{lobby.pk}/", "retrieve", pk=lobby.pk).status_code == 200
    for wrong in ["lobby", "12345", "-1"]:
        assert site.http(f"GET /api/rooms/{wrong}/").status_code == 404
        assert site.socket("retrieve", pk=wrong).status_code == 404


def test_a_lookup_with_slashes_and_dots(site):
    class PathViewSet(viewsets.ViewSet):
        lookup_value_regex = ".+"
        lookup_field = "path"

        def retrieve(self, request, path):
            return Response({"path": path, "uri": request.build_absolute_uri()})

    site.register("files", PathViewSet, "file")
    answer = site.same("GET /api/files/a/b.txt/", "retrieve", path="a/b.txt")
    assert answer.data["path"] == "a/b.txt"


@pytest.mark.parametrize(
    "quoted, value",
    [
        ("caf%C3%A9", "café"),
        ("a%20b", "a b"),
        ("a%25b", "a%b"),
        ("a%3Fb", "a?b"),
        ("%E6%97%A5", "日"),
    ],
)
def test_a_lookup_that_is_quoted_in_urls(site, quoted, value):
    class NameViewSet(viewsets.ViewSet):
        def retrieve(self, request, pk):
            return Response({"pk": pk, "uri": request.build_absolute_uri(), "path": request.path})

    site.register("names", NameViewSet, "name")
    assert site.same(f"GET /api/names/{quoted}/", "retrieve", pk=value).data["pk"] == value


def test_uuid_keys(site):
    class TagSerializer(serializers.ModelSerializer):
        class Meta:
            model = Tag
            fields = ["id", "name"]

    class TagViewSet(viewsets.ModelViewSet):
        queryset = Tag.objects.order_by("id")
        serializer_class = TagSerializer

    site.register("tags", TagViewSet)
    tag = Tag.objects.create(name="red")
    assert site.same(f"GET /api/tags/{tag.pk}/", "retrieve", pk=str(tag.pk)).data["name"] == "red"
    assert site.same(
        f"GET /api/tags/{uuid.UUID(int=0)}/", "retrieve", pk=str(uuid.UUID(int=0))
    ).errors
    assert site.same("GET /api/tags/red/", "retrieve", pk="red").status_code == 404


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "text"]


class RoomMessageViewSet(viewsets.ModelViewSet):
    serializer_class = MessageSerializer

    def get_queryset(self):
        return Message.objects.filter(room=self.kwargs["room_pk"]).order_by("id")

    def perform_create(self, serializer):
        serializer.save(room_id=self.kwargs["room_pk"])


def test_a_nested_prefix(site, lobby):
    site.register(r"rooms/(?P<room_pk>[^/.]+)/messages", RoomMessageViewSet, "message")
    hello = Message.objects.create(room=lobby, text="hello")
    Message.objects.create(room=Room.objects.create(name="attic"), text="elsewhere")
    base = f"/api/rooms/{lobby.pk}/messages/"
    keys = {"room_pk": lobby.pk}
    assert site.same(f"GET {base}", "list", **keys).data == [{"id": hello.pk, "text": "hello"}]
    assert site.same(f"GET {base}{hello.pk}/", "retrieve", pk=hello.pk, **keys).status_code == 200
    made = site.same(f"POST {base}", "create", data={"text": "bye"}, **keys)
    assert made.rows["Message"][-1]["room_id"] == lobby.pk
    other = "/api/rooms/999/messages/"
    assert site.same(f"GET {other}{hello.pk}/", "retrieve", pk=hello.pk, room_pk=999).errors


def test_a_missing_lookup_that_a_permission_asks_for(site, lobby):
    """HTTP has no such request; a frame may leave out the lookups of its stream's prefix."""

    class InRoom(BasePermission):
        def has_permission(self, request, view):
            return Room.objects.filter(pk=view.kwargs["room_pk"]).exists()

    class GuardedViewSet(RoomMessageViewSet):
        permission_classes = [InRoom]

    site.register(r"rooms/(?P<room_pk>[^/.]+)/messages", GuardedViewSet, "message")
    assert site.same(f"GET /api/rooms/{lobby.pk}/messages/", "list", room_pk=lobby.pk).data == []
    answer = site.socket("list", at="/ws/", stream=r"rooms/(?P<room_pk>[^/.]+)/messages")
    assert (answer.status_code, answer.codes) == (400, [{"room_pk": ["required"]}])


def test_path_converters(lobby):
    class IntegerViewSet(RoomViewSet):
        lookup_value_converter = "int"

    with Site(use_regex_path=False) as site:
        site.register("rooms", IntegerViewSet)
        answer = site.same(f"GET /api/rooms/{lobby.pk}/where/", "where", pk=lobby.pk)
        assert answer.data["kwargs"] == {"pk": lobby.pk}
        assert site.same("GET /api/rooms/", "list").status_code == 200
        assert site.same("GET /api/rooms/999/", "retrieve", pk=999).codes == ["not_found"]
        assert site.http("GET /api/rooms/lobby/").status_code == 404
        assert site.socket("retrieve", pk="lobby").status_code == 404


def test_path_converters_in_a_nested_prefix(lobby):
    with Site(use_regex_path=False) as site:
        site.register("rooms/<int:room_pk>/messages", RoomMessageViewSet, "message")
        base = f"/api/rooms/{lobby.pk}/messages/"
        answer = site.same(f"POST {base}", "create", data={"text": "hello"}, room_pk=lobby.pk)
        assert answer.rows["Message"][0]["room_id"] == lobby.pk


def test_without_trailing_slashes(lobby):
    with Site(trailing_slash=False) as site:
        site.register("rooms", RoomViewSet)
        assert site.same("GET /api/rooms", "list").status_code == 200
        assert site.same(f"GET /api/rooms/{lobby.pk}", "retrieve", pk=lobby.pk).status_code == 200
        answer = site.same(f"GET /api/rooms/{lobby.pk}/where", "where", pk=lobby.pk)
        assert answer.data["uri"] == f"http://testserver/api/rooms/{lobby.pk}/where"


def test_a_lookup_bound_by_where_the_routers_are_mounted(lobby):
    class PlaceViewSet(RoomViewSet):
        def list(self, request, place):
            return Response({"place": place, "path": request.path})

    with Site(http="<slug:place>/api/", socket="<slug:place>/ws/") as site:
        site.register("rooms", PlaceViewSet)
        answer = site.same("GET /inn/api/rooms/", "list", place="inn")
        assert answer.data == {"place": "inn", "path": "/inn/api/rooms/"}


def test_two_streams_of_one_viewset(site, lobby):
    class StaffRoomViewSet(RoomViewSet):
        queryset = Room.objects.filter(is_staff_only=True)

    site.register("rooms", RoomViewSet)
    site.register("staff-rooms", StaffRoomViewSet, "staff-room")
    assert len(site.same("GET /api/rooms/", "list").data) == 1
    assert site.same("GET /api/staff-rooms/", "list", stream="staff-rooms").data == []


def test_registered_after_the_urls_were_made(site, lobby):
    site.register("rooms", RoomViewSet)
    assert site.same("GET /api/rooms/", "list").status_code == 200
    site.socket_router.register("more-rooms", RoomViewSet, "more-room")
    assert site.socket("list", stream="rooms", at="/ws/").status_code == 200
    assert [prefix for prefix, *_ in site.socket_router.registry] == ["rooms", "more-rooms"]
