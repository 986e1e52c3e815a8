"""
The effects of an SQL statement besides reading, judged by its text.

    effects_of("SELECT set_config('app.user', %s, true)", ["7"], "postgresql")

A statement is a plain read only if it is known to be one. Unrecognised text counts as a change of
the session's state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final


class Effect(Enum):
    """
    The kinds of effects.

    `WRITES`: rows or tables. `SETS_LOCALLY`: state that ends with the transaction. `SETS`: state of
    the session that a rollback undoes. `LASTS`: state that no rollback undoes.
    """

    WRITES = "writes"
    SETS_LOCALLY = "sets locally"
    SETS = "sets"
    LASTS = "lasts"


@dataclass(frozen=True)
class Effects:
    """
    All `effects` of one text.

    `functions` are the functions it calls that are not known to be harmless; `settings` are the
    names it sets, if they are spelled out.
    """

    effects: frozenset[Effect] = frozenset()
    functions: frozenset[str] = frozenset()
    settings: frozenset[str] = frozenset()


NOTHING: Final = Effects()

_TOKEN: Final = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*.*?\*/ )
  | (?P<text> \b[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
  | (?P<quoted> "(?:[^"]|"")*" | `[^`]*` | \[[A-Za-z_]\w*\] )
  | (?P<end> ; )
  | (?P<rest> [^-/'"`;$\[eE]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)

_READS: Final = frozenset({"SELECT", "VALUES", "TABLE", "SHOW", "EXPLAIN", "WITH", "FETCH"})
_CONTROLS: Final = frozenset({"SAVEPOINT", "RELEASE", "CLOSE", "MOVE", "DESCRIBE", "DESC"})
_WRITES: Final = frozenset(
    {"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "CREATE", "ALTER", "DROP", "TRUNCATE"}
    | {"COMMENT", "GRANT", "REVOKE", "REINDEX", "ANALYZE", "COPY", "LOCK", "REFRESH"}
)
_SETS: Final = frozenset({"SET", "RESET"})
# Parts of a SELECT or WITH that write. FOR UPDATE only locks, and quoted names do not count.
_WRITES_WITHIN: Final = re.compile(
    r"\bINSERT\b|\bDELETE\b|\bMERGE\b|\bINTO\b|(?<!\bFOR )(?<!\bKEY )\bUPDATE\b", re.I
)
_NAME: Final = r"[A-Za-z_\x80-\uffff][\w$]*|\"(?:[^\"]|\"\")*\""
_CALL: Final = re.compile(rf"(?:({_NAME})\s*\.\s*)?({_NAME})\s*\(")
_VARIABLE: Final = re.compile(r"(?<![\w@])@@?\w+\s*:?=")
_SETTING: Final = re.compile(
    r"^(?:RE)?SET\s+(?:SESSION\s+|LOCAL\s+|GLOBAL\s+)?(?!LOCAL\b|SESSION\b)"
    r"(TIME\s+ZONE|ROLE|[\w.\"]+)",
    re.I,
)
_SETS_LOCALLY: Final = re.compile(r"^SET\s+(LOCAL|CONSTRAINTS|TRANSACTION)\b", re.I)
_SET_CONFIG: Final = re.compile(
    r"\bset_config\s*\(\s*(?P<name>[^,]*),(?P<value>(?:[^()]|\([^()]*\))*?),(?P<local>(?:%\(\w+\)s|[^(),])*)\)",
    re.I,
)
_TEMPORARY: Final = re.compile(r"^CREATE\s+(?:(?:GLOBAL|LOCAL)\s+)?TEMP(?:ORARY)?\b", re.I)
# A lock of the session, not of its transaction.
_SESSION_LOCK: Final = re.compile(r"^pg_(?:try_)?advisory_(?:un)?lock", re.I)
_PLACEHOLDER: Final = re.compile(r"%s|%\((\w+)\)s")

# Words before a bracket that are not functions, and functions that only compute.
_WORDS: Final = """
    all and any array as asc between by case check collate concat conflict cross cube current_date
    desc distinct div else end escape except exists extract filter first from glob group grouping
    having ilike in inner intersect interval is isnull join key last lateral left like limit
    materialized mod natural not notnull null nulls of offset on or order outer over overlay
    partition precision primary range recursive references regexp returning right rlike rollup row
    rows select sets similar some string table then to tuple union unique using values varying
    varchar char character numeric decimal bit float time timestamp when where window with within
    xor binary
    abs acos ascii asin atan atan2 avg bit_and bit_or bit_xor bool_and bool_or btrim cast cbrt ceil
    ceiling char_length chr coalesce concat_ws convert corr cos cot count covar_pop covar_samp
    cume_dist current_setting current_time current_timestamp current_schema current_user date
    date_format date_part date_trunc day degrees dense_rank exp first_value floor format greatest
    group_concat hex hour if ifnull iif instr json json_array json_extract json_object json_type
    json_valid jsonb_agg jsonb_build_object json_agg json_build_object julianday lag last_day
    last_value lcase lead least length ln localtime localtimestamp locate log log10 log2 lower lpad
    ltrim make_date max md5 microsecond min minute month nth_value now ntile nullif octet_length
    percent_rank pi position power pow quarter quote radians rand random rank regexp_like
    regexp_replace repeat replace reverse round row_number rpad rtrim second sha1 sha224 sha256
    sha384 sha512 sign sin sqrt statement_timestamp stddev stddev_pop stddev_samp strftime
    string_agg strpos substr substring sum tan timezone to_char to_date to_regclass to_timestamp
    translate trim trunc truncate typeof ucase unhex unnest upper uuid var_pop var_samp variance
    week year yearweek generate_series gen_random_uuid clock_timestamp transaction_timestamp
    pg_current_xact_id to_tsvector to_tsquery plainto_tsquery websearch_to_tsquery ts_rank
    similarity array_agg nextval
