"""Read the rows of a pass; of a window, only rows that enter, move or have changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rest_channels.live.delivery.subscription import SubscribedAudience
from rest_channels.live.delivery.update_plan import UpdatePlan
from rest_channels.live.delivery.window_script import script
from rest_channels.live.log.store import Kind
from rest_channels.live.visibility.row_loader import read_rows
from rest_channels.live.visibility.windows import has_moved, read_order, row_count


def read_planned(
    work: Mapping[SubscribedAudience, UpdatePlan],
) -> Iterator[tuple[SubscribedAudience, list[Any]]]:
    """
    Yield each audience with the rows that its plan wants.

    The plan of an audience with a window receives the order of its rows. See `read_rows`.
    """
    yield from read_rows({audience: _wanted(audience, plan) for audience, plan in work.items()})


def _wanted(audience: SubscribedAudience, plan: UpdatePlan) -> set[str] | None:
    if audience.window is None or plan.wanted is None or plan.lacking is not None:
        return plan.wanted
    if not plan.tells:
        return set()
    # More than that never leave a window at once.
    plan.order = read_order(audience, more=min(len(plan.wanted), row_count(audience)))
    return told(list(audience.members), plan.order.keys, plan.wanted)


def told(before: list[str], now: list[str], changed: set[str]) -> set[str]:
    """Return the rows whose texts a client needs that holds the list `before`."""
    return {step.key for step in script(before, now, changed) if step.kind != Kind.DELETE}


def look_at_order(audience: SubscribedAudience, plan: UpdatePlan) -> None:
    """
    Plan to tell existing subscribers if the order in this snapshot is not the one they hold.

    A new subscriber receives the order of the snapshot, and all must hold the same.
    """
    if audience.window is None or audience.is_bound or not audience.is_populated or plan.tells:
        return
    if audience.subscriptions and has_moved(audience):
        if audience.is_whole:
            plan.keys = None
        else:
            plan.reads_order = True
