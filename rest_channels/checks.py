"""
System checks: `manage.py check` reports wrong configuration with what to type next.

    E001  REST_CHANNELS is not a dictionary, or has a setting that does not exist
    E002  a setting has an invalid value
    W003  sockets do not check the Origin header
    W004  each frame opens a new connection to PostgreSQL: CONNECTION_SECONDS is 0
    W005  the channel layer's Redis connections time out while they wait
    W006  two viewsets have the same basename
    W007  a viewset cannot write JSON, perhaps because of REST_FRAMEWORK's defaults
    W008  a viewset cannot read JSON, perhaps because of REST_FRAMEWORK's defaults
    W009  a database lacks tables of rest_channels (`manage.py check --database ...`)
    W010  a database lacks triggers that the settings ask for, or has others (likewise)
    E011  triggers are asked for, but this kind of database has none
    E012  a database whose changes are captured does not commit automatically
    W013  a server is too old: `rest_channels.contrib.servers`
    W014  the database deletes or changes rows without a signal

W014 and the checks of subscriptions are in `rest_channels.live.capture.capture_checks`, W017 and
W018 in `rest_channels.live.fence_checks`. No check
can report that `rest_channels` is missing from INSTALLED_APPS, because it would not run: the
routers raise ImproperlyConfigured.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from channels.routing import get_default_application
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router
from django.db.migrations.recorder import MigrationRecorder
from django.utils.module_loading import import_string

from rest_channels.consumers.consumer_streams import ConsumersStream
from rest_channels.contrib.servers import check_servers
from rest_channels.live.capture import triggers
from rest_channels.live.capture.capture_checks import check_live, check_relations
from rest_channels.live.fence_checks import check_fences
from rest_channels.live.log import store
from rest_channels.routers import Socket, find_sockets
from rest_channels.settings import DEFAULTS, IMPORT_STRINGS, socket_settings
from rest_channels.sockets import reply_store
from rest_channels.sockets.connection import Connection
from rest_channels.sockets.endpoints import SUBSCRIPTIONS
from rest_channels.sockets.stream_checks import check_basenames, check_parsers, check_renderers
from rest_channels.sockets.streams import Stream

logger = logging.getLogger("rest_channels")

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
    "MAX_STORED_REPLIES",
    "MAX_STORED_REPLY_BYTES",
    "MAX_WATCHES",
    "MAX_WATCH_BYTES",
    "FRAME_BURST",
}
_NUMBERS = {
    "FRAME_RATE",
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

# Integers; 0 disables them.
_EXTRAS = {"SLOW_TRACKS"}

# 0 disables them.
_PAUSES = {"CONNECTION_SECONDS", "SHUTDOWN_SECONDS", "STATS_SECONDS"}
_SWITCHES = {"THREAD_SENSITIVE", "REFUSE_HANDSHAKES", "SHORT_CUTS"}

# Origins are compared as text: they have no path and no capitals.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/*A-Z]+")

# channels_redis.core waits this long in Redis for a message before it asks again.
_REDIS_WAIT_SECONDS: Final = 5


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Return E001 and E002."""
    given = getattr(settings, "REST_CHANNELS", {})
    if not isinstance(given, dict):
        hint = "Write REST_CHANNELS = {'WORKER_THREADS': 8}, for example, or remove it."
        return [Error("REST_CHANNELS must be a dictionary.", hint=hint, id="rest_channels.E001")]
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
        elif (reason := _invalid_reason(name, value)) is not None:
            messages.append(
                Error(
                    f"REST_CHANNELS[{name!r}] is {value!r}: {reason}.",
                    hint=f"The default is {DEFAULTS[name]!r}.",
                    id="rest_channels.E002",
                )
            )
    return messages


def _invalid_reason(name: str, value: Any) -> str | None:
    """Return what is wrong with `value`; None if it is valid."""
    if value is None and DEFAULTS[name] is None:
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


def check_origin(**kwargs: Any) -> list[CheckMessage]:
    """Return W003."""
    unchecked = [socket.path for socket in _sockets() if not socket.is_origin_checked]
    if not unchecked:
        return []
    return [
        Warning(
            "Sockets of ASGI_APPLICATION accept pages of any origin: "
            f"{', '.join(dict.fromkeys(unchecked))}.",
            hint="Use router.as_asgi(), or wrap the stack in "
            "channels.security.websocket.OriginValidator.",
            id="rest_channels.W003",
        )
    ]


