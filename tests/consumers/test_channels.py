"""A worker serves named channels: in order for each sender, whatever it is sent."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from contextlib import asynccontextmanager

import pytest
from channels.layers import InMemoryChannelLayer

from rest_channels.consumers import Channel, ConsumerError, Consumers, consumer
from rest_channels.consumers.groups.layers import MESSAGE, message, to_json
from rest_channels.routers import ChannelRouter
from rest_channels.settings import DEFAULTS
from tests.support.internal_channels import a_layer


class Doorman(Consumers):
    channel_name = "gate"
    opened = threading.Event()

    @consumer(kind="wait")
    def wait(self, message):
        assert self.opened.wait(10)
        self.reply("waited")

    @consumer(kind="quick")
    async def quick(self, message):
        self.reply("quick")

    @consumer(kind="broken")
    def broken(self, message):
        raise ZeroDivisionError


@asynccontextmanager
async def working(*routes):
    """A worker on the first channel of `routes`: give it messages, and receive from the layer."""
    given = asyncio.Queue()
    [(name, application), *_] = ChannelRouter(*routes).mapping.items()
    task = asyncio.create_task(application({"type": "channel", "channel": name}, given.get, None))
    with a_layer() as layer:
        try:
            yield given.put, lambda asker: asyncio.wait_for(layer.receive(asker), 10)
        finally:
            task.cancel()


def asked(content, asker=None):
    return message(to_json(content), {}, asker)


def test_messages_of_one_sender_are_served_in_order_others_side_by_side():
    Doorman.opened.clear()

    async def story():
        async with working(Doorman.as_routes()) as (give, receive):
            await give(asked({"kind": "wait"}, "ann#1"))
            await give(asked({"kind": "quick"}, "ann#1"))
            await give(asked({"kind": "quick"}, "bob#1"))
            assert json.loads((await receive("bob"))["text"]) == "quick"
            Doorman.opened.set()
            replies = [json.loads((await receive("ann"))["text"]) for _ in range(2)]
            assert replies == ["waited", "quick"]

    asyncio.run(story())


def test_who_sends_much_at_once_keeps_nobody_waiting_and_is_refused_beyond_a_bound(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 2, "MAX_IN_FLIGHT": 3}
    Doorman.opened.clear()

    async def story():
        async with working(Doorman.as_routes()) as (give, receive):
            await give(asked({"kind": "wait"}, "ann#1"))
            for number in range(5):
                await give(asked({"kind": "quick", "request_id": number}, "ann#1"))
            for name in ("bob", "eve"):
                await give(asked({"kind": "quick"}, f"{name}#1"))
                assert json.loads((await receive(name))["text"]) == "quick"
            for number in (3, 4):
                refused = json.loads((await receive("ann"))["text"])
                assert (refused["response_status"], refused["request_id"]) == (503, number)
                assert refused["codes"] == ["too_many_in_flight"]
            Doorman.opened.set()
            replies = [json.loads((await receive("ann"))["text"]) for _ in range(4)]
            assert replies == ["waited", *["quick"] * 3]
            # Served and forgotten.
            await give(asked({"kind": "quick"}, "ann#1"))
            assert json.loads((await receive("ann"))["text"]) == "quick"

    asyncio.run(story())


def test_no_message_ends_the_worker(caplog):
    wrong = [
        {"type": "chat.message", "text": "another's"},
        {"type": MESSAGE},
        {"type": MESSAGE, "content": "{", "kwargs": "{}"},
        {"type": MESSAGE, "content": None, "kwargs": "{}"},
        {"type": MESSAGE, "content": "{}", "reply_channel": ["x"]},
        asked({"kind": "unknown"}),
        asked({"kind": "broken"}),
        asked({"kind": "quick"}),  # It replies, and there is nobody to reply to.
    ]

    async def story():
        [application] = ChannelRouter(Doorman.as_routes()).mapping.values()
        for item in wrong:
            await application.serve(item)
        async with working(Doorman.as_routes()) as (give, receive):
            for item in wrong[:5]:
                await give(item)
            await give(asked({"kind": "quick"}, "ann#1"))
            assert json.loads((await receive("ann"))["text"]) == "quick"

    with caplog.at_level(logging.WARNING, "rest_channels"):
        asyncio.run(story())
    logged = [record.getMessage() for record in caplog.records]
    assert sum("Not a message for 'gate'" in line for line in logged) == 10
    assert sum("Server error" in line for line in logged) == 1
    assert sum("no socket to reply to" in line for line in logged) == 1


def test_as_many_messages_are_served_at_once_as_there_are_threads(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 2}
    started = []

    class Slow(Consumers):
        channel_name = "slow"

        @consumer
        async def slow(self, message):
            started.append(message.content["n"])
            self.reply("started")
            await asyncio.Event().wait()

    async def story():
        async with working(Slow.as_routes()) as (give, receive):
            queue = give.__self__
            for number in range(4):
                await give(asked({"n": number}, f"asker{number}#1"))
            await receive("asker0")
            await receive("asker1")
            # The third is taken and waits for room; the fourth waits where it was given.
            assert (sorted(started), queue.qsize()) == ([0, 1], 1)

    asyncio.run(story())


def test_a_channel_is_sent_to_from_sync_and_async_code():
    async def received():
        await Channel("mail").asend([2], kwargs={"room": 5}, reply_channel=Channel("x#1"))
        return await layer.receive("mail")

    with a_layer() as layer:
        assert asyncio.run(received()) == {
            "type": MESSAGE, "content": "[2]", "kwargs": '{"room":5}', "reply_channel": "x#1",
        }  # fmt: skip
        Channel("mail").send({"to": "ann"})
        assert layer.channels["mail"].get_nowait()[1]["content"] == '{"to":"ann"}'


@pytest.mark.parametrize("exc", [ConnectionError("lost"), RuntimeError("full")])
def test_a_layer_that_fails_is_said_to_be_busy(exc):
    class Failing(InMemoryChannelLayer):
        async def send(self, channel, message):
            raise exc

    with a_layer(Failing()):
        with pytest.raises(ConsumerError) as refused:
            Channel("mail").send({})
        assert refused.value.status == 503


def test_a_layer_that_hangs_is_given_up(settings):
    settings.REST_CHANNELS = {"PUBLISH_SECONDS": 0.01}

    class Hanging(InMemoryChannelLayer):
        async def send(self, channel, message):
            await asyncio.Event().wait()

    with a_layer(Hanging()), pytest.raises(ConsumerError):
        Channel("mail").send({})
    assert DEFAULTS["PUBLISH_SECONDS"] == 2
