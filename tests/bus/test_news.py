"""Without a channel layer, the database brings the news of other processes' writes."""

from __future__ import annotations

import os
import queue
import threading
import time
from itertools import pairwise

import pytest
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from django.test.utils import CaptureQueriesContext

from rest_channels.bus import news, notifications
from rest_channels.bus.notifications import CHANNEL, PostgreSQLBell
from rest_channels.live.log import store
from rest_channels.live.log.positions import Position
from rest_channels.live.log.sequencer import sequence
from tests.models import Room
from tests.support.killable_processes import Victim, VictimServer, migrate, write
from tests.support.recorded_changes import another_program
from tests.support.room_client import Client, listed
from tests.support.server_processes import run_in_process
from tests.support.stepped_processes import SECONDS

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nothing_is_told_beside_the_test():
    # To make the tables is to write.
    news.stop(SECONDS)
    yield
    news.stop(SECONDS)


class Ear:
    """A follower that notes what a bell does."""

    def __init__(self) -> None:
        self.is_over = False
        self.has_no_pass = True
        self.place = Position(0, 0)
        self.rings: queue.Queue[str] = queue.Queue()
        self.was_asked = threading.Event()

    @property
    def is_idle(self) -> bool:
        self.was_asked.set()
        return self.has_no_pass

    def on_news(self) -> None:
        self.rings.put("look")

    def hears(self) -> bool:
        return self.rings.get(timeout=SECONDS) == "look"


# The poll comes after an hour: what arrives has come by the news.


def test_a_process_without_subscribers_is_heard():
    with VictimServer(POLL_SECONDS=3600) as server:
        client = Client().subscribe(server)
        for name in ("one", "two", "three"):
            with Victim(write, name) as writing:
                assert not writing.has_stopped()
            client.take_until(listed(server))
            assert client.held[-1]["name"] == name
        client.leave()


def test_servers_hear_of_each_other():
    with VictimServer(POLL_SECONDS=3600) as one, VictimServer(POLL_SECONDS=3600) as other:
        client, another = Client().subscribe(one), Client().subscribe(other)
        Room.objects.create(name="lobby")
        for each in (client, another):
            each.take_until(listed(one))
            assert each.held[-1]["name"] == "lobby"
            each.leave()


# SQLite


@pytest.mark.only_on("sqlite")
def test_another_program_is_heard():
    with VictimServer(POLL_SECONDS=3600) as server:
        client = Client().subscribe(server)
        with another_program() as run:
            run("INSERT INTO tests_room (id, name, is_staff_only) VALUES (7, 'attic', false)")
        client.take_until(listed(server))
        assert client.held[-1]["name"] == "attic"
        client.leave()


@pytest.mark.only_on("sqlite")
def test_a_commit_that_a_pass_has_seen_rings_nothing():
    ear = Ear()
    ear.place = store.head("default")
    news.listen("default", ear)
    Room.objects.create(name="lobby")
    assert ear.hears()
    # A pass, which commits, too.
    ear.has_no_pass = False
    sequence("default")
    ear.place = store.head("default")
    while not ear.rings.empty():
        ear.rings.get()
    ear.was_asked.clear()
    ear.has_no_pass = True
    assert ear.was_asked.wait(SECONDS)
    news.stop(SECONDS)
    assert ear.rings.empty()


@pytest.mark.only_on("sqlite")
def test_a_commit_beside_a_pass_is_seen_after_it():
    ear = Ear()
    ear.place = store.head("default")
    ear.has_no_pass = False
    news.listen("default", ear)
    Room.objects.create(name="lobby")
    sequence("default")
    for _ in range(2):
        ear.was_asked.clear()
        assert ear.was_asked.wait(SECONDS)
    assert ear.rings.empty()
    ear.has_no_pass = True
    assert ear.hears()


