"""A client's ordered list, which checks each event against docs/protocol.md."""

from __future__ import annotations

from typing import Any

from rest_channels.test import LiveList, SocketReply


class OrderedList(LiveList):
    """
    The rows that a client holds of a window of `size` rows, None for all.

    A row that is created was not there, and never makes the list longer than the window.
    """

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        self.size = size

    def take(self, payload: dict[str, Any]) -> str:
        """Apply a reply to `subscribe`, or an event, as it arrived; return its action."""
        word, data = payload["action"], payload["data"]
        is_held = word in ("create", "update") and data[self.key] in self.held
        self.apply(SocketReply.from_payload(payload))
        match word:
            case "create":
                assert not is_held, payload
                assert self.size is None or len(self.rows) <= self.size, payload
            case "update":
                assert is_held, payload
            case "delete":
                assert data.get("reason", "window") == "window", payload
        return word
