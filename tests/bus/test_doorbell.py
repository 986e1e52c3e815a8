"""The doorbell: heard by other processes, and nothing that its layer does concerns the writer."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading

import pytest
import redis
from channels.layers import get_channel_layer

from rest_channels.bus import channel_layer, doorbell, process_channel, publisher
from rest_channels.bus.publisher import DOORBELL_GROUP
from rest_channels.observing.paced_warnings import Pace
from tests.support.doorbells import doorbells
from tests.support.faulty_layers import QuietLayer
from tests.support.publishers import a_publisher
from tests.support.server_processes import Server, answer, reply, run_in_process
from tests.support.waiting import until

REDIS = {
    "core": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [{"address": "redis://127.0.0.1:6379", "socket_timeout": None}],
            "prefix": f"tests-{os.getpid()}",
        },
    },
    "pubsub": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [{"address": "redis://127.0.0.1:6379", "socket_timeout": None}],
            "prefix": f"tests-{os.getpid()}",
        },
    },
}


@pytest.fixture(autouse=True)
def new_publisher(monkeypatch):
    monkeypatch.setattr(channel_layer, "_pace", Pace())
    with a_publisher() as fresh:
        monkeypatch.setattr(publisher, "_publisher", fresh)
        yield fresh


@pytest.fixture
def use(settings):
    """The layer of that class of `tests.support.faulty_layers`, in use."""

    def use(name: str) -> QuietLayer:
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"tests.support.faulty_layers.{name}"}}
        return get_channel_layer()

    return use


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# Over Redis


@pytest.mark.usefixtures("require_redis")
@pytest.mark.parametrize("kind", REDIS)
def test_heard_over_redis(kind, settings):
    settings.CHANNEL_LAYERS = {"default": REDIS[kind]}

    async def story():
        heard: asyncio.Queue[str] = asyncio.Queue()
        async with doorbells(lambda look: heard.put_nowait(look.database)):
            # Whether it listens yet, nobody but Redis knows.
            for _ in range(100):
                doorbell.ring("default")
                try:
                    assert await asyncio.wait_for(heard.get(), 0.1) == "default"
                    break
                except TimeoutError:
                    continue
            while not heard.empty():
                heard.get_nowait()
            doorbell.ring("other")
            while await asyncio.wait_for(heard.get(), 10) != "other":
                pass

    asyncio.run(story())


LAYERS = {"redis core": REDIS["core"], "redis pubsub": REDIS["pubsub"], "none": None}

WRITE = "from tests.models import Room\nRoom.objects.create(name={name!r})\n"


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.only_on("sqlite")
def test_a_write_of_another_process_reaches_a_socket_of_a_server(kind, request):
    """By the doorbell alone where there is one; by the poll alone where there is none."""
    layer = LAYERS[kind]
    if layer is not None:
        request.getfixturevalue("require_redis")
    layers = {} if layer is None else {"default": layer}
    poll = 0.1 if layer is None else 3600
    with (
        Server("uvicorn", channel_layers=layers, POLL_SECONDS=poll) as server,
        server.connect("/rooms/") as socket,
    ):
        subscribed = answer(socket, "subscribe", request_id="s", snapshot=True)
        assert (subscribed["response_status"], subscribed["data"]) == (201, []), subscribed
        if layer is not None:
            wait_for_member(layer, server)
        server.run(WRITE.format(name="lobby"))
        created = reply(socket)
        assert (created["action"], created["data"]["name"]) == ("create", "lobby")


def wait_for_member(layer, server):
    """Until the server listens: Redis knows."""
    prefix = layer["CONFIG"]["prefix"]
    with redis.Redis() as client:
        for _ in range(10_000):
            if "pubsub" in layer["BACKEND"]:
                if client.pubsub_channels(f"{prefix}__group__{DOORBELL_GROUP}"):
                    return
            elif client.zcard(f"{prefix}:group:{DOORBELL_GROUP}"):
                return
    raise AssertionError(f"nobody joined\n{server.output}")


# Where there is nobody to hear it


def test_in_memory_it_is_a_call_and_nothing_else(new_publisher):
    class Ear(doorbell.Listener):
        heard = []

        def on_ring(self, alias):
            self.heard.append((alias, threading.current_thread()))

    ear = Ear()
    doorbell.add_listener(ear)
    try:
        doorbell.ring("default")
    finally:
        doorbell.remove_listener(ear)
    doorbell.ring("default")
    assert ear.heard == [("default", threading.current_thread())]
    assert new_publisher._loop is None


def test_without_layers(settings, new_publisher):
    settings.CHANNEL_LAYERS = {}
    doorbell.ring("default")
    assert new_publisher._loop is None


# What a layer does wrong


def test_a_layer_that_raises(use, caplog):
    layer = use("BrokenLayer")
    for _ in range(3):
        layer.has_sent.clear()
        doorbell.ring("default")
        assert layer.has_sent.wait(10)
    good = use("QuietLayer")
    doorbell.ring("default")
    assert good.has_sent.wait(10)
    assert warnings(caplog) == [
        "The channel layer lost a doorbell: other processes look within POLL_SECONDS."
    ]


def test_a_layer_that_cancels_its_caller(use):
    layer = use("SelfishLayer")
    doorbell.ring("default")
    assert layer.has_sent.wait(10)
    doorbell.ring("other")
    publisher.flush()
    assert layer.sent == ["other"]


def test_a_layer_that_cannot_be_imported(settings, caplog):
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.support.faulty_layers.Absent"}}
    doorbell.ring("default")
    assert warnings(caplog) == ["Cannot ring other processes: they look within POLL_SECONDS."]


def test_a_layer_that_hangs_is_given_up(use, settings, caplog):
    settings.REST_CHANNELS = {"PUBLISH_SECONDS": 0.1}
    layer = use("HangingLayer")
    doorbell.ring("default")
    assert layer.was_given_up.wait(10)
    good = use("QuietLayer")
    doorbell.ring("default")
    assert good.has_sent.wait(10)
    assert len(warnings(caplog)) == 1


def test_the_writer_does_not_wait_for_it(use):
    """It goes on while the layer, called in another thread, is held by the test."""
    layer = use("BlockingLayer")
    doorbell.ring("default")
    assert layer.has_begun.wait(10)
    for _ in range(100):
        doorbell.ring("default")
    doorbell.ring("other")
    assert layer.sent == []
    layer.may_go_on.set()
    publisher.flush()
    # All rings in the meantime are one message.
    assert sorted(layer.sent) == ["default", "default", "other"]


def test_a_listener_that_raises_keeps_no_other_from_hearing(use, caplog):
    class Deaf(doorbell.Listener):
        def on_ring(self, alias):
            raise RuntimeError("Event loop is closed")

    layer, deaf = use("QuietLayer"), Deaf()
    doorbell.add_listener(deaf)
    try:
        doorbell.ring("default")
    finally:
        doorbell.remove_listener(deaf)
    assert layer.has_sent.wait(10)
    assert warnings(caplog) == ["A doorbell within this process failed."]


# Members of the group


def listen_until(condition):
    async def story():
        async with doorbells(lambda look: None):
            await until(condition)

    asyncio.run(asyncio.wait_for(story(), 20))


def test_who_listens_joins_again_and_leaves_at_the_end(use, monkeypatch):
    """Layers forget members after a day, or when they lose their data."""
    monkeypatch.setattr(process_channel, "_MOST_SECONDS_BETWEEN_JOINS", 0.01)
    layer = use("QuietLayer")
    listen_until(lambda: len(layer.joined) >= 3)
    assert {*layer.joined} == {*layer.left} == {"specific!1"}


def test_who_cannot_hear_tries_again(use, monkeypatch, caplog):
    monkeypatch.setattr(process_channel, "_SECONDS_BETWEEN_TRIES", 0.01)
    layer = use("QuietLayer")

    async def receive(channel):
        if len(layer.joined) < 3:
            raise ConnectionError
        await asyncio.Event().wait()

    layer.receive = receive
    listen_until(lambda: len(layer.joined) >= 3)
    assert {*layer.left} == {*layer.joined} == {"specific!1"}
    assert len(warnings(caplog)) == 1


@pytest.mark.usefixtures("require_redis")
@pytest.mark.parametrize("kind", REDIS)
def test_who_joins_again_goes_on_listening(kind, settings, monkeypatch, caplog):
    """By the pub/sub layer, whose channels end where receiving is cancelled, too."""
    monkeypatch.setattr(process_channel, "_MOST_SECONDS_BETWEEN_JOINS", 0.01)
    settings.CHANNEL_LAYERS = {"default": REDIS[kind]}

    async def story():
        heard: asyncio.Queue[str] = asyncio.Queue()
        joined, joins = asyncio.Event(), 0
        layer = get_channel_layer()
        # The pub/sub layer has one for each loop.
        join = layer.group_add

        async def count_joins(group, channel):
            nonlocal joins
            await join(group, channel)
            joins += 1
            if joins == 5:
                joined.set()

        monkeypatch.setattr(layer, "group_add", count_joins, raising=False)
        async with doorbells(lambda look: heard.put_nowait(look.database)):
            await asyncio.wait_for(joined.wait(), 10)
            doorbell.ring("default")
            assert await asyncio.wait_for(heard.get(), 10) == "default"

    asyncio.run(story())
    assert warnings(caplog) == []


def test_who_cannot_leave_ends_all_the_same(use):
    layer = use("QuietLayer")

    async def refuse(group, channel):
        raise ConnectionError

    layer.group_discard = refuse
    listen_until(lambda: layer.joined)


# Processes


def run(code: str, layer: str = "PrintingLayer") -> list[str]:
    """Return the output of a process that may ring."""
    layers = {"default": {"BACKEND": f"tests.support.faulty_layers.{layer}"}}
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE": "sqlite",
        "TEST_CHANNEL_LAYERS": json.dumps(layers),
        "TEST_REST_CHANNELS": json.dumps({"PUBLISH_SECONDS": 20}),
    }
    return run_in_process(
        f"from rest_channels.bus import doorbell, publisher\n{code}", environment
    ).split("\n")


def test_a_process_that_ends_at_once_is_heard():
    code = (
        "import atexit\n"
        "from tests.support.faulty_layers import LateLayer\n"
        "doorbell.ring('default')\n"
        # The last to register is the first to be called.
        "atexit.register(lambda: setattr(LateLayer, 'is_ending', True))\n"
    )
    assert run(code, "LateLayer") == ["rung default", ""]


def test_a_process_that_never_rang_ends():
    assert run("print('done')") == ["done", ""]


def test_a_forked_child_rings():
    """Whatever its parent's threads were doing, which it has not."""
    code = (
        "import os\n"
        "doorbell.ring('parent')\n"
        "publisher.flush()\n"
        "class Ear(doorbell.Listener):\n"
        "    def on_ring(self, alias): print('heard', alias, flush=True)\n"
        "doorbell.add_listener(Ear())\n"
        "assert len(doorbell._listeners) == 2\n"
        "publisher._publisher._lock.acquire()\n"
        "doorbell._lock.acquire()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    doorbell.ring('child')\n"
        "    publisher.flush()\n"
        "    from rest_channels.live.log.maintenance import housekeeper\n"
        "    assert doorbell._listeners == (housekeeper,)\n"
        "    doorbell.add_listener(Ear())\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "publisher._publisher._lock.release()\n"
        "doorbell._lock.release()\n"
        "doorbell.ring('again')\n"
    )
    heard = sorted(run(code))
    assert heard == ["", "heard again", "rung again", "rung child", "rung parent"]
