"""
The path of a message to class-based consumers, from top to bottom.

    1. ConsumersQueue         takes it in its turn                            (consumer_streams)
    2. MessageExchange       makes it a request, as for a frame              (here)
    3. MessageView           a view of DRF's: authentication, permissions, throttles, errors
    4. HookCall              makes the instance and calls its `on_receive`
    5. Consumers.dispatch    finds the handler and calls it                  (base)
    6. SocketOutlet          queues the handler's replies                    (outlets)
    7. MessageExchange       passes them to the queue, which sends them

So viewsets and consumers share authentication, permissions, throttles, sessions and errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

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
from rest_channels.consumers.outlets import OutletQueue, SocketOutlet
from rest_channels.consumers.socket_policy import SocketPolicy
from rest_channels.exceptions import ConsumerError
from rest_channels.protocol import Frame, Reply
from rest_channels.sockets.dispatch import Exchange
from rest_channels.sockets.request import Call, Handshake, MessageRequest
from rest_channels.sockets.response import reply_to_crash
from rest_channels.viewsets import ConsumerViewSetMixin

#: Called by the view with DRF's request; returns what remains to be awaited on the loop.
Hook = Callable[[Request], Awaitable[None] | None]


class MessageExchange(Exchange):
    """
    A message of a socket and its replies.

    They are the instance's JSON texts, its close code, and at the end a `Reply` if it failed.
    """

    def __init__(self, queue: OutletQueue, event: str, frame: Frame) -> None:
        super().__init__(queue.stream, frame, queue.handshake)
        self._event = event
        self._outlet = SocketOutlet(queue)
        self._hook = HookCall(self._outlet, event, frame.data)

    @property
    def has_failed(self) -> bool:
        """Whether the instance raised an exception, even if `at_exception` handled it."""
        instance = self._outlet.instance
        return instance is not None and instance.has_failed

    async def replies(self) -> AsyncIterator[Any]:
        """Yield the replies, as the client reads them."""
        outlet = self._outlet
        outcome = asyncio.ensure_future(self._outcome())
        try:
            while True:
                try:
                    item = await outlet.next_item()
                except Exception as exc:
                    # Its sessions could not be saved.
                    yield reply_to_crash(self.frame, self.request, exc)
                    return
                if item is None:
                    break
                yield item
            outlet.is_over = True
            reply = outcome.result()
            if reply.status >= 400:
                yield reply
        finally:
            outlet.is_over = True
            outcome.cancel()
            if outlet.instance is not None:
                outlet.instance.discard()

    async def _outcome(self) -> Reply:
        try:
            reply = await self.reply()
            if reply is None:
                # An `async def` hook has a reply as well, once it has ended.
                reply = await anext(super().replies())
            return reply
        finally:
            self._outlet.end()

    async def reply(self) -> Reply | None:
        """Return the last reply of a message; the replies held by its transaction follow."""
        try:
            return await super().reply()
        finally:
            self._outlet.release()

    def _request(self, frame: Frame, call: Call) -> MessageRequest:
        return HookRequest(self.handshake, frame, call, self._hook)

    def _call(self, frame: Frame) -> Call:
        call: Call = self._outlet.queue.stream.hook_call(self._event, self.handshake)
        return call


class Review(Exchange):
    """
    A review of whether the socket may still receive messages.

    It asks whether the view admits the socket, then whether the consumers admit it to what
    `content` names. It is not a message, so it counts against no throttle.
    """

    def __init__(self, queue: OutletQueue, content: dict[str, Any]) -> None:
        frame = Frame(content.get("action"), data=content)
        super().__init__(queue.stream, frame, queue.handshake)
        #: Whether the view admits the socket.
        self.is_admitted = False
        self._queue = queue
        # Its replies answer no message.
        self._hook = HookCall(SocketOutlet(queue, is_over=True), "connect", content)

    def _request(self, frame: Frame, call: Call) -> MessageRequest:
        return HookRequest(self.handshake, frame, call, self._check)

    def _call(self, frame: Frame) -> Call:
        call: Call = self._queue.stream.hook_call("connect", self.handshake)
        return replace(call, is_review=True)

    def _check(self, request: Request) -> None:
        self.is_admitted = True
        self._hook.instance(request).check_hearing()


class HookRequest(MessageRequest):
    """
    A request that knows its `hook`, because DRF makes the view and passes it only the request.
    """

    def __init__(self, handshake: Handshake, frame: Frame, call: Call, hook: Hook) -> None:
        super().__init__(handshake, frame, call)
        self.hook = hook


class _AlwaysJSON(DefaultContentNegotiation):
    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class MessageView(ConsumerViewSetMixin, ViewSet):
    """
    The view that messages to `consumers` pass.

    `connect` (GET) is the handshake, `receive` (POST) a message. Permission classes get it as their
    view.
    """

    renderer_classes = [JSONRenderer]
    parser_classes = [JSONParser]
    content_negotiation_class = _AlwaysJSON
    versioning_class = None
    consumers: type[SocketPolicy]

    @action(detail=False, methods=["get"])
    def connect(self, request: Request, **kwargs: Any) -> Any:
        return _answered(request)

    @action(detail=False, methods=["post"])
    def receive(self, request: Request, **kwargs: Any) -> Any:
        return _answered(request)

    def handle_exception(self, exc: Exception) -> Any:
        """Handle an exception as DRF does; answer a `ConsumerError` with its text."""
        if isinstance(exc, ConsumerError):
            refusal = APIException(exc.detail, exc.code)
            refusal.status_code = exc.status
            exc = refusal
        return super().handle_exception(exc)


def _answered(request: Any) -> Any:
    remaining = request._request.hook(request)
    return Response() if remaining is None else _answered_later(remaining)


async def _answered_later(remaining: Awaitable[None]) -> Response:
    await remaining
    return Response()


@dataclass(frozen=True)
class HookCall:
    """A call of `on_connect`, `on_receive` or `on_disconnect`, named by `event`."""

    outlet: SocketOutlet
    event: str
    content: Any

    def __call__(self, request: Request | None) -> Awaitable[None] | None:
        """
        Make the instance and call its hook; return what remains to be awaited on the loop.

        In a worker thread.
        """
        queue = self.outlet.queue
        queue.last_request = request
        instance = self.instance(request)
        self.outlet.begin(instance, None if request is None else request._request)
        name = f"on_{self.event}"
        kwargs = accepted_keywords(getattr(type(instance), name), instance.kwargs)
        return instance.run(partial(getattr(instance, name), instance.message, **kwargs))

    def instance(self, request: Request | None) -> SocketPolicy:
        """Return a new instance that serves this message."""
        queue = self.outlet.queue
        consumers: type[SocketPolicy] = queue.stream.consumers
        channel = Channel(consumers.table().channel_name)
        return consumers(
            Message(self.content, channel, ReplyChannel(self.outlet)),
            queue.handshake.kwargs,
            self.outlet,
            connection=queue.connection,
            request=request,
        )
