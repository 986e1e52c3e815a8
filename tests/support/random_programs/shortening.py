"""Shortening a random program that fails."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.random_programs.world_kind import Step


def shortened(program: list[Step], fails: Callable[[list[Step]], bool], tries: int) -> list[Step]:
    """A shorter program that fails as well: less of its end, then without single steps."""
    for length in range(1, len(program)):
        tries -= 1
        if fails(program[:length]):
            program = program[:length]
            break
    position = len(program) - 1
    while position >= 0 and tries > 0:
        tries -= 1
        without = program[:position] + program[position + 1 :]
        if fails(without):
            program = without
        position -= 1
    return program
