"""
Server processes as threads, driven step by step.

Each `Process` has an event loop and so a hub of its own. No doorbell rings: a hub looks at the log
when a test says so, and `look` returns once it has nothing left to do. `at` lets something happen
between two steps of its next pass. A `Clock` stands for the time that leases are measured by.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.db import connections
from django.db.backends.signals import connection_created
from django.test import override_settings

from rest_channels import authentication
from rest_channels.bus import doorbell, news
from rest_channels.live import change_path
from rest_channels.live.capture import triggers
from rest_channels.live.change_path import ChangePath
from rest_channels.live.delivery import hub, refresh, telling, track, tracks
from rest_channels.live.log import store
from rest_channels.live.log.sequencer import sequence
from rest_channels.live.visibility import evaluation, evaluations, learned
from rest_channels.sockets import revalidation
from rest_channels.workers import threads
from tests.support.clocks import Clock
from tests.support.quick_audiences import take_all_for_quick

#: Between which steps of a pass something may happen; see `Process.at`.
MOMENTS = [
    "before sequencing",
    "before the snapshot",
    "after the head",
    "after the entries",
    "before the rows",
    "after the rows",
    "before sending",
]

# Nothing takes as long, unless it never comes.
SECONDS = 20


class Processes:
    """The processes of one test, with a clock and a thread that writes."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.writer = ThreadPoolExecutor(1, "writer")
        self.hooks: dict[str, Callable[[], None]] = {}
        self._all: list[Process] = []
        #: All that were opened meanwhile.
        self.connections: list[Any] = []
        # Futures that are done once a follower has nothing left to do.
        self.waiting: dict[track.Track, list[asyncio.Future[None]]] = {}

    def start(self) -> Process:
        """One more process."""
        process = Process(self)
        self._all.append(process)
        return process

    def write(self, function: Callable[[], Any]) -> Any:
        """Call `function` in the thread that writes, on a connection of its own."""
        return self.writer.submit(function).result(SECONDS)

    def at(self, moment: str, function: Callable[[], Any], *, is_sequenced: bool = False) -> None:
        """
        Write by `function` once a pass of any process has come to `moment`; another process may
        have sequenced it by then.

        A pass that is still under way, after a reply that it has sent, is not meant.
        """
        assert moment in MOMENTS
        for process in self._all:
            process.settle()

        def hook() -> None:
            self.write(function)
            if is_sequenced:
                self.write(lambda: sequence("default"))

        self.hooks[moment] = hook

    def reach(self, moment: str) -> None:
        if (hook := self.hooks.pop(moment, None)) is not None:
            hook()

    def stop(self) -> None:
        for process in self._all:
            process.stop()
        self.writer.shutdown()
        for pool in (threads.workers, threads.drawers, *track.followers.all()):
            executor, pool._executor = pool._executor, None
            if executor is not None:
                executor.shutdown(wait=True)
        for connection in self.connections:
            # Its thread is gone.
            connection.inc_thread_sharing()
            connection.close()


