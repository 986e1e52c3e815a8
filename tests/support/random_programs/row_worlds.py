"""
Worlds in which rows are made of more than themselves: of the other rows of their queryset, and of
what nested prefetches bring.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.contenttypes.prefetch import GenericPrefetch
from django.db.models import Count, Exists, F, OuterRef, Prefetch, Window
from django.db.models.expressions import RawSQL
from django.db.models.functions import RowNumber
from rest_framework.serializers import IntegerField, ListSerializer, ModelSerializer

from tests.models import Club, Label, Note, Pin
from tests.support.random_programs.note_world import Notes, NoteViewSet, World, read
from tests.support.random_programs.random_writes import NoteWriter, one, write_notes
from tests.support.random_programs.world_kind import IS_POSTGRESQL, Step, Stream

PLACE = Window(RowNumber(), partition_by=F("club"), order_by=F("id").desc())


class TextSerializer(ModelSerializer):
    class Meta:
        model = Note
        fields = ["id", "text"]


class PlacedSerializer(TextSerializer):
    place = IntegerField()

    class Meta(TextSerializer.Meta):
        fields = ["id", "text", "place"]


class NumberedList(ListSerializer):
    def to_representation(self, data):
        rows = super().to_representation(data)
        return [{**row, "place": number} for number, row in enumerate(rows, 1)]


class NumberedSerializer(TextSerializer):
    class Meta(TextSerializer.Meta):
        list_serializer_class = NumberedList


class MineViewSet(NoteViewSet):
    """Notes of one's clubs."""

    serializer_class = TextSerializer
    filter_backends = []

    def get_queryset(self):
        return Note.objects.filter(club__members=self.request.user).order_by("id")


class NewestViewSet(MineViewSet):
    """The newest note of each club."""

    def get_queryset(self):
        return super().get_queryset().order_by("club", "-id").distinct("club")


class PlacedViewSet(MineViewSet):
    """Each with its place among those of its club."""

    serializer_class = PlacedSerializer

    def get_queryset(self):
        return super().get_queryset().annotate(place=PLACE)


class TopViewSet(PlacedViewSet):
    """The two newest of each club."""

    def get_queryset(self):
        return super().get_queryset().filter(place__lte=2)


class SliceViewSet(MineViewSet):
    """The three newest of all."""

    def get_queryset(self):
        return super().get_queryset().order_by("-id")[:3]


class UnionViewSet(MineViewSet):
    """One's own and what is pinned where all may look."""

    def get_queryset(self):
        pinned = Note.objects.filter(is_pinned=True, club__is_staff_only=False)
        return super().get_queryset().order_by().union(pinned).order_by("id")


class DifferenceViewSet(MineViewSet):
    """One's own less what is pinned."""

    def get_queryset(self):
        notes = super().get_queryset().order_by()
        return notes.difference(Note.objects.filter(is_pinned=True))


class OldestViewSet(MineViewSet):
    """Those of which their club has no older one that is pinned."""

    def get_queryset(self):
        older = Note.objects.filter(club=OuterRef("club"), id__lt=OuterRef("id"), is_pinned=True)
        return super().get_queryset().filter(~Exists(older))


class CountedViewSet(MineViewSet):
    """Each with how many labels it has."""

    serializer_class = PlacedSerializer

    def get_queryset(self):
        return super().get_queryset().annotate(place=Count("labels"))


class RawViewSet(MineViewSet):
    """Each with how many notes there are, by SQL of the project's own."""

    serializer_class = PlacedSerializer

    def get_queryset(self):
        return super().get_queryset().annotate(place=RawSQL("SELECT COUNT(*) FROM tests_note", ()))


class ValuesViewSet(MineViewSet):
    """A list of values, not of rows of a model, is refused."""

    def get_queryset(self):
        return super().get_queryset().values("id", "text")


class NumberedViewSet(MineViewSet):
    """Each with its number in the list."""

    serializer_class = NumberedSerializer


# Who may see what of it

See = Callable[[World, str], dict[int, Any]]


def placed(world: World, user: str) -> Iterator[tuple[Any, int]]:
    """The notes of one's clubs, the newest first, with their place among those of their club."""
    count: dict[int, int] = defaultdict(int)
    for note in reversed(world.of_members(user)):
        count[note.club] += 1
        yield note, count[note.club]


def texts(notes: Any) -> dict[int, Any]:
    return {note.pk: {"id": note.pk, "text": note.text} for note in notes}


