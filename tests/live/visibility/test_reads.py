"""The tables that are really read, and depended on: `rest_channels.live.table_names`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.contenttypes.prefetch import GenericPrefetch
from django.db import connection, models
from django.db.models import Count, Func, Prefetch
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework import serializers
from rest_framework.permissions import BasePermission

from rest_channels.consumers.subscription_consumers import ModelSubscribeConsumers
from rest_channels.live import catalogue
from rest_channels.live.table_names import Statement, names_in
from rest_channels.live.visibility import declarations
from rest_channels.live.visibility.clocks import Clock, clock_of, seconds_of_the_day
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Ban, Book, Club, Item, Label, Message, Note, Pin, Room, Shelf, Tag, Toy
from tests.support.stepped_processes import running
from tests.support.subscription_stories import (
    event,
    routes,
    run,
    subscribed,
    told,
    viewset,
    written,
)

pytestmark = pytest.mark.django_db(transaction=True)


def certain(sql):
    return {name.text for name in names_in(sql) if name.is_certain}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('SELECT "a"."b" FROM "a" INNER JOIN "c" ON ("a"."id" = "c"."a_id")', {"a", "c"}),
        ("select max(x) from Shop_Sale s left join shop.prices p on 1", {"shop_sale", "prices"}),
        ("SELECT * FROM `a` JOIN [b] ON 1", {"a", "b"}),
        ('SELECT * FROM "sch"."tab"', {"tab"}),
        ("SELECT ' FROM x ' FROM y -- FROM z\n JOIN /* JOIN u */ w ON 1", {"y", "w"}),
        ("SELECT * FROM (a JOIN b ON 1)", {"a", "b"}),
        ("SELECT x, y FROM a z, b, f(a.x, 1) g, c WHERE x IN (y, w)", {"a", "b", "f", "c"}),
        ("SELECT (SELECT x FROM a), y FROM b ORDER BY c, d", {"a", "b"}),
        ("INSERT INTO a SELECT 1; UPDATE b SET c = 1; DELETE FROM d", {"a", "b", "d"}),
    ],
)
def test_where_tables_stand(sql, expected):
    assert certain(sql) == expected


def test_tables_after_a_comma_may_be_tables_and_columns_are_not():
    names = {name.text for name in names_in('SELECT a.tag, x AS "room" FROM a, b WHERE a.c = %s')}
    assert {"a", "b"} <= names
    assert not {"tag", "room", "c", "s"} & names


def labels(note):
    return sorted(label.name for label in note.labels.all())


WAYS = {
    "joined in a prefetch": (
        lambda: Tag.objects.prefetch_related(
            Prefetch("books", Book.objects.select_related("shelf"))
        ),
        lambda tag: [book.shelf.name for book in tag.books.all()],
        Shelf,
    ),
    "prefetched in a prefetch": (
        lambda: Club.objects.prefetch_related(
            Prefetch("notes", Note.objects.prefetch_related("labels"))
        ),
        lambda club: [labels(note) for note in club.notes.all()],
        Label,
    ),
    "through to_attr": (
        lambda: Club.objects.prefetch_related(
            Prefetch("notes", Note.objects.all(), to_attr="kept"), "kept__labels"
        ),
        lambda club: [labels(note) for note in club.kept],
        Label,
    ),
    "over a generic foreign key": (
        lambda: Pin.objects.prefetch_related("target"),
        lambda pin: pin.target.name,
        Label,
    ),
    "the reverse of a one-to-one": (
        lambda: Item.objects.select_related("toy"),
        lambda item: item.toy.age,
        Toy,
    ),
    "what a serializer fetches": (lambda: Note.objects.all(), labels, Label),
    "what a serializer fetches of its own table": (
        lambda: Label.objects.all(),
        lambda label: sorted(Label.objects.values_list("name", flat=True)),
        Label,
    ),
    "RawSQL": (
        lambda: Club.objects.annotate(n=RawSQL("SELECT MAX(name) FROM tests_label", ())),
        lambda club: club.n,
        Label,
    ),
    "RawSQL without FROM before it": (
        lambda: Club.objects.annotate(
            n=RawSQL("SELECT MAX(L.name) FROM tests_shelf s, tests_label L", ())
        ),
        lambda club: club.n,
        Label,
    ),
    "extra()": (
        lambda: Club.objects.extra(select={"n": "SELECT MAX(name) FROM tests_label"}),
        lambda club: club.n,
        Label,
    ),
}


def make_world():
    shelf = Shelf.objects.create(name="a")
    label = Label.objects.create(name="a")
    Book.objects.create(title="b", shelf=shelf).tags.create(name="t")
    Club.objects.create(name="c").notes.create(text="n").labels.add(label)
    Pin.objects.create(target=label)
    Toy.objects.create(name="toy", age=1)
    # Once cached, it is not read again.
    ContentType.objects.clear_cache()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("capture", ["signals", "triggers"])
def test_every_way_to_read_a_table(way, capture):
    queryset, show, model = WAYS[way]

    def write():
        row = model.objects.get()
        if model is Toy:
            row.age = 7
            # The columns of the child alone.
            row.save(update_fields=["age"])
        else:
            row.name = "z"
            row.save()

    with running(capture) as shared:
        shared.write(make_world)
        process = shared.start()
        socket = process.connect(routes(viewset(queryset(), show)), "/", {})
        _, reply = socket.ask("subscribe", request_id="s", snapshot=True)
        before = reply["data"]
        shared.write(write)
        process.look()
        told_of = {event["data"]["pk"]: event["data"] for event in socket.drain()}
        _, listed = socket.ask("list")
        after = {row["pk"]: row for row in listed["data"]}
        assert after != {row["pk"]: row for row in before}
        assert told_of == after


def test_a_table_that_is_read_once_there_are_rows():
    async def story():
        rows = viewset(Note.objects.all(), labels)
        async with told(routes(rows)) as socket:
            assert await subscribed(socket) == []
            club = await written(Club.objects.create, name="c")
            note = await written(club.notes.create, text="n")
            assert (await event(socket))[0] == "create"
            label = await written(note.labels.create, name="x")
            assert (await event(socket))[1]["shown"] == ["x"]
            label.name = "y"
            await written(label.save)
            while (await event(socket))[1]["shown"] != ["y"]:
                pass

    run(story)


def test_who_resumes_elsewhere_is_told_what_a_serializer_fetches():
    """The process has not shown any row before: it has to find out what they are made of."""
    with running() as shared:
        shared.write(make_world)
        first, second = shared.start(), shared.start()
        application = routes(viewset(Note.objects.all(), labels))
        socket = first.connect(application, "/", {})
        _, reply = socket.ask("subscribe", request_id="s", snapshot=True)
        socket.leave()
        shared.write(lambda: Label.objects.update_or_create(defaults={"name": "z"}))
        socket = second.connect(application, "/", {})
        held = [row["pk"] for row in reply["data"]]
        _, resumed = socket.ask("subscribe", request_id="s", since=reply["position"], held=held)
        assert resumed["resumed"] is True
        (told_of,) = socket.drain()
        assert told_of["data"]["shown"] == ["z"]


def test_who_subscribes_without_a_snapshot_is_told_too():
    async def story():
        await written(make_world)
        async with told(routes(viewset(Note.objects.all(), labels))) as socket:
            await socket.ask("subscribe", request_id="s")
            await written(Label.objects.update_or_create, defaults={"name": "z"})
            assert (await event(socket))[1]["shown"] == ["z"]

    run(story)


class NobodyIsBanned(BasePermission):
    def has_permission(self, request, view):
        with connection.cursor() as cursor:
            cursor.execute("select count(*) from Tests_Ban")
            return cursor.fetchone() == (0,)


def test_a_permission_that_reads_by_sql_of_its_own_is_asked_again():
    """With names as one writes them by hand, unquoted."""

    async def story():
        rows = viewset(Note.objects.all(), labels)
        guarded = type("Guarded", (rows,), {"permission_classes": [NobodyIsBanned]})
        user = await written(User.objects.create, username="ann")
        async with told(routes(guarded)) as socket:
            await subscribed(socket)
            await written(Ban.objects.create, user=user)
            assert (await event(socket))[0] == "revoke"

    run(story)


def test_prefetches_over_a_generic_foreign_key_with_querysets_of_their_own():
    async def story():
        await written(make_world)
        found = GenericPrefetch("target", [Label.objects.annotate(n=Count("notes"))])
        rows = viewset(Pin.objects.prefetch_related(found), lambda pin: pin.target.n)
        async with told(routes(rows)) as socket:
            assert [row["shown"] for row in await subscribed(socket)] == [1]
            await written(lambda: Note.objects.get().labels.clear())
            assert (await event(socket))[1]["shown"] == 0

    run(story)


# What cannot be seen


class Total(models.Model):
    """A view of the database: how many notes there are of each club."""

    club = models.IntegerField(primary_key=True)
    notes = models.IntegerField()

    class Meta:
        app_label = "tests"
        managed = False
        db_table = "tests_totals"


@pytest.fixture
def totals():
    """The view, by way of another one."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE VIEW tests_inner AS SELECT club_id, id FROM tests_note")
        cursor.execute(
            "CREATE VIEW tests_totals AS "
            "SELECT club_id AS club, COUNT(*) AS notes FROM tests_inner GROUP BY club_id"
        )
    catalogue.forget()
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP VIEW tests_totals")
        cursor.execute("DROP VIEW tests_inner")
    catalogue.forget()


