"""Rate limits of frames, and retry times that spread clients refused at the same moment."""

from __future__ import annotations

import enum
import math
import random
import time
from typing import Final

# Clients spread over this many seconds: ten thousand of them retry a thousand times a second.
_MOST_RETRY_SECONDS: Final = 10


def retry_headers(least: int = 1) -> dict[str, str]:
    """
    Return headers for a refusal of many clients at once: a different time for each.

    It is `least` whole seconds or a few more.
    """
    return {"Retry-After": str(least - 1 + random.randint(1, _MOST_RETRY_SECONDS))}


class Verdict(enum.Enum):
    """The decision about a frame."""

    ANSWER = enum.auto()
    REFUSE = enum.auto()
    CLOSE = enum.auto()


class RateLimit:
    """
    A token bucket: `burst` frames at once, `rate` a second after that.

    Refused frames cost as much as answered ones. A client that continues until it owes another
    `burst` is closed; a client that pauses is soon answered again.
    """

    # There may be thousands.
    __slots__ = ("_as_of", "_tokens", "burst", "rate")

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
        """Do not count the last frame, because it answers a message of the server."""
        self._tokens = min(self.burst, self._tokens + 1)

    @property
    def retry_after(self) -> int:
        """Whole seconds until a frame is answered again."""
        return max(1, math.ceil((1 - self._tokens) / self.rate))
