"""A user who may no longer hear a group or room receives nothing more of it, within the lease."""

from __future__ import annotations

import asyncio
import threading

import pytest
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.core.exceptions import PermissionDenied
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.throttling import SimpleRateThrottle

from rest_channels.consumers import (
    Group,
    GroupConsumers,
    NoReceiveMixin,
    PermissionMixin,
    WebsocketConsumers,
    consumer_streams,
)
from rest_channels.consumers.consumer_streams import ConsumersQueue
from rest_channels.consumers.groups.authorization import GroupAuthorization
from rest_channels.consumers.groups.group_hub import local_hubs, running_hub
from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient, SocketClosed
from tests.consumers.groups.test_rooms import do, event, presence_event
from tests.support.chat_rooms import Chat
from tests.support.consumer_talk import open_socket
from tests.support.talk import happened
from tests.support.waiting import until


class Guarded(Chat):
    """`banned` has pairs of a user and a room; `asked` what was asked."""

    banned: set = set()
    asked: list = []

    def check_room_permission(self, room, action):
        self.asked.append((self.kwargs["user"], room, action))
        if (self.kwargs["user"], room) in self.banned:
            raise PermissionDenied


@pytest.fixture
def always(monkeypatch):
    """Nothing that was found is relied on: as if each answer were older than the lease."""
    monkeypatch.setattr(GroupAuthorization, "allow", lambda authorization, source, asked_at: None)


async def say(socket, text, room="attic"):
    """Send, and receive what the sender gets."""
    await socket.give({"action": "send", "room": room, "data": text})
    got = [await socket.receive_message() for _ in range(2)]
    assert {message["action"] for message in got} == {"send", "message"}


# Rooms


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("action", ["send", "typing"])
def test_who_may_join_no_longer_hears_no_more(action):
    banned = set()
    routes = Guarded.as_routes(banned=banned)

    async def story():
        async with open_socket(routes, "/ann") as ann, open_socket(routes, "/bob") as bob:
            for room in ("attic", "cellar"):
                await do(ann, "join", room)
                await do(bob, "join", room)
                await event(ann)
            banned.add(("bob", "attic"))
            await ann.give({"action": action, "room": "attic", "data": "secret"})
            assert await bob.receive_message() == {
                "errors": ["You do not have permission to perform this action."],
                "data": {"room": "attic"}, "action": "revoke", "response_status": 403,
                "request_id": None, "codes": ["permission_denied"],
            }  # fmt: skip
            told = [await event(ann) for _ in range(2 if action == "typing" else 1)]
            while presence_event("left", "bob") not in told:
                message = await ann.receive_message()
                told.append((message["action"], message["data"]))
            # The other room is another's business, and so is the socket.
            await say(ann, "Hello", "cellar")
            assert (await event(bob))[1]["data"] == "Hello"
            assert (await do(bob, "join"))[0] == 403
            assert (await do(bob, "presence"))[0] == 403
            assert (await do(bob, "leave"))[0] == 204
            banned.clear()
            assert (await do(bob, "join"))[0] == 200

    asyncio.run(story())


@pytest.mark.usefixtures("always")
def test_who_came_is_no_business_of_who_may_not_hear():
    banned = set()
    routes = Guarded.as_routes(banned=banned)

    async def story():
        async with open_socket(routes, "/ann") as ann, open_socket(routes, "/bob") as bob:
            await do(ann, "join")
            banned.add(("ann", "attic"))
            await do(bob, "join")
            assert (await event(ann))[0] == "revoke"

    asyncio.run(story())


@pytest.mark.usefixtures("always")
@pytest.mark.django_db(transaction=True)
def test_a_history_is_told_as_long_as_the_room_may_be_heard():
    banned = set()
    routes = Guarded.as_routes(banned=banned, history=3)

    async def story():
        async with open_socket(routes, "/ann") as ann, open_socket(routes, "/bob") as bob:
            await do(ann, "join")
            await do(bob, "join")
            await event(ann)
            await say(ann, "one")
            assert (await event(bob))[1]["data"] == "one"
            banned.add(("bob", "attic"))
            await ann.give({"action": "send", "room": "attic", "data": "two"})
            assert (await event(bob))[0] == "revoke"
            refused = await bob.ask({"action": "join", "room": "attic", "since": "1-1"})
            assert (refused["response_status"], refused["data"]) == (403, None)
            [feed] = running_hub().feeds._feeds.values()
            assert len(feed.members) == 1

    asyncio.run(story())


