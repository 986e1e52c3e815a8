"""`watch`: an action that GET reaches, which answers again when a table that it read changes."""

from __future__ import annotations

import pytest
from django.db.models import Count
from rest_framework import pagination, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.decorators import live_every
from rest_channels.routers import DefaultRouter
from tests.models import Message, Room, Tag
from tests.support.room_viewsets import RoomSerializer
from tests.support.subscription_stories import run, written
from tests.support.talk import talking_to
from tests.support.watch_stories import Runs, change, runs_settle, watched

pytestmark = pytest.mark.django_db(transaction=True)


class Pages(pagination.PageNumberPagination):
    page_size = 2


class Rooms(viewsets.ModelViewSet):
    """As any project has it."""

    queryset = Room.objects.order_by("name")
    serializer_class = RoomSerializer
    pagination_class = Pages
    authentication_classes = []
    permission_classes = []

    @action(detail=False)
    def busiest(self, request):
        rooms = Room.objects.annotate(messages_count=Count("messages"))
        return Response({room.name: room.messages_count for room in rooms.order_by("name")})

    @action(detail=False)
    @live_every(0.05)
    def served(self, request):
        """Another service counts."""
        type(self).service = getattr(self, "service", 0) + 1
        return Response(self.service)

    @action(detail=False)
    async def later(self, request):
        return Response("later")

    @action(detail=False)
    def items(self, request):
        yield 1

    @action(detail=False)
    def follow(self, request):
        return self.subscribe(request)


class OwnWatch(Rooms):
    @action(detail=False, methods=["post"])
    def watch(self, request):
        return Response("my own")

    @action(detail=False, methods=["post"])
    def unwatch(self, request):
        return Response("my own, too")


router = DefaultRouter()
router.register("rooms", Rooms, "rooms")
router.register("own", OwnWatch, "own")
application = router.as_asgi()


def names(page):
    return page["count"], [room["name"] for room in page["results"]]


def test_a_page_that_stays_up_to_date():
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            reply = await watched(socket, query={"page": 1})
            assert (reply["action"], reply["request_id"]) == ("watch", "w")
            assert names(reply["data"]) == (0, [])
            assert reply["resumed"] is False
            await written(Room.objects.create, name="hall")
            event = await socket.receive()
            assert event["action"], event["response_status"] == ("change", 200)
            assert (event["request_id"], event["errors"]) == ("w", [])
            assert names(event["data"]) == (1, ["hall"])
            assert event["previous"] == reply["position"] != event["position"]
            await written(Room.objects.update, name="attic")
            again = await socket.receive()
            assert names(again["data"]) == (1, ["attic"])
            assert again["previous"] == event["position"]

    run(story)


def test_a_row_until_it_is_gone():
    room = Room.objects.create(name="hall")

    async def story():
        async with talking_to(application, "/rooms/") as socket:
            reply = await watched(socket, "retrieve", pk=room.pk)
            assert reply["data"]["name"] == "hall"
            await written(Room.objects.update, name="attic")
            assert (await change(socket))["name"] == "attic"
            await written(Room.objects.all().delete)
            event = await socket.receive()
            assert (event["action"], event["response_status"]) == ("revoke", 404)
            assert (event["data"], event["request_id"]) == (None, "w")

    run(story)


def test_on_the_socket_of_a_row():
    room = Room.objects.create(name="hall")

    async def story():
        async with talking_to(application, f"/rooms/{room.pk}/") as socket:
            await watched(socket, "retrieve")
            await written(Room.objects.update, name="attic")
            assert (await change(socket))["name"] == "attic"

    run(story)


def test_on_the_root_in_an_envelope():
    async def story():
        async with talking_to(application) as socket:
            await watched(socket, stream="rooms")
            await written(Room.objects.create, name="hall")
            message = await socket.receive_message()
            assert message["stream"] == "rooms"
            assert message["payload"]["action"] == "change"

    run(story)


def test_an_action_that_counts_the_rows_of_another_table():
    room = Room.objects.create(name="hall")

    async def story():
        async with talking_to(application, "/rooms/") as socket:
            assert (await watched(socket, "busiest"))["data"] == {"hall": 0}
            await written(Message.objects.create, room=room, text="Hello")
            assert await change(socket) == {"hall": 1}

    run(story)


def test_a_table_that_was_not_read_leads_to_no_run():
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            await watched(socket)
            await runs_settle()
            runs = Runs()
            await written(Tag.objects.create, name="red")
            await runs_settle()
            assert runs.count == 0
            await written(Room.objects.create, name="hall")
            await runs_settle()
            assert runs.count == 1
            assert names(await change(socket)) == (1, ["hall"])

    run(story)


def test_an_answer_that_is_the_same_is_not_sent():
    Room.objects.create(name="a")
    Room.objects.create(name="b")

    async def story():
        async with talking_to(application, "/rooms/") as socket:
            await watched(socket)
            runs = Runs()
            # The page shows no such column.
            await written(Room.objects.update, is_staff_only=True)
            await runs_settle()
            assert runs.count >= 1
            await written(Room.objects.filter(name="b").delete)
            assert names(await change(socket)) == (1, ["a"])

    run(story)


