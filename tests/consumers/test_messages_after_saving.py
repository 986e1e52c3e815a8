"""Messages of consumers are sent after the sessions that they changed are saved."""

from __future__ import annotations

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY, login
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import connections

from rest_channels.consumers import SessionMixin, WebsocketConsumers, consumer
from rest_channels.consumers.groups.layers import message, to_json
from rest_channels.routers import ChannelRouter
from tests.support.consumer_talk import open_socket
from tests.support.internal_channels import a_layer

pytestmark = pytest.mark.django_db(transaction=True)

TALKS = ["says", "says_async", "closes"]


class Waiting(SessionMixin, WebsocketConsumers):
    """Says something, and goes on: what comes after its reply must not be what saves."""

    may_end = threading.Event()
    patience_s = 10.0

    def change(self, which):
        session = self.session if which == "own" else self.http_session
        session["visits"] = session.get("visits", 0) + 1

    @consumer(kind="says")
    def says(self, message):
        self.change(message.content["session"])
        self.reply("changed")
        self.may_end.wait(self.patience_s)

    @consumer(kind="says_async")
    async def says_async(self, message):
        await self.session.aget("visits")
        await self.request._request.session.aget("visits")
        self.change(message.content["session"])
        self.reply("changed")
        await asyncio.to_thread(self.may_end.wait, 10)

    @consumer(kind="closes")
    def closes(self, message):
        self.change(message.content["session"])
        self.close(4000)
        self.may_end.wait(10)


def visits():
    """Return the value that another connection sees."""
    return [session.get_decoded().get("visits") for session in Session.objects.all()]


async def heard(socket):
    said = await socket.output()
    return said.get("text") or said["code"]


def cookie_of(store):
    return {"cookie": f"{settings.SESSION_COOKIE_NAME}={store.session_key}"}


@pytest.fixture
def store():
    store = SessionStore()
    store["basket"] = []
    store.save()
    return store


@pytest.mark.parametrize("session", ["http", "own"])
@pytest.mark.parametrize("kind", TALKS)
def test_a_client_finds_saved_what_it_is_told_of(kind, session, store):
    may_end = threading.Event()

    async def story():
        async with open_socket(
            Waiting.as_routes(may_end=may_end), headers=cookie_of(store)
        ) as socket:
            await socket.give({"kind": kind, "session": session})
            assert await heard(socket) in ('"changed"', 4000)
            saved = await sync_to_async(visits)()
            may_end.set()
            return saved

    assert 1 in asyncio.run(story())


class Twice(SessionMixin, WebsocketConsumers):
    @consumer
    def changes(self, message):
        for number in (1, 2):
            self.http_session["visits"] = self.session["visits"] = number
            self.reply(number)
        self.http_session["visits"] = self.session["visits"] = 3


def test_what_is_changed_after_a_reply_is_saved_as_well(store):
    async def story():
        async with open_socket(Twice.as_routes(), headers=cookie_of(store)) as socket:
            assert [await socket.ask({}), await socket.receive_message()] == [1, 2]
            # In its turn, when the first has been served.
            assert await socket.ask({}) == 1
            return None

    asyncio.run(story())
    store = SessionStore(store.session_key)
    assert store["visits"] == 3


class Door(WebsocketConsumers):
    user = None
    may_end = threading.Event()

    @consumer(kind="enter")
    def enter(self, message):
        login(self.request._request, self.user, "django.contrib.auth.backends.ModelBackend")
        self.reply(self.request._request.session.session_key)
        self.may_end.wait(10)

    @consumer(kind="who")
    def who(self, message):
        self.reply(self.request.user.get_username())


def test_who_signs_in_is_signed_in_for_the_page_that_hears_of_it(store, django_user_model):
    ann = django_user_model.objects.create_user("ann")
    may_end = threading.Event()

    async def story():
        routes = Door.as_routes(user=ann, may_end=may_end)
        async with open_socket(routes, headers=cookie_of(store)) as socket:
            key = await socket.ask({"kind": "enter"})
            user_of_session = await SessionStore(key).aget(SESSION_KEY)
            may_end.set()
            return user_of_session, await socket.ask({"kind": "who"})

    assert asyncio.run(story()) == (str(ann.pk), "ann")


def test_under_atomic_requests_the_reply_comes_with_the_commit(store, monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)

    async def story():
        # Said long before the commit, nobody would find it saved.
        routes = Waiting.as_routes(patience_s=0.3)
        async with open_socket(routes, headers=cookie_of(store)) as socket:
            await socket.give({"kind": "says", "session": "http"})
            await socket.receive_message()
            return await sync_to_async(visits)()

    assert 1 in asyncio.run(story())


def test_a_session_that_cannot_be_saved_is_told_of_by_nobody(store):
    may_end = threading.Event()
    may_end.set()

    async def story(kind):
        routes = Waiting.as_routes(may_end=may_end)
        async with open_socket(routes, headers=cookie_of(store)) as socket:
            await socket.ask({"kind": "unknown"})
            await sync_to_async(Session.objects.all().delete)()
            return await socket.ask({"kind": kind, "session": "http"})

    original = SessionStore.save
    try:
        SessionStore.save = _fails
        replies = [asyncio.run(story(kind)) for kind in ("says", "says_async")]
    finally:
        SessionStore.save = original
    assert [reply["response_status"] for reply in replies] == [500, 500]


def _fails(self, must_create=False):
    raise ValueError("the store is full")


@pytest.mark.parametrize("kind", ["says", "says_async"])
def test_at_a_worker_the_sockets_session_is_saved_before_its_replies(kind):
    may_end = threading.Event()

    class Worker(SessionMixin, WebsocketConsumers):
        @consumer(kind="says")
        def says(self, message):
            self.session["visits"] = 1
            self.reply("changed")
            may_end.wait(10)

        @consumer(kind="says_async")
        async def says_async(self, message):
            await self.session.aget("visits")
            self.session["visits"] = 1
            self.reply("changed")
            await asyncio.to_thread(may_end.wait, 10)

    [worker] = ChannelRouter(Worker.as_routes(channel_name="w", internal=True)).mapping.values()

    async def work():
        sent = message(to_json({"kind": kind}), {}, "asker#1")
        origin = json_origin("s" * 32)
        serving = asyncio.ensure_future(worker.serve({**sent, "origin": origin}))
        await layer.receive("asker")
        saved = await sync_to_async(visits)()
        may_end.set()
        await serving
        return saved

    with a_layer() as layer:
        assert asyncio.run(work()) == [1]


def json_origin(key):
    return to_json({"session": key})
