"""
Decide with whom a rendering can be shared: only if it is proven or declared to be the same for all.

It is proven if only code of Django, REST framework and this package makes it, from the viewset's
context over serializers and fields to models and the renderer. `shared = True` on a viewset
declares it.
"""

from __future__ import annotations

import logging
from datetime import tzinfo
from functools import lru_cache
from typing import Any, Final

from rest_framework import fields, relations, serializers
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.views import APIView

from rest_channels.live.exact_values import Inexact, exact
from rest_channels.live.visibility.proofs import Unproven, check_column, check_text, followed
from rest_channels.live.visibility.trust import is_own, is_trusted, name_of, overridden, static

logger = logging.getLogger("rest_channels")

# Attributes that a serializer may define beside its fields, because they are used only for writes.
_OF_WRITES: Final = frozenset(
    {
        *["Meta", "_declared_fields", "default_error_messages", "create", "update", "save"],
        *["validate", "is_valid", "run_validation", "run_validators", "to_internal_value"],
    }
)

_OF_FIELDS_WRITES: Final = _OF_WRITES | {
    *["get_queryset", "get_choices", "validate_empty_values", "fail", "display_value"],
    *["default_empty_html", "initial"],
}

# Methods of a viewset that take part in each rendering.
_OF_VIEWS: Final = ("get_serializer", "get_serializer_context", "get_renderer_context")

# Attributes from which a viewset's context is made.
_READ_OF_VIEWS: Final = ("request", "format_kwarg", "args", "kwargs", "__getattr__")

_OF_META: Final = ("fields", "exclude", "extra_kwargs", "read_only_fields", "depth")

_BASES: Final = (serializers.ModelSerializer, serializers.Serializer)

_reported: set[type] = set()


def is_declared(view: Any) -> bool:
    """Return whether the class of `view` declares that its representations are the same for all."""
    return getattr(type(view), "shared", None) is True


def unproven_rendering(view: Any, serializer_class: Any, queryset: Any) -> str | None:
    """
    Return the name of the first unproven code that takes part in rendering rows of `queryset`.

    Returns None if all of it is proven to give all users the same result.
    """
    replaced = vars(view).keys() & set(_OF_VIEWS)
    if replaced:
        return name_of(view, min(replaced))
    renderer = view.request.accepted_renderer
    if vars(renderer):
        return name_of(renderer)
    view_class: Any = type(view)
    renderer_class: Any = type(renderer)
    scheme_class: Any = type(view.request.versioning_scheme)
    return _unproven(
        view_class,
        serializer_class,
        renderer_class,
        scheme_class,
        queryset.model,
        frozenset(queryset.query.annotations),
    )


def report(view: Any, reason: str) -> None:
    """Log, once for each viewset, that rows are rendered for each subscriber, and why."""
    if type(view) in _reported:
        return
    _reported.add(type(view))
    name = type(view).__name__
    logger.warning(
        "%s renders rows for each of its subscribers: %s may return a different result for each. "
        "If it returns the same for all, set shared = True on %s.",
        *(name, reason, name),
    )


def undeclarable(view: Any) -> str:
    """Return the error for a declaration whose renderings depend on the request."""
    name = type(view).__name__
    return (
        f"{name} has shared = True, so a row's representation must be the same for all, but it was "
        "made by reading the user, or another part of the request that subscribers do not have "
        f"in common. Remove shared = True from {name}, or do not read the request."
    )


def judging(view: Any) -> str | None:
    """
    Return the name of the code that judges single rows, in `view` or a permission; None if none.
    """
    if type(view).check_object_permissions is not APIView.check_object_permissions:
        return name_of(view, "check_object_permissions")
    for permission in view.get_permissions():
        judge = getattr(type(permission), "has_object_permission", None)
        if judge is not BasePermission.has_object_permission:
            return name_of(permission, "has_object_permission")
    return None


