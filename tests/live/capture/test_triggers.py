"""The database itself notes rows by their keys, and never at the writer's cost."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from datetime import timezone as fixed
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection, models, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from rest_channels.live.capture import triggers, writes
from rest_channels.live.keys import key_of
from rest_channels.live.log.sequencer import sequence
from rest_channels.models import PendingChange
from tests.models import Book, Classic, Item, Novel, Room, Shelf, Tag, Toy
from tests.support.recorded_changes import (
    another_program,
    captured_by_triggers,
    forget_log,
    logged,
    noted,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_triggers")]

# For what is only to be seen once it is committed, or on other connections.
committing = pytest.mark.django_db(transaction=True)


class Day(models.Model):
    day = models.DateField(primary_key=True)

    class Meta:
        app_label = "tests"


class Moment(models.Model):
    at = models.DateTimeField(primary_key=True)
    note = models.CharField(max_length=50)

    class Meta:
        app_label = "tests"


class Price(models.Model):
    """A key of a kind that may be written in two ways."""

    price = models.DecimalField(primary_key=True, max_digits=8, decimal_places=2)

    class Meta:
        app_label = "tests"


class Shouting(models.CharField):
    """A field of a project's own, whose values are others in Python."""

    def from_db_value(self, value, expression, connection):
        return value and value.upper()


class Word(models.Model):
    word = Shouting(primary_key=True, max_length=50)

    class Meta:
        app_label = "tests"


class Odd(models.Model):
    """Names that have to be quoted."""

    key = models.CharField(primary_key=True, max_length=50, db_column="Kéy of it's own {updated}")
    value = models.IntegerField(default=0, db_column="select")

    class Meta:
        app_label = "tests"
        db_table = "Odd table, {deleted}"


