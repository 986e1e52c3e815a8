"""The database goes and comes back: sockets stay, and everything catches up."""

from __future__ import annotations

import asyncio
import select
import sqlite3
import time
from contextlib import closing
from unittest import mock

import pytest
from django.db import connection, connections

from rest_channels.workers.threads import shutdown_all, workers
from tests.models import Room
from tests.support.killable_processes import Victim, VictimServer, migrate
from tests.support.room_client import Client, listed
from tests.support.server_processes import answer, ask, reply

pytestmark = pytest.mark.django_db(transaction=True)

# The name of this module's servers: connections of the tests are left alone.
SERVER = "rest_channels_server"


def database_of_server(**keys):
    options = {**connection.settings_dict["OPTIONS"], "application_name": SERVER}
    return {**connection.settings_dict, "OPTIONS": options, **keys}


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
    database = database_of_server(CONN_MAX_AGE=None)
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
        assert {200} <= statuses <= {200, 503}
        everything_goes_on(server, client, writers[0])
        for socket in (client, *writers):
            socket.leave() if socket is client else socket.close()


@pytest.mark.only_on("postgresql")
def test_no_frame_fails_by_a_connection_that_has_ended():
    database = database_of_server(CONN_MAX_AGE=0)
    with VictimServer(database=database) as server, server.connect("/") as socket:
        for _ in range(10):
            assert answer(socket, "list")["response_status"] == 200
            assert end_connections() >= 1
            wait_for_their_end()


@pytest.mark.only_on("postgresql")
def test_a_connection_is_asked_whether_it_is_there_only_where_that_is_in_doubt(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 1}

    async def asked(times, later=0.0):
        now, wrapper = time.monotonic, type(connections["default"])
        with (
            mock.patch.object(wrapper, "is_usable", return_value=True) as is_usable,
            mock.patch("rest_channels.workers.connections.time.monotonic", lambda: now() + later),
        ):
            for _ in range(times):
                await workers.run(Room.objects.exists)
        return is_usable.call_count

    async def story():
        await workers.run(Room.objects.exists)
        assert await asked(20) == 0
        assert await asked(20, later=6) == 1
        await workers.run(send_what_nobody_asked_for)
        assert await asked(1) == 1

    asyncio.run(story())
    shutdown_all(timeout=10)


def send_what_nobody_asked_for():
    """As a server does that says goodbye: a notification waits to be read."""
    there, other = connection.connection, connection.copy()
    # By no cursor: a connection that listens is not handed on to the next frame.
    there.pgconn.exec_(b"LISTEN rest_channels_tests")
    with closing(other), other.cursor() as cursor:
        cursor.execute("NOTIFY rest_channels_tests")
    assert select.select([there], [], [], 10)[0]


def wait_for_their_end():
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    left += "AND application_name = %s"
    with connection.cursor() as cursor:
        cursor.execute(left, [SERVER])
        while cursor.fetchone()[0] > 0:
            cursor.execute(left, [SERVER])


def end_connections():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = %s",
            [SERVER],
        )
        return len(cursor.fetchall())


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
