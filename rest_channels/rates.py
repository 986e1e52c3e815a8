"""
How many frames a second a client may send, and when those may ask again who are refused together.
"""

from __future__ import annotations

import enum
import math
import random
import time
from typing import Final

# Over so many seconds they spread: ten thousand clients ask a thousand times a second.
_MOST_RETRY_SECONDS: Final = 10


def retry_headers() -> dict[str, str]:
    """For 503 that many clients get at the same moment: to each another time, in whole seconds."""
    return {"Retry-After": str(random.randint(1, _MOST_RETRY_SECONDS))}


class Verdict(enum.Enum):
    """What to do with a frame."""

    ANSWER = enum.auto()
    REFUSE = enum.auto()
    CLOSE = enum.auto()


class RateLimit:
    """
    A token bucket: `burst` frames at once, `rate` a second after that.

    Refused frames cost as much as answered ones. A client that goes on until it owes another
    `burst` is to be closed; one that pauses is soon answered again.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._as_of = time.monotonic()

    def take(self) -> Verdict:
        """Count one frame."""
        now = time.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._as_of) * self.rate)
        self._as_of = now
        self._tokens -= 1
        if self._tokens >= 0:
            return Verdict.ANSWER
        return Verdict.REFUSE if self._tokens >= -self.burst else Verdict.CLOSE

    def give_back(self) -> None:
        """Do not count the last frame: what it answers to has its own pace."""
        self._tokens = min(self.burst, self._tokens + 1)

    @property
    def retry_after(self) -> int:
        """Seconds, whole, until a frame would be answered again."""
        return max(1, math.ceil((1 - self._tokens) / self.rate))