class Process:
    """An event loop in a thread. Its methods are called from the test's."""

    def __init__(self, shared: Processes) -> None:
        self.shared = shared
        self.loop = asyncio.new_event_loop()
        # In asyncio's debug mode, which `-X dev` turns on, cancelled tasks do not end here.
        self.loop.set_debug(False)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    def connect(self, application: Any, path: str, headers: dict[str, str]) -> Socket:
        return self.run(self._connect(application, path, headers))

    def look(self) -> None:
        """Let the hub look at the log, until it has nothing left to do."""
        self.run(self._look())

    def catch_up(self) -> None:
        """Let the tracks of the hub look, those too that nobody rings."""
        self.run(self._look())
        self.run(self._catch_up())

    def hear(self, ring: Callable[[], bool]) -> None:
        """Let its doorbell ring, if `ring` does so, and the hub do all that there is to do."""
        self.run(self._look(ring))

    def settle(self) -> None:
        """Let the hub finish what it is about."""
        self.run(self._settle())

    def stop(self) -> None:
        self.run(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SECONDS)
        self.loop.close()

    async def _connect(self, application: Any, path: str, headers: dict[str, str]) -> Socket:
        named = {"host": "testserver", **headers}
        encoded = [(name.encode(), value.encode()) for name, value in named.items()]
        communicator = WebsocketCommunicator(application, path, headers=encoded)
        is_open, code = await communicator.connect(timeout=SECONDS)
        assert is_open, f"refused with {code}"
        return Socket(self, communicator)

    async def _look(self, ring: Callable[[], bool] | None = None) -> None:
        for follower in list(hub.current_hub()._followers.values()):
            quiet = self._quiet(follower)
            if ring is None:
                follower.ring()
            elif not ring():
                return
            await quiet
        await self._settle()

    async def _catch_up(self) -> None:
        for follower in list(hub.current_hub()._followers.values()):
            for one in follower.all_tracks:
                one.ring()
        await self._settle()

    async def _settle(self) -> None:
        followers = hub.current_hub()._followers
        while busy := [t for f in followers.values() for t in f.all_tracks if not t.is_idle]:
            await asyncio.gather(*map(self._quiet, busy))

    def _quiet(self, follower: track.Track) -> asyncio.Future[None]:
        """Return a future that is done once a track has nothing left to do, or has ended."""
        quiet: asyncio.Future[None] = self.loop.create_future()
        self.shared.waiting.setdefault(follower, []).append(quiet)
        return quiet

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Socket:
    """One client's socket in a process."""

    def __init__(self, process: Process, communicator: WebsocketCommunicator) -> None:
        self.process = process
        self._communicator = communicator
        self._count = 0
        self.close_code: int | None = None

    def ask(self, action: str, **keys: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the events before the reply to a frame, and the reply."""
        return self.process.run(self._ask(action, keys))

    def drain(self) -> list[dict[str, Any]]:
        """All that was sent."""
        return self.ask("unsubscribe")[0]

    def leave(self) -> None:
        self.process.run(self._leave())

    async def _ask(
        self, action: str, keys: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        self._count += 1
        asked = {"action": action, "request_id": f"ask {self._count}", **keys}
        before: list[dict[str, Any]] = []
        if self.close_code is not None:
            return before, {}
        await self._communicator.send_to(text_data=json.dumps(asked))
        while True:
            message = await self._communicator.receive_output(SECONDS)
            if message["type"] == "websocket.close":
                self.close_code = message["code"]
                return before, {}
            payload = json.loads(message["text"])
            is_reply = payload["request_id"] == asked["request_id"]
            if is_reply and payload["action"] == action:
                return before, payload
            before.append(payload)

    async def _leave(self) -> None:
        if not self._communicator.future.done():
            await self._communicator.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._communicator.wait(SECONDS)


@contextmanager
def running(capture: str = "signals") -> Iterator[Processes]:
    """Processes that look when the test says so, and databases that wait for no disk."""
    shared = Processes()
    patch = pytest.MonkeyPatch()
    for module in (
        evaluation,
        evaluations,
        learned,
        authentication,
        refresh,
        hub,
        track,
        revalidation,
    ):
        patch.setattr(module, "time", shared.clock)
    patch.setattr(doorbell, "ring", lambda alias: None)
    patch.setattr(news, "listen", lambda alias, ear: None)
    patch.setattr(revalidation.leases, "hint", lambda concerns: None)
    patch.setattr(revalidation.leases, "_schedule", lambda loop: None)
    patch.setattr(refresh, "_REFRESH_DELAY", 0)
    # A slow machine may take a minute, and then each subscription would receive a `sync`.
    patch.setattr(change_path, "_SECONDS_BETWEEN_SYNCS", float("inf"))
    # No test depends on the duration of passes; see `moving` for moves.
    take_all_for_quick(patch)
    hook_into_passes(patch, shared.reach)
    _hook_into_waiting(patch, shared)
    _keep_connections(patch, shared)
    given = {
        "POLL_SECONDS": 3600,
        "SYNC_SECONDS": 3600,
        "FRAME_RATE": 1e6,
        "FRAME_BURST": 10**6,
        "CAPTURE": capture,
    }
    try:
        with override_settings(REST_CHANNELS=given):
            triggers.sync("default")
            yield shared
            shared.stop()
        from tests.support.recorded_changes import restore_triggers  # needs the apps

        restore_triggers()
    finally:
        connection_created.disconnect(dispatch_uid="processes")
        patch.undo()


def hook_into_passes(patch: pytest.MonkeyPatch, reach: Callable[[str], None]) -> None:
    """Have every pass call `reach` with each of `MOMENTS` that it comes to."""
    head, since = store.head, store.since
    read_rows, send = telling.read_planned, ChangePath.send

    def sequencing(alias: str, **followed: Any) -> int:
        reach("before sequencing")
        count = sequence(alias, **followed)
        reach("before the snapshot")
        return count

    def heading(alias: str) -> Any:
        found = head(alias)
        reach("after the head")
        return found

    def reading_log(*args: Any, **kwargs: Any) -> Any:
        found = since(*args, **kwargs)
        reach("after the entries")
        return found

    def reading_rows(work: Any) -> Any:
        # As the rule itself reads: when the first is asked for, and raising there.
        reach("before the rows")
        found = list(read_rows(work))
        reach("after the rows")
        yield from found

    async def sending(self: ChangePath, outcome: Any) -> None:
        await asyncio.to_thread(reach, "before sending")
        await send(self, outcome)

    patch.setattr(change_path, "sequence", sequencing)
    patch.setattr(store, "head", heading)
    patch.setattr(store, "since", reading_log)
    patch.setattr(telling, "read_planned", reading_rows)
    patch.setattr(ChangePath, "send", sending)


@contextmanager
def moving(random: Random) -> Iterator[None]:
    """Audiences that move between tracks at random, as those that are slow at times do."""

    def some(audiences: list[Any]) -> list[Any]:
        return [audience for audience in audiences if random.random() < 0.5]

    def choose(self: Any, outcome: Any, here: track.Track) -> list[Any]:
        return some(list(here.state.audiences.values()))

    def track_for(self: Any, audience: Any, outcome: Any) -> track.Track:
        others = [self.main, *self._slow.values()]
        return random.choice([*others, self._slow_for(audience)])

    tracks_on = override_settings(REST_CHANNELS={**settings.REST_CHANNELS, "SLOW_TRACKS": 2})
    with tracks_on, pytest.MonkeyPatch.context() as patch:

        def ring_slow(self: Any) -> None:
            for slow in some(list(self._slow.values())):
                slow.ring()

        # Slow tracks fall behind.
        patch.setattr(tracks.Tracks, "_ring_slow", ring_slow)
        patch.setattr(tracks.Tracks, "choose_slow", choose)
        patch.setattr(tracks.Tracks, "choose_quick", choose)
        patch.setattr(tracks.Tracks, "_track_for", track_for)
        yield


def _hook_into_waiting(patch: pytest.MonkeyPatch, shared: Processes) -> None:
    wait = track.Track._wait

    def wake(follower: track.Track) -> None:
        for quiet in shared.waiting.pop(follower, ()):
            if not quiet.done():
                quiet.set_result(None)

    async def waiting(self: track.Track, seconds: float) -> None:
        if not self._is_rung.is_set():
            # Once it waits.
            self._loop.call_soon(wake, self)
        await wait(self, seconds)

    def waking_after(end: Any) -> Any:
        def ending(self: Any, follower: track.Track) -> None:
            end(self, follower)
            wake(follower)

        return ending

    patch.setattr(track.Track, "_wait", waiting)
    for owner, name in ((hub.Hub, "_on_end"), (tracks.Tracks, "on_end")):
        patch.setattr(owner, name, waking_after(getattr(owner, name)))


def _keep_connections(patch: pytest.MonkeyPatch, shared: Processes) -> None:
    """
    Connections that stay open until the end. SQLite's have a log of writes, so that a pass may go
    on while a client writes, and wait for no disk.
    """
    here = connections["default"]
    patch.setitem(here.settings_dict, "CONN_MAX_AGE", None)

    def on_created(connection: Any, **kwargs: Any) -> None:
        if connection is not here:
            shared.connections.append(connection)
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA journal_mode = WAL")
                cursor.execute("PRAGMA synchronous = OFF")

    connection_created.connect(on_created, dispatch_uid="processes", weak=False)
    if here.connection is not None:
        on_created(here)
