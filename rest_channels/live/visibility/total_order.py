"""
Make the order of a queryset total: rows that it leaves equal are in the order of their keys.

    totally_ordered(Message.objects.order_by("-created"))    ORDER BY created DESC, id
"""

from __future__ import annotations

from typing import Any

from django.db.models import F
from django.db.models.expressions import BaseExpression, OrderBy
from django.db.models.functions import Random


def totally_ordered(queryset: Any) -> Any:
    """
    Return `queryset` with the primary key, ascending, as the last term of its order.

    The rows are the same, also of a slice. The queryset must not be combined (`union()`).
    """
    query = queryset.query
    if not query.is_sliced:
        return _with_key(queryset)
    first, end = query.low_mark, query.high_mark
    whole = queryset.all()
    whole.query.clear_limits()
    ordered = _with_key(whole)
    ordered.query.set_limits(first, end)
    return ordered


def is_random(queryset: Any) -> bool:
    """Return whether `queryset` has another order each time."""
    return any(map(_is_random, terms_of(queryset)))


def _with_key(queryset: Any) -> Any:
    # `reverse()` turns each term around, this one included.
    last = "pk" if queryset.query.standard_ordering else "-pk"
    terms = [*terms_of(queryset), last]
    if queryset.query.extra_order_by:
        return queryset.extra(order_by=terms)
    return queryset.order_by(*terms)


def terms_of(queryset: Any) -> tuple[Any, ...]:
    """Return the terms of the order that Django uses."""
    query = queryset.query
    if query.extra_order_by:
        return tuple(query.extra_order_by)
    if query.order_by or not query.default_ordering or query.group_by:
        # Django ignores the model's ordering for groups.
        return tuple(query.order_by)
    return tuple(query.get_meta().ordering)


def _is_random(term: Any) -> bool:
    if isinstance(term, str):
        return term.lstrip("-") == "?"
    if isinstance(term, OrderBy):
        return _is_random(term.expression)
    if isinstance(term, (F, Random)):
        return isinstance(term, Random)
    return isinstance(term, BaseExpression) and any(map(_is_random, term.get_source_expressions()))
