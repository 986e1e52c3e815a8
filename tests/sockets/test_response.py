"""DRF's response as a reply: its keys, and their shape."""

from __future__ import annotations

import base64
import io
import json

import pytest
import rest_framework
from channels.routing import URLRouter
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template.response import SimpleTemplateResponse
from django.test import override_settings
from rest_framework import exceptions as drf
from rest_framework import renderers, serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.response import Response

from rest_channels.test import SocketClient, SocketReply
from tests.support.talk import OpenViewSet

pytestmark = pytest.mark.django_db


def reply_to(make, **attributes) -> SocketReply:
    """The reply of an action that returns, or raises, what `make` does."""

    class View(OpenViewSet):
        def list(self, request):
            return make()

    for name, value in attributes.items():
        setattr(View, name, value)
    with SocketClient(URLRouter(View.as_routes("", "x"))) as socket:
        return socket.list()


def raising(exc) -> SocketReply:
    def fail():
        raise exc

    return reply_to(fail)


def test_a_reply_has_these_keys_and_no_more():
    assert reply_to(lambda: Response({"a": 1})).payload == {
        "errors": [],
        "data": {"a": 1},
        "action": "list",
        "response_status": 200,
        "request_id": 1,
    }


@pytest.mark.parametrize("data", [[], {}, "", "text", 0, 1.5, False, [None], "\u2028 é 😀"])
def test_data_is_what_the_view_returned(data):
    assert reply_to(lambda: Response(data)).data == data


@pytest.mark.parametrize("status", [200, 201, 202, 203, 299, 300, 399])
def test_below_400_there_are_data_and_no_errors(status):
    reply = reply_to(lambda: Response("data", status=status))
    assert (reply.status_code, reply.data, reply.errors, reply.codes) == (status, "data", [], None)


@pytest.mark.parametrize("status", [400, 418, 499, 500, 599])
def test_from_400_on_there_are_errors_and_no_data(status):
    reply = reply_to(lambda: Response("why", status=status))
    assert (reply.status_code, reply.data, reply.errors) == (status, None, ["why"])


@pytest.mark.parametrize("status", [204, 304])
def test_what_has_no_body_over_http_has_no_data(status):
    assert reply_to(lambda: Response({"a": 1}, status=status)).data is None


# Errors

SHAPES = [
    ("why", ["why"]),
    (["a", "b"], ["a", "b"]),
    ({"name": ["Too long."]}, [{"name": ["Too long."]}]),
    ({"detail": "why"}, ["why"]),
    ({"detail": ["why"]}, [{"detail": ["why"]}]),
    ({"detail": "why", "more": 1}, [{"detail": "why", "more": 1}]),
    ({}, [{}]),
    ([], []),
    (None, []),
    (7, [7]),
]


@pytest.mark.parametrize(("data", "errors"), SHAPES)
def test_errors_are_a_list_whatever_their_shape(data, errors):
    assert reply_to(lambda: Response(data, status=400)).errors == errors


ERROR = ErrorDetail("Bad.", "bad")
CODES = [
    (ERROR, ["bad"]),
    ([ERROR, ErrorDetail("Worse.", "worse")], ["bad", "worse"]),
    ({"name": [ERROR]}, [{"name": ["bad"]}]),
    ({"a": {"b": [ERROR]}, "c": "plain"}, [{"a": {"b": ["bad"]}, "c": None}]),
    ([ERROR, "plain", 7], ["bad", None, None]),
    ({1: [ERROR], "d": {}}, [{"1": ["bad"], "d": {}}]),
    ({"detail": ERROR, "more": [1]}, [{"detail": "bad", "more": [None]}]),
    ([{}, {"name": [ERROR]}, {}], [{}, {"name": ["bad"]}, {}]),
    ({"detail": ERROR}, ["bad"]),
    ({"rows": ({}, {"name": [ERROR]})}, [{"rows": [{}, {"name": ["bad"]}]}]),
    ("plain", None),
    ({"a": [{"b": "plain"}]}, None),
    ([], None),
]


