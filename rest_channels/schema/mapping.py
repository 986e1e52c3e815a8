"""The choice of the library that maps serializers: drf-spectacular if it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from rest_channels.schema.operations import Operations
from rest_channels.schema.plain_operations import plain_operations
from rest_channels.sockets.streams import Stream


def operations_of(
    streams: Sequence[Stream], serializers: Sequence[type], *, public: bool, request: Any
) -> Operations:
    """Return the operations of `streams`, and the `serializers`; see `spectacular_operations`."""
    if not has_spectacular():
        return plain_operations(streams, serializers, public=public, request=request)
    module = import_module("rest_channels.schema.spectacular_operations")
    operations: Operations = module.spectacular_operations(
        streams, serializers, public=public, request=request
    )
    return operations


def has_spectacular() -> bool:
    """Return whether drf-spectacular is installed."""
    return find_spec("drf_spectacular") is not None
