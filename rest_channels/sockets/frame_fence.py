"""The wait of one frame with a fence, between its action and its reply."""

from __future__ import annotations

import asyncio
from typing import Protocol

from rest_channels.settings import socket_settings


class Waiting(Protocol):
    """A wait for subscriptions; see `rest_channels.live.delivery.fences.Fence`."""

    outcome: asyncio.Future[bool]

    def give_up(self) -> None:
        """Set the outcome to False, unless it is known."""


class Subscriptions(Protocol):
    """
    The subscriptions and watches of a socket; see `rest_channels.live.delivery.registry`.
    """

    def fence(self) -> Waiting:
        """Return a wait for all subscriptions."""

    async def settle_watches(self) -> bool:
        """
        Wait for watches that a change concerns, but not for slow ones.

        Returns False if an answer waits for the client to read.
        """


class FrameFence:
    """A frame's wait, at most `FENCE_SECONDS`. On the loop; `wait` is called once."""

    def __init__(self) -> None:
        self._is_given_up = False
        self._waiting: Waiting | None = None
        self._settling: asyncio.Future[bool] | None = None

    def give_up(self) -> None:
        """Do not wait any more, because the client has cancelled the frame or is gone."""
        self._is_given_up = True
        if self._waiting is not None:
            self._waiting.give_up()
        if self._settling is not None:
            self._settling.cancel()

    async def wait(self, subscriptions: Subscriptions) -> bool:
        """
        Wait until the outbox has all events of what was committed before; return whether it has.
        """
        if self._is_given_up:
            return False
        self._waiting = waiting = subscriptions.fence()
        self._settling = settling = asyncio.ensure_future(subscriptions.settle_watches())
        try:
            await asyncio.wait([waiting.outcome], timeout=socket_settings.FENCE_SECONDS)
            is_told = waiting.outcome.done() and waiting.outcome.result()
            if is_told:
                await asyncio.wait([settling])
                is_told = not settling.cancelled() and settling.result()
        finally:
            waiting.give_up()
            settling.cancel()
        return is_told
