"""Users, sessions and permissions of class-based consumers."""

from __future__ import annotations

import asyncio
import json

import pytest
from channels.routing import URLRouter
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.permissions import BasePermission, IsAuthenticated, IsAuthenticatedOrReadOnly

from rest_channels.consumers import (
    Group,
    GroupConsumers,
    NoReceiveMixin,
    PermissionMixin,
    SessionMixin,
    UserMixin,
    WebsocketConsumers,
    consumer,
)
from rest_channels.consumers.groups.layers import message, to_json
from rest_channels.routers import ChannelRouter
from rest_channels.test import SocketClient, SocketClosed
from tests.support.consumer_talk import open_socket
from tests.support.internal_channels import a_layer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ann(django_user_model):
    return django_user_model.objects.create_user("ann", password="tea")


class Who(UserMixin, WebsocketConsumers):
    left: list = []

    @consumer(kind="sync")
    def who(self, message):
        self.reply(self.user.username)

    @consumer(kind="async")
    async def who_async(self, message):
        self.reply(self.user.username)

    def on_disconnect(self, message, **kwargs):
        self.left.append(self.user.username)


def ask(client, content):
    client.send_text(json.dumps(content))
    return client.receive()


def client_of(routes, user=None, **options):
    client = SocketClient(URLRouter(routes), **options)
    if user is not None:
        client.force_login(user)
    return client


# UserMixin


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_user_is_the_sessions_and_known_to_the_end(ann, kind):
    left = []
    with client_of(Who.as_routes(left=left), ann) as client:
        assert ask(client, {"kind": kind}) == "ann"
    with client_of(Who.as_routes(left=left)) as client:
        assert ask(client, {"kind": kind}) == ""
    assert left == ["ann", ""]


def test_the_user_is_whom_the_token_names_and_its_end_is_the_sockets(ann, settings):
    settings.REST_CHANNELS = {"LEASE_SECONDS": 0.1}
    routes = Who.as_routes(authentication_classes=[TokenAuthentication])
    token = Token.objects.create(user=ann).key
    headers = {"authorization": f"Token {token}"}
    with client_of(routes, headers=headers) as client:
        assert ask(client, {"kind": "sync"}) == "ann"
        ann.is_active = False
        ann.save()
        with pytest.raises(SocketClosed) as closed:
            client.receive()
    assert closed.value.code == 4401
    with client_of(routes, headers=headers) as stranger, pytest.raises(SocketClosed):
        stranger.receive()


def test_authenticate_replaces_the_credentials(ann):
    routes = Who.as_routes(authentication_classes=[TokenAuthentication])
    authorization = f"Token {Token.objects.create(user=ann).key}"
    with client_of(routes) as client:
        assert ask(client, {"kind": "sync"}) == ""
        shown = {"action": "authenticate", "data": {"authorization": authorization}}
        assert ask(client, shown)["response_status"] == 200
        assert ask(client, {"kind": "sync"}) == "ann"


def forwarded(routes, ann, content):
    """Return the reply of a worker to a message that a socket of `ann` forwards to it."""
    [worker] = ChannelRouter(routes).mapping.values()

    async def work():
        await worker.serve(await layer.receive(routes.channels[0]))

    with a_layer() as layer, client_of(routes, ann) as client:
        client.send_text(json.dumps(content))
        # The layer has a channel of the hub as well.
        while routes.channels[0] not in layer.channels:
            with pytest.raises(TimeoutError):
                client.receive(timeout=0.05)
        asyncio.run(work())
        return client.receive()


def test_at_a_worker_the_user_is_the_one_who_sent_the_message(ann):
    routes = Who.as_routes(channel_name="who", internal=True)
    assert forwarded(routes, ann, {"kind": "sync"}) == "ann"


