"""The tools for the tests of a project, used as a project would."""

from __future__ import annotations

import asyncio
import threading

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import User
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient, SocketClosed, SocketTestCase
from rest_channels.viewsets import ConsumerViewSetMixin
from tests.models import Room
from tests.support.room_viewsets import FullRoomSerializer


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = FullRoomSerializer

    @action(detail=False, permission_classes=[IsAuthenticated])
    def me(self, request):
        return Response({"username": request.user.username})

    @action(detail=False)
    def names(self, request):
        for room in self.get_queryset():
            yield room.name

    @action(detail=False)
    async def forever(self, request):
        await asyncio.Event().wait()


router = DefaultRouter()
router.register("rooms", RoomViewSet)


class RoomTests(SocketTestCase):
    application = router.as_asgi()

    def test_a_request_by_stream_sees_the_tests_own_transaction(self):
        Room.objects.create(name="lobby")
        assert self.socket.list("rooms").data[0]["name"] == "lobby"
        reply = self.socket.create("rooms", {"name": "attic"})
        assert reply.status_code == 201
        assert Room.objects.get(pk=reply.data["id"]).name == "attic"

    def test_errors_and_codes(self):
        reply = self.socket.create("rooms", {})
        assert reply.status_code == 400
        assert reply.errors == [{"name": ["This field is required."]}]
        assert reply.codes == [{"name": ["required"]}]

    def test_events_of_a_subscription_see_the_tests_own_transaction(self):
        lobby = Room.objects.create(name="lobby")
        assert self.socket.request("subscribe", "rooms").status_code == 201
        lobby.name = "hall"
        lobby.save()
        attic = self.socket.create("rooms", {"name": "attic"})
        events = [self.socket.event(), self.socket.event()]
        assert [(event.action, event.data["name"]) for event in events] == [
            ("update", "hall"),
            ("create", "attic"),
        ]
        assert events[1].data == attic.data

    def test_positions_form_a_chain_in_the_tests_own_transaction(self):
        lobby = Room.objects.create(name="lobby")
        begun = self.socket.request("subscribe", "rooms", snapshot=True)
        assert begun.position and begun.previous is None and begun.resumed is False
        Room.objects.create(name="attic")
        lobby.name = "hall"
        lobby.save()
        messages = [begun, self.socket.event(), self.socket.event()]
        lobby.delete()
        messages.append(self.socket.event())
        assert [m.previous for m in messages[1:]] == [m.position for m in messages[:-1]]
        assert len({m.position for m in messages}) == 4

    def test_a_subscription_resumes_in_the_tests_own_transaction(self):
        begun = self.socket.request("subscribe", "rooms", request_id="a")
        self.socket.request("unsubscribe", "rooms", request_id="a")
        Room.objects.create(name="lobby")
        again = self.socket.request("subscribe", "rooms", request_id="b", since=begun.position)
        assert (again.resumed, again.data) == (True, None)
        event = self.socket.event()
        assert (event.data["name"], event.previous) == ("lobby", again.position)

    def test_what_is_no_subscription_has_no_position(self):
        reply = self.socket.list("rooms")
        assert (reply.position, reply.previous, reply.resumed) == (None, None, None)

    def test_force_authenticate_and_its_end(self):
        self.socket.force_authenticate(User.objects.create_user("ann"))
        assert self.socket.request("me", "rooms").data == {"username": "ann"}
        self.socket.force_authenticate(None)
        assert self.socket.request("me", "rooms").status_code == 403

    def test_login(self):
        User.objects.create_user("ann", password="pw")
        assert self.socket.login(username="ann", password="pw")
        assert self.socket.request("me", "rooms").data == {"username": "ann"}

    def test_the_parts_of_a_generator(self):
        Room.objects.create(name="lobby")
        Room.objects.create(name="attic")
        reply = self.socket.request("names", "rooms")
        assert (reply.status_code, reply.data, reply.parts) == (200, None, ["lobby", "attic"])

    def test_a_timeout_leaves_the_application_running(self):
        waiting = self.socket.send("forever", "rooms")
        with pytest.raises(TimeoutError):
            self.socket.reply(waiting, timeout=0.05)
        assert (
            self.socket.request("cancel", "rooms", data={"request_id": waiting}).status_code == 204
        )
        assert self.socket.reply(waiting).status_code == 499


@pytest.mark.django_db
def test_a_route_of_its_own():
    Room.objects.create(name="lobby")
    with SocketClient(router.as_asgi(), "/rooms/") as client:
        assert client.list().data[0]["name"] == "lobby"


@pytest.mark.django_db
def test_credentials_are_headers_of_every_frame():
    from rest_framework.authentication import TokenAuthentication
    from rest_framework.authtoken.models import Token

    class TokenRoomViewSet(ConsumerViewSetMixin, RoomViewSet):
        authentication_classes = [TokenAuthentication]

    token = Token.objects.create(user=User.objects.create_user("ann"))
    with SocketClient(URLRouter(TokenRoomViewSet.as_routes("rooms")), "/rooms/") as client:
        assert client.request("me").status_code == 401
        client.credentials(HTTP_AUTHORIZATION=f"Token {token.key}")
        assert client.request("me").data == {"username": "ann"}


def test_a_refused_handshake():
    client = SocketClient(router.as_asgi(), headers={"origin": "https://elsewhere.example"})
    with pytest.raises(SocketClosed) as caught:
        client.connect()
    assert caught.value.code is None


def test_a_path_that_leads_nowhere():
    client = SocketClient(router.as_asgi(), "/nowhere/")
    with client, pytest.raises(SocketClosed) as caught:
        client.receive()
    assert caught.value.code == 4404


@pytest.mark.django_db
def test_the_fixture(socket_client):
    socket_client.application = router.as_asgi()
    assert socket_client.list("rooms").data == []


def test_what_the_application_raises_is_raised_in_the_test():
    async def broken(scope, receive, send):
        await receive()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        SocketClient(broken).connect()


def threads_of_sockets():
    return [thread for thread in threading.enumerate() if thread.name == "rest_channels.test"]


def test_a_handshake_that_fails_ends_the_loop_and_its_thread():
    loops = []

    async def broken(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        await receive()
        raise ZeroDivisionError

    client = SocketClient(broken)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            client.connect()
    assert [loop.is_closed() for loop in loops] == [True, True]
    assert threads_of_sockets() == []


def test_an_application_that_does_not_answer_the_handshake_is_cancelled():
    seen = []

    async def deaf(scope, receive, send):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        SocketClient(deaf, timeout=0.5).connect()
    assert seen == ["cancelled"]
    assert threads_of_sockets() == []


def test_what_the_application_raises_is_raised_once():
    async def broken(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        raise ZeroDivisionError

    with SocketClient(broken) as client:
        client.send_text("{}")
        with pytest.raises(ZeroDivisionError):
            client.receive()
    client.connect()
    with pytest.raises(ZeroDivisionError):
        client.close()


def test_it_says_where_it_cannot_be_used():
    async def use():
        SocketClient(router.as_asgi()).connect()

    with pytest.raises(RuntimeError, match="AsyncSocketClient"):
        asyncio.run(use())
