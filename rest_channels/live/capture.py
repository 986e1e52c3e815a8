"""
Every write of a row, noted as a pending change in the transaction that writes it.

By whoever writes: a view, a task, a shell. What is written around the ORM's instances
(`QuerySet.update`, `bulk_create`, raw SQL) is not seen; see `rest_channels.live.querysets`.

Saves are met where Django writes the table, not in `post_save`: outside a transaction that signal
comes after the commit, and not at all where another receiver raises; a change could be lost.

Nothing here makes a write fail: what goes wrong is logged, once a minute, and the write goes on.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections, models, router, transaction
from django.db.models import signals
from django.utils import timezone

from rest_channels.live import log, relay
from rest_channels.live.log import Kind
from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels")

#: Rows of one statement that are noted one by one; more become one change of the whole table.
MAX_ROWS: Final = 1_000

# Written by every request or never shown; whoever wants to watch them names them in CAPTURE_MODELS.
_NEVER_BY_DEFAULT: Final = frozenset(
    {"sessions.Session", "admin.LogEntry", "contenttypes.ContentType", "migrations.Migration"}
)

_SECONDS_BETWEEN_WARNINGS: Final = 60


def is_captured(model: type[models.Model]) -> bool:
    """Whether writes of `model` are noted."""
    meta = model._meta
    if socket_settings.CAPTURE is None or meta.app_label == "rest_channels":
        return False
    named = socket_settings.CAPTURE_MODELS
    if not isinstance(named, (list, tuple, set, frozenset)):
        # "__all__"; of anything else the checks say what it should be.
        return meta.label not in _NEVER_BY_DEFAULT
    return meta.label in named or meta.app_label in named


def label_of(model: type[models.Model]) -> str:
    """How the log names the table of `model`: by the model that has it, not by a proxy."""
    return (model._meta.concrete_model or model)._meta.label


def key_of(model: type[models.Model], pk: Any) -> str | None:
    """A primary key as the log holds it; None for one that it cannot, composite or unset."""
    field = model._meta.pk
    if pk is None or field is None or isinstance(pk, tuple):
        return None
    try:
        # What a writer calls "7" is 7.
        return str(field.to_python(pk))
    except Exception:
        return None


def record(
    alias: str,
    model: type[models.Model],
    keys: Iterable[str | None],
    kind: str,
    fields: Iterable[str] | None = None,
) -> None:
    """
    Note that rows of `model` changed; within the transaction, if there is one. A key of None
    stands for rows that are not known. Never raises.
    """
    try:
        if not is_captured(model) or not log.is_installed(alias):
            return
        label, now = label_of(model), timezone.now()
        named = ",".join(sorted(fields)) if fields is not None else None
        rows = list(keys)
        if len(rows) > MAX_ROWS:
            rows = [None]
        _insert(alias, [(label, key, kind, named, now) for key in rows])
        _ring_after_commit(alias)
    except Exception:
        _warn(alias)


def _insert(alias: str, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    connection = connections[alias]
    table = connection.ops.quote_name(log.pending(alias).model._meta.db_table)
    columns = ", ".join(
        connection.ops.quote_name(name)
        for name in ("model", "key", "kind", "fields", "created_at", "transaction")
    )
    token = _transaction_token(alias)
    placeholders = f"(%s, %s, %s, %s, %s, {token})"
    sql = f"INSERT INTO {table} ({columns}) VALUES {', '.join([placeholders] * len(rows))}"
    adapt = connection.ops.adapt_datetimefield_value
    params = [value for row in rows for value in (*row[:-1], adapt(row[-1]))]
    with connection.cursor() as cursor:
        _guarded(connection, cursor, sql, params)


def _guarded(connection: Any, cursor: Any, sql: str, params: list[Any]) -> None:
    """
    Run `sql` so that its failure leaves the transaction usable. Only PostgreSQL needs a savepoint
    for it: three statements in one trip to the server.
    """
    if connection.vendor != "postgresql" or not connection.in_atomic_block:
        cursor.execute(sql, params)
        return
    name = "rest_channels_capture"
    if connection.settings_dict.get("OPTIONS", {}).get("server_side_binding"):
        # Its protocol takes one statement at a time.
        with transaction.atomic(using=connection.alias):
            cursor.execute(sql, params)
        return
    try:
        cursor.execute(f"SAVEPOINT {name}; {sql}; RELEASE SAVEPOINT {name}", params)
    except Exception:
        cursor.execute(f"ROLLBACK TO SAVEPOINT {name}")
        raise


def _transaction_token(alias: str) -> str:
    """SQL for what all changes of one transaction share, and no two transactions."""
    match connections[alias].vendor:
        case "postgresql":
            return "pg_current_xact_id()::text::bigint"
        case "mysql":
            return str(_own_token(alias))
    # SQLite has one writer: ids are in the order of commits.
    return "NULL"


def _own_token(alias: str) -> int:
    # Renewed by the commit, not by a rollback: of a transaction rolled back nothing is there
    # that could be taken for the next one's.
    connection = connections[alias]
    token = getattr(connection, "rest_channels_transaction", None)
    if token is None:
        token = time.monotonic_ns() ^ (id(connection) << 16) & (2**62 - 1)
        connection.rest_channels_transaction = token
    return token


class _Ring:
    """What the commit does: renew the token, ring the doorbell."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def __call__(self) -> None:
        connections[self.alias].rest_channels_transaction = None
        relay.ring(self.alias)


