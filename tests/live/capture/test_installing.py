"""Triggers come and go with migrations, settings and tables."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import uuid

import pytest
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection, connections, models
from django.db.migrations.executor import MigrationExecutor

from rest_channels.live.capture import triggers
from rest_channels.live.capture.triggers.tables import Definition
from rest_channels.models import PendingChange
from tests.models import Item, Room, Sensor, Shelf
from tests.support.distribution import ROOT
from tests.support.recorded_changes import (
    another_database,
    captured_by_triggers,
    noted,
    restore_triggers,
)

pytestmark = pytest.mark.django_db(transaction=True)

BY_TRIGGERS = {"CAPTURE": "triggers", "CAPTURE_MODELS": ["tests.Shelf", "tests.Room"]}


@pytest.fixture(autouse=True)
def none_at_first(no_triggers, transactional_db):
    yield
    restore_triggers()


@pytest.fixture
def by_triggers():
    with captured_by_triggers("tests.Shelf", "tests.Room", "tests.Item"):
        yield


def execute(sql, alias="default"):
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)


def count(alias="default"):
    """Return the number of triggers of tables, of this package or not."""
    sql = {
        "sqlite": "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal",
    }[connections[alias].vendor]
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


# With the log's own tables


def test_they_come_with_migrate_and_go_with_the_setting(settings):
    settings.REST_CHANNELS = BY_TRIGGERS
    assert count() == 0
    call_command("migrate", verbosity=0)
    assert triggers.differences("default") == ([], [])
    assert count() == 8
    call_command("migrate", verbosity=0)
    assert count() == 8
    settings.REST_CHANNELS = {**BY_TRIGGERS, "CAPTURE_MODELS": ["tests.Room"]}
    assert len(triggers.differences("default").left) == 1
    call_command("migrate", verbosity=0)
    assert count() == 4
    settings.REST_CHANNELS = {"CAPTURE": "signals"}
    call_command("migrate", verbosity=0)
    assert count() == 0


def test_flush_leaves_them(by_triggers):
    call_command("flush", verbosity=0, interactive=False)
    assert triggers.differences("default") == ([], [])
    noted()
    execute("INSERT INTO tests_shelf (id, name) VALUES (7, 'left')")
    assert noted() == [("Shelf", "7", "create")]


def test_they_go_before_the_log_does(by_triggers):
    try:
        call_command("migrate", "rest_channels", "zero", verbosity=0)
        assert count() == 0
        Shelf.objects.create(name="left")
        execute("UPDATE tests_shelf SET name = 'right'")
    finally:
        call_command("migrate", "rest_channels", verbosity=0)
    assert triggers.differences("default") == ([], [])
    # Writes of the meantime were not noted: all may have changed.
    assert set(noted()) == {
        ("Shelf", None, "update"),
        ("Room", None, "update"),
        ("Item", None, "update"),
    }


def test_they_go_where_no_signals_are_sent(by_triggers):
    """By the migration itself: tools that test migrations use the executor alone."""
    executor = MigrationExecutor(connection)
    try:
        executor.migrate([("rest_channels", None)])
        assert count() == 0
        Shelf.objects.create(name="left")
    finally:
        executor.loader.build_graph()
        executor.migrate(executor.loader.graph.leaf_nodes("rest_channels"))
        emit_post_migrate_signal(0, False, "default")
    assert triggers.differences("default") == ([], [])


def test_a_plan_changes_nothing(by_triggers, capsys):
    before = count()
    call_command("migrate", "rest_channels", "zero", plan=True, verbosity=0)
    assert count() == before


def test_a_faked_migration_leaves_tables_and_triggers(by_triggers):
    try:
        call_command("migrate", "rest_channels", "zero", fake=True, verbosity=0)
        noted()
        Shelf.objects.create(pk=7)
        assert noted() == [("Shelf", "7", "create")]
    finally:
        call_command("migrate", "rest_channels", fake=True, verbosity=0)
    assert triggers.differences("default") == ([], [])


# With tables


@pytest.mark.only_on("sqlite")
def test_a_table_that_is_made_anew_loses_them_until_migrate_is_done(by_triggers):
    # For this SQLite makes the whole table again.
    null = models.CharField(max_length=50, null=True)
    null.set_attributes_from_name("name")
    null.model = Shelf
    with connection.schema_editor() as editor:
        editor.alter_field(Shelf, Shelf._meta.get_field("name"), null)
    try:
        assert triggers.differences("default").labels == ["tests.Shelf"]
        Shelf.objects.create(name="unseen")
        assert noted() == []
        emit_post_migrate_signal(0, False, "default")
        assert triggers.differences("default") == ([], [])
        # A client may have seen it otherwise than it is.
        assert noted() == [("Shelf", None, "update")]
        execute("INSERT INTO tests_shelf (id, name) VALUES (7, NULL)")
        assert noted() == [("Shelf", "7", "create")]
    finally:
        Shelf.objects.all().delete()
        with connection.schema_editor() as editor:
            editor.alter_field(Shelf, null, Shelf._meta.get_field("name"))


def test_a_column_that_a_model_has_and_a_table_has_not(settings):
    """`migrate` to a state that the models are ahead of: no write may fail for it."""
    old, new = Sensor._meta.get_field("id"), models.BigAutoField(primary_key=True)
    new.set_attributes_from_name("number")
    new.model = Sensor
    with connection.schema_editor() as editor:
        editor.alter_field(Sensor, old, new)
    try:
        with captured_by_triggers("tests.Sensor"):
            assert triggers.differences("default") == ([], [])
            execute("INSERT INTO tests_sensor (name) VALUES ('t')")
            assert noted() == [("Sensor", None, "create")]
    finally:
        with connection.schema_editor() as editor:
            editor.alter_field(Sensor, new, old)


def test_a_table_that_is_not_there_yet(by_triggers):
    with connection.schema_editor() as editor:
        editor.delete_model(Room)
    try:
        emit_post_migrate_signal(0, False, "default")
        assert triggers.differences("default") == ([], [])
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(Room)
    assert triggers.differences("default").labels == ["tests.Room"]


@pytest.mark.only_on("postgresql")
def test_triggers_that_somebody_switched_off_are_missing(by_triggers):
    execute("ALTER TABLE tests_shelf DISABLE TRIGGER USER")
    assert triggers.differences("default").labels == ["tests.Shelf"]
    triggers.sync("default")
    assert triggers.differences("default") == ([], [])


def test_a_table_that_refuses_them(by_triggers, monkeypatch, caplog):
    good = triggers.definitions("default")
    bad = Definition("tests.Message", "rest_channels_capture_x", 3, ("CREATE nonsense",), ())
    triggers.remove("default")
    monkeypatch.setattr(triggers, "definitions", lambda *args: [bad, *good])
    with caplog.at_level(logging.WARNING, "rest_channels"):
        triggers.sync("default")
    assert [r.getMessage() for r in caplog.records] == [
        "The database 'default' refuses triggers of rest_channels: tests.Message. Writes "
        "to it are not captured. Run manage.py sync_triggers --database default."
    ]
    assert triggers.differences("default").labels == ["tests.Message"]


@pytest.fixture
def partitioned():
    """A table in parts, in place of the model's."""
    execute("ALTER TABLE tests_sensor RENAME TO tests_sensor_as_it_was")
    execute(
        "CREATE TABLE tests_sensor (id bigint PRIMARY KEY, name text NOT NULL) "
        "PARTITION BY RANGE (id)"
    )
    execute("CREATE TABLE tests_sensor_low PARTITION OF tests_sensor FOR VALUES FROM (0) TO (10)")
    execute("CREATE TABLE tests_sensor_high PARTITION OF tests_sensor FOR VALUES FROM (10) TO (20)")
    yield
    execute("DROP TABLE tests_sensor")
    execute("ALTER TABLE tests_sensor_as_it_was RENAME TO tests_sensor")


