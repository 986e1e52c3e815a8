"""Processes are killed at every step: nothing is lost, and the others go on."""

from __future__ import annotations

import itertools

import pytest
from django.db import transaction
from websockets.exceptions import InvalidHandshake

from rest_channels.models import Change
from tests.models import Room
from tests.support.killable_processes import Victim, VictimServer, number, write
from tests.support.recorded_changes import InThread, forget_log
from tests.support.room_client import Client, listed
from tests.support.stepped_processes import MOMENTS

pytestmark = pytest.mark.django_db(transaction=True)


# Each statement of a process that writes, or numbers what was written, and some that it has not.
STEPS = [f"statement {count}" for count in range(1, 11)]
STEPS += ["before the commit", "after the commit"]


def names():
    return sorted(Room.objects.values_list("name", flat=True))


def test_a_writer_killed_at_any_step_has_written_all_or_nothing_and_it_is_told():
    written, stopped = [], 0
    with VictimServer(POLL_SECONDS=0.1) as server:
        client = Client().subscribe(server)
        for step in STEPS:
            wanted = [f"{name}-{step}".replace(" ", "-") for name in ("lobby", "hall")]
            with Victim(write, *wanted, stop_at=step) as victim:
                is_stopped = victim.has_stopped()
            stopped += is_stopped
            if not is_stopped or step == "after the commit":
                # No doorbell rings for it in the other case.
                written += wanted
            assert names() == sorted(written), step
            client.take_until(listed(server))
        client.leave()
    assert stopped >= 6


def test_who_gives_numbers_is_killed_at_any_step_and_another_goes_on():
    stopped = set()
    forget_log()
    with VictimServer(is_deaf=True, POLL_SECONDS=3600) as server:
        client = Client().subscribe(server)
        # On a slow machine the server may still look, and give numbers before the victim does.
        for step in itertools.chain.from_iterable(itertools.repeat(STEPS, 5)):
            if step == STEPS[0] and len(stopped) >= 6:
                break
            Room.objects.create(name=step.replace(" ", "-"))
            other = Client()
            other.connect(server)
            with Victim(number, stop_at=step) as victim:
                if victim.has_stopped():
                    stopped.add(step)
                # The server gives numbers, too, or waits for the lock to do so.
                other.ask_to_subscribe()
            other.take_acknowledgement()
            assert sorted(room["name"] for room in other.held) == names()
            client.take_until(other.held)
            other.leave()
        client.leave()
    assert len(stopped) >= 6
    positions = list(Change.objects.order_by("position").values_list("position", flat=True))
    assert positions == list(range(1, Room.objects.count() + 1))


# Its death leaves nothing behind in a database; but for locks, see above.
@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("moment", ["accept", "acknowledged", "an event", *MOMENTS])
def test_a_server_is_killed_and_its_client_goes_on_at_another(moment):
    for name in ("lobby", "hall", "attic"):
        Room.objects.create(name=name)
    with VictimServer(POLL_SECONDS=0.1) as server, VictimServer(POLL_SECONDS=0.1) as other:
        client = Client()
        if moment == "accept":
            server.stop_at(moment)
            connecting = InThread(client.connect, server)
        elif moment == "acknowledged":
            client.connect(server)
            server.stop_at(moment)
            client.ask_to_subscribe()
        else:
            client.subscribe(server)
            server.stop_at(moment)
            rename("before")
        assert server.has_stopped()
        server.kill()
        if moment == "accept":
            with pytest.raises((OSError, InvalidHandshake)):
                connecting.result()
        client.take_rest()
        rename("after")
        client.subscribe(other)
        client.take_until(listed(other))
        # It is live there, too.
        rename("again")
        client.take_until(listed(other))
        client.leave()


def rename(name):
    """In one transaction: one room goes, others have other names, one is new."""
    with transaction.atomic():
        first, *others = Room.objects.order_by("id")
        first.delete()
        for number, room in enumerate(others):
            room.name = f"{name}-{number}"
            room.save()
        Room.objects.create(name=name)
