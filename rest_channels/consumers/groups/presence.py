"""
The users present in a group, over all processes.

Each hub sends the others the users that its own sockets have in a group: on a change, on request,
and every few seconds. A hub knows what the others sent last, and drops a process that sends nothing
more. Nothing is stored.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from rest_channels.bus import process_channel
from rest_channels.bus.messages import GroupUsers
from rest_channels.consumers.groups.members import GroupChannel
from rest_channels.settings import socket_settings

# In `PRESENCE_SECONDS`: two beats may be lost, and the third be late.
_BEATS_TO_DEATH: Final = 3.5

#: Called with the group, "joined" or "left", and the user's data.
Announce = Callable[[str, str, Any], None]


class GroupPresence:
    """The users of one group, by their keys."""

    def __init__(self, announce: Announce, grace: float) -> None:
        self.announce = announce
        self.grace = grace
        #: The number of each user's sockets in this hub.
        self.sockets: Counter[str] = Counter()
        self.here: dict[str, Any] = {}
        #: By hub: when it last sent its users, and these.
        self.elsewhere: dict[str, tuple[float, dict[str, Any]]] = {}
        #: Users announced as joined, and not yet as left.
        self.shown: dict[str, Any] = {}
        #: Those of them who are away, with the timer that announces it.
        self.leaving: dict[str, asyncio.TimerHandle] = {}

    def everybody(self) -> dict[str, Any]:
        """Return all users present in any hub."""
        users: dict[str, Any] = {}
        for _, said in self.elsewhere.values():
            users.update(said)
        return {**users, **self.here}


class Presence:
    """The users in the groups of this hub's sockets. On the loop."""

    def __init__(self, hub: GroupChannel) -> None:
        self._hub = hub
        self._crowds: dict[str, GroupPresence] = {}
        self._is_beating = False

    def enter(
        self, group: str, key: str, user: Any, *, announce: Announce, grace: float
    ) -> list[Any]:
        """
        Add a socket of `user` to `group`; return all users in the group.

        `announce` is called for each user who joins, and each who has been away for `grace`
        seconds.
        """
        crowd = self._crowds.get(group)
        if crowd is None:
            crowd = self._crowds[group] = GroupPresence(announce, grace)
        crowd.sockets[key] += 1
        if crowd.sockets[key] == 1:
            crowd.here[key] = user
            self._tell(group)
            self._review(group)
        if not self._is_beating:
            self._is_beating = True
            self._hub.call_later(socket_settings.PRESENCE_SECONDS, self._beat)
        return self.users(group)

    async def ask(self, group: str) -> None:
        """Ask the other hubs for their users, once their answers can arrive here."""
        await self._hub.settle([group])
        if group in self._crowds:
            self._tell(group, asks=True)

    def leave(self, group: str, key: str) -> None:
        """Remove a socket of the user."""
        crowd = self._crowds[group]
        crowd.sockets[key] -= 1
        if crowd.sockets[key]:
            return
        del crowd.sockets[key], crowd.here[key]
        self._tell(group)
        if crowd.here:
            self._review(group)
        else:
            # No socket here needs announcements any more.
            del self._crowds[group]

    def users(self, group: str) -> list[Any]:
        """
        Return all users in a group that this hub has sockets in.

        They include users who are away for less than their grace: they were announced, and will not
        be announced again when they return.
        """
        crowd = self._crowds.get(group)
        return [] if crowd is None else list({**crowd.shown, **crowd.everybody()}.values())

    def take(self, message: GroupUsers) -> None:
        """Handle the users that another hub has sent."""
        group, crowd = message.group, self._crowds.get(message.group)
        if crowd is None:
            return
        if message.users:
            crowd.elsewhere[message.hub] = (time.monotonic(), message.users)
        else:
            crowd.elsewhere.pop(message.hub, None)
        if message.asks:
            self._tell(group)
        self._review(group)

    def _tell(self, group: str, *, asks: bool = False) -> None:
        users = dict(self._crowds[group].here)
        self._hub.tell_others(
            GroupUsers(process_channel.process_id, group, self._hub.id, users, asks)
        )

    def _beat(self) -> None:
        for group, crowd in list(self._crowds.items()):
            self._tell(group)
            self.bury(crowd)
            self._review(group)
        self._is_beating = bool(self._crowds)
        if self._is_beating:
            self._hub.call_later(socket_settings.PRESENCE_SECONDS, self._beat)

    def bury(self, crowd: GroupPresence) -> None:
        """Drop the hubs of `crowd` that have sent nothing for too long."""
        oldest = time.monotonic() - _BEATS_TO_DEATH * socket_settings.PRESENCE_SECONDS
        for hub, (heard, _) in list(crowd.elsewhere.items()):
            if heard < oldest:
                del crowd.elsewhere[hub]

    def _review(self, group: str) -> None:
        """Announce new users, and start timers for users who have gone."""
        crowd = self._crowds[group]
        there = crowd.everybody()
        for key in there.keys() & crowd.leaving.keys():
            crowd.leaving.pop(key).cancel()
        for key in there.keys() - crowd.shown.keys():
            crowd.shown[key] = there[key]
            crowd.announce(group, "joined", there[key])
        for key in crowd.shown.keys() - there.keys() - crowd.leaving.keys():
            crowd.leaving[key] = self._hub.call_later(
                crowd.grace, self._announce_left, group, crowd, key
            )

    def _announce_left(self, group: str, crowd: GroupPresence, key: str) -> None:
        del crowd.leaving[key]
        user = crowd.shown.pop(key)
        if self._crowds.get(group) is crowd:
            crowd.announce(group, "left", user)
