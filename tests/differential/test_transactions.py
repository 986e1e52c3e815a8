"""ATOMIC_REQUESTS: what fails leaves nothing behind, over HTTP and over a socket."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from tests.models import Room

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


class RoomViewSet(viewsets.ViewSet):
    def create(self, request):
        Room.objects.create(name="written")
        if request.data == "refuse":
            raise serializers.ValidationError("No.")
        if request.data == "crash":
            raise ZeroDivisionError
        if request.data == "return":
            return Response("No.", status=400)
        return Response({"is_atomic": connection.in_atomic_block}, status=201)

    @action(detail=False, methods=["post"])
    def extra(self, request):
        return self.create(request)


def asked(site, ask):
    """The answer, and the rooms it left."""
    Room.objects.all().delete()
    answer = ask()
    return answer.status_code, answer.data, list(Room.objects.values_list("name", flat=True))


@pytest.mark.parametrize(
    "data, status, left",
    [("", 201, ["written"]), ("refuse", 400, []), ("crash", 500, []), ("return", 400, ["written"])],
)
@pytest.mark.parametrize("path, word", [("", "create"), ("extra/", "extra")])
def test_atomic_requests(site, atomic_requests, data, status, left, path, word):
    site.register("rooms", RoomViewSet, "room")
    over_http = asked(site, lambda: site.http(f"POST /api/rooms/{path}", data=data))
    over_socket = asked(site, lambda: site.socket(word, data=data))
    assert over_socket == over_http
    assert (over_http[0], over_http[2]) == (status, left)


@pytest.mark.parametrize("data, status", [("", 201), ("refuse", 400), ("crash", 500)])
def test_without_atomic_requests(site, data, status):
    site.register("rooms", RoomViewSet, "room")
    over_http = asked(site, lambda: site.http("POST /api/rooms/", data=data))
    over_socket = asked(site, lambda: site.socket("create", data=data))
    assert over_socket == over_http
    assert (over_http[0], over_http[2]) == (status, ["written"])


def test_what_happens_on_commit(site, atomic_requests):
    done = []

    class NotingViewSet(viewsets.ViewSet):
        def create(self, request):
            transaction.on_commit(lambda: done.append(request.data))
            if request.data == "refuse":
                raise serializers.ValidationError("No.")
            return Response(list(done), status=201)

    site.register("notes", NotingViewSet, "note")
    for data in ["a", "refuse"]:
        site.http("POST /api/notes/", data=data)
        site.socket("create", data=data)
    assert done == ["a", "a"]


def test_a_view_that_asks_to_be_left_out(site, atomic_requests):
    class OutsideViewSet(RoomViewSet):
        @transaction.non_atomic_requests
        def dispatch(self, *args, **kwargs):
            return super().dispatch(*args, **kwargs)

    site.register("rooms", OutsideViewSet, "room")
    over_http = asked(site, lambda: site.http("POST /api/rooms/", data="refuse"))
    over_socket = asked(site, lambda: site.socket("create", data="refuse"))
    assert over_socket == over_http
    assert over_http[2] == ["written"]
