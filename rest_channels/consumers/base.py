r"""
Class-based consumers: a class is a group of handlers, an instance serves one message.

    class Pages(Consumers):
        channel_name = "pages"
        prefix = "new"

        @consumer(page=r"(?P<page>\d+)")
        def seen(self, message, page):
            PageView.objects.create(page=self.prefix + page)

    routes = [*Pages.as_routes(), *Pages.as_routes(channel_name="private", prefix="private")]
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern

from rest_channels.consumers.channels import Channel
from rest_channels.consumers.groups.layers import require_channel_name, safe_name, to_json
from rest_channels.consumers.handlers import Handler, find_handlers
from rest_channels.exceptions import ConsumerError
from rest_channels.viewsets import configured, subclass
from rest_channels.workers.threads import workers

if TYPE_CHECKING:
    from rest_framework.request import Request

    from rest_channels.sockets.connection import Connection


# Parts of a class that are not configuration.
_RESERVED: Final = ("stream_class", "queue_class", "bases")


class Outlet(Protocol):
    """The sender of one message, to whom its replies go."""

    #: At a worker: the primary key of the user who sent it.
    user_pk: Any
    #: The key under which the socket's own session is stored.
    session_key: str | None
    #: Whether the socket is closed.
    is_last: bool

    @property
    def owner(self) -> Hashable:
        """The user or the address whose share of the worker threads its work takes."""

    @property
    def address(self) -> str | None:
        """The address that reaches it from another process; None if there is none."""

    def say(self, text: str) -> None:
        """Send JSON text to it; from any thread, in the order of the calls."""


class ReplyChannel(Channel):
    """
    The sender of a message. Its `name` reaches the sender from any process, as `Channel(name)`.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    @property
    def name(self) -> str:  # type: ignore[override]  # a property in an attribute's place
        address = self._outlet.address
        if address is None:
            raise ImproperlyConfigured(
                "There is no address to reply to: the message came without one, or there is no "
                "channel layer (CHANNEL_LAYERS)."
            )
        return address

    def send(self, content: Any, **ignored: Any) -> None:
        """Reply with `content`; from any thread."""
        self._outlet.say(to_json(content))

    async def asend(self, content: Any, **ignored: Any) -> None:
        self.send(content)


class Message:
    """One message: its `content`, the `channel` it came by, and its sender, `reply_channel`."""

    def __init__(self, content: Any, channel: Channel, reply_channel: ReplyChannel) -> None:
        self.content = content
        self.channel = channel
        self.reply_channel = reply_channel


class Routes(list[URLPattern]):
    """
    The result of `as_routes`: routes for Channels' `URLRouter`.

    Empty if the class serves no sockets. `rest_channels.routers.ChannelRouter` uses the `table`.
    """

    def __init__(self, table: Table, patterns: Iterable[URLPattern] = ()) -> None:
        super().__init__(patterns)
        self.table = table

    @property
    def channels(self) -> list[str]:
        """The internal channels that handlers of these routes listen on."""
        return self.table.channels


class Table:
    """The handlers of a class as one `as_routes` configured it."""

    def __init__(self, consumers: type[Consumers], initkwargs: Mapping[str, Any]) -> None:
        self.consumers = consumers
        self.initkwargs = initkwargs
        self.channel_name = consumers.get_channel_name()
        self.handlers = find_handlers(consumers, initkwargs)
        for name in {self.channel_name, *map(self.channel_of, self.handlers)}:
            require_channel_name(name, consumers.__name__)

    @property
    def channels(self) -> list[str]:
        """Each channel that a handler listens on, once."""
        names = [self.channel_name, *map(self.channel_of, self.handlers)]
        if not self.is_named:
            # A generated name is not meant for senders.
            names = [name for name in names if name != self.channel_name]
        return list(dict.fromkeys(names))

    @property
    def is_named(self) -> bool:
        """Whether the class's channel has a name of its own, not a generated one."""
        return self.channel_name != _name_of(self.consumers)

    def channel_of(self, handler: Handler) -> str:
        return handler.channel_name or self.channel_name

    def find(self, content: Any, channel: str) -> tuple[Handler, dict[str, str]] | None:
        """Return the first handler on `channel` that takes `content`, and the captured values."""
        for handler in self.handlers:
            if self.channel_of(handler) == channel:
                captured = handler.match(content)
                if captured is not None:
                    return handler, captured
        return None


