"""Models that are not as simple: two tables, proxies, keys of their own, rows found by a slug."""

from __future__ import annotations

import pytest
from rest_framework import serializers

from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Book, Classic, Novel, Room, Shelf, Tag
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


def showing(model, *names, **attributes):
    """The sockets of a viewset that shows these fields of `model`."""

    class Shown(serializers.ModelSerializer):
        class Meta:
            fields = names

    Shown.Meta.model = model
    given = {
        "queryset": model._default_manager.order_by("pk"),
        "serializer_class": Shown,
        "authentication_classes": [],
        "permission_classes": [],
    }
    return routes(type("Shows", (ModelConsumerViewSet,), {**given, **attributes}))


def test_a_row_of_two_tables_is_told_of_whichever_is_written():
    async def story():
        async with (
            told(showing(Novel, "title", "plot")) as novels,
            told(showing(Book, "title")) as books,
        ):
            await subscribed(novels)
            await subscribed(books)
            novel = await written(Novel.objects.create, title="Emma", plot="a match")
            assert await event(novels) == ("create", {"title": "Emma", "plot": "a match"})
            assert await event(books) == ("create", {"title": "Emma"})
            # By who knows no novels.
            await written(lambda: Book.objects.get(pk=novel.pk).delete())
            assert await event(novels) == ("delete", {"pk": novel.pk})
            assert await event(books) == ("delete", {"pk": novel.pk})

    run(story)


def test_a_row_of_two_tables_whose_parent_is_written():
    async def story():
        novel = await written(Novel.objects.create, title="Emma", plot="a match")
        async with told(showing(Novel, "title", "plot")) as novels:
            await subscribed(novels)

            def rename():
                book = Book.objects.get(pk=novel.pk)
                book.title = "Emma Woodhouse"
                book.save()

            await written(rename)
            shown = {"title": "Emma Woodhouse", "plot": "a match"}
            assert await event(novels) == ("update", shown)
            # A book that is not a novel.
            await written(Book.objects.create, title="Persuasion")
            fence = lambda: Novel.objects.create(title="fence", plot="")  # noqa: E731
            await nothing_more(novels, fence)

    run(story)


def test_a_proxy_is_told_of_what_is_written_by_its_model_and_the_other_way_round():
    async def story():
        async with (
            told(showing(Classic, "title")) as classics,
            told(showing(Book, "title")) as books,
        ):
            await subscribed(classics)
            await subscribed(books)
            for model in (Book, Classic):
                await written(model.objects.create, title=model.__name__)
                for socket in (classics, books):
                    assert await event(socket) == ("create", {"title": model.__name__})

    run(story)


def test_a_key_that_is_no_number():
    async def story():
        tag = await written(Tag.objects.create, name="red")
        async with told(showing(Tag, "id", "name")) as tags:
            assert await subscribed(tags) == [{"id": str(tag.pk), "name": "red"}]
            tag.name = "blue"
            await written(tag.save)
            assert await event(tags) == ("update", {"id": str(tag.pk), "name": "blue"})
            pk = str(tag.pk)
            await written(tag.delete)
            assert await event(tags) == ("delete", {"pk": pk})

    run(story)


def test_a_row_found_by_a_slug_is_what_has_the_slug():
    application = showing(Room, "id", "name", lookup_field="name")

    async def story():
        room = await written(Room.objects.create, name="lobby")
        async with told(application) as socket:
            reply = await socket.ask(
                "subscribe_instance", name="lobby", request_id="s", snapshot=True
            )
            assert reply["data"] == {"id": room.pk, "name": "lobby"}
            room.name = "attic"
            await written(room.save)
            assert await event(socket) == ("delete", {"pk": room.pk, "name": "lobby"})
            # It is gone for this subscriber already.
            await written(room.delete)
            other = await written(Room.objects.create, name="lobby")
            assert await event(socket) == ("create", {"id": other.pk, "name": "lobby"})

    run(story)


def test_a_row_found_by_a_slug_is_left_by_it():
    application = showing(Room, "id", "name", lookup_field="name")

    async def story():
        room = await written(Room.objects.create, name="lobby")
        async with told(application) as socket:
            await socket.ask("subscribe_instance", name="lobby", request_id="row")
            await subscribed(socket)
            reply = await socket.ask("unsubscribe_instance", name="lobby", request_id="bye")
            assert reply["response_status"] == 204
            await written(room.save)
            assert (await socket.receive())["request_id"] == "s"
            await nothing_more(socket, lambda: Room.objects.create(name="fence"))

    run(story)


def test_a_deleted_row_is_told_to_those_who_had_it():
    application = showing(Book, "title", filterset_fields=["shelf"])

    async def story():
        left, right = [await written(Shelf.objects.create, name=name) for name in ("left", "right")]
        book = await written(Book.objects.create, title="Emma", shelf=left)
        async with told(application) as lefts, told(application) as rights:
            await subscribed(lefts, query={"shelf": left.pk})
            await subscribed(rights, query={"shelf": right.pk})
            pk = book.pk
            await written(book.delete)
            assert await event(lefts) == ("delete", {"pk": pk})
            await nothing_more(rights, lambda: Book.objects.create(title="fence", shelf=right))

    run(story)
