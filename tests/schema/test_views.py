"""The document of the sockets over HTTP."""

from __future__ import annotations

import json

import pytest
import yaml
from django.contrib.auth.models import AnonymousUser, User
from django.urls import path
from djangochannelsrestframework.consumers import AsyncAPIConsumer
from djangochannelsrestframework.decorators import action
from rest_framework import serializers, viewsets
from rest_framework.permissions import AllowAny, IsAdminUser, IsAuthenticated
from rest_framework.test import APIClient

from rest_channels.consumers import RoomConsumers
from rest_channels.routers import DefaultRouter
from rest_channels.schema.views import SchemaView
from tests.models import Room

pytestmark = pytest.mark.once


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name"]


class RoomViewSet(viewsets.ReadOnlyModelViewSet):
    queryset = Room.objects.all()
    serializer_class = RoomSerializer
    permission_classes = [IsAdminUser]


class Chat(RoomConsumers):
    permission_classes = [IsAuthenticated]


class Legacy(AsyncAPIConsumer):
    @action()
    async def greet(self, **kwargs):
        return {}, 200


router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("chat", Chat)
router.register("legacy", Legacy)
application = router.as_asgi()

urlpatterns = [
    path("schema/", SchemaView.as_view(application=application, permission_classes=[AllowAny])),
    path("public/", SchemaView.as_view(application=application, public=True)),
    path("guarded/", SchemaView.as_view(application=application, permission_classes=[IsAdminUser])),
]


@pytest.fixture(autouse=True)
def urls(settings):
    settings.ROOT_URLCONF = __name__


def got(url, user=None, **headers):
    client = APIClient()
    client.force_authenticate(user or AnonymousUser())
    return client.get(url, headers=headers)


def tags(response):
    operations = json.loads(response.content)["operations"].values()
    return {tag["name"] for operation in operations for tag in operation.get("tags", [])}


def test_it_answers_with_the_document_of_the_server_that_was_asked():
    response = got("/public/")
    assert response["Content-Type"] == "application/vnd.aai.asyncapi+json"
    assert json.loads(response.content)["servers"]["server"]["host"] == "testserver"
    assert json.loads(response.content)["servers"]["server"]["protocol"] == "ws"
    assert tags(response) == {"rooms", "chat", "legacy", "connection"}


def test_a_client_may_ask_for_yaml():
    response = got("/public/", accept="application/vnd.aai.asyncapi+yaml")
    assert yaml.safe_load(response.content) == json.loads(got("/public/").content)


def test_each_user_sees_what_permissions_allow():
    assert tags(got("/schema/", User(is_staff=True))) == {"rooms", "chat", "connection"}
    to_others = got("/schema/", User())
    # Permissions of hosted consumers cannot be asked, so only public documents have them.
    assert tags(to_others) == {"chat"}
    assert "Room" not in json.loads(to_others.content)["components"]["schemas"]


def test_a_user_who_may_use_nothing_is_refused():
    response = got("/schema/")
    assert response.status_code == 403
    assert "detail" in json.loads(response.content)


def test_its_own_permissions_come_first():
    assert got("/guarded/", User()).status_code == 403
    assert got("/guarded/", User(is_staff=True)).status_code == 200
