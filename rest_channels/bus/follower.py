"""
Follow a source that may ring, and may also change without a ring.

A ring may be lost on its way from another process. So a follower looks when it is rung, and also at
intervals.
"""

from __future__ import annotations

import asyncio


class Follower:
    """A loop that looks again and again, one look at a time. On one event loop."""

    def __init__(self) -> None:
        self._is_rung = asyncio.Event()
        self._is_waiting = False

    def ring(self) -> None:
        """Look soon, because there may be something new."""
        self._is_rung.set()

    @property
    def is_idle(self) -> bool:
        """Whether no look runs or is due."""
        return self._is_waiting and not self._is_rung.is_set()

    def has_work(self) -> bool:
        """Return whether there is anything left to follow."""
        raise NotImplementedError

    async def look(self) -> float:
        """Look, and return the seconds after which to look again without a ring."""
        raise NotImplementedError

    async def follow(self) -> None:
        """Look until there is nothing left to follow."""
        while self.has_work():
            self._is_rung.clear()
            if (seconds := await self.look()) > 0:
                await self._wait(seconds)

    async def _wait(self, seconds: float) -> None:
        self._is_waiting = True
        try:
            await asyncio.wait_for(self._is_rung.wait(), seconds)
        except TimeoutError:
            # A ring may have been lost.
            return
        finally:
            self._is_waiting = False
