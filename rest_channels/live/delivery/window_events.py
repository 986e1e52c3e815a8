"""The events of one update of a window, and the merging of those that wait."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rest_channels.live.delivery.backlog import ENTRY_BYTES, SYNC, Backlog
from rest_channels.live.delivery.events import Event
from rest_channels.live.delivery.window_script import Step, applied, script
from rest_channels.live.log.positions import Position
from rest_channels.live.log.store import Kind
from rest_channels.metrics import figures
from rest_channels.protocol import Event as Message
from rest_channels.protocol import byte_length
from rest_channels.sockets.outbox import Outbox

# A reference in a list.
_KEY_BYTES: Final = 8

_STATUS: Final = {Kind.CREATE: 200, Kind.UPDATE: 200, Kind.DELETE: 204}

_decoder: Final = json.JSONDecoder()
_BEGINNING: Final = '{"pk": '


@dataclass(frozen=True)
class WindowEvents:
    """
    The events that lead from the list `before` to the list `now`, shared by many subscribers.

    `steps` say the same as `events`, without texts. `texts` has rows as JSON text, `names` the
    names of the rows of `now`, as the data of a `delete`; both by key.
    """

    before: Sequence[str]
    now: Sequence[str]
    steps: Sequence[Step]
    events: Sequence[Event]
    texts: dict[str, str]
    names: Mapping[str, str]


def after_of(step: Step, names: Mapping[str, str]) -> str:
    """Return the JSON text of `after` for an event; empty if its row does not move."""
    if not step.moves:
        return ""
    return "null" if step.after is None else _pk_in(names[step.after])


def _pk_in(name: str) -> str:
    """Return the JSON text of the primary key in the data of a `delete`."""
    _, end = _decoder.raw_decode(name, len(_BEGINNING))
    return name[len(_BEGINNING) : end]


class WindowBacklog(Backlog):
    """
    A client's list, the list that it is to have, and the rows that have changed in between.

    The events are computed when they are sent, because `after` names a row that the client holds at
    that moment. On the loop.
    """

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(outbox)
        # None until events wait: then the list that the client holds.
        self._held: list[str] | None = None
        self._target: Sequence[str] = ()
        self._names: Mapping[str, str] = {}
        # By key: texts of rows to create or update, and the `delete` and name of held rows that
        # have left.
        self._rows: dict[str, str] = {}
        self._left: dict[str, tuple[str, str]] = {}
        self._steps: deque[Step] | None = None
        self._byte_count = 0

    def __bool__(self) -> bool:
        return bool(self._rows or self._left) or super().__bool__()

    def take(self, update: WindowEvents, start: int = 0) -> None:
        """Add the events of `update` from number `start` on; the client has those before."""
        if self._held is None:
            self._held = applied(update.before, update.steps[:start])
            self._count(_KEY_BYTES * len(self._held))
        held = set(self._held)
        for step, event in zip(update.steps[start:], update.events[start:], strict=True):
            figures.merged.add(step.key in self._rows or step.key in self._left)
            if step.kind != Kind.DELETE:
                self._put_row(step.key, update.texts[step.key])
            else:
                self._drop_row(step.key)
                if step.key in held and step.key not in self._left:
                    self._left[step.key] = event.data, event.name
                    self._count(ENTRY_BYTES)
            self.reach(event.place)
        self._target, self._names = update.now, update.names
        self._steps = None

    def pop(self) -> tuple[str, Position | None]:
        """Return the next text, and the position that the client reaches with it."""
        if self.has_reset:
            shared, place = super().pop()
        elif (step := self._next()) is not None:
            shared, place = self._text(step), None
        else:
            shared, place = SYNC, None
        if not (self._rows or self._left):
            place, self._end = self._end or place, None
            self._forget_held()
        return shared, place

    def clear(self) -> None:
        """Forget all events."""
        super().clear()
        self._rows.clear()
        self._left.clear()
        self._forget_held()

    def _forget_held(self) -> None:
        # Nothing else waits: the client's list is where the next update begins.
        self._held, self._steps = None, None
        self._count(-self._byte_count)

    def _next(self) -> Step | None:
        if self._held is None:
            return None
        if self._steps is None:
            self._steps = deque(self._script(self._held))
        if not self._steps:
            return None
        step = self._steps.popleft()
        self._held = applied(self._held, [step])
        return step

    def _script(self, held: Sequence[str]) -> list[Step]:
        target = set(self._target)
        # These rows left and came back.
        back = {key for key in self._left if key in target}
        renamed = {key for key in back if self._left[key][1] != self._names[key]}
        for key in back - renamed:
            self._drop_left(key)
        return script(held, self._target, self._rows.keys(), renamed)

    def _text(self, step: Step) -> str:
        if step.kind == Kind.DELETE:
            data, _ = self._left[step.key]
            self._drop_left(step.key)
        else:
            data = self._rows[step.key]
            self._drop_row(step.key)
        after = after_of(step, self._names)
        return Message(step.kind, _STATUS[step.kind], data, after=after).shared

    def _put_row(self, key: str, text: str) -> None:
        self._drop_row(key)
        self._rows[key] = text
        self._count(byte_length(text) + ENTRY_BYTES)

    def _drop_row(self, key: str) -> None:
        if (text := self._rows.pop(key, None)) is not None:
            self._count(-byte_length(text) - ENTRY_BYTES)

    def _drop_left(self, key: str) -> None:
        del self._left[key]
        self._count(-ENTRY_BYTES)

    def _count(self, byte_count: int) -> None:
        self._byte_count += byte_count
        self._outbox.backlog_bytes += byte_count
