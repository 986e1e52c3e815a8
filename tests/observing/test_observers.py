"""Observers learn about frames, sockets, subscriptions and passes."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from rest_framework import authentication, permissions, serializers
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from rest_channels.consumers import WebsocketConsumers, consumer
from rest_channels.observing.observers import Observer, observers
from rest_channels.observing.reports import RefusalReason
from rest_channels.protocol import CloseCode
from rest_channels.routers import DefaultRouter
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room
from tests.support.consumer_talk import open_socket
from tests.support.recorded_changes import forget_log
from tests.support.subscription_stories import ByHeader, run, told, written
from tests.support.talk import talking_to
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


class Notes(Observer):
    """Remembers all reports, by hook."""

    def __init__(self):
        self.frames, self.sockets, self.refused = [], [], []
        self.subscribed, self.unsubscribed, self.passes, self.told = [], [], [], []

    def on_closed(self, report):
        self.sockets.append(report)

    def on_refused(self, report):
        self.refused.append(report)

    def on_frame(self, report):
        self.frames.append(report)

    def on_subscribed(self, report):
        self.subscribed.append(report)

    def on_unsubscribed(self, report):
        self.unsubscribed.append(report)

    def on_pass(self, report):
        self.passes.append(report)

    def on_told(self, report):
        self.told.append(report)

    @property
    def answered(self):
        return [(report.operation, report.status) for report in self.frames]


@contextmanager
def observing(observer):
    observers.add(observer)
    try:
        yield observer
    finally:
        observers.remove(observer)


@pytest.fixture
def notes(transactional_db):
    forget_log()
    with observing(Notes()) as found:
        yield found


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["name", "is_staff_only"]


class Refuses(BaseThrottle):
    def allow_request(self, request, view):
        return False


class Rooms(ModelConsumerViewSet):
    queryset = Room.objects.order_by("pk")
    serializer_class = RoomSerializer
    authentication_classes = [ByHeader]
    permission_classes = []

    @action(detail=False)
    def items(self, request):
        yield "one"
        yield "two"

    @action(detail=False)
    def broken(self, request):
        raise RuntimeError("secret")

    @action(detail=False, throttle_classes=[Refuses])
    def limited(self, request):
        return Response()

    @action(detail=False)
    async def forever(self, request):
        await asyncio.Event().wait()

    @action(detail=False)
    def slow(self, request):
        time.sleep(0.05)
        return Response()


class Members(Rooms):
    authentication_classes = [authentication.SessionAuthentication]
    permission_classes = [permissions.IsAuthenticated]


router = DefaultRouter()
router.register("rooms", Rooms)
application = router.as_asgi()

members = DefaultRouter()
members.register("members", Members)


# Frames


def test_a_frame_is_reported_once(notes):
    ann = User.objects.create(username="ann")
    Room.objects.create(name="lobby")

    async def story():
        async with told(application, user=ann) as socket:
            text = json.dumps({"stream": "rooms", "payload": {"action": "list", "request_id": "7"}})
            await socket.send_text(text)
            reply = (await socket.output())["text"]
            [report] = notes.frames
            assert (report.stream, report.action, report.operation) == ("rooms", "list", "list")
            assert (report.verb, report.status, report.request_id) == ("get", 200, "7")
            assert (report.bytes_in, report.bytes_out) == (len(text), len(reply))
            assert report.user_pk == ann.pk
            # The user, and the rows.
            assert report.queries == 2
            assert 0 < report.thread_seconds < report.seconds
            assert report.is_sent and not (report.is_throttled or report.is_replayed)

    run(story)


@pytest.mark.parametrize(
    ("payload", "operation", "status"),
    [
        ({"action": "retrieve", "pk": 99}, "retrieve", 404),
        ({"action": "patch", "pk": 99, "data": {}}, "partial_update", 404),
        ({"action": "no-such-action"}, "other", 405),
        ({"action": "metadata"}, "metadata", 200),
        ({"action": "ping"}, "ping", 200),
        ({"action": "cancel"}, "cancel", 400),
        ({"action": "authenticate"}, "authenticate", 400),
        ({"action": "unsubscribe"}, "unsubscribe", 204),
        ({"action": "watch"}, "watch", 400),
        ({"action": "list", "query": 1}, "other", 400),
        ({"action": "limited"}, "limited", 429),
    ],
)
def test_every_way_to_answer_is_reported(notes, payload, operation, status):
    async def story():
        async with told(application) as socket:
            await socket.ask(**payload, stream="rooms", request_id=1)
            assert notes.answered == [(operation, status)]
            assert notes.frames[0].is_throttled == (status == 429)
            assert notes.frames[0].request_id == 1

    run(story)


@pytest.mark.parametrize("text", ["[", "[]", '{"stream": "nowhere", "payload": {"action": "x"}}'])
def test_messages_to_no_stream_are_reported(notes, text):
    async def story():
        async with told(application) as socket:
            await socket.send_text(text)
            await socket.receive()
            [report] = notes.frames
            assert (report.stream, report.operation) == (None, "other")
            assert report.status in (400, 404)

    run(story)


def test_each_item_of_a_generator_is_counted(notes):
    async def story():
        async with told(application) as socket:
            await socket.send("items", "rooms")
            sent = [(await socket.output())["text"] for _ in range(3)]
            [report] = notes.frames
            assert (report.status, report.parts) == (200, 2)
            assert report.bytes_out == sum(map(len, sent))

    run(story)


def test_an_error_has_the_id_of_the_log(notes, caplog):
    async def story():
        async with told(application) as socket:
            reply = await socket.ask("broken", "rooms")
            [report] = notes.frames
            assert report.error_id in reply["errors"][0]
            assert report.error_id == caplog.records[-1].error_id

    run(story)


def test_a_frame_that_waits_for_a_thread_says_so(notes, settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 1}

    async def story():
        async with told(application) as one, told(application) as two:
            await one.send("slow", "rooms")
            await two.send("slow", "rooms")
            await one.receive()
            await two.receive()
            first, second = notes.frames
            assert second.thread_seconds > 0.04 > first.thread_seconds

    run(story)


def test_a_fence_and_a_replay_are_noted(notes):
    ann = User.objects.create(username="ann")

    async def story():
        async with told(application, user=ann) as socket:
            write = {"data": {"name": "lobby"}, "idempotency_key": "k", "fence": True}
            await socket.ask("create", "rooms", **write)
            await socket.ask("create", "rooms", **write)
            first, again = notes.frames
            assert (first.is_replayed, again.is_replayed) == (False, True)
            assert first.fence_seconds > 0
            assert (first.status, again.status) == (201, 201)

    run(story)


def test_a_frame_whose_client_has_gone_is_reported_as_given_up(notes):
    async def story():
        async with told(application) as socket:
            await socket.send("forever", "rooms")
            await socket.ask("ping", "rooms")
        assert notes.answered == [("ping", 200), ("forever", 499)]
        assert not notes.frames[1].is_sent

    run(story)


def test_a_message_to_consumers_is_reported(notes):
    class Echo(WebsocketConsumers):
        authentication_classes = []

        @consumer(command="echo")
        def echo(self, message):
            self.reply("hello")

    async def story():
        async with open_socket(Echo.as_routes()) as socket:
            assert await socket.ask({"command": "echo"}) == "hello"
            await until(lambda: notes.frames)
            [report] = notes.frames
            assert (report.operation, report.status) == ("receive", 200)
            assert report.bytes_out > 0

    run(story)


# Sockets


def test_the_end_of_a_socket_is_reported(notes):
    async def story():
        async with told(application, "/rooms/"):
            pass
        [report] = notes.sockets
        assert (report.path, report.stream, report.code) == ("/rooms/", "rooms", 1000)
        assert report.seconds > 0

    run(story)


def test_a_code_that_the_server_closes_with_is_reported(notes, settings):
    settings.REST_CHANNELS = {"MAX_SUBSCRIPTION_ROWS": 1}

    async def story():
        async with told(application) as socket:
            await socket.send_text("x" * 100_000)
            assert await socket.closed_with() == CloseCode.FRAME_TOO_LONG
        assert notes.sockets[0].code == CloseCode.FRAME_TOO_LONG

    run(story)


@pytest.mark.parametrize(
    ("served", "path", "headers", "reason"),
    [
        (application, "/nowhere/", {}, RefusalReason.NO_SUCH_ROUTE),
        (application, "/", {"origin": "http://evil.example"}, RefusalReason.ORIGIN),
        (members.as_asgi(), "/members/", {}, RefusalReason.NOT_AUTHENTICATED),
    ],
)
def test_a_refused_handshake_is_reported(notes, served, path, headers, reason):
    async def story():
        communicator = talking_to(served, path, headers)
        try:
            async with communicator as socket:
                await socket.closed_with()
        except AssertionError:
            # Before it was accepted.
            assert reason is RefusalReason.ORIGIN
        [report] = notes.refused
        assert (report.path, report.reason) == (path, reason)
        assert notes.sockets == []

    run(story)


# Subscriptions and passes


def test_a_subscription_and_its_passes_are_reported(notes):
    async def story():
        async with told(application) as socket:
            await socket.ask("subscribe", "rooms", request_id="s")
            [begun] = notes.subscribed
            assert (begun.stream, begun.operation) == ("rooms", "subscribe")
            assert (begun.request_id, begun.is_watch, begun.is_resumed) == ("s", False, False)
            assert notes.answered == [("subscribe", 201)]
            notes.told.clear()
            await written(Room.objects.create, name="lobby")
            await socket.receive()
            await until(lambda: any(report.changes for report in notes.told))
            [found] = [report for report in notes.told if report.changes]
            assert (found.database, found.changes) == ("default", 1)
            assert (found.audiences, found.subscriptions) == (1, 1)
            assert found.seconds > 0 and found.telling_seconds > 0
            await socket.ask("unsubscribe", "rooms", request_id="s")
            assert notes.unsubscribed == [begun]
            assert begun.seconds > 0 and begun.status is None

    run(story)


def test_a_watch_is_reported(notes):
    async def story():
        async with told(application) as socket:
            await socket.ask("watch", "rooms", request_id="w", of="list")
            [begun] = notes.subscribed
            assert begun.is_watch
        assert notes.unsubscribed == [begun]

    run(story)


# Observers


def test_an_observer_that_fails_breaks_nothing(notes, caplog):
    class Fails(Observer):
        def on_frame(self, report):
            raise ValidationError("no")

    async def story():
        async with told(application) as socket:
            assert (await socket.ask("list", "rooms"))["response_status"] == 200

    with observing(Fails()):
        run(story)
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert notes.answered == [("list", 200)]


def test_what_a_frame_sets_as_it_begins_holds_in_its_thread():
    seen = {}

    class Marks(Observer):
        def on_frame_begun(self, report):
            seen[report.action] = threading.current_thread().name

    async def story():
        async with told(application) as socket:
            await socket.ask("list", "rooms")
            await socket.ask("ping", "rooms")

    with observing(Marks()):
        run(story)
    # Not the frame that the connection answers at once.
    assert seen == {"list": threading.main_thread().name}


def test_without_an_observer_no_report_is_made():
    made = []

    class Watched(Rooms):
        def list(self, request):
            made.append(request._request.frame.report)
            return Response()

    routes = DefaultRouter()
    routes.register("rooms", Watched)

    async def story():
        async with told(routes.as_asgi()) as socket:
            await socket.ask("list", "rooms")

    run(story)
    assert made == [None]
