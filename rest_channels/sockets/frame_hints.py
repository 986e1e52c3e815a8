"""Find keys of a frame that are probably misspelt."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Final

# A client may send any number of keys of any length, and comparing one takes time.
_MAX_KEYS: Final = 4
_MAX_CHARS: Final = 32

# The share of letters in the same order: at 0.8, one letter of five may differ.
_CUTOFF: Final = 0.8


def hints(keys: Iterable[str], known: frozenset[str]) -> tuple[str, ...]:
    """Return a sentence for each of the first few of `keys` that resembles one of `known`."""
    unknown = islice((key for key in keys if key not in known), _MAX_KEYS)
    return tuple(
        f"{key!r} has no meaning here. Did you mean {meant!r}?"
        for key in unknown
        if len(key) <= _MAX_CHARS and (meant := _meant(key, known)) is not None
    )


@lru_cache(1024)
def _meant(key: str, known: frozenset[str]) -> str | None:
    plain = {_plain(name): name for name in sorted(known)}
    found = get_close_matches(_plain(key), plain, n=1, cutoff=_CUTOFF) or [
        name for name in plain if sorted(name) == sorted(_plain(key))
    ]
    return plain[found[0]] if found else None


def _plain(key: str) -> str:
    # requestId, Request-ID: spellings of other languages.
    return key.replace("_", "").replace("-", "").lower()
