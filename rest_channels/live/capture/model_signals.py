"""
Capture writes by this process's ORM: in a view, a task, a shell.

For tables without triggers, it records the instances that the ORM writes. It does not see
`QuerySet.update`, `bulk_create` and raw SQL; see `rest_channels.live.capture.managers`.

For tables with triggers, it rings the doorbell after the commit and adds the names of the fields
that a save named.

Saves are captured where Django writes the table, not in `post_save`: outside a transaction that
signal comes after the commit, and it does not come at all if another receiver raises, so a change
could be lost. Deletions are captured where Django performs them, not in `post_delete`: a receiver
is connected to one class, but other classes of the same table delete rows, too.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import models, router, transaction
from django.db.models import signals
from django.db.models.deletion import Collector

from rest_channels.live import catalogue
from rest_channels.live.capture import named_fields, writes
from rest_channels.live.capture.writes import Write, is_by_triggers, is_captured
from rest_channels.live.keys import written_key
from rest_channels.live.log import store
from rest_channels.live.log.store import Kind

# Saves


def _capturing(save_table: Callable[..., bool]) -> Callable[..., bool]:
    """Wrap `Model._save_table` to record the write in one transaction with it."""

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
        if is_by_triggers(alias, model):
            return _ringing_save(alias, self, model, save, update_fields)
        # Ends before `post_save` is sent, whose receivers see the committed row as before.
        with transaction.atomic(using=alias, savepoint=False):
            updated = save()
            kind = Kind.UPDATE if updated else Kind.CREATE
            key = written_key(model, getattr(self, model._meta.pk.attname, self.pk))
            writes.record(alias, Write(model, [key], kind, update_fields))
        return updated

    _save_table.captures = True  # type: ignore[attr-defined]  # marks the wrapper
    return _save_table


def _ringing_save(
    alias: str,
    instance: models.Model,
    model: type[models.Model],
    save: Callable[[], bool],
    update_fields: Iterable[str] | None,
) -> bool:
    """Save a row that a trigger captures, and add the names of the saved fields."""
    if update_fields is None:
        updated = save()
    else:
        with transaction.atomic(using=alias, savepoint=False):
            updated = save()
            key = written_key(model, getattr(instance, model._meta.pk.attname, instance.pk))
            if updated and key is not None:
                named_fields.name_of_row(alias, model, key, update_fields)
    writes.ring_for(alias, model)
    return updated


# Writes of querysets, which triggers capture


def _ringing(write: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method of `QuerySet` to ring the doorbell once its write is committed."""

    @functools.wraps(write)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = write(self, *args, **kwargs)
        if result and writes.may_be_by_triggers():
            # By now Django has chosen the database to write to.
            writes.ring_for(self.db, self.model, *self.model._meta.get_parent_list())
        return result

    method.captures = True  # type: ignore[attr-defined]  # marks the wrapper
    return method


# Deletions


def _heard(has_signal_listeners: Callable[..., bool]) -> Callable[..., bool]:
    """
    Wrap `Collector._has_signal_listeners` so that Django reads captured rows before deleting them.

    Django does so for whichever class the rows are deleted by, a historical model or one made after
    start-up included.
    """

    @functools.wraps(has_signal_listeners)
    def _has_signal_listeners(self: Collector, model: type[models.Model]) -> bool:
        return has_signal_listeners(self, model) or (
            # With triggers, the database knows the rows.
            not model._meta.auto_created
            and is_captured(model)
            and not is_by_triggers(self.using, model)
        )

    _has_signal_listeners.captures = True  # type: ignore[attr-defined]  # marks the wrapper
    return _has_signal_listeners