def test_within_the_lease_nobody_is_asked_again(settings):
    settings.REST_CHANNELS = {"LEASE_SECONDS": 600}
    asked = []
    routes = Guarded.as_routes(asked=asked)

    async def story():
        async with open_socket(routes, "/ann") as ann, open_socket(routes, "/bob") as bob:
            await do(ann, "join")
            await do(bob, "join")
            await event(ann)
            for text in "abc":
                await say(ann, text)
                await event(bob)

    asyncio.run(story())
    assert [item for item in asked if item[0] == "bob"] == [("bob", "attic", "join")]


@pytest.mark.usefixtures("always")
def test_a_permission_that_cannot_be_asked_for_is_none():
    failures = set()

    class Failing(Guarded):
        def get_room(self, name):
            if self.kwargs["user"] in failures:
                raise ZeroDivisionError("secret")
            return name

        def at_exception(self, exc):
            """Handles every exception, but the socket is closed all the same."""

    routes = Failing.as_routes()

    async def story():
        async with open_socket(routes, "/ann") as ann, open_socket(routes, "/bob") as bob:
            await do(ann, "join")
            await do(bob, "join")
            await event(ann)
            failures.add("bob")
            await ann.give({"action": "send", "room": "attic", "data": "Hello"})
            revoked = await bob.receive_message()
            assert (revoked["action"], revoked["response_status"]) == ("revoke", 500)
            assert revoked["data"] == {"room": "attic"}
            assert "secret" not in str(revoked)

    asyncio.run(story())


class Slow(Guarded):
    """To be asked about bob takes until `answers` is set, once `waits` is."""

    waits: threading.Event
    asked_once: threading.Event
    answers: threading.Event

    def get_room(self, name):
        if self.kwargs["user"] == "bob" and name == "attic" and self.waits.is_set():
            self.asked_once.set()
            assert self.answers.wait(20)
        return name


@pytest.fixture
def slow():
    events = {name: threading.Event() for name in ("waits", "asked_once", "answers")}
    return type("Slow", (Slow,), events)


@pytest.mark.usefixtures("always")
def test_what_is_said_meanwhile_is_told_in_its_order_and_other_rooms_do_not_wait(slow):
    routes = slow.as_routes()

    async def story():
        async with open_socket(routes, "/ann") as ann, open_socket(routes, "/bob") as bob:
            for room in ("attic", "cellar"):
                await do(ann, "join", room)
                await do(bob, "join", room)
                await event(ann)
            slow.waits.set()
            for text in "abc":
                await say(ann, text)
            await happened(slow.asked_once)
            await say(ann, "below", "cellar")
            assert (await event(bob))[1]["data"] == "below"
            slow.answers.set()
            assert [(await event(bob))[1]["data"] for _ in range(3)] == ["a", "b", "c"]

    asyncio.run(story())


@pytest.mark.usefixtures("always")
def test_what_waited_for_who_left_meanwhile_is_told_nobody(slow):
    routes = slow.as_routes(max_in_flight=2)

    async def story():
        async with open_socket(routes, "/ann") as ann, open_socket(routes, "/bob") as bob:
            await do(ann, "join")
            await do(bob, "join")
            await event(ann)
            slow.waits.set()
            await say(ann, "before")
            await happened(slow.asked_once)
            assert (await do(bob, "leave"))[0] == 204
            slow.waits.clear()
            assert (await do(bob, "join"))[0] == 200
            slow.answers.set()
            await ann.give({"action": "send", "room": "attic", "data": "after"})
            assert (await event(bob))[1]["data"] == "after"

    asyncio.run(story())


