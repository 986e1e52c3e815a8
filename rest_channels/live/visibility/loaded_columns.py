"""
Prove that a row shows only what was loaded with it, so that rendering it runs no query.

    fields = ["id", "text", "room"]                      only columns
    author = CharField(source="author.name")             with select_related("author")

If rendering may run queries, the tables that a row depends on are known only once it was rendered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from django.core.exceptions import FieldDoesNotExist
from django.db.models.constants import LOOKUP_SEP
from rest_framework import fields, relations

from rest_channels.live.visibility.evaluation import EVERYBODY, Evaluation

# They represent the value of an attribute, and nothing else of a row.
_OF_VALUES: Final = (
    *(fields.BooleanField, fields.CharField, fields.ChoiceField, fields.DateField),
    *(fields.DateTimeField, fields.DecimalField, fields.DictField, fields.DurationField),
    *(fields.FileField, fields.FloatField, fields.IntegerField, fields.IPAddressField),
    *(fields.JSONField, fields.ListField, fields.ReadOnlyField, fields.TimeField),
    fields.UUIDField,
)

# Django's value of `deferred_loading` for a queryset that loads all columns.
_ALL_COLUMNS: Final[tuple[frozenset[str], bool]] = (frozenset(), True)


def shows_loaded_columns(evaluation: Evaluation) -> bool:
    """Return whether reading a row of this answer and rendering it takes one statement."""
    queryset = evaluation.queryset
    if evaluation.unproven is not None or evaluation.text_reach != EVERYBODY:
        # Only the code of the frameworks is known.
        return False
    query = queryset.query
    names, is_deferred = query.deferred_loading
    if queryset._prefetch_related_lookups or (frozenset(names), is_deferred) != _ALL_COLUMNS:
        return False
    selected = frozenset(_paths(query.select_related)) if query.select_related else frozenset()
    return _are_loaded(
        evaluation.serializer_class, queryset.model, frozenset(query.annotations), selected
    )


def _paths(selected: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths that `select_related()` names; without names Django chooses them."""
    for name, inner in selected.items() if isinstance(selected, Mapping) else ():
        yield (*before, name)
        yield from _paths(inner, (*before, name))


@lru_cache(maxsize=1024)
def _are_loaded(
    serializer_class: Any,
    model: Any,
    annotations: frozenset[str],
    selected: frozenset[tuple[str, ...]],
) -> bool:
    # Proven classes need no context.
    shown = [field for field in serializer_class().fields.values() if not field.write_only]
    return all(field.source in annotations or _is_loaded(field, model, selected) for field in shown)


def _is_loaded(field: Any, model: Any, selected: frozenset[tuple[str, ...]]) -> bool:
    path = tuple(field.source_attrs)
    if isinstance(field, relations.HyperlinkedIdentityField):
        return _is_column(model, (field.lookup_field,), selected)
    if isinstance(field, relations.SlugRelatedField):
        names = field.slug_field.replace(LOOKUP_SEP, ".").split(".")
        return _is_column(model, (*path, *names), selected)
    if isinstance(field, relations.RelatedField):
        # REST framework then reads the column of the reference, and not the related row.
        takes_key = field.use_pk_only_optimization()
        return takes_key and _is_column(model, path, selected, is_reference=True)
    return isinstance(field, _OF_VALUES) and _is_column(model, path, selected)


def _is_column(
    model: Any,
    path: tuple[str, ...],
    selected: frozenset[tuple[str, ...]],
    *,
    is_reference: bool = False,
) -> bool:
    """Return whether `path` leads over joined rows to a column, which `is_reference` or not."""
    if not path or any(path[:number] not in selected for number in range(1, len(path))):
        return False
    for name in path[:-1]:
        field = _concrete(model, name)
        if field is None or not field.is_relation:
            return False
        model = field.related_model
    field = _concrete(model, path[-1])
    if field is None:
        return False
    is_related_row = field.is_relation and path[-1] not in ("pk", field.attname)
    return bool(is_related_row) == is_reference


def _concrete(model: Any, name: str) -> Any:
    """Return the field of a column of `model` by its name or attribute; None if there is none."""
    if name == "pk":
        return model._meta.pk
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return field if getattr(field, "concrete", False) and field.column is not None else None
