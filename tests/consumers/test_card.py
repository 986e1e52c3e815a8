"""
The statements and examples that the class-based consumers began from, one after the other, in the
form that they have with today's Channels. docs/consumers.md says what differs, and why.
"""

from __future__ import annotations

import asyncio

import pytest
from channels.routing import URLRouter
from rest_framework.permissions import IsAuthenticated

from rest_channels import consumers as module
from rest_channels.consumers import (
    Channel,
    CRUDConsumers,
    Group,
    GroupConsumers,
    PermissionMixin,
    WebsocketConsumers,
    consumer,
)
from rest_channels.consumers import Consumers as BaseConsumers
from rest_channels.routers import ChannelRouter
from rest_channels.test import SocketClient, SocketClosed
from tests.support.consumer_talk import open_socket
from tests.support.internal_channels import a_layer, told

# Goals


@pytest.mark.django_db
def test_you_can_create_new_consumers_like_this(settings, django_user_model):
    """ChatConsumers.as_routes(path='new', perms='private')"""
    settings.REST_CHANNELS = {"PERMISSIONS": {"private": [IsAuthenticated]}}

    class ChatConsumers(PermissionMixin, GroupConsumers):
        group_name = "chat"

    application = URLRouter(ChatConsumers.as_routes(path="new", perms="private"))
    with SocketClient(application, "/new") as stranger, pytest.raises(SocketClosed):
        stranger.receive()
    with SocketClient(application, "/new") as client:
        client.force_login(django_user_model.objects.create_user("ann"))
        client.send_text('{"text": "Hello"}')
        assert client.receive() == {"text": "Hello"}


@pytest.mark.parametrize(
    "name",
    ["GroupConsumers", "CRUDConsumers", "ListConsumers", "SessionMixin", "PermissionMixin",
     "UserMixin"],
)  # fmt: skip
def test_the_module_contains_useful_groups_of_consumers_and_mixins(name):
    assert name in module.__all__


# Base


class MyConsumers(BaseConsumers):
    channel_name = "default"
    prefix = "new"

    @consumer(page=r"(?P<page>\d+)")
    def handle_stats(self, message, page):
        # PageView.objects.create(page=...), there.
        self.reply(self.prefix + page)


def test_use_consumers_at_routes_by_calling_as_routes_with_keywords_of_the_instance():
    routes = [
        MyConsumers.as_routes(channel_name="private", prefix="private"),
        MyConsumers.as_routes(),
    ]
    assert told(*routes, channel="private", content={"page": "5"}) == ["private5"]
    assert told(*routes, channel="default", content={"page": "5"}) == ["new5"]


@pytest.mark.parametrize(
    "name",
    ["channel_name", "decorators", "at_exception", "as_routes", "get_channels_name",
     "get_decorators", "reply"],
)  # fmt: skip
def test_consumers_have_these_properties_and_methods(name):
    assert hasattr(BaseConsumers, name)


# Channels' names


class Pages(BaseConsumers):
    channel_name = "default"

    @consumer(page="info")
    def info(self, message):
        text = "Info content from " + message.channel.name
        self.reply({"title": "Info", "text": text})

    @consumer(page="about")
    def about(self, message):
        text = "About content from " + message.channel.name
        self.reply({"title": "About", "text": text})

    @consumer(channel_name="about")
    def about_new(self, message):
        text = "About content from " + message.channel.name
        self.reply({"title": "About", "text": text})


@pytest.mark.parametrize(
    ("channel", "content", "title"),
    [
        ("private", {"page": "info"}, "Info"),
        ("private", {"page": "about"}, "About"),
        ("about", {}, "About"),
        ("default", {"page": "info"}, "Info"),
        ("default", {"page": "about"}, "About"),
    ],
)
def test_this_example_creates_these_routes(channel, content, title):
    routes = [Pages.as_routes(channel_name="private"), Pages.as_routes()]
    assert told(*routes, channel=channel, content=content) == [
        {"title": title, "text": f"{title} content from {channel}"}
    ]


def test_of_two_routes_for_a_channel_without_filters_only_the_first_works():
    answered = []

    class Noting(Pages):
        note = "second"

        @consumer(channel_name="about")
        def about_new(self, message):
            answered.append(self.note)

    told(Noting.as_routes(note="first"), Noting.as_routes(), channel="about", content={})
    assert answered == ["first"]


# Filters


class Notifying(BaseConsumers):
    channel_name = "example"
    gate = r"g-(?P<gate>\w+)"

    @classmethod
    def get_gate(cls, **kwargs):
        return kwargs.get("gate", cls.gate)

    @property
    def message_text(self):
        return self.kwargs.get("gate", "no")

    @consumer(gate=get_gate)
    def notify(self, message, **kwargs):
        Channel(message.content["gate"]).send({"text": self.message_text})


