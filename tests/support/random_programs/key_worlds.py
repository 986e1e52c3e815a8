"""
Worlds of keys of every kind, and of rows that clients know by another name than their key.
"""

from __future__ import annotations

import base64
import random
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from datetime import timezone as fixed
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

from django.utils import timezone
from rest_framework.serializers import CharField, ModelSerializer

from tests.models import Item
from tests.support import keyed_models
from tests.support.random_programs.note_world import NoteViewSet
from tests.support.random_programs.random_writes import Writer, one
from tests.support.random_programs.world_kind import USERS, Kind, Step, Stream

NOON = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)

#: By name: the model, what writers assign, and what a serializer shows of what is there.
KEYS: dict[str, tuple[Any, list[Any], Callable[[Any], Any]]] = {
    "integers": (keyed_models.Integers, [7, "8", 2**62], int),
    "uuids": (keyed_models.Uuids, [uuid.UUID(int=10**30), f"{{{uuid.UUID(int=5)}}}".upper()], str),
    "texts": (keyed_models.Texts, [keyed_models.Hue.RED, keyed_models.Shade.DARK, "it's", 7], str),
    "decimals": (keyed_models.Decimals, [Decimal("1.5"), Decimal("1E+2"), "2.50", 3], str),
    "moments": (
        keyed_models.Moments,
        [NOON, NOON.astimezone(fixed(timedelta(hours=2))) + timedelta(days=1)],
        lambda moment: timezone.localtime(moment).isoformat(),
    ),
    "days": (keyed_models.Days, [date(2024, 2, 29), NOON + timedelta(days=1)], date.isoformat),
    "bytes": (
        keyed_models.Bytes,
        [b"\x00\xff", memoryview(b"x\x00")],
        lambda value: base64.b64encode(bytes(value)).decode(),
    ),
    "floats": (keyed_models.Floats, [1.5, 2], float),
    "tickets": (keyed_models.Tickets, [keyed_models.Ticket(7), 8], str),
    "lowers": (keyed_models.Lowers, ["ABC", "def"], str),
    "references": (keyed_models.ToDecimals, [Decimal("7.5"), Decimal("8")], float),
}


class KeyedViewSet(NoteViewSet):
    """Rows whose note has one's name."""

    # Keys may have dots.
    lookup_value_regex = "[^/]+"
    filter_backends = []
    model: Any

    def get_queryset(self):
        return self.model.objects.filter(note__contains=self.request.user.username).order_by("pk")


def shows(name: str, shown: Any) -> type:
    """The viewset of a model of `keyed`."""
    meta = type("Meta", (), {"model": shown, "fields": ["key", "note"]})
    columns: dict[str, Any] = {"Meta": meta}
    if shown is keyed_models.Tickets:
        # DRF would take it for an integer.
        columns["key"] = CharField()
    serializer = type(f"{name.title()}Serializer", (ModelSerializer,), columns)
    attributes = {"model": shown, "serializer_class": serializer}
    return type(f"{name.title()}ViewSet", (KeyedViewSet,), attributes)


class PublicSerializer(ModelSerializer):
    class Meta:
        model = Item
        fields = ["name", "version"]


class PublicViewSet(NoteViewSet):
    """Items by their names, which change; the key stays hidden."""

    lookup_field = "name"
    lookup_value_regex = "[^/]+"
    serializer_class = PublicSerializer
    filter_backends = []

    def get_queryset(self):
        return Item.objects.filter(name__contains=self.request.user.username).order_by("id")


#: Notes by what clients call their rows, by kind of key.
Rows = dict[str, dict[Any, Any]]


def of_reader(name: str, world: Rows, user: str) -> dict[Any, Any]:
    return {key: {"key": key, "note": note} for key, note in world[name].items() if user in note}


def public(world: Rows, user: str) -> dict[Any, Any]:
    found = world["public"].items()
    return {name: {"name": name, "version": version} for name, version in found if user in name}


