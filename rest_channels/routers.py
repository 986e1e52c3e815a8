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

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern
from djangochannelsrestframework.consumers import AsyncAPIConsumer
from rest_framework import routers
from rest_framework.viewsets import ViewSetMixin

from rest_channels import origin
from rest_channels.consumers.base import Routes
from rest_channels.consumers.internal import ChannelApplication
from rest_channels.consumers.websockets import WebsocketConsumers
from rest_channels.hosting import HostedStream
from rest_channels.protocol import CloseCode
from rest_channels.request import HandshakeRequest, Scope
from rest_channels.settings import socket_settings
from rest_channels.streams import Stream
from rest_channels.viewsets import as_consumer

ASGIApplication = Callable[..., Awaitable[None]]


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
        Serve `viewset`, any of DRF's, under `prefix`, which is its stream's name too. One of
        djangochannelsrestframework's consumers is hosted as it is. Class-based consumers have their
        socket and stream under `prefix`, whatever their `path`.
        """
        if not isinstance(viewset, type) or not issubclass(
            viewset, (ViewSetMixin, AsyncAPIConsumer, WebsocketConsumers)
        ):
            raise ImproperlyConfigured(
                f"register({prefix!r}, ...) takes a viewset class, not {viewset!r}. "
                "Subclass rest_channels.viewsets.ConsumerViewSet or any viewset of DRF's."
            )
        if any(prefix == known for known, _, _ in self.registry):
            raise ImproperlyConfigured(
                f"The prefix {prefix!r} is registered already: a stream's name is its own."
            )
        if issubclass(viewset, ViewSetMixin):
            super().register(prefix, as_consumer(viewset), basename)
        else:
            super().register(prefix, viewset, basename or prefix)

    def get_urls(self) -> list[URLPattern]:
        """Routes for Channels' `URLRouter`, each viewset's from its `as_routes`."""
        if apps.ready and not apps.is_installed("rest_channels"):
            raise ImproperlyConfigured(
                "Add 'rest_channels' to INSTALLED_APPS: its sockets are routed."
            )
        routes = []
        for prefix, viewset, basename in self.registry:
            if issubclass(viewset, WebsocketConsumers):
                path = f"{prefix}{self.trailing_slash}"
                routes += viewset.configured({"path": path}).get_routes(prefix)
            elif issubclass(viewset, AsyncAPIConsumer):
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
        """What is registered, by prefix, as the sockets serve it."""
        return _streams(self.urls)

    def as_asgi(self) -> ASGIApplication:
        """
        The application for `ProtocolTypeRouter`'s `"websocket"`, secure by default: pages of
        other origins are refused with 403 at the handshake, sessions and users are known, and a
        path that leads nowhere is closed with 4404.
        """
        everything_else = URLPattern(RegexPattern(""), _no_such_route)
        return SameOrigin(URLRouter([*self.urls, everything_else]))


class DefaultRouter(SimpleRouter):
    """`SimpleRouter` with a root: one socket for all streams, each frame naming its own."""

    root_name = "socket-root"

    def get_urls(self) -> list[URLPattern]:
        routes = super().get_urls()
        pattern = RegexPattern("^$", name=self.root_name, is_endpoint=True)
        root = socket_settings.DEMULTIPLEXER_CLASS.as_asgi(
            streams=_streams(routes), pattern=pattern
        )
        return [URLPattern(pattern, root, name=self.root_name), *routes]


def _streams(routes: list[URLPattern]) -> dict[str, Stream | HostedStream]:
    found = [
        s for route in routes for socket in find_sockets(route.callback) for s in socket.streams
    ]
    return {stream.prefix: stream for stream in found}


class SameOrigin:
    """Refuses handshakes from pages that `rest_channels.origin` does not trust."""

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise ValueError(
                f"as_asgi() serves websockets, not {scope['type']!r}: give it to "
                "ProtocolTypeRouter as 'websocket'."
            )
        if origin.is_trusted(HandshakeRequest(scope)):
            await self.application(scope, receive, send)
        else:
            await receive()
            # Not accepted yet: servers answer the handshake with 403.
            await send({"type": "websocket.close"})


async def _no_such_route(scope: Scope, receive: Any, send: Any) -> None:
    await receive()
    # Accepted first: a browser does not show its page why a handshake was refused.
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": int(CloseCode.NO_SUCH_ROUTE)})


class ChannelRouter:
    """
    Class-based consumers on internal channels, for `manage.py runworker NAME ...`.

        channels = ChannelRouter(Pages.as_routes(), ...)
        application = ProtocolTypeRouter({"websocket": ..., "channel": channels.as_asgi()})

    Where several listen on one channel, they are asked in the order in which they were given.
    """

    def __init__(self, *routes: Routes) -> None:
        self.registry: list[Routes] = []
        for item in routes:
            self.register(item)

    def register(self, routes: Routes) -> None:
        """Serve what an `as_routes()` returned on its channels."""
        if not isinstance(routes, Routes):
            raise ImproperlyConfigured(
                f"ChannelRouter takes what as_routes() of a class-based consumer returns, not "
                f"{routes!r}."
            )
        if not routes.channels:
            raise ImproperlyConfigured(
                f"{routes.table.consumers.__name__} listens on no channel: give it a channel_name."
            )
        self.registry.append(routes)

    @property
    def mapping(self) -> dict[str, ChannelApplication]:
        """Channels' names to applications, as Channels' `ChannelNameRouter` takes them."""
        names = dict.fromkeys(name for routes in self.registry for name in routes.channels)
        return {
            name: ChannelApplication(
                name, [routes.table for routes in self.registry if name in routes.channels]
            )
            for name in names
        }

    def as_asgi(self) -> ASGIApplication:
        """The application for `ProtocolTypeRouter`'s `"channel"`."""
        return ChannelNameRouter(self.mapping)


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
    The sockets below an ASGI application, outermost first.

    Looks into Channels' routers and into middleware that keeps the application it wraps in
    `application` or `inner`, as Channels' own and most others do.
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
