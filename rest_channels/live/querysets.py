"""
Bulk writes that subscriptions see.

    class Message(models.Model):
        objects = LiveManager()

`update`, `bulk_create` and `bulk_update` go round Django's signals; a queryset with this mixin
notes what they write.
"""

from __future__ import annotations

from typing import Any

from django.db import models, transaction

from rest_channels.live import capture
from rest_channels.live.log import Kind


class LiveQuerySetMixin(models.QuerySet):
    """Put it before the project's own queryset class."""

    def update(self, **kwargs: Any) -> int:
        """
        Django's update. Of more than `capture.MAX_ROWS` rows it is one change of the table, after
        which every subscription to it is read again.
        """
        alias = self._for_write_alias()
        if not capture.is_captured(self.model):
            return super().update(**kwargs)
        with transaction.atomic(using=alias, savepoint=False):
            pks = self._locked_pks(alias)
            if len(pks) > capture.MAX_ROWS:
                keys: list[str | None] = [None]
                updated = super().update(**kwargs)
            else:
                # These and no others: what matches only now was not noted.
                keys = [capture.key_of(self.model, pk) for pk in pks]
                rows = self.using(alias).order_by().filter(pk__in=pks)
                updated = super(LiveQuerySetMixin, rows).update(**kwargs) if pks else 0
            if updated:
                capture.record(alias, self.model, keys, Kind.UPDATE, kwargs)
        return updated

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> Any:
        """Django's bulk_create."""
        alias = self._for_write_alias()
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
                capture.record(alias, self.model, keys, kind)
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def _for_write_alias(self) -> str:
        self._for_write = True
        return self.db

    def _locked_pks(self, alias: str) -> list[Any]:
        rows = self.using(alias).order_by().select_related(None)
        features = transaction.get_connection(alias).features
        is_plain = not (rows.query.distinct or rows.query.group_by)
        if is_plain and features.has_select_for_update and features.has_select_for_update_of:
            rows = rows.select_for_update(of=("self",))
        return list(rows.values_list("pk", flat=True)[: capture.MAX_ROWS + 1])


class LiveQuerySet(LiveQuerySetMixin):
    """Django's queryset, seen."""


LiveManager = models.Manager.from_queryset(LiveQuerySet, "LiveManager")
