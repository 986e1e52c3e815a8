from __future__ import annotations

import contextlib
import gc
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from channels.testing import WebsocketCommunicator
from django.apps import apps
from pytest_django import DjangoDbBlocker

from rest_channels.consumers import consumer_streams
from rest_channels.contrib.dcrf import hosting
from rest_channels.live.delivery import hub
from rest_channels.live.delivery.track import followers
from rest_channels.live.log.maintenance import housekeeper
from rest_channels.test import AsyncSocketClient, SocketClient
from rest_channels.test.base_client import BaseSocketClient
from tests.support import available_services, killable_services, table_cleanup
from tests.support.killable_services import OwnPgBouncer, OwnPostgreSQL, OwnRedis
from tests.support.quick_audiences import take_all_for_quick
from tests.support.variants import beyond_variants

# A machine may be slow, so no test depends on the duration of an example.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# They make projects or start servers of their own, on SQLite: once is enough.
_ON_SQLITE = [
    *["whole/test_benchmarks.py", "whole/test_bounds.py", "whole/test_demo.py"],
    *["whole/test_docs.py", "whole/test_fuzz.py", "whole/test_interleaved.py"],
    *["whole/test_installed_client.py", "whole/test_kanban.py", "console/test_in_browser.py"],
    *["whole/test_readme.py", "whole/test_servers.py", "contrib/dcrf/test_dcrf_client.py"],
    *["sockets/test_shutdown.py", "sockets/test_handshake.py"],
]
_LIVE = Path(__file__).parent / "live"
DATABASE = os.environ.get("TEST_DATABASE") or "sqlite"
collect_ignore = _ON_SQLITE if DATABASE == "postgresql" else []

#: How many variants of each parametrised test run; another run of CI has them all.
VARIANTS = os.environ.get("TEST_VARIANTS")

