"""Viewsets of rooms that everybody may see: what most stories of subscriptions need of them."""

from __future__ import annotations

from rest_framework import serializers

from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name"]


class RoomNameSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["name"]


class OpenRooms(ModelConsumerViewSet):
    """Rooms with their keys."""

    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    authentication_classes = []
    permission_classes = []


class RoomNames(OpenRooms):
    """Names of rooms, without the keys."""

    serializer_class = RoomNameSerializer
