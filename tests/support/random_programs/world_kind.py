"""
Kinds of worlds for random programs: what is shown, who may see it, who writes, what surrounds it.

`Kind.visible` says who may see what without Django REST framework, `Kind.streams` with it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from channels.routing import URLRouter

from tests.support.random_programs.clients import Client

IS_POSTGRESQL = os.environ.get("TEST_DATABASE") == "postgresql"

USERS = ["ann", "ben", "cal"]

Step = tuple[Any, ...]


@dataclass(frozen=True)
class Subject:
    """The subject of a subscription: a stream, filtered, or one of its rows."""

    stream: str
    query: tuple[tuple[str, str], ...] = ()
    row: Any = None


@dataclass(frozen=True)
class Stream:
    """
    A viewset, and `see`, the rows of a world that a user may see of it, by the `key` that clients
    know them by; None where all is refused.
    """

    viewset: type
    see: Callable[[Any, str], dict[Any, Any] | None]
    key: str = "id"
    #: Whether one may subscribe to one of its rows.
    has_rows: bool = True
    #: Whether subscriptions are answered 400 `cannot_subscribe`.
    is_refused: bool = False


class Kind:
    """One kind of world. Its methods are called in the thread that writes, or with no database."""

    name: ClassVar[str]
    streams: ClassVar[Mapping[str, Stream]]
    #: Performs the writes; see `tests.support.random_programs.random_writes`.
    writer: ClassVar[type]
    #: Whether a row may not be found yet, or not be allowed, where a frame asks for it.
    is_lagging: ClassVar[bool] = False

    def __repr__(self) -> str:
        return f"<world: {self.name}>"

    @cached_property
    def application(self) -> URLRouter:
        """All of its streams over sockets."""
        routes = ((n, s.viewset.as_routes(n, n)) for n, s in self.streams.items())  # type: ignore[attr-defined]
        return URLRouter([route for _, found in routes for route in found])

    # Its rows

    def read(self) -> Any:
        """The world as it is now."""
        raise NotImplementedError

    def forget(self) -> None:
        """Empty the world, unseen by anybody."""
        raise NotImplementedError

    def visible(self, world: Any, user: str, subject: Subject) -> dict[Any, Any] | None:
        """The rows that `user` may see, as they look; None where all is refused."""
        seen = self.streams[subject.stream].see(world, user)
        if seen is None or subject.row is None:
            return seen
        return {name: row for name, row in seen.items() if name == subject.row}

    def names(self, world: Any, stream: str) -> list[Any]:
        """The names of rows of `stream` for clients, whether they see them or not."""
        seen = (self.streams[stream].see(world, user) or {} for user in USERS)
        return sorted({name for rows in seen for name in rows})

    # Its steps

    def client(self, user: str, subject: Subject) -> Client:
        """A client of `user` that subscribes to `subject`."""
        return Client(user, subject, self.streams[subject.stream])

    def step(self, rng: random.Random) -> Step | None:
        """A step that only this kind of world has; None most of the time."""
        return None

    def topic(self, rng: random.Random) -> Step:
        """A stream, what it is filtered by, and the number of one of its rows or None."""
        stream = rng.choice([*self.streams])
        is_row = self.streams[stream].has_rows and rng.random() < 0.25
        return stream, (), rng.randrange(10) if is_row else None

    def start(self, rng: random.Random) -> list[Step]:
        """Writes to begin with."""
        raise NotImplementedError

    def write(self, rng: random.Random) -> Step:
        """Any write."""
        raise NotImplementedError

    def hiding(self, rng: random.Random) -> list[Step]:
        """Writes after which something is not seen any more, and something is new."""
        return [self.write(rng), self.write(rng)]

    # Its surroundings

    @contextmanager
    def prepared(self, capture: str) -> Iterator[None]:
        """For all programs of a test; in the test's thread, before others begin."""
        yield

    @contextmanager
    def around(self, shared: Any) -> Iterator[None]:
        """For one program, whose processes are `shared`; in the test's thread."""
        yield

    def settle(self, shared: Any) -> None:
        """Before clients are compared with `list`; in the test's thread."""