# It decides which of them, so that runs on other versions and databases differ.
_RUN = f"{os.environ.get('TEST_VERSIONS')} {DATABASE}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only_on(*databases): a story of these databases alone")
    config.addinivalue_line("markers", "one_track: it counts what passes of one track cost")
    config.addinivalue_line("markers", "programs: random programs, TEST_PROGRAMS of them")
    config.addinivalue_line("markers", "once: it takes long, and one run of the suite is enough")
    config.addinivalue_line("markers", "slow_audiences: it lets audiences be slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    elsewhere = [item for item in items if DATABASE not in _databases(item) or _is_done(item)]
    _deselect(config, items, elsewhere)
    if VARIANTS is not None:
        _deselect(config, items, beyond_variants(items, int(VARIANTS), _RUN))


def pytest_collection_finish() -> None:
    """
    Collect garbage more seldom.

    The modules of the tests are 800,000 objects, which each full collection visits.
    """
    gc.set_threshold(100_000, 20, 20)


def _deselect(config: pytest.Config, items: list[pytest.Item], those: list[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=those)
    gone = {*those}
    items[:] = [item for item in items if item not in gone]


def _databases(item: pytest.Item) -> tuple[str, ...]:
    marker = item.get_closest_marker("only_on")
    return (DATABASE,) if marker is None else marker.args


def _is_done(item: pytest.Item) -> bool:
    """Return whether the run on SQLite is enough for it, because it uses no database."""
    # Some of `live` start servers that do.
    if DATABASE == "sqlite" or item.path.is_relative_to(_LIVE):
        return False
    is_marked = any(item.iter_markers("django_db")) or any(item.iter_markers("only_on"))
    return not (is_marked or {"db", "transactional_db"}.intersection(item.fixturenames))


@pytest.fixture(scope="session", autouse=True)
def nobody_tidies() -> None:
    """Ten minutes into the tests a thread would, in the middle of whichever comes then."""
    housekeeper._clock = lambda: 0.0


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        table_cleanup.remember("default")
    yield
    # PostgreSQL drops no database to which garbage has a connection.
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def no_machine_is_too_slow() -> Iterator[None]:
    """In development mode asyncio warns of steps that take long: no test's business either."""

    def is_of_the_code(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Executing ")

    logging.getLogger("asyncio").addFilter(is_of_the_code)
    yield
    logging.getLogger("asyncio").removeFilter(is_of_the_code)


@pytest.fixture(scope="session", autouse=True)
def no_application_is_too_slow() -> None:
    """Wait for an application for a minute: Channels' communicators give up after a second."""
    BaseSocketClient.__init__.__kwdefaults__["timeout"] = 60.0
    hosting._SECONDS_TO_OPEN = consumer_streams._SECONDS_TO_OPEN = 60
    kind = WebsocketCommunicator
    for method in (kind.connect, kind.receive_from, kind.receive_json_from, kind.receive_output):
        method.__defaults__ = (60,)
    kind.disconnect.__defaults__ = (1000, 60)


@pytest.fixture(autouse=True)
def no_socket_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An open one has a loop that runs, and with it groups and subscriptions of its own."""
    opened: list[SocketClient | AsyncSocketClient] = []

    def note_clients(kind: type[SocketClient | AsyncSocketClient]) -> None:
        connect = kind.connect

        def connecting(client: SocketClient | AsyncSocketClient) -> Any:
            opened.append(client)
            return connect(client)

        monkeypatch.setattr(kind, "connect", connecting)

    note_clients(SocketClient)
    note_clients(AsyncSocketClient)
    yield
    left = [client for client in opened if _is_open(client)]
    with contextlib.ExitStack() as closing:
        for client in left:
            # One of an async test has ended with the test's loop.
            if isinstance(client, SocketClient):
                closing.callback(client.close)
        if left:
            sockets = ", ".join(f"{c.path!r} of {c.application or 'the project'}" for c in left)
            pytest.fail(f"The test has left sockets open: {sockets}.", pytrace=False)


def _is_open(client: SocketClient | AsyncSocketClient) -> bool:
    run = client._run if isinstance(client, SocketClient) else client._task
    return run is not None


@pytest.fixture(autouse=True)
def one_track(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Follow a database in one track in tests that count.

    Which audiences pass together depends on the time that each takes, and so do the counts.
    """
    if request.node.get_closest_marker("one_track") is not None:
        monkeypatch.setattr(hub, "has_tracks", lambda alias: False)


@pytest.fixture(autouse=True)
def no_audience_is_slow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no audience move because the machine is busy: tests compare when events come."""
    if request.node.get_closest_marker("slow_audiences") is None:
        take_all_for_quick(monkeypatch)


@pytest.fixture(autouse=True)
def no_model_outlives_its_test() -> Iterator[None]:
    """One that stays in the registry is a table that other tests look for in vain."""
    before = set(apps.get_models(include_auto_created=True))
    yield
    assert set(apps.get_models(include_auto_created=True)) == before


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """
    A pass that a test has left behind in its thread ends before tables are emptied: each would
    wait for locks of the other.
    """
    for thread in followers.all():
        thread.executor.submit(list).result(60)


@pytest.fixture(scope="session")
def require_chromium() -> None:
    """Skips where there is no browser; fails instead with REQUIRE_SERVICES=1."""
    _require(available_services.has_chromium(), "chromium and chromedriver are not installed")


@pytest.fixture
def require_postgresql() -> None:
    """Skips where there is no PostgreSQL; fails instead with REQUIRE_SERVICES=1."""
    _require(available_services.has_postgresql(), "PostgreSQL does not answer")


@pytest.fixture
def require_redis() -> None:
    """Skips where there is no Redis; fails instead with REQUIRE_SERVICES=1."""
    _require(available_services.has_redis(), "Redis does not answer at 127.0.0.1:6379")


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    """A Redis that the test may kill."""
    _require(killable_services.has_redis(), "redis-server is not installed")
    with OwnRedis() as own:
        yield own


@pytest.fixture
def own_postgresql() -> Iterator[OwnPostgreSQL]:
    """A PostgreSQL that the test may kill, empty."""
    _require(killable_services.has_postgresql(), "the server of PostgreSQL is not installed")
    with OwnPostgreSQL() as own:
        yield own


@pytest.fixture
def own_pgbouncer() -> Iterator[OwnPgBouncer]:
    """A pooler in front of the tests' PostgreSQL."""
    _require(killable_services.has_pgbouncer(), "pgbouncer is not installed")
    with OwnPgBouncer(os.environ.get("PGHOST", "127.0.0.1")) as own:
        yield own


@pytest.fixture
def redis_layer(require_redis: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One channel layer for all processes that the test starts, on Redis and the test's own."""
    monkeypatch.setenv("TEST_REDIS_PREFIX", f"rest_channels_{uuid.uuid4().hex}")


def _require(is_there: bool, reason: str) -> None:
    if is_there:
        return
    if available_services.are_required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
