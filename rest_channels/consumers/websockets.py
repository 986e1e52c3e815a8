"""
Consumers of websockets.

    class Chat(WebsocketConsumers):
        path = r"/chat/(?P<room>\\w+)"

        @consumer(command="greet")
        def greet(self, message, room):
            self.reply({"text": f"Welcome to {room}"})

    application = URLRouter(Chat.as_routes())
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern
from rest_framework.settings import api_settings

from rest_channels.consumers.base import Consumers, Routes
from rest_channels.consumers.deliveries import Delivery
from rest_channels.consumers.filters import resolved
from rest_channels.consumers.layers import message as layer_message
from rest_channels.consumers.layers import send_to_layer, to_json
from rest_channels.consumers.sockets import ConsumersLane, ConsumersStream
from rest_channels.settings import socket_settings

if TYPE_CHECKING:
    from rest_channels.consumers.base import Message


class WebsocketConsumers(Consumers):
    """
    Handlers of what sockets receive.

    Each socket's messages are served in their order, `max_in_flight` of them at a time.
    `authentication_classes`, `permission_classes` and `throttle_classes` are DRF's, by default
    those of the settings: to connect is a GET, to send a POST.
    """

    #: The socket's path, a regular expression that has to match in full, or a callable as for a
    #: filter. A slash at its beginning is the router's.
    path: Any = ""
    #: Whether what a socket receives is sent on to `channel_name`, for a worker to handle.
    internal: bool = False
    max_in_flight: int = 1
    authentication_classes: Sequence[Any] = api_settings.DEFAULT_AUTHENTICATION_CLASSES
    permission_classes: Sequence[Any] = api_settings.DEFAULT_PERMISSION_CLASSES
    throttle_classes: Sequence[Any] = api_settings.DEFAULT_THROTTLE_CLASSES

    #: What a socket is one stream of, and what serves that stream on one socket.
    stream_class: type[ConsumersStream] = ConsumersStream
    lane_class: type[ConsumersLane] = ConsumersLane

    #: Hooks that are called where nothing is awaited: a coroutine would be taken for an answer.
    _sync_hooks: ClassVar[tuple[str, ...]] = ("check_hearing",)

    @classmethod
    def get_routes(cls, prefix: str | None = None) -> Routes:
        """The socket of a configured class; `prefix` is the stream's name on a shared one."""
        for name in cls._sync_hooks:
            if inspect.iscoroutinefunction(getattr(cls, name)):
                raise ImproperlyConfigured(
                    f"{cls.__name__}.{name} is async, and nobody would wait for it: let it be def."
                )
        if cls.internal and not cls.table().is_named:
            raise ImproperlyConfigured(
                f"{cls.__name__} is internal and sends to no channel: give it a channel_name."
            )
        path = resolved(cls.path, cls, cls.table().initkwargs)
        pattern = RegexPattern(_anchored(path), name=cls.__name__.lower(), is_endpoint=True)
        application = socket_settings.CONNECTION_CLASS.as_asgi(
            stream=cls.stream_class(cls, path if prefix is None else prefix), pattern=pattern
        )
        return Routes(cls.table(), [URLPattern(pattern, application, name=pattern.name)])

    @classmethod
    def get_permission_classes(cls) -> Sequence[Any]:
        """Who may connect and send: DRF's permission classes."""
        return cls.permission_classes

    @classmethod
    def guards_places(cls) -> bool:
        """Whether `check_hearing` has anything to say."""
        return cls.check_hearing is not WebsocketConsumers.check_hearing

    @classmethod
    def get_queryset(cls) -> Any:
        """The rows that permissions by model are about; None where there are none."""
        return None

    def on_connect(self, message: Message, **kwargs: Any) -> Any:
        """
        Called before the socket opens, `def` or `async def` as all three. What it raises refuses
        the socket; what it replies is sent once the socket is open.
        """

    def on_receive(self, message: Message, **kwargs: Any) -> Any:
        """Called with each message; by default gives it to the handlers, or to the channel."""
        return self.forward() if self.internal else self.dispatch()

    def on_disconnect(self, message: Message, **kwargs: Any) -> Any:
        """Called once the socket is closed, where it was open; `message.content` has the `code`."""

    def forward(self) -> Awaitable[None]:
        """
        Send the message to `channel_name`, with `kwargs` and the address of this socket; returns
        what is left to await. That raises `ConsumerError`, 503, where the layer does not take it.
        """
        sent = layer_message(
            to_json(self.message.content), self.kwargs, self.message.reply_channel.name
        )
        origin = {"origin": to_json(self.serialize_origin())}
        return send_to_layer(self.get_channel_name(), {**sent, **origin})

    def check_hearing(self) -> None:
        """
        Raise PermissionDenied where the socket may not have any more what is sent to its groups:
        it is closed with 4403. Asked before something is sent that comes more than `LEASE_SECONDS`
        after the last answer; in a worker thread.
        """

    def send(self, content: Any) -> None:
        """Send `content` to the socket: what `reply` does, where nothing was asked."""
        self.reply(content)

    def join_group(self, name: str) -> None:
        """
        Let the socket have what is sent to the group, until it leaves or closes. From any thread.

        Raises `ConsumerError`, 503, where it would be in more than `MAX_SUBSCRIPTIONS` groups.
        """
        lane = self._delivery.lane
        lane.hub.call(lane.hub.join_group, name, lane)

    def leave_group(self, name: str) -> None:
        """Let the socket leave the group, if it is in it. From any thread."""
        lane = self._delivery.lane
        lane.hub.call(lane.hub.leave_group, name, lane)

    def close(self, code: int = 1000) -> None:
        """Close the socket with `code`; on a shared socket this stream of it. From any thread."""
        self._delivery.close(code)

    @property
    def _delivery(self) -> Delivery:
        if not isinstance(self._outlet, Delivery):
            raise ImproperlyConfigured(
                "The socket is another process's: reply to it, or use "
                "Group(name).add(self.reply_channel)."
            )
        return self._outlet


def _anchored(path: str) -> str:
    """`path` for Channels' `URLRouter`, which has taken the slash before it."""
    if not isinstance(path, str):
        raise ImproperlyConfigured(f"A path is a regular expression, a string, not {path!r}.")
    inner = path.removeprefix("^").removeprefix("/").removesuffix("$")
    return f"^(?:{inner})$" if "|" in inner else f"^{inner}$"
