"""A socket knows who is there, and ends when they are gone: by a signal, or within the lease."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework import authentication, permissions, viewsets
from rest_framework.authtoken.models import Token
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import AccessToken
from websockets.exceptions import ConnectionClosed

from rest_channels.routers import DefaultRouter
from rest_channels.sockets.connection import StreamConnection
from rest_channels.sockets.revalidation import leases
from rest_channels.test import SocketClient, SocketClosed
from rest_channels.viewsets import ConsumerViewSetMixin
from tests.support.server_processes import (
    KINDS,
    RemoteGate,
    Server,
    account,
    answer,
    ask,
    close_code,
)

FOREVER = {"LEASE_SECONDS": 3600}
SHORT = {"LEASE_SECONDS": 0.2}


class WhoViewSet(viewsets.ViewSet):
    authentication_classes = [
        authentication.TokenAuthentication,
        authentication.SessionAuthentication,
    ]
    permission_classes = [permissions.IsAuthenticated]

    def list(self, request):
        return Response(request.user.username)

    @action(detail=False, permission_classes=[])
    def anybody(self, request):
        return Response(request.user.username)

    @action(detail=False, methods=["post"])
    def sign_out(self, request):
        logout(request._request)
        return Response("goodbye")

    @action(detail=False, methods=["post"], permission_classes=[])
    def sign_in(self, request):
        user = User.objects.get(username=request.data)
        login(request._request, user, "django.contrib.auth.backends.ModelBackend")
        return Response("welcome")

    @action(detail=False)
    async def forever(self, request):
        await asyncio.Event().wait()


class JWTViewSet(WhoViewSet):
    authentication_classes = [JWTAuthentication]


class OpenViewSet(viewsets.ViewSet):
    authentication_classes = []

    @action(detail=False, methods=["post"])
    def authenticate(self, request):
        return Response("my own")


class DefaultViewSet(WhoViewSet):
    authentication_classes = [
        authentication.SessionAuthentication,
        authentication.BasicAuthentication,
    ]


router = DefaultRouter()
router.register("who", WhoViewSet, "who")
router.register("default", DefaultViewSet, "default")
router.register("jwt", JWTViewSet, "jwt")
router.register("open", OpenViewSet, "open")


@pytest.fixture
def lease(settings):
    """By the lease alone: no signal announces the change."""
    settings.REST_CHANNELS = SHORT


@pytest.fixture
def no_lease(settings):
    """By signals alone: no test runs for an hour."""
    settings.REST_CHANNELS = FOREVER


def signed_in(user):
    """A socket of the user's, by a new session, that has answered."""
    client = SocketClient(router.as_asgi(), "/who/", headers=session_header(user))
    assert client.list().data == user.username
    return client


def session_header(user):
    http = Client()
    http.force_login(user)
    return {"cookie": f"sessionid={http.cookies['sessionid'].value}"}


def session_key_of(client):
    return client.headers["cookie"].removeprefix("sessionid=")


def log_out_over_http(client):
    http = Client()
    http.cookies["sessionid"] = session_key_of(client)
    http.logout()


def with_token(user):
    client = SocketClient(router.as_asgi(), "/who/", headers=token_header(user))
    assert client.list().data == user.username
    return client


def token_header(user):
    return {"authorization": f"Token {Token.objects.get_or_create(user=user)[0].key}"}


def assert_closes_with_4401(client):
    """Without another word."""
    with pytest.raises(SocketClosed) as closed:
        client.receive()
    assert closed.value.code == 4401


@pytest.fixture
def ann(db):
    return User.objects.create_user("ann", password="pw")


@pytest.fixture
def ben(db):
    return User.objects.create_user("ben")


# Found within the lease


def test_a_session_deleted_elsewhere(ann, ben, lease):
    with signed_in(ann) as client, signed_in(ben) as other:
        Session.objects.filter(session_key=session_key_of(client)).delete()
        assert_closes_with_4401(client)
        assert other.list().data == "ben"


def test_a_session_that_expires(ann, lease):
    with signed_in(ann) as client:
        Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
        assert_closes_with_4401(client)


