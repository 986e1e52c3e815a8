"""Failures during a delivery: which subscribers they concern, and what these receive."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection
from django.test import override_settings

from rest_channels.live import change_path
from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.log import transactions
from tests.models import Room
from tests.support.room_viewsets import RoomNames, RoomNameSerializer
from tests.support.subscription_stories import event, routes, run, subscribed, told, written

pytestmark = pytest.mark.django_db(transaction=True)


class Rooms(RoomNames):
    filterset_fields = ["is_staff_only"]


def fails_for(name, fail):
    """A viewset whose serializer fails for the room of that name."""

    class Failing(RoomNameSerializer):
        def to_representation(self, room):
            if room.name == name:
                fail()
            return super().to_representation(room)

    return type("FailingRooms", (Rooms,), {"serializer_class": Failing})


def raise_value_error():
    raise ValueError("no")


def refuse_in_the_database():
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")


def say_it_took_too_long():
    # As a statement_timeout raises it: the database is there.
    raise OperationalError("canceling statement due to statement timeout")


@pytest.mark.parametrize("fail", [raise_value_error, refuse_in_the_database, say_it_took_too_long])
def test_who_cannot_be_told_is_told_so_and_nobody_else_is_touched(fail, caplog):
    async def story():
        application = routes(fails_for("bad", fail))
        async with told(application) as all_rooms, told(application) as others:
            await subscribed(all_rooms)
            await subscribed(others, query={"is_staff_only": True})
            await written(Room.objects.create, name="bad")
            revoked = await all_rooms.receive()
            assert (revoked["action"], revoked["response_status"]) == ("revoke", 500)
            await written(Room.objects.create, name="good", is_staff_only=True)
            assert await event(others) == ("create", {"name": "good"})
            # A new subscriber meets it too.
            reply = await all_rooms.ask("subscribe", request_id="again", snapshot=True)
            assert reply["response_status"] == 500
            error_id = revoked["errors"][0].partition("(error ")[2].rstrip(").")
            assert error_id in caplog.text

    run(story)


def test_a_database_that_is_gone_is_waited_for(settings, monkeypatch, caplog):
    settings.REST_CHANNELS = {"POLL_SECONDS": 0.01}
    snapshot, is_gone = change_path.snapshot, []

    def gone(alias):
        if is_gone:
            raise OperationalError("the connection is lost")
        return snapshot(alias)

    monkeypatch.setattr(change_path, "snapshot", gone)

    async def story():
        async with told(routes(Rooms)) as socket:
            await subscribed(socket)
            is_gone.append(True)
            reply = await socket.ask("subscribe", request_id="other")
            assert (reply["response_status"], reply["codes"]) == (503, ["unavailable"])
            assert int(reply["headers"]["Retry-After"]) > 0
            await written(Room.objects.create, name="meanwhile")
            is_gone.clear()
            assert await event(socket) == ("create", {"name": "meanwhile"})

    run(story)
    assert caplog.text.count("cannot be read") == 1


@override_settings(REST_CHANNELS={"POLL_SECONDS": 0.05})
def test_a_database_that_goes_at_the_end_of_a_pass_loses_nothing(monkeypatch):
    """All is read, and the connection is ended before the snapshot is: the next pass tells it."""
    snapshot, ended = transactions.snapshot, []

    @contextmanager
    def ending(alias):
        with snapshot(alias):
            yield
        if Room.objects.exists() and not ended:
            ended.append(alias)
            raise OperationalError("terminating connection due to administrator command")

    monkeypatch.setattr(change_path, "snapshot", ending)

    async def story():
        async with told(routes(Rooms)) as socket:
            await subscribed(socket)
            await written(Room.objects.create, name="lobby")
            assert await event(socket) == ("create", {"name": "lobby"})
            assert ended == ["default"]

    run(story)


def end_this_connection():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.only_on("postgresql")
@override_settings(REST_CHANNELS={"POLL_SECONDS": 0.05})
def test_a_connection_that_ends_while_rows_are_shown_is_nobodys_error():
    """Django has connected again by then, so the database seems to be there."""
    ended = []

    def end_once():
        if not ended:
            ended.append(True)
            end_this_connection()

    async def story():
        async with told(routes(fails_for("bad", end_once))) as socket:
            await subscribed(socket)
            await written(Room.objects.create, name="bad")
            assert await event(socket) == ("create", {"name": "bad"})
            assert ended

    run(story)


@override_settings(REST_CHANNELS={"POLL_SECONDS": 0.05})
def test_who_cannot_be_told_is_told_so_although_the_database_goes(monkeypatch):
    """In the same pass, once it is known whose telling fails."""
    snapshot, failures, goings = transactions.snapshot, [], []

    @contextmanager
    def going(alias):
        if failures and not goings:
            goings.append(alias)
            raise OperationalError("terminating connection due to administrator command")
        with snapshot(alias):
            yield

    def fail():
        failures.append(True)
        raise ValueError("no")

    monkeypatch.setattr(change_path, "snapshot", going)

    async def story():
        async with told(routes(fails_for("bad", fail))) as socket:
            await subscribed(socket)
            await written(Room.objects.create, name="bad")
            revoked = await socket.receive()
            assert (revoked["action"], revoked["response_status"]) == ("revoke", 500)
            assert goings == ["default"]

    run(story)


def test_sockets_are_closed_where_nobody_could_be_told_any_more(monkeypatch, caplog):
    """A subscriber must not take silence for no change, whatever has gone wrong."""

    def broken(*args):
        raise RuntimeError("a fault of this library's own")

    async def story():
        async with told(routes(Rooms)) as socket:
            await subscribed(socket)
            monkeypatch.setattr(Subscription, "tell", broken)
            await written(Room.objects.create, name="lobby")
            assert await socket.closed_with() == 1011

    run(story)
    assert "Subscriptions have failed" in caplog.text