def places(pairs: Any) -> dict[int, Any]:
    return {note.pk: {"id": note.pk, "text": note.text, "place": place} for note, place in pairs}


def mine_and_pinned(world: World, user: str) -> dict[int, Any]:
    notes = world.notes.values()
    pinned = [n for n in notes if n.is_pinned and not world.clubs[n.club][1]]
    return texts([*world.of_members(user), *pinned])


def without_older(world: World, user: str) -> dict[int, Any]:
    pinned = [note for note in world.notes.values() if note.is_pinned]
    return texts(
        note
        for note in world.of_members(user)
        if not any(older.club == note.club and older.pk < note.pk for older in pinned)
    )


class DependentNotes(Notes):
    """Rows that depend on one another."""

    name = "dependent rows"
    streams = {
        "placed": Stream(PlacedViewSet, lambda w, u: places(placed(w, u)), has_rows=False),
        "top": Stream(
            TopViewSet,
            lambda w, u: places((n, p) for n, p in placed(w, u) if p <= 2),
            has_rows=False,
        ),
        "slice": Stream(SliceViewSet, lambda w, u: texts(w.of_members(u)[-3:]), has_rows=False),
        "union": Stream(UnionViewSet, mine_and_pinned, has_rows=False),
        "difference": Stream(
            DifferenceViewSet,
            lambda w, u: texts(n for n in w.of_members(u) if not n.is_pinned),
            has_rows=False,
        ),
        "values": Stream(ValuesViewSet, lambda w, u: {}, is_refused=True, has_rows=False),
        "oldest": Stream(OldestViewSet, without_older),
        "counted": Stream(
            CountedViewSet, lambda w, u: places((n, len(n.labels)) for n in w.of_members(u))
        ),
        "raw": Stream(RawViewSet, lambda w, u: places((n, len(w.notes)) for n in w.of_members(u))),
        "numbered": Stream(
            NumberedViewSet,
            lambda w, u: places((n, p) for p, n in enumerate(w.of_members(u), 1)),
            has_rows=False,
        ),
    }
    if IS_POSTGRESQL:
        streams["newest"] = Stream(
            NewestViewSet,
            lambda w, u: texts(n for n, p in placed(w, u) if p == 1),
            has_rows=False,
        )


# Nested prefetches


class LabelTreeSerializer(TextSerializer):
    def to_representation(self, note):
        return {
            "id": note.pk,
            "marks": [
                [label.name, [[n.club.name, n.text] for n in label.pinned]]
                for label in note.labels.all()
            ],
        }


class LabelTreeViewSet(MineViewSet):
    """Notes with their labels, and for each the notes that are pinned under it with their clubs."""

    serializer_class = LabelTreeSerializer

    def get_queryset(self):
        pinned = Note.objects.select_related("club").filter(is_pinned=True).order_by("id")
        inner = Prefetch("notes", pinned, to_attr="pinned")
        labels = Label.objects.order_by("id").prefetch_related(inner)
        return super().get_queryset().prefetch_related(Prefetch("labels", labels))


class PeopleSerializer(TextSerializer):
    def to_representation(self, note):
        people = [[user.username, user.is_staff] for user in note.club.people]
        return {"id": note.pk, "people": people}


class PeopleViewSet(MineViewSet):
    """Notes of public clubs, with the members of these."""

    serializer_class = PeopleSerializer

    def get_queryset(self):
        users = Prefetch("members", User.objects.order_by("username"), to_attr="people")
        clubs = Prefetch("club", Club.objects.prefetch_related(users))
        notes = Note.objects.filter(club__is_staff_only=False)
        return notes.order_by("id").prefetch_related(clubs)


class ThroughSerializer(TextSerializer):
    def to_representation(self, note):
        return {
            "id": note.pk,
            "marks": [label.name for label in note.named],
            "count": note.club.members.count(),
        }


class ThroughViewSet(MineViewSet):
    """A filter by a subquery within a prefetch; what else is shown, the serializer fetches."""

    serializer_class = ThroughSerializer

    def get_queryset(self):
        of_staff = Note.objects.filter(labels=OuterRef("pk"), club__members__is_staff=True)
        labels = Label.objects.filter(Exists(of_staff)).order_by("id")
        return super().get_queryset().prefetch_related(Prefetch("labels", labels, to_attr="named"))


