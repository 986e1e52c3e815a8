"""
This process's subscriptions: who waits for what, and the passes that tell them.

On the loop that serves the sockets, one hub each; only the passes leave it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final
from weakref import WeakKeyDictionary

from django.db import InterfaceError, OperationalError, connections

from rest_channels.counters import counters, watch
from rest_channels.faults import reply_to_fault
from rest_channels.live import log, relay
from rest_channels.live.passes import Outcome, Pass, ProjectError, ReadingError, State
from rest_channels.live.sequencer import sequence
from rest_channels.live.subscriptions import Subscription
from rest_channels.live.telling import Sending, TooFarReaching
from rest_channels.live.transactions import snapshot
from rest_channels.protocol import CloseCode, Reply
from rest_channels.rates import retry_headers
from rest_channels.settings import socket_settings
from rest_channels.threads import Workers

logger = logging.getLogger("rest_channels")

# Sends between which other tasks of the loop may run.
_SENDS_AT_A_TIME: Final = 200

# How many are let in by one pass: those who are there wait for it to be told.
_JOINING_AT_A_TIME: Final = 500

# How often a process with subscribers forgets what is older than the retention (seconds).
_SECONDS_BETWEEN_PRUNINGS: Final = 600

# How long a subscription may hear nothing before it is told a fresher position (seconds).
_SECONDS_BETWEEN_SYNCS: Final = 60

#: Where passes run: a database's, one after the other.
followers = Workers(threads=1)


class Hub(relay.Listener):
    """The followers of one loop, by database."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._followers: dict[str, Follower] = {}
        self._ear: asyncio.Task[None] | None = None
        watch(self)

    def gauges(self) -> dict[str, int]:
        """The subscriptions, and audiences, of all databases."""
        states = [follower.state for follower in list(self._followers.values())]
        audiences = [audience for state in states for audience in list(state.audiences.values())]
        return {
            "audiences": len(audiences),
            "subscriptions": sum(len(audience.subscriptions) for audience in audiences),
        }

    def add(self, subscription: Subscription) -> None:
        """Begin a subscription, whose `settled` says when the client has been answered."""
        alias = subscription.topic.alias
        follower = self._followers.get(alias)
        if follower is None:
            follower = self._followers[alias] = Follower(alias, self._on_end)
            if self._ear is None:
                relay.add_listener(self)
                self._ear = self._loop.create_task(relay.listen(self._on_far_ring))
        subscription.ask = follower.ask
        follower.join(subscription)

    def remove(self, subscription: Subscription) -> None:
        """End a subscription; nothing more is sent of it."""
        subscription.end()
        if subscription.audience is not None:
            subscription.audience.subscriptions.discard(subscription)

    def on_ring(self, alias: str) -> None:
        """This process wrote; in any thread."""
        if alias in self._followers and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_far_ring, alias)

    def _on_far_ring(self, alias: str) -> None:
        if (follower := self._followers.get(alias)) is not None:
            follower.look()

    def _on_end(self, follower: Follower) -> None:
        del self._followers[follower.alias]
        if not self._followers and self._ear is not None:
            relay.remove_listener(self)
            self._ear.cancel()
            self._ear = None


