"""Clients that were away receive the changes that they missed."""

from __future__ import annotations

import pytest

from rest_channels.live.log import store
from rest_channels.live.log.positions import Position
from rest_channels.live.log.replay import History
from rest_channels.live.log.sequencer import sequence
from tests.models import Room
from tests.support.recorded_changes import forget_log
from tests.support.room_viewsets import OpenRooms
from tests.support.server_processes import Server, answer, reply
from tests.support.subscription_stories import event, routes, run, told, written

pytestmark = pytest.mark.django_db(transaction=True)


class Rooms(OpenRooms):
    filterset_fields = ["is_staff_only"]


application = routes(Rooms)


async def position_after(*names: str) -> str:
    """The position of a client that holds rooms of these names, and nothing else there was."""
    for name in names:
        await written(Room.objects.create, name=name)
    async with told(application) as socket:
        return (await socket.ask("subscribe", request_id="s", snapshot=True))["position"]


async def resume(socket, since, **keys):
    return await socket.ask("subscribe", request_id="s", since=since, **keys)


def test_what_was_missed_comes_as_events_on_a_chain_of_positions():
    async def story():
        since = await position_after("kept", "changed", "gone")
        kept, changed, gone = await written(lambda: list(Room.objects.order_by("id")))
        held = [room.pk for room in (kept, changed, gone)]
        changed.name = "new name"
        await written(changed.save)
        new = await written(Room.objects.create, name="new")
        await written(gone.delete)
        async with told(application) as socket:
            reply = await resume(socket, since, held=held)
            assert (reply["response_status"], reply["resumed"]) == (201, True)
            assert (reply["position"], reply["data"]) == (since, None)
            events = [await socket.receive() for _ in range(3)]
            assert [(e["action"], e["data"].get("id", e["data"].get("pk"))) for e in events] == [
                ("delete", held[2]),
                ("update", changed.pk),
                ("create", new.pk),
            ]
            reached = [reply["position"], *(e["position"] for e in events)]
            assert [e["previous"] for e in events] == reached[:-1]
            # And on it goes.
            await written(kept.save)
            payload = await socket.receive()
            assert (payload["action"], payload["previous"]) == ("update", reached[-1])

    run(story)


def test_who_missed_nothing_of_theirs_gets_a_fresher_position():
    async def story():
        since = await position_after("lobby")
        await written(Room.objects.create, name="secret", is_staff_only=True)
        async with told(application) as socket:
            reply = await resume(socket, since)
            assert reply["resumed"] is True
            payload = await socket.receive()
            assert payload["action"] == "create"
        async with told(application) as socket:
            query = {"is_staff_only": False}
            first = await socket.ask("subscribe", request_id="open", query=query)
            await written(Room.objects.create, name="other", is_staff_only=True)
        async with told(application) as socket:
            reply = await socket.ask(
                "subscribe", request_id="open", query=query, since=first["position"]
            )
            assert reply["resumed"] is True
            sync = await socket.receive()
            assert (sync["action"], sync["previous"]) == ("sync", first["position"])
            assert sync["position"] != first["position"]

    run(story)


def test_what_the_client_holds_is_compared_with_what_it_may_see():
    async def story():
        since = await position_after("lobby")
        room = await written(Room.objects.get)
        async with told(application) as socket:
            # A row that it does not hold, one that is not there, and a value that cannot be a key.
            reply = await resume(socket, since, held=[404, "x"])
            assert reply["resumed"] is True
            told_of = {(await event(socket))[0]: None for _ in range(3)}
            assert told_of.keys() == {"create", "delete"}
            assert room.name == "lobby"

    run(story)


@pytest.mark.parametrize("since", ["x", 7, {"a": 1}, "AAAA.BBBB", "", [], True])
def test_what_is_no_position_is_answered_with_a_reset(since):
    async def story():
        await position_after("lobby")
        async with told(application) as socket:
            reply = await resume(socket, since, snapshot=True)
            assert (reply["response_status"], reply["resumed"]) == (201, False)
            assert reply["data"] is None
            reset = await socket.receive()
            assert (reset["action"], reset["response_status"]) == ("reset", 205)
            assert [room["name"] for room in reset["data"]] == ["lobby"]
            assert reset["previous"] == reply["position"]

    run(story)


def test_the_history_is_read_once_whoever_asks(django_assert_num_queries):
    forget_log()
    for number in range(10):
        Room.objects.create(name=f"room-{number}")
    sequence("default")
    end = store.head("default")
    places = [
        Position(entry.position, entry.mark) for entry in store.entries("default").order_by("pk")
    ]
    history = History("default", end)
    with django_assert_num_queries(1):
        assert [entry.position for entry in history.since(places[3])] == list(range(5, 11))
    with django_assert_num_queries(0):
        assert [entry.position for entry in history.since(places[7])] == [9, 10]
        assert history.since(end) == []
        assert history.since(Position(8, places[7].mark + 1)) is None
    with django_assert_num_queries(1):
        assert len(history.since(places[0])) == 9
    assert history.since(Position(11, 1)) is None
    assert history.since(Position(end.number, end.mark + 1)) is None


AWAY = """
from tests.models import Room
from tests.support.server_processes import Server, answer, reply
Room.objects.filter(name="gone").delete()
Room.objects.create(name="new")
kept = Room.objects.get(name="kept")
kept.name = "changed"
kept.save()
"""


@pytest.mark.only_on("sqlite")
def test_who_loses_one_process_goes_on_at_another():
    """Two servers; the one that the client knew is killed, and a third process writes meanwhile."""
    with Server("uvicorn") as other:
        other.run("from tests.models import Room\nfor n in ('kept', 'gone', 'same'):\n"
                  "    Room.objects.create(name=n)\n")  # fmt: skip
        with Server("uvicorn", beside=other) as one, one.connect("/rooms/") as socket:
            begun = answer(socket, "subscribe", request_id="s", snapshot=True)
        rows = {row["id"]: row["name"] for row in begun["data"]}
        assert list(rows.values()) == ["kept", "gone", "same"]
        other.run(AWAY)
        with other.connect("/rooms/") as socket:
            since, held = begun["position"], list(rows)
            resumed = answer(socket, "subscribe", request_id="s", since=since, held=held)
            assert (resumed["resumed"], resumed["data"]) == (True, None)
            position = resumed["position"]
            for _ in range(3):
                told_of = reply(socket)
                assert told_of["previous"] == position
                position, data = told_of["position"], told_of["data"]
                if told_of["action"] == "delete":
                    del rows[data["pk"]]
                else:
                    rows[data["id"]] = data["name"]
            shown = answer(socket, "list", request_id="l", query={"limit": "10"})["data"]["results"]
            assert rows == {row["id"]: row["name"] for row in shown}
            assert sorted(rows.values()) == ["changed", "new", "same"]
