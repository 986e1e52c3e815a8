"""A list, or one row, kept up to date with what `list` and `retrieve` show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rest_channels.client.changes import Change, Delete, Put, Reset
from rest_channels.client.errors import ApiError, NoKey
from rest_channels.client.following import Followed, Viewer
from rest_channels.client.incoming import Incoming, Key
from rest_channels.client.rows import Rows
from rest_channels.protocol import MISSING

# Events that the server may send before this client has applied the first of them.
CREDIT: Final = 256


@dataclass(frozen=True)
class ListOptions:
    """The list to follow: `pk` of one row, or `query` and `window`, None for all rows."""

    query: Mapping[str, Any] | None = None
    window: int | None = None
    pk: Key | None = None
    headers: Mapping[str, str] | None = None
    lookups: Mapping[str, Key] | None = None
    credit: int = CREDIT


class WindowViewer(Viewer):
    """A handle with a number of rows that it shows, None for all."""

    window: int | None


class FollowedList(Followed):
    """The subscription to a list. `rows` are those that the server has sent."""

    def __init__(self, *args: Any, options: ListOptions, key_field: str) -> None:
        super().__init__(*args)
        self.options = options
        self.rows = Rows(self.key_of)
        self.readers: list[Callable[[Change[Any]], None]] = []
        self.window = options.window
        self._key_field = key_field
        self._credit = options.credit
        self._unacknowledged = 0
        # The window that was last asked for, and the one that the server last agreed to.
        self._asked: int | None = None
        self._granted: int | None = None
        self._is_granted = False

    def key_of(self, row: Any) -> Key:
        """Return the key of a row. Raises `NoKey`."""
        key = row.get(self._key_field) if isinstance(row, dict) else None
        if not isinstance(key, (str, int)):
            raise NoKey(self.stream, self._key_field)
        return key

    def resize(self) -> None:
        """Ask for as many rows as the largest window of all handles."""
        if not self.viewers or self._widest() == self.window:
            return
        self.window = self._widest()
        self.refusal = None
        self.ask()

    def _widest(self) -> int | None:
        windows = [viewer.window for viewer in self._windows()]
        known = [window for window in windows if window is not None]
        return max(known) if len(known) == len(windows) else None

    def _windows(self) -> list[WindowViewer]:
        # All handles of a list are such.
        return [viewer for viewer in self.viewers if isinstance(viewer, WindowViewer)]

    # As a subscription

    def frame(self) -> Mapping[str, Any]:
        self._unacknowledged = 0
        self._asked = self.window
        options = self.options
        is_row = options.pk is not None
        payload = {
            **(options.lookups or {}),
            "action": "subscribe_instance" if is_row else "subscribe",
            "pk": _given(options.pk),
            "query": _given(options.query),
            "headers": _given(options.headers),
            "snapshot": True,
            "credit": self._credit or MISSING,
        }
        if not is_row:
            payload |= {"ordered": True, "window": _given(self._asked)}
        if self.position is not None:
            payload |= {"since": self.position, "held": self.rows.keys}
        return payload

    def farewell(self) -> Mapping[str, Any]:
        is_row = self.options.pk is not None
        action = "unsubscribe_instance" if is_row else "unsubscribe"
        return {"action": action, "request_id": self.id}

    def begin(self, reply: Incoming) -> bool:
        self._granted, self._is_granted = self._asked, True
        if reply.data is None:
            # If it is not resumed, a reset follows.
            return reply.resumed
        self._replace(reply.data if isinstance(reply.data, list) else [reply.data])
        return True

    def follow(self, event: Incoming) -> None:
        if event.action == "sync":
            return
        self._unacknowledged += 1
        if event.action == "delete":
            key = event.data.get(self._key_field, event.data["pk"])
            self.rows.delete(key)
            self._tell(Delete(key))
            return
        key = self.key_of(event.data)
        is_known = key in self.rows.by_key
        self.rows.put(key, event.data, event.after)
        self._tell(Put("update" if is_known else "create", key, event.data, event.after))

    def clear(self) -> None:
        self._replace([])

    def refuse(self, reply: Incoming) -> None:
        if self._credit and reply.status == 400 and reply.codes[:1] == ["invalid"]:
            # The stream may have an action `ack` of its own.
            self._credit = 0
            self.ask()
        elif reply.action != "revoke" and reply.status == 400 and self._has_grown():
            self._shrink(reply)
        else:
            super().refuse(reply)

    def _has_grown(self) -> bool:
        if not self._is_granted or self._granted is None:
            return False
        return self._asked is None or self._asked > self._granted

    def _shrink(self, reply: Incoming) -> None:
        """Go on at the former size. Its events since were ignored, so it is asked for again."""
        granted = self._granted
        assert granted is not None
        for viewer in self._windows():
            viewer.window = granted if viewer.window is None else min(viewer.window, granted)
        self.window = granted
        self.error = self.refusal = ApiError(self.stream, reply)
        self.schedule()
        self.ask()

    def publish(self) -> None:
        super().publish()
        # The application has seen them: the server may send more.
        if self._credit and self._unacknowledged >= self._credit / 2:
            self._unacknowledged = 0
            data = {"position": self.position}
            self._wire.post(self.stream, {"action": "ack", "request_id": self.id, "data": data})

    def leave(self, viewer: Viewer) -> None:
        super().leave(viewer)
        self.resize()

    def _replace(self, rows: list[Any]) -> None:
        self.rows.replace(rows)
        self._tell(Reset(self.rows.list))

    def _tell(self, change: Change[Any]) -> None:
        for read in [*self.readers]:
            read(change)


def _given(value: Any) -> Any:
    return MISSING if value is None else value
