"""The errors of requests."""

from __future__ import annotations

import json
from typing import Any

from rest_channels.client.incoming import Incoming


class ClientError(Exception):
    """A request that has failed, or a list that cannot be kept: the base of the others."""


class ApiError(ClientError):
    """
    The server refused a request.

    `status`, `errors` and `codes` are the reply's, in DRF's shape; `headers` are the response's.
    """

    def __init__(self, stream: str | None, reply: Incoming) -> None:
        super().__init__(f"{stream}.{reply.action}: {reply.status} {json.dumps(reply.errors)}")
        self.stream = stream
        self.action = reply.action
        self.status = reply.status
        self.errors = reply.errors
        self.codes = reply.codes
        self.headers = reply.headers

    @property
    def fields(self) -> dict[str, Any]:
        """The errors by field; empty if they are about no field."""
        first = self.errors[0] if self.errors else None
        return first if isinstance(first, dict) else {}


class ConnectionLost(ClientError):
    """
    No answer arrived.

    If it `was_sent`, the server may have carried it out; if not, the server has not received it.
    """

    def __init__(self, *, was_sent: bool) -> None:
        super().__init__(
            "The connection was lost before the answer arrived."
            if was_sent
            else "Not connected: nothing was sent."
        )
        self.was_sent = was_sent


class NoKey(ClientError):
    """A row without a key cannot be followed: `connect(url, keys={...})` names the field."""

    def __init__(self, stream: str, field: str) -> None:
        super().__init__(
            f"A row of {stream!r} must have {field!r}, or "
            f"connect(url, keys={{{stream!r}: ...}}) must name its key."
        )
