"""
Worlds in which other classes write: historical models of migrations, a class made after start-up,
an unmanaged twin; and rows in two tables, of which one is written.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, ClassVar

from django.apps import apps
from django.db import models
from django.db.migrations.state import ProjectState
from rest_framework.serializers import ModelSerializer

from tests.models import Book, Novel
from tests.support.random_programs.note_world import NoteViewSet, PlainNotes, World, read
from tests.support.random_programs.random_writes import NoteWriter, one, write_notes
from tests.support.random_programs.world_kind import USERS, Step, Stream


class NoteTwin(models.Model):
    """The notes again, for an API of its own."""

    club_id = models.BigIntegerField()
    text = models.CharField(max_length=200)
    is_pinned = models.BooleanField(default=False)

    class Meta:
        app_label = "tests"
        managed = False
        db_table = "tests_note"


class TwinSerializer(ModelSerializer):
    class Meta:
        model = NoteTwin
        fields = ["id", "text"]


class TwinViewSet(NoteViewSet):
    """The pinned rows of the twin, for all users."""

    serializer_class = TwinSerializer
    queryset = NoteTwin.objects.filter(is_pinned=True).order_by("id")
    filter_backends = []


class BookSerializer(ModelSerializer):
    """A book with what its novel adds, as polymorphic serializers show it."""

    class Meta:
        model = Book
        fields = ["id", "title"]

    def to_representation(self, book):
        novel = Novel.objects.filter(pk=book.pk).first()
        return {**super().to_representation(book), "plot": novel and novel.plot}


class NovelSerializer(ModelSerializer):
    class Meta:
        model = Novel
        fields = ["id", "title", "plot"]


class BookViewSet(NoteViewSet):
    """Books whose title has one's name."""

    serializer_class = BookSerializer
    filter_backends = []
    model: Any = Book

    def get_queryset(self):
        return self.model.objects.filter(title__contains=self.request.user.username).order_by("id")


class NovelViewSet(BookViewSet):
    serializer_class = NovelSerializer
    model = Novel


@lru_cache(1)
def historical() -> Any:
    """The models as a data migration sees them."""
    state = ProjectState.from_apps(apps).apps
    names = ["Note", "Club", "Label", "Ban"]
    found = {name: state.get_model("tests", name) for name in names}
    return SimpleNamespace(**found, User=state.get_model("auth", "User"))


def late_class() -> Any:
    """A class of the notes' table that is made after start-up."""
    meta = type("Meta", (), {"app_label": "late", "db_table": "tests_note"})
    columns = {
        "club_id": models.BigIntegerField(),
        "text": models.CharField(max_length=200),
        "is_pinned": models.BooleanField(default=False),
    }
    return type("LateNote", (models.Model,), {"__module__": __name__, "Meta": meta, **columns})


class ClassWriter(NoteWriter):
    """Writes by other classes, and to books and novels."""

    late: Any = None

    def by(self, name: str, write: Step) -> None:
        """Write by the classes of that name."""
        mine = NoteWriter.of
        twins = {"twin": NoteTwin, "late": self.late}
        if name == "historical":
            self.of = historical()
        elif write[0] != "delete" or self._is_bare(write[1]):
            self.of = SimpleNamespace(**{**vars(mine), "Note": twins[name]})
        else:
            return
        try:
            self.perform([write])
        finally:
            self.of = mine

    def _is_bare(self, number: int) -> bool:
        """Whether the note has no labels, which a twin does not know to take with it."""
        note = one(NoteWriter.of.Note, number)
        return note is None or not note.labels.exists()

    def book(self, readers: list[str]) -> None:
        Book.objects.create(title=self._titled(readers))

    def novel(self, readers: list[str]) -> None:
        Novel.objects.create(title=self._titled(readers), plot=self.mark())

    def plot(self, number: int) -> None:
        """The child's own column alone."""
        if (novel := one(Novel, number)) is not None:
            novel.plot = self.mark()
            novel.save_base(raw=True, update_fields=["plot"])

    def title(self, number: int, readers: list[str]) -> None:
        """By the parent's class."""
        if (book := one(Book, number)) is not None:
            book.title = self._titled(readers)
            book.save()

    def retitle(self, number: int, readers: list[str]) -> None:
        """By the child's class, the parent's column alone."""
        if (novel := one(Novel, number)) is not None:
            novel.title = self._titled(readers)
            novel.save(update_fields=["title"])

    def burn(self, number: int) -> None:
        if (book := one(Book, number)) is not None:
            book.delete()

    def unbind(self, number: int) -> None:
        """The novel goes, its book stays."""
        if (novel := one(Novel, number)) is not None:
            novel.delete(keep_parents=True)

    def extend(self, number: int) -> None:
        """A book becomes a novel."""
        if (book := one(Book, number)) is not None and not hasattr(book, "novel"):
            Novel(book_ptr_id=book.pk, title=book.title, plot=self.mark()).save_base(raw=True)

    def _titled(self, readers: list[str]) -> str:
        self._count += 1
        return f"{self._count} {' '.join(readers)}"


