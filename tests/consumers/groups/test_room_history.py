"""Rooms with a history: what was said last, told to who joins and to who comes back."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from channels.routing import URLRouter
from django.db import OperationalError, connection, transaction
from rest_framework.exceptions import ValidationError

from rest_channels.consumers import RoomConsumers
from rest_channels.consumers.groups import room_history
from rest_channels.consumers.groups.group_hub import running_hub
from rest_channels.consumers.groups.room_feeds import readers
from rest_channels.models import RoomHead, RoomMessage
from rest_channels.test import SocketClient
from tests.consumers.groups.test_rooms import do
from tests.support.chat_rooms import Chat
from tests.support.consumer_talk import open_socket
from tests.support.server_processes import Server
from tests.support.subscription_stories import written

pytestmark = pytest.mark.django_db(transaction=True)

ROUTES = Chat.as_routes(history=3)
GROUP = f"{ROUTES.table.channel_name} room attic"


def run(story):
    asyncio.run(story())


async def say(socket, *texts, room="attic"):
    """Send, and receive what the sender gets: the reply and the message; returns the ids."""
    ids = []
    for text in texts:
        await socket.give({"action": "send", "room": room, "data": text})
        got = {}
        while not got.keys() >= {"send", "message"}:
            reply = await socket.receive_message()
            got[reply["action"]] = reply
        assert got["send"]["response_status"] == 201
        assert got["send"]["data"]["id"] == got["message"]["data"]["id"]
        ids.append(got["send"]["data"]["id"])
    return ids


async def heard(socket, count=1):
    """Return the texts of the next messages, and skip other events."""
    texts = []
    while len(texts) < count:
        reply = await socket.receive_message()
        if reply["action"] == "message":
            texts.append(reply["data"]["data"])
    return texts


def texts(joined):
    return [message["data"] for message in joined["messages"]]


def put(*texts, group=GROUP):
    """Say it as another process would whose announcement is lost."""
    for text in texts:
        room_history.keep(group, {"room": "attic", "user": None, "data": text}, 3, lambda _: None)


def test_who_joins_is_told_what_was_said_last():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            _, joined = await do(ann, "join")
            assert (joined["messages"], joined["position"]) == ([], "0-0")
            ids = await say(ann, "one", "two", "three", "four")
            async with open_socket(ROUTES, "/bob") as bob:
                _, joined = await do(bob, "join")
                assert texts(joined) == ["two", "three", "four"]
                assert joined["resumed"] is False
                assert joined["position"] == ids[-1] == joined["messages"][-1]["id"]
                assert joined["messages"][0].keys() == {"id", "sent_at", "room", "user", "data"}
                assert joined["messages"][0]["user"] == {"name": "ann"}
                await say(ann, "five")
                assert await heard(bob) == ["five"]

    run(story)


def test_who_comes_back_is_told_what_was_missed():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            one, *_ = await say(ann, "one", "two", "three")
            async with open_socket(ROUTES, "/bob") as bob:
                _, joined = await do(bob, "join", since=one)
                assert (texts(joined), joined["resumed"]) == (["two", "three"], True)
                _, again = await do(bob, "join", since=joined["position"])
                assert (again["messages"], again["resumed"]) == ([], True)
                await say(ann, "four")
                assert await heard(bob) == ["four"]

    run(story)


def test_who_was_there_before_the_first_message_has_missed_them_all():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            _, empty = await do(ann, "join")
            await say(ann, "one", "two")
            _, joined = await do(ann, "join", since=empty["position"])
            assert (texts(joined), joined["resumed"]) == (["one", "two"], True)

    run(story)


@pytest.mark.parametrize(
    "since",
    [None, 1, "", "1", "1-0", "0-1", "99-1", "9" * 18 + "-" + "f" * 16, "-1-1", ["x"], "٣-1"],
)
def test_a_place_that_is_none_of_the_rooms_resumes_nothing(since):
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            await say(ann, "one")
            status, joined = await do(ann, "join", since=since)
            assert (status, texts(joined), joined["resumed"]) == (200, ["one"], False)

    run(story)


def test_who_missed_more_than_is_told_begins_anew():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            one, *_ = await say(ann, "one", "two", "three", "four", "five")
            _, joined = await do(ann, "join", since=one)
            assert (texts(joined), joined["resumed"]) == (["three", "four", "five"], False)

    run(story)


def test_a_number_given_out_a_second_time_is_not_taken_for_the_first():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            one, _ = await say(ann, "one", "two")

            def restore():
                RoomMessage.objects.all().delete()
                RoomHead.objects.update(number=0, mark=0)

            await written(restore)
            # Nobody who knows more than there is may believe that nothing is missing.
            reset = await ann.receive_message()
            assert (reset["action"], reset["data"]) == ("reset", {"room": "attic"})
            await do(ann, "join")
            await say(ann, "another one")
            _, joined = await do(ann, "join", since=one)
            assert (texts(joined), joined["resumed"]) == (["another one"], False)

    run(story)


def test_each_room_and_each_class_has_a_history_of_its_own():
    class Other(Chat):
        history = 3

    others = Other.as_routes()

    async def story():
        async with open_socket(ROUTES, "/ann") as ann, open_socket(others, "/bob") as bob:
            for room in ("attic", "Attic"):
                await do(ann, "join", room)
            await say(ann, "here")
            await say(ann, "there", room="Attic")
            _, joined = await do(ann, "join", "Attic")
            assert texts(joined) == ["there"]
            _, joined = await do(bob, "join")
            assert texts(joined) == []

    run(story)


def test_what_is_refused_is_not_kept():
    class Short(Chat):
        history = 3

        def get_message_data(self, room, data):
            if len(data) > 3:
                raise ValidationError({"data": ["Too long."]})
            return {"text": data}

    async def story():
        async with open_socket(Short.as_routes(), "/ann") as ann:
            await do(ann, "join")
            assert (await do(ann, "send", data="long"))[0] == 400
            assert await written(RoomMessage.objects.count) == 0

    run(story)


def test_without_a_history_nothing_is_kept():
    async def story():
        async with open_socket(Chat.as_routes(), "/ann") as ann:
            assert "messages" not in (await do(ann, "join"))[1]
            await ann.give({"action": "send", "room": "attic", "data": "Hi"})
            assert await heard(ann) == ["Hi"]
            assert await written(RoomMessage.objects.count) == 0

    run(story)


# Nothing is missed, nothing told twice


def test_an_announcement_that_is_lost_costs_no_message():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            await written(put, "one", "two")
            assert await heard(ann, 2) == ["one", "two"]

    run(story)


def test_more_than_one_page_is_told_in_order(monkeypatch, settings):
    monkeypatch.setattr(room_history, "PAGE_SIZE", 2)
    settings.REST_CHANNELS = {"POLL_SECONDS": 600}

    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            said = [str(number) for number in range(7)]
            await written(put, *said)
            running_hub().feeds.news(GROUP)
            assert await heard(ann, 7) == said

    run(story)


def test_what_is_announced_before_the_layer_knows_of_a_member_is_told(monkeypatch, settings):
    settings.REST_CHANNELS = {"POLL_SECONDS": 600}

    async def story():
        knows = asyncio.Event()

        async def settle(groups):
            await knows.wait()

        async with open_socket(ROUTES, "/ann") as ann:
            monkeypatch.setattr(running_hub(), "settle", settle)
            await do(ann, "join")
            await do(ann, "presence")
            # Behind whatever is read already.
            await readers.run(int)
            await written(put, "one")
            knows.set()
            assert await heard(ann) == ["one"]

    run(story)


def test_what_is_said_while_somebody_joins_is_told_once(monkeypatch):
    """A message reaches other members after the history is read and before the socket joins."""
    read = room_history.recent

    async def story():
        async with open_socket(ROUTES, "/ann") as ann, open_socket(ROUTES, "/bob") as bob:
            await do(ann, "join")
            await say(ann, "one")
            has_read, may_enter = threading.Event(), threading.Event()

            def slowly(*args):
                found = read(*args)
                has_read.set()
                assert may_enter.wait(20)
                return found

            monkeypatch.setattr("rest_channels.consumers.groups.rooms.recent", slowly)
            await bob.give({"action": "join", "room": "attic"})
            await asyncio.to_thread(has_read.wait, 20)
            await say(ann, "two")
            may_enter.set()
            joined = await bob.receive_message()
            assert texts(joined["data"]) == ["one"]
            assert await heard(bob) == ["two"]
            await say(ann, "three")
            assert await heard(bob) == ["three"]

    run(story)


def test_what_is_said_twice_at_once_is_told_in_one_order_to_all():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann, open_socket(ROUTES, "/bob") as bob:
            for socket in (ann, bob):
                await do(socket, "join")
            for number in range(10):
                for socket in (ann, bob):
                    await socket.give({"action": "send", "room": "attic", "data": number})
            assert await heard(ann, 20) == await heard(bob, 20)

    run(story)


def test_what_is_rolled_back_was_not_said():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            told = []

            def attempt():
                with transaction.atomic():
                    room_history.keep(GROUP, {"data": "no"}, 3, told.append)
                    transaction.set_rollback(True)
                with transaction.atomic():
                    room_history.keep(GROUP, {"data": "yes"}, 3, told.append)
                    assert told == []

            await written(attempt)
            assert len(told) == 1
            assert await heard(ann) == ["yes"]

    run(story)


def test_only_so_many_are_kept(monkeypatch):
    monkeypatch.setattr(room_history, "_KEPT_BESIDES", 2)
    put(*"abcdefgh")
    kept = RoomMessage.objects.order_by("number").values_list("number", flat=True)
    assert list(kept) == [4, 5, 6, 7, 8]


def test_who_is_told_too_late_is_told_so(monkeypatch):
    monkeypatch.setattr(room_history, "_KEPT_BESIDES", 0)

    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            await written(put_in_one_transaction, *"abcdefgh")
            reset = await ann.receive_message()
            assert (reset["action"], reset["data"]) == ("reset", {"room": "attic"})
            assert await heard(ann, 3) == ["f", "g", "h"]

    run(story)


def put_in_one_transaction(*texts):
    with transaction.atomic():
        put(*texts)


def test_a_database_that_fails_delays_messages_and_loses_none(monkeypatch):
    read = room_history.news
    failures = iter([OperationalError("gone"), OperationalError("gone")])

    def failing(*args):
        if (failure := next(failures, None)) is not None:
            raise failure
        return read(*args)

    async def story():
        async with open_socket(ROUTES, "/ann") as ann:
            await do(ann, "join")
            monkeypatch.setattr(room_history, "news", failing)
            await written(put, "one")
            assert await heard(ann) == ["one"]

    run(story)


def test_who_leaves_is_told_nothing_more():
    async def story():
        async with open_socket(ROUTES, "/ann") as ann, open_socket(ROUTES, "/bob") as bob:
            for socket in (ann, bob):
                await do(socket, "join")
            await do(bob, "leave")
            await say(ann, "one")
            hub = running_hub()
            assert [len(feed.members) for feed in hub.feeds._feeds.values()] == [1]
        assert hub.feeds._feeds == {}

    run(story)


def test_messages_of_many_senders_are_numbered_without_holes():
    texts = [f"{sender}.{number}" for sender in range(4) for number in range(5)]
    together = threading.Barrier(4)

    def sends(sender):
        together.wait(20)
        try:
            put(*[text for text in texts if text.startswith(f"{sender}.")])
        finally:
            connection.close()

    threads = [threading.Thread(target=sends, args=[sender]) for sender in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = list(RoomMessage.objects.order_by("number"))
    assert [row.number for row in rows] == list(range(1, 21))
    said = [json.loads(row.data)["data"] for row in rows]
    assert sorted(said) == sorted(texts)
    for sender in range(4):
        own = [text for text in said if text.startswith(f"{sender}.")]
        assert own == sorted(own)


# Other processes


def ask(socket, action, **keys):
    socket.send(json.dumps({"action": action, "room": "attic", **keys}))


def messages(socket, count):
    found = []
    while len(found) < count:
        reply = json.loads(socket.recv(20))
        if reply["action"] == "message":
            found.append(reply["data"])
    return found


def join(socket, **keys):
    ask(socket, "join", **keys)
    while (reply := json.loads(socket.recv(20)))["action"] != "join":
        pass
    return reply["data"]


@pytest.mark.usefixtures("redis_layer")
@pytest.mark.only_on("sqlite")
def test_two_server_processes_share_one_history():
    application = "tests.support.apps.chat_app:application"
    # A process that polls would not notice that no announcement comes.
    seldom = {"POLL_SECONDS": 600, "FRAME_BURST": 500}
    with (
        Server("uvicorn", application, **seldom) as here,
        Server("uvicorn", application, beside=here, **seldom) as there,
        there.connect("/kept/bob") as bob,
    ):
        with here.connect("/kept/ann") as ann:
            assert join(ann)["messages"] == join(bob)["messages"] == []
            for number in range(5):
                for socket in (ann, bob):
                    ask(socket, "send", data=number)
            told = messages(ann, 10)
            assert told == messages(bob, 10)
            assert [m["id"].split("-")[0] for m in told] == [str(n) for n in range(1, 11)]
        here.restart()
        for number in range(3):
            ask(bob, "send", data=f"missed {number}")
        missed = messages(bob, 3)
        with here.connect("/kept/ann") as ann:
            joined = join(ann, since=told[-1]["id"])
            assert (joined["messages"], joined["resumed"]) == (missed, True)
            ask(bob, "send", data="Hello again")
            assert [m["data"] for m in messages(ann, 1)] == ["Hello again"]


@pytest.mark.only_on("sqlite")
def test_processes_without_a_layer_share_it_as_well():
    application = "tests.support.apps.chat_app:application"
    with (
        Server("uvicorn", application, POLL_SECONDS=0.1) as here,
        Server("uvicorn", application, beside=here, POLL_SECONDS=0.1) as there,
        here.connect("/kept/ann") as ann,
        there.connect("/kept/bob") as bob,
    ):
        join(ann)
        join(bob)
        ask(ann, "send", data="Hello")
        assert [m["data"] for m in messages(bob, 1)] == ["Hello"]


@pytest.mark.django_db(transaction=False)
def test_a_test_in_a_transaction_sees_the_history_as_well(django_user_model):
    ann = django_user_model.objects.create_user("ann")
    with SocketClient(URLRouter(RoomConsumers.as_routes(history=3))) as socket:
        socket.force_login(ann)
        socket.send_text(json.dumps({"action": "join", "room": "attic"}))
        assert socket.receive()["data"]["messages"] == []
        socket.send_text(json.dumps({"action": "send", "room": "attic", "data": "Hello"}))
        got = {reply["action"]: reply["data"] for reply in (socket.receive(), socket.receive())}
        assert got["message"]["id"] == got["send"]["id"]
        assert got["message"]["user"] == {"id": str(ann.pk), "name": "ann"}
