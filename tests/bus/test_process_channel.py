"""The one channel of a process: what it brings, in which order, and what a full one loses."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from contextlib import asynccontextmanager

import pytest
import redis
from channels.layers import BaseChannelLayer
from channels_redis.core import RedisChannelLayer

from rest_channels.bus import channel_layer, process_channel
from rest_channels.bus.messages import GroupTexts, Look, to_layer
from rest_channels.bus.process_channel import current_channel
from rest_channels.bus.publisher import DOORBELL_GROUP
from tests.support.internal_channels import a_layer
from tests.support.publishers import a_publisher
from tests.support.server_processes import Server, answer, run_in_process
from tests.support.waiting import until, wait_until

HOSTS = [{"address": "redis://127.0.0.1:6379", "socket_timeout": None}]
KINDS = {
    "core": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}


def texts(group="g"):
    return to_layer(GroupTexts("another", group, ['"hello"']))


@asynccontextmanager
async def listening(heard):
    """This process hears doorbells and one group; what comes is appended to `heard`."""
    channel = current_channel()
    channel.handle(Look, heard.append)
    channel.handle(GroupTexts, heard.append)
    channel.hold("test")
    await channel.open()
    channel.join(DOORBELL_GROUP)
    channel.join("g")
    try:
        yield channel
    finally:
        for group in (DOORBELL_GROUP, "g"):
            channel.leave(group)
        channel.release("test")
        await channel.settle([DOORBELL_GROUP, "g"])


# One a process


@pytest.mark.usefixtures("require_redis")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.only_on("sqlite")
def test_a_process_has_one_channel_whatever_it_serves(kind):
    """Subscriptions, a room and a room with a history, on three sockets."""
    prefix = f"tests-{uuid.uuid4().hex}"
    layers = {"default": {"BACKEND": KINDS[kind], "CONFIG": {"hosts": HOSTS, "prefix": prefix}}}
    with (
        Server(
            "uvicorn", "tests.support.apps.chat_app:application", channel_layers=layers
        ) as server,
        server.connect("/tags/") as rows,
        server.connect("/ann") as ann,
        server.connect("/kept/bob") as bob,
        redis.Redis(decode_responses=True) as client,
    ):
        assert answer(rows, "subscribe")["response_status"] == 201
        for socket, room in ((ann, "attic"), (bob, "cellar")):
            socket.send(json.dumps({"action": "join", "room": room}))
            assert json.loads(socket.recv(20))["response_status"] == 200
        wait_until(lambda: len(groups_on(client, kind, prefix)) == 3)
        assert len(channels_on(client, kind, prefix)) == 1


def groups_on(client, kind, prefix):
    if kind == "core":
        return client.keys(f"{prefix}:group:*")
    return client.pubsub_channels(f"{prefix}__group__*")


def channels_on(client, kind, prefix):
    """Return the members of the groups; for the pub/sub layer, the other subscribed channels."""
    if kind == "core":
        members = [client.zrange(group, 0, -1) for group in groups_on(client, kind, prefix)]
        assert all(len(found) == 1 for found in members)
        return {name for found in members for name in found}
    return {*client.pubsub_channels(f"{prefix}*")} - {*groups_on(client, kind, prefix)}


def test_it_is_let_go_with_the_last_who_holds_it():
    async def story():
        with a_layer():
            channel = current_channel()
            for holder in ("subscriptions", "sockets"):
                channel.hold(holder)
            await channel.open()
            name = channel.name
            channel.listen()
            channel.release("sockets")
            assert channel.name == name is not None
            channel.release("subscriptions")
            assert channel.name is None
            assert len(asyncio.all_tasks()) == 2
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(story())


def test_it_is_opened_once_however_many_need_it_at_a_time():
    """And kept while nobody has received by it: a layer may have no way to end it."""
    layer = FullLayer(0)

    async def story():
        with a_layer(layer):
            channel = current_channel()
            for _ in range(3):
                channel.hold("sockets")
                await asyncio.gather(*[channel.open() for _ in range(5)])
                channel.release("sockets")

    asyncio.run(story())
    assert layer.opened == 1


# A forked child is a process of its own


def test_a_forked_child_takes_what_its_parent_sends_for_anothers():
    """As gunicorn's workers are that serve what their master has loaded."""
    code = (
        "import os\n"
        "from rest_channels.bus import process_channel\n"
        "print(process_channel.process_id, flush=True)\n"
        "if os.fork() == 0:\n"
        "    print(process_channel.process_id, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    ids = run_in_process(code, environment).split()
    assert len(ids) == len({*ids}) == 2


# Doorbells and messages of groups


class FullLayer(BaseChannelLayer):
    """Has many messages for a group, and a doorbell behind them."""

    def __init__(self, count):
        super().__init__()
        self.waiting = [*([texts()] * count), to_layer(Look("default"))]
        self.opened = 0

    async def new_channel(self, prefix="specific"):
        self.opened += 1
        await asyncio.sleep(0)
        return "channel"

    async def group_add(self, group, channel):
        pass

    async def group_discard(self, group, channel):
        pass

    async def receive(self, channel):
        if self.waiting:
            return self.waiting.pop(0)
        return await asyncio.Event().wait()


def test_a_doorbell_overtakes_messages_of_groups_that_wait_to_be_handled():
    heard = []

    async def story():
        with a_layer(FullLayer(500)):
            async with listening(heard):
                await until(lambda: Look("default") in heard)

    asyncio.run(story())
    assert heard.index(Look("default")) < 20


def test_messages_of_groups_keep_their_order_and_wait_in_a_bounded_number(monkeypatch):
    monkeypatch.setattr(process_channel, "_MOST_WAITING", 10)
    heard = []

    async def story():
        layer = FullLayer(0)
        layer.waiting = [to_layer(GroupTexts("another", "g", [str(n)])) for n in range(100)]
        most = 0
        with a_layer(layer):
            async with listening(heard) as channel:
                while len(heard) < 100:
                    most = max(most, len(channel._waiting))
                    await asyncio.sleep(0)
        return most

    assert asyncio.run(story()) <= 10
    assert [message.texts for message in heard] == [[str(n)] for n in range(100)]


def test_a_message_that_fails_keeps_no_other_from_being_handled(caplog):
    handled = []

    def fail(message):
        handled.append(message)
        raise RuntimeError("a fault of this library's own")

    async def story():
        with a_layer(FullLayer(3)):
            async with listening([]) as channel:
                channel.handle(GroupTexts, fail)
                await until(lambda: len(handled) == 3)

    asyncio.run(story())
    assert caplog.text.count("A message of another process failed.") == 3


@pytest.mark.usefixtures("require_redis")
def test_a_doorbell_that_a_full_channel_dropped_is_made_up_for(monkeypatch):
    """Redis keeps a number of messages for each process, and drops doorbells above it as well."""
    prefix, capacity, heard = f"tests-{uuid.uuid4().hex}", 20, []

    async def story():
        layer = RedisChannelLayer(HOSTS, prefix=prefix, capacity=capacity)
        monkeypatch.setattr(channel_layer, "shared_layer", lambda: layer)
        with a_layer(layer):
            channel = current_channel()
            await channel.open()
            for group in (DOORBELL_GROUP, "g"):
                await layer.group_add(group, channel.name)
            for _ in range(capacity + 5):
                await layer.group_send("g", texts())
            ringing.ring("default")
            await asyncio.to_thread(ringing.flush)
            async with listening(heard):
                await until(lambda: Look(None) in heard)

    with a_publisher() as ringing:
        asyncio.run(story())
    assert Look("default") not in heard
    # Once for all that came.
    assert heard == [*[GroupTexts("another", "g", ['"hello"'])] * capacity, Look(None)]


def test_without_a_flood_nobody_looks_for_nothing(monkeypatch):
    monkeypatch.setattr(process_channel, "_SECONDS_BETWEEN_LOOKS", 0)
    heard = []

    async def story():
        with a_layer(FullLayer(98)):
            async with listening(heard):
                await until(lambda: len(heard) == 99)
                await asyncio.sleep(0)

    asyncio.run(story())
    assert Look(None) not in heard
