"""
The address that a socket comes from, as bounds and shares of threads use it.

It is the peer's, unless DRF's setting `NUM_PROXIES` says how many proxies add to
`X-Forwarded-For`; no header is believed without it. An IPv6 network of 64 bits counts as one
address, because one client has all of it.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple

from django.http import HttpRequest
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle

# Longer than any address; a proxy that is counted wrongly passes on what clients write.
_MAX_CHARS: Final = 64

# Some proxies add the port: 9.9.9.9:50000, [2620:fe::fe]:50000.
_WITH_PORT: Final = re.compile(r"([\d.]+):\d+|\[([^\]]+)\](?::\d+)?")

# The addresses behind it are of the IPv4 internet (RFC 6052).
_NAT64: Final = IPv6Network("64:ff9b::/96")


class Address(NamedTuple):
    """The `name` of an address or network, and whether it `is_one_client`'s, to be bounded."""

    name: str
    is_one_client: bool


def address_of(handshake: HttpRequest) -> Address:
    """
    Return where `handshake` comes from.

    Without `NUM_PROXIES`, a peer on this machine or in a private network may be a proxy that
    hides the addresses of all clients, so it is not taken for one client.
    """
    if api_settings.NUM_PROXIES is None:
        peer = handshake.META.get("REMOTE_ADDR", "")
        address = _parsed(peer)
        return Address(_name(peer, address), address is not None and address.is_global)
    found = BaseThrottle().get_ident(handshake) or ""
    return Address(_name(found, _parsed(found)), bool(found))


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address
    return address


def _name(text: str, address: IPv4Address | IPv6Address | None) -> str:
    if isinstance(address, IPv6Address):
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return text[:_MAX_CHARS] if address is None else str(address)
