"""
An estimate of the memory that a frame takes for as long as it is kept.

A subscription or a watch keeps its frame, because DRF answers it again and again. Values decoded
from JSON may take twenty times as much memory as their text.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from rest_channels.protocol import Frame

# Copies of the query string: in the topic, its name, requests, and parsed. Measured: 128 queries of
# 60,000 characters took 5.7 bytes a character.
_QUERY_COPIES: Final = 6


def kept_bytes(frame: Frame, query_string: str) -> int:
    """Return the bytes that `frame`, whose request has `query_string`, takes approximately."""
    total = _QUERY_COPIES * sys.getsizeof(query_string)
    waiting: list[Any] = [frame.data, frame.query, frame.headers, frame.rest]
    while waiting:
        value = waiting.pop()
        total += sys.getsizeof(value)
        if isinstance(value, dict):
            waiting += value.keys()
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
    return total
