"""Clients that share one run of a watched action, one run after another."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Hashable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol

from rest_framework import status

from rest_channels.live.interface import Answer, Basis, Check
from rest_channels.live.watches.watch_runs import TooSlow
from rest_channels.live.watches.watch_tokens import token_of
from rest_channels.live.watches.watching import Watching
from rest_channels.live.watches.written_tables import WrittenTables
from rest_channels.protocol import Event, Reply
from rest_channels.settings import socket_settings
from rest_channels.sockets.response import reply_to_fault
from rest_channels.workers.contexts import bare_context

logger = logging.getLogger("rest_channels")

# Failed runs in a row after which a watch ends.
_MAX_FAILURES: Final = 10

#: Statuses that end a watch: this user may not see the answer, or there is none.
ENDING: Final = frozenset(
    {status.HTTP_401_UNAUTHORIZED, status.HTTP_403_FORBIDDEN, status.HTTP_404_NOT_FOUND}
)


class GroupOwner(Protocol):
    """The hub, as a group uses it."""

    async def run(self, watching: Watching) -> Answer:
        """Run the action of `watching`. Raises `TooSlow`, or what the run raises."""

    async def check(self, watching: Watching) -> Answer:
        """Do the same without the action itself: only what precedes it, such as permissions."""

    async def read_on(self, basis: Basis) -> bool:
        """
        Wait until all that was committed by now in the databases of `basis` has been read.

        Returns False if it is not read in time.
        """

    def is_outdated(self, basis: Basis, user_pks: Iterable[Any]) -> bool:
        """
        Return whether something that an answer was made of has been written to since.

        These are its tables, and the users with these keys.
        """

    def holds(self, check: Check, watching: Watching) -> bool:
        """Return whether `check` still permits the client to have an answer."""

    def key_of(self, watching: Watching, basis: Basis) -> Hashable:
        """Return a key that is equal for clients that can share a run made of `basis`."""

    def on_basis(self, group: Group) -> None:
        """Follow the databases that `group` depends on now."""

    def move(self, watching: Watching, answer: Answer | None) -> None:
        """Give a client that has left its group another; with the answer made for it, if any."""

    def remove(self, watching: Watching) -> None:
        """End a watch."""

    def forget(self, group: Group) -> None:
        """Forget a group that has no clients."""


class Group:
    """
    Clients that share the runs of one action, and what the last answer was made of. On the loop.

    At most one run is under way and one more due: any number of writes in the meantime lead to one
    run. `watching` is its first client, with the `answer` that was made for it, if any.
    """

    def __init__(
        self, key: Hashable, owner: GroupOwner, watching: Watching, answer: Answer | None
    ) -> None:
        self.key = key
        self.basis = None if answer is None else self._basis_of(answer)
        self.members: dict[Watching, None] = {}
        self._owner = owner
        self._token = watching.told
        self._is_due = False
        self._hurry = asyncio.Event()
        # A run of a client's own counts: the next one follows it at the same distance.
        self._began_at = float("-inf") if answer is None else time.monotonic()
        #: How long the last run took, with its wait for a thread (seconds); None before the first.
        self.seconds: float | None = None
        # The numbers of runs that have begun and ended.
        self._begun = self._ended = 0
        self._has_ended = asyncio.Event()
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.add(watching, answer)
        self._set_timer()

    def add(self, watching: Watching, answer: Answer | None) -> None:
        """Let `watching` share the runs; `answer` was made for it, None if it needs a run."""
        self.members[watching] = None
        watching.on_room = self._on_room
        if answer is None or watching.told != self._token:
            # Either of the two answers may be out of date.
            self.ring()

    def remove(self, watching: Watching) -> None:
        """Let `watching` go; a group without clients ends."""
        self.members.pop(watching, None)
        if not self.members:
            self._stop()
            self._owner.forget(self)

    @property
    def user_pks(self) -> set[Any]:
        """The keys of the users for whom it runs."""
        return {pk for member in self.members for pk in member.watch.credentials.user_pks}

    def on_written(self, alias: str, written: WrittenTables) -> None:
        """Run again if what `written` has of the database `alias` concerns the answer."""
        assert self.basis is not None
        head = self.basis.heads[alias]
        is_by_user = written.concern_users(head, self.user_pks)
        if is_by_user:
            # Read them again before the next run.
            for member in self.members:
                member.watch.credentials.doubt()
        if is_by_user or written.concern(head, self.basis.tables[alias]):
            self.ring()

    def ring(self) -> None:
        """Run soon, because the answer may have changed."""
        self._is_due = True
        if self._task is None and self.members:
            self._task = bare_context().run(asyncio.ensure_future, self._work())

    @property
    def is_due(self) -> bool:
        """Whether a run is due that has not begun."""
        return self._is_due

    @property
    def checks(self) -> int:
        """The number of clients whose permissions are being checked."""
        return 0

    async def settle(self) -> None:
        """Begin the run that is due now, without a rest, and wait for it or the one under way."""
        wanted = self._begun + self._is_due
        if self._is_due:
            self._hurry.set()
        while self._ended < wanted and self.members:
            self._has_ended.clear()
            await self._has_ended.wait()

    # Runs

    async def _work(self) -> None:
        """Run for as long as a run is due, one after another."""
        try:
            while self._is_due and self.members:
                await self._rest()
                self._is_due = False
                self._hurry.clear()
                await self._run(next(iter(self.members)))
        finally:
            self._task = None
            self._has_ended.set()

    async def _rest(self) -> None:
        """Wait until another run may begin, unless one is waited for."""
        is_circular = self.basis is not None and self.basis.writes_own
        seconds = socket_settings.LEASE_SECONDS if is_circular else socket_settings.WATCH_SECONDS
        left = self._began_at + seconds - time.monotonic()
        if left > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), left)

    async def _run(self, watching: Watching) -> None:
        self._began_at = time.monotonic()
        self._begun += 1
        identity = watching.watch.identity
        try:
            answer = await self._owner.run(watching)
        except TooSlow as slow:
            self._refuse(watching, slow.reply(None))
        except Exception as exc:
            self._fail(reply_to_fault(exc, "Server error while a watch ran", to=None), None)
        else:
            self.seconds = time.monotonic() - self._began_at
            await self._take(watching, identity, answer)
        finally:
            self._ended += 1
            self._has_ended.set()

    async def _take(self, watching: Watching, identity: Hashable, answer: Answer) -> None:
        if watching.is_over or watching.watch.identity != identity:
            # It was made with credentials that do not hold any more.
            self._part_with_others(identity)
            self.ring()
        elif answer.ends or answer.reply.status in ENDING:
            self._refuse(watching, answer.reply)
        elif answer.reply.status >= 300:
            self._fail(answer.reply, answer.basis)
        else:
            self._failures = 0
            await self._succeed(watching, identity, answer)

    async def _succeed(self, watching: Watching, identity: Hashable, answer: Answer) -> None:
        self._part_with_others(identity)
        shared = self._adopt(answer)
        if self._owner.key_of(watching, answer.basis) != self.key:
            # It does not answer all of its clients alike, as it seemed to.
            watching.tell(self._token, shared)
            for member in list(self.members):
                self._move(member, answer if member is watching else None)
            return
        for member in list(self.members):
            member.tell(self._token, shared)
        self._settle_down()

    def _adopt(self, answer: Answer) -> str:
        """Take `answer` as the last one; returns the part of its event that clients share."""
        self.basis = self._basis_of(answer)
        self._token, shared = told_by(answer)
        return shared

    def _settle_down(self) -> None:
        """Follow what the last answer was made of."""
        assert self.basis is not None
        self._set_timer()
        self._owner.on_basis(self)
        if self._is_outdated:
            self.ring()

    @property
    def _is_outdated(self) -> bool:
        """Whether the last answer may differ from one that is made now."""
        assert self.basis is not None
        return self._owner.is_outdated(self.basis, self.user_pks)

    def _basis_of(self, answer: Answer) -> Basis:
        return answer.basis

    def _part_with_others(self, identity: Hashable) -> None:
        """Let go clients whose sockets have another user now."""
        for member in list(self.members):
            if member.watch.identity != identity:
                self._move(member, None)

    def _move(self, member: Watching, answer: Answer | None) -> None:
        self.remove(member)
        self._owner.move(member, answer)

    def _fail(self, reply: Reply, basis: Basis | None) -> None:
        self._failures += 1
        watch = next(iter(self.members)).watch
        logger.warning(
            "A watch of %s was answered with status %s: %s", watch.title, reply.status, reply.errors
        )
        if self._failures >= _MAX_FAILURES:
            self._revoke(Reply(500, errors=reply.errors, codes=reply.codes))
            return
        if basis is not None and self.basis is not None:
            self.basis = _both(basis, self.basis)
            self._owner.on_basis(self)
        # Silence must not mean that nothing has changed.
        self._set_timer(socket_settings.LEASE_SECONDS)

    def _refuse(self, watching: Watching, reply: Reply) -> None:
        """End the watches of clients for whom the run of `watching` speaks."""
        self._revoke(reply)

    def _revoke(self, reply: Reply) -> None:
        for member in list(self.members):
            self._end(member, reply)

    def _end(self, member: Watching, reply: Reply) -> None:
        member.revoke(reply)
        self._owner.remove(member)

    # Time

    def _set_timer(self, seconds: float | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is None and self.basis is not None:
            seconds = self.basis.seconds
        if seconds is not None and self.members:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.ring)

    def _on_room(self, watching: Watching) -> None:
        self.ring()

    def _stop(self) -> None:
        # Not its own task, which goes on to its end.
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._has_ended.set()


def told_by(answer: Answer) -> tuple[str, str]:
    """Return the token of `answer`, and the part of its event that clients share."""
    data = answer.reply.data
    return token_of(data), Event("change", 200, data).shared


def _both(new: Basis, old: Basis) -> Basis:
    """Return the basis of a run that has failed, with the tables of the last answer."""
    tables = {
        alias: new.tables.get(alias, frozenset()) | old.tables.get(alias, frozenset())
        for alias in new.tables.keys() | old.tables.keys()
    }
    return replace(new, tables=tables, heads={**old.heads, **new.heads}, seconds=old.seconds)
