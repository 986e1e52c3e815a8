"""Clients that do not read, or take a few events at a time: the backlog, and how they catch up."""

from __future__ import annotations

import asyncio
import json

import pytest
from django.test import override_settings
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.live.delivery.backlog import Backlog, Credit
from rest_channels.live.delivery.events import Event
from rest_channels.live.delivery.hub import current_hub
from rest_channels.live.log.positions import Position
from rest_channels.live.log.store import Kind
from rest_channels.protocol import Event as Message
from rest_channels.sockets.outbox import Outbox
from tests.models import Room
from tests.support.room_viewsets import OpenRooms
from tests.support.server_processes import KINDS, Server, answer, reply
from tests.support.slow_reader import Reader
from tests.support.subscription_stories import routes, run, subscribed, told, written

FIRST, SECOND, THIRD = (Position(number, 0) for number in (1, 2, 3))


class Rooms(OpenRooms):
    filterset_fields = ["is_staff_only"]


application = routes(Rooms)


# What is merged


async def unread(message):
    await asyncio.Event().wait()


@pytest.fixture
def backlog():
    return Backlog(Outbox(unread, 1_000))


def text(kind, data):
    return Message(kind, 204 if kind == Kind.DELETE else 200, data).shared


def add(backlog, kind, key, place, data="0"):
    backlog.add(kind, key, text(kind, data), place)


def popped(backlog):
    """Return all that is popped: kinds, data and places."""
    found = []
    while backlog:
        shared, place = backlog.pop()
        payload = json.loads(shared + "0}")
        found.append((payload["action"], payload["data"], place))
    return found


def test_a_newer_state_takes_the_place_of_the_older_one(backlog):
    add(backlog, Kind.UPDATE, "1", FIRST, "1")
    add(backlog, Kind.UPDATE, "2", SECOND, "1")
    add(backlog, Kind.UPDATE, "1", THIRD, "2")
    # That all is known up to the third place holds after the last of them alone.
    assert popped(backlog) == [("update", 2, FIRST), ("update", 1, THIRD)]


@pytest.mark.parametrize(
    "kinds,told",
    [
        ([Kind.CREATE, Kind.UPDATE], "create"),
        ([Kind.CREATE, Kind.UPDATE, Kind.UPDATE], "create"),
        ([Kind.UPDATE, Kind.DELETE], "delete"),
        ([Kind.DELETE, Kind.CREATE], "update"),
        ([Kind.DELETE, Kind.CREATE, Kind.UPDATE], "update"),
        ([Kind.UPDATE, Kind.DELETE, Kind.CREATE, Kind.DELETE], "delete"),
        ([Kind.CREATE, Kind.DELETE], "sync"),
        ([Kind.CREATE, Kind.DELETE, Kind.CREATE], "create"),
        ([Kind.CREATE, Kind.UPDATE, Kind.DELETE], "sync"),
    ],
)
def test_what_several_changes_come_to(backlog, kinds, told):
    for number, kind in enumerate(kinds, 1):
        add(backlog, kind, "1", Position(number, 0), str(number))
    ((action, data, place),) = popped(backlog)
    assert (action, place) == (told, Position(len(kinds), 0))
    assert data == (None if told == "sync" else len(kinds))


def test_a_row_that_came_and_went_leaves_no_hole(backlog):
    add(backlog, Kind.UPDATE, "1", FIRST)
    add(backlog, Kind.CREATE, "2", SECOND)
    add(backlog, Kind.DELETE, "2", THIRD)
    assert popped(backlog) == [("update", 0, THIRD)]


def test_a_place_that_is_not_reached_yet_is_not_told(backlog):
    add(backlog, Kind.UPDATE, "1", FIRST)
    add(backlog, Kind.UPDATE, "2", None)
    assert popped(backlog) == [("update", 0, FIRST), ("update", 0, FIRST)]


