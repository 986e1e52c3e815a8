"""A process sends to others: doorbells first, messages of a group in their order."""

from __future__ import annotations

import asyncio
import threading

import pytest
from channels.layers import BaseChannelLayer

from rest_channels.bus import channel_layer
from rest_channels.bus.messages import GroupNews, GroupOffer, GroupTexts
from rest_channels.bus.publisher import DOORBELL_GROUP
from tests.support.publishers import a_publisher

GROUPS = 500


class GatedLayer(BaseChannelLayer):
    """Takes no message for a group, and no doorbell after the first, until the gates open."""

    def __init__(self):
        super().__init__()
        self.sent = []
        self.begun = 0
        self.has_changed = threading.Condition()
        self.groups_may_go_on, self.bells_may_go_on = asyncio.Event(), asyncio.Event()

    async def group_send(self, group, message):
        with self.has_changed:
            self.begun += 1
            self.has_changed.notify_all()
        await (self.bells_may_go_on if group == DOORBELL_GROUP else self.groups_may_go_on).wait()
        with self.has_changed:
            self.sent.append(message)
            self.has_changed.notify_all()

    def wait(self, condition):
        with self.has_changed:
            assert self.has_changed.wait_for(condition, 10)

    def doorbells(self):
        return [message["database"] for message in self.sent if "database" in message]


@pytest.fixture
def layer(monkeypatch):
    layer = GatedLayer()
    monkeypatch.setattr(channel_layer, "shared_layer", lambda: layer)
    return layer


@pytest.fixture
def publisher(settings):
    settings.REST_CHANNELS = {"PUBLISH_SECONDS": 20}
    with a_publisher() as publisher:
        yield publisher


def open_gate(publisher, gate):
    publisher._loop.call_soon_threadsafe(gate.set)


def test_doorbells_go_before_a_flood_of_messages_to_groups(publisher, layer):
    """How soon: before any other. How many: one for all that ring while one is sent."""
    for number in range(GROUPS):
        publisher.publish(f"group-{number}", GroupTexts("p", str(number), ["1"]))
    layer.wait(lambda: layer.begun == 16)
    publisher.ring("default")
    layer.wait(lambda: layer.begun == 17)
    for _ in range(1_000):
        publisher.ring("default")
    open_gate(publisher, layer.bells_may_go_on)
    layer.wait(lambda: len(layer.sent) == 2)
    assert layer.doorbells() == ["default", "default"]
    open_gate(publisher, layer.groups_may_go_on)
    publisher.flush()
    assert len(layer.sent) == 2 + GROUPS


def test_a_group_gets_its_messages_in_their_order_and_texts_together(publisher, layer):
    publisher.publish("g", GroupTexts("p", "g", ["first"]))
    layer.wait(lambda: layer.begun == 1)
    for message in (
        GroupTexts("p", "g", ["1"]),
        GroupTexts("p", "g", ["2"]),
        GroupNews("p", "g"),
        GroupTexts("p", "g", ["3"]),
        GroupOffer("p", "g", "4"),
    ):
        publisher.publish("g", message)
    open_gate(publisher, layer.groups_may_go_on)
    publisher.flush()
    told = [message.get("texts") or message.get("text") for message in layer.sent]
    assert told == [["first"], ["1", "2"], None, ["3"], "4"]


def test_one_slow_group_keeps_no_other_waiting(publisher, layer):
    async def group_send(group, message):
        if group == "slow":
            await layer.groups_may_go_on.wait()
        with layer.has_changed:
            layer.sent.append(group)
            layer.has_changed.notify_all()

    layer.group_send = group_send
    for group in ("slow", "quick"):
        publisher.publish(group, GroupNews("p", group))
    layer.wait(lambda: layer.sent == ["quick"])
    open_gate(publisher, layer.groups_may_go_on)
    publisher.flush()
    assert layer.sent == ["quick", "slow"]
