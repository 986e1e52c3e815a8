"""
The pace of warnings whose reason lasts: one a minute for each.

This module imports neither Django nor asyncio.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Final

SECONDS_BETWEEN: Final = 60.0


class Pace:
    """
    The times when warnings were last due; in any thread.

    Their keys are few: settings, databases, texts of the code, never a client's own words.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, float] = {}

    def is_due(self, key: Hashable = None) -> bool:
        """Return whether to log the warning of `key` now; if so, it is not due for a minute."""
        now = time.monotonic()
        last = self._last.get(key)
        if last is not None and now - last < SECONDS_BETWEEN:
            return False
        self._last[key] = now
        return True
