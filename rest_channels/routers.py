"""
Routers: viewsets in, sockets out.

    router = DefaultRouter()
    router.register("messages", MessageViewSet)

    application = ProtocolTypeRouter({
        "http": get_asgi_application(),
        "websocket": router.as_asgi(),
    })

They are DRF's routers with another kind of URLs: for `messages` the sockets `messages/` and
`messages/<pk>/`, and with `DefaultRouter` the root, where all streams share one connection.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern, RoutePattern
from rest_framework import routers
from rest_framework.viewsets import ViewSetMixin

from rest_channels.consumers.base import Routes
from rest_channels.consumers.channel_worker import ChannelApplication
from rest_channels.consumers.websockets import WebsocketConsumers
from rest_channels.contrib.dcrf import is_consumer
from rest_channels.contrib.dcrf.hosting import HostedStream
from rest_channels.observing.observers import observers, tell
from rest_channels.observing.reports import RefusalReason, RefusalReport
from rest_channels.protocol import CloseCode
from rest_channels.settings import socket_settings
from rest_channels.sockets.handshake import is_trusted_origin, warn_of_origin
from rest_channels.sockets.request import HandshakeRequest, Scope
from rest_channels.sockets.streams import Stream
from rest_channels.viewsets import as_consumer

if TYPE_CHECKING:
    from djangochannelsrestframework.consumers import AsyncAPIConsumer

ASGIApplication = Callable[..., Awaitable[None]]

# Literal text only: a converter's value would reach every viewset as a lookup.
_PREFIX: Final = re.compile(r"([\w.~-]+/)+")


class SimpleRouter(routers.SimpleRouter):
    """
    A socket for each collection and one for each row.

    Takes what DRF's router takes (`trailing_slash`, `use_regex_path`), and `namespace`: the
    namespace under which the same viewsets are included in Django's URLconf, for
    `NamespaceVersioning` and for links.
    """

    def __init__(self, *args: Any, namespace: str | None = None, **kwargs: Any) -> None:
        self.namespace = namespace
        super().__init__(*args, **kwargs)

    def register(
        self,
        prefix: str,
        viewset: type[ViewSetMixin] | type[AsyncAPIConsumer] | type[WebsocketConsumers],
        basename: str | None = None,
    ) -> None:
        """
        Serve `viewset` under `prefix`, which is also the name of its stream.

        Any DRF viewset will do. A consumer of djangochannelsrestframework is hosted unchanged.
        Class-based consumers have their socket and stream under `prefix`, whatever their `path`.
        """
        is_ours = isinstance(viewset, type) and issubclass(
            viewset, (ViewSetMixin, WebsocketConsumers)
        )
        if not (is_ours or is_consumer(viewset)):
            raise ImproperlyConfigured(
                f"register({prefix!r}, ...) takes a viewset class, not {viewset!r}. "
                "Subclass rest_channels.viewsets.ConsumerViewSet or any of DRF's viewsets."
            )
        if any(prefix == known for known, _, _ in self.registry):
            raise ImproperlyConfigured(
                f"The prefix {prefix!r} is already registered: each stream needs a name of its own."
            )
        if issubclass(viewset, ViewSetMixin):
            super().register(prefix, as_consumer(viewset), basename)
        else:
            super().register(prefix, viewset, basename or prefix)

    def get_urls(self) -> list[URLPattern]:
        """Return routes for Channels' `URLRouter`, each viewset's from its `as_routes`."""
        if apps.ready and not apps.is_installed("rest_channels"):
            raise ImproperlyConfigured(
                "Add 'rest_channels' to INSTALLED_APPS, because its sockets are routed."
            )
        routes = []
        for prefix, viewset, basename in self.registry:
            if issubclass(viewset, WebsocketConsumers):
                path = f"{prefix}{self.trailing_slash}"
                routes += viewset.configured({"path": path}).get_routes(prefix)
            elif is_consumer(viewset):
                routes.append(self._hosted_route(prefix, viewset, basename))
            else:
                routes += viewset.as_routes(prefix, basename, router=self)
        return routes

    def _hosted_route(self, prefix: str, consumer: type[AsyncAPIConsumer], name: str) -> URLPattern:
        pattern = RegexPattern(f"^{prefix}{self.trailing_slash}$", name=name, is_endpoint=True)
        application = socket_settings.CONNECTION_CLASS.as_asgi(
            stream=HostedStream(consumer, prefix), pattern=pattern
        )
        return URLPattern(pattern, application, name=name)

    @property
    def streams(self) -> dict[str, Stream | HostedStream]:
        """The registered streams by prefix, as the sockets serve them."""
        return _streams(self.urls)

    def as_asgi(self, prefix: str = "") -> ASGIApplication:
        """
        Return the application for `ProtocolTypeRouter`'s `"websocket"`, secure by default.

        It refuses pages of other origins with 403 at the handshake, provides session and user, and
        closes unknown paths with 4404.

        `prefix` is the path below which all sockets are, written as for Django's `path()`: with
        `"ws/"` the root is `/ws/`. Raises `ImproperlyConfigured` if no path can begin with it.
        """
        routes = self.urls
        if prefix:
            below = RoutePattern(_checked_prefix(prefix), is_endpoint=False)
            routes = [URLPattern(below, URLRouter(routes))]
        everything_else = URLPattern(RegexPattern(""), _no_such_route)
        return SameOrigin(URLRouter([*routes, everything_else]))


class DefaultRouter(SimpleRouter):
    """A `SimpleRouter` with a root: one socket for all streams, each frame naming its own."""

    root_name = "socket-root"

    def get_urls(self) -> list[URLPattern]:
        routes = super().get_urls()
        pattern = RegexPattern("^$", name=self.root_name, is_endpoint=True)
        root = socket_settings.DEMULTIPLEXER_CLASS.as_asgi(
            streams=_streams(routes), pattern=pattern
        )
        return [URLPattern(pattern, root, name=self.root_name), *routes]


def _checked_prefix(prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix):
        proper = re.sub("/+", "/", re.sub(r"[^\w./-]", "", prefix)).strip("/") or "ws"
        raise ImproperlyConfigured(
            f"as_asgi(prefix={prefix!r}): a prefix must be a path without a leading slash and "
            f"with a trailing one. Write as_asgi(prefix='{proper}/')."
        )
    return prefix


def _streams(routes: list[URLPattern]) -> dict[str, Stream | HostedStream]:
    found = [
        s for route in routes for socket in find_sockets(route.callback) for s in socket.streams
    ]
    return {stream.prefix: stream for stream in found}


class SameOrigin:
    """Middleware that refuses handshakes from pages that `sockets.handshake` does not trust."""

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise ValueError(
                f"as_asgi() serves websockets, not {scope['type']!r}: pass it to "
                "ProtocolTypeRouter as 'websocket'."
            )
        if is_trusted_origin(HandshakeRequest(scope)):
            await self.application(scope, receive, send)
        else:
            warn_of_origin("its handshake is refused", scope)
            tell(observers.refused, RefusalReport(scope["path"], RefusalReason.ORIGIN))
            await receive()
            # Before `accept`, servers answer the handshake with 403.
            await send({"type": "websocket.close"})


async def _no_such_route(scope: Scope, receive: Any, send: Any) -> None:
    tell(observers.refused, RefusalReport(scope["path"], RefusalReason.NO_SUCH_ROUTE))
    await receive()
    # Accept first, because browsers hide from pages why a handshake was refused.
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": int(CloseCode.NO_SUCH_ROUTE)})


class ChannelRouter:
    """
    Class-based consumers on internal channels, for `manage.py runworker NAME ...`.

        channels = ChannelRouter(Pages.as_routes(), ...)
        application = ProtocolTypeRouter({"websocket": ..., "channel": channels.as_asgi()})

    If several listen on one channel, they are asked in the order in which they were given.
    """

    def __init__(self, *routes: Routes) -> None:
        self.registry: list[Routes] = []
        for item in routes:
            self.register(item)

    def register(self, routes: Routes) -> None:
        """Serve the `routes`, as returned by `as_routes()`, on their channels."""
        if not isinstance(routes, Routes):
            raise ImproperlyConfigured(
                f"ChannelRouter takes what as_routes() of a class-based consumer returns, not "
                f"{routes!r}."
            )
        if not routes.channels:
            raise ImproperlyConfigured(
                f"{routes.table.consumers.__name__} listens on no channel: set its channel_name."
            )
        self.registry.append(routes)

    @property
    def mapping(self) -> dict[str, ChannelApplication]:
        """Applications by channel name, as Channels' `ChannelNameRouter` takes them."""
        names = dict.fromkeys(name for routes in self.registry for name in routes.channels)
        return {
            name: ChannelApplication(
                name, [routes.table for routes in self.registry if name in routes.channels]
            )
            for name in names
        }

    def as_asgi(self) -> ASGIApplication:
        """Return the application for `ProtocolTypeRouter`'s `"channel"`."""
        application: ASGIApplication = ChannelNameRouter(self.mapping)
        return application


