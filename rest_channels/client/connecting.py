"""How a client is made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar, Unpack, overload

from rest_channels.client.api import AnyApi, Api
from rest_channels.client.core import ClientCore
from rest_channels.client.limits import Limits
from rest_channels.client.network import Auth, WebsocketNetwork, address_of

A = TypeVar("A", bound=Api)


class Options(TypedDict, total=False):
    """The options of `connect`."""

    #: A token of REST framework: the same as `auth` with "Token ..." of it.
    token: str
    #: A function that returns the value of an `Authorization` header, or an awaitable of one, or
    #: None if nobody is signed in. It is called for each connection, with True if the server has
    #: refused or ended the former credentials.
    auth: Auth
    #: Added to the query string of the handshake, which applies to every frame.
    query: Mapping[str, Any]
    #: `authorization`, `accept` and `accept-language` of every frame.
    headers: Mapping[str, str]
    #: Headers of the handshake, such as `Cookie`, which apply to every frame.
    handshake_headers: Mapping[str, str]
    #: The field with the key by stream, if it is not `id`.
    keys: Mapping[str, str]
    #: False: replies to writes do not wait for live lists.
    fence: bool
    #: False: writes have no idempotency key, and are not repeated.
    idempotency: bool
    #: Bounds of the client.
    limits: Limits
    #: Options of `websockets.connect`, such as `ssl` and `proxy`.
    websocket: Mapping[str, Any]


@overload
def connect(url: str, **options: Unpack[Options]) -> AnyApi: ...
@overload
def connect(url: str, streams: type[A], **options: Unpack[Options]) -> A: ...


def connect(url: str, streams: type[Api] = AnyApi, **options: Unpack[Options]) -> Api:
    """
    Open a websocket to `url`, the root of a router, and return its streams as attributes.

    Call it while an event loop runs; the client belongs to that loop. `streams` is a subclass
    of `Api` that names its streams, for type checkers.

    Raises `ValueError` if `url` is not an address.
    """
    headers = options.get("headers")
    auth = _auth(options)
    network = WebsocketNetwork(
        address_of(url, options.get("query")),
        auth,
        options.get("handshake_headers", {}),
        options.get("websocket", {}),
    )
    core = ClientCore(
        asyncio.get_running_loop(),
        network,
        has_auth=auth is not None,
        keys=options.get("keys"),
        limits=options.get("limits"),
        fence=options.get("fence", True),
        idempotency=options.get("idempotency", True),
    )
    network.report_to(core.line)
    core.start()
    return streams(core, network, headers)


def _auth(options: Options) -> Auth | None:
    token = options.get("token")
    if token is None:
        return options.get("auth")
    if "auth" in options:
        raise TypeError("connect() takes 'token' or 'auth', not both.")

    def fixed(is_expired: bool) -> str | None:
        # The server has refused it: there is no other.
        return None if is_expired else f"Token {token}"

    return fixed
