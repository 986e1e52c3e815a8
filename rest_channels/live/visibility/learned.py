"""The facts that the passes of one database learn about viewsets and users, for all its tracks."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from rest_channels.settings import socket_settings


@dataclass
class Learned:
    """
    Facts about families of answers, and writes to users.

    The threads of several tracks share it. A fact only ever limits sharing; `version` grows with
    each that answers in use may contradict.
    """

    #: The reach of answers by family: the narrowest seen, also for texts made with them.
    reach: dict[Hashable, int] = field(default_factory=dict)
    #: The reach of texts by family, if making one has shown that it is narrower than assumed.
    text_reach: dict[Hashable, int] = field(default_factory=dict)
    #: Families whose answers leave state that must be rolled back; those whose rows or texts do;
    #: and those that left state no rollback undoes, with the reason.
    kept: set[Hashable] = field(default_factory=set)
    bound: set[Hashable] = field(default_factory=set)
    refused: dict[Hashable, str] = field(default_factory=dict)
    complaints: set[Hashable] = field(default_factory=set)
    version: int = 0
    #: Whether changes cannot be numbered at the moment, and whether the database cannot be read.
    is_behind: bool = False
    is_absent: bool = False
    # When a write to a user was seen, by primary key, and a write to any user (monotonic seconds).
    _written_at: dict[str, float] = field(default_factory=dict)
    _all_written_at: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def limit(self, family: Hashable, reach: int) -> None:
        """Note that answers of `family` have at most this `reach`."""
        with self._lock:
            self.reach[family] = max(self.reach.get(family, reach), reach)

    def narrow(self, family: Hashable, reach: int) -> None:
        """Limit answers of `family`, and texts made with them, to `reach`."""
        self.limit(family, reach)
        with self._lock:
            self.text_reach[family] = max(self.text_reach.get(family, reach), reach)
            self.version += 1

    def bind(self, family: Hashable) -> None:
        """Stop sharing answers of `family`."""
        with self._lock:
            self.bound.add(family)
            self.kept.add(family)
            self.version += 1

    def note_written(self, whose: set[str] | None) -> None:
        """Note a write to users by their keys; None for any user."""
        now = time.monotonic()
        with self._lock:
            if whose is None:
                self._all_written_at = now
            elif whose:
                oldest = now - socket_settings.LEASE_SECONDS
                kept = {pk: at for pk, at in self._written_at.items() if at > oldest}
                self._written_at = {**kept, **dict.fromkeys(whose, now)}

    def stale_before(self, pks: Iterable[str]) -> float:
        """Return the time before which readings of these users are stale (monotonic seconds)."""
        written = self._written_at
        return max([self._all_written_at, *(written[pk] for pk in pks if pk in written)])
