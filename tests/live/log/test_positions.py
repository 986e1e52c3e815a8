"""Positions that are shown again: old ones, forged ones, those of others and of other histories."""

from __future__ import annotations

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from rest_channels.live.log import positions, store
from rest_channels.live.log.positions import Position
from rest_channels.live.log.sequencer import sequence
from tests.models import Room
from tests.support.room_viewsets import OpenRooms
from tests.support.subscription_stories import ByHeader, event, run, subscribed, told, written

PLACES = st.builds(Position, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
SEAL = positions.seal("7", "rooms")


# The token


@given(PLACES)
def test_a_place_is_read_as_it_was_written(place):
    assert positions.decode(f"{positions.encode(place)}.{SEAL}", SEAL) == place


@given(st.text() | st.integers() | st.none() | st.lists(st.text()) | st.booleans())
def test_anything_else_names_no_place(token):
    assert positions.decode(token, SEAL) is None


@given(PLACES, st.text(max_size=40))
def test_a_seal_alone_makes_no_position(place, text):
    named = positions.decode(f"{text}.{SEAL}", SEAL)
    assert named is None or positions.encode(named) == text


@pytest.mark.parametrize(
    ("user", "topic"), [("8", "rooms"), ("7", "room"), ("", "7rooms"), ("7r", "ooms"), ("7", "")]
)
def test_a_seal_is_of_one_user_and_topic(user, topic):
    token = f"{positions.encode(Position(3, 4))}.{positions.seal(user, topic)}"
    assert positions.decode(token, SEAL) is None


def test_each_character_counts():
    token = f"{positions.encode(Position(3, 4))}.{SEAL}"
    for index, character in enumerate(token):
        other = "A" if character != "A" else "B"
        changed = token[:index] + other + token[index + 1 :]
        assert positions.decode(changed, SEAL) != Position(3, 4), index
    assert positions.decode(token + "=", SEAL) is None
    assert positions.decode(token[1:], SEAL) is None


def test_tokens_of_another_secret_key_name_nothing():
    token = f"{positions.encode(Position(3, 4))}.{SEAL}"
    with override_settings(SECRET_KEY="another"):
        assert positions.decode(token, positions.seal("7", "rooms")) is None


def test_a_token_does_not_tell_how_much_is_written():
    # One more entry, one bit more: as different as any two.
    one, other = positions.encode(Position(1, 2**40)), positions.encode(Position(2, 2**40 + 1))
    assert sum(a != b for a, b in zip(one, other, strict=True)) > 8
    assert positions.encode(Position(1, 5))[-8:] != positions.encode(Position(1, 6))[-8:]


# Over a socket


class Rooms(OpenRooms):
    authentication_classes = [ByHeader]
    filterset_fields = ["is_staff_only"]


class Halls(Rooms):
    """Another stream of the same rooms."""


application = URLRouter([*Rooms.as_routes("rooms", "rooms"), *Halls.as_routes("halls", "halls")])

in_database = pytest.mark.django_db(transaction=True)


async def somebody(name="ann"):
    return await written(User.objects.create, username=name)


async def position_of(user, **keys):
    async with told(application, "/rooms/", user) as socket:
        return (await socket.ask("subscribe", request_id="s", **keys))["position"]


async def is_reset(user, since, *, path="/rooms/", action="subscribe", **keys):
    """Return whether a client that shows `since` receives a reset with all rows, and no more."""
    async with told(application, path, user) as socket:
        asked = {"request_id": "s", "since": since, "snapshot": True, "held": [], **keys}
        reply = await socket.ask(action, **asked)
        assert reply["response_status"] == 201, reply
        if reply["resumed"]:
            return False
        reset = await socket.receive()
        assert (reset["action"], reset["response_status"]) == ("reset", 205)
        assert reset["previous"] == reply["position"] != reset["position"]
        shown = reset["data"] if isinstance(reset["data"], list) else [reset["data"]]
        assert [room["name"] for room in shown] == ["lobby"]
    # A client that leaves between the two has reached nothing.
    async with told(application, path, user) as socket:
        reply = await socket.ask(action, **{**asked, "since": reply["position"]})
        assert reply["resumed"] is False
        return True


@in_database
def test_positions_of_somebody_or_something_else_are_reset():
    async def story():
        ann, ben = await somebody("ann"), await somebody("ben")
        room = await written(Room.objects.create, name="lobby")
        since = await position_of(ann)
        assert not await is_reset(ann, since)
        assert await is_reset(ben, since)
        assert await is_reset(None, since)
        assert await is_reset(ann, since, path="/halls/")
        assert await is_reset(ann, since, query={"is_staff_only": False})
        assert await is_reset(ann, since, action="subscribe_instance", pk=room.pk)
        filtered = await position_of(ann, query={"is_staff_only": False})
        assert await is_reset(ann, filtered)
        assert not await is_reset(ann, filtered, query={"is_staff_only": False})

    run(story)


@in_database
def test_forged_positions_are_reset():
    async def story():
        ann = await somebody()
        await written(Room.objects.create, name="lobby")
        since = await position_of(ann)
        _, _, seal = since.partition(".")
        for place in (Position(0, 0), Position(1, 1), Position(2**62, 7)):
            is_start = place == Position(0, 0)
            assert await is_reset(ann, f"{positions.encode(place)}.{seal}") is not is_start
        assert await is_reset(ann, since[:-1])
        assert await is_reset(ann, f"{since}.{seal}")

    run(story)


def forget_log(before: int):
    store.entries("default").filter(position__lt=before)._raw_delete("default")


@in_database
def test_positions_of_what_is_forgotten_are_reset():
    async def story():
        ann = await somebody()
        room = await written(Room.objects.create, name="lobby")
        old = await position_of(ann)
        for _ in range(3):
            await written(room.save)
        await written(sequence, "default")
        newer = await position_of(ann)
        await written(room.save)
        await written(sequence, "default")
        end = await written(store.head, "default")
        await written(forget_log, end.number - 1)
        assert await is_reset(ann, old)
        assert not await is_reset(ann, newer)
        # A client may go on from the last entry alone, too.
        last = await position_of(ann)
        await written(forget_log, end.number)
        assert await is_reset(ann, newer)
        assert not await is_reset(ann, last)

    run(story)


def restore(position: int) -> None:
    """The log as a backup of that moment had it."""
    store.entries("default").filter(position__gt=position).delete()
    mark = store.entries("default").get(position=position).mark
    store.heads("default").update(position=position, mark=mark)


@in_database
def test_positions_of_another_history_are_reset():
    async def story():
        ann = await somebody()
        room = await written(Room.objects.create, name="lobby")
        await written(sequence, "default")
        common = await position_of(ann)
        backup = (await written(store.head, "default")).number
        for _ in range(3):
            await written(room.save)
        lost = await position_of(ann)
        await written(restore, backup)
        assert await is_reset(ann, lost), "ahead of the log"
        for _ in range(3):
            await written(room.save)
        assert await is_reset(ann, lost), "as far as the log, with other marks"
        await written(room.save)
        assert await is_reset(ann, lost), "within the log"
        assert not await is_reset(ann, common)

    run(story)


@in_database
def test_who_is_there_when_a_backup_is_restored_is_told_the_difference():
    async def story():
        kept = await written(Room.objects.create, name="kept")
        gone = await written(Room.objects.create, name="gone")
        await written(sequence, "default")
        backup = (await written(store.head, "default")).number
        changed = await written(Room.objects.create, name="changed")
        async with told(application, "/rooms/") as socket:
            await subscribed(socket)

            def come_back():
                restore(backup)
                rooms = Room.objects.all()
                rooms.filter(pk=gone.pk)._raw_delete("default")
                rooms.filter(pk=changed.pk).update(name="other")
                # The first write after it rings.
                Room.objects.create(name="new")

            await written(come_back)
            events = [await event(socket) for _ in range(3)]
            told_of = {data.get("name", data.get("pk")): action for action, data in events}
            assert told_of == {gone.pk: "delete", "other": "update", "new": "create"}
            await written(kept.save)
            assert (await event(socket))[0] == "update"

    run(story)


@in_database
@pytest.mark.parametrize("held", [["x"], [2**70], [-1], ["", "7 "], ["1' OR 1=1"]])
def test_keys_that_no_row_can_have_are_not_there(held):
    """A client may hold what it likes: none of it is an error of the server."""

    async def story():
        await written(Room.objects.create, name="lobby")
        since = await position_of(None)
        await written(Room.objects.create, name="attic")
        async with told(application, "/rooms/") as socket:
            reply = await socket.ask("subscribe", request_id="s", since=since, held=held)
            assert reply["resumed"] is True
            seen = []
            while "attic" not in seen or "lobby" not in seen:
                action, data = await event(socket)
                assert action in ("create", "delete"), (action, data)
                seen.append(data.get("name"))

    run(story)
