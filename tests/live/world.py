"""
A small world for many programs: clubs with members, and notes in them, seen in several ways.

`application` shows it over sockets; `read()` and `visible()` say, knowing nothing of Django REST
framework, who may see which notes and how they look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from channels.routing import URLRouter
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

application = URLRouter(
    [route for name, viewset in VIEWSETS.items() for route in viewset.as_routes(name, name)]
)

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


@dataclass(frozen=True)
class Subject:
    """What one subscribes to: a stream, filtered, or one of its rows."""

    stream: str
    query: tuple[tuple[str, str], ...] = ()
    row: int | None = None


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
        return (note.club, user) in world.members
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


def forget() -> None:
    """Empty the world, unseen by anybody."""
    for model in (Note.labels.through, Note, Club.members.through, Ban, Club, Label):
        model._base_manager.all()._raw_delete("default")
    get_user_model()._base_manager.filter(Q(is_staff=True)).update(is_staff=False)
