"""
Make the ORM read from the log's database during a pass, regardless of the project's routers.

With a router that spreads reads over replicas, a pass could show rows that a replica does not have
yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import connections, router

#: The database that a pass of this context reads.
_followed: ContextVar[str | None] = ContextVar("rest_channels_followed", default=None)

#: Whether this context reads every row from the database that it is written to.
_reads_written: ContextVar[bool] = ContextVar("rest_channels_reads_written", default=False)


class FollowedDatabase:
    """
    A database router that reads rows from the followed database if they are written to it.

    It returns None outside passes and for rows that are written elsewhere.
    """

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        if _reads_written.get():
            written: str = router.db_for_write(model, **hints)
            return primary_of(written)
        alias = _followed.get()
        return alias if alias is not None and _written_to(model, hints, alias) else None


_router = FollowedDatabase()


@contextmanager
def reading_from(alias: str) -> Iterator[None]:
    """Make the ORM read from `alias` the rows that are written to it."""
    _install()
    token = _followed.set(alias)
    try:
        yield
    finally:
        _followed.reset(token)


@contextmanager
def reading_written() -> Iterator[None]:
    """Make the ORM read every row from the database that it is written to, not from a replica."""
    _install()
    token = _reads_written.set(True)
    try:
        yield
    finally:
        _reads_written.reset(token)


def _install() -> None:
    # Ahead of the project's routers, which `override_settings` replaces.
    if _router not in router.routers:
        router.routers.insert(0, _router)


def log_of(queryset: Any) -> str:
    """
    Return the database whose log holds the changes of `queryset`.

    That is the one its rows are written to, or the one it names with `using()`. A replica that the
    settings declare (`TEST["MIRROR"]`) has its primary's log.
    """
    return primary_of(queryset._db or router.db_for_write(queryset.model))


def primary_of(alias: str) -> str:
    """Return the database that `alias` is a declared replica of (`TEST["MIRROR"]`), else itself."""
    return _mirrored(alias) or alias


def is_read_elsewhere(instance: Any, alias: str) -> bool:
    """Return whether a row that is written to `alias` was read from a replica of it."""
    if instance is None or instance._state.db in (None, alias):
        return False
    return _written_to(type(instance), {"instance": instance}, alias)


def _written_to(model: Any, hints: dict[str, Any], alias: str) -> bool:
    if router.db_for_write(model, **hints) == alias:
        return True
    instance = hints.get("instance")
    if instance is None or _is_decided(model, hints):
        return False
    # No router decides, so Django would write to where the instance was read: perhaps a replica.
    read = instance._state.db
    return _mirrored(read) == alias or (
        router.db_for_write(model) == alias and _is_read_apart(model, alias)
    )


def _is_decided(model: Any, hints: dict[str, Any]) -> bool:
    """Return whether one of the project's routers decides where the row is written."""
    deciding = [r.db_for_write for r in router.routers if hasattr(r, "db_for_write")]
    return any(decide(model, **hints) for decide in deciding)


def _is_read_apart(model: Any, alias: str) -> bool:
    """Return whether the project's routers read from elsewhere what is written to `alias`."""
    token = _followed.set(None)
    try:
        return bool(router.db_for_read(model) != alias)
    finally:
        _followed.reset(token)


def _mirrored(alias: str | None) -> str | None:
    if alias is None:
        return None
    mirrored: str | None = connections[alias].settings_dict["TEST"]["MIRROR"]
    return mirrored