@pytest.mark.parametrize(("data", "codes"), CODES)
def test_codes_have_the_shape_of_the_errors(data, codes):
    assert reply_to(lambda: Response(data, status=400)).codes == codes


class Loud(renderers.JSONRenderer):
    """Names keys in capitals, as others do in camel case."""

    def render(self, data, *args, **kwargs):
        return super().render(self.renamed(data), *args, **kwargs)

    def renamed(self, data):
        if isinstance(data, dict):
            return {str(name).upper(): self.renamed(item) for name, item in data.items()}
        return [self.renamed(item) for item in data] if isinstance(data, list) else data


class Wrapping(renderers.JSONRenderer):
    def render(self, data, *args, **kwargs):
        return super().render({"status": "error", "errors": [data]}, *args, **kwargs)


class Terse(renderers.JSONRenderer):
    def render(self, data, *args, **kwargs):
        return super().render({"message": "no"}, *args, **kwargs)


RENDERED = [
    (Loud, {"first": [ERROR], "last": "x"}, [{"FIRST": ["bad"], "LAST": None}]),
    (Loud, [{}, {"name": [ERROR]}], [{}, {"NAME": ["bad"]}]),
    (Loud, {"detail": ERROR}, [{"DETAIL": "bad"}]),
    (Wrapping, {"name": [ERROR]}, [{"status": None, "errors": [{"name": ["bad"]}]}]),
    (Terse, {"name": [ERROR]}, None),
    (renderers.StaticHTMLRenderer, ERROR, ["bad"]),
]


def shape(value):
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else None


@pytest.mark.parametrize(("renderer", "data", "codes"), RENDERED)
def test_codes_have_the_shape_that_the_renderer_gave_the_errors(renderer, data, codes):
    reply = reply_to(lambda: Response(data, status=400), renderer_classes=[renderer])
    assert reply.codes == codes
    assert codes is None or shape(reply.errors) == shape(codes)


def test_a_serializers_errors_have_their_codes():
    class Form(serializers.Serializer):
        name = serializers.CharField(max_length=3)
        age = serializers.IntegerField()

    def make():
        Form(data={"name": "toolong"}).is_valid(raise_exception=True)

    reply = reply_to(make)
    assert reply.codes == [{"name": ["max_length"], "age": ["required"]}]
    assert reply.errors[0]["age"] == ["This field is required."]


def test_a_raised_exception_has_its_code():
    reply = raising(drf.PermissionDenied("Not you.", code="not_you"))
    assert (reply.status_code, reply.errors, reply.codes) == (403, ["Not you."], ["not_you"])


# Headers


@pytest.mark.parametrize("name", ["Location", "Link", "ETag", "X-Total-Count", "Retry-After"])
def test_headers_that_say_something_are_told(name):
    assert reply_to(lambda: Response(headers={name: "x"})).headers == {name: "x"}


def test_headers_that_every_response_has_are_not():
    def make():
        return Response("x", headers={"Vary": "Cookie", "Content-Length": "3"})

    reply = reply_to(make)
    assert "headers" not in reply.payload


def test_allow_is_told_where_it_answers_the_question():
    reply = raising(drf.MethodNotAllowed("GET"))
    assert reply.status_code == 405 and reply.headers == {"Allow": "GET, HEAD, OPTIONS"}
    assert raising(drf.NotFound()).headers == {}


def test_a_throttle_says_how_long_to_wait():
    assert raising(drf.Throttled(wait=7)).headers == {"Retry-After": "7"}


def test_a_redirect_says_where_to():
    reply = reply_to(lambda: HttpResponseRedirect("/elsewhere/"))
    assert (reply.status_code, reply.data) == (302, None)
    assert reply.headers["Location"] == "/elsewhere/"


# What is no JSON


