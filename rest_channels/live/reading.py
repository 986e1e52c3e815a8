"""
Rows of many audiences, in few queries.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from django.core.exceptions import EmptyResultSet
from django.db.models import IntegerField, Value, prefetch_related_objects

from rest_channels.live.audiences import MAX_KEYS, Audience, in_parts
from rest_channels.settings import socket_settings

# SELECTs that one statement puts together: SQLite takes 500, and plans get slow before that.
_SELECTS_AT_ONCE: Final = 100

# Fewer are read one by one: their prefetches run as their querysets say.
_WORTH_COMBINING: Final = 4

# Parameters of one statement: below SQLite's limit before 3.32, of 999.
_MAX_PARAMETERS: Final = 900

_TAG: Final = "rest_channels_audience"


def read_rows(
    wanted: Mapping[Audience, set[str] | None],
) -> Iterator[tuple[Audience, list[Any]]]:
    """
    The rows of `wanted` keys that each audience's queryset gives; of None all rows, one more than
    `MAX_SUBSCRIPTION_ROWS` at most. Of who wants all rows, one has them in memory at a time.
    """
    alike: dict[Hashable, list[Audience]] = {}
    for audience, keys in wanted.items():
        if keys is None:
            limit = socket_settings.MAX_SUBSCRIPTION_ROWS + 1
            yield audience, _once(audience.evaluation.queryset[:limit])
        elif not keys:
            yield audience, []
        elif len(keys) > MAX_KEYS:
            yield audience, _in_parts(audience, keys)
        else:
            alike.setdefault(_shape(audience), []).append(audience)
    for audiences in alike.values():
        if len(audiences) < _WORTH_COMBINING:
            for audience in audiences:
                yield audience, _once(_of_keys(audience, wanted[audience] or set()))
        else:
            yield from _combined(audiences, wanted).items()


def read_keys(audience: Audience) -> list[Any]:
    """The primary keys of all rows, one more than `MAX_SUBSCRIPTION_ROWS` at most."""
    rows = audience.evaluation.queryset.order_by()
    limit = socket_settings.MAX_SUBSCRIPTION_ROWS + 1
    return list(dict.fromkeys(rows.values_list("pk", flat=True)[:limit]))


def _of_keys(audience: Audience, keys: Iterable[str]) -> Any:
    to_python = audience.model._meta.pk.to_python
    rows = audience.evaluation.queryset.order_by()
    return rows.filter(pk__in=[to_python(key) for key in sorted(keys)])


def _in_parts(audience: Audience, keys: set[str]) -> list[Any]:
    """The rows of any number of keys, by as many statements as that takes."""
    found: list[Any] = []
    for part in in_parts(keys):
        found += _of_keys(audience, part)
    return _once(found)


def _once(rows: Any) -> list[Any]:
    # Joins may give a row twice.
    return list({row.pk: row for row in rows}.values())


def _shape(audience: Audience) -> Hashable:
    """What querysets have in common whose SELECTs can be put together: their columns."""
    queryset = audience.evaluation.queryset
    query = queryset.query
    return (
        # Of a queryset with rows of its own no other makes the rows.
        audience if audience.evaluation.has_own_rows else type(queryset),
        audience.model,
        tuple((name, repr(a)) for name, a in query.annotation_select.items()),
        repr(query.select_related),
        repr(query.deferred_loading),
        query.distinct,
        query.group_by is None,
        tuple(map(repr, queryset._prefetch_related_lookups)),
    )


def _combined(
    audiences: list[Audience], wanted: Mapping[Audience, set[str] | None]
) -> dict[Audience, list[Any]]:
    found: dict[Audience, list[Any]] = {audience: [] for audience in audiences}
    waiting = iter(enumerate(audiences))
    while batch := _batch(waiting, wanted):
        selects = [
            _of_keys(audience, wanted[audience] or set())
            .prefetch_related(None)
            .annotate(**{_TAG: Value(number, output_field=IntegerField())})
            for number, audience in batch
        ]
        first, *others = selects
        for row in first.union(*others, all=True) if others else first:
            found[audiences[row.__dict__.pop(_TAG)]].append(row)
    lookups = audiences[0].evaluation.queryset._prefetch_related_lookups
    if lookups:
        _prefetch(found)
    return {audience: _once(rows) for audience, rows in found.items()}


def _batch(waiting: Any, wanted: Mapping[Audience, set[str] | None]) -> list[Any]:
    batch = list(islice(waiting, 1))
    parameters = 0
    while batch and len(batch) < _SELECTS_AT_ONCE:
        _, audience = batch[-1]
        parameters += _count_parameters(audience) + len(wanted[audience] or ()) + 1
        if parameters * (len(batch) + 1) / len(batch) > _MAX_PARAMETERS:
            break
        following = list(islice(waiting, 1))
        if not following:
            break
        batch += following
    return batch


def _count_parameters(audience: Audience) -> int:
    queryset = audience.evaluation.queryset
    try:
        return len(queryset.query.get_compiler(using=queryset.db).as_sql()[1])
    except EmptyResultSet:
        # Nobody sees anything: the statement will do without this SELECT.
        return 0


def _prefetch(found: Mapping[Audience, list[Any]]) -> None:
    """One prefetch for all that ask for the same; one each where it has a queryset of its own."""
    together: list[Any] = []
    plain: tuple[Any, ...] = ()
    for audience, rows in found.items():
        lookups = audience.evaluation.queryset._prefetch_related_lookups
        if all(isinstance(lookup, str) for lookup in lookups):
            plain = lookups
            together += rows
        elif rows:
            prefetch_related_objects(rows, *lookups)
    if together:
        prefetch_related_objects(together, *plain)
