"""
One subscriber of one topic, and the subscriptions of one socket.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rest_channels.counters import counters
from rest_channels.live import positions
from rest_channels.live.audiences import Audience, Texts
from rest_channels.live.backlog import Backlog, Credit
from rest_channels.live.evaluations import EVERYBODY, Evaluation
from rest_channels.live.events import Event
from rest_channels.live.log import Kind
from rest_channels.live.positions import Place
from rest_channels.live.topics import Options, Topic
from rest_channels.protocol import Event as Message
from rest_channels.protocol import Frame, Reply, in_envelope

if TYPE_CHECKING:
    from rest_channels.outbox import Wire

_STATUS = {Kind.CREATE: 200, Kind.UPDATE: 200, Kind.DELETE: 204}


class Subscription:
    """
    What a client called `request_id`.

    `audience`, `evaluation` and `identity` are the pass's; all else is of the loop. `last` is the
    place the client has reached, as it was told. `ask` has the next pass judge anew, and call
    `go_on`.
    """

    audience: Audience | None = None
    evaluation: Evaluation
    identity: Any = None
    ask: Callable[[Subscription], None]

    #: Whether a newer text of a row says all that older ones did.
    merges = True

    def __init__(self, topic: Topic, options: Options, frame: Frame, wire: Wire) -> None:
        self.topic = topic
        self.options = options
        self.frame = replace(frame, rest={})
        self.wire = wire
        self.is_over = False
        #: The client has been answered, or is gone.
        self.settled = asyncio.Event()
        self.seal = positions.seal(str(topic.credentials.user_pk or ""), topic.name)
        self.last = self._token = ""
        self.place: Place | None = None
        # There is one while the client does not keep up.
        self._backlog: Backlog | None = None
        self._credit = Credit(options.credit) if options.credit and self.merges else None
        # Somebody will call `go_on`, or `_catch_up`.
        self._is_called = False
        self._request_id = json.dumps(frame.request_id)
        # Where the stream's envelope has its hole.
        self._before, self._after = in_envelope("\0", wire.stream).split("\0")

    def judge(self, evaluation: Evaluation, identity: Any) -> None:
        """Rely on DRF's answer for who asked."""
        self.evaluation, self.identity = evaluation, identity

    @property
    def is_judged(self) -> bool:
        """Whether the answer holds still, and for who asks now."""
        return self.evaluation.is_fresh and not self.is_of_another

    @property
    def is_of_another(self) -> bool:
        """Whether the answer is for one user, and the socket another's now."""
        return self.evaluation.reach != EVERYBODY and self.identity != self.topic.identity

    @property
    def is_in_doubt(self) -> bool:
        """Whether something has changed that the answer was made of."""
        return self.evaluation.is_doubted

    def acknowledge(self, place: Place | None, *, is_resumed: bool, data: str) -> None:
        """
        The reply to the frame that subscribed; the first that the client hears of it. Where a
        reset is to come, it has reached no `place` yet, and is told one that leads to a reset.
        """
        if place is None:
            self.last = self._token = f"-.{self.seal}"
        else:
            self._reach(place)
        # They have been met, and may be long.
        self.options = Options()
        frame = self.frame
        extra = {
            "position": json.dumps(self.last),
            "resumed": "true" if is_resumed else "false",
        }
        reply = Reply(201, data=data, action=frame.action, request_id=frame.request_id, extra=extra)
        self._answer(reply)

    def refuse(self, reply: Reply) -> None:
        """The reply instead of an acknowledgement."""
        reply.action, reply.request_id = self.frame.action, self.frame.request_id
        self._answer(reply)
        self.end()

    def _answer(self, reply: Reply) -> None:
        if not self.is_over:
            self.wire.post(reply)
            self.settled.set()

    def end(self) -> None:
        """Send nothing more."""
        self.is_over = True
        self._forget()
        self.settled.set()

    def tell(self, events: Sequence[Event], texts: Sequence[str | None]) -> None:
        """Send `events`, whose shared texts are `texts`; None for one that is not told."""
        outbox = self.wire.outbox
        if outbox.is_behind:
            # Of one telling all may wait, however long; not of a further one.
            outbox.give_up_client()
        if outbox.is_closed:
            self._forget()
            return
        for event, text in zip(events, texts, strict=True):
            # Of what it is not told, a client is not told the place either.
            if text is None:
                continue
            if self._keeps_up:
                self._send(text, event.place, event.encoded)
            else:
                self._waiting().add(event.kind, event.key, text, event.place)

    def sync(self, place: Place) -> None:
        """Nothing of this topic has changed up to `place`."""
        if self._keeps_up:
            self._send(self.shared(Message("sync", 200)), place)
        else:
            self._waiting().reach(place)

    def reset(self, place: Place, data: str) -> None:
        """What the client knows is of no use; `data` is what it would see, null where unasked."""
        counters.resets += 1
        shared = self.shared(Message("reset", 205, data))
        if self._keeps_up:
            self._send(shared, place)
        else:
            self._waiting().reset(shared, place)

    def revoke(self) -> None:
        """What allowed it is gone."""
        self._revoke(Reply.error(403, "What allowed it is gone.", "permission_denied"))

    def give_up(self, reply: Reply) -> None:
        """End it for another reason, in place of the answer or after it."""
        if self.settled.is_set():
            self._revoke(reply)
        else:
            self.refuse(Reply(reply.status, errors=reply.errors, codes=reply.codes))

    def _revoke(self, reply: Reply) -> None:
        # What waits may not be seen any more.
        self._forget()
        self._send(self.shared(Message("revoke", reply.status, errors=reply.errors)), None)
        self.end()

    def _send(self, shared: str, place: Place | None, encoded: str = "") -> None:
        previous = self.last
        if place is not None:
            self._reach(place, encoded)
        if self._credit is not None:
            self.last = positions.numbered(self._token, self._credit.next_number())
        if not (self.is_over or self.topic.credentials.has_ended):
            counters.deliveries += 1
            self.wire.outbox.post(f"{self._before}{shared}{self._own(previous)}{self._after}")

    # How it is said

    @classmethod
    def texts_of(
        cls, audience: Audience, events: Sequence[Event], texts: Texts
    ) -> list[str | None]:
        """What all subscribers get who see rows as `texts`, made once; None for what none gets."""
        return [
            cls.shared(
                Message(
                    event.kind,
                    _STATUS[event.kind],
                    audience.removal(event.key) if event.kind == Kind.DELETE else texts[event.key],
                )
            )
            for event in events
        ]

    @staticmethod
    def shared(message: Message) -> str:
        """The text that is the same for all."""
        return message.shared

    def _own(self, previous: str) -> str:
        """The rest of the text; `previous` is the position told before."""
        return Message.address(self._request_id, self.last, previous)

    def _reach(self, place: Place, encoded: str = "") -> None:
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

    def take_acknowledgement(self, position: str) -> bool:
        """The client has all events up to `position`; False where that is nothing new."""
        number = positions.number_of(position, self.seal)
        if self._credit is None or not self._credit.take(number):
            return False
        self._catch_up()
        return True

    def go_on(self) -> None:
        """What waits may be sent: who may see it has been asked just now."""
        self._is_called = False
        self._catch_up(is_just_judged=True)

    def _waiting(self) -> Backlog:
        if self._backlog is None:
            self._backlog = Backlog(self.wire.outbox)
        self._wait()
        return self._backlog

    def _wait(self) -> None:
        """See to it that `_catch_up` is called; for credit, `take_acknowledgement` does."""
        if not (self._is_called or self.wire.outbox.has_room or self.is_over):
            self._is_called = True
            self.wire.outbox.when_room(self._on_room)

    def _on_room(self) -> None:
        self._is_called = False
        self._catch_up()

    def _catch_up(self, *, is_just_judged: bool = False) -> None:
        while self._backlog and not self._is_called:
            if not self.wire.outbox.has_room:
                self._wait()
                return
            if self._credit is not None and self._credit.is_spent:
                return
            if not (is_just_judged or self.is_judged):
                # It has waited for longer than an answer may be relied on.
                self._is_called = True
                self.ask(self)
                return
            self._send(*self._backlog.pop())
        if not self._backlog:
            self._backlog = None

    def _forget(self) -> None:
        if self._backlog is not None:
            self._backlog.clear()
            self._backlog = None
