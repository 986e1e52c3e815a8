"""Watches in a project's own tests: within the transaction of a test case, sync and async."""

from __future__ import annotations

from django.test import TestCase
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from rest_channels.test import AsyncSocketClient, SocketClient
from tests.models import Room
from tests.support.talk import OpenViewSet


class Rooms(OpenViewSet):
    queryset = Room.objects.order_by("id")

    @action(detail=False)
    def count(self, request):
        return Response(Room.objects.count())


router = DefaultRouter()
router.register("rooms", Rooms, "rooms")
application = router.as_asgi()


def test_in_the_transaction_of_a_test(db):
    with SocketClient(application) as socket:
        reply = socket.watch("count", "rooms")
        assert (reply.status_code, reply.data, reply.resumed) == (201, 0, False)
        Room.objects.create(name="hall")
        event = socket.event()
        assert (event.action, event.data) == ("change", 1)
        assert (event.request_id, event.previous) == (reply.request_id, reply.position)
        again = socket.watch("count", "rooms", since=event.position)
        assert (again.resumed, again.data) == (True, None)
        for request_id in (reply.request_id, again.request_id):
            assert socket.unwatch(request_id, "rooms").status_code == 204
        Room.objects.create(name="attic")
        assert socket.request("count", "rooms").data == 2
        assert socket.unread == []


class AsyncTests(TestCase):
    async def test_in_the_transaction(self):
        async with AsyncSocketClient(application, "/rooms/") as socket:
            reply = await socket.watch("count")
            self.assertEqual(reply.data, 0)
            await Room.objects.acreate(name="hall")
            self.assertEqual((await socket.event()).data, 1)
            ended = await socket.unwatch(reply.request_id)
            self.assertEqual(ended.status_code, 204)
