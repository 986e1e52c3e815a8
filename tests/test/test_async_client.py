"""The client for `async def` tests, used as a project would."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from django.contrib.auth.models import User
from django.test import TestCase, TransactionTestCase
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from djangochannelsrestframework.mixins import ListModelMixin

from rest_channels.routers import DefaultRouter
from rest_channels.test import AsyncSocketClient, SocketClosed
from tests.models import Room
from tests.support.room_viewsets import FullRoomSerializer
from tests.test.test_client import RoomViewSet


class RoomConsumer(ListModelMixin, GenericAsyncAPIConsumer):
    queryset = Room.objects.order_by("id")
    serializer_class = FullRoomSerializer


router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("legacy", RoomConsumer)
application = router.as_asgi()


class InATransaction(TestCase):
    async def test_requests_see_it(self):
        await Room.objects.acreate(name="lobby")
        async with AsyncSocketClient(application) as socket:
            assert (await socket.list("rooms")).data[0]["name"] == "lobby"
            reply = await socket.create("rooms", {"name": "attic"})
        assert (await Room.objects.aget(pk=reply.data["id"])).name == "attic"

    async def test_it_is_rolled_back(self):
        assert not await Room.objects.aexists()

    async def test_subscribers_see_it(self):
        async with AsyncSocketClient(application) as socket:
            begun = await socket.request("subscribe", "rooms")
            await Room.objects.acreate(name="lobby")
            event = await socket.event()
        assert (event.action, event.data["name"]) == ("create", "lobby")
        assert event.previous == begun.position != event.position

    async def test_hosted_consumers_see_it_from_frame_to_frame(self):
        await Room.objects.acreate(name="lobby")
        async with AsyncSocketClient(application) as socket:
            for _ in range(2):
                assert (await socket.list("legacy")).data[0]["name"] == "lobby"
        assert await Room.objects.acount() == 1

    async def test_who_is_asking(self):
        ann = await User.objects.acreate_user("ann", password="pw")
        socket = AsyncSocketClient(application)
        assert (await socket.request("me", "rooms")).status_code == 403
        socket.force_authenticate(ann)
        assert (await socket.request("me", "rooms")).data == {"username": "ann"}
        await socket.logout()
        assert (await socket.request("me", "rooms")).status_code == 403
        await socket.close()
        assert await socket.login(username="ann", password="pw")
        assert (await socket.request("me", "rooms")).data == {"username": "ann"}
        await socket.close()

    async def test_the_parts_of_a_generator(self):
        await Room.objects.acreate(name="lobby")
        await Room.objects.acreate(name="attic")
        async with AsyncSocketClient(application) as socket:
            reply = await socket.request("names", "rooms")
            assert (reply.status_code, reply.parts) == (200, ["lobby", "attic"])
            asked = await socket.send("names", "rooms")
            assert await socket.part(asked) == "lobby"

    async def test_a_timeout_leaves_the_application_running(self):
        async with AsyncSocketClient(application) as socket:
            waiting = await socket.send("forever", "rooms")
            with pytest.raises(TimeoutError):
                await socket.reply(waiting, timeout=0.05)
            with pytest.raises(TimeoutError):
                await socket.receive(timeout=0.05)
            ending = await socket.request("cancel", "rooms", data={"request_id": waiting})
            assert ending.status_code == 204
            assert (await socket.reply(waiting)).status_code == 499

    async def test_two_sockets_side_by_side(self):
        async with AsyncSocketClient(application) as one, AsyncSocketClient(application) as two:
            await one.request("subscribe", "rooms")
            await two.create("rooms", {"name": "lobby"})
            assert (await one.event()).data["name"] == "lobby"


class Committed(TransactionTestCase):
    async def test_subscribers_see_what_is_committed(self):
        async with AsyncSocketClient(application) as socket:
            await socket.request("subscribe", "rooms")
            await Room.objects.acreate(name="lobby")
            assert (await socket.event()).data["name"] == "lobby"


def test_a_refused_handshake_and_a_path_that_leads_nowhere():
    async def story():
        stranger = {"origin": "https://elsewhere.example"}
        with pytest.raises(SocketClosed) as caught:
            await AsyncSocketClient(application, headers=stranger).connect()
        assert caught.value.code is None
        async with AsyncSocketClient(application, "/nowhere/") as socket:
            with pytest.raises(SocketClosed) as caught:
                await socket.receive()
        assert caught.value.code == 4404

    asyncio.run(story())


def test_what_the_application_raises_is_raised_in_the_test():
    async def broken(scope, receive, send):
        await receive()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(AsyncSocketClient(broken).connect())


def test_a_handshake_that_fails_ends_the_application():
    ended = []

    async def broken(scope, receive, send):
        await receive()
        raise ZeroDivisionError

    async def deaf(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(scope["path"])

    async def story():
        client = AsyncSocketClient(broken)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await client.connect()
        with pytest.raises(TimeoutError):
            await AsyncSocketClient(deaf, "/deaf/", timeout=0.05).connect()
        assert ended == ["/deaf/"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


def test_what_the_application_raises_is_raised_once():
    async def broken(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        raise ZeroDivisionError

    async def story():
        async with AsyncSocketClient(broken) as client:
            await client.send_text("{}")
            with pytest.raises(ZeroDivisionError):
                await client.receive()
        await client.connect()
        with pytest.raises(ZeroDivisionError):
            await client.close()

    asyncio.run(story())


def test_a_message_is_not_lost_with_a_caller_that_gave_up():
    async def echo(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    async def story():
        async with AsyncSocketClient(echo) as socket:
            await socket.connect()
            waiting = asyncio.ensure_future(socket.receive())
            await asyncio.sleep(0)
            await socket.send_text('{"first": 1}')
            waiting.cancel()
            assert await socket.receive() == {"first": 1}

    asyncio.run(story())


def test_no_server_package_is_imported():
    code = (
        "import sys; sys.modules['daphne'] = sys.modules['uvicorn'] = None\n"
        "import django; django.setup()\n"
        "from rest_channels.test import AsyncSocketClient, SocketClient\n"
        "print('channels.testing' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
