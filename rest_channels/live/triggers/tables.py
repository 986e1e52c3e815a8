"""
Which tables have triggers, and what these note of a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.db import models

from rest_channels.live.capture import is_captured, label_of

#: What all names begin with.
PREFIX: Final = "rest_channels_capture_"


class Key(NamedTuple):
    """
    A row that is noted: of the model `label`, by the value of a `column`, which means what the
    values of the primary key `field` mean. Where either is None it cannot be told which row.
    """

    label: str
    column: str | None
    field: models.Field[Any, Any] | None


@dataclass(frozen=True)
class Table:
    """
    The table of `model`. A write to it notes `own` rows, if they are captured; to one between the
    two `sides` of a many-to-many relation also the rows of those.
    """

    model: type[models.Model]
    own: Key | None
    sides: tuple[Key, ...] = ()

    @property
    def name(self) -> str:
        return self.model._meta.db_table

    @property
    def keys(self) -> tuple[Key, ...]:
        return (*self.sides, *([self.own] if self.own is not None else []))

    def kind(self, key: Key, kind: str) -> str:
        """What a write of that `kind` does to the row of `key`."""
        return kind if key is self.own and key.column is not None else "update"


@dataclass(frozen=True)
class Definition:
    """
    The triggers of one table, and what else belongs to them. `name` tells all that they do from
    anything else: of another table, setting or version there is another name.
    """

    label: str
    name: str
    #: How many triggers there are when all are.
    count: int
    statements: tuple[str, ...]
    #: Note that the table may have changed.
    markers: tuple[str, ...]


def captured_tables() -> Iterator[Table]:
    """All tables of which something is noted when they are written to."""
    sides = _sides()
    for model in apps.get_models(include_auto_created=True):
        meta = model._meta
        if meta.proxy:
            continue
        own = None
        if is_captured(model):
            # Of a table that Django made nobody asks for a row.
            is_link = meta.auto_created
            own = Key(label_of(model), None, None) if is_link else key_of_table(model)
        table = Table(model, own, sides.get(model, ()))
        if table.keys:
            yield table


def key_of_table(model: type[models.Model]) -> Key:
    """The rows of `model` by their primary key."""
    field = model._meta.pk
    column = getattr(field, "column", None)
    # The key of a table that belongs to another is a reference.
    while getattr(field, "remote_field", None) is not None:
        field = field.target_field
    return Key(label_of(model), column, field if column else None)


def _sides() -> dict[type[models.Model], tuple[Key, ...]]:
    """By the tables between them, the captured sides of many-to-many relations."""
    found: dict[type[models.Model], tuple[Key, ...]] = {}
    for model in apps.get_models():
        for relation in model._meta.local_many_to_many:
            through = relation.remote_field.through
            names = (relation.m2m_field_name(), relation.m2m_reverse_field_name())
            references: list[Any] = [through._meta.get_field(name) for name in names]
            keys = [
                key_of_table(reference.related_model)._replace(column=_column(reference))
                for reference in references
                if is_captured(reference.related_model)
            ]
            if keys:
                found[through] = tuple(dict.fromkeys((*found.get(through, ()), *keys)))
    return found


def _column(reference: Any) -> str | None:
    """Where a row says what it refers to, if it does by the primary key."""
    return reference.column if reference.target_field.primary_key else None


# Fields whose values are the same text here and there: by what `to_python` they have and no other.
_KINDS: Final[dict[Any, str]] = {
    models.IntegerField.to_python: "integer",
    models.UUIDField.to_python: "uuid",
    models.CharField.to_python: "text",
    models.TextField.to_python: "text",
    models.DateField.to_python: "date",
    models.DateTimeField.to_python: "datetime",
}


def kind_of(field: models.Field[Any, Any] | None) -> str | None:
    """
    What a key is, for a backend to write it as `capture.key_of` does; None where it may be written
    in another way. A project's own kinds of fields may read values in any.
    """
    if field is None or hasattr(field, "from_db_value"):
        return None
    if type(field).db_type is not models.Field.db_type:
        return None
    return _KINDS.get(type(field).to_python)


def quoted(text: str) -> str:
    """A literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def named(parts: Sequence[object]) -> str:
    """A name for what is made of `parts`."""
    return PREFIX + hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