def test_a_reset_makes_all_before_it_needless(backlog):
    add(backlog, Kind.UPDATE, "1", FIRST)
    backlog.reset(Message("reset", 205, "[]").shared, SECOND)
    add(backlog, Kind.UPDATE, "1", THIRD)
    assert popped(backlog) == [("reset", [], SECOND), ("update", 0, THIRD)]


def test_nothing_but_a_fresher_position(backlog):
    backlog.reach(FIRST)
    backlog.reach(SECOND)
    assert popped(backlog) == [("sync", None, SECOND)]


def test_what_waits_is_counted_in_bytes_and_forgotten_with_it():
    outbox = Outbox(unread, 1_500)
    one, other = Backlog(outbox), Backlog(outbox)
    add(one, Kind.UPDATE, "1", FIRST, '"' + 300 * "é" + '"')
    assert 600 < outbox.backlog_bytes < 1_500
    add(other, Kind.UPDATE, "1", FIRST, '"' + 600 * "e" + '"')
    assert outbox.is_behind
    add(one, Kind.UPDATE, "1", FIRST, "1")
    assert not outbox.is_behind
    other.clear()
    popped(one)
    assert outbox.backlog_bytes == 0


def test_credit_is_given_back_once_and_by_nothing_else():
    credit = Credit(2)
    assert (credit.next_number(), credit.is_spent) == (1, False)
    assert (credit.next_number(), credit.is_spent) == (2, True)
    for nonsense in ("", "0", "3", "-1", "1.0", "x", "٢", " 1", "1" * 5_000, "+1", "1_0"):
        assert not credit.take(nonsense)
    assert credit.is_spent
    assert credit.take("2") and not credit.take("2") and not credit.take("1")
    assert not credit.is_spent


# On a socket

pytestmark = pytest.mark.django_db(transaction=True)


def follow(rows, payloads, position):
    """Apply `payloads`, whose positions are a chain, to the rows of a client."""
    for payload in payloads:
        assert payload["previous"] == position, payload
        position = payload["position"]
        match payload["action"]:
            case "create":
                assert payload["data"]["id"] not in rows
                rows[payload["data"]["id"]] = payload["data"]["name"]
            case "update":
                assert payload["data"]["id"] in rows
                rows[payload["data"]["id"]] = payload["data"]["name"]
            case "delete":
                del rows[payload["data"]["pk"]]
            case action:
                assert action == "sync"
    return position


def now():
    return dict(Room.objects.values_list("id", "name"))


async def keeping_up(witness, count):
    """Wait until another client has received `count` changes."""
    for _ in range(count):
        await witness.receive()


def rename(room, name):
    room.name = name
    room.save()


async def begun(client, **keys):
    """A client's subscription: its rows and position."""
    client.send("subscribe", request_id="s", **{"snapshot": True, **keys})
    (reply,) = await client.hears(1)
    assert reply["response_status"] == 201, reply
    return {row["id"]: row["name"] for row in reply["data"] or ()}, reply["position"]


def outboxes():
    """Those of all sockets that are subscribed."""
    tracks = current_hub()._followers["default"].all_tracks
    audiences = [audience for track in tracks for audience in track.audiences]
    return {s.wire.outbox for audience in audiences for s in audience.subscriptions}


@override_settings(REST_CHANNELS={"MAX_QUEUE_BYTES": 8_000})
def test_a_client_that_does_not_read_catches_up_merged():
    async def story():
        rooms = [await written(Room.objects.create, name=f"room-{n}") for n in range(3)]
        slow = Reader(application)
        rows, position = await begun(slow)
        async with told(application) as witness:
            await subscribed(witness)
            new = await written(Room.objects.create, name="new")
            await keeping_up(witness, 1)
            for number in range(100):
                await written(rename, rooms[number % 2], f"{number}:" + "x" * 100)
                # Nobody else waits for who does not read.
                await keeping_up(witness, 1)
            await written(rooms[2].delete)
            await written(new.delete)
            await keeping_up(witness, 2)
        while rows != await written(now):
            position = follow(rows, await slow.hears(1), position)
        assert len(slow.told) < 30
        # It is one who keeps up again.
        await written(Room.objects.create, name="last")
        position = follow(rows, await slow.hears(1), position)
        assert rows == await written(now)
        await slow.leave()

    run(story)


