"""`manage.py socket_routes`: list every socket, stream and action of the project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from channels.routing import get_default_application
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string

from rest_channels.consumers.consumer_streams import ConsumersStream
from rest_channels.contrib.dcrf.hosting import HostedStream
from rest_channels.routers import Socket, find_sockets
from rest_channels.sockets.endpoints import SUBSCRIPTIONS, Endpoint
from rest_channels.sockets.queues import OWN_ACTIONS
from rest_channels.sockets.streams import ALIASES, Stream


class Command(BaseCommand):
    help = "List the project's sockets, their streams and actions, with verbs and permissions."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "application",
            nargs="?",
            help="Dotted path of an ASGI application or of a router's routes; ASGI_APPLICATION "
            "unless given.",
        )

    def handle(self, *args: Any, application: str | None = None, **options: Any) -> None:
        root = import_string(application) if application else get_default_application()
        sockets = list(find_sockets(root))
        if not sockets:
            raise CommandError(
                "No sockets found. Pass ProtocolTypeRouter {'websocket': router.as_asgi()}, or "
                "name the application: manage.py socket_routes project.asgi.application"
            )
        for socket in sockets:
            self.stdout.write(self.style.MIGRATE_HEADING(socket.path))
            for line in describe(socket):
                self.stdout.write(f"    {line}")


def describe(socket: Socket) -> Iterator[str]:
    """Yield the lines of one socket: its streams if it has several, and their actions."""
    for stream in socket.streams:
        lines = _actions(stream, is_row=socket.is_row)
        if socket.is_root:
            yield str(stream)
            lines = (f"    {line}" for line in lines)
        yield from lines
    if any(isinstance(stream, Stream) for stream in socket.streams):
        yield f"of the connection: {', '.join(sorted(OWN_ACTIONS))}"


def _actions(stream: Stream | HostedStream, *, is_row: bool) -> Iterator[str]:
    if isinstance(stream, HostedStream):
        yield from sorted(stream.consumer.available_actions)
        return
    if isinstance(stream, ConsumersStream):
        yield from map(str, stream.handlers)
        if stream.viewsets is not None:
            yield from _actions(stream.viewsets, is_row=False)
        return
    rows = [
        (_words(stream, action), _verbs(stream, action), _permissions(endpoint))
        for action, endpoint in _routed(stream, is_row=is_row)
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)] if rows else [0, 0]
    for action, verbs, permissions in rows:
        yield f"{action:{widths[0]}}  {verbs:{widths[1]}}  {permissions}"


def _routed(stream: Stream, *, is_row: bool) -> Iterator[tuple[str, Endpoint]]:
    """Yield the actions in the order of their URLs, then subscriptions, then DRF's metadata."""
    endpoints = [e for e in stream.endpoints if e.is_detail or not is_row]
    for endpoint in endpoints:
        for action in dict.fromkeys(endpoint.mapping.values()):
            if stream.actions[action] is endpoint:
                yield action, endpoint
    for action in SUBSCRIPTIONS:
        found = stream.actions.get(action)
        # Without `seen_action`, it is the viewset's own, listed above.
        if found and found.seen_action and (found.is_detail or not is_row):
            yield action, found
    if "metadata" not in stream.actions and stream.viewset.metadata_class is not None:
        yield "metadata", endpoints[0]


def _words(stream: Stream, action: str) -> str:
    """Return the names by which clients may call `action`: its own, and DCRF's."""
    words = [w for w, name in ALIASES.items() if name == action and w not in stream.actions]
    return ", ".join([action, *words])


def _verbs(stream: Stream, action: str) -> str:
    verbs = stream.verbs(action) if action in stream.actions else ["options"]
    return "/".join(verb.upper() for verb in verbs)


def _permissions(endpoint: Endpoint) -> str:
    callback = endpoint.pattern.callback
    classes = callback.initkwargs.get("permission_classes", callback.cls.permission_classes)
    return ", ".join(_permission_name(permission) for permission in classes) or "none"


def _permission_name(permission: Any) -> str:
    # Classes combined by & | ~ are holders with operands of their own.
    operator = getattr(permission, "operator_class", None)
    if operator is None:
        name: str = permission.__name__
        return name
    names = [
        _permission_name(getattr(permission, operand))
        for operand in ("op1_class", "op2_class")
        if hasattr(permission, operand)
    ]
    return f"{operator.__name__}({', '.join(names)})"
