"""Which address a socket comes from, and whether it may be bounded."""

from __future__ import annotations

import pytest
from django.test import override_settings

from rest_channels.sockets.addresses import address_of
from rest_channels.sockets.request import HandshakeRequest


def address(peer, forwarded=None):
    headers = [(b"host", b"testserver")]
    if forwarded is not None:
        headers.append((b"x-forwarded-for", forwarded.encode()))
    scope = {"type": "websocket", "path": "/", "headers": headers, "client": peer and (peer, 1)}
    return tuple(address_of(HandshakeRequest(scope)))


def behind(num_proxies):
    return override_settings(REST_FRAMEWORK={"NUM_PROXIES": num_proxies})


def test_no_header_is_believed_by_default():
    assert address("9.9.9.9", "8.8.8.8") == ("9.9.9.9", True)
    assert address("127.0.0.1", "8.8.8.8") == ("127.0.0.1", False)


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "100.64.0.1", "::1", "fd00::1", "fe80::1%eth0"]
)
def test_a_peer_that_may_be_a_proxy_is_not_taken_for_one_client(peer):
    assert not address(peer)[1]


@pytest.mark.parametrize("peer", [None, "", "testclient"])
def test_a_socket_without_an_address_is_not_taken_for_one_client(peer):
    assert not address(peer)[1]


def test_drf_says_how_many_proxies_are_believed():
    with behind(1):
        assert address("10.0.0.1", "6.6.6.6, 9.9.9.9") == ("9.9.9.9", True)
    with behind(2):
        assert address("10.0.0.1", "6.6.6.6, 9.9.9.9") == ("6.6.6.6", True)
    with behind(0):
        assert address("10.0.0.1", "6.6.6.6") == ("10.0.0.1", True)
    with behind(1):
        # Without the header it came past the proxy.
        assert address("10.0.0.1") == ("10.0.0.1", True)


@pytest.mark.parametrize(
    ("forwarded", "name"),
    [
        ("9.9.9.9:50000", "9.9.9.9"),
        ("[2620:fe:0:1::fe]:443", "2620:fe:0:1::/64"),
        ("unknown", "unknown"),
        ("x" * 10_000, "x" * 64),
    ],
)
def test_what_proxies_write_is_read(forwarded, name):
    with behind(1):
        assert address("10.0.0.1", forwarded) == (name, True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2620:fe::9", "2620:fe::ffff:1:2:3"),
        ("::ffff:9.9.9.9", "9.9.9.9"),
        ("64:ff9b::909:909", "9.9.9.9"),
    ],
)
def test_addresses_of_one_client_are_one(one, other):
    assert address(one) == address(other)
    assert address(one)[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2620:fe::9", "2620:fe:0:1::9"),
        ("::ffff:9.9.9.9", "::ffff:8.8.8.8"),
        ("64:ff9b::909:909", "64:ff9b::808:808"),
    ],
)
def test_addresses_of_two_clients_are_two(one, other):
    assert address(one) != address(other)
