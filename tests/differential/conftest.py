from __future__ import annotations

import io
import os
from collections.abc import Iterator

import pytest
from django.core.cache import cache
from django.core.handlers.asgi import ASGIRequest

from rest_channels import viewsets
from rest_channels.live import log
from rest_channels.request import MessageRequest
from tests.differential.compare import Site


@pytest.fixture
def site(db: None) -> Iterator[Site]:
    """HTTP below `/api/`, sockets below `/ws/`, nothing registered yet."""
    # Looked up once a process, with the first write: not a query of whoever makes that.
    assert log.is_installed("default")
    with Site() as site:
        yield site


# Where what is done for speed alone could show; REST_CHANNELS_SHORT_CUTS=off is for all modules.
COMPARED_TWICE = {"test_serializers", "test_requests", "test_responses", "test_actions"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in COMPARED_TWICE:
        metafunc.parametrize("short_cuts", ["on", "off"], indirect=True)


@pytest.fixture(autouse=True)
def short_cuts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    "off" is without what is done otherwise than DRF and Django do it, for speed alone: copies of
    fields, choices that negotiation remembers, and the part of a request that is its socket's.
    No answer may depend on them, neither HTTP's nor a socket's.
    """
    if getattr(request, "param", os.environ.get("REST_CHANNELS_SHORT_CUTS", "on")) == "on":
        return

    def become(self, scope, usual):
        ASGIRequest.__init__(self, {**scope, **usual.scope}, io.BytesIO())

    monkeypatch.setattr(MessageRequest, "_become", become)
    monkeypatch.setattr(viewsets, "lend_fields", lambda serializer: None)
    monkeypatch.setattr(viewsets, "remembering", lambda negotiator: negotiator)


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    """Throttles count in the cache, which no transaction rolls back."""
    cache.clear()
