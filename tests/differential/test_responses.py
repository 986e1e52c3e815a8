"""Responses of actions: headers, other kinds of responses, renderers and parsers."""

from __future__ import annotations

import json

import pytest
from django.core.cache import cache
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_control, cache_page
from rest_framework import parsers, renderers, serializers, viewsets
from rest_framework.response import Response

from tests.models import Room


def returning(site, make, **attributes):
    class ThingViewSet(viewsets.ViewSet):
        def list(self, request):
            return make()

        def create(self, request):
            return Response(request.data, status=201)

    for name, value in attributes.items():
        setattr(ThingViewSet, name, value)
    site.register("things", ThingViewSet, "thing")


def test_headers(site):
    def make():
        response = Response({"ok": True}, headers={"X-One": "1", "ETag": '"abc"'})
        response["x-two"] = "é"
        return response

    returning(site, make)
    answer = site.same("GET /api/things/", "list")
    assert answer.headers.keys() == {"X-One", "ETag", "x-two"}


@pytest.mark.parametrize(
    "status", [200, 201, 202, 204, 207, 299, 304, 400, 404, 409, 451, 500, 599]
)
def test_statuses(site, status):
    returning(site, lambda: Response({"detail": "So."}, status=status))
    assert site.same("GET /api/things/", "list").status_code == status


RESPONSES = {
    "text": lambda: HttpResponse("plain é", content_type="text/plain; charset=utf-8"),
    "html": lambda: HttpResponse("<p>"),
    "nothing": lambda: HttpResponse(status=204),
    "nothing but a failure": lambda: HttpResponse(status=410),
    "failing text": lambda: HttpResponse("Gone.", status=410, content_type="text/plain"),
    "json": lambda: JsonResponse({"a": [1]}),
    "json text": lambda: JsonResponse("a", safe=False),
    "failing json": lambda: JsonResponse({"a": "b"}, status=400),
    "failing json with a detail": lambda: JsonResponse({"detail": "Wrong."}, status=400),
    "failing json list": lambda: JsonResponse(["a", "b"], safe=False, status=400),
    "stream": lambda: StreamingHttpResponse(iter(["a", "b"]), content_type="text/csv"),
    "redirect": lambda: HttpResponseRedirect("/api/things/1/"),
    "rendered by DRF": lambda: Response({"a": 1}, content_type="application/json"),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_responses_of_djangos_own(site, name):
    returning(site, RESPONSES[name])
    expected = RESPONSES[name]().status_code
    assert site.same("GET /api/things/", "list").status_code == expected


def test_a_file(site, tmp_path):
    opened = []

    def make():
        opened.append((tmp_path / "a b.csv").open("rb"))
        return FileResponse(opened[-1], as_attachment=True)

    (tmp_path / "a b.csv").write_text("1,2")
    returning(site, make)
    answer = site.same("GET /api/things/", "list")
    assert answer.data == "1,2"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a b.csv"'
    assert len(opened) == 3
    assert all(file.closed for file in opened)


class CamelRenderer(renderers.JSONRenderer):
    def render(self, data, *args, **kwargs):
        return super().render(recased(data, camel), *args, **kwargs)


class CamelParser(parsers.JSONParser):
    def parse(self, *args, **kwargs):
        return recased(super().parse(*args, **kwargs), snake)


def recased(data, change):
    if isinstance(data, dict):
        return {change(name): recased(value, change) for name, value in data.items()}
    return [recased(item, change) for item in data] if isinstance(data, list) else data


def camel(name):
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def snake(name):
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)


@pytest.fixture
def camels(site):
    class RoomSerializer(serializers.ModelSerializer):
        class Meta:
            model = Room
            fields = ["name", "is_staff_only"]
            extra_kwargs = {"is_staff_only": {"required": True}}

    class RoomViewSet(viewsets.ModelViewSet):
        queryset = Room.objects.order_by("id")
        serializer_class = RoomSerializer
        renderer_classes = [CamelRenderer]
        parser_classes = [CamelParser]

    site.register("rooms", RoomViewSet)
    return site