class PinSerializer(ModelSerializer):
    class Meta:
        model = Pin
        fields = ["id"]

    def to_representation(self, pin):
        match pin.target:
            case Note() as note:
                shown = [note.text, note.club.name]
            case Club() as club:
                shown = [club.name]
            case _:
                shown = []
        return {"id": pin.pk, "shows": shown}


class PinViewSet(NoteViewSet):
    """Pins, which point to rows of any model."""

    serializer_class = PinSerializer
    filter_backends = []
    queryset = Pin.objects.order_by("id").prefetch_related(
        GenericPrefetch("target", [Note.objects.select_related("club"), Club.objects.all()])
    )


@dataclass(frozen=True)
class PinnedWorld(World):
    """Pins by key: the name of a model and the key of a row."""

    pins: dict[int, tuple[str, int]] | None = None


def label_trees(world: World, user: str) -> dict[int, Any]:
    pinned = [note for note in world.notes.values() if note.is_pinned]

    def tree(name: str) -> Any:
        return [name, [[world.clubs[n.club][0], n.text] for n in pinned if name in n.labels]]

    return {
        note.pk: {"id": note.pk, "marks": [tree(name) for name in note.labels]}
        for note in world.of_members(user)
    }


def people(world: World, user: str) -> dict[int, Any]:
    return {
        note.pk: {
            "id": note.pk,
            "people": [[u, u in world.staff] for c, u in sorted(world.members) if c == note.club],
        }
        for note in world.notes.values()
        if not world.clubs[note.club][1]
    }


def through(world: World, user: str) -> dict[int, Any]:
    return {
        note.pk: {
            "id": note.pk,
            "marks": [name for name in note.labels if _is_of_staff(world, name)],
            "count": sum(club == note.club for club, _ in world.members),
        }
        for note in world.of_members(user)
    }


def _is_of_staff(world: World, name: str) -> bool:
    clubs = {note.club for note in world.notes.values() if name in note.labels}
    return any(club in clubs and user in world.staff for club, user in world.members)


def pins(world: PinnedWorld, user: str) -> dict[int, Any]:
    assert world.pins is not None
    return {pk: {"id": pk, "shows": _target(world, *at)} for pk, at in world.pins.items()}


def _target(world: World, model: str, pk: int) -> list[str]:
    if model == "club" and pk in world.clubs:
        return [world.clubs[pk][0]]
    note = world.notes.get(pk) if model == "note" else None
    return [note.text, world.clubs[note.club][0]] if note is not None else []


class PinWriter(NoteWriter):
    """Pins, too."""

    def stick(self, number: int, name: str) -> None:
        model = {"note": Note, "club": Club}[name]
        if (row := one(model, number)) is not None:
            Pin.objects.create(
                content_type=ContentType.objects.get_for_model(model), object_id=row.pk
            )

    def turn(self, number: int, other: int) -> None:
        pin, note = one(Pin, number), one(Note, other)
        if pin is not None and note is not None:
            pin.target = note
            pin.save()

    def unstick(self, number: int) -> None:
        if (pin := one(Pin, number)) is not None:
            pin.delete()


class NestedNotes(Notes):
    """Rows that show what nested prefetches bring."""

    name = "nested prefetches"
    writer = PinWriter
    streams = {
        "trees": Stream(LabelTreeViewSet, label_trees),
        "people": Stream(PeopleViewSet, people),
        "through": Stream(ThroughViewSet, through),
        "pins": Stream(PinViewSet, pins),
    }

    def read(self) -> PinnedWorld:
        found = Pin.objects.values_list("pk", "content_type__model", "object_id")
        return PinnedWorld(**vars(read()), pins={pk: at for pk, *at in found.order_by("pk")})

    def forget(self) -> None:
        Pin._base_manager.all()._raw_delete("default")
        super().forget()

    def start(self, rng: random.Random) -> list[Step]:
        more = [("stick", 0, "note"), ("stick", 0, "club")]
        labels = [("label", n, rng.choice(["red", "blue"])) for n in range(2)]
        return [*super().start(rng), *labels, *more]

    def write(self, rng: random.Random) -> Step:
        number = rng.randrange(10)
        if rng.random() < 0.2:
            return rng.choice(
                [
                    ("stick", number, rng.choice(["note", "club"])),
                    ("turn", number, rng.randrange(10)),
                    ("unstick", number),
                ]
            )
        if rng.random() < 0.2:
            return ("label", number, rng.choice(["red", "blue"]))
        return write_notes(rng)
