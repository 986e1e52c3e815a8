"""
Find the thread-locals of a project, which may hold a tenant or a user.

`gc.freeze()` hides objects from the garbage collector, and so from a search. A server that forks
may call it at any time, so they are shown for the time of one search.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

from asgiref.sync import SyncToAsync
from django.db import connections

# Thread-locals of event loops, asgiref and this package, which do not depend on the user.
_NOT_OF_PROJECTS: Final = ("asyncio", "asgiref", "concurrent", "rest_channels")


@dataclass(frozen=True)
class _Search:
    """
    The thread-locals that were `found`, and the `signs` of new ones at that time.

    `mark` is hidden if objects have been frozen since; None if there was no search.
    """

    signs: tuple[int, int]
    found: WeakSet[Any]
    mark: list[Any] | None


_NEVER: Final = _Search((0, 0), WeakSet(), None)
# Replaced as a whole. More thread-locals may be made at any time.
_last = _NEVER


def project_locals() -> WeakSet[Any]:
    """Return the thread-locals that are not those of event loops, asgiref and this package."""
    global _last
    # Each thread-local refers to its class, so the count shows a new one without a search.
    signs = len(sys.modules), sum(map(sys.getrefcount, _kinds(threading.local)))
    if _last.signs != signs:
        found = _among(_objects(_last.mark))
        # Those that have been frozen since they were found are hidden now.
        _last = _Search(signs, WeakSet([*_last.found, *found]), [])
    return _last.found


def _objects(mark: list[Any] | None) -> list[Any]:
    """Return the objects of this process, with hidden ones if `mark` is hidden."""
    objects = gc.get_objects()
    if not gc.get_freeze_count() or any(found is mark for found in objects):
        return objects
    gc.unfreeze()
    try:
        return gc.get_objects()
    finally:
        gc.freeze()


def _kinds(kind: Any) -> list[Any]:
    found = [kind]
    for derived in kind.__subclasses__():
        found += _kinds(derived)
    return found


def _among(objects: Iterable[Any]) -> list[Any]:
    """Return the thread-locals of projects."""
    harmless = SyncToAsync.threadlocal, getattr(connections._connections, "_storage", None)
    return [
        found
        for found in objects
        # By type, because reading `__class__` of a lazy object may query the database.
        if issubclass(type(found), threading.local)
        and not any(found is each for each in harmless)
        and not type(found).__module__.startswith(_NOT_OF_PROJECTS)
    ]