@override_settings(REST_CHANNELS={"MAX_QUEUE_BYTES": 8_000})
def test_a_client_that_is_too_far_behind_is_closed_and_resumes():
    async def story():
        slow = Reader(application)
        rows, position = await begun(slow)
        async with told(application) as witness:
            await subscribed(witness)
            most = 0
            for number in range(50):
                await written(Room.objects.create, name=f"{number}:" + "x" * 200)
                await keeping_up(witness, 1)
                waiting = [box.backlog_bytes + box.waiting_bytes for box in outboxes()]
                most = max(most, *waiting)
            # Half of the queue, what waits beside it, and one event that found it full.
            assert 8_000 < most < 4_000 + 8_000 + 2 * 600
            slow.reads(100)
            await slow.until(lambda: slow.closed_with is not None)
            assert slow.closed_with == 4408
            # The queue was forgotten, but what had been handed to the server.
            position = follow(rows, slow.told[1:], position)
            await slow.leave()
            assert sum(box.backlog_bytes for box in outboxes()) == 0
            again = Reader(application)
            again.send("subscribe", request_id="s", since=position, held=[*rows])
            (resumed,) = await again.hears(1)
            assert (resumed["resumed"], resumed["position"]) == (True, position)
            # All missed events arrive at once, however long they are.
            while rows != await written(now):
                position = follow(rows, await again.hears(1), position)
            await again.leave()

    run(story)


@override_settings(REST_CHANNELS={"MAX_QUEUE_BYTES": 8_000})
def test_replies_find_room_beside_what_waits():
    async def story():
        slow = Reader(application)
        await begun(slow)
        async with told(application) as witness:
            await subscribed(witness)
            room = await written(Room.objects.create, name="x")
            await keeping_up(witness, 1)
            for number in range(60):
                await written(rename, room, f"{number}:" + "x" * 200)
                await keeping_up(witness, 1)
        slow.send("retrieve", request_id="r", pk=room.pk)
        slow.reads(100)
        await slow.until(lambda: any(p["request_id"] == "r" for p in slow.told))
        await slow.until(lambda: slow.told[-1]["data"]["name"].startswith("59:"))
        assert slow.closed_with is None
        await slow.leave()

    run(story)


@pytest.mark.parametrize("status", [403, 500])
def test_who_may_see_nothing_any_more_is_not_sent_what_waits(status):
    class Guarded(Rooms):
        def check_permissions(self, request):
            if not is_open and status == 403:
                self.permission_denied(request)
            assert is_open

    is_open = True

    async def story():
        nonlocal is_open
        slow = Reader(routes(Guarded))
        await begun(slow, credit=1)
        room = await written(Room.objects.create, name="seen")
        assert (await slow.hears(1))[0]["data"]["name"] == "seen"
        async with told(application) as witness:
            await subscribed(witness)
            await written(rename, room, "waits")
            await keeping_up(witness, 1)
        # Nothing that the server could notice: what waits is older than an answer may be.
        is_open = False
        (subscription,) = [s for s in subscriptions_now() if s.wire.outbox.backlog_bytes]
        subscription.evaluation.as_of -= 60
        slow.send("ack", request_id="s", data={"position": slow.told[-1]["position"]})
        (revoked,) = await slow.hears(1)
        assert (revoked["action"], revoked["response_status"]) == ("revoke", status)
        await slow.leave()

    run(story)


def test_nothing_waits_for_a_subscription_that_has_ended_since_the_pass():
    async def story():
        async with told(application) as socket:
            await subscribed(socket, credit=1)
            (subscription,) = subscriptions_now()
            await socket.ask("unsubscribe", request_id="s")
            subscription.tell([Event(Kind.DELETE, "1", data="{}", name="{}")] * 2, ["{}"] * 2)
            assert not subscription.wire.outbox.backlog_bytes

    run(story)


