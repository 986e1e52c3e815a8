"""
Servers: a check for outdated versions, and `full_send`, which completes Daphne's `send`.

ASGI's `send` is the place to wait while a client does not read. Daphne's returns at once, and its
transport keeps unread text without a bound. Daphne also does not close with 1009 or 1011, and
limits replies to the length of incoming messages (1 MiB, from Daphne 4.2.2 on).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple

from django.core.checks import CheckMessage, Warning
from django.utils.version import get_version_tuple

from rest_channels.sockets.outbox import Send


class _Bound(NamedTuple):
    #: The oldest supported version; that of the extra of the same name in setup.cfg.
    oldest: str
    #: The fault of the versions before it.
    before: str


BOUNDS: Final = {
    "uvicorn": _Bound(
        "0.52.1",
        "its implementation websockets-sansio, the default from 0.50 on, does not wait for clients "
        "that do not read: unread messages stay in memory without a bound",
    ),
    "daphne": _Bound(
        "4.2.2",
        "it accepts messages of any length, and passes on headers that other servers "
        "refuse (CVE-2026-44545, CVE-2026-44546)",
    ),
}


def check_servers(**kwargs: Any) -> list[CheckMessage]:
    """Return W013."""
    return [
        Warning(
            f"{name} {installed} is installed: {BOUNDS[name].before}.",
            hint=f"Install {name}>={BOUNDS[name].oldest}, or uninstall it if another server serves "
            "the sockets.",
            id="rest_channels.W013",
        )
        for name, installed in _installed()
        if get_version_tuple(installed) < get_version_tuple(BOUNDS[name].oldest)
    ]


def _installed() -> Iterator[tuple[str, str]]:
    for name in BOUNDS:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def full_send(send: Send) -> Send:
    """
    Return `send` itself, or a `DaphneSend` in place of Daphne's.

    On the loop, before the socket is accepted. It finds Daphne's `send` behind Channels' session
    middleware. Behind other middleware with a `send` of its own it cannot, and unread messages are
    not bounded.
    """
    inner: Any = send
    while hasattr(getattr(inner, "__self__", None), "real_send"):
        inner = inner.__self__.real_send
    # daphne.server.Server.create_application gives partial(self.handle_reply, protocol).
    protocol = inner.args[0] if isinstance(inner, partial) and inner.args else None
    if hasattr(protocol, "sendCloseFrame") and hasattr(protocol, "transport"):
        return DaphneSend(send, protocol)
    return send


class DaphneSend:
    """
    A `send` that waits while the transport's buffer is full.

    Twisted reports that to an IPushProducer registered with the transport, which is what the names
    of these methods make it.
    """

    def __init__(self, send: Send, protocol: Any) -> None:
        self._send = send
        self._protocol = protocol
        self._has_room = asyncio.Event()
        self._has_room.set()
        # In place of the HTTP channel that the upgraded transport came from.
        protocol.transport.unregisterProducer()
        protocol.transport.registerProducer(self, True)

    async def __call__(self, message: Mapping[str, Any]) -> None:
        await self._has_room.wait()
        protocol = self._protocol
        if protocol.state == protocol.STATE_OPEN:
            await self._send_open(message)
        elif message["type"] == "websocket.send":
            # ASGI requires this of servers once the client has gone.
            raise ConnectionResetError("The client has closed the socket.")
        else:
            await self._send(message)

    async def _send_open(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "websocket.close":
            # Not `sendClose`, which accepts no codes between 1000 and 3000.
            self._protocol.sendCloseFrame(code=message.get("code") or 1000)
            return
        limit, self._protocol.maxMessagePayloadSize = self._protocol.maxMessagePayloadSize, 0
        try:
            await self._send(message)
        finally:
            self._protocol.maxMessagePayloadSize = limit

    def pauseProducing(self) -> None:
        self._has_room.clear()

    def resumeProducing(self) -> None:
        self._has_room.set()

    def stopProducing(self) -> None:
        """Note that the client is gone."""
        self._has_room.set()
