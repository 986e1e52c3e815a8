"""Rooms for everybody, and those for staff for staff alone."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django.db import transaction  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.decorators import action  # noqa: E402
from rest_framework.response import Response  # noqa: E402

from rest_channels.viewsets import ModelConsumerViewSet  # noqa: E402
from tests.models import Room  # noqa: E402
from tests.support.apps.abuse_app import ProbeViewSet  # noqa: E402
from tests.support.subscription_stories import ByHeader, routes  # noqa: E402


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name", "is_staff_only"]


class Rooms(ModelConsumerViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    authentication_classes = [ByHeader]
    permission_classes = []

    def get_queryset(self):
        rooms = super().get_queryset()
        return rooms if self.request.user.is_staff else rooms.filter(is_staff_only=False)

    wait = ProbeViewSet.wait

    @action(detail=False, methods=["post"])
    def fill(self, request):
        """Rooms whose names are 90 kB long, in one transaction."""
        with transaction.atomic():
            for number in range(request.data["rooms"]):
                name = f"{request.data['name']}-{number}-{'x' * 90_000}"
                Room.objects.create(name=name)
        return Response()


application = routes(Rooms)
