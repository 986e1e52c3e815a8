from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from rest_channels.live import relay
from tests.live.changes import Rings

DATABASE = os.environ.get("TEST_DATABASE") or "sqlite"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only_on(*databases): a story of these databases alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    elsewhere = [item for item in items if DATABASE not in _databases(item)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


def _databases(item: pytest.Item) -> tuple[str, ...]:
    marker = item.get_closest_marker("only_on")
    return (DATABASE,) if marker is None else marker.args


@pytest.fixture
def rings() -> Iterator[Rings]:
    """Whoever writes rings here, too."""
    rings = Rings()
    relay.add_listener(rings)
    yield rings
    relay.remove_listener(rings)
