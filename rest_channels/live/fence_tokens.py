"""
Tokens by which a client asks on a socket for the events of what it wrote over HTTP.

A token says when it was made, and nothing else. A fence that begins once the client has the token
covers everything that was committed before the response, on every database: whichever process wrote
it, the next pass of the follower reads it.
"""

from __future__ import annotations

from typing import Final

from django.core.signing import BadSignature, TimestampSigner

from rest_channels.settings import socket_settings

#: The response header that carries a token.
HEADER: Final = "Rest-Channels-Fence"

_SALT: Final = "rest_channels.fence"


def make_token() -> str:
    """Return a token of now: printable ASCII, some 70 characters."""
    token: str = TimestampSigner(salt=_SALT).sign("1")
    return token


def is_valid(token: str) -> bool:
    """Return whether `token` was made by this project, at most `RETENTION_SECONDS` ago."""
    try:
        TimestampSigner(salt=_SALT).unsign(token, max_age=socket_settings.RETENTION_SECONDS)
    except BadSignature:
        return False
    return True
