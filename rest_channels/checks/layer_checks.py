"""The channel layers."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Warning

# channels_redis.core waits this long in Redis for a message before it asks again.
_REDIS_WAIT_SECONDS: Final = 5


def check_channel_layers(**kwargs: Any) -> list[CheckMessage]:
    """Return W005."""
    return [
        Warning(
            f"With redis-py 8, CHANNEL_LAYERS[{alias!r}] loses its connections while it waits: "
            "channels_redis waits 5 seconds for a message, which is also redis-py's default "
            "socket_timeout.",
            hint="Write each host as {'address': 'redis://...', 'socket_timeout': 10}.",
            id="rest_channels.W005",
        )
        for alias, layer in getattr(settings, "CHANNEL_LAYERS", {}).items()
        # channels_redis.pubsub waits 0.1 seconds.
        if str(layer.get("BACKEND", "")).startswith("channels_redis.core.")
        and _redis_major() >= 8
        and any(map(_is_impatient, layer.get("CONFIG", {}).get("hosts") or [("localhost", 6379)]))
    ]


def _is_impatient(host: Any) -> bool:
    """
    Return whether connections to `host`, in any of channels_redis's forms, time out too early.
    """
    options = host if isinstance(host, dict) else {}
    address = options.get("address") if options else host
    query = parse_qs(urlsplit(address).query) if isinstance(address, str) else {}
    timeout = query.get("socket_timeout", [options.get("socket_timeout", _REDIS_WAIT_SECONDS)])[0]
    try:
        return timeout is not None and float(timeout) <= _REDIS_WAIT_SECONDS
    except ValueError:
        return False  # redis-py reports it itself.


def _redis_major() -> int:
    try:
        import redis
    except ImportError:
        return 0
    return int(redis.VERSION[0])
