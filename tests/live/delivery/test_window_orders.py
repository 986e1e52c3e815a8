"""Every order that a queryset may have, and windows that grow, shrink and resume."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db.models import Count, F, Value, Window
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Lower, Rank
from rest_framework import serializers
from rest_framework.authtoken.models import Token
from rest_framework.filters import OrderingFilter, SearchFilter

from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Book, Shelf, Tag
from tests.support.ordered_lists import OrderedList
from tests.support.stepped_processes import running
from tests.support.subscription_stories import routes

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.only_on("sqlite", "postgresql"),
    pytest.mark.timeout(300),
]


class BookSerializer(serializers.ModelSerializer):
    class Meta:
        model = Book
        fields = ["id", "title", "version"]


class Books(ModelConsumerViewSet):
    queryset = Book.objects.all()
    serializer_class = BookSerializer
    authentication_classes = []
    permission_classes = []


class SearchedBooks(Books):
    filter_backends = [OrderingFilter, SearchFilter]
    ordering_fields = ["title", "version"]
    search_fields = ["title"]


@pytest.fixture
def processes():
    with running("triggers") as shared:
        yield shared


@pytest.fixture
def process(processes):
    return processes.start()


class Following:
    """A socket that follows an ordered list, compared with `list` after each write."""

    def __init__(self, processes, process, application, window, **keys):
        self.processes = processes
        self.process = process
        self.keys = keys
        self.application = application
        self.held = OrderedList(window)
        self.connect(process)
        self.ask(snapshot=True)

    def connect(self, process):
        self.process = process
        self.socket = process.connect(self.application, "/", {})

    def ask(self, **keys):
        """Subscribe; afterwards the client has received what belongs to that."""
        size = self.held.size
        asked = {"ordered": True} if size is None else {"window": size}
        _, reply = self.socket.ask("subscribe", request_id="s", **asked, **keys, **self.keys)
        assert reply["response_status"] == 201, reply
        # Events of the subscription before are ignored.
        self.held.take(reply)
        self.process.settle()
        return reply, self.take()

    def resize(self, size):
        """Ask for another window as a client does that holds rows; return the events."""
        self.held.size = size
        reply, frames = self.ask(since=self.held.position, held=self.held.held)
        assert (reply["resumed"], reply["data"]) == (True, None)
        return frames

    def take(self):
        frames = self.socket.drain()
        for frame in frames:
            self.held.take(frame)
        return frames

    def look(self):
        self.process.look()
        return self.take()

    def write(self, function):
        self.processes.write(function)
        frames = self.look()
        self.check()
        return frames

    def check(self):
        before, reply = self.socket.ask("list", **self.keys)
        for frame in before:
            self.held.take(frame)
        assert self.held.rows == reply["data"][: self.held.size]


def book(title, version=0, shelf=None):
    return Book.objects.create(title=title, version=version, shelf=shelf)


def some_books():
    """Shelves, one of them last by its name, and books of each and of none."""
    b, a = Shelf.objects.create(name="b"), Shelf.objects.create(name="a")
    made = [book("two", 2, a), book("One", 1, b), book("none", 1), book("zero", 2, b)]
    made[0].tags.add(Tag.objects.create(name="red"), Tag.objects.create(name="blue"))
    return made


ORDERS = {
    "none": Book.objects.all(),
    "descending": Book.objects.order_by("-version"),
    "several": Book.objects.order_by("-version", "title"),
    "total already": Book.objects.order_by("-pk"),
    "reversed": Book.objects.order_by("version").reverse(),
    "of a joined row": Book.objects.order_by("shelf__name"),
    "nulls first": Book.objects.order_by(F("shelf").asc(nulls_first=True)),
    "nulls last": Book.objects.order_by(F("shelf").desc(nulls_last=True)),
    "a function": Book.objects.order_by(Lower("title").desc()),
    "a count": Book.objects.annotate(count=Count("tags")).order_by("-count"),
    "an annotation": Book.objects.annotate(place=Coalesce("shelf__name", Value("c"))).order_by(
        "-place"
    ),
    "rows joined several times": Book.objects.filter(tags__isnull=False).order_by("title"),
    "distinct rows": Book.objects.filter(version__gt=0).distinct().order_by("version"),
    "a slice": Book.objects.order_by("-version")[:3],
    "a window function": Book.objects.annotate(
        rank=Window(Rank(), order_by=F("version").desc())
    ).order_by("rank"),
    "SQL of one's own": Book.objects.annotate(twice=RawSQL("version * 2", [])).order_by("-twice"),
    "selected and deferred": Book.objects.select_related("shelf")
    .defer("version")
    .order_by("title"),
}


@pytest.mark.parametrize("window", [1, 2, 3, None])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_events_give_the_order_of_list(processes, process, order, window):
    two, one, none, zero = processes.write(some_books)
    following = Following(processes, process, routes(Books, queryset=order), window)

    def look_twice(write):
        processes.write(write)
        following.look()
        # Rows of a related table are read again a little later.
        processes.clock.now += 1
        following.look()
        _, reply = following.socket.ask("list")
        seen = {row["id"]: row for row in reply["data"]}
        assert following.held.rows == list(seen.values())[:window]

    look_twice(lambda: book("new", 2))
    look_twice(lambda: Book.objects.filter(pk=one.pk).update(version=9, title="first"))
    look_twice(lambda: Shelf.objects.filter(name="a").update(name="z"))
    look_twice(lambda: none.tags.add(*Tag.objects.all()))
    look_twice(two.delete)
    look_twice(lambda: Book.objects.filter(pk=zero.pk).update(shelf=None))
    look_twice(lambda: Book.objects.all().delete())
    assert following.held.rows == []


@pytest.mark.only_on("postgresql")
def test_one_row_of_each_version(processes, process):
    processes.write(some_books)
    order = Book.objects.order_by("-version", "title").distinct("version")
    following = Following(processes, process, routes(Books, queryset=order), 2)
    assert [row["title"] for row in following.held.rows] == ["two", "One"]

    def write_and_wait(function):
        processes.write(function)
        following.look()
        processes.clock.now += 1
        following.look()
        following.check()

    write_and_wait(lambda: book("a third", 2))
    write_and_wait(lambda: book("new", 3))
    write_and_wait(lambda: Book.objects.filter(version=2).delete())


def test_filter_backends_choose_the_order_and_the_rows(processes, process):
    processes.write(lambda: [book(f"{word} {n}", n % 3) for n in range(6) for word in ("a", "b")])
    query = {"ordering": "-version", "search": "a"}
    following = Following(processes, process, routes(SearchedBooks), 4, query=query)
    following.check()
    assert [row["title"] for row in following.held.rows] == ["a 2", "a 5", "a 1", "a 4"]
    following.write(lambda: book("a 9", 2))
    assert following.write(lambda: book("b 9", 2)) == []
    following.write(lambda: Book.objects.filter(title="a 5").update(title="b 5"))


def test_a_row_that_a_related_row_moves_is_an_update_with_its_place(processes, process):
    processes.write(some_books)
    books = routes(Books, queryset=Book.objects.filter(shelf__isnull=False).order_by("shelf__name"))
    following = Following(processes, process, books, None)
    assert [row["title"] for row in following.held.rows] == ["two", "One", "zero"]
    processes.write(lambda: Shelf.objects.filter(name="a").update(name="z"))
    (frame,) = following.look()
    assert (frame["action"], frame["data"]["title"]) == ("update", "two")
    following.check()


def test_a_window_that_grows_receives_the_new_rows_alone(processes, process):
    processes.write(lambda: [book(f"b{n}", n) for n in range(10)])
    following = Following(processes, process, routes(Books, queryset=ORDERS["descending"]), 3)
    frames = following.resize(5)
    assert [frame["action"] for frame in frames] == ["create", "create"]
    assert [row["title"] for row in following.held.rows] == ["b9", "b8", "b7", "b6", "b5"]
    following.write(lambda: book("b10", 10))


def test_a_window_that_shrinks_says_which_rows_leave_and_why(processes, process):
    books = processes.write(lambda: [book(f"b{n}", n) for n in range(5)])
    following = Following(processes, process, routes(Books, queryset=ORDERS["descending"]), 4)
    frames = following.resize(2)
    assert [frame["data"] for frame in frames] == [
        {"pk": books[2].pk, "reason": "window"},
        {"pk": books[1].pk, "reason": "window"},
    ]
    following.write(books[4].delete)


def test_a_row_that_leaves_the_list_has_no_reason(processes, process):
    books = processes.write(lambda: [book(f"b{n}", n) for n in range(5)])
    shown = Book.objects.exclude(title="hidden").order_by("-version")
    following = Following(processes, process, routes(Books, queryset=shown), 2)
    hidden, _ = following.write(lambda: Book.objects.filter(pk=books[4].pk).update(title="hidden"))
    assert hidden["data"] == {"pk": books[4].pk}
    deleted, _ = following.write(lambda: Book.objects.get(pk=books[3].pk).delete())
    assert deleted["data"] == {"pk": books[3].pk}
    pushed, _ = following.write(lambda: Book.objects.filter(pk=books[2].pk).update(version=-1))
    assert pushed["data"] == {"pk": books[2].pk, "reason": "window"}


def test_a_client_resumes_on_another_process_in_its_order(processes, process):
    books = processes.write(lambda: [book(f"b{n}", n) for n in range(6)])
    following = Following(processes, process, routes(Books, queryset=ORDERS["descending"]), 4)
    following.socket.leave()

    def write():
        Book.objects.filter(pk=books[2].pk).update(version=7)
        books[4].delete()
        book("b8", 8)

    processes.write(write)
    following.connect(processes.start())
    frames = following.resize(4)
    assert [(frame["action"], frame["data"].get("title")) for frame in frames] == [
        ("delete", None),
        ("delete", None),
        ("create", "b8"),
        ("update", "b2"),
    ] or following.held.held
    following.check()


def test_rows_that_stand_elsewhere_than_the_client_says_are_moved(processes, process):
    processes.write(lambda: [book(f"b{n}", n) for n in range(4)])
    following = Following(processes, process, routes(Books, queryset=ORDERS["descending"]), 4)
    following.held.rows.reverse()
    frames = following.resize(4)
    assert {frame["action"] for frame in frames} == {"update"}
    assert all("after" in frame for frame in frames)
    following.check()


def test_names_that_no_row_has_are_answered_with_a_delete(processes, process):
    books = processes.write(lambda: [book(f"b{n}", n) for n in range(4)])
    following = Following(processes, process, routes(Books, queryset=ORDERS["descending"]), 2)
    held = [10_000, books[3].pk, "nothing", books[0].pk, str(books[2].pk), books[2].pk]
    _, reply = following.socket.ask(
        "subscribe", request_id="s", window=2, since=following.held.position, held=held
    )
    process.settle()
    assert reply["resumed"]
    assert [(f["action"], f["data"]) for f in following.socket.drain()] == [
        ("delete", {"pk": 10_000}),
        ("delete", {"pk": "nothing"}),
        ("delete", {"pk": books[0].pk, "reason": "window"}),
    ]


HOSTILE = [10**30, -(2**63) - 1, 1e300, "a\0b", "9" * 5_000, "", "NaN", 0, -0.0]


def test_no_name_of_a_client_ends_the_subscriptions_of_others(processes, process):
    processes.write(lambda: [book(f"b{n}", n) for n in range(4)])
    application = routes(Books, queryset=ORDERS["descending"])
    other = Following(processes, process, application, 2)
    following = Following(processes, process, application, 2)
    keys = {"since": following.held.position, "held": [*HOSTILE, *following.held.held]}
    _, reply = following.socket.ask("subscribe", request_id="s", window=2, **keys)
    assert (reply["response_status"], reply["resumed"]) == (201, True)
    process.settle()
    assert {frame["action"] for frame in following.socket.drain()} == {"delete"}
    other.write(lambda: book("b9", 9))


def test_no_name_of_a_client_is_refused_by_a_column_of_text(processes, process):
    class TokenSerializer(serializers.ModelSerializer):
        class Meta:
            model = Token
            fields = ["key"]

    class Tokens(Books):
        queryset = Token.objects.order_by("key")
        serializer_class = TokenSerializer

    def make():
        for name in "abc":
            Token.objects.create(key=name, user=User.objects.create(username=name))

    processes.write(make)
    socket = process.connect(routes(Tokens), "/", {})
    _, reply = socket.ask("subscribe", request_id="s", window=1, snapshot=True)
    assert reply["data"] == [{"key": "a"}]
    keys = {"since": reply["position"], "held": [*HOSTILE, "a", "b"]}
    _, reply = socket.ask("subscribe", request_id="s", window=1, **keys)
    assert (reply["response_status"], reply["resumed"]) == (201, True)
    process.settle()
    frames = socket.drain()
    assert {frame["action"] for frame in frames} == {"delete"}
    assert frames[-1]["data"] == {"pk": "b", "reason": "window"}


def test_without_held_a_window_begins_with_a_reset(processes, process):
    processes.write(lambda: [book(f"b{n}", n) for n in range(4)])
    following = Following(processes, process, routes(Books, queryset=ORDERS["descending"]), 2)
    reply, (reset,) = following.ask(since=following.held.position, snapshot=True)
    assert reply["resumed"] is False
    assert [row["title"] for row in reset["data"]] == ["b3", "b2"]
    following.write(lambda: book("b9", 9))


def test_a_window_grows_while_rows_are_written(processes, process):
    processes.write(lambda: [book(f"b{n}", n) for n in range(8)])
    following = Following(processes, process, routes(Books, queryset=ORDERS["descending"]), 3)
    processes.at("before the snapshot", lambda: book("b9", 9))
    processes.at("after the head", lambda: book("b10", 10))
    following.resize(5)
    processes.hooks.clear()
    following.look()
    following.check()


def test_subscribers_of_one_window_hold_the_same_when_one_joins(processes, process):
    """A pending change shows to the new subscriber: the others receive it in the same pass."""
    processes.write(lambda: [book(f"b{n}", n) for n in range(4)])
    application = routes(Books, queryset=ORDERS["descending"])
    first = Following(processes, process, application, 3)
    processes.at("after the head", lambda: book("b9", 9))
    second = Following(processes, process, application, 3)
    processes.hooks.clear()
    for following in (first, second):
        following.look()
        following.check()
    assert first.held.rows == second.held.rows
