"""
Run SQL on the log's own tables.

    read(alias, "SELECT [mark] FROM [entries] WHERE [position] = %s", [7])

The ORM needs longer to build such a statement than a database to answer it, and a pass runs a
dozen. Names are in brackets; `[entries]`, `[pending]` and `[heads]` are the tables.
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
    """Return all rows, as the driver returns them."""
    with connections[alias].cursor() as cursor:
        cursor.execute(quoted(alias, statement), params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def write(alias: str, statement: str, params: Sequence[Any] = ()) -> None:
    """Run a statement that returns no rows."""
    with connections[alias].cursor() as cursor:
        cursor.execute(quoted(alias, statement), params)


def batches(alias: str, rows: Sequence[Any], *, parameters: int) -> Iterator[Sequence[Any]]:
    """Yield `rows` in batches that one statement can take, each row with that many `parameters`."""
    # PostgreSQL's own limit is 65,535.
    size = min(connections[alias].features.max_query_params or 30_000, 30_000) // parameters
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def quoted(alias: str, statement: str) -> str:
    """Return `statement` with the quotes of the database."""
    return _quoted(statement, connections[alias].ops.quote_name("a"))


@lru_cache(256)
def _quoted(statement: str, quoted_a: str) -> str:
    begin, end = quoted_a.split("a")

    def named(match: re.Match[str]) -> str:
        name = match[1]
        if name in _MODELS:
            name = apps.get_model("rest_channels", _MODELS[name])._meta.db_table
        return f"{begin}{name}{end}"

    return _NAME.sub(named, statement)
