"""The change from a consumer to a viewset, as `docs/migrating.md` describes it."""

from __future__ import annotations

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from djangochannelsrestframework.consumers import view_as_consumer
from djangochannelsrestframework.decorators import action as consumer_action
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from djangochannelsrestframework.mixins import (
    CreateModelMixin,
    DeleteModelMixin,
    ListModelMixin,
    PatchModelMixin,
    RetrieveModelMixin,
    UpdateModelMixin,
)
from djangochannelsrestframework.observer import model_observer
from djangochannelsrestframework.observer.generics import ObserverModelInstanceMixin
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission

from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room, Sensor
from tests.support.talk import talking_to

pytestmark = pytest.mark.django_db


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name"]


class Noting(BasePermission):
    """Notes the verbs that it is asked about, and the rows."""

    verbs: list[str] = []
    rows: list[Room] = []

    def has_permission(self, request, view):
        self.verbs.append(request.method)
        return True

    def has_object_permission(self, request, view, obj):
        self.rows.append(obj)
        return True


class Before(
    ListModelMixin,
    RetrieveModelMixin,
    CreateModelMixin,
    UpdateModelMixin,
    PatchModelMixin,
    DeleteModelMixin,
    GenericAsyncAPIConsumer,
):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    permission_classes = [Noting]


class After(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    permission_classes = [Noting]


router = DefaultRouter()
router.register("before", Before)
router.register("after", After)


# Beyond what the database numbers by itself.
ROW = 1_000_000


@pytest.mark.parametrize(
    ("frame", "verb_before", "verb_after"),
    [
        ({"action": "list"}, "GET", "GET"),
        ({"action": "retrieve", "pk": ROW}, "GET", "GET"),
        ({"action": "create", "data": {"id": 9, "name": "attic"}}, "PUT", "POST"),
        ({"action": "update", "pk": ROW, "data": {"name": "attic"}}, "PATCH", "PUT"),
        ({"action": "patch", "pk": ROW, "data": {"name": "attic"}}, "PATCH", "PATCH"),
        ({"action": "delete", "pk": ROW}, "DELETE", "DELETE"),
        ({"action": "create", "data": {}}, "PUT", "POST"),
        ({"action": "update", "pk": ROW, "data": {"name": "a b"}}, "PATCH", "PUT"),
        ({"action": "nonsense"}, "NONSENSE", "GET"),
    ],
)
def test_the_same_frame_has_the_same_reply_by_another_verb(frame, verb_before, verb_after):
    replies = {}
    for stream, verb in [("before", verb_before), ("after", verb_after)]:
        Room.objects.all().delete()
        Room.objects.create(pk=ROW, name="lobby")
        with SocketClient(router.as_asgi()) as socket:
            reply = socket.request(stream=stream, request_id="r", **frame)
        assert Noting.verbs[-1] == verb
        replies[stream] = {k: v for k, v in reply.payload.items() if k not in ("codes", "headers")}
        if reply.status_code == 201:
            replies[stream]["data"].pop("id")
    assert replies["before"] == replies["after"]


def test_object_permissions_are_asked_by_viewsets_alone():
    room = Room.objects.create(name="lobby")
    Noting.rows.clear()
    with SocketClient(router.as_asgi()) as socket:
        socket.retrieve("before", room.pk)
        assert Noting.rows == []
        socket.retrieve("after", room.pk)
        assert Noting.rows == [room]


@pytest.mark.parametrize(
    ("payload", "status"), [({"action": "retrieve"}, 400), ({"action": "list", "self": 1}, 200)]
)
def test_what_closed_the_socket_closes_a_hosted_stream_and_no_viewset(payload, status):
    with SocketClient(router.as_asgi()) as socket:
        for stream, expected in [("after", status), ("before", 500)]:
            socket.send_text(json.dumps({"stream": stream, "payload": payload}))
            assert socket.receive()["payload"]["response_status"] == expected
        assert socket.list("after").status_code == 200
        assert socket.list("before").codes == ["stream_closed"]


def test_a_view_as_consumer_is_refused_with_what_to_do():
    shared = view_as_consumer(After.as_view({"get": "list"}))
    with pytest.raises(ImproperlyConfigured, match="viewset class"):
        DefaultRouter().register("rooms", shared)


class SensorSerializer(serializers.ModelSerializer):
    class Meta:
        model = Sensor
        fields = ["id", "name"]


class Observed(ObserverModelInstanceMixin, GenericAsyncAPIConsumer):
    queryset = Sensor.objects.all()
    serializer_class = SensorSerializer

    @model_observer(Sensor, serializer_class=SensorSerializer)
    async def activity(self, message, action, subscribing_request_ids, **kwargs):
        for request_id in subscribing_request_ids:
            await self.reply(data=message, action=action, request_id=request_id)

    @activity.groups_for_signal
    def activity(self, instance, **kwargs):
        yield f"name-{instance.name}"

    @activity.groups_for_consumer
    def activity(self, name, **kwargs):
        yield f"name-{name}"

    @consumer_action()
    async def subscribe_to_name(self, name, request_id, **kwargs):
        await self.activity.subscribe(name=name, request_id=request_id)
        return None, 201


class Subscribed(ModelConsumerViewSet):
    queryset = Sensor.objects.order_by("id")
    serializer_class = SensorSerializer
    permission_classes = []
    filterset_fields = ["name"]

    @action(detail=False)
    def subscribe_to_name(self, request):
        return self.subscribe(request)


live_router = DefaultRouter()
live_router.register("observed", Observed)
live_router.register("subscribed", Subscribed)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("stream", ["observed", "subscribed"])
def test_the_frames_that_subscribe_and_their_events_stay(stream):
    async def story():
        door = await sync_to_async(Sensor.objects.create)(name="door")
        pk = door.pk
        async with talking_to(live_router.as_asgi()) as socket:
            frame = {"action": "subscribe_instance", "stream": stream, "pk": pk}
            await socket.send(**frame, request_id="row")
            told = [await socket.receive()]
            await sync_to_async(door.save)()
            told.append(await socket.receive())
            await socket.send("subscribe_to_name", stream, name="window", request_id="all")
            told.append(await socket.receive())
            await sync_to_async(Sensor.objects.create)(name="gate")
            window = await sync_to_async(Sensor.objects.create)(name="window")
            told.append(await socket.receive())
            await sync_to_async(door.delete)()
            told.append(await socket.receive())
        assert [without_positions(payload) for payload in told] == [
            said("subscribe_instance", 201, None, "row"),
            said("update", 200, {"id": pk, "name": "door"}, "row"),
            said("subscribe_to_name", 201, None, "all"),
            said("create", 200, {"id": window.pk, "name": "window"}, "all"),
            said("delete", 204, {"pk": pk}, "row"),
        ]

    asyncio.run(story())


def without_positions(payload):
    own = ("position", "previous", "resumed")
    return {key: value for key, value in payload.items() if key not in own}


def said(action, status, data, request_id):
    return {
        "errors": [],
        "data": data,
        "action": action,
        "response_status": status,
        "request_id": request_id,
    }
