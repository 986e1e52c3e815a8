"""
Serializer fields, built once and copied.

DRF builds a serializer's fields anew for each instance, from the model: a quarter of what a
retrieve costs. Where a serializer customises nothing that could make them differ, the fields of
its first instance are kept, and every other instance gets copies of them, which it may change as
it likes.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any, Final

from django.core.signals import setting_changed
from django.db.models import QuerySet
from rest_framework import fields, relations, serializers
from rest_framework.utils.serializer_helpers import BindingDict

#: What a serializer may define beside its fields and still have the same ones in every instance.
#: Of all else that DRF's serializers define (`__init__`, `get_fields`, `build_field` ...) a class
#: that overrides it builds its fields as DRF does.
_HARMLESS: Final = frozenset(
    {
        "Meta",
        "__doc__",
        "__module__",
        "__qualname__",
        "__firstlineno__",
        "__static_attributes__",
        "_declared_fields",
        "create",
        "default_error_messages",
        "is_valid",
        "run_validation",
        "save",
        "to_internal_value",
        "to_representation",
        "update",
        "validate",
    }
)

_OWN_MODULES: Final = ("rest_framework.fields", "rest_framework.relations")


def lend_fields(serializer: Any) -> None:
    """
    Give a serializer just made its fields, if they can be copied; else DRF will build them.

    Takes what `get_serializer` returns, also `many=True`. In any thread.
    """
    if isinstance(serializer, serializers.ListSerializer):
        lend_fields(serializer.child)
        return
    if not isinstance(serializer, serializers.Serializer) or "fields" in vars(serializer):
        return
    serializer_class: Any = type(serializer)
    built = _built(serializer_class)
    if built is not None:
        # Where DRF's cached property keeps what it has built.
        serializer.__dict__["fields"] = _copies(built, serializer)


@lru_cache(maxsize=1024)
def _built(serializer_class: Any) -> dict[str, fields.Field] | None:
    """The fields of a serializer of that class; None where each has to build its own."""
    if not _customises_nothing(serializer_class):
        return None
    serializer = serializer_class()
    built = dict(serializer.fields)
    declared = serializer._declared_fields
    if all(_is_constant(field, name in declared) for name, field in built.items()):
        return built
    return None


def _customises_nothing(serializer_class: type) -> bool:
    usual = set(dir(serializers.ModelSerializer)) - _HARMLESS
    return all(
        usual.isdisjoint(vars(base))
        for base in serializer_class.__mro__
        if base is not object and not base.__module__.startswith("rest_framework.")
    )


def _is_constant(field: fields.Field, is_declared: bool) -> bool:
    """Whether a field, of DRF's own classes, would be built the same the next time."""
    if isinstance(field, serializers.Serializer):
        nested_class: Any = type(field)
        return _built(nested_class) is not None
    if type(field) is serializers.ListSerializer:
        return _is_constant(field.child, is_declared)
    if type(field).__module__ not in _OWN_MODULES or isinstance(field, fields.FilePathField):
        return False
    if isinstance(field, fields.ChoiceField):
        # A model's choices may be a function, called when the field is built.
        return isinstance(field._kwargs.get("choices"), (list, tuple, dict))
    if isinstance(field, relations.RelatedField) and not is_declared:
        # A model's limit_choices_to may be a function as well; it leaves a queryset.
        return not isinstance(field.queryset, QuerySet)
    inner = getattr(field, "child", None) or getattr(field, "child_relation", None)
    return inner is None or _is_constant(inner, is_declared)


def _copies(built: dict[str, fields.Field], parent: Any) -> BindingDict:
    copies = BindingDict(parent)
    copies.fields = {name: _copy(field, parent) for name, field in built.items()}
    return copies


def _copy(field: fields.Field, parent: Any) -> fields.Field:
    """`field` as if bound to `parent`: nothing that can be changed in place is shared."""
    twin = copy.copy(field)
    state = twin.__dict__
    for name, value in state.items():
        if isinstance(value, (list, dict)):
            state[name] = copy.copy(value)
        elif isinstance(value, QuerySet):
            state[name] = value.all()
        elif isinstance(value, fields.Field) and name != "parent":
            state[name] = _copy(value, twin)
    twin.parent = parent
    if isinstance(field, serializers.Serializer):
        # Its own fields: as those of a serializer just made.
        state.pop("fields", None)
        lend_fields(twin)
    return twin


def _forget(**kwargs: Any) -> None:
    # Fields read settings when they are built; only tests change them.
    _built.cache_clear()


setting_changed.connect(_forget)
