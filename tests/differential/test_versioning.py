"""Versions of an API: in the query, the path, the namespace, the host or the media type."""

from __future__ import annotations

import pytest
from rest_framework import versioning, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.reverse import reverse

from tests.support.http_comparison import Site


def versioned(site, scheme, basename="version"):
    class Scheme(scheme):
        allowed_versions = ["v1", "v2"]
        default_version = "v1"

    class VersionViewSet(viewsets.ViewSet):
        versioning_class = Scheme

        def list(self, request):
            link = reverse(f"{basename}-detail", kwargs={"pk": 1}, request=request)
            return Response({"version": request.version, "link": link})

        def retrieve(self, request, pk=None, version=None):
            return Response({"version": request.version, "pk": pk, "kwarg": version})

        @action(detail=False)
        def extra(self, request, version=None):
            return Response({"version": request.version, "link": self.reverse_action("extra")})

    site.register("versions", VersionViewSet, basename)


def test_in_the_query(site):
    versioned(site, versioning.QueryParameterVersioning)
    assert site.same("GET /api/versions/", "list").data["version"] == "v1"
    answer = site.same("GET /api/versions/?version=v2", "list", query={"version": "v2"})
    assert answer.data == {"version": "v2", "link": "http://testserver/api/versions/1/?version=v2"}


def test_an_unknown_one_in_the_query(site):
    versioned(site, versioning.QueryParameterVersioning)
    answer = site.same("GET /api/versions/?version=v9", "list", query={"version": "v9"})
    assert answer.status_code == 404
    assert answer.errors == ["Invalid version in query parameter."]


@pytest.fixture
def by_path(db):
    with Site(http="api/<version>/", socket="ws/<version>/") as site:
        versioned(site, versioning.URLPathVersioning)
        yield site


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_in_the_path(by_path, version):
    answer = by_path.same(f"GET /api/{version}/versions/5/", "retrieve", pk=5, version=version)
    assert answer.data == {"version": version, "pk": "5", "kwarg": version}
    answer = by_path.same(f"GET /api/{version}/versions/extra/", "extra", version=version)
    assert answer.data["link"] == f"http://testserver/api/{version}/versions/extra/"


def test_an_unknown_one_in_the_path(by_path):
    answer = by_path.same("GET /api/v9/versions/5/", "retrieve", pk=5, version="v9")
    assert (answer.status_code, answer.errors) == (404, ["Invalid version in URL path."])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_in_the_namespace(db, version):
    with Site(http=f"api/{version}/", socket="ws/", namespace=version) as site:
        versioned(site, versioning.NamespaceVersioning)
        answer = site.same(f"GET /api/{version}/versions/", "list")
        link = f"http://testserver/api/{version}/versions/1/"
        assert answer.data == {"version": version, "link": link}


def test_an_unknown_one_in_the_namespace(db):
    with Site(namespace="v9") as site:
        versioned(site, versioning.NamespaceVersioning)
        answer = site.same("GET /api/versions/", "list")
        assert answer.errors == [
            "Invalid version in URL path. Does not match any version namespace."
        ]


def test_in_the_host(site, settings):
    settings.ALLOWED_HOSTS = [".shop.example"]
    versioned(site, versioning.HostNameVersioning)
    site.headers["host"] = "v2.shop.example"
    answer = site.same("GET /api/versions/", "list")
    assert answer.data == {"version": "v2", "link": "http://v2.shop.example/api/versions/1/"}
    site.headers["host"] = "v9.shop.example"
    assert site.same("GET /api/versions/", "list").codes == ["not_found"]


def test_in_the_media_type(site):
    versioned(site, versioning.AcceptHeaderVersioning)
    assert site.same("GET /api/versions/", "list").data["version"] == "v1"
    accept = {"accept": "application/json; version=v2"}
    assert site.same("GET /api/versions/", "list", headers=accept).data["version"] == "v2"


def test_an_unknown_one_in_the_media_type(site):
    versioned(site, versioning.AcceptHeaderVersioning)
    accept = {"accept": "application/json; version=v9"}
    answer = site.same("GET /api/versions/", "list", headers=accept)
    assert (answer.status_code, answer.codes) == (406, ["not_acceptable"])


def test_in_the_handshakes_media_type(site):
    versioned(site, versioning.AcceptHeaderVersioning)
    site.headers["accept"] = "application/json; version=v2"
    assert site.same("GET /api/versions/", "list").data["version"] == "v2"