@pytest.mark.usefixtures("always")
def test_what_waits_for_an_answer_is_bounded(slow, settings):
    settings.REST_CHANNELS = {"MAX_QUEUE_BYTES": 1000}
    routes = slow.as_routes()

    async def story():
        async with open_socket(routes, "/ann") as ann, open_socket(routes, "/bob") as bob:
            await do(ann, "join")
            await do(bob, "join")
            await event(ann)
            slow.waits.set()
            for _ in range(20):
                await ann.give({"action": "typing", "room": "attic", "data": "x" * 100})
                await event(ann)
            # Messages that may be lost are lost, and close no socket.
            assert bob.communicator.output_queue.empty()
            for _ in range(8):
                await ann.give({"action": "send", "room": "attic", "data": "x" * 200})
            revoked = await bob.receive_message()
            assert (revoked["action"], revoked["response_status"]) == ("revoke", 500)
            slow.answers.set()
            assert await bob.closed_with() == 1011

    asyncio.run(story())


# Groups


class News(NoReceiveMixin, PermissionMixin, GroupConsumers):
    authentication_classes = []
    group_name = "news"


@pytest.mark.usefixtures("always")
def test_a_listener_whose_permission_ends_is_told_and_closed():
    allowed = [True]
    routes = News.as_routes(permissions=[lambda request, view: allowed[0]])

    async def story():
        async with open_socket(routes) as socket:
            Group("news").send("for you")
            assert await socket.receive_message() == "for you"
            allowed[0] = False
            Group("news").send("not for you")
            revoked = await socket.receive_message()
            assert (revoked["action"], revoked["response_status"]) == ("revoke", 403)
            assert await socket.closed_with() == 4403

    asyncio.run(story())


@pytest.mark.usefixtures("always")
def test_a_permission_that_ends_while_the_socket_opens_closes_it():
    answers = [True, False]

    class Early(News):
        permissions = [lambda request, view: answers.pop(0)]

        def on_connect(self, message, **kwargs):
            super().on_connect(message, **kwargs)
            self.broadcast("not for you")
            assert refused.wait(20)

    refused = threading.Event()
    revoke = ConsumersQueue.revoke

    def revoking(queue, reply):
        revoke(queue, reply)
        refused.set()

    async def story():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ConsumersQueue, "revoke", revoking)
            async with open_socket(Early.as_routes()) as socket:
                assert (await socket.receive_message())["action"] == "revoke"
                assert await socket.closed_with() == 4403

    asyncio.run(story())


@pytest.mark.usefixtures("always")
def test_on_a_shared_socket_only_that_stream_ends():
    allowed = [True]

    class Guarded(News):
        permissions = [lambda request, view: allowed[0]]

    class Open(GroupConsumers):
        authentication_classes = []
        group_name = "news"

    router = DefaultRouter()
    router.register("guarded", Guarded)
    router.register("open", Open)

    async def story():
        async with open_socket(router.as_asgi()) as socket:
            allowed[0] = False
            Group("news").send("first")
            got = [await socket.receive_message() for _ in range(2)]
            assert {"stream": "open", "payload": "first"} in got
            [revoked] = [message for message in got if message["stream"] == "guarded"]
            assert revoked["payload"]["action"] == "revoke"
            Group("news").send("second")
            assert await socket.receive_message() == {"stream": "open", "payload": "second"}

    asyncio.run(story())


@pytest.mark.usefixtures("always")
def test_to_be_asked_again_counts_against_no_throttle():
    class OnceADay(SimpleRateThrottle):
        rate = "1/day"
        cache_key = "hearing"

        def get_cache_key(self, request, view):
            return self.cache_key

    routes = News.as_routes(permissions=[lambda *args: True], throttle_classes=[OnceADay])

    async def story():
        OnceADay.cache.delete("hearing")
        async with open_socket(routes) as socket:
            for number in range(3):
                Group("news").send(number)
                assert await socket.receive_message() == number

    asyncio.run(story())


@pytest.mark.usefixtures("always")
def test_what_anybody_may_hear_is_asked_about_by_nobody(monkeypatch):
    monkeypatch.setattr(consumer_streams, "Review", None)
    routes = GroupConsumers.as_routes(
        group_name="news", authentication_classes=[], permission_classes=[AllowAny]
    )

    async def story():
        async with open_socket(routes) as socket:
            assert await socket.ask({"n": 1}) == {"n": 1}

    asyncio.run(story())


class Members(NoReceiveMixin, GroupConsumers):
    group_name = "members"
    permission_classes = [IsAuthenticated]
    authentication_classes = [SessionAuthentication, TokenAuthentication]


