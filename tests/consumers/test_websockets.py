"""Sockets of class-based consumers: the same connection and bounds as those of viewsets."""

from __future__ import annotations

import asyncio
import io
import json
import threading

import pytest
from channels.layers import InMemoryChannelLayer
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.urls import path
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle

from rest_channels.consumers import Channel, ConsumerError, Group, WebsocketConsumers, consumer
from rest_channels.consumers.groups.group_hub import running_hub
from rest_channels.routers import ChannelRouter, DefaultRouter, SimpleRouter, find_sockets
from rest_channels.sockets.queues import OWN_ACTIONS
from rest_channels.test import SocketClient, SocketClosed
from tests.support.consumer_talk import open_socket
from tests.support.gates import Gate
from tests.support.internal_channels import a_layer
from tests.support.talk import OpenViewSet, happened
from tests.support.waiting import until


class Open(WebsocketConsumers):
    """For everybody; asks no database who it is."""

    authentication_classes = []


class Chat(Open):
    greeting = "Hello"

    @consumer(command="greet", name=r"(?P<name>\w+)")
    def greet(self, message, name):
        self.reply({"text": f"{self.greeting}, {name}"})

    @consumer(command="echo")
    async def echo(self, message, **kwargs):
        self.reply([message.content, kwargs])


# Paths


def test_a_socket_is_routed_by_as_routes():
    async def story():
        async with open_socket(Chat.as_routes(greeting="Hi")) as socket:
            assert await socket.ask({"command": "greet", "name": "ann"}) == {"text": "Hi, ann"}

    asyncio.run(story())


@pytest.mark.parametrize(
    ("pattern", "paths", "others"),
    [
        ("/a", ["/a"], ["/ab", "/", "/b/a"]),
        ("a", ["/a"], ["/ab"]),
        ("^/users/?$", ["/users", "/users/"], ["/users/1"]),
        (r"/(?P<pk>\d+)/?", ["/1", "/12/"], ["/x", "/1/2"]),
        ("/a|b", ["/b"], ["/ab", "/bc"]),
        ("", ["/"], ["/a"]),
        (lambda cls, **kwargs: f"/{cls.greeting}", ["/Hello"], ["/hello"]),
    ],
)
def test_a_path_is_matched_in_full(pattern, paths, others):
    [route] = Chat.as_routes(path=pattern)
    for found in paths:
        assert route.pattern.match(found.lstrip("/")), found
    for other in others:
        assert not route.pattern.match(other.lstrip("/")), other


def test_what_the_path_captures_is_for_the_handlers():
    async def story():
        routes = Chat.as_routes(path=r"/(?P<room>\w+)")
        async with open_socket(routes, "/attic") as socket:
            content = {"command": "echo", "room": "mine"}
            assert await socket.ask(content) == [content, {"room": "attic"}]
        outer = URLRouter([path("ws/<slug:tenant>/", URLRouter(routes))])
        async with open_socket(outer, "/ws/acme/attic") as socket:
            content = {"command": "echo"}
            assert await socket.ask(content) == [content, {"room": "attic", "tenant": "acme"}]

    asyncio.run(story())


def test_a_path_that_is_no_text_is_refused():
    with pytest.raises(ImproperlyConfigured, match="regular expression"):
        Chat.as_routes(path=5)


# A socket's life


class Living(Open):
    log: list = []

    def on_connect(self, message, **kwargs):
        self.log.append(("connect", message.content, kwargs))
        self.reply("welcome")

    def on_receive(self, message, room):
        self.log.append(("receive", message.content, room))
        self.send(["got", message.content])

    async def on_disconnect(self, message, **kwargs):
        self.log.append(("disconnect", message.content, kwargs))


def test_the_three_hooks_of_a_socket():
    log = []

    async def story():
        async with open_socket(Living.as_routes(path=r"/(?P<room>\w)", log=log), "/a") as socket:
            assert await socket.receive_message() == "welcome"
            assert await socket.ask({"n": 1}) == ["got", {"n": 1}]

    asyncio.run(story())
    assert log == [
        ("connect", {"path": "/a"}, {"room": "a"}),
        ("receive", {"n": 1}, "a"),
        ("disconnect", {"code": 1000}, {"room": "a"}),
    ]


