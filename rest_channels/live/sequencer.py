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
from typing import TYPE_CHECKING, Any, Final

from django.db import connections, models, transaction
from django.utils import timezone

from rest_channels.counters import counters, note_lag
from rest_channels.live import capture, log

if TYPE_CHECKING:
    from rest_channels.models import LogHead, PendingChange

# Below SQLite's limit of 999 parameters of a statement, as it was before 3.32.
_BATCH_SIZE: Final = 500


def sequence(alias: str) -> int:
    """Move what is pending to the log; returns how many changes. In a worker thread."""
    if not log.pending(alias).exists():
        note_lag(alias, 0.0, 0)
        return 0
    entry: Any = log.entries(alias).model
    # `durable` would be right, if it were not for tests in a transaction.
    with transaction.atomic(using=alias):
        _read_committed(alias)
        head = _locked_head(alias)
        # One statement, one snapshot: of each transaction all changes or none. What it waited
        # for at the lock is in it.
        pending = list(log.pending(alias).order_by("id"))
        entries = [
            entry(
                position=position,
                mark=secrets.randbits(63),
                model=change.model,
                key=change.key,
                kind=change.kind,
                fields=change.fields,
                created_at=change.created_at,
            )
            for position, change in enumerate(
                in_commit_order(without_many(pending)), head.position + 1
            )
        ]
        if not entries:
            return 0
        waited = (timezone.now() - pending[0].created_at).total_seconds()
        note_lag(alias, max(0.0, waited), len(entries))
        log.entries(alias).bulk_create(entries, batch_size=_BATCH_SIZE)
        for start in range(0, len(pending), _BATCH_SIZE):
            batch = [change.pk for change in pending[start : start + _BATCH_SIZE]]
            # Raw: nothing refers to them, and there are no signals to send.
            log.pending(alias).filter(pk__in=batch)._raw_delete(alias)
        last = entries[-1]
        # No `save()`: it would call the project's receivers of signals.
        log.heads(alias).filter(pk=log.HEAD_ID).update(position=last.position, mark=last.mark)
    counters.sequenced += len(entries)
    return len(entries)


def without_many(pending: list[PendingChange]) -> list[PendingChange]:
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
            change.key, change.kind, change.fields = None, log.Kind.UPDATE, None
            kept.append(change)
    return kept


def _statement(change: PendingChange) -> Hashable:
    return change.transaction, change.model, change.kind, change.created_at


def in_commit_order(pending: list[PendingChange]) -> list[PendingChange]:
    """Whole transactions, by the last of their changes."""
    of_transaction: dict[object, list[PendingChange]] = defaultdict(list)
    for change in pending:
        alone = ("alone", change.pk)
        of_transaction[change.transaction or alone].append(change)
    groups = sorted(of_transaction.values(), key=lambda changes: changes[-1].pk)
    return [change for changes in groups for change in changes]


def _read_committed(alias: str) -> None:
    """Who waits at the lock must see what the one before did, whatever the project's isolation."""
    connection: Any = connections[alias]
    if connection.vendor == "postgresql" and len(connection.atomic_blocks) == 1:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")


def _locked_head(alias: str) -> LogHead:
    heads = log.heads(alias)
    if connections[alias].features.has_select_for_update:
        heads = heads.select_for_update()
    else:
        # SQLite has one writer; a transaction that begins by reading may not become it.
        heads.filter(pk=log.HEAD_ID).update(position=models.F("position"))
    head = heads.filter(pk=log.HEAD_ID).first()
    if head is None:
        # Migrations make it; somebody has emptied the table (a flush, a TransactionTestCase).
        last = log.entries(alias).order_by("-position").first()
        position, mark = (last.position, last.mark) if last else (0, 0)
        made = heads.model(pk=log.HEAD_ID, position=position, mark=mark)
        log.heads(alias).bulk_create([made], ignore_conflicts=True)
        return _locked_head(alias)
    return head
