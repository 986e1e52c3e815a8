"""The choice of the library that maps serializers: drf-spectacular if it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from rest_channels.schema.operations import Operations
from rest_channels.sockets.streams import Stream


def operations_of(streams: Sequence[Stream], *, public: bool, request: Any) -> Operations:
    """Return the operations of `streams`; see `spectacular_operations`."""
    if find_spec("drf_spectacular") is None:
        raise ImproperlyConfigured(
            "Install drf-spectacular: pip install django-rest-channels[schema]"
        )
    module = import_module("rest_channels.schema.spectacular_operations")
    operations: Operations = module.spectacular_operations(streams, public=public, request=request)
    return operations
