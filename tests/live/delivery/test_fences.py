"""A reply with a fence comes after the events of what its action has committed."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection, connections, transaction
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response

from rest_channels.bus import news
from rest_channels.live import change_path
from rest_channels.live.change_path import ChangePath
from rest_channels.live.delivery import arrivals, hub
from rest_channels.live.delivery.hub import current_hub
from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.log import store
from rest_channels.live.log.sequencer import sequence
from rest_channels.live.log.store import HEAD_ID
from rest_channels.metrics import figures
from rest_channels.models import LogHead
from rest_channels.routers import DefaultRouter
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Message, Room
from tests.support.gates import Gate
from tests.support.recorded_changes import InThread
from tests.support.room_viewsets import OpenRooms
from tests.support.slow_reader import Reader
from tests.support.stepped_processes import running
from tests.support.subscription_stories import routes, run, told, written
from tests.support.talk import happened, talking_to

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def passes_have_a_reason(settings, monkeypatch):
    """
    A fence that is answered by its timeout is none: the stories give up long before. Nor does a
    pass begin because the database tells of one that is over.
    """
    settings.REST_CHANNELS = {"FENCE_SECONDS": 60, "POLL_SECONDS": 60}
    monkeypatch.setattr(news, "listen", lambda alias, ear: None)


class Rooms(OpenRooms):
    filterset_fields = ["is_staff_only"]

    @action(detail=False, methods=["post"])
    def rolled_back(self, request):
        with transaction.atomic():
            Room.objects.create(name="never")
            raise ValidationError("No.")

    @action(detail=False, methods=["post"])
    def after_commit(self, request):
        with transaction.atomic():
            transaction.on_commit(lambda: Room.objects.create(name="later"))
            Room.objects.create(name="first")
        return Response()

    @action(detail=False, methods=["post"])
    async def without_waiting(self, request):
        await Room.objects.acreate(name="async")
        return Response()

    @action(detail=False, methods=["post"])
    def bit_by_bit(self, request):
        for number in range(2):
            Room.objects.create(name=f"part-{number}")
            yield number

    @action(detail=False, methods=["post"])
    def by_sql(self, request):
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO tests_room (name, is_staff_only) VALUES ('sql', %s)", [False]
            )
        return Response()

    @action(detail=False, methods=["post"])
    def broken(self, request):
        Room.objects.create(name="kept")
        raise RuntimeError


class Messages(ModelConsumerViewSet):
    queryset = Message.objects.order_by("id")
    authentication_classes = []
    permission_classes = []

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Message
            fields = ["room", "text"]


class Counts(OpenRooms):
    """Rooms that show how many messages they have: read again a moment after each message."""

    queryset = Room.objects.order_by("id").prefetch_related("messages")

    class serializer_class(serializers.ModelSerializer):
        count = serializers.SerializerMethodField()

        class Meta:
            model = Room
            fields = ["id", "count"]

        def get_count(self, room):
            return len(room.messages.all())


router = DefaultRouter()
router.register("rooms", Rooms)
router.register("messages", Messages)
router.register("counts", Counts, "counts")
application = router.as_asgi()


async def begin(socket, stream="rooms", request_id="s", **keys):
    reply = await socket.ask("subscribe", stream, request_id=request_id, **keys)
    assert reply["response_status"] == 201, reply


async def until_reply(socket, request_id):
    """Return the events until the reply, as (request_id, action, data), and the reply."""
    before = []
    while (payload := await socket.receive())["request_id"] != request_id:
        before.append((payload["request_id"], payload["action"], payload["data"]))
    return before, payload


async def fenced(socket, action_, stream="rooms", **keys):
    """Ask with a fence: what came before the reply, and the reply."""
    await socket.send(action_, stream, request_id="f", fence=True, **keys)
    return await until_reply(socket, "f")


def names(events):
    return [(action_, data["name"]) for _, action_, data in events]


@contextmanager
def held(monkeypatch, method):
    """Passes of the follower wait after `method` of their way, until the story opens the gate."""
    gate, original = Gate(), getattr(ChangePath, method)

    def holding(self, *args):
        found = original(self, *args)
        gate.pass_through()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ChangePath, method, holding)
        try:
            yield gate
        finally:
            gate.opened.set()


@pytest.fixture
def fences(monkeypatch):
    """Set once a frame waits at its fence."""
    begun, original = threading.Event(), hub.Hub.fence

    def fence(self, subscriptions):
        found = original(self, subscriptions)
        begun.set()
        return found

    monkeypatch.setattr(hub.Hub, "fence", fence)
    return begun


# What is committed


def test_the_reply_waits_for_the_pass(monkeypatch, fences):
    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            with held(monkeypatch, "_number"):
                await socket.send("create", "rooms", request_id="f", data={"name": "a"}, fence=True)
                await happened(fences)
                # Whatever the reply waits for, others do not.
                assert (await socket.ask("ping", "rooms"))["action"] == "ping"
                assert (await socket.ask("list", "messages"))["action"] == "list"
            events, reply = await until_reply(socket, "f")
            assert names(events) == [("create", "a")]
            assert (reply["response_status"], reply["fenced"]) == (201, True)

    run(story)


def test_the_reply_comes_after_the_events_of_all_subscriptions(monkeypatch):
    # Between any two events, the loop may go on with the reply.
    monkeypatch.setattr(change_path, "_SENDS_AT_A_TIME", 1)

    async def story():
        async with talking_to(application) as socket:
            for number in range(9):
                await begin(socket, request_id=number)
            events, reply = await fenced(socket, "create", data={"name": "a"})
            assert sorted(request_id for request_id, _, _ in events) == list(range(9))
            assert reply["fenced"] is True

    run(story)


def test_a_pass_that_has_begun_before_the_commit_is_not_enough(monkeypatch, fences):
    async def story():
        async with talking_to(application) as socket, told(application) as other:
            await begin(socket)
            with held(monkeypatch, "_refresh") as gate:
                await written(Room.objects.create, name="before")
                await happened(gate.reached)
                await socket.send("create", "rooms", request_id="f", data={"name": "a"}, fence=True)
                await happened(fences)
            events, reply = await until_reply(socket, "f")
            assert names(events) == [("create", "before"), ("create", "a")]
            assert reply["fenced"] is True
            # It has none.
            assert (await fenced(other, "list"))[1]["fenced"] is True

    run(story)


def test_several_pages_of_the_log(monkeypatch):
    since = store.since
    monkeypatch.setattr(store, "since", lambda alias, place: since(alias, place, limit=2))

    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            await written(Room.objects.bulk_create, [Room(name=f"room-{n}") for n in range(9)])
            events, reply = await fenced(socket, "create", data={"name": "last"})
            # A page before may have shown it already, as it was in the snapshot.
            assert names(events)[-1][1] == "last"
            assert reply["fenced"] is True

    run(story)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rolled_back", []),
        ("after_commit", ["first", "later"]),
        ("without_waiting", ["async"]),
        ("bit_by_bit", ["part-0", "part-1"]),
        ("by_sql", ["sql"]),
        ("broken", ["kept"]),
        ("list", []),
    ],
)
def test_whatever_the_action_does(name, expected):
    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            await socket.send(name, "rooms", request_id="f", fence=True)
            events, payload = await until_reply(socket, "f")
            while payload["response_status"] == 206:
                assert "fenced" not in payload
                more, payload = await until_reply(socket, "f")
                events += more
            assert names(events) == [("create", name) for name in expected]
            assert payload["fenced"] is True

    run(story)


def test_a_write_that_matches_no_filter():
    async def story():
        async with talking_to(application) as socket:
            await begin(socket, query={"is_staff_only": True})
            await begin(socket, "messages", request_id="m")
            events, reply = await fenced(socket, "create", data={"name": "a"})
            assert (events, reply["fenced"]) == ([], True)

    run(story)


def test_without_subscriptions_the_reply_waits_for_nothing(monkeypatch):
    async def story():
        async with talking_to(application) as socket, talking_to(application) as other:
            await begin(other)
            with held(monkeypatch, "_number"):
                events, reply = await fenced(socket, "create", data={"name": "a"})
                assert (events, reply["fenced"]) == ([], True)

    run(story)


@pytest.mark.one_track
def test_a_fence_costs_one_pass():
    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            await fenced(socket, "list")
            passes = figures.passes.value
            await fenced(socket, "list")
            assert figures.passes.value == passes + 1

    run(story)


def test_rows_that_are_read_again_later():
    async def story():
        room = await written(Room.objects.create, name="a")
        async with talking_to(application) as socket:
            await begin(socket, "counts")
            await begin(socket, "messages", request_id="m")
            for count in (1, 2):
                data = {"room": room.pk, "text": "x"}
                events, reply = await fenced(socket, "create", "messages", data=data)
                assert ("s", "update", {"id": room.pk, "count": count}) in events
                assert {request_id for request_id, _, _ in events} == {"s", "m"}
                assert reply["fenced"] is True

    run(story)


def test_subscriptions_that_begin_meanwhile(monkeypatch, fences):
    monkeypatch.setattr(arrivals, "JOINING_AT_A_TIME", 1)
    joining, join = asyncio.Semaphore(0), hub.DatabaseFollower.join

    def joined(self, subscription):
        join(self, subscription)
        joining.release()

    monkeypatch.setattr(hub.DatabaseFollower, "join", joined)

    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            await joining.acquire()
            with held(monkeypatch, "_refresh") as gate:
                current_hub().on_ring("default")
                await happened(gate.reached)
                for stream in ("messages", "counts"):
                    await socket.send("subscribe", stream, request_id=stream)
                    await joining.acquire()
                await socket.send("create", "rooms", request_id="f", data={"name": "a"}, fence=True)
                await happened(fences)
            events, reply = await until_reply(socket, "f")
            assert {request_id for request_id, _, _ in events} == {"s", "messages", "counts"}
            assert reply["fenced"] is True

    run(story)


def test_a_write_of_which_no_doorbell_rings():
    """As if another process wrote, and its ring was lost."""
    with running() as processes:
        socket = processes.start().connect(routes(Rooms), "/", {})
        socket.ask("subscribe", request_id="s")
        processes.write(lambda: Room.objects.create(name="elsewhere"))
        before, reply = socket.ask("list", fence=True)
        assert [(e["action"], e["data"]["name"]) for e in before] == [("create", "elsewhere")]
        assert reply["fenced"] is True
        socket.leave()


@pytest.mark.parametrize("is_undone", [False, True])
def test_atomic_requests(monkeypatch, is_undone):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    atomic = routes(Rooms)

    async def story():
        async with talking_to(atomic) as socket:
            await begin(socket, None)
            name = "broken" if is_undone else "after_commit"
            events, reply = await fenced(socket, name, None)
            created = [("create", "first"), ("create", "later")]
            assert names(events) == ([] if is_undone else created)
            assert reply["fenced"] is True

    run(story)


# What the client does not take


def test_spent_credit_is_answered_at_once():
    async def story():
        async with talking_to(application) as socket:
            await begin(socket, credit=1)
            events, reply = await fenced(socket, "create", data={"name": "a"})
            # The client has everything.
            assert (names(events), reply["fenced"]) == ([("create", "a")], True)
            for name in ("b", "c"):
                events, reply = await fenced(socket, "create", data={"name": name})
                assert (events, reply["response_status"], reply["fenced"]) == ([], 201, False)

    run(story)


def test_credit_that_is_given_makes_a_fence_again():
    async def story():
        async with talking_to(application) as socket:
            await begin(socket, credit=1)
            await socket.send("create", "rooms", request_id="f", data={"name": "a"}, fence=True)
            position = (await socket.receive())["position"]
            assert (await socket.receive())["fenced"] is True
            _, reply = await fenced(socket, "create", data={"name": "b"})
            assert reply["fenced"] is False
            await socket.send("ack", "rooms", request_id="s", data={"position": position})
            events, reply = await fenced(socket, "list")
            assert (names(events), reply["fenced"]) == ([("create", "b")], True)

    run(story)


LEASES = {"lasts": 60, "has ended": 0.001}


@pytest.mark.parametrize("lease", LEASES)
def test_a_backlog_is_sent_in_front_of_the_reply(settings, lease, fences):
    settings.REST_CHANNELS = {
        **settings.REST_CHANNELS,
        **{"MAX_QUEUE_BYTES": 8_000, "LEASE_SECONDS": LEASES[lease]},
    }

    async def story():
        slow = Reader(application)
        slow.send_to("rooms", "subscribe", request_id="s")
        await slow.hears(1)
        async with talking_to(application) as witness:
            await begin(witness)
            for number in range(20):
                await written(Room.objects.create, name=f"{number}-" + "x" * 100)
                await witness.receive()
            slow.send_to("rooms", "create", request_id="f", data={"name": "last"}, fence=True)
            await witness.receive()
            await happened(fences)
            # The same pass delivers both, or the fence has one more.
            assert (await fenced(witness, "list"))[1]["fenced"] is True
        assert any(s.has_backlog for s in current_hub()._followers["default"].path.subscriptions())
        told = []
        while not told or told[-1]["request_id"] != "f":
            told += [message["payload"] for message in await slow.hears(1)]
        assert told[-1]["fenced"] is True
        created = [event["data"]["name"] for event in told[:-1] if event["action"] == "create"]
        assert (len(created), created[-1]) == (21, "last")
        await slow.leave()

    run(story)


# What ends the waiting


def test_in_time_without_the_events(settings, monkeypatch):
    settings.REST_CHANNELS = {"FENCE_SECONDS": 0.1}

    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            with held(monkeypatch, "_number"):
                events, reply = await fenced(socket, "create", data={"name": "a"})
                assert (events, reply["response_status"], reply["fenced"]) == ([], 201, False)
            assert (await socket.receive())["data"]["name"] == "a"
            assert (await fenced(socket, "list"))[1]["fenced"] is True

    run(story)


def test_changes_that_cannot_be_numbered(settings, monkeypatch):
    """As if another process, which is stopped, held the lock of the log."""
    settings.REST_CHANNELS = {"FENCE_SECONDS": 0.2, "POLL_SECONDS": 0.05}
    is_locked = True

    def sequence_or_wait(alias, **given):
        if is_locked:
            raise OperationalError("database is locked")
        return sequence(alias)

    monkeypatch.setattr(change_path, "sequence", sequence_or_wait)

    async def story():
        nonlocal is_locked
        async with talking_to(application) as socket:
            await begin(socket)
            events, reply = await fenced(socket, "create", data={"name": "a"})
            assert (events, reply["fenced"]) == ([], False)
            settings.REST_CHANNELS = {"FENCE_SECONDS": 60, "POLL_SECONDS": 0.05}
            await socket.send("create", "rooms", request_id="f", data={"name": "b"}, fence=True)
            is_locked = False
            events, reply = await until_reply(socket, "f")
            assert names(events) == [("create", "a"), ("create", "b")]
            assert reply["fenced"] is True

    run(story)


@pytest.mark.only_on("postgresql")
def test_a_process_that_keeps_the_lock_of_the_log(settings):
    settings.REST_CHANNELS = {"FENCE_SECONDS": 0.3, "POLL_SECONDS": 0.1}

    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            # The log has a head from here on.
            assert (await fenced(socket, "create", data={"name": "a"}))[1]["fenced"] is True
            has_locked, may_end = threading.Event(), threading.Event()

            def hold():
                with transaction.atomic():
                    assert LogHead.objects.select_for_update().get(pk=HEAD_ID)
                    has_locked.set()
                    assert may_end.wait(30)

            holder = await written(InThread, hold)
            await happened(has_locked)
            events, reply = await fenced(socket, "create", data={"name": "b"})
            assert (events, reply["fenced"]) == ([], False)
            may_end.set()
            await written(holder.result)
            settings.REST_CHANNELS = {"FENCE_SECONDS": 60, "POLL_SECONDS": 0.1}
            events, reply = await fenced(socket, "list")
            assert (names(events), reply["fenced"]) == ([("create", "b")], True)

    run(story)


def test_cancelled(monkeypatch, fences):
    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            with held(monkeypatch, "_number"):
                await socket.send("create", "rooms", request_id="f", data={"name": "a"}, fence=True)
                await socket.send("list", "rooms", request_id="next")
                await happened(fences)
                data = {"request_id": "f"}
                cancelled = await socket.ask("cancel", "rooms", request_id="c", data=data)
                assert cancelled["response_status"] == 204
                reply = await socket.receive()
                assert (reply["request_id"], reply["fenced"]) == ("f", False)
                assert reply["response_status"] == 201
                # It kept its place.
                assert (await socket.receive())["request_id"] == "next"

    run(story)


def test_cancelled_before_it_begins(monkeypatch, fences):
    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            with held(monkeypatch, "_number"):
                for request_id in ("f", "g"):
                    data = {"name": request_id}
                    await socket.send(
                        "create", "rooms", request_id=request_id, data=data, fence=True
                    )
                await happened(fences)
                await socket.ask("cancel", "rooms", request_id="c", data={"request_id": "g"})
            assert (await until_reply(socket, "f"))[1]["fenced"] is True
            _, reply = await until_reply(socket, "g")
            assert (reply["response_status"], reply["fenced"]) == (499, False)

    run(story)


def test_a_frame_that_waits_counts_as_in_flight(settings, monkeypatch, fences):
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "MAX_IN_FLIGHT": 1}

    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            with held(monkeypatch, "_number"):
                await socket.send("create", "rooms", request_id="f", data={"name": "a"}, fence=True)
                await happened(fences)
                refused = await socket.ask("list", "messages")
                assert refused["codes"] == ["too_many_in_flight"]
            assert (await until_reply(socket, "f"))[1]["fenced"] is True

    run(story)


def test_a_socket_that_closes_waits_no_longer(monkeypatch, fences):
    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            with held(monkeypatch, "_number"):
                await socket.send("create", "rooms", request_id="f", data={"name": "a"}, fence=True)
                await happened(fences)
                await socket.disconnect()
        assert await written(Room.objects.count) == 1

    run(story)


def test_a_follower_that_fails_leaves_no_frame_behind(monkeypatch, fences):
    def broken(*args, **kwargs):
        raise RuntimeError("a fault of this library's own")

    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            monkeypatch.setattr(Subscription, "tell", broken)
            await socket.send("create", "rooms", request_id="f", data={"name": "a"}, fence=True)
            assert await socket.closed_with() == 1011
            await socket.disconnect()

    run(story)


def test_a_pass_that_fails_ends_the_subscription_in_front_of_the_reply(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("a fault of the project's own")

    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            monkeypatch.setattr(Rooms.serializer_class, "to_representation", broken)
            events, reply = await fenced(socket, "after_commit")
            assert events == [("s", "revoke", None)]
            assert (reply["response_status"], reply["fenced"]) == (200, True)

    run(story)


# Frames that subscribe


def test_a_frame_that_subscribes_or_ends_it():
    async def story():
        async with talking_to(application) as socket:
            for _ in range(2):
                events, reply = await fenced(socket, "subscribe", snapshot=True)
                assert (events, reply["response_status"]) == ([], 201)
                assert (reply["data"], reply["fenced"]) == ([], True)
            _, reply = await fenced(socket, "subscribe", snapshot=1)
            assert (reply["response_status"], reply["fenced"]) == (400, True)
            _, reply = await fenced(socket, "unsubscribe")
            assert (reply["response_status"], reply["fenced"]) == (204, True)

    run(story)


def test_a_subscription_that_is_refused(settings):
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "MAX_SUBSCRIPTIONS": 1}

    async def story():
        async with talking_to(application) as socket:
            await begin(socket)
            _, reply = await fenced(socket, "subscribe", "messages")
            assert (reply["response_status"], reply["fenced"]) == (503, True)

    run(story)
