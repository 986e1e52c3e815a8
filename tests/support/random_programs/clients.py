"""Clients of random programs, which do as the protocol asks and say what is amiss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.stepped_processes import Socket

if TYPE_CHECKING:
    from tests.support.random_programs.world_kind import Stream, Subject


class Broken(AssertionError):
    """A promise was not kept."""


class Client:
    """
    A client as the protocol asks for one. It holds rows, knows the last position, and subscribes
    again where it has to. `inbox` is what it was sent and has not read: frames, with the
    versions of the world between which they were made.
    """

    def __init__(self, user: str, subject: Subject, stream: Stream) -> None:
        self.user = user
        self.subject = subject
        self.stream = stream
        self.socket: Socket | None = None
        #: The process it was connected to last.
        self.place: int | None = None
        self.inbox: list[tuple[dict[str, Any], int, int]] = []
        self.rows: dict[Any, Any] = {}
        self.position: str | None = None
        self.is_live = False
        #: Whether it holds all rows that it received; else only changed ones.
        self.is_whole = False

    #: Whether its rows have an order, and how many of them it wants: None for all.
    has_order = False
    window: int | None = None

    def __repr__(self) -> str:
        return f"<{self.user} at {self.subject}>"

    @property
    def options(self) -> dict[str, Any]:
        """Further keys of the frames with which it subscribes."""
        return {}

    def is_all_of(self, sight: dict[Any, Any] | None, shown: dict[Any, Any]) -> bool:
        """Whether a snapshot shows all that it should of what can be seen."""
        return sight == shown

    def holds_what_it_should(self, shown: dict[Any, Any]) -> bool:
        """Whether it holds what it is `shown` when it asks."""
        expected = shown if self.is_whole else {pk: shown.get(pk) for pk in self.rows}
        return self.rows == expected

    def check_order(self, shown: dict[Any, Any], seen: dict[Any, Any] | None) -> None:
        """Raise `Broken` if it is `shown` rows in a wrong order."""

    def read(self, count: int | None = None) -> None:
        """Take note of the first `count` frames of the inbox."""
        count = len(self.inbox) if count is None else count
        taken, self.inbox = self.inbox[:count], self.inbox[count:]
        for frame, *_ in taken:
            self._take(frame)

    def on_acknowledged(self, reply: dict[str, Any], mode: str) -> None:
        self.position, self.is_live = reply["position"], True
        if mode == "snapshot":
            self._hold(reply["data"])
        elif mode == "changes":
            self.rows, self.is_whole = {}, False

    def _take(self, frame: dict[str, Any]) -> None:
        if not self.is_live:
            raise Broken(f"{self} received {frame} of a subscription that is over")
        if frame["action"] == "revoke":
            self.rows, self.is_live, self.position = {}, False, None
            return
        if frame["previous"] != self.position:
            raise Broken(f"{self} knows {self.position} and received {frame}")
        self.position = frame["position"]
        match frame["action"]:
            case "create" | "update":
                self._put(frame["data"])
            case "delete":
                self.rows.pop(frame["data"]["pk"], None)
            case "reset":
                if frame["data"] is not None:
                    self._hold(frame["data"])
                else:
                    self.rows, self.is_whole = {}, False
            case "sync":
                pass
            case other:
                raise Broken(f"{self} received {other}")

    def _put(self, row: Any) -> None:
        self.rows[row[self.stream.key]] = row

    def _hold(self, data: Any) -> None:
        self.rows = self.by_name(data)
        self.is_whole = True

    def by_name(self, data: Any) -> dict[Any, Any]:
        """The rows that a snapshot or an event shows."""
        rows = (
            data if isinstance(data, list) else [data] if data and self.stream.key in data else []
        )
        for row in rows:
            if "labels" in row:
                row["labels"].sort()
        return {row[self.stream.key]: row for row in rows}


class OrderedClient(Client):
    """A client that follows rows in their order, the first `window` of them or all."""

    has_order = True

    @property
    def options(self) -> dict[str, Any]:
        return {"ordered": True} if self.window is None else {"window": self.window}

    def is_all_of(self, sight: dict[Any, Any] | None, shown: dict[Any, Any]) -> bool:
        return sight is not None and list(shown.items()) == self._first(sight)

    def holds_what_it_should(self, shown: dict[Any, Any]) -> bool:
        return not self.is_whole or list(self.rows.items()) == self._first(shown)

    def check_order(self, shown: dict[Any, Any], seen: dict[Any, Any] | None) -> None:
        if list(shown) != list(seen or {}):
            raise Broken(f"{self} is shown {list(shown)}, in another order than {seen}")

    def _first(self, rows: dict[Any, Any]) -> list[tuple[Any, Any]]:
        return list(rows.items())[: self.window]

    def _take(self, frame: dict[str, Any]) -> None:
        word, data = frame["action"], frame["data"]
        before = dict(self.rows)
        super()._take(frame)
        if word in ("create", "update") and self.is_whole:
            key = data[self.stream.key]
            if (word == "create") == (key in before):
                raise Broken(f"{self} holds {list(before)} and received {frame}")
            if word == "create" or "after" in frame:
                self._place(key, frame)
        elif word == "delete" and data["pk"] not in before and self.is_whole:
            raise Broken(f"{self} holds {list(before)} and received {frame}")

    def _place(self, key: Any, frame: dict[str, Any]) -> None:
        row, after = self.rows.pop(key), frame["after"]
        items = list(self.rows.items())
        if after is not None and after not in self.rows:
            raise Broken(f"{self} holds {list(self.rows)} and received {frame}")
        at = 0 if after is None else list(self.rows).index(after) + 1
        items.insert(at, (key, row))
        if self.window is not None and frame["action"] == "create" and len(items) > self.window:
            raise Broken(f"{self} received one row too many: {frame}")
        self.rows = dict(items)
