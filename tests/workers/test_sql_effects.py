"""Effects of statements besides reading: anything that is not known to be a read counts."""

from __future__ import annotations

import pytest

from rest_channels.workers.sql_effects import Effect, effects_of

READS = [
    'SELECT "a"."id" FROM "a" WHERE "a"."x" IN (%s, %s) AND COALESCE("a"."b", 1) > 2 FOR UPDATE',
    'SELECT DISTINCT ON ("a"."b") "a"."b", ROW_NUMBER() OVER (PARTITION BY x) FROM "a" ORDER BY 1',
    "SELECT 'SET ROLE x; DELETE' -- ; SET ROLE x",
    "SELECT 1 /* ; SET ROLE x */",
    "SELECT EXISTS (SELECT 1 FROM b WHERE text LIKE %s ESCAPE '\\')",
    'SAVEPOINT "s1"',
    "ROLLBACK TO SAVEPOINT s1",
    "SHOW search_path",
]

SETS = [
    "SET search_path = 'a', public",
    "set role x",
    "RESET ALL",
    "SET SESSION AUTHORIZATION x",
    "SELECT set_config('app.user', '7', false)",
    "SELECT pg_catalog.set_config('app.user', '7', 'f')",
    "SELECT \"set_config\"('app.user', '7', false)",
    "SELECT 1; SET ROLE x",
    "/* a comment */ SET ROLE x",
    "DO $$ BEGIN PERFORM 1; END $$",
    "CREATE TEMP TABLE t (id int)",
    "SELECT 1 AS id INTO TEMP t",
]

LASTS = [
    "LISTEN x",
    "PREPARE x AS SELECT 1",
    "COMMIT",
    "SELECT pg_advisory_lock(1)",
    "DISCARD ALL",
    "LOAD 'x'",
    "whatever comes",
]


@pytest.mark.parametrize("statement", READS)
def test_a_read_does_nothing(statement):
    found = effects_of(statement, (), "postgresql")
    assert not (found.effects or found.functions)


@pytest.mark.parametrize("statement", SETS)
def test_state_of_the_session(statement):
    assert Effect.SETS in effects_of(statement, None, "postgresql").effects


@pytest.mark.parametrize("statement", LASTS)
def test_what_no_rollback_undoes(statement):
    assert Effect.LASTS in effects_of(statement, None, "postgresql").effects


@pytest.mark.parametrize(
    ("statement", "params"),
    [
        ("SELECT set_config('a.b', %s, true)", ["7"]),
        ("SELECT set_config(%s, %s, %s)", ["a.b", "7", True]),
        ("SELECT set_config(%(name)s, 'x', %(local)s)", {"name": "a.b", "local": True}),
        ("SET LOCAL a.b = 7", None),
    ],
)
def test_state_of_the_transaction(statement, params):
    assert effects_of(statement, params, "postgresql").effects == {Effect.SETS_LOCALLY}


def test_an_argument_says_that_a_setting_outlives_the_transaction():
    statement = "SELECT set_config(%s, %s, %s)"
    found = effects_of(statement, ["a.b", "7", False], "postgresql")
    assert found.effects == {Effect.SETS}


@pytest.mark.parametrize(
    "statement",
    [
        "WITH x AS (UPDATE t SET a = 1 RETURNING a) SELECT * FROM x",
        'INSERT INTO "t" ("a") VALUES (NOW())',
        "SELECT a INTO t FROM b",
    ],
)
def test_writes(statement):
    found = effects_of(statement, None, "postgresql")
    assert (found.effects, found.functions) == ({Effect.WRITES}, set())


def test_a_function_that_nobody_knows():
    found = effects_of("SELECT enter(%s), lower('A')", ["acme"], "postgresql")
    assert found.functions == {"enter"}


def test_sqlite_has_sessions_that_no_rollback_restores():
    for statement in ("PRAGMA query_only = 1", "PRAGMA cache_size(5)", "ATTACH 'x' AS y"):
        assert Effect.LASTS in effects_of(statement, None, "sqlite").effects
    assert not effects_of("PRAGMA foreign_keys", None, "sqlite").effects


def test_variables_of_mysql_are_state_of_the_session():
    for statement in ("SET @tenant = 7", "SELECT @tenant := 7"):
        assert Effect.LASTS in effects_of(statement, None, "mysql").effects
    isolation = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
    assert effects_of(isolation, None, "mysql").effects == {Effect.SETS_LOCALLY}


@pytest.mark.parametrize("call", ["tenancy.filter", "app.format", 'ops."using"', "week", "key"])
def test_a_function_of_the_projects_that_is_called_like_a_word(call):
    assert effects_of(f"SELECT {call}(%s)", ["acme"], "postgresql").functions


def test_functions_of_postgresql_by_their_full_names():
    statement = "SELECT pg_catalog.lower('A'), count(*) FILTER (WHERE a)"
    assert not effects_of(statement, (), "postgresql").functions


@pytest.mark.parametrize(
    "statement",
    [
        r"""SELECT U&"set\005Fconfig"('app.user', '7', false)""",
        "UPDATE pg_catalog.pg_settings SET setting = 'acme' WHERE name = 'search_path'",
    ],
)
def test_other_ways_to_set(statement):
    assert Effect.SETS in effects_of(statement, None, "postgresql").effects
