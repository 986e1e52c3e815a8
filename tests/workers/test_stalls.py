"""A job that waits for too long is logged once, with the place where it waits."""

from __future__ import annotations

import asyncio
import logging

import pytest
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.live import change_path
from rest_channels.live.log.sequencer import sequence
from rest_channels.workers import monitoring
from rest_channels.workers.monitoring import Stalls, Wait, current_stalls
from tests.support.gates import Gate
from tests.support.room_viewsets import RoomNames
from tests.support.talk import OpenViewSet, happened, serving, talking_to


class Work:
    """A source whose subjects the story names."""

    def __init__(self, *subjects):
        self.subjects = list(subjects)

    def waits(self):
        return [Wait(subject, f"Frame {subject}", "somewhere") for subject in self.subjects]


@pytest.fixture
def looks(caplog):
    """Look at a source at these seconds; the lines of each look."""

    async def story(source, seconds):
        now = 0.0
        watching = Stalls(asyncio.get_running_loop(), lambda: now)
        watching.watch(source)
        lines = []
        for now in seconds:  # noqa: B007
            caplog.clear()
            watching.look()
            lines.append(caplog.messages)
        watching.forget(source)
        return lines

    return lambda source, *seconds: asyncio.run(story(source, seconds))


def test_once_and_not_before_its_time(looks):
    line = "Frame one has waited for 4 seconds: somewhere."
    assert looks(Work("one"), 0, 2, 3.9, 4, 6, 60) == [[], [], [], [line], [], []]


def test_each_by_itself_however_equal_they_are(looks):
    one, two = [1], [1]
    assert [len(lines) for lines in looks(Work(one, two), 0, 5, 9)] == [0, 2, 0]


def test_what_is_answered_is_not_logged(looks):
    work = Work("one")
    work.waits = lambda: [Wait(object(), "Frame", "somewhere")]
    assert looks(work, 0, 5, 10, 15) == [[], [], [], []]


@pytest.fixture
def gate(monkeypatch):
    monkeypatch.setattr(monitoring, "PATIENCE_SECONDS", 0)
    return Gate()


def test_a_frame_in_a_worker_thread_and_one_behind_it(gate, caplog):
    class Slow(OpenViewSet):
        @action(detail=False)
        def wait(self, request):
            gate.pass_through()
            return Response()

    async def story():
        async with talking_to(serving(Slow)) as socket:
            await socket.send("wait", request_id=1)
            await socket.send("metadata", request_id=2)
            await happened(gate.reached)
            current_stalls().look()
            gate.opened.set()
            assert [(await socket.receive())["request_id"] for _ in range(2)] == [1, 2]

    asyncio.run(story())
    slow, behind = caplog.messages
    assert slow.startswith(
        "A frame 'wait' of stream '' has waited for 0 seconds: it is in a worker"
    )
    assert "in pass_through" in slow
    assert behind.endswith("A frame 'metadata' of stream '' has waited for 0 seconds: "
                           "it is in the queue of its stream.")  # fmt: skip


def test_an_action_that_goes_on_is_no_warning(gate, caplog):
    caplog.set_level(logging.INFO, "rest_channels")
    entered = asyncio.Event()

    class Long(OpenViewSet):
        @action(detail=False)
        async def forever(self, request):
            entered.set()
            await asyncio.Event().wait()

    async def story():
        async with talking_to(serving(Long)) as socket:
            await socket.send("forever", request_id=1)
            await entered.wait()
            current_stalls().look()

    asyncio.run(story())
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.django_db(transaction=True)
def test_a_subscription_that_waits_for_a_pass(gate, caplog, monkeypatch):
    def slow(alias, **options):
        gate.pass_through()
        return sequence(alias)

    async def story():
        async with talking_to(serving(RoomNames)) as socket:
            await socket.send("subscribe", request_id=1)
            await happened(gate.reached)
            current_stalls().look()
            gate.opened.set()
            assert (await socket.receive())["response_status"] == 201

    monkeypatch.setattr(change_path, "sequence", slow)
    asyncio.run(story())
    frame, passing = sorted(caplog.messages)
    assert "A frame 'subscribe'" in frame and "the passes of its database" in frame
    assert "A pass over database 'default'" in passing and "in pass_through" in passing
