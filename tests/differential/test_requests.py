"""An action finds the same in its request as over HTTP."""

from __future__ import annotations

import pytest
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from tests.support.http_comparison import Site


class EchoViewSet(viewsets.ViewSet):
    def echo(self, request, **kwargs):
        match = request.resolver_match
        return Response(
            {
                "request": {
                    "method": request.method,
                    "path": request.path,
                    "path_info": request.path_info,
                    "full_path": request.get_full_path(),
                    "uri": request.build_absolute_uri(),
                    "other_uri": request.build_absolute_uri("../?x=1"),
                    "host": request.get_host(),
                    "port": request.get_port(),
                    "scheme": request.scheme,
                    "is_secure": request.is_secure(),
                    "address": request.META["REMOTE_ADDR"],
                    "cookies": request.COOKIES,
                    "header": request.headers.get("x-custom"),
                    "agent": request.META.get("HTTP_USER_AGENT"),
                    "media_type": request.accepted_media_type,
                },
                "query": {
                    name: request.query_params.getlist(name) for name in request.query_params
                },
                "query_string": request.META["QUERY_STRING"],
                "data": request.data,
                "files": request.FILES.getlist("upload"),
                "post": request.POST,
                "user": [str(request.user), request.user.is_authenticated, request.auth],
                "django_user": str(request._request.user),
                "match": {
                    "url_name": match.url_name,
                    "view_name": match.view_name,
                    "args": match.args,
                    "kwargs": match.kwargs,
                    "namespaces": match.namespaces,
                    "route": match.route,
                },
                "parser_kwargs": request.parser_context["kwargs"],
                "view": {
                    "action": self.action,
                    "action_map": self.action_map,
                    "basename": self.basename,
                    "detail": self.detail,
                    "kwargs": self.kwargs,
                    "given": kwargs,
                    "name": self.get_view_name(),
                    "description": self.get_view_description(),
                    "format_kwarg": self.format_kwarg,
                    "class": type(self).__name__,
                    "module": type(self).__module__,
                    "headers": self.headers,
                },
            }
        )

    list = retrieve = create = update = partial_update = destroy = echo

    @action(detail=True, methods=["post", "put"], url_path="extra-echo")
    def extra(self, request, pk=None):
        """The view of an extra action."""
        return self.echo(request, pk=pk)


@pytest.fixture
def echo(site):
    site.register("echoes", EchoViewSet, "echo")
    return site


@pytest.mark.parametrize("verb, action", [("GET", "list"), ("POST", "create")])
def test_on_the_collection(echo, verb, action):
    answer = echo.same(f"{verb} /api/echoes/", action, data={"a": {"b": [1, 2.5, None, True, "é"]}})
    assert answer.data["request"]["method"] == verb
    assert answer.data["view"]["action"] == action


@pytest.mark.parametrize(
    "verb, action",
    [("GET", "retrieve"), ("PUT", "update"), ("PATCH", "partial_update"), ("DELETE", "destroy")],
)
def test_on_a_row(echo, verb, action):
    answer = echo.same(f"{verb} /api/echoes/7/", action, pk=7, data=["x"])
    assert answer.data["request"]["uri"] == "http://testserver/api/echoes/7/"
    assert answer.data["view"]["given"] == {"pk": "7"}


@pytest.mark.parametrize("verb", ["POST", "PUT"])
def test_in_an_extra_action(echo, verb):
    answer = echo.same(f"{verb} /api/echoes/7/extra-echo/", "extra", pk="7", method=verb)
    assert answer.data["match"]["url_name"] == "echo-extra"
    assert answer.data["data"] == {}


def test_below_a_namespace(db):
    with Site(http="v1/api/", namespace="v1") as site:
        site.register("echoes", EchoViewSet, "echo")
        found = site.same("GET /v1/api/echoes/7/", "retrieve", pk=7).data
        assert found["match"]["view_name"] == "v1:echo-detail"
        assert found["request"]["path"] == "/v1/api/echoes/7/"


@pytest.mark.parametrize(
    "url, query",
    [
        ("a=1&b=x", {"a": 1, "b": "x"}),
        ("a=1&a=2", {"a": [1, 2]}),
        ("a=&b=true", {"a": None, "b": True}),
        ("a=x+y%26z%3D%C3%A9", {"a": "x y&z=é"}),
        ("self=1&scope=2&__class__=3", {"self": 1, "scope": 2, "__class__": 3}),
    ],
)
def test_the_query(echo, url, query):
    answer = echo.same(f"GET /api/echoes/?{url}", "list", query=query)
    assert answer.data["request"]["full_path"] == f"/api/echoes/?{url}"


def test_the_handshakes_headers_and_cookies(echo):
    echo.headers.update({"x-custom": "1", "user-agent": "curl", "host": "localhost:8000"})
    echo.client.cookies["colour"] = "red"
    found = echo.same("GET /api/echoes/", "list").data["request"]
    assert found["uri"] == "http://localhost:8000/api/echoes/"
    assert (found["cookies"], found["header"]) == ({"colour": "red"}, "1")


def test_behind_a_proxy(echo, settings):
    settings.USE_X_FORWARDED_HOST = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.ALLOWED_HOSTS = ["shop.example"]
    echo.headers.update({"x-forwarded-host": "shop.example", "x-forwarded-proto": "https"})
    found = echo.same("GET /api/echoes/", "list").data["request"]
    assert found["uri"] == "https://shop.example/api/echoes/"


def test_the_user(echo, django_user_model):
    echo.force_login(django_user_model.objects.create_user("ann"))
    assert echo.same("GET /api/echoes/", "list").data["user"] == ["ann", True, None]


def test_the_accepted_media_type(echo):
    answer = echo.same("GET /api/echoes/", "list", headers={"accept": "application/json; indent=4"})
    assert answer.data["request"]["media_type"] == "application/json; indent=4"


def test_a_media_type_that_nothing_writes(echo):
    answer = echo.same("GET /api/echoes/", "list", headers={"accept": "image/png"})
    assert (answer.status_code, answer.codes) == (406, ["not_acceptable"])


def test_the_body_of_a_request_not_read_otherwise(site):
    class BodyViewSet(viewsets.ViewSet):
        def create(self, request):
            return Response({"body": request.body.decode(), "type": request.content_type})

    site.register("bodies", BodyViewSet, "body")
    answer = site.same("POST /api/bodies/", "create", data={"a": [1, "é"]})
    assert answer.data["type"] == "application/json"
