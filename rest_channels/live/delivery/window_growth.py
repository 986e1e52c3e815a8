"""
Read only the rows that clients lack when they grow, shrink or resume a window.

A client that holds 50 rows and asks for 100 causes a query of 100 keys, and one of 50 rows. If
rendering a row may run queries, all rows are read and rendered, because only that shows the tables
which those that the client holds depend on.
"""

from __future__ import annotations

from collections.abc import Sequence

from rest_channels.live.delivery.subscription import SubscribedAudience
from rest_channels.live.delivery.update_plan import Join, LogWindow, UpdatePlan
from rest_channels.live.delivery.window_update import WindowUpdate
from rest_channels.live.log import positions
from rest_channels.live.visibility.evaluation import Evaluation
from rest_channels.live.visibility.loaded_columns import shows_loaded_columns
from rest_channels.live.visibility.row_names import Names
from rest_channels.live.visibility.windows import read_order, row_count


def read_less(audience: SubscribedAudience, plan: UpdatePlan, moment: LogWindow) -> None:
    """Plan to read only the rows that new subscribers lack, if the others are not needed."""
    if not (_may_lack(audience, plan) and all(_resumes(a, moment) for a in plan.arrivals)):
        return
    if not all(map(_is_enough, {arrival.evaluation for arrival in plan.arrivals})):
        return
    plan.order = read_order(audience, more=_most_held(plan.arrivals) - row_count(audience))
    plan.lacking = WindowUpdate(audience, plan, {}, [], moment).lacking()
    if plan.lacking is None:
        plan.order = None


def _may_lack(audience: SubscribedAudience, plan: UpdatePlan) -> bool:
    """Return whether all rows of a window would be read for new subscribers alone."""
    if audience.window is None or audience.is_whole or audience.is_bound:
        return False
    return bool(plan.arrivals) and plan.reads_all and plan.keys is not None


def _resumes(arrival: Join, moment: LogWindow) -> bool:
    """Return whether a client says what it holds, at a position that the log still has."""
    subscription = arrival.subscription
    if not arrival.resumes or subscription.options.held is None:
        return False
    place = positions.decode(subscription.options.since, subscription.seal)
    return place is not None and moment.history.since(place) is not None


def _is_enough(evaluation: Evaluation) -> bool:
    """Return whether the keys of rows give their names, and rendering them runs no query."""
    return shows_loaded_columns(evaluation) and Names(evaluation).are_texts_of_keys


def _most_held(arrivals: Sequence[Join]) -> int:
    return max(len(arrival.subscription.options.held or ()) for arrival in arrivals)
