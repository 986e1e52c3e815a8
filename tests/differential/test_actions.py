"""Extra actions: where they are, by which verbs, and with what of their own."""

from __future__ import annotations

import pytest
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAdminUser
from rest_framework.response import Response

from tests.models import Room
from tests.support.room_viewsets import FullRoomSerializer


class NameSerializer(serializers.Serializer):
    name = serializers.SlugField(max_length=5)


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = FullRoomSerializer

    @action(detail=False)
    def names(self, request):
        return Response([room.name for room in self.get_queryset()])

    @action(detail=True, methods=["post"])
    def close(self, request, pk=None):
        room = self.get_object()
        room.is_staff_only = True
        room.save()
        return Response(status=202)

    @action(detail=True)
    def title(self, request, pk=None):
        return Response(self.get_object().name)

    @title.mapping.put
    def rename(self, request, pk=None):
        room = self.get_object()
        room.name = request.data["name"]
        room.save()
        return Response(room.name)

    @title.mapping.delete
    def clear_title(self, request, pk=None):
        return Response({"cleared": self.action}, status=200)

    @action(detail=False, methods=["get", "post", "patch"])
    def several(self, request):
        return Response({"method": request.method, "action": self.action, "data": request.data})

    @action(detail=False, permission_classes=[IsAdminUser])
    def secrets(self, request):
        return Response("the cellar")

    @action(detail=False, methods=["post"], serializer_class=NameSerializer)
    def check(self, request):
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response(serializer.data)

    @action(detail=True, url_path=r"notes/(?P<note>[0-9]+)/(?P<part>[a-z]+)", url_name="a-note")
    def note(self, request, pk=None, note=None, part=None):
        return Response({"pk": pk, "note": note, "part": part, "kwargs": self.kwargs})

    @action(detail=False, url_path="by-colour", name="Colours")
    def colours(self, request):
        """By colour."""
        return Response([self.name, self.description, self.get_view_name()])


@pytest.fixture
def lobby(db):
    return Room.objects.create(name="lobby")


@pytest.fixture
def rooms(site, lobby):
    site.register("rooms", RoomViewSet)
    return site


def test_on_the_list(rooms):
    assert rooms.same("GET /api/rooms/names/", "names").data == ["lobby"]


def test_on_a_row(rooms, lobby):
    answer = rooms.same(f"POST /api/rooms/{lobby.pk}/close/", "close", pk=lobby.pk)
    assert (answer.status_code, answer.data) == (202, None)
    assert answer.rows["Room"][0]["is_staff_only"]


def test_on_a_row_that_is_not_there(rooms):
    assert rooms.same("POST /api/rooms/999/close/", "close", pk=999).codes == ["not_found"]


@pytest.mark.parametrize(
    "verb, word, expected",
    [
        ("GET", "title", "lobby"),
        ("PUT", "rename", "hall"),
        ("DELETE", "clear_title", {"cleared": "clear_title"}),
    ],
)
def test_verbs_mapped_to_actions_of_their_own(rooms, lobby, verb, word, expected):
    answer = rooms.same(
        f"{verb} /api/rooms/{lobby.pk}/title/", word, pk=lobby.pk, data={"name": "hall"}
    )
    assert answer.data == expected


@pytest.mark.parametrize("verb", ["GET", "POST", "PATCH"])
def test_a_verb_chosen_among_those_declared(rooms, verb):
    answer = rooms.same(f"{verb} /api/rooms/several/", "several", method=verb, data={"a": [1]})
    assert answer.data == {"method": verb, "action": "several", "data": {"a": [1]}}


def test_the_first_verb_declared_is_the_default(rooms):
    assert rooms.same("GET /api/rooms/several/", "several").data["method"] == "GET"


@pytest.mark.parametrize("verb", ["PUT", "DELETE", "TRACE", "FROB"])
def test_a_verb_not_declared(rooms, verb):
    answer = rooms.same(f"{verb} /api/rooms/several/", "several", method=verb.lower(), data={})
    assert answer.status_code == 405
    assert answer.headers == {"Allow": "GET, POST, PATCH, HEAD, OPTIONS"}
    assert answer.codes == ["method_not_allowed"]


def test_a_verb_not_declared_on_a_row(rooms, lobby):
    row = f"/api/rooms/{lobby.pk}/"
    answer = rooms.same(f"GET {row}close/", "close", pk=lobby.pk, method="GET")
    assert answer.headers == {"Allow": "POST, OPTIONS"}
    assert rooms.same(f"PATCH {row}title/", "title", pk=lobby.pk, method="patch").status_code == 405


def test_a_verb_of_another_action_at_the_same_url(rooms, lobby):
    """Over HTTP it would be that action; a frame names its own."""
    answer = rooms.socket("title", pk=lobby.pk, method="put", data={"name": "hall"})
    assert (answer.status_code, answer.rows["Room"][0]["name"]) == (405, "lobby")


def test_permissions_of_its_own(rooms, django_user_model):
    assert rooms.same("GET /api/rooms/secrets/", "secrets").status_code == 403
    rooms.force_authenticate(django_user_model(is_staff=True))
    assert rooms.same("GET /api/rooms/secrets/", "secrets").data == "the cellar"


def test_a_serializer_of_its_own(rooms):
    assert rooms.same("POST /api/rooms/check/", "check", data={"name": "abc"}).status_code == 200
    answer = rooms.same("POST /api/rooms/check/", "check", data={"name": "much too long"})
    assert answer.codes == [{"name": ["max_length", "invalid"]}]


def test_a_path_with_groups(rooms, lobby):
    path = f"/api/rooms/{lobby.pk}/notes/7/intro/"
    answer = rooms.same(f"GET {path}", "note", pk=lobby.pk, note=7, part="intro")
    assert answer.data["kwargs"] == {"pk": str(lobby.pk), "note": "7", "part": "intro"}


@pytest.mark.parametrize("lookups", [{"note": "x", "part": "intro"}, {"note": 7, "part": "INTRO"}])
def test_a_path_with_groups_that_it_does_not_admit(rooms, lobby, lookups):
    path = f"/api/rooms/{lobby.pk}/notes/{lookups['note']}/{lookups['part']}/"
    assert rooms.http(f"GET {path}").status_code == 404
    assert rooms.socket("note", pk=lobby.pk, **lookups).status_code == 404


def test_a_path_name_and_description_of_its_own(rooms):
    answer = rooms.same("GET /api/rooms/by-colour/", "colours")
    assert answer.data == ["Colours", "By colour.", "Colours"]


def test_links_to_actions(site, lobby):
    class LinkingViewSet(RoomViewSet):
        @action(detail=True)
        def links(self, request, pk=None):
            return Response(
                {
                    "close": self.reverse_action("close", args=[pk]),
                    "note": self.reverse_action(
                        "a-note", kwargs={"pk": pk, "note": 1, "part": "b"}
                    ),
                    "all": self.get_extra_action_url_map(),
                }
            )

    site.register("rooms", LinkingViewSet)
    answer = site.same(f"GET /api/rooms/{lobby.pk}/links/", "links", pk=lobby.pk)
    assert answer.data["close"] == f"http://testserver/api/rooms/{lobby.pk}/close/"
    assert "Close" in answer.data["all"]
