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

from rest_channels.live import relay
from tests.live.layers import QuietLayer
from tests.servers import Server, answer, reply, run_in_process

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
    publisher = relay._Publisher()
    monkeypatch.setattr(relay, "_publisher", publisher)
    monkeypatch.setattr(relay, "_complained_at", {})
    yield publisher
    if publisher._loop is not None:
        stop(publisher._loop)


def stop(loop):
    has_stopped = threading.Event()
    loop.call_soon_threadsafe(lambda: (loop.stop(), has_stopped.set()))
    assert has_stopped.wait(10)
    while loop.is_running():
        pass
    loop.close()


@pytest.fixture
def use(settings):
    """The layer of that class of `tests.live.layers`, in use."""

    def use(name: str) -> QuietLayer:
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"tests.live.layers.{name}"}}
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
        listening = asyncio.ensure_future(relay.listen(heard.put_nowait))
        try:
            # Whether it listens yet, nobody but Redis knows.
            for _ in range(100):
                relay.ring("default")
                try:
                    assert await asyncio.wait_for(heard.get(), 0.1) == "default"
                    break
                except TimeoutError:
                    continue
            while not heard.empty():
                heard.get_nowait()
            relay.ring("other")
            while await asyncio.wait_for(heard.get(), 10) != "other":
                pass
        finally:
            listening.cancel()
            await asyncio.wait([listening])

    asyncio.run(story())


LAYERS = {"redis core": REDIS["core"], "redis pubsub": REDIS["pubsub"], "none": None}

WRITE = "from tests.models import Room\nRoom.objects.create(name={name!r})\n"


@pytest.mark.parametrize("kind", LAYERS)
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
                if client.pubsub_channels(f"{prefix}__group__{relay.GROUP}"):
                    return
            elif client.zcard(f"{prefix}:group:{relay.GROUP}"):
                return
    raise AssertionError(f"nobody joined\n{server.output}")


# Where there is nobody to hear it


def test_in_memory_it_is_a_call_and_nothing_else(new_publisher):
    class Ear(relay.Listener):
        heard = []

        def on_ring(self, alias):
            self.heard.append((alias, threading.current_thread()))

    ear = Ear()
    relay.add_listener(ear)
    try:
        relay.ring("default")
    finally:
        relay.remove_listener(ear)
    relay.ring("default")
    assert ear.heard == [("default", threading.current_thread())]
    assert new_publisher._loop is None


def test_without_layers(settings, new_publisher):
    settings.CHANNEL_LAYERS = {}
    relay.ring("default")
    assert new_publisher._loop is None


# What a layer does wrong


def test_a_layer_that_raises(use, caplog):
    layer = use("BrokenLayer")
    for _ in range(3):
        layer.has_sent.clear()
        relay.ring("default")
        assert layer.has_sent.wait(10)
    good = use("QuietLayer")
    relay.ring("default")
    assert good.has_sent.wait(10)
    assert warnings(caplog) == [
        "The channel layer took no doorbell: other processes look by themselves."
    ]


def test_a_layer_that_cancels_its_caller(use):
    layer = use("SelfishLayer")
    relay.ring("default")
    assert layer.has_sent.wait(10)
    relay.ring("other")
    relay._publisher.flush()
    assert layer.sent == ["other"]


def test_a_layer_that_cannot_be_imported(settings, caplog):
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.live.layers.Absent"}}
    relay.ring("default")
    assert warnings(caplog) == ["No doorbell can be sent: other processes look by themselves."]


def test_a_layer_that_hangs_is_given_up(use, settings, caplog):
    settings.REST_CHANNELS = {"PUBLISH_SECONDS": 0.1}
    layer = use("HangingLayer")
    relay.ring("default")
    assert layer.was_given_up.wait(10)
    good = use("QuietLayer")
    relay.ring("default")
    assert good.has_sent.wait(10)
    assert len(warnings(caplog)) == 1


def test_the_writer_does_not_wait_for_it(use):
    """It goes on while the layer, called in another thread, is held by the test."""
    layer = use("BlockingLayer")
    relay.ring("default")
    assert layer.has_begun.wait(10)
    for _ in range(100):
        relay.ring("default")
    relay.ring("other")
    assert layer.sent == []
    layer.may_go_on.set()
    relay._publisher.flush()
    # What was rung meanwhile is one message.
    assert sorted(layer.sent) == ["default", "default", "other"]


