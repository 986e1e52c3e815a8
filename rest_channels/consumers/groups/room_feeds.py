"""
Send the messages of rooms with a history to the sockets of this process.

The table of messages is authoritative; the channel layer only announces new messages, and a look at
intervals makes up for lost announcements. So each socket receives every message of its rooms once,
in order, from any process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from rest_channels.bus.follower import Follower
from rest_channels.consumers.groups import room_history
from rest_channels.consumers.groups.members import Member
from rest_channels.consumers.groups.room_history import StoredMessage
from rest_channels.settings import socket_settings
from rest_channels.workers.threads import Workers

logger = logging.getLogger("rest_channels")

#: The thread that reads messages, of one room after the other.
readers: Final = Workers(threads=1)

#: Called with an event's action and its `data`; returns the text.
Write = Callable[[str, Any], str]


class Feed:
    """One room, with the number of the last message read, and of the last one each member knows."""

    def __init__(self, group: str, number: int, write: Write, name: str) -> None:
        self.group = group
        self.number = number
        self.write = write
        self.name = name
        self.members: dict[Member, int] = {}

    def tell(self, said: Sequence[StoredMessage]) -> None:
        """Send messages that members do not know yet."""
        first = said[0].number
        for member, known in self.members.items():
            if known < first - 1:
                # The messages in between are no longer kept.
                member.receive(self.group, self._reset())
        for message in said:
            text = self.write("message", message.data)
            for member, known in self.members.items():
                if known < message.number:
                    member.receive(self.group, text)
        self.number = said[-1].number
        for member, known in self.members.items():
            self.members[member] = max(known, self.number)

    def end(self) -> None:
        """Send a reset to all members; they receive more only if they join again."""
        for member in self.members:
            member.receive(self.group, self._reset())

    def _reset(self) -> str:
        return self.write("reset", {"room": self.name})


class Feeds(Follower):
    """The rooms of this hub's sockets. On the loop."""

    def __init__(self) -> None:
        super().__init__()
        self._feeds: dict[str, Feed] = {}
        #: The rooms with an announced message.
        self._rung: set[str] = set()
        self._looked_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False

    def enter(self, group: str, member: Member, number: int, write: Write, name: str) -> None:
        """Send `member` the messages of `group` after the one with that `number`."""
        feed = self._feeds.get(group)
        if feed is None:
            feed = self._feeds[group] = Feed(group, number, write, name)
        # Other members may know more by now: those messages are read again.
        feed.number = min(feed.number, number)
        feed.members[member] = max(feed.members.get(member, 0), number)
        if self._task is None:
            self._looked_at = time.monotonic()
            self._task = asyncio.get_running_loop().create_task(self._follow_until_the_end())

    def leave(self, group: str, member: Member) -> None:
        """Send `member` nothing more."""
        feed = self._feeds.get(group)
        if feed is not None:
            feed.members.pop(member, None)
            if not feed.members:
                del self._feeds[group]
                # Wake the task, which ends by itself.
                self.ring()

    def news(self, group: str) -> None:
        """Look soon, because `group` has a new message."""
        if group in self._feeds:
            self._rung.add(group)
            self.ring()

    def has_work(self) -> bool:
        return bool(self._feeds)

    async def look(self) -> float:
        is_due = time.monotonic() - self._looked_at >= socket_settings.POLL_SECONDS
        await self._look(at_all=is_due)
        if is_due:
            self._looked_at = time.monotonic()
        # Look even without an announcement, which may be lost.
        return self._looked_at + float(socket_settings.POLL_SECONDS) - time.monotonic()

    async def _follow_until_the_end(self) -> None:
        try:
            await self.follow()
        finally:
            self._task = None

    async def _look(self, *, at_all: bool) -> None:
        rung, self._rung = self._rung, set()
        since = {g: feed.number for g, feed in self._feeds.items() if at_all or g in rung}
        try:
            news = await readers.run(room_history.news, since, rung)
            self._is_failing = False
        except Exception:
            # Tried again at the latest when all rooms are read.
            self._rung |= rung
            if not self._is_failing:
                self._is_failing = True
                logger.warning("Messages of rooms cannot be read: trying again.", exc_info=True)
            return
        for group, said in news.items():
            self._tell(group, since[group], said)

    def _tell(self, group: str, since: int, said: Sequence[StoredMessage]) -> None:
        feed = self._feeds.get(group)
        if feed is None:
            return
        if feed.number != since:
            # A member that has joined meanwhile needs earlier messages.
            self.news(group)
        elif not said:
            # A backup was restored, which lacks messages that sockets have received.
            del self._feeds[group]
            feed.end()
        else:
            feed.tell(said)
            if len(said) == room_history.PAGE_SIZE:
                self.news(group)
