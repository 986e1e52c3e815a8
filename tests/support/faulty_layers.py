"""Channel layers that fail, hang, or tell what they are asked to send."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

from channels.layers import BaseChannelLayer


class QuietLayer(BaseChannelLayer):
    """Delivers nothing; keeps what it was asked for."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.joined: list[str] = []
        self.left: list[str] = []
        self.channels = 0
        self.has_sent = threading.Event()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self.send_somehow(message)
        self.sent.append(message["database"])
        self.has_sent.set()

    async def send_somehow(self, message: dict[str, Any]) -> None:
        pass

    async def new_channel(self, prefix: str = "specific") -> str:
        self.channels += 1
        return f"{prefix}!{self.channels}"

    async def group_add(self, group: str, channel: str) -> None:
        self.joined.append(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.left.append(channel)

    async def receive(self, channel: str) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError


class BrokenLayer(QuietLayer):
    """Redis is down."""

    async def send_somehow(self, message: dict[str, Any]) -> None:
        self.has_sent.set()
        raise ConnectionError("Nobody is there.")


class SelfishLayer(QuietLayer):
    """Cancels its caller."""

    async def send_somehow(self, message: dict[str, Any]) -> None:
        if not self.has_sent.is_set():
            self.has_sent.set()
            raise asyncio.CancelledError


class HangingLayer(QuietLayer):
    """Redis takes what it is sent, and never answers."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.has_begun, self.was_given_up = threading.Event(), threading.Event()

    async def send_somehow(self, message: dict[str, Any]) -> None:
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.was_given_up.set()


class BlockingLayer(QuietLayer):
    """Holds the thread that calls it, until `may_go_on`."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()

    async def send_somehow(self, message: dict[str, Any]) -> None:
        self.has_begun.set()
        assert self.may_go_on.wait(20)


class PrintingLayer(QuietLayer):
    """Prints what it is asked to send."""

    async def send_somehow(self, message: dict[str, Any]) -> None:
        print("rung", message["database"], flush=True)


class LateLayer(PrintingLayer):
    """Looks up a host by its name, as Redis's does, when the process has begun to end."""

    is_ending = False

    async def send_somehow(self, message: dict[str, Any]) -> None:
        while not self.is_ending:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.get_running_loop().getaddrinfo("localhost", 6379)
        await super().send_somehow(message)


class HeldLayer(QuietLayer):
    """
    Carries what it is given to its members, in other threads, when the test says so: `pass_on`.
    Each subclass has its fault in what it does with `held`.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.chance = random.Random(0)
        self.held: list[tuple[str, dict[str, Any]]] = []
        #: How often it was asked what arrives, and before which of these times it was sent to.
        self.asked = 0
        self.sent_before: set[int] = set()
        #: How much it was to deliver, and did.
        self.offered = self.delivered = 0
        self._ears: dict[str, tuple[Any, asyncio.Queue[dict[str, Any]]]] = {}

    async def send_somehow(self, message: dict[str, Any]) -> None:
        offered = [(channel, message) for channel in list(self._ears)]
        self.offered += len(offered)
        self.sent_before.add(self.asked)
        self.held += offered

    async def group_add(self, group: str, channel: str) -> None:
        self._ears.setdefault(channel, (asyncio.get_running_loop(), asyncio.Queue()))

    async def group_discard(self, group: str, channel: str) -> None:
        self._ears.pop(channel, None)

    async def receive(self, channel: str) -> dict[str, Any]:
        return await self._ears[channel][1].get()

    def pass_on(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what arrives now, in order: channels and messages. The rest is held, or lost."""
        self.asked += 1
        now, self.held = self.held, []
        # A channel that has left receives nothing more.
        return [one for one in now if one[0] in self._ears]

    def loop_of(self, channel: str) -> asyncio.AbstractEventLoop | None:
        """Return the queue that `channel` is received from; None if no one does any more."""
        return self._ears[channel][0] if channel in self._ears else None

    def deliver(self, channel: str, message: dict[str, Any]) -> None:
        """On the loop of `channel`."""
        self.delivered += 1
        self._ears[channel][1].put_nowait(message)


class DroppingLayer(HeldLayer):
    def pass_on(self) -> list[tuple[str, dict[str, Any]]]:
        return [one for one in super().pass_on() if self.chance.random() < 0.5]


class DoublingLayer(HeldLayer):
    def pass_on(self) -> list[tuple[str, dict[str, Any]]]:
        return [one for one in super().pass_on() for _ in range(2)]


class ReorderingLayer(HeldLayer):
    def pass_on(self) -> list[tuple[str, dict[str, Any]]]:
        return self.chance.sample(now := super().pass_on(), len(now))


class DelayingLayer(HeldLayer):
    def pass_on(self) -> list[tuple[str, dict[str, Any]]]:
        # Each for itself: one doorbell equals another.
        now = [(one, self.chance.random() < 0.7) for one in super().pass_on()]
        self.held = [one for one, is_late in now if is_late]
        return [one for one, is_late in now if not is_late]
