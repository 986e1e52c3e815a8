"""A subscriber of one topic, and audiences with their subscribers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from rest_channels.live.delivery.backlog import Backlog, Credit
from rest_channels.live.delivery.events import Event
from rest_channels.live.interface import Options, Topic, Window
from rest_channels.live.log import positions
from rest_channels.live.log.positions import Position
from rest_channels.live.log.store import Kind
from rest_channels.live.visibility.audiences import Audience, Texts
from rest_channels.live.visibility.evaluation import EVERYBODY, Evaluation
from rest_channels.metrics import figures
from rest_channels.observing.observers import begin_subscription, end_subscription
from rest_channels.observing.reports import SubscriptionReport
from rest_channels.protocol import Event as Message
from rest_channels.protocol import Frame, Reply, in_envelope

if TYPE_CHECKING:
    from rest_channels.sockets.outbox import StreamWriter

# Each takes some microseconds, in which no other task of the loop runs.
_EVENTS_AT_A_TIME: Final = 100

# A row's key, its hash and their place in a dictionary. Measured: 88 to 116.
_BYTES_PER_ROW: Final = 100

_STATUS = {Kind.CREATE: 200, Kind.UPDATE: 200, Kind.DELETE: 204}


class SubscriptionTrack(Protocol):
    """One of the followers of a database, as a subscription knows it; see `delivery.track`."""

    def ask(self, subscription: Subscription) -> None:
        """Make the next pass evaluate `subscription` again, and then call its `go_on`."""

    def told_to(self, subscription: Subscription) -> Position | None:
        """Return the position up to which it has received everything, None if unknown."""


class Subscription:
    """
    One subscription of a client, named by its `request_id`.

    The thread of passes uses `audience`, `evaluation` and `identity`; the loop uses everything
    else. `last` is the token of the position that the client has reached.
    """

    audience: SubscribedAudience | None = None
    evaluation: Evaluation
    identity: Any = None
    #: The part of the ordered list that it follows; None if its rows have no order.
    window: Window | None = None
    #: The track whose passes it belongs to; None until it has joined.
    track: SubscriptionTrack | None = None

    #: Whether a newer event of a row can replace older ones.
    merges = True

    def __init__(self, topic: Topic, options: Options, frame: Frame, wire: StreamWriter) -> None:
        self.topic = topic
        self.options = options
        self.frame = replace(frame, rest={}, report=None)
        #: The report of the frame, until it is answered.
        self.report = frame.report
        # For observers, if there are any, at its end.
        self._lifetime: SubscriptionReport | None = None
        self.wire = wire
        self.is_over = False
        #: Further keys of the reply to the frame, as JSON text.
        self.extra: Mapping[str, str] = {}
        #: Set once the client has its reply, or is gone.
        self.settled = asyncio.Event()
        self.seal = positions.seal(str(topic.credentials.user_pk or ""), topic.name)
        self.last = self._token = ""
        self.place: Position | None = None
        # Events that wait while the client does not keep up; None if it keeps up.
        self._backlog: Backlog | None = None
        self._credit = Credit(options.credit) if options.credit and self.merges else None
        #: Called after each attempt to send the backlog, and at the end. On the loop.
        self.watchers: set[Callable[[], None]] = set()
        self.window = options.window
        # Whether a call of `go_on` or `_catch_up` is due.
        self._is_called = False
        self._request_id = json.dumps(frame.request_id)
        # The stream's envelope, before and after the text.
        self._before, self._after = in_envelope("\0", wire.stream).split("\0")

    def bind(self, state: str) -> None:
        """Make positions valid in `state` alone, in which its rows are read."""
        user_pk = str(self.topic.credentials.user_pk or "")
        self.seal = positions.seal(user_pk, self.topic.name + state)

    @property
    def kept_bytes(self) -> int:
        """The memory that it takes, estimated, as if it shared no rows with others (bytes)."""
        rows = 0 if self.audience is None else self.audience.kept_bytes
        return self.topic.kept_bytes + rows

    def judge(self, evaluation: Evaluation, identity: Any) -> None:
        """Rely on DRF's answer for this user."""
        self.evaluation, self.identity = evaluation, identity

    @property
    def is_judged(self) -> bool:
        """Whether the answer is still valid, and for the socket's current user."""
        return self.evaluation.is_fresh and not self.is_of_another

    @property
    def is_of_another(self) -> bool:
        """Whether the answer is for one user, and the socket now has another."""
        return self.evaluation.reach != EVERYBODY and self.identity != self.topic.identity

    @property
    def is_in_doubt(self) -> bool:
        """Whether something the answer was made from has changed."""
        return self.evaluation.is_doubted

    def acknowledge(self, place: Position | None, *, is_resumed: bool, data: str) -> None:
        """
        Reply to the frame that subscribed; this is the client's first message of the subscription.

        If a reset follows, the client has not reached a `place` yet, and receives a token that
        leads to a reset.
        """
        if place is None:
            self.last = self._token = f"-.{self.seal}"
        else:
            self._reach(place)
        # The options are no longer needed, and may be long.
        self.options = Options()
        frame = self.frame
        extra = {
            "position": json.dumps(self.last),
            "resumed": "true" if is_resumed else "false",
            **self.extra,
        }
        reply = Reply(201, data=data, action=frame.action, request_id=frame.request_id, extra=extra)
        asked = self.report
        self._answer(reply)
        if not self.is_over:
            self._lifetime = begin_subscription(asked, is_resumed=is_resumed)

    def refuse(self, reply: Reply) -> None:
        """Refuse the subscription with `reply`."""
        reply.action, reply.request_id = self.frame.action, self.frame.request_id
        reply.extra = {**reply.extra, **self.extra}
        self._answer(reply)
        self.end()

    def _answer(self, reply: Reply) -> None:
        if not self.is_over:
            self.wire.post(reply, self.report)
            self.report = None
            self.settled.set()

    def end(self, status: int | None = None) -> None:
        """Send nothing more; `status` is that of a `revoke`, None if there was none."""
        self.is_over = True
        lifetime, self._lifetime = self._lifetime, None
        if lifetime is not None:
            end_subscription(lifetime, status)
        self._forget()
        self.settled.set()
        self._notify()

    def tellings(
        self, events: Sequence[Event], texts: Sequence[str | None]
    ) -> Iterator[Callable[[], None]]:
        """
        Yield calls that send the `events` of one update, with their shared `texts`, in slices.

        A text of None is not sent. Between two calls other tasks of the loop may run: a client may
        have resumed with ten thousand keys.
        """
        for start in range(0, len(events), _EVENTS_AT_A_TIME):
            part = slice(start, start + _EVENTS_AT_A_TIME)
            yield partial(self.tell, events[part], texts[part], is_first=start == 0)

    def tell(
        self, events: Sequence[Event], texts: Sequence[str | None], *, is_first: bool = True
    ) -> None:
        """Send `events` of an update, the first or further ones; see `tellings`."""
        if not self._is_reachable(is_first=is_first):
            return
        for event, text in zip(events, texts, strict=True):
            # A client does not reach the position of an event that it does not receive.
            if text is None:
                continue
            if self._keeps_up:
                self._send(text, event.place, event.encoded)
            else:
                self._waiting().add(event.kind, event.slot, text, event.place)

    def _is_reachable(self, *, is_first: bool = True) -> bool:
        """Return whether events can be sent or wait; give up a client that is too far behind."""
        outbox = self.wire.outbox
        if outbox.is_behind and is_first:
            # All events of one update may wait, of any size, but not those of a further update.
            outbox.give_up_client()
        if outbox.is_closed:
            self._forget()
        # It may have ended since the pass, and nothing may wait for it any more.
        return not (outbox.is_closed or self.is_over)

    def sync(self, place: Position) -> None:
        """Send the position `place`, because there are no events up to it."""
        if self._keeps_up:
            self._send(self.shared(Message("sync", 200)), place)
        else:
            self._waiting().reach(place)

    #: Whether the client understands a `sync` that is sent as a heartbeat.
    is_kept_alive = True

    def sync_now(self, place: Position | None) -> bool:
        """
        Send a `sync` to break a silence; return False if it cannot receive one.

        The `sync` has `place` if there are no events up to it, else the position already reached.
        """
        if self.is_over or self.place is None or not self._keeps_up:
            return False
        self.sync(self.place if place is None else place)
        return True

    def reset(self, place: Position, data: str) -> None:
        """
        Tell the client to discard its rows; `data` is the snapshot, null unless it asked for one.
        """
        figures.resets.add()
        shared = self.shared(Message("reset", 205, data))
        if self._keeps_up:
            self._send(shared, place)
        else:
            self._waiting().reset(shared, place)

    def revoke(self) -> None:
        """End the subscription, because the user may no longer see it."""
        self._revoke(Reply.error(403, "Permission revoked.", "permission_denied"))

    def give_up(self, reply: Reply) -> None:
        """End the subscription for another reason, as its reply or after it."""
        if self.settled.is_set():
            self._revoke(reply)
        else:
            self.refuse(Reply(reply.status, errors=reply.errors, codes=reply.codes))

    def _revoke(self, reply: Reply) -> None:
        # Waiting events must not be sent any more.
        self._forget()
        self._send(self.shared(Message("revoke", reply.status, errors=reply.errors)), None)
        self.end(reply.status)

    def _send(self, shared: str, place: Position | None, encoded: str = "") -> None:
        previous = self.last
        if place is not None:
            self._reach(place, encoded)
        if self._credit is not None:
            self.last = positions.numbered(self._token, self._credit.next_number())
        if not (self.is_over or self.topic.credentials.has_ended):
            figures.deliveries.add()
            self.wire.outbox.post(f"{self._before}{shared}{self._own(previous)}{self._after}")

    # Texts

    @classmethod
    def texts_of(
        cls, audience: Audience, events: Sequence[Event], texts: Texts, evaluation: Evaluation
    ) -> list[str | None]:
        """
        Return the texts for all subscribers who see rows as `texts`; None for an event nobody gets.

        The view of `evaluation` makes them once.
        """
        return [
            cls.shared(
                Message(
                    event.kind,
                    _STATUS[event.kind],
                    event.data if event.kind == Kind.DELETE else texts[event.key],
                    after=event.after,
                )
            )
            for event in events
        ]

    @staticmethod
    def shared(message: Message) -> str:
        """Return the part of the text that is the same for all subscribers."""
        return message.shared

    def _own(self, previous: str) -> str:
        """Return the rest of the text; `previous` is the position before."""
        return Message.address(self._request_id, self.last, previous)

    def _reach(self, place: Position, encoded: str = "") -> None:
        self.place = place
        self.last = self._token = f"{encoded or positions.encode(place)}.{self.seal}"

    # Clients that do not keep up

    @property
    def _keeps_up(self) -> bool:
        return not self.merges or (
            self._backlog is None
            and self.wire.outbox.has_room
            and (self._credit is None or not self._credit.is_spent)
        )

    def has_received(self, number: int) -> bool:
        """
        Return whether everything up to a position in the log was sent, or added to the backlog.

        Rows to be read again later, because of a related table, are what a pass leaves out.
        """
        if self.is_over:
            return True
        # Only between two passes: a pass changes audiences before its events are sent.
        place = None if self.track is None else self.track.told_to(self)
        return place is not None and place.number >= number and self.settled.is_set()

    @property
    def has_backlog(self) -> bool:
        """Whether events wait for the client."""
        return bool(self._backlog) and not self.is_over

    @property
    def awaits_credit(self) -> bool:
        """Whether events wait for an acknowledgement."""
        return self.has_backlog and self._credit is not None and self._credit.is_spent

    def take_acknowledgement(self, position: str) -> bool:
        """Acknowledge all events up to `position`; return False if that is not new."""
        number = positions.number_of(position, self.seal)
        if self._credit is None or not self._credit.take(number):
            return False
        self._catch_up()
        return True

    def go_on(self) -> None:
        """Send waiting events, because the subscriber was evaluated just now."""
        self._is_called = False
        self._catch_up(is_just_judged=True)

    def _waiting(self) -> Backlog:
        if self._backlog is None:
            self._backlog = self._new_backlog()
        self._wait()
        return self._backlog

    def _new_backlog(self) -> Backlog:
        return Backlog(self.wire.outbox)

    def _wait(self) -> None:
        """Make sure that `_catch_up` is called; for credit, `take_acknowledgement` calls it."""
        if not (self._is_called or self.wire.outbox.has_room or self.is_over):
            self._is_called = True
            self.wire.outbox.when_room(self._on_room)

    def _on_room(self) -> None:
        self._is_called = False
        self._catch_up()

    def _catch_up(self, *, is_just_judged: bool = False) -> None:
        self._send_backlog(is_just_judged=is_just_judged)
        self._notify()

    def _notify(self) -> None:
        for call in list(self.watchers):
            call()

    def _send_backlog(self, *, is_just_judged: bool) -> None:
        while self._backlog and not self._is_called:
            if not self.wire.outbox.has_room:
                self._wait()
                return
            if self._credit is not None and self._credit.is_spent:
                return
            if not (is_just_judged or self.is_judged):
                # The events have waited for longer than the lease of an answer.
                self._is_called = True
                assert self.track is not None, "Events wait after it has joined."
                self.track.ask(self)
                return
            self._send(*self._backlog.pop())
        if not self._backlog:
            self._backlog = None

    def _forget(self) -> None:
        if self._backlog is not None:
            self._backlog.clear()
            self._backlog = None