@pytest.mark.parametrize("media_type", ["text/plain", "text/html; charset=utf-8", "text/csv"])
def test_text_is_a_string_with_its_type(media_type):
    reply = reply_to(lambda: HttpResponse("gr\xfc\xdfe", content_type=media_type))
    assert (reply.data, reply.headers) == ("gr\xfc\xdfe", {"Content-Type": media_type})


def test_text_is_read_in_its_charset():
    text = "gr\xfc\xdfe"
    response = HttpResponse(text.encode("latin-1"), content_type="text/plain; charset=latin-1")
    assert reply_to(lambda: response).data == text


class Foreign(renderers.BaseRenderer):
    """Writes bytes, in a charset of which Python knows nothing."""

    media_type, format, charset = "text/plain", "txt", "x-ours"

    def render(self, data, *args, **kwargs):
        return json.dumps(data).encode()


class ForeignJSON(Foreign):
    media_type, format = "application/json", "json"


@pytest.mark.parametrize("charset", ["x-ours", "hex", "undefined", "utf-16"])
def test_text_of_a_charset_that_nobody_knows_is_base64(charset):
    renderer = type("Renderer", (Foreign,), {"charset": charset})
    reply = reply_to(lambda: Response("abc"), renderer_classes=[renderer])
    assert reply.status_code == 200
    assert base64.b64decode(reply.data) == b'"abc"'
    assert reply.headers == {
        "Content-Type": f"text/plain; charset={charset}",
        "Content-Transfer-Encoding": "base64",
    }


def test_json_of_a_charset_that_nobody_knows_is_json():
    reply = reply_to(lambda: Response({"a": "é"}), renderer_classes=[ForeignJSON])
    assert (reply.status_code, reply.data) == (200, {"a": "é"})
    failed = reply_to(lambda: Response([ERROR], status=400), renderer_classes=[ForeignJSON])
    assert (failed.status_code, failed.codes) == (400, ["bad"])


def test_json_is_read_in_its_charset():
    content = '{"a": "é"}'.encode("latin-1")
    response = HttpResponse(content, content_type="application/json; charset=latin-1")
    assert reply_to(lambda: response).data == {"a": "é"}


def test_bytes_are_base64():
    content = bytes(range(256))
    reply = reply_to(lambda: HttpResponse(content, content_type="image/png"))
    assert base64.b64decode(reply.data) == content
    assert reply.headers == {"Content-Type": "image/png", "Content-Transfer-Encoding": "base64"}


def test_a_file_is_read_and_closed():
    file = io.BytesIO(b"\xff\xfe\xfd")
    reply = reply_to(lambda: FileResponse(file, filename="x.bin", as_attachment=True))
    assert base64.b64decode(reply.data) == b"\xff\xfe\xfd" and file.closed
    assert reply.headers["Content-Disposition"] == 'attachment; filename="x.bin"'


def test_a_stream_is_joined():
    reply = reply_to(lambda: StreamingHttpResponse([b"a,", b"b"], content_type="text/csv"))
    assert reply.data == "a,b"


def test_a_renderer_for_another_type_makes_text():
    reply = reply_to(lambda: Response("hello"), renderer_classes=[renderers.StaticHTMLRenderer])
    assert (reply.data, reply.headers["Content-Type"]) == ("hello", "text/html; charset=utf-8")


def test_an_error_that_is_no_json_is_text_in_a_list():
    reply = reply_to(lambda: HttpResponse("Teapot", status=418, content_type="text/plain"))
    assert (reply.data, reply.errors) == (None, ["Teapot"])


@override_settings(
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [("django.template.loaders.locmem.Loader", {"x": "Hello {{ name }}"})]
            },
        }
    ]
)
def test_a_template_is_rendered_as_django_does():
    assert reply_to(lambda: SimpleTemplateResponse("x", {"name": "ann"})).data == "Hello ann"


# JSON that is not DRF's


