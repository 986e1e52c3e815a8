"""Programs in TypeScript, compiled against the JavaScript client as applications are."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import available_services
from tests.support.distribution import ROOT

CLIENT = ROOT / "rest_channels" / "static" / "rest_channels" / "client.js"

_CONFIG = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "noUncheckedIndexedAccess": True,
        "target": "es2022",
        "module": "esnext",
        "moduleResolution": "bundler",
        "lib": ["es2023", "dom", "dom.iterable"],
        "types": [],
        "allowJs": True,
        "paths": {"rest-channels": [str(CLIENT)]},
    },
    "include": ["**/*.ts"],
}


def compiler(directory: Path) -> Path:
    """Return the compiler of the client's own tests, or install it in `directory`."""
    known = ROOT / "js" / "node_modules" / ".bin" / "tsc"
    if known.exists():
        return known
    if not available_services.has_node():
        reason = "node and npm are not on this machine"
        pytest.fail(reason) if available_services.are_required() else pytest.skip(reason)
    package = json.loads((ROOT / "js" / "package.json").read_text())
    wanted = {"devDependencies": {"typescript": package["devDependencies"]["typescript"]}}
    directory.mkdir()
    (directory / "package.json").write_text(json.dumps(wanted))
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return directory / "node_modules" / ".bin" / "tsc"


def errors(tsc: Path, programs: Path) -> list[str]:
    """Compile all programs of a directory by one process; return the lines of its complaints."""
    assert shutil.which("node")
    (programs / "tsconfig.json").write_text(json.dumps(_CONFIG))
    run = subprocess.run([tsc, "--project", programs], capture_output=True, text=True, check=False)
    found = run.stdout.splitlines() + run.stderr.splitlines()
    assert bool(found) == bool(run.returncode)
    return found
