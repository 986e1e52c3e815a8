"""A URLconf with an API, a form to sign in, and the console."""

from __future__ import annotations

from django.contrib.auth.views import LoginView
from django.urls import include, path
from rest_framework.routers import DefaultRouter as HTTPRouter
from rest_framework.serializers import ModelSerializer
from rest_framework.viewsets import ModelViewSet

from rest_channels.routers import DefaultRouter
from tests.models import Room


class RoomSerializer(ModelSerializer):
    class Meta:
        model = Room
        fields = ("id", "name", "is_staff_only")


class RoomViewSet(ModelViewSet):
    """Rooms in which people talk."""

    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    filterset_fields = ("name",)


http = HTTPRouter()
http.register("rooms", RoomViewSet)

sockets = DefaultRouter()
sockets.register("rooms", RoomViewSet)
application = sockets.as_asgi("ws/")

urlpatterns = [
    path("sign-in/", LoginView.as_view(), name="sign-in"),
    path("api/", include(http.urls)),
    path("sockets/", include("rest_channels.console.urls")),
]