def test_a_user_deactivated_elsewhere(ann, ben, lease):
    with signed_in(ann) as client, signed_in(ben) as other:
        User.objects.filter(pk=ann.pk).update(is_active=False)
        assert_closes_with_4401(client)
        assert other.list().data == "ben"


def test_a_password_changed_elsewhere(ann, lease):
    with signed_in(ann) as client:
        User.objects.filter(pk=ann.pk).update(password="another")
        assert_closes_with_4401(client)


def test_a_user_deleted_elsewhere(ann, lease):
    with signed_in(ann) as client:
        User.objects.filter(pk=ann.pk)._raw_delete(using="default")
        assert_closes_with_4401(client)


def test_the_user_of_a_token_deactivated_elsewhere(ann, lease):
    with with_token(ann) as client:
        User.objects.filter(pk=ann.pk).update(is_active=False)
        assert_closes_with_4401(client)


def test_a_session_that_now_is_somebody_elses(ann, ben, lease):
    with signed_in(ann) as client:
        session_header(ben)
        bens = Session.objects.exclude(session_key=session_key_of(client)).get()
        Session.objects.filter(session_key=session_key_of(client)).update(
            session_data=bens.session_data
        )
        assert_closes_with_4401(client)


def test_nobodys_socket_stays_open(db, lease):
    with SocketClient(router.as_asgi(), "/who/") as client:
        assert client.request("anybody").data == ""
        with pytest.raises(TimeoutError):
            client.receive(timeout=0.5)
        assert client.request("anybody").data == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.only_on("sqlite")
def test_a_session_row_deleted_by_another_process(kind):
    with Server(kind, **SHORT) as server:
        ann = account(server, "ann", by="session")
        with server.connect("/members/", **ann) as socket:
            assert answer(socket, "list")["data"] == {"username": "ann"}
            server.execute("DELETE FROM django_session")
            assert close_code(socket) == 4401


# Told by a signal


def test_a_logout_over_http_ends_the_socket_at_once(ann, no_lease):
    with signed_in(ann) as client:
        log_out_over_http(client)
        assert_closes_with_4401(client)


def test_a_logout_ends_all_sockets_of_its_session_and_no_others(ann, no_lease):
    with signed_in(ann) as one, signed_in(ann) as another_session:
        two = SocketClient(router.as_asgi(), "/", headers=one.headers)
        assert two.list("who").data == "ann"
        log_out_over_http(one)
        assert_closes_with_4401(one)
        assert_closes_with_4401(two)
        assert another_session.list().data == "ann"
        two.close()


@pytest.mark.django_db(transaction=True)
class TestAfterCommit:
    """Saved here: read again at once, after the transaction and only then."""

    @pytest.fixture(autouse=True)
    def by_signals_alone(self, no_lease): ...

    def test_a_user_deactivated(self, ann):
        with signed_in(ann) as client:
            ann.is_active = False
            ann.save()
            assert_closes_with_4401(client)

    def test_a_password_changed(self, ann):
        with signed_in(ann) as client:
            ann.set_password("other")
            ann.save()
            assert_closes_with_4401(client)

    def test_a_user_deleted(self, ann):
        with signed_in(ann) as client:
            ann.delete()
            assert_closes_with_4401(client)

    def test_the_user_of_a_token_deactivated(self, ann):
        with with_token(ann) as client:
            ann.is_active = False
            ann.save()
            assert_closes_with_4401(client)

    def test_what_is_rolled_back_ends_nothing(self, ann):
        with signed_in(ann) as client:
            with transaction.atomic():
                ann.delete()
                transaction.set_rollback(True)
            assert client.list().data == "ann"

    def test_a_change_that_takes_nothing_away_ends_nothing(self, ann):
        with signed_in(ann) as client:
            ann.first_name = "Ann"
            ann.save()
            assert client.list().data == "ann"


# What becomes of frames


def test_a_frame_in_flight_is_not_answered(ann, no_lease):
    with signed_in(ann) as client:
        client.send("forever")
        client.send("list")
        log_out_over_http(client)
        client.send("list")
        assert_closes_with_4401(client)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.only_on("sqlite")
