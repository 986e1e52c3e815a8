"""
One socket: its handshake, its frames in, its bounds, its end.

Everything here runs on the event loop. What a frame means is its lane's business
(`rest_channels.lanes`), what is done about it the exchange's (`rest_channels.exchange`).
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from django.urls.resolvers import RegexPattern, RoutePattern

from rest_channels import reports
from rest_channels.admission import admits
from rest_channels.authentication import Credentials, UnreadableCredentials
from rest_channels.counters import counters
from rest_channels.daphne import full_send
from rest_channels.exceptions import FrameError
from rest_channels.hosting import Guest, HostedStream
from rest_channels.lanes import Lane
from rest_channels.leases import leases
from rest_channels.live.memberships import Memberships
from rest_channels.outbox import Outbox, Send, Wire
from rest_channels.protocol import SUBPROTOCOL, CloseCode, Frame, Reply, byte_length, decode
from rest_channels.rates import RateLimit, Verdict, retry_headers
from rest_channels.request import Handshake, Scope, activate_script_prefix
from rest_channels.settings import socket_settings
from rest_channels.shutdown import current_departures
from rest_channels.streams import Stream
from rest_channels.threads import workers

logger = logging.getLogger("rest_channels")

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
AnyStream = Stream | HostedStream


class Connection(ABC):
    """
    One socket: what the sockets of one stream and of many have in common.

    Made for each handshake and awaited once through `serve`. Subclasses say which `streams` they
    serve, how replies of one look on the `wire`, whose a message is in `on_value`, and who
    answers what is none in `on_unreadable`.
    """

    handshake: Handshake

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, pattern: RegexPattern | RoutePattern
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.pattern = pattern
        self.outbox = Outbox(full_send(send), socket_settings.MAX_QUEUE_BYTES)
        self.outbox.hold()
        self.rate = RateLimit(socket_settings.FRAME_RATE, socket_settings.FRAME_BURST)
        self._lanes: dict[AnyStream, Lane | Guest] = {}
        self.memberships = Memberships(self.count_groups, self.rate.give_back)
        self._is_excess = False
        self._is_leaving = False
        self._main: asyncio.Task[Any] | None = None
        self._crash: BaseException | None = None

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Application:
        """An ASGI application that makes one connection a handshake."""
        return Application(cls, initkwargs)

    @property
    @abstractmethod
    def streams(self) -> Iterable[AnyStream]:
        """What this socket serves."""

    @abstractmethod
    def wire(self, stream: AnyStream) -> Wire:
        """Where replies of `stream` go."""

    @abstractmethod
    def on_value(self, value: Any) -> None:
        """Answer one decoded message."""

    @abstractmethod
    def on_unreadable(self, error: FrameError) -> None:
        """Answer a message that is no JSON."""

    async def serve(self) -> None:
        """The socket's life, from the handshake to the last reply."""
        self._main = asyncio.current_task()
        message = await self.receive()
        if message["type"] != "websocket.connect":
            raise ValueError(f"A websocket begins with websocket.connect, not {message['type']}.")
        try:
            credentials = Credentials(self.scope, self._on_credentials_end_threadsafe())
        except UnreadableCredentials:
            await self.refuse()
            return
        leases.watch(credentials)
        try:
            if await self.shake_hands(credentials):
                await self.accept()
                current_departures().enter(self)
                reports.begin()
                await self.finish(await self.receive_all())
            else:
                await self.refuse()
                await self.finish(1006)
        except asyncio.CancelledError:
            if self._crash is None:
                raise
            raise self._crash from None
        finally:
            leases.forget(credentials)
            current_departures().exit(self)
            self.memberships.close()
            for lane in self._lanes.values():
                lane.abandon()
            self.outbox.discard()

    async def shake_hands(self, credentials: Credentials) -> bool:
        """
        Learn what every frame will need, open the streams that open with the socket, and say
        whether there will be frames: False where the policy of every stream would refuse this
        user.
        """
        if not credentials.is_trusted:
            logger.warning(
                "Cookies of a websocket from an untrusted origin do not count: add the origin to "
                "CSRF_TRUSTED_ORIGINS or REST_CHANNELS['ALLOWED_ORIGINS'] to trust its pages."
            )
        kwargs = self.scope.get("url_route", {}).get("kwargs", {})
        mount = _mount(self.scope["path"], self.pattern)
        self.handshake = Handshake(self.scope, credentials, kwargs, mount)
        guests = [self.invite(s) for s in self.streams if s.opens_with_socket]
        if guests:
            await workers.run(credentials.read, owner=credentials.owner)
        if any(await asyncio.gather(*(guest.opens() for guest in guests))):
            return True
        viewsets = [s for s in self.streams if isinstance(s, Stream) and not s.opens_with_socket]
        # Not with the frames of the same address: behind a proxy that is everybody's, and slow
        # frames of strangers would keep the doors shut.
        owner = ("handshake", credentials.owner)
        return await workers.run(self.admits, viewsets, owner=owner)

    def admits(self, streams: list[Stream], *, is_row: bool = False) -> bool:
        """Whether one of `streams` would answer this user; in a worker thread."""
        activate_script_prefix(self.scope)
        return any(admits(stream, self.handshake, is_row=is_row) for stream in streams)

    async def accept(self) -> None:
        """Open the socket; with our subprotocol where the client offers it, else with none."""
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in self.scope.get("subprotocols", []) else None
        for lane in self._lanes.values():
            # Only guests are there yet; one may speak another subprotocol that the client offers.
            subprotocol = subprotocol or getattr(lane, "subprotocol", None)
        await self.outbox.send({"type": "websocket.accept", "subprotocol": subprotocol})
        self.outbox.release()

    async def refuse(self) -> None:
        """Refuse the handshake: not accepted yet, it is answered with 403."""
        await self.outbox.send({"type": "websocket.close"})

    async def receive_all(self) -> int:
        """Take messages until the socket closes; returns the code it closed with."""
        while (message := await self.receive())["type"] == "websocket.receive":
            if not self.outbox.is_closed:
                self.on_message(message.get("text"))
        self.outbox.discard()
        return message.get("code") or 1000

    async def finish(self, code: int) -> None:
        """The socket is closed: let every stream end what it does."""
        self.memberships.close()
        await asyncio.gather(*(lane.finish(code) for lane in self._lanes.values()))

    def on_message(self, text: str | None) -> None:
        """Take one message of the client's, right or wrong."""
        counters.frames += 1
        verdict = self.rate.take()
        self._is_excess = verdict is Verdict.REFUSE
        if verdict is Verdict.CLOSE:
            self.outbox.close(CloseCode.FLOODING)
        elif text is None:
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

    def take(self, stream: AnyStream, payload: Any) -> None:
        """Give `payload` to its stream, in its turn, unless a bound is reached."""
        try:
            frame = read_frame(payload, stream)
        except FrameError as error:
            self.answer(stream, error)
            return
        lane = self.lane(stream)
        refusal = self.limit(frame, waits=not lane.answers_at_once(frame))
        if refusal is not None:
            self.wire(stream).post(refusal)
        else:
            lane.take(frame, payload)

    def answer(self, stream: AnyStream, error: FrameError) -> None:
        """Answer what is no frame, in its turn, unless a bound is reached."""
        if (refusal := self.limit(error)) is not None:
            self.wire(stream).post(refusal)
        else:
            self.lane(stream).answer(Reply.refusal(error))

    def limit(self, asked: Frame | FrameError, *, waits: bool = True) -> Reply | None:
        """
        The refusal of one frame too many; None where it may be answered.

        It is sent at once: it overtakes the replies before it, for it asks to wait for them.
        `waits` is False for what would not be in flight: a `cancel`, which makes room, an `ack`.
        """
        if self._is_excess:
            retry = {"Retry-After": str(self.rate.retry_after)}
            detail = "Too many requests: slow down."
            return Reply.error(429, detail, "throttled", to=asked, headers=retry)
        if waits and self._is_leaving:
            detail = "The server goes away: connect again."
            return Reply.error(503, detail, "unavailable", to=asked, headers=retry_headers())
        if waits and sum(map(len, self._lanes.values())) >= socket_settings.MAX_IN_FLIGHT:
            detail = "Too many requests at once: wait for replies before sending more."
            return Reply.error(503, detail, "too_many_in_flight", to=asked)
        return None

    def lane(self, stream: AnyStream) -> Lane | Guest:
        """Where the frames of `stream` wait for their turn."""
        lane = self._lanes.get(stream)
        if lane is None:
            assert isinstance(stream, Stream), "hosted consumers open with the socket"
            lane = self._lanes[stream] = self.new_lane(stream)
        return lane

    def new_lane(self, stream: Stream) -> Lane:
        return Lane(stream, self.handshake, self.wire(stream), self.on_crash, self.memberships)

    def invite(self, stream: Any) -> Any:
        """Open a stream that opens with this socket: a hosted consumer, class-based consumers."""
        guest = self._lanes[stream] = stream.invite(self)
        return guest

    def count_subscriptions(self) -> int:
        """How many subscriptions this socket has, groups included."""
        return self.count_groups() + len(self.memberships)

    def count_groups(self) -> int:
        """How many groups of the channel layer the consumers of this socket are in."""
        return sum(len(lane.groups) for lane in self._lanes.values())

    def on_guest_closed(self, stream: AnyStream, code: int) -> None:
        """A consumer has closed or failed: no other stream is touched by it."""

    def leave(self) -> bool:
        """The server goes away: take no more frames; close once those taken are answered."""
        self._is_leaving = True
        if any(map(len, self._lanes.values())):
            return False
        self.go()
        return True

    def go(self) -> None:
        """The server is gone."""
        self.outbox.close(CloseCode.SERVICE_RESTART)

    def on_credentials_end(self) -> None:
        """Signed out, expired, deactivated or deleted: nothing more is answered."""
        self.outbox.close(CloseCode.CREDENTIALS_ENDED)

    def on_crash(self, exc: BaseException) -> None:
        """Let the server see what `DEBUG_PROPAGATE_EXCEPTIONS` asks to propagate."""
        self._crash = exc
        if self._main is not None:
            self._main.cancel()

    def _on_credentials_end_threadsafe(self) -> Callable[[], None]:
        loop = asyncio.get_running_loop()

        def on_end() -> None:
            loop.call_soon_threadsafe(self.on_credentials_end)

        return on_end


