"""Messages of the server, and the text of frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from rest_channels.protocol import MISSING

Key = str | int


@dataclass(frozen=True, slots=True)
class Incoming:
    """
    A reply or an event, with the keys of docs/protocol.md.

    `after` is `MISSING` if the event says nothing about the place of its row.
    """

    stream: str | None
    action: str | None
    status: int
    request_id: Any
    data: Any
    errors: list[Any]
    codes: list[Any]
    headers: Mapping[str, str]
    position: str | None
    previous: str | None
    resumed: bool
    after: Any
    fenced: bool | None
    replayed: bool

    @property
    def retry_after(self) -> float:
        """The seconds that `Retry-After` asks to wait, or 0."""
        try:
            return float(self.headers.get("Retry-After", 0))
        except ValueError:
            return 0.0


def decode(text: str | bytes) -> Incoming:
    """Read a message. Raises `ValueError` if no server of this protocol would send it."""
    message = json.loads(text)
    payload = message.get("payload") if isinstance(message, dict) else None
    if not isinstance(payload, dict) or not isinstance(payload.get("response_status"), int):
        raise ValueError("The message is not a reply.")
    return Incoming(
        stream=message.get("stream"),
        action=payload.get("action"),
        status=payload["response_status"],
        request_id=payload.get("request_id"),
        data=payload.get("data"),
        errors=payload.get("errors") or [],
        codes=payload.get("codes") or [],
        headers=payload.get("headers") or {},
        position=payload.get("position"),
        previous=payload.get("previous"),
        resumed=bool(payload.get("resumed")),
        after=payload.get("after", MISSING),
        fenced=payload.get("fenced"),
        replayed=bool(payload.get("replayed")),
    )


def encode(stream: str | None, payload: Mapping[str, Any]) -> str:
    """
    Return the text of a frame, without the keys whose value is `MISSING`.

    Dates, times, decimals and UUIDs become texts, as REST framework writes them. Raises `TypeError`
    for other values that JSON does not have, and `ValueError` for NaN and infinities.
    """
    known = {name: value for name, value in payload.items() if value is not MISSING}
    message = {"payload": known} if stream is None else {"stream": stream, "payload": known}
    text = _encode(message)
    # Half of a surrogate pair has no UTF-8; escaped, the server can refuse it by name.
    return text if _is_unicode(text) else json.dumps(json.loads(text))


def _text(value: Any) -> str:
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    raise TypeError(f"JSON has no {type(value).__name__}: {value!r}. Pass a text or a number.")


_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_text
).encode


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def identity(parts: Any) -> str:
    """Return a text that is equal for equal values, whatever the order of their keys."""
    return json.dumps(parts, sort_keys=True, default=_text)
