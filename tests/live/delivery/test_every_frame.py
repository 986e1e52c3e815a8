"""Every frame has one final reply, and what is about one subscription is done in its order."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.decorators import action

from rest_channels.consumers import ModelSubscribeConsumers
from rest_channels.routers import DefaultRouter
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room
from tests.support.consumer_talk import open_socket
from tests.support.gates import Gate
from tests.support.room_viewsets import RoomSerializer
from tests.support.subscription_stories import routes, told, written
from tests.support.talk import happened

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = {"create", "update", "delete", "sync", "alive", "reset", "created", "updated", "deleted"}


class RoomViewSet(ModelConsumerViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    permission_classes = []
    max_in_flight = 4

    def get_queryset(self):
        # As long as the client likes: replies come in any order.
        threading.Event().wait(int(self.request.query_params.get("pause", 0)) / 1000)
        return super().get_queryset()

    @action(detail=False)
    def follow(self, request):
        return self.subscribe(request)

    @action(detail=False)
    async def wait(self, request):
        await asyncio.Event().wait()


class OneByOneViewSet(RoomViewSet):
    max_in_flight = 1


def own(viewset):
    return lambda: told(routes(viewset))


def root(viewset):
    router = DefaultRouter()
    router.register("rooms", viewset, "rooms")
    return lambda: told(router.as_asgi())


def consumers(max_in_flight):
    served = ModelSubscribeConsumers.as_routes(
        path="/rooms/", model=Room, max_in_flight=max_in_flight
    )
    return lambda: open_socket(served, "/rooms/")


SOCKETS = {
    "own, 1": (own(OneByOneViewSet), None),
    "own, 4": (own(RoomViewSet), None),
    "root, 1": (root(OneByOneViewSet), "rooms"),
    "root, 4": (root(RoomViewSet), "rooms"),
    "consumers, 1": (consumers(1), None),
    "consumers, 4": (consumers(4), None),
}

names = st.sampled_from(["a", "b", 1, "1", None])
frames = st.one_of(
    st.fixed_dictionaries(
        {
            "action": st.sampled_from(["subscribe", "follow", "list", "unsubscribe", "nothing"]),
            "request_id": names,
            "query": st.fixed_dictionaries({"pause": st.integers(0, 6)}),
        }
    ),
    st.fixed_dictionaries(
        {
            "action": st.sampled_from(
                ["subscribe_instance", "unsubscribe_instance", "retrieve", "partial_update"]
            ),
            "request_id": names,
            "pk": st.sampled_from([1, 2]),
            "data": st.just({"name": "renamed"}),
            "query": st.fixed_dictionaries({"pause": st.integers(0, 6)}),
        }
    ),
    st.fixed_dictionaries(
        {
            "action": st.just("cancel"),
            "request_id": names,
            "data": st.fixed_dictionaries({"request_id": names}),
        }
    ),
    st.fixed_dictionaries({"request_id": names}),
)


async def final_replies(socket, count):
    """The next `count` messages that answer a frame."""
    replies = []
    while len(replies) < count:
        payload = await socket.receive()
        if payload["action"] not in EVENTS:
            replies.append(payload)
    return replies


def named(payload):
    return payload.get("action"), json.dumps(payload["request_id"])


@pytest.mark.parametrize("kind", SOCKETS)
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(sent=st.lists(frames, min_size=2, max_size=12))
def test_every_frame_is_answered_once(kind, sent):
    opened, stream = SOCKETS[kind]
    Room.objects.all().delete()
    Room.objects.create(pk=1, name="lobby")

    async def story():
        async with opened() as socket:
            for payload in sent:
                message = payload if stream is None else {"stream": stream, "payload": payload}
                await socket.send_text(json.dumps(message))
            replies = await final_replies(socket, len(sent))
            assert Counter(map(named, replies)) == Counter(map(named, sent))
            last = await last_reply(socket, stream)
            assert last["request_id"] == "last"

    async def last_reply(socket, stream):
        await socket.send("list", stream, request_id="last")
        [reply] = await final_replies(socket, 1)
        return reply

    asyncio.run(story())


subscriptions = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["subscribe", "follow", "unsubscribe"]),
        "request_id": st.sampled_from(["a", "b", "c"]),
        "query": st.fixed_dictionaries({"pause": st.integers(0, 6)}),
    }
)


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(sent=st.lists(subscriptions, min_size=2, max_size=12))
def test_the_last_frame_about_a_subscription_decides(sent):
    last = {payload["request_id"]: payload["action"] for payload in sent}

    async def story():
        async with told(routes(RoomViewSet)) as socket:
            for payload in sent:
                await socket.send(**payload)
            await final_replies(socket, len(sent))
            room = await written(Room.objects.create, name=uuid.uuid4().hex[:20])
            await told_of(socket, room, {id for id in last if last[id] != "unsubscribe"})

    async def told_of(socket, room, ids):
        reached = set()
        while reached != ids:
            payload = await socket.receive()
            assert payload["data"]["name"] == room.name
            assert payload["request_id"] not in reached
            reached.add(payload["request_id"])
        assert (await socket.ask("list", request_id="last"))["request_id"] == "last"

    asyncio.run(story())


# One by one: the first waits in its thread, the second would overtake it


class GatedViewSet(RoomViewSet):
    gate: Gate

    def get_queryset(self):
        if "gate" in self.request.query_params:
            self.gate.pass_through()
        return super().get_queryset()


@pytest.fixture
def gate():
    GatedViewSet.gate = Gate()
    return GatedViewSet.gate


SECOND = [("subscribe", 201), ("unsubscribe", 204), ("unsubscribe_instance", 204)]


@pytest.mark.parametrize("second, status", SECOND)
def test_what_overtakes_a_subscription_waits_for_it(gate, second, status):
    async def story():
        async with told(routes(GatedViewSet)) as socket:
            await socket.send("subscribe", request_id="x", query={"gate": 1})
            await happened(gate.reached)
            await socket.send(second, request_id="x")
            # It has another name, so it is not about that subscription.
            other = await socket.ask("list", request_id="y")
            assert other["request_id"] == "y"
            gate.opened.set()
            first, then = await socket.receive(), await socket.receive()
            assert (first["action"], first["response_status"]) == ("subscribe", 201)
            assert (then["action"], then["response_status"]) == (second, status)

    asyncio.run(story())


def test_nothing_waits_for_an_action_that_may_go_on_for_ever():
    async def story():
        async with told(routes(RoomViewSet)) as socket:
            await socket.send("wait", request_id="x")
            assert (await socket.ask("subscribe", request_id="x"))["response_status"] == 201

    asyncio.run(story())
