"""
The identity of a keyed frame: hashes of its user, its stream, its key, and what it asks for.

A stored reply is found by the first three, never by anything that the client chooses alone. The
fourth tells a repeated frame from another one that has the key by mistake.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.db import models, router
from rest_framework.exceptions import NotAuthenticated, ValidationError
from rest_framework.request import Request

from rest_channels.protocol import IDEMPOTENCY_KEY, MISSING, Frame
from rest_channels.sockets.reply_store import Entry, schema_of
from rest_channels.sockets.request import Call

_MAX_KEY_CHARS: Final = 128

#: Part of every hash: a change of what is hashed is a change of this.
_FORMAT: Final = 1

#: Lookups whose text is the same in every process.
_PLAIN: Final = (str, int, float, Decimal, UUID, date, time, timedelta)


def entry_of(identity: list[Any], stream: tuple[str, ...], key: str, asked: list[Any]) -> Entry:
    """Return hashes of these, which come from the functions below."""
    return Entry(
        key=_hash(["key", identity, stream, key]),
        owner=_hash(["owner", identity]),
        request=_hash(["request", asked]),
    )


def refused(detail: str, code: str = "invalid") -> ValidationError:
    """Return an error about the key of a frame."""
    return ValidationError({IDEMPOTENCY_KEY: [detail]}, code=code)


def valid_key(frame: Frame) -> str:
    """Return the key of `frame`. Raises `ValidationError` if it is not valid."""
    value = frame.rest.get(IDEMPOTENCY_KEY)
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_KEY_CHARS:
        raise refused(f"Must be a string of 1 to {_MAX_KEY_CHARS} characters.")
    return value


def identity_of(user: Any) -> list[Any]:
    """
    Return texts that name `user`, and no other in its tables.

    Raises `NotAuthenticated` for a stranger.
    """
    pk = getattr(user, "pk", None)
    if pk is None or not user.is_authenticated:
        raise NotAuthenticated(
            "An 'idempotency_key' requires a user: sign in, or send the frame without it."
        )
    kind = user.__class__
    if isinstance(user, models.Model):
        # A proxy's rows are those of the model behind it.
        kind = user._meta.concrete_model
    return [kind.__module__, kind.__qualname__, type(pk).__name__, str(pk)]


def home_of(user: Any, alias: str) -> list[list[str]]:
    """
    Return texts that name the databases and schemas of `user` and of `alias` at the moment.

    Each tenant of a project may have one, with users of its own.
    """
    aliases = {alias}
    if isinstance(user, models.Model):
        # Not the database that the user was read from, which may be any replica.
        aliases.add(router.db_for_write(user._meta.concrete_model))
    return [[name, *schema_of(name)] for name in sorted(aliases)]


def _hash(value: Any) -> str:
    # JSON, so that no two lists of texts have the same text.
    text = json.dumps([_FORMAT, value], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def asked_of(view: Any, request: Request, frame: Frame) -> list[Any]:
    """
    Return what the frame asks for, for JSON: everything that a repetition must repeat.

    Not the host or the handshake's query: a client may repeat the frame at another server, with
    another ticket.
    """
    message = request._request
    return [
        view.action,
        request.method,
        _lookups(message.call),
        sorted(message.frame.query.items()),
        None if frame.data is MISSING else [frame.data],
        # The reply's form. Credentials may be renewed meanwhile.
        [frame.headers.get("accept"), frame.headers.get("accept-language")],
        [getattr(request, "accepted_media_type", None), _text(getattr(request, "version", None))],
    ]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _lookups(call: Call) -> Any:
    if all(isinstance(value, _PLAIN) for value in call.kwargs.values()):
        return [[n, type(v).__name__, str(v)] for n, v in sorted(call.kwargs.items())]
    # A converter of the project's makes objects of any type.
    return call.path
