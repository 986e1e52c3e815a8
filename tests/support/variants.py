"""Some variants of each parametrised test, for runs beside one that has them all."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable

import pytest


def beyond_variants(items: Iterable[pytest.Item], most: int, run: str) -> list[pytest.Item]:
    """
    Return the items that leave at most `most` variants of each test function.

    The names of the variants and of the `run` decide which, so that a run repeats its choice and
    another makes its own.
    """
    of_functions = defaultdict(list)
    for item in items:
        of_functions[item.nodeid.partition("[")[0]].append(item)
    beyond = []
    for variants in of_functions.values():
        variants.sort(key=lambda item: zlib.crc32(f"{run} {item.nodeid}".encode()))
        beyond += variants[most:]
    return beyond
