"""How many frames a viewset works on at a time."""

from __future__ import annotations

from rest_framework import viewsets

from rest_channels.routers import DefaultRouter
from rest_channels.viewsets import ConsumerViewSet


class PlainViewSet(viewsets.ViewSet):
    """DRF's own, unchanged but for what it asks for."""

    max_in_flight = 8

    def list(self, request): ...


class OrderedViewSet(ConsumerViewSet):
    def list(self, request): ...


def test_any_viewset_may_ask_for_more_in_flight_than_one():
    router = DefaultRouter()
    router.register("plain", PlainViewSet, "plain")
    router.register("ordered", OrderedViewSet, "ordered")
    assert router.streams["plain"].max_in_flight == 8
    assert router.streams["ordered"].max_in_flight == 1
