"""
Old paths of modules: each still imports, with a DeprecationWarning that names the new path.

`rest_channels` installs the finder, so that settings and imports of older releases keep working.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

PACKAGE: Final = "rest_channels"

#: Old module to new module, both relative to the package.
MOVED: Final[dict[str, str]] = {
    "admission": "sockets.handshake",
    "connection": "sockets.connection",
    "connection_state": "workers.connection_state",
    "consumers.deliveries": "consumers.message_view",
    "consumers.feeds": "consumers.groups.room_feeds",
    "consumers.filters": "consumers.message_filters",
    "consumers.groups": "consumers.groups.group_consumers",
    "consumers.hearing": "consumers.groups.authorization",
    "consumers.history": "consumers.groups.room_history",
    "consumers.hub": "consumers.groups.group_hub",
    "consumers.internal": "consumers.channel_worker",
    "consumers.layers": "consumers.groups.layers",
    "consumers.mixins": "consumers.user_mixins",
    "consumers.models": "consumers.model_consumers",
    "consumers.others": "consumers.groups.group_hub",
    "consumers.presence": "consumers.groups.presence",
    "consumers.rooms": "consumers.groups.rooms",
    "consumers.saying": "consumers.base",
    "consumers.sockets": "consumers.consumer_streams",
    "consumers.subscriptions": "consumers.subscription_consumers",
    "contexts": "workers.contexts",
    "counters": "metrics.figures",
    "daphne": "contrib.servers",
    "dcrf": "contrib.dcrf",
    "demultiplexer": "sockets.demultiplexer",
    "eager": "sockets.outbox",
    "effects": "workers.sql_effects",
    "exchange": "sockets.dispatch",
    "faults": "sockets.response",
    "fields": "sockets.field_cache",
    "hosting": "contrib.dcrf.hosting",
    "keywords": "viewsets",
    "lanes": "sockets.queues",
    "leases": "sockets.revalidation",
    "live.ambient": "live.visibility.surroundings",
    "live.audiences": "live.visibility.audiences",
    "live.backlog": "live.delivery.backlog",
    "live.bells": "bus.bells",
    "live.capture.signals": "live.capture.model_signals",
    "live.capture": "live.capture.writes",
    "live.clocks": "live.visibility.clocks",
    "live.copies": "live.delivery.renderings",
    "live.coverage": "live.capture.coverage",
    "live.declared": "live.visibility.declarations",
    "live.deletions": "live.capture.capture_checks",
    "live.dependencies": "live.visibility.dependencies",
    "live.equalities": "live.visibility.filter_index",
    "live.evaluations": "live.visibility.evaluations",
    "live.events": "live.delivery.events",
    "live.exact": "live.exact_values",
    "live.functions": "live.visibility.queries",
    "live.heartbeat": "live.delivery.heartbeat",
    "live.history": "live.log.replay",
    "live.housekeeping": "live.log.maintenance",
    "live.hub": "live.delivery.hub",
    "live.listening": "live.capture.model_signals",
    "live.log": "live.log.store",
    "live.memberships": "live.delivery.registry",
    "live.names": "live.visibility.row_names",
    "live.naming": "live.capture.named_fields",
    "live.news": "bus.news",
    "live.notifications": "bus.notifications",
    "live.passes": "live.delivery.refresh",
    "live.positions": "live.log.positions",
    "live.proofs": "live.visibility.proofs",
    "live.queries": "live.visibility.queries",
    "live.querysets": "live.capture.managers",
    "live.reading": "live.visibility.row_loader",
    "live.reads": "live.table_names",
    "live.registry": "live.model_tables",
    "live.relay": "bus.doorbell",
    "live.renderings": "live.delivery.renderings",
    "live.routing": "live.log_database",
    "live.sequencer": "live.log.sequencer",
    "live.shapes": "live.visibility.query_shapes",
    "live.sharing": "live.visibility.sharing",
    "live.statements": "live.log.statements",
    "live.subscriptions": "live.delivery.subscription",
    "live.surroundings": "live.visibility.surroundings",
    "live.telling": "live.delivery.updates",
    "live.traces": "live.visibility.side_effects",
    "live.transactions": "live.log.transactions",
    "live.triggers": "live.capture.triggers",
    "live.triggers.postgresql": "live.capture.triggers.postgresql",
    "live.triggers.sqlite": "live.capture.triggers.sqlite",
    "live.triggers.tables": "live.capture.triggers.tables",
    "live.trust": "live.visibility.trust",
    "live.turns": "sockets.queues",
    "live.unseen": "live.capture.capture_checks",
    "live.watch": "live.visibility.request_tracking",
    "live.work": "live.delivery.update_plan",
    "long_frames": "sockets.frame_limits",
    "origin": "sockets.handshake",
    "outbox": "sockets.outbox",
    "oversize": "sockets.frame_limits",
    "permissions": "contrib.dcrf.permission_adapter",
    "persistence": "workers.connections",
    "pool": "workers.pool",
    "rates": "sockets.ratelimit",
    "reports": "workers.monitoring",
    "request": "sockets.request",
    "response": "sockets.response",
    "retained": "workers.contexts",
    "scheduling": "workers.scheduling",
    "servers": "contrib.servers",
    "shutdown": "sockets.shutdown",
    "spelling": "protocol",
    "stalls": "workers.monitoring",
    "streams": "sockets.streams",
    "test.base": "test.base_client",
    "test.client": "test.sync_client",
    "threads": "workers.threads",
    "variables": "workers.contexts",
}

#: Names that were documented at an old path, and what they are called in the new module.
RENAMED: Final[dict[str, dict[str, str]]] = {
    "origin": {"is_trusted": "is_trusted_origin", "warn": "warn_of_origin"},
    "outbox": {"Wire": "StreamWriter"},
    "hosting": {"Guest": "HostedConsumer"},
    "reports": {"begin": "begin_reports"},
}


class MovedModules(MetaPathFinder, Loader):
    """A finder of the modules that old paths now stand for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != PACKAGE or name not in MOVED or _is_package_now(name):
            return None
        _warn(name)
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # The import returns what is registered here: one module under two names.
        name = module.__name__.partition(".")[2]
        found = sys.modules[module.__name__] = import_module(f"{PACKAGE}.{MOVED[name]}")
        for old, new in RENAMED.get(name, {}).items():
            setattr(found, old, getattr(found, new))


def install() -> None:
    """Install the finder before Python's own, which looks for files."""
    sys.meta_path.insert(0, MovedModules())


def old_names_of(package: str) -> Callable[[str], Any]:
    """
    Return a `__getattr__` for `package`, whose path was a module's: it finds the module's names.
    """
    name = package.partition(".")[2]

    def __getattr__(attribute: str) -> Any:
        found = None
        if not attribute.startswith("__") and find_spec(f"{package}.{attribute}") is None:
            found = getattr(import_module(f"{PACKAGE}.{MOVED[name]}"), attribute, None)
        if found is None:
            raise AttributeError(f"module {package!r} has no attribute {attribute!r}")
        _warn(name)
        return found

    return __getattr__


def _is_package_now(name: str) -> bool:
    return MOVED[name].startswith(f"{name}.")


def _warn(name: str) -> None:
    message = f"{PACKAGE}.{name} has moved to {PACKAGE}.{MOVED[name]}."
    warnings.warn(message, DeprecationWarning, stacklevel=3)
