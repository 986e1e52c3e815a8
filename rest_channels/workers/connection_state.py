"""
State that code leaves on a database connection: in its session, and on Django's connection object.

Each connection notes the effects of its statements besides reading, including statements of the
PostgreSQL driver's raw cursors. `hand_on` closes a changed connection, or restores its attributes,
before another frame gets it.
"""

from __future__ import annotations

import dis
import hashlib
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib import import_module
from types import FrameType
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from django.db import DatabaseError, NotSupportedError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from rest_channels.workers.contexts import Retained
from rest_channels.workers.sql_effects import NOTHING, Effect, effects_of

#: State that outlives the transaction, or may.
SESSION: Final = frozenset({Effect.SETS, Effect.LASTS})

_CONNECT: Final = inspect.unwrap(BaseDatabaseWrapper.connect).__code__

_IS_HARMLESS: Final = """
    SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p
    WHERE p.proname = ANY(%s) AND NOT (
        p.provolatile <> 'v' AND (
            p.pronamespace = 'pg_catalog'::regnamespace
            OR EXISTS (
                SELECT FROM pg_catalog.pg_depend d WHERE d.objid = p.oid
                AND d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e'
            )
        )
    )
"""


class Noted:
    """
    The effects, besides reading, of one connection's statements since it was made or last examined.

    Statements with an effect in `forbidden` raise instead.
    """

    def __init__(self, forbidden: frozenset[Effect] = frozenset()) -> None:
        self.forbidden = forbidden
        self.is_refused = False
        self.effects: set[Effect] = set()
        self.functions: set[str] = set()
        #: The beginning of the first statement with an effect.
        self.first = ""
        self._digest = hashlib.sha256()

    @property
    def is_empty(self) -> bool:
        """Whether there were only reads."""
        return not (self.effects or self.functions or self.is_refused)

    @property
    def digest(self) -> str:
        """A text that is equal for the same statements with the same parameters."""
        return "" if self.is_empty else self._digest.hexdigest()

    def note(self, connection: Any, statement: Any, params: Any) -> None:
        found = effects_of(statement, params, connection.vendor)
        if found is NOTHING or not (found.effects or found.functions):
            return
        if _renews_search_path(connection, found.settings) or _is_connecting(connection):
            return
        self.first = self.first or " ".join(str(statement).split())[:60]
        if not self.forbidden.isdisjoint(found.effects):
            # The effects do not count, because the statement does not run.
            self.is_refused = True
            raise NotSupportedError(
                "State of the session must not be changed while a subscription is judged: a "
                f"statement that begins with {self.first[:20]!r} cannot be undone."
            )
        self.effects |= found.effects
        self.functions |= found.functions
        self._digest.update(repr((statement, params)).encode())

    def add(self, other: Noted) -> None:
        """Add what `other` has noted."""
        self.effects |= other.effects
        self.functions |= other.functions
        self.first = self.first or other.first

    def settle(self, connection: Any) -> None:
        """Find out which of the functions may have changed something."""
        if self.functions and connection.vendor == "postgresql":
            self.functions = _harmful(connection, self.functions)


# By Django's connection, and by the driver's.
_noted: WeakKeyDictionary[Any, Noted] = WeakKeyDictionary()
_connections: WeakKeyDictionary[Any, ref[Any]] = WeakKeyDictionary()


def noted(connection: Any) -> Noted:
    """Return what was noted of `connection`, and watch it from here on."""
    found = _noted.get(connection)
    if found is None:
        found = _noted[connection] = Noted()
        # First, because `execute_wrapper` removes the last.
        connection.execute_wrappers.insert(0, _Noting(connection))
        _watch_driver(connection)
    return found


@contextmanager
def noting(connection: Any, forbidden: frozenset[Effect]) -> Iterator[Noted]:
    """Note separately what is done within the block."""
    before = noted(connection)
    meanwhile = _noted[connection] = Noted(forbidden)
    try:
        yield meanwhile
    finally:
        _noted[connection] = before


