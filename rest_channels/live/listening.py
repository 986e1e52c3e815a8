"""
What the ORM of this process writes, heard.

By whoever writes: a view, a task, a shell. What is written around the ORM's instances
(`QuerySet.update`, `bulk_create`, raw SQL) is not heard; see `rest_channels.live.querysets`.

Saves are met where Django writes the table, not in `post_save`: outside a transaction that signal
comes after the commit, and not at all where another receiver raises; a change could be lost.

Where triggers note what is written, all that is left to do is to ring when it is committed.
Deletions are then met where Django performs them, for it reads rows before it deletes them where
anybody listens to its signals.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import models, router, transaction
from django.db.models import signals
from django.db.models.deletion import Collector

from rest_channels.live import capture, log
from rest_channels.live.capture import Write, is_by_triggers, is_captured, key_of
from rest_channels.live.joined import Joined, can_join
from rest_channels.live.log import Kind

# Saves


def _capturing(save_table: Callable[..., bool]) -> Callable[..., bool]:
    """`Model._save_table` that notes what it wrote, in one transaction with it."""

    @functools.wraps(save_table)
    def _save_table(
        self: models.Model,
        raw: bool = False,
        cls: Any = None,
        force_insert: Any = False,
        force_update: bool = False,
        using: Any = None,
        update_fields: Any = None,
    ) -> bool:
        def save() -> bool:
            return save_table(
                self,
                raw=raw,
                cls=cls,
                force_insert=force_insert,
                force_update=force_update,
                using=using,
                update_fields=update_fields,
            )

        model = cls or type(self)
        if not is_captured(model):
            return save()
        alias = using or router.db_for_write(model, instance=self)
        if is_by_triggers():
            updated = save()
            capture.record(alias, Write(model, (), Kind.UPDATE))
            return updated
        if can_join(alias, model):
            with Joined(alias, self, model, update_fields):
                return save()
        # Ends before `post_save` is sent, which sees the committed row as ever.
        with transaction.atomic(using=alias, savepoint=False):
            updated = save()
            kind = Kind.UPDATE if updated else Kind.CREATE
            key = key_of(model, getattr(self, model._meta.pk.attname, self.pk))
            capture.record(alias, Write(model, [key], kind, update_fields))
        return updated

    _save_table.captures = True  # type: ignore[attr-defined]
    return _save_table


# Deletions


def _ringing(delete: Callable[..., Any]) -> Callable[..., Any]:
    """`Collector.delete` that rings where triggers have noted what it did."""

    @functools.wraps(delete)
    def _delete(self: Collector) -> Any:
        if not is_by_triggers():
            return delete(self)
        written: set[Any] = {*self.data, *(rows.model for rows in self.fast_deletes)}
        written |= {field.model for field, _ in self.field_updates}
        count, by_label = delete(self)
        if count:
            capture.record(self.using, *(Write(model, (), Kind.DELETE) for model in written))
        return count, by_label

    _delete.captures = True  # type: ignore[attr-defined]
    return _delete


# What else a reference may do when what it refers to is deleted: it goes too, with signals of its
# own, or nothing is deleted, or nothing happens to it.
_DELETING: Final = (models.CASCADE, models.DO_NOTHING, models.PROTECT, models.RESTRICT)


def on_pre_delete(
    sender: type[models.Model], instance: models.Model, using: str, **kwargs: Any
) -> None:
    """
    Find the rows that are about to lose their reference to `instance`, or to go with it: Django
    writes them in one statement without signals.
    """
    try:
        losing: list[Write] = []
        if log.is_installed(using):
            losing += _losing_reference(sender, instance, using)
            losing += _losing_link(sender, instance, using)
        # Noted by `on_post_delete`, once they are written and so locked: what has its place in
        # the order before could be overtaken by another writer of the same row.
        instance._rest_channels_losing = losing
    except Exception:
        capture.warn(using)


def on_post_delete(
    sender: type[models.Model], instance: models.Model, using: str, **kwargs: Any
) -> None:
    """Note a row that is gone, and what went with it; Django sends this within the transaction."""
    gone = Write(sender, [key_of(sender, instance.pk)], Kind.DELETE)
    capture.record(using, gone, *instance.__dict__.pop("_rest_channels_losing", ()))


def _losing_reference(
    sender: type[models.Model], instance: models.Model, using: str
) -> Iterator[Write]:
    for relation in _nulling_relations(sender):
        related: Any = relation.related_model
        found = related._base_manager.using(using).filter(**{relation.field.name: instance})
        keys = [
            key_of(related, pk) for pk in found.values_list("pk", flat=True)[: capture.MAX_ROWS + 1]
        ]
        yield Write(related, keys, Kind.UPDATE, [relation.field.name])


def _losing_link(sender: type[models.Model], instance: models.Model, using: str) -> Iterator[Write]:
    for relation in _links(sender):
        links: Any = relation.related_model
        found = links._base_manager.using(using).filter(**{relation.field.name: instance})
        if found.exists():
            yield Write(links, [None], Kind.DELETE)


def _nulling_relations(model: type[models.Model]) -> list[Any]:
    """References to `model` that a deletion sets to something else, of rows that are captured."""
    return [
        relation
        for relation in _references(model)
        if relation.on_delete not in _DELETING and is_captured(relation.related_model)
    ]


def _links(model: type[models.Model]) -> list[Any]:
    """References of the captured tables that Django made for many to many relations of `model`."""
    return [
        relation
        for relation in _references(model)
        if relation.related_model._meta.auto_created and is_captured(relation.related_model)
    ]


def _references(model: type[models.Model]) -> list[Any]:
    """Foreign keys to the table of `model`, as Django looks for them where it deletes."""
    fields = model._meta.get_fields(include_parents=False, include_hidden=True)
    return [
        field
        for field in fields
        if field.auto_created and not field.concrete and (field.one_to_one or field.one_to_many)
    ]


# Many to many


def on_m2m_changed(
    sender: type[models.Model],
    instance: models.Model,
    action: str,
    model: type[models.Model],
    pk_set: set[Any] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """Note the rows of both sides, and the table between them; within Django's transaction."""
    if action not in ("post_add", "post_remove", "post_clear") or pk_set == set():
        return
    others = [None] if pk_set is None else [key_of(model, pk) for pk in pk_set]
    capture.record(
        using,
        Write(type(instance), [key_of(type(instance), instance.pk)], Kind.UPDATE),
        Write(model, others, Kind.UPDATE),
        Write(sender, [None], Kind.UPDATE),
    )


