"""
The objects that the core of the client needs from outside: time, and a network.

The core reads no clock and opens no socket, so a test gives it time and a network of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Forget the call; afterwards it is too late to forget, and nothing happens."""


class Clock(Protocol):
    """Time in seconds, and timers. The event loops of asyncio have these methods."""

    def time(self) -> float:
        """Return a time that never goes back."""

    def call_later(self, delay: float, callback: Callable[[], Any], /) -> Timer:
        """Call `callback` after `delay` seconds, in the thread of the core."""


class Network(Protocol):
    """One websocket at a time. It reports to the `Line` of the core."""

    def open(self, *, is_expired: bool) -> None:
        """
        Open a socket, with credentials if there are any.

        `is_expired` says that the server has refused or ended the former credentials.
        """

    def send(self, text: str) -> None:
        """Send a message over the open socket, after those before it."""

    def drop(self) -> None:
        """Give up the socket, or the attempt to open one, and report nothing more of it."""
