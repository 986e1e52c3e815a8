"""The subscriptions and watches of one socket: bounded, and found by the client's `request_id`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from rest_channels.exceptions import FrameError
from rest_channels.live.delivery.fences import Fence
from rest_channels.live.delivery.heartbeat import current_heartbeat
from rest_channels.live.delivery.hub import current_hub
from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.watches.watch_hub import current_watch_hub
from rest_channels.live.watches.watching import Watching
from rest_channels.protocol import MISSING, Event, Frame, Reply
from rest_channels.settings import socket_settings
from rest_channels.sockets.outbox import StreamWriter

Member = Subscription | Watching

# How long a fence waits for watches: their runs may be slow.
_SECONDS_FOR_WATCHES: Final = 1.0


def _start(member: Member) -> None:
    if isinstance(member, Watching):
        current_watch_hub().add(member)
    else:
        current_hub().add(member)


def _remove(member: Member) -> None:
    if isinstance(member, Watching):
        current_watch_hub().remove(member)
    else:
        current_hub().remove(member)


class Memberships:
    """
    The subscriptions and watches of one socket. On the loop.

    `count_others` returns the number of the socket's other subscriptions: all together are at most
    `MAX_SUBSCRIPTIONS`, and watches at most `MAX_WATCHES`. If they take `MAX_SUBSCRIBED_BYTES`, no
    more may begin. `on_acknowledged` is called for each frame that acknowledges events.
    """

    def __init__(
        self,
        count_others: Callable[[], int],
        on_acknowledged: Callable[[], None] = lambda: None,
    ) -> None:
        self._count_others = count_others
        self._on_acknowledged = on_acknowledged
        self._known: dict[Hashable, Member] = {}

    def __len__(self) -> int:
        return len(self._known)

    async def add(self, member: Member) -> None:
        """
        Start a subscription or a watch, and wait until the client has its reply.

        It replaces one with the same `request_id`, unless it is one too many.
        """
        key = _key(member.wire, member.frame.request_id)
        replaced = self._known.pop(key, None)
        self._sweep()
        if (refusal := self._refusal(member)) is not None:
            if replaced is not None:
                self._known[key] = replaced
            member.refuse(refusal)
            return
        if replaced is not None:
            _remove(replaced)
        self._known[key] = member
        _start(member)
        current_heartbeat().watch(self)
        await member.settled.wait()
        # Its reply may be long; the next subscription of this queue waits for it.
        await member.wire.outbox.room()
        # If frames run concurrently, another subscription may have its key by now.
        if member.is_over and self._known.get(key) is member:
            del self._known[key]

    def _refusal(self, member: Member) -> Reply | None:
        """Return the refusal of one more than allowed; None if it may start."""
        limit = socket_settings.MAX_SUBSCRIPTIONS
        if len(self) + self._count_others() >= limit:
            detail = f"A connection must not have more than {limit} subscriptions."
            return Reply.error(503, detail, "too_many_subscriptions")
        limit = socket_settings.MAX_WATCHES
        if isinstance(member, Watching) and len(self.watchings()) >= limit:
            detail = f"A connection must not have more than {limit} watches."
            return Reply.error(503, detail, "too_many_watches")
        limit = socket_settings.MAX_SUBSCRIBED_BYTES
        # Its rows are unknown, so the last one may go beyond the limit.
        kept = sum(known.kept_bytes for known in self._known.values() if not known.is_over)
        if kept + member.kept_bytes > limit:
            detail = (
                f"The subscriptions of a connection must not take more than about {limit} bytes of "
                "the server's memory: end some, or filter their rows."
            )
            return Reply.error(503, detail, "too_much_subscribed")
        return None

    def watchings(self) -> list[Watching]:
        """Return the watches of this socket."""
        return [m for m in self._known.values() if isinstance(m, Watching) and not m.is_over]

    def acknowledge(self, frame: Frame, wire: StreamWriter) -> None:
        """
        Take note that the client has the events of a subscription up to a position.

        Ignores an unknown subscription or event. Raises `FrameError` if the frame has no position.
        """
        position = frame.data.get("position") if isinstance(frame.data, dict) else None
        if not isinstance(position, str):
            raise FrameError(
                "'data' must be an object with the 'position' of an event.",
                code="required",
                action=frame.action,
                request_id=frame.request_id,
            )
        member = self._known.get(_key(wire, frame.request_id))
        if member is not None and member.take_acknowledgement(position):
            # Acknowledgements are paced by events, so they do not count against the frames per
            # second.
            self._on_acknowledged()

    def remove(self, frame: Frame, wire: StreamWriter, row: Any) -> Reply:
        """
        Unsubscribe by the frame's `request_id`, or by the `row` it names.

        Replies 204 whether there was such a subscription or not.
        """
        named = self._known.get(_key(wire, frame.request_id))
        for key, member in list(self._known.items()):
            if isinstance(member, Watching):
                continue
            is_rows = (
                named is None
                and row is not None
                and member.wire.stream == wire.stream
                and member.topic.row == str(row)
            )
            if member is named or is_rows:
                del self._known[key]
                _remove(member)
        return Reply(204, action=frame.action, request_id=frame.request_id)

    def remove_watch(self, frame: Frame, wire: StreamWriter) -> Reply:
        """
        End the watch with the frame's `request_id`.

        Replies 204 whether there was such a watch or not.
        """
        key = _key(wire, frame.request_id)
        member = self._known.get(key)
        if isinstance(member, Watching):
            del self._known[key]
            _remove(member)
        return Reply(204, action=frame.action, request_id=frame.request_id)

    def fence(self) -> Fence:
        """Return a wait until these subscriptions have received everything committed by now."""
        members = self._known.values()
        return current_hub().fence(m for m in members if isinstance(m, Subscription))

    async def settle_watches(self) -> bool:
        """
        Run the watches that changes committed by now concern, and wait a second for them.

        Slower ones continue, and are answered later. Returns False if an answer waits because the
        client does not read.
        """
        watchings = self.watchings()
        if watchings:
            await current_watch_hub().settle(watchings, _SECONDS_FOR_WATCHES)
        return not any(watching.is_waiting for watching in watchings)

    def discard(self, subscription: Subscription) -> None:
        """End this subscription, whatever its key."""
        _remove(subscription)
        self._sweep()

    def close(self) -> None:
        """End all subscriptions, because the socket is closed."""
        if self._known:
            current_heartbeat().forget(self)
        for member in self._known.values():
            _remove(member)
        self._known.clear()

    # The protocol that the heartbeat uses

    @property
    def is_listening(self) -> bool:
        """Whether any subscription needs a heartbeat."""
        return any(s.is_kept_alive and not s.is_over for s in self._known.values())

    @property
    def sent_count(self) -> int:
        """The number of messages sent to the socket."""
        for member in self._known.values():
            return member.wire.outbox.sent_count
        return 0

    def beat(self) -> None:
        """Send a `sync` of a subscription that can receive one, else `alive`."""
        listening = [s for s in self._known.values() if s.is_kept_alive and not s.is_over]
        outbox = listening[0].wire.outbox
        # Messages that wait to be read will break the silence.
        followed = [member for member in listening if isinstance(member, Subscription)]
        if outbox.waiting_bytes or any(current_hub().sync(s) for s in followed):
            return
        stream = listening[0].wire.stream
        StreamWriter(outbox, stream if stream is MISSING else None).post_payload(Event.alive())

    def _sweep(self) -> None:
        over = [key for key, member in self._known.items() if member.is_over]
        for key in over:
            del self._known[key]


def _key(wire: StreamWriter, request_id: Any) -> Hashable:
    # 1 is not "1".
    return wire.stream, type(request_id), request_id
