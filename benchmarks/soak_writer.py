"""
Writes for `benchmarks.soak`: to the database itself, and over sockets.

`python -m benchmarks.soak_writer PORT WRITES_PER_SECOND`, in the environment of `benchmarks.site`,
takes the commands `begin`, `stats` and `end`, one per line, and answers each with a JSON object.

Each text begins with the number of its write and the time: `#17# 1764385200.123`. Numbers only
grow, so a client that sees a smaller one than before has seen a row go back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import benchmarks.site  # noqa: F401

# isort: split
from django.db import Error, connection, transaction

from benchmarks.commands import answer_commands
from benchmarks.messages.models import Message
from benchmarks.site import ROWS
from rest_channels.client import ClientError, connect

#: Writes over sockets a second, beside those to the database.
OVER_SOCKETS = 2.0

#: Rows that the writer has created, before each new one replaces the oldest.
MOST_OWN = 300

AUTHORS = 19


class DatabaseWriter(threading.Thread):
    """A thread that writes as other programs do: one row, many rows, SQL, transactions."""

    def __init__(self, per_second: float) -> None:
        super().__init__(daemon=True)
        self.writes = 0
        self._seconds = 1 / per_second
        self._numbers = itertools.count(1)
        self._own: deque[int] = deque()
        self._is_over = threading.Event()
        self._ways: list[Callable[[], object]] = [
            *[self._save] * 5,
            *[self._create] * 2,
            self._update_some,
            self._update_by_sql,
            self._move,
            self._roll_back,
        ]

    def run(self) -> None:
        while not self._is_over.wait(random.expovariate(1 / self._seconds)):
            # PostgreSQL restarts now and then.
            with contextlib.suppress(Error):
                random.choice(self._ways)()
                self.writes += 1
            if connection.errors_occurred or not connection.is_usable():
                connection.close()

    def end(self) -> None:
        self._is_over.set()
        self.join()

    def _text(self) -> str:
        return f"#{next(self._numbers)}# {time.time():.3f}"

    def _some(self) -> int:
        return random.randint(1, ROWS)

    def _save(self) -> None:
        row = Message.objects.get(pk=self._some())
        row.text = self._text()
        row.save()

    def _create(self) -> None:
        if len(self._own) >= MOST_OWN:
            Message.objects.filter(pk=self._own.popleft()).delete()
        author = random.randint(1, AUTHORS)
        self._own.append(Message.objects.create(author_id=author, text=self._text()).pk)

    def _update_some(self) -> None:
        rows = Message.objects.filter(author=random.randint(1, AUTHORS), pk__lte=ROWS)
        rows.update(score=random.randint(0, 9))

    def _update_by_sql(self) -> None:
        with connection.cursor() as cursor:
            first = self._some()
            cursor.execute(
                "UPDATE messages_message SET text = %s WHERE id BETWEEN %s AND %s",
                [self._text(), first, first + 4],
            )

    def _move(self) -> None:
        author = random.randint(1, AUTHORS)
        Message.objects.filter(pk=self._some()).update(author=author, text=self._text())

    def _roll_back(self) -> None:
        with transaction.atomic():
            Message.objects.filter(pk=self._some()).update(text="never committed")
            transaction.set_rollback(True)


class SocketWriter:
    """Messages created over a socket, each of which happens once."""

    def __init__(self, port: int) -> None:
        self.writes = 0
        self.faults: list[str] = []
        self._acknowledged: list[str] = []
        self._port = port
        self._creating: set[asyncio.Task[None]] = set()
        self._pacing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._pacing = asyncio.create_task(self._pace())

    async def end(self) -> None:
        """Stop, wait for the replies that are missing, and compare with the database."""
        assert self._pacing is not None
        self._pacing.cancel()
        await asyncio.wait([self._pacing])
        self.faults += await asyncio.to_thread(self._wrong)

    async def _pace(self) -> None:
        headers = {"authorization": "Named soak-0"}
        async with connect(f"ws://127.0.0.1:{self._port}/", headers=headers) as api:
            try:
                for number in itertools.count(1):
                    await asyncio.sleep(1 / OVER_SOCKETS)
                    creating = asyncio.create_task(self._create(api, f"over a socket {number}"))
                    self._creating.add(creating)
                    creating.add_done_callback(self._creating.discard)
            finally:
                if self._creating:
                    await asyncio.wait(self._creating)

    async def _create(self, api: Any, text: str) -> None:
        author = random.randint(1, AUTHORS)
        # After an error, nobody knows whether it has happened.
        with contextlib.suppress(ClientError):
            await api.messages.create({"author": author, "text": text})
            self._acknowledged.append(text)
            self.writes += 1

    def _wrong(self) -> list[str]:
        made = Counter(
            Message.objects.filter(text__startswith="over").values_list("text", flat=True)
        )
        twice = [text for text, count in made.items() if count > 1]
        lost = [text for text in self._acknowledged if text not in made]
        faults = [f"Happened more than once: {text}" for text in twice]
        return faults + [f"Acknowledged, but absent: {text}" for text in lost]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("per_second", type=float)
    options = parser.parse_args()
    writers = DatabaseWriter(options.per_second), SocketWriter(options.port)
    to_database, over_sockets = writers

    async def begin() -> dict[str, Any]:
        to_database.start()
        over_sockets.begin()
        return {}

    async def stats() -> dict[str, Any]:
        return {"writes": sum(writer.writes for writer in writers)}

    async def end() -> dict[str, Any]:
        await asyncio.to_thread(to_database.end)
        await over_sockets.end()
        return {"faults": over_sockets.faults}

    await answer_commands({"begin": begin, "stats": stats, "end": end})


if __name__ == "__main__":
    asyncio.run(main())
