"""Says on each socket whether its `send` is known to be the server's own."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from channels.routing import URLRouter  # noqa: E402
from channels.sessions import SessionMiddlewareStack  # noqa: E402
from django.urls import path  # noqa: E402

from rest_channels.contrib.servers import full_send  # noqa: E402
from rest_channels.sockets.outbox import is_servers_own  # noqa: E402


async def says(scope, receive, send):
    await receive()
    is_own = is_servers_own(full_send(send))
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(is_own)})
    await receive()


async def wrapped(scope, receive, send):
    async def own_send(message):
        await send(message)

    await says(scope, receive, own_send)


application = URLRouter(
    [path("direct/", says), path("sessions/", SessionMiddlewareStack(says)), path("w/", wrapped)]
)
