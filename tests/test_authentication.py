"""The user of a socket, from one frame to the next."""

from __future__ import annotations

import asyncio
import base64
import threading
from types import SimpleNamespace

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth import login, logout
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.models import Session
from django.test import Client, override_settings
from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)
from rest_framework.authtoken.models import Token
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from rest_channels import authentication
from rest_channels.authentication import Credentials, session_store
from rest_channels.protocol import Frame
from rest_channels.routers import DefaultRouter
from rest_channels.sockets.request import Call, Handshake, MessageRequest
from rest_channels.test import SocketClient, SocketClosed
from rest_channels.viewsets import ConsumerViewSet
from tests.support.clocks import Clock
from tests.support.talk import happened, talking_to

pytestmark = pytest.mark.django_db


class WhoViewSet(ConsumerViewSet):
    """Says who asks, and lets them change it."""

    authentication_classes = [TokenAuthentication, SessionAuthentication]
    permission_classes = []

    def list(self, request):
        return Response(request.user.get_username())

    @action(detail=False, methods=["post"])
    def log_in(self, request):
        login(request, User.objects.get(username=request.data))
        return self.list(request)

    @action(detail=False, methods=["post"])
    def log_out(self, request):
        logout(request)
        return Response("bye")

    @action(detail=False)
    def count(self, request):
        request.session["count"] = request.session.get("count", 0) + 1
        return Response(request.session["count"])

    @action(detail=False)
    def rename(self, request):
        request.user.username = "changed"
        return self.list(request)


def serve() -> URLRouter:
    return URLRouter(WhoViewSet.as_routes("", "who"))


@pytest.fixture
def ann():
    return User.objects.create_user("ann")


@pytest.fixture
def socket():
    with SocketClient(serve()) as client:
        yield client


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(authentication, "time", clock)
    return clock


# The session's user


def test_a_sessions_user_is_read_once_in_a_lease(socket, ann, clock, django_assert_num_queries):
    socket.force_login(ann)
    socket.list()
    with django_assert_num_queries(0):
        clock.now += 4.9
        assert socket.list().data == "ann"
    with django_assert_num_queries(2):
        clock.now += 0.1
        assert socket.list().data == "ann"
        assert socket.list().data == "ann"


def test_what_happens_to_the_user_is_seen_when_the_lease_is_over(socket, ann, clock):
    socket.force_login(ann)
    socket.list()
    User.objects.update(username="anna")
    assert socket.list().data == "ann"
    clock.now += 5
    assert socket.list().data == "anna"


@pytest.mark.parametrize(
    "end",
    [
        lambda ann: Session.objects.all().delete(),
        lambda ann: User.objects.update(is_active=False),
        lambda ann: User.objects.update(password="another"),
    ],
    ids=["session deleted", "deactivated", "password changed"],
)
def test_credentials_that_ended_are_found_by_the_next_frame_after_the_lease(
    socket, ann, clock, end
):
    socket.force_login(ann)
    assert socket.list().data == "ann"
    end(ann)
    clock.now += 5
    socket.send("list")
    with pytest.raises(SocketClosed) as closed:
        while socket.receive()["response_status"] == 401:
            pass
    assert closed.value.code == 4401