"""
_HARMLESS: Final = frozenset(_WORDS.split())
# PostgreSQL has no function of these names, but a project may.
_OF_OTHERS: Final = """
    date_format day group_concat hex hour if ifnull iif instr json_array json_extract json_type
    json_valid julianday key last_day lcase locate log2 microsecond minute month quarter quote rand
    second sha1 strftime typeof ucase unhex week year yearweek
"""
_ELSEWHERE: Final = frozenset(_OF_OTHERS.split())
_ESCAPED: Final = re.compile(r"\bU&\"", re.I)


def effects_of(statement: Any, params: Any, vendor: str) -> Effects:
    """
    Return the effects of `statement` with `params` on a database of `vendor`.

    A statement that is not a text counts as setting something.
    """
    if not isinstance(statement, str):
        return Effects(frozenset({Effect.SETS}))
    found, asks_params = _judged(statement, vendor)
    if not asks_params:
        return found
    return _with_params(found, statement, params)


@lru_cache(2048)
def called_by(text: str) -> frozenset[str]:
    """Return the functions that an SQL text calls, except those known to only compute."""
    called = _CALL.findall(" ".join(_parts(text)))
    return frozenset(name.strip('"').lower() for _, name in called) - _HARMLESS


@lru_cache(2048)
def _judged(statement: str, vendor: str) -> tuple[Effects, bool]:
    found = [_of_one(part, vendor) for part in _parts(statement)]
    effects = Effects(
        frozenset().union(*(one.effects for one in found)),
        frozenset().union(*(one.functions for one in found)),
        frozenset().union(*(one.settings for one in found)),
    )
    return effects, "set_config" in effects.functions


def _parts(statement: str) -> list[str]:
    """Return the single statements, without comments, with empty string literals."""
    parts = [""]
    for token in _TOKEN.finditer(statement):
        match token.lastgroup:
            case "comment":
                parts[-1] += " "
            case "text" | "tag":
                parts[-1] += "''"
            case "end":
                parts.append("")
            case _:
                parts[-1] += token[0]
    return [part.strip() for part in parts if part.strip()]


def _of_one(part: str, vendor: str) -> Effects:
    word = re.match(r"\(*\s*(\w*)", part)
    keyword = word[1].upper() if word else ""
    if keyword in _READS:
        return _of_query(part, vendor)
    if keyword in _CONTROLS or (keyword == "ROLLBACK" and re.search(r"\bTO\b", part, re.I)):
        return NOTHING
    if keyword == "BEGIN" and vendor == "sqlite":
        # Django begins its transactions this way.
        return NOTHING
    if keyword == "PRAGMA" and re.fullmatch(r"PRAGMA\s+[\w.]+", part, re.I):
        return NOTHING
    if vendor == "mysql" and re.match(r"SET\s+TRANSACTION\b", part, re.I):
        # Only for the next transaction.
        return Effects(frozenset({Effect.SETS_LOCALLY}))
    if keyword in _SETS and vendor == "postgresql":
        return _of_set(part)
    if keyword in _WRITES:
        within = _of_query(part, vendor)
        sets = _TEMPORARY.match(part) or re.search(r"\bpg_settings\b", part, re.I)
        own = {Effect.WRITES, *([Effect.SETS] if sets else [])}
        functions = within.functions if keyword in ("INSERT", "UPDATE", "DELETE", "MERGE") else ()
        return Effects(within.effects | own, frozenset(functions))
    if keyword in ("CALL", "DO", "DECLARE") and vendor == "postgresql":
        return Effects(frozenset({Effect.SETS}))
    return Effects(frozenset({Effect.LASTS}))


def _of_query(part: str, vendor: str) -> Effects:
    unquoted = re.sub(r'"(?:[^"]|"")*"|`[^`]*`', "_", part)
    effects = {Effect.WRITES} if _WRITES_WITHIN.search(unquoted) else set()
    if re.search(r"\bINTO\s+TEMP", unquoted, re.I):
        effects.add(Effect.SETS)
    if vendor == "mysql" and _VARIABLE.search(unquoted):
        effects.add(Effect.LASTS)
    called = {(of.strip('"').lower(), name.strip('"').lower()) for of, name in _CALL.findall(part)}
    functions = {name for of, name in called if not _is_harmless(of, name, vendor)}
    if vendor == "postgresql" and _ESCAPED.search(part):
        # The name of a function may be written this way.
        effects.add(Effect.SETS)
    # An INSERT or a WITH has column names in brackets behind the table's name.
    if effects or "WITH" in unquoted.upper():
        names = re.findall(
            r"(?:INTO|WITH|RECURSIVE|,)\s+(?:[\w\"]+\.)?\"?(\w+)\"?\s*\(", part, re.I
        )
        functions -= {name.lower() for name in names} - {"set_config"}
    if vendor == "sqlite":
        functions &= {"load_extension"}
    if any(_SESSION_LOCK.match(name) and "xact" not in name for name in functions):
        effects.add(Effect.LASTS)
    return Effects(frozenset(effects), frozenset(functions))


def _is_harmless(schema: str, name: str, vendor: str) -> bool:
    """Return whether a function, or a word before a bracket, is known to only compute."""
    if vendor != "postgresql":
        return name in _HARMLESS
    # A schema may have functions of the project's with these names.
    return schema in ("", "pg_catalog") and name in _HARMLESS - _ELSEWHERE


def _of_set(part: str) -> Effects:
    effect = Effect.SETS_LOCALLY if _SETS_LOCALLY.match(part) else Effect.SETS
    named = _SETTING.match(part)
    name = named[1].strip('"').lower() if named else ""
    return Effects(frozenset({effect}), settings=frozenset({name}) if name else frozenset())


def _with_params(found: Effects, statement: str, params: Any) -> Effects:
    """Return `found`, adjusted by the argument of `set_config` for how long its setting lasts."""
    effects, settings = set(found.effects), set(found.settings)
    calls = list(_SET_CONFIG.finditer(statement))
    for call in calls:
        name = _argument(statement, params, call.start("name"), call["name"])
        is_local = _argument(statement, params, call.start("local"), call["local"])
        effects.add(
            Effect.SETS if str(is_local).lower() in ("false", "f", "0") else Effect.SETS_LOCALLY
        )
        if isinstance(name, str):
            settings.add(name.lower())
    if len(calls) != len(re.findall(r"\bset_config\b", statement, re.I)):
        # An unrecognised call may do either.
        effects |= {Effect.SETS, Effect.SETS_LOCALLY}
    return Effects(frozenset(effects), found.functions - {"set_config"}, frozenset(settings))


def _argument(statement: str, params: Any, start: int, text: str) -> Any:
    """Return the value of one argument, literal or placeholder; the text of any other."""
    text = re.sub(r"::\s*\w+\s*$", "", text.strip())
    placeholder = _PLACEHOLDER.fullmatch(text)
    if placeholder is None:
        return text.strip("'")
    if placeholder[1] is not None:
        return params.get(placeholder[1]) if isinstance(params, Mapping) else None
    number = len(_PLACEHOLDER.findall(statement[:start]))
    if isinstance(params, Sequence) and not isinstance(params, str) and number < len(params):
        return params[number]
    return None
