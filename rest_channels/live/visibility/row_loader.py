"""Load the rows of many audiences in few queries."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db.models import IntegerField, Value, prefetch_related_objects

from rest_channels.live.exact_values import Inexact, exact
from rest_channels.live.keys import pk_of
from rest_channels.live.table_names import Statement, noting
from rest_channels.live.visibility import windows
from rest_channels.live.visibility.audiences import MAX_KEYS, Audience, in_parts
from rest_channels.live.visibility.evaluation import EVERYBODY, Evaluation
from rest_channels.live.visibility.queries import known_rows
from rest_channels.settings import socket_settings

# The most SELECTs that one statement combines. SQLite takes 500, but plans get slow before that.
_SELECTS_AT_ONCE: Final = 100

# Fewer audiences are read one by one: their prefetches run as their querysets say.
_WORTH_COMBINING: Final = 4

# The most parameters of one statement, below SQLite's limit of 999 before 3.32.
_MAX_PARAMETERS: Final = 900

_TAG: Final = "rest_channels_audience"

A = TypeVar("A", bound=Audience)


def read_rows(
    wanted: Mapping[A, set[str] | None],
) -> Iterator[tuple[A, list[Any]]]:
    """
    Yield each audience with the rows that its queryset returns for the `wanted` keys.

    None stands for all rows, at most one more than `MAX_SUBSCRIPTION_ROWS`, or for all rows of the
    audience's window, in their order. Joins may return a row
    more than once. Only the rows of one audience, or of those combined in one statement, are in
    memory at a time.
    """
    alike: dict[Hashable, list[A]] = {}
    for audience, keys in wanted.items():
        if keys is None and audience.window is not None:
            yield audience, windows.first_rows(audience, partial(_read, audiences=[audience]))
        elif keys is None:
            yield audience, _read(audience.evaluation.queryset[: _limit()], [audience])
        elif not keys:
            yield audience, []
        elif len(keys) > MAX_KEYS:
            yield audience, _in_parts(audience, keys)
        else:
            alike.setdefault(_shape(audience), []).append(audience)
    for audiences in alike.values():
        if len(audiences) < _WORTH_COMBINING:
            for audience in audiences:
                yield audience, _read(_of_keys(audience, wanted[audience] or set()), [audience])
        else:
            yield from _combined(audiences, wanted).items()


def read_again(audience: Audience, evaluation: Evaluation, keys: Collection[str]) -> list[Any]:
    """Return the rows of `keys`, for the subscriber of `evaluation` alone."""
    queryset = evaluation.queryset
    is_whole = audience.is_whole or len(keys) > MAX_KEYS
    if is_whole and audience.window is not None:
        return windows.first_rows(audience, partial(evaluation.run, list), queryset)
    if is_whole:
        return evaluation.run(list, queryset[: _limit()])
    pks = [pk_of(audience.model, key) for key in sorted(keys)]
    return evaluation.run(list, queryset.order_by().filter(pk__in=pks))


def _limit() -> int:
    return socket_settings.MAX_SUBSCRIPTION_ROWS + 1


def _read(queryset: Any, audiences: Sequence[Audience]) -> list[Any]:
    evaluation = audiences[0].evaluation
    with noting() as statements:
        if evaluation.row_reach == EVERYBODY:
            rows = list(queryset)
        else:
            # The project's code makes them, and may read the context it has left.
            rows = evaluation.run(list, queryset)
    # The first statement is the queryset's own; prefetches run the others.
    _note(audiences, statements[1:])
    return rows


def _note(audiences: Iterable[Audience], statements: Sequence[Statement]) -> None:
    for audience in audiences:
        audience.note(statements)


def _of_keys(audience: Audience, keys: Iterable[str]) -> Any:
    rows = audience.evaluation.queryset.order_by()
    return rows.filter(pk__in=[pk_of(audience.model, key) for key in sorted(keys)])


def _in_parts(audience: Audience, keys: set[str]) -> list[Any]:
    """Return the rows of any number of keys, with several statements if needed."""
    found: list[Any] = []
    for part in in_parts(keys):
        found += _read(_of_keys(audience, part), [audience])
    return found


def _shape(audience: Audience) -> Hashable:
    """Return a key that is equal for querysets whose SELECTs can be combined: their columns."""
    queryset = audience.evaluation.queryset
    query = queryset.query
    if audience.evaluation.row_reach != EVERYBODY:
        # Its rows are not read by another queryset.
        return audience
    try:
        annotations = tuple(map(_column, query.annotation_select.items()))
        known = exact(known_rows(queryset))
    except Inexact:
        return audience
    names, is_deferred = query.deferred_loading
    return (
        *(type(queryset), audience.model, annotations, known, exact(query.select_related)),
        *(frozenset(names), is_deferred, query.distinct, query.group_by is None),
        # Django takes two prefetches of one path as equal, whatever rows they fetch.
        tuple(p if isinstance(p, str) else id(p) for p in queryset._prefetch_related_lookups),
        # Django 6.1's fetch mode: a union has one for all its parts.
        getattr(queryset, "_fetch_mode", None),
    )


def _column(annotation: tuple[str, Any]) -> Hashable:
    """Return a key for how the value of an annotation is read. Raises `Inexact`."""
    name, expression = annotation
    field = expression._output_field_or_none
    if field is None:
        raise Inexact(expression)
    _, path, args, kwargs = field.deconstruct()
    return name, type(expression), path, exact(args), exact(kwargs)


def _combined(audiences: list[A], wanted: Mapping[A, set[str] | None]) -> dict[A, list[Any]]:
    found: dict[A, list[Any]] = {audience: [] for audience in audiences}
    waiting = iter(enumerate(audiences))
    while batch := _batch(waiting, wanted):
        selects = [
            _of_keys(audience, wanted[audience] or set())
            .prefetch_related(None)
            .annotate(**{_TAG: Value(number, output_field=IntegerField())})
            for number, audience in batch
        ]
        first, *others = selects
        for row in _read(first.union(*others, all=True) if others else first, audiences):
            found[audiences[row.__dict__.pop(_TAG)]].append(row)
    lookups = audiences[0].evaluation.queryset._prefetch_related_lookups
    if lookups:
        with noting() as statements:
            _prefetch(found)
        _note(audiences, statements)
    return found


def _batch(waiting: Any, wanted: Mapping[A, set[str] | None]) -> list[Any]:
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
        # The queryset is empty: the statement leaves out this SELECT.
        return 0


def _prefetch(found: Mapping[A, list[Any]]) -> None:
    """
    Prefetch together for audiences with equal lookups, apart for lookups with their own queryset.
    """
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
