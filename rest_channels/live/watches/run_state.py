"""Detect state that a run has left outside its view and its request, as middleware would."""

from __future__ import annotations

from contextvars import copy_context

from django.db import connections

from rest_channels.live.visibility.surroundings import ambient
from rest_channels.workers.connection_state import noted, own_attributes
from rest_channels.workers.contexts import Variables


class State:
    """
    The state around a run as it begins: of connections, thread-locals, routers, context variables.

    Values that code finds there may depend on the socket, although it reads nothing of the request.
    """

    def __init__(self) -> None:
        self._connections = connections.all()
        self._retained = [*map(own_attributes, self._connections), *ambient()]
        self._variables = Variables(copy_context())

    def has_changed(self) -> bool:
        """Return whether any of it has changed; in the thread and context of the run."""
        return (
            any(not noted(connection).is_empty for connection in self._connections)
            or any(retained.changed() for retained in self._retained)
            or self._variables.changed()
        )
