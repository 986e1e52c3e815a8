"""
One connection that is opened again whenever it is lost.

It waits for a random time before each attempt (docs/protocol.md, "Reconnecting"), because all
clients may have lost their server at the same moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, Protocol

from rest_channels.client.callbacks import Observers
from rest_channels.client.incoming import Incoming, decode, encode
from rest_channels.client.limits import Limits
from rest_channels.client.ports import Clock, Network, Timer
from rest_channels.protocol import CloseCode

# Bounds of the random time before the first attempt (seconds); each failure doubles them.
_USUAL: Final = 5.0
_RESTART: Final = 2.0  # a server that restarts closes its sockets one after the other
_FLOODED: Final = 30.0
_LONGEST: Final = 60.0

# For a handshake, credentials included (seconds).
_PATIENCE: Final = 10.0
# Between two attempts (seconds).
_PAUSE: Final = 1.0
# A timer that comes later than this (seconds) was asleep itself.
_LATE: Final = 1.0

LOST: Final = 1006
_GARBLED: Final = 1007
# 4009, 4011 and 4012 come from servers that refuse to close with 1009, 1011 and 1012.
_RESTARTS: Final = frozenset({int(CloseCode.SERVICE_RESTART), 4012})
_FINAL: Final = frozenset(
    {int(CloseCode.FRAME_TOO_LONG), 4009, int(CloseCode.NOT_ALLOWED), int(CloseCode.NO_SUCH_ROUTE)}
)

StateName = Literal["connecting", "connected", "waiting", "signed-out", "closed"]


@dataclass(frozen=True)
class ConnectionState:
    """
    The connection now.

    `retry_at` is the time of the next attempt, as `loop.time()` counts, and None unless it waits.
    `code` is the last close code; `reason` says why, if that is known.
    """

    name: StateName
    retry_at: float | None = None
    code: int | None = None
    reason: str = ""


class Owner(Protocol):
    """The object that a line reports to."""

    def opened(self) -> None: ...

    def received(self, message: Incoming) -> None: ...

    def lost(self, *, is_final: bool, is_refused: bool) -> None:
        """
        Note that nothing is sent any more.

        `is_final`: it is not opened again by itself. `is_refused`: this user may see nothing.
        """


class Line:
    """The state of the connection. The network calls `opened`, `receive` and `lose`."""

    def __init__(
        self,
        clock: Clock,
        network: Network,
        limits: Limits,
        random: Random,
        *,
        has_auth: bool,
    ) -> None:
        self.state = ConnectionState("connecting")
        self.observers = Observers()
        self._clock = clock
        self._network = network
        self._limits = limits
        self._random = random
        self._has_auth = has_auth
        self._owner: Owner | None = None
        self._timer: Timer | None = None
        self._failures = 0
        self._not_before = 0.0
        self._is_pinging = False
        self._was_asked_again = False

    def start(self, owner: Owner) -> None:
        """Open the first connection, for `owner`."""
        self._owner = owner
        self._attempt()

    def send(self, text: str) -> None:
        if self.state.name == "connected":
            self._network.send(text)

    def opened(self) -> None:
        """Begin to send, after the handshake."""
        if self._owner is None or self.state.name != "connecting":
            return
        self._set(ConnectionState("connected"))
        # Its answer proves that the server works, and resets the back-off.
        self._ping()
        self._owner.opened()

    def receive(self, text: str | bytes) -> None:
        """Read a message."""
        if self._owner is None or self.state.name != "connected":
            return
        self._is_pinging = False
        self._watch()
        try:
            message = decode(text)
        except ValueError:
            self.lose(_GARBLED, "The server sent a message that is not of this protocol.")
            return
        if message.status < 500:
            self._failures = 0
            self._was_asked_again = False
        elif message.status == 503:
            # It may be the last message of a server that stops: obey the time it asks for.
            self._not_before = self._clock.time() + message.retry_after
        self._owner.received(message)

    def lose(self, code: int = LOST, reason: str = "") -> None:
        """Give up the connection, which is gone or of no use, and open another if that may help."""
        if self.state.name not in ("connecting", "connected"):
            return
        if code == CloseCode.CREDENTIALS_ENDED:
            self._credentials_ended(code, reason)
        elif code in _FINAL:
            self._end(ConnectionState("closed", code=code, reason=reason))
        else:
            self._try_later(code, reason)

    def no_credentials(self) -> None:
        """Give up, because nobody is signed in."""
        code = int(CloseCode.CREDENTIALS_ENDED)
        self._end(ConnectionState("signed-out", code=code, reason="There are no credentials."))

    def reconnect(self) -> None:
        """Connect now, also after `signed-out` or `closed`."""
        if self.state.name == "connected":
            return
        self._failures = 0
        self._was_asked_again = False
        self._drop()
        self._attempt()

    def close(self) -> None:
        self._end(ConnectionState("closed", code=1000))

    def _attempt(self, *, is_expired: bool = False) -> None:
        self._not_before = self._clock.time() + _PAUSE
        self._set(ConnectionState("connecting", reason=self.state.reason))
        self._wait(_PATIENCE, lambda: self.lose(reason="The handshake has had no answer."))
        self._network.open(is_expired=is_expired)

    def _ping(self) -> None:
        self._is_pinging = True
        self._network.send(encode(None, {"action": "ping"}))
        self._watch()

    def _watch(self) -> None:
        """Wait for silence. A program that slept is late itself, so it sends another ping."""
        limits = self._limits
        delay = limits.pong_seconds if self._is_pinging else limits.silence_seconds
        due = self._clock.time() + delay + _LATE

        def silent() -> None:
            if self._is_pinging and self._clock.time() < due:
                self.lose(reason="The server does not answer.")
            else:
                self._ping()

        self._wait(delay, silent)

    def _credentials_ended(self, code: int, reason: str) -> None:
        if not self._has_auth or self._was_asked_again:
            self._end(ConnectionState("signed-out", code=code, reason=reason))
            return
        self._was_asked_again = True
        self._drop()
        self._attempt(is_expired=True)

    def _try_later(self, code: int, reason: str) -> None:
        first = _RESTART if code in _RESTARTS else _USUAL
        if code == CloseCode.FLOODING:
            first = _FLOODED
        # 60 seconds are reached long before the power is large.
        bound = min(_LONGEST, first * 2 ** min(self._failures, 10))
        self._failures += 1
        retry_at = self._clock.time() + self._random.random() * bound
        if code == CloseCode.FLOODING:
            self._not_before = retry_at
        self._drop()
        retry_at = max(self._not_before, retry_at)
        self._wait(max(0.0, retry_at - self._clock.time()), self._attempt)
        self._set(ConnectionState("waiting", retry_at, code, reason))

    def _drop(self, *, is_final: bool = False, is_refused: bool = False) -> None:
        """Give up the socket, and tell the owner."""
        self._stop_timer()
        self._network.drop()
        if self._owner is not None:
            self._owner.lost(is_final=is_final, is_refused=is_refused)

    def _end(self, state: ConnectionState) -> None:
        is_refused = state.name == "signed-out" or state.code == CloseCode.NOT_ALLOWED
        self.state = state
        self._drop(is_final=True, is_refused=is_refused)
        # Last, because an observer may connect again.
        self.observers.notify()

    def _wait(self, delay: float, call: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._clock.call_later(delay, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, state: ConnectionState) -> None:
        self.state = state
        self.observers.notify()
