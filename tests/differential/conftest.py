from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.cache import cache

from tests.differential.compare import Site


@pytest.fixture
def site(db: None) -> Iterator[Site]:
    """HTTP below `/api/`, sockets below `/ws/`, nothing registered yet."""
    with Site() as site:
        yield site


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    """Throttles count in the cache, which no transaction rolls back."""
    cache.clear()
