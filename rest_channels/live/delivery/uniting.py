"""
Unite audiences of one key that met in a track.

A new subscriber's audience begins in another track than the one that its key already has. Once both
hold the same rows, at one position and of one snapshot, they can be one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from rest_channels.live.delivery.pass_state import State
from rest_channels.live.delivery.subscription import SubscribedAudience


def unite_twins(state: State) -> None:
    """Unite the twins of `state` that hold the same rows; at the end of a pass."""
    for twin in list(state.twins):
        first = state.audiences.get(twin.key)
        if first is None or not first.subscriptions:
            _rename(state, twin)
        elif not twin.subscriptions or _hold_the_same(first, twin):
            _unite(first, twin)
        else:
            twin.tries += 1
            continue
        state.audiences.pop((twin.key, id(twin)), None)
        state.twins.remove(twin)


def _rename(state: State, twin: SubscribedAudience) -> None:
    if twin.subscriptions:
        state.audiences[twin.key] = twin


def _hold_the_same(first: SubscribedAudience, twin: SubscribedAudience) -> bool:
    """Return whether subscribers of both hold the same rows, with the same texts."""
    return (
        all(a.is_populated and a.refresh_at is None and not a.is_bound for a in (first, twin))
        and (first.reach, first.keeps_names) == (twin.reach, twin.keeps_names)
        and _are_equal(first, twin)
        and _agree(first.own, twin.own)
        and _agree(first.names, twin.names)
    )


def _are_equal(first: SubscribedAudience, twin: SubscribedAudience) -> bool:
    if first.window is None:
        return first.members == twin.members
    # In their order. The server has made no text of rows that a resuming client held already.
    return list(first.members) == list(twin.members) and all(
        None in (one, other) or one == other
        for one, other in zip(first.members.values(), twin.members.values(), strict=True)
    )


def _agree(one: Mapping[Hashable, Any], other: Mapping[Hashable, Any]) -> bool:
    return all(one[owner] == other[owner] for owner in one.keys() & other.keys())


def _unite(first: SubscribedAudience, twin: SubscribedAudience) -> None:
    first.absorb(twin)
    for key, number in twin.members.items():
        if first.members[key] is None:
            first.members[key] = number
    if not first.evaluation.is_usable:
        first.evaluation = twin.evaluation
    for subscription in list(twin.subscriptions):
        subscription.audience = first
        first.subscriptions.add(subscription)
        if subscription.is_over:
            # The loop has ended it meanwhile, and may have looked for it in the twin.
            first.subscriptions.discard(subscription)
    twin.subscriptions.clear()
