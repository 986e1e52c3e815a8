"""
Read a window: the first rows of a list, or their keys, in the list's order.

All of it runs in the thread of a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from rest_channels.live.keys import field_of, key_of, kind_of, pk_of
from rest_channels.live.topics import CannotSubscribe
from rest_channels.live.visibility.audiences import Audience, in_parts
from rest_channels.live.visibility.evaluation import EVERYBODY
from rest_channels.live.visibility.total_order import totally_ordered
from rest_channels.settings import socket_settings

T = TypeVar("T")

# No database has longer keys, with their sign.
_INTEGER_BITS: Final = 64

# A join may return a row several times. More rows than this for each of the window are not read.
_MAX_REPEATS: Final = 16

_REPEATED: Final = (
    f"A row must not come more than {_MAX_REPEATS} times in a window: use distinct() in the "
    "queryset, 'subscribe' without a window, or 'watch' for a list that is read again."
)


@dataclass(frozen=True)
class Order:
    """
    The `keys` of a window's rows in order, and of some rows `beyond` its end.

    `edge` has the values of the last row in the columns of the order; None if they are unknown.
    """

    keys: list[str]
    beyond: frozenset[str] = frozenset()
    edge: tuple[Any, ...] | None = None


def row_count(audience: Audience) -> int:
    """Return how many rows to read: those of the window, or more than a subscription may have."""
    size = None if audience.window is None else audience.window.size
    return socket_settings.MAX_SUBSCRIPTION_ROWS + 1 if size is None else size


def first_rows(
    audience: Audience, read: Callable[[Any], list[Any]], queryset: Any = None
) -> list[Any]:
    """
    Return the rows of the window in order. Joins may return a row more than once.

    `read` returns the rows of a queryset; `queryset` has the rows, the audience's own by default.
    """
    ordered = totally_ordered(audience.evaluation.queryset if queryset is None else queryset)
    rows = _enough(
        lambda limit: read(ordered[:limit]),
        lambda row: key_of(audience.model, row.pk) or "",
        row_count(audience),
    )
    return [row for same in rows.values() for row in same]


def read_order(audience: Audience, *, more: int = 0) -> Order:
    """Return the order that the window's rows have now, and up to `more` rows beyond its end."""
    size, more = row_count(audience), max(0, more)
    names = [column.name for column in audience.columns or ()]
    ordered = totally_ordered(audience.evaluation.queryset).values_list("pk", *names)
    found = _enough(
        lambda limit: _listed(audience, ordered[:limit]),
        lambda values: key_of(audience.model, values[0]) or "",
        size + more,
    )
    keys = list(found)
    edge = tuple(found[keys[size - 1]][0][1:]) if names and len(keys) >= size else None
    return Order(keys[:size], frozenset(keys[size:]), edge)


def edge_of(audience: Audience, row: Any) -> tuple[Any, ...] | None:
    """Return the values of `row`, as read, in the columns of the window's order."""
    if audience.columns is None:
        return None
    # A deferred column is not read for this.
    values = [vars(row).get(column.name) for column in audience.columns]
    return None if None in values else tuple(values)


def has_moved(audience: Audience) -> bool:
    """Return whether the window has other rows, or another order, than its subscribers hold."""
    return read_order(audience).keys != list(audience.members)


def still_seen(audience: Audience, keys: Collection[str]) -> set[str]:
    """
    Return which of `keys` name rows of the list, within the window or not.

    A key that a client sent must be one that `can_be_stored`.
    """
    queryset = audience.evaluation.queryset
    if audience.is_whole:
        # A filter would return other rows than the list has.
        limit = socket_settings.MAX_SUBSCRIPTION_ROWS
        pks = _listed(audience, totally_ordered(queryset).values_list("pk", flat=True)[:limit])
        return {key_of(audience.model, pk) or "" for pk in pks} & set(keys)
    found: set[str] = set()
    for named in _named(audience, keys):
        pks = _listed(audience, named.values_list("pk", flat=True))
        found |= {key_of(audience.model, pk) or "" for pk in pks}
    return found


def rows_outside(audience: Audience, behind: int, keys: Collection[str]) -> dict[str, Any]:
    """
    Return rows of the list that are not in the window, by key.

    They are the next ones `behind` its end, that many, and those of `keys`.
    """
    behind = min(behind, socket_settings.MAX_SUBSCRIPTION_ROWS)
    if audience.is_whole:
        # A filter would return other rows than the list has.
        end = row_count(audience) + behind
        found = _listed(audience, totally_ordered(audience.evaluation.queryset)[:end])
        return {key_of(audience.model, row.pk) or "": row for row in found}
    order = read_order(audience, more=behind)
    rows: dict[str, Any] = {}
    for named in _named(audience, (order.beyond | set(keys)) - set(order.keys)):
        found = _listed(audience, named)
        rows |= {key_of(audience.model, row.pk) or "": row for row in found}
    return rows


def _named(audience: Audience, keys: Iterable[str]) -> Iterator[Any]:
    """Yield querysets of the rows of the list that `keys` name."""
    for part in in_parts(keys):
        pks = [pk_of(audience.model, key) for key in part]
        yield audience.evaluation.queryset.order_by().filter(pk__in=pks)


def can_be_stored(model: Any, key: str) -> bool:
    """Return whether every database takes `key`, which a client sent, as a parameter."""
    match kind_of(field_of(model)):
        case "integer":
            return int(key).bit_length() < _INTEGER_BITS
        case "uuid":
            return True
        case "text":
            return "\0" not in key
    return False


def _listed(audience: Audience, queryset: Any) -> list[Any]:
    evaluation = audience.evaluation
    if evaluation.row_reach == EVERYBODY:
        return list(queryset)
    # The project's code may read the context it has left.
    return evaluation.run(list, queryset)


def _enough(
    read: Callable[[int], list[T]],
    name: Callable[[T], str],
    count: int,
) -> dict[str, list[T]]:
    """
    Return the first `count` different items, in order, each with its repetitions.

    Raises `CannotSubscribe` if most items are repetitions.
    """
    limit = count
    while True:
        items = read(limit)
        found: dict[str, list[T]] = {}
        for item in items:
            found.setdefault(name(item), []).append(item)
        if len(found) >= count or len(items) < limit:
            return {key: found[key] for key in list(found)[:count]}
        limit *= 2
        if limit > count * _MAX_REPEATS:
            raise CannotSubscribe(_REPEATED)
