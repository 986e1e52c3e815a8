"""
Find the tables that SQL statements read, from their text.

The result errs on the side of too many names: a column mistaken for a table costs a comparison, but
a missed table would lose changes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.db import connections

_IDENTIFIER: Final = r'(?:"(?:[^"]|"")+"|`[^`]+`|\[[^\]]+\]|[^\W\d][\w$]*)'
_PART: Final = re.compile(_IDENTIFIER)
_TOKEN: Final = re.compile(
    # String literals, comments, parameters and the types of casts.
    rf"(?P<skipped>'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|%(?:\(\w+\))?s|::\s*\w+|\s+)"
    rf"|(?P<chain>{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER})*)"
    r"|(?P<other>.)",
    re.DOTALL,
)

# Words that precede the name of a table; parentheses and more such words may stand between.
_BEFORE_TABLES: Final = frozenset(
    {"from", "join", "into", "update", "using", "table", "only", "lateral"}
)

# Words that are names only if they are quoted.
_RESERVED_WORDS: Final = (
    "all and any array as asc between by case check cross default delete desc distinct else end "
    "except exists for full group having in index inner intersect is left like limit not null "
    "offset on or order outer over partition primary range references right row rows select set "
    "then to union user values when where window with"
)
_RESERVED: Final = frozenset(_RESERVED_WORDS.split())


# Words that end a list of tables, in which each comma precedes another table.
_AFTER_TABLES: Final = frozenset(
    {"where", "group", "having", "order", "limit", "offset", "fetch", "for", "window", "union"}
    | {"intersect", "except", "select", "set", "values", "returning", "default"}
)


class Name(NamedTuple):
    """
    A name that may be a table's, without schema and in lower case.

    `is_certain` if it stands where a table, a view or a function is expected; `is_called` if it is
    a function's.
    """

    text: str
    is_certain: bool
    is_called: bool = False


class Statement(NamedTuple):
    """A statement that was executed on the database `alias`."""

    alias: str
    sql: str


class noting:
    """
    A context manager that collects the statements this thread executes, in order.

    Each group of subscribers uses one, so it is a class: a generator takes five times as long.
    """

    def __enter__(self) -> list[Statement]:
        self._statements: list[Statement] = []
        self._wrapped = connections.all()
        for connection in self._wrapped:
            connection.execute_wrappers.append(self._note)
        return self._statements

    def __exit__(self, *exc_info: object) -> None:
        for connection in self._wrapped:
            connection.execute_wrappers.pop()

    def _note(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        # With psycopg, a composed statement is an object.
        self._statements.append(Statement(context["connection"].alias, str(sql)))
        return execute(sql, params, many, context)


@lru_cache(4096)
def names_in(sql: str) -> frozenset[Name]:
    """Return the names in `sql` that may be those of tables, and those of functions."""
    found: set[Name] = set()
    is_table_next = is_alias_next = False
    last = ""
    # One item for each open parenthesis: whether its content at this point is a list of tables.
    lists = [False]
    for token in _TOKEN.finditer(sql):
        if token.lastgroup == "skipped":
            continue
        if token.lastgroup == "other":
            match token[0]:
                case "(":
                    lists.append(is_table_next)
                    if last:
                        found.add(Name(last, False, True))
                case ")" if len(lists) > 1:
                    lists.pop()
            is_table_next = lists[-1] if token[0] in "(," else False
            is_alias_next, last = False, ""
            continue
        parts = _PART.findall(token[0])
        word = parts[0].lower() if len(parts) == 1 else ""
        last = ""
        if word in _BEFORE_TABLES:
            is_table_next, is_alias_next, lists[-1] = True, False, True
            continue
        if word in _AFTER_TABLES:
            lists[-1] = False
        elif word not in _RESERVED:
            last = bare(parts[-1])
        if is_table_next:
            found.add(Name(bare(parts[-1]), True))
        elif word and word not in _RESERVED and not is_alias_next:
            found.add(Name(bare(word), False))
        is_table_next, is_alias_next = False, word == "as"
    return frozenset(found)


def bare(name: str) -> str:
    """Return the name of a table without quotes and schema, in lower case."""
    return re.split(r'["`\]]\.["`\[]', name.strip('"`[]'))[-1].replace('""', '"').lower()
