"""A fence covers each database that the socket subscribes to."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import router
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer

from rest_channels.live.change_path import ChangePath
from rest_channels.live.delivery import hub
from rest_channels.routers import DefaultRouter
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room, Sensor
from tests.support.gates import Gate
from tests.support.other_database import other_database  # noqa: F401
from tests.support.room_viewsets import OpenRooms
from tests.support.subscription_stories import run
from tests.support.talk import happened, talking_to
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


class Apart:
    """Sensors are in a database of their own."""

    def db_for_read(self, model, **hints):
        return "apart" if model is Sensor else None

    db_for_write = db_for_read


class Sensors(ModelConsumerViewSet):
    queryset = Sensor.objects.order_by("id")
    authentication_classes = []
    permission_classes = []

    class serializer_class(ModelSerializer):
        class Meta:
            model = Sensor
            fields = ["name"]


class Rooms(OpenRooms):
    @action(detail=False, methods=["post"])
    def write_to_both(self, request):
        Room.objects.create(name="room")
        Sensor.objects.create(name="sensor")
        return Response()


@pytest.fixture
def application(monkeypatch, settings):
    settings.REST_CHANNELS = {"FENCE_SECONDS": 60, "POLL_SECONDS": 60}
    call_command("migrate", database="apart", run_syncdb=True, verbosity=0)
    monkeypatch.setattr(router, "routers", [Apart()])
    routes = DefaultRouter()
    routes.register("rooms", Rooms)
    routes.register("sensors", Sensors)
    return routes.as_asgi()


def is_at_rest():
    followers = hub.current_hub()._followers.values()
    return all(track.is_idle for follower in followers for track in follower.all_tracks)


@pytest.mark.parametrize("alias", ["default", "apart"])
def test_the_reply_comes_after_the_events_of_both(application, monkeypatch, alias):
    gate, number = Gate(), ChangePath._number

    def waiting(self):
        if self.alias == alias:
            gate.pass_through()
        return number(self)

    async def story():
        async with talking_to(application) as socket:
            for stream in ("rooms", "sensors"):
                reply = await socket.ask("subscribe", stream, request_id=stream)
                assert reply["response_status"] == 201, reply
            # A pass that still runs would number the write in front of the gate.
            await until(is_at_rest)
            monkeypatch.setattr(ChangePath, "_number", waiting)
            await socket.send("write_to_both", "rooms", request_id="f", fence=True)
            await happened(gate.reached)
            # The other database does not wait.
            first = await socket.receive()
            assert first["request_id"] == ("sensors" if alias == "default" else "rooms")
            assert (await socket.ask("ping", "rooms"))["action"] == "ping"
            gate.opened.set()
            second, reply = [await socket.receive() for _ in range(2)]
            assert {first["request_id"], second["request_id"]} == {"rooms", "sensors"}
            assert (reply["request_id"], reply["fenced"]) == ("f", True)

    run(story)


def test_a_database_without_subscriptions_of_the_socket(application, monkeypatch):
    """One that hangs spoils no fence of sockets that do not need it."""
    gate, number = Gate(), ChangePath._number

    def waiting(self):
        if self.alias == "apart":
            gate.pass_through()
        return number(self)

    async def story():
        async with talking_to(application) as socket, talking_to(application) as other:
            await other.ask("subscribe", "sensors", request_id="sensors")
            await socket.ask("subscribe", "rooms", request_id="rooms")
            monkeypatch.setattr(ChangePath, "_number", waiting)
            await socket.send("write_to_both", "rooms", request_id="f", fence=True)
            event, reply = [await socket.receive() for _ in range(2)]
            assert (event["request_id"], reply["request_id"]) == ("rooms", "f")
            assert reply["fenced"] is True
            gate.opened.set()

    run(story)
