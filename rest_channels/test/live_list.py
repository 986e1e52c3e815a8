"""
The rows of a subscription as a client keeps them, for tests.

    messages = LiveList(socket.request("subscribe", "messages", window=2, snapshot=True))
    messages.apply(socket.event())
    assert [row["text"] for row in messages.rows] == ["Hello", "Good morning"]
"""

from __future__ import annotations

from typing import Any

from rest_channels.test.base_client import SocketReply


class LiveList:
    """
    A list that follows the events of one subscription.

    `rows` are the rows, in the order of `list` if the subscription is `ordered` or has a `window`,
    else as they came. `key` names the field that shows the primary key. `position` and `held` are
    what `since` and `held` take to subscribe again. `is_over` is True after `revoke`.
    """

    def __init__(self, reply: SocketReply | None = None, *, key: str = "id") -> None:
        self.key = key
        self.rows: list[Any] = []
        self.position: str | None = None
        self.is_over = False
        if reply is not None:
            self.apply(reply)

    @property
    def held(self) -> list[Any]:
        """The keys of the rows, in their order."""
        return [row[self.key] for row in self.rows]

    def apply(self, message: SocketReply) -> None:
        """
        Apply the reply to a `subscribe`, or an event.

        Raises `AssertionError` if an event does not continue from the position before, or names a
        row that is not in the list.
        """
        if message.action == "revoke":
            self.rows, self.is_over = [], True
        elif message.resumed is not None:
            self.rows = self.rows if message.data is None else list(message.data)
        else:
            assert message.previous == self.position, f"An event is missing before {message}"
            self._follow(message)
        self.position = message.position

    def _follow(self, message: SocketReply) -> None:
        match message.action:
            case "create" | "update":
                self._put(message)
            case "delete":
                del self.rows[self._find(message.data["pk"])]
            case "reset":
                self.rows = list(message.data or ())
            case _:
                assert message.action == "sync", f"This is not an event: {message}"

    def _put(self, message: SocketReply) -> None:
        row, held = message.data, self.held
        is_held = row[self.key] in held
        if "after" not in message.payload:
            at = held.index(row[self.key]) if is_held else len(held)
            self.rows[at : at + 1] = [row]
            return
        if is_held:
            del self.rows[held.index(row[self.key])]
        after = message.payload["after"]
        self.rows.insert(0 if after is None else self._find(after) + 1, row)

    def _find(self, key: Any) -> int:
        assert key in self.held, f"The list has no row {key!r}: it has {self.held}."
        return self.held.index(key)
