"""Whose pages may open a socket."""

from __future__ import annotations

import pytest
from django.test import override_settings

from rest_channels.origin import is_trusted
from rest_channels.request import HandshakeRequest


def trusts(origin: str | None, *, host: str = "testserver", scheme: str = "ws", **headers) -> bool:
    named = {"host": host, **headers}
    if origin is not None:
        named["origin"] = origin
    encoded = [(name.replace("_", "-").encode(), v.encode()) for name, v in named.items()]
    scope = {"type": "websocket", "scheme": scheme, "path": "/", "headers": encoded}
    return is_trusted(HandshakeRequest({**scope, "server": ("127.0.0.1", 8000)}))


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