@lru_cache(maxsize=1024)
def _unproven(
    view_class: Any,
    serializer_class: Any,
    renderer_class: Any,
    scheme_class: Any,
    model: Any,
    annotations: frozenset[str],
) -> str | None:
    try:
        _check_view(view_class)
        _check_renderer(renderer_class)
        if scheme_class is not type(None) and not is_trusted(scheme_class):
            return name_of(scheme_class)
        _check_serializer_class(serializer_class)
        _check_serializer(serializer_class(), model, annotations)
    except Unproven as unproven:
        return unproven.piece
    except Exception:
        # It will fail on use, too, and be reported then.
        return name_of(serializer_class)
    return None


def _check_view(view_class: Any) -> None:
    for name in _OF_VIEWS:
        if not is_own(view_class, name):
            raise Unproven(name_of(view_class, name))
    if view_class.__getattribute__ is not object.__getattribute__:
        raise Unproven(name_of(view_class, "__getattribute__"))
    for name in _READ_OF_VIEWS:
        if hasattr(type(static(view_class, name)), "__get__"):
            raise Unproven(name_of(view_class, name))


def _check_renderer(renderer_class: Any) -> None:
    if renderer_class is not JSONRenderer or renderer_class.encoder_class is not JSONEncoder:
        raise Unproven(name_of(renderer_class))
    for owner, name in ((JSONRenderer, "render"), (JSONEncoder, "default")):
        if not is_own(owner, name):
            raise Unproven(name_of(owner, name))


def _check_serializer_class(serializer_class: Any) -> None:
    """Check the class before an instance, because making one may run the project's own code."""
    if not (isinstance(serializer_class, type) and issubclass(serializer_class, _BASES)):
        raise Unproven(name_of(serializer_class))
    if not is_trusted(type(serializer_class)):
        raise Unproven(name_of(type(serializer_class)))
    piece = overridden(serializer_class, serializers.ModelSerializer, _OF_WRITES)
    if piece is not None:
        raise Unproven(piece)
    meta = getattr(serializer_class, "Meta", None)
    for name in _OF_META:
        value = meta and static(meta, name)
        if type(value) not in (type(None), list, tuple, dict, str, int):
            raise Unproven(name_of(serializer_class, f"Meta.{name}"))
    list_class = getattr(meta, "list_serializer_class", serializers.ListSerializer)
    if list_class is not serializers.ListSerializer:
        raise Unproven(name_of(list_class))


def _check_serializer(serializer: Any, model: Any, annotations: frozenset[str]) -> None:
    if type(serializer) is serializers.ListSerializer:
        serializer = serializer.child
    _check_serializer_class(type(serializer))
    for field in serializer.fields.values():
        if not field.write_only:
            _check_field(field, model, annotations)


def _check_field(field: Any, model: Any, annotations: frozenset[str]) -> None:
    if isinstance(field, serializers.BaseSerializer):
        _check_serializer(field, _model_of(field, model), frozenset())
        return
    kind = _kind_of(field)
    if kind is fields.SerializerMethodField:
        raise Unproven(name_of(field.parent, field.method_name))
    _check_options(field)
    if field.source == "*":
        _check_whole(field, kind, model)
        return
    if field.source in annotations and static(model, field.source) is None:
        # SQL computes it.
        return
    column, related = _reached(field, model)
    if related is None:
        if column is not None:
            check_column(column)
        return
    relation = field.child_relation if kind is relations.ManyRelatedField else field
    if not isinstance(relation, relations.RelatedField):
        # It represents a row by its text.
        check_text(related)
        return
    _check_relation(relation, _kind_of(relation), related)


def _kind_of(field: Any) -> Any:
    """
    Return the class of REST framework that renders `field`.

    Raises `Unproven` if another class takes part.
    """
    kind = next(base for base in type(field).__mro__ if _is_of_framework(base))
    piece = overridden(type(field), kind, _OF_FIELDS_WRITES)
    if piece is not None:
        raise Unproven(piece)
    if kind in (fields.Field, relations.RelatedField):
        raise Unproven(name_of(field))
    return kind


