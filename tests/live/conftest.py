from __future__ import annotations

import os
from collections.abc import Iterator

import django
import pytest
from pytest_django import DjangoDbBlocker

from rest_channels.bus import doorbell
from tests.support.recorded_changes import Rings, captured_by_signals

# Fetch modes came with Django 6.1.
collect_ignore = [] if django.VERSION >= (6, 1) else ["visibility/test_fetch_modes.py"]
if os.environ.get("TEST_DATABASE") == "postgresql":
    # They start servers on SQLite: once is enough.
    collect_ignore += ["test_subscriptions_on_servers.py", "log/test_large_resumes.py"]


@pytest.fixture
def rings() -> Iterator[Rings]:
    """Record the rings of all writers, too."""
    rings = Rings()
    doorbell.add_listener(rings)
    yield rings
    doorbell.remove_listener(rings)


@pytest.fixture(scope="module")
def no_triggers(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """
    Capture by signals throughout a module, whose tests may install triggers of their own.

    To remove and install the triggers of all tables takes a second for each test on PostgreSQL.
    """
    with django_db_blocker.unblock(), captured_by_signals():
        yield
