"""
Worlds with a replica that lags: outside of passes the project's router reads from a database that
knows what it was last copied.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import router, transaction
from rest_framework.authtoken.models import Token

from tests.models import Ban, Club, Label, Note
from tests.support.random_programs.note_world import PlainNotes
from tests.support.random_programs.random_writes import NoteWriter
from tests.support.random_programs.world_kind import Step, Stream

REPLICA = "replica"

_COPIED: list[Any] = [
    *[User, Token, Session, Club, Club.members.through],
    *[Note, Label, Note.labels.through, Ban],
]


def copy() -> None:
    """Let the replica know what there is now."""
    with transaction.atomic(using=REPLICA):
        for model in reversed(_COPIED):
            model._base_manager.all()._raw_delete(REPLICA)
        for model in _COPIED:
            rows = list(model._base_manager.using("default").all())
            model._base_manager.using(REPLICA).bulk_create(rows)


class Spread:
    """Reads from the replica, but where the thread has written; writes where Django does."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "default" if threading.current_thread().name.startswith("writer") else REPLICA


class SpreadAndWritten(Spread):
    """The same, and says so."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


class ReplicaWriter(NoteWriter):
    def copy(self) -> None:
        copy()


class LaggingNotes(PlainNotes):
    """The plain world read from a replica by all but passes."""

    name = "lagging replica"
    writer = ReplicaWriter
    is_lagging = True
    router: ClassVar[type] = Spread
    # Handshakes ask for bans where the router says.
    streams: ClassVar[dict[str, Stream]] = {
        name: stream for name, stream in PlainNotes.streams.items() if name != "board"
    }

    @contextmanager
    def around(self, shared: Any) -> Iterator[None]:
        shared.write(self.forget)
        shared.write(copy)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(router, "routers", [self.router()])
            yield

    def settle(self, shared: Any) -> None:
        shared.write(copy)
        # Earlier readings of users no longer count.
        shared.clock.now += 60

    def start(self, rng: random.Random) -> list[Step]:
        return [*super().start(rng), ("copy",)]

    def write(self, rng: random.Random) -> Step:
        return ("copy",) if rng.random() < 0.1 else super().write(rng)


class SpokenNotes(LaggingNotes):
    """A router that says where is written, too."""

    name = "lagging replica, spoken"
    router = SpreadAndWritten
