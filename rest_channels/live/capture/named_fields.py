"""
Add the names of the written fields to the pending changes that a trigger made.

The database does not know which fields a save named. Only consumers that send the saved fields need
them; all others receive the whole row. So a failure here is logged and otherwise ignored. The names
are added in the transaction of the write, after it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from django.db import DatabaseError, connections, models

from rest_channels.live.capture import writes
from rest_channels.live.log import statements, store
from rest_channels.live.model_tables import label_of

logger = logging.getLogger("rest_channels")


def name_of_row(alias: str, model: type[models.Model], key: str, fields: Iterable[str]) -> None:
    """Set `fields` on the newest pending change of the row `key`."""
    newest = (
        "[id] = (SELECT [id] FROM [pending] WHERE [model] = %s AND [key] = %s "
        f"{_of_this_transaction(alias)} ORDER BY [id] DESC LIMIT 1)"
    )
    _name(alias, fields, newest, [label_of(model), key])


def mark(alias: str) -> Any:
    """Return a marker of the newest pending change, for `name_since`."""
    # On PostgreSQL a writer may lack the right to read pending changes.
    is_timed = connections[alias].vendor == "postgresql"
    sql = "SELECT clock_timestamp()" if is_timed else "SELECT coalesce(max([id]), 0) FROM [pending]"
    return statements.read(alias, sql)[0][0]


def name_since(alias: str, mark: Any, model: type[models.Model], fields: Iterable[str]) -> None:
    """Set `fields` on all pending changes of `model` since `mark`."""
    column = "[created_at]" if connections[alias].vendor == "postgresql" else "[id]"
    since = f"[model] = %s AND {column} > %s {_of_this_transaction(alias)}"
    _name(alias, fields, since, [label_of(model), mark])


def _of_this_transaction(alias: str) -> str:
    if connections[alias].vendor != "postgresql":
        # SQLite has one writer.
        return ""
    return f"AND [transaction] = {writes.token(alias)}"


def _name(alias: str, fields: Iterable[str], condition: str, params: list[Any]) -> None:
    sql = (
        "UPDATE [pending] SET [fields] = %s WHERE [kind] = 'update' AND [key] IS NOT NULL "
        f"AND [fields] IS NULL AND {condition}"
    )
    try:
        if store.is_installed(alias):
            named = ",".join(sorted(fields))
            writes.execute_guarded(alias, statements.quoted(alias, sql), [named, *params])
    except DatabaseError:
        logger.debug("The fields of a write could not be named.", exc_info=True)
