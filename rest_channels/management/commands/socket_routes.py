"""`manage.py socket_routes`: list every socket, stream and action of the project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from rest_channels.consumers.consumer_streams import ConsumersStream
from rest_channels.contrib.dcrf.hosting import HostedStream
from rest_channels.management import applications
from rest_channels.routers import Socket
from rest_channels.schema.routed_actions import RoutedAction, routed_actions
from rest_channels.sockets.queues import OWN_ACTIONS
from rest_channels.sockets.streams import Stream


class Command(BaseCommand):
    help = "List the project's sockets, their streams and actions, with verbs and permissions."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "application",
            nargs="?",
            help=applications.HELP,
        )

    def handle(self, *args: Any, application: str | None = None, **options: Any) -> None:
        root = applications.load(application)
        sockets = applications.sockets_of(root, "socket_routes project.asgi.application")
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
        (", ".join((action.name, *action.aliases)), _verbs(action), _permissions(action))
        for action in routed_actions(stream, is_row=is_row)
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)] if rows else [0, 0]
    for words, verbs, permissions in rows:
        yield f"{words:{widths[0]}}  {verbs:{widths[1]}}  {permissions}"


def _verbs(action: RoutedAction) -> str:
    return "/".join(verb.upper() for verb in action.verbs)


def _permissions(action: RoutedAction) -> str:
    return ", ".join(action.permissions) or "none"
