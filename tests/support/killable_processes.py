"""
Processes that a test may kill at any step: forked within milliseconds from one that has imported
the project, so that there can be many.

    with Victim(write, "lobby", stop_at="before the commit") as victim:
        victim.has_stopped()
        victim.kill()

    with VictimServer(POLL_SECONDS=0.1) as server, server.connect("/") as socket:
        server.stop_at("after the rows")

The given function runs in the child, on the test's database unless another is named. Once it is at
the moment that it is to stop at, it stays there for ever.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest
import uvicorn
from django.core.management import call_command
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import override_settings

from rest_channels.bus import news, publisher
from rest_channels.live.log.sequencer import sequence
from tests.models import Room
from tests.support.apps.live_rooms_app import application
from tests.support.server_processes import Address
from tests.support.stepped_processes import SECONDS, hook_into_passes

_fork = multiprocessing.get_context("forkserver")
# The application comes first, because it sets Django up.
_fork.set_forkserver_preload(["tests.support.apps.live_rooms_app", __name__])


class Stage:
    """The child's side: reports its progress, and stops at the step that the test names."""

    def __init__(self, pipe: Connection, stop_at: str | None) -> None:
        self._pipe = pipe
        self._stop_at = stop_at
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def reach(self, moment: str) -> None:
        if moment == self._stop_at:
            self.tell(moment)
            threading.Event().wait()

    def tell(self, what: Any) -> None:
        with self._lock:
            self._pipe.send(what)

    def _listen(self) -> None:
        while True:
            try:
                self._stop_at = self._pipe.recv()
            except EOFError:
                return
            self.tell("told")


class Victim:
    """A process that calls `function` with a `Stage` and `args`; killed at the end of the block."""

    def __init__(
        self,
        function: Callable[..., None],
        *args: Any,
        stop_at: str | None = None,
        database: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self._pipe, there = _fork.Pipe()
        database = database or connections["default"].settings_dict
        self._stop_at = stop_at
        self._process = _fork.Process(
            target=_live, args=(there, stop_at, database, settings or {}, function, args)
        )
        self._process.start()
        there.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()
        self._process.close()
        self._pipe.close()

    def hears(self) -> Any:
        """Return its next report. Raises `EOFError` if it has ended."""
        assert self._pipe.poll(SECONDS), "the process says nothing"
        return self._pipe.recv()

    def stop_at(self, moment: str) -> None:
        """From now on."""
        self._stop_at = moment
        self._pipe.send(moment)
        assert self.hears() == "told"

    def has_stopped(self) -> bool:
        """Whether it comes to its moment; False where it ends before, and well."""
        try:
            assert self.hears() == self._stop_at
        except EOFError:
            self._process.join(SECONDS)
            assert self._process.exitcode == 0
            return False
        return True

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.join(SECONDS)

    @property
    def pid(self) -> int:
        return self._process.pid


class VictimServer(Victim, Address):
    """
    uvicorn, serving `tests.support.apps.live_rooms_app`. Keywords are `REST_CHANNELS`. Besides
    those of a pass its moments are "accept", "acknowledged" and "an event".
    """

    def __init__(
        self,
        *,
        channel_layers: dict[str, Any] | None = None,
        database: dict[str, Any] | None = None,
        is_deaf: bool = False,
        **rest_channels: Any,
    ) -> None:
        settings = {"REST_CHANNELS": rest_channels}
        if channel_layers is not None:
            settings["CHANNEL_LAYERS"] = channel_layers
        super().__init__(serve_deaf if is_deaf else serve, database=database, settings=settings)
        self.port = self.hears()


# In the child


def _live(
    pipe: Connection,
    stop_at: str | None,
    database: dict[str, Any],
    settings: dict[str, Any],
    function: Callable[..., None],
    args: tuple[Any, ...],
) -> None:
    # `-X dev` would have every future note where it was made, which takes most of the time.
    asyncio.coroutines._is_debug_mode = lambda: False
    connections["default"].settings_dict.update(database)
    with override_settings(**settings):
        function(Stage(pipe, stop_at), *args)


def _stop_at_statements(stage: Stage) -> None:
    """Its moments are "statement 1" and so on, each before it, and those around the commit."""
    count = 0

    def executing(execute: Any, *args: Any) -> Any:
        nonlocal count
        count += 1
        stage.reach(f"statement {count}")
        return execute(*args)

    commit = BaseDatabaseWrapper._commit

    def committing(self: BaseDatabaseWrapper) -> None:
        stage.reach("before the commit")
        commit(self)
        stage.reach("after the commit")

    BaseDatabaseWrapper._commit = committing
    connections["default"].execute_wrappers.append(executing)


def write(stage: Stage, *names: str) -> None:
    """Make rooms of these names, in one transaction."""
    _stop_at_statements(stage)
    with transaction.atomic():
        for name in names:
            Room.objects.create(name=name)


def rewrite(stage: Stage, names: list[str]) -> None:
    """As a command would: rooms are hidden and shown, renamed, deleted and made, by each name."""
    for count, name in enumerate(names):
        with transaction.atomic():
            rooms = list(Room.objects.select_for_update().order_by("id"))
            room = rooms[count % len(rooms)]
            room.name, room.is_staff_only = name, not room.is_staff_only
            room.save()
            if count % 5 == 4:
                rooms[0].delete()
                Room.objects.create(name=f"new-{name}")
    publisher.flush()


def number(stage: Stage) -> None:
    """Give what is pending its numbers."""
    _stop_at_statements(stage)
    sequence("default")


def migrate(stage: Stage) -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)


def serve_deaf(stage: Stage) -> None:
    """Only its doorbell and its polls have it look, so that a test says when."""
    pytest.MonkeyPatch().setattr(news, "listen", lambda alias, ear: None)
    serve(stage)


def serve(stage: Stage) -> None:
    hook_into_passes(pytest.MonkeyPatch(), stage.reach)

    async def served(scope: Any, receive: Any, send: Any) -> None:
        events = 0

        async def sending(message: Any) -> None:
            nonlocal events
            if message["type"] == "websocket.accept":
                stage.reach("accept")
            await send(message)
            text = message.get("text", "")
            if '"response_status": 201' in text:
                stage.reach("acknowledged")
            elif '"previous"' in text:
                stage.reach("an event")

        await application(scope, receive, sending)

    listener = socket.create_server(("127.0.0.1", 0))
    stage.tell(listener.getsockname()[1])
    config = uvicorn.Config(served, log_level="warning", lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])