class Socket(NamedTuple):
    """A socket of an ASGI application, found by `find_sockets`."""

    path: str
    streams: list[Stream | HostedStream]
    is_root: bool
    is_row: bool
    is_origin_checked: bool


def find_sockets(
    application: Any, path: str = "/", *, is_origin_checked: bool = False
) -> Iterator[Socket]:
    """
    Yield the sockets below an ASGI application, outermost first.

    Follows Channels' routers, and middleware that keeps the wrapped application in `application` or
    `inner`, as Channels' own and most others do.
    """
    is_origin_checked |= isinstance(application, SameOrigin) or (
        isinstance(application, OriginValidator) and "*" not in application.allowed_origins
    )
    if isinstance(application, ProtocolTypeRouter):
        websocket = application.application_mapping.get("websocket")
        yield from find_sockets(websocket, path, is_origin_checked=is_origin_checked)
    elif isinstance(application, URLRouter):
        for route in application.routes:
            pattern = str(route.pattern).removeprefix("^").removesuffix("$").removesuffix("\\Z")
            yield from find_sockets(
                route.callback, path + pattern, is_origin_checked=is_origin_checked
            )
    elif hasattr(application, "initkwargs"):
        kwargs = application.initkwargs
        is_root = "streams" in kwargs
        streams = list(kwargs["streams"].values()) if is_root else [kwargs["stream"]]
        yield Socket(path, streams, is_root, kwargs.get("is_row", False), is_origin_checked)
    else:
        inner = getattr(application, "application", None) or getattr(application, "inner", None)
        if inner is not None:
            yield from find_sockets(inner, path, is_origin_checked=is_origin_checked)
