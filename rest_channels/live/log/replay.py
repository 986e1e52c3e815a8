"""Read the changes that resuming subscribers have missed."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from rest_channels.live.log import store
from rest_channels.live.log.positions import Position
from rest_channels.live.log.store import Change

# The most changes that a resume reads. After more, a fresh snapshot is quicker.
_MAX_MISSED: Final = 10_000


class History:
    """
    The log of one database up to `end`, for one pass.

    It reads each change once, for any number of resumes from any positions.
    """

    def __init__(self, alias: str, end: Position) -> None:
        self.alias = alias
        self.end = end
        # All changes from some position on, without a gap.
        self._entries: list[Change] = []

    def since(self, place: Position) -> list[Change] | None:
        """
        Return the changes after `place`, oldest first; None if the client needs a fresh snapshot.

        That is the case if they are too many, or pruned, or if the log never had this position.
        """
        if place.number > self.end.number or self.end.number - place.number > _MAX_MISSED:
            return None
        first = self._first
        if place.number < first and place != self.end:
            earlier = store.since(self.alias, place, limit=first - place.number - 1)
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
