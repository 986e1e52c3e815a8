"""The examples of docs/consumers.md do what the page says."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from channels.layers import InMemoryChannelLayer
from channels.routing import URLRouter
from django.contrib.auth.models import User
from rest_framework.permissions import IsAuthenticated

from rest_channels.consumers import Group
from rest_channels.test import SocketClient, SocketClosed
from tests.models import Room
from tests.support.consumer_talk import open_socket
from tests.support.distribution import ROOT
from tests.support.internal_channels import a_layer, tells, told
from tests.support.subscription_stories import written
from tests.support.walkthrough import blocks

PAGE = ROOT / "docs" / "consumers.md"


@pytest.fixture(autouse=True)
def chat_app(monkeypatch):
    """The app of the page's project: it has rooms by their names, as ours has."""
    models = ModuleType("chat.models")
    models.Room = Room
    monkeypatch.setitem(sys.modules, "chat", ModuleType("chat"))
    monkeypatch.setitem(sys.modules, "chat.models", models)


def example(marker):
    """Return the names that the one block of Python with `marker` in it defines."""
    [code] = [b.text for b in blocks(PAGE) if b.language == "python" and marker in b.text]
    defined = {"__name__": "page"}
    exec(compile(code, PAGE.name, "exec"), defined)
    return defined


def ask(client, content):
    client.send_text(json.dumps(content))
    return client.receive()


def test_every_example_is_told_here():
    code = [b.text for b in blocks(PAGE) if b.language == "python"]
    here = Path(__file__).read_text()
    markers = re.findall(r"example\(\s*[\"'](.+?)[\"']\s*\)", here)
    assert [text for text in code if not any(marker in text for marker in markers)] == []


# Channels


def test_pages():
    routes = example("class Pages")["routes"]
    assert told(*routes, channel="private", content={"page": "5"}) == [{"seen": "private5"}]
    assert told(*routes, channel="pages", content={"page": "5"}) == [{"seen": "new5"}]


def test_articles():
    routes = example("class Articles")["routes"]
    table = [
        ("private", "info", "Info"), ("private", "about", "About"),
        ("default", "info", "Info"), ("default", "about", "About"), ("about", "x", "About"),
    ]  # fmt: skip
    for channel, page, title in table:
        said = {"title": title, "text": f"{title} content from {channel}"}
        assert told(*routes, channel=channel, content={"page": page}) == [said]


@pytest.mark.parametrize(
    ("channel", "gate", "text"), [("example", "g-5", "5"), ("other", "g-1", "no")]
)
def test_gates(channel, gate, text):
    routes = example("class Gates")["routes"]

    async def story():
        # The gate is the channel that is sent to.
        await tells(*routes, channel=channel, content={"gate": gate})

    sent = []
    layer_send = InMemoryChannelLayer.send

    async def send(self, name, message):
        sent.append((name, message.get("content")))
        await layer_send(self, name, message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InMemoryChannelLayer, "send", send)
        asyncio.run(story())
    assert sent == [(gate, f'{{"text":"{text}"}}')]


def test_mail():
    defined = example("class Mail")
    for channel in ("mail", "mail-later"):
        routes = (defined["Mail"].as_routes(), defined["Mail"].as_routes(channel_name="mail-later"))
        assert told(*routes, channel=channel, content={"to": "ann"}) == [{"sent": "ann"}]
    assert defined["channels"].mapping.keys() == {"mail", "mail-later"}
    assert defined["application"].application_mapping.keys() == {"channel"}


# Sockets


@pytest.mark.django_db
def test_greeter():
    defined = example("class Greeter")
    for application, path, hello in (
        (defined["sockets"], "/greet/attic", "Hello"),
        (defined["sockets"], "/gruss", "Hallo"),
        (defined["router"].as_asgi(), "/greeter/", "Hello"),
    ):
        with SocketClient(application, path) as client:
            client.connect()
            assert client.receive() == {"text": "Who are you?"}
            assert ask(client, {"command": "greet", "name": "ann"}) == {"text": f"{hello}, ann"}
            refused = ask(client, {"command": "greet", "name": "nobody"})
            assert refused["errors"] == ["That is nobody's name."]
    with pytest.raises(SocketClosed):
        SocketClient(defined["sockets"], "/greet/", headers={"origin": "https://x"}).connect()


@pytest.mark.django_db(transaction=True)
def test_reports():
    defined = example("class Reports")

    async def story():
        async with open_socket(defined["routes"], "/reports") as socket:
            await socket.give({"report": "sales"})
            message = await layer.receive("reports")
            await defined["channels"].mapping["reports"].serve(message)
            assert await socket.receive_message() == {"report": "sales", "channel": "reports"}

    with a_layer() as layer:
        asyncio.run(story())


@pytest.mark.django_db(transaction=True)
def test_the_groups():
    routes = example("/lobby")["routes"]

    async def story():
        async with open_socket(routes, "/rooms/5") as one, open_socket(routes, "/lobby") as other:
            Group("room_5").send("to the room")
            Group("lobby").send("to the lobby")
            assert await one.receive_message() == "to the room"
            assert await other.receive_message() == "to the lobby"
            assert await one.ask({"n": 1}) == {"n": 1}

    asyncio.run(story())