@pytest.mark.django_db(transaction=True)
def test_who_is_signed_in_by_a_session_is_known_by_its_lease(
    settings, monkeypatch, django_user_model
):
    monkeypatch.setattr(consumer_streams, "Review", None)
    settings.REST_CHANNELS = {"LEASE_SECONDS": 60}
    ann = django_user_model.objects.create_user("ann")
    client = SocketClient(URLRouter(Members.as_routes()))
    client.force_login(ann)
    client.connect()
    Group("members").send("for you")
    assert client.receive() == "for you"
    ann.is_active = False
    ann.save()
    with pytest.raises(SocketClosed) as closed:
        client.receive()
    assert closed.value.code == 4401
    Group("members").send("not for you")
    client.close(4401)


@pytest.mark.django_db(transaction=True)
def test_a_session_whose_lease_is_over_is_asked_about(monkeypatch, django_user_model):
    asked = []
    review = consumer_streams.Review

    def asking(*args):
        asked.append(args)
        return review(*args)

    monkeypatch.setattr(consumer_streams, "Review", asking)
    with SocketClient(URLRouter(Members.as_routes())) as client:
        client.force_login(django_user_model.objects.create_user("ann"))
        client.connect()
        [queue] = [m for hub in local_hubs() for m in hub._members.values()]
        credentials = queue.handshake.credentials
        credentials._reading = credentials._reading._replace(as_of=float("-inf"))
        Group("members").send("for you")
        assert client.receive() == "for you"
    assert len(asked) == 1


@pytest.mark.django_db(transaction=True)
def test_a_session_answers_for_its_user_alone(django_user_model):
    allowed = [True]
    routes = News.as_routes(
        authentication_classes=[SessionAuthentication],
        permissions=[IsAuthenticated, lambda request, view: allowed[0]],
    )
    client = SocketClient(URLRouter(routes))
    client.force_login(django_user_model.objects.create_user("ann"))
    client.connect()
    allowed[0] = False
    Group("news").send("not for you")
    assert client.receive()["action"] == "revoke"
    client.close(4403)


@pytest.mark.parametrize("has_session", [False, True])
@pytest.mark.django_db(transaction=True)
def test_a_token_that_is_revoked_is_found_out(has_session, django_user_model):
    ann = django_user_model.objects.create_user("ann")
    token = Token.objects.create(user=ann)
    headers = {"authorization": f"Token {token.key}"}
    classes = [TokenAuthentication, SessionAuthentication]
    routes = Members.as_routes(authentication_classes=classes)
    client = SocketClient(URLRouter(routes), headers=headers)
    if has_session:
        client.force_login(ann)
    client.connect()
    token.delete()
    Group("members").send("not for you")
    with pytest.raises(SocketClosed):
        assert client.receive()["action"] == "revoke"
        client.receive()
    client.close()


@pytest.mark.usefixtures("always")
def test_check_hearing_is_a_hook():
    allowed = [True]

    class Picky(WebsocketConsumers):
        authentication_classes = []

        def on_connect(self, message, **kwargs):
            self.join_group("picked")

        def check_hearing(self):
            if not allowed[0]:
                raise PermissionDenied

    async def story():
        async with open_socket(Picky.as_routes()) as socket:
            Group("picked").send(1)
            assert await socket.receive_message() == 1
            allowed[0] = False
            Group("picked").send(2)
            assert await socket.closed_with() == 4403

    asyncio.run(story())


# Who is gone


def test_who_joins_while_the_server_gives_up_the_socket_is_in_no_room():
    entered, may_enter = threading.Event(), threading.Event()
    served = threading.Event()

    class Late(Chat):
        def get_room(self, name):
            entered.set()
            assert may_enter.wait(20)
            return name

        def on_receive(self, message, **kwargs):
            try:
                super().on_receive(message, **kwargs)
            finally:
                served.set()

    async def story():
        communicator = WebsocketCommunicator(URLRouter(Late.as_routes(history=0)), "/ann")
        assert (await communicator.connect())[0]
        await communicator.send_to(text_data='{"action": "join", "room": "attic"}')
        await happened(entered)
        communicator.stop(exceptions=False)
        await asyncio.wait([communicator.future], timeout=10)
        may_enter.set()
        await happened(served)
        hub = running_hub()
        await until(lambda: not (hub.presence._crowds or hub._groups or hub._members))

    asyncio.run(story())