def _on_sqlite(reference: ref[Any], statement: str) -> None:
    """Note a statement that SQLite runs, because Django does not see those of raw cursors."""
    connection = reference()
    if connection is None or _SQLITE_ROWS.match(statement) is not None:
        return
    found = effects_of(statement, None, "sqlite").effects
    if Effect.LASTS in found:
        meanwhile = _noted[connection]
        meanwhile.effects |= found
        meanwhile.first = meanwhile.first or statement[:60]


# The execute wrapper notes these, more precisely.
_SQLITE_ROWS: Final = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|SAVEPOINT|RELEASE|ROLLBACK TO|BEGIN|--)", re.I
)


def forget(connection: Any) -> None:
    """Forget everything noted of `connection`, because it was undone."""
    noted(connection)
    _noted[connection] = Noted()


class _Statements(threading.local):
    """The number of statements that a thread has sent to databases through Django."""

    statements = 0


_here = _Statements()


def statements_here() -> int:
    """Return how many statements this thread has run, over connections that are watched."""
    return _here.statements


class _Noting:
    """An execute wrapper for Django's connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        _noted[self.connection].note(self.connection, sql, params)
        _here.statements += 1
        return execute(sql, params, many, context)


def _watch_driver(connection: Any) -> None:
    """Note what any cursor of the driver executes, because Django does not see raw ones."""
    driver = connection.connection
    if driver is None:
        return
    if connection.vendor == "sqlite":
        driver.set_trace_callback(partial(_on_sqlite, ref(connection)))
    if connection.vendor != "postgresql":
        return
    _connections[driver] = ref(connection)
    for name in ("cursor_factory", "server_cursor_factory"):
        factory = getattr(driver, name, None)
        if factory is None and name == "cursor_factory":
            # psycopg2's default.
            factory = import_module("psycopg2.extensions").cursor
        if factory is not None and not getattr(factory, "is_noting", False):
            setattr(driver, name, _noting_cursor(factory))


@lru_cache(16)
def _noting_cursor(factory: Any) -> Any:
    def wrapped(name: str) -> Callable[..., Any]:
        method = getattr(factory, name)

        def run(self: Any, query: Any, params: Any = None, *args: Any, **kwargs: Any) -> Any:
            reference = _connections.get(self.connection)
            connection = None if reference is None else reference()
            if connection is not None:
                _noted[connection].note(connection, _text(query, self.connection), params)
            if params is None and not args:
                return method(self, query, **kwargs)
            return method(self, query, params, *args, **kwargs)

        return run

    names = [n for n in ("execute", "executemany", "copy", "stream") if hasattr(factory, n)]
    methods = {name: wrapped(name) for name in names}
    return type(factory.__name__, (factory,), {**methods, "is_noting": True})


def _text(query: Any, driver: Any) -> Any:
    if isinstance(query, bytes):
        return query.decode()
    as_string = getattr(query, "as_string", None)
    return query if as_string is None else as_string(driver)


def _is_connecting(connection: Any) -> bool:
    """Return whether Django, or a signal receiver, is setting the connection up."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code is _CONNECT and frame.f_locals.get("self") is connection:
            return True
        frame = frame.f_back
    return False


def _renews_search_path(connection: Any, settings: frozenset[str]) -> bool:
    """
    Return whether django-tenants is setting the search path.

    It does so before each statement, by the connection's attributes: only these count.
    """
    return settings == {"search_path"} and hasattr(connection, "search_path_set_schemas")


def _forget_search_path(connection: Any) -> None:
    # The next statement sets it again, by the attributes at that time.
    if hasattr(connection, "search_path_set_schemas"):
        connection.search_path_set_schemas = None


_is_harmful: dict[tuple[str, str], bool] = {}


