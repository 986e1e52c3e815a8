"""Filter backends: django-filter, search, ordering, and one of a project's own."""

from __future__ import annotations

import django_filters
import pytest
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import filters, serializers, viewsets

from tests.models import Message, Room


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "room", "text"]


@pytest.fixture
def rooms(db):
    lobby, attic = Room.objects.create(name="lobby"), Room.objects.create(name="attic")
    for room, text in [(lobby, "one"), (attic, "two"), (lobby, "three"), (lobby, "One more")]:
        Message.objects.create(room=room, text=text)
    return lobby, attic


def filtered(site, *backends, **attributes):
    class MessageViewSet(viewsets.ModelViewSet):
        queryset = Message.objects.order_by("id")
        serializer_class = MessageSerializer
        filter_backends = backends

    for name, value in attributes.items():
        setattr(MessageViewSet, name, value)
    site.register("messages", MessageViewSet)


def texts(answer):
    return [message["text"] for message in answer.data]


def test_filterset_fields(site, rooms):
    filtered(site, DjangoFilterBackend, filterset_fields=["room", "text"])
    _, attic = rooms
    url = f"/api/messages/?room={attic.pk}"
    assert texts(site.same(f"GET {url}", "list", query={"room": attic.pk})) == ["two"]
    assert len(site.same("GET /api/messages/", "list").data) == 4


def test_filters_at_the_top_level_of_a_frame(site, rooms):
    filtered(site, DjangoFilterBackend, filterset_fields=["room", "text"])
    attic = rooms[1]
    assert texts(site.same(f"GET /api/messages/?room={attic.pk}", "list", room=attic.pk)) == ["two"]
    assert site.same("GET /api/messages/?text=two&room=x", "list", text="two", room="x").errors


def test_a_key_that_nothing_declares_filters_nothing(site, rooms):
    filtered(site, DjangoFilterBackend, filterset_fields=["room"])
    assert len(site.same("GET /api/messages/?text=two", "list", query={"text": "two"}).data) == 4
    assert len(site.same("GET /api/messages/", "list", text="two").data) == 4


@pytest.mark.parametrize("value", ["x", "999"])
def test_an_invalid_value(site, rooms, value):
    filtered(site, DjangoFilterBackend, filterset_fields=["room"])
    answer = site.same(f"GET /api/messages/?room={value}", "list", query={"room": value})
    assert (answer.status_code, answer.codes) == (400, [{"room": ["invalid_choice"]}])


class MessageFilter(django_filters.FilterSet):
    begins = django_filters.CharFilter("text", lookup_expr="istartswith")
    ids = django_filters.BaseInFilter("id")
    staff = django_filters.BooleanFilter("room__is_staff_only")

    class Meta:
        model = Message
        fields = {"room__name": ["exact", "in"], "created": ["gte"]}


def test_filterset_class(site, rooms):
    filtered(site, DjangoFilterBackend, filterset_class=MessageFilter)
    answer = site.same("GET /api/messages/?begins=one", "list", query={"begins": "one"})
    assert texts(answer) == ["one", "One more"]
    names = "attic,lobby"
    url = f"/api/messages/?room__name__in={names}&staff=false"
    answer = site.same(f"GET {url}", "list", query={"room__name__in": names, "staff": False})
    assert len(answer.data) == 4
    answer = site.same("GET /api/messages/?begins=t", "list", begins="t")
    assert texts(answer) == ["two", "three"]


def test_invalid_values_of_a_filterset_class(site, rooms):
    filtered(site, DjangoFilterBackend, filterset_class=MessageFilter)
    query = {"created__gte": "soon", "ids": "1,x"}
    answer = site.same("GET /api/messages/?created__gte=soon&ids=1,x", "list", query=query)
    assert answer.errors[0]["created__gte"] == ["Enter a valid date/time."]


def test_filters_hide_rows_too(site, rooms):
    filtered(site, DjangoFilterBackend, filterset_fields=["room"])
    lobby, attic = rooms
    pk = lobby.messages.first().pk
    for room, status in [(lobby, 200), (attic, 404)]:
        url = f"/api/messages/{pk}/?room={room.pk}"
        query = {"room": room.pk}
        assert site.same(f"GET {url}", "retrieve", pk=pk, query=query).status_code == status


def test_search(site, rooms):
    filtered(site, filters.SearchFilter, search_fields=["text", "^room__name"])
    answer = site.same("GET /api/messages/?search=one", "list", query={"search": "one"})
    assert texts(answer) == ["one", "One more"]
    answer = site.same("GET /api/messages/?search=att+two", "list", search="att two")
    assert texts(answer) == ["two"]


def test_a_search_that_cannot_be(site, rooms):
    filtered(site, filters.SearchFilter, search_fields=["text"])
    answer = site.same("GET /api/messages/?search=%00", "list", query={"search": "\0"})
    assert answer.status_code == 400


def test_ordering(site, rooms):
    filtered(site, filters.OrderingFilter, ordering_fields=["text", "id"])
    answer = site.same("GET /api/messages/?ordering=-id", "list", query={"ordering": "-id"})
    assert texts(answer) == ["One more", "three", "two", "one"]
    assert site.same("GET /api/messages/?ordering=-id", "list", ordering="-id").data == answer.data
    answer = site.same("GET /api/messages/?ordering=secret", "list", query={"ordering": "secret"})
    assert texts(answer)[0] == "one"


def test_all_together(site, rooms):
    filtered(
        site,
        DjangoFilterBackend,
        filters.SearchFilter,
        filters.OrderingFilter,
        filterset_fields=["room"],
        search_fields=["text"],
        ordering=["-id"],
    )
    lobby = rooms[0]
    url = f"/api/messages/?room={lobby.pk}&search=e&ordering=text"
    query = {"room": lobby.pk, "search": "e", "ordering": "text"}
    assert len(site.same(f"GET {url}", "list", query=query).data) == 3
    assert texts(site.same("GET /api/messages/?search=e", "list", search="e"))[0] == "One more"


def test_a_filter_of_the_handshake(site, rooms):
    """A socket opened with a query keeps it, as a base for each frame's own."""
    filtered(site, DjangoFilterBackend, filterset_fields=["room", "text"])
    attic = rooms[1]
    expected = site.http(f"GET /api/messages/?room={attic.pk}")
    assert site.socket("list", at=f"/ws/messages/?room={attic.pk}") == expected


def test_a_backend_of_a_projects_own(site, rooms, django_user_model):
    class OwnOnly(filters.BaseFilterBackend):
        def filter_queryset(self, request, queryset, view):
            return queryset.filter(author=request.user.pk)

    filtered(site, OwnOnly)
    ann = django_user_model.objects.create_user("ann")
    Message.objects.filter(text="two").update(author=ann)
    site.force_authenticate(ann)
    assert texts(site.same("GET /api/messages/", "list")) == ["two"]
