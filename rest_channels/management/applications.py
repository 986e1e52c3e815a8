"""The ASGI application that a command is about."""

from __future__ import annotations

from typing import Any

from channels.routing import get_default_application
from django.core.management.base import CommandError
from django.utils.module_loading import import_string

from rest_channels.routers import Socket, find_sockets

HELP = "Dotted path of an ASGI application or of a router's routes; ASGI_APPLICATION unless given."


def load(path: str | None) -> Any:
    """Return the application at the dotted `path`, or the project's."""
    return import_string(path) if path else get_default_application()


def sockets_of(application: Any, example: str) -> list[Socket]:
    """Return its sockets. Raises CommandError without any, with the `example` to type."""
    sockets = list(find_sockets(application))
    if not sockets:
        raise CommandError(
            "No sockets found. Pass ProtocolTypeRouter {'websocket': router.as_asgi()}, or "
            f"name the application: manage.py {example}"
        )
    return sockets
