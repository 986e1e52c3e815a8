"""
One subscriber of one topic, and the subscriptions of one socket.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rest_channels.live import positions
from rest_channels.live.audiences import Audience, Texts
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
    place the client has reached, as it was told.
    """

    audience: Audience | None = None
    evaluation: Evaluation
    identity: Any = None

    def __init__(self, topic: Topic, options: Options, frame: Frame, wire: Wire) -> None:
        self.topic = topic
        self.options = options
        self.frame = frame
        self.wire = wire
        self.is_over = False
        #: The client has been answered, or is gone.
        self.settled = asyncio.Event()
        self.seal = positions.seal(str(topic.credentials.user_pk or ""), topic.name)
        self.last = ""
        self.place: Place | None = None
        self._request_id = json.dumps(frame.request_id)
        # Where the stream's envelope has its hole.
        self._before, self._after = in_envelope("\0", wire.stream).split("\0")

    def judge(self, evaluation: Evaluation, identity: Any) -> None:
        """Rely on DRF's answer for who asked."""
        self.evaluation, self.identity = evaluation, identity

    @property
    def is_judged(self) -> bool:
        """Whether the answer holds still, and for who asks now."""
        evaluation = self.evaluation
        is_same = evaluation.reach == EVERYBODY or self.identity == self.topic.identity
        return is_same and evaluation.is_fresh

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
            self.last = f"-.{self.seal}"
        else:
            self._reach(place)
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
        self.settled.set()

    def tell(self, events: Sequence[Event], texts: Sequence[str | None]) -> None:
        """Send `events`, whose shared texts are `texts`; None for one that is not told."""
        for event, text in zip(events, texts, strict=True):
            # Of what it is not told, a client is not told the place either.
            if text is not None:
                self._send(text, event.place)

    def sync(self, place: Place) -> None:
        """Nothing of this topic has changed up to `place`."""
        self._send(self.shared(Message("sync", 200)), place)

    def reset(self, place: Place, data: str) -> None:
        """What the client knows is of no use; `data` is what it would see, null where unasked."""
        self._send(self.shared(Message("reset", 205, data)), place)

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
        self._send(self.shared(Message("revoke", reply.status, errors=reply.errors)), None)
        self.end()

    def _send(self, shared: str, place: Place | None) -> None:
        previous = self.last
        if place is not None:
            self._reach(place)
        if not (self.is_over or self.topic.credentials.has_ended):
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

    def _reach(self, place: Place) -> None:
        self.place = place
        self.last = f"{positions.encode(place)}.{self.seal}"
