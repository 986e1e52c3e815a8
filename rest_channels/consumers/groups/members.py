"""The protocols between a hub of groups, its members, its rooms and its presence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from rest_channels.bus.messages import GroupMessage


class Member(Protocol):
    """A socket of class-based consumers, as its hub sees it."""

    id: str
    groups: set[str]

    def post(self, text: str) -> None:
        """Send JSON text to the client immediately; on the loop."""

    def receive(self, group: str, text: str, *, may_be_lost: bool = False) -> None:
        """Send JSON text of a group, if the client may still receive it; on the loop."""

    def require_room(self) -> None:
        """Raise `ConsumerError` if the socket must not be in more groups."""


class GroupChannel(Protocol):
    """The hub, as presence uses it. On the loop."""

    id: str

    def tell_others(self, message: GroupMessage) -> None:
        """Send `message` to other hubs that have members of its group."""

    async def settle(self, groups: Iterable[str]) -> None:
        """Wait until messages of `groups` arrive here."""

    def call_later(self, seconds: float, function: Any, *args: Any) -> asyncio.TimerHandle:
        """Call `function` on the loop after `seconds`."""