def subscriptions_now():
    tracks = current_hub()._followers["default"].all_tracks
    audiences = [audience for track in tracks for audience in track.audiences]
    return [s for audience in audiences for s in audience.subscriptions]


def test_what_has_waited_for_long_is_sent_when_it_may_be_seen_still():
    async def story():
        slow = Reader(application)
        rows, position = await begun(slow, credit=1)
        async with told(application) as witness:
            await subscribed(witness)
            for name in ("one", "two", "three"):
                await written(Room.objects.create, name=name)
                await keeping_up(witness, 1)
        for subscription in subscriptions_now():
            subscription.evaluation.as_of -= 60
        position = follow(rows, await slow.hears(1), position)
        for _ in range(2):
            slow.send("ack", request_id="s", data={"position": position})
            position = follow(rows, await slow.hears(1), position)
        assert rows == await written(now)
        await slow.leave()

    run(story)


# Credit


def test_no_more_events_than_the_client_has_given_credit_for():
    async def story():
        async with told(application) as witness, told(application) as socket:
            await subscribed(witness)
            reply = await socket.ask("subscribe", request_id="s", credit=2)
            assert reply["response_status"] == 201
            room = await written(Room.objects.create, name="0")
            await keeping_up(witness, 1)
            for number in range(1, 6):
                await written(rename, room, str(number))
                await keeping_up(witness, 1)
            first, second = [await socket.receive() for _ in range(2)]
            assert [e["data"]["name"] for e in (first, second)] == ["0", "1"]
            assert reply["position"] == first["previous"]
            await nothing_but(socket)
            await socket.send("ack", request_id="s", data={"position": first["position"]})
            third = await socket.receive()
            assert (third["action"], third["data"]["name"]) == ("update", "5")
            assert third["previous"] == second["position"]
            await nothing_but(socket)
            # The client takes two events, of which it has one.
            await written(rename, room, "6")
            await keeping_up(witness, 1)
            await nothing_but(socket)
            await socket.send("ack", request_id="s", data={"position": third["position"]})
            assert (await socket.receive())["data"]["name"] == "6"
            resumed = await socket.ask(
                "subscribe", request_id="s", since=third["position"], held=[room.pk]
            )
            assert resumed["resumed"] is True
            assert (await socket.receive())["data"]["name"] == "6"

    run(story)


async def nothing_but(socket):
    """Nothing was sent before the answer to what is asked now."""
    assert (await socket.ask("list", request_id="fence"))["request_id"] == "fence"


def test_an_acknowledgement_has_no_reply_and_those_of_no_use_no_effect():
    async def story():
        async with told(application) as witness, told(application) as socket:
            await subscribed(witness)
            begun = await socket.ask("subscribe", request_id="s", credit=1)
            other = await socket.ask(
                "subscribe", request_id="o", credit=1, query={"is_staff_only": True}
            )
            room = await written(Room.objects.create, name="first")
            first = await socket.receive()
            await keeping_up(witness, 1)
            await written(rename, room, "second")
            await keeping_up(witness, 1)
            place, seal, number = first["position"].split(".")
            assert number == "1"
            for request_id, position in [
                ("unknown", first["position"]),
                (None, first["position"]),
                ("o", first["position"]),
                ("s", begun["position"]),
                ("s", other["position"] + ".1"),
                ("s", f"{place}.{seal}.2"),
                ("s", f"{place}.{seal}.{'1' * 300}"),
                ("s", f"{place}.x.1"),
                ("s", ""),
            ]:
                await socket.send("ack", request_id=request_id, data={"position": position})
            await nothing_but(socket)
            for _ in range(3):
                await socket.send("ack", request_id="s", data={"position": first["position"]})
            second = await socket.receive()
            assert second["data"]["name"] == "second"
            await written(rename, room, "third")
            await keeping_up(witness, 1)
            await socket.send("ack", request_id="s", data={"position": first["position"]})
            await nothing_but(socket)
            await socket.send("ack", request_id="s", data={"position": second["position"]})
            assert (await socket.receive())["data"]["name"] == "third"

    run(story)


