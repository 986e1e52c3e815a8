"""
System checks that report writes that subscribers would not receive.

Django 6.1's `DB_CASCADE`, `DB_SET_NULL` and `DB_SET_DEFAULT` send no signal for rows that the
database deletes or changes. Triggers capture them; without triggers a check names the relations.

    W014  the database deletes or changes rows without a signal
    E015  `live_tables` or `live_seconds` have an invalid value
    W016  not every change of a viewset's model is captured
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import ForeignKey, deletion

from rest_channels.live.capture.triggers import is_supported
from rest_channels.live.capture.writes import expects_triggers, is_captured
from rest_channels.live.model_tables import models_over
from rest_channels.live.visibility import declarations
from rest_channels.settings import socket_settings

# Django has these from 6.1.
_OF_THE_DATABASE: Final[Any] = getattr(deletion, "DatabaseOnDelete", ())


def check_relations(**kwargs: Any) -> list[CheckMessage]:
    """Return W014."""
    if socket_settings.CAPTURE == "triggers":
        return []
    return [
        Warning(
            f"{field.model._meta.label}.{field.name} has on_delete={field.remote_field.on_delete}: "
            f"the database itself changes {field.model._meta.label} when a row of "
            f"{field.related_model._meta.label} is deleted. It sends no signal, so subscribers "
            "do not receive the change.",
            hint="Leave REST_CHANNELS['CAPTURE'] at 'auto' on a database that has triggers, or use "
            "the on_delete of the same name without DB_. Or remove the model from "
            "REST_CHANNELS['CAPTURE_MODELS'].",
            obj=field,
            id="rest_channels.W014",
        )
        for field in _relations()
        if not _has_triggers(field.model)
    ]


def _has_triggers(model: Any) -> bool:
    """Return whether this kind of database has triggers; another check reports missing ones."""
    return socket_settings.CAPTURE == "auto" and is_supported(router.db_for_write(model))


def _relations() -> Iterator[Any]:
    for model in apps.get_models(include_auto_created=True):
        if not model._meta.proxy and is_captured(model):
            yield from filter(_is_of_the_database, model._meta.local_fields)


def _is_of_the_database(field: Any) -> bool:
    return isinstance(field, ForeignKey) and isinstance(
        field.remote_field.on_delete, _OF_THE_DATABASE
    )


def check_live(viewsets: Iterable[Any]) -> Iterator[CheckMessage]:
    """Yield E015 and W016 of viewsets that clients can subscribe to."""
    if socket_settings.CAPTURE is None:
        return
    for viewset in dict.fromkeys(viewsets):
        try:
            is_declared = declarations.has_any(viewset)
        except ImproperlyConfigured as exc:
            yield Error(
                f"{viewset.__name__}: {exc}",
                hint="See 'What cannot be seen' in docs/live.md.",
                obj=viewset,
                id="rest_channels.E015",
            )
            continue
        model: Any = getattr(getattr(viewset, "queryset", None), "model", None)
        reason = None if is_declared or model is None else _reason(model)
        if reason is not None:
            yield Warning(
                f"Subscribers to {viewset.__name__} do not receive all changes of "
                f"{model._meta.label}: {reason}.",
                hint="On the viewset, set live_tables to the models whose writes change its rows, "
                "or live_seconds to read the rows again at that interval; or set live = False.",
                obj=viewset,
                id="rest_channels.W016",
            )


def _reason(model: Any) -> str | None:
    """Return why some writes of rows of `model` are not captured; None if all are."""
    if not is_captured(model):
        return "REST_CHANNELS['CAPTURE_MODELS'] does not name it"
    over = models_over(model._meta.db_table) or (model,)
    if any(m._meta.managed for m in over) or expects_triggers(router.db_for_write(model)):
        return None
    return "it is unmanaged, and only triggers see what other programs write"
