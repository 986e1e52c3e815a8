"""Sockets in groups: what one sends all receive, encoded once, here without the layer."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from contextlib import contextmanager

import pytest
from channels.layers import BaseChannelLayer, InMemoryChannelLayer, get_channel_layer
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator

from rest_channels.bus import channel_layer, publisher
from rest_channels.bus.loops import PerLoop
from rest_channels.bus.messages import GroupTexts, to_layer
from rest_channels.consumers import Group, GroupConsumers, WebsocketConsumers, consumer
from rest_channels.consumers import channels as channels_module
from rest_channels.consumers.groups import group_hub
from rest_channels.consumers.groups.group_hub import running_hub
from rest_channels.consumers.groups.layers import group_on_layer, safe_name
from rest_channels.observing.paced_warnings import Pace
from rest_channels.routers import ChannelRouter, DefaultRouter
from rest_channels.test import SocketClient
from tests.consumers.test_websockets import all_is_quiet, unread
from tests.support.consumer_talk import open_socket
from tests.support.internal_channels import a_layer, told
from tests.support.publishers import a_publisher
from tests.support.server_processes import Server
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def own_publisher(monkeypatch):
    """Messages that other tests have left to send do not delay those of these tests."""
    with a_publisher() as fresh:
        monkeypatch.setattr(publisher, "_publisher", fresh)
        yield


class Room(GroupConsumers):
    authentication_classes = []
    path = r"/(?P<room>[^/]+)"
    group_name = "room_{room}"


# Joining, leaving, sending


def test_what_one_sends_all_of_the_group_receive():
    async def story():
        routes = Room.as_routes()
        async with open_socket(routes, "/a") as ann, open_socket(routes, "/a") as bob:
            async with open_socket(routes, "/b") as eve:
                await ann.give({"text": "Hello"})
                for socket in (ann, bob):
                    assert await socket.receive_message() == {"text": "Hello"}
                await eve.give({"text": "nobody else"})
                assert await eve.receive_message() == {"text": "nobody else"}
            await bob.give({"text": "Bye"})
            assert await ann.receive_message() == {"text": "Bye"}

    asyncio.run(story())


def test_who_leaves_receives_no_more_and_is_forgotten():
    async def story():
        routes = Room.as_routes()
        async with open_socket(routes, "/a") as ann:
            async with open_socket(routes, "/a"):
                pass
            await ann.give({"n": 1})
            assert await ann.receive_message() == {"n": 1}
            assert [len(members) for members in running_hub()._groups.values()] == [1]
        assert (running_hub()._groups, running_hub()._members) == ({}, {})

    asyncio.run(story())


def test_the_group_is_named_by_the_channel_where_it_has_no_name():
    async def story():
        one, other = [
            Room.as_routes(path="/" + name, group_name=None, channel_name=name)
            for name in ("one", "other")
        ]
        async with open_socket(one, "/one") as ann, open_socket(other, "/other") as eve:
            await ann.give({"n": 1})
            assert await ann.receive_message() == {"n": 1}
            await eve.give({"n": 2})
            assert await eve.receive_message() == {"n": 2}

    asyncio.run(story())


def test_a_channel_name_is_a_format_too_and_get_group_name_a_hook():
    names = []

    class Named(Room):
        group_name = None

        @classmethod
        def get_channel_name(cls):
            return "fixed"

        def get_group_name(self):
            names.append(super().get_group_name())
            return self.kwargs["room"]

    async def story():
        async with open_socket(Named.as_routes(), "/a") as ann:
            Group("a").send("by name")
            assert await ann.receive_message() == "by name"

    asyncio.run(story())
    assert names == ["fixed"]


def test_a_group_name_that_the_path_does_not_fill_refuses_the_socket(caplog):
    async def story():
        communicator = WebsocketCommunicator(
            URLRouter(Room.as_routes(path="/", group_name="room_{room}")), "/"
        )
        assert (await communicator.connect())[0] is False

    asyncio.run(story())
    assert "capture it in the path" in caplog.text


def test_handlers_come_before_the_group():
    class Handling(Room):
        @consumer(command="whisper")
        def whisper(self, message, room):
            self.reply(f"whispered in {room}")

    async def story():
        routes = Handling.as_routes()
        async with open_socket(routes, "/a") as ann, open_socket(routes, "/a") as bob:
            await ann.give({"command": "whisper"})
            assert await ann.receive_message() == "whispered in a"
            await ann.give({"command": "shout"})
            for socket in (ann, bob):
                assert await socket.receive_message() == {"command": "shout"}

    asyncio.run(story())


def test_on_a_worker_what_no_handler_takes_goes_to_the_group_as_well():
    sent = []

    class Internal(Room):
        def broadcast(self, content):
            sent.append((self.get_group_name(), content))

    routes = Internal.as_routes(channel_name="rooms", internal=True)
    assert told(routes, content={"n": 1}, kwargs={"room": "a"}) == []
    assert sent == [("room_a", {"n": 1})]


def test_a_socket_may_be_in_several_groups_up_to_a_bound(settings):
    settings.REST_CHANNELS = {"MAX_SUBSCRIPTIONS": 2}

    class Joining(WebsocketConsumers):
        authentication_classes = []

        @consumer(join=r"(?P<name>\w+)")
        def joins(self, message, name):
            self.join_group(name)
            self.reply("joined")

        @consumer(leave=r"(?P<name>\w+)")
        async def leaves(self, message, name):
            self.leave_group(name)
            self.reply("left")

    async def story():
        async with open_socket(Joining.as_routes()) as socket:
            for name in ("a", "b", "a"):
                assert await socket.ask({"join": name}) == "joined"
            refused = await socket.ask({"join": "c"})
            assert (refused["response_status"], refused["codes"]) == (
                503, ["too_many_subscriptions"],
            )  # fmt: skip
            Group("c").send("not for you")
            Group("a").send("once")
            assert await socket.receive_message() == "once"
            assert await socket.ask({"leave": "a"}) == "left"
            assert await socket.ask({"leave": "unknown"}) == "left"
            Group("a").send("no more")
            assert await socket.ask({"join": "c"}) == "joined"

    asyncio.run(story())


def test_on_a_shared_socket_a_groups_messages_are_in_the_envelope_of_their_stream():
    class Lobby(GroupConsumers):
        authentication_classes = []
        group_name = "lobby"

    router = DefaultRouter()
    router.register("lobby", Lobby)

    async def story():
        async with (
            open_socket(router.as_asgi()) as root,
            open_socket(router.as_asgi(), "/lobby/") as own,
        ):
            await own.give({"n": 1})
            assert await own.receive_message() == {"n": 1}
            assert await root.receive_message() == {"stream": "lobby", "payload": {"n": 1}}

    asyncio.run(story())


def test_what_is_sent_while_a_socket_opens_comes_once_it_is_open():
    class Early(Room):
        def on_connect(self, message, **kwargs):
            super().on_connect(message, **kwargs)
            self.broadcast("while opening")

    async def story():
        async with open_socket(Early.as_routes(), "/a") as socket:
            assert await socket.receive_message() == "while opening"

    asyncio.run(story())


def test_a_member_that_does_not_read_is_closed_with_4408_and_no_other(settings):
    settings.REST_CHANNELS = {"MAX_QUEUE_BYTES": 500}

    async def story():
        given, sent, reads, serving = unread(Room.as_routes(path="/", group_name="all"))
        async with open_socket(Room.as_routes(path="/", group_name="all")) as socket:
            while not sent:
                await all_is_quiet()
            for _ in range(20):
                Group("all").send("x" * 100)
                assert await socket.receive_message() == "x" * 100
            reads.set()
            await until(lambda: sent[-1]["type"] == "websocket.close")
            assert sent[-1]["code"] == 4408
        given.put_nowait({"type": "websocket.disconnect", "code": 4408})
        await asyncio.wait_for(serving, 10)

    asyncio.run(story())


# Once for all


def test_a_broadcast_is_encoded_once_for_all_members(monkeypatch):
    encoded = []
    to_json = channels_module.to_json
    monkeypatch.setattr(
        channels_module, "to_json", lambda content: encoded.append(content) or to_json(content)
    )

    async def story():
        routes = Room.as_routes()
        async with open_socket(routes, "/a") as ann, open_socket(routes, "/a") as bob:
            await ann.give({"n": 1})
            assert await ann.receive_message() == await bob.receive_message() == {"n": 1}

    asyncio.run(story())
    assert encoded == [{"n": 1}]


def test_a_burst_of_300_is_lost_by_nobody_in_the_process():
    class Bursting(Room):
        @consumer(command="burst")
        def burst(self, message):
            for number in range(300):
                self.broadcast(number)

    async def story():
        routes = Bursting.as_routes()
        async with open_socket(routes, "/a") as ann, open_socket(routes, "/a") as bob:
            await ann.give({"command": "burst"})
            for socket in (ann, bob):
                assert [await socket.receive_message() for _ in range(300)] == list(range(300))

    asyncio.run(story())


def test_other_event_loops_of_the_process_are_reached():
    application = URLRouter(Room.as_routes())
    with SocketClient(application, "/a") as ann, SocketClient(application, "/a") as bob:
        ann.connect()
        bob.connect()
        ann.send_text('{"n": 1}')
        assert ann.receive() == bob.receive() == {"n": 1}
        Group("room_a").send("from no loop at all")
        assert ann.receive() == bob.receive() == "from no loop at all"


# Names


@pytest.mark.parametrize("name", ["a", "room_5", "A-b.c_9", "x" * 99])
def test_a_name_that_every_layer_takes_is_left_as_it_is(name):
    assert safe_name(name) == name


def is_valid(name):
    """Whether Channels takes `name` for a group."""
    return bool(BaseChannelLayer.group_name_regex.match(name)) and len(name) < 100


def test_any_text_becomes_a_name_that_every_layer_takes_and_no_two_the_same():
    names = [
        "", " ", "é", "è", "a b", "a!b", "a#b", "a\n", "x" * 100, "x" * 101, "x" * 100 + "!",
        "room_日本", "room_日木", "\U0001f600", "a/b", "a-b", "a.b", "{room}", "*", "a\x00",
    ]  # fmt: skip
    # A name that looks like another's.
    names += [safe_name(name) for name in names if safe_name(name) != name]
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    assert all(map(is_valid, safe))
    assert all(is_valid(group_on_layer(name)) for name in names)
    assert len({group_on_layer(name) for name in names}) == len(names)


def test_a_room_of_any_name_is_a_group():
    async def story():
        routes = Room.as_routes()
        for room in ("日本 " * 60, "a b", "é"):
            async with open_socket(routes, f"/{room}") as socket:
                assert await socket.ask({"n": 1}) == {"n": 1}

    asyncio.run(story())


# By way of the layer


class SharedLayer(InMemoryChannelLayer):
    """A layer that other processes would share: not the one that serves one process alone."""

    def __init__(self, **options):
        super().__init__(**options)
        self.told = asyncio.Event()
        self.calls = []
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            self.loop = None

    async def group_send(self, group, message):
        """From any thread: the queues of this layer are its loop's."""
        if self.loop is None or self.loop is asyncio.get_running_loop():
            await super().group_send(group, message)
            return
        sending = super().group_send(group, message)
        sent = asyncio.run_coroutine_threadsafe(sending, self.loop)
        await asyncio.wrap_future(sent)

    async def group_add(self, group, channel):
        self.calls.append(("add", group))
        self.told.set()
        await super().group_add(group, channel)

    async def group_discard(self, group, channel):
        self.calls.append(("discard", group))
        self.told.set()
        await super().group_discard(group, channel)


