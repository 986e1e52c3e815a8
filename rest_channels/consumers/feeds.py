"""
Rooms with a history, told to the sockets of this process.

The table of messages is true; the channel layer only says that there are new ones, and a look now
and then makes it harmless where that is lost. So each socket gets every message of its rooms once,
in their order, whichever process it was sent to.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from rest_channels.consumers import history
from rest_channels.consumers.history import Said
from rest_channels.settings import socket_settings
from rest_channels.threads import Workers

if TYPE_CHECKING:
    from rest_channels.consumers.hub import Member

logger = logging.getLogger("rest_channels")

#: Where messages are read: one hub's rooms, one after the other.
readers: Final = Workers(threads=1)

#: Called with the `data` of an event and its action; returns the text.
Write = Callable[[str, Any], str]


class Feed:
    """
    One room: up to which number its messages were read, and up to which each member knows them.
    """

    def __init__(self, group: str, number: int, write: Write, name: str) -> None:
        self.group = group
        self.number = number
        self.write = write
        self.name = name
        self.members: dict[Member, int] = {}

    def tell(self, said: Sequence[Said]) -> None:
        """Send what members do not know yet."""
        first = said[0].number
        for member, known in self.members.items():
            if known < first - 1:
                # What is between is no longer kept.
                member.hear(self.group, self._reset())
        for message in said:
            text = self.write("message", message.data)
            for member, known in self.members.items():
                if known < message.number:
                    member.hear(self.group, text)
        self.number = said[-1].number
        for member, known in self.members.items():
            self.members[member] = max(known, self.number)

    def end(self) -> None:
        """Nobody is told more who does not join again."""
        for member in self.members:
            member.hear(self.group, self._reset())

    def _reset(self) -> str:
        return self.write("reset", {"room": self.name})


class Feeds:
    """The rooms that this hub's sockets are in. On the loop."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        self._rung: set[str] = set()
        self._is_rung = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False

    def enter(self, group: str, member: Member, number: int, write: Write, name: str) -> None:
        """Tell `member` what is said in `group` after the message of that number."""
        feed = self._feeds.get(group)
        if feed is None:
            feed = self._feeds[group] = Feed(group, number, write, name)
        # Others may have been told more since this one read: that much is read again.
        feed.number = min(feed.number, number)
        feed.members[member] = max(feed.members.get(member, 0), number)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._follow())

    def leave(self, group: str, member: Member) -> None:
        """Tell `member` nothing more."""
        feed = self._feeds.get(group)
        if feed is not None:
            feed.members.pop(member, None)
            if not feed.members:
                del self._feeds[group]
                # The task ends by itself.
                self._is_rung.set()

    def ring(self, group: str) -> None:
        """Something was said in `group`."""
        if group in self._feeds:
            self._rung.add(group)
            self._is_rung.set()

    async def _follow(self) -> None:
        try:
            looked_at = time.monotonic()
            while self._feeds:
                self._is_rung.clear()
                is_due = time.monotonic() - looked_at >= socket_settings.POLL_SECONDS
                await self._look(at_all=is_due)
                if is_due:
                    looked_at = time.monotonic()
                await self._wait(looked_at + socket_settings.POLL_SECONDS - time.monotonic())
        finally:
            self._task = None

    async def _wait(self, seconds: float) -> None:
        """Wait for what is announced; an announcement may be lost, so not for ever."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_rung.wait(), max(0.0, seconds))

    async def _look(self, *, at_all: bool) -> None:
        rung, self._rung = self._rung, set()
        since = {g: feed.number for g, feed in self._feeds.items() if at_all or g in rung}
        try:
            news = await readers.run(history.news, since, rung)
            self._is_failing = False
        except Exception:
            # At the latest when all are looked at.
            self._rung |= rung
            if not self._is_failing:
                self._is_failing = True
                logger.warning("Messages of rooms cannot be read: they wait.", exc_info=True)
            return
        for group, said in news.items():
            self._tell(group, since[group], said)

    def _tell(self, group: str, since: int, said: Sequence[Said]) -> None:
        feed = self._feeds.get(group)
        if feed is None:
            return
        if feed.number != since:
            # Who has entered meanwhile needs what came before.
            self.ring(group)
        elif not said:
            # A backup was restored. What it knows not of, other sockets have been told.
            del self._feeds[group]
            feed.end()
        else:
            feed.tell(said)
            if len(said) == history.PAGE_SIZE:
                self.ring(group)
