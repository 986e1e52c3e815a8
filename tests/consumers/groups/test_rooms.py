"""Rooms: who is in them, who may be, and what they tell each other."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack

import pytest
from channels.routing import URLRouter
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import Http404
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from rest_channels.bus.messages import GroupUsers
from rest_channels.consumers import RoomConsumers, consumer
from rest_channels.consumers.groups.group_hub import running_hub
from rest_channels.test import SocketClient
from tests.consumers.test_websockets import all_is_quiet, unread
from tests.support.chat_rooms import Chat
from tests.support.consumer_talk import open_socket
from tests.support.server_processes import Server, answer
from tests.support.waiting import until

ROUTES = Chat.as_routes()


def joined(name, room="attic"):
    return presence_event("joined", name, room)


def presence_event(what, name, room="attic"):
    return ("presence", {"room": room, "event": what, "user": {"name": name}})


async def do(socket, action, room="attic", **keys):
    """Ask for `action`; returns the status and data of what comes next."""
    reply = await socket.ask({"action": action, "room": room, "request_id": action, **keys})
    assert (reply["action"], reply["request_id"]) == (action, action)
    return reply["response_status"], reply["data"]


async def event(socket):
    reply = await socket.receive_message()
    assert reply["request_id"] is None, reply
    return reply["action"], reply["data"]


def told_by(story):
    asyncio.run(story())


def test_join_send_presence_leave():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann, open_socket(ROUTES, "/bob") as bob:
            users = [{"name": "ann"}]
            assert await do(ann, "join") == (200, {"room": "attic", "users": users})
            users = [{"name": "ann"}, {"name": "bob"}]
            assert await do(bob, "join") == (200, {"room": "attic", "users": users})
            assert await event(ann) == joined("bob")
            await ann.give({"action": "send", "room": "attic", "data": ["Hi"]})
            message = {"room": "attic", "user": {"name": "ann"}, "data": ["Hi"]}
            assert await event(bob) == ("message", message)
            got = [await ann.receive_message() for _ in range(2)]
            assert {(m["action"], m["response_status"]) for m in got} == {
                ("message", 200), ("send", 201),
            }  # fmt: skip
            assert await do(bob, "presence") == (200, {"room": "attic", "users": users})
            assert await do(bob, "leave") == (204, None)
            assert await event(ann) == presence_event("left", "bob")
            assert await do(bob, "leave") == (204, None)

    told_by(story)


def test_a_user_of_two_sockets_joins_with_the_first_and_leaves_with_the_last():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            async with open_socket(ROUTES, "/bob") as one:
                await do(one, "join")
                assert await event(ann) == joined("bob")
                async with open_socket(ROUTES, "/bob") as other:
                    await do(other, "join")
                await all_is_quiet()
                assert ann.communicator.output_queue.empty()
            assert await event(ann) == presence_event("left", "bob")

    told_by(story)


def test_who_comes_back_within_the_grace_has_not_left():
    routes = Chat.as_routes(presence_grace=60)

    async def story():
        async with open_socket(routes, "/ann") as ann:
            await do(ann, "join")
            for _ in range(2):
                async with open_socket(routes, "/bob") as bob:
                    await do(bob, "join")
            assert await event(ann) == joined("bob")
            await all_is_quiet()
            assert ann.communicator.output_queue.empty()
            [crowd] = running_hub().presence._crowds.values()
            assert crowd.leaving.keys() == {"bob"}
            async with open_socket(routes, "/bob") as bob:
                await do(bob, "join")
                assert crowd.leaving == {}

    told_by(story)


def test_who_joins_meanwhile_knows_of_who_comes_back():
    routes = Chat.as_routes(presence_grace=60)

    async def story():
        async with open_socket(routes, "/ann") as ann:
            await do(ann, "join")
            async with open_socket(routes, "/bob") as bob:
                await do(bob, "join")
            users = [{"name": "ann"}, {"name": "bob"}, {"name": "eve"}]
            async with open_socket(routes, "/eve") as eve:
                assert (await do(eve, "join"))[1]["users"] == users
                async with open_socket(routes, "/bob") as bob:
                    await do(bob, "join")
                    # The only event about him was that he is there.
                    await all_is_quiet()
                    assert eve.communicator.output_queue.empty()
                    assert (await do(eve, "presence"))[1]["users"] == users

    told_by(story)


def test_several_rooms_a_socket_up_to_a_bound(settings):
    settings.REST_CHANNELS = {"MAX_SUBSCRIPTIONS": 2}

    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            for room in ("attic", "cellar", "attic"):
                assert (await do(ann, "join", room))[0] == 200
            assert (await do(ann, "join", "hall"))[0] == 503
            assert (await do(ann, "send", "hall", data=1))[0] == 403
            hub = running_hub()
            assert len(hub.presence._crowds) == len(hub._groups) == 2
        assert (hub.presence._crowds, hub._groups) == ({}, {})

    told_by(story)


@pytest.mark.parametrize("action", ["send", "presence", "typing"])
def test_only_members_have_a_say(action):
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            reply = await ann.ask({"action": action, "room": "attic", "data": 1})
            assert (reply["response_status"], reply["codes"]) == (403, ["not_joined"])

    told_by(story)


@pytest.mark.parametrize("room", [None, 5, "", "x" * 129, ["attic"], {}, True])
@pytest.mark.parametrize("action", ["join", "leave", "send", "presence", "typing"])
def test_a_room_is_named_by_text(action, room):
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            reply = await ann.ask({"action": action, "room": room, "data": 1})
            assert (reply["response_status"], reply["codes"]) == (400, ["required"])

    told_by(story)


@pytest.mark.parametrize(
    "history", [0, pytest.param(3, marks=pytest.mark.django_db(transaction=True))]
)
def test_a_room_may_have_any_name_and_is_no_other(history):
    names = [
        *("..", "../attic", "/", " ", "attic", "attic ", "Attic", "\u00e9", "e\u0301", "\0"),
        *("日本" * 64, "x" * 128, "{user}", "%s", "\U0001f600", "a room b", "type"),
    ]
    # Fewer with a history, because each takes a transaction.
    names = names[::4] if history else names
    routes = Chat.as_routes(history=history)

    async def story():
        async with open_socket(routes, "/ann") as ann, open_socket(routes, "/bob") as bob:
            for name in names:
                assert (await do(ann, "join", name))[1]["room"] == name
            assert len(running_hub()._groups) == len(names)
            for name in names:
                await do(bob, "join", name)
                assert await event(ann) == joined("bob", name)
                await ann.give({"action": "send", "room": name, "data": name})
                assert (await event(bob))[1]["data"] == name
                for _ in range(2):
                    await ann.receive_message()
                await do(bob, "leave", name)
                assert await event(ann) == presence_event("left", "bob", name)

    told_by(story)


def test_each_room_has_permissions_of_its_own():
    allowed = {"attic"}
    asked = []

    class Guarded(Chat):
        def get_room(self, name):
            if name == "nowhere":
                raise Http404
            return name.upper()

        def check_room_permission(self, room, action):
            asked.append((room, action))
            if room.lower() not in allowed:
                raise PermissionDenied

    routes = Guarded.as_routes()

    async def story():
        async with open_socket(routes, "/ann") as ann:
            assert (await do(ann, "join", "nowhere"))[0] == 404
            assert (await do(ann, "join", "cellar"))[0] == 403
            assert (await do(ann, "join"))[0] == 200
            allowed.clear()
            assert (await do(ann, "send", data=1))[0] == 403
            assert (await do(ann, "leave"))[0] == 204

    told_by(story)
    assert asked == [("CELLAR", "join"), ("ATTIC", "join"), ("ATTIC", "send")]


def test_what_is_sent_may_be_validated_and_refused():
    class Short(Chat):
        def get_message_data(self, room, data):
            if len(data) > 3:
                raise ValidationError({"data": ["Too long."]})
            return {"text": data, "room": room}

    routes = Short.as_routes()

    async def story():
        async with open_socket(routes, "/ann") as ann:
            await do(ann, "join")
            assert (await do(ann, "send", data="long"))[0] == 400
            reply = await ann.ask({"action": "send", "room": "attic"})
            assert (reply["response_status"], reply["codes"]) == (400, ["required"])
            await ann.give({"action": "send", "room": "attic", "data": "abc"})
            got = [await ann.receive_message() for _ in range(2)]
            [data] = [m["data"] for m in got if m["action"] == "message"]
            assert data == {"room": "attic", "user": {"name": "ann"}, "text": "abc"}

    told_by(story)


def test_two_classes_do_not_share_their_rooms():
    class Other(Chat):
        pass

    async def story():
        others = open_socket(Other.as_routes(), "/bob")
        async with open_socket(ROUTES, "/ann") as ann, others as bob:
            await do(ann, "join")
            assert (await do(bob, "join"))[1]["users"] == [{"name": "bob"}]

    told_by(story)


def test_handlers_of_a_subclass_are_asked_first():
    class More(Chat):
        @consumer(action="rename")
        def rename(self, message):
            self.reply("renamed")

    async def story():
        async with open_socket(More.as_routes(), "/ann") as ann:
            assert await ann.ask({"action": "rename"}) == "renamed"
            assert (await do(ann, "join"))[0] == 200

    told_by(story)


# What may be lost


def test_ephemeral_events_reach_members_and_are_answered_by_nothing():
    routes = Chat.as_routes(ephemeral=["typing", "pointing"])

    async def story():
        async with open_socket(routes, "/ann") as ann, open_socket(routes, "/bob") as bob:
            await do(ann, "join")
            await do(bob, "join")
            await event(ann)
            for action in ("typing", "pointing"):
                await ann.give({"action": action, "room": "attic", "data": {"x": 1}})
                data = {"room": "attic", "user": {"name": "ann"}, "data": {"x": 1}}
                assert await event(bob) == await event(ann) == (action, data)
            nobody = await ann.ask({"action": "dancing", "room": "attic"})
            assert nobody["response_status"] == 404

    told_by(story)


def test_without_ephemeral_actions_there_are_none():
    async def story():
        async with open_socket(Chat.as_routes(ephemeral=[]), "/ann") as ann:
            for action in ("typing", "x"):
                reply = await ann.ask({"action": action, "room": "attic"})
                assert reply["response_status"] == 404

    told_by(story)


def test_they_are_dropped_for_a_client_that_does_not_keep_up(settings):
    settings.REST_CHANNELS = {"MAX_QUEUE_BYTES": 2000, "FRAME_BURST": 500}
    routes = Slow.as_routes()

    async def story():
        given, sent, reads, serving = unread(routes)
        given.put_nowait({
            "type": "websocket.receive", "text": json.dumps({"action": "join", "room": "attic"}),
        })  # fmt: skip
        await until(lambda: running_hub().presence._crowds)
        async with open_socket(routes) as ann:
            await do(ann, "join")
            for number in range(50):
                await ann.give({"action": "typing", "room": "attic", "data": "x" * 100})
                assert (await event(ann))[0] == "typing", number
        reads.set()
        await until(lambda: "typing" in actions_of(sent))
        await all_is_quiet()
        assert 1 <= actions_of(sent).count("typing") < 10
        assert all(m["type"] != "websocket.close" for m in sent)
        given.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(serving, 10)

    told_by(story)


def actions_of(sent):
    return [json.loads(message["text"])["action"] for message in sent if "text" in message]


class Slow(RoomConsumers):
    authentication_classes = []

    def get_user_key(self):
        return "somebody"

    def get_user_data(self):
        return None


# Users


@pytest.mark.django_db(transaction=True)
def test_users_are_those_of_the_request_and_strangers_each_one(django_user_model):
    application = URLRouter(RoomConsumers.as_routes())
    ann = django_user_model.objects.create_user("ann")
    join = json.dumps({"action": "join", "room": "attic"})
    with SocketClient(application) as signed_in:
        signed_in.force_login(ann)
        signed_in.send_text(join)
        user = {"id": str(ann.pk), "name": "ann"}
        assert signed_in.receive()["data"]["users"] == [user]
        with SocketClient(application) as stranger:
            stranger.send_text(join)
            # On another loop, so the presence of others arrives later.
            told = stranger.receive()
            assert told["data"]["users"][-1] == {"id": None, "name": ""}
            joined_too = stranger.receive()
            assert joined_too["data"] == {"room": "attic", "event": "joined", "user": user}
        assert signed_in.receive()["data"]["event"] == "joined"


class SaidSerializer(serializers.Serializer):
    text = serializers.CharField(max_length=5)
    secret = serializers.CharField(write_only=True, required=False)
    length = serializers.SerializerMethodField()

    def get_length(self, said):
        assert self.context["request"].user.is_anonymous
        return len(said["text"])


class UserSerializer(serializers.Serializer):
    username = serializers.CharField()


def test_serializers_say_what_members_receive_and_what_they_may_send():
    class Serialized(RoomConsumers):
        authentication_classes = []
        user_serializer_class = UserSerializer
        message_serializer_class = SaidSerializer

    routes = Serialized.as_routes(path="/rooms")

    async def story():
        async with open_socket(routes, "/rooms") as socket:
            _, joined = await do(socket, "join")
            assert joined["users"] == [{"username": ""}]
            assert (await do(socket, "send", data={"text": "too long"}))[0] == 400
            said = {"text": "short", "secret": "s", "more": 1}
            await socket.give({"action": "send", "room": "attic", "data": said})
            got = [await socket.receive_message() for _ in range(2)]
            [event] = [message for message in got if message["action"] == "message"]
            assert event["data"] == {
                "room": "attic",
                "user": {"username": ""},
                "data": {"text": "short", "length": 5},
            }

    asyncio.run(story())


@pytest.mark.parametrize(
    "name",
    ["get_room", "check_room_permission", "get_message_data", "get_user_key", "get_user_data",
     "check_hearing"],
)  # fmt: skip
def test_a_hook_that_would_have_to_be_awaited_is_refused(name):
    """A coroutine that nobody awaits forbids nothing."""

    async def hook(self, *args):
        raise PermissionDenied

    with pytest.raises(ImproperlyConfigured, match=f"{name} must not be async"):
        type("Async", (Chat,), {name: hook}).as_routes()


def test_rooms_cannot_be_internal():
    with pytest.raises(ImproperlyConfigured, match="internal"):
        Chat.as_routes(channel_name="chat", internal=True)


# Other processes


def said_by(hub_id, group, *names, asks=False):
    users = {name: {"name": name} for name in names}
    return GroupUsers("another", group, hub_id, users, asks)


def test_users_of_another_process_come_and_go_as_it_says():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            hub = running_hub()
            [group] = hub._groups
            hub.take(said_by("b", group, "bob", "ann"))
            assert await event(ann) == joined("bob")
            hub.take(said_by("c", group, "bob"))
            hub.take(said_by("b", group))
            assert (await do(ann, "presence"))[1]["users"] == [{"name": "ann"}, {"name": "bob"}]
            hub.take(said_by("c", group))
            assert await event(ann) == presence_event("left", "bob")

    told_by(story)


def test_a_process_that_says_nothing_any_more_is_gone(settings):
    settings.REST_CHANNELS = {"PRESENCE_SECONDS": 0.01}

    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            hub = running_hub()
            [group] = hub._groups
            hub.take(said_by("b", group, "bob"))
            assert await event(ann) == joined("bob")
            assert await event(ann) == presence_event("left", "bob")

    told_by(story)


@pytest.mark.usefixtures("redis_layer")
@pytest.mark.only_on("sqlite")
def test_two_server_processes_share_their_rooms_until_one_dies():
    application = "tests.support.apps.chat_app:application"
    # A process that is silent for 2 seconds counts as dead.
    beats = {"PRESENCE_SECONDS": 0.6}
    join = json.dumps({"action": "join", "room": "attic"})
    with (
        Server("uvicorn", application, **beats) as here,
        here.connect("/tags/") as one,
        here.connect("/ann") as ann,
        ExitStack() as outliving,
    ):
        # It listens to the layer as well, and each hears its own.
        assert answer(one, "subscribe")["response_status"] == 201
        ann.send(join)
        assert json.loads(ann.recv(20))["data"]["users"] == [{"name": "ann"}]
        with Server("uvicorn", application, **beats) as there:
            other = outliving.enter_context(there.connect("/tags/"))
            assert answer(other, "subscribe")["response_status"] == 201
            with there.connect("/bob") as bob:
                bob.send(join)
                json.loads(bob.recv(20))
                came = json.loads(ann.recv(20))["data"]
                assert (came["event"], came["user"]) == ("joined", {"name": "bob"})
                came = json.loads(bob.recv(20))["data"]
                assert (came["event"], came["user"]) == ("joined", {"name": "ann"})
                bob.send(json.dumps({"action": "send", "room": "attic", "data": "Hello"}))
                assert json.loads(ann.recv(20))["data"]["data"] == "Hello"
            left = json.loads(ann.recv(20))["data"]
            assert (left["event"], left["user"]) == ("left", {"name": "bob"})
            eve = outliving.enter_context(there.connect("/eve"))
            eve.send(join)
            came = json.loads(ann.recv(20))["data"]
            assert (came["event"], came["user"]) == ("joined", {"name": "eve"})
        # Killed: nobody says that eve has left.
        left = json.loads(ann.recv(20))["data"]
        assert (left["event"], left["user"]) == ("left", {"name": "eve"})
        ann.send(json.dumps({"action": "presence", "room": "attic"}))
        assert json.loads(ann.recv(20))["data"]["users"] == [{"name": "ann"}]
