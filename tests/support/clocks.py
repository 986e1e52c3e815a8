"""A clock that a test moves."""

from __future__ import annotations

import time
from typing import Any


class Clock:
    """Monotonic time that goes on when told to; in place of `time` in a module."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)
