from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator

import hypothesis
import pytest

from rest_channels.live.housekeeping import housekeeper
from rest_channels.live.hub import followers
from tests import own_services, services
from tests.own_services import OwnPostgreSQL, OwnRedis

# A machine may be slow: how long an example takes is no test's business.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# They make projects or start servers of their own, on SQLite: once is enough.
_ON_SQLITE = [
    *["test_benchmarks.py", "test_bounds.py", "test_dcrf_client.py", "test_demo.py"],
    *["test_docs.py", "test_fuzz.py", "test_interleaved.py", "test_readme.py"],
    *["test_servers.py", "test_shutdown.py", "live/test_servers.py"],
]
collect_ignore = _ON_SQLITE if os.environ.get("TEST_DATABASE") == "postgresql" else []


@pytest.fixture(scope="session", autouse=True)
def nobody_tidies() -> None:
    """Ten minutes into the tests a thread would, in the middle of whichever comes then."""
    housekeeper._clock = lambda: 0.0


@pytest.fixture(scope="session", autouse=True)
def no_machine_is_too_slow() -> Iterator[None]:
    """In development mode asyncio warns of steps that take long: no test's business either."""

    def is_of_the_code(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Executing ")

    logging.getLogger("asyncio").addFilter(is_of_the_code)
    yield
    logging.getLogger("asyncio").removeFilter(is_of_the_code)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """
    A pass that a test has left behind in its thread ends before tables are emptied: each would
    wait for locks of the other.
    """
    followers.executor.submit(list).result(60)


@pytest.fixture(scope="session")
def require_chromium() -> None:
    """Skips where there is no browser; fails instead with REQUIRE_SERVICES=1."""
    _require(services.has_chromium(), "chromium and chromedriver are not installed")


@pytest.fixture
def require_redis() -> None:
    """Skips where there is no Redis; fails instead with REQUIRE_SERVICES=1."""
    _require(services.has_redis(), "Redis does not answer at 127.0.0.1:6379")


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    """A Redis that the test may kill."""
    _require(own_services.has_redis(), "redis-server is not installed")
    with OwnRedis() as own:
        yield own


@pytest.fixture
def own_postgresql() -> Iterator[OwnPostgreSQL]:
    """A PostgreSQL that the test may kill, empty."""
    _require(own_services.has_postgresql(), "the server of PostgreSQL is not installed")
    with OwnPostgreSQL() as own:
        yield own


@pytest.fixture
def redis_layer(require_redis: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One channel layer for all processes that the test starts, on Redis and the test's own."""
    monkeypatch.setenv("TEST_REDIS_PREFIX", f"rest_channels_{uuid.uuid4().hex}")


def _require(is_there: bool, reason: str) -> None:
    if is_there:
        return
    if services.are_required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
