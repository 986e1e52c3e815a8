"""Helpers of stories about watches: a socket that watches, and a wait until nothing runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from rest_channels.live.delivery.hub import current_hub
from rest_channels.live.delivery.pass_state import Seen
from rest_channels.live.log import store
from rest_channels.live.watches.watch_hub import current_watch_hub
from rest_channels.metrics import figures
from tests.support.subscription_stories import written
from tests.support.talk import Talk


async def watched(socket: Talk, of: str = "list", **keys: Any) -> dict[str, Any]:
    """Watch an action; returns the reply."""
    reply = await socket.ask("watch", of=of, **{"request_id": "w", **keys})
    assert reply["response_status"] == 201, reply
    return reply


async def change(socket: Talk) -> Any:
    """The data of the next `change`."""
    event = await socket.receive()
    assert (event["action"], event["response_status"]) == ("change", 200), event
    return event["data"]


class _Passes:
    """Counts passes over a log."""

    def __init__(self) -> None:
        self._more = asyncio.Event()

    def on_seen(self, seen: Seen) -> None:
        self._more.set()

    def on_failure(self) -> None:
        raise AssertionError("the follower has failed")

    async def one_more(self) -> None:
        self._more.clear()
        await asyncio.wait_for(self._more.wait(), 10)


async def all_is_read(alias: str = "default") -> None:
    """Wait until passes have read all that was written so far."""
    passes = _Passes()
    current_hub().tap(alias, passes)
    # The first may have begun before.
    await passes.one_more()
    current_hub().tap(alias, passes)
    await passes.one_more()
    while await written(store.has_notes, alias):
        await passes.one_more()
    current_hub().untap(alias, passes)


async def runs_settle(alias: str = "default") -> None:
    """Wait until all that was written so far has been read, and the runs it leads to are over."""
    await all_is_read(alias)
    await asyncio.gather(*(group.settle() for group in groups()))
    while due := [group for group in groups() if group.is_due or group.checks]:
        await asyncio.gather(*(group.settle() for group in due))


def groups() -> Iterable[Any]:
    return list(current_watch_hub()._groups.values())


class Runs:
    """How often watched actions have run again since this was made, for no client's frame."""

    def __init__(self) -> None:
        self._before = figures.watch_runs.value

    @property
    def count(self) -> int:
        return figures.watch_runs.value - self._before