class SubscribedAudience(Audience):
    """An audience with its subscribers."""

    def __init__(
        self,
        key: Hashable,
        evaluation: Evaluation,
        *,
        is_row: bool,
        window: Window | None = None,
    ) -> None:
        super().__init__(key, evaluation, is_row=is_row, window=window)
        self.subscriptions: set[Subscription] = set()
        #: How many passes have tried to unite it with its twin.
        self.tries = 0
        #: The average of what passes with events take for it (seconds), and their number.
        self.pace: float | None = None
        self.passes = 0

    def learn_pace(self, seconds: float) -> None:
        """Learn from a pass that took `seconds` for it."""
        self.passes += 1
        self.pace = seconds if self.pace is None else (self.pace + seconds) / 2

    @property
    def kept_bytes(self) -> int:
        """The memory that the keys of rows take for one subscriber, estimated (bytes)."""
        parts = 1 + (not self.keeps_texts) + self.keeps_names
        return _BYTES_PER_ROW * parts * len(self.members)

    @property
    def topic_place(self) -> Hashable:
        """The place of the topic of all its subscriptions; see `Topic`."""
        return next((s.topic.place for s in list(self.subscriptions)), None)

    @property
    def sole_owner(self) -> Hashable:
        """The owner of all its subscriptions, None if they have several."""
        owners = {s.topic.credentials.owner for s in list(self.subscriptions)}
        return owners.pop() if len(owners) == 1 else None

    @property
    def evaluations(self) -> set[Evaluation]:
        """The answers that its subscribers and its queries rely on."""
        return {self.evaluation, *(s.evaluation for s in list(self.subscriptions))}

    def __repr__(self) -> str:
        return f"<Audience of {len(self.subscriptions)} for {self.label}>"
