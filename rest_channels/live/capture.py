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
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

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

# A deadlock; and, where `innodb_rollback_on_timeout` is set, a lock waited for too long.
_MYSQL_ROLLBACKS: Final = ((1213,), (1205,))


def is_captured(model: type[models.Model]) -> bool:
    """Whether writes of `model` are noted."""
    # A proxy writes to the table of another model.
    meta = (model._meta.concrete_model or model)._meta
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


class Write(NamedTuple):
    """
    What a statement did to rows of `model`; a key of None stands for rows that are not known.
    `fields` are the names of those that were written, None for all.
    """

    model: type[models.Model]
    keys: Iterable[str | None]
    kind: str
    fields: Iterable[str] | None = None


def record(alias: str, *writes: Write) -> None:
    """
    Note what was written, with one INSERT; within the transaction, if there is one. Raises only
    where the transaction is lost already.
    """
    try:
        captured = [write for write in writes if is_captured(write.model)]
        if captured and log.is_installed(alias):
            rows = [row for write in captured for row in _rows(write)]
            _insert(alias, rows)
            if rows:
                _ring_after_commit(alias)
    except Exception as exc:
        _warn(alias)
        if _has_ended_transaction(alias, exc):
            raise


def _rows(write: Write) -> list[tuple[str, str | None, str, str | None]]:
    named = ",".join(sorted(write.fields)) if write.fields is not None else None
    keys = list(write.keys)
    if len(keys) > MAX_ROWS:
        keys = [None]
    return [(label_of(write.model), key, write.kind, named) for key in keys]


def _insert(alias: str, rows: list[tuple[Any, ...]]) -> None:
    connection = connections[alias]
    names = ("model", "key", "kind", "fields", "created_at", "transaction")
    columns = ", ".join(connection.ops.quote_name(name) for name in names)
    table = connection.ops.quote_name(log.pending(alias).model._meta.db_table)
    placeholders = f"(%s, %s, %s, %s, %s, {_transaction_token(alias)})"
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    # Old versions of SQLite take 999 parameters.
    size = (connection.features.max_query_params or 32_000) // 5
    with connection.cursor() as cursor:
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            values = ", ".join([placeholders] * len(batch))
            params = [value for row in batch for value in (*row, now)]
            sql = f"INSERT INTO {table} ({columns}) VALUES {values}"
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


def _has_ended_transaction(alias: str, exc: Exception) -> bool:
    """
    Whether the database answered with `exc` by rolling back all that was written before, too: to
    go on would mean to commit the rest of a transaction.
    """
    return connections[alias].vendor == "mysql" and exc.args[:1] in _MYSQL_ROLLBACKS


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
        # Of many processes and machines: by chance.
        token = secrets.randbits(63)
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
            record(alias, Write(model, [key], kind, update_fields))
        return updated

    _save_table.captures = True  # type: ignore[attr-defined]
    return _save_table


# Deletions

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
        _warn(using)


def on_post_delete(
    sender: type[models.Model], instance: models.Model, using: str, **kwargs: Any
) -> None:
    """Note a row that is gone, and what went with it; Django sends this within the transaction."""
    gone = Write(sender, [key_of(sender, instance.pk)], Kind.DELETE)
    record(using, gone, *instance.__dict__.pop("_rest_channels_losing", ()))


def _losing_reference(
    sender: type[models.Model], instance: models.Model, using: str
) -> Iterator[Write]:
    for relation in _nulling_relations(sender):
        related: Any = relation.related_model
        found = related._base_manager.using(using).filter(**{relation.field.name: instance})
        keys = [key_of(related, pk) for pk in found.values_list("pk", flat=True)[: MAX_ROWS + 1]]
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
    record(
        using,
        Write(type(instance), [key_of(type(instance), instance.pk)], Kind.UPDATE),
        Write(model, others, Kind.UPDATE),
        Write(sender, [None], Kind.UPDATE),
    )


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
    # Tables that Django made for many to many relations send no such signals.
    for model in apps.get_models():
        uid = f"rest_channels.capture.{model._meta.label}"
        is_heard = is_captured(model) or _nulling_relations(model) or _links(model)
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
