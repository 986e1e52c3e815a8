r"""
Sockets in groups: all members of a group receive what one of them sends.

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
    Consumers whose sockets join a group on connect, and leave it on disconnect.

    A message that no handler matches is sent to the group, the sender included.
    """

    #: A format string for `kwargs`, such as `"room_{room}"`. None uses the name of the channel in
    #: the same way.
    group_name: str | None = None

    def get_group_name(self) -> str:
        """Return the group of this socket; any text is a valid name."""
        template = self.get_channel_name() if self.group_name is None else self.group_name
        try:
            return template.format_map(self.kwargs)
        except (LookupError, ValueError) as exc:
            raise ImproperlyConfigured(
                f"{type(self).__name__} has no {exc} for its group_name {template!r}: capture it "
                "in the path."
            ) from None

    def on_connect(self, message: Any, **kwargs: Any) -> Any:
        self.join_group(self.get_group_name())

    def handle_unmatched(self) -> Any:
        """Send a message that no handler matches to the group."""
        return self.broadcast(self.message.content)

    def broadcast(self, content: Any) -> None:
        """Send `content` to the group of this socket. From any thread."""
        Group(self.get_group_name()).send(content)
