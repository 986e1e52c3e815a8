"""
A message on its way to class-based consumers: through a view of DRF's, `Gate`, whose action is to
let an instance have it. So authentication, permissions, throttles, sessions and errors are the
viewsets'.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from rest_channels.consumers.base import Message, ReplyChannel
from rest_channels.consumers.channels import Channel
from rest_channels.consumers.handlers import accepted_keywords
from rest_channels.exceptions import ConsumerError
from rest_channels.exchange import Exchange
from rest_channels.protocol import CloseCode, Frame, Reply, byte_length
from rest_channels.request import Call, MessageRequest
from rest_channels.settings import socket_settings
from rest_channels.viewsets import ConsumerViewSetMixin

if TYPE_CHECKING:
    from rest_channels.consumers.sockets import ConsumersLane
    from rest_channels.consumers.websockets import WebsocketConsumers


class _AlwaysJSON(DefaultContentNegotiation):
    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class Gate(ConsumerViewSetMixin, ViewSet):
    """
    The view that messages pass on their way to `consumers`: `connect` (GET) is the handshake,
    `receive` (POST) a message. Permission classes get it as their view.
    """

    renderer_classes = [JSONRenderer]
    parser_classes = [JSONParser]
    content_negotiation_class = _AlwaysJSON
    versioning_class = None
    consumers: type[WebsocketConsumers]

    @action(detail=False, methods=["get"])
    def connect(self, request: Request, **kwargs: Any) -> Any:
        return _delivery(request).perform(request)

    @action(detail=False, methods=["post"])
    def receive(self, request: Request, **kwargs: Any) -> Any:
        return _delivery(request).perform(request)

    def handle_exception(self, exc: Exception) -> Any:
        """DRF's handling; a `ConsumerError` is answered with its text."""
        if isinstance(exc, ConsumerError):
            refusal = APIException(exc.detail, exc.code)
            refusal.status_code = exc.status
            exc = refusal
        return super().handle_exception(exc)


def _delivery(request: Request) -> Delivery:
    http_request: Any = request._request
    return http_request.delivery


class Delivery(Exchange):
    """
    A message on its way through the gate to an instance of the consumers; its outlet.

    Its replies are what the instance says, JSON text, the code it closes with, and at the end a
    `Reply` where it failed.
    """

    def __init__(self, lane: ConsumersLane, event: str, frame: Frame) -> None:
        super().__init__(lane.stream, frame, lane.handshake)
        self.lane = lane
        self.event = event
        self._loop = asyncio.get_running_loop()
        # The request has the user.
        self.user_pk = None
        self.session_key: str | None = lane.session_key
        self.is_last = event == "disconnect"
        self._instance: WebsocketConsumers | None = None
        # Text, the code to close with, and None at the end.
        self._said: asyncio.Queue[str | int | None] = asyncio.Queue()
        self._said_bytes = 0
        self._is_over = self.is_last

    @property
    def owner(self) -> Any:
        return self.handshake.credentials.owner

    @property
    def address(self) -> str | None:
        return self.lane.hub.address(self.lane)

    @property
    def has_failed(self) -> bool:
        """Whether the instance raised something, whatever `at_exception` made of it."""
        return self._instance is not None and self._instance.has_failed

    def say(self, text: str) -> None:
        self._loop.call_soon_threadsafe(self._on_said, text)

    def close(self, code: int) -> None:
        """Close the socket, after what was said; from any thread."""
        self._loop.call_soon_threadsafe(self._on_close, code)

    def _on_close(self, code: int) -> None:
        if self._is_over:
            self.lane.close(code)
        else:
            self._said.put_nowait(code)

    def _on_said(self, text: str) -> None:
        if self._is_over:
            # The instance has outlived its message: a task of its own.
            self.lane.post(text)
            return
        self._said_bytes += byte_length(text)
        if self._said_bytes > socket_settings.MAX_QUEUE_BYTES and not self._said.empty():
            self.lane.connection.outbox.close(CloseCode.TOO_SLOW)
        else:
            self._said.put_nowait(text)

    async def replies(self) -> AsyncIterator[Any]:
        """What the client is told, as the client reads it."""
        outcome = asyncio.ensure_future(self._outcome())
        try:
            while (item := await self._said.get()) is not None:
                if isinstance(item, str):
                    self._said_bytes -= byte_length(item)
                yield item
            self._is_over = True
            reply = outcome.result()
            if reply.status >= 400:
                yield reply
        finally:
            self._is_over = True
            outcome.cancel()
            if self._instance is not None:
                self._instance.discard()

    async def _outcome(self) -> Reply:
        try:
            reply = await self.reply()
            if reply is None:
                # An `async def` hook has one as well, once it has ended.
                reply = await anext(super().replies())
            return reply
        finally:
            # In its turn, behind what was said.
            self._loop.call_soon(self._said.put_nowait, None)

    def _find(self) -> MessageRequest:
        request: Any = super()._find()
        request.delivery = self
        return request

    def _call(self, frame: Frame) -> Call:
        return self.lane.stream.hook_call(self.event, self.handshake)

    def perform(self, request: Request) -> Any:
        """The gate's action; in a worker thread."""
        self.lane.last_request = request
        instance = self._instance = self.instance(request)
        remaining = instance.run(self.hook(instance))
        return Response() if remaining is None else self._response(remaining)

    async def _response(self, remaining: Awaitable[None]) -> Response:
        await remaining
        return Response()

    def instance(self, request: Request | None) -> WebsocketConsumers:
        """The instance that serves this message."""
        consumers = self.lane.stream.consumers
        channel = Channel(consumers.table().channel_name)
        return consumers(
            Message(self.frame.data, channel, ReplyChannel(self)),
            self.handshake.kwargs,
            self,
            connection=self.lane.connection,
            request=request,
        )

    def hook(self, instance: WebsocketConsumers) -> Any:
        """`on_connect`, `on_receive` or `on_disconnect` of `instance`, ready to be called."""
        name = f"on_{self.event}"
        kwargs = accepted_keywords(getattr(type(instance), name), instance.kwargs)
        return partial(getattr(instance, name), instance.message, **kwargs)


class Review(Delivery):
    """
    Asks what was found before: whether the gate lets the socket in, then whether its consumers let
    it hear what `content` names. Nobody's message, so it counts against no throttle.
    """

    def __init__(self, lane: ConsumersLane, content: dict[str, Any]) -> None:
        super().__init__(lane, "connect", Frame(content.get("action"), data=content))
        #: Whether the gate lets the socket in.
        self.is_admitted = False
        # What is said meanwhile answers no message.
        self._is_over = True

    def _call(self, frame: Frame) -> Call:
        return replace(super()._call(frame), is_review=True)

    def perform(self, request: Request) -> Any:
        self.is_admitted = True
        self.instance(request).check_hearing()
        return Response()
