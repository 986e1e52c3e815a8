"""A subscription to rows in an order: its events say where a row goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_channels.live.delivery.backlog import Backlog
from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.delivery.window_events import WindowBacklog, WindowEvents
from rest_channels.live.interface import Options, Topic
from rest_channels.protocol import Frame

if TYPE_CHECKING:
    from rest_channels.sockets.outbox import StreamWriter


def new_subscription(
    topic: Topic, options: Options, frame: Frame, wire: StreamWriter
) -> Subscription:
    """Return the subscription that a frame asks for."""
    kind = Subscription if options.window is None else WindowSubscription
    return kind(topic, options, frame, wire)


class WindowSubscription(Subscription):
    """A subscription to the first rows of a list, or to all of them in order."""

    def tell_window(self, update: WindowEvents, texts: list[str | None]) -> None:
        """Send the events of `update` with their shared `texts`; on the loop."""
        if not self._is_reachable():
            return
        for number, (event, text) in enumerate(zip(update.events, texts, strict=True)):
            if not self._keeps_up:
                backlog = self._waiting()
                assert isinstance(backlog, WindowBacklog)
                backlog.take(update, number)
                return
            self._send(text or "", event.place, event.encoded)

    def _new_backlog(self) -> Backlog:
        return WindowBacklog(self.wire.outbox)
