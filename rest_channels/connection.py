"""
One socket: frames in, in order; replies out; bounds on both.

Everything here runs on the event loop. The work is done in `rest_channels.exchange`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.urls.resolvers import RegexPattern, RoutePattern

from rest_channels.authentication import Credentials
from rest_channels.exceptions import FrameError
from rest_channels.exchange import Exchange
from rest_channels.protocol import SUBPROTOCOL, CloseCode, Frame, Reply, decode
from rest_channels.request import Handshake, Scope
from rest_channels.settings import socket_settings
from rest_channels.streams import Stream

logger = logging.getLogger("rest_channels")

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Connection:
    """
    One socket: what the sockets of one stream and of many have in common.

    Made for each handshake and awaited once through `serve`. Subclasses say in `on_value` whose
    a message is, in `on_unreadable` who answers what is none, and in `encode` how a reply looks.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, pattern: RegexPattern | RoutePattern
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.pattern = pattern
        self.outbox = Outbox(send, socket_settings.MAX_QUEUE_BYTES)
        self._lanes: dict[Stream, Lane] = {}
        self._crash: BaseException | None = None

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Application:
        """An ASGI application that makes one connection a handshake."""
        return Application(cls, initkwargs)

    async def serve(self) -> None:
        """The socket's life, from the handshake to the last reply."""
        self._main = asyncio.current_task()
        message = await self.receive()
        if message["type"] != "websocket.connect":
            raise ValueError(f"A websocket begins with websocket.connect, not {message['type']}.")
        self.handshake = self.shake_hands()
        await self.accept()
        try:
            while (message := await self.receive())["type"] == "websocket.receive":
                self.on_message(message.get("text"))
                if self.outbox.is_closed:
                    break  # by us: whatever else comes is no longer read
            await self.finish()
        except asyncio.CancelledError:
            if self._crash is None:
                raise
            raise self._crash from None
        finally:
            for lane in self._lanes.values():
                lane.cancel()
            self.outbox.discard()

    def shake_hands(self) -> Handshake:
        """What the handshake says that every frame will need."""
        credentials = Credentials(self.scope)
        if not credentials.is_trusted:
            logger.warning(
                "Cookies of a websocket from an untrusted origin do not count: add the origin to "
                "CSRF_TRUSTED_ORIGINS or REST_CHANNELS['ALLOWED_ORIGINS'] to trust its pages."
            )
        kwargs = self.scope.get("url_route", {}).get("kwargs", {})
        return Handshake(self.scope, credentials, kwargs, _mount(self.scope["path"], self.pattern))

    async def accept(self) -> None:
        """Open the socket; with our subprotocol where the client offers it, else with none."""
        offered = self.scope.get("subprotocols", [])
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered else None
        await self.outbox.send({"type": "websocket.accept", "subprotocol": subprotocol})

    def on_message(self, text: str | None) -> None:
        """Take one message of the client's: into its lane, or answered as unreadable."""
        if text is None:
            self.on_unreadable(FrameError("A frame is text, not binary."))
        elif byte_length(text) > socket_settings.MAX_FRAME_BYTES:
            self.outbox.close(CloseCode.FRAME_TOO_LONG)
        else:
            try:
                value = decode(text, max_depth=socket_settings.MAX_FRAME_DEPTH)
            except FrameError as error:
                self.on_unreadable(error)
            else:
                self.on_value(value)

    def on_unreadable(self, error: FrameError) -> None:
        """Answer a message that is no JSON."""
        raise NotImplementedError

    def on_value(self, value: Any) -> None:
        """Answer one decoded message."""
        raise NotImplementedError

    def encode(self, stream: Stream, reply: Reply) -> str:
        """The text of a reply of `stream`'s."""
        raise NotImplementedError

    def on_payload(self, stream: Stream, payload: Any, *, is_row: bool = False) -> None:
        """Answer one message to `stream`."""
        try:
            frame = read_frame(payload)
        except FrameError as error:
            self.enqueue(stream, refused(error), error)
            return
        if frame.action == "cancel" and "cancel" not in stream.actions:
            self.post(stream, self.cancel(stream, frame))
        else:
            self.enqueue(stream, Exchange(stream, frame, self.handshake, is_row=is_row), frame)

    def enqueue(self, stream: Stream, job: Exchange | Reply, asked: Frame | FrameError) -> None:
        """
        Let `job` answer what was asked in its turn. Beyond `MAX_IN_FLIGHT` a 503 says at once
        that it won't: it overtakes the replies before it, for it asks to wait for them.
        """
        if sum(map(len, self._lanes.values())) < socket_settings.MAX_IN_FLIGHT:
            self.lane(stream).put(job)
        else:
            detail = "Too many requests at once: wait for replies before sending more."
            self.post(stream, Reply.error(503, detail, "too_many_in_flight", to=asked))

    def lane(self, stream: Stream) -> Lane:
        """Where the frames of `stream` wait for their turn."""
        lane = self._lanes.get(stream)
        if lane is None:
            lane = self._lanes[stream] = Lane(
                stream.max_in_flight, lambda job: self.answer(stream, job), self.on_crash
            )
        return lane

    async def answer(self, stream: Stream, job: Exchange | Reply) -> None:
        """Send everything that `job` has to say, as the client reads it."""
        if isinstance(job, Reply):
            await self.outbox.put(self.encode(stream, job))
            return
        async for reply in job.replies():
            await self.outbox.put(self.encode(stream, reply))

    def post(self, stream: Stream, reply: Reply) -> None:
        """Send `reply` without waiting for its turn."""
        self.outbox.post(self.encode(stream, reply))

    def cancel(self, stream: Stream, frame: Frame) -> Reply:
        """Stop the exchange that `frame.data` names: 204, or 404 where there is none."""
        if not isinstance(frame.data, dict) or "request_id" not in frame.data:
            detail = "'data' names the 'request_id' to cancel."
            return Reply.error(400, detail, "required", to=frame)
        named = [
            job
            for job in self.lane(stream).jobs
            if isinstance(job, Exchange)
            and is_same_id(job.frame.request_id, frame.data["request_id"])
        ]
        for exchange in named:
            exchange.cancel()
        if named:
            return Reply(204, action=frame.action, request_id=frame.request_id)
        return Reply.error(404, "No request of that id is in flight.", "not_found", to=frame)

    async def finish(self) -> None:
        """
        The client is gone: let plain actions end, in their order, for what was sent counts;
        stop async and generator actions.
        """
        self.outbox.discard()
        for lane in self._lanes.values():
            for job in lane.jobs:
                if isinstance(job, Exchange):
                    job.stop()
        for lane in self._lanes.values():
            await lane.join()

    def on_crash(self, exc: BaseException) -> None:
        """Let the server see what `DEBUG_PROPAGATE_EXCEPTIONS` asks to propagate."""
        self._crash = exc
        if self._main is not None:
            self._main.cancel()


