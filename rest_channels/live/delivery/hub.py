"""
The subscriptions of this process, and the passes that send their events.

Each loop that serves sockets has a hub; only the passes run in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from django.db import connections

from rest_channels.bus import channel_layer, doorbell, news
from rest_channels.bus.loops import PerLoop
from rest_channels.bus.messages import Look
from rest_channels.bus.process_channel import current_channel
from rest_channels.bus.publisher import DOORBELL_GROUP
from rest_channels.live.capture import coverage
from rest_channels.live.change_path import ChangePath
from rest_channels.live.delivery.arrivals import JOINING_AT_A_TIME
from rest_channels.live.delivery.fences import Fence, Passes, PassWait
from rest_channels.live.delivery.pass_state import Cohort, Outcome, Seen
from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.delivery.track import Track
from rest_channels.live.delivery.tracks import Tracks
from rest_channels.live.log import store
from rest_channels.live.log.positions import Position
from rest_channels.metrics.gauges import note_lag, watch
from rest_channels.protocol import CloseCode
from rest_channels.settings import socket_settings
from rest_channels.sockets import reply_store
from rest_channels.workers.threads import is_thread_sensitive
from rest_channels.workers.turns import short_turns

# How often a process with subscribers prunes the log (seconds).
_SECONDS_BETWEEN_PRUNINGS: Final = 600


class Tap(Protocol):
    """A reader of what passes have read of the log of one database. On the loop."""

    def on_seen(self, seen: Seen) -> None:
        """Take what a pass has read."""

    def on_failure(self) -> None:
        """React to the end of the follower, which has failed."""


class Hub(doorbell.Listener):
    """The followers of one loop, by database."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._followers: dict[str, DatabaseFollower] = {}
        self._is_listening = False
        self._channel = current_channel()
        self._channel.handle(Look, self._on_look)
        watch(self)

    @property
    def tracks(self) -> list[Track]:
        """The tracks of all databases. In any thread."""
        return [
            track for follower in list(self._followers.values()) for track in follower.all_tracks
        ]

    def gauges(self) -> dict[str, int]:
        """Return the numbers of subscriptions and audiences, over all databases."""
        audiences = [audience for track in self.tracks for audience in track.audiences]
        return {
            "audiences": len(audiences),
            "subscriptions": sum(len(audience.subscriptions) for audience in audiences),
        }

    def add(self, subscription: Subscription) -> None:
        """Start a subscription; its event `settled` is set once the client has its reply."""
        self._follower(subscription.topic.alias).join(subscription)

    def tap(self, alias: str, tap: Tap) -> None:
        """Follow the database `alias` and pass what is read of its log to `tap`."""
        self._follower(alias).tap(tap)

    def untap(self, alias: str, tap: Tap) -> None:
        """Pass nothing more to `tap`."""
        follower = self._followers.get(alias)
        if follower is not None:
            follower.untap(tap)

    def _follower(self, alias: str) -> DatabaseFollower:
        follower = self._followers.get(alias)
        if follower is None:
            follower = self._followers[alias] = DatabaseFollower(alias, self._on_end)
            self._listen(follower)
        return follower

    def remove(self, subscription: Subscription) -> None:
        """End a subscription; it sends nothing more."""
        subscription.end()
        if subscription.audience is not None:
            subscription.audience.subscriptions.discard(subscription)

    def fence(self, subscriptions: Iterable[Subscription]) -> Fence:
        """
        Return a wait until `subscriptions` have received everything that was committed by now.
        """
        followers = {s: self._followers.get(s.topic.alias) for s in subscriptions if not s.is_over}
        followed = {s: f for s, f in followers.items() if f is not None}
        fence = Fence({s: follower.passes for s, follower in followed.items()})
        for follower in set(followed.values()):
            follower.ring()
        return fence

    async def read_commits(self, alias: str) -> bool:
        """
        Wait until a pass has read all changes of `alias` that were committed by now.

        Returns False if nothing follows that database any more.
        """
        follower = self._followers.get(alias)
        if follower is None:
            return False
        wait = PassWait()
        follower.passes.add(wait)
        follower.ring()
        try:
            return await wait.is_over
        finally:
            follower.passes.forget(wait)

    def sync(self, subscription: Subscription) -> bool:
        """
        Send `subscription` a `sync` to break a silence; return False if it cannot receive one.
        """
        track = subscription.track
        place = None if track is None else track.told_to(subscription)
        return subscription.sync_now(place)

    def on_ring(self, alias: str) -> None:
        """Handle a write of this process; in any thread."""
        if alias in self._followers and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_look, Look(alias))

    def _on_look(self, message: Look) -> None:
        for alias, follower in self._followers.items():
            if message.database is None or message.database == alias:
                follower.ring()

    def _listen(self, follower: DatabaseFollower) -> None:
        """Follow writes of other processes: by their doorbells, or by the database itself."""
        is_shared = channel_layer.shared_layer() is not None
        if not is_shared and not is_thread_sensitive():
            news.listen(follower.alias, follower)
        if self._is_listening:
            return
        self._is_listening = True
        doorbell.add_listener(self)
        if is_shared:
            self._channel.hold(self)
            self._channel.join(DOORBELL_GROUP)

    def _on_end(self, follower: DatabaseFollower) -> None:
        del self._followers[follower.alias]
        news.stop_listening(follower.alias, follower)
        if not self._followers and self._is_listening:
            self._is_listening = False
            doorbell.remove_listener(self)
            self._channel.leave(DOORBELL_GROUP)
            self._channel.release(self)