def test_a_model_over_a_view_of_the_database(totals):
    async def story():
        club = await written(Club.objects.create, name="c")
        rows = viewset(Total.objects.all(), lambda total: total.notes)
        async with told(routes(rows)) as socket:
            assert await subscribed(socket) == []
            note = await written(club.notes.create, text="n")
            assert await event(socket) == ("create", {"pk": club.pk, "shown": 1})
            await written(club.notes.create, text="m")
            assert await event(socket) == ("update", {"pk": club.pk, "shown": 2})
            await written(note.delete)
            assert await event(socket) == ("update", {"pk": club.pk, "shown": 1})

    run(story)


def test_a_view_after_a_comma(totals):
    async def story():
        club = await written(Club.objects.create, name="c")
        most = RawSQL("SELECT MAX(t.notes) FROM tests_shelf s, tests_totals t", ())
        rows = viewset(Club.objects.annotate(n=most), lambda club: club.n)
        async with told(routes(rows)) as socket:
            await subscribed(socket)
            await written(Shelf.objects.create, name="s")
            await written(club.notes.create, text="n")
            while (await event(socket))[1]["shown"] != 1:
                pass

    run(story)


class NobodyHasNotes(BasePermission):
    def has_permission(self, request, view):
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM tests_totals")
            return cursor.fetchone() == (0,)


