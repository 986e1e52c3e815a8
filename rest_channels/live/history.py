"""
What happened since: the part of the log that those who resume have missed.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from rest_channels.live import log
from rest_channels.live.log import Entry
from rest_channels.live.positions import Place

# Entries that a resume reads; who missed more gets a fresh snapshot sooner.
_MAX_MISSED: Final = 10_000


class History:
    """
    The log up to `end`, of one database and one pass. However many resume, and from wherever:
    each entry is read once.
    """

    def __init__(self, alias: str, end: Place) -> None:
        self.alias = alias
        self.end = end
        # All entries from some place on, without a gap.
        self._entries: list[Entry] = []

    def since(self, place: Place) -> list[Entry] | None:
        """The entries after `place`; None where they are too many, or no longer or never known."""
        if place.number > self.end.number or self.end.number - place.number > _MAX_MISSED:
            return None
        first = self._first
        if place.number < first and place != self.end:
            earlier = log.since(self.alias, place, limit=first - place.number - 1)
            if earlier is None:
                return None
            self._entries = earlier + self._entries
        elif place.number >= first and self._mark_at(place.number) != place.mark:
            return None
        at = bisect_right(self._entries, place.number, key=lambda entry: entry.position)
        return self._entries[at:]

    @property
    def _first(self) -> int:
        return self._entries[0].position if self._entries else self.end.number + 1

    def _mark_at(self, number: int) -> int:
        return self._entries[number - self._first].mark
