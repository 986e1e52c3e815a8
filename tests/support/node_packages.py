"""Packages of npm that the tests of the JavaScript client use as well."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support import available_services
from tests.support.distribution import ROOT


def node_modules(name: str, directory: Path) -> Path:
    """Return a `node_modules` with the package `name`: the client's own, or one in `directory`."""
    known = ROOT / "js" / "node_modules"
    if (known / name).exists():
        return known
    if not available_services.has_node():
        reason = "node and npm are not on this machine"
        pytest.fail(reason) if available_services.are_required() else pytest.skip(reason)
    package = json.loads((ROOT / "js" / "package.json").read_text())
    directory.mkdir()
    wanted = {"devDependencies": {name: package["devDependencies"][name]}}
    (directory / "package.json").write_text(json.dumps(wanted))
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return directory / "node_modules"