@contextmanager
def layer_in_place(layer, monkeypatch):
    monkeypatch.setattr(channel_layer, "shared_layer", get_channel_layer)
    with a_layer(layer):
        yield layer


async def all_is_sent():
    """Let the layer take what was said."""
    await all_is_quiet()
    await asyncio.to_thread(publisher.flush)


def from_elsewhere(group, *texts):
    return group_on_layer(group), to_layer(GroupTexts("another", group, list(texts)))


def test_the_layer_has_one_channel_for_all_sockets_of_a_process(monkeypatch):
    async def story():
        with layer_in_place(SharedLayer(), monkeypatch) as layer:
            routes = Room.as_routes()
            async with open_socket(routes, "/a") as ann, open_socket(routes, "/a") as bob:
                assert layer.calls == [("add", group_on_layer("room_a"))]
                assert len(layer.groups[group_on_layer("room_a")]) == 1
                await layer.group_send(*from_elsewhere("room_a", '{"n": 1}', '{"n": 2}'))
                for socket in (ann, bob):
                    assert await socket.receive_message() == {"n": 1}
                    assert await socket.receive_message() == {"n": 2}
            await until(lambda: layer.calls[1:])
            await all_is_quiet()
            assert layer.calls[1:] == [("discard", group_on_layer("room_a"))]

    asyncio.run(story())


