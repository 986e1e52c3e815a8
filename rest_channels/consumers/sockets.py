"""
Sockets of class-based consumers: what makes of `WebsocketConsumers` a stream of a connection.

A message of the client's takes the way of a viewset's frame: the same connection and its bounds,
a lane, and an exchange, its `Delivery`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from rest_framework import routers
from rest_framework.authentication import (
    BasicAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)
from rest_framework.permissions import AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.request import Request

from rest_channels.consumers.deliveries import Delivery, Gate, Review
from rest_channels.consumers.handlers import Handler
from rest_channels.consumers.hearing import Hearing, Place, Refusal
from rest_channels.consumers.hub import running_hub
from rest_channels.exceptions import ConsumerError
from rest_channels.keywords import subclass
from rest_channels.lanes import Lane
from rest_channels.protocol import CloseCode, Frame, Reply
from rest_channels.request import Call, Handshake
from rest_channels.settings import socket_settings
from rest_channels.streams import Stream
from rest_channels.threads import workers

if TYPE_CHECKING:
    from rest_channels.connection import Connection
    from rest_channels.consumers.websockets import WebsocketConsumers

logger = logging.getLogger("rest_channels")

# As long as a hosted consumer may take: daphne gives a handshake 5 seconds, Channels a consumer
# 10 to end.
_SECONDS_TO_OPEN: Final = 3
_SECONDS_TO_END: Final = 10

# What these ask for is read anew, in batches, while the socket is open (`rest_channels.leases`),
# where the user is a session's, which these find without an authorization header alone.
_FOR_A_USER: Final = frozenset({AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly})
_BY_SESSION: Final = frozenset({SessionAuthentication, BasicAuthentication, TokenAuthentication})

#: The actions that a connection answers itself, where no handler takes such a message.
CONNECTIONS_OWN: Final = ("cancel", "authenticate")


@dataclass(frozen=True, slots=True)
class Content(Frame):
    """A message for the consumers: its `data` is all of it."""


class ConsumersStream(Stream):
    """A configured class as a stream; the counterpart of `Stream` for viewsets."""

    opens_with_socket = True
    #: What answers the messages that no handler takes, where that is a viewset.
    viewsets: Stream | None = None

    def __init__(self, consumers: type[WebsocketConsumers], prefix: str) -> None:
        attributes: dict[str, Any] = {
            "consumers": consumers,
            "authentication_classes": consumers.authentication_classes,
            "permission_classes": consumers.get_permission_classes(),
            "throttle_classes": consumers.throttle_classes,
        }
        if consumers.get_queryset() is not None:
            # DRF's permissions by model ask the view for it.
            attributes["queryset"] = consumers.get_queryset()
        gate = subclass(consumers, (Gate,), attributes)
        super().__init__(gate, "", consumers.__name__.lower(), routers.SimpleRouter())
        self.consumers = consumers
        self.prefix = prefix
        self.max_in_flight = consumers.max_in_flight

    def __str__(self) -> str:
        return f"{self.prefix}  ({self.consumers.__name__})"

    def read(self, payload: Any, max_request_id_chars: int) -> Frame:
        """
        Any object, as content for the consumers. An `action` and a `request_id` have to be a
        frame's where there are any, for the errors that name them.
        """
        if not isinstance(payload, dict) or (
            self.is_frame(payload) and not self.is_handled(payload)
        ):
            return Frame.from_payload(payload, max_request_id_chars=max_request_id_chars)
        known = {"action": payload.get("action", "-"), "request_id": payload.get("request_id")}
        frame = Frame.from_payload(known, max_request_id_chars=max_request_id_chars)
        named = frame.action if "action" in payload else None
        return Content(named, frame.request_id, payload)

    def is_frame(self, payload: dict[str, Any]) -> bool:
        """Whether a message that no handler takes is for the connection, not the consumers."""
        return payload.get("action") in CONNECTIONS_OWN

    def invite(self, connection: Connection) -> ConsumersLane:
        """Open this stream with a socket."""
        return self.consumers.lane_class(connection, self)

    @property
    def is_guarded(self) -> bool:
        """Whether what a socket may hear can change while it is open."""
        policy = self.consumers.get_permission_classes()
        return any(item is not AllowAny for item in policy) or self.consumers.guards_places()

    @property
    def asks_for_a_user(self) -> bool:
        """Whether any user may hear all that a socket hears, and is known by session or header."""
        is_for_users = _FOR_A_USER.issuperset(self.consumers.get_permission_classes())
        return (
            is_for_users
            and _BY_SESSION.issuperset(self.consumers.authentication_classes)
            and not self.consumers.guards_places()
        )

    @property
    def handlers(self) -> list[Handler]:
        """Those that the socket's messages are for."""
        table = self.consumers.table()
        return [item for item in table.handlers if table.channel_of(item) == table.channel_name]

    def is_handled(self, content: Any) -> bool:
        """Whether a handler of the class takes `content`."""
        table = self.consumers.table()
        return table.find(content, table.channel_name) is not None

    def hook_call(self, name: str, handshake: Handshake) -> Call:
        """The call of one of the gate's actions, at the path of the socket itself."""
        endpoint = self.actions[name]
        [verb] = self.verbs(name)
        return replace(self.call_at_mount(endpoint, verb, handshake), path=handshake.scope["path"])


