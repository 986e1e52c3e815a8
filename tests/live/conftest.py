from __future__ import annotations

from collections.abc import Iterator

import django
import pytest

from rest_channels.bus import doorbell
from tests.support.recorded_changes import Rings

# Fetch modes came with Django 6.1.
collect_ignore = [] if django.VERSION >= (6, 1) else ["visibility/test_fetch_modes.py"]


@pytest.fixture
def rings() -> Iterator[Rings]:
    """Whoever writes rings here, too."""
    rings = Rings()
    doorbell.add_listener(rings)
    yield rings
    doorbell.remove_listener(rings)
