"""
Short turns at the interpreter lock, while a quick pass runs.

A thread that waits for the lock asks for it after `sys.getswitchinterval()`, 5 ms by default. A
pass of a few milliseconds gives the lock up and takes it again with each query, a dozen times:
beside threads that compute, such as those that render long lists, it would wait for most of 60 ms.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# A tenth of the default. Turns cost some microseconds each, and passes are short.
_SHORT_SECONDS: Final = 0.0005

_lock = threading.Lock()
_count = 0
_usual = 0.0


@contextmanager
def short_turns() -> Iterator[None]:
    """Let threads of this process take short turns meanwhile; in any thread."""
    _begin()
    try:
        yield
    finally:
        _end()


def _begin() -> None:
    global _count, _usual
    with _lock:
        _count += 1
        if _count == 1:
            _usual = sys.getswitchinterval()
            sys.setswitchinterval(min(_usual, _SHORT_SECONDS))


def _end() -> None:
    global _count
    with _lock:
        _count -= 1
        if _count == 0:
            sys.setswitchinterval(_usual)
