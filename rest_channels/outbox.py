"""
What is on its way to the client, bounded in bytes.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from rest_channels.protocol import MISSING, CloseCode, Missing, Reply, byte_length, in_envelope

logger = logging.getLogger("rest_channels")

Send = Callable[[Mapping[str, Any]], Awaitable[None]]

#: Makes the text to send in the place of one that the server refused, with the error's opaque id.
Instead = Callable[[str], str]


class Outbox:
    """
    Text on its way to the client: at most `max_bytes` of it wait, and one at a time is sent.

    On the loop. After `close` or `discard` whatever is put is forgotten.
    """

    def __init__(self, send: Send, max_bytes: int) -> None:
        self.send = send
        self.is_closed = False
        self._max_bytes = max_bytes
        self._queue: deque[tuple[Mapping[str, Any], Instead | None]] = deque()
        self._waiting_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._sent = asyncio.Event()

    async def put(self, text: str, instead: Instead | None = None) -> None:
        """
        Send `text` once the client has read enough of what came before it; what `instead` makes
        where the server does not take it.
        """
        while self._is_full(text) and not self.is_closed:
            self._sent.clear()
            await self._sent.wait()
        self._append(text, instead)

    def post(self, text: str, instead: Instead | None = None) -> None:
        """Send `text` without waiting; a client that has not read enough is closed with 4408."""
        if self._is_full(text):
            self._forget_queue()
            self.close(CloseCode.TOO_SLOW)
        self._append(text, instead)

    def close(self, code: int) -> None:
        """Close the socket after what is queued."""
        if not self.is_closed:
            self.is_closed = True
            self._enqueue({"type": "websocket.close", "code": int(code)})
            self._sent.set()

    def discard(self) -> None:
        """Forget everything: the client is gone."""
        self.is_closed = True
        self._forget_queue()
        if self._writer is not None:
            self._writer.cancel()

    def _forget_queue(self) -> None:
        self._queue.clear()
        self._waiting_bytes = 0
        self._sent.set()

    def _is_full(self, text: str) -> bool:
        waits = self._writer is not None
        return waits and self._waiting_bytes + byte_length(text) > self._max_bytes

    def _append(self, text: str, instead: Instead | None) -> None:
        if not self.is_closed:
            self._waiting_bytes += byte_length(text)
            self._enqueue({"type": "websocket.send", "text": text}, instead)

    def _enqueue(self, message: Mapping[str, Any], instead: Instead | None = None) -> None:
        self._queue.append((message, instead))
        if self._writer is None:
            self._writer = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        try:
            while self._queue:
                message, instead = self._queue.popleft()
                await self._give(message, instead)
                # Below zero never: the queue may have been forgotten meanwhile.
                sent = byte_length(message.get("text", ""))
                self._waiting_bytes = max(0, self._waiting_bytes - sent)
                self._sent.set()
        except OSError:
            # The server saw the client go before the connection's own loop was told.
            self.is_closed = True
            self._forget_queue()
        finally:
            self._writer = None

    async def _give(self, message: Mapping[str, Any], instead: Instead | None) -> None:
        try:
            await self.send(message)
        except OSError:
            raise
        except Exception:
            # A limit of the server's own, on lengths or on close codes. A frame without a reply,
            # or a socket that stays open and mute, would be worse than a lesser message.
            error_id = uuid.uuid4().hex
            logger.exception("The server refused %s (error %s)", message["type"], error_id)
            if message["type"] == "websocket.close":
                await self.send({"type": "websocket.close"})
            elif instead is not None:
                await self.send({"type": "websocket.send", "text": instead(error_id)})


class Wire:
    """The outbox for one stream: replies in its envelope, where the socket has envelopes."""

    def __init__(self, outbox: Outbox, stream: str | Missing | None = MISSING) -> None:
        self.outbox = outbox
        self.stream = stream

    async def put(self, reply: Reply) -> None:
        """Send `reply` once there is room."""
        await self.outbox.put(reply.encode(self.stream), partial(self._unsent, reply))

    def post(self, reply: Reply) -> None:
        """Send `reply` at once."""
        self.outbox.post(reply.encode(self.stream), partial(self._unsent, reply))

    async def put_payload(self, text: str) -> None:
        """Send a payload that is JSON text already, once there is room."""
        await self.outbox.put(in_envelope(text, self.stream))

    def _unsent(self, reply: Reply, error_id: str) -> str:
        detail = f"The reply could not be sent (error {error_id})."
        return Reply.error(500, detail, "error", to=reply).encode(self.stream)