def _deleting(delete: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `Collector.delete` to record its deletions and updates in one transaction with them."""

    @functools.wraps(delete)
    def _delete(self: Collector) -> Any:
        unlinking, _unlinking.through = _unlinking.through, None
        written = [model for model in _written(self) if is_captured(model)]
        if not written:
            return delete(self)
        if is_by_triggers(self.using, *written):
            count, by_label = delete(self)
            if count:
                writes.ring_for(self.using, *written)
            return count, by_label
        with transaction.atomic(using=self.using, savepoint=False):
            found = _found(self)
            count, by_label = delete(self)
            # Record after the write, which locks the rows. A change recorded before it could be
            # numbered ahead of another writer's change of the same row.
            writes.record(self.using, *found, *_unlinked(self, by_label, unlinking))
        return count, by_label

    _delete.captures = True  # type: ignore[attr-defined]  # marks the wrapper
    return _delete


def _written(collector: Collector) -> set[type[models.Model]]:
    """Return the models of all tables that the collector is about to write to."""
    written: set[Any] = {*collector.data, *(rows.model for rows in collector.fast_deletes)}
    return written | {field.model for field, _ in collector.field_updates}


def _found(collector: Collector) -> list[Write]:
    """
    Return the rows about to be deleted, and those about to lose their reference to one of them.
    """
    found: list[Write] = []
    try:
        if store.is_installed(collector.using):
            found += _going(collector)
            found += _losing_reference(collector)
    except Exception:
        writes.warn(collector.using)
    return found


def _going(collector: Collector) -> Iterator[Write]:
    for model, instances in collector.data.items():
        if is_captured(model) and instances:
            keys = [written_key(model, instance.pk) for instance in instances]
            yield Write(model, keys, Kind.DELETE)


def _losing_reference(collector: Collector) -> Iterator[Write]:
    """Yield the rows whose reference Django sets in one statement, without signals."""
    for (field, _), rows_of in collector.field_updates.items():
        if not is_captured(field.model) or is_by_triggers(collector.using, field.model):
            continue
        keys: list[str | None] = []
        for rows in rows_of:
            keys += [written_key(field.model, pk) for pk in _pks(rows)]
        if keys:
            yield Write(field.model, keys, Kind.UPDATE, [field.name])


def _pks(rows: Any) -> Iterable[Any]:
    if isinstance(rows, models.QuerySet) and rows._result_cache is None:
        pks: Iterable[Any] = rows.order_by().values_list("pk", flat=True)[: writes.MAX_ROWS + 1]
        return pks
    return [row.pk for row in rows]


def _unlinked(collector: Collector, by_label: dict[str, int], unlinking: Any) -> Iterator[Write]:
    """
    Yield the automatic tables of many-to-many relations from which rows were deleted.

    Links of the table `unlinking` are left out, because `on_m2m_changed` records them.
    """
    for model in {rows.model for rows in collector.fast_deletes}:
        if model is unlinking:
            continue
        if model._meta.auto_created and is_captured(model) and by_label.get(model._meta.label):
            yield Write(model, [None], Kind.DELETE)


# Many to many


class _Unlinking(threading.local):
    """The table of the relation whose links this thread is removing."""

    through: type[models.Model] | None = None


_unlinking = _Unlinking()


def on_m2m_changed(
    sender: type[models.Model],
    instance: models.Model,
    action: str,
    model: type[models.Model],
    pk_set: set[Any] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """Record the rows of both sides and the table between them, within Django's transaction."""
    _unlinking.through = sender if action in ("pre_remove", "pre_clear") else None
    if action not in ("post_add", "post_remove", "post_clear") or pk_set == set():
        return
    others = [None] if pk_set is None else [written_key(model, pk) for pk in pk_set]
    writes.record(
        using,
        Write(
            type(instance),
            [written_key(type(instance), instance.pk)],
            Kind.UPDATE,
            table=sender,
        ),
        Write(model, others, Kind.UPDATE, table=sender),
        Write(sender, [None], Kind.UPDATE),
    )


# Connecting


def connect() -> None:
    """
    Connect signals and wrap Django's methods; idempotent.

    Raises `ImproperlyConfigured` if this version of Django saves in another way.
    """
    save_table: Any = getattr(models.Model, "_save_table", None)
    if save_table is None or not hasattr(Collector, "_has_signal_listeners"):
        raise ImproperlyConfigured(
            "This version of Django writes in a way that rest_channels does not know: set "
            "REST_CHANNELS['CAPTURE'] = None, or install a supported version of Django."
        )
    if not getattr(save_table, "captures", False):
        models.Model._save_table = _capturing(save_table)
    if not getattr(Collector.delete, "captures", False):
        Collector.delete = _deleting(Collector.delete)
        Collector._has_signal_listeners = _heard(Collector._has_signal_listeners)
    for name in ("update", "bulk_create"):
        write = getattr(models.QuerySet, name)
        if not getattr(write, "captures", False):
            setattr(models.QuerySet, name, _ringing(write))
    signals.m2m_changed.connect(on_m2m_changed, dispatch_uid="rest_channels.listening")
    signals.post_migrate.connect(store.forget_tables, dispatch_uid="rest_channels.listening")
    signals.post_migrate.connect(catalogue.forget, dispatch_uid="rest_channels.catalogue")
