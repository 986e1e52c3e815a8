"""Bounds of clients that open many sockets or subscriptions."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.test import override_settings
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.decorators import action
from rest_framework.response import Response
from websockets.exceptions import InvalidStatus

import rest_channels
from rest_channels.observing.paced_warnings import Pace
from rest_channels.routers import DefaultRouter
from rest_channels.sockets import admission, ratelimit
from rest_channels.test import SocketClient, SocketClosed
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room
from tests.support.clocks import Clock
from tests.support.server_processes import KINDS, Server, answer, close_code

pytestmark = pytest.mark.django_db


BACKEND = "django.contrib.auth.backends.ModelBackend"


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name"]


class Rooms(ModelConsumerViewSet):
    queryset = Room.objects.order_by("pk")
    serializer_class = RoomSerializer
    authentication_classes = [TokenAuthentication, SessionAuthentication]
    permission_classes = []

    @action(detail=False, methods=["post"])
    def sign_in(self, request):
        login(request, User.objects.get(username=request.data), BACKEND)
        return Response()

    @action(detail=False)
    def feed(self, request):
        return self.subscribe(request)


router = DefaultRouter()
router.register("rooms", Rooms, "rooms")
application = router.as_asgi()


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """With bounds of addresses behind one proxy, and nothing counted or warned of yet."""
    clock = Clock()
    monkeypatch.setattr(ratelimit, "time", clock)
    for name in ("_handshakes", "_subscriptions"):
        monkeypatch.setattr(admission, name, admission.Rates())
    monkeypatch.setattr(admission, "_pace", Pace())
    with override_settings(REST_FRAMEWORK={"NUM_PROXIES": 1}):
        yield clock


@pytest.fixture
def counted():
    """Figures since the test began, without zeros."""
    before = rest_channels.stats()

    def counts():
        now = rest_channels.stats()
        names = [n for n in before if n.startswith(("excess_", "floods")) and now[n] != before[n]]
        return {name: now[name] - before[name] for name in names}

    return counts


def user(name):
    return User.objects.get_or_create(username=name)[0]


def token_of(name):
    return f"Token {Token.objects.get_or_create(user=user(name))[0]}"


def client(name=None, *, address="9.9.9.9", **headers):
    if name is not None:
        headers["authorization"] = token_of(name)
    return SocketClient(application, "/rooms/", headers={"x-forwarded-for": address, **headers})


def opened(stack, *args, **kwargs):
    """A socket that is open until the `stack` ends."""
    socket = stack.enter_context(client(*args, **kwargs))
    assert socket.list().status_code == 200
    return socket


def refused_with(*args, **kwargs):
    """The code that a socket is closed with at once; None where the handshake is refused."""
    with client(*args, **kwargs) as socket, pytest.raises(SocketClosed) as closed:
        socket.list()
    return closed.value.code


def authenticate(socket, name):
    return socket.request("authenticate", data={"authorization": token_of(name)})


def subscribe(socket):
    return socket.request("subscribe", request_id="s")


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack
    assert len(admission.sockets_of_users) == len(admission.sockets_of_addresses) == 0


# Open sockets of a user


def test_a_user_has_so_many_sockets_and_no_more(settings, stack, counted, caplog):
    settings.REST_CHANNELS = {"MAX_CONNECTIONS_PER_USER": 2}
    first = opened(stack, "ann")
    opened(stack, "ann", address="8.8.8.8")
    assert refused_with("ann") == refused_with("ann") == 4429
    opened(stack, "ben")
    opened(stack)
    opened(stack)
    assert counted() == {"excess_user_connections": 2}
    [line] = caplog.messages
    assert "REST_CHANNELS['MAX_CONNECTIONS_PER_USER']" in line
    first.close()
    opened(stack, "ann")


def test_a_user_who_signs_in_later_counts_as_well(settings, stack, counted):
    settings.REST_CHANNELS = {"MAX_CONNECTIONS_PER_USER": 1}
    opened(stack, "ann")
    stranger = opened(stack)
    assert authenticate(stranger, "ben").status_code == 200
    assert refused_with("ben") == 4429
    with pytest.raises(SocketClosed, match="4429"):
        authenticate(stranger, "ann")
        stranger.list()
    # A socket that changed hands is not counted for its former user.
    opened(stack, "ben")
    assert counted() == {"excess_user_connections": 2}


def test_a_session_counts_for_its_user(settings, stack):
    settings.REST_CHANNELS = {"MAX_CONNECTIONS_PER_USER": 1}
    opened(stack, "ann")
    with client() as socket, pytest.raises(SocketClosed, match="4429"):
        user("ann")
        assert socket.request("sign_in", data="ann").status_code == 200
        socket.list()
        socket.list()


def test_without_bounds_nothing_is_refused(settings, stack):
    settings.REST_CHANNELS = dict.fromkeys(
        ["MAX_CONNECTIONS_PER_USER", "MAX_CONNECTIONS_PER_ADDRESS", "HANDSHAKE_RATE"]
    )
    for _ in range(5):
        opened(stack, "ann")


# Open sockets of an address


def test_an_address_has_so_many_sockets_and_no_more(settings, stack, counted, caplog):
    settings.REST_CHANNELS = {"MAX_CONNECTIONS_PER_ADDRESS": 2}
    opened(stack, "ann", address="2620:fe::1")
    first = opened(stack, address="2620:fe::2")
    assert refused_with("ben", address="2620:fe::3") == 4429
    opened(stack, address="2620:fe:0:1::1")
    assert counted() == {"excess_address_connections": 1}
    [line] = caplog.messages
    assert "met by the address 2620:fe::/64" in line and "NUM_PROXIES" in line
    first.close()
    opened(stack, address="2620:fe::3")


def test_a_proxy_that_hides_addresses_is_not_taken_for_one_client(settings, stack, counted):
    settings.REST_FRAMEWORK = {}
    settings.REST_CHANNELS = {
        **{"MAX_CONNECTIONS_PER_ADDRESS": 1, "HANDSHAKE_RATE": 0.1, "HANDSHAKE_BURST": 1},
        **{"SUBSCRIBE_RATE": 0.1, "SUBSCRIBE_BURST": 1},
    }
    for _ in range(3):
        socket = opened(stack)
        assert subscribe(socket).status_code == 201
        assert subscribe(socket).status_code == 201
    assert counted() == {}


# Handshakes a second


def test_handshakes_of_an_address_have_a_rate(settings, stack, counted, clock):
    settings.REST_CHANNELS = {"HANDSHAKE_RATE": 0.5, "HANDSHAKE_BURST": 2}
    opened(stack)
    opened(stack).close()
    for _ in range(5):
        assert refused_with() == 4429
    opened(stack, address="8.8.8.8")
    # Those that were refused delay nobody.
    clock.now += 2
    opened(stack)
    assert refused_with() == 4429
    assert counted() == {"excess_handshakes": 6}


def test_a_handshake_too_many_costs_no_query(settings, stack, django_assert_num_queries):
    settings.REST_CHANNELS = {"HANDSHAKE_RATE": 0.5, "HANDSHAKE_BURST": 1}
    opened(stack)
    headers = {"authorization": token_of("ann")}
    with django_assert_num_queries(0):
        assert refused_with(**headers) == 4429


def test_clients_that_ask_for_statuses_get_one(settings, stack):
    settings.REST_CHANNELS = {
        **{"HANDSHAKE_RATE": 0.5, "HANDSHAKE_BURST": 1, "REFUSE_HANDSHAKES": True}
    }
    opened(stack)
    assert refused_with() is None


def test_only_so_many_are_told_at_a_time(settings, stack, monkeypatch):
    """A client that never answers the close keeps its socket for seconds."""
    settings.REST_CHANNELS = {"HANDSHAKE_RATE": 0.5, "HANDSHAKE_BURST": 1}
    monkeypatch.setattr(admission, "_MOST_TOLD", 1)
    opened(stack)
    with client() as told:
        with pytest.raises(SocketClosed, match="4429"):
            told.list()
        assert refused_with() is None
    assert refused_with() == 4429


# Subscriptions and watches a second


def test_subscriptions_of_a_user_have_a_rate(settings, stack, counted, clock):
    settings.REST_CHANNELS = {"SUBSCRIBE_RATE": 0.5, "SUBSCRIBE_BURST": 3}
    one, two = opened(stack, "ann"), opened(stack, "ann")
    room = Room.objects.create(name="hall")
    assert subscribe(one).status_code == 201
    assert two.request("subscribe_instance", pk=room.pk).status_code == 201
    assert two.request("watch", of="list").status_code == 201
    refused = subscribe(one)
    assert (refused.status_code, refused.codes) == (429, ["throttled"])
    assert 1 < int(refused.headers["Retry-After"]) <= 11
    assert two.request("watch", of="list").status_code == 429
    # The one that it would have replaced goes on, and can be ended.
    assert one.request("unsubscribe", request_id="s").status_code == 204
    assert one.list().status_code == 200
    assert subscribe(opened(stack, "ben")).status_code == 201
    assert counted() == {"excess_subscriptions": 2}
    clock.now += 2
    assert subscribe(one).status_code == 201
    assert subscribe(one).status_code == 429


def test_subscriptions_of_strangers_count_for_their_address(settings, stack):
    settings.REST_CHANNELS = {"SUBSCRIBE_RATE": 0.5, "SUBSCRIBE_BURST": 1}
    assert subscribe(opened(stack)).status_code == 201
    assert subscribe(opened(stack)).status_code == 429
    assert subscribe(opened(stack, address="8.8.8.8")).status_code == 201


def test_an_action_of_ones_own_that_subscribes_counts_once(settings, stack, counted):
    settings.REST_CHANNELS = {"SUBSCRIBE_RATE": 0.5, "SUBSCRIBE_BURST": 2}
    socket = opened(stack, "ann")
    statuses = [socket.request("feed", request_id="s").status_code for _ in range(3)]
    assert statuses == [201, 201, 429]
    assert counted() == {"excess_subscriptions": 1}


def test_no_query_is_made_for_a_subscription_too_many(settings, stack, django_assert_num_queries):
    settings.REST_CHANNELS = {"SUBSCRIBE_RATE": 0.5, "SUBSCRIBE_BURST": 1}
    socket = opened(stack, "ann")
    assert subscribe(socket).status_code == 201
    with django_assert_num_queries(0):
        assert subscribe(socket).status_code == 429


# Frames a second, whose bound is each connection's own


def test_a_flood_of_frames_is_counted(settings, counted):
    settings.REST_CHANNELS = {"FRAME_RATE": 0.1, "FRAME_BURST": 2}
    with client() as socket:
        for status in [400, 400, 429, 429]:
            socket.send_text("no frame")
            assert socket.receive()["response_status"] == status
        socket.send_text("no frame")
        with pytest.raises(SocketClosed, match="4429"):
            socket.receive()
    assert counted() == {"excess_frames": 2, "floods": 1}


# An attacker with many addresses


def test_many_addresses_fill_no_memory(settings):
    """A million networks of 64 bits in turn, as one customer of a provider may have them."""
    rates = admission.Rates()
    for number in range(25_000):
        assert rates.seconds_to_wait(f"2620:fe:{number:x}::/64", 50, 1) is None
    assert len(rates) == 10_000
    # It forgets those that came first.
    assert rates.seconds_to_wait("2620:fe:61a7::/64", 50, 1) is not None
    assert rates.seconds_to_wait("2620:fe:0::/64", 50, 1) is None


# Real servers


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_on_each_server(kind):
    bounds = {"MAX_CONNECTIONS_PER_ADDRESS": 2, "HANDSHAKE_BURST": 4, "HANDSHAKE_RATE": 0.01}
    with Server(kind, num_proxies=0, **bounds) as server:
        with server.connect("/rooms/") as one, server.connect("/rooms/"):
            with server.connect("/rooms/") as three:
                assert close_code(three) == 4429
            assert answer(one, "list")["response_status"] == 200
        with server.connect("/rooms/") as four:
            assert answer(four, "list")["response_status"] == 200
        with server.connect("/rooms/") as five:
            assert close_code(five) == 4429
        assert "HANDSHAKE_RATE" in server.output and "Traceback" not in server.output


@pytest.mark.once
def test_a_refused_handshake_says_429_where_the_server_can():
    bounds = {"HANDSHAKE_BURST": 1, "HANDSHAKE_RATE": 0.01, "REFUSE_HANDSHAKES": True}
    with Server("uvicorn", num_proxies=0, **bounds) as server:
        with server.connect("/rooms/"):
            pass
        with pytest.raises(InvalidStatus) as refused, server.connect("/rooms/"):
            pass
        response = refused.value.response
        assert response.status_code == 429 and int(response.headers["Retry-After"]) >= 1
