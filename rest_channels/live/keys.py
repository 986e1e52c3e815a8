"""
Primary keys as text.

A key has the same text as a writer assigned it, as the database returns it, as triggers write it,
and as a client names the row.

    key_of(Price, Decimal("1.5"))    "1.50"
    pk_of(Price, "1.50")             Decimal("1.50")
"""

from __future__ import annotations

import datetime
import enum
import warnings
from collections.abc import Callable, Iterator
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.db import connections, models, router
from django.utils import timezone
from django.utils.functional import Promise

from rest_channels.live.model_tables import label_of, owner_of

# SQLite stores decimals as floats; Django reads this many digits of them.
_SQLITE_DIGITS: Final = 15

# More digits than any column may have.
_PRECISE: Final = Context(prec=2_000)

# Methods with which a field class converts a value on its way to the database and back.
_ON_THE_WAY: Final = (
    "to_python",
    "get_prep_value",
    "get_db_prep_value",
    "get_db_prep_save",
    "from_db_value",
)


def key_of(model: type[models.Model], pk: Any) -> str | None:
    """
    Return the text of a primary key; None if the key does not identify a row of `model`.

    That is the case if it is unset or composite, or if the database changes it on writing.
    """
    field = field_of(model)
    if pk is None or field is None or isinstance(pk, tuple):
        return None
    if type(pk) is int and type(field) in _INTEGERS:
        return str(pk)
    try:
        return _text(model, field, _back(model, field, pk))
    except Exception:
        # A project's own field class may raise anything.
        return None


def pk_of(model: type[models.Model], key: str) -> Any:
    """Return the value of the primary key whose text is `key`."""
    field: Any = field_of(model)
    if isinstance(field, models.BinaryField):
        return bytes.fromhex(key)
    return field.to_python(key)


def written_key(model: type[models.Model], pk: Any) -> str | None:
    """
    Return the text by which the log names a row that a writer of `model` gave the key `pk`.

    Returns None if only the database knows it.
    """
    field: Any = field_of(model)
    if not shares_keys(model) or getattr(field, "db_collation", None):
        # Under a collation, "A" may identify the row "a".
        return None
    return key_of(model, pk)


def shares_keys(model: type[models.Model]) -> bool:
    """Return whether the log's keys of the table are keys of `model`; its owner's may differ."""
    owner = owner_of(model)
    return owner is model._meta.concrete_model or _form(owner) == _form(model)


def _form(model: type[models.Model]) -> tuple[Any, ...]:
    field: Any = field_of(model)
    pk: Any = model._meta.pk
    return getattr(pk, "column", None), kind_of(field) or type(field)


def field_of(model: type[models.Model]) -> models.Field[Any, Any] | None:
    """Return the field that defines the key's values: the one that a reference leads to."""
    field: Any = model._meta.pk
    while getattr(field, "remote_field", None) is not None:
        field = field.target_field
    return None if is_composite(model) else field


def user_key(pk: Any) -> str:
    """Return the text by which the log names the user with the key `pk`, stored or not."""
    if apps.is_installed("django.contrib.auth"):
        key = key_of(apps.get_model(settings.AUTH_USER_MODEL), pk)
        if key is not None:
            return key
    return str(pk)


def is_composite(model: type[models.Model]) -> bool:
    """Return whether the key has more than one column."""
    return getattr(model._meta.pk, "column", None) is None


def is_unnamed(model: type[models.Model]) -> bool:
    """Return whether no text can name a row, because its key is composite or JSON."""
    return is_composite(model) or isinstance(field_of(model), models.JSONField)


# A row in several tables


def parents_of(model: type[models.Model]) -> Iterator[tuple[type[models.Model], bool]]:
    """Yield the models whose tables hold part of each row, and whether under the same key."""
    links = []
    key: Any = model._meta.pk
    while getattr(key, "remote_field", None) is not None:
        links.append(key.remote_field.model)
        key = key.remote_field.model._meta.pk
    for parent in model._meta.all_parents:
        yield parent, parent in links


def kin_of(model: type[models.Model]) -> dict[str, bool]:
    """
    Return the other tables that may hold part of a row of `model`: its parents' and children's.

    Maps the label by which the log names each table to whether that part has the same key.
    """
    concrete: Any = model._meta.concrete_model
    found = {label_of(parent): is_same for parent, is_same in parents_of(concrete)}
    for child in _children(concrete):
        found[label_of(child)] = dict(parents_of(child)).get(concrete, False)
    return found