@pytest.mark.django_db(transaction=True)
def test_the_anonymous_chat():
    routes = example("class AnonymousChat")["routes"]

    async def story():
        async with open_socket(routes, "/a") as ann, open_socket(routes, "/myroom") as eve:
            hello = {"command": "send", "text": "Hello"}
            assert await ann.ask(hello) == hello
            await ann.give({"command": "join_user", "user": "ann"})
            psst = {"command": "send_to_user", "user": "ann", "text": "psst"}
            assert await ann.ask(psst) == psst
            # An event about any of this would come first.
            assert await eve.ask({**hello, "text": "me"}) == {**hello, "text": "me"}

    asyncio.run(story())


@pytest.mark.django_db(transaction=True)
def test_the_chat_and_its_permissions():
    routes = example("class Chat")["routes"]
    Room.objects.create(name="attic")
    ann = User.objects.create_user("ann")
    join = {"action": "join", "room": "attic", "request_id": 1}
    with SocketClient(URLRouter(routes), "/chat") as client:
        client.force_login(ann)
        joined = ask(client, join)
        assert joined["data"] == {"room": "attic", "users": [{"id": str(ann.pk), "name": "ann"}]}
        assert ask(client, {**join, "room": "nowhere"})["response_status"] == 404
    with SocketClient(URLRouter(routes), "/chat") as client:
        assert ask(client, join)["response_status"] == 403


@pytest.mark.django_db(transaction=True)
def test_the_history():
    routes = example("history=50")["routes"]
    with SocketClient(URLRouter(routes), "/chat") as client:
        joined = ask(client, {"action": "join", "room": "attic", "request_id": 1})
        shown = {"room", "users", "messages", "position", "resumed"}
        assert joined["data"].keys() == shown
        client.send_text(json.dumps({"action": "send", "room": "attic", "data": "Hello"}))
        got = {reply["action"]: reply["data"] for reply in (client.receive(), client.receive())}
        assert got["message"].keys() == {"id", "sent_at", "room", "user", "data"}
        again = ask(
            client, {"action": "join", "room": "attic", "since": joined["data"]["position"]}
        )
        assert [m["data"] for m in again["data"]["messages"]] == ["Hello"]
        assert again["data"]["resumed"] is True


# Models


@pytest.mark.django_db
def test_the_models():
    routes = example("import CRUDConsumers, ListConsumers")["routes"]
    attic, _ = (Room.objects.create(name=name) for name in ("attic", "cellar"))
    application = URLRouter(routes)
    with SocketClient(application, "/rooms") as client:
        page = client.request("list", page="last").data
        assert [room["name"] for room in page["results"]] == ["attic", "cellar"]
        assert client.create(data={"name": "hall"}).status_code == 201
    with SocketClient(application, "/names") as client:
        assert {"name": "hall"} in client.list().data
    with SocketClient(application, "/rooms/attic") as client:
        assert client.retrieve().data["id"] == attic.pk


@pytest.mark.django_db(transaction=True)
def test_changes_of_rows():
    routes = example("import ModelSubscribeConsumers, ObjectSubscribeConsumers")["routes"]

    async def story():
        john = await written(User.objects.create, username="jon", pk=7)
        async with (
            open_socket(routes, "/users/7/") as one,
            open_socket(routes, "/users/") as all_of_them,
        ):
            for name, value, data in (
                ("username", "john", {"username": "john"}),
                ("is_active", False, {"is_active": False}),
                ("first_name", "J", None),
            ):
                setattr(john, name, value)
                await written(john.save, update_fields=[name])
                for socket in (one, all_of_them) if data else ():
                    told = {"action": "updated", "data": data}
                    assert await socket.receive_message() == told
            asked = await one.ask({"action": "subscribe_instance", "request_id": 1})
            assert (asked["response_status"], asked["request_id"]) == (201, 1)
            await written(john.delete)
            told = await one.receive_message()
            assert (told["action"], told["data"]) == ("deleted", {"pk": 7})
            assert {"position", "previous"} <= told.keys()
            await written(User.objects.create, username="boss", is_staff=True)
            told = [await all_of_them.receive_message()]
            await written(User.objects.create, username="jane")
            told.append(await all_of_them.receive_message())
            # No event is about staff.
            assert told == [
                {"action": "deleted", "data": {"pk": 7}},
                {"action": "created", "data": {"username": "jane", "is_active": True}},
            ]

    asyncio.run(story())


# Mixins


@pytest.mark.django_db(transaction=True)
def test_the_mixins():
    defined = example("class Visits")
    ann = User.objects.create_user("ann")
    application = URLRouter(defined["Visits"].as_routes())
    with SocketClient(application) as client:
        client.force_login(ann)
        for count in (1, 2):
            assert ask(client, {"command": "count"}) == {"user": "ann", "count": count}
    with SocketClient(application) as stranger, pytest.raises(SocketClosed):
        stranger.receive()
    with SocketClient(URLRouter(defined["News"].as_routes())) as client:
        assert ask(client, {"text": "mine"})["response_status"] == 405
        Group("news").send("theirs")
        assert client.receive() == "theirs"


@pytest.mark.django_db(transaction=True)
def test_a_named_set_of_permissions(settings):
    settings.REST_CHANNELS = {"PERMISSIONS": {"private": [IsAuthenticated]}}
    visits = example("class Visits")["Visits"]
    # Beside what the class itself asks.
    application = URLRouter(visits.as_routes(path="new", perms="private", permissions=[]))
    with SocketClient(application, "/new") as stranger, pytest.raises(SocketClosed):
        stranger.receive()
