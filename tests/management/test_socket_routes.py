"""`manage.py socket_routes`."""

from __future__ import annotations

import io
import re

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.management import CommandError, call_command
from django.urls import path
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny, IsAdminUser, IsAuthenticated
from rest_framework.response import Response

from rest_channels.management.commands.socket_routes import describe
from rest_channels.routers import DefaultRouter, find_sockets
from rest_channels.test import SocketClient
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
        return Response()


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


ANYBODY_BUT = "OR(IsAuthenticated, NOT(IsAdminUser))"
OWN = (
    "of the connection: ack, authenticate, cancel, fence, ping, unsubscribe, unsubscribe_instance, "
    "unwatch, watch"
)


def test_it_lists_sockets_streams_actions_verbs_and_permissions():
    assert socket_routes("application") == [
        "/",
        "    rooms  (RoomViewSet)",
        f"        list                GET          {ANYBODY_BUT}",
        f"        retrieve            GET          {ANYBODY_BUT}",
        "        close               POST/DELETE  IsAdminUser",
        f"        subscribe           GET          {ANYBODY_BUT}",
        f"        subscribe_instance  GET          {ANYBODY_BUT}",
        f"        metadata            OPTIONS      {ANYBODY_BUT}",
        "    health  (HealthViewSet)",
        "        list      GET      AllowAny",
        "        metadata  OPTIONS  AllowAny",
        f"    {OWN}",
        "/rooms/",
        f"    list                GET          {ANYBODY_BUT}",
        f"    retrieve            GET          {ANYBODY_BUT}",
        "    close               POST/DELETE  IsAdminUser",
        f"    subscribe           GET          {ANYBODY_BUT}",
        f"    subscribe_instance  GET          {ANYBODY_BUT}",
        f"    metadata            OPTIONS      {ANYBODY_BUT}",
        f"    {OWN}",
        "/rooms/(?P<pk>[^/.]+)/",
        f"    retrieve            GET          {ANYBODY_BUT}",
        "    close               POST/DELETE  IsAdminUser",
        f"    subscribe_instance  GET          {ANYBODY_BUT}",
        f"    metadata            OPTIONS      {ANYBODY_BUT}",
        f"    {OWN}",
        "/health/",
        "    list      GET      AllowAny",
        "    metadata  OPTIONS  AllowAny",
        f"    {OWN}",
    ]


WORDS = ["list", "retrieve", "create", "update", "partial_update", "patch", "destroy", "delete"]
WORDS += ["metadata", "subscribe", "subscribe_instance", "open", *OWN.split(": ")[1].split(", ")]


@pytest.mark.django_db
def test_what_is_listed_is_answered_and_nothing_else():
    class HallViewSet(viewsets.ModelViewSet):
        queryset = Room.objects.all()
        permission_classes = [AllowAny]

        @action(detail=False)
        def open(self, request):
            return Response()

    for viewset, names in [(HallViewSet, WORDS), (HealthViewSet, ["list", "metadata"])]:
        router = DefaultRouter()
        router.register("halls", viewset, basename="hall")
        lines = "\n".join(describe(next(find_sockets(router.as_asgi()))))
        listed = set(re.findall(r"\w+", lines))
        with SocketClient(router.as_asgi()) as socket:
            answers = {word: socket.request(word, "halls").status_code != 405 for word in WORDS}
        assert answers == {word: word in listed for word in WORDS}
        assert listed >= set(names)


def test_it_finds_sockets_below_outer_routers():
    assert "/ws/rooms/" in socket_routes("nested")


def test_it_says_what_to_do_where_there_are_none():
    with pytest.raises(CommandError, match="as_asgi"):
        socket_routes("nothing")