def test_what_a_process_publishes_comes_back_to_it_and_is_not_sent_twice(monkeypatch):
    async def story():
        with layer_in_place(SharedLayer(), monkeypatch):
            async with open_socket(Room.as_routes(), "/a") as ann:
                for number in range(3):
                    assert await ann.ask({"n": number}) == {"n": number}
                await all_is_sent()
                await all_is_quiet()
                assert ann.communicator.output_queue.empty()

    asyncio.run(story())


def test_a_burst_goes_to_the_layer_in_few_messages(monkeypatch, settings):
    """A layer drops what is above its capacity, 100 messages."""
    settings.REST_CHANNELS = {"PUBLISH_SECONDS": 60}
    published, all_are_said = [], threading.Event()

    class Counting(SharedLayer):
        async def group_send(self, group, message):
            assert all_are_said.wait(60)
            published.append(message["texts"])
            await asyncio.sleep(0)

    async def story():
        with layer_in_place(Counting(), monkeypatch):
            for number in range(300):
                Group("a").send(number)
            all_are_said.set()
            await all_is_sent()

    asyncio.run(story())
    assert [text for texts in published for text in texts] == [str(n) for n in range(300)]
    assert len(published) < 10


def test_membership_outlives_the_layers_group_expiry(monkeypatch):
    """A layer forgets groups, by its expiry or with its memory, so groups are joined again."""

    async def story():
        with layer_in_place(SharedLayer(group_expiry=0.03), monkeypatch) as layer:
            async with open_socket(Room.as_routes(), "/a") as ann:
                layer.groups.clear()
                layer.told.clear()
                await asyncio.wait_for(layer.told.wait(), 10)
                await all_is_quiet()
                await layer.group_send(*from_elsewhere("room_a", '"still here"'))
                assert await ann.receive_message() == "still here"

    asyncio.run(story())


