"""The application that `dcrf-client` talks to in its test: viewsets, and a hosted consumer."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from djangochannelsrestframework.generics import GenericAsyncAPIConsumer  # noqa: E402
from djangochannelsrestframework.observer.generics import ObserverModelInstanceMixin  # noqa: E402
from rest_framework import serializers, viewsets  # noqa: E402
from rest_framework.decorators import action  # noqa: E402
from rest_framework.pagination import LimitOffsetPagination  # noqa: E402
from rest_framework.response import Response  # noqa: E402

from rest_channels.routers import DefaultRouter  # noqa: E402
from rest_channels.viewsets import ModelConsumerViewSet  # noqa: E402
from tests.models import Room, Sensor  # noqa: E402


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name", "is_staff_only"]


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer

    @action(detail=False)
    def count(self, request):
        return Response(self.get_queryset().count())


class RoomPagesViewSet(RoomViewSet):
    pagination_class = LimitOffsetPagination


class FollowedRoomViewSet(ModelConsumerViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    filterset_fields = ["is_staff_only"]

    @action(detail=False)
    def follow(self, request):
        return self.subscribe(request)


class SensorSerializer(serializers.ModelSerializer):
    class Meta:
        model = Sensor
        fields = ["id", "name"]


class SensorViewSet(viewsets.ModelViewSet):
    queryset = Sensor.objects.all()
    serializer_class = SensorSerializer


class SensorConsumer(ObserverModelInstanceMixin, GenericAsyncAPIConsumer):
    queryset = Sensor.objects.all()
    serializer_class = SensorSerializer


router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("pages", RoomPagesViewSet, basename="page")
router.register("followed", FollowedRoomViewSet, basename="followed")
router.register("sensors", SensorViewSet)
router.register("live-sensors", SensorConsumer)

application = router.as_asgi()