def test_a_permission_that_reads_a_view_is_asked_again(totals):
    async def story():
        club = await written(Club.objects.create, name="c")
        rows = viewset(Club.objects.all(), lambda club: club.name)
        guarded = type("Guarded", (rows,), {"permission_classes": [NobodyHasNotes]})
        async with told(routes(guarded)) as socket:
            await subscribed(socket)
            await written(club.notes.create, text="n")
            assert (await event(socket))[0] == "revoke"

    run(story)


FUNCTIONS = {
    "sql": "LANGUAGE sql STABLE AS 'SELECT MAX(name)::text FROM tests_label'",
    "standard sql": "LANGUAGE sql STABLE RETURN (SELECT MAX(name) FROM tests_label)",
    "plpgsql": """
        LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT MAX(name) FROM tests_label); END'
    """,
    "dynamic": """
        LANGUAGE plpgsql STABLE AS $body$
        DECLARE found text;
        BEGIN EXECUTE 'SELECT MAX(name) FROM ' || 'tests_' || 'label' INTO found; RETURN found; END
        $body$
    """,
}


@pytest.fixture
def function(request):
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE FUNCTION tests_last() RETURNS text {request.param}")
    catalogue.forget()
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION tests_last()")
    catalogue.forget()


LAST = Club.objects.annotate(n=Func(function="tests_last", output_field=models.TextField()))


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize(
    "function", [FUNCTIONS[k] for k in FUNCTIONS if k != "dynamic"], indirect=True
)
def test_a_function_of_the_database(function):
    async def story():
        await written(make_world)
        async with told(routes(viewset(LAST, lambda club: club.n))) as socket:
            assert [row["shown"] for row in await subscribed(socket)] == ["a"]
            await written(Label.objects.create, name="z")
            assert (await event(socket))[1]["shown"] == "z"

    run(story)


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("function", [FUNCTIONS["dynamic"]], indirect=True)
def test_a_function_that_does_not_say_what_it_reads(function, caplog):
    async def story():
        await written(make_world)
        async with told(routes(viewset(LAST, lambda club: club.n))) as socket:
            await subscribed(socket)

    run(story)
    assert "do not receive changes of 'tests_last'" in caplog.text


