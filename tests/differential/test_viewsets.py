"""The kinds of viewsets, and what they decide by their action."""

from __future__ import annotations

import pytest
from rest_framework import mixins, serializers, viewsets
from rest_framework.permissions import AllowAny, IsAdminUser
from rest_framework.response import Response

from rest_channels.viewsets import (
    ConsumerViewSet,
    ModelConsumerViewSet,
    ReadOnlyModelConsumerViewSet,
)
from tests.models import Room
from tests.support.room_viewsets import FullRoomSerializer


@pytest.fixture
def lobby(db):
    return Room.objects.create(name="lobby")


@pytest.fixture(params=[viewsets.ModelViewSet, ModelConsumerViewSet])
def rooms(request, site, lobby):
    class RoomViewSet(request.param):
        queryset = Room.objects.order_by("id")
        serializer_class = FullRoomSerializer

    site.register("rooms", RoomViewSet)
    return site


def test_list(rooms):
    answer = rooms.same("GET /api/rooms/", "list")
    assert [room["name"] for room in answer.data] == ["lobby"]
    assert len(answer.queries) == 1


def test_retrieve(rooms, lobby):
    answer = rooms.same(f"GET /api/rooms/{lobby.pk}/", "retrieve", pk=lobby.pk)
    assert answer.data == {"id": lobby.pk, "name": "lobby", "is_staff_only": False}


def test_retrieve_by_a_key_in_a_string(rooms, lobby):
    assert rooms.same(f"GET /api/rooms/{lobby.pk}/", "retrieve", pk=str(lobby.pk)).data


def test_retrieve_what_is_not_there(rooms):
    answer = rooms.same("GET /api/rooms/999/", "retrieve", pk=999)
    assert (answer.status_code, answer.codes) == (404, ["not_found"])


def test_retrieve_by_a_key_of_the_wrong_type(rooms):
    assert rooms.same("GET /api/rooms/lobby/", "retrieve", pk="lobby").status_code == 404


def test_create(rooms):
    answer = rooms.same("POST /api/rooms/", "create", data={"name": "attic"})
    assert answer.status_code == 201
    assert [room["name"] for room in answer.rows["Room"]] == ["lobby", "attic"]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"name": "no slug"},
        {"name": "lobby"},
        {"name": None},
        {"name": ["a"]},
        [],
        [{}],
        None,
        3,
        "x",
    ],
)
def test_create_from_what_is_wrong(rooms, data):
    answer = rooms.same("POST /api/rooms/", "create", data=data)
    assert answer.status_code == 400
    assert answer.codes


def test_create_from_nothing(rooms):
    answer = rooms.same("POST /api/rooms/", "create")
    assert answer.errors == [{"name": ["This field is required."]}]
    assert answer.codes == [{"name": ["required"]}]


def test_update(rooms, lobby):
    answer = rooms.same(f"PUT /api/rooms/{lobby.pk}/", "update", pk=lobby.pk, data={"name": "hall"})
    assert answer.data["name"] == "hall"
    assert answer.rows["Room"][0]["name"] == "hall"


def test_update_from_what_is_wrong(rooms, lobby):
    answer = rooms.same(f"PUT /api/rooms/{lobby.pk}/", "update", pk=lobby.pk, data={})
    assert answer.codes == [{"name": ["required"]}]


@pytest.mark.parametrize("action", ["partial_update", "patch"])
def test_partial_update(rooms, lobby, action):
    data = {"is_staff_only": True}
    answer = rooms.same(f"PATCH /api/rooms/{lobby.pk}/", action, pk=lobby.pk, data=data)
    assert answer.rows["Room"] == [{"id": lobby.pk, "name": "lobby", "is_staff_only": True}]


@pytest.mark.parametrize("action", ["destroy", "delete"])
def test_destroy(rooms, lobby, action):
    answer = rooms.same(f"DELETE /api/rooms/{lobby.pk}/", action, pk=lobby.pk)
    assert (answer.status_code, answer.data, answer.rows["Room"]) == (204, None, [])


@pytest.mark.parametrize(
    "verb, action", [("PUT", "update"), ("PATCH", "patch"), ("DELETE", "delete")]
)
def test_writing_what_is_not_there(rooms, verb, action):
    answer = rooms.same(f"{verb} /api/rooms/999/", action, pk=999, data={"name": "hall"})
    assert answer.status_code == 404