def _ring_after_commit(alias: str) -> None:
    connection: Any = connections[alias]
    if any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        # A test's transaction never commits; subscriptions of the same test see into it.
        relay.ring(alias)
        return
    # One a transaction. What was rolled back with a savepoint took its own with it.
    if not any(isinstance(entry[1], _Ring) for entry in connection.run_on_commit):
        transaction.on_commit(_Ring(alias), using=alias, robust=True)


_last_warning: dict[str, float] = {}


def _warn(alias: str) -> None:
    now = time.monotonic()
    if now - _last_warning.get(alias, -_SECONDS_BETWEEN_WARNINGS) >= _SECONDS_BETWEEN_WARNINGS:
        _last_warning[alias] = now
        logger.error(
            "Changes of database %r are not captured: subscriptions miss them.",
            alias,
            exc_info=True,
        )


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
        # Ends before `post_save` is sent, which sees the committed row as ever.
        with transaction.atomic(using=alias, savepoint=False):
            updated = save()
            kind = Kind.UPDATE if updated else Kind.CREATE
            key = key_of(model, getattr(self, model._meta.pk.attname, self.pk))
            record(alias, model, [key], kind, update_fields)
        return updated

    _save_table.captures = True  # type: ignore[attr-defined]
    return _save_table


# Deletions


def on_pre_delete(
    sender: type[models.Model], instance: models.Model, using: str, **kw: Any
) -> None:
    """
    Note the rows that lose their reference to `instance`: Django writes them in one statement
    without signals (`SET_NULL`, `SET_DEFAULT`, `SET`), and deletes those of many-to-many tables
    of its own making without signals too.
    """
    model: Any = sender
    for through, name in _own_throughs(model):
        if is_captured(through):
            found = through._base_manager.using(using).filter(**{name: instance.pk})
            if found.exists():
                record(using, through, [None], Kind.DELETE)
    for relation in sender._meta.related_objects:
        on_delete = getattr(relation, "on_delete", None)
        related: Any = relation.related_model
        if on_delete in (None, models.CASCADE, models.DO_NOTHING, models.PROTECT, models.RESTRICT):
            continue
        if not relation.field.concrete or not is_captured(related):
            continue
        found = related._base_manager.using(using).filter(**{relation.field.name: instance})
        keys = [key_of(related, pk) for pk in found.values_list("pk", flat=True)[: MAX_ROWS + 1]]
        record(using, related, keys, Kind.UPDATE, [relation.field.name])


@functools.lru_cache(None)
def _own_throughs(model: Any) -> list[tuple[Any, str]]:
    """Tables that Django made between `model` and others, and their columns that refer to it."""
    relations = [field.remote_field for field in model._meta.many_to_many]
    relations += [r for r in model._meta.related_objects if isinstance(r, models.ManyToManyRel)]
    return [
        (relation.through, field.attname)
        for relation in relations
        if relation.through._meta.auto_created
        for field in relation.through._meta.fields
        if field.is_relation and issubclass(model, field.related_model)
    ]


def on_post_delete(
    sender: type[models.Model], instance: models.Model, using: str, **kw: Any
) -> None:
    """Note a row that is gone; Django sends this within the transaction."""
    record(using, sender, [key_of(sender, instance.pk)], Kind.DELETE)


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
    if action not in ("post_add", "post_remove", "post_clear"):
        return
    if pk_set is not None and not pk_set:
        return
    record(using, type(instance), [key_of(type(instance), instance.pk)], Kind.UPDATE)
    others = [None] if pk_set is None else [key_of(model, pk) for pk in pk_set]
    record(using, model, others, Kind.UPDATE)
    record(using, sender, [None], Kind.UPDATE)


# Called once, when the apps are ready


def connect() -> None:
    """Begin to capture. Raises `ImproperlyConfigured` where this Django saves in another way."""
    save_table: Any = getattr(models.Model, "_save_table", None)
    if save_table is None:
        raise ImproperlyConfigured(
            "This version of Django saves in a way that rest_channels does not know: set "
            "REST_CHANNELS['CAPTURE'] = None, or use a version of Django that it names."
        )
    if not getattr(save_table, "captures", False):
        models.Model._save_table = _capturing(save_table)
    signals.m2m_changed.connect(on_m2m_changed, dispatch_uid="rest_channels.capture")
    signals.post_migrate.connect(log.forget_tables, dispatch_uid="rest_channels.capture")
    connect_deletions()
    setting_changed.connect(_on_setting_changed, dispatch_uid="rest_channels.capture")


def connect_deletions() -> None:
    """
    Listen to deletions of what is captured, and of nothing else: where nobody listens, Django
    deletes without reading the rows first.
    """
    for model in apps.get_models(include_auto_created=True):
        uid = f"rest_channels.capture.{model._meta.label}"
        for signal, receiver in (
            (signals.pre_delete, on_pre_delete),
            (signals.post_delete, on_post_delete),
        ):
            if is_captured(model):
                signal.connect(receiver, sender=model, dispatch_uid=uid)
            else:
                signal.disconnect(sender=model, dispatch_uid=uid)


def _on_setting_changed(*, setting: str, **kwargs: Any) -> None:
    if setting in ("REST_CHANNELS", "INSTALLED_APPS"):
        connect_deletions()
