"""
Which audiences a change of a row may concern, told from the row itself.

Of ten thousand audiences with `filter(room=...)` a saved message concerns one. What their
querysets ask of columns of the row's own table, to be equal to some value, is compared here with
the rows as they are now, read once for all. Who does not hold a row, and whose queryset cannot
have it, need not ask the database.

A comparison that the database might decide in another way is not made: then it is asked.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.db import connections, models
from django.db.models import lookups
from django.db.models.expressions import Col
from django.db.models.fields.related_lookups import RelatedExact
from django.db.models.sql.where import AND

from rest_channels.live.capture import key_of

if TYPE_CHECKING:
    from rest_channels.live.audiences import Audience

#: What a queryset asks of its rows: comparable values, by the names of columns.
Equalities = Mapping[str, Hashable]

# Fewer audiences are as quickly asked for.
_WORTH_COMPARING: Final = 2

# Parameters of one statement, below SQLite's limit before 3.32.
_MAX_PARAMETERS: Final = 900

# Exactly these: a subclass, or a lookup of the project's own, may mean something else.
_EXACT: Final = (lookups.Exact, lookups.IntegerFieldExact, RelatedExact)
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

# Other databases compare text by collations of their own choice.
_TEXT_IS_COMPARED_ON: Final = ("postgresql", "sqlite")


def equalities(queryset: Any) -> dict[str, Hashable]:
    """
    What every row of `queryset` has in columns of its own table; empty where nothing is known.
    """
    query = queryset.query
    if query.combinator or query.where.connector != AND or query.where.negated:
        return {}
    table = query.get_initial_alias()
    found: dict[str, Hashable] = {}
    for lookup in query.where.children:
        if type(lookup) not in _EXACT or lookup.bilateral_transforms:
            continue
        column = lookup.lhs
        if type(column) is not Col or column.alias != table:
            continue
        expected = _type_of(column.target, queryset.db)
        if expected is not None and type(lookup.rhs) is expected:
            # Of two for one column the last: each of them holds.
            found[column.target.attname] = _comparable(lookup.rhs)
    return found


def _type_of(field: Any, alias: str) -> type | None:
    """The type of what Python may compare in place of the database; None where it may not."""
    while type(field) in (models.ForeignKey, models.OneToOneField):
        field = field.target_field
    expected = _TYPE_OF.get(type(field))
    if expected is str:
        is_usual = field.db_collation is None if hasattr(field, "db_collation") else False
        if not is_usual or connections[alias].vendor not in _TEXT_IS_COMPARED_ON:
            return None
    return expected


def _comparable(value: Any) -> Hashable:
    """
    Equal for whatever the database may take for equal. For text that is more than what it does:
    somebody may have given the column a collation that neither sees case, accents nor spaces.
    """
    if not isinstance(value, str):
        return value
    decomposed = unicodedata.normalize("NFKD", value.casefold())
    kept = "".join(c for c in decomposed if not unicodedata.combining(c) and c.isprintable())
    return "".join(kept.casefold().split())


def narrowed(wanted: Mapping[Audience, Set[str]], alias: str) -> dict[Audience, set[str]]:
    """
    `wanted` without the keys of rows that an audience neither holds nor can come to see, and
    without those to whom nothing is left.
    """
    by_label: dict[str, list[Audience]] = {}
    found: dict[Audience, set[str]] = {}
    for audience, keys in wanted.items():
        if audience.is_populated and audience.asked[0]:
            by_label.setdefault(audience.label, []).append(audience)
        elif keys:
            found[audience] = set(keys)
    for audiences in by_label.values():
        if len(audiences) < _WORTH_COMPARING:
            found.update((audience, set(wanted[audience])) for audience in audiences)
            continue
        # Most are asked for the same keys.
        distinct = {id(keys): keys for keys in map(wanted.__getitem__, audiences)}.values()
        rows = _Rows(
            audiences[0].model._meta.concrete_model, alias, audiences, set().union(*distinct)
        )
        for audience in audiences:
            keys, members = wanted[audience], audience.members
            alike = rows.like(*audience.asked)
            # Views of dictionaries: the shorter of the two is looked through.
            if alike or not members.keys().isdisjoint(keys):
                found[audience] = {k for k in keys if k in alike or k in members}
    return {audience: keys for audience, keys in found.items() if keys}


class _Rows:
    """The changed rows of one model as they are now, found by what is asked of them."""

    def __init__(
        self, model: Any, alias: str, audiences: Iterable[Audience], keys: Collection[str]
    ) -> None:
        self._names = sorted({name for audience in audiences for name in audience.asked[0]})
        self._types = [_type_of(model._meta.get_field(name), alias) for name in self._names]
        self._rows = _read(model, alias, self._names, keys)
        # By the names of columns: keys by their values, and of rows that are not compared.
        self._tables: dict[tuple[str, ...], dict[Hashable, set[str]]] = {}
        self._odd: dict[tuple[str, ...], set[str]] = {}

    def like(self, names: tuple[str, ...], values: tuple[Hashable, ...]) -> Set[str]:
        """Keys of the rows that may be equal to `values` in the columns of those names."""
        if names not in self._tables:
            self._index(names)
        alike = self._tables[names].get(values)
        odd = self._odd[names]
        return odd if alike is None else alike | odd

    def _index(self, names: tuple[str, ...]) -> None:
        table = self._tables[names] = {}
        odd = self._odd[names] = set()
        places = [self._names.index(name) for name in names]
        for key, values in self._rows:
            if all(values[at] is None or type(values[at]) is self._types[at] for at in places):
                # NULL equals nothing that is asked for.
                asked = tuple(_comparable(values[at]) for at in places)
                table.setdefault(asked, set()).add(key)
            else:
                # What a database without types holds there, it may compare as it likes.
                odd.add(key)


def _read(
    model: Any, alias: str, names: Sequence[str], keys: Collection[str]
) -> list[tuple[str, tuple[Any, ...]]]:
    """The keys of the rows that are there, and their values in the columns `names`."""
    to_python = model._meta.pk.to_python
    pks = [to_python(key) for key in sorted(keys)]
    # Neither the project's managers nor its filters: all rows.
    rows = models.QuerySet(model, using=alias)
    found = []
    for start in range(0, len(pks), _MAX_PARAMETERS):
        chunk = rows.filter(pk__in=pks[start : start + _MAX_PARAMETERS])
        for pk, *values in chunk.values_list("pk", *names):
            found.append((key_of(model, pk) or "", tuple(values)))
    return found
