"""
Data that the server keeps up to date.

Each is subscribed to once, again after each break, and shared by all handles that ask for the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, Literal, Protocol

from rest_channels.client.errors import ApiError, ClientError, NoKey
from rest_channels.client.incoming import Incoming
from rest_channels.client.ports import Clock, Timer
from rest_channels.client.wire import Call, Wire

Status = Literal["connecting", "live", "stale", "denied", "ended"]

_LONGEST_RETRY: Final = 60.0
_DENIALS: Final = frozenset({401, 403, 404})


class Viewer(Protocol):
    """A handle of the application's, which looks after changes."""

    def update(self) -> None: ...


class Followed:
    """
    One subscription on the wire; its kinds are the subclasses.

    A kind makes its frames in `frame` and `farewell`, and applies replies and events in `begin`,
    `follow` and `clear`. `forget` is called at its end.
    """

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        random: Random,
        stream: str,
        forget: Callable[[], None],
    ) -> None:
        self.stream = stream
        self.viewers: list[Viewer] = []
        self.status: Status = "connecting"
        self.error: ClientError | None = None
        #: Why the server has refused more than it sends.
        self.refusal: ApiError | None = None
        self.position: str | None = None
        self.id = wire.next_id()
        self._wire = wire
        self._clock = clock
        self._random = random
        self._forget = forget
        # For a connection or a retry, for an answer, or for events.
        self._awaits: Literal["nothing", "answer", "events", "over"] = "nothing"
        # Whether the server has one of this `id`, as far as is known here.
        self._is_held = False
        self._must_ask_again = False
        self._is_scheduled = False
        self._failures = 0
        self._timer: Timer | None = None
        self._call: Call | None = None

    # For kinds

    def frame(self) -> Mapping[str, Any]:
        """Return the payload that asks for it, without a `request_id`."""
        raise NotImplementedError

    def farewell(self) -> Mapping[str, Any]:
        """Return the payload that ends it."""
        raise NotImplementedError

    def begin(self, reply: Incoming) -> bool:
        """Apply the data of a reply or a reset; return whether it is complete."""
        raise NotImplementedError

    def follow(self, event: Incoming) -> None:
        """Apply an event."""
        raise NotImplementedError

    def clear(self) -> None:
        """Drop the data: this user may not see it."""
        raise NotImplementedError

    def hears(self, event: Incoming) -> bool:
        """Return whether an event is for this subscription."""
        return event.request_id == self.id and type(event.request_id) is int

    # For the core

    @property
    def is_asking(self) -> bool:
        """Whether it has been asked for, and there is no answer yet."""
        return self._awaits == "answer"

    def ask(self) -> None:
        """Send the frame, or note that it has to be sent again after the answer to the last one."""
        self._stop_timer()
        self._must_ask_again = self.is_asking
        if not self._wire.is_open or self._must_ask_again or self._awaits == "over":
            return
        self._awaits = "answer"
        payload = {"request_id": self.id, **self.frame()}
        self._call = Call(self.stream, payload, on_reply=self._answer, per_connection=True)
        self._wire.push(self._call)

    def opened(self) -> None:
        """Ask again on a new connection. A refusal for good is not repeated."""
        self._failures = 0
        if self.status != "ended":
            self.ask()

    def lost(self, *, is_refused: bool) -> None:
        """Note that the connection is lost; `is_refused`: this user may see nothing any more."""
        self._stop_timer()
        if self._awaits != "over":
            self._awaits = "nothing"
        self._is_held = False
        if is_refused:
            self._drop("denied")
        elif self.status == "live":
            self._set("stale")

    def receive(self, event: Incoming) -> None:
        """Apply an event that this subscription hears."""
        # Else it belongs to the subscription that is being replaced.
        if self._awaits != "events":
            return
        if event.action == "revoke":
            self._revoked(event)
        elif event.action == "reset":
            self._begin(event)
        elif event.previous is not None and event.previous != self.position:
            self._retry(0)
        else:
            self._failures = 0
            self.position = event.position if event.position is not None else self.position
            self._guard(lambda: self.follow(event))
            self.schedule()

    def refuse(self, reply: Incoming) -> None:
        """End it, because the server does not give it."""
        is_denied = reply.status in _DENIALS
        self._end("denied" if is_denied else "ended", ApiError(self.stream, reply), reply)

    def schedule(self) -> None:
        """Publish soon: once for all messages that have arrived."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._clock.call_later(0, self.flush)

    def flush(self) -> None:
        """Publish now what was to be published soon."""
        if self._is_scheduled:
            self.publish()

    def publish(self) -> None:
        self._is_scheduled = False
        for viewer in [*self.viewers]:
            viewer.update()

    def leave(self, viewer: Viewer) -> None:
        """Forget a handle; the subscription ends with the last one."""
        if viewer in self.viewers:
            self.viewers.remove(viewer)
        # A handle that is made again at once finds it still there.
        self._clock.call_later(0, self._stop_if_unseen)

    def _revoked(self, event: Incoming) -> None:
        if event.status >= 500:
            self._retry(1)
        else:
            self.refuse(event)

    def _answer(self, reply: Incoming) -> None:
        if self._awaits == "over":
            return
        self._awaits = "events"
        if reply.status == 429 or reply.status >= 500:
            self.error = ApiError(self.stream, reply)
            self._retry(reply.retry_after or 1)
        elif reply.status >= 400:
            self.refuse(reply)
        else:
            self._is_held = True
            self._begin(reply)
            if self._must_ask_again:
                self.ask()

    def _begin(self, reply: Incoming) -> None:
        self.position = reply.position

        def apply() -> None:
            if self.begin(reply):
                self._set("live", self.refusal)

        self._guard(apply)

    def _guard(self, apply: Callable[[], None]) -> None:
        try:
            apply()
        except NoKey as error:
            self._end("ended", error)

    def _end(self, status: Status, error: ClientError, reply: Incoming | None = None) -> None:
        # If it was asked for again, the former one goes on: end it.
        if self._is_held and (reply is None or reply.action != "revoke"):
            self._wire.post(self.stream, self.farewell())
        self._is_held = False
        self._awaits = "nothing"
        self._drop(status, error)

    def _retry(self, delay: float) -> None:
        """Ask again after `delay` seconds, and a random time that grows."""
        self._awaits = "nothing"
        if self.status == "live":
            self._set("stale", self.error)
        most = min(_LONGEST_RETRY, 0.5 * 2.0**self._failures) if self._failures else delay
        self._failures = min(self._failures + 1, 10)
        self._stop_timer()
        self._timer = self._clock.call_later(delay + self._random.random() * most, self.ask)

    def _drop(self, status: Status, error: ClientError | None = None) -> None:
        self.position = None
        self.clear()
        self._set(status, error)

    def _set(self, status: Status, error: ClientError | None = None) -> None:
        self.status = status
        self.error = error
        self.schedule()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_if_unseen(self) -> None:
        if self.viewers or self._awaits == "over":
            return
        self._stop_timer()
        if self._call is None or not self._wire.withdraw(self._call):
            self._wire.post(self.stream, self.farewell())
        self._awaits = "over"
        self._forget()
