"""
How long passes take for audiences, and which audiences are slow.

Seconds are elapsed time, because a query that waits in the database delays others just as much.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from rest_channels.live.delivery.subscription import SubscribedAudience, Subscription
from rest_channels.live.visibility.evaluation import family_of

#: An audience that takes longer in a pass, on average, is slow (seconds). So are the audiences of
#: one owner if they take longer together.
SLOW_SECONDS: Final = 0.1

# A slow audience that takes less is quick again: much less, so that it does not go back and forth.
_QUICK_SECONDS: Final = SLOW_SECONDS / 4

# One pass this long is enough: a thread that waited for the processor would not take as long.
_AT_ONCE_SECONDS: Final = 2 * SLOW_SECONDS

# The actions that this process has evaluated before, by stream.
_warm: WeakKeyDictionary[Any, set[Hashable]] = WeakKeyDictionary()

# How long the audiences of an owner stay slow that were slow together (seconds).
_OWNER_SECONDS: Final = 60.0


class Paces:
    """The slow audiences of one database, by what passes have taken for them. On the loop."""

    def __init__(self) -> None:
        # When the audiences of an owner may be quick again (monotonic seconds).
        self._slow_until: dict[Hashable, float] = {}

    def slow(self, seconds: Mapping[SubscribedAudience, float]) -> list[SubscribedAudience]:
        """Return the audiences that a pass has shown to be slow, by the `seconds` of each."""
        for audience, took in seconds.items():
            audience.learn_pace(took)
        found = [audience for audience, took in seconds.items() if _is_slow(audience, took)]
        if sum(seconds.values()) >= SLOW_SECONDS:
            found += self._slow_together(seconds)
        return list(dict.fromkeys(found))

    def quick(self, seconds: Mapping[SubscribedAudience, float]) -> list[SubscribedAudience]:
        """Return the slow audiences that a pass has shown to be quick."""
        for audience, took in seconds.items():
            audience.learn_pace(took)
        return [a for a in seconds if (a.pace or 0.0) < _QUICK_SECONDS and not self._is_kept(a)]

    def is_quick_arrival(self, seconds: float) -> bool:
        """Return whether an audience must be quick, because even to read all rows took this."""
        return seconds < SLOW_SECONDS

    def _slow_together(
        self, seconds: Mapping[SubscribedAudience, float]
    ) -> list[SubscribedAudience]:
        """Return the audiences of owners whose audiences are slow only together."""
        of_owner: dict[Hashable, list[SubscribedAudience]] = defaultdict(list)
        for audience in seconds:
            owner = audience.sole_owner
            if owner is not None:
                of_owner[owner].append(audience)
        found = []
        for owner, audiences in of_owner.items():
            if sum(seconds[audience] for audience in audiences) >= SLOW_SECONDS:
                self._slow_until[owner] = time.monotonic() + _OWNER_SECONDS
                found += audiences
        return found

    def _is_kept(self, audience: SubscribedAudience) -> bool:
        if not self._slow_until:
            return False
        now = time.monotonic()
        self._slow_until = {o: until for o, until in self._slow_until.items() if until > now}
        return audience.sole_owner in self._slow_until


def warm_up(evaluated: Iterable[Subscription]) -> set[Subscription]:
    """
    Return those whose viewset and action this process has not evaluated before.

    A first time says nothing about the next: it also imports modules, compiles patterns and
    opens connections.
    """
    named = {subscription: family_of(subscription.topic) for subscription in evaluated}
    cold = {
        s for s, (stream, *action) in named.items() if tuple(action) not in _warm.get(stream, ())
    }
    for stream, *action in map(named.__getitem__, cold):
        _warm.setdefault(stream, set()).add(tuple(action))
    return cold


def _is_slow(audience: SubscribedAudience, took: float) -> bool:
    average = audience.pace or 0.0
    return took >= _AT_ONCE_SECONDS or (took >= SLOW_SECONDS <= average and audience.passes > 1)
