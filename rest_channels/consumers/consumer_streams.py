"""
Sockets of class-based consumers: `WebsocketConsumers` as a stream of a connection.

A client's message takes the path of a viewset's frame: the same connection and its bounds, a queue,
and an exchange. `message_view` describes the rest.
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

from rest_channels.consumers.groups.authorization import GroupAuthorization, Refusal, Source
from rest_channels.consumers.groups.group_hub import running_hub
from rest_channels.consumers.handlers import Handler
from rest_channels.consumers.message_view import HookCall, MessageExchange, MessageView, Review
from rest_channels.consumers.outlets import SocketOutlet
from rest_channels.exceptions import ConsumerError
from rest_channels.observing.observers import end_frame
from rest_channels.observing.reports import FrameReport
from rest_channels.protocol import CloseCode, Frame, Reply, read_action, read_request_id
from rest_channels.settings import socket_settings
from rest_channels.sockets.queues import StreamQueue
from rest_channels.sockets.request import Call, Handshake
from rest_channels.sockets.streams import Stream
from rest_channels.viewsets import subclass
from rest_channels.workers.threads import workers

if TYPE_CHECKING:
    from rest_channels.consumers.socket_policy import SocketPolicy
    from rest_channels.sockets.connection import Connection

logger = logging.getLogger("rest_channels")

# As long as a hosted consumer may take: daphne gives a handshake 5 seconds, Channels a consumer 10
# to end.
_SECONDS_TO_OPEN: Final = 3
_SECONDS_TO_END: Final = 10

# `rest_channels.sockets.revalidation` reads what these depend on again, in batches, while the
# socket is open. That requires a session's user, whom these classes find only without an
# Authorization header.
_FOR_A_USER: Final = frozenset({AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly})
_BY_SESSION: Final = frozenset({SessionAuthentication, BasicAuthentication, TokenAuthentication})

#: The actions that a connection answers itself, unless a handler takes the message.
CONNECTIONS_OWN: Final = ("cancel", "authenticate", "fence", "ping")


@dataclass(frozen=True, slots=True)
class Content(Frame):
    """A message for the consumers: its `data` is the whole message."""


class ConsumersStream(Stream):
    """A configured class as a stream; the counterpart of `Stream` for viewsets."""

    opens_with_socket = True
    #: The viewset, if any, that answers the messages that no handler takes.
    viewsets: Stream | None = None

    def __init__(self, consumers: type[SocketPolicy], prefix: str) -> None:
        attributes: dict[str, Any] = {
            "consumers": consumers,
            "authentication_classes": consumers.authentication_classes,
            "permission_classes": consumers.get_permission_classes(),
            "throttle_classes": consumers.throttle_classes,
        }
        if consumers.get_queryset() is not None:
            # DRF's permissions by model ask the view for it.
            attributes["queryset"] = consumers.get_queryset()
        gate = subclass(consumers, (MessageView,), attributes)
        super().__init__(gate, "", consumers.__name__.lower(), routers.SimpleRouter())
        self.consumers = consumers
        self.prefix = prefix
        self.max_in_flight = consumers.max_in_flight

    def __str__(self) -> str:
        return f"{self.prefix}  ({self.consumers.__name__})"

    def read(
        self, payload: Any, max_request_id_chars: int, report: FrameReport | None = None
    ) -> Frame:
        """
        Read any object as content for the consumers. Raises `FrameError`.

        An `action` and a `request_id` must be valid if present, because errors echo them.
        """
        if not isinstance(payload, dict) or (
            self.is_frame(payload) and not self.is_handled(payload)
        ):
            return Frame.from_payload(
                payload,
                max_request_id_chars=max_request_id_chars,
                own_keys=self.own_keys,
                report=report,
            )
        request_id = read_request_id(payload, max_request_id_chars)
        action = read_action(payload) if "action" in payload else None
        return Content(action, request_id, payload, report=report)

    def is_frame(self, payload: dict[str, Any]) -> bool:
        """
        Return whether a message that no handler takes is for the connection, not the consumers.
        """
        return payload.get("action") in CONNECTIONS_OWN

    def may_subscribe(self, payload: Any) -> bool:
        """Return False: messages are for handlers, which know nothing of subscriptions."""
        return False

    def invite(self, connection: Connection) -> ConsumersQueue:
        """Open this stream with a socket."""
        queue: ConsumersQueue = self.consumers.queue_class(connection, self)
        return queue

    @property
    def is_guarded(self) -> bool:
        """Whether permission to receive messages can change while the socket is open."""
        policy = self.consumers.get_permission_classes()
        return any(item is not AllowAny for item in policy) or self.consumers.guards_places()

    @property
    def asks_for_a_user(self) -> bool:
        """Whether any user known by session or header may receive all messages."""
        is_for_users = _FOR_A_USER.issuperset(self.consumers.get_permission_classes())
        return (
            is_for_users
            and _BY_SESSION.issuperset(self.consumers.authentication_classes)
            and not self.consumers.guards_places()
        )

    @property
    def handlers(self) -> list[Handler]:
        """The handlers of the socket's messages."""
        table = self.consumers.table()
        return [item for item in table.handlers if table.channel_of(item) == table.channel_name]

    def is_handled(self, content: Any) -> bool:
        """Return whether a handler of the class takes `content`."""
        table = self.consumers.table()
        return table.find(content, table.channel_name) is not None

    def hook_call(self, name: str, handshake: Handshake) -> Call:
        """Return the call of one of the view's actions, at the path of the socket itself."""
        endpoint = self.actions[name]
        [verb] = self.verbs(name)
        return replace(self.call_at_mount(endpoint, verb, handshake), path=handshake.scope["path"])