@pytest.mark.only_on("postgresql")
def test_a_materialized_view_is_refused_unless_the_viewset_says_when_to_read_it():
    async def story():
        with_seconds = viewset(Total.objects.all(), lambda row: row.notes, live_seconds=60)
        async with told(routes(viewset(Total.objects.all(), lambda row: row.notes))) as socket:
            reply = await socket.ask("subscribe", request_id="s")
            assert (reply["response_status"], reply["codes"]) == (400, ["cannot_subscribe"])
            assert "live_seconds" in reply["errors"][0]
        async with told(routes(with_seconds)) as socket:
            await subscribed(socket)

    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE MATERIALIZED VIEW tests_totals AS SELECT club_id AS club, COUNT(*) AS notes "
            "FROM tests_note GROUP BY club_id"
        )
    catalogue.forget()
    try:
        run(story)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP MATERIALIZED VIEW tests_totals")
        catalogue.forget()


def test_what_cannot_be_seen_is_logged_once_with_the_way_out(settings, caplog):
    settings.REST_CHANNELS = {"CAPTURE_MODELS": ["tests.Note", "tests.Note_labels", "tests.Club"]}
    catalogue._warned.clear()

    async def story():
        await written(make_world)
        async with told(routes(viewset(Note.objects.all(), labels))) as socket:
            await subscribed(socket)
            await subscribed(socket, request_id="t")

    run(story)
    (line,) = [r.getMessage() for r in caplog.records if "tests_label" in r.getMessage()]
    assert "live_tables" in line
    assert "live_seconds" in line


def test_tables_of_another_database_are_not_seen(monkeypatch):
    read = [Statement("reports", 'SELECT * FROM "tests_label"')]
    # A replica of the database that is followed, which the project names: no router leads there.
    assert "may lag" in catalogue.sources("default", read).unseen["tests_label"]
    monkeypatch.setattr(catalogue.router, "db_for_write", lambda model: "reports")
    assert "another database" in catalogue.sources("default", read).unseen["tests_label"]


def test_tables_without_a_model_are_not_seen():
    read = [Statement("default", "SELECT * FROM legacy_prices JOIN tests_label ON 1 = 1")]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE legacy_prices (price integer)")
    catalogue.forget()
    try:
        found = catalogue.sources("default", read)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE legacy_prices")
        catalogue.forget()
    assert found.labels == {"tests.Label"}
    assert found.unseen == {"legacy_prices": "no model has it"}


def test_consumers_of_a_model_say_it_too():
    class Rooms(ModelSubscribeConsumers):
        model = Room
        live_tables = [Tag]
        live_seconds = 5

    viewset = Rooms.get_viewset()
    assert (viewset.live_tables, viewset.live_seconds) == ([Tag], 5)


class Ledger(models.Model):
    """In a schema of its own."""

    class Meta:
        app_label = "tests"
        managed = False
        db_table = '"books"."Ledger"'


class OtherLedger(models.Model):
    class Meta:
        app_label = "tests"
        managed = False
        db_table = "ledger"


@pytest.mark.parametrize("table", ["ledger", "LEDGER", '"books"."Ledger"', '"ledger"'])
def test_a_live_table_is_every_table_of_the_name(table):
    view = type("View", (), {"live_tables": [table]})
    assert declarations.labels(view) == {"tests.Ledger", "tests.OtherLedger"}


def test_live_tables_are_read_again_with_the_rows():
    """For what is known from elsewhere: here from Python alone."""
    names = {}

    async def story():
        await written(make_world)
        rows = viewset(
            Note.objects.all(), lambda note: names.get("x", 0), live_tables=["tests.Tag"]
        )
        async with told(routes(rows)) as socket:
            await subscribed(socket)
            names["x"] = 1
            await written(Tag.objects.create, name="t")
            assert (await event(socket))[1]["shown"] == 1

    run(story)


def test_live_seconds_read_the_rows_again_although_nobody_writes():
    names = {}
    with running() as shared:
        shared.write(make_world)
        process = shared.start()
        rows = viewset(Note.objects.all(), lambda note: names.get("x", 0), live_seconds=5)
        socket = process.connect(routes(rows), "/", {})
        socket.ask("subscribe", request_id="s", snapshot=True)
        names["x"] = 1
        process.look()
        assert socket.drain() == []
        shared.clock.now += 5
        process.look()
        (told_of,) = socket.drain()
        assert told_of["data"]["shown"] == 1
        shared.clock.now += 5
        process.look()
        assert socket.drain() == []


