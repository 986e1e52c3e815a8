"""Channel layers that fail, hang, or tell what they are asked to send."""

from __future__ import annotations

import asyncio
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
    """Cancels whoever calls it."""

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
