"""The report of a process: its sockets and audiences, and the code that keeps users apart."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.console.process_report import process_report, why_not_shared
from rest_channels.routers import DefaultRouter
from rest_channels.sockets.revalidation import leases
from rest_channels.test import SocketClient, SocketClosed
from rest_channels.viewsets import ConsumerViewSet
from tests.models import Room
from tests.support.console_urls import RoomSerializer, RoomViewSet

pytestmark = [pytest.mark.django_db, pytest.mark.once]


class OwnRoomViewSet(RoomViewSet):
    def get_queryset(self):
        return super().get_queryset().filter(is_staff_only=self.request.user.is_staff)


class NamedSerializer(RoomSerializer):
    def to_representation(self, instance):
        return {**super().to_representation(instance), "seen_by": str(self.context["request"].user)}


class NamedRoomViewSet(RoomViewSet):
    serializer_class = NamedSerializer


class CountViewSet(ConsumerViewSet):
    @action(detail=False)
    def count(self, request):
        return Response({"rooms": Room.objects.count()})


router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("own", OwnRoomViewSet, basename="own")
router.register("named", NamedRoomViewSet, basename="named")
router.register("counts", CountViewSet, basename="counts")


@pytest.fixture
def socket() -> Any:
    client = SocketClient(router.as_asgi())
    client.force_login(User.objects.create_user("ann", is_staff=True))
    with client:
        yield client


def only(listed: dict[str, Any]) -> dict[str, Any]:
    (item,) = listed["items"]
    assert listed["total"] == 1
    return item


def subscribe(socket: SocketClient, stream: str, **keys: Any) -> dict[str, Any]:
    assert socket.request("subscribe", stream, **keys).status_code == 201
    return only(process_report()["audiences"])


def test_sockets_are_listed_with_their_user_and_subscriptions(socket):
    subscribe(socket, "rooms")
    user = User.objects.get()
    assert only(process_report()["connections"]) == {
        **{"path": "/", "client": "127.0.0.1", "user": str(user.pk)},
        **{"subscriptions": 1, "unread": 0, "backlog": 0},
    }


def test_an_audience_has_its_statement_and_its_tables(socket):
    Room.objects.create(name="hall")
    found = subscribe(socket, "rooms", query={"name": "hall"})
    assert found["sql"].startswith("SELECT ") and "hall" not in found["sql"]
    assert (found["model"], found["rows"], found["subscribers"]) == ("tests.Room", 1, 1)
    assert found["tables"] == ["tests.Room"] and found["window"] is None


def test_code_that_all_share_is_found_to_read_nothing(socket):
    found = subscribe(socket, "rooms")
    assert found["reason"] == ""
    assert why_not_shared(found["id"]) == {"reads": {}}


def test_the_code_that_reads_the_user_is_named(socket):
    found = subscribe(socket, "own")
    report = why_not_shared(found["id"])
    (place,) = report["reads"]["user"]
    assert place.startswith(f"{__name__}:") and place.endswith(" in OwnRoomViewSet.get_queryset")


def test_the_code_that_keeps_texts_apart_is_named(socket):
    found = subscribe(socket, "named")
    assert found["texts"] == "one user"
    assert "NamedSerializer.to_representation" in found["reason"]


def test_a_window_is_named_by_its_size(socket):
    assert subscribe(socket, "rooms", window=2)["window"] == 2


def test_watches_are_listed_with_the_tables_they_read(socket):
    assert socket.watch("count", "counts").status_code == 201
    found = only(process_report()["watches"])
    assert found["clients"] == 1 and found["tables"] == ["tests.Room"]
    assert "CountViewSet" in found["title"]


def test_a_lease_that_expires_is_noticed_without_a_signal(socket, settings):
    settings.REST_CHANNELS = {"LEASE_SECONDS": 3600}
    assert socket.list("rooms").status_code == 200
    # Unlike save(), it sends none.
    User.objects.update(is_active=False)
    assert socket.list("rooms").status_code == 200
    leases.expire(lambda credentials: True)
    with pytest.raises(SocketClosed, match="4401"):
        socket.receive()


def test_an_unknown_audience_has_no_reason():
    assert why_not_shared("7") is None