@pytest.mark.parametrize("failure", ["raises", "hangs"])
def test_a_layer_that_fails_breaks_no_writer_and_no_member_here(
    failure, monkeypatch, settings, caplog
):
    settings.REST_CHANNELS = {"PUBLISH_SECONDS": 0.01}
    monkeypatch.setattr(channel_layer, "_pace", Pace())

    class Failing(SharedLayer):
        async def fail(self):
            if failure == "hangs":
                await asyncio.Event().wait()
            raise ConnectionError("lost")

        async def group_send(self, group, message):
            await self.fail()

        async def group_add(self, group, channel):
            await self.fail()

        group_discard = group_add

    async def story():
        with layer_in_place(Failing(), monkeypatch):
            async with open_socket(Room.as_routes(), "/a") as ann:
                for number in range(3):
                    assert await ann.ask({"n": number}) == {"n": number}
                while "other processes miss" not in caplog.text:
                    await all_is_quiet()
            await asyncio.to_thread(Group("room_a").send, "from a thread")

    with caplog.at_level(logging.WARNING, "rest_channels"):
        asyncio.run(story())


def test_without_an_event_loop_a_group_is_published_by_the_caller(monkeypatch):
    # Sockets that another test has left open have a loop that runs.
    monkeypatch.setattr(group_hub, "_hubs", PerLoop(group_hub.Hub))
    with layer_in_place(SharedLayer(), monkeypatch) as layer:
        layer.groups[group_on_layer("a")] = {"elsewhere": 0}
        Group("a").send({"n": 1})
        _, message = layer.channels["elsewhere"].get_nowait()
        assert message["texts"] == [json.dumps({"n": 1}, separators=(",", ":"))]


def test_what_waits_for_a_layer_is_bounded(monkeypatch, settings, caplog):
    settings.REST_CHANNELS = {"MAX_QUEUE_BYTES": 1000, "PUBLISH_SECONDS": 60}
    monkeypatch.setattr(channel_layer, "_pace", Pace())
    published = []
    has_begun, may_go_on = threading.Event(), threading.Event()

    class Slow(SharedLayer):
        async def group_send(self, group, message):
            has_begun.set()
            assert may_go_on.wait(60)
            published.extend(message["texts"])

    async def story():
        with layer_in_place(Slow(), monkeypatch):
            Group("a").send("x" * 98)
            assert await asyncio.to_thread(has_begun.wait, 60)
            for _ in range(100):
                Group("a").send("x" * 98)
            may_go_on.set()
            await all_is_sent()

    with caplog.at_level(logging.WARNING, "rest_channels"):
        asyncio.run(story())
    # One message in the layer, and as many as may wait for it.
    assert len(published) == 1 + 11
    assert "too slow" in caplog.text


@pytest.mark.usefixtures("redis_layer")
@pytest.mark.only_on("sqlite")
def test_two_server_processes_share_a_group():
    application = "tests.support.apps.group_app:application"
    with (
        Server("uvicorn", application) as here,
        Server("uvicorn", application) as there,
        here.connect("/attic/") as ann,
        there.connect("/attic/") as bob,
        there.connect("/cellar/") as eve,
    ):
        ann.send(json.dumps({"text": "Hello"}))
        assert json.loads(ann.recv(20)) == json.loads(bob.recv(20)) == {"text": "Hello"}
        bob.send(json.dumps({"command": "burst", "count": 300}))
        for socket in (ann, bob):
            assert [json.loads(socket.recv(20)) for _ in range(300)] == [
                {"n": number} for number in range(300)
            ]
        # Code that knows a socket's address can let it join, in any process.
        eve.send(json.dumps({"command": "address"}))
        ann.send(json.dumps({"command": "invite", **json.loads(eve.recv(20))}))
        with here.connect("/party/") as host:
            while True:
                host.send(json.dumps({"text": "Welcome"}))
                try:
                    assert json.loads(eve.recv(0.2)) == {"text": "Welcome"}
                    break
                except TimeoutError:
                    continue


def test_routes_of_groups_serve_a_channel_router():
    assert ChannelRouter(Room.as_routes(channel_name="rooms", internal=True)).mapping.keys() == {
        "rooms"
    }
