"""Lists, watches and rooms as an application holds them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Generic, Self, TypeVar

from rest_channels.client.answers import FollowedAnswer
from rest_channels.client.callbacks import Observers
from rest_channels.client.changes import Change, Reset
from rest_channels.client.errors import ClientError
from rest_channels.client.following import Followed, Status
from rest_channels.client.incoming import Key
from rest_channels.client.lists import FollowedList, WindowViewer
from rest_channels.client.presence_room import FollowedRoom
from rest_channels.protocol import MISSING

R = TypeVar("R")
D = TypeVar("D")
T = TypeVar("T")

# A reader that is further behind receives all rows instead.
_MOST_CHANGES = 1000


class Handle:
    """
    Data that stays up to date, until `stop`.

    `status` is `connecting`; `live`; `stale`, if it may be old; `denied`, if this user may not see
    it; `ended`, if it was stopped or refused. `error` is the reason of a refusal, or None. As a
    context manager it is `ready` inside, and stopped at the end.
    """

    def __init__(self, followed: Followed) -> None:
        self._followed = followed
        self._observers = Observers()
        self._is_stopped = False
        self._shown = self._look()
        followed.viewers.append(self)

    @property
    def status(self) -> Status:
        status: Status = self._shown[0]
        return status

    @property
    def error(self) -> ClientError | None:
        error: ClientError | None = self._shown[1]
        return error

    def subscribe(self, callback: Callable[[], Any]) -> Callable[[], None]:
        """Call `callback` after changes, until the returned function is called."""
        return self._observers.subscribe(callback)

    def stop(self) -> None:
        """End it; the subscription ends with its last handle."""
        if not self._is_stopped:
            self._is_stopped = True
            self._followed.leave(self)
            self.update()

    async def until(self, condition: Callable[[Self], Any]) -> Self:
        """
        Wait until `condition` holds, looking now and after each change.

        Raises `error` if the handle is denied or ended and the condition does not hold.
        """
        changed = asyncio.Event()
        stop = self.subscribe(changed.set)
        try:
            while not condition(self):
                if self.status in ("denied", "ended"):
                    raise self.error or ClientError(f"It is {self.status}.")
                await changed.wait()
                changed.clear()
        finally:
            stop()
        return self

    async def ready(self) -> Self:
        """Wait for the first answer. Raises its `error` if it is a refusal."""
        return await self.until(lambda handle: handle.status in ("live", "stale"))

    async def __aenter__(self) -> Self:
        try:
            return await self.ready()
        except BaseException:
            self.stop()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        self.stop()

    def update(self) -> None:
        """Look whether something has changed; the core calls it."""
        before, self._shown = self._shown, self._look()
        if any(new is not old for new, old in zip(self._shown, before, strict=True)):
            self._observers.notify()

    def _look(self) -> tuple[Any, ...]:
        """Return status, error, and what a subclass shows: the same objects until they change."""
        return "ended" if self._is_stopped else self._followed.status, self._followed.error


class LiveRows(Handle, WindowViewer, Generic[R]):
    """
    A live list.

    `rows` is a tuple in the order of `list`. It and its rows stay the same objects until they
    change; do not change them. Iterate to receive single changes, the first of which is a `Reset`.
    """

    def __init__(self, followed: FollowedList, window: int | None) -> None:
        self.window = window
        self._list = followed
        self._cut: tuple[Any, ...] = ()
        self._indexed: tuple[tuple[Any, ...], Mapping[Key, Any]] = ((), {})
        super().__init__(followed)
        followed.resize()
        self.update()

    @property
    def rows(self) -> tuple[R, ...]:
        rows: tuple[R, ...] = self._shown[2]
        return rows

    @property
    def has_more(self) -> bool:
        """Whether the window is full, so there may be more rows."""
        return bool(self._shown[3])

    @property
    def by_key(self) -> Mapping[Any, R]:
        """The rows by key, in their order."""
        rows, found = self._indexed
        if rows is not self.rows:
            found = {self._list.key_of(row): row for row in self.rows}
            self._indexed = (self.rows, found)
        return found

    def grow(self, n: int) -> None:
        """Show `n` rows more. A list without a window shows all of them already."""
        if self.window is not None:
            self.window = max(1, self.window + n)
            self._list.resize()
            self.update()

    async def __aiter__(self) -> AsyncIterator[Change[R]]:
        queue: deque[Change[R]] = deque()
        changed = asyncio.Event()

        def read(change: Change[R]) -> None:
            # One that is far behind receives all rows instead.
            if isinstance(change, Reset) or len(queue) >= _MOST_CHANGES:
                queue.clear()
                change = Reset(self._list.rows.list)
            queue.append(change)
            changed.set()

        stop = self.subscribe(changed.set)
        self._list.readers.append(read)
        if self.status != "connecting":
            read(Reset(self._list.rows.list))
        try:
            while queue or self.status != "ended":
                while queue:
                    yield queue.popleft()
                changed.clear()
                if self.status != "ended":
                    await changed.wait()
            if self.error is not None:
                raise self.error
        finally:
            self._list.readers.remove(read)
            stop()

    def _look(self) -> tuple[Any, ...]:
        followed = self._list
        rows = self._first(followed.rows.list)
        is_full = self.window is not None and len(rows) >= self.window
        is_growing = followed.status == "live" and followed.is_asking and self.window is not None
        return (*super()._look(), rows, is_full or is_growing)

    def _first(self, rows: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.window is None or len(rows) <= self.window:
            return rows
        cut = rows[: self.window]
        is_same = len(cut) == len(self._cut) and all(map(_is, cut, self._cut))
        if not is_same:
            self._cut = cut
        return self._cut


def _is(one: Any, other: Any) -> bool:
    return one is other


class Watched(Handle, Generic[D]):
    """
    The answer of an action, kept up to date.

    Iterate to receive each new answer; one that comes while the last is read replaces those before.
    """

    def __init__(self, followed: FollowedAnswer) -> None:
        self._answer = followed
        super().__init__(followed)

    @property
    def data(self) -> D:
        """The answer. Raises `LookupError` before there is one: wait until it is `ready`."""
        if not self.has_data:
            raise LookupError(f"There is no answer yet: the watch is {self.status}.")
        data: D = self._shown[2]
        return data

    @property
    def has_data(self) -> bool:
        return self._shown[2] is not MISSING

    async def __aiter__(self) -> AsyncIterator[D]:
        changed = asyncio.Event()
        stop = self.subscribe(changed.set)
        last: Any = MISSING
        try:
            while self.status != "ended":
                changed.clear()
                if self.has_data and self.data is not last:
                    last = self.data
                    yield self.data
                else:
                    await changed.wait()
            if self.error is not None:
                raise self.error
        finally:
            stop()

    def _look(self) -> tuple[Any, ...]:
        return (*super()._look(), self._answer.data)


class JoinedRoom(Handle):
    """A room: the `users` in it, those who are `typing`, and its `messages`, the last 1,000."""

    def __init__(self, followed: FollowedRoom, say: Callable[[Any], Any]) -> None:
        self._room = followed
        self._say = say
        super().__init__(followed)

    @property
    def users(self) -> tuple[Any, ...]:
        users: tuple[Any, ...] = self._shown[2]
        return users

    @property
    def typing(self) -> tuple[Any, ...]:
        typing: tuple[Any, ...] = self._shown[3]
        return typing

    @property
    def messages(self) -> tuple[Any, ...]:
        messages: tuple[Any, ...] = self._shown[4]
        return messages

    async def say(self, data: Any) -> Any:
        """Send a message to all members."""
        self.set_typing(False)
        return await self._say(data)

    def set_typing(self, is_typing: bool = True) -> None:
        """Report whether this user is typing; call it as often as you like."""
        self._room.report(is_typing)

    def leave(self) -> None:
        self.stop()

    def _look(self) -> tuple[Any, ...]:
        room = self._room
        return (*super()._look(), room.users, room.typing, room.messages)
