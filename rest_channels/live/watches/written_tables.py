"""Remember where the log last named each table, to find answers that are out of date."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any, Final

from rest_channels.live.delivery.pass_state import Seen
from rest_channels.live.keys import user_key
from rest_channels.live.log.positions import Position
from rest_channels.live.visibility.evaluations import users_in

# Users whose writes are remembered one by one.
_MAX_USERS: Final = 1_000


class WrittenTables:
    """
    The places in the log of one database where tables and users were last written to. On the loop.

    `place` is the place up to which passes have read; None before the first pass.
    """

    def __init__(self) -> None:
        self.place: Position | None = None
        # Changes up to there are unknown.
        self._began = Position(0, 0)
        self._last: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._all_users = 0
        self._seen: Seen | None = None

    def add(self, seen: Seen) -> None:
        """Add what a pass has read."""
        if not seen.is_continuous or self.place is None:
            self._began = seen.place
            self._last.clear()
        self.place, self._seen = seen.place, seen
        # Not the place of each change: an answer that began within this part runs once more.
        self._last.update(dict.fromkeys(seen.changes, seen.place.number))
        self._add_users(users_in(seen.changes), seen.place.number)

    def _add_users(self, whose: set[str] | None, number: int) -> None:
        if whose is None or len(self._users) + len(whose) > _MAX_USERS:
            self._all_users = number
            self._users.clear()
        else:
            self._users.update(dict.fromkeys(whose, number))

    def has_touched(self, tables: Set[str]) -> bool:
        """Return whether the last part of the log may concern any user, or one of `tables`."""
        seen = self._seen
        if seen is None or not seen.is_continuous or users_in(seen.changes) != set():
            return True
        return not tables.isdisjoint(seen.changes)

    def concern(self, head: Position, tables: Iterable[str]) -> bool:
        """
        Return whether one of `tables` may have been written to after `head`.

        Returns False before the first pass, which will show it.
        """
        return self._is_unknown(head) or any(
            self._last.get(label, 0) > head.number for label in tables
        )

    def concern_users(self, head: Position, pks: Iterable[Any]) -> bool:
        """Return the same for rows of the users with these keys, or their permissions."""
        return self._is_unknown(head) or any(
            max(self._users.get(user_key(pk), 0), self._all_users) > head.number for pk in pks
        )

    def _is_unknown(self, head: Position) -> bool:
        """Return whether changes after `head` may be missing here."""
        if self.place is None:
            return False
        began = self._began
        is_of_another = head.number == began.number and head.mark != began.mark
        # A place that no pass has reached may be of a log that was replaced since.
        return not began.number <= head.number <= self.place.number or is_of_another
