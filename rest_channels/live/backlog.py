"""
What waits for a subscriber who does not keep up: of each row what has become of it, once.

    backlog.add(Kind.UPDATE, "7", text, place)
    backlog.add(Kind.UPDATE, "7", newer, later)     in its place
    backlog.pop()                                   (newer, later)

On the loop.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from rest_channels.counters import counters
from rest_channels.live.log import Kind
from rest_channels.live.positions import Place
from rest_channels.outbox import Outbox
from rest_channels.protocol import Event as Message
from rest_channels.protocol import byte_length

# What entries cost beside their text: Python's objects, about.
_ENTRY_BYTES: Final = 200

_SYNC: Final = Message("sync", 200).shared

# A token of a subscription with credit ends with the number of the event; see `Credit`.
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class _Entry(NamedTuple):
    kind: Kind | None
    shared: str
    place: Place | None
    byte_count: int


class Backlog:
    """
    Events in the order in which their rows first changed.

    A newer state takes the slot of the older one: the client hears of it earlier than it would,
    and what it is told to have reached there holds. Only the last event of all says how far the
    newer states go. `outbox.backlog_bytes` counts what waits.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._entries: dict[str | None, _Entry] = {}
        # Reached once nothing waits; None where that is nothing new.
        self._end: Place | None = None

    def __bool__(self) -> bool:
        return bool(self._entries) or self._end is not None

    def add(self, kind: Kind, key: str, shared: str, place: Place | None) -> None:
        """`shared` is the text of the event that says what became of the row `key`."""
        waiting = self._entries.get(key)
        counters.merged += waiting is not None
        is_held = kind != Kind.CREATE if waiting is None else waiting.kind != Kind.CREATE
        if kind == Kind.DELETE and not is_held:
            # Come and gone, and the client was told of neither.
            self._drop(key)
        else:
            if kind != Kind.DELETE and waiting is not None:
                kind, shared = _told_as(Kind.UPDATE if is_held else Kind.CREATE, kind, shared)
            self._put(key, kind, shared, place if waiting is None else waiting.place)
        self.reach(place)

    def reset(self, shared: str, place: Place) -> None:
        """Instead of all that waits."""
        self.clear()
        self._put(None, None, shared, place)
        self.reach(place)

    def reach(self, place: Place | None) -> None:
        """Nothing but what waits is to be told up to `place`."""
        if place is not None:
            self._end = place

    def pop(self) -> tuple[str, Place | None]:
        """The next text, and the place that the client reaches with it."""
        if not self._entries:
            shared, place = _SYNC, self._end
        else:
            key = next(iter(self._entries))
            shared, place = self._entries[key].shared, self._entries[key].place
            self._drop(key)
        if not self._entries:
            place, self._end = self._end or place, None
        return shared, place

    def clear(self) -> None:
        """Forget everything."""
        self._outbox.backlog_bytes -= sum(entry.byte_count for entry in self._entries.values())
        self._entries.clear()
        self._end = None

    def _put(self, key: str | None, kind: Kind | None, shared: str, place: Place | None) -> None:
        before = self._entries.get(key)
        byte_count = byte_length(shared) + _ENTRY_BYTES
        self._outbox.backlog_bytes += byte_count - (before.byte_count if before else 0)
        self._entries[key] = _Entry(kind, shared, place, byte_count)

    def _drop(self, key: str | None) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self._outbox.backlog_bytes -= entry.byte_count


def _told_as(kind: Kind, told: Kind, shared: str) -> tuple[Kind, str]:
    """The event `shared`, of the kind `told`, to those for whom it is a `kind`."""
    ending = Message.ending(told, 200)
    return kind, shared.removesuffix(ending) + Message.ending(kind, 200)


class Credit:
    """
    How many events the client takes before it says that it has them.

    Events may share a place in the log, so each gets a number, at the end of its position. The
    number is not signed: who says that they have more than they have, cheats themselves.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._sent = 0
        self._acknowledged = 0

    @property
    def is_spent(self) -> bool:
        return self._sent - self._acknowledged >= self.limit

    def next_number(self) -> int:
        """The number of the event that is about to be sent."""
        self._sent += 1
        return self._sent

    def take(self, number: str) -> bool:
        """The client has everything up to `number`; False where that is nothing new."""
        # Of any length: not to be read as a number before it looks like one of ours.
        if _NUMBER.fullmatch(number) is None:
            return False
        if not self._acknowledged < int(number) <= self._sent:
            return False
        self._acknowledged = int(number)
        return True
