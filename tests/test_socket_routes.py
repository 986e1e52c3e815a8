"""`manage.py socket_routes`."""

from __future__ import annotations

import io

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.management import CommandError, call_command
from django.urls import path
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny, IsAdminUser, IsAuthenticated

from rest_channels.routers import DefaultRouter
from tests.models import Room


class RoomViewSet(viewsets.ReadOnlyModelViewSet):
    queryset = Room.objects.all()
    permission_classes = [IsAuthenticated | ~IsAdminUser]

    @action(detail=True, methods=["post", "delete"], permission_classes=[IsAdminUser])
    def close(self, request, pk):
        raise NotImplementedError


class HealthViewSet(viewsets.ViewSet):
    permission_classes = [AllowAny]

    def list(self, request):
        raise NotImplementedError


router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("health", HealthViewSet, basename="health")

application = ProtocolTypeRouter({"websocket": router.as_asgi()})
nested = ProtocolTypeRouter({"websocket": URLRouter([path("ws/", URLRouter(router.urls))])})
nothing = ProtocolTypeRouter({})


def socket_routes(name: str) -> list[str]:
    out = io.StringIO()
    call_command("socket_routes", f"{__name__}.{name}", stdout=out, no_color=True)
    return out.getvalue().splitlines()


def test_it_lists_sockets_streams_actions_verbs_and_permissions():
    assert socket_routes("application") == [
        "/",
        "    rooms  (RoomViewSet)",
        "        list      GET          OR(IsAuthenticated, NOT(IsAdminUser))",
        "        retrieve  GET          OR(IsAuthenticated, NOT(IsAdminUser))",
        "        close     POST/DELETE  IsAdminUser",
        "    health  (HealthViewSet)",
        "        list  GET  AllowAny",
        "/rooms/",
        "    list      GET          OR(IsAuthenticated, NOT(IsAdminUser))",
        "    retrieve  GET          OR(IsAuthenticated, NOT(IsAdminUser))",
        "    close     POST/DELETE  IsAdminUser",
        "/rooms/(?P<pk>[^/.]+)/",
        "    retrieve  GET          OR(IsAuthenticated, NOT(IsAdminUser))",
        "    close     POST/DELETE  IsAdminUser",
        "/health/",
        "    list  GET  AllowAny",
    ]


def test_it_finds_sockets_below_outer_routers():
    assert "/ws/rooms/" in socket_routes("nested")


def test_it_says_what_to_do_where_there_are_none():
    with pytest.raises(CommandError, match="as_asgi"):
        socket_routes("nothing")
