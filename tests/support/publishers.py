"""A publisher of a test's own: its thread and its loop end with the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rest_channels.bus.publisher import Publisher


@contextmanager
def a_publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    try:
        yield publisher
    finally:
        if (loop := publisher._loop) is not None:
            # A task that has not begun would be reported by a later test.
            publisher.flush()
            has_stopped = threading.Event()
            loop.call_soon_threadsafe(lambda: (loop.stop(), has_stopped.set()))
            assert has_stopped.wait(10)
            while loop.is_running():
                pass
            loop.close()