def test_a_listener_that_raises_keeps_no_other_from_hearing(use, caplog):
    class Deaf(relay.Listener):
        def on_ring(self, alias):
            raise RuntimeError("Event loop is closed")

    layer, deaf = use("QuietLayer"), Deaf()
    relay.add_listener(deaf)
    try:
        relay.ring("default")
    finally:
        relay.remove_listener(deaf)
    assert layer.has_sent.wait(10)
    assert warnings(caplog) == ["A doorbell within this process failed."]


# Members of the group


def listen_until(condition):
    async def come_true():
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def story():
        listening = asyncio.ensure_future(relay.listen(lambda alias: None))
        await come_true()
        listening.cancel()
        await asyncio.wait([listening], timeout=10)
        assert listening.cancelled()

    asyncio.run(asyncio.wait_for(story(), 20))


def test_who_listens_joins_again_and_leaves_at_the_end(use, monkeypatch):
    """Layers forget members after a day, or when they lose their data."""
    monkeypatch.setattr(relay, "_MOST_SECONDS_BETWEEN_JOINS", 0.01)
    layer = use("QuietLayer")
    listen_until(lambda: len(layer.joined) >= 3)
    assert {*layer.joined} == {*layer.left} == {"specific!1"}


def test_who_cannot_hear_tries_again(use, monkeypatch, caplog):
    monkeypatch.setattr(relay, "_SECONDS_BETWEEN_TRIES", 0.01)
    layer = use("QuietLayer")

    async def receive(channel):
        if len(layer.joined) < 3:
            raise ConnectionError
        await asyncio.Event().wait()

    layer.receive = receive
    listen_until(lambda: len(layer.joined) >= 3)
    assert layer.left == layer.joined
    assert len(warnings(caplog)) == 1


@pytest.mark.usefixtures("require_redis")
@pytest.mark.parametrize("kind", REDIS)
def test_who_joins_again_goes_on_listening(kind, settings, monkeypatch, caplog):
    """By the pub/sub layer, whose channels end where receiving is cancelled, too."""
    monkeypatch.setattr(relay, "_MOST_SECONDS_BETWEEN_JOINS", 0.01)
    settings.CHANNEL_LAYERS = {"default": REDIS[kind]}

    async def story():
        heard: asyncio.Queue[str] = asyncio.Queue()
        joined, joins = asyncio.Event(), 0
        layer = get_channel_layer()
        # Of the pub/sub layer there is one for each loop.
        join = layer.group_add

        async def count_joins(group, channel):
            nonlocal joins
            await join(group, channel)
            joins += 1
            if joins == 5:
                joined.set()

        monkeypatch.setattr(layer, "group_add", count_joins, raising=False)
        listening = asyncio.ensure_future(relay.listen(heard.put_nowait))
        try:
            await asyncio.wait_for(joined.wait(), 10)
            relay.ring("default")
            assert await asyncio.wait_for(heard.get(), 10) == "default"
        finally:
            listening.cancel()
            await asyncio.wait([listening])

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
    """What is printed by a process that may ring."""
    layers = {"default": {"BACKEND": f"tests.live.layers.{layer}"}}
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE": "sqlite",
        "TEST_CHANNEL_LAYERS": json.dumps(layers),
        "TEST_REST_CHANNELS": json.dumps({"PUBLISH_SECONDS": 20}),
    }
    return run_in_process(f"from rest_channels.live import relay\n{code}", environment).split("\n")


def test_a_process_that_ends_at_once_is_heard():
    code = (
        "import atexit\n"
        "from tests.live.layers import LateLayer\n"
        "relay.ring('default')\n"
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
        "relay.ring('parent')\n"
        "relay._publisher.flush()\n"
        "class Ear(relay.Listener):\n"
        "    def on_ring(self, alias): print('heard', alias, flush=True)\n"
        "relay.add_listener(Ear())\n"
        "assert len(relay._listeners) == 2\n"
        "relay._publisher._lock.acquire()\n"
        "relay._lock.acquire()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    relay.ring('child')\n"
        "    relay._publisher.flush()\n"
        "    from rest_channels.live.housekeeping import housekeeper\n"
        "    assert relay._listeners == (housekeeper,)\n"
        "    relay.add_listener(Ear())\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "relay._publisher._lock.release()\n"
        "relay._lock.release()\n"
        "relay.ring('again')\n"
    )
    heard = sorted(run(code))
    assert heard == ["", "heard again", "rung again", "rung child", "rung parent"]
