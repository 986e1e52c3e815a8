"""Which viewsets can be subscribed to, and by which actions: `rest_channels.mixins`."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer
from rest_framework.viewsets import GenericViewSet, ModelViewSet, ReadOnlyModelViewSet, ViewSet

from rest_channels.routers import SimpleRouter
from rest_channels.sockets.streams import Stream
from rest_channels.viewsets import (
    ConsumerViewSet,
    ModelConsumerViewSet,
    ReadOnlyModelConsumerViewSet,
    as_consumer,
)
from tests.models import Room, Seat
from tests.support.room_viewsets import RoomSerializer
from tests.support.subscription_stories import (
    event,
    nothing_more,
    routes,
    run,
    subscribed,
    told,
    written,
)

pytestmark = pytest.mark.django_db(transaction=True)


class Rooms:
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    permission_classes = []
    authentication_classes = []


BOTH = {"subscribe", "subscribe_instance"}


def offers(viewset: type) -> set[str]:
    stream = Stream(as_consumer(viewset), "rooms", "room", SimpleRouter())
    return BOTH & stream.actions.keys()


class Narrow(Rooms, ModelViewSet):
    def list(self, request):
        return Response([])


class Bare(Rooms, ConsumerViewSet):
    @action(detail=False)
    def ping(self, request):
        return Response()


class Fetching(Rooms, ModelViewSet):
    def get_object(self):
        return Room.objects.first()


@pytest.mark.parametrize(
    ("viewset", "offered"),
    [
        (type("Ours", (Rooms, ModelConsumerViewSet), {}), BOTH),
        (type("OursToRead", (Rooms, ReadOnlyModelConsumerViewSet), {}), BOTH),
        (type("OursToList", (Rooms, ListModelMixin, ConsumerViewSet), {}), {"subscribe"}),
        (Bare, set()),
        (type("Drfs", (Rooms, ModelViewSet), {}), BOTH),
        (type("DrfsToRead", (Rooms, ReadOnlyModelViewSet), {}), BOTH),
        (type("DrfsToList", (Rooms, ListModelMixin, GenericViewSet), {}), {"subscribe"}),
        (type("NotLive", (Rooms, ModelViewSet), {"live": False}), set()),
        (Narrow, {"subscribe_instance"}),
        (type("SaidToBe", (Narrow,), {"live": True}), BOTH),
        (Fetching, {"subscribe"}),
        (type("Plain", (ViewSet,), {"list": lambda self, request: Response([])}), set()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_who_offers_what(viewset, offered):
    assert offers(viewset) == offered


def test_what_is_not_offered_is_405():
    class NotLive(Rooms, ModelViewSet):
        live = False

    async def story():
        async with told(routes(as_consumer(NotLive))) as socket:
            reply = await socket.ask("subscribe", request_id=1)
            assert reply["response_status"] == 405

    run(story)


def test_a_viewsets_own_subscribe_stays_its_own():
    class Newsletter(Rooms, ModelViewSet):
        @action(detail=False, methods=["post"])
        def subscribe(self, request):
            return Response({"subscribed": request.data["email"]})

    async def story():
        async with told(routes(as_consumer(Newsletter))) as socket:
            reply = await socket.ask("subscribe", data={"email": "a@example.com"}, request_id=1)
            assert reply["data"] == {"subscribed": "a@example.com"}

    run(story)


class OnlyFollowers(BasePermission):
    def has_permission(self, request, view):
        return view.action == "follow"


class FollowedRooms(Rooms, ModelConsumerViewSet):
    def get_queryset(self):
        rooms = super().get_queryset()
        return rooms.filter(is_staff_only=False) if self.action == "follow" else rooms

    @action(detail=False, permission_classes=[OnlyFollowers])
    def follow(self, request):
        return self.subscribe(request)


def test_an_action_of_ones_own_subscribes_with_its_own_permissions_and_queryset():
    async def story():
        async with told(routes(FollowedRooms)) as socket:
            reply = await socket.ask("follow", request_id="f", snapshot=True)
            assert (reply["response_status"], reply["data"]) == (201, [])
            await written(Room.objects.create, name="secret", is_staff_only=True)
            lobby = await written(Room.objects.create, name="lobby")
            assert await event(socket) == ("create", {"id": lobby.pk, "name": "lobby"})

    run(story)


def test_several_actions_of_ones_own_subscribe_at_once():
    class SplitRooms(Rooms, ModelConsumerViewSet):
        def get_queryset(self):
            kept = {"for_staff": True, "for_all": False}.get(self.action)
            rooms = super().get_queryset()
            return rooms if kept is None else rooms.filter(is_staff_only=kept)

        @action(detail=False)
        def for_staff(self, request):
            return self.subscribe(request)

        @action(detail=False)
        def for_all(self, request):
            return self.subscribe(request)

        @action(detail=True)
        def this_one(self, request, pk):
            return self.subscribe_instance(request)

    async def story():
        room = await written(Room.objects.create, name="lobby")
        async with told(routes(SplitRooms)) as socket:
            for name, keys in (("for_staff", {}), ("for_all", {}), ("this_one", {"pk": room.pk})):
                reply = await socket.ask(name, request_id=name, snapshot=True, **keys)
                assert (reply["response_status"], reply["action"]) == (201, name)
            room.is_staff_only = True
            await written(room.save)
            events = [await socket.receive() for _ in range(3)]
            told_of = {event["request_id"]: event["action"] for event in events}
            assert told_of == {"for_staff": "create", "for_all": "delete", "this_one": "update"}
            reply = await socket.ask("unsubscribe", request_id="for_staff")
            assert reply["response_status"] == 204
            await written(room.save)
            assert (await socket.receive())["request_id"] == "this_one"
            await written(Room.objects.create, name="attic")
            assert (await socket.receive())["request_id"] == "for_all"

    run(story)


def test_subscribe_is_list_to_the_viewset():
    seen = []

    class Seen(BasePermission):
        def has_permission(self, request, view):
            seen.append((view.action, request.method, view.detail))
            return True

    class SeenRooms(Rooms, ModelConsumerViewSet):
        permission_classes = [Seen]

    async def story():
        room = await written(Room.objects.create, name="lobby")
        async with told(routes(SeenRooms)) as socket:
            seen.clear()
            await subscribed(socket)
            assert set(seen) == {("list", "GET", False)}
            seen.clear()
            reply = await socket.ask("subscribe_instance", pk=room.pk, request_id=2)
            assert reply["response_status"] == 201
            assert set(seen) == {("retrieve", "GET", True)}

    run(story)


def test_a_row_that_is_not_there_is_404():
    class AllRooms(Rooms, ModelConsumerViewSet):
        pass

    async def story():
        async with told(routes(AllRooms)) as socket:
            reply = await socket.ask("subscribe_instance", pk=17, request_id=1)
            assert reply["response_status"] == 404

    run(story)


@pytest.mark.parametrize("keys", [{"snapshot": 1}, {"held": "all"}, {"held": [[1]]}])
def test_wrong_keys_are_400(keys):
    class AllRooms(Rooms, ModelConsumerViewSet):
        pass

    async def story():
        async with told(routes(AllRooms)) as socket:
            reply = await socket.ask("subscribe", request_id=1, **keys)
            assert reply["response_status"] == 400
            assert reply["errors"][0].keys() == keys.keys()

    run(story)


def test_models_that_are_not_captured_are_refused(settings, caplog):
    settings.REST_CHANNELS = {"CAPTURE_MODELS": ["auth"]}

    class AllRooms(Rooms, ModelConsumerViewSet):
        pass

    async def story():
        async with told(routes(AllRooms)) as socket:
            reply = await socket.ask("subscribe", request_id=1)
            assert reply["response_status"] == 500

    run(story)
    assert "CAPTURE_MODELS" in caplog.text


def test_too_many_rows_are_400(settings):
    settings.REST_CHANNELS = {"MAX_SUBSCRIPTION_ROWS": 2}

    class AllRooms(Rooms, ModelConsumerViewSet):
        filterset_fields = ["name"]

    async def story():
        for name in ("a", "b", "c"):
            await written(Room.objects.create, name=name)
        async with told(routes(AllRooms)) as socket:
            reply = await socket.ask("subscribe", request_id=1)
            assert (reply["response_status"], reply["codes"]) == (400, ["too_many_rows"])
            assert len(await subscribed(socket, query={"name": "a"})) == 1

    run(story)


def test_too_many_subscriptions_are_503(settings):
    settings.REST_CHANNELS = {"MAX_SUBSCRIPTIONS": 1}

    class AllRooms(Rooms, ModelConsumerViewSet):
        pass

    async def story():
        async with told(routes(AllRooms)) as socket:
            await subscribed(socket, request_id=1)
            reply = await socket.ask("subscribe", request_id=2)
            assert (reply["response_status"], reply["codes"]) == (503, ["too_many_subscriptions"])
            # The same again takes the place of the first.
            await subscribed(socket, request_id=1)
            await socket.ask("unsubscribe", request_id=1)
            await subscribed(socket, request_id=2)

    run(story)


def test_unsubscribing_is_always_answered():
    class AllRooms(Rooms, ModelConsumerViewSet):
        pass

    async def story():
        room = await written(Room.objects.create, name="lobby")
        async with told(routes(AllRooms)) as socket:
            for keys in ({"request_id": "none"}, {"pk": 17}):
                assert (await socket.ask("unsubscribe", **keys))["response_status"] == 204
            await socket.ask("subscribe_instance", pk=room.pk, request_id="row")
            await subscribed(socket)
            reply = await socket.ask("unsubscribe_instance", pk=room.pk, request_id="bye")
            assert reply["response_status"] == 204
            room.name = "attic"
            await written(room.save)
            payload = await socket.receive()
            assert (payload["request_id"], payload["action"]) == ("s", "update")
            await written(room.delete)
            assert (await socket.receive())["request_id"] == "s"
            await nothing_more(socket, lambda: Room.objects.create(name="fence"))

    run(story)


class SeatSerializer(ModelSerializer):
    class Meta:
        model = Seat
        fields = ["row", "number"]


class Seats(Rooms, ModelConsumerViewSet):
    """Each is known by two columns."""

    queryset = Seat.objects.order_by("row", "number")
    serializer_class = SeatSerializer


class SeatsOfAnUnknownModel(Seats):
    queryset = None

    def get_queryset(self):
        return Seat.objects.order_by("row", "number")


class Paper(models.Model):
    pk_of_paper = models.JSONField(primary_key=True)

    class Meta:
        app_label = "tests"
        managed = False


class PaperSerializer(ModelSerializer):
    class Meta:
        model = Paper
        fields = ["pk_of_paper"]


class SeatsOfPaper(Seats):
    """Each is known by a document, of which there are many texts."""

    queryset = Paper.objects.all()
    serializer_class = PaperSerializer


@pytest.mark.parametrize("viewset", [Seats, SeatsOfAnUnknownModel, SeatsOfPaper])
@pytest.mark.parametrize("live", [None, True])
def test_rows_of_a_composite_key_are_refused_when_routes_are_made(viewset, live):
    viewset = type(viewset.__name__, (viewset,), {"live": live})
    with pytest.raises(ImproperlyConfigured, match="set live = False on Seats"):
        viewset.as_routes("seats", "seat")


def test_rows_of_a_composite_key_are_listed():
    async def story():
        for number in (1, 2, 3):
            await written(Seat.objects.create, row="A", number=number)
        viewset = type("Quiet", (Seats,), {"live": False})
        async with told(routes(viewset)) as socket:
            reply = await socket.ask("list")
            assert [seat["number"] for seat in reply["data"]] == [1, 2, 3]
            assert (await socket.ask("subscribe"))["response_status"] == 405

    run(story)


def test_rows_of_a_composite_key_that_no_class_names_are_refused_to_subscribers():
    class Hidden(SeatsOfAnUnknownModel):
        serializer_class = None

        def get_serializer_class(self):
            return SeatSerializer

    async def story():
        async with told(routes(Hidden)) as socket:
            reply = await socket.ask("subscribe")
            assert (reply["response_status"], reply["codes"]) == (400, ["cannot_subscribe"])

    run(story)
