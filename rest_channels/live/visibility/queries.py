"""Tell the querysets of different subscribers apart, and find the code that makes their rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import lru_cache
from typing import Any, Final

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import Model, QuerySet
from django.db.models.fields.files import FieldFile

from rest_channels.live.visibility.dependencies import dependencies
from rest_channels.live.visibility.proofs import Unproven, check_rows
from rest_channels.workers.sql_effects import called_by

# By statement, the unproven code that makes its rows: equal statements use the same code.
_makers: dict[Hashable, str | None] = {}
_MAX_MAKERS: Final = 1024


def statement_of(queryset: Any, alias: str) -> tuple[tuple[Any, ...], list[Any]]:
    """
    Return the statement of `queryset`, and all its parameters.

    The statement is the SQL, followed by the statements of its prefetches and the classes that make
    its rows.
    """
    sql, parameters = _sql(queryset, alias)
    prefetches: list[Hashable] = []
    for lookup in queryset._prefetch_related_lookups:
        if isinstance(lookup, str):
            prefetches.append(lookup)
            continue
        prefetches.append((lookup.prefetch_through, lookup.to_attr))
        for inner in _fetched_by(lookup):
            statement, more = statement_of(inner, alias)
            prefetches.append(statement)
            parameters += more
    parameters += known_rows(queryset)
    # From Django 6.1, the fetch mode says what reading a deferred field may do.
    fetch_mode = getattr(queryset, "_fetch_mode", None)
    made_by = type(queryset), queryset._iterable_class, fetch_mode
    return (sql, tuple(prefetches), queryset.model, made_by), parameters


def _sql(queryset: Any, alias: str) -> tuple[str, list[Any]]:
    try:
        sql, parameters = queryset.query.get_compiler(using=alias).as_sql()
    except EmptyResultSet:
        return "", []
    return sql, [parameters]


def known_rows(queryset: Any) -> list[Any]:
    """
    Return the related rows that `queryset` sets on its own rows without reading them, by values.

    For example, `club.notes.all()` sets this `club` on each note.
    """
    known: dict[int, int] = {}
    return [
        (field.name, [_values_of(row, known) for row in rows.values()])
        for field, rows in queryset._known_related_objects.items()
    ]


def _values_of(value: Any, known: dict[int, int]) -> Any:
    """Return `value` in a form for `exact`: a row as all that it holds, related rows included."""
    if isinstance(value, FieldFile):
        return value.name
    if isinstance(value, QuerySet):
        value = value._result_cache
    if isinstance(value, list):
        return [_values_of(item, known) for item in value]
    if isinstance(value, dict):
        return {name: _values_of(item, known) for name, item in value.items()}
    if not isinstance(value, Model):
        return value
    if id(value) in known:
        return known[id(value)]
    known[id(value)] = len(known)
    held = {**vars(value)}
    state = held.pop("_state")
    return [
        type(value)._meta.label,
        _values_of(held, known),
        _values_of(vars(state).get("fields_cache", {}), known),
    ]


def _read_with(queryset: Any) -> Iterator[Any]:
    """Yield `queryset`, and the querysets of its prefetches."""
    yield queryset
    for lookup in queryset._prefetch_related_lookups:
        if not isinstance(lookup, str):
            for inner in _fetched_by(lookup):
                yield from _read_with(inner)


def _fetched_by(lookup: Any) -> list[Any]:
    """Return the querysets of a `Prefetch`; `GenericPrefetch` has several."""
    found = (lookup.queryset, *(getattr(lookup, "querysets", None) or ()))
    return [queryset for queryset in found if queryset is not None]


def unproven_rows(queryset: Any, statement: Hashable) -> str | None:
    """Return the name of the first code that makes rows and is unproven; None if there is none."""
    read = list(_read_with(queryset))
    # Different expressions may have the same SQL.
    is_alike = not any(each.query.annotations for each in read)
    if is_alike and statement in _makers:
        return _makers[statement]
    found: str | None = None
    try:
        for each in read:
            check_rows(each, dependencies(each))
    except Unproven as unproven:
        found = unproven.piece
    if is_alike:
        if len(_makers) >= _MAX_MAKERS:
            _makers.clear()
        _makers[statement] = found
    return found


def own_function(statement: Any, alias: str) -> str:
    """
    Return the first function that `statement` calls and that was added to the connection later.

    That is after the connection was made; statements of prefetches count. Empty if there is none.
    """
    connection = connections[alias]
    if connection.vendor != "sqlite":
        return ""
    unknown = called_by(_text_of(statement)) - _given_at_first(alias)
    return min(unknown & _functions_of(connection), default="") if unknown else ""


def _text_of(statement: Any) -> str:
    """Return all SQL in a statement, prefetches included."""
    if isinstance(statement, str):
        return statement
    return " ".join(map(_text_of, statement)) if isinstance(statement, tuple) else ""


@lru_cache(8)
def _given_at_first(alias: str) -> frozenset[str]:
    """
    Return the functions that every new connection has.

    SQLite, Django and receivers of `connection_created` add them.
    """
    fresh = connections[alias].copy()
    try:
        return _functions_of(fresh)
    finally:
        fresh.close()


def _functions_of(connection: Any) -> frozenset[str]:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA function_list")
        return frozenset(row[0].lower() for row in cursor.fetchall())
