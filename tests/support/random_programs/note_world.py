"""
A small world for many programs: clubs with members, and notes in them, seen in several ways.

Viewsets show it over sockets; `read()` and `visible()` say, knowing nothing of Django REST
framework, who may see which notes and how they look.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.serializers import (
    CharField,
    ModelSerializer,
    SerializerMethodField,
    SlugRelatedField,
)

from rest_channels.viewsets import ReadOnlyModelConsumerViewSet
from tests.models import Ban, Club, Label, Note
from tests.support.random_programs.random_writes import LABELS, NoteWriter, write_notes
from tests.support.random_programs.world_kind import USERS, Kind, Step, Stream, Subject

# What is subscribed to


class NoteSerializer(ModelSerializer):
    class Meta:
        model = Note
        fields = ["id", "club", "text", "is_pinned"]


class NamedNoteSerializer(ModelSerializer):
    club_name = CharField(source="club.name")

    class Meta:
        model = Note
        fields = ["id", "club_name", "text", "is_pinned"]


class ReaderNoteSerializer(NoteSerializer):
    """Every reader gets a text of their own."""

    reader = SerializerMethodField()

    class Meta(NoteSerializer.Meta):
        fields = [*NoteSerializer.Meta.fields, "reader"]

    def get_reader(self, note):
        user = self.context["request"].user
        return f"{user.username}{' of the staff' if user.is_staff else ''}"


class LabelledNoteSerializer(ModelSerializer):
    labels = SlugRelatedField("name", many=True, read_only=True)

    class Meta:
        model = Note
        fields = ["id", "text", "is_pinned", "labels"]


class IsNotBanned(BasePermission):
    def has_permission(self, request, view):
        return not Ban.objects.filter(user=request.user.pk).exists()


class IsMember(BasePermission):
    def has_object_permission(self, request, view, note):
        return note.club.members.filter(pk=request.user.pk).exists()


class NoteViewSet(ReadOnlyModelConsumerViewSet):
    queryset = Note.objects.order_by("id")
    serializer_class = NoteSerializer
    authentication_classes = [TokenAuthentication, SessionAuthentication]
    permission_classes = [IsAuthenticated]
    filterset_fields = ["is_pinned"]


class JoinedViewSet(NoteViewSet):
    """Notes of clubs that one is a member of, by a join."""

    serializer_class = ReaderNoteSerializer

    def get_queryset(self):
        return super().get_queryset().filter(club__members=self.request.user)


class EagerViewSet(NoteViewSet):
    """The same, by a list that is read before."""

    serializer_class = NamedNoteSerializer

    def get_queryset(self):
        clubs = Club.members.through.objects.filter(user=self.request.user)
        pks = list(clubs.order_by("club_id").values_list("club_id", flat=True))
        return super().get_queryset().filter(club__in=pks).select_related("club")


class HallViewSet(NoteViewSet):
    """Notes of clubs that are not only for staff."""

    serializer_class = ReaderNoteSerializer

    def get_queryset(self):
        if self.request.user.is_staff:
            return super().get_queryset()
        return super().get_queryset().filter(club__is_staff_only=False)


class BoardViewSet(NoteViewSet):
    """The same for all who are not banned."""

    serializer_class = LabelledNoteSerializer
    permission_classes = [IsAuthenticated, IsNotBanned]
    filterset_fields = ["is_pinned", "labels__name"]

    def get_queryset(self):
        queryset = super().get_queryset().prefetch_related("labels")
        return queryset.filter(club__in=Club.objects.filter(is_staff_only=False))


class ShelfViewSet(NoteViewSet):
    """Rows that an object permission guards."""

    permission_classes = [IsAuthenticated, IsMember]


VIEWSETS = {
    "joined": JoinedViewSet,
    "eager": EagerViewSet,
    "hall": HallViewSet,
    "board": BoardViewSet,
    "shelf": ShelfViewSet,
}

QUERIES = [(), (), (("is_pinned", "true"),), (("is_pinned", "false"),)]

# Who may see what, said once more


@dataclass(frozen=True)
class NoteRow:
    pk: int
    club: int
    text: str
    is_pinned: bool
    labels: tuple[str, ...]


@dataclass(frozen=True)
class World:
    """All of it at one moment: names by key, users by name."""

    clubs: dict[int, tuple[str, bool]]
    members: frozenset[tuple[int, str]]
    notes: dict[int, NoteRow]
    staff: frozenset[str]
    banned: frozenset[str]
    #: Notes of another schema than the default.
    others: dict[int, NoteRow] = field(default_factory=dict)

    def is_member(self, user: str, note: NoteRow) -> bool:
        """Whether the note is of a club of `user`."""
        return (note.club, user) in self.members

    def of_members(self, user: str) -> list[NoteRow]:
        """The notes of clubs of `user`, by their keys."""
        return [note for note in self.notes.values() if self.is_member(user, note)]


def read() -> World:
    """The world as it is now."""
    labels: dict[int, list[str]] = {}
    pairs = Note.labels.through.objects.order_by("label_id")
    for note, name in pairs.values_list("note_id", "label__name"):
        labels.setdefault(note, []).append(name)
    return World(
        clubs={pk: rest for pk, *rest in Club.objects.values_list("pk", "name", "is_staff_only")},
        members=frozenset(Club.members.through.objects.values_list("club_id", "user__username")),
        notes={
            row[0]: NoteRow(*row, tuple(labels.get(row[0], ())))
            for row in Note.objects.order_by("pk").values_list("pk", "club_id", "text", "is_pinned")
        },
        staff=frozenset(
            get_user_model().objects.filter(is_staff=True).values_list("username", flat=True)
        ),
        banned=frozenset(Ban.objects.values_list("user__username", flat=True)),
    )


def visible(world: World, user: str, subject: Subject) -> dict[int, Any] | None:
    """The notes that `user` may see, as they look, by key; None where all is refused."""
    if subject.stream == "board" and user in world.banned:
        return None
    return {
        pk: _look(world, user, subject.stream, note)
        for pk, note in world.notes.items()
        if _is_wanted(note, subject) and _may_see(world, user, subject.stream, note)
    }


def _is_wanted(note: NoteRow, subject: Subject) -> bool:
    if subject.row is not None and note.pk != subject.row:
        return False
    query = dict(subject.query)
    if "is_pinned" in query and (query["is_pinned"] == "true") != note.is_pinned:
        return False
    return "labels__name" not in query or query["labels__name"] in note.labels


def _may_see(world: World, user: str, stream: str, note: NoteRow) -> bool:
    if stream in ("joined", "eager", "shelf"):
        return world.is_member(user, note)
    is_secret = world.clubs[note.club][1]
    return not is_secret or (stream == "hall" and user in world.staff)


def _look(world: World, user: str, stream: str, note: NoteRow) -> dict[str, Any]:
    look: dict[str, Any] = {"id": note.pk, "text": note.text, "is_pinned": note.is_pinned}
    if stream in ("joined", "hall", "shelf"):
        look["club"] = note.club
    if stream == "eager":
        look["club_name"] = world.clubs[note.club][0]
    if stream in ("joined", "hall"):
        look["reader"] = f"{user}{' of the staff' if user in world.staff else ''}"
    if stream == "board":
        look["labels"] = sorted(note.labels)
    return look


def _visible(stream: str, world: World, user: str) -> dict[int, Any] | None:
    return visible(world, user, Subject(stream))


def forget() -> None:
    """Empty the world, unseen by anybody."""
    for model in (Note.labels.through, Note, Club.members.through, Ban, Club, Label):
        model._base_manager.all()._raw_delete("default")
    get_user_model()._base_manager.filter(Q(is_staff=True)).update(is_staff=False)


class Notes(Kind):
    """Clubs, their members and notes, on one database that knows nothing of who asks."""

    name = "plain"
    writer = NoteWriter
    streams = {n: Stream(v, partial(_visible, n)) for n, v in VIEWSETS.items()}

    def read(self) -> World:
        return read()

    def forget(self) -> None:
        forget()

    def start(self, rng: random.Random) -> list[Step]:
        writes: list[Step] = [("open_club", False), ("open_club", rng.random() < 0.5)]
        writes += [("enter", rng.randrange(2), user) for user in USERS if rng.random() < 0.7]
        writes += [("create", rng.randrange(2), rng.random() < 0.5) for _ in range(3)]
        if rng.random() < 0.5:
            writes.append(("label", rng.randrange(3), rng.choice(LABELS)))
        if rng.random() < 0.3:
            writes.append(("promote", rng.choice(USERS)))
        return writes

    def write(self, rng: random.Random) -> Step:
        return write_notes(rng)

    def hiding(self, rng: random.Random) -> list[Step]:
        number, user = rng.randrange(10), rng.choice(USERS)
        hidings = [("exit_all", user), ("ban", user), ("hide_many", True), ("hide", number)]
        return [rng.choice(hidings), ("update_many", 0), ("update_many", 1)]


class PlainNotes(Notes):
    """Those, filtered by clients, too."""

    def visible(self, world: World, user: str, subject: Subject) -> dict[int, Any] | None:
        return visible(world, user, subject)

    def names(self, world: World, stream: str) -> list[int]:
        return sorted(world.notes)

    def topic(self, rng: random.Random) -> Step:
        stream = rng.choice([*self.streams])
        query: Any = rng.choice(QUERIES)
        if stream == "board" and rng.random() < 0.3:
            query = (("labels__name", rng.choice(LABELS)),)
        is_row = stream == "shelf" or rng.random() < 0.25
        return stream, query, rng.randrange(10) if is_row else None
