"""Rooms whose events are long, for clients that do not read them."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from rest_framework import serializers  # noqa: E402

from rest_channels.viewsets import ModelConsumerViewSet  # noqa: E402
from tests.models import Room  # noqa: E402
from tests.support.subscription_stories import routes  # noqa: E402


class LongSerializer(serializers.ModelSerializer):
    length = serializers.SerializerMethodField()

    class Meta:
        model = Room
        fields = ["id", "name", "length"]

    def get_length(self, room):
        return "x" * 200_000


class LongRooms(ModelConsumerViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = LongSerializer
    authentication_classes = []
    permission_classes = []


application = routes(LongRooms)
