"""The database goes and comes back: sockets stay, and everything catches up."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from django.db import connection

from tests.live.clients import Client, listed
from tests.live.victims import Victim, VictimServer, migrate
from tests.models import Room
from tests.servers import answer, ask, reply

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def migrated(own_postgresql):
    with Victim(migrate, database=own_postgresql.database) as migrating:
        assert not migrating.has_stopped()
    return own_postgresql


def is_unavailable(refused):
    if refused["response_status"] == 503:
        assert int(refused["headers"]["Retry-After"]) > 0
    return (refused["response_status"], refused.get("codes")) == (503, ["unavailable"])


def everything_is_unavailable(client, writer):
    for action, keys in [
        ("list", {}),
        ("create", {"data": {"name": "lost"}}),
        ("subscribe", {"request_id": "new", "snapshot": True}),
    ]:
        for socket in (writer, client.socket):
            assert is_unavailable(answer(socket, action, **keys)), action


def answered(socket, action, **keys):
    """
    The answer once there is one: a thread finds out that its connection is gone with the first
    frame that it answers by it.
    """
    for _ in range(20):
        given = answer(socket, action, **keys)
        if not is_unavailable(given):
            return given
    raise AssertionError(given)


def everything_goes_on(server, client, writer):
    """On the sockets that there were."""
    assert answered(writer, "create", data={"name": "afterwards"})["response_status"] == 201
    client.take_until(listed(server))
    assert client.held[-1]["name"] == "afterwards"
    assert answered(writer, "subscribe", request_id="new")["response_status"] == 201


@pytest.mark.only_on("postgresql")
def test_postgresql_is_stopped_and_started(migrated):
    database = migrated.database
    serving = VictimServer(database=database, POLL_SECONDS=0.05)
    with serving as server, server.connect("/") as writer:
        client = Client().subscribe(server)
        assert answer(writer, "create", data={"name": "before"})["response_status"] == 201
        assert client.take() == "create"
        for _ in range(2):
            migrated.stop()
            everything_is_unavailable(client, writer)
            with server.connect("/", additional_headers={"authorization": "1"}) as late:
                assert is_unavailable(answer(late, "list"))
            migrated.start()
        everything_goes_on(server, client, writer)
        client.leave()


@pytest.mark.only_on("postgresql")
def test_connections_are_ended_under_load():
    database = {**connection.settings_dict, "CONN_MAX_AGE": None}
    rooms = [Room.objects.create(name=f"room-{number}") for number in range(3)]
    with VictimServer(database=database, POLL_SECONDS=0.05) as server:
        client, writers = Client().subscribe(server), []
        for _ in range(3):
            writers.append(server.connect("/").__enter__())
        statuses = set()
        for round_ in range(20):
            for writer, room in zip(writers, rooms, strict=True):
                name = f"{room.pk}-in-{round_}"
                ask(writer, "partial_update", pk=room.pk, data={"name": name})
            end_connections()
            statuses |= {reply(writer)["response_status"] for writer in writers}
        assert statuses == {200, 503}
        everything_goes_on(server, client, writers[0])
        for socket in (client, *writers):
            socket.leave() if socket is client else socket.close()


def end_connections():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.only_on("sqlite")
def test_sqlite_is_locked(tmp_path):
    # Its own: without a log of writes, with which readers need not wait for those who write.
    name = str(tmp_path / "locked.sqlite3")
    given = connection.settings_dict
    database = {**given, "NAME": name, "OPTIONS": {**given["OPTIONS"], "timeout": 0.05}}
    with Victim(migrate, database=database) as migrating:
        assert not migrating.has_stopped()
    serving = VictimServer(database=database, POLL_SECONDS=0.05)
    with serving as server, server.connect("/") as writer:
        client = Client().subscribe(server)
        assert answer(writer, "create", data={"name": "before"})["response_status"] == 201
        assert client.take() == "create"
        with closing(sqlite3.connect(name)) as other:
            other.execute("BEGIN EXCLUSIVE")
            everything_is_unavailable(client, writer)
        everything_goes_on(server, client, writer)
        client.leave()
