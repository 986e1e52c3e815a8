"""
Capture bulk writes of the ORM.

    class Message(models.Model):
        objects = LiveManager()

`update`, `bulk_create` and `bulk_update` send no signals of Django's; a queryset with this mixin
captures their writes, unless triggers do.
"""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.db.models.sql import Query

from rest_channels.live.capture import named_fields, writes
from rest_channels.live.capture.writes import Write
from rest_channels.live.keys import parents_of, written_key
from rest_channels.live.log.store import Kind


class LiveQuerySetMixin(models.QuerySet):
    """A mixin for a project's own queryset class; put it first among the bases."""

    def update(self, **kwargs: Any) -> int:
        """
        Run Django's update and capture it.

        An update of more than `writes.MAX_ROWS` rows is one change of the whole table, after which
        every subscription to it reads its rows again.
        """
        if not writes.is_captured(self.model) or _is_refused(self.query):
            updated: int = super().update(**kwargs)
            return updated
        alias = self._for_write_alias()
        if writes.is_by_triggers(alias, self.model, *self.model._meta.get_parent_list()):
            with transaction.atomic(using=alias, savepoint=False):
                mark = named_fields.mark(alias)
                updated = super().update(**kwargs)
                named_fields.name_since(alias, mark, self.model, kwargs)
            return updated
        with transaction.atomic(using=alias, savepoint=False):
            pks = self._locked_pks(alias)
            if len(pks) > writes.MAX_ROWS:
                keys: list[str | None] = [None]
                updated = super().update(**kwargs)
            else:
                keys = [written_key(self.model, pk) for pk in pks]
                # Update exactly the locked rows: a row that matches only now would not be captured.
                rows = self.using(alias).filter(pk__in=pks)
                updated = super(LiveQuerySetMixin, rows).update(**kwargs) if pks else 0
            if not _names_of_key(self.model).isdisjoint(kwargs):
                # The rows' new keys are unknown.
                keys = [None]
            if updated:
                writes.record(
                    alias,
                    Write(self.model, keys, Kind.UPDATE, kwargs),
                    *(
                        Write(parent, keys if has_same_keys else [None], Kind.UPDATE, kwargs)
                        for parent, has_same_keys in parents_of(self.model)
                    ),
                )
        return updated

    update.alters_data = True  # type: ignore[attr-defined]  # Django's mark

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> Any:
        """Run Django's bulk_create and capture it."""
        alias = self._for_write_alias()
        if writes.is_by_triggers(alias, self.model):
            return super().bulk_create(objs, *args, **kwargs)
        with transaction.atomic(using=alias, savepoint=False):
            created = super().bulk_create(objs, *args, **kwargs)
            may_update = (
                kwargs.get("ignore_conflicts") or kwargs.get("update_conflicts") or args[1:]
            )
            keys = [written_key(self.model, obj.pk) for obj in created]
            if may_update or None in keys:
                # The database does not return which rows existed before, or which keys it assigned.
                keys = [None]
            if created:
                kind = Kind.UPDATE if may_update else Kind.CREATE
                writes.record(alias, Write(self.model, keys, kind))
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]  # Django's mark

    def _for_write_alias(self) -> str:
        self._for_write = True
        alias: str = self.db
        return alias

    def _locked_pks(self, alias: str) -> list[Any]:
        # A subquery, because rows of a DISTINCT or an outer join cannot be locked.
        matching = self.using(alias).order_by().values("pk")
        rows = models.QuerySet(self.model, using=alias).filter(pk__in=matching)
        features = transaction.get_connection(alias).features
        if features.has_select_for_update:
            # Lock no more than UPDATE does: inserting a row that refers to one of these need not
            # wait.
            rows = rows.select_for_update(no_key=features.has_select_for_no_key_update)
        return list(rows.values_list("pk", flat=True)[: writes.MAX_ROWS + 1])


def _names_of_key(model: type[models.Model]) -> set[str]:
    """Return the names by which an update may change primary keys."""
    key: Any = model._meta.pk
    return {"pk", key.name, key.attname}


def _is_refused(query: Query) -> bool:
    """Return whether Django refuses to update such a query; its error is clearer than ours."""
    return bool(query.is_sliced or query.combinator or query.distinct_fields)


class LiveQuerySet(LiveQuerySetMixin):
    """Django's queryset, whose bulk writes are captured."""


LiveManager = models.Manager.from_queryset(LiveQuerySet, "LiveManager")
