"""
Making up random programs: who writes, subscribes, leaves, comes back, and when.

A program is a list of steps, data and nothing else, so that a failing one can be made shorter.
Numbers in it choose among what is there when the step comes.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.support.random_programs.random_writes import several
from tests.support.random_programs.world_kind import USERS, Kind, Step
from tests.support.stepped_processes import MOMENTS


class Generator:
    """Makes up programs of one kind of world."""

    def __init__(self, kind: Kind, rng: random.Random) -> None:
        self.kind = kind
        self.rng = rng

    def program(self) -> list[Step]:
        """A program, with something to begin with."""
        rng = self.rng
        start = ("write", [("transaction", self.kind.start(rng), True)])
        first = self._opening()
        _, process, _, *topic = first
        # Often another client beside, which may receive the same.
        alike = ("open", process, rng.choice(USERS), *topic)
        program = [start, first, alike if rng.random() < 0.5 else self._opening()]
        return program + [self.kind.step(rng) or self._step() for _ in range(rng.randrange(3, 9))]

    def _opening(self) -> Step:
        rng = self.rng
        mode = rng.choice(["snapshot", "snapshot", "snapshot", "changes"])
        return ("open", rng.randrange(2), rng.choice(USERS), *self.kind.topic(rng), mode)

    def _step(self) -> Step:
        rng = self.rng
        number = rng.randrange(100)
        mode = rng.choice(["held", "held", "held", "blind", "snapshot"])
        resume = (rng.randrange(10), rng.randrange(2), mode)
        weighed: list[tuple[int, Callable[[], Step]]] = [
            (24, lambda: ("write", self._writes())),
            (14, lambda: ("look", rng.randrange(2))),
            (14, lambda: ("look_while", rng.randrange(2), self._meanwhile(), self._writes())),
            (8, self._opening),
            (4, lambda: ("open_while", self._meanwhile(), *self._opening()[1:])),
            (11, lambda: ("cut", rng.randrange(10), rng.randrange(10))),
            (9, lambda: ("resume", *resume)),
            (4, lambda: ("resume_while", self._meanwhile(), *resume)),
            (4, lambda: ("again", rng.randrange(10), mode)),
            (2, lambda: ("unsubscribe", rng.randrange(10))),
            (4, lambda: ("tick", rng.choice([3, 6]))),
            (2, lambda: ("prune",)),
        ]
        for weight, make in weighed:
            if number < weight:
                return make()
            number -= weight
        raise AssertionError("weights make a hundred")

    def _writes(self) -> list[Step]:
        return several(self.rng, self.kind.write)

    def _meanwhile(self) -> Step:
        """
        A moment of a pass, and what is written then: often what was seen is hidden, and new.
        Another process may sequence it at once.
        """
        writes = self._writes()
        if self.rng.random() < 0.6:
            writes = self.kind.hiding(self.rng)
        return self.rng.choice(MOMENTS), writes, self.rng.random() < 0.5
