"""
Find the audiences that a changed row may concern, from the row itself.

A new message may concern one of ten thousand audiences with `filter(room=...)`. This module
compares the values that their querysets ask of columns of the row's own table with the rows as they
are now, which one query reads for all. An audience that neither holds a row nor can come to see it
does not query the database.

If the database might decide a comparison differently, it is left to the database.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence, Set
from itertools import product
from math import prod
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from django.db import connections, models
from django.db.models import lookups
from django.db.models.expressions import Col
from django.db.models.fields.related_lookups import RelatedExact, RelatedIn
from django.db.models.sql.where import AND

from rest_channels.live.keys import key_of, pk_of

#: Names of columns, and the combinations of their values, in comparable form, of which a queryset
#: asks one of its rows.
Asked = tuple[tuple[str, ...], tuple[tuple[Hashable, ...], ...]]

# For fewer audiences, queries are as quick.
_WORTH_COMPARING: Final = 2

# Parameters of one statement, below SQLite's limit before 3.32.
_MAX_PARAMETERS: Final = 900

# More combinations of values would cost more memory and time than a query saves.
_MAX_COMBINATIONS: Final = 100


class Indexed(Protocol):
    """
    An audience, as the index sees it.

    It holds `members`, rows of `model`, and its queryset compares columns with the values it
    `asked` for.
    """

    model: Any
    label: str
    is_populated: bool
    members: dict[str, int | None]
    asked: Asked


A = TypeVar("A", bound=Indexed)

# Exactly these, because a subclass or a project's own lookup may mean something else.
_EXACT: Final = (lookups.Exact, lookups.IntegerFieldExact, RelatedExact)
_IN: Final = (lookups.In, RelatedIn)
_TYPE_OF: Final[Mapping[type, type]] = {
    **dict.fromkeys((models.AutoField, models.BigAutoField, models.SmallAutoField), int),
    **dict.fromkeys((models.IntegerField, models.BigIntegerField, models.SmallIntegerField), int),
    models.PositiveIntegerField: int,
    models.PositiveBigIntegerField: int,
    models.PositiveSmallIntegerField: int,
    models.BooleanField: bool,
    models.UUIDField: UUID,
    models.CharField: str,
    models.SlugField: str,
    models.TextField: str,
}

# Other databases compare text by collations that vary.
_TEXT_IS_COMPARED_ON: Final = ("postgresql", "sqlite")


def asked_of(queryset: Any) -> Asked:
    """
    Return the columns of its own table that `queryset` compares, and what it asks of them.

    Without columns, nothing is known of its rows. A column with too many values is left out.
    """
    found = equalities(queryset)
    while prod(map(len, found.values())) > _MAX_COMBINATIONS:
        del found[max(found, key=lambda name: len(found[name]))]
    return tuple(found), tuple(product(*found.values())) if found else ()


def equalities(queryset: Any) -> dict[str, frozenset[Hashable]]:
    """
    Return the values of which every row of `queryset` has one, by column of its own table.

    Empty if none are known.
    """
    query = queryset.query
    if query.combinator or query.where.connector != AND or query.where.negated:
        return {}
    table = query.get_initial_alias()
    found: dict[str, frozenset[Hashable]] = {}
    for lookup in query.where.children:
        if type(lookup) not in (*_EXACT, *_IN) or lookup.bilateral_transforms:
            continue
        column = lookup.lhs
        if type(column) is not Col or column.alias != table:
            continue
        values = _values(lookup, _type_of(column.target, queryset.db))
        name = column.target.attname
        if values is not None:
            found[name] = values & found.get(name, values)
    return found


def _values(lookup: Any, expected: type | None) -> frozenset[Hashable] | None:
    """Return the values that a lookup allows; None if Python cannot compare them."""
    if type(lookup) in _EXACT:
        values = [lookup.rhs]
    elif isinstance(lookup.rhs, (list, tuple, set, frozenset)):
        # NULL in a list does not equal any value.
        values = [value for value in lookup.rhs if value is not None]
    else:
        return None
    if expected is None or any(type(value) is not expected for value in values):
        return None
    return frozenset(map(_comparable, values))


def _type_of(field: Any, alias: str) -> type | None:
    """Return the type that Python can compare in place of the database; None if it cannot."""
    while type(field) in (models.ForeignKey, models.OneToOneField):
        field = field.target_field
    expected = _TYPE_OF.get(type(field))
    if expected is str:
        is_usual = field.db_collation is None if hasattr(field, "db_collation") else False
        if not is_usual or connections[alias].vendor not in _TEXT_IS_COMPARED_ON:
            return None
    return expected


def _comparable(value: Hashable) -> Hashable:
    """
    Return a value that is equal for all values that the database may take as equal.

    Text may be equal here and not in the database: a column's collation may ignore case, accents
    and spaces.
    """
    if not isinstance(value, str):
        return value
    decomposed = unicodedata.normalize("NFKD", value.casefold())
    kept = "".join(c for c in decomposed if not unicodedata.combining(c) and c.isprintable())
    return "".join(kept.casefold().split())


def narrowed(wanted: Mapping[A, Set[str]], alias: str) -> dict[A, set[str]]:
    """
    Return `wanted` without keys of rows that an audience neither holds nor can come to see.

    Audiences without any keys left are dropped.
    """
    by_label: dict[str, list[A]] = {}
    found: dict[A, set[str]] = {}
    for audience, keys in wanted.items():
        if audience.is_populated and audience.asked[0]:
            by_label.setdefault(audience.label, []).append(audience)
        elif keys:
            found[audience] = set(keys)
    for audiences in by_label.values():
        if len(audiences) < _WORTH_COMPARING:
            found.update((audience, set(wanted[audience])) for audience in audiences)
            continue
        # Most audiences want the same keys.
        distinct = {id(keys): keys for keys in map(wanted.__getitem__, audiences)}.values()
        rows = _Rows(
            audiences[0].model._meta.concrete_model, alias, audiences, set().union(*distinct)
        )
        for audience in audiences:
            keys, members = wanted[audience], audience.members
            alike = rows.like(*audience.asked)
            # These are views of dictionaries: Python iterates over the shorter one.
            if alike or not members.keys().isdisjoint(keys):
                found[audience] = {k for k in keys if k in alike or k in members}
    return {audience: keys for audience, keys in found.items() if keys}


class _Rows:
    """The changed rows of one model as they are now, by the values that audiences ask for."""

    def __init__(
        self, model: Any, alias: str, audiences: Iterable[Indexed], keys: Collection[str]
    ) -> None:
        self._names = sorted({name for audience in audiences for name in audience.asked[0]})
        self._types = [_type_of(model._meta.get_field(name), alias) for name in self._names]
        self._rows = _read(model, alias, self._names, keys)
        # By the names of columns: keys by their values, and keys of rows that cannot be compared.
        self._tables: dict[tuple[str, ...], dict[Hashable, set[str]]] = {}
        self._odd: dict[tuple[str, ...], set[str]] = {}

    def like(
        self, names: tuple[str, ...], combinations: tuple[tuple[Hashable, ...], ...]
    ) -> Set[str]:
        """Return the keys of rows that may have one of `combinations` in the columns `names`."""
        if names not in self._tables:
            self._index(names)
        table, found = self._tables[names], self._odd[names]
        for values in combinations:
            if (alike := table.get(values)) is not None:
                found = found | alike
        return found

    def _index(self, names: tuple[str, ...]) -> None:
        table = self._tables[names] = {}
        odd = self._odd[names] = set()
        places = [self._names.index(name) for name in names]
        for key, values in self._rows:
            if all(values[at] is None or type(values[at]) is self._types[at] for at in places):
                # NULL does not equal any value.
                asked = tuple(_comparable(values[at]) for at in places)
                table.setdefault(asked, set()).add(key)
            else:
                # An untyped database may compare such a value in any way.
                odd.add(key)


def _read(
    model: Any, alias: str, names: Sequence[str], keys: Collection[str]
) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the keys of the existing rows, and their values in the columns `names`."""
    pks = [pk_of(model, key) for key in sorted(keys)]
    # All rows, without the project's managers and filters.
    rows = models.QuerySet(model, using=alias)
    found = []
    for start in range(0, len(pks), _MAX_PARAMETERS):
        chunk = rows.filter(pk__in=pks[start : start + _MAX_PARAMETERS])
        for pk, *values in chunk.values_list("pk", *names):
            found.append((key_of(model, pk) or "", tuple(values)))
    return found
