"""A database can be dropped whatever the test has left open."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.distribution import ROOT

SETTINGS = """
import os

SECRET_KEY = "x" * 50
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", "postgres"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "CONN_MAX_AGE": 60,
        "TEST": {{"NAME": "{name}"}},
    }}
}}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "rest_framework",
    "channels",
    "rest_channels",
]
USE_TZ = True
ROOT_URLCONF = "project_urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""

TESTS = """
import asyncio
import json

from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Group
from django.test import TransactionTestCase
from rest_framework.serializers import ModelSerializer

from rest_channels.routers import DefaultRouter
from rest_channels.viewsets import ModelConsumerViewSet


class GroupSerializer(ModelSerializer):
    class Meta:
        model = Group
        fields = ["id", "name"]


class Groups(ModelConsumerViewSet):
    queryset = Group.objects.order_by("id")
    serializer_class = GroupSerializer


router = DefaultRouter()
router.register("groups", Groups)


async def talk(*, leaves):
    socket = WebsocketCommunicator(router.as_asgi(), "/")
    await socket.connect()
    for action in ("list", "subscribe"):
        payload = {"action": action, "request_id": 1}
        await socket.send_to(json.dumps({"stream": "groups", "payload": payload}))
        await socket.receive_from(5)
    await Group.objects.acreate(name="a")
    await socket.receive_from(5)
    if leaves:
        await socket.disconnect()


class OpenTests(TransactionTestCase):
    async def test_a_socket_that_is_closed(self):
        await talk(leaves=True)

    async def test_a_socket_that_is_left_open(self):
        await talk(leaves=False)

    def test_a_loop_of_the_tests_own(self):
        asyncio.run(talk(leaves=True))
        asyncio.run(sync_to_async(Group.objects.count)())
"""

RUNNERS = {
    "manage.py test": ["django", "test", "project_tests", "--noinput", "-v", "0"],
    "pytest": ["pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "project_tests.py"],
}


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("runner", RUNNERS)
def test_a_test_database_can_be_dropped(runner, tmp_path: Path) -> None:
    name = f"rest_channels_teardown_{os.getpid()}"
    (tmp_path / "project_settings.py").write_text(SETTINGS.format(name=name))
    (tmp_path / "project_urls.py").write_text("urlpatterns = []\n")
    (tmp_path / "project_tests.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", *RUNNERS[runner]],
        cwd=tmp_path,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project_settings",
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "being accessed by other users" not in output
