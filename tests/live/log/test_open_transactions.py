"""A transaction that has written stays open: no one waits, and its commit causes the events."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from tests.models import Room
from tests.support.apps.live_rooms_app import application
from tests.support.recorded_changes import InThread
from tests.support.subscription_stories import event, run, subscribed, told, written

# SQLite has one writer at a time.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.only_on("postgresql")]


class Open:
    """A transaction that has made `write`, in a thread of its own, until `commit`."""

    def __init__(self, write):
        self._has_written, self._may_commit = threading.Event(), threading.Event()
        self._thread = InThread(self._hold, write)
        assert self._has_written.wait(20)

    def _hold(self, write):
        with transaction.atomic():
            write()
            self._has_written.set()
            assert self._may_commit.wait(60)

    def commit(self):
        self._may_commit.set()
        self._thread.result()


def rename(room, name):
    room.name = name
    room.save()


async def next_of(socket):
    action, data = await event(socket)
    return action, data["name"]


def test_others_are_told_meanwhile_and_the_row_keeps_its_order():
    async def story():
        first, second = [await written(Room.objects.create, name=n) for n in ("a", "b")]
        async with told(application) as socket, told(application) as of_row:
            await subscribed(socket)
            reply = await of_row.ask("subscribe_instance", request_id="row", pk=second.pk)
            assert reply["response_status"] == 201
            # Its notes have smaller ids than all that follow.
            slow = await written(Open, lambda: rename(first, "slow"))
            for number in range(3):
                await written(rename, second, f"quick-{number}")
                assert await next_of(socket) == ("update", f"quick-{number}")
                assert await next_of(of_row) == ("update", f"quick-{number}")
            new = await written(Room.objects.create, name="new")
            assert await next_of(socket) == ("create", "new")
            await written(new.delete)
            assert (await event(socket))[0] == "delete"
            # A new subscriber sees the committed rows, and receives the rest.
            async with told(application) as late:
                rooms = await subscribed(late)
                assert [room["name"] for room in rooms] == ["a", "quick-2"]
                await written(slow.commit)
                for one in (socket, late):
                    assert await next_of(one) == ("update", "slow")
                await written(rename, first, "after")
                for one in (socket, late):
                    assert await next_of(one) == ("update", "after")

    run(story)


def test_who_waits_for_its_row_comes_after_it():
    """The other change is noted later, and committed later, so it is delivered."""

    async def story():
        room = await written(Room.objects.create, name="a")
        same = await written(Room.objects.get)
        async with told(application) as socket:
            await subscribed(socket)
            slow = await written(Open, lambda: rename(room, "slow"))
            waiting = InThread(rename, same, "waited")
            await written(Room.objects.create, name="other")
            assert await next_of(socket) == ("create", "other")
            await written(slow.commit)
            await written(waiting.result)
            names = [(await next_of(socket))[1]]
            while names[-1] != "waited":
                names.append((await next_of(socket))[1])
            assert names in (["slow", "waited"], ["waited"])

    run(story)


def test_what_decides_who_may_see_it_counts_from_the_commit():
    async def story():
        room = await written(Room.objects.create, name="a")
        user = await written(User.objects.create, username="ann", is_staff=True)
        async with told(application, user=user) as staff, told(application) as others:
            await subscribed(staff)
            await subscribed(others)
            room.is_staff_only = True
            slow = await written(Open, room.save)
            await written(Room.objects.create, name="other")
            assert await next_of(staff) == await next_of(others) == ("create", "other")
            await written(slow.commit)
            assert await next_of(staff) == ("update", "a")
            assert await event(others) == ("delete", {"pk": room.pk})

    run(story)