@pytest.mark.parametrize("base", [viewsets.ReadOnlyModelViewSet, ReadOnlyModelConsumerViewSet])
def test_a_read_only_viewset(site, lobby, base):
    class RoomViewSet(base):
        queryset = Room.objects.order_by("id")
        serializer_class = FullRoomSerializer

    site.register("rooms", RoomViewSet)
    row = f"/api/rooms/{lobby.pk}/"
    assert site.same("GET /api/rooms/", "list").status_code == 200
    assert site.same(f"GET {row}", "retrieve", pk=lobby.pk).status_code == 200
    refused = site.same("POST /api/rooms/", "create", data={"name": "attic"})
    assert refused.status_code == 405
    assert refused.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert site.same(f"PUT {row}", "update", pk=lobby.pk, data={}).status_code == 405
    assert site.same(f"PATCH {row}", "patch", pk=lobby.pk, data={}).status_code == 405
    assert site.same(f"DELETE {row}", "destroy", pk=lobby.pk).codes == ["method_not_allowed"]


@pytest.mark.parametrize("base", [viewsets.GenericViewSet, ConsumerViewSet])
def test_a_generic_viewset_with_mixins(site, lobby, base):
    class RoomViewSet(mixins.CreateModelMixin, mixins.DestroyModelMixin, base):
        queryset = Room.objects.order_by("id")
        serializer_class = FullRoomSerializer

    site.register("rooms", RoomViewSet)
    row = f"/api/rooms/{lobby.pk}/"
    assert site.same("POST /api/rooms/", "create", data={"name": "attic"}).status_code == 201
    assert site.same(f"DELETE {row}", "destroy", pk=lobby.pk).status_code == 204
    assert site.same("GET /api/rooms/", "list").headers["Allow"] == "POST, OPTIONS"
    assert site.same(f"GET {row}", "retrieve", pk=lobby.pk).headers["Allow"] == "DELETE, OPTIONS"


class PlanetViewSet(viewsets.ViewSet):
    """No queryset, no serializer, no model."""

    planets = ["mercury", "venus"]

    def list(self, request):
        return Response(self.planets)

    def retrieve(self, request, pk=None):
        if pk not in self.planets:
            return Response({"detail": "No such planet."}, status=404)
        return Response({"name": pk})


def test_a_plain_viewset(site):
    site.register("planets", PlanetViewSet, "planet")
    assert site.same("GET /api/planets/", "list").data == ["mercury", "venus"]
    assert site.same("GET /api/planets/venus/", "retrieve", pk="venus").data == {"name": "venus"}
    answer = site.same("GET /api/planets/vulcan/", "retrieve", pk="vulcan")
    assert answer.errors == ["No such planet."]


def test_attributes_of_an_instance_are_one_requests_own(site):
    class CountingViewSet(viewsets.ViewSet):
        count = 0

        def list(self, request):
            self.count += 1
            return Response({"count": self.count})

    site.register("counts", CountingViewSet, "count")
    for _ in range(2):
        assert site.same("GET /api/counts/", "list").data == {"count": 1}


class ByActionViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")

    class NameSerializer(serializers.ModelSerializer):
        class Meta:
            model = Room
            fields = ["name"]

    def get_serializer_class(self):
        return self.NameSerializer if self.action == "list" else FullRoomSerializer

    def get_permissions(self):
        return [IsAdminUser()] if self.action in ("destroy", "create") else [AllowAny()]


def test_serializers_by_action(site, lobby):
    site.register("rooms", ByActionViewSet)
    assert site.same("GET /api/rooms/", "list").data == [{"name": "lobby"}]
    row = site.same(f"GET /api/rooms/{lobby.pk}/", "retrieve", pk=lobby.pk)
    assert row.data.keys() == {"id", "name", "is_staff_only"}


def test_permissions_by_action(site, lobby, django_user_model):
    site.register("rooms", ByActionViewSet)
    row = f"/api/rooms/{lobby.pk}/"
    data = {"name": "hall"}
    assert site.same(f"PUT {row}", "update", pk=lobby.pk, data=data).status_code == 200
    assert site.same("POST /api/rooms/", "create", data=data).status_code == 403
    assert site.same(f"DELETE {row}", "destroy", pk=lobby.pk).status_code == 403
    site.force_authenticate(django_user_model(is_staff=True))
    assert site.same("POST /api/rooms/", "create", data=data).status_code == 201


def test_restricted_verbs(site, lobby):
    class RoomViewSet(viewsets.ModelViewSet):
        queryset = Room.objects.order_by("id")
        serializer_class = FullRoomSerializer
        http_method_names = ["get", "put", "options"]

    site.register("rooms", RoomViewSet)
    row = f"/api/rooms/{lobby.pk}/"
    assert site.same("GET /api/rooms/", "list").status_code == 200
    data = {"name": "hall"}
    assert site.same(f"PUT {row}", "update", pk=lobby.pk, data=data).status_code == 200
    assert site.same("POST /api/rooms/", "create", data=data).headers["Allow"] == "GET, OPTIONS"
    refused = site.same(f"DELETE {row}", "destroy", pk=lobby.pk)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, PUT, OPTIONS")
