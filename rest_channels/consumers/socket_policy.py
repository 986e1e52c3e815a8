"""The policy of class-based consumers' sockets: their path, and who may connect and send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework.settings import api_settings

from rest_channels.consumers.base import Consumers


class SocketPolicy(Consumers):
    """The part of `WebsocketConsumers` that their streams read before an instance exists."""

    #: The socket's path: a regular expression that must match in full, or a callable as for a
    #: filter. A leading slash is the router's.
    path: Any = ""
    max_in_flight: int = 1
    authentication_classes: Sequence[Any] = api_settings.DEFAULT_AUTHENTICATION_CLASSES
    permission_classes: Sequence[Any] = api_settings.DEFAULT_PERMISSION_CLASSES
    throttle_classes: Sequence[Any] = api_settings.DEFAULT_THROTTLE_CLASSES
    #: The class that serves the stream on one socket.
    queue_class: Any

    @classmethod
    def get_permission_classes(cls) -> Sequence[Any]:
        """Return DRF's permission classes for connecting and sending."""
        return cls.permission_classes

    @classmethod
    def guards_places(cls) -> bool:
        """Return whether `check_hearing` decides anything."""
        return cls.check_hearing is not SocketPolicy.check_hearing

    @classmethod
    def get_queryset(cls) -> Any:
        """Return the rows that permissions by model are about; None without any."""
        return None

    def check_hearing(self) -> None:
        """
        Raise PermissionDenied if the socket may no longer receive the messages of its groups.

        The socket then closes with 4403. Called before a message is delivered more than
        `LEASE_SECONDS` after the last call; in a worker thread.
        """
