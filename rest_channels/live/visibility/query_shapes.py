"""
Detect querysets whose rows depend on one another.

A pass reads changed rows with `filter(pk__in=...)`. Under `distinct("room")`, a window, a slice or
a union, that returns other rows than `list` does, so the rows of such querysets are all read and
compared. A queryset counts as dependent unless it is known to be independent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from django.db.models import Func, Prefetch
from django.db.models.expressions import RawSQL, Window
from django.db.models.sql import Query
from django.db.models.sql.where import ExtraWhere
from rest_framework.serializers import BaseSerializer, ListSerializer

# The text that is put into the SQL as the name of a function.
_FUNCTION: Final = re.compile(r"\w*(\.\w+)*")

_OF_DJANGO: Final = "django."


def is_read_whole(queryset: Any, serializer_class: Any) -> bool:
    """Return whether a row, or its representation, may depend on the other rows read with it."""
    return has_dependent_rows(queryset) or _lists_itself(serializer_class)


def has_dependent_rows(queryset: Any) -> bool:
    """Return whether rows of `queryset`, or their values, may change under a further filter."""
    return queryset.query.is_sliced or _is_dependent(queryset)


def _is_dependent(queryset: Any) -> bool:
    query = queryset.query
    return bool(
        # A project's own class, for example for recursive queries.
        type(query) is not Query
        or query.combinator
        or query.distinct_fields
        or query.extra
        or query.extra_tables
        or isinstance(query.group_by, tuple)
        or any(isinstance(part, Window) for part in parts(query, is_deep=False))
        or any(_is_unknown(part) for part in parts(query, is_deep=True))
        # Django slices the rows of each parent separately.
        or any(map(_is_dependent, prefetched(queryset)))
    )


def prefetched(queryset: Any) -> Iterator[Any]:
    """Yield the querysets of prefetches of `queryset`; each is read for all rows together."""
    for lookup in queryset._prefetch_related_lookups:
        if isinstance(lookup, Prefetch):
            given = [lookup.queryset, *(getattr(lookup, "querysets", None) or ())]
            yield from (part for part in given if part is not None)


def parts(query: Query, *, is_deep: bool) -> Iterator[Any]:
    """
    Yield the nodes, expressions and values that decide the rows of `query` and their values.

    Includes those of inner queries if `is_deep`.
    """
    pending: list[Any] = [query]
    seen: set[int] = set()
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Query):
            if part is query or is_deep:
                pending += _of_query(part)
            continue
        yield part
        pending += _within(part)


def _of_query(query: Query) -> Iterator[Any]:
    yield query.where
    yield from query.annotations.values()
    yield from query.combined_queries
    for join in query.alias_map.values():
        relation = getattr(join, "filtered_relation", None)
        yield getattr(relation, "resolved_condition", None)


def _within(part: Any) -> Iterator[Any]:
    yield from getattr(part, "children", ())
    yield getattr(part, "query", None)
    if hasattr(part, "get_source_expressions"):
        yield from part.get_source_expressions()
    for name in ("lhs", "rhs"):
        side = getattr(part, name, None)
        yield from side if isinstance(side, (list, tuple)) else [side]


def _is_unknown(part: Any) -> bool:
    """Return whether `part` writes SQL that is not Django's."""
    if isinstance(part, (RawSQL, ExtraWhere)) or _writes_own_sql(type(part)):
        return True
    if not isinstance(part, Func):
        return False
    function = part.extra.get("function", part.function)
    return "template" in part.extra or not _FUNCTION.fullmatch(function or "")


def _writes_own_sql(kind: type) -> bool:
    if not hasattr(kind, "as_sql") or kind.__module__.startswith(_OF_DJANGO):
        return False
    own = [base for base in kind.__mro__ if not base.__module__.startswith(_OF_DJANGO)]
    return any(name == "template" or name.startswith("as_") for base in own for name in vars(base))


def _lists_itself(serializer_class: Any) -> bool:
    """
    Return whether the project's own code represents a list of rows, and so sees them together.
    """
    meta = getattr(serializer_class, "Meta", None)
    listed_by = getattr(meta, "list_serializer_class", ListSerializer)
    many_init = getattr(serializer_class, "many_init", BaseSerializer.many_init)
    return listed_by is not ListSerializer or many_init.__func__ is not _MANY_INIT


_MANY_INIT: Final = BaseSerializer.many_init.__func__
