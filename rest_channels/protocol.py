"""
The wire: text to `Frame`, `Reply` to text. No Django, no loop; `docs/protocol.md` is the contract.

    decode('{"action": "list", "request_id": 1}', max_depth=32)      -> dict
    Frame.from_payload({"action": "list", "request_id": 1})          -> Frame
    Reply(200, data='[1, 2]', action="list", request_id=1).encode()  -> '{"errors": [], ...}'
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rest_channels.exceptions import FrameError

SUBPROTOCOL: Final = "rest-channels"

#: Request headers a frame may set. Others describe the handshake and stay what they were.
FRAME_HEADERS: Final = frozenset({"authorization", "accept", "accept-language"})

#: Top-level keys with a meaning of their own; every other key may be a lookup or a query key.
PAYLOAD_KEYS: Final = frozenset({"action", "request_id", "data", "query", "headers", "method"})


class CloseCode(enum.IntEnum):
    """Why the server closed a socket; `docs/protocol.md` says when to reconnect."""

    FRAME_TOO_LONG = 1009
    SERVER_ERROR = 1011
    SERVICE_RESTART = 1012
    CREDENTIALS_ENDED = 4401
    NOT_ALLOWED = 4403
    NO_SUCH_ROUTE = 4404
    TOO_SLOW = 4408
    FLOODING = 4429


class Missing(enum.Enum):
    """The value of a key that a frame did not have, where null means something else."""

    MISSING = enum.auto()

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing.MISSING

# A lone surrogate can be written in JSON but is no text: neither UTF-8 nor PostgreSQL take it.
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Frame:
    """
    One decoded client message.

    `query` maps names to lists of strings, as a query string does. `rest` holds the top-level
    keys without a meaning of their own: a viewset picks the lookups it declares from them and
    ignores the others. `action` is None only where class-based consumers are sent what has none.
    """

    action: str | None
    request_id: str | int | None = None
    data: Any = MISSING
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str | None = None
    rest: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_payload(cls, payload: Any, *, max_request_id_chars: int = 128) -> Frame:
        """Check every key's type. Raises `FrameError`, with what could be read for the reply."""
        if not isinstance(payload, dict):
            raise FrameError("A frame is a JSON object.")
        request_id = payload.get("request_id")
        if not _is_request_id(request_id, max_request_id_chars):
            raise FrameError(
                "'request_id' is a string of at most "
                f"{max_request_id_chars} characters, an integer or null.",
                action=_readable(payload.get("action")),
            )
        action = payload.get("action")
        if not isinstance(action, str) or not action or len(action) > MAX_ACTION_CHARS:
            raise FrameError(
                f"'action' is required, a string of 1 to {MAX_ACTION_CHARS} characters.",
                request_id=request_id,
            )
        try:
            return cls(
                action=action,
                request_id=request_id,
                data=payload.get("data", MISSING),
                query=_query(payload.get("query", {})),
                headers=_headers(payload.get("headers", {})),
                method=_method(payload.get("method")),
                rest={key: payload[key] for key in payload.keys() - PAYLOAD_KEYS},
            )
        except FrameError as error:
            error.action, error.request_id = action, request_id
            raise


#: Longer than any Python identifier met in practice; keeps replies to nonsense short.
MAX_ACTION_CHARS: Final = 128


def decode(text: str, *, max_depth: int) -> Any:
    """
    Read strict JSON: no NaN or infinities, no duplicate keys, no lone surrogates, at most
    `max_depth` arrays and objects within one another. Raises `FrameError`.
    """
    try:
        value = _strict_json.decode(text)
    except FrameError:
        raise
    except RecursionError:
        raise FrameError(_too_deep(max_depth)) from None
    except ValueError:
        # Includes integers of more digits than sys.get_int_max_str_digits().
        raise FrameError("A frame is valid JSON.") from None
    # As many as that have to open: few frames are looked at level by level.
    if text.count("{") + text.count("[") > max_depth and _depth_exceeds(value, max_depth):
        raise FrameError(_too_deep(max_depth))
    if _SURROGATE_ESCAPE.search(text) and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise FrameError("A frame is valid Unicode: it holds half of a surrogate pair.")
    return value