async def handshake(routes):
    """Return the first message to the server, and whether the application has ended by itself."""
    communicator = WebsocketCommunicator(URLRouter(routes), "/")
    connected, _ = await communicator.connect()
    await communicator.disconnect()
    return connected


@pytest.mark.parametrize("exc", [ConsumerError("No."), PermissionDenied(), ZeroDivisionError()])
@pytest.mark.parametrize("is_async", [False, True])
def test_what_on_connect_raises_refuses_the_socket(exc, is_async):
    left = []

    class Refusing(Open):
        def on_connect(self, message, **kwargs):
            raise exc

        def on_disconnect(self, message, **kwargs):
            left.append(message)

    class RefusingAsync(Refusing):
        async def on_connect(self, message, **kwargs):
            raise exc

    chosen = RefusingAsync if is_async else Refusing
    # Accepted, to be closed with a code, where it is a question of who asks.
    is_of_user = isinstance(exc, PermissionDenied)
    assert asyncio.run(handshake(chosen.as_routes())) is is_of_user
    assert left == []


def test_an_on_connect_that_hangs_refuses_the_socket(monkeypatch):
    monkeypatch.setattr("rest_channels.consumers.consumer_streams._SECONDS_TO_OPEN", 0.1)
    begun, stopped = [], []

    class Hanging(Open):
        async def on_connect(self, message, **kwargs):
            begun.append(True)
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append(True)

    assert asyncio.run(handshake(Hanging.as_routes())) is False
    # On a machine that is busy it may not have begun in time.
    assert stopped == begun


@pytest.mark.parametrize("is_async", [False, True])
def test_what_at_exception_deals_with_refuses_the_socket_all_the_same(is_async):
    dealt = []

    class Refusing(Open):
        def on_connect(self, message, **kwargs):
            raise PermissionDenied

        def at_exception(self, exc):
            dealt.append(exc)

    class RefusingAsync(Refusing):
        async def on_connect(self, message, **kwargs):
            raise PermissionDenied

    chosen = RefusingAsync if is_async else Refusing
    assert asyncio.run(handshake(chosen.as_routes())) is False
    assert len(dealt) == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_an_on_connect_that_fails_half_way_leaves_no_group_behind(is_async):
    joined = []

    class Failing(Open):
        def on_connect(self, message, **kwargs):
            self.join_group("half")
            joined.append(self._socket.queue.groups == {"half"})
            raise ZeroDivisionError

    class FailingAsync(Failing):
        async def on_connect(self, message, **kwargs):
            Failing.on_connect(self, message)

    router = DefaultRouter()
    router.register("failing", FailingAsync if is_async else Failing)
    router.register("chat", Chat)

    async def story():
        # The socket goes on without that stream.
        async with open_socket(router.as_asgi()) as socket:
            assert (await socket.receive_message())["payload"]["response_status"] == 500
            assert running_hub()._groups == {}
            assert len(running_hub()._members) == 1

    asyncio.run(story())
    assert joined == [True]


def test_an_on_connect_that_the_server_gives_up_is_stopped_and_leaves_its_groups():
    begun, stopped = asyncio.Event(), asyncio.Event()

    class Waiting(Open):
        async def on_connect(self, message, **kwargs):
            self.join_group("waiting")
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

    async def story():
        scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
        given = asyncio.Queue()
        given.put_nowait({"type": "websocket.connect"})
        serving = asyncio.ensure_future(URLRouter(Waiting.as_routes())(scope, given.get, None))
        await asyncio.wait_for(begun.wait(), 10)
        assert len(running_hub()._groups) == 1
        serving.cancel()
        await asyncio.wait([serving], timeout=10)
        await asyncio.wait_for(stopped.wait(), 10)
        assert (running_hub()._groups, running_hub()._members) == ({}, {})

    asyncio.run(story())