class KeyWriter(Writer):
    """Writes to rows by the values that writers assign."""

    def put(self, kind: str, number: int, readers: list[str]) -> None:
        """A row that may be there already."""
        model, given, _ = KEYS[kind]
        pk = given[number % len(given)]
        if model is keyed_models.ToDecimals:
            keyed_models.Decimals.objects.get_or_create(key=pk)
        model(pk=pk, note=self._note(readers)).save()

    def change(self, kind: str, number: int, readers: list[str]) -> None:
        """A row that was read."""
        if (row := one(KEYS[kind][0], number)) is not None:
            row.note = self._note(readers)
            row.save(update_fields=["note"])

    def remove(self, kind: str, number: int) -> None:
        if (row := one(KEYS[kind][0], number)) is not None:
            row.delete()

    def remove_given(self, kind: str, number: int) -> None:
        """By the value that a writer has, unread."""
        model, given, _ = KEYS[kind]
        model(pk=given[number % len(given)]).delete()

    def remove_all(self, kind: str) -> None:
        KEYS[kind][0].objects.all().delete()

    def item(self, readers: list[str]) -> None:
        Item.objects.create(name=self._note(readers))

    def rename(self, number: int, readers: list[str]) -> None:
        if (item := one(Item, number)) is not None:
            item.name = self._note(readers)
            item.save()

    def swap(self, number: int) -> None:
        """Another row gets the name of one that goes, at once."""
        item, other = one(Item, number), one(Item, number + 1)
        if item is not None and item != other:
            name = item.name
            item.delete()
            other.name = name
            other.save()

    def count(self, number: int) -> None:
        if (item := one(Item, number)) is not None:
            item.version += 1
            item.save()

    def count_all(self) -> None:
        Item.objects.update(version=number + 1 if (number := self._next()) else 0)

    def drop(self, number: int) -> None:
        if (item := one(Item, number)) is not None:
            item.delete()

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _note(self, readers: list[str]) -> str:
        return f"{self._next()} {' '.join(readers)}".strip()


class Keys(Kind):
    """Rows by keys of every kind, and items by names."""

    name = "keys"
    writer = KeyWriter
    streams: ClassVar = {
        **{
            # DRF finds no row by what its serializers show of bytes.
            n: Stream(shows(n, m), partial(of_reader, n), key="key", has_rows=n != "bytes")
            for n, (m, *_) in KEYS.items()
        },
        "public": Stream(PublicViewSet, public, key="name"),
    }

    def read(self) -> Rows:
        found: Rows = {
            name: {show(pk): note for pk, note in model.objects.values_list("pk", "note")}
            for name, (model, _, show) in KEYS.items()
        }
        return {**found, "public": dict(Item.objects.values_list("name", "version"))}

    def forget(self) -> None:
        for model, *_ in reversed(KEYS.values()):
            model._base_manager.all()._raw_delete("default")
        Item._base_manager.all()._raw_delete("default")

    def start(self, rng: random.Random) -> list[Step]:
        puts = [("put", kind, n, some(rng)) for kind in self._few(rng) for n in range(2)]
        return [*puts, ("item", some(rng)), ("item", some(rng))]

    def _few(self, rng: random.Random) -> list[str]:
        # One world has few kinds, so that what is written is what is subscribed to.
        self._kinds = rng.sample([*KEYS], 2)
        return self._kinds

    def topic(self, rng: random.Random) -> Step:
        stream = rng.choice([*self._kinds, "public"])
        is_row = self.streams[stream].has_rows and rng.random() < 0.25
        return stream, (), rng.randrange(10) if is_row else None

    def write(self, rng: random.Random) -> Step:
        kind, number, readers = rng.choice(self._kinds), rng.randrange(10), some(rng)
        return rng.choice(
            [
                ("put", kind, number, readers),
                ("put", kind, number, readers),
                ("change", kind, number, readers),
                ("change", kind, number, readers),
                ("remove", kind, number),
                ("remove_given", kind, number),
                ("remove_all", kind),
                ("item", readers),
                ("rename", number, readers),
                ("rename", number, readers),
                ("swap", number),
                ("count", number),
                ("count_all",),
                ("drop", number),
            ]
        )


def some(rng: random.Random) -> list[str]:
    """The users who may read it."""
    return [user for user in USERS if rng.random() < 0.7]
