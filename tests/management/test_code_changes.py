"""`manage.py socket_schema --watch`: types follow the code of a project that is worked on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.utils.autoreload import StatReloader

from rest_channels.management.code_changes import follow_code, watch_new
from tests.support.distribution import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.once

MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
execute_from_command_line(sys.argv)
"""
SETTINGS = """
SECRET_KEY = "of this test"
INSTALLED_APPS = ["rest_framework", "rest_channels"]
ASGI_APPLICATION = "site_routing.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None, "DEFAULT_PERMISSION_CLASSES": []}
"""
ROUTING = """
from rest_framework.viewsets import ViewSet
from rest_channels.routers import DefaultRouter
from api.serializers import RowSerializer

class RowViewSet(ViewSet):
    serializer_class = RowSerializer

    def list(self, request):
        raise NotImplementedError

router = DefaultRouter()
router.register("rows", RowViewSet, "rows")
application = router.as_asgi()
"""
SERIALIZERS = """
from rest_framework import serializers

class RowSerializer(serializers.Serializer):
    {name} = serializers.CharField()
"""


@contextmanager
def watching(project: Path, output: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "manage.py", "socket_schema", "--output", str(output), "--watch"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("DJANGO_SETTINGS_MODULE", None)
    with log.open("w") as file, subprocess.Popen(command, cwd=project, env=env, stderr=file) as run:
        try:
            yield run
        finally:
            run.kill()


def test_types_follow_the_code_until_interrupted(tmp_path: Path) -> None:
    project, output, log = tmp_path / "site", tmp_path / "sockets.ts", tmp_path / "log"
    serializers = project / "api" / "serializers.py"
    serializers.parent.mkdir(parents=True)
    (project / "manage.py").write_text(MANAGE)
    (project / "site_settings.py").write_text(SETTINGS)
    (project / "site_routing.py").write_text(ROUTING)
    serializers.write_text(SERIALIZERS.format(name="first"))

    def shows(text: str) -> bool:
        return output.exists() and f"  {text}: string;" in output.read_text()

    def change(text: str) -> None:
        # As an editor writes: in one step, later than the file that was read.
        new = serializers.with_suffix(".new")
        new.write_text(text)
        new.replace(serializers)

    with watching(project, output, log) as run:
        wait_until(lambda: shows("first"))
        change(SERIALIZERS.format(name="second = ("))
        wait_until(lambda: f"{output} stays as it is" in log.read_text())
        assert "SyntaxError" in log.read_text()
        assert shows("first")
        change(SERIALIZERS.format(name="third"))
        wait_until(lambda: shows("third"))
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=20) == 0
    assert "Traceback" not in log.read_text().partition("SyntaxError")[2]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StatReloader, "SLEEP_TIME", 0.001)


def later(path: Path) -> None:
    """Change a file so that its time tells."""
    seconds = path.stat().st_mtime + 1
    os.utime(path, (seconds, seconds))


def test_files_are_read_again_if_they_were_not_watched_yet(quick: None, tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.touch()
    calls: list[int] = []

    def generate() -> list[Path]:
        calls.append(len(calls))
        if len(calls) == 3:
            raise KeyboardInterrupt
        if len(calls) == 2:
            later(module)
        return [module]

    # The second call comes because the folder is new, the third because the file has changed.
    follow_code(generate)
    assert len(calls) == 3


def test_only_the_projects_own_folders_are_watched(tmp_path: Path) -> None:
    own = tmp_path / "app" / "views.py"
    reloader = StatReloader()
    assert watch_new(reloader, [own, Path(pytest.__file__), Path(signal.__file__)])
    assert dict(reloader.directory_globs) == {own.parent: {"*.py"}}
    assert not watch_new(reloader, [own, own.with_name("models.py")])
