"""Descriptions by drf-spectacular, in view of the document that it makes of the HTTP API."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.urls import include, path
from django.utils import translation
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.utils import extend_schema
from rest_framework import routers, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from rest_channels.schema.description import describe
from rest_channels.schema.json_schema import reference
from tests.models import Room

pytestmark = pytest.mark.once


class DoorSerializer(serializers.Serializer):
    id = serializers.IntegerField(read_only=True)
    state = serializers.ChoiceField(["open", "closed"])


class OrderSerializer(serializers.Serializer):
    """A serializer of the HTTP API alone, whose `state` gives the enum of doors another name."""

    state = serializers.ChoiceField(["paid", "sent"])
    guess = serializers.SerializerMethodField()

    def get_guess(self, order):
        return 1


class DoorViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.all()
    serializer_class = DoorSerializer
    permission_classes = [AllowAny]


class OrderViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.all()
    serializer_class = OrderSerializer


over_http = routers.SimpleRouter()
over_http.register("doors", DoorViewSet)
over_http.register("orders", OrderViewSet, basename="order")
urlpatterns = [path("api/", include(over_http.urls))]


@pytest.fixture(autouse=True)
def urls(settings):
    settings.ROOT_URLCONF = __name__


def described(viewset):
    router = DefaultRouter()
    router.register("doors", viewset)
    return describe(router.as_asgi())


def action_of(api, name):
    [found] = [item for item in api.sockets[0].streams[0].actions if item.name == name]
    return found


def test_enums_have_the_names_of_the_http_document(settings):
    names = set(described(DoorViewSet).components)
    assert names == {"Door", "DoorStateEnum", "PatchedDoor"}
    assert names < set(SchemaGenerator().get_schema(public=True)["components"]["schemas"])
    # By itself, the enum has a shorter name.
    settings.ROOT_URLCONF = "tests.urls"
    assert "StateEnum" in described(DoorViewSet).components


def test_warnings_are_printed_and_only_those_of_sockets(capsys):
    described(DoorViewSet)
    assert capsys.readouterr().err == ""
    described(OrderViewSet)
    assert 'unable to resolve type hint for function "get_guess"' in capsys.readouterr().err


def test_settings_of_drf_spectacular_count(monkeypatch):
    monkeypatch.setattr(spectacular_settings, "COMPONENT_SPLIT_REQUEST", True)
    monkeypatch.setattr(spectacular_settings, "ENUM_NAME_OVERRIDES", {"Doors": ["open", "closed"]})
    # drf-spectacular keeps names of enums for each language.
    with translation.override("eo"):
        api = described(DoorViewSet)
    create = action_of(api, "create")
    assert (create.request, create.response) == (reference("DoorRequest"), reference("Door"))
    assert "id" not in api.components["DoorRequest"]["properties"]
    assert "Doors" in api.components


def test_it_is_made_if_the_project_has_not_set_a_schema_class(settings):
    settings.REST_FRAMEWORK = {}
    assert set(described(DoorViewSet).components) == {"Door", "PatchedDoor", "StateEnum"}


def test_extend_schema_without_its_schema_class_is_refused_with_the_setting(settings):
    settings.REST_FRAMEWORK = {}

    class KnockedViewSet(DoorViewSet):
        @extend_schema(responses=DoorSerializer)
        @action(detail=False)
        def knock(self, request):
            return Response()

    with pytest.raises(ImproperlyConfigured, match="DEFAULT_SCHEMA_CLASS"):
        described(KnockedViewSet)
