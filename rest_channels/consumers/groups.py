"""
Sockets in groups: what one sends, all receive.

    application = URLRouter(
        GroupConsumers.as_routes(path=r"/(?P<room>\\w+)", group_name="room_{room}")
    )
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured

from rest_channels.consumers.channels import Group
from rest_channels.consumers.websockets import WebsocketConsumers


class GroupConsumers(WebsocketConsumers):
    """
    Each socket joins a group as it connects, and leaves it as it disconnects. What it sends that no
    handler takes is sent to the group, itself included.
    """

    #: A format string for `kwargs`: `"room_{room}"`. None: the name of the channel, likewise.
    group_name: str | None = None

    def get_group_name(self) -> str:
        """The group of this socket. Any text is a name."""
        template = self.get_channel_name() if self.group_name is None else self.group_name
        try:
            return template.format_map(self.kwargs)
        except (LookupError, ValueError) as exc:
            raise ImproperlyConfigured(
                f"{type(self).__name__} has no {exc} for its group_name {template!r}: let its path "
                "capture it."
            ) from None

    def on_connect(self, message: Any, **kwargs: Any) -> Any:
        self.join_group(self.get_group_name())

    def dispatch(self) -> Any:
        """Let the handler that matches have the message, the group where none does."""
        if self.table().find(self.message.content, self.message.channel.name) is None:
            return self.broadcast(self.message.content)
        return super().dispatch()

    def broadcast(self, content: Any) -> None:
        """Send `content` to the group of this socket. From any thread."""
        Group(self.get_group_name()).send(content)
