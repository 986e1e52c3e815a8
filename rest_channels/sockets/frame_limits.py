"""
Frames longer than `MAX_FRAME_BYTES`: those that subscribe and name many rows.

    frame = LongFrame(text, depth=1, max_bytes=65536)
    frame.outline                                 -> {"action": "subscribe", "held": [0]}
    frame.without(frame.outline, HELD_KEYS, ...)  -> the frame, and its `held`

Only lists of keys may be long, so everything else is measured before it is decoded. Decoding 640 KB
of nested lists or numbers would hold up the event loop for a tenth of a second, and it does not
release the interpreter lock for another thread. Patterns find the lists within a few milliseconds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from rest_channels.contrib.dcrf.hosting import HostedStream
from rest_channels.exceptions import FrameError, FrameTooLong
from rest_channels.live.topics import HELD_KEYS
from rest_channels.observing.reports import FrameReport
from rest_channels.protocol import Frame, byte_length, decode
from rest_channels.settings import socket_settings
from rest_channels.sockets.streams import Stream

#: The bytes of a key in a list: a UUID in quotes with comma and space is 40, text of 60 bytes 64.
BYTES_PER_KEY: Final = 64

# For a message that is too long only because MAX_FRAME_BYTES is small; its ids are still read.
_MOST_OUTLINE_BYTES: Final = 4096

# A fraction of a microsecond each. Lists of flat lists or objects take a few.
_MOST_STEPS: Final = 20_000


def _repeated(body: str, times: str = "*") -> str:
    """
    Return a pattern of `body`, repeated and possessive.

    Each character is then examined once or twice, whatever a client sends. In Python before 3.11.5
    the quantifier of a group does not go back to where a repetition failed (CPython's issue
    106052); an atomic group does, and takes more memory.
    """
    return rf"(?:{body}){times}+" if sys.version_info >= (3, 11, 5) else rf"(?>(?:{body}){times})"


_PLAIN: Final = r'[^"\[\]{}]*+'
_ESCAPED: Final = r'\\.[^"\\]*+'
_SHORT_ESCAPED: Final = r'\\.[^"\\]{0,512}+'
_REST_OF_STRING: Final = rf'[^"\\]*+{_repeated(_ESCAPED)}"'
_SHORT_STRING: Final = rf'"[^"\\]{{0,512}}+{_repeated(_SHORT_ESCAPED, "{0,64}")}"'
_STRING_AND_PLAIN: Final = rf'"{_REST_OF_STRING}{_PLAIN}'
_FLAT: Final = rf"{_PLAIN}{_repeated(_STRING_AND_PLAIN)}"
_FLAT_LIST_OR_OBJECT: Final = rf"(?:\[{_FLAT}\]|\{{{_FLAT}\}})"

# Up to the next bracket, or the next string that is too long to be an action or a name.
_NEXT: Final = re.compile(rf'{_PLAIN}{_repeated(_SHORT_STRING + _PLAIN)}(["\[\]{{}}])', re.S)
# The same, within an omitted part: past strings of any length, and lists and objects of these.
_NEXT_INNER: Final = re.compile(
    rf"{_FLAT}{_repeated(_FLAT_LIST_OR_OBJECT + _FLAT)}([\[\]{{}}])", re.S
)
_END_OF_STRING: Final = re.compile(_REST_OF_STRING, re.S)


class LongFrame:
    """
    One long message.

    Its `outline` is the message down to `depth` nested objects; `[0]`, `[1]`, ... replace deeper
    lists, objects and long strings.

    Raises `FrameTooLong` if the outline is still longer than `max_bytes` and 4 KiB, or cannot be
    read.
    """

    def __init__(self, text: str, *, depth: int, max_bytes: int) -> None:
        self._text = text
        self._spans = list(_spans(text, depth))
        outline = _with_others(text, ((s, f"[{i}]") for i, s in enumerate(self._spans)))
        if byte_length(outline) > max(max_bytes, _MOST_OUTLINE_BYTES):
            raise FrameTooLong
        try:
            self.outline = decode(outline, max_depth=depth + 1)
        except FrameError:
            raise FrameTooLong from None

    def without(
        self,
        payload: Mapping[str, Any],
        keys: Iterable[str],
        *,
        max_bytes: int,
        max_depth: int,
        max_items: int,
    ) -> tuple[Any, dict[str, Any]]:
        """
        Return the message with null for those `keys` that `payload` has, and their values.

        `payload` belongs to the outline. Only lists of at most `max_items` keys or ranges are
        removed.

        Raises `FrameTooLong` if the rest has more than `max_bytes`, `FrameError` if it is not JSON.
        """
        named = {k: self._spans[payload[k][0]] for k in keys if isinstance(payload.get(k), list)}
        is_list = _list_of(max_items)
        spans = {k: span for k, span in named.items() if is_list.fullmatch(self._text, *span)}
        cut = sum(byte_length(self._text[slice(*span)]) for span in spans.values())
        if byte_length(self._text) - cut > max_bytes:
            raise FrameTooLong
        rest = _with_others(self._text, sorted((span, "null") for span in spans.values()))
        return decode(rest, max_depth=max_depth), {
            key: decode(self._text[slice(*span)], max_depth=2) for key, span in spans.items()
        }


def _spans(text: str, depth: int) -> Iterator[tuple[int, int]]:
    """Find the lists and objects within `depth` others, and long strings that are not deeper."""
    level = start = position = 0
    for _ in range(_MOST_STEPS):
        found = (_NEXT if level <= depth else _NEXT_INNER).match(text, position)
        if found is None:
            return
        position = found.end()
        if found[1] == '"':
            end = _END_OF_STRING.match(text, position)
            if end is None:
                raise FrameTooLong
            yield position - 1, end.end()
            position = end.end()
        elif found[1] in "[{":
            start = position - 1 if level == depth else start
            level += 1
        else:
            level -= 1
            if level == depth:
                yield start, position
    raise FrameTooLong


def _with_others(text: str, others: Iterable[tuple[tuple[int, int], str]]) -> str:
    """Return `text` with replacements for its spans, which come in order."""
    parts, position = [], 0
    for (start, end), other in others:
        parts += [text[position:start], other]
        position = end
    return "".join([*parts, text[position:]])


@lru_cache(8)
def _list_of(max_items: int) -> re.Pattern[str]:
    """
    Return a pattern of lists of at most `max_items` strings, short scalars, or short lists.

    It bounds the work of decoding them; a later check decides whether they are keys or ranges.
    """
    scalar = rf'"{_REST_OF_STRING}|[-+.\w]{{1,{BYTES_PER_KEY}}}+'
    item = rf"(?:{scalar}|\[[^\[\]{{}}]{{0,{4 * BYTES_PER_KEY}}}+\])"
    more = _repeated(rf"\s*+,\s*+{item}", f"{{0,{max(max_items - 1, 0)}}}")
    return re.compile(rf"\[\s*+(?:{item}{more})?\s*+\]", re.S)


AnyStream = Stream | HostedStream
#: Returns the stream that a decoded message is for, or None, and the payload.
Addressed = Callable[[Any], tuple[AnyStream | None, Any]]


@dataclass(frozen=True, slots=True)
class LongMessage:
    """
    The legible part of a long message to `stream`: the `payload` or an `error` that was `asked`.
    """

    stream: AnyStream | None
    asked: Frame | FrameError
    payload: Any = None
    error: FrameError | None = None


def longest_message() -> int:
    """
    Return how many bytes a message may have: a list of as many keys as a subscription has rows.
    """
    listed = BYTES_PER_KEY * socket_settings.MAX_SUBSCRIPTION_ROWS
    return max(socket_settings.MAX_FRAME_BYTES, listed)


def read_long(text: str, *, depth: int, addressed: Addressed) -> LongMessage:
    """Read a long message, whose payload is an object within `depth - 1` others."""
    try:
        long = LongFrame(text, depth=depth, max_bytes=socket_settings.MAX_FRAME_BYTES)
    except FrameTooLong as error:
        return LongMessage(None, error, error=error)
    stream, outline = addressed(long.outline)
    asked = _read_ids(outline)
    try:
        payload = _read_payload(long, stream, outline, addressed)
    except FrameError as error:
        error.action, error.request_id = asked.action, asked.request_id
        return LongMessage(stream, asked, error=error)
    return LongMessage(stream, asked, payload)


def _read_payload(
    long: LongFrame, stream: AnyStream | None, outline: Any, addressed: Addressed
) -> Any:
    if stream is None or not stream.may_subscribe(outline):
        raise FrameTooLong
    rest, held = long.without(
        outline,
        HELD_KEYS,
        max_bytes=socket_settings.MAX_FRAME_BYTES,
        max_depth=socket_settings.MAX_FRAME_DEPTH,
        max_items=socket_settings.MAX_SUBSCRIPTION_ROWS,
    )
    _, payload = addressed(rest)
    return {**payload, **held}


def _read_ids(payload: Any) -> Frame | FrameError:
    """
    Return a payload's `action` and `request_id` as far as they are valid, whatever the rest is.
    """
    known = payload if isinstance(payload, dict) else {}
    ids = {key: known.get(key) for key in ("action", "request_id")}
    try:
        return Frame.from_payload(ids, max_request_id_chars=socket_settings.MAX_REQUEST_ID_CHARS)
    except FrameError as error:
        return error


def read_frame(
    payload: Any, stream: AnyStream | None = None, report: FrameReport | None = None
) -> Frame:
    """
    Return the frame in `payload`, addressed to `stream`. Raises `FrameError`.

    `report` is what observers will learn about it.
    """
    max_chars = socket_settings.MAX_REQUEST_ID_CHARS
    if stream is not None:
        return stream.read(payload, max_chars, report)
    return Frame.from_payload(payload, max_request_id_chars=max_chars)
