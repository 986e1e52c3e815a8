"""Bounds of watches, and failures: each has its answer."""

from __future__ import annotations

import asyncio

import pytest
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from rest_channels.live.delivery.heartbeat import SILENT_LOOKS, current_heartbeat
from rest_channels.routers import DefaultRouter
from rest_channels.settings import socket_settings
from tests.models import Room, Tag
from tests.support.gates import Gate
from tests.support.subscription_stories import run, written
from tests.support.talk import happened, talking_to
from tests.support.watch_stories import Runs, all_is_read, change, groups, runs_settle, watched

pytestmark = pytest.mark.django_db(transaction=True)


class Once(BaseThrottle):
    seen: set[str] = set()

    def allow_request(self, request, view):
        key = request.query_params["client"]
        is_first = key not in self.seen
        self.seen.add(key)
        return is_first


class Rooms(viewsets.ViewSet):
    authentication_classes = []
    permission_classes = []
    gate: Gate
    slow: Gate

    def list(self, request):
        return Response(sorted(Room.objects.values_list("name", flat=True)))

    @action(detail=False, throttle_classes=[Once])
    def metered(self, request):
        return self.list(request)

    @action(detail=False)
    def failing(self, request):
        if Room.objects.filter(name="broken").exists():
            raise RuntimeError("secret")
        if Room.objects.filter(name="invalid").exists():
            raise ValidationError("Not now.")
        return self.list(request)

    @action(detail=False)
    def waiting(self, request):
        if Room.objects.filter(name="slow").exists():
            self.slow.pass_through()
        return self.list(request)

    @action(detail=False)
    def gated(self, request):
        names = self.list(request)
        if names.data:
            self.gate.pass_through()
        return names

    @action(detail=False)
    def counting(self, request):
        """It writes to the table that it reads."""
        room, _ = Room.objects.get_or_create(name="visits")
        Room.objects.filter(pk=room.pk).update(is_staff_only=True)
        return self.list(request)


router = DefaultRouter()
router.register("rooms", Rooms, "rooms")
application = router.as_asgi()


def talking():
    return talking_to(application, "/rooms/")


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ({"MAX_WATCHES": 2}, "too_many_watches"),
        ({"MAX_SUBSCRIPTIONS": 2}, "too_many_subscriptions"),
    ],
)
def test_more_watches_than_allowed(settings, bounds, code):
    settings.REST_CHANNELS = bounds

    async def story():
        async with talking() as socket:
            await watched(socket, request_id=1)
            await watched(socket, request_id=2)
            reply = await socket.ask("watch", of="list", request_id=3)
            assert (reply["response_status"], reply["codes"]) == (503, [code])
            # One that replaces another is none more.
            await watched(socket, request_id=2)
            await socket.ask("unwatch", request_id=1)
            await watched(socket, request_id=3)

    run(story)


def test_an_answer_that_is_too_large(settings):
    settings.REST_CHANNELS = {"MAX_WATCH_BYTES": 20}

    async def story():
        async with talking() as socket:
            await watched(socket)
            await written(Room.objects.create, name="0123456789")
            assert await change(socket) == ["0123456789"]
            await written(Room.objects.create, name="9876543210")
            event = await socket.receive()
            assert (event["action"], event["response_status"]) == ("revoke", 400)
            assert (event["codes"], event["data"]) == (["too_large"], None)
            reply = await socket.ask("watch", of="list", request_id="w")
            assert (reply["response_status"], reply["codes"]) == (400, ["too_large"])
            assert reply["data"] is None
            runs = Runs()
            await written(Room.objects.all().delete)
            await runs_settle()
            assert runs.count == 0

    run(story)


def test_a_run_that_is_too_slow(settings):
    Rooms.slow = Gate()

    async def story():
        async with talking() as socket:
            await watched(socket, "waiting")
            settings.REST_CHANNELS = {"MAX_WATCH_SECONDS": 1}
            await written(Room.objects.create, name="slow")
            event = await socket.receive()
            assert (event["action"], event["response_status"]) == ("revoke", 400)
            assert event["codes"] == ["too_slow"]
            reply = await socket.ask("watch", of="waiting", request_id="w")
            assert (reply["response_status"], reply["codes"]) == (400, ["too_slow"])
            Rooms.slow.opened.set()
            assert list(groups()) == []

    run(story)


def test_an_error_leaves_it_standing(caplog):
    async def story():
        async with talking() as socket:
            await watched(socket, "failing")
            await written(Room.objects.create, name="broken")
            await runs_settle()
            await written(Room.objects.update, name="invalid")
            await runs_settle()
            await written(Room.objects.update, name="hall")
            assert await change(socket) == ["hall"]

    run(story)
    logged = [r.getMessage() for r in caplog.records if "A watch of Rooms.failing" in r.message]
    assert ["status 500" in logged[0], "status 400" in logged[-1]] == [True, True]