def check_databases(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return W004."""
    if socket_settings.CONNECTION_SECONDS:
        return []
    return [
        Warning(
            f"Each frame opens a new connection to the PostgreSQL database {alias!r}.",
            hint="Leave REST_CHANNELS['CONNECTION_SECONDS'] at its default, or set "
            f"DATABASES[{alias!r}]['CONN_MAX_AGE'] = 60, or OPTIONS['pool'] = True.",
            id="rest_channels.W004",
        )
        for alias, given in connections.settings.items()
        if given["ENGINE"].rpartition(".")[2] in ("postgresql", "postgis")
        and given["CONN_MAX_AGE"] == 0
        and not given["OPTIONS"].get("pool")
    ]


def check_tables(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return W009."""
    if socket_settings.CAPTURE is None:
        return []
    store.forget_tables()
    return [
        Warning(
            f"The database {alias!r} lacks tables of rest_channels: {consequence}.",
            hint=f"Run manage.py migrate --database {alias}. Or add a database router whose "
            "allow_migrate() returns False for 'rest_channels' there.",
            id="rest_channels.W009",
        )
        for alias in databases or ()
        if router.allow_migrate_model(alias, store.pending(alias).model)
        and _is_migrated(alias)
        and (consequence := _without_tables(alias))
    ]


def _without_tables(alias: str) -> str:
    """Return what does not work because tables are missing; empty if all are there."""
    if not store.is_installed(alias):
        return "subscriptions do not see writes to it"
    if not reply_store.is_installed(alias):
        return "frames with an 'idempotency_key' fail"
    return ""


def check_triggers(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return W010."""
    store.forget_tables()
    found = {alias: triggers.differences(alias) for alias in databases or ()}
    return [
        Warning(
            f"The triggers of the database {alias!r} differ from those that the settings ask for: "
            + (
                f"{_consequence()}: {', '.join(missing.labels)}."
                if missing.missing
                else "it has superfluous triggers, some of which may note a change twice."
            ),
            hint=f"Run manage.py sync_triggers --database {alias}, or manage.py migrate.",
            id="rest_channels.W010",
        )
        for alias, missing in found.items()
        if missing.missing or missing.left
    ]


def _consequence() -> str:
    if socket_settings.CAPTURE == "auto":
        return "subscriptions see only what this project's processes save and delete of"
    return "subscriptions do not see writes to"


def check_support_of_triggers(**kwargs: Any) -> list[CheckMessage]:
    """Return E011."""
    if socket_settings.CAPTURE != "triggers":
        return []
    return [
        Error(
            "REST_CHANNELS['CAPTURE'] is 'triggers', but the database "
            f"{alias!r} ({connections[alias].display_name}) supports none.",
            hint="Use 'auto', with LiveManager for bulk writes. Or add a database router whose "
            "allow_migrate() returns False for 'rest_channels' there.",
            id="rest_channels.E011",
        )
        for alias in connections
        if router.allow_migrate_model(alias, store.pending(alias).model)
        and not triggers.is_supported(alias)
    ]


def check_autocommit(**kwargs: Any) -> list[CheckMessage]:
    """Return E012."""
    if socket_settings.CAPTURE is None:
        return []
    return [
        Error(
            f"DATABASES[{alias!r}] has AUTOCOMMIT = False: the log of changes, which each process "
            "numbers and reads in its own transactions, would never be committed.",
            hint="Remove AUTOCOMMIT, and use ATOMIC_REQUESTS or transaction.atomic() for "
            "transactions. Or set REST_CHANNELS['CAPTURE'] = None. Or add a database router whose "
            "allow_migrate() returns False for 'rest_channels' there.",
            id="rest_channels.E012",
        )
        for alias, given in connections.settings.items()
        if not given["AUTOCOMMIT"] and router.allow_migrate_model(alias, store.pending(alias).model)
    ]


def _is_migrated(alias: str) -> bool:
    """
    Return whether the database was migrated before: the very first `migrate` runs checks, too.
    """
    is_migrated: bool = MigrationRecorder(connections[alias]).has_table()
    return is_migrated


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


def check_streams(**kwargs: Any) -> list[CheckMessage]:
    """Return W006, W007, W008, E015 and W016."""
    found = {
        stream
        for socket in _sockets()
        for stream in socket.streams
        # Class-based consumers have no links, and use JSON whatever the settings say.
        if isinstance(stream, Stream) and not isinstance(stream, ConsumersStream)
    }
    streams = sorted(found, key=lambda stream: stream.prefix)
    live = [s.viewset for s in streams if SUBSCRIPTIONS.keys() & s.actions.keys()]
    return [
        *(*check_basenames(streams), *check_renderers(streams)),
        *(*check_parsers(streams), *check_live(live)),
    ]


def _sockets() -> list[Socket]:
    """Return the sockets of ASGI_APPLICATION."""
    if not getattr(settings, "ASGI_APPLICATION", None):
        return []
    try:
        return list(find_sockets(get_default_application()))
    except Exception:
        # Leave it to the server, which shows the whole traceback. `migrate` must not fail because
        # of it.
        logger.debug("Could not read the sockets of ASGI_APPLICATION.", exc_info=True)
        return []


def register_checks() -> None:
    """Register all checks once the apps are ready."""
    for check in (
        check_settings,
        check_origin,
        check_databases,
        check_channel_layers,
        check_streams,
        check_support_of_triggers,
        check_autocommit,
        check_servers,
        check_relations,
        check_fences,
    ):
        register(check, "rest_channels")
    # Only by this tag: from Django 6.1 on, `check --tag` passes all databases to every check it
    # runs.
    register(check_tables, Tags.database)
    register(check_triggers, Tags.database)