def test_a_frame_that_a_thread_works_on_is_not_answered(kind):
    with Server(kind, **SHORT) as server, RemoteGate() as gate:
        ann = account(server, "ann")
        with server.connect("/probes/", **ann) as socket:
            ask(socket, "wait", data={"port": gate.port})
            gate.entered()
            server.execute("UPDATE auth_user SET is_active = 0")
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(20)
            assert closed.value.rcvd.code == 4401


def test_a_sign_out_over_the_socket_is_answered_and_nothing_after_it(ann, no_lease):
    with signed_in(ann) as client:
        client.send("sign_out", request_id=1)
        client.send("list", request_id=2)
        assert client.reply(1).data == "goodbye"
        assert_closes_with_4401(client)
        assert not Session.objects.exists()


def test_a_sign_in_over_the_socket(ann, no_lease):
    with SocketClient(router.as_asgi(), "/who/") as client:
        assert client.list().status_code == 401
        assert client.request("sign_in", data="ann").data == "welcome"
        assert client.list().data == "ann"
        Session.objects.all().delete()


def test_a_token_that_is_refused_from_now_on(ann, no_lease):
    with with_token(ann) as client:
        Token.objects.all().delete()
        client.send("list")
        assert_closes_with_4401(client)


def test_a_token_in_one_frame_is_that_frames_alone(ann, ben, no_lease):
    with with_token(ann) as client:
        assert client.list(headers=token_header(ben)).data == "ben"
        bad = client.list(headers={"authorization": "Token bad"})
        assert (bad.status_code, bad.errors) == (401, ["Invalid token."])
        assert client.list().data == "ann"


# What it costs


class WhoConsumerViewSet(ConsumerViewSetMixin, WhoViewSet):
    pass


class Noted(StreamConnection):
    """Notes the credentials of the sockets that open."""

    credentials = []

    async def accept(self):
        self.credentials.append(self.handshake.credentials)
        await super().accept()


def queries_of_a_review(users, headers_of, settings):
    """The queries of reading all sockets of `users` again, and of one frame of each after it."""
    settings.REST_CHANNELS = {
        **FOREVER, "CONNECTION_CLASS": f"{__name__}.Noted", "THREAD_SENSITIVE": True,
    }  # fmt: skip
    Noted.credentials = []
    application = URLRouter(WhoConsumerViewSet.as_routes("who", "who"))
    headers = [headers_of(user) for user in users]

    async def story():
        sockets = [
            WebsocketCommunicator(
                application, "/who/", [(k.encode(), v.encode()) for k, v in each.items()]
            )
            for each in headers
        ]
        for socket in sockets:
            assert (await socket.connect())[0]
        async with captured() as review:
            await leases.review(Noted.credentials)
        async with captured() as frames:
            for socket, user in zip(sockets, users, strict=True):
                await socket.send_json_to({"action": "list"})
                assert (await socket.receive_json_from())["data"] == user.username
        for socket in sockets:
            await socket.disconnect()
        return tables(review), tables(frames)

    return async_to_sync(story)()


@asynccontextmanager
async def captured():
    """The queries that the block makes in the test's thread, where all sync work is done."""
    context = CaptureQueriesContext(connection)
    queries = []
    await sync_to_async(context.__enter__)()
    yield queries
    await sync_to_async(context.__exit__)(None, None, None)
    queries += await sync_to_async(lambda: context.captured_queries)()


def tables(queries):
    names = ("django_session", "auth_user", "authtoken_token")
    return Counter(
        next((n for n in names if f'FROM "{n}"' in query["sql"]), "other") for query in queries
    )


@pytest.mark.parametrize("count", [2, 200])
def test_a_review_is_two_queries_however_many_sessions(db, settings, count):
    users = [User.objects.create_user(f"user{number}") for number in range(count)]
    review, frames = queries_of_a_review(users, session_header, settings)
    assert review == {"auth_user": 1, "django_session": 1}
    assert frames == {}