@pytest.mark.parametrize("is_async", [False, True])
def test_an_on_disconnect_that_raises_is_for_at_exception_and_the_log(is_async, caplog):
    dealt = []

    class Leaving(Open):
        deals = True

        def on_connect(self, message, **kwargs):
            self.join_group("leaving")

        def on_disconnect(self, message, **kwargs):
            raise ZeroDivisionError

        def at_exception(self, exc):
            if not self.deals:
                raise exc
            dealt.append(exc)

    class LeavingAsync(Leaving):
        async def on_disconnect(self, message, **kwargs):
            raise ZeroDivisionError

    chosen = LeavingAsync if is_async else Leaving

    async def story():
        for deals in (True, False):
            async with open_socket(chosen.as_routes(deals=deals)):
                pass
            assert (running_hub()._groups, running_hub()._members) == ({}, {})

    asyncio.run(story())
    assert len(dealt) == 1
    [record] = [r for r in caplog.records if "failed to disconnect" in r.getMessage()]
    assert record.exc_info[0] is ZeroDivisionError


def test_a_group_joined_while_disconnecting_is_left():
    class Confused(Open):
        def on_disconnect(self, message, **kwargs):
            self.join_group("late")

    async def story():
        async with open_socket(Confused.as_routes()):
            pass
        assert (running_hub()._groups, running_hub()._members) == ({}, {})

    asyncio.run(story())


# What channels and servers would understand
HOSTILE = {
    "type": "websocket.close", "code": 4999, "process": None, "group": "other", "texts": ["x"],
    "channel": "other", "reply_channel": "specific!x#y", "kwargs": {"room": "other"},
    "origin": {"user": 1}, "stream": "other", "payload": {}, "__class__": "x",
}  # fmt: skip


def test_no_key_of_a_message_means_anything_to_channels():
    class Mirror(Open):
        @consumer
        def mirror(self, message, **kwargs):
            self.reply(message.content)
            Group("all").send({**message.content, "kwargs": kwargs})

        def on_connect(self, message, **kwargs):
            self.join_group("all")

    async def story():
        routes = Mirror.as_routes()
        async with open_socket(routes) as ann, open_socket(routes) as bob:
            await ann.give(HOSTILE)
            got = [await ann.receive_message() for _ in range(2)]
            assert HOSTILE in got
            assert {**HOSTILE, "kwargs": {}} in got
            assert await bob.receive_message() == {**HOSTILE, "kwargs": {}}
            leave = {"type": "websocket.disconnect", "kwargs": {}}
            assert await bob.ask(leave) == leave

    asyncio.run(story())


def test_replies_are_in_the_order_of_the_messages_and_of_saying():
    class Two(Open):
        @consumer(kind="sync")
        def sync(self, message):
            self.reply(message.content["n"])
            self.reply("and")

        @consumer(kind="async")
        async def async_(self, message):
            self.reply(message.content["n"])
            await asyncio.sleep(0)
            self.reply("and")

    async def story():
        async with open_socket(Two.as_routes()) as socket:
            for n in range(6):
                await socket.give({"kind": "sync" if n % 2 else "async", "n": n})
            said = [await socket.receive_message() for _ in range(12)]
            assert said == [item for n in range(6) for item in (n, "and")]

    asyncio.run(story())


def test_one_instance_a_message_with_its_socket_and_request():
    instances = []

    class Known(Open):
        mark = None

        @consumer
        def known(self, message):
            assert self.mark is None
            self.mark = message
            instances.append(self)
            self.reply([self.connection.scope["path"], self.request.method, self.request.path])

    async def story():
        async with open_socket(Known.as_routes(path="/known"), "/known") as socket:
            for _ in range(2):
                assert await socket.ask({}) == ["/known", "POST", "/known"]

    asyncio.run(story())
    assert instances[0] is not instances[1]


def test_a_consumer_may_close_its_socket_after_what_it_said():
    class Closing(Open):
        @consumer
        def bye(self, message):
            self.reply("bye")
            self.close(4000)

    async def story():
        async with open_socket(Closing.as_routes()) as socket:
            assert await socket.ask({}) == "bye"
            assert await socket.closed_with() == 4000

    asyncio.run(story())


def test_what_is_said_after_the_message_was_served_is_sent():
    class Later(Open):
        @consumer
        async def later(self, message):
            self.reply("now")
            type(self).task = asyncio.create_task(self.say_later())

        async def say_later(self):
            await type(self).event.wait()
            self.reply("later")

    async def story():
        Later.event = asyncio.Event()
        async with open_socket(Later.as_routes()) as socket:
            assert await socket.ask({}) == "now"
            assert (await socket.ask([]))["response_status"] == 400
            Later.event.set()
            assert await socket.receive_message() == "later"

    asyncio.run(story())


