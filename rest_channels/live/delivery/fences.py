"""
Wait until subscriptions have received everything that was committed before.

    fence = Fence(subscriptions)            made after the commit
    passes.begin()                          a pass of the follower begins: it reads the commit
    passes.end(place, covers_commits=True)  its events are in the outboxes, up to this position
    passes.look()                           the same of a slow track, which has numbered nothing
    await fence.outcome                     True

A pass that begins after a commit numbers and reads it, unless another process holds the lock of the
log, or the log has more changes than one page. `Outcome.covers_commits` says so. On the loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Protocol

from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.log.positions import Position


class Waiter(Protocol):
    """A wait for passes that read what was committed before."""

    def on_pass(self, passes: Passes, number: int) -> None:
        """Take note that such a pass, or a later one, is over; it read the log up to `number`."""

    def give_up(self) -> None:
        """Wait no longer."""


class PassWait:
    """A wait for one such pass; `is_over` becomes True after it, False if none comes."""

    def __init__(self) -> None:
        self.is_over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def on_pass(self, passes: Passes, number: int) -> None:
        self._settle(True)

    def give_up(self) -> None:
        self._settle(False)

    def _settle(self, outcome: bool) -> None:
        if not self.is_over.done():
            self.is_over.set_result(outcome)


class Fence:
    """
    A wait for `subscriptions`, each with the passes that send its events.

    `outcome` becomes True once the outboxes have all events of changes that were committed before
    the fence was made; False once that cannot happen, or after `give_up`.
    """

    def __init__(self, subscriptions: Mapping[Subscription, Passes]) -> None:
        self.outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        # Those that wait for a pass, and those whose events a pass has sent as far as the client
        # keeps up.
        self._unread = dict(subscriptions)
        self._unsent: set[Subscription] = set()
        self._passes = set(self._unread.values())
        for passes in self._passes:
            passes.add(self)
        self._look()

    def on_pass(self, passes: Passes, number: int) -> None:
        """
        Note what subscribers have received, after a pass that covers the commits, or a later one.

        `number` is that of a position in the log after the commits.
        """
        told = [s for s, its in self._unread.items() if its is passes and s.has_received(number)]
        for subscription in told:
            del self._unread[subscription]
            self._unsent.add(subscription)
        self._look()

    def give_up(self) -> None:
        """Wait no longer."""
        self._settle(False)

    def _look(self) -> None:
        for subscription in [s for s in self._unsent if not s.has_backlog]:
            subscription.watchers.discard(self._look)
            self._unsent.discard(subscription)
        if any(s.awaits_credit for s in (*self._unread, *self._unsent)):
            self._settle(False)
        elif not (self._unread or self._unsent):
            self._settle(True)
        for subscription in self._unsent:
            subscription.watchers.add(self._look)

    def _settle(self, outcome: bool) -> None:
        if self.outcome.done():
            return
        self.outcome.set_result(outcome)
        for passes in self._passes:
            passes.forget(self)
        for subscription in self._unsent:
            subscription.watchers.discard(self._look)
        self._unsent.clear()


class Passes:
    """The passes of one follower, and the fences that wait for them."""

    def __init__(self) -> None:
        self._new: set[Waiter] = set()
        # Those made before the running pass began, and those whose commits a pass has read.
        self._begun: set[Waiter] = set()
        self._read: dict[Waiter, int] = {}

    @property
    def are_awaited(self) -> bool:
        """Whether a fence waits for a pass to begin."""
        return bool(self._new or self._begun)

    def add(self, fence: Waiter) -> None:
        """Keep `fence` until it has an outcome; the caller rings the follower."""
        self._new.add(fence)

    def forget(self, fence: Waiter) -> None:
        """Forget `fence`, because it has an outcome."""
        for fences in (self._new, self._begun):
            fences.discard(fence)
        self._read.pop(fence, None)

    def begin(self) -> None:
        """Note that a pass begins to number and read the log."""
        self._begun |= self._new
        self._new.clear()

    def end(self, place: Position | None, *, covers_commits: bool) -> None:
        """
        Note that the events of the pass have been sent; it has come to `place`.

        `covers_commits` says whether it has read everything that was committed when it began.
        """
        if covers_commits and place is not None:
            self._read |= dict.fromkeys(self._begun, place.number)
            self._begun.clear()
        self.look()

    def look(self) -> None:
        """Let fences look what subscribers have received, after a pass of any track."""
        for fence, number in list(self._read.items()):
            fence.on_pass(self, number)

    def stop(self) -> None:
        """Note that no more passes come: the subscriptions are over."""
        for fence in self._new | self._begun | self._read.keys():
            fence.on_pass(self, sys.maxsize)
            fence.give_up()
