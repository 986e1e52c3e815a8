"""Subscriptions where triggers note what is written: from any program to the socket."""

from __future__ import annotations

import sqlite3

import pytest
from django.db import connection, transaction
from django.db.backends.signals import connection_created
from rest_framework.serializers import ModelSerializer, SlugRelatedField

from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Book, Shelf, Tag
from tests.support.recorded_changes import (
    another_program,
    captured_by_signals,
    captured_by_triggers,
    forget_log,
)
from tests.support.subscription_stories import (
    event,
    nothing_more,
    routes,
    run,
    subscribed,
    told,
    written,
)

pytestmark = pytest.mark.django_db(transaction=True)


class Books(ModelConsumerViewSet):
    queryset = Book.objects.order_by("id")
    authentication_classes = []
    permission_classes = []

    class serializer_class(ModelSerializer):
        class Meta:
            model = Book
            fields = ["id", "title"]


class TaggedBooks(Books):
    queryset = Book.objects.prefetch_related("tags").order_by("id")

    class serializer_class(ModelSerializer):
        tags = SlugRelatedField("name", many=True, read_only=True)

        class Meta:
            model = Book
            fields = ["id", "title", "tags"]


class Tags(Books):
    queryset = Tag.objects.order_by("name")

    class serializer_class(ModelSerializer):
        class Meta:
            model = Tag
            fields = ["name"]


@pytest.fixture
def by_triggers():
    with captured_by_triggers("tests", POLL_SECONDS=0.1):
        yield


def elsewhere(*statements):
    """Written by a program without Django, which rings no doorbell."""
    with another_program() as execute:
        for statement in statements:
            execute(statement)


def test_another_program_is_told_of_within_the_poll(by_triggers):
    async def story():
        async with told(routes(Books)) as socket:
            assert await subscribed(socket) == []
            insert = "INSERT INTO tests_book (id, title, version) VALUES (7, 'Emma', 0)"
            await written(elsewhere, insert)
            assert await event(socket) == ("create", {"id": 7, "title": "Emma"})
            await written(elsewhere, "UPDATE tests_book SET title = 'Sense'")
            assert await event(socket) == ("update", {"id": 7, "title": "Sense"})
            await written(elsewhere, "DELETE FROM tests_book")
            assert await event(socket) == ("delete", {"pk": 7})

    run(story)


def test_what_is_linked(by_triggers):
    async def story():
        await written(Book.objects.create, pk=7, title="Emma")
        tag = await written(Tag.objects.create, name="red")
        key = tag.pk if connection.vendor == "postgresql" else tag.pk.hex
        insert = f"INSERT INTO tests_book_tags (book_id, tag_id) VALUES (7, '{key}')"
        async with told(routes(TaggedBooks)) as socket:
            await subscribed(socket)
            await written(elsewhere, insert)
            tagged = {"id": 7, "title": "Emma", "tags": ["red"]}
            assert await event(socket) == ("update", tagged)

    run(story)


def test_what_others_refer_to(by_triggers):
    class ShelvedBooks(Books):
        queryset = Book.objects.filter(shelf__name="left").order_by("id")

    async def story():
        await written(Shelf.objects.create, pk=1, name="left")
        await written(Book.objects.create, pk=7, title="Emma", shelf_id=1)
        async with told(routes(ShelvedBooks)) as socket:
            assert len(await subscribed(socket)) == 1
            await written(elsewhere, "UPDATE tests_shelf SET name = 'right'")
            assert await event(socket) == ("delete", {"pk": 7})

    run(story)


@pytest.mark.only_on("sqlite")
def test_more_rows_than_a_statement_has_parameters_for(by_triggers):
    """As many as old versions take, 999."""

    def limit(connection, **kwargs):
        connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)

    async def story():
        async with told(routes(Books)) as socket:
            await subscribed(socket)
            await written(Book.objects.update, title="Sense")
            told_of = {(await event(socket))[1]["id"] for _ in range(1_000)}
            assert told_of == set(range(1, 1_001))

    Book.objects.bulk_create(Book(pk=pk, title="Emma") for pk in range(1, 1_001))
    forget_log()
    connection_created.connect(limit)
    try:
        run(story)
    finally:
        connection_created.disconnect(limit)


def test_what_is_rolled_back_nobody_is_told(by_triggers):
    def write_in_vain():
        with pytest.raises(RuntimeError), transaction.atomic():
            Book.objects.create(title="Emma")
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO tests_book (title, version) VALUES ('Sense', 0)")
            raise RuntimeError

    async def story():
        async with told(routes(Books)) as socket:
            await subscribed(socket)
            await written(write_in_vain)
            await nothing_more(socket, lambda: Book.objects.create(title="fence"))

    run(story)


def write_step_by_step():
    """Steps, each of which is delivered before the next is made."""
    book, tag = Book(pk=70_000, title="Emma"), Tag(name="red")
    other = Tag(name="blue")
    yield tag.save
    yield other.save
    yield book.save
    book.title = "Sense"
    yield book.save
    yield lambda: book.tags.add(tag)
    yield lambda: book.tags.set([other])
    yield lambda: other.books.remove(book)
    yield lambda: tag.books.add(book)
    yield lambda: book.tags.clear()
    yield book.delete


def events_of(viewset, fence):
    """Return the events of each step; `fence` writes a row that causes an event for sure."""
    found = []

    async def story():
        async with told(routes(viewset)) as socket:
            await subscribed(socket)
            for number, write in enumerate(write_step_by_step()):
                await written(write)
                await written(fence, number)
                while True:
                    action, data = await event(socket)
                    named = data.get("title", data.get("name", ""))
                    if named == str(number):
                        break
                    # A fence may arrive twice: read with all rows before the log had it.
                    if not named.isdigit():
                        found.append((number, action, data if action != "delete" else None))

    run(story)
    return found


def another_book(number):
    Book.objects.create(title=str(number))


def another_tag(number):
    Tag.objects.create(name=str(number))


@pytest.mark.parametrize(
    ("viewset", "fence", "more"),
    [
        (Books, another_book, []),
        # Which tags a `clear()` of a book's was about, only the database knows.
        (Tags, another_tag, [(8, "update", {"name": "red"})]),
    ],
    ids=["books", "tags"],
)
def test_the_same_is_told_as_with_signals(viewset, fence, more):
    with captured_by_signals():
        by_signals = events_of(viewset, fence)
    for model in (Book.tags.through, Book, Tag):
        model.objects.all()._raw_delete("default")
    with captured_by_triggers("tests"):
        assert sorted(events_of(viewset, fence), key=str) == sorted(by_signals + more, key=str)
    assert len(by_signals) > 3