class StreamConnection(Connection):
    """A stream's own socket: each message is a payload. On a row's, its lookup is bound."""

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

    def wire(self, stream: AnyStream) -> Wire:
        return Wire(self.outbox)

    def on_value(self, value: Any) -> None:
        self.take(self.stream, value)

    def on_unreadable(self, error: FrameError) -> None:
        self.answer(self.stream, error)

    def admits(self, streams: list[Stream], *, is_row: bool = False) -> bool:
        return super().admits(streams, is_row=self.is_row)

    def new_lane(self, stream: Stream) -> Lane:
        wire = self.wire(stream)
        return Lane(
            stream, self.handshake, wire, self.on_crash, self.memberships, is_row=self.is_row
        )

    def on_guest_closed(self, stream: AnyStream, code: int) -> None:
        # The consumer is all there is here.
        self.outbox.close(code)


class Application:
    """The ASGI application of a route; `initkwargs` are what its connections are made with."""

    def __init__(self, connection_class: type[Connection], initkwargs: dict[str, Any]) -> None:
        self.connection_class = connection_class
        self.initkwargs = initkwargs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.connection_class(scope, receive, send, **self.initkwargs).serve()


def read_frame(payload: Any, stream: AnyStream | None = None) -> Frame:
    """The frame that `payload` is, to `stream`. Raises `FrameError`."""
    max_chars = socket_settings.MAX_REQUEST_ID_CHARS
    if stream is not None:
        return stream.read(payload, max_chars)
    return Frame.from_payload(payload, max_request_id_chars=max_chars)


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
