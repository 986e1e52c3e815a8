"""A URLconf with an API, a form to sign in, and the console."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import LoginView
from django.urls import include, path
from rest_framework.decorators import action
from rest_framework.pagination import PageNumberPagination
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter as HTTPRouter
from rest_framework.serializers import ModelSerializer
from rest_framework.viewsets import ModelViewSet

from rest_channels.console.renderers import LiveBrowsableAPIRenderer
from rest_channels.routers import DefaultRouter
from tests.models import Message, Room


class RoomSerializer(ModelSerializer):
    class Meta:
        model = Room
        fields = ("id", "name", "is_staff_only")


class RoomViewSet(ModelViewSet):
    """Rooms in which people talk."""

    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    renderer_classes = (JSONRenderer, LiveBrowsableAPIRenderer)
    pagination_class = PageNumberPagination
    filterset_fields = ("name",)

    @action(detail=True)
    def size(self, request: Any, pk: Any) -> Response:
        return Response({"messages": self.get_object().messages.count()})


class MessageSerializer(ModelSerializer):
    class Meta:
        model = Message
        fields = ("id", "room", "text")


class MessageViewSet(ModelViewSet):
    """Served over HTTP alone."""

    queryset = Message.objects.order_by("id")
    serializer_class = MessageSerializer
    renderer_classes = (JSONRenderer, LiveBrowsableAPIRenderer)


http = HTTPRouter()
http.register("rooms", RoomViewSet)
http.register("messages", MessageViewSet)

sockets = DefaultRouter()
sockets.register("rooms", RoomViewSet)
application = sockets.as_asgi("ws/")

urlpatterns = [
    path("sign-in/", LoginView.as_view(), name="sign-in"),
    path("api/", include(http.urls)),
    path("sockets/", include("rest_channels.console.urls")),
]