def test_an_async_handler_is_stopped_when_the_client_goes():
    stopped = []

    class Waiting(Open):
        @consumer
        async def waits(self, message):
            self.reply("waiting")
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append(True)

    async def story():
        async with open_socket(Waiting.as_routes()) as socket:
            assert await socket.ask({}) == "waiting"

    asyncio.run(story())
    assert stopped == [True]


def test_messages_side_by_side_where_the_class_allows():
    class Pair(Open):
        max_in_flight = 2

        @consumer(kind="wait")
        async def wait(self, message):
            await self.event.wait()
            self.reply("waited")

        @consumer(kind="open")
        async def open(self, message):
            self.event.set()

    async def story():
        Pair.event = asyncio.Event()
        async with open_socket(Pair.as_routes()) as socket:
            await socket.give({"kind": "wait"})
            assert await socket.ask({"kind": "open"}) == "waited"

    asyncio.run(story())


# Errors


def test_errors_have_the_shape_of_all_errors_and_the_socket_lives_on():
    class Failing(Open):
        @consumer(kind="refused")
        def refused(self, message):
            self.reply("before")
            raise ConsumerError("Too long.", status=409, code="long")

        @consumer(kind="broken")
        async def broken(self, message):
            raise ZeroDivisionError("secret")

    async def story():
        async with open_socket(Failing.as_routes()) as socket:
            await socket.give({"kind": "refused", "request_id": "r", "action": "go"})
            assert await socket.receive_message() == "before"
            assert await socket.receive_message() == {
                "errors": ["Too long."], "data": None, "action": "go",
                "response_status": 409, "request_id": "r", "codes": ["long"],
            }  # fmt: skip
            broken = await socket.ask({"kind": "broken"})
            assert broken["response_status"] == 500
            assert "secret" not in str(broken)
            nobody = await socket.ask({"kind": "unknown", "request_id": 5})
            assert (nobody["response_status"], nobody["request_id"]) == (404, 5)
            assert nobody["action"] is None

    asyncio.run(story())


@pytest.mark.parametrize(
    "text",
    [" ", "{", "[]", '"x"', "5", "null", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": "\\ud800"}',
     "[" * 2_000, '{"action": 5}', '{"action": ""}', '{"request_id": 1.5}', '{"request_id": []}',
     '{"request_id": "' + "x" * 129 + '"}'],
)  # fmt: skip
def test_bad_input_is_answered_400_as_on_a_viewsets_socket(text):
    async def story():
        async with open_socket(Chat.as_routes()) as socket:
            await socket.send_text(text)
            assert (await socket.receive_message())["response_status"] == 400
            await socket.send_bytes(b"{}")
            assert (await socket.receive_message())["response_status"] == 400
            assert (await socket.ask({"command": "greet", "name": "ann"}))["text"] == "Hello, ann"

    asyncio.run(story())


# Bounds


def test_a_message_too_long_is_answered_413(settings):
    settings.REST_CHANNELS = {"MAX_FRAME_BYTES": 100}

    async def story():
        async with open_socket(Chat.as_routes()) as socket:
            for held in ({}, {"action": "subscribe", "held": [1] * 100}):
                reply = await socket.ask({"text": "x" * 100, **held})
                assert (reply["response_status"], reply["codes"]) == (413, ["frame_too_long"])

    asyncio.run(story())


def test_a_message_longer_than_any_closes_with_1009(settings):
    settings.REST_CHANNELS = {"MAX_FRAME_BYTES": 100, "MAX_SUBSCRIPTION_ROWS": 1}

    async def story():
        async with open_socket(Chat.as_routes()) as socket:
            await socket.send_text(" " * 101)
            assert await socket.closed_with() == 1009

    asyncio.run(story())


def test_a_flood_is_answered_429_and_then_closed_with_4429(settings):
    settings.REST_CHANNELS = {"FRAME_RATE": 0.001, "FRAME_BURST": 2, "MAX_IN_FLIGHT": 10}

    async def story():
        async with open_socket(Chat.as_routes()) as socket:
            for _ in range(5):
                await socket.give({"command": "echo", "request_id": "r"})
            refused = []
            while (message := await socket.output())["type"] == "websocket.send":
                # The two that are served may have been in time.
                if isinstance(reply := json.loads(message["text"]), dict):
                    refused.append((reply["response_status"], reply["request_id"]))
            assert refused == [(429, "r")] * 2
            assert message["code"] == 4429

    asyncio.run(story())