class Consumers:
    """
    A group of handlers.

    An instance serves one message. Its attributes are the `message`; `kwargs`, the values from
    filters and the URL; `reply_channel`, the sender; on a socket of this process the socket in
    `connection` and DRF's request in `request` (None elsewhere); and every keyword of `as_routes`.
    """

    #: The internal channel that the handlers listen on, unless they name one of their own.
    channel_name: str | None = None
    #: Applied to each handler, the first of them outermost.
    decorators: Iterable[Callable[..., Any]] = ()

    #: Set for each call of `as_routes`.
    _table: ClassVar[Table]

    def __init__(
        self,
        message: Message,
        kwargs: Mapping[str, Any],
        outlet: Outlet,
        *,
        connection: Connection | None = None,
        request: Request | None = None,
    ) -> None:
        self.message = message
        self.kwargs = dict(kwargs)
        self.connection = connection
        self.request = request
        self._outlet = outlet
        self._begun: list[Awaitable[Any]] = []
        #: Whether the instance raised an exception, even if `at_exception` handled it.
        self.has_failed = False

    @classmethod
    def as_routes(cls, **initkwargs: Any) -> Routes:
        """
        Return this class as routes; `initkwargs` replace attributes of the class for them alone.

        Raises TypeError for a name that is not an attribute, with the list of attributes.
        """
        return cls.configured(initkwargs).get_routes()

    @classmethod
    def configured(cls, initkwargs: dict[str, Any]) -> type[Consumers]:
        """Return the subclass that routes are made of."""
        own: type[Consumers] = subclass(cls, (configured(cls, initkwargs, _RESERVED),), {})
        own._table = Table(own, initkwargs)
        return own

    @classmethod
    def is_configured(cls) -> bool:
        """Return whether routes are made of this class."""
        return hasattr(cls, "_table")

    @classmethod
    def table(cls) -> Table:
        """Return the handlers of a configured class."""
        return cls._table

    @classmethod
    def get_routes(cls) -> Routes:
        """Return the routes of a configured class."""
        if not cls._table.channels or not cls._table.handlers:
            raise ImproperlyConfigured(
                f"{cls.__name__} has no handlers on a named channel: add a method decorated "
                f"with @consumer, and a channel_name: {cls.__name__}.as_routes(channel_name='...')."
            )
        return Routes(cls._table)

    @classmethod
    def get_channel_name(cls) -> str:
        """Return the internal channel: `channel_name`, or a name derived from the class's own."""
        if cls.channel_name is None:
            return _name_of(cls)
        return cls.channel_name

    @classmethod
    def get_channels_name(cls) -> str:
        """Return `get_channel_name`, under its former name."""
        return cls.get_channel_name()

    def get_decorators(self) -> Iterable[Callable[..., Any]]:
        """Return the decorators of each handler, the first outermost."""
        return self.decorators

    @property
    def reply_channel(self) -> ReplyChannel:
        return self.message.reply_channel

    def reply(self, content: Any) -> None:
        """
        Send `content` to the sender of the message.

        For `def` and `async def` handlers alike: it does not wait, and replies leave in the order
        of the calls.
        """
        self.reply_channel.send(content)

    def at_exception(self, exc: Exception) -> Any:
        """
        Handle an exception of a handler; `def` or `async def`.

        Raise it, as this method does, to send the client an error: the text of a `ConsumerError`,
        DRF's own for DRF's exceptions, 500 for all others, whose traceback is logged. Return to
        send none.
        """
        raise exc

    def dispatch(self) -> Any:
        """
        Pass the message to the first handler that matches, and return its result.

        That is an awaitable if the handler is `async def`. `handle_unmatched` gets a message that
        no handler matches.
        """
        found = self._table.find(self.message.content, self.message.channel.name)
        if found is None:
            return self.handle_unmatched()
        handler, captured = found
        # The URL's values take precedence over the message's.
        self.kwargs = {**captured, **self.kwargs}
        method = getattr(self, handler.name)
        for decorator in reversed([*self.get_decorators(), *handler.decorators]):
            method = decorator(method)
        return method(self.message, **handler.arguments(self.kwargs))

    def handle_unmatched(self) -> Any:
        """Handle a message that no handler matches; by default, raise `ConsumerError`, 404."""
        raise ConsumerError(
            "No handler takes this message: no filter matches it.",
            status=404,
            code="not_found",
        )

    def run(self, function: Callable[[], Any]) -> Awaitable[None] | None:
        """
        Call `function`, a method of this instance; `at_exception` gets its errors.

        In a worker thread. Returns what remains to be awaited on the loop; `discard` it otherwise.
        """
        result: Any
        try:
            result = function()
        except Exception as exc:
            self.has_failed = True
            result = self.at_exception(exc)
            is_dealt = True
        else:
            is_dealt = False
        if not inspect.isawaitable(result):
            self.after()
            return None
        return self._unfinished(self._awaited(self._unfinished(result), is_dealt))

    @property
    def has_unsaved_session(self) -> bool:
        """Whether a session of its own was changed and not saved yet."""
        return False

    def save_session(self) -> None:
        """Save the sessions that `has_unsaved_session` reports; in a worker thread."""

    def after(self) -> None:
        """Run after the message was served, or its exception handled; in a worker thread."""

    def serialize_origin(self) -> dict[str, Any]:
        """Return what a worker needs to know about the sender; in a worker thread."""
        return {}

    def discard(self) -> None:
        """Close the awaitables that `run` left and that were never awaited."""
        for awaitable in self._begun:
            if inspect.iscoroutine(awaitable) and _is_unbegun(awaitable):
                awaitable.close()

    def _unfinished(self, result: Awaitable[None]) -> Awaitable[None]:
        self._begun.append(result)
        return result

    async def _awaited(self, result: Awaitable[Any], is_dealt: bool) -> None:
        try:
            await result
        except Exception as exc:
            if is_dealt:
                # It was raised by at_exception itself.
                raise
            self.has_failed = True
            # It may be `def`, and read the database.
            dealt = await workers.run(self.at_exception, exc, owner=self._outlet.owner)
            if inspect.isawaitable(dealt):
                await dealt
        if type(self).after is not Consumers.after:
            await workers.run(self.after, owner=self._outlet.owner)


def _name_of(cls: type) -> str:
    return safe_name(f"{cls.__module__}.{cls.__qualname__}")


def _is_unbegun(coroutine: Any) -> bool:
    return inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
