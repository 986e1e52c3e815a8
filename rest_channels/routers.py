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

from collections.abc import Awaitable, Callable
from typing import Any

from channels.routing import URLRouter
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern
from rest_framework import routers
from rest_framework.viewsets import ViewSetMixin

from rest_channels import origin
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
        self, prefix: str, viewset: type[ViewSetMixin], basename: str | None = None
    ) -> None:
        """Serve `viewset`, any of DRF's, under `prefix`, which is its stream's name too."""
        if not (isinstance(viewset, type) and issubclass(viewset, ViewSetMixin)):
            raise ImproperlyConfigured(
                f"register({prefix!r}, ...) takes a viewset class, not {viewset!r}. "
                "Subclass rest_channels.viewsets.ConsumerViewSet or any viewset of DRF's."
            )
        if any(prefix == known for known, _, _ in self.registry):
            raise ImproperlyConfigured(
                f"The prefix {prefix!r} is registered already: a stream's name is its own."
            )
        super().register(prefix, as_consumer(viewset), basename)

    def get_urls(self) -> list[URLPattern]:
        """Routes for Channels' `URLRouter`, each viewset's from its `as_routes`."""
        return [
            route
            for prefix, viewset, basename in self.registry
            for route in viewset.as_routes(prefix, basename, router=self)
        ]

    @property
    def streams(self) -> dict[str, Stream]:
        """What is registered, by prefix, as the sockets serve it."""
        return _streams(self.urls)

    def as_asgi(self) -> ASGIApplication:
        """
        The application for `ProtocolTypeRouter`'s `"websocket"`, secure by default: pages of
        other origins are refused with 403 at the handshake, sessions and users are known, and a
        path that leads nowhere is closed with 4404.
        """
        everything_else = URLPattern(RegexPattern(""), _no_such_route)
        return _SameOrigin(URLRouter([*self.urls, everything_else]))


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


def _streams(routes: list[URLPattern]) -> dict[str, Stream]:
    served = [getattr(route.callback, "initkwargs", {}).get("stream") for route in routes]
    return {stream.prefix: stream for stream in served if stream is not None}


class _SameOrigin:
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
