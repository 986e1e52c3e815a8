"""
Assign log positions to committed changes.

A number assigned on writing would become visible before the numbers of transactions that began
earlier and commit later, and a reader of "everything after 17" would miss those. Instead, one
process at a time holds the lock on the log's head and numbers committed changes. Transactions are
ordered by their last pending change: if two wrote the same row, the second could write it only
after the first had committed, so its changes come later. No transaction is split.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Hashable
from datetime import datetime
from itertools import count

from django.conf import settings
from django.db import connections
from django.utils import timezone

from rest_channels.live.capture import writes
from rest_channels.live.log import store
from rest_channels.live.log.positions import Position
from rest_channels.live.log.store import PendingChange
from rest_channels.live.log.transactions import turn
from rest_channels.metrics import figures
from rest_channels.metrics.gauges import note_lag


def sequence(alias: str, *, followed_since: float | None = None) -> int:
    """
    Move pending changes to the log; return how many. Runs in a worker thread.

    `followed_since` is when this process began to follow the log (monotonic seconds). Older changes
    have waited for a subscriber, not for the log, so their lag counts from then.
    """
    if not store.has_notes(alias):
        note_lag(alias, 0.0, 0)
        return 0
    with turn(alias):
        head = _locked_head(alias)
        # One statement reads one snapshot: all changes of a transaction or none. It includes
        # changes committed while this process waited for the lock.
        notes = store.notes(alias)
        numbers = count(head.number + 1)
        taken = [
            (Position(number, secrets.randbits(63)), note)
            for number, note in zip(numbers, in_commit_order(without_many(notes)), strict=False)
        ]
        if not taken:
            return 0
        note_lag(alias, min(_waited(alias, notes[0]), _seconds_since(followed_since)), len(taken))
        store.append(alias, taken, done=notes)
    figures.sequenced.add(len(taken))
    return len(taken)


def _seconds_since(moment: float | None) -> float:
    return float("inf") if moment is None else time.monotonic() - moment


def _waited(alias: str, note: PendingChange) -> float:
    """Return the age of a pending change in seconds."""
    created_at: datetime = note.created_at
    if settings.USE_TZ and timezone.is_naive(created_at):
        created_at = timezone.make_aware(created_at, connections[alias].timezone)
    now: datetime = timezone.now()
    return max(0.0, (now - created_at).total_seconds())


def without_many(pending: list[PendingChange]) -> list[PendingChange]:
    """
    Replace the rows of a statement that wrote too many by one change of the table.

    Most writers know the number of rows; a trigger of SQLite sees one row at a time, but all rows
    of a statement have the same second.
    """
    if len(pending) <= writes.MAX_ROWS:
        return pending
    total = Counter(map(_statement, pending))
    rest = total.copy()
    kept = []
    for change in pending:
        statement = _statement(change)
        rest[statement] -= 1
        if total[statement] <= writes.MAX_ROWS:
            kept.append(change)
        elif not rest[statement]:
            kept.append(change._replace(key=None, kind=store.Kind.UPDATE, fields=None))
    return kept


def _statement(change: PendingChange) -> Hashable:
    return change.transaction, change.model, change.kind, change.created_at


def in_commit_order(pending: list[PendingChange]) -> list[PendingChange]:
    """Return whole transactions, ordered by the last change of each."""
    of_transaction: dict[object, list[PendingChange]] = defaultdict(list)
    for change in pending:
        alone = ("alone", change.id)
        of_transaction[change.transaction or alone].append(change)
    groups = sorted(of_transaction.values(), key=lambda changes: changes[-1].id)
    return [change for changes in groups for change in changes]


def _locked_head(alias: str) -> Position:
    while (head := store.locked_head(alias)) is None:
        # Migrations create it; a flush or a TransactionTestCase has emptied the table.
        last = store.entries(alias).order_by("-position").values_list("position", "mark").first()
        position, mark = last or (0, 0)
        heads = store.heads(alias)
        made = heads.model(pk=store.HEAD_ID, position=position, mark=mark)
        heads.bulk_create([made], ignore_conflicts=True)
    return head