@pytest.mark.only_on("sqlite")
def test_a_look_is_one_pragma_while_nothing_is_written():
    asked: queue.Queue[str] = queue.Queue()

    def trace(connection, **kwargs):
        if threading.current_thread().name == "rest_channels.news":
            connection.connection.set_trace_callback(asked.put)

    connection_created.connect(trace)
    try:
        ear = Ear()
        ear.place = store.head("default")
        news.listen("default", ear)
        pragma, end, *looks = [asked.get(timeout=SECONDS) for _ in range(5)]
    finally:
        connection_created.disconnect(trace)
    assert end.startswith('SELECT "position", "mark"')
    assert {pragma, *looks} == {"PRAGMA data_version"}


@pytest.mark.only_on("sqlite")
def test_the_last_one_to_leave_ends_the_looks():
    one, other = Ear(), Ear()
    for ear in (one, other):
        news.listen("default", ear)
    (thread,) = listening_threads()
    news.stop_listening("default", one)
    assert thread.is_alive()
    news.stop_listening("default", other)
    thread.join(SECONDS)
    assert not thread.is_alive()


@pytest.mark.only_on("sqlite")
def test_a_follower_whose_loop_has_been_closed_ends_the_looks():
    ear = Ear()
    news.listen("default", ear)
    (thread,) = listening_threads()
    ear.is_over = True
    thread.join(SECONDS)
    assert not thread.is_alive()


def listening_threads():
    return [thread for thread in threading.enumerate() if thread.name == "rest_channels.news"]


# PostgreSQL


@pytest.mark.only_on("postgresql")
def test_a_program_that_ends_at_once_is_heard():
    with VictimServer(POLL_SECONDS=3600) as server:
        client = Client().subscribe(server)
        run_in_process(
            "from tests.models import Room; Room.objects.create(name='command')",
            {
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "PGDATABASE": connection.settings_dict["NAME"],
            },
        )
        client.take_until(listed(server))
        assert client.held[-1]["name"] == "command"
        client.leave()


@pytest.fixture
def ear():
    """One that listens: it was rung once, for what was written before."""
    ear = Ear()
    news.listen("default", ear)
    assert ear.hears()
    return ear


def notify():
    with connection.cursor() as cursor:
        cursor.execute(f"NOTIFY {CHANNEL}")


@pytest.mark.only_on("postgresql")
def test_a_process_does_not_hear_itself(ear):
    news.tell("default")
    news.flush()
    notify()
    assert ear.hears()
    news.stop(SECONDS)
    assert ear.rings.empty()


@pytest.mark.only_on("postgresql")
def test_the_last_one_to_leave_closes_the_connection(ear):
    assert listeners() == 1
    (thread,) = listening_threads()
    news.stop_listening("default", ear)
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert listeners() == 0


@pytest.mark.only_on("postgresql")
def test_a_connection_that_is_ended_is_made_again(ear):
    for _ in range(2):
        end_listeners()
        assert ear.hears()
        notify()
        assert ear.hears()


@pytest.mark.only_on("postgresql")
def test_a_server_that_is_started_again_is_listened_to(own_postgresql):
    database = own_postgresql.database
    with Victim(migrate, database=database) as migrating:
        assert not migrating.has_stopped()
    with VictimServer(database=database, POLL_SECONDS=3600) as server:
        client = Client().subscribe(server)
        own_postgresql.stop()
        own_postgresql.start()
        with Victim(write, "afterwards", database=database) as writing:
            assert not writing.has_stopped()
        client.take_until(listed(server))
        assert client.held[-1]["name"] == "afterwards"
        client.leave()


@pytest.mark.only_on("postgresql")
def test_no_statement_of_the_writer_notifies(ear):
    with CaptureQueriesContext(connection) as asked:
        with transaction.atomic():
            Room.objects.create(name="lobby")
        Room.objects.update(name="hall")
    assert asked.captured_queries
    assert "NOTIFY" not in str(asked.captured_queries).upper()


@pytest.fixture
def executed(monkeypatch):
    """When bells ran which statement."""
    executed: queue.Queue[tuple[str, float]] = queue.Queue()
    execute = PostgreSQLBell._execute

    def noting(self, sql):
        executed.put((sql, time.monotonic()))
        execute(self, sql)

    monkeypatch.setattr(PostgreSQLBell, "_execute", noting)
    return executed


