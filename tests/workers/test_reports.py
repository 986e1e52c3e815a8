"""Numbers in the log, where they are asked for."""

from __future__ import annotations

import asyncio
import json
import logging

from django.test import override_settings

from rest_channels.workers import monitoring
from tests.support.talk import OpenViewSet, serving, talking_to


class Quiet(OpenViewSet):
    def list(self, request):
        raise AssertionError("nobody asks")


class Heard(logging.Handler):
    """Sets an event when it receives a record."""

    def __init__(self) -> None:
        super().__init__()
        self.records = []
        self.event = asyncio.Event()

    def emit(self, record) -> None:
        self.records.append(record)
        self.event.set()


def test_numbers_are_logged_while_sockets_are_open(caplog):
    caplog.set_level(logging.INFO, "rest_channels.stats")

    async def story():
        heard = Heard()
        monitoring.stats_logger.addHandler(heard)
        async with talking_to(serving(Quiet)):
            await asyncio.wait_for(heard.event.wait(), 10)
            heard.event.clear()
            await asyncio.wait_for(heard.event.wait(), 10)
        monitoring.stats_logger.removeHandler(heard)
        for record in heard.records:
            assert json.loads(record.getMessage()) == record.stats
            assert record.stats["connections"] >= 1

    with override_settings(REST_CHANNELS={"STATS_SECONDS": 0.01}):
        asyncio.run(story())


def test_nothing_is_logged_unless_it_is_asked_for(caplog):
    async def story():
        monitoring.begin_reports()
        assert asyncio.get_running_loop() not in monitoring._reporting

    asyncio.run(story())
