"""
Hosting of djangochannelsrestframework's consumers as streams, unchanged.

    router.register("legacy", OldConsumer)

Each socket with the stream gets a consumer instance of its own, a `Guest`: an ASGI application
inside the connection. It opens with the connection, and its end affects no other stream.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from channels.auth import AuthMiddlewareStack
from rest_framework.exceptions import APIException

from rest_channels.contrib.dcrf import loaded
from rest_channels.metrics.instruments import OTHER
from rest_channels.observing.reports import FrameReport
from rest_channels.protocol import MISSING, Frame, Reply
from rest_channels.settings import socket_settings
from rest_channels.sockets.outbox import StreamWriter
from rest_channels.sockets.request import Handshake, Scope
from rest_channels.sockets.response import reply_to_fault
from rest_channels.workers.monitoring import Wait

if TYPE_CHECKING:
    from djangochannelsrestframework.consumers import AsyncAPIConsumer


logger = logging.getLogger("rest_channels")

# The longest that a handshake waits for its consumers; daphne allows 5 seconds for all of it.
_SECONDS_TO_OPEN: Final = 3

# Channels allows a consumer as long to end after its socket.
_SECONDS_TO_END: Final = 10


class Host(Protocol):
    """The connection that hosts a consumer."""

    scope: Scope
    handshake: Handshake

    def wire(self, stream: HostedStream) -> StreamWriter:
        """Return the writer of replies of `stream`."""

    def on_guest_closed(self, stream: HostedStream, code: int) -> None:
        """React to the end of the consumer of `stream`, which has closed or failed."""

    def count_subscriptions(self) -> int:
        """Return how many subscriptions the socket has, groups included."""


class HostedStream:
    """One registered consumer class; the counterpart of `rest_channels.sockets.streams.Stream`."""

    opens_with_socket = True

    def __init__(self, consumer: type[AsyncAPIConsumer], prefix: str) -> None:
        self.consumer = consumer
        self.prefix = prefix
        base = loaded("consumers").AsyncAPIConsumer
        # DCRF's hooks for payloads of another shape.
        self._is_usual = all(
            getattr(consumer, name) is getattr(base, name)
            for name in ("receive", "receive_json", "get_action_name")
        )

    def __repr__(self) -> str:
        return f"<HostedStream {self}>"

    def __str__(self) -> str:
        return f"{self.prefix}  ({self.consumer.__name__})"

    def invite(self, connection: Host) -> HostedConsumer:
        """Open a consumer with a socket."""
        return HostedConsumer(
            self,
            connection.handshake.credentials.trusted_scope(connection.scope),
            connection.wire(self),
            lambda code: connection.on_guest_closed(self, code),
            connection.count_subscriptions,
        )

    def may_subscribe(self, payload: Any) -> bool:
        """Return False: DCRF's subscriptions do not know `held`."""
        return False

    def read(
        self, payload: Any, max_request_id_chars: int, report: FrameReport | None = None
    ) -> Frame:
        """
        Read what replies need to know of `payload`; the consumer reads the rest.

        Raises `FrameError`.
        """
        if not isinstance(payload, dict):
            return Frame.from_payload(payload)
        known = {name: payload[name] for name in ("action", "request_id") if name in payload}
        if not self._is_usual:
            known.setdefault("action", self.prefix)
        return Frame.from_payload(known, max_request_id_chars=max_request_id_chars, report=report)


class TooManySubscriptions(APIException):
    """
    A hosted consumer would have joined its connection to more than `MAX_SUBSCRIPTIONS` groups.
    """

    status_code = 503
    default_detail = "Too many subscriptions on this socket: end some before adding more."
    default_code = "too_many_subscriptions"


