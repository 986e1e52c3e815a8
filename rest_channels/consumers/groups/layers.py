"""Channels' layer for consumers: names, messages and JSON."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from channels.layers import get_channel_layer
from django.core.exceptions import ImproperlyConfigured
from rest_framework.settings import api_settings
from rest_framework.utils.encoders import JSONEncoder

from rest_channels.bus.channel_layer import bounded
from rest_channels.exceptions import ConsumerError

logger = logging.getLogger("rest_channels")

#: The type of a message for the handlers of a channel.
MESSAGE: Final = "rest_channels.message"
# The separator of a process's channel and a socket's id. No layer allows it in names.
_OF_SOCKET = "#"

# Names that every layer accepts: Channels' own rule, without the "!" of channels that belong to a
# process.
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,99}")
_HASHED = re.compile(r"\.[0-9a-f]{40}\Z")


def require_channel_name(name: Any, owner: str) -> None:
    """Raise ImproperlyConfigured if `owner` has a name that a layer would not accept."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ImproperlyConfigured(
            f"{owner} has the channel_name {name!r}: a channel's name must be 1 to 99 ASCII "
            "letters, digits, hyphens, underscores and periods."
        )


def message(text: str, kwargs: Mapping[str, Any], reply_to: str | None) -> dict[str, Any]:
    """
    Return a message for the layer: JSON text, because layers differ in the values they accept.
    """
    return {
        "type": MESSAGE,
        "content": text,
        "kwargs": to_json(kwargs),
        "reply_channel": reply_to,
    }


def safe_name(name: str) -> str:
    """
    Return `name` in a form that every layer accepts; different names stay different.

    That form is at most 99 ASCII letters, digits, hyphens, underscores and periods.
    """
    if _NAME.fullmatch(name) and not _HASHED.search(name):
        return name
    # A name that looks hashed is hashed as well, so that no name can equal another's hashed form.
    readable = re.sub(r"[^a-zA-Z0-9_.-]", "-", name[:50])
    return f"{readable}.{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def group_on_layer(group: str) -> str:
    """Return the layer's group for `group`, apart from groups of the project's other code."""
    return safe_name(f"rest_channels.group.{group}")


def is_address(name: str) -> bool:
    """Return whether `name` is the address of a socket."""
    return _OF_SOCKET in name


def parse_address(address: str) -> tuple[str, str]:
    """Return the channel of the socket's process, and the socket's id there."""
    process_channel, _, socket_id = address.partition(_OF_SOCKET)
    return process_channel, socket_id


def socket_address(process_channel: str, socket_id: str) -> str:
    """Return the address of a socket of the process that receives from `process_channel`."""
    return f"{process_channel}{_OF_SOCKET}{socket_id}"


async def send_to_layer(channel: str, message: dict[str, Any]) -> None:
    """Send `message`. Raises `ConsumerError` with status 503 if the layer fails or is too slow."""
    layer = get_channel_layer()
    if layer is None:
        raise ImproperlyConfigured("Internal channels need a channel layer: set CHANNEL_LAYERS.")
    try:
        await bounded(layer.send(channel, message))
    except (TypeError, ValueError):
        raise  # A wrong name or message: the caller's mistake.
    except Exception as exc:
        # Each layer has its own exceptions for a full channel and for a lost connection.
        logger.warning("The channel layer did not take a message for %r.", channel, exc_info=True)
        raise ConsumerError("Too busy, try again later.", status=503, code="unavailable") from exc


def to_json(content: Any) -> str:
    """Return JSON text as DRF's renderer writes it: dates, decimals and lazy strings; never NaN."""
    return json.dumps(
        content,
        cls=JSONEncoder,
        ensure_ascii=not api_settings.UNICODE_JSON,
        allow_nan=False,
        separators=(",", ":") if api_settings.COMPACT_JSON else None,
    )
