"""
Objects of which each event loop has one.

    hubs = PerLoop(Hub)
    hubs.current()      # the running loop's hub, made on first use
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object for each event loop, dropped with its loop."""

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self._make = make
        self._of: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    def current(self) -> T:
        """
        Return the object of the running loop. Raises RuntimeError if no loop runs in this thread.
        """
        loop = asyncio.get_running_loop()
        found = self._of.get(loop)
        if found is None:
            found = self._of[loop] = self._make(loop)
        return found

    def running(self) -> list[T]:
        """Return the objects whose loops run: one, except in tests. From any thread."""
        return [found for loop, found in list(self._of.items()) if loop.is_running()]
