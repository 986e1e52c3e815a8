"""
Tokens that name an answer, so that a client can say which answer it has.

A token is `<answer>.<seal>`. The part for the answer is equal for equal answers, in every process;
the seal binds it to a user and an action, as in the tokens of positions. Without the key nobody can
tell from a token what an answer contains.
"""

from __future__ import annotations

import base64
import hmac

from django.utils.crypto import salted_hmac

# 128 bits cannot be guessed.
_BYTES = 16


def token_of(data: str) -> str:
    """Return the part of a token that names the answer `data`, JSON text."""
    digest = salted_hmac("rest_channels.watch", data, algorithm="sha256").digest()
    return base64.urlsafe_b64encode(digest[:_BYTES]).rstrip(b"=").decode()


def sealed(token: str, seal: str) -> str:
    """Return the token for one user and action; `seal` is made by `positions.seal`."""
    return f"{token}.{seal}"


def is_same(given: object, expected: str) -> bool:
    """Return whether a client's token is `expected`."""
    return isinstance(given, str) and hmac.compare_digest(given.encode(), expected.encode())
