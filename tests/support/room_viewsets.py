"""Serializers of rooms, and viewsets of rooms that every client may see."""

from __future__ import annotations

from rest_framework import serializers

from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name"]


class FullRoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name", "is_staff_only"]


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