@pytest.mark.only_on("postgresql")
def test_a_partitioned_table(partitioned):
    with captured_by_triggers("tests.Sensor"):
        execute("INSERT INTO tests_sensor VALUES (1, 'a'), (11, 'b')")
        assert sorted(noted()) == [("Sensor", "1", "create"), ("Sensor", "11", "create")]
        execute("UPDATE tests_sensor SET name = 'c' WHERE id = 1")
        assert noted() == [("Sensor", "1", "update")]
        # From one part to the other.
        execute("UPDATE tests_sensor SET id = 12 WHERE id = 1")
        assert sorted(noted()) == [("Sensor", "1", "delete"), ("Sensor", "12", "create")]
        execute("TRUNCATE tests_sensor")
        assert noted() == [("Sensor", None, "update")]
        # A statement that names a part passes by the whole.
        execute("INSERT INTO tests_sensor_low VALUES (2, 'd')")
        assert noted() == []


@pytest.mark.only_on("postgresql")
def test_a_view_has_none(by_triggers, settings):
    execute("ALTER TABLE tests_sensor RENAME TO tests_sensor_as_it_was")
    execute("CREATE VIEW tests_sensor AS SELECT * FROM tests_sensor_as_it_was")
    try:
        settings.REST_CHANNELS = {"CAPTURE": "triggers", "CAPTURE_MODELS": ["tests.Sensor"]}
        assert triggers.differences("default").missing == []
    finally:
        execute("DROP VIEW tests_sensor")
        execute("ALTER TABLE tests_sensor_as_it_was RENAME TO tests_sensor")


# Several databases


def test_another_database_has_its_own(tmp_path, settings):
    settings.REST_CHANNELS = {"CAPTURE": "triggers"}
    with another_database(tmp_path) as other:
        assert triggers.differences(other) == ([], [])
        PendingChange.objects.using(other).all()._raw_delete(other)
        Shelf(pk=7).save(using=other, force_insert=True)
        assert noted(other) == [("Shelf", "7", "create")]
    assert count() == 0


