"""The figures of a process."""

from __future__ import annotations

import asyncio
import gc
import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

import rest_channels
from rest_channels.live.delivery.hub import current_hub
from rest_channels.live.log import store
from rest_channels.live.log.sequencer import sequence
from rest_channels.metrics import gauges
from rest_channels.metrics.figures import registry
from rest_channels.models import PendingChange
from tests.live.delivery.test_backlog import Reader, Rooms, begun, keeping_up, rename
from tests.models import Room
from tests.support.recorded_changes import forget_log
from tests.support.subscription_stories import routes, run, subscribed, told, written
from tests.support.walkthrough import ROOT, blocks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_track]

application = routes(Rooms)


@pytest.fixture(autouse=True)
def empty_log(transactional_db):
    """The first test of a run finds what `migrate` wrote."""
    forget_log()


def since(before):
    return {name: value - before[name] for name, value in rest_channels.stats().items()}


def test_what_happens_is_counted():
    async def story():
        gc.collect()
        before = rest_channels.stats()
        async with told(application) as one, told(application) as two:
            await subscribed(one)
            await subscribed(two)
            await written(Room.objects.create, name="lobby")
            await one.receive()
            await two.receive()
            counted = since(before)
            assert (counted["connections"], counted["subscriptions"]) == (2, 2)
            assert counted["audiences"] == 1
            assert counted["frames"] == 2
            # One text for both.
            assert counted["encodes"] == 1
            assert 1 <= counted["evaluations"] <= 2
            assert counted["deliveries"] == 2
            assert counted["sequenced"] == 1
            assert counted["passes"] >= 3
            await two.ask("subscribe", request_id="s", since="nowhere")
            await two.receive()
            assert since(before)["resets"] == 1
        assert since(before)["connections"] == 0

    run(story)


@override_settings(REST_CHANNELS={"MAX_QUEUE_BYTES": 4_000})
def test_who_does_not_read_is_counted():
    async def story():
        gc.collect()
        before = rest_channels.stats()
        slow = Reader(application)
        await begun(slow)
        async with told(application) as witness:
            await subscribed(witness)
            room = await written(Room.objects.create, name="x")
            await keeping_up(witness, 1)
            for number in range(15):
                await written(rename, room, f"{number}:" + "x" * 200)
                await keeping_up(witness, 1)
            counted = since(before)
            assert counted["merged"] > 0 and counted["too_slow"] == 0
            assert 0 < counted["queue_bytes"] < 4_000
            assert 0 < counted["backlog_bytes"] < 1_000
            for number in range(15):
                await written(Room.objects.create, name=f"more {number}:" + "x" * 200)
                await keeping_up(witness, 1)
            assert since(before)["too_slow"] == 1
        await slow.leave()

    run(story)


def test_how_far_the_sequencer_is_behind(capsys, monkeypatch):
    # The lag of other tests' databases does not belong to this story.
    monkeypatch.setattr(gauges, "_lags", {})
    Room.objects.create(name="one")
    Room.objects.create(name="two")
    call_command("live_stats")
    numbers = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert numbers["sequencer_lag_entries"] == "2" and float(numbers["sequencer_lag_seconds"]) > 0
    position = int(numbers["log_position"])
    sequence("default")
    found = rest_channels.stats()
    assert found["sequencer_lag_entries"] == 2 and found["sequencer_lag_seconds"] > 0
    sequence("default")
    found = rest_channels.stats()
    assert (found["sequencer_lag_entries"], found["sequencer_lag_seconds"]) == (0, 0)
    call_command("live_stats")
    numbers = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert numbers["sequencer_lag_entries"] == "0"
    assert int(numbers["log_position"]) == position + 2
    assert int(numbers["log_entries"]) >= 2


def test_what_waited_for_a_subscriber_is_no_lag(monkeypatch):
    """The first subscriber in the morning finds the changes of the night."""
    monkeypatch.setattr(gauges, "_lags", {})
    Room.objects.create(name="one")
    PendingChange.objects.update(created_at=timezone.now() - timedelta(hours=8))

    async def story():
        async with told(application) as one:
            await subscribed(one)
            assert rest_channels.stats()["sequencer_lag_seconds"] < 3600
            gauges.note_lag("default", 7.0, 1)
        hub = current_hub()
        while hub._followers:
            hub.on_ring("default")
            await asyncio.sleep(0)
        assert rest_channels.stats()["sequencer_lag_seconds"] == 0

    run(story)


def test_the_sequencer_that_is_furthest_behind_counts(monkeypatch):
    monkeypatch.setattr(gauges, "_lags", {})
    gauges.note_lag("far", 7.0, 3)
    gauges.note_lag("near", 1.0, 2)
    found = rest_channels.stats()
    assert (found["sequencer_lag_seconds"], found["sequencer_lag_entries"]) == (7.0, 5)


def test_a_database_without_a_log(monkeypatch):
    monkeypatch.setattr(store, "is_installed", lambda alias: False)
    with pytest.raises(CommandError, match="migrate rest_channels"):
        call_command("live_stats")


def test_prometheus_can_read_the_view_of_the_page_on_deploying(rf):
    page: dict = {}
    [code] = [
        block.text
        for block in blocks(ROOT / "docs" / "monitoring.md")
        if "def metrics(" in block.text
    ]
    exec(code, page)
    text = page["metrics"](rf.get("/metrics")).content.decode()
    assert text.endswith("\n")
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    values = dict(re.findall(r"^(\w+) (-?[0-9.e+-]+)$", text, re.MULTILINE))
    assert {name.removeprefix("rest_channels_") for name in values} == rest_channels.stats().keys()
    assert types.keys() == values.keys()
    growing = {name.removeprefix("rest_channels_") for name in types if types[name] == "counter"}
    plain = [f for f in registry.collect() if f.kind == "counter" and not f.labels]
    assert growing == {family.name for family in plain}
