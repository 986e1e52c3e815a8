"""
JSON of long lists, encoded in batches, so that other threads run in between.

DRF's encoder is C code that keeps the interpreter lock until it has written all it was given: of
5,000 rows, for 8 ms. The lock is only handed over between two calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from rest_framework.renderers import JSONRenderer
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.utils.serializer_helpers import ReturnList

#: Rows at a time: a fifth of a millisecond, which costs no more than all rows at once.
ROWS_AT_A_TIME: Final = 100


@contextmanager
def in_batches(response: Any) -> Iterator[None]:
    """Let `response` be rendered in batches meanwhile, if DRF writes a long list as JSON."""
    renderer = getattr(response, "accepted_renderer", None)
    if not (_is_plain(renderer) and _is_long(response.data)):
        yield
        return
    response.accepted_renderer = _Batching()
    try:
        yield
    finally:
        response.accepted_renderer = renderer


def _is_plain(renderer: Any) -> bool:
    """Return whether it is DRF's own, with DRF's own encoder."""
    is_own = type(renderer) is JSONRenderer and not vars(renderer)
    return is_own and renderer.encoder_class is JSONEncoder


def _is_long(data: Any) -> bool:
    return type(data) in (list, ReturnList) and len(data) > ROWS_AT_A_TIME


class _Batching(JSONRenderer):
    """DRF's renderer, called for a part of a list at a time. The text is the same."""

    def render(self, data: Any, *args: Any) -> bytes:
        """Return the list `data` as JSON."""
        # The texts before, between and after items.
        start, between, end = super().render([0, 0], *args).split(b"0")
        batches = (
            super(_Batching, self).render(data[first : first + ROWS_AT_A_TIME], *args)
            for first in range(0, len(data), ROWS_AT_A_TIME)
        )
        items = [batch.removeprefix(start).removesuffix(end) for batch in batches]
        text: bytes = start + between.join(items) + end
        return text
