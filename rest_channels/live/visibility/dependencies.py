"""
Find the tables that a queryset reads beside its own, and the rows that a change there may concern.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model, Prefetch
from django.db.models.constants import LOOKUP_SEP
from django.db.models.sql import Query

from rest_channels.live.model_tables import label_of, label_of_table, models_over


def dependencies(queryset: Any) -> dict[str, set[str] | None]:
    """
    Return the models that `queryset` reads beside its own, by label.

    Each has the lookups that lead there through foreign keys alone, or None if it is read in any
    other way, so that a change may concern any row.
    """
    found: dict[str, set[str] | None] = {}
    paths = dict(_joined(queryset.query, found))
    for lookups in _selected(queryset):
        for path, model in _forward(queryset.model, lookups):
            paths.setdefault(path, model)
    read = [("", queryset.model), *paths.items()]
    for path, model in [*paths.items(), *(part for item in read for part in _parents(*item))]:
        label = label_of(model)
        lookups_of = found.setdefault(label, set())
        if _may_lose_referring(queryset.model, path):
            found[label] = None
        elif lookups_of is not None:
            lookups_of.add(path)
    for lookup in queryset._prefetch_related_lookups:
        for model in _prefetched(queryset.model, lookup):
            for part in (model, *model._meta.all_parents):
                found[label_of(part)] = None
    return found


def field_at(model: Any, path: str) -> Any:
    """Return the last field of a lookup through foreign keys."""
    field: Any = None
    for name in path.split(LOOKUP_SEP):
        field = model._meta.get_field(name)
        model = field.related_model
    return field


def is_enforced(field: Any) -> bool:
    """Return whether the database ensures that a referred row exists."""
    return bool(getattr(field, "db_constraint", False))


def _may_lose_referring(model: Any, path: str) -> bool:
    """
    Return whether a referred row may leave behind the rows that refer to it.

    Its `to_field` may change, and no constraint updates the references.
    """
    field = field_at(model, path)
    return not is_enforced(field) and not field.target_field.primary_key


def _joined(query: Query, found: dict[str, set[str] | None]) -> Iterator[tuple[str, type[Model]]]:
    """Yield lookups of forward joins; other tables, also those of subqueries, go to `found`."""
    base = query.get_meta().db_table
    path_of: dict[str, str] = {}
    for alias, join in query.alias_map.items():
        if query.alias_refcount.get(alias, 0) == 0 and join.parent_alias is not None:
            continue
        if join.parent_alias is None:
            if join.table_name != base:
                found[label_of_table(join.table_name)] = None
            path_of[alias] = ""
            continue
        field = join.join_field
        parent = path_of.get(join.parent_alias)
        is_forward = parent is not None and getattr(field, "many_to_one", False)
        is_forward = is_forward and field.concrete
        if is_forward or (parent is not None and _is_parent_link(field)):
            path = f"{parent}{LOOKUP_SEP}{field.name}" if parent else field.name
            path_of[alias] = path
            yield path, field.related_model
        else:
            found[label_of_table(join.table_name)] = None
    for inner in _subqueries(query):
        for table in _tables(inner):
            found[label_of_table(table)] = None


def _is_parent_link(field: Any) -> bool:
    return bool(getattr(field, "one_to_one", False) and getattr(field, "concrete", False))


def _subqueries(query: Query) -> Iterator[Query]:
    """Yield the queries within the expressions of `query`, at any depth."""
    pending: list[Any] = [query.where, *query.annotations.values()]
    seen: set[int] = set()
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Query):
            yield item
            continue
        inner = getattr(item, "query", None)
        if isinstance(inner, Query):
            yield inner
        pending += [part for part in _parts(item) if part is not None]


def _parts(item: Any) -> list[Any]:
    parts: list[Any] = list(getattr(item, "children", ()))
    if hasattr(item, "get_source_expressions"):
        parts += item.get_source_expressions()
    for name in ("lhs", "rhs"):
        part = getattr(item, name, None)
        parts += part if isinstance(part, (list, tuple)) else [part]
    return [part for part in parts if hasattr(part, "__dict__")]


def _tables(query: Query) -> set[str]:
    # Joins that are not needed have a count of 0.
    tables = {
        join.table_name
        for alias, join in query.alias_map.items()
        if query.alias_refcount.get(alias)
    } or {query.get_meta().db_table}
    for combined in query.combined_queries:
        tables |= _tables(combined)
    for inner in _subqueries(query):
        tables |= _tables(inner)
    return tables


def _parents(path: str, model: Any) -> Iterator[tuple[str, type[Model]]]:
    """Yield the tables that hold part of each row of `model`, which is read at `path`."""
    for parent, link in model._meta.parents.items():
        # A proxy has no link.
        if link is not None:
            to_parent = f"{path}{LOOKUP_SEP}{link.name}" if path else link.name
            yield to_parent, parent
            yield from _parents(to_parent, parent)


def _selected(queryset: Any) -> Iterator[list[str]]:
    """Yield the lookups of `select_related`, which join only when the SQL is compiled."""
    selected = queryset.query.select_related
    if selected is True:
        # All non-null foreign keys, at most five deep: Django's own rule.
        yield from _all_forward(queryset.model, queryset.query.max_depth)
    elif selected:
        yield from _flat(selected)


def _flat(tree: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[list[str]]:
    for name, inner in tree.items():
        yield [*before, name]
        yield from _flat(inner, (*before, name))


def _all_forward(
    model: type[Model], depth: int, before: tuple[str, ...] = ()
) -> Iterator[list[str]]:
    if depth:
        for field in model._meta.fields:
            if field.remote_field and not field.null:
                yield [*before, field.name]
                related: Any = field.related_model
                yield from _all_forward(related, depth - 1, (*before, field.name))


def _forward(model: Any, names: list[str]) -> Iterator[tuple[str, Any]]:
    path = []
    for name in names:
        field = _field(model, name)
        if field is None or not getattr(field, "concrete", False):
            return  # The reverse of a one-to-one relation: its join is among the others.
        path.append(name)
        model = field.related_model
        yield LOOKUP_SEP.join(path), model


def _prefetched(model: Any, lookup: str | Prefetch) -> Iterator[Any]:
    """Yield every model that a prefetch passes through, many-to-many tables included."""
    path = lookup.prefetch_through if isinstance(lookup, Prefetch) else lookup
    for name in path.split(LOOKUP_SEP):
        field = _field(model, name)
        if field is None:
            return
        through = getattr(field, "through", None) or getattr(field.remote_field, "through", None)
        if through is not None:
            yield through
        model = field.related_model
        if model is None:
            return
        yield model
    if isinstance(lookup, Prefetch) and lookup.queryset is not None:
        for table in _tables(lookup.queryset.query):
            yield from models_over(table)


def _field(model: Any, name: str) -> Any:
    """Return a field or relation by the name that lookups or prefetches use."""
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        related = model._meta.related_objects
        return next((r for r in related if r.get_accessor_name() == name), None)
