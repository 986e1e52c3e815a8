"""Whether this process should get traffic: the checks of `rest_channels.health.Ready`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from django.db import connections, router

from rest_channels.bus import channel_layer, news
from rest_channels.bus.loops import PerLoop
from rest_channels.bus.process_channel import ProcessChannel, running_channels
from rest_channels.health.database_probe import PATIENCE_SECONDS, DatabaseProbe
from rest_channels.live.delivery.hub import running_hubs
from rest_channels.live.log import store
from rest_channels.live.log_database import primary_of
from rest_channels.sockets.shutdown import running_departures
from rest_channels.workers.contexts import bare_context

logger = logging.getLogger("rest_channels")

#: The checks, in the order of the answer.
CHECKS: Final = ("draining", "database", "log", "bus")

OK: Final = "ok"

#: The bus works without messages: changes are found by polls.
POLLING: Final = "polling"

#: The texts of checks that pass.
PASSING: Final = frozenset({OK, POLLING})

# Probes more frequent than this share an answer, so that strangers cannot load the database.
_SECONDS_KEPT: Final = 1.0


async def assess(checks: Collection[str] = CHECKS) -> dict[str, str]:
    """
    Return what each of `checks` has found: a text of `PASSING`, or the reason why it fails.

    It takes some two seconds at most. The results of databases and the bus may be a second old.
    """
    # Not kept: a load balancer should learn at once that the process is about to stop.
    found = {"draining": _draining()}
    if not found.keys() >= set(checks):
        found.update(await _services.current().look())
    return {name: found[name] for name in CHECKS if name in checks}


def _draining() -> str:
    if any(departures.is_leaving for departures in running_departures()):
        return "the server is stopping, and its sockets are being closed"
    return OK


class Services:
    """The databases and the bus, as one event loop sees them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._databases: dict[str, DatabaseProbe] = {}
        self._looking: asyncio.Task[Mapping[str, str]] | None = None
        self._looked_at = 0.0
        self._failing: frozenset[str] = frozenset()

    async def look(self) -> Mapping[str, str]:
        """Return what the last look has found; look again if that is a second ago."""
        looking = self._looking
        if looking is None or (
            looking.done() and time.monotonic() - self._looked_at > _SECONDS_KEPT
        ):
            looking = self._looking = bare_context().run(asyncio.ensure_future, self._look())
        # A probe that leaves does not end the look of others.
        return await asyncio.shield(looking)

    async def _look(self) -> Mapping[str, str]:
        aliases = _logged_databases()
        databases = [self._databases.setdefault(alias, DatabaseProbe(alias)) for alias in aliases]
        bus, *faults = await asyncio.gather(_bus(), *(each.look() for each in databases))
        followed = _followed()
        stuck = [
            f"{alias!r}: changes have waited for their positions for too long"
            for alias, database in zip(aliases, databases, strict=True)
            if alias in followed and database.is_stuck()
        ]
        found = {
            "database": _joined(
                f"{alias!r}: {fault}"
                for alias, fault in zip(aliases, faults, strict=True)
                if fault is not None
            ),
            "log": _joined(stuck),
            "bus": bus or OK,
        }
        self._looked_at = time.monotonic()
        self._log(found)
        return found

    def _log(self, found: Mapping[str, str]) -> None:
        """Log a change between passing and failing."""
        failing = frozenset(text for text in found.values() if text not in PASSING)
        if failing and failing != self._failing:
            logger.warning("This process is not ready: %s.", "; ".join(sorted(failing)))
        elif self._failing and not failing:
            logger.warning("This process is ready again.")
        self._failing = failing


_services: PerLoop[Services] = PerLoop(Services)


def _joined(faults: Iterable[str]) -> str:
    return "; ".join(faults) or OK


def _logged_databases() -> list[str]:
    """Return the databases that have a log, or may have one; no replicas."""
    return [
        alias
        for alias, given in connections.settings.items()
        # Django puts that in place of an empty "default".
        if given["ENGINE"] != "django.db.backends.dummy"
        and primary_of(alias) == alias
        and router.allow_migrate_model(alias, store.pending(alias).model)
    ]


def _followed() -> set[str]:
    """Return the databases that this process reads changes of, for its subscribers."""
    return {track.alias for hub in running_hubs() for track in hub.tracks}


async def _bus() -> str | None:
    """Return why messages of other processes do not arrive; None if they do."""
    try:
        is_shared = channel_layer.shared_layer() is not None
    except Exception:
        return "the channel layer cannot be imported"
    if not is_shared:
        return None if all(map(news.hears_others, _followed())) else POLLING
    heard = await asyncio.gather(*(_hears(channel) for channel in running_channels()))
    return None if all(heard) else "messages over the channel layer do not arrive"


async def _hears(channel: ProcessChannel) -> bool:
    asking = asyncio.run_coroutine_threadsafe(channel.hears_itself(PATIENCE_SECONDS), channel.loop)
    return await asyncio.wrap_future(asking)
