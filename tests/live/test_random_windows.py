"""
Random programs with ordered lists and windows: whatever happens, in the end each client holds the
first rows of what `list` shows it, in that order, and the events led there one by one.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from rest_channels.live.delivery import window_plan, window_script, window_update
from rest_channels.live.log.store import Kind
from rest_channels.live.visibility import total_order, window_edges, windows
from tests.support.random_programs.stages import PROGRAMS, check, must_fail, stage
from tests.support.random_programs.window_worlds import (
    WindowEdges,
    WindowJoins,
    WindowNotes,
    WindowPolicies,
    WindowTenants,
)
from tests.support.random_programs.world_kind import IS_POSTGRESQL

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(1_800),
    pytest.mark.programs,
]

KINDS = [WindowNotes(), WindowJoins(), WindowTenants(), WindowEdges()]
if IS_POSTGRESQL:
    KINDS.append(WindowPolicies())
# Each takes some four times as long as one without windows.
COUNT = max(10, PROGRAMS // 4)
HAPPENINGS = ["create", "update", "delete", "reset", "subscribed", "resumed", "grown", "cut"]


def test_clients_hold_the_first_rows_in_their_order():
    tally = Counter()
    with stage(kinds=KINDS, tally=tally) as failure:
        check(failure, COUNT, KINDS)
    print(tally)
    if "TEST_SEED" not in os.environ:
        assert COUNT < 100 or all(tally[word] for word in HAPPENINGS), tally


# Rules left out: the programs have to notice.


def without_tie_breaker(patch):
    patch.setattr(total_order, "_with_key", lambda queryset: queryset)


def with_after_of_before(patch):
    """Say behind which row one was, not behind which it is."""

    def steps(before, now, *args):
        places = {key: before[at - 1] if at else None for at, key in enumerate(before)}
        return [
            step._replace(after=places.get(step.key, step.after)) if step.moves else step
            for step in window_script.script(before, now, *args)
        ]

    patch.setattr(window_update, "script", steps)


def without_refills(patch):
    """Let rows leave a window, and let only rows that were written enter."""
    read_order = windows.read_order

    def read(audience, *, more=0):
        order = read_order(audience, more=more)
        if not audience.is_populated or more == 0:
            return order
        known = [key for key in order.keys if key in audience.members]
        return windows.Order(known, order.beyond)

    patch.setattr(window_plan, "read_order", read)


def with_all_rows_behind(patch):
    """Take every row outside a full window for one that sorts behind it."""
    patch.setattr(window_edges, "is_behind", lambda values, edge, columns: True)


def with_the_edge_of_the_beginning(patch):
    """Compare rows with the last row that the window had at first."""
    edge_now = window_update.WindowUpdate._edge_now

    def edge(update):
        return update.audience.edge or edge_now(update)

    patch.setattr(window_update.WindowUpdate, "_edge_now", edge)


def without_leaving_first(patch):
    """Let rows enter before others leave."""

    def steps(*args):
        found = window_script.script(*args)
        return sorted(found, key=lambda step: step.kind == Kind.DELETE)

    patch.setattr(window_update, "script", steps)


def with_rows_that_are_held_already(patch):
    """Take what a client holds for what the rows are now, although they have changed."""
    patch.setattr(window_update.WindowUpdate, "_changed_rows", lambda update, changed: set())


@pytest.mark.once
@pytest.mark.parametrize(
    ("leave_out", "kind", "finders"),
    [
        (without_tie_breaker, WindowNotes(), [1726560807]),
        (with_after_of_before, WindowNotes(), [230199822]),
        (without_refills, WindowNotes(), [1174605012]),
        (with_all_rows_behind, WindowNotes(), [757499400]),
        (with_the_edge_of_the_beginning, WindowEdges(), [34]),
        (without_leaving_first, WindowNotes(), [4064977483]),
        (with_rows_that_are_held_already, WindowNotes(), [4204042558]),
    ],
)
def test_programs_notice_what_is_left_out(leave_out, kind, finders, monkeypatch):
    with stage(kinds=[kind]) as failure:
        leave_out(monkeypatch)
        must_fail(failure, finders, [kind])
