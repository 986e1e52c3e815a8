"""The sockets of ASGI_APPLICATION, and their streams."""

from __future__ import annotations

import logging
from typing import Any

from channels.routing import get_default_application
from django.conf import settings
from django.core.checks import CheckMessage, Warning

from rest_channels.consumers.consumer_streams import ConsumersStream
from rest_channels.live.capture.capture_checks import check_live
from rest_channels.routers import Socket, find_sockets
from rest_channels.sockets.endpoints import SUBSCRIPTIONS
from rest_channels.sockets.stream_checks import check_basenames, check_parsers, check_renderers
from rest_channels.sockets.streams import Stream

logger = logging.getLogger("rest_channels")


def check_origin(**kwargs: Any) -> list[CheckMessage]:
    """Return W003."""
    unchecked = [socket.path for socket in _sockets() if not socket.is_origin_checked]
    if not unchecked:
        return []
    return [
        Warning(
            "Sockets of ASGI_APPLICATION accept pages of any origin: "
            f"{', '.join(dict.fromkeys(unchecked))}.",
            hint="Use router.as_asgi(), or wrap the stack in "
            "channels.security.websocket.OriginValidator.",
            id="rest_channels.W003",
        )
    ]


def check_streams(**kwargs: Any) -> list[CheckMessage]:
    """Return W006, W007, W008, E015 and W016."""
    found = {
        stream
        for socket in _sockets()
        for stream in socket.streams
        # Class-based consumers have no links, and use JSON whatever the settings say.
        if isinstance(stream, Stream) and not isinstance(stream, ConsumersStream)
    }
    streams = sorted(found, key=lambda stream: stream.prefix)
    live = [s.viewset for s in streams if SUBSCRIPTIONS.keys() & s.actions.keys()]
    return [
        *(*check_basenames(streams), *check_renderers(streams)),
        *(*check_parsers(streams), *check_live(live)),
    ]


def _sockets() -> list[Socket]:
    """Return the sockets of ASGI_APPLICATION."""
    if not getattr(settings, "ASGI_APPLICATION", None):
        return []
    try:
        return list(find_sockets(get_default_application()))
    except Exception:
        # Leave it to the server, which shows the whole traceback. `migrate` must not fail because
        # of it.
        logger.debug("Could not read the sockets of ASGI_APPLICATION.", exc_info=True)
        return []
