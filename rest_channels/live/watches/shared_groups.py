"""
Clients of any users that share the answer of one run, each with a permission of its own.

A run answers the client for whom it was made. Any other client receives the answer only if its own
checks, such as authentication and permissions, have passed within a lease, before the answer was
made, and nothing that they were made of was written to until after it was made. If they no longer
hold, they run again for this client alone. In doubt the whole action runs for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from rest_framework import status

from rest_channels.live.interface import Answer, Basis, Check, Sharing
from rest_channels.live.visibility.request_tracking import SOCKET
from rest_channels.live.watches.watch_groups import ENDING, Group, GroupOwner, told_by
from rest_channels.live.watches.watch_runs import TooSlow
from rest_channels.live.watches.watching import Watching
from rest_channels.live.watches.written_tables import WrittenTables
from rest_channels.protocol import Reply
from rest_channels.settings import socket_settings
from rest_channels.workers.contexts import bare_context

# Runs in a row whose outcome concerns their own client alone. Then each client gets a run.
_MAX_STRIKES: Final = 2


class SharedGroup(Group):
    """Clients of any users that share the runs of one action. On the loop."""

    def __init__(
        self, key: Hashable, owner: GroupOwner, watching: Watching, answer: Answer | None
    ) -> None:
        # The labels of all tables that checks were made of, by database.
        self._checked: dict[str, set[str]] = {}
        self._checking: dict[Watching, asyncio.Task[None]] = {}
        # Those of them that must be checked once more.
        self._doubted: set[Watching] = set()
        # The last answer, while some clients wait for it.
        self._event = ""
        self._is_sharing = False
        self._made_at = float("inf")
        self._strikes = 0
        self._hurry_checks = asyncio.Event()
        # How many wait for the checks to end.
        self._hurries = 0
        super().__init__(key, owner, watching, answer)

    def add(self, watching: Watching, answer: Answer | None) -> None:
        assert answer is not None, "clients come with an answer of their own"
        self._take_check(watching, answer)
        super().add(watching, answer)

    def remove(self, watching: Watching) -> None:
        self._doubted.discard(watching)
        task = self._checking.pop(watching, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        super().remove(watching)

    def on_written(self, alias: str, written: WrittenTables) -> None:
        assert self.basis is not None
        if written.concern(self.basis.heads[alias], self.basis.tables[alias]):
            self.ring()
        if written.has_touched(self._checked.get(alias, set())):
            for member in list(self.members):
                self._doubt(member, alias, written)

    def _doubt(self, member: Watching, alias: str, written: WrittenTables) -> None:
        """Check a client again if what was written concerns its permission."""
        check, credentials = member.check, member.watch.credentials
        assert check is not None
        head = check.heads.get(alias)
        if head is None or written.concern_users(head, credentials.user_pks):
            credentials.doubt()
        elif not written.concern(head, check.tables.get(alias, ())):
            return
        self._check_again(member)

    @property
    def checks(self) -> int:
        return len(self._checking)

    async def settle(self) -> None:
        await super().settle()
        self._hurries += 1
        try:
            while self._checking:
                self._hurry_checks.set()
                await asyncio.wait(list(self._checking.values()))
        finally:
            self._hurries -= 1
            if not self._hurries:
                self._hurry_checks.clear()

    # Runs

    async def _take(self, watching: Watching, identity: Hashable, answer: Answer) -> None:
        if watching.is_over or watching.watch.identity != identity:
            if not watching.is_over:
                self._move(watching, None)
            self.ring()
        else:
            await super()._take(watching, identity, answer)

    async def _succeed(self, watching: Watching, identity: Hashable, answer: Answer) -> None:
        if self._owner.key_of(watching, answer.basis) != self.key:
            watching.tell(*told_by(answer))
            self._move(watching, answer)
            self._strike()
            return
        self._strikes = 0
        self._event = self._adopt(answer)
        self._made_at = _sharing_of(answer).check.began
        self._take_check(watching, answer)
        watching.tell(self._token, self._event)
        self._settle_down()
        self._is_sharing = True
        try:
            others = [m for m in self.members if m is not watching]
            await self._share(others, identity, answer.basis)
        finally:
            self._is_sharing = False
            self._forget_event()

    async def _share(self, others: list[Watching], identity: Hashable, basis: Basis) -> None:
        """Send the answer to `others`, each if it is permitted."""
        if SOCKET not in basis.reads:
            # They are permitted what the client of this run is.
            of_same = {m for m in others if m.watch.identity == identity}
            for member in of_same:
                member.check = _sharing(basis).check
                member.tell(self._token, self._event)
            others = [m for m in others if m not in of_same]
        if not others:
            return
        is_read = await self._owner.read_on(basis)
        for member in others:
            if member not in self.members:
                continue
            if not is_read:
                self._move(member, None)
            elif self._owner.holds(_check_of(member), member):
                self._deliver(member)
            else:
                self._check_again(member)

    def _deliver(self, member: Watching) -> None:
        """Send the last answer to a client whose check holds, if it held for that answer."""
        if member.told == self._token:
            return
        if not self._event:
            self.ring()
        elif _check_of(member).began <= self._made_at or not self._is_outdated:
            member.tell(self._token, self._event)
        else:
            # Its permission is younger than the answer, which may show what was deleted before.
            self._move(member, None)

    def _forget_event(self) -> None:
        """Free the memory of the last answer once no client waits for it."""
        if not (self._is_sharing or self._checking):
            self._event = ""

    def _take_check(self, member: Watching, answer: Answer) -> None:
        member.check = _sharing_of(answer).check
        for alias, labels in member.check.tables.items():
            self._checked.setdefault(alias, set()).update(labels)

    # Checks

    def _check_again(self, member: Watching) -> None:
        if member in self._checking:
            self._doubted.add(member)
        else:
            run = bare_context().run
            self._checking[member] = run(asyncio.ensure_future, self._check(member))

    async def _check(self, member: Watching) -> None:
        try:
            is_over = False
            while not is_over:
                await self._rest_of(member)
                self._doubted.discard(member)
                is_over = await self._judge(member, await self._owner.check(member))
        except TooSlow as slow:
            self._end(member, slow.reply(None))
        except Exception:
            # Its own run answers, or fails, as the action does.
            self._move(member, None)
        finally:
            if self._checking.get(member) is asyncio.current_task():
                del self._checking[member]
            self._forget_event()

    async def _rest_of(self, member: Watching) -> None:
        left = _check_of(member).began + socket_settings.WATCH_SECONDS - time.monotonic()
        if left > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry_checks.wait(), left)

    async def _judge(self, member: Watching, answer: Answer) -> bool:
        """Act on a client's check; returns False if it must be checked again."""
        if answer.reply.status in ENDING:
            self._end(member, answer.reply)
            return True
        if self._owner.key_of(member, answer.basis) != self.key:
            # It has failed, or would get another answer.
            self._move(member, None)
            return True
        self._take_check(member, answer)
        is_read = self.basis is not None and await self._owner.read_on(self.basis)
        if is_read and self._owner.holds(_check_of(member), member):
            self._deliver(member)
        elif is_read and member.told == self._token:
            # Nothing waits for it.
            return member not in self._doubted
        else:
            self._move(member, None)
        return True

    # Outcomes for one client alone

    def _refuse(self, watching: Watching, reply: Reply) -> None:
        self._end(watching, reply)
        if reply.status == status.HTTP_404_NOT_FOUND:
            self._dissolve()
        elif reply.status == status.HTTP_400_BAD_REQUEST and self._strikes:
            # It is too slow, or its answer too large, for another client as well.
            self._revoke(reply)
        else:
            self._strike()

    def _fail(self, reply: Reply, basis: Basis | None) -> None:
        super()._fail(reply, basis)
        if self.members:
            # The next run is for another client.
            first = next(iter(self.members))
            self.members[first] = self.members.pop(first)

    def _strike(self) -> None:
        """Go on with the next client, unless that has not helped."""
        self._strikes += 1
        if self._strikes >= _MAX_STRIKES:
            self._dissolve()
        else:
            self.ring()

    def _dissolve(self) -> None:
        for member in list(self.members):
            self._move(member, None)

    def _basis_of(self, answer: Answer) -> Basis:
        return replace(answer.basis, tables=_sharing_of(answer).tables)

    @property
    def _is_outdated(self) -> bool:
        # Users are a matter of each client's check.
        assert self.basis is not None
        return self._owner.is_outdated(self.basis, ())

    def _stop(self) -> None:
        super()._stop()
        for task in self._checking.values():
            if task is not asyncio.current_task():
                task.cancel()


def _sharing(basis: Basis) -> Sharing:
    assert basis.sharing is not None
    return basis.sharing


def _sharing_of(answer: Answer) -> Sharing:
    return _sharing(answer.basis)


def _check_of(member: Watching) -> Check:
    assert member.check is not None
    return member.check