def test_too_many_at_once_are_answered_503(settings):
    settings.REST_CHANNELS = {"MAX_IN_FLIGHT": 1}
    gate = Gate()

    class Slow(Open):
        @consumer
        def slow(self, message):
            gate.pass_through()
            self.reply("slow")

    async def story():
        async with open_socket(Slow.as_routes()) as socket:
            await socket.give({})
            await happened(gate.reached)
            refused = await socket.ask({"request_id": 2, "action": "x"})
            assert (refused["response_status"], refused["request_id"]) == (503, 2)
            gate.opened.set()
            assert await socket.receive_message() == "slow"

    asyncio.run(story())


async def all_is_quiet():
    """Let whatever could happen by now happen: many times as many hops as it would take."""
    for _ in range(50):
        await asyncio.to_thread(int)


def unread(routes):
    """A socket that reads nothing: `send` of its server waits until the event is set."""
    sent, reads = [], asyncio.Event()
    given: asyncio.Queue = asyncio.Queue()

    async def send(message):
        if message["type"] == "websocket.send":
            await reads.wait()
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
    given.put_nowait({"type": "websocket.connect"})
    serving = asyncio.ensure_future(URLRouter(routes)(scope, given.get, send))
    return given, sent, reads, serving


def test_replies_wait_for_a_slow_reader_and_no_message_is_begun_meanwhile(settings):
    settings.REST_CHANNELS = {"MAX_QUEUE_BYTES": 100, "MAX_IN_FLIGHT": 10}
    begun, second = [], asyncio.Event()

    class Long(Open):
        @consumer
        async def long(self, message):
            begun.append(1)
            self.reply("x" * 80)
            if len(begun) == 2:
                second.set()

    async def story():
        given, _, reads, serving = unread(Long.as_routes())
        for _ in range(6):
            given.put_nowait({"type": "websocket.receive", "text": "{}"})
        await asyncio.wait_for(second.wait(), 10)
        await all_is_quiet()
        # One at the server, one that waits for room.
        assert len(begun) == 2
        reads.set()
        given.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(serving, 10)

    asyncio.run(story())


def test_one_message_that_says_more_than_waits_for_a_client_closes_it(settings):
    settings.REST_CHANNELS = {"MAX_QUEUE_BYTES": 100}
    said = asyncio.Event()

    class Endless(Open):
        @consumer
        async def endless(self, message):
            for _ in range(100):
                self.reply("x" * 50)
            said.set()

    async def story():
        given, sent, reads, serving = unread(Endless.as_routes())
        given.put_nowait({"type": "websocket.receive", "text": "{}"})
        await asyncio.wait_for(said.wait(), 10)
        await all_is_quiet()
        reads.set()
        await until(lambda: sent[-1].get("code") == 4408)
        assert len(sent) < 10
        given.put_nowait({"type": "websocket.disconnect", "code": 4408})
        await asyncio.wait_for(serving, 10)

    asyncio.run(story())


# Who may


@pytest.fixture
def ann(django_user_model):
    return django_user_model.objects.create_user("ann", password="tea")


@pytest.mark.django_db(transaction=True)
def test_permissions_are_those_of_viewsets(ann):
    class Members(WebsocketConsumers):
        permission_classes = [IsAuthenticated]

        @consumer
        def who(self, message):
            self.reply(self.request.user.username)

    application = URLRouter(Members.as_routes())
    with SocketClient(application) as stranger, pytest.raises(SocketClosed) as closed:
        stranger.receive()
    assert closed.value.code == 4401
    with SocketClient(application) as client:
        client.force_login(ann)
        client.send_text("{}")
        assert client.receive() == "ann"


@pytest.mark.django_db(transaction=True)
def test_a_socket_whose_user_is_gone_is_closed_with_4401(ann, settings):
    settings.REST_CHANNELS = {"LEASE_SECONDS": 0.1}
    left = []

    class Members(WebsocketConsumers):
        @consumer
        def who(self, message):
            self.reply(self.request.user.username)

        def on_disconnect(self, message, **kwargs):
            left.append(message.content)

    client = SocketClient(URLRouter(Members.as_routes()))
    client.force_login(ann)
    client.send_text("{}")
    assert client.receive() == "ann"
    ann.is_active = False
    ann.save()
    with pytest.raises(Exception, match="4401"):
        client.receive()
    client.close(4401)
    assert left == [{"code": 4401}]


