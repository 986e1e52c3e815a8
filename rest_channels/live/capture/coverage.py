"""
Know which tables have triggers; this process itself captures writes to all other tables.

The database's catalogue lists the triggers. A process reads it when it first writes, after its own
migrations, and then every ten minutes in a thread that no writer waits for (`live.log.maintenance`,
`live.delivery.hub`). A table counts as having no triggers until the catalogue says otherwise: a
change that is captured twice is one change, but a change that is not captured is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from django.core.signals import setting_changed
from django.db import connections

from rest_channels.live.log import store
from rest_channels.live.model_tables import label_of

logger = logging.getLogger("rest_channels")

# By database, the labels of the tables that have triggers. Replaced as a whole.
_covered: dict[str, frozenset[str]] = {}

_read: Callable[[str], Iterable[str]] = lambda alias: ()  # noqa: E731


def has_triggers(alias: str, model: Any) -> bool:
    """Return whether triggers capture writes to the table of `model`."""
    if hasattr(connections[alias], "schema_name"):
        # Each tenant has a schema: only some of its tables of that name may have triggers.
        return False
    covered = _covered.get(alias)
    if covered is None:
        covered = look(alias)
    return label_of(model) in covered


def look(alias: str) -> frozenset[str]:
    """Read the catalogue of `alias` and return the labels of the tables with triggers."""
    global _covered
    try:
        if not store.is_installed(alias):
            return frozenset()
        found = frozenset(_reading_quietly(alias))
    except Exception:
        # For example in a transaction that has failed: the next writer reads again.
        logger.debug("The triggers of database %r cannot be read.", alias, exc_info=True)
        return frozenset()
    _covered = {**_covered, alias: found}
    return found


def forget(**kwargs: Any) -> None:
    """Forget all catalogues, because migrations ran or a test changed settings."""
    global _covered
    _covered = {}


def _reading_quietly(alias: str) -> Iterable[str]:
    """Read without logging the query, so that tests that count queries do not count it."""
    connection: Any = connections[alias]
    is_logged, connection.force_debug_cursor = connection.force_debug_cursor, False
    try:
        return _read(alias)
    finally:
        connection.force_debug_cursor = is_logged


def connect(read: Callable[[str], Iterable[str]]) -> None:
    """
    Use `read` to find the labels of tables with triggers. Called once, when the apps are ready.
    """
    global _read
    _read = read
    setting_changed.connect(_on_setting_changed, dispatch_uid="rest_channels.coverage")


def _on_setting_changed(*, setting: str, **kwargs: Any) -> None:
    if setting in ("REST_CHANNELS", "INSTALLED_APPS"):
        forget()
