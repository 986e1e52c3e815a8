"""Negotiation that remembers: the choice is DRF's, whatever was asked before."""

from __future__ import annotations

from unittest import mock

import pytest
from django.http import Http404
from django.test import RequestFactory, override_settings
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import parsers, renderers, viewsets
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response

from rest_channels import negotiation
from rest_channels.negotiation import RememberingNegotiation, remembering
from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient
from rest_channels.viewsets import as_consumer


class TextRenderer(renderers.StaticHTMLRenderer):
    media_type, format = "text/plain", "txt"


class VersionedRenderer(renderers.JSONRenderer):
    media_type = "application/json; version=1"


RENDERERS = [
    renderers.JSONRenderer,
    renderers.BrowsableAPIRenderer,
    TextRenderer,
    VersionedRenderer,
]
PARSERS = [
    parsers.JSONParser,
    parsers.FormParser,
    parsers.MultiPartParser,
    parsers.FileUploadParser,
]

media_types = st.sampled_from(
    [
        *["application/json", "application/*", "*/*", "text/html", "text/plain", "text/*"],
        *["application/json; version=1", "application/json; indent=4", "application/xml;q=0.9"],
        *["nonsense", "", "*/*; a=b", "application/json;version=2;q=1", "x" * 300],
    ]
)
accepts = st.none() | st.lists(media_types, min_size=1, max_size=4).map(",".join)
formats = st.sampled_from([None, "json", "txt", "api", "none"])


def outcome(choose):
    """What was chosen, by class, or how it was refused."""
    try:
        chosen = choose()
    except (NotAcceptable, Http404) as exc:
        return type(exc)
    if isinstance(chosen, tuple):
        return type(chosen[0]), chosen[1]
    return type(chosen)


@given(accepts, formats, formats, st.lists(st.sampled_from(RENDERERS), min_size=1, unique=True))
def test_a_renderer_is_chosen_as_drf_chooses(accept, suffix, in_query, classes):
    def choice(negotiator):
        headers = {} if accept is None else {"HTTP_ACCEPT": accept}
        query = {} if in_query is None else {"format": in_query}
        request = Request(RequestFactory().get("/", query, **headers))
        offered = [renderer() for renderer in classes]
        return outcome(lambda: negotiator.select_renderer(request, offered, suffix))

    expected = choice(DefaultContentNegotiation())
    assert [choice(RememberingNegotiation()) for _ in range(2)] == [expected, expected]


@given(media_types, st.lists(st.sampled_from(PARSERS), unique=True))
def test_a_parser_is_chosen_as_drf_chooses(content_type, classes):
    def choice(negotiator):
        request = Request(RequestFactory().post("/", b"", content_type=content_type))
        return outcome(lambda: negotiator.select_parser(request, [parser() for parser in classes]))

    expected = choice(DefaultContentNegotiation())
    assert [choice(RememberingNegotiation()) for _ in range(2)] == [expected, expected]


def test_the_renderer_is_one_of_those_offered():
    request = Request(RequestFactory().get("/"))
    for _ in range(2):
        offered = [renderers.JSONRenderer()]
        renderer, _ = RememberingNegotiation().select_renderer(request, offered)
        assert renderer is offered[0]


def test_the_parameter_that_names_the_format_is_heard():
    request = Request(RequestFactory().get("/?as=txt&format=json"))
    for name, expected in (("format", "json"), ("as", "txt"), (None, "json")):
        with override_settings(REST_FRAMEWORK={"URL_FORMAT_OVERRIDE": name}):
            offered = [renderers.JSONRenderer(), TextRenderer()]
            renderer, _ = RememberingNegotiation().select_renderer(request, offered)
        assert renderer.format == expected


def test_what_is_remembered_is_bounded():
    def ask(accept):
        request = Request(RequestFactory().get("/", HTTP_ACCEPT=accept))
        RememberingNegotiation().select_renderer(request, [renderers.JSONRenderer()])

    negotiation._renderers.clear()
    with mock.patch.object(negotiation, "_CHOICES", 3):
        for number in range(10):
            ask(f"*/*; a={number}")
            assert 1 <= len(negotiation._renderers) <= 3
        ask("*/*," + "x" * 300)
        assert all(len(accept) <= 256 for accept, *_ in negotiation._renderers)


def test_only_drfs_own_class_is_replaced():
    class Own(DefaultContentNegotiation):
        pass

    changed = DefaultContentNegotiation()
    changed.max_accept_tokens = 1
    for negotiator in (Own(), changed, BaseContentNegotiation()):
        assert remembering(negotiator) is negotiator
    assert type(remembering(DefaultContentNegotiation())) is RememberingNegotiation


@pytest.mark.django_db
def test_a_viewset_negotiates_as_it_likes():
    class Plain(BaseContentNegotiation):
        def select_parser(self, request, parsers):
            return parsers[0]

        def select_renderer(self, request, renderers, format_suffix=None):
            return renderers[0], "application/json; by=plain"

    class ByClass(viewsets.ViewSet):
        content_negotiation_class = Plain

        def list(self, request):
            return Response(request.accepted_media_type)

    class ByMethod(viewsets.ViewSet):
        def get_content_negotiator(self):
            return Plain()

        def list(self, request):
            return Response(request.accepted_media_type)

    for viewset in (ByClass, as_consumer(ByMethod)):
        router = DefaultRouter()
        router.register("rooms", viewset, "room")
        with SocketClient(router.as_asgi()) as client:
            assert client.list("rooms").data == "application/json; by=plain"


@pytest.mark.django_db
def test_frame_after_frame_is_negotiated_once():
    class View(viewsets.ViewSet):
        def list(self, request):
            return Response(request.accepted_media_type)

    router = DefaultRouter()
    router.register("rooms", View, "room")
    negotiation._renderers.clear()
    select = DefaultContentNegotiation.select_renderer
    with (
        mock.patch.object(
            DefaultContentNegotiation, "select_renderer", autospec=True, side_effect=select
        ) as asked,
        SocketClient(router.as_asgi()) as client,
    ):
        assert [client.list("rooms").data for _ in range(3)] == ["application/json"] * 3
        assert asked.call_count == 1
        assert client.list("rooms", headers={"accept": "*/*"}).status_code == 200
        assert asked.call_count == 2