class StreamConnection(Connection):
    """A viewset's own socket: each message is a payload. On a row's, its lookup is bound."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        stream: Stream,
        pattern: RegexPattern | RoutePattern,
        is_row: bool = False,
    ) -> None:
        super().__init__(scope, receive, send, pattern=pattern)
        self.stream = stream
        self.is_row = is_row

    def on_unreadable(self, error: FrameError) -> None:
        self.enqueue(self.stream, refused(error), error)

    def on_value(self, value: Any) -> None:
        self.on_payload(self.stream, value, is_row=self.is_row)

    def encode(self, stream: Stream, reply: Reply) -> str:
        return reply.encode()


class Application:
    """The ASGI application of a route; `initkwargs` are what its connections are made with."""

    def __init__(self, connection_class: type[Connection], initkwargs: dict[str, Any]) -> None:
        self.connection_class = connection_class
        self.initkwargs = initkwargs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.connection_class(scope, receive, send, **self.initkwargs).serve()


class Lane:
    """
    The frames of one stream: first in, first out, `limit` of them at a time.

    `answer` is awaited for each job in a task of its own; `on_crash` is told what it raises.
    """

    def __init__(
        self,
        limit: int,
        answer: Callable[[Exchange | Reply], Awaitable[None]],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._limit = limit
        self._answer = answer
        self._on_crash = on_crash
        self._waiting: deque[Exchange | Reply] = deque()
        self._running: dict[asyncio.Task[None], Exchange | Reply] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    @property
    def jobs(self) -> list[Exchange | Reply]:
        """Those running and those waiting, oldest first."""
        return [*self._running.values(), *self._waiting]

    def put(self, job: Exchange | Reply) -> None:
        self._waiting.append(job)
        self._advance()

    async def join(self) -> None:
        """Wait until nothing runs or waits."""
        while self._running:
            await asyncio.wait(self._running)

    def cancel(self) -> None:
        """Drop what waits and interrupt what runs."""
        self._waiting.clear()
        for task in self._running:
            task.cancel()

    def _advance(self) -> None:
        while self._waiting and len(self._running) < self._limit:
            job = self._waiting.popleft()
            task = asyncio.ensure_future(self._answer(job))
            self._running[task] = job
            task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._on_crash(exc)
        self._advance()


class Outbox:
    """
    Text on its way to the client: at most `max_bytes` of it wait, and one at a time is sent.
    """

    def __init__(self, send: Send, max_bytes: int) -> None:
        self.send = send
        self.is_closed = False
        self._max_bytes = max_bytes
        self._queue: deque[Mapping[str, Any]] = deque()
        self._queued_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._sent = asyncio.Event()

    async def put(self, text: str) -> None:
        """Send `text` once the client has read enough of what came before it."""
        while self._is_full(text) and not self.is_closed:
            self._sent.clear()
            await self._sent.wait()
        self._append(text)

    def post(self, text: str) -> None:
        """Send `text` without waiting; a client that has not read enough is closed with 4408."""
        if self._is_full(text):
            self.discard_queue()
            self.close(CloseCode.TOO_SLOW)
        self._append(text)

    def close(self, code: CloseCode) -> None:
        """Close the socket after what is queued."""
        if not self.is_closed:
            self._enqueue({"type": "websocket.close", "code": int(code)})
            self.is_closed = True

    def discard(self) -> None:
        """Forget everything: the client is gone."""
        self.is_closed = True
        self.discard_queue()
        if self._writer is not None:
            self._writer.cancel()

    def discard_queue(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0
        self._sent.set()

    def _is_full(self, text: str) -> bool:
        return bool(self._queue) and self._queued_bytes + byte_length(text) > self._max_bytes

    def _append(self, text: str) -> None:
        if not self.is_closed:
            self._queued_bytes += byte_length(text)
            self._enqueue({"type": "websocket.send", "text": text})

    def _enqueue(self, message: Mapping[str, Any]) -> None:
        self._queue.append(message)
        if self._writer is None:
            self._writer = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        try:
            while self._queue:
                message = self._queue.popleft()
                await self.send(message)
                self._queued_bytes -= byte_length(message.get("text", ""))
                self._sent.set()
        except OSError:
            # The server saw the client go before the loop in `serve` was told.
            self.discard()
        finally:
            self._writer = None


def read_frame(payload: Any) -> Frame:
    """The frame that `payload` is. Raises `FrameError`."""
    return Frame.from_payload(payload, max_request_id_chars=socket_settings.MAX_REQUEST_ID_CHARS)


def refused(error: FrameError) -> Reply:
    """The reply to a message that is no frame."""
    return Reply.error(error.status, error.detail, error.code, to=error)


def is_same_id(one: Any, other: Any) -> bool:
    """Whether two request ids are the same: 1 is not "1", nor true."""
    return type(one) is type(other) and one == other


def byte_length(text: str) -> int:
    """The length of `text` in UTF-8, without encoding what is plain ASCII."""
    return len(text) if text.isascii() else len(text.encode())


def _mount(path: str, pattern: RegexPattern | RoutePattern) -> str:
    """
    Where on this path the router that `pattern` belongs to is mounted; ends with a slash.

    Channels' URLRouter tells what it matched, not where: the leftmost slash behind which the
    pattern matches the rest.
    """
    position = path.find("/")
    while position != -1:
        if pattern.match(path[position + 1 :]) is not None:
            return path[: position + 1]
        position = path.find("/", position + 1)
    return "/"
