"""
One socket: its handshake, its frames, its bounds, its end.

Everything here runs on the event loop. `rest_channels.sockets.queues` interprets frames, and
`rest_channels.sockets.dispatch` answers them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from django.urls.resolvers import RegexPattern, RoutePattern

from rest_channels.authentication import Credentials, UnreadableCredentials
from rest_channels.contrib.dcrf.hosting import HostedConsumer
from rest_channels.contrib.servers import full_send
from rest_channels.exceptions import FrameError, FrameTooLong
from rest_channels.live.delivery.registry import Memberships
from rest_channels.metrics import figures
from rest_channels.observing.observers import begin_frame, observers, tell
from rest_channels.observing.reports import FrameReport, RefusalReason, RefusalReport, SocketReport
from rest_channels.protocol import SUBPROTOCOL, CloseCode, Frame, Reply, byte_length, decode
from rest_channels.settings import socket_settings
from rest_channels.sockets.admission import BEGINNINGS, Admission, excess_subscription
from rest_channels.sockets.frame_limits import AnyStream, longest_message, read_frame, read_long
from rest_channels.sockets.handshake import mount_of, refusal, warn_of_origin
from rest_channels.sockets.outbox import Outbox, Send, StreamWriter
from rest_channels.sockets.queues import StreamQueue
from rest_channels.sockets.ratelimit import RateLimit, Verdict, retry_headers
from rest_channels.sockets.request import (
    FORCED_AUTHENTICATION,
    Handshake,
    Scope,
    activate_script_prefix,
    correlation_id,
)
from rest_channels.sockets.revalidation import leases
from rest_channels.sockets.shutdown import current_departures
from rest_channels.sockets.streams import Stream
from rest_channels.workers.monitoring import Wait, begin_reports, current_stalls
from rest_channels.workers.threads import workers

logger = logging.getLogger("rest_channels")

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

#: RFC 6455: a socket that ends without a close frame.
_ABNORMAL: Final = 1006

_REASONS: Final = {
    CloseCode.CREDENTIALS_ENDED: RefusalReason.NOT_AUTHENTICATED,
    CloseCode.NOT_ALLOWED: RefusalReason.NOT_ALLOWED,
    CloseCode.FLOODING: RefusalReason.TOO_MANY,
}


class Connection(ABC):
    """
    One socket: the common part of sockets of one stream and of many.

    One is made for each handshake and awaited once, in `serve`. Subclasses define the `streams`
    they serve, the `wire` that replies take, the stream of a message in `on_value`, and the answer
    to an invalid message in `on_unreadable`.
    """

    handshake: Handshake
    admission: Admission

    #: The number of objects of a message around its payload's values.
    depth = 1

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, pattern: RegexPattern | RoutePattern
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.pattern = pattern
        self.outbox = Outbox(full_send(send), socket_settings.MAX_QUEUE_BYTES)
        self.outbox.hold()
        self.rate = RateLimit(socket_settings.FRAME_RATE, socket_settings.FRAME_BURST)
        self._queues: dict[AnyStream, StreamQueue | HostedConsumer] = {}
        self.memberships = Memberships(self.count_groups, self.rate.give_back)
        self._is_excess = False
        #: The report of the message that is being taken; None without observers.
        self.report: FrameReport | None = None
        self._is_leaving = False
        self._main: asyncio.Task[Any] | None = None
        self._crash: BaseException | None = None

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Application:
        """Return an ASGI application that makes one connection for each handshake."""
        return Application(cls, initkwargs)

    @property
    @abstractmethod
    def streams(self) -> Iterable[AnyStream]:
        """The streams that this socket serves."""

    @property
    def own_stream(self) -> str | None:
        """The prefix of the only stream; None if frames name theirs."""
        return None

    @abstractmethod
    def wire(self, stream: AnyStream) -> StreamWriter:
        """Return the writer of replies of `stream`."""

    @abstractmethod
    def path_of(self, stream: AnyStream, path: str) -> str:
        """Return the path of `stream`'s own socket, which is `path` below the router's mount."""

    @abstractmethod
    def addressed(self, value: Any) -> tuple[AnyStream | None, Any]:
        """Return the stream that a decoded message is for, or None, and the payload."""

    @abstractmethod
    def on_value(self, value: Any) -> None:
        """Answer one decoded message."""

    @abstractmethod
    def on_unreadable(self, error: FrameError) -> None:
        """Answer a message that is not JSON."""

    async def serve(self) -> None:
        """Serve the socket from the handshake to the last reply."""
        self._main = asyncio.current_task()
        message = await self.receive()
        if message["type"] != "websocket.connect":
            raise ValueError(
                f"A websocket must begin with websocket.connect, not {message['type']}."
            )
        try:
            credentials = Credentials(
                self.scope,
                self._threadsafe(self.on_credentials_end),
                self._threadsafe(self.on_user),
            )
        except UnreadableCredentials:
            self._note_refusal(RefusalReason.CREDENTIALS)
            await self.refuse()
            return
        leases.watch(credentials)
        self.admission = Admission(credentials)
        try:
            code = await self.admit(credentials)
            if code is None:
                await self.accept()
                current_departures().enter(self)
                current_stalls().watch(self)
                begin_reports()
                await self.converse()
            else:
                self._note_refusal(_REASONS[code])
                await self.finish(await self.turn_away(code))
        except asyncio.CancelledError:
            if self._crash is None:
                raise
            raise self._crash from None
        finally:
            leases.forget(credentials)
            self.admission.leave()
            current_departures().exit(self)
            current_stalls().forget(self)
            self.memberships.close()
            for queue in self._queues.values():
                queue.abandon()
            self.outbox.discard()

    async def admit(self, credentials: Credentials) -> CloseCode | None:
        """Return the code to close the socket with at once; None if it stays open."""
        if not self.admission.enter():
            return CloseCode.FLOODING
        code = await self.shake_hands(credentials)
        if code is None and not self.admission.follow():
            return CloseCode.FLOODING
        return code

    async def converse(self) -> None:
        """Serve an accepted socket to its end."""
        began, user_pk = time.perf_counter(), self.handshake.credentials.user_pk
        report = SocketReport(self.scope["path"], began, self.own_stream, user_pk)
        tell(observers.connected, report)
        report.code = _ABNORMAL
        try:
            code = await self.receive_all()
            report.code = self.outbox.closed_with or code
            await self.finish(code)
        finally:
            report.seconds = time.perf_counter() - began
            report.user_pk = self.handshake.credentials.user_pk
            tell(observers.closed, report)

    def _note_refusal(self, reason: RefusalReason) -> None:
        tell(observers.refused, RefusalReport(self.scope["path"], reason))

    async def shake_hands(self, credentials: Credentials) -> CloseCode | None:
        """
        Prepare what every frame needs, and open the streams that open with the socket.

        Returns the code to close it with if the policy of every stream refuses this user; None if
        the socket stays open.
        """
        if not credentials.is_trusted:
            warn_of_origin("its cookies do not count", self.scope)
        kwargs = self.scope.get("url_route", {}).get("kwargs", {})
        mount = mount_of(self.scope["path"], self.pattern)
        self.handshake = Handshake(self.scope, credentials, kwargs, mount)
        guests = [self.invite(s) for s in self.streams if s.opens_with_socket]
        if guests:
            await workers.run(credentials.read, owner=credentials.owner)
        if any(await asyncio.gather(*(guest.opens() for guest in guests))):
            return None
        viewsets = [s for s in self.streams if isinstance(s, Stream) and not s.opens_with_socket]
        # Not together with frames of the same address: behind a proxy all users share it, and the
        # slow frames of others would delay every handshake.
        owner = ("handshake", credentials.owner)
        code = await workers.run(self.refusal, viewsets, owner=owner)
        return code if code is None else max(code, self._refusal_of_guests())

    def refusal(self, streams: list[Stream], *, is_row: bool = False) -> CloseCode | None:
        """
        Return None if one of `streams` would answer this user, else why not; in a worker thread.
        """
        activate_script_prefix(self.scope)
        codes = [CloseCode.CREDENTIALS_ENDED]
        for stream in streams:
            if (code := refusal(stream, self.handshake, is_row=is_row)) is None:
                return None
            codes.append(code)
        return max(codes)

    def _refusal_of_guests(self) -> CloseCode:
        """Return why a socket is refused whose consumers have all refused it."""
        credentials, forced = self.handshake.credentials, self.scope.get(FORCED_AUTHENTICATION)
        is_user = credentials.user_pk is not None or credentials.user_pks
        is_known = is_user or (forced and forced.get("user"))
        return CloseCode.NOT_ALLOWED if is_known else CloseCode.CREDENTIALS_ENDED

    @property
    def explains_refusal(self) -> bool:
        """Whether a refused socket is accepted, to be closed with a code that pages can read."""
        return not socket_settings.REFUSE_HANDSHAKES

    async def turn_away(self, code: CloseCode) -> int:
        """Close a socket that is not admitted; return the code it was closed with."""
        is_excess = code is CloseCode.FLOODING
        if not self.explains_refusal or (is_excess and not self.admission.may_be_told()):
            await self.refuse(is_excess=is_excess)
            return _ABNORMAL
        # Drop the texts of consumers that refused: the code replaces them.
        self.outbox.forget()
        await self.accept()
        self.outbox.close(code)
        await self.receive_all()
        return code

    async def accept(self) -> None:
        """Open the socket; with our subprotocol if the client offers it, else with none."""
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in self.scope.get("subprotocols", []) else None
        for queue in self._queues.values():
            # Only hosted consumers exist yet; one may speak another subprotocol that the client
            # offers.
            subprotocol = subprotocol or queue.subprotocol
        await self.outbox.send({"type": "websocket.accept", "subprotocol": subprotocol})
        self.outbox.release()

    async def refuse(self, *, is_excess: bool = False) -> None:
        """
        Refuse the handshake: before `accept`, that is answered with 403.

        If it `is_excess`, with 429 where the server knows ASGI's extension for it.
        """
        if is_excess and "websocket.http.response" in (self.scope.get("extensions") or {}):
            retry_after = retry_headers()["Retry-After"].encode()
            start = {"status": 429, "headers": [(b"retry-after", retry_after)]}
            await self.outbox.send({"type": "websocket.http.response.start", **start})
            await self.outbox.send({"type": "websocket.http.response.body", "body": b""})
        else:
            await self.outbox.send({"type": "websocket.close"})

    async def receive_all(self) -> int:
        """Take messages until the socket closes; return the code it closed with."""
        while (message := await self.receive())["type"] == "websocket.receive":
            if not self.outbox.is_closed:
                self.on_message(message.get("text"))
        self.outbox.discard()
        return message.get("code") or 1000

    async def finish(self, code: int) -> None:
        """Let every stream finish its work, because the socket is closed."""
        self.memberships.close()
        await asyncio.gather(*(queue.finish(code) for queue in self._queues.values()))

    def on_message(self, text: str | None) -> None:
        """Take one message of the client's, valid or not."""
        figures.frames.add()
        self.report = begin_frame(0 if text is None else byte_length(text))
        verdict = self.rate.take()
        self._is_excess = verdict is Verdict.REFUSE
        if verdict is Verdict.CLOSE:
            figures.floods.add()
            self.outbox.close(CloseCode.FLOODING)
        elif text is None:
            self.on_unreadable(FrameError("A frame must be text, not binary."))
        elif (length := byte_length(text)) > longest_message():
            self.outbox.close(CloseCode.FRAME_TOO_LONG)
        elif length > socket_settings.MAX_FRAME_BYTES:
            self.on_long(text)
        else:
            try:
                value = decode(text, max_depth=socket_settings.MAX_FRAME_DEPTH)
            except FrameError as error:
                self.on_unreadable(error)
            else:
                self.on_value(value)

    def on_long(self, text: str) -> None:
        """Take a message that is longer than others: a subscribe, one at a time."""
        long = read_long(text, depth=self.depth, addressed=self.addressed)
        if long.stream is None:
            self.on_unreadable(long.error or FrameTooLong())
        elif long.error is not None:
            self.answer(long.stream, long.error)
        else:
            self.take(long.stream, long.payload, is_long=True)

    def take(self, stream: AnyStream, payload: Any, *, is_long: bool = False) -> None:
        """Give `payload` to its stream, in its turn, unless a bound is reached."""
        report = self.report
        try:
            frame = read_frame(payload, stream, report)
        except FrameError as error:
            self.answer(stream, error)
            return
        if is_long:
            frame = replace(frame, is_long=True)
        queue = self.queue(stream)
        if report is not None:
            self._describe(report, stream, queue, frame)
        refusal = self.limit(frame, waits=not queue.answers_at_once(frame))
        if refusal is not None:
            self.wire(stream).post(refusal, report)
        else:
            queue.take(frame, payload)

    def _describe(
        self,
        report: FrameReport,
        stream: AnyStream,
        queue: StreamQueue | HostedConsumer,
        frame: Frame,
    ) -> None:
        """Note what `frame` asks for."""
        report.stream, report.operation = stream.prefix, queue.operation(frame)
        report.action, report.request_id = frame.action, frame.request_id
        report.headers = frame.headers
        given = frame.headers.get("x-request-id")
        own = None if given is None else correlation_id(given)
        report.correlation_id = own or self.handshake.correlation_id

    def answer(self, stream: AnyStream, error: FrameError) -> None:
        """Answer an invalid frame, in its turn, unless a bound is reached."""
        if self.report is not None:
            self.report.stream = stream.prefix
        if (refusal := self.limit(error)) is not None:
            self.wire(stream).post(refusal, self.report)
        else:
            self.queue(stream).answer(Reply.refusal(error), self.report)

    def limit(self, asked: Frame | FrameError, *, waits: bool = True) -> Reply | None:
        """
        Return the refusal of a frame above a bound; None if it may be answered.

        The refusal is sent at once: it overtakes the replies before it, because it asks the client
        to wait for them. `waits` is False for an action that will not be in flight: `cancel` and
        `ack`.
        """
        if self._is_excess:
            figures.excess_frames.add()
            retry = {"Retry-After": str(self.rate.retry_after)}
            detail = "Too many requests: slow down."
            return Reply.error(429, detail, "throttled", to=asked, headers=retry)
        if waits and self._is_leaving:
            detail = "The server is shutting down: connect again."
            return Reply.error(503, detail, "unavailable", to=asked, headers=retry_headers())
        if waits and sum(map(len, self._queues.values())) >= socket_settings.MAX_IN_FLIGHT:
            detail = "Too many requests at once: wait for replies before sending more."
            return Reply.error(503, detail, "too_many_in_flight", to=asked)
        is_long = isinstance(asked, Frame) and asked.is_long
        if is_long and any(queue.has_long for queue in self._queues.values()):
            detail = "Too many long frames: wait for the reply to one before sending the next."
            return Reply.error(503, detail, "too_many_in_flight", to=asked)
        if isinstance(asked, Frame) and asked.action in BEGINNINGS:
            return excess_subscription(self.handshake.credentials, asked)
        return None

    def queue(self, stream: AnyStream) -> StreamQueue | HostedConsumer:
        """Return the queue in which the frames of `stream` wait for their turn."""
        queue = self._queues.get(stream)
        if queue is None:
            assert isinstance(stream, Stream), "hosted consumers open with the socket"
            queue = self._queues[stream] = self.new_queue(stream)
        return queue

    def new_queue(self, stream: Stream) -> StreamQueue:
        return StreamQueue(
            stream, self.handshake, self.wire(stream), self.on_crash, self.memberships
        )

    def invite(self, stream: Any) -> Any:
        """Open a stream that opens with this socket: a hosted consumer, class-based consumers."""
        guest = self._queues[stream] = stream.invite(self)
        return guest

    def waits(self) -> Iterable[Wait]:
        """Return the frames in flight, for the log of stalls."""
        return itertools.chain.from_iterable(queue.waits() for queue in self._queues.values())

    def count_subscriptions(self) -> int:
        """Return how many subscriptions this socket has, groups included."""
        return self.count_groups() + len(self.memberships)

    def count_groups(self) -> int:
        """Return how many groups of the channel layer the consumers of this socket are in."""
        return sum(len(queue.groups) for queue in self._queues.values())

    def on_guest_closed(self, stream: AnyStream, code: int) -> None:
        """React to the end of a consumer, which has closed or failed; other streams continue."""

    def leave(self) -> bool:
        """Take no more frames, because the server is shutting down; close once all are answered."""
        self._is_leaving = True
        if any(map(len, self._queues.values())):
            return False
        self.go()
        return True

    def go(self) -> None:
        """Close the socket, because the server has stopped."""
        self.outbox.close(CloseCode.SERVICE_RESTART)

    def on_credentials_end(self) -> None:
        """
        Close the socket, because its user has signed out, expired, or been deactivated or deleted.
        """
        self.outbox.close(CloseCode.CREDENTIALS_ENDED)

    def on_user(self) -> None:
        """Close the socket if it belongs to another user now, who has too many."""
        if not self.admission.follow():
            self.outbox.close(CloseCode.FLOODING)

    def on_crash(self, exc: BaseException) -> None:
        """Let the server see what `DEBUG_PROPAGATE_EXCEPTIONS` asks to propagate."""
        self._crash = exc
        if self._main is not None:
            self._main.cancel()

    def _threadsafe(self, call: Callable[[], None]) -> Callable[[], None]:
        """Return a function that lets this loop make the `call`."""
        loop = asyncio.get_running_loop()

        def call_soon() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(call)

        return call_soon


