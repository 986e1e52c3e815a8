"""
Serializer fields, built once and copied.

DRF builds a serializer's fields for each instance, from the model: a quarter of the cost of a
retrieve. If a serializer customises nothing that could make them differ, the fields of its first
instance are kept. Every other instance gets copies, which it may change freely.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import methodcaller
from typing import Any, Final

from django.core.signals import setting_changed
from django.db.models import QuerySet
from rest_framework import fields, relations, serializers
from rest_framework.utils.serializer_helpers import BindingDict

#: Members that a serializer may define, besides its fields, and still have the same fields in every
#: instance. A class that overrides any other member of DRF's serializers (`__init__`, `get_fields`,
#: `build_field` ...) builds its fields as DRF does.
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

#: DRF's own, by identity: a serializer class made by calling `type` has their module, too.
_BASES: Final = frozenset(serializers.HyperlinkedModelSerializer.__mro__)

_OWN_MODULES: Final = ("rest_framework.fields", "rest_framework.relations")
_VALIDATORS: Final = ("rest_framework.validators", "django.core.validators")


def lend_fields(serializer: Any) -> None:
    """
    Give a new serializer its fields if they can be copied; else DRF builds them.

    Accepts the result of `get_serializer`, also `many=True`. In any thread.
    """
    if isinstance(serializer, serializers.ListSerializer):
        lend_fields(serializer.child)
        return
    if not isinstance(serializer, serializers.Serializer) or "fields" in vars(serializer):
        return
    serializer_class: Any = type(serializer)
    built = _built(serializer_class)
    if built is not None:
        # DRF's cached property stores its fields here.
        serializer.__dict__["fields"] = _copies(built, serializer)


@lru_cache(maxsize=1024)
def _built(serializer_class: Any) -> Mapping[str, _Mould] | None:
    """Return moulds of the fields of that class's serializers; None if each must build its own."""
    if not _customises_nothing(serializer_class):
        return None
    # A second time, to see which validators are made for each serializer.
    built, again = serializer_class().fields, serializer_class().fields
    declared = serializer_class._declared_fields
    if all(_is_constant(field, name in declared) for name, field in built.items()):
        return {name: _Mould(field, again[name]) for name, field in built.items()}
    return None


def _customises_nothing(serializer_class: type) -> bool:
    usual = set(dir(serializers.ModelSerializer)) - _HARMLESS
    return all(
        usual.isdisjoint(vars(base)) for base in serializer_class.__mro__ if base not in _BASES
    )


def _is_constant(field: fields.Field, is_declared: bool) -> bool:
    """Return whether DRF's own class would build the same field the next time."""
    if isinstance(field, serializers.Serializer):
        nested_class: Any = type(field)
        return _built(nested_class) is not None
    if type(field) is serializers.ListSerializer:
        return _is_constant(field.child, is_declared)
    if type(field).__module__ not in _OWN_MODULES or isinstance(field, fields.FilePathField):
        return False
    if isinstance(field, fields.ChoiceField):
        # A model's choices may be a function, called when the field is built.
        given = field._args[0] if field._args else field._kwargs.get("choices")
        return isinstance(given, (list, tuple, dict))
    if isinstance(field, relations.RelatedField) and not is_declared:
        # A model's limit_choices_to may also be a function; it leaves a queryset.
        return not isinstance(field.queryset, QuerySet)
    inner = getattr(field, "child", None) or getattr(field, "child_relation", None)
    return inner is None or _is_constant(inner, is_declared)


def _copies(built: Mapping[str, _Mould], parent: Any) -> BindingDict:
    copies = _Fields(parent)
    copies.fields = {name: mould.cast(parent) for name, mould in built.items()}
    return copies


class _Fields(BindingDict):
    """
    A mapping with the dict's own views, because DRF's are Python code.

    That would be slower for each row of a list.
    """

    def values(self) -> Any:
        return self.fields.values()

    def items(self) -> Any:
        return self.fields.items()


class _Mould:
    """
    A field taken apart, so that copying it needs no further inspection.

    `again` is the same field of another serializer: validators that both have are shared by all, as
    with DRF; others belong to the field.
    """

    def __init__(self, field: fields.Field, again: fields.Field) -> None:
        self.field_class = type(field)
        self.is_serializer = isinstance(field, serializers.Serializer)
        # Fields of a nested serializer: as those of a new serializer.
        left_out = {"parent", "fields"} if self.is_serializer else {"parent"}
        self.state = {name: value for name, value in vars(field).items() if name not in left_out}
        self.copied = [
            (name, _copier(value))
            for name, value in self.state.items()
            if isinstance(value, (list, dict, QuerySet))
        ]
        self.inner = [
            (name, _Mould(value, vars(again)[name]))
            for name, value in self.state.items()
            if isinstance(value, fields.Field)
        ]
        shared = {id(validator) for validator in vars(again).get("_validators", [])}
        self.own_validators = [
            (place, _copier(validator))
            for place, validator in enumerate(self.state.get("_validators", []))
            if id(validator) not in shared
        ]

    def cast(self, parent: Any) -> fields.Field:
        """
        Return the field as if bound to `parent`, sharing nothing that can be changed in place.
        """
        field: Any = object.__new__(self.field_class)
        field.__dict__ = state = self.state.copy()
        for name, copied in self.copied:
            state[name] = copied(state[name])
        for name, mould in self.inner:
            state[name] = mould.cast(field)
        if self.own_validators:
            validators = state["_validators"]
            for place, copied in self.own_validators:
                validators[place] = copied(validators[place])
        state["parent"] = parent
        if self.is_serializer:
            lend_fields(field)
        return field


def _copier(value: Any) -> Callable[[Any], Any]:
    if isinstance(value, QuerySet):
        return methodcaller("all")
    if type(value) in (list, dict):
        shallow: Callable[[Any], Any] = type(value).copy
        return shallow
    if type(value).__module__ in _VALIDATORS:
        return _like
    return copy.copy


def _like(validator: Any) -> Any:
    """Return what `copy.copy` gives of an object with a `__dict__`, in a tenth of the time."""
    twin = object.__new__(type(validator))
    twin.__dict__ = validator.__dict__.copy()
    return twin


def _forget(**kwargs: Any) -> None:
    # Fields read settings when they are built; only tests change settings.
    _built.cache_clear()


setting_changed.connect(_forget)
