"""
System checks: wrong configuration, said by `manage.py check` with what to type next.

    E001  REST_CHANNELS is no dictionary, or has a setting that does not exist
    E002  a setting has a value that makes no sense
    W003  sockets without a check of the Origin header
    W004  PostgreSQL connections are made anew for every frame
    W005  the channel layer's Redis connections are closed while they wait
    W006  two viewsets of one basename
    W007  a viewset that cannot write JSON, perhaps by REST_FRAMEWORK's defaults
    W008  a viewset that cannot read JSON, perhaps by REST_FRAMEWORK's defaults
    W009  a database without the tables of the log; said by `manage.py check --database ...`
    W010  a database without the triggers that the settings ask for, or with others; said likewise
    E011  triggers are asked for, and there are none for this kind of database
    E012  a database that does not commit by itself, of which changes are to be told

That `rest_channels` is missing from INSTALLED_APPS no check can say, for it would not run: the
routers raise ImproperlyConfigured.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from channels.routing import get_default_application
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router
from django.db.migrations.recorder import MigrationRecorder
from django.utils.module_loading import import_string
from rest_framework.settings import api_settings

from rest_channels.connection import Connection
from rest_channels.consumers.sockets import ConsumersStream
from rest_channels.live import log, triggers
from rest_channels.routers import Socket, find_sockets
from rest_channels.settings import DEFAULTS, IMPORT_STRINGS, socket_settings
from rest_channels.streams import Stream

logger = logging.getLogger("rest_channels")

# Bounds that count things and must admit at least one.
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
    "FRAME_BURST",
}
_NUMBERS = {
    "FRAME_RATE",
    "LEASE_SECONDS",
    "PUBLISH_SECONDS",
    "POLL_SECONDS",
    "PRESENCE_SECONDS",
    "RETENTION_SECONDS",
}

# 0 switches off.
_PAUSES = {"SHUTDOWN_SECONDS", "STATS_SECONDS"}

# Origins are compared as text: they have no path and no capitals.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/*A-Z]+")

# channels_redis.core waits so long in Redis for a message, and then asks anew.
_REDIS_WAIT_SECONDS: Final = 5


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001, E002."""
    given = getattr(settings, "REST_CHANNELS", {})
    if not isinstance(given, dict):
        hint = "Write REST_CHANNELS = {'WORKER_THREADS': 8}, say, or leave it out."
        return [Error("REST_CHANNELS is no dictionary.", hint=hint, id="rest_channels.E001")]
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
    if name in _PAUSES and not ((is_integer or isinstance(value, float)) and value >= 0):
        return "a number is needed, 0 or above"
    if name == "THREAD_SENSITIVE" and not isinstance(value, bool):
        return "True or False is needed"
    if name == "CAPTURE" and value not in (None, "signals", "triggers"):
        return "'signals', 'triggers' or None is needed"
    if name == "CAPTURE_MODELS":
        return _nonsense_of_models(value)
    if name == "ALLOWED_ORIGINS":
        return _nonsense_of_origins(value)
    if name == "PERMISSIONS":
        return _nonsense_of_permissions(value)
    if name in IMPORT_STRINGS:
        return _nonsense_of_class(value)
    return None


def _nonsense_of_models(value: Any) -> str | None:
    if value == "__all__":
        return None
    if not isinstance(value, (list, tuple, set, frozenset)):
        return "'__all__' is needed, or a list of 'app_label' and 'app_label.Model'"
    known = {config.label for config in apps.get_app_configs()}
    known |= {model._meta.label for model in apps.get_models(include_auto_created=True)}
    unknown = [repr(name) for name in value if name not in known]
    return f"there is no app or model {', '.join(unknown)}" if unknown else None


def _nonsense_of_class(value: Any) -> str | None:
    if isinstance(value, str):
        try:
            value = import_string(value)
        except ImportError as exc:
            return f"a dotted path to a class is needed ({exc})"
    if not (isinstance(value, type) and issubclass(value, Connection)):
        return "a subclass of rest_channels.connection.Connection is needed"
    return None