@pytest.mark.parametrize("count", [2, 200])
def test_a_review_is_one_query_however_many_tokens(db, settings, count):
    users = [User.objects.create_user(f"user{number}") for number in range(count)]
    review, frames = queries_of_a_review(users, token_header, settings)
    assert review == {"auth_user": 1}
    # DRF's class reads the token for every request, its user with it.
    assert frames == {"authtoken_token": count}


# authenticate


def test_authenticate_replaces_the_credentials(ann, ben, no_lease):
    with signed_in(ann) as client:
        reply = client.request("authenticate", data=authorization(token_header(ben)))
        assert (reply.status_code, reply.data) == (200, None)
        assert client.list().data == "ben"


def authorization(header):
    return {"authorization": header["authorization"]}


def test_bad_credentials_replace_nothing(ann, no_lease):
    with signed_in(ann) as client:
        reply = client.request("authenticate", data={"authorization": "Token bad"})
        assert (reply.status_code, reply.errors) == (401, ["Invalid token."])
        assert reply.headers["WWW-Authenticate"] == "Token"
        assert client.list().data == "ann"


def test_credentials_that_no_class_takes_replace_nothing(ann, no_lease):
    with signed_in(ann) as client:
        reply = client.request("authenticate", data={"authorization": "Unheard-of x"})
        assert (reply.status_code, reply.codes) == (401, ["not_authenticated"])
        assert client.list().data == "ann"


def test_a_session_does_not_vouch_for_a_wrong_password(ann, no_lease):
    """DRF asks its SessionAuthentication first, unless told otherwise."""
    wrong = {"authorization": "Basic " + base64.b64encode(b"ann:wrong").decode()}
    with SocketClient(router.as_asgi(), "/default/", headers=session_header(ann)) as client:
        assert client.request("authenticate", data=wrong).status_code == 403
        assert client.list().data == "ann"


@pytest.mark.parametrize("data", [None, [], "Token x", {}, {"authorization": None}])
def test_authenticate_without_credentials_is_400(ann, no_lease, data):
    with signed_in(ann) as client:
        assert client.request("authenticate", data=data).status_code == 400
        assert client.list().data == "ann"


def test_a_stranger_may_authenticate(ann, no_lease):
    with SocketClient(router.as_asgi(), "/who/") as client:
        assert client.list().status_code == 401
        assert client.request("authenticate", data=token_header(ann)).status_code == 200
        assert client.list().data == "ann"


def test_credentials_hold_for_every_stream_of_the_root_socket(ann, no_lease):
    with SocketClient(router.as_asgi()) as client:
        client.request("authenticate", "who", data=token_header(ann))
        assert client.list("who").data == "ann"
        assert client.list("jwt").status_code == 401


def test_the_session_replaced_by_a_token_no_longer_matters(ann, ben, no_lease):
    with signed_in(ann) as client:
        client.request("authenticate", data=token_header(ben))
        log_out_over_http(client)
        assert client.list().data == "ben"


def test_credentials_shown_by_authenticate_end_like_others(ann, no_lease):
    with SocketClient(router.as_asgi(), "/who/") as client:
        client.request("authenticate", data=token_header(ann))
        Token.objects.all().delete()
        client.send("list")
        assert_closes_with_4401(client)


def test_a_viewsets_own_action_named_authenticate_wins(db):
    with SocketClient(router.as_asgi(), "/open/") as client:
        assert client.request("authenticate", data={"authorization": "x"}).data == "my own"


def jwt_header(user):
    return {"authorization": f"Bearer {AccessToken.for_user(user)}"}


def test_a_jwt_in_the_handshake(ann, no_lease):
    with SocketClient(router.as_asgi(), "/jwt/", headers=jwt_header(ann)) as client:
        assert client.list().data == "ann"


def test_a_jwt_shown_by_authenticate(ann, no_lease):
    with SocketClient(router.as_asgi(), "/jwt/") as client:
        assert client.list().status_code == 401
        assert client.request("authenticate", data=jwt_header(ann)).status_code == 200
        assert client.list().data == "ann"