@dataclass(slots=True)
class Reply:
    """
    The answer to one frame. `data`, `errors` and `codes` are JSON text already, as DRF's
    renderer wrote it; `headers` what is worth telling of the response's headers.
    """

    status: int
    data: str = "null"
    errors: str = "[]"
    codes: str | None = None
    headers: Mapping[str, str] | None = None
    action: str | None = None
    request_id: str | int | None = None
    #: Keys of the payload beside those of every reply, as JSON text: a subscription's `position`.
    extra: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def error(
        cls,
        status: int,
        detail: str,
        code: str,
        *,
        to: Frame | FrameError | Reply | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """A refusal that no view made, addressed to the frame, or to what was read of it."""
        errors, codes = json.dumps([detail]), json.dumps([code])
        reply = cls(status, errors=errors, codes=codes, headers=headers)
        if to is not None:
            reply.action, reply.request_id = to.action, to.request_id
        return reply

    @classmethod
    def refusal(cls, error: FrameError) -> Reply:
        """The answer to a message that is no frame."""
        return cls.error(error.status, error.detail, error.code, to=error)

    def encode(self, stream: str | Missing | None = MISSING) -> str:
        """The text to send; within `{"stream": ..., "payload": ...}` where a stream is given."""
        extra = ""
        if self.codes is not None:
            extra += f', "codes": {self.codes}'
        if self.headers:
            extra += f', "headers": {json.dumps(dict(self.headers))}'
        for key, text in self.extra.items():
            extra += f', "{key}": {text}'
        payload = (
            f'{{"errors": {self.errors}, "data": {self.data}, '
            f'"action": {_scalar(self.action)}, "response_status": {self.status}, '
            f'"request_id": {_scalar(self.request_id)}{extra}}}'
        )
        return in_envelope(payload, stream)


@dataclass(frozen=True, slots=True)
class Event:
    """
    A pushed message of a subscription, up to where it differs between subscribers.

    `data` is JSON text, `errors` too.
    """

    action: str
    status: int
    data: str = "null"
    errors: str = "[]"

    @property
    def shared(self) -> str:
        """The text that all subscribers get; `address` makes it one's own."""
        ending = self.ending(self.action, self.status)
        return f'{{"errors": {self.errors}, "data": {self.data}{ending}'

    @staticmethod
    def ending(action: str, status: int) -> str:
        """What `shared` ends with: the same for all events of a kind."""
        return f', "action": "{action}", "response_status": {status}, "request_id": '

    @staticmethod
    def address(request_id: str, position: str, previous: str) -> str:
        """The rest of the text; `request_id` is JSON text."""
        return f'{request_id}, "position": "{position}", "previous": "{previous}"}}'


def in_envelope(payload: str, stream: str | Missing | None) -> str:
    """`payload`, JSON text, as it goes over a socket of many streams, or of one: as it is."""
    if stream is MISSING:
        return payload
    return f'{{"stream": {_scalar(stream)}, "payload": {payload}}}'


def _scalar(value: str | int | Missing | None) -> str:
    # What json.dumps gives, which would make an encoder for each number.
    if type(value) is int:
        return str(value)
    return json.dumps(value)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise FrameError("A frame names no key twice in one object.")
    return result


def _refuse_constant(name: str) -> Any:
    raise FrameError("NaN and infinities are not JSON.")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise FrameError("A number is too large.")
    return value


# Made once: `json.loads` with hooks would make one for each frame.
_strict_json: Final = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite
)


def _depth_exceeds(value: Any, max_depth: int) -> bool:
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        if depth > max_depth:
            return True
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return False


def _too_deep(max_depth: int) -> str:
    return f"A frame nests at most {max_depth} arrays and objects."


def _is_request_id(value: Any, max_chars: int) -> bool:
    if isinstance(value, str):
        return len(value) <= max_chars
    if isinstance(value, int) and not isinstance(value, bool):
        return value.bit_length() <= max_chars * 3
    return value is None


def _readable(action: Any) -> str | None:
    return action if isinstance(action, str) and len(action) <= MAX_ACTION_CHARS else None


def _query(value: Any) -> dict[str, list[str]]:
    if not isinstance(value, dict):
        raise FrameError("'query' is an object of scalars or lists of scalars.")
    return {name: query_values(item) for name, item in value.items()}


def query_values(value: Any) -> list[str]:
    """What one key of `query` would be in a query string. Raises `FrameError`."""
    items = value if isinstance(value, list) else [value]
    return [_query_value(item) for item in items]


def _query_value(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
    raise FrameError("'query' is an object of scalars or lists of scalars.")


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise FrameError("'headers' is an object of strings.")
    headers = {}
    for name, content in value.items():
        if not isinstance(content, str):
            raise FrameError("'headers' is an object of strings.")
        if (lowered := name.lower()) in FRAME_HEADERS:
            headers[lowered] = header_value(content)
    return headers


def header_value(content: str) -> str:
    """`content` as it may stand in a header. Raises `FrameError`."""
    # RFC 9110, section 5.5: visible characters, spaces and tabs; DRF reads them as Latin-1.
    if any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in content):
        raise FrameError("A header's value has no control characters.")
    if any(ord(char) > 255 for char in content):
        raise FrameError("A header's value is Latin-1.")
    return content


def _method(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.isascii() or not value.isalpha() or len(value) > 16:
        raise FrameError("'method' is the name of an HTTP method.")
    return value.lower()


def byte_length(text: str) -> int:
    """The length of `text` in UTF-8, without encoding what is plain ASCII."""
    return len(text) if text.isascii() else len(text.encode())
