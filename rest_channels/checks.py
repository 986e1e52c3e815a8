"""
System checks: wrong configuration, said by `manage.py check` with what to type next.

    E001  REST_CHANNELS is no dictionary, or has a setting that does not exist
    E002  a setting has a value that makes no sense
    W003  sockets without a check of the Origin header
    W004  PostgreSQL connections are made anew for every frame
    W005  the channel layer's Redis connections are closed while they wait
    W006  two streams of one basename
    W007  a viewset that cannot write JSON
    W008  a viewset that cannot read JSON

That `rest_channels` is missing from INSTALLED_APPS no check can say, for it would not run: the
routers raise ImproperlyConfigured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from channels.routing import get_default_application
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from rest_channels.routers import Socket, find_sockets
from rest_channels.settings import DEFAULTS, IMPORT_STRINGS
from rest_channels.streams import Stream

# Bounds that count things and must admit at least one.
_COUNTS = {
    "WORKER_THREADS",
    "MAX_THREADS_PER_USER",
    "MAX_FRAME_BYTES",
    "MAX_FRAME_DEPTH",
    "MAX_REQUEST_ID_CHARS",
    "MAX_IN_FLIGHT",
    "MAX_QUEUE_BYTES",
    "FRAME_BURST",
}
_NUMBERS = {"FRAME_RATE", "LEASE_SECONDS"}


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001, E002."""
    given = getattr(settings, "REST_CHANNELS", {})
    if not isinstance(given, dict):
        return [Error("REST_CHANNELS is a dictionary.", id="rest_channels.E001")]
    messages: list[CheckMessage] = []
    for name, value in given.items():
        if name not in DEFAULTS:
            known = ", ".join(sorted(DEFAULTS))
            messages.append(
                Error(
                    f"REST_CHANNELS has no setting {name!r}.",
                    hint=f"There are: {known}.",
                    id="rest_channels.E001",
                )
            )
        elif (nonsense := _nonsense(name, value)) is not None:
            messages.append(
                Error(
                    f"REST_CHANNELS[{name!r}] is {value!r}: {nonsense}.",
                    hint=f"The default is {DEFAULTS[name]!r}.",
                    id="rest_channels.E002",
                )
            )
    return messages


def _nonsense(name: str, value: Any) -> str | None:
    """What is wrong with `value`; None where it makes sense."""
    if value is None and DEFAULTS[name] is None:
        return None
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if name in _COUNTS and not (is_integer and value >= 1):
        return "an integer of at least 1 is needed"
    if name in _NUMBERS and not ((is_integer or isinstance(value, float)) and value > 0):
        return "a number above 0 is needed"
    if name == "THREAD_SENSITIVE" and not isinstance(value, bool):
        return "True or False is needed"
    if name == "ALLOWED_ORIGINS":
        return _nonsense_of_origins(value)
    if name in IMPORT_STRINGS:
        try:
            import_string(value)
        except (ImportError, AttributeError, TypeError) as exc:
            return f"a dotted path to a class is needed ({exc})"
    return None


def _nonsense_of_origins(value: Any) -> str | None:
    if not isinstance(value, (list, tuple, set, frozenset)):
        return "a list of origins is needed"
    wrong = [
        origin
        for origin in value
        if not isinstance(origin, str) or "://" not in origin or origin.count("/") != 2
    ]
    if wrong:
        return f"{wrong[0]!r} is no origin, such as 'https://app.example.com' (no path, no '*')"
    return None


def check_origin(**kwargs: Any) -> list[CheckMessage]:
    """W003."""
    if all(socket.is_origin_checked for socket in _sockets()):
        return []
    return [
        Warning(
            "Sockets of ASGI_APPLICATION are open to pages of any origin.",
            hint="Use router.as_asgi(), or wrap the stack in "
            "channels.security.websocket.OriginValidator.",
            id="rest_channels.W003",
        )
    ]


def check_databases(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """W004."""
    return [
        Warning(
            f"Each frame connects to the PostgreSQL database {alias!r} anew.",
            hint=f"Set DATABASES[{alias!r}]['CONN_MAX_AGE'] = 60, or OPTIONS['pool'] = True: "
            "measured, 890 frames a second in place of 97.",
            id="rest_channels.W004",
        )
        for alias, given in connections.settings.items()
        if given["ENGINE"].rpartition(".")[2] in ("postgresql", "postgis")
        and given["CONN_MAX_AGE"] == 0
        and not given["OPTIONS"].get("pool")
    ]


def check_channel_layers(**kwargs: Any) -> list[CheckMessage]:
    """W005."""
    return [
        Warning(
            f"With redis-py 8, CHANNEL_LAYERS[{alias!r}] loses its connections while it waits: "
            "their socket_timeout is 5 seconds unless it is set.",
            hint="Write each host as {'address': 'redis://...', 'socket_timeout': None}.",
            id="rest_channels.W005",
        )
        for alias, layer in getattr(settings, "CHANNEL_LAYERS", {}).items()
        if str(layer.get("BACKEND", "")).startswith("channels_redis.")
        and _redis_major() >= 8
        and any(
            not isinstance(host, dict) or host.get("socket_timeout", 5) is not None
            for host in layer.get("CONFIG", {}).get("hosts", [("localhost", 6379)])
        )
    ]


def _redis_major() -> int:
    try:
        import redis
    except ImportError:
        return 0
    return int(redis.VERSION[0])


def check_streams(**kwargs: Any) -> list[CheckMessage]:
    """W006, W007, W008."""
    streams = {s for socket in _sockets() for s in socket.streams if isinstance(s, Stream)}
    messages: list[CheckMessage] = []
    by_basename = defaultdict(list)
    for stream in sorted(streams, key=lambda stream: stream.prefix):
        by_basename[stream.basename].append(stream)
        messages += _check_json(stream)
    for basename, same in by_basename.items():
        if len(same) > 1:
            prefixes = ", ".join(repr(stream.prefix) for stream in same)
            messages.append(
                Warning(
                    f"The streams {prefixes} have the same basename {basename!r}: links between "
                    "them cannot be told apart.",
                    hint="Give one of them another: register(prefix, viewset, basename='...').",
                    id="rest_channels.W006",
                )
            )
    return messages


def _check_json(stream: Stream) -> Iterator[CheckMessage]:
    viewset = stream.viewset
    if not any("json" in (r.media_type or "") for r in viewset.renderer_classes):
        yield Warning(
            f"{viewset.__name__} has no renderer for JSON: over a socket its data are text.",
            hint="Add rest_framework.renderers.JSONRenderer to its renderer_classes.",
            obj=viewset,
            id="rest_channels.W007",
        )
    if not any("json" in p.media_type or p.media_type == "*/*" for p in viewset.parser_classes):
        yield Warning(
            f"{viewset.__name__} has no parser for JSON: over a socket all data are refused, 415.",
            hint="Add rest_framework.parsers.JSONParser to its parser_classes.",
            obj=viewset,
            id="rest_channels.W008",
        )


def _sockets() -> list[Socket]:
    """The sockets of ASGI_APPLICATION."""
    if not getattr(settings, "ASGI_APPLICATION", None):
        return []
    try:
        return list(find_sockets(get_default_application()))
    except (ImproperlyConfigured, ImportError):
        return []  # Not a check's to report: the server will, with the whole traceback.


def register_checks() -> None:
    """Called once, when the apps are ready."""
    for check in (
        check_settings,
        check_origin,
        check_databases,
        check_channel_layers,
        check_streams,
    ):
        register(check, "rest_channels")
