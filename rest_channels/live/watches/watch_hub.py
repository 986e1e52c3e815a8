"""
The watches of this process: which of them a change concerns, and who runs.

Each loop that serves sockets has a hub. Its groups run in the worker pool; the followers of
subscriptions read the logs for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, Final

from rest_channels.bus.loops import PerLoop
from rest_channels.live.delivery.hub import current_hub
from rest_channels.live.delivery.pass_state import Seen
from rest_channels.live.interface import Answer, Basis, Check
from rest_channels.live.log.positions import Position
from rest_channels.live.visibility.request_tracking import SOCKET
from rest_channels.live.watches.shared_groups import SharedGroup
from rest_channels.live.watches.watch_groups import Group
from rest_channels.live.watches.watch_runs import Run, within_limit
from rest_channels.live.watches.watching import Watching
from rest_channels.live.watches.written_tables import WrittenTables
from rest_channels.metrics import figures
from rest_channels.metrics.gauges import watch
from rest_channels.protocol import CloseCode
from rest_channels.settings import socket_settings

# The seconds within which the logs are read to their ends; afterwards clients share no answer.
_SECONDS_TO_READ_ON: Final = 10


class FollowedLog:
    """The log of one database, and the groups whose answers were made from its tables."""

    def __init__(
        self,
        alias: str,
        on_seen: Callable[[FollowedLog], None],
        on_failure: Callable[[FollowedLog], None],
    ) -> None:
        self.alias = alias
        self.written = WrittenTables()
        self.groups: dict[Group, None] = {}
        self._on_seen = on_seen
        self._on_failure = on_failure

    def on_seen(self, seen: Seen) -> None:
        """Take what a pass has read of the log."""
        self.written.add(seen)
        if seen.changes or not seen.is_continuous:
            self._on_seen(self)

    def on_failure(self) -> None:
        """React to the end of the follower, which has failed."""
        self._on_failure(self)


class WatchHub:
    """The watches of one loop, in groups that share runs. On the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._groups: dict[Hashable, Group] = {}
        self._group_of: dict[Watching, Group] = {}
        self._logs: dict[str, FollowedLog] = {}
        watch(self)

    @property
    def watch_groups(self) -> list[Group]:
        """The groups that share runs. In any thread."""
        return list(self._groups.values())

    def gauges(self) -> dict[str, int]:
        """Return the numbers of watches and of groups."""
        return {"watches": len(self._group_of), "watch_groups": len(self._groups)}

    def places(self) -> dict[str, Position]:
        """Return the places that followers have reached in the logs, by database."""
        reached = {alias: log.written.place for alias, log in self._logs.items()}
        return {alias: place for alias, place in reached.items() if place is not None}

    def add(self, watching: Watching) -> None:
        """Start a watch with the answer of its first run."""
        answer = watching.answer
        assert answer is not None
        watching.acknowledge()
        self.move(watching, answer)

    def remove(self, watching: Watching) -> None:
        """End a watch; it sends nothing more."""
        watching.end()
        group = self._group_of.pop(watching, None)
        if group is not None:
            group.remove(watching)

    async def settle(self, watchings: Collection[Watching], seconds: float) -> bool:
        """
        Run those of `watchings` at once that changes committed by now concern, in any database.

        Returns whether all of them were answered within `seconds`. Slower ones continue.
        """
        groups = self._groups_of(watchings)
        logs = [log for log in self._logs.values() if not log.groups.keys().isdisjoint(groups)]
        try:
            async with asyncio.timeout(seconds):
                # A pass rings the groups that its changes concern.
                await asyncio.gather(*(current_hub().read_commits(log.alias) for log in logs))
                # A run may have moved some to other groups.
                groups = self._groups_of(watchings)
                await asyncio.gather(*(group.settle() for group in groups))
        except TimeoutError:
            return False
        return True

    def _groups_of(self, watchings: Iterable[Watching]) -> set[Group]:
        return {self._group_of[watching] for watching in watchings if watching in self._group_of}

    # The protocol that groups use

    async def run(self, watching: Watching) -> Answer:
        figures.watch_runs.add()
        return await self._run(watching, watching.watch.run, watching.watch.kind)

    async def check(self, watching: Watching) -> Answer:
        figures.watch_checks.add()
        return await self._run(watching, watching.watch.check, (watching.watch.kind, "check"))

    async def _run(
        self, watching: Watching, function: Callable[..., Any], kind: Hashable
    ) -> Answer:
        owner = watching.watch.credentials.owner
        run = Run(function, self.places())
        answer: Answer = await within_limit(run, owner=owner, kind=kind)
        return answer

    async def read_on(self, basis: Basis) -> bool:
        try:
            async with asyncio.timeout(_SECONDS_TO_READ_ON):
                read = await asyncio.gather(*map(current_hub().read_commits, basis.tables))
        except TimeoutError:
            return False
        return all(read)

    def is_outdated(self, basis: Basis, user_pks: Iterable[Any]) -> bool:
        return any(
            log.written.concern(basis.heads[alias], tables)
            or log.written.concern_users(basis.heads[alias], user_pks)
            for alias, tables in basis.tables.items()
            if (log := self._logs.get(alias)) is not None
        )

    def holds(self, check: Check, watching: Watching) -> bool:
        credentials = watching.watch.credentials
        is_fresh = time.monotonic() - check.as_of < socket_settings.LEASE_SECONDS
        if not is_fresh or check.identity != credentials.identity:
            return False
        return all(
            (log := self._logs.get(alias)) is not None
            and not log.written.concern(check.heads[alias], check.tables.get(alias, ()))
            and not log.written.concern_users(check.heads[alias], credentials.user_pks)
            for alias in check.tables
        )

    def key_of(self, watching: Watching, basis: Basis) -> Hashable:
        if basis.sharing is not None:
            return SharedGroup, watching.watch.place, basis.sharing.key
        if SOCKET in basis.reads:
            return watching
        return watching.watch.place, watching.watch.identity

    def on_basis(self, group: Group) -> None:
        assert group.basis is not None
        for alias in group.basis.tables:
            log = self._logs.get(alias)
            if log is None:
                log = self._logs[alias] = FollowedLog(alias, self._on_seen, self._on_failure)
                current_hub().tap(alias, log)
            log.groups[group] = None
        for alias in self._logs.keys() - group.basis.tables.keys():
            self._leave(self._logs[alias], group)

    def move(self, watching: Watching, answer: Answer | None) -> None:
        key = object() if answer is None else self.key_of(watching, answer.basis)
        group = self._groups.get(key)
        if group is None:
            is_shared = answer is not None and answer.basis.sharing is not None
            make = SharedGroup if is_shared else Group
            group = self._groups[key] = make(key, self, watching, answer)
            if answer is not None:
                self.on_basis(group)
        else:
            group.add(watching, answer)
        self._group_of[watching] = group
        pks = watching.watch.credentials.user_pks
        if answer is not None and self.is_outdated(answer.basis, pks):
            group.ring()

    def forget(self, group: Group) -> None:
        del self._groups[group.key]
        for log in list(self._logs.values()):
            self._leave(log, group)

    # Changes

    def _on_seen(self, log: FollowedLog) -> None:
        for group in list(log.groups):
            group.on_written(log.alias, log.written)

    def _on_failure(self, log: FollowedLog) -> None:
        """Close the sockets that would receive nothing more, without a sign."""
        for group in list(log.groups):
            for watching in list(group.members):
                watching.wire.outbox.close(CloseCode.SERVER_ERROR)
                self.remove(watching)

    def _leave(self, log: FollowedLog, group: Group) -> None:
        log.groups.pop(group, None)
        if not log.groups and self._logs.pop(log.alias, None) is not None:
            current_hub().untap(log.alias, log)


_hubs: PerLoop[WatchHub] = PerLoop(WatchHub)


def current_watch_hub() -> WatchHub:
    """Return the hub of the running loop."""
    return _hubs.current()


def running_watch_hubs() -> list[WatchHub]:
    """Return the hubs of all running loops. From any thread."""
    return _hubs.running()
