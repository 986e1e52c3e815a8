"""
What Daphne's `send` lacks, so that a socket is the same there as on other servers.

ASGI's `send` is the place to wait while a client does not read. Daphne's returns at once, and its
transport keeps whatever is not read, without a bound. It does not close with 1009 or 1011 either,
and it holds replies to the length that incoming messages may have (1 MiB, from Daphne 4.2.3 on).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from rest_channels.outbox import Send


def full_send(send: Send) -> Send:
    """
    `send` itself, or in the place of Daphne's a `DaphneSend`.

    On the loop, before the socket is accepted. Looks through Channels' session middleware. Behind
    other middleware that gives a `send` of its own, Daphne's is not known: there nothing bounds
    what a client does not read.
    """
    inner: Any = send
    while hasattr(getattr(inner, "__self__", None), "real_send"):
        inner = inner.__self__.real_send
    # What daphne.server.Server.create_application gives: partial(self.handle_reply, protocol).
    protocol = inner.args[0] if isinstance(inner, partial) and inner.args else None
    if hasattr(protocol, "sendCloseFrame") and hasattr(protocol, "transport"):
        return DaphneSend(send, protocol)
    return send


class DaphneSend:
    """
    A `send` that waits while the transport's buffer is full.

    Twisted tells it so: by its methods' names it is an IPushProducer, registered with the
    transport.
    """

    def __init__(self, send: Send, protocol: Any) -> None:
        self._send = send
        self._protocol = protocol
        self._has_room = asyncio.Event()
        self._has_room.set()
        # In the place of the HTTP channel that the upgraded transport came from.
        protocol.transport.unregisterProducer()
        protocol.transport.registerProducer(self, True)

    async def __call__(self, message: Mapping[str, Any]) -> None:
        await self._has_room.wait()
        protocol = self._protocol
        if protocol.state == protocol.STATE_OPEN:
            await self._send_open(message)
        elif message["type"] == "websocket.send":
            # What ASGI asks of servers, for a client that has gone.
            raise ConnectionResetError("The client has closed the socket.")
        else:
            await self._send(message)

    async def _send_open(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "websocket.close":
            # Not `sendClose`, which takes no codes between 1000 and 3000.
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
        """The client is gone."""
        self._has_room.set()
