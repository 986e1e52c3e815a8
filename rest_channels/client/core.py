"""
A client without its socket: texts come in, texts go out, and lists follow.

    core = ClientCore(clock, network, has_auth=False)
    core.start()                      # calls network.open(...)
    core.line.opened()                # the network reports
    core.line.receive('{"stream": ...}')
    core.line.lose(1006)

It knows neither asyncio nor a socket. All of it belongs to one thread, that of `clock`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from random import Random, SystemRandom
from typing import Any, TypeVar

from rest_channels.client.answers import FollowedAnswer, WatchOptions
from rest_channels.client.errors import ConnectionLost
from rest_channels.client.following import Followed
from rest_channels.client.incoming import Incoming, identity
from rest_channels.client.limits import Limits
from rest_channels.client.line import Line
from rest_channels.client.lists import FollowedList, ListOptions
from rest_channels.client.ports import Clock, Network
from rest_channels.client.presence_room import FollowedRoom
from rest_channels.client.wire import Call, Wire
from rest_channels.client.writing import Writing
from rest_channels.protocol import MISSING

F = TypeVar("F", bound=Followed)

OnReply = Callable[[Incoming], None]
OnLost = Callable[[ConnectionLost], None]


class ClientCore:
    """
    The state of a client.

    `keys` names the field of the key by stream, `id` unless given. `fence` and `idempotency` say
    whether writes have them.
    """

    def __init__(
        self,
        clock: Clock,
        network: Network,
        *,
        has_auth: bool = False,
        keys: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        fence: bool = True,
        idempotency: bool = True,
        random: Random | None = None,
    ) -> None:
        limits = limits or Limits()
        self._clock = clock
        self._random = random or SystemRandom()
        self._keys = keys or {}
        self._fence = fence
        self._idempotency = idempotency
        # Whether this user may give writes an idempotency key; strangers may not.
        self._has_keys = True
        self._followed: dict[str, Followed] = {}
        self.line = Line(clock, network, limits, self._random, has_auth=has_auth)
        self.wire = Wire(
            clock,
            limits,
            self._random,
            send=self.line.send,
            changed=self.line.observers.notify,
            hung=lambda: self.line.lose(reason="The server does not answer a frame."),
        )

    def start(self) -> None:
        """Open the first connection."""
        self.line.start(self)

    # Reports of the line

    def opened(self) -> None:
        self.wire.opened(self._resume)

    def received(self, message: Incoming) -> None:
        if self.wire.receive(message):
            return
        for followed in [*self._followed.values()]:
            if followed.hears(message):
                followed.receive(message)

    def lost(self, *, is_final: bool, is_refused: bool) -> None:
        # Another user may be signed in next.
        self._has_keys = True
        for followed in [*self._followed.values()]:
            followed.lost(is_refused=is_refused)
        self.wire.lost(is_final=is_final)

    def _resume(self) -> None:
        for followed in [*self._followed.values()]:
            followed.opened()

    # Requests

    def request(
        self,
        stream: str,
        payload: Mapping[str, Any],
        on_reply: OnReply,
        on_lost: OnLost,
        *,
        repeat: bool = False,
        is_write: bool = False,
    ) -> Call:
        """Send a frame when its turn comes. Raises what `incoming.encode` raises."""
        payload = {"request_id": self.wire.next_id(), **payload}
        call = Call(stream, payload, on_reply, on_lost, repeat=repeat, is_write=is_write)
        self.wire.push(call)
        return call

    def write(
        self, stream: str, payload: Mapping[str, Any], on_reply: OnReply, on_lost: OnLost
    ) -> Writing:
        """
        Send a write that happens once: with a key that lets it be repeated after a loss.

        If there are live lists, the reply comes after their events, which are shown by then.
        """
        fence = True if self._fence and self._followed else MISSING
        frame = {**payload, "fence": fence}

        def send(key: str | None, answered: OnReply) -> Call:
            keyed = {**frame, "idempotency_key": MISSING if key is None else key}
            repeat = key is not None
            return self.request(stream, keyed, answered, on_lost, repeat=repeat, is_write=True)

        def shown(reply: Incoming) -> None:
            self._flush()
            on_reply(reply)

        key = secrets.token_hex(16) if self._idempotency and self._has_keys else None
        return Writing(key, send, shown, self._note_stranger)

    def _note_stranger(self) -> None:
        self._has_keys = False

    def _flush(self) -> None:
        for followed in [*self._followed.values()]:
            followed.flush()

    # Subscriptions

    def follow_list(self, stream: str, options: ListOptions) -> FollowedList:
        """Return the subscription to a list, the one that there is or a new one."""
        given = [options.query, options.pk, options.headers, options.lookups]
        field = self._keys.get(stream, "id")
        return self._share(
            ["live", stream, *given],
            lambda forget: FollowedList(
                *self._parts(stream, forget), options=options, key_field=field
            ),
        )

    def follow_answer(self, stream: str, options: WatchOptions) -> FollowedAnswer:
        """Return the subscription to an answer."""
        given = [options.of, options.pk, options.query, options.headers, options.lookups]
        return self._share(
            ["watch", stream, *given],
            lambda forget: FollowedAnswer(*self._parts(stream, forget), options=options),
        )

    def follow_room(self, stream: str, room: str) -> FollowedRoom:
        """Return the membership in a room."""
        return self._share(
            ["room", stream, room],
            lambda forget: FollowedRoom(*self._parts(stream, forget), room=room),
        )

    def _parts(self, stream: str, forget: Callable[[], None]) -> tuple[Any, ...]:
        return self.wire, self._clock, self._random, stream, forget

    def _share(self, parts: list[Any], make: Callable[[Callable[[], None]], F]) -> F:
        name = identity(parts)
        known = self._followed.get(name)
        if known is not None:
            # The first part of the name is the kind.
            return known  # type: ignore[return-value]
        followed = make(lambda: self._forget(name))
        self._followed[name] = followed
        followed.ask()
        return followed

    def _forget(self, name: str) -> None:
        self._followed.pop(name, None)