class ConsumersLane(Lane):
    """
    One configured class on one socket. On the loop.

    It opens with the socket: `on_connect` may refuse. It is the hub's member as long as it is
    open, and ends with `on_disconnect`.
    """

    stream: ConsumersStream

    def __init__(self, connection: Connection, stream: ConsumersStream) -> None:
        super().__init__(
            stream,
            connection.handshake,
            connection.wire(stream),
            connection.on_crash,
            connection.memberships,
        )
        self.connection = connection
        self.id = uuid.uuid4().hex
        #: Under which the socket's own session is stored: whoever knows its address has not this.
        self.session_key = uuid.uuid4().hex
        self.hub = running_hub()
        self.is_open = False
        self._ending: asyncio.Future[None] | None = None
        self.groups: set[str] = set()
        self._hearing = Hearing(self) if stream.is_guarded else None
        self._asks_for_a_user = stream.asks_for_a_user
        self.is_gone = False
        self._revoked_with: CloseCode | None = None
        #: The last DRF request: whose user `on_disconnect` sees.
        self.last_request: Request | None = None

    async def opens(self) -> bool:
        """Whether `on_connect` lets the socket in."""
        await self.hub.join(self)
        content = {"path": self.handshake.scope["path"]}
        connecting = Delivery(self, "connect", Content(None, data=content))
        task = asyncio.ensure_future(self._serve_connect(connecting))
        try:
            await asyncio.wait([task], timeout=_SECONDS_TO_OPEN)
            if not task.done():
                logger.warning("%r did not accept its socket in time: it is closed.", self.stream)
        finally:
            # In time, or given up by the server.
            if not task.done():
                connecting.stop()
                task.cancel()
        is_let_in = self.is_open = task.done() and task.result()
        if is_let_in:
            # What others send once the socket is open reaches it.
            await self.hub.settle(self.groups)
            if self._revoked_with is not None:
                # When there was nothing to close yet.
                self.close(self._revoked_with)
        else:
            self.is_gone = True
            self.hub.leave(self)
        return is_let_in

    async def _serve_connect(self, connecting: Delivery) -> bool:
        is_refused = False
        async for item in connecting.replies():
            is_refused |= isinstance(item, Reply)
            await self._send(item)
        return not (is_refused or connecting.has_failed)

    def take(self, frame: Frame, payload: Any) -> None:
        if not self.is_open:
            detail = "This stream is closed."
            self.wire.post(Reply.error(403, detail, "stream_closed", to=frame))
        elif isinstance(frame, Content):
            self._put(Delivery(self, "receive", frame))
        else:
            super().take(frame, payload)

    def _is_own(self, action: str, frame: Frame) -> bool:
        return not isinstance(frame, Content) and super()._is_own(action, frame)

    def post(self, text: str) -> None:
        """Send what answers no message: closes a client that does not read with 4408."""
        # What comes before the socket is open waits in the outbox.
        if not self.is_gone:
            self.wire.post_payload(text)

    def offer(self, text: str) -> None:
        """Send what may be lost, if the client keeps up."""
        if not self.is_gone:
            self.wire.offer_payload(text)

    def hear(self, group: str, text: str, *, may_be_lost: bool = False) -> None:
        """Send what was said in a group, if the client may still have it."""
        if self._hearing is not None and not self.is_gone:
            self._hearing.hear(self.place_of(group), text, may_be_lost=may_be_lost)
        elif may_be_lost:
            self.offer(text)
        else:
            self.post(text)

    def place_of(self, group: str) -> Place:
        """What permission to hear `group` is asked for."""
        return None

    def is_known(self, place: Place) -> bool:
        """Whether it is known without asking that the client may hear `place`."""
        return self._asks_for_a_user and self.handshake.credentials.is_of_session

    async def review(self, place: Place) -> Refusal | None:
        """Why the client may not hear `place` any more; None where it may."""
        review = Review(self, self.review_content(place))
        try:
            reply = await review.reply()
        except Exception as exc:
            # As DEBUG_PROPAGATE_EXCEPTIONS asks.
            self.connection.on_crash(exc)
            reply = None
        if reply is not None and reply.status < 400:
            return None
        reply = reply or Reply.error(500, "Server error.", "error")
        return Refusal(reply, is_total=not review.is_admitted)

    def review_content(self, place: Place) -> dict[str, Any]:
        """What the consumers are asked about, as a message would have it."""
        return {}

    def on_refused(self, place: Place, refusal: Refusal) -> None:
        """The client may not hear `place` any more."""
        self.revoke(refusal.reply)

    def on_unknown(self) -> None:
        """It takes too long to find out what the client may hear."""
        self.revoke(Reply.error(500, "Permissions cannot be read.", "error"))

    def revoke(self, reply: Reply) -> None:
        """Tell the client that what it was told is told no more, and close: silence says less."""
        reply.action = "revoke"
        self.post(reply.encode())
        is_ours = reply.status >= 500
        self._revoked_with = CloseCode.SERVER_ERROR if is_ours else CloseCode.NOT_ALLOWED
        self.close(self._revoked_with)

    def require_room(self) -> None:
        if self.connection.count_subscriptions() >= socket_settings.MAX_SUBSCRIPTIONS:
            raise ConsumerError(
                "Too many subscriptions on this socket: end some before adding more.",
                status=503,
                code="too_many_subscriptions",
            )

    def close(self, code: int) -> None:
        """Close the socket, where others share it this stream of it alone."""
        if self.is_open:
            self.is_open, self.is_gone = False, True
            self.connection.on_guest_closed(self.stream, code)
            self._ending = asyncio.ensure_future(self._end(code))

    async def finish(self, code: int) -> None:
        self.is_gone = True
        if self.is_open:
            self.is_open = False
            self._ending = asyncio.ensure_future(self._end(code))
        if self._ending is not None:
            await asyncio.wait([self._ending])
        else:
            await super().finish(code)

    def abandon(self) -> None:
        super().abandon()
        self.is_open, self.is_gone = False, True
        if self._ending is not None:
            self._ending.cancel()
        self.hub.leave(self)

    async def _end(self, code: int) -> None:
        await super().finish(code)
        try:
            async with asyncio.timeout(_SECONDS_TO_END):
                await self._disconnect(code)
        except Exception:
            logger.error("%r failed to disconnect.", self.stream, exc_info=True)
        finally:
            self.hub.leave(self)

    async def _disconnect(self, code: int) -> None:
        # Not through the gate: who is gone has to be seen off whatever became of their rights.
        leaving = Delivery(self, "disconnect", Content(None, data={"code": code}))
        instance = leaving.instance(self.last_request)
        remaining = await workers.run(
            instance.run, leaving.hook(instance), owner=self.handshake.credentials.owner
        )
        if remaining is not None:
            await remaining

    async def _serve(self, job: Any) -> None:
        if not isinstance(job, Delivery):
            await super()._serve(job)
            return
        async for item in job.replies():
            await self._send(item)
        if job.signs_out:
            self.handshake.credentials.end()

    async def _send(self, item: Reply | str | int) -> None:
        if isinstance(item, str):
            await self.wire.put_payload(item)
        elif isinstance(item, int):
            self.close(item)
        else:
            await self.wire.put(item)
