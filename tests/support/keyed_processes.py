"""
Servers that a test may kill at any step of a frame with a key.

    with KeyedServer(stop_at="before the commit") as server:
        ask(socket, "create", data={"name": "hall"}, idempotency_key="k")
        server.has_stopped()
        server.kill()

The moments are "statement 1" and so on, each before one that the frame makes once it is taken, the
moments around the commit, and "before the reply".
"""

from __future__ import annotations

import threading
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from rest_channels.sockets.keyed_exchange import KeyedExchange
from tests.support.killable_processes import Stage, Victim, serve
from tests.support.server_processes import Address


class KeyedServer(Victim, Address):
    """uvicorn, serving `tests.support.apps.live_rooms_app`. Keywords are `REST_CHANNELS`."""

    def __init__(self, *, stop_at: str | None = None, **rest_channels: Any) -> None:
        super().__init__(serve_keyed, stop_at=stop_at, settings={"REST_CHANNELS": rest_channels})
        self.port = self.hears()

    def has_stopped(self) -> bool:
        """Whether it comes to its moment; False where it answers before."""
        return self.hears() == self._stop_at


# In the child


class _Count(threading.local):
    """The statements of this thread's keyed frame; None outside one."""

    statements: int | None = None


_count = _Count()


def serve_keyed(stage: Stage) -> None:
    # Wrappers of a connection would be taken off between frames.
    execute = CursorWrapper._execute_with_wrappers

    def executing(self: CursorWrapper, *args: Any, **kwargs: Any) -> Any:
        if _count.statements is not None:
            _count.statements += 1
            stage.reach(f"statement {_count.statements}")
        return execute(self, *args, **kwargs)

    dispatched, commit = KeyedExchange._dispatched, BaseDatabaseWrapper._commit

    def dispatching(self: KeyedExchange) -> Any:
        _count.statements = 0
        try:
            reply = dispatched(self)
            stage.reach("before the reply")
            stage.tell("answered")
            return reply
        finally:
            _count.statements = None

    def committing(self: BaseDatabaseWrapper) -> None:
        if _count.statements is not None:
            stage.reach("before the commit")
        commit(self)
        if _count.statements is not None:
            stage.reach("after the commit")

    CursorWrapper._execute_with_wrappers = executing
    KeyedExchange._dispatched = dispatching
    BaseDatabaseWrapper._commit = committing
    serve(stage)
