"""
SQL for the log's own tables.

    read(alias, "SELECT [mark] FROM [entries] WHERE [position] = %s", [7])

The ORM takes longer to build such a statement than a database to answer it, and a pass has a dozen.
Names are in brackets; `[entries]`, `[pending]` and `[heads]` are the tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from django.apps import apps
from django.db import connections

_NAME: Final = re.compile(r"\[(\w+)\]")

_MODELS: Final = {"entries": "Change", "pending": "PendingChange", "heads": "LogHead"}


def read(alias: str, statement: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """All rows, as the driver gives them."""
    with connections[alias].cursor() as cursor:
        cursor.execute(_sql(alias, statement), params)
        return cursor.fetchall()


def write(alias: str, statement: str, params: Sequence[Any] = ()) -> None:
    """Run what gives no rows."""
    with connections[alias].cursor() as cursor:
        cursor.execute(_sql(alias, statement), params)


def batches(alias: str, rows: Sequence[Any], *, parameters: int) -> Iterator[Sequence[Any]]:
    """`rows`, as many at a time as one statement may take, each with so many `parameters`."""
    # PostgreSQL's own limit is 65,535.
    size = min(connections[alias].features.max_query_params or 30_000, 30_000) // parameters
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _sql(alias: str, statement: str) -> str:
    return _quoted(statement, connections[alias].ops.quote_name("a"))


@lru_cache(256)
def _quoted(statement: str, quoted_a: str) -> str:
    begin, end = quoted_a.split("a")

    def quoted(match: re.Match[str]) -> str:
        name = match[1]
        if name in _MODELS:
            name = apps.get_model("rest_channels", _MODELS[name])._meta.db_table
        return f"{begin}{name}{end}"

    return _NAME.sub(quoted, statement)
