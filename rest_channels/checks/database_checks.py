"""The databases: their connections, the tables of rest_channels, and triggers."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router
from django.db.migrations.recorder import MigrationRecorder

from rest_channels.live.capture import triggers
from rest_channels.live.log import store
from rest_channels.settings import socket_settings
from rest_channels.sockets import reply_store


def check_databases(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return W004."""
    if socket_settings.CONNECTION_SECONDS:
        return []
    return [
        Warning(
            f"Each frame opens a new connection to the PostgreSQL database {alias!r}.",
            hint="Leave REST_CHANNELS['CONNECTION_SECONDS'] at its default, or set "
            f"DATABASES[{alias!r}]['CONN_MAX_AGE'] = 60, or OPTIONS['pool'] = True.",
            id="rest_channels.W004",
        )
        for alias, given in connections.settings.items()
        if given["ENGINE"].rpartition(".")[2] in ("postgresql", "postgis")
        and given["CONN_MAX_AGE"] == 0
        and not given["OPTIONS"].get("pool")
    ]


def check_tables(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return W009."""
    if socket_settings.CAPTURE is None:
        return []
    store.forget_tables()
    return [
        Warning(
            f"The database {alias!r} lacks tables of rest_channels: {consequence}.",
            hint=f"Run manage.py migrate --database {alias}. Or add a database router whose "
            "allow_migrate() returns False for 'rest_channels' there.",
            id="rest_channels.W009",
        )
        for alias in databases or ()
        if router.allow_migrate_model(alias, store.pending(alias).model)
        and _is_migrated(alias)
        and (consequence := _without_tables(alias))
    ]


def _without_tables(alias: str) -> str:
    """Return what does not work because tables are missing; empty if all are there."""
    if not store.is_installed(alias):
        return "subscriptions do not see writes to it"
    if not reply_store.is_installed(alias):
        return "frames with an 'idempotency_key' fail"
    return ""


def _is_migrated(alias: str) -> bool:
    """
    Return whether the database was migrated before: the very first `migrate` runs checks, too.
    """
    is_migrated: bool = MigrationRecorder(connections[alias]).has_table()
    return is_migrated


def check_triggers(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return W010."""
    store.forget_tables()
    found = {alias: triggers.differences(alias) for alias in databases or ()}
    return [
        Warning(
            f"The triggers of the database {alias!r} differ from those that the settings ask for: "
            + (
                f"{_consequence()}: {', '.join(missing.labels)}."
                if missing.missing
                else "it has superfluous triggers, some of which may note a change twice."
            ),
            hint=f"Run manage.py sync_triggers --database {alias}, or manage.py migrate.",
            id="rest_channels.W010",
        )
        for alias, missing in found.items()
        if missing.missing or missing.left
    ]


def _consequence() -> str:
    if socket_settings.CAPTURE == "auto":
        return "subscriptions see only what this project's processes save and delete of"
    return "subscriptions do not see writes to"


def check_support_of_triggers(**kwargs: Any) -> list[CheckMessage]:
    """Return E011."""
    if socket_settings.CAPTURE != "triggers":
        return []
    return [
        Error(
            "REST_CHANNELS['CAPTURE'] is 'triggers', but the database "
            f"{alias!r} ({connections[alias].display_name}) supports none.",
            hint="Use 'auto', with LiveManager for bulk writes. Or add a database router whose "
            "allow_migrate() returns False for 'rest_channels' there.",
            id="rest_channels.E011",
        )
        for alias in connections
        if router.allow_migrate_model(alias, store.pending(alias).model)
        and not triggers.is_supported(alias)
    ]


def check_autocommit(**kwargs: Any) -> list[CheckMessage]:
    """Return E012."""
    if socket_settings.CAPTURE is None:
        return []
    return [
        Error(
            f"DATABASES[{alias!r}] has AUTOCOMMIT = False: the log of changes, which each process "
            "numbers and reads in its own transactions, would never be committed.",
            hint="Remove AUTOCOMMIT, and use ATOMIC_REQUESTS or transaction.atomic() for "
            "transactions. Or set REST_CHANNELS['CAPTURE'] = None. Or add a database router whose "
            "allow_migrate() returns False for 'rest_channels' there.",
            id="rest_channels.E012",
        )
        for alias, given in connections.settings.items()
        if not given["AUTOCOMMIT"] and router.allow_migrate_model(alias, store.pending(alias).model)
    ]
