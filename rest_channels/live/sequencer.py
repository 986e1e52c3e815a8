"""
From pending changes to the log: each gets the next number, after its transaction's commit.

A number given at the time of writing would be visible before those of transactions that began
earlier and commit later, and whoever reads "everything after 17" would lose them. Here one
process at a time, holding the lock on the head, numbers what is committed. Transactions are
ordered by their last pending change: of two that wrote the same row, the second could write it
only once the first had committed, so its changes come later. None is split.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Hashable
from itertools import count

from django.conf import settings
from django.db import connections
from django.utils import timezone

from rest_channels.counters import counters, note_lag
from rest_channels.live import capture, log
from rest_channels.live.log import Note
from rest_channels.live.positions import Place
from rest_channels.live.transactions import turn


def sequence(alias: str) -> int:
    """Move what is pending to the log; returns how many changes. In a worker thread."""
    if not log.has_notes(alias):
        note_lag(alias, 0.0, 0)
        return 0
    with turn(alias):
        head = _locked_head(alias)
        # One statement, one snapshot: of each transaction all changes or none. What it waited
        # for at the lock is in it.
        notes = log.notes(alias)
        numbers = count(head.number + 1)
        taken = [
            (Place(number, secrets.randbits(63)), note)
            for number, note in zip(numbers, in_commit_order(without_many(notes)), strict=False)
        ]
        if not taken:
            return 0
        note_lag(alias, _waited(alias, notes[0]), len(taken))
        log.append(alias, taken, done=notes)
    counters.sequenced += len(taken)
    return len(taken)


def _waited(alias: str, note: Note) -> float:
    """Since when `note` is there, in seconds."""
    created_at = note.created_at
    if settings.USE_TZ and timezone.is_naive(created_at):
        created_at = timezone.make_aware(created_at, connections[alias].timezone)
    return max(0.0, (timezone.now() - created_at).total_seconds())


def without_many(pending: list[Note]) -> list[Note]:
    """
    One change of the table for the rows of a statement that are too many to be read one by one.
    Most writers know how many they are; a trigger of SQLite's sees one row at a time, but all of
    them at the same second.
    """
    if len(pending) <= capture.MAX_ROWS:
        return pending
    total = Counter(map(_statement, pending))
    rest = total.copy()
    kept = []
    for change in pending:
        statement = _statement(change)
        rest[statement] -= 1
        if total[statement] <= capture.MAX_ROWS:
            kept.append(change)
        elif not rest[statement]:
            kept.append(change._replace(key=None, kind=log.Kind.UPDATE, fields=None))
    return kept


def _statement(change: Note) -> Hashable:
    return change.transaction, change.model, change.kind, change.created_at


def in_commit_order(pending: list[Note]) -> list[Note]:
    """Whole transactions, by the last of their changes."""
    of_transaction: dict[object, list[Note]] = defaultdict(list)
    for change in pending:
        alone = ("alone", change.id)
        of_transaction[change.transaction or alone].append(change)
    groups = sorted(of_transaction.values(), key=lambda changes: changes[-1].id)
    return [change for changes in groups for change in changes]


def _locked_head(alias: str) -> Place:
    while (head := log.locked_head(alias)) is None:
        # Migrations make it; somebody has emptied the table (a flush, a TransactionTestCase).
        last = log.entries(alias).order_by("-position").values_list("position", "mark").first()
        position, mark = last or (0, 0)
        heads = log.heads(alias)
        made = heads.model(pk=log.HEAD_ID, position=position, mark=mark)
        heads.bulk_create([made], ignore_conflicts=True)
    return head
