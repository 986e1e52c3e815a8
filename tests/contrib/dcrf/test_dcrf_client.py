"""The unmodified `dcrf-client` from npm against a real server: `tests/js/dcrf_client.test.js`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import available_services
from tests.support.distribution import ROOT
from tests.support.server_processes import Server

JS = ROOT / "tests" / "js"


@pytest.fixture(scope="session")
def node_project(tmp_path_factory) -> Path:
    """A directory with the test and what it needs from npm."""
    if not available_services.has_node():
        reason = "node and npm are not on this machine"
        pytest.fail(reason) if available_services.are_required() else pytest.skip(reason)
    directory = tmp_path_factory.mktemp("js") / "project"
    shutil.copytree(JS, directory)
    run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], directory)
    return directory


def run(command: list[str], directory: Path, **environment: str) -> str:
    """Return the output of the command; if it fails, the test fails with that output."""
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


def test_dcrf_client(node_project):
    with Server("uvicorn", "tests.support.apps.dcrf_app:application") as server:
        command = ["node", "--test", "--test-reporter=tap", "dcrf_client.test.js"]
        output = run(command, node_project, SOCKET_URL=server.url(""))
    assert "# pass 19" in output
    assert "# fail 0" in output


@pytest.mark.parametrize("path", ["/", "/rooms/"])
def test_dcrf_client_subscribes_again_when_the_server_is_back(node_project, path):
    with Server("uvicorn", "tests.support.apps.dcrf_app:application") as server:
        environment = {**os.environ, "SOCKET_URL": server.url("")}
        command = ["node", "dcrf_client_reconnect.js", path]
        with subprocess.Popen(
            command, cwd=node_project, env=environment, text=True, stdout=subprocess.PIPE
        ) as client:
            try:
                assert client.stdout.readline() == "subscribed\n"
                server.restart()
                assert client.wait(timeout=60) == 0
            finally:
                client.kill()
