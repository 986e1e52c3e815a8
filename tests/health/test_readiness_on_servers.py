"""Real servers that stop, or lose the database or Redis: what the health views answer."""

from __future__ import annotations

import http.client
import json
import time

import psycopg
import pytest

from tests.support.room_client import Client
from tests.support.server_processes import (
    KINDS,
    RemoteGate,
    Server,
    answer,
    ask,
    close_code,
    reply,
)

APPLICATION = "tests.support.apps.health_app:application"

# They have databases of their own.
pytestmark = pytest.mark.only_on("sqlite")

OWN = "host=127.0.0.1 user=postgres dbname=postgres"


def fetch(server, path="/ready/"):
    """Return the status and the content of a view of that server."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.headers["Cache-Control"].startswith("max-age=0")
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def status(server, path="/ready/"):
    return fetch(server, path)[0]


def checks(server):
    """Return what each check says."""
    status, content = fetch(server)
    assert status == (200 if content["status"] == "ok" else 503)
    return content["checks"]


def until(is_true):
    """Ask a few times a second, because each question is a request."""
    for _ in range(300):
        if is_true():
            return
        time.sleep(0.1)
    raise TimeoutError("It did not come true.")


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_drains_is_alive_and_not_ready(kind):
    with (
        RemoteGate() as gate,
        Server(kind, APPLICATION, SHUTDOWN_SECONDS=60) as server,
        server.connect() as busy,
    ):
        ask(busy, "wait", 1, data={"port": gate.port})
        gate.entered()
        assert (status(server), status(server, "/live/")) == (200, 200)
        server.terminate()
        until(lambda: status(server) == 503)
        assert checks(server) == {
            "draining": "the server is stopping, and its sockets are being closed",
            "database": "ok",
            "log": "ok",
            "bus": "ok",
        }
        assert (status(server, "/ready/few/"), status(server, "/live/")) == (503, 200)
        gate.open()
        assert reply(busy)["response_status"] == 200
        assert close_code(busy) == 1012
        assert server.has_ended()


MIGRATE = """
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
"""


@pytest.mark.once
def test_a_database_that_lacks_tables_stops_hangs_and_comes_back(own_postgresql):
    with Server("uvicorn", APPLICATION, postgresql=own_postgresql, POLL_SECONDS=0.05) as server:
        without = "'default': it lacks the tables of rest_channels: run manage.py migrate"
        assert checks(server)["database"] == without
        server.run(MIGRATE)
        server.restart()
        client = Client().subscribe(server)
        until(lambda: checks(server)["bus"] == "ok")
        own_postgresql.hang()
        until(lambda: status(server) == 503)
        began = time.monotonic()
        assert checks(server)["database"] == "'default': no answer within 2 seconds"
        assert status(server, "/live/") == 200
        assert time.monotonic() - began < 10
        own_postgresql.go_on()
        until(lambda: status(server) == 200)
        own_postgresql.stop()
        until(lambda: checks(server)["database"] == "'default': it cannot be reached")
        own_postgresql.start()
        until(lambda: status(server) == 200)
        client.leave()


@pytest.mark.once
@pytest.mark.parametrize("layer", ["core.RedisChannelLayer", "pubsub.RedisPubSubChannelLayer"])
def test_redis_that_hangs_is_not_heard(own_redis, layer):
    host = {"address": f"redis://127.0.0.1:{own_redis.port}", "socket_timeout": 10}
    layers = {"default": {"BACKEND": f"channels_redis.{layer}", "CONFIG": {"hosts": [host]}}}
    with Server("uvicorn", APPLICATION, channel_layers=layers) as server:
        # A process without sockets has nothing to hear.
        assert checks(server)["bus"] == "ok"
        client = Client().subscribe(server)
        until(lambda: status(server) == 200)
        own_redis.hang()
        lost = "messages over the channel layer do not arrive"
        until(lambda: checks(server)["bus"] == lost)
        assert status(server, "/ready/few/") == 200
        own_redis.go_on()
        until(lambda: status(server) == 200)
        client.leave()


@pytest.mark.once
def test_a_log_whose_head_another_process_holds_does_not_move(own_postgresql):
    with (
        Server("uvicorn", APPLICATION, postgresql=own_postgresql, POLL_SECONDS=0.05) as server,
        psycopg.connect(f"port={own_postgresql.port} {OWN}") as other,
    ):
        server.run(MIGRATE)
        client = Client().subscribe(server)
        other.execute("SELECT * FROM rest_channels_loghead FOR UPDATE")
        assert answer(client.socket, "create", data={"name": "later"})["response_status"] == 201
        assert checks(server)["log"] == "ok"
        stuck = "'default': changes have waited for their positions for too long"
        until(lambda: checks(server)["log"] == stuck)
        other.rollback()
        until(lambda: status(server) == 200)
        assert client.take() == "create"
        client.leave()
