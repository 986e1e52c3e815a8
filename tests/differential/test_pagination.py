"""Pages by number, by offset and by cursor, with the links between them."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from rest_framework import pagination, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from tests.models import Room
from tests.support.room_viewsets import RoomNameSerializer


class Numbers(pagination.PageNumberPagination):
    page_size = 2
    page_size_query_param = "size"
    max_page_size = 4


class Offsets(pagination.LimitOffsetPagination):
    default_limit = 2
    max_limit = 4


class Cursors(pagination.CursorPagination):
    page_size = 2
    ordering = "-id"


@pytest.fixture
def five_rooms(db):
    for name in ["a", "b", "c", "d", "e"]:
        Room.objects.create(name=name)


def paged(site, paginator):
    class RoomViewSet(viewsets.ModelViewSet):
        queryset = Room.objects.order_by("id")
        serializer_class = RoomNameSerializer
        pagination_class = paginator

        @action(detail=False)
        def extra(self, request):
            page = self.paginate_queryset(self.get_queryset())
            return self.get_paginated_response([room.name for room in page])

        @action(detail=False)
        def headers_too(self, request):
            page = self.paginate_queryset(self.get_queryset())
            names = [room.name for room in page]
            return Response(names, headers={"Link": str(self.paginator.get_next_link())})

    site.register("rooms", RoomViewSet)


def names(answer):
    return "".join(room["name"] for room in answer.data["results"])


def test_by_number(site, five_rooms):
    paged(site, Numbers)
    answer = site.same("GET /api/rooms/", "list")
    assert answer.data["next"] == "http://testserver/api/rooms/?page=2"
    assert (answer.data["count"], len(answer.queries)) == (5, 2)
    answer = site.same("GET /api/rooms/?page=2", "list", query={"page": 2})
    assert (names(answer), answer.data["previous"]) == ("cd", "http://testserver/api/rooms/")
    assert names(site.same("GET /api/rooms/?page=last", "list", query={"page": "last"})) == "e"


@pytest.mark.parametrize("keys", [{"query": {"size": 3, "page": 2}}, {"size": 3, "page": "2"}])
def test_by_number_with_a_size(site, five_rooms, keys):
    paged(site, Numbers)
    answer = site.same("GET /api/rooms/?size=3&page=2", "list", **keys)
    assert names(answer) == "de"
    assert answer.data["previous"] == "http://testserver/api/rooms/?size=3"


@pytest.mark.parametrize("page", ["9", "0", "-1", "x", ""])
def test_a_number_that_is_none(site, five_rooms, page):
    paged(site, Numbers)
    answer = site.same(f"GET /api/rooms/?page={page}", "list", query={"page": page})
    assert answer.status_code == 404 or page == ""


def test_by_offset(site, five_rooms):
    paged(site, Offsets)
    answer = site.same("GET /api/rooms/", "list")
    assert answer.data["next"] == "http://testserver/api/rooms/?limit=2&offset=2"
    answer = site.same("GET /api/rooms/?limit=1&offset=3", "list", query={"limit": 1, "offset": 3})
    assert names(answer) == "d"
    assert answer.data["previous"] == "http://testserver/api/rooms/?limit=1&offset=2"


@pytest.mark.parametrize("keys", [{"limit": 3}, {"offset": 4}, {"limit": 99, "offset": "1"}])
def test_by_offset_at_the_top_level_of_a_frame(site, five_rooms, keys):
    paged(site, Offsets)
    url = "&".join(f"{name}={value}" for name, value in keys.items())
    assert site.same(f"GET /api/rooms/?{url}", "list", **keys).status_code == 200


@pytest.mark.parametrize("keys", [{"limit": "x"}, {"offset": -1}, {"limit": 0}, {"offset": 99}])
def test_offsets_out_of_reason(site, five_rooms, keys):
    paged(site, Offsets)
    url = "&".join(f"{name}={value}" for name, value in keys.items())
    assert site.same(f"GET /api/rooms/?{url}", "list", query=keys).status_code == 200


def follow(site, link):
    """The page behind a link of another page, asked for by the link's query."""
    url = urlsplit(link)
    return site.same(f"GET {url.path}?{url.query}", "list", query=dict(parse_qsl(url.query)))


@pytest.mark.parametrize(
    "paginator, forth", [(Numbers, "abcde"), (Offsets, "abcde"), (Cursors, "edcba")]
)
def test_there_and_back_along_the_links(site, five_rooms, paginator, forth):
    paged(site, paginator)
    page = site.same("GET /api/rooms/", "list")
    seen = names(page)
    while page.data["next"]:
        page = follow(site, page.data["next"])
        seen += names(page)
    assert seen == forth
    while page.data["previous"]:
        page = follow(site, page.data["previous"])
    assert names(page) == forth[:2]


def test_a_cursor_that_is_none(site, five_rooms):
    paged(site, Cursors)
    answer = site.same("GET /api/rooms/?cursor=x", "list", query={"cursor": "x"})
    assert (answer.status_code, answer.errors) == (404, ["Invalid cursor"])


def test_links_keep_the_rest_of_the_query(site, five_rooms):
    paged(site, Numbers)
    answer = site.same("GET /api/rooms/?z=%26+1&a=2", "list", query={"z": "& 1", "a": 2})
    assert answer.data["next"] == "http://testserver/api/rooms/?a=2&page=2&z=%26+1"


def test_in_an_extra_action(site, five_rooms):
    paged(site, Numbers)
    answer = site.same("GET /api/rooms/extra/?page=2", "extra", page=2)
    assert answer.data["next"] == "http://testserver/api/rooms/extra/?page=3"
    answer = site.same("GET /api/rooms/headers_too/", "headers_too")
    assert answer.headers == {"Link": "http://testserver/api/rooms/headers_too/?page=2"}


def test_a_paginator_of_a_projects_own(site, five_rooms):
    class Headers(Numbers):
        def get_paginated_response(self, data):
            return Response(data, headers={"X-Total": str(self.page.paginator.count)})

    paged(site, Headers)
    answer = site.same("GET /api/rooms/?page=3", "list", page=3)
    assert (answer.data, answer.headers) == ([{"name": "e"}], {"X-Total": "5"})
