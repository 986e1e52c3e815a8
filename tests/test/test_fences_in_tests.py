"""Fences within a transaction that never commits: the events are in the inbox with the reply."""

from __future__ import annotations

from django.db import transaction
from django.test import TestCase, override_settings
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError

from rest_channels.routers import DefaultRouter
from rest_channels.test import AsyncSocketClient, SocketTestCase
from tests.models import Room
from tests.support.room_viewsets import OpenRooms

# One that does not come in time would be answered too late for a test.
SLOW = {"FENCE_SECONDS": 60, "POLL_SECONDS": 60}


class Rooms(OpenRooms):
    filterset_fields = ["is_staff_only"]

    @action(detail=False, methods=["post"])
    def undone(self, request):
        with transaction.atomic():
            Room.objects.create(name="never")
            raise ValidationError("No.")


router = DefaultRouter()
router.register("rooms", Rooms)
application = router.as_asgi()


@override_settings(REST_CHANNELS=SLOW)
class FencedTests(SocketTestCase):
    application = application

    def names(self):
        return [(event.action, event.data["name"]) for event in self.socket.unread]

    def test_events_are_there_with_the_reply(self):
        self.socket.request("subscribe", "rooms", request_id="s")
        reply = self.socket.create("rooms", {"name": "lobby"}, fence=True)
        assert (reply.status_code, reply.fenced) == (201, True)
        assert self.names() == [("create", "lobby")]

    def test_so_are_the_tests_own(self):
        self.socket.request("subscribe", "rooms", request_id="s")
        for name in ("one", "two"):
            Room.objects.create(name=name)
        assert self.socket.list("rooms", fence=True).fenced is True
        assert self.names() == [("create", "one"), ("create", "two")]

    def test_none_of_what_matches_nothing_or_was_undone(self):
        self.socket.request("subscribe", "rooms", request_id="s", query={"is_staff_only": True})
        assert self.socket.create("rooms", {"name": "lobby"}, fence=True).fenced is True
        reply = self.socket.request("undone", "rooms", fence=True)
        assert (reply.status_code, reply.fenced) == (400, True)
        assert self.socket.unread == []

    def test_without_a_fence_there_is_no_answer_to_it(self):
        assert self.socket.list("rooms").fenced is None


@override_settings(REST_CHANNELS=SLOW)
class AsyncFencedTests(TestCase):
    async def test_events_are_there_with_the_reply(self):
        async with AsyncSocketClient(application) as socket:
            await socket.request("subscribe", "rooms", request_id="s")
            reply = await socket.create("rooms", {"name": "lobby"}, fence=True)
            assert reply.fenced is True
            assert [event.data["name"] for event in socket.unread] == ["lobby"]
