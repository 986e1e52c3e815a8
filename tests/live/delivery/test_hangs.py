"""No subscription stays without an answer if anything beside it hangs, is locked or fails."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.db import OperationalError, connection, transaction

from rest_channels.bus import process_channel
from rest_channels.live import change_path
from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.delivery.track import followers
from rest_channels.live.log.sequencer import sequence
from rest_channels.live.log.store import HEAD_ID
from rest_channels.models import LogHead
from tests.models import Room
from tests.support.doorbells import doorbells
from tests.support.gates import Gate
from tests.support.recorded_changes import forget_log
from tests.support.room_viewsets import RoomNames
from tests.support.subscription_stories import event, routes, run, subscribed, told, written
from tests.support.talk import happened

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_database_that_hangs_delays_no_other():
    gate = Gate()

    async def story():
        hanging = asyncio.ensure_future(followers.of("another").run(gate.pass_through))
        await happened(gate.reached)
        async with told(routes(RoomNames)) as socket:
            assert await subscribed(socket) == []
            await written(Room.objects.create, name="lobby")
            assert await event(socket) == ("create", {"name": "lobby"})
        gate.opened.set()
        await hanging

    run(story)


async def until(socket, name):
    """The events up to the creation of a room."""
    events = [await event(socket)]
    while events[-1] != ("create", {"name": name}):
        events.append(await event(socket))
    return events


def test_changes_that_cannot_be_numbered_keep_nobody_out(monkeypatch, caplog):
    await_lock = [True]

    def sequence_or_wait(alias, **given):
        if await_lock:
            raise OperationalError("database is locked")
        return sequence(alias)

    async def story():
        application = routes(RoomNames)
        async with told(application) as one, told(application) as two:
            assert await subscribed(one) == []
            await written(Room.objects.create, name="lobby")
            assert await subscribed(two) == [{"name": "lobby"}]
            assert caplog.text.count("cannot be numbered yet") == 1
            await_lock.clear()
            await written(Room.objects.create, name="attic")
            assert (await until(one, "attic"))[0] == ("create", {"name": "lobby"})
            await until(two, "attic")

    monkeypatch.setattr(change_path, "sequence", sequence_or_wait)
    run(story)


@pytest.mark.only_on("postgresql")
def test_a_lock_that_is_never_released_is_waited_for_a_moment():
    # A `flush` after the test before has made it again.
    forget_log()
    Room.objects.create(name="lobby")
    assert sequence("default") == 1
    Room.objects.create(name="attic")
    locked, opened = threading.Event(), threading.Event()

    def hold():
        try:
            with transaction.atomic():
                assert LogHead.objects.select_for_update().get(pk=HEAD_ID)
                locked.set()
                assert opened.wait(30)
        finally:
            connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(10)
    try:
        with pytest.raises(OperationalError, match="lock timeout"):
            sequence("default")
    finally:
        opened.set()
        holder.join()
    assert sequence("default") == 1


def test_all_whom_a_failing_pass_lets_in_are_closed(monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise RuntimeError("a fault of this library's own")

    async def story():
        application = routes(RoomNames)
        async with told(application) as one, told(application) as two:
            monkeypatch.setattr(Subscription, "acknowledge", broken)
            for socket in (one, two):
                await socket.send("subscribe", request_id="s")
            assert [await socket.closed_with() for socket in (one, two)] == [1011, 1011]

    run(story)
    assert "Subscriptions have failed" in caplog.text


def test_all_whom_a_failing_pass_refuses_are_closed(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("a fault of this library's own")

    def gone(alias):
        raise OperationalError("gone")

    async def story():
        async with told(routes(RoomNames)) as socket:
            monkeypatch.setattr(change_path, "snapshot", gone)
            monkeypatch.setattr(Subscription, "refuse", broken)
            await socket.send("subscribe", request_id="s")
            assert await socket.closed_with() == 1011

    run(story)


def test_a_layer_that_cancels_its_listener_is_listened_to_again(monkeypatch):
    monkeypatch.setattr(process_channel, "_SECONDS_BETWEEN_TRIES", 0)
    heard = []

    class Layer:
        async def new_channel(self):
            return "channel"

        async def group_add(self, group, channel):
            pass

        async def group_discard(self, group, channel):
            pass

        async def receive(self, channel):
            if not heard:
                heard.append("cancelled")
                raise asyncio.CancelledError
            return {"type": "rest_channels.look", "database": "default"}

    async def story():
        rung = asyncio.Event()
        monkeypatch.setattr(process_channel, "get_channel_layer", Layer)
        async with asyncio.timeout(10), doorbells(lambda look: rung.set()):
            await rung.wait()

    run(story)