class HostedConsumer:
    """
    A consumer on one socket: the counterpart of `rest_channels.sockets.queues.StreamQueue`.

    Its length is the number of frames that it has not finished. `on_close` receives the close code
    if the consumer closes after it accepted, 1011 if it failed. `subprotocol` is the one it
    accepted with. `count_groups` returns how many groups the connection's guests are in.
    On the loop.
    """

    def __init__(
        self,
        stream: HostedStream,
        scope: Scope,
        wire: StreamWriter,
        on_close: Callable[[int], None],
        count_groups: Callable[[], int],
    ) -> None:
        self.stream = stream
        self.wire = wire
        self.is_open = False
        self.subprotocol: str | None = None
        self._on_close = on_close
        self._count_groups = count_groups
        self._consumer: Any = None
        self._to_consumer: asyncio.Queue[tuple[Mapping[str, Any], Frame | None]] = asyncio.Queue()
        self._read: Frame | None = None
        self._judged: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._is_told = False
        self._to_consumer.put_nowait(({"type": "websocket.connect"}, None))
        self._task = asyncio.ensure_future(self._run(dict(scope)))

    #: Whether a close code may tell pages that it refused the socket; DCRF gives none.
    refuses_readably = False

    def __len__(self) -> int:
        return self._to_consumer.qsize() + (self._read is not None)

    @property
    def groups(self) -> set[str]:
        """The channel layer's groups that the consumer has joined by DCRF's `add_group`."""
        return set() if self._consumer is None else set(self._consumer.groups)

    async def opens(self) -> bool:
        """Return whether the consumer accepts, once it has answered, failed or taken too long."""
        await asyncio.wait([self._judged], timeout=_SECONDS_TO_OPEN)
        if not self._judged.done():
            logger.warning("%r did not accept its socket in time: closing it.", self.stream)
            self._leave(1006)
        return self._judged.result()

    def waits(self) -> Iterable[Wait]:
        """Return the frame that the consumer is working on."""
        if self._read is not None:
            what = f"A frame {self._read.action!r} of stream {self.stream.prefix!r}"
            yield Wait(self._read, what, "its consumer is working on it", level=logging.INFO)

    #: Whether a long frame waits; a hosted consumer never gets one.
    has_long = False

    def answers_at_once(self, frame: Frame) -> bool:
        """Return False: the consumer reads its frames in their order."""
        return False

    def operation(self, frame: Frame) -> str:
        """Return the name of the action for statistics; only the consumer knows its own."""
        return OTHER

    def take(self, frame: Frame, payload: Any) -> None:
        """Hand the consumer a payload as it arrived."""
        if self.is_open:
            message = {"type": "websocket.receive", "text": json.dumps(payload)}
            self._to_consumer.put_nowait((message, frame))
        else:
            self._refuse(frame)

    def answer(self, reply: Reply, report: FrameReport | None = None) -> None:
        """Send a reply that the consumer did not make."""
        self.wire.post(reply, report)

    async def finish(self, code: int) -> None:
        """Tell the consumer that the socket is closed, and wait for it to end."""
        self.is_open = False
        self._tell(code)
        await asyncio.wait([self._task], timeout=_SECONDS_TO_END)

    def abandon(self) -> None:
        """Stop without notice, after `finish` or if the connection itself was stopped."""
        self._task.cancel()

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await _with_user(self._consume)(scope, self._receive, self._on_message)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as exc:
            if self._task.cancelling():
                raise
            # Also SystemExit, which would end the server, and the cancellation of a task of the
            # consumer's own.
            self._on_failure(exc)
            self._leave(1011)
        else:
            self._leave(1000)

    async def _consume(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        # As `as_asgi` does, but it keeps the instance.
        self._consumer = self.stream.consumer()
        self._consumer.add_group = partial(self._add_group, self._consumer.add_group)
        await self._consumer(scope, receive, send)

    async def _add_group(self, add_group: Callable[[str], Awaitable[None]], name: str) -> None:
        """Join a group within the bound; DCRF answers the exception above it."""
        is_new = name not in self._consumer.groups
        if is_new and self._count_groups() >= socket_settings.MAX_SUBSCRIPTIONS:
            raise TooManySubscriptions
        await add_group(name)

    async def _receive(self) -> Mapping[str, Any]:
        # Channels asks for the next message once it is done with the last.
        self._read = None
        message, self._read = await self._to_consumer.get()
        return message

    def _on_failure(self, exc: BaseException) -> None:
        """Answer the frame the consumer was working on when it raised, as a viewset's would be."""
        reply = reply_to_fault(exc, "%r failed", self.stream, to=self._read)
        if self.is_open and self._read is not None:
            self.wire.post(reply, self._read.report)

    def _refuse(self, frame: Frame) -> None:
        refusal = Reply.error(403, "This stream is closed.", "stream_closed", to=frame)
        self.wire.post(refusal, frame.report)

    async def _on_message(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "websocket.accept":
            if not self._judged.done():
                self.is_open = True
                self.subprotocol = message.get("subprotocol")
                self._judged.set_result(True)
        elif message["type"] == "websocket.close":
            self._leave(message.get("code") or 1000)
        elif message["type"] == "websocket.send" and self.is_open:
            await self.wire.put_payload(self._payload(message))

    def _payload(self, message: Mapping[str, Any]) -> str:
        """
        Return the text that the consumer sends.

        Raises ValueError, into the consumer's `send`, if it is invalid.
        """
        text: str | None = message.get("text")
        if text is None:
            raise ValueError(f"{self.stream!r} sent a binary message: frames must be text.")
        if self.wire.stream is not MISSING:
            # Invalid JSON within an envelope would break the envelope.
            json.loads(text, parse_constant=_refuse_constant)
        return text

    def _leave(self, code: int) -> None:
        """Refuse the frames that wait on the closed stream, and let the consumer disconnect."""
        if not self._judged.done():
            self._judged.set_result(False)
        was_open, self.is_open = self.is_open, False
        self._read = None
        while not self._to_consumer.empty():
            _, frame = self._to_consumer.get_nowait()
            if frame is not None:
                self._refuse(frame)
        # As a server does after a close: the consumer leaves its groups then.
        self._tell(code if was_open else 1006)
        if was_open:
            self._on_close(code)

    def _tell(self, code: int) -> None:
        if not self._is_told:
            self._is_told = True
            self._to_consumer.put_nowait(({"type": "websocket.disconnect", "code": code}, None))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON.")


def _with_user(application: Any) -> Any:
    """Return `application` with the scope's user and session, if no middleware set them."""
    with_user = AuthMiddlewareStack(application)

    async def hosted(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await (application if "user" in scope else with_user)(scope, receive, send)

    return hosted
