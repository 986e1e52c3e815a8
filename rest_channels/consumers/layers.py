"""
What goes over Channels' layer: names, messages, JSON, and a bound on the time it takes.
"""

from __future__ import annotations

import asyncio
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

from rest_channels.exceptions import ConsumerError

logger = logging.getLogger("rest_channels")

#: The type of a message for the handlers of a channel.
MESSAGE: Final = "rest_channels.message"
#: The type of a message that carries text for a socket of the process that receives it.
SOCKET_TEXT: Final = "rest_channels.socket_text"

#: The type of a message that carries texts for a group's members in the process that receives it.
GROUP_TEXTS: Final = "rest_channels.group_texts"
#: The type of a message that carries a text that may be lost, likewise.
GROUP_OFFER: Final = "rest_channels.group_offer"
#: The type of a message that says who is in a group, by way of the sending process.
GROUP_PRESENCE: Final = "rest_channels.group_presence"
#: The type of a message that says that something was said in a room with a history.
GROUP_NEWS: Final = "rest_channels.group_news"
#: The type of a message that lets a socket there join a group, or leave it.
GROUP_MEMBERSHIP: Final = "rest_channels.group_membership"

# A layer that hangs must not hang its callers: Redis that stops answering keeps a connection open.
SECONDS_TO_PUBLISH: Final = 2

# What stands between the channel of a process and a socket there. No layer has it in its names.
_OF_SOCKET = "#"

# What every layer takes: Channels' own rule, without the "!" of channels that belong to a process.
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,99}")
_HASHED = re.compile(r"\.[0-9a-f]{40}\Z")


def require_channel_name(name: Any, owner: str) -> None:
    """Raises ImproperlyConfigured where `owner` gives a name that no layer would take."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ImproperlyConfigured(
            f"{owner} has the channel_name {name!r}: a channel's name is 1 to 99 ASCII letters, "
            "digits, hyphens, underscores and periods."
        )


def message(text: str, kwargs: Mapping[str, Any], reply_to: str | None) -> dict[str, Any]:
    """What goes over the layer: JSON text, for layers differ in what else they take."""
    return {
        "type": MESSAGE,
        "content": text,
        "kwargs": to_json(kwargs),
        "reply_channel": reply_to,
    }


def safe_name(name: str) -> str:
    """
    `name` as every layer takes it: at most 99 ASCII letters, digits, hyphens, underscores and
    periods. No two names become one.
    """
    if _NAME.fullmatch(name) and not _HASHED.search(name):
        return name
    # A name that looks as if it were hashed is hashed as well, so that nobody can choose one that
    # is another's.
    readable = re.sub(r"[^a-zA-Z0-9_.-]", "-", name[:50])
    return f"{readable}.{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def group_on_layer(group: str) -> str:
    """The layer's group for `group`, apart from those that other code of the project uses."""
    return safe_name(f"rest_channels.group.{group}")


def is_address(name: str) -> bool:
    """Whether a socket goes by that name."""
    return _OF_SOCKET in name


def parse_address(address: str) -> tuple[str, str]:
    """The channel of the process that has the socket, and the socket's id there."""
    process_channel, _, socket_id = address.partition(_OF_SOCKET)
    return process_channel, socket_id


def socket_address(process_channel: str, socket_id: str) -> str:
    """The name by which a socket of the process that listens on `process_channel` is reached."""
    return f"{process_channel}{_OF_SOCKET}{socket_id}"


async def send_to_layer(channel: str, message: dict[str, Any]) -> None:
    """Raises `ConsumerError` with status 503 where the layer does not take it in time."""
    layer = get_channel_layer()
    if layer is None:
        raise ImproperlyConfigured("Internal channels need a channel layer: set CHANNEL_LAYERS.")
    try:
        async with asyncio.timeout(SECONDS_TO_PUBLISH):
            await layer.send(channel, message)
    except (TypeError, ValueError):
        raise  # A wrong name, or no message: the caller's mistake.
    except Exception as exc:
        # Each layer has exceptions of its own for a full channel and for a lost connection.
        logger.warning("The channel layer did not take a message for %r.", channel, exc_info=True)
        raise ConsumerError("Too busy, try again later.", status=503, code="unavailable") from exc


def to_json(content: Any) -> str:
    """JSON text as DRF's renderer writes it: dates, decimals and lazy strings; never NaN."""
    return json.dumps(
        content,
        cls=JSONEncoder,
        ensure_ascii=not api_settings.UNICODE_JSON,
        allow_nan=False,
        separators=(",", ":") if api_settings.COMPACT_JSON else None,
    )
