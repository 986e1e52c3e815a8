"""
Clients for `benchmarks.soak`, which come and go, and at the end compare what they hold.

`python -m benchmarks.soak_clients PORT CLIENTS` takes the commands `begin`, `stats` and `settle
SECONDS`, one per line, and answers each with a JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import time
from abc import ABC, abstractmethod
from typing import Any

from benchmarks.commands import answer_commands
from rest_channels.client import Api, ClientError, LiveRows, Put, Reset, Watched, connect

AUTHORS = 19
USERS = 10
WINDOW = 50

#: A client leaves after this many seconds on average, and stays away for at most the second number.
STAYS, STAYS_AWAY = 120.0, 15.0

#: The beginning of a text, as `benchmarks.soak_writer` writes it.
TEXT = re.compile(r"#(\d+)# ([\d.]+)")


class Heard:
    """Events that all clients have seen since they were asked last."""

    def __init__(self) -> None:
        self.events = 0
        self.seconds: list[float] = []
        self.faults: list[str] = []

    def figures(self) -> dict[str, Any]:
        seconds, self.seconds = self.seconds, []
        return {
            "events": self.events,
            "median": statistics.median(seconds) if seconds else None,
            "longest": max(seconds, default=None),
        }


class SoakClient(ABC):
    """One connection with one subscription."""

    def __init__(self, port: int, number: int, heard: Heard) -> None:
        self.author = 1 + number % AUTHORS
        self._url = f"ws://127.0.0.1:{port}/"
        self._headers = {"authorization": f"Named soak-{number % USERS}"}
        self._heard = heard
        self._api: Api | None = None
        self._following: asyncio.Task[None] | None = None
        self._coming_and_going: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._arrive()
        self._coming_and_going = asyncio.create_task(self._come_and_go())

    def stay(self) -> None:
        """Do not leave any more; come back if it is away."""
        assert self._coming_and_going is not None
        self._coming_and_going.cancel()
        if self._api is None:
            self._arrive()

    async def holds_what_a_request_returns(self) -> bool:
        assert self._api is not None
        try:
            async with asyncio.timeout(10):
                return self.held() == await self.fresh(self._api)
        except (ClientError, TimeoutError):
            return False

    @abstractmethod
    def held(self) -> Any:
        """Return what the client has."""

    @abstractmethod
    async def fresh(self, api: Any) -> Any:
        """Return what it should have, by a request."""

    @abstractmethod
    async def follow(self, api: Any) -> None:
        """Subscribe, and note what arrives, until cancelled."""

    @property
    def state(self) -> str:
        assert self._api is not None
        return f"{self._api.state}"

    def note(self, text: str, before: int) -> int:
        """Note an event of a row with this text; return the number of its write."""
        self._heard.events += 1
        number, written = number_and_time(text)
        if number > before and written:
            self._heard.seconds.append(time.time() - written)
        elif number < before:
            self._heard.faults.append(f"A row went back from write {before} to {number}.")
        return number

    def _arrive(self) -> None:
        self._api = connect(self._url, headers=self._headers)
        self._following = asyncio.create_task(self.follow(self._api))

    async def _leave(self) -> None:
        assert self._api is not None and self._following is not None
        self._following.cancel()
        await asyncio.wait([self._following])
        if not self._following.cancelled():
            self._following.result()
        api, self._api = self._api, None
        api.close()
        await api.wait_closed()

    async def _come_and_go(self) -> None:
        while True:
            await asyncio.sleep(random.expovariate(1 / STAYS))
            await self._leave()
            await asyncio.sleep(random.uniform(0, STAYS_AWAY))
            self._arrive()


class ListClient(SoakClient):
    """It follows all messages of an author."""

    rows: LiveRows[Any]
    window: int | None = None

    @property
    def query(self) -> dict[str, Any]:
        return {"author": self.author}

    def held(self) -> Any:
        return [*self.rows.rows]

    async def fresh(self, api: Any) -> Any:
        return (await api.messages.list(self.query))[: self.window]

    async def follow(self, api: Any) -> None:
        numbers: dict[Any, int] = {}
        self.rows = api.messages.live(query=self.query, window=self.window)
        async for change in self.rows:
            if isinstance(change, Reset):
                for row in change.rows:
                    numbers[row["id"]] = self.note(row["text"], numbers.get(row["id"], 0))
            elif isinstance(change, Put):
                numbers[change.key] = self.note(change.row["text"], numbers.get(change.key, 0))


class WindowClient(ListClient):
    """It follows the newest messages of everybody."""

    window = WINDOW

    @property
    def query(self) -> dict[str, Any]:
        return {"ordering": "-id"}


class WatchClient(SoakClient):
    """It watches the totals of an author."""

    totals: Watched[Any]

    def held(self) -> Any:
        # There is no answer to look at before the first one.
        return self.totals.data if self.totals.status in ("live", "stale") else None

    async def fresh(self, api: Any) -> Any:
        return await api.messages.totals(query={"author": self.author})

    async def follow(self, api: Any) -> None:
        self.totals = api.messages.watch("totals", query={"author": self.author})
        await asyncio.Event().wait()


#: The kinds of each dozen clients.
KINDS = [*[ListClient] * 8, *[WindowClient] * 3, WatchClient]


def number_and_time(text: str) -> tuple[int, float]:
    """Return the number and the time of a write; zeros for a text from before."""
    found = TEXT.match(text)
    return (int(found[1]), float(found[2])) if found else (0, 0.0)


async def settled(clients: list[SoakClient], seconds: float) -> list[str]:
    """Wait until each client holds what it should, `seconds` at most; describe the others."""
    until = time.monotonic() + seconds
    wrong = clients
    while True:
        found = await asyncio.gather(*(c.holds_what_a_request_returns() for c in wrong))
        wrong = [client for client, is_right in zip(wrong, found, strict=True) if not is_right]
        if not wrong or time.monotonic() > until:
            return [f"{type(c).__name__} of author {c.author}: {c.state}" for c in wrong]
        await asyncio.sleep(1)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("clients", type=int)
    options = parser.parse_args()
    heard = Heard()
    clients = [
        KINDS[number % len(KINDS)](options.port, number, heard) for number in range(options.clients)
    ]

    async def begin() -> dict[str, Any]:
        for client in clients:
            client.begin()
        return {}

    async def stats() -> dict[str, Any]:
        return heard.figures()

    async def settle(seconds: str) -> dict[str, Any]:
        for client in clients:
            client.stay()
        wrong = await settled(clients, float(seconds))
        return {"faults": heard.faults + wrong}

    await answer_commands({"begin": begin, "stats": stats, "settle": settle})


if __name__ == "__main__":
    asyncio.run(main())