def test_at_a_worker_a_user_who_is_no_longer_active_is_anonymous(ann):
    routes = Who.as_routes(channel_name="who", internal=True)
    [worker] = ChannelRouter(routes).mapping.values()
    ann.is_active = False
    ann.save()

    async def work():
        sent = message(to_json({"kind": "sync"}), {}, "asker#1")
        await worker.serve({**sent, "origin": json.dumps({"user": ann.pk})})
        return (await layer.receive("asker"))["text"]

    with a_layer() as layer:
        assert asyncio.run(work()) == '""'


# SessionMixin


class Counting(SessionMixin, WebsocketConsumers):
    @consumer(kind="sync")
    def counts(self, message):
        self.session["count"] = self.session.get("count", 0) + 1
        self.reply(self.session["count"])

    @consumer(kind="async")
    async def counts_async(self, message):
        self.session["count"] = (await self.session.aget("count", 0)) + 1
        self.reply(self.session["count"])

    @consumer(kind="http")
    def visits(self, message):
        self.http_session["visits"] = self.http_session.get("visits", 0) + 1
        self.reply(self.http_session["visits"])


def test_a_sockets_session_is_its_own_is_saved_and_ends_with_it(ann):
    routes = Counting.as_routes()
    before = Session.objects.count()
    with client_of(routes) as one, client_of(routes) as other:
        assert [ask(one, {"kind": kind}) for kind in ("sync", "async", "sync")] == [1, 2, 3]
        assert ask(other, {"kind": "sync"}) == 1
        assert Session.objects.count() == before + 2
    assert Session.objects.count() == before


def test_who_knows_a_sockets_address_has_not_its_session(ann):
    keys = []

    class Addressed(SessionMixin, WebsocketConsumers):
        @consumer
        def told(self, message):
            self.session["secret"] = True
            keys.append(self._outlet.session_key)
            self.reply(self.reply_channel.name)

    with a_layer(), client_of(Addressed.as_routes()) as client:
        address = ask(client, {})
        stored = [session.session_key for session in Session.objects.all()]
        assert keys == stored
        assert stored[0] not in address


def test_the_http_session_is_that_of_the_cookie_and_is_saved(ann):
    client = client_of(Counting.as_routes(), ann)
    assert [ask(client, {"kind": "http"}) for _ in range(2)] == [1, 2]
    client.close()
    again = SocketClient(client.application)
    again._http = client._http
    assert ask(again, {"kind": "http"}) == 3
    again.close()


def test_at_a_worker_the_sockets_session_is_the_same(ann):
    routes = Counting.as_routes(channel_name="counting", internal=True)
    assert forwarded(routes, ann, {"kind": "sync"}) == 1
    [worker] = ChannelRouter(routes).mapping.values()

    async def work():
        sent = message(to_json({"kind": "sync"}), {}, "asker#1")
        for _ in range(2):
            await worker.serve({**sent, "origin": json.dumps({"session": "s" * 32})})
        return [(await layer.receive("asker"))["text"] for _ in range(2)]

    with a_layer() as layer:
        assert asyncio.run(work()) == ["1", "2"]


def test_at_a_worker_there_is_no_http_session(ann):
    routes = Counting.as_routes(channel_name="counting", internal=True)
    assert forwarded(routes, ann, {"kind": "http"})["response_status"] == 500


# PermissionMixin


class Members(PermissionMixin, WebsocketConsumers):
    word = "tea"

    @consumer
    def taken(self, message):
        self.reply("taken")


def is_ann(request, view):
    return request.user.username == "ann"


class KnowsTheWord(BasePermission):
    def has_permission(self, request, view):
        return request.query_params.get("word") == view.consumers.word


@pytest.mark.parametrize(
    "permissions", [[is_ann], [IsAuthenticated], [IsAuthenticated & ~KnowsTheWord, is_ann]]
)
def test_permissions_are_callables_or_drfs_classes(permissions, ann):
    routes = Members.as_routes(permissions=permissions)
    with client_of(routes, ann) as client:
        assert ask(client, {}) == "taken"
    with client_of(routes) as stranger, pytest.raises(SocketClosed):
        stranger.receive()