def _is_of_framework(kind: type) -> bool:
    return any(vars(module).get(kind.__name__) is kind for module in (fields, relations))


def _model_of(serializer: Any, model: Any) -> Any:
    """Return the model of the rows that a nested serializer represents."""
    if serializer.source == "*":
        return model
    _, related = _reached(serializer, model)
    if related is None:
        raise Unproven(name_of(serializer.parent, serializer.field_name))
    return related


def _reached(field: Any, model: Any) -> tuple[Any, Any]:
    """
    Return the field and model that the source of `field` leads to, as `followed` returns them.
    """
    *path, last = field.source_attrs
    for name in path:
        reached, model = followed(model, name)
        if model is None or reached.many_to_many or reached.one_to_many:
            raise Unproven(name_of(field.parent, field.field_name))
    found = followed(model, last)
    if (path or found[1] is not None) and not _is_constant_default(field.default):
        # The default is shown if an object on the way is missing.
        raise Unproven(name_of(field.parent, f"{field.field_name}.default"))
    return found


def _is_constant_default(default: Any) -> bool:
    try:
        exact(default)
    except Inexact:
        return default is fields.empty
    return True


def _check_whole(field: Any, kind: Any, model: Any) -> None:
    """Check a field that receives the row itself."""
    if kind is relations.HyperlinkedIdentityField:
        _check_relation(field, kind, model)
    elif kind is fields.ModelField:
        check_column(field.model_field)
        followed(model, field.model_field.attname)
    else:
        raise Unproven(name_of(field.parent, field.field_name))


def _check_relation(field: Any, kind: Any, model: Any) -> None:
    if kind is relations.StringRelatedField:
        check_text(model)
    elif kind is relations.SlugRelatedField:
        for name in field.slug_field.replace("__", ".").split("."):
            column, related = followed(model, name)
            model = related or model
        if related is not None or column is None:
            raise Unproven(name_of(model, field.slug_field))
    elif kind is relations.PrimaryKeyRelatedField:
        followed(model, "pk")
        if field.pk_field is not None:
            _check_inner(field.pk_field)
    elif kind in (relations.HyperlinkedRelatedField, relations.HyperlinkedIdentityField):
        followed(model, field.lookup_field)
    else:
        raise Unproven(name_of(field))


def _check_options(field: Any) -> None:
    """Check those arguments of a field that may be the project's code."""
    if isinstance(field, fields.ChoiceField):
        _check_choices(field)
    for name in ("format", "encoder", "timezone"):
        if not _is_constant(getattr(field, name, None)):
            raise Unproven(name_of(field.parent, f"{field.field_name}.{name}"))
    for inner in (getattr(field, "child", None),):
        if inner is not None:
            _check_inner(inner)


def _check_inner(field: Any) -> None:
    """Check a field that receives values, not rows."""
    if isinstance(field, serializers.BaseSerializer):
        raise Unproven(name_of(field))
    kind = _kind_of(field)
    if issubclass(kind, (relations.RelatedField, fields.SerializerMethodField)):
        raise Unproven(name_of(field))
    _check_options(field)


def _check_choices(field: Any) -> None:
    given = field._args[0] if field._args else field._kwargs.get("choices")
    try:
        exact(list(field.choices))
    except Inexact:
        given = None
    if type(given) not in (list, tuple, dict) or isinstance(field, fields.FilePathField):
        raise Unproven(name_of(field.parent, f"{field.field_name}.choices"))


def _is_constant(option: Any) -> bool:
    if option is None or type(option) is str:
        return True
    if isinstance(option, tzinfo):
        return type(option).__module__.partition(".")[0] in ("datetime", "zoneinfo")
    return is_trusted(option)
