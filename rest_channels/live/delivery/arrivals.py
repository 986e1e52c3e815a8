"""
The subscriptions that wait to join: who joins next, in turns of their owners.

Nothing here uses a thread or a database; all of it runs on the loop.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Final

from rest_channels.live.delivery.subscription import Subscription

#: The most subscriptions that join in one pass, because the others wait for its replies.
JOINING_AT_A_TIME: Final = 500

# The topics of one owner in a pass, and of a heavy one. Subscriptions to one topic share its
# queries.
_TOPICS_AT_A_TIME: Final = 8
_HEAVY_TOPICS_AT_A_TIME: Final = 2

# The seconds of passes that an owner may use at once, and each second.
_CREDIT_SECONDS: Final = 0.05
_SHARE: Final = 0.2

# More keys than this, of rows that a client says it holds, take long.
_MANY_KEYS: Final = 1_000


class Debts:
    """
    The seconds of passes that owners have used, less what each may use by now.

    A leaky bucket for each owner. Owners without debts are forgotten.
    """

    def __init__(self) -> None:
        self._of: dict[Hashable, tuple[float, float]] = {}

    def of(self, owner: Hashable) -> float:
        """Return the seconds that `owner` has used too much, 0 if none."""
        used, at = self._of.get(owner, (0.0, 0.0))
        return max(0.0, used - (time.monotonic() - at) * _SHARE)

    def add(self, owner: Hashable, seconds: float) -> None:
        """Count `seconds` for `owner`."""
        if len(self._of) > 1_000:
            self._of = {owner: debt for owner, debt in self._of.items() if self.of(owner)}
        self._of[owner] = self.of(owner) + seconds, time.monotonic()

    def is_heavy(self, owner: Hashable) -> bool:
        """Return whether `owner` has used more than its credit."""
        return self.of(owner) > _CREDIT_SECONDS


class Arrivals:
    """Queues of subscriptions, one for each owner: a user, or an address."""

    def __init__(self) -> None:
        self.debts = Debts()
        self._queues: dict[Hashable, deque[Subscription]] = {}

    def add(self, subscription: Subscription) -> bool:
        """Let `subscription` wait for its turn; return whether its owner is a heavy one."""
        owner = subscription.topic.credentials.owner
        self._queues.setdefault(owner, deque()).append(subscription)
        return self._is_heavy(owner)

    def add_first(self, subscriptions: Iterable[Subscription]) -> None:
        """Let subscriptions that had their turn come first again."""
        for subscription in reversed(list(subscriptions)):
            owner = subscription.topic.credentials.owner
            self._queues.setdefault(owner, deque()).appendleft(subscription)

    def all(self) -> list[Subscription]:
        """Return all that wait."""
        return [s for queue in list(self._queues.values()) for s in queue]

    def has(self, *, heavy: bool) -> bool:
        """Return whether any owner of that kind waits."""
        return any(self._is_heavy(owner) == heavy for owner in self._queues)

    def next(self, *, heavy: bool) -> list[Subscription]:
        """
        Return the subscriptions that join next.

        Those of light owners join together, a few topics of each. Heavy owners join one after the
        other, the one with the least debt first.
        """
        owners = [owner for owner in self._queues if self._is_heavy(owner) == heavy]
        if heavy and owners:
            owners = [min(owners, key=self.debts.of)]
        taken: list[Subscription] = []
        for owner in owners:
            if len(taken) < JOINING_AT_A_TIME:
                taken += self._take(owner, JOINING_AT_A_TIME - len(taken), heavy=heavy)
        return taken

    def _take(self, owner: Hashable, most: int, *, heavy: bool) -> list[Subscription]:
        queue = self._queues.pop(owner)
        topics: set[Hashable] = set()
        taken: list[Subscription] = []
        while queue and len(taken) < most:
            topics.add(queue[0].topic.name)
            if len(topics) > (_HEAVY_TOPICS_AT_A_TIME if heavy else _TOPICS_AT_A_TIME):
                break
            taken.append(queue.popleft())
        if queue:
            # At the end, behind the other owners.
            self._queues[owner] = queue
        return taken

    def _is_heavy(self, owner: Hashable) -> bool:
        held = self._queues[owner][0].options.held
        return self.debts.is_heavy(owner) or (held is not None and len(held) > _MANY_KEYS)