class Follower:
    """One database, followed for as long as anybody is subscribed to rows of it."""

    def __init__(self, alias: str, on_end: Callable[[Follower], None]) -> None:
        self.alias = alias
        self.state = State(alias)
        self._on_end = on_end
        self._joining: list[Subscription] = []
        self._asking: list[Subscription] = []
        # What those are told whose telling failed, whatever becomes of the pass.
        self._endings: list[Sending] = []
        self._is_rung = asyncio.Event()
        self._pruned_at = self._synced_at = time.monotonic()
        self._is_failing = False
        self._task = asyncio.ensure_future(self._follow())

    def join(self, subscription: Subscription) -> None:
        """Let `subscription` in with the next pass."""
        self._joining.append(subscription)
        self.look()

    def ask(self, subscription: Subscription) -> None:
        """Have the next pass judge `subscription` anew, and call its `go_on`."""
        self._asking.append(subscription)
        self.look()

    def look(self) -> None:
        """There may be something new."""
        self._is_rung.set()

    async def _follow(self) -> None:
        try:
            while self._joining or self.state.audiences:
                self._is_rung.clear()
                outcome = await self._pass()
                await self._send(outcome)
                if not outcome.has_more and not self._joining:
                    await self._wait(outcome.refresh_at)
        except Exception:
            # Nobody would be told anything any more, in silence.
            logger.critical("Subscriptions cannot be told: sockets are closed.", exc_info=True)
            for subscription in (*self._joining, *self._all()):
                subscription.wire.outbox.close(CloseCode.SERVER_ERROR)
                subscription.end()
        finally:
            self._on_end(self)

    async def _pass(self) -> Outcome:
        joining = self._joining[:_JOINING_AT_A_TIME]
        del self._joining[:_JOINING_AT_A_TIME]
        asking, self._asking = self._asking, []
        counters.passes += 1
        try:
            outcome = await followers.run(self._run, joining, asking)
            self._is_failing = False
            # Let in by the next, or once the end of the log is reached.
            waiting = joining if outcome.has_more else outcome.postponed
            self._joining[:0] = [s for s in waiting if not s.is_over]
        except (OperationalError, InterfaceError):
            outcome = self._on_absent(joining)
            self._asking += asking
        except Exception as exc:
            self._on_error([*joining, *self._all()], exc)
            outcome, self.state = Outcome(), State(self.alias)
        endings, self._endings = self._endings, []
        outcome.sendings.insert(0, endings)
        return outcome

    def _run(self, joining: list[Subscription], asking: list[Subscription]) -> Outcome:
        """In the follower's thread. Raises what the database raises."""
        if time.monotonic() - self._pruned_at >= _SECONDS_BETWEEN_PRUNINGS:
            self._pruned_at = time.monotonic()
            log.prune(self.alias)
        sequence(self.alias)
        reached = _reached()
        reads_apart = False
        while True:
            try:
                with snapshot(self.alias):
                    looking = Pass(self.state, reads_apart=reads_apart)
                    outcome = looking.run(joining, asking)
            except TooFarReaching as found:
                self.state.evaluations.narrow(found.family, found.reach)
            except ReadingError as failure:
                self._raise_absence(failure.__cause__, reached)
                reads_apart = True
            except ProjectError as failure:
                self._raise_absence(failure.__cause__, reached)
                failed = failure.subscriptions
                self._on_error(failed, failure.__cause__ or failure)
                joining = [s for s in joining if s not in failed]
                asking = [s for s in asking if s not in failed]
            else:
                looking.commit()
                return outcome

    def _raise_absence(self, cause: BaseException | None, reached: Mapping[str, Any]) -> None:
        """
        Raise `cause` where a database is gone, or was since it was `reached`: Django connects anew
        when it leaves a transaction whose connection is lost. Where it is there, a query that it
        refused, or took too long for, is the project's own error.
        """
        if isinstance(cause, (OperationalError, InterfaceError)):
            is_busy = "locked" in str(cause)
            if is_busy or _is_lost(reached):
                raise cause

    async def _send(self, outcome: Outcome) -> None:
        for number, sending in enumerate(chain.from_iterable(outcome.sendings), 1):
            sending()
            if number % _SENDS_AT_A_TIME == 0:
                await asyncio.sleep(0)
        if time.monotonic() - self._synced_at >= _SECONDS_BETWEEN_SYNCS:
            self._synced_at = time.monotonic()
            self._sync()

    def _sync(self) -> None:
        place = self.state.place
        for audience in self.state.audiences.values():
            if audience.refresh_at is None and place is not None:
                for subscription in list(audience.subscriptions):
                    if subscription.place != place:
                        subscription.sync(place)

    async def _wait(self, refresh_at: float | None) -> None:
        seconds = float(socket_settings.POLL_SECONDS)
        if refresh_at is not None:
            seconds = min(seconds, max(0.0, refresh_at - time.monotonic()))
        try:
            await asyncio.wait_for(self._is_rung.wait(), seconds)
        except TimeoutError:
            # A doorbell may have been lost: look all the same.
            return

    def _all(self) -> list[Subscription]:
        return [s for a in self.state.audiences.values() for s in list(a.subscriptions)]

    def _on_absent(self, joining: list[Subscription]) -> Outcome:
        """The database is gone: who joins is told, who is there catches up when it is back."""
        if not self._is_failing:
            self._is_failing = True
            logger.warning(
                "Changes of database %r cannot be read: subscriptions wait for it.",
                self.alias,
                exc_info=True,
            )
        detail = "Service unavailable, try again later."
        for subscription in joining:
            headers = retry_headers()
            subscription.refuse(Reply.error(503, detail, "unavailable", headers=headers))
        return Outcome()

    def _on_error(self, subscriptions: Sequence[Subscription], cause: BaseException) -> None:
        """End subscriptions whose telling failed: a client must not take silence for no change."""
        fault = reply_to_fault(cause, "Server error while telling subscribers", to=None)
        for subscription in subscriptions:
            if subscription.audience is not None:
                subscription.audience.subscriptions.discard(subscription)
            self._endings.append(partial(subscription.give_up, fault))


def _reached() -> dict[str, Any]:
    """The drivers' connections that this thread has, by database."""
    connected = connections.all(initialized_only=True)
    return {c.alias: c.connection for c in connected if c.connection is not None}


def _is_lost(reached: Mapping[str, Any]) -> bool:
    """Whether one of those is another now, or of no use."""
    return any(connections[a].connection is not before for a, before in reached.items()) or any(
        connection.errors_occurred and not connection.is_usable()
        for connection in connections.all(initialized_only=True)
    )


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def current_hub() -> Hub:
    """The hub of the running loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub(loop)
    return _hubs[loop]
