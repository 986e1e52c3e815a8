"""The values that each setting may have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.utils.module_loading import import_string

from rest_channels.settings import DEFAULTS, IMPORT_STRINGS
from rest_channels.sockets.connection import Connection

# Bounds that count things and must be at least 1.
_COUNTS = {
    "WORKER_THREADS",
    "MAX_THREADS_PER_USER",
    "MAX_FRAME_BYTES",
    "MAX_FRAME_DEPTH",
    "MAX_REQUEST_ID_CHARS",
    "MAX_IN_FLIGHT",
    "MAX_QUEUE_BYTES",
    "MAX_SUBSCRIPTIONS",
    "MAX_SUBSCRIPTION_ROWS",
    "MAX_SUBSCRIBED_BYTES",
    "MAX_STORED_REPLIES",
    "MAX_STORED_REPLY_BYTES",
    "MAX_WATCHES",
    "MAX_WATCH_BYTES",
    "MAX_CONNECTIONS_PER_USER",
    "MAX_CONNECTIONS_PER_ADDRESS",
    "FRAME_BURST",
    "SUBSCRIBE_BURST",
    "HANDSHAKE_BURST",
}
_NUMBERS = {
    "FRAME_RATE",
    "SUBSCRIBE_RATE",
    "HANDSHAKE_RATE",
    "LEASE_SECONDS",
    "PUBLISH_SECONDS",
    "POLL_SECONDS",
    "PRESENCE_SECONDS",
    "SYNC_SECONDS",
    "FENCE_SECONDS",
    "RETENTION_SECONDS",
    "WATCH_SECONDS",
    "MAX_WATCH_SECONDS",
}

# Bounds that None switches off, besides settings whose default it is.
_OPTIONAL = {
    "SUBSCRIBE_RATE",
    "HANDSHAKE_RATE",
    "MAX_CONNECTIONS_PER_USER",
    "MAX_CONNECTIONS_PER_ADDRESS",
}

# Integers; 0 disables them.
_EXTRAS = {"SLOW_TRACKS"}

# 0 disables them.
_PAUSES = {"CONNECTION_SECONDS", "SHUTDOWN_SECONDS", "STATS_SECONDS"}
_SWITCHES = {"ACCESS_LOG", "THREAD_SENSITIVE", "REFUSE_HANDSHAKES", "SHORT_CUTS"}


# Origins are compared as text: they have no path and no capitals.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/*A-Z]+")


def invalid_reason(name: str, value: Any) -> str | None:
    """Return what is wrong with `value`; None if it is valid."""
    if value is None and (DEFAULTS[name] is None or name in _OPTIONAL):
        return None
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if name in _COUNTS and not (is_integer and value >= 1):
        return "it must be an integer of at least 1"
    if name in _EXTRAS and not (is_integer and value >= 0):
        return "it must be an integer of at least 0"
    if name in _NUMBERS and not ((is_integer or isinstance(value, float)) and value > 0):
        return "it must be a number above 0"
    if name in _PAUSES and not ((is_integer or isinstance(value, float)) and value >= 0):
        return "it must be a number of at least 0"
    if name in _SWITCHES and not isinstance(value, bool):
        return "it must be True or False"
    if name == "CAPTURE" and value not in (None, "auto", "signals", "triggers"):
        return "it must be 'auto', 'signals', 'triggers' or None"
    if name == "CAPTURE_MODELS":
        return _invalid_reason_of_models(value)
    if name == "ALLOWED_ORIGINS":
        return _invalid_reason_of_origins(value)
    if name == "PERMISSIONS":
        return _invalid_reason_of_permissions(value)
    if name in ("FRAME_CONTEXTS", "PASS_CONTEXTS"):
        return _invalid_reason_of_contexts(value)
    if name == "CONSOLE_ACCESS":
        return _invalid_reason_of_access(value)
    if name in IMPORT_STRINGS:
        return _invalid_reason_of_class(value)
    return None


def _invalid_reason_of_models(value: Any) -> str | None:
    if value == "__all__":
        return None
    if not isinstance(value, (list, tuple, set, frozenset)):
        return "it must be '__all__', or a list of 'app_label' and 'app_label.Model'"
    known = {config.label for config in apps.get_app_configs()}
    known |= {model._meta.label for model in apps.get_models(include_auto_created=True)}
    unknown = [repr(name) for name in value if name not in known]
    return f"there is no app or model {', '.join(unknown)}" if unknown else None


def _invalid_reason_of_contexts(value: Any) -> str | None:
    if not isinstance(value, (list, tuple)):
        return "it must be a list of context managers"
    for item in value:
        try:
            manager = import_string(item) if isinstance(item, str) else item
        except ImportError as exc:
            return f"it must be a dotted path to a context manager ({exc})"
        if not callable(manager):
            return f"{item!r} must be callable and return a context manager"
    return None


def _invalid_reason_of_access(value: Any) -> str | None:
    try:
        access = import_string(value) if isinstance(value, str) else value
    except ImportError as exc:
        return f"it must be a dotted path to a permission class or a function ({exc})"
    return None if callable(access) else "it must be a permission class or a function"


def _invalid_reason_of_class(value: Any) -> str | None:
    if isinstance(value, str):
        try:
            value = import_string(value)
        except ImportError as exc:
            return f"it must be a dotted path to a class ({exc})"
    if not (isinstance(value, type) and issubclass(value, Connection)):
        return "it must be a subclass of rest_channels.sockets.connection.Connection"
    return None


def _invalid_reason_of_permissions(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "it must be a dictionary of names to lists of permissions"
    wrong = [
        problem
        for name, permissions in value.items()
        for problem in _invalid_reason_of_permission_list(name, permissions)
    ]
    return "; ".join(wrong) or None


def _invalid_reason_of_permission_list(name: Any, permissions: Any) -> Iterator[str]:
    if not isinstance(permissions, (list, tuple)):
        yield f"{name!r} must be a list of permissions"
        return
    for item in permissions:
        try:
            if not callable(import_string(item) if isinstance(item, str) else item):
                yield f"{item!r} of {name!r} must be a permission class or callable"
        except ImportError as exc:
            yield f"{item!r} of {name!r} cannot be imported ({exc})"


def _invalid_reason_of_origins(value: Any) -> str | None:
    if not isinstance(value, (list, tuple, set, frozenset)):
        return "it must be a list of origins"
    wrong = [
        origin for origin in value if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin)
    ]
    if wrong:
        return (
            "an origin must be written as browsers send it, such as 'https://app.example.com' (no "
            f"path, no '*', no capitals), unlike {', '.join(map(repr, wrong))}"
        )
    return None
