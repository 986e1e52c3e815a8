"""Notes in their order, in windows that grow and shrink, beside what has no order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import pytest
from django.db.models import Count
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.serializers import CharField, IntegerField, ModelSerializer

from rest_channels.live.visibility import window_edges
from tests.models import Club, Note
from tests.support.random_programs.clients import Client, OrderedClient
from tests.support.random_programs.note_world import (
    BoardViewSet,
    EagerViewSet,
    HallViewSet,
    JoinedViewSet,
    NoteRow,
    Notes,
    NoteViewSet,
    World,
    visible,
)
from tests.support.random_programs.tenant_worlds import PolicyNotes, TenantNotes
from tests.support.random_programs.world_kind import USERS, Step, Stream, Subject
from tests.support.stepped_processes import MOMENTS

ORDERS = ["is_pinned", "-is_pinned", "-id", "-text", "text,is_pinned", "is_pinned,-id", ""]
ORDERS_OF_TENANTS = ["-id", "text", "-text", ""]
SIZES = [1, 2, 3, 4, 6, None]


class CountedNoteSerializer(ModelSerializer):
    club_name = CharField(source="club.name")
    count = IntegerField()

    class Meta:
        model = Note
        fields = ["id", "club_name", "text", "is_pinned", "count"]


class OrderedViewSet(NoteViewSet):
    queryset = Note.objects.all()
    filter_backends = [DjangoFilterBackend, OrderingFilter, SearchFilter]
    ordering_fields = ["id", "is_pinned", "text"]
    search_fields = ["text"]


class OrderedHallViewSet(OrderedViewSet, HallViewSet):
    """A text for each user."""


class OrderedJoinedViewSet(OrderedViewSet, JoinedViewSet):
    """Rows for each user."""


class OrderedEagerViewSet(OrderedViewSet, EagerViewSet):
    """Rows that show a column of another table."""


class OrderedBoardViewSet(OrderedViewSet, BoardViewSet):
    """Rows with prefetched ones."""


class RankedViewSet(OrderedViewSet):
    """The order of what is joined, and of what is counted."""

    serializer_class = CountedNoteSerializer

    def get_queryset(self):
        clubs = Club.members.through.objects.filter(user=self.request.user)
        rows = Note.objects.filter(club__in=clubs.values("club")).select_related("club")
        return rows.annotate(count=Count("labels")).order_by("-count", "-club__name")


class CutViewSet(OrderedViewSet):
    """A slice, whose rows depend on one another."""

    filter_backends = [DjangoFilterBackend]

    def get_queryset(self):
        return super().get_queryset().order_by("-is_pinned")

    def filter_queryset(self, queryset):
        return super().filter_queryset(queryset)[:5]


def _see_joined(world: World, user: str) -> dict[int, Any]:
    notes = world.of_members(user)
    notes.sort(key=lambda note: note.pk)
    notes.sort(key=lambda note: world.clubs[note.club][0], reverse=True)
    notes.sort(key=lambda note: len(note.labels), reverse=True)
    return {
        note.pk: {
            **{"id": note.pk, "club_name": world.clubs[note.club][0], "text": note.text},
            **{"is_pinned": note.is_pinned, "count": len(note.labels)},
        }
        for note in notes
    }


def _see_plainly(world: World, user: str) -> dict[int, Any]:
    return {pk: _look(note) for pk, note in world.notes.items()}


def _see_cut(world: World, user: str) -> dict[int, Any]:
    notes = sorted(world.notes.values(), key=lambda note: (not note.is_pinned, note.pk))
    return {note.pk: _look(note) for note in notes[:5]}


def _look(note: NoteRow) -> dict[str, Any]:
    return {
        **{"id": note.pk, "club": note.club},
        **{"text": note.text, "is_pinned": note.is_pinned},
    }


def _see(stream: str, world: World, user: str) -> dict[int, Any] | None:
    return visible(world, user, Subject(stream))


class Windowed(Notes):
    """
    Any world of notes, seen in order. A subject's query has the client's window as well.

    Streams of `unordered` have an order of their own, which clients cannot choose.
    """

    orders: ClassVar = ORDERS
    sizes: ClassVar = SIZES
    unordered: ClassVar[tuple[str, ...]] = ()

    def client(self, user: str, subject: Subject) -> Client:
        query = dict(subject.query)
        window = query.pop("window", "plain")
        subject = Subject(subject.stream, tuple(query.items()))
        if window == "plain":
            return super().client(user, subject)
        client = OrderedClient(user, subject, self.streams[subject.stream])
        client.window = window
        return client

    def visible(self, world: World, user: str, subject: Subject) -> dict[int, Any] | None:
        seen = super().visible(world, user, subject)
        ordering = dict(subject.query).get("ordering")
        if seen is None or not ordering:
            return seen
        rows = sorted(seen.items())
        for term in reversed(ordering.split(",")):
            name, is_descending = term.lstrip("-"), term.startswith("-")
            rows.sort(key=lambda item, name=name: item[1][name], reverse=is_descending)
        return dict(rows)

    def topic(self, rng: random.Random) -> Step:
        stream, *_ = super().topic(rng)
        query: list[Any] = []
        if stream not in self.unordered and (ordering := rng.choice(self.orders)):
            query.append(("ordering", ordering))
        if rng.random() < 0.85:
            query.append(("window", rng.choice(self.sizes)))
        return stream, tuple(query), None

    def step(self, rng: random.Random) -> Step | None:
        if rng.random() < 0.15:
            return ("grow", rng.randrange(10), rng.choice(self.sizes))
        return None


class WindowNotes(Windowed):
    """The world of notes, as rows of many shapes."""

    name = "windows"
    unordered = ("ranked", "cut")
    streams = {
        "hall": Stream(OrderedHallViewSet, partial(_see, "hall"), has_rows=False),
        "joined": Stream(OrderedJoinedViewSet, partial(_see, "joined"), has_rows=False),
        "board": Stream(OrderedBoardViewSet, partial(_see, "board"), has_rows=False),
        "ranked": Stream(RankedViewSet, _see_joined, has_rows=False),
        "all": Stream(OrderedViewSet, _see_plainly, has_rows=False),
        "cut": Stream(CutViewSet, _see_cut, has_rows=False),
    }

    def write(self, rng: random.Random) -> Step:
        number = rng.randrange(10)
        if rng.random() < 0.2:
            return ("create", rng.randrange(2), rng.random() < 0.5)
        if rng.random() < 0.1:
            return ("enter", rng.randrange(2), rng.choice(USERS))
        if rng.random() < 0.1:
            return ("rename", number)
        return super().write(rng)


class WindowJoins(WindowNotes):
    """Notes that show a column of another table, whose rows are often written."""

    name = "windows of joined columns"
    streams = {
        "eager": Stream(OrderedEagerViewSet, partial(_see, "eager"), has_rows=False),
        "ranked": Stream(RankedViewSet, _see_joined, has_rows=False),
    }

    def write(self, rng: random.Random) -> Step:
        return ("rename", rng.randrange(10)) if rng.random() < 0.2 else super().write(rng)


class WindowEdges(WindowNotes):
    """Full windows whose last rows are compared with changed ones, even of a single window."""

    name = "windows with edges"
    orders: ClassVar = ["is_pinned", "-is_pinned", "is_pinned,-id"]
    sizes: ClassVar = [1, 2, 3]
    streams = {"all": Stream(OrderedViewSet, _see_plainly, has_rows=False)}

    @contextmanager
    def around(self, shared: Any) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(window_edges, "_WORTH_COMPARING", 1)
            yield

    def start(self, rng: random.Random) -> list[Step]:
        return [*super().start(rng), *[("create", 0, rng.random() < 0.5) for _ in range(3)]]

    def write(self, rng: random.Random) -> Step:
        number = rng.randrange(10)
        steps = [("create", 0, rng.random() < 0.5), ("pin", number), ("delete", number)]
        return rng.choices([*steps, super().write(rng)], [3, 4, 3, 2])[0]

    def step(self, rng: random.Random) -> Step | None:
        if rng.random() < 0.5:
            # An edge that has moved matters for the next write that a pass reads.
            meanwhile = rng.choice(MOMENTS), [self.write(rng)], rng.random() < 0.5
            return ("look_while", rng.randrange(2), meanwhile, [self.write(rng)])
        return super().step(rng)


def ordered(streams: Mapping[str, Stream]) -> dict[str, Stream]:
    """The same streams; clients choose their order."""
    columns = {"filter_backends": [OrderingFilter], "ordering_fields": ["id", "text"]}

    def view(stream: Stream) -> type:
        return type(stream.viewset.__name__, (stream.viewset,), columns)

    return {name: replace(s, viewset=view(s), has_rows=False) for name, s in streams.items()}


class WindowTenants(Windowed, TenantNotes):
    """Tenants of a thread, a context or a connection object, each with windows of its own rows."""

    name = "windows of tenants"
    streams = ordered(TenantNotes.streams)
    orders = ORDERS_OF_TENANTS


class WindowPolicies(Windowed, PolicyNotes):
    """Tenants by policy and by schema, on PostgreSQL."""

    name = "windows of tenants of PostgreSQL"
    streams = ordered(PolicyNotes.streams)
    orders = ORDERS_OF_TENANTS
