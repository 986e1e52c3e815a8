"""The cost of a description, counted: it grows with the number of serializers, once for each."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from django.urls import include, path
from rest_framework import routers, serializers, viewsets
from rest_framework.permissions import AllowAny

from rest_channels.routers import DefaultRouter
from rest_channels.schema import description, routed_actions
from rest_channels.schema.asyncapi import asyncapi
from tests.models import Room

pytestmark = pytest.mark.once

VIEWSETS = 200

mapped: Counter[str] = Counter()


def viewset(number):
    def get_fields(self):
        mapped[type(self).__name__] += 1
        return serializers.ModelSerializer.get_fields(self)

    meta = type("Meta", (), {"model": Room, "fields": ["id", "name"]})
    serializer = type(
        f"Row{number}Serializer",
        (serializers.ModelSerializer,),
        {"Meta": meta, "get_fields": get_fields},
    )
    attributes = {
        "queryset": Room.objects.all(),
        "serializer_class": serializer,
        "permission_classes": [AllowAny],
        "filter_backends": [],
    }
    return type(f"Row{number}ViewSet", (viewsets.ModelViewSet,), attributes)


VIEWS = [viewset(number) for number in range(VIEWSETS)]


def registered(router):
    for number, item in enumerate(VIEWS):
        router.register(f"rows{number}", item, basename=f"row{number}")
    return router


urlpatterns = [path("api/", include(registered(routers.SimpleRouter()).urls))]


@pytest.mark.parametrize("library", ["drf_spectacular", "plain"])
def test_each_serializer_and_stream_is_mapped_once(settings, monkeypatch, library):
    """A serializer is mapped as a whole and for PATCH, however many sockets and URLs show it."""
    settings.ROOT_URLCONF = __name__
    if library == "plain":
        monkeypatch.setitem(sys.modules, "drf_spectacular", None)
    application = registered(DefaultRouter()).as_asgi()
    asked = Counter()

    def counted(stream, *, is_row):
        asked[stream.prefix, is_row] += 1
        return routed_actions.routed_actions(stream, is_row=is_row)

    monkeypatch.setattr(description, "routed_actions", counted)
    mapped.clear()
    api = description.describe(application)
    # One more, because this package copies fields that REST framework would build again.
    assert set(mapped) == {f"Row{number}Serializer" for number in range(VIEWSETS)}
    assert set(mapped.values()) <= {2, 3}
    assert set(asked.values()) == {1}
    assert len(api.sockets) == 1 + 2 * VIEWSETS
    document = asyncapi(api)
    # The payloads of a collection's own socket are those of the root.
    schemas = document["components"]["schemas"]
    assert not [name for name in schemas if ".own." in name]