@pytest.mark.parametrize("media_type", ["application/json", "application/problem+json"])
def test_json_is_data_whoever_wrote_it(media_type):
    reply = reply_to(lambda: HttpResponse('{"a": [1]}', content_type=media_type))
    assert reply.data == {"a": [1]}


def test_json_of_django_is_data():
    assert reply_to(lambda: JsonResponse({"a": 1})).data == {"a": 1}
    assert reply_to(lambda: JsonResponse({"a": 1}, status=400)).errors == [{"a": 1}]


NOT_JSON = ["oops", "{", "1 2", '1, "response_status": 500', "1}", "\xff", " "]


@pytest.mark.parametrize("text", NOT_JSON)
@pytest.mark.parametrize("status", [200, 400])
def test_what_only_calls_itself_json_does_not_break_the_frame(text, status):
    content = text.encode("latin-1")
    reply = reply_to(lambda: HttpResponse(content, status=status, content_type="application/json"))
    assert (reply.status_code, reply.data) == (500, None)
    assert reply.errors[0].startswith("Server error")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_know_never_reach_the_wire(value):
    assert reply_to(lambda: Response(value)).status_code == 500
    assert reply_to(lambda: JsonResponse({"a": value})).status_code == 500


class LaxRenderer(renderers.JSONRenderer):
    strict = False


def test_nor_where_the_projects_renderer_would_write_them():
    reply = reply_to(lambda: Response(float("nan")), renderer_classes=[LaxRenderer])
    assert reply.status_code == 500


class OwnRenderer(renderers.BaseRenderer):
    media_type, format = "application/json", "json"

    def render(self, data, accepted_media_type=None, renderer_context=None):
        return json.dumps({"envelope": data}, indent=4)


def test_a_renderer_of_the_projects_own_writes_the_data():
    reply = reply_to(lambda: Response([1]), renderer_classes=[OwnRenderer])
    assert reply.data == {"envelope": [1]}


# Errors of many objects


class NameSerializer(serializers.Serializer):
    name = serializers.CharField()


def errors_of_many() -> SocketReply:
    def create():
        serializer = NameSerializer(data=[{"name": "a"}, {}, {"name": ""}], many=True)
        serializer.is_valid(raise_exception=True)

    return reply_to(create)


REQUIRED = [ErrorDetail("This field is required.", "required")]


def test_errors_of_many_objects_come_as_this_version_of_drf_has_them():
    reply = errors_of_many()
    missing, blank = ["This field is required."], ["This field may not be blank."]
    if rest_framework.VERSION >= "3.18":
        assert reply.errors == [{"1": {"name": missing}, "2": {"name": blank}}]
        assert reply.codes == [{"1": {"name": ["required"]}, "2": {"name": ["blank"]}}]
    else:
        assert reply.errors == [{}, {"name": missing}, {"name": blank}]
        assert reply.codes == [{}, {"name": ["required"]}, {"name": ["blank"]}]


@pytest.mark.parametrize(
    ("detail", "errors", "codes"),
    [
        (
            {1: {"name": REQUIRED}},
            [{"1": {"name": ["This field is required."]}}],
            [{"1": {"name": ["required"]}}],
        ),
        (
            [{}, {"name": REQUIRED}],
            [{}, {"name": ["This field is required."]}],
            [{}, {"name": ["required"]}],
        ),
        (
            {"rows": {0: {"name": REQUIRED}, 10: {"name": REQUIRED}}},
            [{"rows": {key: {"name": ["This field is required."]} for key in ("0", "10")}}],
            [{"rows": {key: {"name": ["required"]} for key in ("0", "10")}}],
        ),
    ],
    ids=["by index", "a list", "within an object"],
)
def test_both_shapes_of_errors_of_many_objects(detail, errors, codes):
    reply = raising(drf.ValidationError(detail))
    assert (reply.status_code, reply.errors, reply.codes) == (400, errors, codes)