def test_ten_failures_in_a_row_end_it():
    async def story():
        async with talking() as socket:
            await watched(socket, "failing")
            await written(Room.objects.create, name="invalid")
            for _ in range(9):
                await runs_settle()
                assert len(groups()) == 1
                await written(Room.objects.update, is_staff_only=True)
            event = await socket.receive()
            assert (event["action"], event["response_status"]) == ("revoke", 500)
            assert groups() == []

    run(story)


def test_a_run_that_succeeds_counts_failures_afresh():
    async def story():
        async with talking() as socket:
            await watched(socket, "failing")
            for _ in range(2):
                await written(Room.objects.create, name="invalid")
                for _ in range(8):
                    await runs_settle()
                    await written(Room.objects.update, is_staff_only=True)
                await runs_settle()
                await written(Room.objects.all().delete)
                await runs_settle()
            await written(Room.objects.create, name="hall")
            assert await change(socket) == ["hall"]

    run(story)


def test_only_the_first_run_is_throttled():
    async def story():
        async with talking() as socket:
            await watched(socket, "metered", query={"client": "a"})
            await written(Room.objects.create, name="hall")
            assert await change(socket) == ["hall"]
            reply = await socket.ask("watch", of="metered", query={"client": "a"})
            assert reply["response_status"] == 429

    run(story)


def test_a_storm_leads_to_one_run_after_another():
    gate = Rooms.gate = Gate()

    async def story():
        async with talking() as socket:
            await watched(socket, "gated")
            runs = Runs()
            await written(Room.objects.create, name="0")
            await happened(gate.reached)
            for number in range(1, 20):
                await written(Room.objects.create, name=str(number))
            assert runs.count == 1
            gate.opened.set()
            # Neither the writes that it has missed nor those it has seen are a queue.
            assert await change(socket) == ["0"]
            assert len(await change(socket)) == 20
            await runs_settle()
            assert runs.count <= 3

    run(story)


def test_a_change_during_a_run_leads_to_another():
    gate = Rooms.gate = Gate()

    async def story():
        async with talking() as socket:
            await written(Room.objects.create, name="before")
            await socket.send("watch", of="gated", request_id="w")
            # It has read the rooms.
            await happened(gate.reached)
            await written(Room.objects.create, name="meanwhile")
            gate.opened.set()
            reply = await socket.receive()
            assert (reply["action"], reply["data"]) == ("watch", ["before"])
            assert await change(socket) == ["before", "meanwhile"]

    run(story)


def test_a_slow_watch_delays_no_other(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 4}
    slow = Rooms.slow = Gate()

    async def story():
        async with talking() as slow_one, talking() as other:
            for number in range(8):
                await watched(slow_one, "waiting", request_id=number)
            await watched(other, "list")
            await written(Room.objects.create, name="slow")
            await happened(slow.reached)
            assert await change(other) == ["slow"]
            await written(Room.objects.create, name="hall")
            assert await change(other) == ["hall", "slow"]
            # Nor a frame, nor another user's first run.
            assert (await other.ask("list"))["data"] == ["hall", "slow"]
            slow.opened.set()
            assert await change(slow_one) == ["hall", "slow"]

    run(story)


def test_a_client_that_does_not_read_gets_the_newest_answer_alone():
    async def story():
        async with talking() as socket:
            await watched(socket)
            (group,) = groups()
            (watching,) = group.members
            outbox = watching.wire.outbox
            outbox.waiting_bytes = 10**9
            for number in range(3):
                await written(Room.objects.create, name=str(number))
                await runs_settle()
            assert not outbox.backlog_bytes
            outbox.waiting_bytes = 0
            while outbox._on_room:
                outbox._on_room.popleft()()
            assert await change(socket) == ["0", "1", "2"]
            assert (await socket.ask("ping"))["action"] == "ping"

    run(story)


def test_a_socket_with_watches_alone_hears_a_heartbeat():
    async def story():
        async with talking() as socket:
            await watched(socket)
            for _ in range(SILENT_LOOKS):
                current_heartbeat().look()
            assert (await socket.receive())["action"] == "alive"
            await socket.ask("unwatch", request_id="w")
            for _ in range(2 * SILENT_LOOKS):
                current_heartbeat().look()
            assert (await socket.ask("ping"))["action"] == "ping"

    run(story)


def test_an_action_that_writes_what_it_reads_does_not_drive_itself():
    async def story():
        async with talking() as socket:
            await watched(socket, "counting")
            await written(Room.objects.create, name="hall")
            assert await change(socket) == ["hall", "visits"]
            runs = Runs()
            # Its own write concerns it, and another run is due, but not yet.
            (group,) = groups()
            await all_is_read()
            await asyncio.sleep(3 * socket_settings.WATCH_SECONDS)
            assert (runs.count, group.is_due) == (0, True)

    run(story)


def test_nothing_is_left_when_the_socket_closes():
    async def story():
        async with talking() as socket:
            await watched(socket)
            await watched(socket, request_id=2)
            assert len(groups()) == 1
            await written(Room.objects.create, name="hall")
        assert groups() == []
        runs = Runs()
        await written(Room.objects.create, name="attic")
        await runs_settle()
        assert runs.count == 0
        await written(Tag.objects.create, name="red")

    run(story)
