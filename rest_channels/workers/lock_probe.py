"""
Whether threads of this process compete, or wait for something else.

    sleep(0.004)             # True: another thread had the interpreter lock at its end
    count_runnable([4, 5])   # how many of these threads compute, or would if they had a processor

Processor time alone cannot show that threads compete for the lock: on a machine with other work, a
process that only computes gets a part of the time, and seems to wait for a database.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable
from typing import Any


def _system() -> Any:
    """Return the module that counts a thread's switches; None if the system does not."""
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:
        return None
    return resource if hasattr(resource, "RUSAGE_THREAD") else None


_resource = _system()


def sleep(seconds: float) -> bool:
    """
    Sleep, and return whether another thread had the interpreter lock then.

    Always False on systems other than Linux, which do not count the switches of one thread.
    """
    before = _switches()
    time.sleep(seconds)
    # The sleep is one. A thread that finds the lock taken sleeps again until it gets it.
    return _switches() - before > 1


def count_runnable(thread_ids: Iterable[int]) -> int:
    """
    Return how many of the threads with these native ids compute, or only lack a processor.

    0 on systems other than Linux.
    """
    return sum(map(_is_runnable, thread_ids))


def _is_runnable(thread_id: int) -> bool:
    try:
        with open(f"/proc/self/task/{thread_id}/stat", "rb") as stat:
            # The state follows the name, which is in parentheses and may contain some.
            return stat.read(256).rpartition(b")")[2].lstrip().startswith(b"R")
    except OSError:
        return False


def _switches() -> int:
    """Return how often this thread has given up its processor to wait for something."""
    if _resource is None:
        return 0
    count: int = _resource.getrusage(_resource.RUSAGE_THREAD).ru_nvcsw
    return count