@pytest.mark.parametrize(
    ("keywords", "gate", "text"),
    [({}, "g-5", '{"text":"5"}'), ({"gate": "x"}, "x", '{"text":"no"}')],
)
def test_captured_keywords_are_stored_in_kwargs(keywords, gate, text):
    with a_layer() as layer:
        application = ChannelRouter(Notifying.as_routes(**keywords)).mapping["example"]

        async def story():
            await Channel("example").asend({"gate": gate})
            await application.serve(await layer.receive("example"))
            assert (await layer.receive(gate))["content"] == text

        asyncio.run(story())


# WebsocketConsumers


class AnonymousChat(WebsocketConsumers):
    channel_name = "anonymous"
    authentication_classes = []

    def on_connect(self, message, **kwargs):
        Group(self.get_channels_name()).add(self.reply_channel)

    def on_disconnect(self, message, **kwargs):
        Group(self.get_channels_name()).discard(self.reply_channel)

    @consumer(command="send")
    def at_send(self, message, name=None):
        Group(self.get_channels_name()).send(message.content)

    @consumer(command="send_to_user", user=r"(?P<name>\w+)")
    def at_send_to_user(self, message, name=None):
        Group(name + self.get_channels_name()).send(message.content)

    @consumer(command="join_user", user=r"(?P<name>\w+)")
    def at_join_to_user(self, message, name):
        Group(name + self.get_channels_name()).add(self.reply_channel)
        self.reply("joined")


ROUTES = [
    *AnonymousChat.as_routes(path="/a"),
    *AnonymousChat.as_routes(path="/myroom", channel_name="myanonymous"),
]


def test_the_anonymous_chat():
    async def story():
        async with (
            open_socket(ROUTES, "/a") as ann,
            open_socket(ROUTES, "/a") as bob,
            open_socket(ROUTES, "/myroom") as eve,
        ):
            hello = {"command": "send", "text": "Hello"}
            await ann.give(hello)
            assert await ann.receive_message() == await bob.receive_message() == hello
            assert await bob.ask({"command": "join_user", "user": "bob"}) == "joined"
            psst = {"command": "send_to_user", "user": "bob", "text": "psst"}
            await ann.give(psst)
            assert await bob.receive_message() == psst
            assert await eve.ask(hello) == hello
            # Had they received anything else, it would come before this.
            assert await ann.ask(hello) == hello

    with a_layer():
        asyncio.run(story())


def test_all_received_messages_may_be_transmitted_to_the_internal_channel():
    routes = AnonymousChat.as_routes(path="/a", internal=True)
    [worker] = ChannelRouter(routes).mapping.values()

    async def story():
        async with open_socket(routes, "/a") as ann, open_socket(routes, "/a") as bob:
            await ann.give({"command": "send", "text": "Hello"})
            await worker.serve(await layer.receive("anonymous"))
            for socket in (ann, bob):
                assert (await socket.receive_message())["text"] == "Hello"
            await bob.give({"command": "join_user", "user": "bob"})
            await worker.serve(await layer.receive("anonymous"))
            assert await bob.receive_message() == "joined"

    with a_layer() as layer:
        asyncio.run(story())


# GroupConsumers


def test_a_group_name_is_formatted_with_the_keywords_of_the_filters():
    """GroupConsumers(path='(?P<room>\\w+)', group_name='room_{room}')"""
    routes = GroupConsumers.as_routes(
        path=r"(?P<room>\w+)", group_name="room_{room}", authentication_classes=[]
    )

    async def story():
        async with open_socket(routes, "/5") as socket:
            Group("room_5").send("Hello")
            assert await socket.receive_message() == "Hello"

    asyncio.run(story())


def test_without_a_group_name_the_channel_name_is_used():
    routes = GroupConsumers.as_routes(channel_name="lobby", authentication_classes=[])

    async def story():
        async with open_socket(routes) as socket:
            Group("lobby").send("Hello")
            assert await socket.receive_message() == "Hello"

    asyncio.run(story())


# CRUDConsumers


@pytest.mark.django_db
def test_it_is_like_a_model_viewset(django_user_model):
    """CRUDConsumers(path='/users', queryset=User.objects.filter(active=True), paginate_by=10)"""
    for number in range(12):
        django_user_model.objects.create_user(f"user{number}", is_active=number != 3)
    routes = CRUDConsumers.as_routes(
        path="/users",
        queryset=django_user_model.objects.filter(is_active=True).order_by("pk"),
        paginate_by=10,
        serializer_kwargs={"fields": ["username"]},
    )
    with SocketClient(URLRouter(routes), "/users") as client:
        page = client.list().data
        assert (page["count"], len(page["results"])) == (11, 10)
        assert client.list(page="last").data["results"] == [{"username": "user11"}]
        assert client.create(data={"username": "john"}).status_code == 201
