"""A change takes the steps that `ChangePath` names, in their order."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.test import override_settings

from rest_channels.live import change_path
from rest_channels.live.capture import writes
from rest_channels.live.change_path import ChangePath
from rest_channels.live.delivery.refresh import Pass
from rest_channels.models import PendingChange
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room
from tests.support.room_viewsets import RoomNameSerializer
from tests.support.subscription_stories import event, routes, run, subscribed, told, written

pytestmark = pytest.mark.django_db(transaction=True)


class Rooms(ModelConsumerViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomNameSerializer
    permission_classes = []


@pytest.fixture
def steps(monkeypatch):
    """The names of the steps taken so far, in all threads."""
    taken = []

    def note(owner, name, step):
        function = getattr(owner, name)

        def noted(*args, **kwargs):
            taken.append(step)
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, noted)

    note(writes.doorbell, "ring", "ring")
    note(change_path, "sequence", "number")
    note(Pass, "run", "refresh")
    note(ChangePath, "send", "send")
    return taken


@override_settings(REST_CHANNELS={"POLL_SECONDS": 60})
def test_a_change_takes_the_steps_in_their_order(steps):
    def write():
        with transaction.atomic():
            Room.objects.create(name="lobby")
            steps.extend(["capture"] * PendingChange.objects.count())

    async def story():
        async with told(routes(Rooms)) as socket:
            await subscribed(socket)
            steps.clear()
            await written(write)
            assert await event(socket) == ("create", {"name": "lobby"})

    run(story)
    # A pass that began before may end meanwhile.
    of_writer = [step for step in steps if step in ("capture", "ring")]
    rung = steps[steps.index("ring") :]
    assert of_writer[:2] == ["capture", "ring"]
    assert rung[rung.index("number") :][:3] == ["number", "refresh", "send"]
