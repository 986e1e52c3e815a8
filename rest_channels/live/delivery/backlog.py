"""
Merge the events of a subscriber who does not keep up, by row.

    backlog.add(Kind.UPDATE, "7", text, place)
    backlog.add(Kind.UPDATE, "7", newer, later)     replaces the first
    backlog.pop()                                   (newer, later)

On the loop.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from rest_channels.live.log.positions import Position
from rest_channels.live.log.store import Kind
from rest_channels.metrics import figures
from rest_channels.protocol import Event as Message
from rest_channels.protocol import byte_length
from rest_channels.sockets.outbox import Outbox

#: The approximate size of an entry's Python objects, beside its text.
ENTRY_BYTES: Final = 200

#: The text of an event that only moves the position.
SYNC: Final = Message("sync", 200).shared

# A token of a subscription with credit ends with the number of the event; see `Credit`.
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class _Entry(NamedTuple):
    kind: Kind | None
    shared: str
    place: Position | None
    byte_count: int


class Backlog:
    """
    Events in the order in which their rows first changed.

    A newer event of a row takes the slot of the older one: the client receives it earlier than in
    the log's order, and the position of the slot still holds. Only the very last event has the
    position that the newer events reach. `outbox.backlog_bytes` counts the waiting bytes.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._entries: dict[str | None, _Entry] = {}
        # The position reached once the backlog is empty; None if it is not new.
        self._end: Position | None = None

    def __bool__(self) -> bool:
        return bool(self._entries) or self._end is not None

    def add(self, kind: Kind, key: str, shared: str, place: Position | None) -> None:
        """Add an event of the row `key`, with the text `shared`."""
        waiting = self._entries.get(key)
        figures.merged.add(waiting is not None)
        is_held = kind != Kind.CREATE if waiting is None else waiting.kind != Kind.CREATE
        if kind == Kind.DELETE and not is_held:
            # Created and deleted before the client received either event.
            self._drop(key)
        else:
            if kind != Kind.DELETE and waiting is not None:
                kind, shared = _told_as(Kind.UPDATE if is_held else Kind.CREATE, kind, shared)
            self._put(key, kind, shared, place if waiting is None else waiting.place)
        self.reach(place)

    def reset(self, shared: str, place: Position) -> None:
        """Replace all waiting events by a reset."""
        self.clear()
        self._put(None, None, shared, place)
        self.reach(place)

    @property
    def has_reset(self) -> bool:
        """Whether a reset waits, in front of all events."""
        return None in self._entries

    def reach(self, place: Position | None) -> None:
        """Move the end to `place`: there are no further events up to it."""
        if place is not None:
            self._end = place

    def pop(self) -> tuple[str, Position | None]:
        """Return the next text, and the position that the client reaches with it."""
        if not self._entries:
            shared, place = SYNC, self._end
        else:
            key = next(iter(self._entries))
            shared, place = self._entries[key].shared, self._entries[key].place
            self._drop(key)
        if not self._entries:
            place, self._end = self._end or place, None
        return shared, place

    def clear(self) -> None:
        """Forget all events."""
        self._outbox.backlog_bytes -= sum(entry.byte_count for entry in self._entries.values())
        self._entries.clear()
        self._end = None

    def _put(self, key: str | None, kind: Kind | None, shared: str, place: Position | None) -> None:
        before = self._entries.get(key)
        byte_count = byte_length(shared) + ENTRY_BYTES
        self._outbox.backlog_bytes += byte_count - (before.byte_count if before else 0)
        self._entries[key] = _Entry(kind, shared, place, byte_count)

    def _drop(self, key: str | None) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self._outbox.backlog_bytes -= entry.byte_count


def _told_as(kind: Kind, told: Kind, shared: str) -> tuple[Kind, str]:
    """Return the event `shared`, whose kind is `told`, as an event of another `kind`."""
    ending = Message.ending(told, 200)
    return kind, shared.removesuffix(ending) + Message.ending(kind, 200)


class Credit:
    """
    The number of events that the client accepts before it acknowledges them.

    Events may share a position in the log, so each gets a number, at the end of its token. The
    number is not signed: a client that acknowledges more than it has only harms itself.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._sent = 0
        self._acknowledged = 0

    @property
    def is_spent(self) -> bool:
        return self._sent - self._acknowledged >= self.limit

    def next_number(self) -> int:
        """Return the number of the event that is about to be sent."""
        self._sent += 1
        return self._sent

    def take(self, number: str) -> bool:
        """Acknowledge everything up to `number`; return False if that is not new."""
        # The text has any length: match the form of our numbers before converting it.
        if _NUMBER.fullmatch(number) is None:
            return False
        if not self._acknowledged < int(number) <= self._sent:
            return False
        self._acknowledged = int(number)
        return True
