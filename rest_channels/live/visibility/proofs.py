"""
Prove that Django's own code makes rows and their attributes.

A project's code may read the user. Without such a proof, a result is not shared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache, partialmethod
from itertools import chain
from typing import Any, Final

from django.apps import apps
from django.core.files.storage import FileSystemStorage
from django.core.files.storage.handler import StorageHandler
from django.db.models import FileField, ForeignKey, JSONField, Manager, Model, QuerySet
from django.db.models.query import ModelIterable
from django.db.models.signals import post_init, pre_init
from django.utils.functional import LazyObject, Promise, empty

from rest_channels.live.model_tables import table_of
from rest_channels.live.visibility.trust import is_own, is_trusted, name_of, overridden, static

# Methods that a project's model may define, because Django calls them only for writes and checks.
_OF_WRITES: Final = frozenset(
    {
        *["save", "asave", "save_base", "delete", "adelete", "clean", "clean_fields"],
        *["full_clean", "validate_unique", "validate_constraints", "unique_error_message"],
        *["date_error_message", "get_constraints", "check"],
    }
)

# Checked separately.
_OF_MANAGERS: Final = frozenset({"_queryset_class"})

# The parts of a model's field that make the value of an attribute from a column.
_OF_COLUMNS: Final = (
    *["from_db_value", "get_db_converters", "contribute_to_class", "descriptor_class"],
    *["attr_class", "value_from_object", "value_to_string", "to_python", "select_format"],
)


class Unproven(Exception):
    """An error: `piece` names code that is not proven to give all users the same result."""

    def __init__(self, piece: str) -> None:
        super().__init__(piece)
        self.piece = piece


def check_rows(queryset: Any, labels: Iterable[str]) -> None:
    """
    Raise `Unproven` unless Django's own code makes the rows of `queryset` and those read with them.

    `labels` name the models of the latter.
    """
    query = queryset.query
    for made_by, base in ((type(queryset), QuerySet), (queryset._iterable_class, ModelIterable)):
        _require(overridden(made_by, base))
    if not is_trusted(type(query)):
        raise Unproven(name_of(query))
    check_model(queryset.model)
    for label in labels:
        if table_of(label) is not None:
            check_model(apps.get_model(label))
    for expression in query.annotations.values():
        _check_expression(expression)


def check_model(model: Any) -> None:
    """Raise `Unproven` unless Django's own code makes rows of `model`."""
    if not is_trusted(type(model)):
        raise Unproven(name_of(type(model)))
    _require(overridden(model, Model, _OF_WRITES))
    for signal in (pre_init, post_init):
        for receiver in chain.from_iterable(signal._live_receivers(model)):
            if not is_trusted(receiver):
                raise Unproven(getattr(receiver, "__qualname__", name_of(receiver)))
    for manager in (model._default_manager, model._base_manager):
        _require(overridden(type(manager), Manager, _OF_MANAGERS))
        _require(overridden(manager._queryset_class, QuerySet))
    for field in model._meta.concrete_fields:
        check_column(field)


def check_column(field: Any) -> None:
    """Raise `Unproven` unless Django's own code makes the values of a model's `field`."""
    kind = type(field)
    for name in _OF_COLUMNS:
        if static(kind, name) is not None and not _is_harmless(static(kind, name), kind, name):
            raise Unproven(name_of(kind, name))
    if isinstance(field, JSONField):
        _check_json(field.decoder)
    if isinstance(field, FileField):
        _check_storage(field.storage)
    for inner in (getattr(field, "base_field", None), getattr(field, "output_field", None)):
        if inner is not None and inner is not field:
            check_column(inner)
    if isinstance(field, ForeignKey) and field.remote_field.model is not field.model:
        check_column(field.target_field)


def followed(model: Any, name: str) -> tuple[Any, Any]:
    """
    Return the field behind the attribute `name` of a row of `model`, and the model of related rows.

    Either may be None. Raises `Unproven` if the columns alone may not decide the attribute's value.
    """
    attribute = static(model, name)
    if name == "pk":
        if attribute is static(Model, "pk"):
            return model._meta.pk, None
        raise Unproven(name_of(model, name))
    if isinstance(attribute, partialmethod):
        _check_display(model, name, attribute)
        return None, None
    field = _attributes(model).get(name)
    if field is None or not is_trusted(type(attribute)) or isinstance(attribute, Promise):
        raise Unproven(name_of(model, name))
    related = field.related_model if field.is_relation and name != _attname(field) else None
    if related is not None:
        check_model(related)
    return field, related


def check_text(model: Any) -> None:
    """Raise `Unproven` unless Django's own code makes the text of a row, by `str()`."""
    if not is_own(model, "__str__"):
        raise Unproven(name_of(model, "__str__"))
    # A user's text comes from its `get_username()`.
    maker = next(base for base in model.__mro__ if "__str__" in vars(base))
    if maker is not Model:
        _require(overridden(model, maker, _OF_WRITES))


def _attname(field: Any) -> str | None:
    return getattr(field, "attname", None) if field.concrete else None


@lru_cache(maxsize=1024)
def _attributes(model: Any) -> dict[str, Any]:
    """Return the fields and relations of a model, by the names of its rows' attributes."""
    found = {}
    for field in model._meta.get_fields():
        if field.auto_created and not field.concrete:
            found[field.get_accessor_name()] = field
        elif field in model._meta.private_fields:
            # A generic relation may lead to any model.
            continue
        else:
            found[field.name] = field
            if field.concrete and field.column is not None:
                found[field.attname] = field
    return found


def _check_display(model: Any, name: str, method: partialmethod[Any]) -> None:
    """Check that `get_<name>_display` is Django's own, and its choices are constant."""
    field = method.keywords.get("field")
    if field is None or not is_trusted(method.func):
        raise Unproven(name_of(model, name))
    check_column(field)
    if not isinstance(field.choices, list) or not all(map(_is_constant, field.flatchoices)):
        raise Unproven(name_of(model, f"{field.name}.choices"))


def _is_constant(choice: tuple[Any, Any]) -> bool:
    """Return whether the text of a choice is a constant, or a translation of one."""
    text = choice[1]
    if not isinstance(text, Promise):
        return type(text) in (str, int)
    _, (function, *_rest) = text.__reduce__()
    return is_trusted(function)


def _check_expression(expression: Any) -> None:
    for name in ("convert_value", "get_db_converters"):
        if not is_own(type(expression), name):
            raise Unproven(name_of(expression, name))
    check_column(expression.output_field)


def _check_json(code: Any) -> None:
    if code is not None and not (is_trusted(code) or code.__module__ == json.decoder.__name__):
        raise Unproven(name_of(code))


def _check_storage(storage: Any) -> None:
    if isinstance(storage, LazyObject):
        if storage._wrapped is empty:
            storage._setup()
        storage = storage._wrapped
    if isinstance(storage, StorageHandler) or type(storage) is not FileSystemStorage:
        raise Unproven(name_of(storage))


def _is_harmless(attribute: Any, kind: type, name: str) -> bool:
    if isinstance(attribute, type):
        return is_trusted(attribute)
    return attribute is None or isinstance(attribute, (str, bool)) or is_own(kind, name)


def _require(piece: str | None) -> None:
    if piece is not None:
        raise Unproven(piece)
