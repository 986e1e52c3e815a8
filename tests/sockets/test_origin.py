"""The origins whose pages may open a socket."""

from __future__ import annotations

import pytest
from channels.routing import URLRouter
from django.test import override_settings

from rest_channels.routers import SimpleRouter
from rest_channels.sockets import handshake as origins
from rest_channels.sockets.handshake import is_trusted_origin
from rest_channels.sockets.request import HandshakeRequest
from rest_channels.test import SocketClient, SocketClosed
from tests.support.clocks import Clock
from tests.support.talk import OpenViewSet


def trusts(origin: str | None, *, host: str = "testserver", scheme: str = "ws", **headers) -> bool:
    named = {"host": host, **headers}
    if origin is not None:
        named["origin"] = origin
    encoded = [(name.replace("_", "-").encode(), v.encode()) for name, v in named.items()]
    scope = {"type": "websocket", "scheme": scheme, "path": "/", "headers": encoded}
    return is_trusted_origin(HandshakeRequest({**scope, "server": ("127.0.0.1", 8000)}))


def test_the_sites_own_pages_are_trusted():
    assert trusts("http://testserver")
    assert trusts("https://testserver", scheme="wss")
    assert trusts("http://localhost:8000", host="localhost:8000")


def test_what_is_no_browser_has_no_origin():
    assert trusts(None)
    assert trusts(None, host="rebound.example")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://testserver:8000",
        "https://testserver",
        "http://testserver.evil.example",
        "http://eviltestserver",
        "http://sub.testserver",
        "http://testserver@evil.example",
        "http://testserver/",
        "http://testserver,http://evil.example",
        "testserver",
        "//testserver",
        "null",
        "",
        "http://[",
        "file://",
    ],
)
def test_any_other_page_is_not(origin):
    assert not trusts(origin)


def test_a_plain_page_is_none_of_a_secure_site():
    assert not trusts("http://testserver", scheme="wss")


def test_a_rebound_name_is_not_the_sites_own():
    assert not trusts("http://rebound.example", host="rebound.example")


@pytest.mark.parametrize("origin", ["http://testserver", "https://app.example"])
def test_origins_for_forms_are_origins_for_sockets(origin):
    with override_settings(CSRF_TRUSTED_ORIGINS=["https://app.example", "https://*.sub.example"]):
        assert trusts(origin)
        assert trusts("https://a.sub.example") and trusts("https://a.b.sub.example")
        assert not trusts("http://a.sub.example")
        assert not trusts("https://sub.example.evil.example")
        assert not trusts("https://evilsub.example")
    assert not trusts("https://app.example")


def test_origins_for_sockets_alone_are_exact():
    with override_settings(REST_CHANNELS={"ALLOWED_ORIGINS": ["https://app.example"]}):
        assert trusts("https://app.example")
        assert trusts("https://app.example", host="rebound.example")
        for other in ("http://app.example", "https://app.example:8443", "https://a.app.example"):
            assert not trusts(other)
    assert not trusts("https://app.example")


@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
def test_behind_a_proxy_the_scheme_is_what_the_proxy_says():
    assert trusts("https://testserver", x_forwarded_proto="https")
    assert not trusts("http://testserver", x_forwarded_proto="https")


@override_settings(USE_X_FORWARDED_HOST=True)
def test_behind_a_proxy_the_host_is_what_the_proxy_says():
    assert trusts("http://localhost", host="inner", x_forwarded_host="localhost")
    assert not trusts("http://evil.example", host="inner", x_forwarded_host="evil.example")


# What is not trusted is logged


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(origins, "_warned", {})
    monkeypatch.setattr(origins, "time", Clock())
    return origins.time


class RoomViewSet(OpenViewSet):
    def list(self, request):
        raise NotImplementedError


router = SimpleRouter()
router.register("rooms", RoomViewSet, "rooms")


def refused(origin):
    with pytest.raises(SocketClosed) as closed:
        SocketClient(router.as_asgi(), "/rooms/", headers={"origin": origin}).connect()
    assert closed.value.code is None


def opened_by_hand(origin):
    with SocketClient(URLRouter(router.urls), "/rooms/", headers={"origin": origin}) as client:
        client.connect()


@pytest.mark.parametrize("visit", [refused, opened_by_hand])
def test_an_origin_is_logged_once_a_minute_with_what_admits_it(clock, caplog, visit):
    visit("http://evil.example")
    visit("http://evil.example")
    [line] = caplog.messages
    for word in ("'http://evil.example'", "ALLOWED_ORIGINS", "CSRF_TRUSTED_ORIGINS",
                 "ALLOWED_HOSTS"):  # fmt: skip
        assert word in line
    visit("http://other.example")
    assert len(caplog.messages) == 2
    clock.now += 59
    visit("http://evil.example")
    assert len(caplog.messages) == 2
    clock.now += 1
    visit("http://evil.example")
    assert len(caplog.messages) == 3


def test_origins_that_a_client_makes_up_fill_neither_log_nor_memory(clock, caplog):
    for number in range(150):
        refused(f"http://{number}.example/{'x' * 1000}\n")
    assert len(caplog.messages) == len(origins._warned) == 100
    assert all(len(line) < 1000 and "\n" not in line for line in caplog.messages)