class NoItems:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return model_name != "item"


class NoLog:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return False if app_label == "rest_channels" else None


@pytest.mark.parametrize(
    ("database_router", "missing"), [(NoItems, {"tests_item"}), (NoLog, None)], ids=["item", "log"]
)
def test_what_a_router_keeps_away(database_router, missing, tmp_path, settings):
    settings.REST_CHANNELS = {
        "CAPTURE": "triggers",
        "CAPTURE_MODELS": ["tests.Shelf", "tests.Item"],
    }
    settings.DATABASE_ROUTERS = [database_router()]
    with another_database(tmp_path, is_migrated=False) as other:
        with connections[other].schema_editor() as editor:
            editor.create_model(Item)
        call_command("migrate", database=other, run_syncdb=True, verbosity=0)
        assert count(other) == (0 if missing is None else 4)
        assert triggers.differences(other) == ([], [])


# A project that grows

SETTINGS = """
import json, os, sys
SECRET_KEY = "not a secret"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": json.loads(os.environ["PROJECT_DATABASE"])}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "rest_channels", "shop"]
REST_CHANNELS = {"CAPTURE": "triggers", "CAPTURE_MODELS": ["shop"]}
"""

AT_FIRST = """
from django.db import models

class Tag(models.Model):
    name = models.CharField(max_length=50)

class Thing(models.Model):
    name = models.CharField(max_length=50)
    tags = models.ManyToManyField(Tag)
"""

LATER = """
from django.db import models

class Tag(models.Model):
    name = models.CharField(max_length=50)

class Article(models.Model):
    code = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=50, null=True)
    tags = models.ManyToManyField(Tag)
"""

MIGRATE = """
import sys, django
from django.apps import apps
from django.core.management import call_command
from django.db import connection
django.setup()
call_command("migrate", verbosity=0)
with connection.cursor() as cursor:
    for statement in sys.argv[1:]:
        cursor.execute(statement)
from rest_channels.models import PendingChange
for change in PendingChange.objects.order_by("id"):
    print(change.model, change.key, change.kind)
PendingChange.objects.all().delete()
"""

INITIAL = """
from django.db import migrations, models

class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel("Tag", [
            ("id", models.BigAutoField(primary_key=True)),
            ("name", models.CharField(max_length=50)),
        ]),
        migrations.CreateModel("Thing", [
            ("id", models.BigAutoField(primary_key=True)),
            ("name", models.CharField(max_length=50)),
            ("tags", models.ManyToManyField("shop.Tag")),
        ]),
    ]
"""

MIGRATION = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.RenameModel("Thing", "Article"),
        migrations.RenameField("Article", "id", "code"),
        migrations.AlterField("Article", "name", models.CharField(max_length=50, null=True)),
        migrations.RunSQL("INSERT INTO shop_article (name) VALUES ('by a migration')"),
    ]
"""


@pytest.fixture
def project(tmp_path):
    """An app on a database of its own, of which `run` makes what files say and writes to it."""
    given = connections.settings["default"]
    database = {"ENGINE": given["ENGINE"], "NAME": str(tmp_path / "database.sqlite3")}
    if connection.vendor == "postgresql":
        name = f"rest_channels_project_{uuid.uuid4().hex[:12]}"
        database |= {"NAME": name, "USER": given["USER"], "HOST": given["HOST"]}
        execute(f"CREATE DATABASE {name}")
    app = tmp_path / "shop"
    (app / "migrations").mkdir(parents=True)
    for path in (app / "__init__.py", app / "migrations" / "__init__.py"):
        path.touch()
    (tmp_path / "project_settings.py").write_text(SETTINGS)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "DJANGO_SETTINGS_MODULE": "project_settings",
        "PROJECT_DATABASE": json.dumps(database),
    }

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", MIGRATE, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    yield app, run
    if connection.vendor == "postgresql":
        execute(f"DROP DATABASE {database['NAME']}")


def test_a_model_and_its_key_get_other_names(project):
    app, run = project
    (app / "models.py").write_text(AT_FIRST)
    (app / "migrations" / "0001_initial.py").write_text(INITIAL)
    insert = "INSERT INTO {} (name) VALUES ('left')"
    told = run(insert.format("shop_thing"))
    assert told[-1] == "shop.Thing 1 create"
    (app / "models.py").write_text(LATER)
    (app / "migrations" / "0002_article.py").write_text(MIGRATION)
    told = run(
        insert.format("shop_article"), "INSERT INTO shop_tag (name) VALUES ('red')",
        "INSERT INTO shop_article_tags (article_id, tag_id) VALUES (3, 1)",
    )  # fmt: skip
    # Of what the migration wrote the table as a whole.
    assert "shop.Article None update" in told
    assert told[-5:] == [
        "shop.Article 3 create",
        "shop.Tag 1 create",
        "shop.Article 3 update",
        "shop.Tag 1 update",
        "shop.Article_tags None update",
    ]