def test_what_compares_with_a_date_is_asked_again_at_midnight(monkeypatch):
    in_march = datetime(2026, 3, 7, 23, 59, 50, tzinfo=UTC)
    assert seconds_of_the_day(in_march) == 11
    with timezone.override("Asia/Tokyo"):
        assert seconds_of_the_day(in_march - timedelta(hours=9)) == 11
    began = timezone.now()
    of_today = Message.objects.filter(created__date__gte=began.date())
    assert clock_of(of_today, began) is Clock.DAY
    assert clock_of(Message.objects.filter(room__name="x"), began) is None


@pytest.mark.parametrize(
    "sql",
    [
        "until > CURRENT_TIMESTAMP",
        "until > clock_timestamp()",
        "until > now ()",
        "until > datetime('now', '-1 day')",
        "until > localtimestamp",
    ],
)
def test_sql_that_asks_for_the_time(sql):
    assert clock_of(Message.objects.all(), timezone.now(), f"SELECT x WHERE {sql}") is Clock.TIME


@pytest.mark.parametrize("sql", ['"now" > 1', "current_timestamps > 1", "date(created) > 1"])
def test_sql_that_does_not(sql):
    assert clock_of(Message.objects.all(), timezone.now(), f"SELECT x WHERE {sql}") is None


def test_prefetches_that_compare_with_the_time():
    began = timezone.now()
    recent = Message.objects.filter(created__gt=timezone.now() - timedelta(hours=1))
    rooms = Room.objects.prefetch_related(Prefetch("messages", recent))
    assert clock_of(rooms, began) is Clock.TIME
    users = User.objects.prefetch_related(Prefetch("message_set__room", rooms))
    assert clock_of(users, began) is Clock.TIME


def test_rows_that_expire_by_the_databases_own_clock_are_asked_again():
    with running() as shared:
        shared.write(make_world)
        process = shared.start()
        seen = RawSQL("CURRENT_TIMESTAMP", ())
        rows = viewset(Note.objects.annotate(seen=seen), lambda note: str(note.seen))
        socket = process.connect(routes(rows), "/", {})
        _, reply = socket.ask("subscribe", request_id="s", snapshot=True)
        (before,) = reply["data"]
        told_of = []
        while not told_of:
            shared.clock.now += 5
            process.look()
            told_of = socket.drain()
        assert told_of[0]["data"]["shown"] > before["shown"]


class Recent(ModelConsumerViewSet):
    """Messages that have not expired."""

    queryset = Message.objects.order_by("id")
    authentication_classes = permission_classes = []

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Message
            fields = ["id"]


class SinceNow(Recent):
    def get_queryset(self):
        return super().get_queryset().filter(created__gt=timezone.now() - timedelta(seconds=60))


class SinceDatabasesNow(Recent):
    queryset = Message.objects.filter(created__gt=Now() - timedelta(seconds=60)).order_by("id")


@pytest.mark.parametrize("recent", [SinceNow, SinceDatabasesNow])
def test_what_compares_with_the_time_is_asked_again_with_each_lease(recent, settings):
    if recent is SinceDatabasesNow and connection.vendor == "sqlite":
        # SQLite compares dates as text; the rule is the same.
        recent = SinceNow

    def make(seconds):
        room = Room.objects.get_or_create(name="r")[0]
        message = Message.objects.create(room=room, text="x")
        created = timezone.now() - timedelta(seconds=seconds)
        Message.objects.filter(pk=message.pk).update(created=created)
        return message

    with running() as shared:
        fresh, old = shared.write(lambda: (make(0), make(50)))
        process = shared.start()
        socket = process.connect(routes(recent), "/", {})
        _, reply = socket.ask("subscribe", request_id="s", snapshot=True)
        assert [row["id"] for row in reply["data"]] == [fresh.pk, old.pk]
        # It expires; Django says nothing of `update()`.
        created = timezone.now() - timedelta(seconds=70)
        shared.write(lambda: Message.objects.filter(pk=old.pk).update(created=created))
        process.look()
        assert socket.drain() == []
        shared.clock.now += 5
        process.look()
        (told_of,) = socket.drain()
        assert (told_of["action"], told_of["data"]) == ("delete", {"pk": old.pk})