class StreamConnection(Connection):
    """A stream's own socket: each message is a payload. A row's socket binds the lookup."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        stream: AnyStream,
        pattern: RegexPattern | RoutePattern,
        is_row: bool = False,
    ) -> None:
        super().__init__(scope, receive, send, pattern=pattern)
        self.stream = stream
        self.is_row = is_row

    @property
    def streams(self) -> Iterable[AnyStream]:
        return [self.stream]

    @property
    def own_stream(self) -> str:
        return self.stream.prefix

    def wire(self, stream: AnyStream) -> StreamWriter:
        return StreamWriter(self.outbox)

    def path_of(self, stream: AnyStream, path: str) -> str:
        return str(self.scope["path"])

    def addressed(self, value: Any) -> tuple[AnyStream | None, Any]:
        return self.stream, value

    def on_value(self, value: Any) -> None:
        self.take(self.stream, value)

    def on_unreadable(self, error: FrameError) -> None:
        self.answer(self.stream, error)

    def refusal(self, streams: list[Stream], *, is_row: bool = False) -> CloseCode | None:
        return super().refusal(streams, is_row=self.is_row)

    @property
    def explains_refusal(self) -> bool:
        # A consumer on its own socket refuses as it would elsewhere.
        return super().explains_refusal and all(
            queue.refuses_readably for queue in self._queues.values()
        )

    def new_queue(self, stream: Stream) -> StreamQueue:
        wire = self.wire(stream)
        return StreamQueue(
            stream, self.handshake, wire, self.on_crash, self.memberships, is_row=self.is_row
        )

    def on_guest_closed(self, stream: AnyStream, code: int) -> None:
        # The socket has only this consumer.
        self.outbox.close(code)


class Application:
    """The ASGI application of a route; `initkwargs` are the arguments of its connections."""

    def __init__(self, connection_class: type[Connection], initkwargs: dict[str, Any]) -> None:
        self.connection_class = connection_class
        self.initkwargs = initkwargs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.connection_class(scope, receive, send, **self.initkwargs).serve()
