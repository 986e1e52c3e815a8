"""
Writes of random programs: steps as data, and writers that perform them.

Numbers in a step choose among what is there when it comes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from tests.models import Ban, Club, Label, Note
from tests.support.random_programs.world_kind import USERS, Step

LABELS = ["red", "blue"]


class _Rollback(Exception):
    pass


class Writer:
    """Performs writes, by the methods that their steps name; in the thread that writes."""

    def __init__(self, tally: Counter[str]) -> None:
        self._tally = tally
        self._count = 0

    def mark(self) -> str:
        """A text that was never there."""
        self._count += 1
        return f"mark {self._count}"

    def perform(self, writes: list[Step]) -> None:
        """One after the other; those of a transaction together."""
        for name, *args in writes:
            getattr(self, name)(*args)

    def transaction(self, writes: list[Step], is_kept: bool) -> None:
        try:
            with transaction.atomic():
                self.perform(writes)
                if not is_kept:
                    raise _Rollback
        except _Rollback:
            self._tally["rolled back"] += 1


class NoteWriter(Writer):
    """Writes to clubs, their members and notes, by the classes that `of` has."""

    of: Any = SimpleNamespace(Note=Note, Club=Club, Label=Label, Ban=Ban, User=User)

    def _one(self, name: str, number: int) -> Any:
        return one(getattr(self.of, name), number)

    def _user(self, name: str) -> Any:
        return self.of.User._default_manager.get(username=name)

    def _label(self, name: str) -> Any:
        labels = self.of.Label.objects
        return labels.filter(name=name).first() or labels.create(name=name)

    # One row

    def create(self, club: int, is_pinned: bool) -> None:
        if (owner := self._one("Club", club)) is not None:
            self.of.Note.objects.create(club_id=owner.pk, text=self.mark(), is_pinned=is_pinned)

    def edit(self, number: int) -> None:
        if (note := self._one("Note", number)) is not None:
            note.text = self.mark()
            note.save()

    def pin(self, number: int) -> None:
        if (note := self._one("Note", number)) is not None:
            note.is_pinned = not note.is_pinned
            note.save(update_fields=["is_pinned"])

    def move(self, number: int, club: int) -> None:
        note, owner = self._one("Note", number), self._one("Club", club)
        if note is not None and owner is not None:
            note.club_id = owner.pk
            note.save()

    def delete(self, number: int) -> None:
        if (note := self._one("Note", number)) is not None:
            note.delete()

    def delete_all(self, club: int) -> None:
        if (owner := self._one("Club", club)) is not None:
            owner.notes.all().delete()

    # Many rows, by the manager that records the write

    def update_many(self, club: int) -> None:
        if (owner := self._one("Club", club)) is not None:
            self.of.Note.objects.filter(club=owner).update(text=self.mark())

    def create_many(self, club: int) -> None:
        if (owner := self._one("Club", club)) is not None:
            note = self.of.Note
            note.objects.bulk_create(note(club=owner, text=self.mark()) for _ in range(2))

    def bulk_update(self, number: int) -> None:
        notes = list(self.of.Note.objects.order_by("pk"))[: number % 3 + 1]
        for note in notes:
            note.is_pinned, note.text = not note.is_pinned, self.mark()
        self.of.Note.objects.bulk_update(notes, ["is_pinned", "text"])

    def hide_many(self, is_staff_only: bool) -> None:
        clubs = self.of.Club.objects.filter(is_staff_only=not is_staff_only)
        clubs.update(is_staff_only=is_staff_only)

    # Rows that decide who sees a note, and how it looks

    def label(self, number: int, name: str) -> None:
        if (note := self._one("Note", number)) is not None:
            label = self._label(name)
            if note.labels.filter(pk=label.pk).exists():
                note.labels.remove(label)
            else:
                note.labels.add(label)

    def label_all(self, name: str) -> None:
        label = self._label(name)
        label.notes.set(self.of.Note.objects.order_by("pk")[:2])

    def clear_labels(self, number: int) -> None:
        if (note := self._one("Note", number)) is not None:
            note.labels.clear()

    def delete_label(self, number: int) -> None:
        if (label := self._one("Label", number)) is not None:
            label.delete()

    def open_club(self, is_staff_only: bool) -> None:
        self.of.Club.objects.create(name=self.mark(), is_staff_only=is_staff_only)

    def rename(self, number: int) -> None:
        if (club := self._one("Club", number)) is not None:
            club.name = self.mark()
            club.save()

    def hide(self, number: int) -> None:
        if (club := self._one("Club", number)) is not None:
            club.is_staff_only = not club.is_staff_only
            club.save()

    def close_club(self, number: int) -> None:
        if (club := self._one("Club", number)) is not None:
            club.delete()

    def enter(self, number: int, user: str) -> None:
        if (club := self._one("Club", number)) is not None:
            club.members.add(self._user(user))

    def exit(self, number: int, user: str) -> None:
        if (club := self._one("Club", number)) is not None:
            club.members.remove(self._user(user))

    def exit_all(self, user: str) -> None:
        self._user(user).clubs.clear()

    def promote(self, user: str) -> None:
        account = self._user(user)
        account.is_staff = not account.is_staff
        account.save()

    def ban(self, user: str) -> None:
        bans = self.of.Ban.objects.filter(user__username=user)
        if bans.exists():
            bans.delete()
        else:
            self.of.Ban.objects.create(user=self._user(user))


def one(model: Any, number: int) -> Any:
    rows = list(model._default_manager.order_by("pk"))
    return rows[number % len(rows)] if rows else None


def several(rng: random.Random, write: Callable[[random.Random], Step]) -> list[Step]:
    """One write or some, in a transaction or not, which may be rolled back."""
    writes = [write(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    chance = rng.random()
    if chance < 0.5:
        return writes
    if chance < 0.7:
        return [("transaction", writes, True)]
    if chance < 0.85:
        # A savepoint that is rolled back, in a transaction that is not.
        inner = ("transaction", [write(rng)], rng.random() < 0.3)
        return [("transaction", [*writes, inner, write(rng)], True)]
    return [("transaction", writes, False)]


def write_notes(rng: random.Random) -> Step:
    """A write of `NoteWriter`."""
    number, club, user = rng.randrange(10), rng.randrange(10), rng.choice(USERS)
    return rng.choices(
        [
            ("create", club, rng.random() < 0.5),
            ("edit", number),
            ("pin", number),
            ("move", number, club),
            ("delete", number),
            ("delete_all", club),
            ("update_many", club),
            ("create_many", club),
            ("bulk_update", number),
            ("hide_many", rng.random() < 0.5),
            ("label", number, rng.choice(LABELS)),
            ("label_all", rng.choice(LABELS)),
            ("clear_labels", number),
            ("delete_label", number),
            ("open_club", rng.random() < 0.5),
            ("rename", club),
            ("hide", club),
            ("close_club", club),
            ("enter", club, user),
            ("exit", club, user),
            ("exit_all", user),
            ("promote", user),
            ("ban", user),
        ],
        [10, 12, 8, 6, 8, 2, 4, 4, 3, 2, 5, 2, 2, 2, 2, 3, 5, 2, 6, 6, 2, 4, 4],
    )[0]
