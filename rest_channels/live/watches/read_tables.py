"""Find out which tables a run of a watched action has read, and from which places in the logs."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from django.db import connections, router

from rest_channels.live.catalogue import sources
from rest_channels.live.interface import Tables
from rest_channels.live.log import store
from rest_channels.live.log.positions import Position
from rest_channels.live.log_database import primary_of
from rest_channels.live.model_tables import model_of
from rest_channels.live.table_names import Statement

logger = logging.getLogger("rest_channels")

# Matches statements whose result shows nothing of a table but what they have written themselves.
_WRITE: Final = re.compile(r"\s*(?:INSERT|REPLACE|MERGE|UPDATE|DELETE)\b", re.IGNORECASE)
_RETURNS: Final = re.compile(r"\s*(?:UPDATE|DELETE)\b.*\bRETURNING\b", re.IGNORECASE | re.DOTALL)


class Reading:
    """
    A context manager around one run, in its thread.

    It collects the statements that the thread executes: those up to `enter_body` check the user,
    the others make the answer. `followed` are the places that followers have reached in the logs;
    for any other database, the end of its log is read before its first statement. `began` is the
    time of the beginning (monotonic seconds).
    """

    def __init__(self, followed: Mapping[str, Position]) -> None:
        self.followed = followed
        self.heads: dict[str, Position] = dict(followed)
        self.began = float("inf")
        self.checking: set[Statement] = set()
        self.making: set[Statement] = set()
        self._current = self.checking
        # Databases that have no log.
        self._without_log: set[str] = set()
        self._is_paused = False

    def __enter__(self) -> Reading:
        self.began = time.monotonic()
        self._wrapped = connections.all()
        for connection in self._wrapped:
            connection.execute_wrappers.append(self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for connection in self._wrapped:
            connection.execute_wrappers.remove(self._note)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Collect no statements within this context."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def prepare(self, aliases: Iterable[str]) -> None:
        """Read the ends of the logs of these databases now, before the run begins."""
        for alias in aliases:
            self._look_at_log(alias)

    def enter_body(self) -> None:
        """Note that the checks are over, and that the action begins."""
        self._current = self.making

    def _note(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if not self._is_paused:
            alias = context["connection"].alias
            self._look_at_log(primary_of(alias))
            # With psycopg, a composed statement is an object.
            self._current.add(Statement(alias, str(sql)))
        return execute(sql, params, many, context)

    def _look_at_log(self, alias: str) -> None:
        """Read the end of the log before the first statement, which may miss what comes after."""
        if alias in self.heads or alias in self._without_log:
            return
        with self.paused():
            if store.is_installed(alias):
                self.heads[alias] = store.head(alias)
            else:
                self._without_log.add(alias)


@dataclass(frozen=True, slots=True)
class Found:
    """
    The tables that the statements of a run have read: all, those of its checks, and the others.

    `unseen` maps the names of tables whose changes are not captured to the reasons.
    """

    tables: Tables
    checking: Tables
    making: Tables
    unseen: Mapping[str, str]
    writes_own: bool


def find(reading: Reading) -> Found:
    """Return the tables behind the statements of a run; reads catalogues, in a worker thread."""
    statements = reading.checking | reading.making
    checking, _ = _tables_of(filter(_is_reading, reading.checking))
    making, unseen = _tables_of(filter(_is_reading, reading.making))
    tables = united(checking, making)
    written, _ = _tables_of(s for s in statements if _WRITE.match(s.sql))
    is_own = any(tables.get(alias, set()) & labels for alias, labels in written.items())
    return Found(tables, united(checking), united(making), unseen, is_own)


def united(*parts: Mapping[str, Collection[str]]) -> dict[str, frozenset[str]]:
    """Return the tables of all `parts`, by database."""
    return {
        alias: frozenset(chain.from_iterable(part.get(alias, ()) for part in parts))
        for alias in chain.from_iterable(parts)
    }


def _is_reading(statement: Statement) -> bool:
    return not _WRITE.match(statement.sql) or bool(_RETURNS.match(statement.sql))


def _tables_of(statements: Iterable[Statement]) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Return the labels of captured tables by database, and the names of others with reasons."""
    of_database: dict[str, list[Statement]] = {}
    for statement in statements:
        of_database.setdefault(statement.alias, []).append(statement)
    tables: dict[str, set[str]] = {}
    unseen: dict[str, str] = {}
    for alias, read in of_database.items():
        found = sources(alias, read)
        tables.setdefault(primary_of(alias), set()).update(found.labels)
        unseen |= found.unseen
        if found.labels and not store.is_installed(primary_of(alias)):
            unseen[alias] = "this database has no tables of rest_channels"
    return tables, unseen


def declared(labels: Iterable[str]) -> Mapping[str, Collection[str]]:
    """Return the models that a viewset declares in `live_tables`, by their databases."""
    tables: dict[str, set[str]] = {}
    for label in labels:
        tables.setdefault(primary_of(router.db_for_write(model_of(label))), set()).add(label)
    return tables


_warned: set[tuple[str, str]] = set()


def warn(name: str, unseen: Mapping[str, str]) -> None:
    """Log once for each action, called `name`, and table that watches miss changes there."""
    for what, reason in unseen.items():
        if (name, what) not in _warned:
            _warned.add((name, what))
            logger.warning(
                "Watches of %s do not run again when %r changes: %s. On the viewset, set "
                "live_tables to the models whose writes change the answer, or decorate the action "
                "with @live_every(seconds).",
                *(name, what, reason),
            )