def _children(model: type[models.Model]) -> Iterator[Any]:
    for relation in model._meta.related_objects:
        if relation.one_to_one and relation.field.remote_field.parent_link:
            child: Any = relation.related_model
            yield child
            yield from _children(child)


_INTEGERS: Final = frozenset(
    {
        models.AutoField,
        models.BigAutoField,
        models.SmallAutoField,
        models.IntegerField,
        models.BigIntegerField,
        models.SmallIntegerField,
        models.PositiveIntegerField,
        models.PositiveBigIntegerField,
        models.PositiveSmallIntegerField,
    }
)


# One trip through the field


def _back(model: type[models.Model], field: Any, value: Any) -> Any:
    """Return `value` as the database would return it."""
    if isinstance(value, Promise):
        value = str(value)
    if not _is_own(field.__class__, _ON_THE_WAY):
        return _plain(field, value)
    connection = connections[router.db_for_write(model)]
    try:
        if _is_own(field.__class__, ("get_db_prep_value", "get_db_prep_save")):
            sent = field.get_db_prep_save(value, connection)
        else:
            sent = field.get_prep_value(value)
        if hasattr(field, "from_db_value"):
            return field.from_db_value(sent, None, connection)
        return field.to_python(sent)
    except Exception:
        # The method may reject a value that does not come from a database.
        return field.to_python(value)


def _plain(field: Any, value: Any) -> Any:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(field, models.DateTimeField):
        return _moment(field, value)
    if isinstance(field, models.BinaryField) and not isinstance(value, str):
        return bytes(value)
    return field.to_python(value)


def _moment(field: Any, value: Any) -> Any:
    with warnings.catch_warnings():
        # Django warns when a time without a zone is saved.
        warnings.simplefilter("ignore", RuntimeWarning)
        value = field.to_python(value)
    if settings.USE_TZ and timezone.is_naive(value):
        return timezone.make_aware(value, timezone.get_default_timezone())
    if not settings.USE_TZ and timezone.is_aware(value):
        raise ValueError("The database chooses the time zone into which it converts this value.")
    return value


@lru_cache(maxsize=1024)
def _is_own(kind: type, names: tuple[str, ...]) -> bool:
    """Return whether the project overrides any of these methods of a field class."""
    return any(
        not getattr(getattr(kind, name, None), "__module__", "django.").startswith("django.")
        for name in names
    )


# Text


def _text(model: type[models.Model], field: Any, value: Any) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return str(value)
        case str():
            # Also for a str that is a member of an enum.
            return str.__str__(value)
        case int():
            return int.__repr__(value)
        case float():
            # Adding 0.0 makes -0.0 equal to 0.0.
            return repr(value + 0.0)
        case Decimal():
            return _decimal(model, field, value)
        case datetime.datetime() if timezone.is_aware(value):
            return str(value.astimezone(datetime.UTC))
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
    return str(value)


def _decimal(model: type[models.Model], field: Any, value: Decimal) -> str | None:
    places = getattr(field, "decimal_places", None)
    if places is None or not value.is_finite():
        return str(value)
    rounded = value.quantize(Decimal(1).scaleb(-places), context=_PRECISE)
    if rounded != value:
        # Each database rounds differently.
        return None
    if len(rounded.normalize(_PRECISE).as_tuple().digits) > _SQLITE_DIGITS and (
        connections[router.db_for_write(model)].vendor == "sqlite"
    ):
        return None
    return f"{abs(rounded) if rounded.is_zero() else rounded:f}"


# In SQL

# By the exact `to_python` of a field: kinds of keys that Python and SQL write as the same text.
_KINDS: Final[dict[Callable[..., Any], str]] = {
    models.IntegerField.to_python: "integer",
    models.UUIDField.to_python: "uuid",
    models.CharField.to_python: "text",
    models.TextField.to_python: "text",
    models.DateField.to_python: "date",
    models.DateTimeField.to_python: "datetime",
    models.DecimalField.to_python: "decimal",
    models.BinaryField.to_python: "binary",
}


def kind_of(field: models.Field[Any, Any] | None) -> str | None:
    """
    Return the kind of a key that triggers can write as `key_of` does; None if they cannot.

    A project's own field class may read values in any way, so it has no kind.
    """
    if field is None or hasattr(field, "from_db_value"):
        return None
    if type(field).db_type is not models.Field.db_type:
        return None
    return _KINDS.get(type(field).to_python)