def test_throttles_are_drfs_and_count_the_handshake_too():
    class ThreeADay(SimpleRateThrottle):
        rate = "3/day"

        def get_cache_key(self, request, view):
            return "consumers"

    async def story():
        ThreeADay.cache.delete("consumers")
        async with open_socket(Chat.as_routes(throttle_classes=[ThreeADay])) as socket:
            hello = {"command": "greet", "name": "ann", "request_id": 1}
            for _ in range(2):
                assert await socket.ask(hello) == {"text": "Hello, ann"}
            refused = await socket.ask(hello)
            assert (refused["response_status"], refused["request_id"]) == (429, 1)
            assert refused["headers"].keys() == {"Retry-After"}

    asyncio.run(story())


def test_a_page_of_another_origin_is_refused():
    router = SimpleRouter()
    router.register("chat", Chat)

    async def story():
        headers = [(b"host", b"testserver"), (b"origin", b"https://evil.example")]
        communicator = WebsocketCommunicator(router.as_asgi(), "/chat/", headers=headers)
        assert (await communicator.connect())[0] is False

    asyncio.run(story())


# On a router


def test_a_stream_among_viewsets():
    class EchoViewSet(OpenViewSet):
        @action(detail=False)
        def echo(self, request):
            return Response("echo")

    router = DefaultRouter()
    router.register("echo", EchoViewSet, "echo")
    router.register("chat", Chat)

    async def story():
        async with open_socket(router.as_asgi()) as socket:
            payload = {"command": "greet", "name": "ann"}
            assert await socket.ask({"stream": "chat", "payload": payload}) == {
                "stream": "chat", "payload": {"text": "Hello, ann"},
            }  # fmt: skip
            reply = await socket.ask({"stream": "echo", "payload": {"action": "echo"}})
            assert reply["payload"]["data"] == "echo"
            nobody = await socket.ask({"stream": "chat", "payload": {"request_id": 1}})
            assert (nobody["stream"], nobody["payload"]["response_status"]) == ("chat", 404)
        async with open_socket(router.as_asgi(), "/chat/") as socket:
            assert (await socket.ask(payload))["text"] == "Hello, ann"

    asyncio.run(story())


def test_a_stream_that_refuses_or_closes_takes_no_other_with_it():
    codes, left = [], threading.Event()

    class Refusing(Open):
        def on_connect(self, message, **kwargs):
            raise ConsumerError("Not you.", status=403)

    class Closing(Open):
        @consumer
        def bye(self, message):
            self.close()

        def on_disconnect(self, message, **kwargs):
            codes.append(message.content["code"])
            left.set()

    router = DefaultRouter()
    router.register("refusing", Refusing)
    router.register("closing", Closing)
    router.register("chat", Chat)

    async def story():
        async with open_socket(router.as_asgi()) as socket:
            refusal = await socket.receive_message()
            assert (refusal["stream"], refusal["payload"]["errors"]) == ("refusing", ["Not you."])
            closed = await socket.ask({"stream": "refusing", "payload": {"request_id": 1}})
            assert closed["payload"]["codes"] == ["stream_closed"]
            await socket.give({"stream": "closing", "payload": {}})
            await happened(left)
            closed = await socket.ask({"stream": "closing", "payload": {"request_id": 1}})
            assert closed["payload"]["codes"] == ["stream_closed"]
            payload = {"command": "greet", "name": "ann"}
            greeted = await socket.ask({"stream": "chat", "payload": payload})
            assert greeted["payload"] == {"text": "Hello, ann"}

    asyncio.run(story())
    assert codes == [1000]


OWN = "    of the connection: " + ", ".join(sorted(OWN_ACTIONS))