def _harmful(connection: Any, names: set[str]) -> set[str]:
    """
    Return the functions of `names` that may do more than read.

    They are neither built in nor part of an extension, or their declaration says so.
    """
    alias = connection.alias
    unknown = [name for name in names if (alias, name) not in _is_harmful]
    if unknown:
        try:
            with connection.cursor() as cursor:
                cursor.execute(_IS_HARMLESS, [unknown])
                found = {name for (name,) in cursor.fetchall()}
        except DatabaseError:
            # The transaction has failed, so nothing can be found out.
            return set(names)
        _is_harmful.update({(alias, name): name in found for name in unknown})
    return {name for name in names if _is_harmful[alias, name]}


# Attributes of Django's connection objects


def own_attributes(connection: Any) -> Retained:
    """Return the attributes of `connection` that are not Django's own, and its execute wrappers."""
    kind: Any = type(connection)
    return Retained(vars(connection), _names_of_django(kind, connection.alias), _WRAPPERS)


@lru_cache(64)
def _names_of_django(kind: Any, alias: str) -> frozenset[str]:
    bases = [base for base in kind.__mro__ if base.__module__.startswith(_OF_DJANGO)]
    # A backend that is not Django's has only the abstract base: all else is the backend's own.
    plain: Any = kind if bases[0] is BaseDatabaseWrapper else bases[0]
    names = set(vars(plain(connections.settings[alias], alias)))
    # Attributes cached or replaced on the instance.
    for base in bases:
        names.update(vars(base), *map(_stored_by, vars(base).values()))
    return frozenset(names)


def _stored_by(member: Any) -> set[str]:
    """Return the names of the attributes that a method sets."""
    function = inspect.unwrap(getattr(member, "func", getattr(member, "fget", member)))
    code = getattr(function, "__code__", None)
    if code is None:
        return set()
    return {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"}


_WRAPPERS: Final = frozenset({"execute_wrappers"})
_OF_DJANGO: Final = ("django.db.backends.", "django.contrib.gis.db.backends.")


# From one frame to the next


class Handover:
    """
    The state of a thread's connections before it did something.

    `begun` are all of them, also unused ones, because their first use may set attributes.
    """

    __slots__ = ("_before",)

    def __init__(self, begun: Iterable[Any]) -> None:
        self._before = []
        for connection in begun:
            noted(connection)
            self._before.append((connection, own_attributes(connection)))

    def hand_on(self) -> None:
        """
        Restore changed connections, or close them, so that no other frame gets them as they are.
        """
        for connection, attributes in self._before:
            if attributes.changed():
                attributes.put_back()
                _forget_search_path(connection)
            if connection.connection is not None:
                _close_if_set(connection)


class _Seen(threading.local):
    """A thread's connections as they were when first seen there."""

    def __init__(self) -> None:
        self.handover: Handover | None = None


_seen = _Seen()


def begin_afresh() -> None:
    """
    Restore the thread's connections to their state at the first call in it.

    For threads that other code uses as well, at unknown times.
    """
    if _seen.handover is None:
        _seen.handover = Handover(connections.all())
    _seen.handover.hand_on()


def _close_if_set(connection: Any) -> None:
    seen = noted(connection)
    if seen.is_empty:
        return
    if connection.in_atomic_block:
        # In a test's transaction, whose rollback undoes it.
        return
    seen.settle(connection)
    if seen.functions or not SESSION.isdisjoint(seen.effects):
        close(connection)
    forget(connection)


def close(connection: Any) -> None:
    """Close `connection` and the driver's, which a pool would hand on as it is."""
    driver = connection.connection
    if driver is not None and getattr(connection, "pool", None) is not None:
        driver.close()
    connection.close()


def _on_created(sender: Any, connection: Any, **kwargs: Any) -> None:
    if connection in _noted:
        _watch_driver(connection)
        forget(connection)
    else:
        noted(connection)


def connect_signals() -> None:
    """Watch all connections that are made from now on."""
    connection_created.connect(_on_created, dispatch_uid="rest_channels.workers.connection_state")
