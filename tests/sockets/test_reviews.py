"""A review of sessions and users judges what it asked about, whatever happens while it reads."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from rest_framework import authentication, permissions
from rest_framework.authtoken.models import Token
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from rest_channels import authentication as rest_channels_authentication
from rest_channels.authentication import Credentials
from rest_channels.protocol import Frame
from rest_channels.sockets import revalidation
from rest_channels.sockets.dispatch import Authentication, Exchange
from rest_channels.sockets.request import Handshake
from rest_channels.sockets.streams import Stream
from tests.support.talk import OpenViewSet


class WhoViewSet(OpenViewSet):
    authentication_classes = [
        authentication.TokenAuthentication,
        authentication.SessionAuthentication,
    ]
    permission_classes = [permissions.IsAuthenticated]

    #: Events while a `list` is answered.
    meanwhile = None

    def list(self, request):
        name = request.user.username
        if type(self).meanwhile is not None:
            type(self).meanwhile()
        return Response(name)


class Socket:
    """A socket without a server: its credentials, and frames in this thread."""

    stream = Stream(WhoViewSet, "who", "who", SimpleRouter())

    def __init__(self, **headers):
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": encoded}
        self.credentials = Credentials(scope)
        self.handshake = Handshake(scope, self.credentials, {})

    def list(self):
        return Exchange(self.stream, Frame("list"), self.handshake).begin()

    def authenticate(self, header):
        frame = Frame("authenticate", data=header)
        assert Authentication(self.stream, frame, self.handshake).begin().status == 200

    def is_there(self):
        return not self.credentials.has_ended and self.list().status == 200


def session(user):
    http = Client()
    http.force_login(user)
    return {"cookie": f"sessionid={http.cookies['sessionid'].value}"}


def token(user):
    return {"authorization": f"Token {Token.objects.get_or_create(user=user)[0].key}"}


@pytest.fixture
def ann(db):
    return User.objects.create_user("ann")


@pytest.fixture
def ben(db):
    return User.objects.create_user("ben")


@pytest.fixture(autouse=True)
def no_lease(settings, monkeypatch):
    settings.REST_CHANNELS = {"LEASE_SECONDS": 3600}
    monkeypatch.setattr(WhoViewSet, "meanwhile", None)


@pytest.fixture
def review(monkeypatch):
    """Review sockets; `meanwhile` happens once users have been read, before they are judged."""

    def review(*sockets, meanwhile=lambda: None):
        read = revalidation._usable_users

        def usable_users(pks):
            users = read(pks)
            meanwhile()
            return users

        with monkeypatch.context() as patch:
            patch.setattr(revalidation, "_usable_users", usable_users)
            revalidation._review([socket.credentials for socket in sockets])

    return review


@pytest.mark.parametrize("header", [session, token])
def test_who_shows_up_meanwhile_stays(review, ann, ben, header):
    known, new = Socket(**session(ben)), Socket(**header(ann))
    assert known.is_there()
    review(known, new, meanwhile=new.list)
    assert known.is_there()
    assert new.is_there()


def test_a_user_whom_the_handshake_reads_meanwhile_stays(review, ann):
    new = Socket(**session(ann))
    review(new, meanwhile=new.credentials.read)
    assert new.is_there()


@pytest.mark.parametrize("before", [session, token])
def test_who_authenticates_meanwhile_is_not_judged_by_the_credentials_before(
    review, ann, ben, before
):
    socket = Socket(**before(ann))
    assert socket.is_there()
    User.objects.filter(pk=ann.pk).update(is_active=False)
    review(socket, meanwhile=lambda: socket.authenticate(token(ben)))
    assert socket.is_there()


def test_who_is_gone_is_closed_beside_one_who_shows_up(review, ann, ben):
    gone, new = Socket(**session(ben)), Socket(**session(ann))
    assert gone.is_there()
    Session.objects.filter(session_key=gone.credentials.session_key).delete()
    review(gone, new, meanwhile=new.list)
    assert gone.credentials.has_ended
    assert new.is_there()


def test_what_was_doubted_while_it_was_read_stays_in_doubt(review, ann):
    socket = Socket(**session(ann))
    assert socket.is_there()
    review(socket, meanwhile=socket.credentials.doubt)
    assert socket.credentials.read_at == float("inf")


def test_what_a_frame_read_in_doubt_stays_in_doubt(ann, monkeypatch):
    socket = Socket(**session(ann))
    read = rest_channels_authentication.session_user

    def session_user(request):
        user = read(request)
        socket.credentials.doubt()
        return user

    assert socket.list().status == 200
    socket.credentials.doubt()
    monkeypatch.setattr(rest_channels_authentication, "session_user", session_user)
    assert socket.list().status == 200
    assert socket.credentials.read_at == float("inf")


def test_a_frame_of_the_credentials_before_does_not_name_the_user(ann, ben):
    socket = Socket(**token(ann))
    WhoViewSet.meanwhile = lambda: socket.authenticate(token(ben))
    assert socket.list().data == '"ann"'
    assert socket.credentials.user_pk == ben.pk


def test_a_frame_of_the_credentials_before_ends_nothing(ann, ben, monkeypatch):
    socket = Socket(**token(ann))
    assert socket.is_there()
    Token.objects.filter(user=ann).delete()
    refuse = authentication.TokenAuthentication.authenticate_credentials
    once = [token(ben)]

    def refuse_late(self, key):
        if once:
            socket.authenticate(once.pop())
        return refuse(self, key)

    monkeypatch.setattr(authentication.TokenAuthentication, "authenticate_credentials", refuse_late)
    assert socket.list().status == 401
    assert socket.is_there()


def test_a_sign_out_elsewhere_ends_nothing_that_was_replaced(ann, ben):
    socket = Socket(**session(ann))
    assert socket.is_there()
    claim = socket.credentials.claim
    socket.authenticate(token(ben))
    socket.credentials.end(claim)
    assert socket.is_there()


class Bearer:
    """A user by the claims of a token, who need not be in the database."""

    is_authenticated = is_active = True

    def __init__(self, pk):
        self.pk, self.username = pk, f"bearer {pk}"


class ByBearer(authentication.BaseAuthentication):
    def authenticate(self, request):
        return Bearer(request.headers["authorization"]), None


class BearerViewSet(WhoViewSet):
    authentication_classes = [ByBearer]


class BearerSocket(Socket):
    stream = Stream(BearerViewSet, "who", "who", SimpleRouter())


@pytest.mark.parametrize("pk", ["a name", "999", None])
def test_users_whom_no_row_stands_for_are_not_looked_up(review, ann, pk):
    """They stay, and the others of the same review are read."""
    socket, other = BearerSocket(authorization=pk or str(ann.pk)), Socket(**token(ann))
    assert socket.is_there()
    assert other.is_there()
    User.objects.filter(pk=ann.pk).update(is_active=False)
    review(socket, other)
    assert socket.is_there()
    assert other.credentials.has_ended
