"""A room of `RoomConsumers`: its users, those who are typing, and messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rest_channels.client.following import Followed
from rest_channels.client.incoming import Incoming, identity
from rest_channels.client.ports import Timer

# Messages that are kept.
_MOST_MESSAGES: Final = 1000
# Seconds between two reports of a typing user, and those that a report holds: a report may be lost,
# also the one that typing has ended.
_REPORT_EVERY: Final = 2.0
_TYPING: Final = 5.0


def _name(user: Any) -> str:
    is_named = isinstance(user, dict) and user.get("id") is not None
    return identity(user["id"] if is_named else user)


class FollowedRoom(Followed):
    """The membership in a room."""

    def __init__(self, *args: Any, room: str) -> None:
        super().__init__(*args)
        self.users: tuple[Any, ...] = ()
        self.typing: tuple[Any, ...] = ()
        self.messages: tuple[Any, ...] = ()
        self._room = room
        self._timers: dict[str, Timer] = {}
        self._reported_at: float | None = None

    def hears(self, event: Incoming) -> bool:
        is_ours = event.request_id is None and event.stream == self.stream
        return is_ours and isinstance(event.data, dict) and event.data.get("room") == self._room

    def receive(self, event: Incoming) -> None:
        # Its `reset` has no messages: join again.
        if event.action == "reset":
            self.ask()
        else:
            super().receive(event)

    def report(self, is_typing: bool) -> None:
        """Report whether this user is typing, unless the others know it."""
        now = self._clock.time()
        if is_typing:
            if self._reported_at is not None and now - self._reported_at < _REPORT_EVERY:
                return
        elif self._reported_at is None:
            return
        self._reported_at = now if is_typing else None
        payload = {"action": "typing", "room": self._room, "data": is_typing}
        self._wire.post(self.stream, payload)

    def frame(self) -> Mapping[str, Any]:
        since = {} if self.position is None else {"since": self.position}
        return {"action": "join", "room": self._room, **since}

    def farewell(self) -> Mapping[str, Any]:
        return {"action": "leave", "room": self._room}

    def begin(self, reply: Incoming) -> bool:
        data = reply.data
        self._reported_at = None
        self.position = data.get("position")
        self._forget_all()
        self.users = tuple(data["users"])
        before = self.messages if data.get("resumed") else ()
        self._keep((*before, *data.get("messages", ())))
        return True

    def follow(self, event: Incoming) -> None:
        data = event.data
        if event.action == "presence":
            self._presence(data["user"], is_here=data["event"] == "joined")
        elif event.action == "message":
            self.position = data.get("id")
            self._forget_typing(_name(data["user"]))
            self._keep((*self.messages, data))
        elif event.action == "typing":
            self._types(data["user"], is_typing=bool(data["data"]))

    def clear(self) -> None:
        self._forget_all()
        self.users = self.messages = ()

    def _presence(self, user: Any, *, is_here: bool) -> None:
        name = _name(user)
        others = tuple(other for other in self.users if _name(other) != name)
        self.users = (*others, user) if is_here else others
        if not is_here:
            self._forget_typing(name)

    def _types(self, user: Any, *, is_typing: bool) -> None:
        name = _name(user)
        self._forget_typing(name)
        if not is_typing:
            return
        self.typing = (*self.typing, user)

        def silent() -> None:
            self._forget_typing(name)
            self.schedule()

        self._timers[name] = self._clock.call_later(_TYPING, silent)

    def _forget_typing(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
            self.typing = tuple(user for user in self.typing if _name(user) != name)

    def _forget_all(self) -> None:
        for name in [*self._timers]:
            self._forget_typing(name)

    def _keep(self, messages: tuple[Any, ...]) -> None:
        self.messages = messages[-_MOST_MESSAGES:]
