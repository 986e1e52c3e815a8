"""
Random querysets over shelves, items, books and notes, and random writes to them.

A `Shape` is a queryset with what a serializer shows of its rows, as a list of steps that say how
it was made.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    FilteredRelation,
    IntegerField,
    Max,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Lag, Length, Rank, RowNumber

from tests.models import Book, Club, Item, Label, Note, Novel, Shelf, Tag, Toy

NAMES = ["a", "b", "c"]


@dataclass
class Shape:
    """Made by `steps`; `shows` give the values that a row shows."""

    queryset: Any
    steps: list[str] = field(default_factory=list)
    shows: list[Callable[[Any], Any]] = field(default_factory=list)

    def show(self, row: Any) -> list[Any]:
        return [show(row) for show in self.shows]


def attribute(name: str) -> Callable[[Any], Any]:
    return lambda row: getattr(row, name)


def of(path: str) -> Callable[[Any], Any]:
    """Return the value at the end of references; None if one leads nowhere."""

    def show(row: Any) -> Any:
        for name in path.split("."):
            row = getattr(row, name, None)
        return row

    return show


def many(name: str, show: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda row: sorted(repr(show(other)) for other in getattr(row, name).all())


def kept(name: str, show: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda row: sorted(repr(show(other)) for other in getattr(row, name))


# Steps of one queryset each: name, what becomes of it, what is shown


def window(expression: Any, **kwargs: Any) -> Window:
    return Window(expression, order_by=[F("version").desc(), F("pk").asc()], **kwargs)


NEWER = Item.objects.filter(shelf=OuterRef("shelf"), version__gt=OuterRef("version"))
BOOKS = Book.objects.filter(shelf=OuterRef("shelf"), title__gte="b")

STEPS: dict[Any, list[tuple[str, Callable[[Any], Any], Callable[[Any], Any] | None]]] = {
    Item: [
        ("version", lambda q: q.filter(version__gte=2), None),
        ("either", lambda q: q.filter(Q(version=1) | Q(shelf__name="a")), None),
        ("of a shelf", lambda q: q.filter(shelf__name__in=["a", "b"]), None),
        ("not of a shelf", lambda q: q.exclude(shelf__name="a"), None),
        ("beside a book", lambda q: q.filter(shelf__books__title="b").distinct(), None),
        ("select shelf", lambda q: q.select_related("shelf"), of("shelf.name")),
        ("select toy", lambda q: q.select_related("toy"), of("toy.age")),
        ("fetch shelf", lambda q: q, of("shelf.name")),
        ("deferred", lambda q: q.only("name"), attribute("version")),
        ("rank", lambda q: q.annotate(rank=window(Rank())), attribute("rank")),
        (
            "number in shelf",
            lambda q: q.annotate(number=window(RowNumber(), partition_by=F("shelf"))),
            attribute("number"),
        ),
        ("running", lambda q: q.annotate(total=window(Sum("version"))), attribute("total")),
        ("lag", lambda q: q.annotate(before=window(Lag("name"))), attribute("before")),
        ("top", lambda q: q.annotate(top=window(RowNumber())).filter(top__lte=2), None),
        ("outdone", lambda q: q.filter(Exists(NEWER)), None),
        ("newest", lambda q: q.exclude(Exists(NEWER)), None),
        ("has books", lambda q: q.annotate(has=Exists(BOOKS)), attribute("has")),
        (
            "best",
            lambda q: q.annotate(best=Subquery(NEWER.order_by("-version").values("name")[:1])),
            attribute("best"),
        ),
        (
            "count of books",
            lambda q: q.annotate(books=Count("shelf__books", distinct=True)),
            attribute("books"),
        ),
        (
            "raw",
            lambda q: q.annotate(raw=RawSQL("SELECT COUNT(*) FROM tests_book", ())),
            attribute("raw"),
        ),
        (
            "extra",
            lambda q: q.extra(where=["version >= (SELECT MAX(i.version) - 1 FROM tests_item i)"]),
            None,
        ),
        ("among", lambda q: q.filter(pk__in=Item.objects.order_by("-pk")[:3]), None),
        (
            "case",
            lambda q: q.annotate(
                size=Case(When(version__gte=2, then=Value(1)), output_field=IntegerField())
            ),
            attribute("size"),
        ),
        ("length", lambda q: q.annotate(length=Length("name")), attribute("length")),
    ],
    Shelf: [
        ("name", lambda q: q.filter(name__gte="b"), None),
        ("has items", lambda q: q.filter(items__version__gte=2), None),
        ("has items once", lambda q: q.filter(items__version__gte=1).distinct(), None),
        ("no items", lambda q: q.exclude(items__version=2), None),
        ("versions", lambda q: q.annotate(item=F("items__version")), attribute("item")),
        ("count", lambda q: q.annotate(n=Count("items", distinct=True)), attribute("n")),
        ("having", lambda q: q.annotate(m=Count("items", distinct=True)).filter(m__gte=1), None),
        (
            "some",
            lambda q: q.annotate(
                some=Coalesce(Max("items__version", filter=Q(items__name__gte="b")), 0)
            ),
            attribute("some"),
        ),
        (
            "filtered relation",
            lambda q: q.annotate(
                new=FilteredRelation("books", condition=Q(books__version__gte=2)),
                titled=Count("new", distinct=True),
            ),
            attribute("titled"),
        ),
        ("items", lambda q: q.prefetch_related("items"), many("items", attribute("name"))),
        ("fetch items", lambda q: q, many("items", attribute("version"))),
        (
            "joined items",
            lambda q: q.prefetch_related(Prefetch("items", Item.objects.select_related("toy"))),
            many("items", of("toy.age")),
        ),
        (
            "ranked items",
            lambda q: q.prefetch_related(
                Prefetch("items", Item.objects.annotate(rank=window(Rank())), to_attr="ranked")
            ),
            kept("ranked", attribute("rank")),
        ),
        (
            "last items",
            lambda q: q.prefetch_related(
                Prefetch("items", Item.objects.order_by("-version", "pk")[:2], to_attr="last")
            ),
            kept("last", attribute("name")),
        ),
        (
            "tags of books",
            lambda q: q.prefetch_related(
                Prefetch("books", Book.objects.filter(version__gte=1), to_attr="old"),
                "old__tags",
            ),
            kept("old", many("tags", attribute("name"))),
        ),
        (
            "place",
            lambda q: q.annotate(
                place=Window(RowNumber(), order_by=[F("name").asc(), F("pk").asc()])
            ),
            attribute("place"),
        ),
    ],
    Book: [
        ("title", lambda q: q.filter(title__in=["a", "b"]), None),
        ("tagged", lambda q: q.filter(tags__name="a"), None),
        ("not tagged", lambda q: q.exclude(tags__name="a"), None),
        ("count", lambda q: q.annotate(n=Count("tags", distinct=True)), attribute("n")),
        ("tags", lambda q: q.prefetch_related("tags"), many("tags", attribute("name"))),
        ("shelf", lambda q: q.select_related("shelf"), of("shelf.name")),
        ("shelves", lambda q: q.filter(shelf__name__gte="b"), None),
        ("former", lambda q: q.select_related("former_shelf"), of("former_shelf.name")),
        ("novel", lambda q: q.select_related("novel"), of("novel.plot")),
        ("fetch novel", lambda q: q, of("novel.plot")),
        (
            "beside",
            lambda q: q.prefetch_related(
                Prefetch("shelf", Shelf.objects.annotate(n=Count("items")))
            ),
            of("shelf.n"),
        ),
        ("rank", lambda q: q.annotate(rank=window(Rank())), attribute("rank")),
    ],
    Note: [
        ("pinned", lambda q: q.filter(is_pinned=True), None),
        ("club", lambda q: q.select_related("club"), of("club.name")),
        ("labels", lambda q: q.prefetch_related("labels"), many("labels", attribute("name"))),
        ("fetch labels", lambda q: q, many("labels", attribute("name"))),
        ("labelled", lambda q: q.filter(labels__name="a"), None),
        (
            "notes of club",
            lambda q: q.prefetch_related("club__notes__labels"),
            lambda note: sorted(
                label.name for other in note.club.notes.all() for label in other.labels.all()
            ),
        ),
    ],
    Novel: [
        ("title", lambda q: q.filter(title__gte="b"), None),
        ("plot", lambda q: q.filter(plot__gte="b"), attribute("plot")),
        ("tags", lambda q: q.prefetch_related("tags"), many("tags", attribute("name"))),
        ("rank", lambda q: q.annotate(rank=window(Rank())), attribute("rank")),
    ],
}

OWN = {
    Item: attribute("version"),
    Shelf: attribute("name"),
    Book: attribute("title"),
    Note: attribute("text"),
    Novel: attribute("version"),
}


def plain(queryset: Any, **lookups: Any) -> Any:
    """Without an order, which parts of a union have not."""
    return queryset.order_by().filter(**lookups)


# These come last, because nothing can be filtered after them. They always find the same rows.
ENDS: list[tuple[str, Callable[[Any], Any]]] = [
    ("first", lambda q: q.order_by("-pk")[:3]),
    ("rest", lambda q: q.order_by("pk")[1:4]),
    ("union", lambda q: plain(q, pk__gt=2).union(plain(q, pk__lte=4)).order_by("pk")),
    ("union all", lambda q: plain(q).union(plain(q), all=True)),
    ("difference", lambda q: plain(q).difference(plain(q, pk=2))),
    ("intersection", lambda q: plain(q).intersection(plain(q, pk__gt=1))),
    ("distinct", lambda q: q.distinct()),
    ("values", lambda q: q.values("pk")),
]
if connection.vendor == "postgresql":
    ENDS += [
        ("distinct version", lambda q: q.order_by("version", "-pk").distinct("version")),
        ("distinct pk", lambda q: q.order_by("pk").distinct("pk")),
    ]


def shape(rng: random.Random) -> Shape:
    """A random one."""
    model = rng.choice(list(STEPS))
    made = Shape(model.objects.order_by("pk"), [model.__name__], [OWN[model]])
    for name, step, show in rng.sample(STEPS[model], rng.choice([0, 1, 1, 2, 2, 3])):
        made.queryset = step(made.queryset)
        made.steps.append(name)
        if show is not None:
            made.shows.append(show)
    if rng.random() < 0.3:
        name, end = rng.choice(ENDS)
        try:
            made.queryset = end(made.queryset)
        except Exception as exc:
            # Django refuses it: there is no such queryset.
            made.steps.append(f"{name}: {exc!r}")
        else:
            made.steps.append(name)
    return made


# Writes


def some(rng: random.Random, model: Any) -> Any:
    """A row, None if there is none."""
    pks = sorted(model.objects.values_list("pk", flat=True))
    return model.objects.get(pk=rng.choice(pks)) if pks else None


def fill(rng: random.Random) -> None:
    """Rows to begin with."""
    for name in NAMES:
        Shelf.objects.create(name=name)
        Tag.objects.create(name=name)
        Label.objects.create(name=name)
        Club.objects.create(name=name)
    for _ in range(3):
        for kind in ("item", "book", "note", "toy", "novel"):
            create(rng, kind)


def create(rng: random.Random, kind: str) -> None:
    name, shelf = rng.choice(NAMES), some(rng, Shelf)
    unique = f"{name}{rng.randrange(10**9)}"
    version = rng.randrange(4)
    match kind:
        case "item":
            Item.objects.create(name=unique, version=version, shelf=shelf)
        case "toy":
            Toy.objects.create(name=unique, version=version, shelf=shelf, age=version)
        case "book":
            Book.objects.create(title=name, version=version, shelf=shelf)
        case "novel":
            Novel.objects.create(title=name, version=version, shelf=shelf, plot=name)
        case "note":
            Note.objects.create(text=name, club=some(rng, Club))


def change(rng: random.Random) -> None:
    row = some(rng, rng.choice([Item, Toy, Book, Novel, Note, Shelf, Tag, Label, Club]))
    if row is None:
        return
    fields = [f for f in ("version", "name", "title", "plot", "age", "text") if hasattr(row, f)]
    name = rng.choice([*fields, "shelf", "is_pinned"])
    if name == "shelf" and hasattr(row, "shelf_id"):
        row.shelf = rng.choice([some(rng, Shelf), None])
    elif name == "is_pinned" and hasattr(row, name):
        row.is_pinned = not row.is_pinned
    elif name in ("version", "age"):
        setattr(row, name, rng.randrange(4))
    elif name in fields and not (name == "name" and hasattr(row, "version")):
        setattr(row, name, rng.choice(NAMES))
    else:
        return
    row.save(update_fields=rng.choice([[name], None]))


def delete(rng: random.Random) -> None:
    row = some(rng, rng.choice([Item, Toy, Book, Novel, Note, Shelf, Tag, Label]))
    if row is not None and (not isinstance(row, Shelf) or Shelf.objects.count() > 2):
        row.delete()


def link(rng: random.Random) -> None:
    name, row, other = rng.choice(
        [("tags", some(rng, Book), some(rng, Tag)), ("labels", some(rng, Note), some(rng, Label))]
    )
    if row is None or other is None:
        return
    related = getattr(row, name)
    match rng.choice(["add", "remove", "set", "clear"]):
        case "add":
            related.add(other)
        case "remove":
            related.remove(other)
        case "set":
            related.set([other])
        case "clear":
            related.clear()


def bulk(rng: random.Random) -> None:
    match rng.choice(["update", "create", "delete", "bulk_update"]):
        case "update":
            Item.objects.filter(version__lte=1).update(version=F("version") + 1)
        case "create":
            Item.objects.bulk_create(
                Item(name=f"a{rng.randrange(10**9)}", version=n) for n in range(2)
            )
        case "delete":
            Note.objects.filter(text=rng.choice(NAMES)).delete()
        case "bulk_update":
            items = list(Item.objects.all()[:3])
            for item in items:
                item.version = rng.randrange(4)
            Item.objects.bulk_update(items, ["version"])


def several(rng: random.Random) -> None:
    with transaction.atomic():
        for _ in range(3):
            rng.choice([change, delete, link, bulk])(rng)


def undone(rng: random.Random) -> None:
    with transaction.atomic():
        change(rng)
        transaction.set_rollback(True)


def new(rng: random.Random) -> None:
    create(rng, rng.choice(["item", "book", "note", "toy", "novel"]))


def raw(rng: random.Random) -> None:
    """Writes that only triggers see."""
    statement = rng.choice(
        [
            "UPDATE tests_item SET version = version + 1 WHERE version < 2",
            "UPDATE tests_book SET version = 2 WHERE title = 'b'",
            "UPDATE tests_shelf SET name = 'c' WHERE name = 'b'",
            "DELETE FROM tests_note_labels",
            "DELETE FROM tests_toy WHERE age > 1",
            "UPDATE tests_label SET name = 'a' WHERE name = 'c'",
            "UPDATE tests_novel SET plot = 'a'",
        ]
    )
    with connection.cursor() as cursor:
        cursor.execute(statement)


WRITES = [new, new, change, change, change, change, delete, link, link, bulk, several, undone]
