"""
Note which code has committed changes, for a caller around it.

    with noting() as committed:
        ...
    if committed:
        ...

The note reaches threads in which asgiref runs code for the caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_noted: ContextVar[set[str] | None] = ContextVar("rest_channels_commits", default=None)


@contextmanager
def noting() -> Iterator[set[str]]:
    """Collect the databases to which captured changes are committed within the block."""
    committed: set[str] = set()
    around = _noted.get()
    token = _noted.set(committed)
    try:
        yield committed
    finally:
        _noted.reset(token)
        if around is not None:
            around |= committed


def note(alias: str) -> None:
    """Note that the running code has committed captured changes to `alias`."""
    if (committed := _noted.get()) is not None:
        committed.add(alias)
