from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import override_settings

from rest_channels.live.log import store
from tests.support.http_comparison import Site


@pytest.fixture
def site(db: None) -> Iterator[Site]:
    """HTTP below `/api/`, sockets below `/ws/`, nothing registered yet."""
    # Looked up once a process, with its first write, so that no test counts the query.
    assert store.is_installed("default")
    with Site() as site:
        yield site


# Here short cuts could show; REST_CHANNELS_SHORT_CUTS=off is for all modules.
COMPARED_TWICE = {"test_serializers", "test_requests", "test_responses", "test_actions"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in COMPARED_TWICE:
        metafunc.parametrize("short_cuts", ["on", "off"], indirect=True)


@pytest.fixture(autouse=True)
def short_cuts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare with and without the setting `SHORT_CUTS`: no answer may depend on it."""
    is_on = getattr(request, "param", os.environ.get("REST_CHANNELS_SHORT_CUTS", "on")) == "on"
    with override_settings(REST_CHANNELS={**settings.REST_CHANNELS, "SHORT_CUTS": is_on}):
        yield


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    """Throttles count in the cache, which no transaction rolls back."""
    cache.clear()
