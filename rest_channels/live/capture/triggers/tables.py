"""Decide which tables have triggers, and which rows these record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.db import models

from rest_channels.live.capture.writes import is_captured
from rest_channels.live.keys import field_of, shares_keys
from rest_channels.live.model_tables import label_of, owner_of

#: The prefix of all names.
PREFIX: Final = "rest_channels_capture_"


class Key(NamedTuple):
    """
    A row that a trigger records.

    It belongs to the model `label`. The `column` holds its key, with the same values as the primary
    key `field`. If either is None, the row is unknown.
    """

    label: str
    column: str | None
    field: models.Field[Any, Any] | None


@dataclass(frozen=True)
class Table:
    """
    The table of `model`, with the rows that a write to it records.

    Those are its `own` rows, if they are captured; for a table between the two `sides` of a
    many-to-many relation, also the rows of those.
    """

    model: type[models.Model]
    own: Key | None
    sides: tuple[Key, ...] = ()

    @property
    def name(self) -> str:
        table: str = self.model._meta.db_table
        return table

    @property
    def keys(self) -> tuple[Key, ...]:
        return (*self.sides, *([self.own] if self.own is not None else []))

    def kind(self, key: Key, kind: str) -> str:
        """Return what a write of that `kind` does to the row of `key`."""
        return kind if key is self.own and key.column is not None else "update"


@dataclass(frozen=True)
class Definition:
    """
    The triggers of one table, and the statements that belong to them.

    `name` is a hash of all that they do: another table, setting or version has another name.
    """

    label: str
    name: str
    #: The number of triggers in a complete definition.
    count: int
    statements: tuple[str, ...]
    #: Statements that record that the table may have changed.
    markers: tuple[str, ...]


def captured_tables() -> Iterator[Table]:
    """Yield all tables whose writes must be recorded."""
    sides = _sides()
    for model in apps.get_models(include_auto_created=True):
        meta = model._meta
        if meta.proxy or owner_of(model) is not model:
            continue
        own = None
        if is_captured(model):
            # Clients cannot subscribe to rows of a table that Django made.
            is_link = meta.auto_created
            own = Key(label_of(model), None, None) if is_link else key_of_table(model)
        table = Table(model, own, sides.get(meta.db_table, ()))
        if table.keys:
            yield table


def key_of_table(model: type[models.Model]) -> Key:
    """Return the key by which the log names rows of `model`: their primary key."""
    return Key(label_of(model), getattr(model._meta.pk, "column", None), field_of(model))


def _sides() -> dict[str, tuple[Key, ...]]:
    """Return the captured sides of many-to-many relations, by the tables between them."""
    found: dict[str, tuple[Key, ...]] = {}
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
                table = through._meta.db_table
                found[table] = tuple(dict.fromkeys((*found.get(table, ()), *keys)))
    return found


def _column(reference: Any) -> str | None:
    """
    Return the column that refers to the log's key of another row; None if it refers by another.
    """
    is_key = reference.target_field.primary_key and shares_keys(reference.related_model)
    return reference.column if is_key else None


def quoted(text: str) -> str:
    """Return `text` as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def named(parts: Sequence[object]) -> str:
    """Return a name derived from `parts`."""
    return PREFIX + hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
