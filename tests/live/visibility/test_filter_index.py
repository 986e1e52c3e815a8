"""Audiences that a change cannot concern: told from the row, as the database would tell it."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.db import connection, models
from django.db.models import F, Q
from django.test.utils import CaptureQueriesContext, isolate_apps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework import serializers

from rest_channels.live.model_tables import label_of
from rest_channels.live.visibility.filter_index import asked_of, equalities, narrowed
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Club, Document, Message, Note, Novel, Room, Tag
from tests.support.subscription_stories import (
    event,
    nothing_more,
    routes,
    run,
    subscribed,
    told,
    written,
)

# What is asked of rows


class Asking(SimpleNamespace):
    """An audience of `queryset`, as far as it matters here."""

    __hash__ = object.__hash__

    def __init__(self, queryset, members=(), *, is_populated=True):
        super().__init__(
            model=queryset.model,
            label=label_of(queryset.model),
            asked=asked_of(queryset),
            members=dict.fromkeys(members),
            is_populated=is_populated,
        )


def kept(wanted):
    """Return the rest of it that `narrowed` leaves, by audience."""
    found = narrowed(wanted, "default")
    assert all(found.values())
    return {one: found.get(one, set()) for one in wanted}


@pytest.mark.parametrize(
    ("queryset", "columns"),
    [
        (Note.objects.filter(club=1), {"club_id"}),
        (Note.objects.filter(club_id=1, is_pinned=True), {"club_id", "is_pinned"}),
        (Note.objects.filter(Q(club=1) & ~Q(text="a")), {"club_id"}),
        (Note.objects.filter(club=1).filter(Q(text="a") | Q(text="b")), {"club_id"}),
        (Note.objects.filter(club=1).order_by("text").select_related("club"), {"club_id"}),
        (Note.objects.filter(club=1, club__name="a"), {"club_id"}),
        (Note.objects.filter(club=1).annotate(n=models.Count("labels")), {"club_id"}),
        (Tag.objects.filter(pk=uuid.UUID(int=1)), {"id"}),
        (Room.objects.filter(name="lobby"), {"name"}),
        (Room.objects.filter(name__in=["lobby", "hall", None]), {"name"}),
        (Note.objects.filter(club__in=[1, 2], pk__in=[3]), {"club_id", "id"}),
        # Which the database decides in its own way, or which not every row has to meet.
        (Note.objects.all(), set()),
        (Note.objects.none(), set()),
        (Note.objects.exclude(club=1), set()),
        (Note.objects.filter(~Q(club=1)), set()),
        (Note.objects.filter(Q(club=1) | Q(is_pinned=True)), set()),
        (Note.objects.filter(Q(club=1) ^ Q(is_pinned=True)), set()),
        (Note.objects.filter(club=1) | Note.objects.filter(is_pinned=True), set()),
        # Django puts the lookup of a third one beside the two.
        (
            Note.objects.filter(club=1)
            | Note.objects.filter(is_pinned=True)
            | Note.objects.filter(text="a"),
            set(),
        ),
        (Note.objects.filter(text__iexact="a"), set()),
        (Note.objects.filter(text__contains="a"), set()),
        (Note.objects.filter(club__in=[1]).filter(club__in=Club.objects.values("pk")), {"club_id"}),
        (Note.objects.filter(club__in=Club.objects.values("pk")), set()),
        (Note.objects.filter(pk__in=[1, F("club")]), set()),
        (Note.objects.filter(club__isnull=True), set()),
        (Note.objects.filter(club__name="a"), set()),
        (Note.objects.filter(text=F("club__name")), set()),
        (Note.objects.filter(club=Club.objects.values("pk")[:1]), set()),
        (Note.objects.filter(labels=1), set()),
        (Document.objects.filter(price=1), set()),
        (Message.objects.filter(created="2020-01-01T00:00Z"), set()),
        (Novel.objects.filter(title="a"), set()),
    ],
    ids=lambda value: str(value.query.where) if isinstance(value, models.QuerySet) else None,
)
def test_what_is_asked(queryset, columns):
    assert equalities(queryset).keys() == columns


@isolate_apps("tests")
def test_columns_that_compare_in_their_own_way():
    class Upper(models.CharField):
        """A field whose values are read otherwise than they are stored."""

        def from_db_value(self, value, expression, connection):
            return value.upper()

    class Odd(models.Model):
        collated = models.CharField(max_length=9, db_collation="nocase")
        upper = Upper(max_length=9)
        number = models.FloatField()
        at = models.DateTimeField()

        class Meta:
            app_label = "tests"

    for name, value in [("collated", "a"), ("upper", "a"), ("number", 1.0), ("at", None)]:
        assert equalities(Odd.objects.filter(**{name: value})) == {}, name


# Held against the database

NAMES = st.sampled_from(["a", "A", "a ", "á", "b", "", "ß", "ss", "1"])
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "club": st.integers(1, 3),
        "text": NAMES,
        "is_pinned": st.booleans(),
        "pk": st.integers(1, 5),
        "club__in": st.lists(st.integers(1, 3), min_size=1, max_size=3),
        "pk__in": st.lists(st.integers(1, 5), min_size=1, max_size=3),
        "text__in": st.lists(NAMES, min_size=1, max_size=3),
    },
)


@pytest.fixture
def clubs(db):
    return [Club.objects.create(pk=pk, name=str(pk)) for pk in (1, 2, 3)]


# The clubs stay, the notes are made again.
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(1, 3), NAMES, st.booleans()), min_size=1, max_size=5),
    filters=st.lists(FILTERS, min_size=2, max_size=6),
    gone=st.sets(st.integers(1, 5)),
)
def test_no_row_is_left_out_that_the_database_finds(clubs, rows, filters, gone):
    Note.objects.all()._raw_delete("default")
    Note.objects.bulk_create(
        Note(pk=pk, club_id=club, text=text, is_pinned=is_pinned)
        for pk, (club, text, is_pinned) in enumerate(rows, 1)
        if pk not in gone
    )
    keys = {str(pk) for pk in range(1, 6)}
    audiences = {}
    for number, asked in enumerate(filters):
        queryset = Note.objects.filter(**asked)
        held = {str(pk) for pk in gone if pk % 2 == number % 2}
        audiences[Asking(queryset, held)] = queryset, held
    found = kept({one: set(keys) for one in audiences})
    for one, (queryset, held) in audiences.items():
        seen = {str(pk) for pk in queryset.values_list("pk", flat=True)}
        assert found[one] >= (seen | held) & keys
        if one.asked[0] and "text" not in one.asked[0] and len(compared(audiences)) > 1:
            # And, of what is plainly compared, none that it does not.
            assert found[one] == (seen | held) & keys


def test_a_column_with_too_many_values_is_left_to_the_database():
    many = Note.objects.filter(pk__in=range(60), club__in=[1, 2])
    assert asked_of(many) == (("club_id",), ((1,), (2,)))
    assert asked_of(Note.objects.filter(pk__in=range(101))) == ((), ())


def compared(audiences):
    return [one for one in audiences if one.asked[0]]


@pytest.mark.django_db
def test_text_that_a_collation_might_take_for_the_same_is_asked_for():
    for pk, text in enumerate(["LOBBY", "lobby ", "löbby", "hall"], 1):
        Tag.objects.create(pk=uuid.UUID(int=pk), name=text)
    keys = {str(uuid.UUID(int=pk)) for pk in range(1, 5)}
    first, second = (Asking(Tag.objects.filter(name=name)) for name in ("lobby", "hall"))
    found = kept({first: keys, second: keys})
    assert found[first] == {str(uuid.UUID(int=pk)) for pk in (1, 2, 3)}
    assert found[second] == {str(uuid.UUID(int=4))}


@pytest.mark.django_db
def test_whose_rows_are_not_known_yet_is_asked_for(clubs):
    note = Note.objects.create(club_id=1, text="a")
    keys = {str(note.pk)}
    one, other, new = (
        Asking(Note.objects.filter(club=2), is_populated=is_populated)
        for is_populated in (True, True, False)
    )
    found = kept({one: keys, other: keys, new: keys})
    assert (found[one], found[other], found[new]) == (set(), set(), keys)


@pytest.mark.django_db
@pytest.mark.only_on("sqlite")
def test_what_a_column_without_a_type_holds_is_left_to_the_database(clubs):
    note = Note.objects.create(club_id=1, text="a")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tests_note SET text = x'61'")
    keys = {str(note.pk)}
    one, other = (Asking(Note.objects.filter(text=t)) for t in "ab")
    found = kept({one: keys, other: keys})
    assert found == {one: keys, other: keys}


@pytest.mark.django_db
def test_many_rows_are_read_in_few_queries(clubs):
    Note.objects.bulk_create(Note(club_id=1, text="a") for _ in range(1_000))
    keys = {str(pk) for pk in Note.objects.values_list("pk", flat=True)}
    audiences = [Asking(Note.objects.filter(club=pk)) for pk in (1, 2, 3)]
    with CaptureQueriesContext(connection) as queries:
        found = kept(dict.fromkeys(audiences, keys))
    assert len(queries) == 2
    assert [len(found[one]) for one in audiences] == [1_000, 0, 0]


# What clients are told


class NoteSerializer(serializers.ModelSerializer):
    class Meta:
        model = Note
        fields = ["id", "club", "text"]


class Notes(ModelConsumerViewSet):
    queryset = Note.objects.order_by("id")
    serializer_class = NoteSerializer
    permission_classes = []
    authentication_classes = []
    filterset_fields = ["club"]


@pytest.mark.django_db(transaction=True)
def test_a_row_goes_from_one_filter_to_another():
    async def story():
        await written(Club.objects.create, pk=1, name="one")
        await written(Club.objects.create, pk=2, name="two")
        note = await written(Note.objects.create, club_id=1, text="a")
        application = routes(Notes)
        async with told(application) as ones, told(application) as twos:
            assert len(await subscribed(ones, query={"club": 1})) == 1
            assert await subscribed(twos, query={"club": 2}) == []
            note.club_id = 2
            await written(note.save)
            assert await event(ones) == ("delete", {"pk": note.pk})
            assert await event(twos) == ("create", {"id": note.pk, "club": 2, "text": "a"})
            note.text = "b"
            await written(note.save)
            assert (await event(twos))[0] == "update"
            await nothing_more(ones, lambda: Note.objects.create(club_id=1, text="c"))
            await written(note.delete)
            assert (await event(twos))[0] == "delete"

    run(story)


@pytest.mark.django_db
def test_users_are_compared_by_what_is_usual():
    assert equalities(User.objects.filter(username="ann", is_staff=True)).keys() == {
        "username",
        "is_staff",
    }
