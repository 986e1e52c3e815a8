"""
Find the windows that a changed row cannot concern, because it sorts behind the last row.

A user edits an old one of 100,000 messages, newest first: it was not in the window, and it does not
enter it. If the order is that of plain columns, the row itself shows that. The columns of
all changed rows are read in one query.

If the database might sort the values differently, it is asked.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from uuid import UUID

from django.db import connections, models
from django.db.models import F
from django.db.models.expressions import OrderBy

from rest_channels.live.interface import Window
from rest_channels.live.keys import key_of, pk_of
from rest_channels.live.visibility.total_order import terms_of

# For fewer windows, their own queries are as quick.
_WORTH_COMPARING: Final = 2

# Parameters of one statement, below SQLite's limit before 3.32.
_MAX_PARAMETERS: Final = 900

# Exactly these, because a subclass may be stored in any way. Databases sort them as Python does.
_EVERYWHERE: Final[Mapping[type, type]] = {
    **dict.fromkeys((models.AutoField, models.BigAutoField, models.SmallAutoField), int),
    **dict.fromkeys((models.IntegerField, models.BigIntegerField, models.SmallIntegerField), int),
    models.PositiveIntegerField: int,
    models.PositiveBigIntegerField: int,
    models.PositiveSmallIntegerField: int,
    models.ForeignKey: int,
    models.BooleanField: bool,
}

# SQLite sorts the text that a writer has stored, which may have any form.
_ON_POSTGRESQL: Final[Mapping[type, type]] = {
    **_EVERYWHERE,
    models.DateTimeField: datetime.datetime,
    models.DateField: datetime.date,
    models.UUIDField: UUID,
}


class Column(NamedTuple):
    """A term of an order: a column of the row's own table, and the type of its values."""

    name: str
    kind: type
    is_descending: bool


class Bounded(Protocol):
    """
    An audience with a window: its last row has the values `edge` in the `columns` of its order.

    `columns` is None if they cannot be compared, `edge` if it is not known.
    """

    model: Any
    window: Window | None
    members: dict[str, int | None]
    columns: tuple[Column, ...] | None
    edge: tuple[Any, ...] | None


A = TypeVar("A", bound=Bounded)


def columns_of(queryset: Any) -> tuple[Column, ...] | None:
    """Return the columns that a queryset is sorted by, the primary key last; None if unknown."""
    query = queryset.query
    if query.extra_order_by or query.combinator:
        return None
    kinds = _EVERYWHERE
    if connections[queryset.db].vendor == "postgresql":
        kinds = _ON_POSTGRESQL
    found = []
    for term in (*terms_of(queryset), "pk" if query.standard_ordering else "-pk"):
        column = _column(queryset, term, kinds)
        if column is None:
            return None
        found.append(column)
        if column.name == queryset.model._meta.pk.attname:
            # No two rows are equal up to here.
            break
    return tuple(found)


def _column(queryset: Any, term: Any, kinds: Mapping[type, type]) -> Column | None:
    name, is_descending = _named(term)
    meta = queryset.model._meta
    if name == "pk":
        name = meta.pk.attname
    field = next((f for f in meta.local_concrete_fields if name in (f.name, f.attname)), None)
    if field is None or name in queryset.query.annotations:
        return None
    # A relation by its name is sorted by the related row's order.
    kind = kinds.get(type(field)) if name == field.attname else None
    if kind is None:
        return None
    return Column(field.attname, kind, is_descending == queryset.query.standard_ordering)


def _named(term: Any) -> tuple[str, bool]:
    """Return the name in a term, empty if it is not plain, and whether it is descending."""
    if isinstance(term, str):
        return term.removeprefix("-").removeprefix("+"), term.startswith("-")
    is_descending = False
    if type(term) is OrderBy and not (term.nulls_first or term.nulls_last):
        term, is_descending = term.expression, term.descending
    return (term.name if type(term) is F else ""), is_descending


def in_front(wanted: Mapping[A, set[str]], alias: str) -> dict[A, set[str]]:
    """
    Return `wanted` without windows that its changed rows cannot concern.

    They are not in the window, and are gone or sort behind its last row.
    """
    found = dict(wanted)
    by_model: dict[Any, list[A]] = {}
    for audience, keys in wanted.items():
        if _is_bounded(audience) and audience.members.keys().isdisjoint(keys):
            by_model.setdefault(audience.model._meta.concrete_model, []).append(audience)
    for model, audiences in by_model.items():
        read = _Rows(model, alias, audiences, wanted)
        for audience in audiences:
            if not any(read.may_enter(audience, key) for key in wanted[audience]):
                del found[audience]
    return found


def _is_bounded(audience: Bounded) -> bool:
    """Return whether the window is full, and its last row can be compared with others."""
    window = audience.window
    return (
        window is not None
        and len(audience.members) == window.size
        and audience.columns is not None
        and audience.edge is not None
    )


def is_behind(values: Sequence[Any], edge: Sequence[Any], columns: Iterable[Column]) -> bool:
    """Return whether a row with `values` certainly sorts behind the row with those of `edge`."""
    for value, last, column in zip(values, edge, columns, strict=True):
        if type(value) is not column.kind or type(last) is not column.kind:
            # NULL, or a value that an untyped database may sort in any way.
            return False
        if value != last:
            return bool(value < last) == column.is_descending
    return False


class _Rows:
    """The changed rows of one model as they are now, by the columns that windows are sorted by."""

    def __init__(
        self,
        model: Any,
        alias: str,
        audiences: Sequence[Any],
        wanted: Mapping[Any, Collection[str]],
    ) -> None:
        # An order of keys alone needs no rows, if they exist.
        compared = [a for a in audiences if len(a.columns) > 1]
        self._is_read = len(compared) >= _WORTH_COMPARING
        self._names = sorted({column.name for a in compared for column in a.columns})
        keys = set().union(*(wanted[a] for a in compared)) if self._is_read else set()
        self._values = _read(model, alias, self._names, keys)
        self._model = model

    def may_enter(self, audience: Any, key: str) -> bool:
        """Return whether the row may be in the window of `audience` now."""
        names = [column.name for column in audience.columns]
        if len(names) == 1:
            return not is_behind([pk_of(self._model, key)], audience.edge, audience.columns)
        if not self._is_read:
            return True
        row = self._values.get(key)
        return row is not None and not is_behind(
            [row[name] for name in names], audience.edge, audience.columns
        )


def _read(
    model: Any, alias: str, names: Sequence[str], keys: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Return the values of the existing rows in the columns `names`, by key."""
    pks = [pk_of(model, key) for key in sorted(keys)]
    # All rows, without the project's managers and filters.
    rows = models.QuerySet(model, using=alias)
    found = {}
    for start in range(0, len(pks), _MAX_PARAMETERS):
        chunk = rows.filter(pk__in=pks[start : start + _MAX_PARAMETERS])
        for pk, *values in chunk.values_list("pk", *names):
            found[key_of(model, pk) or ""] = dict(zip(names, values, strict=True))
    return found
