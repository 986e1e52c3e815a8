"""
Messages between processes: internal channels, by way of Channels' layer.

    Channel("mail").send({"to": "ann"})         # from sync code
    await Channel("mail").asend({"to": "ann"})  # on an event loop

What is sent is JSON, whatever the layer would take. A layer may lose a message without a word.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from asgiref.sync import async_to_sync
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

# A layer that hangs must not hang its callers: Redis that stops answering keeps a connection open.
SECONDS_TO_PUBLISH: Final = 2

# What stands between the channel of a process and a socket there. No layer has it in its names.
_OF_SOCKET = "#"

# What every layer takes: Channels' own rule, without the "!" of channels that belong to a process.
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,99}")


def require_channel_name(name: Any, owner: str) -> None:
    """Raises ImproperlyConfigured where `owner` gives a name that no layer would take."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ImproperlyConfigured(
            f"{owner} has the channel_name {name!r}: a channel's name is 1 to 99 ASCII letters, "
            "digits, hyphens, underscores and periods."
        )


class Channel:
    """An internal channel by its name, or the address of a socket."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def send(
        self,
        content: Any,
        *,
        kwargs: Mapping[str, Any] | None = None,
        reply_channel: Channel | str | None = None,
    ) -> None:
        """
        Send `content` to the handlers of this channel, or to the socket. From sync code.

        `kwargs` become the handlers' `self.kwargs`, and `reply_channel` is whom they reply to.
        Raises `ConsumerError` with status 503 where the layer does not take it within 2 seconds.
        """
        async_to_sync(self.asend)(content, kwargs=kwargs, reply_channel=reply_channel)

    async def asend(
        self,
        content: Any,
        *,
        kwargs: Mapping[str, Any] | None = None,
        reply_channel: Channel | str | None = None,
    ) -> None:
        """`send` on an event loop."""
        text = to_json(content)
        if _OF_SOCKET in self.name:
            await send_text(self.name, text)
            return
        reply_to = None if reply_channel is None else str(reply_channel)
        await send_to_layer(self.name, message(text, kwargs or {}, reply_to))


def message(text: str, kwargs: Mapping[str, Any], reply_to: str | None) -> dict[str, Any]:
    """What goes over the layer: JSON text, for layers differ in what else they take."""
    return {
        "type": MESSAGE,
        "content": text,
        "kwargs": to_json(kwargs),
        "reply_channel": reply_to,
    }


def socket_address(process_channel: str, socket_id: str) -> str:
    """The name by which a socket of the process that listens on `process_channel` is reached."""
    return f"{process_channel}{_OF_SOCKET}{socket_id}"


async def send_text(address: str, text: str) -> None:
    """Send JSON text to the socket of that address, in whichever process it is."""
    process_channel, _, socket_id = address.partition(_OF_SOCKET)
    await send_to_layer(process_channel, {"type": SOCKET_TEXT, "socket": socket_id, "text": text})


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
