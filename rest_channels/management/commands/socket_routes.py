"""`manage.py socket_routes`: every socket, stream and action of the project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from channels.routing import get_default_application
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string

from rest_channels.consumers.sockets import ConsumersStream
from rest_channels.hosting import HostedStream
from rest_channels.routers import Socket, find_sockets
from rest_channels.streams import Endpoint, Stream


class Command(BaseCommand):
    help = "Lists the project's sockets, their streams and actions, with verbs and permissions."

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
                "No sockets found. Give ProtocolTypeRouter {'websocket': router.as_asgi()}, or "
                "name the application: manage.py socket_routes project.asgi.application"
            )
        for socket in sockets:
            self.stdout.write(self.style.MIGRATE_HEADING(socket.path))
            for line in describe(socket):
                self.stdout.write(f"    {line}")


def describe(socket: Socket) -> Iterator[str]:
    """Lines for one socket: its streams where it has many, and their actions."""
    for stream in socket.streams:
        lines = _actions(stream, is_row=socket.is_row)
        if socket.is_root:
            yield str(stream)
            lines = (f"    {line}" for line in lines)
        yield from lines


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
        (action, "/".join(verb.upper() for verb in stream.verbs(action)), _permissions(endpoint))
        for endpoint in stream.endpoints
        for action in dict.fromkeys(endpoint.mapping.values())
        if stream.actions[action] is endpoint and (endpoint.is_detail or not is_row)
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)] if rows else [0, 0]
    for action, verbs, permissions in rows:
        yield f"{action:{widths[0]}}  {verbs:{widths[1]}}  {permissions}"


def _permissions(endpoint: Endpoint) -> str:
    callback = endpoint.pattern.callback
    classes = callback.initkwargs.get("permission_classes", callback.cls.permission_classes)
    return ", ".join(_permission_name(permission) for permission in classes) or "none"


def _permission_name(permission: Any) -> str:
    # Classes combined by & | ~ are holders with operands of their own.
    operator = getattr(permission, "operator_class", None)
    if operator is None:
        return permission.__name__
    names = [
        _permission_name(getattr(permission, operand))
        for operand in ("op1_class", "op2_class")
        if hasattr(permission, operand)
    ]
    return f"{operator.__name__}({', '.join(names)})"
