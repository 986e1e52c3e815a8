"""
Positions in the log, and the tokens that clients receive for them.

A client's token is `<position>.<seal>`. The position part is the same for all subscribers, so that
they can share the text of an event; the seal binds it to a user and topic, and is computed once for
each subscription. Clients can forge neither without the key: the position part holds the random
mark of a change, which only the database knows, and hides the change's number, because the number
would reveal how much is written.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from functools import lru_cache
from typing import Final, NamedTuple

from django.conf import settings
from django.utils.crypto import salted_hmac

_MASK: Final = (1 << 64) - 1

# 128 bits cannot be guessed.
_SEAL_BYTES: Final = 16


class Position(NamedTuple):
    """A place in the log or in a room's history: the number of what is there, its random mark."""

    number: int
    mark: int


def encode(place: Position) -> str:
    """Return the part of a position's token that all subscribers share."""
    return _encoded(place, settings.SECRET_KEY)


def seal(user: str, topic: str) -> str:
    """Return the part of a token that binds it to one user and topic."""
    digest = salted_hmac("rest_channels.position", f"{len(user)}:{user}{topic}", algorithm="sha256")
    return _text(digest.digest()[:_SEAL_BYTES])


def numbered(token: str, number: int) -> str:
    """Return `token` for one of several messages with the same position."""
    return f"{token}.{number}"


def number_of(token: object, expected_seal: str) -> str:
    """
    Return the number that `numbered` gave a token; empty if the seal is of another user or topic.
    """
    if not isinstance(token, str):
        return ""
    _, _, rest = token.partition(".")
    given_seal, _, number = rest.partition(".")
    return number if hmac.compare_digest(given_seal.encode(), expected_seal.encode()) else ""


def decode(token: object, expected_seal: str) -> Position | None:
    """Return the position that `token` names; None if it is invalid or of another user or topic."""
    if not isinstance(token, str):
        return None
    encoded, _, rest = token.partition(".")
    given_seal, dot, of_several = rest.partition(".")
    if dot and not (of_several.isascii() and of_several.isdigit()):
        return None
    if not hmac.compare_digest(given_seal.encode(), expected_seal.encode()):
        return None
    try:
        content = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        return None
    if len(content) != 16 or _text(content) != encoded:
        return None
    mark = int.from_bytes(content[:8], "big")
    number = (int.from_bytes(content[8:], "big") ^ _blind(mark, settings.SECRET_KEY)) & _MASK
    return Position(number, mark)


# Every subscriber receives each position.
@lru_cache(1024)
def _encoded(place: Position, secret_key: str | bytes) -> str:
    hidden = (place.number ^ _blind(place.mark, secret_key)) & _MASK
    return _text(place.mark.to_bytes(8, "big") + hidden.to_bytes(8, "big"))


def _blind(mark: int, secret_key: str | bytes) -> int:
    key = secret_key.encode() if isinstance(secret_key, str) else secret_key
    key = hashlib.blake2b(key, person=b"rest_ch position").digest()
    digest = hashlib.blake2b(mark.to_bytes(8, "big"), key=key, digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
