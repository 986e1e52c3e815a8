"""
Text on its way to the client, bounded in bytes.

Most messages can be handed to the server at once, so a coroutine that sends is started at once: a
task is made only for the rest of a coroutine that has to wait.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from typing import Any, Final

from rest_channels.metrics import figures
from rest_channels.observing.observers import end_frame
from rest_channels.observing.reports import FrameReport
from rest_channels.protocol import MISSING, CloseCode, Missing, Reply, byte_length, in_envelope
from rest_channels.settings import socket_settings
from rest_channels.sockets.response import reply_to_fault

logger = logging.getLogger("rest_channels")


# The modules of servers' objects whose method `send` is. They wait for events and locks, and never
# ask which task they are in.
_SERVERS: Final = (
    "uvicorn.protocols.websockets.",
    "gunicorn.asgi.",
    "rest_channels.contrib.servers",
)


def is_servers_own(send: Callable[..., Any]) -> bool:
    """
    Return whether `send` is a server's, without middleware in between.

    Middleware may use `asyncio.timeout` or the like, which binds to the current task.
    """
    owner = getattr(send, "__self__", send)
    # Channels' session middleware, which changes only handshakes.
    while (inner := getattr(owner, "real_send", None)) is not None:
        owner = getattr(inner, "__self__", inner)
    return type(owner).__module__.startswith(_SERVERS)


def start(coroutine: Coroutine[Any, Any, None], *, is_plain: bool) -> asyncio.Task[None] | None:
    """
    Run `coroutine` until it waits; return the task that continues it, None if it has ended.

    On the loop. Before Python 3.12, only if it `is_plain`: code before its first wait would take
    the caller's task for its own. Without `SHORT_CUTS`, all of it runs in a task.
    """
    loop = asyncio.get_running_loop()
    if not socket_settings.SHORT_CUTS:
        return loop.create_task(coroutine)
    if sys.version_info >= (3, 12):
        task = asyncio.Task(coroutine, loop=loop, eager_start=True)
        return None if task.done() else task
    if not is_plain:
        return loop.create_task(coroutine)
    try:
        awaited = coroutine.send(None)
    except StopIteration:
        return None
    task = loop.create_task(going_on(coroutine, awaited))
    # A task cancelled before its first step never enters its coroutine.
    task.add_done_callback(lambda _: coroutine.close())
    return task


async def going_on(coroutine: Any, awaited: Any) -> None:
    """Continue `coroutine`, whose first step waits for `awaited`."""
    await _rest(coroutine, awaited)


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """Continue `coroutine`, which waits for `awaited`."""
    resume: Callable[[Any], Any]
    while True:
        try:
            given = yield awaited
        except BaseException as exc:
            resume, given = coroutine.throw, exc
        else:
            resume = coroutine.send
        try:
            awaited = resume(given)
        except StopIteration:
            return


Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Instead = Callable[[Exception], str] | None


class Outbox:
    """
    Text on its way to the client: at most `max_bytes` of it wait, and one text at a time is sent.

    On the loop. After `close` or `discard`, further texts are dropped. From `hold` to `release`,
    all texts wait for the socket to open.

    Events of subscriptions are sent while the outbox `has_room`, which is half of it: the rest is
    for replies. `waiting_bytes` counts the texts that wait here, `backlog_bytes` the merged events
    that wait elsewhere.
    """

    def __init__(self, send: Send, max_bytes: int) -> None:
        self.send = send
        self.is_closed = False
        #: The code of `close`; None if the client is gone without it.
        self.closed_with: int | None = None
        self._max_bytes = max_bytes
        self._queue: deque[tuple[Mapping[str, Any], Instead]] = deque()
        self.waiting_bytes = 0
        #: The number of messages so far.
        self.sent_count = 0
        self._is_plain = socket_settings.SHORT_CUTS and is_servers_own(send)
        self._is_writing = False
        # The task that writes, if it waits.
        self._writer: asyncio.Task[None] | None = None
        self._is_held = False
        self._sent = asyncio.Event()
        self.backlog_bytes = 0
        self._on_room: deque[Callable[[], None]] = deque()

    @property
    def has_room(self) -> bool:
        """Whether there is room for text that may be delayed."""
        return self.waiting_bytes * 2 <= self._max_bytes

    @property
    def is_behind(self) -> bool:
        """Whether the backlog exceeds the limit of a client."""
        return self.backlog_bytes > self._max_bytes

    def when_room(self, call: Callable[[], None]) -> None:
        """Call `call` once when there is room; never if the socket closes first."""
        self._on_room.append(call)

    async def room(self) -> None:
        """Wait until there is room, or the socket is closed."""
        while not (self.has_room or self.is_closed):
            self._sent.clear()
            await self._sent.wait()

    def hold(self) -> None:
        """Send nothing until `release`, because a socket must be accepted first."""
        self._is_held = True

    def forget(self) -> None:
        """Drop the texts that wait."""
        if not self.is_closed:
            self._forget_queue()

    def release(self) -> None:
        """Send the texts put since `hold`."""
        self._is_held = False
        self._begin()

    async def put(self, text: str, instead: Instead = None) -> None:
        """
        Send `text` once the client has read enough of the texts before it.

        If the server refuses `text` (see `rest_channels.contrib.servers`), `instead` returns the
        text to send in its place; if `instead` is None, the socket closes with 1011.
        """
        # While held, nothing is sent that could be waited for.
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
        """Drop the texts that wait, and close the socket of a client that reads too slowly."""
        if not self.is_closed:
            figures.too_slow.add()
        self._forget_queue()
        self.close(CloseCode.TOO_SLOW)

    def offer(self, text: str) -> None:
        """Send `text` if the client keeps up, else drop it."""
        if self.waiting_bytes <= self._max_bytes // 4:
            self.post(text)

    def close(self, code: int) -> None:
        """Close the socket after the texts in the queue."""
        if not self.is_closed:
            self.is_closed = True
            self.closed_with = int(code)
            self._enqueue({"type": "websocket.close", "code": int(code)}, None)
            self._sent.set()

    def discard(self) -> None:
        """Drop everything, because the client is gone."""
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
        self.sent_count += 1
        message = {"type": "websocket.send", "text": text}
        if self._is_plain and not (self._queue or self._is_writing or self._is_held):
            self._send_at_once(message, instead)
        else:
            self.waiting_bytes += byte_length(text)
            self._enqueue(message, instead)

    def _send_at_once(self, message: Mapping[str, Any], instead: Instead) -> None:
        """
        Hand a text to the server without a queue and a task, unless it has to wait.

        Most texts need nothing more.
        """
        self._is_writing = True
        sending = self.send(message)
        try:
            awaited = sending.send(None)  # type: ignore[attr-defined]  # the server's own: a coroutine
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
        # Send the texts that were put meanwhile.
        self._begin()

    def _enqueue(self, message: Mapping[str, Any], instead: Instead) -> None:
        self._queue.append((message, instead))
        self._begin()

    def _begin(self) -> None:
        if self._queue and not (self._is_writing or self._is_held):
            self._is_writing = True
            self._writer = start(self._write(), is_plain=self._is_plain)

    async def _write(self, begun: tuple[Mapping[str, Any], Instead, Any] | None = None) -> None:
        """
        Send the queued texts, after the one that has `begun`.

        That is a message, its substitute, and the rest of its sending.
        """
        try:
            while begun is not None or self._queue:
                if begun is None:
                    message, instead = self._queue.popleft()
                    if message["type"] == "websocket.close":
                        # Servers wait for the client's answer with a timeout, which binds to the
                        # current task: it must be our own. Before this step it may be another's, or
                        # none.
                        await asyncio.sleep(0)
                    sending = self.send(message)
                else:
                    (message, instead, sending), begun = begun, None
                try:
                    await sending
                except Exception as exc:
                    self._on_failed(message, instead, exc)
                # Clamp at zero: the queue may have been cleared.
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
            # The server noticed the client's departure before the connection's own loop did.
            self._give_up()
        else:
            self._on_refused(message, instead, exc)

    def _on_refused(self, message: Mapping[str, Any], instead: Instead, exc: Exception) -> None:
        """
        Replace a message that the server refused, so that the client does not wait in silence.
        """
        if message["type"] == "websocket.close":
            self._forget_queue()
            if message["code"] < 3000:
                # daphne lets an application close only with 1000 and 3000 to 4999.
                code = message["code"] + 3000
                self._queue.append(({"type": "websocket.close", "code": code}, None))
        elif instead is not None:
            text = instead(exc)
            self.waiting_bytes += byte_length(text)
            self._queue.appendleft(({"type": "websocket.send", "text": text}, None))
        else:
            logger.error("The server failed to send: closing the socket.", exc_info=exc)
            self._forget_queue()
            self.close(CloseCode.SERVER_ERROR)


class StreamWriter:
    """
    The outbox for one stream: replies in its envelope, if the socket has envelopes.

    `report` is that of the frame which a reply answers, if there are observers.
    """

    def __init__(self, outbox: Outbox, stream: str | Missing | None = MISSING) -> None:
        self.outbox = outbox
        self.stream = stream

    async def put(self, reply: Reply, report: FrameReport | None = None) -> None:
        """Send `reply` once there is room; a 500 if the server refuses it."""
        # An item of a generator is not the last reply: if one is lost, the socket closes.
        instead = None if reply.status == 206 else lambda exc: self._failure(reply, exc)
        text = reply.encode(self.stream)
        await self.outbox.put(text, instead)
        if report is not None:
            self._report(report, reply, text)

    def post(self, reply: Reply, report: FrameReport | None = None) -> None:
        """Send `reply` at once."""
        text = reply.encode(self.stream)
        self.outbox.post(text)
        if report is not None:
            self._report(report, reply, text)

    def post_payload(self, text: str) -> None:
        """Send a payload that is JSON text already, at once."""
        self.outbox.post(in_envelope(text, self.stream))

    def offer_payload(self, text: str) -> None:
        """Send a payload that is JSON text already, if the client is keeping up."""
        self.outbox.offer(in_envelope(text, self.stream))

    async def put_payload(self, text: str, report: FrameReport | None = None) -> None:
        """Send a payload that is JSON text already, once there is room."""
        text = in_envelope(text, self.stream)
        await self.outbox.put(text)
        if report is not None:
            self._count(report, text)

    def _report(self, report: FrameReport, reply: Reply, text: str) -> None:
        """Note in `report` that the outbox has `reply`; the last one ends the frame."""
        self._count(report, text)
        if reply.status == 206:
            report.parts += 1
            return
        report.action, report.request_id = reply.action, reply.request_id
        report.is_replayed = "replayed" in reply.extra
        report.is_throttled = reply.status == 429 and '"throttled"' in (reply.codes or "")
        report.error_id = reply.error_id
        end_frame(report, reply.status)

    def _count(self, report: FrameReport, text: str) -> None:
        report.is_sent = not self.outbox.is_closed
        if report.is_sent:
            report.bytes_out += byte_length(text)

    def _failure(self, reply: Reply, exc: Exception) -> str:
        message = "The server failed to send the reply to %r"
        return reply_to_fault(exc, message, reply.action, to=reply).encode(self.stream)