def test_without_a_session_nobody_is_asked_for(socket, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert socket.list().data == ""


def test_a_cookie_that_names_no_session_is_nobody():
    with SocketClient(serve(), headers={"cookie": "sessionid=nonsense"}) as socket:
        assert socket.list().data == ""
        assert socket.request("count").data == 1
        assert socket.request("count").data == 2


def test_a_user_changed_by_an_action_is_no_other_frames(socket, ann):
    socket.force_login(ann)
    assert socket.request("rename").data == "changed"
    assert socket.list().data == "ann"


# Signing in and out over the socket


def test_whom_an_action_signs_in_the_socket_is(socket, ann):
    User.objects.create_user("bob")
    assert socket.request("log_in", data="ann").data == "ann"
    assert socket.list().data == "ann"
    assert socket.request("log_in", data="bob").data == "bob"
    assert socket.list().data == "bob"


def test_signing_out_is_answered_then_the_socket_closes(socket, ann):
    socket.request("log_in", data="ann")
    assert socket.request("log_out").data == "bye"
    with pytest.raises(SocketClosed) as closed:
        socket.receive()
    assert closed.value.code == 4401


def test_signing_out_where_nobody_was_signed_in_changes_nothing(socket):
    assert socket.request("log_out").data == "bye"
    assert socket.list().data == ""


def test_what_an_action_keeps_in_the_session_is_saved(socket, ann):
    socket.force_login(ann)
    assert [socket.request("count").data for _ in range(3)] == [1, 2, 3]
    assert Session.objects.get().get_decoded()["count"] == 3


def test_a_session_begun_by_an_action_is_the_sockets(socket):
    assert [socket.request("count").data for _ in range(2)] == [1, 2]
    assert socket.list().data == ""


def test_a_session_deleted_meanwhile_is_not_brought_back(ann):
    class Deleting(WhoViewSet):
        @action(detail=False)
        def count(self, request):
            request.session["count"] = 1
            Session.objects.all().delete()
            return Response("never told")

    with SocketClient(URLRouter(Deleting.as_routes("", "who"))) as socket:
        socket.force_login(ann)
        assert socket.request("count").status_code == 400
    assert not Session.objects.exists()


@override_settings(SESSION_SAVE_EVERY_REQUEST=True)
def test_a_session_may_be_saved_with_every_frame(socket, ann):
    socket.force_login(ann)
    socket.list()
    Session.objects.update(expire_date="2030-01-01T00:00Z")
    before = Session.objects.get().expire_date
    socket.list()
    assert Session.objects.get().expire_date != before


# scope["user"]


def with_user(user, application=None):
    """A middleware of the project's own."""
    application = application or serve()

    async def middleware(scope, receive, send):
        await application({**scope, "user": user}, receive, send)

    return middleware


def test_a_middleware_of_the_projects_own_says_who_it_is(ann):
    with SocketClient(with_user(ann)) as socket:
        assert socket.list().data == "ann"


def test_it_has_its_say_whatever_the_cookie_says(ann):
    with SocketClient(with_user(ann)) as socket:
        socket.force_login(User.objects.create_user("bob"))
        assert socket.list().data == "ann"
        assert [socket.request("count").data for _ in range(2)] == [1, 2]
    with SocketClient(with_user(AnonymousUser())) as socket:
        socket.force_login(ann)
        assert socket.list().data == ""


def test_its_user_stays_when_an_action_begins_a_session(ann):
    with SocketClient(with_user(ann)) as socket:
        assert socket.request("count").data == 1
        assert socket.list().data == "ann"


def test_its_user_changed_by_an_action_is_no_other_frames(ann):
    with SocketClient(with_user(ann)) as socket:
        assert socket.request("rename").data == "changed"
        assert socket.list().data == "ann"
    assert ann.username == "ann"


def test_whom_an_action_signs_in_takes_its_place(ann):
    User.objects.create_user("bob")
    with SocketClient(with_user(ann)) as socket:
        assert socket.request("log_in", data="bob").data == "bob"
        assert socket.list().data == "bob"


def test_channels_own_middleware_names_the_session(ann, clock):
    with SocketClient(AuthMiddlewareStack(serve())) as socket:
        socket.force_login(ann)
        assert socket.list().data == "ann"
        User.objects.update(username="anna")
        clock.now += 5
        assert socket.list().data == "anna"


def test_channels_own_middleware_and_signing_in(ann):
    with SocketClient(AuthMiddlewareStack(serve())) as socket:
        assert socket.list().data == ""
        assert socket.request("log_in", data="ann").data == "ann"
        assert socket.list().data == "ann"


# Untrusted pages

ELSEWHERE = {"origin": "http://evil.example"}


def test_cookies_of_an_untrusted_page_do_not_count(ann):
    for application in (serve(), AuthMiddlewareStack(serve())):
        with SocketClient(application, headers=ELSEWHERE) as socket:
            socket.force_login(ann)
            assert socket.list().data == ""
            assert socket.request("count").data == 1


def test_tokens_of_an_untrusted_page_do_for_no_browser_sends_them_by_itself(ann):
    token = Token.objects.create(user=ann)
    headers = {**ELSEWHERE, "authorization": f"Token {token.key}"}
    with SocketClient(serve(), headers=headers) as socket:
        assert socket.list().data == "ann"


# Tokens


def test_a_frames_own_authorization_is_the_frames_alone(socket, ann):
    bob = User.objects.create_user("bob")
    token = Token.objects.create(user=bob)
    socket.force_login(ann)
    mine = {"authorization": f"Token {token.key}"}
    assert socket.list(headers=mine).data == "bob"
    assert socket.list().data == "ann"
    assert socket.list(headers={"authorization": "Token wrong"}).status_code == 401
    assert socket.list().data == "ann"


def test_authenticate_replaces_the_session(socket, ann):
    token = Token.objects.create(user=User.objects.create_user("bob"))
    socket.force_login(ann)
    assert socket.list().data == "ann"
    reply = socket.request("authenticate", data={"authorization": f"Token {token.key}"})
    assert (reply.status_code, reply.data) == (200, None)
    assert socket.list().data == "bob"
    assert socket.request("count").data == 1, "ann's session is not bob's"


def test_authenticate_with_what_is_wrong_changes_nothing(socket, ann):
    socket.force_login(ann)
    for data in ({"authorization": "Token wrong"}, {"authorization": "Basic"}, {}, None, "x"):
        assert socket.request("authenticate", data=data).status_code in (400, 401)
    assert socket.list().data == "ann"


def test_credentials_that_only_the_socket_has_are_not_taken_for_those_shown(ann):
    for application in (serve(), with_user(ann), AuthMiddlewareStack(serve())):
        with SocketClient(application) as socket:
            socket.force_login(ann)
            assert socket.list().data == "ann"
            reply = socket.request("authenticate", data={"authorization": "Unknown scheme"})
            assert reply.status_code == 401
            assert socket.list().data == "ann"


def test_authenticate_again_replaces_the_token(socket, ann):
    for name in ("bob", "cyd"):
        token = Token.objects.create(user=User.objects.create_user(name))
        socket.request("authenticate", data={"authorization": f"Token {token.key}"})
        assert socket.list().data == name


def subprotocol(value: bytes) -> str:
    return "authorization." + base64.urlsafe_b64encode(value).decode().rstrip("=")


def test_a_browser_shows_its_token_in_a_subprotocol(ann):
    token = Token.objects.create(user=ann)
    offered = ["rest-channels", subprotocol(f"Token {token.key}".encode())]
    with SocketClient(serve(), subprotocols=offered) as socket:
        assert socket.list().data == "ann"
        assert socket.subprotocol == "rest-channels"


@pytest.mark.parametrize(
    "offered",
    [
        "authorization.***",
        "authorization.a",
        subprotocol(b"Token x\r\nHost: y"),
        subprotocol(b"\0"),
    ],
)
def test_a_subprotocol_that_is_no_header_is_refused(offered):
    with pytest.raises(SocketClosed):
        SocketClient(serve(), subprotocols=[offered]).connect()


# Frames at the same time


class Slow(WhoViewSet):
    max_in_flight = 4

    @action(detail=False)
    def wait(self, request):
        self.entered.set()
        assert self.leave.wait(10)
        request.session["seen"] = True
        return self.list(request)


def slow() -> type[Slow]:
    return type("Slow", (Slow,), {"entered": threading.Event(), "leave": threading.Event()})


@pytest.fixture
def people(transactional_db):
    """Ann's cookie and bob's token."""
    ann, bob = User.objects.create_user("ann"), User.objects.create_user("bob")
    client = Client()
    client.force_login(ann)
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    return {"cookie": cookie}, f"Token {Token.objects.create(user=bob).key}"


class LateSession(SessionAuthentication):
    """Looks at the session only once it is allowed to."""

    def authenticate(self, request):
        if request.query_params.get("late"):
            self.entered.set()
            assert self.leave.wait(10)
        return super().authenticate(request)


def test_a_frame_that_reads_replaced_credentials_reads_for_itself_alone(people):
    headers, token = people
    late = type("Late", (LateSession,), {"entered": threading.Event(), "leave": threading.Event()})

    class Who(WhoViewSet):
        max_in_flight = 4
        authentication_classes = [TokenAuthentication, late]

        @action(detail=False, authentication_classes=[SessionAuthentication])
        def by_session(self, request):
            return self.list(request)

    async def story():
        async with talking_to(URLRouter(Who.as_routes("", "who")), headers=headers) as socket:
            await socket.send("list", request_id="late", query={"late": 1})
            await happened(late.entered)
            data = {"authorization": token}
            assert (await socket.ask("authenticate", data=data))["response_status"] == 200
            late.leave.set()
            assert (await socket.receive())["data"] == "ann"
            assert (await socket.ask("list"))["data"] == "bob"
            assert (await socket.ask("by_session"))["data"] == ""

    asyncio.run(story())


def test_a_session_saved_late_does_not_bring_replaced_credentials_back(people):
    headers, token = people
    viewset = slow()

    async def story():
        application = URLRouter(viewset.as_routes("", "who"))
        async with talking_to(application, headers=headers) as socket:
            await socket.send("wait", request_id="late")
            await happened(viewset.entered)
            await socket.ask("authenticate", data={"authorization": token})
            viewset.leave.set()
            assert (await socket.receive())["data"] == "ann"
            assert (await socket.ask("count"))["data"] == 1
            assert (await socket.ask("list"))["data"] == "bob"

    asyncio.run(story())
    seen = [session.get_decoded() for session in Session.objects.all()]
    assert sorted("seen" in session for session in seen) == [False, True]


def credentials(**scope) -> Credentials:
    return Credentials({"type": "websocket", "path": "/", "headers": [], **scope})


def test_a_late_reading_of_replaced_credentials_leaves_the_new_one_in_place(ann):
    client = Client()
    client.force_login(ann)
    scope = {"type": "websocket", "path": "/", "headers": []}
    mine = Credentials(scope)
    handshake, call = Handshake(scope, mine, {}), Call(WhoViewSet, "get", "/", {})
    late = MessageRequest(handshake, Frame("list"), call)
    mine.session_key = client.session.session_key
    assert MessageRequest(handshake, Frame("list"), call).user == ann
    assert late.user.is_anonymous
    assert mine.session_user == ann


def test_signing_out_of_replaced_credentials_does_not_end_the_new_ones(ann):
    old, new = Client(), Client()
    old.force_login(ann)
    new.force_login(ann)
    scope = {"type": "websocket", "path": "/", "headers": []}
    mine = Credentials({**scope, "session": old.session})
    handshake, call = Handshake(scope, mine, {}), Call(WhoViewSet, "get", "/", {})
    late = MessageRequest(handshake, Frame("log_out"), call)
    mine.session_key = new.session.session_key
    assert MessageRequest(handshake, Frame("list"), call).user == ann
    logout(late)
    assert (mine.settle(late, 200), mine.session_key) == (False, new.session.session_key)


def test_credentials_end_once():
    ends = []
    mine = Credentials({"type": "websocket", "path": "/", "headers": []}, lambda: ends.append(1))
    mine.end()
    mine.end()
    assert (ends, mine.has_ended) == ([1], True)


def test_a_frames_share_of_the_threads_is_its_addresss_until_its_user_is_known(ann):
    mine = credentials(client=("10.0.0.1", 5))
    assert mine.owner == ("client", "10.0.0.1")
    mine.replace(b"Token x", SimpleNamespace(user=ann, view=None))
    assert mine.owner == ("user", ann.pk)
    assert mine.headers == {b"authorization": b"Token x", b"cookie": b""}


def test_a_hosted_consumer_of_an_untrusted_page_sees_neither_cookies_nor_user():
    headers = [(b"origin", b"http://evil.example"), (b"cookie", b"sessionid=x"), (b"x", b"y")]
    scope = {"type": "websocket", "path": "/", "headers": headers, "cookies": {"sessionid": "x"}}
    scope |= {"session": session_store("x"), "user": "ann", "server": ("testserver", 80)}
    seen = Credentials(scope).trusted_scope(scope)
    assert seen["headers"] == [headers[0], headers[2]]
    assert not {"cookies", "session", "user"} & seen.keys()


def test_a_handshakes_headers_are_merged_once():
    scope = {"type": "websocket", "path": "/", "headers": [(b"a", b"1"), (b"a", b"2")]}
    handshake = Handshake(scope, Credentials(scope), {})
    assert handshake.headers == {b"a": b"1,2"}


class ByCookie(BaseAuthentication):
    """As some JWT classes: a cookie, whatever the header says."""

    def authenticate(self, request):
        name = request.COOKIES.get("user")
        return (User.objects.get(username=name), None) if name else None


def test_a_cookie_vouches_for_no_credentials_that_authenticate_shows(ann):
    class WhoViewSet(ViewSet):
        authentication_classes = [ByCookie, TokenAuthentication]

        def list(self, request):
            return Response(request.user.username)

    router = DefaultRouter()
    router.register("who", WhoViewSet, "who")
    ben = User.objects.create_user("ben")
    token = Token.objects.create(user=ben)
    with SocketClient(router.as_asgi(), "/who/", headers={"cookie": "user=ann"}) as client:
        assert client.list().data == "ann"
        assert client.request("authenticate", data={"authorization": "x"}).status_code in (401, 403)
        shown = client.request("authenticate", data={"authorization": f"Token {token.key}"})
        assert shown.status_code == 200
        assert client.list().data == "ben"