def test_socket_routes_lists_the_handlers():
    router = DefaultRouter()
    router.register("chat", Chat)
    global application
    application = router.as_asgi()
    out = io.StringIO()
    call_command("socket_routes", f"{__name__}.application", stdout=out)
    assert out.getvalue().splitlines() == [
        "/",
        "    chat  (Chat)",
        "        greet  command='greet' name='(?P<name>\\\\w+)'",
        "        echo  command='echo'",
        OWN,
        "/chat/",
        "    greet  command='greet' name='(?P<name>\\\\w+)'",
        "    echo  command='echo'",
        OWN,
    ]
    assert [socket.path for socket in find_sockets(application)] == ["/", "/chat/"]


def test_cancel_is_the_connections_own_unless_a_handler_takes_it():
    class Waiting(Open):
        @consumer(kind="wait")
        async def waits(self, message):
            self.reply("waiting")
            await asyncio.Event().wait()

    class Cancelling(Waiting):
        @consumer(action="cancel")
        async def cancels(self, message):
            self.reply("mine")

    async def story():
        async with open_socket(Waiting.as_routes()) as socket:
            assert await socket.ask({"kind": "wait", "request_id": 1}) == "waiting"
            cancelled = await socket.ask({"action": "cancel", "data": {"request_id": 1}})
            assert cancelled["response_status"] == 204
            assert (await socket.receive_message())["response_status"] == 499
        async with open_socket(Cancelling.as_routes()) as socket:
            assert await socket.ask({"action": "cancel"}) == "mine"

    asyncio.run(story())


# Internal


def test_internal_messages_go_to_the_channel_with_kwargs_and_an_address():
    routes = Chat.as_routes(path=r"/(?P<room>\w+)", channel_name="chat", internal=True)
    [worker] = ChannelRouter(routes).mapping.values()

    async def story():
        async with open_socket(routes, "/attic") as socket:
            content = {"command": "echo", "é": [1, None]}
            await socket.give(content)
            message = await layer.receive("chat")
            assert json.loads(message["content"]) == content
            assert json.loads(message["kwargs"]) == {"room": "attic"}
            await worker.serve(message)
            assert await socket.receive_message() == [content, {"room": "attic"}]
            # An address is text: any code that has it reaches the socket.
            await Channel(message["reply_channel"]).asend("pushed")
            assert await socket.receive_message() == "pushed"
            await socket.give({"command": "unknown", "request_id": 3})
            await worker.serve(await layer.receive("chat"))
            error = await socket.receive_message()
            assert (error["response_status"], error["request_id"]) == (404, 3)
        # No member is left, and no message is sent.
        await Channel(message["reply_channel"]).asend("pushed")

    with a_layer() as layer:
        asyncio.run(story())


def test_a_client_forges_neither_whom_a_worker_replies_to_nor_who_it_is():
    routes = Chat.as_routes(path=r"/(?P<room>\w+)", channel_name="chat", internal=True)
    [worker] = ChannelRouter(routes).mapping.values()

    async def story():
        async with open_socket(routes, "/attic") as ann, open_socket(routes, "/attic") as eve:
            await ann.give({"command": "echo"})
            hers = await layer.receive("chat")
            await eve.give({**HOSTILE, "command": "echo", "reply_channel": hers["reply_channel"]})
            message = await layer.receive("chat")
            assert message["reply_channel"] not in (hers["reply_channel"], "specific!x#y")
            assert json.loads(message["kwargs"]) == {"room": "attic"}
            assert json.loads(message["origin"]) == {}
            await worker.serve(message)
            assert (await eve.receive_message())[1] == {"room": "attic"}
            assert ann.communicator.output_queue.empty()

    with a_layer() as layer:
        asyncio.run(story())


def test_with_a_channel_name_alone_messages_are_handled_here():
    async def story():
        async with open_socket(Chat.as_routes(channel_name="chat")) as socket:
            assert (await socket.ask({"command": "greet", "name": "ann"}))["text"] == "Hello, ann"

    asyncio.run(story())


def test_internal_without_a_channel_is_refused():
    with pytest.raises(ImproperlyConfigured, match="channel_name"):
        Chat.as_routes(internal=True)


def test_a_full_channel_is_answered_503():
    async def story():
        async with open_socket(Chat.as_routes(channel_name="chat", internal=True)) as socket:
            await socket.give({"n": 1})
            busy = await socket.ask({"n": 2, "request_id": 2})
            assert (busy["response_status"], busy["request_id"]) == (503, 2)

    with a_layer(InMemoryChannelLayer(capacity=1)):
        asyncio.run(story())
