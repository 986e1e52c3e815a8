"""
A report of this process for members of staff: sockets, audiences, watches, and who shares what.

It reads what the event loops hold, from another thread and at one moment, and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextvars import copy_context
from typing import Any, Final

from rest_channels.live.delivery.hub import running_hubs
from rest_channels.live.delivery.subscription import SubscribedAudience, Subscription
from rest_channels.live.delivery.track import Track
from rest_channels.live.visibility.evaluation import EVERYBODY, ONE_USER, Evaluation
from rest_channels.live.visibility.request_tracking import Places, placing_reads
from rest_channels.live.watches.watch_groups import Group
from rest_channels.live.watches.watch_hub import running_watch_hubs
from rest_channels.metrics.figures import stats
from rest_channels.sockets.shutdown import running_departures
from rest_channels.workers.contexts import enter

Json = dict[str, Any]

#: The most items of each kind in one report; more are counted.
MOST: Final = 100

_SHARED_BY: Final = {EVERYBODY: "everybody", ONE_USER: "one user"}


def process_report() -> Json:
    """Return what this process holds now."""
    return {
        "pid": os.getpid(),
        "stats": stats(),
        "connections": _listed(_connections()),
        "audiences": _listed(_audience(track, audience) for track, audience in _audiences()),
        "watches": _listed(
            _group(group) for hub in running_watch_hubs() for group in hub.watch_groups
        ),
    }


def why_not_shared(number: str) -> Json | None:
    """
    Return the places that read the request, by the part that they read; None without an audience.

    DRF's dispatch runs once more for one of the subscribers, as it does before each delivery.
    """
    for _, audience in _audiences():
        subscriptions = list(audience.subscriptions)
        if str(id(audience)) == number and subscriptions:
            return {"reads": _places_of_reads(subscriptions[0])}
    return None


def _places_of_reads(subscription: Subscription) -> Places:
    topic = subscription.topic
    with placing_reads() as places:
        # Language and time zone of the subscriber stay in the copy.
        context = copy_context()
        context.run(enter, topic.variables)
        review = context.run(topic.review, lambda shown: None)
    return {part: found for part, found in places.items() if part in review.reads}


def _listed(items: Iterable[Json]) -> Json:
    found = list(items)
    return {"total": len(found), "items": found[:MOST]}


def _connections() -> Iterator[Json]:
    for departures in running_departures():
        for socket in list(departures.sockets):
            connection: Any = socket
            credentials = connection.handshake.credentials
            yield {
                "path": connection.scope["path"],
                "client": str((connection.scope.get("client") or [""])[0]),
                "user": None if credentials.user_pk is None else str(credentials.user_pk),
                "subscriptions": len(connection.memberships),
                "unread": connection.outbox.waiting_bytes,
                "backlog": connection.outbox.backlog_bytes,
            }


def _audiences() -> Iterator[tuple[Track, SubscribedAudience]]:
    for hub in running_hubs():
        for track in hub.tracks:
            for audience in track.audiences:
                yield track, audience


def _audience(track: Track, audience: SubscribedAudience) -> Json:
    evaluation = audience.evaluation
    return {
        "id": str(id(audience)),
        "model": audience.label,
        "database": track.alias,
        "track": track.name or "main",
        "view": type(evaluation.view).__name__,
        "sql": evaluation.sql,
        "subscribers": len(audience.subscriptions),
        "rows": len(audience.members),
        "window": None if audience.window is None else audience.window.size,
        "tables": sorted({audience.label, *audience.depends_on}),
        "texts": _SHARED_BY.get(audience.reach, "one socket"),
        "answers": _SHARED_BY.get(evaluation.reach, "one socket"),
        "reason": _reason(evaluation),
        "pace": audience.pace,
    }


def _reason(evaluation: Evaluation) -> str:
    """Return why texts are not the same for all, as far as the code shows it."""
    if evaluation.is_bound:
        return f"the answer left state behind: {evaluation.cause or evaluation.state}"
    if evaluation.unproven is not None and evaluation.is_declared:
        return f"shared = True, although {evaluation.unproven} is not proven"
    return "" if evaluation.unproven is None else f"{evaluation.unproven} is not proven"


def _group(group: Group) -> Json:
    members = list(group.members)
    basis = group.basis
    return {
        "title": members[0].watch.title if members else "",
        "clients": len(members),
        "seconds": group.seconds,
        "tables": sorted({label for labels in basis.tables.values() for label in labels})
        if basis is not None
        else [],
        "answers": "everybody who may" if basis is not None and basis.sharing else "one user",
        "reads": sorted(basis.reads) if basis is not None else [],
        "isDue": group.is_due,
    }
