"""
The subscriptions of one socket: bounded, found by what the client calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from rest_channels.exceptions import FrameError
from rest_channels.live.hub import current_hub
from rest_channels.live.subscriptions import Subscription
from rest_channels.outbox import Wire
from rest_channels.protocol import Frame, Reply
from rest_channels.settings import socket_settings


class Memberships:
    """
    On the loop. `count_others` says how many subscriptions of another kind the socket has: all of
    them together are at most `MAX_SUBSCRIPTIONS`. `on_acknowledged` is called for each frame that
    acknowledges something.
    """

    def __init__(
        self,
        count_others: Callable[[], int],
        on_acknowledged: Callable[[], None] = lambda: None,
    ) -> None:
        self._count_others = count_others
        self._on_acknowledged = on_acknowledged
        self._known: dict[Hashable, Subscription] = {}

    def __len__(self) -> int:
        return len(self._known)

    async def add(self, subscription: Subscription) -> None:
        """
        Begin it, and wait until the client has been answered. One of the same `request_id` is
        replaced.
        """
        key = _key(subscription.wire, subscription.frame.request_id)
        if (replaced := self._known.pop(key, None)) is not None:
            current_hub().remove(replaced)
        self._sweep()
        if len(self) + self._count_others() >= socket_settings.MAX_SUBSCRIPTIONS:
            detail = f"At most {socket_settings.MAX_SUBSCRIPTIONS} subscriptions a connection."
            subscription.refuse(Reply.error(503, detail, "too_many_subscriptions"))
            return
        self._known[key] = subscription
        current_hub().add(subscription)
        await subscription.settled.wait()
        # What it was told may be long; the next one in this lane comes after it.
        await subscription.wire.outbox.room()
        # Where frames are answered side by side, another one may have its name by now.
        if subscription.is_over and self._known.get(key) is subscription:
            del self._known[key]

    def acknowledge(self, frame: Frame, wire: Wire) -> None:
        """
        The client has the events of the frame's `request_id` up to a position; nothing new where
        there is no such subscription, or no such event. Raises `FrameError`.
        """
        position = frame.data.get("position") if isinstance(frame.data, dict) else None
        if not isinstance(position, str):
            raise FrameError(
                "'data' has the 'position' of an event.",
                code="required",
                action=frame.action,
                request_id=frame.request_id,
            )
        subscription = self._known.get(_key(wire, frame.request_id))
        if subscription is not None and subscription.take_acknowledgement(position):
            # Paced by what was sent: the bound of frames a second is for what is not.
            self._on_acknowledged()

    def remove(self, frame: Frame, wire: Wire, row: Any) -> Reply:
        """
        Unsubscribe: the one of the frame's `request_id`, or those of the `row` it names. Answered
        204 whether there was one or not.
        """
        named = self._known.get(_key(wire, frame.request_id))
        for key, subscription in list(self._known.items()):
            is_rows = (
                named is None
                and row is not None
                and subscription.wire.stream == wire.stream
                and subscription.topic.row == str(row)
            )
            if subscription is named or is_rows:
                del self._known[key]
                current_hub().remove(subscription)
        return Reply(204, action=frame.action, request_id=frame.request_id)

    def discard(self, subscription: Subscription) -> None:
        """End this one, however it is called."""
        current_hub().remove(subscription)
        self._sweep()

    def close(self) -> None:
        """The socket is closed."""
        for subscription in self._known.values():
            current_hub().remove(subscription)
        self._known.clear()

    def _sweep(self) -> None:
        over = [key for key, subscription in self._known.items() if subscription.is_over]
        for key in over:
            del self._known[key]


def _key(wire: Wire, request_id: Any) -> Hashable:
    # 1 is not "1".
    return wire.stream, type(request_id), request_id
