"""
Who is in a group, over all processes.

Each hub tells the others which users its own sockets have in a group: when that changes, when one
asks, and every few seconds. What a hub knows is what they said last; a process that says nothing
any more is gone. Nothing of it is stored.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from rest_channels.consumers.layers import GROUP_PRESENCE
from rest_channels.settings import socket_settings

if TYPE_CHECKING:
    from rest_channels.consumers.hub import Hub

# Of `PRESENCE_SECONDS`: two beats may be lost on the way, and the third be late.
_BEATS_TO_DEATH: Final = 3.5

#: Called with the group, "joined" or "left", and what is known of the user.
Announce = Callable[[str, str, Any], None]


class Crowd:
    """The users of one group, by their keys."""

    def __init__(self, announce: Announce, grace: float) -> None:
        self.announce = announce
        self.grace = grace
        #: How many sockets of this hub each user has.
        self.sockets: Counter[str] = Counter()
        self.here: dict[str, Any] = {}
        #: What other hubs said, and when.
        self.elsewhere: dict[str, tuple[float, dict[str, Any]]] = {}
        #: Those whose coming was announced and whose going was not.
        self.shown: dict[str, Any] = {}
        #: Those of them who are away, and whose going will be.
        self.leaving: dict[str, asyncio.TimerHandle] = {}

    def everybody(self) -> dict[str, Any]:
        """All who are there."""
        users: dict[str, Any] = {}
        for _, said in self.elsewhere.values():
            users.update(said)
        return {**users, **self.here}


class Presence:
    """Who is in the groups that this hub's sockets are in. On the loop."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._crowds: dict[str, Crowd] = {}
        self._is_beating = False

    def enter(
        self, group: str, key: str, user: Any, *, announce: Announce, grace: float
    ) -> list[Any]:
        """
        One more socket of `user` is in `group`; returns all users who are. `announce` is told of
        those who come, and of those who have been gone for `grace` seconds.
        """
        crowd = self._crowds.get(group)
        if crowd is None:
            crowd = self._crowds[group] = Crowd(announce, grace)
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
        """Ask the other hubs whom they have, once their answers reach this one."""
        await self._hub.settle([group])
        if group in self._crowds:
            self._tell(group, asks=True)

    def leave(self, group: str, key: str) -> None:
        """A socket of the user has left."""
        crowd = self._crowds[group]
        crowd.sockets[key] -= 1
        if crowd.sockets[key]:
            return
        del crowd.sockets[key], crowd.here[key]
        self._tell(group)
        if crowd.here:
            self._review(group)
        else:
            # Nobody here is left to be told.
            del self._crowds[group]

    def users(self, group: str) -> list[Any]:
        """
        All who are in a group that this hub has sockets in: those who have been told of and have
        not left. So whoever is away for a moment is among them, and need not be told of again.
        """
        crowd = self._crowds.get(group)
        return [] if crowd is None else list({**crowd.shown, **crowd.everybody()}.values())

    def take(self, message: Mapping[str, Any]) -> None:
        """Another hub says whom it has."""
        group, crowd = message["group"], self._crowds.get(message["group"])
        if crowd is None:
            return
        if message["users"]:
            crowd.elsewhere[message["hub"]] = (time.monotonic(), message["users"])
        else:
            crowd.elsewhere.pop(message["hub"], None)
        if message["asks"]:
            self._tell(group)
        self._review(group)

    def _tell(self, group: str, *, asks: bool = False) -> None:
        crowd = self._crowds[group]
        content = {"hub": self._hub.id, "users": dict(crowd.here), "asks": asks}
        self._hub.tell_others(GROUP_PRESENCE, group, **content)

    def _beat(self) -> None:
        for group, crowd in list(self._crowds.items()):
            self._tell(group)
            self.bury(crowd)
            self._review(group)
        self._is_beating = bool(self._crowds)
        if self._is_beating:
            self._hub.call_later(socket_settings.PRESENCE_SECONDS, self._beat)

    def bury(self, crowd: Crowd) -> None:
        """Forget the hubs of `crowd` that have said nothing for too long."""
        oldest = time.monotonic() - _BEATS_TO_DEATH * socket_settings.PRESENCE_SECONDS
        for hub, (heard, _) in list(crowd.elsewhere.items()):
            if heard < oldest:
                del crowd.elsewhere[hub]

    def _review(self, group: str) -> None:
        """Announce who has come; see after a while whether who is gone has come back."""
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

    def _announce_left(self, group: str, crowd: Crowd, key: str) -> None:
        del crowd.leaving[key]
        user = crowd.shown.pop(key)
        if self._crowds.get(group) is crowd:
            crowd.announce(group, "left", user)
