"""
Places in the log, and what clients are shown of them.

A client's token is `<place>.<seal>`. The place is the same for all subscribers, so that the text
of an event can be; the seal, of user and topic, is made once a subscription. Neither can be made
without the key: the place holds the random mark of an entry of the log, which only the database
knows, and hides its number, which would tell how much is written.
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

# 128 bits: nobody guesses one.
_SEAL_BYTES: Final = 16


class Place(NamedTuple):
    """A place in the log: the number of an entry, and its random mark."""

    number: int
    mark: int


def encode(place: Place) -> str:
    """The part of a token that all subscribers share."""
    return _encoded(place, settings.SECRET_KEY)


def seal(user: str, topic: str) -> str:
    """The part of a token that binds it to one user and topic."""
    digest = salted_hmac("rest_channels.position", f"{len(user)}:{user}{topic}", algorithm="sha256")
    return _text(digest.digest()[:_SEAL_BYTES])


def numbered(token: str, number: int) -> str:
    """`token` for one of several messages that may name the same place."""
    return f"{token}.{number}"


def number_of(token: object, expected_seal: str) -> str:
    """What `numbered` a token; empty where it is none of this user's and topic's."""
    if not isinstance(token, str):
        return ""
    _, _, rest = token.partition(".")
    given_seal, _, number = rest.partition(".")
    return number if hmac.compare_digest(given_seal.encode(), expected_seal.encode()) else ""


def decode(token: object, expected_seal: str) -> Place | None:
    """The place that `token` names; None where it is none of this user's and topic's."""
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
    return Place(number, mark)


# Each place is told to every subscriber.
@lru_cache(1024)
def _encoded(place: Place, secret_key: str | bytes) -> str:
    hidden = (place.number ^ _blind(place.mark, secret_key)) & _MASK
    return _text(place.mark.to_bytes(8, "big") + hidden.to_bytes(8, "big"))


def _blind(mark: int, secret_key: str | bytes) -> int:
    key = secret_key.encode() if isinstance(secret_key, str) else secret_key
    key = hashlib.blake2b(key, person=b"rest_ch position").digest()
    digest = hashlib.blake2b(mark.to_bytes(8, "big"), key=key, digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
