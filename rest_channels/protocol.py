"""
The wire: text to `Frame`, `Reply` to text. It imports neither Django nor asyncio.

    decode('{"action": "list", "request_id": 1}', max_depth=32)      -> dict
    Frame.from_payload({"action": "list", "request_id": 1})          -> Frame
    Reply(200, data='[1, 2]', action="list", request_id=1).encode()  -> '{"errors": [], ...}'

`docs/protocol.md` is the contract.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

from rest_channels.exceptions import FrameError
from rest_channels.observing.reports import FrameReport

SUBPROTOCOL: Final = "rest-channels"

#: Request headers that a frame may set. All others keep the values of the handshake.
FRAME_HEADERS: Final = frozenset(
    {"authorization", "accept", "accept-language", "traceparent", "tracestate", "x-request-id"}
)

#: Those that say which request a frame belongs to, for traces and logs. Answers do not depend on
#: them.
TRACE_HEADERS: Final = frozenset({"traceparent", "tracestate", "x-request-id"})

#: Top-level keys with a meaning of their own; any other key may be a lookup or a query key.
PAYLOAD_KEYS: Final = frozenset(
    {"action", "request_id", "data", "query", "headers", "method", "fence"}
)

#: The top-level key by which a client may repeat a write safely. A viewset's lookup of the same
#: name takes precedence.
IDEMPOTENCY_KEY: Final = "idempotency_key"


class CloseCode(enum.IntEnum):
    """The reason why the server closed a socket; `docs/protocol.md` says when to reconnect."""

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

# JSON can contain a lone surrogate, but neither UTF-8 nor PostgreSQL accepts it as text.
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Frame:
    """
    One decoded client message.

    `query` maps names to lists of strings, as a query string does. `rest` holds the top-level keys
    without a meaning of their own: a viewset picks the lookups it declares from them and ignores
    the others. `hints` are sentences about keys that are probably misspelt, for the reply. A frame
    that `is_long` exceeds the usual limit, see `rest_channels.sockets.frame_limits`. `action` is
    None only for messages to class-based consumers that have none. The reply to a frame with
    `fence` comes after the events of what its action has committed.
    """

    action: str | None
    request_id: str | int | None = None
    data: Any = MISSING
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str | None = None
    rest: Mapping[str, Any] = field(default_factory=dict)
    hints: tuple[str, ...] = ()
    is_long: bool = False
    fence: bool = False
    #: For observers; None if there are none.
    report: FrameReport | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_payload(
        cls,
        payload: Any,
        *,
        max_request_id_chars: int = 128,
        own_keys: AbstractSet[str] = frozenset(),
        report: FrameReport | None = None,
    ) -> Frame:
        """
        Check the type of every key. Raises `FrameError`, with the keys that the reply echoes.

        `own_keys` are names that the viewset declares for itself: `fence` is one of its lookups or
        filters then.
        """
        if not isinstance(payload, dict):
            raise FrameError("A frame must be a JSON object.")
        request_id = read_request_id(payload, max_request_id_chars)
        action = read_action(payload)
        keys = PAYLOAD_KEYS - (own_keys & {"fence"})
        try:
            return cls(
                action=action,
                request_id=request_id,
                data=payload.get("data", MISSING),
                query=_query(payload.get("query", {})),
                headers=_headers(payload.get("headers", {})),
                method=_method(payload.get("method")),
                rest={key: payload[key] for key in payload.keys() - keys},
                fence="fence" in keys and _fence(payload.get("fence", False)),
                report=report,
            )
        except FrameError as error:
            error.action, error.request_id = action, request_id
            raise


def read_request_id(payload: Mapping[str, Any], max_chars: int) -> str | int | None:
    """Return the `request_id` of a payload, if it has one. Raises `FrameError`."""
    request_id = payload.get("request_id")
    if not _is_request_id(request_id, max_chars):
        raise FrameError(
            f"'request_id' must be a string of at most {max_chars} characters, an integer or null.",
            action=_readable(payload.get("action")),
        )
    return cast("str | int | None", request_id)


def read_action(payload: Mapping[str, Any]) -> str:
    """Return the `action` of a payload. Raises `FrameError`, also if it has none."""
    action = payload.get("action")
    if not isinstance(action, str) or not action or len(action) > MAX_ACTION_CHARS:
        raise FrameError(
            f"'action' is required: a string of 1 to {MAX_ACTION_CHARS} characters.",
            request_id=payload.get("request_id"),
        )
    return action


#: Longer than any Python identifier in practice, and short enough to echo.
MAX_ACTION_CHARS: Final = 128


def decode(text: str, *, max_depth: int) -> Any:
    """
    Read strict JSON: no NaN or infinities, no duplicate keys, no lone surrogates.

    Arrays and objects nest at most `max_depth` levels. Raises `FrameError`.
    """
    try:
        value = _strict_json.decode(text)
    except FrameError:
        raise
    except RecursionError:
        raise FrameError(_too_deep(max_depth)) from None
    except ValueError:
        # Also for integers of more digits than sys.get_int_max_str_digits().
        raise FrameError("A frame must be valid JSON.") from None
    # At least that many have to open: few frames are examined level by level.
    if text.count("{") + text.count("[") > max_depth and _depth_exceeds(value, max_depth):
        raise FrameError(_too_deep(max_depth))
    if _SURROGATE_ESCAPE.search(text) and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise FrameError("A frame must be valid Unicode: it contains half of a surrogate pair.")
    return value


@dataclass(slots=True)
class Reply:
    """
    The answer to one frame.

    `data`, `errors` and `codes` are JSON text, as DRF's renderer wrote it. `headers` are the
    response's headers, without those that every response has.
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
    #: The id of an error in the log, for observers; the client reads it in the text.
    error_id: str | None = None

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
        """
        Return a refusal that no view made, addressed to a frame or to what could be read of it.
        """
        errors, codes = json.dumps([detail]), json.dumps([code])
        reply = cls(status, errors=errors, codes=codes, headers=headers)
        if to is not None:
            reply.action, reply.request_id = to.action, to.request_id
        return reply

    @classmethod
    def refusal(cls, error: FrameError) -> Reply:
        """Return the answer to a message that is not a frame."""
        reply = cls.error(error.status, error.detail, error.code, to=error)
        if error.key is not None:
            reply.errors = json.dumps([{error.key: [error.detail]}])
            reply.codes = json.dumps([{error.key: [error.code]}])
        return reply

    @classmethod
    def pong(cls, frame: Frame, time: datetime) -> Reply:
        """Return the answer to a `ping`."""
        data = json.dumps({"time": time.isoformat()})
        return cls(200, data=data, action=frame.action, request_id=frame.request_id)

    def encode(self, stream: str | Missing | None = MISSING) -> str:
        """
        Return the text to send, within `{"stream": ..., "payload": ...}` if a stream is given.
        """
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
    A pushed message of a subscription, without the part that differs between subscribers.

    `data`, `errors` and `codes` are JSON text, and so is `after`: the row in front, empty if the
    message does not say.
    """

    action: str
    status: int
    data: str = "null"
    errors: str = "[]"
    after: str = ""
    codes: str | None = None

    @classmethod
    def alive(cls) -> str:
        """Return a payload that says only that the connection is alive."""
        return f"{cls('alive', 200).shared}null}}"

    @property
    def shared(self) -> str:
        """The text that all subscribers get; `address` completes it for one of them."""
        ending = self.ending(self.action, self.status)
        place = f', "after": {self.after}' if self.after else ""
        codes = "" if self.codes is None else f', "codes": {self.codes}'
        return f'{{"errors": {self.errors}, "data": {self.data}{codes}{place}{ending}'

    @staticmethod
    def ending(action: str, status: int) -> str:
        """Return the end of `shared`, the same for all events of a kind."""
        return f', "action": "{action}", "response_status": {status}, "request_id": '

    @staticmethod
    def address(request_id: str, position: str, previous: str) -> str:
        """Return the rest of the text; `request_id` is JSON text."""
        return f'{request_id}, "position": "{position}", "previous": "{previous}"}}'


def in_envelope(payload: str, stream: str | Missing | None) -> str:
    """Return `payload`, which is JSON text, in an envelope if `stream` is given."""
    if stream is MISSING:
        return payload
    return f'{{"stream": {_scalar(stream)}, "payload": {payload}}}'


def _scalar(value: str | int | Missing | None) -> str:
    # As json.dumps does, but that makes an encoder for each number.
    if type(value) is int:
        return str(value)
    return json.dumps(value)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise FrameError("A frame must not repeat a key within one object.")
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
    return f"A frame must not nest more than {max_depth} arrays and objects."


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
        raise FrameError("'query' must be an object of scalars or lists of scalars.")
    return {name: query_values(item) for name, item in value.items()}


def query_values(value: Any) -> list[str]:
    """Return what one key of `query` would be in a query string. Raises `FrameError`."""
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
    raise FrameError("'query' must be an object of scalars or lists of scalars.")


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise FrameError("'headers' must be an object of strings.")
    headers = {}
    for name, content in value.items():
        if not isinstance(content, str):
            raise FrameError("'headers' must be an object of strings.")
        if (lowered := name.lower()) in FRAME_HEADERS:
            headers[lowered] = header_value(content)
    return headers


def header_value(content: str) -> str:
    """Return `content` if it is valid in a header. Raises `FrameError`."""
    # RFC 9110, section 5.5: visible characters, spaces and tabs; DRF reads them as Latin-1.
    if any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in content):
        raise FrameError("A header's value must not contain control characters.")
    if any(ord(char) > 255 for char in content):
        raise FrameError("A header's value must be Latin-1.")
    return content


def _method(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.isascii() or not value.isalpha() or len(value) > 16:
        raise FrameError("'method' must be the name of an HTTP method.")
    return value.lower()


def _fence(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FrameError("Must be true or false.", code="invalid", key="fence")
    return value


def byte_length(text: str) -> int:
    """Return the length of `text` in UTF-8, without encoding plain ASCII."""
    return len(text) if text.isascii() else len(text.encode())
