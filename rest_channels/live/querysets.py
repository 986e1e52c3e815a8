"""
Bulk writes that subscriptions see.

    class Message(models.Model):
        objects = LiveManager()

`update`, `bulk_create` and `bulk_update` go round Django's signals; a queryset with this mixin
notes what they write. With triggers it need not: it rings, so that subscribers hear at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import models, transaction
from django.db.models.sql import Query

from rest_channels.live import capture
from rest_channels.live.capture import Write
from rest_channels.live.log import Kind


class LiveQuerySetMixin(models.QuerySet):
    """Put it before the project's own queryset class."""

    def update(self, **kwargs: Any) -> int:
        """
        Django's update. Of more than `capture.MAX_ROWS` rows it is one change of the table, after
        which every subscription to it is read again.
        """
        if not capture.is_captured(self.model) or _is_refused(self.query):
            return super().update(**kwargs)
        alias = self._for_write_alias()
        if capture.is_by_triggers():
            updated = super().update(**kwargs)
            capture.record(alias, Write(self.model, (), Kind.UPDATE))
            return updated
        with transaction.atomic(using=alias, savepoint=False):
            pks = self._locked_pks(alias)
            if len(pks) > capture.MAX_ROWS:
                keys: list[str | None] = [None]
                updated = super().update(**kwargs)
            else:
                keys = [capture.key_of(self.model, pk) for pk in pks]
                # These and no others: what matches only now was not noted.
                rows = self.using(alias).filter(pk__in=pks)
                updated = super(LiveQuerySetMixin, rows).update(**kwargs) if pks else 0
            if not _names_of_key(self.model).isdisjoint(kwargs):
                # Under which keys they are now is not known.
                keys = [None]
            if updated:
                capture.record(
                    alias,
                    Write(self.model, keys, Kind.UPDATE, kwargs),
                    *(
                        Write(parent, keys if has_same_keys else [None], Kind.UPDATE, kwargs)
                        for parent, has_same_keys in _parents(self.model)
                    ),
                )
        return updated

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> Any:
        """Django's bulk_create."""
        alias = self._for_write_alias()
        if capture.is_by_triggers():
            created = super().bulk_create(objs, *args, **kwargs)
            capture.record(alias, Write(self.model, (), Kind.CREATE))
            return created
        with transaction.atomic(using=alias, savepoint=False):
            created = super().bulk_create(objs, *args, **kwargs)
            may_update = (
                kwargs.get("ignore_conflicts") or kwargs.get("update_conflicts") or args[1:]
            )
            keys = [capture.key_of(self.model, obj.pk) for obj in created]
            if may_update or None in keys:
                # Which of them were there, or what keys they got, the database does not tell.
                keys = [None]
            if created:
                kind = Kind.UPDATE if may_update else Kind.CREATE
                capture.record(alias, Write(self.model, keys, kind))
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def _for_write_alias(self) -> str:
        self._for_write = True
        return self.db

    def _locked_pks(self, alias: str) -> list[Any]:
        # The query within, whatever it is made of: rows of a DISTINCT or an outer join cannot
        # be locked.
        matching = self.using(alias).order_by().values("pk")
        rows = models.QuerySet(self.model, using=alias).filter(pk__in=matching)
        features = transaction.get_connection(alias).features
        if features.has_select_for_update:
            # No more than UPDATE itself would lock: who inserts a row that refers to one of these
            # need not wait.
            rows = rows.select_for_update(no_key=features.has_select_for_no_key_update)
        return list(rows.values_list("pk", flat=True)[: capture.MAX_ROWS + 1])


def _names_of_key(model: type[models.Model]) -> set[str]:
    """By what names an update may give rows other keys."""
    key: Any = model._meta.pk
    return {"pk", key.name, key.attname}


def _parents(model: type[models.Model]) -> Iterator[tuple[type[models.Model], bool]]:
    """The models whose tables hold part of each row, and whether under the same key."""
    links = []
    key: Any = model._meta.pk
    while key.remote_field is not None:
        links.append(key.remote_field.model)
        key = key.remote_field.model._meta.pk
    for parent in model._meta.all_parents:
        yield parent, parent in links


def _is_refused(query: Query) -> bool:
    """Whether Django updates no rows of such a query; it says so better."""
    return bool(query.is_sliced or query.combinator or query.distinct_fields)


class LiveQuerySet(LiveQuerySetMixin):
    """Django's queryset, seen."""


LiveManager = models.Manager.from_queryset(LiveQuerySet, "LiveManager")