@pytest.mark.parametrize("data", [None, {}, [], {"position": 1}, {"position": None}, "x"])
def test_an_acknowledgement_that_is_none(data):
    async def story():
        async with told(application) as socket:
            reply = await socket.ask("ack", request_id="s", data=data)
            assert (reply["response_status"], reply["codes"]) == (400, ["required"])
            assert reply["request_id"] == "s"

    run(story)


@pytest.mark.parametrize("credit", [0, -1, 1.5, "1", True, [], {}])
def test_credit_that_is_none(credit):
    async def story():
        async with told(application) as socket:
            reply = await socket.ask("subscribe", request_id="s", credit=credit)
            assert (reply["response_status"], reply["codes"]) == (400, [{"credit": ["invalid"]}])

    run(story)


@override_settings(REST_CHANNELS={"FRAME_RATE": 0.001, "FRAME_BURST": 8})
def test_acknowledgements_of_events_do_not_count_as_frames():
    async def story():
        async with told(application) as socket:
            await socket.ask("subscribe", request_id="s", credit=1)
            for number in range(20):
                await written(Room.objects.create, name=str(number))
                event = await socket.receive()
                assert event["data"]["name"] == str(number), event
                await socket.send("ack", request_id="s", data={"position": event["position"]})
            for _ in range(8):
                # Nothing new: counted as any frame.
                await socket.send("ack", request_id="s", data={"position": event["position"]})
            assert (await socket.ask("list"))["response_status"] == 429

    run(story)


def test_an_acknowledgement_waits_for_no_turn_and_is_not_in_flight():
    class Busy(Rooms):
        @action(detail=False)
        async def wait(self, request):
            await gate.wait()
            return Response("waited")

    gate = asyncio.Event()

    async def story():
        with override_settings(REST_CHANNELS={"MAX_IN_FLIGHT": 1}):
            async with told(routes(Busy)) as socket:
                await socket.ask("subscribe", request_id="s", credit=1)
                await socket.send("wait", request_id="w")
                await written(Room.objects.create, name="one")
                one = await socket.receive()
                await written(Room.objects.create, name="two")
                await socket.send("ack", request_id="s", data={"position": one["position"]})
                assert (await socket.receive())["data"]["name"] == "two"
                gate.set()
                assert (await socket.receive())["data"] == "waited"

    run(story)


def test_a_stream_with_an_ack_of_its_own_has_no_credit():
    class Alarms(Rooms):
        @action(detail=True)
        def ack(self, request, pk):
            return Response(f"acknowledged {pk}")

    async def story():
        async with told(routes(Alarms)) as socket:
            refused = await socket.ask("subscribe", request_id="s", credit=1)
            assert (refused["response_status"], refused["codes"]) == (400, ["invalid"])
            assert (await socket.ask("ack", pk=1))["data"] == "acknowledged 1"
            assert (await socket.ask("subscribe", request_id="s"))["response_status"] == 201

    run(story)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.only_on("sqlite")
def test_on_a_server_who_does_not_read_costs_little_and_gets_the_latest(kind):
    application = "tests.support.apps.long_events_app:application"
    serving = Server(kind, application, FRAME_RATE=10_000, FRAME_BURST=10_000)
    with serving as server, server.connect() as writer, server.connect_lazily() as slow:
        room = answer(writer, "create", data={"name": "0"})["data"]["id"]
        assert answer(slow, "subscribe", request_id="s")["response_status"] == 201

        def rename(number):
            done = answer(writer, "partial_update", pk=room, data={"name": str(number)})
            assert done["response_status"] == 200

        # The first events take the memory of threads and connections.
        for number in range(1, 6):
            rename(number)
        before = server.rss_bytes
        for number in range(6, 151):
            rename(number)
        # The events have 29 MB.
        assert server.rss_bytes - before < 15_000_000
        told = [reply(slow)["data"]["name"]]
        while told[-1] != "150":
            told.append(reply(slow)["data"]["name"])
        assert len(told) < 100
        assert told == sorted(told, key=int)
