"""
Detect and undo state that DRF's answer leaves outside the view.

Such state is on database connections, in thread-locals and in routers. A manager or serializer may
read the tenant or user from there. Statements that no rollback undoes are refused before they run,
and so is every change of a session on another database than the one on which the pass has a
transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from django.db import connections, router
from django.db.models import Model

from rest_channels.live.exact_values import Inexact, exact
from rest_channels.live.log.store import pending
from rest_channels.live.visibility.thread_locals import project_locals
from rest_channels.workers.connection_state import (
    SESSION,
    Noted,
    noted,
    noting,
    own_attributes,
)
from rest_channels.workers.contexts import Retained
from rest_channels.workers.sql_effects import Effect


def ambient() -> list[Retained]:
    """Return the thread-locals of this thread and the routers, as they are now."""
    namespaces = [local.__dict__ for local in project_locals()]
    namespaces += [found.__dict__ for found in router.routers if hasattr(found, "__dict__")]
    return [Retained(namespace) for namespace in namespaces]


# Databases on which a rollback to a savepoint undoes settings of the session; see
# `rest_channels.workers.sql_effects`.
_UNDOABLE_ON: Final = ("postgresql",)

_LOCAL_WITHOUT_TRANSACTION: Final = (
    "SET LOCAL, or set_config(..., true), ended with its transaction before rows were read: set "
    "ATOMIC_REQUESTS, so that `list` is one transaction, or use SET for the session"
)
#: Why an answer is refused that would leave a database changed.
NOT_RESTORABLE: Final = "a statement changed state that no rollback restores"
_LOG_OF_ANOTHER_SCHEMA: Final = (
    "it finds the tables of rest_channels in another schema than the server does: keep one log "
    "for all schemas, in the shared one (rest_channels in SHARED_APPS alone)"
)


@dataclass(frozen=True)
class Trace:
    """
    The state that has been left so far.

    `name` is equal for the same state in every process, as far as that is known, and empty if no
    state was left; `refusal` says why such an answer cannot be served.
    """

    name: str = ""
    cause: str = ""
    refusal: str = ""


class Surroundings:
    """The state as it was when `around` began."""

    def __init__(self, alias: str, seen: dict[Any, Noted], log: Any) -> None:
        self.alias = alias
        self._log = log
        self._seen = seen
        self._attributes = {c: own_attributes(c) for c in seen}
        self._ambient = ambient()
        self._depth = len(connections[alias].atomic_blocks)

    @property
    def has_changed_sessions(self) -> bool:
        """Whether a database has state to undo."""
        return any(not seen.is_empty for seen in self._seen.values())

    @property
    def has_changed(self) -> bool:
        """Whether any state was left."""
        return self.has_changed_sessions or any(kept.changed() for kept in self._retained)

    @property
    def _retained(self) -> list[Retained]:
        return [*self._attributes.values(), *self._ambient]

    def trace(self) -> Trace:
        """Return the state that has been left so far; queries the database for the log it finds."""
        for connection, seen in self._seen.items():
            seen.settle(connection)
        changes = [kept.changed() for kept in self._retained]
        if not self.has_changed_sessions and not any(changes):
            return Trace()
        named = {
            f"{number}.{name}": _named(value)
            for number, changed in enumerate(changes)
            for name, value in changed.items()
            if name != "search_path_set_schemas"
        }
        digests = [seen.digest for seen in self._seen.values()]
        causes = [seen.first for seen in self._seen.values() if seen.first]
        causes += [name for changed in changes for name in changed]
        return Trace(repr((sorted(named.items()), digests)), ", ".join(causes[:3]), self._refusal())

    def put_back(self) -> None:
        """Undo the state left in Python; a rollback undoes the rest."""
        for kept in self._retained:
            kept.put_back()

    @property
    def is_refused(self) -> bool:
        """Whether a statement was refused because no rollback undoes it."""
        return any(seen.is_refused for seen in self._seen.values())

    @property
    def cause(self) -> str:
        """The beginnings of the statements that changed state."""
        return ", ".join(seen.first for seen in self._seen.values() if seen.first)

    @property
    def has_lasting(self) -> bool:
        """Whether state was changed that no rollback restores."""
        return any(
            not effects.isdisjoint(seen.effects) or (not is_own and bool(seen.functions))
            for is_own, effects, seen in (
                (c.alias == self.alias, _lasting(c, self.alias), seen)
                for c, seen in self._seen.items()
            )
        )

    def _refusal(self) -> str:
        connection = connections[self.alias]
        if self.has_lasting or self.is_refused:
            return NOT_RESTORABLE
        is_local = Effect.SETS_LOCALLY in self._seen[connection].effects
        is_atomic = connection.settings_dict["ATOMIC_REQUESTS"]
        if is_local and not is_atomic and len(connection.atomic_blocks) == self._depth:
            return _LOCAL_WITHOUT_TRANSACTION
        if self._log is not None and log_here(self.alias) != self._log:
            return _LOG_OF_ANOTHER_SCHEMA
        return ""


@contextmanager
def around(alias: str, log: Any = None) -> Iterator[Surroundings]:
    """
    Record changes of state within this context, and undo those in Python at its end.

    Statements with lasting effects are refused. `log` is what `log_here` returned before.
    """
    with ExitStack() as stack:
        seen = {
            connection: stack.enter_context(noting(connection, _lasting(connection, alias)))
            for connection in connections.all()
        }
        surroundings = Surroundings(alias, seen, log)
        try:
            yield surroundings
        finally:
            surroundings.put_back()
            if surroundings.has_lasting:
                # The worker that hands the connection on closes it.
                stack.callback(_keep_in_mind, seen)


def _keep_in_mind(seen: dict[Any, Noted]) -> None:
    for connection, meanwhile in seen.items():
        noted(connection).add(meanwhile)


def log_here(alias: str) -> Any:
    """Return a key for the log that the session finds in its current state."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return ""
    table = connection.ops.quote_name(pending(alias).model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)::oid", [table])
        return cursor.fetchone()[0]


def _lasting(connection: Any, alias: str) -> frozenset[Effect]:
    """
    Return the effects that cannot be undone on `connection` in a pass of the database `alias`.
    """
    if connection.alias == alias and connection.vendor in _UNDOABLE_ON:
        return frozenset({Effect.LASTS})
    return SESSION


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    """Roll back all changes to the database `alias` within this context; requires a transaction."""
    connection = connections[alias]
    before = connection.get_rollback()
    # A test of the project may have marked its transaction for rollback.
    connection.set_rollback(False)
    savepoint = connection.savepoint()
    try:
        yield
    finally:
        connection.set_rollback(False)
        connection.savepoint_rollback(savepoint)
        connection.savepoint_commit(savepoint)
        connection.set_rollback(before)


def _named(value: Any) -> str:
    if isinstance(value, Model):
        return f"{value._meta.label} {value.pk}"
    try:
        return repr(exact(value))
    except Inexact:
        held = getattr(value, "__dict__", None)
        known = {n: exact(v) for n, v in (held or {}).items() if _is_exact(v)}
        return f"{type(value).__qualname__} {sorted(known.items(), key=str)}"


def _is_exact(value: Any) -> bool:
    try:
        exact(value)
    except Inexact:
        return False
    return True