def _nonsense_of_permissions(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "a dictionary of names to lists of permissions is needed"
    for name, permissions in value.items():
        if not isinstance(permissions, (list, tuple)):
            return f"{name!r} is no list of permissions"
        for item in permissions:
            try:
                if not callable(import_string(item) if isinstance(item, str) else item):
                    return f"{item!r} of {name!r} is neither a permission class nor callable"
            except ImportError as exc:
                return f"{item!r} of {name!r} cannot be imported ({exc})"
    return None


def _nonsense_of_origins(value: Any) -> str | None:
    if not isinstance(value, (list, tuple, set, frozenset)):
        return "a list of origins is needed"
    wrong = [
        origin for origin in value if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin)
    ]
    if wrong:
        return (
            f"{wrong[0]!r} is no origin as browsers write them, such as 'https://app.example.com' "
            "(no path, no '*', no capitals)"
        )
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


def check_tables(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """W009."""
    if socket_settings.CAPTURE is None:
        return []
    log.forget_tables()
    return [
        Warning(
            f"The database {alias!r} has no tables of rest_channels: subscriptions do not see what "
            "is written to it.",
            hint=f"Run manage.py migrate --database {alias}. Or have a database router whose "
            "allow_migrate() says no to 'rest_channels' there.",
            id="rest_channels.W009",
        )
        for alias in databases or ()
        if router.allow_migrate_model(alias, log.pending(alias).model)
        and _is_migrated(alias)
        and not log.is_installed(alias)
    ]


def check_triggers(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """W010."""
    log.forget_tables()
    found = {alias: triggers.differences(alias) for alias in databases or ()}
    return [
        Warning(
            f"The triggers of the database {alias!r} are not those that the settings ask for: "
            + (
                f"writes to {', '.join(missing.labels[:5])} are not seen by subscriptions."
                if missing.missing
                else "there are some that note what is noted already, or should not be."
            ),
            hint=f"Run manage.py sync_triggers --database {alias}; migrate does it, too.",
            id="rest_channels.W010",
        )
        for alias, missing in found.items()
        if missing.missing or missing.left
    ]


def check_support_of_triggers(**kwargs: Any) -> list[CheckMessage]:
    """E011."""
    if socket_settings.CAPTURE != "triggers":
        return []
    return [
        Error(
            "REST_CHANNELS['CAPTURE'] is 'triggers', and there are none for the database "
            f"{alias!r} ({connections[alias].display_name}).",
            hint="Use 'signals', with LiveManager for bulk writes; or have a database router whose "
            "allow_migrate() says no to 'rest_channels' there.",
            id="rest_channels.E011",
        )
        for alias in connections
        if router.allow_migrate_model(alias, log.pending(alias).model)
        and not triggers.is_supported(alias)
    ]


def check_autocommit(**kwargs: Any) -> list[CheckMessage]:
    """E012."""
    if socket_settings.CAPTURE is None:
        return []
    return [
        Error(
            f"DATABASES[{alias!r}] has AUTOCOMMIT = False: the log of changes, which each process "
            "numbers and reads in transactions of its own, would never be committed.",
            hint="Leave AUTOCOMMIT out, and have ATOMIC_REQUESTS or transaction.atomic() make "
            "transactions. Or set REST_CHANNELS['CAPTURE'] = None, or have a database router whose "
            "allow_migrate() says no to 'rest_channels' there.",
            id="rest_channels.E012",
        )
        for alias, given in connections.settings.items()
        if not given["AUTOCOMMIT"] and router.allow_migrate_model(alias, log.pending(alias).model)
    ]


def _is_migrated(alias: str) -> bool:
    """Whether this is not the very first `migrate`, which checks databases, too."""
    return MigrationRecorder(connections[alias]).has_table()


def check_channel_layers(**kwargs: Any) -> list[CheckMessage]:
    """W005."""
    return [
        Warning(
            f"With redis-py 8, CHANNEL_LAYERS[{alias!r}] loses its connections while it waits: "
            "channels_redis waits 5 seconds for a message, and 5 seconds are their socket_timeout "
            "unless it is set.",
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
    """Whether connections to `host`, in any of channels_redis's forms, give up waiting."""
    options = host if isinstance(host, dict) else {}
    address = options.get("address") if options else host
    query = parse_qs(urlsplit(address).query) if isinstance(address, str) else {}
    timeout = query.get("socket_timeout", [options.get("socket_timeout", _REDIS_WAIT_SECONDS)])[0]
    try:
        return timeout is not None and float(timeout) <= _REDIS_WAIT_SECONDS
    except ValueError:
        return False  # redis-py says so itself.


def _redis_major() -> int:
    try:
        import redis
    except ImportError:
        return 0
    return int(redis.VERSION[0])


def check_streams(**kwargs: Any) -> list[CheckMessage]:
    """W006, W007, W008."""
    found = {
        stream
        for socket in _sockets()
        for stream in socket.streams
        # Class-based consumers have no links, and read and write JSON whatever the settings.
        if isinstance(stream, Stream) and not isinstance(stream, ConsumersStream)
    }
    streams = sorted(found, key=lambda stream: stream.prefix)
    return [*_check_basenames(streams), *_check_renderers(streams), *_check_parsers(streams)]


def _check_basenames(streams: list[Stream]) -> Iterator[CheckMessage]:
    by_name = defaultdict(list)
    for stream in streams:
        by_name[stream.namespace, stream.basename].append(stream)
    for (_, basename), same in by_name.items():
        # A viewset twice, under two paths say, leads to the same pages.
        if len({(s.viewset.__module__, s.viewset.__qualname__) for s in same}) > 1:
            prefixes = ", ".join(repr(stream.prefix) for stream in same)
            yield Warning(
                f"The streams {prefixes} have the same basename {basename!r}: links between them "
                "cannot be told apart.",
                hint="Give one of them another: register(prefix, viewset, basename='...').",
                id="rest_channels.W006",
            )


def _check_renderers(streams: list[Stream]) -> Iterator[CheckMessage]:
    for obj, where, name in _without(
        streams,
        "renderer_classes",
        lambda renderer: "json" in (renderer.media_type or ""),
    ):
        yield Warning(
            f"{name} has no renderer for JSON: over a socket the data are text, as the browsable "
            "API's HTML would be.",
            hint=f"Add rest_framework.renderers.JSONRenderer to {where}.",
            obj=obj,
            id="rest_channels.W007",
        )


def _check_parsers(streams: list[Stream]) -> Iterator[CheckMessage]:
    for obj, where, name in _without(
        streams,
        "parser_classes",
        lambda parser: "json" in parser.media_type or parser.media_type == "*/*",
    ):
        yield Warning(
            f"{name} has no parser for JSON: over a socket all data are refused, 415.",
            hint=f"Add rest_framework.parsers.JSONParser to {where}.",
            obj=obj,
            id="rest_channels.W008",
        )


def _without(
    streams: list[Stream], attribute: str, serves: Callable[[Any], bool]
) -> Iterator[tuple[Any, str, str]]:
    """
    What has no class in `attribute` that `serves`: the object, where to add one, and its name.

    REST_FRAMEWORK's defaults, which forms and the browsable API leave without JSON, once.
    """
    setting = f"DEFAULT_{attribute.upper()}"
    defaults = list(getattr(api_settings, setting))
    is_default_said = False
    for viewset in {stream.viewset: None for stream in streams}:
        classes = list(getattr(viewset, attribute))
        if any(serves(item) for item in classes):
            continue
        if classes != defaults:
            yield viewset, f"its {attribute}", viewset.__name__
        elif not is_default_said:
            is_default_said = True
            name = f"REST_FRAMEWORK[{setting!r}], which {viewset.__name__} relies on,"
            yield None, f"REST_FRAMEWORK[{setting!r}]", name


def _sockets() -> list[Socket]:
    """The sockets of ASGI_APPLICATION."""
    if not getattr(settings, "ASGI_APPLICATION", None):
        return []
    try:
        return list(find_sockets(get_default_application()))
    except Exception:
        # Not a check's to report, least of all before `migrate`: the server will, with the whole
        # traceback.
        logger.debug("ASGI_APPLICATION could not be looked at.", exc_info=True)
        return []


def register_checks() -> None:
    """Called once, when the apps are ready."""
    for check in (
        check_settings,
        check_origin,
        check_databases,
        check_channel_layers,
        check_streams,
        check_support_of_triggers,
        check_autocommit,
    ):
        register(check, "rest_channels")
    register(check_tables, "rest_channels", Tags.database)
    register(check_triggers, "rest_channels", Tags.database)
