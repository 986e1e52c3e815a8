r"""
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
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern

from rest_channels.consumers.base import Routes
from rest_channels.consumers.consumer_streams import ConsumersQueue, ConsumersStream
from rest_channels.consumers.groups.layers import message as layer_message
from rest_channels.consumers.groups.layers import send_to_layer, to_json
from rest_channels.consumers.message_filters import resolved
from rest_channels.consumers.outlets import SocketOutlet
from rest_channels.consumers.socket_policy import SocketPolicy
from rest_channels.settings import socket_settings

if TYPE_CHECKING:
    from rest_channels.consumers.base import Message


class WebsocketConsumers(SocketPolicy):
    """
    Handlers of the messages that sockets receive.

    Each socket's messages are served in their order, `max_in_flight` of them at a time.
    `authentication_classes`, `permission_classes` and `throttle_classes` are DRF's, by default
    those of the settings: connecting is a GET, sending a POST.
    """

    #: Whether a socket's messages are sent on to `channel_name`, for a worker to handle.
    internal: bool = False

    #: The class of the stream, and the class that serves it on one socket.
    stream_class: type[ConsumersStream] = ConsumersStream
    queue_class: type[ConsumersQueue] = ConsumersQueue

    #: Hooks that are not awaited: a coroutine would be mistaken for an answer.
    _sync_hooks: ClassVar[tuple[str, ...]] = ("check_hearing",)

    @classmethod
    def get_routes(cls, prefix: str | None = None) -> Routes:
        """
        Return the socket of a configured class; `prefix` is the stream's name on a shared one.
        """
        for name in cls._sync_hooks:
            if inspect.iscoroutinefunction(getattr(cls, name)):
                raise ImproperlyConfigured(
                    f"{cls.__name__}.{name} must not be async, because it would not be awaited."
                )
        if cls.internal and not cls.table().is_named:
            raise ImproperlyConfigured(
                f"{cls.__name__} is internal and sends to no channel: set its channel_name."
            )
        path = resolved(cls.path, cls, cls.table().initkwargs)
        pattern = RegexPattern(_anchored(path), name=cls.__name__.lower(), is_endpoint=True)
        application = socket_settings.CONNECTION_CLASS.as_asgi(
            stream=cls.stream_class(cls, path if prefix is None else prefix), pattern=pattern
        )
        return Routes(cls.table(), [URLPattern(pattern, application, name=pattern.name)])

    def on_connect(self, message: Message, **kwargs: Any) -> Any:
        """
        Prepare the socket before it opens; `def` or `async def`, as all three hooks.

        An exception refuses the socket; replies are sent once it is open.
        """

    def on_receive(self, message: Message, **kwargs: Any) -> Any:
        """Handle a message; by default, pass it to the handlers or to the channel."""
        return self.forward() if self.internal else self.dispatch()

    def on_disconnect(self, message: Message, **kwargs: Any) -> Any:
        """Clean up after an open socket has closed; `message.content` has the `code`."""

    def forward(self) -> Awaitable[None]:
        """
        Send the message to `channel_name`, with `kwargs` and the address of this socket.

        Returns what remains to be awaited. That raises `ConsumerError`, 503, if the layer does not
        accept it.
        """
        sent = layer_message(
            to_json(self.message.content), self.kwargs, self.message.reply_channel.name
        )
        origin = {"origin": to_json(self.serialize_origin())}
        return send_to_layer(self.get_channel_name(), {**sent, **origin})

    def send(self, content: Any) -> None:
        """Send `content` to the socket, as `reply` does, without a message to answer."""
        self.reply(content)

    def join_group(self, name: str) -> None:
        """
        Let the socket receive the group's messages until it leaves or closes. From any thread.

        Raises `ConsumerError`, 503, if it would be in more than `MAX_SUBSCRIPTIONS` groups.
        """
        queue = self._socket.queue
        queue.hub.call(queue.hub.join_group, name, queue)

    def leave_group(self, name: str) -> None:
        """Let the socket leave the group, if it is in it. From any thread."""
        queue = self._socket.queue
        queue.hub.call(queue.hub.leave_group, name, queue)

    def close(self, code: int = 1000) -> None:
        """Close the socket with `code`; on a shared socket, only this stream. From any thread."""
        self._socket.close(code)

    @property
    def _socket(self) -> SocketOutlet:
        if not isinstance(self._outlet, SocketOutlet):
            raise ImproperlyConfigured(
                "The socket belongs to another process: reply to it, or use "
                "Group(name).add(self.reply_channel)."
            )
        return self._outlet


def _anchored(path: str) -> str:
    """Return `path` for Channels' `URLRouter`, which has removed the slash before it."""
    if not isinstance(path, str):
        raise ImproperlyConfigured(f"A path must be a regular expression, a string, not {path!r}.")
    inner = path.removeprefix("^").removeprefix("/").removesuffix("$")
    return f"^(?:{inner})$" if "|" in inner else f"^{inner}$"
