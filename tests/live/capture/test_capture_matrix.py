"""
Which writes are captured, by whom: the table of docs/live.md, cell by cell, misses included.

Each column is one test. It writes in every way that the table names, to rows of a model, and says
what came into the log; the table has to say the same.
"""

from __future__ import annotations

import json
import re

import django
import pytest
from django.core.management import call_command
from django.db import connection, models, transaction
from django.test import override_settings

from rest_channels.live.capture import triggers
from rest_channels.live.capture.capture_checks import check_relations
from rest_channels.live.capture.managers import LiveManager
from rest_channels.live.log.sequencer import sequence
from tests.support.distribution import ROOT
from tests.support.recorded_changes import (
    another_program,
    captured_by_signals,
    captured_by_triggers,
    forget_log,
    logged,
    tables_of,
)

pytestmark = pytest.mark.django_db(transaction=True)

CREATE, UPDATE, DELETE = "create", "update", "delete"
MANY = 1_001


# For this test alone: others make databases of the models that they know.


class Keeper(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        app_label = "tests"


class Sign(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        app_label = "tests"


class Thing(models.Model):
    """A model of a project that does nothing for subscriptions."""

    name = models.CharField(max_length=50, unique=True)
    version = models.IntegerField(default=0)
    owner = models.ForeignKey(Keeper, models.CASCADE, null=True, related_name="%(class)ss")
    lender = models.ForeignKey(Keeper, models.SET_NULL, null=True, related_name="+")
    tags = models.ManyToManyField(Sign, related_name="%(class)ss")

    class Meta:
        app_label = "tests"
        abstract = True


class PlainThing(Thing):
    class Meta(Thing.Meta):
        pass


class LiveThing(Thing):
    objects = LiveManager()

    class Meta(Thing.Meta):
        base_manager_name = "objects"


class Part(models.Model):
    """Deleted by the database when its keeper is."""

    keeper = models.ForeignKey(Keeper, models.DO_NOTHING, db_constraint=False)

    class Meta:
        app_label = "tests"
        managed = False


IS_DJANGO_6_1 = django.VERSION >= (6, 1)


def relations_of_the_database():
    """Models that refer to a keeper as Django lets them from 6.1 on, by the name of `on_delete`."""
    options = {"DB_CASCADE": {}, "DB_SET_NULL": {}, "DB_SET_DEFAULT": {"db_default": None}}
    return {name: refers(name, **given) for name, given in options.items()}


def refers(on_delete, **options):
    class Referring(models.Model):
        keeper = models.ForeignKey(
            Keeper, getattr(models, on_delete), null=True, related_name="+", **options
        )

        class Meta:
            app_label = "tests"
            abstract = True

    attributes = {"__module__": __name__, "Meta": type("Meta", (), {"app_label": "tests"})}
    return type(f"By_{on_delete}", (Referring,), attributes)


@pytest.fixture
def of_the_database():
    """Such models and their tables for one test: a check would name them in others."""
    found = relations_of_the_database() if IS_DJANGO_6_1 else {}
    with tables_of(*found.values()):
        yield found


@pytest.fixture(autouse=True)
def parts():
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE tests_part (id integer PRIMARY KEY, "
            "keeper_id bigint NOT NULL REFERENCES tests_keeper (id) ON DELETE CASCADE)"
        )
    triggers.sync("default")
    forget_log()
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE tests_part")
    triggers.sync("default")


def execute(sql, *params):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


class Ways:
    """
    Ways to write to rows of `model`. Each gives the changes that there were: label, key, kind; a
    row is there before anything is looked at by `thing()`.
    """

    def __init__(self, model, directory, of_the_database):
        self.model = model
        self.table = model._meta.db_table
        self.directory = directory
        self.of_the_database = of_the_database

    def thing(self, **values):
        """A row, unseen."""
        values = {"name": "a", **values}
        [thing] = models.QuerySet(self.model).bulk_create([self.model(**values)])
        forget_log()
        return thing

    def keeper(self):
        keeper = Keeper.objects.create(name="left")
        forget_log()
        return keeper

    def of(self, thing, kind):
        return {(self.model.__name__, str(thing.pk), kind)}

    def save_new(self):
        return self.of(self.model.objects.create(name="a"), CREATE)

    def save(self):
        thing = self.thing()
        thing.save()
        return self.of(thing, UPDATE)

    def save_fields(self):
        thing = self.thing()
        thing.save(update_fields=["version"])
        return self.of(thing, UPDATE)

    def get_or_create(self):
        thing, _ = self.model.objects.get_or_create(name="a")
        self.model.objects.update_or_create(name="a", defaults={"version": 2})
        return self.of(thing, CREATE) | self.of(thing, UPDATE)

    def loaddata(self):
        path = self.directory / f"{self.model.__name__}.json"
        name = self.model._meta.label_lower
        path.write_text(json.dumps([{"model": name, "pk": 7_000_000, "fields": {"name": "a"}}]))
        call_command("loaddata", str(path), verbosity=0)
        return self.of(self.model(pk=7_000_000), CREATE)

    def delete(self):
        thing = self.thing()
        gone = self.of(thing, DELETE)
        thing.delete()
        return gone

    def delete_many(self):
        thing = self.thing()
        self.model.objects.filter(name="a").delete()
        return self.of(thing, DELETE)

    def cascade(self):
        keeper = self.keeper()
        thing = self.thing(owner=keeper)
        keeper.delete()
        return self.of(thing, DELETE)

    def set_null(self):
        keeper = self.keeper()
        thing = self.thing(lender=keeper)
        keeper.delete()
        return self.of(thing, UPDATE)

    def links(self, write):
        thing, tag = self.thing(), Sign.objects.create()
        found = set()
        for method in write:
            forget_log()
            getattr(thing.tags, method)(*{"set": [[tag]], "clear": []}.get(method, [tag]))
            sequence("default")
            found |= {
                (label.replace(str(tag.pk), "tag"), key, kind) for label, key, kind in logged()
            }
        forget_log()
        return found, {*self.of(thing, UPDATE), (f"{self.model.__name__}_tags", None, UPDATE)}, tag

    def add_links(self):
        found, expected, tag = self.links(["add", "remove", "set"])
        return found, {*expected, ("Sign", str(tag.pk), UPDATE)}

    def clear_links(self):
        thing, tag = self.thing(), Sign.objects.create()
        thing.tags.add(tag)
        forget_log()
        thing.tags.clear()
        return self.of(thing, UPDATE)

    def update(self):
        thing = self.thing()
        self.model.objects.filter(pk=thing.pk).update(version=1)
        return self.of(thing, UPDATE)

    def many(self):
        models.QuerySet(self.model).bulk_create(self.model(name=n) for n in range(MANY))
        # Sequenced first: what SQLite writes in one second may seem to be one statement.
        sequence("default")
        forget_log()
        return {
            (self.model.__name__, str(pk), UPDATE)
            for pk in self.model.objects.values_list("pk", flat=True)
        }

    def update_many(self):
        changed = self.many()
        self.model.objects.update(version=1)
        return changed

    def update_key(self):
        thing = self.thing()
        self.model.objects.filter(pk=thing.pk).update(id=thing.pk + 100)
        return self.of(thing, DELETE) | self.of(self.model(pk=thing.pk + 100), CREATE)

    def bulk_create(self):
        [thing] = self.model.objects.bulk_create([self.model(name="a")])
        return self.of(thing, CREATE)

    def upsert(self):
        thing = self.thing()
        self.model.objects.bulk_create(
            [self.model(name="a", version=2)],
            update_conflicts=True,
            update_fields=["version"],
            unique_fields=["name"],
        )
        self.model.objects.bulk_create([self.model(pk=70_000_000, name="b")], ignore_conflicts=True)
        return self.of(thing, UPDATE) | self.of(self.model(pk=70_000_000), CREATE)

    def bulk_update(self):
        thing = self.thing()
        self.model.objects.bulk_update([thing], ["version"])
        return self.of(thing, UPDATE)

    def related(self, keeper):
        return getattr(keeper, f"{self.model._meta.model_name}s")

    def reverse(self, method, argument):
        keeper, thing = self.keeper(), self.thing()
        getattr(self.related(keeper), method)(argument(thing))
        return self.of(thing, UPDATE)

    def reverse_add(self):
        return self.reverse("add", lambda thing: thing)

    def reverse_add_one_by_one(self):
        keeper, thing = self.keeper(), self.thing()
        self.related(keeper).add(thing, bulk=False)
        return self.of(thing, UPDATE)

    def reverse_remove(self):
        keeper = self.keeper()
        thing, other = self.thing(owner=keeper), self.thing(owner=keeper, name="b")
        self.related(keeper).remove(thing)
        self.related(keeper).clear()
        return self.of(thing, UPDATE) | self.of(other, UPDATE)

    def cascade_of_the_database(self):
        keeper = self.keeper()
        execute("INSERT INTO tests_part VALUES (7000000, %s)", keeper.pk)
        forget_log()
        execute("DELETE FROM tests_keeper")
        return {("Part", "7000000", DELETE)}

    def by_relation(self, on_delete, kind):
        keeper = self.keeper()
        model = self.of_the_database[on_delete]
        [row] = models.QuerySet(model).bulk_create([model(keeper=keeper)])
        forget_log()
        keeper.delete()
        return {(model.__name__, str(row.pk), kind)}

    def db_cascade(self):
        return self.by_relation("DB_CASCADE", DELETE)

    def db_set_null(self):
        return self.by_relation("DB_SET_NULL", UPDATE)

    def db_set_default(self):
        return self.by_relation("DB_SET_DEFAULT", UPDATE)

    def raw(self):
        execute(f"INSERT INTO {self.table} (id, name, version) VALUES (7000000, 'a', 0)")
        execute(f"UPDATE {self.table} SET version = 1")
        execute(f"DELETE FROM {self.table}")
        return {(self.model.__name__, "7000000", kind) for kind in (CREATE, UPDATE, DELETE)}

    def raw_many(self):
        changed = self.many()
        execute(f"UPDATE {self.table} SET version = 1")
        return changed

    def truncate(self):
        thing = self.thing()
        execute(f"TRUNCATE {self.table} CASCADE")
        return self.of(thing, DELETE)

    def replace(self):
        execute(f"INSERT OR REPLACE INTO {self.table} (id, name, version) VALUES (7000000, 'a', 0)")
        return self.of(self.model(pk=7_000_000), CREATE)

    def another_program(self):
        with another_program() as run:
            run(f"INSERT INTO {self.table} (id, name, version) VALUES (7000000, 'a', 0)")
        return self.of(self.model(pk=7_000_000), CREATE)

    def write_in_many_ways(self):
        thing = self.model.objects.create(name="z")
        thing.tags.add(Sign.objects.create())
        self.model.objects.filter(name="z").update(version=1)
        execute(f"UPDATE {self.table} SET version = 1")
        thing.delete()
        self.model.objects.bulk_create([self.model(pk=70_000_000, name="y")])
        return self.of(self.model(pk=70_000_000), CREATE)

    def rolled_back(self):
        try:
            with transaction.atomic():
                written = self.write_in_many_ways()
                raise RuntimeError
        except RuntimeError:
            return written

    def rolled_back_to_a_savepoint(self):
        with transaction.atomic():
            return self.rolled_back()


#: By what the table calls them.
WAYS = {
    "`save()` of a new row": Ways.save_new,
    "`save()` of an existing row": Ways.save,
    "`save(update_fields=...)`": Ways.save_fields,
    "`get_or_create()`, `update_or_create()`": Ways.get_or_create,
    "`loaddata`": Ways.loaddata,
    "`delete()`": Ways.delete,
    "`QuerySet.delete()`": Ways.delete_many,
    "cascades of Django": Ways.cascade,
    "a reference set to null when its target is deleted": Ways.set_null,
    "`add()`, `remove()`, `set()` of many-to-many": Ways.add_links,
    "`clear()` of many-to-many": Ways.clear_links,
    "`update()`": Ways.update,
    "`update()` of more than 1,000 rows": Ways.update_many,
    "`update()` of the primary key": Ways.update_key,
    "`bulk_create()`": Ways.bulk_create,
    "`bulk_create()` that ignores or updates existing rows": Ways.upsert,
    "`bulk_update()`": Ways.bulk_update,
    "`add()`, `set()` of a reverse foreign key": Ways.reverse_add,
    "`add(bulk=False)` of a reverse foreign key": Ways.reverse_add_one_by_one,
    "`remove()`, `clear()` of a reverse foreign key": Ways.reverse_remove,
    "cascades of the database": Ways.cascade_of_the_database,
    "`DB_CASCADE` (Django 6.1)": Ways.db_cascade,
    "`DB_SET_NULL` (Django 6.1)": Ways.db_set_null,
    "`DB_SET_DEFAULT` (Django 6.1)": Ways.db_set_default,
    "raw SQL: `INSERT`, `UPDATE`, `DELETE`": Ways.raw,
    "raw SQL of more than 1,000 rows": Ways.raw_many,
    "`TRUNCATE` (PostgreSQL)": Ways.truncate,
    "`INSERT OR REPLACE` (SQLite)": Ways.replace,
    "other programs": Ways.another_program,
    "anything that is rolled back": Ways.rolled_back,
    "anything that is rolled back to a savepoint": Ways.rolled_back_to_a_savepoint,
}
COLUMNS = ["signals", "signals, `LiveManager`", "triggers"]


def documented(column):
    """Return the table of the page: by way, `row`, `table` or `no`."""
    page = (ROOT / "docs" / "live.md").read_text()
    _, _, rest = page.partition(f"| written by | {' | '.join(COLUMNS)} |\n|---|---|---|---|\n")
    rows = [line.strip("| ").split(" | ") for line in rest.partition("\n\n")[0].splitlines()]
    assert all(len(row) == 4 for row in rows)
    return {row[0]: re.sub(r" \[\d\]", "", row[1 + COLUMNS.index(column)]) for row in rows}


def is_possible(way):
    """With this database and this Django."""
    elsewhere = {"postgresql": "SQLite", "sqlite": "PostgreSQL"}[connection.vendor]
    return f"({elsewhere})" not in way and (IS_DJANGO_6_1 or "(Django 6.1)" not in way)


def outcome(ways, write):
    """Return the part of the writes that came into the log."""
    try:
        expected = write(ways)
        sequence("default")
        found = set(logged())
        if isinstance(expected, tuple):
            seen, expected = expected
            found |= seen
        labels = {label for label, _, _ in expected}
        if expected <= found:
            return "row"
        if {(label, None, UPDATE) for label in labels} <= found:
            return "table"
        return "no" if labels.isdisjoint(label for label, _, _ in found) else f"{found}"
    finally:
        relations = ways.of_the_database.values()
        for model in (ways.model.tags.through, ways.model, *relations, Part, Keeper, Sign):
            models.QuerySet(model)._raw_delete("default")
        forget_log()


def outcomes(model, directory, of_the_database):
    ways = Ways(model, directory, of_the_database)
    return {name: outcome(ways, way) for name, way in WAYS.items() if is_possible(name)}


def expected(column):
    table = documented(column)
    assert list(table) == list(WAYS)
    return {way: cell for way, cell in table.items() if is_possible(way)}


@pytest.mark.parametrize(
    ("model", "column"), [(PlainThing, COLUMNS[0]), (LiveThing, COLUMNS[1])], ids=["plain", "live"]
)
def test_by_signals(model, column, tmp_path, of_the_database):
    with captured_by_signals():
        assert outcomes(model, tmp_path, of_the_database) == expected(column)


def test_by_default(tmp_path, of_the_database):
    triggers.sync("default")
    forget_log()
    assert outcomes(PlainThing, tmp_path, of_the_database) == expected("triggers")


def test_by_triggers(tmp_path, of_the_database):
    names = ["PlainThing", "Part", "Sign", "Keeper", "PlainThing_tags"]
    names += [model.__name__ for model in of_the_database.values()]
    with captured_by_triggers(*(f"tests.{name}" for name in names)):
        assert outcomes(PlainThing, tmp_path, of_the_database) == expected("triggers")


def test_a_check_names_relations_that_signals_do_not_see(of_the_database):
    found = {model._meta.label: name for name, model in of_the_database.items()}
    with override_settings(REST_CHANNELS={"CAPTURE": "signals"}):
        messages = check_relations()
    assert {(m.id, m.obj.model._meta.label) for m in messages} == {
        ("rest_channels.W014", label) for label in found
    }
    for message in messages:
        label = message.obj.model._meta.label
        assert f"{label}.keeper has on_delete={found[label]}: " in message.msg
        assert "CAPTURE" in message.hint


@pytest.mark.parametrize(
    "seen", [{"CAPTURE": None}, {"CAPTURE": "triggers"}, {"CAPTURE_MODELS": ["tests.Keeper"]}]
)
def test_no_relations_are_named_that_are_seen_or_not_captured(seen, of_the_database):
    with override_settings(REST_CHANNELS={"CAPTURE": "signals", **seen}):
        assert check_relations() == []
