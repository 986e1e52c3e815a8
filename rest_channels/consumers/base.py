"""
A class is a group of handlers, an instance serves one message.

    class Pages(Consumers):
        channel_name = "pages"
        prefix = "new"

        @consumer(page=r"(?P<page>\\d+)")
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
from rest_channels.consumers.handlers import Handler, find_handlers
from rest_channels.consumers.layers import require_channel_name, safe_name, to_json
from rest_channels.exceptions import ConsumerError
from rest_channels.keywords import configured, subclass
from rest_channels.threads import workers

if TYPE_CHECKING:
    from rest_framework.request import Request

    from rest_channels.connection import Connection


# What a class is made of, no configuration.
_RESERVED: Final = ("stream_class", "lane_class", "bases")


class Outlet(Protocol):
    """Where one message came from and its replies go."""

    #: At a worker: the primary key of the user who sent it.
    user_pk: Any
    #: Under which key the socket's own session is stored.
    session_key: str | None
    #: Whether the socket is closed.
    is_last: bool

    @property
    def owner(self) -> Hashable:
        """Whose share of the worker threads its work takes."""

    @property
    def address(self) -> str | None:
        """What reaches it from another process; None where nothing does."""

    def say(self, text: str) -> None:
        """Send JSON text there; from any thread, in the order of the calls."""


class ReplyChannel(Channel):
    """Whom a message came from. Its `name` reaches them from any process, as `Channel(name)`."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    @property
    def name(self) -> str:  # type: ignore[override]
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
    """One message: its `content`, the `channel` it came by, and `reply_channel`, whom from."""

    def __init__(self, content: Any, channel: Channel, reply_channel: ReplyChannel) -> None:
        self.content = content
        self.channel = channel
        self.reply_channel = reply_channel


class Routes(list[URLPattern]):
    """
    What `as_routes` returns: routes for Channels' `URLRouter`; none where the class serves no
    sockets. `table` is what `rest_channels.routers.ChannelRouter` makes of them.
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
            # The name that nobody gave is nobody's to send to.
            names = [name for name in names if name != self.channel_name]
        return list(dict.fromkeys(names))

    @property
    def is_named(self) -> bool:
        """Whether somebody gave the class's channel its name."""
        return self.channel_name != _name_of(self.consumers)

    def channel_of(self, handler: Handler) -> str:
        return handler.channel_name or self.channel_name

    def find(self, content: Any, channel: str) -> tuple[Handler, dict[str, str]] | None:
        """The first handler on `channel` that takes `content`, and what its filters captured."""
        for handler in self.handlers:
            if self.channel_of(handler) == channel:
                captured = handler.match(content)
                if captured is not None:
                    return handler, captured
        return None


class Consumers:
    """
    A group of handlers.

    An instance serves one message. It finds the message in `message`, what filters captured and
    the URL bound in `kwargs`, whom to reply to in `reply_channel`, on a socket of this process
    that socket in `connection` and DRF's request in `request` (None elsewhere), and every keyword
    of `as_routes` as an attribute.
    """

    #: The internal channel that the handlers listen on, unless they name one of their own.
    channel_name: Any = None
    #: Applied to each handler, the first of them outermost.
    decorators: Iterable[Callable[..., Any]] = ()

    #: Set for each of `as_routes`.
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
        #: Whether something was raised, whatever `at_exception` made of it.
        self.has_failed = False

    @classmethod
    def as_routes(cls, **initkwargs: Any) -> Routes:
        """
        This class as routes, with `initkwargs` in place of attributes of the class, for these
        routes alone. Raises TypeError for a name that is none, with the list of those that are.
        """
        return cls.configured(initkwargs).get_routes()

    @classmethod
    def configured(cls, initkwargs: dict[str, Any]) -> type[Consumers]:
        """The subclass that routes are made of."""
        own = subclass(cls, (configured(cls, initkwargs, _RESERVED),), {})
        own._table = Table(own, initkwargs)
        return own

    @classmethod
    def table(cls) -> Table:
        """The handlers of a configured class."""
        return cls._table

    @classmethod
    def get_routes(cls) -> Routes:
        """The routes of a configured class."""
        if not cls._table.channels or not cls._table.handlers:
            raise ImproperlyConfigured(
                f"{cls.__name__} has no handlers on a named channel: give it a method decorated "
                f"with @consumer, and a channel_name: {cls.__name__}.as_routes(channel_name='...')."
            )
        return Routes(cls._table)

    @classmethod
    def get_channel_name(cls) -> str:
        """The internal channel: `channel_name`, or a name made of the class's own."""
        if cls.channel_name is None:
            return _name_of(cls)
        return cls.channel_name

    @classmethod
    def get_channels_name(cls) -> str:
        """`get_channel_name`, under the name it had before."""
        return cls.get_channel_name()

    def get_decorators(self) -> Iterable[Callable[..., Any]]:
        """What is applied to each handler, the first outermost."""
        return self.decorators

    @property
    def reply_channel(self) -> ReplyChannel:
        return self.message.reply_channel

    def reply(self, content: Any) -> None:
        """
        Send `content` to whom the message came from. In `def` and `async def` handlers alike: it
        waits for nothing, and what is said leaves in the order in which it is said.
        """
        self.reply_channel.send(content)

    def at_exception(self, exc: Exception) -> Any:
        """
        Called with what a handler raised; `def` or `async def`.

        Raise it, as this does, and the client gets an error: the text of a `ConsumerError`, DRF's
        own for DRF's exceptions, 500 for all else, whose traceback is in the log. Return, and it
        is dealt with.
        """
        raise exc

    def dispatch(self) -> Any:
        """
        Let the first handler that matches have the message. Returns what it returns: an awaitable
        where it is `async def`. Raises `ConsumerError` where none matches.
        """
        found = self._table.find(self.message.content, self.message.channel.name)
        if found is None:
            raise ConsumerError(
                "There is nobody for such a message: no filter matches it.",
                status=404,
                code="not_found",
            )
        handler, captured = found
        # What the URL bound wins over what the message says.
        self.kwargs = {**captured, **self.kwargs}
        method = getattr(self, handler.name)
        for decorator in reversed([*self.get_decorators(), *handler.decorators]):
            method = decorator(method)
        return method(self.message, **handler.arguments(self.kwargs))

    def run(self, function: Callable[[], Any]) -> Awaitable[None] | None:
        """
        Call `function`, this instance's own, in a worker thread; `at_exception` has its errors.
        What remains to be awaited on the loop is returned; `discard` it where nobody will.
        """
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

    def after(self) -> None:
        """Called in a worker thread when the message was served, or what it raised dealt with."""

    def serialize_origin(self) -> dict[str, Any]:
        """What a worker has to know of whom the message came from; in a worker thread."""
        return {}

    def discard(self) -> None:
        """Forget what `run` left and nobody began to await."""
        for awaitable in self._begun:
            if inspect.iscoroutine(awaitable) and _is_unbegun(awaitable):
                awaitable.close()

    def _unfinished(self, result: Any) -> Any:
        self._begun.append(result)
        return result

    async def _awaited(self, result: Awaitable[Any], is_dealt: bool) -> None:
        try:
            await result
        except Exception as exc:
            if is_dealt:
                # It was at_exception itself.
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