class ConsumersQueue(StreamQueue):
    """
    One configured class on one socket. On the loop.

    It opens with the socket: `on_connect` may refuse. It is the hub's member while it is open, and
    ends with `on_disconnect`.
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
        #: The key of the socket's own session; it cannot be derived from the socket's address.
        self.session_key: str | None = uuid.uuid4().hex
        self.hub = running_hub()
        self.is_open = False
        self._ending: asyncio.Future[None] | None = None
        self.groups: set[str] = set()
        self._authorization = GroupAuthorization(self) if stream.is_guarded else None
        self._asks_for_a_user = stream.asks_for_a_user
        self.is_gone = False
        self.refuses_readably = False
        self._revoked_with: CloseCode | None = None
        #: The last DRF request; `on_disconnect` gets its user.
        self.last_request: Request | None = None

    async def opens(self) -> bool:
        """Return whether `on_connect` admits the socket."""
        await self.hub.join(self)
        content = {"path": self.handshake.scope["path"]}
        connecting = MessageExchange(self, "connect", Content(None, data=content))
        task = asyncio.ensure_future(self._serve_connect(connecting))
        try:
            await asyncio.wait([task], timeout=_SECONDS_TO_OPEN)
            if not task.done():
                logger.warning("%r did not accept its socket in time: closing it.", self.stream)
        finally:
            # In time, or given up by the server.
            if not task.done():
                connecting.stop()
                task.cancel()
        is_let_in = self.is_open = task.done() and task.result()
        if is_let_in:
            # From here on, it receives the group messages of others.
            await self.hub.settle(self.groups)
            if self._revoked_with is not None:
                # A revocation came before the socket was open.
                self.close(self._revoked_with)
        else:
            self.is_gone = True
            self.hub.leave(self)
        return is_let_in

    async def _serve_connect(self, connecting: MessageExchange) -> bool:
        is_refused = False
        async for item in connecting.replies():
            if isinstance(item, Reply):
                is_refused = True
                self.note_refusal(item)
            await self._send(item)
        return not (is_refused or connecting.has_failed)

    def note_refusal(self, reply: Reply) -> None:
        """Note why the socket does not open: pages may learn it if the reason is the user."""
        self.refuses_readably = reply.status in (401, 403)

    def operation(self, frame: Frame) -> str:
        return "receive" if isinstance(frame, Content) else super().operation(frame)

    def take(self, frame: Frame, payload: Any) -> None:
        if not self.is_open:
            detail = "This stream is closed."
            refusal = Reply.error(403, detail, "stream_closed", to=frame)
            self.wire.post(refusal, frame.report)
        elif isinstance(frame, Content):
            self._put(MessageExchange(self, "receive", frame))
        else:
            super().take(frame, payload)

    def _is_own(self, action: str, frame: Frame) -> bool:
        return not isinstance(frame, Content) and super()._is_own(action, frame)

    def post(self, text: str) -> None:
        """Send what answers no message; close a client that does not read with 4408."""
        # Before the socket is open, it waits in the outbox.
        if not self.is_gone:
            self.wire.post_payload(text)

    def offer(self, text: str) -> None:
        """Send what may be lost, if the client keeps up."""
        if not self.is_gone:
            self.wire.offer_payload(text)

    def receive(self, group: str, text: str, *, may_be_lost: bool = False) -> None:
        """Send a message of a group, if the client may still receive it."""
        if self._authorization is not None and not self.is_gone:
            self._authorization.receive(self.source_of(group), text, may_be_lost=may_be_lost)
        elif may_be_lost:
            self.offer(text)
        else:
            self.post(text)

    def source_of(self, group: str) -> Source:
        """Return the source that permission to receive `group` is asked for."""
        return None

    def is_known(self, source: Source) -> bool:
        """Return whether the client is known to have permission for `source`, without asking."""
        return self._asks_for_a_user and self.handshake.credentials.is_of_session

    async def review(self, source: Source) -> Refusal | None:
        """Return why the client may no longer receive `source`; None if it may."""
        review = Review(self, self.review_content(source))
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

    def review_content(self, source: Source) -> dict[str, Any]:
        """Return the content that the consumers are asked about, as in a message."""
        return {}

    def on_refused(self, source: Source, refusal: Refusal) -> None:
        """Revoke the client's permission for `source`."""
        self.revoke(refusal.reply)

    def on_unknown(self) -> None:
        """Close the socket, because finding out its permissions takes too long."""
        self.revoke(Reply.error(500, "Permissions cannot be read.", "error"))

    def revoke(self, reply: Reply) -> None:
        """Tell the client that its permission is revoked, and close."""
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
        """Close the socket; on a shared socket, only this stream."""
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
        # Not through the view, because a client is disconnected even without permissions.
        leaving = HookCall(SocketOutlet(self, is_last=True), "disconnect", {"code": code})
        owner = self.handshake.credentials.owner
        remaining = await workers.run(leaving, self.last_request, owner=owner)
        if remaining is not None:
            await remaining

    async def _serve(self, job: Any) -> None:
        if not isinstance(job, MessageExchange):
            await super()._serve(job)
            return
        report = job.frame.report
        async for item in job.replies():
            await self._send(item, report)
        if report is not None:
            # A message that succeeds has no reply of its own.
            end_frame(report, 200)
        if job.signs_out:
            self.handshake.credentials.end()

    async def _send(self, item: Reply | str | int, report: FrameReport | None = None) -> None:
        if isinstance(item, str):
            await self.wire.put_payload(item, report)
        elif isinstance(item, int):
            self.close(item)
        else:
            await self.wire.put(item, report)
