"""
Resolve names in SQL statements to captured tables, to views, or to sources the log does not cover.

A view or function is replaced by the tables that its definition reads.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from django.db import connections, router
from django.db.models import Model

from rest_channels.live.capture.writes import is_by_triggers, is_captured
from rest_channels.live.model_tables import label_of, models_named, models_over, table_of
from rest_channels.live.table_names import Name, Statement, bare, names_in

logger = logging.getLogger("rest_channels")

# Django writes these when an app is installed, and this package for the log itself.
_WITHOUT_NEWS: Final = frozenset({"contenttypes.ContentType", "migrations.Migration"})


class Relation(NamedTuple):
    """
    A table, view or function of a database.

    `kind` is "table", "view", "opaque" or "other". A function whose `definition` shows what it
    reads is a "view"; any other function is "opaque". "other" covers materialized views and foreign
    tables, which hold rows of other tables.
    """

    kind: str
    definition: str = ""


@dataclass
class Sources:
    """
    The sources that statements read.

    `labels` are the models of captured tables, as the log names them. `unseen` maps the name of
    each source whose writes are not captured to the reason.
    """

    labels: set[str] = field(default_factory=set)
    unseen: dict[str, str] = field(default_factory=dict)


def sources(alias: str, statements: Iterable[Statement]) -> Sources:
    """
    Return what `statements` read, for a subscription to rows of the database `alias`.

    Reads the catalogue of the databases, so call it in a worker thread.
    """
    found = Sources()
    seen: set[tuple[str, Name]] = set()
    pending = [(s.alias, name) for s in statements for name in names_in(s.sql)]
    while pending:
        item = pending.pop()
        if item in seen:
            continue
        seen.add(item)
        where, name = item
        if name.is_called:
            relation = _function(where, name.text)
            pending += _within(where, relation)
            if relation is not None and relation.kind == "opaque":
                found.unseen[name.text] = "it is a function whose code does not show what it reads"
            continue
        models = models_named(name.text)
        found.labels |= set(map(label_of, models)) - _WITHOUT_NEWS
        if models and any(model._meta.managed for model in models):
            reason = _reason_of_models(alias, where, models)
        else:
            relation = _relation(where, name.text) if models or name.is_certain else None
            pending += _within(where, relation)
            reason = _reason_of_relation(alias, relation, models)
        if reason:
            found.unseen[name.text] = reason
    return found


def tables_behind(alias: str, statements: Iterable[Statement]) -> set[str]:
    """
    Return the tables that views and functions in `statements` read.

    Tables without a model are left out. `alias` is the database of the rows that the answer shows.
    """
    indirect = [s for s in statements if any(_is_indirect(s.alias, n) for n in names_in(s.sql))]
    labels = sources(alias, indirect).labels
    return {table for label in labels if (table := table_of(label)) is not None}


def _is_indirect(where: str, name: Name) -> bool:
    if name.is_called:
        return _function(where, name.text) is not None
    models = models_named(name.text)
    if any(model._meta.managed for model in models) or not (models or name.is_certain):
        return False
    return _relation(where, name.text) is not None


def _within(where: str, relation: Relation | None) -> list[tuple[str, Name]]:
    """Return the names in the definition of a view or a function."""
    if relation is None or relation.kind not in ("view", "opaque"):
        return []
    return [(where, name) for name in names_in(relation.definition)]


def _reason_of_models(alias: str, where: str, models: Sequence[type[Model]]) -> str:
    """Return why writes to the table of `models` are not captured; empty if they are."""
    followed = [model for model in models if label_of(model) not in _WITHOUT_NEWS]
    if not followed or followed[0]._meta.app_label == "rest_channels":
        return ""
    if not any(map(is_captured, followed)):
        return "none of its models is captured"
    if alias == where:
        return ""
    if all(router.db_for_write(model) != alias for model in followed):
        return f"it is in another database, {where!r}"
    return f"it is read from another database, {where!r}, which may lag"


def _reason_of_relation(
    alias: str, relation: Relation | None, models: Sequence[type[Model]]
) -> str:
    if relation is None or relation.kind == "view":
        return ""
    if relation.kind == "other":
        return "it is a materialized view or a foreign table"
    if not models:
        return "no model has it"
    if is_by_triggers(alias, *models) and any(map(is_captured, models)):
        return ""
    return "its model is unmanaged, and only triggers see what other programs write"


def is_blind(alias: str, model: type[Model]) -> bool:
    """
    Return whether rows of `model` can change without a captured write, as those of a view can.
    """
    table = model._meta.db_table
    if any(over._meta.managed for over in models_over(table)):
        return False
    relation = _relation(alias, bare(table))
    if relation is None or relation.kind == "table":
        return False
    found = sources(alias, [Statement(alias, f'FROM "{bare(table)}"')])
    return found.labels <= {label_of(model)}


# By database and name: the relation, and when it was read (monotonic seconds).
_looked: dict[tuple[str, str], tuple[Relation | None, float]] = {}

# A missing relation may be created later.
_SECONDS_UNTIL_ANOTHER_LOOK: Final = 60


def forget(**kwargs: Any) -> None:
    """Forget what the catalogues said, because migrations ran."""
    _looked.clear()
    _functions.clear()


def _relation(alias: str, name: str) -> Relation | None:
    """Return the table or view `name`; None if it does not exist."""
    found, at = _looked.get((alias, name), (None, -float(_SECONDS_UNTIL_ANOTHER_LOOK)))
    if found is None and time.monotonic() - at >= _SECONDS_UNTIL_ANOTHER_LOOK:
        found = _read(connections[alias], name)
        _looked[alias, name] = found, time.monotonic()
    return found


_STATEMENTS: Final[dict[str, str]] = {
    "postgresql": (
        "SELECT CASE WHEN relkind IN ('r', 'p') THEN 'table' WHEN relkind = 'v' THEN 'view' "
        "ELSE 'other' END, CASE WHEN relkind = 'v' THEN pg_get_viewdef(c.oid) ELSE '' END "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE lower(relname) = %s AND relkind IN ('r', 'p', 'v', 'm', 'f') "
        "AND nspname NOT IN ('pg_catalog', 'information_schema') "
        "ORDER BY pg_table_is_visible(c.oid) DESC LIMIT 1"
    ),
    "sqlite": (
        "SELECT type, sql FROM sqlite_master "
        "WHERE lower(name) = %s AND type IN ('table', 'view') AND name NOT LIKE 'sqlite_%%'"
    ),
    "mysql": (
        "SELECT IF(table_type = 'VIEW', 'view', 'table'), COALESCE(view_definition, '') "
        "FROM information_schema.tables LEFT JOIN information_schema.views "
        "USING (table_schema, table_name) "
        "WHERE table_schema = DATABASE() AND lower(table_name) = %s"
    ),
}


def _read(connection: Any, name: str) -> Relation | None:
    statement = _STATEMENTS.get(connection.vendor)
    with connection.cursor() as cursor:
        if statement is not None:
            cursor.execute(statement, [name])
            row = cursor.fetchone()
            return None if row is None else Relation(row[0], row[1])
        tables = connection.introspection.get_table_list(cursor)
    return next((Relation("other") for table in tables if table.name.lower() == name), None)


# By database: the project's own functions, and when they were read (monotonic seconds).
_functions: dict[str, tuple[dict[str, Relation], float]] = {}

# Functions of extensions are left out: they do not read the project's tables.
_OWN_FUNCTIONS: Final = """
SELECT lower(proname), lanname, pg_get_functiondef(p.oid)
FROM pg_proc p JOIN pg_language l ON l.oid = prolang JOIN pg_namespace n ON n.oid = pronamespace
WHERE prokind = 'f' AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
AND nspname NOT IN ('pg_catalog', 'information_schema') AND NOT EXISTS (
    SELECT FROM pg_depend d
    WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
)
"""

# Matches code that composes its statements only when it runs.
_DYNAMIC: Final = re.compile(r"\bexecute\b(?!\s+(?:function|procedure)\b)", re.IGNORECASE)


_DOLLAR_QUOTE: Final = re.compile(r"\$\w*\$")


def _function(alias: str, name: str) -> Relation | None:
    """Return the project's own function `name`; None if it does not exist."""
    if connections[alias].vendor != "postgresql":
        return None
    found, at = _functions.get(alias, ({}, -float(_SECONDS_UNTIL_ANOTHER_LOOK)))
    if name not in found and time.monotonic() - at >= _SECONDS_UNTIL_ANOTHER_LOOK:
        found = _read_functions(connections[alias])
        _functions[alias] = found, time.monotonic()
    return found.get(name)


def _read_functions(connection: Any) -> dict[str, Relation]:
    found: dict[str, Relation] = {}
    with connection.cursor() as cursor:
        cursor.execute(_OWN_FUNCTIONS)
        for name, language, definition in cursor.fetchall():
            is_clear = language in ("sql", "plpgsql") and not _DYNAMIC.search(definition)
            before = found.get(name, Relation("view"))
            kind = before.kind if is_clear else "opaque"
            body = _DOLLAR_QUOTE.sub(" ; ", definition)
            found[name] = Relation(kind, f"{before.definition} ; {body}")
    return found


_warned: set[tuple[str, str]] = set()


def warn(view: Any, unseen: Mapping[str, str]) -> None:
    """Log once for each viewset and name that subscribers miss changes there."""
    name = type(view).__name__
    for what, reason in unseen.items():
        if (name, what) not in _warned:
            _warned.add((name, what))
            logger.warning(
                "Subscribers to %s do not receive changes of %r: %s. On the viewset, set "
                "live_tables to the models whose writes change its rows, or live_seconds to read "
                "the rows again at that interval.",
                name,
                what,
                reason,
            )
