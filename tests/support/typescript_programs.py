"""Programs in TypeScript, compiled against the JavaScript client as applications are."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.support.distribution import ROOT
from tests.support.node_packages import node_modules

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
    return node_modules("typescript", directory) / ".bin" / "tsc"


def errors(tsc: Path, programs: Path) -> list[str]:
    """Compile all programs of a directory by one process; return the lines of its complaints."""
    assert shutil.which("node")
    (programs / "tsconfig.json").write_text(json.dumps(_CONFIG))
    run = subprocess.run([tsc, "--project", programs], capture_output=True, text=True, check=False)
    found = run.stdout.splitlines() + run.stderr.splitlines()
    assert bool(found) == bool(run.returncode)
    return found