@dataclass(frozen=True)
class BookWorld(World):
    """Books by key: title, and plot or None."""

    books: dict[int, tuple[str, str | None]] = field(default_factory=dict)


def pinned(world: BookWorld, user: str) -> dict[int, Any]:
    return {n.pk: {"id": n.pk, "text": n.text} for n in world.notes.values() if n.is_pinned}


def books(world: BookWorld, user: str) -> dict[int, Any]:
    return {
        pk: {"id": pk, "title": title, "plot": plot}
        for pk, (title, plot) in world.books.items()
        if user in title
    }


def novels(world: BookWorld, user: str) -> dict[int, Any]:
    return {pk: row for pk, row in books(world, user).items() if row["plot"] is not None}


class OtherClasses(PlainNotes):
    """The plain world, written to by other classes, with books in two tables."""

    name = "other classes"
    writer = ClassWriter
    streams: ClassVar = {
        **PlainNotes.streams,
        "twins": Stream(TwinViewSet, pinned),
        "books": Stream(BookViewSet, books),
        "novels": Stream(NovelViewSet, novels),
    }

    @contextmanager
    def prepared(self, capture: str) -> Iterator[None]:
        historical()
        ClassWriter.late = late_class()
        try:
            yield
        finally:
            del apps.all_models["late"]
            apps.clear_cache()

    def visible(self, world: Any, user: str, subject: Any) -> dict[int, Any] | None:
        if subject.stream in PlainNotes.streams:
            return super().visible(world, user, subject)
        return super(PlainNotes, self).visible(world, user, subject)

    def names(self, world: Any, stream: str) -> list[int]:
        return sorted(world.books if stream in ("books", "novels") else world.notes)

    def topic(self, rng: random.Random) -> Step:
        stream, query, row = super().topic(rng)
        if rng.random() < 0.5:
            stream, query = rng.choice(["twins", "books", "novels"]), ()
        return stream, query if stream in PlainNotes.streams else (), row

    def read(self) -> BookWorld:
        found = Book.objects.order_by("pk").values_list("pk", "title", "novel__plot")
        return BookWorld(**vars(read()), books={pk: (title, plot) for pk, title, plot in found})

    def forget(self) -> None:
        for model in (Novel, Book):
            model._base_manager.all()._raw_delete("default")
        super().forget()

    def start(self, rng: random.Random) -> list[Step]:
        return [*super().start(rng), ("novel", some(rng)), ("book", some(rng))]

    def write(self, rng: random.Random) -> Step:
        number, chance = rng.randrange(10), rng.random()
        if chance < 0.35:
            return rng.choice(
                [
                    ("book", some(rng)),
                    ("novel", some(rng)),
                    ("plot", number),
                    ("plot", number),
                    ("title", number, some(rng)),
                    ("retitle", number, some(rng)),
                    ("burn", number),
                    ("unbind", number),
                    ("extend", number),
                ]
            )
        if chance < 0.8:
            return self._by_another(rng, number)
        return write_notes(rng)

    def _by_another(self, rng: random.Random, number: int) -> Step:
        club, user = rng.randrange(10), rng.choice(USERS)
        # By managers of Django's own bulk operations are not seen.
        writes: list[Step] = [
            ("create", club, rng.random() < 0.5),
            ("edit", number),
            ("pin", number),
            ("move", number, club),
            ("delete", number),
        ]
        of_others: list[Step] = [
            ("label", number, rng.choice(["red", "blue"])),
            ("delete_label", number),
            ("rename", club),
            ("hide", club),
            ("close_club", club),
            ("enter", club, user),
            ("exit", club, user),
            ("promote", user),
            ("ban", user),
        ]
        name = rng.choice(["historical", "historical", "twin", "late"])
        return ("by", name, rng.choice([*writes, *of_others] if name == "historical" else writes))


def some(rng: random.Random) -> list[str]:
    """The users who may read it."""
    return [user for user in USERS if rng.random() < 0.6]