class Player(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        app_label = "tests"


class Team(models.Model):
    name = models.CharField(max_length=50)
    players = models.ManyToManyField(Player, through="Contract", related_name="teams")

    class Meta:
        app_label = "tests"


class Contract(models.Model):
    team = models.ForeignKey(Team, models.CASCADE)
    player = models.ForeignKey(Player, models.CASCADE)
    pay = models.IntegerField(default=0)

    class Meta:
        app_label = "tests"


@pytest.fixture
def by_triggers():
    with captured_by_triggers():
        yield


def execute(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


# Rows


def test_created_updated_deleted(by_triggers):
    shelf = Shelf.objects.create(name="left")
    key = str(shelf.pk)
    shelf.name = "right"
    shelf.save()
    shelf.delete()
    assert noted() == [("Shelf", key, "create"), ("Shelf", key, "update"), ("Shelf", key, "delete")]


@committing
def test_by_raw_sql_and_what_a_change_says(by_triggers):
    # SQLite tells the second, its clock and ours the same one.
    before = timezone.now().replace(microsecond=0)
    with transaction.atomic():
        execute("INSERT INTO tests_shelf (id, name) VALUES (7, 'left'), (8, 'right')")
        execute("UPDATE tests_shelf SET name = 'both'")
    execute("DELETE FROM tests_shelf WHERE id = 7")
    changes = list(PendingChange.objects.order_by("id"))
    assert all(before <= change.created_at <= timezone.now() for change in changes)
    assert {change.fields for change in changes} == {None}
    if connection.vendor == "postgresql":
        tokens = [change.transaction for change in changes]
        assert tokens[0] and len({*tokens[:4]}) == 1 and tokens[4] > tokens[0]
    assert sorted(noted()) == sorted(
        [(("Shelf"), key, kind) for key in "78" for kind in ("create", "update")]
        + [("Shelf", "7", "delete")]
    )


def test_a_statement_that_writes_no_row(by_triggers):
    execute("UPDATE tests_shelf SET name = 'left'")
    execute("DELETE FROM tests_book_tags")
    assert noted() == []


def test_rolled_back(by_triggers):
    with transaction.atomic():
        Shelf.objects.create(pk=1)
        with pytest.raises(RuntimeError), transaction.atomic():
            execute("INSERT INTO tests_shelf (id, name) VALUES (2, 'left')")
            raise RuntimeError
    assert noted() == [("Shelf", "1", "create")]


def test_two_tables_are_two_rows(by_triggers):
    novel = Novel.objects.create(title="Emma", plot="A match.")
    key = str(novel.pk)
    assert noted() == [("Book", key, "create"), ("Novel", key, "create")]
    Novel.objects.update(title="Sense")
    assert noted() == [("Book", key, "update")]
    Novel.objects.update(plot="Two sisters.")
    assert noted() == [("Novel", key, "update")]
    novel.delete()
    assert sorted(noted()) == [("Book", key, "delete"), ("Novel", key, "delete")]


def test_a_proxy_writes_to_the_table_of_its_model(by_triggers):
    book = Classic.objects.create(title="Emma")
    assert noted() == [("Book", str(book.pk), "create")]


def test_rows_that_lose_their_reference(by_triggers):
    shelf = Shelf.objects.create()
    book = Book.objects.create(shelf=shelf)
    forget_log()
    key = str(shelf.pk)
    shelf.delete()
    assert noted() == [("Book", str(book.pk), "update"), ("Shelf", key, "delete")]


# Keys: `keys.key_of`, in SQL


def stored(model, pk):
    """The row's key as passes know it: by what is read."""
    return key_of(model, model.objects.get(pk=pk).pk)


@pytest.mark.parametrize(
    ("model", "pk"),
    [
        (Shelf, 7),
        (Shelf, 2**62),
        (Tag, uuid.UUID("0A6E1D0C-6A1F-4B8B-9B1E-0F7F6F0A0B0C")),
        (Session, "it's a 'key' of \\ 100 % né"),
        (Session, "7"),
        (Odd, "a b"),
        (Day, date(2024, 2, 29)),
        (Day, date(44, 3, 15)),
        (Day, date(9999, 12, 31)),
        (Moment, datetime(2024, 2, 29, 12, 30, tzinfo=UTC)),
        (Moment, datetime(2024, 2, 29, 12, 30, 1, 50, tzinfo=UTC)),
        (Moment, datetime(2024, 2, 29, 23, 30, tzinfo=fixed(timedelta(hours=-2)))),
        (Moment, datetime(2024, 2, 29, 23, 30, 0, 120_000, tzinfo=UTC)),
        (Novel, 70),
        (Price, Decimal("1.5")),
        (Price, Decimal("-0.00")),
    ],
)
def test_keys_are_those_of_the_rows(model, pk):
    with captured_by_triggers(model._meta.label):
        others = {"expire_date": timezone.now()} if model is Session else {}
        model(pk=pk, **others).save(force_insert=True)
        key = stored(model, pk)
        rows = model.objects.filter(pk=pk)
        # Each changes some column, or sets what is there.
        name = next(
            iter([f for f in model._meta.local_fields if not f.primary_key] or [None]), None
        )
        if name is not None:
            assert rows.update(**{name.attname: models.F(name.attname)}) == 1
        models.QuerySet(model).filter(pk=pk)._raw_delete("default")
        kinds = ["create", "update", "delete"] if name is not None else ["create", "delete"]
        label = model._meta.label.removeprefix("tests.")
        assert noted() == [(label, key, kind) for kind in kinds]


def test_keys_that_may_be_written_in_two_ways_are_none():
    with captured_by_triggers("tests.Word"):
        Word(pk="hush").save(force_insert=True)
        Word.objects.all().delete()
        assert noted() == [("Word", None, "create"), ("Word", None, "delete")]


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("day", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01"])
def test_what_python_cannot_read_has_no_key(day):
    with captured_by_triggers("tests.Day", "tests.Moment"):
        execute("INSERT INTO tests_day VALUES (%s)", [day])
        execute("INSERT INTO tests_moment VALUES (%s, '')", [day])
        assert noted() == [("Day", None, "create"), ("Moment", None, "create")]


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize(
    ("table", "value"),
    [
        ("tests_day", "2024-2-9"),
        ("tests_moment", "2024-02-29T12:30:00"),
        ("tests_moment", "2024-02-29 12:30:00.5"),
        ("tests_moment", "2024-02-29 12:30:00.000000"),
        ("tests_tag", "0A6E1D0C-6A1F-4B8B-9B1E-0F7F6F0A0B0C"),
    ],
)
def test_what_django_would_write_in_another_way_has_no_key(table, value):
    with captured_by_triggers("tests.Day", "tests.Moment", "tests.Tag"):
        execute(f"INSERT INTO {table} VALUES (%s{'' if table == 'tests_day' else ', 1'})", [value])
        assert [key for _, key, _ in noted()] == [None]


@committing
def test_without_time_zones(settings):
    settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"
    connection.close()
    try:
        with captured_by_triggers("tests.Moment"):
            at = datetime(2024, 7, 1, 12, 30)
            Moment.objects.create(at=at)
            [change] = PendingChange.objects.all()
            assert change.key == stored(Moment, at) == "2024-07-01 12:30:00"
            assert abs(change.created_at - timezone.now()) < timedelta(minutes=1)
    finally:
        connection.close()


def test_a_row_that_gets_another_key():
    with captured_by_triggers("tests.Shelf", "tests.Novel"):
        Shelf.objects.create(pk=1)
        Shelf.objects.create(pk=2)
        forget_log()
        Shelf.objects.filter(pk=1).update(id=7)
        assert sorted(noted()) == [("Shelf", "1", "delete"), ("Shelf", "7", "create")]


@pytest.mark.only_on("postgresql")
def test_keys_that_move_on_in_one_statement(by_triggers):
    for pk in (3, 2, 1):
        # In this order none meets another on the way.
        Shelf.objects.create(pk=pk)
    forget_log()
    execute("UPDATE tests_shelf SET id = id + 1")
    assert sorted(noted()) == [
        ("Shelf", "1", "delete"),
        ("Shelf", "2", "update"),
        ("Shelf", "3", "update"),
        ("Shelf", "4", "create"),
    ]


@pytest.mark.only_on("postgresql")
def test_what_the_database_writes_itself_at_the_commit(by_triggers):
    """Constraint triggers may be deferred; what they write has its place after all others."""
    Item.objects.create(pk=1, name="a")
    forget_log()
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    execute("SET CONSTRAINTS ALL DEFERRED")
    execute(
        "CREATE FUNCTION pg_temp.count() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN UPDATE tests_item SET version = version + 1; RETURN NULL; END'"
    )
    execute(
        "CREATE CONSTRAINT TRIGGER later AFTER INSERT ON tests_shelf DEFERRABLE INITIALLY "
        "DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.count()"
    )
    Shelf.objects.create(pk=7)
    Room.objects.create(pk=8, name="lobby")
    assert PendingChange.objects.filter(model="tests.Item").count() == 0
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert len(set(PendingChange.objects.values_list("transaction", flat=True))) == 1
    assert noted() == [("Shelf", "7", "create"), ("Room", "8", "create"), ("Item", "1", "update")]


# Tables between others


def test_links(by_triggers):
    book, tag = Book.objects.create(), Tag.objects.create()
    forget_log()
    both = [("Book", str(book.pk), "update"), ("Tag", str(tag.pk), "update")]
    links = ("Book_tags", None, "update")
    for write in (
        lambda: book.tags.add(tag),
        lambda: book.tags.remove(tag),
        lambda: tag.books.add(book),
        lambda: tag.books.clear(),
        lambda: book.tags.set([tag]),
        lambda: execute("DELETE FROM tests_book_tags"),
    ):
        write()
        assert noted() == [*both, links]


def test_links_written_anew(by_triggers):
    book, one, other = Book.objects.create(), Tag.objects.create(), Tag.objects.create()
    book.tags.add(one)
    forget_log()
    Book.tags.through.objects.update(tag=other)
    assert sorted(noted(), key=str) == [
        ("Book", None, "update"),
        ("Book_tags", None, "update"),
        ("Tag", None, "update"),
    ]


def test_links_of_which_one_side_is_captured():
    with captured_by_triggers("tests.Tag"):
        book, tag = Book.objects.create(), Tag.objects.create()
        forget_log()
        book.tags.add(tag)
        assert noted() == [("Tag", str(tag.pk), "update")]


def test_links_of_a_model_of_ones_own(by_triggers):
    team, player = Team.objects.create(), Player.objects.create()
    forget_log()
    team.players.add(player)
    contract = Contract.objects.get()
    both = [("Team", str(team.pk), "update"), ("Player", str(player.pk), "update")]
    own = ("Contract", str(contract.pk))
    assert noted() == [*both, (*own, "create")]
    contract.save()
    assert noted() == [(*own, "update")]
    team.players.remove(player)
    assert noted() == [*both, (*own, "delete")]


# Many rows


def fill(count):
    forget_log()
    Shelf.objects.bulk_create(Shelf(pk=pk) for pk in range(1, count + 1))


def test_many_rows_are_one_change_of_the_table(monkeypatch):
    monkeypatch.setattr(writes, "MAX_ROWS", 5)
    with captured_by_triggers("tests.Shelf"):
        fill(6)
        sequence("default")
        Shelf.objects.update(name="left")
        sequence("default")
        Shelf.objects.filter(pk=1).delete()
        sequence("default")
        Shelf.objects.update(name="right")
        Shelf.objects.all()._raw_delete("default")
        sequence("default")
    table = ("Shelf", None, "update")
    five = sorted(("Shelf", str(pk), "update") for pk in range(2, 7))
    gone = sorted(("Shelf", str(pk), "delete") for pk in range(2, 7))
    found = logged()
    assert found[:3] == [table, table, ("Shelf", "1", "delete")]
    assert sorted(found[3:8]) == five
    assert sorted(found[8:]) == gone


# What goes wrong is not the writer's affair


@committing
@pytest.mark.only_on("postgresql")
def test_a_log_that_is_gone(by_triggers):
    execute("ALTER TABLE rest_channels_pendingchange RENAME TO gone")
    try:
        with transaction.atomic():
            Shelf.objects.create(pk=1)
            Shelf.objects.update(name="left")
        Shelf.objects.all().delete()
    finally:
        execute("ALTER TABLE gone RENAME TO rest_channels_pendingchange")
    assert noted() == []


@committing
@pytest.mark.only_on("postgresql")
def test_a_key_that_is_gone_leaves_a_change_of_the_table(by_triggers):
    execute("ALTER TABLE tests_sensor RENAME COLUMN id TO number")
    try:
        execute("INSERT INTO tests_sensor (name) VALUES ('t')")
        assert noted() == [("Sensor", None, "update")]
    finally:
        execute("ALTER TABLE tests_sensor RENAME COLUMN number TO id")


@committing
@pytest.mark.only_on("postgresql")
def test_who_may_write_to_the_table_alone(by_triggers):
    """Rights on the log's tables are those of who migrates."""
    role = f"rest_channels_writer_{uuid.uuid4().hex[:8]}"
    execute(f"CREATE ROLE {role}")
    try:
        execute(f"GRANT INSERT, UPDATE, DELETE, SELECT ON tests_shelf TO {role}")
        with transaction.atomic():
            execute(f"SET LOCAL ROLE {role}")
            # Nor may the writer lead it astray.
            execute("CREATE TEMP TABLE rest_channels_pendingchange (LIKE tests_shelf)")
            execute("SET LOCAL search_path = pg_temp")
            execute("INSERT INTO public.tests_shelf (id, name) VALUES (7, 'left')")
            execute("DROP TABLE pg_temp.rest_channels_pendingchange")
        assert noted() == [("Shelf", "7", "create")]
    finally:
        execute(f"DROP OWNED BY {role}")
        execute(f"DROP ROLE {role}")


@pytest.mark.only_on("postgresql")
def test_truncate(by_triggers):
    execute("TRUNCATE tests_item, tests_toy")
    assert sorted(noted()) == [("Item", None, "update"), ("Toy", None, "update")]


@pytest.mark.only_on("postgresql")
def test_a_row_that_is_inserted_or_updated(by_triggers):
    Item.objects.create(pk=1, name="a")
    forget_log()
    execute(
        "INSERT INTO tests_item (id, name, version) VALUES (2, 'b', 0), (3, 'a', 0) "
        "ON CONFLICT (name) DO UPDATE SET version = 7"
    )
    assert sorted(noted()) == [("Item", "1", "update"), ("Item", "2", "create")]


@pytest.mark.only_on("sqlite")
def test_a_row_that_is_replaced(by_triggers):
    """SQLite tells of rows that REPLACE deletes only where `recursive_triggers` are on."""
    Item.objects.create(pk=1, name="a")
    forget_log()
    execute("INSERT OR REPLACE INTO tests_item (id, name, version) VALUES (1, 'b', 0)")
    assert noted() == [("Item", "1", "create")]
    execute("INSERT OR REPLACE INTO tests_item (id, name, version) VALUES (2, 'b', 0)")
    assert noted() == [("Item", "2", "create")]
    execute("PRAGMA recursive_triggers = ON")
    try:
        execute("INSERT OR REPLACE INTO tests_item (id, name, version) VALUES (3, 'b', 0)")
        assert sorted(noted()) == [("Item", "2", "delete"), ("Item", "3", "create")]
    finally:
        execute("PRAGMA recursive_triggers = OFF")


# What it costs a process with Django


def test_no_query_more(by_triggers, django_assert_num_queries):
    item = Item.objects.create(name="a")
    with django_assert_num_queries(1):
        item.save()
    with django_assert_num_queries(1):
        models.QuerySet(Item).update(version=1)
    with transaction.atomic(), django_assert_num_queries(3):
        # A LiveManager says which fields.
        Item.objects.update(version=1)
    with django_assert_num_queries(1):
        Toy.objects.all()._raw_delete("default")
    with transaction.atomic(), django_assert_num_queries(2):
        Item.objects.bulk_create([Item(name="b"), Item(name="c")], batch_size=1)
    with CaptureQueriesContext(connection) as queries:
        Room.objects.all().delete()
    assert not any("rest_channels" in query["sql"] for query in queries)


@committing
def test_the_doorbell_rings_once_it_is_committed(by_triggers, rings):
    shelf = Shelf.objects.create()
    assert rings.seen == [1]
    with transaction.atomic():
        Shelf.objects.create()
        Item.objects.update(version=1)
        shelf.delete()
        assert rings.seen == [1]
    assert rings.seen == [1, 3]
    for count, write in enumerate(
        [
            lambda: Item.objects.bulk_create([Item(name="a")]),
            lambda: Item.objects.update(version=1),
            lambda: Item.objects.all().delete(),
            lambda: User.objects.create(username="ann").groups.add(Group.objects.create()),
        ],
        3,
    ):
        write()
        assert len(rings.seen) >= count
    before = len(rings.seen)
    Item.objects.all().delete()
    assert len(rings.seen) == before


# Another program


@committing
def test_another_program_is_seen(by_triggers):
    with another_program() as run:
        run("INSERT INTO tests_shelf (id, name) VALUES (7, 'left')")
    assert noted() == [("Shelf", "7", "create")]


def test_the_names_of_triggers_say_all_that_they_do(monkeypatch):
    with captured_by_triggers("tests.Shelf"):
        assert triggers.differences("default") == ([], [])
        for module in (triggers.postgresql, triggers.sqlite):
            monkeypatch.setattr(module, "kind_of", lambda field: None)
        found = triggers.differences("default")
        assert found.labels == ["tests.Shelf"]
        assert len(found.left) == 1


def test_the_command(capsys):
    with captured_by_triggers("tests.Shelf", "tests.Room"):
        triggers.remove("default")
        call_command("sync_triggers")
        assert capsys.readouterr().out == "Installed triggers for 2 tables, removed 0 others.\n"
        call_command("sync_triggers")
        assert capsys.readouterr().out == "Installed triggers for 0 tables, removed 0 others.\n"
        call_command("sync_triggers", remove=True)
        assert capsys.readouterr().out == "Removed from 2 tables.\n"


def test_the_command_where_there_are_none(monkeypatch):
    monkeypatch.setattr(triggers, "_BACKENDS", {})
    with pytest.raises(CommandError, match="leave CAPTURE at 'auto'"):
        call_command("sync_triggers")
