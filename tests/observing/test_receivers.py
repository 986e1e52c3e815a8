"""Receivers of signals that are slow or gone."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.dispatch import Signal
from rest_framework.response import Response

from rest_channels.observing import receivers
from rest_channels.observing.observers import observers
from rest_channels.routers import DefaultRouter
from rest_channels.signals import frame_answered
from rest_channels.test import SocketClient
from tests.models import Room
from tests.support.subscription_stories import run, told
from tests.support.talk import OpenViewSet
from tests.support.waiting import until


class Pings(OpenViewSet):
    def list(self, request):
        return Response("pong")


router = DefaultRouter()
router.register("pings", Pings, "pings")
application = router.as_asgi()


def test_a_slow_receiver_delays_no_frame():
    gate, seen = threading.Event(), []

    def receive(report, **kwargs):
        assert gate.wait(30)
        seen.append(report.action)

    frame_answered.connect(receive)

    async def story():
        async with told(application) as socket:
            for _ in range(3):
                await socket.ask("list", "pings")
            assert seen == []
            gate.set()
            await until(lambda: len(seen) == 3)

    try:
        run(story)
    finally:
        frame_answered.disconnect(receive)
    assert observers.frame == ()


def test_signals_are_dropped_while_too_many_wait(monkeypatch, caplog):
    monkeypatch.setattr(receivers, "_MOST_WAITING", 2)
    gate, seen, signal = threading.Event(), [], Signal()

    def receive(report, **kwargs):
        gate.wait(30)
        seen.append(report)

    signal.connect(receive)

    async def story():
        queue = receivers.Queue(asyncio.get_running_loop())
        for number in range(5):
            queue.put(signal, number)
        gate.set()
        await until(lambda: seen == [0, 1])

    run(story)
    assert [r.message for r in caplog.records] == [
        "Receivers of rest_channels.signals are too slow: signals are dropped. Let them hand long "
        "work to a task queue."
    ]


@pytest.mark.django_db
def test_a_receiver_uses_the_database_of_a_test():
    Room.objects.create(name="lobby")
    seen = []

    def receive(report, **kwargs):
        seen.append((report.action, Room.objects.count()))

    frame_answered.connect(receive)
    try:
        with SocketClient(application) as client:
            client.list("pings")
            client.list("pings")
    finally:
        frame_answered.disconnect(receive)
    assert seen[0] == ("list", 1)
