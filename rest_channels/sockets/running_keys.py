"""
The idempotency keys whose actions run in this process at the moment.

    if running_keys.begin(place):
        try:
            ...                             # no other frame of this process has the key now
        finally:
            running_keys.end(place)
    else:
        running_keys.when_ended(place, wake)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable


class RunningKeys:
    """A set of keys with callbacks, called when a key leaves it. In any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, list[Callable[[], None]]] = {}

    def begin(self, place: Hashable) -> bool:
        """Add `place`; return False if it is there already."""
        with self._lock:
            if place in self._waiting:
                return False
            self._waiting[place] = []
            return True

    def end(self, place: Hashable) -> None:
        """Remove `place`, and call everyone who waits for that."""
        with self._lock:
            waiting = self._waiting.pop(place)
        for wake in waiting:
            wake()

    def when_ended(self, place: Hashable, wake: Callable[[], None]) -> bool:
        """Call `wake` once `place` is removed, in any thread; return False if it is not there."""
        with self._lock:
            if place not in self._waiting:
                return False
            self._waiting[place].append(wake)
            return True


running_keys = RunningKeys()