def test_a_renderer_and_a_parser_of_a_projects_own(camels):
    data = {"name": "attic", "isStaffOnly": True}
    answer = camels.same("POST /api/rooms/", "create", data=data)
    assert answer.data == data
    assert answer.rows["Room"][0]["is_staff_only"] is True


def test_errors_of_a_renderer_of_a_projects_own(camels):
    answer = camels.same("POST /api/rooms/", "create", data={"name": "attic"})
    assert answer.errors == [{"isStaffOnly": ["This field is required."]}]


def test_a_renderer_that_wraps(site):
    class WrappingRenderer(renderers.JSONRenderer):
        def render(self, data, media_type=None, context=None):
            wrapped = {"status": context["response"].status_code, "result": data}
            return super().render(wrapped, media_type, context)

    returning(site, lambda: Response({"a": 1}), renderer_classes=[WrappingRenderer])
    assert site.same("GET /api/things/", "list").data == {"status": 200, "result": {"a": 1}}
    answer = site.same("PUT /api/things/", "list", method="put")
    assert answer.errors[0]["result"] == {"detail": 'Method "PUT" not allowed.'}


def test_a_renderer_that_writes_no_json(site):
    class CsvRenderer(renderers.BaseRenderer):
        media_type, format, charset = "text/csv", "csv", "utf-8"

        def render(self, data, *args, **kwargs):
            return ",".join(data)

    returning(site, lambda: Response(["a", "b"]), renderer_classes=[CsvRenderer])
    answer = site.same("GET /api/things/", "list")
    assert (answer.data, answer.headers) == ("a,b", {"Content-Type": "text/csv; charset=utf-8"})


def test_the_renderer_asked_for(site):
    class ShoutingRenderer(renderers.JSONRenderer):
        media_type, format = "application/vnd.shop+json", "shop"

        def render(self, data, *args, **kwargs):
            return json.dumps(data).upper().encode()

    classes = [renderers.JSONRenderer, ShoutingRenderer]
    returning(site, lambda: Response({"a": "b"}), renderer_classes=classes)
    assert site.same("GET /api/things/", "list").data == {"a": "b"}
    accept = {"accept": "application/vnd.shop+json"}
    assert site.http("GET /api/things/", headers=accept).data == '{"A": "B"}'
    assert site.socket("list", headers=accept).data == {"A": "B"}


@pytest.mark.parametrize("parser", [parsers.FormParser, parsers.MultiPartParser])
def test_a_viewset_that_reads_no_json(site, parser):
    returning(site, Response, parser_classes=[parser])
    answer = site.same("POST /api/things/", "create", data={"a": 1})
    assert (answer.status_code, answer.codes) == (415, ["unsupported_media_type"])
    assert site.same("GET /api/things/", "list").status_code == 200


def test_a_parser_that_refuses(site):
    class Refusing(parsers.JSONParser):
        def parse(self, *args, **kwargs):
            raise serializers.ValidationError({"body": "Too good."}, code="refused")

    returning(site, Response, parser_classes=[Refusing])
    assert site.same("POST /api/things/", "create", data={}).codes == [{"body": "refused"}]


def test_headers_by_a_decorator(site):
    @method_decorator(cache_control(no_store=True))
    def uncached(self, request):
        return Response(1)

    returning(site, Response, list=uncached)
    assert site.same("GET /api/things/", "list").headers == {"Cache-Control": "no-store"}


def test_a_cached_page_is_one_for_both(site):
    @method_decorator(cache_page(60))
    def cached(self, request):
        return Response([room.name for room in Room.objects.all()])

    returning(site, Response, list=cached)
    Room.objects.create(name="lobby")
    first = [site.http("GET /api/things/"), site.http("GET /api/things/")]
    assert [len(answer.queries) for answer in first] == [1, 0]
    cache.clear()
    then = [site.socket("list"), site.socket("list")]
    assert [len(answer.queries) for answer in then] == [1, 0]
    assert then[1].data == first[1].data == ["lobby"]
