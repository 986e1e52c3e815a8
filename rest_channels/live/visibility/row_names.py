"""
Rows' names on the wire: the `pk` of a `delete`, and the values that clients send as `held`.

A name is what the serializer shows as the primary key. If a viewset has another `lookup_field` and
its serializer does not show the primary key, the name is the lookup's value, and the key stays
hidden.

    lookup_field = "public"    {"pk": "0f5c..."}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db.models import Model
from django.db.models.constants import LOOKUP_SEP
from rest_framework import fields, relations
from rest_framework.serializers import BaseSerializer

from rest_channels.live.keys import field_of, key_of, kind_of, pk_of
from rest_channels.sockets.response import rendered

if TYPE_CHECKING:
    from rest_channels.live.visibility.evaluation import Evaluation

# Fields that can represent a key without its row.
_OF_A_VALUE: Final = (
    fields.CharField,
    fields.IntegerField,
    fields.FloatField,
    fields.DecimalField,
    fields.UUIDField,
    fields.DateField,
    fields.DateTimeField,
    fields.TimeField,
    fields.DurationField,
    fields.IPAddressField,
    fields.BooleanField,
    fields.ChoiceField,
    fields.ReadOnlyField,
    relations.PrimaryKeyRelatedField,
)

# Types that DRF's encoder writes.
_OF_JSON: Final = (str, int, float, Decimal, UUID, date, time, timedelta)


class Held(NamedTuple):
    """
    The rows that a client holds.

    `called` has the client's name of each existing row, by key; `others` are names without a row.
    """

    called: Mapping[str, Any]
    others: Sequence[Any] = ()


def lookup_of(evaluation: Evaluation) -> str | None:
    """Return the lookup by which clients name a row; None for the primary key."""
    view, pk = evaluation.view, evaluation.queryset.model._meta.pk
    lookup: str = view.lookup_field
    return None if lookup in ("pk", pk.name, pk.attname) else lookup


# By serializer class; the models are few.
_known: WeakKeyDictionary[type, dict[type[Model], bool]] = WeakKeyDictionary()


def are_of_keys(evaluation: Evaluation) -> bool:
    """Return whether keys alone give names, so that names of deleted rows need not be kept."""
    if lookup_of(evaluation) is not None:
        return False
    model: type[Model] = evaluation.queryset.model
    known = _known.setdefault(evaluation.serializer_class, {})
    if model not in known:
        known[model] = Names(evaluation).are_of_keys
    return known[model]


class Names:
    """The names of an audience's rows, as its viewset and serializer give them now."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._model: Any = evaluation.queryset.model
        self._lookup = lookup_of(evaluation)
        self._called: dict[str, str] | None = None

    @cached_property
    def _fields(self) -> Mapping[str, Any]:
        # As for an empty list, because some serializers cannot be made without rows.
        serializer = self._evaluation.use(
            partial(self._evaluation.view.get_serializer, [], many=True)
        )
        serializer = getattr(serializer, "child", serializer)
        return {
            name: field
            for name, field in getattr(serializer, "fields", {}).items()
            if not field.write_only
        }

    @cached_property
    def key_field(self) -> Any:
        """The serializer's field that shows the primary key; None if there is none."""
        named = self._fields.get("pk") or self._fields.get(self._model._meta.pk.name)
        shown = (field for field in self._fields.values() if field.source in self._key_sources)
        return named or next(shown, None)

    @property
    def _key_sources(self) -> set[str]:
        pk = self._model._meta.pk
        return {"pk", pk.name, pk.attname}

    @property
    def are_of_keys(self) -> bool:
        """Whether the field that shows the key depends on nothing else of the row."""
        shown = self.key_field
        is_of_value = shown is None or (
            isinstance(shown, _OF_A_VALUE)
            # A project's subclass may show anything.
            and type(shown).__module__.startswith("rest_framework.")
            and shown.source in self._key_sources
        )
        return self._lookup is None and is_of_value

    @cached_property
    def _lookup_field(self) -> Any:
        path = (self._lookup or "").replace(LOOKUP_SEP, ".")
        before, _, last = path.rpartition(".")
        for field in self._fields.values():
            is_slug = field.source == before and getattr(field, "slug_field", None) == last
            if is_slug or field.source in (path, f"{path}_id"):
                return field
        return None

    # Names of rows

    def of_key(self, key: str) -> str:
        """Return the data of a `delete` for a row that no longer exists, as JSON text."""
        value = pk_of(self._model, key)
        shown = self.key_field
        if isinstance(shown, relations.PrimaryKeyRelatedField):
            shown = shown.pk_field
        if shown is not None:
            value = self._evaluation.use(shown.to_representation, value)
        return self._delete({"pk": self._plain(value)})

    def of_rows(self, rows: Mapping[str, Any]) -> dict[str, str]:
        """Return the data of a `delete` for each of `rows`, by key."""
        return {key: self._delete(self._named(row)) for key, row in rows.items()}

    def _delete(self, named: Mapping[str, Any]) -> str:
        pairs = (f'"{name}": {self._json(value)}' for name, value in named.items())
        return f"{{{', '.join(pairs)}}}"

    def _json(self, value: Any) -> str:
        if value is None:
            # REST framework renders it as no text at all.
            return "null"
        text: str = self._evaluation.use(rendered, self._evaluation.view, value)
        return text

    def _named(self, row: Any) -> dict[str, Any]:
        """Return the names of an existing row: the `pk` first."""
        if self._lookup is None:
            return {"pk": self._shown(self.key_field, row, row.pk)}
        public = self._shown(self._lookup_field, row, _at(row, self._lookup))
        if self.key_field in (None, self._lookup_field):
            return {"pk": public}
        name = self._lookup if self._lookup_field is None else self._lookup_field.field_name
        return {"pk": self._shown(self.key_field, row, row.pk), name: public}

    def _shown(self, field: Any, row: Any, value: Any) -> Any:
        # A reference that is represented as an object does not give clients a name.
        if field is None or isinstance(field, BaseSerializer):
            return self._plain(value)
        return self._evaluation.use(_represented, field, row)

    def _plain(self, value: Any) -> Any:
        """
        Return `value` as JSON can hold it: as text if it is of a project's own type, or bytes.
        """
        if isinstance(value, _OF_JSON) or value is None:
            return value
        return key_of(self._model, value) or str(value)

    # Names from clients

    def held(
        self,
        values: Iterable[Any],
        keys: Collection[str],
        read: Callable[[], Mapping[str, Any]],
    ) -> Held:
        """
        Return which of the existing rows `keys` a client holds that sent the names `values`.

        `read` returns the rows; it is called if their keys are not enough.
        """
        found: dict[str, Any] = {}
        others = []
        for value in values:
            # A client cannot know a hidden key.
            key = self.key_in(value)
            if key not in keys and not self.are_texts_of_keys:
                called = self._calls(read)
                key = called.get(json.dumps(value)) or called.get(_as_text(value))
            if key is not None and key in keys:
                found[key] = value
            else:
                others.append(value)
        return Held(found, others)

    @cached_property
    def are_texts_of_keys(self) -> bool:
        """Whether a name from a client is a key as it stands, so that no row has to be read."""
        # Serializers may represent times in any form.
        kind = kind_of(field_of(self._model))
        return self.are_of_keys and kind in ("integer", "uuid", "text", "decimal")

    def key_in(self, value: Any) -> str | None:
        """Return the key that a name from a client may be; None if it cannot be one."""
        return key_of(self._model, value) if self.are_of_keys else None

    def of_value(self, value: Any) -> str:
        """Return the data of a `delete` for a name that a client sent, of any JSON type."""
        key = self.key_in(value)
        try:
            if key is not None:
                return self.of_key(key)
        except Exception:
            # No row has such a key, because no serializer has ever shown one.
            key = None
        # Surrogates are escaped.
        return f'{{"pk": {json.dumps(value)}}}'

    def _calls(self, read: Callable[[], Mapping[str, Any]]) -> dict[str, str]:
        """
        Return the keys of all rows by the names that a client may use, as JSON and as text.

        As text, because keys of JSON objects are strings. A primary key takes precedence over
        another row's lookup.
        """
        if self._called is None:
            self._called = self._read_calls(read())
        return self._called

    def _read_calls(self, rows: Mapping[str, Any]) -> dict[str, str]:
        named = [(key, *self._named(row).values()) for key, row in rows.items()]
        found: dict[str, str] = {}
        for at in (1, 2):
            for key, *names in named:
                # Any number of rows may have an empty reference.
                if len(names) >= at and names[at - 1] is not None:
                    value = json.loads(self._json(names[at - 1]))
                    found.setdefault(json.dumps(value), key)
        for text, key in list(found.items()):
            found.setdefault(_as_text(json.loads(text)), key)
        return found


def _as_text(value: Any) -> str:
    # No JSON text begins with this character.
    return f"~{value if isinstance(value, str) else json.dumps(value)}"


def _represented(field: Any, row: Any) -> Any:
    try:
        attribute = field.get_attribute(row)
    except fields.SkipField:
        return None
    is_empty = attribute is None or getattr(attribute, "pk", attribute) is None
    return None if is_empty else field.to_representation(attribute)


def _at(row: Any, lookup: str) -> Any:
    """Return the value by which `lookup` finds `row`."""
    value = row
    for name in lookup.split(LOOKUP_SEP):
        value = getattr(value, name, None)
    return value.pk if isinstance(value, Model) else value
