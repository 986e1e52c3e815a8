"""
What is on its way to the client, bounded in bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rest_channels.counters import counters
from rest_channels.eager import going_on, is_servers_own, start
from rest_channels.faults import reply_to_fault
from rest_channels.protocol import MISSING, CloseCode, Missing, Reply, byte_length, in_envelope

logger = logging.getLogger("rest_channels")

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Instead = Callable[[Exception], str] | None


class Outbox:
    """
    Text on its way to the client: at most `max_bytes` of it wait, and one at a time is sent.

    On the loop. After `close` or `discard` whatever is put is forgotten. From `hold` to `release`
    all of it waits: for the socket to open.

    Events of subscriptions are sent while there `has_room`, which is half of it: the rest is for
    replies. What waits of them elsewhere, merged, is counted in `backlog_bytes`, what waits here
    in `waiting_bytes`.
    """

    def __init__(self, send: Send, max_bytes: int) -> None:
        self.send = send
        self.is_closed = False
        self._max_bytes = max_bytes
        self._queue: deque[tuple[Mapping[str, Any], Instead]] = deque()
        self.waiting_bytes = 0
        self._is_plain = is_servers_own(send)
        self._is_writing = False
        # The task of the writing, where it waits.
        self._writer: asyncio.Task[None] | None = None
        self._is_held = False
        self._sent = asyncio.Event()
        self.backlog_bytes = 0
        self._on_room: deque[Callable[[], None]] = deque()

    @property
    def has_room(self) -> bool:
        """Whether what need not be sent now may be."""
        return self.waiting_bytes * 2 <= self._max_bytes

    @property
    def is_behind(self) -> bool:
        """Whether more waits elsewhere than a client may be behind."""
        return self.backlog_bytes > self._max_bytes

    def when_room(self, call: Callable[[], None]) -> None:
        """Call `call` once when there is room; never, where the socket is closed before."""
        self._on_room.append(call)

    async def room(self) -> None:
        """Wait until there is room, or the socket is closed."""
        while not (self.has_room or self.is_closed):
            self._sent.clear()
            await self._sent.wait()

    def hold(self) -> None:
        """Send nothing until `release`: before a socket is accepted nothing may be sent."""
        self._is_held = True

    def release(self) -> None:
        """Send what was put since `hold`."""
        self._is_held = False
        self._begin()

    async def put(self, text: str, instead: Instead = None) -> None:
        """
        Send `text` once the client has read enough of what came before it.

        `instead` gives the text to send where the server refuses `text` (see
        `rest_channels.daphne`); where it is None, that closes the socket with 1011.
        """
        # Held, nothing is sent that could be waited for.
        while self._is_full(text) and not self.is_closed and not self._is_held:
            self._sent.clear()
            await self._sent.wait()
        self._append(text, instead)

    def post(self, text: str) -> None:
        """Send `text` without waiting; a client that has not read enough is closed with 4408."""
        if self._is_full(text):
            self.give_up_client()
        self._append(text)

    def give_up_client(self) -> None:
        """Forget what waits, and close the socket of a client that is too slow to read it."""
        if not self.is_closed:
            counters.too_slow += 1
        self._forget_queue()
        self.close(CloseCode.TOO_SLOW)

    def offer(self, text: str) -> None:
        """Send `text` if the client is keeping up; what it does not matter to lose."""
        if self.waiting_bytes <= self._max_bytes // 4:
            self.post(text)

    def close(self, code: int) -> None:
        """Close the socket after what is queued."""
        if not self.is_closed:
            self.is_closed = True
            self._enqueue({"type": "websocket.close", "code": int(code)}, None)
            self._sent.set()

    def discard(self) -> None:
        """Forget everything: the client is gone."""
        self._give_up()
        if self._writer is not None:
            self._writer.cancel()

    def _give_up(self) -> None:
        self.is_closed = True
        self._forget_queue()

    def _forget_queue(self) -> None:
        self._queue.clear()
        self._on_room.clear()
        self.waiting_bytes = 0
        self._sent.set()

    def _is_full(self, text: str) -> bool:
        waits = self._is_writing or bool(self._queue)
        return waits and self.waiting_bytes + byte_length(text) > self._max_bytes

    def _append(self, text: str, instead: Instead = None) -> None:
        if self.is_closed:
            return
        message = {"type": "websocket.send", "text": text}
        if self._is_plain and not (self._queue or self._is_writing or self._is_held):
            self._send_at_once(message, instead)
        else:
            self.waiting_bytes += byte_length(text)
            self._enqueue(message, instead)

    def _send_at_once(self, message: Mapping[str, Any], instead: Instead) -> None:
        """
        Nothing waits: hand it to the server without a queue and a task, unless it has to wait.
        For most of what is sent this is the whole way.
        """
        self._is_writing = True
        sending = self.send(message)
        try:
            awaited = sending.send(None)  # type: ignore[attr-defined]
        except StopIteration:
            self._is_writing = False
        except Exception as exc:
            self._is_writing = False
            self._on_failed(message, instead, exc)
        else:
            self.waiting_bytes += byte_length(message["text"])
            rest = going_on(sending, awaited)
            self._writer = start(self._write((message, instead, rest)), is_plain=True)
            return
        # What was put meanwhile.
        self._begin()

    def _enqueue(self, message: Mapping[str, Any], instead: Instead) -> None:
        self._queue.append((message, instead))
        self._begin()

    def _begin(self) -> None:
        if self._queue and not (self._is_writing or self._is_held):
            self._is_writing = True
            self._writer = start(self._write(), is_plain=self._is_plain)

    async def _write(self, begun: tuple[Mapping[str, Any], Instead, Any] | None = None) -> None:
        """Send what is queued, after what has `begun`: a message, and the rest of its sending."""
        try:
            while begun is not None or self._queue:
                if begun is None:
                    message, instead = self._queue.popleft()
                    if message["type"] == "websocket.close":
                        # Servers wait for the client's answer, and not for ever: their timeout
                        # binds to the current task, which must be our own. Here it may be
                        # another's, or none; from the next step on it is.
                        await asyncio.sleep(0)
                    sending = self.send(message)
                else:
                    (message, instead, sending), begun = begun, None
                try:
                    await sending
                except Exception as exc:
                    self._on_failed(message, instead, exc)
                # Below zero never: the queue may have been forgotten meanwhile.
                sent = byte_length(message.get("text", ""))
                self.waiting_bytes = max(0, self.waiting_bytes - sent)
                self._sent.set()
                while self._on_room and self.has_room:
                    self._on_room.popleft()()
        finally:
            self._is_writing = False
            self._writer = None

    def _on_failed(self, message: Mapping[str, Any], instead: Instead, exc: Exception) -> None:
        if isinstance(exc, OSError):
            # The server saw the client go before the connection's own loop was told.
            self._give_up()
        else:
            self._on_refused(message, instead, exc)

    def _on_refused(self, message: Mapping[str, Any], instead: Instead, exc: Exception) -> None:
        """The server raised `exc` and sent nothing: the client must not wait for it in silence."""
        if message["type"] == "websocket.close":
            self._forget_queue()
            if message["code"] < 3000:
                # daphne lets an application close with 1000 and 3000 to 4999, nothing else.
                code = message["code"] + 3000
                self._queue.append(({"type": "websocket.close", "code": code}, None))
        elif instead is not None:
            text = instead(exc)
            self.waiting_bytes += byte_length(text)
            self._queue.appendleft(({"type": "websocket.send", "text": text}, None))
        else:
            logger.error("The server failed to send: the socket is closed.", exc_info=exc)
            self._forget_queue()
            self.close(CloseCode.SERVER_ERROR)


class Wire:
    """The outbox for one stream: replies in its envelope, where the socket has envelopes."""

    def __init__(self, outbox: Outbox, stream: str | Missing | None = MISSING) -> None:
        self.outbox = outbox
        self.stream = stream

    async def put(self, reply: Reply) -> None:
        """Send `reply` once there is room; a 500 where the server refuses it."""
        # Of a generator's items none is the last reply: where one is lost, so is the socket.
        instead = None if reply.status == 206 else lambda exc: self._failure(reply, exc)
        await self.outbox.put(reply.encode(self.stream), instead)

    def post(self, reply: Reply) -> None:
        """Send `reply` at once."""
        self.outbox.post(reply.encode(self.stream))

    def post_payload(self, text: str) -> None:
        """Send a payload that is JSON text already, at once."""
        self.outbox.post(in_envelope(text, self.stream))

    def offer_payload(self, text: str) -> None:
        """Send a payload that is JSON text already, if the client is keeping up."""
        self.outbox.offer(in_envelope(text, self.stream))

    async def put_payload(self, text: str) -> None:
        """Send a payload that is JSON text already, once there is room."""
        await self.outbox.put(in_envelope(text, self.stream))

    def _failure(self, reply: Reply, exc: Exception) -> str:
        message = "The server failed to send the reply to %r"
        return reply_to_fault(exc, message, reply.action, to=reply).encode(self.stream)
