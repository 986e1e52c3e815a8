"""
Map tables to the models that read and write them, and to the labels by which the log names them.

A change belongs to its table: a second, unmanaged model, a proxy, the historical model of a data
migration and a class made after start-up write the same rows as the model that subscribers see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django.apps import apps
from django.db import models

from rest_channels.live.table_names import bare


class _Tables(NamedTuple):
    #: Django's list of models; Django makes another list when a class is added.
    models: Sequence[type[models.Model]]
    by_table: Mapping[str, tuple[type[models.Model], ...]]
    by_label: Mapping[str, str]
    by_name: Mapping[str, tuple[type[models.Model], ...]]


_known: _Tables | None = None


def _tables() -> _Tables:
    global _known
    # Django keeps this list until a class is added.
    found: Any = apps.get_models(include_auto_created=True)
    known = _known
    if known is None or known.models is not found:
        by_table: dict[str, list[type[models.Model]]] = {}
        by_name: dict[str, list[type[models.Model]]] = {}
        for model in found:
            if not model._meta.proxy:
                by_table.setdefault(model._meta.db_table, []).append(model)
                by_name.setdefault(bare(model._meta.db_table), []).append(model)
        known = _known = _Tables(
            found,
            # The managed model owns the table, if there is one.
            {t: tuple(sorted(ms, key=_is_guest)) for t, ms in by_table.items()},
            {m._meta.label: m._meta.db_table for ms in by_table.values() for m in ms},
            {name: tuple(ms) for name, ms in by_name.items()},
        )
    return known


def _is_guest(model: type[models.Model]) -> bool:
    return not model._meta.managed


def models_over(table: str) -> tuple[type[models.Model], ...]:
    """Return the registered models of `table`, its owner first, without proxies."""
    return _tables().by_table.get(table, ())


def models_named(name: str) -> tuple[type[models.Model], ...]:
    """
    Return the registered models whose tables a statement may call `name`, in the form of `bare`.
    """
    return _tables().by_name.get(name, ())


def owner_of(model: type[models.Model]) -> type[models.Model]:
    """Return the model that the log names for writes of `model`: one for each table."""
    over = models_over(model._meta.db_table)
    return over[0] if over else (model._meta.concrete_model or model)


def label_of(model: type[models.Model]) -> str:
    """Return the label by which the log names the table of `model`."""
    label: str = owner_of(model)._meta.label
    return label


def label_of_table(table: str) -> str:
    """Return the label by which the log names `table`: the table's own name if it has no model."""
    over = models_over(table)
    return over[0]._meta.label if over else table


def table_of(label: str) -> str | None:
    """Return the table of the model `label`; None if there is no such model."""
    return _tables().by_label.get(label)


def model_of(label: str) -> type[models.Model]:
    """Return the model `label`. Raises LookupError if there is none."""
    model: type[models.Model] = apps.get_model(label)
    return model
