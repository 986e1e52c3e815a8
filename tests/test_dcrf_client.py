"""The unmodified `dcrf-client` from npm against a real server: `tests/js/dcrf_client.test.js`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from djangochannelsrestframework.observer.generics import ObserverModelInstanceMixin
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from tests import services
from tests.js_server import Server
from tests.models import Room, Sensor

JS = Path(__file__).parent / "js"


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
router.register("sensors", SensorViewSet)
router.register("live-sensors", SensorConsumer)


@pytest.fixture(scope="session")
def node_project(tmp_path_factory) -> Path:
    """A directory with the test and what it needs from npm."""
    if not services.has_node():
        reason = "node and npm are not on this machine"
        pytest.fail(reason) if services.are_required() else pytest.skip(reason)
    directory = tmp_path_factory.mktemp("js") / "project"
    shutil.copytree(JS, directory)
    run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], directory)
    return directory


def run(command: list[str], directory: Path, **environment: str) -> str:
    """What the command writes; its failure, with all of that, is the test's."""
    finished = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


@pytest.mark.django_db(transaction=True)
def test_dcrf_client(node_project):
    with Server(router.as_asgi()) as server:
        command = ["node", "--test", "--test-reporter=tap", "dcrf_client.test.js"]
        output = run(command, node_project, SOCKET_URL=server.url(""))
    assert "# pass 11" in output
    assert "# fail 0" in output
