"""
The cost of a pass beside many audiences that a save does not concern.

In this process, without sockets: processor time of a pass and its queries, the least of several
rounds. Each audience has a filter of its own. Answers of DRF are valid for an hour, so that no pass
asks for them again.

    python -m benchmarks.audiences --audiences 1 100 1000 10000
    BENCH_DATABASE=postgresql python -m benchmarks.audiences
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

# First, because it sets Django up.
from benchmarks.windows import Cost, Site, edit

# isort: split
from django.db import connection
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import routers, serializers

from benchmarks.messages.models import Author, Message
from benchmarks.running import fill
from benchmarks.sharing import looked, subscription
from benchmarks.site import MessageViewSet
from rest_channels.live.log.sequencer import sequence
from rest_channels.sockets.streams import Stream
from rest_channels.viewsets import ModelConsumerViewSet

# Saves by which a pass gets as quick as it will be.
WARM_UP = 3


class Messages(MessageViewSet):
    filter_backends = [DjangoFilterBackend]
    filterset_fields = {"id": ["exact", "in"]}


class AuthorSerializer(serializers.ModelSerializer):
    class Meta:
        model = Author
        fields = ["id", "name"]


class Authors(ModelConsumerViewSet):
    queryset = Author.objects.order_by("id")
    serializer_class = AuthorSerializer
    filter_backends = [DjangoFilterBackend]
    filterset_fields = ["id"]


def site_of(viewset: Any, queries: Iterable[dict[str, list[str]]]) -> Site:
    """Return a site of `viewset`, with an audience for each query."""
    site = Site()
    site.stream = Stream(viewset, "messages", "message", routers.SimpleRouter())
    # A few hundred at a time, as they would come.
    joining = [subscription(site.stream, 1, query=query) for query in queries]
    for start in range(0, len(joining), 200):
        waiting = joining[start : start + 200]
        while waiting:
            looked(site.state, waiting)
            waiting = [s for s in waiting if s.audience is None]
    return site


def least(site: Site, write: Callable[[], Any], times: int) -> Cost:
    """Return the least cost of a pass after `write`."""
    costs = []
    for _ in range(times + WARM_UP):
        write()
        # Only one process numbers a change.
        sequence("default")
        costs.append(site.cost(site.look))
    return Cost(*map(min, zip(*costs[WARM_UP:], strict=True)))


def rows_of(count: int) -> list[int]:
    """Return keys of `count` rows, the first of which exists, and the 900th of which does not."""
    return [number for number in range(1, count + 2) if number != 900][:count]


def all_costs(count: int, times: int) -> Iterable[tuple[str, Cost]]:
    """Yield the costs of a pass with that many audiences, by what was written."""
    seen, unseen = Message.objects.get(pk=1), Message.objects.get(pk=900)
    keys = rows_of(count)
    site = site_of(Messages, [{"id": [str(key)]} for key in keys])
    yield "equal, concerns one", least(site, lambda: edit(seen), times)
    yield "equal, concerns none", least(site, lambda: edit(unseen), times)
    site = site_of(Messages, [{"id__in": [f"{key},{key + 1_000_000}"]} for key in keys])
    yield "in, concerns one", least(site, lambda: edit(seen), times)
    site = site_of(Authors, [{"id": [str(key)]} for key in keys])
    yield "of another table", least(site, lambda: edit(seen), times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audiences", description=__doc__)
    parser.add_argument("--audiences", type=int, nargs="+", default=[1, 100, 1000, 10_000])
    parser.add_argument("--times", type=int, default=15)
    options = parser.parse_args()
    fill(os.environ.get("BENCH_DATABASE", "sqlite"))
    print(connection.vendor)
    for count in options.audiences:
        for title, cost in all_costs(count, options.times):
            print(
                f"{count:7,} audiences, {title:22} {cost.cpu_ms:8.2f} ms cpu "
                f"{cost.queries:5.0f} queries",
                flush=True,
            )


if __name__ == "__main__":
    main()