def test_an_answer_that_no_table_shows_is_asked_for_again():
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            first = (await watched(socket, "served"))["data"]
            assert await change(socket) > first
            assert await change(socket) > first + 1

    run(story)


@pytest.mark.parametrize("seconds", [0, -1, True, "5", None])
def test_an_interval_must_be_a_number_above_0(seconds):
    with pytest.raises(ValueError, match="live_every\\(\\) takes a number of seconds above 0"):
        live_every(seconds)


def test_unwatch_ends_it_and_is_answered_always():
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            await watched(socket)
            for _ in range(2):
                reply = await socket.ask("unwatch", request_id="w")
                assert (reply["action"], reply["response_status"]) == ("unwatch", 204)
            runs = Runs()
            await written(Room.objects.create, name="hall")
            await runs_settle()
            assert runs.count == 0
            assert (await socket.ask("ping"))["action"] == "ping"

    run(story)


def test_resuming_with_the_answer_that_the_client_has():
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            since = (await watched(socket))["position"]
        async with talking_to(application, "/rooms/") as socket:
            reply = await watched(socket, since=since)
            assert (reply["resumed"], reply["data"]) == (True, None)
            assert reply["position"] == since
        await written(Room.objects.create, name="hall")
        async with talking_to(application, "/rooms/") as socket:
            reply = await watched(socket, since=since)
            assert (reply["resumed"], names(reply["data"])) == (False, (1, ["hall"]))

    run(story)


@pytest.mark.parametrize("since", ["", "x.y", 7, None, {"a": 1}])
def test_a_position_that_names_nothing_leads_to_the_answer(since):
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            reply = await watched(socket, since=since)
            assert (reply["resumed"], names(reply["data"])) == (False, (0, []))

    run(story)


def test_a_position_of_another_query_leads_to_the_answer():
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            since = (await watched(socket))["position"]
            reply = await watched(socket, query={"page": "1"}, since=since)
            assert reply["resumed"] is False

    run(story)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({}, "of"),
        ({"of": None}, "of"),
        ({"of": 7}, "of"),
        ({"of": "create"}, "of"),
        ({"of": "subscribe"}, "of"),
        ({"of": "invented"}, "of"),
        ({"of": "__class__"}, "of"),
        ({"of": "later"}, "of"),
        ({"of": "items"}, "of"),
        ({"of": "follow"}, "of"),
        ({"of": "list", "method": "post"}, "method"),
    ],
)
def test_what_cannot_be_watched(keys, named):
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            reply = await socket.ask("watch", request_id="w", **keys)
            assert reply["response_status"] == 400
            assert reply["errors"][0].keys() == {named}
            assert reply["codes"] == [{named: ["invalid"]}]
            assert "position" not in reply

    run(story)


def test_a_failed_first_run_is_answered_as_the_action():
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            reply = await socket.ask("watch", of="retrieve", pk=7, request_id="w")
            assert (reply["response_status"], reply["codes"]) == (404, ["not_found"])
            reply = await socket.ask("watch", of="retrieve", request_id="w")
            assert (reply["response_status"], reply["codes"]) == (400, [{"pk": ["required"]}])

    run(story)


def test_a_refused_watch_leaves_the_earlier_one_in_place(settings):
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            await watched(socket)
            refused = await socket.ask("watch", of="list", query={"page": 9}, request_id="w")
            assert refused["response_status"] == 404
            await written(Room.objects.create, name="hall")
            assert names(await change(socket)) == (1, ["hall"])

            await socket.ask("watch", of="list", request_id="second")
            settings.REST_CHANNELS = {"MAX_WATCHES": 1}
            refused = await socket.ask("watch", of="list", request_id="w")
            assert refused["codes"] == ["too_many_watches"]
            settings.REST_CHANNELS = {}
            await socket.ask("unwatch", request_id="second")
            await written(Room.objects.create, name="attic")
            assert names(await change(socket)) == (2, ["attic", "hall"])

    run(story)


def test_an_action_of_that_name_wins():
    async def story():
        async with talking_to(application, "/own/") as socket:
            assert (await socket.ask("watch", of="list"))["data"] == "my own"
            assert (await socket.ask("unwatch"))["data"] == "my own, too"

    run(story)


def test_an_id_names_one_watch_or_one_subscription():
    async def story():
        async with talking_to(application, "/rooms/") as socket:
            await watched(socket)
            reply = await socket.ask("subscribe", request_id="w")
            assert reply["response_status"] == 201
            await written(Room.objects.create, name="hall")
            assert (await socket.receive())["action"] == "create"
            await watched(socket)
            await written(Room.objects.create, name="attic")
            assert names(await change(socket)) == (2, ["attic", "hall"])
            reply = await socket.ask("unsubscribe", request_id="w")
            assert reply["response_status"] == 204
            # It names no subscription, so the watch goes on.
            await written(Room.objects.filter(name="hall").delete)
            assert names(await change(socket)) == (1, ["attic"])

    run(story)