class DatabaseFollower(Track):
    """
    The main track of one database, followed for as long as it has subscribers.

    It has the quick audiences, and numbers changes for all tracks. If there are no `tracks` beside
    it, new subscriptions join in its own passes.
    """

    def __init__(self, alias: str, on_end: Callable[[DatabaseFollower], None]) -> None:
        self._joining: list[Subscription] = []
        self._taps: set[Tap] = set()
        self.passes = Passes()
        self._pruned_at = time.monotonic()
        self._on_follower_end = on_end
        super().__init__(ChangePath(alias), "", self._settle_all, self._end)
        self.tracks = Tracks(self, self.passes.look) if has_tracks(alias) else None

    def join(self, subscription: Subscription) -> None:
        """Add `subscription` in its turn."""
        if self.tracks is not None:
            self.tracks.join(subscription)
        else:
            self._joining.append(subscription)
            self.ring()

    def tap(self, tap: Tap) -> None:
        """Pass what is read of the log to `tap`, from the next pass on."""
        self._taps.add(tap)
        self.ring()

    def untap(self, tap: Tap) -> None:
        """Pass nothing more to `tap`."""
        self._taps.discard(tap)

    # The protocol that `news` uses, in the thread of a bell

    @property
    def is_over(self) -> bool:
        return self._loop.is_closed()

    @property
    def place(self) -> Position | None:
        return self.state.place

    def on_news(self) -> None:
        with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
            self._loop.call_soon_threadsafe(self.ring)

    # The loop of a follower

    def has_work(self) -> bool:
        are_busy = self.tracks is not None and self.tracks.are_busy
        return bool(self._joining or self._taps or are_busy or super().has_work())

    def _has_reason(self) -> bool:
        # Before the first audience of any track, nobody needs what it numbers.
        has_slow = self.tracks is not None and self.tracks.has_slow
        has_begun = self.state.place is not None or has_slow or self.passes.are_awaited
        return bool(self._joining or self._taps or has_begun or super().has_work())

    def _is_done(self) -> bool:
        # A page that is loaded again needs it in a moment.
        return False

    def _next_joining(self) -> list[Subscription]:
        joining = self._joining[:JOINING_AT_A_TIME]
        del self._joining[:JOINING_AT_A_TIME]
        for subscription in joining:
            subscription.track = self
        return joining

    def _has_joining(self) -> bool:
        return bool(self._joining)

    def _postpone(self, joining: Sequence[Subscription]) -> None:
        self._joining[:0] = joining

    def _run(
        self, joining: list[Subscription], asking: list[Subscription], coming: list[Cohort]
    ) -> Outcome:
        if time.monotonic() - self._pruned_at >= _SECONDS_BETWEEN_PRUNINGS:
            self._pruned_at = time.monotonic()
            store.prune(self.alias)
            reply_store.prune(self.alias)
            coverage.look(self.alias)
        return super()._run(joining, asking, coming)

    def _settle_all(self, track: Track, outcome: Outcome) -> None:
        if self.tracks is not None:
            self.tracks.settle_main(outcome)

    async def _look(self) -> Outcome:
        # Without tracks, its passes may be long.
        with short_turns() if self.tracks is not None else contextlib.nullcontext():
            return await super()._look()

    def _on_begin(self) -> None:
        self.passes.begin()

    def _on_read(self, outcome: Outcome) -> None:
        if outcome.seen is not None:
            for tap in list(self._taps):
                tap.on_seen(outcome.seen)

    def _on_passed(self, outcome: Outcome) -> None:
        place = self.state.place
        self.passes.end(place, covers_commits=outcome.covers_commits)

    def close_sockets(self) -> None:
        """Close the sockets of all tracks and taps, because nothing is numbered any more."""
        super().close_sockets()
        for tap in list(self._taps):
            tap.on_failure()
        for subscription in self._joining if self.tracks is None else self.tracks.arrivals.all():
            subscription.wire.outbox.close(CloseCode.SERVER_ERROR)
            subscription.end()
        for track in [] if self.tracks is None else self.tracks.all:
            track.close_sockets()

    def _end(self, track: Track) -> None:
        # A process that no longer follows the database has no lag.
        note_lag(self.alias, 0.0, 0)
        self.passes.stop()
        self._on_follower_end(self)

    @property
    def all_tracks(self) -> list[Track]:
        """The main track, and those beside it."""
        return [self, *([] if self.tracks is None else self.tracks.all)]


def has_tracks(alias: str) -> bool:
    """Return whether passes of a database may run side by side: each on its own connection."""
    connection: Any = connections[alias]
    is_in_memory = connection.vendor == "sqlite" and connection.is_in_memory_db()
    return socket_settings.SLOW_TRACKS > 0 and not (is_thread_sensitive() or is_in_memory)


_hubs: PerLoop[Hub] = PerLoop(Hub)


def current_hub() -> Hub:
    """Return the hub of the running loop."""
    return _hubs.current()


def running_hubs() -> list[Hub]:
    """Return the hubs of all running loops. From any thread."""
    return _hubs.running()