@pytest.mark.only_on("postgresql")
def test_many_writes_are_a_notification_every_few_milliseconds(executed):
    for number in range(200):
        Room.objects.create(name=str(number))
    news.flush()
    told = [executed.get() for _ in range(executed.qsize())]
    assert {sql for sql, _ in told} == {f"NOTIFY {CHANNEL}"}
    assert all(later - earlier >= 0.005 for (_, earlier), (_, later) in pairwise(told))


@pytest.mark.only_on("postgresql")
def test_an_idle_process_checks_its_connection_and_asks_nothing_else(executed, monkeypatch):
    monkeypatch.setattr(notifications, "_SECONDS_BETWEEN_CHECKS", 0.01)
    news.listen("default", Ear())
    asked = [executed.get(timeout=SECONDS)[0] for _ in range(4)]
    assert asked == [f"LISTEN {CHANNEL}", "SELECT 1", "SELECT 1", "SELECT 1"]


@pytest.mark.only_on("postgresql")
def test_a_pooler_in_transaction_mode_is_noticed_once(own_pgbouncer, executed, monkeypatch, caplog):
    at_the_pooler = connections["default"].settings_dict
    monkeypatch.setattr(notifications, "_SECONDS_TO_BE_HEARD", 0.5)
    monkeypatch.setattr(notifications, "_SECONDS_BETWEEN_CHECKS", 0.01)
    monkeypatch.setattr(notifications, "_silent", set())
    monkeypatch.setitem(at_the_pooler, "HOST", "127.0.0.1")
    monkeypatch.setitem(at_the_pooler, "PORT", own_pgbouncer.port)
    ear = Ear()
    news.listen("default", ear)
    tries = [executed.get(timeout=SECONDS)[0] for _ in range(4)]
    news.stop(SECONDS)
    assert tries == [f"LISTEN {CHANNEL}", f"UNLISTEN {CHANNEL}"] * 2
    assert ear.rings.empty()
    (logged,) = [record for record in caplog.records if record.name == "rest_channels"]
    assert "POLL_SECONDS" in logged.getMessage()


@pytest.mark.only_on("postgresql")
def test_a_server_that_refuses_to_be_listened_to_is_left_to_the_poll(executed, monkeypatch, caplog):
    monkeypatch.setattr(notifications, "CHANNEL", "'no channel'")
    monkeypatch.setattr(notifications, "_SECONDS_BETWEEN_CHECKS", 0.01)
    monkeypatch.setattr(notifications, "_silent", set())
    news.listen("default", Ear())
    tries = [executed.get(timeout=SECONDS)[0] for _ in range(3)]
    news.stop(SECONDS)
    assert tries == ["LISTEN 'no channel'"] * 3
    (logged,) = [record for record in caplog.records if record.name == "rest_channels"]
    assert "POLL_SECONDS" in logged.getMessage()


@pytest.mark.only_on("postgresql")
def test_behind_a_pooler_the_poll_sees_what_others_write(own_pgbouncer):
    given = connections["default"].settings_dict
    database = {**given, "HOST": "127.0.0.1", "PORT": own_pgbouncer.port}
    with VictimServer(database=database, POLL_SECONDS=0.05) as server:
        client = Client().subscribe(server)
        with Victim(write, "lobby") as writing:
            assert not writing.has_stopped()
        client.take_until(listed(server))
        assert client.held[-1]["name"] == "lobby"
        client.leave()


def fork(stage):
    """Parent and child each tell what they have; the child ends first."""
    ear = Ear()
    news.listen("default", ear)
    assert ear.hears()
    child = os.fork()
    if child == 0:
        assert not news.is_listening("default")
        news.tell("default")
        news.flush()
        os._exit(0)
    stage.tell(ear.hears())
    stage.tell(os.waitpid(child, 0)[1])
    notify()
    stage.tell(ear.hears())


@pytest.mark.only_on("postgresql")
def test_a_forked_child_has_a_connection_of_its_own():
    with Victim(fork) as parent:
        assert [parent.hears() for _ in range(3)] == [True, 0, True]


LISTENERS = (
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND query LIKE 'LISTEN%'"
)


def listeners():
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) {LISTENERS}")
        return cursor.fetchone()[0]


def end_listeners():
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) {LISTENERS}")