def test_a_jwt_that_has_expired(ann, no_lease):
    token = AccessToken.for_user(ann)
    token.set_exp(lifetime=timedelta(seconds=-1))
    with SocketClient(router.as_asgi(), "/jwt/", headers=jwt_header(ann)) as client:
        reply = client.request("authenticate", data={"authorization": f"Bearer {token}"})
        assert (reply.status_code, reply.codes[0]["code"]) == (401, "token_not_valid")
        assert client.list().data == "ann"


def test_the_user_of_a_jwt_deactivated(ann, lease):
    with SocketClient(router.as_asgi(), "/jwt/", headers=jwt_header(ann)) as client:
        assert client.list().data == "ann"
        User.objects.update(is_active=False)
        assert_closes_with_4401(client)


# A browser's subprotocol


def in_subprotocol(header):
    encoded = base64.urlsafe_b64encode(header["authorization"].encode()).decode()
    return ["rest-channels", f"authorization.{encoded.rstrip('=')}"]


@pytest.mark.parametrize("path, header", [("/who/", token_header), ("/jwt/", jwt_header)])
def test_a_subprotocol_carries_the_header_and_is_not_echoed(ann, no_lease, path, header):
    with SocketClient(router.as_asgi(), path, subprotocols=in_subprotocol(header(ann))) as client:
        assert client.list().data == "ann"
        assert client.subprotocol == "rest-channels"


def test_a_subprotocol_of_credentials_alone_is_not_echoed(ann, no_lease):
    offered = in_subprotocol(token_header(ann))[1:]
    with SocketClient(router.as_asgi(), "/who/", subprotocols=offered) as client:
        assert client.list().data == "ann"
        assert client.subprotocol is None


@pytest.mark.parametrize("encoded", ["%", "a", "AA", "Cg", "=", "\u2603"])
def test_a_subprotocol_that_cannot_be_read_is_refused(db, encoded):
    offered = ["rest-channels", f"authorization.{encoded}"]
    client = SocketClient(router.as_asgi(), "/open/", subprotocols=offered)
    with pytest.raises(SocketClosed) as refused:
        client.connect()
    assert refused.value.code is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.only_on("sqlite")
def test_subprotocols_on_real_servers(kind):
    with Server(kind) as server:
        header = account(server, "ann")["additional_headers"]["Authorization"]
        offered = in_subprotocol({"authorization": header})
        with server.connect("/members/", subprotocols=offered) as socket:
            assert socket.subprotocol == "rest-channels"
            assert answer(socket, "list")["data"] == {"username": "ann"}


# Logs


def test_no_credentials_in_the_log(ann, lease, caplog):
    caplog.set_level("DEBUG")
    secret = Token.objects.create(user=ann).key
    header = {"authorization": f"Token {secret}"}
    with SocketClient(router.as_asgi(), "/who/", subprotocols=in_subprotocol(header)) as client:
        client.list(headers=header)
        client.request("authenticate", data=header)
        client.request("authenticate", data={"authorization": f"Token {secret}\n"})
        client.request("sign_in", data="nobody", headers=header)
        Token.objects.all().delete()
        client.send("list", headers=header)
        client.send("list")
        client.send_text(f'{{"action": "{secret}"')
    encoded = in_subprotocol(header)[1]
    assert caplog.records
    for record in caplog.records:
        line = caplog.handler.format(record)
        assert secret not in line
        assert encoded not in line


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.only_on("sqlite")
def test_no_credentials_in_what_a_server_writes(kind):
    with Server(kind, is_loud=True) as server:
        headers = account(server, "ann")["additional_headers"]
        header = {"authorization": headers["Authorization"]}
        offered = in_subprotocol(header)
        with server.connect("/probes/", subprotocols=offered, additional_headers=headers) as socket:
            assert answer(socket, "me", headers=header)["data"] == {"username": "ann"}
            assert answer(socket, "authenticate", data=header)["response_status"] == 200
            assert answer(socket, "crash", headers=header)["response_status"] == 500
            assert answer(socket, "me", data=header)["response_status"] == 200
    assert "A secret of the project's." in server.output
    assert header["authorization"].removeprefix("Token ") not in server.output
    assert offered[1] not in server.output