def test_all_permissions_have_to_allow(ann):
    routes = Members.as_routes(permissions=[is_ann, lambda r, v: False])
    with client_of(routes, ann) as client, pytest.raises(SocketClosed):
        client.receive()


def test_a_permission_knows_the_class_and_its_keywords():
    routes = Members.as_routes(permissions=[KnowsTheWord], word="coffee")
    with client_of(routes, path="/?word=coffee") as client:
        assert ask(client, {}) == "taken"
    with client_of(routes, path="/?word=tea") as stranger, pytest.raises(SocketClosed):
        stranger.receive()


def test_a_permission_knows_what_the_path_captured():
    routes = Members.as_routes(
        path=r"/(?P<room>\w+)", permissions=[lambda request, view: view.kwargs["room"] == "open"]
    )
    with client_of(routes, path="/open") as client:
        assert ask(client, {}) == "taken"
    with client_of(routes, path="/closed") as stranger, pytest.raises(SocketClosed):
        stranger.receive()


def test_to_connect_is_to_read_and_to_send_to_write(ann):
    routes = Members.as_routes(permissions=[IsAuthenticatedOrReadOnly])
    with client_of(routes) as client:
        assert ask(client, {"request_id": 1})["response_status"] == 403
    with client_of(routes, ann) as client:
        assert ask(client, {}) == "taken"


def test_permissions_are_asked_with_each_message():
    allowed = [True]
    routes = Members.as_routes(permissions=[lambda request, view: allowed[0]])
    with client_of(routes) as client:
        assert ask(client, {}) == "taken"
        allowed[0] = False
        assert ask(client, {"request_id": 1})["response_status"] == 403


def test_perms_names_a_set_of_the_settings(ann, settings):
    settings.REST_CHANNELS = {
        "PERMISSIONS": {"private": ["rest_framework.permissions.IsAuthenticated", is_ann]}
    }
    routes = Members.as_routes(path="new", perms="private")
    with client_of(routes, ann, path="/new") as client:
        assert ask(client, {}) == "taken"
    with client_of(routes, path="/new") as stranger, pytest.raises(SocketClosed):
        stranger.receive()


def test_an_unknown_set_and_no_permission_are_refused_when_routes_are_made(settings):
    settings.REST_CHANNELS = {"PERMISSIONS": {"private": [], "staff": []}}
    with pytest.raises(ImproperlyConfigured, match="which has private, staff"):
        Members.as_routes(perms="secret")
    with pytest.raises(ImproperlyConfigured, match="must be a permission class or callable"):
        Members.as_routes(permissions=[True])


class AsyncCallable:
    async def __call__(self, request, view):
        return False


async def nobody(request, view):
    return False


@pytest.mark.parametrize("permission", [nobody, AsyncCallable()])
def test_a_permission_that_would_have_to_be_awaited_is_refused(permission):
    """A coroutine is true, and would let everybody in."""
    with pytest.raises(ImproperlyConfigured, match="must not be async"):
        Members.as_routes(permissions=[permission])


def test_the_permissions_of_the_settings_hold_besides(ann):
    routes = Members.as_routes(permission_classes=[IsAuthenticated], permissions=[is_ann])
    with client_of(routes) as stranger, pytest.raises(SocketClosed):
        stranger.receive()
    with client_of(routes, ann) as client:
        assert ask(client, {}) == "taken"


# NoReceiveMixin


def test_a_socket_that_only_listens_refuses_what_it_is_sent():
    class Listening(NoReceiveMixin, GroupConsumers):
        authentication_classes = []
        group_name = "news"

    async def story():
        async with open_socket(Listening.as_routes()) as socket:
            refused = await socket.ask({"text": "mine", "request_id": 1})
            assert (refused["response_status"], refused["request_id"]) == (405, 1)
            Group("news").send("theirs")
            assert await socket.receive_message() == "theirs"

    asyncio.run(story())
