"""The health views in a process: what they ask, whom they answer, and what they say."""

from __future__ import annotations

import asyncio
import logging

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection, connections
from django.test import AsyncClient, override_settings
from django.urls import path

from rest_channels import health
from rest_channels.bus import channel_layer
from rest_channels.health import database_probe, readiness

# Threads of the probes have connections of their own.
pytestmark = pytest.mark.django_db(transaction=True)


class Urls:
    """A URLconf."""

    def __init__(self, **views):
        self.urlpatterns = [path(f"{name}/", view) for name, view in views.items()]


@pytest.fixture
def statements(monkeypatch):
    """The SQL statements of the probe's thread."""
    executed = []
    ask = database_probe._ask

    def note(execute, sql, *args):
        executed.append(sql)
        return execute(sql, *args)

    def asking(alias):
        with connections[alias].execute_wrapper(note):
            return ask(alias)

    monkeypatch.setattr(database_probe, "_ask", asking)
    return executed


def get(*paths):
    """Return the responses to one GET after the other, on one event loop."""

    async def story():
        return [await AsyncClient().get(url) for url in paths]

    return asyncio.run(story())


def test_many_probes_of_a_second_are_one_statement(statements):
    # The first look of a process reads which tables there are.
    get("/ready/")
    statements.clear()
    for response in get(*["/ready/"] * 10):
        assert response.status_code == 200
        assert response.json() == {
            "status": "ok",
            "checks": {"draining": "ok", "database": "ok", "log": "ok", "bus": "ok"},
        }
    (statement,) = statements
    assert "rest_channels_pendingchange" in statement and statement.endswith("LIMIT 1")


def test_live_asks_no_database(statements):
    (response,) = get("/live/")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert statements == []


def test_draining_alone_asks_no_database(statements):
    with override_settings(ROOT_URLCONF=Urls(ready=health.Ready.as_view(checks=["draining"]))):
        (response,) = get("/ready/")
    assert response.json() == {"status": "ok", "checks": {"draining": "ok"}}
    assert statements == []


def test_an_unknown_check_is_a_wrong_configuration():
    with pytest.raises(ImproperlyConfigured, match=r"no check 'redis'; it has draining, database"):
        health.Ready.as_view(checks=["draining", "redis"])


def test_views_need_neither_a_user_nor_the_transaction_of_requests():
    middleware = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        with override_settings(MIDDLEWARE=middleware):
            assert [r.status_code for r in get("/ready/", "/live/")] == [200, 200]
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False


def test_an_error_of_the_database_is_not_in_the_answer_and_its_end_is_logged(monkeypatch, caplog):
    faults = [DatabaseError("password authentication failed for 'admin' at 10.0.0.7")] * 4
    ask = database_probe._ask_once
    monkeypatch.setattr(database_probe, "_ask_once", lambda a: _raise(faults) or ask(a))
    monkeypatch.setattr(readiness, "_SECONDS_KEPT", -1.0)
    *failed, passed = get("/ready/", "/ready/", "/ready/")
    for response in failed:
        assert response.status_code == 503
        assert response.json()["checks"]["database"] == "'default': it cannot be reached"
        assert b"admin" not in response.content
    assert passed.status_code == 200
    logged = [record for record in caplog.records if record.name == "rest_channels"]
    assert [(record.levelno, record.getMessage()) for record in logged] == [
        (logging.WARNING, "This process is not ready: 'default': it cannot be reached."),
        (logging.WARNING, "This process is ready again."),
    ]


def _raise(faults):
    if faults:
        raise faults.pop()


def test_a_connection_that_was_lost_is_replaced_at_once(monkeypatch):
    faults = [DatabaseError("server closed the connection unexpectedly")]
    ask = database_probe._ask_once
    monkeypatch.setattr(database_probe, "_ask_once", lambda a: _raise(faults) or ask(a))
    (response,) = get("/ready/")
    assert (response.status_code, faults) == (200, [])


def test_a_layer_that_cannot_be_imported_is_not_heard(monkeypatch):
    def fail():
        raise ImportError("no such layer: redis://:secret@10.0.0.7")

    monkeypatch.setattr(channel_layer, "shared_layer", fail)
    (response,) = get("/ready/")
    assert response.status_code == 503
    assert response.json()["checks"]["bus"] == "the channel layer cannot be imported"


def test_without_capture_it_asks_only_for_an_answer(statements):
    with override_settings(REST_CHANNELS={"CAPTURE": None}):
        assert [r.status_code for r in get("/ready/")] == [200]
    assert statements == ["SELECT 1"]


def test_replicas_and_databases_without_a_log_are_not_asked(settings):
    class NoLog:
        def allow_migrate(self, db, app_label, **hints):
            return False if app_label == "rest_channels" else None

    settings.DATABASE_ROUTERS = [NoLog()]
    assert readiness._logged_databases() == []
    settings.DATABASE_ROUTERS = []
    assert readiness._logged_databases() == ["default"]