# Called once, when the apps are ready


def connect() -> None:
    """Begin to listen. Raises `ImproperlyConfigured` where this Django saves in another way."""
    save_table: Any = getattr(models.Model, "_save_table", None)
    if save_table is None:
        raise ImproperlyConfigured(
            "This version of Django saves in a way that rest_channels does not know: set "
            "REST_CHANNELS['CAPTURE'] = None, or use a version of Django that it names."
        )
    if not getattr(save_table, "captures", False):
        models.Model._save_table = _capturing(save_table)
    if not getattr(Collector.delete, "captures", False):
        Collector.delete = _ringing(Collector.delete)
    signals.m2m_changed.connect(on_m2m_changed, dispatch_uid="rest_channels.listening")
    signals.post_migrate.connect(log.forget_tables, dispatch_uid="rest_channels.listening")
    connect_deletions()
    setting_changed.connect(_on_setting_changed, dispatch_uid="rest_channels.listening")


def connect_deletions() -> None:
    """
    Listen to deletions of what is captured here, and of nothing else: where nobody listens, Django
    deletes without reading the rows first.
    """
    # Tables that Django made for many to many relations send no such signals.
    for model in apps.get_models():
        uid = f"rest_channels.listening.{model._meta.label}"
        is_heard = not is_by_triggers() and (
            is_captured(model) or _nulling_relations(model) or _links(model)
        )
        for signal, receiver in (
            (signals.pre_delete, on_pre_delete),
            (signals.post_delete, on_post_delete),
        ):
            if is_heard:
                signal.connect(receiver, sender=model, dispatch_uid=uid)
            else:
                signal.disconnect(sender=model, dispatch_uid=uid)


def _on_setting_changed(*, setting: str, **kwargs: Any) -> None:
    if setting in ("REST_CHANNELS", "INSTALLED_APPS"):
        connect_deletions()
