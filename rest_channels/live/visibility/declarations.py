"""Read what a viewset declares about hidden sources of its rows: `live_tables`, `live_seconds`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from rest_channels.live.model_tables import label_of, models_named
from rest_channels.live.table_names import bare


def labels(view: Any) -> frozenset[str]:
    """
    Return the models of `live_tables`, as the log names them.

    Raises `ImproperlyConfigured` if one of them is neither a model, nor "app_label.Model", nor the
    table of a model.
    """
    given = getattr(view, "live_tables", None) or ()
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise ImproperlyConfigured(
            f"live_tables must be a list of models, not {given!r}: write ['app_label.Model']."
        )
    return frozenset(label_of(model) for item in given for model in _models(item))


def _models(item: Any) -> Sequence[type[Model]]:
    if isinstance(item, type) and issubclass(item, Model):
        return [item]
    if isinstance(item, str):
        # If several schemas have such a table, all count.
        if named := models_named(bare(item)):
            return named
        try:
            return [apps.get_model(item)]
        except (LookupError, ValueError):
            pass  # Raised below.
    raise ImproperlyConfigured(
        f"live_tables has {item!r}, which must be a model, 'app_label.Model', or the table of a "
        "model. For any other source set live_seconds."
    )


def seconds(view: Any) -> float | None:
    """
    Return `live_seconds`, the interval at which rows are read again; None for never.

    Raises `ImproperlyConfigured` if it is not a number above 0.
    """
    given = getattr(view, "live_seconds", None)
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
        raise ImproperlyConfigured(
            f"live_seconds must be a number above 0, or None, not {given!r}: write 5, for example."
        )
    return float(given)


def has_any(view: Any) -> bool:
    """Return whether the viewset declares a hidden source of its rows."""
    return bool(labels(view)) or seconds(view) is not None
